"""A table of cells as they came, and its columns as distinct texts.

Every reader (text file, workbook, Parquet, frame) hands over a `Table`. A column is then looked at
as its *distinct* values: however many rows there are, each different text is interpreted once.
"""

from __future__ import annotations

import datetime as dt
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import DataError
from alliancedyn.panel.issues import Issue

Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]

MIDNIGHT = "T00:00:00"  # a date that a spreadsheet or pandas keeps as a moment
DIGITS = 22  # of a decimal number that is written out
LARGEST = 1e22  # whole numbers below it are written out, not in scientific notation
# Spaces a spreadsheet or a web page leaves around a value: ASCII, no-break, zero-width, BOM.
WHOLE = re.compile(r"(-?[0-9]+)(?:[.,]0*)?")
PADDING = " \t\r\n\f\v\u00a0\u2007\u202f\u200b\u200e\u200f\ufeff"


@dataclass(frozen=True)
class Table:
    """Cells of the mapped columns, with the row numbers of the file.

    Parameters
    ----------
    frame : DataFrame
        The mapped columns under their own names; texts from a file, any type from a frame.
    rows : (n,) int64 array
        The number a user would look up: spreadsheet row for a file (the header is row 1),
        position from 0 for a frame.
    header : tuple of str
        All column names, mapped or not.
    facts : dict
        What was found out about the file: encoding, delimiter, sheet, size, hash.
    issues : tuple of Issue
        What was assumed while reading.
    seen : dict
        Columns already looked at, by `distinct`.
    """

    frame: pd.DataFrame
    rows: Codes
    header: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    issues: tuple[Issue, ...] = ()
    seen: dict[str, Distinct] = field(default_factory=dict, repr=False, compare=False)

    def below(self, count: int) -> Table:
        """Return the table without its first rows."""
        return self.keep(np.arange(len(self.rows)) >= count)

    def keep(self, kept: Mask) -> Table:
        """Return the table with only the rows where ``kept``."""
        if kept.all():
            return self
        frame = self.frame.loc[kept].reset_index(drop=True)
        return Table(frame, self.rows[kept], self.header, self.facts, self.issues)


@dataclass(frozen=True)
class Distinct:
    """A column as its different texts.

    Parameters
    ----------
    name : str
        Column name in the file.
    texts : (u,) object array of str
        The different texts as they came, padding included; ``""`` for an empty cell.
    codes : (n,) int64 array
        Which text stands in which row.
    rows : (n,) int64 array
        Row numbers of the file.
    """

    name: str
    texts: NDArray[np.object_]
    codes: Codes
    rows: Codes

    @property
    def counts(self) -> Codes:
        """Number of rows per text, (u,)."""
        return np.bincount(self.codes, minlength=len(self.texts)).astype(np.int64)

    @cached_property
    def characters(self) -> frozenset[str]:
        """Every character that occurs in any text."""
        return frozenset("".join(self.texts))

    def stripped(self) -> NDArray[np.object_]:
        """Return the texts without padding, (u,)."""
        if self.characters.isdisjoint(PADDING):
            return self.texts.copy()
        out = np.empty(len(self.texts), object)
        out[:] = [text.strip(PADDING) for text in self.texts]
        return out

    def rows_where(self, chosen: Mask) -> Codes:
        """Return the row numbers whose text is chosen; ``chosen`` is (u,)."""
        return self.rows[chosen[self.codes]]


def distinct(table: Table, name: str) -> Distinct:
    """Look at one column as its different texts; a missing cell is an empty text."""
    if name not in table.seen:
        table.seen[name] = _look(table, name)
    return table.seen[name]


def _look(table: Table, name: str) -> Distinct:
    """Find the different texts of a column.

    Cells of mixed types are compared as texts, never as values: True equals 1 in Python, and 2
    equals 2.0.
    """
    column = table.frame[name]
    if column.dtype == np.dtype(object):
        column = pd.Series(_texts(column, name), dtype=object)
    codes, values = pd.factorize(column)
    texts = np.array([*_texts(values, name), ""], object)
    _refuse_broken_text("".join(texts), name)
    codes = np.where(codes < 0, list(texts).index(""), codes).astype(np.int64)
    used = np.bincount(codes, minlength=len(texts)) > 0
    return Distinct(name, texts[used], (np.cumsum(used) - 1)[codes], table.rows)


