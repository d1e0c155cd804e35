"""Parameters of a model in words, sorted by what they are about."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from alliancedyn.engine import names
from alliancedyn.errors import SpecificationError
from alliancedyn.plot.numerals import interval, number, places_for

if TYPE_CHECKING:
    from alliancedyn.results import Fit

Words = Callable[[tuple[str, ...]], str]

_NEVER_ZERO = (
    *("measurement_var", "residual_var", "within_var", "mean", "intercept", "item_intercept"),
    *("unit_loading", "loading", "phi_sd", "log_innovation_sd"),
    *("threshold", "degrees"),
)
_NAMED = re.compile(r"\b[a-z][a-z_0-9]*\[[^\[\]\n]+\](?:@\d+)?(?:\|[\w.]+=[\w.]+)?")
_AT = re.compile(r"'([^'@\n]+)@(\d+)'")  # a column of the wide data
MOST_SESSIONS = 16  # rows of a table by session: of more, so many evenly spread


@dataclass(frozen=True)
class Line:
    """One parameter: in words, by name, and its numbers."""

    words: str
    name: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """Parameters of one kind."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class BySession:
    """Parameters with a value for every session, a row each; ``hidden`` values are not shown."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    hidden: int


@dataclass(frozen=True)
class Parameters:
    """All parameters of a model, ready to show."""

    head: tuple[str, ...]
    parts: tuple[Part, ...]
    by_session: tuple[BySession, ...]
    means_left_out: int

    @property
    def left_out(self) -> int:
        """Return how many parameters are not shown."""
        return self.means_left_out + sum(table.hidden for table in self.by_session)

    @property
    def omission(self) -> str:
        """Say what is not shown; nothing if all is."""
        hidden = self.left_out - self.means_left_out
        said = [
            f"{self.means_left_out} means of single sessions" if self.means_left_out else "",
            f"{hidden} values of sessions between those shown" if hidden else "",
        ]
        named = " and ".join(one for one in said if one)
        return f"Left out here: {named}; fit.table() has them." if named else ""


@dataclass(frozen=True)
class _Kind:
    """Families of parameters that are shown together."""

    title: str
    families: tuple[str, ...]
    words: Words


def describe_parameters(fit: Fit) -> Parameters:
    """Sort the parameters of a fit by what they are about; means of single sessions are left out.

    Families that no list names, a user's own among them, come last under a title of their own.
    """
    frame = fit.table()
    parsed = {str(name): _parse(str(name)) for name in frame.index}
    single = [name for name, (_, _, session) in parsed.items() if session is not None]
    sessions: dict[str, set[int | None]] = {}
    for name in single:
        sessions.setdefault(parsed[name][0], set()).add(parsed[name][2])
    many = {family for family, own in sessions.items() if len(own) > 2}
    shown = [name for name in parsed if not (name in single and parsed[name][0] in many)]
    kinds = _kinds(family for family, _, _ in parsed.values())
    parts, by_session = [], []
    for kind in kinds:
        mine = [name for name in shown if parsed[name][0] in kind.families]
        if mine:
            lines = tuple(_line(fit, name, frame.loc[name], kind.words) for name in mine)
            parts.append(Part(_unit(kind.title, fit), lines))
        by_session += [
            _by_session(frame, family, kind, [n for n in single if parsed[n][0] == family])
            for family in kind.families
            if family in many and family != "mean"
        ]
    left_out = sum(parsed[name][0] == "mean" for name in single if "mean" in many)
    last = "p" if "p_value" in frame.columns else "P(> 0)"
    head = ("Estimate", "SE", "95% interval", last)
    return Parameters(head, tuple(parts), tuple(by_session), left_out)


def _parse(name: str) -> tuple[str, tuple[str, ...], int | None]:
    """Take a name apart; one that is not canonical is a family of its own."""
    try:
        return names.parse(name)
    except SpecificationError:
        return name, (), None


def _kinds(families: Iterable[str]) -> list[_Kind]:
    """Return what to show in which order, what no list knows last."""
    known = [_Kind(*one) for one in _KINDS]
    listed = {family for kind in known for family in kind.families}
    others = tuple(dict.fromkeys(family for family in families if family not in listed))
    return [*known, _Kind("Other parameters", others, _other)]


def _unit(title: str, fit: Fit) -> str:
    if "within_var" in fit.lagged.families:
        title = _OF_EQUATIONS.get(title, title)
    return title.format(unit=getattr(fit.model, "unit", "session"))


def _line(fit: Fit, name: str, row: pd.Series, words: Words) -> Line:
    family, indices, session = _parse(name)
    text = _said(words, family, indices)
    if session is not None:
        text += f", session {session}"
    if (group := _group_of(name)) is not None:
        text += f", {group}"
    return Line(text, name, _cells(name, row))


def _group_of(name: str) -> str | None:
    return names.group_of(name) if "|" in name and _parse(name)[0] != name else None


def _said(words: Words, family: str, indices: tuple[str, ...]) -> str:
    """Say what a parameter is about; a user's own may have other indices than the list expects."""
    try:
        text = words(indices)
    except (ValueError, IndexError):
        text = _other(indices)
    return text or family


