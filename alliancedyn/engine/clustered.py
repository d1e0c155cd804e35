"""Errors of a mixed model's fixed effects that stay right when its covariance is wrong.

With working covariance Phi_c of cluster c, W_c = Phi_c^-1, M = (X'WX)^-1 and e = y - X beta,

    Cov(beta) = M [sum_c s_c s_c'] M,    s_c = X_c'W_c A_c e_c,

A_c = I in CR0. In CR2 A_c is the symmetric matrix that makes the estimate unbiased if Phi is right,
A_c (Phi_c - X_c M X_c') A_c = Phi_c. Its size is that of the cluster, but s_c is not:

    s_c = X_c'K_c^(-1/2) e_c,   K_c = (Phi_c - X_c M X_c') Phi_c,
    K^(-1/2) = (2 / pi) integral_0^inf (K + t^2 I)^-1 dt,

(K + t^2 I)^-1 is R = (Phi^2 + t^2 I)^-1 plus a correction of rank p, and Phi R + i t R =
(Phi - i t I)^-1 has the structure of V^-1. So every node of the integral costs one pass over the
clients' cross-products, however many rows a cluster has. On the scale of elliptic functions the
error falls geometrically with the number of nodes; enough are taken for rounding to be all that is
left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import ellipj, ellipkm1

from alliancedyn.engine.blocks import (
    Array,
    Blocks,
    Codes,
    Components,
    forms_at,
    solve_fixed,
    sum_over,
)
from alliancedyn.errors import DataError, SpecificationError

Correction = Literal["CR0", "CR1", "CR1S", "CR2"]
# A cluster that alone carries an effect has leverage 1, and no variance is left to correct by.
LARGEST_LEVERAGE = 1.0 - 1e-9
DIGITS = 34.0  # of the integral, as a natural logarithm


@dataclass(frozen=True)
class ClusteredCov:
    """Cluster-robust covariance of the fixed effects.

    Attributes
    ----------
    beta : array (p,)
        Generalized least squares at the components given.
    cov : array (p, p)
        Robust covariance.
    clusters : int
        Number of clusters m.
    scores : array (m, p)
        M s_c, each cluster's part in the covariance: ``scores.T @ scores`` is ``cov``.
    reached : array (m, p, p) or None
        CR2 only: M (X_c'W_c A_c X_c), from which degrees of freedom follow.
    own : array (m, p, p) or None
        CR2 only: M X_c'W_c X_c M.
    whole : array (p, p)
        M.
    """

    beta: Array
    cov: Array
    clusters: int
    scores: Array
    reached: Array | None
    own: Array | None
    whole: Array

    def freedom(self, contrasts: Array) -> Array:
        """Return Satterthwaite's degrees of freedom of contrasts (m, p) under CR2.

        The robust variance is a quadratic form; if Phi is right, its mean and variance are

            sum_c P_cc and 2 sum_cd P_cd^2,   P_cd = a_c'(Phi_c [c = d] - X_c M X_d') a_d,
            a_c = A_c W_c X_c M l.

        References
        ----------
        Bell & McCaffrey (2002); Pustejovsky & Tipton (2018), Journal of Business & Economic
        Statistics 36.
        """
        if self.reached is None or self.own is None:
            raise SpecificationError("Degrees of freedom belong to CR2. Ask for correction='CR2'.")
        L = np.atleast_2d(np.asarray(contrasts, dtype=np.float64))
        diagonal = np.einsum("mi,cij,mj->mc", L, self.own, L)
        u = np.einsum("mi,cij->mcj", L, self.reached)
        inner = np.einsum("mcj,mck->mjk", u, u) @ self.whole
        alone = np.einsum("mcj,jk,mck->mc", u, self.whole, u)
        off = np.einsum("mjk,mkj->m", inner, inner) - (alone**2).sum(axis=1)
        return np.asarray(diagonal.sum(axis=1) ** 2 / ((diagonal**2).sum(axis=1) + off))


def clustered_cov(
    blocks: Blocks,
    components: Components,
    cluster: Codes | None = None,
    *,
    correction: Correction = "CR2",
) -> ClusteredCov:
    """Return the cluster-robust covariance of a mixed model's fixed effects.

    Parameters
    ----------
    blocks : Blocks
        Cross-products by client.
    components : Components
        The working covariance: the model's estimates.
    cluster : integer array (N,), optional
        Cluster of each client, 0 .. m - 1, none empty. Without it: the independent blocks of the
        model (outer units, or clients).
    correction : {"CR0", "CR1", "CR1S", "CR2"}
        None; m / (m - 1); m (n - 1) / ((m - 1)(n - p)); exact under the working covariance.

    Raises
    ------
    DataError
        If the cluster codes do not fit the clients.
    SpecificationError
        If clusters split an outer unit whose variance is positive, if there are fewer than two,
        or if the correction is unknown.

    References
    ----------
    Bell & McCaffrey (2002), Survey Methodology 28; Pustejovsky & Tipton (2018), Journal of Business
    & Economic Statistics 36, 672-683, equations 9 and 10; Hale, Higham & Trefethen (2008), SIAM
    Journal on Numerical Analysis 46, 2505-2523, for the integral.
    """
    if correction not in ("CR0", "CR1", "CR1S", "CR2"):
        raise SpecificationError(
            f"Unknown correction {correction!r}. Choose 'CR0', 'CR1', 'CR1S' or 'CR2'."
        )
    codes = _clusters_of_blocks(blocks, components, cluster)
    m = int(codes.max()) + 1
    if m < 2:
        raise SpecificationError("One cluster has no spread between clusters. Use more clusters.")
    sigma2, p = components.residual_var, blocks.columns
    by_unit = np.asarray(forms_at(blocks, components).products) / sigma2
    beta, M, _ = solve_fixed(by_unit.sum(axis=0))
    root = np.asarray(np.linalg.cholesky(M))
    turn = np.eye(p + 1)
    turn[:p, :p], turn[:p, p] = root, -beta  # [X y] turn = [X root, e]
    plain = turn.T @ np.asarray(sum_over(codes, by_unit, m)) @ turn
    n, factor, reached, own = blocks.rows, 1.0, None, None
    s = plain[:, :p, p]
    if correction == "CR2":
        corrected = _corrected(blocks, components, codes, plain, turn)
        s, own = corrected[:, :, p], root @ plain[:, :p, :p] @ root.T
        reached = root @ corrected[:, :, :p] @ np.linalg.inv(root)
    elif correction != "CR0":
        factor = m / (m - 1)
        factor *= (n - 1) / (n - p) if correction == "CR1S" else 1.0
    scores = math.sqrt(factor) * s @ root.T
    effects = blocks.shifted_back(beta)
    return ClusteredCov(effects, scores.T @ scores, m, scores, reached, own, M)


def _clusters_of_blocks(blocks: Blocks, components: Components, cluster: Codes | None) -> Codes:
    """Return the cluster of each independent block, (units,)."""
    if cluster is None:
        return np.arange(blocks.units)
    codes = np.asarray(cluster)
    if codes.shape != (len(blocks.gram),) or codes.dtype.kind not in "iu":
        raise DataError("Clusters need one integer code per client.")
    if codes.min() < 0 or np.bincount(codes).min() == 0:
        raise DataError("Cluster codes must run from 0 without gaps. Use numpy.unique(...)[1].")
    if blocks.outer is None:
        return codes.astype(np.int64)
    of_unit = np.zeros(blocks.units, dtype=np.int64)
    of_unit[blocks.outer] = codes
    if np.any(of_unit[blocks.outer] != codes):
        raise SpecificationError(
            "Clusters split an outer unit, whose clients the model holds to be dependent. Cluster "
            "by the outer unit, or leave the outer level out of the model."
        )
    return of_unit


def _corrected(
    blocks: Blocks, components: Components, codes: Codes, plain: Array, turn: Array
) -> Array:
    """Return X'K^(-1/2) [X e] per cluster (m, p, p + 1), for X turned so that M = I."""
    p, sigma2 = blocks.columns, components.residual_var
    roots = np.linalg.eigvalsh(plain[:, :p, :p])[:, -1]
    leverage = min(float(roots.max()), LARGEST_LEVERAGE)
    # leverage 1 up to rounding: keep I - X'Phi R X positive without moving what is estimated
    ease = min(1.0, LARGEST_LEVERAGE / float(roots.max()))
    nodes, weights = _quadrature((1.0 - leverage) * sigma2**2, _largest(blocks, components) ** 2)
    total = plain[:, :p, :].copy()
    resolvent = _resolvent(blocks, components, codes, turn)
    for t, weight in zip(nodes, weights, strict=True):
        shifted = resolvent.at(complex(sigma2, -t))[:, :p, :]
        R, spread = shifted.imag / t, shifted.real
        left = np.eye(p) - ease * spread[:, :, :p]
        total += weight * ease * (R[:, :, :p] @ np.linalg.solve(left, spread))
    return np.asarray(total)


