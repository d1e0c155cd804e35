"""Exact discretisation and its adjoint against exponentials, quadrature and known forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_files import estimates, simulated
from scipy.linalg import expm, expm_frechet, solve_continuous_lyapunov

from alliancedyn.engine import continuous, doubling
from alliancedyn.errors import DataError, SpecificationError

Array = np.ndarray

EXACT = 1e-13  # relative to the largest entry: both sides round about ||A|| h times
STEP = 1e-30  # of complex derivatives, which have no cancellation

DRIFTS = {
    "stable": [[-0.9, -0.03], [-0.5, -0.7]],
    "oscillating": [[-0.3, -1.1], [0.9, -0.2]],
    "defective": [[-0.6, 0.0], [0.8, -0.6]],
    "nearly defective": [[-0.6, 1e-9], [0.8, -0.6]],
    "zero eigenvalue": [[0.0, 0.0], [-0.4, -0.5]],
    "no drift": [[0.0, 0.0], [0.0, 0.0]],
    "growing": [[0.4, 0.1], [-0.2, -0.3]],
    "nilpotent": [[0.0, 1.0, 2.0], [0.0, 0.0, -1.5], [0.0, 0.0, 0.0]],
    "one series": [[-0.8]],
    "four series": [
        [-1.0, 0.2, 0.0, 0.1],
        [-0.4, -0.7, 0.3, 0.0],
        [0.1, 0.0, -0.2, -0.9],
        [0.0, 0.2, 0.8, -0.3],
    ],
}
GAPS = np.array([0.0, 1e-7, 0.02, 0.3, 1.0, 2.5, 1.0, 8.0])

drifts = pytest.mark.parametrize("name", DRIFTS)


def system(name: str) -> tuple[Array, Array]:
    A = np.array(DRIFTS[name])
    root = np.random.default_rng(3).normal(size=A.shape)
    return A, root @ root.T


def close(actual: Array, expected: Array, tolerance: float = EXACT) -> None:
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0.0, atol=tolerance * scale)


def van_loan(A: Array, Q: Array, gap: float) -> tuple[Array, Array]:
    """Discretise by one exponential of a block matrix; complex input passes through."""
    d = len(A)
    block = expm(gap * np.block([[-A, Q], [np.zeros((d, d)), A.T]]))
    phi = block[d:, d:].T
    return phi, phi @ block[:d, d:]


def quadrature(A: Array, Q: Array, gap: float) -> Array:
    """Integrate expm(A s) Q expm(A s)' by Gauss-Legendre in pieces of at most half a unit."""
    nodes, weights = np.polynomial.legendre.leggauss(16)
    pieces = max(1, math.ceil(2.0 * gap))
    half = 0.5 * gap / pieces
    at = (half * (2.0 * np.arange(pieces)[:, None] + 1.0 + nodes)).ravel()
    phi = expm(at[:, None, None] * A)
    return np.einsum("s,sij,jk,slk->il", np.tile(half * weights, pieces), phi, Q, phi)


def directional(A: Array, Q: Array, gaps: Array, F: Array, P: Array, dA: Array, dQ: Array) -> float:
    """Differentiate sum(F phi) + sum(P psi) along (dA, dQ) by complex steps through the block."""
    total = 0.0
    for m, gap in enumerate(gaps):
        phi, psi = van_loan(A + 1j * STEP * dA, Q + 1j * STEP * dQ, gap)
        total += float(np.sum(F[m] * phi.imag + P[m] * psi.imag)) / STEP
    return total


def slopes(shape: tuple[int, ...], seed: int = 5) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    F, P = rng.normal(size=(2, *shape))
    return F, P + P.swapaxes(-1, -2)


