"""What the scaled chi-square needs from the saturated model and from the baseline.

The Yuan-Bentler statistic (Mplus variant, "MLR") divides the chi-square by the average of the
eigenvalues that make its null distribution a mixture. That average is a difference of traces::

    c = (tr(A1^-1 B1) - tr(A0^-1 B0)) / df

A = observed information (minus the Hessian of the log-likelihood) and B = sum of outer products
of the score, over clients or over clusters, each at its own maximum: 1 the saturated model, 0
the fitted one. A is taken at the unstructured moments for the saturated model. With C clusters
both B carry the factor C / (C - 1), as in lavaan; the traces here are without it, because in
several groups C counts the clusters of all.

References
----------
Yuan, K.-H., & Bentler, P. M. (2000). Three likelihood-based methods for mean and covariance
structure analysis with nonnormal missing data. Sociological Methodology, 30, 165-200.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.linalg import cho_factor, solve_triangular
from scipy.linalg.blas import dgemm

from alliancedyn.engine.cholesky import add_inverse, factor_part
from alliancedyn.engine.moments import Patterns, find_patterns
from alliancedyn.errors import SpecificationError

Array = NDArray[np.float64]
Index = NDArray[np.int64]

MOST_COLUMNS = 100  # 5,150 moments: three matrices of 212 MB
CHUNK = 2**22  # numbers held at a time while passing over the clients


@dataclass(frozen=True)
class _Chunk:
    """Some clients at the saturated moments.

    ``rows`` (R,) of the panel, ``pattern`` (R,) of each, ``weight`` (K, p, p) the inverse
    covariance of each pattern's observed columns, zero elsewhere, and ``pull`` (R, p) that
    inverse times the deviations: the score by the means.
    """

    rows: Index
    pattern: Index
    weight: Array
    pull: Array


@njit(cache=True)
def _inverse_by_pattern(cov: Array, seen: NDArray[np.bool_]) -> Array:
    """Invert ``cov`` over the observed columns of every pattern: (K, p, p), zero elsewhere."""
    n_patterns, p = seen.shape
    out = np.zeros((n_patterns, p, p))
    factor, scratch, at = np.empty((p, p)), np.empty((p, p)), np.empty(p, np.int64)
    for k in range(n_patterns):
        n = 0
        for j in range(p):
            if seen[k, j]:
                at[n] = j
                n += 1
        factor_part(cov, at, n, factor)
        add_inverse(factor, n, 1.0, at, scratch, out[k])
    return out


def _chunks(Y: Array, patterns: Patterns, mean: Array, cov: Array) -> Iterator[_Chunk]:
    """Pass over the clients in pattern order, a bounded number at a time."""
    size = max(1, CHUNK // len(mean) ** 2)
    of_row = np.repeat(np.arange(len(patterns.seen)), np.diff(patterns.start))
    for low in range(0, len(Y), size):
        rows, used = patterns.order[low : low + size], of_row[low : low + size]
        weight = _inverse_by_pattern(cov, patterns.seen[used[0] : used[-1] + 1])
        pattern = used - used[0]
        deviation = np.nan_to_num(Y[rows] - mean, nan=0.0)
        pull = np.empty_like(deviation)
        for k in range(len(weight)):
            block = slice(*np.searchsorted(pattern, [k, k + 1]))
            pull[block] = deviation[block] @ weight[k]
        yield _Chunk(rows, pattern, weight, pull)


@njit(cache=True)
def _casewise_scores(pull: Array, pattern: Index, weight: Array) -> Array:
    """Score of every client by (mean, lower triangle of the covariance): (R, p + p(p+1)/2).

    d l / d mu = g and d l / d Sigma = (g g' - W) / 2, an off-diagonal covariance counting twice.
    """
    n, p = pull.shape
    out = np.empty((n, p + p * (p + 1) // 2))
    for i in range(n):
        at = p
        for a in range(p):
            out[i, a] = pull[i, a]
            for b in range(a + 1):
                value = pull[i, a] * pull[i, b] - weight[pattern[i], a, b]
                out[i, at] = 0.5 * value if a == b else value
                at += 1
    return out


@njit(cache=True)
def _spread_information(table: Array, p: int, out: Array) -> None:
    """Fill the covariance block of the information from ``table``.

    ``table`` holds sum_k W_ab H_cd + H_ab W_cd by pairs (ab), (cd) of the lower triangle; the
    information between covariances (ij) and (kl) is half its sum over li, jk and the
    interchanges of i with j and of k with l where they differ.
    """
    row = p
    for i in range(p):
        for j in range(i + 1):
            column = p
            for k in range(p):
                for m in range(k + 1):
                    value = table[_at(m, i), _at(j, k)]
                    if i != j:
                        value += table[_at(m, j), _at(i, k)]
                    if k != m:
                        value += table[_at(k, i), _at(j, m)]
                        if i != j:
                            value += table[_at(k, j), _at(i, m)]
                    out[row, column] = 0.5 * value
                    column += 1
            row += 1


@njit(cache=True, inline="always")
def _at(a: int, b: int) -> int:
    """Place of (a, b) in the lower triangle, row by row."""
    return a * (a + 1) // 2 + b if a >= b else b * (b + 1) // 2 + a


def _information(Y: Array, patterns: Patterns, mean: Array, cov: Array) -> Array:
    """Observed information of the free moments, (q, q) with q = p(p+3)/2.

    Per client, with W the inverse covariance of the observed columns and g = W (y - mu)::

        -d2 l = dmu' W dmu + 2 dmu' W dSigma g + tr(W dSigma H dSigma),   H = g g' - W / 2
    """
    p = len(mean)
    low_a, low_b = np.tril_indices(p)
    table = np.zeros((len(low_a), len(low_a)))
    total_weight, cross = np.zeros((p, p)), np.zeros((len(low_a), p))
    for chunk in _chunks(Y, patterns, mean, cov):
        n_patterns = len(chunk.weight)
        count = np.bincount(chunk.pattern, minlength=n_patterns).astype(float)
        start = np.searchsorted(chunk.pattern, np.arange(n_patterns + 1))
        pull = [chunk.pull[low:high] for low, high in pairwise(start)]
        half = np.array([g.T @ g for g in pull]) - 0.5 * count[:, None, None] * chunk.weight
        weight, half = chunk.weight[:, low_a, low_b], half[:, low_a, low_b]
        # SciPy's products: NumPy's own threads, still spinning, would slow its Cholesky down.
        table += dgemm(1.0, half.T, weight.T, trans_b=True)
        total_weight += np.einsum("k,kab->ab", count, chunk.weight)
        summed = np.array([g.sum(axis=0) for g in pull])
        cross += dgemm(1.0, weight.T, summed.T, trans_b=True)
    out = np.zeros((p + len(low_a),) * 2)
    out[:p, :p] = total_weight
    out[:p, p:] = _mean_by_cov(cross, p)
    out[p:, :p] = out[:p, p:].T
    _spread_information(table + table.T, p, out)
    return out


def _mean_by_cov(cross: Array, p: int) -> Array:
    """Information between means a and covariances (bc): sum W_ab g_c + W_ac g_b."""
    full = np.empty((p, p, p))  # [a, b, c] = sum_k W_ab g_c
    low_a, low_b = np.tril_indices(p)
    full[low_a, low_b] = cross
    full[low_b, low_a] = cross
    both = full + full.transpose(0, 2, 1)
    block = both[:, low_a, low_b]
    block[:, low_a == low_b] /= 2.0
    return block


def saturated_trace(Y: Array, mean: Array, cov: Array, clusters: Index | None = None) -> float:
    """Compute tr(A1^-1 B1) of the saturated model.

    Time grows with clients x moments^2, memory with moments^2 (and clusters x moments): 860
    moments (20 sessions, 2 variables) of 500 clients take a fraction of a second and 20 MB.

    Parameters
    ----------
    Y : (N, p)
        Scores, score points, NaN = missing; every column observed by someone.
    mean, cov : (p,), (p, p)
        Saturated moments, score points and squared score points.
    clusters : (N,) int, optional
        Cluster codes; without them every client is a cluster.

    Returns
    -------
    float
        The trace; the number of moments if the scores are normal and clients independent.

    Raises
    ------
    SpecificationError
        If there are more than ``MOST_COLUMNS`` columns, or the observed information is singular.
    """
    if len(mean) > MOST_COLUMNS:
        raise SpecificationError(
            f"The scaled chi-square needs the information of p(p+3)/2 moments; it is not computed "
            f"above {MOST_COLUMNS} columns, and there are {len(mean)}. Restrict the sessions."
        )
    patterns = find_patterns(~np.isnan(Y))
    information = _information(Y, patterns, mean, cov)
    scale = 1.0 / np.sqrt(np.diag(information))
    try:
        factor, _ = cho_factor(information * np.outer(scale, scale), lower=True)
    except np.linalg.LinAlgError:
        raise SpecificationError(
            "The information about the free moments is singular, so the chi-square cannot be "
            "scaled. Restrict the sessions to those that more clients reached."
        ) from None
    summed = None if clusters is None else _ClusterSums(clusters, len(scale))
    trace = 0.0
    for chunk in _chunks(Y, patterns, mean, cov):
        scores = _casewise_scores(chunk.pull, chunk.pattern, chunk.weight)
        if summed is None:
            trace += _squared_length(factor, scores * scale)
        else:
            summed.add(scores * scale, chunk.rows)
    if summed is not None:
        trace = _squared_length(factor, summed.scores)
    return trace


def _squared_length(factor: Array, scores: Array) -> float:
    """Sum of s' (L L')^-1 s over the rows s of ``scores``."""
    whitened = solve_triangular(factor, scores.T, lower=True, check_finite=False)
    return float(np.sum(whitened * whitened))


class _ClusterSums:
    """Scores summed within clusters, clients arriving in any order."""

    def __init__(self, clusters: Index, n_params: int) -> None:
        labels, self.code = np.unique(clusters, return_inverse=True)
        self.scores = np.zeros((len(labels), n_params))

    def add(self, scores: Array, rows: Index) -> None:
        """Add the scores of some clients."""
        code = self.code[rows]
        order = np.argsort(code, kind="stable")
        first = np.flatnonzero(np.diff(code[order], prepend=-1))
        self.scores[code[order][first]] += np.add.reduceat(scores[order], first, axis=0)


def cluster_factor(n_clusters: int) -> float:
    """Return C / (C - 1), the factor on sums over clusters.

    Raises
    ------
    SpecificationError
        If there are fewer than two clusters.
    """
    if n_clusters < 2:
        raise SpecificationError(
            'Errors by cluster need at least two clusters. Use errors="robust" instead.'
        )
    return n_clusters / (n_clusters - 1.0)


def independence_trace(Y: Array, clusters: Index | None = None) -> float:
    """Compute tr(A^-1 B) of the baseline: free means and variances, no covariances.

    Its information is diagonal at the maximum (n_j / v_j and n_j / (2 v_j^2)), so that only the
    diagonal of B counts; z = (y - mean) / sd::

        trace = sum_j 1/n_j sum_c (sum_i z_ij)^2 + 1/(2 n_j) sum_c (sum_i z_ij^2 - 1)^2

    Parameters
    ----------
    Y : (N, p)
        Scores, score points, NaN = missing; every column varies.
    clusters : (N,) int, optional
        Cluster codes; without them every client is a cluster.

    Returns
    -------
    float
        The trace; 2p if the scores are normal and clients independent.
    """
    seen = ~np.isnan(Y)
    count = seen.sum(axis=0)
    z = (Y - np.nanmean(Y, axis=0)) / np.nanstd(Y, axis=0)
    by_mean, by_variance = np.where(seen, z, 0.0), np.where(seen, z * z - 1.0, 0.0)
    if clusters is not None:
        parts = []
        for scores in (by_mean, by_variance):
            summed = _ClusterSums(clusters, scores.shape[1])
            summed.add(scores, np.arange(len(Y)))
            parts.append(summed.scores)
        by_mean, by_variance = parts
    per_column = np.square(by_mean).sum(axis=0) + 0.5 * np.square(by_variance).sum(axis=0)
    return float(np.sum(per_column / count))
