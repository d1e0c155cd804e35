"""Ranks of a calibration: how far their distribution is from uniform."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from alliancedyn.checking import checked
from alliancedyn.errors import SpecificationError
from alliancedyn.plot.style import FAINT, INK, drawing, label, look, write_labels
from alliancedyn.studies.calibration import Calibration, band, evaluation_points

if TYPE_CHECKING:
    from numpy.typing import NDArray


@checked
def calibration(
    found: Calibration | Mapping[str, Calibration],
    *,
    ax: Axes | None = None,
    title: str = "Ranks of true values",
) -> Axes:
    """Draw the ECDF of every parameter's ranks minus that of uniform ranks, with the bands.

    Parameters
    ----------
    found : Calibration or dict of str to Calibration
        Of `calibrate`; several samplers of one design by name.
    ax : Axes, optional
        Where to draw.
    title : str

    Returns
    -------
    Axes
        One line per parameter; the band is that in which all lines of all parameters lie together,
        of the calibration with the fewest rounds.
    """
    each = {"": found} if isinstance(found, Calibration) else dict(found)
    if not each:
        raise SpecificationError("There is no calibration to draw. Give calibrate(...) or several.")
    widest = min(each.values(), key=lambda one: len(one.ranks))
    with drawing(ax, (5.2, 3.8)) as axes:
        joint = 1.0 - (1.0 - widest.level) / len(widest.table)
        low, high = band(len(widest.ranks), widest.draws, joint)
        at = evaluation_points(widest.draws)
        share = (at + 1.0) / (widest.draws + 1.0)
        rounds = len(widest.ranks)
        axes.fill_between(share, low / rounds - share, high / rounds - share, color=FAINT, zorder=0)
        for place, (name, one) in enumerate(each.items()):
            style = look(place)
            x, lines = _departures(one)
            for line in lines:
                axes.plot(x, line, color=style.color, linewidth=0.8, alpha=0.6)
            axes.plot([], [], color=style.color, label=name)
        axes.axhline(0.0, color=INK, linewidth=0.8)
        axes.set_xlim(0.0, 1.0)
        write_labels(axes, x="rank, as a share", y="ECDF minus uniform", title=title)
        if len(each) > 1:
            axes.legend(loc="upper right")
        label(axes, " ".join(f"{title}. {one}" for one in each.values()))
    return axes


def _departures(one: Calibration) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return shares (P,) and departures (n, P) of the ECDFs from uniform."""
    at = evaluation_points(one.draws)
    share = (at + 1.0) / (one.draws + 1.0)
    below = one.ranks.to_numpy(float)[:, :, None] <= at
    departures: NDArray[np.float64] = np.asarray(below.mean(axis=0) - share, np.float64)
    return np.asarray(share, np.float64), departures
