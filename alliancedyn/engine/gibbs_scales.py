"""Moves of SDs and correlations with client effects integrated out, one at a time, by slices.

What is known of the effects of unit i is an estimate with noise of covariance N_i around
N(c_i, V), V = D R D. With H_i = (N_i + V)^-1 and g_i = H_i (estimate - c_i), one new SD or
correlation changes V by U K U', with U of two columns, and the log-likelihood by ::

    -1/2 log |I + K U'H_i U| + 1/2 g_i'U (I + K U'H_i U)^-1 K U'g_i

so that a slice costs a few flops per unit and evaluation, and H_i and g_i follow by one rank-two
update. Effects that are known exactly are the case N_i = 0, a known sum of squares the case of
one unit of weight n. The correlations keep to the interval on which R is positive definite.

References
----------
Neal, R. M. (2003). Slice sampling. Annals of Statistics, 31, 705-767.
Lewandowski, D., Kurowicka, D., & Joe, H. (2009). Generating random correlation matrices based on
vines and extended onion method. Journal of Multivariate Analysis, 100, 1989-2001.
"""

from __future__ import annotations

import math

import numpy as np

from alliancedyn.engine.gibbs_small import (
    Array,
    Flags,
    compiled,
    covariance,
    factor_semidefinite,
    inverse,
    multiply,
    uniform,
)

LOG_EVERY = 8  # one logarithm for the product of so many determinants
STEPS = 30  # how often a slice is widened at most
STRETCH = 3.0  # width of a slice in mean moves; learned while tuning
LEARN = 0.05


@compiled
def _project(H: Array, g: Array, a: int, u: Array, parts: Array) -> None:
    """Store U'H U and U'g g'U of every unit, U = [e_a, u]: parts (n, 6)."""
    n, p, columns = g.shape
    for i in range(n):
        h01 = 0.0
        h11 = 0.0
        for r in range(p):
            if u[r] != 0.0:
                h01 += H[i, a, r] * u[r]
                for c in range(p):
                    h11 += u[r] * H[i, r, c] * u[c]
        parts[i, 0], parts[i, 1], parts[i, 2] = H[i, a, a], h01, h11
        parts[i, 3:] = 0.0
        for c in range(columns):
            along = 0.0
            for r in range(p):
                along += u[r] * g[i, r, c]
            parts[i, 3] += g[i, a, c] * g[i, a, c]
            parts[i, 4] += g[i, a, c] * along
            parts[i, 5] += along * along


@compiled
def _gain(parts: Array, weight: float, k00: float, k01: float) -> float:
    """Change of the log-likelihood under K = [[k00, k01], [k01, 0]]."""
    logs = 0.0
    product = 1.0
    quadratic = 0.0
    for i in range(parts.shape[0]):
        h00, h01, h11 = parts[i, 0], parts[i, 1], parts[i, 2]
        G00, G01, G11 = parts[i, 3], parts[i, 4], parts[i, 5]
        m00 = 1.0 + k00 * h00 + k01 * h01
        m01 = k00 * h01 + k01 * h11
        m10 = k01 * h00
        m11 = 1.0 + k01 * h01
        det = m00 * m11 - m01 * m10
        if not det > 0.0:
            return -np.inf
        first = m11 * (k00 * G00 + k01 * G01) - m01 * k01 * G00
        second = m00 * k01 * G01 - m10 * (k00 * G01 + k01 * G11)
        quadratic += (first + second) / det
        product *= det
        if i % LOG_EVERY == LOG_EVERY - 1:
            logs += math.log(product)
            product = 1.0
    return 0.5 * quadratic - 0.5 * weight * (logs + math.log(product))


@compiled
def _update(
    H: Array, g: Array, a: int, u: Array, parts: Array, k00: float, k01: float
) -> None:  # fmt: skip
    """Carry H and g of every unit over to the new V."""
    n, p, columns = g.shape
    left = np.empty((p, 2))
    for i in range(n):
        h00, h01, h11 = parts[i, 0], parts[i, 1], parts[i, 2]
        m00 = 1.0 + k00 * h00 + k01 * h01
        m01 = k00 * h01 + k01 * h11
        m11 = 1.0 + k01 * h01
        det = m00 * m11 - m01 * k01 * h00
        c00, c01, c11 = (m11 * k00 - m01 * k01) / det, m11 * k01 / det, -k01 * h00 * k01 / det
        for r in range(p):
            left[r, 0] = H[i, r, a]
            left[r, 1] = 0.0
            for c in range(p):
                left[r, 1] += H[i, r, c] * u[c]
        for c in range(columns):
            along = 0.0
            for r in range(p):
                along += u[r] * g[i, r, c]
            x = c00 * g[i, a, c] + c01 * along
            y = c01 * g[i, a, c] + c11 * along
            for r in range(p):
                g[i, r, c] -= left[r, 0] * x + left[r, 1] * y
        for r in range(p):
            x = c00 * left[r, 0] + c01 * left[r, 1]
            y = c01 * left[r, 0] + c11 * left[r, 1]
            for c in range(p):
                H[i, r, c] -= x * left[c, 0] + y * left[c, 1]


@compiled
def _sd_target(x: float, sd: float, var: float, scale: float, parts: Array, weight: float) -> float:
    """Log density of an SD x, its present value apart; half-normal prior."""
    if x <= 0.0:
        return -np.inf
    s = x / sd
    return _gain(parts, weight, (s * s - 1.0) * var, s - 1.0) - 0.5 * (x / scale) ** 2


