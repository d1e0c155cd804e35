"""What each model is, and what the lagged paths do from one model to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from alliancedyn.plot.numerals import interval, number, places_for
from alliancedyn.report.material import Material, is_detrended

if TYPE_CHECKING:
    import pandas as pd

    from alliancedyn.results import Fit

_FAMILIES = {
    "CLPM": (
        "lagged effects between the scores themselves; stable differences between clients and "
        "change within them are not told apart"
    ),
    "RICLPM": (
        "random intercepts hold what is stable in each client; lagged effects run between the "
        "deviations from the client’s own level"
    ),
}
_OPTIONS = {
    ("means", "free"): "a mean for every session",
    ("means", "equal"): "one mean for all sessions",
    ("lags", "free"): "lagged effects that differ between sessions",
    ("lags", "equal"): "the same lagged effects at every session",
    ("innovations", "free"): "innovations that differ between sessions",
    ("initial", "stationary"): "a first session that is already in the steady state",
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


@dataclass(frozen=True)
class Rung:
    """One model's path in one direction."""

    label: str
    change: str
    raw: str
    standardized: str
    remark: str
    detrended: bool


@dataclass(frozen=True)
class Story:
    """What happens to one path from model to model."""

    name: str
    rungs: tuple[Rung, ...]
    summary: str


def describe(label: str, fit: Fit) -> str:
    """Describe a model in one sentence."""
    family = type(fit.model).__name__
    parts = [_FAMILIES.get(family, fit.model.name)]
    options = [
        words for (option, value), words in _OPTIONS.items() if _option(fit, option) == value
    ]
    if options:
        parts.append(", ".join(options))
    if is_detrended(label):
        parts.append("fitted to scores from which each client’s own straight line was taken")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def step(earlier: str, first: Fit, later: str, second: Fit) -> str:
    """Say what changes from one model to the next."""
    changes = []
    if is_detrended(later) and not is_detrended(earlier):
        changes.append("each client’s own straight line is taken out of the scores first")
    if is_detrended(earlier) and not is_detrended(later):
        changes.append("scores keep each client’s own straight line")
    ours, theirs = type(first.model).__name__, type(second.model).__name__
    if (ours, theirs) == ("CLPM", "RICLPM"):
        changes.append("stable differences between clients are set apart")
    elif (ours, theirs) == ("RICLPM", "CLPM"):
        changes.append("stable differences between clients are no longer set apart")
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


def tell(material: Material) -> tuple[Story, ...]:
    """Follow both paths between process and outcome from model to model, in the same words."""
    process, outcome = material.fit.process, material.fit.outcome
    return tuple(
        _story(material, source, target)
        for source, target in ((process, outcome), (outcome, process))
    )


def _story(material: Material, source: str, target: str) -> Story:
    frame = material.comparison
    mine = frame[(frame["source"] == source) & (frame["target"] == target)]
    rungs: list[Rung] = []
    previous: tuple[str, float] | None = None
    for row in mine.to_dict("records"):
        label = str(row["model"])
        if label not in material.fits:
            continue
        change = ""
        if previous is not None:
            change = step(previous[0], material.fits[previous[0]], label, material.fits[label])
        rungs.append(
            Rung(
                label,
                change,
                _figures(row, ("estimate", "lower", "upper")),
                _figures(row, ("standardized", "standardized_lower", "standardized_upper")),
                _remark(row, None if previous is None else previous[1]),
                is_detrended(label),
            )
        )
        previous = (label, float(row["estimate"]))
    return Story(f"{source} → {target}", tuple(rungs), _summary(mine, source, target))


def _figures(row: dict[str, object], names: tuple[str, str, str]) -> str:
    value, lower, upper = (float(str(row[name])) for name in names)
    return interval(value, lower, upper) if np.isfinite(value) else "–"


def _remark(row: dict[str, object], before: float | None) -> str:
    value, lower, upper = (float(str(row[name])) for name in ("estimate", "lower", "upper"))
    if not (np.isfinite(lower) and np.isfinite(upper)):
        zero = "no interval"
    else:
        zero = "interval excludes zero" if lower * upper > 0 else "interval includes zero"
    if before is None:
        return zero
    if value * before < 0:
        return f"changes sign; {zero}"
    return f"{'closer to' if abs(value) < abs(before) else 'further from'} zero; {zero}"


def _summary(frame: pd.DataFrame, source: str, target: str) -> str:
    ends = frame[["lower", "upper"]].to_numpy(dtype=float)
    clear = int(np.sum(ends[:, 0] * ends[:, 1] > 0))
    total = len(frame)
    if not total:
        return f"No model has a lagged path {source} → {target}."
    lowest, highest = frame["estimate"].min(), frame["estimate"].max()
    places = places_for(lowest, highest)
    span = f"{number(lowest, places)} to {number(highest, places)}"
    return (
        f"The raw lagged path {source} → {target} runs from {span} over {total} "
        f"model{'s' if total != 1 else ''}; its interval excludes zero in {clear} of them."
    )
