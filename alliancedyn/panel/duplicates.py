"""Rows of one client and session: equal ones go, complementary ones are joined, others named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import DataError, identified
from alliancedyn.panel.issues import Issue, counted, info, joined, named_rows, quoted, warning

EACH = 4  # sessions of a client, and clients, from which a form's own count can be told
FEWER = 0.75  # of the sessions of the other form, at most, in a form that counts by itself
MOSTLY = 0.8  # of clients in whom it does, from where it is worth a word
Mask = NDArray[np.bool_]
Codes = NDArray[np.int64]
POLICIES = {
    "first": "the first row was kept, with what completes it",
    "last": "the last row was kept, with what completes it",
    "mean": "the scores were averaged",
    "most_complete": "the row with most scores was kept, its blanks filled from the others",
}


def resolve_duplicates(
    frame: pd.DataFrame, keys: Codes, rows: Codes, variables: tuple[str, ...], policy: str
) -> tuple[pd.DataFrame, Mask, list[Issue]]:
    """Keep one row per client and session, with whatever any of its rows holds.

    Rows that are equal, or of which one fills the blanks of another, become one without a word of
    the caller. Two different values in one column are a conflict, and the policy decides; rows that
    do not contradict the chosen one still complete it, so that no score is lost because another
    form has a row of its own.

    Parameters
    ----------
    frame : DataFrame
        Canonical columns, in file order.
    keys : (n,) int64 array
        Equal for rows of the same client and session.
    rows : (n,) int64 array
        Row numbers of the file.
    variables : tuple of str
        The score columns.
    policy : str
        What to do with rows that disagree: error, first, last, mean or most_complete.

    Returns
    -------
    frame : DataFrame
        Same rows; the ones kept hold what was joined or chosen.
    kept : (n,) bool array
    issues : list of Issue

    Raises
    ------
    DataError
        If rows disagree and no policy is named.
    """
    kept = np.ones(len(frame), bool)
    repeated = pd.Series(keys).duplicated(keep=False).to_numpy(bool)
    if not repeated.any():
        return frame, kept, []
    places = np.flatnonzero(repeated)
    part = frame.iloc[places].assign(_key=keys[places])
    identical = part.duplicated(keep="first").to_numpy(bool)
    kept[places[identical]] = False
    issues = []
    if identical.any():
        repeats = counted(int(identical.sum()), "row repeats", "rows repeat")
        said = f"{repeats} another row of the same client and session in "
        said += f"every mapped column; one of each was kept ({named_rows(rows[~kept])} removed)."
        issues.append(info("duplicates-removed", said, int(identical.sum())))
    part, places = part[~identical], places[~identical]
    several = part["_key"].duplicated(keep=False).to_numpy(bool)
    part, places = part[several], places[several]
    if not len(part):
        return frame, kept, issues
    differing = _differing(part)
    conflict = differing.any(axis=1).loc[part["_key"]].to_numpy(bool)
    if conflict.any() and policy == "error":
        columns = [str(name) for name in differing if differing[name].any()]
        _refuse(part[conflict], rows[places[conflict]], columns)
    first = ~part["_key"].duplicated().to_numpy(bool)
    kept[places[~first]] = False
    heeded = np.ones(len(part), bool)
    if policy in ("first", "last"):
        heeded[conflict] = _without_contradiction(part[conflict], last=policy == "last")
    known = _known(part[heeded], variables, policy).loc[part["_key"][first]]
    frame = _written(frame, known, places[first])
    if not conflict.all():
        issues.append(_say_joined(part[~conflict], rows[places[~conflict]]))
    if conflict.any():
        part = part[conflict]
        count = int(part["_key"].nunique())
        said = f"{counted(count, 'session')} had conflicting rows ({_pairs(part)}); "
        issues.append(warning("duplicates-resolved", f"{said}{POLICIES[policy]}.", count))
    return frame, kept, issues


def lend_time(frame: pd.DataFrame, keys: Codes) -> pd.DataFrame:
    """Date the forms of a session by the one that has a date, where all that have one agree.

    Parameters
    ----------
    frame : DataFrame
        Canonical columns, in file order.
    keys : (n,) int64 array
        Equal for rows of one client and session number.

    Returns
    -------
    DataFrame
    """
    lent = {}
    for name in (column for column in ("date", "day") if column in frame):
        agreed = _compared(frame)[name].groupby(keys).transform("nunique") == 1
        known = frame[name].groupby(keys).transform("min")
        lent[name] = frame[name].where(frame[name].notna() | ~agreed, known)
    return frame.assign(**lent)


def join_by_day(
    frame: pd.DataFrame, keys: Codes, codes: Codes, variables: tuple[str, ...]
) -> Codes:
    """Give rows of one client and calendar day one key where no score is rated in two of them.

    Forms of one session are often stamped with different times of day. Two full rows on one day
    stay two sessions.

    Parameters
    ----------
    frame : DataFrame
        Canonical columns, in file order, every row dated.
    keys : (n,) int64 array
        Equal for rows of one client and moment.
    codes : (n,) int64 array
        Client of each row.
    variables : tuple of str
        The score columns.

    Returns
    -------
    (n,) int64 array
    """
    day = frame["date"].to_numpy().astype("datetime64[D]").astype(np.int64)
    days = codes * 2**32 + (day - day.min())
    if len(np.unique(days)) == len(np.unique(keys)):
        return keys
    rated = frame[list(variables)].notna().groupby(days).transform("sum")
    moments = pd.Series(keys).groupby(days)
    first, several = moments.transform("min").to_numpy(), moments.transform("nunique").to_numpy()
    alone = (rated <= 1).all(axis=1).to_numpy() & (several > 1)
    united: Codes = np.where(alone, first, keys)
    return united


def _compared(part: pd.DataFrame) -> pd.DataFrame:
    """Return the cells as they are compared: a form's time of day makes no conflict."""
    return part.assign(date=part["date"].dt.floor("D")) if "date" in part else part


