"""One item is no scale: numbered sister columns, and what the names of questionnaires say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from reference_files import cases_dir

import alliancedyn as ad
from alliancedyn.errors import DataError
from alliancedyn.panel import SessionPanel
from alliancedyn.panel.instruments import good_end, known
from alliancedyn.panel.sisters import families


@pytest.mark.parametrize(
    ("header", "sets"),
    [
        (["wai_1", "wai_2", "wai_3"], [("wai", 3)]),
        (["wai_01", "WAI.2", "wai 3r", "wai4"], [("wai", 4)]),
        (["s3_wai_01", "s3_wai_02", "s3_wai_03"], [("s3_wai", 3)]),
        (["s1_wai", "s2_wai", "s3_wai"], [("s", 3)]),
        (["phq_a", "phq_b", "phq_c", "phq_d"], [("phq", 4)]),
        (["phq_a", "phq_b", "phq_c", "phq_t", "phq_r"], [("phq", 3)]),
        ([f"phq{i}" for i in range(1, 10)], [("phq", 9)]),
        ([f"phq9_{i}" for i in range(1, 10)] + ["phq9"], [("phq9", 9)]),
        (["phq2", "phq9", "phq15"], []),
        (["phq9_total", "phq2_total", "phq15_total"], []),
        (["core10", "core34", "core5"], []),
        (["phq9", "gad7", "core10"], []),
        (["wai_t", "wai_c", "wai_o"], []),
        (["wai_1", "wai_2"], []),
        (["site_a", "score", "date"], []),
    ],
)
def test_sisters_differ_in_a_number_that_names_no_questionnaire(
    header: list[str], sets: list[tuple[str, int]]
) -> None:
    assert [(one.stem, len(one.columns)) for one in families(header)] == sets


def items(**columns: Any) -> pd.DataFrame:
    """Return four people with three sessions, items of two scales, and further columns."""
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"id": np.repeat(list("abcd"), 3), "nr": np.tile([1, 2, 3], 4)})
    for i in range(1, 5):
        frame[f"wai_{i:02d}"] = rng.integers(1, 6, 12)
        frame[f"phq{i}"] = rng.integers(0, 4, 12)
    return frame.assign(**columns)


def read(frame: pd.DataFrame, alliance: str, symptoms: str, **options: Any) -> SessionPanel:
    named = {"alliance": alliance, "symptoms": symptoms}
    return SessionPanel.from_frame(frame, client="id", session="nr", variables=named, **options)


def test_one_item_for_a_scale_is_refused_until_it_is_meant() -> None:
    frame = items(gad7=range(12))
    with pytest.raises(DataError) as caught:
        read(frame, "wai_01", "gad7")
    assert str(caught.value) == (
        "alliance = 'wai_01' is one of 4 columns that differ in a number only ('wai_01', 'wai_02', "
        "'wai_03' and 1 more): one item, or one of several sessions side by side, is no score of a "
        "scale. Compute the total of its items first, one score per row, and map that; if it is "
        'meant as it stands, say single_items = ["wai_01"].'
    )
    with pytest.raises(DataError, match="Map 'phq_total' instead"):
        read(items(phq_total=range(12), wai=range(12)), "wai", "phq2")
    panel = read(frame, "wai_01", "gad7", single_items=["wai_01"])
    said = [issue.message for issue in panel.issues if issue.code == "single-item"]
    assert len(said) == 1
    assert "'alliance' is one of 4 sister columns" in said[0]
    assert read(frame, "wai_01", "gad7", single_items=["alliance"]).issues == panel.issues
    with pytest.raises(DataError, match="single_items names 'wai_02'"):
        read(frame, "wai_01", "gad7", single_items=["wai_02"])


def test_all_items_of_a_scale_are_no_accident() -> None:
    names = {f"a{i}": f"wai_{i:02d}" for i in range(1, 5)}
    panel = SessionPanel.from_frame(items(), client="id", session="nr", variables=names)
    assert not [issue for issue in panel.issues if "single" in issue.code]


def test_two_sisters_are_asked_about() -> None:
    frame = items(srs_1=range(12), srs_2=range(12), gad7=range(12))
    said = {issue.code: issue.message for issue in read(frame, "srs_1", "gad7").issues}
    assert "two raters, two items or two sessions?" in said["sister-column"]
    confirmed = read(frame, "srs_1", "gad7", single_items=["srs_1"])
    assert "sister-column" not in {issue.code for issue in confirmed.issues}


@pytest.mark.reference
def test_the_mapping_that_took_items_for_scales_is_refused() -> None:
    cases = cases_dir()
    with pytest.raises(DataError, match="'waisr_01' is one of 12 columns"):
        ad.read_sessions(cases / "6_items.csv", cases / "mappings" / "6_items.toml")


@pytest.mark.parametrize(
    ("column", "higher"),
    [
        *((name, "better") for name in ("ORS Total", "SRS", "WHO-5 score", "who5", "HAq-II")),
        *((name, "better") for name in ("WAI-SR Gesamtwert", "wai_c", "alliance", "wellbeing")),
        *((name, "worse") for name in ("PHQ-9 Summenwert", "Total_GAD7", "CORE-OM", "oq45_sd")),
        *((name, "worse") for name in ("bdi2", "BSI-18", "dass21_d", "k10_sum", "WSAS", "PCL-5")),
        *((name, "worse") for name in ("HSCL-25 mean", "ccaps34", "pre_phq9", "Klachten totaal")),
        *((name, None) for name in ("outcome", "core_beliefs", "kontakt", "score", "orsino")),
    ],
)
def test_names_of_questionnaires_say_which_end_is_good(column: str, higher: str | None) -> None:
    found = good_end(column)
    assert (found and found[0]) == higher


def test_a_number_left_over_is_not_the_questionnaires_own() -> None:
    assert [(known(name) or ("", ""))[1] for name in ("phq9", "WAI-SR", "phq9_3", "core10")] == [
        *("", "sr", "93", "")
    ]


def test_the_good_end_is_asked_for_once_and_held_against_the_name() -> None:
    frame = items(ors=range(12), srs=range(12), x=range(12))
    said = {issue.code: issue for issue in read(frame, "srs", "ors").issues}
    assert said["unknown-direction"].severity == "warning"
    assert 'higher = {"alliance" = "better", "symptoms" = "better"}' in (
        said["unknown-direction"].message
    )
    half = read(frame, "srs", "x", higher={"alliance": "better", "symptoms": "unknown"})
    assert half.higher == {"alliance": "better"}
    assert [issue.count for issue in half.issues if issue.code == "unknown-direction"] == [1]
    both = {"alliance": "better", "symptoms": "worse"}
    issues = read(frame, "srs", "ors", higher=both).issues
    assert "unknown-direction" not in {issue.code for issue in issues}
    (warned,) = [issue for issue in issues if issue.code == "contradicted-direction"]
    assert "'symptoms' are declared worse, but the ORS of column 'ors' is better when higher" in (
        warned.message
    )
    agreed = read(frame, "srs", "ors", higher=both | {"symptoms": "better"}).issues
    assert not [issue for issue in agreed if "direction" in issue.code]
