"""Likelihood of whole clients that no filter gives alone: own lagged effects, therapists.

Given a client's lagged effects and log innovation variances b, the Kalman filter integrates
intercepts, slopes, states and missing scores out exactly. What is left is an integral over b::

    p(y_i | theta) = integral p(y_i | b, theta) N(b; mu_i, C) db
                   ~ 1/M sum_m p(y_i | b_m, theta) N(b_m; mu_i, C) / q_i(b_m),     b_m ~ q_i

by importance sampling. The filter's likelihood of b is close to normal, so the proposal q_i is the
normal that it gives together with N(mu_i, C), a little wider: a quadratic of every client's
log-likelihood is taken once, by differences at one theta, and combined with the population of
every theta. The same evenly spread numbers serve all theta, so that what error is left hardly
differs between them.

Clients of one therapist are not independent: what leaving a client out asks for is the likelihood
given the other clients of the therapist. With random intercepts it has a closed form: the filter's
log-likelihood of a client is a quadratic of the therapist's effects v ~ N(0, V), so that v is
integrated out of any set of clients by adding their quadratics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtri
from scipy.stats import qmc

from alliancedyn.engine.dsem import DsemData, DsemShape
from alliancedyn.engine.dsem_world import Population, loadings, own_matrices
from alliancedyn.engine.kalman import Blocks, StateSpace, loglik_by_client
from alliancedyn.engine.var import reduced_form

Array = NDArray[np.float64]

WIDER = 1.15  # SD of the proposal over that of the normal approximation
STEP = 0.05  # of the differences, in lagged effects and log variances
FLOOR = 1e-10  # least variance of an effect, where a draw has next to none


@dataclass(frozen=True)
class Effects:
    """The population of clients' own effects b (r,) and of stable parts given them.

    Parameters
    ----------
    center : (N, r)
        Means, predictors included.
    cov : (r, r)
    shift : (N, f)
        Means of intercepts and slopes, without the common ones, where b is at its center.
    slope : (f, r)
        Their regression on b.
    left : (f, f)
        Their covariance given b.
    """

    center: Array
    cov: Array
    shift: Array
    slope: Array
    left: Array

    @classmethod
    def of(cls, shape: DsemShape, world: Population, data: DsemData) -> Effects:
        """Read one vector of parameters."""
        f, (start, stop) = len(shape.stable), shape.own_coefficients
        mean = np.zeros(len(shape.effects))
        mean[f : f + stop - start] = world.coefficients[start:stop]
        center = mean + data.predictors @ world.slopes.T
        full = world.effect_cov
        cov = full[f:, f:] + FLOOR * np.eye(len(full) - f)
        slope = np.asarray(np.linalg.solve(cov, full[f:, :f]).T, np.float64)
        left = full[:f, :f] - slope @ full[f:, :f]
        return cls(center[:, f:], cov, center[:, :f], slope, left)


class Clients:
    """The scores of all clients, ready for any effects of theirs."""

    def __init__(self, shape: DsemShape, data: DsemData, copies: int) -> None:
        self.shape, self.data, self.copies = shape, data, copies
        Y = np.repeat(data.Y, copies, axis=0)
        self.inputs = np.zeros((*Y.shape[:2], len(shape.stable)))
        self.blocks = Blocks.pack(Y, self.inputs)

    def logliks(
        self, world: Population, effects: Effects, b: Array, v: Array | None = None
    ) -> Array:
        """Return log p(y_i | b_im, v_m, theta), (N, M), at effects b (N, M, r) and v (M, k)."""
        n, copies, r = b.shape
        moved = effects.shift[:, None] + (b - effects.center[:, None]) @ effects.slope.T
        if v is not None:
            moved[:, :, : v.shape[1]] += v
        self.inputs[:, 0] = moved.reshape(n * copies, -1)
        blocks = replace(self.blocks, inputs=self.blocks.spread(self.inputs))
        system = own_systems(self.shape, self.data, world, effects, b.reshape(n * copies, r))
        return loglik_by_client(system, blocks).reshape(n, copies)


def own_systems(
    shape: DsemShape, data: DsemData, world: Population, effects: Effects, b: Array
) -> StateSpace:
    """Return systems with a process for every row of effects b (n, r).

    Intercepts and slopes are what `Effects` leaves of them, their means inputs of the first
    session.
    """
    k, T, f = data.k, data.Y.shape[1], len(shape.stable)
    phi, same = own_matrices(shape, world, np.concatenate([np.zeros((len(b), f)), b], axis=1))
    psi = np.broadcast_to(world.innovation_cov, phi.shape)
    if shape.random_innovation:
        spread = np.exp(b[:, -k:] / 2.0)
        psi = psi * spread[:, :, None] * spread[:, None]
    if shape.same:
        phi, psi = reduced_form(same, phi, psi)
    initial = np.zeros((k + f, k + f))
    initial[:k, :k], initial[k:, k:] = world.initial_cov, effects.left
    once, moving = np.zeros(T, np.int64), len(shape.course) > 0
    mean = world.mean + data.course @ world.course if moving else world.mean[None]
    return StateSpace(
        phi=phi[:, None],
        phi_at=once,
        psi=np.ascontiguousarray(psi)[:, None],
        psi_at=once,
        mean=mean,
        mean_at=np.arange(T) if moving else once,
        initial_cov=initial,
        **loadings(shape),
        noise=np.array(data.measurement_var, float)[None],
        noise_at=once,
        drive=np.concatenate([np.zeros((k, f)), np.eye(f)]),
    )


def integrated_logliks(
    shape: DsemShape, draws: Array, data: DsemData, points: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Return log-likelihoods of whole clients and their Monte Carlo errors, each (D, N).

    Parameters
    ----------
    shape : DsemShape
        With random lagged or same-session effects or log innovation variances; no therapists.
    draws : (D, n)
        Parameters, in the units of the data.
    data : DsemData
    points : int
        M, points per client and draw.
    rng : Generator
    """
    n, r = len(data.Y), len(shape.effects) - len(shape.stable)
    at, slope, curve = _quadratic(shape, draws.mean(axis=0), data)
    clients = Clients(shape, data, points)
    even = qmc.Sobol(r, rng=rng).random(points) + rng.random((n, 1, r))
    z = ndtri(np.clip(even % 1.0, 1e-9, 1.0 - 1e-9))
    out, error = np.empty((len(draws), n)), np.empty((len(draws), n))
    for d, values in enumerate(draws):
        world = Population.of(shape, values)
        effects = Effects.of(shape, world, data)
        inverse = np.linalg.inv(effects.cov)
        cov = np.linalg.inv(inverse + curve)
        pull = slope + np.einsum("nab,nb->na", curve, at) + effects.center @ inverse
        center = np.einsum("nab,nb->na", cov, pull)
        root = WIDER * np.linalg.cholesky(cov)
        b = center[:, None] + np.einsum("nab,nmb->nma", root, z)
        off = b - effects.center[:, None]
        log_prior = -0.5 * np.einsum("nma,ab,nmb->nm", off, inverse, off)
        log_prior -= 0.5 * np.linalg.slogdet(effects.cov)[1]
        log_q = -0.5 * (z**2).sum(axis=2) - np.linalg.slogdet(root)[1][:, None]
        logs = clients.logliks(world, effects, b) + log_prior - log_q
        logs = np.where(np.isnan(logs), -np.inf, logs)  # a process that left all numbers
        total = logsumexp(logs, axis=1)
        out[d] = total - np.log(points)
        share = np.exp(2.0 * logs - 2.0 * total[:, None]).sum(axis=1)
        error[d] = np.sqrt(np.maximum(share - 1.0 / points, 0.0))
    return out, error


