"""A linear stochastic differential equation, seen exactly at any gaps, and how to read its drift.

Within-client deviations w (d,) move in continuous time,

    dw = A w dt + G dW,            Q = G G',

rows of the drift A being outcomes and columns predictors, per unit of time (a week, say): A[i, j]
is the effect of j's level on the rate of change of i. Seen h units of time apart, the same process
is

    w(t + h) = phi(h) w(t) + v,    phi(h) = expm(A h),
    Cov(v) = psi(h) = int_0^h expm(A s) Q expm(A s)' ds,

whatever the gap. Scores are in score points, A in 1 / time, Q in squared score points / time.

References
----------
Van Loan, C. F. (1978). Computing integrals involving the matrix exponential. IEEE Transactions on
Automatic Control, 23, 395-404.
Moler, C., & Van Loan, C. (2003). Nineteen dubious ways to compute the exponential of a matrix,
twenty-five years later. SIAM Review, 45, 3-49 (method 3, scaling and squaring).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import logm
from scipy.linalg.lapack import dgebal
from scipy.optimize import brentq

from alliancedyn.engine import doubling
from alliancedyn.errors import DataError, SpecificationError, listed

Array = NDArray[np.float64]
Index = NDArray[np.int64]

SHORT = 0.5  # largest ||A t|| at which the power series is summed
SMALLEST_LAG = 0.01  # a start value must not say that a process forgets faster than it is seen
LARGEST_LAG = 0.95


class _Ladder(NamedTuple):
    """How each gap is reached: gap = short * 2^steps; ``order`` sorts gaps with equal ways."""

    short: Array  # (M,)
    steps: Index  # (M,)
    early: Index  # (M,) doublings that carry phi - I
    group: Index  # (M,)
    order: Index  # (M,)


def _ladder(A: Array, gaps: Array) -> _Ladder:
    """Choose the doublings so that ||A short|| <= SHORT in a norm that ignores units.

    Balancing rescales the series by powers of two, under which every step of the algorithm is
    exactly equivariant: only the norm is needed, not the rescaled matrices. The last doublings,
    where the slowest part of phi has fallen below exp(-1/2), carry phi instead of phi - I.
    """
    balanced = dgebal(A, scale=1, permute=0)[0]
    by_rows, by_columns = (float(np.abs(balanced).sum(axis).max()) for axis in (1, 0))
    size = min(float(np.linalg.norm(balanced)), math.sqrt(by_rows) * math.sqrt(by_columns))
    slowest = max(0.0, -float(np.linalg.eigvals(A).real.max()))
    steps = np.maximum(np.frexp(gaps * (size / SHORT))[1], 0).astype(np.int64)
    late = np.clip(np.frexp(gaps * slowest)[1], 0, steps).astype(np.int64)
    group = steps * 2048 + late
    order = np.argsort(group.astype(np.int32), kind="stable")
    return _Ladder(np.ldexp(gaps, -steps), steps, steps - late, group, order)


def _checked_gaps(gaps: Array) -> tuple[Array, Index, Index]:
    """Return the gaps, the first place of each distinct one, and which one every gap is."""
    gaps = np.ascontiguousarray(gaps, dtype=np.float64) + 0.0  # -0.0 and 0.0 are one gap
    first, number = doubling.distinct(gaps.view(np.uint64))
    values = gaps[first]
    wrong = values[~((values >= 0.0) & np.isfinite(values))]
    if len(wrong):
        raise DataError(
            f"Gaps between sessions must be finite and not negative; found {listed(wrong)}. "
            "Sort the sessions of each client by time and set a missing gap to 0."
        )
    return gaps, first, number


def discretise(A: Array, Q: Array, gaps: Array) -> tuple[Array, Array]:
    """Return the lag matrix and the innovation covariance of every gap.

    phi = expm(A h),    psi = int_0^h expm(A s) Q expm(A s)' ds,

    by a power series at h / 2^s and s doublings, which holds for every A: defective, with
    complex, zero or positive eigenvalues. Equal gaps are computed once. Rounding is about
    ||A|| h times the machine's precision, relative to the largest entry.

    Parameters
    ----------
    A : array (d, d)
        Drift, per unit of time.
    Q : array (d, d)
        Diffusion covariance GG', symmetric, squared score points per unit of time.
    gaps : array (M,)
        Time h since the session before, in units of time, finite and >= 0. A gap of 0 gives the
        identity and a zero covariance.

    Returns
    -------
    phi : array (M, d, d)
        Lag matrices, score points per score point.
    psi : array (M, d, d)
        Innovation covariances, squared score points. NaN throughout where A or Q is not finite.

    Raises
    ------
    DataError
        When a gap is negative or not finite.
    """
    A, Q = _matrix(A), _matrix(Q)
    gaps, first, number = _checked_gaps(gaps)
    if not (np.isfinite(A).all() and np.isfinite(Q).all()):
        unknown = np.full((len(gaps), *A.shape), np.nan)
        return unknown, unknown.copy()
    phi, psi = doubling.climb(*doubling.coefficients(A, Q), *_ladder(A, gaps[first]))
    return phi.take(number, axis=0), psi.take(number, axis=0)


def discretise_adjoint(
    A: Array,
    Q: Array,
    gaps: Array,
    by_phi: Array,
    by_psi: Array,
    owner: Index | None = None,
    owners: int | None = None,
) -> tuple[Array, Array]:
    """Return derivatives by drift and diffusion from those by phi and psi of every gap.

    d value = sum_ij by_A_ij dA_ij + sum_ij by_Q_ij dQ_ij (dQ symmetric), where
    d value = sum_m sum_ij (by_phi_mij dphi_mij + by_psi_mij dpsi_mij): the exact adjoint of
    :func:`discretise`, step by step.

    Parameters
    ----------
    A, Q, gaps
        As in :func:`discretise`.
    by_phi, by_psi : array (M, d, d)
        Derivatives of the value; of by_psi only the symmetric part counts.
    owner : int array (M,), optional
        Client of each gap, 0 to ``owners`` - 1: one set of derivatives per client.
    owners : int, optional
        Number of clients N; the largest owner plus one when left out.

    Returns
    -------
    by_A : array (d, d), or (N, d, d) with ``owner``
    by_Q : array (d, d), or (N, d, d) with ``owner``; symmetric

    Raises
    ------
    DataError
        When a gap is negative or not finite.
    SpecificationError
        When an owner is not one of 0 to ``owners`` - 1.
    """
    A, Q = _matrix(A), _matrix(Q)
    gaps, first, number = _checked_gaps(gaps)
    count, whose = 1, np.zeros(len(first), np.int64)
    if owner is not None:
        owner = np.asarray(owner, dtype=np.int64)
        count = _owner_count(owner, owners)
        first, number = doubling.distinct((number * count + owner).view(np.uint64))
        whose = owner[first]
    if np.isfinite(A).all() and np.isfinite(Q).all():
        slopes = [
            doubling.sums(_matrix(by).reshape(len(gaps), -1), number, len(first))
            for by in (by_phi, by_psi)
        ]
        E, S = doubling.coefficients(A, Q)
        by = doubling.descend(E, S, *_ladder(A, gaps[first]), *slopes, whose, count)
        by_A, by_Q = doubling.coefficients_back(A, E, S, *by)
    else:
        by_A = by_Q = np.full((count, *A.shape), np.nan)
    return (by_A[0], by_Q[0]) if owner is None else (by_A, by_Q)


def _matrix(values: Array) -> Array:
    return np.ascontiguousarray(values, dtype=np.float64)


def _owner_count(owner: Index, owners: int | None) -> int:
    """Count the owners, each of which must have a place among them."""
    last = int(owner.max(initial=-1))
    count = last + 1 if owners is None else owners
    if last >= count or int(owner.min(initial=0)) < 0:
        raise SpecificationError(
            f"Owners of gaps must be 0 to {count - 1}; found {owner.min()} to {last}. "
            "Number the clients from 0 and pass how many there are."
        )
    return count


def stationary_cov(A: Any, Q: Any) -> Any:
    """Return the covariance at which the process settles, A P + P A' + Q = 0.

    Solved on the Kronecker sum, (A x I + I x A) vec P = -vec Q; leading axes are batches and
    broadcast. Complex input goes through unchecked and without conjugation, for derivatives by
    complex steps.

    Parameters
    ----------
    A : array (..., d, d)
        Drift, per unit of time.
    Q : array (..., d, d)
        Diffusion covariance, squared score points per unit of time.

    Returns
    -------
    array (..., d, d)
        Stationary covariance, squared score points.

    Raises
    ------
    SpecificationError
        When a real A has an eigenvalue whose real part is not negative.
    """
    A, Q = np.asarray(A), np.asarray(Q)
    if not np.iscomplexobj(A):
        _require_stable(A)
    d = A.shape[-1]
    eye = np.eye(d)
    # Row-major vec: the sum of A[i, k] P[k, j] and A[j, k] P[i, k], as one matrix on P.
    left = A[..., :, None, :, None] * eye[:, None, :]
    right = A[..., None, :, None, :] * eye[:, None, :, None]
    sums = (left + right).reshape(*A.shape[:-2], d * d, d * d)
    P = np.linalg.solve(sums, -Q.reshape(*Q.shape[:-2], d * d, 1))
    P = P.reshape(*P.shape[:-2], d, d)
    return 0.5 * (P + P.swapaxes(-1, -2))


def _require_stable(A: Array) -> None:
    """Raise unless every eigenvalue of A (..., d, d) has a negative real part."""
    values = np.linalg.eigvals(A)
    worst = values.ravel()[np.argmax(values.real)]
    if not worst.real < 0.0:
        shown = f"{worst.real:.4g}" + (f" ± {abs(worst.imag):.4g}i" if worst.imag else "")
        raise SpecificationError(
            f"The drift matrix has the eigenvalue {shown}, whose real part is not negative: "
            "deviations do not return to the client's mean, and there is no stationary "
            "covariance. Use a drift with negative eigenvalues, or give the first session its "
            'own covariance (initial="free").'
        )


def drift_from_lags(phi: Array, gap: float) -> Array:
    """Return a drift to start from, given a lag matrix: log(phi) / gap where that is usable.

    The principal logarithm is real when no eigenvalue of phi is zero or negative. Where one is
    (or lies within 0.01 of zero), or where the drift would not be stable, the start is diagonal:
    log of the autoregressions, held between 0.01 and 0.95, over the gap.

    Parameters
    ----------
    phi : array (d, d)
        Lag matrix, score points per score point.
    gap : float
        Time over which it acts, > 0.

    Returns
    -------
    array (d, d)
        Stable drift, per unit of time. For start values only.
    """
    phi = _matrix(phi)
    values = np.linalg.eigvals(phi)
    if not np.any((values.imag == 0.0) & (values.real < SMALLEST_LAG)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an inaccurate logarithm is a start value all the same
            drift = np.asarray(logm(phi)) / gap
        if np.isrealobj(drift) and np.isfinite(drift).all() and _slowest(drift) < 0.0:
            return drift
    return np.diag(np.log(np.clip(np.diag(phi), SMALLEST_LAG, LARGEST_LAG)) / gap)


def _slowest(A: Array) -> float:
    return float(np.linalg.eigvals(A).real.max())


@dataclass(frozen=True)
class DriftMode:
    """One eigenvalue of the drift, in words: how fast its part of a deviation fades and turns.

    Attributes
    ----------
    value : complex
        Eigenvalue, per unit of time.
    half_life : float
        Time in which that part of a deviation halves, ln 2 / -Re(value); inf when it never does.
    period : float
        Time of one full swing, 2 pi / |Im(value)|; inf when it does not swing.
    """

    value: complex
    half_life: float
    period: float


def describe_drift(A: Array) -> tuple[DriftMode, ...]:
    """Return what each eigenvalue of the drift (d, d) means, slowest first."""
    values = sorted(np.linalg.eigvals(_matrix(A)).tolist(), key=lambda v: (-v.real, -v.imag))
    return tuple(
        DriftMode(
            complex(value),
            math.log(2.0) / -value.real if value.real < 0.0 else math.inf,
            2.0 * math.pi / abs(value.imag) if value.imag else math.inf,
        )
        for value in values
    )


def peak_lag(A: Array, i: int, j: int) -> tuple[float, float]:
    """Return the lag at which j has its largest effect on i, and that effect.

    The lag h > 0 that maximises |expm(A h)[i, j]|, and expm(A h)[i, j] there with its sign. Of
    a series on itself the effect is largest at lag 0, where it is 1, unless it grows first.

    Parameters
    ----------
    A : array (d, d)
        Stable drift, per unit of time.
    i, j : int
        Outcome and predictor.

    Returns
    -------
    lag : float
        In units of time; NaN where j has no path to i, direct or through the others.
    effect : float
        Score points of i per score point of j.

    Raises
    ------
    SpecificationError
        When an eigenvalue of A has a real part that is not negative.
    """
    A = _matrix(A)
    _require_stable(A)
    if not np.any([np.linalg.matrix_power(A != 0.0, k)[i, j] for k in range(len(A))]):
        return math.nan, 0.0
    lags = _two_series_peak(A) if len(A) == 2 and i != j else _peaks(A, i, j)
    effects = discretise(A, np.zeros_like(A), lags)[0][:, i, j]
    best = int(np.abs(effects).argmax())
    return float(lags[best]), float(effects[best])


def _two_series_peak(A: Array) -> Array:
    """Return the one peak of two series: expm(A h)[i, j] = A[i, j] exp(m h) sinh(r h) / r.

    With m half the trace and r^2 = m^2 - det A it peaks where tanh(r h) = r / -m; the logarithm
    keeps the digits when the slow eigenvalue is near zero.
    """
    m = 0.5 * (A[0, 0] + A[1, 1])
    square = 0.25 * (A[0, 0] - A[1, 1]) ** 2 + A[0, 1] * A[1, 0]
    r = math.sqrt(abs(square))
    if r == 0.0:
        return np.array([-1.0 / m])
    if square < 0.0:
        return np.array([math.atan2(r, -m) / r])
    det = max(A[0, 0] * A[1, 1] - A[0, 1] * A[1, 0], np.finfo(float).tiny)
    return np.array([math.log1p(2.0 * r * (r - m) / det) / (2.0 * r)])


def _peaks(A: Array, i: int, j: int, points: int = 600) -> Array:
    """Return lags where expm(A h)[i, j] turns, refined from the best turns on a grid.

    The grid is geometric, from far below the fastest rate to where the slowest part is spent,
    and even in steps of an eighth of the fastest swing where there are swings.
    """
    values = np.linalg.eigvals(A)
    end = 60.0 / -float(values.real.max())
    grid = np.geomspace(1e-3 / float(np.abs(A).sum(axis=1).max()), end, points)
    swing = float(np.abs(values.imag).max())
    if swing > 0.0:
        even = np.arange(1, 8 * points) * (0.25 * math.pi / swing)
        grid = np.union1d(grid, even[even < end])
    phi = discretise(A, np.zeros_like(A), grid)[0]
    height, slope = np.abs(phi[:, i, j]), (A @ phi)[:, i, j]

    def slope_at(lag: float) -> float:
        return float((A @ discretise(A, np.zeros_like(A), np.array([lag]))[0][0])[i, j])

    turns = np.flatnonzero(slope[:-1] * slope[1:] < 0.0)
    tops = np.maximum(height[turns], height[turns + 1])
    best = turns[np.argsort(-tops)[:4]]
    found = [float(brentq(slope_at, grid[k], grid[k + 1], xtol=1e-14, rtol=1e-14)) for k in best]
    return np.array([*([0.0] if i == j else []), *found, float(grid[height.argmax()])])
