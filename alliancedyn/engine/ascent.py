"""Climb to a maximum that is known to be close, free or with one quantity held.

Unlike :func:`~alliancedyn.engine.maximise.maximise` this starts with a good guess of the inverse
information (of the fit that a bootstrap resamples, of the maximum that a profile leaves) and
improves it by every score that it sees, so that no information is ever differenced.

With psi(theta) = c held, steps solve the quadratic program ::

    maximize  s'd - d' W^-1 d / 2   subject to   psi + g'd = c,
    d = W (s - kappa g),   kappa = (g'W s - (c - psi)) / g'W g,

s being the score, g the gradient of psi and W the metric. Where psi is curved a step is led
back to psi = c; it counts if l - weight |psi - c| gains, with a weight above |kappa|.

References
----------
Nocedal, J., & Wright, S. J. (2006). Numerical optimization (2nd ed.), chapter 18. Springer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite, sqrt
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEFT = 1e-8  # log-likelihood still to be gained at a maximum, by the quadratic model
CLOSE = 1e-8  # distance from psi = c, in standard errors
TRIES = 150  # likelihoods evaluated in one climb
HALVINGS = 12  # of one step
PATIENCE = 8  # steps that come no closer to psi = c before it is given up
RETURNS = 6  # corrections of a step that has left psi = c
ROUNDING = 1e-14  # relative loss of log-likelihood that is none
SMALL = 1e-3  # share of the median information that every element of theta is taken to have
WEAK = 1e-4  # eigenvalue of the scaled information to which smaller ones are lifted


class Hill(Protocol):
    """What can be climbed: an `Objective`, or less."""

    def value_and_score(self, theta: Array) -> tuple[float, Array]:
        """Return the log-likelihood and its derivatives by theta, (n,)."""
        ...


@dataclass(frozen=True)
class Curve:
    """A function psi of theta.

    Parameters
    ----------
    value : callable
        theta (n,) to psi; NaN where it does not exist.
    gradient : callable
        theta to the derivatives of psi, (n,).
    """

    value: Callable[[Array], float]
    gradient: Callable[[Array], Array]


FREE = Curve(lambda theta: 0.0, np.zeros_like)


@dataclass(frozen=True)
class Point:
    """Where a climb starts, is, or ends.

    Parameters
    ----------
    theta : (n,)
        The parameters.
    loglik : float
        Log-likelihood there.
    score : (n,)
        Its derivatives.
    value : float
        psi there; 0 on a free climb.
    gradient : (n,)
        Derivatives of psi.
    metric : (n, n)
        What stands for the inverse of the information.
    slope : float
        At a maximum with psi held, the derivative of its log-likelihood by psi.
    """

    theta: Array
    loglik: float
    score: Array
    value: float
    gradient: Array
    metric: Array
    slope: float = 0.0

    @classmethod
    def at(cls, hill: Hill, theta: Array, metric: Array, curve: Curve = FREE) -> Point:
        """Evaluate likelihood and curve."""
        loglik, score = hill.value_and_score(theta)
        return cls(theta, loglik, score, curve.value(theta), curve.gradient(theta), metric)


def metric_of(information: Array) -> Array:
    """Invert an information matrix, made definite where a maximum is flat or at a bound."""
    diagonal = np.diag(information)
    d = np.sqrt(np.maximum(diagonal, SMALL * max(float(np.median(diagonal)), 1e-300)))
    values, vectors = np.linalg.eigh(information / d / d[:, None])
    root = vectors / np.sqrt(np.maximum(values, WEAK)) / d[:, None]
    return np.asarray(root @ root.T)


def without(metric: Array, held: NDArray[np.bool_]) -> Array:
    """Return the metric in which the ``held`` elements of theta do not move."""
    out = np.zeros_like(metric)
    free = ~held
    across = metric[np.ix_(free, held)]
    out[np.ix_(free, free)] = metric[np.ix_(free, free)] - across @ np.linalg.solve(
        metric[np.ix_(held, held)], across.T
    )
    return out


def climb(hill: Hill, start: Point, curve: Curve = FREE, value: float = 0.0) -> Point | None:
    """Maximize the log-likelihood, under psi = ``value`` where a curve is given.

    Parameters
    ----------
    hill : Hill
        The log-likelihood.
    start : Point
        Close to the maximum, its metric close to the inverse information.
    curve : Curve
        psi.
    value : float
        What it is held at.

    Returns
    -------
    Point or None
        None if no maximum was reached.
    """
    here, weight, tries = start, 0.0, 0
    off, idle = abs(value - start.value), 0
    while tries < TRIES and idle < PATIENCE:
        step, multiplier, left = _aim(here, curve, value)
        if left < LEFT:
            return replace(here, slope=multiplier)
        if left == np.inf and abs(value - here.value) > 0.5 * off:
            idle += 1
        else:
            off, idle = abs(value - here.value), 0
        weight = max(weight, 2.0 * abs(multiplier))
        moved, halvings = _go(hill, here, step, curve, value, weight)
        if moved is None:
            return None
        here, tries = _learn(here, moved, multiplier), tries + halvings + 1
    return None


def _aim(here: Point, curve: Curve, value: float) -> tuple[Array, float, float]:
    """Return the next step, the multiplier kappa, and what is still to be gained."""
    by_score = here.metric @ here.score
    if curve is FREE:
        return by_score, 0.0, 0.5 * float(here.score @ by_score)
    by_value = here.metric @ here.gradient
    spread = max(float(here.gradient @ by_value), 1e-300)
    slope = float(here.gradient @ by_score) / spread
    away = (value - here.value) / sqrt(spread)
    left = 0.5 * float((here.score - slope * here.gradient) @ (by_score - slope * by_value))
    if abs(away) > CLOSE:
        left = np.inf
    multiplier = slope - away / sqrt(spread)
    return by_score - multiplier * by_value, multiplier, left


def _go(
    hill: Hill, here: Point, step: Array, curve: Curve, value: float, weight: float
) -> tuple[Point | None, int]:
    """Go along a step as far as likelihood and constraint together gain; count its halvings."""
    before = here.loglik - weight * abs(here.value - value)
    for halvings in range(HALVINGS):
        share = 0.5**halvings
        aim = here.value + share * (value - here.value)
        theta = _back(here.theta + share * step, here.metric, curve, aim)
        psi = curve.value(theta)
        if isfinite(psi):
            loglik, score = hill.value_and_score(theta)
            gain = loglik - weight * abs(psi - value) - before
            if isfinite(loglik) and gain >= -ROUNDING * abs(loglik) and np.isfinite(score).all():
                gradient = curve.gradient(theta)
                return Point(theta, loglik, score, psi, gradient, here.metric), halvings
    return None, HALVINGS


def _back(theta: Array, metric: Array, curve: Curve, value: float) -> Array:
    """Return to psi = value, along which a straight step does not lead; as far as that goes."""
    if curve is FREE:
        return theta
    off = abs(curve.value(theta) - value)
    for _ in range(RETURNS):
        gradient = curve.gradient(theta)
        by_value = metric @ gradient
        spread = float(gradient @ by_value)
        if not spread > 0.0 or off <= 0.1 * CLOSE * sqrt(spread):
            break
        closer = theta + (value - curve.value(theta)) / spread * by_value
        if not (now := abs(curve.value(closer) - value)) < 0.5 * off:
            break
        theta, off = closer, now
    return theta


def _learn(before: Point, after: Point, multiplier: float) -> Point:
    """Improve the metric by what a step has shown of the curvature (BFGS)."""
    move = after.theta - before.theta
    bend = multiplier * (after.gradient - before.gradient) - (after.score - before.score)
    product = float(move @ bend)
    if product <= 1e-10 * float(np.linalg.norm(move) * np.linalg.norm(bend)):
        return after
    W, by_bend = before.metric, before.metric @ bend
    cross = np.outer(move, by_bend)
    W = W - (cross + cross.T) / product
    W += (1.0 + float(bend @ by_bend) / product) / product * np.outer(move, move)
    return replace(after, metric=W)