@dataclass(frozen=True)
class _Resolvent:
    """Forms of (V - z I)^-1 between the columns K = [w X e], at many z.

    With G = L L', L'A_i L = U diag(d) U' and s = U'L'Z_i'K, for a client and shift = sigma^2 - z,

        K'(V_i - z I)^-1 K = (K'K - sum_k s_k s_k' / (shift + d_k)) / shift.
    """

    plain: Array  # K'K by independent block (units, m, m)
    s: Array  # (N, q, m)
    d: Array  # (N, q)
    unit: Codes  # independent block of each client
    outer_var: float
    codes: Codes  # cluster of each block
    clusters: int

    def at(self, shift: complex) -> NDArray[np.complex128]:
        """Return [X e]'(V - z I)^-1 [X e] per cluster, (clusters, p + 1, p + 1)."""
        forms = (self.plain - _pulled(self.s, self.d, self.unit, shift, len(self.plain))) / shift
        inner = forms[:, 1:, 1:]
        if self.outer_var > 0.0:
            onto = forms[:, 0, 1:]
            pull = self.outer_var / (1.0 + self.outer_var * forms[:, 0, 0])
            inner = inner - pull[:, None, None] * onto[:, :, None] * onto[:, None, :]
        return np.asarray(sum_over(self.codes, inner, self.clusters))


