"""Families recover what panels were drawn from, and coincide where mathematics says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from drawn_panels import INDICATORS, ITEMS, ROLES, draw, knock_out, to_panel
from numpy.typing import NDArray
from scipy import stats

from alliancedyn import ALT, CLPM, GCLM, LCMSR, RICLPM, STARTS, LatentChange, SessionPanel
from alliancedyn.engine import names, starting
from alliancedyn.models import Specification
from alliancedyn.results import Observed

Array = NDArray[np.float64]

CLIENTS, N_SESSIONS = 1200, 8
SESSIONS = tuple(range(1, N_SESSIONS + 1))
MIXED = {"alliance": INDICATORS["alliance"]}
KNOWN = {"covariates": ("age",), "time_varying": ("crisis",)}

# ---------------------------------------------------------------- the truth, by canonical name

PHI = {"alliance,alliance": 0.36, "alliance,symptoms": -0.05,
       "symptoms,alliance": -0.12, "symptoms,symptoms": 0.45}  # fmt: skip
BY_PAIR = {
    "phi": PHI,
    "phi2": {"alliance,alliance": 0.15, "alliance,symptoms": 0.04,
             "symptoms,alliance": -0.08, "symptoms,symptoms": 0.12},
    "step": {"alliance,symptoms": -0.10, "symptoms,alliance": 0.20},
    "ma": {"alliance,alliance": 0.15, "alliance,symptoms": -0.04,
           "symptoms,alliance": 0.08, "symptoms,symptoms": -0.12},
    "innovation_cov": {"alliance,alliance": 1.0, "alliance,symptoms": -0.25,
                       "symptoms,symptoms": 1.4},
    "coupling": {"alliance,symptoms": 0.04, "symptoms,alliance": -0.06},
    "moderation": {"alliance,alliance,age": 0.08, "alliance,symptoms,age": 0.03,
                   "symptoms,alliance,age": -0.10, "symptoms,symptoms,age": 0.05},
}  # fmt: skip
BY_NAME = {
    "intercept": {"alliance": 5.0, "symptoms": 14.0, "bond": 4.0, "task": 3.5, "goal": 4.4,
                  "parcel1": 2.4, "parcel2": 2.1},
    "trend": {"alliance": 0.15, "symptoms": -0.5},
    "trend2": {"alliance": -0.05, "symptoms": 0.1},
    "self": {"alliance": -0.25, "symptoms": -0.3},
    "measurement_var": {"alliance": 0.5, "symptoms": 0.8, "bond": 0.5, "task": 0.6, "goal": 0.4,
                        "parcel1": 0.5, "parcel2": 0.7},
    "loading": {"task": 0.9, "goal": 1.1, "parcel2": 0.8},
}  # fmt: skip
SPREAD = {"": 1.0, ".trend": 0.5, ".trend2": 0.4, ".next": 1.3}  # SDs of parts of a series
SIZE = {"alliance": 1.0, "symptoms": 1.3}


def of_parts(first: str, second: str, family: str) -> float:
    """Covariance of two stable or first-session parts: modest correlations, positive definite."""
    sizes = []
    for part in (first, second):
        series, dot, end = part.partition(".")
        sizes.append(SIZE[series] * SPREAD[dot + end])
    size = sizes[0] * sizes[1] * (1.5 if family == "initial_cov" else 1.0)
    if first == second:
        return size
    same = first.partition(".")[0] == second.partition(".")[0]
    return size * (0.15 if same else -0.2)


def true_value(name: str) -> float:
    """Return what a parameter of this name is in all the panels here."""
    base, _, group = name.partition("|")
    family, index, session = names.parse(base)
    pair = ",".join(index)
    wave = 0.04 * np.sin(2.0 * session) if session is not None else 0.0
    if family in ("between_cov", "initial_cov", "initial_between_cov"):
        value = of_parts(index[0], index[1], family)
    elif family == "mean":
        start, slope = {"alliance": (5.0, 0.1), "symptoms": (14.0, -0.6)}[index[0]]
        value = start + slope * (session or 0)
    elif family == "unit_loading":
        value = 1.0 + 3.0 * wave
    elif family == "basis":
        value = (session - 1) * 1.15
    elif family == "between":
        value = {"": 0.4, ".trend": -0.1}[
            index[0].removeprefix("alliance").removeprefix("symptoms")
        ]
    elif family == "input":
        value = {"alliance": -0.6, "symptoms": 0.9}[index[0]]
    elif family in BY_PAIR:
        value = BY_PAIR[family][pair] + (wave if family in ("phi", "innovation_cov") else 0.0)
    else:
        value = BY_NAME[family][pair] + (wave if family == "measurement_var" else 0.0)
    return float(value * (0.8 if group == "arm=1" and family != "mean" else 1.0))


def without_scores(spec: Specification, n: int, seed: int) -> Observed:
    """Make clients with covariates, inputs and arms, but without scores."""
    rng = np.random.default_rng(seed)
    items = {None: ROLES, 2: ITEMS, 1: (*INDICATORS["alliance"], "symptoms")}
    variables = items[len(spec.indicators) if spec.indicators else None]
    bare = Observed.of_scores(
        np.arange(n).astype(object),
        SESSIONS,
        variables,
        np.full((n, N_SESSIONS, len(variables)), np.nan),
    )
    known = len(spec.covariates) + len(spec.moderators)
    return replace(
        bare,
        covariates=np.repeat(rng.standard_normal((n, 1)), known, axis=1),
        inputs=(rng.random((n, N_SESSIONS, len(spec.time_varying))) < 0.2).astype(float),
        group=np.arange(n) % 2 if spec.group else bare.group,
        groups=("arm=0", "arm=1") if spec.group else (),
    )


def drawn(
    spec: Specification, seed: int, n: int = CLIENTS
) -> tuple[SessionPanel, dict[str, float]]:
    """Draw a panel with missing scores from a specification at the true values."""
    data = without_scores(spec, n, seed)
    rng = np.random.default_rng(seed + 1)
    params = {name: true_value(name) for name in spec.layout(spec.design(data)).names}
    Y = np.empty_like(data.Y)
    for group in spec.groups_of(params, data, ROLES):
        Y[group.rows] = draw(group.system, len(group.rows), rng, group.inputs)
    by_client = {"age": data.covariates[:, 0]} if data.covariates.size else {}
    if spec.group:
        by_client["arm"] = data.group
    crisis = data.inputs[:, :, 0] if data.inputs.size else None
    return to_panel(knock_out(Y, rng), data.variables, by_client, crisis), params


RECOVERED = [
    CLPM(),
    CLPM(order=2, innovations="free"),
    RICLPM(),
    RICLPM(lags="free", innovations="free"),
    RICLPM(initial="stationary", means="equal"),
    RICLPM(step=5),
    RICLPM(order=2),
    RICLPM(**KNOWN),
    RICLPM(moderators=("age",)),
    RICLPM(measurement_var={"alliance": 0.5, "symptoms": 0.8}),
    RICLPM(group="arm", equal_across_groups=("means",)),
    RICLPM(group="arm", equal_across_groups=("lags", "between")),
    RICLPM(indicators=INDICATORS),
    RICLPM(indicators=INDICATORS, item_intercepts="free", measurement_var="equal"),
    RICLPM(variables=ROLES, indicators=MIXED, **KNOWN),
    STARTS(),
    LCMSR(),
    LCMSR(growth="log"),
    LCMSR(growth="piecewise", knot=4),
    LCMSR(growth="free"),
    LCMSR(means="free", **KNOWN),
    LCMSR(indicators=INDICATORS),
    ALT(),
    ALT(growth="free", innovations="free"),
    ALT(growth="log", **KNOWN),
    GCLM(),
    GCLM(unit_loadings="equal", **KNOWN),
    LatentChange(),
    LatentChange(innovations="equal"),
    LatentChange(innovations="equal", measurement_var=None, **KNOWN),
]  # fmt: skip


@pytest.mark.parametrize("spec", RECOVERED, ids=str)
def test_what_was_put_in_comes_out(spec: Specification) -> None:
    """Every estimate within four standard errors, and all jointly as far off as they should be.

    The joint distance is chi-square with as many degrees of freedom as parameters; both tails
    count, because standard errors that are too large would hide errors of the estimates.
    """
    bent = getattr(spec, "growth", None) == "piecewise"  # two slopes look like a persistent process
    panel, params = drawn(spec, 11, 5000 if bent else CLIENTS)
    fit = spec.fit(panel, strict=False)
    assert fit.converged and not fit.diagnostics["boundary"]
    assert fit.n_params == len(params)
    truth = np.array(list(params.values()))
    away = fit.params[list(params)].to_numpy() - truth
    for name, distance in zip(params, away / fit.se[list(params)], strict=True):
        assert abs(distance) < 4.0, (name, params[name], fit.params[name], distance)
    cov = fit.cov.loc[list(params), list(params)].to_numpy()
    joint = float(away @ np.linalg.solve(cov, away))
    assert 1e-4 < stats.chi2.sf(joint, len(params)) < 1.0 - 1e-4


def test_lags_of_steep_courses_are_not_taken_for_persistence() -> None:
    """Starting values from a large panel, whatever the units."""
    spec = LCMSR()
    data = without_scores(spec, 4000, 1)
    params = {name: true_value(name) for name in spec.layout(spec.design(data)).names}
    (group,) = spec.groups_of(params, data, ROLES)
    Y = draw(group.system, 4000, np.random.default_rng(2)) * [1.0, 1000.0]
    likelihood = spec.likelihood(replace(data, Y=Y))
    start = likelihood.layout.matrices(likelihood.start)
    phi = start["phi"][0] / np.array([[1.0, 1e-3], [1e3, 1.0]])
    assert np.abs(phi - lags(params)).max() < 0.3
    usual = starting.moments(Y, traits=True).phi / np.array([[1.0, 1e-3], [1e3, 1.0]])
    assert np.abs(usual - lags(params)).max() > 0.3


def test_an_alt_of_random_walks_stays_where_scores_have_a_covariance() -> None:
    """Away from there the likelihood of a filter can be as high as one likes."""
    Y = np.random.default_rng(3).standard_normal((100, 8, 2)).cumsum(axis=1)
    fit = ALT().fit(to_panel(Y, ROLES), strict=False)
    assert fit.converged
    centered = (Y - Y.mean(axis=0)).reshape(100, -1)
    sample = centered.T @ centered / 100
    saturated = -50.0 * (np.linalg.slogdet(2.0 * np.pi * sample)[1] + 16)
    assert saturated - 150.0 < fit.loglik < saturated


def test_courses_without_deviations_are_found_exactly() -> None:
    """Scores that are nothing but courses: all but the share left to deviations is theirs."""
    rng = np.random.default_rng(0)
    f = rng.standard_normal((50, 4)) @ (np.eye(4) + 0.1) * [1.0, 0.3, 500.0, 90.0]
    loads = np.zeros((6, 2, 4))
    loads[:, 0, 0] = loads[:, 1, 2] = 1.0
    loads[:, 0, 1] = loads[:, 1, 3] = np.log1p(np.arange(6))
    Y = np.einsum("tim,nm->nti", loads, f)
    rough = starting.moments(Y, traits=True)
    B, deviations = starting.courses(rough, loads, np.array([1.0, 0.5, 500.0, 200.0]))
    np.testing.assert_allclose(B, 0.8 * np.cov(f.T, bias=True), rtol=1e-8)
    share = np.diag(deviations.within) / (rough.sd**2)
    np.testing.assert_allclose(share, 0.2, rtol=1e-8)


# ---------------------------------------------------------------- families that coincide


def some_scores(variables: tuple[str, ...] = ROLES, n: int = 40, T: int = 6) -> Array:
    rng = np.random.default_rng(3)
    level = rng.standard_normal((n, 1, len(variables)))
    return knock_out(5.0 + level + rng.standard_normal((n, T, len(variables))), rng)


@pytest.fixture(scope="module")
def panel() -> SessionPanel:
    n = 40
    known = {"arm": np.arange(n) % 2, "sex": np.arange(n) % 2, "age": np.linspace(-1.0, 1.0, n)}
    return to_panel(some_scores(), ROLES, known, np.zeros((n, 6)) + (np.arange(6) == 2))


def at_truth(spec: Specification, panel: SessionPanel) -> dict[str, float]:
    """Return the true value of every parameter of a specification of this panel."""
    return {name: true_value(name) for name in spec.objective(panel).names}


def block(params: Mapping[str, float], family: str, of: tuple[str, ...] = ROLES) -> Array:
    return names.symmetric_matrix(params, family, of)


def lags(params: Mapping[str, float], family: str = "phi") -> Array:
    return names.matrix(params, family, ROLES, ROLES)


def spelled(family: str, matrix: Array, of: tuple[str, ...] = ROLES) -> dict[str, float]:
    """Spell a covariance as parameters."""
    upper = np.triu_indices(len(of))
    return dict(zip(names.symmetric_labels(family, of), matrix[upper].tolist(), strict=True))


FACTORS = ("alliance", "alliance.trend", "symptoms", "symptoms.trend")


def assert_same(
    panel: SessionPanel,
    one: tuple[Specification, Mapping[str, float]],
    other: tuple[Specification, Mapping[str, float]],
) -> None:
    first, second = (spec.loglik(panel, params) for spec, params in (one, other))
    assert np.isfinite(first)
    assert first == pytest.approx(second, rel=1e-11)


def test_starts_without_error_is_a_settled_riclpm(panel: SessionPanel) -> None:
    params = at_truth(STARTS(), panel)
    params |= {f"measurement_var[{v}]": 0.0 for v in ROLES}
    assert_same(panel, (STARTS(), params), (RICLPM(initial="stationary"), params))


def test_known_error_is_estimated_error_at_its_value(panel: SessionPanel) -> None:
    given = {"alliance": 0.5, "symptoms": 0.8}
    params = at_truth(STARTS(), panel)
    fixed = RICLPM(initial="stationary", measurement_var=given)
    assert_same(panel, (STARTS(), params), (fixed, params))


def test_courses_that_nobody_has_leave_an_riclpm(panel: SessionPanel) -> None:
    params = at_truth(LCMSR(), panel)
    for name in params:
        if ".trend" in name or name.startswith("trend["):
            params[name] = 0.0
    plain = {**params, **{f"mean[{v}]": params[f"intercept[{v}]"] for v in ROLES}}
    assert_same(panel, (LCMSR(), params), (RICLPM(means="equal"), plain))


@pytest.mark.parametrize("family", [LCMSR, ALT])
def test_a_free_course_may_be_a_line(panel: SessionPanel, family: type[LCMSR]) -> None:
    params = at_truth(family(), panel)
    basis = {f"basis[{v}]@{t}": t - 1.0 for v in ROLES for t in range(2, 6)}
    assert_same(panel, (family(), params), (family(growth="free"), {**params, **basis}))


@pytest.mark.parametrize("family", [LCMSR, ALT])
def test_a_course_may_bend_by_nothing(panel: SessionPanel, family: type[LCMSR]) -> None:
    """Two slopes that are the same for every client are one."""
    params = at_truth(family(), panel)
    twice = {**params, **{f"trend2[{v}]": params[f"trend[{v}]"] for v in ROLES}}
    bent = family(growth="piecewise", knot=3)
    for name in at_truth(bent, panel):
        if ".trend2" in name:
            twice[name] = block_or_cross(params, name.replace(".trend2", ".trend"))
    assert_same(panel, (family(), params), (bent, twice))


def block_or_cross(params: Mapping[str, float], name: str) -> float:
    """Read a covariance by either order of its indices."""
    family, (a, b), _ = names.parse(name)
    return params.get(f"{family}[{a},{b}]", params.get(f"{family}[{b},{a}]", np.nan))


def test_free_means_may_lie_on_a_line(panel: SessionPanel) -> None:
    params = at_truth(LCMSR(), panel)
    means = {
        f"mean[{v}]@{t}": params[f"intercept[{v}]"] + (t - 1) * params[f"trend[{v}]"]
        for v in ROLES
        for t in range(1, 7)
    }
    assert_same(panel, (LCMSR(), params), (LCMSR(means="free"), {**params, **means}))


def test_latent_change_without_error_is_an_alt_without_trends(panel: SessionPanel) -> None:
    """eta_t = s + phi eta_{t-1} + v, from eta_1 = intercept_i."""
    change = LatentChange(innovations="equal", measurement_var=None)
    params = at_truth(change, panel)
    stable = block(params, "between_cov", FACTORS)
    levels, slopes = [0, 2], [1, 3]
    factors = np.zeros((4, 4))
    factors[np.ix_(levels, levels)] = stable[np.ix_(slopes, slopes)]
    shared = stable[np.ix_(levels, slopes)]
    phi = np.diag([1.0 + params[f"self[{v}]"] for v in ROLES])
    phi[0, 1] = params["coupling[alliance,symptoms]"]
    phi[1, 0] = params["coupling[symptoms,alliance]"]
    alt = {
        **dict(zip(names.matrix_labels("phi", ROLES, ROLES), phi.ravel(), strict=True)),
        **spelled("innovation_cov", block(params, "innovation_cov")),
        **spelled("initial_cov", stable[np.ix_(levels, levels)]),
        **spelled("between_cov", factors, FACTORS),
        **{f"initial_between_cov[{a},{b}]": shared[i, j]
           for i, a in enumerate(ROLES) for j, b in enumerate(ROLES)},
        **{f"initial_between_cov[{a},{b}.trend]": 0.0 for a in ROLES for b in ROLES},
        **{f"intercept[{v}]": params[f"trend[{v}]"] for v in ROLES},
        **{f"trend[{v}]": 0.0 for v in ROLES},
        **{f"mean[{v}]@1": params[f"intercept[{v}]"] for v in ROLES},
    }  # fmt: skip
    assert_same(panel, (change, params), (ALT(), alt))


def test_unit_effects_that_do_not_add_up_are_random_intercepts(panel: SessionPanel) -> None:
    """With phi diagonal, k_i (1 - phi_jj) at every session keeps the client's level at k_i."""
    params = at_truth(GCLM(), panel)
    params |= {f"ma[{a},{b}]": 0.0 for a in ROLES for b in ROLES}
    params |= {"phi[alliance,symptoms]": 0.0, "phi[symptoms,alliance]": 0.0}
    for v in ROLES:
        params |= {f"unit_loading[{v}]@{t}": 1.0 - params[f"phi[{v},{v}]"] for t in range(2, 7)}
    assert_same(panel, (GCLM(), params), (RICLPM(), params))


