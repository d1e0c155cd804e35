"""Which scores are there: one row per client, one column per session, no client named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.plot.style import INK, RULE, drawing, label

if TYPE_CHECKING:
    from alliancedyn.panel import SessionPanel

ALL, SOME, GAP, OVER = 0, 1, 2, 3
# Lightness falls into four clear steps (20, 55, 75, 97 of 100), so a grey copy reads the same.
_COLORS = ("#0b3558", "#3f8fc4", "#f0a830", "#f4f6f8")
_MOST_ROWS = 600


@dataclass(frozen=True)
class _Map:
    codes: NDArray[np.int8]
    names: tuple[str, str, str, str]

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of each code among the cells up to each client's last observed session."""
        before_end = self.codes[self.codes != OVER]
        total = max(before_end.size, 1)
        return tuple(float((before_end == code).sum() / total) for code in (ALL, SOME, GAP))


@checked
def missingness(panel: SessionPanel, ax: Axes | None = None) -> Axes:
    """Draw what was observed, client by session, longest courses at the bottom.

    Four shades: every variable observed, some of them, a gap (nothing, though the client was
    seen again later), and the time after the client's last observed session.

    Parameters
    ----------
    panel : SessionPanel
        Above 600 clients every k-th of the sorted clients is drawn.
    ax : Axes, optional
        Where to draw; a new figure otherwise.
    """
    cells = _map(panel)
    codes, sessions = cells.codes, np.asarray(panel.sessions)
    shown = codes[_evenly(len(codes))]
    with drawing(ax, (6.4, 3.6)) as axes:
        axes.imshow(
            shown,
            aspect="auto",
            interpolation="none",
            cmap=ListedColormap(list(_COLORS)),
            vmin=-0.5,
            vmax=3.5,
            extent=(sessions[0] - 0.5, sessions[-1] + 0.5, len(codes), 0),
        )
        axes.set_xlabel("Session")
        axes.set_ylabel(f"{len(codes):,} clients, shortest course first")
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True))
        for side in ("top", "right"):
            axes.spines[side].set_visible(True)
        _draw_key(axes, cells)
    label(axes, _text(cells, len(sessions)))
    return axes


def _map(panel: SessionPanel) -> _Map:
    observed = np.isfinite(panel.arrays().Y)
    count, wide = observed.sum(axis=2), observed.shape[2]
    codes = np.where(count == wide, ALL, np.where(count > 0, SOME, GAP)).astype(np.int8)
    last = _last_seen(count > 0)
    codes[np.arange(codes.shape[1])[None, :] > last[:, None]] = OVER
    order = np.lexsort((-(count > 0).sum(axis=1), last))
    every = "both scores" if wide == 2 else f"all {wide} scores"
    some = "one of the two" if wide == 2 else "some of them"
    return _Map(codes[order], (every, some, "gap", "after the last session"))


def _last_seen(seen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the column of each client's last observed session, -1 where there is none."""
    backwards = seen[:, ::-1].argmax(axis=1)
    return np.where(seen.any(axis=1), seen.shape[1] - 1 - backwards, -1)


def _evenly(rows: int) -> NDArray[np.int64]:
    kept = min(rows, _MOST_ROWS)
    return np.linspace(0, rows - 1, kept).round().astype(np.int64) if kept else np.arange(0)


def _draw_key(axes: Axes, cells: _Map) -> None:
    shares = [f" {share:.0%}" for share in cells.shares] + [""]
    patches = [
        Patch(facecolor=color, edgecolor=RULE, linewidth=0.6, label=f"{name}{share}")
        for color, name, share in zip(_COLORS, cells.names, shares, strict=True)
    ]
    axes.legend(
        handles=patches,
        ncols=4,
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        handlelength=1.1,
        handleheight=1.1,
        columnspacing=1.4,
        borderaxespad=0.4,
        labelcolor=INK,
    )


def _text(cells: _Map, sessions: int) -> str:
    whole, some, gap = (f"{share:.0%}" for share in cells.shares)
    clients = len(cells.codes)
    over = float((cells.codes == OVER).mean()) if cells.codes.size else 0.0
    return (
        f"Map of {clients:,} clients by {sessions} sessions, sorted by the length of their course. "
        f"Up to each client's last session, {cells.names[0]} were observed in {whole} of the "
        f"cells, {cells.names[1]} in {some}, and {gap} are gaps; {over:.0%} of the whole map lies "
        "after a client's last observed session."
    )
