"""Mixed-model algebra from one small matrix of cross-products per client.

The model for the rows of one independent block (a client, or an outer unit b and its clients) is

    y = X beta + sum_i Z_i u_i + w v_b + e,    u_i ~ N(0, G),    v_b ~ N(0, omega),
    e ~ N(0, sigma^2 I),                       V = sigma^2 I + sum_i Z_i G Z_i' + omega w w',

with w = 1 for independent residuals, or 1 whitened for serially correlated ones. All that inference
needs are forms in V^-1 between the columns of Z, w, X and y. Eliminating the clients, then the
outer unit, gives them from the Gram matrix of [Z w X y] per client:

    Z_i'V_i^-1 D = (I + A_i Gamma)^-1 Z_i'D,   A_i = Z_i'Z_i,   Gamma = G / sigma^2,

and for the outer unit one rank-one correction. No matrix over rows is ever formed, and the cost is
linear in clients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from alliancedyn.engine.mixed_rows import NO_UNIT
from alliancedyn.errors import DataError, SpecificationError

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Numbers = NDArray[Any]  # real or complex


@dataclass(frozen=True)
class Components:
    """The covariance of a mixed model.

    Attributes
    ----------
    random_cov : array (q, q)
        G, covariance of a client's random effects, in squared units of y per units of Z.
    residual_var : float
        sigma^2, in squared units of y.
    outer_var : float
        omega, variance of the outer random intercept, in squared units of y; 0 without one.
    """

    random_cov: Array
    residual_var: float
    outer_var: float = 0.0


@dataclass(frozen=True)
class Blocks:
    """Cross-products of the rows by client.

    Attributes
    ----------
    gram : array (N, k, k)
        [Z w X y]'[Z w X y] of each client; k = q + 1 + p + 1.
    effects : int
        q, the number of random effects of a client.
    rows : int
        n.
    outer : integer array (N,) or None
        Outer unit of each client, 0 .. J - 1.
    start : array (p,) or None
        Fixed effects that were taken out of y beforehand, so that no digits are lost to its level.
    """

    gram: Array
    effects: int
    rows: int
    outer: Codes | None
    start: Array | None = None

    @property
    def columns(self) -> int:
        """p, the number of fixed effects."""
        return self.gram.shape[1] - self.effects - 2

    @property
    def units(self) -> int:
        """Number of independent blocks: outer units, or clients without an outer level."""
        return len(self.gram) if self.outer is None else int(self.outer.max()) + 1

    def shifted_back(self, beta: Array) -> Array:
        """Return fixed effects of y itself from those of what is held as y."""
        return beta if self.start is None else self.start + beta

    def by_unit(self, values: Numbers) -> Numbers:
        """Sum values (N, ...) of clients over their independent block, (units, ...)."""
        return values if self.outer is None else sum_over(self.outer, values, self.units)

    def of_unit(self, values: Numbers) -> Numbers:
        """Give every client the value of its independent block: (units, ...) to (N, ...)."""
        return values if self.outer is None else values[self.outer]


@dataclass(frozen=True)
class Forms:
    """Forms in V^-1 at given components, D = [X y], in units where sigma^2 = 1.

    Attributes
    ----------
    inner : array (N, q, q)
        H_i = Z_i'V_i^-1 Z_i, V_i without the outer intercept.
    toward : array (N, q)
        h_i = Z_i'V_i^-1 w.
    effects : array (N, q, p + 1)
        Z_i'V^-1 D.
    outer_weight, outer_effects : arrays (units,), (units, p + 1)
        a_b = w'(V without outer intercept)^-1 w, and w'V^-1 D.
    shrink : array (units,)
        1 / (1 + omega a_b / sigma^2).
    products : array (units, p + 1, p + 1)
        D'V^-1 D.
    ratio_outer : float
        omega / sigma^2.
    log_det : float
        log|V / sigma^2|.
    """

    inner: Array
    toward: Array
    effects: Array
    outer_weight: Array
    outer_effects: Array
    shrink: Array
    products: Array
    ratio_outer: float
    log_det: float


def summarise_blocks(
    y: Array, X: Array, Z: Array, group: Codes, outer: Codes | None = None
) -> Blocks:
    """Reduce rows with independent residuals to their cross-products by client.

    Parameters
    ----------
    y, X, Z : arrays (n,), (n, p), (n, q)
        Scores, fixed-effect columns and random-effect columns; no NaN.
    group : integer array (n,)
        Client of each row, any codes in any order; clients are kept in ascending order of them.
    outer : integer array (n,), optional
        Unit of a level that clients nest in, any codes; NO_UNIT where there is none.

    Raises
    ------
    DataError
        If arrays hold missing or infinite values, or lengths differ.
    SpecificationError
        If a client lies in several outer units.
    """
    U = stack_columns(y, X, Z, belongs(outer, len(y)))
    if len(group) != len(U) or (outer is not None and len(outer) != len(U)):
        raise DataError("Group codes need one entry per score. Give arrays of one length.")
    labels, client = np.unique(group, return_inverse=True)
    parent = None if outer is None else parents_of(client, outer, len(labels))
    # roughly least squares: any start will do
    start = np.asarray(np.linalg.lstsq(X.T @ X, X.T @ y)[0])
    U[:, -1] -= X @ start
    gram = gram_by(U, client.astype(np.int64), len(labels))
    return Blocks(gram, Z.shape[1], len(y), parent, start)


def stack_columns(y: Array, X: Array, Z: Array, w: Array) -> Array:
    """Lay [Z w X y] (n, k) side by side, refusing missing values and unequal lengths."""
    if any(len(part) != len(y) for part in (X, Z, w)) or X.ndim != 2 or Z.ndim != 2:
        raise DataError("Scores, design and random-effect columns need one row per score each.")
    U = np.column_stack([Z, w, X, y]).astype(np.float64)
    if not np.isfinite(U).all():
        raise DataError("Scores and designs must be finite. Drop rows with missing values first.")
    return U


def belongs(outer: Codes | None, rows: int) -> Array:
    """Return w (n,): 1 in rows of an outer unit, 0 where there is none."""
    return np.ones(rows) if outer is None else (np.asarray(outer) != NO_UNIT).astype(np.float64)


def parents_of(group: Codes, outer: Codes, clients: int) -> Codes:
    """Return the outer unit of each client, 0 .. J - 1, refusing clients that lie in several.

    Clients without one (NO_UNIT) follow as units of their own: independent of all others.
    """
    parent = np.zeros(clients, dtype=np.int64)
    codes = np.asarray(outer)
    labels, unit = np.unique(codes, return_inverse=True)
    if labels[0] == NO_UNIT:
        unit = np.where(codes == NO_UNIT, len(labels) + group, unit)
        unit = np.unique(unit, return_inverse=True)[1]
    parent[group] = unit
    split = np.unique(group[parent[group] != unit]).size
    if split:
        raise SpecificationError(
            f"{split} clients lie in more than one outer unit. Fit crossed random intercepts, or "
            "give each client one outer unit."
        )
    return parent


@njit(cache=True)
def gram_by(U: Array, group: Codes, clients: int) -> Array:
    """Sum u u' over the rows u (k,) of each client, giving (clients, k, k)."""
    n, k = U.shape
    gram = np.zeros((clients, k, k))
    for row in range(n):
        own = gram[group[row]]
        for a in range(k):
            value = U[row, a]
            for b in range(a + 1):
                own[a, b] += value * U[row, b]
    for client in range(clients):
        for a in range(k):
            for b in range(a):
                gram[client, b, a] = gram[client, a, b]
    return gram


