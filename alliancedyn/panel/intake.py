"""Rows that are no sessions: what they say of a client goes to the client's sessions."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import DataError, identified
from alliancedyn.panel.identifiers import Ids
from alliancedyn.panel.issues import Issue, counted, info, joined, named_rows, warning

Mask = NDArray[np.bool_]
Codes = NDArray[np.int64]
ID_ROLES = ("therapist", "group", "site", "arm")


def set_apart(
    frame: pd.DataFrame,
    away: Mask,
    people: Ids,
    rows: Codes,
    covariates: tuple[str, ...],
    what: str,
) -> tuple[pd.DataFrame, list[Issue]]:
    """Take rows without session and score out, and keep what they say of their clients.

    A therapist, group, site or arm is taken over where no session of the client names one; a
    covariate only where no session of any client has a value, since it may otherwise change over
    sessions.

    Parameters
    ----------
    frame : DataFrame
        Scores, id roles and covariates, in file order.
    away : (n,) bool array
        Rows that are no sessions.
    people : Ids
        Client ids, of all rows.
    rows : (n,) int64 array
        Row numbers of the file.
    covariates : tuple of str
    what : str
        What these rows lack: session number or date.

    Returns
    -------
    frame : DataFrame
        The sessions.
    issues : list of Issue

    Raises
    ------
    DataError
        If two such rows of one client differ in what would be taken over.
    """
    sessions, codes = frame[~away].reset_index(drop=True), people.codes[~away]
    known = frame[away].assign(_client=people.codes[away])
    taken: list[str] = []
    for name in (*ID_ROLES, *covariates):
        if name not in frame or known[name].isna().all():
            continue
        blank = sessions[name].isna().to_numpy(bool, copy=True)
        if name in covariates and not blank.all():
            continue
        if name not in covariates:
            blank &= ~np.isin(codes, codes[~blank])
        values = known.groupby("_client")[name]
        several = values.nunique()
        several = several[several > 1].index.intersection(codes[blank])
        if len(several):
            at = known["_client"].isin(several).to_numpy()
            raise DataError(
                f"Rows without a {what} give {identified(people.names[several])} several values of "
                f"{name!r} ({named_rows(rows[away][at])}). Keep the right one."
            )
        found = pd.Series(codes).map(values.first()).to_numpy(sessions[name].to_numpy().dtype)
        gained = blank & ~pd.isna(found)
        if gained.any():
            filled = sessions[name].to_numpy(copy=True)
            filled[gained] = found[gained]
            sessions[name] = filled
            taken.append(f"{name} of {counted(len(np.unique(codes[gained])), 'client')}")
    return sessions, [_say(away, people, codes, rows, what, taken)]


def _say(away: Mask, people: Ids, codes: Codes, rows: Codes, what: str, taken: list[str]) -> Issue:
    count = int(away.sum())
    said = f"{counted(count, 'row has', 'rows have')} neither {what} nor score and "
    said += f"{'is no session' if count == 1 else 'are no sessions'} ({named_rows(rows[away])})"
    gives = "it gives" if count == 1 else "they give"
    said += f"; {gives} {joined(taken)}." if taken else "; left out."
    lost = np.setdiff1d(people.codes[away], codes)
    if not len(lost):
        return info("client-rows", said, count)
    said += f" {counted(len(lost), 'client has', 'clients have')} no other row and "
    said += f"{'is' if len(lost) == 1 else 'are'} left out: {identified(people.names[lost])}."
    return warning("client-rows", said, count)
