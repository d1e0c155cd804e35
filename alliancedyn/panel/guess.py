"""A proposal for the mapping of an export, with a reason for each role, to be confirmed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alliancedyn.checking import named
from alliancedyn.errors import DataError
from alliancedyn.panel.choices import USUAL_TIMING
from alliancedyn.panel.dates import FORMATS
from alliancedyn.panel.identifiers import MOST_SESSIONS, SESSION
from alliancedyn.panel.instruments import INSTRUMENTS, folded, good_end, measured, says_total
from alliancedyn.panel.issues import joined, quoted
from alliancedyn.panel.layout import (
    contact_columns,
    instrument_column,
    refuse_without_session,
    wide_columns,
)
from alliancedyn.panel.mapping import PanelMapping
from alliancedyn.panel.names import ROLE_NAMES
from alliancedyn.panel.numbers import (
    COMMA,
    POINT,
    SUSPECT_TEXTS,
    decide_decimal,
    parse,
    suspect_numbers,
)
from alliancedyn.panel.read import load_bytes, read_table
from alliancedyn.panel.sisters import families
from alliancedyn.panel.table import Distinct, Table, distinct

# Ends of column names that are no score of a questionnaire.
NO_SCORES = ("skip", "cutoff", "post", "complete", "version", "valid", "missing", "seconds", "date")
MOSTLY, WORDS = 0.8, 5  # share of numbers in a score column; different texts that may mean none
SAMPLE_ROWS = 20_000
MARKERS = {"redcap_event_name": "REDCap", "ors_skip": "OpenFIT", "total_srs": "OpenFIT"}


@dataclass(frozen=True)
class GuessedMapping:
    """A proposal for a mapping; confirm it before analysing anything.

    Parameters
    ----------
    mapping : PanelMapping
        The roles that were found. It may be incomplete.
    reasons : dict
        Role, or ``variables.<name>``, to why the column was proposed.
    unresolved : tuple of str
        Roles that must be filled in by hand before the export can be read.
    notes : tuple of str
        What else should be looked at, such as items that are no scale.
    missing_codes : tuple of str or number
        Values of the score columns that look as if they meant no score.
    file : str
        Name of the export.
    """

    mapping: PanelMapping
    reasons: dict[str, str]
    unresolved: tuple[str, ...]
    notes: tuple[str, ...]
    file: str
    missing_codes: tuple[str | float, ...] = ()

    @property
    def text(self) -> str:
        """The proposal, a line per role, with its reason."""
        lines = [f"Proposed mapping for {self.file!r}"]
        named = {**self.mapping.roles}
        named |= {f"variables.{name}": column for name, column in self.mapping.variables.items()}
        width = max((len(role) for role in (*named, *self.unresolved)), default=0)
        lines += [f"  {role:<{width}} = {column!r}: {self.reasons[role]}" for role, column in
                  named.items()]  # fmt: skip
        lines += [f"  {role:<{width}} = ?: no column was found; fill it in" for role in
                  self.unresolved]  # fmt: skip
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    def __str__(self) -> str:
        return self.text

    def to_toml(self) -> str:
        """Return the proposal as a commented mapping file.

        Returns
        -------
        str
            `read_sessions` reads it once every unresolved role is filled in.
        """
        lines = [f"# Proposed mapping for {self.file}. Check every line, then use it."]
        lines += [f"# {note}" for note in self.notes]
        for role, column in self.mapping.roles.items():
            lines.append(f"{role} = {_quoted(column)}  # {_comment(self.reasons[role])}")
        lines += [f'# {role} = ""  # fill in' for role in self.unresolved if "." not in role]
        if self.mapping.order == "date":
            lines.append('order = "date"  # no column of session numbers: number them by date')
        if self.mapping.date is not None or self.mapping.day is not None:
            lines.append("# episode_gap = 90  # days without a session that begin a new episode")
        if self.missing_codes:
            codes = ", ".join(_code(code) for code in self.missing_codes)
            lines.append(f"# missing_codes = [{codes}]  # uncomment if they mean no score")
        else:
            lines.append(
                "# missing_codes = [-9, 999]  # what stands for no score, if anything does"
            )
        lines += ["", "[variables]"]
        for name, column in self.mapping.variables.items():
            reason = _comment(self.reasons[f"variables.{name}"])
            lines.append(f"{name} = {_quoted(column)}  # {reason}")
        lines += [
            f'# {role.removeprefix("variables.")} = ""  # fill in'
            for role in self.unresolved
            if role.startswith("variables.")
        ]
        lines += ["", "[timing]  # rated before or after the session? Confirm."]
        lines += [f"{name} = {_quoted(when)}" for name, when in self.mapping.timing.items()]
        lines += ["", "[higher]  # is a higher score better or worse for the client? Confirm."]
        for name, column in self.mapping.variables.items():
            word, why = self.mapping.higher.get(name), good_end(column)
            if word is not None:
                lines.append(f"{name} = {_quoted(word)}  # {_comment(why[1]) if why else ''}")
            else:
                lines.append(f'# {name} = ""  # fill in: "better" or "worse"')
        lines += ["", "# [ranges]  # lowest and highest possible score"]
        lines += [f"# {name} = [0, 100]" for name in self.mapping.variables]
        return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Write a TOML basic string; JSON's escapes are a subset of TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    return " ".join(text.split())


def _code(code: str | float) -> str:
    return _quoted(code) if isinstance(code, str) else f"{code:g}"


@named
def guess_mapping(path: str | Path) -> GuessedMapping:
    """Propose which column plays which role, from names and content.

    Parameters
    ----------
    path : str or Path
        An export as for `read_sessions`.

    Returns
    -------
    GuessedMapping

    Raises
    ------
    DataError
        If the file cannot be read, or is not laid out as one row per client and session.
    """
    raw, name = load_bytes(path)
    table = read_table(raw, name, PanelMapping(), _without_repeats)
    table = table.keep(np.arange(len(table.rows)) < SAMPLE_ROWS)
    columns = {column: distinct(table, column) for column in table.frame}
    found: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for role, test in TESTS.items():
        candidates = _by_name(ROLE_NAMES[role], columns, set(found.values()), test)
        if role == "session":
            candidates = [
                name for name in candidates if not _runs_on(columns[name], columns, found)
            ]
            candidates = sorted(candidates, key=lambda name: not _tells_rows(name, columns, found))
        if candidates:
            found[role], reasons[role] = candidates[0], f"its name, and {CONTENT[role]}"
    if "client" not in found:
        _client_by_content(columns, found, reasons)
    _refuse_wide(columns, found, table)
    variables = _guess_variables(columns, set(found.values()), reasons, table.header)
    needed = [role for role in ("client", "session") if role not in found]
    if "date" in found and "session" not in found:
        needed.remove("session")
        found["order"] = "date"
    unresolved = [*needed, *(f"variables.{n}" for n in USUAL_TIMING if n not in variables)]
    mapping = PanelMapping(
        **found,  # type: ignore[arg-type]
        variables=variables,
        timing={name: when for name, when in USUAL_TIMING.items() if name in variables},
        higher={name: end[0] for name, column in variables.items() if (end := good_end(column))},
    )
    codes, said = _missing_codes(columns, variables, table.facts.get("delimiter"))
    notes = [*_notes(table), *_item_notes(columns, table.header), *said]
    return GuessedMapping(mapping, reasons, tuple(unresolved), tuple(notes), name, codes)


def _refuse_wide(columns: dict[str, Distinct], found: dict[str, str], table: Table) -> None:
    """Refuse one row per client with sessions side by side."""
    repeated = "client" in found and columns[found["client"]].counts.max() > 1
    if repeated or "StartDate" in table.header:  # Qualtrics: a row per response
        return
    alone = any(folded(name) in ROLE_NAMES["client"] for name in columns)
    if (alone or not {"session", "date"} & set(found)) and wide_columns(table.header):
        refuse_without_session(table.header, repeats=False)


def _without_repeats(header: object) -> list[str]:
    """Return the column names that occur once; a repeated one cannot be mapped."""
    names = list(header)  # type: ignore[call-overload]
    contact = contact_columns(names)  # who a person is helps no mapping
    times = Counter(names)
    kept = [name for name in names if times[name] == 1 and name not in contact]
    if not kept:
        raise DataError(f"No column of {joined([quoted(name) for name in names])} can be mapped.")
    return kept


def _by_name(
    names: tuple[str, ...],
    columns: dict[str, Distinct],
    taken: set[str],
    test: Callable[[Distinct], bool],
) -> list[str]:
    """Return the columns whose name is known for a role and whose content fits, surest first."""
    by_name = {folded(column): column for column in columns if column not in taken}
    return [by_name[n] for n in names if n in by_name and test(columns[by_name[n]])]


def _runs_on(column: Distinct, columns: dict[str, Distinct], found: dict[str, str]) -> bool:
    """Tell whether numbers run on over clients, as ids of sessions do and their numbers do not."""
    several = "client" in found and len(columns[found["client"]].texts) > 1
    return several and _repeats(columns[found["client"]]) and column.counts.max() == 1


def _tells_rows(name: str, columns: dict[str, Distinct], found: dict[str, str]) -> bool:
    """Tell whether a column makes rows unique together with the client, and the episode if any."""
    keys = [
        columns[name],
        *(columns[found[role]] for role in ("client", "episode") if role in found),
    ]
    codes = np.zeros(len(keys[0].codes), np.int64)
    for column in keys:
        codes = codes * len(column.texts) + column.codes
    return len(np.unique(codes)) == len(codes)


def _filled(column: Distinct) -> list[str]:
    return [text for text in column.stripped() if text]


def _repeats(column: Distinct) -> bool:
    texts = _filled(column)
    return 1 < len(texts) < len(column.rows) or (len(column.rows) < 3 and bool(texts))


def _whole(column: Distinct) -> bool:
    texts = _filled(column)
    return 0 < len(texts) <= MOST_SESSIONS and all(SESSION.fullmatch(text) for text in texts)


def _dated(column: Distinct) -> bool:
    texts = _filled(column)
    return bool(texts) and all(
        any(pattern.fullmatch(text) for pattern in FORMATS.values()) for text in texts
    )


def _numeric(column: Distinct) -> bool:
    """Return whether the column holds numbers, apart from a few words that may mean none."""
    texts, counts = column.stripped(), column.counts
    numbers = np.array([bool(POINT.fullmatch(t) or COMMA.fullmatch(t)) for t in texts], bool)
    words = (texts != "") & ~numbers
    known = all(str(text).casefold() in SUSPECT_TEXTS for text in texts[words])
    few = words.sum() <= WORDS and counts[numbers].sum() >= MOSTLY * counts[texts != ""].sum()
    return bool(numbers.any()) and (known or bool(few))


def _named(column: Distinct) -> bool:
    return bool(_filled(column))


TESTS: dict[str, Callable[[Distinct], bool]] = {
    "client": _repeats,
    "episode": _repeats,
    "session": _whole,
    "therapist": _named,
    "date": _dated,
    "day": _numeric,
    "group": _named,
    "site": _named,
    "arm": _repeats,
}
CONTENT = {
    "client": "its values repeat over rows",
    "session": "it holds whole numbers",
    "therapist": "it is filled",
    "date": "it holds dates",
    "day": "it holds numbers",
    "group": "it is filled",
    "site": "it is filled",
    "episode": "its values repeat over rows",
    "arm": "its values repeat over rows",
}


def _fractional(column: Distinct) -> bool:
    """Tell whether a column holds measurements: numbers with a fraction."""
    texts = _filled(column)
    return any(re.fullmatch(r"-?[0-9]*[.,][0-9]*[1-9]", text) for text in texts)


def _client_by_content(
    columns: dict[str, Distinct], found: dict[str, str], reasons: dict[str, str]
) -> None:
    """Take the first column that makes rows unique together with the session number."""
    if "session" not in found:
        return
    for name, column in columns.items():
        if name in found.values() or not _repeats(column) or _fractional(column):
            continue
        if measured(name) is None and _tells_rows(name, columns, {"client": found["session"]}):
            found["client"] = name
            reasons["client"] = "together with the session it makes every row unique"
            return


def _guess_variables(
    columns: dict[str, Distinct], taken: set[str], reasons: dict[str, str], header: Sequence[str]
) -> dict[str, str]:
    """Propose the totals of an alliance and a symptom questionnaire, never one of its items."""
    sisters = {name for family in families(header, 2) for name in family.columns}
    variables = {}
    for kind in USUAL_TIMING:
        others = taken | sisters
        ranks = {
            name: rank
            for name, cells in columns.items()
            if name not in others and (rank := _rank(name, kind)) and _numeric(cells)
        }
        if ranks:
            variables[kind] = column = min(ranks, key=lambda name: (*ranks[name], -_longest(name)))
            taken = taken | {column}
            said = (measured(column) or ("", 0, "", ""))[3]
            part = ranks[column][2] > 0 and said != ""
            said = f"{said}; it may be a part of it: is there a total?" if part else said
            reasons[f"variables.{kind}"] = f"its name holds {said}"
    return variables


def _longest(column: str) -> int:
    """Return the largest number in a name: of PHQ-2 and PHQ-9 the longer form is meant."""
    return max((int(number) for number in re.findall(r"[0-9]{1,4}", column)), default=0)


def _rank(column: str, kind: str) -> tuple[int, bool, int, int] | None:
    """Rank a column as a total of that kind, the surest lowest; None if it is none."""
    found = measured(column)
    if found is None or found[0] != kind or folded(column).endswith(NO_SCORES):
        return None
    _, plain, rest, said = found
    place = next((i for i, one in enumerate(INSTRUMENTS.values()) if said.endswith(one.name)), 99)
    if re.search(r"[0-9]$", rest):  # a number left over is that of an item or a session
        return None
    return plain, bool(rest) or not says_total(column), len(rest), place


def _item_notes(columns: dict[str, Distinct], header: Sequence[str]) -> list[str]:
    """Say what to do with sister columns that look like items of a known questionnaire."""
    notes = []
    for family in families(header, 2):
        kind = measured(family.columns[0])
        if kind is None or not all(_numeric(columns[n]) for n in family.columns if n in columns):
            continue
        if len(family.columns) == 2:
            notes.append(
                f"{family.listing} differ in a number only: two raters, two items or two "
                "sessions? If one of them is the score, name it under [variables]."
            )
            continue
        totals = family.totals(header)
        remedy = (
            f"{joined([repr(name) for name in totals])} looks like their total."
            if totals
            else f"Score them first, one total per row, and name that as {kind[0]}."
        )
        notes.append(f"{family.listing} look like the items of one scale ({kind[3]}). {remedy}")
    return notes


def _missing_codes(
    columns: dict[str, Distinct], variables: dict[str, str], delimiter: str | None
) -> tuple[tuple[str | float, ...], list[str]]:
    """Return what looks like missing codes in the score columns, and a note per column."""
    codes: list[str | float] = []
    notes = []
    for name, column in variables.items():
        cells = columns[column]
        try:
            decimal = decide_decimal([cells], delimiter)
        except DataError:  # reading will ask
            decimal = "."
        numbers = parse(cells, (), decimal)
        words = [str(text) for text in cells.stripped()[numbers.bad]]
        seen, _, odd = suspect_numbers(numbers.values[cells.codes])
        mine: list[str | float] = [*words, *(float(value) for value in seen[odd])]
        if mine:
            listing = joined(
                [repr(code if isinstance(code, str) else f"{code:g}") for code in mine]
            )
            notes.append(f"{name} ({column}) holds {listing}: missing codes? Then declare them.")
        codes += [code for code in mine if code not in codes]
    return tuple(codes), notes


def _notes(table: Table) -> list[str]:
    systems = {MARKERS[name] for name in map(str.casefold, table.header) if name in MARKERS}
    notes = [f"The columns look like an export of {system}." for system in sorted(systems)]
    if "redcap_repeat_instrument" in table.header:
        notes.append("Rows without a repeat instance are no sessions; they give values of clients.")
    notes += [one.message for one in table.issues if one.code in ("header-below", "header-rows")]
    contact = contact_columns(table.header)
    if contact:
        notes.append(f"Who a person is was not looked at: {joined([quoted(c) for c in contact])}.")
    kind = instrument_column(table.header)
    if kind is not None:
        notes.append(
            f"{kind!r} looks like one row per questionnaire: reshape to a column per score."
        )
    repeated = sorted(name for name, times in Counter(table.header).items() if times > 1)
    if repeated:
        notes.append(f"Several columns are called {joined([repr(name) for name in repeated])}.")
    return notes
