"""Rows of a dynamic panel equation without the client's level, and the instruments of each.

A level row is ``y_it = x_it' beta + alpha_i + u_it``. A transformed row is a weighted sum of a
client's level rows, ``sum_s h_s y_is``, in which alpha_i is gone:

    difference   h_t = 1, h_(t-1) = -1
    orthogonal   h_t = c, h_s = -c / m for the m complete later rows s,  c = sqrt(m / (m + 1))

Rows are held by their position in time, all clients at once. A row is used where every term of it
was observed; gaps stay gaps, because sessions are never renumbered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alliancedyn.allowed import numeric
from alliancedyn.errors import DataError, SpecificationError, identified

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]
Lags = tuple[int, int | None]
Kind = Literal["difference", "orthogonal", "level"]

MOST_SESSIONS = 1_000  # beyond, numbers are dates or counters, and tables would fill the memory


@dataclass(frozen=True)
class Grid:
    """The panel as tables, sessions by clients, so that one row position is contiguous.

    Parameters
    ----------
    y : (T, N)
        Outcome in levels, 0 where the row is not complete.
    X : (p, T, N)
        Regressors in levels, 0 where the row is not complete.
    complete : (T, N) bool
        Whether outcome and all regressors were observed.
    later : (T, N)
        Complete rows after this one.
    flat : (n,)
        Where each row of the data stands in a raveled (T, N) table.
    sessions : tuple of int
        The T session numbers.
    clients : (N,)
        The client codes, sorted.
    """

    y: Array
    X: Array
    complete: Mask
    later: Array
    flat: Index
    sessions: tuple[int, ...]
    clients: NDArray[np.generic]

    @property
    def shape(self) -> tuple[int, int]:
        """T, N."""
        return self.y.shape[0], self.y.shape[1]

    @classmethod
    def of(cls, y: ArrayLike, X: ArrayLike, client: ArrayLike, session: ArrayLike) -> Grid:
        """Lay rows in any order out by session and client.

        Raises
        ------
        DataError
            If lengths differ, a number is infinite, a code is missing, or a client has two rows
            at one session.
        """
        outcome, regressors = _numbers(y, "y"), _numbers(X, "X")
        if outcome.ndim != 1 or regressors.ndim != 2 or len(outcome) != len(regressors):
            raise DataError(
                f"y {outcome.shape} and X {regressors.shape} must be (n,) and (n, p), with one row "
                "per client and session each."
            )
        codes = _codes(client, "client", len(outcome))
        clients, who = _positions(codes)
        when = _codes(session, "session", len(outcome)).astype(np.int64)
        first = int(when.min()) if len(when) else 0
        n_sessions = int(when.max()) - first + 1 if len(when) else 0
        _refuse_wide(n_sessions)
        flat = (when - first) * len(clients) + who
        _refuse_duplicates(flat, n_sessions * len(clients), codes)
        shape = (n_sessions, len(clients))
        table = _lay(outcome, flat, shape)
        columns = _lay(regressors, flat, shape)
        complete = ~np.isnan(table)
        for column in columns:
            complete &= ~np.isnan(column)
        table[~complete] = 0.0
        columns[:, ~complete] = 0.0
        counted = np.cumsum(complete[::-1], axis=0, dtype=float)[::-1]
        sessions = tuple(range(first, first + n_sessions))
        return cls(table, columns, complete, counted - complete, flat, sessions, clients)

    def lay(self, values: ArrayLike, name: str) -> Array:
        """Lay (n,) or (n, q) values out as (T, N) or (q, T, N); NaN where there is no row."""
        given = _numbers(values, name)
        if len(given) != len(self.flat):
            raise DataError(
                f"{name} has {len(given)} rows and y has {len(self.flat)}. Give one value per row."
            )
        return _lay(given, self.flat, self.shape)

    def at_rows(self, table: Array) -> Array:
        """Return the entries of a (T, N) table at the rows of the data, (n,)."""
        return np.asarray(table.ravel()[self.flat])


def _numbers(values: ArrayLike, name: str) -> Array:
    if not numeric(values, flags=True):
        raise DataError(f"{name} must hold numbers. Turn text into numbers first.")
    given = np.atleast_1d(np.asarray(values, np.float64))
    if bad := int(np.isinf(given).sum()):
        raise DataError(f"{name} holds {bad} infinite values. Set them missing (NaN) or mend them.")
    return given


def _codes(values: ArrayLike, name: str, n: int) -> NDArray[np.generic]:
    given = np.asarray(values)
    if given.shape != (n,):
        raise DataError(f"{name} has shape {given.shape}; give one entry for each of the {n} rows.")
    if given.dtype.kind == "f" and (bad := int((~np.isfinite(given)).sum())):
        raise DataError(f"{name} is missing in {bad} rows. Give every row its {name}, or drop it.")
    if name == "session" and given.dtype.kind not in "iu":
        whole = given.astype(np.float64)
        if not np.array_equal(whole, np.rint(whole)):
            raise DataError("Session numbers must be whole numbers. Number them 1, 2, 3, ...")
    return given


def _positions(codes: NDArray[np.generic]) -> tuple[NDArray[np.generic], Index]:
    """Return the distinct codes and where each row's stands among them."""
    if codes.dtype.kind in "iu" and len(codes):
        low = int(codes.min())
        span = int(codes.max()) - low + 1
        if span <= 8 * len(codes):  # counting beats sorting
            moved = codes.astype(np.int64) - low
            present = np.bincount(moved, minlength=span) > 0
            place = np.cumsum(present) - 1
            return np.flatnonzero(present) + low, place[moved]
    distinct, place = np.unique(codes, return_inverse=True)
    return distinct, place.astype(np.int64)


