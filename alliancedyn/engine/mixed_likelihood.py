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

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.mixed_rows import ClientStatistics, compiled

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


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
    log_information: float  # log|X'V^-1 X|


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
    dims = (0,) * len(stats.one)
    if len(stats.blocks):
        log_det, left = _value_outer(
            dims, stats.root, stats.projected, stats.one, stats.blocks, omega, rho
        )
    else:
        log_det, left = _value(dims, stats.root, stats.projected, omega)
    total = left + stats.scatter
    p = len(total) - 1
    factor = np.linalg.cholesky(total[:p, :p])
    inverse = np.linalg.inv(factor)
    half = inverse @ total[:p, p]
    gamma = inverse.T @ half
    direction = np.append(-gamma, 1.0)
    squares = float(direction @ total @ direction)
    freedom = stats.rows - (p if reml else 0)
    log_information = 2.0 * float(np.log(np.diag(factor)).sum())
    deviance = log_det + freedom * (1.0 + math.log(2.0 * math.pi * squares / freedom))
    deviance += log_information if reml else 0.0
    return Value(
        omega, rho, gamma, inverse.T @ inverse, squares, freedom, deviance, log_information
    )


def differentiate(stats: ClientStatistics, value: Value, reml: bool) -> Slopes:
    """Return gradient and Hessian of the profiled deviance at the point of ``value``."""
    m, p = len(stats.one), len(value.gamma)
    pairs = np.array([(a, b) for a in range(m) for b in range(a, m)])
    count = len(pairs) + (1 if len(stats.blocks) else 0)
    scale = value.freedom / value.squares
    out = _Accumulators(m, p, count)
    _derivatives(
        (0,) * m,
        stats.root,
        stats.projected,
        stats.one,
        stats.blocks,
        value.omega,
        value.rho,
        value.gamma,
        value.cov,
        scale,
        reml,
        pairs,
        *out.arrays,
    )
    return out.assemble(value, pairs, scale, reml)


class _Accumulators:
    """Sums over clients that the compiled pass fills, and how they make up the derivatives."""

    def __init__(self, m: int, p: int, count: int) -> None:
        self.trace = np.zeros((m, m))  # Z'V^-1 Z
        self.square = np.zeros((m, m))  # t t', t = Z'V^-1 r
        self.spread = np.zeros((m, m, m, m))  # H (x) B
        self.cross = np.zeros((count, p))  # g_k
        self.information = np.zeros((count, p, p))  # S_k, not yet symmetric
        self.outer = np.zeros((count, count))  # what outer units add to the Hessian
        self.rho = np.zeros(2)  # tr V^-1 11', sum (1'V^-1 r)^2

    @property
    def arrays(self) -> tuple[Array, ...]:
        return (
            self.trace,
            self.square,
            self.spread,
            self.cross,
            self.information,
            self.outer,
            self.rho,
        )

    def assemble(self, value: Value, pairs: Codes, scale: float, reml: bool) -> Slopes:
        count, inner = len(self.cross), len(pairs)
        basis = symmetric_basis(pairs, len(self.trace))
        trace, squares = np.empty(count), np.empty(count)
        trace[:inner] = np.einsum("kab,ab->k", basis, self.trace)
        squares[:inner] = np.einsum("kab,ab->k", basis, self.square)
        if count > inner:
            trace[inner], squares[inner] = self.rho
        swapped = self.information.transpose(0, 2, 1)
        off = np.append(pairs[:, 0] != pairs[:, 1], np.zeros(count - inner, dtype=bool))
        information = np.where(off[:, None, None], self.information + swapped, self.information)
        explained = value.cov @ information  # C S_k
        gradient = trace - scale * squares
        hessian = self.outer.copy()
        # tr(E_k H E_l B), with sums over clients of H_ab B_cd at hand
        hessian[:inner, :inner] += np.einsum(
            "kda,abcd,lbc->kl", basis, self.spread, basis, optimize=True
        )
        hessian -= 2.0 * scale * (self.cross @ value.cov @ self.cross.T)
        hessian -= value.freedom * np.outer(squares, squares) / value.squares**2
        if reml:
            gradient -= np.trace(explained, axis1=1, axis2=2)
            hessian -= np.einsum("kab,lba->kl", explained, explained)
        return Slopes(gradient, 0.5 * (hessian + hessian.T), squares, information)


