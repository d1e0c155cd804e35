"""What each model is, and what the lagged paths do from one model to the next."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from alliancedyn.causal.compare import EVERYONE, columns, forms_in
from alliancedyn.causal.words import SHORT, capital, form_name
from alliancedyn.plot.numerals import interval, number, places_for
from alliancedyn.report.material import Material, is_detrended

if TYPE_CHECKING:
    import pandas as pd

    from alliancedyn.results import Fit

FAMILIES = {
    "CLPM": (
        "lagged effects between the scores themselves; stable differences between clients and "
        "change within them are not told apart"
    ),
    "RICLPM": (
        "random intercepts hold what is stable in each client; lagged effects run between the "
        "deviations from the client’s own level"
    ),
    "LCMSR": (
        "every client has a course, with a level and a trend of the client’s own; lagged effects "
        "run between the deviations from that course"
    ),
    "ALT": (
        "every client drifts at a pace of the client’s own, and lagged effects run between the "
        "scores themselves, stable differences included"
    ),
    "STARTS": (
        "a stable part of each client, a settled process with lagged effects, and a state that "
        "leaves no trace at the next session, measurement error included"
    ),
    "GCLM": (
        "stable differences act on every session anew, with a weight of its own; a shock is "
        "carried on by lagged effects and passed on once by moving-average effects"
    ),
    "LatentChange": (
        "true scores change by a constant of the client’s own and in proportion to both present "
        "scores; observed scores have measurement error"
    ),
    "ContinuousTime": (
        "random intercepts hold what is stable in each client; the deviations from them run on "
        "between sessions, and every gap is as long as it was"
    ),
    "WithinBetween": (
        "a multilevel regression on the deviations from each client’s own mean and on that mean; "
        "the mean holds later sessions, which biases lagged effects where sessions are few"
    ),
    "FixedEffects": (
        "a regression in which every client has a level that is estimated, so that change within "
        "clients alone speaks"
    ),
    "DynamicPanelGMM": (
        "differences between sessions, explained by scores from earlier sessions as instruments; "
        "stable differences drop out, whatever they are related to"
    ),
    "DSEM": (
        "levels, and lagged effects where they are random, are draws from a population; what is "
        "known of them before the data (priors) enters the answer"
    ),
    "MLSEM": (
        "equations with a stable effect of every client, free to go with all scores of the other "
        "series and with the first of its own"
    ),
}
_OPTIONS = {
    ("means", "free"): "a mean for every session",
    ("means", "equal"): "one mean for all sessions",
    ("lags", "free"): "lagged effects that differ between sessions",
    ("lags", "equal"): "the same lagged effects at every session",
    ("innovations", "free"): "innovations that differ between sessions",
    ("initial", "stationary"): "a first session that is already in the steady state",
    ("growth", "log"): "trends that level off with the logarithm of the session",
    ("growth", "piecewise"): "trends that bend at one session",
    ("growth", "free"): "trends whose shape is estimated",
    ("means", "growth"): "means that follow the average course",
    ("time", "days"): "time counted in days",
    ("time", "session"): "time counted in sessions",
}
_CHANGES = {
    ("means", "equal", "free"): (
        "every session gets its own mean, so that a course shared by all clients no longer counts "
        "as a lagged path"
    ),
    ("means", "free", "equal"): "one mean for all sessions replaces the session means",
    ("lags", "equal", "free"): "lagged effects may differ between sessions",
    ("lags", "free", "equal"): "lagged effects are held equal over sessions",
    ("innovations", "equal", "free"): "innovations may differ between sessions",
    ("innovations", "free", "equal"): "innovations are held equal over sessions",
    ("initial", "free", "stationary"): "the first session is taken to be in the steady state",
    ("initial", "stationary", "free"): "the first session gets a covariance of its own",
}


_STEPS = {
    ("CLPM", "RICLPM"): "stable differences between clients are set apart",
    ("RICLPM", "CLPM"): "stable differences between clients are no longer set apart",
    ("RICLPM", "LCMSR"): "each client gets a trend of the client’s own, set apart as well",
    ("LCMSR", "RICLPM"): "clients no longer have trends of their own",
    ("CLPM", "LCMSR"): "stable differences between clients and their trends are set apart",
}


@dataclass(frozen=True)
class Path:
    """One model's effect in one direction."""

    name: str
    kind: str
    form: str
    raw: str
    standardized: str
    remark: str


@dataclass(frozen=True)
class Rung:
    """One model of the ladder: what it changes, what that step gains, and both paths."""

    label: str
    change: str
    gain: str
    paths: tuple[Path, ...]
    detrended: bool


@dataclass(frozen=True)
class Story:
    """What happens to both paths from model to model."""

    rungs: tuple[Rung, ...]
    summaries: tuple[str, ...]


