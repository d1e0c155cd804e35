"""Rows for the same client and session: identical ones go, conflicting ones are named."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import DataError
from alliancedyn.panel.issues import Issue, counted, info, joined, named_rows, warning

Mask = NDArray[np.bool_]
Codes = NDArray[np.int64]
POLICIES = {
    "first": "the first row was kept",
    "last": "the last row was kept",
    "mean": "the scores were averaged",
    "most_complete": "the row with most scores was kept",
}


def resolve_duplicates(
    frame: pd.DataFrame, keys: Codes, rows: Codes, variables: tuple[str, ...], policy: str
) -> tuple[pd.DataFrame, Mask, list[Issue]]:
    """Keep one row per client and session.

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
        With averaged scores where the policy says so; same rows as before.
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
    conflict = part["_key"].duplicated(keep=False).to_numpy(bool)
    part, places = part[conflict], places[conflict]
    if not len(part):
        return frame, kept, issues
    if policy == "error":
        _refuse(part, rows[places])
    chosen = _choose(part, list(variables), policy)
    kept[places[~chosen]] = False
    if policy == "mean":
        means = part.groupby("_key")[list(variables)].transform("mean")
        frame = frame.copy()
        at = places[chosen]
        for name in variables:
            frame.iloc[at, frame.columns.get_loc(name)] = means.loc[chosen, name].to_numpy()
    count = int(part["_key"].nunique())
    said = f"{counted(count, 'session')} had conflicting rows ({_pairs(part)}); {POLICIES[policy]}."
    return frame, kept, [*issues, warning("duplicates-resolved", said, count)]


def _choose(part: pd.DataFrame, variables: list[str], policy: str) -> Mask:
    """Return which row stands for each client and session."""
    if policy == "last":
        return ~part["_key"].duplicated(keep="last").to_numpy(bool)
    if policy == "most_complete":
        filled = part[variables].notna().sum(axis=1).to_numpy()
        order = np.lexsort((np.arange(len(part)), -filled, part["_key"].to_numpy()))
        chosen = np.zeros(len(part), bool)
        chosen[order[~part["_key"].iloc[order].duplicated().to_numpy(bool)]] = True
        return chosen
    return ~part["_key"].duplicated(keep="first").to_numpy(bool)


def _pairs(part: pd.DataFrame) -> str:
    pairs = part.drop_duplicates("_key")
    when = "session" if "session" in pairs else "date"
    return joined(
        [f"{c!r} {when} {_short(s)}" for c, s in zip(pairs["client"], pairs[when], strict=True)]
    )


def _short(value: object) -> str:
    return str(value.date()) if isinstance(value, pd.Timestamp) else str(value)


def _refuse(part: pd.DataFrame, rows: Codes) -> None:
    """Name the sessions that disagree, and what usually makes them."""
    hint = (
        " If numbering starts again with a new episode of care, name its column with episode=."
        if "episode" not in part
        else ""
    )
    raise DataError(
        f"Conflicting rows for the same client and session: {_pairs(part)} ({named_rows(rows)})."
        f'{hint} Correct them, or name a policy: duplicates="first", "last", "mean" or '
        '"most_complete".'
    )
