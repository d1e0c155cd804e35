"""When the sessions of clients are: by the calendar, or by counting sessions.

By days, a session of a client is *placed* when its day is known. The process starts at the
client's first row, the first one with a score or an input; from there on every placed session is
a gap away from the one placed before it. A session without a day takes no time: the whole gap
goes into the next one that has one. By counting, every session has its number, and all clients
start at the first session of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from alliancedyn.errors import SpecificationError, identified
from alliancedyn.results import Observed

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Flags = NDArray[np.bool_]

SAME = 1e-9  # units of time below which two schedules are one


@dataclass(frozen=True)
class Clock:
    """Times of all sessions of all clients.

    Parameters
    ----------
    time : (N, T)
        Units of time on each client's own clock; NaN where a session has no place on it.
    first : (N,) int
        Column at which the client's process starts.
    """

    time: Array
    first: Index

    @classmethod
    def of(cls, data: Observed, by: str, unit: float) -> Clock:
        """Read the clock off a panel.

        Parameters
        ----------
        data : Observed
        by : "days" or "session"
        unit : float
            Days in a unit of time; not used with sessions, where one unit is one session.

        Raises
        ------
        SpecificationError
            If a score or an input has no day, or days run backwards.
        """
        n, n_sessions = data.Y.shape[:2]
        if by == "session":
            numbers = np.array(data.sessions, float)
            return cls(np.broadcast_to(numbers, (n, n_sessions)), np.zeros(n, np.int64))
        used: Flags = ~np.isnan(data.Y).all(axis=2) | (data.inputs != 0.0).any(axis=2)
        _refuse_undated(data, used)
        first = np.where(used.any(axis=1), used.argmax(axis=1), 0)
        started = np.arange(n_sessions) >= first[:, None]
        clock = cls(np.where(started, data.days / unit, np.nan), first)
        _refuse_backwards(data, clock)
        return clock

    def of_clients(self, rows: Index) -> Clock:
        """Return the clock of some clients."""
        return Clock(self.time[rows], self.first[rows])

    @property
    def placed(self) -> Flags:
        """Which sessions have a time, (N, T)."""
        return ~np.isnan(self.time)

    @cached_property
    def gaps(self) -> Array:
        """Time since the session placed before, (N, T - 1); 0 where there is none or no time."""
        return since_before(self.time)

    @cached_property
    def passing(self) -> Array:
        """Time that passes up to each session, from the client's start, (N, T).

        Clients with one schedule have the same numbers, whatever sessions they missed.
        """
        shared = self.schedule(settled=False)
        gaps = self.gaps if shared is None else np.broadcast_to(shared, self.gaps.shape)
        return np.pad(gaps, ((0, 0), (1, 0)))

    @property
    def typical(self) -> float:
        """Median gap, units of time; 1 where there is none."""
        gaps = self.gaps[self.gaps > 0.0]
        return float(np.median(gaps)) if len(gaps) else 1.0

    def schedule(self, settled: bool) -> Array | None:
        """Return the gaps (T - 1,) that all clients share, None if they do not.

        Sessions that a client has missed are no hindrance: two steps of the process are one
        longer step. A client who starts late is one, unless the process has settled before
        anybody starts.
        """
        n, n_sessions = self.time.shape
        if n == 0:
            return np.ones(n_sessions - 1)  # nobody's gaps are known: one unit each
        if not settled and self.first.any():
            return None
        steps = np.diff(self.time, axis=1)
        known = ~np.isnan(steps)
        if not known.any(axis=0).all():
            return None
        shared = steps[known.argmax(axis=0), np.arange(n_sessions - 1)]
        offset = self.time - np.append(0.0, np.cumsum(shared))
        off = np.abs(offset - offset[np.arange(n), self.first][:, None])
        return shared if np.nanmax(off) < SAME * max(1.0, float(shared.sum())) else None


def since_before(time: Array) -> Array:
    """Return the time since the session before that has one, (N, T - 1); 0 where unknown."""
    known = ~np.isnan(time)
    last = np.maximum.accumulate(np.where(known, np.arange(time.shape[1]), -1), axis=1)[:, :-1]
    before = np.take_along_axis(time, np.maximum(last, 0), axis=1)
    return np.where(known[:, 1:] & (last >= 0), time[:, 1:] - before, 0.0)


def observed_gaps(data: Observed, by: str, unit: float) -> Array:
    """Return the gaps between a client's sessions with a score, units of time, ascending."""
    clock = Clock.of(data, by, unit)
    seen = ~np.isnan(data.Y).all(axis=2)
    gaps = since_before(np.where(seen, clock.time, np.nan))
    return np.sort(gaps[gaps > 0.0])


def refuse_repeats(data: Observed, clock: Clock, exact: tuple[bool, ...]) -> None:
    """Refuse two scores of one series at the same time where they must be equal.

    Parameters
    ----------
    exact : tuple of bool
        Which scores have no measurement error.

    Raises
    ------
    SpecificationError
        With the number of sessions and the remedy.
    """
    n, n_sessions, _ = data.Y.shape
    moment = (
        np.cumsum(np.pad(clock.gaps, ((0, 0), (1, 0))) > 0.0, axis=1)
        + n_sessions * np.arange(n)[:, None]
    )
    again = np.zeros((n, n_sessions), bool)
    for j in np.flatnonzero(exact):
        seen = ~np.isnan(data.Y[:, :, j])
        counts = np.bincount(moment[seen], minlength=n * n_sessions)
        again |= seen & (counts[moment] > 1)
    if again.any():
        who = identified(data.clients[again.any(axis=1)])
        raise SpecificationError(
            f"{int(again.sum())} sessions of {who} share their "
            "day with another session that has a score of the same series: without measurement "
            "error the two scores would have to be equal. Give the time of day in the date "
            'column, join such sessions, use measurement_var="free", or time="session".'
        )


def _refuse_undated(data: Observed, used: Flags) -> None:
    undated = used & np.isnan(data.days)
    if not undated.any():
        return
    if np.isnan(data.days).all():
        raise SpecificationError(
            'time="days" needs the date or the day of every session, and this panel has neither. '
            'Name the column when reading (date= or day=), or use time="session".'
        )
    raise SpecificationError(
        f"{int(undated.sum())} sessions of {identified(data.clients[undated.any(axis=1)])} have a "
        "score but no day, so they have no place in time. Fill in their dates, leave those rows "
        'out, or use time="session".'
    )


def _refuse_backwards(data: Observed, clock: Clock) -> None:
    back = (clock.gaps < 0.0).any(axis=1)
    if back.any():
        who = identified(data.clients[back])
        raise SpecificationError(
            f"Days run backwards while session numbers increase for {who}. "
            'Correct the dates, number the sessions by date with order="date" when reading, or '
            'use time="session".'
        )
