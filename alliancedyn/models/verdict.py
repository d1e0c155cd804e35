"""What a maximum has to say about itself, in sentences."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names
from alliancedyn.engine.maximise import Maximum, invert_information
from alliancedyn.errors import ConvergenceError, InferenceWarning, SpecificationError, listed
from alliancedyn.models.search import MANY

if TYPE_CHECKING:
    from alliancedyn.engine.likelihood import Likelihood
    from alliancedyn.engine.system import Bound, Layout
    from alliancedyn.models.selection import Selection
    from alliancedyn.results import Fit, Observed

Array = NDArray[np.float64]

NO_VARIANCE = 1e-6  # in units of the scores' variances: a variance at zero, up to rounding
CLUSTERS = 20  # fewer make clustered errors too small
FAR = (
    20.0  # interquartile ranges from the median: no score of a scale, but a typing error or a code
)
INDIFFERENT = 1.92  # log-likelihood between maxima that a test at .05 would not tell apart
ANOTHER = 0.25  # lagged effect, SDs per SD, by which two maxima are two answers
ERRORS = 2.0  # standard errors within which two ends are one, as in a flat valley
LAGGED = ("phi", "self", "coupling")

_MEANING = {
    "between_cov": (
        "the data show no stable difference between clients in this direction beyond what the "
        "lagged effects already carry"
    ),
    "initial_cov": (
        "the first session's deviations leave no freedom in this direction, as happens when "
        "clients differ in their trends and not only in their levels"
    ),
    "innovation_cov": (
        "this combination of scores is predicted without error, as happens when a series hardly "
        "varies or the lags are too many for the data"
    ),
    "diffusion_cov": (
        "this combination of scores is predicted without error, as happens when a series hardly "
        "varies"
    ),
    "measurement_var": ("the data show no error here that leaves no trace at the next session"),
}
_UNBOUNDED = (
    "A program without bounds would report a negative variance here. Standard errors take the "
    "bound as given"
)


def boundary_sentences(bounds: list[Bound]) -> list[str]:
    """Name every covariance at its bound, which element it is, and what that means."""
    return [_sentence(bound) for bound in bounds]


def _sentence(bound: Bound) -> str:
    which, what = _where(bound)
    return f"{which}: {what}: {_MEANING[bound.block.family]}. {_UNBOUNDED}."


def _where(bound: Bound) -> tuple[str, str]:
    """Return the name of the element at its bound, and what it means to be there."""
    block, S = bound.block, bound.matrix
    at_zero = np.flatnonzero(np.diag(S) < NO_VARIANCE)
    if len(at_zero):
        variances = _own_names(bound, [(int(i), int(i)) for i in at_zero])
        return ", ".join(variances), "the variance is at its lower bound, zero"
    if len(block.indices) == 2:
        sign = "+1" if S[0, 1] > 0 else "-1"
        (which,) = _own_names(bound, [(0, 1)])
        what = f"the correlation is at its bound, {sign}, so that the smallest variance is zero"
        return which, what
    # Name the two that are closest to determining each other.
    d = np.sqrt(np.diag(S))
    apart = np.abs(S / d / d[:, None]) - 2.0 * np.eye(len(S))
    i, j = sorted(int(x) for x in np.unravel_index(np.argmax(apart), S.shape))
    (which,) = _own_names(bound, [(i, j)])
    return which, "the covariance matrix is singular, so that its smallest variance is zero"


def _own_names(bound: Bound, pairs: list[tuple[int, int]]) -> list[str]:
    """Return the canonical names of elements of the block at its slot."""
    block = bound.block
    per_slot = block.size // block.shape[0]
    labels = block.names[bound.slot * per_slot : (bound.slot + 1) * per_slot]
    if block.kind == "variance":
        return [labels[i] for i, _ in pairs]
    rows, columns = np.triu_indices(block.shape[-1])
    place = {(int(i), int(j)): n for n, (i, j) in enumerate(zip(rows, columns, strict=True))}
    return [labels[place[pair]] for pair in pairs]


def failure_sentence(
    layout: Layout,
    found: Maximum,
    bounds: list[Bound],
    unlimited: bool,
    fewer: Sequence[str],
    starts: int,
) -> str | None:
    """Say why there is no maximum and what to do; None where there is one.

    ``fewer`` names the options that would save parameters.
    """
    if unlimited:
        bound = next((b for b in bounds if b.block.family == "innovation_cov"), bounds[0])
        return (
            f"the likelihood grows without limit as variance is lost ({_where(bound)[0]}): some "
            "score is predicted without error. Look for a series that repeats another one or "
            "stays the same within clients, and for a value far from all others."
        )
    if stray := [i for i in found.flat if i not in _held(layout, bounds)]:
        flat = listed([layout.names[i] for i in stray])
        return (
            f"the likelihood is flat in the direction of {flat}: these data do not identify the "
            f"model. Use more sessions{''.join(f', or {words}' for words in fewer)}."
        )
    if found.converged:
        return None
    left = found.decrement
    stopped = (
        f"with {left:.2g} of log-likelihood still to gain"
        if left >= 1e-6
        else f"where the log-likelihood is not level (slope {np.abs(found.score).max():.2g})"
    )
    more = f"more starting values (starts={MANY}), or " if starts < MANY else ""
    return f"the search stopped {stopped}. Try {more}fewer parameters."


def off_center(moderators: tuple[str, ...], data: Observed) -> list[str]:
    """Say of which moderators 0, where phi is the effect, is no value that anybody has."""
    found = []
    for place, name in enumerate(reversed(moderators), start=1):
        low, high = data.covariates[:, -place].min(), data.covariates[:, -place].max()
        if low > 0.0 or high < 0.0:
            found.append(
                f"phi is the lagged effect where {name!r} is 0, and it runs from {low:g} to "
                f"{high:g}: take its mean from it before reading phi."
            )
    return found


def far_scores(data: Observed) -> str | None:
    """Name a score so far from all others that every estimate may hang on it; None if none is."""
    for name, scores in zip(data.variables, data.Y.reshape(-1, data.Y.shape[-1]).T, strict=True):
        seen = scores[~np.isnan(scores)]
        if not len(seen):
            continue
        low, middle, high = np.quantile(seen, [0.25, 0.5, 0.75])
        away = np.abs(seen - middle)
        if away.max() > FAR * (high - low) > 0.0:
            return (
                f"{name!r} holds {seen[away.argmax()]:g}, {away.max() / (high - low):.0f} "
                "interquartile ranges from its median: one such score can decide every estimate. "
                "Correct it, or declare it missing."
            )
    return None


def _held(layout: Layout, bounds: list[Bound]) -> set[int]:
    """Elements of theta in covariances at a bound, where a flat direction means nothing."""
    held: set[int] = set()
    for bound in bounds:
        q = bound.block.size // bound.block.shape[0]
        first = layout.slices[bound.block.key].start + q * bound.slot
        held.update(range(first, first + q))
    return held


def rival_sentence(likelihood: Likelihood, found: Maximum) -> str | None:
    """Say that another lag matrix fits these data as well; None if there is none.

    Where few scores lie one session apart, several roots of the same power of phi are maxima,
    and the data may not tell them apart.
    """
    layout = likelihood.layout
    at = [i for i, name in enumerate(layout.names) if names.parse(name)[0] in LAGGED]
    within = ERRORS * np.sqrt(np.diag(invert_information(found.information)[0]))[at]
    for value, theta in sorted(found.others, key=lambda other: -other[0]):
        apart = np.abs(theta - found.theta)[at]
        apart[apart < within] = 0.0
        if value < found.loglik - INDIFFERENT:
            break
        if apart.max(initial=0.0) > ANOTHER:
            which = layout.names[at[int(apart.argmax())]]
            here, there = (likelihood.to_params(one)[which] for one in (found.theta, theta))
            return (
                f"these data do not tell two sets of lagged effects apart: {which} is {here:.2f} "
                f"at the maximum and {there:.2f} at another one, whose log-likelihood is "
                f"{max(found.loglik - value, 0.0):.2f} lower. Too few scores lie one session "
                'apart. Use ContinuousTime(time="session"), which takes the smoothest course '
                "between sessions, or more sessions."
            )
    return None


def notes(
    selection: Selection,
    maximum: Maximum,
    clusters: NDArray[np.int64] | None,
    fewer: Sequence[str],
    starts: int,
) -> list[str]:
    """Return what a reader should know about the precision of the result.

    ``fewer`` names the options that would save parameters.
    """
    found = [far] if (far := far_scores(selection.data)) else []
    clients, parameters = selection.sample.clients, len(maximum.theta)
    if maximum.lower:
        found.append(
            f"the likelihood has several maxima: other starting values ended at "
            f"{max(maximum.lower):.2f}, this is the one at {maximum.loglik:.2f}."
            + (f" Try starts={MANY}." if starts < MANY else "")
        )
    if clients < 2 * parameters:
        found.append(
            f"{clients} clients carry {parameters} parameters: intervals and tests that rest on "
            f"large samples are too optimistic. Use {' or '.join(fewer) or 'fewer sessions'}."
        )
    if clusters is not None and (count := len(np.unique(clusters))) < CLUSTERS:
        found.append(
            f"standard errors are clustered over {count} clusters; with fewer than {CLUSTERS} "
            "they are usually too small."
        )
    return found


def indefinite(cov: Array, of: str, group: str | None = None) -> list[str]:
    """Say that a covariance put together from parts is none: it has a negative eigenvalue."""
    d = np.sqrt(np.maximum(np.diag(cov), 1e-300))
    least = float(np.linalg.eigvalsh(cov / np.outer(d, d))[0])
    if least > -NO_VARIANCE:
        return []
    where = "" if group is None else f" where {group}"
    return [
        f"the joint covariance of {of}{where} has a negative eigenvalue ({least:.2g} on the "
        "correlation scale): no population has these variances and covariances, though its scores "
        "at the sessions seen might. Do not read them; compare the lagged effects with those of "
        "another model."
    ]


def explosive(fit: Fit) -> list[str]:
    """Say of which groups the lagged effects carry deviations away instead of letting them fade."""
    form, p = fit.lagged, fit.params
    if not {"phi", "same"} & form.families or "drift" in form.families:
        return []
    found = []
    for group in form.groups if form.grouped else (None,):
        try:
            A = form.of_group(group).motion(p)[0]
        except (
            KeyError,
            SpecificationError,
        ):  # one direction alone
            A = np.diag([p.get(names.label("phi", v, v), 0.0) for v in fit.variables])
        size = float(np.abs(np.linalg.eigvals(A)).max()) if np.isfinite(A).all() else 0.0
        if size >= 1.0:
            where = "" if group is None else f" where {group}"
            found.append(
                f"the estimated process is explosive{where}: the largest eigenvalue of its lagged "
                f"effects has size {size:.3g}, not below 1, so that deviations grow from session "
                "to session instead of fading. Do not read its effects as those of a process "
                "that settles: look for a course or trends that the model leaves out."
            )
    return found


def tell(fit: Fit, strict: bool, depth: int) -> None:
    """Note what every family has to note, then raise or warn where a person is looking.

    A study reads the diagnostics instead.

    Parameters
    ----------
    fit : Fit
    strict : bool
        Whether a person is looking.
    depth : int
        Calls between that person and this function.

    Raises
    ------
    ConvergenceError
        If nothing was found; it holds the fit.
    """
    said = fit.diagnostics["notes"]
    said += [note for note in explosive(fit) if note not in said]
    if not strict:
        return
    if not fit.converged:
        raise ConvergenceError(
            f"{fit.model.name}: {fit.diagnostics['failure']} Use strict=False to look at it.", fit
        )
    for sentence in [*fit.diagnostics["boundary"], *fit.diagnostics["notes"]]:
        warnings.warn(f"{fit.model.name}: {sentence}", InferenceWarning, stacklevel=depth + 1)
