"""Excel and Parquet: cells as they are stored, formulas and error cells never guessed away."""

from __future__ import annotations

import io
import struct
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
from alliancedyn.panel.layout import clean_header, refuse_foreign_rows
from alliancedyn.panel.table import Table

Chooser = Callable[[Sequence[str]], Sequence[str]]
OFFICE_MARK = b"\xd0\xcf\x11\xe0"
# What a damaged archive or a workbook with impossible contents raises while it is read.
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, struct.error, ParseError, EOFError, OSError),
    *(LookupError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError),
)


def read_excel(raw: bytes, name: str, choose: Chooser, sheet: str | int | None = None) -> Table:
    """Read one sheet of a workbook; the first row holds the column names.

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
    sheets = _sheets(raw, name, values=True)
    title = _choose_sheet({key: len(rows) for key, rows in sheets.items()}, name, sheet)
    rows = sheets[title]
    header = clean_header(_trimmed(rows[0]))
    refuse_foreign_rows(header, [[str(cell) for cell in row] for row in rows[1:3]])
    beyond = [i + 1 for i, row in enumerate(rows) if _trimmed(row[len(header) :])]
    if beyond:
        raise DataError(
            f"Row {beyond[0]} of sheet {title!r} has cells to the right of the header. Name these "
            "columns in row 1 or delete them."
        )
    columns = list(choose(header))
    if len(rows) == 1:
        raise DataError(f"Sheet {title!r} of {name!r} has column names and no rows.")
    places = [header.index(column) for column in columns]
    _refuse_lost_formulas(raw, name, title, rows, places)
    cells = {
        column: pd.Series(
            [row[place] if place < len(row) else None for row in rows[1:]], dtype=object
        )
        for column, place in zip(columns, places, strict=True)
    }
    numbers = np.arange(2, len(rows) + 1, dtype=np.int64)
    return Table(pd.DataFrame(cells), numbers, tuple(header), {"sheet": title})


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
        header = clean_header(file.schema_arrow.names)
        columns = list(choose(header))
        own = [file.schema_arrow.names[header.index(column)] for column in columns]
        table = file.read(columns=own)
        table = table.replace_schema_metadata(None)
        frame = table.to_pandas(ignore_metadata=True, integer_object_nulls=True)
    except (arrow.ArrowException, OSError, ValueError) as problem:
        raise DataError(
            f"{name!r} is damaged or no Parquet file ({str(problem)[:80]}). Write it again."
        ) from None
    if not table.num_rows:
        raise DataError(f"{name!r} has column names and no rows. Export the sessions again.")
    frame = frame[own]
    frame.columns = columns
    rows = np.arange(2, len(frame) + 2, dtype=np.int64)
    return Table(frame, rows, tuple(header), {})


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
            'Run: python -m pip install "alliancedyn[io]"'
        )


def _sheets(raw: bytes, name: str, *, values: bool) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of every sheet, values or formulas."""
    openpyxl = import_module("openpyxl")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks about styles and extensions, not about cells
            book = openpyxl.load_workbook(io.BytesIO(raw), read_only=True, data_only=values)
            sheets = {}
            for sheet in book.worksheets:
                sheet.reset_dimensions()  # some programs store a wrong extent; read what is there
                sheets[sheet.title] = _filled(list(sheet.iter_rows(values_only=True)))
    except DAMAGED as problem:
        raise DataError(
            f"{name!r} is damaged or no Excel workbook ({type(problem).__name__}). Open it in a "
            "spreadsheet and save it again as .xlsx."
        ) from None
    return sheets


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
    formulas = _sheets(raw, name, values=False)[title]
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
