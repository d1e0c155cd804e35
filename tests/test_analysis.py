"""The ladder: what it holds, what it says when a rung breaks, and that its words are true."""

from __future__ import annotations

import numpy as np
import pytest

from alliancedyn.engine.maximise import Maximum
from alliancedyn.errors import ConvergenceError, SpecificationError
from alliancedyn.models import CLPM, LCMSR, RICLPM, Specification, search
from alliancedyn.panel import SessionPanel
from alliancedyn.simulate import Dropout, Dynamics, GrowthCurve, Therapists, simulate
from alliancedyn.studies import (
    BAYES,
    DEFAULT,
    FAMILIES,
    Analysis,
    analyze,
    choices,
    chosen,
    refusals,
    well_seen,
)
from alliancedyn.studies.ladder import ladder

TRUTH = Dynamics.time_ordered(
    phi_alliance=0.35,
    phi_symptoms=0.45,
    forward=-0.12,
    backward=-0.10,
    between_cov=[[1, -0.3], [-0.3, 1]],
    mean=(5, 10),
)
LABELS = [FAMILIES[key].label for key in DEFAULT]


@pytest.fixture(scope="module")
def panel() -> SessionPanel:
    cov = [[0.2, 0.0], [0.0, 0.2]]
    return simulate(TRUTH, 150, 8, therapists=Therapists(12, cov), missing=0.1, seed=3)


@pytest.fixture(scope="module")
def analysis(panel: SessionPanel) -> Analysis:
    return analyze(panel, seed=5)


def test_the_ladder_is_climbed_in_order(analysis: Analysis) -> None:
    assert list(analysis.fits) == LABELS
    assert list(analysis.directions) == LABELS
    assert analysis.headline == "RI-CLPM (session means)"
    assert analysis.failures == {}
    assert set(analysis.comparison["model"]) == set(LABELS)
    assert all(fit.converged for fit in analysis.fits.values())
    assert "detrended" in LABELS[-1]
    assert analysis.fit is analysis.fits[analysis.headline]
    assert "alliance -> symptoms" in str(analysis)


@pytest.mark.parametrize(
    ("key", "spec"),
    [
        ("clpm-equal-means", CLPM(means="equal")),
        ("clpm", CLPM()),
        ("ri-clpm", RICLPM()),
        ("lcm-sr", LCMSR(means="free")),
    ],
    ids=str,
)
def test_a_rung_is_the_model_it_names(
    panel: SessionPanel, analysis: Analysis, key: str, spec: Specification
) -> None:
    plain = spec.fit(panel, strict=False)
    climbed = analysis.fits[FAMILIES[key].label]
    np.testing.assert_allclose(climbed.params, plain.params, rtol=1e-7, atol=1e-9)
    assert climbed.loglik == pytest.approx(plain.loglik, abs=1e-7)


def test_the_detrended_rung_sees_no_lines_and_is_not_compared_by_likelihood(
    panel: SessionPanel, analysis: Analysis
) -> None:
    fit = analysis.fits["RI-CLPM (detrended)"]
    assert fit.data is not None
    Y, sessions = fit.data.Y, np.asarray(fit.data.sessions, float)
    for client in range(0, len(Y), 20):
        for j in range(2):
            seen = np.isfinite(Y[client, :, j])
            slope = np.polyfit(sessions[seen], Y[client, seen, j], 1)[0]
            assert abs(slope) < 1e-10
    own = np.nanmean(Y[:, :, 0], axis=1)
    np.testing.assert_allclose(own, np.nanmean(panel.arrays().Y[:, :, 0], axis=1), atol=1e-10)
    rows = analysis.comparison[analysis.comparison["model"] == "RI-CLPM (detrended)"]
    assert rows["aic"].isna().all()
    assert not rows["same_data"].any()


