"""Malformed exports: each is refused with a message of its own that says what to do.

The kinds are the twelve things an ingester of session exports has to survive.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest

import alliancedyn as ad
from alliancedyn.cli.commands import run
from alliancedyn.errors import DataError

MAPPING: dict[str, Any] = {
    "client": "client",
    "session": "session",
    "variables": {"alliance": "wai", "symptoms": "phq"},
}
CLEAN = [
    ["client", "session", "wai", "phq"],
    *([f"C{i}", str(t), str(3 + t), str(20 - t)] for i in (1, 2, 3) for t in (1, 2, 3)),
]


def csv(rows: list[list[str]], mark: str = ",") -> str:
    """Write rows as text, a cell with the delimiter in quotation marks."""
    return "\n".join(mark.join(f'"{c}"' if mark in c else c for c in row) for row in rows) + "\n"


def cells(**columns: Any) -> str:
    """Write the clean export with columns replaced or added: a function of the row, or a text."""
    header = [*CLEAN[0], *(name for name in columns if name not in CLEAN[0])]
    rows = [header]
    for i, row in enumerate(CLEAN[1:]):
        known = dict(zip(CLEAN[0], row, strict=True))
        known |= {n: str(v(i) if callable(v) else v) for n, v in columns.items()}
        rows.append([known[name] for name in header])
    return csv(rows)


def swapped(at: int, column: str, value: str) -> str:
    """Write the clean export with one cell replaced; ``at`` counts data rows from 0."""
    place = CLEAN[0].index(column)
    rows = [list(row) for row in CLEAN]
    rows[at + 1][place] = value
    return csv(rows)


def dated(*dates: str) -> str:
    """Write the clean export with a column of dates, repeated as often as needed."""
    return cells(date=lambda i: dates[i % len(dates)])


def workbook(path: Path, *sheets: list[list[Any]]) -> None:
    """Write a workbook with one sheet per table."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for i, rows in enumerate(sheets):
        sheet = book.create_sheet(f"Sheet {i + 1}")
        for row in rows:
            sheet.append(row)
    book.save(path)


@dataclass(frozen=True)
class Case:
    """A malformed export: how it is made, how it is read, and what the message must say."""

    kind: int
    name: str
    content: str | bytes | Callable[[Path], None]
    says: str
    options: dict[str, Any] = field(default_factory=dict)
    file: str = "export.csv"
    toml: str | None = None


