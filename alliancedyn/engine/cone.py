"""Tests of covariances that may be zero: the cone of positive semidefinite matrices in a metric.

Where a covariance matrix is zero the parameter space is a cone K, and twice the gain in
log-likelihood converges not to a chi-square but to

    T(z) = z' M z - min over b in K of (z - b)' M (z - b),   z ~ N(0, M^-1),

M the information about the matrix with all other parameters profiled out (Chernoff, 1954; Self &
Liang, 1987). For a single variance K is a half-line and T is 0 half of the time; for a k x k
matrix K has a curved surface and the distribution has to be computed.

T is homogeneous: with z = r u, r^2 ~ chi-square(n) independent of the direction u, T(z) =
r^2 T(u). The tail is therefore averaged over directions only, P(T >= t) = mean of
P(chi-square(n) >= t / T(u)), which is smooth in t and accurate far out.

References
----------
Chernoff, H. (1954). On the distribution of the likelihood ratio. Annals of Mathematical
Statistics, 25, 573-578.

Self, S. G., & Liang, K.-Y. (1987). Asymptotic properties of maximum likelihood estimators and
likelihood ratio tests under nonstandard conditions. Journal of the American Statistical
Association, 82, 605-610.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

Array = NDArray[np.float64]

DRAWS = 20_000
ACCURATE = 1e-6  # of a projection, relative to its length: the distance is off by its square
OVERSHOOT = 1.7  # of a linear step
PASSES = 1000


@dataclass(frozen=True)
class TailBySimulation:
    """Null distribution of a likelihood ratio at a cone.

    Parameters
    ----------
    ratios : (D,)
        T(u) for random directions u.
    dimension : int
        Degrees of freedom n of the squared length.
    inside, outside : float
        Shares of draws that lie in the cone, and that project onto its apex.
    """

    ratios: Array
    dimension: int
    inside: float
    outside: float

    def p_value(self, statistic: float) -> float:
        """Return P(T >= statistic)."""
        if statistic <= 0.0:
            return 1.0
        counted = self.ratios[self.ratios > 0.0]
        tails = chdtrc(self.dimension, statistic / counted)
        return float(tails.sum() / len(self.ratios))


def likelihood_ratio_tail(
    metric: Array,
    spread: Array,
    n_free: int,
    sizes: Sequence[int],
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> TailBySimulation:
    """Simulate the null distribution of twice a gain in log-likelihood.

    Parameters
    ----------
    metric : (n, n)
        Information about the tested parameters, others profiled out: first ``n_free`` that may
        take any value, then the upper triangles of the covariance matrices, row by row.
    spread : (n, n)
        Covariance of their score; equal to ``metric`` where the scores are normal.
    n_free : int
        Parameters without a bound.
    sizes : sequence of int
        Order of each covariance matrix.
    rng : Generator
    draws : int
        Directions.
    """
    n = len(metric)
    g = rng.standard_normal((draws, n))
    s = (g / np.linalg.norm(g, axis=1, keepdims=True)) @ np.linalg.cholesky(spread).T
    gain = np.zeros(draws)
    own = metric[n_free:, n_free:]
    held = s[:, n_free:]
    if n_free:
        free, shared = metric[:n_free, :n_free], metric[:n_free, n_free:]
        step = np.linalg.solve(free, s[:, :n_free].T).T
        gain = np.einsum("ij,ij->i", s[:, :n_free], step)
        held = held - step @ shared
        own = own - shared.T @ np.linalg.solve(free, shared)
    z = np.linalg.solve(own, held.T).T
    b = project(z, own, sizes)
    away = z - b
    total = np.einsum("ij,ij->i", z, held)
    bound = np.maximum(total - np.einsum("ij,jk,ik->i", away, own, away), 0.0)
    apex = bound < 1e-7 * total
    within = np.einsum("ij,jk,ik->i", away, own, away) < 1e-14 * total
    ratios = gain + np.where(apex, 0.0, bound)
    return TailBySimulation(ratios, n, float(within.mean()), float(apex.mean()))


def project(z: Array, metric: Array, sizes: Sequence[int]) -> Array:
    """Project symmetric matrices onto the positive semidefinite ones, in a metric.

    Minimizes (z - b)' M (z - b) over b in the cone for every row of ``z``, by alternating
    directions: a linear step in the metric and a plain projection by eigenvalues take turns, in
    coordinates in which the metric is nearly round, so that a few dozen turns suffice.

    Parameters
    ----------
    z : (D, n)
        Upper triangles, row by row, of one or more matrices after another.
    metric : (n, n)
        M, positive definite.
    sizes : sequence of int
        Order of each matrix; n is the number of elements in their upper triangles.

    Returns
    -------
    (D, n)
        The projections.
    """
    into, back = _round_coordinates(metric, sizes)
    M = back.T @ metric @ back
    values, vectors = np.linalg.eigh(M)
    rho = float(np.sqrt(values[0] * values[-1]))
    linear = (vectors * (1.0 / (values + rho))) @ vectors.T
    target = z @ into.T
    pull = target @ M
    length = np.maximum(np.linalg.norm(target, axis=1), 1e-300)
    b = _positive_part(target, sizes)
    dual = np.zeros_like(b)
    left = np.arange(len(z))
    for _ in range(PASSES):
        x = (pull[left] + rho * (b[left] - dual[left])) @ linear
        x = OVERSHOOT * x + (1.0 - OVERSHOOT) * b[left]
        moved = _positive_part(x + dual[left], sizes)
        dual[left] += x - moved
        gap = np.linalg.norm(x - moved, axis=1) + np.linalg.norm(moved - b[left], axis=1)
        b[left] = moved
        left = left[gap > ACCURATE * length[left]]
        if not len(left):
            break
    return b @ back.T


def _cuts(sizes: Sequence[int]) -> list[tuple[int, slice]]:
    edges = np.cumsum([0, *(k * (k + 1) // 2 for k in sizes)])
    return [(k, slice(int(a), int(c))) for k, (a, c) in zip(sizes, pairwise(edges), strict=True)]


def _positive_part(s: Array, sizes: Sequence[int]) -> Array:
    """Set negative eigenvalues to zero; elements off the diagonal come times the root of 2."""
    out = np.empty_like(s)
    for k, cut in _cuts(sizes):
        if k == 1:
            out[:, cut] = np.maximum(s[:, cut], 0.0)
            continue
        rows, columns = np.triu_indices(k)
        weight = np.where(rows == columns, 1.0, np.sqrt(2.0))
        full = np.empty((len(s), k, k))
        full[:, rows, columns] = full[:, columns, rows] = s[:, cut] / weight
        values, vectors = np.linalg.eigh(full)
        kept = vectors * np.maximum(values, 0.0)[:, None, :]
        positive = kept @ np.swapaxes(vectors, 1, 2)
        out[:, cut] = positive[:, rows, columns] * weight
    return out


def _round_coordinates(metric: Array, sizes: Sequence[int]) -> tuple[Array, Array]:
    """Return the linear maps (n, n) into coordinates in which the metric is nearly round, and back.

    Each matrix B is written as A C A', which keeps the cone; A is chosen so that the metric's
    contraction over one index is the unit matrix. Elements of C off the diagonal are multiplied by
    the root of 2, so that plain distances count every entry once.
    """
    n = len(metric)
    back = np.zeros((n, n))
    for k, cut in _cuts(sizes):
        rows, columns = np.triu_indices(k)
        at = np.arange(len(rows))
        elements = np.zeros((len(rows), k, k))  # of a matrix, from its upper triangle
        elements[at, rows, columns] = elements[at, columns, rows] = 1.0
        once = np.where(rows == columns, 1.0, 0.5)[:, None, None] * elements
        form = np.einsum("aij,ab,blm->ijlm", once, metric[cut, cut], once)
        A = np.eye(k)
        for _ in range(20):
            turned = np.einsum("ijlm,ia,jb,lc,md->abcd", form, A, A, A, A, optimize=True)
            values, vectors = np.linalg.eigh(np.einsum("abcb->ac", turned))
            A = A @ (vectors * values**-0.25) @ vectors.T
        weight = np.where(rows == columns, 1.0, np.sqrt(0.5))
        moved = (A @ elements @ A.T)[:, rows, columns]
        back[cut, cut] = (moved * weight[:, None]).T
    return np.asarray(np.linalg.inv(back)), back
