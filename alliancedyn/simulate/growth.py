"""How the expected score moves over sessions, and how much clients differ in that movement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.errors import SpecificationError
from alliancedyn.simulate.arguments import (
    as_array,
    as_choice,
    as_count,
    as_covariance,
    as_number,
    as_rows,
)

Array = NDArray[np.float64]

SHAPES = ("linear", "log", "exponential", "piecewise", "sessions")


@checked
@dataclass(frozen=True)
class GrowthCurve:
    """A trend added to the stable level: the same basis for all clients, slopes that may differ.

        trend_i(t) = slope_i x basis(t),    slope_i ~ N(slope, slope_cov)

    ====================  =======================================================
    ``shape``             basis(t), t = 1, 2, ...
    ====================  =======================================================
    ``"linear"``          t - 1
    ``"log"``             ln t
    ``"exponential"``     1 - exp(-rate (t - 1)): ``slope`` is then the whole change
    ``"piecewise"``       min(t, first knot) - 1; after each knot the mean goes on by ``later``
    ``"sessions"``        none; ``means`` gives each session's distance from ``mean``
    ====================  =======================================================

    The basis is 0 at session 1, so ``Dynamics.mean`` is the expected score there.
    A trend depends on the session number, also where dates are irregular.

    Parameters
    ----------
    slope : sequence of k numbers, score points per unit of the basis
        Mean slope of each series; required unless ``shape="sessions"``.
    shape : str
        See the table.
    slope_cov : (k, k), optional
        Covariance of the clients' slopes, squared score points per squared unit of the basis.
        None: all clients share the mean slope.
    intercept_slope_cov : (k, k), optional
        Covariance of the clients' intercepts (rows) with their slopes (columns); needs
        ``slope_cov``. None: zero.
    rate : float, per session
        Speed of the exponential shape.
    means : (T, k), score points
        Only for ``shape="sessions"``: one row per session; a panel may have at most T sessions.
    knots : sequence of ints, above 1 and increasing
        Only for ``shape="piecewise"``: session numbers at which a phase ends, such as an early
        gain or the approach of termination.
    later : (one row per knot, k), score points per session
        Mean slopes of the phases after each knot; clients differ in the first phase only.

    Raises
    ------
    SpecificationError
        If an option is missing, or is given for a shape that does not use it.
    """

    slope: tuple[float, ...] | None = None
    shape: str = "linear"
    slope_cov: tuple[tuple[float, ...], ...] | None = None
    intercept_slope_cov: tuple[tuple[float, ...], ...] | None = None
    rate: float = 0.5
    means: tuple[tuple[float, ...], ...] | None = None
    knots: tuple[int, ...] | None = None
    later: tuple[tuple[float, ...], ...] | None = None

    def __post_init__(self) -> None:
        as_choice(self.shape, SHAPES, "shape")
        if self.shape == "sessions":
            self._check_session_means()
        else:
            self._check_slopes()
        self._check_phases()
        rate = as_number(self.rate, "rate")
        if rate <= 0.0:
            raise SpecificationError(f"rate must be above 0, not {rate:g}.")
        object.__setattr__(self, "rate", rate)

    def _check_session_means(self) -> None:
        if self.means is None:
            raise SpecificationError('shape="sessions" needs means=, one row per session.')
        given = (self.slope, self.slope_cov, self.intercept_slope_cov)
        if any(option is not None for option in given):
            raise SpecificationError('shape="sessions" has no slopes. Leave out slope options.')
        object.__setattr__(self, "means", as_rows(self.means, "means"))

    def _check_phases(self) -> None:
        if self.shape != "piecewise":
            if self.knots is not None or self.later is not None:
                raise SpecificationError('knots= and later= belong to shape="piecewise" only.')
            return
        knots = tuple(as_count(knot, 2, "knots") for knot in self.knots or ())
        if not knots or list(knots) != sorted(set(knots)):
            raise SpecificationError(
                'shape="piecewise" needs knots=, increasing session numbers such as (5, 12).'
            )
        later = as_rows(self.later, "later")
        if len(later) != len(knots) or len(later[0]) != self.n_series:
            raise SpecificationError(
                f"later must have {len(knots)} rows, one per knot, of {self.n_series} slopes."
            )
        object.__setattr__(self, "knots", knots)
        object.__setattr__(self, "later", later)

    def _check_slopes(self) -> None:
        if self.means is not None:
            raise SpecificationError('means= belongs to shape="sessions" only.')
        if self.slope is None:
            raise SpecificationError(f"shape={self.shape!r} needs slope=, one number per series.")
        slope = as_array(self.slope, (np.size(self.slope),), "slope")
        object.__setattr__(self, "slope", tuple(slope.tolist()))
        if self.slope_cov is not None:
            object.__setattr__(self, "slope_cov", as_rows(self.slope_cov, "slope_cov"))
        if self.intercept_slope_cov is not None:
            if self.slope_cov is None:
                raise SpecificationError("intercept_slope_cov needs slope_cov: give both.")
            rows = as_rows(self.intercept_slope_cov, "intercept_slope_cov")
            object.__setattr__(self, "intercept_slope_cov", rows)

    @property
    def n_series(self) -> int:
        """Number of series the curve describes."""
        if self.means is not None:
            return len(self.means[0])
        return len(self.slope or ())

    @property
    def varies(self) -> bool:
        """Whether clients have slopes of their own."""
        return self.slope_cov is not None

    def basis(self, sessions: int) -> Array:
        """Return the basis at sessions 1..``sessions``: (T,), without unit.

        Raises
        ------
        SpecificationError
            For ``shape="sessions"``, which has no basis.
        """
        t: Any = np.arange(1, sessions + 1, dtype=np.float64)
        if self.shape == "linear":
            return t - 1.0
        if self.shape == "log":
            return np.log(t)
        if self.shape == "exponential":
            return -np.expm1(-self.rate * (t - 1.0))
        if self.knots is not None:
            return np.minimum(t, self.knots[0]) - 1.0
        raise SpecificationError('shape="sessions" has no basis; use expected().')

    def expected(self, sessions: int) -> Array:
        """Return the mean trend at sessions 1..``sessions``: (T, k), score points."""
        if self.means is not None:
            if sessions > len(self.means):
                raise SpecificationError(
                    f"The growth curve has means for {len(self.means)} sessions, not {sessions}. "
                    "Give more rows in means= or ask for fewer sessions."
                )
            return np.array(self.means[:sessions])
        expected = np.outer(self.basis(sessions), self.slope or ())
        if self.knots is not None:
            t = np.arange(1, sessions + 1, dtype=np.float64)
            ends = (*self.knots[1:], max(sessions, self.knots[-1]))
            for knot, end, slope in zip(self.knots, ends, self.later or (), strict=True):
                expected += np.outer(np.clip(t, knot, end) - knot, slope)
        return expected


def refuse_mismatched(trend: GrowthCurve, k: int) -> None:
    """Raise SpecificationError unless ``trend`` is a curve of k series."""
    if not isinstance(trend, GrowthCurve):
        raise SpecificationError("trend must be a GrowthCurve, e.g. GrowthCurve(slope=(0, -0.3)).")
    if trend.n_series != k:
        raise SpecificationError(f"trend describes {trend.n_series} series, phi {k}.")
    if trend.slope_cov is not None:
        as_covariance(trend.slope_cov, k, "slope_cov")
    if trend.intercept_slope_cov is not None:
        as_array(trend.intercept_slope_cov, (k, k), "intercept_slope_cov")
