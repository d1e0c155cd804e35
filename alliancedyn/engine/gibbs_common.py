"""The sweep of :mod:`alliancedyn.engine.gibbs_sweep` where only intercepts differ between clients.

The same steps in the same order, in one compiled loop: a sweep of a hundred clients takes less
time than the interpreter needs for one that is put together from small kernels, and chains on
several cores do not wait for one another. `None` for the common course or for therapists compiles
a loop that knows nothing of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from alliancedyn.engine import gibbs_shared
from alliancedyn.engine.gibbs_course import draw_course
from alliancedyn.engine.gibbs_effects import (
    draw_coefficients,
    draw_effects,
    group_information,
    integrate_groups,
    regress,
    spread,
)
from alliancedyn.engine.gibbs_first import open_patterns, set_openings, spread_first
from alliancedyn.engine.gibbs_innovation import residual_scatter
from alliancedyn.engine.gibbs_intercepts import draw_intercepts, spread_intercepts
from alliancedyn.engine.gibbs_scales import move_covariance, move_from_scatter
from alliancedyn.engine.gibbs_shared import Axes, Runs
from alliancedyn.engine.gibbs_small import (
    Array,
    Codes,
    Flags,
    compiled,
    covariance,
    draw_normal,
    step_of,
)
from alliancedyn.engine.gibbs_sweep import Chain, Kept, Panel, Plan, Scales
from alliancedyn.engine.gibbs_systems import (
    accumulate,
    lag_information,
    reduce_systems,
    set_innovations,
    set_lags,
    set_means,
    set_scores,
    untangle,
)

# The covariance of first states is drawn with intercepts held fixed in every sweep, which is cheap,
# and with intercepts integrated out in every fourth, which is never slow to move.
INTEGRATED_EVERY = 4

Loose = tuple[Array, Array, Flags, Array, Array]  # of `Scales`: sd, corr, free, scale, width


class _Scores(NamedTuple):
    """What is seen; see `gibbs_sweep.Panel` and `gibbs_segments.Segments`."""

    y: Array
    z: Array
    whole: Flags
    last: Codes
    place: Codes
    pattern: Codes
    rows: Flags
    noise: Array
    X: Array
    therapist: Codes


class _Drawn(NamedTuple):
    """What is drawn, scales apart; see `gibbs_sweep.Chain`."""

    coef: Array
    common: Array
    U: Array
    v: Array
    mean: Array


class _Known(NamedTuple):
    """Normal priors, and which coefficients there are; see `gibbs_sweep.Plan`."""

    rows: Codes
    columns: Codes
    effect: Codes
    location: Array
    precision: Array
    common: Array
    lkj: float
    same: bool


class _System(NamedTuple):
    """The one system of all clients, as kernels for many clients read it: (1, k, k) each."""

    direct: Array
    same: Array
    shock: Array
    phi: Array
    psi: Array
    logs: Array  # (1, k), zeros


class _Room(NamedTuple):
    """What a sweep writes and the next one overwrites; see `gibbs_shared`."""

    runs: Runs
    table: Array
    known: Array
    w: Array
    info: Array
    score: Array
    S: Array  # (3, k, k)
    of_one: Array  # (3, 1, k, k), the same numbers, as of one client
    scatter: Array  # (k, k)


@step_of
def _filter(axes: Axes, scores: _Scores, system: _System, first: Loose, room: _Room) -> Array:
    """Integrate missing states out; return the covariance of the first state."""
    phi, psi = system.phi[0], system.psi[0]
    start = covariance(first[0], first[1], 0, phi.shape[0])
    gibbs_shared.set_patterns(
        axes, scores.pattern, scores.rows, scores.noise, phi, psi, start, room.table, room.known
    )
    gibbs_shared.intercept_information(
        axes, scores.place, scores.pattern, scores.z, scores.whole, room.runs, phi, psi, start,
        room.table, room.known, room.w, room.info, room.score,
    )  # fmt: skip
    return start


@step_of
def _draw_first(
    axes: Axes, scores: _Scores, drawn: _Drawn, known: _Known, own: Loose, first: Loose,
    system: _System, room: _Room, tuning: bool,
) -> None:  # fmt: skip
    """Draw the covariance of the first state, intercepts and states integrated out."""
    sd, corr, free, scale, width = first
    N, k = drawn.U.shape
    P = scores.pattern.shape[0]
    line, var = np.empty((P, k, k)), np.empty((P, k, k))
    opening, begins = np.empty((N, k)), np.empty(N, np.int64)
    open_patterns(axes, scores.pattern, system.phi[0], room.table, line, var)
    set_openings(
        axes, scores.place, scores.pattern, scores.z, system.phi[0], room.table, room.w, opening,
        begins,
    )  # fmt: skip
    V, F = covariance(own[0], own[1], 0, k), covariance(sd, corr, 0, k)
    H, g = np.empty((N, k, k)), np.empty((N, k, 1))
    spread_first(
        axes, opening, begins, line, var, room.info, room.score, drawn.mean, V, F, H, g
    )  # fmt: skip
    move_covariance(F, sd, corr, free, H, g, 1.0, 0, k, scale, known.lkj, width, tuning)


@step_of
def _draw_groups(
    k: int, scores: _Scores, drawn: _Drawn, known: _Known, H: Array, g: Array, info: Array,
    score: Array, groups: Loose, tuning: bool,
) -> None:  # fmt: skip
    """Draw the therapists' covariance, means and predictors of intercepts, therapists."""
    sd, corr, free, scale, width = groups
    v = drawn.v
    J = v.shape[0]
    A, r, Z = group_information(scores.X, scores.therapist, H, g, 0, v)
    V = covariance(sd, corr, 0, k)
    H_group, g_group = np.empty((J, k, k)), np.empty((J, k, 1))
    spread(A, r, V, 0, k, v, H_group, g_group)
    move_covariance(
        V, sd, corr, free, H_group, g_group, 1.0, 0, k, scale, known.lkj, width, tuning
    )  # fmt: skip
    integrate_groups(A, r, Z, V, v, info, score)
    change = draw_coefficients(info, score, drawn.coef, 0, 0, known.location, known.precision)
    for j in range(J):
        for c in range(change.size):
            for a in range(k):
                r[j, a] -= Z[j, c, a] * change[c]
    draw_effects(A, r, V, 0, k, v)


