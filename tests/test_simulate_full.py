"""Everything a world may hold beside lags: simulated equals implied, within Monte Carlo error."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from alliancedyn.errors import SpecificationError
from alliancedyn.simulate import (
    Confounder,
    Covariate,
    Dropout,
    Dynamics,
    Episodes,
    Event,
    Gaps,
    Groups,
    GrowthCurve,
    Innovations,
    Items,
    Missing,
    Phase,
    Therapists,
    simulate,
    simulate_scores,
)
from alliancedyn.simulate.course import in_continuous_time
from alliancedyn.simulate.groups import Membership, settled

# A figure further than this from what theory says, in Monte Carlo standard errors, is a mistake:
# over the some hundred comparisons below chance alone exceeds it once in a hundred runs.
MC_ERRORS = 4


def world(**changes):
    options = {
        "phi": [[0.36, -0.05], [-0.12, 0.45]],
        "innovation_cov": [[1, -0.25], [-0.25, 1]],
        "between_cov": [[1.0, -0.3], [-0.3, 1.5]],
        "mean": (3.0, 10.0),
    }
    return Dynamics(**(options | changes))


def scores(truth, clients, sessions, seed=1, **options):
    return simulate_scores(truth, clients, sessions, np.random.default_rng(seed), **options)


def assert_moments(Y, mean, cov, kurtosis=0.0):
    """Sample mean and covariance of (N, p) rows lie within four Monte Carlo errors."""
    n = len(Y)
    assert np.all(np.abs(Y.mean(axis=0) - mean) <= MC_ERRORS * np.sqrt(np.diag(cov) / n) + 1e-12)
    variances = np.diag(cov)
    error = np.sqrt((1 + kurtosis) * (np.outer(variances, variances) + cov**2) / n)
    assert np.all(np.abs(np.cov(Y.T) - cov) <= MC_ERRORS * error + 1e-9)


def share_within(share, expected, n):
    return abs(share - expected) <= MC_ERRORS * np.sqrt(expected * (1 - expected) / n)


class TestLinearParts:
    @settings(max_examples=10, deadline=None, derandomize=True)
    @given(seed=st.integers(0, 10**6))
    def test_second_lag_and_confounder_have_the_implied_moments(self, seed):
        rng = np.random.default_rng(seed)
        phi, phi2 = rng.uniform(-0.35, 0.35, (2, 2, 2))
        confounder = Confounder(rng.uniform(-0.8, 0.8, 2), phi=rng.uniform(-0.8, 0.8), var=1.5)
        truth = world(phi=phi, phi2=phi2, confounder=confounder, reliability=(0.8, 0.9))
        Y = scores(truth, 6000, 4, seed=seed)
        assert_moments(Y.reshape(6000, -1), *truth.moments(4))

    def test_second_lag_alone_solves_its_yule_walker_equations(self):
        truth = world(phi2=[[0.1, 0.05], [-0.06, 0.15]], between_cov=None)
        _, cov = truth.moments(4)
        at = [cov[:2, 2 * h : 2 * h + 2] for h in range(4)]  # Cov(w_1, w_{1+h})
        for h in (2, 3):
            implied = at[h - 1] @ truth.phi.T + at[h - 2] @ truth.phi2.T
            np.testing.assert_allclose(at[h], implied, atol=1e-10)
        zero = truth.phi @ at[1] + truth.phi2 @ at[2] + truth.innovation_cov
        np.testing.assert_allclose(at[0], zero, atol=1e-10)

    def test_the_confounder_makes_a_lagged_relation_from_nothing(self):
        """Spurious b, to first order c_A c_S rho Var(U) / Var(a | history)."""
        c_a, c_s, rho = 0.15, 0.2, 0.6
        truth = world(
            phi=np.diag([0.3, 0.4]),
            innovation_cov=np.eye(2),
            between_cov=None,
            confounder=Confounder((c_a, c_s), phi=rho),
        )
        _, cov = truth.moments(2)
        lagged = np.linalg.solve(cov[:2, :2], cov[:2, 2:]).T  # regression of session 2 on 1
        assert lagged[1, 0] == pytest.approx(c_a * c_s * rho, rel=0.25)

    def test_impulse_response_and_long_run_with_a_second_lag(self):
        truth = world(phi2=[[0.1, 0.0], [-0.05, 0.1]])
        response = truth.impulse_response("alliance", sessions=400).to_numpy()
        w = [np.zeros(2), np.array([1.0, 0.0])]
        for _ in range(400):
            w.append(truth.phi @ w[-1] + truth.phi2 @ w[-2])
        np.testing.assert_allclose(response, w[1:], atol=1e-12)
        total = truth.long_run("alliance", "symptoms", "total")
        assert total == pytest.approx(response[1:, 1].sum(), abs=1e-9)
        held = 0.0
        before = 0.0
        for _ in range(400):  # alliance one point higher for good
            held, before = (
                truth.phi[1, 1] * held
                + truth.phi2[1, 1] * before
                + truth.phi[1, 0]
                + truth.phi2[1, 0],
                held,
            )
        assert truth.long_run("alliance", "symptoms") == pytest.approx(held, abs=1e-9)
        assert truth.params()["phi2[symptoms,alliance]"] == -0.05

    @pytest.mark.parametrize(
        "changes",
        [
            {"phi2": [[0.7, 0], [0, 0.2]]},
            {"confounder": None, "phases": [Phase(3, [("alliance", "alliance", 0.7)])]},
            {"covariates": [Covariate("arm", "binary", on_phi=[("symptoms", "symptoms", 1.2)])]},
        ],
    )
    def test_explosive_worlds_are_refused(self, changes):
        with pytest.raises(SpecificationError, match="explosive"):
            world(**changes)

    def test_an_explosive_confounder_is_refused(self):
        with pytest.raises(SpecificationError, match="explosive"):
            Confounder((1, 1), phi=1.0)


class TestCovariates:
    @settings(max_examples=8, deadline=None, derandomize=True)
    @given(seed=st.integers(0, 10**6))
    def test_levels_and_slopes_have_the_implied_moments(self, seed):
        rng = np.random.default_rng(seed)
        trend = GrowthCurve(slope=(0.1, -0.5), slope_cov=[[0.02, 0], [0, 0.1]])
        truth = world(
            trend=trend,
            covariates=[
                Covariate("severity", on_level=rng.uniform(-1, 1, 2), on_trend=(0.05, 0.2)),
                Covariate("used", "binary", 0.3, level="session", on_level=(0.5, -0.4)),
            ],
        )
        Y = scores(truth, 8000, 4, seed=seed)
        assert_moments(Y.reshape(8000, -1), *truth.moments(4), kurtosis=0.3)

    def test_slopes_that_only_a_covariate_moves(self):
        truth = world(
            trend=GrowthCurve(slope=(0.1, -0.5)),
            covariates=[Covariate("arm", "binary", on_trend=(0.0, -0.4))],
        )
        panel = simulate(truth, 4000, 6, seed=3)
        frame = panel.frame
        last = frame[frame["session"] == 6].groupby("arm")["symptoms"].agg(["mean", "count", "var"])
        gap = last["mean"].iloc[1] - last["mean"].iloc[0]
        error = np.sqrt((last["var"] / last["count"]).sum())
        assert abs(gap - 5 * -0.4) < MC_ERRORS * error
        assert "between_cov[symptoms.trend,symptoms.trend]" in truth.params()

    def test_a_trait_moderates_the_lag_as_said(self):
        truth = world(
            between_cov=None,
            covariates=[Covariate("problems", on_phi=[("symptoms", "alliance", -0.1)])],
        )
        panel = simulate(truth, 4000, 6, seed=2)
        Y, z = panel.arrays().Y, panel.frame.groupby("client")["problems"].first().to_numpy()
        a, s, target = Y[:, :-1, 0] - 3, Y[:, :-1, 1] - 10, Y[:, 1:, 1] - 10
        X = np.stack([a, s, a * z[:, None]], axis=-1).reshape(-1, 3)
        fit, *_ = np.linalg.lstsq(X, target.ravel(), rcond=None)
        error = np.sqrt(np.diag(np.linalg.inv(X.T @ X)))  # innovation variance 1
        assert np.all(np.abs(fit - [-0.12, 0.45, -0.1]) < MC_ERRORS * error)

    def test_a_technique_used_in_a_session_moderates_the_lag_into_it(self):
        truth = world(
            between_cov=None,
            covariates=[
                Covariate("used", "binary", 0.5, "session", on_phi=[("symptoms", "alliance", -0.3)])
            ],
        )
        panel = simulate(truth, 4000, 6, seed=2)
        Y = panel.arrays().Y
        used = panel.frame["used"].to_numpy().reshape(4000, 6)[:, 1:]
        for value, expected in ((0, -0.12 + 0.15), (1, -0.12 - 0.15)):
            here = used == value
            X = np.stack([Y[:, :-1, 0][here] - 3, Y[:, :-1, 1][here] - 10], axis=-1)
            fit, *_ = np.linalg.lstsq(X, Y[:, 1:, 1][here] - 10, rcond=None)
            error = np.sqrt(np.linalg.inv(X.T @ X)[0, 0])
            assert abs(fit[0] - expected) < MC_ERRORS * error

    def test_phases_change_the_lag_from_their_session_on(self):
        truth = world(between_cov=None, phases=Phase(4, [("symptoms", "alliance", 0.2)]))
        Y = scores(truth, 20000, 6) - [3, 10]
        for t, expected in ((2, -0.12), (3, 0.08), (5, 0.08)):
            X = Y[:, t - 1]
            fit, *_ = np.linalg.lstsq(X, Y[:, t, 1], rcond=None)
            assert abs(fit[0] - expected) < MC_ERRORS * np.sqrt(np.linalg.inv(X.T @ X)[0, 0])


class TestInnovations:
    @pytest.mark.parametrize(
        "innovations", [Innovations("student", df=9.0), Innovations("skewed", skewness=1.2)]
    )
    def test_the_covariance_stays(self, innovations):
        truth = world(innovations=innovations)
        Y = scores(truth, 40000, 3)
        assert_moments(Y.reshape(40000, -1), *truth.moments(3), kurtosis=1.0)

    @pytest.mark.parametrize("skewness", [-2.0, 0.5, 1.5])
    def test_skewness_is_the_one_asked_for(self, skewness):
        drawn = Innovations("skewed", skewness=skewness).reshape(
            np.random.default_rng(1).standard_normal(400000), np.random.default_rng(2)
        )
        assert abs(drawn.mean()) < MC_ERRORS / np.sqrt(400000)
        assert np.mean(drawn**3) == pytest.approx(skewness, abs=0.1)

    def test_student_kurtosis(self):
        normal = np.random.default_rng(1).standard_normal((1, 400000, 1))
        drawn = Innovations("student", df=12.0).reshape(normal, np.random.default_rng(2))
        assert np.mean(drawn**4) - 3 == pytest.approx(6 / (12 - 4), abs=0.1)

    def test_client_variances_are_lognormal(self):
        truth = world(
            phi=np.zeros((2, 2)), between_cov=None, innovations=Innovations(log_sd=(0.6, 0.0))
        )
        Y = scores(truth, 3000, 60)
        logs = np.log(Y.var(axis=1, ddof=1))
        # log of chi2(59) / 59 has variance polygamma(1, 29.5) = .0345
        assert logs[:, 0].std() == pytest.approx(np.sqrt(0.36 + 0.0345), rel=0.06)
        assert logs[:, 1].std() == pytest.approx(np.sqrt(0.0345), rel=0.06)
        with pytest.raises(SpecificationError, match="innovation variances vary"):
            truth.moments(3)


class TestEvents:
    @settings(max_examples=8, deadline=None, derandomize=True)
    @given(hazard=st.floats(0.02, 0.5), repair=st.floats(0.1, 0.9))
    def test_hazard_and_duration(self, hazard, repair):
        event = Event("rupture", (-1, 0), hazard=hazard, repair=repair)
        begins, still, ends = event.draw(20000, 12, np.random.default_rng(5))
        met = begins[:6].any(axis=0).mean()
        assert share_within(met, 1 - (1 - hazard) ** 6, 20000)
        at_risk = (begins | still)[:-1].sum()  # each of these may end at the next session
        assert share_within(ends[1:].sum() / at_risk, repair, at_risk)

    def test_half_of_the_clients_have_met_one_by_session_six(self):
        truth = world(events=Event("rupture", (-1.5, 0), repair=0.5))
        frame = simulate(truth, 8000, 6, seed=1).frame
        met = frame.groupby("client")["rupture"].max().mean()
        assert share_within(met, 0.5, 8000)

    def test_pushes_enter_the_state_and_fade_by_the_lags(self):
        quiet = world()
        loud = dataclasses.replace(quiet, events=Event("crisis", (0, 2.0), hazard=1.0))
        difference = scores(loud, 3, 5) - scores(quiet, 3, 5)
        expected, state = [], np.zeros(2)
        for _ in range(5):
            state = quiet.phi @ state + [0, 2.0]
            expected.append(state)
        np.testing.assert_allclose(difference, np.tile(expected, (3, 1, 1)), atol=1e-12)

    def test_what_cannot_be_repaired_stays_open(self):
        event = Event("rupture", (-1, 0), hazard=0.3, repair=1.0, repairable=0.4)
        _, still, _ = event.draw(10000, 30, np.random.default_rng(1))
        always = still[10:].all(axis=0).mean()
        assert share_within(always, 0.6 * (1 - 0.7**10), 10000)

    def test_a_group_meets_it_together(self):
        truth = world(events=Event("rupture", (-1, 0), hazard=0.3, level="group", repair=0.5))
        frame = simulate(truth, 60, 5, groups=Groups(6), seed=1).frame
        assert (frame.groupby(["group", "session"], observed=True)["rupture"].nunique() == 1).all()
        with pytest.raises(SpecificationError, match="befalls groups"):
            simulate(truth, 60, 5, seed=1)


class TestGroups:
    def test_members_have_the_implied_covariances(self):
        truth = world(between_cov=None)
        groups = Groups(4, others=[[0.2, 0], [-0.3, 0.05]], shock_cov=[[0.4, -0.1], [-0.1, 0.3]])
        mean_cov, distance_cov = settled(truth.phi, truth.innovation_cov, groups, 4)
        Y = simulate(truth, 40000, 4, groups=groups, seed=1).arrays().Y - [3, 10]
        for t in (0, 3):
            members = Y[:, t].reshape(-1, 4, 2)
            assert_moments(members[:, 0], np.zeros(2), mean_cov + distance_cov)
            crossed = members[:, 0].T @ members[:, 1] / 10000
            variances = np.diag(mean_cov + distance_cov)
            error = np.sqrt(2 * np.outer(variances, variances) / 10000)
            assert np.all(np.abs(crossed - (mean_cov - distance_cov / 3)) < MC_ERRORS * error)

    def test_the_whole_groups_lyapunov_equation_agrees(self):
        """The split into mean and distances against the (n k, n k) system, written out."""
        truth, n = world(), 3
        groups = Groups(n, others=[[0.1, 0.05], [-0.2, 0.1]], shock_cov=0.3 * np.eye(2))
        own, cross = np.eye(n), (np.ones((n, n)) - np.eye(n)) / (n - 1)
        A = np.kron(own, truth.phi) + np.kron(cross, groups.lags(2))
        Q = np.kron(own, truth.innovation_cov) + np.kron(np.ones((n, n)), groups.shocks(2))
        P = np.linalg.solve(np.eye(36) - np.kron(A, A), Q.ravel()).reshape(6, 6)
        mean_cov, distance_cov = settled(truth.phi, truth.innovation_cov, groups, n)
        np.testing.assert_allclose(P[:2, :2], mean_cov + distance_cov, atol=1e-10)
        np.testing.assert_allclose(P[:2, 2:4], mean_cov - distance_cov / (n - 1), atol=1e-10)

    def test_own_and_others_effects_are_recovered(self):
        truth = world(phi=[[0.3, 0], [-0.2, 0.4]], between_cov=None, innovation_cov=np.eye(2))
        groups = Groups(5, others=[[0, 0], [-0.3, 0]])
        Y = simulate(truth, 5000, 5, groups=groups, seed=4).arrays().Y - [3, 10]
        members = Membership.of(groups.codes(5000))
        rows = [
            np.column_stack([Y[:, t], members.others(Y[:, t])[:, 0], Y[:, t + 1, 1]])
            for t in range(4)
        ]
        D = np.concatenate(rows)
        fit, *_ = np.linalg.lstsq(D[:, :3], D[:, 3], rcond=None)
        error = np.sqrt(np.diag(np.linalg.inv(D[:, :3].T @ D[:, :3])))
        assert np.all(np.abs(fit - [-0.2, 0.4, -0.3]) < MC_ERRORS * error)

    def test_sizes_differ_by_one_at_most_and_explosive_ones_are_refused(self):
        codes = Groups(8).codes(61)
        assert set(np.bincount(codes)) == {8, 9}
        with pytest.raises(SpecificationError, match="explosive"):
            simulate(world(), 40, 4, groups=Groups(5, others=[[0.8, 0], [0, 0.7]]), seed=1)

    def test_group_levels(self):
        truth = world(between_cov=None, phi=np.zeros((2, 2)), innovation_cov=np.eye(2))
        groups = Groups(10, cov=[[0.5, 0], [0, 0.2]])
        Y = simulate(truth, 20000, 2, groups=groups, seed=1).arrays().Y
        means = Y.mean(axis=1).reshape(2000, 10, 2).mean(axis=1)
        expected = np.array([0.5, 0.2]) + 0.5 / 10
        assert np.all(
            np.abs(means.var(axis=0) - expected) < MC_ERRORS * expected * np.sqrt(2 / 2000)
        )


class TestContinuousTime:
    def test_scores_at_any_dates_have_the_exact_covariance(self):
        truth = world(between_cov=None)
        gaps = Gaps(weeks=(0.5, 3.0), per="time")
        panel = simulate(truth, 60000, 2, gaps=gaps, seed=1)
        Y, days = panel.arrays().Y - [3, 10], panel.arrays().days
        drift, _ = in_continuous_time(truth)
        for gap in (0.5, 3.0):
            here = np.isclose(days[:, 1], 7 * gap)
            lagged = Y[here, 0].T @ Y[here, 1] / here.sum()
            expected = truth.within_cov @ expm(drift * gap).T
            spread = np.diag(truth.within_cov)
            error = np.sqrt((np.outer(spread, spread) + expected**2) / here.sum())
            assert np.all(np.abs(lagged - expected) < MC_ERRORS * error)
            assert_moments(Y[here, 1], np.zeros(2), truth.within_cov)

    def test_weekly_sessions_are_the_plain_world(self):
        truth = world()
        dated = simulate(truth, 50, 6, gaps=Gaps(weeks=(1,), per="time"), seed=3).arrays().Y
        plain = simulate(truth, 50, 6, seed=3).arrays().Y
        np.testing.assert_allclose(dated, plain, atol=1e-8)

    def test_built_from_a_drift(self):
        drift = np.array([[-0.8, -0.1], [-0.2, -0.6]])
        diffusion = np.array([[1.0, -0.2], [-0.2, 0.8]])
        truth = Dynamics.continuous(drift, diffusion)
        np.testing.assert_allclose(truth.phi, expm(drift), atol=1e-12)
        back, spread = in_continuous_time(truth)
        np.testing.assert_allclose(back, drift, atol=1e-10)
        np.testing.assert_allclose(spread, diffusion, atol=1e-10)

    def test_what_alternates_or_changes_by_session_is_refused(self):
        gaps = Gaps(per="time")
        with pytest.raises(SpecificationError, match="zero or negative"):
            simulate(world(phi=[[-0.3, 0], [0, 0.4]]), 10, 3, gaps=gaps, seed=1)
        with pytest.raises(SpecificationError, match="go by sessions"):
            simulate(world(events=Event("crisis", (0, 1))), 10, 3, gaps=gaps, seed=1)
        with pytest.raises(SpecificationError, match="one normal first-order"):
            simulate(world(phi_sd=np.full((2, 2), 0.1)), 10, 3, gaps=gaps, seed=1)


class TestTherapists:
    def test_therapist_and_site_icc(self):
        truth = world()
        therapists = Therapists(400, np.diag([0.5, 0.1]), sites=100, site_cov=np.diag([0.4, 0.0]))
        panel = simulate(truth, 24000, 3, therapists=therapists, seed=2)
        frame = panel.frame.assign(mean=panel.frame.groupby("client")["alliance"].transform("mean"))
        person = frame.groupby("client").first()
        by = person.groupby("therapist", observed=True)["mean"]
        within = by.var().mean()
        between = by.mean().var() - within / 60
        assert between == pytest.approx(0.9, rel=0.25)  # 100 sites: relative error .11
        site = person.groupby("site", observed=True)["mean"].mean().var()
        assert site == pytest.approx(0.4 + 0.5 / 4 + within / 240, rel=0.5)
        assert person["site"].nunique() == 100

    def test_effects_on_lags(self):
        truth = world(between_cov=None)
        therapists = Therapists(200, np.zeros((2, 2)), phi_sd=[[0, 0], [0.15, 0]])
        panel = simulate(truth, 20000, 8, therapists=therapists, seed=2)
        Y = panel.arrays().Y - [3, 10]
        who = panel.frame.groupby("client")["therapist"].first().str[1:].astype(int) - 1
        slopes, errors = [], []
        for code in range(200):
            X = Y[who == code, :-1].reshape(-1, 2)
            fit, *_ = np.linalg.lstsq(X, Y[who == code, 1:, 1].ravel(), rcond=None)
            slopes.append(fit[0])
            errors.append(np.linalg.inv(X.T @ X)[0, 0])
        spread = np.var(slopes) - np.mean(errors)
        assert abs(spread - 0.0225) < MC_ERRORS * 0.0225 * np.sqrt(2 / 200) * 1.2

    def test_switches(self):
        therapists = Therapists(12, np.eye(2), switch=0.25, sites=3)
        frame = simulate(world(), 4000, 6, therapists=therapists, seed=1).frame
        changed = frame.groupby("client")["therapist"].nunique() > 1
        assert share_within(changed.mean(), 0.25, 4000)
        assert (frame.groupby("client")["site"].nunique() == 1).all()

    def test_explosive_effects_are_refused(self):
        with pytest.raises(SpecificationError, match="make the lags of"):
            simulate(
                world(), 50, 4, therapists=Therapists(9, np.eye(2), phi_sd=np.eye(2) * 3), seed=1
            )


class TestObservation:
    def test_items_have_the_loadings_errors_and_ceiling_asked_for(self):
        truth = world(between_cov=None)
        wai = Items(("task", "goal", "bond"), loading=(1, 0.8, 1.1), error_var=(0.3, 0.5, 0.2))
        panel = simulate(truth, 20000, 2, items={"alliance": wai}, seed=1)
        assert panel.variables == ("task", "goal", "bond", "symptoms")
        assert dict(panel.timing) == dict.fromkeys(("task", "goal", "bond"), "after") | {
            "symptoms": "before"
        }
        loading = np.array([1, 0.8, 1.1])
        cov = np.outer(loading, loading) * truth.within_cov[0, 0] + np.diag([0.3, 0.5, 0.2])
        assert_moments(panel.arrays().Y[:, 0, :3], 3 * loading, cov)

    def test_likert_answers_are_steps_with_a_ceiling(self):
        phq = Items(("q1", "q2"), lowest=0, highest=3, step=1, error_var=0.5)
        vas = Items(("srs",), lowest=0, highest=4, keep="mean")
        panel = simulate(
            world(mean=(3.0, 1.5)), 500, 3, items={"symptoms": phq, "alliance": vas}, seed=1
        )
        frame = panel.frame
        assert set(np.unique(frame[["q1", "q2"]])) == {0.0, 1.0, 2.0, 3.0}
        assert (frame["alliance"] == 4.0).mean() > 0.15
        assert panel.variables == ("alliance", "q1", "q2")

    def test_the_mean_of_items_has_the_implied_reliability(self):
        truth = world(between_cov=None)
        items = Items(tuple(f"i{j}" for j in range(6)), error_var=1.2, keep="mean")
        Y = simulate(truth, 40000, 2, items={"alliance": items}, seed=1).arrays().Y
        implied = truth.within_cov[0, 0] + 1.2 / 6
        error = implied * np.sqrt(2 / 80000) * 1.3
        assert abs(Y[:, :, 0].var() - implied) < MC_ERRORS * error

    def test_missing_by_state_has_the_share_and_the_direction(self):
        panel = simulate(world(), 5000, 6, missing=Missing(0.2, "state", strength=1.0), seed=1)
        whole = simulate(world(), 5000, 6, seed=1).arrays().Y[:, :, 1]
        gone = np.isnan(panel.arrays().Y[:, :, 1])
        assert share_within(gone.mean(), 0.2, 30000)
        assert whole[gone].mean() > whole[~gone].mean() + 0.5

    def test_missed_sessions_have_no_row_and_keep_their_number(self):
        panel = simulate(world(), 3000, 8, missing=Missing(0.0, sessions=0.1), seed=1)
        frame = panel.frame
        assert share_within(1 - (len(frame) - 3000) / (3000 * 7), 0.1, 21000)
        assert (frame.groupby("client")["session"].min() == 1).all()

    @pytest.mark.parametrize(
        "rule", ["random", "unwell", "well_enough", "improving", "low", "rupture", "administrative"]
    )
    def test_every_rule_has_its_rate(self, rule):
        truth = world(events=Event("rupture", (-1, 0), repair=0.4))
        panel = simulate(truth, 4000, 10, dropout=Dropout(rule, rate=0.35, first=3), seed=1)
        last = panel.frame.groupby("client")["session"].max()
        assert share_within((last < 10).mean(), 0.35, 4000)
        assert last.min() >= 3

    def test_rupture_and_low_alliance_drive_whom_they_name(self):
        truth = world(events=Event("rupture", (-2, 0), hazard=0.2, repair=0.3))
        for rule, column, sign in (("rupture", "rupture", 1), ("low", "alliance", -1)):
            frame = simulate(truth, 4000, 8, dropout=Dropout(rule, 0.4, strength=2.0), seed=1).frame
            final = frame.groupby("client").last()
            left = final["session"] < 8
            assert sign * (final[column][left].mean() - final[column][~left].mean()) > 0.1

    def test_administrative_end_is_even_over_sessions(self):
        frame = simulate(
            world(), 9000, 9, dropout=Dropout("administrative", 0.6, first=3), seed=1
        ).frame
        counts = frame.groupby("client")["session"].max().value_counts().reindex(range(3, 9))
        for share in counts / counts.sum():
            assert share_within(share, 1 / 6, counts.sum())

    def test_holidays_are_kept_free(self):
        gaps = Gaps(weeks=(1, 2), holidays=((30, 3), (51, 2)), jitter=2)
        weeks = Gaps(weeks=(1, 2), holidays=((30, 3), (51, 2))).draw(
            500, 60, np.random.default_rng(1)
        )
        entry = np.random.default_rng(1)
        entry.random((500, 59))
        start = entry.integers(52, size=500)
        start = np.where((start >= 30) & (start < 33), 33, start)
        start = np.where((start == 51) | (start == 0), start + (53 - start) % 52, start)
        calendar = (start[:, None] + weeks) % 52
        assert not np.isin(calendar, [30, 31, 32, 51, 0]).any()
        assert (np.diff(gaps.draw(500, 60, np.random.default_rng(1)), axis=1) > 0).all()

    def test_second_episodes_are_series_of_the_same_person(self):
        panel = simulate(world(), 3000, 5, episodes=Episodes(0.2), gaps=Gaps(weeks=(1,)), seed=1)
        frame = panel.frame
        assert share_within(panel.n_clients / 3000 - 1, 0.2, 3000)
        second = frame[frame["episode"] == "2"]
        assert (second["day"] >= 7 * (4 + 26)).all()
        means = frame.groupby("client")["alliance"].mean()
        person = second["client"].astype(str).str.removesuffix("/2").unique()
        pairs = np.array([[means[f"{one}/1"], means[f"{one}/2"]] for one in person])
        r = np.corrcoef(pairs.T)[0, 1]
        truth = world()
        _, cov = truth.moments(5)
        mean_var = cov[::2, ::2].mean()
        assert abs(r - 1.0 / mean_var) < MC_ERRORS / np.sqrt(len(pairs))


class TestTrends:
    def test_piecewise_means(self):
        curve = GrowthCurve(
            slope=(0.2, -1.0), shape="piecewise", knots=(4, 8), later=[[0, -0.1], [-0.3, 0.5]]
        )
        expected = [0, -1, -2, -3, -3.1, -3.2, -3.3, -3.4, -2.9, -2.4]
        np.testing.assert_allclose(curve.expected(10)[:, 1], expected)
        np.testing.assert_allclose(curve.expected(3), curve.expected(10)[:3])
        np.testing.assert_allclose(curve.basis(6), [0, 1, 2, 3, 3, 3])

    def test_moments_with_piecewise_slopes(self):
        trend = GrowthCurve(
            slope=(0.2, -1.0),
            shape="piecewise",
            knots=(3,),
            later=[[0, -0.1]],
            slope_cov=[[0.1, -0.1], [-0.1, 0.8]],
        )
        truth = world(trend=trend)
        Y = scores(truth, 20000, 5)
        assert_moments(Y.reshape(20000, -1), *truth.moments(5))


# Hashes of panels recorded before worlds could hold more than lags, trends and therapists.
FROZEN = {
    "plain": "621e1492d2a71fb8",
    "noisy": "10928fe88f957657",
    "lags": "254b0f98c9764ba7",
    "linear": "437bfcf84866b07f",
    "log": "d99506ad0bee30a5",
    "exponential": "b7f7efdbd20a6104",
    "weeks": "8a576f191f5c8e6b",
    "therapists": "d35e05f876145eef",
    "start": "bd24db49cd42ac58",
    "three": "a24ec83f72456089",
    "ordered": "e2626ea983c68a88",
}


def digest(panel):
    """Digest to nine decimals: matrix products differ in the last bits from machine to machine."""
    parts = hashlib.sha256()
    for name in panel.frame:
        column = panel.frame[name]
        if column.dtype.kind in "fiu":
            values = np.round(column.to_numpy(float), 9) + 0.0  # no negative zeros
            parts.update(np.ascontiguousarray(values).tobytes())
        else:
            parts.update("|".join(map(str, column)).encode())
    return parts.hexdigest()[:16]


def frozen_cases():
    trend = GrowthCurve(
        slope=(0.2, -1.0),
        slope_cov=[[0.1, -0.1], [-0.1, 0.8]],
        intercept_slope_cov=[[0.05, -0.1], [0.02, -0.3]],
    )
    log = GrowthCurve(slope=(0.2, -1.0), shape="log")
    rising = GrowthCurve(slope=(0.2, -1.0), shape="exponential", slope_cov=[[0.1, 0], [0, 0.1]])
    three = Dynamics(
        phi=0.3 * np.eye(3) + 0.1,
        innovation_cov=np.eye(3),
        between_cov=np.eye(3) + 0.2,
        variables=("alliance", "insight", "symptoms"),
    )
    ordered = Dynamics.time_ordered(
        0.35, 0.45, -0.12, -0.10, between_cov=[[1, -0.3], [-0.3, 1]], reliability=0.8
    )
    therapists = Therapists(7, [[0.1, -0.05], [-0.05, 0.1]])
    weeks = Gaps(weeks=(1, 2, 4), weights=(0.6, 0.25, 0.15), per="week")
    return {
        "plain": (world(), {}),
        "noisy": (world(reliability=(0.9, 0.6)), {"missing": 0.2}),
        "lags": (world(phi_sd=[[0.1, 0.05], [0.08, 0.12]]), {}),
        "linear": (world(trend=trend), {"dropout": Dropout("improving")}),
        "log": (world(trend=log), {"dropout": Dropout("unwell", rate=0.4)}),
        "exponential": (world(trend=rising), {"dropout": Dropout("well_enough", level=9.0)}),
        "weeks": (world(), {"gaps": weeks}),
        "therapists": (
            world(),
            {"therapists": therapists, "gaps": Gaps(), "ceiling": {"alliance": 4.0}},
        ),
        "start": (
            world(between_cov=None),
            {"start": [[4, 1], [1, 0.5]], "dropout": Dropout()},
        ),
        "three": (three, {}),
        "ordered": (ordered, {"missing": 0.1, "dropout": Dropout("well_enough")}),
    }


@pytest.mark.parametrize("name", FROZEN)
def test_seeds_still_give_the_panels_they_gave(name):
    truth, options = frozen_cases()[name]
    assert digest(simulate(truth, 40, 8, seed=11, **options)) == FROZEN[name]


def everything():
    return world(
        phi2=[[0.05, 0], [0, 0.05]],
        phi_sd=np.full((2, 2), 0.03),
        confounder=Confounder((0.2, 0.2)),
        innovations=Innovations("student", log_sd=(0.3, 0.2)),
        trend=GrowthCurve(slope=(0.1, -0.2), slope_cov=np.eye(2) * 0.01),
        covariates=[
            Covariate("severity", on_level=(-0.2, 0.5), on_trend=(0, 0.05)),
            Covariate("arm", "binary", on_phi=[("symptoms", "alliance", -0.1)]),
            Covariate("used", "binary", 0.3, "session", on_phi=[("symptoms", "alliance", -0.1)]),
        ],
        phases=[Phase(4, [("symptoms", "alliance", 0.05)])],
        events=[Event("rupture", (-1, 0), repair=0.5, while_open=(-0.1, 0.1), end=(0.5, -0.2))],
    )


SEEN = {
    "therapists": Therapists(6, np.eye(2) * 0.1, phi_sd=np.full((2, 2), 0.02), switch=0.2, sites=3),
    "dropout": Dropout("rupture", 0.3),
    "missing": Missing(0.1, "state", sessions=0.05),
    "gaps": Gaps(holidays=((30, 2),), jitter=2),
    "episodes": Episodes(0.2),
    "items": {"alliance": Items(("task", "bond"), error_var=0.2, highest=7.0)},
}


def test_everything_at_once_is_deterministic_and_keeps_its_parts_apart():
    truth = everything()
    first, again = (simulate(truth, 60, 8, seed=5, **SEEN) for _ in range(2))
    assert first.frame.equals(again.frame)
    assert digest(first) != digest(simulate(truth, 60, 8, seed=6, **SEEN))
    assert first.truth == truth
    whole = simulate(truth, 60, 8, seed=5, therapists=SEEN["therapists"]).frame
    more = simulate(
        truth, 60, 8, seed=5, therapists=SEEN["therapists"], gaps=SEEN["gaps"], missing=0.1
    ).frame
    seen = more["symptoms"].notna()
    np.testing.assert_array_equal(more["symptoms"][seen], whole["symptoms"][seen])


def test_more_sessions_continue_the_same_clients():
    truth = dataclasses.replace(everything(), innovations=None)
    short = simulate(truth, 30, 4, seed=7).arrays().Y
    long = simulate(truth, 30, 9, seed=7).arrays().Y
    np.testing.assert_allclose(long[:, :4], short, atol=1e-12)


def test_a_full_world_is_a_value():
    truth = everything()
    assert eval(repr(truth)) == truth
    assert hash(truth) == hash(everything())
    assert pickle.loads(pickle.dumps(truth)) == truth == copy.deepcopy(truth)
    assert dataclasses.replace(truth, events=()) != truth


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: world(events="rupture"), "events is 'rupture'; give several"),
        (lambda: world(confounder=0.3), "give a Confounder"),
        (lambda: world(confounder=Confounder((1, 1, 1))), "must have 2 numbers"),
        (lambda: world(innovations=Innovations(log_sd=(1,))), "must have 2 numbers"),
        (lambda: world(covariates=Covariate("alliance")), "names two things"),
        (lambda: world(phases=Phase(2, [("mood", "alliance", 1)])), "on_phi names 'mood'"),
        (lambda: world(covariates=Covariate("arm", on_trend=(0, 1))), "changes slopes, but"),
        (lambda: world(events=Event("rupture", (1,))), "must have 2 numbers"),
        (lambda: world(covariates=Covariate("day")), "names two things"),
        (lambda: world(covariates=Covariate("arm")), "binary property"),
        (lambda: Covariate("x", level="session"), "must be binary"),
        (lambda: Covariate("x", "binary", share=0.0), "share must be above 0"),
        (lambda: Phase(1, []), "first must be at least 2"),
        (lambda: Phase(2, "symptoms"), "on_phi is 'symptoms'; give several"),
        (lambda: Event("x", (1, 0), hazard=1.2), "probability"),
        (lambda: Innovations("student", df=2), "df must be above 2"),
        (lambda: Innovations("skewed", skewness=3), "skewness must lie within"),
        (lambda: Groups(1), "size of a group must be at least 2"),
        (lambda: Therapists(10, np.eye(2), sites=3), "cannot share"),
        (lambda: Therapists(10, np.eye(2), site_cov=np.eye(2)), "need sites"),
        (lambda: Therapists(3, np.eye(2), switch=0.1, sites=3), "two therapists at each"),
        (lambda: Items(("a", "a")), "each different"),
        (lambda: Items(("a",), lowest=3, highest=1), "lowest must be below"),
        (lambda: Items(("a",), error_var=-1), "must not be negative"),
        (lambda: Items(("a",), step=0), "step must be above"),
        (lambda: Gaps(jitter=4), "could put one session before"),
        (lambda: Gaps(holidays=((52, 1),)), "at most 51"),
        (lambda: Dropout("random", event="rupture"), "event= belongs"),
        (lambda: Missing(rule="never"), "'never' is not known"),
        (lambda: Episodes(1.5), "share must be at least 0 and below 1"),
        (lambda: GrowthCurve(slope=(0, 1), shape="piecewise"), "needs knots"),
        (lambda: GrowthCurve(slope=(0, 1), knots=(3,)), "belong to"),
        (lambda: GrowthCurve(slope=(0, 1), shape="piecewise", knots=(5, 3), later=[]), "increas"),
    ],
)
def test_impossible_parts_are_refused(make, message):
    with pytest.raises(SpecificationError, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": Dropout("rupture")}, "needs a world with events"),
        ({"dropout": Dropout("rupture", event="crisis")}, "is no event"),
        ({"missing": Missing(variable="mood", rule="state")}, "'mood', which is not among"),
        ({"items": {"mood": Items(("a",))}}, "items names 'mood'"),
        ({"items": {"alliance": Items(("symptoms",))}}, "name two columns"),
        ({"groups": Groups(5), "episodes": Episodes()}, "cannot be combined"),
        ({"groups": 5}, "give a Groups"),
    ],
)
def test_impossible_observation_is_refused(options, message):
    with pytest.raises(SpecificationError, match=message):
        simulate(world(), 20, 6, seed=1, **options)
