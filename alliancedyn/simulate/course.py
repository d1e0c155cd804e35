"""The within-client course of a world in which more happens than lags and normal innovations.

    w_it = Phi_it w_i,t-1 + Phi2 w_i,t-2 + c U_it + O m_(-i),t-1 + g_t + push_it + v_it

All clients at once, one step per session. Plain worlds take the shorter way in `scores`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import continuous
from alliancedyn.errors import SpecificationError
from alliancedyn.simulate import system
from alliancedyn.simulate.arguments import factor, refuse_explosive
from alliancedyn.simulate.features import Event
from alliancedyn.simulate.groups import Groups, Membership, first_states, run_open
from alliancedyn.simulate.random_effects import OwnEffects

if TYPE_CHECKING:
    from alliancedyn.simulate.dynamics import Dynamics

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """What surrounds the clients of one simulated panel.

    ``lag_shifts`` (N, k, k) or None: effects of therapist and site on each client's lags.
    ``groups`` and ``members``: therapy groups. ``persons`` (N,): whose episode each row is.
    ``weeks`` (N, T) or None: when sessions take place, for a process in continuous time.
    """

    lag_shifts: Array | None = None
    groups: Groups | None = None
    members: Membership | None = None
    persons: NDArray[np.int64] | None = None
    weeks: Array | None = None

    @property
    def plain(self) -> bool:
        """Whether clients are independent and each has the lags of the world."""
        parts = (self.lag_shifts, self.groups, self.persons, self.weeks)
        return all(part is None for part in parts)


@dataclass(frozen=True)
class Happenings:
    """What was drawn beside the scores, all unseen but for the columns.

    ``values`` name -> (N,) or (runs, N): covariates. ``open`` name -> (runs, N) of 0 and 1.
    ``push`` (runs, N, k) or None: what events add to the states.
    """

    values: dict[str, Array]
    open: dict[str, Array]
    push: Array | None


def happenings(
    truth: Dynamics, clients: int, runs: int, setting: Setting, rng: np.random.Generator
) -> Happenings:
    """Draw covariates and events, each from its own stream."""
    streams = rng.spawn(len(truth.covariates) + len(truth.events))
    values: dict[str, Array] = {}
    for one, stream in zip(truth.covariates, streams, strict=False):
        if one.level == "session":
            values[one.name] = one.draw((runs, clients), stream)
        else:
            drawn = one.draw((clients,), stream)
            values[one.name] = drawn if setting.persons is None else drawn[setting.persons]
    seen: dict[str, Array] = {}
    push: Array | None = None
    for event, stream in zip(truth.events, streams[len(truth.covariates) :], strict=True):
        if event.level == "group":
            begins, still, ends = _group_event(event, runs, setting.members, stream)
        else:
            begins, still, ends = event.draw(clients, runs, stream)
        seen[event.name] = (begins | still).astype(np.float64)
        more = event.push(begins, still, ends)
        push = more if push is None else push + more
    return Happenings(values, seen, push)


def _group_event(
    event: Event, runs: int, members: Membership | None, rng: np.random.Generator
) -> tuple[Any, Any, Any]:
    """Draw an event that befalls groups, by clients' sessions: three (runs, N) of bool."""
    if members is None:
        raise SpecificationError(f"{event.name!r} befalls groups. Give groups=Groups(...).")
    drawn = event.draw(len(members.starts), members.meetings(runs), rng)
    begins, still, ends = (members.attended(part, runs) for part in drawn)
    return begins, still, ends


def client_lags(truth: Dynamics, happened: Happenings) -> Array | None:
    """Return how clients' properties change their lags: (N, k, k), or None."""
    change: Array | None = None
    for one in truth.covariates:
        if one.level == "client" and one.on_phi:
            value = happened.values[one.name] - one.mean
            more = value[:, None, None] * system.on_lags(truth, one.on_phi)
            change = more if change is None else change + more
    return change


