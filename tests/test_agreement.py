"""Two independent routes to one number, for whole fits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from reference_files import panel_scores, simulated, to_wide
from test_reference import MISSING, panel

from alliancedyn import CLPM, RICLPM
from alliancedyn.engine.moments import implied_moments, loglik_by_client

Array = NDArray[np.float64]

SPECS = [
    RICLPM(),
    RICLPM(lags="free", innovations="free"),
    RICLPM(initial="stationary"),
    RICLPM(means="equal"),
    CLPM(),
    CLPM(innovations="free"),
    CLPM(initial="stationary", means="equal"),
]


def derivative(function: Callable[[Array], float], at: Array, i: int, step: float) -> float:
    """Fourth-order central difference."""
    e = np.zeros(len(at))
    e[i] = step
    near = (function(at + e) - function(at - e)) / (2 * step)
    far = (function(at + 2 * e) - function(at - 2 * e)) / (4 * step)
    return (4 * near - far) / 3


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_score_by_theta(spec: CLPM | RICLPM) -> None:
    objective = spec.objective(panel(MISSING, "panel"))
    rng = np.random.default_rng(1)
    theta = objective.start + 0.05 * rng.standard_normal(len(objective.start))
    _, score = objective.value_and_score(theta)
    for i in range(len(theta)):
        numeric = derivative(lambda x: objective.value_and_score(x)[0], theta, i, 1e-3)
        assert score[i] == pytest.approx(numeric, rel=1e-6, abs=1e-6 * np.abs(score).max())


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_fit_is_the_wide_likelihood(spec: CLPM | RICLPM) -> None:
    data = panel(MISSING, "panel")
    fit = spec.fit(data)
    system = spec.state_space(fit.params, fit.variables, fit.sessions)
    wide = to_wide(panel_scores(MISSING)[0])
    dense = loglik_by_client(wide, *implied_moments(system)).sum()
    assert fit.loglik == pytest.approx(dense, rel=1e-9)
    assert spec.loglik(data, fit.params) == pytest.approx(dense, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("riclpm_equal_innov", RICLPM()),
        ("riclpm_free", RICLPM(lags="free", innovations="free")),
        ("clpm_equal", CLPM(innovations="free")),
    ],
)
def test_published_values_and_gradients_away_from_the_maximum(
    name: str, spec: CLPM | RICLPM
) -> None:
    reference = simulated("likelihood_values", name)
    likelihood = spec.objective(panel(MISSING, "panel"))
    for point in reference["points"]:
        value = spec.loglik(panel(MISSING, "panel"), point["params"])
        assert value == pytest.approx(point["loglik"], rel=1e-9)
        theta = likelihood.layout.theta(likelihood.layout.from_params(point["params"]))
        slopes = dict(zip(reference["order"], point["gradient"], strict=True))
        by_name = likelihood.layout.jacobian(theta).T @ [slopes[n] for n in likelihood.names]
        _, score = likelihood.value_and_score(theta)
        np.testing.assert_allclose(score, by_name, rtol=1e-6, atol=1e-6 * np.abs(score).max())


def test_clpm_is_an_riclpm_without_random_intercepts() -> None:
    data = panel(MISSING, "panel")
    fit = CLPM().fit(data)
    zero = {f"between_cov[{a}]": 0.0 for a in
            ("alliance,alliance", "alliance,symptoms", "symptoms,symptoms")}  # fmt: skip
    assert RICLPM().loglik(data, {**fit.params, **zero}) == pytest.approx(fit.loglik, rel=1e-12)


def test_stationary_fit_is_the_free_one_at_its_parameters() -> None:
    data = panel(MISSING, "panel")
    fit = RICLPM(initial="stationary").fit(data)
    assert RICLPM().loglik(data, fit.params) == pytest.approx(fit.loglik, rel=1e-12)
    by_covariance = {n: v for n, v in fit.params.items() if not n.startswith("innovation_cov")}
    again = RICLPM(initial="stationary").loglik(data, by_covariance)
    assert again == pytest.approx(fit.loglik, rel=1e-10)


def test_stationary_errors_are_those_of_a_dense_hessian() -> None:
    """Fourth-order second differences of the likelihood in (phi, initial, between, mean)."""
    data = panel(MISSING, "panel")
    spec = RICLPM(initial="stationary")
    fit = spec.fit(data)
    free = [name for name in fit.params.index if not name.startswith("innovation_cov")]
    at, step = fit.params[free].to_numpy(), 0.02 * fit.se[free].to_numpy()

    def value(x: Array) -> float:
        return spec.loglik(data, dict(zip(free, x, strict=True)))

    n = len(free)
    H = np.empty((n, n))
    for i in range(n):
        for j in range(i + 1):
            a, b = step[i] * np.eye(n)[i], step[j] * np.eye(n)[j]

            def second(s: float, a: Array = a, b: Array = b) -> float:
                corners = [value(at + s * u * a + s * v * b) * u * v
                           for u in (-1, 1) for v in (-1, 1)]  # fmt: skip
                return sum(corners) / (4 * s * s)

            mixed = (4 * second(1.0) - second(2.0)) / 3
            H[i, j] = H[j, i] = mixed / (step[i] * step[j])
    errors = np.sqrt(np.diag(np.linalg.inv(-H)))
    np.testing.assert_allclose(fit.se[free], errors, rtol=1e-5)
    indirect = fit.derive(
        lambda p: p["initial_cov[alliance,alliance]"]
        - p["phi[alliance,alliance]"] ** 2 * p["initial_cov[alliance,alliance]"]
        - 2 * p["phi[alliance,alliance]"] * p["phi[alliance,symptoms]"]
        * p["initial_cov[alliance,symptoms]"]
        - p["phi[alliance,symptoms]"] ** 2 * p["initial_cov[symptoms,symptoms]"]
    )  # fmt: skip
    assert indirect.value == pytest.approx(fit.params["innovation_cov[alliance,alliance]"])
    assert indirect.se == pytest.approx(fit.se["innovation_cov[alliance,alliance]"], rel=1e-6)
