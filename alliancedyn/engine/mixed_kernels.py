"""The compiled sums over clients behind the likelihood of a linear mixed model.

The equations stand in :mod:`alliancedyn.engine.mixed_likelihood`, the batches of clients that the
sums run over in :mod:`alliancedyn.engine.mixed_batches`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.mixed_batches import Batch, batches, combine, make_batch, solve
from alliancedyn.engine.mixed_rows import compiled

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


class Point(NamedTuple):
    """Where the likelihood is evaluated."""

    omega: Array  # (m, m)
    rho: float
    gamma: Array  # (p,)
    cov: Array  # (p, p)
    scale: float  # nu / q
    reml: bool


class Sums(NamedTuple):
    """What the derivatives are made of, summed over clients and outer units."""

    trace: Array  # (m, m): Z'V^-1 Z
    square: Array  # (m, m): t t'
    spread: Array  # (m, m, m, m): H_ab B_cd
    cross: Array  # (K, p): g_k
    information: Array  # (K, p, p): S_k, without the transposed half where a < b
    outer: Array  # (K, K): what outer units add to the Hessian
    along_rho: Array  # (2,): tr V^-1 11', sum (1'V^-1 r)^2


@compiled
def log_product(det: Array, size: int, product: float) -> tuple[float, float]:
    """Multiply determinants into ``product``; return the logarithm of what would overflow."""
    log_det = 0.0
    for i in range(size):
        product *= det[i]
        if product > 1e100:
            log_det += math.log(product)
            product = 1.0
    return log_det, product


@compiled
def total_products(
    root: Array, projected: Array, one: Array, blocks: Codes, omega: Array, rho: float
) -> tuple[float, Array]:
    """Return log|V| and [X y]'V^-1 [X y] less the scatter within clients.

    With an outer level the scatter of the clients of a unit is taken around their weighted mean.
    """
    m, width = projected.shape[1], projected.shape[2]
    starts = batches(blocks, len(root))
    s = make_batch(starts, m, width - 1)
    total, mean = np.zeros((width, width)), np.zeros(width)
    log_det, product = 0.0, 1.0
    for g in range(len(starts) - 1):
        size = starts[g + 1] - starts[g]
        solve(root, projected, starts[g], size, omega, s)
        logged, product = log_product(s.det, size, product)
        log_det += logged
        if len(blocks):
            weight = _center(one, size, s, mean)
            log_det += math.log1p(rho * weight)
            pooled = weight / (1.0 + rho * weight)
            for a in range(width):
                for b in range(a + 1):
                    total[a, b] += pooled * mean[a] * mean[b]
        for a in range(width):
            for b in range(a + 1):
                for c in range(m):
                    dot = 0.0
                    for i in range(size):
                        dot += s.w[c, a, i] * s.w[c, b, i]
                    total[a, b] += dot
    for a in range(width):
        for b in range(a):
            total[b, a] = total[a, b]
    return log_det + math.log(product), total


@compiled
def _center(one: Array, size: int, s: Batch, mean: Array) -> float:
    """Take w around the unit's mean, weighted by W^-1; return the weight 1'W^-1 1."""
    m, width = s.w.shape[0], s.w.shape[1]
    weight = 0.0
    for b in range(width):
        mean[b] = 0.0
    for c in range(m):
        for i in range(size):
            s.h[c, i] = 0.0
        for a in range(m):
            for i in range(size):
                s.h[c, i] += s.v[c, a, i] * one[a]  # L^-1 R one
        for i in range(size):
            weight += s.h[c, i] * s.h[c, i]
        for b in range(width):
            dot = 0.0
            for i in range(size):
                dot += s.h[c, i] * s.w[c, b, i]
            mean[b] += dot
    for b in range(width):
        mean[b] /= weight
    for c in range(m):
        for b in range(width):
            for i in range(size):
                s.w[c, b, i] -= s.h[c, i] * mean[b]
    return weight


@compiled
def sum_derivatives(
    root: Array, projected: Array, one: Array, blocks: Codes, at: Point, out: Sums
) -> None:
    """Fill ``out`` with all that gradient and Hessian need of the clients."""
    m, p = projected.shape[1], projected.shape[2] - 1
    inner = m * (m + 1) // 2
    starts = batches(blocks, len(root))
    s = make_batch(starts, m, p)
    pulse = np.zeros(p + 1)
    hh, th, kh = np.zeros(inner), np.zeros(inner), np.zeros((inner, p))
    for g in range(len(starts) - 1):
        size = starts[g + 1] - starts[g]
        solve(root, projected, starts[g], size, at.omega, s)
        combine(size, s)
        f = 0.0
        if len(blocks):
            weight = remove_outer(one, at.rho, size, s, pulse)
            f = at.rho / (1.0 + at.rho * weight)
        residual_sums(at.gamma, size, s)
        _weigh(at, f, size, s)
        _add_clients(f, size, s, out)
        if len(blocks):
            _share(size, s, hh, th, kh)
            add_outer_unit(hh, th, kh, pulse, weight, at, out)


@compiled
def remove_outer(one: Array, rho: float, size: int, s: Batch, pulse: Array) -> float:
    """Turn K from Z'W^-1 [X y] into Z'V^-1 [X y]; fill h and pulse = 1'W^-1 [X y].

    Returns 1'W^-1 1.
    """
    m, width = s.K.shape[0], s.K.shape[1]
    weight = 0.0
    for b in range(width):
        pulse[b] = 0.0
    for a in range(m):
        for i in range(size):
            s.h[a, i] = 0.0
        for b in range(m):
            for i in range(size):
                s.h[a, i] += s.H[a, b, i] * one[b]
        for i in range(size):
            weight += one[a] * s.h[a, i]
        for b in range(width):
            dot = 0.0
            for i in range(size):
                dot += s.K[a, b, i]
            pulse[b] += one[a] * dot
    f = rho / (1.0 + rho * weight)
    for a in range(m):
        for b in range(width):
            for i in range(size):
                s.K[a, b, i] -= f * s.h[a, i] * pulse[b]
    return weight


@compiled
def residual_sums(gamma: Array, size: int, s: Batch) -> None:
    """Fill t = Z'V^-1 (y - X gamma)."""
    m, p = s.t.shape[0], len(gamma)
    for a in range(m):
        for i in range(size):
            s.t[a, i] = s.K[a, p, i]
        for b in range(p):
            for i in range(size):
                s.t[a, i] -= s.K[a, b, i] * gamma[b]


