r"""EM for the saturated model: it fills no more holes than it must.

Clients mostly drop out, with a few scores missing before they do. With columns ordered so that
this is the rule, each client is cut at the last observed column, the regressions of every column
on all earlier ones

    y_j = alpha_j + sum_{l < j} beta_jl y_l + e_j,   Var(e_j) = d_j

are estimated from the clients who reach column j, and only holes before the cut are imputed.
Complete and monotone data take one step; scattered holes take few, because little information
is missing. (alpha, beta, log d) are unconstrained and determine the moments one to one, so
extrapolating them always gives an admissible covariance.

References
----------
Dempster, A. P., Laird, N. M., & Rubin, D. B. (1977). Maximum likelihood from incomplete data
via the EM algorithm. Journal of the Royal Statistical Society B, 39, 1-38.
Varadhan, R., & Roland, C. (2008). Simple and globally convergent methods for accelerating the
convergence of any EM algorithm. Scandinavian Journal of Statistics, 35, 335-353.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from alliancedyn.engine.cholesky import FAST, add_inverse, factor_part
from alliancedyn.engine.moments import LOG_2PI, find_patterns

Array = NDArray[np.float64]
Index = NDArray[np.int64]

SINGULAR = 1e-8  # residual share of a column's variance below which the covariance is singular
GAIN = 1e-12  # gain of one EM step, per observed score, below which the search ends
MOST_STEPS = 500  # evaluations of the EM map; a search that needs more has no usable maximum


@njit(cache=True, fastmath=FAST)
def _impute(z: Array, precision: Array, at: Index, n: int, factor: Array, right: Array) -> None:
    """Put conditional means into the holes ``at`` of one client's z = (1, y)."""
    for a in range(n):
        z[at[a]] = 0.0
    for a in range(n):
        value = 0.0
        for c in range(len(z)):
            value -= precision[at[a], c] * z[c]
        for c in range(a):
            value -= factor[a, c] * right[c]
        right[a] = value / factor[a, a]
    for a in range(n - 1, -1, -1):
        value = right[a]
        for c in range(a + 1, n):
            value -= factor[c, a] * right[c]
        right[a] = value / factor[a, a]
    for a in range(n):
        z[at[a]] = right[a]


@njit(cache=True)
def _fill(
    Z: Array, start: Index, holes: Index, n_holes: Index, precision: Array, extra: Array
) -> float:
    """Impute the holes of one group of clients who share their last observed column.

    ``precision`` (L + 1, L + 1) is that of the first L columns bordered by the intercept:
    z' precision z is the squared distance of z = (1, y). For a pattern with holes m the
    conditional mean solves precision[m, m] y_m = -precision[m, o] z_o, with conditional
    covariance precision[m, m]^-1, whose sum over clients goes to ``extra``. Returns the sum over
    clients of log det precision[m, m].
    """
    most = holes.shape[1]
    factor, scratch, right = np.empty((most, most)), np.empty((most, most)), np.empty(most)
    total = 0.0
    for k in range(len(n_holes)):
        n, rows = n_holes[k], start[k + 1] - start[k]
        log_det = factor_part(precision, holes[k], n, factor)
        if math.isnan(log_det):
            return np.nan
        total += rows * log_det
        add_inverse(factor, n, float(rows), holes[k], scratch, extra)
        for i in range(start[k], start[k + 1]):
            _impute(Z[i], precision, holes[k], n, factor, right)
    return total


@njit(cache=True, fastmath=FAST)
def _factor_moments(moment: Array, size: int, factor: Array) -> int:
    """Factor ``moment[:size, :size]``; return the first column without own variance, or -1."""
    for a in range(size):
        for b in range(a + 1):
            value = moment[a, b]
            for c in range(b):
                value -= factor[a, c] * factor[b, c]
            if a == b:
                if not value > SINGULAR * moment[a, a]:
                    return a - 1
                factor[a, a] = math.sqrt(value)
            else:
                factor[a, b] = value / factor[b, b]
    return -1


