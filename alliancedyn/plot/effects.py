"""How a shock travels, with its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.errors import SpecificationError
from alliancedyn.plot.numerals import interval, number, short, with_end
from alliancedyn.plot.style import (
    BACKWARD,
    FORWARD,
    RULE,
    SOFT_INK,
    Look,
    drawing,
    label,
    look,
    write_labels,
)
from alliancedyn.results.effects import position

if TYPE_CHECKING:
    import pandas as pd

from alliancedyn.results import Fit

Array = NDArray[np.float64]


@checked
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
    if sessions < 1:
        raise SpecificationError(f"sessions is {sessions}; give how many to follow, 1 or more.")
    source = fit.process if shock is None else shock
    frame = fit.impulse_response(shock=source, sessions=sessions, kind=kind)
    if response is not None:
        position(fit.lagged, response)  # refuses what is no variable
    names = fit.variables if response is None else (response,)
    with drawing(ax, (5.2, 3.2)) as axes:
        axes.axhline(0.0, color=SOFT_INK, linewidth=0.8)
        for name in names:
            style = _look_of(fit, name) if response is None else _look_of_path(fit, source, name)
            _draw_response(axes, name, frame[name], style)
        write_labels(
            axes,
            x="Sessions after the shock",
            y="Score points" if response is None else with_end(response, fit.higher, 20),
            title=title or f"One point more {short(source, 22)} than expected",
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color=RULE, linewidth=0.5, alpha=0.7)
        if len(names) > 1:
            axes.legend(loc="best", handlelength=2.8)
    label(axes, _response_text(source, frame, names, kind))
    return axes


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
