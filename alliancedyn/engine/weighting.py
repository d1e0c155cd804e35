"""Moment sums of a dynamic panel equation, row position by row position, and how to weigh them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from alliancedyn.engine.instruments import Grid, Kind, Mask, Rows, noise_covariance
from alliancedyn.errors import SpecificationError

Array = NDArray[np.float64]
Index = NDArray[np.int64]

# A pivot of the correlation form below this: columns that repeat others, to rounding.
SINGULAR = 1e-6
# Eigenvalues of the correlation form below this share of the largest are rounding.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Stack:
    """One row position of all clients, complete.

    ``y`` (m,), ``X`` (r, m) of the coefficients ``into`` (r,), ``Z`` (z, m) of the columns ``at``
    (z,), for the m clients ``who``; all zero where the row is not used.
    """

    kind: Kind
    session: int
    ok: Mask
    who: Index | slice
    y: Array
    X: Array
    into: Index
    Z: Array
    at: Index | slice

    @classmethod
    def of(cls, row: Rows, Z: Array, at: Index | slice) -> Stack:
        """Put the columns of a row together."""
        X = row.X[0] if len(row.X) == 1 else np.concatenate(row.X)
        into = np.array(row.into, np.int64)
        return cls(row.kind, row.session, row.ok, row.who, row.y, X, into, Z, at)

    @property
    def which(self) -> tuple[Kind, int, Mask]:
        """Kind, position, and where it is used."""
        return self.kind, self.session, self.ok

    def residuals(self, beta: Array) -> Array:
        """Return y - X' beta, (m,)."""
        return np.asarray(self.y - beta[self.into] @ self.X)

    def beside(self, other: Stack) -> tuple[Array, Array]:
        """Return the instruments of both rows for the clients that are kept in both."""
        if isinstance(self.who, slice) and isinstance(other.who, slice):
            return self.Z, other.Z
        if isinstance(self.who, slice):
            return self.Z[:, other.who], other.Z
        if isinstance(other.who, slice):
            return self.Z, other.Z[:, self.who]
        _, mine, theirs = np.intersect1d(
            self.who, other.who, assume_unique=True, return_indices=True
        )
        return self.Z[:, mine], other.Z[:, theirs]


@dataclass(frozen=True)
class Step:
    """A solution: ``beta`` (q,), its weight W (K, K), B = (X'Z W Z'X)^-1, ``onto`` = B X'Z W."""

    beta: Array
    W: Array
    B: Array
    onto: Array
    residuals: list[Array]


@dataclass(frozen=True)
class Moments:
    """Sums over clients: ``zx`` = Z'X (K, q), ``zy`` = Z'y (K,), of columns that are ever used.

    ``used`` (K,) are the columns by the number under which they were handed out, ``clients`` N.
    """

    rows: list[Stack]
    zx: Array
    zy: Array
    used: Index
    clients: int

    @classmethod
    def of(cls, rows: list[Rows], grid: Grid, q: int) -> Moments:
        """Stack rows and sum over clients.

        Raises
        ------
        SpecificationError
            If there are fewer instruments than coefficients.
        """
        blocks = [_block(row) for row in rows]
        seen = [block.any(axis=1) for block in blocks]
        columns = [np.array(row.columns, np.int64)[s] for row, s in zip(rows, seen, strict=True)]
        used = np.unique(np.concatenate(columns))
        if len(used) < q:
            raise SpecificationError(
                f"{len(used)} instruments cannot identify {q} coefficients. Allow more lags, or "
                "leave session effects out."
            )
        zx, zy, stacks = np.zeros((len(used), q)), np.zeros(len(used)), []
        for row, Z, own, kept in zip(rows, blocks, columns, seen, strict=True):
            at = _run(np.searchsorted(used, own))
            stack = Stack.of(row, Z if kept.all() else Z[kept], at)
            _add(zx, at, stack.into, stack.Z @ stack.X.T)
            zy[at] += stack.Z @ stack.y
            stacks.append(stack)
        return cls(stacks, zx, zy, used, grid.shape[1])

    @property
    def size(self) -> int:
        """The number of instruments K."""
        return len(self.zy)

    @property
    def q(self) -> int:
        """The number of coefficients."""
        return self.zx.shape[1]

    @property
    def n_rows(self) -> int:
        """Rows used, of all clients."""
        return int(sum(row.ok.sum() for row in self.rows))

    @property
    def n_clients(self) -> int:
        """Clients with a row."""
        return int(np.any([row.ok for row in self.rows], axis=0).sum())

    def first_weight(self, grid: Grid) -> Array:
        """Return sum_i Z_i' H Z_i (K, K), H the covariance of rows of unit white noise."""
        A = np.zeros((self.size, self.size))
        for r, one in enumerate(self.rows):
            for other in self.rows[r:]:
                weight = noise_covariance(grid, one.which, other.which)
                if isinstance(weight, float) and not weight:
                    continue
                mine, theirs = one.beside(other)
                if isinstance(weight, float):
                    both = weight * (mine @ theirs.T)
                else:
                    both = (mine * weight[_common(one, other)]) @ theirs.T
                _add(A, one.at, other.at, both)
                if other is not one:
                    _add(A, other.at, one.at, both.T)
        return A

    def total(self, step: Step) -> Array:
        """Return Z'e, (K,)."""
        return np.asarray(self.zy - self.zx @ step.beta)

    def by_client(self, e: list[Array]) -> Array:
        """Return Z_i' e_i of every client, (K, N)."""
        out = np.zeros((self.size, self.clients))
        for row, own in zip(self.rows, e, strict=True):
            _add(out, row.at, row.who, row.Z * own)
        return out

    def shares(self, step: Step) -> Array:
        """Return each client's share in the solution, B X'Z W Z_i'e_i, (N, q)."""
        found = np.zeros((self.q, self.clients))
        for row, own in zip(self.rows, step.residuals, strict=True):
            found[:, row.who] += (step.onto[:, row.at] @ row.Z) * own
        return found.T

    def regressors_onto(self, w: Array) -> Array:
        """Return w' Z_i' X_i of every client, (q, N)."""
        found = np.zeros((self.q, self.clients))
        for row in self.rows:
            _add(found, row.into, row.who, row.X * (w[row.at] @ row.Z))
        return found

    def weighted_zx(self, weight: Array) -> Array:
        """Return sum_i weight_i Z_i'X_i, (K, q)."""
        found = np.zeros_like(self.zx)
        for row in self.rows:
            _add(found, row.at, row.into, row.Z @ (row.X * weight[row.who]).T)
        return found

    def noise_variance(self, e: list[Array]) -> float:
        """Return the variance of u from the transformed rows; a difference has it twice."""
        own = [(row, d) for row, d in zip(self.rows, e, strict=True) if row.kind != "level"]
        twice = 2.0 if own[0][0].kind == "difference" else 1.0
        return float(sum(d @ d for _, d in own) / twice / sum(row.ok.sum() for row, _ in own))