@step_of
def _draw_intercepts(
    axes: Axes, scores: _Scores, drawn: _Drawn, known: _Known, own: Loose, groups: Loose | None,
    room: _Room, tuning: bool,
) -> None:  # fmt: skip
    """Draw their covariance, means and predictors, therapists where there are any, intercepts."""
    sd, corr, free, scale, width = own
    N, k = drawn.U.shape  # k is no constant here: what is not worth unrolling is compiled once
    V = covariance(sd, corr, 0, k)
    H, g = np.empty((N, k, k)), np.empty((N, k, 1))
    spread_intercepts(axes, room.info, room.score, drawn.mean, V, H, g)
    move_covariance(V, sd, corr, free, H, g, 1.0, 0, k, scale, known.lkj, width, tuning)
    info, score = regress(scores.X, 0, H, g, 0, k)
    if groups is None:
        draw_coefficients(info, score, drawn.coef, 0, 0, known.location, known.precision)
    else:
        _draw_groups(k, scores, drawn, known, H, g, info, score, groups, tuning)
    set_means(scores.X, scores.therapist, drawn.coef, drawn.v, drawn.mean)
    draw_intercepts(axes, room.info, room.score, drawn.mean, V, drawn.U)


@step_of
def _draw_states(axes: Axes, scores: _Scores, m: Array, system: _System, room: _Room) -> None:
    """Draw missing states and sum products of all."""
    gibbs_shared.draw_segments(
        axes, scores.place, scores.pattern, scores.z, m, system.phi[0], room.table, room.w
    )
    gibbs_shared.sum_moments(
        axes, scores.place, scores.pattern, scores.z, m, room.w, scores.whole, room.runs,
        room.S, room.scatter,
    )  # fmt: skip


