"""How far a posterior moves when its prior, or its likelihood, is raised to a power.

With weights w_s proportional to c(theta_s)^(alpha - 1), c the prior or the likelihood of draw s,
the draws become those of the posterior with c^alpha in place of c. How far a quantity's
distribution moves is the cumulative Jensen-Shannon distance between its weighted and unweighted
empirical distribution; per doubling of the power, at alpha near 1, that is its sensitivity.

References
----------
Kallioinen, N., Paananen, T., Bürkner, P.-C., & Vehtari, A. (2024). Detecting and diagnosing prior
and likelihood sensitivity with power-scaling. Statistics and Computing, 34, 57.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.laplace import smooth_weights

Array = NDArray[np.float64]

DELTA = 0.01  # alpha = 1 + DELTA and 1 / (1 + DELTA)


def sensitivity(values: Array, log_component: Array) -> tuple[Array, float]:
    """Return the sensitivity of quantities to a component of the posterior.

    Parameters
    ----------
    values : (D, m)
        Draws of the quantities.
    log_component : (D,)
        Log prior density, or log-likelihood, of every draw.

    Returns
    -------
    (m,)
        0 where a quantity does not move.
    float
        The larger Pareto k of the weights; above .7 they cannot be trusted.
    """
    moved = np.zeros(values.shape[1])
    worst = -np.inf
    for alpha in (1.0 / (1.0 + DELTA), 1.0 + DELTA):
        log_weights, k = smooth_weights((alpha - 1.0) * log_component)
        weights = np.exp(log_weights)
        worst = max(worst, k)
        moved += [
            max(distance(x, weights), distance(-x, weights)) for x in np.ascontiguousarray(values.T)
        ]
    return moved / (2.0 * np.log2(1.0 + DELTA)), worst


def distance(draws: Array, weights: Array) -> float:
    """Return the cumulative Jensen-Shannon distance of weighted from unweighted draws (D,)."""
    order = np.argsort(draws, kind="stable")
    x, w = draws[order], weights[order]
    width = np.diff(x)
    P = np.arange(1, len(x)) / len(x)
    Q = np.cumsum(w / w.sum())[:-1]
    area_p, area_q = float(P @ width), float(Q @ width)
    if area_p + area_q <= 0.0:
        return 0.0
    middle = (P + Q) / 2.0
    tilt = 0.5 / np.log(2.0) * (area_q - area_p)
    from_p = float((P * _log2_ratio(P, middle)) @ width) + tilt
    from_q = float((Q * _log2_ratio(Q, middle)) @ width) - tilt
    return float(np.sqrt((max(from_p, 0.0) + max(from_q, 0.0)) / (area_p + area_q)))


def _log2_ratio(top: Array, bottom: Array) -> Array:
    """Return log2(top / bottom), 0 where top is 0."""
    ratio = np.divide(top, bottom, out=np.ones_like(top), where=top > 0.0)
    return np.asarray(np.log2(ratio))
