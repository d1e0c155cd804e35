"""One sweep of the sampler, and a run of sweeps: what is drawn given what, in order.

1. Missing states and intercepts integrated out: covariance and correlations of the intercepts;
   then, with therapists integrated out too, their covariance, and (means, effects of predictors);
   then therapists, then intercepts, then the missing states.
2. (means, common course), deviations held fixed.
3. Client lag matrices integrated out: their SDs and correlations; then population lags and effects
   of predictors; then the lag matrices. With common lags: one regression.
4. Log innovation variances and their scales; innovation covariance; covariance of the first state.

Nothing is stored per session and draw: the states of the last sweep, no more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from alliancedyn.engine.gibbs_course import draw_course
from alliancedyn.engine.gibbs_effects import (
    draw_coefficients,
    draw_effects,
    group_information,
    integrate_groups,
    regress,
    spread,
)
from alliancedyn.engine.gibbs_innovation import (
    common_scatter,
    draw_log_variances,
    relevel,
    rescale,
    residual_scatter,
)
from alliancedyn.engine.gibbs_scales import move_covariance, move_from_scatter
from alliancedyn.engine.gibbs_small import Array, Flags, compiled, covariance, draw_normal, inverse
from alliancedyn.engine.gibbs_states import Gaps, Panel, draw_states, filter_all, moments


class Scales(NamedTuple):
    """A covariance matrix D R D, its priors, the widths of its slices."""

    sd: Array  # (p,)
    corr: Array  # (p, p)
    free: Flags  # (p, p)
    scale: Array  # (p,)
    width: Array  # (p,)


class Plan(NamedTuple):
    """Which effects there are, and the normal priors."""

    random_phi: bool
    random_innovation: bool
    correlated: bool
    therapists: bool
    lkj: float
    location: Array  # (1 + c, q), of the coefficients
    precision: Array  # (1 + c, q)
    course: Array  # (4,): location, precision of a mean, of the course
    phi: Array  # (2,): location, precision of a common lagged effect


class Chain(NamedTuple):
    """Everything that is drawn."""

    coef: Array  # (1 + c, q): means, effects of predictors
    course: Array  # (m, k)
    phi: Array  # (k, k): where lags are common
    random: Scales  # (q), effects of clients
    therapist: Scales  # (k)
    innovation: Scales  # (k)
    first: Scales  # (k)
    U: Array  # (N, q), deviations of the effects from their means
    v: Array  # (J, k)
    W: Array  # (N, T, k)
    stretch: Array  # (k,), widths of the slices of `rescale`


class Room(NamedTuple):
    """Arrays that a sweep fills anew."""

    z: Array  # (N, T, k), scores without the common course
    mean: Array  # (N, q), of the effects
    phi: Array  # (N, k, k)
    psi: Array  # (N, k, k)
    logs: Array  # (N, k)
    info: Array  # (N, k, k)
    score: Array  # (N, k)
    S: Array  # (3, N, k, k)
    E: Array  # (N, k, k)
    first: Array  # (k, k)
    counts: Array  # (N,), innovations of a client


class Kept(NamedTuple):
    """What is stored."""

    draws: Array  # (draws, n)
    center: Array  # (N, q), running mean of the effects
    square: Array  # (N, q), running sum of squares around it


@compiled
def _set_means(panel: Panel, chain: Chain, room: Room) -> None:
    """Set the means of the effects: X coef, and the therapist's part."""
    N, q = room.mean.shape
    for i in range(N):
        for e in range(q):
            total = 0.0
            for c in range(panel.X.shape[1]):
                total += panel.X[i, c] * chain.coef[c, e]
            room.mean[i, e] = total
        for r in range(chain.v.shape[1]):
            room.mean[i, r] += chain.v[panel.therapist[i], r]


