"""The whole linear system of a world: deviations, a common cause, a second lag; who differs how.

State of client i, of first order: w_t, then U_t (with a confounder), then w_{t-1} (with a
second lag),

    z_t = A z_{t-1} + x_t,    Cov(x) = Q
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import var
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.simulate.arguments import refuse_explosive
from alliancedyn.simulate.series import ROLES

if TYPE_CHECKING:
    from alliancedyn.simulate.dynamics import Dynamics

Array = NDArray[np.float64]


def companion(truth: Dynamics, phi: Array, psi: Array) -> tuple[Array, Array]:
    """Return A and Q of the state that holds everything the next session depends on.

    Parameters
    ----------
    truth : Dynamics
    phi, psi : (..., k, k) arrays
        Lagged effects and innovation covariance of one client or of each.

    Returns
    -------
    A, Q : (..., m, m) arrays
        m = k plus 1 with a confounder plus k with a second lag. Plain worlds get ``phi`` and
        ``psi`` back.
    """
    u, phi2 = truth.confounder, truth.phi2
    if u is None and phi2 is None:
        return phi, psi
    k = phi.shape[-1]
    size = k + (u is not None) + (k if phi2 is not None else 0)
    A, Q = np.zeros((2, *phi.shape[:-2], size, size))
    A[..., :k, :k], Q[..., :k, :k] = phi, psi
    if u is not None:
        load = np.append(np.array(u.effects), 1.0)
        A[..., : k + 1, k] = u.phi * load
        Q[..., : k + 1, : k + 1] += u.var * (1.0 - u.phi**2) * np.outer(load, load)
    if phi2 is not None:
        A[..., :k, size - k :] = phi2
        A[..., size - k :, :k] = np.eye(k)
    return A, Q


def stationary(truth: Dynamics) -> tuple[Array, Array]:
    """Return A and the stationary covariance of the average client's state, both (m, m)."""
    A, Q = companion(truth, np.asarray(truth.phi), np.asarray(truth.innovation_cov))
    return A, var.stationary_cov(A, Q)


def on_lags(truth: Dynamics, paths: Any) -> Array:
    """Return changes of lagged effects, named, as a (k, k) array."""
    change = np.zeros((len(truth.variables),) * 2)
    for target, source, size in paths:
        change[truth.variables.index(target), truth.variables.index(source)] += size
    return change


def varying_slopes(truth: Dynamics) -> bool:
    """Whether clients' slopes differ, by themselves or by a covariate."""
    if truth.trend is None:
        return False
    return truth.trend.varies or any(one.on_trend is not None for one in truth.covariates)


def stable_cov(truth: Dynamics) -> Array:
    """Return the covariance of levels (k), and of slopes (k) if they vary, covariates included."""
    k = len(truth.variables)
    size = 2 * k if varying_slopes(truth) else k
    own = truth.random_effects_cov
    cov = np.zeros((size, size))
    cov[: len(own), : len(own)] = own
    for one in truth.covariates:
        if one.level == "client":
            load = np.zeros(size)
            load[:k] = 0.0 if one.on_level is None else one.on_level
            if one.on_trend is not None:
                load[k:] = one.on_trend
            cov += one.variance * np.outer(load, load)
    return cov


def passing_cov(truth: Dynamics) -> Array:
    """Return the covariance that session properties add to one session's scores, (k, k)."""
    cov = np.zeros((len(truth.variables),) * 2)
    for one in truth.covariates:
        if one.level == "session" and one.on_level is not None:
            cov += one.variance * np.outer(one.on_level, one.on_level)
    return cov


def refuse_impossible(truth: Dynamics) -> None:
    """Raise SpecificationError unless every feature fits the series and every phase settles."""
    k = len(truth.variables)
    if truth.confounder is not None:
        _refuse_length(truth.confounder.effects, k, "The confounder's effects")
    if truth.innovations is not None:
        _refuse_length(truth.innovations.log_sd, k, "log_sd")
    for one in truth.covariates:
        _refuse_length(one.on_level, k, f"on_level of {one.name!r}")
        _refuse_length(one.on_trend, k, f"on_trend of {one.name!r}")
        if one.on_trend is not None and (truth.trend is None or truth.trend.slope is None):
            raise SpecificationError(
                f"{one.name!r} changes slopes, but there are none. "
                "Give trend=GrowthCurve(slope=...)."
            )
    for event in truth.events:
        for size in (event.onset, event.while_open, event.end):
            _refuse_length(size, k, f"The pushes of {event.name!r}")
    _refuse_names(truth)
    _refuse_explosive_mixture(truth)


def _refuse_length(value: Any, k: int, name: str) -> None:
    if value is not None and len(value) != k:
        raise SpecificationError(f"{name} must have {k} numbers, one per series, not {len(value)}.")


def _refuse_names(truth: Dynamics) -> None:
    paths = [path for one in truth.covariates for path in one.on_phi]
    paths += [path for one in truth.phases for path in one.on_phi]
    ends = [name for path in paths for name in path[:2]]
    unknown = [name for name in ends if name not in truth.variables]
    if unknown:
        raise SpecificationError(f"on_phi names {listed(unknown)}, which are not among the series.")
    named = [one.name for one in truth.covariates] + [one.name for one in truth.events]
    columns = {*truth.variables, *ROLES} - {"arm"}  # an arm is a covariate
    taken = [n for n in named if n in columns or named.count(n) > 1]
    if taken:
        raise SpecificationError(f"{listed(taken)} names two things. Give each its own name.")
    if any(c.name == "arm" and (c.kind, c.level) != ("binary", "client") for c in truth.covariates):
        raise SpecificationError("An arm is a binary property of the client.")


def _refuse_explosive_mixture(truth: Dynamics) -> None:
    """Check every phase with every combination of binary covariates (normal ones: their mean)."""
    binary = [one for one in truth.covariates if one.kind == "binary" and one.on_phi]
    phases = [np.zeros_like(truth.phi)]
    for phase in sorted(truth.phases, key=lambda one: one.first):
        phases.append(phases[-1] + on_lags(truth, phase.on_phi))
    for change in phases:
        for values in product((0.0, 1.0), repeat=len(binary)):
            phi = truth.phi + change
            for one, value in zip(binary, values, strict=True):
                phi = phi + (value - one.mean) * on_lags(truth, one.on_phi)
            A, _ = companion(truth, phi, np.asarray(truth.innovation_cov))
            refuse_explosive(A)
