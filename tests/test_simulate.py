"""Simulated panels against what theory says they must look like, within four Monte Carlo errors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alliancedyn.engine import var
from alliancedyn.errors import SpecificationError
from alliancedyn.simulate import (
    Dropout,
    Dynamics,
    Gaps,
    GrowthCurve,
    Therapists,
    simulate,
    simulate_scores,
)
from alliancedyn.simulate.arguments import factor
from alliancedyn.simulate.observe import drive, hide_scores, last_sessions
from alliancedyn.simulate.random_effects import OwnEffects
from alliancedyn.simulate.scores import settled_cov

MC_ERRORS = 4


def world(**changes):
    options = {
        "phi": [[0.36, -0.05], [-0.12, 0.45]],
        "innovation_cov": [[1, -0.25], [-0.25, 1]],
        "between_cov": [[1.0, -0.3], [-0.3, 1.5]],
        "mean": (3.0, 10.0),
    }
    return Dynamics(**(options | changes))


def any_world(seed):
    """Draw lags, innovations, between differences and reliabilities from the whole range."""
    rng = np.random.default_rng(seed)
    phi = rng.uniform(-0.7, 0.7, (2, 2))
    phi *= min(1.0, 0.9 / np.abs(np.linalg.eigvals(phi)).max())
    innovation, between = np.tril(rng.uniform(-2, 2, (2, 2, 2)))
    return world(
        phi=phi,
        innovation_cov=innovation @ innovation.T,
        between_cov=between @ between.T,
        reliability=rng.uniform(0.3, 1, 2),
    )


def scores(truth, clients, sessions, seed=1, **options):
    return simulate_scores(truth, clients, sessions, np.random.default_rng(seed), **options)


def assert_moments(Y, mean, cov):
    """Sample mean and covariance of (N, p) normal rows lie within four Monte Carlo errors."""
    n = len(Y)
    mean_error = np.sqrt(np.diag(cov) / n)
    assert np.all(np.abs(Y.mean(axis=0) - mean) <= MC_ERRORS * mean_error + 1e-12)
    variances = np.diag(cov)
    cov_error = np.sqrt((np.outer(variances, variances) + cov**2) / n)
    assert np.all(np.abs(np.cov(Y.T) - cov) <= MC_ERRORS * cov_error + 1e-9)


class TestScores:
    @settings(max_examples=12, deadline=None, derandomize=True)
    @given(seed=st.integers(0, 10**6))
    def test_moments_are_the_analytic_ones(self, seed):
        truth = any_world(seed)
        Y = scores(truth, 4000, 4)
        assert_moments(Y.reshape(4000, -1), *truth.moments(4))

    @pytest.mark.parametrize("shape", ["linear", "log", "exponential"])
    def test_moments_with_growth(self, shape):
        trend = GrowthCurve(
            slope=(0.2, -1.0),
            shape=shape,
            slope_cov=[[0.1, -0.1], [-0.1, 0.8]],
            intercept_slope_cov=[[0.05, -0.1], [0.02, -0.3]],
        )
        truth = world(trend=trend, reliability=(0.9, 0.7))
        Y = scores(truth, 20000, 5)
        assert_moments(Y.reshape(20000, -1), *truth.moments(5))

    def test_session_means_without_client_slopes(self):
        rows = [[0, 0], [0.5, -2], [0.6, -3]]
        truth = world(trend=GrowthCurve(shape="sessions", means=rows))
        Y = scores(truth, 20000, 3)
        assert_moments(Y.reshape(20000, -1), *truth.moments(3))

    def test_start_elsewhere_follows_its_covariance_path(self):
        truth, start = world(between_cov=None), np.array([[4.0, 1.0], [1.0, 0.5]])
        Y = scores(truth, 20000, 3, start=start)
        path = var.covariance_path(
            np.stack([truth.phi] * 2), np.stack([truth.innovation_cov] * 2), start
        )
        for t in range(3):
            assert_moments(Y[:, t], truth.mean, path[t])

    def test_singular_covariances_are_simulated_exactly(self):
        truth = world(
            between_cov=[[1, -2], [-2, 4]], innovation_cov=[[0, 0], [0, 1]], phi=0.3 * np.eye(2)
        )
        Y = scores(truth, 50, 6)
        np.testing.assert_allclose(Y[:, :, 0], Y[:, :1, 0] * np.ones(6))

    def test_factor_reproduces_the_covariance(self):
        rng = np.random.default_rng(3)
        root = rng.standard_normal((5, 4, 2))
        cov = root @ root.swapaxes(1, 2)  # rank 2 of 4
        lower = factor(cov)
        np.testing.assert_allclose(lower @ lower.swapaxes(1, 2), cov, atol=1e-7)
        assert np.all(np.triu(lower, 1) == 0.0)

    def test_three_series(self):
        truth = Dynamics(
            phi=0.3 * np.eye(3) + 0.1,
            innovation_cov=np.eye(3),
            between_cov=np.eye(3) + 0.2,
            variables=("alliance", "insight", "symptoms"),
        )
        Y = scores(truth, 20000, 3)
        assert_moments(Y.reshape(20000, -1), *truth.moments(3))


def client_lags(truth, clients, seed=2):
    """Draw clients' own lags as `simulate_scores` does."""
    levels, lags = np.random.default_rng(seed).spawn(2)
    return OwnEffects(truth, clients, levels).lags(lags)


