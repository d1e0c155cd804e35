"""One sweep of the sampler, and a run of sweeps: what is drawn given what, in order.

1. Missing states and intercepts integrated out: covariance and correlations of the intercepts;
   then, with therapists integrated out too, their covariance, and (means, effects of predictors);
   then therapists, then intercepts, then the missing states.
2. (means, common course), deviations held fixed.
3. Client regression coefficients (lags, same-session effects) integrated out: their SDs and
   correlations; then their means and effects of predictors; then the coefficients. Those that all
   clients share: one regression.
4. Log innovation variances and their scales; innovation covariance; covariance of the first state.

The kernels do the work and let go of the interpreter's lock; nothing here loops over clients or
sessions, and nothing is stored per session and draw: the states of the last sweep, no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alliancedyn.engine import gibbs_effects, gibbs_systems
from alliancedyn.engine.gibbs_course import draw_course
from alliancedyn.engine.gibbs_innovation import (
    common_scatter,
    draw_log_variances,
    relevel,
    rescale,
    residual_scatter,
)
from alliancedyn.engine.gibbs_scales import move_covariance, move_from_scatter
from alliancedyn.engine.gibbs_segments import Segments
from alliancedyn.engine.gibbs_small import Array, Codes, Flags, covariance, draw_normal, inverse
from alliancedyn.engine.gibbs_states import draw_states, filter_all, moments


@dataclass(frozen=True)
class Panel:
    """The data as the kernels read them."""

    y: Array  # (N, T, k), 0 where missing
    seen: Flags  # (N, T, k)
    whole: Flags  # (N, T), the state is known once the intercept is
    slot: Codes  # (N, T), place among the gaps
    last: Codes  # (N,), sessions up to the last one with a score
    course: Array  # (T, m)
    X: Array  # (N, 1 + c), ones and predictors
    therapist: Codes  # (N,), zeros where there is none
    noise: Array  # (k,)
    counts: Array  # (N,), innovations of a client
    segments: Segments


@dataclass(frozen=True)
class Scales:
    """A covariance matrix D R D, its priors, the widths of its slices."""

    sd: Array  # (p,)
    corr: Array  # (p, p)
    free: Flags  # (p, p)
    scale: Array  # (p,)
    width: Array  # (p,)

    @property
    def cov(self) -> Array:
        """The covariance matrix."""
        return covariance(self.sd, self.corr, 0, self.sd.size)


@dataclass(frozen=True)
class Plan:
    """Which effects there are, and the normal priors.

    A client's p regression coefficients are its lags and then its same-session effects; those
    ``own`` of them are random, the effects k .. of a client.
    """

    rows: Codes  # (p,), which series a coefficient is of
    columns: Codes  # (p,), of which score: below k a session ago, from k on the same session
    effect: Codes  # (p,), place among the effects of a client, -1 where common
    own: tuple[int, int]  # which of the p are random
    same: bool  # whether there are same-session effects, so that innovations are independent
    free_first: bool  # whether the first state has a covariance of its own, or is 0
    random_innovation: bool
    correlated: bool
    therapists: bool
    lkj: float
    location: Array  # (1 + c, q), of the coefficients
    precision: Array  # (1 + c, q)
    course: Array  # (4,): location, precision of a mean, of the course
    common: Array  # (2, p): location, precision of common coefficients


@dataclass(frozen=True)
class Chain:
    """Everything that is drawn, and the sums that a sweep fills anew."""

    coef: Array  # (1 + c, q): means, effects of predictors
    course: Array  # (m, k)
    common: Array  # (p,): regression coefficients, where they are common
    random: Scales  # (q), effects of clients
    therapist: Scales  # (k)
    innovation: Scales  # (k)
    first: Scales  # (k)
    U: Array  # (N, q), deviations of the effects from their means
    v: Array  # (J, k)
    W: Array  # (N, T, k)
    stretch: Array  # (k,), widths of the slices of `rescale`
    z: Array  # (N, T, k), scores without the common course
    mean: Array  # (N, q), of the effects
    direct: Array  # (N, k, k), lags given scores of the same session
    same: Array  # (N, k, k), same-session effects
    shock: Array  # (N, k, k), innovation covariances given scores of the same session
    lags: Array  # (N, k, k), with same-session effects solved for; else ``direct`` itself
    psi: Array  # (N, k, k), likewise of ``shock``
    logs: Array  # (N, k)
    gaps: tuple[Array, Array, Array]  # (G, k), (G, k, k), (G, k, k)
    info: Array  # (N, k, k), about intercepts
    score: Array  # (N, k)
    lag_info: Array  # (N, p, p)
    lag_score: Array  # (N, p)
    S: Array  # (3, N, k, k), moments of the states
    E: Array  # (N, k, k), sums of squares of innovations
    first_scatter: Array  # (k, k)

    @property
    def k(self) -> int:
        """Number of series."""
        return int(self.W.shape[2])


@dataclass(frozen=True)
class Kept:
    """What is stored."""

    draws: Array  # (draws, n)
    center: Array  # (N, q), running mean of the effects
    square: Array  # (N, q), running sum of squares around it


@dataclass(frozen=True)
class _Block:
    """Effects start .. stop within the part of the covariance matrix that they correlate with."""

    start: int
    stop: int
    low: int
    high: int

    @property
    def inside(self) -> tuple[int, int]:
        """Where the block is in that part."""
        return self.start - self.low, self.stop - self.low


def _block(plan: Plan, chain: Chain, start: int, stop: int) -> _Block:
    if plan.correlated:
        return _Block(start, stop, 0, chain.U.shape[1])
    return _Block(start, stop, start, stop)


def _part(scales: Scales, block: _Block) -> Scales:
    """Return the part of the scales that a block correlates with; SDs and widths stay shared."""
    here = slice(block.low, block.high)
    return Scales(
        scales.sd[here],
        scales.corr[here, here].copy(),
        scales.free[here, here].copy(),
        scales.scale[here],
        scales.width[here],
    )


def _set_means(panel: Panel, chain: Chain) -> None:
    gibbs_systems.set_means(panel.X, panel.therapist, chain.coef, chain.v, chain.mean)


def _move(
    own: Scales, V: Array, H: Array, g: Array, inside: tuple[int, int], plan: Plan, tuning: bool
) -> None:
    move_covariance(
        V, own.sd, own.corr, own.free, H, g, 1.0, *inside, own.scale, plan.lkj, own.width, tuning
    )


def _draw_groups(
    panel: Panel, plan: Plan, chain: Chain, H: Array, g: Array, info: Array, score: Array,
    tuning: bool,
) -> None:  # fmt: skip
    """Draw the therapists' covariance, means and predictors of intercepts, therapists."""
    J, k = chain.v.shape
    own = chain.therapist
    A, r, Z = gibbs_effects.group_information(panel.X, panel.therapist, H, g, 0, chain.v)
    V = own.cov
    H_group, g_group = np.empty((J, k, k)), np.empty((J, k, 1))
    gibbs_effects.spread(A, r, V, 0, k, chain.v, H_group, g_group)
    _move(own, V, H_group, g_group, (0, k), plan, tuning)
    gibbs_effects.integrate_groups(A, r, Z, V, chain.v, info, score)
    change = gibbs_effects.draw_coefficients(
        info, score, chain.coef, 0, 0, plan.location, plan.precision
    )
    r -= np.einsum("jca,c->ja", Z, change)
    gibbs_effects.draw_effects(A, r, V, 0, k, chain.v)


