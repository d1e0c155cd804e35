"""Dates: the format is decided by evidence over the whole column, or refused with the remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import DataError
from alliancedyn.panel.issues import Issue, info, joined, named_rows, named_values, warning
from alliancedyn.panel.table import Distinct, declared_missing

Dates = NDArray[np.datetime64]
Mask = NDArray[np.bool_]
Codes = NDArray[np.int64]

CLOCK = (
    r"(?:[T ]+(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<part>\d+))?)?"
    r"\s*(?P<half>[AaPp][Mm])?\s*(?P<zone>Z|UTC|[+-]\d{2}:?(?:\d{2})?)?)?"
)
# Year first; day and month in either order; month by name; serial numbers of a spreadsheet.
FORMATS = {
    "year first": re.compile(rf"(?P<y>\d{{4}})([-/.])(?P<m>\d{{1,2}})\2(?P<d>\d{{1,2}}){CLOCK}"),
    "year first, no separators": re.compile(r"(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})"),
    "day or month first": re.compile(
        rf"(?P<a>\d{{1,2}})([-/.])(?P<b>\d{{1,2}})\2(?P<y>\d{{4}}|\d{{2}}){CLOCK}"
    ),
    "month by name": re.compile(
        rf"(?P<d>\d{{1,2}})[-/. ]+(?P<name>[A-Za-z]{{3,9}})[-/., ]+(?P<y>\d{{4}}|\d{{2}}){CLOCK}"
    ),
    "month name first": re.compile(
        rf"(?P<name>[A-Za-z]{{3,9}})[. ]+(?P<d>\d{{1,2}}),? +(?P<y>\d{{4}}){CLOCK}"
    ),
    "serial number": re.compile(r"(?P<serial>\d{5}(?:[.,]\d+)?)"),
}
MONTHS = "january february march april may june july august september october november december"
EARLIEST, LATEST = 1950, 2100
SERIALS = (18264, 73415)  # spreadsheet days of 1950-01-01 and 2100-12-31
# Day 0 of a workbook's plain numbers, by its date system.
EPOCHS = {1900: np.datetime64("1899-12-30", "us"), 1904: np.datetime64("1904-01-01", "us")}


@dataclass(frozen=True)
class DateRules:
    """The caller's own words about dates.

    Parameters
    ----------
    day_first : bool or None
        Whether 03/04/2024 is the third of April.
    date_format : str or None
        A strptime format such as ``"%d.%m.%y"``.
    missing : tuple
        Codes declared missing for the column.
    system : int
        The workbook's date system, 1900 or 1904.
    """

    day_first: bool | None = None
    date_format: str | None = None
    missing: tuple[object, ...] = ()
    system: int = 1900


def read_dates(column: Distinct, rules: DateRules) -> tuple[Dates, list[Issue]]:
    """Read a column of dates.

    Parameters
    ----------
    column : Distinct
    rules : DateRules

    Returns
    -------
    dates : (n,) datetime64[us] array
        Local clock time; NaT where blank.
    issues : list of Issue

    Raises
    ------
    DataError
        If a text is no date, formats are mixed, or day and month cannot be told apart.
    """
    texts = column.stripped()
    texts[:] = [re.sub(r"[\u00a0\u202f]", " ", text.removeprefix("'")) for text in texts]
    texts[declared_missing(texts, rules.missing)] = ""
    filled = np.array([bool(text) for text in texts], bool)
    dates = np.full(len(texts), np.datetime64("NaT", "us"))
    issues: list[Issue] = []
    if filled.any():
        dates[filled], issues = _read(column, texts[filled], filled, rules)
        _refuse_years(column, dates)
    return dates[column.codes], issues


def _read(
    column: Distinct, texts: NDArray[np.object_], filled: Mask, rules: DateRules
) -> tuple[Dates, list[Issue]]:
    if rules.date_format is not None:
        return _by_format(column, texts, filled, rules.date_format), []
    matches: dict[str, list[re.Match[str] | None]] = {}
    left = np.ones(len(texts), bool)
    for kind, pattern in FORMATS.items():
        found = [pattern.fullmatch(text) if left[i] else None for i, text in enumerate(texts)]
        hit = np.array([match is not None for match in found], bool)
        if hit.any():
            matches[kind] = found
            left &= ~hit
    if left.any():
        raise DataError(
            f"Column {column.name!r} holds texts that are no dates: "
            f"{named_values(list(texts[left]))}, in "
            f"{named_rows(_rows(column, filled, left))}. Correct them, leave them blank, or pass "
            'date_format=, e.g. "%d.%m.%Y".'
        )
    if len(matches) > 1:
        examples = [
            f"{next(m[0] for m in found if m)!r} ({kind})" for kind, found in matches.items()
        ]
        raise DataError(
            f"Column {column.name!r} mixes date formats: {joined(examples)}. A spreadsheet may "
            "have swapped day and month in some of them. Export the dates again as YYYY-MM-DD."
        )
    kind, found = next(iter(matches.items()))
    parts = [match.groupdict() for match in found if match is not None]
    if kind == "serial number":
        return _serials(column, texts, rules.system)
    return _calendar(column, texts, parts, filled, rules)


def _rows(column: Distinct, filled: Mask, chosen: Mask) -> NDArray[np.int64]:
    full = np.zeros(len(filled), bool)
    full[np.flatnonzero(filled)[chosen]] = True
    return column.rows_where(full)


def _by_format(
    column: Distinct, texts: NDArray[np.object_], filled: Mask, date_format: str
) -> Dates:
    try:
        read = pd.to_datetime(pd.Series(texts, dtype=object), format=date_format, errors="coerce")
    except (ValueError, TypeError, LookupError, OverflowError, re.error) as problem:
        raise DataError(
            f"date_format={date_format!r} is no date format ({problem}); e.g. '%d.%m.%Y'."
        ) from None
    if getattr(read.dtype, "tz", None) is not None:
        read = read.dt.tz_localize(None)
    dates: Dates = read.to_numpy().astype("datetime64[us]")
    bad = np.isnat(dates)
    if bad.any():
        raise DataError(
            f"Column {column.name!r} has dates that are not in the format {date_format!r}: "
            f"{named_values(list(texts[bad]))}, in "
            f"{named_rows(_rows(column, filled, bad))}. Correct them or the format."
        )
    return dates


def _serials(
    column: Distinct, texts: NDArray[np.object_], system: int
) -> tuple[Dates, list[Issue]]:
    days = np.array([float(text.replace(",", ".")) for text in texts])
    outside = (days < SERIALS[0]) | (days > SERIALS[1])
    if outside.any():
        raise DataError(
            f"Column {column.name!r} holds numbers such as {texts[outside][0]!r} that are no "
            "dates, as text or as spreadsheet serials. Name a column of elapsed days with day=."
        )
    dates: Dates = EPOCHS[system] + (days * 86_400_000_000).round().astype("timedelta64[us]")
    said = f"Column {column.name!r} holds spreadsheet serial numbers; {texts[0]!r} was read as "
    said += f"{str(dates[0])[:10]} (the {system} date system)."
    return dates, [warning("excel-serial-dates", said, len(column.rows))]


def _calendar(
    column: Distinct,
    texts: NDArray[np.object_],
    parts: Sequence[dict[str, str | None]],
    filled: Mask,
    rules: DateRules,
) -> tuple[Dates, list[Issue]]:
    issues: list[Issue] = []
    years = np.array([int(part["y"] or 0) for part in parts])
    short = np.array([len(part["y"] or "") == 2 for part in parts], bool)
    if "a" in parts[0]:
        a = np.array([int(part["a"] or 0) for part in parts])
        b = np.array([int(part["b"] or 0) for part in parts])
        day_first = _day_first(column, texts, a, b, short, rules.day_first)
        days, months = (a, b) if day_first else (b, a)
    else:
        days = np.array([int(part["d"] or 0) for part in parts])
        months = np.array([_month(part) for part in parts])
    if short.any():
        years = np.where(short, years + np.where(years < 69, 2000, 1900), years)
        said = f"Column {column.name!r} has two-digit years; {texts[short][0]!r} was read in "
        issues.append(info("two-digit-years", f"{said}{years[short][0]}.", int(short.sum())))
    dates = _assembled(years, months, days, _clock(parts))
    bad = np.isnat(dates)
    if bad.any():
        raise DataError(
            f"Column {column.name!r} has dates that are not in the calendar: "
            f"{named_values(list(texts[bad]))}, in "
            f"{named_rows(_rows(column, filled, bad))}. Correct them or leave them blank; declare "
            "placeholders as missing codes of the column."
        )
    return dates, issues + _zones(column, parts)


def _assembled(
    years: Codes, months: Codes, days: Codes, clock: tuple[Codes, Codes, Codes, Codes]
) -> Dates:
    """Put calendar fields together; NaT where there is no such day or time."""
    fits = (months >= 1) & (months <= 12)
    month = (years - 1970).astype("datetime64[Y]").astype("datetime64[M]")
    month = month + np.where(fits, months - 1, 0)
    length = ((month + 1).astype("datetime64[D]") - month.astype("datetime64[D]")).astype(np.int64)
    hours, minutes, seconds, parts = clock
    fits &= (days >= 1) & (days <= length) & (hours < 24) & (minutes < 60) & (seconds < 60)
    moment = 3600 * hours + 60 * minutes + seconds
    dates = (month.astype("datetime64[D]") + (days - 1)).astype("datetime64[us]")
    dates = dates + moment.astype("timedelta64[s]") + parts.astype("timedelta64[us]")
    return np.where(fits, dates, np.datetime64("NaT", "us"))


def _month(part: dict[str, str | None]) -> int:
    if part.get("m"):
        return int(part["m"] or 0)
    name = (part.get("name") or "").casefold()
    fits = [i for i, full in enumerate(MONTHS.split(), start=1) if full.startswith(name)]
    return fits[0] if len(fits) == 1 else 9 if name == "sept" else 0


def _day_first(
    column: Distinct,
    texts: NDArray[np.object_],
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    short: Mask,
    said: bool | None,
) -> bool:
    """Decide whether the day comes first: the caller, else any number above 12."""
    speaks_day, speaks_month = a > 12, b > 12
    if said is not None:
        against = speaks_month if said else speaks_day
        if against.any():
            raise DataError(
                f"day_first={said} does not fit {texts[against][0]!r} in column {column.name!r}. "
                f"Pass day_first={not said}, or correct the dates."
            )
        return said
    if short.any():
        raise DataError(
            f"Dates such as {texts[short][0]!r} in column {column.name!r} have two-digit years, so "
            "day, month and year cannot be told apart. Pass day_first=True or False, or "
            'date_format=, e.g. "%d.%m.%y".'
        )
    if speaks_day.any() and speaks_month.any():
        raise DataError(
            f"Column {column.name!r} mixes day-first and month-first dates: "
            f"{texts[speaks_day][0]!r} and {texts[speaks_month][0]!r}. Export the dates again as "
            "YYYY-MM-DD."
        )
    if not speaks_day.any() and not speaks_month.any() and (a != b).any():
        raise DataError(
            f"Day and month cannot be told apart in column {column.name!r}: no number is above 12 "
            f"(such as {texts[a != b][0]!r}). Pass day_first=True or day_first=False."
        )
    return bool(speaks_day.any() or not speaks_month.any())


def _clock(parts: Sequence[dict[str, str | None]]) -> tuple[Codes, Codes, Codes, Codes]:
    """Return hours, minutes, seconds and microseconds."""
    hours = np.array([int(part.get("hour") or 0) for part in parts])
    half = np.array([(part.get("half") or "").casefold() for part in parts])
    hours = np.where(half == "pm", hours % 12 + 12, np.where(half == "am", hours % 12, hours))
    minutes = np.array([int(part.get("minute") or 0) for part in parts])
    seconds = np.array([int(part.get("second") or 0) for part in parts])
    micro = np.array([int(f"{part.get('part') or 0:0<6}"[:6]) for part in parts])
    return hours, minutes, seconds, micro


def _zones(column: Distinct, parts: Sequence[dict[str, str | None]]) -> list[Issue]:
    timed = [part for part in parts if part.get("hour")]
    zones = {part.get("zone") for part in timed}
    if not zones - {None}:
        return []
    if None in zones:
        raise DataError(
            f"Some dates in column {column.name!r} have a time zone and others have none. Export "
            "them alike, best as local dates YYYY-MM-DD."
        )
    said = f"Column {column.name!r} has time zones ({joined(sorted(str(z) for z in zones))}); the "
    return [info("time-zones", f"{said}local clock time was kept.", len(column.rows))]


def _refuse_years(column: Distinct, dates: Dates) -> None:
    years = dates.astype("datetime64[Y]").astype(np.int64) + 1970
    odd = ~np.isnat(dates) & ((years < EARLIEST) | (years > LATEST))
    if odd.any():
        raise DataError(
            f"Column {column.name!r} has dates before {EARLIEST} or after {LATEST}, such as "
            f"{str(dates[odd][0])[:10]}, in {named_rows(column.rows_where(odd))}. Correct them, or "
            "declare placeholders as missing codes of the column."
        )
