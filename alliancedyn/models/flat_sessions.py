"""Scores that do not vary, at a session or within clients: they tell nothing of effects.

An entry criterion, a default of the form or a blank read as zero gives all clients one score at
one session; a score derived from another repeats it there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alliancedyn.errors import SpecificationError, at_sessions
from alliancedyn.models.selection import CLIENTS_PER_SESSION, longest_run

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

BY_CHANCE = 10  # clients of a later session who may have one score because the scale is coarse
ROUNDING = 1e-12  # change within a client, relative to the scores, that is none
REPEATED = 1e-10  # 1 - |r| of scores that are the same up to rounding


def same_for_all(Y: Array) -> Flags:
    """Say at which sessions all clients have the same score, (T, k); NaN = missing in (N, T, k)."""
    seen = ~np.isnan(Y)
    low = np.where(seen, Y, np.inf).min(axis=0)
    high = np.where(seen, Y, -np.inf).max(axis=0)
    return (high <= low) & (seen.sum(axis=0) >= _needed(seen)[:, None])


def _needed(seen: Flags) -> NDArray[np.int64]:
    """Return how many clients with one score are no chance, (T,): fewer at the first session."""
    needed = np.full(seen.shape[1], BY_CHANCE)
    needed[: int(seen.any(axis=(0, 2)).argmax()) + 1] = CLIENTS_PER_SESSION
    return needed


def refuse_flat_sessions(Y: Array, names: tuple[str, ...], sessions: tuple[int, ...]) -> None:
    """Refuse sessions at which a score does not vary, or repeats another.

    Parameters
    ----------
    Y : (N, T, k)
        Scores without measurement error of their own, NaN = missing.
    names : tuple of str
        The k scores.
    sessions : tuple of int
        The T session numbers.

    Raises
    ------
    SpecificationError
        With the sessions and the remedy.
    """
    same = same_for_all(Y)
    for j, name in enumerate(names):
        if flat := [sessions[t] for t in np.flatnonzero(same[:, j])]:
            value = np.nanmax(Y[:, sessions.index(flat[0]), j])
            raise SpecificationError(
                f"{name!r} has no variance at {at_sessions(flat)}: all clients have the same score "
                f"({value:g} at session {flat[0]}), as after an entry criterion or by a default of "
                "the form. Such a score has no likelihood and tells nothing of effects. "
                f"{_remedy(sessions, flat)}"
            )
    for i, one in enumerate(names):
        for j, other in enumerate(names[i + 1 :], start=i + 1):
            if copies := [sessions[t] for t in _repeats(Y[:, :, i], Y[:, :, j])]:
                raise SpecificationError(
                    f"At {at_sessions(copies)} {other!r} repeats {one!r}: one is the other "
                    "times a number plus a number, so that they cannot be told apart. "
                    f"{_remedy(sessions, copies)}"
                )


def refuse_unchanging(Y: Array, names: tuple[str, ...], remedy: str) -> None:
    """Refuse series that never change within a client: nothing lagged can be told of them.

    Parameters
    ----------
    Y : (N, T, k)
        Scores, NaN = missing.
    names : tuple of str
        The k series.
    remedy : str
        What to do, a sentence.

    Raises
    ------
    SpecificationError
        With the series and the remedy.
    """
    for name, scores in zip(names, np.moveaxis(Y, 2, 0), strict=True):
        seen = ~np.isnan(scores)
        twice = seen.sum(axis=1) > 1
        if not twice.any():
            raise SpecificationError(
                f"No client has two scores of {name!r} in the sessions of the model, so nothing is "
                "known of its change. Widen sessions=(first, last), or check the export."
            )
        highest = np.where(seen, scores, -np.inf).max(axis=1)[twice]
        lowest = np.where(seen, scores, np.inf).min(axis=1)[twice]
        if not (highest - lowest).max() > ROUNDING * np.abs(scores[seen]).max():
            raise SpecificationError(
                f"{name!r} never changes within a client, so nothing can be said of what goes "
                f"before or after a change. {remedy}"
            )


def _repeats(one: Array, other: Array) -> list[int]:
    """Return the places of the sessions at which one score is a linear function of another."""
    both = ~np.isnan(one) & ~np.isnan(other)
    found = []
    for t in np.flatnonzero(both.sum(axis=0) >= BY_CHANCE):
        a, b = (scores[both[:, t], t] for scores in (one, other))
        a, b = a - a.mean(), b - b.mean()
        length = float(np.sqrt((a @ a) * (b @ b)))
        if length > 0.0 and 1.0 - abs(float(a @ b)) / length < REPEATED:
            found.append(int(t))
    return found


def _remedy(sessions: tuple[int, ...], flat: list[int]) -> str:
    window = longest_run([s for s in sessions if s not in flat])
    use = f"Use sessions=({window[0]}, {window[-1]}), or check" if len(window) > 1 else "Check"
    return f"{use} the export: scores that nobody gave are missing."
