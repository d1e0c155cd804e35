"""States, forecasts, draws and calibration of fits, against dense conditional normals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from test_kalman import random_scores, random_system
from test_smooth import joint_states, loadings

from alliancedyn.engine import smooth
from alliancedyn.engine.kalman import StateSpace
from alliancedyn.engine.moments import implied_moments, input_effects

Array = NDArray[np.float64]


def conditional(system: StateSpace, row: Array, inputs: Array) -> tuple[Array, Array, Array, Array]:
    """Mean and covariance of all states, then of all scores, given the scores of one client."""
    V, Z = joint_states(system), loadings(system)
    level, C = implied_moments(system)
    level = level + inputs.ravel() @ input_effects(system).T
    pushed = state_effects(system) @ inputs.ravel()
    seen = ~np.isnan(row)
    B = np.linalg.lstsq(C[np.ix_(seen, seen)], Z[seen] @ V, rcond=None)[0].T
    x = pushed + B @ (row - level)[seen]
    left = V - B @ Z[seen] @ V
    noise = np.concatenate([system.noise[at] for at in system.noise_at])
    scores = level + Z @ (x - pushed)
    spread = Z @ left @ Z.T + np.diag(noise)
    scores[seen] = row[seen]
    spread[seen] = spread[:, seen] = 0.0
    return x, left, scores, spread


def state_effects(system: StateSpace) -> Array:
    """What every input does to every state, (T m, T q), by running the recursion."""
    T, m, d, q = system.n_sessions, system.n_states, system.n_dynamic, system.drive.shape[1]
    out = np.zeros((T, m, T, q))
    for s in range(T):
        x = system.drive
        out[s, :, s] = x
        for t in range(s + 1, T):
            F = np.eye(m)
            F[:d, :d] = system.phi[system.phi_at[t]]
            x = F @ x
            out[t, :, s] = x
    return out.reshape(T * m, T * q)


class Units:
    """In place of random numbers: draw 0 gets none, draw k the k-th unit vector."""

    def __init__(self, draws: int) -> None:
        self.rows, self.used = np.vstack([np.zeros(draws - 1), np.eye(draws - 1)]), 0

    def standard_normal(self, shape: tuple[int, ...]) -> Array:
        size = int(np.prod(shape[1:]))
        out = self.rows[:, self.used : self.used + size].reshape(shape)
        self.used += size
        return out


class Zeros:
    """In place of random numbers: none."""

    def standard_normal(self, shape: tuple[int, ...]) -> Array:
        return np.zeros(shape)


def numbers_needed(system: StateSpace) -> int:
    T, p = system.n_sessions, len(system.load_index)
    return system.n_states + (T - 1) * system.n_dynamic + T * p


def singular(seed: int) -> StateSpace:
    """Return a system with covariances of rank one and one score without noise."""
    system = random_system(seed, 5)
    u = np.random.default_rng(seed).standard_normal((3, 2))
    initial = np.zeros((4, 4))
    initial[:2, :2], initial[2:, 2:] = np.outer(u[0], u[0]), np.outer(u[1], u[1])
    psi = np.repeat(np.outer(u[2], u[2])[None], len(system.psi), axis=0)
    return replace(system, initial_cov=initial, psi=psi, noise=np.array([[0.2, 0.0], [0.1, 0.3]]))


SYSTEMS = {
    "traits": lambda: random_system(3, 5),
    "no traits": lambda: random_system(4, 5, traits=False),
    "inputs": lambda: random_system(5, 4, q=2),
    "no noise": lambda: replace(random_system(6, 5), noise=np.zeros((2, 2))),
    "singular": lambda: singular(7),
}


@pytest.mark.parametrize("which", SYSTEMS)
def test_draws_have_exactly_the_conditional_distribution(which: str) -> None:
    """Feed unit vectors for random numbers: the response to them is a root of the covariance."""
    system = SYSTEMS[which]()
    Y = random_scores(8, 8, system.n_sessions)
    if which == "singular":  # scores that such a system can produce
        Y = np.where(np.isnan(Y), np.nan, produced(system, len(Y)))
    q = system.drive.shape[1]
    inputs = np.random.default_rng(1).standard_normal((len(Y), system.n_sessions, q))
    draws = 1 + numbers_needed(system)
    parts = np.broadcast_to(np.eye(system.n_states), (system.n_sessions, *[system.n_states] * 2))
    for i in range(len(Y)):
        one = slice(i, i + 1)
        x, left, scores, spread = conditional(system, Y[i].ravel(), inputs[i])
        found = smooth.draw(system, Y[one], draws, Units(draws), inputs[one]).reshape(draws, -1)
        np.testing.assert_allclose(found[0], scores, atol=1e-8)
        root = found[1:] - found[0]
        np.testing.assert_allclose(root.T @ root, spread, atol=1e-8)
        states = smooth.draw(system, Y[one], draws, Units(draws), inputs[one], parts)
        states = states.reshape(draws, -1)
        np.testing.assert_allclose(states[0], x, atol=1e-8)
        root = states[1:] - states[0]
        np.testing.assert_allclose(root.T @ root, left, atol=1e-8)


def produced(system: StateSpace, n: int) -> Array:
    rng = np.random.default_rng(2)
    x, noise = smooth._simulated(system, 1, n, rng)
    return np.asarray((smooth._of_states(system, x) + noise)[0] + system.mean[system.mean_at])


def test_random_draws_have_the_conditional_moments() -> None:
    system, draws = random_system(9, 4), 20_000
    Y = random_scores(9, 3, 4)
    found = smooth.draw(system, Y, draws, np.random.default_rng(3)).reshape(draws, 3, -1)
    for i in range(3):
        _, _, mean, spread = conditional(system, Y[i].ravel(), np.zeros((4, 0)))
        sd = np.sqrt(np.diag(spread))
        off = (found[:, i].mean(axis=0) - mean) * np.sqrt(draws)
        assert (np.abs(off) <= 4.5 * sd + 1e-9).all()
        error = np.sqrt((spread**2 + np.outer(sd, sd) ** 2) / draws)
        assert (np.abs(np.cov(found[:, i].T) - spread) <= 4.5 * error + 1e-9).all()


def test_seen_scores_are_returned_untouched() -> None:
    system, Y = singular(3), random_scores(4, 20, 5)
    found = smooth.draw(system, Y, 3, np.random.default_rng(1))
    seen = np.broadcast_to(~np.isnan(Y), found.shape)
    np.testing.assert_array_equal(found[seen], np.broadcast_to(Y, found.shape)[seen])
    assert np.isfinite(found).all()


def test_portions_of_draws_have_the_same_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    system, Y = random_system(9, 4), random_scores(9, 11, 4)
    monkeypatch.setattr(smooth, "NUMBERS", 1)
    found = smooth.draw(system, Y, 2, np.random.default_rng(1))
    assert found.shape == (2, 11, 4, 2) and np.isfinite(found).all()
    mean = smooth.draw(system, Y, 1, Zeros())[0]
    for i in range(11):
        _, _, expected, _ = conditional(system, Y[i].ravel(), np.zeros((4, 0)))
        np.testing.assert_allclose(mean[i].ravel(), expected, atol=1e-9)


@pytest.mark.parametrize("which", SYSTEMS)
def test_smoothed_states_are_conditional_normals_even_if_singular(which: str) -> None:
    system = SYSTEMS[which]()
    Y = random_scores(8, 12, system.n_sessions)
    if which == "singular":
        Y = np.where(np.isnan(Y), np.nan, produced(system, len(Y)))
    q = system.drive.shape[1]
    inputs = np.random.default_rng(1).standard_normal((len(Y), system.n_sessions, q))
    mean, sd = smooth.smooth(system, Y, inputs)
    for i in range(len(Y)):
        x, left, _, _ = conditional(system, Y[i].ravel(), inputs[i])
        np.testing.assert_allclose(mean[i].ravel(), x, atol=1e-8)
        np.testing.assert_allclose(sd[i].ravel() ** 2, np.diag(left), atol=1e-8)


def test_every_client_may_have_lags_of_their_own() -> None:
    system, Y = random_system(2, 5), random_scores(2, 7, 5)
    rng = np.random.default_rng(5)
    phi = system.phi + rng.uniform(-0.2, 0.2, (7, *system.phi.shape))
    psi = system.psi * rng.uniform(0.5, 2.0, (7, 1, 1, 1))
    own = replace(system, phi=phi, psi=psi)
    draws = 1 + numbers_needed(system)
    mean, sd = smooth.smooth(own, Y)
    ahead = smooth.forecast(own, Y, 2)
    for i in range(7):
        alone = replace(system, phi=phi[i], psi=psi[i])
        for whole, part in zip((mean, sd), smooth.smooth(alone, Y[i : i + 1]), strict=True):
            np.testing.assert_allclose(whole[i], part[0], atol=1e-10)
        for whole, part in zip(ahead, smooth.forecast(alone, Y[i : i + 1], 2), strict=True):
            np.testing.assert_allclose(whole[i], part[0], atol=1e-10)
        one = replace(system, phi=phi[i : i + 1], psi=psi[i : i + 1])
        found = smooth.draw(one, Y[i : i + 1], draws, Units(draws))
        expected = smooth.draw(alone, Y[i : i + 1], draws, Units(draws))
        np.testing.assert_allclose(found, expected, atol=1e-10)
