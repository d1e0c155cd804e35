"""One pass over the rows of a linear mixed model, client by client.

With Z_i = Q_i R_i (Q_i orthonormal columns, or zero ones where a client's rows cannot carry them),
V_i = I + Z_i Omega Z_i' has

    log|V_i|  = log|I + R_i Omega R_i'|,
    V_i^-1    = (I - Q_i Q_i') + Q_i (I + R_i Omega R_i')^-1 Q_i',

so that R_i, Q_i'[X y] and the scatter of [X y] that is left over, summed over clients, are all the
likelihood ever asks of the rows. Nothing is subtracted from a larger number: a large variance
ratio loses no digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from alliancedyn.errors import DataError, SpecificationError, identified

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

# Without "nnan" and "ninf": a missing value must come out of the sums as NaN.
FAST = {"reassoc", "nsz", "arcp", "contract"}
compiled = njit(cache=True, fastmath=FAST, error_model="numpy", nogil=True)

# A column of Z that a client's other columns explain to this fraction of its length adds nothing.
DEPENDENT = 1e-10
# Code of the outer unit of clients who have none; any other integer is the code of one.
NO_UNIT = int(np.iinfo(np.int64).min)


@dataclass(frozen=True)
class Grouping:
    """Which rows belong to which client, and which clients to which outer unit.

    Clients are numbered by their place in ``labels``; the rows of client c are
    ``order[starts[c]:starts[c + 1]]``, or simply those positions where ``order`` is empty because
    the rows already stand client by client. ``sequence`` lists the clients in the order in which
    they are worked off, clients without an outer unit first, then outer unit by outer unit;
    ``blocks`` says where each outer unit begins there, and is empty without an outer level.
    """

    order: Codes
    starts: Codes
    labels: Codes
    sequence: Codes
    blocks: Codes
    outer_labels: Codes

    @property
    def units(self) -> tuple[int, ...]:
        """Number of clients, then of outer units where there is such a level."""
        clients = (len(self.labels),)
        return (*clients, len(self.outer_labels)) if len(self.blocks) else clients


@dataclass(frozen=True)
class ClientStatistics:
    """All that the likelihood needs from the rows, clients in the order of ``sequence``.

    Attributes
    ----------
    root : array (J, m, m)
        R_i, upper triangular. m = q, or q + 1 where an outer level needs a column of ones that
        Z lacks; its place is then the last, and its variance zero.
    projected : array (J, m, p + 1)
        Q_i'[X y].
    scatter : array (p + 1, p + 1)
        Cross-products of what is left of [X y] once the columns of Z are taken out.
    one : array (m,)
        Weights with which the columns of Z make the column of ones.
    blocks : integer array (G + 1,) or (0,)
        Where each outer unit begins; clients before the first have none.
    rows : int
        Number of rows n.
    """

    root: Array
    projected: Array
    scatter: Array
    one: Array
    blocks: Codes
    rows: int

    @property
    def free(self) -> int:
        """How many clients, the first, have no outer unit though others have."""
        return int(self.blocks[0]) if len(self.blocks) else 0


def group_rows(group: Codes, outer: Codes | None) -> Grouping:
    """Find the rows of each client, and the clients of each outer unit.

    Raises
    ------
    SpecificationError
        If a client has rows in two outer units.
    """
    order, starts, labels = _sorted_blocks(group)
    nothing = np.empty(0, dtype=np.int64)
    if outer is None:
        return Grouping(order, starts, labels, np.arange(len(labels)), nothing, nothing)
    parent = _parent(outer, order, starts)
    split = np.flatnonzero(parent[:, 1])
    if len(split):
        raise SpecificationError(
            f"Clients have rows in more than one outer unit: {identified(labels[split])}. Give "
            "each client one outer unit, or fit the two levels as crossed "
            "(alliancedyn.engine.crossed)."
        )
    sequence, blocks, outer_labels = _sorted_blocks(np.ascontiguousarray(parent[:, 0]))
    sequence = sequence if len(sequence) else np.arange(len(labels))
    if outer_labels[0] == NO_UNIT:  # the lowest of codes
        blocks, outer_labels = blocks[1:], outer_labels[1:]
    return Grouping(order, starts, labels, sequence, blocks, outer_labels)


def _sorted_blocks(codes: Codes) -> tuple[Codes, Codes, Codes]:
    """Return (order, starts, labels) of equal codes; ``order`` empty if they already stand so."""
    changes = _count_blocks(codes)
    nothing = np.empty(0, dtype=np.int64)
    if changes >= 0:
        starts = _block_starts(codes, changes)
        return nothing, starts, codes[starts[:-1]]
    low, high = int(codes.min()), int(codes.max())
    if high - low < 4 * len(codes):
        order, starts, present = _counting_sort(codes, low, high - low + 1)
        return order, starts, present + low
    labels, dense = np.unique(codes, return_inverse=True)
    order, starts, _ = _counting_sort(dense.astype(np.int64), 0, len(labels))
    return order, starts, labels


@compiled
def _count_blocks(codes: Codes) -> int:
    """Count runs of equal codes, or return -1 where the codes ever fall."""
    runs = 1
    for row in range(1, len(codes)):
        if codes[row] < codes[row - 1]:
            return -1
        if codes[row] != codes[row - 1]:
            runs += 1
    return runs


@compiled
def _block_starts(codes: Codes, runs: int) -> Codes:
    starts = np.zeros(runs + 1, dtype=np.int64)
    place = 0
    for row in range(1, len(codes)):
        if codes[row] != codes[row - 1]:
            place += 1
            starts[place] = row
    starts[runs] = len(codes)
    return starts


@compiled
def _counting_sort(codes: Codes, low: int, span: int) -> tuple[Codes, Codes, Codes]:
    """Return the rows in the order of their codes, where each begins, and the codes present."""
    count = np.zeros(span + 1, dtype=np.int64)
    for row in range(len(codes)):
        count[codes[row] - low + 1] += 1
    found = 0
    for code in range(span):
        if count[code + 1] > 0:
            found += 1
        count[code + 1] += count[code]
    starts = np.empty(found + 1, dtype=np.int64)
    present = np.empty(found, dtype=np.int64)
    found = 0
    for code in range(span):
        if count[code + 1] > count[code]:
            starts[found] = count[code]
            present[found] = code
            found += 1
    starts[found] = len(codes)
    order = np.empty(len(codes), dtype=np.int64)
    for row in range(len(codes)):
        code = codes[row] - low
        order[count[code]] = row
        count[code] += 1
    return order, starts, present


@compiled
def _parent(outer: Codes, order: Codes, starts: Codes) -> Codes:
    """Return per client its outer unit, and whether some of its rows lie in another one."""
    parent = np.zeros((len(starts) - 1, 2), dtype=np.int64)
    for client in range(len(starts) - 1):
        for place in range(starts[client], starts[client + 1]):
            unit = outer[order[place] if len(order) else place]
            if place == starts[client]:
                parent[client, 0] = unit
            elif unit != parent[client, 0]:
                parent[client, 1] = 1
    return parent


def reduce_rows(
    y: Array, X: Array, Z: Array, grouping: Grouping, shift: tuple[float, Array, Array], ones: bool
) -> tuple[Array, Array, Array]:
    """Return ``root``, ``projected`` and ``scatter`` of ``ClientStatistics``.

    Parameters
    ----------
    y, X, Z : arrays (n,), (n, p), (n, q)
        Scores, fixed-effect and random-effect columns.
    grouping : Grouping
        Rows of each client.
    shift : tuple
        What is subtracted from y, from each column of X and from each column of Z.
    ones : bool
        Whether a column of ones follows those of Z.
    """
    longest = int(np.diff(grouping.starts).max())
    return _reduce(
        y,
        np.ascontiguousarray(X),
        np.ascontiguousarray(Z),
        grouping.order,
        grouping.starts,
        grouping.sequence,
        *shift,
        ones,
        longest,
    )


@compiled
def _reduce(
    y: Array,
    X: Array,
    Z: Array,
    order: Codes,
    starts: Codes,
    sequence: Codes,
    shift_y: float,
    shift_x: Array,
    shift_z: Array,
    ones: bool,
    longest: int,
) -> tuple[Array, Array, Array]:
    clients, q, p = len(sequence), Z.shape[1], X.shape[1]
    m = q + 1 if ones else q
    root = np.zeros((clients, m, m))
    projected = np.zeros((clients, m, p + 1))
    scatter = np.zeros((p + 1, p + 1))
    D = np.empty((longest, p + 1))
    E = np.empty((m, longest))
    for place in range(clients):
        first = starts[sequence[place]]
        rows = starts[sequence[place] + 1] - first
        _load(y, X, Z, order, first, rows, (shift_y, shift_x, shift_z), E, D)
        R = root[place]
        P = projected[place]
        for k in range(m):
            _orthogonalise(E, R, k, rows)
            for r in range(rows):
                for b in range(p + 1):
                    P[k, b] += E[k, r] * D[r, b]
            for r in range(rows):
                for b in range(p + 1):
                    D[r, b] -= E[k, r] * P[k, b]
        for r in range(rows):
            for a in range(p + 1):
                for b in range(a + 1):
                    scatter[a, b] += D[r, a] * D[r, b]
    for a in range(p + 1):
        for b in range(a):
            scatter[b, a] = scatter[a, b]
    return root, projected, scatter


@compiled
def _load(
    y: Array,
    X: Array,
    Z: Array,
    order: Codes,
    first: int,
    rows: int,
    shift: tuple[float, Array, Array],
    E: Array,
    D: Array,
) -> None:
    """Copy a client's shifted rows into E (columns of Z) and D (rows of [X y])."""
    q, p = Z.shape[1], X.shape[1]
    shift_y, shift_x, shift_z = shift
    for r in range(rows):
        row = order[first + r] if len(order) else first + r
        for a in range(q):
            E[a, r] = Z[row, a] - shift_z[a]
        for a in range(q, len(E)):
            E[a, r] = 1.0
        for b in range(p):
            D[r, b] = X[row, b] - shift_x[b]
        D[r, p] = y[row] - shift_y