class TestClientLags:
    def test_every_client_is_stationary_and_the_spread_is_right(self):
        truth = world(phi_sd=[[0.1, 0.05], [0.08, 0.12]])
        phi = client_lags(truth, 20000)
        assert np.abs(np.linalg.eigvals(phi)).max() < 1.0
        error = truth.phi_sd / np.sqrt(20000)
        assert np.all(np.abs(phi.mean(axis=0) - truth.phi) < MC_ERRORS * error)
        assert np.all(np.abs(phi.std(axis=0) - truth.phi_sd) < MC_ERRORS * error)

    def test_large_spread_is_truncated_to_stationary_clients(self):
        truth = world(phi=0.5 * np.eye(2), phi_sd=np.diag([0.6, 0.0]))
        own = client_lags(truth, 20000)[:, 0, 0]
        assert np.abs(own).max() < 1.0
        # Mean of N(.5, .6) truncated to (-1, 1), from the textbook formula.
        from scipy.stats import truncnorm

        theory = truncnorm((-1 - 0.5) / 0.6, (1 - 0.5) / 0.6, loc=0.5, scale=0.6)
        assert abs(own.mean() - theory.mean()) < MC_ERRORS * theory.std() / np.sqrt(20000)

    def test_each_client_starts_in_its_own_stationary_distribution(self):
        truth = world(phi_sd=np.full((2, 2), 0.2))
        phi = client_lags(truth, 50)
        ours = settled_cov(phi, truth.innovation_cov)
        for client, cov in zip(phi, ours, strict=True):
            np.testing.assert_allclose(
                cov, var.stationary_cov(client, truth.innovation_cov), rtol=1e-8
            )

    def test_scores_keep_their_variance_over_sessions(self):
        truth = world(phi_sd=np.full((2, 2), 0.15), between_cov=None)
        Y = scores(truth, 40000, 6)
        spread = Y.var(axis=0)
        np.testing.assert_allclose(spread[-1], spread[0], rtol=0.06)

    def test_no_spread_is_the_common_lag(self):
        plain = scores(world(), 100, 5)
        zero = scores(world(phi_sd=np.zeros((2, 2))), 100, 5)
        np.testing.assert_allclose(zero, plain, atol=1e-8)

    def test_absurd_spread_is_refused(self):
        truth = world(phi_sd=np.full((2, 2), 1e6))
        with pytest.raises(SpecificationError, match="phi_sd is too large"):
            scores(truth, 5, 3)


