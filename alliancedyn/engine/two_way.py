r"""Regression with an effect for every client and every session, on grids of clients by sessions.

With tildes for deviations from the client's mean over the rows in use, R for what is left of the
predictors X~ after the nuisance columns N~ (other predictors, session indicators),

    beta = (R'R)^-1 R'y,    gamma = (N~'N~)^-1 N~' (y - X beta),

with clients' shares (R'R)^-1 R_i'e_i in beta. Indicators are never laid out: their cross-products
are counts. The half-panel jackknife,

    beta = 2 beta_all - (beta_first + beta_second) / 2,

has the same combination of shares, each with the residuals of its own fit: the fits differ by
their biases, so residuals of one would leave out how cross-products of the others vary.

References
----------
Dhaene, G., & Jochmans, K. (2015). Split-panel jackknife estimation of fixed-effect models. Review
of Economic Studies, 82(3), 991-1030.
Chudik, A., Pesaran, M. H., & Yang, J.-C. (2018). Half-panel jackknife fixed-effects estimation of
linear panels with weakly exogenous regressors. Journal of Applied Econometrics, 33(6), 816-836.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
        """Lay values (d,) of the sessions with an effect out, as client deviations (N, T)."""
        full = np.zeros(self.used.shape[1])
        full[self.dummies] = values
        return np.where(self.used, full - (self.used @ full)[:, None] / self._rows, 0.0)


@dataclass(frozen=True)
class Within:
    """Estimates of one equation.

    Parameters
    ----------
    effects : (q,)
        Effects of X, E and the sessions.
    shares : (N, q)
        Every client's first-order share in them.
    residuals : (N, T)
        As deviations from the client's mean; 0 out of use.
    residual_var : float
        Squares of the residuals over ``freedom`` of the grid; NaN if that is none.
    inverse : (q, q)
        Of the cross-products: times the residual variance, the covariance of effects that were
        not corrected, if errors are independent with equal variances.
    """

    effects: Array
    shares: Array
    residuals: Array
    residual_var: float
    inverse: Array

    @property
    def cov(self) -> Array:
        """Covariance of effects that were not corrected, if errors are independent and alike."""
        return self.residual_var * self.inverse


def estimate_within(grid: Grid, known: Array | None = None) -> Within:
    """Estimate one equation by least squares within clients.

    Parameters
    ----------
    grid : Grid
        No client has one row in use.
    known : (p + c,), optional
        Effects of X and E, where another program has them already.

    Returns
    -------
    Within

    Raises
    ------
    numpy.linalg.LinAlgError
        If the effects of X are not identified.
    """
    G, p = grid.gram[1:, 1:], grid.n_effects
    own, others = list(range(p)), list(range(p, len(G)))
    slope, left = _left(G, own, others)
    if _smallest(left) < NOTHING_LEFT or not (np.diag(left) > NOTHING_LEFT * np.diag(G)[:p]).all():
        raise np.linalg.LinAlgError("the effects are not identified")
    S, A = np.linalg.inv(left), pseudo_inverse(G[p:, p:])
    inverse = np.block([[S, -S @ slope.T], [-slope @ S, A + slope @ S @ slope.T]])
    effects = inverse @ grid.gram[1:, 0]
    if known is not None:
        k = len(known)
        B = pseudo_inverse(G[k:, k:])
        effects = np.concatenate([known, B @ (grid.gram[1 + k :, 0] - G[k:, :k] @ known)])
    return _finished(grid, effects, inverse)


def correct_by_halves(grid: Grid, plain: Within) -> Within:
    """Correct the effects of X by the half-panel jackknife; estimate the others given them.

    Parameters
    ----------
    grid : Grid
        No client has one to three rows in use.
    plain : Within
        Its estimates without the correction.

    Returns
    -------
    Within

    Raises
    ------
    numpy.linalg.LinAlgError
        If the effects of X are not identified in a half.
    """
    p, G = grid.n_effects, grid.gram[1:, 1:]
    firsts = first_halves(grid.used)
    halves = [half for first in firsts for half in (first, grid.used & ~first)]
    fits = [estimate_within(grid.only(half)) for half in halves]
    effects = 2.0 * plain.effects[:p] - sum(fit.effects[:p] for fit in fits) / len(fits)
    shares = 2.0 * plain.shares[:, :p] - sum(fit.shares[:, :p] for fit in fits) / len(fits)
    A = pseudo_inverse(G[p:, p:])
    slope = A @ G[p:, :p]
    given = A @ grid.gram[1 + p :, 0] - slope @ effects
    fit = _finished(grid, np.concatenate([effects, given]), plain.inverse)
    rest = _scores(grid, fit.residuals)[:, p:] @ A - shares @ slope.T
    return replace(fit, shares=np.concatenate([shares, rest], axis=1))


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


def _finished(grid: Grid, effects: Array, inverse: Array) -> Within:
    """Return residuals and shares that go with effects."""
    k = grid.deviations.shape[2] - 1
    fitted = grid.deviations[:, :, 1:] @ effects[:k] + grid.by_session(effects[k:])
    residuals = grid.deviations[:, :, 0] - fitted
    freedom = grid.freedom
    variance = float((residuals**2).sum() / freedom) if freedom > 0 else np.nan
    shares = _scores(grid, residuals) @ inverse
    return Within(effects, shares, residuals, variance, inverse)


def _scores(grid: Grid, residuals: Array) -> Array:
    """Return Z~_i' e_i of every client, (N, q); residuals add up to 0 in every client."""
    own = np.matmul(residuals[:, None, :], grid.deviations[:, :, 1:])[:, 0]
    return np.concatenate([own, residuals[:, grid.dummies]], axis=1)


def _left(G: Array, own: list[int], others: list[int]) -> tuple[Array, Array]:
    """Return the slopes of some columns on others, and the cross-products of what is left."""
    slope = pseudo_inverse(G[np.ix_(others, others)]) @ G[np.ix_(others, own)]
    return slope, G[np.ix_(own, own)] - G[np.ix_(own, others)] @ slope


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
