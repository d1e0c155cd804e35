"""Tests of nested models: against scipy, closed forms, lavaan's figures and simulated size.

Tolerances. Second derivatives by differences are good to about 1e-6. Projections are compared with
a general optimizer, which stops at about 1e-7 of the squared distance. Shares of 20,000 draws have
a standard error of at most 0.0036.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_fits import known_params, make_fit
from numpy.typing import NDArray
from reference_files import simulated
from scipy import stats
from scipy.optimize import minimize
from test_crosslagged import PHI, as_panel, scores
from test_reference import MISSING, panel

import alliancedyn as ad
from alliancedyn.causal.boundary import BoundaryTest
from alliancedyn.causal.nested import LikelihoodRatio
from alliancedyn.engine import cone, natural
from alliancedyn.engine.expected import expected_information
from alliancedyn.engine.kalman import Blocks
from alliancedyn.engine.likelihood import Likelihood
from alliancedyn.engine.moments import implied_moments, input_effects
from alliancedyn.engine.system import Layout
from alliancedyn.errors import SpecificationError
from alliancedyn.results import Fit

Array = NDArray[np.float64]

SHARE = 4 * 0.0036


def some_metric(sizes: list[int], seed: int) -> Array:
    """Return an uneven positive definite matrix of the order of the stacked triangles."""
    rng = np.random.default_rng(seed)
    n = sum(k * (k + 1) // 2 for k in sizes)
    root = rng.standard_normal((n, 3 * n))
    scale = 10.0 ** rng.uniform(-0.5, 0.5, n)
    return root @ root.T * np.outer(scale, scale)


def lengths(a: Array, metric: Array) -> Array:
    return np.einsum("ij,jk,ik->i", a, metric, a)


# -- the cone ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[1], [2], [3], [1, 2], [2, 2], [4]])
def test_projection_agrees_with_a_general_optimizer(sizes: list[int]) -> None:
    metric = some_metric(sizes, 1)
    draws = np.random.default_rng(2).standard_normal((6, len(metric)))
    z = draws @ np.linalg.inv(np.linalg.cholesky(metric))
    found = lengths(z - cone.project(z, metric, sizes), metric)

    def matrices(roots: Array) -> Array:
        parts, first = [], 0
        for k in sizes:
            L = np.zeros((k, k))
            q = k * (k + 1) // 2
            L[np.tril_indices(k)] = roots[first : first + q]
            parts.append((L @ L.T)[np.triu_indices(k)])
            first += q
        return np.concatenate(parts)

    for one, distance in zip(z, found, strict=True):

        def squared(roots: Array, one: Array = one) -> float:
            away = one - matrices(roots)
            return float(away @ metric @ away)

        rng = np.random.default_rng(3)
        best = min(
            minimize(squared, rng.standard_normal(len(one)), method="BFGS").fun for _ in range(8)
        )
        assert distance == pytest.approx(best, rel=1e-6, abs=1e-8)


def test_projection_of_two_by_two_agrees_with_a_search_over_angles() -> None:
    """Outside the cone the nearest point is s (cos, sin)(cos, sin)', a search in one angle."""
    metric = some_metric([2], 4)
    z = np.random.default_rng(5).standard_normal((300, 3)) @ np.linalg.inv(
        np.linalg.cholesky(metric)
    )
    angle = np.linspace(0.0, np.pi, 20_001)
    ray = np.stack([np.cos(angle) ** 2, np.cos(angle) * np.sin(angle), np.sin(angle) ** 2], axis=1)
    along = np.maximum(ray @ metric @ z.T, 0.0) ** 2 / lengths(ray, metric)[:, None]
    found = lengths(z, metric) - lengths(z - cone.project(z, metric, [2]), metric)
    inside = (z[:, 0] > 0.0) & (z[:, 0] * z[:, 2] > z[:, 1] ** 2)
    assert 0 < inside.sum() < len(z)
    np.testing.assert_allclose(found[~inside], along.max(axis=0)[~inside], atol=1e-5)
    np.testing.assert_allclose(found[inside], lengths(z, metric)[inside], rtol=1e-12)


