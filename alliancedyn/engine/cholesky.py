"""Cholesky factors of parts of a matrix, compiled: what every pass over missing patterns needs."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]

FAST = {"reassoc", "contract", "nsz", "arcp"}  # NaN must stay NaN: it signals a singular matrix


@njit(cache=True, fastmath=FAST)
def factor_part(matrix: Array, at: Index, n: int, factor: Array) -> float:
    """Factor ``matrix[at, at]`` into the lower ``factor[:n, :n]``.

    Returns
    -------
    float
        log det of the part, NaN if it is not positive definite.
    """
    log_det = 0.0
    for a in range(n):
        for b in range(a + 1):
            value = matrix[at[a], at[b]]
            for c in range(b):
                value -= factor[a, c] * factor[b, c]
            if a == b:
                if not value > 0.0:
                    return np.nan
                factor[a, a] = math.sqrt(value)
                log_det += math.log(value)
            else:
                factor[a, b] = value / factor[b, b]
    return log_det


@njit(cache=True, fastmath=FAST)
def add_inverse(
    factor: Array, n: int, weight: float, at: Index, scratch: Array, total: Array
) -> None:
    """Add ``weight (factor factor')^-1`` to ``total[at, at]``."""
    for b in range(n):  # column b of factor^-1, kept as a row of the scratch matrix
        for a in range(b, n):
            value = 1.0 if a == b else 0.0
            for c in range(b, a):
                value -= factor[a, c] * scratch[b, c]
            scratch[b, a] = value / factor[a, a]
    for a in range(n):
        for b in range(a + 1):
            value = 0.0
            for c in range(a, n):
                value += scratch[a, c] * scratch[b, c]
            total[at[a], at[b]] += weight * value
            if a != b:
                total[at[b], at[a]] += weight * value
