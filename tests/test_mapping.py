"""Mappings: in arguments and in files, guessed, shown and read back."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_files import cases_dir

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


@pytest.mark.parametrize("line", ["episode_gap = 90", 'single_items = ["wai"]', 'order = "date"'])
def test_an_option_below_a_table_is_sent_above_it(export: Path, line: str) -> None:
    mapping = export.parent / "map.toml"
    for table in ("[ranges]", "[timing]", "[variables]"):
        mapping.write_text(TOML.replace(table, f"{table}\n{line}"), "utf-8")
        with pytest.raises(DataError, match=r"stands under .* Move it above the first \[table\]"):
            ad.read_sessions(export, mapping)


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
    assert guess.unresolved == ()
    assert 'order = "date"  # no column of session numbers' in guess.to_toml()
    (tmp_path / "map.toml").write_text(guess.to_toml(), "utf-8")
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


def export_of(path: Path, header: str, *columns: list[Any]) -> Path:
    """Write columns of cells under a header, three people with four sessions."""
    rows = [";".join(str(cell) for cell in row) for row in zip(*columns, strict=True)]
    path.write_text("\n".join([header, *rows]) + "\n", "utf-8")
    return path


PEOPLE = [who for who in ("A1", "B2", "C3") for _ in range(4)]
NUMBERS = [1, 2, 3, 4] * 3
DATES = [f"{day:02d}.03.2024" for day in (4, 11, 18, 25)] * 3
SCORES = [f"{3 + 0.1 * i:.1f}".replace(".", ",") for i in range(12)]


@pytest.mark.parametrize(
    "header",
    [
        "Patientennummer;Sitzungsnummer;Sitzungsdatum;Behandler",
        "Klient-ID;Sitzung Nr.;Termin;Therapeut/in",
        "Chiffre;Termin;Datum der Sitzung;Therapeut*in",
        "Cliëntnummer;Zittingsnummer;Afspraakdatum;Behandelaar",
        "cliënt;sessie;datum;hulpverlener",
        "Paciente;N.º sesión;Fecha de la sesión;Terapeuta",
        "Numéro patient;Séance n°;Date de la séance;Thérapeute",
        "Patient;N° séance;Date séance;Psychologue",
        "person;SessionID;date;provider",
        "person;month;timestamp;clinician",
        "subj_id;beep;datetime;staff_id",
        "participant;timepoint;session date;therapist code",
    ],
)
def test_names_of_routine_exports_are_known(header: str, tmp_path: Path) -> None:
    staff = ["T1", "T1", "T2", "T2"] * 3
    path = export_of(
        tmp_path / "e.csv", f"{header};WAI;PCL-5", PEOPLE, NUMBERS, DATES, staff, SCORES, SCORES
    )
    names = header.split(";")
    expected = dict(zip(("client", "session", "date", "therapist"), names, strict=True))
    assert ad.guess_mapping(path).mapping.roles == expected


def test_identifiers_of_sessions_are_no_numbers_of_sessions(tmp_path: Path) -> None:
    people = [f"P{i // 5}" for i in range(600)]
    scores = [f"{3 + 0.1 * (i % 17):.1f}" for i in range(600)]
    numbers = [1 + i % 5 for i in range(600)]
    header = "person;SessionID;visit;wai;phq9"
    path = export_of(tmp_path / "e.csv", header, people, list(range(600)), numbers, scores, scores)
    assert ad.guess_mapping(path).mapping.session == "visit"
    running = list(range(501, 513))
    path = export_of(
        tmp_path / "e.csv",
        "Fallnummer;SessionID;Datum;wai;phq9",
        PEOPLE,
        running,
        DATES,
        SCORES,
        SCORES,
    )
    guess = ad.guess_mapping(path)
    assert guess.mapping.roles == {"client": "Fallnummer", "date": "Datum"}
    assert guess.mapping.order == "date"


def test_a_session_column_tells_the_rows_of_a_client_apart(tmp_path: Path) -> None:
    months = [1, 1, 2, 2] * 3
    path = export_of(
        tmp_path / "e.csv", "id;week;beep;wai;phq9", PEOPLE, months, NUMBERS, SCORES, SCORES
    )
    assert ad.guess_mapping(path).mapping.session == "beep"


def test_a_score_is_no_client(tmp_path: Path) -> None:
    mood = ["2,5", "3,5", "4,5", "1,5"] * 3
    path = export_of(
        tmp_path / "e.csv", "mood;who;session;wai;phq9", mood[::-1], PEOPLE, NUMBERS, SCORES, SCORES
    )
    assert ad.guess_mapping(path).mapping.client == "who"


def test_totals_are_proposed_and_items_never(tmp_path: Path) -> None:
    def guess(names: str) -> GuessedMapping:
        count = names.count(";") + 1
        path = export_of(
            tmp_path / "e.csv", f"id;session;{names}", PEOPLE, NUMBERS, *[SCORES] * count
        )
        return ad.guess_mapping(path)

    items = ";".join(f"waisr_{i:02d}" for i in range(1, 13))
    bare = guess(f"{items};phq9")
    assert bare.mapping.variables == {"symptoms": "phq9"}
    assert bare.unresolved == ("variables.alliance",)
    assert "'waisr_01', 'waisr_02', 'waisr_03' and 9 more look like the items of one scale" in (
        bare.text
    )
    assert '# alliance = ""  # fill in' in bare.to_toml()
    assert guess(f"{items};WAI-SR Gesamtwert;phq9").mapping.variables["alliance"] == (
        "WAI-SR Gesamtwert"
    )
    every = ";".join(f"phq{i}" for i in range(1, 10))
    assert "symptoms" not in guess(f"wai;{every}").mapping.variables
    assert guess(f"wai;{every};phq_sum").mapping.variables["symptoms"] == "phq_sum"
    assert "symptoms" not in guess("wai;phq9_3").mapping.variables
    pair = guess("wai_1;wai_2;phq9")
    assert "alliance" not in pair.mapping.variables
    assert "two raters, two items or two sessions?" in pair.text
    assert guess("wai_c;wai_t;gad7;phq2;phq9;core10").mapping.variables == {
        "alliance": "wai_c",
        "symptoms": "phq9",
    }
    for name in ("PCL-5", "CCAPS-34", "HSCL-25", "WHO-5", "K10", "Total ORS", "DASS21 Summe"):
        assert guess(f"SRS;{name}").mapping.variables == {"alliance": "SRS", "symptoms": name}


def test_the_good_end_is_written_where_the_name_says_it(tmp_path: Path) -> None:
    path = export_of(
        tmp_path / "e.csv", "id;session;SRS;ORS", PEOPLE, NUMBERS, SCORES, SCORES[::-1]
    )
    guess = ad.guess_mapping(path)
    assert guess.mapping.higher == {"alliance": "better", "symptoms": "better"}
    (tmp_path / "map.toml").write_text(guess.to_toml(), "utf-8")
    panel = ad.read_sessions(path, tmp_path / "map.toml")
    assert panel.higher == guess.mapping.higher
    unknown = export_of(
        tmp_path / "e.csv", "id;session;SRS;outcome", PEOPLE, NUMBERS, SCORES, SCORES[::-1]
    )
    assert '# symptoms = ""  # fill in: "better" or "worse"' in ad.guess_mapping(unknown).to_toml()


def test_found_missing_codes_wait_to_be_uncommented(tmp_path: Path) -> None:
    wai, phq = [*SCORES[:10], "k.A.", "abgebr."], [*range(8, 18), -99, 999]
    path = export_of(tmp_path / "e.csv", "Patient;Sitzung;WAI;PHQ-9", PEOPLE, NUMBERS, wai, phq)
    guess = ad.guess_mapping(path)
    assert set(guess.missing_codes) == {"k.A.", "abgebr.", -99.0, 999.0}
    written = guess.to_toml()
    (found,) = [one for one in written.splitlines() if one.startswith("# missing_codes = ")]
    (tmp_path / "map.toml").write_text(written, "utf-8")
    with pytest.raises(DataError, match="missing_codes="):
        ad.read_sessions(path, tmp_path / "map.toml")
    (tmp_path / "map.toml").write_text(written.replace(found, found[2:]), "utf-8")
    panel = ad.read_sessions(path, tmp_path / "map.toml")
    assert panel.frame[["alliance", "symptoms"]].isna().sum().tolist() == [2, 2]


@pytest.mark.reference
@pytest.mark.parametrize(
    "file",
    [
        *("1_german_rom.csv", "1b_german_rom_preamble.csv", "3_redcap.csv", "3_redcap_noin.csv"),
        *("4_qualtrics_numeric.csv", "5_long_by_questionnaire.csv", "6_items.csv"),
        *("7_two_episodes.csv", "7c_two_episodes_dates_only.csv", "8_openfit_pcoms.csv"),
    ],
)
def test_a_proposal_reads_or_names_the_next_line(file: str, tmp_path: Path) -> None:
    guess = ad.guess_mapping(cases_dir() / file)
    (tmp_path / "map.toml").write_text(guess.to_toml(), "utf-8")
    try:
        panel = ad.read_sessions(cases_dir() / file, tmp_path / "map.toml")
    except DataError as refusal:
        assert re.search(r"(missing_codes|client|variables)=", str(refusal))
    else:
        assert panel.n_persons == 70
        assert "unknown-direction" not in {issue.code for issue in panel.issues}


@pytest.mark.reference
def test_every_column_of_the_german_export_is_known_by_name(tmp_path: Path) -> None:
    guess = ad.guess_mapping(cases_dir() / "1_german_rom.csv")
    assert guess.mapping.roles == {
        "client": "Patientennummer",
        "therapist": "Therapeut/in",
        "date": "Sitzungsdatum",
    }
    assert guess.mapping.variables == {
        "alliance": "WAI-SR Gesamtwert",
        "symptoms": "PHQ-9 Summenwert",
    }
    assert (guess.mapping.order, guess.unresolved) == ("date", ())
    assert guess.missing_codes == ("k.A.", -99.0)
    written = guess.to_toml().replace("# missing_codes", "missing_codes")
    (tmp_path / "map.toml").write_text(written, "utf-8")
    panel = ad.read_sessions(cases_dir() / "1_german_rom.csv", tmp_path / "map.toml")
    assert panel.n_clients == 70


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