def _differing(part: pd.DataFrame) -> pd.DataFrame:
    """Return which columns hold two different values, a row per key; blanks differ from nothing."""
    return _compared(part).groupby("_key").nunique() > 1


def _known(part: pd.DataFrame, variables: tuple[str, ...], policy: str) -> pd.DataFrame:
    """Return one value per column and key, blank only where no row has one."""
    ordered = part
    if policy == "most_complete":
        scored = part[list(variables)].notna().sum(axis=1).to_numpy()
        ordered = part.iloc[np.argsort(-scored, kind="stable")]
    known = ordered.groupby("_key").first()
    if policy == "mean":
        known[list(variables)] = part.groupby("_key")[list(variables)].mean()
    if "date" in known:  # of one day the earliest, whichever row comes first
        earliest, day = part.groupby("_key")["date"].min(), known["date"]
        known["date"] = day.where(earliest.dt.floor("D") < day.dt.floor("D"), earliest)
    return known


def _written(frame: pd.DataFrame, known: pd.DataFrame, at: Codes) -> pd.DataFrame:
    """Write the values into the rows ``at``."""
    frame = frame.copy()
    for name in frame:
        values = known[name].to_numpy()
        if values.dtype == object:
            values = np.where(pd.isna(values), None, values)
        frame.iloc[at, frame.columns.get_loc(name)] = values
    return frame


def _without_contradiction(part: pd.DataFrame, *, last: bool) -> Mask:
    """Return which rows agree with the first, or last, of their key and with what completed it."""
    cells = _compared(part).drop(columns="_key")
    known, values = cells.notna().to_numpy(), cells.to_numpy(object)
    keys, kept = part["_key"].to_numpy(), np.zeros(len(part), bool)
    so_far: dict[int, dict[int, Any]] = {}
    for row in range(len(part))[:: -1 if last else 1]:
        have = so_far.setdefault(keys[row], {})
        new = {int(column): values[row, column] for column in np.flatnonzero(known[row])}
        kept[row] = all(have.get(column, value) == value for column, value in new.items())
        if kept[row]:
            have |= new
    return kept


def _say_joined(part: pd.DataFrame, rows: Codes) -> Issue:
    count = int(part["_key"].nunique())
    example = rows[(part["_key"] == part["_key"].iloc[0]).to_numpy()]
    said = f"{counted(len(part), 'row')} complete each other and were joined into "
    said += f"{counted(count, 'session')}, such as {named_rows(example)}."
    return info("rows-joined", said, len(part) - count)


def _pairs(part: pd.DataFrame) -> str:
    pairs = part.drop_duplicates("_key")
    when = "session" if "session" in pairs else "date"
    return joined(
        [
            f"{identified([c])} {when} {_short(s)}"
            for c, s in zip(pairs["client"], pairs[when], strict=True)
        ]
    )


def _short(value: object) -> str:
    return str(value.date()) if isinstance(value, pd.Timestamp) else str(value)


def _refuse(part: pd.DataFrame, rows: Codes, columns: list[str]) -> None:
    """Name the sessions that disagree, in what, and what usually makes them."""
    hint = ""
    if "episode" not in part:
        hint = (
            " If numbering starts again with a new episode of care, name its column with episode="
        )
        timed = "date" in part or "day" in part
        hint += ", or the days of the pause before it: episode_gap=90." if timed else "."
    differ = joined([quoted(name) for name in columns])
    raise DataError(
        f"Conflicting rows for the same client and session: {_pairs(part)} ({named_rows(rows)}), "
        f"different in {differ}."
        f'{hint} Correct them, or name a policy: duplicates="first", "last", "mean" or '
        '"most_complete".'
    )


def find_counted_apart(
    session: Codes, scores: NDArray[np.float64], codes: Codes, variables: tuple[str, ...]
) -> list[Issue]:
    """Say where joined forms seem to count sessions each by itself.

    A form that is filled in at every fourth session, and numbers its own repeats, has the numbers
    1, 2, 3 where the other has 1 to 12: the same number is then not the same session.

    Parameters
    ----------
    session : (n,) int64 array
        Sorted by client and session.
    scores : (n, k) array
        NaN where missing.
    codes : (n,) int64 array
        Client of each row.
    variables : tuple of str
        The score columns.
    """
    seen = ~np.isnan(scores)
    counts = np.stack([np.bincount(codes, seen[:, j]) for j in range(len(variables))], axis=1)
    last = np.zeros_like(counts)
    for j in range(len(variables)):
        np.maximum.at(last[:, j], codes[seen[:, j]], session[seen[:, j]])
    longest = int(counts.sum(axis=0).argmax())
    long = counts[:, longest]
    found = []
    for j, name in enumerate(variables):
        both = (counts[:, j] > 0) & (long >= EACH)
        unbroken = last[:, j] == counts[:, j]  # numbered 1, 2, ... without a gap
        ends = both & unbroken & (counts[:, j] <= FEWER * long)
        if both.sum() >= EACH and ends.sum() > MOSTLY * both.sum():
            said = (
                f"{name!r} ends early, without a gap before, in {ends.sum()} of "
                f"{counted(int(both.sum()), 'client')} (after {np.median(counts[ends, j]):g} "
                f"sessions, where {variables[longest]!r} has {np.median(long[ends]):g}). Its rows "
                "were joined to the others by session number: if each form counts its own repeats, "
                "equal numbers are not the same session. Then put both forms' dates into one "
                'column, name it date= and pass order="date".'
            )
            found.append(warning("forms-counted-apart", said, int(ends.sum())))
    return found