def extended_path(
    truth: Dynamics,
    normal: Array,
    phi: Array | None,
    happened: Happenings,
    setting: Setting,
    start: Array | None,
    rng: np.random.Generator,
    own: OwnEffects,
) -> Array:
    """Run the course of all clients.

    Parameters
    ----------
    truth : Dynamics
    normal : (runs, N, k) array
        Standard normal draws for the innovations.
    phi : (N, k, k) array or None
        Lags of each client where they differ.
    happened, setting
        What else was drawn, and what surrounds the clients.
    start : (k, k) array or None
        Covariance of the deviations at session 1; None: stationary.
    rng : numpy Generator
        Streams for scales, shape, confounder, first states and group shocks are spawned from it.
    own : OwnEffects
        What is each client's own; the scale of the innovations is drawn here.

    Returns
    -------
    (runs, N, k) array, score points
    """
    for_scale, for_shape, for_common, for_first, for_groups = rng.spawn(5)
    scale = own.scales(for_scale)
    first, previous, common = _first(
        truth, normal[0], phi, scale, setting, start, for_common, for_first
    )
    dated = None if setting.weeks is None else _between_dates(truth, setting.weeks)
    path = _innovations(truth, normal, scale, dated, for_shape)
    path[0] = first
    groups, members = setting.groups, setting.members
    if groups is not None and members is not None:
        if phi is not None:
            groups.refuse_explosive_clients(phi, members, len(path))
        shocks = _group_shocks(truth, groups, members, len(path), for_groups)
        settled = 1 if members.entry is None else 0  # the first state of a closed group holds them
        path[settled:] += shocks[settled:]
    if happened.push is not None:
        path += happened.push
    u = truth.confounder
    if u is not None:
        noise = for_common.standard_normal((len(path), normal.shape[1]))
        for t in range(1, len(path)):
            common = u.phi * common + np.sqrt(u.var * (1.0 - u.phi**2)) * noise[t]
            path[t] += common[:, None] * np.array(u.effects)
    others = None if groups is None else groups.lags(path.shape[-1])
    if others is not None and members is not None and members.entry is not None:
        shape = (path.shape[1], *others.shape)
        lags_into = [
            np.broadcast_to(_lags_into(truth, t, phi, happened), shape) for t in range(len(path))
        ]
        run_open(path, np.stack(lags_into), others, members)
        return path
    for t in range(1, len(path)):
        lags = _lags_into(truth, t, phi, happened) if dated is None else dated[0][t - 1]
        path[t] += _moved(lags, path[t - 1])
        if truth.phi2 is not None:
            path[t] += (path[t - 2] if t > 1 else previous) @ truth.phi2.T
        if others is not None and members is not None:
            path[t] += members.others(path[t - 1]) @ others.T
    return path


def _moved(lags: Array, states: Array) -> Array:
    """Return Phi w for one matrix (k, k) or one per client (N, k, k)."""
    if lags.ndim == 2:
        return states @ lags.T
    moved: Array = (lags @ states[:, :, None])[:, :, 0]
    return moved


def _lags_into(truth: Dynamics, t: int, phi: Array | None, happened: Happenings) -> Array:
    """Return the lags into session t + 1: (k, k) or (N, k, k)."""
    lags = np.asarray(truth.phi) if phi is None else phi
    for phase in truth.phases:
        if t + 1 >= phase.first:
            lags = lags + system.on_lags(truth, phase.on_phi)
    for one in truth.covariates:
        if one.level == "session" and one.on_phi:
            value = happened.values[one.name][t] - one.mean
            lags = lags + value[:, None, None] * system.on_lags(truth, one.on_phi)
    return lags


def _innovations(
    truth: Dynamics,
    normal: Array,
    scale: Array | None,
    dated: tuple[Array, Array] | None,
    rng: np.random.Generator,
) -> Array:
    """Return v_it: (runs, N, k), score points; the first session is left standard normal."""
    drawn = normal if truth.innovations is None else truth.innovations.reshape(normal, rng)
    path = drawn.copy()
    if dated is not None:
        for t in range(1, len(path)):
            path[t] = _moved(factor(dated[1][t - 1]), path[t])
        return path
    path[1:] @= factor(np.asarray(truth.innovation_cov)).T
    if scale is not None:
        path[1:] *= scale
    return path


