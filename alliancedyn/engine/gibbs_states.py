"""Missing scores and latent states of every client, given its lagged effects: forward, backward.

With z_t = y_t - C_t d the scores without the common course, m the client's intercept, unknown::

    z_t = m + w_t + n_t,          n_t ~ N(0, R)
    w_t = Phi w_{t-1} + e_t,      e_t ~ N(0, Psi),  w_1 ~ N(0, P_1)

The filter carries the mean of w_t as a line in m: a_t - B_t m, so that one pass gives the
likelihood of m, N(info m, score) in its natural form, with all missing states integrated out.
Once m is drawn, the same pass serves the backward draw of the states. A session with every score
seen and no measurement error pins its state: between two of these nothing needs filtering, and
only the other sessions, the gaps, are stored.

References
----------
Frühwirth-Schnatter, S. (1994). Data augmentation and dynamic linear models. Journal of Time Series
Analysis, 15, 183-202.
"""

from __future__ import annotations

import numpy as np

from alliancedyn.engine.gibbs_small import (
    Array,
    Codes,
    Flags,
    compiled,
    factor,
    factor_semidefinite,
    normal,
    solve_lower,
)


@compiled
def _predict(phi: Array, psi: Array, a: Array, B: Array, P: Array, work: Array) -> None:
    """Carry a, B, P one session on: Phi a, Phi B, Phi P Phi' + Psi."""
    k = a.shape[0]
    for r in range(k):
        work[0, r] = 0.0
        for c in range(k):
            work[0, r] += phi[r, c] * a[c]
    for r in range(k):
        a[r] = work[0, r]
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
    z: Array, seen: Flags, noise: Array, a: Array, B: Array, P: Array, info: Array, score: Array,
    work: Array,
) -> None:  # fmt: skip
    """Take in the scores of a session one at a time; add what they say of m."""
    k = a.shape[0]
    x, gain = work[0], work[1]
    for c in range(k):
        if not seen[c]:
            continue
        scale = 1.0 / (P[c, c] + noise[c])
        v = z[c] - a[c]
        for j in range(k):
            x[j] = (1.0 if j == c else 0.0) - B[c, j]
            gain[j] = P[j, c] * scale
        for r in range(k):
            score[r] += x[r] * v * scale
            a[r] += gain[r] * v
            for j in range(k):
                info[r, j] += x[r] * x[j] * scale
                B[r, j] += gain[r] * x[j]
        for r in range(k):
            work[2, r] = P[c, r]
        for r in range(k):
            for j in range(k):
                P[r, j] -= gain[r] * work[2, j]
        if noise[c] == 0.0:  # the component is known: exact zeros, not rounding
            for r in range(k):
                P[c, r] = 0.0
                P[r, c] = 0.0


@compiled
def _add_runs(
    runs: int, total: Array, phi: Array, psi: Array, info: Array, score: Array, L: Array, M: Array
) -> None:
    """Add the steps between whole sessions: z_t - Phi z_{t-1} ~ N((I - Phi) m, Psi)."""
    k = total.shape[0]
    for r in range(k):
        for c in range(k):
            L[r, c] = psi[r, c]
            M[r, c] = (1.0 if r == c else 0.0) - phi[r, c]
    factor(L)
    solve_lower(L, total)
    for j in range(k):
        for r in range(k):
            for c in range(r):
                M[r, j] -= L[r, c] * M[c, j]
            M[r, j] /= L[r, r]
    for r in range(k):
        for c in range(k):
            score[r] += M[c, r] * total[c]
            for j in range(k):
                info[r, j] += runs * M[c, r] * M[c, j]


@compiled
def _filter(
    z: Array, seen: Flags, whole: Flags, slot: Codes, last: int, noise: Array, phi: Array,
    psi: Array, first: Array, gap_a: Array, gap_B: Array, gap_P: Array, info: Array, score: Array,
    a: Array, B: Array, P: Array, total: Array, work: Array,
) -> None:  # fmt: skip
    """Filter one client; store its gaps."""
    k = z.shape[1]
    runs = 0
    for r in range(k):
        a[r], total[r] = 0.0, 0.0
        for c in range(k):
            B[r, c], P[r, c] = 0.0, first[r, c]
    for t in range(last):
        known = t > 0 and whole[t - 1]
        if known and whole[t]:
            runs += 1
            for r in range(k):
                total[r] += z[t, r]
                for c in range(k):
                    total[r] -= phi[r, c] * z[t - 1, c]
            continue
        if known:
            for r in range(k):
                a[r] = z[t - 1, r]
                for c in range(k):
                    B[r, c] = 1.0 if r == c else 0.0
                    P[r, c] = 0.0
        if t > 0:
            _predict(phi, psi, a, B, P, work)
        _observe(z[t], seen[t], noise, a, B, P, info, score, work)
        if not whole[t]:
            for r in range(k):
                gap_a[slot[t], r] = a[r]
                for c in range(k):
                    gap_B[slot[t], r, c], gap_P[slot[t], r, c] = B[r, c], P[r, c]
    if runs > 0:
        _add_runs(runs, total, phi, psi, info, score, B, P)


