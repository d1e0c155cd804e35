"""Columns that hold one value per client, and what is said of those that do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import DataError, identified
from alliancedyn.panel.issues import counted

Codes = NDArray[np.int64]

CLIENT_LEVEL = ("group", "site", "arm")
MOST_ERRORS = 0.1  # share of clients up to which a change looks like an error of typing


def changing(values: Any, codes: Codes) -> Codes:
    """Return the clients with more than one known value in a column.

    Parameters
    ----------
    values : (n,) column
        One value a row; unknown ones do not count.
    codes : (n,) int
        Client of each row.
    """
    found = pd.factorize(values)[0]
    known = found >= 0
    pairs = pd.DataFrame({"who": codes[known], "value": found[known]}).drop_duplicates()
    who, counts = np.unique(pairs["who"].to_numpy(), return_counts=True)
    return who[counts > 1].astype(np.int64)


def one_value_each(
    name: str, values: pd.Series, codes: Codes, clients: NDArray[np.object_]
) -> NDArray[Any]:
    """Return the one known value of every client (N,), None or NaN where none is known.

    Raises
    ------
    DataError
        If it changes over sessions: no one value stands for the client.
    """
    switched = changing(values, codes)
    if len(switched):
        raise DataError(_refusal(name, clients[switched], len(clients)))
    numeric = pd.api.types.is_float_dtype(values.dtype)
    out = np.full(len(clients), np.nan if numeric else None, float if numeric else object)
    filled = values.notna().to_numpy()
    out[codes[filled]] = values.to_numpy(out.dtype)[filled]
    return out


def _refusal(name: str, switched: NDArray[np.object_], clients: int) -> str:
    """Say for whom a column changes, and how to say what is meant."""
    what = f"{name!r} changes over sessions for {identified(switched)}"
    few = len(switched) <= max(1, MOST_ERRORS * clients)
    correct = "correct these clients in the export, or leave them out (panel.subset)"
    if name in CLIENT_LEVEL:
        return (
            f"{what}, so no one {name} stands for these clients. {correct[0].upper()}{correct[1:]}."
        )
    said = f"{what} ({len(switched)} of {counted(clients, 'client')}), "
    said += "so no one value stands for a client. "
    meant = (
        f"name it as what changes: time_varying=({name!r},) (exogenous= in MLSEM, DynamicPanelGMM "
        f"and FixedEffects) or, for lagged effects that change with it, moderators=({name!r},) of "
        "WithinBetween or DSEM; or, for how clients differ, add a column with each client's mean "
        "and name that"
    )
    if few:
        return f"{said}If that is an error, {correct}. If it is meant to change, {meant}."
    return f"{said}{meant[0].upper()}{meant[1:]}."
