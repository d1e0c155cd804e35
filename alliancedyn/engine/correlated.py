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
from dataclasses import dataclass

import numpy as np

from alliancedyn.engine.block_likelihood import Height, Slope, components_of, influence, profile
from alliancedyn.engine.blocks import Array, Blocks, Codes, Components, parents_of, stack_columns
from alliancedyn.engine.descent import Lowest, minimise, settle_roots
from alliancedyn.engine.mixed_information import (
    free_directions,
    inverse_within,
    mixed_information,
    variance_names,
)
from alliancedyn.engine.whitening import whiten
from alliancedyn.errors import DataError, SpecificationError

# Beyond this an autoregression cannot be told from a stable level at any number of sessions.
LARGEST_PHI = 0.995
SMALLEST_PHI = 1e-9  # of CAR(1), at the median gap


@dataclass(frozen=True)
class CorrelatedFit:
    """A mixed model with first-order autocorrelated residuals.

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
        phi, the autocorrelation one unit of time apart, and its error; NaN at a bound.
    loglik : float
        Maximized log-likelihood; under REML with lme4's constant.
    blups, outer_blups : arrays (N, q), (units,) or None
        Predicted random effects of clients and outer units.
    influence : array (N, p)
        Each client's first-order part in beta; parts sum to zero.
    variance_names : tuple of str
        ``"random[0,0]"``, ..., ``"outer"``, ``"residual"``, ``"residual_ar"``.
    variances, variance_cov : arrays (r,), (r, r)
        These parameters and their covariance by the observed information; 0 at a bound.
    beta_cov_slopes : array (r, p, p)
        Derivative of ``beta_cov`` by each.
    boundary : tuple of str
        ``"random"`` where G has lost rank, ``"outer"`` where that variance is zero, ``"drift"``,
        ``"alternation"`` or ``"independence"`` where phi ends at a limit.
    converged : bool
        Whether the next Newton step promises less than 1e-8 in the deviance.
    rows, units : int, tuple of int
        Rows, and numbers of clients (and outer units).
    """

    beta: Array
    beta_cov: Array
    random_cov: Array
    outer_var: float
    residual_var: float
    residual_ar: float
    residual_ar_se: float
    loglik: float
    blups: Array
    outer_blups: Array | None
    influence: Array
    variance_names: tuple[str, ...]
    variances: Array
    variance_cov: Array
    beta_cov_slopes: Array
    boundary: tuple[str, ...]
    converged: bool
    rows: int
    units: tuple[int, ...]