@step_of
def _move_course(
    axes: Axes, scores: _Scores, drawn: _Drawn, m: Array, system: _System, start: Array,
    course: tuple[Array, Array, Array, Array], room: _Room,
) -> None:  # fmt: skip
    """Draw means and common course with deviations fixed; scores, states and sums follow."""
    columns, d, priors, W = course
    N, k = m.shape
    gibbs_shared.fill_states(
        scores.place, scores.pattern, scores.z, m, scores.last, room.w, W
    )  # fmt: skip
    phi, psi = np.empty((N, k, k)), np.empty((N, k, k))
    for i in range(N):
        for r in range(k):
            for c in range(k):
                phi[i, r, c], psi[i, r, c] = system.phi[0, r, c], system.psi[0, r, c]
    draw_course(columns, scores.last, phi, psi, start, drawn.coef[0], d, priors, W)
    gibbs_shared.read_states(scores.place, scores.pattern, W, room.w)
    set_means(scores.X, scores.therapist, drawn.coef, drawn.v, drawn.mean)
    set_scores(scores.y, scores.last, columns, d, scores.z)
    gibbs_shared.sum_runs(axes, scores.z, scores.whole, scores.last, room.runs)
    gibbs_shared.sum_moments(
        axes, scores.place, scores.pattern, scores.z, drawn.mean + drawn.U, room.w, scores.whole,
        room.runs, room.S, room.scatter,
    )  # fmt: skip


@step_of
def _set_system(known: _Known, drawn: _Drawn, innovation: Loose, system: _System) -> None:
    """Set the system from coefficients and innovation covariance; no coefficient is a client's."""
    direct, same, shock, phi, psi, logs = system
    set_lags(
        drawn.mean, drawn.U, drawn.common, known.effect, known.rows, known.columns, same, direct
    )
    set_innovations(innovation[0], innovation[1], logs, shock)
    if known.same:
        reduce_systems(same, direct, shock, phi, psi)
    else:
        for r in range(phi.shape[1]):
            for c in range(phi.shape[1]):
                phi[0, r, c], psi[0, r, c] = direct[0, r, c], shock[0, r, c]


@step_of
def _draw_dynamics(
    known: _Known, drawn: _Drawn, innovation: Loose, first: Loose, steps: float, system: _System,
    room: _Room, tuning: bool,
) -> None:  # fmt: skip
    """Draw coefficients, innovation covariance, covariance of the first state."""
    k, p = drawn.v.shape[1], drawn.common.size
    A, h = np.empty((1, p, p)), np.empty((1, p))
    lag_information(room.of_one, system.shock, known.rows, known.columns, A, h)
    for j in range(p):
        A[0, j, j] += known.common[1, j]
        h[0, j] += known.common[1, j] * known.common[0, j]
    found = draw_normal(A[0], h[0])
    for j in range(p):
        drawn.common[j] = found[j]
    _set_system(known, drawn, innovation, system)
    E = np.empty((1, k, k))
    residual_scatter(room.of_one, system.phi, E)
    if known.same:
        untangle(system.same, E)
    sd, corr, free, scale, width = innovation
    move_from_scatter(sd, corr, free, E[0], steps, 0, k, scale, known.lkj, width, tuning)
    sd, corr, free, scale, width = first
    N = float(drawn.U.shape[0])
    move_from_scatter(sd, corr, free, room.scatter, N, 0, k, scale, known.lkj, width, tuning)
    _set_system(known, drawn, innovation, system)


@step_of
def _store(row: Array, at: int, values: Array) -> int:
    """Write values into a row; return where the next ones go."""
    for j in range(values.size):
        row[at + j] = values[j]
    return at + values.size


@step_of
def _store_covariance(row: Array, at: int, own: Loose, variances: bool) -> int:
    """Write the upper triangle, or the diagonal, of a covariance matrix into a row."""
    k = own[0].size
    for r in range(k):
        for c in range(r, r + 1 if variances else k):
            row[at] = own[0][r] * own[1][r, c] * own[0][c]
            at += 1
    return at