@compiled
def _weigh(at: Point, f: float, size: int, s: Batch) -> None:
    """Fill B = 2 scale t t' + 2 f h h' - H + 2 K C K' (the last under REML)."""
    m, p = s.CK.shape[0], s.CK.shape[1]
    for a in range(m):
        for b in range(m):
            for i in range(size):
                both = at.scale * s.t[a, i] * s.t[b, i] + f * s.h[a, i] * s.h[b, i]
                s.B[a, b, i] = 2.0 * both - s.H[a, b, i]
    if not at.reml:
        return
    for a in range(m):
        for b in range(p):
            for i in range(size):
                s.CK[a, b, i] = 0.0
            for c in range(p):
                for i in range(size):
                    s.CK[a, b, i] += s.K[a, c, i] * at.cov[c, b]
        for b in range(m):
            for c in range(p):
                for i in range(size):
                    s.B[a, b, i] += 2.0 * s.CK[a, c, i] * s.K[b, c, i]


@compiled
def _add_clients(f: float, size: int, s: Batch, out: Sums) -> None:
    """Add what each client contributes by itself."""
    m, p = s.CK.shape[0], s.CK.shape[1]
    k = 0
    for a in range(m):
        for b in range(a, m):
            trace, square = 0.0, 0.0
            for i in range(size):
                trace += s.H[a, b, i] - f * s.h[a, i] * s.h[b, i]
                square += s.t[a, i] * s.t[b, i]
            out.trace[a, b] += trace
            out.square[a, b] += square
            for c in range(m):
                for d in range(c, m):
                    dot = 0.0
                    for i in range(size):
                        dot += s.H[a, b, i] * s.B[c, d, i]
                    out.spread[a, b, c, d] += dot
            other = 0.0 if a == b else 1.0
            for c in range(p):
                dot = 0.0
                for i in range(size):
                    dot += s.t[a, i] * s.K[b, c, i] + other * s.t[b, i] * s.K[a, c, i]
                out.cross[k, c] += dot
                for d in range(c + 1 if a == b else p):
                    dot = 0.0
                    for i in range(size):
                        dot += s.K[a, c, i] * s.K[b, d, i]
                    out.information[k, c, d] += dot
            k += 1


