"""The one result: its numbers against independent routes, its refusals, how it shows itself."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import FrozenInstanceError, dataclass, replace

import numpy as np
import pandas as pd
import pytest
from made_fits import (
    AFTER_BEFORE,
    MadeModel,
    known_params,
    make_fit,
    make_scores,
    random_cov,
    var_params,
)
from scipy import stats

from alliancedyn.engine import names, var
from alliancedyn.engine.moments import implied_moments
from alliancedyn.errors import DataError, SpecificationError
from alliancedyn.models import RICLPM
from alliancedyn.results import Estimate, Fit, Observed
from alliancedyn.simulate import Dynamics, simulate

ROLES = ("alliance", "symptoms")


@pytest.fixture
def fit() -> Fit:
    return make_fit(known_params())


def simulated(fit: Fit, function, n: int = 40_000) -> np.ndarray:
    """Evaluate a function at draws of the parameters: the long way round the delta method."""
    rng = np.random.default_rng(11)
    draws = rng.multivariate_normal(fit.params.to_numpy(), fit.cov.to_numpy(), size=n)
    index = list(fit.params.index)
    return np.array([function(dict(zip(index, row, strict=True))) for row in draws])


class TestEstimate:
    def test_prints_value_and_interval(self) -> None:
        assert str(Estimate(-0.1267, 0.036, -0.1981, -0.0563)) == "-0.127 [-0.198, -0.056]"

    @pytest.mark.parametrize(
        ("numbers", "text"),
        [
            ((0.0, -0.0001, 0.02), "0.000 [0.000, 0.020]"),
            ((0.00012, 0.00010, 0.00014), "0.000120 [0.000100, 0.000140]"),
            ((123.4567, 100.0, 147.0), "123.457 [100.000, 147.000]"),
            ((0.0, 0.0, 0.0), "0.000 [0.000, 0.000]"),
        ],
    )
    def test_digits(self, numbers: tuple[float, float, float], text: str) -> None:
        assert str(Estimate(numbers[0], 0.1, *numbers[1:])) == text

    def test_says_when_there_is_no_interval(self) -> None:
        nan = float("nan")
        assert str(Estimate(0.3, nan, nan, nan)) == "0.300 [no interval]"


class TestTable:
    def test_wald_intervals_and_p_values(self, fit: Fit) -> None:
        table = fit.table(level=0.9)
        row = table.loc["phi[symptoms,alliance]"]
        se = math.sqrt(fit.cov.loc["phi[symptoms,alliance]", "phi[symptoms,alliance]"])
        assert row["estimate"] == pytest.approx(-0.12)
        assert row["se"] == pytest.approx(se)
        assert row["lower"] == pytest.approx(-0.12 - stats.norm.ppf(0.95) * se)
        assert row["upper"] == pytest.approx(-0.12 + stats.norm.ppf(0.95) * se)
        assert row["p_value"] == pytest.approx(2 * stats.norm.sf(0.12 / se))
        assert list(table.columns) == ["estimate", "se", "lower", "upper", "p_value"]
        pd.testing.assert_series_equal(table["se"], fit.se, check_names=False)

    def test_information_criteria_count_clients(self, fit: Fit) -> None:
        assert fit.aic == pytest.approx(2 * 4321.5 + 2 * fit.n_params)
        assert fit.bic == pytest.approx(2 * 4321.5 + math.log(200) * fit.n_params)
        unlikely = replace(fit, loglik=None)
        assert math.isnan(unlikely.aic) and math.isnan(unlikely.bic)

    @pytest.mark.parametrize("level", [0, 1, 95, -0.5, float("nan")])
    def test_levels_that_are_none(self, fit: Fit, level: float) -> None:
        with pytest.raises(SpecificationError, match="between 0 and 1"):
            fit.table(level=level)

    def test_covariance_in_another_order_is_refused(self, fit: Fit) -> None:
        with pytest.raises(SpecificationError, match="order of params"):
            replace(fit, cov=fit.cov.iloc[::-1, ::-1])


class TestDerive:
    def test_linear_functions_are_exact(self, fit: Fit) -> None:
        a, b = "phi[symptoms,alliance]", "phi[alliance,symptoms]"
        found = fit.derive(lambda p: 2 * p[a] - 3 * p[b])
        weights = pd.Series(0.0, index=fit.params.index)
        weights[a], weights[b] = 2, -3
        assert found.value == pytest.approx(2 * -0.12 - 3 * -0.045)
        assert found.se == pytest.approx(math.sqrt(weights @ fit.cov @ weights), rel=1e-8)

    def test_a_ratio_agrees_with_its_formula(self, fit: Fit) -> None:
        b, phi = "phi[symptoms,alliance]", "phi[symptoms,symptoms]"
        found = fit.derive(lambda p: p[b] / (1 - p[phi]))
        gradient = np.array([1 / 0.55, -0.12 / 0.55**2])
        cov = fit.cov.loc[[b, phi], [b, phi]].to_numpy()
        assert found.se == pytest.approx(math.sqrt(gradient @ cov @ gradient), rel=1e-7)

    def test_a_constant_has_no_uncertainty(self, fit: Fit) -> None:
        found = fit.derive(lambda p: 3)
        assert (found.value, found.se, found.lower) == (3, 0, 3)

    def test_a_wrong_name_is_answered_with_near_ones(self, fit: Fit) -> None:
        with pytest.raises(SpecificationError, match=r"Use for example 'phi\[symptoms,alliance\]'"):
            fit.derive(lambda p: p["phi[symptom,alliance]"])

    def test_only_one_number(self, fit: Fit) -> None:
        with pytest.raises(SpecificationError, match="2 numbers"):
            fit.derive(lambda p: [1.0, 2.0])  # type: ignore[arg-type, return-value]

    @pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
    def test_any_scale(self, scale: float) -> None:
        made = make_fit({"a": 2.0 * scale}, np.array([[(0.1 * scale) ** 2]]))
        found = made.derive(lambda p: p["a"] ** 2)
        assert found.se == pytest.approx(4 * scale * 0.1 * scale, rel=1e-6)

    def test_a_parameter_without_standard_error_spoils_only_its_own(self) -> None:
        params = known_params()
        cov = random_cov(len(params))
        at = list(params).index("between_cov[symptoms,symptoms]")
        params["between_cov[symptoms,symptoms]"] = 0.0
        cov[at] = cov[:, at] = np.nan
        made = make_fit(params, cov)
        assert np.isfinite(made.effect(*ROLES, standardized="within").se)
        spoiled = made.derive(lambda p: math.sqrt(p["between_cov[symptoms,symptoms]"]))
        assert spoiled.value == 0 and math.isnan(spoiled.se) and math.isnan(spoiled.p_value)
        both = made.derive_many(
            lambda p: np.array([p["phi[symptoms,alliance]"], p["between_cov[symptoms,symptoms]"]])
        )
        np.testing.assert_array_equal(np.isnan(both.se), [False, True])

    def test_draws_are_used_if_there_are_draws(self) -> None:
        rng = np.random.default_rng(0)
        draws = pd.DataFrame({"a": rng.gamma(2.0, size=2000), "b": rng.normal(size=2000)})
        made = make_fit(draws.mean().to_dict(), np.cov(draws.to_numpy().T), draws=draws)
        found = made.derive(lambda p: math.log(p["a"]), level=0.9)
        log_a = np.log(draws["a"])
        assert found.value == pytest.approx(log_a.mean())
        assert found.se == pytest.approx(log_a.std())
        assert [found.lower, found.upper] == pytest.approx(list(log_a.quantile([0.05, 0.95])))
        assert found.prob_positive == pytest.approx((log_a > 0).mean())
        assert found.p_value is None
        table = made.table()
        assert list(table.columns)[-1] == "prob_positive"
        assert table.loc["b", "upper"] == pytest.approx(draws["b"].quantile(0.975))


class TestEffects:
    def test_known_standardized_effect(self, fit: Fit) -> None:
        assert round(fit.effect(*ROLES, standardized="within").value, 4) == -0.1138
        assert fit.effect(*ROLES).value == pytest.approx(-0.12)
        assert fit.effect("symptoms", "alliance").value == pytest.approx(-0.045)
        assert fit.sd_within_basis() == "stationary"
        np.testing.assert_allclose(fit.sd_within() ** 2, [1.1733, 1.3040], atol=5e-5)

    @pytest.mark.parametrize("factor", [0.01, 7.0, 1000.0])
    def test_rescaling_a_variable(self, factor: float) -> None:
        """Symptoms in other units: phi by the known ratio, standardized values unmoved."""
        params = known_params()
        scale = {
            name: factor ** sum(index == "symptoms" for index in names.parse(name)[1])
            for name in params
        }
        scale["phi[symptoms,symptoms]"] = 1.0
        scale["phi[alliance,symptoms]"] = 1 / factor
        by = np.array(list(scale.values()))
        base = make_fit(params)
        other = make_fit(
            {name: value * scale[name] for name, value in params.items()},
            base.cov.to_numpy() * np.outer(by, by),
        )
        raw, rescaled = base.effect(*ROLES), other.effect(*ROLES)
        assert rescaled.value == pytest.approx(raw.value * factor)
        assert rescaled.se == pytest.approx(raw.se * factor)
        for source, target in (ROLES, ROLES[::-1]):
            first = base.effect(source, target, standardized="within")
            second = other.effect(source, target, standardized="within")
            assert second.value == pytest.approx(first.value, rel=1e-9)
            assert second.se == pytest.approx(first.se, rel=1e-5)

    def test_pooled_where_the_process_does_not_settle(self) -> None:
        Phi, Psi = np.array([[1.01, 0.0], [-0.1, 0.4]]), np.eye(2)
        made = make_fit(var_params(Phi, Psi, initial=2 * np.eye(2)))
        assert made.sd_within_basis() == "pooled over sessions"
        P, total = 2 * np.eye(2), 2 * np.eye(2)
        for _ in range(7):
            P = Phi @ P @ Phi.T + Psi
            total += P
        sd = np.sqrt(np.diag(total / 8))
        expected = -0.1 * sd[0] / sd[1]
        assert made.effect(*ROLES, standardized="within").value == pytest.approx(expected)

    def test_free_lags(self) -> None:
        made = free_fit()
        each = [made.params[f"phi[symptoms,alliance]@{t}"] for t in (2, 3, 4)]
        assert made.effect(*ROLES, session=3).value == pytest.approx(each[1])
        assert made.effect(*ROLES).value == pytest.approx(np.mean(each))
        weights = pd.Series(0.0, index=made.params.index)
        weights[[f"phi[symptoms,alliance]@{t}" for t in (2, 3, 4)]] = 1 / 3
        assert made.effect(*ROLES).se == pytest.approx(math.sqrt(weights @ made.cov @ weights))
        assert made.sd_within_basis() == "pooled over sessions"
        P = names.symmetric_matrix(made.params, "initial_cov", ROLES)
        total = P.copy()
        for t in (2, 3, 4):
            Phi = names.matrix(made.params, "phi", ROLES, ROLES, t)
            P = Phi @ P @ Phi.T + names.symmetric_matrix(made.params, "innovation_cov", ROLES, t)
            total += P
        np.testing.assert_allclose(made.sd_within(), np.sqrt(np.diag(total / 4)))
        for refused in (
            lambda: made.structural(),
            lambda: made.impulse_response("alliance"),
            lambda: made.long_run(*ROLES),
        ):
            with pytest.raises(SpecificationError, match="lags='equal'"):
                refused()

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda f: f.effect("alliance", "anxiety"), "not a variable"),
            (lambda f: f.effect(*ROLES, standardized="between"), "'within'"),
            (lambda f: f.effect(*ROLES, session=1), "into session 1"),
            (lambda f: f.effect(*ROLES, session=9), "into session 9"),
            (lambda f: f.long_run("alliance", "alliance"), "held"),
            (lambda f: f.long_run(*ROLES, kind="cumulated"), "kind is 'cumulated'; choose"),
            (lambda f: f.impulse_response("alliance", sessions=-1), "0 or more"),
            (lambda f: f.impulse_response("alliance", sessions=1.5), "whole number"),
            (lambda f: f.impulse_response("mood"), "not a variable"),
            (lambda f: f.impulse_response("alliance", kind="both"), "kind is 'both'; choose"),
            (lambda f: f.predict(horizon=0), "horizon is 0; give"),
        ],
    )
    def test_refusals(self, fit: Fit, call, message: str) -> None:
        with pytest.raises(SpecificationError, match=message):
            call(fit)

    def test_a_family_with_one_effect_only(self) -> None:
        made = make_fit({"phi[symptoms,alliance]": -0.1, "phi[symptoms,symptoms]": 0.4})
        assert made.effect(*ROLES).value == pytest.approx(-0.1)
        with pytest.raises(SpecificationError, match="standardized=None"):
            made.effect(*ROLES, standardized="within")


def free_fit(**changes) -> Fit:
    """Make a fit of four sessions with lags and innovations of their own."""
    rng = np.random.default_rng(5)
    params: dict[str, float] = {}
    for t in (2, 3, 4):
        Phi = np.array([[0.3, -0.05], [-0.1, 0.4]]) + rng.normal(size=(2, 2)) * 0.05
        params |= dict(zip(names.matrix_labels("phi", ROLES, ROLES, t), Phi.ravel(), strict=True))
        params |= dict(
            zip(
                names.symmetric_labels("innovation_cov", ROLES, t),
                [1 + t / 9, -0.2, 1],
                strict=True,
            )
        )
    params |= dict(zip(names.symmetric_labels("initial_cov", ROLES), [2.0, -0.5, 3.0], strict=True))
    return make_fit(params, sessions=(1, 2, 3, 4), **changes)


class TestStructural:
    def test_known_paths(self, fit: Fit) -> None:
        table = fit.structural()
        assert list(table.index) == [
            "forward",
            "backward_immediate",
            "backward_delayed",
            "autoregression[alliance]",
            "autoregression[symptoms]",
        ]
        np.testing.assert_allclose(table["estimate"], [-0.12, -0.10, 0.0, 0.35, 0.45], atol=1e-12)
        assert list(table.columns) == ["estimate", "se", "lower", "upper", "p_value"]

    def test_standard_errors_by_simulation(self) -> None:
        made = make_fit(known_params(), 0.01)
        at = [list(made.params.index).index(n) for n in made.params.index]
        assert at == list(range(len(at)))

        def paths(p: dict[str, float]) -> list[float]:
            g = p["innovation_cov[alliance,symptoms]"] / p["innovation_cov[symptoms,symptoms]"]
            b, phi_s = p["phi[symptoms,alliance]"], p["phi[symptoms,symptoms]"]
            return [
                b,
                g,
                p["phi[alliance,symptoms]"] - g * phi_s,
                p["phi[alliance,alliance]"] - g * b,
                phi_s,
            ]

        draws = simulated(made, paths)
        # 40,000 draws know an SD to 0.4 %; the delta method is off by the curvature at SE .01
        np.testing.assert_allclose(made.structural()["se"], draws.std(axis=0), rtol=0.02)

    def test_timing_the_other_way_round_swaps_the_roles(self) -> None:
        """Process before, outcome after: the lagged path is backward, the immediate forward."""
        after, before = "outcome", "process"
        Phi, Psi = var.time_ordered_to_reduced(0.3, 0.5, -0.2, 0.15, 0.07, 1.3, 0.8)
        made = make_fit(
            var_params(Phi, Psi, (after, before)),
            variables=(after, before),
            process=before,
            outcome=after,
            timing={after: "after", before: "before"},
        )
        table = made.structural()
        assert dict(table["estimate"].round(10)) == {
            "forward_immediate": 0.15,
            "forward_delayed": 0.07,
            "backward": -0.2,
            "autoregression[process]": 0.5,
            "autoregression[outcome]": 0.3,
        }
        swapped = replace(made, process=after, outcome=before).structural()
        assert swapped.loc["forward"].equals(table.loc["backward"])
        assert swapped.loc["backward_immediate"].equals(table.loc["forward_immediate"])

    def test_panel_order_does_not_matter(self) -> None:
        """The same process with the score before the session named first."""
        Phi, Psi = var.time_ordered_to_reduced(0.35, 0.45, -0.12, -0.10, 0.03, 1.0, 1.0)
        turn = np.ix_([1, 0], [1, 0])
        made = make_fit(var_params(Phi[turn], Psi[turn], ROLES[::-1]), variables=ROLES[::-1])
        np.testing.assert_allclose(
            made.structural()["estimate"], [-0.12, -0.10, 0.03, 0.35, 0.45], atol=1e-12
        )

    def test_free_innovations_with_one_g_give_it_back(self) -> None:
        """Variances of u and e may change: Psi_as,t = g Var u_t at every session."""
        b, g, phi_a, phi_s = -0.12, -0.3, 0.35, 0.45
        params: dict[str, float] = {}
        for t, (var_e, var_u) in zip((2, 3, 4), ((1, 2), (3, 0.5), (2, 1)), strict=True):
            Phi, Psi = var.time_ordered_to_reduced(phi_a, phi_s, b, g, 0.0, var_e, var_u)
            upper = Psi[np.triu_indices(2)]
            params |= dict(
                zip(names.symmetric_labels("innovation_cov", ROLES, t), upper, strict=True)
            )
        params |= dict(zip(names.matrix_labels("phi", ROLES, ROLES), Phi.ravel(), strict=True))
        made = make_fit(params, sessions=(1, 2, 3, 4))
        np.testing.assert_allclose(
            made.structural()["estimate"], [b, g, 0.0, phi_a, phi_s], atol=1e-12
        )

    @pytest.mark.parametrize(
        ("timing", "message"),
        [
            ({}, "unknown for 'alliance', 'symptoms'"),
            ({"alliance": "after"}, "unknown for 'symptoms'"),
            ({"alliance": "after", "symptoms": "after"}, "Both scores are taken after"),
        ],
    )
    def test_without_time_order_it_is_refused(self, timing: dict, message: str) -> None:
        made = make_fit(known_params(), timing=timing)
        for call in (made.structural, lambda: made.impulse_response("alliance", kind="structural")):
            with pytest.raises(SpecificationError, match=message):
                call()
        assert made.impulse_response("alliance").loc[1, ("symptoms", "estimate")] == -0.12

    def test_three_variables_are_refused(self) -> None:
        three = ("alliance", "symptoms", "hope")
        made = make_fit(var_params(0.3 * np.eye(3), np.eye(3), three), variables=three)
        with pytest.raises(SpecificationError, match="two variables; this fit has 3"):
            made.structural()


def test_a_large_panel_gives_the_known_process_back() -> None:
    """b, g, h, phi_A, phi_S and the response to a shock, within four standard errors."""
    truth = Dynamics.time_ordered(
        phi_alliance=0.35,
        phi_symptoms=0.45,
        forward=-0.12,
        backward=-0.10,
        alliance_var=1.0,
        symptoms_var=1.0,
        between_cov=[[1, -0.3], [-0.3, 1]],
        mean=(5.0, 10.0),
    )
    fit = RICLPM().fit(simulate(truth, clients=4000, sessions=10, missing=0.1, seed=5))
    table = fit.structural()
    off = (table["estimate"] - [-0.12, -0.10, 0.0, 0.35, 0.45]) / table["se"]
    assert off.abs().max() < 4
    response = fit.impulse_response("alliance", sessions=6)["symptoms"].loc[1:]
    se = (response["upper"] - response["lower"]) / (2 * stats.norm.ppf(0.975))
    known = [-0.1200, -0.0974, -0.0602, -0.0336, -0.0178, -0.0091]
    assert ((response["estimate"] - known) / se).abs().max() < 4
    for kind, value in (("sustained", -0.2182), ("total", -0.3473)):
        found = fit.long_run(*ROLES, kind=kind)
        assert abs(found.value - value) < 4 * found.se
    within = fit.effect(*ROLES, standardized="within")
    assert abs(within.value + 0.1138) < 4 * within.se


class TestShocksAndLongRun:
    def test_known_response(self, fit: Fit) -> None:
        frame = fit.impulse_response("alliance", sessions=6)
        expected = [0, -0.1200, -0.0974, -0.0602, -0.0336, -0.0178, -0.0091]
        np.testing.assert_allclose(frame["symptoms", "estimate"].round(4), expected)
        assert list(frame.index) == list(range(7))
        assert frame.loc[0, ("symptoms", "lower")] == 0

    def test_structural_shocks_enter_in_time_order(self, fit: Fit) -> None:
        """Run the two equations by hand after one point of u, then after one point of e."""
        for shock in ("symptoms", "alliance"):
            s = 1.0 if shock == "symptoms" else 0.0
            a = -0.10 * s + (shock == "alliance")
            path = [(a, s)]
            for _ in range(5):
                s = 0.45 * s - 0.12 * a
                a = 0.35 * a - 0.10 * s
                path.append((a, s))
            frame = fit.impulse_response(shock, sessions=5, kind="structural")
            found = frame.xs("estimate", axis=1, level=1)[["alliance", "symptoms"]]
            np.testing.assert_allclose(found, path, atol=1e-12)

    def test_intervals_by_simulation(self) -> None:
        made = make_fit(known_params(), 0.01)

        def path(p: dict[str, float]) -> np.ndarray:
            g = p["innovation_cov[alliance,symptoms]"] / p["innovation_cov[symptoms,symptoms]"]
            Phi = names.matrix(p, "phi", ROLES, ROLES)
            return np.linalg.matrix_power(Phi, 3) @ [g, 1.0]

        se = simulated(made, path, 20_000).std(axis=0)
        frame = made.impulse_response("symptoms", 3, kind="structural").loc[3]
        half = (frame[:, "upper"] - frame[:, "lower"]).to_numpy() / (2 * stats.norm.ppf(0.975))
        np.testing.assert_allclose(half, se, rtol=0.03)

    def test_known_long_run(self, fit: Fit) -> None:
        assert round(fit.long_run(*ROLES).value, 4) == -0.2182
        assert round(fit.long_run(*ROLES, kind="total").value, 4) == -0.3473

    @pytest.mark.parametrize(
        "function",
        [
            lambda p: p["phi[symptoms,alliance]"] / (1 - p["phi[symptoms,symptoms]"]),
            lambda p: (np.linalg.inv(np.eye(2) - names.matrix(p, "phi", ROLES, ROLES)))[1, 0],
            lambda p: (
                p["phi[symptoms,alliance]"]
                * math.sqrt(
                    np.divide(
                        *np.diag(
                            var.stationary_cov(
                                names.matrix(p, "phi", ROLES, ROLES),
                                names.symmetric_matrix(p, "innovation_cov", ROLES),
                            )
                        )
                    )
                )
            ),
        ],
        ids=["sustained", "total", "standardized"],
    )
    def test_standard_errors_by_simulation(self, function, request) -> None:
        made = make_fit(known_params(), 0.01)
        which = request.node.callspec.id
        found = (
            made.effect(*ROLES, standardized="within")
            if which == "standardized"
            else made.long_run(*ROLES, kind=which)
        )
        draws = simulated(made, function, 20_000)
        assert found.value == pytest.approx(function(dict(made.params)))
        assert found.se == pytest.approx(draws.std(), rel=0.03)


class Held:
    """A panel that holds these scores, and the site of every client."""

    def __init__(self, scores: Observed) -> None:
        self.scores = scores

    def arrays(self) -> Observed:
        return self.scores

    def client_values(self, name: str) -> np.ndarray:
        assert name == "site"
        return np.array([f"S{i % 12}" for i in range(len(self.scores.Y))], dtype=object)


def seen_by_the_model(scores: Observed) -> Observed:
    """Return what a fit keeps of a panel."""
    return MadeModel().observe(Held(scores), tuple(range(1, 9)), ROLES)


class TestScores:
    Y = np.random.default_rng(8).normal(size=(6, 8, 2)) + np.array([1.0, 2.0])

    @pytest.fixture
    def with_scores(self) -> Fit:
        Y = self.Y.copy()
        Y[0, 4:] = np.nan
        Y[3] = np.nan
        Y[2, 2, 1] = np.nan
        return make_fit(known_params(), data=seen_by_the_model(make_scores(Y, ROLES)))

    def dense(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of (within, between, scores), by brute force."""
        Phi, Psi = var.time_ordered_to_reduced(0.35, 0.45, -0.12, -0.10, 0.0, 1.0, 1.0)
        P = var.stationary_cov(Phi, Psi)
        within = np.zeros((16, 16))
        for t in range(8):
            for s in range(t + 1):
                block = np.linalg.matrix_power(Phi, t - s) @ P
                within[2 * t : 2 * t + 2, 2 * s : 2 * s + 2] = block
                within[2 * s : 2 * s + 2, 2 * t : 2 * t + 2] = block.T
        return within, np.kron(np.ones((8, 1)), np.eye(2))

    def test_forecasts_are_conditional_expectations(self, with_scores: Fit) -> None:
        within, load = self.dense()
        cov = within + load @ load.T
        Y = with_scores.data.Y[2].ravel()
        mean = np.tile([1.0, 2.0], 8)
        known = np.flatnonzero(~np.isnan(Y) & (np.arange(16) < 8))  # sessions 1 to 4
        gain = cov[np.ix_([10, 11], known)] @ np.linalg.inv(cov[np.ix_(known, known)])
        expected = mean[[10, 11]] + gain @ (Y - mean)[known]  # session 6, two ahead
        spread = cov[np.ix_([10, 11], [10, 11])] - gain @ cov[np.ix_(known, [10, 11])]
        frame = with_scores.predict(horizon=2)
        rows = frame[(frame["client"] == "C02") & (frame["session"] == 6)]
        np.testing.assert_allclose(rows["mean"], expected)
        np.testing.assert_allclose(rows["sd"], np.sqrt(np.diag(spread)))
        assert list(frame.columns) == ["client", "session", "variable", "mean", "sd"]
        assert frame["session"].min() == 3
        assert "C03" not in set(frame["client"])

    def test_states_are_conditional_expectations(self, with_scores: Fit) -> None:
        within, load = self.dense()
        cov = within + load @ load.T
        Y = with_scores.data.Y[2].ravel()
        mean = np.tile([1.0, 2.0], 8)
        known = np.flatnonzero(~np.isnan(Y))
        solved = np.linalg.solve(cov[np.ix_(known, known)], (Y - mean)[known])
        frame = with_scores.states()
        rows = frame[frame["client"] == "C02"]
        between = rows[rows["part"] == "between"]
        np.testing.assert_allclose(between[between["session"] == 5]["mean"], load[known].T @ solved)
        np.testing.assert_allclose(
            rows[rows["part"] == "within"]["mean"], within[:, known] @ solved
        )
        assert list(frame.columns) == ["client", "session", "variable", "part", "mean", "sd"]

    def test_parts_add_up_to_the_score(self, with_scores: Fit) -> None:
        frame = with_scores.states()
        total = frame.groupby(["client", "session", "variable"])["mean"].sum().reset_index()
        row = total[(total["client"] == "C01") & (total["session"] == 3)]
        np.testing.assert_allclose(row["mean"] + [1.0, 2.0], with_scores.data.Y[1, 2])

    def test_without_data_a_panel_is_asked_for(self, with_scores: Fit) -> None:
        bare = with_scores.without_data()
        assert bare.data is None
        for call in (bare.predict, bare.states, bare.fit_indices):
            with pytest.raises(DataError, match="Pass panel="):
                call()
        pd.testing.assert_frame_equal(
            bare.predict(panel=Held(with_scores.data)), with_scores.predict()
        )
        assert bare.fingerprint() == with_scores.fingerprint()

    def test_another_panel_is_matched_by_name_and_session(self, with_scores: Fit) -> None:
        """Columns in another order, a further variable, sessions from 0: the same forecasts."""
        Y = with_scores.data.Y
        wide = np.concatenate([np.full((5, 8, 1), 9.0), Y[:, :, ::-1]], axis=2)
        wide = np.concatenate([np.full((5, 1, 3), 5.0), wide], axis=1)
        other = make_scores(wide, ("mood", "symptoms", "alliance"), first=0)
        other = replace(other, clients=with_scores.data.clients)
        pd.testing.assert_frame_equal(with_scores.predict(panel=Held(other)), with_scores.predict())
        moved = replace(with_scores, data=seen_by_the_model(other))
        assert moved.fingerprint() == with_scores.fingerprint()

    @pytest.mark.parametrize(
        ("variables", "first", "message"),
        [(("alliance", "mood"), 1, "no variable 'symptoms'"), (ROLES, 40, "none of the sessions")],
    )
    def test_a_panel_that_does_not_fit(
        self, with_scores: Fit, variables: tuple[str, str], first: int, message: str
    ) -> None:
        data = make_scores(self.Y, variables, first=first)
        with pytest.raises(DataError, match=message):
            with_scores.predict(panel=Held(data))

    def test_fingerprint_knows_scores_but_not_their_order(self, with_scores: Fit) -> None:
        Y = with_scores.data.Y
        shuffled = replace(with_scores, data=make_scores(Y[::-1], ROLES))
        padded = replace(
            with_scores, data=make_scores(np.concatenate([Y, np.full((1, 8, 2), np.nan)]), ROLES)
        )
        changed = replace(with_scores, data=make_scores(np.where(Y[1, 1, 1] < Y, 0.0, Y), ROLES))
        turned = replace(with_scores, data=make_scores(Y[..., ::-1], ROLES[::-1]))
        prints = [f.fingerprint() for f in (with_scores, shuffled, padded, turned)]
        assert len(set(prints)) == 1
        assert changed.fingerprint() != prints[0]


