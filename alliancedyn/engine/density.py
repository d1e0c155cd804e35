"""Densities of posterior draws on a grid: overlap with a prior, height at a point.

Kernel estimates with a Gaussian kernel whose width is Silverman's rule, draws reflected at bounds
so that no mass is lost there.

References
----------
Silverman, B. W. (1986). Density estimation for statistics and data analysis. Chapman & Hall.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

POINTS = 1024


def bandwidth(draws: Array) -> float:
    """Return Silverman's width, 0.9 min(SD, IQR / 1.34) D^(-1/5)."""
    low, high = np.quantile(draws, [0.25, 0.75])
    spread = min(float(np.std(draws, ddof=1)), float(high - low) / 1.34)
    return 0.9 * spread * len(draws) ** -0.2


def density(draws: Array, grid: Array, lower: float = -np.inf, upper: float = np.inf) -> Array:
    """Estimate the density of draws (D,) at an even grid (G,).

    Draws are counted at the two nearest points of the grid in proportion, then smoothed: exact up
    to the spacing of the grid.
    """
    h, step = bandwidth(draws), grid[1] - grid[0]
    if not h > 0.0:
        raise ValueError("draws are all the same")
    whole = [draws]
    if np.isfinite(lower):
        whole.append(2.0 * lower - draws)
    if np.isfinite(upper):
        whole.append(2.0 * upper - draws)
    reach = int(np.ceil(5.0 * h / step))  # draws just off the grid count at its ends
    size = len(grid) + 2 * reach
    at = (np.concatenate(whole) - grid[0]) / step + reach
    at = at[(at >= 0.0) & (at <= size - 1.0)]
    left = np.minimum(at.astype(np.int64), size - 2)
    weight = at - left
    counts = np.bincount(left, 1.0 - weight, size) + np.bincount(left + 1, weight, size)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / h) ** 2)
    smooth = np.convolve(counts, kernel / (h * np.sqrt(2.0 * np.pi)), mode="valid")
    inside = (grid >= lower) & (grid <= upper)
    return np.asarray(np.where(inside, smooth / len(draws), 0.0))


def even_grid(draws: Array, lower: float, upper: float, points: int = POINTS) -> Array:
    """Return an even grid over the draws and five widths beyond, inside the bounds."""
    reach = 5.0 * bandwidth(draws)
    return np.linspace(max(draws.min() - reach, lower), min(draws.max() + reach, upper), points)


def overlap(
    draws: Array,
    prior: Callable[[Array], Array],
    lower: float = -np.inf,
    upper: float = np.inf,
) -> float:
    """Return the area under the smaller of prior and posterior density, 0 to 1."""
    grid = even_grid(draws, lower, upper)
    both = np.minimum(density(draws, grid, lower, upper), prior(grid))
    return float(min(np.trapezoid(both, grid), 1.0))


def height(draws: Array, x: float, width: float = 1.0) -> float:
    """Return the density of draws at one point, by a kernel ``width`` times Silverman's."""
    h = bandwidth(draws) * width
    z = (draws - x) / h
    return float(np.exp(-0.5 * z * z).mean() / (h * np.sqrt(2.0 * np.pi)))
