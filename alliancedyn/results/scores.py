"""From a panel's arrays to those that a fit speaks about, and from arrays back to rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.engine.smooth import within_between
from alliancedyn.errors import DataError, listed
from alliancedyn.results.model import ClientGroup, Panel, Scores

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Observed:
    """What a model sees of a panel: the n clients with a score.

    Parameters
    ----------
    clients : (n,) object
        Identifiers.
    sessions : tuple of int
        The T session numbers of the model.
    variables : tuple of str
        The p scores.
    Y : (n, T, p)
        Scores, NaN = missing.
    days : (n, T)
        Days since the client's first dated row, NaN = unknown.
    therapist : (n,) int
        Therapist codes, -1 = unknown.
    covariates : (n, c)
        Client-level numbers.
    inputs : (n, T, q)
        Session-level numbers; 0 where a client had no session.
    group : (n,) int
        Codes into ``groups``; all 0 without groups.
    groups : tuple of str
        Such as ``("arm=0", "arm=1")``; empty without groups.
    seen : (N,) bool
        Which clients of the panel these are.
    person : (n,) int
        Code of the person behind each client (series); by default each is a person's only one.
    """

    clients: NDArray[Any]
    sessions: tuple[int, ...]
    variables: tuple[str, ...]
    Y: Array
    days: Array
    therapist: NDArray[np.int64]
    covariates: Array
    inputs: Array
    group: NDArray[np.int64]
    groups: tuple[str, ...]
    seen: NDArray[np.bool_]
    person: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        if not len(self.person):
            object.__setattr__(self, "person", np.arange(len(self.Y)))

    @property
    def returning(self) -> int:
        """How many persons have several series."""
        return int((np.unique(self.person, return_counts=True)[1] > 1).sum())

    @classmethod
    def of_scores(
        cls, clients: NDArray[Any], sessions: tuple[int, ...], variables: tuple[str, ...], Y: Array
    ) -> Observed:
        """Return scores with nothing else known."""
        n, n_sessions = Y.shape[:2]
        return cls(
            clients=clients,
            sessions=tuple(int(session) for session in sessions),
            variables=variables,
            Y=Y,
            days=np.full((n, n_sessions), np.nan),
            therapist=np.full(n, -1),
            covariates=np.zeros((n, 0)),
            inputs=np.zeros((n, n_sessions, 0)),
            group=np.zeros(n, np.int64),
            groups=(),
            seen=np.ones(n, bool),
        )

    @classmethod
    def of_nobody(
        cls,
        variables: tuple[str, ...],
        sessions: tuple[int, ...],
        groups: tuple[str, ...] = (),
        covariates: int = 0,
        inputs: int = 0,
    ) -> Observed:
        """Return a panel without clients, with so many covariates and inputs."""
        scores = np.empty((0, len(sessions), len(variables)))
        found = cls.of_scores(np.empty(0, object), sessions, variables, scores)
        return replace(
            found,
            covariates=np.empty((0, covariates)),
            inputs=np.empty((0, len(sessions), inputs)),
            groups=groups,
        )

    def rows_by_group(self) -> list[tuple[str | None, NDArray[np.int64]]]:
        """Return the clients of every group, (None, all) without groups."""
        if not self.groups:
            return [(None, np.arange(len(self.Y)))]
        return [
            (label, np.flatnonzero(self.group == code)) for code, label in enumerate(self.groups)
        ]


def align(data: Scores, variables: tuple[str, ...], sessions: tuple[int, ...]) -> Array:
    """Return the scores (N, T, k) of some variables and sessions; NaN where there are none.

    Raises
    ------
    DataError
        If the panel lacks a variable, or shares no session with these.
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


def parts(group: ClientGroup) -> Array:
    """Return the weights (T, 2 k, m) that make within and between parts of the states."""
    return within_between(group.system, group.reference)


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

    A fit keeps therapists and persons with its scores; of any other cluster it needs the panel.
    A person whose cluster is not known, as without a therapist, is a cluster alone.
    """
    kind, _, by = (errors or "").partition(":")
    if kind != "cluster":
        return None, None
    if by == "person":
        return np.unique(used.person, return_inverse=True)[1].astype(np.int64), None
    if by == "therapist":
        values = np.array([None if code < 0 else code for code in used.therapist], object)
    elif panel is not None:
        values = np.asarray(panel.client_values(by), object)[used.seen]
    else:
        return None, f"The fit does not keep the {by} of its clients: pass panel=."
    unknown = np.array([v is None or v != v for v in values], bool)
    codes = np.unique(values.astype(str), return_inverse=True)[1].astype(np.int64)
    codes[unknown] = len(codes) + used.person[unknown]
    return np.unique(codes, return_inverse=True)[1].astype(np.int64), None


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