def _quadratic(shape: DsemShape, values: Array, data: DsemData) -> tuple[Array, Array, Array]:
    """Return where (N, r), slope (N, r) and negative curvature (N, r, r) of log p(y_i | b).

    By central differences around the population's mean, moved once to the maximum that the
    quadratic and the population have; curvatures below zero count as none.
    """
    world = Population.of(shape, values)
    effects = Effects.of(shape, world, data)
    inverse = np.linalg.inv(effects.cov)
    at = effects.center
    for _ in range(3):
        slope, curve = _differences(shape, world, effects, data, at)
        pull = slope - (at - effects.center) @ inverse
        step = np.linalg.solve(inverse + curve, pull[..., None])[..., 0]
        last, at = at, at + step
    return last, slope, curve


def _differences(
    shape: DsemShape, world: Population, effects: Effects, data: DsemData, at: Array
) -> tuple[Array, Array]:
    r = at.shape[1]
    own = STEP * np.eye(r)
    pairs = [(i, j) for i in range(r) for j in range(i + 1, r)]
    steps = [np.zeros(r), *own, *(-own), *(own[i] + own[j] for i, j in pairs)]
    steps += [-own[i] - own[j] for i, j in pairs]
    b = at[:, None] + np.array(steps)
    L = Clients(shape, data, len(steps)).logliks(world, effects, b)
    zero, up, down = L[:, :1], L[:, 1 : 1 + r], L[:, 1 + r : 1 + 2 * r]
    slope = (up - down) / (2.0 * STEP)
    H = np.zeros((len(at), r, r))
    H[:, np.arange(r), np.arange(r)] = (up + down - 2.0 * zero) / STEP**2
    for place, (i, j) in enumerate(pairs):
        both = L[:, 1 + 2 * r + place] + L[:, 1 + 2 * r + len(pairs) + place] + 2.0 * zero[:, 0]
        both = both - up[:, i] - down[:, i] - up[:, j] - down[:, j]
        H[:, i, j] = H[:, j, i] = both / (2.0 * STEP**2)
    H[~np.isfinite(H).all(axis=(1, 2))] = 0.0
    curvature, axes = np.linalg.eigh(-H)
    kept = np.maximum(curvature, 0.0)
    return np.nan_to_num(slope), (axes * kept[:, None]) @ np.swapaxes(axes, 1, 2)


