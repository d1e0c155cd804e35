"""Parameters of a model in words, sorted by what they are about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliancedyn.engine import names
from alliancedyn.plot.numerals import interval, number, places_for

if TYPE_CHECKING:
    from alliancedyn.results import Fit

Words = Callable[[tuple[str, ...]], str]

_NEVER_ZERO = (
    *("measurement_var", "residual_var", "within_var", "mean", "intercept", "item_intercept"),
    *("unit_loading", "loading", "phi_sd", "log_innovation_sd"),
)
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
    """Parameters with a value for every session, a row each."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Parameters:
    """All parameters of a model, ready to show."""

    head: tuple[str, ...]
    parts: tuple[Part, ...]
    by_session: tuple[BySession, ...]
    left_out: int


def describe_parameters(fit: Fit) -> Parameters:
    """Sort the parameters of a fit by what they are about; means of single sessions are left out.

    ``left_out`` counts those means.
    """
    frame = fit.table()
    parsed = {str(name): names.parse(str(name)) for name in frame.index}
    single = [name for name, (_, _, session) in parsed.items() if session is not None]
    many = {parsed[name][0] for name in single if len(_sessions(single, parsed, name)) > 2}
    shown = [name for name in parsed if not (name in single and parsed[name][0] in many)]
    parts = []
    for title, families, words in _KINDS:
        mine = [name for name in shown if parsed[name][0] in families]
        if mine:
            lines = tuple(_line(fit, name, frame.loc[name], words) for name in mine)
            parts.append(Part(_unit(title, fit), lines))
    by_session = tuple(
        _by_session(frame, family, single, parsed) for family in _order(many) if family != "mean"
    )
    left_out = sum(parsed[name][0] == "mean" for name in single if "mean" in many)
    last = "p" if "p_value" in frame.columns else "P(> 0)"
    return Parameters(("Estimate", "SE", "95% interval", last), tuple(parts), by_session, left_out)


def _sessions(single: list[str], parsed: dict[str, Any], name: str) -> set[int]:
    """Return the sessions for which a family has values of its own."""
    return {parsed[one][2] for one in single if parsed[one][0] == parsed[name][0]}


def _order(families: set[str]) -> list[str]:
    known = [family for _, some, _ in _KINDS for family in some]
    return [family for family in known if family in families]


def _unit(title: str, fit: Fit) -> str:
    if "within_var" in fit.lagged.families:
        title = _OF_EQUATIONS.get(title, title)
    return title.format(unit=getattr(fit.model, "unit", "session"))


def _line(fit: Fit, name: str, row: pd.Series, words: Words) -> Line:
    _, indices, session = names.parse(name)
    text = words(indices)
    if session is not None:
        text += f", session {session}"
    if (group := names.group_of(name)) is not None:
        text += f", {group}"
    return Line(text, name, _cells(name, row))


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
    family, indices, _ = names.parse(name)
    variance = family.endswith("_cov") and family != "initial_between_cov" and len(set(indices)) < 2
    if variance or family in _NEVER_ZERO:
        return "–"
    return probability(value) if column == "p_value" else number(value, 3)


def probability(value: float) -> str:
    """Write a p-value; a dash where there is none."""
    if not np.isfinite(value):
        return "–"
    return "< .001" if value < 0.001 else f"{value:.3f}".replace("0.", ".", 1)


def _by_session(
    frame: pd.DataFrame, family: str, single: list[str], parsed: dict[str, Any]
) -> BySession:
    """Lay out what has a value for every session."""
    title, words = next((title, words) for title, some, words in _KINDS if family in some)
    mine = [name for name in single if parsed[name][0] == family]
    columns: dict[tuple[tuple[str, ...], str | None], dict[int, str]] = {}
    for name in mine:
        _, indices, session = parsed[name]
        columns.setdefault((indices, names.group_of(name)), {})[session] = name
    sessions = sorted({session for column in columns.values() for session in column})
    kept = np.linspace(0, len(sessions) - 1, min(len(sessions), MOST_SESSIONS)).round().astype(int)
    rows = []
    for session in (sessions[i] for i in sorted(set(kept.tolist()))):
        cells = [str(session)]
        for column in columns.values():
            cells.append(_estimate(frame, column.get(session)))
        rows.append(tuple(cells))
    head = [words(indices) + ("" if group is None else f", {group}") for indices, group in columns]
    return BySession(f"{title.format(unit='session')}, by session", ("Session", *head), tuple(rows))


def _estimate(frame: pd.DataFrame, name: str | None) -> str:
    if name is None:
        return "–"
    value, lower, upper = (float(frame.loc[name, c]) for c in ("estimate", "lower", "upper"))
    if not (np.isfinite(lower) and np.isfinite(upper)):
        return number(value, 3)
    return interval(value, lower, upper, min(places_for(lower, upper), 3))


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


# What a regression has instead of factors.
_OF_EQUATIONS = {
    "Growth factors: intercept, mean": "Intercepts",
    "Growth factors: trend, mean per session": "Trend per session",
}
_KINDS: tuple[tuple[str, tuple[str, ...], Words], ...] = (
    ("Lagged effects, one {unit} to the next", ("phi",), _path),
    ("Lagged effects from two sessions back", ("phi2",), _path),
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
    ("Measurement: loadings", ("loading",), _alone),
    ("Measurement: intercepts", ("item_intercept",), _alone),
    ("Measurement error: variances", ("measurement_var",), _alone),
    ("What is new at each session (innovations)", ("innovation_cov",), _covariance),
    ("What is new per {unit} (diffusion)", ("diffusion_cov",), _covariance),
    ("The first session, within clients", ("initial_cov",), _covariance),
    ("The first session, mean deviation", ("initial_mean",), _alone),
    ("Means", ("mean",), _alone),
)
