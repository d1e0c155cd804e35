"""From data, options and priors to the arrays of the Gibbs sampler, and where a chain starts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from alliancedyn.engine.dsem import Array, DsemData, DsemShape, Priors
from alliancedyn.engine.gibbs_segments import lay_out_segments
from alliancedyn.engine.gibbs_small import Flags
from alliancedyn.engine.gibbs_sweep import Chain, Panel, Plan, Scales, prepare


def lay_out(data: DsemData) -> Panel:
    """Lay the data out for the kernels; sessions after a client's last score are left out."""
    N, T, _ = data.Y.shape
    seen: Flags = ~np.isnan(data.Y)
    here: Flags = np.any(seen, axis=2)
    last = np.where(here.any(axis=1), T - here[:, ::-1].argmax(axis=1), 1)
    exact = bool((data.measurement_var == 0.0).all())
    whole: Flags = np.all(seen, axis=2) & exact
    gap = ~whole & (np.arange(T) < last[:, None])
    slot = np.full((N, T), -1, dtype=np.int64)
    slot[gap] = np.arange(gap.sum())
    therapist = np.zeros(N, np.int64) if data.therapist is None else data.therapist
    return Panel(
        np.ascontiguousarray(np.where(seen, data.Y, 0.0)),
        np.ascontiguousarray(seen),
        np.ascontiguousarray(whole),
        slot,
        last.astype(np.int64),
        np.ascontiguousarray(data.course, dtype=np.float64),
        np.column_stack([np.ones(N), data.predictors.reshape(N, -1)]),
        np.ascontiguousarray(therapist, dtype=np.int64),
        np.ascontiguousarray(data.measurement_var, dtype=np.float64),
        (last - 1).astype(np.float64),
        lay_out_segments(seen, whole, last),
    )


def begin_earlier(data: DsemData) -> DsemData:
    """Put an empty session before the first, at which there is no deviation."""
    return replace(
        data,
        Y=np.concatenate([np.full_like(data.Y[:, :1], np.nan), data.Y], axis=1),
        course=np.concatenate([np.zeros_like(data.course[:1]), data.course]),
    )


def plan_of(data: DsemData, shape: DsemShape, priors: Priors) -> Plan:
    """Lay the options and the normal priors out."""
    k, q = data.k, len(shape.effects)
    rows = 1 + len(shape.predictors)
    known = {"phi": priors.phi, "same": priors.same}
    common = np.array([known[family] for family, _, _ in shape.coefficients])
    own = shape.own_coefficients
    location, sd = np.full((rows, q), priors.effect[0]), np.full((rows, q), priors.effect[1])
    location[0], sd[0] = priors.phi
    location[0, :k], sd[0, :k] = priors.mean
    stop = k + own[1] - own[0]
    location[0, k:stop], sd[0, k:stop] = common[slice(*own)].T
    course = (priors.mean[0], priors.mean[1] ** -2, priors.trend[0], priors.trend[1] ** -2)
    at, v = np.arange(len(common)), shape.variables
    return Plan(
        rows=np.array([v.index(row) for _, row, _ in shape.coefficients]),
        columns=np.array([v.index(x) + k * (f == "same") for f, _, x in shape.coefficients]),
        effect=np.where((at >= own[0]) & (at < own[1]), k + at - own[0], -1),
        own=own,
        same=bool(shape.same),
        free_first=shape.initial == "free",
        random_innovation=shape.random_innovation,
        correlated=shape.correlated,
        therapists=shape.therapist,
        lkj=priors.lkj,
        location=location,
        precision=sd**-2.0,
        course=np.array(course),
        common=np.stack([common[:, 0], common[:, 1] ** -2.0]),
    )


def _scales(sd: Array, scale: Array, free: Flags) -> Scales:
    p = len(sd)
    return Scales(sd, np.eye(p), np.ascontiguousarray(free), scale, 0.5 * scale)