@compiled
def _share(size: int, s: Batch, hh: Array, th: Array, kh: Array) -> None:
    """Fill sum h'E_k h, sum t'E_k h and sum K'E_k h over the clients of an outer unit."""
    m, p = s.CK.shape[0], s.CK.shape[1]
    k = 0
    for a in range(m):
        for b in range(a, m):
            half = 0.5 if a == b else 1.0
            alone, both = 0.0, 0.0
            for i in range(size):
                alone += s.h[a, i] * s.h[b, i]
                both += s.t[a, i] * s.h[b, i] + s.t[b, i] * s.h[a, i]
            hh[k], th[k] = 2.0 * half * alone, half * both
            for c in range(p):
                both = 0.0
                for i in range(size):
                    both += s.h[a, i] * s.K[b, c, i] + s.h[b, i] * s.K[a, c, i]
                kh[k, c] = half * both
            k += 1


@compiled
def add_outer_unit(
    hh: Array, th: Array, kh: Array, pulse: Array, weight: float, at: Point, out: Sums
) -> None:
    """Add what the clients of one outer unit share, and the derivatives along rho."""
    inner, p = len(kh), len(at.gamma)
    s = 1.0 / (1.0 + at.rho * weight)
    f = at.rho * s
    tau = pulse[p]
    for b in range(p):
        tau -= pulse[b] * at.gamma[b]
    tau *= s
    along, solved = np.empty((inner + 1, p)), np.zeros((inner + 1, p))
    for k in range(inner + 1):
        for b in range(p):
            along[k, b] = kh[k, b] if k < inner else s * pulse[b]
        for b in range(p):
            for c in range(p):
                solved[k, b] += along[k, c] * at.cov[c, b]
    for k in range(inner + 1):
        for j in range(inner + 1):
            total = 0.0
            if at.reml:
                for b in range(p):
                    total += 2.0 * along[k, b] * solved[j, b]
            if k < inner and j < inner:
                total = -f * (f * hh[k] * hh[j] + 2.0 * at.scale * th[k] * th[j] + total)
            elif k == inner and j == inner:
                total = weight * s * (-weight * s + 2.0 * at.scale * tau * tau + total)
            else:
                inside = min(k, j)
                total = s * (-s * hh[inside] + 2.0 * at.scale * th[inside] * tau + total)
            out.outer[k, j] += total
    for b in range(p):
        out.cross[inner, b] += along[inner, b] * tau
        for c in range(p):
            out.information[inner, b, c] += along[inner, b] * along[inner, c]
    out.along_rho[0] += weight * s
    out.along_rho[1] += tau * tau


@compiled
def sum_effects(
    root: Array, projected: Array, one: Array, blocks: Codes, at: Point
) -> tuple[Array, Array, Array]:
    """Return Z_i'V^-1 r (J, m), Z_i'V^-1 Z_i (J, m, m) and, per outer unit, 1'V^-1 [r 1]."""
    m, p = projected.shape[1], projected.shape[2] - 1
    starts = batches(blocks, len(root))
    s = make_batch(starts, m, p)
    sums, weights = np.empty((len(root), m)), np.empty((len(root), m, m))
    pulses, pulse = np.zeros((max(0, len(blocks) - 1), 2)), np.zeros(p + 1)
    for g in range(len(starts) - 1):
        size = starts[g + 1] - starts[g]
        solve(root, projected, starts[g], size, at.omega, s)
        combine(size, s)
        f = 0.0
        if len(blocks):
            weight = remove_outer(one, at.rho, size, s, pulse)
            f = at.rho / (1.0 + at.rho * weight)
            left = pulse[p]
            for b in range(p):
                left -= pulse[b] * at.gamma[b]
            pulses[g, 0] = left / (1.0 + at.rho * weight)
            pulses[g, 1] = weight / (1.0 + at.rho * weight)
        residual_sums(at.gamma, size, s)
        for a in range(m):
            for i in range(size):
                sums[starts[g] + i, a] = s.t[a, i]
            for b in range(m):
                for i in range(size):
                    weights[starts[g] + i, a, b] = s.H[a, b, i] - f * s.h[a, i] * s.h[b, i]
    return sums, weights, pulses