def test_unit_effects_of_equal_weight_are_an_alt_without_trends(panel: SessionPanel) -> None:
    spec = GCLM(unit_loadings="equal", means="equal")
    params = at_truth(spec, panel)
    params |= {f"ma[{a},{b}]": 0.0 for a in ROLES for b in ROLES}
    between = block(params, "between_cov")
    factors = np.zeros((4, 4))
    factors[np.ix_([0, 2], [0, 2])] = between
    level = np.array([params[f"mean[{v}]"] for v in ROLES])
    drift = (np.eye(2) - lags(params)) @ level
    alt = {
        **params,
        **spelled("between_cov", factors, FACTORS),
        **spelled("initial_cov", between + block(params, "initial_cov")),
        **{f"initial_between_cov[{a},{b}]": between[i, j]
           for i, a in enumerate(ROLES) for j, b in enumerate(ROLES)},
        **{f"initial_between_cov[{a},{b}.trend]": 0.0 for a in ROLES for b in ROLES},
        **{f"intercept[{v}]": drift[j] for j, v in enumerate(ROLES)},
        **{f"trend[{v}]": 0.0 for v in ROLES},
        **{f"mean[{v}]@1": level[j] for j, v in enumerate(ROLES)},
    }  # fmt: skip
    assert_same(panel, (spec, params), (ALT(), alt))


