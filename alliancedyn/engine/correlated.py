"""Mixed models whose residuals are autocorrelated within a client.

The model for the rows of client i at times t (session numbers, or real times) is

    y = X beta + Z u_i + v_outer + e_i,    Cov(e_it, e_is) = sigma^2 phi^|t - s|,

with u_i ~ N(0, G) and an optional outer random intercept. Between two neighboring rows g apart
only (e_t - phi^g e_(t-g)) / (1 - phi^2g)^(1/2) is new, so whitening is a difference of neighbors,
gaps stay gaps, and whitened rows obey a model with independent residuals. Cross-products of the
whitened rows by client and their derivative by phi come from one compiled pass; all parameters are
searched at once with the exact gradient. A white-noise residual beside the autocorrelated one is
not part of the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from alliancedyn.engine.block_likelihood import bounds, components_of, influence, profile
from alliancedyn.engine.blocks import Array, Blocks, Codes, Components
from alliancedyn.engine.correlated_search import (
    FAR_OUT,
    Prepared,
    SerialProblem,
    prepare,
    search,
)
from alliancedyn.engine.descent import Lowest
from alliancedyn.engine.mixed_effects import variance_names
from alliancedyn.engine.mixed_information import elements, inverse_within, mixed_information
from alliancedyn.engine.mixed_result import Bound
from alliancedyn.engine.mixed_rows import NO_UNIT


@dataclass(frozen=True)
class SerialLimit:
    """An autocorrelation that ended at a limit of its range.

    Attributes
    ----------
    kind : str
        "drift" (residuals wander without return), "alternation" (they change sign every session)
        or "independence" (CAR(1) found none that is positive).
    columns : tuple
        Empty: no random effect is concerned.
    """

    kind: Literal["drift", "alternation", "independence"]
    columns: tuple[int, ...] = ()

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        return {
            "drift": "The autocorrelation of the residuals ends at its upper limit: they wander "
            "without return, as under a trend that the model lacks.",
            "alternation": "The autocorrelation of the residuals ends at its lower limit: they "
            "change sign from session to session.",
            "independence": "The autocorrelation of the residuals is zero: the likelihood falls "
            "as it rises, and at real times it cannot be negative.",
        }[self.kind]


@dataclass(frozen=True)
class CorrelatedFit:
    """A mixed model with autocorrelated residuals; per-client arrays follow ``clients``.

    Attributes
    ----------
    beta, beta_cov : arrays (p,), (p, p)
        Fixed effects and their covariance at the estimated variances.
    random_cov : array (q, q)
        G, in squared units of y per units of Z.
    outer_var, residual_var : float
        Variance of the outer random intercept (0 without that level) and sigma^2, the variance of
        one residual, in squared units of y.
    residual_ar, residual_ar_se : float
        phi, the autocorrelation one unit of time apart, and its error; NaN at a limit.
    loglik : float
        Maximized log-likelihood; under REML with lme4's constant.
    converged : bool
        Whether the next Newton step promises less than 1e-8 in the deviance.
    boundary : tuple of Bound and SerialLimit
        Variances at zero, perfect correlations, and phi at a limit.
    reml : bool
        Restricted (True) or full maximum likelihood.
    variance_names : tuple of str
        ``"random_cov[0,0]"``, ..., ``"outer_var"``, ``"residual_var"``, ``"residual_ar"``.
    variances, variance_cov : arrays (r,), (r, r)
        These parameters and their covariance by the observed information; 0 at a bound.
    beta_cov_slopes : array (r, p, p)
        Derivative of ``beta_cov`` by each.
    blups, outer_blups : arrays (J, q), (G,)
        Shrunken random effects of clients and outer units; the latter empty without such a level.
    influence : array (J, p)
        First-order contribution of each client to beta; they sum to zero. With an outer level only
        sums over the clients of an outer unit are independent of one another.
    blocks : Blocks
        Cross-products of the whitened rows in the user's columns: what
        :func:`~alliancedyn.engine.clustered.clustered_cov` takes.
    iterations : int
        Steps of the search.
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
    residual_ar: float
    residual_ar_se: float
    loglik: float
    converged: bool
    boundary: tuple[Bound | SerialLimit, ...]
    reml: bool
    variance_names: tuple[str, ...]
    variances: Array
    variance_cov: Array
    beta_cov_slopes: Array
    blups: Array
    outer_blups: Array
    influence: Array
    iterations: int
    n: int
    units: tuple[int, ...]
    clients: Codes
    outer_units: Codes
    blocks: Blocks = field(repr=False, compare=False)

    @property
    def components(self) -> Components:
        """The covariance of the whitened rows."""
        return Components(self.random_cov, self.residual_var, self.outer_var)


