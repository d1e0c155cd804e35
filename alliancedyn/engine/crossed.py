"""Random intercepts of clients and therapists where clients change therapist.

The model for row j of client i with outer unit (therapist) o is

    y_j = x_j'beta + u_i + v_o + e_j,   u ~ N(0, tau^2), v ~ N(0, omega), e ~ N(0, sigma^2).

With V = I + rho U U' + kappa W W' (rho = tau^2 / sigma^2, kappa = omega / sigma^2, U and W the
indicators of clients and outer units), clients are eliminated first, since U'U is diagonal:

    M = I + rho U U',   W'M^-1 W = diag(n_o) - C'diag(rho / (1 + rho n_i)) C = B,
    log|V| = sum_i log(1 + rho n_i) + log|I + kappa B|,
    D'V^-1 D = D'M^-1 D - kappa E'(I + kappa B)^-1 E,   E = W'M^-1 D,

C being the table of rows by client and outer unit. A client with one outer unit adds to the
diagonal of B alone; only clients that change fill it. What is left is a system of the size of the
outer level, whose likelihood is exact however clients and outer units are crossed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotri
from scipy.sparse import csr_array

from alliancedyn.engine.blocks import Array, Codes, solve_fixed, sum_over
from alliancedyn.engine.descent import minimise, settle_roots
from alliancedyn.engine.mixed import summarise_clusters
from alliancedyn.engine.mixed_information import inverse_within
from alliancedyn.engine.mixed_result import Bound
from alliancedyn.engine.mixed_rows import NO_UNIT
from alliancedyn.engine.nested import maximise_components
from alliancedyn.errors import DataError, SpecificationError

LARGEST_OUTER = 2000
ROUNDING = 1e-12  # spread below this fraction of the largest score is rounding


@dataclass(frozen=True)
class CrossedFit:
    """Crossed random intercepts of clients and of an outer level.

    Attributes
    ----------
    beta, beta_cov : arrays (p,), (p, p)
        Fixed effects and their covariance at the estimated variances.
    random_cov : array (1, 1)
        tau^2, variance between clients, in squared units of y.
    outer_var, residual_var : float
        omega and sigma^2, in squared units of y.
    loglik : float
        Maximized log-likelihood; under REML with lme4's constant.
    blups, outer_blups : arrays (N, 1), (J,)
        Predicted intercepts of clients and outer units.
    influence : array (N, p)
        Each client's first-order part in beta. Parts sum to zero; clients that share an outer unit
        are dependent, so their squares alone are no covariance.
    variance_names : tuple of str
        ``("random_cov[0,0]", "outer_var", "residual_var")``.
    variances, variance_cov : arrays (3,), (3, 3)
        These and their covariance by the observed information; 0 at a bound.
    beta_cov_slopes : array (3, p, p)
        Derivative of ``beta_cov`` by each.
    boundary : tuple of Bound
        Variances that are zero because the likelihood falls as they rise from there.
    converged : bool
        Whether the next Newton step promises less than 1e-8 in the deviance.
    reml : bool
        Restricted (True) or full maximum likelihood.
    switchers : int
        Clients with more than one outer unit. Without any the model is the nested one.
    iterations : int
        Steps of the search.
    n : int
        Number of rows.
    units : tuple of int
        Number of clients, then of outer units.
    clients, outer_units : integer arrays (N,), (J,)
        Codes of the clients and of the outer units, ascending.
    """

    beta: Array
    beta_cov: Array
    random_cov: Array
    outer_var: float
    residual_var: float
    loglik: float
    blups: Array
    outer_blups: Array
    influence: Array
    variance_names: tuple[str, ...]
    variances: Array
    variance_cov: Array
    beta_cov_slopes: Array
    boundary: tuple[Bound, ...]
    converged: bool
    reml: bool
    switchers: int
    iterations: int
    n: int
    units: tuple[int, int]
    clients: Codes
    outer_units: Codes


@dataclass(frozen=True)
class _Table:
    """What the likelihood needs of the rows; D = [X y] in q orthogonal columns and a residual."""

    cells: csr_array  # C, (N, J): rows by client and outer unit
    crossing: csr_array  # those rows of C that have more than one outer unit
    crosses: Codes  # which clients they are
    of_one: Codes  # outer unit of clients with one, by client; -1 for the others
    clients: Array  # n_i
    known: Array  # rows of the client with an outer unit
    outers: Array  # n_o
    means: Array  # of D by client, (N, c)
    sums: Array  # of D by outer unit, (J, c)
    scatter: Array  # of D around the clients' means, (c, c)
    rows: int
    reml: bool

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Return deviance and gradient at the roots of rho and kappa."""
        at = _evaluate(self, float(x[0] ** 2), float(x[1] ** 2))
        return at.deviance, 2.0 * x * at.slopes


