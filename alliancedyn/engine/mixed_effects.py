"""What a fitted linear mixed model says beyond its estimates, from the client statistics.

Shrunken effects u_i = Omega Z_i'V^-1 r and v_g = rho 1'V^-1 r with their covariance given the rows
and beta, sigma^2 (Omega - Omega Z_i'V^-1 Z_i Omega); each client's first-order contribution to the
fixed effects; and the sampling covariance of the variances themselves, on which Satterthwaite's
degrees of freedom rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.mixed_design import StandardDesign
from alliancedyn.engine.mixed_kernels import sum_effects
from alliancedyn.engine.mixed_likelihood import Value, lower_places, point_of, upper_pairs
from alliancedyn.engine.mixed_rows import Grouping, sum_scores
from alliancedyn.engine.mixed_search import (
    Peak,
    factor_jacobian,
    lower_factor,
    pair_matrix,
)

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Effects:
    """Shrunken effects and their covariance given the rows and beta, units in ascending order."""

    random: Array  # (J, q)
    random_cov: Array  # (J, q, q)
    outer: Array  # (G,)
    outer_var: Array  # (G,)


@dataclass(frozen=True)
class Uncertainty:
    """Sampling covariance of the variances, and how beta's covariance moves with them."""

    variance_cov: Array  # (K, K)
    beta_cov_slopes: Array  # (K, p, p)


def variance_names(q: int, nested: bool) -> tuple[str, ...]:
    """Name the variances: upper triangle of ``random_cov`` row by row, outer, residual."""
    pairs = [f"random_cov[{a},{b}]" for a in range(q) for b in range(a, q)]
    return (*pairs, *(["outer_var"] if nested else []), "residual_var")


def random_effects(design: StandardDesign, value: Value, grouping: Grouping) -> Effects:
    """Return the shrunken effects in the user's columns of Z."""
    stats, q = design.stats, len(design.turn)
    sums, weights, pulses = sum_effects(
        stats.root, stats.projected, stats.one, stats.blocks, point_of(value, True)
    )
    if free := stats.free:
        alone = (stats.root[:free], stats.projected[:free], stats.one, stats.blocks[:0])
        sums[:free], weights[:free], _ = sum_effects(*alone, point_of(value, True))
    omega = value.omega[:q, :q]
    scale = design.size**2 * value.squares / value.freedom
    carry = design.turn @ omega
    random, covariance = np.empty((len(sums), q)), np.empty((len(sums), q, q))
    random[grouping.sequence] = design.size * sums[:, :q] @ carry.T
    known = carry @ design.turn.T
    covariance[grouping.sequence] = scale * (known - carry @ weights[:, :q, :q] @ carry.T)
    return Effects(
        random,
        covariance,
        design.size * value.rho * pulses[:, 0],
        scale * value.rho * (1.0 - value.rho * pulses[:, 1]),
    )


def fixed_influence(
    rows: tuple[Array, Array, Array],
    beta: Array,
    bread: Array,
    effects: Effects,
    grouping: Grouping,
) -> Array:
    """Return (X'V^-1 X)^-1 X_i'(V^-1 r)_i, with V^-1 r = r - Z u - v, per client (J, p)."""
    offset = np.zeros(len(effects.random))
    for g in range(len(effects.outer)):
        offset[grouping.sequence[grouping.blocks[g] : grouping.blocks[g + 1]]] = effects.outer[g]
    score = sum_scores(rows, beta, effects.random, offset, grouping.order, grouping.starts)
    return np.asarray(score @ bread)


