"""Excel and Parquet: cells as they are stored, formulas and error cells never guessed away."""

from __future__ import annotations

import io
import struct
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from xml.etree.ElementTree import ParseError

import numpy as np
import pandas as pd

from alliancedyn.errors import DataError
from alliancedyn.panel.issues import joined
from alliancedyn.panel.layout import (
    ABOVE,
    clean_header,
    find_header,
    more_headers,
    note_header,
    note_more_headers,
)
from alliancedyn.panel.table import Table, plain

Chooser = Callable[[Sequence[str]], Sequence[str]]
Row = tuple[Any, ...]
MOST_ROWS = 2**20  # of a sheet, as every spreadsheet has them
MOST_CELLS = 20_000_000
LARGEST_WORKBOOK, LARGEST_CONTENT = 256 * 2**20, 4096 * 2**20  # bytes unpacked
OFFICE_MARK = b"\xd0\xcf\x11\xe0"
# What a damaged archive or a workbook with impossible contents raises while it is read.
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, struct.error, ParseError, EOFError, OSError),
    *(LookupError, ValueError, TypeError, AttributeError, RuntimeError, ArithmeticError),
    MemoryError,
)


def read_excel(
    raw: bytes,
    name: str,
    choose: Chooser,
    sheet: str | int | None = None,
    wanted: Sequence[str] = (),
) -> Table:
    """Read one sheet of a workbook.

    Parameters
    ----------
    raw : bytes
        The file.
    name : str
        File name for messages.
    choose : function
        Given the column names, returns those to load, or raises.
    sheet : str or int, optional
        Name, or place counted from 1; needed if several sheets hold data.
    wanted : sequence of str
        Column names the caller expects, evidence for their row.

    Returns
    -------
    Table

    Raises
    ------
    DataError
        If the workbook is locked, damaged, ambiguous, empty, or holds formulas without values.
    """
    need("openpyxl", "Excel files")
    if raw.startswith(OFFICE_MARK):
        raise DataError(
            f"{name!r} is protected by a password or in the old .xls format. Open it, and save it "
            "as .xlsx without a password."
        )
    _refuse_bomb(raw, name)
    sheets, system = _sheets(raw, name, values=True)
    title = _choose_sheet({key: len(rows) for key, rows in sheets.items()}, name, sheet)
    at = find_header(sheets[title][:ABOVE], wanted)
    rows = sheets[title][at:]
    header = clean_header(_trimmed(rows[0]))
    more = more_headers(header, rows[1:])
    beyond = [i for i, row in enumerate(rows, start=at + 1) if _trimmed(row[len(header) :])]
    if beyond:
        raise DataError(
            f"Row {beyond[0]} of sheet {title!r} has cells to the right of the header. Name these "
            f"columns in row {at + 1} or delete them."
        )
    columns = list(choose(header))
    if len(rows) == 1 + more:
        raise DataError(f"Sheet {title!r} of {name!r} has column names and no rows.")
    places = [header.index(column) for column in columns]
    _refuse_lost_formulas(raw, name, title, sheets[title], places)
    cells = {
        column: pd.Series(
            [row[place] if place < len(row) else None for row in rows[1:]], dtype=object
        )
        for column, place in zip(columns, places, strict=True)
    }
    numbers = np.arange(at + 2, at + len(rows) + 1, dtype=np.int64)
    facts = {"sheet": title, **({"dates": system} if system != 1900 else {})}
    issues = (*note_header(at + 1), *note_more_headers(at + 1, more))
    return Table(pd.DataFrame(cells), numbers, tuple(header), facts, issues).below(more)


def read_parquet(raw: bytes, name: str, choose: Chooser) -> Table:
    """Read a Parquet file; whole numbers with gaps stay exact.

    Raises
    ------
    DataError
        If the file is damaged or has no rows.
    """
    need("pyarrow", "Parquet files")
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    try:
        file = parquet.ParquetFile(io.BytesIO(raw))
        size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
        if file.metadata.num_rows > MOST_ROWS or size > LARGEST_CONTENT:
            raise DataError(_too_large(name, size))
        header = clean_header(file.schema_arrow.names)
        columns = list(choose(header))
        own = [file.schema_arrow.names[header.index(column)] for column in columns]
        table = file.read(columns=own)
        table = table.replace_schema_metadata(None)
        frame = table.to_pandas(ignore_metadata=True, integer_object_nulls=True)
    except DataError:
        raise
    except (arrow.ArrowException, *DAMAGED) as problem:
        raise DataError(
            f"{name!r} is damaged or no Parquet file ({str(problem)[:80]}). Write it again."
        ) from None
    if not table.num_rows:
        raise DataError(f"{name!r} has column names and no rows. Export the sessions again.")
    frame = frame[own]
    frame.columns = columns
    rows = np.arange(2, len(frame) + 2, dtype=np.int64)
    return Table(plain(frame), rows, tuple(header), {})