@dataclass(frozen=True)
class _Height:
    deviance: float
    slopes: Array  # by rho and kappa, (2,)
    beta: Array
    cov: Array
    sigma2: float
    squares: float
    freedom: int
    of_clients: Array  # U'V^-1 D, (N, c)
    of_outers: Array  # W'V^-1 D, (J, c)


def fit_crossed(y: Array, X: Array, group: Codes, outer: Codes, *, reml: bool = True) -> CrossedFit:
    """Fit crossed random intercepts of clients and an outer level by (restricted) likelihood.

    Parameters
    ----------
    y, X : arrays (n,), (n, p)
        Scores and fixed-effect columns; no NaN. Rows in any order.
    group : integer array (n,)
        Client of each row, any codes.
    outer : integer array (n,)
        Outer unit of each row, any codes, NO_UNIT for none; at most 2,000 units.
    reml : bool
        Restricted or full maximum likelihood.

    Raises
    ------
    DataError
        If values are missing, lengths differ or codes are no integers.
    SpecificationError
        If the outer level has one unit or more than 2,000, if clients or outer units have one row
        each or are the same units, if the columns of X are dependent, or if no spread is left.

    References
    ----------
    Bates, Maechler, Bolker & Walker (2015), Journal of Statistical Software 67(1), whose (REML)
    deviance this is.
    """
    scores, design = np.asarray(y, dtype=np.float64), np.asarray(X, dtype=np.float64)
    client, unit = _checked(scores, design, np.asarray(group), np.asarray(outer))
    basis, triangle = np.linalg.qr(design)
    size = np.linalg.norm(design, axis=0)
    if len(design) <= design.shape[1] or np.any(np.abs(np.diag(triangle)) <= 1e-10 * size):
        raise SpecificationError(
            "The columns of the design are linearly dependent. Drop the redundant ones."
        )
    basis, triangle = basis * math.sqrt(len(scores)), triangle / math.sqrt(len(scores))
    start = np.asarray(np.linalg.solve(triangle, basis.T @ scores / len(scores)))
    D = np.column_stack([basis, scores - design @ start])
    table = _tabulate(D, client, unit, reml)
    if table.scatter[-1, -1] <= len(scores) * (ROUNDING * float(np.abs(scores).max())) ** 2:
        raise SpecificationError(
            "No spread is left within clients, so the residual variance is zero and the likelihood "
            "has no maximum. Leave out what never changes, or what "
            "repeats the outcome."
        )
    fit = _fitted(table, D, client, unit, start, np.asarray(np.linalg.inv(triangle)))
    units = np.unique(outer)
    return replace(fit, clients=np.unique(group), outer_units=units[units != NO_UNIT])


def _fitted(
    table: _Table, D: Array, client: Codes, unit: Codes, start: Array, back: Array
) -> CrossedFit:
    """Search, and carry the estimates back to the columns of X (beta = start + back gamma)."""
    lowest = minimise(table, _start(D, table, client), close=True)
    if not lowest.converged:
        lowest = minimise(table, lowest.x)
    lowest = settle_roots(table, lowest, (0, 1))
    rho, kappa = (float(value) for value in lowest.x**2)
    at = _evaluate(table, rho, kappa)
    sigma2 = at.sigma2
    direction = np.append(-at.beta, 1.0)
    u, v = rho * at.of_clients @ direction, kappa * at.of_outers @ direction
    left = D @ direction - u[client] - np.where(unit < 0, 0.0, v[unit])
    parts = sum_over(client, D[:, :-1] * left[:, None], len(u)) @ at.cov
    variances = sigma2 * np.array([rho, kappa, 1.0])
    volume = -float(np.linalg.slogdet(back)[1]) if table.reml else 0.0
    bounds = (
        Bound("variance", (0,), -0.5 * float(at.slopes[0])),
        Bound("outer", (), -0.5 * float(at.slopes[1])),
    )
    return CrossedFit(
        beta=start + back @ at.beta,
        beta_cov=back @ (sigma2 * at.cov) @ back.T,
        random_cov=variances[:1, None],
        outer_var=float(variances[1]),
        residual_var=sigma2,
        loglik=-0.5 * at.deviance - volume,
        blups=u[:, None],
        outer_blups=v,
        influence=parts @ back.T,
        variance_names=("random_cov[0,0]", "outer_var", "residual_var"),
        variances=variances,
        variance_cov=_variance_cov(table, variances),
        beta_cov_slopes=back @ _cov_slopes(at, variances) @ back.T,
        boundary=tuple(b for b, ratio in zip(bounds, (rho, kappa), strict=True) if ratio == 0.0),
        converged=lowest.converged,
        reml=table.reml,
        switchers=len(table.crosses),
        iterations=lowest.steps,
        n=table.rows,
        units=(len(u), len(v)),
        clients=np.arange(len(u)),
        outer_units=np.arange(len(v)),
    )


