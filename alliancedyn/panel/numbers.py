"""Texts to numbers: decimal mark by evidence, missing codes by declaration, nothing by guess."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from alliancedyn.errors import DataError
from alliancedyn.panel.issues import LONGEST, Issue, info, joined, named_rows, named_values, warning
from alliancedyn.panel.table import Distinct

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Code = str | int | float

SIGN, EXPONENT = r"[+-]?", r"(?:[eE][+-]?[0-9]+)?"
PLAIN_CHARACTERS = frozenset("0123456789+-eE")
ASCII_WITHOUT_APOSTROPHE = frozenset(map(chr, range(128))) - {"'"}
POINT = re.compile(rf"{SIGN}(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+){EXPONENT}")
COMMA = re.compile(rf"{SIGN}(?:[0-9]+,[0-9]*|,[0-9]+){EXPONENT}")
# Grouped thousands, with an optional fraction after the other mark.
POINT_GROUPS = re.compile(rf"{SIGN}[1-9][0-9]{{0,2}}(?:\.[0-9]{{3}})+(?:,[0-9]+)?")
COMMA_GROUPS = re.compile(rf"{SIGN}[1-9][0-9]{{0,2}}(?:,[0-9]{{3}})+(?:\.[0-9]+)?")
SPACE_GROUPS = re.compile(
    rf"{SIGN}[1-9][0-9]{{0,2}}(?:[ \u00a0\u202f'’][0-9]{{3}})+(?:[.,][0-9]+)?"
)
INFINITE = re.compile(rf"{SIGN}inf(?:inity)?|{SIGN}1\.#inf.*|{SIGN}∞", re.IGNORECASE)
MINUS = str.maketrans({"\u2212": "-", "\u2013": "-", "\ufe63": "-", "\uff0d": "-"})

# What people write for "no score". Never taken for it unless declared.
SUSPECT_TEXTS = frozenset(
    {
        *("na", "n/a", "n.a.", "n.a", "nan", "none", "null", "nil", "#null!", "#n/a", "#na"),
        *("#value!", "#div/0!", ".", "-", "--", "?", "*", "x", "dna", "missing", "skipped"),
        *("unknown", "refused"),
    }
)
LOGICAL = frozenset({"true", "false"})  # a spreadsheet's own words, out of place among others
SUSPECT_NUMBERS = (
    *(-9999.0, -999.0, -99.0, -98.0, -97.0, -88.0, -77.0, -66.0, -9.0, -8.0, -7.0, -1.0),
    *(0.0, 8.0, 9.0, 66.0, 77.0, 88.0, 97.0, 98.0, 99.0, 777.0, 888.0, 998.0, 999.0, 9999.0),
)
HUGE = 1e15  # beyond it neighboring whole numbers are no longer told apart for sure
FAR, FREQUENT = 0.25, 0.01  # of the other scores' range; of the scores
ITEM_TOP = 7.0  # highest answer of the usual items, above which 8 and 9 are codes


@dataclass(frozen=True)
class Numbers:
    """What the distinct texts of a column mean as numbers.

    Parameters
    ----------
    values : (u,) float array, unit of the column
        NaN for blank, declared missing and bad texts.
    bad : (u,) bool array
        Not blank, not declared, not a number.
    declared : (u,) bool array
        Declared as missing.
    cleaned, grouped : (u,) bool array
        Numbers that needed an apostrophe or typographic minus, or thousands separators, removed.
    """

    values: Array
    bad: Mask
    declared: Mask
    cleaned: Mask
    grouped: Mask


def _plain(column: Distinct) -> NDArray[np.object_]:
    """Return the texts with plain signs, without a leading apostrophe (a spreadsheet's mark)."""
    texts = column.stripped()
    if column.characters <= ASCII_WITHOUT_APOSTROPHE:
        return texts
    texts[:] = [_unquoted(text) for text in texts]
    return texts


def _unquoted(text: str) -> str:
    return text.removeprefix("'").removeprefix("’").translate(MINUS)


def decide_decimal(columns: Iterable[Distinct], delimiter: str | None) -> str:
    """Decide from all numeric columns whether the decimal mark is a point or a comma.

    ``3,5`` or ``1.234,5`` speaks for the comma; ``3.5``, ``0.125`` or ``1,234.5`` for the point.
    ``1,234`` alone could be either. Between columns separated by semicolons a lone comma is a
    decimal comma, since that is why the semicolon is used.

    Parameters
    ----------
    columns : iterable of Distinct
        The score columns and others that hold numbers.
    delimiter : str or None
        What divides the columns; None where cells are typed (Excel, Parquet, frames).

    Returns
    -------
    str
        ``"."`` or ``","``.

    Raises
    ------
    DataError
        If both marks occur, or only numbers that can be read either way.
    """
    point: list[str] = []
    comma: list[str] = []
    unclear: list[str] = []
    for column in columns:
        texts = _plain(column)
        mark = "," if "," in column.characters else "."
        if _as_floats(texts, mark) is not None:  # one mark, at most once in each: look for proof
            certain, groups = (comma, COMMA_GROUPS) if mark == "," else (point, POINT_GROUPS)
            marked = (text for text in texts if mark in text)
            unclear.extend(islice(marked, 1))
            proofs = (text for text in texts if mark in text and not groups.fullmatch(text))
            certain.extend(islice(proofs, 1))
            continue
        for text in texts:
            if "," in text:
                _sort_comma(text, point, comma, unclear)
            elif "." in text and POINT.fullmatch(text):
                (unclear if POINT_GROUPS.fullmatch(text) else point).append(text)
            elif text.count(".") > 1 and POINT_GROUPS.fullmatch(text):
                comma.append(text)
    if point and comma:
        raise DataError(
            f"Decimal marks are mixed: {comma[0]!r} has a decimal comma, {point[0]!r} a decimal "
            "point. Correct the export, or pass decimal=',' or '.' if one of them marks thousands."
        )
    if point or comma or not unclear:
        return "," if comma else "."
    with_comma = "," in unclear[0]
    if any(("," in text) != with_comma for text in unclear):
        other = next(text for text in unclear if ("," in text) != with_comma)
        raise DataError(
            f"{unclear[0]!r} and {other!r} cannot both be decimal numbers. Pass decimal=',' or "
            "decimal='.'."
        )
    if with_comma == (delimiter == ";") or (not with_comma and delimiter is None):
        return "," if with_comma else "."
    if not with_comma and delimiter in {",", "|", "\t"}:
        return "."
    raise DataError(
        f"{unclear[0]!r} can be a decimal number or thousands. Pass decimal=',' or decimal='.'."
    )


def _sort_comma(text: str, point: list[str], comma: list[str], unclear: list[str]) -> None:
    if COMMA_GROUPS.fullmatch(text):
        several = "." in text or text.count(",") > 1
        (point if several else unclear).append(text)
    elif COMMA.fullmatch(text) or POINT_GROUPS.fullmatch(text):
        comma.append(text)


def parse(column: Distinct, codes: Sequence[Code], decimal: str) -> Numbers:
    """Read the distinct texts of a column as numbers.

    Parameters
    ----------
    column : Distinct
    codes : sequence of str or number
        Declared missing codes: numbers match by value, texts ignoring case.
    decimal : str
        ``"."`` or ``","``.

    Returns
    -------
    Numbers
    """
    texts = column.stripped()
    plain = _plain(column)
    groups, other = (COMMA_GROUPS, POINT) if decimal == "." else (POINT_GROUPS, COMMA)
    grouped = np.zeros(len(texts), bool)
    quick = _as_floats(plain, decimal)
    values = np.full(len(texts), np.nan) if quick is None else quick
    for i, text in enumerate(plain if quick is None else ()):
        if POINT.fullmatch(text) and (decimal == "." or "." not in text):
            values[i] = float(text)
        elif decimal == "," and other.fullmatch(text):
            values[i] = float(text.replace(",", "."))
        elif groups.fullmatch(text) or _spaced(text, decimal):
            values[i] = _ungrouped(text, decimal)
            grouped[i] = True
    numeric = ~np.isnan(values)
    declared = _declared(texts, values, codes)
    blank = texts == ""
    cleaned = numeric & (plain != texts) & ~declared
    values[declared] = np.nan
    return Numbers(values, ~(numeric | declared | blank), declared, cleaned, grouped & ~declared)


def _as_floats(texts: NDArray[np.object_], mark: str) -> Array | None:
    """Convert blank texts and plain numbers with this decimal mark all at once, else None."""
    joined_texts = "\n".join(texts)
    if not set(joined_texts) <= PLAIN_CHARACTERS | {mark, "\n"}:
        return None
    if mark == ",":
        texts = np.array(joined_texts.replace(",", ".").split("\n"), dtype=object)
    try:
        return np.where(texts == "", "nan", texts).astype(np.float64)
    except ValueError:
        return None


def _spaced(text: str, decimal: str) -> bool:
    other = "." if decimal == "," else ","
    return other not in text and SPACE_GROUPS.fullmatch(text) is not None


def _ungrouped(text: str, decimal: str) -> float:
    return float(re.sub(rf"[^0-9+\-{re.escape(decimal)}]", "", text).replace(",", "."))


def _declared(texts: NDArray[np.object_], values: Array, codes: Sequence[Code]) -> Mask:
    """Return which texts are declared missing: by value, or by text ignoring case."""
    written = {str(code).strip().casefold() for code in codes if isinstance(code, str)}
    by_value = np.isin(values, code_numbers(codes))
    if not written:
        return by_value
    by_text = np.array([text.casefold() in written for text in texts], bool) & (texts != "")
    return by_value | by_text


def code_numbers(codes: Sequence[Code]) -> list[float]:
    """Return the missing codes that are numbers, written as such or as text."""
    return [float(c) for c in codes if not isinstance(c, str) or POINT.fullmatch(c.strip())]


def refuse_bad(column: Distinct, numbers: Numbers, what: str = "scores") -> None:
    """Refuse texts where numbers should be, naming them and how to declare them.

    Raises
    ------
    DataError
        If the column holds text or infinite values.
    """
    texts = column.stripped()
    infinite = np.isinf(numbers.values)
    infinite[numbers.bad] = [INFINITE.fullmatch(t) is not None for t in texts[numbers.bad]]
    if infinite.any():
        raise DataError(
            f"Column {column.name!r} holds infinite values in "
            f"{named_rows(column.rows_where(infinite))}. Correct them or leave them blank."
        )
    if not numbers.bad.any():
        return
    bad = [str(text) for text in texts[numbers.bad]]
    if all(POINT.fullmatch(text) or COMMA.fullmatch(text) for text in bad):
        raise DataError(
            f"Column {column.name!r} has {named_values(bad)}, which do not fit the decimal mark "
            "that was passed. Leave decimal= away, or correct the numbers."
        )
    rows = named_rows(column.rows_where(numbers.bad))
    counts = [int(count) for count in column.counts[numbers.bad]]
    order = sorted(range(len(bad)), key=lambda i: -counts[i])
    listing = ", ".join(_quoted(bad[i]) for i in order[:5])
    remedy = (
        f"If they stand for missing {what}, declare them: missing_codes=[{listing}]; "
        "if not, correct them."
        if len(bad) <= 5 and max(map(len, bad)) <= LONGEST
        else "Is it the right column? Correct the texts, or declare those that mean missing with "
        "missing_codes=[...]."
    )
    raise DataError(
        f"Column {column.name!r} holds text where {what} should be: "
        f"{named_values(bad, counts)}, in {rows}. {remedy}"
    )


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


def refuse_outside(
    name: str, values: Array, rows: NDArray[np.int64], limits: tuple[float, float]
) -> None:
    """Refuse scores outside their declared range.

    Raises
    ------
    DataError
        If any score lies below or above.
    """
    outside = (values < limits[0]) | (values > limits[1])
    if not outside.any():
        return
    found, counts = np.unique(values[outside], return_counts=True)
    raise DataError(
        f"{name!r} has {joined(_ranked(found, counts))} outside its range {limits[0]:g} to "
        f"{limits[1]:g}, in {named_rows(rows[outside])}. Correct the scores or the range, or "
        f"declare missing codes: missing_codes=[{', '.join(f'{v:g}' for v in found[:3])}]."
    )


def refuse_extreme(name: str, values: Array, rows: NDArray[np.int64]) -> None:
    """Refuse numbers that no arithmetic survives: squared, they overflow or vanish.

    Raises
    ------
    DataError
        If any number is beyond 1e15, or all but the zeros are within 1e-15 of zero.
    """
    size = np.abs(values)
    beyond = size > HUGE
    if beyond.any():
        raise DataError(
            f"Column {name!r} holds {values[beyond][0]:.3g} in {named_rows(rows[beyond])}, too "
            "large to be a score or another measured number. Correct it or leave it blank."
        )
    largest = size.max(initial=0.0, where=~np.isnan(size))
    if 0 < largest < 1 / HUGE:
        raise DataError(
            f"Column {name!r} holds nothing larger than {largest:.3g}, too small to be computed "
            "with. Express it in a smaller unit."
        )


def _ranked(values: Array, counts: NDArray[np.int64]) -> list[str]:
    order = np.lexsort((values, -counts))
    return [f"{values[i]:g} ({counts[i]}x)" for i in order]


def suspects(name: str, column: str, values: Array) -> list[Issue]:
    """Report scores that look like undeclared missing codes: usual codes, apart from the rest.

    The other scores decide. A negative code is suspect where all other scores are positive; 8 and 9
    above whole answers up to 7; 0 (a placeholder) if it lies below the others by more than their
    whole range; any other usual code by a quarter of it, or if it is outside and makes up one score
    in a hundred. A 9 on a 0-10 scale is therefore left alone.

    Parameters
    ----------
    name, column : str
        Variable and its column in the file.
    values : (n,) float array, score points
        NaN = missing.

    Returns
    -------
    list of Issue
    """
    seen, counts, usual = suspect_numbers(values)
    if not usual.any():
        return []
    codes = ", ".join(f"{value:g}" for value in seen[usual])
    message = (
        f"{name!r} holds {joined(_ranked(seen[usual], counts[usual]))} apart from its other "
        f"scores ({seen[~usual].min():g} to {seen[~usual].max():g}). If that means missing, "
        f"declare missing_codes={{{column!r}: [{codes}]}}; if not, declare the range."
    )
    return [warning("suspect-missing-code", message, int(counts[usual].sum()))]


def suspect_numbers(values: Array) -> tuple[Array, NDArray[np.int64], Mask]:
    """Return the different scores, how often each occurs, and which look like missing codes."""
    seen, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    usual = np.isin(seen, SUSPECT_NUMBERS)
    if np.isin(seen, (-1.0, 0.0, 1.0)).all():  # no or yes, worse or better: a scale of its own
        usual[:] = False
    while usual.any() and not usual.all():  # a usual code that is no suspect joins the rest
        kept = usual & _apart(seen, counts, seen[~usual])
        if (kept == usual).all():
            return seen, counts, usual
        usual = kept
    return seen, counts, np.zeros(len(seen), bool)


def _apart(seen: Array, counts: NDArray[np.int64], rest: Array) -> Mask:
    """Return which values lie apart from the rest of the scores."""
    low, high = rest.min(), rest.max()
    width = high - low
    beyond = np.maximum(low - seen, seen - high)
    frequent = counts >= max(2.0, FREQUENT * counts.sum())
    apart: Mask = (beyond > FAR * width) | ((beyond > 0) & frequent)
    apart &= beyond > 1.0  # the next step of a whole-number scale is no code
    items = bool(high <= ITEM_TOP and low >= 0 and (rest == np.floor(rest)).all())
    apart = np.where(np.isin(seen, (8.0, 9.0)), items & (beyond > 1.0), apart)
    apart = np.where(seen == 0.0, beyond > max(width, 1.0), apart)
    return np.where((seen < 0) & (low >= 0), True, apart)


def note_cleaning(column: Distinct, numbers: Numbers) -> list[Issue]:
    """Count what was read despite its spelling, and the missing codes found."""
    counts, texts, issues = column.counts, column.stripped(), []
    for found, code, words in (
        (numbers.cleaned, "cleaned-numbers", "with apostrophes or typographic minus signs"),
        (numbers.grouped, "thousands-separators", "with thousands separators"),
    ):
        if found.any():
            said = (
                f"Column {column.name!r}: numbers {words} were read, such as {texts[found][0]!r}."
            )
            issues.append(info(code, said, int(counts[found].sum())))
    if numbers.declared.any():
        listing = named_values(list(texts[numbers.declared]), list(counts[numbers.declared]))
        said = f"Column {column.name!r}: declared missing codes were found: {listing}."
        issues.append(info("missing-codes", said, int(counts[numbers.declared].sum())))
    return issues