@compiled
def filter_all(
    z: Array, seen: Flags, whole: Flags, slot: Codes, last: Codes, noise: Array, phi: Array,
    psi: Array, first: Array, gap_a: Array, gap_B: Array, gap_P: Array, info: Array, score: Array,
) -> None:  # fmt: skip
    """Filter every client: info (N, k, k) and score (N, k) of its intercept, and its gaps.

    Parameters
    ----------
    z, seen, whole, slot : (N, T, k), (N, T, k), (N, T), (N, T)
        Scores without the common course, 0 where missing; which were seen; sessions whose state
        is known once the intercept is; place of the others among the gaps.
    last : (N,)
        Sessions up to a client's last score.
    noise : (k,)
        Measurement error variances.
    phi, psi, first : (N, k, k), (N, k, k), (k, k)
        Lagged effects, innovation covariances, covariance of the first state.
    gap_a, gap_B, gap_P : (G, k), (G, k, k), (G, k, k)
        Filled: the state of a gap has mean a - B m and covariance P.
    """
    N, _, k = z.shape
    work = np.empty((k + 2, k))
    a, B, P, total = np.empty(k), np.empty((k, k)), np.empty((k, k)), np.empty(k)
    for i in range(N):
        for r in range(k):
            score[i, r] = 0.0
            for c in range(k):
                info[i, r, c] = 0.0
        _filter(
            z[i], seen[i], whole[i], slot[i], last[i], noise, phi[i], psi[i], first, gap_a, gap_B,
            gap_P, info[i], score[i], a, B, P, total, work,
        )  # fmt: skip


@compiled
def _look_ahead(
    ahead: Array, phi: Array, psi: Array, mean: Array, P: Array, cross: Array, total: Array,
    surprise: Array,
) -> None:  # fmt: skip
    """Condition mean and P of w_t on w_{t+1} = Phi w_t + e, through the factor of its variance."""
    k = mean.shape[0]
    for r in range(k):
        surprise[r] = ahead[r]
        for c in range(k):
            surprise[r] -= phi[r, c] * mean[c]
            cross[r, c] = 0.0
            for j in range(k):
                cross[r, c] += phi[r, j] * P[j, c]
    for r in range(k):
        for c in range(k):
            total[r, c] = psi[r, c]
            for j in range(k):
                total[r, c] += cross[r, j] * phi[c, j]
    factor(total)
    solve_lower(total, surprise)
    for j in range(k):
        for r in range(k):
            for c in range(r):
                cross[r, j] -= total[r, c] * cross[c, j]
            cross[r, j] /= total[r, r]
    for r in range(k):
        for c in range(k):
            mean[r] += cross[c, r] * surprise[c]
            for j in range(k):
                P[r, j] -= cross[c, r] * cross[c, j]


@compiled
def draw_states(
    z: Array, whole: Flags, slot: Codes, last: Codes, m: Array, phi: Array, psi: Array,
    gap_a: Array, gap_B: Array, gap_P: Array, W: Array,
) -> None:  # fmt: skip
    """Draw the states W (N, T, k) of every client up to its last score, the last one first."""
    N, _, k = z.shape
    noise, mean, surprise = np.empty(k), np.empty(k), np.empty(k)
    P, cross, total = np.empty((k, k)), np.empty((k, k)), np.empty((k, k))
    for i in range(N):
        for t in range(last[i] - 1, -1, -1):
            if whole[i, t]:
                for r in range(k):
                    W[i, t, r] = z[i, t, r] - m[i, r]
                continue
            gap = slot[i, t]
            for r in range(k):
                mean[r] = gap_a[gap, r]
                for c in range(k):
                    P[r, c] = gap_P[gap, r, c]
                    mean[r] -= gap_B[gap, r, c] * m[i, c]
            if t + 1 < last[i]:
                _look_ahead(W[i, t + 1], phi[i], psi[i], mean, P, cross, total, surprise)
            factor_semidefinite(P)
            for r in range(k):
                noise[r] = normal()
            for r in range(k):
                W[i, t, r] = mean[r]
                for c in range(r + 1):
                    W[i, t, r] += P[r, c] * noise[c]


@compiled
def moments(W: Array, last: Codes, S: Array, first: Array) -> None:
    """Sum products of states: S (3, N, k, k) of w_{t-1} w_{t-1}', w_t w_{t-1}', w_t w_t'; w_1."""
    N, _, k = W.shape
    for i in range(N):
        for r in range(k):
            for c in range(k):
                first[r, c] = W[i, 0, r] * W[i, 0, c] + (first[r, c] if i > 0 else 0.0)
                before, across, now = 0.0, 0.0, 0.0
                for t in range(1, last[i]):
                    before += W[i, t - 1, r] * W[i, t - 1, c]
                    across += W[i, t, r] * W[i, t - 1, c]
                    now += W[i, t, r] * W[i, t, c]
                S[0, i, r, c] = before
                S[1, i, r, c] = across
                S[2, i, r, c] = now
