"""Random log innovation variances: slices, client by client, and moves of scale and level.

With E_i the sum of squares of a client's n_i innovations, Q = Psi^-1 and l_i its log variances, the
log density along l_ij is, up to a constant and the normal prior, ::

    -1/2 (n_i l + exp(-l) Q_jj E_jj + 2 exp(-l / 2) sum_r Q_jr exp(-l_ir / 2) E_jr)

The SD of the log variances moves twice: given the effects, and with the standardized effects held
fixed. So does the level, the innovation SD: given the effects, and with every client's own
variance held fixed. Whichever way the data are informative, one of the two moves far.
"""

from __future__ import annotations

import math

import numpy as np

from alliancedyn.engine.gibbs_small import (
    Array,
    compiled,
    uniform,
)

STEPS = 30
WIDTH = 2.5  # of a slice, in SDs of a normal approximation


@compiled
def _target(x: float, rows: Array, square: float, line: float, growth: float) -> float:
    """Log density along a line: rows (n, 4) of n_i, p_i, A_i, B_i, and a prior."""
    total = x * (line - 0.5 * square * x) - growth * math.exp(x)
    for i in range(rows.shape[0]):
        half = math.exp(-0.5 * x * rows[i, 1])
        total -= 0.5 * (rows[i, 0] * x * rows[i, 1] + half * (half * rows[i, 2] + 2.0 * rows[i, 3]))
    return total


@compiled
def _slice(
    x0: float, floor: float, width: float, rows: Array, square: float, line: float, growth: float
) -> float:  # fmt: skip
    """Draw from `_target` above ``floor``: step out, shrink."""
    level = _target(x0, rows, square, line, growth) + math.log(uniform())
    low = x0 - width * uniform()
    high = low + width
    for _ in range(STEPS):
        if low <= floor or not _target(low, rows, square, line, growth) > level:
            break
        low -= width
    for _ in range(STEPS):
        if not _target(high, rows, square, line, growth) > level:
            break
        high += width
    low = max(low, floor)
    while high - low > 1e-13:
        x = low + uniform() * (high - low)
        if _target(x, rows, square, line, growth) > level:
            return x
        if x < x0:
            low = x
        else:
            high = x
    return x0


@compiled
def residual_scatter(S: Array, phi: Array, E: Array) -> None:
    """Set E (N, k, k) to the sums of squares of innovations, from moments S of the states."""
    N, k, _ = phi.shape
    for i in range(N):
        for r in range(k):
            for c in range(k):
                total = S[2, i, r, c]
                for a in range(k):
                    total -= phi[i, r, a] * S[1, i, c, a] + S[1, i, r, a] * phi[i, c, a]
                    for b in range(k):
                        total += phi[i, r, a] * S[0, i, a, b] * phi[i, c, b]
                E[i, r, c] = total


@compiled
def common_scatter(E: Array, logs: Array) -> Array:
    """Sum D_i^-1 E_i D_i^-1 over clients."""
    N, k, _ = E.shape
    found = np.zeros((k, k))
    for i in range(N):
        for r in range(k):
            for c in range(k):
                found[r, c] += E[i, r, c] * math.exp(-0.5 * (logs[i, r] + logs[i, c]))
    return found


@compiled
def _terms(E: Array, logs: Array, Q: Array, j: int) -> tuple[float, float]:
    """Return Q_jj E_jj and sum_r Q_jr exp(-l_r / 2) E_jr over the others."""
    cross = 0.0
    for r in range(Q.shape[0]):
        if r != j:
            cross += Q[j, r] * math.exp(-0.5 * logs[r]) * E[j, r]
    return Q[j, j] * E[j, j], cross


@compiled
def draw_log_variances(
    E: Array, counts: Array, Q: Array, K: Array, start: int, U: Array, logs: Array
) -> None:
    """Draw every client's log variances; deviations U[:, start:] ~ N(0, K^-1) follow."""
    N, k = logs.shape
    rows = np.empty((1, 4))
    for i in range(N):
        for j in range(k):
            at = start + j
            own, cross = _terms(E[i], logs[i], Q, j)
            half = math.exp(-0.5 * logs[i, j])
            rows[0, 0], rows[0, 1] = counts[i], 1.0
            rows[0, 2], rows[0, 3] = own * half * half, cross * half
            line = 0.0
            for r in range(K.shape[0]):
                line -= K[at, r] * U[i, r]
            width = WIDTH / math.sqrt(K[at, at] + 0.5 * counts[i])
            change = _slice(0.0, -np.inf, width, rows, K[at, at], line, 0.0)
            logs[i, j] += change
            U[i, at] += change


@compiled
def rescale(
    E: Array, counts: Array, Q: Array, start: int, U: Array, logs: Array, sd: Array,
    scale: Array, width: Array, tuning: bool
) -> None:  # fmt: skip
    """Move the SDs of the log variances with the standardized deviations fixed."""
    N, k = logs.shape
    rows = np.empty((N, 4))
    for j in range(k):
        at = start + j
        for i in range(N):
            own, cross = _terms(E[i], logs[i], Q, j)
            half = math.exp(-0.5 * (logs[i, j] - U[i, at]))
            rows[i, 0], rows[i, 1] = counts[i], U[i, at] / sd[at]
            rows[i, 2], rows[i, 3] = own * half * half, cross * half
        new = _slice(sd[at], 0.0, width[j], rows, 1.0 / scale[at] ** 2, 0.0, 0.0)
        if tuning:
            width[j] += 0.05 * (3.0 * abs(new - sd[at]) - width[j])
            width[j] = max(width[j], 1e-4 * scale[at])
        for i in range(N):
            change = rows[i, 1] * (new - sd[at])
            U[i, at] += change
            logs[i, j] += change
        sd[at] = new


@compiled
def relevel(
    K: Array, start: int, U: Array, logs: Array, sd: Array, scale: Array
) -> None:  # fmt: skip
    """Move the innovation SDs with every client's own innovation variances fixed."""
    N, k = logs.shape
    rows = np.empty((0, 4))
    for j in range(k):
        at = start + j
        line = 0.5
        for i in range(N):
            for r in range(K.shape[0]):
                line += K[at, r] * U[i, r]
        square = N * K[at, at]
        growth = 0.5 * (sd[j] / scale[j]) ** 2
        change = _slice(0.0, -np.inf, WIDTH / math.sqrt(square), rows, square, line, growth)
        sd[j] *= math.exp(0.5 * change)
        for i in range(N):
            U[i, at] -= change
            logs[i, j] -= change