def symmetric_basis(pairs: Codes, m: int) -> Array:
    """Return E_k (K, m, m): ones at the places (a, b) and (b, a) of each pair."""
    basis = np.zeros((len(pairs), m, m))
    for k, (a, b) in enumerate(pairs):
        basis[k, a, b] = basis[k, b, a] = 1.0
    return basis


@compiled
def _factor(dims: tuple[int, ...], R: Array, omega: Array, Y: Array, L: Array) -> float:
    """Fill L with the Cholesky factor of I + R Omega R', its diagonal inverted; return |.|."""
    m = len(dims)
    for a in range(m):
        for b in range(m):
            total = 0.0
            for c in range(a, m):  # R is upper triangular
                total += R[a, c] * omega[c, b]
            Y[a, b] = total
    product = 1.0
    for a in range(m):
        for b in range(a + 1):
            total = 1.0 if a == b else 0.0
            for c in range(b, m):
                total += Y[a, c] * R[b, c]
            for c in range(b):
                total -= L[a, c] * L[b, c]
            if a == b:
                product *= total
                L[a, a] = 1.0 / math.sqrt(total)
            else:
                L[a, b] = total * L[b, b]
    return product


@compiled
def _solve_lower(dims: tuple[int, ...], L: Array, P: Array, w: Array) -> None:
    """Fill w with L^-1 P; the diagonal of L is held inverted."""
    m = len(dims)
    for a in range(m):
        for b in range(P.shape[1]):
            total = P[a, b]
            for c in range(a):
                total -= L[a, c] * w[c, b]
            w[a, b] = total * L[a, a]


@compiled
def _value(
    dims: tuple[int, ...], root: Array, projected: Array, omega: Array
) -> tuple[float, Array]:
    """Return log|V| and sum_i P_i'M_i^-1 P_i."""
    m, width = len(dims), projected.shape[2]
    Y, L, w = np.empty((m, m)), np.empty((m, m)), np.empty((m, width))
    total = np.zeros((width, width))
    log_det, product = 0.0, 1.0
    for i in range(len(root)):
        product *= _factor(dims, root[i], omega, Y, L)
        if product > 1e100:
            log_det += math.log(product)
            product = 1.0
        _solve_lower(dims, L, projected[i], w)
        for c in range(m):
            for a in range(width):
                for b in range(a + 1):
                    total[a, b] += w[c, a] * w[c, b]
    for a in range(width):
        for b in range(a):
            total[b, a] = total[a, b]
    return log_det + math.log(product), total


@compiled
def _value_outer(
    dims: tuple[int, ...],
    root: Array,
    projected: Array,
    one: Array,
    blocks: Codes,
    omega: Array,
    rho: float,
) -> tuple[float, Array]:
    """Return log|V| and the same sum, the scatter of clients taken around their outer unit."""
    m, width = len(dims), projected.shape[2]
    longest = 0
    for g in range(len(blocks) - 1):
        longest = max(longest, blocks[g + 1] - blocks[g])
    Y, L, o = np.empty((m, m)), np.empty((m, m)), np.empty((m, 1))
    w, u = np.empty((longest, m, width)), np.empty((longest, m, 1))
    mean = np.empty(width)
    total = np.zeros((width, width))
    log_det, product = 0.0, 1.0
    for g in range(len(blocks) - 1):
        weight = 0.0
        mean[:] = 0.0
        size = blocks[g + 1] - blocks[g]
        for place in range(size):
            i = blocks[g] + place
            product *= _factor(dims, root[i], omega, Y, L)
            if product > 1e100:
                log_det += math.log(product)
                product = 1.0
            _solve_lower(dims, L, projected[i], w[place])
            for a in range(m):
                o[a, 0] = 0.0
                for c in range(a, m):
                    o[a, 0] += root[i, a, c] * one[c]
            _solve_lower(dims, L, o, u[place])
            for c in range(m):
                weight += u[place, c, 0] ** 2
                for a in range(width):
                    mean[a] += u[place, c, 0] * w[place, c, a]
        for a in range(width):
            mean[a] /= weight
        for place in range(size):
            for c in range(m):
                for a in range(width):
                    w[place, c, a] -= u[place, c, 0] * mean[a]
                for a in range(width):
                    for b in range(a + 1):
                        total[a, b] += w[place, c, a] * w[place, c, b]
        log_det += math.log1p(rho * weight)
        pooled = weight / (1.0 + rho * weight)
        for a in range(width):
            for b in range(a + 1):
                total[a, b] += pooled * mean[a] * mean[b]
    for a in range(width):
        for b in range(a):
            total[b, a] = total[a, b]
    return log_det + math.log(product), total