def test_twenty_thousand_projections_take_less_than_two_seconds() -> None:
    import time

    metric = some_metric([2], 6)
    z = np.random.default_rng(7).standard_normal((20_000, 3))
    start = time.process_time()
    cone.project(z, metric, [2])
    assert time.process_time() - start < 2.0


def test_a_round_cone_has_the_weights_of_its_solid_angle() -> None:
    """Where distances count every entry once, PSD 2 x 2 is a circular cone of 45 degrees."""
    metric = np.diag([1.0, 2.0, 1.0])
    tail = cone.likelihood_ratio_tail(metric, metric, 0, [2], np.random.default_rng(8))
    angle = (1.0 - np.cos(np.pi / 4)) / 2
    assert tail.inside == pytest.approx(angle, abs=SHARE)
    assert tail.outside == pytest.approx(angle, abs=SHARE)


def test_one_variance_is_the_even_mixture_of_nothing_and_a_chi_square() -> None:
    metric = np.array([[3.0]])
    tail = cone.likelihood_ratio_tail(metric, metric, 0, [1], np.random.default_rng(9))
    assert tail.p_value(0.0) == 1.0
    assert tail.p_value(2.7) == pytest.approx(0.5 * stats.chi2.sf(2.7, 1), rel=0.03)


def test_two_free_variances_count_faces() -> None:
    """Two independent half-lines: weights 1/4, 1/2, 1/4."""
    metric = np.diag([1.0, 5.0])
    tail = cone.likelihood_ratio_tail(metric, metric, 0, [1, 1], np.random.default_rng(10))
    expected = 0.5 * stats.chi2.sf(4.0, 1) + 0.25 * stats.chi2.sf(4.0, 2)
    assert tail.p_value(4.0) == pytest.approx(expected, rel=0.03)


def test_the_tail_is_the_mixture_that_its_weights_say() -> None:
    metric = some_metric([2], 11)
    tail = cone.likelihood_ratio_tail(metric, metric, 0, [2], np.random.default_rng(12))
    weights = [tail.outside, 0.5 - tail.inside, 0.5 - tail.outside, tail.inside]
    for t in (0.5, 3.0, 8.0, 20.0):
        mixture = sum(w * stats.chi2.sf(t, j) for j, w in enumerate(weights) if j)
        assert tail.p_value(t) == pytest.approx(mixture, rel=0.03)


def test_free_parameters_beside_a_variance_add_their_chi_square() -> None:
    """One free parameter and one variance, correlated: 1/2 chi-square(1) + 1/2 chi-square(2)."""
    metric = np.array([[2.0, 0.9], [0.9, 1.0]])
    tail = cone.likelihood_ratio_tail(metric, metric, 1, [1], np.random.default_rng(13))
    expected = 0.5 * (stats.chi2.sf(5.0, 1) + stats.chi2.sf(5.0, 2))
    assert tail.p_value(5.0) == pytest.approx(expected, rel=0.03)


def test_a_score_that_varies_more_has_a_heavier_tail() -> None:
    metric = some_metric([2], 14)
    plain, wide = (
        cone.likelihood_ratio_tail(metric, spread, 0, [2], np.random.default_rng(15))
        for spread in (metric, 1.7 * metric)
    )
    assert wide.p_value(1.7 * 6.0) == pytest.approx(plain.p_value(6.0), rel=1e-6)


# -- the information -----------------------------------------------------------------------------


@cache
def fitted(name: str, **options: Any) -> Fit:
    model = {"CLPM": ad.CLPM, "RI-CLPM": ad.RICLPM, "LCM-SR": ad.LCMSR}[name]
    errors = options.pop("errors", "observed")
    which = options.pop("which", "panel")
    return model(**options).fit(panel(MISSING, which), errors=errors, strict=False)


def units(layout: Layout) -> Array:
    """Return the unit of every natural parameter."""
    sd = Layout(layout.blocks).natural(np.ones(layout.n_free))
    return np.where(sd != 0.0, np.abs(sd), 1.0)


def slope(likelihood: Likelihood, at: Array) -> Array:
    return natural.scores(likelihood, at).sum(axis=0)


