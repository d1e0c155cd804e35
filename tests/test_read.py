"""Valid but messy exports read to the same panel as the clean one, and say what was repaired."""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference_files import published_dir

import alliancedyn as ad
from alliancedyn.errors import DataError
from alliancedyn.panel.issues import CODES
from alliancedyn.panel.mapping import build_mapping, check_columns
from alliancedyn.panel.numbers import decide_decimal, parse
from alliancedyn.panel.read import read_table
from alliancedyn.panel.table import Distinct

SECONDS_FOR_200K = 8.0  # measured at 0.6 on two shared cores; a quadratic step takes minutes
MAPPING: dict[str, Any] = {
    "client": "Klient-Nr",
    "session": "session",
    "variables": {"alliance": "wai", "symptoms": "phq"},
    "therapist": "thérapeute",
    "date": "date",
}
ROWS = 12


def clean() -> pd.DataFrame:
    """Return an export without any mess: 3 clients, 4 sessions, one gap, one blank score."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "Klient-Nr": np.repeat(["K1", "K2", "K10"], 4),
            "session": [1, 2, 3, 4, 1, 2, 4, 5, 1, 2, 3, 4],
            "wai": rng.integers(4, 28, ROWS) / 4,
            "phq": rng.integers(0, 28, ROWS).astype(float),
            "thérapeute": np.repeat(["Müller", "Ågren", "Müller"], 4),
            "date": [f"2024-01-{day:02d}" for day in (1, 8, 15, 22, 2, 9, 23, 30, 3, 10, 17, 24)],
        }
    )
    frame.loc[5, "phq"] = np.nan
    return frame


def as_text(frame: pd.DataFrame, mark: str = ",", decimal: str = ".", **options: Any) -> str:
    return str(frame.to_csv(index=False, sep=mark, decimal=decimal, lineterminator="\n", **options))


def read(tmp_path: Path, content: str | bytes, file: str = "export.csv", **options: Any) -> Any:
    path = tmp_path / file
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return ad.read_sessions(path, **(MAPPING | options))


def codes(panel: ad.SessionPanel) -> dict[str, int]:
    """Return how often each issue was counted."""
    return {issue.code: issue.count for issue in panel.issues}


def assert_same(left: ad.SessionPanel, right: ad.SessionPanel) -> None:
    pd.testing.assert_frame_equal(left.frame, right.frame)
    assert left.sessions.tolist() == right.sessions.tolist()
    a, b = left.arrays(), right.arrays()
    np.testing.assert_array_equal(a.Y, b.Y)
    np.testing.assert_array_equal(a.days, b.days)
    assert a.therapists == b.therapists
    assert a.therapist.tolist() == b.therapist.tolist()


@pytest.fixture
def reference() -> ad.SessionPanel:
    return ad.SessionPanel.from_frame(clean(), **MAPPING)


ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252")


@pytest.mark.parametrize(
    ("encoding", "mark", "decimal", "newline"),
    list(product(ENCODINGS, ",;\t|", ".,", ("\n", "\r\n"))),
)
def test_every_spelling_of_a_text_table(
    encoding: str,
    mark: str,
    decimal: str,
    newline: str,
    tmp_path: Path,
    reference: ad.SessionPanel,
) -> None:
    text = as_text(clean(), mark, decimal).replace("\n", newline)
    panel = read(tmp_path, text.encode(encoding))
    assert_same(panel, reference)
    assert ("encoding-assumed" in codes(panel)) == (encoding == "cp1252")
    assert ("decimal-comma" in codes(panel)) == (decimal == ",")
    assert panel.provenance["delimiter"] == mark


@pytest.mark.parametrize(
    "mess",
    [
        pytest.param(lambda text: text.replace("\n", "\r"), id="old Mac line ends"),
        pytest.param(lambda text: text.rstrip("\n"), id="no last line end"),
        pytest.param(lambda text: text + "\n\n,,,,,\n", id="blank rows below"),
        pytest.param(lambda text: text.replace("\n", "\n\n", 3), id="blank rows between"),
        pytest.param(lambda text: "sep=,\n" + text, id="Excel's own delimiter line"),
        pytest.param(lambda text: text + text.split("\n")[3] + "\n", id="a repeated row"),
        pytest.param(lambda text: text.replace(",1,", ",1.0,", 2), id="decimal session numbers"),
        pytest.param(lambda text: text.replace("K2", " K2\t "), id="padded ids"),
        pytest.param(lambda text: text.replace("K2", "\u00a0K2\u200b"), id="invisible padding"),
        pytest.param(lambda text: text.replace("K2", "'K2"), id="Excel's apostrophe"),
        pytest.param(lambda text: text.replace("wai", " wai "), id="padded column names"),
        pytest.param(lambda text: text.replace("\n", ",\n"), id="an empty last column"),
        pytest.param(
            lambda text: text.replace("2024-01-0", "2024-1-"), id="dates without leading zeros"
        ),
        pytest.param(lambda text: text.replace("2024-01-", "202401"), id="dates without marks"),
        pytest.param(lambda text: text.replace("-01-", "/01/"), id="dates with strokes"),
        pytest.param(
            lambda text: "\n".join(
                ",".join(f'"{cell}"' for cell in line.split(",")) for line in text.split("\n")[:-1]
            ),
            id="everything in quotation marks",
        ),
        pytest.param(
            lambda text: "note," + text.replace("\nK", '\n"a ""b"",\nc;d",K'),
            id="line breaks and marks in a comment",
        ),
    ],
)
def test_mess_that_changes_nothing(mess: Any, tmp_path: Path, reference: ad.SessionPanel) -> None:
    assert_same(read(tmp_path, mess(as_text(clean()))), reference)


def test_the_order_of_rows_and_columns_changes_nothing(
    tmp_path: Path, reference: ad.SessionPanel
) -> None:
    frame = clean().sample(frac=1, random_state=5)
    assert_same(read(tmp_path, as_text(frame[list(reversed(frame.columns))])), reference)


def test_numbers_as_people_write_them(tmp_path: Path, reference: ad.SessionPanel) -> None:
    frame = clean()
    frame["wai"] = [f"'{value}" for value in frame["wai"]]
    panel = read(tmp_path, as_text(frame))
    assert_same(panel, reference)
    assert codes(panel)["cleaned-numbers"] == ROWS


@pytest.mark.parametrize("engine", ["xlsx", "parquet"])
def test_workbooks_and_parquet(engine: str, tmp_path: Path, reference: ad.SessionPanel) -> None:
    frame = clean()
    frame["date"] = pd.to_datetime(frame["date"])
    raw = io.BytesIO()
    if engine == "xlsx":
        frame.to_excel(raw, index=False)
    else:
        frame.to_parquet(raw)
    panel = read(tmp_path, raw.getvalue(), f"export.{engine}")
    assert_same(panel, reference)


def test_one_of_several_sheets_by_name_or_place(tmp_path: Path, reference: ad.SessionPanel) -> None:
    with pd.ExcelWriter(tmp_path / "two.xlsx") as book:
        pd.DataFrame({"a": [1]}).to_excel(book, sheet_name="Notes", index=False)
        clean().to_excel(book, sheet_name="Data", index=False)
    for sheet in ("Data", 2):
        assert_same(ad.read_sessions(tmp_path / "two.xlsx", **MAPPING, sheet=sheet), reference)


def test_a_workbook_with_text_cells_and_errors(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    rows = [["client", "session", "wai", "phq"], ["007", 1, "3.5", 4], ["007", 2, "4", "#DIV/0!"]]
    for row in rows:
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    mapping = {"client": "client", "session": "session", "variables": ["wai", "phq"]}
    with pytest.raises(DataError, match="'#DIV/0!'"):
        ad.read_sessions(tmp_path / "a.xlsx", **mapping)
    panel = ad.read_sessions(tmp_path / "a.xlsx", **mapping, missing_codes=["#DIV/0!"])
    assert panel.clients.tolist() == ["007"]
    assert panel.frame["wai"].tolist() == [3.5, 4.0]


def test_whole_numbers_with_gaps_stay_exact_in_parquet(tmp_path: Path) -> None:
    large = 2**60 + 1
    frame = pd.DataFrame(
        {"c": pd.array([large, large, large + 1, large + 1], "Int64"), "s": [1, 2, 1, 2]}
    ).assign(w=pd.array([1, None, 3, 4], "Int64"), p=1.5)
    frame.to_parquet(tmp_path / "a.parquet")
    panel = ad.read_sessions(tmp_path / "a.parquet", client="c", session="s", variables=["w", "p"])
    assert panel.clients.tolist() == [str(large), str(large + 1)]
    assert panel.frame["w"].isna().tolist() == [False, True, False, False]


@pytest.mark.parametrize("declared", [[-9, "n/a"], {"wai": [-9], "phq": ["n/a"]}])
def test_missing_codes_make_the_round_trip(
    declared: Any, tmp_path: Path, reference: ad.SessionPanel
) -> None:
    frame = clean().astype({"wai": object, "phq": object})
    expected = clean()
    for row, column, code in ((0, "wai", -9), (3, "wai", "-9.00"), (7, "phq", "N/A")):
        frame.loc[row, column] = code
        expected.loc[row, column] = np.nan
    panel = read(tmp_path, as_text(frame), missing_codes=declared)
    assert_same(panel, ad.SessionPanel.from_frame(expected, **MAPPING))
    found = [issue.count for issue in panel.issues if issue.code == "missing-codes"]
    assert found == [2, 1]


def test_a_code_for_one_column_leaves_the_others_alone(tmp_path: Path) -> None:
    text = "c,s,w,p\nA,9,9,9\nA,10,9,9\nA,11,3,4\n"
    mapping = {"client": "c", "session": "s", "variables": ["w", "p"]}
    panel = read(tmp_path, text, **mapping, therapist=None, date=None, missing_codes={"w": [9]})
    assert panel.frame["w"].isna().tolist() == [True, True, False]
    assert panel.frame["p"].tolist() == [9, 9, 4]
    panel = read(tmp_path, text, **mapping, therapist=None, date=None, missing_codes=[9])
    assert panel.sessions.tolist() == [9, 10, 11]  # a code for scores is no session number


@pytest.mark.parametrize(
    ("scores", "suspected"),
    [
        ([-9, 0, 5, 27, 13, -9], 2),
        ([99, 0, 5, 27, 13, 4], 1),
        ([999, 10, 20, 30, 999, 40], 2),
        ([9, 0, 5, 10, 8, 9], 0),  # a legal 9 on a scale from 0 to 10
        ([0, 1, 2, 3, 4, 5], 0),
        ([0, 30, 34, 36, 38, 0], 2),  # a placeholder 0 on a scale near its ceiling
        ([7, 8, 9, 10, 11, 12], 0),
        ([-1, 0, 1, 2, 3, -2], 0),
        ([77, 88, 99, 80, 95, 101], 0),
        ([9, 1, 2, 3, 7, 4], 1),
    ],
)
def test_suspect_codes_are_reported_and_never_eaten(
    scores: list[int], suspected: int, tmp_path: Path
) -> None:
    rows = "".join(f"A,{i},{score},{i}\n" for i, score in enumerate(scores, start=1))
    panel = read(
        tmp_path,
        "c,s,w,p\n" + rows,
        **{"client": "c", "session": "s", "variables": ["w", "p"]},
        **{"therapist": None, "date": None},
    )
    assert codes(panel).get("suspect-missing-code", 0) == suspected
    assert panel.frame["w"].tolist() == scores


def test_dates_by_evidence(tmp_path: Path) -> None:
    base = clean()
    expected = pd.to_datetime(base["date"])
    spellings = {
        "%d/%m/%Y": {},
        "%m/%d/%Y": {},
        "%d.%m.%Y": {},
        "%d-%m-%Y": {},
        "%d %b %Y": {},
        "%d-%b-%y": {},
        "%B %d, %Y": {},
        "%Y-%m-%d %H:%M": {},
        "%Y-%m-%dT%H:%M:%SZ": {},
        "%d/%m/%Y %I:%M %p": {},
        "%d.%m.%y": {"day_first": True},
        "%y%m%d": {"date_format": "%y%m%d"},
    }
    for spelling, options in spellings.items():
        frame = base.assign(date=expected.dt.strftime(spelling))
        panel = read(tmp_path, as_text(frame), **options)
        got = panel.frame["date"].sort_values().to_numpy()
        np.testing.assert_array_equal(got, np.sort(expected.to_numpy()), err_msg=spelling)


def test_serial_dates_are_spreadsheet_days(tmp_path: Path, reference: ad.SessionPanel) -> None:
    base = clean()
    days = (pd.to_datetime(base["date"]) - pd.Timestamp("1899-12-30")).dt.days
    panel = read(tmp_path, as_text(base.assign(date=days)))
    assert_same(panel, reference)
    assert codes(panel)["excel-serial-dates"] == ROWS


def test_zones_keep_the_local_clock(tmp_path: Path) -> None:
    base = clean()
    base["date"] = base["date"] + "T23:30:00" + np.where(np.arange(ROWS) % 2, "+01:00", "+02:00")
    panel = read(tmp_path, as_text(base))
    assert "time-zones" in codes(panel)
    assert panel.frame["date"].dt.hour.unique().tolist() == [23]


@pytest.mark.parametrize(
    ("texts", "delimiter", "decimal", "values"),
    [
        (["1,5", "2"], ",", ",", [1.5, 2]),
        (["1.5", "2"], ";", ".", [1.5, 2]),
        (["1.234,5", "2"], ";", ",", [1234.5, 2]),
        (["1,234.5", "1,234"], ",", ".", [1234.5, 1234]),
        (["1.234.567", "2"], ";", ",", [1234567, 2]),
        (["0,125", "1,250"], "\t", ",", [0.125, 1.25]),
        (["1,250", "3,417"], ";", ",", [1.25, 3.417]),
        (["3.417", "2.250"], ",", ".", [3.417, 2.25]),
        (["1 234", "2"], ",", ".", [1234, 2]),
        (["1'234", "2"], ",", ".", [1234, 2]),
        (["\u22123", "+4"], ",", ".", [-3, 4]),
        (["1e3", ".5", "5."], ",", ".", [1000, 0.5, 5]),
        (["", "7"], None, ".", [np.nan, 7]),
    ],
)
def test_decimal_marks_are_decided_by_evidence(
    texts: list[str], delimiter: str | None, decimal: str, values: list[float]
) -> None:
    column = column_of(texts)
    assert decide_decimal([column], delimiter) == decimal
    np.testing.assert_array_equal(parse(column, (), decimal).values, values)


@pytest.mark.parametrize(
    ("texts", "delimiter"), [(["1,234"], "\t"), (["1.234"], ";"), (["1,234"], None)]
)
def test_what_can_be_read_in_two_ways_is_refused(texts: list[str], delimiter: str | None) -> None:
    with pytest.raises(DataError, match="can be a decimal number or thousands"):
        decide_decimal([column_of(texts)], delimiter)


def column_of(texts: list[str]) -> Distinct:
    return Distinct("x", np.array(texts, object), np.arange(len(texts)), np.arange(len(texts)))


@given(st.lists(st.floats(-1e12, 1e12, allow_subnormal=False), min_size=1), st.sampled_from(".,"))
@settings(deadline=None, max_examples=60)
def test_written_numbers_come_back_exactly(values: list[float], decimal: str) -> None:
    column = column_of([repr(value).replace(".", decimal) for value in values])
    np.testing.assert_array_equal(parse(column, (), decimal).values, values)


@given(st.text(max_size=12))
@settings(deadline=None, max_examples=300)
def test_no_text_is_taken_for_missing_by_guess(text: str) -> None:
    numbers = parse(column_of([text, "3"]), (), ".")
    blank = not column_of([text]).stripped()[0]
    assert blank or numbers.bad[0] or np.isfinite(numbers.values[0])
    assert not (blank and numbers.bad[0])


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    mapping = build_mapping({"client": "a", "session": "b", "variables": ["c", "d"]})
    for content, file in (
        (raw, "x.csv"),
        (b"a,b,c,d\n" + raw, "x.csv"),
        (b'a;b;c;d\n1;1;"' + raw, "x.tsv"),
        (raw, "x.xlsx"),
        (b"PK\x03\x04" + raw, "x.xlsx"),
        (b"PAR1" + raw + b"PAR1", "x.parquet"),
    ):
        try:
            table = read_table(
                content, file, mapping, lambda header: check_columns(mapping, header)
            )
        except DataError as refused:
            assert "\n" not in str(refused)
        else:
            assert len(table.rows) == len(table.frame) > 0


words = st.text(st.sampled_from("0123456789.,-/:' aAnNC\u00a0;|\"\n"), max_size=8)


@given(st.lists(st.tuples(words, words, words, words, words), min_size=1, max_size=6))
@settings(deadline=None, max_examples=300)
def test_any_cells_are_read_or_refused(rows: list[tuple[str, ...]]) -> None:
    frame = pd.DataFrame(rows, columns=list("abcde"), dtype=object)
    try:
        panel = ad.SessionPanel.from_frame(
            frame, client="a", session="b", variables=["c", "d"], date="e", order="session"
        )
    except DataError:
        return
    assert panel.n_clients >= 1
    assert {issue.code for issue in panel.issues} <= set(CODES)


def test_provenance_says_what_was_read_without_where(tmp_path: Path) -> None:
    text = as_text(clean())
    panel = read(tmp_path, text)
    known = panel.provenance
    assert known["file"] == "export.csv"
    assert known["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert known["bytes"] == len(text.encode())
    assert known["rows"] == ROWS
    assert known["mapping"]["client"] == "Klient-Nr"
    assert known["alliancedyn"] == ad.__version__
    assert str(tmp_path) not in repr(known)
    again = read(tmp_path, text, mapping=known["mapping"] | {"sha256": known["sha256"]})
    assert_same(again, panel)


def test_the_flow_counts_every_step(tmp_path: Path) -> None:
    text = as_text(clean()) + ",,,,,\n" + as_text(clean(), header=False).split("\n")[0] + "\n"
    panel = read(tmp_path, text + "K3,1,,,,2024-01-05\n")
    assert panel.flow.set_index("step").T.to_dict("list") == {
        "rows read": [15, 4],
        "not blank": [14, 4],
        "one row per client and session": [13, 4],
        "with any score": [12, 3],
        "with any score in the session before too": [8, 3],
    }
    found = codes(panel)
    assert (found["blank-rows"], found["duplicates-removed"]) == (1, 1)
    assert (found["no-score-clients"], found["single-session-clients"]) == (1, 1)


def test_two_hundred_thousand_rows_take_seconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    clients, sessions = 10_000, 20
    frame = pd.DataFrame(
        {
            "c": np.repeat(np.arange(clients), sessions),
            "s": np.tile(np.arange(1, sessions + 1), clients),
            "w": rng.normal(5, 1, clients * sessions),
            "p": rng.integers(0, 28, clients * sessions),
        }
    )
    (tmp_path / "big.csv").write_text(frame.to_csv(index=False), "utf-8")
    start = time.perf_counter()
    panel = ad.read_sessions(tmp_path / "big.csv", client="c", session="s", variables=["w", "p"])
    arrays = panel.arrays()
    assert time.perf_counter() - start < SECONDS_FOR_200K
    np.testing.assert_array_equal(arrays.Y[:, :, 0].ravel(), frame["w"])


@pytest.mark.reference
def test_the_trial_reads_with_its_gaps() -> None:
    path = published_dir() / "A1_implement_wai_bai" / "sessions_long.csv"
    panel = ad.read_sessions(
        path,
        client="client",
        session="session",
        variables={"alliance": "wai", "symptoms": "bai"},
        therapist="therapist",
        timing={"alliance": "after", "symptoms": "before"},
    )
    assert (panel.n_clients, panel.n_sessions) == (57, 15)
    assert len(panel.arrays().therapists) == 13
    direct = pd.read_csv(path, dtype=str, keep_default_na=False)  # sorted as the panel is
    for name, column in (("alliance", "wai"), ("symptoms", "bai")):
        scores = [float(text or "nan") for text in direct[column]]
        np.testing.assert_array_equal(panel.frame[name], scores)
    assert not {"default-timing", "unknown-timing"} & set(codes(panel))


@pytest.mark.parametrize(
    "mess",
    [
        pytest.param(lambda text: text.replace("\n", "\r\r\n"), id="doubled returns"),
        pytest.param(lambda text: text + "\x0c", id="form feed at the end"),
        pytest.param(lambda text: text + "\x1a", id="end-of-file mark"),
        pytest.param(lambda text: text.replace("K2", '"=""K2"""'), id="Excel's formula for text"),
    ],
)
def test_traces_of_old_programs_change_nothing(
    mess: Any, tmp_path: Path, reference: ad.SessionPanel
) -> None:
    assert_same(read(tmp_path, mess(as_text(clean()))), reference)


