"""The kernel against dense normals, against the wide route and against differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference_files import panel_scores, simulated, to_wide

from alliancedyn import CLPM, RICLPM
from alliancedyn.engine import kalman
from alliancedyn.engine.kalman import LANES, Blocks, StateSpace
from alliancedyn.engine.moments import implied_moments, input_effects, loglik_by_client

Array = NDArray[np.float64]

RELATIVE = 1e-9  # two exact routes differ by rounding only
DIFFERENCES = 1e-6  # central differences of a log-likelihood of some thousands


def random_system(
    seed: int, n_sessions: int, k: int = 2, traits: bool = True, free: bool = True, q: int = 0
) -> StateSpace:
    """Draw an admissible system: measurement noise and loadings by session, q known inputs."""
    rng = np.random.default_rng(seed)

    def covariance(size: int) -> Array:
        A = rng.standard_normal((size, size + 2))
        return A @ A.T / size

    slots = n_sessions - 1 if free else 1
    into = np.maximum(np.arange(n_sessions) - 1, 0) if free else np.zeros(n_sessions, np.int64)
    m = 2 * k if traits else k
    index = np.arange(m).reshape(-1, k).T
    initial = np.zeros((m, m))
    initial[:k, :k] = covariance(k)
    if traits:
        initial[k:, k:] = covariance(k)
    return StateSpace(
        phi=rng.uniform(-0.5, 0.5, (slots, k, k)),
        phi_at=into,
        psi=np.stack([covariance(k) for _ in range(slots)]),
        psi_at=into,
        mean=rng.standard_normal((n_sessions, k)),
        mean_at=np.arange(n_sessions),
        initial_cov=initial,
        load_index=np.ascontiguousarray(index),
        load=rng.uniform(0.5, 1.5, (3, *index.shape)),
        load_at=rng.integers(0, 3, n_sessions),
        noise=rng.uniform(0.1, 0.5, (2, k)),
        noise_at=rng.integers(0, 2, n_sessions),
        drive=rng.standard_normal((m, q)),
    )


def random_scores(seed: int, n: int, n_sessions: int, k: int = 2) -> Array:
    """Draw scores with missing cells, missing sessions, dropout and one-session clients."""
    rng = np.random.default_rng(seed)
    Y = rng.standard_normal((n, n_sessions, k)) * 2.0
    Y[rng.random(Y.shape) < 0.15] = np.nan
    Y[rng.random((n, n_sessions)) < 0.1] = np.nan
    Y[np.arange(n_sessions) >= rng.integers(1, n_sessions + 1, n)[:, None]] = np.nan
    return Y


SHAPES = [
    (1, 3, 2, True),
    (37, 6, 2, True),
    (70, 5, 3, True),
    (150, 9, 2, False),
    (9, 100, 2, True),
]


@pytest.mark.parametrize(("n", "n_sessions", "k", "traits"), SHAPES)
def test_loglik_is_that_of_a_dense_normal(n: int, n_sessions: int, k: int, traits: bool) -> None:
    system = random_system(n, n_sessions, k, traits, q=2)
    Y = random_scores(n, n, n_sessions, k)
    inputs = np.random.default_rng(n).standard_normal((n, n_sessions, 2))
    mean, cov = implied_moments(system)
    shifted = to_wide(Y) - inputs.reshape(n, -1) @ input_effects(system).T
    dense = loglik_by_client(shifted, mean, cov)
    np.testing.assert_allclose(
        kalman.loglik_by_client(system, Blocks.pack(Y, inputs)), dense, rtol=RELATIVE, atol=1e-10
    )


def test_clients_without_a_score_contribute_nothing() -> None:
    system = random_system(1, 4, q=1)
    Y = random_scores(1, 30, 4)
    inputs = np.ones((33, 4, 1))
    empty = np.full((3, 4, 2), np.nan)
    value, score = kalman.value_and_score(system, Blocks.pack(Y, inputs[:30]))
    more = Blocks.pack(np.concatenate([Y, empty]), inputs)
    with_empty, same = kalman.value_and_score(system, more)
    assert with_empty == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(same.phi, score.phi, rtol=1e-12)


def _entries(system: StateSpace) -> list[tuple[str, tuple[int, ...]]]:
    """Name some entries of every matrix, covariances by pairs (i, j) and (j, i) at once."""
    k = system.n_dynamic
    picked: list[tuple[str, tuple[int, ...]]] = [("mean", (0, 0)), ("mean", (1, 1))]
    for slot in range(min(2, len(system.phi))):
        picked += [("phi", (slot, i, j)) for i in range(k) for j in range(k)]
        picked += [("psi", (slot, i, j)) for i in range(k) for j in range(i + 1)]
    m = system.n_states
    picked += [("initial_cov", (i, j)) for i in range(m) for j in range(i + 1)]
    picked += [("drive", (i, c)) for i in range(m) for c in range(2)]
    shape = system.load.shape[1:]
    picked += [("load", (slot, *at)) for slot in range(3) for at in np.ndindex(*shape)]
    return picked + [("noise", (slot, j)) for slot in range(2) for j in range(k)]


def _moved(system: StateSpace, field: str, at: tuple[int, ...], step: float) -> StateSpace:
    values = getattr(system, field).copy()
    values[at] += step
    if field in ("psi", "initial_cov") and at[-1] != at[-2]:
        values[(*at[:-2], at[-1], at[-2])] += step
    return replace(system, **{field: values})


@pytest.mark.parametrize(
    ("k", "traits", "free"), [(2, True, True), (3, True, False), (2, False, True)]
)
def test_score_is_the_derivative(k: int, traits: bool, free: bool) -> None:
    system = random_system(5, 6, k, traits, free, q=2)
    inputs = np.random.default_rng(7).standard_normal((75, 6, 2))
    blocks = Blocks.pack(random_scores(6, 75, 6, k), inputs)
    _, score = kalman.value_and_score(system, blocks)

    def value(field: str, at: tuple[int, ...], step: float) -> float:
        return kalman.value_and_score(_moved(system, field, at, step), blocks)[0]

    for field, at in _entries(system):
        twice = 2.0 if field in ("psi", "initial_cov") and at[-1] != at[-2] else 1.0
        analytic = twice * getattr(score, field)[at]
        # Richardson: the fourth-order difference leaves rounding only.
        near, far = ((value(field, at, h) - value(field, at, -h)) / (2 * h) for h in (1e-4, 2e-4))
        numeric = (4 * near - far) / 3
        assert analytic == pytest.approx(numeric, rel=DIFFERENCES, abs=1e-5), (field, at)


def test_scores_by_client_add_up() -> None:
    system = random_system(2, 5)
    blocks = Blocks.pack(random_scores(3, 2 * LANES + 7, 5))
    _, total = kalman.value_and_score(system, blocks)
    each = kalman.score_by_client(system, blocks)
    for field in ("mean", "phi", "psi", "initial_cov", "load", "noise"):
        summed = getattr(each, field).sum(axis=0)
        np.testing.assert_allclose(summed, getattr(total, field), rtol=1e-9, atol=1e-9)


def test_scores_by_client_belong_to_their_client() -> None:
    system = random_system(2, 5)
    Y = random_scores(4, 40, 5)
    each = kalman.score_by_client(system, Blocks.pack(Y))
    for i in (0, 17, 39):
        _, alone = kalman.value_and_score(system, Blocks.pack(Y[i : i + 1]))
        np.testing.assert_allclose(each.phi[i], alone.phi, rtol=1e-9, atol=1e-12)


def test_own_matrices_equal_to_the_shared_ones_change_nothing() -> None:
    system = random_system(8, 6)
    n = LANES + 9
    blocks = Blocks.pack(random_scores(9, n, 6))
    own = replace(
        system,
        phi=np.tile(system.phi, (n, 1, 1, 1)),
        psi=np.tile(system.psi, (n, 1, 1, 1)),
    )
    value, score = kalman.value_and_score(system, blocks)
    own_value, own_score = kalman.value_and_score(own, blocks)
    assert own_value == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(own_score.phi.sum(axis=0), score.phi, rtol=1e-9, atol=1e-9)


def test_every_client_can_have_matrices_of_their_own() -> None:
    n = LANES + 3
    systems = [random_system(i, 4) for i in range(n)]
    Y = random_scores(11, n, 4)
    first = systems[0]
    own = replace(
        first, phi=np.stack([s.phi for s in systems]), psi=np.stack([s.psi for s in systems])
    )
    each = kalman.loglik_by_client(own, Blocks.pack(Y))
    for i in (0, 5, n - 1):
        alone = replace(first, phi=systems[i].phi, psi=systems[i].psi)
        expected = loglik_by_client(to_wide(Y[i : i + 1]), *implied_moments(alone))[0]
        assert each[i] == pytest.approx(expected, rel=RELATIVE, abs=1e-12)


def test_threads_change_nothing() -> None:
    system = random_system(3, 4)
    many = Blocks.pack(random_scores(12, 2 * kalman.THREADS_FROM * LANES, 4))
    one, by_one = kalman.value_and_score(system, many, threads=1)
    two, by_two = kalman.value_and_score(system, many, threads=2)
    assert two == pytest.approx(one, rel=1e-13)
    np.testing.assert_allclose(by_two.phi, by_one.phi, rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_order_of_clients_does_not_matter(seed: int) -> None:
    system = random_system(seed, 4)
    Y = random_scores(seed, 25, 4)
    shuffled = np.random.default_rng(seed).permutation(len(Y))
    each = kalman.loglik_by_client(system, Blocks.pack(Y))
    again = kalman.loglik_by_client(system, Blocks.pack(Y[shuffled]))
    np.testing.assert_allclose(again, each[shuffled], rtol=1e-12, atol=1e-12)


def test_an_inadmissible_covariance_has_no_likelihood() -> None:
    system = random_system(4, 4)
    bad = replace(system, psi=system.psi - 50.0 * np.eye(2))
    value, _ = kalman.value_and_score(bad, Blocks.pack(random_scores(4, 30, 4)))
    assert not np.isfinite(value)


@pytest.mark.parametrize("seen", [1, 2, 6])
def test_two_negative_variances_are_no_positive_determinant(seen: int) -> None:
    system = random_system(4, 6)
    bad = replace(system, initial_cov=-system.initial_cov)
    Y = np.random.default_rng(5).standard_normal((5, 6, 2))
    Y[:, seen:] = np.nan
    assert np.isnan(kalman.loglik_by_client(bad, Blocks.pack(Y))).all()
    value, _ = kalman.value_and_score(bad, Blocks.pack(Y))
    assert np.isnan(value)


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("riclpm_equal_innov", RICLPM()),
        ("riclpm_free", RICLPM(lags="free", innovations="free")),
        ("clpm_equal", CLPM(innovations="free")),
    ],
)
def test_published_values_away_from_the_maximum(name: str, spec: RICLPM | CLPM) -> None:
    Y, _, _ = panel_scores("crosslagged_missing")
    sessions = tuple(range(1, 9))
    for point in simulated("likelihood_values", name)["points"]:
        system = spec.state_space(point["params"], ("alliance", "symptoms"), sessions)
        each = kalman.loglik_by_client(system, Blocks.pack(Y))
        assert each.sum() == pytest.approx(point["loglik"], rel=RELATIVE)
