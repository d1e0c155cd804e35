"""The compiled loops of the exact discretisation: a power series, then doublings, and the way back.

The coefficients of the power series are the same for all gaps,

    phi(t) = sum_k E_k t^k,            E_0 = I,    E_k = A E_{k-1} / k,
    psi(t) = t sum_k S_k t^k,          S_0 = Q,    S_k = (A S_{k-1} + S_{k-1} A') / (k + 1),

so a gap costs two polynomials in t = h / 2^s, and then s doublings

    psi(2t) = psi(t) + phi(t) psi(t) phi(t)',      phi(2t) = phi(t)^2.

The adjoint goes back through the doublings gap by gap, adds up what each gap asks of the
coefficients, and goes back through their recursion once. Working arrays end in an axis of up to
``LANES`` gaps that take the same number of doublings, so that the innermost loops become vector
instructions and the figures of a gap do not depend on which other gaps it is computed with.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]

LANES = 64
TERMS = 18  # with ||A t|| <= 1/2 the first term left out is below 1e-17 of the sum

# Only fused products: sums must keep their order, or phi - 1 loses the digits kept on purpose.
compiled = njit(cache=True, fastmath={"contract"}, error_model="numpy", nogil=True)


@compiled
def distinct(keys: NDArray[np.uint64]) -> tuple[Index, Index]:
    """Return the first place of each distinct key, and the number of every key among them.

    A hash table with linear probing that grows, so a million keys with few distinct values stay
    within the cache; sorting them would take twenty times as long.
    """
    first = np.empty(len(keys), np.int64)
    number = np.empty(len(keys), np.int64)
    size = np.uint64(1024)
    table = np.full(1024, -1, np.int64)
    count = 0
    for m in range(len(keys)):
        slot = _slot(table, size, keys, first, keys[m])
        if table[slot] < 0:
            table[slot] = count
            first[count] = m
            count += 1
            if 2 * count > len(table):
                size = size * np.uint64(2)
                table = np.full(2 * len(table), -1, np.int64)
                for k in range(count):
                    table[_slot(table, size, keys, first, keys[first[k]])] = k
                slot = _slot(table, size, keys, first, keys[m])
        number[m] = table[slot]
    return first[:count].copy(), number


@compiled
def _slot(
    table: Index, size: np.uint64, keys: NDArray[np.uint64], first: Index, key: np.uint64
) -> np.uint64:
    """Find the slot of the table that holds a key, or the free one where it belongs."""
    mixed = (key ^ (key >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
    slot = (mixed >> np.uint64(32)) & (size - np.uint64(1))
    while table[slot] >= 0 and keys[first[table[slot]]] != key:
        slot = (slot + np.uint64(1)) & (size - np.uint64(1))
    return slot


@compiled
def sums(values: Array, number: Index, count: int) -> Array:
    """Add up rows (M, c) that carry the same number: (count, c)."""
    total = np.zeros((count, values.shape[1]))
    for m in range(len(values)):
        for c in range(values.shape[1]):
            total[number[m], c] += values[m, c]
    return total


@compiled
def coefficients(A: Array, Q: Array) -> tuple[Array, Array]:
    """Return E and S (TERMS, d, d) of the power series."""
    d = len(A)
    E = np.zeros((TERMS, d, d))
    S = np.zeros((TERMS, d, d))
    for i in range(d):
        E[0, i, i] = 1.0
        for j in range(d):
            S[0, i, j] = 0.5 * (Q[i, j] + Q[j, i])
    for k in range(1, TERMS):
        for i in range(d):
            for j in range(d):
                for n in range(d):
                    E[k, i, j] += A[i, n] * E[k - 1, n, j] / k
                    S[k, i, j] += (A[i, n] * S[k - 1, n, j] + S[k - 1, i, n] * A[j, n]) / (k + 1)
    return E, S


@compiled
def _coefficients_back(
    A: Array, E: Array, S: Array, by_E: Array, by_S: Array, by_A: Array, by_Q: Array
) -> None:
    """Go back through :func:`coefficients` for one owner; by_S is symmetric; uses up by_E, by_S."""
    d = len(A)
    for k in range(TERMS - 1, 0, -1):
        for i in range(d):
            for j in range(d):
                for n in range(d):
                    by_A[i, j] += by_E[k, i, n] * E[k - 1, j, n] / k + 2.0 * by_S[k, i, n] * S[
                        k - 1, n, j
                    ] / (k + 1)
                    by_E[k - 1, i, j] += A[n, i] * by_E[k, n, j] / k
                    by_S[k - 1, i, j] += (A[n, i] * by_S[k, n, j] + by_S[k, i, n] * A[n, j]) / (
                        k + 1
                    )
    for i in range(d):
        for j in range(d):
            by_Q[i, j] = 0.5 * (by_S[0, i, j] + by_S[0, j, i])


@compiled
def coefficients_back(
    A: Array, E: Array, S: Array, by_E: Array, by_S: Array
) -> tuple[Array, Array]:
    """Return by_A, by_Q (N, d, d) from by_E, by_S (N, TERMS, d, d), which are used up."""
    by_A = np.zeros((len(by_E), *A.shape))
    by_Q = np.zeros((len(by_E), *A.shape))
    for n in range(len(by_E)):
        _coefficients_back(A, E, S, by_E[n], by_S[n], by_A[n], by_Q[n])
    return by_A, by_Q


@compiled
def _polynomials(E: Array, S: Array, t: Array, width: int, X: Array, psi: Array) -> None:
    """Sum the series at the short gaps t: X = phi - I and psi, (d, d, LANES)."""
    d = E.shape[1]
    for i in range(d):
        for j in range(d):
            for b in range(width):
                X[i, j, b] = E[TERMS - 1, i, j]
            for k in range(TERMS - 2, 0, -1):
                for b in range(width):
                    X[i, j, b] = X[i, j, b] * t[b] + E[k, i, j]
            for b in range(width):
                X[i, j, b] *= t[b]
        for j in range(i + 1):
            for b in range(width):
                psi[i, j, b] = S[TERMS - 1, i, j]
            for k in range(TERMS - 2, -1, -1):
                for b in range(width):
                    psi[i, j, b] = psi[i, j, b] * t[b] + S[k, i, j]
            for b in range(width):
                psi[i, j, b] *= t[b]
                psi[j, i, b] = psi[i, j, b]


@compiled
def _double_psi(phi: Array, psi: Array, width: int, W: Array, out: Array) -> None:
    """Set out = psi + phi psi phi'; W is room for phi psi."""
    d = len(phi)
    _product(phi, psi, width, W)
    for i in range(d):
        for j in range(i + 1):
            for b in range(width):
                out[i, j, b] = psi[i, j, b]
            for n in range(d):
                for b in range(width):
                    out[i, j, b] += W[i, n, b] * phi[j, n, b]
            for b in range(width):
                out[j, i, b] = out[i, j, b]


