"""The quick look at a posterior: smoothed weights against ArviZ, moments against known ones."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats

from alliancedyn.engine.laplace import RELIABLE_K, laplace, pareto_fit, smooth_weights
from alliancedyn.errors import ConvergenceError

PEER = 2e-3  # two implementations of one smoothing: they place the grid alike, not the same
ERRORS = 4.0  # standard errors of a simulated mean


def arviz():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz

    return arviz


@pytest.mark.parametrize("tail", [1.5, 3.0, 8.0])
def test_smoothed_weights_are_those_of_arviz(tail: float) -> None:
    log_ratios = stats.t(tail).rvs(2000, random_state=3)
    ours, k = smooth_weights(log_ratios)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        peer, peer_k = arviz().psislw(log_ratios.copy())
    assert k == pytest.approx(float(peer_k), abs=PEER)
    np.testing.assert_allclose(np.exp(ours), np.exp(np.asarray(peer)), atol=PEER)
    assert np.exp(ours).sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("shape", [-0.2, 0.3, 0.9])
def test_pareto_shape_is_recovered(shape: float) -> None:
    x = np.sort(stats.genpareto(shape, scale=2.0).rvs(4000, random_state=1))
    k, sigma = pareto_fit(x)
    # Asymptotic SD of the shape: (1 + k) / sqrt(n).
    assert k == pytest.approx(shape, abs=ERRORS * (1.0 + shape) / np.sqrt(len(x)))
    assert sigma == pytest.approx(2.0, rel=0.15)


def test_normal_target_comes_back_with_its_moments() -> None:
    mean, cov = np.array([3.0, -2.0, 0.5]), np.array([[2.0, 0.6, 0], [0.6, 0.5, 0], [0, 0, 9.0]])
    precision = np.linalg.inv(cov)

    def density(theta):
        away = theta - mean
        return -0.5 * away @ precision @ away, -precision @ away

    found = laplace(density, np.zeros(3), 4000, np.random.default_rng(2))
    np.testing.assert_allclose(found.mode, mean, atol=1e-3)
    error = np.sqrt(np.diag(cov) / found.ess)
    assert (np.abs(found.weights @ found.draws - mean) < ERRORS * error).all()
    assert found.pareto_k < 0.5
    assert found.ess > 0.7 * 4000
    kept = found.resample(1000, np.random.default_rng(0))
    np.testing.assert_allclose(np.cov(kept.T), cov, atol=0.15 * 9.0)


def test_skewed_target_is_corrected_by_the_weights() -> None:
    # log of a Gamma(3) variable: the mode is log 3, the mean digamma(3), well below it.
    def density(theta):
        return float(3.0 * theta[0] - np.exp(theta[0])), 3.0 - np.exp(theta)

    found = laplace(density, np.zeros(1), 8000, np.random.default_rng(5))
    exact, sd = stats.loggamma(3.0).mean(), stats.loggamma(3.0).std()
    assert found.mode[0] == pytest.approx(np.log(3.0), abs=1e-3)
    assert abs(exact - np.log(3.0)) > 10.0 * sd / np.sqrt(found.ess)
    assert found.weights @ found.draws[:, 0] == pytest.approx(
        exact, abs=ERRORS * sd / np.sqrt(found.ess)
    )


def test_a_second_mode_far_away_shows_as_an_unreliable_k() -> None:
    # Most of the mass lies where the proposal hardly reaches.
    def density(theta):
        parts = np.array([-0.5 * theta @ theta, 4.0 - 0.5 * np.sum((theta - 4.0) ** 2)])
        top = parts.max()
        share = np.exp(parts - top)
        slopes = np.stack([-theta, 4.0 - theta])
        return top + np.log(share.sum()), share @ slopes / share.sum()

    found = laplace(density, np.full(3, -1.0), 4000, np.random.default_rng(1))
    assert found.pareto_k > RELIABLE_K


def test_flat_directions_are_refused() -> None:
    def density(theta):
        return -0.5 * theta[0] ** 2, np.array([-theta[0], 0.0])

    with pytest.raises(ConvergenceError, match="flat or leads up"):
        laplace(density, np.ones(2), 100, np.random.default_rng(0))

    def nowhere(theta):
        return -np.inf, np.zeros_like(theta)

    with pytest.raises(ConvergenceError, match="does not exist"):
        laplace(nowhere, np.ones(2), 100, np.random.default_rng(0))


def test_seed_repeats() -> None:
    def density(theta):
        return -0.5 * float(theta @ theta), -theta

    one, two = (laplace(density, np.ones(2), 200, np.random.default_rng(9)) for _ in range(2))
    np.testing.assert_array_equal(one.draws, two.draws)
    assert one.pareto_k == two.pareto_k
