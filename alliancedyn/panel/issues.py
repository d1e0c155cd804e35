"""Findings that travel with a panel: what was noticed, how often, and what it means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from alliancedyn.checking import checked
from alliancedyn.errors import Message, identified

LONGEST = 40  # characters of a cell that a message shows
SEVERITIES = ("error", "warning", "info")

# Every code an issue of a panel can carry, with the question it answers. docs/data.md lists them.
CODES = {
    "apostrophe-ids": "ids that began with an apostrophe (a spreadsheet's mark for text)",
    "blank-rows": "rows without anything in the mapped columns, removed",
    "case-differing-ids": "ids that differ only in case, spaces or punctuation",
    "ceiling": "many scores at the highest declared value",
    "centered-on-client": "scores with the same mean for every client",
    "centered-on-panel": "scores that were centered on their grand mean or on session means",
    "cleaned-numbers": "numbers read despite apostrophes or typographic minus signs",
    "client-rows": "rows with neither session (or date) nor score: no sessions, values of clients",
    "constant-series": "clients whose score never changes",
    "constant-session": "a session at which all scores are equal",
    "constant-variable": "a variable that never changes at all",
    "contradicted-direction": "a declared good end that the questionnaire's name contradicts",
    "copied-scores": "scores that repeat the row before in a rhythm, as copied ones do",
    "dates-out-of-order": "clients whose dates run backwards, kept on request",
    "decimal-comma": "numbers read with a decimal comma",
    "default-roles": "process and outcome chosen by default",
    "default-timing": "timing assumed from the names alliance and symptoms",
    "duplicates-removed": "identical rows of one client and session, one kept",
    "duplicates-resolved": "conflicting rows of one client and session, resolved by the policy",
    "empty-sessions": "session numbers at which nobody has a score",
    "encoding-assumed": "a text encoding that was inferred, not declared",
    "excel-serial-dates": "dates read from a spreadsheet's serial numbers",
    "float-ids": "ids written as decimal numbers, such as 12.0",
    "floor": "many scores at the lowest declared value",
    "forms-counted-apart": (
        "joined forms of which one ends early in nearly every client, as where each counts its own "
        "repeats"
    ),
    "header-below": "lines above the column names, left out",
    "header-rows": "rows of question texts and import ids below the column names, left out",
    "joint-zeros": "zeros in all scores of the same rows, apart from the other scores",
    "late-start": "clients whose first row is not at the panel's first session",
    "long-pauses": "days between two sessions far beyond the client's own rhythm",
    "lost-leading-zeros": "ids that may have lost their leading zeros",
    "missing-codes": "declared missing codes that were found",
    "missing-dates": "rows without a date",
    "missing-therapist": "rows without a therapist",
    "never-together": "process and outcome are never scored in the same row",
    "no-score-clients": "clients without any score",
    "numbering-start": "session numbers that do not start at 1",
    "opened-episodes": "episodes opened by episode_gap",
    "padded-ids": "ids with spaces around them",
    "repeated-episodes": "people with more than one episode, each a series of its own",
    "rows-joined": "rows of one client and session that complete each other, joined",
    "rows-without-scores": "rows without any score, kept",
    "same-day-sessions": "sessions of one client on the same date",
    "scores-changed": "scores replaced after reading, such as detrended ones",
    "session-gaps": "missing session numbers between a client's first and last session",
    "sessions-by-date": "session numbers given or dealt out again by date",
    "single-item": "variables that are one of several sister columns, as declared",
    "single-session-clients": "clients with one session only",
    "sister-column": "variables whose column has one sister column",
    "standardized-within-client": "scores with the same mean and SD for every client",
    "suspect-missing-code": "values that look like undeclared missing codes",
    "therapist-switches": "clients seen by more than one therapist",
    "thousands-separators": "numbers with thousands separators",
    "time-zones": "dates with a time zone, read as local clock time",
    "two-digit-years": "dates with two-digit years",
    "unknown-direction": "variables of which it is not said whether higher is better or worse",
    "unknown-timing": "variables whose timing is unknown",
    "varying-client-column": "a client's group, site, arm or covariate that changes over sessions",
}


# Findings that no lagged effect of the data may be read without.
CAUTIONS = ("copied-scores", "joint-zeros", "long-pauses")


@checked
@dataclass(frozen=True)
class Issue:
    """One finding about the data.

    Parameters
    ----------
    code : str
        Short constant name, listed in the documentation.
    severity : {"info", "warning", "error"}
        How much a reader of the results should care.
    message : str
        What was found and what to do about it; no client data beyond identifiers.
    count : int, default 1
        How often, in the unit the message names.
    """

    code: str
    severity: str
    message: str
    count: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", Message(self.message))


def info(code: str, message: str, count: int = 1) -> Issue:
    """Note something that was done or assumed."""
    return Issue(code, "info", message, int(count))


def warning(code: str, message: str, count: int = 1) -> Issue:
    """Note something that can move a result."""
    return Issue(code, "warning", message, int(count))


def cautions(issues: Iterable[Issue], *, in_days: bool = False) -> list[str]:
    """Return the messages that belong beside every lagged effect of these data.

    Parameters
    ----------
    issues : iterable of Issue
    in_days : bool
        Whether the model runs by days, to which a pause is as long as it was.
    """
    said = [issue for issue in issues if issue.code in CAUTIONS]
    return [issue.message for issue in said if not (in_days and issue.code == "long-pauses")]


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun: ``1 row``, ``1,204 rows``."""
    return f"{count:,} {noun if count == 1 else (plural or noun + 's')}"


def named_rows(rows: Iterable[Any], shown: int = 3) -> str:
    """Name rows by number: ``row 4``, ``rows 4, 9 and 11``, ``rows 4, 9, 11 and 7 more``."""
    numbers = sorted({int(row) for row in rows})
    word = "row" if len(numbers) == 1 else "rows"
    return f"{word} {joined([str(number) for number in numbers], shown)}"


def quoted(text: object) -> str:
    """Quote a text, cut to what a message can bear."""
    text = str(text)
    return repr(text if len(text) <= LONGEST else text[:LONGEST] + "...")


def named_values(values: Sequence[str], counts: Sequence[int] | None = None, shown: int = 3) -> str:
    """Name values, the most frequent first: ``'NA' (12 times), '.' (once)``."""
    if counts is None:
        return joined([quoted(value) for value in values], shown)
    order = sorted(range(len(values)), key=lambda i: (-int(counts[i]), str(values[i])))
    texts = [f"{quoted(values[i])} ({_times(int(counts[i]))})" for i in order]
    return joined(texts, shown)


def joined(parts: Sequence[str], shown: int = 3) -> str:
    """Join words as a sentence does, naming at most ``shown`` and counting the rest."""
    parts = list(parts)
    if len(parts) > shown:
        return f"{', '.join(parts[:shown])} and {len(parts) - shown:,} more"
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def about_clients(code: str, severity: str, clients: Iterable[str], text: str) -> list[Issue]:
    """Return one issue about these clients, counted and named; none if there are none."""
    names = list(clients)
    if not names:
        return []
    word = "client" if len(names) == 1 else "clients"
    return [Issue(code, severity, f"{len(names)} {word} {text} ({identified(names)}).", len(names))]