def _refuse_wide(n_sessions: int) -> None:
    if n_sessions > MOST_SESSIONS:
        raise DataError(
            f"Session numbers span {n_sessions:,}, more than the {MOST_SESSIONS:,} that can be "
            "laid out. Number sessions 1, 2, 3, ... within each client."
        )


def _refuse_duplicates(flat: Index, size: int, codes: NDArray[np.generic]) -> None:
    taken = np.bincount(flat, minlength=size)
    if taken.size and taken.max() > 1:
        twice = np.unique(codes[taken[flat] > 1])
        raise DataError(
            f"More than one row at the same session for client {identified(twice)}. Give every "
            "client one row per session."
        )


def _lay(given: Array, flat: Index, shape: tuple[int, int]) -> Array:
    out = np.full((*given.shape[1:], shape[0] * shape[1]), np.nan)
    out[..., flat] = given.T
    return out.reshape(*given.shape[1:], *shape)


@dataclass
class Rows:
    """One row position of all clients, being filled: what is regressed, and its own instruments.

    Parameters
    ----------
    kind : {"difference", "orthogonal", "level"}
    session : int
        Position of the level row that comes first in it (the later one of a difference).
    ok : (N,) bool
        Where the row is used; y and X are zero elsewhere.
    who : slice or (m,) int
        The clients that are kept: all, or those who use the row if they are a minority.
    y : (m,)
    X : list of (r, m)
        Regressors that are not zero everywhere, of the coefficients ``into``.
    Z : list of (z, m)
        Likewise instruments, of the columns ``columns`` of the instrument matrix; a missing
        instrument is 0.
    """

    kind: Kind
    session: int
    ok: Mask
    who: Index | slice
    y: Array
    X: list[Array]
    into: list[int]
    Z: list[Array] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)

    @property
    def level(self) -> bool:
        """Whether the client's level is still in it."""
        return self.kind == "level"

    def regress(self, values: Array, place: int) -> None:
        """Add a regressor (N,)."""
        self.X.append(values[None, self.who])
        self.into.append(place)

    def instrument(self, values: Array, columns: list[int]) -> None:
        """Add instruments (z, N)."""
        self.Z.append(values[:, self.who])
        self.columns += columns


