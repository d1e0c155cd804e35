"""Degrees of freedom, adjusted errors and boundary tests for linear mixed models.

Errors of fixed effects are computed as if the variances were known. What that ignores is put back
in two ways: by the degrees of freedom of a t (Satterthwaite), and by a larger covariance too
(Kenward & Roger). Robust errors are in :mod:`~alliancedyn.engine.clustered`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.linalg import block_diag
from scipy.stats import chi2

from alliancedyn.engine.blocks import Array, Blocks, Components
from alliancedyn.engine.mixed_information import MixedInformation, mixed_information
from alliancedyn.errors import ConvergenceError, SpecificationError

LOST = 1e-4  # log-likelihood by which the larger of two fits may fall short of the smaller
# A contrast whose variance moves less than this, in units of itself, is known for certain.
STILL = 1e-14

Added = Literal["intercept", "slope", "outer"]
_ADDED = {
    "intercept": "the random intercept",
    "slope": "the random slope",
    "outer": "the outer random intercept",
}


@dataclass(frozen=True)
class Freedom:
    """What Satterthwaite's degrees of freedom need beside the covariance of the effects.

    Attributes
    ----------
    slopes : array (r, p, p)
        Derivative of the covariance of the fixed effects by each of r variance parameters.
    cov : array (r, r)
        Asymptotic covariance of those parameters; zero for one held at a bound.
    """

    slopes: Array
    cov: Array

    def of(self, contrasts: Array, cov: Array) -> Array:
        """Return degrees of freedom of L beta, one by one.

        Equation: 2 (l'C l)^2 / (g'A g), g_k = l'(dC/dtheta_k) l.

        Parameters
        ----------
        contrasts : array (m, p)
            Rows l.
        cov : array (p, p)
            C, covariance of the fixed effects.

        Returns
        -------
        array (m,)
            Infinite where no variance parameter moves the error of a contrast.

        References
        ----------
        Satterthwaite (1946); Kuznetsova, Brockhoff & Christensen (2017), lmerTest package, whose
        figures these are.
        """
        L = np.atleast_2d(np.asarray(contrasts, dtype=np.float64))
        if L.shape[1] != len(cov) or self.slopes.shape[1:] != cov.shape:
            raise SpecificationError(
                f"A contrast has {L.shape[1]} weights for {len(cov)} effects. Give one each."
            )
        variance = np.einsum("mi,ij,mj->m", L, cov, L)
        gradient = np.einsum("mi,kij,mj->mk", L, self.slopes, L)
        spread = np.einsum("mk,kl,ml->m", gradient, self.cov, gradient)
        moves = spread > STILL * variance**2
        return np.where(moves, 2.0 * variance**2 / np.where(moves, spread, 1.0), np.inf)

    @classmethod
    def join(cls, parts: Sequence[Freedom]) -> Freedom:
        """Join separately fitted equations: effects and variance parameters side by side.

        The variance parameters of different equations count as independent.
        """
        sizes = [part.slopes.shape[1] for part in parts]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        slopes = []
        for part, start, size in zip(parts, starts, sizes, strict=False):
            wide = np.zeros((len(part.slopes), starts[-1], starts[-1]))
            wide[:, start : start + size, start : start + size] = part.slopes
            slopes.append(wide)
        return cls(np.concatenate(slopes), np.asarray(block_diag(*[part.cov for part in parts])))


def satterthwaite(contrasts: Array, cov: Array, slopes: Array, variance_cov: Array) -> Array:
    """Return Satterthwaite's degrees of freedom (m,) of contrasts (m, p); see `Freedom.of`."""
    return Freedom(slopes, variance_cov).of(contrasts, cov)


@dataclass(frozen=True)
class KenwardRoger:
    """Fixed effects with Kenward and Roger's covariance.

    Attributes
    ----------
    beta : array (p,)
        Fixed effects at the REML estimates of the variances.
    cov : array (p, p)
        Adjusted covariance Phi_A = Phi + 2 Phi [sum_kl W_kl (Q_kl - P_k Phi P_l)] Phi.
    unadjusted : array (p, p)
        Phi = (X'V^-1 X)^-1.
    products : array (r, p, p)
        P_k = -X'V^-1 V_k V^-1 X.
    weight : array (r, r)
        W, inverse of the expected information about the variances.
    """

    beta: Array
    cov: Array
    unadjusted: Array
    products: Array
    weight: Array

    def of(self, contrasts: Array) -> Array:
        """Return degrees of freedom (m,) of contrasts (m, p) tested one by one."""
        return np.array([self._moments(row[None, :])[0] for row in np.atleast_2d(contrasts)])

    def wald(self, contrasts: Array) -> tuple[float, int, float]:
        """Test L beta = 0 for all rows of L (m, p) jointly.

        Returns
        -------
        statistic, df1, df2 : float, int, float
            Scaled Wald statistic and the degrees of freedom of its F distribution.
        """
        L = np.atleast_2d(np.asarray(contrasts, dtype=np.float64))
        df, scale = self._moments(L)
        estimate = L @ self.beta
        raw = float(estimate @ np.linalg.solve(L @ self.cov @ L.T, estimate)) / len(L)
        return scale * raw, len(L), df

    def _moments(self, L: Array) -> tuple[float, float]:
        """Match the first two moments of the Wald statistic: denominator df and scale."""
        q, Phi = len(L), self.unadjusted
        if np.linalg.matrix_rank(L) < q:
            raise SpecificationError("Contrasts tested jointly are dependent. Drop redundant ones.")
        theta = L.T @ np.linalg.solve(L @ Phi @ L.T, L)
        parts = theta @ (Phi @ self.products @ Phi)
        alone = np.einsum("kii->k", parts)
        A1 = float(alone @ self.weight @ alone)
        A2 = float(np.einsum("kl,kij,lji->", self.weight, parts, parts))
        if A2 <= STILL:
            return np.inf, 1.0
        B = (A1 + 6.0 * A2) / (2.0 * q)
        g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
        c1, c2, c3 = np.array([g, q - g, q + 2 - g]) / (3 * q + 2 * (1 - g))
        mean = 1.0 / (1.0 - A2 / q)
        # Variance / (2 mean^2) q - 1, whose sign says whether an F can match the moments at all.
        rho = (1.0 + c1 * B) * (1.0 - A2 / q) ** 2 / ((1.0 - c2 * B) ** 2 * (1.0 - c3 * B))
        df = 4.0 + (q + 2) / (rho - 1.0)
        return df, df / (mean * (df - 2.0))


