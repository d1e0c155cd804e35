"""The wide route: a panel as one long vector per client, its mean and its covariance.

Scores of a client are laid out session by session, (N, p) with p = sessions x scores, NaN where
missing. Whatever a model says about dynamics ends here as p means and a p x p covariance, and
the likelihood of a client is the normal density of the scores that were observed. Nothing in
this module filters: it is the second, independent route to every number of the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from numpy.typing import NDArray

from alliancedyn.engine.cholesky import factor_part
from alliancedyn.errors import SpecificationError

if TYPE_CHECKING:
    from alliancedyn.engine.kalman import StateSpace

Array = NDArray[np.float64]
Index = NDArray[np.int64]

LOG_2PI = math.log(2.0 * math.pi)


@dataclass(frozen=True)
class Patterns:
    """Rows of a wide panel grouped by which of their scores are observed.

    Parameters
    ----------
    order : (N,) int
        Rows, sorted so that equal patterns are neighbors.
    start : (K + 1,) int
        Pattern k holds the rows ``order[start[k]:start[k + 1]]``.
    seen : (K, p) bool
        Observed columns of each pattern.
    """

    order: Index
    start: Index
    seen: NDArray[np.bool_]


def find_patterns(seen: NDArray[np.bool_]) -> Patterns:
    """Group the rows of ``seen`` (N, p) by pattern; the order of rows is kept within one."""
    n, p = seen.shape
    if n == 0:
        return Patterns(np.empty(0, np.int64), np.zeros(1, np.int64), seen)
    words = np.zeros((n, 8 * max(1, -(-p // 64))), np.uint8)
    packed = np.packbits(seen, axis=1)
    words[:, : packed.shape[1]] = packed
    keys = words.view(np.uint64)
    order = np.lexsort(keys.T) if keys.shape[1] > 1 else np.argsort(keys[:, 0], kind="stable")
    ordered = keys[order]
    new = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])
    first = np.flatnonzero(new)
    return Patterns(order, np.append(first, n), seen[order[first]])


def column_names(names: Sequence[str] | None, p: int) -> list[str]:
    """Return ``names``, or ``column 1`` ... ``column p`` where there are none."""
    if names is None:
        return [f"column {j + 1}" for j in range(p)]
    if len(names) != p:
        raise SpecificationError(f"{len(names)} names for {p} columns. Give one for each column.")
    return list(names)


def implied_moments(system: StateSpace) -> tuple[Array, Array]:
    """Compute the mean and covariance that a state-space model implies for one client's scores.

    With x_t = F_t x_{t-1} + w_t and y_t = m_t + H_t x_t + e_t::

        P_1 = initial_cov,   P_t = F_t P_{t-1} F_t' + Q_t
        Cov(x_t, x_s) = F_t ... F_{s+1} P_s                     for s < t
        Cov(y_t, y_s) = H_t Cov(x_t, x_s) H_s' + [s = t] diag(noise_t)

    F_t acts as phi on the states that follow the VAR and keeps the others as they are.

    Parameters
    ----------
    system : StateSpace
        System matrices shared by all clients.

    Returns
    -------
    mean : (p,)
        Means, score points, session-major: session 1 score 1, session 1 score 2, ...
    cov : (p, p)
        Covariance, squared score points.

    Raises
    ------
    SpecificationError
        If the lag matrices or innovations differ between clients: there is no single covariance.
    """
    if system.phi.ndim != 3 or system.psi.ndim != 3:
        raise SpecificationError(
            "The system matrices differ between clients, so no single covariance is implied. "
            "Take the moments of one client's system at a time."
        )
    sessions, n_states, d = len(system.mean_at), len(system.initial_cov), system.phi.shape[-1]
    loading, noise = system.loadings, system.noise[system.noise_at]
    scores = loading.shape[1]
    cov = np.empty((sessions, scores, sessions, scores))
    lagged = np.empty((sessions, n_states, n_states))  # Cov(x_t, x_s) for s = 1..t
    for t in range(sessions):
        if t > 0:
            phi, psi = system.phi[system.phi_at[t]], system.psi[system.psi_at[t]]
            lagged[:t, :d] = phi @ lagged[:t, :d]
            own = lagged[t - 1].copy()
            own[:, :d] = own[:, :d] @ phi.T
            own[:d, :d] += psi
            lagged[t] = own
        else:
            lagged[0] = system.initial_cov
        block = loading[t] @ lagged[: t + 1] @ np.swapaxes(loading[: t + 1], 1, 2)
        block[t] += np.diag(noise[t])
        cov[t, :, : t + 1] = block.transpose(1, 0, 2)
        cov[: t + 1, :, t] = block.transpose(0, 2, 1)
    wide = cov.reshape(sessions * scores, -1)
    mean = np.asarray(system.mean, float)[system.mean_at].ravel()
    return mean, (wide + wide.T) / 2.0


def input_effects(system: StateSpace) -> Array:
    """Return what one unit of each known input does to every mean, (T p, T q).

    With E_ss = drive and E_ts = F_t E_{t-1,s}, the mean at t moves by H_t E_ts per unit at s.
    """
    sessions, d, q = len(system.mean_at), system.phi.shape[-1], system.drive.shape[1]
    loading = system.loadings
    out = np.zeros((sessions, loading.shape[1], sessions, q))
    effect = np.zeros((sessions, *system.drive.shape))
    for t in range(sessions):
        if t > 0:
            effect[:t, :d] = system.phi[system.phi_at[t]] @ effect[:t, :d]
        effect[t] = system.drive
        out[t, :, : t + 1] = (loading[t] @ effect[: t + 1]).transpose(1, 0, 2)
    return out.reshape(sessions * loading.shape[1], -1)


@njit(cache=True)
def _pattern_loglik(
    Y: Array, order: Index, start: Index, seen: NDArray[np.bool_], mean: Array, cov: Array
) -> Array:
    """Log density of every row of ``Y``, one Cholesky factor per pattern."""
    p = len(mean)
    out = np.zeros(len(Y))
    factor, z, at = np.empty((p, p)), np.empty(p), np.empty(p, np.int64)
    for k in range(len(start) - 1):
        n = 0
        for j in range(p):
            if seen[k, j]:
                at[n] = j
                n += 1
        log_det = factor_part(cov, at, n, factor)
        for row in range(start[k], start[k + 1]):
            i = order[row]
            if math.isnan(log_det):
                out[i] = -np.inf
                continue
            distance = 0.0
            for a in range(n):
                value = Y[i, at[a]] - mean[at[a]]
                for c in range(a):
                    value -= factor[a, c] * z[c]
                z[a] = value / factor[a, a]
                distance += z[a] * z[a]
            out[i] = -0.5 * (n * LOG_2PI + log_det + distance)
    return out


def loglik_by_client(Y: Array, mean: Array, cov: Array) -> Array:
    """Compute every client's log-likelihood as one dense normal density of what was observed.

    With o the observed columns of client i::

        l_i = -1/2 [ |o| log 2 pi + log |Sigma_oo| + (y_o - mu_o)' Sigma_oo^-1 (y_o - mu_o) ]

    Parameters
    ----------
    Y : (N, p)
        Scores, score points, NaN = missing.
    mean : (p,)
        Means, score points.
    cov : (p, p)
        Covariance, squared score points.

    Returns
    -------
    (N,)
        Log-likelihoods; 0 for a client without any score, -inf where the covariance of the
        observed columns is not positive definite.
    """
    Y = np.ascontiguousarray(Y, float)
    patterns = find_patterns(~np.isnan(Y))
    return _pattern_loglik(
        Y,
        patterns.order,
        patterns.start,
        patterns.seen,
        np.ascontiguousarray(mean, float),
        np.ascontiguousarray(cov, float),
    )
