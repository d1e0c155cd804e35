"""One figure for every demonstration: truth, exact figure, simulated mean and earlier figure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from alliancedyn import plot
from alliancedyn.plot.style import STYLE, Look, look, styled

INK = STYLE["axes.labelcolor"]
EARLIER = {"marker": "o", "markersize": 10, "markerfacecolor": "none", "linestyle": "none"}


def draw(found: pd.DataFrame, study: dict[str, Any]) -> np.ndarray:
    """Draw one axes per quantity: lines over x where x is a number, rows where it is not.

    Thin line: the truth. Lines: exact, for infinitely many clients. Markers: simulated, with
    twice the Monte Carlo error. Circles: earlier figures. With ``one_scale`` all axes have the
    same vertical scale.
    """
    quantities = list(dict.fromkeys(found["quantity"]))
    numbers = pd.api.types.is_numeric_dtype(found["x"]) and found["x"].nunique() > 1
    rows = found["method" if found["x"].isna().all() else "x"].nunique()
    size = (4.2 * max(len(quantities), 1.6), 4.0 if numbers else 1.7 + 0.45 * rows)
    with styled():
        axes = plot.panels(len(quantities), size, share_y=study.get("one_scale", not numbers))
        for ax, quantity in zip(axes, quantities, strict=True):
            some = found[found["quantity"] == quantity]
            looks = {name: look(j) for j, name in enumerate(dict.fromkeys(found["method"]))}
            (_over_x if numbers else _in_rows)(ax, some, looks)
            unit = study["unit"]
            unit = unit if isinstance(unit, str) else unit[quantity]
            ax.set_xlabel(study["x"] if numbers else unit)
            ax.set_ylabel(unit if numbers else "")
            ax.set_title(quantity)
        if not numbers and "x" in study:
            axes[0].set_ylabel(study["x"])
        _legend(axes)
    return axes


def _over_x(ax: Axes, rows: pd.DataFrame, looks: dict[str, Look]) -> None:
    for method, some in rows.groupby("method", sort=False):
        own, exact = looks[str(method)], some["exact"].fillna(some["mean"])
        line = {"color": own.color}
        ax.plot(some["x"], exact, **line)
        ax.errorbar(
            some["x"], some["mean"], 2.0 * some["mcse"], fmt=own.marker, color=own.color, lw=1.2
        )
        ax.plot([], [], marker=own.marker, label=method, **line)
        told = some[some["earlier"] != ""]
        _earlier(ax, told["x"], told["earlier"].astype(float))
    if rows["true"].notna().any():
        ax.axhline(rows["true"].iloc[0], color=INK, linewidth=0.8)
    at = sorted(set(rows["x"]))
    ax.set_xticks(at, [f"{x:g}" for x in at])


def _in_rows(ax: Axes, rows: pd.DataFrame, looks: dict[str, Look]) -> None:
    single = bool(rows["x"].isna().all())
    label = "method" if single else "x"
    names, methods = list(dict.fromkeys(rows[label])), list(dict.fromkeys(rows["method"]))
    for j, (method, some) in enumerate(rows.groupby("method", sort=False)):
        own = look(0) if single else looks[str(method)]
        below = 0.0 if single else 0.16 * (j - (len(methods) - 1) / 2)
        y = np.array([names.index(name) + below for name in some[label]])
        style = {"fmt": own.marker, "color": own.color, "lw": 1.2}
        ax.errorbar(some["mean"], y, xerr=2.0 * some["mcse"], **style)
        ax.plot([], [], own.marker, color=own.color, label="simulated" if single else method)
        told = (some["earlier"] != "").to_numpy()
        _earlier(ax, some["earlier"][told].astype(float), y[told])
    if rows["true"].notna().any():
        ax.axvline(rows["true"].iloc[0], color=INK, linewidth=0.8)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.xaxis.set_major_locator(MaxNLocator(5))


def _earlier(ax: Axes, x: Any, y: Any) -> None:
    if len(x):
        ax.plot(x, y, color=INK, label="earlier figure", **EARLIER)


def _legend(axes: np.ndarray) -> None:
    """Name every look once, below all axes, the earlier figures last."""
    named: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    if "earlier figure" in named:
        named["earlier figure"] = named.pop("earlier figure")
    axes[0].figure.legend(named.values(), named, loc="outside lower center", ncols=3)
