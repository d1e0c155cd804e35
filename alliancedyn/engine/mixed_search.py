"""Maximise the likelihood of a linear mixed model over covariances that may be singular.

The search runs over the lower triangle of Lambda, Omega = Lambda Lambda', and over the root of
rho: there a bound is an ordinary point, which Newton steps with the exact Hessian reach at their
usual speed. What these coordinates hide is that every bound looks stationary from inside it. The
verdict is therefore taken in the variances themselves (Karush, Kuhn and Tucker): where Omega is
singular the deviance must not fall as the variance rises from zero in any direction that Omega
leaves out; if it does fall, the search goes on in that direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.mixed_likelihood import (
    Slopes,
    Value,
    differentiate,
    evaluate,
    lower_places,
    upper_pairs,
)
from alliancedyn.engine.mixed_rows import ClientStatistics

Array = NDArray[np.float64]

MAX_ITERATIONS = 60
# Gain in log-likelihood that the next Newton step promises: where steps end, and what must be
# reached to call it a maximum. The first leaves estimates within 1e-5 of a standard error.
LAST_GAIN, CONVERGED_GAIN = 1e-11, 1e-9
# Below this the likelihood is a parabola, and its own rounding no reason to refuse a step.
SURE_GAIN = 1e-6
ROUGH_GAIN = 1e-3
# Share of the fall promised by the slope that a step must bring; a Newton step brings half.
ENOUGH_FALL = 0.05
# Fits on this many clients cost a few milliseconds, so many starts can be tried on them.
FEW_CLIENTS = 1500
# The likelihood of so few clients may have more than one maximum when effects correlate.
VERY_FEW_CLIENTS = 200
# Variances (relative to the residual, columns of unit size) below which a bound is tried.
SMALL = 1e-3
NEAR_BOUND = 0.01
STARTS = ((0.05, 0.02, 0.05), (0.5, 0.1, 0.2), (0.5, 0.5, 0.02), (5.0, 0.5, 0.5), (200.0, 5.0, 5.0))


@dataclass(frozen=True)
class Peak:
    """Where the search ended.

    Attributes
    ----------
    value, slopes : Value, Slopes
        Deviance and derivatives there.
    null : array (m, k)
        Orthonormal directions in which Omega has no variance (k = 0 inside).
    null_slopes : array (k,)
        Derivative of the deviance as the variance rises from zero in each of them.
    gradient : array
        Derivatives of the deviance with respect to Lambda and the root of rho.
    gain : float
        Log-likelihood that the next Newton step promises.
    iterations : int
        Steps taken on all clients.
    """

    value: Value
    slopes: Slopes
    null: Array
    null_slopes: Array
    gradient: Array
    gain: float
    iterations: int


@dataclass(frozen=True)
class _Problem:
    stats: ClientStatistics
    q: int  # columns of Z that vary; the statistics may hold one more
    reml: bool

    @property
    def nested(self) -> bool:
        return bool(len(self.stats.blocks))

    def value(self, theta: Array) -> Value:
        factor, root = self.unpack(theta)
        return evaluate(self.stats, factor @ factor.T, root**2, self.reml)

    def unpack(self, theta: Array) -> tuple[Array, float]:
        """Return Lambda (m, q) and the root of rho."""
        factor = np.zeros((len(self.stats.one), self.q))
        factor[lower_places(self.q)] = theta[: len(theta) - self.nested]
        return factor, float(theta[-1]) if self.nested else 0.0

    def pack(self, omega: Array, rho: float) -> Array:
        """Return coordinates of a covariance, singular or not."""
        lower = lower_factor(omega[: self.q, : self.q])[lower_places(self.q)]
        return np.append(lower, math.sqrt(rho)) if self.nested else lower


def maximise_mixed(stats: ClientStatistics, q: int, reml: bool) -> Peak:
    """Find the maximum from the best of a few starts and, where clients are few, from others.

    On many clients the likelihood is close to a parabola; there a rough search on a sample of them
    gives the start.

    Parameters
    ----------
    stats : ClientStatistics
        With columns of Z and X of unit size, so that starts need no scale.
    q : int
        Number of random effects per client.
    reml : bool
        Restricted (True) or full maximum likelihood.
    """
    problem = _Problem(stats, q, reml)
    sample = _sample(stats)
    if sample is not None:
        few = _Problem(sample, q, reml)
        theta, value, *_ = _climb(few, _best_start(few), ROUGH_GAIN)
        # A bound on the sample need not be one on all: start inside.
        inside = value.omega.copy()
        inside[:q, :q] += SMALL * np.eye(q)
        return _settle(problem, problem.pack(inside, value.rho + SMALL))
    peak = _settle(problem, _best_start(problem))
    for theta in _further_starts(problem, peak):
        theta, value, *_ = _climb(problem, theta, ROUGH_GAIN)
        if value.deviance < peak.value.deviance - 2.0 * ROUGH_GAIN:
            peak = min(peak, _settle(problem, theta), key=lambda one: one.value.deviance)
    return peak


def _further_starts(problem: _Problem, peak: Peak) -> list[Array]:
    """Return a start next to the bound; correlated effects of few clients get several others."""
    starts = [problem.pack(NEAR_BOUND * np.eye(problem.q), NEAR_BOUND)]
    if problem.q == 1 or len(problem.stats.root) > VERY_FEW_CLIENTS:
        return starts
    omega, rho = peak.value.omega, peak.value.rho
    largest = 0.3 * float(np.linalg.eigvalsh(omega)[-1])
    for size in (1.0, 30.0, largest):  # from a bound: another maximum may lie further inside
        if peak.null.shape[1]:
            starts.append(problem.pack(omega + size * peak.null @ peak.null.T, rho + NEAR_BOUND))
        if problem.nested and rho == 0.0:
            starts.append(problem.pack(omega, size))
    return starts + _starts(problem)


def _starts(problem: _Problem) -> list[Array]:
    return [
        problem.pack(np.diag([first] + [rest] * (problem.q - 1)), rho)
        for first, rest, rho in STARTS
    ]


def _best_start(problem: _Problem) -> Array:
    """Return the best of a few starts."""
    return min(_starts(problem), key=lambda theta: problem.value(theta).deviance)


def _sample(stats: ClientStatistics) -> ClientStatistics | None:
    """Take every so-many-th outer unit or client, or nothing where all are few."""
    stride = len(stats.root) // FEW_CLIENTS
    if stride < 2:
        return None
    chosen, blocks = np.arange(0, len(stats.root), stride), stats.blocks
    sizes = np.diff(blocks)
    if len(sizes) >= 30 * stride:  # whole units, still many of them
        units, alone = np.arange(0, len(sizes), stride), np.arange(0, stats.free, stride)
        chosen = np.concatenate([alone, *(np.arange(blocks[u], blocks[u + 1]) for u in units)])
        blocks = len(alone) + np.append(0, np.cumsum(sizes[units]))
    elif len(sizes):  # some clients of each unit
        blocks = np.unique(np.searchsorted(chosen, blocks))
    share = len(chosen) / len(stats.root)
    return replace(
        stats,
        root=np.ascontiguousarray(stats.root[chosen]),
        projected=np.ascontiguousarray(stats.projected[chosen]),
        scatter=stats.scatter * share,
        blocks=blocks,
        rows=round(stats.rows * share),
    )


def _settle(problem: _Problem, theta: Array) -> Peak:
    """Climb, try the bounds nearby, and leave those where the deviance falls inward."""
    steps, settled = 0, False
    for _ in range(10):
        _, reached, slopes, _, taken = _climb(problem, theta)
        steps += taken
        value, slopes = _try_bounds(problem, reached, slopes)
        null, falls = _null_slopes(problem, value, slopes)
        theta = problem.pack(value.omega, value.rho)
        if value.deviance < reached.deviance - CONVERGED_GAIN:
            continue  # a bound was better: what is left may move on it
        inward = _leave_bound(problem, value, slopes, null, falls)
        settled = inward is None
        if inward is None:
            break
        theta = inward
    gradient, hessian = _in_factors(problem, problem.pack(value.omega, value.rho), slopes)
    gain = _newton(theta, gradient, hessian)[1] if settled else math.inf
    return Peak(value, slopes, null, falls, gradient, gain, steps)


def _climb(
    problem: _Problem, theta: Array, enough: float = LAST_GAIN
) -> tuple[Array, Value, Slopes, float, int]:
    """Take Newton steps until they promise less than ``enough``."""
    value = problem.value(theta)
    for taken in range(MAX_ITERATIONS):
        slopes = differentiate(problem.stats, value, problem.reml)
        gradient, hessian = _in_factors(problem, theta, slopes)
        step, gain = _newton(theta, gradient, hessian)
        moved = _search_line(problem, theta, value, step, gain) if gain > enough else None
        if moved is None:
            return theta, value, slopes, gain, taken
        theta, value = moved
    return theta, value, differentiate(problem.stats, value, problem.reml), math.inf, taken + 1


def _in_factors(problem: _Problem, theta: Array, slopes: Slopes) -> tuple[Array, Array]:
    """Carry derivatives with respect to (Omega, rho) over to (Lambda, root of rho)."""
    factor, root = problem.unpack(theta)
    m, q = factor.shape
    jacobian = factor_jacobian(factor, lower_places(q))
    inner = len(jacobian)
    half = pair_matrix(slopes.gradient[:inner], m)
    rows, columns = lower_places(q)
    curved = 2.0 * half[np.ix_(rows, rows)] * (columns[:, None] == columns[None, :])
    gradient = jacobian.T @ slopes.gradient[:inner]
    hessian = jacobian.T @ slopes.hessian[:inner, :inner] @ jacobian + curved
    if not problem.nested:
        return gradient, hessian
    along = 2.0 * root
    mixed = along * (slopes.hessian[:inner, inner] @ jacobian)
    corner = along**2 * slopes.hessian[inner, inner] + 2.0 * slopes.gradient[inner]
    whole = np.empty((len(hessian) + 1,) * 2)
    whole[:-1, :-1], whole[:-1, -1], whole[-1, :-1], whole[-1, -1] = hessian, mixed, mixed, corner
    return np.append(gradient, along * slopes.gradient[inner]), whole


def factor_jacobian(factor: Array, places: tuple[NDArray[np.intp], NDArray[np.intp]]) -> Array:
    """Return d Omega_pair / d Lambda_place (pairs of m, places), Omega = Lambda Lambda'."""
    i, j = (pair[:, None] for pair in upper_pairs(len(factor)))
    a, b = (place[None, :] for place in places)
    return np.asarray((i == a) * factor[j, b] + (j == a) * factor[i, b])


