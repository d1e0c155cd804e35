"""Both directions of one fit on one basis: the numbers, and the rules that name them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.delta import Derived
from alliancedyn.results import LEVEL, Estimate, Fit
from alliancedyn.results.estimate import estimates
from alliancedyn.results.paths import time_order

Array = NDArray[np.float64]
State = Literal["supported", "practically zero", "undetermined"]
Lead = Literal["forward", "backward", "both", "neither", "undetermined", "depends"]

DRAWS = 20_000


@dataclass(frozen=True)
class Contrast:
    """Both directions on one basis.

    Parameters
    ----------
    forward, backward : Estimate
        Within-client SDs of the later score per within-client SD of the earlier.
    difference : Estimate
        |forward| - |backward|, equal-tailed over joint draws.
    forward_raw, backward_raw : Estimate
        Points of the later score per point of the earlier.
    forward_state, backward_state : str
        "supported", "practically zero" or "undetermined".
    lead : str
        "forward", "backward", "both", "neither" or "undetermined".
    forward_immediate, backward_immediate : bool
        Whether the path runs from before to after the same session, not to the next session.
    """

    forward: Estimate
    backward: Estimate
    difference: Estimate
    forward_raw: Estimate
    backward_raw: Estimate
    forward_state: State
    backward_state: State
    lead: Lead
    forward_immediate: bool
    backward_immediate: bool


@dataclass(frozen=True)
class Place:
    """Where in a fit to look: into one session or averaged over all, in one group.

    Parameters
    ----------
    session : int, optional
        Session into which the paths lead, where they differ between sessions.
    group : str, optional
        Such as ``arm=1``, where they differ between groups.
    """

    session: int | None = None
    group: str | None = None


ANYWHERE = Place()


def contrast(
    fit: Fit,
    source: str,
    target: str,
    basis: str,
    smallest_effect: float,
    seed: int,
    place: Place = ANYWHERE,
) -> Contrast:
    """Compute both directions and their difference on one basis.

    The pair is always derived and drawn in panel order, so that exchanging source and target
    exchanges the answers to the last digit.
    """
    first, second = sorted((source, target), key=fit.variables.index)
    derived = both_paths(fit, first, second, basis, place)
    found = dict(
        zip(("out", "back", "out_raw", "back_raw"), estimates(derived, LEVEL), strict=True)
    )
    if source != first:
        found = {
            "out": found["back"],
            "back": found["out"],
            "out_raw": found["back_raw"],
            "back_raw": found["out_raw"],
        }
    difference = _difference(derived, seed)
    if source != first:
        difference = _mirrored(difference)
    # What did not converge is no estimate, whatever its interval says.
    forward_state: State = "undetermined"
    backward_state: State = "undetermined"
    if fit.converged:
        forward_state = name_state(found["out"], smallest_effect)
        backward_state = name_state(found["back"], smallest_effect)
    immediate = basis == "structural"
    return Contrast(
        forward=found["out"],
        backward=found["back"],
        difference=difference,
        forward_raw=found["out_raw"],
        backward_raw=found["back_raw"],
        forward_state=forward_state,
        backward_state=backward_state,
        lead=name_lead(forward_state, backward_state, difference),
        forward_immediate=immediate and fit.timing.get(source) == "before",
        backward_immediate=immediate and fit.timing.get(target) == "before",
    )


def both_paths(fit: Fit, first: str, second: str, basis: str, place: Place) -> Derived:
    """Derive first -> second and second -> first jointly, standardized, then raw."""
    return fit.derive_many(both_ways(fit, first, second, basis, place))


def both_ways(
    fit: Fit, first: str, second: str, basis: str, place: Place
) -> Callable[[Mapping[str, float]], Array]:
    """Return first -> second and second -> first, standardized, then raw, of any parameters."""
    form, session = fit.lagged.of_group(place.group), place.session
    sd_basis = fit.sd_within_basis(group=place.group)
    i, j = fit.variables.index(first), fit.variables.index(second)

    def paths(p: Mapping[str, float]) -> tuple[float, float]:
        if basis == "reduced":
            return (
                form.one_session(p, second, first, session),
                form.one_session(p, first, second, session),
            )
        after, before = time_order(form, fit.timing, session)
        across, within = form.time_ordered(p, after, before, session)[:2]
        return (across, within) if first == after else (within, across)

    def function(p: Mapping[str, float]) -> Array:
        out, back = paths(p)
        sd = form.within_sd(p, sd_basis)
        return np.array([out * sd[i] / sd[j], back * sd[j] / sd[i], out, back])

    return function


def _difference(derived: Derived, seed: int) -> Estimate:
    """Estimate |first -> second| - |second -> first| over joint draws of the two.

    Posterior draws, or the asymptotic normal distribution of the two standardized paths with
    their full covariance.
    """
    values, cov = derived.values[:2], derived.cov[:2, :2]
    missing = float("nan")
    point = float(abs(values[0]) - abs(values[1]))
    if derived.draws is not None:
        draws = derived.draws[:, :2]
    elif np.isfinite(cov).all() and np.isfinite(values).all():
        spread, axes = np.linalg.eigh(cov)
        root = axes * np.sqrt(np.clip(spread, 0.0, None))
        normal = np.random.default_rng(seed).standard_normal((DRAWS, 2))
        draws = values + normal @ root.T
    else:
        return Estimate(point, missing, missing, missing, LEVEL)
    gaps = np.abs(draws[:, 0]) - np.abs(draws[:, 1])
    tail = (1.0 - LEVEL) / 2
    lower, upper = np.quantile(gaps, [tail, 1.0 - tail])
    return Estimate(
        value=point if derived.draws is None else float(gaps.mean()),
        se=float(gaps.std(ddof=1)),
        lower=float(lower),
        upper=float(upper),
        level=LEVEL,
        prob_positive=None if derived.draws is None else float((gaps > 0).mean()),
    )


def _mirrored(estimate: Estimate) -> Estimate:
    """Return the estimate of the negative."""
    positive = estimate.prob_positive
    return Estimate(
        value=-estimate.value,
        se=estimate.se,
        lower=-estimate.upper,
        upper=-estimate.lower,
        level=estimate.level,
        prob_positive=None if positive is None else 1.0 - positive,
    )


def name_state(estimate: Estimate, smallest_effect: float) -> State:
    """Classify one direction; an interval that does not exist settles nothing."""
    if -smallest_effect < estimate.lower and estimate.upper < smallest_effect:
        return "practically zero"
    if estimate.lower > 0 or estimate.upper < 0:
        return "supported"
    return "undetermined"


def name_lead(forward: State, backward: State, difference: Estimate) -> Lead:
    """Say which direction leads on one basis."""
    if difference.lower > 0 and forward == "supported":
        return "forward"
    if difference.upper < 0 and backward == "supported":
        return "backward"
    if forward == backward == "supported" and difference.lower <= 0 <= difference.upper:
        return "both"
    if forward == backward == "practically zero":
        return "neither"
    return "undetermined"
