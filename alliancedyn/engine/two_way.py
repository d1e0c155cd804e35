r"""Regression with an effect for every client and every session, on grids of clients by sessions.

With tildes for deviations from the client's mean over the rows in use, R for what is left of the
predictors X~ after the nuisance columns N~ (other predictors, session indicators),

    beta = (R'R)^-1 R' y = W' y,    gamma = (N~'N~)^-1 N~' (y - X beta).

Indicators are never laid out: their cross-products are counts. The half-panel jackknife,

    beta = 2 beta_all - (beta_first + beta_second) / 2,

is again W' y, with weights W = 2 W_all - (W_first + W_second) / 2 that are orthogonal to client and
session indicators and give W'X = I; so its covariance and the clients' shares in it need no other
formula than those of the plain estimator.

References
----------
Dhaene, G., & Jochmans, K. (2015). Split-panel jackknife estimation of fixed-effect models. Review
of Economic Studies, 82(3), 991-1030.
Chudik, A., Pesaran, M. H., & Yang, J.-C. (2018). Half-panel jackknife fixed-effects estimation of
linear panels with weakly exogenous regressors. Journal of Applied Econometrics, 33(6), 816-836.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

ROWS_TO_HALVE = 4  # a half of one row says nothing about change
NOTHING_LEFT = 1e-10  # squares left of a column by the others, relative: more is no rounding


@dataclass(frozen=True)
class Grid:
    """Scores of one equation, laid out by client and session.

    Parameters
    ----------
    y : (N, T)
        Outcome; anything where not in use.
    X : (N, T, p)
        Predictors whose effects are asked for.
    E : (N, T, c)
        Further predictors.
    used : (N, T) bool
        Rows in use.
    session_effects : bool
        Whether sessions have an effect each.
    """

    y: Array
    X: Array
    E: Array
    used: Mask
    session_effects: bool

    def only(self, used: Mask) -> Grid:
        """Return the same scores with other rows in use."""
        return Grid(self.y, self.X, self.E, used, self.session_effects)

    @cached_property
    def counts(self) -> Array:
        """Rows of each client, (N,)."""
        return np.asarray(self.used.sum(axis=1), float)

    @cached_property
    def dummies(self) -> NDArray[np.int64]:
        """Places of the sessions with an effect: all in use but the first."""
        if not self.session_effects:
            return np.zeros(0, np.int64)
        return np.flatnonzero(self.used.any(axis=0))[1:]

    @cached_property
    def means(self) -> Array:
        """Client means of y, X, E and the indicators, (N, 1 + p + c + d); 0 without rows."""
        return np.concatenate([self._mean, self.used[:, self.dummies] / self._rows], axis=1)

    @cached_property
    def deviations(self) -> Array:
        """Deviations of y, X and E from the client's mean, (N, T, 1 + p + c); 0 out of use."""
        stacked = np.concatenate([self.y[:, :, None], self.X, self.E], axis=2)
        return np.where(self.used[:, :, None], stacked - self._mean[:, None, :], 0.0)

    @cached_property
    def gram(self) -> Array:
        """Cross-products of deviations: y, X, E, indicators; (1 + p + c + d) squared."""
        Z, d = self.deviations, self.dummies
        k = Z.shape[2]
        flat = Z.reshape(-1, k)
        G = np.empty((k + len(d), k + len(d)))
        G[:k, :k] = flat.T @ flat
        G[:k, k:] = Z.sum(axis=0)[d].T
        G[k:, :k] = G[:k, k:].T
        seen = self.used[:, d].astype(float)
        G[k:, k:] = np.diag(seen.sum(axis=0)) - (seen / self._rows).T @ seen
        return G

    @property
    def n_effects(self) -> int:
        """Number of predictors X."""
        return int(self.X.shape[2])

    @property
    def freedom(self) -> int:
        """Rows less clients less columns."""
        columns = self.n_effects + self.E.shape[2] + len(self.dummies)
        return int(self.counts.sum()) - int((self.counts > 0).sum()) - columns

    @property
    def _rows(self) -> Array:
        return np.maximum(self.counts, 1.0)[:, None]

    @cached_property
    def _mean(self) -> Array:
        stacked = np.concatenate([self.y[:, :, None], self.X, self.E], axis=2)
        inside = np.where(self.used[:, :, None], stacked, 0.0)
        return np.asarray(inside.sum(axis=1) / self._rows)

    def by_session(self, values: Array) -> Array:
        """Lay values (d, q) of the sessions with an effect out, as client deviations (N, T, q)."""
        full = np.zeros((self.used.shape[1], values.shape[1]))
        full[self.dummies] = values
        own = self.used @ full / self._rows
        return np.where(self.used[:, :, None], full - own[:, None, :], 0.0)