class TestDiscretise:
    @drifts
    def test_lag_matrices_are_exponentials(self, name: str) -> None:
        A, Q = system(name)
        for gap, phi in zip(GAPS, continuous.discretise(A, Q, GAPS)[0], strict=True):
            close(phi, expm(A * gap))

    @drifts
    def test_innovations_agree_with_quadrature(self, name: str) -> None:
        A, Q = system(name)
        for gap, psi in zip(GAPS, continuous.discretise(A, Q, GAPS)[1], strict=True):
            close(psi, quadrature(A, Q, gap))

    @drifts
    def test_innovations_agree_with_the_block_exponential(self, name: str) -> None:
        A, Q = system(name)
        for gap, psi in zip(GAPS, continuous.discretise(A, Q, GAPS)[1], strict=True):
            if gap <= 2.5:  # beyond, exp(-A h) in the block costs the block its digits
                close(psi, van_loan(A, Q, gap)[1])

    def test_no_gap_changes_nothing(self) -> None:
        phi, psi = continuous.discretise(*system("four series"), np.array([0.0, -0.0]))
        np.testing.assert_array_equal(phi, np.broadcast_to(np.eye(4), (2, 4, 4)))
        np.testing.assert_array_equal(psi, np.zeros((2, 4, 4)))

    def test_no_gaps_at_all(self) -> None:
        phi, psi = continuous.discretise(*system("stable"), np.array([]))
        assert phi.shape == psi.shape == (0, 2, 2)

    @pytest.mark.parametrize("gap", [1e-9, 0.01, 1.0, 30.0, 1000.0])
    def test_a_fast_series_costs_a_slow_one_no_digits(self, gap: float) -> None:
        rate = np.array([3000.0, 0.01])
        phi, psi = continuous.discretise(-np.diag(rate), np.diag([2.0, 5.0]), np.array([gap]))
        variance = np.array([2.0, 5.0]) * -np.expm1(-2.0 * rate * gap) / (2.0 * rate)
        np.testing.assert_allclose(np.diag(psi[0]), variance, rtol=1e-14)
        np.testing.assert_allclose(phi[0, 1, 1], math.exp(-0.01 * gap), rtol=1e-14)
        np.testing.assert_allclose(phi[0, 0, 0], math.exp(-3000.0 * gap), rtol=1e-12, atol=1e-15)

    def test_a_process_that_dies_out_keeps_its_digits(self) -> None:
        phi = continuous.discretise(np.array([[-1.0]]), np.eye(1), np.array([40.0]))[0]
        np.testing.assert_allclose(phi[0, 0, 0], math.exp(-40.0), rtol=1e-14)

    def test_units_do_not_matter_to_the_last_bit(self) -> None:
        A, Q = system("stable")
        unit = np.array([2.0**10, 2.0**-3])
        phi, psi = continuous.discretise(A, Q, GAPS)
        scaled = continuous.discretise(A * unit[:, None] / unit, Q * unit[:, None] * unit, GAPS)
        np.testing.assert_array_equal(scaled[0], phi * unit[:, None] / unit)
        np.testing.assert_array_equal(scaled[1], psi * unit[:, None] * unit)

    def test_a_gap_does_not_depend_on_its_company(self) -> None:
        A, Q = system("oscillating")
        gaps = np.random.default_rng(1).uniform(0.0, 20.0, 3000)
        gaps[::3] = gaps[0]
        together = continuous.discretise(A, Q, gaps)
        for m in (0, 1, 2, 3, 1499, 2999):
            alone = continuous.discretise(A, Q, gaps[m : m + 1])
            np.testing.assert_array_equal(together[0][m], alone[0][0])
            np.testing.assert_array_equal(together[1][m], alone[1][0])

    def test_innovations_settle_at_the_stationary_covariance(self) -> None:
        A, Q = system("stable")
        close(continuous.discretise(A, Q, np.array([200.0]))[1][0], solve_lyapunov(A, Q))

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_a_drift_that_is_not_finite_gives_nothing(self, bad: float) -> None:
        A, Q = system("stable")
        A[0, 1] = bad
        F, P = slopes((len(GAPS), 2, 2))
        assert np.isnan(continuous.discretise(A, Q, GAPS)).all()
        assert np.isnan(continuous.discretise_adjoint(A, Q, GAPS, F, P)).all()

    @pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
    def test_impossible_gaps_are_refused(self, bad: float) -> None:
        gaps = np.array([1.0, bad, 2.0, bad])
        F, P = slopes((4, 2, 2))
        with pytest.raises(DataError, match=f"found '{bad}'.*Sort the sessions"):
            continuous.discretise(*system("stable"), gaps)
        with pytest.raises(DataError, match=f"found '{bad}'"):
            continuous.discretise_adjoint(*system("stable"), gaps, F, P)


gap = st.floats(0.0, 6.0)
entry = st.floats(-1.2, 1.2)


