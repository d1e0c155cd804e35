"""Random effects of clients and therapists, and what predicts them, drawn in nested blocks.

What the data say of the effects b_i of client i, the rest given, is normal with information A_i,
which may be singular, and score h_i at 0. Around a mean c_i, r_i = h_i - A_i c_i and V = L L'::

    M_i = I + L'A_i L,   H_i = A_i - A_i L M_i^-1 L'A_i,   g_i = r_i - A_i L M_i^-1 L'r_i
    b_i - c_i ~ N(L M_i^-1 L'r_i, L M_i^-1 L')

H_i and g_i are information and score of c_i with b_i integrated out, so that regressions on
predictors, therapists and covariances are drawn before the effects they explain. An SD near 0 does
no harm, for V is never inverted. Where effects correlate across blocks, a block is conditioned on
the others: V becomes V - V_o V_oo^-1 V_o', c_i moves by S u_o with S = V_o V_oo^-1.
"""

from __future__ import annotations

import numpy as np

from alliancedyn.engine.gibbs_small import (
    Array,
    Codes,
    compiled,
    draw_normal,
    factor,
    factor_semidefinite,
    inverse,
    normal,
    solve_lower,
    solve_upper,
)


@compiled
def _condition(V: Array, start: int, stop: int) -> tuple[Codes, Array, Array, Array]:
    """Split V at a block: indices of the others, S, L and V_oo^-1."""
    q = V.shape[0]
    p = stop - start
    others = np.empty(q - p, np.int64)
    for j in range(q - p):
        others[j] = j if j < start else j + p
    root = np.empty((p, p))
    slope = np.zeros((p, q - p))
    rest = np.empty((q - p, q - p))
    for a in range(p):
        for b in range(p):
            root[a, b] = V[start + a, start + b]
    if q > p:
        for a in range(q - p):
            for b in range(q - p):
                rest[a, b] = V[others[a], others[b]]
        rest = inverse(rest)
        for a in range(p):
            for b in range(q - p):
                for c in range(q - p):
                    slope[a, b] += V[start + a, others[c]] * rest[c, b]
        for a in range(p):
            for b in range(p):
                for c in range(q - p):
                    root[a, b] -= slope[a, c] * V[others[c], start + b]
    factor_semidefinite(root)
    return others, slope, root, rest


@compiled
def _whiten(
    A: Array, r: Array, root: Array, slope: Array, away: Array, T: Array, M: Array, s: Array
) -> None:
    """Set T = L'A, M to the factor of I + L'A L, s = L'(r - A S away)."""
    p = root.shape[0]
    for a in range(p):
        for b in range(p):
            total = 0.0
            for c in range(a, p):
                total += root[c, a] * A[c, b]
            T[a, b] = total
    for a in range(p):
        total = 0.0
        for c in range(a, p):
            total += root[c, a] * r[c]
        for b in range(p):
            for c in range(away.shape[0]):
                total -= T[a, b] * slope[b, c] * away[c]
        s[a] = total
        for b in range(p):
            total = 1.0 if a == b else 0.0
            for c in range(b, p):
                total += T[a, c] * root[c, b]
            M[a, b] = total
    factor(M)


@compiled
def _lower_columns(M: Array, T: Array) -> None:
    """Overwrite T by M^-1 T, M lower triangular."""
    for j in range(T.shape[1]):
        for a in range(M.shape[0]):
            total = T[a, j]
            for c in range(a):
                total -= M[a, c] * T[c, j]
            T[a, j] = total / M[a, a]


@compiled
def _fill_others(
    H: Array, g: Array, start: int, others: Codes, slope: Array, rest: Array, away: Array
) -> None:
    """Complete H and g of a unit by the effects that are known: from the block outward."""
    p, o = slope.shape
    for b in range(o):
        for a in range(p):
            total = 0.0
            for c in range(p):
                total -= H[start + a, start + c] * slope[c, b]
            H[start + a, others[b]] = total
            H[others[b], start + a] = total
    for a in range(o):
        total = 0.0
        for c in range(o):
            total += rest[a, c] * away[c]
        for c in range(p):
            total -= slope[c, a] * g[start + c, 0]
        g[others[a], 0] = total
        for b in range(o):
            total = rest[a, b]
            for c in range(p):
                total -= slope[c, a] * H[start + c, others[b]]
            H[others[a], others[b]] = total


@compiled
def spread(
    A: Array, r: Array, V: Array, start: int, stop: int, U: Array, H: Array, g: Array
) -> None:
    """Set H (n, q, q) and g (n, q, 1): effects start .. stop integrated out, the rest known (U)."""
    others, slope, root, rest = _condition(V, start, stop)
    p, o = slope.shape
    T, M, s, away = np.empty((p, p)), np.empty((p, p)), np.empty(p), np.empty(o)
    for i in range(A.shape[0]):
        for c in range(o):
            away[c] = U[i, others[c]]
        _whiten(A[i], r[i], root, slope, away, T, M, s)
        _lower_columns(M, T)
        solve_lower(M, s)
        for a in range(p):
            total = r[i, a]
            for c in range(p):
                total -= T[c, a] * s[c]
                for b in range(o):
                    total -= A[i, a, c] * slope[c, b] * away[b]
            g[i, start + a, 0] = total
            for b in range(p):
                total = A[i, a, b]
                for c in range(p):
                    total -= T[c, a] * T[c, b]
                H[i, start + a, start + b] = total
        if o > 0:
            _fill_others(H[i], g[i], start, others, slope, rest, away)