def describe(label: str, fit: Fit) -> str:
    """Describe a model in one sentence."""
    family = type(fit.model).__name__
    parts = [FAMILIES.get(family, fit.model.name)]
    options = [
        words for (option, value), words in _OPTIONS.items() if _option(fit, option) == value
    ]
    if options:
        parts.append(", ".join(options))
    if _number(fit, "order") == 2:
        parts.append("lagged effects reach two sessions back")
    if (session := _number(fit, "step")) is not None:
        parts.append(f"other cross-lagged effects from session {session} on")
    if covariates := getattr(fit.model, "covariates", ()):
        parts.append(f"stable parts shifted by {', '.join(covariates)}")
    if (group := getattr(fit.model, "group", None)) is not None:
        parts.append(f"by {group}")
    if is_detrended(label):
        parts.append("fitted to scores from which each client’s own straight line was taken")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def step(earlier: str, first: Fit, later: str, second: Fit) -> str:
    """Say what changes from one model to the next."""
    changes = []
    ours, theirs = type(first.model).__name__, type(second.model).__name__
    if is_detrended(later) and not is_detrended(earlier):
        instead = ", instead of inside the model" if ours == "LCMSR" else ""
        changes.append(f"each client’s own straight line is taken out of the scores first{instead}")
        ours = "RICLPM" if ours == "LCMSR" else ours
    if is_detrended(earlier) and not is_detrended(later):
        changes.append("scores keep each client’s own straight line")
    if (ours, theirs) in _STEPS:
        changes.append(_STEPS[ours, theirs])
    elif ours != theirs:
        changes.append(f"{second.model.name} replaces {first.model.name}")
    changes += [
        words
        for (option, old, new), words in _CHANGES.items()
        if _option(first, option) == old and _option(second, option) == new
    ]
    return ", and ".join(changes) if changes else "other settings"


def _option(fit: Fit, name: str) -> str | None:
    value = getattr(fit.model, name, None)
    return value if isinstance(value, str) else None


def _number(fit: Fit, name: str) -> int | None:
    value = getattr(fit.model, name, None)
    return value if isinstance(value, int) else None


def tell(material: Material) -> Story:
    """Follow both paths between process and outcome up the ladder, in the same words."""
    process, outcome = material.fit.process, material.fit.outcome
    pairs = ((process, outcome, "forward"), (outcome, process, "backward"))
    frame = _of_ladder(material)
    rungs: list[Rung] = []
    previous: dict[tuple[str, str], float] = {}
    before = ""
    for label in material.ladder:
        paths = []
        for form, (source, target, kind) in product(forms_in(frame), pairs):
            mine = frame[(frame["model"] == label) & (frame["target"] == target)]
            name = columns(form, False)[0]
            for row in mine[(mine["source"] == source) & mine[name].notna()].to_dict("records"):
                paths.append(_path(row, kind, form, previous.get((kind, form))))
                previous[kind, form] = float(row[name])
        change = ""
        if before:
            change = step(before, material.fits[before], label, material.fits[label])
        rungs.append(
            Rung(label, change, _gain(material, before, label), tuple(paths), is_detrended(label))
        )
        before = label
    summaries = tuple(
        _summary(
            frame[(frame["source"] == source) & (frame["target"] == target)], source, target, form
        )
        for form, (source, target, _) in product(forms_in(frame) or ("reduced",), pairs)
    )
    return Story(tuple(rungs), summaries)


def _of_ladder(material: Material) -> pd.DataFrame:
    frame = material.comparison
    return frame[frame["model"].isin(material.ladder)]


def _path(row: dict[Hashable, Any], kind: str, form: str, before: float | None) -> Path:
    group = str(row.get("group", EVERYONE))
    return Path(
        name=f"{row['source']} → {row['target']}" + ("" if group == EVERYONE else f", {group}"),
        kind=kind,
        form=SHORT[form],
        raw=_figures(row, columns(form, False)),
        standardized=_figures(row, columns(form, True)),
        remark=_remark(row, columns(form, False), before),
    )


def _gain(material: Material, before: str, label: str) -> str:
    """Say what a model gains over those below it from which it was tested."""
    tests = [one for one in material.steps if one.later == label]
    return "; ".join(
        one.text if one.earlier == before else f"against {one.earlier}: {one.text}" for one in tests
    )


def _figures(row: dict[Hashable, Any], names: tuple[str, str, str]) -> str:
    value, lower, upper = (float(str(row[name])) for name in names)
    return interval(value, lower, upper) if np.isfinite(value) else "–"


def _remark(row: dict[Hashable, Any], names: tuple[str, str, str], before: float | None) -> str:
    value, lower, upper = (float(str(row[name])) for name in names)
    if not (np.isfinite(lower) and np.isfinite(upper)):
        zero = "no interval"
    else:
        zero = "excludes zero" if lower * upper > 0 else "includes zero"
    if before is None:
        return zero
    if value * before < 0:
        return f"changes sign; {zero}"
    return f"{'closer to' if abs(value) < abs(before) else 'further from'} zero; {zero}"


def _summary(frame: pd.DataFrame, source: str, target: str, form: str) -> str:
    found = frame.loc[frame[columns(form, False)[0]].notna(), list(columns(form, False))]
    values, *ends = found.to_numpy(dtype=float).T
    if not len(found):
        return f"No model has a lagged path {source} → {target}."
    clear, total = int(np.sum(ends[0] * ends[1] > 0)), len(found)
    lowest, highest = float(values.min()), float(values.max())
    places = places_for(lowest, highest)
    span = f"{number(lowest, places)} to {number(highest, places)}"
    return (
        f"{capital(form_name(form))}, the raw path {source} → {target} runs from {span} over "
        f"{total} model{'s' if total != 1 else ''}; its interval excludes zero in {clear} of them."
    )
