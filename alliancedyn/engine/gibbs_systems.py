"""From effects to client systems and back: the sums that stand between the steps of a sweep."""

from __future__ import annotations

import math

import numpy as np

from alliancedyn.engine.gibbs_small import Array, Codes, compiled, covariance, inverse


@compiled
def set_scores(y: Array, last: Codes, columns: Array, d: Array, z: Array) -> None:
    """Take the common course C_t d out of the scores: z (N, T, k)."""
    N, _, k = z.shape
    for t in range(columns.shape[0]):
        for r in range(k):
            course = 0.0
            for c in range(d.shape[0]):
                course += columns[t, c] * d[c, r]
            for i in range(N):
                if t < last[i]:
                    z[i, t, r] = y[i, t, r] - course


@compiled
def set_means(X: Array, therapist: Codes, coef: Array, v: Array, mean: Array) -> None:
    """Set the means (N, q) of the effects: X coef, and the therapist's part of intercepts."""
    N, q = mean.shape
    for i in range(N):
        for e in range(q):
            total = 0.0
            for c in range(X.shape[1]):
                total += X[i, c] * coef[c, e]
            mean[i, e] = total
        for r in range(v.shape[1]):
            mean[i, r] += v[therapist[i], r]


@compiled
def scores_at_mean(A: Array, h: Array, mean: Array, start: int) -> Array:
    """Return h - A c for the effects start .. of every client."""
    N, p = h.shape
    r = h.copy()
    for i in range(N):
        for a in range(p):
            for b in range(p):
                r[i, a] -= A[i, a, b] * mean[i, start + b]
    return r


@compiled
def set_lags(
    mean: Array, U: Array, common: Array, at: Codes, rows: Codes, columns: Codes, same: Array,
    phi: Array,
) -> None:  # fmt: skip
    """Set every client's regressions from effects ``at`` (-1: common): lags phi, same-session G.

    ``columns`` below k are those of scores a session ago, from k on those of the same session.
    """
    N, k, _ = phi.shape
    for i in range(N):
        for j in range(rows.size):
            value = common[j] if at[j] < 0 else mean[i, at[j]] + U[i, at[j]]
            if columns[j] < k:
                phi[i, rows[j], columns[j]] = value
            else:
                same[i, rows[j], columns[j] - k] = value


@compiled
def _times_total(same: Array, rest: Array, found: Array) -> None:
    """Set found = (I - G)^-1 rest; G is that of a time order, whose k-th power is 0."""
    k = rest.shape[0]
    for r in range(k):
        for c in range(k):
            found[r, c] = rest[r, c]
    for _ in range(k - 1):
        for c in range(k):
            for r in range(k):
                found[r, c] = rest[r, c]
                for s in range(k):
                    found[r, c] += same[r, s] * found[s, c]


@compiled
def reduce_systems(same: Array, direct: Array, shock: Array, phi: Array, psi: Array) -> None:
    """Set lags (I - G)^-1 F and innovation covariances (I - G)^-1 S (I - G)^-T of every client."""
    N, k, _ = phi.shape
    half = np.empty((k, k))
    for i in range(N):
        _times_total(same[i], direct[i], phi[i])
        _times_total(same[i], shock[i], half)
        for r in range(k):
            for c in range(k):
                psi[i, c, r] = half[r, c]
        _times_total(same[i], psi[i], half)
        for r in range(k):
            for c in range(k):
                psi[i, r, c] = half[r, c]


@compiled
def untangle(same: Array, E: Array) -> None:
    """Carry sums of squares of what is new in scores to those of shocks: (I - G) E (I - G)'."""
    N, k, _ = E.shape
    half = np.empty((k, k))
    for i in range(N):
        for r in range(k):
            for c in range(k):
                half[r, c] = E[i, r, c]
                for s in range(k):
                    half[r, c] -= same[i, r, s] * E[i, s, c]
        for r in range(k):
            for c in range(k):
                E[i, r, c] = half[r, c]
                for s in range(k):
                    E[i, r, c] -= half[r, s] * same[i, c, s]


@compiled
def set_innovations(sd: Array, corr: Array, logs: Array, psi: Array) -> None:
    """Set every client's innovation covariance D_i Psi D_i."""
    N, k = logs.shape
    V = covariance(sd, corr, 0, k)
    for i in range(N):
        for r in range(k):
            for c in range(k):
                psi[i, r, c] = V[r, c] * math.exp(0.5 * (logs[i, r] + logs[i, c]))


@compiled
def lag_information(
    S: Array, psi: Array, rows: Codes, columns: Codes, A: Array, h: Array
) -> None:  # fmt: skip
    """Set what the states say of every client's regression coefficients: A (N, p, p), h (N, p).

    Coefficient j is that of x[columns[j]] on w_t[rows[j]], x = (w_{t-1}, w_t), innovations being
    N(0, Psi_i): Psi_i^-1[r_a, r_b] sum x x'[c_a, c_b] and (Psi_i^-1 sum w_t x')[r_a, c_a].
    """
    N, k, _ = psi.shape
    p = rows.size
    total = np.empty((2 * k, 2 * k))
    for i in range(N):
        weight = inverse(psi[i])
        for c in range(k):
            for d in range(k):
                total[c, d] = S[0, i, c, d]
                total[k + c, d] = S[1, i, c, d]
                total[d, k + c] = S[1, i, c, d]
                total[k + c, k + d] = S[2, i, c, d]
        for a in range(p):
            h[i, a] = 0.0
            for s in range(k):
                h[i, a] += weight[rows[a], s] * total[k + s, columns[a]]
            for b in range(p):
                A[i, a, b] = weight[rows[a], rows[b]] * total[columns[a], columns[b]]


@compiled
def accumulate(n: int, mean: Array, U: Array, center: Array, square: Array) -> None:
    """Add the effects of sweep n (from 0) to their running means and sums of squares."""
    for i in range(U.shape[0]):
        for e in range(U.shape[1]):
            b = mean[i, e] + U[i, e]
            away = b - center[i, e]
            center[i, e] += away / (n + 1)
            square[i, e] += away * (b - center[i, e])


@compiled
def sum_information(A: Array, h: Array) -> tuple[Array, Array]:
    """Add clients up."""
    N, p = h.shape
    info, score = np.zeros((p, p)), np.zeros(p)
    for i in range(N):
        for a in range(p):
            score[a] += h[i, a]
            for b in range(p):
                info[a, b] += A[i, a, b]
    return info, score
