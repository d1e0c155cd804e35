"""Exports and calls that once went wrong, each with its right answer.

The files are kept outside of the project; see `reference_files.cases_dir`.
"""

from __future__ import annotations

import re
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from reference_files import cases_dir

import alliancedyn as ad
from alliancedyn.causal import compare_directions
from alliancedyn.errors import AllianceDynError, DataError, SpecificationError
from alliancedyn.panel import guess_mapping
from alliancedyn.studies import analyze, refusals

pytestmark = pytest.mark.reference

PAIR = {"alliance": "alliance", "symptoms": "symptoms"}
TIMING = {"alliance": "after", "symptoms": "before"}
TOTALS = {"alliance": "wai_total", "symptoms": "phq9_total"}
ROUNDED = 5e-4  # of scores with three decimals
SHOWN = 5e-4  # of an effect with three decimals
SAME = 1e-4  # of a standard error, in its own units, whatever constant is added to the scores


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Read issues and notes where they are kept; warnings say the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def bug(name: str, **more: Any) -> ad.SessionPanel:
    """Read a panel of the folder of bugs."""
    options = {"client": "client", "session": "session", "variables": PAIR, "timing": TIMING}
    return ad.read_sessions(cases_dir() / "bugs" / name, **(options | more))


def said(panel: ad.SessionPanel) -> str:
    return " ".join(f"{one.code}: {one.message}" for one in panel.issues)


def truth() -> pd.DataFrame:
    return pd.read_csv(cases_dir() / "exports_truth.csv", parse_dates=["date"])


def same_scores(panel: ad.SessionPanel, decimals: float) -> None:
    """Compare with the panel that the export was made from; a blank in the export may be blank."""
    known = truth()
    found = panel.frame.reset_index(drop=True)
    assert len(found) == len(known)
    assert found.groupby("client", sort=False).size().tolist() == (
        known.groupby("client", sort=False).size().tolist()
    )
    for name in ("alliance", "symptoms"):
        seen = found[name].notna()
        assert np.abs(found[name] - known[name])[seen].max() <= decimals, name


# -- exports --------------------------------------------------------------------------------------

GERMAN = {
    "client": "Patientennummer",
    "date": "Sitzungsdatum",
    "therapist": "Therapeut/in",
    "alliance": "WAI-SR Gesamtwert",
    "symptoms": "PHQ-9 Summenwert",
}


@pytest.mark.parametrize("name", ["1_german_rom.csv", "1b_german_rom_preamble.csv"])
def test_a_german_export_is_recognized_column_by_column(name: str) -> None:
    text = guess_mapping(cases_dir() / name).to_toml()
    found = tomllib.loads(text)
    assert {**found, **found["variables"]} | GERMAN == {**found, **found["variables"]}
    assert found.get("order") == "date"
    assert "missing_codes" not in found
    proposed = next(line for line in text.splitlines() if line.startswith("# missing_codes"))
    assert "k.A." in proposed
    assert "-99" in proposed


@pytest.mark.parametrize("name", ["1_german_rom.csv", "1b_german_rom_preamble.csv"])
def test_a_german_export_is_read_by_its_dates(name: str) -> None:
    panel = ad.read_sessions(cases_dir() / name, cases_dir() / "mappings" / "1_german_rom.toml")
    same_scores(panel, 0.0051)
    assert 0.0 < panel.frame["alliance"].isna().mean() < 0.1
    if name.startswith("1b"):
        assert re.search(r"header|row 4|line 4", said(panel))
    assert panel.frame["session"].max() == 12


def test_lines_above_the_header_are_no_wide_layout() -> None:
    text = guess_mapping(cases_dir() / "1b_german_rom_preamble.csv").text
    assert "wide" not in text


def test_a_wide_workbook_opens_and_is_named() -> None:
    wide = {"alliance": "wai_1", "symptoms": "phq9_1"}
    with pytest.raises(DataError, match=r"wide layout|one row per client"):
        ad.read_sessions(cases_dir() / "2_wide.xlsx", client="ID", variables=wide)
    with pytest.raises(DataError, match="wide layout"):
        guess_mapping(cases_dir() / "2_wide.xlsx")


