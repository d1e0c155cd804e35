"""The (restricted) likelihood of a linear mixed model and two derivatives, from client statistics.

Cov(y) = sigma^2 V, V = I + Z Omega Z' per client, plus rho 1 1' per outer unit. With
W_i = I + Z_i Omega Z_i', M_i = I + R_i Omega R_i' and, in an outer unit g,

    a = sum 1'W_i^-1 1,   k = sum 1'W_i^-1 [X y],   f = rho / (1 + rho a),
    V_g^-1 = W^-1 - f W^-1 1 1'W^-1,   log|V_g| = sum log|M_i| + log(1 + rho a).

sigma^2 is profiled out. The profiled deviance

    d = log|V| + nu [1 + log(2 pi r'V^-1 r / nu)] + log|X'V^-1 X|     (the last under REML only)

is differentiated with V_kl = 0: for dV = Z E_k Z' (E_k a symmetric unit matrix) or 1 1',

    d_k  = tr V^-1 V_k - nu q_k / q - tr C S_k,
    d_kl = -tr V^-1 V_k V^-1 V_l + 2 tr C X'V^-1 V_k V^-1 V_l V^-1 X - tr C S_k C S_l
           + nu [2 r'V^-1 V_k V^-1 V_l V^-1 r - 2 g_k'C g_l] / q - nu q_k q_l / q^2,

q = r'V^-1 r, q_k = r'V^-1 V_k V^-1 r, C = (X'V^-1 X)^-1, S_k = X'V^-1 V_k V^-1 X,
g_k = X'V^-1 V_k V^-1 r: exact, at the cost of one more pass over the clients.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.mixed_kernels import Point, Sums, sum_derivatives, total_products
from alliancedyn.engine.mixed_rows import ClientStatistics

Array = NDArray[np.float64]
Codes = NDArray[np.intp]


@dataclass(frozen=True)
class Value:
    """The profiled deviance at (Omega, rho), and what estimation leaves behind there."""

    omega: Array  # (m, m)
    rho: float
    gamma: Array  # (p,) fixed effects
    cov: Array  # C = (X'V^-1 X)^-1
    squares: float  # q = r'V^-1 r
    freedom: int  # nu
    deviance: float


@dataclass(frozen=True)
class Slopes:
    """Derivatives of the profiled deviance with respect to the pairs of Omega, then rho.

    Pairs run 00, 01, .., 11, ..: the upper triangle row by row; rho is last where there is one.
    """

    gradient: Array  # (K,)
    hessian: Array  # (K, K)
    squares: Array  # (K,) q_k
    information: Array  # (K, p, p) S_k


def evaluate(stats: ClientStatistics, omega: Array, rho: float, reml: bool) -> Value:
    """Evaluate the profiled deviance at relative covariances ``omega`` (m, m) and ``rho``."""
    log_det, left = total_products(stats.root, stats.projected, stats.one, stats.blocks, omega, rho)
    if free := stats.free:
        alone = (stats.root[:free], stats.projected[:free], stats.one, stats.blocks[:0])
        more, beside = total_products(*alone, omega, 0.0)
        log_det, left = log_det + more, left + beside
    total = left + stats.scatter
    p = len(total) - 1
    factor = np.linalg.cholesky(total[:p, :p])
    inverse = np.linalg.inv(factor)
    half = inverse @ total[:p, p]
    gamma = inverse.T @ half
    direction = np.append(-gamma, 1.0)
    squares = float(direction @ total @ direction)
    freedom = stats.rows - (p if reml else 0)
    deviance = log_det + freedom * (1.0 + math.log(2.0 * math.pi * squares / freedom))
    deviance += 2.0 * float(np.log(np.diag(factor)).sum()) if reml else 0.0
    return Value(omega, rho, gamma, inverse.T @ inverse, squares, freedom, deviance)


def differentiate(stats: ClientStatistics, value: Value, reml: bool) -> Slopes:
    """Return gradient and Hessian of the profiled deviance at the point of ``value``."""
    m, p = len(stats.one), len(value.gamma)
    count = m * (m + 1) // 2 + (1 if len(stats.blocks) else 0)
    sums = Sums(
        trace=np.zeros((m, m)),
        square=np.zeros((m, m)),
        spread=np.zeros((m, m, m, m)),
        cross=np.zeros((count, p)),
        information=np.zeros((count, p, p)),
        outer=np.zeros((count, count)),
        along_rho=np.zeros(2),
    )
    at = point_of(value, reml)
    sum_derivatives(stats.root, stats.projected, stats.one, stats.blocks, at, sums)
    if free := stats.free:
        alone = (stats.root[:free], stats.projected[:free], stats.one, stats.blocks[:0])
        sum_derivatives(*alone, at, sums)
    return _assemble(sums, value, at.scale, reml)


def point_of(value: Value, reml: bool) -> Point:
    """Return the point of ``value`` as the compiled sums take it."""
    scale = value.freedom / value.squares
    return Point(value.omega, value.rho, value.gamma, value.cov, scale, reml)


def _assemble(sums: Sums, value: Value, scale: float, reml: bool) -> Slopes:
    """Put the derivatives together from their sums."""
    m, count = len(sums.trace), len(sums.cross)
    a, b = upper_pairs(m)
    inner = len(a)
    twice = np.where(a == b, 1.0, 2.0)
    trace, squares = np.empty(count), np.empty(count)
    trace[:inner], squares[:inner] = twice * sums.trace[a, b], twice * sums.square[a, b]
    if count > inner:
        trace[inner], squares[inner] = sums.along_rho
    information = _symmetrized(sums.information, a, b)
    explained = value.cov @ information  # C S_k
    gradient = trace - scale * squares
    hessian = sums.outer.copy()
    hessian[:inner, :inner] += _quartic(sums.spread)
    hessian -= 2.0 * scale * (sums.cross @ value.cov @ sums.cross.T)
    hessian -= value.freedom * np.outer(squares, squares) / value.squares**2
    if reml:
        gradient -= np.trace(explained, axis1=1, axis2=2)
        flat = explained.reshape(count, -1)
        hessian -= flat @ explained.transpose(0, 2, 1).reshape(count, -1).T
    return Slopes(gradient, 0.5 * (hessian + hessian.T), squares, information)


def _symmetrized(information: Array, a: Codes, b: Codes) -> Array:
    """Complete S_k: pairs a = b hold a lower triangle, pairs a < b one of two transposes."""
    whole = information.copy()
    inner, swapped = len(a), information.transpose(0, 2, 1)
    whole[:inner] += swapped[:inner]
    p = information.shape[1]
    same = np.flatnonzero(a == b)
    whole[same[:, None], np.arange(p), np.arange(p)] /= 2.0
    return whole


def _quartic(spread: Array) -> Array:
    """Return sum_i tr(E_k H_i E_l B_i) from sum_i H_ab B_cd, kept for a <= b and c <= d."""
    a, b = upper_pairs(len(spread))
    kept = spread[a, b][:, a, b]
    weight, left, right = _quartic_places(len(spread))
    return np.asarray((weight * kept[left, right]).sum(axis=0))


@functools.cache
def _quartic_places(m: int) -> tuple[Array, Codes, Codes]:
    """Return where tr(E_k H E_l B) = sum E_k[d, a] H[a, b] E_l[b, c] B[c, d] finds its terms.

    One term per way round of pair k and of pair l: weights and places of H_ab and B_cd among the
    pairs, each (4, K, K).
    """
    first, second = upper_pairs(m)
    pair = np.zeros((m, m), dtype=np.intp)
    pair[first, second] = pair[second, first] = np.arange(len(first))
    ways = [(first, second, 1.0), (second, first, (first != second).astype(np.float64))]
    weights, left, right = [], [], []
    for d, a, once in ways:
        for b, c, twice in ways:
            weights.append(np.outer(once * np.ones(len(a)), twice * np.ones(len(b))))
            left.append(pair[a[:, None], b[None, :]])
            right.append(pair[d[:, None], c[None, :]])
    return np.array(weights), np.array(left), np.array(right)


@functools.cache
def upper_pairs(m: int) -> tuple[Codes, Codes]:
    """Return the pairs a <= b of m columns, row by row."""
    return np.triu_indices(m)


@functools.cache
def lower_places(q: int) -> tuple[Codes, Codes]:
    """Return the places of a lower triangle, row by row."""
    return np.tril_indices(q)