@compiled
def _set_systems(plan: Plan, chain: Chain, room: Room) -> None:
    """Set every client's lag matrix, log variances and innovation covariance from the effects."""
    N, k = room.logs.shape
    V = covariance(chain.innovation.sd, chain.innovation.corr, 0, k)
    at = k + k * k if plan.random_phi else k
    for i in range(N):
        for r in range(k):
            if plan.random_innovation:
                room.logs[i, r] = room.mean[i, at + r] + chain.U[i, at + r]
            for c in range(k):
                if plan.random_phi:
                    e = k + r * k + c
                    room.phi[i, r, c] = room.mean[i, e] + chain.U[i, e]
                else:
                    room.phi[i, r, c] = chain.phi[r, c]
        for r in range(k):
            for c in range(k):
                scale = np.exp(0.5 * (room.logs[i, r] + room.logs[i, c]))
                room.psi[i, r, c] = V[r, c] * scale


@compiled
def _set_scores(panel: Panel, chain: Chain, room: Room) -> None:
    """Take the common course out of the scores."""
    course = panel.course @ chain.course
    N, _, k = room.z.shape
    for i in range(N):
        for t in range(panel.last[i]):
            for r in range(k):
                room.z[i, t, r] = panel.y[i, t, r] - course[t, r]


@compiled
def _scores_at_mean(A: Array, h: Array, mean: Array, start: int) -> Array:
    """Return h - A c for the effects start .. of every client."""
    N, p = h.shape
    r = h.copy()
    for i in range(N):
        for a in range(p):
            for b in range(p):
                r[i, a] -= A[i, a, b] * mean[i, start + b]
    return r


@compiled
def _draw_groups(
    panel: Panel, plan: Plan, chain: Chain, H: Array, g: Array, info: Array, score: Array,
    tuning: bool, rng: Generator,
) -> None:  # fmt: skip
    """Draw the therapists' covariance, means and predictors of intercepts, therapists."""
    J, k = chain.v.shape
    own = chain.therapist
    A, r, Z = group_information(panel.X, panel.therapist, H, g, 0, chain.v)
    V = covariance(own.sd, own.corr, 0, k)
    H2, g2 = np.empty((J, k, k)), np.empty((J, k, 1))
    spread(A, r, V, 0, k, chain.v, H2, g2)
    move_covariance(
        V, own.sd, own.corr, own.free, H2, g2, 1.0, 0, k, own.scale, plan.lkj, own.width, tuning,
        rng,
    )  # fmt: skip
    integrate_groups(A, r, Z, V, chain.v, info, score)
    change = draw_coefficients(
        info, score, chain.coef, 0, 0, plan.location, plan.precision, rng
    )  # fmt: skip
    for j in range(J):
        for a in range(k):
            for c in range(change.shape[0]):
                r[j, a] -= Z[j, c, a] * change[c]
    draw_effects(A, r, V, 0, k, chain.v, rng)


@compiled
def _draw_block(
    panel: Panel, plan: Plan, chain: Chain, room: Room, A: Array, h: Array, start: int, stop: int,
    tuning: bool, rng: Generator,
) -> None:  # fmt: skip
    """Draw scales, means and effects start .. stop, about which the data say N(A b, h)."""
    N, q = chain.U.shape
    low, high = (0, q) if plan.correlated else (start, stop)
    own = chain.random
    V = covariance(own.sd, own.corr, low, high)
    corr = own.corr[low:high, low:high].copy()
    free = own.free[low:high, low:high].copy()
    U = chain.U[:, low:high].copy()
    H, g = np.empty((N, high - low, high - low)), np.empty((N, high - low, 1))
    spread(A, _scores_at_mean(A, h, room.mean, start), V, start - low, stop - low, U, H, g)
    move_covariance(
        V, own.sd[low:high], corr, free, H, g, 1.0, start - low, stop - low, own.scale[low:high],
        plan.lkj, own.width[low:high], tuning, rng,
    )  # fmt: skip
    own.corr[low:high, low:high] = corr
    info, score = regress(panel.X, 0, H, g, start - low, stop - low)
    if plan.therapists and start == 0:
        _draw_groups(panel, plan, chain, H, g, info, score, tuning, rng)
    else:
        draw_coefficients(info, score, chain.coef, 0, start, plan.location, plan.precision, rng)
    _set_means(panel, chain, room)
    r = _scores_at_mean(A, h, room.mean, start)
    draw_effects(A, r, V, start - low, stop - low, U, rng)
    chain.U[:, start:stop] = U[:, start - low : stop - low]