def _start(D: Array, table: _Table, client: Codes) -> Array:
    """Return the roots of the variance ratios with every client in its most frequent outer unit."""
    likely = np.asarray(table.cells.argmax(axis=1)).ravel()
    parent = np.unique(likely, return_inverse=True)[1]
    if not 1 < int(parent.max()) + 1 < len(parent):
        return np.array([1.0, 0.3])
    stats = summarise_clusters(D, client, (parent.astype(np.int64),))
    nested = maximise_components(stats, table.reml)
    return np.maximum(np.sqrt(nested.variances / nested.residual), 0.05)


def _checked(y: Array, X: Array, group: Codes, outer: Codes) -> tuple[Codes, Codes]:
    if X.ndim != 2 or any(len(part) != len(y) for part in (X, group, outer)):
        raise DataError("Scores, design and codes need one row per score each.")
    if not (np.isfinite(y).all() and np.isfinite(X).all()):
        raise DataError("Scores and design must be finite. Drop rows with missing values first.")
    if any(codes.dtype.kind not in "iu" for codes in (group, outer)):
        raise DataError("Group codes must be integers. Use numpy.unique(..., return_inverse=True).")
    client, unit = (np.unique(codes, return_inverse=True)[1] for codes in (group, outer))
    if (outer == NO_UNIT).any():
        unit = unit - 1  # the lowest of codes: -1 from here on
    clients, outers = int(client.max()) + 1, int(unit.max()) + 1
    if outers < 2:
        raise SpecificationError(
            "The outer level has a single unit, so it has no variance. Leave it out."
        )
    if outers > LARGEST_OUTER:
        raise SpecificationError(
            f"Crossed random intercepts take at most {LARGEST_OUTER} outer units; there are "
            f"{outers}. Give each client one outer unit and fit the nested model."
        )
    if clients == len(y) or outers == len(y):
        raise SpecificationError(
            "Every client or every outer unit has a single score, so its variance cannot be told "
            "from that of single scores. Use repeated scores."
        )
    if clients == outers == len(np.unique(client * outers + unit)):
        raise SpecificationError(
            "Clients and outer units are the same units, so their variances cannot be told apart. "
            "Leave one of them out."
        )
    return client.astype(np.int64), unit.astype(np.int64)


def _tabulate(D: Array, client: Codes, unit: Codes, reml: bool) -> _Table:
    """Reduce the rows to counts and sums by client and by outer unit."""
    n, clients, outers = len(D), int(client.max()) + 1, int(unit.max()) + 1
    inside = unit >= 0
    known = np.bincount(client[inside], minlength=clients).astype(np.float64)
    pairs = (client[inside], unit[inside])
    cells = csr_array((np.ones(len(pairs[0])), pairs), shape=(clients, outers))
    cells.sum_duplicates()
    count_of = np.diff(cells.indptr)
    crosses, single = np.flatnonzero(count_of > 1), count_of == 1
    of_one = np.full(clients, -1, dtype=np.int64)
    of_one[single] = cells.indices[cells.indptr[:-1][single]]
    count = np.bincount(client, minlength=clients).astype(np.float64)
    means = sum_over(client, D, clients) / count[:, None]
    deviation = D - means[client]
    return _Table(
        cells=cells,
        crossing=cells[crosses],
        crosses=crosses,
        of_one=of_one,
        clients=count,
        known=known,
        outers=np.bincount(unit[inside], minlength=outers).astype(np.float64),
        means=means,
        sums=np.asarray(sum_over(unit[inside], D[inside], outers)),
        scatter=deviation.T @ deviation,
        rows=n,
        reml=reml,
    )


