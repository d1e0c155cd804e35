"""Rows that complete each other, rows that are no sessions, and what stands around the table."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_files import cases_dir

import alliancedyn as ad
from alliancedyn.errors import DataError

NAMES = {"variables": {"alliance": "wai", "symptoms": "phq"}}
TIMING = {"timing": {"alliance": "after", "symptoms": "before"}}
MAPPING: dict[str, Any] = {"client": "client", "session": "session", **NAMES, **TIMING}
FULL = pd.DataFrame(
    {
        "client": np.repeat(["A", "B", "C"], 4),
        "session": [1, 2, 3, 4] * 3,
        "wai": [1.0, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 5],
        "phq": [9.0, 8, 7, 6, 9, 9, 8, 8, 7, 6, 5, 4],
        "date": pd.date_range("2024-01-01", periods=12, freq="7D"),
        "therapist": np.repeat(["T1", "T2", "T1"], 4),
        "age": np.repeat([30.0, 41, 52], 4),
    }
)
INTAKE = pd.DataFrame(
    {"client": ["A", "B", "C", "D"], "therapist": ["T1", "T2", "T1", "T9"], "age": [30, 41, 52, 60]}
)
MORE = {"date": "date", "therapist": "therapist", "covariates": ["age"]}


def split(frame: pd.DataFrame = FULL) -> pd.DataFrame:
    """Give every form a row of its own, the rest of what is known only beside one of them."""
    first = frame.assign(wai=np.nan, therapist=None)
    second = frame.assign(phq=np.nan, date=pd.NaT, age=np.nan)
    return pd.concat([first, second], ignore_index=True)


def codes(panel: ad.SessionPanel) -> dict[str, int]:
    return {issue.code: issue.count for issue in panel.issues}


def case(name: str) -> Path:
    """Find one of the exports kept outside."""
    return cases_dir() / name


@pytest.mark.parametrize("policy", ["error", "first", "last", "mean", "most_complete"])
def test_rows_that_complete_each_other_are_one_session(policy: str) -> None:
    whole = ad.SessionPanel.from_frame(FULL, **MAPPING, **MORE)
    joined = ad.SessionPanel.from_frame(split(), **MAPPING, **MORE, duplicates=policy)
    pd.testing.assert_frame_equal(joined.frame, whole.frame)
    assert codes(joined)["rows-joined"] == 12
    assert "missing-dates" not in codes(joined)
    assert joined.flow["rows"].tolist()[:3] == [24, 24, 12]


def test_cells_that_differ_stay_a_conflict() -> None:
    frame = split()
    frame.loc[len(frame)] = frame.loc[12]  # an alliance form of client A, session 1
    frame.loc[len(frame) - 1, "wai"] = 5.0
    with pytest.raises(DataError, match=r"'A' session 1 \(rows 0, 12 and 24\), different in 'alli"):
        ad.SessionPanel.from_frame(frame, **MAPPING)
    for policy, wai in (("first", 1), ("last", 5), ("mean", 3), ("most_complete", 1)):
        panel = ad.SessionPanel.from_frame(frame, **MAPPING, duplicates=policy)
        assert panel.frame.loc[0, ["alliance", "symptoms"]].tolist() == [wai, 9]
        assert codes(panel)["duplicates-resolved"] == 1
        assert codes(panel)["rows-joined"] == 11


def test_the_fullest_row_is_completed_by_the_others() -> None:
    frame = pd.concat([FULL, FULL.iloc[[0]].assign(wai=2.0, phq=np.nan, age=77.0)])
    frame.iloc[0, frame.columns.get_loc("age")] = np.nan
    panel = ad.SessionPanel.from_frame(frame, **MAPPING, **MORE, duplicates="most_complete")
    assert panel.frame.loc[0, ["alliance", "symptoms", "age"]].tolist() == [1, 9, 77]


def test_forms_of_one_day_are_one_session_by_date() -> None:
    frame = split().assign(date=[*FULL["date"], *(FULL["date"] + pd.Timedelta("50min"))])
    options = {key: value for key, value in MAPPING.items() if key != "session"}
    panel = ad.SessionPanel.from_frame(frame, **options, date="date", order="date")
    assert panel.frame["date"].tolist() == FULL["date"].tolist()
    assert panel.frame["alliance"].tolist() == FULL["wai"].tolist()
    twice = pd.concat([FULL, FULL.iloc[[0]].assign(date=FULL["date"][0] + pd.Timedelta("5h"))])
    panel = ad.SessionPanel.from_frame(twice, **options, date="date", order="date")
    assert len(panel.frame) == 13  # two full rows of one day are two sessions


def test_a_pause_is_found_where_one_form_alone_is_dated() -> None:
    late = [day + pd.Timedelta(days=700 * (i % 4 > 1)) for i, day in enumerate(FULL["date"])]
    frame = FULL.assign(date=late)
    gap: dict[str, Any] = MAPPING | MORE | {"episode_gap": 90}
    joined = ad.SessionPanel.from_frame(split(frame), **gap)
    pd.testing.assert_frame_equal(joined.frame, ad.SessionPanel.from_frame(frame, **gap).frame)
    assert (joined.n_clients, joined.n_persons) == (6, 3)


def test_intake_rows_need_no_episode() -> None:
    frame = pd.concat([INTAKE[:3], FULL.assign(therapist=None)], ignore_index=True)
    frame["episode"] = [None] * 3 + [1, 1, 2, 2] * 3
    panel = ad.SessionPanel.from_frame(frame, **MAPPING, therapist="therapist", episode="episode")
    assert (panel.n_clients, panel.n_persons) == (6, 3)
    assert panel.frame["therapist"].tolist() == FULL["therapist"].tolist()
    assert panel.flow["persons"].tolist()[:2] == [3, 3]


@given(st.data())
@settings(deadline=None, max_examples=25)
def test_no_row_is_lost_without_a_name_and_no_order_matters(data: Any) -> None:
    blank = data.draw(st.lists(st.integers(0, 23), max_size=5))
    order = data.draw(st.permutations(range(24)))
    frame = split().astype({"session": "Float64"})
    frame.loc[[i for i in blank if i >= 12], "session"] = pd.NA
    frame.loc[[i for i in blank if i >= 12], "wai"] = np.nan
    panel = ad.SessionPanel.from_frame(frame.iloc[order], **MAPPING, **MORE)
    again = ad.SessionPanel.from_frame(frame, **MAPPING, **MORE)
    pd.testing.assert_frame_equal(panel.frame, again.frame)
    found = codes(panel)
    losses = [found.get(code, 0) for code in ("rows-joined", "client-rows", "duplicates-removed")]
    assert len(panel.frame) + sum(losses) == 24


@pytest.mark.parametrize("order", [None, "date"])
def test_intake_rows_describe_clients_and_are_no_sessions(order: str | None) -> None:
    sessions = FULL.assign(therapist=None, age=np.nan)
    frame = pd.concat([INTAKE, sessions], ignore_index=True)
    options = MAPPING if order is None else MAPPING | {"session": None, "order": order}
    panel = ad.SessionPanel.from_frame(frame, **(options | MORE))
    whole = ad.SessionPanel.from_frame(FULL, **(options | MORE))
    pd.testing.assert_frame_equal(panel.frame, whole.frame)
    (said,) = [issue for issue in panel.issues if issue.code == "client-rows"]
    assert said.count == 4
    assert said.severity == "warning"  # client D has no session at all
    assert "therapist of 3 clients" in said.message
    assert "1 client has no other row and is left out: 'D'" in said.message


def test_a_dated_intake_row_of_redcap_is_no_session() -> None:
    sessions = FULL.assign(therapist=None, redcap_repeat_instance=FULL["session"])
    dated = INTAKE[:3].assign(date=pd.Timestamp("2023-12-24"))
    frame = pd.concat([dated, sessions], ignore_index=True)
    options: dict[str, Any] = MAPPING | {"session": None, "date": "date", "order": "date"}
    panel = ad.SessionPanel.from_frame(frame, **options, therapist="therapist")
    assert panel.frame["session"].tolist() == FULL["session"].tolist()
    assert panel.frame["therapist"].tolist() == FULL["therapist"].tolist()
    assert codes(panel)["client-rows"] == 3
    elsewhere = frame.drop(columns="redcap_repeat_instance")  # a session without forms
    assert len(ad.SessionPanel.from_frame(elsewhere, **options).frame) == 15


def test_intake_never_overrules_a_session_nor_fills_what_varies() -> None:
    sessions = FULL.assign(age=[*range(11), np.nan])
    frame = pd.concat([INTAKE.iloc[:3].assign(therapist="T7"), sessions], ignore_index=True)
    panel = ad.SessionPanel.from_frame(frame, **MAPPING, therapist="therapist", covariates=["age"])
    assert panel.frame["therapist"].tolist() == FULL["therapist"].tolist()
    assert np.isnan(panel.frame["age"].iloc[-1])


def test_intake_rows_that_contradict_each_other_are_named() -> None:
    frame = pd.concat(
        [INTAKE, INTAKE.assign(therapist="T8"), FULL.assign(therapist=None)], ignore_index=True
    )
    with pytest.raises(DataError, match="'A', 'B', 'C' several values of 'therapist'"):
        ad.SessionPanel.from_frame(frame, **MAPPING, therapist="therapist")


def test_a_row_with_a_score_needs_a_session() -> None:
    frame = FULL.astype({"session": "Int64"})
    frame.loc[3, "session"] = pd.NA
    with pytest.raises(DataError, match="no session number in row 3"):
        ad.SessionPanel.from_frame(frame, **MAPPING)


@pytest.mark.reference
@pytest.mark.parametrize("name", ["3_redcap.csv", "3_redcap_noin.csv"])
@pytest.mark.parametrize("order", [None, "date"])
def test_redcap_is_read_as_it_comes(name: str, order: str | None) -> None:
    panel = ad.read_sessions(
        case(name),
        client="record_id",
        session="redcap_repeat_instance",
        variables={"alliance": "wai_total", "symptoms": "phq9_total"},
        therapist="clinician",
        date="phq9_date",
        order=order,
        **TIMING,
    )
    truth = pd.read_csv(case("exports_truth.csv"), dtype={"client": str}, parse_dates=["date"])
    frame = panel.frame.merge(truth, on=["client", "session"], suffixes=("", "_true"))
    assert len(frame) == len(panel.frame) == len(truth)
    np.testing.assert_allclose(frame["alliance"], frame["alliance_true"], atol=0.00051)
    np.testing.assert_array_equal(frame["symptoms"], frame["symptoms_true"])
    assert (frame["date"] == frame["date_true"]).all()
    assert codes(panel)["rows-joined"] == 604
    if "noin" not in name:
        assert codes(panel)["client-rows"] == 70
        assert (frame["therapist"] == frame["therapist_true"]).all()


@pytest.mark.reference
@pytest.mark.parametrize("policy", ["error", "mean", "most_complete"])
def test_no_questionnaire_of_a_split_export_is_dropped(policy: str) -> None:
    panel = ad.read_sessions(
        case("bugs/redcap_split.csv"),
        client="record_id",
        session="redcap_repeat_instance",
        variables={"alliance": "wai_total", "symptoms": "phq9_total"},
        duplicates=policy,
        **TIMING,
    )
    assert panel.frame[["alliance", "symptoms"]].notna().sum().tolist() == [150, 150]


# -- around the table ---------------------------------------------------------------------------

TABLE = FULL[["client", "session", "wai", "phq"]].to_csv(index=False, lineterminator="\n")
ABOVE = [
    "Export of a clinic\nMade on: 01.12.2026 10:14\n\n",
    "Export of a clinic,,,\n,,,\n",
    "\n\n",
    '"A title, with a comma\nand a line break"\n',
    "From,2024-01-01\nTo,2024-12-31\n\n",
]


@pytest.mark.parametrize("above", ABOVE)
@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_lines_above_the_names_are_found_and_said(above: str, ending: str, tmp_path: Path) -> None:
    text, path = above + TABLE, tmp_path / f"export.{ending}"
    shape: Any = {"header": None, "names": range(4), "skip_blank_lines": False, "dtype": str}
    rows = pd.read_csv(io.StringIO(text), **shape).to_numpy()
    if ending == "csv":
        path.write_text(text, "utf-8")
    else:
        book = openpyxl.Workbook()
        for row in rows:
            book.active.append([None if pd.isna(cell) else str(cell) for cell in row])
        book.save(path)
    panel = ad.read_sessions(path, **MAPPING)
    assert panel.frame["symptoms"].tolist() == FULL["phq"].tolist()
    assert codes(panel)["header-below"] == len(rows) - 13
    guess = ad.guess_mapping(path)
    assert guess.mapping.client == "client"
    assert any("above were left out" in note or "above was" in note for note in guess.notes)
    at = text.replace("9.0", "no score", 1)
    if ending == "csv":
        path.write_text(at, "utf-8")
        with pytest.raises(DataError, match=rf"'no score' \(once\), in row {len(rows) - 11}"):
            ad.read_sessions(path, **MAPPING)


def qualtrics(labels: bool, ids: bool) -> str:
    names = "StartDate,IPAddress,RecipientEmail,LocationLatitude,client,session,wai,phq\n"
    more = "Start Date,IP Address,Recipient Email,Location Latitude,Your code,Session,A,B\n"
    marks = ",".join(f'"{{""ImportId"":""QID{i}""}}"' for i in range(8)) + "\n"
    rows = TABLE.split("\n", 1)[1].rstrip().split("\n")
    body = "".join(f"2024-01-01 10:00:00,10.0.0.1,a@b.c,52.5,{row}\n" for row in rows)
    return names + more * labels + marks * ids + body


@pytest.mark.parametrize(("labels", "ids"), [(True, True), (True, False), (False, False)])
def test_header_rows_of_qualtrics_are_left_out(labels: bool, ids: bool, tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text(qualtrics(labels, ids), "utf-8")
    panel = ad.read_sessions(tmp_path / "q.csv", **MAPPING)
    assert panel.frame["alliance"].tolist() == FULL["wai"].tolist()
    assert codes(panel).get("header-rows", 0) == labels + ids
    guess = ad.guess_mapping(tmp_path / "q.csv")
    contact = {"IPAddress", "RecipientEmail", "LocationLatitude"}
    assert not contact & set(guess.mapping.columns.values())
    assert any("'IPAddress', 'RecipientEmail' and 'Loc" in note for note in guess.notes)


def test_a_table_of_names_and_addresses_has_nothing_to_map(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("email,x,x\na@b.c,1,2\n", "utf-8")
    with pytest.raises(DataError, match="No column of 'email', 'x' and 'x' can be mapped"):
        ad.guess_mapping(tmp_path / "a.csv")


def test_unnamed_columns_are_no_wide_layout(tmp_path: Path) -> None:
    text = "\n".join(line + "," * 6 for line in TABLE.rstrip().split("\n")) + "\n"
    (tmp_path / "a.csv").write_text(text, "utf-8")
    options = {key: value for key, value in MAPPING.items() if key != "session"}
    with pytest.raises(DataError, match=r"No session column is named\. Pass"):
        ad.read_sessions(tmp_path / "a.csv", **options)
    assert len(ad.read_sessions(tmp_path / "a.csv", **MAPPING).frame) == 12


@pytest.mark.reference
def test_cases_around_the_table() -> None:
    mapping = case("mappings/1_german_rom.toml")
    plain = ad.read_sessions(case("1_german_rom.csv"), mapping)
    below = ad.read_sessions(case("1b_german_rom_preamble.csv"), mapping)
    pd.testing.assert_frame_equal(plain.frame, below.frame)
    assert codes(below)["header-below"] == 3
    items = {"alliance": "WAI_1", "symptoms": "PHQ_1"}
    with pytest.raises(DataError, match=r"No session column is named\. Pass"):
        ad.read_sessions(case("4_qualtrics_numeric.csv"), client="Q1", variables=items)
    with pytest.raises(DataError, match="column per session"):
        ad.guess_mapping(case("2_wide.xlsx"))
    notes = ad.guess_mapping(case("5_long_by_questionnaire.csv")).notes
    assert any("one row per questionnaire" in note for note in notes)


def test_forms_that_count_their_own_repeats_are_suspected() -> None:
    alliance = [(c, t, 1.0 + (c * t) % 4, np.nan) for c in range(8) for t in range(1, 9)]
    for every, expected in ((1, 0), (4, 1)):
        symptoms = [
            (c, place + 1, np.nan, 5.0 + (c * t) % 7)
            for c in range(8)
            for place, t in enumerate(range(1, 9, every))
        ]
        frame = pd.DataFrame([*alliance, *symptoms], columns=["client", "session", "wai", "phq"])
        found = [
            issue
            for issue in ad.SessionPanel.from_frame(frame, **MAPPING).issues
            if issue.code == "forms-counted-apart"
        ]
        assert len(found) == expected
        assert all(issue.severity == "warning" and issue.count == 8 for issue in found)
    placed = frame.assign(
        session=frame["session"].where(frame["wai"].notna(), 4 * frame["session"] - 3)
    )
    panel = ad.SessionPanel.from_frame(placed, **MAPPING)  # where they belong
    assert "forms-counted-apart" not in codes(panel)