@pytest.mark.slow
@pytest.mark.parametrize(("sessions", "said"), [(6, -0.07), (10, -0.10), (20, -0.11)])
def test_what_detrending_is_said_to_cost_is_what_it_costs(
    analysis: Analysis, sessions: int, said: float
) -> None:
    family = FAMILIES["ri-clpm-detrended"]
    values = []
    for seed in range(3):
        spec, seen = family.given(simulate(TRUTH, 3000, sessions, seed=seed), None)
        values.append(spec.fit(seen).params["phi[symptoms,alliance]"])
    assert TRUTH.effect("alliance", "symptoms") == pytest.approx(-0.12)
    assert np.mean(values) == pytest.approx(said, abs=0.007)
    remark = next(note for note in analysis.notes if "straight line" in note)
    assert f"{said:.2f} from {sessions}" in remark
    assert "the median client has 8 sessions" in remark


def test_therapists_are_a_level_where_they_are_known(analysis: Analysis) -> None:
    assert list(analysis.decomposition.variance.index) == ["therapist", "client", "session"]
    bare = analyze(simulate(TRUTH, 60, 6, seed=1), families=["clpm"])
    assert list(bare.decomposition.variance.index) == ["client", "session"]


def test_a_therapist_level_that_is_refused_is_named() -> None:
    frame = simulate(TRUTH, 60, 6, seed=1).frame
    frame["therapist"] = "T1"
    panel = of(frame, therapist="therapist")
    found = analyze(panel, families=["clpm"])
    assert list(found.decomposition.variance.index) == ["client", "session"]
    assert any("two therapists" in note for note in found.notes)


def test_criteria_that_disagree_are_not_said_in_one_breath(analysis: Analysis) -> None:
    """BIC finds no trends, the test does: one sentence names both and takes no side."""
    from dataclasses import replace

    from alliancedyn.studies.headline import choose

    steps = [
        replace(one, test=replace(one.test, p_value=0.01)) if one.later.startswith("LCM") else one
        for one in analysis.steps
    ]
    families = chosen(DEFAULT)
    said = choose(families, analysis.fits, analysis.directions, {}, steps)[1]
    assert "do not ask for trends" not in said
    assert "by BIC clients do not differ in their trends, the test of that step finds that" in said
    assert "(p = 0.010): read both" in said


def test_a_rung_is_had_by_name(panel: SessionPanel) -> None:
    found = analyze(panel, families=["ri-clpm", "ri-clpm-equal-means"])
    assert list(found.fits) == ["RI-CLPM (equal means)", "RI-CLPM (session means)"]
    assert found.fits["RI-CLPM (equal means)"].model.means == "equal"
    assert found.headline == "RI-CLPM (session means)"


def test_the_smallest_effect_that_matters_is_chosen(panel: SessionPanel) -> None:
    found = analyze(panel, families=["ri-clpm"], smallest_effect=0.9)
    answer = found.directions[found.headline]
    assert answer.smallest_effect == 0.9 and answer.lead == "neither"
    assert "within 0.9 within-client SDs of zero, by convention" in answer.text
    for wrong in (-0.1, float("nan")):
        with pytest.raises(SpecificationError, match="smallest_effect"):
            analyze(panel, smallest_effect=wrong)


def test_progress_hears_of_every_step(panel: SessionPanel) -> None:
    heard: list[tuple[int, int, str]] = []
    analyze(panel, families=["clpm", "ri-clpm"], progress=lambda *said: heard.append(said))
    assert [done for done, _, _ in heard] == list(range(len(heard)))
    assert {total for _, total, _ in heard} == {len(heard) - 1}
    assert [doing for _, _, doing in heard][2:4] == [
        FAMILIES[key].label for key in ("clpm", "ri-clpm")
    ]


def test_families_are_chosen_by_key_and_keep_their_order(panel: SessionPanel) -> None:
    found = analyze(panel, families=["ri-clpm", "clpm"])
    assert list(found.fits) == [FAMILIES[key].label for key in ("clpm", "ri-clpm")]
    with pytest.raises(SpecificationError, match=r"No family is called 'lcm'\. .*lcm-sr, .*all"):
        analyze(panel, families=["lcm"])
    with pytest.raises(SpecificationError, match="No family is named"):
        analyze(panel, families=[])


