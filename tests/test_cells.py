"""A cell is what is written in it: no type of column and no equality of Python changes it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_files import cases_dir

import alliancedyn as ad
from alliancedyn.errors import DataError
from alliancedyn.panel.numbers import suspects
from alliancedyn.panel.table import Table, distinct, plain

MAPPING: dict[str, Any] = {
    "client": "client",
    "session": "session",
    "variables": {"alliance": "wai", "symptoms": "phq"},
    "timing": {"alliance": "after", "symptoms": "before"},
}
FULL = pd.DataFrame(
    {
        "client": np.repeat([2, 11, 7], 3),
        "session": [1, 2, 3] * 3,
        "wai": [1.0, 2, 3, 2, 1, 4, 0, np.nan, 5],
        "phq": [9.0, 0, 7, 1, 9, 8, 7, 1, 5],
        "therapist": [4.0, 4, 4, np.nan, 12, 12, 4, 4, 4],
        "date": pd.date_range("2024-01-01", periods=9, freq="7D"),
        "age": np.repeat([30.0, np.nan, 52], 3),
    }
)
ROLES = {"therapist": "therapist", "date": "date", "covariates": ["age"]}


def codes(panel: ad.SessionPanel) -> dict[str, int]:
    return {issue.code: issue.count for issue in panel.issues}


def whole(values: Any) -> list[Any]:
    """Write numbers as a person would: 4, not 4.0."""
    return [None if pd.isna(v) else int(v) if float(v).is_integer() else v for v in values]


def arrow(kind: pa.DataType) -> Callable[[pd.Series], Any]:
    return lambda values: pd.array(whole(values), dtype=pd.ArrowDtype(kind))


NUMBERS: dict[str, Callable[[pd.Series], Any]] = {
    "object": lambda values: pd.array(whole(values), dtype=object),
    "mixed objects": lambda values: pd.array(
        [v if i % 2 or v is None else f"{v}.0" for i, v in enumerate(whole(values))], dtype=object
    ),
    "decimals": lambda values: pd.array(
        [None if v is None else Decimal(v) for v in whole(values)], dtype=object
    ),
    "text": lambda values: pd.array([None if v is None else str(v) for v in whole(values)], "str"),
    "string": lambda values: pd.array(
        [None if v is None else str(v) for v in whole(values)], "string"
    ),
    "Int64": lambda values: pd.array(whole(values), "Int64"),
    "Float64": lambda values: pd.array(whole(values), "Float64"),
    "float32": lambda values: values.astype("float32"),
    "categorical": lambda values: pd.Categorical(whole(values)),
    "categories unused and unordered": lambda values: pd.Categorical(
        whole(values), categories=[99, *sorted({v for v in whole(values) if v is not None})][::-1]
    ),
    "categories of text": lambda values: pd.Categorical(
        [None if v is None else str(v) for v in whole(values)]
    ),
    "sparse": lambda values: pd.arrays.SparseArray(values.astype(float)),
    "arrow int64": arrow(pa.int64()),
    "arrow uint8": arrow(pa.uint8()),
    "arrow double": arrow(pa.float64()),
    "arrow decimal": arrow(pa.decimal128(9, 2)),
    "arrow text": lambda values: pd.array(
        [None if v is None else str(v) for v in whole(values)], dtype=pd.ArrowDtype(pa.string())
    ),
}


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("column", ["client", "session", "wai", "therapist", "age"])
def test_the_type_of_a_column_changes_nothing(kind: str, column: str) -> None:
    reference = ad.SessionPanel.from_frame(FULL, **MAPPING, **ROLES)
    frame = FULL.assign(**{column: NUMBERS[kind](FULL[column])})
    panel = ad.SessionPanel.from_frame(frame, **MAPPING, **ROLES)
    pd.testing.assert_frame_equal(panel.frame, reference.frame)
    assert panel.clients.tolist() == ["2", "7", "11"]
    assert panel.arrays().therapists == ("4", "12")


DATES: dict[str, Callable[[pd.Series], Any]] = {
    "a zone": lambda days: days.dt.tz_localize("Europe/Berlin"),
    "seconds": lambda days: days.astype("datetime64[s]"),
    "days": lambda days: [day.date() for day in days],
    "texts": lambda days: days.dt.strftime("%Y-%m-%d"),
    "categories": lambda days: days.astype("category"),
    "periods": lambda days: days.dt.to_period("D"),
    "NumPy objects": lambda days: pd.Series(list(days.to_numpy()), dtype=object),
    "arrow moments": lambda days: pd.array(
        list(days), dtype=pd.ArrowDtype(pa.timestamp("us", tz="Asia/Tokyo"))
    ),
    "arrow dates": lambda days: pd.array(
        [day.date() for day in days], dtype=pd.ArrowDtype(pa.date32())
    ),
}


@pytest.mark.parametrize("kind", DATES)
def test_the_type_of_dates_changes_nothing(kind: str) -> None:
    reference = ad.SessionPanel.from_frame(FULL, **MAPPING, **ROLES)
    days = FULL["date"]
    if kind == "arrow moments":
        days = days.dt.tz_localize("Asia/Tokyo")
    panel = ad.SessionPanel.from_frame(FULL.assign(date=DATES[kind](days)), **MAPPING, **ROLES)
    pd.testing.assert_frame_equal(panel.frame, reference.frame)


def test_placeholders_for_dates_can_be_declared_whatever_their_type() -> None:
    frame = FULL.assign(date=[*FULL["date"][:8], pd.Timestamp("1900-01-01")])
    for dates in (frame["date"], frame["date"].astype(object)):
        given = frame.assign(date=dates)
        with pytest.raises(DataError, match="dates before 1950"):
            ad.SessionPanel.from_frame(given, **MAPPING, date="date")
        declared = {"date": ["1900-01-01"]}
        panel = ad.SessionPanel.from_frame(given, **MAPPING, date="date", missing_codes=declared)
        assert codes(panel)["missing-dates"] == 1


WORDS: dict[str, Callable[[list[Any]], Any]] = {
    "bool": lambda values: np.array(values, bool),
    "boolean": lambda values: pd.array(values, "boolean"),
    "object": lambda values: pd.array(values, object),
    "arrow": lambda values: pd.array(values, dtype=pd.ArrowDtype(pa.bool_())),
    "categorical": lambda values: pd.Categorical(values),
    "text": lambda values: [str(value) for value in values],
    "sparse": lambda values: pd.arrays.SparseArray(values),
}


@pytest.mark.parametrize("kind", WORDS)
def test_true_and_false_are_words(kind: str) -> None:
    values = [True] * 3 + [False] * 3 + [True] * 3
    frame = FULL.assign(wai=WORDS[kind](values))
    with pytest.raises(DataError, match=r"'True' \(6 times\) and 'False' \(3 times\)"):
        ad.SessionPanel.from_frame(frame, **MAPPING)
    frame = FULL.assign(age=WORDS[kind](values), client=WORDS[kind](values), session=range(9))
    panel = ad.SessionPanel.from_frame(frame, **MAPPING, covariates=["age"])
    assert panel.clients.tolist() == ["False", "True"]
    assert panel.client_values("age").tolist() == ["False", "True"]


@pytest.mark.parametrize("word", [True, False, np.True_, np.False_])
@pytest.mark.parametrize("place", [0, 4, 8])
@pytest.mark.parametrize("workbook", [False, True])
def test_one_word_among_scores_is_one_word(
    word: Any, place: int, workbook: bool, tmp_path: Path
) -> None:
    scores: list[Any] = [1, 0, 1, 0, 1, 0, 1, 0, 1]
    scores[place] = word
    frame = FULL.assign(wai=pd.array(scores, object))

    def read(**options: Any) -> ad.SessionPanel:
        if not workbook:
            return ad.SessionPanel.from_frame(frame, **MAPPING, **options)
        book = openpyxl.Workbook()
        book.active.append(["client", "session", "wai", "phq"])
        for i, score in enumerate(scores):
            row = FULL.loc[i, ["client", "session", "phq"]].tolist()
            book.active.append([*row[:2], bool(score) if i == place else score, row[2]])
        book.save(tmp_path / "a.xlsx")
        return ad.read_sessions(tmp_path / "a.xlsx", **MAPPING, **options)

    at = place + 2 if workbook else place
    with pytest.raises(DataError, match=rf"'{bool(word)}' \(once\), in row {at}\."):
        read()
    got = read(missing_codes=[str(bool(word)).upper()])
    expected = [float(score) if i != place else np.nan for i, score in enumerate(scores)]
    order = [0, 1, 2, 6, 7, 8, 3, 4, 5]  # by client: 2, 7, 11
    np.testing.assert_array_equal(got.frame["alliance"], [expected[i] for i in order])


CELL = st.sampled_from(
    (
        *(True, False, 1, 0, 1.0, 0.0, -0.0, "1", "0", "1.0", "True", None, float("nan"), pd.NA),
        *(Decimal(1), Decimal("1.0"), np.int8(1), np.float32(1), np.True_, b"1", 2, 2.0, "02"),
        *(dt.date(2024, 1, 1), dt.datetime(2024, 1, 1), np.datetime64("2024-01-01"), "", pd.NaT),
    )
)


@given(st.lists(CELL, min_size=1, max_size=12), st.randoms())
@settings(deadline=None, max_examples=80)
def test_every_cell_keeps_its_own_text_in_any_order(cells: list[Any], random: Any) -> None:
    def texts(some: list[Any]) -> list[str]:
        frame = plain(pd.DataFrame({"x": pd.Series(some, dtype=object)}))
        column = distinct(Table(frame, np.arange(len(some)), ("x",)), "x")
        assert len(set(column.texts)) == len(column.texts)
        return [str(column.texts[code]) for code in column.codes]

    alone = [texts([cell])[0] for cell in cells]
    assert texts(cells) == alone
    order = list(range(len(cells)))
    random.shuffle(order)
    assert texts([cells[i] for i in order]) == [alone[i] for i in order]


@pytest.mark.parametrize(
    ("written", "ids"),
    [
        ([2, 2.0, "2", "2.0", "2,0"], ["2"]),
        (["K1", 2, 2.0, "K1", "2.00"], ["2", "K1"]),
        ([2.0, 2.5, 2, "2.0", 3], ["2", "2.0", "2.5", "3"]),  # decimals tell ids apart
        (["2.0", "20", "2", "20", "2"], ["2", "20"]),
        (["02", 2, 2.0, "02", "2"], ["02", "2"]),
        ([-0.0, 0, 0.0, "0", "0.0"], ["0"]),
    ],
)
def test_ids_with_and_without_decimals(written: list[Any], ids: list[str]) -> None:
    for order in (range(5), (4, 2, 0, 3, 1)):
        frame = pd.DataFrame(
            {"client": pd.array([written[i] for i in order], object), "session": range(5)}
        ).assign(wai=1.0, phq=[1.0, 2, 3, 4, 5])
        panel = ad.SessionPanel.from_frame(frame, **MAPPING)
        assert sorted(panel.clients) == sorted(ids)
        if "2.5" in ids:
            assert "'2.0', '2'" in next(
                i.message for i in panel.issues if i.code == "case-differing-ids"
            )
        elif "02" in ids:
            assert codes(panel)["lost-leading-zeros"] == 1
        else:
            assert "float-ids" in codes(panel)


@pytest.mark.parametrize("code", [99, 99.0, "99", "99.0"])
@pytest.mark.parametrize("cell", [99, 99.0, "99", "99.00"])
def test_a_missing_code_is_a_number_however_it_is_written(code: Any, cell: Any) -> None:
    frame = FULL.astype({"therapist": object, "session": object, "wai": object})
    frame.loc[3, ["therapist", "session", "wai"]] = cell
    frame.loc[3, "phq"] = np.nan
    declared = {"therapist": [code], "session": [code], "wai": [code]}
    given: dict[str, Any] = MAPPING | {"therapist": "therapist", "missing_codes": declared}
    panel = ad.SessionPanel.from_frame(frame, **given)
    assert codes(panel)["client-rows"] == 1
    assert panel.arrays().therapists == ("4", "12")
    with pytest.raises(DataError, match="no session number in row 3"):
        ad.SessionPanel.from_frame(frame.assign(phq=FULL["phq"]), **given)


def test_cells_without_a_single_value_are_refused() -> None:
    for cell in ([1], (1, 2), {1}, {"a": 1}, np.array([1, 2]), pd.Series([1])):
        frame = FULL.assign(wai=pd.Series([cell] * 9, dtype=object))
        with pytest.raises(DataError, match="holds lists or tables"):
            ad.SessionPanel.from_frame(frame, **MAPPING)


def test_one_word_among_ids_is_reported_and_among_numbers_refused() -> None:
    frame = FULL.assign(therapist=pd.array([True, *[1] * 8], object))
    panel = ad.SessionPanel.from_frame(frame, **MAPPING, therapist="therapist")
    assert panel.arrays().therapists == ("1", "True")
    assert codes(panel)["suspect-missing-code"] == 1
    with pytest.raises(DataError, match=r"'therapist' holds text where values .* 'True' \(once\)"):
        ad.SessionPanel.from_frame(frame, **MAPPING, covariates={"x": "therapist"})


def test_half_a_character_is_refused() -> None:
    frame = FULL.assign(therapist=pd.Series(["T\ud800"] * 9, dtype=object))
    with pytest.raises(
        DataError, match=r"'therapist' holds characters that are no text \('.ud800'"
    ):
        ad.SessionPanel.from_frame(frame, **MAPPING, therapist="therapist")


def test_float_ids_with_gaps_and_blank_rows_in_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"client": [2.0, 2, np.nan, 7, 7, np.nan], "session": [1, 2, None, 1, 2, None]}
    ).assign(wai=[1.0, 2, np.nan, 3, 4, np.nan], phq=[4.0, 3, np.nan, 2, 1, np.nan])
    frame.to_parquet(tmp_path / "a.parquet")
    panel = ad.read_sessions(tmp_path / "a.parquet", **MAPPING)
    assert panel.clients.tolist() == ["2", "7"]
    assert codes(panel)["blank-rows"] == 2
    frame.loc[2, "wai"] = 5.0
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no client id in row 4"):
        ad.read_sessions(tmp_path / "a.parquet", **MAPPING)


@pytest.mark.reference
def test_the_workbook_with_one_true() -> None:
    path = cases_dir() / "bugs" / "true_before_one.xlsx"
    given: dict[str, Any] = MAPPING | {"variables": ["alliance", "symptoms"]}
    with pytest.raises(DataError, match=r"'True' \(once\), in row 4"):
        ad.read_sessions(path, **given)
    panel = ad.read_sessions(path, **given, missing_codes=["True"])
    assert panel.frame["symptoms"].isna().sum() == 1
    assert (panel.frame["symptoms"] == 1).sum() == 33


@pytest.mark.parametrize("system", [1900, 1904])
@pytest.mark.parametrize("typed", [False, True])
def test_dates_of_either_date_system(system: int, typed: bool, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    if system == 1904:
        book.epoch = openpyxl.utils.datetime.CALENDAR_MAC_1904
    book.active.append(["client", "session", "wai", "phq", "date"])
    zero = dt.datetime(1904, 1, 1) if system == 1904 else dt.datetime(1899, 12, 30)
    for i, row in FULL.iterrows():
        day = row["date"].to_pydatetime()
        cells = [row["client"], row["session"], 1 + i % 4, row["phq"]]
        book.active.append([*cells, day if typed else (day - zero).days])
    book.save(tmp_path / "a.xlsx")
    panel = ad.read_sessions(tmp_path / "a.xlsx", **MAPPING, date="date")
    expected = ad.SessionPanel.from_frame(FULL, **MAPPING, date="date")
    assert panel.frame["date"].tolist() == expected.frame["date"].tolist()


@pytest.mark.parametrize("scores", [[0, 1] * 5, [0] + [1] * 9, [-1, 1] * 5, [0] * 9 + [1]])
def test_no_or_yes_is_no_missing_code(scores: list[float]) -> None:
    assert suspects("skills", "skills", np.array(scores, float)) == []


@pytest.mark.parametrize("value", [1e155, -1e200, 1e300, "1e160", "9" * 200, 10**200])
@pytest.mark.parametrize("column", ["wai", "age", "day"])
def test_what_is_too_large_to_be_a_score_is_refused_by_name(value: Any, column: str) -> None:
    frame = FULL.assign(day=7.0 * FULL["session"]).astype({column: object})
    frame.loc[4, column] = value
    with pytest.raises(DataError, match=f"'{column}' holds .* in row 4, too large to be a score"):
        ad.SessionPanel.from_frame(frame, **MAPPING, day="day", covariates=["age"])
    if isinstance(value, float):
        frame = frame.astype({column: float})
        with pytest.raises(DataError, match="too large to be a score"):
            ad.SessionPanel.from_frame(frame, **MAPPING, day="day", covariates=["age"])
