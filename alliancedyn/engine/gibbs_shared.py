"""Intercepts and missing states where all clients share lags and innovation covariance.

What the filter of :mod:`alliancedyn.engine.gibbs_states` knows of variances depends on a pattern
of missing scores and on nothing else, so it is worked out once per pattern and sweep. Sessions
that pin their states enter by sums taken once per run: with M = I - Phi, over the n steps of a
client from one such session to the next ::

    info = n M'Psi^-1 M,   score = M'Psi^-1 sum (z_t - Phi z_{t-1})
    sum w_t w_{t-1}' = sum z_t z_{t-1}' - m sum z_{t-1}' - sum z_t m' + n m m'

so that a sweep costs a few flops per client and per gap, and nothing per session that is complete.

Every kernel takes ``axes = (0, .., k - 1)``: its length is known when the kernel is compiled, which
unrolls the loops over series.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from alliancedyn.engine.gibbs_small import (
    Array,
    Codes,
    Flags,
    compiled,
    factor,
    factor_semidefinite,
    inverse,
    normal,
)

Axes = tuple[int, ...]

# What a row of a pattern's table (5, k, k) holds: for every score its gain and what its surprise
# says of m; of the state B (its mean is a - B m); looking ahead, what is carried back from the
# next state, and the root of the variance that is left.
GAIN, TELLS, LINE, BACK, ROOT = 0, 1, 2, 3, 4


class Runs(NamedTuple):
    """Sums over the steps from one session that pins its state to the next, by client.

    ``z`` is taken around ``origin``, the client's mean over these steps, for accuracy's sake.
    """

    steps: Array  # (N,)
    origin: Array  # (N, k)
    before: Array  # (N, k), of z_{t-1}
    now: Array  # (N, k), of z_t
    products: Array  # (3, k, k), of z_{t-1} z_{t-1}', z_t z_{t-1}', z_t z_t', over all clients


@compiled
def sum_runs(axes: Axes, z: Array, whole: Flags, last: Codes, runs: Runs) -> None:
    """Fill the sums; needed once per run of sweeps, or whenever z changes."""
    steps, origin, before, now, products = runs
    k = len(axes)
    for r in range(k):
        for c in range(k):
            products[0, r, c], products[1, r, c], products[2, r, c] = 0.0, 0.0, 0.0
    for i in range(z.shape[0]):
        steps[i] = 0.0
        for r in range(k):
            origin[i, r], before[i, r], now[i, r] = 0.0, 0.0, 0.0
        for t in range(1, last[i]):
            if whole[i, t] and whole[i, t - 1]:
                steps[i] += 1.0
                for r in range(k):
                    origin[i, r] += z[i, t, r]
        for r in range(k):
            origin[i, r] /= max(steps[i], 1.0)
        for t in range(1, last[i]):
            if not (whole[i, t] and whole[i, t - 1]):
                continue
            for r in range(k):
                x, y = z[i, t - 1, r] - origin[i, r], z[i, t, r] - origin[i, r]
                before[i, r] += x
                now[i, r] += y
                for c in range(k):
                    products[0, r, c] += x * (z[i, t - 1, c] - origin[i, c])
                    products[1, r, c] += y * (z[i, t - 1, c] - origin[i, c])
                    products[2, r, c] += y * (z[i, t, c] - origin[i, c])


@compiled
def _predict(axes: Axes, phi: Array, psi: Array, B: Array, P: Array, work: Array) -> None:
    """Carry B and P one session on: Phi B, Phi P Phi' + Psi."""
    k = len(axes)
    for j in range(k):
        for r in range(k):
            work[0, r] = 0.0
            work[1 + r, j] = 0.0
            for c in range(k):
                work[0, r] += phi[r, c] * B[c, j]
                work[1 + r, j] += phi[r, c] * P[c, j]
        for r in range(k):
            B[r, j] = work[0, r]
    for r in range(k):
        for j in range(k):
            total = psi[r, j]
            for c in range(k):
                total += work[1 + r, c] * phi[j, c]
            P[r, j] = total