class TestReliability:
    def test_share_of_the_within_variance(self):
        truth = world(between_cov=None, reliability=(0.9, 0.6))
        Y = scores(truth, 40000, 2)
        total = Y.var(axis=(0, 1))
        share = np.diag(truth.within_cov) / total
        np.testing.assert_allclose(share, [0.9, 0.6], atol=0.015)

    @pytest.mark.parametrize(
        ("reliability", "autoregression", "forward"),
        [
            (1.0, 0.450, -0.120),
            (0.9, 0.406, -0.115),
            (0.8, 0.361, -0.109),
            (0.7, 0.317, -0.101),
            (0.6, 0.273, -0.091),
            (0.5, 0.228, -0.080),
        ],
    )
    def test_error_attenuates_the_lags_as_known(self, reliability, autoregression, forward):
        """Figures of an independent computation of the population regression, three decimals."""
        truth = Dynamics.time_ordered(0.35, 0.45, -0.12, -0.10, reliability=reliability)
        _, cov = truth.moments(2)
        lagged = cov[2:, :2] @ np.linalg.inv(cov[:2, :2])
        assert lagged[1, 1] == pytest.approx(autoregression, abs=6e-4)
        assert lagged[1, 0] == pytest.approx(forward, abs=6e-4)

    def test_adding_error_leaves_the_scores_beneath(self):
        exact = scores(world(), 2000, 4)
        noise = scores(world(reliability=0.8), 2000, 4) - exact
        flat = noise.reshape(2000, -1)
        variance = np.tile(world(reliability=0.8).measurement_var, 4)
        assert_moments(flat, np.zeros(8), np.diag(variance))


class TestGaps:
    def test_dates_are_the_gaps(self):
        panel = simulate(
            world(), 500, 6, gaps=Gaps(weeks=(1, 2, 4), weights=(0.6, 0.25, 0.15)), seed=3
        )
        days = panel.arrays().days
        assert np.all(days[:, 0] == 0)
        weeks = np.diff(days, axis=1) / 7
        assert set(np.unique(weeks)) == {1.0, 2.0, 4.0}
        share = (weeks == 2).mean()
        assert abs(share - 0.25) < MC_ERRORS * np.sqrt(0.25 * 0.75 / weeks.size)

    def test_per_session_dynamics_do_not_see_the_gaps(self):
        plain = simulate(world(), 50, 6, seed=3).arrays().Y
        dated = simulate(world(), 50, 6, gaps=Gaps(weeks=(1, 4)), seed=3).arrays().Y
        np.testing.assert_array_equal(plain, dated)

    def test_per_week_dynamics_run_through_the_gaps(self):
        truth = world(between_cov=None, mean=None)
        gaps = Gaps(weeks=(1, 2, 4), weights=(0.6, 0.25, 0.15), per="week")
        weeks = gaps.draw(40000, 2, np.random.default_rng(4)).astype(int)
        Y = scores(truth, 40000, 2, steps=weeks)
        for gap in (1, 2, 4):
            rows = Y[weeks[:, 1] == gap]
            lag = np.linalg.matrix_power(truth.phi, gap) @ truth.within_cov
            cov = np.block([[truth.within_cov, lag.T], [lag, truth.within_cov]])
            assert_moments(rows.reshape(len(rows), -1), np.zeros(4), cov)

    def test_treating_weekly_gaps_as_equal_shrinks_the_autoregression(self):
        """Autoregressions of .40 with gaps of 1/2/4 weeks (60/25/15 %) look like about .29."""
        truth = world(
            phi=[[0.35, -0.10], [-0.15, 0.40]],
            innovation_cov=[[1, -0.3], [-0.3, 1]],
            between_cov=None,
        )
        gaps = Gaps(weeks=(1, 2, 4), weights=(0.6, 0.25, 0.15), per="week")
        Y = simulate(truth, 20000, 4, gaps=gaps, seed=1).arrays().Y - np.array([3.0, 10.0])
        past, now = Y[:, :-1].reshape(-1, 2), Y[:, 1:].reshape(-1, 2)
        lags = np.linalg.lstsq(past, now, rcond=None)[0].T
        assert lags[1, 1] == pytest.approx(0.29, abs=0.015)


