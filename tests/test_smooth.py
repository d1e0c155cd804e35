"""States and forecasts against conditional normals, computed densely."""

from __future__ import annotations

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


def loadings(system: StateSpace) -> Array:
    T, p, m = system.n_sessions, len(system.load_index), system.n_states
    Z = np.zeros((T, p, T, m))
    for t in range(T):
        for j in range(p):
            Z[t, j, t, system.load_index[j]] = system.load[system.load_at[t], j]
    return Z.reshape(T * p, T * m)


@pytest.mark.parametrize("traits", [True, False])
def test_smoothed_states_are_conditional_normals(traits: bool) -> None:
    system = random_system(3, 5, 2, traits)
    Y = random_scores(5, 12, 5)
    mean, sd = smooth.smooth(system, Y)
    V, Z = joint_states(system), loadings(system)
    level, C = implied_moments(system)
    for i, row in enumerate(Y.reshape(len(Y), -1)):
        seen = ~np.isnan(row)
        B = np.linalg.solve(C[np.ix_(seen, seen)], Z[seen] @ V).T
        np.testing.assert_allclose(mean[i].ravel(), B @ (row - level)[seen], atol=1e-9)
        variance = np.diag(V - B @ Z[seen] @ V)
        np.testing.assert_allclose(sd[i].ravel() ** 2, variance, atol=1e-8)


@pytest.mark.parametrize("horizon", [1, 2])
def test_forecasts_are_conditional_normals(horizon: int) -> None:
    system = random_system(4, 5)
    Y = random_scores(6, 10, 5)
    mean, sd = smooth.forecast(system, Y, horizon)
    assert np.isnan(mean[:, :horizon]).all()
    level, C = implied_moments(system)
    p = Y.shape[2]
    for t in range(horizon, 5):
        target = slice(t * p, (t + 1) * p)
        for i, row in enumerate(Y.reshape(len(Y), -1)):
            seen = ~np.isnan(row)
            seen[(t - horizon + 1) * p :] = False
            B = np.linalg.solve(C[np.ix_(seen, seen)], C[seen][:, target]).T
            np.testing.assert_allclose(
                mean[i, t], level[target] + B @ (row - level)[seen], atol=1e-9
            )
            expected = np.diag(C[target, target] - B @ C[seen][:, target])
            np.testing.assert_allclose(sd[i, t] ** 2, expected, atol=1e-9)


def test_states_add_up_to_the_score_where_there_is_no_noise() -> None:
    system = random_system(7, 4)
    system = StateSpace(**{**vars(system), "noise": np.zeros(2)})
    Y = random_scores(8, 20, 4)
    mean, _ = smooth.smooth(system, Y)
    fitted = system.mean + np.einsum("pm,ntm->ntp", loadings(system)[:2, : system.n_states], mean)
    np.testing.assert_allclose(fitted[~np.isnan(Y)], Y[~np.isnan(Y)], atol=1e-9)


def test_portions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    system = random_system(9, 4)
    Y = random_scores(9, 23, 4)
    whole = smooth.smooth(system, Y)
    monkeypatch.setattr(smooth, "PORTION", 7)
    for a, b in zip(whole, smooth.smooth(system, Y), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-12)
