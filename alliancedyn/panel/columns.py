"""What stands in the columns of a table: scores, ids, dates and covariates, by the mapping."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.errors import DataError, listed
from alliancedyn.panel.dates import DateRules, read_dates
from alliancedyn.panel.identifiers import Ids, read_ids
from alliancedyn.panel.intake import ID_ROLES
from alliancedyn.panel.issues import Issue, counted, info, named_rows, warning
from alliancedyn.panel.mapping import PanelMapping
from alliancedyn.panel.numbers import (
    LOGICAL,
    SUSPECT_TEXTS,
    code_numbers,
    decide_decimal,
    note_cleaning,
    parse,
    refuse_bad,
    refuse_extreme,
    refuse_outside,
    suspects,
)
from alliancedyn.panel.table import Distinct, Table, distinct, is_number

Array = NDArray[np.float64]


def choose_decimal(table: Table, mapping: PanelMapping, issues: list[Issue]) -> str:
    """Return the decimal mark: the caller's, else by evidence over all columns of numbers."""
    names = [*mapping.variables.values(), *mapping.covariates.values()]
    names += [mapping.day] if mapping.day is not None else []
    if mapping.decimal is not None:
        return mapping.decimal
    texts = [distinct(table, n) for n in names if not is_number(table.frame[n])]
    decimal = decide_decimal(texts, table.facts.get("delimiter"))
    if decimal == ",":
        issues.append(info("decimal-comma", "Numbers have a decimal comma."))
    return decimal


def read_numbers(
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
    if is_number(cells):
        values: Array = cells.to_numpy(np.float64, copy=True)
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
        refuse_extreme(column, values, table.rows)
        return values
    texts = distinct(table, column)
    numbers = parse(texts, codes, decimal)
    refuse_bad(texts, numbers, what)
    issues += note_cleaning(texts, numbers)
    refuse_extreme(column, numbers.values[texts.codes], table.rows)
    return numbers.values[texts.codes]


def variable_ranges(mapping: PanelMapping) -> dict[str, tuple[float, float]]:
    """Return the declared ranges by variable, whether declared by variable or by column."""
    by_column = {column: name for name, column in mapping.variables.items()}
    return {
        key if key in mapping.variables else by_column[key]: limits
        for key, limits in mapping.ranges.items()
        if key in mapping.variables or key in by_column
    }


def read_scores(
    table: Table, mapping: PanelMapping, name: str, decimal: str, issues: list[Issue]
) -> Array:
    """Read the scores of one variable, within their range if one is declared, (n,)."""
    column = mapping.variables[name]
    values = read_numbers(table, mapping, column, decimal, issues)
    limits = variable_ranges(mapping).get(name)
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


def read_id_roles(table: Table, mapping: PanelMapping, issues: list[Issue]) -> dict[str, Any]:
    """Read therapists, groups, sites, arms and episodes as ids, each (n,), None where blank."""
    columns: dict[str, Any] = {}
    for role in (*ID_ROLES, "episode"):
        name = getattr(mapping, role)
        if name is not None:
            column = distinct(table, name)
            ids = read_ids(column, role, mapping.codes_for(name, score=False))
            issues += [] if role == "episode" else ids.issues
            issues += suspect_texts(column, ids, role)
            columns[role] = ids.texts()
    return columns


def read_date(table: Table, name: str, rules: DateRules) -> tuple[Any, list[Issue]]:
    """Read a column of dates, texts or typed ones, (n,)."""
    if table.frame[name].dtype.kind == "M":  # dates by type need no format
        rules = replace(rules, date_format=None)
    return read_dates(distinct(table, name), rules)


def suspect_texts(column: Distinct, ids: Ids, role: str) -> list[Issue]:
    """Report ids that look like words for "missing"."""
    words = [name.casefold() for name in ids.names]
    strange = SUSPECT_TEXTS if set(words) <= LOGICAL else SUSPECT_TEXTS | LOGICAL
    odd = [name for name, word in zip(ids.names, words, strict=True) if word in strange]
    if not odd:
        return []
    count = int(np.isin(ids.codes, [list(ids.names).index(name) for name in odd]).sum())
    where = f"in {counted(count, 'row')} of column {column.name!r}"
    said = f"The {role} is called {listed(odd)} {where}, read as a name. "
    said += f"If it means missing, declare missing_codes={{{column.name!r}: {odd[:3]!r}}}."
    return [warning("suspect-missing-code", said, count)]


def read_covariate(
    table: Table, mapping: PanelMapping, column: str, decimal: str, issues: list[Issue]
) -> Any:
    """Read a covariate as numbers if its values are numbers, else as text."""
    if is_number(table.frame[column]):
        return read_numbers(table, mapping, column, decimal, issues, "values")
    texts = distinct(table, column)
    codes = mapping.codes_for(column, score=True)
    numbers = parse(texts, codes, decimal)
    words = {str(text).casefold() for text in texts.stripped()[numbers.bad]}
    some = not np.isnan(numbers.values).all()
    strange = SUSPECT_TEXTS | LOGICAL
    if some and words <= strange:  # numbers, and words that mean "none": ask, do not guess
        refuse_bad(texts, numbers, "values")
    if some and not words:
        issues += note_cleaning(texts, numbers)
        refuse_extreme(column, numbers.values[texts.codes], table.rows)
        return numbers.values[texts.codes]
    ids = read_ids(texts, "covariate", codes)
    issues += [*ids.issues, *suspect_texts(texts, ids, "covariate")]
    return ids.texts()
