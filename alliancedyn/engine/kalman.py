"""The likelihood of a linear Gaussian state-space model and its exact score, all clients at once.

A client's scores y[t, j] (session t, score j) depend on m states. The first d follow a VAR(1),
the rest are constant over sessions (random intercepts and slopes). Known inputs u_t push them::

    x_t = F_t x_{t-1} + drive u_t + w_t,   F_t = blockdiag(phi_t, I),   w_t ~ N(0, psi_t)
    y[t, j] = mean[t, j] + sum_l load[t, j, l] x_t[load_index[j, l]] + e,   e ~ N(0, noise[t, j])
    x_1 ~ N(drive u_1, initial_cov)

Scores are taken one at a time (the univariate treatment), so a missing score is simply not
filtered. Clients travel in blocks of ``LANES``, the innermost axis of every array, so that the
compiler vectorizes over clients. The score is the hand-written adjoint of the recursion; one
evaluation with the score costs about two and a half likelihoods and never grows with the
number of parameters.

References
----------
Koopman, S. J., & Durbin, J. (2000). Fast filtering and smoothing for multivariate state space
models. Journal of Time Series Analysis, 21, 281-296.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.kernel import LANES, Slopes, System, run

Array = NDArray[np.float64]
Index = NDArray[np.int64]

THREADS_FROM = 64  # blocks per thread below which a second thread costs more than it brings


@dataclass(frozen=True)
class StateSpace:
    """System matrices; session-specific ones are stored once per distinct value ("slot").

    Parameters
    ----------
    phi : (S, d, d) or (N, S, d, d)
        Lagged effects, row = outcome; a leading client axis gives every client its own.
    phi_at : (T,) int
        Slot used into session t; the entry of the first session is not used.
    psi : (S, d, d) or (N, S, d, d)
        Innovation covariances, squared score points.
    psi_at : (T,) int
        Slot used into session t.
    mean : (S, p)
        Means, score points.
    mean_at : (T,) int
        Slot used at session t.
    initial_cov : (m, m)
        Covariance of all states at the first session, squared score points.
    load_index : (p, L) int
        States on which each score loads.
    load : (S, p, L)
        Its loadings.
    load_at : (T,) int
        Slot used at session t.
    noise : (S, p)
        Measurement error variances, squared score points.
    noise_at : (T,) int
        Slot used at session t.
    drive : (m, q)
        What one unit of each known input does to each state, at its session.
    """

    phi: Array
    phi_at: Index
    psi: Array
    psi_at: Index
    mean: Array
    mean_at: Index
    initial_cov: Array
    load_index: Index
    load: Array
    load_at: Index
    noise: Array
    noise_at: Index
    drive: Array

    @property
    def n_dynamic(self) -> int:
        """Number d of states that follow the VAR."""
        return int(self.phi.shape[-1])

    @property
    def n_states(self) -> int:
        """Number m of states."""
        return len(self.initial_cov)

    @property
    def n_sessions(self) -> int:
        """Number T of sessions."""
        return len(self.mean_at)

    @property
    def loadings(self) -> Array:
        """Loadings of the scores on all states at every session, (T, p, m)."""
        p = len(self.load_index)
        dense = np.zeros((len(self.load), p, self.n_states))
        for column in range(self.load.shape[-1]):
            dense[:, np.arange(p), self.load_index[:, column]] += self.load[:, :, column]
        return np.asarray(dense[self.load_at])


@dataclass(frozen=True)
class Score:
    """Derivatives of the log-likelihood by the system matrices, in their shapes.

    A derivative by a covariance matrix is symmetric and meant entry by entry:
    d loglik = sum_ij G_ij dSigma_ij. With a leading client axis they are per client.
    """

    mean: Array
    phi: Array
    psi: Array
    initial_cov: Array
    load: Array
    noise: Array
    drive: Array


@dataclass(frozen=True)
class Blocks:
    """Scores packed for the kernel: clients sorted by their last session, ``LANES`` to a block.

    Parameters
    ----------
    y, seen : (K, T, p, LANES)
        Scores with 0 where missing, and 1 where seen.
    inputs : (K, T, q, LANES)
        Known inputs.
    last : (K,) int
        Sessions to run in each block.
    order : (N,) int
        Client in each used lane.
    """

    y: Array
    seen: Array
    inputs: Array
    last: Index
    order: Index

    @classmethod
    def pack(cls, Y: Array, inputs: Array | None = None) -> Blocks:
        """Pack (N, T, p) scores, NaN = missing, and (N, T, q) inputs."""
        n, n_sessions, _ = Y.shape
        seen = ~np.isnan(Y)
        at_all: NDArray[np.bool_] = np.any(seen, axis=2)
        last = np.where(at_all.any(axis=1), n_sessions - at_all[:, ::-1].argmax(axis=1), 0)
        order = np.argsort(last, kind="stable")
        n_blocks = -(-n // LANES)

        def lanes(values: Array) -> Array:
            padded = np.zeros((n_blocks * LANES, *values.shape[1:]))
            padded[:n] = values[order]
            blocked = padded.reshape(n_blocks, LANES, *values.shape[1:])
            return np.ascontiguousarray(blocked.transpose(0, 2, 3, 1))

        ends = np.zeros(n_blocks * LANES, np.int64)
        ends[:n] = last[order]
        return cls(
            lanes(np.where(seen, Y, 0.0)),
            lanes(seen.astype(float)),
            lanes(np.zeros((n, n_sessions, 0)) if inputs is None else inputs),
            ends.reshape(n_blocks, LANES).max(axis=1),
            order,
        )

    @property
    def n_clients(self) -> int:
        """Number of clients."""
        return len(self.order)

    @cached_property
    def by_client(self) -> Index:
        """Lane of each client, in the order of the scores that were packed."""
        lane = np.empty(self.n_clients, np.int64)
        lane[self.order] = np.arange(self.n_clients)
        return lane

    def spread(self, values: Array) -> Array:
        """Lay (N, ...) per-client matrices out as (K, ..., LANES); unused lanes hold zeros."""
        n_blocks = len(self.last)
        padded = np.zeros((n_blocks * LANES, *values.shape[1:]))
        padded[: self.n_clients] = values[self.order]
        blocked = padded.reshape(n_blocks, LANES, *values.shape[1:])
        return np.ascontiguousarray(np.moveaxis(blocked, 1, -1))

    def gather(self, values: Array) -> Array:
        """Undo :meth:`spread`: (K, ..., LANES) to (N, ...)."""
        rows = np.moveaxis(values, -1, 1)
        return rows.reshape(len(rows) * LANES, *rows.shape[2:])[self.by_client]


@lru_cache
def _lower_triangle(m: int) -> tuple[NDArray[np.intp], ...]:
    return np.tril_indices(m)


@lru_cache
def _packed_index(m: int) -> Index:
    """Place of entry (i, j) of a symmetric (m, m) matrix in its packed lower triangle."""
    i, j = np.indices((m, m))
    low, high = np.minimum(i, j), np.maximum(i, j)
    return np.asarray(high * (high + 1) // 2 + low, np.int64)


def _lanes(matrices: Array, blocks: Blocks) -> Array:
    """(S, d, d) shared or (N, S, d, d) own matrices as (1 or K, S, d, d, LANES)."""
    if matrices.ndim == 4:
        return blocks.spread(matrices)
    return np.repeat(matrices.ravel(), LANES).reshape(1, *matrices.shape, LANES)


def _chunks(n_blocks: int, threads: int) -> list[tuple[int, int]]:
    pieces = min(threads, n_blocks // THREADS_FROM)
    if pieces < 2:
        return [(0, n_blocks)]
    edges = np.linspace(0, n_blocks, pieces + 1).astype(int)
    return [(int(a), int(b)) for a, b in pairwise(edges)]


def _layout(system: StateSpace, blocks: Blocks) -> System:
    """Lay the matrices out for the kernel."""
    return System(
        system.mean,
        system.mean_at,
        _lanes(system.phi, blocks),
        system.phi_at,
        _lanes(system.psi, blocks),
        system.psi_at,
        system.initial_cov[_lower_triangle(system.n_states)],
        system.load_index,
        system.load,
        system.load_at,
        system.noise,
        system.noise_at,
        system.drive,
        _packed_index(system.n_states),
    )


def _zeros(system: System, outer: int, own: int) -> Slopes:
    """Make room for derivatives: ``outer`` sets, of phi and psi ``own``."""

    def room(count: int, *shape: int) -> Array:
        return np.zeros((count, *shape, LANES))

    return Slopes(
        room(outer, *system.mean.shape),
        room(own, *system.phi.shape[1:-1]),
        room(own, *system.psi.shape[1:-1]),
        room(outer, *system.initial.shape),
        room(outer, *system.load.shape),
        room(outer, *system.noise.shape),
        room(outer, *system.drive.shape),
    )


def _evaluate(
    system: StateSpace, blocks: Blocks, score: str, threads: int, by_load: bool = False
) -> tuple[Array, list[Slopes]]:
    """Log-likelihoods (K, LANES) and, per chunk, the raw derivatives with their lane axis."""
    if system.drive.shape[1] != blocks.inputs.shape[2]:  # the kernel does not check
        raise ValueError(f"{blocks.inputs.shape[2]} inputs for {system.drive.shape[1]} effects")
    matrices = _layout(system, blocks)
    n_blocks = len(blocks.last)
    loglik = np.empty((n_blocks, LANES))

    def work(chunk: tuple[int, int]) -> Slopes:
        start, stop = chunk
        outer = stop - start if score == "client" else 1
        slopes = _zeros(matrices, outer, stop - start if len(matrices.phi) > 1 else outer)
        run(blocks.y, blocks.seen, blocks.inputs, blocks.last, start, stop, matrices,
            score != "none", by_load, loglik, slopes)  # fmt: skip
        return slopes

    chunks = _chunks(n_blocks, threads)
    if len(chunks) == 1:
        return loglik, [work(chunks[0])]
    with ThreadPoolExecutor(len(chunks)) as pool:
        return loglik, list(pool.map(work, chunks))


def _unpack(packed: Array, m: int) -> Array:
    """Packed lower triangles (..., m(m+1)/2) as symmetric matrices (..., m, m)."""
    return packed[..., _packed_index(m)]


def loglik_by_client(system: StateSpace, blocks: Blocks, threads: int = 1) -> Array:
    """Return every client's log-likelihood, (N,); a client without a score contributes 0."""
    loglik, _ = _evaluate(system, blocks, "none", threads)
    return blocks.gather(loglik)


