"""When sessions take place: gaps between them, holidays, days that shift; episodes that return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.errors import SpecificationError
from alliancedyn.simulate.arguments import as_array, as_choice, as_count, as_number, as_share

Array = NDArray[np.float64]

YEAR = 52  # weeks


@checked
@dataclass(frozen=True)
class Gaps:
    """Weeks between one session and the next, drawn independently; holidays and shifted days.

    Parameters
    ----------
    weeks : sequence of numbers
        Possible gaps, above 0.
    weights : sequence of numbers, optional
        Their relative frequencies. None: equally frequent.
    per : "session", "week" or "time"
        What the lagged effects refer to. "session": a long gap carries over as much as a short one
        (then only the dates are irregular). "week": the dynamics run once a week whether or not
        there is a session, and ``weeks`` must be whole numbers. "time": the process in continuous
        time that looks like ``phi`` and ``innovation_cov`` once a week, seen exactly at any dates:
        lags expm(A gap).
    holidays : sequence of (first week, weeks), optional
        Weeks of the year, 0 to 51, in which no sessions take place; a session that would fall
        there waits until they are over. Clients start evenly over the year.
    jitter : int, days
        A session takes place up to that many days before or after, evenly; twice that must be
        less than the smallest gap.

    Raises
    ------
    SpecificationError
        If gaps or weights are impossible.
    """

    weeks: tuple[float, ...] = (1, 2, 4)
    weights: tuple[float, ...] | None = None
    per: str = "session"
    holidays: tuple[tuple[int, int], ...] = ()
    jitter: int = 0

    def __post_init__(self) -> None:
        weeks = as_array(self.weeks, (np.size(self.weeks),), "weeks")
        if not len(weeks) or (weeks <= 0.0).any():
            raise SpecificationError("weeks must hold at least one gap, each above 0.")
        as_choice(self.per, ("session", "week", "time"), "per")
        if self.per == "week" and (weeks % 1 != 0).any():
            raise SpecificationError('per="week" needs whole numbers of weeks.')
        object.__setattr__(self, "weeks", tuple(weeks.tolist()))
        if self.weights is not None:
            weights = as_array(self.weights, weeks.shape, "weights")
            if (weights < 0.0).any() or weights.sum() <= 0.0:
                raise SpecificationError("weights must not be negative and not all zero.")
            object.__setattr__(self, "weights", tuple(weights.tolist()))
        object.__setattr__(self, "holidays", _as_holidays(self.holidays))
        if 2 * as_count(self.jitter, 0, "jitter") >= 7 * weeks.min() and self.jitter:
            raise SpecificationError(
                f"jitter={self.jitter} days could put one session before another. Make it smaller."
            )
        if self.jitter and self.per == "week":
            raise SpecificationError('per="week" counts whole weeks: leave out jitter.')

    def draw(self, clients: int, sessions: int, rng: np.random.Generator) -> Array:
        """Return weeks since each client's first session: (N, T), 0 at session 1."""
        weights = np.ones(len(self.weeks)) if self.weights is None else np.array(self.weights)
        cumulative = np.cumsum(weights / weights.sum())
        chosen = np.searchsorted(cumulative, rng.random((clients, sessions - 1)), side="right")
        elapsed = np.zeros((clients, sessions))
        gaps = np.array(self.weeks)[np.minimum(chosen, len(self.weeks) - 1)]
        np.cumsum(gaps, axis=1, out=elapsed[:, 1:])
        if self.holidays:
            elapsed = self._postponed(gaps, rng.integers(YEAR, size=clients).astype(np.float64))
        if self.jitter:
            days = rng.integers(-self.jitter, self.jitter + 1, size=(clients, sessions - 1))
            elapsed[:, 1:] += days / 7.0
        return elapsed

    def _postponed(self, gaps: Array, entry: Array) -> Array:
        """Return weeks since the first session when nothing takes place in holidays."""
        dates = np.empty((len(gaps), gaps.shape[1] + 1))
        dates[:, 0] = self._next_open(entry)
        for t in range(gaps.shape[1]):
            dates[:, t + 1] = self._next_open(dates[:, t] + gaps[:, t])
        return dates - dates[:, :1]

    def _next_open(self, week: Array) -> Array:
        for _ in self.holidays:  # one holiday may end where another begins
            for first, length in self.holidays:
                into = (week - first) % YEAR
                week = np.where(into < length, week + length - into, week)
        return week


def _as_holidays(value: Any) -> tuple[tuple[int, int], ...]:
    try:
        pairs = [(first, length) for first, length in value]
    except (TypeError, ValueError):
        raise SpecificationError(
            "holidays must be pairs of first week and number of weeks: [(30, 3), (51, 2)]."
        ) from None
    holidays = tuple(
        (as_count(first, 0, "A holiday's week", largest=51), as_count(length, 1, "Its weeks"))
        for first, length in pairs
    )
    if len({(first + i) % YEAR for first, length in holidays for i in range(length)}) == YEAR:
        raise SpecificationError("The holidays take the whole year: leave some weeks free.")
    return holidays


@checked
@dataclass(frozen=True)
class Episodes:
    """Clients who return for a second episode of care.

    Stable level, slope and lags are the person's; the deviations start anew.

    Parameters
    ----------
    share : float
        Expected share of the clients who return.
    pause : float, weeks
        From the end of the first plan of sessions to the second; shows where there are dates.

    Raises
    ------
    SpecificationError
        If the share is impossible.
    """

    share: float = 0.1
    pause: float = 26.0

    def __post_init__(self) -> None:
        as_share(self.share, "share")
        if as_number(self.pause, "pause") < 0.0:
            raise SpecificationError("pause must not be negative.")
