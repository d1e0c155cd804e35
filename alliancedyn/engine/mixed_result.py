"""The result of a linear mixed model: estimates, verdict, and what follows when asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from alliancedyn.checking import named
from alliancedyn.engine.mixed_design import StandardDesign
from alliancedyn.engine.mixed_effects import (
    Effects,
    Uncertainty,
    fixed_influence,
    random_effects,
    variance_names,
    variance_uncertainty,
)
from alliancedyn.engine.mixed_rows import Grouping
from alliancedyn.engine.mixed_search import CONVERGED_GAIN, Peak, lower_factor

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Bound:
    """A variance that ended at zero because the likelihood falls as it rises from there.

    Attributes
    ----------
    kind : str
        "variance" (of one random effect), "correlation" (a combination of random effects does not
        vary: their correlation is 1 or -1) or "outer".
    columns : tuple of int
        Columns of Z concerned; empty for the outer level.
    slope : float
        Derivative of the profiled log-likelihood with respect to the variance, relative to the
        residual variance, of the combination that does not vary; never positive.
    """

    kind: str
    columns: tuple[int, ...]
    slope: float

    @property
    def sentence(self) -> str:
        """The verdict in words, columns of Z counted from 0."""
        named = " and ".join(str(column) for column in self.columns)
        if self.kind == "outer":
            return "The variance of the outer level is zero: the likelihood falls as it rises."
        if self.kind == "variance":
            return (
                f"The variance of the random effect of column {named} is zero: the likelihood "
                "falls as it rises."
            )
        return (
            f"The random effects of columns {named} are perfectly correlated: the likelihood "
            "falls as their remaining variance rises from zero."
        )


@named
@dataclass(frozen=True)
class MixedFit:
    """A linear mixed model at its maximum; rows of per-client arrays follow ``clients``.

    Attributes
    ----------
    beta, beta_cov : arrays (p,), (p, p)
        Fixed effects in units of y per unit of X, and their covariance at the estimated variances.
    random_cov : array (q, q)
        Covariance of the random effects; positive semidefinite, singular at a bound.
    outer_var, residual_var : float
        Variances in squared units of y; ``outer_var`` is 0 without an outer level.
    loglik : float
        Maximised log-likelihood; under REML with lme4's constant,
        -1/2 [(n - p) log 2 pi + log|S| + log|X'S^-1 X| + r'S^-1 r], S = Cov(y).
    converged : bool
        Whether the next Newton step promises a gain below 1e-9 in the log-likelihood, and no
        variance at zero would raise it by leaving zero.
    boundary : tuple of Bound
        Variances at zero and perfect correlations, decided by the sign of the derivative there.
    reml : bool
        Restricted (True) or full maximum likelihood.
    theta : array
        Lower triangle of Lambda, random_cov = residual_var Lambda Lambda', row by row, then
        sqrt(outer_var / residual_var) where there is an outer level.
    gradient : array
        Derivatives of the profiled log-likelihood with respect to the search's coordinates.
    iterations : int
        Newton steps taken on all clients.
    n : int
        Number of rows.
    units : tuple of int
        Number of clients, then of outer units.
    clients, outer_units : integer arrays (J,), (G,)
        Codes of the clients and of the outer units, ascending.
    """

    beta: Array
    beta_cov: Array
    random_cov: Array
    outer_var: float
    residual_var: float
    loglik: float
    converged: bool
    boundary: tuple[Bound, ...]
    reml: bool
    theta: Array
    gradient: Array
    iterations: int
    n: int
    units: tuple[int, ...]
    clients: Codes
    outer_units: Codes
    _rows: tuple[Array, Array, Array] = field(repr=False, compare=False)
    _grouping: Grouping = field(repr=False, compare=False)
    _design: StandardDesign = field(repr=False, compare=False)
    _peak: Peak = field(repr=False, compare=False)

    @cached_property
    def _effects(self) -> Effects:
        return random_effects(self._design, self._peak.value, self._grouping)

    @cached_property
    def _uncertainty(self) -> Uncertainty:
        return variance_uncertainty(self._design, self._peak)

    @property
    def blups(self) -> Array:
        """Shrunken random effects (J, q), in units of y per unit of Z."""
        return self._effects.random

    @property
    def blup_cov(self) -> Array:
        """Covariance of each client's random effects given the rows and beta, (J, q, q)."""
        return self._effects.random_cov

    @property
    def outer_blups(self) -> Array:
        """Shrunken effects of the outer units (G,)."""
        return self._effects.outer

    @property
    def outer_blup_var(self) -> Array:
        """Variance of each outer effect given the rows and beta, (G,)."""
        return self._effects.outer_var

    @cached_property
    def influence(self) -> Array:
        """First-order contribution of each client to beta (J, p); they sum to zero.

        (X'V^-1 X)^-1 X_i'(V^-1 r)_i. With an outer level only the sums over the clients of an
        outer unit are independent of one another.
        """
        return fixed_influence(
            self._rows, self.beta, self.beta_cov / self.residual_var, self._effects, self._grouping
        )

    @property
    def variance_names(self) -> tuple[str, ...]:
        """Names of the entries of ``variances``: random_cov[0,0], random_cov[0,1], ...."""
        return variance_names(len(self.random_cov), len(self.units) > 1)

    @property
    def variances(self) -> Array:
        """Upper triangle of ``random_cov`` row by row, ``outer_var``, ``residual_var``."""
        upper = self.random_cov[np.triu_indices(len(self.random_cov))]
        outer = [self.outer_var] if len(self.units) > 1 else []
        return np.array([*upper, *outer, self.residual_var])

    @property
    def variance_cov(self) -> Array:
        """Covariance of ``variances``: inverse observed information of the (RE)ML likelihood.

        At a bound: that of the model whose random effects keep the rank that was found.
        """
        return self._uncertainty.variance_cov

    @property
    def beta_cov_slopes(self) -> Array:
        """Derivatives of ``beta_cov`` with respect to each of ``variances``, (K, p, p)."""
        return self._uncertainty.beta_cov_slopes