def pair_matrix(gradient: Array, m: int) -> Array:
    """Return the symmetric G with d = sum_ab G_ab dOmega_ab, from derivatives by pair."""
    half = np.zeros((m, m))
    half[upper_pairs(m)] = 0.5 * gradient
    return half + half.T


def _newton(theta: Array, gradient: Array, hessian: Array) -> tuple[Array, float]:
    """Return a descent step and the gain in log-likelihood that it promises.

    Taken in coordinates divided by 1 + |theta|, where steps of up to 1 are sensible.
    """
    unit = 1.0 + np.abs(theta)
    roots, axes = np.linalg.eigh(hessian * np.outer(unit, unit))
    # Where the deviance is not convex the modulus of the curvature still gives a descent step.
    curvature = np.maximum(np.abs(roots), 1e-9 * max(1.0, float(np.abs(roots).max())))
    step = -axes @ ((axes.T @ (unit * gradient)) / curvature)
    step = unit * step / max(1.0, float(np.abs(step).max()))
    return step, 0.25 * abs(float(gradient @ step))


def _search_line(
    problem: _Problem, theta: Array, value: Value, step: Array, gain: float
) -> tuple[Array, Value] | None:
    """Halve the step until the deviance falls enough; None if only rounding is left to gain.

    The likelihood is even in each column of Lambda and in the root of rho: a step across zero to
    the mirror image of where it began must not pass for progress.
    """
    rounding = 1e-14 * abs(value.deviance)
    if gain < SURE_GAIN:
        reached = problem.value(theta + step)
        if reached.deviance < value.deviance + 100.0 * rounding:
            return theta + step, reached
    slope = 4.0 * gain  # how fast the deviance falls along the step
    for _ in range(40):
        reached = problem.value(theta + step)
        if reached.deviance < value.deviance - max(ENOUGH_FALL * slope, rounding):
            return theta + step, reached
        step, slope = 0.5 * step, 0.5 * slope
    return None


