"""The likelihood of a linear Gaussian state-space model and its exact score, all clients at once.

A client's scores y[t, j] (session t, score j) depend on m states. The first d follow a VAR(1),
the rest are constant over sessions (random intercepts)::

    x_t = F_t x_{t-1} + w_t,   F_t = blockdiag(phi_t, I),   w_t ~ N(0, blockdiag(psi_t, 0))
    y[t, j] = mean[t, j] + sum_l load[j, l] x_t[load_index[j, l]] + e,   e ~ N(0, noise[j])
    x_1 ~ N(0, initial_cov)

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

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]

LANES = 64  # wide enough for long vector loops, narrow enough for small panels
LOG_2PI = math.log(2.0 * math.pi)
LOG_EVERY = 8  # one logarithm for the product of so many prediction variances
THREADS_FROM = 64  # blocks per thread below which a second thread costs more than it brings

# Without "nnan" and "ninf": an inadmissible covariance must come out as NaN, not as anything.
_FAST = {"reassoc", "nsz", "arcp", "contract", "afn"}


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
    load : (p, L)
        Its loadings.
    noise : (p,)
        Measurement error variances, squared score points.
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
    noise: Array

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
    noise: Array


@dataclass(frozen=True)
class Blocks:
    """Scores packed for the kernel: clients sorted by their last session, ``LANES`` to a block.

    Parameters
    ----------
    y, seen : (K, T, p, LANES)
        Scores with 0 where missing, and 1 where seen.
    last : (K,) int
        Sessions to run in each block.
    order : (N,) int
        Client in each used lane.
    """

    y: Array
    seen: Array
    last: Index
    order: Index

    @classmethod
    def pack(cls, Y: Array) -> Blocks:
        """Pack (N, T, p) scores, NaN = missing."""
        n, n_sessions, p = Y.shape
        seen = ~np.isnan(Y)
        at_all = seen.any(axis=2)
        last = np.where(at_all.any(axis=1), n_sessions - at_all[:, ::-1].argmax(axis=1), 0)
        order = np.argsort(last, kind="stable")
        n_blocks = -(-n // LANES)

        def lanes(values: Array) -> Array:
            padded = np.zeros((n_blocks * LANES, n_sessions, p))
            padded[:n] = values[order]
            blocked = padded.reshape(n_blocks, LANES, n_sessions, p)
            return np.ascontiguousarray(blocked.transpose(0, 2, 3, 1))

        ends = np.zeros(n_blocks * LANES, np.int64)
        ends[:n] = last[order]
        return cls(
            lanes(np.where(seen, Y, 0.0)),
            lanes(seen.astype(float)),
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
        return rows.reshape(-1, *rows.shape[2:])[self.by_client]


@njit(cache=True, fastmath=_FAST, error_model="numpy", nogil=True)
def _observe(P, x, y, seen, mean, index, load, noise, tri, v, inverse, M):  # pragma: no cover
    """Take in one score: P -= M M'/F, x += M v/F; v, 1/F and M are kept for the adjoint."""
    m = x.shape[0]
    for b in range(LANES):
        v[b] = y[b] - mean
        inverse[b] = seen[b] * noise + (1.0 - seen[b])
    for i in range(m):
        for b in range(LANES):
            M[i, b] = 0.0
    for el in range(len(index)):
        h = index[el]
        z = load[el]
        for b in range(LANES):
            v[b] -= z * x[h, b]
        for i in range(m):
            q = tri[i, h]
            for b in range(LANES):
                M[i, b] += z * P[q, b]
    for i in range(m):
        for b in range(LANES):
            M[i, b] *= seen[b]
    for el in range(len(index)):
        h = index[el]
        z = load[el]
        for b in range(LANES):
            inverse[b] += z * M[h, b]
    for b in range(LANES):
        v[b] *= seen[b]
        inverse[b] = 1.0 / inverse[b]
    K = np.empty(LANES)
    q = 0
    for i in range(m):
        for b in range(LANES):
            K[b] = M[i, b] * inverse[b]
            x[i, b] += K[b] * v[b]
        for j in range(i + 1):
            for b in range(LANES):
                P[q, b] -= K[b] * M[j, b]
            q += 1