@compiled
def _observe(
    axes: Axes, seen: Flags, noise: Array, B: Array, P: Array, row: Array, info: Array, work: Array
) -> None:  # fmt: skip
    """Take in the scores of a session one at a time; store gains and what surprises tell."""
    k = len(axes)
    for c in range(k):
        for j in range(k):
            row[GAIN, c, j], row[TELLS, c, j] = 0.0, 0.0
        if not seen[c]:
            continue
        scale = 1.0 / (P[c, c] + noise[c])
        for j in range(k):
            work[0, j] = (1.0 if j == c else 0.0) - B[c, j]
            work[1, j] = P[c, j]
            row[GAIN, c, j], row[TELLS, c, j] = P[j, c] * scale, work[0, j] * scale
        for r in range(k):
            for j in range(k):
                info[r, j] += row[TELLS, c, r] * work[0, j]
                B[r, j] += row[GAIN, c, r] * work[0, j]
                P[r, j] -= row[GAIN, c, r] * work[1, j]
        if noise[c] == 0.0:  # the component is known: exact zeros, not rounding
            for r in range(k):
                P[c, r], P[r, c] = 0.0, 0.0


@compiled
def _look_back(axes: Axes, phi: Array, psi: Array, row: Array, cross: Array, total: Array) -> None:
    """From P in ROOT: BACK = P Phi' F^-1 with F = Phi P Phi' + Psi, ROOT = P - BACK F BACK'."""
    k = len(axes)
    for r in range(k):
        for c in range(k):
            cross[r, c] = 0.0
            for j in range(k):
                cross[r, c] += phi[r, j] * row[ROOT, j, c]
    for r in range(k):
        for c in range(k):
            total[r, c] = psi[r, c]
            for j in range(k):
                total[r, c] += cross[r, j] * phi[c, j]
    factor(total)
    for j in range(k):
        for r in range(k):
            for c in range(r):
                cross[r, j] -= total[r, c] * cross[c, j]
            cross[r, j] /= total[r, r]
    for r in range(k):
        for c in range(k):
            for j in range(k):
                row[ROOT, r, c] -= cross[j, r] * cross[j, c]
    for j in range(k):
        for r in range(k - 1, -1, -1):
            for c in range(r + 1, k):
                cross[r, j] -= total[c, r] * cross[c, j]
            cross[r, j] /= total[r, r]
            row[BACK, j, r] = cross[r, j]


@compiled
def set_patterns(
    axes: Axes, pattern: Codes, rows: Flags, noise: Array, phi: Array, psi: Array, first: Array,
    table: Array, info: Array,
) -> None:  # fmt: skip
    """Filter every pattern and look back: table (R, 5, k, k), info (P, k, k) of the intercept."""
    k = len(axes)
    B, P, work = np.empty((k, k)), np.empty((k, k)), np.empty((k + 1, k))
    for p in range(pattern.shape[0]):
        at, sessions, closed, begins = pattern[p]
        for r in range(k):
            for c in range(k):
                info[p, r, c] = 0.0
                B[r, c] = 1.0 if r == c and begins == 0 else 0.0
                P[r, c] = first[r, c] if begins == 1 else 0.0
        for j in range(sessions + closed):
            row = table[at + j]
            if j > 0 or begins == 0:
                _predict(axes, phi, psi, B, P, work)
            _observe(axes, rows[at + j], noise, B, P, row, info[p], work)
            for r in range(k):
                for c in range(k):
                    row[LINE, r, c], row[ROOT, r, c] = B[r, c], P[r, c]
        for j in range(sessions):
            if j + 1 < sessions or closed == 1:
                _look_back(axes, phi, psi, table[at + j], B, P)
            else:
                for r in range(k):
                    for c in range(k):
                        table[at + j, BACK, r, c] = 0.0
            factor_semidefinite(table[at + j, ROOT])