def test_without_unit_effects_and_moving_averages_there_is_a_clpm(panel: SessionPanel) -> None:
    params = at_truth(GCLM(), panel)
    for name in params:
        if name.startswith(("ma[", "between_cov[")):
            params[name] = 0.0
    assert_same(panel, (GCLM(), params), (CLPM(), params))


@pytest.mark.parametrize("family", [CLPM, RICLPM, LCMSR])
def test_second_order_lags_of_zero(panel: SessionPanel, family: type[CLPM]) -> None:
    params = at_truth(family(), panel)
    phi, P, Q = lags(params), block(params, "initial_cov"), block(params, "innovation_cov")
    joint = np.block([[P, P @ phi.T], [phi @ P, phi @ P @ phi.T + Q]])
    states = (*ROLES, *(f"{v}.next" for v in ROLES))
    longer = {
        **{name: value for name, value in params.items() if not name.startswith("initial_cov")},
        **spelled("initial_cov", joint, states),
        **{f"phi2[{a},{b}]": 0.0 for a in ROLES for b in ROLES},
    }
    assert_same(panel, (family(), params), (family(order=2), longer))


def test_settled_second_order_lags_of_zero(panel: SessionPanel) -> None:
    params = at_truth(RICLPM(initial="stationary"), panel)
    longer = {**params, **{f"phi2[{a},{b}]": 0.0 for a in ROLES for b in ROLES}}
    first, second = RICLPM(initial="stationary"), RICLPM(initial="stationary", order=2)
    assert_same(panel, (first, params), (second, longer))