@compiled
def reduce_client(
    dims: tuple[int, ...],
    R: Array,
    P: Array,
    omega: Array,
    work: tuple[Array, Array, Array, Array],
    H: Array,
    K: Array,
) -> None:
    """Fill H = Z'W^-1 Z (m, m) and K = Z'W^-1 [X y] (m, p + 1) of one client."""
    m, width = len(dims), P.shape[1]
    Y, L, w, v = work
    _factor(dims, R, omega, Y, L)
    _solve_lower(dims, L, P, w)
    _solve_lower(dims, L, R, v)
    for a in range(m):
        for b in range(a + 1):
            total = 0.0
            for c in range(m):
                total += v[c, a] * v[c, b]
            H[a, b] = H[b, a] = total
        for b in range(width):
            K[a, b] = 0.0
        for c in range(m):
            for b in range(width):
                K[a, b] += v[c, a] * w[c, b]


@compiled
def _derivatives(
    dims: tuple[int, ...],
    root: Array,
    projected: Array,
    one: Array,
    blocks: Codes,
    omega: Array,
    rho: float,
    gamma: Array,
    cov: Array,
    scale: float,
    reml: bool,
    pairs: Codes,
    trace: Array,
    square: Array,
    spread: Array,
    cross: Array,
    information: Array,
    outer: Array,
    along_rho: Array,
) -> None:
    m, p, inner = len(dims), len(gamma), len(pairs)
    nested = len(blocks) > 0
    units = len(blocks) - 1 if nested else len(root)
    longest = 1
    for g in range(len(blocks) - 1):
        longest = max(longest, blocks[g + 1] - blocks[g])
    work = (np.empty((m, m)), np.empty((m, m)), np.empty((m, p + 1)), np.empty((m, m)))
    H, K = np.empty((longest, m, m)), np.empty((longest, m, p + 1))
    B, t, h, CK = np.empty((m, m)), np.empty(m), np.zeros(m), np.empty((m, p))
    pulse = np.empty(p + 1)
    hh, th, kh = np.zeros(inner), np.zeros(inner), np.zeros((inner, p))
    for g in range(units):
        first = blocks[g] if nested else g
        size = blocks[g + 1] - first if nested else 1
        weight, f, s = 0.0, 0.0, 1.0
        pulse[:] = 0.0
        for place in range(size):
            reduce_client(
                dims,
                root[first + place],
                projected[first + place],
                omega,
                work,
                H[place],
                K[place],
            )
            if nested:
                for a in range(m):
                    for b in range(m):
                        weight += one[a] * H[place, a, b] * one[b]
                    for b in range(p + 1):
                        pulse[b] += one[a] * K[place, a, b]
        if nested:
            s = 1.0 / (1.0 + rho * weight)
            f = rho * s
            hh[:] = 0.0
            th[:] = 0.0
            kh[:] = 0.0
        for place in range(size):
            Hi, Ki = H[place], K[place]
            if nested:
                for a in range(m):
                    h[a] = 0.0
                    for b in range(m):
                        h[a] += Hi[a, b] * one[b]
                    for b in range(p + 1):
                        Ki[a, b] -= f * h[a] * pulse[b]
            for a in range(m):
                t[a] = Ki[a, p]
                for b in range(p):
                    t[a] -= Ki[a, b] * gamma[b]
            for a in range(m):
                for b in range(a + 1):
                    B[a, b] = 2.0 * (scale * t[a] * t[b] + f * h[a] * h[b]) - Hi[a, b]
                    trace[a, b] += Hi[a, b] - f * h[a] * h[b]
                    square[a, b] += t[a] * t[b]
            if reml:
                for a in range(m):
                    for b in range(p):
                        CK[a, b] = 0.0
                    for c in range(p):
                        for b in range(p):
                            CK[a, b] += Ki[a, c] * cov[c, b]
                    for b in range(a + 1):
                        total = 0.0
                        for c in range(p):
                            total += CK[a, c] * Ki[b, c]
                        B[a, b] += 2.0 * total
            for a in range(m):
                for b in range(a):
                    B[b, a] = B[a, b]
            for a in range(m):
                for b in range(m):
                    for c in range(m):
                        for d in range(m):
                            spread[a, b, c, d] += Hi[a, b] * B[c, d]
            k = 0
            for a in range(m):
                for b in range(a, m):
                    for c in range(p):
                        cross[k, c] += t[a] * Ki[b, c]
                        if a != b:
                            cross[k, c] += t[b] * Ki[a, c]
                        for d in range(p):
                            information[k, c, d] += Ki[a, c] * Ki[b, d]
                    k += 1
            if nested:
                k = 0
                for a in range(m):
                    for b in range(a, m):
                        twice = 1.0 if a == b else 2.0
                        half = 0.5 * twice
                        hh[k] += twice * h[a] * h[b]
                        th[k] += half * (t[a] * h[b] + t[b] * h[a])
                        for c in range(p):
                            kh[k, c] += half * (h[a] * Ki[b, c] + h[b] * Ki[a, c])
                        k += 1
        if nested:
            tau = pulse[p]
            for b in range(p):
                tau -= pulse[b] * gamma[b]
            tau *= s
            _add_outer_unit(
                hh, th, kh, pulse, cov, weight, rho, tau, scale, reml, cross, information, outer
            )
            along_rho[0] += weight * s
            along_rho[1] += tau * tau
    for a in range(m):
        for b in range(a):
            trace[b, a] = trace[a, b]
            square[b, a] = square[a, b]