@njit(cache=True, fastmath=_FAST, error_model="numpy", nogil=True)
def _observe_back(
    Pb, xb, seen, index, load, tri, v, inverse, M, Mb, g_mean, g_noise
):  # pragma: no cover
    """Adjoint of :func:`_observe`: from (Pb, xb) after the score to (Pb, xb) before it."""
    m = xb.shape[0]
    Fb = np.empty(LANES)
    vb = np.empty(LANES)
    for b in range(LANES):
        Fb[b] = 0.0
        vb[b] = 0.0
    for i in range(m):
        for b in range(LANES):
            Mb[i, b] = 0.0
            vb[b] += xb[i, b] * M[i, b]
        for j in range(m):
            q = tri[i, j]
            for b in range(LANES):
                Mb[i, b] += Pb[q, b] * M[j, b]
        for b in range(LANES):
            Fb[b] += Mb[i, b] * M[i, b]
            Mb[i, b] = (xb[i, b] * v[b] - 2.0 * Mb[i, b]) * inverse[b]
    for b in range(LANES):
        r = inverse[b]
        Fb[b] = seen[b] * (Fb[b] * r * r - vb[b] * v[b] * r * r - 0.5 * (r - v[b] * v[b] * r * r))
        vb[b] = seen[b] * (vb[b] - v[b]) * r
        g_mean[b] -= vb[b]
        g_noise[b] += Fb[b]
    for el in range(len(index)):
        h = index[el]
        z = load[el]
        for b in range(LANES):
            Mb[h, b] += z * Fb[b]
            xb[h, b] -= z * vb[b]
    for el in range(len(index)):
        h = index[el]
        half = 0.5 * load[el]
        for i in range(m):
            q = tri[i, h]
            for b in range(LANES):
                Pb[q, b] += half * seen[b] * Mb[i, b]
        q = tri[h, h]
        for b in range(LANES):
            Pb[q, b] += half * seen[b] * Mb[h, b]


@njit(cache=True, fastmath=_FAST, error_model="numpy", nogil=True)
def _rotate(P, A, W, tri, d, m):  # pragma: no cover
    """P -> F P F' for F = blockdiag(A, I), in place; W (d, m, LANES) keeps A P's first rows."""
    for i in range(d):
        for j in range(m):
            for b in range(LANES):
                W[i, j, b] = 0.0
            for r in range(d):
                q = tri[r, j]
                for b in range(LANES):
                    W[i, j, b] += A[i, r, b] * P[q, b]
    for i in range(d):
        for j in range(i + 1):
            q = tri[i, j]
            for b in range(LANES):
                P[q, b] = 0.0
            for r in range(d):
                for b in range(LANES):
                    P[q, b] += W[i, r, b] * A[j, r, b]
        for j in range(d, m):
            q = tri[i, j]
            for b in range(LANES):
                P[q, b] = W[i, j, b]


@njit(cache=True, fastmath=_FAST, error_model="numpy", nogil=True)
def _advance(x, A, spare, d):  # pragma: no cover
    """x -> F x for F = blockdiag(A, I), in place."""
    for i in range(d):
        for b in range(LANES):
            spare[i, b] = 0.0
        for r in range(d):
            for b in range(LANES):
                spare[i, b] += A[i, r, b] * x[r, b]
    for i in range(d):
        for b in range(LANES):
            x[i, b] = spare[i, b]


@njit(cache=True, fastmath=_FAST, error_model="numpy", nogil=True)
def _forward(y, seen, last, mean, mean_at, phi, phi_at, psi, psi_at, initial, load_index, load,
             noise, tri, loglik, P, x, W, sP, sx, sv, si, sM, keep):  # pragma: no cover  # fmt: skip
    """Filter one block; keep what the adjoint needs where ``keep``."""
    d = phi.shape[1]
    m = x.shape[0]
    product = np.empty(LANES)
    taken = 0
    for q in range(len(initial)):
        for b in range(LANES):
            P[q, b] = initial[q]
    for i in range(m):
        for b in range(LANES):
            x[i, b] = 0.0
    for b in range(LANES):
        loglik[b] = 0.0
        product[b] = 1.0
    for t in range(last):
        s = t if keep else 0
        if t > 0:
            A = phi[phi_at[t]]
            _rotate(P, A, W, tri, d, m)
            _advance(x, A, W[:, 0], d)
            Q = psi[psi_at[t]]
            for i in range(d):
                for j in range(i + 1):
                    q = tri[i, j]
                    for b in range(LANES):
                        P[q, b] += Q[i, j, b]
        for j in range(y.shape[1]):
            _observe(P, x, y[t, j], seen[t, j], mean[mean_at[t], j], load_index[j], load[j],
                     noise[j], tri, sv[s, j], si[s, j], sM[s, j])  # fmt: skip
            for b in range(LANES):
                loglik[b] -= 0.5 * (
                    seen[t, j, b] * LOG_2PI + sv[s, j, b] * sv[s, j, b] * si[s, j, b]
                )
                product[b] *= si[s, j, b]
            taken += 1
            if taken == LOG_EVERY:
                for b in range(LANES):
                    loglik[b] += 0.5 * math.log(product[b])
                    product[b] = 1.0
                taken = 0
        if keep:  # element by element: slice assignment would compile Numba's string code
            for q in range(len(initial)):
                for b in range(LANES):
                    sP[t, q, b] = P[q, b]
            for i in range(m):
                for b in range(LANES):
                    sx[t, i, b] = x[i, b]
    for b in range(LANES):
        loglik[b] += 0.5 * math.log(product[b])


