"""Lagged effects of several models side by side: intervals, a zero line, the smallest effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from alliancedyn.causal.compare import EVERYONE, columns, forms_in
from alliancedyn.causal.words import SHORT, form_name, forms_of
from alliancedyn.checking import checked
from alliancedyn.errors import SpecificationError
from alliancedyn.plot.numerals import interval, places_for, short
from alliancedyn.plot.style import (
    BACKWARD,
    FAINT,
    FORWARD,
    INK,
    RULE,
    SOFT_INK,
    TICK_STEPS,
    Look,
    drawing,
    label,
    panels,
    styled,
)

if TYPE_CHECKING:
    import pandas as pd

    from alliancedyn.causal import Directions

USUAL = "1 session"  # the lag that ``compare_models`` writes where nothing else is said


@dataclass(frozen=True)
class _Row:
    label: str
    model: str
    form: str
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

    @property
    def block(self) -> str:
        """The model and the form that rows under one another share."""
        return f"{short(self.model, 40)}, {SHORT[self.form]}"


@checked
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
        ax, (7.0, 0.75 + 0.36 * len(rows) + 0.14 * len({row.block for row in rows}))
    ) as axes:
        _draw_forest(axes, rows, band)
        unit = "within-client SDs" if standardized else "score points per score point"
        axes.set_xlabel(f"Path, {unit}")
    label(axes, _forest_text(rows, standardized, band))
    return axes


@checked
def model_forest(
    comparison: pd.DataFrame,
    *,
    process: str | None = None,
    outcome: str | None = None,
    smallest_effect: float | None = 0.05,
    apart: Sequence[str] = (),
) -> Any:
    """Draw many models, a line for each and each form, one direction beside the other.

    Parameters
    ----------
    comparison : DataFrame
        From :func:`alliancedyn.compare_models`.
    process, outcome : str, optional
        Which pair, when the frame holds more than two variables; the first row's otherwise.
    smallest_effect : float, optional
        Half-width of the shaded band, within-client SDs.
    apart : sequence of str
        Models below a dividing line.

    Returns
    -------
    array of Axes (2,)

    Raises
    ------
    SpecificationError
        If there is nothing to draw.
    """
    rows = _rows_of_frame(comparison, process, outcome, standardized=True)
    rows = [row for row in rows if np.isfinite(row.value)]
    if not rows:
        raise SpecificationError(
            "There is no effect to draw. Pass compare_models(...) of a fit that implies "
            "within-client SDs."
        )
    rows = sorted(rows, key=lambda row: row.label in apart)
    place, line = _places(rows, apart)
    with styled():
        axes = panels(2, (7.6, 1.0 + 0.25 * (max(place.values()) + 2)), share_y=True)
        for ax, style in zip(axes, (FORWARD, BACKWARD), strict=True):
            mine = [row for row in rows if row.look is style]
            _draw_column(ax, mine, place, smallest_effect)
            if line is not None:
                ax.axhline(line, color=RULE, linewidth=0.8)
        axes[0].set_yticks(list(place.values()), _tick_labels(place))
        axes[0].tick_params(axis="y", length=0, labelcolor=INK)
        axes[0].set_ylim(max(place.values()) + 0.6, -0.6)
        ends = np.array([ax.get_xlim() for ax in axes])
        for ax in axes:  # one scale, so that the two directions can be compared
            ax.set_xlim(ends[:, 0].min(), ends[:, 1].max())
        label(axes[0], _forest_text(rows, True, smallest_effect))
    return axes


def _places(
    rows: Sequence[_Row], apart: Sequence[str]
) -> tuple[dict[tuple[str, str], float], float | None]:
    """Return the height of every model and form, and of the line above those that stand apart."""
    place: dict[tuple[str, str], float] = {}
    line, y, before = None, 0.0, None
    for row in rows:
        if (row.model, row.form) in place:
            continue
        if before is not None:
            y += 1.0 if before.model == row.model or len({one.form for one in rows}) == 1 else 1.35
            if row.label in apart and before.label not in apart:
                y += 0.6
                line = y - 0.8
        place[row.model, row.form] = y
        before = row
    return place, line


def _tick_labels(place: Mapping[tuple[str, str], float]) -> list[str]:
    """Name the model once and every form; the form alone where a model has its name already."""
    many, said, found = len({form for _, form in place}) > 1, set(), []
    for model, form in place:
        parts = [] if model in said else [short(model, 40)]
        said.add(model)
        found.append(", ".join([*parts, SHORT[form]] if many else parts))
    return found


def _draw_column(
    ax: Axes,
    rows: Sequence[_Row],
    place: Mapping[tuple[str, str], float],
    band: float | None,
) -> None:
    """Draw one direction of every model, figures at the right-hand side."""
    if band is not None:
        ax.axvspan(-band, band, color=FAINT, zorder=0, linewidth=0)
    ax.axvline(0.0, color=SOFT_INK, linewidth=0.9, zorder=1)
    beside = blended_transform_factory(ax.transAxes, ax.transData)
    for row in rows:
        y, look = place[row.model, row.form], row.look
        ax.plot([row.lower, row.upper], [y, y], color=look.color, lw=1.6)
        ax.plot(row.value, y, color=look.color, marker=look.marker, markersize=5)
        places = min(places_for(row.lower, row.upper), 3)  # more would take room from the plot
        figures = interval(row.value, row.lower, row.upper, places)
        ax.text(1.02, y, figures, transform=beside, va="center", color=INK, fontsize=7.5)
    ends = np.array([[row.lower, row.upper, row.value] for row in rows], dtype=float)
    shown = np.append(ends[np.isfinite(ends)], [0.0, 1.4 * (band or 0.0), -1.4 * (band or 0.0)])
    room = max(0.06 * float(np.ptp(shown)), 1e-6)
    ax.set_xlim(shown.min() - room, shown.max() + room)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=TICK_STEPS))
    if rows:
        ax.set_title(rows[0].name, color=rows[0].look.color, parse_math=False)
    ax.set_xlabel("within-client SDs")


def _rows_of_frame(
    frame: pd.DataFrame, process: str | None, outcome: str | None, standardized: bool
) -> list[_Row]:
    if not {"model", "source", "target", "estimate", "lower", "upper"} <= set(frame.columns):
        return []
    cross = frame[frame["source"] != frame["target"]]
    if cross.empty:
        return []
    first = str(cross["source"].iloc[0]) if process is None else process
    second = str(cross["target"].iloc[0]) if outcome is None else outcome
    rows = []
    named = _named(cross)
    for model in dict.fromkeys(named):
        mine = cross[named == model]
        label = str(mine["model"].iloc[0])
        for form in forms_in(mine):
            for source, target, style in ((first, second, FORWARD), (second, first, BACKWARD)):
                here = mine[(mine["source"] == source) & (mine["target"] == target)]
                for values in here[list(columns(form, standardized))].to_numpy(dtype=float):
                    numbers = map(float, values)
                    rows.append(_Row(label, str(model), form, source, target, style, *numbers))
    return rows


def _named(frame: pd.DataFrame) -> pd.Series:
    """Return the model of every row, with its group and its lag where those are not the usual."""
    named = frame["model"].astype(str)
    if "group" in frame:
        group = frame["group"].astype(str)
        named = named.where(group == EVERYONE, named + ", " + group)
    if "lag" in frame:
        lag = frame["lag"].astype(str)
        named = named.where(lag.str.startswith(USUAL), named + ", over " + lag)
    return named


def _rows_of_directions(directions: Mapping[str, Directions], standardized: bool) -> list[_Row]:
    if not standardized:
        raise SpecificationError(
            "Directions are in within-client standard deviations. Pass compare_models(...) to "
            "draw raw effects."
        )
    rows = []
    for model, answer in directions.items():
        first, second = answer.source, answer.target
        for form, found in forms_of(answer.by_basis).items():
            for source, target, style, one in (
                (first, second, FORWARD, found.forward),
                (second, first, BACKWARD, found.backward),
            ):
                ends = (one.value, one.lower, one.upper)
                rows.append(_Row(model, model, form, source, target, style, *ends))
    return rows


def _draw_forest(axes: Axes, rows: list[_Row], band: float | None) -> None:
    """Put the rows under one another, models apart, figures at the right-hand side."""
    places = _row_places(rows)
    if band is not None:
        axes.axvspan(-band, band, color=FAINT, zorder=0, linewidth=0)
    axes.axvline(0.0, color=SOFT_INK, linewidth=0.9, zorder=1)
    beside = blended_transform_factory(axes.transAxes, axes.transData)
    for row, y in zip(rows, places, strict=True):
        axes.plot([row.lower, row.upper], [y, y], color=row.look.color, lw=1.8)
        axes.plot(row.value, y, color=row.look.color, marker=row.look.marker, markersize=6.5)
        figures = interval(row.value, row.lower, row.upper)
        axes.text(1.02, y, figures, transform=beside, va="center", color=INK, fontsize=8.5)
        axes.text(-0.02, y, row.name, transform=beside, va="center", ha="right", fontsize=8.5)
    for block in dict.fromkeys(row.block for row in rows):
        top = min(y for row, y in zip(rows, places, strict=True) if row.block == block)
        axes.text(
            -0.02,
            top - 0.82,
            block,
            transform=beside,
            va="center",
            ha="right",
            fontsize=9,
            fontweight="bold",
        )
    _set_forest_limits(axes, rows, max(places), band)


def _row_places(rows: list[_Row]) -> list[float]:
    places, y, block = [], -1.0, None
    for row in rows:
        y += 1.0 if row.block == block else 2.2
        block = row.block
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
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=TICK_STEPS))


def _forest_text(rows: list[_Row], standardized: bool, band: float | None) -> str:
    unit = "within-client standard deviations" if standardized else "raw score points"
    figures = "; ".join(
        f"{row.model}, {row.source} → {row.target}, {SHORT[row.form]}: "
        f"{interval(row.value, row.lower, row.upper)}"
        for row in rows
    )
    shade = f" A shaded band marks effects below {band:g} either way." if band is not None else ""
    forms = " and ".join(form_name(form) for form in dict.fromkeys(row.form for row in rows))
    return f"Paths {forms} in {unit}, with 95% intervals. {figures}.{shade}"
