"""The scores themselves: courses over sessions, and the same scores split between and within."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.errors import SpecificationError, nearest
from alliancedyn.plot.numerals import number, short, with_end
from alliancedyn.plot.style import (
    FORWARD,
    RULE,
    SMALL_CELL,
    SOFT_INK,
    TICK_STEPS,
    drawing,
    label,
    panels,
    styled,
    write_labels,
)

if TYPE_CHECKING:
    import pandas as pd

    from alliancedyn.decompose import Decomposition
    from alliancedyn.panel import SessionPanel

Array = NDArray[np.float64]
MOST_DOTS = 4000


@checked
def spaghetti(
    panel: SessionPanel,
    variable: str | None = None,
    clients: int = 40,
    seed: int = 0,
    ax: Axes | None = None,
    *,
    title: str | None = None,
) -> Axes:
    """Draw the courses of some clients, unlabeled, and the mean of all of them.

    A line is a person: a random sample is drawn, none at all when fewer than five clients have
    scores, and the mean stops where fewer than five clients are seen.

    Parameters
    ----------
    panel : SessionPanel
    variable : str, optional
        The panel's outcome unless named.
    clients : int
        How many lines at most; 0 draws the mean alone.
    seed : int
        Which clients are sampled.
    ax : Axes, optional
        Where to draw; a new figure otherwise.
    title : str, optional
        Instead of how many clients are drawn.

    Raises
    ------
    SpecificationError
        If the panel has no such variable.
    """
    name = panel.outcome if variable is None else variable
    scores = _scores(panel, name)
    sessions = np.asarray(panel.sessions, dtype=float)
    sample = _sampled(scores, clients, seed)
    seen = np.isfinite(scores).sum(axis=0)
    mean = _column_means(scores, seen)
    with drawing(ax, (6.4, 3.5)) as axes:
        for line in sample:
            axes.plot(sessions, line, color="#829ab1", linewidth=0.7, alpha=0.5, zorder=1)
            _dot_lone_scores(axes, sessions, line)
        axes.plot(
            sessions,
            mean,
            color=FORWARD.color,
            marker=FORWARD.marker,
            linewidth=2.4,
            markeredgecolor="white",
            zorder=3,
        )
        write_labels(
            axes,
            x="Session",
            y=with_end(name, panel.higher, 30),
            title=title or _spaghetti_title(len(sample), panel),
        )
        _set_ticks(axes)
    label(axes, _spaghetti_text(name, sessions, mean, len(sample), panel))
    return axes


@checked
def between_within(
    decomposition: Decomposition,
    x: str | None = None,
    y: str | None = None,
    *,
    ax: Sequence[Axes] | np.ndarray | None = None,
) -> np.ndarray:
    """Draw the same scores twice: client means, and deviations from each client's own mean.

    Parameters
    ----------
    decomposition : Decomposition
        From :func:`alliancedyn.decompose`; the correlations shown are its own.
    x, y : str, optional
        Two variables; the first two of the decomposition unless named.
    ax : two Axes, optional
        Where to draw, between first.

    Returns
    -------
    array of two Axes
    """
    horizontal, vertical = _pair(decomposition, x, y)
    places = panels(2, (6.8, 3.4)) if ax is None else np.ravel(np.asarray(ax, dtype=object))
    if len(places) != 2 or not all(isinstance(one, Axes) for one in places):
        raise SpecificationError("ax must be two Axes, such as those of plt.subplots(1, 2).")
    split = (
        ("Between clients", "own mean", decomposition.between, decomposition.correlation_between),
        ("Within clients", "deviation", decomposition.within, decomposition.correlation_within),
    )
    for axes, (title, part, frame, correlation) in zip(places, split, strict=True):
        r = float(correlation.loc[vertical, horizontal])
        values = frame[[horizontal, vertical]].dropna().to_numpy(dtype=float)
        _cloud(
            axes,
            values,
            r,
            title,
            (f"{short(horizontal, 22)}, {part}", f"{short(vertical, 22)}, {part}"),
        )
        label(axes, _cloud_text(title, horizontal, vertical, len(values), r))
    return places


def _scores(panel: SessionPanel, name: str) -> Array:
    if name not in panel.variables:
        known = f"{', '.join(panel.variables)}.{nearest(name, panel.variables)}"
        raise SpecificationError(f"The panel has no variable {name!r}. Choose among: {known}")
    scores: Array = panel.arrays().Y[:, :, panel.variables.index(name)]
    return scores


def _sampled(scores: Array, clients: int, seed: int) -> Array:
    """Return the lines of a random sample of the clients with any score, in random order."""
    some = np.flatnonzero(np.isfinite(scores).any(axis=1))
    if len(some) < SMALL_CELL or clients <= 0:
        return scores[:0]
    chosen = np.random.default_rng(seed).permutation(some)[: min(clients, len(some))]
    return scores[chosen]


def _column_means(scores: Array, seen: NDArray[np.int64]) -> Array:
    enough = seen >= SMALL_CELL
    total = np.nansum(scores, axis=0)
    return np.where(enough, total / np.maximum(seen, 1), np.nan)


def _dot_lone_scores(axes: Axes, sessions: Array, line: Array) -> None:
    """Mark scores without an observed neighbor, which a broken line would not show."""
    there = np.isfinite(line)
    before = np.concatenate([[False], there[:-1]])
    after = np.concatenate([there[1:], [False]])
    lone = there & ~before & ~after
    if lone.any():
        axes.plot(sessions[lone], line[lone], ".", color="#9fb3c8", markersize=3, zorder=1)


def _set_ticks(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=TICK_STEPS))
    axes.grid(axis="y", color=RULE, linewidth=0.5, alpha=0.7)


def _spaghetti_title(lines: int, panel: SessionPanel) -> str:
    if lines == 0:
        return f"Mean of {panel.people}"
    if lines == panel.n_clients:
        return f"All {panel.people}, and their mean"
    return f"{lines} of {panel.n_clients:,} {_noun(panel)} at random, and the mean of all"


def _noun(panel: SessionPanel) -> str:
    """Say what a line stands for: a client, or one episode of a person with several."""
    return "clients" if panel.n_persons == panel.n_clients else "episodes"


def _spaghetti_text(
    name: str, sessions: Array, mean: Array, lines: int, panel: SessionPanel
) -> str:
    shown = np.flatnonzero(np.isfinite(mean))
    drawn = f"{lines} of {panel.n_clients} {_noun(panel)}"
    start = f"{name} by session: {drawn} as thin lines, chosen at random"
    if len(shown) == 0:
        return f"{start}; no mean, because no session was seen by {SMALL_CELL} clients or more."
    first, last = shown[0], shown[-1]
    return (
        f"{start}, and the mean of all clients as a thick line, which goes from "
        f"{number(mean[first])} at session {sessions[first]:.0f} to {number(mean[last])} at "
        f"session {sessions[last]:.0f}, the last seen by at least {SMALL_CELL} clients."
    )


def _pair(decomposition: Decomposition, x: str | None, y: str | None) -> tuple[str, str]:
    table: pd.DataFrame = decomposition.correlation_between
    known = [str(name) for name in table.columns]
    first = known[0] if x is None else x
    second = next((name for name in known if name != first), first) if y is None else y
    for name in (first, second):
        if name not in known:
            raise SpecificationError(
                f"The decomposition has no variable {name!r}. Choose among: {', '.join(known)}."
                f"{nearest(name, known)}"
            )
    return first, second


def _cloud(axes: Axes, values: Array, r: float, title: str, names: tuple[str, str]) -> None:
    """Scatter the pairs, with the line that has their correlation through their center."""
    shown = values
    if len(values) > MOST_DOTS:
        shown = np.random.default_rng(0).permutation(values)[:MOST_DOTS]
    with styled():
        axes.plot(
            shown[:, 0],
            shown[:, 1],
            ".",
            color=FORWARD.color,
            alpha=0.55 if len(shown) < 400 else 0.25,
            markersize=5 if len(shown) < 400 else 3,
            markeredgewidth=0,
            rasterized=len(shown) > 400,
        )
        if len(values) > 2 and np.isfinite(r):
            _draw_trend(axes, values, r)
        write_labels(axes, x=names[0], y=names[1], title=f"{title}: r = {number(r)}")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=TICK_STEPS))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=TICK_STEPS))
        axes.axhline(values[:, 1].mean() if len(values) else 0, color=RULE, lw=0.7, zorder=0)
        axes.axvline(values[:, 0].mean() if len(values) else 0, color=RULE, lw=0.7, zorder=0)


def _draw_trend(axes: Axes, values: Array, r: float) -> None:
    center, spread = values.mean(axis=0), values.std(axis=0)
    if not np.all(spread > 0):
        return
    reach = np.array([-2.0, 2.0])
    axes.plot(
        center[0] + reach * spread[0],
        center[1] + r * reach * spread[1],
        color=SOFT_INK,
        linewidth=1.6,
    )


def _cloud_text(title: str, x: str, y: str, pairs: int, r: float) -> str:
    unit = "clients" if title.startswith("Between") else "client-sessions"
    return f"{title}, {x} against {y} in {pairs:,} {unit}: correlation {number(r)}."
