"""What the models say: lagged effects side by side, and how a shock travels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory
from numpy.typing import NDArray

from alliancedyn.errors import SpecificationError
from alliancedyn.plot.numerals import interval, number, short
from alliancedyn.plot.style import (
    BACKWARD,
    FAINT,
    FORWARD,
    INK,
    RULE,
    SOFT_INK,
    Look,
    drawing,
    label,
    look,
    write_labels,
)

if TYPE_CHECKING:
    import pandas as pd

    from alliancedyn.causal import Directions
    from alliancedyn.results import Fit

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Row:
    model: str
    source: str
    target: str
    look: Look
    value: float
    lower: float
    upper: float

    @property
    def name(self) -> str:
        """The path, short enough for a figure."""
        return f"{short(self.source, 18)} → {short(self.target, 18)}"


def direction_forest(
    comparison: pd.DataFrame | Mapping[str, Directions],
    *,
    process: str | None = None,
    outcome: str | None = None,
    standardized: bool = True,
    smallest_effect: float | None = 0.05,
    ax: Axes | None = None,
) -> Axes:
    """Draw both directions of every model, with intervals, a zero line and the smallest effect.

    Parameters
    ----------
    comparison : DataFrame or mapping of Directions
        From :func:`alliancedyn.compare_models` (one row per effect and model), or the result of
        :func:`alliancedyn.compare_directions` per model.
    process, outcome : str, optional
        Which pair, when the frame holds more than two variables; the first row's otherwise.
    standardized : bool
        Within-client standard deviations, or raw score points (frames only).
    smallest_effect : float, optional
        Half-width of the band of effects too small to matter, in standard deviations; not drawn
        on the raw scale, where one number would not fit both directions.
    ax : Axes, optional
        Where to draw; a new figure otherwise.

    Raises
    ------
    SpecificationError
        If there is nothing to draw, or raw effects are asked of Directions.
    """
    if isinstance(comparison, Mapping):
        rows = _rows_of_directions(comparison, standardized)
    else:
        rows = _rows_of_frame(comparison, process, outcome, standardized)
    if not rows:
        raise SpecificationError(
            "There is no effect to draw. Pass compare_models(...) of at least one fit, and a "
            "process and an outcome it holds."
        )
    band = smallest_effect if standardized else None
    with drawing(
        ax, (7.0, 0.75 + 0.36 * len(rows) + 0.14 * len({row.model for row in rows}))
    ) as axes:
        _draw_forest(axes, rows, band)
        unit = "within-client SDs" if standardized else "score points per score point"
        what = "Path" if isinstance(comparison, Mapping) else "Lagged effect"
        axes.set_xlabel(f"{what}, {unit}")
    label(axes, _forest_text(rows, standardized, band))
    return axes


def impulse_response(
    fit: Fit,
    shock: str | None = None,
    sessions: int = 8,
    kind: Literal["reduced", "structural"] = "reduced",
    *,
    response: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw what one unit of unexpected change does to the following sessions, with bands.

    Parameters
    ----------
    fit : Fit
    shock : str, optional
        The variable that is pushed by one score point; the process unless named.
    sessions : int
        How many sessions are followed.
    kind : {"reduced", "structural"}
        As in ``fit.impulse_response``.
    response : str, optional
        One responding variable; all of them unless named.
    title : str, optional
        Instead of naming the shock.
    ax : Axes, optional
        Where to draw; a new figure otherwise.
    """
    source = fit.process if shock is None else shock
    frame = fit.impulse_response(shock=source, sessions=sessions, kind=kind)
    names = fit.variables if response is None else (response,)
    with drawing(ax, (5.2, 3.2)) as axes:
        axes.axhline(0.0, color=SOFT_INK, linewidth=0.8)
        for name in names:
            style = _look_of(fit, name) if response is None else _look_of_path(fit, source, name)
            _draw_response(axes, name, frame[name], style)
        write_labels(
            axes,
            x="Sessions after the shock",
            y="Score points" if response is None else f"{short(response, 20)}, score points",
            title=title or f"One point more {short(source, 22)} than expected",
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color=RULE, linewidth=0.5, alpha=0.7)
        if len(names) > 1:
            axes.legend(loc="best", handlelength=2.8)
    label(axes, _response_text(source, frame, names, kind))
    return axes


def _rows_of_frame(
    frame: pd.DataFrame, process: str | None, outcome: str | None, standardized: bool
) -> list[_Row]:
    cross = frame[frame["source"] != frame["target"]]
    if cross.empty:
        return []
    first = str(cross["source"].iloc[0]) if process is None else process
    second = str(cross["target"].iloc[0]) if outcome is None else outcome
    columns = ["estimate", "lower", "upper"]
    if standardized:
        columns = ["standardized", "standardized_lower", "standardized_upper"]
    rows = []
    for model in dict.fromkeys(cross["model"]):
        mine = cross[cross["model"] == model]
        for source, target, style in ((first, second, FORWARD), (second, first, BACKWARD)):
            here = mine[(mine["source"] == source) & (mine["target"] == target)]
            for values in here[columns].to_numpy(dtype=float):
                rows.append(_Row(str(model), source, target, style, *map(float, values)))
    return rows


