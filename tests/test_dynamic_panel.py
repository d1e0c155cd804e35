"""The dynamic-panel GMM family: roles, gaps, guards, and both directions in one fit.

Tolerances. Against plm's answers 1e-9 (the same linear equations, solved twice). Simulated figures
are held to three Monte Carlo errors.
"""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from reference_files import panel_frame, simulated

from alliancedyn import Dynamics, Fit, InferenceWarning, SessionPanel, SpecificationError, simulate
from alliancedyn.engine import fit_gmm
from alliancedyn.engine.maximise import outer_products
from alliancedyn.models.dynamic_panel import DynamicPanelGMM

ROUNDING = 1e-9
CASE = "dynamic_panel"
PHI = ("phi[symptoms,symptoms]", "phi[symptoms,alliance]")
TRUTH = Dynamics.time_ordered(
    phi_alliance=0.35,
    phi_symptoms=0.45,
    forward=-0.12,
    backward=-0.10,
    between_cov=[[1.0, -0.3], [-0.3, 1.0]],
)


def panel_of(frame: pd.DataFrame, **roles: Any) -> SessionPanel:
    return SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables={"alliance": "alliance", "symptoms": "symptoms"},
        **roles,
    )


def quiet(spec: DynamicPanelGMM, panel: SessionPanel, **options: Any) -> Fit:
    return spec.fit(panel, strict=False, **options)


def peer(name: str) -> tuple[SessionPanel, dict[str, Any]]:
    which = "unbalanced" if "unbalanced" in name else "balanced"
    return panel_of(panel_frame(CASE, which)), simulated(CASE, name)


@pytest.mark.parametrize("which", ["balanced", "unbalanced"])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("lags", [(2, 4), (2, None)])
@pytest.mark.parametrize("collapse", [True, False])
def test_the_predetermined_role_is_that_of_plm(
    which: str, steps: int, lags: tuple[int, int | None], collapse: bool
) -> None:
    panel, answer = peer(
        f"{which}_difference_{'onestep' if steps == 1 else 'twostep'}_sessions_"
        f"lags{'2to4' if lags[1] else 'all'}_{'collapsed' if collapse else 'full'}"
    )
    spec = DynamicPanelGMM(steps=steps, instrument_lags=lags, collapse=collapse)
    fit = quiet(spec, panel)
    for name in PHI:
        own = answer["params"][name]
        assert fit.params[name] == pytest.approx(own["estimate"], abs=ROUNDING)
        assert fit.se[name] == pytest.approx(own["se_robust"], abs=ROUNDING)
    assert fit.diagnostics["instruments"] == answer["instruments"]
    if steps == 2:
        observed = quiet(spec, panel, errors="observed")
        assert observed.se[PHI[1]] == pytest.approx(
            answer["params"][PHI[1]]["se_conventional"], abs=ROUNDING
        )
        assert fit.diagnostics["hansen"]["pvalue"] == pytest.approx(
            answer["hansen"]["pvalue"], abs=1e-8
        )


def test_system_moments_are_those_of_plm() -> None:
    panel, answer = peer("unbalanced_system_twostep_sessions_lags2to4_collapsed")
    with pytest.warns(InferenceWarning, match="start therapy at their worst"):
        fit = DynamicPanelGMM(system=True, instrument_lags=(2, 4)).fit(panel)
    for name in PHI:
        own = answer["params"][name]
        assert fit.params[name] == pytest.approx(own["estimate"], abs=ROUNDING)
        assert fit.se[name] == pytest.approx(own["se_robust"], abs=ROUNDING)
    assert "levels" in fit.diagnostics["difference_in_hansen"]
    constant = quiet(DynamicPanelGMM(system=True, session_effects=False), panel)
    assert "intercept[symptoms]" in constant.params