@pytest.mark.parametrize("name", ["3_redcap.csv", "3_redcap_noin.csv"])
@pytest.mark.parametrize("policy", ["3_redcap", "3_mean", "3_most_complete"])
def test_forms_of_one_session_are_one_session(name: str, policy: str) -> None:
    panel = ad.read_sessions(cases_dir() / name, cases_dir() / "mappings" / f"{policy}.toml")
    same_scores(panel, ROUNDED)
    assert panel.frame[["alliance", "symptoms"]].notna().all(axis=None)
    found = {one.code: one for one in panel.issues}
    assert found["rows-joined"].count == 604
    assert "1,208 rows" in found["rows-joined"].message
    assert ("client-rows" in found) == (name == "3_redcap.csv")


def test_intake_rows_give_the_clinician() -> None:
    text = guess_mapping(cases_dir() / "3_redcap.csv").to_toml()
    assert tomllib.loads(text)["therapist"] == "clinician"
    panel = ad.read_sessions(
        cases_dir() / "3_redcap.csv",
        cases_dir() / "mappings" / "3_redcap.toml",
        therapist="clinician",
    )
    first = truth().groupby("client", sort=False)["therapist"].first().tolist()
    assert panel.frame.groupby("client", sort=False)["therapist"].first().tolist() == first


def test_qualtrics_is_recognized_and_no_item_is_a_scale() -> None:
    guess = guess_mapping(cases_dir() / "4_qualtrics_numeric.csv")
    text = guess.to_toml()
    assert "Qualtrics" in text
    found = tomllib.loads(text)
    named = [*found.values(), *found.get("variables", {}).values()]
    assert not [one for one in named if re.match(r"(WAI|PHQ)_\d", str(one))]
    assert not [one for one in named if re.search(r"Recipient|IPAddress|Location", str(one))]
    with pytest.raises(DataError, match="one of 12 columns"):
        ad.read_sessions(
            cases_dir() / "4_qualtrics_numeric.csv",
            client="Q1",
            session="Q2",
            variables={"alliance": "WAI_1", "symptoms": "PHQ_1"},
        )


def test_the_rows_under_a_qualtrics_header_are_no_clients() -> None:
    panel = ad.read_sessions(
        cases_dir() / "4_qualtrics_numeric.csv",
        client="Q1",
        session="Q2",
        variables={"alliance": "WAI_1", "symptoms": "PHQ_1"},
        single_items=["WAI_1", "PHQ_1"],
    )
    assert not [one for one in panel.clients if "ImportId" in str(one) or "?" in str(one)]
    assert panel.frame["alliance"].dropna().between(1, 5).all()
    assert panel.frame["symptoms"].notna().sum() == 604


def test_a_row_per_questionnaire_is_named() -> None:
    guess = guess_mapping(cases_dir() / "5_long_by_questionnaire.csv")
    assert "one row per questionnaire" in guess.text
    assert not tomllib.loads(guess.to_toml()).get("variables")


def test_one_item_never_stands_for_a_scale() -> None:
    guess = guess_mapping(cases_dir() / "6_items.csv")
    assert not tomllib.loads(guess.to_toml()).get("variables")
    assert "waisr_01" in guess.to_toml()
    with pytest.raises(DataError, match="'waisr_01' is one of 12 columns"):
        ad.read_sessions(cases_dir() / "6_items.csv", cases_dir() / "mappings" / "6_items.toml")


def dated(**more: Any) -> ad.SessionPanel:
    return ad.read_sessions(
        cases_dir() / "7c_two_episodes_dates_only.csv",
        client="client_id",
        date="date",
        order="date",
        therapist="therapist",
        variables=TOTALS,
        timing=TIMING,
        **more,
    )


def episodes() -> ad.SessionPanel:
    return ad.read_sessions(cases_dir() / "7_two_episodes.csv", cases_dir() / "mappings" / "7.toml")


def test_persons_and_episodes_are_counted_apart() -> None:
    panel = episodes()
    assert (panel.n_persons, panel.n_clients) == (70, 95)
    text = ad.check(panel).text
    assert "70" in text
    assert "95" in text
    backward = compare_directions(ad.RICLPM().fit(panel, errors="observed")).backward
    assert backward.value == pytest.approx(-0.117, abs=SHOWN)


def test_persons_cluster_errors_by_default() -> None:
    panel = episodes()
    usual = ad.RICLPM().fit(panel)
    by_person = ad.RICLPM().fit(panel, errors="cluster:person")
    assert usual.se.to_numpy() == pytest.approx(by_person.se.to_numpy(), nan_ok=True)


def test_a_session_in_an_episode_is_proposed() -> None:
    found = tomllib.loads(guess_mapping(cases_dir() / "7_two_episodes.csv").to_toml())
    assert (found["episode"], found["session"]) == ("episode", "session_in_episode")