def sum_over(codes: Codes, values: Numbers, count: int) -> Numbers:
    """Sum values (n, ...) over equal codes, giving (count, ...)."""
    from scipy.sparse import csr_array

    n = len(codes)
    belongs = csr_array((np.ones(n), codes, np.arange(n + 1)), shape=(n, count))
    total: Numbers = belongs.T @ values.reshape(n, -1)
    return total.reshape(count, *values.shape[1:])


def invert_small(M: Array) -> tuple[Array, Array]:
    """Return inverses and determinants of many small matrices (..., q, q)."""
    q = M.shape[-1]
    if q == 1:
        return 1.0 / M, M[..., 0, 0]
    if q > 2:
        return np.asarray(np.linalg.inv(M)), np.asarray(np.linalg.det(M))
    det = M[..., 0, 0] * M[..., 1, 1] - M[..., 0, 1] * M[..., 1, 0]
    inverse = np.empty_like(M)
    inverse[..., 0, 0], inverse[..., 1, 1] = M[..., 1, 1] / det, M[..., 0, 0] / det
    inverse[..., 0, 1], inverse[..., 1, 0] = -M[..., 0, 1] / det, -M[..., 1, 0] / det
    return inverse, det


def forms(blocks: Blocks, ratio_cov: Array, ratio_outer: float = 0.0) -> Forms:
    """Return all forms in V^-1 at Gamma = G / sigma^2 (q, q) and omega / sigma^2."""
    q, gram = blocks.effects, blocks.gram
    A, Zw, ZD = gram[:, :q, :q], gram[:, :q, q], gram[:, :q, q + 1 :]
    whiten, det = invert_small(np.eye(q) + A @ ratio_cov)
    H = whiten @ A
    h = np.einsum("iab,ib->ia", whiten, Zw)
    K = whiten @ ZD
    spread = ratio_cov @ K
    T = gram[:, q + 1 :, q + 1 :] - ZD.transpose(0, 2, 1) @ spread
    weight = blocks.by_unit(gram[:, q, q] - np.einsum("ia,ab,ib->i", Zw, ratio_cov, h))
    onto = blocks.by_unit(gram[:, q, q + 1 :] - np.einsum("ia,iac->ic", Zw, spread))
    shrink = 1.0 / (1.0 + ratio_outer * weight)
    outer_effects = shrink[:, None] * onto
    products = blocks.by_unit(T)
    if ratio_outer != 0.0:
        products = products - ratio_outer * onto[:, :, None] * outer_effects[:, None, :]
        K = K - ratio_outer * h[:, :, None] * blocks.of_unit(outer_effects)[:, None, :]
    log_det = float(np.log(det).sum() - np.log(shrink).sum())
    return Forms(H, h, K, weight, outer_effects, shrink, products, ratio_outer, log_det)


def forms_at(blocks: Blocks, components: Components) -> Forms:
    """Return the forms at components given in squared units of y (still for sigma^2 = 1)."""
    if not components.residual_var > 0.0:
        raise SpecificationError(
            "The residual variance must be positive. Leave out a variable without spread."
        )
    return forms(
        blocks,
        np.asarray(components.random_cov, np.float64) / components.residual_var,
        components.outer_var / components.residual_var,
    )


def solve_fixed(products: Array) -> tuple[Array, Array, float]:
    """Return beta (p,), (X'V^-1 X)^-1 and r'V^-1 r from D'V^-1 D (p + 1, p + 1)."""
    p = len(products) - 1
    cov = np.asarray(np.linalg.inv(products[:p, :p]))
    beta = cov @ products[:p, p]
    direction = np.append(-beta, 1.0)
    return beta, 0.5 * (cov + cov.T), float(direction @ products @ direction)
