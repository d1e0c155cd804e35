"""Ids stay text, sessions become whole numbers, and every repair is counted."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alliancedyn.errors import DataError, identified
from alliancedyn.panel.issues import Issue, counted, info, named_rows, named_values, warning
from alliancedyn.panel.table import Distinct, declared_missing

Codes = NDArray[np.int64]

MARKED = re.compile(r"['’](.*)|=\"(.*)\"", re.DOTALL)  # how spreadsheets mark text
WHOLE_FLOAT = re.compile(r"-?[0-9]+(?:[.,]0*)?")
DECIMAL = re.compile(r"-?[0-9]+[.,][0-9]+")
SCIENTIFIC = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?[eE][+-]?[0-9]+")
DIGITS = re.compile(r"[0-9]+")
SESSION = re.compile(r"[+-]?[0-9]{1,15}(?:[.,]0*)?")
FRACTION = re.compile(r"[+-]?[0-9]+[.,][0-9]+")
MOST_SESSIONS = 400
EXACT = 2.0**53


@dataclass(frozen=True)
class Ids:
    """Identifiers of a column, cleaned and in natural order.

    Parameters
    ----------
    names : (m,) object array of str
        The different ids, naturally sorted (2 before 10).
    codes : (n,) int64 array
        Which id stands in which row; -1 = blank.
    issues : tuple of Issue
    """

    names: NDArray[np.object_]
    codes: Codes
    issues: tuple[Issue, ...]

    def texts(self) -> NDArray[np.object_]:
        """Return the ids row by row, None where blank, (n,)."""
        padded = np.full(len(self.names) + 1, None, object)
        padded[:-1] = self.names
        return padded[self.codes]


def read_ids(column: Distinct, role: str, missing: tuple[object, ...] = ()) -> Ids:
    """Clean the ids of a column: padding, apostrophes and ``.0`` removed and counted.

    Parameters
    ----------
    column : Distinct
    role : str
        What the ids stand for, for messages: client, therapist, ...
    missing : tuple
        Codes declared missing for this column.

    Returns
    -------
    Ids

    Raises
    ------
    DataError
        If ids were written in scientific notation or beyond exact whole numbers, which loses
        digits.
    """
    texts = column.stripped()
    issues = _count_changed(column, role, texts != column.texts, "padded-ids", "spaces")
    quoted = np.array([MARKED.fullmatch(text) is not None for text in texts], bool)
    issues += _count_changed(column, role, quoted, "apostrophe-ids", "text marks")
    texts[quoted] = [MARKED.sub(r"\1\2", text).strip() for text in texts[quoted]]
    texts[:] = [t if t.isascii() else unicodedata.normalize("NFC", t) for t in texts]
    _refuse_lost_digits(column, role, texts)
    texts, more = _without_fraction(column, role, texts)
    texts[declared_missing(texts, missing)] = ""
    names = np.array(sorted(set(texts) - {""}, key=natural), object)
    place = {name: i for i, name in enumerate(names)}
    codes = np.array([place.get(text, -1) for text in texts], np.int64)[column.codes]
    return Ids(names, codes, (*issues, *more, *_look_alikes(names, column, role)))


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts ``C2`` before ``C10``, with the text itself as the last word."""
    parts = re.split(r"([0-9]+)", text)
    key = tuple(_digits(p) if i % 2 else (1, 0, p) for i, p in enumerate(parts) if p)
    return (*key, (2, 0, text))


def _digits(text: str) -> tuple[int, int, str]:
    digits = text.lstrip("0")
    return 0, len(digits), digits  # the longer number is the larger one


def _count_changed(
    column: Distinct, role: str, changed: NDArray[np.bool_], code: str, what: str
) -> list[Issue]:
    changed = changed & (column.stripped() != "")
    if not changed.any():
        return []
    count = int(column.counts[changed].sum())
    where = f"from the {role} ids of column {column.name!r} in {counted(count, 'row')}."
    return [info(code, f"Removed {what} {where}", count)]


def _refuse_lost_digits(column: Distinct, role: str, texts: NDArray[np.object_]) -> None:
    lost = np.array([SCIENTIFIC.fullmatch(text) is not None for text in texts], bool)
    if lost.any():
        raise DataError(
            f"The {role} ids {identified(texts[lost])} in column {column.name!r} are in scientific "
            "notation: a spreadsheet has dropped digits, and different ids may have become one. "
            "Export again with the ids as text."
        )


def _without_fraction(
    column: Distinct, role: str, texts: NDArray[np.object_]
) -> tuple[NDArray[np.object_], list[Issue]]:
    """Turn ``12.0`` into ``12`` unless decimals tell ids apart, as ``12.1`` beside it would."""
    whole = [WHOLE_FLOAT.fullmatch(text) is not None for text in texts]
    if any(DECIMAL.fullmatch(text) for text, is_whole in zip(texts, whole, strict=True)
           if not is_whole):  # fmt: skip
        return texts, []
    short = texts.copy()
    short[whole] = [re.split(r"[.,]", text)[0] for text in texts[whole]]
    changed = short != texts
    if not changed.any():
        return texts, []
    if any(abs(float(text)) > EXACT for text in short[changed]):
        raise DataError(
            f"The {role} ids of column {column.name!r} are decimal numbers with more digits than "
            "are stored exactly; different ids may have become one. Export them as text."
        )
    count = int(column.counts[changed].sum())
    said = f"{role.capitalize()} ids of column {column.name!r} written as decimals, such as "
    said += f"{identified(texts[changed][:1])}, were read as "
    said += f"{identified(short[changed][:1])} in {counted(count, 'row')}"
    both = sorted(set(short[changed]) & set(texts), key=natural)
    if both:
        said += f"; {identified(both)} {'is' if len(both) == 1 else 'are'} written both ways"
    return short, [info("float-ids", f"{said}.", count)]