def test_all_are_all_and_a_step_names_its_session() -> None:
    assert [family.key for family in chosen("all")] == [k for k in FAMILIES if k not in BAYES]
    assert [family.key for family in chosen(["all", "dsem"])][-1] == "dsem"
    (step,) = chosen("ri-clpm-step@5")
    assert step.spec == RICLPM(step=5)
    assert step.label == "RI-CLPM (change at session 5)"
    assert set(choices()) == {*FAMILIES, "ri-clpm-step@SESSION", "all"}
    with pytest.raises(SpecificationError, match="'ri-clpm-step'"):
        chosen("ri-clpm-step")
    panel = simulate(TRUTH, 60, 6, seed=1)
    for session in (0, 1, 2, 7):
        said = refusals(panel, families=[f"ri-clpm-step@{session}"])
        assert "Name one from 3 to 6" in str(said[f"RI-CLPM (change at session {session})"])


def test_every_family_is_fitted_or_says_why_not() -> None:
    truth = Dynamics.time_ordered(
        phi_alliance=0.35,
        phi_symptoms=0.45,
        forward=-0.12,
        backward=-0.10,
        between_cov=[[1, -0.3], [-0.3, 1]],
        trend=GrowthCurve(slope=[0.1, -0.2], slope_cov=[[0.02, 0], [0, 0.02]]),
    )
    found = analyze(simulate(truth, 200, 6, seed=11), families=["all", "ri-clpm-step@4"])
    labels = [family.label for family in chosen(["all", "ri-clpm-step@4"])]
    assert [label for label in labels if label in found.fits] == list(found.fits)
    assert set(labels) == {*found.fits, *found.failures}
    assert "neither" in found.failures["Continuous time (days)"]
    assert len(found.fits) >= len(labels) - 2
    assert set(found.comparison["model"]) == set(found.fits)


def test_covariates_enter_every_model(panel: SessionPanel) -> None:
    frame = panel.frame
    frame["severity"] = frame["client"].str.extract(r"(\d+)", expand=False).astype(float) % 7
    given = of(frame, covariates=["severity"])
    found = analyze(given, families=["clpm", "ri-clpm", "lcm-sr"], covariates=["severity"])
    assert not found.failures
    for fit in found.fits.values():
        assert "between[alliance,severity]" in fit.params.index
    refused = refusals(given, families=["ri-clpm"], covariates=["age"])
    assert "age" in str(refused["RI-CLPM (session means)"])


# -- who speaks first ---------------------------------------------------------------------------


def test_trends_speak_where_clients_have_them_and_levels_where_not(analysis: Analysis) -> None:
    slopes = GrowthCurve(slope=[0.1, -0.2], slope_cov=[[0.0225, -0.01], [-0.01, 0.0225]])
    truth = Dynamics.time_ordered(
        phi_alliance=0.35,
        phi_symptoms=0.45,
        forward=0.0,
        backward=0.0,
        between_cov=[[1, -0.3], [-0.3, 1]],
        trend=slopes,
    )
    sloping = analyze(simulate(truth, 200, 10, seed=2))
    assert sloping.headline == "LCM-SR (session means)"
    assert "is reported first: these clients differ in their trends" in sloping.reason
    assert "these data do not ask for trends" in analysis.reason
    assert ladder(sloping.panel).attrs["recommended"] == "LCM-SR"
    assert ladder(analysis.panel).attrs["recommended"] == "RI-CLPM"
    for found in (sloping, analysis):
        levels, trends = (
            found.fits[label] for label in ("RI-CLPM (session means)", "LCM-SR (session means)")
        )
        assert f"lower by {abs(levels.bic - trends.bic):.1f} than" in found.reason
        assert levels.fingerprint() == trends.fingerprint()


