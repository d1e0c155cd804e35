"""Starting values from moments, so that nobody has to supply any."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import gaps

Array = NDArray[np.float64]

CLIENTS = 2000  # of a larger panel an even sample serves to start from
MOST_STABLE = 0.8  # share of a series' variance that stable parts have at the start, at most
RADIUS = 0.85  # spectral radius to which starting lags are shrunk


@dataclass(frozen=True)
class Moments:
    """Rough moments of a panel, score points.

    Parameters
    ----------
    mean : (T, k)
        Session means; the overall mean where a session has no score.
    sd : (k,)
        Standard deviations around the session means.
    between, within : (k, k)
        Covariance of the stable parts, and of the deviations from them.
    phi : (k, k)
        Lagged effects, stationary.
    innovation : (k, k)
        Innovation covariance.
    around : (n, T, k)
        Scores of some clients around the session means, NaN = missing.
    """

    mean: Array
    sd: Array
    between: Array
    within: Array
    phi: Array
    innovation: Array
    around: Array


def moments(Y: Array, traits: bool) -> Moments:
    """Estimate rough moments of (N, T, k) scores, NaN = missing.

    Covariances between far sessions stand for the stable parts; what is left at lags 0 and 1
    gives the lagged effects.
    """
    mean = session_means(Y)
    picked = Y[:: -(-len(Y) // CLIENTS)] - mean
    seen = ~np.isnan(picked)
    sd = np.sqrt(np.nanmean((Y - mean) ** 2, axis=(0, 1)))
    sd = np.where(sd > 0.0, sd, 1.0)
    D = np.where(seen, picked, 0.0) / sd  # unit-free from here on
    n_sessions = Y.shape[1]
    total = make_definite(_cross(D, seen, 0), 0.05)
    between = np.zeros_like(total)
    if traits:
        far = range(max(2, n_sessions // 2), n_sessions)
        between = _between(_mean_at(far, D, seen), total)
    within = make_definite(total - between, 0.05)
    if gaps.patchy(seen):
        lags = np.array([_cross(D, seen, lag) - between for lag in range(1, n_sessions)])
        phi = _shrink(gaps.lag_matrix(lags, gaps.pairs_at_lags(seen)[1:], within))
    else:
        lagged = _cross(D, seen, 1) - between
        phi = _shrink(np.asarray(np.linalg.solve(within, lagged.T).T, float))
    innovation = make_definite(within - phi @ within @ phi.T, 0.05)
    units = np.outer(sd, sd)
    return Moments(
        mean,
        sd,
        between * units,
        within * units,
        phi * sd[:, None] / sd,
        innovation * units,
        picked,
    )


def courses(rough: Moments, loads: Array, units: Array) -> tuple[Array, Moments]:
    """Split rough moments into courses of clients and deviations from them.

    Covariances between sessions s and t that are far apart are Lambda_s B Lambda_t', from which
    least squares find B; what it leaves at lags 0 and 1 gives the lagged effects.

    Parameters
    ----------
    rough : Moments
    loads : (T, k, m)
        Loadings Lambda_t of the series on the growth factors.
    units : (m,)
        A unit of each factor.

    Returns
    -------
    B : (m, m)
        Covariance of the factors.
    deviations : Moments
        With ``within``, ``phi`` and ``innovation`` of the deviations.
    """
    sd, at = rough.sd, np.arange(len(loads))
    C, L = _covariances(rough.around / sd), loads * units / sd[:, None]  # unit-free from here on
    B = make_definite(_factor_cov(C, L), 0.05)
    share = np.diag(_mean_of(_explained(L, B)[at, at])) / np.diag(_mean_of(C[at, at]))
    shrink = np.sqrt(np.minimum(1.0, MOST_STABLE / share))[np.abs(L).sum(axis=0).argmax(axis=0)]
    B = B * np.outer(shrink, shrink)
    left = C - _explained(L, B)
    within = make_definite(_mean_of(left[at, at]), 0.05)
    if gaps.patchy(seen := ~np.isnan(rough.around)):
        by_lag = np.array([_mean_of(left[at[lag:], at[:-lag]]) for lag in at[1:]])
        phi = _shrink(gaps.lag_matrix(by_lag, gaps.pairs_at_lags(seen)[1:], within))
    else:
        lagged = _mean_of(left[at[1:], at[:-1]])
        phi = _shrink(np.asarray(np.linalg.solve(within, lagged.T).T, float))
    innovation = make_definite(within - phi @ within @ phi.T, 0.05)
    square = np.outer(sd, sd)
    deviations = replace(
        rough,
        within=within * square,
        phi=phi * sd[:, None] / sd,
        innovation=innovation * square,
    )
    return B * np.outer(units, units), deviations


def _covariances(D: Array) -> Array:
    """Mean of D[s, i] D[t, j] over clients seen at both, (T, T, k, k); NaN where nobody was."""
    seen = ~np.isnan(D)
    filled = np.where(seen, D, 0.0)
    sums = np.einsum("nsi,ntj->stij", filled, filled, optimize=True)
    counts = np.einsum("nsi,ntj->stij", seen * 1.0, seen * 1.0, optimize=True)
    return np.where(counts > 0.0, sums / np.maximum(counts, 1.0), np.nan)


def _explained(loads: Array, B: Array) -> Array:
    """Covariances L_s B L_t' that factors make, (T, T, k, k)."""
    return np.asarray(np.einsum("sia,ab,tjb->stij", loads, B, loads, optimize=True))