def _try_bounds(problem: _Problem, value: Value, slopes: Slopes) -> tuple[Value, Slopes]:
    """Set small variances to zero where the deviance does not rise by it."""
    candidates = []
    roots, axes = np.linalg.eigh(value.omega[: problem.q, : problem.q])
    small = int((roots < SMALL).sum())
    omegas = [value.omega]
    for count in range(1, small + 1):
        kept = np.zeros_like(value.omega)
        kept[: problem.q, : problem.q] = (axes[:, count:] * roots[count:]) @ axes[:, count:].T
        omegas.append(kept)
    rhos = [value.rho, 0.0] if 0.0 < value.rho < SMALL else [value.rho]
    for omega, rho in list(product(omegas, rhos))[1:]:
        candidates.append(evaluate(problem.stats, omega, rho, problem.reml))
    rounding = 1e-13 * abs(value.deviance) + CONVERGED_GAIN
    allowed = [one for one in candidates if one.deviance <= value.deviance + rounding]
    if not allowed:
        return value, slopes
    # The last one allowed has most zeros; a lower deviance decides before that.
    chosen = min(reversed(allowed), key=lambda one: round(one.deviance / rounding))
    return chosen, differentiate(problem.stats, chosen, problem.reml)


def _null_slopes(problem: _Problem, value: Value, slopes: Slopes) -> tuple[Array, Array]:
    """Return the directions that Omega leaves out and the deviance's derivative along each."""
    m, q = len(value.omega), problem.q
    roots, axes = np.linalg.eigh(value.omega[:q, :q])
    flat = axes[:, roots <= 1e-14 * max(1.0, float(roots[-1]))]
    D = pair_matrix(slopes.gradient[: m * (m + 1) // 2], m)[:q, :q]
    falls, turn = np.linalg.eigh(flat.T @ D @ flat)
    null = np.zeros((m, flat.shape[1]))
    null[:q] = flat @ turn
    return null, falls


def _leave_bound(
    problem: _Problem, value: Value, slopes: Slopes, null: Array, falls: Array
) -> Array | None:
    """Return coordinates just inside the bound, where the deviance is lower there."""
    moves = [(np.outer(w, w), 0.0) for w, fall in zip(null.T, falls, strict=True) if fall < 0]
    if problem.nested and value.rho == 0.0 and slopes.gradient[-1] < 0.0:
        moves.append((np.zeros_like(value.omega), 1.0))
    best: Value | None = None
    for direction, along in moves:
        for size in (1e-6, 1e-4, 1e-2, 0.1, 1.0):
            reached = evaluate(
                problem.stats, value.omega + size * direction, size * along, problem.reml
            )
            if reached.deviance < (best or value).deviance - CONVERGED_GAIN:
                best = reached
    return None if best is None else problem.pack(best.omega, best.rho)


def lower_factor(omega: Array) -> Array:
    """Return a lower triangular Lambda with Lambda Lambda' = Omega, singular or not."""
    roots, axes = np.linalg.eigh(omega)
    half = axes * np.sqrt(np.maximum(roots, 0.0))
    return np.asarray(np.linalg.qr(half.T)[1].T, dtype=np.float64)