def test_diagnostics_are_complete_and_the_fit_travels() -> None:
    panel, answer = peer("numpy_unbalanced_difference_sessions_lags2to4_collapsed")
    fit = DynamicPanelGMM(instrument_lags=(2, 4)).fit(panel)  # nothing to warn of
    step = answer["twostep"]
    for key in ("m1", "m2", "hansen"):
        found = fit.diagnostics[key]
        assert set(found) == {"statistic", "df", "pvalue"}
        assert found["statistic"] == pytest.approx(step[key]["statistic"], abs=ROUNDING)
    assert fit.diagnostics["sargan"]["statistic"] == pytest.approx(
        answer["onestep"]["sargan"]["statistic"], abs=ROUNDING
    )
    assert set(fit.diagnostics["difference_in_hansen"]) == {"symptoms", "alliance"}
    assert fit.sample.rows == answer["rows"]
    assert fit.sample.clients == answer["clients_with_rows"]
    scores = int(panel.frame["symptoms"].notna().sum())
    assert sum(fit.sample.rows_set_aside.values()) + fit.sample.rows == scores
    assert fit.params["residual_var[symptoms]"] == pytest.approx(
        answer["sigma2_onestep"], abs=ROUNDING
    )
    again = pickle.loads(pickle.dumps(fit.without_data()))
    assert again.params.equals(fit.params)
    assert DynamicPanelGMM(instrument_lags=(2, 4)) == fit.model
    assert "instrument_lags=(2, 4)" in repr(fit.model)


def test_both_directions_have_the_covariance_of_their_clients() -> None:
    panel, _ = peer("unbalanced_difference_twostep_sessions_lagsall_collapsed")
    both = quiet(DynamicPanelGMM(direction="both"), panel)
    forward = quiet(DynamicPanelGMM(), panel)
    turned = quiet(DynamicPanelGMM(process="symptoms", outcome="alliance"), panel)
    back = ("phi[alliance,alliance]", "phi[alliance,symptoms]")
    for names, alone in ((PHI, forward), (back, turned)):
        for name in names:
            assert both.params[name] == pytest.approx(alone.params[name], abs=1e-12)
            assert both.se[name] == pytest.approx(alone.se[name], abs=1e-12)
    assert both.cov.loc[PHI[1], back[1]] != 0.0
    assert np.linalg.eigvalsh(both.cov.to_numpy(float)[:14, :14]).min() > 0.0
    assert both.diagnostics["backward"]["m1"] == turned.diagnostics["m1"]


def test_errors_clustered_by_therapist_add_up_the_clients_shares() -> None:
    frame = panel_frame(CASE, "balanced")
    frame["therapist"] = frame["client"] % 23
    panel = panel_of(frame, therapist="therapist")
    spec = DynamicPanelGMM(session_effects=False)
    fit = quiet(spec, panel, errors="cluster:therapist")
    before = frame[["client", "session", "symptoms", "alliance"]].copy()
    before["session"] += 1
    X = frame[["client", "session"]].merge(before, how="left", on=["client", "session"])
    engine = fit_gmm(
        frame["symptoms"],
        X[["symptoms", "alliance"]],
        frame["client"],
        frame["session"],
        gmm=[(frame["symptoms"], (2, None)), (frame["alliance"], (2, None))],
        collapse=True,
    )
    expected = outer_products(engine.influence, np.asarray(engine.clients) % 23)
    assert fit.cov.loc[list(PHI), list(PHI)].to_numpy() == pytest.approx(expected, rel=1e-8)
    alone = frame.assign(therapist=frame["client"])
    own = quiet(spec, panel_of(alone, therapist="therapist"), errors="cluster:therapist")
    robust = quiet(spec, panel)
    assert own.se[PHI[1]] == pytest.approx(robust.se[PHI[1]] * np.sqrt(200 / 199), rel=1e-8)


def test_roles_choose_the_instruments() -> None:
    frame = panel_frame(CASE, "unbalanced")
    panel = panel_of(frame)
    before = frame[["client", "session", "symptoms", "alliance"]].copy()
    before["session"] += 1
    X = frame[["client", "session"]].merge(before, how="left", on=["client", "session"])
    X = X[["symptoms", "alliance"]].to_numpy()
    y = (frame["symptoms"], (2, 3))
    for role, gmm, iv in (
        ("predetermined", [y, (frame["alliance"], (2, 3))], None),
        ("endogenous", [y, (frame["alliance"], (3, 4))], None),
        ("exogenous", [y], X[:, 1:]),
    ):
        fit = quiet(DynamicPanelGMM(process_role=role, instrument_lags=(2, 3)), panel)
        engine = fit_gmm(
            frame["symptoms"],
            X,
            frame["client"],
            frame["session"],
            gmm=gmm,
            iv=iv,
            collapse=True,
            session_effects=True,
        )
        assert fit.params[list(PHI)].to_numpy() == pytest.approx(engine.beta[:2], abs=1e-10)


