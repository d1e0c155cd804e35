"""The maximizer on likelihoods whose answers are known in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from alliancedyn.engine.maximise import (
    invert_information,
    maximise,
    observed_information,
    outer_products,
    sandwich,
)
from alliancedyn.errors import SpecificationError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Normal:
    """A normal sample: theta = (mean, log SD)."""

    y: Array
    names: tuple[str, ...] = ("mean", "log_sd")

    @property
    def start(self) -> Array:
        return np.array([0.0, 1.0])

    @property
    def linear(self) -> NDArray[np.bool_]:
        return np.array([True, False])

    def scores(self, theta: Array) -> Array:
        z = (self.y - theta[0]) / np.exp(theta[1])
        return np.column_stack([z / np.exp(theta[1]), z**2 - 1.0])

    def value_and_score(self, theta: Array) -> tuple[float, Array]:
        z = (self.y - theta[0]) / np.exp(theta[1])
        return float(-0.5 * (z @ z) - len(z) * theta[1]), self.scores(theta).sum(axis=0)

    def to_params(self, theta: Array) -> dict[str, float]:
        return dict(zip(self.names, theta.tolist(), strict=True))


@pytest.fixture
def sample() -> Normal:
    return Normal(np.random.default_rng(1).normal(3.0, 2.0, 400))


def test_maximum_and_information_are_the_closed_form(sample: Normal) -> None:
    found = maximise(sample)
    sd = sample.y.std()
    assert found.converged
    np.testing.assert_allclose(found.theta, [sample.y.mean(), np.log(sd)], rtol=1e-9)
    expected = np.diag([400 / sd**2, 800.0])
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose(found.information / scale, expected / scale, atol=1e-6)


def test_mixed_derivatives_of_means_are_right_away_from_the_maximum(sample: Normal) -> None:
    theta = np.array([2.0, 0.5])

    def score(at: Array) -> Array:
        return sample.value_and_score(at)[1]

    H = observed_information(score, theta, sample.linear, score(theta))
    z = (sample.y - 2.0) / np.exp(0.5)
    assert H[0, 1] == pytest.approx(2.0 * z.sum() / np.exp(0.5), rel=1e-6)
    assert H[0, 1] == H[1, 0]


def test_the_best_of_several_starts_is_kept(sample: Normal) -> None:
    found = maximise(sample, [np.array([50.0, -3.0]), np.array([3.0, 0.7])])
    np.testing.assert_allclose(found.theta[0], sample.y.mean(), rtol=1e-8)


def test_a_start_without_likelihood_is_refused(sample: Normal) -> None:
    with pytest.raises(SpecificationError, match="does not exist"):
        maximise(sample, [np.array([np.nan, 0.0])])


def test_a_flat_direction_is_found_and_left_out() -> None:
    H = np.array([[2.0, 2.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 5.0]])
    inverse, condition, flat = invert_information(H)
    assert np.isinf(condition)
    assert flat == (0, 1)
    np.testing.assert_allclose(H @ inverse @ H, H, atol=1e-12)


def test_a_regular_information_is_inverted() -> None:
    rng = np.random.default_rng(2)
    A = rng.standard_normal((6, 9))
    H = A @ A.T
    inverse, condition, flat = invert_information(H)
    np.testing.assert_allclose(inverse, np.linalg.inv(H), rtol=1e-9)
    assert flat == ()
    assert 1.0 <= condition < 1e6


def test_clustered_products_sum_within_clusters() -> None:
    scores = np.array([[1.0, 0.0], [2.0, 1.0], [0.0, 3.0]])
    clusters = np.array([7, 7, 4])
    expected = 2.0 * (np.outer([3.0, 1.0], [3.0, 1.0]) + np.outer([0.0, 3.0], [0.0, 3.0]))
    np.testing.assert_allclose(outer_products(scores, clusters), expected)
    np.testing.assert_allclose(sandwich(np.eye(2), scores), scores.T @ scores)


@dataclass(frozen=True)
class Ridge:
    """l = -50 u^2 + bend v^2 - 50 v^4 of u = (a + b) / sqrt 2, v = (a - b) / sqrt 2."""

    bend: float
    names: tuple[str, ...] = ("a", "b")

    @property
    def start(self) -> Array:
        return np.array([0.3, 0.3])  # where nothing tells that v leads up

    @property
    def linear(self) -> NDArray[np.bool_]:
        return np.zeros(2, bool)

    def scores(self, theta: Array) -> Array:
        return np.tile(self.value_and_score(theta)[1] / 100.0, (100, 1))

    def value_and_score(self, theta: Array) -> tuple[float, Array]:
        u, v = np.array([[1.0, 1.0], [1.0, -1.0]]) @ theta / np.sqrt(2.0)
        by_u, by_v = -100.0 * u, 2.0 * self.bend * v - 200.0 * v**3
        slope = np.array([by_u + by_v, by_u - by_v]) / np.sqrt(2.0)
        return -50.0 * u**2 + self.bend * v**2 - 50.0 * v**4, slope

    def to_params(self, theta: Array) -> dict[str, float]:
        return dict(zip(self.names, theta.tolist(), strict=True))


@pytest.mark.parametrize(
    ("bend", "top"),
    [(0.0, True), (1e-3, True), (0.15, False), (1.0, False)],
    ids=["level", "rounding", "slight rise", "saddle"],
)
def test_a_direction_without_curvature_is_a_maximum_unless_it_leads_up(
    bend: float, top: bool
) -> None:
    found = maximise(Ridge(bend))
    np.testing.assert_allclose(found.theta[0], found.theta[1], atol=1e-6)
    assert found.converged == top