def assemble(
    rows: tuple[Array, Array, Array],
    grouping: Grouping,
    design: StandardDesign,
    peak: Peak,
    reml: bool,
) -> MixedFit:
    """Carry the maximum back to the user's columns."""
    value, q = peak.value, len(design.turn)
    residual = design.size**2 * value.squares / value.freedom
    relative = design.turn @ value.omega[:q, :q] @ design.turn.T
    # A variance that is zero but for the rounding of the way back is zero.
    still = np.diag(relative) <= 1e-14 * np.diag(design.turn @ design.turn.T)
    relative[still] = 0.0
    relative[:, still] = 0.0
    deviance = value.deviance + 2.0 * value.freedom * np.log(design.size)
    lower = lower_factor(relative)[np.tril_indices(q)]
    return MixedFit(
        beta=design.start + design.size * design.back @ value.gamma,
        beta_cov=residual * design.back @ value.cov @ design.back.T,
        random_cov=residual * relative,
        outer_var=residual * value.rho,
        residual_var=residual,
        loglik=float(-0.5 * deviance - (design.log_volume if reml else 0.0)),
        converged=bool(peak.gain <= CONVERGED_GAIN),
        boundary=_bounds(design, peak),
        reml=reml,
        theta=np.append(lower, np.sqrt(value.rho)) if len(grouping.blocks) else lower,
        gradient=-0.5 * peak.gradient,
        iterations=peak.iterations,
        n=len(rows[0]),
        units=grouping.units,
        clients=grouping.labels,
        outer_units=grouping.outer_labels,
        _rows=rows,
        _grouping=grouping,
        _design=design,
        _peak=peak,
    )


def _bounds(design: StandardDesign, peak: Peak) -> tuple[Bound, ...]:
    """Name what does not vary, in the user's columns of Z."""
    q = len(design.turn)
    found = []
    for direction, slope in zip(peak.null[:q].T, peak.null_slopes, strict=True):
        # u'x does not vary where x = turn^-T w; sizes are compared in each column's own unit.
        weights = np.abs(np.linalg.solve(design.turn.T, direction))
        weights *= np.sqrt(np.diag(design.turn @ design.turn.T))
        columns = tuple(int(j) for j in np.flatnonzero(weights > 1e-6 * weights.max()))
        all_zero = len(peak.null_slopes) == q
        kind = "variance" if len(columns) == 1 or all_zero else "correlation"
        found.append(Bound(kind, columns, -0.5 * max(float(slope), 0.0)))
    if len(design.stats.blocks) and peak.value.rho == 0.0:
        found.append(Bound("outer", (), -0.5 * max(float(peak.slopes.gradient[-1]), 0.0)))
    return tuple(found)
