"""The compiled recursion: filter forward, adjoint backward, one block of clients at a time.

Every working array ends in an axis of ``LANES`` clients, so that each innermost loop is one the
compiler turns into vector instructions. Symmetric matrices are kept as packed lower triangles;
``tri[i, j]`` is the place of entry (i, j). The equations stand in :mod:`alliancedyn.engine.kalman`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]

LANES = 64  # wide enough for long vector loops, narrow enough for small panels
LOG_2PI = math.log(2.0 * math.pi)
LOG_EVERY = 8  # one logarithm for the product of so many prediction variances

# Without "nnan" and "ninf": an inadmissible covariance must come out as NaN, not as anything.
_FAST = {"reassoc", "nsz", "arcp", "contract", "afn"}
compiled = njit(cache=True, fastmath=_FAST, error_model="numpy", nogil=True)


class System(NamedTuple):
    """System matrices laid out for the kernel; phi and psi end in the axis of lanes."""

    mean: Array  # (S, p)
    mean_at: Index  # (T,)
    phi: Array  # (1 or K, S, d, d, LANES)
    phi_at: Index  # (T,)
    psi: Array  # (1 or K, S, d, d, LANES)
    psi_at: Index  # (T,)
    initial: Array  # (m (m + 1) / 2,) packed
    load_index: Index  # (p, L)
    load: Array  # (S, p, L)
    load_at: Index  # (T,)
    noise: Array  # (S, p)
    noise_at: Index  # (T,)
    drive: Array  # (m, q)
    tri: Index  # (m, m)


class Tape(NamedTuple):
    """What the adjoint needs of the forward pass: filtered P and x, and each update's parts."""

    P: Array  # (T, packed, LANES)
    x: Array  # (T, m, LANES)
    v: Array  # (T, p, LANES)
    inverse: Array  # (T, p, LANES), 1 / F
    M: Array  # (T, p, m, LANES)


class Slopes(NamedTuple):
    """Derivatives of the log-likelihood; the first axis has length 1 where blocks share it."""

    mean: Array  # (., S, p, LANES)
    phi: Array  # (., S, d, d, LANES)
    psi: Array  # (., S, d, d, LANES)
    initial: Array  # (., packed, LANES)
    load: Array  # (., S, p, L, LANES); left at zero unless asked for
    noise: Array  # (., S, p, LANES)
    drive: Array  # (., m, q, LANES)


@compiled
def _observe(
    P: Array, x: Array, y: Array, seen: Array, mean: float, index: Index, load: Array, noise: float,
    tri: Index, v: Array, inverse: Array, M: Array,
) -> None:  # fmt: skip
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


@compiled
def _observe_back(
    Pb: Array, xb: Array, seen: Array, index: Index, load: Array, tri: Index, v: Array,
    inverse: Array, M: Array, Mb: Array, vb: Array, Fb: Array, g_mean: Array, g_noise: Array,
) -> None:  # fmt: skip
    """Adjoint of :func:`_observe`: from (Pb, xb) after the score to (Pb, xb) before it.

    Leaves the derivatives by v, F and M in vb, Fb and Mb.
    """
    m = xb.shape[0]
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


@compiled
def _load_back(
    P: Array, x: Array, index: Index, tri: Index, v: Array, inverse: Array, M: Array, Mb: Array,
    vb: Array, Fb: Array, g_load: Array,
) -> None:  # fmt: skip
    """Take (P, x) back before the score and add its derivatives by its loadings.

    With v = y - z'x, M = P z and F = z'M: P Mb + Fb M - vb x, at the states it loads on.
    """
    m = x.shape[0]
    q = 0
    for i in range(m):
        for b in range(LANES):
            x[i, b] -= M[i, b] * inverse[b] * v[b]
        for j in range(i + 1):
            for b in range(LANES):
                P[q, b] += M[i, b] * inverse[b] * M[j, b]
            q += 1
    for el in range(len(index)):
        h = index[el]
        for b in range(LANES):
            g_load[el, b] += Fb[b] * M[h, b] - vb[b] * x[h, b]
        for i in range(m):
            q = tri[i, h]
            for b in range(LANES):
                g_load[el, b] += P[q, b] * Mb[i, b]


@compiled
def _push(x: Array, drive: Array, u: Array) -> None:
    """Add what known inputs do to the states, x += drive u."""
    for i in range(drive.shape[0]):
        for c in range(drive.shape[1]):
            z = drive[i, c]
            for b in range(LANES):
                x[i, b] += z * u[c, b]