@njit(cache=True, fastmath=_FAST, error_model="numpy", nogil=True)
def _backward(seen, last, mean_at, phi, phi_at, psi_at, load_index, load, tri, Pb, xb, W, Mb,
              sP, sx, sv, si, sM, g_mean, g_phi, g_psi, g_initial, g_noise):  # pragma: no cover  # fmt: skip
    """Adjoint of :func:`_forward`, adding to the derivatives."""
    d = phi.shape[1]
    m = xb.shape[0]
    At = np.empty((d, d, LANES))
    for q in range(len(Pb)):
        for b in range(LANES):
            Pb[q, b] = 0.0
    for i in range(m):
        for b in range(LANES):
            xb[i, b] = 0.0
    for t in range(last - 1, -1, -1):
        for j in range(seen.shape[1] - 1, -1, -1):
            _observe_back(Pb, xb, seen[t, j], load_index[j], load[j], tri, sv[t, j], si[t, j],
                          sM[t, j], Mb, g_mean[mean_at[t], j], g_noise[j])  # fmt: skip
        if t == 0:
            break
        A = phi[phi_at[t]]
        P = sP[t - 1]
        x = sx[t - 1]
        slot = phi_at[t]
        for i in range(d):
            for j in range(d):
                for b in range(LANES):
                    At[i, j, b] = A[j, i, b]
                    W[i, j, b] = 0.0
                for r in range(d):
                    q = tri[r, j]
                    for b in range(LANES):
                        W[i, j, b] += A[i, r, b] * P[q, b]
        for i in range(d):
            for j in range(d):
                for b in range(LANES):
                    g_phi[slot, i, j, b] += xb[i, b] * x[j, b]
                    g_psi[psi_at[t], i, j, b] += Pb[tri[i, j], b]
                for r in range(d):
                    q = tri[i, r]
                    for b in range(LANES):
                        g_phi[slot, i, j, b] += 2.0 * Pb[q, b] * W[r, j, b]
                for r in range(d, m):
                    q = tri[i, r]
                    u = tri[r, j]
                    for b in range(LANES):
                        g_phi[slot, i, j, b] += 2.0 * Pb[q, b] * P[u, b]
        _rotate(Pb, At, W, tri, d, m)
        _advance(xb, At, W[:, 0], d)
    for q in range(len(Pb)):
        for b in range(LANES):
            g_initial[q, b] += Pb[q, b]


@njit(cache=True, fastmath=_FAST, error_model="numpy", nogil=True)
def _run(y, seen, last, start, stop, mean, mean_at, phi, phi_at, psi, psi_at, initial, load_index,
         load, noise, tri, with_score, loglik, g_mean, g_phi, g_psi, g_initial, g_noise):  # pragma: no cover  # fmt: skip
    """Run blocks ``start`` to ``stop``; matrices and derivatives of length 1 are shared by all."""
    n_sessions, p = y.shape[1], y.shape[2]
    d = phi.shape[2]
    m = tri.shape[0]
    kept = n_sessions if with_score else 1
    P = np.empty((len(initial), LANES))
    x = np.empty((m, LANES))
    W = np.empty((d, m, LANES))
    Mb = np.empty((m, LANES))
    sP = np.empty((kept, len(initial), LANES))
    sx = np.empty((kept, m, LANES))
    sv = np.empty((kept, p, LANES))
    si = np.empty((kept, p, LANES))
    sM = np.empty((kept, p, m, LANES))
    for k in range(start, stop):
        own = min(k, len(phi) - 1)
        _forward(y[k], seen[k], last[k], mean, mean_at, phi[own], phi_at, psi[own], psi_at, initial,
                 load_index, load, noise, tri, loglik[k], P, x, W, sP, sx, sv, si, sM,
                 with_score)  # fmt: skip
        if with_score:
            at = min(k - start, len(g_mean) - 1)
            at_phi = min(k - start, len(g_phi) - 1)
            _backward(seen[k], last[k], mean_at, phi[own], phi_at, psi_at, load_index, load, tri,
                      P, x, W, Mb, sP, sx, sv, si, sM, g_mean[at], g_phi[at_phi], g_psi[at_phi],
                      g_initial[at], g_noise[at])  # fmt: skip


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
    return np.ascontiguousarray(np.broadcast_to(matrices[..., None], (1, *matrices.shape, LANES)))