def test_a_pause_of_two_years_opens_an_episode() -> None:
    panel, known = dated(episode_gap=90), episodes()
    assert (panel.n_persons, panel.n_clients) == (70, 95)
    columns = ["session", "alliance", "symptoms"]
    assert np.allclose(panel.frame[columns], known.frame[columns], equal_nan=True)
    backward = compare_directions(ad.RICLPM().fit(panel, errors="observed")).backward
    assert backward.value == pytest.approx(-0.117, abs=SHOWN)


def test_a_pause_is_never_closed_without_a_word() -> None:
    panel = dated()
    found = [one for one in panel.issues if "episode_gap" in one.message]
    assert [one.severity for one in found] == ["warning"]
    assert "25" in found[0].message
    assert re.search(r"longest \d{3} days", found[0].message)


def test_a_feedback_system_says_which_end_is_good() -> None:
    guess = guess_mapping(cases_dir() / "8_openfit_pcoms.csv")
    text = guess.to_toml()
    assert "N/A" in next(line for line in text.splitlines() if "missing_codes" in line)
    mapping = cases_dir() / "mappings" / "8.toml"
    export = cases_dir() / "8_openfit_pcoms.csv"
    panel = ad.read_sessions(export, mapping)
    (asked,) = [one for one in panel.issues if one.code == "unknown-direction"]
    assert asked.severity == "warning"
    assert '"symptoms" = "better"' in asked.message
    told = ad.read_sessions(export, mapping, higher=dict.fromkeys(PAIR, "better"))
    assert "unknown-direction" not in {one.code for one in told.issues}
    text = compare_directions(ad.RICLPM().fit(told, strict=False)).text
    assert "igher symptoms before" not in text
    assert "better" in text


# -- calls ----------------------------------------------------------------------------------------


def test_what_is_centered_on_clients_has_no_effect_between_them() -> None:
    panel = bug("centred_alliance.csv")
    assert re.search("cent(e|er)r?ed", said(panel))
    fit = ad.WithinBetween().fit(panel, strict=False)
    assert "between[symptoms,alliance]" not in fit.params
    assert any("between[symptoms,alliance]" in one for one in fit.diagnostics["notes"])
    assert np.abs(fit.params).max() < 1e3
    plain = ad.WithinBetween().fit(bug("centred_none.csv"), strict=False)
    phi = "phi[symptoms,alliance]"
    assert fit.params[phi] == pytest.approx(plain.params[phi], abs=0.1 * plain.se[phi])


@pytest.mark.parametrize(
    "spec",
    [ad.CLPM(), ad.RICLPM(), ad.LCMSR(), ad.MLSEM(direction="both"), ad.GCLM()],
    ids=lambda spec: spec.name,
)
def test_a_constant_first_session_is_named(spec: Any) -> None:
    panel = bug("constant_first_session.csv")
    with pytest.raises(SpecificationError) as refused:
        spec.fit(panel)
    assert "symptoms" in str(refused.value)
    assert "session 1" in str(refused.value)
    assert "sessions=(2, 6)" in str(refused.value)


def test_the_rest_of_a_constant_first_session_is_fitted() -> None:
    fit = ad.RICLPM(sessions=(2, 6)).fit(bug("constant_first_session.csv"), strict=False)
    assert fit.converged


def test_copied_scores_are_counted() -> None:
    (found,) = [one for one in bug("copied_down.csv").issues if "repeat" in one.message]
    assert found.severity == "warning"
    assert re.search(r"alliance.*75|75.*alliance", found.message)
    assert not [one for one in bug("copied_down_truth.csv").issues if "repeat" in one.message]


@pytest.mark.parametrize(
    "spec",
    [
        ad.CLPM(), ad.RICLPM(), ad.LCMSR(), ad.ALT(), ad.STARTS(), ad.GCLM(), ad.LatentChange(),
        ad.MLSEM(direction="both"), ad.WithinBetween(), ad.FixedEffects(), ad.DynamicPanelGMM(),
        ad.DSEM(),
    ],
    ids=lambda spec: spec.name,
)  # fmt: skip
def test_every_second_session_tells_no_effect_of_one(spec: Any) -> None:
    with pytest.raises(SpecificationError, match=r"session|lag"):
        spec.fit(bug("every_second_both.csv"))