@compiled
def draw_effects(A: Array, r: Array, V: Array, start: int, stop: int, U: Array) -> None:
    """Draw the deviations U[:, start:stop] of every unit from its mean."""
    others, slope, root, _ = _condition(V, start, stop)
    p, o = slope.shape
    T, M, s, away = np.empty((p, p)), np.empty((p, p)), np.empty(p), np.empty(o)
    for i in range(A.shape[0]):
        for c in range(o):
            away[c] = U[i, others[c]]
        _whiten(A[i], r[i], root, slope, away, T, M, s)
        solve_lower(M, s)
        for a in range(p):
            s[a] += normal()
        solve_upper(M, s)
        for a in range(p):
            total = 0.0
            for c in range(a + 1):
                total += root[a, c] * s[c]
            for c in range(o):
                total += slope[a, c] * away[c]
            U[i, start + a] = total


@compiled
def regress(
    X: Array, row: int, H: Array, g: Array, start: int, stop: int
) -> tuple[Array, Array]:  # fmt: skip
    """Sum information and score of the coefficients (rows row .. of X, effects start .. stop)."""
    N, C = X.shape
    p = stop - start
    info = np.zeros(((C - row) * p, (C - row) * p))
    score = np.zeros((C - row) * p)
    for i in range(N):
        for c in range(row, C):
            for a in range(p):
                score[(c - row) * p + a] += X[i, c] * g[i, start + a, 0]
                for d in range(row, c + 1):
                    x = X[i, c] * X[i, d]
                    for b in range(p):
                        at = (d - row) * p + b
                        info[(c - row) * p + a, at] += x * H[i, start + a, start + b]
    for a in range(info.shape[0]):
        for b in range(a):
            info[b, a] = info[a, b]
    return info, score


@compiled
def draw_coefficients(
    info: Array, score: Array, coef: Array, row: int, at: int, location: Array, precision: Array
) -> Array:  # fmt: skip
    """Draw coef[row:, at:at + p]; return the change (rows x p,).

    ``location`` and ``precision`` of the priors are laid out as ``coef``.
    """
    rows = coef.shape[0] - row
    if rows == 0:
        return score
    p = score.shape[0] // rows
    for c in range(rows):
        for a in range(p):
            here = precision[row + c, at + a]
            info[c * p + a, c * p + a] += here
            score[c * p + a] += here * (location[row + c, at + a] - coef[row + c, at + a])
    change = draw_normal(info, score)
    for c in range(rows):
        for a in range(p):
            coef[row + c, at + a] += change[c * p + a]
    return change


@compiled
def group_information(
    X: Array, codes: Codes, H: Array, g: Array, start: int, v: Array
) -> tuple[Array, Array, Array]:
    """Sum what the clients of a therapist say of its effect, had it been 0.

    Returns
    -------
    A (J, k, k), r (J, k), Z (J, C k, k)
        Information, score, and the information shared with the coefficients.
    """
    J, k = v.shape
    N, C = X.shape
    A, r, Z = np.zeros((J, k, k)), np.zeros((J, k)), np.zeros((J, C * k, k))
    for i in range(N):
        j = codes[i]
        for a in range(k):
            r[j, a] += g[i, start + a, 0]
            for b in range(k):
                here = H[i, start + a, start + b]
                r[j, a] += here * v[j, b]
                A[j, a, b] += here
                for c in range(C):
                    Z[j, c * k + a, b] += X[i, c] * here
    return A, r, Z


@compiled
def integrate_groups(
    A: Array, r: Array, Z: Array, V: Array, v: Array, info: Array, score: Array
) -> None:
    """Take the therapists' effects out of information and score of the coefficients."""
    J, k = v.shape
    _, slope, root, _ = _condition(V, 0, k)
    T, M, s, away = np.empty((k, k)), np.empty((k, k)), np.empty(k), np.empty(0)
    shared = np.empty((k, Z.shape[1]))
    for j in range(J):
        _whiten(A[j], r[j], root, slope, away, T, M, s)
        solve_lower(M, s)
        for a in range(k):
            for c in range(Z.shape[1]):
                shared[a, c] = 0.0
                for b in range(a, k):
                    shared[a, c] += root[b, a] * Z[j, c, b]
        _lower_columns(M, shared)
        for c in range(Z.shape[1]):
            for a in range(k):
                score[c] += Z[j, c, a] * v[j, a] - shared[a, c] * s[a]
                for d in range(Z.shape[1]):
                    info[c, d] -= shared[a, c] * shared[a, d]
