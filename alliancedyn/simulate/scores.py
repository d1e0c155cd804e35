"""Draw the scores of a simulated world as one array: every client, every session, nothing missing.

Each part (stable levels, client lags, within-client course, measurement error) has its own random
stream, so switching one part on leaves the others as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import var
from alliancedyn.errors import SpecificationError
from alliancedyn.simulate.arguments import as_count, as_covariance, factor
from alliancedyn.simulate.course import (
    Happenings,
    Setting,
    client_lags,
    extended_path,
    happenings,
    refuse_unsuited,
)
from alliancedyn.simulate.random_effects import OwnEffects

if TYPE_CHECKING:
    from alliancedyn.simulate.dynamics import Dynamics

Array = NDArray[np.float64]


def simulate_scores(
    truth: Dynamics,
    clients: int,
    sessions: int,
    rng: np.random.Generator,
    *,
    start: Any = "stationary",
    shifts: Array | None = None,
    steps: NDArray[np.int64] | None = None,
) -> Array:
    """Draw y_it = mean + k_i + trend_i(t) + w_it + e_it for all clients and sessions.

    Parameters
    ----------
    truth : Dynamics
        The world.
    clients, sessions : int
        How many of each, N and T.
    rng : numpy Generator
        Four streams are spawned from it. Two calls with the same generator give new scores.
    start : "stationary" or (k, k) array, squared score points
        Covariance of the within-client deviations at session 1.
    shifts : (N, k) array, score points, optional
        Added to each client's stable level, e.g. the therapist's effect.
    steps : (N, T) integers, optional
        How many times the dynamics have run when each session takes place, from 0 and
        non-decreasing. Default: once per session.

    Returns
    -------
    (N, T, k) array, score points
        No NaN.

    Raises
    ------
    SpecificationError
        If counts, ``start`` or the spread of the lags are impossible.
    """
    course = draw_course(
        truth, clients, sessions, rng, start=start, shifts=shifts, steps=steps, setting=Setting()
    )
    return course.scores


@dataclass(frozen=True)
class Course:
    """What was drawn.

    ``scores`` (N, T, k); by name the covariates (N,) or (N, T), and the sessions (N, T) at which
    an event was open.
    """

    scores: Array
    covariates: dict[str, Array]
    events: dict[str, Array]


def draw_course(
    truth: Dynamics,
    clients: int,
    sessions: int,
    rng: np.random.Generator,
    *,
    start: Any,
    shifts: Array | None,
    steps: NDArray[np.int64] | None,
    setting: Setting,
) -> Course:
    """Draw scores with everything else that happens; arguments as in `simulate_scores`.

    ``shifts`` may be (T, N, k), where levels change during treatment.
    """
    clients = as_count(clients, 1, "clients")
    sessions = as_count(sessions, 1, "sessions")
    k = len(truth.variables)
    stable, lags, within, measurement = rng.spawn(4)
    truth.session_means(sessions)  # refuses a curve that is too short before anything is drawn
    runs = sessions if steps is None else int(steps.max()) + 1
    happened = Happenings({}, {}, None)
    own = OwnEffects(truth, clients, stable, setting.persons)
    if plain(truth) and setting.plain:
        path = _within_path(truth, own, runs, lags, within, start)
    else:
        refuse_unsuited(truth, setting, steps is not None)
        more, much_more = rng.spawn(2)
        happened = happenings(truth, clients, runs, setting, more)
        normal = within.standard_normal((runs, clients, k))
        phi = _own_lags(truth, own, lags, happened, setting)
        cov = None if _settled(start) else _initial_cov(truth, start)
        path = extended_path(truth, normal, phi, happened, setting, cov, much_more, own)
    if steps is not None:
        path = path[np.asarray(steps).T, np.arange(clients)]
    _add_stable(truth, path, own.stable(), shifts)
    _add_covariates(truth, path, happened)
    if np.any(truth.measurement_var > 0.0):
        path += np.sqrt(truth.measurement_var) * measurement.standard_normal(path.shape)
    seen = {name: value.T for name, value in happened.values.items()}
    opened = {name: value.T for name, value in happened.open.items()}
    return Course(np.ascontiguousarray(path.transpose(1, 0, 2)), seen, opened)


def _add_stable(truth: Dynamics, path: Array, effects: Array, shifts: Array | None) -> None:
    """Add levels, expected course and own slopes to the deviations (T, N, k), in place."""
    sessions, _, k = path.shape
    path += effects[:, :k] if shifts is None else effects[:, :k] + shifts
    path += truth.session_means(sessions)[:, None, :]
    if truth.trend is not None and truth.trend.varies:
        path += truth.trend.basis(sessions)[:, None, None] * effects[:, k:]


def plain(truth: Dynamics) -> bool:
    """Whether nothing but lags, levels, trends and measurement error is in the world."""
    extra = (truth.phi2, truth.innovations, truth.confounder)
    happens = (truth.covariates, truth.phases, truth.events)
    return all(part is None for part in extra) and not any(happens)


def _own_lags(
    truth: Dynamics,
    own: OwnEffects,
    rng: np.random.Generator,
    happened: Happenings,
    setting: Setting,
) -> Array | None:
    """Draw each client's lags where they differ, (N, k, k); None where they do not."""
    moved = client_lags(truth, happened)
    if setting.lag_shifts is not None:
        moved = setting.lag_shifts if moved is None else moved + setting.lag_shifts
    if truth.phi_sd is None and moved is None:
        return None
    return own.lags(rng, moved)