def _draw_block(
    panel: Panel, plan: Plan, chain: Chain, A: Array, h: Array, start: int, stop: int, tuning: bool
) -> None:
    """Draw scales, means and effects start .. stop, about which the data say N(A b, h)."""
    block = _block(plan, chain, start, stop)
    N, q = len(h), block.high - block.low
    own = _part(chain.random, block)
    V = own.cov
    U = chain.U[:, block.low : block.high].copy()
    H, g = np.empty((N, q, q)), np.empty((N, q, 1))
    r = gibbs_systems.scores_at_mean(A, h, chain.mean, start)
    gibbs_effects.spread(A, r, V, *block.inside, U, H, g)
    _move(own, V, H, g, block.inside, plan, tuning)
    chain.random.corr[block.low : block.high, block.low : block.high] = own.corr
    info, score = gibbs_effects.regress(panel.X, 0, H, g, *block.inside)
    if plan.therapists and start == 0:
        _draw_groups(panel, plan, chain, H, g, info, score, tuning)
    else:
        gibbs_effects.draw_coefficients(
            info, score, chain.coef, 0, start, plan.location, plan.precision
        )
    _set_means(panel, chain)
    r = gibbs_systems.scores_at_mean(A, h, chain.mean, start)
    gibbs_effects.draw_effects(A, r, V, *block.inside, U)
    chain.U[:, start:stop] = U[:, block.inside[0] : block.inside[1]]