@compiled
def _lag_information(room: Room) -> tuple[Array, Array]:
    """Return what the states say of vec Phi_i: Psi_i^-1 (x) S_00 and vec Psi_i^-1 S_10."""
    N, k = room.logs.shape
    A, h = np.empty((N, k * k, k * k)), np.empty((N, k * k))
    for i in range(N):
        weight = inverse(room.psi[i])
        for r in range(k):
            for c in range(k):
                total = 0.0
                for s in range(k):
                    total += weight[r, s] * room.S[1, i, s, c]
                    for d in range(k):
                        A[i, r * k + c, s * k + d] = weight[r, s] * room.S[0, i, c, d]
                h[i, r * k + c] = total
    return A, h


@compiled
def _draw_common_lags(plan: Plan, chain: Chain, A: Array, h: Array, rng: Generator) -> None:
    """Draw one lag matrix for all clients."""
    k = chain.phi.shape[0]
    precision, linear = np.zeros((k * k, k * k)), np.zeros(k * k)
    for i in range(A.shape[0]):
        precision += A[i]
        linear += h[i]
    for a in range(k * k):
        precision[a, a] += plan.phi[1]
        linear[a] += plan.phi[1] * plan.phi[0]
    chain.phi[:] = draw_normal(precision, linear, rng).reshape((k, k))


@compiled
def _draw_logs(
    panel: Panel, plan: Plan, chain: Chain, room: Room, tuning: bool, rng: Generator
) -> None:
    """Draw log variances, their scales, their level, their predictors."""
    N, q = chain.U.shape
    k = room.logs.shape[1]
    start = q - k
    low = 0 if plan.correlated else start
    own = chain.random
    Q = inverse(covariance(chain.innovation.sd, chain.innovation.corr, 0, k))
    U = chain.U[:, low:].copy()
    K = inverse(covariance(own.sd, own.corr, low, q))
    draw_log_variances(room.E, room.counts, Q, K, start - low, U, room.logs, rng)
    sd, width = own.sd[low:], own.width[low:]
    rescale(
        room.E, room.counts, Q, start - low, U, room.logs, sd, own.scale[low:], chain.stretch,
        tuning, rng,
    )  # fmt: skip
    corr = own.corr[low:, low:].copy()
    free = own.free[low:, low:].copy()
    move_from_scatter(
        sd, corr, free, U.T @ U, float(N), start - low, q - low, own.scale[low:], plan.lkj, width,
        tuning, rng,
    )  # fmt: skip
    own.corr[low:, low:] = corr
    K = inverse(covariance(own.sd, own.corr, low, q))
    relevel(
        K, start - low, U, room.logs, chain.innovation.sd, chain.innovation.scale, rng
    )  # fmt: skip
    if panel.X.shape[1] > 1:
        H, g = np.empty((N, q - low, q - low)), np.empty((N, q - low, 1))
        for i in range(N):
            H[i] = K
            g[i, :, 0] = K @ U[i]
        info, score = regress(panel.X, 1, H, g, start - low, q - low)
        draw_coefficients(info, score, chain.coef, 1, start, plan.location, plan.precision, rng)
        _set_means(panel, chain, room)
    for i in range(N):
        for j in range(k):
            chain.U[i, start + j] = room.logs[i, j] - room.mean[i, start + j]


@compiled
def _draw_lags(
    panel: Panel, plan: Plan, chain: Chain, room: Room, tuning: bool, rng: Generator
) -> None:
    """Do step 3."""
    k = room.logs.shape[1]
    A, h = _lag_information(room)
    if plan.random_phi:
        _draw_block(panel, plan, chain, room, A, h, k, k + k * k, tuning, rng)
    else:
        _draw_common_lags(plan, chain, A, h, rng)
    _set_systems(plan, chain, room)