def fit_mixed_ar(
    y: Array,
    X: Array,
    group: Codes,
    time: Array,
    *,
    Z: Array | None = None,
    outer: Codes | None = None,
    reml: bool = True,
) -> CorrelatedFit:
    """Fit random effects and first-order autocorrelated residuals by (restricted) likelihood.

    Parameters
    ----------
    y, X : arrays (n,), (n, p)
        Scores and fixed-effect columns; no NaN. Rows in any order.
    group : integer array (n,)
        Client of each row, any codes.
    time : array (n,)
        Session numbers, or times in any unit; each once per client. With whole numbers phi may be
        negative (AR(1)); with others it lies between 0 and 1 (CAR(1)).
    Z : array (n, q), optional
        Random-effect columns. Without it: a random intercept.
    outer : integer array (n,), optional
        Unit of a level that clients nest in, with a random intercept; any codes.
    reml : bool
        Restricted or full maximum likelihood.

    Raises
    ------
    DataError
        If values are missing, lengths differ or a client has two rows at one time.
    SpecificationError
        If no client has repeated rows, the columns of X are dependent, or a client lies in
        several outer units.

    References
    ----------
    Pinheiro & Bates (2000), Mixed-Effects Models in S and S-PLUS, section 5.3: corAR1, corCAR1.
    """
    design = np.asarray(X, dtype=np.float64)
    random = np.ones((len(y), 1)) if Z is None else np.asarray(Z, dtype=np.float64)
    above = None if outer is None else np.asarray(outer)
    prepared = prepare(
        np.asarray(y, np.float64), design, random, np.asarray(group), np.asarray(time), above, reml
    )
    outer_units = np.zeros(0, np.int64) if above is None else np.unique(above[above != NO_UNIT])
    return _reported(prepared, search(prepared.problem), outer_units)


def _reported(prepared: Prepared, lowest: Lowest, outer_units: Codes) -> CorrelatedFit:
    """Carry the maximum back to the user's columns and unit of time."""
    problem, q = prepared.problem, prepared.problem.effects
    back = np.asarray(np.linalg.inv(prepared.triangle))
    unturn = np.asarray(np.linalg.inv(prepared.turn))
    _, ratio_cov, ratio_outer = problem.ratios(lowest.x)
    phi = problem.phi(float(lowest.x[-1]))[0]
    height, standard = problem.height(lowest.x)
    inner = components_of(height, ratio_cov, ratio_outer)
    limits = _limits(problem, float(lowest.x[-1]))
    residual_ar = float(np.sign(phi) * abs(phi) ** (1.0 / prepared.unit_time))
    stretch = 1.0 if problem.signed else residual_ar / (prepared.unit_time * phi)
    cov, slopes = _uncertainty(problem, inner, phi, held=bool(limits))
    cov, slopes = _carried(cov, slopes, unturn, stretch)
    parts, effects = influence(standard, height, ratio_cov)
    components = replace(inner, random_cov=unturn @ inner.random_cov @ unturn.T)
    blocks = _in_columns_of_user(standard, prepared)
    by_random = prepared.turn.T @ height.by_random @ prepared.turn
    nested = problem.outer is not None
    outer = [components.outer_var] if nested else []
    upper = components.random_cov[np.triu_indices(q)]
    volume = float(np.log(np.abs(np.diag(prepared.triangle))).sum()) if problem.reml else 0.0
    return CorrelatedFit(
        beta=prepared.start + back @ height.beta,
        beta_cov=back @ (height.sigma2 * height.cov) @ back.T,
        random_cov=components.random_cov,
        outer_var=components.outer_var,
        residual_var=components.residual_var,
        residual_ar=residual_ar,
        residual_ar_se=math.nan if limits else math.sqrt(cov[-1, -1]),
        loglik=-0.5 * lowest.value - volume,
        converged=lowest.converged,
        boundary=(*bounds(blocks, components, by_random, height.by_outer), *limits),
        reml=problem.reml,
        variance_names=(*variance_names(q, nested), "residual_ar"),
        variances=np.array([*upper, *outer, components.residual_var, residual_ar]),
        variance_cov=cov,
        beta_cov_slopes=back @ slopes @ back.T,
        blups=effects[:, :q] @ unturn.T,
        outer_blups=_of_units(problem.outer, effects[:, q])[: len(outer_units)],
        influence=parts @ back.T,
        iterations=lowest.steps,
        n=len(problem.rows),
        units=(problem.clients, *([len(outer_units)] if nested else [])),
        clients=prepared.labels,
        outer_units=outer_units,
        blocks=blocks,
    )