def _cells(name: str, row: pd.Series) -> tuple[str, ...]:
    estimate, se, lower, upper = (float(row[c]) for c in ("estimate", "se", "lower", "upper"))
    places = _places(se)
    column = "p_value" if "p_value" in row.index else "prob_positive"
    ends = "–"
    if np.isfinite(lower) and np.isfinite(upper):
        ends = f"{number(lower, places)}, {number(upper, places)}"
    return (
        number(estimate, places),
        number(se, places),
        ends,
        _last(name, column, float(row[column])),
    )


def _places(se: float) -> int:
    """Return the places that show two digits of the standard error, three to six."""
    if not (np.isfinite(se) and se > 0.0):
        return 3
    return int(np.clip(1 - np.floor(np.log10(se)), 3, 6))


def _last(name: str, column: str, value: float) -> str:
    """Write a p-value or a posterior probability where zero is a question at all."""
    family, indices, _ = _parse(name)
    variance = family.endswith("_cov") and family != "initial_between_cov" and len(set(indices)) < 2
    if variance or family in _NEVER_ZERO:
        return "–"
    return probability(value) if column == "p_value" else number(value, 3)


def probability(value: float) -> str:
    """Write a p-value; a dash where there is none."""
    if not np.isfinite(value):
        return "–"
    return "< .001" if value < 0.001 else f"{value:.3f}".replace("0.", ".", 1)


def _by_session(frame: pd.DataFrame, family: str, kind: _Kind, mine: list[str]) -> BySession:
    """Lay out what has a value for every session."""
    columns: dict[tuple[tuple[str, ...], str | None], dict[int, str]] = {}
    for name in mine:
        _, indices, session = names.parse(name)
        columns.setdefault((indices, names.group_of(name)), {})[session or 0] = name
    sessions = sorted({session for column in columns.values() for session in column})
    kept = np.linspace(0, len(sessions) - 1, min(len(sessions), MOST_SESSIONS)).round().astype(int)
    rows, shown = [], 0
    for session in (sessions[i] for i in sorted(set(kept.tolist()))):
        own = [column.get(session) for column in columns.values()]
        shown += sum(name is not None for name in own)
        rows.append((str(session), *(_estimate(frame, name) for name in own)))
    head = [
        _said(kind.words, family, indices) + ("" if group is None else f", {group}")
        for indices, group in columns
    ]
    title = family if kind.words is _other else kind.title.format(unit="session")
    return BySession(f"{title}, by session", ("Session", *head), tuple(rows), len(mine) - shown)


def _estimate(frame: pd.DataFrame, name: str | None) -> str:
    if name is None:
        return "–"
    value, lower, upper = (float(frame.loc[name, c]) for c in ("estimate", "lower", "upper"))
    if not (np.isfinite(lower) and np.isfinite(upper)):
        return number(value, 3)
    return interval(value, lower, upper, min(places_for(lower, upper), 3))


def in_words(sentence: str) -> str:
    """Say in words what a sentence calls by the names of parameters."""
    named = _NAMED.sub(lambda found: _spelled(found.group()), sentence)
    return _AT.sub(r"\1 at session \2", named)


def _spelled(name: str) -> str:
    """Return a parameter's name in words, the kind first; other text stays as it is."""
    family, indices, session = _parse(name)
    kind = next((one for one in (_Kind(*k) for k in _KINDS) if family in one.families), None)
    if kind is None or not indices:
        return name
    title = kind.title.format(unit="session")
    text = f"{title[:1].lower()}{title[1:]} ({_said(kind.words, family, indices)}"
    if session is not None:
        text += f", session {session}"
    if (group := _group_of(name)) is not None:
        text += f", {group}"
    return f"{text})"


# -- words ---------------------------------------------------------------------------------------


def _series(index: str) -> str:
    """Name a state: ``alliance.trend`` is the trend of alliance."""
    name, _, part = index.rpartition(".")
    said = {"trend": "trend of {}", "trend2": "later trend of {}", "next": "{} one session later"}
    return said[part].format(name) if name and part in said else index


def _path(indices: tuple[str, ...]) -> str:
    target, source = indices[:2]
    return f"{target}, carried over" if source == target else f"{source} → {target}"