def _factor_cov(C: Array, loads: Array) -> Array:
    """Fit C[s, t] = L_s B L_t' at far sessions, C (T, T, k, k) with NaN, by least squares."""
    T, _, m = loads.shape
    s, t = np.triu_indices(T, max(2, T // 2))
    rows, columns = np.triu_indices(m)
    full = np.einsum("pia,pjb->pijab", loads[s], loads[t])
    both = (full + np.swapaxes(full, 3, 4))[..., rows, columns] / np.where(rows == columns, 2, 1)
    known = ~np.isnan(C[s, t])
    found = np.linalg.lstsq(both[known], C[s, t][known], rcond=1e-6)[0]
    B = np.zeros((m, m))
    B[rows, columns] = B[columns, rows] = found
    return B


def _mean_of(blocks: Array) -> Array:
    """Mean of blocks (S, k, k) over the sessions that have them; 0 where none has."""
    seen = ~np.isnan(blocks)
    total: Array = np.where(seen, blocks, 0.0).sum(axis=0)
    return total / np.maximum(seen.sum(axis=0), 1)


@dataclass(frozen=True)
class ItemMoments:
    """Rough moments of the items of a panel, score points.

    Parameters
    ----------
    series : (N, T, k)
        One composite per series, in the unit of its first item; the score itself where a series
        has a single item.
    mean : (T, p)
        Session means of the items.
    sd, loading, error : (p,)
        Standard deviation, loading on its series and error variance of each item.
    """

    series: Array
    mean: Array
    sd: Array
    loading: Array
    error: Array


def item_moments(Y: Array, series_of: tuple[int, ...]) -> ItemMoments:
    """Estimate rough moments of (N, T, p) items, NaN = missing, p items of k series."""
    mean = session_means(Y)
    D = Y - mean
    seen = ~np.isnan(D)
    C = _cross(np.where(seen, D, 0.0), seen, 0)
    sd = np.sqrt(np.maximum(np.diag(C), 1e-12))
    loading, error = np.ones(len(sd)), 0.2 * sd**2
    series = []
    for j in range(max(series_of) + 1):
        own = [i for i, owner in enumerate(series_of) if owner == j]
        if len(own) == 1:
            series.append(Y[:, :, own[0]])
            continue
        others = C[np.ix_(own, own)] - np.diag(np.diag(C)[own])
        loading[own] = np.clip(others.sum(axis=1) / others[0].sum(), 0.2, 5.0)
        products = loading[own].sum() ** 2 - (loading[own] ** 2).sum()
        common = others.sum() / products
        error[own] = np.maximum(np.diag(C)[own] - loading[own] ** 2 * common, 0.1 * sd[own] ** 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a session without any item
            series.append(np.nanmean(D[:, :, own] / loading[own], axis=2) + mean[:, own[0]])
    return ItemMoments(np.stack(series, axis=2), mean, sd, loading, error)


def anchored(rough: Moments, measured: Sequence[bool]) -> Moments:
    """Count the means of series with several items from the first session, where they are 0."""
    return replace(rough, mean=rough.mean - np.where(measured, rough.mean[0], 0.0))


def alternatives(matrices: dict[str, Array]) -> list[dict[str, Array]]:
    """Return two starts far from the first, where another maximum would be found.

    In one, clients hardly differ and deviations persist; in the other, clients differ a great
    deal and deviations do not last.
    """
    made = []
    # A drift says nothing of the gaps: its pace is slowed down and sped up.
    for stable, passing, persistence, pace in ((0.1, 1.6, 0.8, 0.25), (1.8, 0.5, 0.1, 2.5)):
        other = dict(matrices)
        for key, value in matrices.items():
            family = key.partition("|")[0]
            if family == "phi":
                other[key] = np.broadcast_to(persistence * np.eye(value.shape[-1]), value.shape)
            elif family == "drift":
                other[key] = pace * value * np.eye(value.shape[-1])
            elif family == "diffusion_cov":
                other[key] = passing * pace * value
            elif family == "between_cov":
                other[key] = stable * value
            elif family == "initial_cov":
                other[key] = passing * value
            elif family == "innovation_cov":
                other[key] = passing * (1.0 - persistence**2) * value
        made.append(other)
    return made


def session_means(Y: Array) -> Array:
    """Return the mean of every score at every session, (T, k); overall where none was seen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a session nobody attended
        mean = np.nanmean(Y, axis=0)
    return np.asarray(np.where(np.isnan(mean), np.nanmean(Y, axis=(0, 1)), mean))


def variance_around_means(scores: Array) -> float:
    """Return the variance of one score (N, T) around its session means, squared score points."""
    return float(np.nanvar(scores - session_means(scores[:, :, None])[:, 0]))


def _cross(D: Array, seen: NDArray[np.bool_], lag: int) -> Array:
    """Mean of D[t, i] D[t - lag, j] over clients and sessions where both were seen, (k, k)."""
    n_sessions = D.shape[1]
    later, earlier = D[:, lag:], D[:, : n_sessions - lag]
    sums = np.einsum("nti,ntj->ij", later, earlier, optimize=True)
    counts = np.einsum("nti,ntj->ij", seen[:, lag:] * 1.0, seen[:, : n_sessions - lag] * 1.0)
    return np.asarray(sums / np.maximum(counts, 1.0))


def _mean_at(lags: range, D: Array, seen: NDArray[np.bool_]) -> Array:
    """Mean over lags of the products at each, of those lags at which a pair of series was seen."""
    products = np.array([_cross(D, seen, lag) for lag in lags])
    if not gaps.patchy(seen):
        return np.asarray(products.mean(axis=0))
    known = gaps.pairs_at_lags(seen)[lags.start :] > 0.0
    return np.asarray((products * known).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


def _between(far: Array, total: Array) -> Array:
    """Turn the covariance at far lags into an admissible share of the total."""
    sd = np.sqrt(np.diag(total))
    share = np.clip(np.diag(far) / np.diag(total), 0.1, MOST_STABLE)
    root = np.sqrt(share) * sd
    correlation = np.clip((far + far.T) / 2.0 / np.outer(root, root), -0.8, 0.8)
    np.fill_diagonal(correlation, 1.0)
    return make_definite(correlation * np.outer(root, root), 0.05)


def make_definite(S: Array, floor: float) -> Array:
    """Lift eigenvalues, on the correlation scale, to at least ``floor``; S (k, k) is unit-free."""
    S = (S + S.T) / 2.0
    d = np.sqrt(np.maximum(np.diag(S), 1e-3))
    values, vectors = np.linalg.eigh(S / np.outer(d, d))
    lifted = (vectors * np.maximum(values, floor)) @ vectors.T
    return np.asarray(lifted * np.outer(d, d))


def _shrink(phi: Array) -> Array:
    radius = float(np.abs(np.linalg.eigvals(phi)).max())
    return phi if radius <= RADIUS else phi * (RADIUS / radius)