@compiled
def _multiply(A: Array, P: Array, W: Array, tri: Index, d: int, m: int) -> None:
    """Write A times the first d rows of P into W (d, m, LANES)."""
    for i in range(d):
        for j in range(m):
            for b in range(LANES):
                W[i, j, b] = 0.0
            for r in range(d):
                q = tri[r, j]
                for b in range(LANES):
                    W[i, j, b] += A[i, r, b] * P[q, b]


@compiled
def _rotate(P: Array, A: Array, W: Array, tri: Index, d: int, m: int) -> None:
    """Move the covariance on, P -> F P F' for F = blockdiag(A, I), in place; W is (d, m, LANES)."""
    _multiply(A, P, W, tri, d, m)
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


@compiled
def _advance(x: Array, A: Array, spare: Array, d: int) -> None:
    """Move the states on, x -> F x for F = blockdiag(A, I), in place."""
    for i in range(d):
        for b in range(LANES):
            spare[i, b] = 0.0
        for r in range(d):
            for b in range(LANES):
                spare[i, b] += A[i, r, b] * x[r, b]
    for i in range(d):
        for b in range(LANES):
            x[i, b] = spare[i, b]


@compiled
def _forward(
    y: Array, seen: Array, u: Array, last: int, system: System, phi: Array, psi: Array,
    loglik: Array, P: Array, x: Array, W: Array, tape: Tape, keep: bool,
) -> None:  # fmt: skip
    """Filter one block; keep what the adjoint needs where ``keep``."""
    d = phi.shape[1]
    m = x.shape[0]
    tri = system.tri
    product = np.empty(LANES)
    least = np.empty(LANES)
    taken = 0
    for q in range(len(system.initial)):
        for b in range(LANES):
            P[q, b] = system.initial[q]
    for i in range(m):
        for b in range(LANES):
            x[i, b] = 0.0
    for b in range(LANES):
        loglik[b] = 0.0
        product[b] = 1.0
        least[b] = 1.0
    for t in range(last):
        s = t if keep else 0
        if t > 0:
            A = phi[system.phi_at[t]]
            _rotate(P, A, W, tri, d, m)
            _advance(x, A, W[:, 0], d)
            Q = psi[system.psi_at[t]]
            for i in range(d):
                for j in range(i + 1):
                    q = tri[i, j]
                    for b in range(LANES):
                        P[q, b] += Q[i, j, b]
        _push(x, system.drive, u[t])
        for j in range(y.shape[1]):
            v = tape.v[s, j]
            inverse = tape.inverse[s, j]
            _observe(P, x, y[t, j], seen[t, j], system.mean[system.mean_at[t], j],
                     system.load_index[j], system.load[system.load_at[t], j],
                     system.noise[system.noise_at[t], j], tri, v, inverse, tape.M[s, j]
                     )  # fmt: skip
            for b in range(LANES):
                loglik[b] -= 0.5 * (seen[t, j, b] * LOG_2PI + v[b] * v[b] * inverse[b])
                product[b] *= inverse[b]
                least[b] = inverse[b] if inverse[b] < least[b] else least[b]
            taken += 1
            if taken == LOG_EVERY:
                for b in range(LANES):
                    loglik[b] += 0.5 * math.log(product[b])
                    product[b] = 1.0
                taken = 0
        if keep:  # element by element: slice assignment would compile Numba's string code
            for q in range(len(system.initial)):
                for b in range(LANES):
                    tape.P[t, q, b] = P[q, b]
            for i in range(m):
                for b in range(LANES):
                    tape.x[t, i, b] = x[i, b]
    for b in range(LANES):
        loglik[b] += 0.5 * math.log(product[b])
        if least[b] < 0.0:  # an even number of negative variances has a product like any other
            loglik[b] = math.nan


@compiled
def _transition_back(
    Pb: Array, xb: Array, P: Array, x: Array, A: Array, W: Array, tri: Index, g_phi: Array,
    g_psi: Array,
) -> None:  # fmt: skip
    """Add a transition's derivatives: 2 Pb F P + xb x' by phi, Pb by psi."""
    d = A.shape[0]
    m = x.shape[0]
    _multiply(A, P, W, tri, d, d)
    for i in range(d):
        for j in range(d):
            u = tri[i, j]
            for b in range(LANES):
                g_phi[i, j, b] += xb[i, b] * x[j, b]
                g_psi[i, j, b] += Pb[u, b]
            for r in range(d):
                q = tri[i, r]
                for b in range(LANES):
                    g_phi[i, j, b] += 2.0 * Pb[q, b] * W[r, j, b]
            for r in range(d, m):
                q = tri[i, r]
                u = tri[r, j]
                for b in range(LANES):
                    g_phi[i, j, b] += 2.0 * Pb[q, b] * P[u, b]


