"""States and forecasts of every client, by a plain filter and smoother in NumPy.

Written for reading states, not for speed of fitting: a loop over sessions, all clients at once,
in portions of ``PORTION``. It takes the scores of a session jointly, where the kernel takes them
one at a time, and so is also a check of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.kalman import StateSpace

Array = NDArray[np.float64]

PORTION = 5000


def smooth(
    system: StateSpace, Y: Array, inputs: Array | None = None, parts: Array | None = None
) -> tuple[Array, Array]:
    """Return mean and standard deviation of every state given all scores of the client.

    Parameters
    ----------
    system : StateSpace
    Y : (N, T, p)
        Scores, NaN = missing.
    inputs : (N, T, q), optional
        Known inputs.
    parts : (T, r, m), optional
        Weights of r sums of states to return in place of the m states.

    Returns
    -------
    mean, sd : (N, T, m) or (N, T, r)
        In score points. States are deviations: add the session mean for a level.
    """
    weights = np.eye(system.n_states)[None] if parts is None else parts

    def portion(system: StateSpace, Y: Array, inputs: Array) -> tuple[Array, Array]:
        x, P, x_before, P_before = _filter(system, Y, inputs)
        F = _transitions(system)
        for t in range(Y.shape[1] - 2, -1, -1):
            # P_before may be singular (a variance at its bound): the pseudo-inverse is exact.
            gain = np.swapaxes(F[:, t + 1] @ P[:, t], 1, 2) @ _inverse(P_before[:, t + 1])
            x[:, t] += (gain @ (x[:, t + 1] - x_before[:, t + 1])[..., None])[..., 0]
            P[:, t] += gain @ (P[:, t + 1] - P_before[:, t + 1]) @ np.swapaxes(gain, 1, 2)
        variance = np.einsum("tri,ntij,trj->ntr", weights, P, weights, optimize=True)
        return (weights @ x[..., None])[..., 0], _sd(variance)

    return _in_portions(portion, system, Y, inputs)


def forecast(
    system: StateSpace, Y: Array, horizon: int = 1, inputs: Array | None = None
) -> tuple[Array, Array]:
    """Return mean and standard deviation of every score given those up to ``horizon`` before.

    Parameters
    ----------
    system : StateSpace
    Y : (N, T, p)
        Scores, NaN = missing.
    horizon : int
        Sessions ahead, 1 or more.
    inputs : (N, T, q), optional
        Known inputs, those of the sessions ahead included.

    Returns
    -------
    mean, sd : (N, T, p)
        Of session t given the scores up to session t - horizon; NaN for the first sessions.
    """

    def portion(system: StateSpace, Y: Array, inputs: Array) -> tuple[Array, Array]:
        x, P, _, _ = _filter(system, Y, inputs)
        F, Q, Z = _transitions(system), _innovations(system), system.loadings
        mean, sd = np.full(Y.shape, np.nan), np.full(Y.shape, np.nan)
        for t in range(horizon, Y.shape[1]):
            ahead, spread = x[:, t - horizon], P[:, t - horizon]
            for s in range(t - horizon + 1, t + 1):
                ahead = (F[:, s] @ ahead[..., None])[..., 0] + inputs[:, s] @ system.drive.T
                spread = F[:, s] @ spread @ np.swapaxes(F[:, s], 1, 2) + Q[:, s]
            mean[:, t] = system.mean[system.mean_at[t]] + ahead @ Z[t].T
            noise = system.noise[system.noise_at[t]]
            sd[:, t] = _sd(np.einsum("pi,nij,pj->np", Z[t], spread, Z[t]) + noise)
        return mean, sd

    return _in_portions(portion, system, Y, inputs)


def _in_portions(
    work: Callable[[StateSpace, Array, Array], tuple[Array, Array]],
    system: StateSpace,
    Y: Array,
    inputs: Array | None,
) -> tuple[Array, Array]:
    known = np.zeros((*Y.shape[:2], system.drive.shape[1])) if inputs is None else inputs
    cuts = [slice(start, start + PORTION) for start in range(0, len(Y), PORTION)]
    done = [work(_own(system, cut), Y[cut], known[cut]) for cut in cuts]
    first, second = zip(*done, strict=True)
    return np.concatenate(first), np.concatenate(second)


def _own(system: StateSpace, rows: slice) -> StateSpace:
    if system.phi.ndim == 3:
        return system
    return replace(system, phi=system.phi[rows], psi=system.psi[rows])


def _transitions(system: StateSpace) -> Array:
    """F_t of all sessions, (1 or N, T, m, m); the first is not used."""
    d, m = system.n_dynamic, system.n_states
    phi = system.phi if system.phi.ndim == 4 else system.phi[None]
    F = np.zeros((len(phi), system.n_sessions, m, m))
    F[..., np.arange(m), np.arange(m)] = 1.0
    F[:, :, :d, :d] = phi[:, system.phi_at]
    return F


def _innovations(system: StateSpace) -> Array:
    d, m = system.n_dynamic, system.n_states
    psi = system.psi if system.psi.ndim == 4 else system.psi[None]
    Q = np.zeros((len(psi), system.n_sessions, m, m))
    Q[:, :, :d, :d] = psi[:, system.psi_at]
    return Q


def _filter(system: StateSpace, Y: Array, inputs: Array) -> tuple[Array, Array, Array, Array]:
    """Return filtered means and covariances, and those before each session's scores."""
    n, n_sessions, p = Y.shape
    m = system.n_states
    F, Q, loadings = _transitions(system), _innovations(system), system.loadings
    x, P = np.zeros((n, n_sessions, m)), np.zeros((n, n_sessions, m, m))
    x_before, P_before = np.zeros_like(x), np.zeros_like(P)
    seen = ~np.isnan(Y)
    for t in range(n_sessions):
        x_before[:, t] = inputs[:, t] @ system.drive.T
        if t == 0:
            P_before[:, t] = system.initial_cov
        else:
            x_before[:, t] += (F[:, t] @ x[:, t - 1, :, None])[..., 0]
            P_before[:, t] = F[:, t] @ P[:, t - 1] @ np.swapaxes(F[:, t], 1, 2) + Q[:, t]
        here = seen[:, t, :, None] * loadings[t]
        residual = np.where(seen[:, t], Y[:, t] - system.mean[system.mean_at[t]], 0.0)
        residual -= (here @ x_before[:, t, :, None])[..., 0]
        V = here @ P_before[:, t] @ np.swapaxes(here, 1, 2)
        noise = system.noise[system.noise_at[t]]
        V[:, np.arange(p), np.arange(p)] += np.where(seen[:, t], noise, 1.0)
        gain = np.swapaxes(np.linalg.solve(V, here @ P_before[:, t]), 1, 2)
        x[:, t] = x_before[:, t] + (gain @ residual[..., None])[..., 0]
        P[:, t] = P_before[:, t] - gain @ here @ P_before[:, t]
    return x, P, x_before, P_before


def _inverse(P: Array) -> Array:
    return np.asarray(np.linalg.pinv(P, rcond=1e-12, hermitian=True))


def _sd(variance: Array) -> Array:
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))
