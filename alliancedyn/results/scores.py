"""From a panel's arrays to those that a fit speaks about, and from arrays back to rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import DataError, listed
from alliancedyn.results.model import Panel, Scores

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Observed:
    """The n clients with a score: identifiers (n,), scores (n, T, k), therapist codes (n,).

    ``seen`` (N,) says which clients of the panel they are.
    """

    clients: NDArray[Any]
    Y: Array
    therapist: NDArray[np.int64]
    seen: NDArray[np.bool_]


def observe(data: Scores, variables: tuple[str, ...], sessions: tuple[int, ...]) -> Observed:
    """Return the scores of a fit's variables and sessions, clients without any left out."""
    Y = align(data, variables, sessions)
    seen = np.asarray(~np.isnan(Y).all(axis=(1, 2)))
    return Observed(np.asarray(data.clients)[seen], Y[seen], np.asarray(data.therapist)[seen], seen)


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


def clusters(
    errors: str | None, panel: Panel | None, used: Observed
) -> tuple[NDArray[np.int64] | None, str | None]:
    """Return the codes (n,) by which errors were clustered, or why they are not to be had.

    A fit keeps therapists with its scores; of any other cluster it needs the panel.
    """
    kind, _, by = (errors or "").partition(":")
    if kind != "cluster":
        return None, None
    if by == "therapist":
        values = used.therapist
    elif panel is not None:
        values = np.asarray(panel.client_values(by), object)[used.seen]
    else:
        return None, f"The fit does not keep the {by} of its clients: pass panel=."
    codes = np.unique(values.astype(str), return_inverse=True)[1]
    return codes.astype(np.int64), None


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