def _weighted_cells(table: _Table, weight: Array) -> Array:
    """Return C'diag(weight) C (J, J): a diagonal, and what clients that cross add to it."""
    alone = table.of_one >= 0
    diagonal = np.bincount(table.of_one[alone], (weight * table.known**2)[alone], len(table.outers))
    total = np.diag(diagonal.astype(np.float64))
    if len(table.crosses):
        scaled = table.crossing * np.sqrt(weight[table.crosses])[:, None]
        total += (scaled.T @ scaled).toarray()
    return total


def _evaluate(table: _Table, rho: float, kappa: float, sigma2: float | None = None) -> _Height:
    """Return the deviance at rho and kappa, sigma^2 profiled out unless held, and its gradient."""
    shrink = 1.0 / (1.0 + rho * table.clients)
    B = np.diag(table.outers) - _weighted_cells(table, rho * shrink)
    sums = table.clients[:, None] * table.means
    E = table.sums - table.cells.T @ (rho * shrink[:, None] * sums)
    factor = cho_factor(np.eye(len(B)) + kappa * B, lower=True)
    n_outer = cho_solve(factor, E)
    pooled = (table.clients * shrink)[:, None] * table.means
    total = table.scatter + table.means.T @ pooled - kappa * E.T @ n_outer
    total = 0.5 * (total + total.T)
    beta, cov, squares = solve_fixed(total)
    p = len(beta)
    freedom = table.rows - (p if table.reml else 0)
    held = squares / freedom if sigma2 is None else sigma2
    log_det = 2.0 * float(np.log(np.diag(factor[0])).sum()) - float(np.log(shrink).sum())
    deviance = log_det + freedom * math.log(2.0 * math.pi * held) + squares / held
    direction = np.append(-beta, 1.0)
    inner = np.outer(direction, direction) / held
    if table.reml:
        deviance += float(np.linalg.slogdet(total[:p, :p])[1])
        inner[:p, :p] += cov
    n_client = shrink[:, None] * (sums - kappa * (table.cells @ n_outer))
    inverse = _inverse(factor[0])
    by_outer = float(np.sum(inverse * B) - np.sum((n_outer.T @ n_outer) * inner))
    by_client = float((table.clients * shrink).sum())
    by_client -= kappa * float(np.sum(inverse * _weighted_cells(table, shrink**2)))
    by_client -= float(np.sum((n_client.T @ n_client) * inner))
    return _Height(
        deviance,
        np.array([by_client, by_outer]),
        beta,
        cov,
        held,
        squares,
        freedom,
        n_client,
        n_outer,
    )


def _inverse(factor: Array) -> Array:
    """Return (L L')^-1 from the lower triangle of L."""
    half = np.tril(dpotri(factor, lower=1)[0])
    return np.asarray(half + np.tril(half, -1).T)


def _score(table: _Table, variances: Array) -> Array:
    """Return the derivatives of the log-likelihood by tau^2, omega and sigma^2."""
    sigma2 = float(variances[2])
    ratios = variances[:2] / sigma2
    at = _evaluate(table, float(ratios[0]), float(ratios[1]), sigma2)
    by_residual = at.freedom - at.squares / sigma2 - float(at.slopes @ ratios)
    return -0.5 * np.append(at.slopes, by_residual) / sigma2


def _variance_cov(table: _Table, variances: Array) -> Array:
    """Invert the observed information, by differences of the exact score; 0 at a bound."""
    free = np.eye(3)[:, variances > 0.0]
    information = np.zeros((3, 3))
    for k in np.flatnonzero(variances > 0.0):
        step = 1e-4 * variances[k] * np.eye(3)[k]
        rise = _score(table, variances + step) - _score(table, variances - step)
        information[k] = -rise / (2.0 * step[k])
    information = 0.5 * (information + information.T)
    return inverse_within(information, np.diag(np.abs(np.diag(information))), free)


def _cov_slopes(at: _Height, variances: Array) -> Array:
    """Return dC / d(tau^2, omega, sigma^2), C being of degree one in them all."""
    p = len(at.beta)
    slopes = []
    for forms in (at.of_clients[:, :p], at.of_outers[:, :p]):
        slopes.append(at.cov @ (forms.T @ forms) @ at.cov)
    rest = at.sigma2 * at.cov - variances[0] * slopes[0] - variances[1] * slopes[1]
    return np.array([*slopes, rest / at.sigma2])
