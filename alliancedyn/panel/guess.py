"""A proposal for the mapping of an export, with a reason for each role, to be confirmed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alliancedyn.checking import named
from alliancedyn.panel.choices import USUAL_TIMING
from alliancedyn.panel.dates import FORMATS
from alliancedyn.panel.identifiers import SESSION
from alliancedyn.panel.issues import joined
from alliancedyn.panel.layout import (
    contact_columns,
    instrument_column,
    refuse_without_session,
    wide_columns,
)
from alliancedyn.panel.mapping import PanelMapping
from alliancedyn.panel.numbers import COMMA, POINT, SUSPECT_NUMBERS, SUSPECT_TEXTS
from alliancedyn.panel.read import load_bytes, read_table
from alliancedyn.panel.table import Distinct, Table, distinct

# Names that exports give to each role, folded (lower case, no separators), the surest first.
NAMES = {
    "client": (
        *("client", "clientid", "clientno", "clientnumber", "patient", "patientid", "pat", "patid"),
        *("recordid", "personid", "subject", "subjectid", "participant", "participantid", "caseid"),
        *("localpatientid", "serviceallocatedpatientid", "code", "id", "pid", "case", "caseno"),
    ),
    "session": (
        *("session", "sessionno", "sessionnumber", "sessionnr", "sess", "sitzung", "sitzungnr"),
        *("redcaprepeatinstance", "zitting", "seance", "visit", "visitno", "wave", "occasion"),
        *("contactno", "contactnumber", "appointmentno", "sessionindex", "time", "week", "t"),
    ),
    "therapist": (
        *("therapist", "therapistid", "therapeut", "clinician", "clinicianid", "counselor"),
        *("counsellor", "counselorid", "counsellorid", "practitioner", "practitionerid"),
        *("provider", "providerid", "employeeid", "careprofessional", "careprofessionalid"),
    ),
    "date": (
        *("sessiondate", "date", "appointmentdate", "admindate", "datum", "eventdate", "qdate"),
        *("assessmentdate", "visitdate", "carecontactdate"),
    ),
    "day": ("day", "days", "elapseddays", "dayssincestart", "dayssincefirst", "dtdays"),
    "group": ("group", "groupid", "therapygroup", "gruppe"),
    "site": ("site", "siteid", "clinic", "clinicid", "redcapdataaccessgroup", "service", "centre"),
    "episode": (
        *("episode", "episodeid", "episodeno", "referralid", "referral", "treatmentepisode"),
        *("periodofcontactid", "pathwayid"),
    ),
    "arm": ("arm", "treatment", "condition", "studyarm", "trialarm"),
}
# Questionnaires by the start of a column name: the variable they measure, and when it is rated.
ALLIANCE = ("wai", "srs", "haq", "sai", "calpas", "alliance", "stass", "sess_rating")
SYMPTOMS = (
    *("phq", "gad", "ors", "oq45", "oq", "core10", "coreom", "core", "bdi", "bsi", "bai", "dass"),
    *("who5", "wsas", "scl", "ces", "symptom", "outcome", "distress", "bsl", "k10", "hads"),
)
TOTALS = ("total", "sum", "score", "mean", "tot", "gesamt", "summe", "skala")
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
        What else should be looked at, such as values that look like missing codes.
    file : str
        Name of the export.
    """

    mapping: PanelMapping
    reasons: dict[str, str]
    unresolved: tuple[str, ...]
    notes: tuple[str, ...]
    file: str

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
        if "session" in self.unresolved and self.mapping.date is not None:
            lines.append('# order = "date"  # instead of a session column: number by date')
        lines.append("# missing_codes = [-9, 999]  # what stands for no score, if anything does")
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
        lines += ["", "# [ranges]  # lowest and highest possible score"]
        lines += [f"# {name} = [0, 100]" for name in self.mapping.variables]
        return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Write a TOML basic string; JSON's escapes are a subset of TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    return " ".join(text.split())


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
        column = _by_name(NAMES[role], columns, set(found.values()), test)
        if column is not None:
            found[role], reasons[role] = column, f"its name, and {CONTENT[role]}"
    if "client" not in found:
        _client_by_content(columns, found, reasons)
    variables = _guess_variables(columns, set(found.values()), reasons)
    people = columns[found["client"]].counts if "client" in found else np.ones(1)
    repeated = people.max() > 1 or "StartDate" in table.header  # Qualtrics: a row per response
    if not {"session", "date"} & set(found) and not repeated and wide_columns(table.header):
        refuse_without_session(table.header, repeats=False)
    timing = {name: when for name, when in USUAL_TIMING.items() if name in variables}
    needed = [role for role in ("client", "session") if role not in found]
    unresolved = [*needed, *(f"variables.{n}" for n in USUAL_TIMING if n not in variables)]
    mapping = PanelMapping(**found, variables=variables, timing=timing)  # type: ignore[arg-type]
    notes = _notes(table, columns, mapping)
    return GuessedMapping(mapping, reasons, tuple(unresolved), tuple(notes), name)


def _without_repeats(header: object) -> list[str]:
    """Return the column names that occur once; a repeated one cannot be mapped."""
    names = list(header)  # type: ignore[call-overload]
    contact = contact_columns(names)  # who a person is helps no mapping
    return [name for name in names if names.count(name) == 1 and name not in contact]


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", name.casefold())