class TestTherapists:
    def test_variance_between_therapists(self):
        cov = np.array([[0.6, -0.2], [-0.2, 0.4]])
        truth = world()
        panel = simulate(truth, 20000, 2, therapists=Therapists(400, cov), seed=5)
        frame = panel.frame
        means = frame.groupby("therapist")[["alliance", "symptoms"]].mean()
        assert len(means) == 400
        sampling = (truth.between_cov + truth.within_cov) / 50
        observed = np.cov(means.T)
        error = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / 400)
        assert np.all(np.abs(observed - cov) < MC_ERRORS * error + np.abs(sampling))

    def test_they_only_shift_a_clients_level(self):
        plain = simulate(world(), 60, 5, seed=3).arrays().Y
        panel = simulate(world(), 60, 5, therapists=Therapists(6, np.eye(2)), seed=3)
        shift = panel.arrays().Y - plain
        np.testing.assert_allclose(shift, shift[:, :1] * np.ones((1, 5, 1)), atol=1e-12)
        codes = panel.arrays().therapist
        for code in np.unique(codes):
            np.testing.assert_allclose(np.ptp(shift[codes == code, 0], axis=0), 0, atol=1e-12)


RULES = ["random", "unwell", "well_enough", "improving"]


class TestDropout:
    @pytest.mark.parametrize("rule", RULES)
    @pytest.mark.parametrize(("rate", "missing"), [(0.3, 0.0), (0.3, 0.2), (0.75, 0.1)])
    def test_share_who_leave_is_the_rate(self, rule, rate, missing):
        panel = simulate(
            world(), 10000, 8, missing=missing, dropout=Dropout(rule, rate=rate), seed=6
        )
        last = panel.frame.groupby("client")["session"].max()
        error = np.sqrt(rate * (1 - rate) / 10000)
        assert abs((last < 8).mean() - rate) < MC_ERRORS * error
        assert last.min() == 3
        assert set(last) == set(range(3, 9))

    @pytest.mark.parametrize("rule", RULES[1:])
    def test_who_leaves(self, rule):
        Y = scores(world(), 10000, 6)[:, :, 1]
        last = last_sessions(Y, Dropout(rule, rate=0.4, first=2), np.random.default_rng(1))
        gone, stay = last == 2, last > 2
        before, now = Y[:, 0], Y[:, 1]
        x = {"unwell": now, "well_enough": -now, "improving": before - now}[rule]
        error = x.std() * np.sqrt(1 / gone.sum() + 1 / stay.sum())
        assert x[gone].mean() - x[stay].mean() > MC_ERRORS * error

    def test_well_enough_ignores_differences_above_the_level(self):
        Y = np.array([[12.0, 15.0, 20.0], [9.0, 11.0, 30.0], [8.0, 7.0, 6.0], [9.0, 9.5, 6.0]])
        push = drive(Y, Dropout("well_enough", first=1, level=10.0))
        assert push[0].tolist() == [0.0, 0.0]
        assert push[1, 1] == 0.0
        assert push[2, 1] > push[2, 0] > push[3, 1] > 0.0

    def test_completely_at_random_is_unrelated_to_the_scores(self):
        Y = scores(world(), 20000, 6)[:, :, 1]
        last = last_sessions(Y, Dropout(rate=0.4, first=1), np.random.default_rng(1))
        r = np.corrcoef(last, Y.mean(axis=1))[0, 1]
        assert abs(r) < MC_ERRORS / np.sqrt(20000)

    @pytest.mark.parametrize("rule", RULES)
    def test_the_future_does_not_matter(self, rule):
        """Shuffling later scores over clients leaves every earlier push as it was."""
        Y = hide_scores(scores(world(), 300, 7)[:, :, 1], 0.2, np.random.default_rng(2))
        turned = Y.copy()
        turned[:, 5:] = np.random.default_rng(3).permutation(Y[:, 5:])
        dropout = Dropout(rule, first=2)
        np.testing.assert_allclose(drive(turned, dropout)[:, :4], drive(Y, dropout)[:, :4])

    def test_only_observed_scores_are_looked_at(self):
        Y = np.array([[5.0, np.nan, np.nan, 1.0], [np.nan, np.nan, 3.0, 3.0], [2.0, 4.0, 1.0, 0.0]])
        spread = np.nanstd(Y)
        push = drive(Y, Dropout("improving", first=1)) * spread
        np.testing.assert_allclose(push, [[0, 0, 0], [0, 0, 0], [0, -2, 3]])
        push = drive(Y, Dropout("unwell", first=1)) * spread + np.nanmean(Y)
        np.testing.assert_allclose(push[0], [5, 5, 5])
        np.testing.assert_allclose(push[1], [np.nanmean(Y), np.nanmean(Y), 3])

    def test_rate_zero_and_constant_scores(self):
        Y = np.ones((1000, 5))
        rng = np.random.default_rng(1)
        assert np.all(last_sessions(Y, Dropout("unwell", rate=0.0), rng) == 5)
        last = last_sessions(Y, Dropout("unwell", rate=0.5), rng)
        assert abs((last < 5).mean() - 0.5) < MC_ERRORS * np.sqrt(0.25 / 1000)
        last = last_sessions(np.full((1000, 5), np.nan), Dropout("improving", rate=0.5), rng)
        assert abs((last < 5).mean() - 0.5) < MC_ERRORS * np.sqrt(0.25 / 1000)

    def test_leaving_when_well_enough_hides_improvement_from_completers(self):
        trend = GrowthCurve(slope=(0, -0.2), slope_cov=[[0, 0], [0, 0.05]])
        truth = world(trend=trend)
        panel = simulate(truth, 20000, 10, dropout=Dropout("well_enough", rate=0.5), seed=1)
        Y = panel.arrays().Y[:, :, 1]
        complete = np.isfinite(Y).all(axis=1)
        change = (Y[complete, -1] - Y[complete, 0]).mean()
        assert change > -1.8 + 0.3  # true mean change is -1.8