@pytest.mark.parametrize("family", [CLPM, RICLPM, LCMSR, ALT, GCLM])
def test_a_step_of_nothing(panel: SessionPanel, family: type[CLPM]) -> None:
    params = at_truth(family(), panel)
    none = {"step[alliance,symptoms]@4": 0.0, "step[symptoms,alliance]@4": 0.0}
    assert_same(panel, (family(), params), (family(step=4), {**params, **none}))


@pytest.mark.parametrize(("order", "step"), [(1, 3), (1, 6), (2, 4), (2, 6)])
def test_a_step_is_free_lags_that_change_once(panel: SessionPanel, order: int, step: int) -> None:
    stepped = RICLPM(order=order, step=step)
    free = RICLPM(order=order, lags="free")
    params = at_truth(stepped, panel)
    each = {name: value for name, value in params.items() if not name.startswith(("phi", "step"))}
    for family in ("phi", "phi2")[:order]:
        for name in names.matrix_labels(family, ROLES, ROLES):
            for t in range(order + 1, 7):
                _, (a, b), _ = names.parse(name)
                more = params.get(f"step[{a},{b}]@{step}", 0.0) if family == "phi" else 0.0
                each[f"{name}@{t}"] = params[name] + (more if t >= step else 0.0)
    assert_same(panel, (stepped, params), (free, each))