class TestFitIndices:
    """On complete scores, where the saturated model has a closed form."""

    n, sessions = 60, (1, 2, 3)

    def made(self, **changes) -> Fit:
        rng = np.random.default_rng(6)
        k, params = 2, known_params()
        Y = rng.normal(size=(self.n, 1, k)) + rng.normal(size=(self.n, 3, k)) + [1.0, 2.0]
        data = replace(make_scores(Y, ROLES), therapist=np.arange(self.n) % 12)
        made = make_fit(params, sessions=self.sessions, data=data, **changes)
        wide = Y.reshape(self.n, -1)
        mean, cov = implied_moments(made.model.state_space(params, ROLES, self.sessions))
        return replace(made, loglik=stats.multivariate_normal(mean, cov).logpdf(wide).sum())

    def test_chi_square_against_the_closed_form(self) -> None:
        made = self.made()
        wide = made.data.Y.reshape(self.n, -1)
        saturated = stats.multivariate_normal(wide.mean(axis=0), np.cov(wide.T, bias=True))
        found = made.fit_indices()
        expected = 2 * (saturated.logpdf(wide).sum() - made.loglik)
        assert found["chisq"] == pytest.approx(expected, rel=1e-6)
        assert found["df"] == 27 - made.n_params
        assert found["aic"] == pytest.approx(made.aic)

    def test_clusters_come_from_therapists_or_from_the_panel(self) -> None:
        def robust(by: str) -> Fit:
            diagnostics = {"boundary": [], "errors": f"cluster:{by}", "trace": 14.0}
            return self.made(diagnostics=diagnostics)

        therapist, site = robust("therapist"), robust("site")
        found = therapist.fit_indices()
        assert np.isfinite(found["chisq_scaled"])
        bare = site.fit_indices()
        assert "pass panel=" in bare["reason_scaled"] and "chisq_scaled" not in bare
        assert bare["chisq"] == found["chisq"]
        again = site.fit_indices(panel=Held(site.data))
        assert again["chisq_scaled"] == pytest.approx(found["chisq_scaled"])
        robustly = replace(therapist, diagnostics={**therapist.diagnostics, "errors": "robust"})
        assert robustly.fit_indices()["chisq_scaled"] != pytest.approx(found["chisq_scaled"])

    @pytest.mark.parametrize("trace", [None, 14.0])
    def test_systems_of_single_clients_have_no_saturated_model(self, trace: float | None) -> None:
        @dataclass(frozen=True)
        class ByClient(MadeModel):
            def groups_of(self, *args):
                (group,) = super().groups_of(*args)
                own = {name: np.repeat(getattr(group.system, name)[None], 60, axis=0)
                       for name in ("phi", "psi")}  # fmt: skip
                return [replace(group, system=replace(group.system, **own))]

        diagnostics = {"boundary": []} if trace is None else {"boundary": [], "trace": trace}
        found = replace(self.made(diagnostics=diagnostics), model=ByClient()).fit_indices()
        assert "Every client has a system of their own" in found["reason"]
        known = {key for key, value in found.items() if value == value}
        assert known == {"aic", "bic", "reason"}
        assert ("chisq_scaled" in found) == (trace is not None)

    def test_inputs_must_be_known_at_every_session(self) -> None:
        made = self.made()
        data = replace(made.data, inputs=np.ones((60, 3, 1)))

        @dataclass(frozen=True)
        class Pushed(MadeModel):
            def groups_of(self, *args):
                (group,) = super().groups_of(*args)
                return [replace(group, system=replace(group.system, drive=np.eye(4, 1)))]

        pushed = replace(made, model=Pushed(), data=data)
        assert "reason" not in pushed.fit_indices()
        Y = data.Y.copy()
        Y[7, 2] = np.nan
        gone = replace(pushed, data=replace(data, Y=Y)).fit_indices()
        assert gone["reason"].startswith("At sessions without a score (1 in all)")
        one = replace(made, data=replace(made.data, Y=Y)).fit_indices()
        assert "reason" not in one

    def test_without_a_likelihood_there_are_none(self) -> None:
        with pytest.raises(SpecificationError, match="no likelihood"):
            replace(self.made(), loglik=None).fit_indices()


