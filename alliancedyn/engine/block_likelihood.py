"""The profiled likelihood of a mixed model from client cross-products, with its exact gradient.

Cov(y) = sigma^2 V, V = R + Z Gamma Z' + rho w w', rows whitened by R beforehand. With nu = n - p
under REML (n under ML) and q = r'V^-1 r, sigma^2 = q / nu is profiled out of

    d = log|V| + nu [1 + log(2 pi q / nu)] + log|X'V^-1 X|     (the last under REML only).

Where R hangs on a parameter phi, the cross-products A = U'U, S = U'D and T = D'D of the whitened
U = [Z w], D = [X y] do, and with B = Cov(u) U'V^-1 D (predicted effects) and P the covariance of
the random effects given y, in units of sigma^2,

    d log|V| = d log|R| + sum_i tr(P_i dA_i),
    d D'V^-1 D = sum_i dT_i - dS_i'B_i - B_i'dS_i + B_i'dA_i B_i.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from alliancedyn.engine.blocks import Array, Blocks, Components, Forms, forms, solve_fixed
from alliancedyn.engine.mixed_information import still_directions
from alliancedyn.engine.mixed_result import Bound


@dataclass(frozen=True)
class Slope:
    """How whitened cross-products move with the serial parameter phi.

    Attributes
    ----------
    gram : array (N, k, k)
        d gram / d phi, laid out as in :class:`~alliancedyn.engine.blocks.Blocks`.
    log_det : float
        d log|R| / d phi.
    """

    gram: Array
    log_det: float


@dataclass(frozen=True)
class Height:
    """The profiled deviance at (Gamma, rho, phi).

    Attributes
    ----------
    deviance : float
        -2 times the profiled (restricted) log-likelihood.
    beta, cov : arrays (p,), (p, p)
        Fixed effects and (X'V^-1 X)^-1.
    sigma2, squares, freedom : float, float, int
        q / nu in squared units of y (or what was held), q and nu.
    by_random : array (q, q)
        Symmetric matrix S with d(deviance) = tr(S dGamma).
    by_outer, by_phi : float
        Derivatives by rho and phi.
    products_slope : array (p + 1, p + 1)
        d D'V^-1 D / d phi; zeros without ``slope``.
    at : Forms
        The forms this was computed from.
    """

    deviance: float
    beta: Array
    cov: Array
    sigma2: float
    squares: float
    freedom: int
    by_random: Array
    by_outer: float
    by_phi: float
    products_slope: Array
    at: Forms


def profile(
    blocks: Blocks,
    ratio_cov: Array,
    ratio_outer: float,
    *,
    reml: bool,
    log_det: float = 0.0,
    slope: Slope | None = None,
    sigma2: float | None = None,
) -> Height:
    """Evaluate the profiled deviance and its gradient.

    Parameters
    ----------
    blocks : Blocks
        Cross-products of whitened rows by client.
    ratio_cov, ratio_outer : array (q, q), float
        Gamma = G / sigma^2 and rho = omega / sigma^2.
    reml : bool
        Restricted or full likelihood.
    log_det : float
        log|R|.
    slope : Slope, optional
        For the derivative by phi.
    sigma2 : float, optional
        Hold the residual variance instead of profiling it out; the gradient is then that of the
        unprofiled deviance, by the ratios.
    """
    at = forms(blocks, ratio_cov, ratio_outer)
    total = np.asarray(at.products.sum(axis=0))
    beta, cov, squares = solve_fixed(total)
    p = len(beta)
    nu = blocks.rows - (p if reml else 0)
    held = squares / nu if sigma2 is None else sigma2
    deviance = at.log_det + log_det + nu * math.log(2.0 * math.pi * held)
    deviance += squares / held
    if reml:
        deviance += float(np.linalg.slogdet(total[:p, :p])[1])
    # every derivative is a trace with this matrix: of r r' / sigma^2, and of C under REML
    direction = np.append(-beta, 1.0)
    inner = np.outer(direction, direction) / held
    if reml:
        inner[:p, :p] += cov
    by_random, by_outer = _by_variances(blocks, at, inner)
    by_phi, products_slope = 0.0, np.zeros_like(total)
    if slope is not None:
        products_slope, spread = _by_phi(blocks, at, ratio_cov, slope)
        by_phi = slope.log_det + spread + float(np.sum(inner * products_slope))
    return Height(
        deviance, beta, cov, held, squares, nu, by_random, by_outer, by_phi, products_slope, at
    )


def _by_variances(blocks: Blocks, at: Forms, inner: Array) -> tuple[Array, float]:
    N, n = at.effects, at.outer_effects
    c = blocks.of_unit(at.ratio_outer * at.shrink)
    by_random = at.inner.sum(axis=0) - np.einsum("i,ia,ib->ab", c, at.toward, at.toward)
    by_random = by_random - np.einsum("iac,cd,ibd->ab", N, inner, N, optimize=True)
    by_outer = 0.0
    if blocks.outer is not None:
        by_outer = float((at.outer_weight * at.shrink).sum() - np.sum((n.T @ n) * inner))
    return 0.5 * (by_random + by_random.T), by_outer


def predicted(at: Forms, blocks: Blocks, ratio_cov: Array) -> Array:
    """Return B (N, q + 1, p + 1): random effects, outer last, predicted for each of [X y]."""
    outer = at.ratio_outer * blocks.of_unit(at.outer_effects)
    return np.concatenate([ratio_cov @ at.effects, outer[:, None, :]], axis=1)


def conditional(at: Forms, blocks: Blocks, ratio_cov: Array) -> Array:
    """Return P (N, q + 1, q + 1): covariance of the random effects given y, over sigma^2."""
    q, ratio = blocks.effects, at.ratio_outer
    shrink = blocks.of_unit(at.shrink)
    M = np.zeros((len(at.inner), q + 1, q + 1))
    M[:, :q, :q] = at.inner - (ratio * shrink)[:, None, None] * (
        at.toward[:, :, None] * at.toward[:, None, :]
    )
    M[:, :q, q] = M[:, q, :q] = shrink[:, None] * at.toward
    M[:, q, q] = shrink * blocks.of_unit(at.outer_weight)
    prior = np.zeros((q + 1, q + 1))
    prior[:q, :q], prior[q, q] = ratio_cov, ratio
    return np.asarray(prior - prior @ M @ prior)


def _by_phi(blocks: Blocks, at: Forms, ratio_cov: Array, slope: Slope) -> tuple[Array, float]:
    """Return d D'V^-1 D / d phi and sum_i tr(P_i dA_i)."""
    m = blocks.effects + 1
    dA, dS = slope.gram[:, :m, :m], slope.gram[:, :m, m:]
    B = predicted(at, blocks, ratio_cov)
    P = conditional(at, blocks, ratio_cov)
    toward = np.tensordot(dS, B, axes=((0, 1), (0, 1)))
    products = slope.gram[:, m:, m:].sum(axis=0) - toward - toward.T
    products = products + np.tensordot(B, dA @ B, axes=((0, 1), (0, 1)))
    return products, float(np.einsum("iab,iba->", P, dA))


def influence(blocks: Blocks, height: Height, ratio_cov: Array) -> tuple[Array, Array]:
    """Return each client's first-order part in beta (N, p), and its random effects (N, q + 1).

    C X_i'(V^-1 r)_i with C = (X'V^-1 X)^-1; sigma^2 cancels. Parts sum to zero.
    """
    m = blocks.effects + 1
    direction = np.append(-height.beta, 1.0)
    effects = predicted(height.at, blocks, ratio_cov) @ direction
    left = blocks.gram[:, m:-1, m:] @ direction
    left = left - np.einsum("iac,ia->ic", blocks.gram[:, :m, m:-1], effects)
    return left @ height.cov, effects


def components_of(height: Height, ratio_cov: Array, ratio_outer: float) -> Components:
    """Return the components in squared units of y."""
    return Components(ratio_cov * height.sigma2, height.sigma2, ratio_outer * height.sigma2)


def bounds(
    blocks: Blocks, components: Components, by_random: Array, by_outer: float
) -> tuple[Bound, ...]:
    """Name the variances at zero and perfect correlations, with the slope there.

    ``by_random`` (q, q) and ``by_outer`` are the derivatives of the deviance by G / sigma^2 and
    omega / sigma^2, in the columns of ``blocks``.
    """
    still, unit = still_directions(blocks, components)
    found = []
    for weights in still.T:
        columns = tuple(int(j) for j in np.flatnonzero(np.abs(weights) > 1e-6))
        whole = still.shape[1] == blocks.effects
        kind = "variance" if len(columns) == 1 or whole else "correlation"
        slope = float((weights / unit) @ by_random @ (weights / unit))
        found.append(Bound(kind, columns, -0.5 * slope))
    if blocks.outer is not None and components.outer_var == 0.0:
        found.append(Bound("outer", (), -0.5 * by_outer))
    return tuple(found)