EVERY_WORD = ("lags", "means", "innovations", "between", "initial", "inputs", "measurement")


@pytest.mark.parametrize(
    "spec",
    [RICLPM(), STARTS(), LCMSR(growth="free"), ALT(), GCLM(), LatentChange(), CLPM(order=2),
     RICLPM(covariates=("age",)), RICLPM(moderators=("age",)), CLPM(time_varying=("crisis",))],
    ids=str,
)  # fmt: skip
def test_groups_that_share_everything_are_none(panel: SessionPanel, spec: Specification) -> None:
    params = at_truth(spec, panel)
    grouped = replace(spec, group="arm", equal_across_groups=EVERY_WORD)
    assert list(grouped.objective(panel).names) == list(spec.objective(panel).names)
    assert_same(panel, (spec, params), (grouped, params))


@pytest.mark.parametrize("spec", [RICLPM(lags="free"), LCMSR(), GCLM()], ids=str)
def test_groups_with_the_same_parameters_are_none(panel: SessionPanel, spec: Specification) -> None:
    params = at_truth(spec, panel)
    grouped = replace(spec, group="arm")
    both = {f"{name}|arm={g}": value for name, value in params.items() for g in (0, 1)}
    assert_same(panel, (spec, params), (grouped, both))


def test_a_covariate_of_two_values_moves_the_means_of_two_groups(panel: SessionPanel) -> None:
    """sex is 0 and 1 as arm is: its effect on the intercepts is a difference of all means."""
    spec = RICLPM(covariates=("sex",))
    params = at_truth(spec, panel)
    grouped = RICLPM(group="arm", equal_across_groups=("lags", "innovations", "between", "initial"))
    apart = {name: value for name, value in params.items() if "mean" not in name}
    for name, value in params.items():
        if name.startswith("mean["):
            effect = params[f"between[{names.parse(name)[1][0]},sex]"]
            apart |= {f"{name}|arm=0": value, f"{name}|arm=1": value + effect}
    assert_same(panel, (spec, params), (grouped, apart))