def value_and_score(
    system: StateSpace, blocks: Blocks, threads: int = 1, by_load: bool = True
) -> tuple[float, Score]:
    """Return the log-likelihood and its derivatives by the system matrices.

    Parameters
    ----------
    system : StateSpace
    blocks : Blocks
        The scores, packed once per data set.
    threads : int
        Most threads to use; small panels run on one.
    by_load : bool
        Whether derivatives by the loadings are wanted; zero otherwise.

    Returns
    -------
    float
        Sum over clients; NaN or -inf where the covariances are not admissible.
    Score
        Per-client derivatives for matrices that each client has of its own, sums otherwise.
    """
    loglik, pieces = _evaluate(system, blocks, "sum", threads, by_load)

    def summed(which: str) -> Array:
        return np.asarray(sum(getattr(one, which).sum(axis=-1).sum(axis=0) for one in pieces))

    own = system.phi.ndim == 4
    score = Score(
        mean=summed("mean"),
        phi=_own(pieces, "phi", blocks) if own else summed("phi"),
        psi=_own(pieces, "psi", blocks) if own else summed("psi"),
        initial_cov=_unpack(summed("initial"), system.n_states),
        load=summed("load"),
        noise=summed("noise"),
        drive=summed("drive"),
    )
    return float(loglik.sum()), score


def _own(pieces: list[Slopes], which: str, blocks: Blocks) -> Array:
    """Put the chunks' derivatives together, one set for every client, (N, ...)."""
    return blocks.gather(np.concatenate([getattr(piece, which) for piece in pieces]))


def score_by_client(
    system: StateSpace, blocks: Blocks, threads: int = 1, by_load: bool = True
) -> Score:
    """Return the derivatives of every client's log-likelihood, each with a leading client axis."""
    _, pieces = _evaluate(system, blocks, "client", threads, by_load)
    by = {which: _own(pieces, which, blocks) for which in Slopes._fields}
    by["initial_cov"] = _unpack(by.pop("initial"), system.n_states)
    return Score(**by)