def _draw_states(panel: Panel, plan: Plan, chain: Chain, tuning: bool) -> None:
    """Do steps 1 and 2."""
    k = chain.k
    if panel.course.shape[1]:
        gibbs_systems.set_scores(panel.y, panel.last, panel.course, chain.course, chain.z)
    first = chain.first.cov
    filter_all(
        chain.z, panel.seen, panel.whole, panel.slot, panel.last, panel.noise, chain.lags,
        chain.psi, first, *chain.gaps, chain.info, chain.score,
    )  # fmt: skip
    _draw_block(panel, plan, chain, chain.info, chain.score, 0, k, tuning)
    m = chain.mean[:, :k] + chain.U[:, :k]
    draw_states(
        chain.z, panel.whole, panel.slot, panel.last, m, chain.lags, chain.psi, *chain.gaps, chain.W
    )
    if panel.course.shape[1]:
        draw_course(
            panel.course, panel.last, chain.lags, chain.psi, first, chain.coef[0], chain.course,
            plan.course, chain.W,
        )  # fmt: skip
        _set_means(panel, chain)
    moments(chain.W, panel.last, chain.S, chain.first_scatter)


def _set_lags(plan: Plan, chain: Chain) -> None:
    """Set client systems from effects and common coefficients."""
    gibbs_systems.set_lags(
        chain.mean, chain.U, chain.common, plan.effect, plan.rows, plan.columns, chain.same,
        chain.direct,
    )  # fmt: skip
    if plan.same:
        gibbs_systems.reduce_systems(
            chain.same, chain.direct, chain.shock, chain.lags, chain.psi
        )  # fmt: skip


def _draw_common(plan: Plan, chain: Chain, A: Array, h: Array) -> None:
    """Draw the coefficients that all clients share, given those of their own."""
    start, stop = plan.own
    here = np.r_[0:start, stop : len(plan.rows)]
    if start < stop:
        e = chain.k + np.arange(stop - start)
        own = chain.mean[:, e] + chain.U[:, e]
        h = h - np.einsum("npq,nq->np", A[:, :, start:stop], own)
    info, score = gibbs_systems.sum_information(A, h)
    location, precision = plan.common[:, here]
    info, score = info[np.ix_(here, here)], score[here]
    info[np.diag_indices(len(here))] += precision
    score += precision * location
    chain.common[here] = draw_normal(info, score)


def _draw_lags(panel: Panel, plan: Plan, chain: Chain, tuning: bool) -> None:
    """Do step 3."""
    A, h = chain.lag_info, chain.lag_score
    gibbs_systems.lag_information(chain.S, chain.shock, plan.rows, plan.columns, A, h)
    start, stop = plan.own
    whole = stop - start == len(plan.rows)
    if start < stop:
        own_A, own_h = A, h
        if not whole:
            here = slice(start, stop)
            theirs = np.where(plan.effect < 0, chain.common, 0.0)
            own_A = np.ascontiguousarray(A[:, here, here])
            own_h = np.ascontiguousarray((h - A @ theirs)[:, here])
        _draw_block(
            panel, plan, chain, own_A, own_h, chain.k, chain.k + stop - start, tuning
        )  # fmt: skip
    if not whole:
        _draw_common(plan, chain, A, h)
    _set_lags(plan, chain)


