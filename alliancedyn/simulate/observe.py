"""How a world is seen: who leaves and when, which scores are missing, which ceiling.

Order of events: items, ceiling, then missing scores, then dropout. Dropout looks at observed
scores only, so a likelihood that contains both series may ignore it (missing at random); the rule
"rupture" looks at events, which no likelihood of the scores alone contains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.simulate.arguments import (
    as_choice,
    as_count,
    as_number,
    as_share,
)

Array = NDArray[np.float64]

RULES = ("random", "unwell", "well_enough", "improving", "low", "rupture", "administrative")


@checked
@dataclass(frozen=True)
class Missing:
    """Scores that are missing although the session took place, and sessions that did not.

    Parameters
    ----------
    share : float
        Expected share of single scores, among sessions attended, that are missing.
    rule : "random" or "state"
        "random": completely at random. "state": with probability logistic(c + strength x), x the
        client's score of ``variable`` *at that session*, seen or not, in SDs from the mean: not
        at random.
    strength : float, log odds per SD
        Positive: high scores are missing more often.
    variable : str, optional
        The series that decides under "state". Default: the outcome.
    sessions : float
        Share of sessions after the first that a client misses: no row, and the number stays free.

    Raises
    ------
    SpecificationError
        If a share lies outside 0 .. 1.
    """

    share: float = 0.1
    rule: str = "random"
    strength: float = 1.0
    variable: str | None = None
    sessions: float = 0.0

    def __post_init__(self) -> None:
        as_choice(self.rule, ("random", "state"), "rule")
        as_share(self.share, "share")
        as_share(self.sessions, "sessions")
        as_number(self.strength, "strength")

    def push(self, states: Array) -> Array | None:
        """Return strength x for states (N, T) of the deciding series; None at random."""
        spread = float(states.std())
        if self.rule == "random" or not spread > 0.0:
            return None
        return self.strength * (states - states.mean()) / spread


@checked
@dataclass(frozen=True)
class Dropout:
    """Clients who leave before the last session, and why.

    After each session from number ``first`` on, a client leaves with probability

        logistic(c + strength x),

    x depending on the rule, S being the last *observed* score of the outcome, higher = worse,
    in SDs of all observed scores:

    =================  ====================================================================
    ``rule``           x
    =================  ====================================================================
    ``"random"``       0: completely at random
    ``"unwell"``       S - mean: those who feel bad leave
    ``"well_enough"``  max(0, level - S): those below a level leave, the lower the sooner
    ``"improving"``    previous observed score - S: those who just improved leave
    ``"low"``          mean - S, S of the process: those with a weak alliance leave
    ``"rupture"``      1 while an event is open at the session just attended (not in SDs)
    =================  ====================================================================

    The rule ``"administrative"`` has no hazard: recording ends (the export was made). A share
    ``rate`` of the clients is cut off, at a session drawn evenly from ``first`` on.

    c is found by root search so that, given the scores drawn, the expected share of clients who
    leave before the last session is exactly ``rate``; the share that does leave varies binomially.

    Parameters
    ----------
    rule : str
        See the table.
    rate : float
        Expected share of clients who leave before the last session, from 0 to below 1.
    first : int
        Number of sessions that everybody attends.
    strength : float, log odds per SD
        How strongly x matters; not used by ``"random"``.
    level : float, score points, optional
        For ``"well_enough"``. Default: the mean of all observed scores.
    variable : str, optional
        The series S. Default: the outcome; for ``"low"`` the process.
    event : str, optional
        For ``"rupture"``: the name of the event. Default: the first event of the world.

    Raises
    ------
    SpecificationError
        If a value is out of range or does not belong to the rule.
    """

    rule: str = "random"
    rate: float = 0.3
    first: int = 3
    strength: float = 1.0
    level: float | None = None
    variable: str | None = None
    event: str | None = None

    def __post_init__(self) -> None:
        store = object.__setattr__
        as_choice(self.rule, RULES, "rule")
        store(self, "rate", as_share(self.rate, "rate"))
        store(self, "first", as_count(self.first, 1, "first"))
        store(self, "strength", as_number(self.strength, "strength"))
        if self.strength <= 0.0:
            raise SpecificationError(
                f'strength must be above 0, not {self.strength:g}. Use rule="random" for no effect.'
            )
        if self.event is not None and self.rule != "rupture":
            raise SpecificationError('event= belongs to rule="rupture" only.')
        if self.level is not None:
            if self.rule != "well_enough":
                raise SpecificationError('level= belongs to rule="well_enough" only.')
            store(self, "level", as_number(self.level, "level"))


def apply_ceiling(
    scores: Array, variables: tuple[str, ...], ceiling: Mapping[str, float] | None
) -> Array:
    """Return the scores (N, T, k) with everything above an instrument's maximum set to it.

    Raises
    ------
    SpecificationError
        If a series is unknown or a maximum is not a number.
    """
    if ceiling is None:
        return scores
    if not isinstance(ceiling, Mapping):
        raise SpecificationError('ceiling must name the series, e.g. {"alliance": 7.0}.')
    unknown = [name for name in ceiling if name not in variables]
    if unknown:
        raise SpecificationError(
            f"ceiling names {listed(unknown)}, which are not among the series."
        )
    top = [as_number(ceiling.get(name, np.finfo(float).max), "ceiling") for name in variables]
    return np.minimum(scores, top)


def hide_scores(
    scores: Array,
    missing: float,
    rng: np.random.Generator,
    push: Array | None = None,
) -> Array:
    """Return the scores with each one missing (NaN) independently with probability ``missing``.

    With ``push`` (N, T), log odds, the probability is logistic(c + push), c such that its mean
    over all sessions is ``missing``.
    """
    if missing == 0.0:
        return scores
    share: float | Array = missing
    if push is not None:
        share = _chances(push, missing)[:, :, None]
    return np.where(rng.random(scores.shape) < share, np.nan, scores)


def _chances(push: Array, mean: float) -> Array:
    """Return logistic(c + push) with c such that the average is ``mean``."""
    from scipy.optimize import brentq
    from scipy.special import expit

    bound = 50.0 + float(np.abs(push).max())
    c = brentq(lambda c: float(expit(c + push).mean()) - mean, -bound, bound, xtol=1e-12)
    return np.asarray(expit(c + push))


def last_sessions(
    observed: Array, dropout: Dropout, rng: np.random.Generator, opened: Array | None = None
) -> NDArray[np.int64]:
    """Draw each client's last session number, 1..T.

    Parameters
    ----------
    observed : (N, T) array, score points
        The series that dropout looks at; NaN = missing, and never looked at.
    dropout : Dropout
        The rule.
    rng : numpy Generator
    opened : (N, T) array of 0 and 1, optional
        Sessions at which an event is open, for the rule "rupture".

    Returns
    -------
    (N,) array of int
        T for those who stay.

    Raises
    ------
    SpecificationError
        If no session is left at which anybody could leave.
    """
    clients, sessions = observed.shape
    if dropout.first >= sessions:
        raise SpecificationError(
            f"Nobody can leave: dropout starts after session {dropout.first} and there are "
            f"{sessions} sessions. Use a smaller first= or more sessions."
        )
    stay = np.full(clients, sessions, dtype=np.int64)
    if dropout.rate == 0.0:
        return stay
    if dropout.rule == "administrative":
        cut = rng.random(clients) < dropout.rate
        return np.where(cut, rng.integers(dropout.first, sessions, size=clients), stay)
    push = drive(observed, dropout, opened)
    logit = push + _calibrate(push, dropout.rate)
    leaves = rng.random(push.shape) < 1.0 / (1.0 + np.exp(-np.clip(logit, -700.0, 700.0)))
    first_leave = dropout.first + leaves.argmax(axis=1)
    return np.where(leaves.any(axis=1), first_leave, stay)


def drive(observed: Array, dropout: Dropout, opened: Array | None = None) -> Array:
    """Return strength x at each chance to leave, after sessions first..T-1.

    Parameters
    ----------
    observed : (N, T) array, score points
        The series that dropout looks at; NaN = missing.
    dropout : Dropout
        The rule.
    opened : (N, T) array of 0 and 1, optional
        Sessions at which an event is open.

    Returns
    -------
    (N, T - first) array, log odds
        0 where the client has not been observed (twice, for "improving") yet.
    """
    chances = slice(dropout.first - 1, observed.shape[1] - 1)
    shape = (len(observed), observed.shape[1] - dropout.first)
    if dropout.rule == "rupture":
        if opened is None:
            raise SpecificationError('rule="rupture" needs a world with events.')
        return dropout.strength * opened[:, chances]
    seen = observed[np.isfinite(observed)]
    spread = seen.std() if len(seen) else 0.0
    if dropout.rule == "random" or not spread > 0.0:
        return np.zeros(shape)
    last, previous = _last_two(observed)
    if dropout.rule == "unwell":
        x = last - seen.mean()
    elif dropout.rule == "low":
        x = seen.mean() - last
    elif dropout.rule == "well_enough":
        level = seen.mean() if dropout.level is None else dropout.level
        x = np.maximum(level - last, 0.0)
    else:
        x = previous - last
    x = np.nan_to_num(x[:, chances], nan=0.0)  # nothing seen yet: the average hazard
    return dropout.strength * x / spread


def _last_two(observed: Array) -> tuple[Array, Array]:
    """Return the last observed score up to each session, and the one observed before it."""
    sessions = np.arange(observed.shape[1])
    last = np.maximum.accumulate(np.where(np.isfinite(observed), sessions, -1), axis=1)
    before = np.take_along_axis(last, np.maximum(last - 1, 0), axis=1)
    before = np.where(last > 0, before, -1)
    return _pick(observed, last), _pick(observed, before)


def _pick(observed: Array, where: NDArray[Any]) -> Array:
    picked = np.take_along_axis(observed, np.maximum(where, 0), axis=1)
    return np.where(where >= 0, picked, np.nan)


def _calibrate(drive: Array, rate: float) -> float:
    """Find c with mean over clients of 1 - prod_t (1 - logistic(c + drive_it)) = rate."""
    from scipy.optimize import brentq

    def excess(c: float) -> float:
        staying = np.exp(-np.logaddexp(0.0, c + drive).sum(axis=1))
        return float(1.0 - staying.mean() - rate)

    bound = 50.0 + float(np.abs(drive).max())
    return float(brentq(excess, -bound, bound, xtol=1e-10))
