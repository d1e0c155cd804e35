"""Worlds of the two-level dynamic model: scores drawn from it, and its system of states.

Both take one vector of parameters, in the order of `DsemShape.parameter_names`, in whatever units
the data are in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names
from alliancedyn.engine.dsem import DsemData, DsemShape
from alliancedyn.engine.kalman import Blocks, StateSpace, loglik_by_client
from alliancedyn.engine.var import reduced_form
from alliancedyn.errors import SpecificationError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """Parameters as matrices.

    Parameters
    ----------
    mean : (k,)
        Levels of the average client at the first session.
    course : (m, k)
        Effects of the known columns.
    phi, same : (k, k)
        Lagged and same-session effects of the average client.
    effect_sd : (q,)
        SDs of the effects of clients.
    effect_corr : (q, q)
        Their correlations.
    coefficients : (p,)
        Those of ``phi`` and ``same`` that there are, in the order of the shape.
    slopes : (q, c)
        Effects of predictors on them.
    therapist_cov, innovation_cov, initial_cov : (k, k)
        Covariances; the first zero without therapists.
    """

    mean: Array
    course: Array
    phi: Array
    same: Array
    effect_sd: Array
    effect_corr: Array
    coefficients: Array
    slopes: Array
    therapist_cov: Array
    innovation_cov: Array
    initial_cov: Array

    @classmethod
    def of(cls, shape: DsemShape, values: Array) -> Population:
        """Read one vector of parameters (n,)."""
        if shape.moderators:
            raise SpecificationError(
                "Lagged effects that change from session to session, by moderators=, are estimated "
                "only: there are no forecasts, states, simulated scores or looks at single clients."
            )
        p = dict(zip(shape.parameter_names(), values.tolist(), strict=True))
        v, k = shape.variables, len(shape.variables)
        between = between_of(shape, p)
        sd, corr = _effects(shape, p, between)
        course = [
            [p[name] for name in names_of]
            for names_of in (_course_names(column, v) for column in shape.course)
        ]
        slopes = [
            [p[names.label("predictor", e, x)] for x in shape.predictors] for e in shape.effects
        ]
        lags = names.collect(p, [names.label(*one) for one in shape.coefficients])
        phi, same = shape.coefficient_matrices(lags)
        no, psi = np.zeros((k, k)), _innovations(shape, p)
        initial = reduced_form(same, phi, psi)[1]
        if shape.initial == "free":
            initial = names.symmetric_matrix(p, "initial_cov", v)
        return cls(
            mean=names.collect(p, [names.label("mean", name) for name in v]),
            course=np.array(course).reshape(len(shape.course), k),
            phi=phi,
            same=same,
            effect_sd=sd,
            effect_corr=corr,
            coefficients=lags,
            slopes=np.array(slopes).reshape(len(shape.effects), len(shape.predictors)),
            therapist_cov=names.symmetric_matrix(p, "therapist_cov", v) if shape.therapist else no,
            innovation_cov=psi,
            initial_cov=initial,
        )

    @property
    def effect_cov(self) -> Array:
        """Covariance (q, q) of the effects of clients of one therapist."""
        return np.asarray(self.effect_corr * self.effect_sd * self.effect_sd[:, None])


def between_of(shape: DsemShape, p: dict[str, float]) -> Array:
    """Return the covariance of intercepts and slopes, in the order of `DsemShape.stable`."""
    own = shape.stable
    full = np.empty((len(own), len(own)))
    for name in shape.between_names:
        _, (x, y), _ = names.parse(name)
        a, b = own.index(x), own.index(y)
        full[a, b] = full[b, a] = p[name]
    return full


def _innovations(shape: DsemShape, p: dict[str, float]) -> Array:
    if shape.same:
        return np.diag(names.collect(p, shape.innovation_names))
    return names.symmetric_matrix(p, "innovation_cov", shape.variables)


def _course_names(column: str, variables: tuple[str, ...]) -> list[str]:
    if column.startswith("@"):
        return [names.label("session", name, session=int(column[1:])) for name in variables]
    return [names.label(column, name) for name in variables]


def _effects(shape: DsemShape, p: dict[str, float], between: Array) -> tuple[Array, Array]:
    """Return SDs (q,) and correlations (q, q) of the effects of clients."""
    v, effects = shape.variables, shape.effects
    k, q = len(shape.stable), len(effects)
    sd = np.empty(q)
    sd[:k] = np.sqrt(np.diag(between))
    own = shape.coefficients[slice(*shape.own_coefficients)]
    more = [names.label(f"{family}_sd", *pair) for family, *pair in own]
    if shape.random_innovation:
        more += [names.label("log_innovation_sd", name) for name in v]
    sd[k:] = [p[name] for name in more]
    corr = np.eye(q)
    corr[:k, :k] = np.divide(
        between, sd[:k] * sd[:k, None], out=np.eye(k), where=sd[:k] * sd[:k, None] > 0.0
    )
    if shape.correlated:
        for a in range(q):
            for b in range(max(a + 1, k), q):
                name = names.label("random_corr", effects[a], effects[b])
                corr[a, b] = corr[b, a] = p[name]
    return sd, corr


def root(S: Array) -> Array:
    """Return R with R R' = S for a covariance that may be singular."""
    values, axes = np.linalg.eigh(S)
    return np.asarray(axes * np.sqrt(np.maximum(values, 0.0)))