@compiled
def _product(left: Array, right: Array, width: int, out: Array) -> None:
    """Set out = left right, gap by gap."""
    d = len(left)
    for i in range(d):
        for j in range(d):
            for b in range(width):
                out[i, j, b] = left[i, 0, b] * right[0, j, b]
            for n in range(1, d):
                for b in range(width):
                    out[i, j, b] += left[i, n, b] * right[n, j, b]


@compiled
def _plus_identity(X: Array, width: int, phi: Array) -> None:
    """Set phi = I + X."""
    for i in range(len(X)):
        for j in range(len(X)):
            for b in range(width):
                phi[i, j, b] = X[i, j, b] + (1.0 if i == j else 0.0)


@compiled
def _climb(
    E: Array, S: Array, t: Array, width: int, steps: int, early: int,
    phi: Array, psi: Array, X: Array, W: Array,
) -> None:  # fmt: skip
    """Fill phi, psi (steps + 1, d, d, LANES) with the series at t and each doubling of it.

    The first ``early`` doublings carry X = phi - I, X(2t) = 2 X + X^2, whose small entries keep
    the digits that 1 + x would round away; the others, where phi dies out, carry phi itself.
    """
    d = E.shape[1]
    _polynomials(E, S, t, width, X, psi[0])
    _plus_identity(X, width, phi[0])
    for s in range(steps):
        _double_psi(phi[s], psi[s], width, W, psi[s + 1])
        if s < early:
            _product(X, X, width, W)
            for i in range(d):
                for j in range(d):
                    for b in range(width):
                        X[i, j, b] = 2.0 * X[i, j, b] + W[i, j, b]
            _plus_identity(X, width, phi[s + 1])
        else:
            _product(phi[s], phi[s], width, phi[s + 1])


