"""Every family read as a vector autoregression, against its own state-space system."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_fits import make_fit
from numpy.typing import NDArray

from alliancedyn.causal import compare_directions, compare_models
from alliancedyn.engine import names, var
from alliancedyn.engine.kalman import StateSpace
from alliancedyn.engine.lagged import POOLED, STATIONARY, LaggedForm
from alliancedyn.errors import SpecificationError
from alliancedyn.models import ALT, CLPM, GCLM, LCMSR, RICLPM, STARTS, LatentChange, Specification
from alliancedyn.panel import SessionPanel
from alliancedyn.results import ClientGroup
from alliancedyn.simulate import Dynamics, simulate

Array = NDArray[np.float64]

ROLES = ("alliance", "symptoms")
EXACT = 1e-9  # both routes are algebra on the same numbers


@cache
def panel() -> SessionPanel:
    """Return two series with two items more, in two arms, over six sessions."""
    truth = Dynamics.time_ordered(
        phi_alliance=0.35,
        phi_symptoms=0.45,
        forward=-0.12,
        backward=-0.10,
        between_cov=[[1, -0.3], [-0.3, 1]],
    )
    frame = simulate(truth, clients=80, sessions=6, missing=0.1, seed=3).frame
    rng = np.random.default_rng(4)
    frame["task"] = frame["alliance"] + rng.normal(0, 0.5, len(frame))
    frame["goal"] = 0.8 * frame["alliance"] + rng.normal(0, 0.5, len(frame))
    frame["arm"] = (frame["client"].astype("category").cat.codes % 2).astype(str)
    frame["severity"] = frame.groupby("client")["symptoms"].transform("first").fillna(0.0)
    frame["crisis"] = (rng.random(len(frame)) < 0.2).astype(float)
    return SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables={name: name for name in (*ROLES, "task", "goal")},
        group="arm",
        covariates=("severity", "crisis"),
        timing={"alliance": "after", "symptoms": "before"},
    )


SPECS: dict[str, Specification] = {
    "CLPM": CLPM(),
    "RI-CLPM": RICLPM(),
    "stationary": RICLPM(initial="stationary"),
    "order 2": RICLPM(order=2),
    "order 2 settled": RICLPM(order=2, initial="stationary"),
    "order 2 free": CLPM(order=2, lags="free", innovations="free"),
    "order 2 step": RICLPM(order=2, step=5),
    "step": RICLPM(step=4, innovations="free"),
    "groups": RICLPM(group="group"),
    "shared lags": LCMSR(group="group", equal_across_groups=("lags",)),
    "LCM-SR": LCMSR(growth="piecewise", knot=3),
    "STARTS": STARTS(),
    "items": RICLPM(
        variables=("working", "symptoms"),
        indicators={"working": ["task", "goal"]},
        lags="free",
        innovations="free",
    ),
    "covariates": RICLPM(covariates=("severity",), time_varying=("crisis",)),
    "ALT": ALT(),
    "ALT free": ALT(lags="free", innovations="free"),
    "GCLM": GCLM(),
    "GCLM free": GCLM(lags="free", innovations="free"),
    "GCLM groups": GCLM(group="group", unit_loadings="equal"),
    "latent change": LatentChange(innovations="equal"),
    "latent change free": LatentChange(innovations="free"),
}


def spec_of(which: str) -> Specification:
    """Return a specification of alliance and symptoms."""
    spec = SPECS[which]
    return spec if spec.variables else replace(spec, variables=ROLES)


@cache
def read(which: str) -> tuple[dict[str, float], LaggedForm, list[ClientGroup]]:
    """Return parameters near the starting values, how they are read, and the systems they make."""
    spec = spec_of(which)
    data = spec._select(panel()).data
    likelihood = spec.likelihood(data)
    rng = np.random.default_rng(len(which))
    theta = likelihood.start + 0.05 * rng.standard_normal(len(likelihood.start))
    params = likelihood.to_params(theta)
    variables, _ = spec._series(data.variables)
    form = LaggedForm.of(params, variables, data.sessions)
    return params, form, spec.groups_of(params, data, variables)


def forms(which: str) -> list[tuple[LaggedForm, StateSpace, ClientGroup]]:
    _, form, groups = read(which)
    return [(form.of_group(group.label), group.system, group) for group in groups]


def deviations(system: StateSpace, group: ClientGroup, T: int) -> list[Array]:
    """Within covariance of the series at every session: the dynamic states given the static."""
    d = system.n_dynamic
    joint = system.initial_cov
    P = joint[:d, :d] - joint[:d, d:] @ np.linalg.pinv(joint[d:, d:]) @ joint[d:, :d]
    L = system.loadings[:, list(group.reference), :d]
    found = [L[0] @ P @ L[0].T]
    for t in range(1, T):
        at = min(t, system.n_sessions - 1)
        phi, psi = system.phi[system.phi_at[at]], system.psi[system.psi_at[at]]
        P = phi @ P @ phi.T + psi
        found.append(L[at] @ P @ L[at].T)
    return found


@pytest.mark.parametrize("which", SPECS)
def test_within_covariance_pooled_over_sessions_is_that_of_the_system(which: str) -> None:
    params = read(which)[0]
    for form, system, group in forms(which):
        expected = np.mean(deviations(system, group, system.n_sessions), axis=0)
        found = form.within_cov(params, POOLED)
        np.testing.assert_allclose(found, expected, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize(
    "which", [w for w in SPECS if not any(x in w for x in ("free", "step", "items"))]
)
def test_stationary_within_covariance_is_where_the_system_settles(which: str) -> None:
    params = read(which)[0]
    for form, system, group in forms(which):
        values = np.array([params[name] for name in form.settling_names])
        assert form.basis(values) == STATIONARY
        expected = deviations(system, group, 2000)[-1]
        found = form.within_cov(params, STATIONARY)
        np.testing.assert_allclose(found, expected, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("which", [w for w in SPECS if "free" in w or "step" in w or w == "items"])
def test_what_differs_between_sessions_is_pooled(which: str) -> None:
    params = read(which)[0]
    for form, _, _ in forms(which):
        values = np.array([params[name] for name in form.settling_names])
        assert form.basis(values) == POOLED


def lag_matrices(params: dict[str, float], form: LaggedForm, t: int | None) -> list[Array]:
    """Phi, phi2 and ma into session t, looked up by name."""
    found = []
    for family in ("phi", "phi2", "ma"):
        M = np.zeros((2, 2))
        for i, a in enumerate(form.variables):
            for j, b in enumerate(form.variables):
                for end in ("", f"@{t}", f"|{form.group}", f"@{t}|{form.group}"):
                    M[i, j] += params.get(f"{family}[{a},{b}]{end}", 0.0)
                if family == "phi" and form.step is not None and t is not None and t >= form.step:
                    M[i, j] += params.get(f"step[{a},{b}]@{form.step}", 0.0)
        found.append(M)
    return found


@pytest.mark.parametrize("which", SPECS)
@pytest.mark.parametrize("shock", [0, 1])
def test_a_shock_goes_where_the_equation_says(which: str, shock: int) -> None:
    params = read(which)[0]
    for form, _, _ in forms(which):
        for session in (form.into[0], form.into[-1]) if form.varies else (None,):
            phi, phi2, ma = lag_matrices(params, form, session or form.into[0])
            v = np.eye(2)[shock]
            path = [v, (phi + ma) @ v]
            for h in range(2, 6):
                path.append(phi @ path[h - 1] + phi2 @ path[h - 2])
            A, entry = form.motion(params, session)
            found = var.impulse_response(A, entry @ v, 5)[:, :2]
            np.testing.assert_allclose(found, path, atol=1e-12)
            for target, size in zip(form.variables, path[1], strict=True):
                one = form.one_session(params, target, form.variables[shock], session)
                assert one == pytest.approx(size, abs=1e-12)
            total, power = np.zeros((2, 2)), A
            for _ in range(5000):
                total, power = total + (power @ entry)[:2], power @ A
            np.testing.assert_allclose((var.total_effect(A) @ entry)[:2], total, atol=1e-9)


@pytest.mark.parametrize("which", ["step", "order 2 step", "order 2 free", "GCLM free", "items"])
def test_lags_by_session_and_their_average(which: str) -> None:
    params = read(which)[0]
    ((form, _, _),) = forms(which)
    each = [lag_matrices(params, form, t)[0] for t in form.into]
    for t, expected in zip(form.into, each, strict=True):
        np.testing.assert_allclose(form.lags(params, t), expected, atol=1e-12)
        np.testing.assert_allclose(
            form.lag(params, form.variables[1], form.variables[0], t), expected[1, 0], atol=1e-12
        )
    np.testing.assert_allclose(form.lags(params), np.mean(each, axis=0), atol=1e-12)
    found = form.lag(params, form.variables[1], form.variables[0])
    assert found == pytest.approx(np.mean(each, axis=0)[1, 0])


# -- fits -------------------------------------------------------------------------------------


def second_order() -> dict[str, float]:
    """Return phi, phi2 and innovations of a process that settles."""
    params = dict(
        zip(names.matrix_labels("phi", ROLES, ROLES), [0.3, -0.05, -0.12, 0.4], strict=True)
    )
    params |= dict(
        zip(names.matrix_labels("phi2", ROLES, ROLES), [0.1, 0.02, -0.06, 0.15], strict=True)
    )
    return params | dict(
        zip(names.symmetric_labels("innovation_cov", ROLES), [1.0, -0.2, 1.5], strict=True)
    )


def made(params: dict[str, float], se: float = 0.01) -> Any:
    return make_fit(params, se)


class TestSecondOrder:
    def test_the_effect_of_each_lag(self) -> None:
        fit = made(second_order())
        assert fit.effect(*ROLES).value == pytest.approx(-0.12)
        assert fit.effect(*ROLES, lag=2).value == pytest.approx(-0.06)
        sd = fit.sd_within()
        within = fit.effect(*ROLES, standardized="within", lag=2).value
        assert within == pytest.approx(-0.06 * sd["alliance"] / sd["symptoms"])
        with pytest.raises(SpecificationError, match="over 3 sessions"):
            fit.effect(*ROLES, lag=3)
        with pytest.raises(SpecificationError, match="1 or more"):
            fit.effect(*ROLES, lag=0)

    def test_within_sds_by_running_the_process(self) -> None:
        rng = np.random.default_rng(1)
        fit = made(second_order())
        root = np.linalg.cholesky([[1.0, -0.2], [-0.2, 1.5]])
        phi = names.matrix(fit.params, "phi", ROLES, ROLES)
        phi2 = names.matrix(fit.params, "phi2", ROLES, ROLES)
        w = np.zeros((60, 4000, 2))
        for t in range(2, 60):
            w[t] = w[t - 1] @ phi.T + w[t - 2] @ phi2.T + rng.standard_normal((4000, 2)) @ root.T
        sd = w[40:].std(axis=(0, 1))
        np.testing.assert_allclose(fit.sd_within(), sd, rtol=0.02)  # MC error about .006

    def test_where_a_held_source_takes_the_target(self) -> None:
        fit = made(second_order())
        s = [0.0, 0.0]
        for _ in range(400):
            s.append(0.4 * s[-1] + 0.15 * s[-2] - 0.12 - 0.06)
        assert fit.long_run(*ROLES).value == pytest.approx(s[-1])
        frame = fit.impulse_response("alliance", sessions=400)["symptoms"]["estimate"]
        assert fit.long_run(*ROLES, kind="total").value == pytest.approx(frame[1:].sum())

    def test_a_target_that_does_not_settle(self) -> None:
        with pytest.raises(SpecificationError, match="grows without end"):
            var.sustained_effect(0.7, 0.1, 0.4, 0.0)

    def test_no_time_order(self) -> None:
        fit = made(second_order())
        for call in (fit.structural, lambda: fit.impulse_response("alliance", kind="structural")):
            with pytest.raises(SpecificationError, match="two sessions back"):
                call()


class TestMovingAverage:
    def params(self) -> dict[str, float]:
        return {name.replace("phi2", "ma"): value for name, value in second_order().items()}

    def test_the_effect_over_one_session_is_phi_and_ma(self) -> None:
        fit = made(self.params())
        assert fit.effect(*ROLES).value == pytest.approx(-0.18)
        frame = fit.impulse_response("alliance", sessions=3)
        assert frame.loc[1, ("symptoms", "estimate")] == pytest.approx(-0.18)
        compared = compare_models({"GCLM": fit}).set_index("effect").loc["alliance -> symptoms"]
        assert compared["estimate"] == pytest.approx(-0.18)
        answer = compare_directions(fit)
        assert answer.by_basis["reduced"].forward_raw.value == pytest.approx(-0.18)
        assert answer.forward.value == pytest.approx(fit.effect(*ROLES, "within").value)
        phi, ma = (names.matrix(fit.params, f, ROLES, ROLES) for f in ("phi", "ma"))
        expected = np.linalg.matrix_power(phi, 2) @ (phi + ma)
        assert frame.loc[3, ("symptoms", "estimate")] == pytest.approx(expected[1, 0])
        se = math_se(fit, "phi[symptoms,alliance]", "ma[symptoms,alliance]")
        half = frame.loc[1, ("symptoms", "upper")] - frame.loc[1, ("symptoms", "estimate")]
        assert half == pytest.approx(1.959964 * se, rel=1e-6)
        total = fit.impulse_response("alliance", sessions=400)["symptoms"]["estimate"]
        assert fit.long_run(*ROLES, kind="total").value == pytest.approx(total[1:].sum())

    def test_what_has_no_single_meaning(self) -> None:
        fit = made(self.params())
        with pytest.raises(SpecificationError, match="kind='total'"):
            fit.long_run(*ROLES)
        with pytest.raises(SpecificationError, match="moving-average"):
            fit.structural()
        with pytest.raises(SpecificationError, match="over 2 sessions"):
            fit.effect(*ROLES, lag=2)


def math_se(fit: Any, *labels: str) -> float:
    """Standard error of a sum of parameters."""
    return float(np.sqrt(fit.cov.loc[list(labels), list(labels)].to_numpy().sum()))


class TestStep:
    def params(self) -> dict[str, float]:
        own = {n: v for n, v in second_order().items() if not n.startswith("phi2")}
        own |= {"step[alliance,symptoms]@5": 0.02, "step[symptoms,alliance]@5": -0.1}
        return own | dict(
            zip(names.symmetric_labels("initial_cov", ROLES), [2.0, 0.1, 3.0], strict=True)
        )

    def test_early_late_and_average(self) -> None:
        fit = made(self.params())  # sessions 1 to 8: four of seven lags lead into 5 to 8
        assert fit.effect(*ROLES, session=4).value == pytest.approx(-0.12)
        late = fit.effect(*ROLES, session=5)
        assert late.value == pytest.approx(-0.22)
        both = ("phi[symptoms,alliance]", "step[symptoms,alliance]@5")
        assert late.se == pytest.approx(math_se(fit, *both))
        assert fit.effect(*ROLES).value == pytest.approx(-0.12 - 0.1 * 4 / 7)
        assert fit.effect("alliance", "alliance", session=8).value == pytest.approx(0.3)
        sd = fit.sd_within()
        for session in (4, 5):
            raw = fit.effect(*ROLES, session=session).value
            within = fit.effect(*ROLES, "within", session=session).value
            assert within == pytest.approx(raw * sd["alliance"] / sd["symptoms"])

    def test_a_session_makes_one_process_of_it(self) -> None:
        fit = made(self.params())
        assert fit.structural(session=6).loc["forward", "estimate"] == pytest.approx(-0.22)
        early = fit.impulse_response("alliance", sessions=2, session=2)
        assert early.loc[1, ("symptoms", "estimate")] == pytest.approx(-0.12)
        assert fit.long_run(*ROLES, session=7).value == pytest.approx(-0.22 / 0.6)
        for call in (
            fit.structural,
            lambda: fit.impulse_response("alliance"),
            lambda: fit.long_run(*ROLES),
        ):
            with pytest.raises(SpecificationError, match="session="):
                call()
        for call in (lambda: fit.structural(session=1), lambda: fit.long_run(*ROLES, session=9)):
            with pytest.raises(SpecificationError, match="leads into session"):
                call()


class TestGroups:
    def params(self) -> dict[str, float]:
        one = {n: v for n, v in second_order().items() if not n.startswith("phi2")}
        two = {n: v * (0.5 if n.startswith("phi") else 2.0) for n, v in one.items()}
        return {f"{n}|arm=0": v for n, v in one.items()} | {f"{n}|arm=1": v for n, v in two.items()}

    def test_each_group_has_its_own(self) -> None:
        params = self.params()
        fit = made(params)
        for group in ("arm=0", "arm=1"):
            alone = made({n.split("|")[0]: v for n, v in params.items() if n.endswith(group)})
            pd.testing.assert_series_equal(fit.sd_within(group=group), alone.sd_within())
            for call in (
                lambda f, **g: f.effect(*ROLES, **g).value,
                lambda f, **g: f.effect(*ROLES, "within", **g).value,
                lambda f, **g: f.long_run(*ROLES, **g).value,
                lambda f, **g: f.structural(**g)["estimate"].tolist(),
                lambda f, **g: (
                    f.impulse_response("symptoms", 2, "structural", **g)
                    .xs("estimate", axis=1, level=1)
                    .to_numpy()
                    .ravel()
                    .tolist()
                ),
            ):
                assert call(fit, group=group) == pytest.approx(call(alone))

    def test_without_a_group_they_are_listed(self) -> None:
        fit = made(self.params())
        for call in (
            lambda: fit.effect(*ROLES),
            lambda: fit.sd_within(),
            lambda: fit.structural(),
            lambda: fit.long_run(*ROLES),
            lambda: fit.impulse_response("alliance"),
        ):
            with pytest.raises(SpecificationError, match="'arm=0', 'arm=1'"):
                call()
        with pytest.raises(SpecificationError, match="no group 'arm=2'; it has 'arm=0', 'arm=1'"):
            fit.effect(*ROLES, group="arm=2")
        with pytest.raises(SpecificationError, match="it has no groups"):
            made(second_order()).effect(*ROLES, group="arm=1")

    def test_shared_lags_need_no_group_until_they_are_standardized(self) -> None:
        params = {
            (n.split("|")[0] if n.startswith("phi") else n): v
            for n, v in self.params().items()
            if not (n.startswith("phi") and n.endswith("1"))
        }
        fit = made(params)
        assert fit.effect(*ROLES).value == fit.effect(*ROLES, group="arm=1").value
        assert fit.effect(*ROLES, "within", group="arm=1").value
        with pytest.raises(SpecificationError, match="innovation_cov differs between groups"):
            fit.effect(*ROLES, "within")


class TestLatentChange:
    def test_change_without_chance_is_noted_at_the_fit(self) -> None:
        curves, pushed = LatentChange(), LatentChange(innovations="equal")
        assert any("curve exactly" in one for one in curves.remarks({}))
        assert not pushed.remarks({})

    def test_without_innovations_nothing_to_standardize_by(self) -> None:
        params = dict(
            zip(names.matrix_labels("phi", ROLES, ROLES), [0.8, 0.02, -0.1, 0.7], strict=True)
        )
        params |= {"coupling[symptoms,alliance]": -0.1, "self[alliance]": -0.2}
        fit = made(params)
        assert fit.effect(*ROLES).value == pytest.approx(-0.1)
        assert fit.long_run(*ROLES).value == pytest.approx(-0.1 / 0.3)
        with pytest.raises(SpecificationError, match="no innovations here"):
            fit.effect(*ROLES, "within")
        with pytest.raises(SpecificationError, match="covariance of innovations"):
            fit.structural()


def test_continuous_time_has_no_order_within_a_session() -> None:
    params = {n: v for n, v in second_order().items() if not n.startswith("phi2")}
    fit = made({"drift[symptoms,alliance]": -0.2, **params})
    assert fit.effect(*ROLES, "within").value
    with pytest.raises(SpecificationError, match="one moment"):
        fit.structural()