def need(module: str, purpose: str) -> None:
    """Refuse work that an optional dependency would do, with the command that installs it.

    Raises
    ------
    DataError
        If the module is not installed.
    """
    if find_spec(module) is None:
        raise DataError(
            f"Reading {purpose} needs {module}, which is not installed. "
            f'Run: "{sys.executable}" -m pip install {module}'
        )


def _too_large(name: str, size: int) -> str:
    return (
        f"{name!r} unpacks to {size / 2**20:,.0f} MB or has more rows than any export of sessions. "
        "Export only the columns and rows that are needed, as .csv if it is right as it is."
    )


def _refuse_bomb(raw: bytes, name: str) -> None:
    """Refuse a workbook that unpacks to more than can be read, before it is unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            size = sum(part.file_size for part in archive.infolist())
    except DAMAGED:
        return  # what is wrong is said when it is read
    if size > LARGEST_WORKBOOK:
        raise DataError(_too_large(name, size))


def _sheets(raw: bytes, name: str, *, values: bool) -> tuple[dict[str, list[Row]], int]:
    """Return the rows of every sheet, values or formulas, and the date system."""
    openpyxl = import_module("openpyxl")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks about styles and extensions, not about cells
            book = openpyxl.load_workbook(io.BytesIO(raw), read_only=True, data_only=values)
            system = 1904 if book.epoch.year == 1904 else 1900
            sheets = {}
            for sheet in book.worksheets:
                sheet.reset_dimensions()  # some programs store a wrong extent; read what is there
                sheets[sheet.title] = _filled(_rows(sheet, name))
    except DataError:
        raise
    except DAMAGED as problem:
        raise DataError(
            f"{name!r} is damaged or no Excel workbook ({type(problem).__name__}). Open it in a "
            "spreadsheet and save it again as .xlsx."
        ) from None
    return sheets, system


def _rows(sheet: Any, name: str) -> list[Row]:
    rows: list[Row] = []
    cells = 0
    for row in sheet.iter_rows(values_only=True):
        cells += len(row)
        if len(rows) == MOST_ROWS:
            raise DataError(
                f"Sheet {sheet.title!r} of {name!r} has a cell below row {MOST_ROWS:,}, where no "
                "spreadsheet has rows. Save it again as .xlsx or .csv."
            )
        if cells > MOST_CELLS:
            raise DataError(
                f"Sheet {sheet.title!r} of {name!r} has more than {MOST_CELLS:,} cells, empty ones "
                "counted. Export only the columns and rows that are needed."
            )
        rows.append(row)
    return rows


def _filled(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Drop rows below the last one that holds anything."""
    while rows and not _trimmed(rows[-1]):
        rows.pop()
    return rows


def _trimmed(row: Sequence[Any]) -> list[Any]:
    cells = list(row)
    while cells and (cells[-1] is None or cells[-1] == ""):
        cells.pop()
    return cells


def _choose_sheet(lengths: dict[str, int], name: str, sheet: str | int | None) -> str:
    titles = list(lengths)
    listing = joined([repr(title) for title in titles])
    if isinstance(sheet, str):
        if sheet not in lengths:
            raise DataError(f"{name!r} has no sheet {sheet!r}; it has {listing}.")
        chosen = sheet
    elif sheet is not None:
        if not 1 <= sheet <= len(titles):
            raise DataError(
                f"{name!r} has no sheet number {sheet}; it has {len(titles)} ({listing})."
            )
        chosen = titles[sheet - 1]
    else:
        full = [title for title in titles if lengths[title]]
        if len(full) > 1:
            raise DataError(
                f"{name!r} has several sheets with data: {joined([repr(t) for t in full])}. "
                f"Say which one, e.g. sheet={full[0]!r}."
            )
        chosen = full[0] if full else ""
    if not lengths.get(chosen):
        raise DataError(f"{name!r} is empty. Export the sessions again.")
    return chosen


def _refuse_lost_formulas(
    raw: bytes, name: str, title: str, rows: list[tuple[Any, ...]], places: list[int]
) -> None:
    """Refuse cells that look empty because nobody ever computed their formula."""
    if all(place < len(row) and row[place] is not None for row in rows[1:] for place in places):
        return
    formulas = _sheets(raw, name, values=False)[0][title]
    lost = [
        i + 1
        for i, (row, source) in enumerate(zip(rows, formulas, strict=False))
        for place in places
        if place < len(source)
        and isinstance(source[place], str)
        and source[place].startswith("=")
        and (place >= len(row) or row[place] is None)
    ]
    if lost:
        raise DataError(
            f"Sheet {title!r} of {name!r} has formulas whose values were never stored, first in "
            f"row {lost[0]}. Open it in a spreadsheet and save it again."
        )
