"""Every family and option by three routes: kernel, dense normal, differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from drawn_panels import INDICATORS, ITEMS, ROLES, knock_out
from numpy.typing import NDArray

from alliancedyn import ALT, CLPM, GCLM, LCMSR, RICLPM, STARTS, LatentChange
from alliancedyn.engine.assembly import Assembly, block_diagonal, derivatives, join
from alliancedyn.engine.kalman import StateSpace
from alliancedyn.engine.likelihood import Likelihood, of_group
from alliancedyn.engine.moments import implied_moments, input_effects, loglik_by_client
from alliancedyn.errors import SpecificationError
from alliancedyn.models import Specification
from alliancedyn.models.moderation import Moderated
from alliancedyn.results import Observed

Array = NDArray[np.float64]

CLIENTS, SESSIONS = 26, (1, 2, 3, 4, 5)
FREE = {"lags": "free", "innovations": "free"}
KNOWN = {"covariates": ("age", "sex"), "time_varying": ("crisis",)}
MIXED = {"alliance": INDICATORS["alliance"]}  # symptoms a single score
ARMS = {"group": "arm"}

SPECIFICATIONS = [
    CLPM(),
    CLPM(**FREE),
    CLPM(initial="stationary", means="equal"),
    CLPM(order=2),
    CLPM(order=2, **FREE),
    CLPM(order=2, step=4),
    CLPM(order=2, initial="stationary"),
    CLPM(step=3, innovations="free"),
    CLPM(**KNOWN),
    CLPM(measurement_var="free"),
    RICLPM(),
    RICLPM(**FREE),
    RICLPM(initial="stationary"),
    RICLPM(initial="stationary", **KNOWN),
    RICLPM(means="equal", lags="free"),
    RICLPM(order=2, covariates=("age",)),
    RICLPM(order=2, innovations="free", step=3),
    RICLPM(step=4),
    RICLPM(measurement_var={"alliance": 0.1, "symptoms": 0.3}),
    RICLPM(measurement_var="equal", **KNOWN),
    RICLPM(moderators=("age",)),
    RICLPM(moderators=("age", "sex"), covariates=("sex",), step=3),
    STARTS(),
    STARTS(**KNOWN),
    STARTS(initial="free", lags="free"),
    LCMSR(),
    LCMSR(growth="log", **FREE),
    LCMSR(growth="piecewise", knot=3),
    LCMSR(growth="free"),
    LCMSR(growth="free", covariates=("age",), time_varying=("crisis",)),
    LCMSR(means="free", initial="stationary"),
    LCMSR(growth="piecewise", knot=2, means="free", measurement_var="free"),
    LCMSR(order=2),
    LCMSR(order=2, initial="stationary", growth="log"),
    LCMSR(step=3, **KNOWN),
    ALT(),
    ALT(growth="log", innovations="free"),
    ALT(growth="piecewise", knot=3, lags="free"),
    ALT(growth="free"),
    ALT(step=3, **KNOWN),
    ALT(growth="free", measurement_var="equal", covariates=("age",)),
    GCLM(),
    GCLM(**FREE),
    GCLM(unit_loadings="equal", innovations="free"),
    GCLM(means="equal", step=3),
    GCLM(**KNOWN),
    LatentChange(),
    LatentChange(innovations="equal"),
    LatentChange(innovations="free", measurement_var=None),
    LatentChange(innovations="equal", **KNOWN),
    RICLPM(**ARMS),
    RICLPM(equal_across_groups=("lags",), innovations="free", **ARMS),
    RICLPM(equal_across_groups=("means", "innovations"), covariates=("age",), **ARMS),
    RICLPM(equal_across_groups=("between", "initial"), time_varying=("crisis",), **ARMS),
    STARTS(equal_across_groups=("lags", "measurement"), **ARMS),
    LCMSR(growth="free", equal_across_groups=("between", "means"), **ARMS),
    ALT(equal_across_groups=("lags", "innovations"), **ARMS),
    GCLM(equal_across_groups=("lags",), **ARMS),
    LatentChange(equal_across_groups=("lags", "means"), **ARMS),
    RICLPM(indicators=INDICATORS),
    RICLPM(indicators=INDICATORS, loadings="free", item_intercepts="free", measurement_var="free"),
    RICLPM(indicators=INDICATORS, loadings="free", measurement_var="equal", means="equal"),
    RICLPM(indicators=INDICATORS, measurement_var={"bond": 0.2}, lags="free", **KNOWN),
    RICLPM(indicators=INDICATORS, equal_across_groups=("measurement", "lags"), **ARMS),
    RICLPM(indicators=MIXED, step=3),
    RICLPM(indicators=MIXED, item_intercepts="free", measurement_var="free", means="equal"),
    CLPM(indicators=INDICATORS, initial="stationary"),
    CLPM(indicators=INDICATORS, order=2, loadings="free"),
    LCMSR(indicators=INDICATORS, growth="free"),
    LCMSR(indicators=MIXED, growth="piecewise", knot=3, loadings="free"),
    LCMSR(indicators=INDICATORS, item_intercepts="free", means="free"),
    ALT(indicators=INDICATORS, loadings="free"),
    ALT(indicators=MIXED, growth="free", item_intercepts="free"),
    GCLM(indicators=INDICATORS),
    LatentChange(indicators=INDICATORS, innovations="equal"),
    LatentChange(indicators=MIXED, loadings="free"),
]  # fmt: skip


def scores_of(spec: Specification) -> Observed:
    """Make scores of few clients, with holes, for a specification of any kind."""
    rng = np.random.default_rng(5)
    items = {None: ROLES, 2: ITEMS, 1: (*INDICATORS["alliance"], "symptoms")}
    names = items[len(spec.indicators) if spec.indicators else None]
    level = rng.standard_normal((CLIENTS, 1, len(names)))
    drift = rng.standard_normal((CLIENTS, 1, len(names))) * np.arange(len(SESSIONS))[:, None] * 0.2
    Y = level + drift + rng.standard_normal((CLIENTS, len(SESSIONS), len(names)))
    Y = knock_out(Y * (2.0 if len(names) == 2 else 1.0) + 5.0, rng)
    n_known = len(spec.covariates) + len(spec.moderators)
    made = Observed.of_scores(np.arange(CLIENTS).astype(object), SESSIONS, names, Y)
    return replace(
        made,
        covariates=rng.standard_normal((CLIENTS, n_known)),
        inputs=rng.standard_normal((CLIENTS, len(SESSIONS), len(spec.time_varying))),
        group=np.arange(CLIENTS) % 2 if spec.group else made.group,
        groups=("arm=0", "arm=1") if spec.group else (),
    )


def admissible(likelihood: Likelihood, seed: int) -> Array:
    """Draw parameters around the start, not so near a bound that rounding grows."""
    rng = np.random.default_rng(seed)
    usual, _ = likelihood.value_and_score(likelihood.start)
    for spread in 0.15 * 0.9 ** np.arange(30):
        theta = likelihood.start + spread * rng.standard_normal(len(likelihood.start))
        if likelihood.value_and_score(theta)[0] > usual - 200.0:
            return np.asarray(theta)
    raise AssertionError("no admissible parameters near the start")


def derivative(function: Callable[[Array], float], at: Array, i: int, step: float) -> float:
    """Central differences, two Richardson steps: an error of order step^6."""
    e = np.zeros(len(at))
    e[i] = step
    a, b, c = ((function(at + k * e) - function(at - k * e)) / (2 * k * step) for k in (4, 2, 1))
    first, second = (4 * b - a) / 3, (4 * c - b) / 3
    return (16 * second - first) / 15


def dense_loglik(system: StateSpace, Y: Array, inputs: Array) -> float:
    """Log-likelihood of scores (n, T, p) as one normal for each client."""
    n = len(Y)
    if system.phi.ndim == 4:
        alone = [replace(system, phi=system.phi[i], psi=system.psi[i]) for i in range(n)]
        rows = [slice(i, i + 1) for i in range(n)]
        return sum(dense_loglik(s, Y[r], inputs[r]) for s, r in zip(alone, rows, strict=True))
    mean, cov = implied_moments(system)
    shift = inputs.reshape(n, -1) @ input_effects(system).T
    return float(loglik_by_client(Y.reshape(n, -1) - shift, mean, cov).sum())


@pytest.mark.parametrize("spec", SPECIFICATIONS, ids=str)
def test_likelihood_is_that_of_a_dense_normal(spec: Specification) -> None:
    data = scores_of(spec)
    likelihood = spec.likelihood(data)
    theta = admissible(likelihood, 1)
    value, _ = likelihood.value_and_score(theta)
    params = likelihood.to_params(theta)
    groups = spec.groups_of(params, data, ROLES)
    assert sorted(np.concatenate([group.rows for group in groups])) == list(range(CLIENTS))
    dense = sum(dense_loglik(g.system, data.Y[g.rows], g.inputs) for g in groups)
    assert value == pytest.approx(dense, rel=1e-9)
    by_name = likelihood.loglik(spec.matrices(params, spec.design(data)))
    assert by_name == pytest.approx(dense, rel=1e-9)


@pytest.mark.parametrize("spec", SPECIFICATIONS, ids=str)
def test_score_is_the_derivative(spec: Specification) -> None:
    likelihood = spec.likelihood(scores_of(spec))
    likelihood.value_and_score(likelihood.start)  # what is taken as constant is taken here
    theta = admissible(likelihood, 2)
    _, score = likelihood.value_and_score(theta)
    size = np.abs(score).max()
    for i, name in enumerate(likelihood.names):
        numeric = derivative(lambda x: likelihood.value_and_score(x)[0], theta, i, 2e-4)
        assert score[i] == pytest.approx(numeric, rel=1e-6, abs=1e-6 * size), name
    each = likelihood.scores(theta)
    assert each.shape == (CLIENTS, len(theta))
    np.testing.assert_allclose(each.sum(axis=0), score, rtol=1e-9, atol=1e-10 * size)


@pytest.mark.parametrize("spec", SPECIFICATIONS, ids=str)
def test_reported_parameters_move_as_the_jacobian_says(spec: Specification) -> None:
    likelihood = spec.likelihood(scores_of(spec))
    theta = admissible(likelihood, 3)
    J = likelihood.jacobian(theta)
    names = list(likelihood.to_params(theta))
    assert J.shape == (len(names), len(theta))
    rng = np.random.default_rng(4)
    for _ in range(3):
        along = rng.standard_normal(len(theta))

        def moved(step: float, along: Array = along) -> Array:
            return np.array(list(likelihood.to_params(theta + step * along).values()))

        near, far = ((moved(h) - moved(-h)) / (2 * h) for h in (1e-4, 2e-4))
        numeric = (4 * near - far) / 3
        np.testing.assert_allclose(J @ along, numeric, rtol=1e-7, atol=1e-7 * np.abs(numeric).max())


@pytest.mark.parametrize("spec", SPECIFICATIONS, ids=str)
def test_what_is_taken_as_constant_is_constant(spec: Specification) -> None:
    likelihood = spec.likelihood(scores_of(spec))
    for share in likelihood.shares:
        plain = share.family.plain if isinstance(share.family, Moderated) else share.family
        assert isinstance(plain, Assembly)
        here, there = (
            {
                key: value
                for key, value in of_group(
                    likelihood.layout.matrices(admissible(likelihood, seed)), share.group
                ).items()
                if key != "moderation"
            }
            for seed in (5, 6)
        )
        fixed = [key for key in here if key not in plain.nonlinear]
        first, second = (derivatives(plain._flat_system, m, fixed) for m in (here, there))
        for key in fixed:
            np.testing.assert_allclose(first[key], second[key], atol=1e-12, err_msg=key)


@pytest.mark.parametrize("spec", SPECIFICATIONS, ids=str)
def test_loadings_that_depend_on_nothing_are_not_differentiated(spec: Specification) -> None:
    """``by_load`` saves work in the kernel: it must not be off where loadings move."""
    likelihood = spec.likelihood(scores_of(spec))
    first, second = (
        likelihood.systems(likelihood.layout.matrices(admissible(likelihood, seed)))
        for seed in (7, 8)
    )
    for share, here, there in zip(likelihood.shares, first, second, strict=True):
        if not np.array_equal(here.load, there.load):
            assert share.family.by_load


SETTLED = [spec for spec in SPECIFICATIONS if spec.initial == "stationary"]


@pytest.mark.parametrize("spec", SETTLED, ids=str)
def test_a_settled_process_stays_as_it_is(spec: Specification) -> None:
    """The first state has the covariance that transitions and innovations keep, as reported."""
    likelihood = spec.likelihood(scores_of(spec))
    theta = admissible(likelihood, 9)
    params = likelihood.to_params(theta)
    systems = likelihood.systems(likelihood.layout.matrices(theta))
    for share, system in zip(likelihood.shares, systems, strict=True):
        phi, d = system.phi[0], system.n_dynamic
        P = system.initial_cov[:d, :d]
        np.testing.assert_allclose(phi @ P @ phi.T + system.psi[0], P, rtol=1e-9, atol=1e-9)
        end = "" if share.group is None else f"|{share.group}"
        reported = [value for name, value in params.items()
                    if name.startswith("initial_cov") and name.endswith(end)]  # fmt: skip
        np.testing.assert_allclose(reported, P[np.triu_indices(d)], rtol=1e-12)


def test_every_family_has_every_growth_and_every_kind_of_innovations() -> None:
    """The table above is only as good as it is complete."""
    families = {type(spec) for spec in SPECIFICATIONS}
    assert families == {CLPM, RICLPM, STARTS, LCMSR, ALT, GCLM, LatentChange}
    for family, option in [
        (LCMSR, "growth"), (ALT, "growth"), (LatentChange, "innovations"), (CLPM, "order"),
        (GCLM, "unit_loadings"), (RICLPM, "loadings"), (RICLPM, "item_intercepts"),
        (RICLPM, "initial"), (RICLPM, "means"), (LCMSR, "means"), (CLPM, "innovations"),
    ]:  # fmt: skip
        used = {getattr(spec, option) for spec in SPECIFICATIONS if type(spec) is family}
        assert used == set(family.choices()[option]), (family, option)


# ---------------------------------------------------------------- the tools themselves


def test_complex_steps_are_exact() -> None:
    rng = np.random.default_rng(0)
    matrices = {"a": rng.standard_normal((1, 2, 3)), "b": rng.standard_normal((4,))}

    def function(m: dict[str, Array]) -> Array:
        cubes = (m["a"] ** 3).reshape(-1, 6)
        product = np.exp(m["b"][..., :1]) * m["a"][..., 0, 0, :1]
        return join([cubes, product], -1)

    by = derivatives(function, matrices, ["a", "b"])
    expected = np.zeros((6, 7))
    expected[np.arange(6), np.arange(6)] = 3 * matrices["a"].ravel() ** 2
    expected[0, 6] = np.exp(matrices["b"][0])
    np.testing.assert_allclose(by["a"], expected, rtol=1e-14)
    np.testing.assert_allclose(by["b"][0, 6], np.exp(matrices["b"][0]) * matrices["a"][0, 0, 0])
    assert not by["b"][1:].any() and by["b"].shape == (4, 7)
    assert derivatives(function, matrices, []) == {}


def test_blocks_on_a_diagonal_broadcast() -> None:
    rng = np.random.default_rng(1)
    one, many = rng.standard_normal((2, 2)), rng.standard_normal((3, 1, 1)) * 1j
    made = block_diagonal(one, many)
    assert made.shape == (3, 3, 3) and made.dtype == complex
    np.testing.assert_array_equal(made[2, :2, :2], one)
    assert made[1, 2, 2] == many[1, 0, 0]
    assert not made[:, :2, 2:].any() and not made[:, 2:, :2].any()
    beside = join([one, np.ones((3, 2, 1))], -1)
    assert beside.shape == (3, 2, 3)
    np.testing.assert_array_equal(beside[0, :, :2], one)


def test_where_there_is_no_process_the_likelihood_is_minus_infinity() -> None:
    spec = RICLPM(initial="stationary")
    likelihood = spec.likelihood(scores_of(spec))
    matrices = likelihood.layout.matrices(likelihood.start)
    matrices["phi"][0] = np.diag([1.2, 0.3])
    value, score = likelihood.value_and_score(likelihood.layout.theta(matrices))
    assert value == -np.inf and not score.any()
    with pytest.raises(SpecificationError):
        likelihood.loglik(matrices)
