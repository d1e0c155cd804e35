"""Stable level plus autocorrelated deviations: how far a client's mean can be trusted.

The model for client i at session number t, fitted by exact ML or REML with any gaps, is

    y_it = mu + u_i + w_it,   Var(u_i) = tau^2,   Cov(w_it, w_is) = gamma phi^|t - s|,

optionally with a slope of its own per client, s_i (t - mean of t), as a fixed effect. Between two
neighboring scores g sessions apart only w_t - phi^g w_(t-g), divided by (1 - phi^2g)^(1/2), is new;
so everything the likelihood needs at a value of phi is a sum over the (client, gap) cells of
cross-products that are taken from the rows once. The intercepts are profiled out by
``maximise_components``; phi is a search in one dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.nested import (
    ROUNDING,
    Array,
    ClusterStatistics,
    Codes,
    VarianceComponents,
    maximise_components,
    sum_by,
)
from alliancedyn.errors import DataError, SpecificationError

# Beyond this an autoregression cannot be told from a stable level at any number of sessions.
LARGEST_PHI = 0.995


@dataclass(frozen=True)
class SerialFit:
    """A stable level and first-order autoregressive deviations.

    Attributes
    ----------
    phi : float
        Autocorrelation of the deviations one session apart.
    between, within : float
        tau^2 and gamma, in squared score points.
    mean : float
        mu, in score points.
    loglik : float
        Maximised (restricted) log-likelihood, constant as in ``VarianceComponents``.
    boundary : tuple of str
        ``"drift"`` or ``"alternation"`` if the search stopped at its upper or lower limit,
        ``"between"`` if tau^2 is zero.
    converged : bool
        Verdict of the inner search over tau^2.
    """

    phi: float
    between: float
    within: float
    mean: float
    loglik: float
    boundary: tuple[str, ...]
    converged: bool


@dataclass(frozen=True)
class _Links:
    """How often clients start at a session (T,), and go from session to session (pairs)."""

    starts: Array
    earlier: Codes
    later: Codes
    count: Array
    gap: Array
    block: Codes  # sessions that clients link share a block


@dataclass(frozen=True)
class _Cells:
    """Cross-products of [1, y] or [1, y, t] over first rows and over pairs of neighbors.

    ``later``, ``crossed``, ``earlier`` (cells, q, q) sum v_t v_t', v_t v_s' + v_s v_t' and v_s v_s'
    over the neighbors s < t of one client that lie one gap apart.
    """

    first: Array
    later: Array
    crossed: Array
    earlier: Array
    client: Codes
    gap: NDArray[np.float64]
    pairs: Array
    center: Array  # mean of y per client, score points
    rows: int
    absorbed: int
    links: _Links | None = None


def fit_serial(
    y: Array,
    client: Codes,
    session: Codes,
    slopes: bool = False,
    session_effects: bool = False,
    reml: bool = True,
) -> SerialFit:
    """Fit a stable level and AR(1) deviations to scores with gaps.

    Parameters
    ----------
    y : array (n,)
        Scores, in score points; no NaN. Rows in any order.
    client : integer array (n,)
        Codes 0 .. N - 1, none empty.
    session : integer array (n,)
        Session numbers, each once per client. A gap stays a gap.
    slopes : bool
        Give every client a slope on the session number, as a fixed effect. Needs three scores of
        every client.
    session_effects : bool
        ``y`` is what least-squares session effects have left over. Under REML they cost their
        degrees of freedom, and the directions they took out of the covariance are left out of its
        determinant too: exact for complete data, close to it otherwise.
    reml : bool
        Restricted or full maximum likelihood.

    Raises
    ------
    DataError
        If a client has two scores at one session.
    SpecificationError
        If fewer than two clients, or no client, has enough scores; if no spread is left.

    References
    ----------
    Pinheiro & Bates (2000), Mixed-Effects Models in S and S-PLUS, ch. 5: random intercepts with
    autocorrelated within-group errors.
    """
    order, offset = np.lexsort((session, client)), float(y.mean())
    cells = _cells(y[order] - offset, client[order], session[order], slopes)
    if session_effects and reml:
        cells = replace(cells, links=_link(client[order], session[order]))
    spread = float(_statistics(cells, 0.0).scatter[1, 1])
    if spread <= len(y) * (ROUNDING * float(np.abs(y).max())) ** 2:
        raise SpecificationError(
            "No spread is left within clients, so there is no autocorrelation. Leave this variable "
            "out."
        )

    def fit_at(phi: float, start: Array | None = None) -> VarianceComponents:
        return maximise_components(_statistics(cells, phi), reml, start)

    grid = [-0.8, -0.5, -0.25, 0.0, 0.2, 0.4, 0.6, 0.75, 0.87, 0.95]
    coarse = [fit_at(phi) for phi in grid]
    best = int(np.argmax([fit.loglik for fit in coarse]))
    edges = [-LARGEST_PHI, *grid, LARGEST_PHI]
    near = coarse[best].variances / coarse[best].residual
    phi = _search(lambda value: fit_at(value, near).loglik, edges[best], edges[best + 2])
    fit = fit_at(phi)
    limit = LARGEST_PHI - 1e-4
    reached = ["drift"] if phi > limit else ["alternation"] if phi < -limit else []
    return SerialFit(
        phi=phi,
        between=float(fit.variances[0]),
        within=fit.residual,
        mean=offset + float(fit.beta[0]),
        loglik=fit.loglik,
        boundary=tuple(reached + (["between"] if fit.boundary else [])),
        converged=fit.converged,
    )


def mean_error_factor(observed: NDArray[np.bool_], phi: float) -> Array:
    """Return Var(mean of a client's observed deviations) / gamma, per client.

    Equation: 1'P_i 1 / T_i^2, with P_i the matrix of phi^|t - s| over the T_i observed sessions;
    1 / T_i if phi = 0.

    Parameters
    ----------
    observed : bool array (N, T)
        Which of consecutive session numbers were scored.
    phi : float
        Autocorrelation one session apart.

    Returns
    -------
    array (N,)
        NaN for a client without scores.
    """
    total = np.zeros(len(observed))
    arriving = np.zeros(len(observed))  # sum over earlier observed s of phi^(t - s)
    for seen in observed.T.astype(np.float64):
        total += seen * (1.0 + 2.0 * arriving)
        arriving = phi * (arriving + seen)
    count = observed.sum(axis=1).astype(np.float64)
    count[count == 0] = np.nan
    return np.asarray(total / count**2)


def _cells(y: Array, client: Codes, session: Codes, slopes: bool) -> _Cells:
    """Take from the sorted rows, once, the cross-products that every value of phi needs."""
    clients = int(client.max(initial=-1)) + 1
    count = np.bincount(client, minlength=clients).astype(np.float64)
    same = client[1:] == client[:-1]
    if clients < 2 or not same.any() or (slopes and count.min() < 3):
        raise SpecificationError(
            "Autocorrelation needs at least two clients with repeated scores (three of each client "
            "where every client has a slope). Restrict the clients."
        )
    center = np.bincount(client, y, clients) / count
    moment = session - (np.bincount(client, session, clients) / count)[client]
    columns = [np.ones(len(y)), y - center[client]] + ([moment] if slopes else [])
    v = np.column_stack(columns)
    s, t = np.flatnonzero(same), np.flatnonzero(same) + 1
    gap = session[t] - session[s]
    if gap.min() == 0:
        raise DataError("A client has two scores at one session. Keep one of them.")
    key, cell = np.unique(client[t] * (gap.max() + 1) + gap, return_inverse=True)

    def gathered(a: Array, b: Array) -> Array:
        q = v.shape[1]
        flat = (a[:, :, None] * b[:, None, :]).reshape(len(a), q * q)
        return sum_by(cell, flat, len(key)).reshape(len(key), q, q)

    crossed = gathered(v[t], v[s])
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    return _Cells(
        first=v[starts, :, None] * v[starts, None, :],
        later=gathered(v[t], v[t]),
        crossed=crossed + crossed.transpose(0, 2, 1),
        earlier=gathered(v[s], v[s]),
        client=key // (gap.max() + 1),
        gap=(key % (gap.max() + 1)).astype(np.float64),
        pairs=np.bincount(cell, minlength=len(key)).astype(np.float64),
        center=center,
        rows=len(y),
        absorbed=clients if slopes else 0,
    )


def _link(client: Codes, session: Codes) -> _Links:
    """Count, over sorted rows, how clients go from session to session."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    numbers, place = np.unique(session, return_inverse=True)
    same, total = client[1:] == client[:-1], len(numbers)
    pairs, count = np.unique(place[:-1][same] * total + place[1:][same], return_counts=True)
    earlier, later = np.divmod(pairs, total)
    graph = coo_array((count, (earlier, later)), shape=(total, total))
    starts = np.bincount(place[np.concatenate([[True], ~same])], minlength=total)
    return _Links(
        starts=starts.astype(np.float64),
        earlier=earlier,
        later=later,
        count=count.astype(np.float64),
        gap=(numbers[later] - numbers[earlier]).astype(np.float64),
        block=connected_components(graph, directed=False)[1].astype(np.int64),
    )


def _log_det_of_effects(links: _Links, phi: float) -> float:
    """Return log|X'R^-1 X| of session dummies X, without the mean of each block of sessions."""
    carry = _power(phi, links.gap)
    weight = links.count / (1.0 - carry**2)
    information = np.diag(links.starts)
    np.add.at(information, (links.later, links.later), weight)
    np.add.at(information, (links.earlier, links.earlier), weight * carry**2)
    np.add.at(information, (links.earlier, links.later), -weight * carry)
    np.add.at(information, (links.later, links.earlier), -weight * carry)
    of_means = np.bincount(links.block, information.sum(axis=1))
    return float(np.linalg.slogdet(information)[1] - np.log(of_means).sum())


def _power(phi: float, gap: Array) -> Array:
    return np.asarray(np.sign(phi) ** gap * np.abs(phi) ** gap)


def _statistics(cells: _Cells, phi: float) -> ClusterStatistics:
    """Return per client 1'R^-1 1 and the R^-1-weighted mean, with the slopes projected out."""
    carry = _power(phi, cells.gap)
    new = 1.0 - carry**2
    pair = cells.later - carry[:, None, None] * cells.crossed
    pair = (pair + (carry**2)[:, None, None] * cells.earlier) / new[:, None, None]
    clients, q = len(cells.center), cells.first.shape[1]
    products = sum_by(cells.client, pair.reshape(len(pair), q * q), clients).reshape(-1, q, q)
    products = products + cells.first
    log_det = float((cells.pairs * np.log(new)).sum())
    if q == 3:
        information = products[:, 2, 2]
        log_det += float(np.log(information).sum())
        onto = products[:, 2, :2]
        products = products[:, :2, :2] - (
            onto[:, :, None] * onto[:, None, :] / information[:, None, None]
        )
    absorbed = cells.absorbed
    if cells.links is not None:
        log_det += _log_det_of_effects(cells.links, phi)
        absorbed += len(cells.links.block) - int(cells.links.block.max()) - 1
    weight = products[:, 0, 0]
    shift = products[:, 0, 1] / weight
    spread = float((products[:, 1, 1] - shift * products[:, 0, 1]).sum())
    return ClusterStatistics(
        weight=weight,
        mean=np.column_stack([np.ones(clients), cells.center + shift]),
        scatter=np.array([[0.0, 0.0], [0.0, spread]]),
        parents=(),
        rows=cells.rows,
        absorbed=absorbed,
        log_det=log_det,
    )


def _search(height: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda value: -height(value), bounds=(low, high), method="bounded", options={"xatol": 1e-8}
    )
    return float(found.x)