class Columns:
    """Hands out columns of the instrument matrix."""

    def __init__(self) -> None:
        self.count = 0

    def more(self, number: int) -> list[int]:
        """Hand out the next columns."""
        self.count += number
        return list(range(self.count - number, self.count))


def shares(grid: Grid, kind: Kind, session: int, ok: Mask) -> Iterator[tuple[int, Array]]:
    """Yield what a row is made of: positions s of level rows, and their weights h_s (N,)."""
    used = ok.astype(float)
    if kind == "orthogonal":
        m = np.maximum(grid.later[session], 1.0)
        scale = np.sqrt(m / (m + 1.0)) * used
        yield session, scale
        for s in range(session + 1, grid.shape[0]):
            yield s, -scale / m * grid.complete[s]
        return
    yield session, used
    if kind == "difference":
        yield session - 1, -used


def transformed(grid: Grid, kind: Kind, session: int, ok: Mask, table: Array) -> Array:
    """Return a row of a (..., T, N) table of levels, zero where not ``ok``: (..., N)."""
    if kind == "difference":
        found = table[..., session, :] - table[..., session - 1, :]
        return np.asarray(found if ok.all() else found * ok)
    return np.asarray(sum(h * table[..., s, :] for s, h in shares(grid, kind, session, ok)))


def make_rows(grid: Grid, kind: Kind) -> list[Rows]:
    """Return every row position of a kind that some client has."""
    complete, rows = grid.complete, []
    p = len(grid.X)
    for t in range(grid.shape[0]):
        if kind == "difference":
            ok = complete[t] & complete[t - 1] if t else np.zeros(grid.shape[1], bool)
        else:
            ok = complete[t] & (grid.later[t] > 0.0) if kind == "orthogonal" else complete[t]
        if not ok.any():
            continue
        y = transformed(grid, kind, t, ok, grid.y)
        X = transformed(grid, kind, t, ok, grid.X)
        who = np.flatnonzero(ok) if 2 * ok.sum() < len(ok) else slice(None)
        rows.append(Rows(kind, t, ok, who, y[who], [X[:, who]], list(range(p))))
    return rows


def lagged_levels(
    rows: list[Rows], values: Array, lags: Lags, collapse: bool, columns: Columns
) -> list[int]:
    """Give every transformed row the earlier levels of a series; return their columns.

    Lags count from the session of a differenced row, and from the next session in orthogonal
    deviations, so that the same lag is valid for the same reason.
    """
    T, known = len(values), np.nan_to_num(values, nan=0.0)
    first = lags[0]
    lead = 1 if rows and rows[0].kind == "orthogonal" else 0
    last = T - 1 + lead if lags[1] is None else min(lags[1], T - 1 + lead)
    shared = columns.more(max(last - first + 1, 0)) if collapse else []
    used = list(shared)
    for row in rows:
        newest = row.session + lead - first
        oldest = max(row.session + lead - last, 0)
        if newest < oldest:
            continue
        offered = range(oldest, newest + 1)
        if collapse:
            place = [shared[row.session + lead - s - first] for s in offered]
        else:
            place = columns.more(len(offered))
            used += place
        row.instrument(known[oldest : newest + 1], place)
    return used


def lagged_differences(
    rows: list[Rows], values: Array, lags: Lags, collapse: bool, columns: Columns
) -> list[int]:
    """Give every level row the difference of a series at the lag before the first; its columns."""
    change = np.zeros_like(values)
    change[1:] = np.nan_to_num(values[1:] - values[:-1], nan=0.0)
    shared = columns.more(1) if collapse else []
    used = list(shared)
    for row in rows:
        if (t := row.session - lags[0] + 1) < 1:
            continue
        place = shared or columns.more(1)
        used += [] if collapse else place
        row.instrument(change[t : t + 1], place)
    return used


