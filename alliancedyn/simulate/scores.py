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
from alliancedyn.simulate import system
from alliancedyn.simulate.arguments import as_count, as_covariance, factor
from alliancedyn.simulate.course import (
    Happenings,
    Setting,
    client_lags,
    extended_path,
    happenings,
    refuse_unsuited,
)

if TYPE_CHECKING:
    from alliancedyn.simulate.dynamics import Dynamics

Array = NDArray[np.float64]

# A client whose lag matrix is still explosive after this many draws: phi_sd is absurdly large.
REDRAWS = 1000


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
    if plain(truth) and setting.plain:
        path = _within_path(truth, clients, runs, lags, within, start)
    else:
        refuse_unsuited(truth, setting, steps is not None)
        more, much_more = rng.spawn(2)
        happened = happenings(truth, clients, runs, setting, more)
        normal = within.standard_normal((runs, clients, k))
        phi = _own_lags(truth, clients, lags, happened, setting)
        cov = None if _settled(start) else _initial_cov(truth, start)
        path = extended_path(truth, normal, phi, happened, setting, cov, much_more)
    if steps is not None:
        path = path[np.asarray(steps).T, np.arange(clients)]
    _add_stable(truth, path, _effects(truth, clients, setting, stable), shifts)
    _add_covariates(truth, path, happened)
    if np.any(truth.measurement_var > 0.0):
        path += np.sqrt(truth.measurement_var) * measurement.standard_normal(path.shape)
    seen = {name: value.T for name, value in happened.values.items()}
    opened = {name: value.T for name, value in happened.open.items()}
    return Course(np.ascontiguousarray(path.transpose(1, 0, 2)), seen, opened)


def _effects(truth: Dynamics, clients: int, setting: Setting, rng: np.random.Generator) -> Array:
    """Draw levels (k) and, if they vary, slopes (k) of each client: (N, k or 2 k)."""
    effects = rng.standard_normal((clients, len(truth.random_effects_cov)))
    effects = effects @ factor(truth.random_effects_cov).T
    return effects if setting.persons is None else effects[setting.persons]


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
    clients: int,
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
    return draw_lags(truth, clients, rng, moved, setting.persons)


def _add_covariates(truth: Dynamics, path: Array, happened: Happenings) -> None:
    """Add what covariates do to levels and slopes, in place."""
    for one in truth.covariates:
        value = (happened.values[one.name] - one.mean)[..., None]
        if one.on_level is not None:
            path += value * np.array(one.on_level)
        if one.on_trend is not None and truth.trend is not None:
            basis = truth.trend.basis(len(path))
            path += basis[:, None, None] * (value * np.array(one.on_trend))


def draw_lags(
    truth: Dynamics,
    clients: int,
    rng: np.random.Generator,
    shifts: Array | None = None,
    persons: NDArray[np.int64] | None = None,
) -> Array:
    """Draw each client's lag matrix, phi_i ~ N(phi, phi_sd^2) elementwise, kept stationary.

    A client whose process has spectral radius 1 or more is drawn again, which is a draw from the
    normal truncated to stationary processes.

    Parameters
    ----------
    truth : Dynamics
    clients : int
    rng : numpy Generator
    shifts : (N, k, k) array, optional
        What moves a client's lags by covariates, therapist and site; never drawn again.
    persons : (N,) array of int, optional
        Whose episode each row is: all episodes of a person have the same lags.

    Returns
    -------
    (N, k, k) array

    Raises
    ------
    SpecificationError
        If ``phi_sd`` is so large that stationary matrices are hardly ever drawn.
    """
    k = len(truth.variables)
    spread = np.zeros((k, k)) if truth.phi_sd is None else truth.phi_sd
    own = 0.0 if shifts is None else shifts
    phi = np.empty((clients, k, k))
    pending = np.arange(clients)
    for _ in range(REDRAWS if np.any(spread) else 1):
        drawn = spread * rng.standard_normal((len(pending), k, k))
        phi[pending] = truth.phi + drawn
        whole = phi if persons is None else phi[persons]
        whole = whole if shifts is None else whole + own
        A, _ = system.companion(truth, whole, np.asarray(truth.innovation_cov))
        explosive = ~(np.abs(np.linalg.eigvals(A)).max(axis=-1) < 1.0)
        if not explosive.any():
            return whole
        pending = np.flatnonzero(explosive)
        pending = pending if persons is None else np.unique(persons[pending])
    if not np.any(spread):
        raise SpecificationError(
            f"Covariates, therapists or sites make the lags of {len(pending)} of {clients} clients "
            "explosive. Make their effects on lags smaller."
        )
    raise SpecificationError(
        f"phi_sd is too large: {len(pending)} of {clients} clients had explosive lags in each of "
        f"{REDRAWS} draws. Make phi_sd smaller."
    )


def _within_path(
    truth: Dynamics,
    clients: int,
    runs: int,
    lags: np.random.Generator,
    within: np.random.Generator,
    start: Any,
) -> Array:
    """Run w_t = Phi_i w_{t-1} + v_t: (runs, N, k), score points."""
    k = len(truth.variables)
    path = within.standard_normal((runs, clients, k))
    path[1:] @= factor(truth.innovation_cov).T
    if truth.phi_sd is None:
        initial = factor(_initial_cov(truth, start))
        path[0] = path[0] @ initial.T
        for t in range(1, runs):
            path[t] += path[t - 1] @ truth.phi.T
        return path
    phi = draw_lags(truth, clients, lags)
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
