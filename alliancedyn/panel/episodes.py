"""A person who comes back begins a series of their own: by a column, or after a long pause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import DataError, identified
from alliancedyn.panel.chronology import elapsed
from alliancedyn.panel.identifiers import Ids, natural, read_ids, refuse_blank
from alliancedyn.panel.issues import Issue, counted, info, named_rows, warning
from alliancedyn.panel.table import Distinct

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Names = NDArray[np.object_]


@dataclass(frozen=True)
class Series:
    """Who the rows belong to.

    Parameters
    ----------
    ids : Ids
        One id per client, or per episode of a client with several.
    persons : (N,) object array of str
        The person behind each id.
    issues : tuple of Issue
    """

    ids: Ids
    persons: Names
    issues: tuple[Issue, ...] = ()


def by_column(people: Ids, column: Distinct) -> Series:
    """Make each episode that a column names a series of its own.

    Parameters
    ----------
    people : Ids
        Client ids row by row.
    column : Distinct
        The episodes.

    Returns
    -------
    Series

    Raises
    ------
    DataError
        If an episode is blank, or a client is called like another's episode.
    """
    episodes = read_ids(column, "episode")
    refuse_blank(column, episodes, "episode")
    pairs, codes = np.unique(
        people.codes * len(episodes.names) + episodes.codes, return_inverse=True
    )
    who, which = np.divmod(pairs, len(episodes.names))
    several = np.bincount(who)[who] > 1
    names = people.names[who].copy()
    names[several] = [f"{names[i]}/{episodes.names[which[i]]}" for i in np.flatnonzero(several)]
    series = _series(names, codes.ravel(), people.names[who])
    found = (*episodes.issues, *_returned(series))
    return Series(series.ids, series.persons, found)


def _series(names: Names, codes: Codes, persons: Names) -> Series:
    """Put series into natural order; two of one name are refused."""
    if len(set(names)) < len(names):
        clash = identified(sorted({name for name in names if (names == name).sum() > 1}))
        raise DataError(
            f"Client {clash} is called like another client's episode. Rename one of them."
        )
    order = np.array(sorted(range(len(names)), key=lambda i: natural(str(names[i]))))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return Series(Ids(names[order], place[codes], ()), persons[order])


def _returned(series: Series) -> list[Issue]:
    """Say who has several episodes."""
    again = pd.Series(series.persons).duplicated(keep=False).to_numpy()
    if not again.any():
        return []
    count = len(set(series.persons[again]))
    said = f"{counted(count, 'person has', 'persons have')} more than one episode, which makes "
    said += f"{len(series.persons):,} series of {len(set(series.persons)):,} persons; each episode "
    said += f"is a series of its own, such as {identified(series.ids.names[again][:1])}, although "
    said += "the person is the same. Models take episodes of a person together in their standard "
    said += "errors."
    return [warning("repeated-episodes", said, count)]


def by_pause(frame: pd.DataFrame, series: Series, gap: float, rows: Codes) -> tuple[Any, Series]:
    """Open a new episode wherever more than ``gap`` days lie between two sessions of a series.

    Its sessions count from 1: numbers that run on over the pause are moved, others kept.

    Parameters
    ----------
    frame : DataFrame
        One row per row of the table, in any order; ``date`` or ``day``, perhaps ``session``.
    series : Series
        As the client and episode columns have it.
    gap : float, days
    rows : (n,) int64 array
        Row numbers of the file.

    Returns
    -------
    frame : DataFrame
        With the series' ids as ``client``, ``episode``, and ``session`` where it had one.
    series : Series

    Raises
    ------
    DataError
        If a row without a date may belong to either side of a pause.
    """
    codes = series.ids.codes
    days = elapsed(frame, "day" if "day" in frame else "date")
    part, longest = _parts(days, codes, gap)
    session = frame["session"].to_numpy() if "session" in frame else None
    part = _place_undated(part, codes, session, rows)
    last = np.zeros(len(series.ids.names), np.int64)
    np.maximum.at(last, codes, part)
    width = int(last.max()) + 1
    if width == 1:
        said = f"No two sessions of a client lie more than {gap:g} days apart, so episode_gap "
        return frame, _with(series, [info("opened-episodes", f"{said}opened no episode.", 0)])
    pairs, fresh = np.unique(codes * width + part, return_inverse=True)
    who, which = np.divmod(pairs, width)
    split = last[who] > 0
    names = series.ids.names[who].copy()
    mark = "." if "episode" in frame else "/"
    names[split] = [f"{names[i]}{mark}{which[i] + 1}" for i in np.flatnonzero(split)]
    opened = _series(names, fresh.ravel(), series.persons[who])
    label = [str(p + 1) for p in part]
    if "episode" in frame:
        label = [
            f"{old}.{new}" if last[c] else str(old)
            for old, new, c in zip(frame["episode"], label, codes, strict=True)
        ]
    frame = frame.assign(client=opened.ids.texts(), episode=label)
    if session is not None:
        frame["session"] = _from_one(session, codes, part)
    more = len(names) - len(series.ids.names)
    said = f"episode_gap={gap:g} opened {counted(more, 'further episode')} of "
    said += (
        f"{counted(int((last > 0).sum()), 'client')}, after up to {longest:,.0f} days without a "
    )
    said += "session; their sessions count from 1."
    kept = [issue for issue in series.issues if issue.code != "repeated-episodes"]
    found = (*kept, info("opened-episodes", said, more), *_returned(opened))
    return frame, Series(opened.ids, opened.persons, found)


def _with(series: Series, issues: list[Issue]) -> Series:
    return Series(series.ids, series.persons, (*series.issues, *issues))


def _parts(days: Array, codes: Codes, gap: float) -> tuple[Codes, float]:
    """Return the part of its series that each dated row is in, else -1, and the longest pause."""
    part = np.full(len(days), -1, np.int64)
    seen = np.flatnonzero(~np.isnan(days))
    order = seen[np.lexsort((days[seen], codes[seen]))]
    first = np.diff(codes[order], prepend=-1) != 0
    steps = np.diff(days[order], prepend=0.0)
    new = ~first & (steps > gap)
    count = np.cumsum(new)
    part[order] = count - np.maximum.accumulate(np.where(first, count, 0))
    return part, float(steps[new].max(initial=0.0))


def _place_undated(part: Codes, codes: Codes, session: Codes | None, rows: Codes) -> Codes:
    """Give rows without a date the part of their series whose session numbers enclose theirs."""
    dated = part >= 0
    last = np.zeros(int(codes.max()) + 1, np.int64)
    np.maximum.at(last, codes, part)
    part = np.where(dated, part, 0)
    undated = np.flatnonzero(~dated & (last[codes] > 0))
    unclear = undated
    if session is not None and len(undated):
        spans = _spans(session[dated], codes[dated], part[dated])
        rest = pd.DataFrame({"row": undated, "code": codes[undated], "number": session[undated]})
        met = rest.merge(spans, on="code")
        met = met[(met["low"] <= met["number"]) & (met["number"] <= met["high"])]
        met = met.drop_duplicates("row", keep=False)  # a number inside two parts tells nothing
        part[met["row"]] = met["part"]
        unclear = np.setdiff1d(undated, met["row"])
    if len(unclear):
        raise DataError(
            f"episode_gap cannot tell on which side of a pause the sessions without a date in "
            f"{named_rows(rows[unclear])} lie. Fill in their dates, or delete the rows."
        )
    return part


def _spans(session: Codes, codes: Codes, part: Codes) -> pd.DataFrame:
    """Return the lowest and the highest session number of every part, in order."""
    frame = pd.DataFrame({"code": codes, "part": part, "number": session})
    spans = frame.groupby(["code", "part"])["number"].agg(low="min", high="max")
    return spans.reset_index()


def _from_one(session: Codes, codes: Codes, part: Codes) -> Codes:
    """Let the numbers of a later part start at 1 where they run on from the part before."""
    spans = _spans(session, codes, part)
    before = spans.groupby("code")["high"].shift()
    spans["shift"] = np.where(spans["low"] > before, 1 - spans["low"], 0)
    rows = pd.DataFrame({"code": codes, "part": part}).merge(spans, "left", ["code", "part"])
    return session + rows["shift"].to_numpy(np.int64)
