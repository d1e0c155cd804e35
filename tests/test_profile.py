"""Profile intervals against other optimizers, closed forms and each other.

Tolerances: ends agree with those of another optimizer to 1e-4 standard errors, which is what its
own stopping rule leaves; with closed forms to 1e-6.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from math import exp, inf

import numpy as np
import pytest
from made_fits import known_params, make_fit, make_scores
from scipy.optimize import brentq, minimize
from scipy.stats import chi2

import alliancedyn as ad
from alliancedyn.errors import ConvergenceError, DataError, SpecificationError
from alliancedyn.results import Fit

REACH2 = chi2.ppf(0.95, 1)
TRUTH = ad.Dynamics.time_ordered(
    phi_alliance=0.35,
    phi_symptoms=0.45,
    forward=-0.12,
    backward=-0.10,
    between_cov=[[1.0, -0.3], [-0.3, 1.0]],
    mean=(3.0, 10.0),
)


def simulated(clients: int = 60, sessions: int = 5, seed: int = 1) -> ad.SessionPanel:
    return ad.simulate(TRUTH, clients=clients, sessions=sessions, missing=0.1, seed=seed)


@pytest.fixture(scope="module")
def fit() -> Fit:
    return ad.RICLPM(means="equal").fit(simulated())


def quietly(spec: ad.RICLPM, panel: ad.SessionPanel, errors: str = "observed") -> Fit:
    """Fit without hearing about bounds."""
    return spec.fit(panel, errors=errors, strict=False)


def highest(
    fit: Fit, psi: Callable[[dict[str, float]], float], value: float, starts: int = 1
) -> float:
    """Maximize the log-likelihood under psi = value with an optimizer of SciPy."""
    likelihood = fit.model.likelihood(fit.data)
    at = likelihood.layout.theta(likelihood.layout.from_params(fit.params))
    rng = np.random.default_rng(0)

    def negative(theta: np.ndarray) -> tuple[float, np.ndarray]:
        loglik, score = likelihood.value_and_score(theta)
        return (-loglik, -score) if np.isfinite(loglik) else (1e10, np.zeros_like(theta))

    def off(theta: np.ndarray) -> float:
        try:
            return 10.0 * (psi(likelihood.to_params(theta)) - value)
        except SpecificationError:  # the process does not settle
            return 100.0

    found = []
    for start in range(starts):
        jitter = 0.0 if start == 0 else 0.15
        end = minimize(
            negative,
            at + jitter * rng.standard_normal(len(at)),
            jac=True,
            method="SLSQP",
            constraints={"type": "eq", "fun": off},
            options={"ftol": 1e-11, "maxiter": 500},
        )
        if abs(off(end.x)) < 1e-6:
            found.append(-float(end.fun))
    return max(found)


def named(name: str) -> Callable[[dict[str, float]], float]:
    return lambda p: p[name]


def assert_ends(fit: Fit, psi: str | Callable[[dict[str, float]], float], starts: int = 1) -> None:
    """Both ends are where another optimizer loses half the quantile, up to 1e-4 in r."""
    found = fit.profile(psi)
    function = named(psi) if isinstance(psi, str) else psi
    for end in (found.lower, found.upper):
        lost = fit.loglik - highest(fit, function, end, starts)
        assert np.sqrt(2.0 * lost) == pytest.approx(np.sqrt(REACH2), abs=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "phi[symptoms,symptoms]",
        "phi[symptoms,alliance]",
        "mean[alliance]",
        "innovation_cov[alliance,alliance]",
        "innovation_cov[alliance,symptoms]",
        "initial_cov[symptoms,symptoms]",
        "between_cov[alliance,symptoms]",
    ],
)
def test_ends_are_where_another_optimizer_loses_as_much(fit: Fit, name: str) -> None:
    assert_ends(fit, name)


def test_ends_are_those_of_refits_with_the_parameter_held(fit: Fit) -> None:
    name = "phi[symptoms,symptoms]"
    likelihood = fit.model.likelihood(fit.data)
    at = likelihood.layout.names.index(name)
    theta = likelihood.layout.theta(likelihood.layout.from_params(fit.params))
    free = np.arange(len(theta)) != at

    def lost(value: float) -> float:
        held = theta.copy()
        held[at] = value  # the lag of a variable on itself has no unit

        def negative(others: np.ndarray) -> tuple[float, np.ndarray]:
            held[free] = others
            loglik, score = likelihood.value_and_score(held)
            return -loglik, -score[free]

        end = minimize(negative, theta[free], jac=True, method="BFGS", options={"gtol": 1e-6})
        return 2.0 * (fit.loglik + end.fun) - REACH2

    found, se = fit.profile(name), fit.se[name]
    for end, side in ((found.lower, -1.0), (found.upper, 1.0)):
        far = brentq(lost, found.value, found.value + side * 4.0 * se, xtol=1e-7)
        assert end == pytest.approx(far, abs=1e-4 * se)


def test_functions_of_parameters(fit: Fit) -> None:
    assert_ends(fit, lambda p: p["phi[symptoms,alliance]"] / (1.0 - p["phi[symptoms,symptoms]"]))
    assert_ends(fit, share("alliance"))


def share(variable: str) -> Callable[[dict[str, float]], float]:
    """Return the share of the first session's variance that is stable."""
    stable, passing = f"between_cov[{variable},{variable}]", f"initial_cov[{variable},{variable}]"
    return lambda p: p[stable] / (p[stable] + p[passing])


