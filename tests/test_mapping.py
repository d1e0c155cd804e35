"""Mappings: in arguments and in files, guessed, shown and read back."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import alliancedyn as ad
from alliancedyn.errors import DataError
from alliancedyn.panel.guess import GuessedMapping
from alliancedyn.panel.mapping import PanelMapping, build_mapping, check_columns

TOML = """
client = "id"
session = "nr"
therapist = "th"
date = "when"
day_first = true
duplicates = "first"
covariates = ["age"]
process = "symptoms"
outcome = "alliance"
missing_codes = [-9, "n/a"]

[variables]
alliance = "wai"
symptoms = "phq"

[timing]
alliance = "before"

[ranges]
alliance = [1, 7]
phq = [0, inf]
"""
EXPORT = """id,nr,wai,phq,th,when,age
1,1,4,20,T1,03/04/2024,40
1,1,5,20,T1,03/04/2024,40
1,2,-9,n/a,T1,10/04/2024,40
2,1,3,9,T2,04/04/2024,n/a
2,2,4,8,T2,11/04/2024,n/a
"""


@pytest.fixture
def export(tmp_path: Path) -> Path:
    (tmp_path / "map.toml").write_text(TOML, "utf-8")
    (tmp_path / "export.csv").write_text(EXPORT, "utf-8")
    return tmp_path / "export.csv"


def test_a_file_says_what_arguments_say(export: Path) -> None:
    panel = ad.read_sessions(export, mapping=export.parent / "map.toml")
    same = ad.read_sessions(
        export,
        client="id",
        session="nr",
        variables={"alliance": "wai", "symptoms": "phq"},
        therapist="th",
        date="when",
        day_first=True,
        duplicates="first",
        covariates=["age"],
        process="symptoms",
        outcome="alliance",
        missing_codes=[-9, "n/a"],
        timing={"alliance": "before"},
        ranges={"alliance": (1, 7), "phq": (0, np.inf)},
    )
    pd.testing.assert_frame_equal(panel.frame, same.frame)
    assert panel.issues == same.issues
    assert panel.provenance == same.provenance
    assert (panel.process, panel.outcome) == ("symptoms", "alliance")
    assert panel.timing == {"alliance": "before", "symptoms": "before"}
    assert panel.ranges == {"alliance": (1, 7), "symptoms": (0, np.inf)}
    assert panel.frame["date"].dt.month.unique().tolist() == [4]
    assert panel.client_values("age").tolist()[0] == 40
    assert np.isnan(panel.client_values("age")[1])


def test_arguments_overrule_the_file_one_by_one(export: Path) -> None:
    mapping = str(export.parent / "map.toml")
    panel = ad.read_sessions(
        export, mapping, duplicates="last", process="alliance", outcome="symptoms"
    )
    assert panel.frame["alliance"][0] == 5
    assert panel.process == "alliance"
    with pytest.raises(DataError, match="Conflicting rows"):
        ad.read_sessions(export, mapping, duplicates="error")
    other = ad.read_sessions(
        export,
        mapping,
        variables={"a": "phq", "b": "wai"},
        ranges={"a": (0, 27)},
        process="a",
        outcome="b",
        timing={"a": "before"},
    )
    assert other.variables == ("a", "b")


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"client": 3}, "client must be a text, not 3"),
        ({"variables": "wai"}, "must be a table or a list of columns"),
        ({"variables": 3}, "must be a table name = column"),
        ({"variables": {"a": 3, "b": "c"}}, "'a' must name one column, not 3"),
        ({"variables": {"session": "a", "b": "c"}}, "cannot be called 'session'"),
        ({"variables": {"a.trend": "a", "b": "c"}}, "ambiguous in parameter names"),
        ({"covariates": ["alliance"]}, "is a variable and a covariate"),
        ({"timing": {"x": "after"}}, "timing names 'x'"),
        ({"timing": "after"}, "timing must be a table"),
        ({"ranges": {"alliance": 3}}, "must be [lowest, highest], not 3"),
        ({"ranges": {"alliance": [1, "x"]}}, "must be [lowest, highest]"),
        ({"ranges": [1, 7]}, "ranges must be a table"),
        ({"ranges": {"alliance": [1, float("nan")]}}, "must rise"),
        ({"ranges": {"allianse": [1, 7]}}, "Did you mean 'alliance'?"),
        ({"missing_codes": {"x": [1]}}, "missing_codes names 'x'"),
        ({"missing_codes": [True]}, "not True"),
        ({"missing_codes": [[1]]}, "A missing code is a number or a text"),
        ({"missing_codes": object()}, "missing_codes must be a list"),
        ({"day_first": "yes"}, "day_first must be true or false"),
        ({"sheet": 1.5}, "sheet must be a name or a number"),
        ({"order": "name"}, "order must be one of 'date' and 'session'"),
    ],
)
def test_what_makes_no_sense_is_refused(said: dict[str, Any], says: str) -> None:
    base = {"client": "c", "session": "s", "variables": {"alliance": "a", "symptoms": "b"}}
    with pytest.raises(DataError) as caught:
        build_mapping(base | said)
    assert says in str(caught.value)


def test_codes_of_a_column_by_its_name_or_the_variables() -> None:
    base = {"client": "c", "session": "s", "variables": {"a": "x", "b": "y"}, "date": "d"}
    by_file = build_mapping(base | {"missing_codes": [9]})
    assert by_file.codes_for("x", score=True) == (9,)
    assert by_file.codes_for("d", score=False) == ()
    by_column = build_mapping(base | {"missing_codes": {"x": [9], "b": "NA", "d": ["0000-00-00"]}})
    assert by_column.codes_for("x", score=True) == (9,)
    assert by_column.codes_for("y", score=True) == ("NA",)
    assert by_column.codes_for("d", score=False) == ("0000-00-00",)
    # A variable called like another column: the column's own codes hold.
    crossed = build_mapping(base | {"variables": {"y": "x", "x": "y"}, "missing_codes": {"x": [9]}})
    assert crossed.codes_for("x", score=True) == (9,)
    assert crossed.codes_for("y", score=True) == ()


def test_columns_are_asked_for_once_and_in_order() -> None:
    mapping = build_mapping({"client": "c", "session": "s", "variables": ["x", "y"]})
    assert check_columns(mapping, ["y", "z", "x", "s", "c"]) == ["c", "s", "x", "y"]


def test_a_mapping_prints_compares_and_records_itself() -> None:
    said = {"client": "c", "session": "s", "variables": {"a": "x", "b": "y"}}
    mapping = build_mapping(said)
    assert mapping == build_mapping(dict(reversed(said.items())))
    assert mapping.to_dict() == said | {"duplicates": "error"}
    assert "client='c'" in repr(mapping)


LONG = {
    "PCOMS": (
        [
            "case",
            "client",
            "clinician",
            "session",
            "date",
            "ORS_Skip",
            "ORSQ1",
            "ORSQ2",
            "Total_ORS",
            "SRS_Skip",
            "SRSQ1",
            "SRSQ2",
            "Total_SRS",
        ],
        {"client": "client", "session": "session", "therapist": "clinician", "date": "date"},
        {"alliance": "Total_SRS", "symptoms": "Total_ORS"},
    ),
    "OQ": (
        ["ClientID", "Clinic", "Clinician", "AdminDate", "SessionNo", "OQ45_Total", "SD", "WAI"],
        {
            "client": "ClientID",
            "session": "SessionNo",
            "therapist": "Clinician",
            "date": "AdminDate",
            "site": "Clinic",
        },
        {"alliance": "WAI", "symptoms": "OQ45_Total"},
    ),
    "REDCap": (
        [
            "record_id",
            "redcap_event_name",
            "redcap_repeat_instance",
            "wai_sr_total",
            "wai_sr_1",
            "phq9_total",
            "phq9_1",
        ],
        {"client": "record_id", "session": "redcap_repeat_instance"},
        {"alliance": "wai_sr_total", "symptoms": "phq9_total"},
    ),
    "IAPT": (
        [
            "PersonID",
            "ReferralId",
            "CareContactDate",
            "session_number",
            "PHQ9_Score",
            "GAD7_Score",
            "CareProfessionalId",
        ],
        {
            "client": "PersonID",
            "session": "session_number",
            "date": "CareContactDate",
            "therapist": "CareProfessionalId",
            "episode": "ReferralId",
        },
        {"symptoms": "PHQ9_Score"},
    ),
    "German": (
        ["PatientID", "Sitzung", "Datum", "Therapeut", "WAI_SR", "PHQ9"],
        {"client": "PatientID", "session": "Sitzung", "date": "Datum", "therapist": "Therapeut"},
        {"alliance": "WAI_SR", "symptoms": "PHQ9"},
    ),
}


def write_export(path: Path, header: list[str]) -> None:
    """Write an export of 3 people with 3 sessions; what a column holds follows from its name."""
    rows = []
    for person in range(3):
        for session in (1, 2, 3):
            cells = []
            for name in header:
                lower = name.lower()
                if "date" in lower or "datum" in lower:
                    cells.append(f"2024-01-{7 * session:02d}")
                elif lower in {"client", "clientid", "record_id", "personid", "patientid", "case"}:
                    cells.append(f"C{person}")
                elif lower.startswith(("clini", "ther", "careprof", "referral")):
                    cells.append(f"T{person % 2}")
                elif lower.startswith(("sess", "sitz")) or lower.endswith("instance"):
                    cells.append(str(session))
                elif lower.endswith("event_name"):
                    cells.append(f"visit_{session}_arm_1")
                elif lower.endswith("skip"):
                    cells.append("0")
                else:
                    cells.append(str(20 - 3 * session + person))
            rows.append(",".join(cells))
    path.write_text("\n".join([",".join(header), *rows]) + "\n", "utf-8")


@pytest.mark.parametrize("system", LONG)
def test_common_exports_are_guessed(system: str, tmp_path: Path) -> None:
    header, roles, variables = LONG[system]
    write_export(tmp_path / "export.csv", header)
    guess = ad.guess_mapping(tmp_path / "export.csv")
    assert guess.mapping.roles == roles
    assert guess.mapping.variables == variables
    missing = {"alliance", "symptoms"} - set(variables)
    assert guess.unresolved == tuple(f"variables.{name}" for name in sorted(missing))
    assert set(guess.reasons) == {*roles, *(f"variables.{name}" for name in variables)}
    for role, column in roles.items():
        assert any(role in line and repr(column) in line for line in guess.text.split("\n"))
    if guess.unresolved:
        return
    (tmp_path / "map.toml").write_text(guess.to_toml(), "utf-8")
    panel = ad.read_sessions(tmp_path / "export.csv", mapping=tmp_path / "map.toml")
    assert panel.n_clients == 3
    assert panel.variables == tuple(variables)


def test_an_unfinished_guess_is_refused_until_it_is_finished(tmp_path: Path) -> None:
    write_export(tmp_path / "export.csv", LONG["IAPT"][0])
    guess = ad.guess_mapping(tmp_path / "export.csv")
    (tmp_path / "map.toml").write_text(guess.to_toml(), "utf-8")
    with pytest.raises(DataError, match="at least two score columns"):
        ad.read_sessions(tmp_path / "export.csv", mapping=tmp_path / "map.toml")
    finished = guess.to_toml().replace('# alliance = ""', 'alliance = "GAD7_Score"')
    (tmp_path / "map.toml").write_text(finished, "utf-8")
    assert ad.read_sessions(tmp_path / "export.csv", mapping=tmp_path / "map.toml").n_clients == 3


def test_dates_stand_in_for_missing_session_numbers(tmp_path: Path) -> None:
    header = ["client", "date", "wai", "phq9"]
    write_export(tmp_path / "export.csv", header)
    guess = ad.guess_mapping(tmp_path / "export.csv")
    assert guess.unresolved == ("session",)
    toml = guess.to_toml().replace('# order = "date"', 'order = "date"')
    (tmp_path / "map.toml").write_text(toml, "utf-8")
    panel = ad.read_sessions(tmp_path / "export.csv", mapping=tmp_path / "map.toml")
    assert panel.sessions.tolist() == [1, 2, 3]


def test_clients_are_found_by_content_where_names_say_nothing(tmp_path: Path) -> None:
    text = "x,y,session,wai,phq9\n" + "".join(
        f"{row % 2},{row // 2},{row % 2 + 1},{row},{9 - row}\n" for row in range(6)
    )
    (tmp_path / "export.csv").write_text(text, "utf-8")
    guess = ad.guess_mapping(tmp_path / "export.csv")
    assert guess.mapping.client == "y"
    assert "unique" in guess.reasons["client"]


def test_wide_exports_are_refused_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "wide.csv").write_text("id,s1_wai,s2_wai,s3_wai\na,1,2,3\nb,2,3,4\n", "utf-8")
    with pytest.raises(DataError, match="one row per client with a column per session"):
        ad.guess_mapping(tmp_path / "wide.csv")


def test_suspect_values_are_noted(tmp_path: Path) -> None:
    text = "client,session,wai,phq9\nA,1,3,-9\nA,2,NA,4\nB,1,4,999\nB,2,3,5\n"
    (tmp_path / "export.csv").write_text(text, "utf-8")
    guess = ad.guess_mapping(tmp_path / "export.csv")
    assert "alliance (wai) holds 'NA'" in guess.text
    assert "symptoms (phq9) holds '-9' and '999'" in guess.text


@given(st.text(min_size=1, max_size=10), st.text(min_size=1, max_size=10))
@settings(deadline=None, max_examples=200)
def test_any_column_name_survives_toml(client: str, score: str) -> None:
    mapping = PanelMapping(client=client, session="s", variables={"alliance": score})
    reasons = {"client": "a\nb", "session": "c", "variables.alliance": "d"}
    written = GuessedMapping(mapping, reasons, ("variables.symptoms",), (), "f.csv").to_toml()
    if any(0xD800 <= ord(letter) <= 0xDFFF for letter in client + score):
        return
    values = tomllib.loads(written)
    assert values["client"] == client
    assert values["variables"]["alliance"] == score