def _chunks(n_blocks: int, threads: int) -> list[tuple[int, int]]:
    pieces = max(1, min(threads, n_blocks // THREADS_FROM))
    edges = np.linspace(0, n_blocks, pieces + 1).astype(int)
    return [(int(a), int(b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]


def _evaluate(
    system: StateSpace, blocks: Blocks, score: str, threads: int
) -> tuple[Array, list[tuple[Array, ...]]]:
    """Log-likelihoods (K, LANES) and, per chunk, the raw derivatives with their lane axis."""
    phi, psi = _lanes(system.phi, blocks), _lanes(system.psi, blocks)
    tri = _packed_index(system.n_states)
    packed = system.initial_cov[np.tril_indices(system.n_states)]
    n_blocks = len(blocks.last)
    loglik = np.empty((n_blocks, LANES))

    def run(chunk: tuple[int, int]) -> tuple[Array, ...]:
        start, stop = chunk
        outer = stop - start if score == "client" else 1
        outer_phi = outer if system.phi.ndim == 3 else stop - start
        raw = tuple(
            np.zeros((count if score != "none" else 1, *shape, LANES))
            for count, shape in (
                (outer, system.mean.shape),
                (outer_phi, phi.shape[1:-1]),
                (outer_phi, psi.shape[1:-1]),
                (outer, packed.shape),
                (outer, system.noise.shape),
            )
        )
        _run(blocks.y, blocks.seen, blocks.last, start, stop, system.mean, system.mean_at, phi,
             system.phi_at, psi, system.psi_at, packed, system.load_index, system.load,
             system.noise, tri, score != "none", loglik, *raw)  # fmt: skip
        return raw

    chunks = _chunks(n_blocks, threads)
    if len(chunks) == 1:
        return loglik, [run(chunks[0])]
    with ThreadPoolExecutor(len(chunks)) as pool:
        return loglik, list(pool.map(run, chunks))


def _unpack(packed: Array, m: int) -> Array:
    """Packed lower triangles (..., m(m+1)/2) as symmetric matrices (..., m, m)."""
    return packed[..., _packed_index(m)]


def loglik_by_client(system: StateSpace, blocks: Blocks, threads: int = 1) -> Array:
    """Return every client's log-likelihood, (N,); a client without a score contributes 0."""
    loglik, _ = _evaluate(system, blocks, "none", threads)
    return blocks.gather(loglik)


def value_and_score(system: StateSpace, blocks: Blocks, threads: int = 1) -> tuple[float, Score]:
    """Return the log-likelihood and its derivatives by the system matrices.

    Parameters
    ----------
    system : StateSpace
    blocks : Blocks
        The scores, packed once per data set.
    threads : int
        Most threads to use; small panels run on one.

    Returns
    -------
    float
        Sum over clients; NaN or -inf where the covariances are not admissible.
    Score
        Per-client derivatives for matrices that each client has of its own, sums otherwise.
    """
    loglik, pieces = _evaluate(system, blocks, "sum", threads)
    mean, phi, psi, initial, noise = (
        [part.sum(axis=-1).sum(axis=0) for part in parts] for parts in zip(*pieces, strict=True)
    )
    own = system.phi.ndim == 4
    g_phi = _own(pieces, 1, blocks) if own else sum(phi)
    g_psi = _own(pieces, 2, blocks) if own else sum(psi)
    g_initial = _unpack(np.asarray(sum(initial)), system.n_states)
    return float(loglik.sum()), Score(
        np.asarray(sum(mean)),
        np.asarray(g_phi),
        np.asarray(g_psi),
        g_initial,
        np.asarray(sum(noise)),
    )


def _own(pieces: list[tuple[Array, ...]], which: int, blocks: Blocks) -> Array:
    return blocks.gather(np.concatenate([piece[which] for piece in pieces]))


def score_by_client(system: StateSpace, blocks: Blocks, threads: int = 1) -> Score:
    """Return the derivatives of every client's log-likelihood, each with a leading client axis."""
    _, pieces = _evaluate(system, blocks, "client", threads)
    mean, phi, psi, initial, noise = (_own(pieces, which, blocks) for which in range(5))
    return Score(mean, phi, psi, _unpack(initial, system.n_states), noise)