@dataclass(frozen=True)
class Within:
    """Estimates of one equation.

    Parameters
    ----------
    effects, cov : (q,), (q, q)
        Effects of X, E and the sessions, and their covariance if rows are independent with equal
        variances.
    shares : (N, q)
        Every client's first-order share in them.
    residuals : (N, T)
        As deviations from the client's mean; 0 out of use.
    residual_var : float
        Squares of the residuals over ``freedom``.
    uncorrected : (p,)
        Effects of X before the jackknife.
    """

    effects: Array
    cov: Array
    shares: Array
    residuals: Array
    residual_var: float
    uncorrected: Array


def estimate_within(grid: Grid, plain: Array | None = None, halve: bool = False) -> Within:
    """Estimate one equation by least squares within clients.

    Parameters
    ----------
    grid : Grid
        No client has fewer than two rows in use, with ``halve`` fewer than four.
    plain : (p,), optional
        Effects of X without the jackknife, if they are known already.
    halve : bool
        Whether to correct the effects of X by the half-panel jackknife; the others are then
        estimated given the corrected ones.

    Returns
    -------
    Within

    Raises
    ------
    numpy.linalg.LinAlgError
        If the effects of X are not identified in all rows, or in a half.
    """
    y, p = grid.deviations[:, :, 0], grid.n_effects
    weights = _weights(grid)
    uncorrected = _sums(weights, y) if plain is None else plain
    effects = uncorrected
    if halve:
        corrected = 2.0 * weights - _halved(grid)
        effects = effects + _sums(corrected - weights, y)
        weights = corrected
    inverse, slope = _nuisance(grid)
    others = inverse @ grid.gram[1 + p :, 0] - slope @ effects
    residuals = _residuals(grid, np.concatenate([effects, others]))
    variance = float((residuals**2).sum() / grid.freedom)
    S = np.einsum("ntp,ntq->pq", weights, weights)
    own = np.einsum("ntp,nt->np", weights, residuals)
    rest = np.einsum("ntc,nt->nc", grid.deviations[:, :, 1 + p :], residuals)
    rest = np.concatenate([rest, residuals[:, grid.dummies]], axis=1)
    return Within(
        effects=np.concatenate([effects, others]),
        cov=variance * np.block([[S, -S @ slope.T], [-slope @ S, inverse + slope @ S @ slope.T]]),
        shares=np.concatenate([own, rest @ inverse - own @ slope.T], axis=1),
        residuals=residuals,
        residual_var=variance,
        uncorrected=uncorrected,
    )


def collinear(grid: Grid) -> tuple[str, int] | None:
    """Say what cannot be told apart: ("effect", j), ("other", j) or ("session", 0); else None.

    Columns are taken in the order sessions, E, X; j is the first that those before it make.
    """
    G, p, c = grid.gram[1:, 1:], grid.n_effects, grid.E.shape[2]
    kinds = [("effect", j) for j in range(p)] + [("other", j) for j in range(c)]
    scale = _spread(grid)
    for at, kind in enumerate(kinds):
        if not G[at, at] > NOTHING_LEFT * scale[at]:
            return kind
    taken = list(range(p + c, len(G)))
    if taken and _smallest(G[np.ix_(taken, taken)]) < NOTHING_LEFT:
        return ("session", 0)
    for at in [*range(p, p + c), *range(p)]:
        left = _left(G, [at], taken)[1]
        if not left[0, 0] > NOTHING_LEFT * G[at, at]:
            return kinds[at]
        taken.append(at)
    return None