@compiled
def _run(
    axes: Axes, scores: _Scores, drawn: _Drawn, known: _Known, intercepts: Loose, innovation: Loose,
    first: Loose, groups: Loose | None, course: tuple[Array, Array, Array, Array] | None,
    kept: tuple[Array, Array, Array], steps: float, start: int, stop: int, tune: int,
    system: _System, room: _Room,
) -> None:  # fmt: skip
    """Do sweeps start .. stop."""
    draws, center, square = kept
    _set_system(known, drawn, innovation, system)
    gibbs_shared.sum_runs(axes, scores.z, scores.whole, scores.last, room.runs)
    for step in range(start, stop):
        tuning = step < tune
        first_cov = _filter(axes, scores, system, first, room)
        if step % INTEGRATED_EVERY == 0:
            _draw_first(
                axes, scores, drawn, known, intercepts, first, system, room, tuning
            )  # fmt: skip
            first_cov = _filter(axes, scores, system, first, room)
        _draw_intercepts(axes, scores, drawn, known, intercepts, groups, room, tuning)
        m = drawn.mean + drawn.U
        _draw_states(axes, scores, m, system, room)
        if course is not None:
            _move_course(axes, scores, drawn, m, system, first_cov, course, room)
        _draw_dynamics(known, drawn, innovation, first, steps, system, room, tuning)
        if tuning:
            continue
        row = draws[step - tune]
        at = _store(row, 0, drawn.coef[0])
        if course is not None:
            at = _store(row, at, course[1].ravel())
        at = _store(row, at, drawn.common)
        at = _store(row, at, drawn.coef[1:].ravel())
        at = _store_covariance(row, at, intercepts, False)
        if groups is not None:
            at = _store_covariance(row, at, groups, False)
        at = _store_covariance(row, at, innovation, known.same)
        _store_covariance(row, at, first, False)
        accumulate(step - tune, drawn.mean, drawn.U, center, square)


def _loose(scales: Scales) -> Loose:
    return scales.sd, scales.corr, scales.free, scales.scale, scales.width


def _make_system(k: int) -> _System:
    direct, same, shock, phi, psi = np.zeros((5, 1, k, k))
    return _System(direct, same, shock, phi, psi, np.zeros((1, k)))


def make_room(panel: Panel) -> _Room:
    """Return the arrays that a sweep writes."""
    N, _, k = panel.y.shape
    segments, S = panel.segments, np.zeros((3, k, k))
    runs = Runs(
        np.zeros(N), np.zeros((N, k)), np.zeros((N, k)), np.zeros((N, k)), np.zeros((3, k, k))
    )
    return _Room(
        runs=runs,
        table=np.zeros((len(segments.rows), 5, k, k)),
        known=np.zeros((len(segments.pattern), k, k)),
        w=np.zeros((segments.gaps, k)),
        info=np.zeros((N, k, k)),
        score=np.zeros((N, k)),
        S=S,
        of_one=S[:, None],
        scatter=np.zeros((k, k)),
    )


def advance_common(
    panel: Panel, plan: Plan, chain: Chain, kept: Kept, start: int, stop: int, tune: int
) -> None:
    """Do what `gibbs_sweep.advance` does, where only intercepts differ between clients."""
    segments = panel.segments
    k = chain.k
    if columns := panel.course.shape[1]:
        set_scores(panel.y, panel.last, panel.course, chain.course, chain.z)
    scores = _Scores(
        panel.y, chain.z if columns else panel.y, panel.whole, panel.last, segments.place,
        segments.pattern, segments.rows, panel.noise, panel.X, panel.therapist,
    )  # fmt: skip
    _run(
        tuple(range(k)),
        scores,
        _Drawn(chain.coef, chain.common, chain.U, chain.v, chain.mean),
        _Known(
            plan.rows,
            plan.columns,
            plan.effect,
            plan.location,
            plan.precision,
            plan.common,
            float(plan.lkj),
            plan.same,
        ),
        _loose(chain.random),
        _loose(chain.innovation),
        _loose(chain.first),
        _loose(chain.therapist) if plan.therapists else None,
        (panel.course, chain.course, plan.course, chain.W) if columns else None,
        (kept.draws, kept.center, kept.square),
        float(panel.counts.sum()),
        start,
        stop,
        tune,
        _make_system(k),
        make_room(panel),
    )