def test_a_workbook_with_a_wrong_extent_and_empty_rows_is_read_whole(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    rows = [
        ["c", "s", "w", "p"],
        ["A", 1, 2, 3],
        [],
        ["A", 2, None, 4],
        ["B", 1, 2],
        ["B", 2, 5, 6],
    ]
    for row in rows:
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    with zipfile.ZipFile(tmp_path / "a.xlsx") as source:
        parts = {name: source.read(name) for name in source.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    assert b'<dimension ref="A1:D6"' in parts[sheet]
    parts[sheet] = parts[sheet].replace(b'<dimension ref="A1:D6"', b'<dimension ref="A1"')
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as target:
        for name, content in parts.items():
            target.writestr(name, content)
    panel = ad.read_sessions(tmp_path / "a.xlsx", client="c", session="s", variables=["w", "p"])
    np.testing.assert_array_equal(panel.frame["p"], [3, 4, np.nan, 6])
    assert codes(panel)["blank-rows"] == 1
    (said,) = (issue.message for issue in panel.issues if issue.code == "blank-rows")
    assert "row 3" in said


@pytest.mark.parametrize(
    "part", ["xl/worksheets/sheet1.xml", "xl/workbook.xml", "[Content_Types].xml"]
)
@given(data=st.data())
@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
def test_a_damaged_workbook_is_read_or_refused(part: str, data: st.DataObject) -> None:
    raw = io.BytesIO()
    clean().to_excel(raw, index=False)
    with zipfile.ZipFile(raw) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    content = bytearray(parts[part])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    parts[part] = bytes(content)
    damaged = io.BytesIO()
    with zipfile.ZipFile(damaged, "w") as target:
        for name, value in parts.items():
            target.writestr(name, value)
    try:
        table = read_table(damaged.getvalue(), "a.xlsx", build_mapping(MAPPING), lambda names: [])
    except DataError:
        return
    assert table.header
