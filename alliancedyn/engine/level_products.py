"""Products of two scores by level of nested data: observed, and freed of sampling error.

For scores y = (a, s) of sessions in clients in therapists,

    y = mean + therapist + client + session,   Cov = Omega_T, Omega_C, Omega_S (2 x 2) by level.

Everything here is a sum over therapists of what each contributes, so the estimates without a group
of therapists cost a subtraction, not another pass over the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

LEVELS = ("therapist", "client", "session")
# Below this reciprocal condition the levels cannot be told apart.
_SEPARABLE = 1e-10


@dataclass(frozen=True)
class NestedPairs:
    """Pairs of scores (a, s), centered at their grand means and reduced to clients.

    Attributes
    ----------
    size : array (I,)
        Pairs of each client, at least one.
    mean : array (I, 2)
        Each client's means, score points from the grand means.
    within : array (I, 3)
        Sums aa, as, ss of products of deviations from the client's means.
    therapist : integer array (I,)
        Therapist of each client, 0 .. J - 1, none empty.
    """

    size: Array
    mean: Array
    within: Array
    therapist: Codes

    @property
    def therapists(self) -> int:
        """Number of therapists."""
        return int(self.therapist.max()) + 1

    def by_therapist(self, values: Array) -> Array:
        """Sum values (I, ...) over the clients of each therapist, giving (J, ...)."""
        return sum_codes(self.therapist, values, self.therapists)

    @property
    def pairs(self) -> Array:
        """Pairs of each therapist (J,)."""
        return self.by_therapist(self.size)


def reduce_pairs(a: Array, s: Array, client: Codes, therapist: Codes) -> NestedPairs:
    """Reduce pairs (n,) of clients 0 .. I - 1, with the therapist (I,) of each, to clients."""
    count = len(therapist)
    y = np.column_stack([a - a.mean(), s - s.mean()])
    size = np.bincount(client, minlength=count).astype(np.float64)
    mean = sum_codes(client, y, count) / size[:, None]
    d = y - mean[client]
    products = np.column_stack([d[:, 0] * d[:, 0], d[:, 0] * d[:, 1], d[:, 1] * d[:, 1]])
    return NestedPairs(size, mean, sum_codes(client, products, count), therapist)


def sum_codes(codes: Codes, values: Array, count: int) -> Array:
    """Sum rows of values (n, ...) over equal codes, giving (count, ...)."""
    flat = values.reshape(len(values), -1)
    sums = np.column_stack([np.bincount(codes, column, count) for column in flat.T])
    return np.asarray(sums.reshape(count, *values.shape[1:]))


def observed_products(pairs: NestedPairs, group: Codes) -> tuple[Array, Array]:
    """Return the nested sums of squares and products, of all therapists and without each group.

        total = sum_j N_j (m_j - m)(.)' + sum_ji n_i (m_i - m_j)(.)' + sum_jit (y_it - m_i)(.)'

    Parameters
    ----------
    pairs : NestedPairs
    group : integer array (J,)
        Group of therapists, 0 .. G - 1.

    Returns
    -------
    arrays (3, 2) and (G, 3, 2)
        Sums aa and as by level (therapist, client, session).
    """
    N = pairs.pairs
    mean = pairs.by_therapist(pairs.size[:, None] * pairs.mean) / N[:, None]
    away = pairs.mean - mean[pairs.therapist]
    client = pairs.by_therapist(pairs.size[:, None] * away[:, :1] * away)
    session = pairs.by_therapist(pairs.within[:, :2])
    terms = np.column_stack([N, N[:, None] * mean, N[:, None] * mean[:, :1] * mean])
    terms = np.column_stack([terms, client, session])

    def products(sums: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            correction = sums[..., 1:2] * sums[..., 1:3] / sums[..., :1]
        levels = [sums[..., 3:5] - correction, sums[..., 5:7], sums[..., 7:9]]
        return np.stack(levels, axis=-2)

    whole = terms.sum(axis=0)
    return products(whole), products(whole - sum_codes(group, terms, int(group.max()) + 1))


def expected_products(pairs: NestedPairs) -> Array:
    """Return K (2, 3): E(sum of squares at level l) = sum_m K[l, m] Omega_m.

    Rows are therapist and client, columns therapist, client and session. Of balanced data with n
    pairs for each of c clients of J therapists, K[0] = (J - 1) (c n, n, 1).
    """
    N, squares = pairs.pairs, pairs.by_therapist(pairs.size**2)
    total, inside = N.sum(), (squares / N).sum()
    therapist = [total - (N**2).sum() / total, inside - squares.sum() / total, len(N) - 1.0]
    client = [0.0, total - inside, len(pairs.size) - len(N)]
    return np.array([therapist, client], dtype=np.float64)


def estimated_products(
    pairs: NestedPairs, ratios: tuple[float, float], active: list[int], group: Codes
) -> tuple[Array, Array]:
    """Return variances of a and covariances of a with s by level, free of sampling error.

    With V_l the pattern of level l (11' within therapists, within clients, identity), the inverse
    H of V = sum_l rho_l V_l (rho = 1 for sessions) and P = H - H1 (1'H1)^-1 1'H, the components
    solve

        sum_m tr(P V_l P V_m) Omega_m[u, v] = u' P V_l P v     for every active level l.

    They are unbiased whatever the ratios (minimum norm quadratic estimation; Rao 1971); at the
    ratios of a REML fit of a, Omega[a, a] is that fit's, the equations being those of REML. They
    are linear in s: s + c a in place of s adds c times the variances to the covariances.

    Parameters
    ----------
    pairs : NestedPairs
    ratios : (therapist, client)
        Variances of a by level, as multiples of that of sessions.
    active : list of int
        Positions in ``LEVELS`` of the levels that have a variance.
    group : integer array (J,)
        Group of therapists, 0 .. G - 1.

    Returns
    -------
    arrays (3, 2) and (G, 3, 2)
        Components aa and as by level, of all therapists and without each group at the same
        ratios. Zero at levels that are not active; NaN where levels cannot be told apart.
    """
    terms = _terms(pairs, *ratios)
    whole = terms.sum(axis=0)
    without = whole - sum_codes(group, terms, int(group.max()) + 1)
    return _solve(whole[None], active)[0], _solve(without, active)


def _terms(pairs: NestedPairs, rho_t: float, rho_c: float) -> Array:
    """Return what each therapist adds to the equations, flat (J, 3 + 27 + 9 + 9).

    On the rows of client i, H y is the deviation from the client's mean plus f_i = d_i (m_i - t),
    with d = 1 / (1 + rho_C n), A = n d and t = rho_T sum A m / (1 + rho_T sum A).
    """
    n, by = pairs.size, pairs.by_therapist
    d = 1.0 / (1.0 + rho_c * n)
    A = n * d
    weight = by(A)
    shrink = rho_t / (1.0 + rho_t * weight)
    columns = np.column_stack([np.ones_like(n), pairs.mean])
    pulled = shrink[:, None] * by(A[:, None] * columns)
    f = d[:, None] * (columns - pulled[pairs.therapist])
    whole = by(n[:, None] * f)
    first = whole.copy()
    quad = np.empty((len(weight), 3, 3, 3))
    quad[:, 0] = whole[:, :, None] * whole[:, None, :]
    quad[:, 1] = by((n[:, None] * f)[:, :, None] * (n[:, None] * f)[:, None, :])
    quad[:, 2] = by(n[:, None, None] * f[:, :, None] * f[:, None, :])
    inside = by(pairs.within)
    quad[:, 2, 1, 1] += inside[:, 0]
    quad[:, 2, 1, 2] += inside[:, 1]
    quad[:, 2, 2, 1] += inside[:, 1]
    quad[:, 2, 2, 2] += inside[:, 2]
    # V_l H 1 is constant within clients: the therapist's sum, n f, f.
    g = np.column_stack([whole[pairs.therapist, 0], n * f[:, 0], f[:, 0]])
    sums = by(A[:, None] * g)
    cross = by(A[:, None, None] * g[:, :, None] * g[:, None, :])
    cross -= shrink[:, None, None] * sums[:, :, None] * sums[:, None, :]
    parts = (first, quad, cross, _traces(pairs, d, shrink, whole[:, 0], f[:, 0]))
    return np.column_stack([part.reshape(len(weight), -1) for part in parts])


def _traces(pairs: NestedPairs, d: Array, shrink: Array, total: Array, f: Array) -> Array:
    """Return tr(H V_l H V_m) of each therapist (J, 3, 3)."""
    n, by = pairs.size, pairs.by_therapist
    A = n * d
    out = np.empty((len(total), 3, 3))
    out[:, 0, 0] = total**2
    out[:, 0, 1] = out[:, 1, 0] = by((n * f) ** 2)
    out[:, 0, 2] = out[:, 2, 0] = by(n * f**2)
    out[:, 1, 1] = by(A**2) - 2.0 * shrink * by(A**3) + (shrink * by(A**2)) ** 2
    mixed = by(A * d) - 2.0 * shrink * by(A**2 * d) + shrink**2 * by(A**2) * by(A * d)
    out[:, 1, 2] = out[:, 2, 1] = mixed
    means = by(d**2) - 2.0 * shrink * by(n * d**3) + (shrink * by(n * d**2)) ** 2
    out[:, 2, 2] = by(n - 1.0) + means
    return out


def _solve(sums: Array, active: list[int]) -> Array:
    """Solve the equations of each row of summed terms (G, 48), giving (G, 3, 2)."""
    count = len(sums)
    first, quad, cross, trace = np.split(sums, [3, 30, 39], axis=1)
    quad = quad.reshape(count, 3, 3, 3)
    cross, trace = cross.reshape(count, 3, 3), trace.reshape(count, 3, 3)
    one = quad[:, :, 0, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        mu = first[:, None, 1:] / first[:, :1, None]
        x = first[:, 0][:, None, None]
        matrix = trace - 2.0 * cross / x + one[:, :, None] * one[:, None, :] / x**2
    a = mu[..., :1]
    right = quad[:, :, 1, 1:] - a * quad[:, :, 0, 1:] - mu * quad[:, :, :1, 1]
    right = right + a * mu * one[:, :, None]
    out = np.full((count, 3, 2), np.nan)
    matrix = matrix[:, active][:, :, active]
    scale = np.sqrt(np.abs(np.einsum("gll->gl", matrix)))
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = matrix / (scale[:, :, None] * scale[:, None, :])
    usable = np.isfinite(unit).all(axis=(1, 2))
    usable[usable] = 1.0 / np.linalg.cond(unit[usable]) > _SEPARABLE
    if usable.any():
        inner = right[usable][:, active] / scale[usable][:, :, None]
        found = np.zeros((int(usable.sum()), 3, 2))
        found[:, active] = np.linalg.solve(unit[usable], inner) / scale[usable][:, :, None]
        out[usable] = found
    return out
