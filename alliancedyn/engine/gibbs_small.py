"""Small matrices for the Gibbs sampler: factors, solves, draws, written out as loops.

A matrix of two to ten rows is done before a call to LAPACK has begun. Nothing here checks its
input: a matrix that is not positive definite gives NaN, which the sampler reports. Random numbers
are those of the compiled generator, one per thread: `seed_thread` at the head of a run of sweeps
makes them a chain's own. Kernels take plain arrays: tuples of arrays take minutes to compile.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Without "nnan" and "ninf": -inf is how a slice is told that it left the support.
_FAST = {"reassoc", "nsz", "arcp", "contract"}
compiled = njit(cache=True, fastmath=_FAST, error_model="numpy", nogil=True)
# A step of a long loop, written apart to be read apart: it is compiled as part of its caller, and
# what it calls is not compiled once more in between.
step_of = njit(inline="always")

SINGULAR = 1e-12  # a pivot below this share of its diagonal is a known direction, not a variance


@compiled
def seed_thread(seed: int) -> None:
    """Seed the generator of the calling thread."""
    np.random.seed(seed)  # noqa: NPY002  (compiled: numba's generator, not NumPy's global one)


@compiled
def normal() -> float:
    """Draw from N(0, 1)."""
    return np.random.standard_normal()  # noqa: NPY002


@compiled
def uniform() -> float:
    """Draw from (0, 1)."""
    return np.random.random()  # noqa: NPY002


@compiled
def factor(A: Array) -> None:
    """Overwrite the lower triangle of A by its Cholesky factor; the rest becomes 0."""
    p = A.shape[0]
    for j in range(p):
        for i in range(j, p):
            total = A[i, j]
            for c in range(j):
                total -= A[i, c] * A[j, c]
            A[i, j] = math.sqrt(total) if i == j else total / A[j, j]
        for i in range(j):
            A[i, j] = 0.0


@compiled
def factor_semidefinite(A: Array) -> None:
    """Do as `factor`, leaving zeros where a direction has no variance."""
    p = A.shape[0]
    for j in range(p):
        whole = A[j, j]
        for i in range(j, p):
            total = A[i, j]
            for c in range(j):
                total -= A[i, c] * A[j, c]
            if i > j:
                A[i, j] = total / A[j, j] if A[j, j] > 0.0 else 0.0
            elif total > SINGULAR * whole:
                A[j, j] = math.sqrt(total)
            else:
                A[j, j] = 0.0
        for i in range(j):
            A[i, j] = 0.0


@compiled
def solve_lower(L: Array, b: Array) -> None:
    """Overwrite b by L^-1 b."""
    for i in range(L.shape[0]):
        total = b[i]
        for c in range(i):
            total -= L[i, c] * b[c]
        b[i] = total / L[i, i]


@compiled
def solve_upper(L: Array, b: Array) -> None:
    """Overwrite b by L'^-1 b."""
    p = L.shape[0]
    for i in range(p - 1, -1, -1):
        total = b[i]
        for c in range(i + 1, p):
            total -= L[c, i] * b[c]
        b[i] = total / L[i, i]


@compiled
def inverse(A: Array) -> Array:
    """Return the inverse of a positive definite matrix."""
    p = A.shape[0]
    L = A.copy()
    factor(L)
    found = np.zeros((p, p))
    column = np.empty(p)
    for j in range(p):
        column[:] = 0.0
        column[j] = 1.0
        solve_lower(L, column)
        solve_upper(L, column)
        for i in range(p):
            found[i, j] = column[i]
    return found


@compiled
def multiply(A: Array, B: Array) -> Array:
    """Return A B."""
    found = np.zeros((A.shape[0], B.shape[1]))
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            for c in range(B.shape[1]):
                found[i, c] += A[i, j] * B[j, c]
    return found


@compiled
def draw_normal(precision: Array, linear: Array) -> Array:
    """Draw from N(P^-1 b, P^-1); the precision P is overwritten by its factor."""
    factor(precision)
    drawn = linear.copy()
    solve_lower(precision, drawn)
    for j in range(drawn.shape[0]):
        drawn[j] += normal()
    solve_upper(precision, drawn)
    return drawn


@compiled
def covariance(sd: Array, corr: Array, start: int, stop: int) -> Array:
    """Return D R D for the part start .. stop of SDs and correlations."""
    p = stop - start
    V = np.empty((p, p))
    for a in range(p):
        for b in range(p):
            V[a, b] = sd[start + a] * corr[start + a, start + b] * sd[start + b]
    return V
