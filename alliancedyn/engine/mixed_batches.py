"""Batches of clients of a linear mixed model, laid out for vector instructions.

Every innermost loop runs over clients. A batch is one outer unit, or so many clients where there
is no outer level.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.mixed_rows import compiled

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

LANES = 64  # long vector loops, and the working arrays stay in the nearest cache


class Batch(NamedTuple):
    """Working arrays of one batch; the last axis is that of clients."""

    v: Array  # (m, m, lanes): L^-1 R, L L' = M
    w: Array  # (m, p + 1, lanes): L^-1 Q'[X y]
    M: Array  # (m, m, lanes)
    Y: Array  # (m, m, lanes)
    H: Array  # (m, m, lanes): Z'V^-1 Z within the batch's clients
    K: Array  # (m, p + 1, lanes): Z'V^-1 [X y]
    B: Array  # (m, m, lanes)
    t: Array  # (m, lanes): Z'V^-1 r
    h: Array  # (m, lanes): Z'W^-1 1
    CK: Array  # (m, p, lanes): K C
    det: Array  # (lanes,)


@compiled
def batches(blocks: Codes, clients: int) -> Codes:
    """Return where each batch begins: outer units, or every so many clients."""
    if len(blocks):
        return blocks
    count = (clients + LANES - 1) // LANES
    starts = np.empty(count + 1, dtype=np.int64)
    for g in range(count):
        starts[g] = g * LANES
    starts[count] = clients
    return starts


@compiled
def make_batch(starts: Codes, m: int, p: int) -> Batch:
    """Allocate working arrays for the largest batch."""
    lanes = 1
    for g in range(len(starts) - 1):
        lanes = max(lanes, starts[g + 1] - starts[g])
    return Batch(
        np.zeros((m, m, lanes)),
        np.zeros((m, p + 1, lanes)),
        np.zeros((m, m, lanes)),
        np.zeros((m, m, lanes)),
        np.zeros((m, m, lanes)),
        np.zeros((m, p + 1, lanes)),
        np.zeros((m, m, lanes)),
        np.zeros((m, lanes)),
        np.zeros((m, lanes)),
        np.zeros((m, p, lanes)),
        np.zeros(lanes),
    )


@compiled
def load(root: Array, projected: Array, first: int, size: int, s: Batch) -> None:
    """Lay R and Q'[X y] of the batch's clients out in v and w."""
    m, width = projected.shape[1], projected.shape[2]
    for a in range(m):
        for b in range(m):
            for i in range(size):
                s.v[a, b, i] = root[first + i, a, b]
        for b in range(width):
            for i in range(size):
                s.w[a, b, i] = projected[first + i, a, b]


@compiled
def factor(omega: Array, size: int, s: Batch) -> None:
    """Fill M with the Cholesky factor of I + R Omega R', its diagonal inverted, and det."""
    m = len(omega)
    for a in range(m):
        for b in range(m):
            for i in range(size):
                s.Y[a, b, i] = 0.0
                s.M[a, b, i] = 1.0 if a == b else 0.0
            for c in range(a, m):  # R is upper triangular
                for i in range(size):
                    s.Y[a, b, i] += s.v[a, c, i] * omega[c, b]
    for i in range(size):
        s.det[i] = 1.0
    for a in range(m):
        for b in range(a + 1):
            for c in range(b, m):
                for i in range(size):
                    s.M[a, b, i] += s.Y[a, c, i] * s.v[b, c, i]
            for c in range(b):
                for i in range(size):
                    s.M[a, b, i] -= s.M[a, c, i] * s.M[b, c, i]
            if a == b:
                for i in range(size):
                    s.det[i] *= s.M[a, a, i]
                    s.M[a, a, i] = 1.0 / math.sqrt(s.M[a, a, i])
            else:
                for i in range(size):
                    s.M[a, b, i] *= s.M[b, b, i]


@compiled
def divide(X: Array, M: Array, size: int) -> None:
    """Replace X by L^-1 X, in place."""
    for a in range(X.shape[0]):
        for b in range(X.shape[1]):
            for c in range(a):
                for i in range(size):
                    X[a, b, i] -= M[a, c, i] * X[c, b, i]
            for i in range(size):
                X[a, b, i] *= M[a, a, i]


@compiled
def solve(root: Array, projected: Array, first: int, size: int, omega: Array, s: Batch) -> None:
    """Fill v, w and det for the clients of a batch."""
    load(root, projected, first, size, s)
    factor(omega, size, s)
    divide(s.v, s.M, size)
    divide(s.w, s.M, size)


@compiled
def combine(size: int, s: Batch) -> None:
    """Fill H = Z'W^-1 Z = v'v and K = Z'W^-1 [X y] = v'w."""
    m, width = s.w.shape[0], s.w.shape[1]
    for a in range(m):
        for b in range(m):
            for i in range(size):
                s.H[a, b, i] = 0.0
            for c in range(m):
                for i in range(size):
                    s.H[a, b, i] += s.v[c, a, i] * s.v[c, b, i]
        for b in range(width):
            for i in range(size):
                s.K[a, b, i] = 0.0
            for c in range(m):
                for i in range(size):
                    s.K[a, b, i] += s.v[c, a, i] * s.w[c, b, i]
