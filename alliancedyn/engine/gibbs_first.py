"""The covariance of the first state, with intercepts and states integrated out.

Given intercepts, first states are known or nearly so, and their covariance F hardly moves from
sweep to sweep where it is small: intercepts stay close to the first scores, because F is small,
and F stays small, because they do. With the mean e_i and covariance C_i of a client's first state
given all scores, ::

    H_i = F^-1 - F^-1 C_i F^-1,   g_i = F^-1 e_i

is what :mod:`alliancedyn.engine.gibbs_scales` asks of unit i. Where a segment begins with the first
session, states look back as in the draw of them, without the noise: w_1 = a - B m with variance.
"""

from __future__ import annotations

import numpy as np

from alliancedyn.engine.gibbs_intercepts import whiten
from alliancedyn.engine.gibbs_shared import BACK, LINE, ROOT, Axes
from alliancedyn.engine.gibbs_small import Array, Codes, compiled, factor_semidefinite, inverse


@compiled
def open_patterns(
    axes: Axes, pattern: Codes, phi: Array, table: Array, line: Array, var: Array
) -> None:
    """Set B and the variance of the first state given m, (P, k, k), of patterns that begin."""
    k = len(axes)
    step, carried = np.empty((k, k)), np.empty((k, k))
    for p in range(pattern.shape[0]):
        at, sessions, closed, begins = pattern[p]
        if begins == 0:
            continue
        for r in range(k):
            for c in range(k):
                line[p, r, c] = 1.0 if r == c and closed == 1 else 0.0
                var[p, r, c] = 0.0
        for j in range(sessions - 1, -1, -1):
            row = table[at + j]
            for r in range(k):
                for c in range(k):
                    step[r, c] = line[p, r, c]
                    carried[r, c] = 0.0
                    for d in range(k):
                        step[r, c] -= phi[r, d] * row[LINE, d, c]
                        carried[r, c] += row[BACK, r, d] * var[p, d, c]
            for r in range(k):
                for c in range(k):
                    line[p, r, c], var[p, r, c] = row[LINE, r, c], 0.0
                    for d in range(k):
                        line[p, r, c] += row[BACK, r, d] * step[d, c]
                        var[p, r, c] += carried[r, d] * row[BACK, c, d]
                        var[p, r, c] += row[ROOT, r, d] * row[ROOT, c, d]


@compiled
def set_openings(
    axes: Axes, place: Codes, pattern: Codes, z: Array, phi: Array, table: Array, w: Array,
    opening: Array, own: Codes,
) -> None:  # fmt: skip
    """Set a (N, k) of the first state and its pattern (N,), -1 where its session is complete.

    ``w`` (G, k) is what the filter left: means of states had m been 0.
    """
    k = len(axes)
    step = np.empty(k)
    for i in range(z.shape[0]):
        own[i] = -1
        for r in range(k):
            opening[i, r] = z[i, 0, r]
    for s in range(place.shape[0]):
        i, start, p, slot = place[s]
        if start > 0:
            continue
        at, sessions, closed, _ = pattern[p]
        own[i] = p
        for r in range(k):
            opening[i, r] = z[i, sessions, r] if closed == 1 else 0.0
        for j in range(sessions - 1, -1, -1):
            row = table[at + j]
            for r in range(k):
                step[r] = opening[i, r]
                for c in range(k):
                    step[r] -= phi[r, c] * w[slot + j, c]
            for r in range(k):
                opening[i, r] = w[slot + j, r]
                for c in range(k):
                    opening[i, r] += row[BACK, r, c] * step[c]


@compiled
def spread_first(
    axes: Axes, opening: Array, own: Codes, line: Array, var: Array, A: Array, score: Array,
    mean: Array, V: Array, first: Array, H: Array, g: Array,
) -> None:  # fmt: skip
    """Set H (N, k, k) and g (N, k, 1) of the first states.

    A (N, k, k) and score (N, k) are what the data say of intercepts with covariance V (k, k)
    around ``mean`` (N, k).
    """
    k = len(axes)
    L, weight = V.copy(), inverse(first)
    factor_semidefinite(L)
    T, M, s = np.empty((k, k)), np.empty((k, k)), np.empty(k)
    W, X, C, e, m = np.empty((k, k)), np.empty((k, k)), np.empty((k, k)), np.empty(k), np.empty(k)
    for i in range(A.shape[0]):
        whiten(axes, A[i], score[i], mean[i], L, T, M, s)
        for b in range(k):  # W = M^-1 L': intercepts have mean c + W's and covariance W'W
            m[b] = mean[i, b]
            for a in range(k):
                W[a, b] = L[b, a]
                for c in range(a):
                    W[a, b] -= M[a, c] * W[c, b]
                W[a, b] /= M[a, a]
                m[b] += W[a, b] * s[a]
        p = own[i]
        for r in range(k):
            e[r] = opening[i, r]
            for c in range(k):
                e[r] -= (line[p, r, c] if p >= 0 else (1.0 if r == c else 0.0)) * m[c]
            for a in range(k):
                X[a, r] = W[a, r]
                if p >= 0:
                    X[a, r] = 0.0
                    for c in range(k):
                        X[a, r] += W[a, c] * line[p, r, c]
        for r in range(k):
            for c in range(k):
                C[r, c] = var[p, r, c] if p >= 0 else 0.0
                for a in range(k):
                    C[r, c] += X[a, r] * X[a, c]
        for r in range(k):
            g[i, r, 0] = 0.0
            for c in range(k):
                g[i, r, 0] += weight[r, c] * e[c]
                H[i, r, c] = weight[r, c]
                for a in range(k):
                    for b in range(k):
                        H[i, r, c] -= weight[r, a] * C[a, b] * weight[b, c]