@compiled
def _orthogonalise(E: Array, R: Array, k: int, rows: int) -> None:
    """Turn column k of E into the next orthonormal one; zero where nothing of it is left."""
    before = 0.0
    for r in range(rows):
        before += E[k, r] * E[k, r]
    if not np.isfinite(before):  # left in, for the sums to show
        return
    for _ in range(2):
        for j in range(k):
            dot = 0.0
            for r in range(rows):
                dot += E[j, r] * E[k, r]
            R[j, k] += dot
            for r in range(rows):
                E[k, r] -= dot * E[j, r]
    after = 0.0
    for r in range(rows):
        after += E[k, r] * E[k, r]
    if not after > DEPENDENT**2 * before:
        for r in range(rows):
            E[k, r] = 0.0
        return
    length = np.sqrt(after)
    R[k, k] = length
    for r in range(rows):
        E[k, r] /= length


@compiled
def sum_scores(
    residual_of: tuple[Array, Array, Array],
    fixed: Array,
    random: Array,
    offset: Array,
    order: Codes,
    starts: Codes,
) -> Array:
    """Return X_i'e_i per client (J, p) with e = y - X beta - Z u_i - v_i.

    ``residual_of`` is (y, X, Z); ``random`` (J, q) and ``offset`` (J,) stand in client order.
    """
    y, X, Z = residual_of
    clients, p, q = len(starts) - 1, X.shape[1], Z.shape[1]
    score = np.zeros((clients, p))
    for client in range(clients):
        for place in range(starts[client], starts[client + 1]):
            row = order[place] if len(order) else place
            left = y[row] - offset[client]
            for b in range(p):
                left -= X[row, b] * fixed[b]
            for a in range(q):
                left -= Z[row, a] * random[client, a]
            for b in range(p):
                score[client, b] += left * X[row, b]
    return score


def refuse_missing(y: Array, X: Array, Z: Array) -> None:
    """Say which of the arrays made the sums over rows come out as no finite number."""
    bad = [name for name, values in (("y", y), ("X", X), ("Z", Z)) if not np.isfinite(values).all()]
    if bad:
        raise DataError(f"{' and '.join(bad)} must be finite. Drop rows with missing values first.")
    raise DataError("Values of y, X or Z are too large to be squared. Rescale them.")