@dataclass(frozen=True)
class _Problem:
    """Sorted rows, and how the search's parameters x become Gamma, rho and phi.

    x holds the lower triangle of a Cholesky factor of Gamma in units of ``unit``, the root of rho
    where there is an outer level, and z with phi = limit tanh z, or limit (1 + tanh z) / 2.
    """

    rows: Array  # [Z w X y], (n, k), sorted by client and time
    group: Codes
    gap: Array  # time since the client's last row; 0 marks a first row
    effects: int
    outer: Codes | None  # of each client
    unit: Array  # (q,)
    signed: bool
    reml: bool

    @property
    def clients(self) -> int:
        return int(self.group[-1]) + 1

    def phi(self, z: float) -> tuple[float, float]:
        """Return phi and d phi / dz."""
        t = math.tanh(z)
        scale = LARGEST_PHI if self.signed else 0.5 * LARGEST_PHI
        if self.signed:
            return scale * t, scale * (1.0 - t * t)
        return max(scale * (1.0 + t), SMALLEST_PHI), scale * (1.0 - t * t)

    def whitened(self, phi: float) -> tuple[Blocks, float, Slope]:
        gram, gram_slope, log_det, log_det_slope = whiten(
            self.rows, self.group, self.gap, phi, self.clients
        )
        blocks = Blocks(gram, self.effects, len(self.rows), self.outer)
        return blocks, log_det, Slope(gram_slope, log_det_slope)

    def ratios(self, x: Array) -> tuple[Array, Array, float]:
        """Return the Cholesky factor, Gamma and rho."""
        q = self.effects
        L = np.zeros((q, q))
        L[np.tril_indices(q)] = x[: q * (q + 1) // 2]
        L = L / self.unit[:, None]
        return L, L @ L.T, 0.0 if self.outer is None else float(x[-2] ** 2)

    def height(self, x: Array) -> tuple[Height, Blocks]:
        _, ratio_cov, ratio_outer = self.ratios(x)
        blocks, log_det, slope = self.whitened(self.phi(float(x[-1]))[0])
        at = profile(blocks, ratio_cov, ratio_outer, reml=self.reml, log_det=log_det, slope=slope)
        return at, blocks

    def __call__(self, x: Array) -> tuple[float, Array]:
        L, _, _ = self.ratios(x)
        at, _ = self.height(x)
        by_factor = 2.0 * (at.by_random @ L) / self.unit[:, None]
        gradient = list(by_factor[np.tril_indices(self.effects)])
        if self.outer is not None:
            gradient.append(2.0 * float(x[-2]) * at.by_outer)
        gradient.append(at.by_phi * self.phi(float(x[-1]))[1])
        return at.deviance, np.array(gradient)


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
        Client codes 0 .. N - 1, none empty.
    time : array (n,)
        Session numbers, or times in any unit; each once per client. With whole numbers phi may be
        negative (AR(1)); with others it lies between 0 and 1 (CAR(1)).
    Z : array (n, q), optional
        Random-effect columns. Without it: a random intercept.
    outer : integer array (n,), optional
        Codes 0 .. J - 1 of a level that clients nest in, with a random intercept.
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
    start, back, problem, unit_time = _prepared(
        np.asarray(y, dtype=np.float64), design, random, group, np.asarray(time), outer, reml
    )
    places = [*np.flatnonzero(np.equal(*np.tril_indices(problem.effects)))]
    places += [] if outer is None else [-2]
    lowest = settle_roots(problem, _searched(problem), places)
    return _reported(problem, lowest, start, back, unit_time)


def _prepared(
    y: Array,
    X: Array,
    Z: Array,
    group: Codes,
    time: Array,
    outer: Codes | None,
    reml: bool,
) -> tuple[Array, Array, _Problem, float]:
    """Sort the rows; take X to an orthogonal basis and y to its least-squares residuals."""
    stack_columns(y, X, Z, np.ones(len(y)))
    if len(group) != len(y) or len(time) != len(y) or not np.isfinite(time).all():
        raise DataError("Client codes and times need one finite entry per score.")
    order = np.lexsort((time, group))
    codes, moments = np.asarray(group, np.int64)[order], time[order].astype(np.float64)
    same = codes[1:] == codes[:-1]
    gap = np.concatenate([[0.0], np.where(same, np.diff(moments), 0.0)])
    if np.any(gap[1:][same] <= 0.0):
        raise DataError("A client has two scores at one time. Keep one of them.")
    if not same.any():
        raise SpecificationError("Autocorrelation needs clients with repeated scores.")
    basis, triangle = np.linalg.qr(X[order])
    size = np.linalg.norm(X, axis=0)
    if len(X) <= X.shape[1] or np.any(np.abs(np.diag(triangle)) <= 1e-10 * size):
        raise SpecificationError(
            "The columns of the design are linearly dependent. Drop the redundant ones."
        )
    # in units of which every basis column has a mean square of one
    basis, triangle = basis * math.sqrt(len(y)), triangle / math.sqrt(len(y))
    start = np.asarray(np.linalg.solve(triangle, basis.T @ y[order] / len(y)))
    signed = bool(np.all(moments == np.round(moments)))
    unit_time = 1.0 if signed else float(np.median(gap[1:][same]))
    clients = int(codes[-1]) + 1
    problem = _Problem(
        rows=stack_columns(y[order] - X[order] @ start, basis, Z[order], np.ones(len(y))),
        group=codes,
        gap=gap / unit_time,
        effects=Z.shape[1],
        outer=None if outer is None else parents_of(codes, np.asarray(outer)[order], clients),
        unit=np.sqrt(np.mean(Z**2, axis=0)),
        signed=signed,
        reml=reml,
    )
    return start, np.asarray(np.linalg.inv(triangle)), problem, unit_time


def _searched(problem: _Problem) -> Lowest:
    """Search from the best of a few values of phi: a stable level and slow drift look alike."""
    q = problem.effects
    factor = np.eye(q)[np.tril_indices(q)] * np.where(np.arange(q * (q + 1) // 2) == 0, 0.8, 0.3)
    tail = [] if problem.outer is None else [0.3]
    starts = [
        np.concatenate([share * factor, tail, [z]])
        for share in (1.0, 0.3)
        for z in ((-0.5, 0.0, 0.3, 0.7, 1.4) if problem.signed else (-1.5, -0.5, 0.3, 1.2))
    ]
    heights = [problem(x)[0] for x in starts]
    return minimise(problem, starts[int(np.argmin(heights))])


def _reported(
    problem: _Problem, lowest: Lowest, start: Array, back: Array, unit_time: float
) -> CorrelatedFit:
    x, q = lowest.x, problem.effects
    _, ratio_cov, ratio_outer = problem.ratios(x)
    phi, _ = problem.phi(float(x[-1]))
    height, blocks = problem.height(x)
    components = components_of(height, ratio_cov, ratio_outer)
    limits = _limits(problem, phi)
    cov, slopes = _uncertainty(problem, components, phi, held=bool(limits))
    parts, effects = influence(blocks, height, ratio_cov)
    # phi was per median gap; per unit of time it is phi^(1 / gap)
    residual_ar = float(np.sign(phi) * abs(phi) ** (1.0 / unit_time))
    stretch = np.ones(len(cov))
    stretch[-1] = 1.0 if unit_time == 1.0 else residual_ar / (unit_time * phi)
    cov = cov * np.outer(stretch, stretch)
    bounds = _bounds(problem, blocks, components)
    volume = -float(np.linalg.slogdet(back)[1]) if problem.reml else 0.0
    units = (blocks.units,) if problem.outer is not None else ()
    outer = [components.outer_var] if problem.outer is not None else []
    return CorrelatedFit(
        beta=start + back @ height.beta,
        beta_cov=back @ (height.sigma2 * height.cov) @ back.T,
        random_cov=components.random_cov,
        outer_var=components.outer_var,
        residual_var=components.residual_var,
        residual_ar=residual_ar,
        residual_ar_se=math.nan if limits else math.sqrt(cov[-1, -1]),
        loglik=-0.5 * lowest.value - volume,
        blups=effects[:, :q],
        outer_blups=None if problem.outer is None else _of_units(problem.outer, effects[:, q]),
        influence=parts @ back.T,
        variance_names=(*variance_names(q, problem.outer is not None), "residual_ar"),
        variances=np.array(
            [
                *components.random_cov[np.triu_indices(q)],
                *outer,
                components.residual_var,
                residual_ar,
            ]
        ),
        variance_cov=cov,
        beta_cov_slopes=back @ (slopes / stretch[:, None, None]) @ back.T,
        boundary=tuple(bounds + limits),
        converged=lowest.converged,
        rows=len(problem.rows),
        units=(problem.clients, *units),
    )


def _bounds(problem: _Problem, blocks: Blocks, components: Components) -> list[str]:
    """Name the variances at their bound of zero."""
    nested = problem.outer is not None
    at_zero = nested and components.outer_var == 0.0
    full = len(variance_names(problem.effects, nested)) - int(at_zero)
    lost = free_directions(blocks, components).shape[1] < full
    return [*(["random"] if lost else []), *(["outer"] if at_zero else [])]


def _limits(problem: _Problem, phi: float) -> list[str]:
    limit = LARGEST_PHI - 1e-4
    if phi > limit:
        return ["drift"]
    if problem.signed:
        return ["alternation"] if phi < -limit else []
    return ["independence"] if phi < 1e-4 else []


def _of_units(outer: Codes, values: Array) -> Array:
    of_unit = np.zeros(int(outer.max()) + 1)
    of_unit[outer] = values
    return of_unit


def _uncertainty(
    problem: _Problem, components: Components, phi: float, held: bool
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


def _score(problem: _Problem, components: Components, phi: float) -> Array:
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
