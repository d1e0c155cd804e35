"""How the figures look: one palette, one type size, no global state.

Colors are those of Okabe and Ito, which stay apart for color-blind readers; every series also has
its own marker, so that a grey photocopy says the same. A dashed line means one thing in all
figures: an interval that includes zero. Figures are made with the
object-oriented interface alone: nothing here opens a window or alters ``matplotlib.rcParams``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from alliancedyn.allowed import shown
from alliancedyn.checking import checked
from alliancedyn.errors import SpecificationError

INK = "#1f2933"
SOFT_INK = "#52606d"
RULE = "#cbd2d9"
FAINT = "#eef1f4"

SMALL_CELL = 5
"""Fewest clients behind a drawn mean: a mean of fewer could be read back to a person."""
LARGEST = 100.0  # inches
TICK_STEPS = (1, 2, 5, 10)  # those that a reader counts in, whole points of most scales among them


@dataclass(frozen=True)
class Look:
    """Color and marker of one series; either tells series apart."""

    color: str
    marker: str


FORWARD = Look("#0072B2", "o")
BACKWARD = Look("#D55E00", "s")
LOOKS = (
    FORWARD,
    BACKWARD,
    Look("#009E73", "D"),
    Look("#CC79A7", "^"),
    Look("#56B4E9", "v"),
    Look("#E69F00", "P"),
)

STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": SOFT_INK,
    "axes.labelsize": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8.0,
    "axes.edgecolor": RULE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": SOFT_INK,
    "ytick.labelcolor": SOFT_INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "text.parse_math": False,  # a variable may have a dollar sign in its name
    "figure.dpi": 110.0,
    "savefig.dpi": 200.0,
    "svg.fonttype": "none",
}

_FONT_STACK = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"


@contextmanager
def styled() -> Iterator[None]:
    """Apply the house style while a block runs, and leave no trace of it."""
    with rc_context(STYLE):
        yield


@contextmanager
def drawing(ax: Axes | None, size: tuple[float, float]) -> Iterator[Axes]:
    """Give an axes to draw on, the caller's or a new one of ``size`` inches, in the house style."""
    with rc_context(STYLE):
        yield panels(1, size)[0] if ax is None else ax


def write_labels(ax: Axes, *, x: str = "", y: str = "", title: str = "") -> None:
    """Label an axes word for word, whatever characters the names hold."""
    for setter, text in ((ax.set_xlabel, x), (ax.set_ylabel, y), (ax.set_title, title)):
        if text:
            setter(text, parse_math=False)


@checked
def panels(columns: int, size: tuple[float, float], *, share_y: bool = False) -> np.ndarray:
    """Return ``columns`` axes side by side on one new figure of ``size`` inches."""
    if not all(0.0 < length <= LARGEST for length in size):
        raise SpecificationError(f"size is {size!r}; give inches above 0 and up to {LARGEST:g}.")
    with rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(1, columns, squeeze=False, sharey=share_y)
    return np.asarray(grid[0], dtype=object)


def look(position: int) -> Look:
    """Return the look of the series at ``position``; six looks, then they come round again."""
    return LOOKS[position % len(LOOKS)]


def label(ax: Axes, text: str) -> None:
    """Let the alternative text travel with the axes it describes."""
    ax.set_label(text)


@checked
def alt_text(ax: Axes | Sequence[Axes] | np.ndarray) -> str:
    """Return the plain sentences that say what a figure of this module shows, with its numbers.

    Parameters
    ----------
    ax : Axes or array of Axes
        What a function of :mod:`alliancedyn.plot` returned.

    Raises
    ------
    SpecificationError
        If the axes were not drawn by this module, and so have no text.
    """
    told = _words(ax)
    if not told:
        raise SpecificationError(
            "These axes carry no alternative text. Pass the axes that a function of "
            "alliancedyn.plot returned."
        )
    return told


def _words(ax: Axes | Sequence[Axes] | np.ndarray) -> str:
    drawn = np.ravel(np.asarray(ax, dtype=object))
    texts = [str(one.get_label()) for one in drawn if isinstance(one, Axes)]
    return " ".join(dict.fromkeys(text for text in texts if text))


def _figure(ax: Axes | Sequence[Axes] | np.ndarray) -> Any:
    """Return the figure of axes, or of the first of several."""
    for one in np.ravel(np.asarray(ax, dtype=object)):
        if isinstance(one, Axes):
            return one.figure
    raise SpecificationError(f"ax is {shown(ax)}; give what a function of plot returned.")


@checked
def svg(ax: Axes | Sequence[Axes] | np.ndarray) -> str:
    """Return the figure behind ``ax`` as SVG text, the same bytes for the same figure.

    Letters stay letters (searchable, small) and are set in the reader's own sans-serif.
    """
    figure = _figure(ax)
    buffer = BytesIO()
    with rc_context({**STYLE, "svg.hashsalt": "alliancedyn"}):
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", metadata=nothing)
    return buffer.getvalue().decode("utf-8").replace("'DejaVu Sans'", _FONT_STACK)


@checked
def save(ax: Axes | Sequence[Axes] | np.ndarray, path: str | Path) -> Path:
    """Write the figure behind ``ax`` to ``path``; the suffix (svg, png, pdf) names the format.

    A PNG carries its words, those of :func:`alt_text`, as its description, if it has any.
    """
    target = Path(path)
    if target.suffix.lower() == ".svg":
        target.write_text(svg(ax), encoding="utf-8")
        return target
    figure = _figure(ax)
    with rc_context(STYLE):
        if target.suffix.lower() == ".png" and (told := _words(ax)):
            figure.savefig(target, metadata={"Description": told})
        else:
            figure.savefig(target)
    return target