def _moderated(indices: tuple[str, ...]) -> str:
    return f"{_path(indices)}, per unit of {indices[2]}"


def _covariance(indices: tuple[str, ...]) -> str:
    first, second = indices
    if first == second:
        return f"{_series(first)}, variance"
    return f"{_series(first)} with {_series(second)}"


def _random(indices: tuple[str, ...]) -> str:
    """Name a (co)variance of random effects; of two equations with their targets."""
    first, second = (index.replace(".", ": ") for index in indices)
    return f"{first}, variance" if first == second else f"{first} with {second}"


def _first(indices: tuple[str, ...]) -> str:
    return f"first {indices[0]} with {_series(indices[1])}"


def _alone(indices: tuple[str, ...]) -> str:
    return _series(indices[0])


def _onto(indices: tuple[str, ...]) -> str:
    return f"{indices[1]} → {_series(indices[0])}"


def _feedback(indices: tuple[str, ...]) -> str:
    if len(indices) == 1:
        return f"{indices[0]} → its own change"
    return f"{indices[1]} → change of {indices[0]}"


def _same(indices: tuple[str, ...]) -> str:
    target, source = indices
    return f"{source} → {target}, same session"


def _threshold(indices: tuple[str, ...]) -> str:
    name, number = indices
    return f"{name}, threshold {number}"


def _whole(indices: tuple[str, ...]) -> str:
    return "" if indices else "degrees of freedom"


def _other(indices: tuple[str, ...]) -> str:
    return ", ".join(_series(index) for index in indices)


_MOMENTS = ("predictor_cov", "predictor_between_cov")
# What a regression has instead of factors.
_OF_EQUATIONS = {
    "Growth factors: intercept, mean": "Intercepts",
    "Growth factors: trend, mean per session": "Trend per session",
}
_KINDS: tuple[tuple[str, tuple[str, ...], Words], ...] = (
    ("Lagged effects, one {unit} to the next", ("phi",), _path),
    ("Lagged effects from two sessions back", ("phi2",), _path),
    ("Effects within a session", ("same",), _same),
    ("What the change adds to the cross-lagged effects", ("step",), _path),
    ("How lagged effects differ between clients", ("moderation",), _moderated),
    ("How lagged effects differ between clients: SD", ("phi_sd",), _path),
    ("How innovations differ between clients: SD of log variances", ("log_innovation_sd",), _alone),
    ("What predictors do to clients’ effects", ("predictor",), _onto),
    ("How clients’ effects go together: correlations", ("random_corr",), _covariance),
    ("Differences between therapists", ("therapist_cov",), _covariance),
    ("Passed on once: moving-average effects of what was new", ("ma",), _path),
    ("What the present scores do to change", ("self", "coupling"), _feedback),
    ("Drift: what a level does to the rate of change, per {unit}", ("drift",), _path),
    ("Growth factors: intercept, mean", ("intercept",), _alone),
    ("Growth factors: trend, mean per session", ("trend",), _alone),
    ("Growth factors: later trend, mean per session", ("trend2",), _alone),
    ("Growth factors: shape of the course", ("basis",), _alone),
    ("Differences between clients", ("between_cov",), _covariance),
    ("The first session with those differences", ("initial_between_cov",), _first),
    ("Unit effects: weight", ("unit_loading",), _alone),
    ("What clients’ means and covariates do", ("between",), _onto),
    ("What therapists’ means do", ("between_therapist",), _onto),
    ("Effects of sessions", ("session",), _alone),
    ("Random effects of clients", ("random_cov",), _random),
    ("Random effects of therapists", ("therapist_random_cov",), _random),
    ("What the equation leaves unexplained: variance", ("residual_var",), _alone),
    ("How residuals one session apart are alike", ("residual_ar",), _alone),
    ("Within clients: observed variance", ("within_var",), _alone),
    ("What inputs do at their session", ("input",), _onto),
    ("Where answers in categories change: thresholds", ("threshold",), _threshold),
    ("Tails of what is new: Student-t", ("degrees",), _whole),
    ("Measurement: loadings", ("loading",), _alone),
    ("Measurement: intercepts", ("item_intercept",), _alone),
    ("Measurement error: variances", ("measurement_var",), _alone),
    ("What is new at each session (innovations)", ("innovation_cov",), _covariance),
    ("What is new per {unit} (diffusion)", ("diffusion_cov",), _covariance),
    ("The first session, within clients", ("initial_cov",), _covariance),
    ("The first session, mean deviation", ("initial_mean",), _alone),
    ("Predictors and feedback, left free", (*_MOMENTS, "feedback_cov"), _covariance),
    ("Means", ("mean",), _alone),
)