def _resolvent(blocks: Blocks, components: Components, codes: Codes, turn: Array) -> _Resolvent:
    q, gram = blocks.effects, blocks.gram
    roots, axes = np.linalg.eigh(components.random_cov)
    L = axes * np.sqrt(np.maximum(roots, 0.0))
    d, U = np.linalg.eigh(L.T @ gram[:, :q, :q] @ L)
    columns = np.eye(len(turn) + 1)
    columns[1:, 1:] = turn
    unit = np.arange(len(gram)) if blocks.outer is None else blocks.outer
    return _Resolvent(
        plain=columns.T @ np.asarray(blocks.by_unit(gram[:, q:, q:])) @ columns,
        s=np.ascontiguousarray((L @ U).transpose(0, 2, 1) @ (gram[:, :q, q:] @ columns)),
        d=np.maximum(d, 0.0),
        unit=unit,
        outer_var=components.outer_var,
        codes=codes,
        clusters=int(codes.max()) + 1,
    )


@njit(cache=True)
def _pulled(s: Array, d: Array, unit: Codes, shift: complex, units: int) -> NDArray[np.complex128]:
    """Sum s_k s_k' / (shift + d_k) over the clients of each unit, (units, m, m)."""
    clients, q, m = s.shape
    total = np.zeros((units, m, m), dtype=np.complex128)
    for client in range(clients):
        own = total[unit[client]]
        for k in range(q):
            weight = 1.0 / (shift + d[client, k])
            for a in range(m):
                scaled = weight * s[client, k, a]
                for b in range(a + 1):
                    own[a, b] += scaled * s[client, k, b]
    for u in range(units):
        for a in range(m):
            for b in range(a):
                total[u, b, a] = total[u, a, b]
    return total


def _largest(blocks: Blocks, components: Components) -> float:
    """Return a bound on the largest eigenvalue of V."""
    q, gram = blocks.effects, blocks.gram
    largest = components.residual_var
    largest += float(np.einsum("ab,iba->i", components.random_cov, gram[:, :q, :q]).max())
    return largest + components.outer_var * float(np.max(blocks.by_unit(gram[:, q, q])))


def _quadrature(low: float, high: float) -> tuple[Array, Array]:
    """Return t_j and weights with sum_j weight_j / (k + t_j^2) = k^(-1/2) for low <= k <= high.

    t = low^(1/2) sn(v) / cn(v) with parameter 1 - low / high, v on the midpoints of (0, K'); in the
    upper half as (high)^(1/2) cn(u) / sn(u), u = K' - v, which loses no digits.
    """
    ratio = low / high
    width = float(ellipkm1(ratio))
    half = math.ceil(0.5 * DIGITS * width / math.pi**2) + 1
    v = (np.arange(half) + 0.5) * width / (2 * half)
    sn, cn, dn, _ = ellipj(v, 1.0 - ratio)
    nodes = np.concatenate([math.sqrt(low) * sn / cn, math.sqrt(high) * cn / sn])
    weights = np.concatenate([math.sqrt(low) * dn / cn**2, math.sqrt(high) * dn / sn**2])
    return nodes, weights * (width / (math.pi * half))