def _refuse_broken_text(text: str, name: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as problem:
        raise DataError(
            f"Column {name!r} holds characters that are no text ({text[problem.start]!r}). Read "
            "the file with its own encoding."
        ) from None


def _texts(values: Any, name: str) -> list[str]:
    """Write cells as the texts a person would see; only None and NaN are missing."""
    if pd.api.types.is_integer_dtype(values.dtype):
        return [str(int(value)) for value in values]
    return [value if isinstance(value, str) else _as_text(value, name) for value in values]


def _as_text(value: Any, name: str) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if pd.api.types.is_list_like(value):
        raise DataError(
            f"Column {name!r} holds lists or tables, not single values. Write one value per cell."
        )
    if isinstance(value, Decimal):
        short = value.is_finite() and abs(value.adjusted()) < DIGITS
        return "" if value.is_nan() else f"{value + 0:f}" if short else str(value)
    if pd.isna(value):
        return ""
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat().removesuffix(MIDNIGHT)
    if isinstance(value, float | np.floating):
        number = float(value)
        whole = abs(number) < LARGEST and number.is_integer()
        return f"{number + 0.0:.1f}" if whole else repr(number)
    try:
        return str(value)
    except ValueError:  # Python writes no whole numbers of more than 4,300 digits
        raise DataError(
            f"Column {name!r} holds a number of thousands of digits. Correct it, or leave it blank."
        ) from None


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of any kind of column as NumPy numbers, texts, dates or objects.

    Nullable, Arrow, sparse and categorical columns become what a NumPy column of the same cells
    would be, so that the type of a column changes nothing. True and False are no numbers.
    """
    return pd.DataFrame({name: _plain(column) for name, column in frame.items()})


def _plain(column: Any) -> Any:
    kinds, dtype = pd.api.types, column.dtype
    if isinstance(dtype, pd.StringDtype) or dtype == np.dtype(object):
        return column
    if kinds.is_datetime64_any_dtype(dtype):
        moments = pd.Series(pd.DatetimeIndex(column))
        return moments if moments.dt.tz is None else moments.dt.tz_localize(None)
    if isinstance(dtype, pd.SparseDtype):
        return _plain(pd.Series(np.asarray(column)))
    if kinds.is_numeric_dtype(dtype) and not kinds.is_bool_dtype(dtype):
        if isinstance(dtype, np.dtype):
            return column
        if kinds.is_float_dtype(dtype):
            return pd.Series(column.to_numpy(np.float64, na_value=np.nan))
        if kinds.is_integer_dtype(dtype) and not column.isna().any():
            return pd.Series(column.to_numpy())
    return column.astype(object)  # whole numbers with gaps stay exact


def is_number(column: Any) -> bool:
    """Return whether a column is of real numbers by its type; True and False are none."""
    return isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf"


def blank(column: Any) -> Mask:
    """Return where the cells of a column are empty or only padding, (n,)."""
    if is_number(column):
        return np.array(column.isna(), bool)
    empty = column.isna().to_numpy(bool, copy=True)
    if isinstance(column.dtype, pd.StringDtype):
        return empty | (column.str.strip(PADDING) == "").to_numpy(bool, na_value=False)
    found = ~empty
    padding = column[found].map(lambda value: isinstance(value, str) and not value.strip(PADDING))
    empty[found] = padding.to_numpy(bool)
    return empty


def declared_missing(texts: Iterable[str], codes: Iterable[object]) -> Mask:
    """Return which texts are declared missing, ignoring case and the decimals of 99.0, (u,)."""
    gone = {_without_decimals(str(code).strip()) for code in codes}
    return np.array([_without_decimals(text) in gone for text in texts], bool)


def _without_decimals(text: str) -> str:
    whole = WHOLE.fullmatch(text)
    return text.casefold() if whole is None else whole[1]


def close_to(name: str, names: Sequence[str]) -> list[str]:
    """Return up to three names that look like ``name``, the closest first."""
    from difflib import get_close_matches

    folded = {other.casefold().replace(" ", "_"): other for other in reversed(names)}
    found = get_close_matches(name.casefold().replace(" ", "_"), list(folded), 3, 0.6)
    return [folded[match] for match in found]


def as_pandas(frame: Any) -> pd.DataFrame:
    """Return a pandas frame, by narwhals if the frame is of another library."""
    if isinstance(frame, pd.DataFrame):
        if frame.columns.nlevels > 1:
            raise DataError("The frame has several header rows (a column MultiIndex). Flatten it.")
        return frame
    if find_spec("narwhals") is None:
        raise DataError(
            f"A frame of type {type(frame).__name__} needs narwhals, which is not installed. "
            f'Run: "{sys.executable}" -m pip install narwhals, or pass a pandas DataFrame.'
        )
    narwhals = import_module("narwhals")
    try:
        native = narwhals.from_native(frame)
    except TypeError:
        raise DataError(
            f"A {type(frame).__name__} is no data frame. Pass a pandas DataFrame, or use "
            "read_sessions for a file."
        ) from None
    if hasattr(native, "collect"):
        native = native.collect()
    converted: pd.DataFrame = native.to_pandas()
    return converted