def test_an_alliance_that_answers_to_symptoms_is_not_exogenous() -> None:
    strong = Dynamics.time_ordered(
        phi_alliance=0.35,
        phi_symptoms=0.45,
        forward=-0.12,
        backward=-0.5,
        between_cov=[[1.0, -0.3], [-0.3, 1.0]],
    )
    panel = simulate(strong, clients=4000, sessions=6, seed=3)
    right = quiet(DynamicPanelGMM(), panel)
    wrong = quiet(DynamicPanelGMM(process_role="exogenous"), panel)
    assert abs(right.params[PHI[1]] + 0.12) < 3.0 * right.se[PHI[1]]
    assert abs(wrong.params[PHI[1]] + 0.12) > 6.0 * wrong.se[PHI[1]]
    assert right.diagnostics["hansen"]["pvalue"] > 0.01


def test_the_truth_is_recovered_between_two_biased_regressions() -> None:
    estimates, covered, ends = [], [], []
    for seed in range(60):
        fit = quiet(DynamicPanelGMM(), simulate(TRUTH, clients=400, sessions=6, seed=seed))
        estimates.append(fit.params[list(PHI)])
        miss = abs(fit.params[list(PHI)] - [0.45, -0.12]) / fit.se[list(PHI)]
        covered.append(miss < 1.96)
        bracket = fit.diagnostics["bracket"]
        ends.append([bracket["within"][PHI[0]], bracket["pooled"][PHI[0]]])
    found = np.array(estimates)
    error = found.std(axis=0) / np.sqrt(len(found))
    # Two-step GMM has a small bias at 400 clients, of the order of a tenth of an error.
    assert (abs(found.mean(axis=0) - [0.45, -0.12]) < 3.0 * error + 0.01).all()
    assert (np.mean(covered, axis=0) > 0.95 - 3.0 * np.sqrt(0.95 * 0.05 / 60)).all()
    within, pooled = np.mean(ends, axis=0)
    # Pooled regression in the population: between- and within-client covariances added up.
    W, B = np.asarray(TRUTH.within_cov), np.asarray(TRUTH.between_cov)
    known = np.linalg.solve(W + B, W @ np.asarray(TRUTH.phi)[1] + B[1])[1]
    assert pooled == pytest.approx(known, abs=0.01)
    # Within clients, about (1 + phi) / (T - 1) too low (Nickell, 1981), T = 5 usable sessions.
    assert within == pytest.approx(0.45 - 1.45 / 4, abs=0.06)


def test_gaps_stay_gaps() -> None:
    frame = panel_frame(CASE, "balanced")
    holed = frame[frame["session"] != 4]  # of every client: programs that rank sessions close it
    fit = quiet(DynamicPanelGMM(), panel_of(holed))
    blank = frame.copy()
    blank.loc[blank["session"] == 4, ["symptoms", "alliance"]] = np.nan
    assert fit.params.equals(quiet(DynamicPanelGMM(), panel_of(blank)).params)
    closed = holed.assign(session=holed.groupby("client").cumcount() + 1)
    renumbered = quiet(DynamicPanelGMM(), panel_of(closed))
    # Sessions 4 and 5 lack a term, 6 has nothing to be compared with: 3 and 7 are left.
    assert fit.sample.rows == 200 * 2
    assert renumbered.sample.rows == 200 * 4
    assert [name for name in fit.params.index if name.startswith("session")] == [
        "session[3]",
        "session[7]",
    ]


def test_lagged_terms_exogenous_columns_and_names() -> None:
    frame = panel_frame(CASE, "balanced")
    frame["crisis"] = np.random.default_rng(2).normal(size=len(frame))
    frame["symptoms"] += 0.7 * frame["crisis"]
    panel = panel_of(frame, covariates=("crisis",))
    fit = quiet(DynamicPanelGMM(outcome_lags=2, process_lags=2, exogenous=("crisis",)), panel)
    assert list(fit.params.index[:5]) == [
        "phi[symptoms,symptoms]",
        "phi2[symptoms,symptoms]",
        "phi[symptoms,alliance]",
        "phi2[symptoms,alliance]",
        "input[symptoms,crisis]",
    ]
    assert list(fit.params.index[5:9]) == [f"session[{s}]" for s in (4, 5, 6, 7)]
    assert fit.params["input[symptoms,crisis]"] == pytest.approx(0.7, abs=0.3)


