"""Maximize a log-likelihood, judge the maximum, and say how sure it is.

Nothing here knows a model: an :class:`Objective` has a value and a score. The optimizer is
BFGS, started from the inverse of the summed outer products of the clients' scores, and polished
by Newton steps with the observed information, which the standard errors need anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from alliancedyn.errors import SpecificationError

Array = NDArray[np.float64]

STEP = 1e-4  # of theta, in standard deviations: truncation error about 1e-8 of the information
DECREMENT = 1e-13  # log-likelihood still to be gained, by the quadratic model, at a maximum
HALVINGS = 6  # of a Newton step that does not lead up
ROUNDING = 1e-15  # relative gain that no log-likelihood shows
DISTINCT = 1e-2  # log-likelihood by which two maxima differ; less is a search near a bound
MOVED = 1e-7  # gain of a step after which the information is taken again
ROUGH = 1e-6  # curvature, relative to a parameter's own, that differences may give to none
STEEP = 1e-3  # and that they do not
UPWARD = 1e-4  # gain of log-likelihood in such a direction that is no rounding
FLAT = 1e-9  # eigenvalue of the scaled information below which a direction carries nothing
REFUSED = 1e12  # value given to the optimizer where the likelihood does not exist


class Objective(Protocol):
    """A log-likelihood that can be maximized; sums over clients, so it can be distributed."""

    def __init__(self, *_: object, **__: object) -> None:
        raise SpecificationError(
            "Objective says what a log-likelihood must have. To get one: model.objective(panel)."
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical names of the free parameters."""
        ...

    @property
    def start(self) -> Array:
        """Starting values of theta, (n,)."""
        ...

    @property
    def linear(self) -> NDArray[np.bool_]:
        """Which elements the score is linear in, (n,)."""
        ...

    def value_and_score(self, theta: Array) -> tuple[float, Array]:
        """Return the log-likelihood and its derivatives by theta, (n,)."""
        ...

    def scores(self, theta: Array) -> Array:
        """Return every client's derivatives, (N, n)."""
        ...

    def to_params(self, theta: Array) -> dict[str, float]:
        """Return the natural parameters by canonical name."""
        ...


@dataclass(frozen=True)
class Maximum:
    """Where the search ended.

    Parameters
    ----------
    theta : (n,)
        The parameters.
    loglik : float
        Log-likelihood there.
    score : (n,)
        Its derivatives there.
    information : (n, n)
        Observed information, minus the second derivatives.
    decrement : float
        What a further Newton step would gain, in log-likelihood units.
    condition : float
        Condition number of the information, scaled to a unit diagonal.
    flat : tuple of int
        Elements of theta in directions that carry no information.
    evaluations : int
        Likelihood evaluations used.
    converged : bool
        Nothing is left to gain and no direction leads up; there may be flat ones.
    others : tuple of (float, (n,))
        Log-likelihood and parameters of other maxima, at which other starts ended.
    """

    theta: Array
    loglik: float
    score: Array
    information: Array
    decrement: float
    condition: float
    flat: tuple[int, ...]
    evaluations: int
    converged: bool
    others: tuple[tuple[float, Array], ...] = ()

    @property
    def lower(self) -> tuple[float, ...]:
        """Log-likelihoods of other maxima that are lower than this one."""
        return tuple(value for value, _ in self.others if value < self.loglik - DISTINCT)


def observed_information(
    score: Callable[[Array], Array], theta: Array, linear: NDArray[np.bool_], at_theta: Array
) -> Array:
    """Return minus the derivatives of the score, (n, n), by differences.

    Means enter the score linearly, so that one difference is exact for them; the other
    parameters take a central one.

    Parameters
    ----------
    score : callable
        theta to its score, (n,).
    theta : (n,)
        Where.
    linear : (n,) bool
        Elements in which the score is linear.
    at_theta : (n,)
        The score at ``theta``.
    """
    n = len(theta)
    H = np.empty((n, n))
    for i in range(n):
        step = np.zeros(n)
        if linear[i]:
            step[i] = 1.0
            H[i] = at_theta - score(theta + step)
        else:
            step[i] = STEP
            H[i] = (score(theta - step) - score(theta + step)) / (2.0 * STEP)
    # Only the block of means is linear: the mixed derivatives come from the central differences.
    mixed = linear[:, None] & ~linear[None, :]
    H = np.where(mixed, H.T, H)
    return np.asarray((H + H.T) / 2.0)


def invert_information(H: Array) -> tuple[Array, float, tuple[int, ...]]:
    """Invert an information matrix; directions that carry nothing are left out.

    Returns
    -------
    inverse : (n, n)
        Inverse on the directions that carry information.
    condition : float
        Condition number after scaling to a unit diagonal; inf if not positive definite.
    flat : tuple of int
        Elements with weight in the directions that were left out, empty if there are none.
    """
    d = _scale(H)
    values, vectors = np.linalg.eigh(H / d / d[:, None])
    carries = values > FLAT
    root = vectors[:, carries] / np.sqrt(values[carries]) / d[:, None]
    if carries.all():
        return root @ root.T, float(values[-1] / values[0]), ()
    weight = np.abs(vectors[:, ~carries])
    heavy = (weight > 0.3 * weight.max(axis=0)).any(axis=1)
    return root @ root.T, float("inf"), tuple(int(i) for i in np.flatnonzero(heavy))


def _scale(H: Array) -> Array:
    """Roots of the diagonal, kept from zero where a parameter carries nothing at all."""
    diagonal = np.diag(H)
    return np.asarray(np.sqrt(np.maximum(diagonal, 1e-12 * max(diagonal.max(), 1e-300))))