@compiled
def _slice_sd(sd: float, scale: float, width: float, parts: Array, weight: float) -> float:
    """Draw an SD: step out, shrink."""
    var = sd * sd
    level = -0.5 * (sd / scale) ** 2 + math.log(uniform())
    low = sd - width * uniform()
    high = low + width
    for _ in range(STEPS):
        if low <= 0.0 or _sd_target(low, sd, var, scale, parts, weight) <= level:
            break
        low -= width
    for _ in range(STEPS):
        if _sd_target(high, sd, var, scale, parts, weight) <= level:
            break
        high += width
    low = max(low, 0.0)
    while high - low > 1e-13 * high:
        x = low + uniform() * (high - low)
        if _sd_target(x, sd, var, scale, parts, weight) > level:
            return x
        if x < sd:
            low = x
        else:
            high = x
    return sd


@compiled
def _slice_corr(
    between: float, root: float, spread: float, lkj: float, parts: Array, weight: float
) -> float:  # fmt: skip
    """Draw the change of a correlation on the interval where |R| > 0; LKJ prior.

    |R| changes by the factor (1 + x b)^2 - x^2 r^2, b = R^-1[a, b], r^2 = R^-1[a, a] R^-1[b, b];
    the covariance by ``spread`` x.
    """
    low, high = -1.0 / (root + between), 1.0 / (root - between)
    level = math.log(uniform())
    while high - low > 1e-14:
        x = low + uniform() * (high - low)
        det = (1.0 + x * between) ** 2 - (x * root) ** 2
        if det > 0.0:
            value = _gain(parts, weight, 0.0, spread * x) + (lkj - 1.0) * math.log(det)
            if value > level:
                return x
        if x < 0.0:
            low = x
        else:
            high = x
    return 0.0


@compiled
def _move_sd(
    j: int, V: Array, sd: Array, H: Array, g: Array, weight: float, scale: float, width: Array,
    tuning: bool, parts: Array, u: Array
) -> None:  # fmt: skip
    """Move one SD; V, H, g and the width of its slice follow."""
    p = V.shape[0]
    for r in range(p):
        u[r] = V[r, j] if r != j else 0.0
    _project(H, g, j, u, parts)
    new = _slice_sd(sd[j], scale, width[j], parts, weight)
    if tuning:
        width[j] += LEARN * (STRETCH * abs(new - sd[j]) - width[j])
        width[j] = max(width[j], 1e-4 * scale)
    s = new / sd[j]
    _update(H, g, j, u, parts, (s * s - 1.0) * V[j, j], s - 1.0)
    for r in range(p):
        V[r, j] *= s
    for r in range(p):
        V[j, r] *= s
    sd[j] = new


@compiled
def _move_corr(
    a: int, b: int, V: Array, sd: Array, corr: Array, H: Array, g: Array, weight: float,
    lkj: float, parts: Array, u: Array
) -> None:  # fmt: skip
    """Move one correlation; V, H and g follow."""
    u[:] = 0.0
    u[b] = 1.0
    _project(H, g, a, u, parts)
    inverted = inverse(corr)
    root = math.sqrt(inverted[a, a] * inverted[b, b])
    spread = sd[a] * sd[b]
    x = _slice_corr(inverted[a, b], root, spread, lkj, parts, weight)
    _update(H, g, a, u, parts, 0.0, spread * x)
    corr[a, b] += x
    corr[b, a] = corr[a, b]
    V[a, b] += spread * x
    V[b, a] = V[a, b]


@compiled
def move_covariance(
    V: Array, sd: Array, corr: Array, free: Flags, H: Array, g: Array, weight: float, start: int,
    stop: int, scale: Array, lkj: float, width: Array, tuning: bool
) -> None:  # fmt: skip
    """Move the SDs start .. stop and every free correlation that involves one of them.

    Parameters
    ----------
    V, sd, corr : (p, p), (p,), (p, p)
        Covariance, SDs, correlations; overwritten.
    free : (p, p) bool
        Correlations that are not fixed at 0.
    H, g : (n, p, p), (n, p, columns)
        Of every unit; overwritten. Columns add up.
    weight : float
        How many times each unit counts in the determinant.
    scale, lkj
        Half-normal scales of the SDs, shape of the correlations.
    width : (p,)
        Widths of the slices, learned while ``tuning``.
    """
    p = V.shape[0]
    parts = np.empty((H.shape[0], 6))
    u = np.empty(p)
    for j in range(start, stop):
        _move_sd(j, V, sd, H, g, weight, scale[j], width, tuning, parts, u)
    for a in range(p):
        for b in range(a + 1, p):
            touched = (start <= a < stop) or (start <= b < stop)
            if free[a, b] and touched:
                _move_corr(a, b, V, sd, corr, H, g, weight, lkj, parts, u)


@compiled
def move_from_scatter(
    sd: Array, corr: Array, free: Flags, scatter: Array, n: float, start: int, stop: int,
    scale: Array, lkj: float, width: Array, tuning: bool
) -> None:  # fmt: skip
    """Move SDs and correlations given the sum of squares of n known vectors N(0, D R D)."""
    p = sd.size
    V = covariance(sd, corr, 0, p)
    root = scatter.copy()
    factor_semidefinite(root)
    H = inverse(V)
    g = multiply(H, root)
    H, g = H.reshape((1, p, p)), g.reshape((1, p, p))
    move_covariance(V, sd, corr, free, H, g, n, start, stop, scale, lkj, width, tuning)