def memory(rho: float, seed: int = 1) -> SessionPanel:
    """Draw symptoms whose errors last over two sessions."""
    rng = np.random.default_rng(seed)
    n, T = 500, 8
    e = rng.normal(size=(n, T + 1))
    a = rng.normal(size=(n, T)) + rng.normal(size=(n, 1))
    s = np.zeros((n, T))
    for t in range(T):
        s[:, t] = e[:, t + 1] + rho * e[:, t] + (0.4 * s[:, t - 1] if t else 0.0)
    s += rng.normal(size=(n, 1))
    index = pd.MultiIndex.from_product([range(n), range(1, T + 1)], names=["client", "session"])
    frame = pd.DataFrame({"alliance": a.ravel(), "symptoms": s.ravel()}, index=index)
    return panel_of(frame.reset_index())


def test_guards_speak() -> None:
    notes = " ".join(quiet(DynamicPanelGMM(), memory(0.7)).diagnostics["notes"])
    assert "The errors have a memory (m2 = " in notes
    assert "Hansen's test rejects the instruments" in notes
    small = simulate(TRUTH, clients=25, sessions=9, seed=4)
    many = quiet(DynamicPanelGMM(collapse=False), small).diagnostics
    assert many["instruments"] > many["clients"]
    assert any("more instruments" in note for note in many["notes"])
    assert any("too many give it as a rule" in note for note in many["notes"])
    one = quiet(DynamicPanelGMM(steps=1), small).diagnostics
    assert any("Sargan" in note for note in one["notes"])
    assert np.isnan(one["hansen"]["statistic"])


def test_an_autoregression_outside_its_bracket_is_named() -> None:
    seen = 0
    for seed in range(12):
        panel = simulate(TRUTH, clients=40, sessions=4, seed=seed)
        fit = quiet(DynamicPanelGMM(), panel)
        bracket = fit.diagnostics["bracket"]
        low, high = bracket["within"][PHI[0]], bracket["pooled"][PHI[0]]
        said = any("a sound estimate lies between" in note for note in fit.diagnostics["notes"])
        assert said == (not low <= fit.params[PHI[0]] <= high)
        seen += said
    assert 0 < seen < 12


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"transform": "within"}, "choose 'difference' or 'orthogonal'"),
        ({"steps": 3}, "choose 1 or 2"),
        ({"process_role": "strict"}, "choose 'predetermined'"),
        ({"instrument_lags": (1, 3)}, "holds an error of the change itself"),
        ({"instrument_lags": (4, 2)}, "2 <= first <= last"),
        ({"outcome_lags": 0}, "a number from 1 to 4"),
        ({"process_role": "exogenous", "direction": "both"}, "an exogenous process excludes"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecificationError, match=says):
        DynamicPanelGMM(**options)


def test_data_that_cannot_carry_it_are_refused() -> None:
    with pytest.raises(SpecificationError, match="No client has two sessions"):
        DynamicPanelGMM().fit(simulate(TRUTH, clients=40, sessions=2, seed=1))
    few = simulate(TRUTH, clients=8, sessions=12, seed=1)
    with pytest.raises(SpecificationError, match="8 clients weigh the second step"):
        DynamicPanelGMM(collapse=False).fit(few)
    with pytest.raises(SpecificationError, match="120 instruments for 80 usable changes"):
        DynamicPanelGMM(collapse=False, steps=1).fit(few)
    panel = simulate(TRUTH, clients=40, sessions=6, seed=1)
    with pytest.raises(SpecificationError, match="errors is 'jackknife'"):
        DynamicPanelGMM().fit(panel, errors="jackknife")
    with pytest.raises(SpecificationError, match="a series and exogenous too"):
        DynamicPanelGMM(exogenous="alliance").fit(panel)


def test_warnings_reach_the_person_and_not_the_study() -> None:
    panel = memory(0.7)
    with pytest.warns(InferenceWarning, match="Dynamic-panel GMM: "):
        DynamicPanelGMM().fit(panel)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet(DynamicPanelGMM(), panel)
