"""What every demonstration is made of: cells, worlds, and least squares written once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from alliancedyn import Dynamics, worlds

WORLDS = Path(__file__).resolve().parents[1] / "worlds"
ALLIANCE, SYMPTOMS = 0, 1

Key = tuple[str, str]  # what is estimated, and how
Figures = dict[Key, float]


@dataclass(frozen=True)
class Cell:
    """One point of a demonstration.

    Parameters
    ----------
    draw : callable
        Takes a ``numpy.random.SeedSequence``, returns the estimates of one panel.
    x : float, str or None
        Where the figure shows it; None if the demonstration has one cell.
    true : mapping
        What every method should find, by quantity.
    exact : mapping
        What infinitely many clients give, by quantity and method, where that can be computed.
    """

    draw: Callable[[np.random.SeedSequence], Figures]
    x: float | str | None = None
    true: Mapping[str, float] = field(default_factory=dict)
    exact: Mapping[Key, float] = field(default_factory=dict)


def load(name: str) -> worlds.World:
    """Return a world of this folder or, if there is none of this name, a preset of the package."""
    own = WORLDS / f"{name}.toml"
    return worlds.read(own) if own.exists() else worlds.load(name)


def without_levels(truth: Dynamics) -> Dynamics:
    """Return the world with neither stable differences nor a course: deviations alone."""
    k = len(truth.variables)
    return replace(truth, between_cov=np.zeros((k, k)), mean=np.zeros(k), trend=None)


def least_squares(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Regress Y (n,) or (n, k) on the columns of X (n, p), all with mean zero in truth."""
    return np.linalg.solve(X.T @ X, X.T @ Y)


def population(cov: np.ndarray, target: int, predictors: list[int]) -> np.ndarray:
    """Return what `least_squares` gives with infinitely many clients, from the covariance."""
    return np.linalg.solve(cov[np.ix_(predictors, predictors)], cov[predictors, target])


def pairs(Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all sessions but the last and all but the first, (N (T - 1), k) each."""
    k = Y.shape[2]
    return Y[:, :-1].reshape(-1, k), Y[:, 1:].reshape(-1, k)


def within_pairs(Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `pairs`, each client's less their own mean over the pairs it has in full.

    Y (N, T, k), NaN where a client is not seen. Regression of these is within-client regression,
    or fixed effects: an intercept for each client.
    """
    before, now = Y[:, :-1], Y[:, 1:]
    seen = np.isfinite(before + now).all(axis=2, keepdims=True)
    n = np.maximum(seen.sum(axis=1, keepdims=True), 1)
    own = [np.where(seen, part, 0.0) for part in (before, now)]
    centered = [np.where(seen, part - part.sum(axis=1, keepdims=True) / n, 0.0) for part in own]
    return centered[0].reshape(-1, Y.shape[2]), centered[1].reshape(-1, Y.shape[2])