def test_a_function_ends_where_its_values_end(fit: Fit) -> None:
    found = fit.profile(share("symptoms"))
    assert found.lower == pytest.approx(0.0, abs=1e-3)
    assert found.notes == ("lower end: no parameters of the model lead beyond this value.",)
    assert fit.profile("between_cov[symptoms,symptoms]").lower == 0.0


def test_the_interval_of_a_function_is_the_function_of_the_interval(fit: Fit) -> None:
    name = "phi[symptoms,symptoms]"
    plain, bent = fit.profile(name), fit.profile(lambda p: exp(3.0 * p[name]))
    assert bent.lower == pytest.approx(exp(3.0 * plain.lower), rel=1e-6)
    assert bent.upper == pytest.approx(exp(3.0 * plain.upper), rel=1e-6)
    assert bent.p_value is None  # it is never zero


def test_units_do_not_matter() -> None:
    panel = simulated()
    frame = panel.frame.assign(symptoms=lambda f: 100.0 * f["symptoms"])
    variables = {"alliance": "alliance", "symptoms": "symptoms"}
    other = ad.SessionPanel.from_frame(
        frame, client="client", session="session", variables=variables, timing=panel.timing
    )
    spec = ad.RICLPM(means="equal")
    small, large = spec.fit(panel), spec.fit(other)
    for name, factor in (
        ("phi[symptoms,alliance]", 100.0),
        ("between_cov[symptoms,symptoms]", 1e4),
        ("between_cov[alliance,symptoms]", 100.0),
    ):
        a, b = small.profile(name), large.profile(name)
        assert b.lower == pytest.approx(factor * a.lower, rel=1e-5)
        assert b.upper == pytest.approx(factor * a.upper, rel=1e-5)


def test_two_sessions_have_a_closed_form() -> None:
    """A CLPM of two complete sessions is a regression: 2 (l_max - l_p(c)) = N log(RSS_c / RSS)."""
    panel = ad.simulate(TRUTH, clients=40, sessions=2, seed=3)
    Y = panel.arrays().Y
    N = len(Y)
    X = np.column_stack([np.ones(N), Y[:, 0]])
    y = Y[:, 1, 1]
    b, rss, *_ = np.linalg.lstsq(X, y, rcond=None)
    half = np.sqrt((exp(REACH2 / N) - 1.0) * rss[0] * np.linalg.inv(X.T @ X)[1, 1])
    fit = ad.CLPM().fit(panel)
    found = fit.profile("phi[symptoms,alliance]")
    assert (found.lower, found.upper) == pytest.approx((b[1] - half, b[1] + half), abs=1e-6)
    without = np.linalg.lstsq(X[:, [0, 2]], y, rcond=None)[1][0]
    assert found.p_value == pytest.approx(chi2.sf(N * np.log(without / rss[0]), 1), rel=1e-5)


def test_a_ratio_to_what_may_be_zero_has_no_upper_end() -> None:
    """Like Fieller's interval: unbounded exactly where the denominator may be zero."""
    fit = ad.RICLPM(means="equal").fit(simulated(clients=150, sessions=6))
    top, bottom = "phi[symptoms,alliance]", "phi[alliance,symptoms]"
    assert fit.profile(bottom).p_value > 0.05
    assert fit.profile(top).p_value < 0.05
    found = fit.profile(lambda p: p[top] / p[bottom])
    assert inf in (found.upper, -found.lower)
    assert any("no limit" in note for note in found.notes)
    turned = fit.profile(lambda p: p[bottom] / p[top])
    assert not turned.notes
    assert "inf" in str(found)


def test_a_variance_that_may_be_zero_ends_there_with_the_reason() -> None:
    fit = quietly(ad.RICLPM(means="equal"), simulated(clients=50, sessions=4, seed=1))
    name = "between_cov[symptoms,symptoms]"
    found = fit.profile(name)
    assert found.lower == 0.0
    assert found.notes == (
        "lower end: a variance cannot be negative, and the data are compatible with zero.",
    )
    assert found.p_value is None
    # Compatible indeed: without it the log-likelihood falls by less than half the quantile.
    assert fit.loglik - highest(fit, named(name), 1e-8, starts=3) < REACH2 / 2.0
    assert_ends_above(fit, name)