class TestMissing:
    def test_share_of_single_scores(self):
        Y = simulate(world(), 5000, 6, missing=0.1, seed=2).arrays().Y
        hidden = np.isnan(Y)
        error = np.sqrt(0.1 * 0.9 / hidden.size)
        assert abs(hidden.mean() - 0.1) < MC_ERRORS * error
        both = hidden.all(axis=2).mean()
        assert abs(both - 0.01) < MC_ERRORS * np.sqrt(0.01 * 0.99 / hidden[:, :, 0].size)

    def test_rows_stay_where_everything_is_missing(self):
        panel = simulate(world(), 200, 6, missing=0.5, seed=2)
        assert len(panel.frame) == 1200


class TestCeiling:
    def test_scores_stop_there(self):
        free = simulate(world(), 300, 5, seed=2).arrays().Y
        capped = simulate(world(), 300, 5, ceiling={"alliance": 3.5}, seed=2).arrays().Y
        np.testing.assert_array_equal(capped[:, :, 0], np.minimum(free[:, :, 0], 3.5))
        np.testing.assert_array_equal(capped[:, :, 1], free[:, :, 1])
        assert (capped[:, :, 0] == 3.5).mean() > 0.1


class TestSeeds:
    def test_same_seed_same_panel_and_none_is_new(self):
        frames = [
            simulate(world(), 20, 4, missing=0.1, seed=seed).frame for seed in (7, 7, 8, None)
        ]
        assert frames[0].equals(frames[1])
        assert not frames[0].equals(frames[2])
        assert not frames[0].equals(simulate(world(), 20, 4, missing=0.1).frame)

    def test_a_seed_sequence_may_be_used_twice(self):
        sequence = np.random.SeedSequence(7)
        first = simulate(world(), 20, 4, seed=sequence).frame
        assert first.equals(simulate(world(), 20, 4, seed=sequence).frame)
        assert first.equals(simulate(world(), 20, 4, seed=7).frame)
        child = sequence.spawn(2)[1]
        assert not first.equals(simulate(world(), 20, 4, seed=child).frame)

    def test_what_is_hidden_does_not_change_what_is_seen(self):
        whole = simulate(world(), 100, 6, seed=7).arrays().Y
        options = {"missing": 0.2, "dropout": Dropout("unwell")}
        seen = simulate(world(), 100, 6, seed=7, **options).arrays().Y
        there = np.isfinite(seen)
        assert 0.4 < there.mean() < 0.85
        np.testing.assert_array_equal(seen[there], whole[there])

    def test_more_sessions_continue_the_same_clients(self):
        short = simulate(world(), 50, 4, seed=7).arrays().Y
        long = simulate(world(), 50, 9, seed=7).arrays().Y
        np.testing.assert_array_equal(long[:, :4], short)

    def test_the_global_generator_is_left_alone(self):
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        simulate(world(), 20, 4, missing=0.1, dropout=Dropout(first=2), seed=1)
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002

    def test_numbers_are_the_same_on_every_platform(self):
        Y = simulate(world(reliability=0.9), 2, 2, seed=42).arrays().Y
        np.testing.assert_allclose(Y.ravel(), GOLDEN, rtol=1e-12)