def test_continuous_time_takes_the_principal_root() -> None:
    panel = bug("every_second_both.csv")
    fit = ad.ContinuousTime(time="session", initial="stationary").fit(panel, strict=False)
    for source, target, value in (
        ("alliance", "alliance", 0.6),
        ("alliance", "symptoms", -0.2),
        ("symptoms", "alliance", -0.1),
        ("symptoms", "symptoms", 0.5),
    ):
        effect = fit.effect(source, target)
        assert abs(effect.value - value) < 3 * effect.se


def test_a_process_rated_at_every_third_session_is_answered() -> None:
    panel = bug("every_third_alliance.csv")
    found = analyze(panel, seed=1)
    assert found.fits
    assert not any("have 1" in why for why in found.failures.values())
    assert not any("have 1" in (why or "") for why in refusals(panel).values())
    path = found.fit.effect("alliance", "symptoms")
    assert abs(path.value + 0.125) < 0.1


@pytest.mark.parametrize("constant", [1000.0, 10_000.0, 30_000.0])
def test_a_constant_added_to_scores_changes_nothing(constant: float) -> None:
    panel = bug("location.csv")
    frame = panel.frame.assign(
        alliance=panel.frame["alliance"] + constant, symptoms=panel.frame["symptoms"] - constant
    )
    moved = ad.SessionPanel.from_frame(
        frame, client="client", session="session", variables=PAIR, timing=TIMING
    )
    spec = ad.MLSEM(direction="both")
    known, found = (spec.fit(one, strict=False) for one in (panel, moved))
    effects = [name for name in known.params.index if name.startswith("phi")]
    assert found.params[effects].to_numpy() == pytest.approx(known.params[effects], abs=SAME)
    assert found.se[effects].to_numpy() == pytest.approx(known.se[effects].to_numpy(), rel=SAME)


def test_clients_without_a_therapist_stay() -> None:
    panel = bug("partially_nested.csv", therapist="therapist", covariates=("arm01",))
    fit = ad.WithinBetween(levels=("therapist", "client")).fit(panel, strict=False)
    effect = fit.effect("alliance", "symptoms")
    assert fit.sample.rows == 465
    assert effect.value == pytest.approx(-0.010, abs=0.005)
    assert effect.se == pytest.approx(0.067, abs=0.005)
    both = ad.WithinBetween(levels=("therapist", "client"), covariates=("arm01",))
    assert both.fit(panel, strict=False).sample.rows == 465


@pytest.mark.parametrize("policy", ["most_complete", "mean"])
def test_no_policy_for_duplicates_loses_a_variable(policy: str) -> None:
    panel = ad.read_sessions(
        cases_dir() / "bugs" / "redcap_split.csv",
        client="record_id",
        session="redcap_repeat_instance",
        variables=TOTALS,
        timing=TIMING,
        duplicates=policy,
    )
    assert panel.frame[["alliance", "symptoms"]].notna().sum().tolist() == [150, 150]


COVARIATES: list[Any] = [
    ad.CLPM(covariates=("sev",)),
    ad.RICLPM(covariates=("sev",)),
    ad.LCMSR(covariates=("sev",)),
    ad.STARTS(covariates=("sev",)),
    ad.GCLM(covariates=("sev",)),
    ad.MLSEM(direction="both", covariates=("sev",)),
    ad.RICLPM(moderators=("sev",)),
    ad.ContinuousTime(time="session", covariates=("sev",)),
]


@pytest.mark.parametrize("spec", COVARIATES, ids=lambda spec: repr(spec)[:40])
def test_models_with_covariates_are_standardized(spec: Any) -> None:
    fit = spec.fit(bug("with_covariate.csv", covariates=("sev",)), strict=False)
    table = fit.standardized()
    assert np.isfinite(table["estimate"]).all()


def test_a_cell_that_is_true_is_a_text_and_no_score() -> None:
    with pytest.raises(DataError, match=r"'True' \(once\)"):
        bug("true_before_one.xlsx")
    scores = bug("true_before_one.xlsx", missing_codes=["True"]).frame["symptoms"]
    assert scores.isna().sum() == 1
    assert (scores == 1).sum() == 33


def test_no_script_of_the_folder_is_forgotten() -> None:
    scripts = {path.stem for path in Path(cases_dir() / "bugs").glob("*.py")} - {"common"}
    assert scripts == {
        "centred_predictor",
        "constant_first_session",
        "copied_down",
        "every_second_both",
        "every_third_alliance",
        "mlsem_location",
        "partially_nested",
        "redcap_split",
        "standardized_covariates",
        "true_cells",
    }
    assert issubclass(DataError, AllianceDynError)