def assert_ends_above(fit: Fit, name: str) -> None:
    lost = fit.loglik - highest(fit, named(name), fit.profile(name).upper, starts=3)
    assert 2.0 * lost == pytest.approx(REACH2, abs=2e-3)


@pytest.mark.parametrize("seed", [0, 4, 6])
def test_estimates_at_a_bound_have_intervals(seed: int) -> None:
    world = replace(TRUTH, between_cov=((1e-9, 0.0), (0.0, 1e-9)))
    panel = ad.simulate(world, clients=80, sessions=5, missing=0.1, seed=seed)
    fit = quietly(ad.RICLPM(means="equal"), panel)
    assert fit.diagnostics["boundary"]
    for name in ("between_cov[alliance,alliance]", "between_cov[symptoms,symptoms]"):
        found = fit.profile(name)
        assert found.lower == 0.0
        assert 0.03 < found.upper < 1.0
        assert_ends_above(fit, name)
    lags = fit.profile("phi[symptoms,symptoms]")
    assert lags.lower < fit.params["phi[symptoms,symptoms]"] < lags.upper


def test_robust_errors_stretch_the_interval() -> None:
    panel = simulated(clients=100)
    plain, robust = (
        ad.RICLPM(means="equal").fit(panel, errors=errors) for errors in ("observed", "robust")
    )
    name = "phi[symptoms,alliance]"
    ratio = robust.se[name] / plain.se[name]
    level = 2.0 * float(chi2.cdf(REACH2 * ratio**2, 1)) / 2.0
    same = plain.profile(name, level=level)
    found = robust.profile(name)
    assert (found.lower, found.upper) == pytest.approx((same.lower, same.upper), abs=1e-6)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (ad.STARTS(means="equal"), "phi[symptoms,alliance]"),
        (ad.RICLPM(means="equal", initial="stationary"), "initial_cov[alliance,alliance]"),
        (ad.RICLPM(means="equal", lags="free"), "phi[symptoms,alliance]@3"),
        (ad.LCMSR(), "trend[symptoms]"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_other_families(spec: ad.RICLPM, name: str) -> None:
    assert_ends(quietly(spec, simulated(clients=150, sessions=5, seed=6)), name)


def test_groups() -> None:
    panel = simulated(clients=120)
    frame = panel.frame.assign(arm=lambda f: f["client"].rank(method="dense").astype(int) % 2)
    both = ad.SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables={"alliance": "alliance", "symptoms": "symptoms"},
        timing=panel.timing,
        arm="arm",
    )
    fit = quietly(ad.RICLPM(means="equal", group="arm", equal_across_groups=("between",)), both)
    name = "phi[symptoms,alliance]|arm={}"
    assert_ends(fit, name.format(1))
    assert_ends(fit, lambda p: p[name.format(1)] - p[name.format(0)])


def test_a_fit_without_its_data_takes_the_panel(fit: Fit) -> None:
    name = "phi[symptoms,alliance]"
    bare = fit.without_data()
    with pytest.raises(DataError, match="Pass panel="):
        bare.profile(name)
    assert bare.profile(name, panel=simulated()) == fit.profile(name)
    with pytest.raises(DataError, match="Pass the panel that was fitted"):
        bare.profile(name, panel=simulated(seed=2))


def test_what_cannot_be_profiled_is_refused(fit: Fit) -> None:
    with pytest.raises(SpecificationError, match="is not a parameter of this fit"):
        fit.profile("phi[symptoms,aliance]")
    with pytest.raises(SpecificationError, match="number between 0 and 1"):
        fit.profile("phi[symptoms,alliance]", level=95)
    scores = make_scores(np.zeros((3, 8, 2)), ("alliance", "symptoms"))
    with pytest.raises(SpecificationError, match="none to profile"):
        make_fit(known_params(), data=scores).profile("phi[symptoms,alliance]")
    with pytest.raises(ConvergenceError, match="not a maximum"):
        replace(fit, converged=False).profile("phi[symptoms,alliance]")


def test_a_fit_that_is_not_at_the_highest_maximum_says_so(fit: Fit) -> None:
    params = fit.params.copy()
    params["phi[symptoms,symptoms]"] += 2.0 * fit.se["phi[symptoms,symptoms]"]
    lower = fit.model.loglik(simulated(), params)
    with pytest.raises(ConvergenceError, match="not at the highest maximum"):
        replace(fit, params=params, loglik=lower).profile("phi[symptoms,alliance]")


def test_nothing_is_warned_about(fit: Fit) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit.profile("between_cov[symptoms,symptoms]")
