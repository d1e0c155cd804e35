"""States and forecasts against conditional normals, computed densely."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from test_kalman import random_scores, random_system

from alliancedyn.engine import smooth
from alliancedyn.engine.kalman import StateSpace
from alliancedyn.engine.moments import implied_moments

Array = NDArray[np.float64]


def joint_states(system: StateSpace) -> Array:
    """Covariance of all states at all sessions with each other, (T m, T m), by recursion."""
    T, m, d = system.n_sessions, system.n_states, system.n_dynamic
    F = np.tile(np.eye(m), (T, 1, 1))
    F[:, :d, :d] = system.phi[system.phi_at]
    V = np.zeros((T, m, T, m))
    V[0, :, 0] = system.initial_cov
    for t in range(1, T):
        V[t, :, t] = F[t] @ V[t - 1, :, t - 1] @ F[t].T
        V[t, :d, t, :d] += system.psi[system.psi_at[t]]
        for s in range(t):
            V[t, :, s] = F[t] @ V[t - 1, :, s]
            V[s, :, t] = V[t, :, s].T
    return V.reshape(T * m, T * m)


def state_means(system: StateSpace, inputs: Array) -> Array:
    """Means of all states that known inputs (N, T, q) make, (N, T m)."""
    T, m, d = system.n_sessions, system.n_states, system.n_dynamic
    out = np.zeros((len(inputs), T, m))
    for t in range(T):
        out[:, t] = inputs[:, t] @ system.drive.T
        if t > 0:
            out[:, t, :d] += out[:, t - 1, :d] @ system.phi[system.phi_at[t]].T
            out[:, t, d:] += out[:, t - 1, d:]
    return out.reshape(len(inputs), -1)


def loadings(system: StateSpace) -> Array:
    T, p, m = system.n_sessions, len(system.load_index), system.n_states
    Z = np.zeros((T, p, T, m))
    for t in range(T):
        for j in range(p):
            Z[t, j, t, system.load_index[j]] = system.load[system.load_at[t], j]
    return Z.reshape(T * p, T * m)


def made(seed: int, traits: bool = True, q: int = 0) -> tuple[StateSpace, Array, Array, Array]:
    """Return a system, scores, inputs, and the mean of every client's scores."""
    system = random_system(seed, 5, 2, traits, q=q)
    Y = random_scores(seed + 2, 12, 5)
    inputs = np.random.default_rng(seed).standard_normal((12, 5, q))
    level = implied_moments(system)[0] + state_means(system, inputs) @ loadings(system).T
    return system, Y, inputs, level


@pytest.mark.parametrize(("traits", "q"), [(True, 0), (False, 0), (True, 2)])
def test_smoothed_states_are_conditional_normals(traits: bool, q: int) -> None:
    system, Y, inputs, level = made(3, traits, q)
    weights = np.random.default_rng(1).standard_normal((5, 3, system.n_states))
    mean, sd = smooth.smooth(system, Y, inputs)
    sums, sd_of_sums = smooth.smooth(system, Y, inputs, weights)
    V, Z, C = joint_states(system), loadings(system), implied_moments(system)[1]
    wide = np.zeros((5, 3, 5, system.n_states))
    wide[np.arange(5), :, np.arange(5)] = weights
    W = wide.reshape(15, -1)
    for i, row in enumerate(Y.reshape(len(Y), -1)):
        seen = ~np.isnan(row)
        B = np.linalg.solve(C[np.ix_(seen, seen)], Z[seen] @ V).T
        states = state_means(system, inputs)[i] + B @ (row - level[i])[seen]
        P = V - B @ Z[seen] @ V
        np.testing.assert_allclose(mean[i].ravel(), states, atol=1e-9)
        np.testing.assert_allclose(sd[i].ravel() ** 2, np.diag(P), atol=1e-8)
        np.testing.assert_allclose(sums[i].ravel(), W @ states, atol=1e-8)
        np.testing.assert_allclose(sd_of_sums[i].ravel() ** 2, np.diag(W @ P @ W.T), atol=1e-7)


@pytest.mark.parametrize(("horizon", "q"), [(1, 0), (2, 0), (2, 2)])
def test_forecasts_are_conditional_normals(horizon: int, q: int) -> None:
    system, Y, inputs, level = made(4, q=q)
    mean, sd = smooth.forecast(system, Y, horizon, inputs)
    assert np.isnan(mean[:, :horizon]).all()
    C = implied_moments(system)[1]
    p = Y.shape[2]
    for t in range(horizon, 5):
        target = slice(t * p, (t + 1) * p)
        for i, row in enumerate(Y.reshape(len(Y), -1)):
            seen = ~np.isnan(row)
            seen[(t - horizon + 1) * p :] = False
            B = np.linalg.solve(C[np.ix_(seen, seen)], C[seen][:, target]).T
            np.testing.assert_allclose(
                mean[i, t], level[i, target] + B @ (row - level[i])[seen], atol=1e-9
            )
            expected = np.diag(C[target, target] - B @ C[seen][:, target])
            np.testing.assert_allclose(sd[i, t] ** 2, expected, atol=1e-9)


def test_every_client_may_have_a_system_of_its_own() -> None:
    systems = [random_system(seed, 5) for seed in range(4)]
    Y = random_scores(11, 4, 5)
    joint = replace(
        systems[0],
        phi=np.stack([one.phi for one in systems]),
        psi=np.stack([one.psi for one in systems]),
    )
    for method in (smooth.smooth, smooth.forecast):
        together = method(joint, Y)
        for i, one in enumerate(systems):
            alone = replace(systems[0], phi=one.phi, psi=one.psi)
            for found, expected in zip(together, method(alone, Y[i : i + 1]), strict=True):
                np.testing.assert_allclose(found[i], expected[0], rtol=1e-10, atol=1e-10)


def test_states_add_up_to_the_score_where_there_is_no_noise() -> None:
    system = random_system(7, 4)
    system = replace(system, noise=np.zeros_like(system.noise))
    Y = random_scores(8, 20, 4)
    mean, _ = smooth.smooth(system, Y)
    states = mean.reshape(len(Y), -1)
    fitted = system.mean[system.mean_at] + (states @ loadings(system).T).reshape(Y.shape)
    np.testing.assert_allclose(fitted[~np.isnan(Y)], Y[~np.isnan(Y)], atol=1e-9)


def test_portions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    system = random_system(9, 4)
    Y = random_scores(9, 23, 4)
    whole = smooth.smooth(system, Y)
    monkeypatch.setattr(smooth, "PORTION", 7)
    for a, b in zip(whole, smooth.smooth(system, Y), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-12)
