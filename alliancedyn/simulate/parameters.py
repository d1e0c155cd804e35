"""The truth written as the parameters, and as the moments, that fits report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.engine import names, var

if TYPE_CHECKING:
    from alliancedyn.simulate.dynamics import Dynamics

Array = NDArray[np.float64]


def named(truth: Dynamics, sessions: int | None) -> pd.Series:
    """Return the true parameters by canonical name; see `Dynamics.params`."""
    series = tuple(truth.variables)
    values = _matrix("phi", truth.phi, series)
    values |= _covariance("innovation_cov", truth.innovation_cov, series)
    values |= _between(truth)
    values |= _covariance("initial_cov", truth.within_cov, series)
    values |= _means(truth, sessions)
    if np.any(truth.measurement_var > 0.0):
        values |= _vector("measurement_var", truth.measurement_var, series)
    if truth.phi_sd is not None:
        values |= _matrix("phi_sd", truth.phi_sd, series)
    return pd.Series(values, dtype=float, name="true")


def time_ordered(
    truth: Dynamics, after: int, before: int, to_before: float, to_after: float
) -> pd.DataFrame:
    """Return the paths in time order by name, raw and standardized; see `Dynamics.structural`.

    ``after`` and ``before`` are the positions of the two series; ``to_before`` and ``to_after``
    the within-SD ratios source / target that standardize an effect on either.
    """
    order = np.ix_((after, before), (after, before))
    b, g, h, phi_after, phi_before = var.structural_form(
        truth.phi[order], truth.innovation_cov[order]
    )
    process_after = truth.variables[after] == truth.process
    across, within = ("forward", "backward") if process_after else ("backward", "forward")
    crossed = {
        across: (b, b * to_before),
        f"{within}_immediate": (g, g * to_after),
        f"{within}_delayed": (h, h * to_after),
    }
    rows = dict(sorted(crossed.items(), key=lambda row: row[0].startswith("backward")))
    own = {truth.variables[after]: phi_after, truth.variables[before]: phi_before}
    for name in (truth.process, truth.outcome):
        rows[names.label("autoregression", name)] = (own[name], own[name])
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "standardized"])


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
    series = tuple(truth.variables)
    if truth.trend is None or not truth.trend.varies:
        return _covariance("between_cov", truth.random_effects_cov, series)
    # Canonical order puts each slope beside its intercept: alliance, alliance.trend, symptoms, ...
    k = len(series)
    order = [position for i in range(k) for position in (i, k + i)]
    factors = [factor for name in series for factor in (name, f"{name}.trend")]
    return _covariance("between_cov", truth.random_effects_cov[np.ix_(order, order)], factors)


def _means(truth: Dynamics, sessions: int | None) -> dict[str, float]:
    series = tuple(truth.variables)
    mean = np.asarray(truth.mean)
    values: dict[str, float] = {}
    if truth.trend is None:
        values |= _vector("mean", mean, series)
    elif truth.trend.slope is not None:
        values |= _vector("intercept", mean, series)
        values |= _vector("trend", np.array(truth.trend.slope), series)
    if sessions is not None:
        for t, row in enumerate(truth.session_means(sessions), start=1):
            values |= _vector("mean", row, series, session=t)
    return values


def _vector(
    family: str, values: Array, series: Sequence[str], session: int | None = None
) -> dict[str, float]:
    labels = (names.label(family, name, session=session) for name in series)
    return dict(zip(labels, values.tolist(), strict=True))


def _matrix(family: str, values: Array, series: Sequence[str]) -> dict[str, float]:
    labels = names.matrix_labels(family, series, series)
    return dict(zip(labels, values.ravel().tolist(), strict=True))


def _covariance(family: str, values: Array, series: Sequence[str]) -> dict[str, float]:
    labels = names.symmetric_labels(family, series)
    upper = values[np.triu_indices(len(series))]
    return dict(zip(labels, upper.tolist(), strict=True))
