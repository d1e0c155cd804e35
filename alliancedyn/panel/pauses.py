"""Days between sessions: how many are usual, and which pauses are far beyond a client's rhythm."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.panel.chronology import elapsed
from alliancedyn.panel.issues import Issue, counted, warning

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
FAR, SHORTEST = 8.0, 30.0  # times the client's usual days between sessions; days
USUAL_GAP = 90  # days: the episode_gap to propose where it parts pauses from ordinary gaps


@dataclass(frozen=True)
class Spacing:
    """Days from one session of a client to the next that has a date.

    Parameters
    ----------
    intervals : int
        How many there are.
    median, low, high, longest : float, days
        Low and high are the 5th and the 95th percentile.
    """

    intervals: int
    median: float
    low: float
    high: float
    longest: float

    @property
    def text(self) -> str:
        """The numbers in a sentence."""
        return (
            f"Days between sessions: median {self.median:.3g}, 5th to 95th percentile "
            f"{self.low:.3g} to {self.high:.3g}, longest {self.longest:,.0f} "
            f"({counted(self.intervals, 'interval')})."
        )


def intervals(frame: pd.DataFrame, codes: Codes) -> tuple[Array, Codes, Codes]:
    """Return the days between a client's dated sessions, how many numbers apart, and whose.

    Parameters
    ----------
    frame : DataFrame
        Sorted by client and session, with ``date`` or ``day`` if times are known.
    codes : (n,) int64 array
        Client of each row.

    Returns
    -------
    days, steps, client : (m,) arrays
        Empty where no times are known.
    """
    clock = next((name for name in ("day", "date") if name in frame), None)
    if clock is None:
        return np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64)
    days = elapsed(frame, clock)
    seen = ~np.isnan(days)
    who = codes[seen]
    same = np.diff(who) == 0
    steps = np.diff(frame["session"].to_numpy()[seen])[same]
    return np.diff(days[seen])[same], steps, who[1:][same]


def spacing(days: Array) -> Spacing | None:
    """Describe days between sessions, (m,); None if there are none."""
    if not len(days):
        return None
    low, median, high = np.percentile(days, (5, 50, 95))
    return Spacing(len(days), float(median), float(low), float(high), float(days.max()))


def far_beyond(days: Array, steps: Codes, client: Codes) -> NDArray[np.bool_]:
    """Return which intervals are far beyond the client's own rhythm.

    An interval counts by the session numbers it spans: four missed weeks that left three numbers
    free are four weekly sessions. The rhythm is the median of the client's other intervals, of all
    clients' where there are fewer than two.
    """
    each = days / np.maximum(steps, 1)
    common = float(np.median(each)) if len(each) else 0.0
    starts, ends = (np.searchsorted(client, client, side) for side in ("left", "right"))  # sorted
    far = np.zeros(len(days), bool)
    if not len(each):
        return far
    least = np.minimum.reduceat(each, np.unique(starts))[np.unique(starts, return_inverse=True)[1]]
    for i in np.flatnonzero((each > SHORTEST) & (each > FAR * np.minimum(least, common))):
        others = np.delete(each[starts[i] : ends[i]], i - starts[i])
        rhythm = float(np.median(others)) if len(others) > 1 else common
        far[i] = each[i] > FAR * rhythm
    return far


def find_pauses(frame: pd.DataFrame, codes: Codes, persons: int) -> list[Issue]:
    """Report pauses far beyond the client's own rhythm, with the option that opens episodes.

    Parameters
    ----------
    frame : DataFrame
        Sorted by client and session.
    codes : (n,) int64 array
        Client of each row.
    persons : int
        Number of people.

    Returns
    -------
    list of Issue
    """
    days, steps, client = intervals(frame, codes)
    far = far_beyond(days, steps, client)
    if not far.any():
        return []
    clients = len(np.unique(client[far]))
    usual = float(np.median(days[~far])) if (~far).any() else math.nan
    said = f"{counted(int(far.sum()), 'pause')} of {clients:,} of {counted(persons, 'person')} "
    said += "between one session and the next are far beyond that person's own rhythm (longest "
    said += f"{days[far].max():,.0f} days, where {usual:.3g} are usual). The session after a pause "
    said += "still counts as the next one, so effects are lagged over it. If treatment began anew, "
    said += f"add episode_gap = {_gap(days[far], days[~far])}: each episode is then its own series."
    return [warning("long-pauses", said, int(far.sum()))]


def _gap(pauses: Array, ordinary: Array) -> int:
    """Propose the days that part pauses from ordinary intervals."""
    shortest, longest = float(pauses.min()), float(ordinary.max(initial=0.0))
    if longest <= USUAL_GAP < shortest:
        return USUAL_GAP
    return math.ceil(longest) if math.ceil(longest) < shortest else max(math.ceil(shortest) - 1, 1)
