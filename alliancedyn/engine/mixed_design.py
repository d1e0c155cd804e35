"""Columns of a linear mixed model on a scale of their own, and the way back to the user's.

X is shifted and turned so that X'X = I, Z so that Z'Z = n I, and y is replaced by its residuals
from ordinary least squares in units of their standard deviation. The likelihood does not notice;
generalised least squares and the search no longer depend on the scale of any column or the offset
of any score. Shift and turn are applied to the statistics, not to the rows; only columns so nearly
dependent that their cross-products have lost the digits are turned row by row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.mixed_rows import (
    ClientStatistics,
    Grouping,
    reduce_rows,
    refuse_missing,
)
from alliancedyn.errors import SpecificationError

Array = NDArray[np.float64]

# A column whose part of its own is below this fraction of its length: turn the rows themselves.
NEARLY_DEPENDENT = 1e-4
# .. and below this one it is refused.
DEPENDENT = 1e-10
# Spread within clients below this fraction of the largest score is rounding, not variance.
ROUNDING = 1e-12


@dataclass(frozen=True)
class StandardDesign:
    """Statistics of the standardised columns.

    beta = start + size * back @ gamma, covariance of effects = size^2 turn Omega turn',
    and log|X'V^-1 X| in the user's columns exceeds that of the standardised ones by 2 log_volume.
    """

    stats: ClientStatistics
    start: Array  # (p,)
    back: Array  # (p, p)
    turn: Array  # (q, q)
    size: float
    log_volume: float


@dataclass(frozen=True)
class _Columns:
    """Columns as they go into the pass over the rows, and what was done to them before."""

    values: Array
    shift: Array
    one: Array | None  # weights with which the columns make a column of ones
    before: Array | None = None  # triangle R where values = original R^-1


Reduced = tuple[Array, Array, Array]  # root, projected, scatter


def standardize(y: Array, X: Array, Z: Array, grouping: Grouping) -> StandardDesign:
    """Reduce the rows and standardise their columns.

    Raises
    ------
    DataError
        If y, X or Z hold missing or infinite values.
    SpecificationError
        If columns of X or of Z are dependent, or no spread is left within clients.
    """
    fixed, random, largest = _shifted(X), _shifted(Z), float(np.abs(y).max())
    nested = len(grouping.labels) - int(grouping.blocks[0]) if len(grouping.blocks) else 0
    if random.one is not None and nested and nested == len(grouping.outer_labels):
        raise SpecificationError(
            "Every outer unit has a single client, so the two levels cannot be told apart. Leave "
            "one of them out."
        )
    ahead = _reduce(y, fixed, random, grouping)
    if _is_delicate(_gram(ahead)):
        fixed = _turned(X, fixed.one, "X")
        beta = np.asarray(np.linalg.lstsq(X, y, rcond=None)[0], dtype=np.float64)
        y = y - X @ beta
        ahead = _reduce(y, fixed, random, grouping)
        design = _standardize(y, fixed, random, grouping, ahead, largest)
        return replace(design, start=design.start + beta)
    return _standardize(y, fixed, random, grouping, ahead, largest)


def _shifted(columns: Array) -> _Columns:
    """Shift each column by about its mean, which changes nothing beside a constant column."""
    sample = columns[:: max(1, len(columns) // 1000)]
    same = np.flatnonzero((sample == sample[0]).all(axis=0) & (sample[0] != 0.0))
    constant = next((int(j) for j in same if (columns[:, j] == sample[0, j]).all()), None)
    if constant is None:
        return _Columns(columns, np.zeros(columns.shape[1]), None)
    with np.errstate(invalid="ignore"):  # infinite values are refused by name further on
        shift = sample.mean(axis=0)
    shift[constant] = 0.0
    one = np.zeros(columns.shape[1])
    one[constant] = 1.0 / sample[0, constant]
    return _Columns(columns, shift, one)


def _turned(columns: Array, one: Array | None, name: str) -> _Columns:
    """Orthonormalise the rows themselves."""
    length = np.linalg.norm(columns, axis=0)
    for j in np.flatnonzero(length == 0.0):
        raise SpecificationError(f"Column {j} of {name} is zero throughout. Leave it out.")
    basis, triangle = np.linalg.qr(columns)
    own = np.abs(np.diag(triangle)) / length[: len(triangle)]
    if own.min() <= DEPENDENT:
        first = int(np.flatnonzero(own <= DEPENDENT)[0])
        constant = "constant and therefore " if np.ptp(columns[:, first]) == 0.0 else ""
        raise SpecificationError(
            f"Column {first} of {name} is {constant}linearly dependent on the columns before it "
            "(counted from 0). Leave one of them out."
        )
    return _Columns(basis, np.zeros(len(length)), None if one is None else triangle @ one, triangle)


def _shift_of_scores(y: Array, fixed: _Columns) -> float:
    if fixed.one is None:
        return 0.0
    with np.errstate(invalid="ignore"):
        return float(y[:: max(1, len(y) // 1000)].mean())


def _reduce(y: Array, fixed: _Columns, random: _Columns, grouping: Grouping) -> Reduced:
    shift = (_shift_of_scores(y, fixed), fixed.shift, random.shift)
    ones = bool(len(grouping.blocks)) and random.one is None
    reduced = reduce_rows(y, fixed.values, random.values, grouping, shift, ones)
    if not np.isfinite(reduced[2].sum()):  # what is missing in a row ends up in the scatter
        refuse_missing(y, fixed.values, random.values)
    return reduced


def _gram(reduced: Reduced) -> Array:
    """Return the cross-products of [X y]."""
    _, projected, scatter = reduced
    flat = projected.reshape(-1, len(scatter))
    return np.asarray(scatter + flat.T @ flat)


def _is_delicate(gram: Array) -> bool:
    """Say whether cross-products have lost the digits that tell their columns apart."""
    length = np.sqrt(np.diag(gram))
    if not length.all():
        return True
    try:
        own = np.diag(np.linalg.cholesky(gram / np.outer(length, length)))
    except np.linalg.LinAlgError:
        return True
    return bool(own.min() < NEARLY_DEPENDENT)


def _standardize(
    y: Array,
    fixed: _Columns,
    random: _Columns,
    grouping: Grouping,
    reduced: Reduced,
    largest: float,
) -> StandardDesign:
    q = random.values.shape[1]
    flat = reduced[0][:, :, :q].reshape(-1, q)
    if _is_delicate(flat.T @ flat):
        random = _turned(random.values, random.one, "Z")
        reduced = _reduce(y, fixed, random, grouping)
        flat = reduced[0][:, :, :q].reshape(-1, q)
    triangle = np.linalg.cholesky(flat.T @ flat / len(y))
    turn = _inverse(triangle).T
    start, back, size, mix = _solve_least_squares(_gram(reduced), len(y))
    stats = _turn_statistics(reduced, turn, mix, random, grouping, len(y))
    _refuse_no_spread(stats, q, largest / size)
    log_volume = -float(np.linalg.slogdet(back)[1])
    if fixed.one is not None:  # undo the shifts: 1 = X one
        start = start + fixed.one * (_shift_of_scores(y, fixed) - fixed.shift @ start)
        back = back - np.outer(fixed.one, fixed.shift @ back)
    if fixed.before is not None:
        inverse = _inverse(fixed.before)
        start, back = inverse @ start, inverse @ back
        log_volume += float(np.log(np.abs(np.diag(fixed.before))).sum())
    if random.one is not None:
        turn = turn - np.outer(random.one, random.shift @ turn)
    if random.before is not None:
        turn = _inverse(random.before) @ turn
    return StandardDesign(stats, start, back, turn, size, log_volume)


def _inverse(triangle: NDArray[np.floating[Any]]) -> Array:
    return np.asarray(np.linalg.inv(triangle), dtype=np.float64)


def _solve_least_squares(gram: Array, rows: int) -> tuple[Array, Array, float, Array]:
    """Return estimates, the turn to orthonormal X, the residual's size, and both as one matrix."""
    p = len(gram) - 1
    back = np.linalg.inv(np.linalg.cholesky(gram[:p, :p])).T
    start = back @ (back.T @ gram[:p, p])
    left = float(gram[p, p] - start @ gram[:p, p])
    size = float(np.sqrt(left / rows)) if left > 0.0 else 1.0
    mix = np.zeros_like(gram)  # [X y] mix = standardised columns
    mix[:p, :p], mix[:p, p], mix[p, p] = back, -start / size, 1.0 / size
    return start, back, size, mix