def _by_name(
    names: tuple[str, ...],
    columns: dict[str, Distinct],
    taken: set[str],
    test: Callable[[Distinct], bool],
) -> str | None:
    """Return the column with the surest name whose content fits."""
    folded = {_folded(column): column for column in columns if column not in taken}
    return next((folded[n] for n in names if n in folded and test(columns[folded[n]])), None)


def _filled(column: Distinct) -> list[str]:
    return [text for text in column.stripped() if text]


def _repeats(column: Distinct) -> bool:
    texts = _filled(column)
    return 1 < len(texts) < len(column.rows) or (len(column.rows) < 3 and bool(texts))


def _whole(column: Distinct) -> bool:
    texts = _filled(column)
    return bool(texts) and all(SESSION.fullmatch(text) for text in texts)


def _dated(column: Distinct) -> bool:
    texts = _filled(column)
    return bool(texts) and all(
        any(pattern.fullmatch(text) for pattern in FORMATS.values()) for text in texts
    )


def _numeric(column: Distinct) -> bool:
    """Return whether the column holds numbers, apart from words that mean none."""
    texts = [text for text in _filled(column) if text.casefold() not in SUSPECT_TEXTS]
    return bool(texts) and all(POINT.fullmatch(t) or COMMA.fullmatch(t) for t in texts)


def _named(column: Distinct) -> bool:
    return bool(_filled(column))


TESTS: dict[str, Callable[[Distinct], bool]] = {
    "client": _repeats,
    "session": _whole,
    "therapist": _named,
    "date": _dated,
    "day": _numeric,
    "group": _named,
    "site": _named,
    "episode": _repeats,
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


def _client_by_content(
    columns: dict[str, Distinct], found: dict[str, str], reasons: dict[str, str]
) -> None:
    """Take the first column that makes rows unique together with the session number."""
    if "session" not in found:
        return
    session = columns[found["session"]]
    for name, column in columns.items():
        if name in found.values() or not _repeats(column):
            continue
        pairs = column.codes * len(session.texts) + session.codes
        if len(np.unique(pairs)) == len(pairs):
            found["client"] = name
            reasons["client"] = "together with the session it makes every row unique"
            return


def _guess_variables(
    columns: dict[str, Distinct], taken: set[str], reasons: dict[str, str]
) -> dict[str, str]:
    """Propose the totals of an alliance and a symptom questionnaire."""
    variables = {}
    for name, stems in (("alliance", ALLIANCE), ("symptoms", SYMPTOMS)):
        scored = [
            (_rank(column, stems), column)
            for column, cells in columns.items()
            if column not in taken and _numeric(cells) and _rank(column, stems) is not None
        ]
        if scored:
            column = min(scored, key=lambda pair: pair[0] or (9, 9, 9))[1]
            variables[name] = column
            taken = taken | {column}
            reasons[f"variables.{name}"] = "its name starts like a questionnaire of that kind"
    return variables


def _rank(column: str, stems: tuple[str, ...]) -> tuple[int, int, int] | None:
    """Rank a column as a questionnaire's total: bare name, then a total, then anything numbered."""
    folded = _folded(column)
    bare = folded
    for total in TOTALS:
        bare = bare.removesuffix(total).removeprefix(total)
    places = [i for i, stem in enumerate(stems) if bare.startswith(_folded(stem))]
    if not places:
        return None
    stem = max((_folded(stems[i]) for i in places), key=len)
    rest = bare[len(stem) :]
    item = bool(re.search(r"(?:item|q|i|^)[0-9]+$", rest)) and rest not in {"9", "7", "10", "45"}
    skip = "skip" in rest or "cutoff" in rest or "post" in rest
    kind = 3 if skip else 2 if item else 0 if folded != bare or not rest else 1
    return kind, len(rest), places[0]


def _notes(table: Table, columns: dict[str, Distinct], mapping: PanelMapping) -> list[str]:
    systems = {MARKERS[name] for name in map(str.casefold, table.header) if name in MARKERS}
    notes = [f"The columns look like an export of {system}." for system in sorted(systems)]
    if "redcap_repeat_instrument" in table.header:
        notes.append("Rows without a repeat instance are no sessions; they give values of clients.")
    kind = instrument_column(table.header)
    if kind is not None:
        notes.append(
            f"{kind!r} looks like one row per questionnaire: reshape to a column per score."
        )
    repeated = sorted({name for name in table.header if table.header.count(name) > 1})
    if repeated:
        notes.append(f"Several columns are called {joined([repr(name) for name in repeated])}.")
    if "ors" in _folded(mapping.variables.get("symptoms", "")):
        notes.append("The ORS is higher when clients feel better; read signs with that in mind.")
    for name, column in mapping.variables.items():
        texts = _filled(columns[column])
        words = [text for text in texts if text.casefold() in SUSPECT_TEXTS]
        minus = [t for t in texts if POINT.fullmatch(t) and float(t) in SUSPECT_NUMBERS]
        odd = words + [text for text in minus if float(text) < 0 or abs(float(text)) > 76]
        if odd:
            listing = joined([repr(text) for text in odd])
            notes.append(f"{name} ({column}) holds {listing}: missing codes? Then declare them.")
    return notes
