"""The truth written as the parameters, and as the moments, that fits report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.engine import continuous, names, var
from alliancedyn.errors import SpecificationError
from alliancedyn.simulate import random_effects, system
from alliancedyn.simulate.arguments import as_array, as_covariance, refuse_explosive

if TYPE_CHECKING:
    from alliancedyn.simulate.dynamics import Dynamics

Array = NDArray[np.float64]

Within: TypeAlias = Literal["within"] | None
Ends: TypeAlias = Literal["sustained", "total"]


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
    values |= random_effects.named(truth)
    if truth.phi2 is not None:
        values |= _matrix("phi2", truth.phi2, series)
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

    Between and trend: L G L' with rows of L = [I, basis(t) I]. Within: the first k rows and columns
    of P (A')^(t-s), s <= t, A and P those of the whole state (of a plain world: Phi and W).
    """
    k = len(truth.variables)
    blocks = np.zeros((sessions, k, sessions, k))
    A, settled = system.stationary(truth)
    for lag in range(sessions):
        block = (settled @ np.linalg.matrix_power(A.T, lag))[:k, :k]
        for s in range(sessions - lag):
            blocks[s, :, s + lag, :] = block
            blocks[s + lag, :, s, :] = block.T
    cov: Array = blocks.reshape(sessions * k, sessions * k)
    load: list[Array] = [np.tile(np.eye(k), (sessions, 1))]
    if truth.trend is not None and system.varying_slopes(truth):
        basis = truth.trend.basis(sessions)
        load.append(np.concatenate([t * np.eye(k) for t in basis]))
    stable = np.hstack(load)
    cov += stable @ system.stable_cov(truth) @ stable.T
    cov += np.kron(np.eye(sessions), system.passing_cov(truth))
    cov[np.diag_indices(sessions * k)] += np.tile(truth.measurement_var, sessions)
    return cov


def stable_shares(truth: Dynamics) -> Array:
    """Return each series' share of variance that is stable between clients; see `Dynamics.icc`."""
    between = np.diag(system.stable_cov(truth))[: len(truth.variables)]
    passing = np.diag(truth.within_cov) + np.diag(system.passing_cov(truth))
    total = between + passing + truth.measurement_var
    return np.divide(between, total, out=np.full(len(total), np.nan), where=total > 0)


def response(truth: Dynamics, push: Array, sessions: int) -> Array:
    """Return where a push (k,) of the states is after 0, 1, ... sessions: (sessions + 1, k)."""
    A, _ = system.stationary(truth)
    whole = np.zeros(len(A))
    whole[: len(push)] = push
    return var.impulse_response(A, whole, sessions)[:, : len(push)]


def total_effect(truth: Dynamics) -> Array:
    """Return the summed responses after a passing push, (I - Phi - Phi2)^-1 - I: (k, k)."""
    if truth.phi2 is None:
        return var.total_effect(truth.phi)
    k = len(truth.variables)
    return np.linalg.inv(np.eye(k) - truth.phi - truth.phi2) - np.eye(k)


def after_before(truth: Dynamics, what: str) -> tuple[int, int]:
    """Return the positions of the series taken after and of that taken before the session."""
    taken = dict(truth.timing or {})
    if len(truth.variables) != 2 or sorted(taken.values()) != ["after", "before"]:
        raise SpecificationError(
            f"{what} needs two series, one taken before and one after the session. "
            'Pass timing={"name": "before", "other": "after"}.'
        )
    after = next(i for i, name in enumerate(truth.variables) if taken[name] == "after")
    if not truth.innovation_cov[1 - after, 1 - after] > 0.0:
        raise SpecificationError(f"{what} needs innovations in the score taken before.")
    return after, 1 - after


def one_week(drift: Any, diffusion_cov: Any) -> tuple[Array, Array]:
    """Return lag matrix and innovation covariance of a process in continuous time at gap 1."""
    size = len(np.atleast_1d(np.asarray(drift, dtype=object)))
    A = as_array(drift, (size, size), "drift")
    Q = as_covariance(diffusion_cov, size, "diffusion_cov")
    phi, psi = continuous.discretise(A, Q, np.ones(1))
    refuse_explosive(phi[0])
    return phi[0], psi[0]


def refuse_mixture(truth: Dynamics) -> None:
    """Raise SpecificationError where clients' scores are a mixture without a closed form."""
    spread = truth.phi_sd is not None and bool(np.any(truth.phi_sd))
    moved = any(one.on_phi for one in truth.covariates)
    log_sd = None if truth.innovations is None else truth.innovations.log_sd
    mixed = {
        "lags vary over clients. Use phi_sd=None": spread,
        "covariates change lags. Leave out their on_phi": moved,
        "lags change between phases. Leave out phases": bool(truth.phases),
        "innovation variances vary over clients. Leave out log_sd": log_sd is not None,
        "events happen. Leave out events": bool(truth.events),
    }
    for reason, present in mixed.items():
        if present:
            raise SpecificationError(f"moments() has no closed form where {reason}.")


def _between(truth: Dynamics) -> dict[str, float]:
    series = tuple(truth.variables)
    cov = system.stable_cov(truth)
    if len(cov) == len(series):
        return _covariance("between_cov", cov, series)
    # Canonical order puts each slope beside its intercept: alliance, alliance.trend, symptoms, ...
    k = len(series)
    order = [position for i in range(k) for position in (i, k + i)]
    factors = [factor for name in series for factor in (name, f"{name}.trend")]
    return _covariance("between_cov", cov[np.ix_(order, order)], factors)


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