def test_a_moderator_of_two_values_has_the_lags_of_two_groups(panel: SessionPanel) -> None:
    spec = RICLPM(moderators=("sex",))
    known = {name: true_value(name.replace("sex", "age")) for name in spec.objective(panel).names}
    words = tuple(word for word in EVERY_WORD if word != "lags")
    grouped = RICLPM(group="arm", equal_across_groups=words)
    apart = {name: value for name, value in known.items() if not name.startswith(("phi", "mod"))}
    for a in ROLES:
        for b in ROLES:
            phi, more = known[f"phi[{a},{b}]"], known[f"moderation[{a},{b},sex]"]
            apart |= {f"phi[{a},{b}]|arm=0": phi, f"phi[{a},{b}]|arm=1": phi + more}
    assert_same(panel, (spec, known), (grouped, apart))


def test_an_input_of_everyone_is_a_course_of_means(panel: SessionPanel) -> None:
    """A crisis of all clients at session 3 moves the mean there, and phi carries it on."""
    spec = RICLPM(time_varying=("crisis",))
    params = at_truth(spec, panel)
    moved, push = dict(params), np.array([params[f"input[{v},crisis]"] for v in ROLES])
    for t in range(3, 7):
        for j, v in enumerate(ROLES):
            moved[f"mean[{v}]@{t}"] += push[j]
        push = lags(params) @ push
    assert_same(panel, (spec, params), (RICLPM(), moved))


