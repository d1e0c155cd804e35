"""What each column of an export means: given in arguments, in a TOML file, or in both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from alliancedyn.allowed import shown
from alliancedyn.errors import DataError
from alliancedyn.panel.issues import joined, quoted
from alliancedyn.panel.layout import instrument_column, wide_columns
from alliancedyn.panel.sisters import check_items
from alliancedyn.panel.source import LARGEST_TOML, parse_toml, read_bytes
from alliancedyn.panel.table import close_to

Code = str | int | float
ROLES = ("client", "session", "therapist", "date", "day", "group", "site", "episode", "arm")
TEXT_OPTIONS = ("process", "outcome", "date_format", "encoding", "delimiter", "decimal", "sha256")
CHOICES = {
    "duplicates": ("error", "first", "last", "mean", "most_complete"),
    "order": ("date", "session"),
    "decimal": (".", ","),
}
TIMINGS = ("before", "after", "unknown")
DIRECTIONS = ("better", "worse", "unknown")
KEYS = (
    *ROLES,
    *("variables", "covariates", "timing", "higher", "missing_codes", "ranges", "duplicates"),
    *("order", "episode_gap", "single_items", "day_first", "sheet", *TEXT_OPTIONS),
)
REPEAT = "redcap_repeat_instance"
LARGEST_CODE = 10**15
OPTIONS = ("order", "duplicates", "episode_gap", "single_items", "missing_codes", "day_first")
RESERVED = "[](),@|="


@dataclass(frozen=True)
class PanelMapping:
    """Which column plays which role, and how its values are written.

    Every role is a column name of the export or None. ``variables`` and ``covariates`` give
    canonical names to columns. The options are those of `read_sessions`.
    """

    client: str | None = None
    session: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    therapist: str | None = None
    date: str | None = None
    day: str | None = None
    group: str | None = None
    site: str | None = None
    episode: str | None = None
    arm: str | None = None
    covariates: dict[str, str] = field(default_factory=dict)
    process: str | None = None
    outcome: str | None = None
    timing: dict[str, str] = field(default_factory=dict)
    higher: dict[str, str] = field(default_factory=dict)
    missing_codes: tuple[Code, ...] | dict[str, tuple[Code, ...]] = ()
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    duplicates: str = "error"
    order: str | None = None
    episode_gap: float | None = None
    single_items: tuple[str, ...] = ()
    day_first: bool | None = None
    date_format: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    sheet: str | int | None = None
    sha256: str | None = None

    @property
    def roles(self) -> dict[str, str]:
        """Column of each role that has one, in canonical order."""
        return {role: getattr(self, role) for role in ROLES if getattr(self, role) is not None}

    @property
    def columns(self) -> dict[str, str]:
        """Column of everything mapped: roles, variables and covariates."""
        return {**self.roles, **self.variables, **self.covariates}

    def codes_for(self, column: str, *, score: bool) -> tuple[Code, ...]:
        """Return the missing codes of a column; a list for the whole file concerns numbers only."""
        if not isinstance(self.missing_codes, dict):
            return self.missing_codes if score else ()
        names = [name for name, mapped in self.columns.items() if mapped == column]
        return tuple(
            code
            for key in (column, *names)
            for code in self.missing_codes.get(key, ())
            if key == column or key not in self.columns.values()
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what was said, without what was left open; the record kept with a panel."""
        return {key: value for key, value in asdict(self).items() if value not in (None, (), {})}


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a mapping file.

    Raises
    ------
    DataError
        If it cannot be found, is no TOML, or has a key that means nothing.
    """
    path = Path(path).expanduser()
    try:
        raw = read_bytes(path, LARGEST_TOML)
    except FileNotFoundError:
        raise DataError(f"There is no mapping file {path.name!r}. Check its path.") from None
    try:
        values = parse_toml(raw)
    except ValueError as problem:
        raise DataError(
            f"The mapping {path.name!r} is no readable TOML: {problem}. Correct that line."
        ) from None
    unknown = [key for key in values if key not in KEYS]
    if unknown:
        near = close_to(unknown[0], KEYS)
        hint = f" Did you mean {near[0]!r}?" if near else f" Known keys: {', '.join(KEYS)}."
        raise DataError(f"The mapping {path.name!r} has unknown {_keys(unknown)}.{hint}")
    _refuse_misplaced(values, path.name)
    return values


def _refuse_misplaced(values: Mapping[str, Any], name: str) -> None:
    """Refuse an option below the head of a table, which TOML takes for a part of that table."""
    scores = values.get("variables", {})
    named = [*scores, *scores.values()] if isinstance(scores, dict) else []
    for table in ("variables", "timing", "higher", "ranges"):
        under = values.get(table)
        for key in under if isinstance(under, dict) else ():
            if key in OPTIONS and (table == "variables" or key not in named):
                raise DataError(
                    f"In the mapping {name!r}, {key} stands under [{table}] and so belongs to it. "
                    "Move it above the first [table] of the file."
                )


def _keys(names: Sequence[str]) -> str:
    return f"key{'s' if len(names) > 1 else ''} {joined([repr(name) for name in names])}"


def build_mapping(values: Mapping[str, Any]) -> PanelMapping:
    """Check what was said about the columns and put it into one form.

    Parameters
    ----------
    values : mapping
        Options of `read_sessions`; those that are None or empty count as not said.

    Returns
    -------
    PanelMapping

    Raises
    ------
    DataError
        If an option has the wrong form, or options contradict each other.
    """
    said = {key: value for key, value in values.items() if value is not None}
    for key in (*ROLES, *TEXT_OPTIONS):
        if key in said and not isinstance(said[key], str):
            raise DataError(f"{key} must be a text, not {shown(said[key])}.")
    for key, choices in CHOICES.items():
        if key in said and not (isinstance(said[key], str) and said[key] in choices):
            listing = joined([repr(choice) for choice in choices], len(choices))
            raise DataError(f"{key} must be one of {listing}, not {shown(said[key])}.")
    variables = _named_columns(said.get("variables", {}), "variables")
    covariates = _named_columns(said.get("covariates", ()), "covariates")
    _check_names(variables, covariates)
    forms: dict[str, Any] = {
        "variables": variables,
        "covariates": covariates,
        "timing": _words(said.get("timing", {}), variables, "timing", TIMINGS),
        "higher": _words(said.get("higher", {}), variables, "higher", DIRECTIONS),
        "missing_codes": _missing_codes(said.get("missing_codes", ())),
        "ranges": _ranges(said.get("ranges", {})),
        "single_items": _single_items(said.get("single_items", ()), variables),
    }
    gap = said.get("episode_gap", 1)
    if isinstance(gap, bool) or not isinstance(gap, int | float) or not 0 < gap < math.inf:
        raise DataError(f"episode_gap must be a number of days above zero, not {shown(gap)}.")
    if not isinstance(said.get("day_first", False), bool):
        raise DataError(f"day_first must be true or false, not {shown(said['day_first'])}.")
    if isinstance(said.get("sheet", ""), bool) or not isinstance(said.get("sheet", ""), str | int):
        raise DataError(f"sheet must be a name or a number from 1, not {shown(said['sheet'])}.")
    mapping = PanelMapping(**(said | forms))
    _check_roles(mapping)
    return mapping


def _named_columns(said: Any, what: str) -> dict[str, str]:
    if isinstance(said, str):
        raise DataError(f"{what} must be a table or a list of columns, not the text {shown(said)}.")
    if not isinstance(said, Mapping | Sequence):
        raise DataError(f"{what} must be a table name = column, not {shown(said)}.")
    pairs = said.items() if isinstance(said, Mapping) else zip(said, said, strict=True)
    named: dict[str, str] = {}
    for name, column in pairs:
        if not isinstance(column, str) or not column or not isinstance(name, str) or not name:
            raise DataError(f"{what}: {shown(name)} must name one column, not {shown(column)}.")
        named[name] = column
    return named


def _check_names(variables: dict[str, str], covariates: dict[str, str]) -> None:
    both = [name for name in covariates if name in variables]
    if both:
        raise DataError(f"{joined([repr(name) for name in both])} is a variable and a covariate.")
    for name in (*variables, *covariates):
        if name in ROLES:
            raise DataError(
                f"A variable or covariate cannot be called {name!r}, which is a role. Give it "
                f"another name, e.g. {{'{name}_score': '{name}'}}."
            )
    for name in variables:
        if set(name) & set(RESERVED) or name != name.strip() or name.endswith(".trend"):
            raise DataError(
                f"The variable name {name!r} would be ambiguous in parameter names. Use letters, "
                "digits, '_' and '-'."
            )


def _words(
    said: Any, variables: dict[str, str], what: str, words: tuple[str, ...]
) -> dict[str, str]:
    """Check a table variable = word, such as when a score is rated or which end of it is good."""
    listing = joined([repr(word) for word in words], len(words))
    if not isinstance(said, Mapping):
        raise DataError(f"{what} must be a table variable = one of {listing}, not {shown(said)}.")
    for name, word in said.items():
        if name not in variables:
            names = joined([repr(variable) for variable in variables])
            raise DataError(f"{what} names {name!r}, which is not among the variables {names}.")
        if word not in words:
            raise DataError(f"{what} of {name!r} must be one of {listing}, not {shown(word)}.")
    return dict(said)


def _single_items(said: Any, variables: dict[str, str]) -> tuple[str, ...]:
    """Check the list of variables, by name or column, that are single items on purpose."""
    if isinstance(said, str):
        said = (said,)
    if not isinstance(said, Sequence) or not all(isinstance(one, str) for one in said):
        raise DataError(f"single_items must be a list of columns, not {said!r}.")
    strange = [one for one in said if one not in {*variables, *variables.values()}]
    if strange:
        raise DataError(
            f"single_items names {joined([repr(one) for one in strange])}, which is no variable or "
            "its column."
        )
    return tuple(said)


def _missing_codes(said: Any) -> tuple[Code, ...] | dict[str, tuple[Code, ...]]:
    if isinstance(said, Mapping):
        return {str(key): _codes(codes) for key, codes in said.items()}
    return _codes(said)


def _codes(said: Any) -> tuple[Code, ...]:
    if isinstance(said, str | int | float):
        said = (said,)
    if not isinstance(said, Sequence):
        raise DataError(f"missing_codes must be a list, or a list per column, not {shown(said)}.")
    for code in said:
        if not isinstance(code, str | int | float) or isinstance(code, bool):
            raise DataError(f"A missing code is a number or a text, not {shown(code)}.")
        if isinstance(code, int) and abs(code) > LARGEST_CODE:
            raise DataError(f"A missing code cannot be as large as {shown(code)}.")
    return tuple(said)


def _numbers(limits: Any) -> Any:
    if isinstance(limits, str | bytes | Mapping):
        raise TypeError
    return limits


def _ranges(said: Any) -> dict[str, tuple[float, float]]:
    if not isinstance(said, Mapping):
        raise DataError(f"ranges must be a table variable = [lowest, highest], not {shown(said)}.")
    ranges = {}
    for name, limits in said.items():
        try:
            low, high = (float(limit) for limit in _numbers(limits))
        except (TypeError, ValueError, OverflowError):
            raise DataError(
                f"The range of {name!r} must be [lowest, highest], not {shown(limits)}."
            ) from None
        if math.isnan(low) or math.isnan(high) or low >= high:
            raise DataError(f"The range of {name!r} must rise, not {low:g} to {high:g}.")
        ranges[str(name)] = (low, high)
    return ranges


def _check_roles(mapping: PanelMapping) -> None:
    """Check what cannot be judged option by option."""
    if mapping.client is None:
        raise DataError(
            'No client column is named. Pass client="...", or let guess_mapping propose a mapping.'
        )
    if len(mapping.variables) < 2:
        raise DataError(
            "Name at least two score columns, e.g. "
            'variables={"alliance": "wai", "symptoms": "phq9"}.'
        )
    for role in ("process", "outcome"):
        name = getattr(mapping, role)
        if name is not None and name not in mapping.variables:
            listing = joined([repr(variable) for variable in mapping.variables])
            raise DataError(f"{role}={quoted(name)} is not among the variables {listing}.")
    if mapping.process is not None and mapping.process == mapping.outcome:
        raise DataError(f"process and outcome must differ, both are {mapping.process!r}.")
    if mapping.order == "date" and mapping.date is None:
        raise DataError('order="date" needs the column of the dates: pass date="...".')
    if mapping.episode_gap is not None and mapping.date is None and mapping.day is None:
        raise DataError('episode_gap needs dates or elapsed days: pass date="..." or day="...".')
    for option in ("ranges", "missing_codes"):
        keys = getattr(mapping, option)
        named = mapping.columns if option == "missing_codes" else mapping.variables
        known = {*named, *named.values()}
        strange = [key for key in keys if isinstance(keys, dict) and key not in known]
        if strange:
            near = close_to(strange[0], sorted(known))
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise DataError(
                f"{option} names {joined([repr(key) for key in strange])}, which is no variable "
                f"or mapped column.{hint}"
            )


def check_columns(mapping: PanelMapping, header: Sequence[str]) -> list[str]:
    """Return the columns to load, in canonical order.

    Parameters
    ----------
    mapping : PanelMapping
    header : sequence of str
        Column names of the table.

    Returns
    -------
    list of str
        REDCap's number of the repeat comes along where it is: it tells sessions from other rows.

    Raises
    ------
    DataError
        If a column is absent, mapped twice, its name occurs twice in the table, or a variable is
        one item of a scale.
    """
    places: dict[str, list[str]] = {}
    for name, column in mapping.columns.items():
        places.setdefault(column, []).append(name)
    absent = [column for column in places if column not in header]
    if absent:
        _refuse_absent(absent, list(header), places)
    twice = [column for column, names in places.items() if len(names) > 1]
    if twice:
        names = joined([repr(name) for name in places[twice[0]]])
        kind = instrument_column(header)
        hint = (
            f" {kind!r} looks like one row per questionnaire: reshape it to one column per score."
            if kind is not None and kind != twice[0]
            else " Give each its own column."
        )
        raise DataError(f"Column {twice[0]!r} is mapped twice, as {names}.{hint}")
    repeated = [column for column in places if list(header).count(column) > 1]
    if repeated:
        raise DataError(
            f"Several columns are called {joined([repr(column) for column in repeated])}. Give "
            "each column a name of its own."
        )
    check_items(mapping, header)
    beside = [REPEAT] if REPEAT not in places and list(header).count(REPEAT) == 1 else []
    return [*places, *beside]


def _refuse_absent(absent: list[str], header: list[str], places: dict[str, list[str]]) -> None:
    hints = []
    for column in absent[:3]:
        near = close_to(column, header)
        if near:
            hints.append(f"{quoted(column)} may be {joined([quoted(name) for name in near])}")
    wide = wide_columns(header)
    if hints:
        hint = f" Closest: {'; '.join(hints)}."
    elif "session" in places.get(absent[0], []) and wide:
        hint = f" {joined([quoted(name) for name in wide])} look like sessions side by side."
    else:
        hint = f" It has {joined([quoted(name) for name in header], 8)}."
    word = "columns" if len(absent) > 1 else "column"
    raise DataError(
        f"The table has no {word} {joined([quoted(column) for column in absent])}, named in the "
        f"mapping.{hint}"
    )
