"""Stretches of sessions that need filtering, sorted by pattern, where all clients share a system.

A session with every score seen and no measurement error pins its state once the intercept is
known. What lies between two of these, a segment, is filtered; how uncertain its states are depends
on which scores are seen, not on what they are, so that variances are worked out once per pattern.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alliancedyn.engine.gibbs_small import Codes, Flags


@dataclass(frozen=True)
class Segments:
    """Where the segments are, and their patterns.

    A segment that is closed is followed by a session that pins its state; one that begins has no
    session before it. A pattern has one row per session, and one more if closed.
    """

    place: Codes  # (S, 4): client, first session, pattern, place of its first gap
    pattern: Codes  # (P, 4): first row, sessions, closed, begins
    rows: Flags  # (R, k): which scores are seen
    gaps: int  # sessions inside segments


def lay_out_segments(seen: Flags, whole: Flags, last: Codes) -> Segments:
    """Find the segments of every client up to its last score.

    Parameters
    ----------
    seen, whole, last : (N, T, k), (N, T), (N,)
        Which scores were seen; which sessions pin their state; sessions up to the last score.
    """
    _, T, k = seen.shape
    gap = ~whole & (np.arange(T) < last[:, None])
    padded = np.pad(gap, ((0, 0), (1, 1)))
    client, start = np.nonzero(padded[:, 1:-1] & ~padded[:, :-2])
    stop = np.nonzero(padded[:, 1:-1] & ~padded[:, 2:])[1] + 1
    length = stop - start
    closed = stop < last[client]
    key = np.zeros((len(client), 3 + int(length.max(initial=0)) * k), np.int64)
    key[:, 0], key[:, 1], key[:, 2] = length, closed, start == 0
    for step in range(int(length.max(initial=0))):
        there = length > step
        at = 3 + step * k
        key[there, at : at + k] = seen[client[there], start[there] + step]
    known, pattern = np.unique(key, axis=0, return_inverse=True)
    size = known[:, 0] + known[:, 1]
    table = np.column_stack([np.cumsum(size) - size, known[:, :3]])
    rows = np.ones((int(size.sum()), k), np.bool_)
    for (first, sessions, _, _), own in zip(table, known, strict=True):
        rows[first : first + sessions] = own[3 : 3 + sessions * k].reshape(-1, k)
    place = np.column_stack([client, start, pattern.ravel(), np.cumsum(length) - length])
    return Segments(
        np.ascontiguousarray(place, dtype=np.int64),
        np.ascontiguousarray(table, dtype=np.int64),
        rows,
        int(length.sum()),
    )