@pytest.mark.slow
def test_a_bound_is_no_reason_to_pass_over_the_trends() -> None:
    """The figures that the page on the command line gives for letting BIC decide."""
    truth = Dynamics.time_ordered(
        phi_alliance=0.35,
        phi_symptoms=0.45,
        forward=-0.12,
        backward=-0.10,
        between_cov=[[1, -0.3], [-0.3, 1]],
        trend=GrowthCurve(slope=[0.1, -0.2], slope_cov=[[0.0225, -0.01125], [-0.01125, 0.0225]]),
    )
    name, found = "phi[symptoms,alliance]", []
    for seed in range(40):
        panel = simulate(truth, 60, 12, seed=seed)
        levels, trends = (spec.fit(panel, strict=False) for spec in (RICLPM(), LCMSR(means="free")))
        if trends.bic < levels.bic and trends.diagnostics["boundary"]:
            found.append((levels.params[name], trends.params[name]))
    overstated, kept = np.mean(found, axis=0)
    assert len(found) == 7
    assert overstated == pytest.approx(-0.18, abs=0.005)
    assert kept == pytest.approx(-0.12, abs=0.01)


def test_the_rule_never_looks_at_a_path(analysis: Analysis) -> None:
    """Turning every verdict round changes nothing about who speaks."""
    from dataclasses import replace

    from alliancedyn.studies.headline import choose

    families = chosen(DEFAULT)
    turned = {
        label: replace(
            one,
            source=one.target,
            target=one.source,
            forward=one.backward,
            backward=one.forward,
            forward_state=one.backward_state,
            backward_state=one.forward_state,
        )
        for label, one in analysis.directions.items()
    }
    assert choose(families, analysis.fits, turned, {}) == (analysis.headline, analysis.reason)


def test_without_the_usual_models_another_speaks_and_says_so(panel: SessionPanel) -> None:
    found = analyze(panel, families=["clpm-equal-means", "clpm", "ri-clpm-detrended"])
    assert found.headline == "CLPM (session means)"
    assert "in place of RI-CLPM (session means): it was not asked for" in found.reason
    alone = analyze(panel, families=["ri-clpm-detrended"])
    assert alone.headline == "RI-CLPM (detrended)"
    within = analyze(panel, families=["clpm", "starts"])
    assert within.headline == "STARTS"
    one = analyze(panel, families=["ri-clpm", "starts"])
    assert one.headline == "RI-CLPM (session means)"
    assert "also differ in their trends was not asked" in one.reason
    assert analyze(panel, families=["clpm", "lcm-sr"]).headline == "LCM-SR (session means)"


def test_models_that_are_refused_are_named_with_their_reason() -> None:
    two = analyze(simulate(TRUTH, 60, 2, seed=1))
    assert list(two.fits) == LABELS[:2]
    for label in LABELS[2:4]:
        assert "needs 3 or more sessions" in two.failures[label]
    assert "needs 4 or more sessions" in two.failures[LABELS[4]]
    assert "Detrending needs 6 or more sessions; these data have 2" in two.failures[LABELS[5]]
    assert two.headline == LABELS[1]
    assert "needs 3 or more sessions" in two.reason


@pytest.mark.parametrize(
    ("clients", "errors", "said"),
    [
        (4, "observed", "5 or more clients; these data have 4"),
        (1, "observed", "5 or more clients; these data have 1"),
        (60, "cluster:therapist", "no therapist"),
        (60, "made-up", "made-up"),
    ],
)
def test_if_none_works_the_error_says_why_once(clients: int, errors: str, said: str) -> None:
    with pytest.raises(SpecificationError) as caught:
        analyze(simulate(TRUTH, clients, 7, seed=1), errors=errors)
    text = str(caught.value)
    assert text.startswith("No model could be fitted. CLPM (equal means), CLPM (session means)")
    assert text.count(said) == 1
    assert all(label in text for label in LABELS)


def test_a_constant_series_is_refused_by_every_model() -> None:
    frame = simulate(TRUTH, 60, 7, seed=1).frame
    frame["alliance"] = 3.0
    with pytest.raises(SpecificationError, match="same value in every row"):
        analyze(of(frame))