@compiled
def _backward(
    seen: Array, u: Array, last: int, system: System, phi: Array, Pb: Array, xb: Array, W: Array,
    Mb: Array, At: Array, tape: Tape, by_load: bool, g_mean: Array, g_phi: Array, g_psi: Array,
    g_initial: Array, g_load: Array, g_noise: Array, g_drive: Array,
) -> None:  # fmt: skip
    """Run :func:`_forward` backward, adding to the derivatives; uses up the tape."""
    d = phi.shape[1]
    vb = np.empty(LANES)
    Fb = np.empty(LANES)
    m = xb.shape[0]
    tri = system.tri
    for q in range(len(Pb)):
        for b in range(LANES):
            Pb[q, b] = 0.0
    for i in range(m):
        for b in range(LANES):
            xb[i, b] = 0.0
    for t in range(last - 1, -1, -1):
        for j in range(seen.shape[1] - 1, -1, -1):
            _observe_back(Pb, xb, seen[t, j], system.load_index[j],
                          system.load[system.load_at[t], j], tri, tape.v[t, j],
                          tape.inverse[t, j], tape.M[t, j], Mb, vb, Fb,
                          g_mean[system.mean_at[t], j], g_noise[system.noise_at[t], j]
                          )  # fmt: skip
            if by_load:  # the filtered P and x of this session are not needed any more
                _load_back(tape.P[t], tape.x[t], system.load_index[j], tri, tape.v[t, j],
                           tape.inverse[t, j], tape.M[t, j], Mb, vb, Fb,
                           g_load[system.load_at[t], j])  # fmt: skip
        for i in range(system.drive.shape[0]):
            for c in range(system.drive.shape[1]):
                for b in range(LANES):
                    g_drive[i, c, b] += xb[i, b] * u[t, c, b]
        if t == 0:
            break
        slot = system.phi_at[t]
        A = phi[slot]
        _transition_back(Pb, xb, tape.P[t - 1], tape.x[t - 1], A, W, tri, g_phi[slot],
                         g_psi[system.psi_at[t]])  # fmt: skip
        for i in range(d):
            for j in range(d):
                for b in range(LANES):
                    At[i, j, b] = A[j, i, b]
        _rotate(Pb, At, W, tri, d, m)
        _advance(xb, At, W[:, 0], d)
    for q in range(len(Pb)):
        for b in range(LANES):
            g_initial[q, b] += Pb[q, b]


@compiled
def run(
    y: Array, seen: Array, u: Array, last: Index, start: int, stop: int, system: System,
    with_score: bool, by_load: bool, loglik: Array, slopes: Slopes,
) -> None:  # fmt: skip
    """Run blocks ``start`` to ``stop``, writing ``loglik`` (K, LANES) and adding to ``slopes``."""
    p = y.shape[2]
    d = system.phi.shape[2]
    m = len(system.tri)
    kept = y.shape[1] if with_score else 1
    P = np.empty((len(system.initial), LANES))
    x = np.empty((m, LANES))
    W = np.empty((d, m, LANES))
    At = np.empty((d, d, LANES))
    Mb = np.empty((m, LANES))
    tape = Tape(
        np.empty((kept, len(system.initial), LANES)),
        np.empty((kept, m, LANES)),
        np.empty((kept, p, LANES)),
        np.empty((kept, p, LANES)),
        np.empty((kept, p, m, LANES)),
    )
    for k in range(start, stop):
        own = min(k, len(system.phi) - 1)
        phi = system.phi[own]
        _forward(y[k], seen[k], u[k], last[k], system, phi, system.psi[own], loglik[k], P, x, W,
                 tape, with_score)  # fmt: skip
        if with_score:
            at = min(k - start, len(slopes.mean) - 1)
            at_phi = min(k - start, len(slopes.phi) - 1)
            _backward(seen[k], u[k], last[k], system, phi, P, x, W, Mb, At, tape, by_load,
                      slopes.mean[at], slopes.phi[at_phi], slopes.psi[at_phi],
                      slopes.initial[at], slopes.load[at], slopes.noise[at], slopes.drive[at]
                      )  # fmt: skip
