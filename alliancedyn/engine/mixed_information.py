"""Information about the variances of a mixed model, and how its fixed effects' errors hang on them.

V is linear in its parameters theta (the elements of G, omega, sigma^2), dV/dtheta_k = V_k. With
P = V^-1 - V^-1 X C X'V^-1, C = (X'V^-1 X)^-1 and r = y - X beta, everything first and second order
about theta is made of

    P_k  = -X'V^-1 V_k V^-1 X,            Q_kl = X'V^-1 V_k V^-1 V_l V^-1 X,
    t_kl = tr(V^-1 V_k V^-1 V_l),         and the same forms with r in the place of X.

sigma^2 needs no powers of V^-1 beyond these: I = (V - sum_k theta_k V_k) / sigma^2, so the
direction of V itself stands in for it and the result is carried back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import null_space

from alliancedyn.engine.blocks import Array, Blocks, Components, Forms, forms_at, solve_fixed
from alliancedyn.engine.mixed_effects import variance_names

# A variance below this share of the residual's effect on an average client counts as zero.
AT_BOUND = 1e-9
# A combination of variances about which less than this share of the expected is known: nothing.
LEAST_INFORMATION = 1e-8


@dataclass(frozen=True)
class MixedInformation:
    """Second-order facts about a mixed model at given components.

    The r parameters are G[0, 0], G[0, 1], ..., G[1, 1], ... (upper triangle by rows), the outer
    variance if there is an outer level, and the residual variance, in squared units of y.

    Attributes
    ----------
    beta, beta_cov : arrays (p,), (p, p)
        Generalised least squares at the components, and C.
    names : tuple of str
        ``"random_cov[0,1]"``, ..., ``"outer_var"``, ``"residual_var"``.
    observed, expected : arrays (r, r)
        Information about theta from the profiled (restricted) log-likelihood, and its mean.
    slopes : array (r, p, p)
        dC/dtheta_k = -C P_k C.
    products : array (r, p, p)
        P_k.
    pairs : array (r, r, p, p)
        Q_kl.
    free : array (r, f)
        Directions of theta that are inside the parameter space; those at a bound of zero are
        missing. The identity where no variance is at its bound.
    """

    beta: Array
    beta_cov: Array
    names: tuple[str, ...]
    observed: Array
    expected: Array
    slopes: Array
    products: Array
    pairs: Array
    free: Array

    @property
    def variance_cov(self) -> Array:
        """Asymptotic covariance (r, r) of theta by the observed information; 0 at a bound."""
        return inverse_within(self.observed, self.expected, self.free)

    @property
    def variance_cov_expected(self) -> Array:
        """The same by the expected information."""
        return inverse_within(self.expected, self.expected, self.free)


def inverse_within(information: Array, expected: Array, free: Array) -> Array:
    """Invert an information (r, r) on the directions ``free`` (r, f) alone.

    Directions in which it is not positive, which no maximum has, are left out; they are judged on
    the scale of the expected information, so units do not matter.
    """
    if not free.shape[1]:
        return np.zeros_like(information)
    unit = 1.0 / np.sqrt(np.einsum("ki,kl,li->i", free, expected, free))
    roots, axes = np.linalg.eigh(np.outer(unit, unit) * (free.T @ information @ free))
    kept = roots > LEAST_INFORMATION
    half = (free * unit) @ (axes[:, kept] / np.sqrt(roots[kept]))
    return np.asarray(half @ half.T)


def mixed_information(
    blocks: Blocks, components: Components, *, reml: bool = True
) -> MixedInformation:
    """Return the information about the variances of a mixed model.

    Parameters
    ----------
    blocks : Blocks
        Cross-products by client.
    components : Components
        Where to evaluate: usually the (restricted) maximum-likelihood estimates.
    reml : bool
        Whether theta maximises the restricted likelihood.

    References
    ----------
    Kenward & Roger (1997), Small sample inference for fixed effects from restricted maximum
    likelihood, Biometrics 53: P, Q and the expected information.
    """
    at = forms_at(blocks, components)
    sigma2, p = components.residual_var, blocks.columns
    beta, cov, _ = solve_fixed(np.asarray(at.products.sum(axis=0)))
    turn = np.eye(p + 1)
    turn[:p, p] = -beta  # [X y] turn = [X r]
    traces, products, pairs = _directions(blocks, at, turn)
    carry = _to_natural(components, blocks.outer is not None)
    traces = carry.T @ traces @ carry / sigma2**2
    products = np.einsum("ak,aij->kij", carry, products) / sigma2**2
    pairs = np.einsum("ak,bl,abij->klij", carry, carry, pairs) / sigma2**3
    C, P, Q = sigma2 * cov, -products[:, :p, :p], pairs[:, :, :p, :p]
    spread = np.asarray(C @ P)
    if reml:
        traces = traces - 2.0 * np.einsum("ij,klji->kl", C, Q)
        traces = traces + np.einsum("kij,lji->kl", spread, spread)
    toward = products[:, p, :p]
    squares = pairs[:, :, p, p] - toward @ C @ toward.T
    return MixedInformation(
        beta=blocks.shifted_back(beta),
        beta_cov=C,
        names=variance_names(blocks.effects, blocks.outer is not None),
        observed=0.5 * (squares + squares.T) - 0.5 * traces,
        expected=0.5 * traces,
        slopes=-np.asarray(spread @ C),
        products=P,
        pairs=Q,
        free=free_directions(blocks, components),
    )


def still_directions(blocks: Blocks, components: Components) -> tuple[Array, Array]:
    """Return combinations of random effects that do not vary.

    Columns a (q, d), orthonormal, with Var(sum_j a_j unit_j u_j) = 0, and unit (q,), the mean
    length of a client's columns of Z, which makes effects comparable.
    """
    q = blocks.effects
    mean = blocks.gram[:, :q, :q].mean(axis=0)
    unit = np.sqrt(np.maximum(np.diag(mean), np.finfo(float).tiny))
    scaled = components.random_cov * np.outer(unit, unit) / components.residual_var
    roots, axes = np.linalg.eigh(scaled)
    return axes[:, roots <= AT_BOUND * max(1.0, float(roots.max()))], unit


def free_directions(blocks: Blocks, components: Components) -> Array:
    """Return the directions (r, f) in which theta is not held by a variance of zero.

    G of rank below q lies on a face of the positive semidefinite matrices: with its null space N,
    only directions E with N'E N = 0 stay on it.
    """
    q = blocks.effects
    still, unit = still_directions(blocks, components)
    null = unit[:, None] * still
    corner = np.tril_indices(null.shape[1])
    parts = elements(q)
    held = np.array([(null.T @ part @ null)[corner] for part in parts])
    inside = null_space(held.T) if null.shape[1] else np.eye(len(held))
    tail = [1.0]
    if blocks.outer is not None:
        rows = float(blocks.rows) / blocks.units
        at_bound = components.outer_var * rows <= AT_BOUND * components.residual_var
        tail = [0.0 if at_bound else 1.0, 1.0]
    free = np.zeros((len(held) + len(tail), inside.shape[1] + len(tail)))
    free[: len(held), : inside.shape[1]] = inside
    free[len(held) :, inside.shape[1] :] = np.diag(tail)
    return np.asarray(free[:, np.abs(free).sum(axis=0) > 0.0])


def elements(q: int) -> list[Array]:
    """Return dG by each element of its upper triangle, by rows."""
    parts = []
    for a in range(q):
        for b in range(a, q):
            E = np.zeros((q, q))
            E[a, b] = E[b, a] = 1.0
            parts.append(E)
    return parts


def _to_natural(components: Components, outer: bool) -> Array:
    """Return (r, r): column k is dV/dtheta_k in the directions V_1, ..., V_(r-1), V / sigma^2."""
    G = np.asarray(components.random_cov, np.float64) / components.residual_var
    ratios = list(G[np.triu_indices(len(G))])
    if outer:
        ratios.append(components.outer_var / components.residual_var)
    carry = np.eye(len(ratios) + 1)
    carry[:-1, -1] = -np.array(ratios)
    return carry


@dataclass(frozen=True)
class _Reach:
    """Forms of [X r] and of w with the random effects, per direction E of G."""

    N: Array  # Z'V^-1 [X r], (N, q, p + 1)
    n: Array  # w'V^-1 [X r], (units, p + 1)
    H: Array
    h: Array
    c: Array  # omega shrink / sigma^2, (units,)
    shrink: Array
    weight: Array  # w'V^-1 w, (units,)
    E: list[Array]
    own: list[Array]  # sum over a block of h'E h
    across: list[Array]  # sum over a block of N'E h


def _reach(blocks: Blocks, at: Forms, turn: Array) -> _Reach:
    q = blocks.effects
    E = elements(q)
    N, H, h = np.asarray(at.effects @ turn), at.inner, at.toward
    shrink = at.shrink
    return _Reach(
        N=N,
        n=np.asarray(at.outer_effects @ turn),
        H=H,
        h=h,
        c=at.ratio_outer * shrink,
        shrink=shrink,
        weight=np.asarray(at.outer_weight) * shrink,
        E=E,
        own=[np.asarray(blocks.by_unit(np.einsum("ia,ab,ib->i", h, e, h))) for e in E],
        across=[np.asarray(blocks.by_unit(np.einsum("iac,ab,ib->ic", N, e, h))) for e in E],
    )


def _directions(blocks: Blocks, at: Forms, turn: Array) -> tuple[Array, Array, Array]:
    """Return t, P, Q in the directions of the elements of G, of omega and of V / sigma^2."""
    reach, size = _reach(blocks, at, turn), len(turn)
    count = len(reach.E) + (blocks.outer is not None) + 1
    t, P = np.zeros((count, count)), np.zeros((count, size, size))
    Q = np.zeros((count, count, size, size))
    _add_random(blocks, reach, t, P, Q)
    if blocks.outer is not None:
        _add_outer(reach, t, P, Q)
    P[-1] = turn.T @ at.products.sum(axis=0) @ turn
    t[-1, -1] = blocks.rows
    for k in range(count):
        Q[k, -1] = Q[-1, k] = P[k]
    return t, P, Q


def _add_random(blocks: Blocks, reach: _Reach, t: Array, P: Array, Q: Array) -> None:
    """Fill in the elements of G.

    Within a block Z_i'V^-1 Z_j = [i = j] H_i - c h_i h_j', so a sum over pairs of clients is a sum
    over clients minus a product of sums over the block.
    """
    H, h, c = reach.H, reach.h, reach.c
    c_client = np.asarray(blocks.of_unit(c))
    EN = [e @ reach.N for e in reach.E]
    HE, Eh = [H @ e for e in reach.E], [h @ e for e in reach.E]
    for k in range(len(reach.E)):
        P[k] = np.tensordot(reach.N, EN[k], axes=((0, 1), (0, 1)))
        lone = np.einsum("iaa->i", HE[k]) - c_client * np.einsum("ia,ia->i", Eh[k], h)
        t[k, -1] = t[-1, k] = float(lone.sum())
        for m in range(k + 1):
            mixed = np.einsum("ia,iab,ib->i", Eh[k], H, Eh[m])
            t[k, m] = t[m, k] = (
                float(np.einsum("iab,iba->", HE[k], HE[m]))
                - 2.0 * float((c_client * mixed).sum())
                + float((c**2 * reach.own[k] * reach.own[m]).sum())
            )
            Q[k, m] = np.tensordot(EN[k], H @ EN[m], axes=((0, 1), (0, 1)))
            Q[k, m] -= (c[:, None] * reach.across[k]).T @ reach.across[m]
            Q[m, k] = Q[k, m].T


def _add_outer(reach: _Reach, t: Array, P: Array, Q: Array) -> None:
    """Fill in omega: Z_i'V^-1 w = shrink h_i."""
    w, n = len(reach.E), reach.n
    P[w] = n.T @ n
    t[w, w] = float((reach.weight**2).sum())
    t[w, -1] = t[-1, w] = float(reach.weight.sum())
    Q[w, w] = (reach.weight[:, None] * n).T @ n
    for k in range(w):
        t[k, w] = t[w, k] = float((reach.shrink**2 * reach.own[k]).sum())
        Q[k, w] = (reach.shrink[:, None] * reach.across[k]).T @ n
        Q[w, k] = Q[k, w].T