def _preconditioner(scores: Array) -> Array:
    """Inverse of the summed outer products, drawn to its diagonal where clients are few."""
    n_clients, n = scores.shape
    B = scores.T @ scores
    B[np.diag_indices(n)] += 1e-8 * np.trace(B) / n + 1e-12
    shrink = min(1.0, n / n_clients)
    B = (1.0 - shrink) * B + shrink * np.diag(np.diag(B))
    inverse = np.linalg.inv(B)
    return (inverse + inverse.T) / 2.0


@dataclass(frozen=True)
class _End:
    """Where a search ended, its log-likelihood, whether it says so itself, evaluations used."""

    theta: Array
    loglik: float
    settled: bool
    evaluations: int


def _search(objective: Objective, start: Array) -> _End:
    n_clients = len(scores := objective.scores(start))
    root = np.linalg.cholesky(_preconditioner(scores) * n_clients)

    def negative(u: Array) -> tuple[float, Array]:
        value, score = objective.value_and_score(start + root @ u)
        if not np.isfinite(value) or not np.isfinite(score).all():
            return REFUSED, np.zeros_like(u)
        return -value / n_clients, -(root.T @ score) / n_clients

    found = minimize(
        negative, np.zeros_like(start), jac=True, method="BFGS",
        options={"gtol": 1e-6, "maxiter": 500},
    )  # fmt: skip
    settled = float(np.abs(found.jac).max()) < 1e-4
    end = start + root @ found.x
    return _End(end, -float(found.fun) * n_clients, settled, int(found.nfev) + 1)


def _polish(objective: Objective, theta: Array, steps: int = 8) -> tuple[Maximum, int]:
    """Newton steps until nothing is left to gain; the last information is kept."""
    value, score = objective.value_and_score(theta)
    used = 1

    def score_at(where: Array) -> Array:
        return objective.value_and_score(where)[1]

    H = observed_information(score_at, theta, objective.linear, score)
    inverse, condition, flat = invert_information(H)
    used += len(theta) + int((~objective.linear).sum())
    for step in range(steps):
        move = inverse @ score
        decrement = 0.5 * float(score @ move)
        if decrement < DECREMENT:
            break
        for _ in range(HALVINGS):
            moved, moved_score = objective.value_and_score(theta + move)
            used += 1
            if moved > value or decrement < ROUNDING * abs(value):
                break
            move = move / 2.0
        if not moved > value:
            break
        theta, value, score = theta + move, moved, moved_score
        if decrement > MOVED or step > 1:
            H = observed_information(score_at, theta, objective.linear, score)
            inverse, condition, flat = invert_information(H)
            used += len(theta) + int((~objective.linear).sum())
    decrement = 0.5 * float(score @ inverse @ score)
    level = decrement < 1e-6 and float(np.abs(score).max()) < 1e-2
    top = level and not _leads_up(objective, theta, value, H)
    return Maximum(theta, value, score, H, decrement, condition, flat, used, top), used


def _leads_up(objective: Objective, theta: Array, value: float, H: Array) -> bool:
    """Say whether a direction of negative curvature leads up, and not only seems to by rounding.

    Where a covariance is singular some directions have no curvature at all; differences then give
    them a little of either sign.
    """
    d = _scale(H)
    curvature, directions = np.linalg.eigh(H / d / d[:, None])
    if curvature[0] < -STEEP:
        return True
    tried = (
        objective.value_and_score(theta + step * direction)[0]
        for direction in directions[:, curvature < -ROUGH].T / d
        for step in (-1.0, -0.1, 0.1, 1.0)  # standard errors
    )
    return any(found > value + UPWARD for found in tried)


def maximise(objective: Objective, starts: Sequence[Array] | None = None) -> Maximum:
    """Maximize a log-likelihood from one start, or from several and keep the best.

    Parameters
    ----------
    objective : Objective
    starts : sequence of (n,) arrays, optional
        Starting values; by default the objective's own.

    Returns
    -------
    Maximum

    Raises
    ------
    SpecificationError
        If the likelihood does not exist at any start.
    """
    usable = [
        start
        for start in ([objective.start] if starts is None else starts)
        if np.isfinite(objective.value_and_score(start)[0])
    ]
    if not usable:
        raise SpecificationError(
            "The likelihood does not exist at the starting values. Check the scores for a series "
            "that hardly varies, or give the model fewer parameters."
        )
    ends = sorted((_search(objective, start) for start in usable), key=lambda end: -end.loglik)
    best, polishing = _polish(objective, ends[0].theta)
    used = polishing + sum(end.evaluations + 1 for end in ends)
    others = [(end.loglik, end.theta) for end in ends[1:] if end.settled]
    return replace(best, evaluations=used, others=tuple(others))


def sandwich(inverse: Array, scores: Array, clusters: NDArray[np.int64] | None = None) -> Array:
    """Return the covariance H^-1 (sum s s') H^-1, robust to the distribution of the scores.

    Parameters
    ----------
    inverse : (n, n)
        Inverse of the observed information H.
    scores : (N, n)
        Every client's score.
    clusters : (N,) int, optional
        Codes of the clusters within which clients are not independent; scores are summed within
        them and the middle is multiplied by J / (J - 1), J clusters.
    """
    return np.asarray(inverse @ outer_products(scores, clusters) @ inverse)


def outer_products(scores: Array, clusters: NDArray[np.int64] | None = None) -> Array:
    """Return sum s s' over clients, or J / (J - 1) times that over clusters, (n, n)."""
    if clusters is None:
        return np.asarray(scores.T @ scores)
    codes = np.unique(clusters, return_inverse=True)[1]
    J = int(codes.max()) + 1
    sums = np.zeros((J, scores.shape[1]))
    np.add.at(sums, codes, scores)
    return np.asarray(sums.T @ sums * (J / (J - 1.0)))
