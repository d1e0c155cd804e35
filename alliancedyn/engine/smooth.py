"""States, forecasts and draws of every client, by a plain filter and smoother in NumPy.

Written for reading states, not for speed of fitting: a loop over sessions, all clients at once,
in portions. Scores are taken one at a time, so that a missing one is simply not taken, and one
that is already certain (a variance at its bound) neither; no covariance of states is ever
inverted. How much is learned from a score depends on which scores were seen and not on their
values, so all draws share one set of gains.

References
----------
Durbin, J., & Koopman, S. J. (2002). A simple and efficient simulation smoother for state space
time series analysis. Biometrika, 89, 603-615.
Koopman, S. J., & Durbin, J. (2000). Fast filtering and smoothing for multivariate state space
models. Journal of Time Series Analysis, 21, 281-296.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.kalman import StateSpace

Array = NDArray[np.float64]

PORTION = 5000  # clients at a time
NUMBERS = 4_000_000  # numbers in an array of draws at a time
CERTAIN = 1e-12  # share of a score's variance below which nothing is left to learn from it


@dataclass(frozen=True)
class _Gains:
    """What one session's scores teach, for n clients.

    Parameters
    ----------
    before, after : (n, m, m)
        Covariance of the states given the scores of earlier sessions, and of this one too.
    gain : (n, p, m)
        Change of the states by one point of surprise in each score; 0 where it is not taken.
    precision : (n, p)
        Inverse variance of that surprise; 0 where it is not taken.
    """

    before: Array
    after: Array
    gain: Array
    precision: Array


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
    weights = _every_state(system) if parts is None else parts

    def portion(system: StateSpace, Y: Array, inputs: Array) -> tuple[Array, Array]:
        gains = list(_gains(system, ~np.isnan(Y)))
        x = _smoothed_means(system, gains, Y[None], inputs)[0]
        sd = np.empty((*Y.shape[:2], weights.shape[1]))
        for t, P in enumerate(_smoothed_covariances(system, gains)):
            sd[:, t] = _sd(np.einsum("ri,nij,rj->nr", weights[t], P, weights[t], optimize=True))
        return np.einsum("tri,nti->ntr", weights, x), sd

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
        gains = list(_gains(system, ~np.isnan(Y)))
        _, x, _ = _filtered_means(system, gains, Y[None], inputs)
        F, Q, Z = _transitions(system), _innovations(system), system.loadings
        mean, sd = np.full(Y.shape, np.nan), np.full(Y.shape, np.nan)
        for t in range(horizon, Y.shape[1]):
            ahead, spread = x[0, :, t - horizon], gains[t - horizon].after
            for s in range(t - horizon + 1, t + 1):
                ahead = _carry(F[:, s], ahead) + inputs[:, s] @ system.drive.T
                spread = F[:, s] @ spread @ np.swapaxes(F[:, s], 1, 2) + Q[:, s]
            mean[:, t] = system.mean[system.mean_at[t]] + ahead @ Z[t].T
            noise = system.noise[system.noise_at[t]]
            sd[:, t] = _sd(np.einsum("pi,nij,pj->np", Z[t], spread, Z[t], optimize=True) + noise)
        return mean, sd

    return _in_portions(portion, system, Y, inputs)


def session_logliks(system: StateSpace, Y: Array, inputs: Array | None = None) -> Array:
    """Return the log density of every session's scores given those before it, (N, T).

    Parameters
    ----------
    system : StateSpace
    Y : (N, T, p)
        Scores, NaN = missing; a session without a score has 0.
    inputs : (N, T, q), optional
        Known inputs.
    """
    known, out = _known(system, Y, inputs), np.empty(Y.shape[:2])
    for cut in _cuts(len(Y), PORTION):
        own = _own(system, cut)
        gains = list(_gains(own, ~np.isnan(Y[cut])))
        *_, surprise = _filtered_means(own, gains, Y[cut][None], known[cut])
        precision = np.stack([step.precision for step in gains], axis=1)
        taken = precision > 0.0
        size = np.log(2.0 * np.pi) - np.log(precision, where=taken, out=np.zeros_like(precision))
        logs = np.where(taken, -0.5 * (size + surprise[0] ** 2 * precision), 0.0)
        out[cut] = logs.sum(axis=2)
    return out


def within_between(system: StateSpace, reference: Sequence[int]) -> Array:
    """Return the weights (T, 2 k, m) that make within and between parts of the states.

    ``reference`` names, for each series, the item in whose units it is measured.
    """
    loads = system.loadings[:, list(reference)]
    within, between = loads.copy(), loads.copy()
    d = system.n_dynamic
    within[..., d:] = 0.0
    between[..., :d] = 0.0
    return np.concatenate([within, between], axis=1)


def draw(
    system: StateSpace,
    Y: Array,
    draws: int,
    rng: np.random.Generator,
    inputs: Array | None = None,
    parts: Array | None = None,
) -> Array:
    """Draw the missing scores, or the states, from their joint distribution given the seen ones.

    A client is simulated from the model, x+ and y+; then x+ + E(x | y) - E(x+ | y+) is a draw of
    the states given y, because what scores leave open does not depend on their values. The same
    holds of scores.

    Parameters
    ----------
    system : StateSpace
        Covariances may be singular.
    Y : (N, T, p)
        Scores, NaN = missing.
    draws : int
        Number D of draws.
    rng : Generator
    inputs : (N, T, q), optional
        Known inputs.
    parts : (T, r, m), optional
        Weights of r sums of states to draw in place of scores.

    Returns
    -------
    (D, N, T, p) or (D, N, T, r)
        Scores, seen ones as they are; or sums of states. Sessions, scores and states of one
        client in one draw belong together; clients are independent.
    """
    known = _known(system, Y, inputs)
    size = max(1, NUMBERS // (draws * Y.shape[1] * max(system.n_states, Y.shape[2])))
    out = np.empty((draws, *Y.shape[:2], Y.shape[2] if parts is None else parts.shape[1]))
    for cut in _cuts(len(Y), size):
        own, count = _own(system, cut), cut.stop - cut.start
        seen = ~np.isnan(Y[cut])
        gains = list(_gains(own, seen))
        if parts is None:
            y = _simulated_scores(own, draws, count, rng)
            x = _smoothed_means(own, gains, Y[cut] - y, known[cut])
            level = own.mean[own.mean_at]
            out[:, cut] = np.where(seen, Y[cut], level + _of_states(own, x) + y)
        else:
            x, y = _simulated_states(own, draws, count, rng)
            x += _smoothed_means(own, gains, Y[cut] - y, known[cut])
            out[:, cut] = np.einsum("tri,dnti->dntr", parts, x, optimize=True)
    return out


def _every_state(system: StateSpace) -> Array:
    m = system.n_states
    return np.broadcast_to(np.eye(m), (system.n_sessions, m, m))


def _known(system: StateSpace, Y: Array, inputs: Array | None) -> Array:
    return np.zeros((*Y.shape[:2], system.drive.shape[1])) if inputs is None else inputs


def _cuts(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _in_portions(
    work: Callable[[StateSpace, Array, Array], tuple[Array, Array]],
    system: StateSpace,
    Y: Array,
    inputs: Array | None,
) -> tuple[Array, Array]:
    known = _known(system, Y, inputs)
    cuts = _cuts(len(Y), PORTION) or [slice(0, 0)]
    done = [work(_own(system, cut), Y[cut], known[cut]) for cut in cuts]
    first, second = zip(*done, strict=True)
    return np.concatenate(first), np.concatenate(second)


def _own(system: StateSpace, rows: slice) -> StateSpace:
    """Return the system of some clients."""
    phi = system.phi[rows] if system.phi.ndim == 4 else system.phi
    psi = system.psi[rows] if system.psi.ndim == 4 else system.psi
    return replace(system, phi=phi, psi=psi)


def _transitions(system: StateSpace) -> Array:
    """F_t of all sessions, (1 or N, T, m, m); the first is not used."""
    d, m = system.n_dynamic, system.n_states
    phi = system.phi if system.phi.ndim == 4 else system.phi[None]
    F = np.zeros((len(phi), system.n_sessions, m, m))
    F[..., np.arange(m), np.arange(m)] = 1.0
    F[:, :, :d, :d] = phi[:, system.phi_at]
    return F


def _innovations(system: StateSpace) -> Array:
    """Covariances of what is new at every session, (1 or N, T, m, m); the first is not used."""
    d, m = system.n_dynamic, system.n_states
    psi = system.psi if system.psi.ndim == 4 else system.psi[None]
    Q = np.zeros((len(psi), system.n_sessions, m, m))
    Q[:, :, :d, :d] = psi[:, system.psi_at]
    return Q


def _carry(F: Array, x: Array) -> Array:
    """Return F x for states (..., n, m) and one F for all, or one for each client."""
    if len(F) == 1:
        return np.asarray(x @ F[0].T)
    return np.einsum("nij,...nj->...ni", F, x)


def _gains(system: StateSpace, seen: NDArray[np.bool_]) -> Iterator[_Gains]:
    """Run the filter over which scores were seen, (n, T, p), session by session."""
    n, n_sessions, p = seen.shape
    F, Q, Z = _transitions(system), _innovations(system), system.loadings
    P = np.repeat(system.initial_cov[None], n, axis=0)
    alone = system.initial_cov[None]  # covariance with no score seen at all
    for t in range(n_sessions):
        if t > 0:
            turned = np.swapaxes(F[:, t], 1, 2)
            P, alone = F[:, t] @ P @ turned + Q[:, t], F[:, t] @ alone @ turned + Q[:, t]
        noise = system.noise[system.noise_at[t]]
        least = CERTAIN * (np.einsum("pi,nij,pj->np", Z[t], alone, Z[t]) + noise)
        before, gain, precision = P, np.zeros((n, p, P.shape[1])), np.zeros((n, p))
        for j in range(p):
            M = P @ Z[t, j]
            variance = M @ Z[t, j] + noise[j]
            taken = seen[:, t, j] & (variance > least[:, j])
            precision[:, j] = np.divide(1.0, variance, out=np.zeros(n), where=taken)
            gain[:, j] = M * precision[:, j, None]
            P = P - gain[:, j, :, None] * M[:, None, :]
        yield _Gains(before, P, gain, precision)


def _filtered_means(
    system: StateSpace, gains: Sequence[_Gains], Y: Array, inputs: Array
) -> tuple[Array, Array, Array]:
    """Return states before and after each session's scores (D, n, T, m), and surprises.

    ``Y`` (D, n, T, p) may hold several sets of scores, missing in the same places.
    """
    draws, n, n_sessions, p = Y.shape
    F, Z = _transitions(system), system.loadings
    before = np.zeros((draws, n, n_sessions, system.n_states))
    after, surprise = np.zeros_like(before), np.zeros((draws, n, n_sessions, p))
    for t, step in enumerate(gains):
        x = np.broadcast_to(inputs[:, t] @ system.drive.T, before[:, :, t].shape)
        if t > 0:
            x = x + _carry(F[:, t], after[:, :, t - 1])
        before[:, :, t] = x
        deviation = Y[:, :, t] - system.mean[system.mean_at[t]]
        for j in range(p):
            taken = step.precision[:, j] > 0.0
            surprise[:, :, t, j] = np.where(taken, deviation[..., j] - x @ Z[t, j], 0.0)
            x = x + step.gain[:, j] * surprise[:, :, t, j, None]
        after[:, :, t] = x
    return before, after, surprise


def _smoothed_means(system: StateSpace, gains: Sequence[_Gains], Y: Array, inputs: Array) -> Array:
    """Return the states given all scores, (D, n, T, m)."""
    x, _, surprise = _filtered_means(system, gains, Y, inputs)
    F, Z = _transitions(system), system.loadings
    r = np.zeros_like(x[:, :, 0])  # what later scores say, in units of the inverse covariance
    for t in range(len(gains) - 1, -1, -1):
        step = gains[t]
        for j in range(Y.shape[3] - 1, -1, -1):
            weight = surprise[:, :, t, j] * step.precision[:, j]
            weight = weight - np.einsum("dni,ni->dn", r, step.gain[:, j])
            r = r + Z[t, j] * weight[..., None]
        x[:, :, t] += np.einsum("nij,dnj->dni", step.before, r)
        r = _carry(np.swapaxes(F[:, t], 1, 2), r)
    return x


def _smoothed_covariances(system: StateSpace, gains: Sequence[_Gains]) -> list[Array]:
    """Return the covariance of the states given all scores at every session, (n, m, m) each."""
    F, Z = _transitions(system), system.loadings
    N = np.zeros_like(gains[0].before)
    found = []
    for t in range(len(gains) - 1, -1, -1):
        step = gains[t]
        for j in range(Z.shape[1] - 1, -1, -1):
            z, K = Z[t, j], step.gain[:, j]
            NK = (N @ K[..., None])[..., 0]
            inner = np.einsum("ni,ni->n", K, NK) + step.precision[:, j]
            cross = z[:, None] * NK[:, None, :]
            N = N - cross - np.swapaxes(cross, 1, 2) + inner[:, None, None] * np.outer(z, z)
        found.append(step.before - step.before @ N @ step.before)
        N = np.swapaxes(F[:, t], 1, 2) @ N @ F[:, t]
    return found[::-1]


def _simulated_scores(system: StateSpace, draws: int, n: int, rng: np.random.Generator) -> Array:
    """Draw all scores without means or inputs, (D, n, T, p), each given those before it.

    It takes no more than that the scores have a distribution: the covariance of the states, part
    of which an ALT leaves unrestricted, need not be one.
    """
    n_sessions, p = system.n_sessions, len(system.load_index)
    apart = system.phi.ndim == 4 or system.psi.ndim == 4
    F, Z = _transitions(system), system.loadings
    shocks = rng.standard_normal((draws, n, n_sessions, p))
    x, y = np.zeros((draws, n, system.n_states)), np.empty_like(shocks)
    everything = np.ones((n if apart else 1, n_sessions, p), bool)
    for t, step in enumerate(_gains(system, everything)):
        if t > 0:
            x = _carry(F[:, t], x)
        spread = np.sqrt(
            np.divide(
                1.0, step.precision, where=step.precision > 0.0, out=np.zeros_like(step.precision)
            )
        )
        for j in range(p):
            shock = spread[:, j] * shocks[:, :, t, j]
            y[:, :, t, j] = x @ Z[t, j] + shock
            x = x + step.gain[:, j] * shock[..., None]
    return y


def _simulated_states(
    system: StateSpace, draws: int, n: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draw states (D, n, T, m) and scores (D, n, T, p) without means or inputs."""
    n_sessions, m, d = system.n_sessions, system.n_states, system.n_dynamic
    F, p = _transitions(system), len(system.load_index)
    root = _root(system.psi if system.psi.ndim == 4 else system.psi[None])
    x = np.empty((draws, n, n_sessions, m))
    x[:, :, 0] = rng.standard_normal((draws, n, m)) @ _root(system.initial_cov).T
    for t in range(1, n_sessions):
        x[:, :, t] = _carry(F[:, t], x[:, :, t - 1])
        x[:, :, t, :d] += _carry(root[:, system.psi_at[t]], rng.standard_normal((draws, n, d)))
    spread = np.sqrt(np.maximum(system.noise, 0.0))[system.noise_at]
    noise = spread * rng.standard_normal((draws, n, n_sessions, p))
    return x, _of_states(system, x) + noise


def _of_states(system: StateSpace, x: Array) -> Array:
    """Return what states (..., T, m) make of every score, (..., T, p)."""
    return np.einsum("tpi,...ti->...tp", system.loadings, x, optimize=True)


def _root(S: Array) -> Array:
    """Return R (..., k, k) with R R' = S; what is negative by rounding counts as zero."""
    values, vectors = np.linalg.eigh(S)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :])


def _sd(variance: Array) -> Array:
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))
