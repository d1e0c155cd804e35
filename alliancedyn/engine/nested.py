"""The likelihood of nested random intercepts, from the statistics of the innermost units alone.

With Cov(y) = sigma^2 V, V = R + sum_l rho_l Z_l Z_l' and nested groupings l = 1 .. L, inner to
outer, a grouping enters the inverse and the determinant of V only through the total weight A_j and
the weighted mean m_j of [X y] in each of its units j:

    log|V|         = log|R| + sum over levels and units of log(1 + rho_l A_j)
    [Xy]'V^-1[Xy]  = scatter within units + sum_j a_j m_j m_j',   a_j = A_j / (1 + rho_l A_j),

and the units of the next level take the weights sum a_j and the means weighted by a_j. An
evaluation with its exact gradient therefore costs O(innermost units), however many rows there are.
Scatter is taken around means at every level, so a large variance ratio loses no digits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

MAX_ITERATIONS = 100
# Gain in log-likelihood that the next Newton step promises: below this an estimate moves by less
# than 2e-4 of its standard error, and it is still above the rounding of a sum over a million rows.
CONVERGED_GAIN = 1e-8
# Spread within units below this fraction of the largest score is rounding, not variance.
ROUNDING = 1e-12


@dataclass(frozen=True)
class ClusterStatistics:
    """All that the likelihood needs from the rows: the innermost units and what they nest in.

    Attributes
    ----------
    weight : array (J,)
        A_j = 1'R^-1 1 of each innermost unit, R the correlation of its residuals; the number of
        rows when residuals are independent.
    mean : array (J, p + 1)
        Means of [X y] per unit, weighted by R^-1.
    scatter : array (p + 1, p + 1)
        Cross-products of [X y] around those means, weighted by R^-1, summed over units.
    parents : tuple of L - 1 integer arrays
        For each level but the outermost, the unit of the next level that each unit belongs to.
    rows : int
        Number of rows n.
    absorbed : int
        Fixed effects already projected out of y within innermost units; REML counts them.
    log_det : float
        log|R|, and other terms of the log-determinants that the variance ratios do not move.
    """

    weight: Array
    mean: Array
    scatter: Array
    parents: tuple[Codes, ...]
    rows: int
    absorbed: int = 0
    log_det: float = 0.0

    @property
    def levels(self) -> int:
        """Number of nested groupings."""
        return len(self.parents) + 1

    @property
    def units(self) -> tuple[int, ...]:
        """Number of units at each level, inner to outer."""
        return (len(self.weight), *(int(parent.max()) + 1 for parent in self.parents))


@dataclass(frozen=True)
class VarianceComponents:
    """Variance components of a nested random-intercept model.

    Attributes
    ----------
    beta, beta_cov : arrays (p,), (p, p)
        Fixed effects in units of y per unit of X, and their covariance at the estimated variances.
    variances : array (L,)
        Variances of the random intercepts, inner to outer, in squared units of y; never negative.
    residual : float
        Variance of one row around its innermost unit, in squared units of y.
    loglik : float
        Maximised log-likelihood; under REML with lme4's constant,
        -1/2 [(n - p) log 2 pi + log|S| + log|X'S^-1 X| + r'S^-1 r] with S = sigma^2 V.
    slopes : array (L,)
        Derivative of the profiled log-likelihood with respect to each variance *ratio*
        (variance / residual): zero inside, negative where the bound at zero stops the ascent.
    boundary : tuple of int
        Levels (positions in ``variances``) whose variance is zero because the log-likelihood
        falls as the variance rises from zero. Decided by the sign of that derivative, not by how
        small an estimate is.
    converged, iterations : bool, int
        Whether the next Newton step promises a gain below 1e-8 in the log-likelihood, and the
        number of steps taken.
    units : tuple of int
        Number of units at each level, inner to outer.
    rows : int
        Number of rows used.
    """

    beta: Array
    beta_cov: Array
    variances: Array
    residual: float
    loglik: float
    slopes: Array
    boundary: tuple[int, ...]
    converged: bool
    iterations: int
    units: tuple[int, ...]
    rows: int


@dataclass(frozen=True)
class _Ascent:
    """What the pass from the innermost to the outermost level leaves behind."""

    weights: tuple[Array, ...]  # A_j per level
    shrinks: tuple[Array, ...]  # 1 / (1 + rho_l A_j) per level
    means: tuple[Array, ...]  # m_j per level
    beta: Array
    cov: Array  # (X'V^-1 X)^-1
    squares: float  # r'V^-1 r
    freedom: int
    deviance: float  # -2 times the profiled log-likelihood


@dataclass(frozen=True)
class _Place:
    """A point of the search in s = log(1 + c rho), its deviance and the gradient taken there."""

    s: Array
    ascent: _Ascent
    gradient: Array
    per_ratio: Array  # ds / d rho


@dataclass(frozen=True)
class _Problem:
    stats: ClusterStatistics
    reml: bool
    scale: Array  # c_l, the average weight A_j of the units of level l

    def ratios(self, s: Array) -> Array:
        return np.asarray(np.expm1(s) / self.scale)

    def at(self, s: Array) -> _Place:
        ratios = self.ratios(s)
        ascent = _ascend(ratios, self.stats, self.reml)
        gradient = _descend(ratios, ascent, self.stats, self.reml)
        per_ratio = self.scale * np.exp(-s)
        return _Place(s, ascent, gradient / per_ratio, per_ratio)


def maximise_components(
    stats: ClusterStatistics, reml: bool = True, start: Array | None = None
) -> VarianceComponents:
    """Maximise the profiled (restricted) likelihood over variance ratios rho_l >= 0.

    The search runs over s_l = log(1 + c_l rho_l), c_l the average weight A_j of the units: linear
    near zero, so the bound is an ordinary point where a derivative has a sign, and logarithmic far
    from it, so no scale has to be guessed. Projected Newton steps start from the best point of a
    coarse grid that contains the bounds (or from the ratios ``start``), with a Hessian by
    differences of the exact gradient and a line search that never accepts a worse point. Weights
    of outer units depend on the inner ratios; where they end far from what c_l assumed, the search
    is taken up again with theirs.
    """
    problem = _Problem(stats, reml, np.array([stats.rows / count for count in stats.units]))
    ratios = problem.ratios(_best_of_grid(problem)) if start is None else start
    steps = 0
    for _ in range(3):
        place, gain, taken = _climb(problem.at(np.log1p(problem.scale * ratios)), problem)
        ratios, steps = problem.ratios(place.s), steps + taken
        scale = np.array([float(weight.mean()) for weight in place.ascent.weights])
        if np.abs(np.log(scale / problem.scale)).max() < 1.0:
            break
        problem = _Problem(stats, reml, scale)
    place = _settle_bounds(place, problem)
    ratios = problem.ratios(place.s)
    residual = place.ascent.squares / place.ascent.freedom
    slopes = -0.5 * place.gradient * place.per_ratio
    return VarianceComponents(
        beta=place.ascent.beta,
        beta_cov=residual * place.ascent.cov,
        variances=ratios * residual,
        residual=residual,
        loglik=-0.5 * place.ascent.deviance,
        slopes=slopes,
        boundary=tuple(int(level) for level in np.flatnonzero((ratios == 0.0) & (slopes <= 0.0))),
        converged=bool(gain < CONVERGED_GAIN),
        iterations=steps,
        units=stats.units,
        rows=stats.rows,
    )


def sum_by(codes: Codes, values: Array, count: int) -> Array:
    """Sum the rows of ``values`` (n, q) over equal codes, giving (count, q)."""
    return np.column_stack([np.bincount(codes, column, count) for column in values.T])


def _ascend(ratios: Array, stats: ClusterStatistics, reml: bool) -> _Ascent:
    """Absorb the levels one by one and return the profiled deviance at ``ratios`` (L,)."""
    weights: list[Array] = [stats.weight]
    means: list[Array] = [stats.mean]
    shrinks: list[Array] = []
    total, log_det = stats.scatter.copy(), stats.log_det
    for level, ratio in enumerate(ratios):
        growth = 1.0 + ratio * weights[level]
        log_det += float(np.log(growth).sum())
        shrinks.append(1.0 / growth)
        pooled = weights[level] * shrinks[level]
        around = means[level]
        if level < stats.levels - 1:
            parent, count = stats.parents[level], stats.units[level + 1]
            weights.append(np.bincount(parent, pooled, count).astype(np.float64))
            means.append(sum_by(parent, pooled[:, None] * around, count) / weights[-1][:, None])
            around = around - means[-1][parent]
        total += around.T @ (pooled[:, None] * around)
    p = len(total) - 1
    cov = np.asarray(np.linalg.inv(total[:p, :p]), dtype=np.float64)
    beta = cov @ total[:p, p]
    direction = np.append(-beta, 1.0)
    squares = float(direction @ total @ direction)
    freedom = stats.rows - (p + stats.absorbed if reml else 0)
    deviance = log_det + freedom * (1.0 + math.log(2.0 * math.pi * squares / freedom))
    if reml:
        deviance += float(np.linalg.slogdet(total[:p, :p])[1])
    return _Ascent(
        tuple(weights), tuple(shrinks), tuple(means), beta, cov, squares, freedom, deviance
    )


def _descend(ratios: Array, ascent: _Ascent, stats: ClusterStatistics, reml: bool) -> Array:
    """Return the gradient of the profiled deviance with respect to the ratios (L,).

    On the way down, b = sum of the ancestors' predicted intercepts gives
    1_j'V^-1 v = a_j (m_j - b), and h, their response to a unit pulse, gives
    1_j'V^-1 1_j = a_j - a_j^2 h. Then, with C = (X'V^-1 X)^-1 and r = y - X beta,

        d log|V| / d rho_l         =  sum_j 1_j'V^-1 1_j
        d r'V^-1 r / d rho_l       = -sum_j (1_j'V^-1 r)^2
        d log|X'V^-1 X| / d rho_l  = -tr(C sum_j X'V^-1 1_j 1_j'V^-1 X).
    """
    p = len(ascent.beta)
    direction = np.append(-ascent.beta, 1.0)
    per_square = ascent.freedom / ascent.squares
    gradient = np.empty(stats.levels)
    carried: Array = np.zeros((1, p + 1))
    pulse: Array = np.zeros(1)
    for level in reversed(range(stats.levels)):
        if level < stats.levels - 1:
            carried, pulse = carried[stats.parents[level]], pulse[stats.parents[level]]
        shrink = ascent.shrinks[level]
        pooled = ascent.weights[level] * shrink
        filtered = pooled[:, None] * (ascent.means[level] - carried)
        gradient[level] = float((pooled - pooled**2 * pulse).sum())
        gradient[level] -= per_square * float(((filtered @ direction) ** 2).sum())
        if reml:
            effects = filtered[:, :p]
            gradient[level] -= float((ascent.cov * (effects.T @ effects)).sum())
        carried = carried + ratios[level] * filtered
        pulse = shrink**2 * pulse + ratios[level] * shrink
    return gradient


def _best_of_grid(problem: _Problem) -> Array:
    """Return the best of a coarse grid over s, the bounds included."""
    stats = problem.stats
    grid = [np.array(s) for s in product((0.0, 0.7, 2.0, 4.0, 8.0), repeat=stats.levels)]
    deviances = [_ascend(problem.ratios(s), stats, problem.reml).deviance for s in grid]
    return grid[int(np.argmin(deviances))]


def _climb(place: _Place, problem: _Problem) -> tuple[_Place, float, int]:
    """Take Newton steps until they promise nothing; return the place, that promise, the count."""
    for taken in range(MAX_ITERATIONS):
        step, gain = _newton_step(place, problem)
        if gain < 1e-4 * CONVERGED_GAIN:
            return place, gain, taken
        moved = _line_search(place, step, problem)
        if moved is None:
            return place, gain, taken
        place = moved
    return place, math.inf, MAX_ITERATIONS


def _settle_bounds(place: _Place, problem: _Problem) -> _Place:
    """Move to its bound any level that is still falling towards it when steps gain nothing."""
    for level in np.flatnonzero((place.s > 0.0) & (place.gradient > 0.0)):
        bound = problem.at(np.where(np.arange(len(place.s)) == level, 0.0, place.s))
        if bound.gradient[level] >= 0.0 and bound.ascent.deviance <= place.ascent.deviance:
            place = bound
    return place


def _newton_step(place: _Place, problem: _Problem) -> tuple[Array, float]:
    """Return a descent step within the bounds and the gain in log-likelihood that it promises."""
    step = np.zeros_like(place.s)
    index = np.flatnonzero((place.s > 0.0) | (place.gradient < 0.0))
    if not len(index):
        return step, 0.0
    hessian = np.empty((len(index), len(index)))
    for row, level in enumerate(index):
        shifted = place.s.copy()
        shifted[level] += 1e-5
        hessian[row] = (problem.at(shifted).gradient[index] - place.gradient[index]) / 1e-5
    # Where the deviance is not convex the modulus of the curvature still gives a descent step.
    roots, axes = np.linalg.eigh(0.5 * (hessian + hessian.T))
    curvature = np.maximum(np.abs(roots), 1e-8 * max(1.0, float(np.abs(roots).max())))
    slope = place.gradient[index]
    step[index] = _bounded(place.s[index], -axes @ ((axes.T @ slope) / curvature))
    if place.gradient @ step >= 0.0:  # the bound turned the step uphill: move coordinate-wise
        steep = np.maximum(np.abs(np.diag(hessian)), curvature.min())
        step[index] = _bounded(place.s[index], -slope / steep)
    return step, 0.25 * abs(float(place.gradient @ step))


def _bounded(s: Array, step: Array) -> Array:
    """Shorten a step to at most 2 in any direction, its direction kept, and stop it at zero."""
    step = step / max(1.0, float(np.abs(step).max()) / 2.0)
    return np.asarray(np.maximum(s + step, 0.0) - s)


def _line_search(place: _Place, step: Array, problem: _Problem) -> _Place | None:
    """Halve the step until the deviance falls; None if rounding leaves nothing to gain."""
    rounding = 1e-13 * abs(place.ascent.deviance)
    for _ in range(40):
        reached = problem.at(np.maximum(place.s + step, 0.0))
        fall = place.ascent.deviance - reached.ascent.deviance
        flatter = np.abs(reached.gradient @ step) < 0.5 * np.abs(place.gradient @ step)
        if fall > rounding or (fall > -rounding and flatter):
            return reached
        step = 0.5 * step
    return None
