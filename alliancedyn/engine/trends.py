"""Least-squares trends of unbalanced panels: one for all clients, or a line for each.

Both are deviations: from a client's own level, never a level themselves. Rows are scores with a
client code and a session; no NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class SessionEffects:
    """Session effects beside client levels.

    Attributes
    ----------
    effect : array (T,)
        Score points; NaN for a session without scores. Sums to zero over the scores of a block.
    block : integer array (T,)
        Sessions that clients link, directly or through others, share a block; -1 without scores.
    rank : int
        Number of free effects: sessions with scores minus blocks.
    """

    effect: Array
    block: Codes
    rank: int


def fit_session_effects(y: Array, client: Codes, session: Codes, sessions: int) -> SessionEffects:
    """Fit y = level of the client + effect of the session + rest by least squares.

    With every client at every session the effect is the session's mean minus the grand mean.
    Otherwise it is that mean adjusted for who attended: clients who leave take their level with
    them without moving the effects of the sessions that follow. Effects compare sessions only
    within a block of sessions that clients link.

    Parameters
    ----------
    y : array (n,)
        Scores, in score points.
    client : integer array (n,)
        Codes 0 .. N - 1, none empty.
    session : integer array (n,)
        Positions 0 .. T - 1.
    sessions : int
        T.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    count = np.bincount(client).astype(np.float64)
    means = np.bincount(client, y) / count
    attendance = csr_array((np.ones(len(y)), (client, session)), shape=(len(count), sessions))
    scores = np.bincount(session, minlength=sessions).astype(np.float64)
    normal = np.diag(scores) - (attendance.T @ (attendance / count[:, None])).toarray()
    deviation = np.bincount(session, y - means[client], sessions)
    effect = np.linalg.lstsq(normal, deviation, rcond=1e-10)[0]
    block = connected_components(attendance.T @ attendance, directed=False)[1].astype(np.int64)
    shift = np.bincount(block, scores * effect) / np.maximum(np.bincount(block, scores), 1.0)
    effect, seen = effect - shift[block], scores > 0
    return SessionEffects(
        effect=np.where(seen, effect, np.nan),
        block=np.where(seen, block, -1),
        rank=int(seen.sum()) - len(np.unique(block[seen])),
    )


def fit_client_lines(y: Array, client: Codes, session: Codes, clients: int) -> tuple[Array, Array]:
    """Fit a least-squares line through each client's own scores.

    Equation: slope_i = sum_t (t - mean t)(y_it - mean y_i) / sum_t (t - mean t)^2.

    Parameters
    ----------
    y, client, session : arrays (n,)
        Scores in score points, codes 0 .. N - 1, session numbers (any distinct values).
    clients : int
        N; a client may be without scores.

    Returns
    -------
    slope, center : arrays (N,)
        Score points per session, and the mean session number at which the line meets the client's
        mean. The slope is NaN with fewer than three scores.
    """
    count = np.bincount(client, minlength=clients).astype(np.float64)
    known = np.maximum(count, 1.0)
    center = np.bincount(client, session, clients) / known
    level = np.bincount(client, y, clients) / known
    moment = session - center[client]
    squares = np.bincount(client, moment**2, clients)
    product = np.bincount(client, moment * (y - level[client]), clients)
    slope = np.full(clients, np.nan)
    enough = (count >= 3) & (squares > 0)
    slope[enough] = product[enough] / squares[enough]
    return slope, center