def grouped_logliks(shape: DsemShape, draws: Array, data: DsemData) -> Array:
    """Return log p(y_i | other clients of the therapist, theta), (D, N), at draws (D, n).

    For models in which intercepts (and slopes) alone are random.
    """
    k, n = data.k, len(data.Y)
    if data.therapist is None:
        raise ValueError("no therapists")  # the caller's part
    own = float(np.nanstd(data.Y)) * np.eye(k)  # any step: a quadratic is one
    pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
    v = np.array([np.zeros(k), *own, *(-own), *(own[i] + own[j] for i, j in pairs)])
    clients = Clients(shape, data, len(v))
    count = int(data.therapist.max()) + 1
    out = np.empty((len(draws), n))
    for d, values in enumerate(draws):
        world = Population.of(shape, values)
        effects = Effects.of(shape, world, data)
        L = clients.logliks(world, effects, np.zeros((n, len(v), 0)), v)
        slope, H = _read_quadratic(L, own[0, 0], pairs)
        all_slope, all_H = np.zeros((count, k)), np.zeros((count, k, k))
        np.add.at(all_slope, data.therapist, slope)
        np.add.at(all_H, data.therapist, H)
        g, G = all_slope[data.therapist], all_H[data.therapist]
        V = world.therapist_cov
        out[d] = L[:, 0] + _integrated(V, g, G) - _integrated(V, g - slope, G - H)
    return out


def _read_quadratic(L: Array, step: float, pairs: list[tuple[int, int]]) -> tuple[Array, Array]:
    """Return slope (N, k) at 0 and negative curvature (N, k, k) of a quadratic from its values."""
    k = (L.shape[1] - 1 - len(pairs)) // 2
    zero, up, down = L[:, :1], L[:, 1 : 1 + k], L[:, 1 + k : 1 + 2 * k]
    slope = (up - down) / (2.0 * step)
    H = np.zeros((len(L), k, k))
    H[:, np.arange(k), np.arange(k)] = (2.0 * zero - up - down) / step**2
    for place, (i, j) in enumerate(pairs):
        both = up[:, i] + up[:, j] - zero[:, 0] - L[:, 1 + 2 * k + place]
        H[:, i, j] = H[:, j, i] = both / step**2
    return slope, H


def _integrated(V: Array, g: Array, H: Array) -> Array:
    """Return log of the integral of exp(g'v - v'Hv/2) N(v; 0, V), (N,)."""
    inner = np.eye(len(V)) + V @ H
    found = np.linalg.solve(inner, (g @ V.T)[..., None])[..., 0]
    return np.asarray(0.5 * (g * found).sum(axis=1) - 0.5 * np.linalg.slogdet(inner)[1])