@compiled
def _add_outer_unit(
    hh: Array,
    th: Array,
    kh: Array,
    pulse: Array,
    cov: Array,
    weight: float,
    rho: float,
    tau: float,
    scale: float,
    reml: bool,
    cross: Array,
    information: Array,
    outer: Array,
) -> None:
    """Add what the clients of one outer unit share to the second derivatives.

    hh, th and kh hold sum h'E_k h, sum t'E_k h and sum K'E_k h over its clients, h = Z'W^-1 1;
    pulse is 1'W^-1 [X y], tau = 1'V^-1 r.
    """
    inner, p = kh.shape
    s = 1.0 / (1.0 + rho * weight)
    f = rho * s
    solved = np.zeros((inner + 1, p))
    for k in range(inner + 1):
        for b in range(p):
            for c in range(p):
                solved[k, b] += cov[b, c] * (kh[k, c] if k < inner else s * pulse[c])
    for k in range(inner + 1):
        for j in range(inner + 1):
            total = 0.0
            if reml:
                for b in range(p):
                    total += (kh[k, b] if k < inner else s * pulse[b]) * solved[j, b]
            if k < inner and j < inner:
                total = -f * (f * hh[k] * hh[j] + 2.0 * scale * th[k] * th[j] + 2.0 * total)
            elif k == inner and j == inner:
                total = weight * s * (-weight * s + 2.0 * scale * tau * tau + 2.0 * total)
            else:
                inside = min(k, j)
                total = s * (-s * hh[inside] + 2.0 * scale * th[inside] * tau + 2.0 * total)
            outer[k, j] += total
    for b in range(p):
        cross[inner, b] += s * pulse[b] * tau
        for c in range(p):
            information[inner, b, c] += s * s * pulse[b] * pulse[c]