# Recorded from NumPy 2.4 on Linux; NumPy promises these streams on every platform.
GOLDEN = [
    0.027584643635688355,
    14.757861771716493,
    1.5153279621763913,
    13.4133112464117,
    3.1251398693104226,
    9.328883148860216,
    2.9290237988340726,
    8.99380889180335,
]


class TestPanel:
    def test_what_the_panel_knows(self):
        truth = world()
        panel = simulate(truth, 120, 5, seed=1)
        assert panel.truth == truth
        assert panel.n_clients == 120
        assert list(panel.sessions) == [1, 2, 3, 4, 5]
        assert panel.variables == ("alliance", "symptoms")
        assert (panel.process, panel.outcome) == ("alliance", "symptoms")
        assert dict(panel.timing) == {"alliance": "after", "symptoms": "before"}
        assert panel.frame["client"].iloc[0] == "C001"
        assert "day" not in panel.frame
        assert "therapist" not in panel.frame

    def test_other_names_and_unknown_timing(self):
        truth = world(variables=("credibility", "distress"))
        panel = simulate(truth, 20, 4, dropout=Dropout("unwell", variable="credibility"), seed=1)
        assert (panel.process, panel.outcome) == ("credibility", "distress")
        assert dict(panel.timing) == {}

    def test_one_client(self):
        panel = simulate(world(), 1, 2, therapists=Therapists(1, np.eye(2)), gaps=Gaps(), seed=1)
        assert panel.n_clients == 1
        assert len(panel.frame) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clients": 0}, "clients is 0; give a whole number from 1"),
        ({"clients": 10.5}, "whole number"),
        ({"clients": True}, "whole number"),
        ({"sessions": 1}, "sessions must be at least 2"),
        ({"sessions": 401}, "at most 400"),
        ({"missing": 1.0}, "missing must be at least 0 and below 1"),
        ({"missing": 10}, "share, not a percentage"),
        ({"missing": -0.1}, "missing must be"),
        ({"missing": "some"}, "missing is 'some'; give a finite number"),
        ({"dropout": Dropout(first=6)}, "Nobody can leave"),
        ({"dropout": Dropout(variable="mood")}, "'mood', which is not among"),
        ({"ceiling": {"mood": 7}}, "ceiling names 'mood'"),
        ({"ceiling": {"alliance": np.nan}}, "nan}; give a dict"),
        ({"ceiling": 7.0}, "ceiling is 7.0; give a dict"),
        ({"therapists": Therapists(5, [[1.0]])}, "therapist covariance has shape"),
        ({"start": "zero"}, "'zero' is not known"),
        ({"start": [[1, 2], [2, 1]]}, "start is not a covariance"),
        ({"seed": -1}, "seed is -1; give a whole number from 0"),
        ({"seed": "seven"}, "seed is 'seven'; give a whole number"),
        ({"truth": "reciprocal"}, "truth is 'reciprocal'; give a Dynamics"),
    ],
)
def test_impossible_panels_are_refused(options, message):
    arguments = {"truth": world(), "clients": 20, "sessions": 6, "seed": 1} | options
    with pytest.raises(SpecificationError, match=message):
        simulate(**arguments)


