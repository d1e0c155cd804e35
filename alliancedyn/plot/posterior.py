"""A posterior: beside its prior, and client by client without names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.engine.density import density
from alliancedyn.engine.dsem_prior import Term
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.plot.numerals import number
from alliancedyn.plot.style import FORWARD, INK, SOFT_INK, drawing, label, write_labels
from alliancedyn.results import Fit
from alliancedyn.results.sampling import need_sampled

Array = NDArray[np.float64]

POINTS = 1024  # at which densities are drawn
NAMED = 60  # most clients whose names are written


@checked
def prior_posterior(fit: Fit, parameter: str, *, ax: Axes | None = None) -> Axes:
    """Draw the posterior density of a parameter over that of its prior.

    Parameters
    ----------
    fit : Fit
        Sampled.
    parameter : str
        Canonical name of a parameter with a prior of its own, such as ``phi[symptoms,alliance]``.
    ax : Axes, optional
        Where to draw.

    Raises
    ------
    SpecificationError
        If the fit was not sampled, or the parameter has no prior of its own.
    """
    draws, sampling = need_sampled(fit, "prior_posterior")
    prior = sampling.prior(parameter)
    if prior is None or parameter not in draws.columns:
        able = [term.label for term in sampling.priors if term.label in draws.columns]
        raise SpecificationError(
            f"{parameter!r} has no prior of its own. Draw one of {listed(able, 8)}."
        )
    values = draws[parameter].to_numpy(float)
    x = _span(values, prior)
    with drawing(ax, (5.2, 3.0)) as axes:
        axes.fill_between(x, prior.density(x), color=SOFT_INK, alpha=0.25, label=f"prior {prior}")
        posterior = density(values, x, prior.lower, prior.upper)
        axes.plot(x, posterior, color=FORWARD.color, label="posterior")
        axes.set_ylim(bottom=0.0)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        write_labels(axes, x=parameter, y="", title="What the data have said")
        axes.legend()
        shared = fit.diagnostics["overlap"][parameter]
        label(
            axes,
            f"Posterior of {parameter}, mean {number(float(values.mean()))}, over its prior "
            f"{prior}; they share {shared:.0%} of their area.",
        )
    return axes


def _span(values: Array, prior: Term) -> Array:
    """Return where both densities are drawn: the middle of the prior and all of the posterior."""
    low, high = float(values.min()), float(values.max())
    if prior.kind in ("normal", "half-normal"):
        low = min(low, prior.location - 2.5 * prior.scale)
        high = max(high, prior.location + 2.5 * prior.scale)
    return np.linspace(max(low, prior.lower), min(high, prior.upper), POINTS)


@checked
def client_effects(
    fit: Fit,
    effect: str,
    *,
    level: float = 0.95,
    names: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw every client's own effect with its interval, in order of size, without names.

    Parameters
    ----------
    fit : Fit
        Sampled.
    effect : str
        As in ``fit.client_effects``: "alliance" is a level, "symptoms<-alliance" a lagged effect.
    level : float
        Coverage of the intervals.
    names : bool
        Write identifiers of up to 60 clients beside the lines.
    ax : Axes, optional
        Where to draw.

    Raises
    ------
    SpecificationError
        If the fit was not sampled, or the effect does not differ between clients.
    """
    frame = fit.client_effects(level)
    known: Sequence[str] = list(dict.fromkeys(frame["effect"]))
    if effect not in known:
        raise SpecificationError(
            f"{effect!r} does not differ between clients in this model. Draw one of "
            f"{listed(known, 8)}."
        )
    own = frame[frame["effect"] == effect].sort_values("estimate", ignore_index=True)
    if names and len(own) > NAMED:
        raise SpecificationError(f"names= is for up to {NAMED} clients; there are {len(own)}.")
    with drawing(ax, (5.2, 4.2)) as axes:
        _draw_clients(axes, own)
        axes.set_yticks(range(len(own)), own["client"].astype(str) if names else [""] * len(own))
        if not names:
            axes.tick_params(left=False)
        write_labels(
            axes, x=effect, y=f"{len(own)} clients", title="Clients, drawn towards the average"
        )
        middle = float(own["estimate"].mean())
        apart = int(((own["lower"] > middle) | (own["upper"] < middle)).sum())
        label(
            axes,
            f"{effect} of {len(own)} clients in order of size, from "
            f"{number(float(own['estimate'].min()))} to {number(float(own['estimate'].max()))}, "
            f"with {level:.0%} intervals; those of {apart} clients leave out the average of "
            f"{number(middle)}. Most overlap: the order is mostly noise.",
        )
    return axes


def _draw_clients(axes: Axes, own: pd.DataFrame) -> None:
    y = np.arange(len(own))
    width = min(1.6, 120.0 / max(len(own), 1))
    axes.hlines(y, own["lower"], own["upper"], color=FORWARD.color, alpha=0.45, linewidth=width)
    axes.plot(own["estimate"], y, linestyle="none", marker="o", markersize=2.2, color=INK)
    axes.axvline(float(own["estimate"].mean()), color=SOFT_INK, linewidth=0.8)
    axes.set_ylim(-1.0, len(own))