def information(likelihood: Likelihood, at: Array) -> Array:
    """Return minus the second derivatives by the natural parameters, by differences."""
    steps = np.diag(1e-4 * units(likelihood.layout))
    rows = [slope(likelihood, at - step) - slope(likelihood, at + step) for step in steps]
    H = np.stack(rows) / (2.0 * np.diag(steps)[:, None])
    return (H + H.T) / 2.0


def test_the_natural_score_is_the_slope_of_the_likelihood() -> None:
    fit = fitted("RI-CLPM")
    likelihood = fit.model.likelihood(fit.data)  # type: ignore[attr-defined]
    at = np.array([fit.params[name] for name in likelihood.names])
    at = at + 0.05 * units(likelihood.layout)
    steps = np.diag(1e-5 * units(likelihood.layout))
    for by, step in zip(slope(likelihood, at), steps, strict=True):
        up, down = (
            likelihood.loglik(likelihood.layout.unflatten(at + sign * step)) for sign in (1, -1)
        )
        assert by == pytest.approx((up - down) / (2 * step.sum()), rel=1e-5, abs=1e-3)


def test_the_natural_information_gives_the_standard_errors_of_the_fit() -> None:
    fit = fitted("RI-CLPM")
    likelihood = fit.model.likelihood(fit.data)  # type: ignore[attr-defined]
    at = np.array([fit.params[name] for name in likelihood.names])
    H = information(likelihood, at)
    np.testing.assert_allclose(np.sqrt(np.diag(np.linalg.inv(H))), fit.se, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"covariates": ("severity",)}])
def test_the_expected_information_is_the_observed_one_of_scores_that_fit(
    options: dict[str, Any],
) -> None:
    """Clients at m +- sqrt(p) l_j, S = L L', have mean m and covariance S exactly.

    So has every subset of their columns: scores may be missing.
    """
    spec = ad.RICLPM(lags="free", **options)
    first = spec.objective(panel("crosslagged_complete", "panel"))
    at = first.layout.natural(first.start + 0.05)
    (system,) = first.systems(first.layout.unflatten(at))
    mean, cov = implied_moments(system)
    p, T = len(mean), system.n_sessions
    away = np.sqrt(p) * np.linalg.cholesky(cov).T
    plain = mean + np.concatenate([away, -away])
    holes = plain.copy()
    holes[:, [3, 4, p - 1]] = np.nan
    known = np.zeros((4 * p, T, system.drive.shape[1]))
    Y = np.concatenate([plain, holes])
    if options:
        known[: 2 * p, 0], known[2 * p :, 0] = 0.5, -1.0
        Y = Y + known[:, 0] @ input_effects(system)[:, : known.shape[2]].T
    shares = tuple(
        replace(share, blocks=Blocks.pack(Y.reshape(-1, T, 2), known), rows=np.arange(4 * p))
        for share in first.shares
    )
    fitting = replace(first, shares=shares)
    observed = information(fitting, at)
    expected = expected_information(fitting, at)
    unit = units(first.layout)
    np.testing.assert_allclose(
        expected * unit * unit[:, None], observed * unit * unit[:, None], rtol=1e-5, atol=1e-3
    )


def test_a_test_that_would_take_minutes_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("alliancedyn.engine.expected.LARGEST", 1_000)
    with pytest.raises(SpecificationError, match=r"would take minutes\. Choose fewer sessions"):
        ad.boundary_test(fitted("CLPM"), fitted("RI-CLPM"))


def test_groups_have_their_own_natural_scores() -> None:
    spec = ad.RICLPM(group="arm", equal_across_groups=("lags",))
    likelihood = spec.objective(panel("crosslagged_complete", "panel"))
    at = likelihood.layout.natural(likelihood.start)
    steps = np.diag(1e-5 * units(likelihood.layout))
    by = slope(likelihood, at)
    for i in (0, 3, 10, len(at) - 1):
        up, down = (
            likelihood.loglik(likelihood.layout.unflatten(at + s * steps[i])) for s in (1, -1)
        )
        assert by[i] == pytest.approx((up - down) / (2 * steps[i, i]), rel=1e-5, abs=1e-3)


