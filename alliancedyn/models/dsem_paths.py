"""Which effects of scores on scores a two-level dynamic model has, and in what order of time.

Same-session effects, ``"alliance<-symptoms"``, are paths between the latent deviations of two
series of the model, and not regressions on a covariate::

    s_t = phi_S s_{t-1} + b a_{t-1}           + u_t
    a_t = phi_A a_{t-1} + h s_{t-1} + g s_t   + e_t

so that the predictor is centered at its latent mean like everything else, may be missing, has
levels that correlate with those of the outcome, and carries on by itself as far as ``lagged``
says. A covariate that varies over sessions is a series whose lagged effects are left out. Centering
at observed means would bring back the bias that the latent mean removes (Asparouhov & Muthén,
2019), and treating the covariate as known would lose sessions in which it is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alliancedyn.errors import SpecificationError, listed
from alliancedyn.models.rows import client_means
from alliancedyn.models.rows import lagged as lagged_scores
from alliancedyn.results import Observed

if TYPE_CHECKING:
    from alliancedyn.models.dsem import DSEM

Array = NDArray[np.float64]
Pair = tuple[str, str]

RANDOM = ("intercept", "trend", "phi", "same", "innovation")


def pair_of(path: str) -> Pair:
    """Return (outcome, predictor) of ``"outcome<-predictor"``.

    Raises
    ------
    SpecificationError
        If it is not written like that.
    """
    parts = [part.strip() for part in str(path).split("<-")]
    if len(parts) != 2 or not all(parts):
        raise SpecificationError(
            f'{path!r} is no path; write it as "outcome<-predictor", such as "alliance<-symptoms".'
        )
    return parts[0], parts[1]


def random_effects(random: Sequence[str]) -> tuple[str, ...]:
    """Return what is random in one order.

    Raises
    ------
    SpecificationError
        If intercepts are not, something else is, or something is named twice.
    """
    unknown = [name for name in random if name not in RANDOM]
    if unknown or "intercept" not in random or len(set(random)) < len(random):
        raise SpecificationError(
            f'random is {tuple(random)!r}; choose "intercept" and any of "trend", "phi", "same" '
            'and "innovation" beside it.'
        )
    return tuple(name for name in RANDOM if name in random)


def check_paths(
    random: Sequence[str], same: Sequence[str], lagged: Sequence[str] | None
) -> None:  # fmt: skip
    """Refuse paths that contradict each other.

    Raises
    ------
    SpecificationError
        If a path is named twice, same-session effects run in a circle, or none is there to be
        random.
    """
    for option, paths in (("same", same), ("lagged", lagged or ())):
        pairs = [pair_of(path) for path in paths]
        if len(set(pairs)) < len(pairs):
            raise SpecificationError(f"{option} names a path twice: {listed(paths, 9)}.")
    if lagged is not None and not lagged and not same:
        raise SpecificationError(
            "Without lagged and same-session effects there is nothing dynamic to estimate. Name "
            "some in lagged= or same=."
        )
    if "phi" in random and lagged is not None and not lagged:
        raise SpecificationError('random names "phi", and lagged=() leaves none. Leave one out.')
    if "same" in random and not same:
        raise SpecificationError(
            'random names "same", and there are no same-session effects. Name them, such as '
            'same=("alliance<-symptoms",).'
        )
    left = [pair_of(path) for path in same]
    while left:  # what predicts nothing that is left comes last in a session
        ends = {outcome for outcome, _ in left} - {predictor for _, predictor in left}
        if not ends:
            raise SpecificationError(
                f"same={tuple(same)!r} runs in a circle: within a session, scores act in one "
                "order. Keep the direction in which they are taken."
            )
        left = [pair for pair in left if pair[0] not in ends]


def refuse_paths(spec: DSEM, variables: Sequence[str], timing: Mapping[str, str]) -> None:
    """Refuse paths between series that are not in the model, or against the order of a session.

    Raises
    ------
    SpecificationError
        With the remedy.
    """
    known = ", ".join(repr(v) for v in variables)
    for option, paths in (("same", spec.same), ("lagged", spec.lagged or ())):
        unknown = [p for p in paths if any(one not in variables for one in pair_of(p))]
        if unknown:
            raise SpecificationError(
                f"{option} names {listed(unknown)}; the series of the model are {known}."
            )
    for path in spec.same:
        outcome, predictor = pair_of(path)
        if timing.get(outcome) == "before" and timing.get(predictor) == "after":
            raise SpecificationError(
                f"{path!r}: {predictor} is taken after the session and {outcome} before it, so "
                f"that it cannot depend on it. Turn the path round, or correct timing=."
            )


def path_notes(spec: DSEM, timing: Mapping[str, str]) -> list[str]:
    """Say which same-session effects have a direction that the data do not settle."""
    said = []
    for path in spec.same:
        outcome, predictor = pair_of(path)
        if (timing.get(predictor), timing.get(outcome)) != ("before", "after"):
            said.append(
                f"same[{outcome},{predictor}]: nothing says that {predictor} is taken before "
                f"{outcome}. That the effect runs this way is assumed."
            )
    return said


def check_moderators(spec: DSEM) -> None:
    """Refuse what lagged effects that change from session to session do not go with.

    Raises
    ------
    SpecificationError
        With the remedy.
    """
    if spec.moderators and spec.lagged is not None:
        raise SpecificationError(
            "moderators= change all lagged effects; it does not go with lagged=. Leave one out."
        )
    if spec.moderator_session not in ("outcome", "predictor"):
        raise SpecificationError(
            f"moderator_session is {spec.moderator_session!r}; choose 'outcome' or 'predictor'."
        )


def moderating(spec: DSEM, data: Observed) -> Array:
    """Return moderators (N, T, m) at the session into which they change lagged effects.

    As deviations from the client's mean; 0 where there was no session.

    Raises
    ------
    SpecificationError
        If one is a series of the model, never changes, or is not known at a session with scores.
    """
    found = np.zeros((*data.Y.shape[:2], len(spec.moderators)))
    held = ~np.isnan(data.Y).all(axis=2)
    for c, name in enumerate(spec.moderators):
        values = data.inputs[:, :, c]
        if name in data.variables:
            raise SpecificationError(
                f"moderators names {name!r}, a series of the model. Leave it out of one of the two."
            )
        if missing := int((np.isnan(values) & held).sum()):
            raise SpecificationError(
                f"The moderator {name!r} is not known in {missing} sessions that have scores. Fill "
                "it in, or set those scores missing."
            )
        deviation = np.nan_to_num(values - client_means(values)[:, None])
        if not np.abs(deviation).max() > 0.0:
            raise SpecificationError(
                f"The moderator {name!r} does not change over sessions. Use predictors=({name!r},)."
            )
        if spec.moderator_session == "predictor":
            deviation = np.nan_to_num(lagged_scores(deviation))
        found[:, :, c] = deviation
    return found


def moderator_notes(spec: DSEM, variables: Sequence[str], timing: Mapping[str, str]) -> list[str]:
    """Say of moderators of the session of an outcome that the outcome may have come first."""
    first = [v for v in variables if timing.get(v) == "before"]
    if not spec.moderators or spec.moderator_session != "outcome" or not first:
        return []
    return [
        f"{listed(spec.moderators)} moderates as it was at the session of the outcome, and "
        f"{listed(first)} was rated before that session. If it is of the session itself, use "
        'moderator_session="predictor".'
    ]


def path_assumptions(spec: DSEM) -> tuple[str, ...]:
    """Return what same-session effects need beside the rest."""
    if not spec.same:
        return ()
    return (
        "Nothing since the last session moves two scores of a session at once, except through "
        "same-session effects: innovations are uncorrelated.",
    )
