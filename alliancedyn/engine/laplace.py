"""A quick look at a posterior: its mode, its curvature there, and importance sampling.

Around the mode theta_0 of a log density log p, with H minus its second derivatives there, draws

    theta = theta_0 + WIDER * chol(H^-1) t,       t ~ multivariate Student t, 7 degrees of freedom

are weighted by r = p(theta) / q(theta), q the density they come from. The largest weights are
replaced by those expected under a generalized Pareto distribution fitted to them, whose shape
``pareto_k`` says whether the weights have the moments an average needs: above .7 they do not, and
the draws are a picture of the mode, not of the posterior.

References
----------
Vehtari, A., Simpson, D., Gelman, A., Yao, Y., & Gabry, J. (2024). Pareto smoothed importance
sampling. Journal of Machine Learning Research, 25(72), 1-58.

Zhang, J., & Stephens, M. A. (2009). A new and efficient estimation method for the generalized
Pareto distribution. Technometrics, 51, 316-325.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from alliancedyn.errors import ConvergenceError

Array = NDArray[np.float64]
Density = Callable[[Array], tuple[float, Array]]

DEGREES = 7.0  # of the proposal: tails heavier than those of nearly normal posteriors
WIDER = 1.05  # than the curvature says; too narrow is what spoils weights
STEP = 1e-4  # of the differences of the gradient, in the units of theta
RELIABLE_K = 0.7  # shape above which averages of the weights cannot be trusted
REFUSED = 1e12  # value given to the optimizer where the density does not exist
SHORTEST_TAIL = 5  # weights below which no tail is fitted


@dataclass(frozen=True)
class Weighted:
    """Draws from near a mode, and how much each counts.

    Parameters
    ----------
    mode : (n,)
        Where the density is highest.
    draws : (S, n)
        From the proposal.
    weights : (S,)
        Smoothed, summing to 1.
    pareto_k : float
        Shape of the tail of the weights; above .7 unreliable.
    evaluations : int
        Of the density.
    """

    mode: Array
    draws: Array
    weights: Array
    pareto_k: float
    evaluations: int

    @property
    def ess(self) -> float:
        """Independent draws that carry as much."""
        return float(1.0 / np.sum(self.weights**2))

    def resample(self, size: int, rng: np.random.Generator) -> Array:
        """Return ``size`` draws of equal weight, (size, n), in random order."""
        edges = np.cumsum(self.weights)
        at = np.searchsorted(edges / edges[-1], (np.arange(size) + rng.random()) / size)
        return np.asarray(self.draws[rng.permutation(at)])


def laplace(density: Density, start: Array, draws: int, rng: np.random.Generator) -> Weighted:
    """Draw from the neighborhood of the mode and weight the draws.

    Parameters
    ----------
    density : callable
        theta (n,) to the log density up to a constant and its gradient (n,).
    start : (n,)
        Where the search for the mode begins.
    draws : int
        Number S of draws.
    rng : Generator

    Raises
    ------
    ConvergenceError
        If there is no mode with a curvature around it.
    """
    used = 0

    def counted(theta: Array) -> tuple[float, Array]:
        nonlocal used
        used += 1
        return density(theta)

    mode = _mode(counted, np.asarray(start, float))
    L = _spread(counted, mode)
    n = len(mode)
    scale = np.sqrt(rng.chisquare(DEGREES, draws) / DEGREES)
    t = rng.standard_normal((draws, n)) / scale[:, None]
    theta = mode + WIDER * t @ L.T
    target = np.array([counted(one)[0] for one in theta])
    proposal = -0.5 * (DEGREES + n) * np.log1p(np.sum(t * t, axis=1) / DEGREES)
    log_weights, k = smooth_weights(np.where(np.isfinite(target), target, -np.inf) - proposal)
    return Weighted(mode, theta, np.exp(log_weights), k, used)


def _mode(density: Density, start: Array) -> Array:
    """Climb to the mode."""

    def negative(theta: Array) -> tuple[float, Array]:
        value, gradient = density(theta)
        if not np.isfinite(value) or not np.isfinite(gradient).all():
            return REFUSED, np.zeros_like(theta)
        return -value, -gradient

    found = minimize(negative, start, jac=True, method="BFGS", options={"gtol": 1e-3})
    if float(found.fun) >= REFUSED:
        raise ConvergenceError(
            "The posterior does not exist at the starting values, so its mode cannot be found. "
            'Use sampler="nutpie".'
        )
    return np.asarray(found.x, float)


def _spread(density: Density, mode: Array) -> Array:
    """Lower-triangular L with L L' the inverse of minus the second derivatives."""
    n = len(mode)
    H = np.empty((n, n))
    for i in range(n):
        step = np.zeros(n)
        step[i] = STEP
        H[i] = (density(mode - step)[1] - density(mode + step)[1]) / (2.0 * STEP)
    H = (H + H.T) / 2.0
    if not np.isfinite(H).all() or np.linalg.eigvalsh(H)[0] <= 0.0:
        raise ConvergenceError(
            "The posterior has no peak where the search for its mode ended: some direction is "
            'flat or leads up. Use sampler="nutpie", or narrower priors.'
        )
    return np.asarray(np.linalg.cholesky(np.linalg.inv(H)))