def _draw_logs(panel: Panel, plan: Plan, chain: Chain, tuning: bool) -> None:
    """Draw log variances, their scales, their level, their predictors."""
    N, q = chain.U.shape
    start = q - chain.k
    block = _block(plan, chain, start, q)
    at, stop = block.inside
    own = _part(chain.random, block)
    Q = inverse(chain.innovation.cov)
    U = chain.U[:, block.low :].copy()
    draw_log_variances(chain.E, panel.counts, Q, inverse(own.cov), at, U, chain.logs)
    rescale(
        chain.E, panel.counts, Q, at, U, chain.logs, own.sd, own.scale, chain.stretch, tuning
    )  # fmt: skip
    move_from_scatter(
        own.sd, own.corr, own.free, U.T @ U, float(N), at, stop, own.scale, plan.lkj, own.width,
        tuning,
    )  # fmt: skip
    chain.random.corr[block.low :, block.low :] = own.corr
    K = inverse(own.cov)
    relevel(K, at, U, chain.logs, chain.innovation.sd, chain.innovation.scale)
    if panel.X.shape[1] > 1:
        H, g = np.tile(K, (N, 1, 1)), (U @ K)[:, :, None]
        info, score = gibbs_effects.regress(panel.X, 1, H, g, at, stop)
        gibbs_effects.draw_coefficients(
            info, score, chain.coef, 1, start, plan.location, plan.precision
        )
        _set_means(panel, chain)
    chain.U[:, start:] = chain.logs - chain.mean[:, start:]


def _draw_innovations(panel: Panel, plan: Plan, chain: Chain, tuning: bool) -> None:
    """Do step 4."""
    k = chain.k
    residual_scatter(chain.S, chain.lags, chain.E)
    if plan.same:
        gibbs_systems.untangle(chain.same, chain.E)
    if plan.random_innovation:
        _draw_logs(panel, plan, chain, tuning)
    scatter = common_scatter(chain.E, chain.logs)
    known = (chain.innovation, scatter, panel.counts.sum())
    first = (chain.first, chain.first_scatter, float(len(panel.y)))
    for own, squares, n in (known, first)[: 1 + plan.free_first]:
        move_from_scatter(
            own.sd, own.corr, own.free, squares, n, 0, k, own.scale, plan.lkj, own.width, tuning
        )
    _set_innovations(plan, chain)


def _set_innovations(plan: Plan, chain: Chain) -> None:
    own = chain.innovation
    gibbs_systems.set_innovations(own.sd, own.corr, chain.logs, chain.shock)
    if plan.same:
        gibbs_systems.reduce_systems(
            chain.same, chain.direct, chain.shock, chain.lags, chain.psi
        )  # fmt: skip


def prepare(panel: Panel, plan: Plan, chain: Chain) -> None:
    """Set means and client systems from the starting values."""
    _set_means(panel, chain)
    if plan.random_innovation:
        start = chain.U.shape[1] - chain.k
        chain.logs[:] = chain.mean[:, start:] + chain.U[:, start:]
    _set_lags(plan, chain)
    _set_innovations(plan, chain)


def sweep(panel: Panel, plan: Plan, chain: Chain, tuning: bool) -> None:
    """Draw everything once, with the generator of the calling thread."""
    _draw_states(panel, plan, chain, tuning)
    _draw_lags(panel, plan, chain, tuning)
    _draw_innovations(panel, plan, chain, tuning)


def record(plan: Plan, chain: Chain) -> Array:
    """Return the population parameters in the order of `DsemShape.parameter_names`."""
    k = chain.k
    q = chain.U.shape[1]
    once = np.triu_indices(k)
    at = plan.effect
    lags = np.where(at < 0, chain.common, chain.coef[0, at])
    found = [chain.coef[0, :k], chain.course.ravel(), lags, chain.random.sd[k:]]
    found += [chain.coef[1:].ravel(), covariance(chain.random.sd, chain.random.corr, 0, k)[once]]
    if plan.correlated:
        a, b = np.triu_indices(q, 1)
        found.append(chain.random.corr[a[b >= k], b[b >= k]])
    if plan.therapists:
        found.append(chain.therapist.cov[once])
    innovation = chain.innovation.cov
    found.append(np.diag(innovation) if plan.same else innovation[once])
    if plan.free_first:
        found.append(chain.first.cov[once])
    return np.concatenate(found)


def advance(
    panel: Panel, plan: Plan, chain: Chain, kept: Kept, start: int, stop: int, tune: int
) -> None:
    """Do sweeps start .. stop of a chain; those from ``tune`` on are stored."""
    for step in range(start, stop):
        sweep(panel, plan, chain, step < tune)
        if step >= tune:
            kept.draws[step - tune] = record(plan, chain)
            gibbs_systems.accumulate(step - tune, chain.mean, chain.U, kept.center, kept.square)