@settings(deadline=None)
@given(st.lists(entry, min_size=9, max_size=9), st.lists(entry, min_size=9, max_size=9), gap, gap)
def test_two_gaps_in_a_row_are_their_sum(
    drift: list[float], root: list[float], first: float, second: float
) -> None:
    A, G = np.reshape(drift, (3, 3)), np.reshape(root, (3, 3))
    phi, psi = continuous.discretise(A, G @ G.T, np.array([first, second, first + second]))
    # Growing parts that cancel in the sum leave the rounding of the factors behind.
    size = np.linalg.norm(phi[1]) * np.linalg.norm(phi[0])
    np.testing.assert_allclose(phi[2], phi[1] @ phi[0], rtol=0.0, atol=1e-13 * size + 1e-300)
    chained = psi[1] + phi[1] @ psi[0] @ phi[1].T
    size = np.linalg.norm(psi[1]) + np.linalg.norm(phi[1]) ** 2 * np.linalg.norm(psi[0])
    np.testing.assert_allclose(psi[2], chained, rtol=0.0, atol=1e-13 * size + 1e-300)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 9), max_size=40), st.integers(1, 60))
def test_equal_keys_are_numbered_alike(keys: list[int], copies: int) -> None:
    values = np.array(keys * copies, dtype=np.uint64)
    first, number = doubling.distinct(values)
    np.testing.assert_array_equal(values[first][number], values)
    assert sorted(first) == sorted(np.unique(values, return_index=True)[1])


def test_numbering_holds_when_the_table_grows() -> None:
    values = np.random.default_rng(2).integers(0, 6000, 20_000).astype(float)
    first, number = doubling.distinct(values.view(np.uint64))
    assert len(first) == len(np.unique(values))
    np.testing.assert_array_equal(values[first][number], values)


class TestAdjoint:
    @drifts
    def test_derivatives_agree_with_complex_steps(self, name: str) -> None:
        A, Q = system(name)
        gaps = GAPS[GAPS <= 2.5]
        F, P = slopes((len(gaps), *A.shape))
        by_A, by_Q = continuous.discretise_adjoint(A, Q, gaps, F, P)
        zero = np.zeros_like(A)
        for i in range(len(A)):
            for j in range(len(A)):
                dA, dQ = zero.copy(), zero.copy()
                dA[i, j] = 1.0
                dQ[i, j] += 1.0
                dQ[j, i] += 1.0
                expected = directional(A, Q, gaps, F, P, dA, zero)
                assert by_A[i, j] == pytest.approx(expected, rel=1e-11, abs=1e-11)
                expected = directional(A, Q, gaps, F, P, zero, dQ)
                assert np.sum(by_Q * dQ) == pytest.approx(expected, rel=1e-11, abs=1e-11)

    @drifts
    def test_the_exponential_alone_agrees_with_its_frechet_derivative(self, name: str) -> None:
        A, Q = system(name)
        F = slopes((1, *A.shape))[0]
        dA = slopes(A.shape, seed=6)[0]
        for gap in GAPS:
            by_A, by_Q = continuous.discretise_adjoint(A, Q, np.array([gap]), F, 0.0 * F)
            change = expm_frechet(A * gap, dA * gap, compute_expm=False)
            scale = np.linalg.norm(change) * np.linalg.norm(F)
            assert np.sum(by_A * dA) == pytest.approx(np.sum(F[0] * change), abs=1e-12 * scale)
            assert not by_Q.any()

    def test_derivatives_agree_with_differences_at_long_gaps(self) -> None:
        A, Q = system("stable")
        gaps = np.array([4.0, 9.0, 26.0, 52.0])
        F, P = slopes((4, 2, 2))
        dA, dQ = slopes((2, 2), seed=7)
        by_A, by_Q = continuous.discretise_adjoint(A, Q, gaps, F, P)

        def value(step: float) -> float:
            phi, psi = continuous.discretise(A + step * dA, Q + step * dQ, gaps)
            return float(np.sum(F * phi) + np.sum(P * psi))

        expected = richardson(value, 0.004)
        assert np.sum(by_A * dA) + np.sum(by_Q * dQ) == pytest.approx(expected, rel=1e-9)

    def test_only_the_symmetric_part_of_by_psi_counts(self) -> None:
        A, Q = system("four series")
        F, P = slopes((len(GAPS), 4, 4))
        skew = np.triu(np.ones((4, 4))) - np.tril(np.ones((4, 4)))
        expected = continuous.discretise_adjoint(A, Q, GAPS, F, P)
        by_A, by_Q = continuous.discretise_adjoint(A, Q, GAPS, F, P + skew)
        close(by_A, expected[0])
        close(by_Q, expected[1])
        np.testing.assert_array_equal(by_Q, by_Q.T)

    def test_each_client_gets_the_derivatives_of_its_own_gaps(self) -> None:
        A, Q = system("oscillating")
        rng = np.random.default_rng(8)
        gaps = rng.choice([0.0, 0.5, 1.0, 3.0, 7.5], 400)
        gaps[:100] = rng.uniform(0.0, 9.0, 100)
        owner = rng.permutation(np.arange(400) % 30)
        F, P = slopes((400, 2, 2))
        by_A, by_Q = continuous.discretise_adjoint(A, Q, gaps, F, P, owner, owners=31)
        assert by_A.shape == by_Q.shape == (31, 2, 2)
        assert not by_A[30].any()
        assert not by_Q[30].any()
        for client in range(30):
            own = owner == client
            alone = continuous.discretise_adjoint(A, Q, gaps[own], F[own], P[own])
            close(by_A[client], alone[0])
            close(by_Q[client], alone[1])
        pooled = continuous.discretise_adjoint(A, Q, gaps, F, P)
        close(by_A.sum(0), pooled[0], 1e-12)
        close(by_Q.sum(0), pooled[1], 1e-12)

    def test_owners_are_counted_when_not_given(self) -> None:
        F, P = slopes((3, 2, 2))
        owner = np.array([0, 4, 4], dtype=np.int32)
        by_A = continuous.discretise_adjoint(*system("stable"), GAPS[3:6], F, P, owner)[0]
        assert by_A.shape == (5, 2, 2)

    @pytest.mark.parametrize("owner", [[0, 1, 2], [0, -1, 1]])
    def test_an_owner_outside_the_clients_is_refused(self, owner: list[int]) -> None:
        F, P = slopes((3, 2, 2))
        with pytest.raises(SpecificationError, match=r"must be 0 to 1.*how many there are"):
            continuous.discretise_adjoint(
                *system("stable"), GAPS[3:6], F, P, np.array(owner), owners=2
            )