@compiled
def _filter_segments(
    axes: Axes, place: Codes, pattern: Codes, z: Array, phi: Array, table: Array, w: Array,
    score: Array,
) -> None:  # fmt: skip
    """Add what segments say of intercepts; w (G, k) becomes a, the filtered mean had m been 0."""
    k = len(axes)
    state, old = np.empty(k), np.empty(k)
    for s in range(place.shape[0]):
        i, start, p, slot = place[s]
        at, sessions, closed, begins = pattern[p]
        for r in range(k):
            state[r] = 0.0 if begins == 1 else z[i, start - 1, r]
        for j in range(sessions + closed):
            row = table[at + j]
            for r in range(k):
                old[r] = state[r]
            for r in range(k):
                state[r] = 0.0
                for c in range(k):
                    state[r] += phi[r, c] * old[c]
            for c in range(k):
                surprise = z[i, start + j, c] - state[c]
                for r in range(k):
                    score[i, r] += row[TELLS, c, r] * surprise
                    state[r] += row[GAIN, c, r] * surprise
            if j < sessions:
                for r in range(k):
                    w[slot + j, r] = state[r]


@compiled
def intercept_information(
    axes: Axes, place: Codes, pattern: Codes, z: Array, whole: Flags, runs: Runs, phi: Array,
    psi: Array, first: Array, table: Array, known: Array, w: Array, info: Array, score: Array,
) -> None:  # fmt: skip
    """Set info (N, k, k) and score (N, k) of intercepts, missing states integrated out."""
    steps, origin, before, now, _ = runs
    k = len(axes)
    weight, start = inverse(psi), inverse(first)
    left, across = np.zeros((k, k)), np.zeros((k, k))
    for r in range(k):
        for c in range(k):
            for j in range(k):
                left[r, c] += ((1.0 if j == r else 0.0) - phi[j, r]) * weight[j, c]
    for r in range(k):
        for c in range(k):
            for j in range(k):
                across[r, c] += left[r, j] * ((1.0 if j == c else 0.0) - phi[j, c])
    total = np.empty(k)
    for i in range(z.shape[0]):
        for r in range(k):
            total[r] = now[i, r] + steps[i] * origin[i, r]
            for c in range(k):
                total[r] -= phi[r, c] * (before[i, c] + steps[i] * origin[i, c])
        for r in range(k):
            score[i, r] = 0.0
            for c in range(k):
                pinned = start[r, c] if whole[i, 0] else 0.0
                score[i, r] += left[r, c] * total[c] + pinned * z[i, 0, c]
                info[i, r, c] = steps[i] * across[r, c] + pinned
    for s in range(place.shape[0]):
        for r in range(k):
            for c in range(k):
                info[place[s, 0], r, c] += known[place[s, 2], r, c]
    _filter_segments(axes, place, pattern, z, phi, table, w, score)


@compiled
def draw_segments(
    axes: Axes, place: Codes, pattern: Codes, z: Array, m: Array, phi: Array, table: Array, w: Array
) -> None:  # fmt: skip
    """Draw the states in segments, the last one first; w (G, k) holds a and is overwritten."""
    k = len(axes)
    mean, ahead = np.empty(k), np.empty(k)
    for s in range(place.shape[0]):
        i, start, p, slot = place[s]
        at, sessions, closed, _ = pattern[p]
        for r in range(k):
            ahead[r] = z[i, start + sessions, r] - m[i, r] if closed == 1 else 0.0
        for j in range(sessions - 1, -1, -1):
            row = table[at + j]
            for r in range(k):
                mean[r] = w[slot + j, r]
                for c in range(k):
                    mean[r] -= row[LINE, r, c] * m[i, c]
            for r in range(k):
                for c in range(k):
                    ahead[r] -= phi[r, c] * mean[c]
            for r in range(k):
                w[slot + j, r] = mean[r]
                for c in range(k):
                    w[slot + j, r] += row[BACK, r, c] * ahead[c]
            for c in range(k):
                if row[ROOT, c, c] > 0.0:
                    x = normal()
                    for r in range(c, k):
                        w[slot + j, r] += row[ROOT, r, c] * x
            for r in range(k):
                ahead[r] = w[slot + j, r]