def _first(
    truth: Dynamics,
    normal: Array,
    phi: Array | None,
    scale: Array | None,
    setting: Setting,
    start: Array | None,
    for_common: np.random.Generator,
    for_first: np.random.Generator,
) -> tuple[Array, Array, Array]:
    """Draw w_1, w_0 and U_1: (N, k), (N, k) and (N,)."""
    from alliancedyn.simulate.scores import settled_cov

    clients, k = normal.shape
    psi = np.asarray(truth.innovation_cov)
    own_phi = np.broadcast_to(np.asarray(truth.phi), (clients, k, k)) if phi is None else phi
    own_psi = np.broadcast_to(psi, (clients, k, k))
    if scale is not None:
        own_psi = own_psi * scale[:, :, None] * scale[:, None, :]
    if phi is None and scale is None:
        A, Q = system.companion(truth, np.asarray(truth.phi), psi)
        refuse_explosive(A)
        cov = settled_cov(A[None], Q)[0]
    else:
        A, Q = system.companion(truth, own_phi, own_psi)
        cov = settled_cov(A, Q)
    size = A.shape[-1]
    draws = np.concatenate([normal, for_first.standard_normal((clients, size - k))], axis=1)
    state = _moved(factor(cov), draws)
    first, previous = state[:, :k], state[:, size - k :]
    common = state[:, k] if truth.confounder is not None else np.zeros(clients)
    if setting.groups is not None and setting.members is not None:
        setting.groups.refuse_explosive(np.asarray(truth.phi), setting.members)
        if start is None and setting.members.entry is None:
            first = first_states(
                normal, np.asarray(truth.phi), psi, setting.groups, setting.members
            )
    if start is not None:
        if size > k:
            raise SpecificationError(
                'start must be "stationary" in a world with a confounder or a second lag.'
            )
        first = normal @ factor(start).T
    return first, previous, common


def _group_shocks(
    truth: Dynamics, groups: Groups, members: Membership, runs: int, rng: np.random.Generator
) -> Array:
    """Draw g_t for every member: (runs, N, k)."""
    cov = groups.shocks(len(truth.variables))
    size = members.meetings(runs), len(members.starts), len(cov)
    return np.asarray(members.attended(rng.standard_normal(size) @ factor(cov).T, runs))


def _between_dates(truth: Dynamics, weeks: Array) -> tuple[Array, Array]:
    """Return lags and innovation covariance of every gap: twice (T - 1, N, k, k)."""
    drift, diffusion = in_continuous_time(truth)
    gaps = np.diff(weeks, axis=1).T
    phi, psi = continuous.discretise(drift, diffusion, gaps.ravel())
    shape = (*gaps.shape, *drift.shape)
    return phi.reshape(shape), psi.reshape(shape)


def refuse_unsuited(truth: Dynamics, setting: Setting, weekly: bool) -> None:
    """Raise SpecificationError where features and the clock of the process cannot go together."""
    happening = (truth.events, truth.phases, any(c.level == "session" for c in truth.covariates))
    if (weekly or setting.weeks is not None) and (any(happening) or setting.groups is not None):
        raise SpecificationError(
            'Events, phases, session properties and groups go by sessions. Use Gaps(per="session").'
        )
    lags = any(c.on_phi for c in truth.covariates) or truth.phi_sd is not None
    other = (truth.phi2, truth.confounder, truth.innovations, setting.lag_shifts)
    if setting.weeks is not None and (lags or any(part is not None for part in other)):
        raise SpecificationError(
            'Gaps(per="time") needs one normal first-order process for all clients: no phi_sd, '
            "phi2, confounder, innovations or effects on lags."
        )
    if setting.groups is not None and (truth.phi2 is not None or truth.confounder is not None):
        raise SpecificationError("Groups have neither a second lag nor a confounder.")


@lru_cache(maxsize=16)  # the logarithm costs more than a panel of 200 clients
def in_continuous_time(truth: Dynamics) -> tuple[Array, Array]:
    """Return drift and diffusion of the process that looks like ``truth`` once a week.

        A = log(Phi),    GG' = -(A W + W A'),    W the stationary covariance

    Raises
    ------
    SpecificationError
        If no process in continuous time looks like that.
    """
    from scipy.linalg import logm

    values = np.linalg.eigvals(truth.phi)
    advice = 'Use per="session" or per="week", or build the world with Dynamics.continuous(...).'
    if np.any((values.imag == 0.0) & (values.real <= 1e-12)):
        raise SpecificationError(
            "phi has an eigenvalue that is zero or negative: no process in continuous time "
            f"alternates like that. {advice}"
        )
    drift = np.real(logm(np.asarray(truth.phi)))
    diffusion = -(drift @ truth.within_cov + truth.within_cov @ drift.T)
    diffusion = 0.5 * (diffusion + diffusion.T)
    if np.linalg.eigvalsh(diffusion).min() < -1e-9 * np.abs(diffusion).max():
        raise SpecificationError(
            "innovation_cov does not belong to a process in continuous time with this phi. "
            f"{advice}"
        )
    drift.flags.writeable = diffusion.flags.writeable = False
    return drift, diffusion