def variance_uncertainty(design: StandardDesign, peak: Peak) -> Uncertainty:
    """Return the inverse observed information of the variances in the user's units.

    The information is that of the likelihood with sigma^2 no longer profiled out, taken in the
    absolute variances G = sigma^2 Omega, tau = sigma^2 rho, sigma^2. Where Omega is singular its
    rank is held: the covariance of G moves along G = F F' only.
    """
    value, slopes, q = peak.value, peak.slopes, len(design.turn)
    kept = _kept_pairs(len(value.omega), q)
    inner = len(kept)
    keep = np.append(
        kept, np.arange(len(value.omega) * (len(value.omega) + 1) // 2, len(slopes.gradient))
    )
    relative = np.append(value.omega[:q, :q][upper_pairs(q)], [value.rho] * (len(keep) - inner))
    gradient, information = _absolute(peak, keep, relative)
    tangent, curved = _tangent(design, value, gradient, inner)
    hessian = tangent.T @ information @ tangent + curved
    covariance = 2.0 * tangent @ _inverted(hessian) @ tangent.T
    moved = value.cov @ slopes.information[keep] @ value.cov
    last = value.cov - np.einsum("k,kab->ab", relative, moved)
    inside = np.concatenate([moved, last[None]])
    carry = _carry(design, len(keep) - inner)
    back = design.size * design.back
    outside = np.einsum("kl,kab->lab", np.linalg.inv(carry), back @ inside @ back.T)
    return Uncertainty(carry @ covariance @ carry.T, outside)


def _inverted(hessian: Array) -> Array:
    """Invert, columns on one scale; turns of F among themselves change nothing and are left out."""
    unit = np.sqrt(np.abs(np.diag(hessian)))
    unit[unit == 0.0] = 1.0
    scaled = np.linalg.pinv(hessian / np.outer(unit, unit), rcond=1e-11, hermitian=True)
    return np.asarray(scaled / np.outer(unit, unit))


def _kept_pairs(m: int, q: int) -> Codes:
    """Return the places, among the pairs of m columns, of those of the first q."""
    a, b = upper_pairs(m)
    return np.flatnonzero((a < q) & (b < q))


def _absolute(peak: Peak, keep: Codes, relative: Array) -> tuple[Array, Array]:
    """Return gradient and Hessian of the deviance in (G, tau, sigma^2), sigma^2 not profiled."""
    value, slopes = peak.value, peak.slopes
    residual = value.squares / value.freedom
    count = len(keep)
    squares, first = slopes.squares[keep], slopes.gradient[keep]
    hessian = np.empty((count + 1, count + 1))
    hessian[:count, :count] = slopes.hessian[np.ix_(keep, keep)]
    hessian[:count, :count] += value.freedom * np.outer(squares, squares) / value.squares**2
    hessian[count, :count] = hessian[:count, count] = squares / residual**2
    hessian[count, count] = value.freedom / residual**2
    jacobian = np.eye(count + 1)
    jacobian[:count, :count] /= residual
    jacobian[:count, count] = -relative / residual
    information = jacobian.T @ hessian @ jacobian
    information[count, :count] -= first / residual**2
    information[:count, count] -= first / residual**2
    information[count, count] += 2.0 * float(first @ relative) / residual**2
    return np.append(first / residual, -float(first @ relative) / residual), information


def _tangent(
    design: StandardDesign, value: Value, gradient: Array, inner: int
) -> tuple[Array, Array]:
    """Return the directions in which (G, tau, sigma^2) may move, and the bend of the first."""
    q = len(design.turn)
    residual = value.squares / value.freedom
    factor = lower_factor(residual * value.omega[:q, :q])
    lengths = np.sqrt((factor**2).sum(axis=0))
    rows, columns = lower_places(q)
    free = lengths[columns] > 1e-8 * max(float(lengths.max()), 1e-300)
    rows, columns = rows[free], columns[free]
    outer = [True] * (len(gradient) - inner - 1)
    if outer:
        outer = [value.rho > 0.0]
    others = np.eye(len(gradient))[:, inner:][:, np.append(outer, True).astype(bool)]
    tangent = np.zeros((len(gradient), len(rows) + others.shape[1]))
    tangent[:inner, : len(rows)] = factor_jacobian(factor, (rows, columns))
    tangent[:, len(rows) :] = others
    curved = np.zeros((tangent.shape[1],) * 2)
    half = pair_matrix(gradient[:inner], q)
    curved[: len(rows), : len(rows)] = (
        2.0 * half[np.ix_(rows, rows)] * (columns[:, None] == columns[None, :])
    )
    return tangent, curved


def _carry(design: StandardDesign, outer: int) -> Array:
    """Return the linear map from standardised variances to the user's."""
    q = len(design.turn)
    upper = upper_pairs(q)
    inner = len(upper[0])
    carry = np.eye(inner + outer + 1)
    for k, (a, b) in enumerate(zip(*upper, strict=True)):
        unit = np.zeros((q, q))
        unit[a, b] = unit[b, a] = 1.0
        carry[:inner, k] = (design.turn @ unit @ design.turn.T)[upper]
    return np.asarray(design.size**2 * carry)