def exogenous_columns(rows: list[Rows], grid: Grid, exogenous: Array, columns: Columns) -> None:
    """Give every transformed row its own exogenous columns (q, T, N), transformed as it is."""
    place = columns.more(len(exogenous))
    known = np.where(grid.complete, np.nan_to_num(exogenous, nan=0.0), 0.0)
    for row in rows:
        if not row.level and place:
            value = transformed(grid, row.kind, row.session, row.ok, known)
            row.instrument(value, place)


def effect_sessions(rows: list[Rows], grid: Grid) -> list[int]:
    """Return the positions that get an effect of their own.

    Differences: the rows themselves. With level rows: every level row. Orthogonal deviations: every
    level row in them but the first, on which they say nothing.
    """
    if any(row.level for row in rows):
        return [row.session for row in rows if row.level]
    if rows and rows[0].kind == "orthogonal":
        used: Mask = np.any([row.ok for row in rows], axis=0)
        return [s for s in range(grid.shape[0]) if (grid.complete[s] & used).any()][1:]
    return [row.session for row in rows]


def add_effects(rows: list[Rows], grid: Grid, sessions: list[int], by_row: bool) -> None:
    """Append the session effects to the regressors of every row.

    ``by_row`` gives a row one 0/1 column of its own; otherwise the 0/1 columns of the level rows
    are transformed as the row is.
    """
    p, at = len(grid.X), {s: i for i, s in enumerate(sessions)}
    for row in rows:
        if by_row:
            if row.session in at:
                row.regress(row.ok.astype(float), p + at[row.session])
            continue
        for s, weight in shares(grid, row.kind, row.session, row.ok):
            if s in at:
                row.regress(weight, p + at[s])


def effect_instruments(
    rows: list[Rows], grid: Grid, sessions: list[int], columns: Columns
) -> list[int]:
    """Make the session effects their own instruments.

    In level rows where there are some (their 0/1 columns), otherwise in the transformed rows.
    """
    place, at = columns.more(len(sessions)), {s: i for i, s in enumerate(sessions)}
    some_level = any(row.level for row in rows)
    for row in rows:
        if row.level != some_level:
            continue
        if row.kind == "orthogonal":
            own = [(s, h) for s, h in shares(grid, row.kind, row.session, row.ok) if s in at]
        else:
            own = [(row.session, row.ok.astype(float))] if row.session in at else []
        for s, weight in own:
            row.instrument(weight[None], [place[at[s]]])
    return place


def noise_covariance(
    grid: Grid, one: tuple[Kind, int, Mask], other: tuple[Kind, int, Mask]
) -> float | Array:
    """Return the covariance of two rows of white noise, in units of its variance.

    Rows are given by kind, position and where they are used. A number where the covariance is the
    same for all clients (who have both rows), otherwise (N,).
    """
    (kind, session, ok), (kind2, session2, _) = one, other
    if kind == kind2:
        if kind == "difference":
            return {0: 2.0, 1: -1.0}.get(abs(session2 - session), 0.0)
        return float(session == session2)
    if kind == "level":
        return noise_covariance(grid, other, one)
    if kind == "difference":
        return {0: 1.0, -1: -1.0}.get(session2 - session, 0.0)
    for s, weight in shares(grid, kind, session, ok):
        if s == session2:
            return weight
    return 0.0


def refuse_lags(lags: Lags) -> None:
    """Refuse lags that cannot be instruments."""
    ends = tuple(lags) if isinstance(lags, tuple | list) else ()
    whole = [isinstance(end, int | np.integer) and not isinstance(end, bool) for end in ends]
    if len(ends) != 2 or not whole[0] or not (whole[1] or ends[1] is None):
        raise SpecificationError(
            f"Instrument lags are {lags!r}; give (first, last) in whole numbers, or (first, None) "
            "for all."
        )
    first, last = lags
    if first < 1 or (last is not None and last < first):
        raise SpecificationError(
            f"Instrument lags ({first}, {last}) must start at 1 or later and not end before. "
            "Two is the first lag that is valid for a lagged outcome."
        )