def _add_covariates(truth: Dynamics, path: Array, happened: Happenings) -> None:
    """Add what covariates do to levels and slopes, in place."""
    for one in truth.covariates:
        value = (happened.values[one.name] - one.mean)[..., None]
        if one.on_level is not None:
            path += value * np.array(one.on_level)
        if one.on_trend is not None and truth.trend is not None:
            basis = truth.trend.basis(len(path))
            path += basis[:, None, None] * (value * np.array(one.on_trend))


def _within_path(
    truth: Dynamics,
    own: OwnEffects,
    runs: int,
    lags: np.random.Generator,
    within: np.random.Generator,
    start: Any,
) -> Array:
    """Run w_t = Phi_i w_{t-1} + v_t: (runs, N, k), score points."""
    k = len(truth.variables)
    path = within.standard_normal((runs, own.clients, k))
    path[1:] @= factor(truth.innovation_cov).T
    if truth.phi_sd is None:
        initial = factor(_initial_cov(truth, start))
        path[0] = path[0] @ initial.T
        for t in range(1, runs):
            path[t] += path[t - 1] @ truth.phi.T
        return path
    phi = own.lags(lags)
    settled = _settled(start)
    cov = settled_cov(phi, truth.innovation_cov) if settled else _initial_cov(truth, start)
    path[0] = (factor(cov) @ path[0][:, :, None])[:, :, 0]
    for t in range(1, runs):
        path[t] += (phi @ path[t - 1][:, :, None])[:, :, 0]
    return path


def settled_cov(phi: Array, psi: Array) -> Array:
    """Return every client's own stationary covariance, P_i = Phi_i P_i Phi_i' + Psi.

    `engine.var.stationary_cov` does this for one matrix; here all clients at once by doubling,
    P <- P + A P A', A <- A A, which sums 2^n terms of the series in n rounds.

    Parameters
    ----------
    phi : (N, k, k) array, spectral radii below 1
    psi : (k, k) array, squared score points

    Returns
    -------
    (N, k, k) array, squared score points
    """
    cov = np.broadcast_to(psi, phi.shape).copy()
    power = phi
    while np.abs(power).max() > 1e-10:
        cov += power @ cov @ power.swapaxes(-1, -2)
        power = power @ power
    return cov


def _settled(start: Any) -> bool:
    return isinstance(start, str) and start == "stationary"


def _initial_cov(truth: Dynamics, start: Any) -> Array:
    if isinstance(start, str):
        if start != "stationary":
            raise SpecificationError(
                f'start={start!r} is not known. Use "stationary" or a covariance matrix of the '
                "within-client deviations at session 1."
            )
        return var.stationary_cov(truth.phi, truth.innovation_cov)
    return as_covariance(start, len(truth.variables), "start")