def _folded(name: str) -> str:
    """Return what is left of an id without case, spaces and punctuation; ``2.0`` is like ``2``."""
    name = re.split(r"[.,]", name)[0] if WHOLE_FLOAT.fullmatch(name) else name
    return re.sub(r"[\s._/-]+", "", unicodedata.normalize("NFKC", name)).casefold() or name


def _look_alikes(names: NDArray[np.object_], column: Distinct, role: str) -> list[Issue]:
    """Report ids that differ in case or spelling only, and ids that lost leading zeros."""
    folded: dict[str, list[str]] = {}
    for name in names:
        folded.setdefault(_folded(name), []).append(name)
    twins = [name for group in folded.values() if len(group) > 1 for name in group]
    issues = []
    if twins:
        said = f"{role.capitalize()} ids {identified(twins)} in column {column.name!r} differ only "
        said += (
            "in case, spaces or punctuation and were kept apart. Correct them if they are the same."
        )
        issues.append(warning("case-differing-ids", said, len(twins)))
    whole = [name for name in names if DIGITS.fullmatch(name)]
    padded = [name for name in whole if name.startswith("0") and len(name) > 1]
    width = max((len(name) for name in padded), default=0)
    short = [name for name in whole if len(name) < width and not name.startswith("0")]
    if short:
        said = f"{role.capitalize()} ids {identified(short)} may have lost leading zeros: others, "
        said += f"such as {identified(padded[:1])}, have {width} digits. Export the ids as text "
        said += "if so."
        issues.append(warning("lost-leading-zeros", said, len(short)))
    return issues


def refuse_blank(column: Distinct, ids: Ids, role: str) -> None:
    """Refuse rows without an id.

    Raises
    ------
    DataError
        If any id is blank.
    """
    empty = ids.codes < 0
    if empty.any():
        raise DataError(
            f"Column {column.name!r} has no {role} id in {named_rows(column.rows[empty])}. "
            "Fill in the id or delete the rows."
        )


def unfilled(column: Distinct, missing: tuple[object, ...] = ()) -> NDArray[np.bool_]:
    """Return which rows are blank or hold a declared missing code, (n,)."""
    texts = [text.removeprefix("'") for text in column.stripped()]
    empty = np.array([not text for text in texts], bool) | declared_missing(texts, missing)
    return empty[column.codes]


def read_sessions_column(column: Distinct, missing: tuple[object, ...] = ()) -> Codes:
    """Read session numbers: whole numbers, 0 and negative ones included.

    Parameters
    ----------
    column : Distinct
    missing : tuple
        Codes declared missing for this column; a session without a number is refused.

    Returns
    -------
    (n,) int64 array, session numbers

    Raises
    ------
    DataError
        If a number is blank, broken or text, or there are more than 400 of them.
    """
    texts = column.stripped()
    texts[:] = [text.removeprefix("'").replace("\u2212", "-") for text in texts]
    blank = unfilled(column, missing)
    if blank.any():
        raise DataError(
            f"Column {column.name!r} has no session number in "
            f"{named_rows(column.rows[blank])}. Number these sessions or delete the rows "
            '(rows that are no sessions), or number by date with order="date".'
        )
    whole = np.array([SESSION.fullmatch(text) is not None for text in texts], bool)
    if not whole.all():
        _refuse_sessions(column, texts, ~whole)
    values = [int(re.split(r"[.,]", text)[0]) for text in texts]
    _refuse_span(column, values)
    return np.array(values, np.int64)[column.codes]


def _refuse_sessions(column: Distinct, texts: NDArray[np.object_], bad: NDArray[np.bool_]) -> None:
    found = list(texts[bad])
    counts = list(column.counts[bad])
    rows = named_rows(column.rows_where(bad))
    if all(FRACTION.fullmatch(text) for text in found):
        raise DataError(
            f"Session numbers must be whole; column {column.name!r} has "
            f"{named_values(found, counts)} in {rows}. Correct them, or number by date with "
            'order="date".'
        )
    if any(re.fullmatch(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}.*", text) for text in found):
        raise DataError(
            f"Column {column.name!r} holds dates such as {found[0]!r}, not session numbers. Name "
            'it date=, and pass order="date" to number the sessions by date.'
        )
    raise DataError(
        f"Session numbers must be whole numbers; column {column.name!r} has "
        f"{named_values(found, counts)} in {rows}. Replace the words by numbers, or delete rows "
        "that are no sessions."
    )


def _refuse_span(column: Distinct, values: list[int]) -> None:
    distinct_numbers = sorted(set(values))
    if len(distinct_numbers) > MOST_SESSIONS:
        raise DataError(
            f"Column {column.name!r} has {len(distinct_numbers):,} different session numbers; a "
            f"panel holds at most {MOST_SESSIONS}. Is it a running row or visit number?"
        )
    span = distinct_numbers[-1] - distinct_numbers[0] + 1
    if span > MOST_SESSIONS:
        middle = sorted(values)[len(values) // 2]
        far = max(distinct_numbers, key=lambda number: abs(number - middle))
        at = np.array([value == far for value in values], bool)
        raise DataError(
            f"Session numbers in column {column.name!r} run from {distinct_numbers[0]} to "
            f"{distinct_numbers[-1]}, more than {MOST_SESSIONS} sessions: {far} in "
            f"{named_rows(column.rows_where(at))} may be a code. Give it the number of the session."
        )