@njit(cache=True, fastmath=FAST)
def _regress(
    moment: Array, low: int, high: int, theta: Array, new: Array, factor: Array
) -> tuple[float, int]:
    """Regress columns low..high - 1 on all earlier ones, given moments of z = (1, y).

    ``theta`` and ``new`` (p, p + 2) hold in row j the contrast r_j of residual e_j = r_j' z and,
    last, log d_j. Returns sum_j r_j' M r_j / d_j + n log d_j at ``theta`` (minus twice the
    log-likelihood of these columns) and the first column without residual variance, or -1.
    """
    singular = _factor_moments(moment, high + 1, factor)
    if singular >= 0:
        return np.nan, singular
    objective = 0.0
    count, last = moment[0, 0], theta.shape[1] - 1
    for j in range(low, high):
        row = j + 1
        new[j, last] = math.log(factor[row, row] * factor[row, row] / count)
        new[j, row] = 1.0
        for a in range(row - 1, -1, -1):
            value = -factor[row, a]
            for c in range(a + 1, row):
                value -= factor[c, a] * new[j, c]
            new[j, a] = value / factor[a, a]
        distance = 0.0
        for a in range(row + 1):
            value = 0.0
            for c in range(row + 1):
                value += moment[a, c] * theta[j, c]
            distance += value * theta[j, a]
        objective += distance * math.exp(-theta[j, last]) + count * theta[j, last]
    return objective, -1


@dataclass(frozen=True)
class Group:
    """Clients whose last observed column is column ``length`` (in the working order)."""

    length: int
    complete: Array  # moments of z = (1, y) over the clients without holes
    Z: Array  # (n, length + 1) the others; holes are filled in place at every step
    start: Index
    holes: Index
    n_holes: Index


@dataclass(frozen=True)
class Layout:
    """A wide panel made ready for EM: standardized, columns ordered, clients cut and grouped."""

    columns: Index
    center: Array
    scale: Array
    groups: list[Group]
    n_scores: int
    n_imputed: int
    log_scale: float

    @property
    def p(self) -> int:
        """Number of columns."""
        return len(self.columns)


def column_moments(Y: Array) -> tuple[Index, Array, Array]:
    """Count, mean and variance (divisor n) of what was observed in each column; 0 if nothing."""
    seen = ~np.isnan(Y)
    count = seen.sum(axis=0)
    divisor = np.maximum(count, 1)
    mean = np.where(seen, Y, 0.0).sum(axis=0) / divisor
    deviation = np.where(seen, Y - mean, 0.0)
    return count, mean, np.square(deviation).sum(axis=0) / divisor


def _column_order(seen: NDArray[np.bool_]) -> Index:
    """Order columns so that few holes precede a client's last score: as given, or by coverage."""
    p = seen.shape[1]
    orders = [np.arange(p), np.argsort(-seen.sum(axis=0), kind="stable")]
    holes = [int(_last_seen(seen[:, order]).sum()) for order in orders]
    return orders[int(holes[1] < holes[0])]


def _last_seen(seen: NDArray[np.bool_]) -> Index:
    """Return the number of columns up to the last observed one of each row."""
    return np.asarray(seen.shape[1] - seen[:, ::-1].argmax(axis=1), np.int64)


def lay_out(Y: Array) -> Layout:
    """Standardize, order the columns and group the clients by their last observed column."""
    seen = ~np.isnan(Y)
    columns = _column_order(seen)
    count, center, variance = column_moments(Y)
    scale = np.sqrt(variance)
    Z = np.where(seen, (Y - center) / scale, 0.0)[:, columns]
    seen = seen[:, columns]
    last = _last_seen(seen)
    groups = []
    for length in np.unique(last):
        rows = np.flatnonzero(last == length)
        groups.append(_make_group(Z[rows, :length], seen[rows, :length]))
    return Layout(
        columns,
        center,
        scale,
        groups,
        int(count.sum()),
        int(last.sum() - count.sum()),
        float(count @ np.log(scale)),
    )


def _make_group(Z: Array, seen: NDArray[np.bool_]) -> Group:
    bordered = np.column_stack([np.ones(len(Z)), Z])
    whole = seen.all(axis=1)
    complete = bordered[whole].T @ bordered[whole]
    patterns = find_patterns(seen[~whole])
    missing = ~patterns.seen
    n_holes = missing.sum(axis=1)
    most = int(n_holes.max(initial=0))
    holes = np.argsort(~missing, axis=1, kind="stable")[:, :most] + 1
    return Group(
        Z.shape[1],
        complete,
        np.ascontiguousarray(bordered[~whole][patterns.order]),
        patterns.start,
        np.ascontiguousarray(holes, np.int64),
        np.asarray(n_holes, np.int64),
    )