def draw_effects(
    shape: DsemShape, world: Population, data: DsemData, rng: np.random.Generator
) -> Array:
    """Draw the effects b_i (N, q) of all clients."""
    n, k, f = len(data.Y), data.k, len(shape.stable)
    start, stop = shape.own_coefficients
    center = np.zeros(len(shape.effects))
    center[:k] = world.mean
    if shape.course == ("trend",):
        center[k:f] = world.course[0, : f - k]
    center[f : f + stop - start] = world.coefficients[start:stop]
    effects = center + data.predictors @ world.slopes.T
    scaled = world.effect_sd[:, None] * root(world.effect_corr)
    effects += rng.standard_normal((n, len(center))) @ scaled.T
    if data.therapist is not None and shape.therapist:
        count = int(data.therapist.max()) + 1
        own = rng.standard_normal((count, k)) @ root(world.therapist_cov).T
        effects[:, :k] += own[data.therapist]
    return effects


def own_matrices(shape: DsemShape, world: Population, b: Array) -> tuple[Array, Array]:
    """Return every client's lagged and same-session effects, each (N, k, k), from effects b."""
    start, stop = shape.own_coefficients
    f = len(shape.stable)
    values = np.tile(world.coefficients, (len(b), 1))
    values[:, start:stop] = b[:, f : f + stop - start]
    return shape.coefficient_matrices(values)


def simulate_scores(
    shape: DsemShape, values: Array, data: DsemData, rng: np.random.Generator
) -> Array:
    """Draw scores (N, T, k) at one vector of parameters, missing where ``data`` are.

    Clients whose lagged effects explode are drawn like all others: their scores may overflow, and
    are then infinite or NaN.
    """
    world = Population.of(shape, values)
    n, T, k = data.Y.shape
    b = draw_effects(shape, world, data, rng)
    phi, same = own_matrices(shape, world, b)
    total = np.linalg.inv(np.eye(k) - same)
    spread = np.exp(b[:, -k:] / 2.0) if shape.random_innovation else np.ones((n, k))
    shocks = (rng.standard_normal((n, T, k)) @ root(world.innovation_cov).T) * spread[:, None]
    w = np.empty((n, T, k))
    w[:, 0] = rng.standard_normal((n, k)) @ root(world.initial_cov).T
    if shape.initial == "innovation":
        w[:, 0] = (total @ shocks[:, 0, :, None])[..., 0]
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(1, T):
            new = (phi @ w[:, t - 1, :, None])[..., 0] + shocks[:, t]
            w[:, t] = (total @ new[..., None])[..., 0] if shape.same else new
    noise = rng.standard_normal((n, T, k)) * np.sqrt(data.measurement_var)
    Y = b[:, None, :k] + (data.course @ world.course)[None] + w + noise
    if shape.random_trend:  # slopes around the common line, or around 0 beside common steps
        common = world.course[0] if shape.course == ("trend",) else 0.0
        Y += shape.elapsed[:, None] * (b[:, None, k : 2 * k] - common)
    return np.where(np.isnan(data.Y), np.nan, Y)


def system(shape: DsemShape, values: Array, data: DsemData) -> StateSpace:
    """Return the system of states where intercepts and slopes alone are random.

    y = mean + course + k_i + (t - 1) s_i + w + noise, s_i without its mean.

    Clients of one therapist are taken one by one: their intercepts have the covariance of client
    and therapist together. Predictors enter as inputs of the first session (see `first_inputs`).
    """
    world = Population.of(shape, values)
    k, T = data.k, data.Y.shape[1]
    m = k + len(shape.stable)
    initial = np.zeros((m, m))
    initial[:k, :k] = world.initial_cov
    initial[k:, k:] = world.effect_cov
    initial[k : 2 * k, k : 2 * k] += world.therapist_cov
    once = np.zeros(T, np.int64)
    phi, psi = reduced_form(world.same, world.phi, world.innovation_cov)
    moving = len(shape.course) > 0
    mean = world.mean + data.course @ world.course if moving else world.mean[None]
    return StateSpace(
        phi=phi[None],
        phi_at=once,
        psi=psi[None],
        psi_at=once,
        mean=mean,
        mean_at=np.arange(T) if moving else once,
        initial_cov=initial,
        **loadings(shape),
        noise=np.array(data.measurement_var, float)[None],
        noise_at=once,
        drive=np.concatenate([np.zeros((k, data.predictors.shape[1])), world.slopes]),
    )


def loadings(shape: DsemShape) -> dict[str, Any]:
    """Return what of a `StateSpace` says that y = w + k + (t - 1) s: its loadings."""
    k, T = len(shape.variables), len(shape.sessions)
    parts = 3 if shape.random_trend else 2
    load = np.ones((T if shape.random_trend else 1, k, parts))
    if shape.random_trend:
        load[:, :, 2] = shape.elapsed[:, None]
    return {
        "load_index": np.arange(k)[:, None] + k * np.arange(parts),
        "load": load,
        "load_at": np.arange(T) if shape.random_trend else np.zeros(T, np.int64),
    }


def first_inputs(data: DsemData) -> Array:
    """Return predictors as inputs (N, T, c) at the first session."""
    n, T = data.Y.shape[:2]
    inputs = np.zeros((n, T, data.predictors.shape[1]))
    inputs[:, 0] = data.predictors
    return inputs


def loglik_draws(shape: DsemShape, draws: Array, data: DsemData) -> Array:
    """Return the log-likelihood (D, N) of every client at draws (D, n), intercepts integrated out.

    For models in which only intercepts are random and clients have no therapist level.
    """
    blocks = Blocks.pack(data.Y, first_inputs(data))
    return np.stack([loglik_by_client(system(shape, one, data), blocks) for one in draws])
