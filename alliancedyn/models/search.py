"""Where to look for the maximum of a likelihood, and how often."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.gaps import other_roots, patchy
from alliancedyn.engine.likelihood import Likelihood
from alliancedyn.engine.maximise import DISTINCT, Maximum, maximise
from alliancedyn.engine.starting import alternatives

Array = NDArray[np.float64]

RESTARTS = 5  # starting values tried where the first led to a bound: there may be several maxima
MANY = 20  # starting values beyond which more of them are no advice
ROUNDS = 3  # of other roots of a lag matrix, each from the best so far


def search(
    likelihood: Likelihood, seen: NDArray[np.bool_], starts: int, seed: int | None
) -> Maximum:
    """Maximize a likelihood, from more starting values where one is not to be trusted.

    Parameters
    ----------
    likelihood : Likelihood
    seen : (N, T, p)
        Which scores are there: where some are hardly ever seen one session apart, other roots of
        the same powers of the lag matrix are maxima of their own.
    starts : int
        Starting values to try.
    seed : int, optional
        For those that are drawn.
    """
    found = maximise(likelihood, _starts(likelihood, starts, seed))
    gappy = patchy(seen)
    doubtful = gappy or found.flat or not found.converged or likelihood.layout.bounds(found.theta)
    swings = gappy and any(block.family == "drift" for block in likelihood.layout.blocks)
    more = MANY if swings else RESTARTS  # roots of a drift are no finite number
    if doubtful and starts < more:
        found = maximise(likelihood, _starts(likelihood, more, seed))
    return _over_roots(likelihood, found) if gappy else found


def _over_roots(likelihood: Likelihood, found: Maximum) -> Maximum:
    """Try other roots of the lag matrix at the best maximum, until none leads higher."""
    layout, known = likelihood.layout, list(found.others)
    for _ in range(ROUNDS):
        roots = [layout.theta(other) for other in other_roots(layout.matrices(found.theta))]
        best = maximise(likelihood, [found.theta, *roots])
        known += best.others
        if best.loglik <= found.loglik + DISTINCT:
            return replace(found, others=tuple(known))
        known.append((found.loglik, found.theta))
        found = best
    return replace(found, others=tuple(known))


def _starts(likelihood: Likelihood, starts: int, seed: int | None) -> list[Array]:
    """Return the moment start, two far from it, and others around it; means stay as they are."""
    layout, first = likelihood.layout, likelihood.start
    far = [layout.theta(other) for other in alternatives(layout.matrices(first))]
    rng = np.random.default_rng(0 if seed is None else seed)  # the same answer every time
    jitter = np.where(likelihood.linear, 0.0, 0.25)
    around = [first + jitter * rng.standard_normal(len(first)) for _ in range(starts)]
    return [first, *far, *around][:starts]
