"""The normal likelihood of a mean and a covariance, with its slopes, from what patterns suffice.

Clients whose scores are missing in the same places share everything but their scores, and of
these no more is needed than their number n, their mean, and any rows R with R'R the sum of
squares around it (as many as there are scores, at most). With o the columns of a pattern, W the
inverse of Sigma_oo and d = mean - mu_o::

    l = -1/2 [ n |o| log 2 pi + n log |Sigma_oo| + sum_r |r|^2_W + n |d|^2_W ]
    dl/dmu_o    = n W d
    dl/dSigma_oo = 1/2 ( sum_r W r r' W + n W d d' W - n W )

so that complete data cost the same for any number of clients.
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


@dataclass(frozen=True)
class Sufficient:
    """What the likelihood needs of a wide panel, missing pattern by missing pattern.

    Parameters
    ----------
    columns : (K, p) int
        Observed columns of each pattern, first in each row.
    n_columns : (K,) int
        How many they are.
    count : (K,)
        Clients.
    mean : (K, p)
        Their mean, in the order of ``columns``.
    rows : (R, p)
        Rows whose squares sum to those around the means, likewise; pattern by pattern.
    start : (K + 1,) int
        Where each pattern's rows begin.
    """

    columns: Index
    n_columns: Index
    count: Array
    mean: Array
    rows: Array
    start: Index

    @classmethod
    def of(cls, Y: Array, each: bool = False) -> Sufficient:
        """Summarize scores (N, p), NaN = missing; ``each`` keeps clients apart, in their order."""
        seen = ~np.isnan(Y)
        n_columns = seen.sum(axis=1)
        columns = np.argsort(~seen, axis=1, kind="stable")
        packed = np.nan_to_num(np.take_along_axis(Y, columns, axis=1), nan=0.0)
        if each:
            start = np.zeros(len(Y) + 1, np.int64)
            return cls(columns, n_columns, np.ones(len(Y)), packed, packed[:0], start)
        found = find_patterns(seen)
        first = found.order[found.start[:-1]]
        count = np.diff(found.start).astype(float)
        packed = packed[found.order]
        mean = np.add.reduceat(packed, found.start[:-1], axis=0) / count[:, None]
        around = packed - np.repeat(mean, np.diff(found.start), axis=0)
        rows, start = _reduced(around, found.start, n_columns[first])
        return cls(columns[first], n_columns[first], count, mean, rows, start)


def _reduced(around: Array, start: Index, n_columns: Index) -> tuple[Array, Index]:
    """Replace rows by as few with the same squares: triangles where that is fewer."""
    size = np.diff(start)
    kept = np.where(size > 1, np.minimum(size, n_columns), 0)
    new_start = np.concatenate([[0], np.cumsum(kept)])
    out = np.zeros((int(new_start[-1]), around.shape[1]))
    for k in np.flatnonzero(size > 1):
        part, n = around[start[k] : start[k + 1]], n_columns[k]
        if size[k] > n:
            part = np.asarray(np.linalg.qr(part[:, :n], mode="r"))
        out[new_start[k] : new_start[k + 1], : part.shape[1]] = part
    return out, new_start


@njit(cache=True, fastmath=FAST)
def _solve(factor: Array, n: int, right: Array, out: Array) -> float:
    """Solve L L' x = right into ``out``; return |L^-1 right|^2."""
    length = 0.0
    for a in range(n):
        value = right[a]
        for c in range(a):
            value -= factor[a, c] * out[c]
        out[a] = value / factor[a, a]
        length += out[a] * out[a]
    for a in range(n - 1, -1, -1):
        out[a] /= factor[a, a]
        for c in range(a):
            out[c] -= factor[a, c] * out[a]
    return length


@njit(cache=True, fastmath=FAST)
def _add_square(x: Array, n: int, weight: float, at: Index, total: Array) -> None:
    """Add ``weight x x'`` to the lower triangle of ``total[at, at]``, columns ascending."""
    for a in range(n):
        value = weight * x[a]
        for b in range(a + 1):
            total[at[a], at[b]] += value * x[b]


@njit(cache=True)
def _slopes(
    columns: Index,
    n_columns: Index,
    count: Array,
    means: Array,
    rows: Array,
    start: Index,
    mu: Array,
    cov: Array,
    by_mean: Array,
    by_cov: Array,
) -> float:
    """Return the log-likelihood; add its slopes, those by the covariance in the lower triangle.

    ``by_mean`` (1 or K, p) and ``by_cov`` (1 or K, p, p): with K of them every pattern has its own.
    """
    p = len(mu)
    factor, scratch = np.empty((p, p)), np.empty((p, p))
    off, x = np.empty(p), np.empty(p)
    inverse = np.zeros((p, p))
    loglik = 0.0
    for k in range(len(count)):
        n, at, own = n_columns[k], columns[k], k if len(by_mean) > 1 else 0
        log_det = factor_part(cov, at, n, factor)
        if math.isnan(log_det):
            return np.nan
        for a in range(n):
            off[a] = means[k, a] - mu[at[a]]
        squares = count[k] * (_solve(factor, n, off, x) + log_det + n * LOG_2PI)
        for a in range(n):
            by_mean[own, at[a]] += count[k] * x[a]
        _add_square(x, n, 0.5 * count[k], at, by_cov[own])
        for r in range(start[k], start[k + 1]):
            squares += _solve(factor, n, rows[r], x)
            _add_square(x, n, 0.5, at, by_cov[own])
        loglik -= 0.5 * squares
        inverse[:] = 0.0
        add_inverse(factor, n, -0.5 * count[k], at, scratch, inverse)
        by_cov[own] += inverse
    return loglik


def _mirrored(by_cov: Array) -> Array:
    """Fill the upper triangle of (K, p, p) from the lower."""
    low = np.tril(by_cov)
    return np.asarray(low + np.swapaxes(np.tril(by_cov, -1), 1, 2))


def value_and_slopes(scores: Sufficient, mean: Array, cov: Array) -> tuple[float, Array, Array]:
    """Return the log-likelihood and its slopes by the mean (p,) and the covariance (p, p).

    A slope by the covariance is symmetric and meant entry by entry.

    Parameters
    ----------
    scores : Sufficient
    mean, cov : (p,), (p, p)
        Score points and squared score points.

    Returns
    -------
    float
        NaN where the covariance of some pattern is not positive definite.
    """
    p = len(mean)
    by_mean, by_cov = np.zeros((1, p)), np.zeros((1, p, p))
    loglik = _run(scores, mean, cov, by_mean, by_cov)
    return loglik, by_mean[0], _mirrored(by_cov)[0]


def slopes_by_client(Y: Array, mean: Array, cov: Array) -> tuple[Array, Array]:
    """Return every client's slopes by the mean (N, p) and by the covariance (N, p, p)."""
    n, p = Y.shape
    by_mean, by_cov = np.zeros((n, p)), np.zeros((n, p, p))
    _run(Sufficient.of(Y, each=True), mean, cov, by_mean, by_cov)
    return by_mean, _mirrored(by_cov)


def _run(scores: Sufficient, mean: Array, cov: Array, by_mean: Array, by_cov: Array) -> float:
    return float(
        _slopes(
            scores.columns,
            scores.n_columns,
            scores.count,
            scores.mean,
            scores.rows,
            scores.start,
            np.ascontiguousarray(mean),
            np.ascontiguousarray(cov),
            by_mean,
            by_cov,
        )
    )
