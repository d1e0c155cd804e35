"""Columns of a panel as numbers: one for each client, or one for each of a client's sessions."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import SpecificationError, listed, nearest
from alliancedyn.panel import SessionPanel

Array = NDArray[np.float64]


def by_client(panel: SessionPanel, name: str) -> Array:
    """Return a client-level number (N,), NaN where it is not known.

    Raises
    ------
    DataError
        If the panel has no such column, or it changes over a client's sessions.
    SpecificationError
        If it holds anything but numbers.
    """
    values = panel.client_values(name)
    known = [v for v in values if v is not None and v == v]
    if not all(isinstance(v, int | float | np.number) for v in known):
        raise SpecificationError(
            f"The covariate {name!r} holds {listed(sorted({str(v) for v in known}))}, not "
            f"numbers. Code it in numbers (0 and 1 for two kinds of client), or use "
            f"group={name!r}."
        )
    return np.array([np.nan if v is None else float(v) for v in values], float)


def by_session(panel: SessionPanel, name: str, sessions: tuple[int, ...]) -> Array:
    """Return a column of every client and session (N, T), NaN where it is not known.

    Raises
    ------
    SpecificationError
        If the panel has no such column, or it holds anything but numbers.
    """
    frame = panel.frame
    if name not in (*panel.variables, *panel.covariates):
        raise SpecificationError(
            f"The panel has no column {name!r}. Name it when reading, in variables= or covariates=."
            f"{nearest(name, (*panel.variables, *panel.covariates))}"
        )
    out = np.full((panel.n_clients, len(sessions)), np.nan)
    inside = frame["session"].isin(sessions).to_numpy()
    client = pd.Index(panel.clients).get_indexer(frame["client"])[inside]
    session = np.searchsorted(sessions, frame["session"].to_numpy(np.int64)[inside])
    out[client, session] = as_numbers(name, frame[name])[inside]
    return out


def by_session_or_client(panel: SessionPanel, name: str, sessions: tuple[int, ...]) -> Array:
    """Return a column (N, T): by session if it changes over sessions, else the same at all."""
    if name in panel.variables or (name in panel.covariates and panel.changing(name)):
        return by_session(panel, name, sessions)
    return np.repeat(by_client(panel, name)[:, None], len(sessions), axis=1)


def as_numbers(name: str, values: pd.Series) -> Array:
    """Return a column as numbers, NaN where nothing is known.

    Raises
    ------
    SpecificationError
        If it holds anything but numbers.
    """
    found: Array = pd.to_numeric(values, errors="coerce").to_numpy(float)
    strange = values[np.isnan(found) & values.notna().to_numpy()]
    if len(strange):
        raise SpecificationError(
            f"{name!r} holds {listed(sorted({str(v) for v in strange}))}, not numbers. Code it in "
            "numbers (0 and 1 for two kinds of client), or leave it out."
        )
    return found