def _carried(cov: Array, slopes: Array, unturn: Array, stretch: float) -> tuple[Array, Array]:
    """Carry the variances' covariance and beta's slopes by them to the user's variances.

    G is unturn (the problem's G) unturn'; phi per unit of time of the user's is the problem's to a
    power, whose derivative is ``stretch``.
    """
    carry = np.eye(len(cov))
    parts = [unturn @ E @ unturn.T for E in elements(len(unturn))]
    for k, part in enumerate(parts):
        carry[: len(parts), k] = part[np.triu_indices(len(unturn))]
    carry[-1, -1] = stretch
    return carry @ cov @ carry.T, np.einsum("lk,lij->kij", np.linalg.inv(carry), slopes)


def _in_columns_of_user(blocks: Blocks, prepared: Prepared) -> Blocks:
    """Return the cross-products with Z and X in the place of their bases."""
    q = blocks.effects
    turn = np.eye(blocks.gram.shape[1])
    turn[:q, :q], turn[q + 1 : -1, q + 1 : -1] = prepared.turn, prepared.triangle
    return replace(blocks, gram=turn.T @ blocks.gram @ turn, start=prepared.start)


def _limits(problem: SerialProblem, z: float) -> tuple[SerialLimit, ...]:
    if abs(z) < FAR_OUT:
        return ()
    if z > 0.0:
        return (SerialLimit("drift"),)
    return (SerialLimit("alternation" if problem.signed else "independence"),)


def _of_units(outer: Codes | None, values: Array) -> Array:
    if outer is None:
        return np.zeros(0)
    of_unit = np.zeros(int(outer.max()) + 1)
    of_unit[outer] = values
    return of_unit


def _uncertainty(
    problem: SerialProblem, components: Components, phi: float, held: bool
) -> tuple[Array, Array]:
    """Return the covariance of (G, omega, sigma^2, phi) and the slopes of that of beta.

    Only what involves phi is differenced; the rest is exact.
    """
    blocks, _, slope = problem.whitened(phi)
    known = mixed_information(blocks, components, reml=problem.reml)
    r = len(known.names)
    step = 1e-4 * (1.0 - phi * phi) if problem.signed else 1e-4 * phi * (1.0 - phi)
    column = _score(problem, components, phi + step) - _score(problem, components, phi - step)
    information = np.zeros((r + 1, r + 1))
    information[:r, :r] = known.observed
    information[r] = information[:, r] = -column / (2.0 * step)
    free = np.zeros((r + 1, known.free.shape[1] + (0 if held else 1)))
    free[:r, : known.free.shape[1]] = known.free
    free[r, known.free.shape[1] :] = 1.0
    scale = np.zeros_like(information)
    scale[:r, :r], scale[r, r] = known.expected, abs(information[r, r])
    gamma, rho = _relative(components)
    at = profile(blocks, gamma, rho, reml=problem.reml, slope=slope)
    p = blocks.columns
    by_phi = -known.beta_cov @ at.products_slope[:p, :p] @ known.beta_cov / components.residual_var
    slopes = np.concatenate([known.slopes, by_phi[None]])
    return inverse_within(information, scale, free), slopes


def _relative(components: Components) -> tuple[Array, float]:
    sigma2 = components.residual_var
    return components.random_cov / sigma2, components.outer_var / sigma2


def _score(problem: SerialProblem, components: Components, phi: float) -> Array:
    """Return the derivatives of the log-likelihood by G, omega, sigma^2 and phi."""
    sigma2, (gamma, rho) = components.residual_var, _relative(components)
    blocks, log_det, slope = problem.whitened(phi)
    at = profile(blocks, gamma, rho, reml=problem.reml, log_det=log_det, slope=slope, sigma2=sigma2)
    S = 2.0 * at.by_random - np.diag(np.diag(at.by_random))
    by_variances = list(S[np.triu_indices(problem.effects)] / sigma2)
    if problem.outer is not None:
        by_variances.append(at.by_outer / sigma2)
    through = float(np.sum(at.by_random * gamma)) + at.by_outer * rho
    by_residual = (at.freedom - at.squares / sigma2 - through) / sigma2
    return -0.5 * np.array([*by_variances, by_residual, at.by_phi])