def first_halves(used: Mask) -> list[Mask]:
    """Return the first halves of every client's rows, (N, T); two where some clients' are odd.

    The middle row of an odd number belongs to the first half in one, to the second in the other.
    """
    n = used.sum(axis=1)
    place = np.cumsum(used, axis=1)
    sizes = [n // 2, (n + 1) // 2] if (n % 2).any() else [n // 2]
    return [used & (place <= size[:, None]) for size in sizes]


# -- pieces --------------------------------------------------------------------------------------


def _weights(grid: Grid) -> Array:
    """Return W (N, T, p) with W'y the effects of X and W orthogonal to everything else."""
    p = grid.n_effects
    G = grid.gram[1:, 1:]
    slope, left = _left(G, list(range(p)), list(range(p, len(G))))
    if _smallest(left) < NOTHING_LEFT or not (np.diag(left) > NOTHING_LEFT * np.diag(G)[:p]).all():
        raise np.linalg.LinAlgError("the effects are not identified")
    Z, c = grid.deviations, grid.E.shape[2]
    R = Z[:, :, 1 : 1 + p] - Z[:, :, 1 + p :] @ slope[:c] - grid.by_session(slope[c:])
    return np.asarray(R @ np.linalg.inv(left))


def _halved(grid: Grid) -> Array:
    """Return the mean of the weights of both halves, over the ways to halve."""
    firsts = first_halves(grid.used)
    halves = [half for first in firsts for half in (first, grid.used & ~first)]
    return np.asarray(sum(_weights(grid.only(half)) for half in halves) / len(halves))


def _sums(weights: Array, y: Array) -> Array:
    return np.einsum("ntp,nt->p", weights, y)


def _nuisance(grid: Grid) -> tuple[Array, Array]:
    """Return (N~'N~)^-1, and the slopes of X on the nuisance columns."""
    p, G = grid.n_effects, grid.gram[1:, 1:]
    inverse = pseudo_inverse(G[p:, p:])
    return inverse, inverse @ G[p:, :p]


def _left(G: Array, own: list[int], others: list[int]) -> tuple[Array, Array]:
    """Return the slopes of some columns on others, and the cross-products of what is left."""
    slope = pseudo_inverse(G[np.ix_(others, others)]) @ G[np.ix_(others, own)]
    return slope, G[np.ix_(own, own)] - G[np.ix_(own, others)] @ slope


def _residuals(grid: Grid, effects: Array) -> Array:
    k = grid.deviations.shape[2] - 1
    fitted = grid.deviations[:, :, 1:] @ effects[:k] + grid.by_session(effects[k:, None])[:, :, 0]
    return np.asarray(grid.deviations[:, :, 0] - fitted)


def _spread(grid: Grid) -> Array:
    """Return squares of X and E around their overall means, between clients and within."""
    values = np.concatenate([grid.X, grid.E], axis=2)[grid.used]
    return np.asarray(((values - values.mean(axis=0)) ** 2).sum(axis=0))


def _smallest(G: Array) -> float:
    """Return the smallest eigenvalue of cross-products, scaled to units."""
    d = np.sqrt(np.where(np.diag(G) > 0.0, np.diag(G), 1.0))
    return float(np.linalg.eigvalsh(G / d / d[:, None]).min())


def pseudo_inverse(G: Array) -> Array:
    """Return the inverse of cross-products (k, k), scaled first; of their range if singular."""
    d = np.sqrt(np.where(np.diag(G) > 0.0, np.diag(G), 1.0))
    inverse = np.linalg.pinv(G / d / d[:, None], rcond=NOTHING_LEFT, hermitian=True)
    return np.asarray(inverse / d / d[:, None])