def _turn_statistics(
    reduced: Reduced, turn: Array, mix: Array, random: _Columns, grouping: Grouping, rows: int
) -> ClientStatistics:
    """Standardise the statistics, which are overwritten."""
    root, projected, scatter = reduced
    q, m, width = len(turn), root.shape[1], len(mix)
    wide = np.eye(m)
    wide[:q, :q] = turn
    one = np.zeros(m)
    if random.one is None:
        one[-1] = 1.0  # used only where an outer level has added the column of ones
    else:
        one[:q] = np.linalg.solve(turn, random.one)
    _turn_in_place(root.reshape(-1, m), wide)
    _turn_in_place(projected.reshape(-1, width), mix)
    return ClientStatistics(root, projected, mix.T @ scatter @ mix, one, grouping.blocks, rows)


def _turn_in_place(rows: Array, turn: Array, chunk: int = 65536) -> None:
    """Replace ``rows`` by ``rows @ turn`` without a second copy of them."""
    for first in range(0, len(rows), chunk):
        rows[first : first + chunk] = rows[first : first + chunk] @ turn


def _refuse_no_spread(stats: ClientStatistics, q: int, largest: float) -> None:
    """Refuse scores whose spread within clients, given X, is zero up to rounding."""
    roots = np.diagonal(stats.root, axis1=1, axis2=2)[:, :q]
    if np.count_nonzero(roots) >= stats.rows:
        raise SpecificationError(
            f"No client has more rows than the {q} random effect{'s' if q > 1 else ''}, so their "
            "variances cannot be told from that of single rows. Use fewer random effects or "
            "clients with more rows."
        )
    added = stats.projected[:, q:].reshape(-1, len(stats.scatter))
    scatter = stats.scatter + added.T @ added
    xx, xy, yy = scatter[:-1, :-1], scatter[:-1, -1], scatter[-1, -1]
    explained, _, rank, _ = np.linalg.lstsq(xx, xy, rcond=1e-12)
    left = float(yy - xy @ explained)
    free = stats.rows - np.count_nonzero(roots) - rank
    if free <= 0 or left <= stats.rows * (ROUNDING * largest) ** 2:
        raise SpecificationError(
            "No spread is left within clients, so the residual variance is zero and the "
            "likelihood has no maximum. Leave out what never changes, or what "
            "repeats the outcome."
        )