@compiled
def _draw_innovations(
    panel: Panel, plan: Plan, chain: Chain, room: Room, tuning: bool, rng: Generator
) -> None:
    """Do step 4."""
    N, k = room.logs.shape
    residual_scatter(room.S, room.phi, room.E)
    if plan.random_innovation:
        _draw_logs(panel, plan, chain, room, tuning, rng)
    own = chain.innovation
    move_from_scatter(
        own.sd, own.corr, own.free, common_scatter(room.E, room.logs), room.counts.sum(), 0, k,
        own.scale, plan.lkj, own.width, tuning, rng,
    )  # fmt: skip
    own = chain.first
    move_from_scatter(
        own.sd, own.corr, own.free, room.first, float(N), 0, k, own.scale, plan.lkj, own.width,
        tuning, rng,
    )  # fmt: skip
    _set_systems(plan, chain, room)


@compiled
def sweep(
    panel: Panel, plan: Plan, chain: Chain, room: Room, gaps: Gaps, tuning: bool, rng: Generator
) -> None:
    """Draw everything once."""
    k = room.logs.shape[1]
    columns = panel.course.shape[1]
    if columns > 0:
        _set_scores(panel, chain, room)
    first = covariance(chain.first.sd, chain.first.corr, 0, k)
    filter_all(panel, room.z, room.phi, room.psi, first, gaps, room.info, room.score)
    _draw_block(panel, plan, chain, room, room.info, room.score, 0, k, tuning, rng)
    m = room.mean[:, :k] + chain.U[:, :k]
    draw_states(panel, room.z, m, room.phi, room.psi, gaps, chain.W, rng)
    if columns > 0:
        draw_course(
            panel.course, panel.last, room.phi, room.psi, first, chain.coef[0], chain.course,
            plan.course, chain.W, rng,
        )  # fmt: skip
        _set_means(panel, chain, room)
    moments(chain.W, panel.last, room.S, room.first)
    _draw_lags(panel, plan, chain, room, tuning, rng)
    _draw_innovations(panel, plan, chain, room, tuning, rng)


@compiled
def _put_covariance(scales: Scales, k: int, at: int, row: Array) -> int:
    for a in range(k):
        for b in range(a, k):
            row[at] = scales.sd[a] * scales.corr[a, b] * scales.sd[b]
            at += 1
    return at


@compiled
def _record(plan: Plan, chain: Chain, row: Array) -> None:
    """Write the population parameters in the order of `DsemShape.parameter_names`."""
    C, q = chain.coef.shape
    m, k = chain.course.shape
    at = k
    row[:k] = chain.coef[0, :k]
    for j in range(m):
        row[at : at + k] = chain.course[j]
        at += k
    row[at : at + k * k] = chain.coef[0, k : k + k * k] if plan.random_phi else chain.phi.ravel()
    at += k * k
    row[at : at + q - k] = chain.random.sd[k:]
    at += q - k
    for c in range(1, C):
        row[at : at + q] = chain.coef[c]
        at += q
    at = _put_covariance(chain.random, k, at, row)
    if plan.correlated:
        for a in range(q):
            for b in range(max(a + 1, k), q):
                row[at] = chain.random.corr[a, b]
                at += 1
    if plan.therapists:
        at = _put_covariance(chain.therapist, k, at, row)
    at = _put_covariance(chain.innovation, k, at, row)
    _put_covariance(chain.first, k, at, row)


@compiled
def advance(
    panel: Panel, plan: Plan, chain: Chain, room: Room, gaps: Gaps, kept: Kept, start: int,
    stop: int, tune: int, rng: Generator,
) -> None:  # fmt: skip
    """Do sweeps start .. stop of a chain; those from ``tune`` on are stored."""
    N, q = chain.U.shape
    if start == 0:
        _set_means(panel, chain, room)
        _set_systems(plan, chain, room)
    for step in range(start, stop):
        sweep(panel, plan, chain, room, gaps, step < tune, rng)
        if step < tune:
            continue
        n = step - tune
        _record(plan, chain, kept.draws[n])
        for i in range(N):
            for e in range(q):
                b = room.mean[i, e] + chain.U[i, e]
                away = b - kept.center[i, e]
                kept.center[i, e] += away / (n + 1)
                kept.square[i, e] += away * (b - kept.center[i, e])