@compiled
def _add_segments(
    axes: Axes, place: Codes, pattern: Codes, z: Array, m: Array, w: Array, S: Array
) -> None:  # fmt: skip
    """Add the products of states over the steps into, within and out of segments."""
    k = len(axes)
    before, now = np.empty(k), np.empty(k)
    for s in range(place.shape[0]):
        i, start, p, slot = place[s]
        _, sessions, closed, begins = pattern[p]
        for r in range(k):
            before[r] = w[slot, r] if begins == 1 else z[i, start - 1, r] - m[i, r]
        for j in range(begins, sessions + closed):
            for r in range(k):
                now[r] = w[slot + j, r] if j < sessions else z[i, start + j, r] - m[i, r]
            for r in range(k):
                for c in range(k):
                    S[0, r, c] += before[r] * before[c]
                    S[1, r, c] += now[r] * before[c]
                    S[2, r, c] += now[r] * now[c]
            for r in range(k):
                before[r] = now[r]


@compiled
def sum_moments(
    axes: Axes, place: Codes, pattern: Codes, z: Array, m: Array, w: Array, whole: Flags,
    runs: Runs, S: Array, scatter: Array,
) -> None:  # fmt: skip
    """Set S (3, k, k), products of states over all steps, and scatter (k, k), of first states."""
    steps, origin, before, now, products = runs
    k = len(axes)
    for r in range(k):
        for c in range(k):
            scatter[r, c] = 0.0
            for j in range(3):
                S[j, r, c] = products[j, r, c]
    away = np.empty(k)
    for i in range(z.shape[0]):
        for r in range(k):
            away[r] = m[i, r] - origin[i, r]
        for r in range(k):
            for c in range(k):
                both = steps[i] * away[r] * away[c]
                S[0, r, c] += both - before[i, r] * away[c] - away[r] * before[i, c]
                S[1, r, c] += both - now[i, r] * away[c] - away[r] * before[i, c]
                S[2, r, c] += both - now[i, r] * away[c] - away[r] * now[i, c]
        if whole[i, 0]:
            for r in range(k):
                for c in range(k):
                    scatter[r, c] += (z[i, 0, r] - m[i, r]) * (z[i, 0, c] - m[i, c])
    for s in range(place.shape[0]):
        if place[s, 1] == 0:
            for r in range(k):
                for c in range(k):
                    scatter[r, c] += w[place[s, 3], r] * w[place[s, 3], c]
    _add_segments(axes, place, pattern, z, m, w, S)


@compiled
def fill_states(
    place: Codes, pattern: Codes, z: Array, m: Array, last: Codes, w: Array, W: Array
) -> None:
    """Write all states out, W (N, T, k), where something else needs them."""
    N, _, k = z.shape
    for i in range(N):
        for t in range(last[i]):
            for r in range(k):
                W[i, t, r] = z[i, t, r] - m[i, r]
    for s in range(place.shape[0]):
        i, start, p, slot = place[s]
        for j in range(pattern[p, 1]):
            for r in range(k):
                W[i, start + j, r] = w[slot + j, r]


@compiled
def read_states(place: Codes, pattern: Codes, W: Array, w: Array) -> None:
    """Undo `fill_states`: take the states in segments from W."""
    for s in range(place.shape[0]):
        i, start, p, slot = place[s]
        for j in range(pattern[p, 1]):
            for r in range(w.shape[1]):
                w[slot + j, r] = W[i, start + j, r]