def richardson(value: Callable[[float], float], step: float) -> float:
    """Differentiate at 0 by central differences, extrapolated twice."""
    coarse, middle, fine = (
        (value(h) - value(-h)) / (2.0 * h) for h in (step, step / 2.0, step / 4.0)
    )
    return (coarse - 20.0 * middle + 64.0 * fine) / 45.0


def solve_lyapunov(A: Array, Q: Array) -> Array:
    return np.asarray(solve_continuous_lyapunov(A, -Q))


STABLE = ("stable", "oscillating", "defective", "one series", "four series")


class TestStationary:
    @pytest.mark.parametrize("name", STABLE)
    def test_agrees_with_scipy(self, name: str) -> None:
        A, Q = system(name)
        close(continuous.stationary_cov(A, Q), solve_lyapunov(A, Q))

    @pytest.mark.parametrize("name", STABLE)
    def test_every_gap_leaves_it_as_it_is(self, name: str) -> None:
        A, Q = system(name)
        P = continuous.stationary_cov(A, Q)
        phi, psi = continuous.discretise(A, Q, GAPS)
        close(phi @ P @ phi.swapaxes(1, 2) + psi, np.broadcast_to(P, psi.shape))

    def test_batches_broadcast(self) -> None:
        drifts = np.stack([system(name)[0] for name in ("stable", "oscillating", "defective")])
        Q = np.stack([system("stable")[1], np.eye(2)])
        P = continuous.stationary_cov(drifts[:, None], Q)
        assert P.shape == (3, 2, 2, 2)
        for a in range(3):
            for q in range(2):
                close(P[a, q], solve_lyapunov(drifts[a], Q[q]))
        close(continuous.stationary_cov(drifts, np.eye(2))[1], P[1, 1])

    def test_complex_steps_go_through(self) -> None:
        A, Q = system("four series")
        dA, dQ = slopes((4, 4))
        moved = continuous.stationary_cov(A + 1j * STEP * dA, Q + 1j * STEP * dQ)
        # The derivative solves the same equation with the change on the right.
        P = solve_lyapunov(A, Q)
        close(moved.imag / STEP, solve_lyapunov(A, dQ + dA @ P + P @ dA.T), 1e-12)
        close(moved.real, P)

    @pytest.mark.parametrize(
        ("name", "shown"),
        [("growing", r"0\.3\d+, whose"), ("zero eigenvalue", "eigenvalue 0, whose")],
    )
    def test_a_drift_that_does_not_settle_is_refused(self, name: str, shown: str) -> None:
        with pytest.raises(SpecificationError, match=rf'{shown}.*initial="free"'):
            continuous.stationary_cov(*system(name))

    def test_a_growing_swing_is_named_in_a_batch(self) -> None:
        drifts = np.array([[[-1.0, 0.0], [0.0, -1.0]], [[0.25, -2.0], [2.0, 0.25]]])
        with pytest.raises(SpecificationError, match=r"0\.25 ± 2i"):
            continuous.stationary_cov(drifts, np.eye(2))


