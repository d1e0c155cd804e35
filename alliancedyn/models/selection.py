"""Which clients, sessions and scores a model uses, and what it must refuse before fitting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alliancedyn.errors import SpecificationError, listed
from alliancedyn.panel import Arrays, SessionPanel
from alliancedyn.results import Sample

Array = NDArray[np.float64]

FEWEST_CLIENTS = 5
CLIENTS_PER_SESSION = 5  # fewer cannot carry a mean, lag or innovation of their own


@dataclass(frozen=True)
class Selection:
    """The scores of a model, clients without any set aside.

    Parameters
    ----------
    Y : (N, T, k)
        Scores, NaN = missing.
    variables : tuple of str
        The k series.
    sessions : tuple of int
        The T session numbers.
    sample : Sample
        What was used and what was set aside.
    data : Arrays
        The same with client and therapist identifiers.
    kept : (n_clients,) bool
        Which of the panel's clients these are.
    """

    Y: Array
    variables: tuple[str, ...]
    sessions: tuple[int, ...]
    sample: Sample
    data: Arrays
    kept: NDArray[np.bool_]


def select(
    panel: SessionPanel,
    variables: tuple[str, ...] | None,
    sessions: tuple[int, int] | None,
) -> Selection:
    """Pick the model's variables and sessions; set aside clients without a score there.

    Raises
    ------
    SpecificationError
        If a variable is not in the panel, fewer than two are asked for, the session range is
        empty, or a series never varies.
    """
    if not isinstance(panel, SessionPanel):
        raise SpecificationError(
            f"A model is fitted to a SessionPanel, not to a {type(panel).__name__}. "
            "Make one with read_sessions() or SessionPanel.from_frame()."
        )
    arrays = panel.arrays()
    wanted = arrays.variables if variables is None else variables
    chosen = tuple(name for name in arrays.variables if name in wanted)  # in panel order
    unknown = [name for name in wanted if name not in arrays.variables]
    if unknown:
        raise SpecificationError(
            f"The panel has no variable {listed(unknown)}; it has {listed(arrays.variables, 8)}."
        )
    if len(chosen) < 2 or len(chosen) < len(wanted):
        raise SpecificationError(
            f"A cross-lagged model needs two or more different variables, not {list(wanted)}. "
            "Name them with variables=(...)."
        )
    first, last = sessions or (int(arrays.sessions[0]), int(arrays.sessions[-1]))
    window = (arrays.sessions >= first) & (arrays.sessions <= last)
    if not window.any():
        raise SpecificationError(
            f"sessions=({first}, {last}) holds none of the panel's sessions "
            f"{arrays.sessions[0]} to {arrays.sessions[-1]}."
        )
    columns = [arrays.variables.index(name) for name in chosen]
    everywhere = arrays.Y[:, :, columns]
    Y = everywhere[:, window]
    kept: NDArray[np.bool_] = np.any(~np.isnan(Y), axis=(1, 2))
    if kept.sum() < FEWEST_CLIENTS:
        raise SpecificationError(
            f"{int(kept.sum())} clients have a score of {listed(chosen)} in sessions {first} to "
            f"{last}; a model of differences between and within clients needs {FEWEST_CLIENTS} or "
            "more. Add clients, or widen sessions=(first, last)."
        )
    inside = arrays.sessions[window]
    data = Arrays(
        Y=Y[kept],
        days=arrays.days[kept][:, window],
        clients=arrays.clients[kept],
        sessions=inside,
        therapist=arrays.therapist[kept],
        therapists=arrays.therapists,
        variables=chosen,
    )
    _refuse_constant(data)
    numbers = tuple(int(s) for s in inside)
    return Selection(Y[kept], chosen, numbers, _sample(panel, data, everywhere, window), data, kept)


def _sample(
    panel: SessionPanel, data: Arrays, everywhere: Array, window: NDArray[np.bool_]
) -> Sample:
    seen: NDArray[np.bool_] = np.any(~np.isnan(data.Y), axis=2)
    rows = int(seen.sum())
    scored = int((~np.isnan(everywhere).all(axis=2)).sum())
    reasons = {
        "no score in the sessions of the model": panel.n_clients - len(data.Y),
    }
    dropped = {
        "no score of the model's variables": len(panel.frame) - scored,
        "outside the sessions of the model": scored - rows,
    }
    return Sample(
        clients=len(data.Y),
        sessions=len(data.sessions),
        rows=rows,
        pairs=int((seen[:, 1:] & seen[:, :-1]).sum()),
        clients_set_aside={reason: n for reason, n in reasons.items() if n},
        rows_set_aside={reason: n for reason, n in dropped.items() if n},
    )


def _refuse_constant(data: Arrays) -> None:
    flat = data.Y.reshape(-1, len(data.variables))
    absent = [v for j, v in enumerate(data.variables) if np.isnan(flat[:, j]).all()]
    if absent:
        raise SpecificationError(
            f"{listed(absent)} has no score in sessions {data.sessions[0]} to {data.sessions[-1]}. "
            "Leave it out with variables=(...), or widen sessions=(first, last)."
        )
    spread = np.nanmax(flat, axis=0) - np.nanmin(flat, axis=0)
    constant = [v for j, v in enumerate(data.variables) if not spread[j] > 0.0]
    if constant:
        raise SpecificationError(
            f"{listed(constant)} has the same value in every row, so nothing can be said about "
            "what moves with it. Leave it out with variables=(...), or check the export."
        )


def refuse_thin_sessions(
    selection: Selection, means: bool = False, lags: bool = False, innovations: bool = False
) -> None:
    """Refuse parameters of a session of its own where fewer than five clients were seen.

    A mean needs clients with the score, an innovation covariance with both scores of a pair, a
    lagged effect with the outcome there and the predictor the session before.

    Raises
    ------
    SpecificationError
        With the sessions and the remedy.
    """
    seen = (~np.isnan(selection.Y)).astype(float)
    T = len(selection.sessions)
    fewest = {}
    if means:
        fewest["mean"] = seen.sum(axis=0).min(axis=1)
    if innovations:
        fewest["innovation covariance"] = np.full(T, np.inf)
        pairs = np.einsum("nti,ntj->tij", seen[:, 1:], seen[:, 1:])
        fewest["innovation covariance"][1:] = pairs.min(axis=(1, 2))
    if lags:
        fewest["lagged effect"] = np.full(T, np.inf)
        pairs = np.einsum("nti,ntj->tij", seen[:, 1:], seen[:, :-1])
        fewest["lagged effect"][1:] = pairs.min(axis=(1, 2))
    for what, counts in fewest.items():
        thin = [selection.sessions[t] for t in np.flatnonzero(counts < CLIENTS_PER_SESSION)]
        if thin:
            _refuse_thin(selection.sessions, thin, what)


def _refuse_thin(sessions: tuple[int, ...], thin: list[int], what: str) -> None:
    option = {"mean": "means", "innovation covariance": "innovations", "lagged effect": "lags"}
    window = _longest_run([s for s in sessions if s not in thin])
    narrower = f", or sessions=({window[0]}, {window[-1]})" if len(window) > 2 else ""
    raise SpecificationError(
        f"Session {listed(thin)} is seen by fewer than {CLIENTS_PER_SESSION} clients, too few for "
        f'a {what} of its own. Use {option[what]}="equal"{narrower}.'
    )


def _longest_run(numbers: list[int]) -> list[int]:
    """Return the longest run of consecutive numbers."""
    best: list[int] = []
    run: list[int] = []
    for number in numbers:
        run = [*run, number] if run and number == run[-1] + 1 else [number]
        best = max(best, run, key=len)
    return best


def cluster_codes(panel: SessionPanel, selection: Selection, by: str) -> NDArray[np.int64]:
    """Return the cluster code of every client of the selection.

    Raises
    ------
    SpecificationError
        If the panel does not know the clusters, a client has none, or there is only one.
    """
    if by == "therapist":
        values = np.asarray(selection.data.therapist)
        unknown = values < 0
    else:
        values = np.asarray(panel.client_values(by), object)[selection.kept]
        unknown = np.array([v is None or v != v for v in values])
    if unknown.any():
        raise SpecificationError(
            f"{int(unknown.sum())} clients have no {by}, so their errors cannot be clustered. "
            f'Give every client a {by}, or use errors="robust".'
        )
    codes = np.unique(values.astype(str), return_inverse=True)[1].astype(np.int64)
    if codes.max() < 1:
        raise SpecificationError(
            f"All clients have the same {by}; clustered errors need two or more. "
            'Use errors="robust".'
        )
    return codes