def test_a_curve_shorter_than_the_panel_is_refused():
    truth = world(trend=GrowthCurve(shape="sessions", means=[[0, 0], [0, -1]]))
    with pytest.raises(SpecificationError, match="means for 2 sessions, not 3"):
        simulate(truth, 10, 3, seed=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dropout("sometimes"), "'sometimes' is not known"),
        (lambda: Dropout(rate=1.0), "rate must be at least 0 and below 1"),
        (lambda: Dropout(rate=30), "share, not a percentage"),
        (lambda: Dropout(first=0), "first must be at least 1"),
        (lambda: Dropout(strength=0), "strength must be above 0"),
        (lambda: Dropout("unwell", level=10), "belongs to"),
        (lambda: Gaps(weeks=()), "at least one gap"),
        (lambda: Gaps(weeks=(0, 1)), "above 0"),
        (lambda: Gaps(weeks=(1, 2), weights=(1,)), "weights has shape"),
        (lambda: Gaps(weeks=(1, 2), weights=(-1, 2)), "not be negative"),
        (lambda: Gaps(weeks=(0.5, 1), per="week"), "whole numbers of weeks"),
        (lambda: Gaps(per="month"), "'month' is not known"),
        (lambda: Gaps(holidays=3), "holidays is 3; give several"),
        (lambda: Gaps(holidays=((0, 30), (30, 22))), "take the whole year"),
        (lambda: Therapists(0, np.eye(2)), "number of therapists must be at least 1"),
        (lambda: Therapists(3, [[1, 2], [2, 1]]), "therapist covariance is not a cov"),
        (lambda: Therapists(3, "large"), "cov is 'large'; give numbers"),
    ],
)
def test_impossible_observation_is_refused(make, message):
    with pytest.raises(SpecificationError, match=message):
        make()


def test_parts_are_values():
    assert Dropout() == Dropout("random", 0.3, 3)
    assert hash(Gaps(weeks=[1, 2])) == hash(Gaps(weeks=(1.0, 2.0)))
    assert Therapists(3, np.eye(2)) == Therapists(3, [[1, 0], [0, 1]])
    assert eval(repr(GrowthCurve(slope=np.array([1, 2])))) == GrowthCurve(slope=(1, 2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Dropout().rate = 0.5


@pytest.mark.parametrize("wrong", [{"dropout": "random"}, {"gaps": 3}, {"therapists": 5}])
def test_options_of_the_wrong_kind_are_refused(wrong: dict[str, object]) -> None:
    truth = Dynamics.time_ordered(phi_alliance=0.3, phi_symptoms=0.3, forward=-0.1, backward=-0.1)
    with pytest.raises(SpecificationError, match=next(iter(wrong))):
        simulate(truth, clients=20, sessions=4, **wrong)  # type: ignore[arg-type]