class TestStartValues:
    @pytest.mark.parametrize("name", STABLE)
    def test_the_logarithm_returns_the_drift(self, name: str) -> None:
        A = system(name)[0]
        close(continuous.drift_from_lags(expm(A * 1.5), 1.5), A, 1e-7)

    @pytest.mark.parametrize(
        "phi",
        [
            [[0.4, 0.1], [0.2, -0.3]],  # a negative eigenvalue
            [[0.5, 0.5], [0.5, 0.5]],  # a zero one
            [[-0.4, 0.0], [0.0, -0.4]],  # two equal negative ones
            [[1.1, 0.0], [-0.3, 0.4]],  # a growing process
            [[0.0, 0.0], [0.0, 0.0]],
        ],
    )
    def test_otherwise_the_start_is_stable_and_diagonal(self, phi: list[list[float]]) -> None:
        drift = continuous.drift_from_lags(np.array(phi), 2.0)
        own = np.exp(2.0 * np.diag(drift))
        np.testing.assert_allclose(own, np.clip(np.diag(phi), 0.01, 0.95))
        np.testing.assert_array_equal(drift, np.diag(np.diag(drift)))
        assert np.all(np.diag(drift) < 0.0)


class TestDescription:
    def test_real_eigenvalues_slowest_first(self) -> None:
        fast_first = np.array([[-2.0, 0.0], [0.7, -0.5]])
        slow, fast = continuous.describe_drift(fast_first)
        assert (slow.value, fast.value) == (-0.5, -2.0)
        assert slow.half_life == pytest.approx(2.0 * math.log(2.0))
        assert math.exp(fast.value.real * fast.half_life) == pytest.approx(0.5)
        assert slow.period == math.inf

    def test_swings_have_a_period(self) -> None:
        up, down = continuous.describe_drift(np.array([[-0.1, -3.0], [3.0, -0.1]]))
        assert up.value == pytest.approx(-0.1 + 3.0j)
        assert down.value == up.value.conjugate()
        assert up.period == down.period == pytest.approx(2.0 * math.pi / 3.0)
        assert up.half_life == pytest.approx(math.log(2.0) / 0.1)

    def test_what_does_not_fade_has_no_half_life(self) -> None:
        modes = continuous.describe_drift(np.diag([-1.0, 0.2, 0.0]))
        assert [mode.value.real for mode in modes] == [0.2, 0.0, -1.0]
        assert [mode.half_life for mode in modes[:2]] == [math.inf, math.inf]