class TestShowing:
    def test_one_line(self, fit: Fit) -> None:
        assert repr(fit) == (
            "<Fit RI-CLPM of alliance, symptoms · 200 clients, 8 sessions · "
            "log-likelihood -4321.5000 · converged>"
        )

    def test_text_and_html_hold_the_table(self, fit: Fit) -> None:
        assert "phi[symptoms,alliance]" in str(fit)
        assert "-0.120" in str(fit)
        assert "<table" in fit._repr_html_()
        assert "95%" in str(fit)

    def test_trouble_comes_first(self, fit: Fit) -> None:
        sentence = "between_cov[symptoms,symptoms] is 0: <no> stable differences."
        troubled = replace(
            fit, converged=False, diagnostics={**fit.diagnostics, "boundary": [sentence]}
        )
        assert "NOT CONVERGED" in repr(troubled) and "1 at a bound" in repr(troubled)
        text = str(troubled)
        assert text.index("NOT CONVERGED") < text.index(sentence) < text.index("phi[")
        assert "&lt;no&gt;" in troubled._repr_html_()

    def test_a_missing_standard_error_is_said(self, fit: Fit) -> None:
        cov = fit.cov.copy()
        cov.loc["mean[alliance]"] = np.nan
        cov["mean[alliance]"] = np.nan
        line = next(x for x in str(replace(fit, cov=cov)).splitlines() if "mean[alliance]" in x)
        assert line.count("n/a") == 4

    def test_long_tables_are_cut_and_say_so(self) -> None:
        params = known_params() | {f"mean[alliance]@{t}": 1.0 for t in range(1, 61)}
        text = str(make_fit(params))
        assert "60 more parameters: see fit.table()" in text
        assert "mean[alliance]@7" not in text

    def test_pickles_and_is_frozen(self, fit: Fit) -> None:
        fit.effect(*ROLES, standardized="within")
        again = pickle.loads(pickle.dumps(fit))
        pd.testing.assert_frame_equal(again.structural(), fit.structural())
        assert again.timing == AFTER_BEFORE
        with pytest.raises(FrozenInstanceError):
            fit.converged = False  # type: ignore[misc]

    def test_numbers_leave_as_plain_floats(self, fit: Fit) -> None:
        found = fit.effect(*ROLES)
        assert json.loads(json.dumps([found.value, found.se, found.p_value]))[0] == found.value