def test_one_item_alone_is_a_score_with_known_error() -> None:
    """If only first items were rated, intercept and factor mean make a mean."""
    Y = some_scores(ITEMS)
    Y[:, :, [1, 2, 4]] = np.nan
    sessions = tuple(range(1, 7))
    clients = np.arange(len(Y)).astype(object)
    items = Observed.of_scores(clients, sessions, ITEMS, Y)
    scores = Observed.of_scores(clients, sessions, ROLES, Y[:, :, [0, 3]])
    many = RICLPM(indicators=INDICATORS, measurement_var="equal")
    layout = many.layout(many.design(items))
    params = {name: true_value(name) for name in layout.names}
    first = {"alliance": "bond", "symptoms": "parcel1"}
    error = {v: params[f"measurement_var[{item}]"] for v, item in first.items()}
    plain = {name: value for name, value in params.items() if not name.startswith("mean[")}
    for v, item in first.items():
        for t in sessions:
            moved = params[f"mean[{v}]@{t}"] if t > 1 else 0.0
            plain[f"mean[{v}]@{t}"] = params[f"intercept[{item}]"] + moved
    alone = RICLPM(measurement_var=error)
    values = [
        sum_of_groups(spec, data, given)
        for spec, data, given in ((many, items, params), (alone, scores, plain))
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-11)


def sum_of_groups(spec: Specification, data: Observed, params: Mapping[str, float]) -> float:
    """Log-likelihood through the wide route, for scores that no fit would accept."""
    from alliancedyn.engine.moments import implied_moments, loglik_by_client

    total = 0.0
    for group in spec.groups_of(params, data, ROLES):
        wide = data.Y[group.rows].reshape(len(group.rows), -1)
        total += float(loglik_by_client(wide, *implied_moments(group.system)).sum())
    return total


def test_reliability_fixes_the_error_variance(panel: SessionPanel) -> None:
    """At (1 - reliability) times the observed variance around the session means."""
    spec = RICLPM(reliability={"alliance": 0.8})
    Y = panel.arrays().Y[:, :, 0]
    around = Y - np.nanmean(Y, axis=0)
    given = {"alliance": 0.2 * float(np.nanmean(around**2))}
    params = at_truth(RICLPM(), panel)
    assert_same(panel, (spec, params), (RICLPM(measurement_var=given), params))
