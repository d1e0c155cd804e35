"""A table and a mapping become the content of a panel: each step checks, converts and counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import DataError, listed
from alliancedyn.panel.choices import choose_higher, choose_roles, choose_timing
from alliancedyn.panel.chronology import check_day_and_date, check_order, number_by_date
from alliancedyn.panel.dates import DateRules, read_dates
from alliancedyn.panel.duplicates import resolve_duplicates
from alliancedyn.panel.findings import find_all
from alliancedyn.panel.identifiers import Ids, natural, read_ids, read_sessions_column, refuse_blank
from alliancedyn.panel.issues import Issue, counted, info, named_rows, warning
from alliancedyn.panel.layout import refuse_one_row_each, refuse_without_session
from alliancedyn.panel.mapping import PanelMapping
from alliancedyn.panel.numbers import (
    SUSPECT_TEXTS,
    code_numbers,
    decide_decimal,
    note_cleaning,
    parse,
    refuse_bad,
    refuse_outside,
    suspects,
)
from alliancedyn.panel.sisters import find_items
from alliancedyn.panel.table import Distinct, Table, blank, distinct

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
ID_ROLES = ("therapist", "group", "site", "arm")


@dataclass(frozen=True)
class Content:
    """Everything a panel consists of, checked.

    Parameters
    ----------
    frame : DataFrame
        Canonical columns, sorted by client and session.
    clients : (N,) object array of str
        In panel order.
    persons : (N,) object array of str
        The person behind each client; another id only where a person has several episodes.
    codes : (n,) int64 array
        Client of each row.
    variables, process, outcome, timing, higher, ranges, covariates
        As in `SessionPanel`.
    issues : tuple of Issue
    flow : DataFrame
        Step, rows, clients.
    decimal : str
        Decimal mark.
    """

    frame: pd.DataFrame
    clients: NDArray[np.object_]
    persons: NDArray[np.object_]
    codes: Codes
    variables: tuple[str, ...]
    process: str
    outcome: str
    timing: dict[str, str]
    higher: dict[str, str]
    ranges: dict[str, tuple[float, float]]
    covariates: tuple[str, ...]
    issues: tuple[Issue, ...]
    flow: pd.DataFrame
    decimal: str


def validate(table: Table, mapping: PanelMapping) -> Content:
    """Check a table against a mapping and convert it.

    Parameters
    ----------
    table : Table
        With every mapped column.
    mapping : PanelMapping

    Returns
    -------
    Content

    Raises
    ------
    DataError
        If the data cannot be used as they are; the message names the rows and the remedy.
    """
    if mapping.session is None and mapping.order != "date":
        refuse_without_session(table.header)
    issues = list(table.issues)
    total = len(table.rows)
    table = _without_blank_rows(table, mapping, issues)
    ids, persons = _read_clients(table, mapping, issues)
    decimal = _decimal(table, mapping, issues)
    columns: dict[str, Any] = {"client": ids.texts()}
    if mapping.session is not None:
        codes = mapping.codes_for(mapping.session, score=False)
        columns["session"] = read_sessions_column(distinct(table, mapping.session), codes)
    for name in mapping.variables:
        columns[name] = _read_scores(table, mapping, name, decimal, issues)
    columns |= _read_roles(table, mapping, decimal, issues)
    for name, column in mapping.covariates.items():
        columns[name] = _read_covariate(table, mapping, column, decimal, issues)
    frame = pd.DataFrame(columns)
    if mapping.session is not None:
        keys = ids.codes * 2**32 + (columns["session"] - columns["session"].min())
    else:
        keys = _keys_by_date(table, mapping, ids, frame)
    frame, kept, found = resolve_duplicates(
        frame, keys, table.rows, tuple(mapping.variables), mapping.duplicates
    )
    issues += found
    steps = [(total, ids.codes), (len(table.rows), ids.codes), (int(kept.sum()), ids.codes[kept])]
    return _assemble(table, mapping, frame[kept], ids, persons, kept, issues, steps, decimal)


def _assemble(
    table: Table,
    mapping: PanelMapping,
    frame: pd.DataFrame,
    ids: Ids,
    persons: NDArray[np.object_],
    kept: NDArray[np.bool_],
    issues: list[Issue],
    steps: list[tuple[int, Codes]],
    decimal: str,
) -> Content:
    """Sort, check the course of time, look for findings, and count."""
    codes = ids.codes[kept]
    if mapping.order == "date":
        frame, found = number_by_date(frame, codes)
        issues += found
    order = np.lexsort((frame["session"].to_numpy(), codes))
    frame, codes = frame.iloc[order].reset_index(drop=True), codes[order]
    issues += check_order(frame, codes, ids.names, trusted=mapping.order == "session")
    check_day_and_date(frame, codes, ids.names)
    if len(ids.names) > 1 and len(codes) == len(ids.names):
        refuse_one_row_each(len(ids.names), table.header)
    process, outcome, found = choose_roles(mapping)
    timing, more = choose_timing(mapping)
    higher, directions = choose_higher(mapping)
    variables, covariates = tuple(mapping.variables), tuple(mapping.covariates)
    ranges = _variable_ranges(mapping)
    issues += [*found, *more, *directions, *find_items(mapping, table.header)]
    issues += find_all(frame, codes, ids.names, variables, (process, outcome), ranges, covariates)
    frame = frame[_canonical(mapping, frame)]
    flow = _flow(steps, frame, codes, list(variables), persons)
    return Content(
        frame, ids.names, persons, codes, variables, process, outcome, timing,
        higher, ranges, covariates, tuple(issues), flow, decimal,
    )  # fmt: skip


def _canonical(mapping: PanelMapping, frame: pd.DataFrame) -> list[str]:
    roles = ("therapist", "date", "day", "group", "site", "episode", "arm")
    names = ["client", "session", *mapping.variables, *roles, *mapping.covariates]
    return [name for name in names if name in frame]


def _without_blank_rows(table: Table, mapping: PanelMapping, issues: list[Issue]) -> Table:
    empty = blank(table.frame[mapping.client])
    for column in mapping.columns.values():
        if empty.any():
            empty[empty] = blank(table.frame.loc[empty, column])
    if empty.all():
        raise DataError("All mapped columns are empty. Check the export and the mapping.")
    if empty.any():
        said = f"{counted(int(empty.sum()), 'row')} with nothing in the mapped columns removed "
        said += f"({named_rows(table.rows[empty])})."
        issues.append(info("blank-rows", said, int(empty.sum())))
    return table.keep(~empty)


def _read_clients(
    table: Table, mapping: PanelMapping, issues: list[Issue]
) -> tuple[Ids, NDArray[np.object_]]:
    """Read client ids and the person behind each; each episode is a series of its own."""
    column = distinct(table, str(mapping.client))
    people = read_ids(column, "client", mapping.codes_for(column.name, score=False))
    issues += people.issues
    issues += _suspect_texts(column, people, "client")
    refuse_blank(column, people, "client")
    if mapping.episode is None:
        return people, people.names
    column = distinct(table, mapping.episode)
    episodes = read_ids(column, "episode")
    issues += episodes.issues
    refuse_blank(column, episodes, "episode")
    pairs, codes = np.unique(
        people.codes * len(episodes.names) + episodes.codes, return_inverse=True
    )
    who, which = np.divmod(pairs, len(episodes.names))
    several = np.bincount(who)[who] > 1
    names = people.names[who].copy()
    names[several] = [f"{names[i]}/{episodes.names[which[i]]}" for i in np.flatnonzero(several)]
    if len(set(names)) < len(names):
        clash = listed([name for name in people.names if (names == name).sum() > 1])
        raise DataError(
            f"Client {clash} is called like another client's episode. Rename one of them."
        )
    if several.any():
        count = len(set(who[several]))
        returned = counted(count, "client has", "clients have")
        said = f"{returned} more than one episode; each episode is a series of its own, "
        said += f"such as {names[several][0]!r}, although the person is the same."
        issues.append(warning("repeated-episodes", said, count))
    order = np.array(sorted(range(len(names)), key=lambda i: natural(str(names[i]))))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return Ids(names[order], place[codes.ravel()], ()), people.names[who][order]


def _decimal(table: Table, mapping: PanelMapping, issues: list[Issue]) -> str:
    names = [*mapping.variables.values(), *mapping.covariates.values()]
    names += [mapping.day] if mapping.day is not None else []
    if mapping.decimal is not None:
        return mapping.decimal
    texts = [distinct(table, n) for n in names if not _is_number(table.frame[n])]
    decimal = decide_decimal(texts, table.facts.get("delimiter"))
    if decimal == ",":
        issues.append(info("decimal-comma", "Numbers have a decimal comma."))
    return decimal


def _is_number(column: Any) -> bool:
    kinds = pd.api.types
    return bool(kinds.is_numeric_dtype(column.dtype) and not kinds.is_complex_dtype(column.dtype))


def _read_numbers(
    table: Table,
    mapping: PanelMapping,
    column: str,
    decimal: str,
    issues: list[Issue],
    what: str = "scores",
) -> Array:
    """Convert one column to numbers, NaN where blank or declared missing."""
    codes = mapping.codes_for(column, score=True)
    cells = table.frame[column]
    if _is_number(cells):
        values: Array = cells.to_numpy(np.float64, na_value=np.nan, copy=True)
        if np.isinf(values).any():
            raise DataError(
                f"Column {column!r} holds infinite values in "
                f"{named_rows(table.rows[np.isinf(values)])}. Correct them or leave them blank."
            )
        declared = np.isin(values, code_numbers(codes))
        if declared.any():
            said = f"Column {column!r}: declared missing codes were found."
            issues.append(info("missing-codes", said, int(declared.sum())))
        values[declared] = np.nan
        return values
    texts = distinct(table, column)
    numbers = parse(texts, codes, decimal)
    refuse_bad(texts, numbers, what)
    issues += note_cleaning(texts, numbers)
    return numbers.values[texts.codes]


def _variable_ranges(mapping: PanelMapping) -> dict[str, tuple[float, float]]:
    """Return the declared ranges by variable, whether declared by variable or by column."""
    by_column = {column: name for name, column in mapping.variables.items()}
    return {
        key if key in mapping.variables else by_column[key]: limits
        for key, limits in mapping.ranges.items()
        if key in mapping.variables or key in by_column
    }


def _read_scores(
    table: Table, mapping: PanelMapping, name: str, decimal: str, issues: list[Issue]
) -> Array:
    column = mapping.variables[name]
    values = _read_numbers(table, mapping, column, decimal, issues)
    limits = _variable_ranges(mapping).get(name)
    if limits is not None:
        refuse_outside(column, values, table.rows, limits)
    else:
        issues += suspects(name, column, values)
    if np.isnan(values).all():
        raise DataError(
            f"Column {column!r} has no score at all. Is it the right column, or are all of its "
            "values declared missing?"
        )
    return values


def _read_roles(
    table: Table, mapping: PanelMapping, decimal: str, issues: list[Issue]
) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for role in (*ID_ROLES, "episode"):
        name = getattr(mapping, role)
        if name is not None:
            column = distinct(table, name)
            ids = read_ids(column, role, mapping.codes_for(name, score=False))
            issues += [] if role == "episode" else ids.issues
            issues += _suspect_texts(column, ids, role)
            columns[role] = ids.texts()
    if mapping.date is not None:
        rules = DateRules(
            mapping.day_first,
            mapping.date_format,
            mapping.codes_for(mapping.date, score=False),
        )
        columns["date"], found = _read_date(table, mapping.date, rules)
        issues += found
    if mapping.day is not None:
        columns["day"] = _read_numbers(table, mapping, mapping.day, decimal, issues, "elapsed days")
    return columns


def _read_date(table: Table, name: str, rules: DateRules) -> tuple[Any, list[Issue]]:
    cells = table.frame[name]
    if not pd.api.types.is_datetime64_any_dtype(cells.dtype):
        return read_dates(distinct(table, name), rules)
    if getattr(cells.dtype, "tz", None) is not None:
        cells = cells.dt.tz_localize(None)
    empty = cells.isna().to_numpy(bool)
    issues = []
    if empty.any():
        said = f"Column {name!r} has no date in {named_rows(table.rows[empty])}."
        issues.append(info("missing-dates", said, int(empty.sum())))
    return cells.to_numpy().astype("datetime64[us]"), issues


def _suspect_texts(column: Distinct, ids: Ids, role: str) -> list[Issue]:
    odd = [name for name in ids.names if name.casefold() in SUSPECT_TEXTS]
    if not odd:
        return []
    count = int(np.isin(ids.codes, [list(ids.names).index(name) for name in odd]).sum())
    where = f"in {counted(count, 'row')} of column {column.name!r}"
    said = f"The {role} is called {listed(odd)} {where}, read as a name. "
    said += f"If it means missing, declare missing_codes={{{column.name!r}: {odd[:3]!r}}}."
    return [warning("suspect-missing-code", said, count)]


def _read_covariate(
    table: Table, mapping: PanelMapping, column: str, decimal: str, issues: list[Issue]
) -> Any:
    """Read a covariate as numbers if its values are numbers, else as text."""
    if _is_number(table.frame[column]):
        return _read_numbers(table, mapping, column, decimal, issues, "values")
    texts = distinct(table, column)
    codes = mapping.codes_for(column, score=True)
    numbers = parse(texts, codes, decimal)
    words = {str(text).casefold() for text in texts.stripped()[numbers.bad]}
    some = not np.isnan(numbers.values).all()
    if some and words <= SUSPECT_TEXTS:  # numbers, and words that mean "none": ask, do not guess
        refuse_bad(texts, numbers, "values")
    if some and not words:
        issues += note_cleaning(texts, numbers)
        return numbers.values[texts.codes]
    ids = read_ids(texts, "covariate", codes)
    issues += [*ids.issues, *_suspect_texts(texts, ids, "covariate")]
    return ids.texts()


def _keys_by_date(table: Table, mapping: PanelMapping, ids: Ids, frame: pd.DataFrame) -> Codes:
    """Return one key per client and date, where sessions are numbered by date."""
    empty = frame["date"].isna().to_numpy(bool)
    if empty.any():
        raise DataError(
            f"Sessions cannot be numbered by date: column {mapping.date!r} has no date in "
            f"{named_rows(table.rows[empty])}. Fill in the dates or name a session column."
        )
    _, when = np.unique(frame["date"].to_numpy(), return_inverse=True)
    keys: Codes = ids.codes * 2**32 + when.ravel()
    return keys


def _flow(
    steps: list[tuple[int, Codes]],
    frame: pd.DataFrame,
    codes: Codes,
    variables: list[str],
    persons: NDArray[np.object_],
) -> pd.DataFrame:
    """Count rows and clients after each step, and persons where some have several episodes."""
    scored = frame[variables].notna().to_numpy().any(axis=1)
    session = frame["session"].to_numpy()
    follows = np.zeros(len(frame), bool)
    follows[1:] = (np.diff(codes) == 0) & (np.diff(session) == 1) & scored[1:] & scored[:-1]
    steps = [*steps, (int(scored.sum()), codes[scored]), (int(follows.sum()), codes[follows])]
    names = (
        *("rows read", "not blank", "one row per client and session", "with any score"),
        "with any score in the session before too",
    )
    counted = [(name, n, len(np.unique(c))) for name, (n, c) in zip(names, steps, strict=True)]
    flow = pd.DataFrame(counted, columns=["step", "rows", "clients"])
    if len(set(persons)) < len(persons):
        flow["persons"] = [len(set(persons[c])) for _, c in steps]
    return flow
