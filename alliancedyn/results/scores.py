"""From a panel's arrays to those that a fit speaks about, and from arrays back to rows."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import DataError, listed
from alliancedyn.results.model import Scores

Array = NDArray[np.float64]


def align(data: Scores, variables: tuple[str, ...], sessions: tuple[int, ...]) -> Array:
    """Return the scores (N, T, k) of a fit's variables and sessions; NaN where there are none.

    Raises
    ------
    DataError
        If the panel lacks a variable of the fit, or shares no session with it.
    """
    absent = [name for name in variables if name not in data.variables]
    if absent:
        raise DataError(
            f"The panel has no variable {listed(absent)}; it has {listed(data.variables)}. "
            "Give the panel the names that the model was fitted with."
        )
    at = {int(session): t for t, session in enumerate(data.sessions)}
    shared = [(t, at[session]) for t, session in enumerate(sessions) if session in at]
    if not shared:
        raise DataError(
            f"The panel has none of the sessions {sessions[0]} to {sessions[-1]} of the fit. "
            "Number its sessions as in the panel that was fitted."
        )
    columns = [data.variables.index(name) for name in variables]
    Y = np.full((len(data.clients), len(sessions), len(variables)), np.nan)
    to, origin = (list(side) for side in zip(*shared, strict=True))
    Y[:, to] = data.Y[:, origin][:, :, columns]
    return Y


def in_rows(
    clients: NDArray[np.object_],
    sessions: tuple[int, ...],
    keys: dict[str, list[str]],
    mean: Array,
    sd: Array,
) -> pd.DataFrame:
    """Turn means and SDs (N, T, q) into one row each, those without a mean left out.

    ``keys`` names the q columns, e.g. ``{"variable": ["alliance", "symptoms"]}``.
    """
    n, n_sessions, q = mean.shape
    frame = pd.DataFrame(
        {
            "client": np.repeat(clients, n_sessions * q),
            "session": np.tile(np.repeat(np.asarray(sessions, np.int64), q), n),
            **{
                key: np.tile(np.asarray(labels, object), n * n_sessions)
                for key, labels in keys.items()
            },
            "mean": mean.ravel(),
            "sd": sd.ravel(),
        }
    )
    return frame[np.isfinite(mean.ravel())].reset_index(drop=True)


def fingerprint(Y: Array) -> str:
    """Return a digest by which two fits can tell that they saw the same scores.

    Independent of the order of clients and of clients without a score; no score can be read off.
    """
    seen = Y[~np.isnan(Y).all(axis=(1, 2))]
    rows = np.ascontiguousarray(seen.reshape(len(seen), -1) + 0.0)  # one zero, not two
    rows[np.isnan(rows)] = np.nan  # one NaN, whatever its bits
    digest = hashlib.sha256(repr(Y.shape[1:]).encode())
    for line in sorted(row.tobytes() for row in rows):
        digest.update(line)
    return digest.hexdigest()