class TestPeakLag:
    def test_two_series_at_different_rates(self) -> None:
        A = np.array([[-0.9, 0.0], [-0.5, -0.7]])
        lag, effect = continuous.peak_lag(A, 1, 0)
        assert lag == pytest.approx(math.log(0.9 / 0.7) / 0.2, rel=1e-13)
        assert effect == pytest.approx(-0.5 * (math.exp(-0.7 * lag) - math.exp(-0.9 * lag)) / 0.2)

    def test_two_series_at_one_rate(self) -> None:
        lag, effect = continuous.peak_lag(np.array([[-0.6, 0.0], [0.8, -0.6]]), 1, 0)
        assert (lag, effect) == pytest.approx((1.0 / 0.6, 0.8 / 0.6 / math.e))

    def test_a_swing_peaks_in_its_first_quarter(self) -> None:
        lag, effect = continuous.peak_lag(np.array([[-0.1, -3.0], [3.0, -0.1]]), 1, 0)
        assert lag == pytest.approx(math.atan2(3.0, 0.1) / 3.0, rel=1e-13)
        assert effect == pytest.approx(math.exp(-0.1 * lag) * math.sin(3.0 * lag))

    @pytest.mark.parametrize("slow", [1e-3, 1e-12])
    def test_a_slow_eigenvalue_near_zero(self, slow: float) -> None:
        lag = continuous.peak_lag(np.array([[-1.0, 0.0], [0.3, -slow]]), 1, 0)[0]
        assert lag == pytest.approx(-math.log(slow) / (1.0 - slow), rel=1e-12)

    @settings(deadline=None)
    @given(*(st.floats(-1.5, -0.1),) * 2, *(st.floats(0.05, 1.2),) * 2, st.sampled_from((-1, 1)))
    def test_search_and_closed_form_agree(
        self, own: float, other: float, forth: float, back: float, sign: int
    ) -> None:
        A = np.array([[own, sign * back], [forth, other]])
        if np.linalg.eigvals(A).real.max() > -0.02:
            return
        wide = -np.eye(3)  # a third series without ties sends the same two through the search
        wide[:2, :2] = A
        lag, effect = continuous.peak_lag(A, 1, 0)
        searched = continuous.peak_lag(wide, 1, 0)
        assert searched[1] == pytest.approx(effect, rel=1e-12)
        assert searched[0] == pytest.approx(lag, rel=1e-6)

    def test_a_path_through_a_third_series(self) -> None:
        chain = np.array([[-1.0, 0.0, 0.0], [1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])
        assert continuous.peak_lag(chain, 2, 0) == pytest.approx((2.0, 2.0 * math.exp(-2.0)))

    def test_no_path_no_lag(self) -> None:
        chain = np.array([[-1.0, 0.0, 0.0], [1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])
        lag, effect = continuous.peak_lag(chain, 0, 2)
        assert math.isnan(lag)
        assert effect == 0.0

    def test_on_itself_a_series_is_strongest_at_once(self) -> None:
        assert continuous.peak_lag(system("stable")[0], 1, 1) == (0.0, 1.0)

    def test_beating_swings_against_a_dense_grid(self) -> None:
        swings = np.zeros((4, 4))
        swings[:2, :2] = [[-0.02, -5.0], [5.0, -0.02]]
        swings[2:, 2:] = [[-0.02, -5.6], [5.6, -0.02]]
        mix = np.random.default_rng(4).normal(size=(4, 4))
        A = mix @ swings @ np.linalg.inv(mix)
        grid = np.linspace(0.0, 60.0, 600_001)
        effects = continuous.discretise(A, np.eye(4), grid)[0]
        for i, j in ((0, 1), (2, 0), (3, 2)):
            best = int(np.abs(effects[:, i, j]).argmax())
            lag, effect = continuous.peak_lag(A, i, j)
            assert lag == pytest.approx(grid[best], abs=1e-4)
            assert effect == pytest.approx(effects[best, i, j], rel=1e-6)

    def test_an_unstable_drift_has_no_peak(self) -> None:
        with pytest.raises(SpecificationError, match="eigenvalue 0"):
            continuous.peak_lag(system("zero eigenvalue")[0], 1, 0)


class TestReference:
    """The program's own figures at the maximum, which it rounds to about 15 digits."""

    @pytest.mark.parametrize("initial", ["free", "stationary"])
    @pytest.mark.parametrize("traits", ["traits", "notraits"])
    def test_a_week_apart(self, traits: str, initial: str) -> None:
        peer = simulated("continuous_time", f"ml_{traits}_{initial}")
        value = estimates(peer)
        pair = ("alliance", "symptoms")
        A = np.array([[value[f"drift[{i},{j}]"] for j in pair] for i in pair])
        Q = np.array(
            [[value[f"diffusion_cov[{min(i, j)},{max(i, j)}]"] for j in pair] for i in pair]
        )
        phi, psi = continuous.discretise(A, Q, np.array([1.0]))
        close(phi[0], np.array(peer["transition_over_7_days"]))
        close(psi[0], np.array(peer["innovation_cov_over_7_days"]))
        modes = sorted(mode.value.real for mode in continuous.describe_drift(A))
        assert modes == pytest.approx(sorted(real for real, _ in peer["drift_eigenvalues"]))