def kenward_roger(blocks: Blocks, components: Components) -> KenwardRoger:
    """Adjust covariance and degrees of freedom for the variances' being estimated.

    Parameters
    ----------
    blocks : Blocks
        Cross-products by client.
    components : Components
        REML estimates. Variances at their bound of zero count as known.

    References
    ----------
    Kenward & Roger (1997), Biometrics 53, 983-997; Halekoh & Hojsgaard (2014), pbkrtest package,
    Journal of Statistical Software 59(9).
    """
    known = mixed_information(blocks, components, reml=True)
    Phi, P, Q = known.beta_cov, known.products, known.pairs
    W = known.variance_cov_expected
    inner = np.einsum("kl,klij->ij", W, Q - np.einsum("kij,jm,lmn->klin", P, Phi, P))
    adjusted = Phi + 2.0 * Phi @ inner @ Phi
    return KenwardRoger(known.beta, 0.5 * (adjusted + adjusted.T), Phi, P, W)


def freedom_of(known: MixedInformation) -> Freedom:
    """Return what Satterthwaite's degrees of freedom need, from the information of a fit."""
    return Freedom(known.slopes, known.variance_cov)


@dataclass(frozen=True)
class BoundaryTest:
    """A likelihood-ratio test of a variance that could not have been negative.

    Attributes
    ----------
    statistic : float
        Twice the difference of the log-likelihoods, not below 0.
    df : tuple of int
        Degrees of freedom of the chi-squares that the null distribution mixes half and half; 0
        stands for a point mass at zero.
    p_value : float
        Upper tail of the mixture.
    text : str
        The result in words.
    """

    statistic: float
    df: tuple[int, int]
    p_value: float
    text: str


def mixture_lrt(
    loglik_small: float, loglik_large: float, kind: Added, *, effects: int = 1
) -> BoundaryTest:
    """Test a random effect by a likelihood ratio with its own null distribution.

    A variance of zero lies at the edge of what variances can be: in half of the samples the
    estimate under the null hypothesis sits there and the ratio loses a degree of freedom.

    - ``"intercept"``, ``"outer"``: one variance, 1/2 chi2(0) + 1/2 chi2(1).
    - ``"slope"``: one more random effect with its covariances with the ``effects`` that are there
      already, 1/2 chi2(effects) + 1/2 chi2(effects + 1).

    Parameters
    ----------
    loglik_small, loglik_large : float
        Maximized log-likelihoods without and with the random effect: both ML, or both REML with
        the same fixed effects.
    kind : {"intercept", "slope", "outer"}
        What the larger model adds.
    effects : int
        Correlated random effects of a client in the smaller model; only for ``"slope"``. Their
        covariance must not be at a bound itself.

    Raises
    ------
    SpecificationError
        If ``kind`` is unknown or ``effects`` is below 1.
    ConvergenceError
        If the larger model has the smaller log-likelihood.

    References
    ----------
    Self & Liang (1987), Journal of the American Statistical Association 82, case 5; Stram & Lee
    (1994), Biometrics 50, cases 1 to 3.
    """
    if kind not in ("intercept", "slope", "outer"):
        raise SpecificationError(
            f"Unknown random effect {kind!r}. Choose 'intercept', 'slope' or 'outer'."
        )
    if effects < 1:
        raise SpecificationError("A slope is added to at least one random effect. Give effects.")
    gain = loglik_large - loglik_small
    if not np.isfinite(gain) or gain < -LOST:
        raise ConvergenceError(
            f"The larger model has a log-likelihood {-gain:.4g} below the smaller one's, so one of "
            "them was not maximized or they are not nested. Fit both to the same rows."
        )
    statistic = 2.0 * max(gain, 0.0)
    lower = effects if kind == "slope" else 0
    below = float(chi2.sf(statistic, lower)) if lower else float(statistic <= 0.0)
    p_value = 0.5 * (below + float(chi2.sf(statistic, lower + 1)))
    text = (
        f"Likelihood ratio {statistic:.2f}, half chi-square({lower}) and half "
        f"chi-square({lower + 1}) without {_ADDED[kind]}: p = {p_value:.3g}."
    )
    return BoundaryTest(statistic, (lower, lower + 1), p_value, text)