def _em_step(layout: Layout, theta: Array) -> tuple[float, Array, int]:
    """Return the log-likelihood at ``theta``, the EM update and the first singular column or -1.

    The log-likelihood falls out of the filled moments: with filled scores z and the conditional
    covariance of the holes included, the squared distances exceed those of the observed scores
    by one for each hole, and log |Sigma_oo| = sum_j log d_j + log det precision[m, m].
    """
    moments, log_det = _expect(layout, theta)
    p = layout.p
    new, total, factor = np.zeros_like(theta), np.zeros((p + 1, p + 1)), np.empty((p + 1, p + 1))
    objective = 0.0
    for g in range(len(moments) - 1, -1, -1):
        high = layout.groups[g].length
        low = layout.groups[g - 1].length if g else 0
        total[: high + 1, : high + 1] += moments[g]
        part, singular = _regress(total, low, high, theta, new, factor)
        if singular >= 0:
            return np.nan, new, int(layout.columns[singular])
        objective += part
    loglik = -0.5 * (layout.n_scores * LOG_2PI + objective - layout.n_imputed + log_det)
    return float(loglik), new, -1


def _expect(layout: Layout, theta: Array) -> tuple[list[Array], float]:
    """Return each group's expected moments of z = (1, y) and the holes' log determinants."""
    precision = np.zeros((layout.p + 1, layout.p + 1))
    moments, log_det, low = [], 0.0, 0
    for group in layout.groups:
        high = group.length
        with np.errstate(over="ignore", invalid="ignore"):  # a jump may overshoot; it is refused
            contrast = theta[low:high, : high + 1] * np.exp(-0.5 * theta[low:high, -1:])
            precision[: high + 1, : high + 1] += contrast.T @ contrast
        moment = group.complete.copy()
        if len(group.Z):
            leading = np.ascontiguousarray(precision[: high + 1, : high + 1])
            log_det += _fill(group.Z, group.start, group.holes, group.n_holes, leading, moment)
            moment += group.Z.T @ group.Z
        moments.append(moment)
        low = high
    return moments, log_det


@dataclass(frozen=True)
class Search:
    """Where the EM search ended."""

    theta: Array
    loglik: float
    steps: int
    converged: bool
    singular: int  # column at which the covariance turned singular, or -1


def search(layout: Layout) -> Search:
    """Run EM with squared extrapolation from independent columns; it never goes downhill."""
    theta = np.zeros((layout.p, layout.p + 2))
    theta[np.arange(layout.p), np.arange(layout.p) + 1] = 1.0
    loglik, next_theta, singular = _em_step(layout, theta)
    steps, tolerance = 1, GAIN * layout.n_scores
    if layout.n_imputed == 0 and singular < 0:  # complete or monotone: one step is the maximum
        loglik, _, singular = _em_step(layout, next_theta)
        return Search(next_theta, loglik, 1, singular < 0, singular)
    while steps < MOST_STEPS and singular < 0:
        better, after, singular = _em_step(layout, next_theta)
        steps += 1
        if singular >= 0 or not math.isfinite(better):
            break
        if better - loglik < tolerance:
            return Search(next_theta, better, steps, True, -1)
        first = next_theta - theta
        change = float(np.linalg.norm(after - next_theta - first))
        stride = max(1.0, float(np.linalg.norm(first)) / max(change, 1e-100))
        jump = theta + 2.0 * stride * first + stride**2 * (after - next_theta - first)
        loglik, next_theta, singular = _em_step(layout, jump)
        theta = jump
        steps += 1
        if singular >= 0 or not loglik >= better:
            loglik, next_theta, singular = _em_step(layout, after)
            theta = after
            steps += 1
    return Search(theta, loglik, steps, False, singular)


def moments_from(layout: Layout, theta: Array) -> tuple[Array, Array]:
    """Turn the regressions into means and a covariance in the given columns and units."""
    p = layout.p
    inverse = np.linalg.solve(theta[:, 1 : p + 1], np.eye(p))
    scaled = inverse * np.exp(0.5 * theta[:, -1])
    mean, cov = np.empty(p), np.empty((p, p))
    mean[layout.columns] = -inverse @ theta[:, 0]
    cov[np.ix_(layout.columns, layout.columns)] = scaled @ scaled.T
    return layout.center + layout.scale * mean, cov * np.outer(layout.scale, layout.scale)
