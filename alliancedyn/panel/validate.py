"""A table and a mapping become the content of a panel: each step checks, converts and counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import DataError
from alliancedyn.panel.choices import choose_higher, choose_roles, choose_timing
from alliancedyn.panel.chronology import check_day_and_date, check_order, number_by_date
from alliancedyn.panel.columns import (
    choose_decimal,
    read_covariate,
    read_date,
    read_id_roles,
    read_numbers,
    read_scores,
    suspect_texts,
    variable_ranges,
)
from alliancedyn.panel.dates import DateRules
from alliancedyn.panel.duplicates import (
    find_counted_apart,
    join_by_day,
    lend_time,
    resolve_duplicates,
)
from alliancedyn.panel.episodes import Series, by_column, by_pause
from alliancedyn.panel.findings import find_all
from alliancedyn.panel.identifiers import (
    Ids,
    read_ids,
    read_sessions_column,
    refuse_blank,
    unfilled,
)
from alliancedyn.panel.intake import set_apart
from alliancedyn.panel.issues import Issue, counted, info, named_rows
from alliancedyn.panel.layout import refuse_one_row_each, refuse_without_session
from alliancedyn.panel.mapping import REPEAT, PanelMapping
from alliancedyn.panel.pauses import find_pauses
from alliancedyn.panel.sisters import find_items
from alliancedyn.panel.table import Table, blank, distinct

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]


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
        names = distinct(table, str(mapping.client))
        several = (names.counts > 1) & (names.stripped() != "")
        refuse_without_session(table.header, repeats=bool(several.any()))
    issues = list(table.issues)
    total = len(table.rows)
    table = _without_blank_rows(table, mapping, issues)
    present = len(table.rows)
    decimal = choose_decimal(table, mapping, issues)
    columns: dict[str, Any] = {}
    for name in mapping.variables:
        columns[name] = read_scores(table, mapping, name, decimal, issues)
    away = _no_sessions(table, mapping, columns)
    columns |= read_id_roles(table, mapping, issues)
    for name, column in mapping.covariates.items():
        columns[name] = read_covariate(table, mapping, column, decimal, issues)
    frame = pd.DataFrame(columns)
    people = _read_people(table, mapping, issues)
    everyone = len(people.names)
    if away.any():
        what = "date" if mapping.session is None else "session number"
        frame, found = set_apart(frame, away, people, table.rows, tuple(mapping.covariates), what)
        issues += found
        table = table.keep(~away)
        people = read_ids(distinct(table, str(mapping.client)), "client", _id_codes(mapping))
    series = Series(people, people.names)
    if mapping.episode is not None:
        series = by_column(people, distinct(table, mapping.episode))
    frame = _read_time(table, mapping, decimal, frame, issues)
    frame.insert(0, "client", series.ids.texts())
    if mapping.episode_gap is not None:
        if mapping.session is not None:
            frame = lend_time(frame, _keys(table, mapping, series.ids, frame))
        frame, series = by_pause(frame, series, mapping.episode_gap, table.rows)
    issues += series.issues
    ids, persons = series.ids, series.persons
    keys = _keys(table, mapping, ids, frame)
    frame, kept, found = resolve_duplicates(
        frame, keys, table.rows, tuple(mapping.variables), mapping.duplicates
    )
    issues += found
    if mapping.date is not None:
        undated = table.rows[kept & frame["date"].isna().to_numpy(bool)]
        said = f"Column {mapping.date!r} has no date in {named_rows(undated)}."
        issues += [info("missing-dates", said, len(undated))] if len(undated) else []
    lost = everyone - len(people.names)  # clients without any session
    steps = [
        ("rows read", total, ids.codes, lost),
        ("not blank", present, ids.codes, lost),
        *([("sessions, not only clients", len(table.rows), ids.codes, 0)] if away.any() else []),
        ("one row per client and session", int(kept.sum()), ids.codes[kept], 0),
    ]
    return _assemble(table, mapping, frame[kept], ids, persons, kept, issues, steps, decimal)


def _assemble(
    table: Table,
    mapping: PanelMapping,
    frame: pd.DataFrame,
    ids: Ids,
    persons: NDArray[np.object_],
    kept: NDArray[np.bool_],
    issues: list[Issue],
    steps: list[tuple[str, int, Codes, int]],
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
    ranges = variable_ranges(mapping)
    issues += [*found, *more, *directions, *find_items(mapping, table.header)]
    if mapping.episode_gap is None:
        issues += find_pauses(frame, codes, len(set(persons)))
    if mapping.order != "date" and any(one.code == "rows-joined" for one in issues):
        scores = frame[list(variables)].to_numpy(np.float64)
        session = frame["session"].to_numpy()
        issues += find_counted_apart(session, scores, codes, variables)
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


def _id_codes(mapping: PanelMapping) -> tuple[object, ...]:
    return mapping.codes_for(str(mapping.client), score=False)


def _read_people(table: Table, mapping: PanelMapping, issues: list[Issue]) -> Ids:
    column = distinct(table, str(mapping.client))
    people = read_ids(column, "client", _id_codes(mapping))
    issues += people.issues
    issues += suspect_texts(column, people, "client")
    refuse_blank(column, people, "client")
    return people


def _no_sessions(table: Table, mapping: PanelMapping, scores: dict[str, Any]) -> Mask:
    """Return which rows have no session number, or no date to number by, and no score, (n,)."""
    name = str(mapping.date if mapping.session is None else mapping.session)
    absent = unfilled(distinct(table, name), mapping.codes_for(name, score=False))
    if (
        mapping.session is None and REPEAT in table.frame
    ):  # REDCap: a dated row of an event that does not repeat
        once = blank(table.frame[REPEAT])
        absent |= once & ~once.all()
    for values in scores.values():
        absent &= np.isnan(values)
    return absent


def _read_time(
    table: Table,
    mapping: PanelMapping,
    decimal: str,
    frame: pd.DataFrame,
    issues: list[Issue],
) -> pd.DataFrame:
    """Read session numbers, dates and elapsed days."""
    frame = frame.copy()
    if mapping.session is not None:
        codes = mapping.codes_for(mapping.session, score=False)
        frame["session"] = read_sessions_column(distinct(table, mapping.session), codes)
    if mapping.date is not None:
        codes = mapping.codes_for(mapping.date, score=False)
        rules = DateRules(
            mapping.day_first, mapping.date_format, codes, table.facts.get("dates", 1900)
        )
        frame["date"], found = read_date(table, mapping.date, rules)
        issues += found
    if mapping.day is not None:
        frame["day"] = read_numbers(table, mapping, mapping.day, decimal, issues, "elapsed days")
    return frame


def _keys(table: Table, mapping: PanelMapping, ids: Ids, frame: pd.DataFrame) -> Codes:
    """Return one key per client and session, (n,)."""
    if mapping.session is None:
        return _keys_by_date(table, mapping, ids, frame)
    session = frame["session"].to_numpy()
    keys: Codes = ids.codes * 2**32 + (session - session.min())
    return keys


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
    return join_by_day(frame, keys, ids.codes, tuple(mapping.variables))


def _flow(
    steps: list[tuple[str, int, Codes, int]],
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
    steps = [
        *steps,
        ("with any score", int(scored.sum()), codes[scored], 0),
        ("with any score in the session before too", int(follows.sum()), codes[follows], 0),
    ]
    counted = [(name, n, len(np.unique(c)) + lost) for name, n, c, lost in steps]
    flow = pd.DataFrame(counted, columns=["step", "rows", "clients"])
    if len(set(persons)) < len(persons):
        flow["persons"] = [len(set(persons[c])) + lost for _, _, c, lost in steps]
    return flow