# -- likelihood ratio ----------------------------------------------------------------------------


def test_the_plain_test_is_the_difference_of_lavaans_chi_squares() -> None:
    equal, free = simulated(MISSING, "riclpm_equal_innov"), simulated(MISSING, "riclpm_free")
    found = ad.likelihood_ratio(
        fitted("RI-CLPM"), fitted("RI-CLPM", lags="free", innovations="free")
    )
    assert found.df == equal["df"] - free["df"]
    assert found.statistic == pytest.approx(equal["chisq"] - free["chisq"], abs=2e-4)
    assert found.p_value == pytest.approx(stats.chi2.sf(found.statistic, found.df))
    assert found.scaling == 1.0
    assert str(found) == found.text
    assert f"chi-square({found.df}) = {found.statistic:.2f}" in found.text


def test_the_scaled_test_is_that_of_lavaans_scaled_chi_squares() -> None:
    """Satorra & Bentler (2001), equation (10): c = (df_0 c_0 - df_1 c_1) / (df_0 - df_1)."""
    peers = [simulated(MISSING, f"riclpm_equal{kind}_mlr")["fit"] for kind in ("_innov", "")]
    c0, c1 = (peer["chisq.scaling.factor"] for peer in peers)
    t0, t1 = (peer["chisq"] for peer in peers)
    df0, df1 = (peer["df.scaled"] for peer in peers)
    c = (df0 * c0 - df1 * c1) / (df0 - df1)
    found = ad.likelihood_ratio(
        fitted("RI-CLPM", errors="robust"), fitted("RI-CLPM", innovations="free", errors="robust")
    )
    assert found.df == df0 - df1
    assert found.scaling == pytest.approx(c, rel=1e-3)
    assert found.statistic == pytest.approx((t0 - t1) / c, rel=1e-3)
    assert "scaled by" in found.text


def test_a_scaling_that_is_not_positive_gives_no_test() -> None:
    robust = fitted("RI-CLPM", innovations="free", errors="robust")
    backwards = replace(robust, diagnostics={**robust.diagnostics, "trace": 1.0})
    found = ad.likelihood_ratio(fitted("RI-CLPM", errors="robust"), backwards)
    assert np.isnan(found.statistic)
    assert np.isnan(found.p_value)
    assert "not positive" in found.text


def test_groups_steps_order_and_items_are_tested() -> None:
    clients = panel("crosslagged_complete", "panel")
    by_arm = ad.RICLPM(group="arm")
    shared = replace(by_arm, equal_across_groups=("lags", "innovations", "between", "means"))
    pairs = [
        (ad.RICLPM(), ad.RICLPM(step=4), 2),
        (ad.RICLPM(), ad.RICLPM(order=2), 11),
        (shared, by_arm, 20),
        (replace(by_arm, equal_across_groups=("lags",)), by_arm, 4),
    ]
    fits = {spec: spec.fit(clients, strict=False) for pair in pairs for spec in pair[:2]}
    for restricted, general, df in pairs:
        found = ad.likelihood_ratio(fits[restricted], fits[general])
        assert isinstance(found, LikelihoodRatio)
        assert found.df == df
        assert found.statistic >= 0.0


