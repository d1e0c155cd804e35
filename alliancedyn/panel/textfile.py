"""Text tables: delimiter by evidence, rows checked for their cells, everything kept as text."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import DataError
from alliancedyn.panel.encoding import decode, refuse_binary
from alliancedyn.panel.issues import counted, joined, named_rows, quoted
from alliancedyn.panel.layout import (
    ABOVE,
    clean_header,
    find_header,
    more_headers,
    note_header,
    note_more_headers,
)
from alliancedyn.panel.table import Table

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
LONGEST_ROW = 1_000_000  # characters of a row that may hold the column names
NEWLINE, RETURN, QUOTE, SPACE = 10, 13, 34, 32
Chooser = Callable[[Sequence[str]], Sequence[str]]


@dataclass(frozen=True)
class Records:
    """Where the records of a text table begin and end.

    Parameters
    ----------
    data : bytes
        The text in UTF-8.
    outside : (bytes,) bool array or None
        Which bytes are outside quotation marks; None if there are no marks.
    starts, ends : (r,) int64 arrays
        First byte, and the byte after the last, of each record.
    row : int
        Row number of the first record in the file.
    """

    data: bytes
    outside: NDArray[np.bool_] | None
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    row: int = 1

    def below(self, record: int) -> Records:
        """Return the records from this one on."""
        return replace(
            self,
            starts=self.starts[record:],
            ends=self.ends[record:],
            row=self.row + record,
        )

    def first(self, delimiter: str) -> list[list[str]]:
        """Return the cells of the first records, among which the column names are."""
        return [self.split(i, delimiter) for i in range(min(ABOVE, len(self.starts)))]

    def cells(self, delimiter: str) -> NDArray[np.int64]:
        """Count the cells of each record, (r,)."""
        marks = np.frombuffer(self.data, np.uint8) == ord(delimiter)
        if self.outside is not None:
            marks &= self.outside
        at = np.flatnonzero(marks)
        found: NDArray[np.int64] = np.searchsorted(at, self.ends) - np.searchsorted(at, self.starts)
        return found + 1

    def text(self, record: int) -> str:
        """Return one record as text."""
        return self.data[self.starts[record] : self.ends[record]].decode("utf-8")

    def split(self, record: int, delimiter: str) -> list[str]:
        """Return the cells of one record.

        Raises
        ------
        DataError
            If it is longer than any row of names or answers.
        """
        if self.ends[record] - self.starts[record] > LONGEST_ROW:
            raise DataError(
                f"Row {self.row + record} has more than {LONGEST_ROW:,} characters. Is it a table, "
                "or does a quotation mark lack its end?"
            )
        try:
            text = io.StringIO(self.text(record), newline="")
            return next(csv.reader(text, delimiter=delimiter), [])
        except csv.Error:
            raise DataError(
                f"Row {self.row + record} has a cell of more than "
                f"{csv.field_size_limit():,} characters. Is it a table, or does a quotation mark "
                "lack its end?"
            ) from None


def read_text(
    raw: bytes,
    name: str,
    choose: Chooser,
    *,
    wanted: Sequence[str] = (),
    encoding: str | None = None,
    delimiter: str | None = None,
) -> Table:
    """Read a text table, every cell as text.

    Parameters
    ----------
    raw : bytes
        The file.
    name : str
        File name for messages.
    choose : function
        Given the column names, returns those to load, or raises.
    wanted : sequence of str
        Column names the caller expects, evidence for the delimiter.
    encoding, delimiter : str or None
        The caller's own word, which overrules.

    Returns
    -------
    Table

    Raises
    ------
    DataError
        If the file is empty, no table, or its rows differ in their number of cells.
    """
    text, encoding, issues = decode(raw, name, encoding)
    text, announced = _announced(text)
    records = _records(text, name)
    delimiter = delimiter or announced or _delimiter(records, name, wanted)
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0':
        raise DataError(
            "delimiter must be one character, no quotation mark or line end, not "
            f"{quoted(delimiter)}; e.g. delimiter=';'."
        )
    records = records.below(find_header(records.first(delimiter), wanted))
    counts = records.cells(delimiter)
    header = clean_header(records.split(0, delimiter))
    more = more_headers(header, records.first(delimiter)[1:])
    issues += [*note_header(records.row), *note_more_headers(records.row, more)]
    _check_cells(records, counts, _empty(records, delimiter), delimiter, name)
    columns = list(choose(header))
    frame = _load(records, header, columns, delimiter, name)
    rows = np.arange(records.row + 1, records.row + len(counts), dtype=np.int64)
    facts = {"encoding": encoding, "delimiter": delimiter}
    return Table(frame, rows, tuple(header), facts, tuple(issues)).below(more)


def _announced(text: str) -> tuple[str, str | None]:
    """Read Excel's own first line ``sep=;``, which names the delimiter."""
    line = re.match(r"\s*\"?sep=(.)\"?[ \t]*(\r\n|\n|\r)", text, re.IGNORECASE)
    return (text[line.end() :], line.group(1)) if line else (text, None)


def _records(text: str, name: str) -> Records:
    if "\n" not in text and "\r" in text:
        text = text.replace("\r", "\n")
    if not text.strip(" \t\r\n\x1a\ufeff"):
        raise DataError(f"{name!r} is empty. Export the sessions again.")
    text = text.replace("\r\r\n", "\n").rstrip("\r\n\f \x1a")
    try:
        data = (text + "\n").encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(
            f"{name!r} holds characters that no text has. Leave encoding= away, or correct it."
        ) from None
    refuse_binary(data, name)
    buffer = np.frombuffer(data, np.uint8)
    breaks = buffer == NEWLINE
    outside = None
    if b'"' in data:
        outside = ~np.logical_xor.accumulate(buffer == QUOTE)
        if not outside[-1]:
            _refuse_open_quote(text, name)
        breaks &= outside
    ends = np.flatnonzero(breaks).astype(np.int64)
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
    ends = ends - ((ends > starts) & (buffer[np.maximum(ends - 1, 0)] == RETURN))
    return Records(data, outside, starts, ends)


