"""The search for the covariance of a mixed model with autocorrelated residuals.

All parameters are searched at once: a Cholesky factor of Gamma = G / sigma^2, the root of
omega / sigma^2 and phi, which a hyperbolic tangent keeps inside its limits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from alliancedyn.engine.block_likelihood import Height, Slope, profile
from alliancedyn.engine.blocks import Array, Blocks, Codes, belongs, parents_of, stack_columns
from alliancedyn.engine.descent import Lowest, minimise, settle_roots
from alliancedyn.engine.whitening import whiten
from alliancedyn.errors import DataError, SpecificationError

# Beyond this an autoregression cannot be told from a stable level at any number of sessions.
LARGEST_PHI = 0.995
SMALLEST_PHI = 1e-9  # of CAR(1), at the median gap
SIGNED_STARTS = ((-0.9, -0.4), (0.0, 0.3, 0.7, 1.4))  # z of phi = limit tanh z
UNSIGNED_STARTS = (-1.5, -0.5, 0.3, 1.2)  # z of phi = limit (1 + tanh z) / 2
FEW_ROWS = 5000
FAR_OUT = 12.0  # z at which phi has arrived at its limit ..
OUTWARD = 4.5  # .. and from which on it is tried there


@dataclass(frozen=True)
class SerialProblem:
    """Sorted rows, and how the search's parameters x become Gamma, rho and phi.

    x holds the lower triangle of a Cholesky factor of Gamma, the root of rho where there is an
    outer level, and z with phi = limit tanh z, or limit (1 + tanh z) / 2.
    """

    rows: Array  # [Z w X y], (n, k), sorted by client and time
    group: Codes
    gap: Array  # time since the client's last row; 0 marks a first row
    effects: int
    outer: Codes | None  # of each client
    signed: bool
    reml: bool

    @property
    def clients(self) -> int:
        """Number of clients."""
        return int(self.group[-1]) + 1

    def phi(self, z: float) -> tuple[float, float]:
        """Return phi and d phi / dz."""
        t = math.tanh(z)
        scale = LARGEST_PHI if self.signed else 0.5 * LARGEST_PHI
        if self.signed:
            return scale * t, scale * (1.0 - t * t)
        return max(scale * (1.0 + t), SMALLEST_PHI), scale * (1.0 - t * t)

    def whitened(self, phi: float) -> tuple[Blocks, float, Slope]:
        """Return the whitened rows' cross-products, log|R|, and how they move with phi."""
        gram, gram_slope, log_det, log_det_slope = whiten(
            self.rows, self.group, self.gap, phi, self.clients
        )
        blocks = Blocks(gram, self.effects, len(self.rows), self.outer)
        return blocks, log_det, Slope(gram_slope, log_det_slope)

    def ratios(self, x: Array) -> tuple[Array, Array, float]:
        """Return the Cholesky factor, Gamma and rho."""
        q = self.effects
        L = np.zeros((q, q))
        L[np.tril_indices(q)] = x[: q * (q + 1) // 2]
        return L, L @ L.T, 0.0 if self.outer is None else float(x[-2] ** 2)

    def height(self, x: Array) -> tuple[Height, Blocks]:
        """Return the profiled deviance at x with all that comes with it."""
        _, ratio_cov, ratio_outer = self.ratios(x)
        blocks, log_det, slope = self.whitened(self.phi(float(x[-1]))[0])
        at = profile(blocks, ratio_cov, ratio_outer, reml=self.reml, log_det=log_det, slope=slope)
        return at, blocks

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Return the profiled deviance and its gradient by x."""
        L, _, _ = self.ratios(x)
        at, _ = self.height(x)
        by_factor = 2.0 * (at.by_random @ L)
        gradient = list(by_factor[np.tril_indices(self.effects)])
        if self.outer is not None:
            gradient.append(2.0 * float(x[-2]) * at.by_outer)
        gradient.append(at.by_phi * self.phi(float(x[-1]))[1])
        return at.deviance, np.array(gradient)


@dataclass(frozen=True)
class Prepared:
    """A problem in standardized columns, and the way back to the user's.

    X = basis triangle, so that beta = start + triangle^-1 gamma; Z = its basis times ``turn``, so
    that u = turn^-1 (the problem's u); one unit of time of the problem is ``unit_time`` of the
    user's. ``labels`` are the clients' codes.
    """

    problem: SerialProblem
    start: Array
    triangle: Array
    turn: Array
    unit_time: float
    labels: Codes


def prepare(
    y: Array,
    X: Array,
    Z: Array,
    group: Codes,
    time: Array,
    outer: Codes | None,
    reml: bool,
) -> Prepared:
    """Sort the rows; take X to an orthogonal basis and y to its least-squares residuals.

    Raises
    ------
    DataError
        If values are missing, lengths differ or a client has two rows at one time.
    SpecificationError
        If no client has repeated rows, the columns of X are dependent, or a client lies in
        several outer units.
    """
    w = belongs(outer, len(y))
    stack_columns(y, X, Z, w)
    if len(group) != len(y) or len(time) != len(y) or not np.isfinite(time).all():
        raise DataError("Client codes and times need one finite entry per score.")
    labels, codes = np.unique(group, return_inverse=True)
    order = np.lexsort((time, codes))
    codes, moments = codes[order].astype(np.int64), time[order].astype(np.float64)
    gap = _gaps(codes, moments)
    basis, triangle = _orthogonal(X[order], "X")
    random, turn = _orthogonal(Z[order], "Z")
    start = np.asarray(np.linalg.solve(triangle, basis.T @ y[order] / len(y)))
    parent = None
    if outer is not None:
        parent = parents_of(codes, np.asarray(outer)[order], len(labels))
    inside = np.unique(codes[w[order] > 0.0])
    _refuse_single_units(len(labels), None if parent is None else parent[inside])
    signed = bool(np.all(moments == np.round(moments)))
    unit_time = 1.0 if signed else float(np.median(gap[gap > 0.0]))
    problem = SerialProblem(
        rows=stack_columns(y[order] - X[order] @ start, basis, random, w[order]),
        group=codes,
        gap=gap / unit_time,
        effects=Z.shape[1],
        outer=parent,
        signed=signed,
        reml=reml,
    )
    return Prepared(problem, start, triangle, turn, unit_time, labels)


def _orthogonal(columns: Array, name: str) -> tuple[Array, Array]:
    """Return orthogonal columns of mean square one and the triangle that turns them back."""
    basis, triangle = np.linalg.qr(columns)
    size = np.linalg.norm(columns, axis=0)
    if len(columns) <= len(size) or np.any(np.abs(np.diag(triangle)) <= 1e-10 * size):
        raise SpecificationError(
            f"The columns of {name} are linearly dependent. Drop the redundant ones."
        )
    return basis * math.sqrt(len(columns)), triangle / math.sqrt(len(columns))


def _refuse_single_units(clients: int, parent: Codes | None) -> None:
    units = 2 if parent is None else len(np.unique(parent))
    if clients < 2 or units < 2:
        name = "client" if clients < 2 else "outer unit"
        raise SpecificationError(
            f"There is a single {name}, so there is no variance between them. Leave it out."
        )
    if parent is not None and units == len(parent):
        raise SpecificationError(
            "Every outer unit has a single client, so the two levels cannot be told apart. Leave "
            "one of them out."
        )


def _gaps(client: Codes, time: Array) -> Array:
    """Return the time since a client's last row; 0 for its first."""
    same = client[1:] == client[:-1]
    gap = np.concatenate([[0.0], np.where(same, np.diff(time), 0.0)])
    if np.any(gap[1:][same] <= 0.0):
        raise DataError("A client has two scores at one time. Keep one of them.")
    if not same.any():
        raise SpecificationError("Autocorrelation needs clients with repeated scores.")
    return gap


def search(problem: SerialProblem) -> Lowest:
    """Search from the best of a few values of phi: a stable level and slow drift look alike.

    With few rows the likelihood may have a peak on either side of phi = 0; both are climbed. With
    many, the search starts from where one on part of the clients ends.
    """
    few = len(problem.rows) <= FEW_ROWS
    begin = _starts(problem) if few else [_start_of_part(problem)]
    lowest = min(
        (minimise(problem, x, close=not few) for x in begin), key=lambda place: place.value
    )
    places = [*np.flatnonzero(np.equal(*np.tril_indices(problem.effects)))]
    places += [] if problem.outer is None else [-2]
    return at_limit(problem, settle_roots(problem, lowest, places))


def _starts(problem: SerialProblem) -> list[Array]:
    """Return the best start with phi below zero and the best one above it."""
    q = problem.effects
    factor = np.eye(q)[np.tril_indices(q)] * np.where(np.arange(q * (q + 1) // 2) == 0, 0.8, 0.3)
    tail = [] if problem.outer is None else [0.3]
    sides = SIGNED_STARTS if problem.signed else (UNSIGNED_STARTS,)
    found = []
    for side in sides:
        starts = [np.concatenate([share * factor, tail, [z]]) for share in (1.0, 0.3) for z in side]
        found.append(min(starts, key=lambda x: problem(x)[0]))
    return found


def _start_of_part(problem: SerialProblem) -> Array:
    """Return where the search ends on every so-manieth client, kept off the bounds."""
    every = math.ceil(len(problem.rows) / FEW_ROWS)
    kept = problem.group % every == 0
    clients = np.arange(problem.clients) % every == 0
    part = replace(
        problem,
        rows=problem.rows[kept],
        group=np.unique(problem.group[kept], return_inverse=True)[1].astype(np.int64),
        gap=problem.gap[kept],
        outer=None if problem.outer is None else problem.outer[clients],
    )
    try:
        x = min((minimise(part, x) for x in _starts(part)), key=lambda place: place.value).x
    except np.linalg.LinAlgError:  # a fixed effect of clients that are not among them
        return min(_starts(problem), key=lambda x: problem(x)[0])
    roots = np.where(np.abs(x[:-1]) < 0.05, 0.05, x[:-1])
    return np.append(roots, np.clip(x[-1], -3.0, 3.0))


def at_limit(problem: SerialProblem, lowest: Lowest) -> Lowest:
    """Judge a search that ran into a limit of phi by the other parameters: there z has no end."""
    if abs(float(lowest.x[-1])) < OUTWARD:
        return lowest
    z = np.sign(lowest.x[-1]) * FAR_OUT

    def held(x: Array) -> tuple[float, Array]:
        value, gradient = problem(np.append(x, z))
        return value, gradient[:-1]

    rest = minimise(held, lowest.x[:-1], close=True)
    if rest.value > lowest.value + 1e-6:
        return lowest
    value, gradient = problem(np.append(rest.x, z))
    return Lowest(np.append(rest.x, z), value, gradient, rest.left, lowest.steps + rest.steps)