def smooth_weights(log_ratios: Array) -> tuple[Array, float]:
    """Replace the largest importance ratios by those of a fitted Pareto tail.

    Parameters
    ----------
    log_ratios : (S,)
        Logarithms up to a constant; -inf where the target has no density.

    Returns
    -------
    log_weights : (S,)
        Normalized: their exponentials sum to 1.
    pareto_k : float
        Shape of the tail; inf if fewer than five ratios are in it.
    """
    log_w = log_ratios - log_ratios.max()
    size = len(log_w)
    length = int(np.ceil(min(0.2 * size, 3.0 * np.sqrt(size))))
    order = np.argsort(log_w, kind="stable")
    tail = order[size - length :]
    cutoff = max(float(log_w[order[size - length - 1]]), float(np.log(np.finfo(float).tiny)))
    tail = tail[log_w[tail] > cutoff]
    k = float("inf")
    if len(tail) >= SHORTEST_TAIL:
        excess = np.exp(log_w[tail]) - np.exp(cutoff)
        k, sigma = pareto_fit(excess)
        if np.isfinite(k):
            share = (np.arange(len(tail)) + 0.5) / len(tail)
            log_w = log_w.copy()
            log_w[tail] = np.minimum(np.log(_quantile(share, k, sigma) + np.exp(cutoff)), 0.0)
    top = log_w.max()
    return log_w - (top + np.log(np.exp(log_w - top).sum())), k


def pareto_fit(x: Array) -> tuple[float, float]:
    """Fit a generalized Pareto distribution to exceedances by an empirical Bayes average.

    Parameters
    ----------
    x : (n,)
        Positive, ascending.

    Returns
    -------
    k, sigma : float
        Shape, drawn a little to .5 as ten more observations would, and scale.
    """
    n = len(x)
    grid = 30 + int(np.sqrt(n))
    quarter = x[int(n / 4 + 0.5) - 1]
    theta = 1.0 / x[-1] + (1.0 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / (3.0 * quarter)
    k = np.log1p(-theta[:, None] * x).mean(axis=1)
    loglik = n * (np.log(-theta / k) - k - 1.0)
    weight = np.exp(loglik - loglik.max())
    at = float(weight @ theta / weight.sum())
    shape = float(np.log1p(-at * x).mean())
    return (n * shape + 5.0) / (n + 10.0), -shape / at


def _quantile(share: Array, k: float, sigma: float) -> Array:
    """Quantiles of a generalized Pareto distribution."""
    if abs(k) < 1e-12:
        return np.asarray(-sigma * np.log1p(-share))
    return np.asarray(sigma * np.expm1(-k * np.log1p(-share)) / k)