@compiled
def _descend(
    phi: Array, psi: Array, width: int, by_phi: Array, by_psi: Array, W: Array, B: Array
) -> None:
    """Adjoint of one doubling, in place: from derivatives at 2t to derivatives at t.

    by_phi <- by_phi phi' + phi' by_phi + 2 by_psi phi psi,    by_psi <- by_psi + phi' by_psi phi.
    """
    d = len(phi)
    _product(by_psi, phi, width, W)
    for i in range(d):
        for j in range(d):
            for b in range(width):
                B[i, j, b] = 0.0
            for n in range(d):
                for b in range(width):
                    B[i, j, b] += (
                        by_phi[i, n, b] * phi[j, n, b]
                        + phi[n, i, b] * by_phi[n, j, b]
                        + 2.0 * W[i, n, b] * psi[n, j, b]
                    )
    for i in range(d):
        for j in range(d):
            for b in range(width):
                by_phi[i, j, b] = B[i, j, b]
            for n in range(d):
                for b in range(width):
                    by_psi[i, j, b] += phi[n, i, b] * W[n, j, b]


@compiled
def _block(order: Index, group: Index, start: int) -> int:
    """Count the gaps from ``start`` on that share a group, up to LANES."""
    width = 1
    while (
        width < LANES
        and start + width < len(order)
        and group[order[start + width]] == group[order[start]]
    ):
        width += 1
    return width


@compiled
def _collect(F: Array, P: Array, t: float, b: int, by_E: Array, by_S: Array) -> None:
    """Add the derivatives F by phi(t) and P by psi(t) in lane b to those by the coefficients."""
    d = len(F)
    power = 1.0
    for k in range(TERMS):
        for i in range(d):
            for j in range(d):
                by_E[k, i, j] += power * F[i, j, b]
                by_S[k, i, j] += power * t * P[i, j, b]
        power *= t


@compiled
def _room(d: int, steps: Index) -> tuple[Array, Array, Array, Array, Array]:
    """Return empty phi and psi for the longest way, X and W of one step, and t."""
    most = 0
    for m in range(len(steps)):
        most = max(most, steps[m])
    way = (most + 1, d, d, LANES)
    one = (d, d, LANES)
    return np.empty(way), np.empty(way), np.empty(one), np.empty(one), np.empty(LANES)


@compiled
def climb(
    E: Array, S: Array, short: Array, steps: Index, early: Index, group: Index, order: Index
) -> tuple[Array, Array]:
    """Return phi, psi (M, d, d) at the gaps short * 2^steps; ``order`` sorts the groups."""
    d = E.shape[1]
    phi, psi, X, W, t = _room(d, steps)
    out_phi, out_psi = np.empty((len(short), d, d)), np.empty((len(short), d, d))
    start = 0
    while start < len(order):
        width = _block(order, group, start)
        for b in range(width):
            t[b] = short[order[start + b]]
        top = steps[order[start]]
        _climb(E, S, t, width, top, early[order[start]], phi, psi, X, W)
        for b in range(width):
            m = order[start + b]
            for i in range(d):
                for j in range(d):
                    out_phi[m, i, j] = phi[top, i, j, b]
                    out_psi[m, i, j] = psi[top, i, j, b]
        start += width
    return out_phi, out_psi


@compiled
def descend(
    E: Array, S: Array, short: Array, steps: Index, early: Index, group: Index, order: Index,
    by_phi: Array, by_psi: Array, owner: Index, owners: int,
) -> tuple[Array, Array]:  # fmt: skip
    """Return by_E, by_S (N, TERMS, d, d): what all gaps together ask of their owner's series.

    by_phi and by_psi are (M, d d); of by_psi the symmetric part counts.
    """
    d = E.shape[1]
    by_E, by_S = np.zeros((owners, TERMS, d, d)), np.zeros((owners, TERMS, d, d))
    phi, psi, X, W, t = _room(d, steps)
    F, P = np.empty((d, d, LANES)), np.empty((d, d, LANES))
    start = 0
    while start < len(order):
        width = _block(order, group, start)
        for b in range(width):
            m = order[start + b]
            t[b] = short[m]
            for i in range(d):
                for j in range(d):
                    F[i, j, b] = by_phi[m, i * d + j]
                    P[i, j, b] = 0.5 * (by_psi[m, i * d + j] + by_psi[m, j * d + i])
        top = steps[order[start]]
        _climb(E, S, t, width, top, early[order[start]], phi, psi, X, W)
        for s in range(top - 1, -1, -1):
            _descend(phi[s], psi[s], width, F, P, W, X)
        for b in range(width):
            n = owner[order[start + b]]
            _collect(F, P, t[b], b, by_E[n], by_S[n])
        start += width
    return by_E, by_S