def _rows_of_directions(directions: Mapping[str, Directions], standardized: bool) -> list[_Row]:
    if not standardized:
        raise SpecificationError(
            "Directions are in within-client standard deviations. Pass compare_models(...) to "
            "draw raw effects."
        )
    rows = []
    for model, answer in directions.items():
        first, second = answer.source, answer.target
        for source, target, style, one in (
            (first, second, FORWARD, answer.forward),
            (second, first, BACKWARD, answer.backward),
        ):
            rows.append(_Row(model, source, target, style, one.value, one.lower, one.upper))
    return rows


def _draw_forest(axes: Axes, rows: list[_Row], band: float | None) -> None:
    """Put the rows under one another, models apart, figures at the right-hand side."""
    places = _row_places(rows)
    if band is not None:
        axes.axvspan(-band, band, color=FAINT, zorder=0, linewidth=0)
    axes.axvline(0.0, color=SOFT_INK, linewidth=0.9, zorder=1)
    beside = blended_transform_factory(axes.transAxes, axes.transData)
    for row, y in zip(rows, places, strict=True):
        axes.plot([row.lower, row.upper], [y, y], color=row.look.color, ls=row.look.line, lw=1.8)
        axes.plot(row.value, y, color=row.look.color, marker=row.look.marker, markersize=6.5)
        figures = interval(row.value, row.lower, row.upper)
        axes.text(1.02, y, figures, transform=beside, va="center", color=INK, fontsize=8.5)
        axes.text(-0.02, y, row.name, transform=beside, va="center", ha="right", fontsize=8.5)
    for model in dict.fromkeys(row.model for row in rows):
        top = min(y for row, y in zip(rows, places, strict=True) if row.model == model)
        axes.text(
            -0.02,
            top - 0.82,
            short(model, 40),
            transform=beside,
            va="center",
            ha="right",
            fontsize=9,
            fontweight="bold",
        )
    _set_forest_limits(axes, rows, max(places), band)


def _row_places(rows: list[_Row]) -> list[float]:
    places, y, model = [], -1.0, None
    for row in rows:
        y += 1.0 if row.model == model else 2.2
        model = row.model
        places.append(y)
    return places


def _set_forest_limits(axes: Axes, rows: list[_Row], lowest: float, band: float | None) -> None:
    ends = np.array([[row.lower, row.upper, row.value] for row in rows], dtype=float)
    shown = np.append(ends[np.isfinite(ends)], [0.0, 1.4 * (band or 0.0), -1.4 * (band or 0.0)])
    room = max(0.06 * float(np.ptp(shown)), 1e-6)
    axes.set_xlim(shown.min() - room, shown.max() + room)
    axes.set_ylim(lowest + 0.7, -0.1)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))


def _forest_text(rows: list[_Row], standardized: bool, band: float | None) -> str:
    unit = "within-client standard deviations" if standardized else "raw score points"
    figures = "; ".join(
        f"{row.model}, {row.source} → {row.target}: {interval(row.value, row.lower, row.upper)}"
        for row in rows
    )
    shade = f" A shaded band marks effects below {band:g} either way." if band is not None else ""
    return f"Lagged effects in {unit}, with 95% intervals. {figures}.{shade}"


def _look_of(fit: Fit, name: str) -> Look:
    if name == fit.process:
        return FORWARD
    if name == fit.outcome:
        return BACKWARD
    others = [one for one in fit.variables if one not in (fit.process, fit.outcome)]
    return look(2 + others.index(name))


def _look_of_path(fit: Fit, source: str, target: str) -> Look:
    """Give a path between process and outcome the look of its direction."""
    if (source, target) == (fit.process, fit.outcome):
        return FORWARD
    if (source, target) == (fit.outcome, fit.process):
        return BACKWARD
    return _look_of(fit, target)


def _draw_response(axes: Axes, name: str, response: pd.DataFrame, style: Look) -> None:
    steps = np.arange(len(response))
    values: dict[str, Array] = {
        part: response[part].to_numpy(dtype=float) for part in ("estimate", "lower", "upper")
    }
    axes.fill_between(
        steps, values["lower"], values["upper"], color=style.color, alpha=0.16, linewidth=0
    )
    axes.plot(
        steps,
        values["estimate"],
        color=style.color,
        linestyle=style.line,
        marker=style.marker,
        markersize=4.5,
        label=short(name, 28),
    )


def _response_text(source: str, frame: pd.DataFrame, names: tuple[str, ...], kind: str) -> str:
    parts = []
    for name in names:
        values = frame[name]
        strongest = int(np.nanargmax(np.abs(values["estimate"].to_numpy(dtype=float)[1:]))) + 1
        here = values.iloc[strongest]
        figures = interval(float(here["estimate"]), float(here["lower"]), float(here["upper"]), 3)
        last = number(float(values["estimate"].iloc[-1]), 3)
        parts.append(
            f"{name} responds most at session +{strongest}, {figures}, and is at {last} by "
            f"session +{len(values) - 1}"
        )
    return (
        f"Response to one score point of unexpected {source} ({kind} form, 95% bands): "
        f"{'; '.join(parts)}."
    )