def _effect_scales(shape: DsemShape, priors: Priors) -> tuple[Array, Flags]:
    """Return the prior scales of the SDs of effects, and which correlations are free."""
    k, q = len(shape.variables), len(shape.effects)
    scale = np.full(q, priors.sd)
    first, last = shape.own_coefficients
    own = [family for family, _, _ in shape.coefficients[first:last]]
    scale[k : k + len(own)] = [priors.phi_sd if f == "phi" else priors.same_sd for f in own]
    if shape.random_innovation:
        scale[q - k :] = priors.log_innovation_sd
    free = np.full((q, q), shape.correlated)
    free[:k, :k] = True
    return scale, free


def start_chain(
    panel: Panel, plan: Plan, shape: DsemShape, priors: Priors, rng: Generator
) -> Chain:
    """Start a chain at rough moments, spread wider than the posterior is likely to be."""
    N, T, k = panel.y.shape
    q = len(shape.effects)
    level, between, within = _rough(panel)
    coef = np.zeros((panel.X.shape[1], q))
    coef[0, :k] = level + between * rng.uniform(-0.5, 0.5, k)
    first, last = shape.own_coefficients
    coef[0, k : k + last - first] = rng.uniform(-0.3, 0.3, last - first)
    scale, free = _effect_scales(shape, priors)
    sd = scale * rng.uniform(0.1, 0.6, q)
    sd[:k] = between * rng.uniform(0.5, 1.5, k)
    common, every = np.full(k, priors.sd), np.ones((k, k), dtype=np.bool_)
    p, direct, shock = len(plan.rows), np.zeros((N, k, k)), np.zeros((N, k, k))
    count = int(panel.slot.max()) + 1
    chain = Chain(
        coef=coef,
        course=np.zeros((panel.course.shape[1], k)),
        common=rng.uniform(-0.3, 0.3, p),
        random=_scales(sd, scale, free),
        therapist=_scales(between * rng.uniform(0.2, 1.0, k), common, every),
        innovation=_scales(within * rng.uniform(0.6, 1.4, k), common, every & (not plan.same)),
        first=_scales(within * rng.uniform(0.6, 1.4, k) * plan.free_first, common, every),
        U=np.zeros((N, q)),
        v=np.zeros((int(panel.therapist.max()) + 1, k)),
        W=np.zeros((N, T, k)),
        stretch=np.full(k, 0.5 * priors.log_innovation_sd),
        z=panel.y.copy(),
        mean=np.zeros((N, q)),
        direct=direct,
        same=np.zeros((N, k, k)),
        shock=shock,
        lags=np.zeros((N, k, k)) if plan.same else direct,
        psi=np.zeros((N, k, k)) if plan.same else shock,
        logs=np.zeros((N, k)),
        gaps=(np.zeros((count, k)), np.zeros((count, k, k)), np.zeros((count, k, k))),
        info=np.zeros((N, k, k)),
        score=np.zeros((N, k)),
        lag_info=np.zeros((N, p, p)),
        lag_score=np.zeros((N, p)),
        S=np.zeros((3, N, k, k)),
        E=np.zeros((N, k, k)),
        first_scatter=np.zeros((k, k)),
    )
    prepare(panel, plan, chain)
    return chain


def _rough(panel: Panel) -> tuple[Array, Array, Array]:
    """Return rough levels (k,), SDs between clients and SDs within, kept away from 0."""
    y = np.where(panel.seen, panel.y, np.nan)
    count = panel.seen.sum(axis=1)
    means = panel.y.sum(axis=1) / np.maximum(count, 1)
    known = count > 0
    within, between, level = np.ones((3, y.shape[2]))
    for j in range(y.shape[2]):
        own = means[known[:, j], j]
        level[j] = own.mean() if own.size else 0.0
        away = (y[:, :, j] - means[:, None, j])[panel.seen[:, :, j]]
        spread = float(np.sqrt(np.mean(away**2))) if away.size else 1.0
        within[j] = spread if spread > 0.0 else 1.0
        between[j] = max(float(own.std()), 0.1 * within[j]) if own.size else 1.0
    return level, between, within