def _block(row: Rows) -> Array:
    if not row.Z:
        return np.zeros((0, len(row.y)))
    Z = np.concatenate(row.Z)
    if not row.ok[row.who].all():
        Z *= row.ok[row.who]
    return Z


def _common(one: Stack, other: Stack) -> Index | slice:
    """Return the clients that are kept in both rows."""
    if isinstance(one.who, slice):
        return other.who
    return one.who if isinstance(other.who, slice) else np.intersect1d(one.who, other.who)


def _run(at: Index) -> Index | slice:
    """Return positions as a slice where they follow one another."""
    if len(at) and at[-1] - at[0] == len(at) - 1 and (np.diff(at) == 1).all():
        return slice(int(at[0]), int(at[-1]) + 1)
    return at


def _add(table: Array, at: Index | slice, into: Index | slice, values: Array) -> None:
    """Add a block to a table."""
    if isinstance(at, slice) or isinstance(into, slice):
        table[at, into] += values
    else:
        table[np.ix_(at, into)] += values


def weigh(A: Array) -> tuple[Array, int]:
    """Invert a weight matrix (K, K); also its rank.

    Directions without information are left out, in the scale where every diagonal entry is 1, so
    that rescaling a variable rescales its effect whatever the rank.
    """
    scale = 1.0 / np.sqrt(np.maximum(np.diag(A), 1e-300))
    unit = A * np.outer(scale, scale)
    try:
        factor = cho_factor(unit, lower=True, check_finite=False)
        regular = bool(np.diag(factor[0]).min() > SINGULAR)
    except LinAlgError:
        regular = False
    if regular:
        inverse, rank = cho_solve(factor, np.eye(len(A)), check_finite=False), len(A)
    else:
        values, vectors = np.linalg.eigh(unit)
        kept = values > ROUNDING * values[-1]
        inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
        rank = int(kept.sum())
    inverse = inverse * np.outer(scale, scale)
    return np.asarray((inverse + inverse.T) / 2.0), rank


def solve(moments: Moments, W: Array) -> Step:
    """Return beta = (X'Z W Z'X)^-1 X'Z W Z'y.

    Raises
    ------
    SpecificationError
        If the instruments do not identify all coefficients.
    """
    left = moments.zx.T @ W
    B = invert_information(left @ moments.zx)
    if B is None:
        raise SpecificationError(
            "The instruments do not identify all coefficients: a regressor does not vary over "
            "sessions, or repeats others. Leave it out."
        )
    onto = B @ left
    beta = onto @ moments.zy
    return Step(beta, W, B, onto, [row.residuals(beta) for row in moments.rows])


def invert_information(information: Array) -> Array | None:
    """Invert X'Z W Z'X (q, q), or return None if it has no inverse to speak of."""
    diagonal = np.diag(information)
    if not (diagonal > 0.0).all():
        return None
    scale = 1.0 / np.sqrt(diagonal)
    unit = information * np.outer(scale, scale)
    if np.linalg.cond(unit) > 1.0 / ROUNDING:
        return None
    inverse = np.linalg.inv(unit) * np.outer(scale, scale)
    return np.asarray((inverse + inverse.T) / 2.0)
