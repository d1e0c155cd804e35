"""The smallest number of clients for a power, from simulated powers at a few numbers.

A Wald test of an effect e whose standard error is s / sqrt(N) has power close to Phi(e sqrt(N) / s
- z): a straight line in sqrt(N) on the probit scale. The curve

    power(N) = Phi(target + b (sqrt(N) - sqrt(M))),   target = Phi^-1(wanted power), b >= 0,

has the number M that is looked for as one of its two parameters. Both are found by maximum
likelihood from the counts of replications, M's interval from the likelihood ratio: it holds every
M at which 2 (l_max - l(M)) is below the chi-square quantile (1 df).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_ndtr, ndtr, ndtri
from scipy.stats import chi2

Array = NDArray[np.float64]

STEEPEST = 20.0  # largest b that is tried: within one step of sqrt(N) power then goes from 0 to 1
FARTHEST = 20.0  # numbers of clients looked at: up to so many times the largest simulated
GRID = 240  # numbers at which the profile is looked at before it is refined
MISFIT = 0.01  # a p-value below which the curve does not fit the simulated powers


@dataclass(frozen=True)
class Smallest:
    """The smallest number of clients for a power.

    Parameters
    ----------
    clients : float
        Estimate, rounded up to a whole client; NaN where powers simulated do not determine it.
    lower, upper : float
        Its interval, from Monte Carlo error alone; infinite where no end was found.
    slope : float
        b, probits per root of a client.
    note : str
        What a reader must know; empty if nothing.
    """

    clients: float
    lower: float
    upper: float
    slope: float
    note: str


def smallest(clients: Array, hits: Array, tried: Array, power: float, level: float) -> Smallest:
    """Find the smallest number of clients for a power.

    Parameters
    ----------
    clients : (n,)
        Numbers of clients simulated.
    hits, tried : (n,)
        Replications in which the effect was found, and all of them.
    power : float
        What is wanted.
    level : float
        Of the interval.
    """
    root, order = np.sqrt(clients), np.argsort(clients)
    few, many = float(root[order[0]]), float(root[order[-1]])
    grid = np.linspace(1.0, many * np.sqrt(FARTHEST), GRID)
    profile = _profile(root, hits, tried, float(ndtri(power)))
    values = np.array([profile(m)[0] for m in grid])
    peak = int(values.argmax())
    near = grid[max(peak - 1, 0)], grid[min(peak + 1, GRID - 1)]
    found = minimize_scalar(lambda m: -profile(m)[0], bounds=near, method="bounded")
    best, top = float(found.x), max(float(-found.fun), float(values[peak]))
    bound = top - float(chi2.ppf(level, 1)) / 2.0
    lower, upper = _ends(lambda m: profile(m)[0] - bound, grid, values - bound, best)
    slope = profile(best)[1]
    if why := _undetermined(hits, tried, power, values[0] > bound, np.isinf(upper)):
        return Smallest(np.nan, _squared(lower), _squared(upper), slope, why)
    return Smallest(
        float(np.ceil(best**2 - 1e-9)),
        _squared(lower),
        _squared(upper),
        slope,
        _note(best, few, many, top, hits, tried),
    )


def _profile(
    root: Array, hits: Array, tried: Array, target: float
) -> Callable[[float], tuple[float, float]]:
    """Return the function from sqrt(M) to the largest log-likelihood over b, and that b."""

    def at(m: float) -> tuple[float, float]:
        def lost(b: float) -> float:
            probit = target + b * (root - m)
            return -float(np.sum(hits * log_ndtr(probit) + (tried - hits) * log_ndtr(-probit)))

        found = minimize_scalar(lost, bounds=(0.0, STEEPEST), method="bounded")
        b, least = float(found.x), float(found.fun)
        return (-least, b) if least <= lost(0.0) else (-lost(0.0), 0.0)

    return at


def _ends(
    above: Callable[[float], float], grid: Array, values: Array, best: float
) -> tuple[float, float]:
    """Return where the profile crosses its bound on either side of the best value."""
    lower, upper = 0.0, np.inf
    left = np.flatnonzero((values < 0.0) & (grid < best))
    if len(left):
        lower = float(brentq(above, grid[left[-1]], best))
    right = np.flatnonzero((values < 0.0) & (grid > best))
    if len(right):
        upper = float(brentq(above, best, grid[right[0]]))
    return lower, upper


def _squared(root: float) -> float:
    return max(float(np.ceil(root**2 - 1e-9)), 0.0) if np.isfinite(root) else np.inf


def _undetermined(hits: Array, tried: Array, power: float, low: bool, high: bool) -> str:
    """Say why no number is found, where there is none."""
    shares = hits / tried
    if low and high:
        return "Power does not rise with the number of clients simulated: no number is found."
    if low or (hits == tried).all():
        return f"Power is above {power:g} at the smallest number simulated: simulate fewer clients."
    if (hits == 0).all():
        return "The effect was never found: simulate more clients."
    if high and shares.max() < power:
        return f"Power stays below {power:g}: simulate more clients."
    return ""


def _note(best: float, few: float, many: float, top: float, hits: Array, tried: Array) -> str:
    said = []
    if best > many or best < few:
        said.append("outside the numbers simulated, so that it rests on the curve alone")
    if len(hits) > 2:
        share = hits / tried
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = hits * np.log(share), (tried - hits) * np.log1p(-share)
        saturated = sum(float(np.nansum(part)) for part in parts)
        if chi2.sf(max(2.0 * (saturated - top), 0.0), len(hits) - 2) < MISFIT:
            said.append("the curve does not fit the simulated powers well")
    text = "; ".join(said)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def curve(clients: Array, power: float, smallest_clients: float, slope: float) -> Array:
    """Return the fitted power at other numbers of clients, (n,)."""
    away = np.sqrt(clients) - np.sqrt(smallest_clients)
    return np.asarray(ndtr(float(ndtri(power)) + slope * away))
