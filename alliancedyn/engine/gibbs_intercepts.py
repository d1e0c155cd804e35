"""Intercepts alone, integrated out and drawn: `gibbs_effects` where one block is all there is.

With A_i and score_i what the data say of intercept i, c_i its mean and V = L L' its covariance ::

    M_i M_i' = I + L'A_i L,   s_i = M_i^-1 L'(score_i - A_i c_i),   T_i = M_i^-1 L'A_i
    H_i = A_i - T_i'T_i,      g_i = score_i - A_i c_i - T_i's_i
    b_i - c_i = L M_i'^-1 (s_i + standard normals)
"""

from __future__ import annotations

import math

import numpy as np

from alliancedyn.engine.gibbs_shared import Axes
from alliancedyn.engine.gibbs_small import Array, compiled, factor_semidefinite, normal


@compiled
def whiten(
    axes: Axes, A: Array, score: Array, mean: Array, L: Array, T: Array, M: Array, s: Array
) -> None:  # fmt: skip
    """Set T = L'A, M to the factor of I + L'A L, s = M^-1 L'r with r = score - A mean."""
    k = len(axes)
    for a in range(k):
        s[a] = 0.0
        for c in range(k):
            s[a] += L[c, a] * score[c]
            T[a, c] = 0.0
            for b in range(k):
                T[a, c] += L[b, a] * A[b, c]
    for a in range(k):
        for b in range(k):
            s[a] -= T[a, b] * mean[b]
            M[a, b] = 1.0 if a == b else 0.0
            for c in range(k):
                M[a, b] += T[a, c] * L[c, b]
    for a in range(k):
        for b in range(a + 1):
            for c in range(b):
                M[a, b] -= M[a, c] * M[b, c]
            M[a, b] = math.sqrt(M[a, a]) if a == b else M[a, b] / M[b, b]
        for c in range(a):
            s[a] -= M[a, c] * s[c]
        s[a] /= M[a, a]


@compiled
def spread_intercepts(
    axes: Axes, A: Array, score: Array, mean: Array, V: Array, H: Array, g: Array
) -> None:  # fmt: skip
    """Set H (N, k, k) and g (N, k, 1): `gibbs_effects.spread` where a block is all there is."""
    k = len(axes)
    L, T, M, s = V.copy(), np.empty((k, k)), np.empty((k, k)), np.empty(k)
    factor_semidefinite(L)
    for i in range(A.shape[0]):
        whiten(axes, A[i], score[i], mean[i], L, T, M, s)
        for b in range(k):
            for a in range(k):
                for c in range(a):
                    T[a, b] -= M[a, c] * T[c, b]
                T[a, b] /= M[a, a]
        for a in range(k):
            g[i, a, 0] = score[i, a]
            for b in range(k):
                g[i, a, 0] -= A[i, a, b] * mean[i, b] + T[b, a] * s[b]
                H[i, a, b] = A[i, a, b]
                for c in range(k):
                    H[i, a, b] -= T[c, a] * T[c, b]


@compiled
def draw_intercepts(
    axes: Axes, A: Array, score: Array, mean: Array, V: Array, U: Array
) -> None:  # fmt: skip
    """Draw the deviations of intercepts: `gibbs_effects.draw_effects` of a whole block."""
    k = len(axes)
    L, T, M, s = V.copy(), np.empty((k, k)), np.empty((k, k)), np.empty(k)
    factor_semidefinite(L)
    for i in range(A.shape[0]):
        whiten(axes, A[i], score[i], mean[i], L, T, M, s)
        for a in range(k):
            s[a] += normal()
        for a in range(k - 1, -1, -1):
            for c in range(a + 1, k):
                s[a] -= M[c, a] * s[c]
            s[a] /= M[a, a]
        for a in range(k):
            U[i, a] = 0.0
            for c in range(k):
                U[i, a] += L[a, c] * s[c]
