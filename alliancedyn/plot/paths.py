"""The path diagram, in the order in which things happen.

Where one score is taken before the session and the other after it, the diagram runs
S_t -> session t -> A_t -> S_{t+1} -> session t+1 -> A_{t+1}; otherwise it shows the lagged effects
from one session to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from alliancedyn.checking import checked
from alliancedyn.errors import SpecificationError
from alliancedyn.plot.numerals import interval, short
from alliancedyn.plot.style import (
    BACKWARD,
    FAINT,
    FORWARD,
    INK,
    SOFT_INK,
    Look,
    drawing,
    label,
)
from alliancedyn.results.paths import no_time_order, time_order

if TYPE_CHECKING:
    from alliancedyn.results import Estimate, Fit

Kind = Literal["structural", "reduced"]
Point = tuple[float, float]
_BOX = (1.7, 0.62)
_OWN = Look(SOFT_INK, "o")


@dataclass(frozen=True)
class _Path:
    """One arrow: from a point to a point, its estimate, and where its figures stand."""

    name: str
    start: Point
    end: Point
    estimate: Estimate
    look: Look
    at: Point
    bend: float = 0.0
    repeat: tuple[Point, Point] | None = None


@checked
def path_diagram(fit: Fit, kind: Kind | None = None, ax: Axes | None = None) -> Axes:
    """Draw the paths of a fit with within-standardized coefficients and their intervals.

    Parameters
    ----------
    fit : Fit
        Equal lags for the structural form; session-specific lags are averaged in the reduced one.
    kind : {"structural", "reduced"}, optional
        Structural (true time order) where the fit allows it, unless one is named.
    ax : Axes, optional
        Where to draw; a new figure otherwise.

    Raises
    ------
    SpecificationError
        If the structural form is asked of a fit that has none.
    """
    unordered = no_time_order(fit.lagged, fit.timing)
    if kind == "structural" and unordered:
        raise SpecificationError(unordered)
    chosen: Kind = kind or ("reduced" if unordered else "structural")
    rows = 2 if chosen == "structural" else len(fit.variables)
    with drawing(ax, (7.0, 3.5 if chosen == "structural" else 1.3 + 1.15 * rows)) as axes:
        axes.set_axis_off()
        if chosen == "structural":
            paths = _structural_paths(fit)
            _draw_time_order(axes, fit)
        else:
            paths = _reduced_paths(fit)
            _draw_two_columns(axes, fit)
        for path in paths:
            _draw_path(axes, path)
    label(axes, _text(paths, chosen))
    return axes


# -- the time-ordered form ----------------------------------------------------------------------

_S1, _A1, _S2, _A2 = (1.1, 1.0), (4.0, 3.0), (7.0, 1.0), (9.9, 3.0)


def _structural_paths(fit: Fit) -> list[_Path]:
    """Return b, g, h and both autoregressions, in within-client standard deviations."""
    after, before = time_order(fit.lagged, fit.timing)
    b, g, h, own_after, own_before = _standardized(fit, after, before)
    across = FORWARD if after == fit.process else BACKWARD
    inside = BACKWARD if after == fit.process else FORWARD
    earlier = f"earlier {before} → {after}"
    return [
        _Path(f"{after} → {after}", _A1, _A2, own_after, _OWN, (7.0, 3.0)),
        _Path(f"{before} → {before}", _S1, _S2, own_before, _OWN, (4.0, 1.0)),
        _Path(f"{before} → {after}", _S1, _A1, g, inside, (2.55, 2.0), repeat=(_S2, _A2)),
        _Path(f"{after} → {before}", _A1, _S2, b, across, (5.5, 2.0)),
        _Path(earlier, _S1, _A2, h, inside, (6.0, -0.62), bend=0.6),
    ]


def _standardized(fit: Fit, after: str, before: str) -> list[Estimate]:
    """Derive b SD(after)/SD(before), g and h SD(before)/SD(after), and the autoregressions."""
    form, basis = fit.lagged, fit.sd_within_basis()
    i, j = fit.variables.index(after), fit.variables.index(before)

    def one(position: int, p: Mapping[str, float]) -> float:
        sd = form.within_sd(p, basis)
        ratio = (sd[i] / sd[j], sd[j] / sd[i], sd[j] / sd[i], 1.0, 1.0)[position]
        return float(form.time_ordered(p, after, before)[position] * ratio)

    return [fit.derive(partial(one, position)) for position in range(5)]


def _draw_time_order(axes: Axes, fit: Fit) -> None:
    after, before = time_order(fit.lagged, fit.timing)
    for x, session in ((2.55, "session t"), (8.45, "session t + 1")):
        axes.axvspan(x - 0.42, x + 0.42, 0.12, 0.9, color=FAINT, linewidth=0, zorder=0)
        axes.text(x, 3.72, session, ha="center", va="bottom", color=SOFT_INK, fontsize=8.5)
    for (x, y), name, moment in (
        (_S1, before, "before t"),
        (_A1, after, "after t"),
        (_S2, before, "before t + 1"),
        (_A2, after, "after t + 1"),
    ):
        _draw_box(axes, (x, y), name, moment)
    axes.set_xlim(0.0, 11.0)
    axes.set_ylim(-1.0, 4.0)


# -- the reduced form ---------------------------------------------------------------------------


def _reduced_paths(fit: Fit) -> list[_Path]:
    """Return every lagged effect; figures stand near the arrowheads, evenly one under another."""
    k = len(fit.variables)
    height = {name: 2.0 * (k - position) for position, name in enumerate(fit.variables)}
    paths = []
    for target in fit.variables:
        for source in fit.variables:
            start, end = (1.1, height[source]), (9.9, height[target])
            share = 1.0 / (k + 1.0)
            at = (end[0] - (end[0] - start[0]) * share, end[1] + (start[1] - end[1]) * share)
            estimate = fit.effect(source, target, standardized="within")
            paths.append(
                _Path(f"{source} → {target}", start, end, estimate, _look(fit, source, target), at)
            )
    return paths


def _look(fit: Fit, source: str, target: str) -> Look:
    if (source, target) == (fit.process, fit.outcome):
        return FORWARD
    if (source, target) == (fit.outcome, fit.process):
        return BACKWARD
    return _OWN


def _draw_two_columns(axes: Axes, fit: Fit) -> None:
    k = len(fit.variables)
    for position, name in enumerate(fit.variables):
        y = 2.0 * (k - position)
        _draw_box(axes, (1.1, y), name, "session t − 1")
        _draw_box(axes, (9.9, y), name, "session t")
    axes.set_xlim(0.0, 11.0)
    axes.set_ylim(1.2, 2.0 * k + 0.8)


# -- drawing ------------------------------------------------------------------------------------


def _draw_box(axes: Axes, center: Point, name: str, moment: str) -> None:
    x, y = center
    width, height = _BOX
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0.02,rounding_size=0.12",
            facecolor="white",
            edgecolor=INK,
            linewidth=1.0,
            zorder=4,
        )
    )
    size = 9.0 if len(name) <= 12 else 7.5
    axes.text(
        x,
        y + 0.1,
        short(name, 15),
        ha="center",
        va="center",
        fontsize=size,
        fontweight="bold",
        zorder=5,
    )
    axes.text(x, y - 0.17, moment, ha="center", va="center", fontsize=7.5, color=SOFT_INK, zorder=5)


def _draw_path(axes: Axes, path: _Path) -> None:
    """Draw one arrow: solid where the interval excludes zero, dashed where it does not."""
    one = path.estimate
    clear = bool(np.isfinite(one.lower)) and one.lower * one.upper > 0
    for start, end in filter(None, ((path.start, path.end), path.repeat)):
        _draw_arrow(axes, start, end, path, clear)
    figures = interval(one.value, one.lower, one.upper)
    axes.text(
        *path.at,
        figures,
        ha="center",
        va="center",
        fontsize=8.5,
        fontweight="bold" if clear else "normal",
        color=path.look.color if path.look is not BACKWARD else "#a84300",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.6},
        zorder=3,
    )


def _draw_arrow(axes: Axes, start: Point, end: Point, path: _Path, clear: bool) -> None:
    size = abs(path.estimate.value)
    width = 1.0 + 2.5 * min(size if np.isfinite(size) else 0.0, 0.6)
    axes.add_patch(
        FancyArrowPatch(
            start if path.bend else _edge(start, end),
            end if path.bend else _edge(end, start),
            connectionstyle=f"arc3,rad={path.bend}",
            arrowstyle="-|>,head_length=6,head_width=3",
            shrinkA=26 if path.bend else 0,
            shrinkB=22 if path.bend else 0,
            color=path.look.color,
            linewidth=width,
            linestyle="-" if clear else (0, (4, 2.2)),
            zorder=2,
        )
    )


def _edge(inside: Point, toward: Point) -> Point:
    """Return where the line from the center of a box to another point leaves the box."""
    dx, dy = toward[0] - inside[0], toward[1] - inside[1]
    half = (_BOX[0] / 2 + 0.08, _BOX[1] / 2 + 0.08)
    reach = min(half[0] / abs(dx) if dx else np.inf, half[1] / abs(dy) if dy else np.inf)
    return inside[0] + reach * dx, inside[1] + reach * dy


def _text(paths: list[_Path], kind: Kind) -> str:
    form = "in the order in which the scores are taken" if kind == "structural" else "lag one"
    figures = "; ".join(
        f"{path.name}: {interval(path.estimate.value, path.estimate.lower, path.estimate.upper)}"
        for path in paths
    )
    return (
        f"Path diagram {form}, within-client standardized coefficients with 95% intervals. "
        f"{figures}. Dashed arrows have intervals that include zero."
    )
