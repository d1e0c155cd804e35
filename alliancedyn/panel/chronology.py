"""Session numbers against dates: they must run the same way, unless the caller decides."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import DataError, identified
from alliancedyn.panel.identifiers import MOST_SESSIONS
from alliancedyn.panel.issues import Issue, counted, info, warning

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
MICROSECONDS_PER_DAY = 86_400_000_000
TOLERANCE_DAYS = 1.0  # a day column counts whole days; a date may hold a time of day


def number_by_date(frame: pd.DataFrame, codes: Codes) -> tuple[pd.DataFrame, list[Issue]]:
    """Give every client session numbers in the order of the dates.

    Without a session column they count from 1. With one, the client's own session numbers are
    dealt out again in the order of the dates, so gaps in the numbering stay.

    Parameters
    ----------
    frame : DataFrame
        One row per client and session; column ``date``, and ``session`` if there is one.
    codes : (n,) int64 array
        Client of each row.

    Returns
    -------
    frame : DataFrame
        With the column ``session``.
    issues : list of Issue

    Raises
    ------
    DataError
        If a row has no date, or a client has more than 400 sessions.
    """
    dates = frame["date"].to_numpy()
    if np.isnat(dates).any():
        count = int(np.isnat(dates).sum())
        raise DataError(
            f"Sessions cannot be numbered by date: {counted(count, 'row has', 'rows have')} no "
            "date. Fill them in, or drop order=."
        )
    if "session" not in frame:
        order = np.lexsort((dates, codes))
        counts = np.unique(codes, return_counts=True)[1]
        if counts.max() > MOST_SESSIONS:
            raise DataError(
                f"A client has {counts.max():,} dates; a panel holds at most {MOST_SESSIONS} "
                "sessions. Is the date column the date of the session?"
            )
        numbers = np.empty(len(frame), np.int64)
        starts = np.repeat(np.cumsum(counts) - counts, counts)
        numbers[order] = np.arange(len(frame)) - starts + 1
        said = f"{counted(len(frame), 'session was', 'sessions were')} numbered 1, 2, ... by date; "
        said += "sessions without a row leave no gap."
        return frame.assign(session=numbers), [info("sessions-by-date", said, len(frame))]
    session = frame["session"].to_numpy()
    by_date, by_number = np.lexsort((session, dates, codes)), np.lexsort((session, codes))
    numbers = np.empty(len(frame), np.int64)
    numbers[by_date] = session[by_number]
    moved = int((numbers != session).sum())
    if not moved:
        return frame, []
    said = f"{counted(moved, 'session number')} ran against the dates and changed places by date."
    return frame.assign(session=numbers), [warning("sessions-by-date", said, moved)]


def check_order(
    frame: pd.DataFrame, codes: Codes, clients: NDArray[np.object_], *, trusted: bool
) -> list[Issue]:
    """Check that dates and elapsed days never run backwards while sessions increase.

    Parameters
    ----------
    frame : DataFrame
        Sorted by client and session.
    codes : (n,) int64 array
    clients : (N,) object array of str
    trusted : bool
        Whether the caller trusts the session numbers against the dates (``order="session"``).

    Returns
    -------
    list of Issue

    Raises
    ------
    DataError
        If time runs backwards and session numbers are not declared right.
    """
    issues: list[Issue] = []
    for column in ("date", "day"):
        if column not in frame:
            continue
        days = elapsed(frame, column)
        seen = ~np.isnan(days)
        steps, same = np.diff(days[seen]), np.diff(codes[seen]) == 0
        back = np.unique(codes[seen][1:][same & (steps < 0)])
        if len(back):
            issues.append(_refuse_backwards(clients[back], column, trusted))
        still = int((same & (np.floor(days[seen][1:]) == np.floor(days[seen][:-1]))).sum())
        if still:
            said = f"{counted(still, 'session falls', 'sessions fall')} on the same {column} as "
            said += "the client's session before."
            issues.append(info("same-day-sessions", said, still))
    return issues


def _refuse_backwards(clients: NDArray[np.object_], column: str, trusted: bool) -> Issue:
    said = f"Sessions must increase within a client; by {column} they are out of order for "
    said += identified(clients)
    if not trusted:
        remedy = 'pass order="date", or ' if column == "date" else ""
        raise DataError(
            f'{said}. Correct the export, {remedy}keep the session numbers with order="session".'
        )
    return warning("dates-out-of-order", f"{said}; the session numbers were kept.", len(clients))


def elapsed(frame: pd.DataFrame, column: str) -> Array:
    """Return a column of dates or days in days on a common clock, NaN where missing, (n,)."""
    if column == "day":
        return frame["day"].to_numpy(np.float64)
    dates = frame["date"].to_numpy().astype("datetime64[us]")
    days = dates.astype(np.int64) / MICROSECONDS_PER_DAY
    days[np.isnat(dates)] = np.nan
    return days


def since_first(days: Array, codes: Codes) -> Array:
    """Return days since the client's first dated row; rows sorted by client and session, (n,)."""
    seen = np.flatnonzero(~np.isnan(days))
    first = np.full(int(codes.max()) + 1, np.nan)
    first[codes[seen][::-1]] = days[seen][::-1]  # the earliest row of a client is written last
    return days - first[codes]


def check_day_and_date(frame: pd.DataFrame, codes: Codes, clients: NDArray[np.object_]) -> None:
    """Check that elapsed days and dates tell the same story, if both are given.

    Raises
    ------
    DataError
        If they differ by more than a day.
    """
    if "day" not in frame or "date" not in frame:
        return
    day, date = elapsed(frame, "day"), elapsed(frame, "date")
    both = ~(np.isnan(day) | np.isnan(date))
    if not both.any():
        return
    gap = np.full(len(frame), np.nan)
    gap[both] = since_first(np.where(both, day - np.floor(date), np.nan), codes)[both]
    off = both & (np.abs(np.nan_to_num(gap)) > TOLERANCE_DAYS)
    if off.any():
        raise DataError(
            f"The columns for day and date disagree by more than a day for "
            f"{identified(clients[np.unique(codes[off])])}. Correct them, or map only one."
        )
