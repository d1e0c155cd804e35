"""From scores by client and session to the rows of a regression: lags, means, and what is left out.

Lags are those of the previous session *number*: a gap is never closed, unless the nearest earlier
score is asked for by name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alliancedyn.errors import SpecificationError, listed

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Codes = NDArray[np.int64]

DEPENDENT = 1e-10  # of a column's length: what is left of it beside the others is rounding
CENTERED = 0.02  # of the variance that client means would have by chance alone: they were taken out
SOME = 1e-6  # share of a column in another that is not rounding


def lagged(scores: Array, nearest: bool = False) -> Array:
    """Return the scores (n, T) of the session before, or the nearest earlier ones; NaN = none.

    Parameters
    ----------
    scores : (n, T)
        NaN = missing; columns are consecutive session numbers.
    nearest : bool
        Whether to reach back over sessions without a score.
    """
    earlier = np.full_like(scores, np.nan)
    earlier[:, 1:] = scores[:, :-1]
    if not nearest:
        return earlier
    seen = ~np.isnan(earlier)
    last = np.maximum.accumulate(np.where(seen, np.arange(scores.shape[1]), -1), axis=1)
    found = np.take_along_axis(earlier, np.maximum(last, 0), axis=1)
    return np.asarray(np.where(last >= 0, found, np.nan))


def client_means(scores: Array) -> Array:
    """Return every client's mean over the client's own observed sessions (n,); NaN without one."""
    seen = ~np.isnan(scores)
    count = seen.sum(axis=1)
    total = np.where(seen, scores, 0.0).sum(axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def centered(scores: Array) -> bool:
    """Say whether client means were taken out of scores (n, T) before, but for rounding.

    Means of T_i independent scores vary by the variance within clients over T_i even where clients
    do not differ. Means that vary by next to nothing of that were set to be the same. Scores that
    are the same for all clients at every session are not centered, but no scores of clients.
    """
    seen = ~np.isnan(scores)
    high, low = (np.where(seen, sign * scores, -np.inf).max(axis=0) for sign in (1.0, -1.0))
    if not (high + low > 0.0).any():
        return False
    count, mean = seen.sum(axis=1), client_means(scores)
    some = count > 0
    within = np.where(seen, scores - mean[:, None], 0.0) ** 2
    by_chance = float(
        within.sum() / max(int(count.sum() - some.sum()), 1) * (1.0 / count[some]).mean()
    )
    return float(np.var(mean[some])) < CENTERED * by_chance


def therapist_means(values: Array, therapist: Codes) -> Array:
    """Return, at every client-session, the mean of a client-level number over a caseload.

    Parameters
    ----------
    values : (n,)
        One number a client; NaN = unknown.
    therapist : (n, T) int
        Codes; -1 = no session, or no therapist known.

    Returns
    -------
    array (n, T)
        Mean over the clients who had a session with that therapist, each counted once; NaN where
        there is no therapist.
    """
    count = int(therapist.max(initial=-1)) + 1
    client = np.broadcast_to(np.arange(len(values))[:, None], therapist.shape)
    known = (therapist >= 0) & ~np.isnan(values)[:, None]
    pairs = np.unique(client[known] * max(count, 1) + therapist[known])
    who, whose = np.divmod(pairs, max(count, 1))
    total = np.bincount(whose, values[who], minlength=count)
    each = total / np.maximum(np.bincount(whose, minlength=count), 1)
    return np.asarray(np.where(therapist >= 0, np.append(each, np.nan)[therapist], np.nan))


@dataclass(frozen=True)
class Terms:
    """The terms of an equation at every client-session, and which of them can be used.

    Parameters
    ----------
    outcome : (n, T)
        What is explained, score points.
    columns : dict of str to (n, T), (n, 1) or (1, T)
        Fixed terms by canonical name.
    reasons : dict of str to (n, T), (n, 1) or (1, T) bool
        Why a client-session with an outcome cannot be used, first reason first.
    notes : tuple of str
        What a reader should know about the terms.
    """

    outcome: Array
    columns: dict[str, Array]
    reasons: dict[str, Mask]
    notes: tuple[str, ...] = ()

    @property
    def used(self) -> Mask:
        """Client-sessions with all terms, (n, T)."""
        mask = ~np.isnan(self.outcome)
        for lost in self.reasons.values():
            mask = mask & ~lost
        return mask

    def set_aside(self) -> dict[str, int]:
        """Count the outcomes that are not used, each by the first reason that holds."""
        left = ~np.isnan(self.outcome)
        counts = {}
        for reason, lost in self.reasons.items():
            counts[reason] = int((left & lost).sum())
            left = left & ~lost
        return {reason: n for reason, n in counts.items() if n}

    def design(self, used: Mask) -> Array:
        """Return the columns (rows, p) at the client-sessions that are used, client by client."""
        X = np.empty((int(used.sum()), len(self.columns)))
        for j, column in enumerate(self.columns.values()):
            X[:, j] = np.broadcast_to(column, used.shape)[used]
        return X


def refuse_dependent(X: Array, terms: tuple[str, ...], target: str) -> None:
    """Refuse columns (rows, p) of which one repeats those before it, by the names of the terms.

    Raises
    ------
    SpecificationError
        With the term, and those that add up to it.
    """
    length = np.linalg.norm(X, axis=0)
    unit = X / np.where(length > 0.0, length, 1.0)
    own = np.abs(np.diag(np.linalg.qr(unit, mode="r")))
    last = np.flatnonzero(own <= DEPENDENT)
    if not len(last):
        return
    j = int(last[0])
    name, before = terms[j], unit[:, :j]
    if not length[j] > 0.0:
        what = f"{name} is zero at every session that is used"
    else:
        weights = np.linalg.lstsq(before, unit[:, j], rcond=None)[0]
        others = [terms[i] for i in np.flatnonzero(np.abs(weights) > SOME)]
        what = f"{name} is nothing but a weighted sum of {listed(others)}"
    raise SpecificationError(
        f"In the equation of {target!r}, {what}. Leave one of them out, or check the export for a "
        "column that repeats another or stays the same."
    )