def _refuse_open_quote(text: str, name: str) -> None:
    odd = (i for i, line in enumerate(text.split("\n")) if line.count('"') % 2)
    raise DataError(
        f"A quotation mark in {name!r} is opened and never closed, first perhaps in row "
        f"{next(odd) + 1}. Correct that cell, or export the table again."
    )


def _delimiter(records: Records, name: str, wanted: Sequence[str]) -> str:
    """Choose the delimiter whose header holds the wanted names and whose rows agree."""
    fits, knows = [], {}
    for mark in DELIMITERS:
        table = records.below(find_header(records.first(mark), wanted))
        counts = table.cells(mark)
        if counts[0] < 2:
            continue
        header = clean_header(table.split(0, mark))
        knows[mark] = sum(column in header for column in wanted)
        if (counts[table.starts < table.ends] == counts[0]).all():
            fits.append(mark)
    if not knows:
        raise DataError(
            f"{name!r} has a single column: no comma, semicolon or tab divides its first row "
            f"{records.text(0)[:60]!r}. Check the export, or pass delimiter=."
        )
    most = max(knows.values())
    informed = [mark for mark in knows if knows[mark] == most]
    if most and len(informed) == 1:
        return informed[0]
    candidates = [mark for mark in fits if mark in informed] or informed
    if len(candidates) > 1:
        names = joined([DELIMITERS[mark] for mark in candidates])
        raise DataError(
            f"{name!r} can be divided by {names}. Say which it is, e.g. "
            f"delimiter={candidates[0]!r}."
        )
    return candidates[0]


def _empty(records: Records, delimiter: str) -> NDArray[np.bool_]:
    """Return which records hold nothing but delimiters and spaces, (r,)."""
    buffer = np.frombuffer(records.data, np.uint8)
    opening = buffer[records.starts]
    maybe = np.isin(opening, [ord(delimiter), SPACE, RETURN, NEWLINE])
    empty = np.zeros(len(maybe), bool)
    for record in np.flatnonzero(maybe):
        cells = records.data[records.starts[record] : records.ends[record]]
        empty[record] = not cells.translate(None, f" \r{delimiter}".encode())
    return empty


def _check_cells(
    records: Records,
    counts: NDArray[np.int64],
    empty: NDArray[np.bool_],
    delimiter: str,
    name: str,
) -> None:
    """Refuse rows with more or fewer cells than the header."""
    width, filled = counts[0], ~empty[1:]
    if not filled.any():
        raise DataError(f"{name!r} has column names and no rows. Export the sessions again.")
    rows = np.arange(records.row + 1, records.row + len(counts))
    wrong = filled & (counts[1:] != width)
    if not wrong.any():
        return
    mark = DELIMITERS.get(delimiter, repr(delimiter))
    if width == 1 and wrong.all():
        raise DataError(
            f"The first row of {name!r} is not a row of column names: {records.text(0)[:60]!r}. "
            "Delete what stands above the header and save again."
        )
    if (counts[1:][filled] == width + 1).all():
        raise DataError(
            f"Every row of {name!r} has one cell more than the header. R writes row names that "
            "way (use row.names=FALSE); else name the unnamed column."
        )
    longer = wrong & (counts[1:] > width)
    which = longer if longer.any() else wrong
    cells = int(counts[1:][which][0])
    hint = (
        "A decimal comma or a comma in a text needs quotation marks"
        if longer.any() and delimiter == ","
        else f"A {mark} inside a text needs quotation marks"
        if longer.any()
        else "Rows may have been cut short or broken by a line break"
    )
    raise DataError(
        f"{named_rows(rows[which]).capitalize()} of {name!r} "
        f"{'has' if which.sum() == 1 else 'have'} {counted(cells, 'cell')} where the header has "
        f"{width} ({mark}-separated). {hint}; correct the export."
    )


def _load(
    records: Records, header: Sequence[str], columns: Sequence[str], delimiter: str, name: str
) -> pd.DataFrame:
    places = [header.index(column) for column in columns]
    begin = int(records.starts[1]) if len(records.starts) > 1 else len(records.data)
    options: dict[str, Any] = {
        "sep": delimiter,
        "header": None,
        "names": range(len(header)),
        "usecols": sorted(places),
        "dtype": str,  # "category" would turn the text 007 into the number 7
        "na_filter": False,
        "keep_default_na": False,
        "skip_blank_lines": False,
        "low_memory": False,
        "index_col": False,
        "encoding": "utf-8",
    }
    try:
        frame = pd.read_csv(io.BytesIO(records.data[begin:]), **options)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as problem:
        raise DataError(
            f"{name!r} cannot be divided into cells: {problem}. Correct the row, or save the "
            "table again from a spreadsheet."
        ) from None
    if len(frame) != len(records.starts) - 1:
        raise DataError(
            f"The line ends or quotation marks of {name!r} can be read in two ways "
            f"({len(frame)} or {len(records.starts) - 1} rows). Save it again from a spreadsheet."
        )
    frame = frame[places]
    frame.columns = list(columns)
    return frame
