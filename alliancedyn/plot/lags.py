"""How an effect depends on the lag, as far as the gaps between sessions let one see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import blended_transform_factory
from numpy.typing import NDArray

from alliancedyn.causal import lags
from alliancedyn.checking import checked
from alliancedyn.errors import SpecificationError
from alliancedyn.plot.numerals import interval, number, short
from alliancedyn.plot.style import (
    BACKWARD,
    FORWARD,
    RULE,
    SOFT_INK,
    Look,
    drawing,
    label,
    write_labels,
)

if TYPE_CHECKING:
    import pandas as pd

    from alliancedyn.panel import SessionPanel
    from alliancedyn.results import Fit

Array = NDArray[np.float64]

LAGS = 121
TICKS = 200  # of the rug: more would run together


@checked
def effect_by_lag(
    fit: Fit,
    source: str | None = None,
    target: str | None = None,
    *,
    standardized: bool = True,
    group: str | None = None,
    panel: SessionPanel | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the effect of one series on another against the lag, with a band and the gaps seen.

    Curves end where the data end: at the shortest gap between two sessions of a client, and at
    the one that 1 % of the gaps exceed. Ticks at the foot are the gaps, taller where many have one
    length (of more than 200 lengths, 200 evenly from their distribution).

    Parameters
    ----------
    fit : Fit
        Of a continuous-time model.
    source, target : str, optional
        One path; both directions between process and outcome unless named.
    standardized : bool
        Within-client SDs, or raw score points (of one path only: two would have two units).
    group : str, optional
        Such as ``arm=1``, where drifts differ between groups.
    panel : SessionPanel, optional
        The panel of the fit, if the fit no longer holds its data.
    ax : Axes, optional
        Where to draw; a new figure otherwise.

    Raises
    ------
    SpecificationError
        If the fit is not one in continuous time, or one of source and target is missing.
    """
    paths = _paths(fit, source, target, standardized)
    gaps = lags.gaps_of(fit, panel)
    unit: Literal["within"] | None = "within" if standardized else None
    curves = [
        (
            path,
            lags.effect_by_lag(
                fit, *path, gaps.lags(LAGS), standardized=unit, group=group, panel=panel
            ),
        )
        for path in paths
    ]
    with drawing(ax, (5.6, 3.4)) as axes:
        axes.axhline(0.0, color=SOFT_INK, linewidth=0.8)
        for (path, curve), style in zip(curves, (FORWARD, BACKWARD), strict=False):
            _draw_curve(axes, path, curve, style)
        _draw_rug(axes, gaps)
        write_labels(
            axes,
            x=f"Lag, {gaps.unit}s",
            y="Within-client SDs" if standardized else "Score points per score point",
            title="Effect against the lag",
        )
        axes.grid(axis="y", color=RULE, linewidth=0.5, alpha=0.7)
        axes.legend(loc="best", handlelength=2.8)
    label(axes, _text(curves, gaps, standardized))
    return axes


def _paths(
    fit: Fit, source: str | None, target: str | None, standardized: bool
) -> list[tuple[str, str]]:
    if (source is None) != (target is None):
        raise SpecificationError("Name both source and target, or neither.")
    if source is not None and target is not None:
        return [(source, target)]
    if not standardized:
        raise SpecificationError(
            "Both directions have one scale only in within-client SDs. Name source and target to "
            "draw raw effects."
        )
    return [(fit.process, fit.outcome), (fit.outcome, fit.process)]


def _draw_curve(axes: Axes, path: tuple[str, str], curve: pd.DataFrame, style: Look) -> None:
    at = curve.index.to_numpy(dtype=float)
    values: dict[str, Array] = {
        part: curve[part].to_numpy(dtype=float) for part in ("estimate", "lower", "upper")
    }
    name = f"{short(path[0], 18)} → {short(path[1], 18)}"
    if len(at) == 1:  # equal gaps: one lag was seen, and there is nothing to draw between
        axes.plot(at.repeat(2), [values["lower"][0], values["upper"][0]], color=style.color)
    axes.fill_between(
        at, values["lower"], values["upper"], color=style.color, alpha=0.16, linewidth=0
    )
    axes.plot(
        at,
        values["estimate"],
        color=style.color,
        marker=style.marker,
        markevery=max(1, len(at) // 8),
        markersize=4.5,
        label=name,
    )


def _draw_rug(axes: Axes, gaps: lags.Gaps) -> None:
    """Mark the observed gaps at the foot of the figure, taller where many are of one length."""
    end = gaps.lags(2)[-1]
    seen = gaps.values[gaps.values <= end]
    shown, counts = np.unique(seen, return_counts=True)
    if len(shown) > TICKS:
        shown = np.quantile(seen, (np.arange(TICKS) + 0.5) / TICKS, method="inverted_cdf")
        counts = np.ones(TICKS, np.int64)
    height = 0.02 + 0.05 * counts / counts.max()
    foot = blended_transform_factory(axes.transData, axes.transAxes)
    axes.vlines(shown, 0.0, height, color=SOFT_INK, linewidth=0.8, alpha=0.6, transform=foot)


def _text(
    curves: list[tuple[tuple[str, str], pd.DataFrame]], gaps: lags.Gaps, standardized: bool
) -> str:
    parts = []
    for (source, target), curve in curves:
        at = int(np.abs(curve["estimate"].to_numpy(dtype=float)).argmax())
        row = curve.iloc[at]
        figures = interval(float(row["estimate"]), float(row["lower"]), float(row["upper"]))
        parts.append(
            f"{source} → {target} is largest there at {number(float(curve.index[at]))} "
            f"{gaps.unit}s, "
            f"{figures}"
        )
    scale = "within-client standard deviations" if standardized else "raw score points"
    middle = number(float(np.median(gaps.values)))
    return (
        f"Effects against the lag in {scale}, with 95% bands, drawn inside the observed gaps only "
        f"({gaps}, half of them up to {middle}): {'; '.join(parts)}."
    )