KINDS = {
    1: "an explicit mapping",
    2: "layouts",
    3: "missing codes",
    4: "numbers, dates and ids as written",
    5: "duplicates",
    6: "session numbering",
    7: "dates against sessions",
    8: "episodes and therapists",
    9: "groups",
    10: "discharge and administrative rows",
    11: "impossible or uninformative scores",
    12: "the file itself",
}
GOOD = csv(CLEAN)
CASES = [
    Case(1, "absent column", GOOD, "no column 'WAI_SR'", {"variables": ["WAI_SR", "phq"]}),
    Case(1, "closest name", GOOD, "'sesion' may be 'session'", {"session": "sesion"}),
    Case(1, "mapped twice", GOOD, "'wai' is mapped twice", {"variables": {"a": "wai", "b": "wai"}}),
    Case(1, "unknown key", GOOD, "Did you mean 'therapist'", toml='therapyst = "t"\n'),
    Case(1, "broken TOML", GOOD, "no readable TOML", toml="client = \n"),
    Case(
        2,
        "sessions side by side",
        "client,wai_1,wai_2,wai_3\nC1,1,2,3\nC2,2,3,4\n",
        "'wai_1', 'wai_2' and 'wai_3' look like one row per client",
        {"session": None, "variables": ["wai_1", "wai_2"]},
    ),
    Case(
        2,
        "R row names",
        "client,session,wai,phq\n1,C1,1,3,4\n2,C1,2,3,4\n",
        "one cell more than the header",
    ),
    Case(2, "one row each", csv([*CLEAN[:2], *CLEAN[4:5], *CLEAN[7:8]]), "has one row only"),
    Case(
        2,
        "one row per questionnaire",
        "client,session,measure,score\nC1,1,WAI,3\nC1,1,PHQ,20\nC1,2,WAI,4\n",
        "'measure' looks like one row per questionnaire",
        {"variables": {"alliance": "score", "symptoms": "score"}},
    ),
    Case(3, "NA", swapped(0, "wai", "NA"), 'missing_codes=["NA"]'),
    Case(3, "#NULL!", swapped(4, "phq", "#NULL!"), "'#NULL!' (once), in row 6"),
    Case(
        3,
        "one code declared, another found",
        swapped(2, "wai", "DNA").replace(",18", ",n/a"),
        'missing_codes=["n/a"]',
        {"missing_codes": ["DNA"]},
    ),
    Case(
        3, "code for an unknown column", GOOD, "Did you mean 'phq'", {"missing_codes": {"phg": [9]}}
    ),
    Case(
        3,
        "everything declared missing",
        cells(wai="99"),
        "has no score at all",
        {"missing_codes": [99]},
    ),
    Case(
        4,
        "mixed decimal marks",
        swapped(0, "wai", "3,5").replace("C3,3,6", "C3,3,6.5"),
        "'3,5' has a decimal comma, '6.5' a decimal point",
    ),
    Case(4, "thousands or decimals", cells(wai="1,234"), "can be a decimal number or thousands"),
    Case(
        4,
        "day or month",
        dated("03/04/2024", "05/06/2024", "07/08/2024"),
        "Day and month cannot be told apart",
        {"date": "date"},
    ),
    Case(
        4,
        "two date formats",
        dated("2024-03-04", "25/03/2024", "26/03/2024"),
        "mixes date formats",
        {"date": "date"},
    ),
    Case(4, "scientific ids", swapped(1, "client", "1.23E+11"), "in scientific notation"),
    Case(
        5,
        "conflict",
        GOOD + "C1,2,1,1\n",
        "Conflicting rows for the same client and session: 'C1' session 2",
    ),
    Case(5, "padding hides a duplicate", GOOD + "C2 ,3,1,1\n", "'C2' session 3 (rows 7 and 11)"),
    Case(
        5,
        "1 and 1.0 are one client",
        GOOD.replace("C", "") + "3.0,1,9,9\n",
        "'3' session 1 (rows 8 and 11)",
    ),
    Case(
        5,
        "two sessions on one date",
        dated("2024-01-01", "2024-01-08", "2024-01-08"),
        "'C1' date 2024-01-08",
        {"session": None, "date": "date", "order": "date"},
    ),
    Case(5, "unknown policy", GOOD, "duplicates must be one of", {"duplicates": "newest"}),
    Case(6, "blank session", swapped(3, "session", ""), "no session number in row 5"),
    Case(
        6, "half a session", swapped(3, "session", "2.5"), "Session numbers must be whole; column"
    ),
    Case(6, "a word", swapped(0, "session", "assessment"), "'assessment' (once) in row 2"),
    Case(
        6,
        "running number",
        "client,session,wai,phq\n" + "".join(f"C{i % 3},{i},1,2\n" for i in range(401)),
        "401 different session numbers",
    ),
    Case(
        6,
        "session is a date",
        cells(session=lambda i: f"2024-01-{i + 1:02d}"),
        "holds dates such as '2024-01-01'",
    ),
    Case(
        7,
        "dates run backwards",
        dated("2024-01-15", "2024-01-08", "2024-01-22"),
        "out of order for 'C1', 'C2', 'C3'. Correct the export, pass order=\"date\"",
        {"date": "date"},
    ),
    Case(
        7,
        "elapsed days run backwards",
        cells(day=lambda i: 7 * (2 - i % 3)),
        "by day they are out of order",
        {"day": "day"},
    ),
    Case(
        7,
        "day and date disagree",
        cells(day=lambda i: i % 3, date=lambda i: f"2024-01-{7 * (i % 3) + 1:02d}"),
        "day and date disagree",
        {"day": "day", "date": "date"},
    ),
    Case(
        7,
        "timing unclear",
        GOOD,
        "must be one of 'before', 'after'",
        {"timing": {"alliance": "during"}},
    ),
    Case(
        7,
        "no date to number by",
        dated("2024-01-01", "", "2024-01-09"),
        "cannot be numbered by date: column 'date' has no date in rows 3, 6 and 9",
        {"session": None, "date": "date", "order": "date"},
    ),
    Case(
        8,
        "numbering restarts",
        GOOD + "C1,1,2,3\nC1,2,3,4\n",
        "name its column with episode=",
    ),
    Case(
        8,
        "no episode",
        cells(episode=lambda i: "" if i == 4 else 1),
        "no episode id in row 6",
        {"episode": "episode"},
    ),
    Case(
        8,
        "conflict inside an episode",
        "client,session,wai,phq,e\nC1,1,2,3,1\nC1,1,2,4,1\nC1,1,2,3,2\nC1,2,2,3,2\n",
        "'C1/1' session 1",
        {"episode": "e"},
    ),
    Case(
        8,
        "a client called like an episode",
        "client,session,wai,phq,e\nC1,1,2,3,1\nC1,1,2,4,2\nC1/2,1,2,3,1\nC1/2,2,2,3,1\n",
        "'C1/2' is called like another client's episode",
        {"episode": "e"},
    ),
    Case(
        8,
        "therapist ids lost digits",
        cells(therapist=lambda i: "4.5E+10"),
        "The therapist ids '4.5E+10'",
        {"therapist": "therapist"},
    ),
    Case(9, "leader without an id", GOOD + ",1,5,\n", "no client id in row 11"),
    Case(
        9,
        "one member in two groups",
        cells(group="G1") + "C1,1,5,18,G2\n",
        "'C1' session 1 (rows 2 and 11)",
        {"group": "group"},
    ),
    Case(
        9,
        "group as a score",
        cells(group="G1"),
        "cannot be called 'group'",
        {"covariates": ["group"]},
    ),
    Case(
        9,
        "group is the site",
        cells(site="S"),
        "mapped twice, as 'group' and 'site'",
        {"group": "site", "site": "site"},
    ),
    Case(10, "a discharge row", GOOD + "C1,discharge,,\n", "'discharge' (once) in row 11"),
    Case(10, "a discharge code", GOOD + "C1,999,4,4\n", "999 in row 11 may be a code"),
    Case(10, "a total below", GOOD + "Total,,41,160\n", "no session number in row 11"),
    Case(
        10,
        "open-ended date",
        dated("2024-01-01", "2024-01-08", "9999-12-31"),
        "after 2100",
        {"date": "date"},
    ),
    Case(
        10,
        "zero date",
        dated("0000-00-00", "2024-01-01", "2024-01-08"),
        "not in the calendar: '0000-00-00'",
        {"date": "date"},
    ),
    Case(
        11,
        "beyond the scale",
        swapped(5, "phq", "99"),
        "'phq' has 99 (1x) outside its range 0 to 27, in row 7",
        {"ranges": {"symptoms": (0, 27)}},
    ),
    Case(11, "infinite", swapped(5, "phq", "-inf"), "holds infinite values in row 7"),
    Case(11, "a comparison", swapped(5, "phq", "<5"), "'<5' (once)"),
    Case(11, "names, not scores", cells(wai=lambda i: f"name {i}"), "Is it the right column?"),
    Case(
        11, "upside-down range", GOOD, "must rise, not 27 to 0", {"ranges": {"symptoms": (27, 0)}}
    ),
    Case(12, "empty", b"", "'export.csv' is empty"),
    Case(12, "header only", csv(CLEAN[:1]), "column names and no rows"),
    Case(12, "binary", b"client,session\x00\x01\x02\x03,1\n" * 9, "is not a text table: it holds"),
    Case(
        12, "cut rows", GOOD + "C3,4\n", "Row 11 of 'export.csv' has 2 cells where the header has 4"
    ),
    Case(12, "another file", GOOD, "made for another file", {"mapping": {"sha256": "ab" * 32}}),
]
FILES = [
    Case(0, "absent", lambda path: None, "There is no file"),
    Case(0, "folder", lambda path: path.mkdir(), "is a folder", file="folder"),
    Case(0, "workbook called csv", b"PK\x03\x04junk", "an Excel workbook or zip archive"),
    Case(0, "page called csv", b"<html><table>", "a web page or XML"),
    Case(0, "JSON called csv", b'{"client": 1}', "is JSON, not a table"),
    Case(0, "damaged workbook", b"PK\x03\x04junk", "damaged or no Excel workbook", file="a.xlsx"),
    Case(0, "locked workbook", b"\xd0\xcf\x11\xe0junk", "protected by a password", file="a.xlsx"),
    Case(0, "damaged Parquet", b"PAR1junkPAR1", "damaged or no Parquet", file="a.parquet"),
    Case(0, "SPSS", b"$FL2", "SPSS files cannot be read yet", file="a.sav"),
    Case(0, "old Excel", b"x", "old Excel format", file="a.xls"),
    Case(0, "unknown ending", GOOD, "the ending '.abc', which is not known", file="a.abc"),
    Case(0, "no ending", GOOD, "the ending '', which is not known", file="export"),
    Case(0, "address", lambda path: None, "read from disk only", file="s3://bucket/a.csv"),
    Case(0, "wrong encoding", "ä,b\n1,2\n".encode("cp1252"), "is not utf-8", {"encoding": "utf-8"}),
    Case(0, "no such encoding", GOOD, "Unknown encoding 'utf-9'", {"encoding": "utf-9"}),
    Case(0, "no encoding fits", b"cli\x81nt,session\n1,2\n", "neither UTF-8, UTF-16 nor cp1252"),
    Case(0, "one column", "client\nC1\nC2\n", "has a single column"),
    Case(0, "open quote", GOOD + 'C3,4,"5,6\n', "never closed, first perhaps in row 11"),
    Case(
        0,
        "repeated name",
        cells(x="1", y="2").replace(",x,y", ",x,x"),
        "columns are called 'x'",
        {"variables": ["wai", "x"]},
    ),
    Case(0, "comma in a cell", GOOD + "C3,4,3,5,6\n", "A decimal comma or a comma in a text"),
    Case(
        0,
        "no row of names",
        "Report\nof,1\nx,2\n",
        "not a row of column names",
        {"delimiter": ","},
    ),
    Case(
        0,
        "two delimiters",
        "client,x;session,wai,a;phq,b\n1,2;3,4,5;6,7\n",
        "can be divided by",
        {"variables": ["q", "r"], "client": "x", "session": "y"},
    ),
    Case(0, "long delimiter", GOOD, "must be one character", {"delimiter": "::"}),
    Case(0, "all blank", "client,session,wai,phq\n,,,\n ,,,\n", "column names and no rows"),
    Case(
        0,
        "mapped columns blank",
        cells(client="", session="", wai="", phq="", x="y"),
        "All mapped columns are empty",
    ),
    Case(0, "word for a decimal mark", GOOD, "decimal must be one of", {"decimal": "comma"}),
    Case(
        0,
        "two sheets",
        lambda path: workbook(path, CLEAN, CLEAN),
        "several sheets with data",
        file="a.xlsx",
    ),
    Case(
        0,
        "no such sheet",
        lambda path: workbook(path, CLEAN),
        "has no sheet 'x'",
        {"sheet": "x"},
        "a.xlsx",
    ),
    Case(
        0,
        "sheet beyond",
        lambda path: workbook(path, CLEAN),
        "no sheet number 2",
        {"sheet": 2},
        "a.xlsx",
    ),
    Case(0, "empty workbook", lambda path: workbook(path, []), "is empty", file="a.xlsx"),
    Case(
        0,
        "sheet with a header",
        lambda path: workbook(path, CLEAN[:1]),
        "and no rows",
        file="a.xlsx",
    ),
    Case(
        0,
        "uncomputed formula",
        lambda path: workbook(path, [*CLEAN, ["C3", 4, "=1+1", 5]]),
        "formulas whose values were never stored, first in row 11",
        file="a.xlsx",
    ),
    Case(
        0,
        "cells beside",
        lambda path: workbook(path, [*CLEAN, ["C3", 4, 1, 5, 6]]),
        "Row 11 of sheet",
        file="a.xlsx",
    ),
    Case(0, "no mapping file", GOOD, "There is no mapping file", {"mapping": "absent.toml"}),
    Case(0, "mapping of nothing", GOOD, "No client column is named", {"client": None}),
    Case(0, "one variable", GOOD, "at least two score columns", {"variables": {"a": "wai"}}),
    Case(0, "role unknown", GOOD, "process='x' is not among", {"process": "x"}),
    Case(0, "one role twice", GOOD, "must differ", {"process": "alliance", "outcome": "alliance"}),
    Case(
        0,
        "name with brackets",
        GOOD,
        "ambiguous in parameter names",
        {"variables": {"a[1]": "wai", "b": "phq"}},
    ),
    Case(0, "no session", GOOD, "No session column is named", {"session": None}),
    Case(0, "order without dates", GOOD, 'order="date" needs', {"order": "date"}),
    Case(
        0,
        "no such date",
        dated("2024-02-30"),
        "not in the calendar: '2024-02-30'",
        {"date": "date"},
    ),
    Case(
        0,
        "day and month swapped",
        dated("25/03/2024", "03/26/2024"),
        "mixes day-first and month-first",
        {"date": "date"},
    ),
    Case(0, "two-digit years", dated("25/03/24"), "two-digit years", {"date": "date"}),
    Case(
        0,
        "against day_first",
        dated("25/03/2024"),
        "day_first=False does not fit",
        {"date": "date", "day_first": False},
    ),
    Case(
        0,
        "not the format",
        dated("2024-03-25"),
        "not in the format",
        {"date": "date", "date_format": "%d.%m.%Y"},
    ),
    Case(0, "no dates", dated("soon"), "texts that are no dates", {"date": "date"}),
    Case(
        0,
        "no serials",
        dated("12345"),
        "that are no dates, as text or as spreadsheet",
        {"date": "date"},
    ),
    Case(
        0,
        "half of the zones",
        dated("2024-01-01T10:00Z", "2024-01-08T10:00", "2024-01-15T10:00Z"),
        "have a time zone and others have none",
        {"date": "date"},
    ),
    Case(
        0,
        "covariate with NA",
        cells(age=lambda i: "NA" if i == 2 else 40),
        "holds text where values should be",
        {"covariates": ["age"]},
    ),
]