@pytest.mark.parametrize(
    ("restricted", "general", "fragment"),
    [
        (("RI-CLPM", {"lags": "free"}), ("RI-CLPM", {}), "restricted fit first"),
        (("CLPM", {}), ("RI-CLPM", {}), "boundary_test"),
        (("RI-CLPM", {}), ("LCM-SR", {"means": "free"}), "boundary_test"),
        (("LCM-SR", {"growth": "log"}), ("LCM-SR", {"growth": "piecewise", "knot": 4}), "variance"),
        (
            ("RI-CLPM", {"means": "equal", "lags": "free"}),
            ("RI-CLPM", {"innovations": "free"}),
            "freer one in 'lags'",
        ),
        (("RI-CLPM", {"sessions": (1, 5)}), ("RI-CLPM", {}), "same scores"),
        (("RI-CLPM", {}), ("RI-CLPM", {"lags": "free", "errors": "robust"}), "same"),
        (("RI-CLPM", {"means": "equal", "innovations": "free"}), ("CLPM", {}), "not nested"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    restricted: tuple[str, dict[str, Any]], general: tuple[str, dict[str, Any]], fragment: str
) -> None:
    fits = [fitted(name, **options) for name, options in (restricted, general)]
    if fragment == "not nested":
        fits[1] = replace(fits[0], n_params=99, loglik=float(fits[0].loglik or 0.0) - 3.0)
    with pytest.raises(SpecificationError, match=fragment):
        ad.likelihood_ratio(*fits)


def test_fits_without_a_maximum_or_a_likelihood_are_refused() -> None:
    good, made = fitted("RI-CLPM"), make_fit(known_params())
    failed = replace(good, converged=False, diagnostics={**good.diagnostics, "failure": "flat."})
    with pytest.raises(SpecificationError, match=r"did not converge.*flat"):
        ad.likelihood_ratio(failed, good)
    with pytest.raises(SpecificationError, match="maximum-likelihood fits"):
        ad.likelihood_ratio(replace(made, loglik=None), good)
    with pytest.raises(SpecificationError, match="same scores"):
        ad.likelihood_ratio(made, good)


# -- variances at the edge -----------------------------------------------------------------------


def test_the_boundary_test_says_what_it_tests() -> None:
    found = ad.boundary_test(fitted("CLPM"), fitted("RI-CLPM"))
    assert isinstance(found, BoundaryTest)
    gain = 2 * (fitted("RI-CLPM").loglik - fitted("CLPM").loglik)  # type: ignore[operator]
    assert found.statistic == pytest.approx(gain)
    assert found.df == 3
    assert found.tested == tuple(
        f"between_cov[{pair}]"
        for pair in ("alliance,alliance", "alliance,symptoms", "symptoms,symptoms")
    )
    assert sum(found.weights.values()) == pytest.approx(1.0)
    assert set(found.weights) == {0, 1, 2, 3}
    assert found.p_value < found.naive_p_value < 0.001
    assert found == ad.boundary_test(fitted("CLPM"), fitted("RI-CLPM"))


def test_units_do_not_matter() -> None:
    Y = scores(31, 120, 5, between=0.02)
    tests = []
    for factor in (1.0, 1e3):
        clients = as_panel(Y * np.array([factor, 1.0]))
        tests.append(
            ad.boundary_test(
                ad.CLPM().fit(clients, strict=False), ad.RICLPM().fit(clients, strict=False)
            )
        )
    assert tests[0].p_value == pytest.approx(tests[1].p_value, rel=0.03)
    assert 0.0 < tests[0].p_value < 1.0


def test_trends_beside_random_intercepts_have_free_covariances() -> None:
    """Under the null hypothesis the intercepts' covariance is no edge: 4 free, 2 x 2 bounded."""
    found = ad.boundary_test(
        fitted("RI-CLPM", which="growth"), fitted("LCM-SR", which="growth", means="free")
    )
    assert set(found.weights) == {4, 5, 6, 7}
    assert found.df == 7
    assert found.p_value < 0.001  # clients of this panel differ in their trends
    clients = as_panel(scores(36, 200, 6))
    straight = ad.boundary_test(
        ad.RICLPM(means="equal").fit(clients), ad.LCMSR().fit(clients, strict=False)
    )
    assert set(straight.weights) == {6, 7, 8, 9}  # two mean trends more
    assert "trend[alliance]" in straight.tested
    assert straight.p_value > 0.01


def test_a_clpm_against_trends_and_three_series_have_no_closed_weights() -> None:
    Y = scores(32, 150, 5, phi=0.3 * np.eye(3), between=0.0)
    clients = as_panel(Y, ("alliance", "symptoms", "insight"))
    three = ad.boundary_test(
        ad.CLPM().fit(clients, strict=False), ad.RICLPM().fit(clients, strict=False), draws=3000
    )
    assert three.weights == {}
    assert three.df == 6
    assert 0.0 < three.p_value <= 1.0
    assert three.p_value <= three.naive_p_value


def test_robust_fits_use_the_spread_of_their_scores() -> None:
    Y = scores(33, 200, 5, between=0.03)
    clients = as_panel(Y)
    plain, robust = (
        ad.boundary_test(
            ad.CLPM().fit(clients, errors=errors, strict=False),
            ad.RICLPM().fit(clients, errors=errors, strict=False),
        )
        for errors in ("observed", "robust")
    )
    assert robust.statistic == pytest.approx(plain.statistic)
    assert robust.weights == {}
    assert robust.p_value == pytest.approx(plain.p_value, abs=0.05)  # the scores are normal
    assert robust.p_value != plain.p_value


def test_clients_with_matrices_of_their_own_are_weighed_by_their_scores() -> None:
    clients = panel("crosslagged_complete", "panel")
    specs = [
        ad.ContinuousTime(traits=traits, time="session", means="free") for traits in (False, True)
    ]
    found = ad.boundary_test(*(spec.fit(clients, strict=False) for spec in specs))
    assert found.df == 3
    assert found.p_value < 0.001
    robust = [spec.fit(clients, errors="robust", strict=False) for spec in specs]
    with pytest.raises(SpecificationError, match="errors='observed'"):
        ad.boundary_test(*robust)


def test_groups_have_a_cone_each() -> None:
    clients = panel("crosslagged_complete", "panel")
    found = ad.boundary_test(
        ad.CLPM(group="arm").fit(clients, strict=False),
        ad.RICLPM(group="arm").fit(clients, strict=False),
    )
    assert found.df == 6
    assert found.p_value < 0.001


@pytest.mark.parametrize(
    ("restricted", "general", "fragment"),
    [
        (("CLPM", {"means": "equal"}), ("RI-CLPM", {}), "same options"),
        (("CLPM", {}), ("RI-CLPM", {"lags": "free"}), "same options"),
        (("RI-CLPM", {}), ("LCM-SR", {"means": "growth", "lags": "free"}), "not the LCM-SR"),
        (("RI-CLPM", {}), ("RI-CLPM", {"order": 2}), "not the RI-CLPM"),
        (("RI-CLPM", {}), ("CLPM", {}), "restricted fit first"),
    ],
)
def test_what_the_boundary_test_cannot_test_is_refused(
    restricted: tuple[str, dict[str, Any]], general: tuple[str, dict[str, Any]], fragment: str
) -> None:
    fits = [fitted(name, **options) for name, options in (restricted, general)]
    if fits[1].loglik < fits[0].loglik and fits[1].n_params > fits[0].n_params:  # type: ignore[operator]
        fits[1] = replace(fits[1], loglik=fits[0].loglik)
    with pytest.raises(SpecificationError, match=fragment):
        ad.boundary_test(*fits)


def test_a_bound_in_the_restricted_model_is_refused() -> None:
    stiff = fitted("RI-CLPM", which="growth", means="equal")
    assert stiff.diagnostics["boundary"]
    with pytest.raises(SpecificationError, match=r"initial_cov.* already at its bound"):
        ad.boundary_test(stiff, fitted("LCM-SR", which="growth"))


def test_fits_without_their_data_are_refused() -> None:
    with pytest.raises(SpecificationError, match="without_data"):
        ad.boundary_test(fitted("CLPM"), fitted("RI-CLPM").without_data())


@pytest.mark.slow
def test_the_boundary_test_rejects_as_often_as_it_says() -> None:
    """300 panels without stable differences: 5 % rejections within 2.6 Monte Carlo errors."""
    p_values = []
    for seed in range(300):
        clients = as_panel(scores(4000 + seed, 150, 4, phi=PHI, between=0.0))
        fits = [spec.fit(clients, strict=False) for spec in (ad.CLPM(), ad.RICLPM())]
        found = ad.boundary_test(*fits, draws=1000)
        p_values.append((found.p_value, found.naive_p_value))
    sizes = (pd.DataFrame(p_values, columns=["mixture", "naive"]) < 0.05).mean()
    assert abs(sizes["mixture"] - 0.05) < 2.6 * np.sqrt(0.05 * 0.95 / 300)
    assert sizes["naive"] < sizes["mixture"]
