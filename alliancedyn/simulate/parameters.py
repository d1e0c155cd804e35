"""The truth written as the parameters, and as the moments, that fits report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from alliancedyn.simulate.dynamics import Dynamics

Array = NDArray[np.float64]


def named(truth: Dynamics, sessions: int | None) -> pd.Series:
    """Return the true parameters by canonical name; see `Dynamics.params`."""
    names = list(truth.variables)
    values = _matrix("phi", truth.phi, names)
    values |= _covariance("innovation_cov", truth.innovation_cov, names)
    values |= _between(truth)
    values |= _covariance("initial_cov", truth.within_cov, names)
    values |= _means(truth, sessions)
    if np.any(truth.measurement_var > 0.0):
        values |= _vector("measurement_var", truth.measurement_var, names)
    if truth.phi_sd is not None:
        values |= _matrix("phi_sd", truth.phi_sd, names)
    return pd.Series(values, dtype=float, name="true")


def score_cov(truth: Dynamics, sessions: int) -> Array:
    """Return the covariance of a client's scores, (T k, T k) session-major, squared score points.

    Between and trend: L G L' with rows of L = [I, basis(t) I]. Within: W (Phi')^(t-s), s <= t.
    """
    k = len(truth.variables)
    blocks = np.zeros((sessions, k, sessions, k))
    for lag in range(sessions):
        block = truth.within_cov @ np.linalg.matrix_power(truth.phi.T, lag)
        for s in range(sessions - lag):
            blocks[s, :, s + lag, :] = block
            blocks[s + lag, :, s, :] = block.T
    cov: Array = blocks.reshape(sessions * k, sessions * k)
    load: list[Array] = [np.tile(np.eye(k), (sessions, 1))]
    if truth.trend is not None and truth.trend.varies:
        basis = truth.trend.basis(sessions)
        load.append(np.concatenate([t * np.eye(k) for t in basis]))
    stable = np.hstack(load)
    cov += stable @ truth.random_effects_cov @ stable.T
    cov[np.diag_indices(sessions * k)] += np.tile(truth.measurement_var, sessions)
    return cov


def _between(truth: Dynamics) -> dict[str, float]:
    names = list(truth.variables)
    if truth.trend is None or not truth.trend.varies:
        return _covariance("between_cov", truth.random_effects_cov, names)
    # Canonical order puts each slope beside its intercept: alliance, alliance.trend, symptoms, ...
    k = len(names)
    order = [position for i in range(k) for position in (i, k + i)]
    factors = [factor for name in names for factor in (name, f"{name}.trend")]
    return _covariance("between_cov", truth.random_effects_cov[np.ix_(order, order)], factors)


def _means(truth: Dynamics, sessions: int | None) -> dict[str, float]:
    names = list(truth.variables)
    mean = np.asarray(truth.mean)
    if truth.trend is None:
        values = _vector("mean", mean, names)
    elif truth.trend.slope is None:
        values = {}
    else:
        values = _vector("intercept", mean, names)
        values |= _vector("trend", np.array(truth.trend.slope), names)
    if sessions is not None:
        for t, row in enumerate(truth.session_means(sessions), start=1):
            values |= {f"{key}@{t}": value for key, value in _vector("mean", row, names).items()}
    return values


def _vector(name: str, values: Array, labels: Sequence[str]) -> dict[str, float]:
    return {f"{name}[{label}]": float(v) for label, v in zip(labels, values, strict=True)}


def _matrix(name: str, values: Array, labels: Sequence[str]) -> dict[str, float]:
    return {
        f"{name}[{row},{column}]": float(values[i, j])
        for i, row in enumerate(labels)
        for j, column in enumerate(labels)
    }


def _covariance(name: str, values: Array, labels: Sequence[str]) -> dict[str, float]:
    return {
        f"{name}[{row},{column}]": float(values[i, j])
        for i, row in enumerate(labels)
        for j, column in enumerate(labels)
        if i <= j
    }
