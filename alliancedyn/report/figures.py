"""The report's figures: drawn by ``plot``, carried in the file itself, each with its words."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from alliancedyn import plot
from alliancedyn.causal.words import good_ends
from alliancedyn.errors import AllianceDynError, SpecificationError
from alliancedyn.plot.numerals import short
from alliancedyn.report.material import Material
from alliancedyn.results.paths import no_time_order

if TYPE_CHECKING:
    from alliancedyn.results import Fit

HORIZON = 8
_TAKEN = {
    None: "",
    "session": ", both without the course that all clients share",
    "linear": ", the right one around each client’s own line",
}


@dataclass(frozen=True)
class Picture:
    """A figure as a data address, its alternative text and its caption; or why there is none."""

    name: str
    caption: str
    source: str = ""
    alt: str = ""
    reason: str = ""


def missingness(material: Material) -> Picture:
    """Draw the map of what was observed."""
    return _picture(
        "missingness",
        plot.missingness(material.panel),
        "What was observed, one row per client. Percentages are of the sessions up to each "
        "client’s last; a gap is a session without any score before it.",
    )


def courses(material: Material) -> Picture:
    """Draw some courses and the mean, for process and outcome side by side."""
    panel = material.panel
    axes = plot.panels(2, (7.2, 3.1))
    for place, name in zip(axes, (panel.process, panel.outcome), strict=True):
        plot.spaghetti(
            panel,
            name,
            seed=0 if material.seed is None else material.seed,
            ax=place,
            title=short(name, 30),
        )
    return _picture(
        "courses",
        axes,
        "Courses of up to 40 clients drawn at random, and the mean of all clients (thick). The "
        "mean stops where fewer than five clients are seen.",
    )


def split(material: Material) -> Picture | None:
    """Draw the same scores between and within clients."""
    if material.decomposition is None:
        return None
    panel = material.panel
    axes = plot.between_within(material.decomposition, panel.process, panel.outcome)
    return _picture(
        "split",
        axes,
        "The same scores twice: one dot per client (left), one dot per client and session (right)"
        f"{_TAKEN[material.decomposition.trend_kind]}.",
    )


def forest(material: Material) -> Picture:
    """Draw both directions of every model, those beside the ladder below a line."""
    answer = material.directions.get(material.speaker)
    fit = material.fit
    try:
        axes = plot.model_forest(
            material.comparison,
            process=fit.process,
            outcome=fit.outcome,
            smallest_effect=0.05 if answer is None else answer.smallest_effect,
            apart=material.beside,
        )
    except SpecificationError as refusal:
        return Picture("forest", "", reason=str(refusal))
    line = " Above the line the ladder, below it other models." if material.beside else ""
    return _picture(
        "forest",
        axes,
        "Both paths with 95% intervals, in within-client SDs. Time order: the structural form. "
        "Session to session: the reduced form. The shaded band holds what is too small to matter "
        f"by convention.{line}{_ends(fit)}",
    )


def by_lag(fit: Fit, place: int) -> Picture:
    """Draw how effects depend on the lag, for a model in continuous time."""
    name = f"by-lag-{place}"
    try:
        axes = plot.effect_by_lag(fit)
    except AllianceDynError as refusal:
        return Picture(name, "", reason=str(refusal))
    return _picture(
        name,
        axes,
        "Effect of one score on the other against the time between them, with 95% bands, drawn "
        "only where sessions of these clients lie that far apart (ticks at the foot).",
    )


def paths(material: Material) -> Picture:
    """Draw the headline model's paths, in time order where that is known."""
    fit = material.fit
    try:
        axes = plot.path_diagram(fit)
    except SpecificationError as refusal:
        return Picture("paths", "", reason=str(refusal))
    why = no_time_order(fit.lagged, fit.timing)
    order = (
        "Paths in the order in which the scores are taken; shaded bars are sessions."
        if why is None
        else f"Lagged paths from one session to the next. {why}"
    )
    return _picture(
        "paths",
        axes,
        f"{order} Within-client standardized coefficients with 95% intervals, "
        f"{material.speaker}. Dashed: the interval includes zero.{_ends(fit)}",
    )


def responses(material: Material) -> Picture:
    """Draw how an unexpected point in either variable travels to the other."""
    fit = material.fit
    kind: Literal["reduced", "structural"] = "structural"
    if no_time_order(fit.lagged, fit.timing) is not None:
        kind = "reduced"
    steps = min(HORIZON, max(3, len(fit.sessions) - 1))
    try:
        axes = _both_responses(fit, kind, steps)
    except SpecificationError as refusal:
        return Picture("responses", "", reason=str(refusal))
    return _picture(
        "responses",
        axes,
        "What one unexpected point in one score does to the other over the following sessions, "
        f"both ways, with 95% bands ({kind} form, {material.speaker}).",
    )


def _both_responses(fit: Fit, kind: Literal["reduced", "structural"], steps: int) -> Any:
    axes = plot.panels(2, (7.2, 2.9))
    for place, shock, response in (
        (axes[0], fit.process, fit.outcome),
        (axes[1], fit.outcome, fit.process),
    ):
        title = f"{short(shock, 15)} → {short(response, 15)}"
        plot.impulse_response(fit, shock, steps, kind, response=response, title=title, ax=place)
    return axes


def _ends(fit: Fit) -> str:
    """Say which end of the scores is good, as far as that is set."""
    said = good_ends((fit.process, fit.outcome), fit.higher)
    return f" {said}" if said else ""


def _picture(name: str, axes: Any, caption: str) -> Picture:
    drawn = b64encode(plot.svg(axes).encode("utf-8")).decode("ascii")
    source = f"data:image/svg+xml;base64,{drawn}"
    return Picture(name, caption, source, plot.alt_text(axes))
