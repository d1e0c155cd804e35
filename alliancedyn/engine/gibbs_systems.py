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
def set_lags(mean: Array, U: Array, common: Array, random: bool, phi: Array) -> None:
    """Set every client's lag matrix: its own effects after the k intercepts, or the common one."""
    N, k, _ = phi.shape
    for i in range(N):
        for r in range(k):
            for c in range(k):
                e = k + r * k + c
                phi[i, r, c] = mean[i, e] + U[i, e] if random else common[r, c]


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
def lag_information(S: Array, psi: Array, A: Array, h: Array) -> None:
    """Set what the states say of vec Phi_i: Psi_i^-1 (x) S_00 and vec Psi_i^-1 S_10."""
    N, k, _ = psi.shape
    for i in range(N):
        weight = inverse(psi[i])
        for r in range(k):
            for c in range(k):
                total = 0.0
                for s in range(k):
                    total += weight[r, s] * S[1, i, s, c]
                    for d in range(k):
                        A[i, r * k + c, s * k + d] = weight[r, s] * S[0, i, c, d]
                h[i, r * k + c] = total


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