def read(case: Case, tmp_path: Path) -> Any:
    """Make the file of a case and read it."""
    path = tmp_path / case.file
    if callable(case.content):
        case.content(path)
    else:
        raw = case.content
        path.write_bytes(raw.encode() if isinstance(raw, str) else raw)
    options = MAPPING | case.options
    if case.toml is not None:
        (tmp_path / "map.toml").write_text(case.toml, "utf-8")
        options["mapping"] = tmp_path / "map.toml"
    return ad.read_sessions(case.file if "://" in case.file else path, **options)


def test_the_clean_export_is_read(tmp_path: Path) -> None:
    panel = read(Case(0, "clean", GOOD, ""), tmp_path)
    assert panel.n_clients == 3
    assert {issue.severity for issue in panel.issues} <= {"info", "warning"}


@pytest.mark.parametrize("case", [*CASES, *FILES], ids=lambda case: f"{case.kind}: {case.name}")
def test_each_is_refused_with_its_own_message(case: Case, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(case.says)) as caught:
        read(case, tmp_path)
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert "\n" not in message
    assert len(message) < 500
    assert message.endswith((".", "?", "]."))
    assert str(tmp_path) not in message  # a message may be sent to others
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def toml(value: Any) -> str:
    """Spell a value in TOML; tables inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.name}")
def test_the_command_line_ends_with_3_and_writes_nothing(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, mapping = tmp_path / "export.csv", tmp_path / "map.toml"
    raw = case.content
    assert isinstance(raw, str | bytes)
    path.write_bytes(raw.encode() if isinstance(raw, str) else raw)
    said = MAPPING | case.options
    said |= said.pop("mapping", {})
    lines = [f"{key} = {toml(value)}" for key, value in said.items() if value is not None]
    mapping.write_text("\n".join([case.toml or "", *lines]) + "\n", "utf-8")
    out = tmp_path / "results"
    assert run(["analyze", str(path), "--map", str(mapping), "--out", str(out)]) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("Error: ")
    assert "Traceback" not in shown.err
    assert {left.name for left in tmp_path.iterdir()} == {"export.csv", "map.toml"}


def test_the_table_covers_the_twelve_kinds() -> None:
    kinds = Counter(case.kind for case in CASES)
    assert set(kinds) == set(KINDS)
    assert max(kinds.values()) <= 5
    assert sum(kinds.values()) >= 44


def test_no_two_messages_are_the_same(tmp_path: Path) -> None:
    messages = Counter()
    for i, case in enumerate(CASES):
        folder = tmp_path / str(i)
        folder.mkdir()
        with pytest.raises(DataError) as caught:
            read(case, folder)
        messages[str(caught.value)] += 1
    assert [message for message, count in messages.items() if count > 1] == []


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        ([1, 2], "is no data frame"),
        (pd.DataFrame({"client": [], "session": [], "wai": [], "phq": []}), "has no rows"),
        (
            pd.DataFrame(
                {"client": ["A", "A"], "session": [1, 2], "wai": [1.0, float("inf")], "phq": 1}
            ),
            "infinite values in row 1",
        ),
        (
            pd.DataFrame({"client": ["A", None], "session": [1, 2], "wai": 1, "phq": 1}),
            "no client id in row 1",
        ),
        (
            pd.DataFrame({"client": ["A", "A"], "session": [1.0, None], "wai": 1, "phq": 1}),
            "no session number in row 1",
        ),
        (
            pd.DataFrame({"client": ["A", "A"], "session": [1, 2], "wai": [[1], [2]], "phq": 1}),
            "holds lists or tables",
        ),
        (
            pd.DataFrame({"client": ["A", "A"], "session": [1, 2], "wai": [1, 2j], "phq": 1}),
            "holds text where scores should be",
        ),
        (
            pd.DataFrame({"client": ["A", "A"], "session": [1, 1], "wai": [1, 2], "phq": 1}),
            "(rows 0 and 1)",
        ),
        (
            pd.DataFrame([[1, 2], [3, 4]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])),
            "several header rows",
        ),
        (
            pd.DataFrame({"client": [2.0**60, 1.0], "session": [1, 1], "wai": [1, 2], "phq": 1}),
            "more digits than",
        ),
    ],
)
def test_frames_are_refused_in_the_same_words(frame: Any, says: str) -> None:
    with pytest.raises(DataError, match=re.escape(says)):
        ad.SessionPanel.from_frame(frame, **MAPPING)


def test_a_missing_dependency_is_named_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alliancedyn.panel.workbook.find_spec", lambda name: None)
    for file, module in (("a.xlsx", "openpyxl"), ("a.parquet", "pyarrow")):
        command = re.escape(f'"{sys.executable}" -m pip install {module}')
        with pytest.raises(DataError, match=command):
            read(Case(0, "", b"PK\x03\x04", "", file=file), tmp_path)


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, mode: str) -> Any:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "export.csv"
    path.write_text(GOOD, "utf-8")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        ad.read_sessions(path, **MAPPING)


def test_no_frame_is_mistaken_for_a_file() -> None:
    with pytest.raises(DataError, match=r"SessionPanel\.from_frame"):
        ad.read_sessions(pd.DataFrame(), **MAPPING)  # type: ignore[arg-type]


def test_dates_in_a_workbook_are_dates(tmp_path: Path) -> None:
    rows = [[*CLEAN[0], "date"]]
    rows += [[*row, dt.datetime(2024, 1, 1 + int(row[1]))] for row in CLEAN[1:]]
    workbook(tmp_path / "a.xlsx", rows)
    panel = ad.read_sessions(tmp_path / "a.xlsx", **MAPPING, date="date")
    assert panel.arrays().days[0].tolist() == [0, 1, 2]