def test_models_that_do_not_converge_are_failures(
    panel: SessionPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = search.maximise

    def stopped(likelihood: object, starts: object) -> Maximum:
        from dataclasses import replace

        maximum = found(likelihood, starts)  # type: ignore[arg-type]
        return replace(maximum, decrement=3.0, converged=False)

    monkeypatch.setattr(search, "maximise", stopped)
    with pytest.raises(ConvergenceError, match=r"^No model could be.*still to gain") as caught:
        analyze(panel, families=["clpm", "ri-clpm"])
    assert caught.value.exit_code == 5
    assert caught.value.fit is not None


def test_thin_sessions_at_the_end_are_left_out_and_counted() -> None:
    panel = simulate(TRUTH, 100, 30, dropout=Dropout("random", rate=0.99), seed=1)
    counts = np.isfinite(panel.arrays().Y).sum(axis=0).min(axis=1)
    assert counts[-1] < 5 <= counts[0]
    window, (note,) = well_seen(panel)
    assert window is not None
    assert window == (1, int(np.flatnonzero(counts >= 5)[-1]) + 1)
    left_out = np.isfinite(panel.arrays().Y[:, window[1] :]).any(axis=2).sum()
    assert f"{left_out:,} rows" in note
    found = analyze(panel, families=["clpm-equal-means", "clpm"])
    assert note in found.notes
    assert {fit.sessions[-1] for fit in found.fits.values()} == {window[1]}
    narrow = analyze(panel, families=["clpm"], sessions=(2, 6))
    assert narrow.fit.sessions == (2, 3, 4, 5, 6)
    assert note not in narrow.notes


def test_full_sessions_need_no_window(panel: SessionPanel) -> None:
    assert well_seen(panel) == (None, [])


def test_a_third_variable_is_described_but_not_modeled() -> None:
    frame = simulate(TRUTH, 80, 6, seed=1).frame
    frame["bond"] = frame["alliance"] + np.random.default_rng(1).normal(size=len(frame))
    panel = of(frame, variables=["bond", "symptoms", "alliance"])
    found = analyze(panel, families=["clpm"])
    assert found.fit.variables == ("symptoms", "alliance")
    assert "bond" in found.decomposition.variance.columns
    assert any("described but not modeled: 'bond'" in note for note in found.notes)


def test_any_names_will_do(panel: SessionPanel) -> None:
    """Nothing rests on the words alliance and symptoms."""
    frame = panel.frame.rename(columns={"alliance": "Kohäsion (Gruppe)", "symptoms": "x.y"})
    with pytest.raises(Exception, match="ambiguous"):
        of(frame, variables=["Kohäsion (Gruppe)", "x.y"])
    frame = panel.frame.rename(columns={"alliance": "Kohäsion", "symptoms": "x.y"})
    found = analyze(of(frame, variables=["Kohäsion", "x.y"]), families=["ri-clpm"])
    assert found.directions[found.headline].source == "Kohäsion"


def test_refusals_are_those_of_the_analysis() -> None:
    panel = simulate(TRUTH, 60, 4, seed=1)
    said = refusals(panel)
    assert list(said) == LABELS
    found = analyze(panel)
    assert {label: why for label, why in said.items() if why is not None} == found.failures


def test_the_same_seed_gives_the_same_analysis(panel: SessionPanel, analysis: Analysis) -> None:
    again = analyze(panel, seed=5)
    assert again.comparison.equals(analysis.comparison)
    assert str(again) == str(analysis)
    assert again.notes == analysis.notes


def test_the_panel_is_left_as_it_was(panel: SessionPanel) -> None:
    before, issues = panel.frame, panel.issues
    analyze(panel, families=["ri-clpm-detrended"])
    assert panel.frame.equals(before)
    assert panel.issues == issues


def of(frame: object, variables: list[str] | None = None, **roles: str) -> SessionPanel:
    """Make a panel of a simulated frame with other columns."""
    return SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables=variables or ["alliance", "symptoms"],
        **roles,
    )
