r"""Random effects against fixed effects: estimates, and two tests of whether they differ.

Of all columns Z of an equation (intercept, predictors, session indicators), with theta_i the share
of the client's mean that random effects take away,

    Z* = Z - theta_i mean_i(Z),    theta_i = 1 - sqrt(s2_e / (n_i s2_client + s2_e)),

so that Z*'Z* = Z~'Z~ + sum_i n_i (1 - theta_i)^2 mean_i mean_i'. The variance of clients is that of
Swamy and Arora: residuals of the regression of client means, less what the residuals within clients
put into them, by the harmonic mean of the clients' rows.

References
----------
Swamy, P. A. V. B., & Arora, S. S. (1972). The exact finite sample properties of the estimators of
coefficients in the error components regression models. Econometrica, 40(2), 261-275.
Hausman, J. A. (1978). Specification tests in econometrics. Econometrica, 46(6), 1251-1271.
Mundlak, Y. (1978). On the pooling of time series and cross section data. Econometrica, 46(1),
69-85.
Wooldridge, J. M. (2019). Correlated random effects models with unbalanced panels. Journal of
Econometrics, 211(1), 137-150.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from alliancedyn.engine.maximise import outer_products
from alliancedyn.engine.two_way import Grid, Within, pseudo_inverse

Array = NDArray[np.float64]

INDEFINITE = 1e-8  # eigenvalue of a difference of covariances in units of those: below is no zero


@dataclass(frozen=True)
class Contrast:
    """A test that two sets of estimates have one limit.

    Parameters
    ----------
    statistic : float
    df : int
    pvalue : float
        NaN where there is no test.
    verdict : str
        Why there is none, or what was done about it; else empty.
    """

    statistic: float
    df: int
    pvalue: float
    verdict: str = ""


@dataclass(frozen=True)
class RandomEffects:
    """Estimates with random effects of clients.

    Parameters
    ----------
    effects, cov : (k,), (k, k)
        Of X and E, and their covariance if the model holds.
    client_var, residual_var : float
        Squared score points.
    """

    effects: Array
    cov: Array
    client_var: float
    residual_var: float


def between_freedom(grid: Grid) -> int:
    """Return clients less the rank of the columns' client means."""
    _, Z, n = _client_means(grid)
    return len(n) - int(np.linalg.matrix_rank(_unit(Z)))


def random_effects(grid: Grid, within: Within) -> RandomEffects:
    """Estimate the equation with a random effect of every client instead of a fixed one.

    Parameters
    ----------
    grid : Grid
        With ``between_freedom`` above zero.
    within : Within
        Its estimates within clients, without a jackknife.
    """
    y, Z, n = _client_means(grid)
    coefficients, _, rank, _ = np.linalg.lstsq(_unit(Z), y, rcond=None)
    between = ((y - _unit(Z) @ coefficients) ** 2).sum() / (len(n) - rank)
    s2_e = within.residual_var
    s2_client = max(0.0, float(between - s2_e * (1.0 / n).mean()))
    kept = s2_e / (n * s2_client + s2_e)  # (1 - theta)^2
    stacked = np.column_stack([y, Z])
    G = stacked.T @ (stacked * (n * kept)[:, None])
    G[1:, 1:][1:, 1:] += grid.gram[1:, 1:]
    G[0, 2:] += grid.gram[0, 1:]
    G[0, 0] += grid.gram[0, 0]
    inverse = pseudo_inverse(G[1:, 1:])
    effects = inverse @ G[0, 1:]
    squares = G[0, 0] - G[0, 1:] @ effects
    own = slice(1, 1 + grid.n_effects + grid.E.shape[2])
    variance = squares / (n.sum() - Z.shape[1])
    return RandomEffects(effects[own], variance * inverse[own, own], s2_client, s2_e)


def hausman(fixed: Array, fixed_cov: Array, random: RandomEffects) -> Contrast:
    """Test d = fixed - random by d' (V_fixed - V_random)^+ d (Hausman, 1978).

    Parameters
    ----------
    fixed, fixed_cov : (k,), (k, k)
        Estimates within clients of the same effects, and their covariance if rows are independent
        with equal variances.
    random : RandomEffects
    """
    d, V = fixed - random.effects, fixed_cov - random.cov
    unit = np.sqrt(np.diag(fixed_cov))
    values, axes = np.linalg.eigh(V / unit / unit[:, None])
    keep = np.abs(values) > INDEFINITE
    z = axes.T @ (d / unit)
    statistic = float((z[keep] ** 2 / values[keep]).sum())
    df = int(keep.sum())
    if (values < -INDEFINITE).any():
        return Contrast(
            statistic,
            df,
            np.nan,
            "The difference of the two covariance matrices is not positive semidefinite, so the "
            "statistic has no chi-square distribution. Read the Mundlak test, which does not need "
            "the difference.",
        )
    verdict = "" if df == len(d) else "Tested by a generalized inverse: some contrasts have none."
    return Contrast(statistic, df, float(chi2.sf(statistic, df)), verdict)


def mundlak(grid: Grid, within: Within, clusters: NDArray[np.int64] | None = None) -> Contrast:
    """Test whether client means of X and E belong in the equation, robust to clients' errors.

    Least squares with the means added gives as their effects those of the regression of client
    means, weighted by rows, less those within clients. In unbalanced panels means of session
    indicators are added too, but not tested (Wooldridge, 2019).

    Parameters
    ----------
    grid : Grid
        With ``between_freedom`` above zero.
    within : Within
        Its estimates within clients, without a jackknife.
    clusters : (N,) int, optional
        Codes of clusters of clients.
    """
    y, Z, n = _client_means(grid)
    unit = np.abs(Z).max(axis=0, initial=0.0)
    Z = _unit(Z)
    inverse = pseudo_inverse(Z.T @ (Z * n[:, None]))
    effects = inverse @ (Z.T @ (n * y))
    residuals = y - Z @ effects
    k = grid.n_effects + grid.E.shape[2]
    size = unit[1 : 1 + k]
    d = effects[1 : 1 + k] / size - within.effects[:k]
    between = ((Z * (n * residuals)[:, None]) @ inverse)[:, 1 : 1 + k] / size
    seen = grid.counts > 0
    shares = between - within.shares[seen, :k]
    V = outer_products(shares, None if clusters is None else clusters[seen])
    statistic, df = float(d @ pseudo_inverse(V) @ d), int(np.linalg.matrix_rank(V, hermitian=True))
    return Contrast(statistic, df, float(chi2.sf(statistic, df)))


def _client_means(grid: Grid) -> tuple[Array, Array, Array]:
    """Return means of y (n,), of intercept, X, E and indicators (n, k), and rows (n,)."""
    seen = grid.counts > 0
    means = grid.means[seen]
    return means[:, 0], np.column_stack([np.ones(len(means)), means[:, 1:]]), grid.counts[seen]


def _unit(Z: Array) -> Array:
    size = np.abs(Z).max(axis=0, initial=0.0)
    return Z / np.where(size > 0.0, size, 1.0)
