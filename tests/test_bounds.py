"""Files that never end, unpack to too much or were written by no program: refused at once."""

from __future__ import annotations

import os
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet
import pytest

import alliancedyn as ad
from alliancedyn.errors import AllianceDynError, DataError

SECONDS = 20.0  # each takes well below one on an idle core
MAPPING: dict[str, Any] = {"client": "c", "session": "s", "variables": ["w", "p"]}
TABLE = "c,s,w,p\nA,1,2,3\nA,2,3,4\nB,1,2,3\nB,2,5,1\n"
TOML = 'client = "c"\nsession = "s"\nvariables = ["w", "p"]\n'


def sheet_of(rows: str) -> Callable[[Path], None]:
    """Return a writer of a workbook whose sheet holds these rows of XML."""

    def write(path: Path) -> None:
        openpyxl.Workbook().save(path.with_suffix(".part"))
        with zipfile.ZipFile(path.with_suffix(".part")) as old, zipfile.ZipFile(path, "w") as new:
            for part in old.namelist():
                text = old.read(part).decode()
                if part.endswith("sheet1.xml"):
                    text = text.replace("</sheetData>", f"{rows}</sheetData>")
                new.writestr(part, text)

    return write


CELL = '<row r="{0}"><c r="{1}{0}"><v>1</v></c></row>'
FAR = CELL.format(1, "A") + CELL.format(100_000_000, "A")
WIDE = "".join(CELL.format(number, "XFD") for number in range(1, 1_300))


def bomb(path: Path) -> None:
    """Write a workbook whose shared texts unpack to 300 MB."""
    openpyxl.Workbook().save(path)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("xl/sharedStrings.xml", "w", force_zip64=True) as part,
    ):
        for _ in range(300):
            part.write(b" " * 2**20)


def many_rows(path: Path) -> None:
    """Write a small Parquet file with three million equal rows."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 3_000_000, pa.int8()), pa.array(["1"]))
    pyarrow.parquet.write_table(pa.table(dict.fromkeys("cswp", column)), path)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**34)


WRITERS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "pipe": ("csv", os.mkfifo, "is a pipe or a device"),
    "endless device": ("csv", lambda path: path.symlink_to("/dev/zero"), "is a pipe or a device"),
    "endless workbook": ("xlsx", lambda path: path.symlink_to("/dev/zero"), "is a pipe or a dev"),
    "link to itself": ("csv", lambda path: path.symlink_to(path), "cannot be read"),
    "folder": ("csv", Path.mkdir, "is a folder"),
    "16 GB of nothing": ("csv", sparse, "is larger than 256 MB"),
    "zeros": ("csv", lambda path: path.write_bytes(bytes(2**24)), "16,777,216 control bytes"),
    "one line": ("csv", lambda path: path.write_bytes(b"x," * 2**23), "Row 1 has more than"),
    "a long cell": (
        "csv",
        lambda path: path.write_text("c,s,w," + "p" * 200_000 + "\nA,1,2,3\n"),
        "Row 1 has a cell of more than",
    ),
    "a long name": (
        "csv",
        lambda path: path.write_text("c,s,w," + "p" * 9_000 + "\nA,1,2,3\n"),
        "The name of column 4 has 9,000 characters",
    ),
    "far cell": ("xlsx", sheet_of(FAR), "a cell below row 1,048,576"),
    "wide rows": ("xlsx", sheet_of(WIDE), "more than 20,000,000 cells"),
    "bomb": ("xlsx", bomb, "unpacks to 300 MB"),
    "three million rows": ("parquet", many_rows, "more rows than any export"),
}


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices are POSIX")
@pytest.mark.parametrize("kind", WRITERS)
def test_what_never_ends_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    ending, write, says = WRITERS[kind]
    path = tmp_path / f"a.{ending}"
    write(path)
    begun = time.perf_counter()
    with pytest.raises(DataError, match=says) as caught:
        ad.read_sessions(path, **MAPPING)
    assert time.perf_counter() - begun < SECONDS
    assert len(str(caught.value)) < 300
    if ending == "csv":
        with pytest.raises(DataError):
            ad.read_sessions(path, mapping=path)


@pytest.mark.parametrize(
    "encoding", ["undefined", "utf-8\0", "hex", "punycode", "utf-9", "\ud800", "x" * 9_000]
)
def test_what_is_no_encoding_is_said(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TABLE)
    with pytest.raises(DataError, match="Unknown encoding") as caught:
        ad.read_sessions(tmp_path / "a.csv", **MAPPING, encoding=encoding)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("delimiter", ['"', "\n", "\r", "\0", "€", "ab"])
def test_what_is_no_delimiter_is_said(delimiter: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TABLE)
    with pytest.raises(DataError, match="delimiter must be one character"):
        ad.read_sessions(tmp_path / "a.csv", **MAPPING, delimiter=delimiter)


VALUES = {
    "beyond float": "1" + "0" * 400,
    "5,000 digits": "9" * 5_000,
    "5,000 hexadecimal digits": "0x" + "f" * 5_000,
    "a date": "1979-05-27",
    "a time": "07:32:00",
    "a moment": "1979-05-27T07:32:00Z",
    "no list": "[]",
    "a list of dates": "[1979-05-27, 1979-05-28]",
    "a deep list": "[" * 200 + "]" * 200,
    "a deeper list": "[" * 1_000 + "]" * 1_000,
    "a deep table": "{a = " * 100 + "1" + "}" * 100,
    "a list of huge numbers": "[1, 0x" + "f" * 5_000 + "]",
    "a range of huge numbers": "{w = [0, 1" + "0" * 400 + "]}",
    "a table of dates": "{w = [1979-05-27]}",
    "infinity": "inf",
    "not a number": "nan",
    "a character that is none": '"\\u0000"',
    "a long text": '"' + "x" * 5_000 + '"',
    "true": "true",
}
KEYS = [
    *("client", "session", "date", "episode", "variables", "covariates", "timing", "higher"),
    *("missing_codes", "ranges", "duplicates", "order", "episode_gap", "day_first", "sheet"),
    *("process", "date_format", "encoding", "delimiter", "decimal", "sha256"),
]


@pytest.mark.parametrize("value", VALUES)
def test_no_value_of_a_mapping_ends_in_a_raw_error(value: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TABLE)
    refused = 0
    for key in KEYS:
        kept = [line for line in TOML.splitlines() if not line.startswith(f"{key} ")]
        (tmp_path / "m.toml").write_text("\n".join([f"{key} = {VALUES[value]}", *kept]))
        try:
            ad.read_sessions(tmp_path / "a.csv", tmp_path / "m.toml")
        except AllianceDynError as error:
            refused += 1
            assert len(str(error)) < 700, key
    assert refused > len(KEYS) // 2


def test_how_deep_a_mapping_goes_does_not_depend_on_the_process(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(f"client = {VALUES['a deeper list']}\n")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        with pytest.raises(DataError, match="nested too deeply"):
            ad.read_sessions(tmp_path / "a.csv", tmp_path / "m.toml")
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 50_000, "a = " + "{b=" * 5_000, "\ufeff\0", "é = 1"]
)
def test_what_is_no_mapping_is_said(text: str, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(text, "latin-1" if text.startswith("é") else "utf-8")
    with pytest.raises(DataError, match="no readable TOML"):
        ad.read_sessions(tmp_path / "a.csv", tmp_path / "m.toml")
