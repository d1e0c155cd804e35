"""What a pattern of ratings can say of lagged effects: which gaps between scores there are.

The scores of a client at sessions s and t covary by phi to the power t - s. Where no two of them
are one session apart, only a power of phi is known, and a power has several roots.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Matrices = dict[str, Array]

FEW = 0.25  # pairs one session apart, relative to those at the most frequent lag: hardly any
FARTHEST = 12  # lags beyond say little of phi
OWN = 0.3  # starting autoregression where no covariance tells
WELL = 1e6  # condition number up to which a matrix is inverted
MANY = 3  # series beyond which only some roots are tried


def pairs_at_lags(seen: Flags) -> Array:
    """Count pairs of scores by lag: i at session t, j at t - lag, same client; (T, k, k).

    Parameters
    ----------
    seen : (N, T, k)
        Which scores are there.
    """
    n, T, k = seen.shape
    flat = seen.reshape(n, T * k).astype(np.float32)  # whole numbers up to 16 million: exact
    together = (flat.T @ flat).reshape(T, k, T, k)
    lags = [together[np.arange(lag, T), :, np.arange(T - lag)].sum(axis=0) for lag in range(T)]
    return np.array(lags, float)


def patchy(seen: Flags) -> bool:
    """Say whether some pair of series is hardly ever seen one session apart, but farther apart."""
    if seen.shape[1] < 3:
        return False
    pairs = pairs_at_lags(seen)
    return bool((pairs[1] < FEW * pairs[1:].max(axis=0)).any())


def common_gap(seen: Flags) -> int:
    """Return the largest number of which all gaps between scores of a client are multiples.

    0 if no client has scores of two sessions.
    """
    some = seen.any(axis=2)
    since_first = np.where(some, np.arange(some.shape[1]) - some.argmax(axis=1)[:, None], 0)
    return int(np.gcd.reduce(np.unique(since_first)))


def turned(seen: Flags) -> tuple[bool, tuple[int, ...]] | None:
    """Find a change of signs that leaves all scores' distribution as it is; None if there is none.

    Deviations w_tj that are multiplied by (-1)^t d_j follow -D phi D, by d_j alone D phi D. If
    within every client that is one sign, nothing in the data changes.

    Returns
    -------
    alternating : bool
        Whether signs alternate over sessions.
    signs : tuple of int
        d_j of each series, 1 or -1; the first is 1.
    """
    n, T, k = seen.shape
    odd = np.arange(T) % 2 == 1
    has = np.stack([seen[:, ~odd].any(axis=1), seen[:, odd].any(axis=1)], axis=1)  # (N, 2, k)
    kinds = np.unique(has.reshape(n, 2 * k), axis=0).reshape(-1, 2, k)
    for alternating in (False, True):
        for rest in product((1, -1), repeat=k - 1):
            signs = np.array((1, *rest))
            if not alternating and (signs > 0).all():
                continue
            over = np.stack([signs, -signs if alternating else signs])
            same = ~((kinds & (over > 0)).any(axis=(1, 2)) & (kinds & (over < 0)).any(axis=(1, 2)))
            if same.all():
                return alternating, tuple(int(d) for d in signs)
    return None


def lag_matrix(covariances: Array, pairs: Array, within: Array) -> Array:
    """Find phi by least squares from C_h = phi^h within at lags h = 1, 2, ....

    Parameters
    ----------
    covariances : (H, k, k)
        C_h, outcome by predictor h sessions before, unit-free.
    pairs : (H, k, k)
        Pairs of scores behind each; 0 = unknown.
    within : (k, k)
        Covariance at one session.
    """
    k = len(within)
    covariances, pairs = covariances[:FARTHEST], pairs[:FARTHEST]
    weight = np.sqrt(pairs / max(float(pairs.max()), 1.0))
    first = np.zeros((k, k))
    for j in range(k):
        lag = int(pairs[:, j, j].argmax())
        share = covariances[lag, j, j] / within[j, j]
        first[j, j] = min(share, 0.9) ** (1.0 / (lag + 1)) if share > 0.0 else OWN

    def left(phi: Array) -> Array:
        power, out = within, []
        for C, w in zip(covariances, weight, strict=True):
            power = phi.reshape(k, k) @ power
            out.append((w * np.clip(power - C, -10.0, 10.0)).ravel())
        return np.concatenate(out)

    found = least_squares(left, first.ravel(), bounds=(-1.0, 1.0), max_nfev=100)
    return np.asarray(found.x.reshape(k, k))


def other_roots(matrices: Matrices) -> Iterator[Matrices]:
    """Yield the same parameters at other roots of the same powers of the lag matrix.

    With phi = V diag(l) V^-1, eigenvalues of either sign have the same squares; and -D phi D has
    the same effects across series, D being a matrix of signs.
    """
    for key in matrices:
        family, _, group = key.partition("|")
        if family not in ("phi", "lags", "self"):
            continue
        end = f"|{group}" if group else ""
        phi = _lags(matrices, family, end)
        for F in _turns(phi):
            yield _at(matrices, family, end, phi, F @ phi, F)
        for D in _mirrors(len(phi)):
            signed = {
                name: D @ matrices[name] @ D
                for name in (f"innovation_cov{end}", f"initial_cov{end}")
                if name in matrices and matrices[name].shape[-2:] == D.shape
            }
            yield {**_at(matrices, family, end, phi, -D @ phi @ D, None), **signed}


def _lags(matrices: Matrices, family: str, end: str) -> Array:
    """Return the lagged effects of the series on each other, (k, k)."""
    value = matrices[f"{family}{end}"]
    if family == "phi":
        return np.asarray(value[0])
    if family == "lags":  # dynamic panel equations: further predictors come last
        k = matrices[f"between_cov{end}"].shape[-1]
        return np.asarray(value.reshape(k, -1)[:, :k])
    phi = np.diag(1.0 + value[0])
    phi[~np.eye(len(phi), dtype=bool)] = matrices[f"coupling{end}"][0]
    return phi


def _at(
    matrices: Matrices, family: str, end: str, phi: Array, other: Array, F: Array | None
) -> Matrices:
    """Return parameters with another lag matrix; stable differences of scores stay as they are."""
    key, out = f"{family}{end}", dict(matrices)
    k = len(phi)
    if family == "phi":
        out[key] = matrices[key] + (other - phi)
        if F is not None and f"ma{end}" in matrices:
            out[f"ma{end}"] = F @ matrices[f"ma{end}"]
    elif family == "lags":
        lags = matrices[key].reshape(k, -1).copy()
        lags[:, :k] = other
        out[key] = lags.reshape(matrices[key].shape)
    else:
        out[key] = np.diag(other)[None] - 1.0
        out[f"coupling{end}"] = other[~np.eye(k, dtype=bool)][None]
    whole = family != "phi" or {f"initial_between_cov{end}", f"ma{end}"} & set(matrices)
    if whole and np.linalg.cond(np.eye(k) - phi) < WELL:
        keep = (np.eye(k) - other) @ np.linalg.inv(np.eye(k) - phi)
        out |= _passed_on(matrices, end, keep, anew=family != "self")
    return out


def _passed_on(matrices: Matrices, end: str, keep: Array, anew: bool) -> Matrices:
    """Change what acts at every session anew, so that the levels it leads to stay the same.

    Parameters
    ----------
    keep : (k, k)
        From what acted before to what has to act.
    anew : bool
        Whether intercepts act at every session, and not at the first alone.
    """
    k, out = len(keep), {}
    between = matrices[f"between_cov{end}"]
    r = between.shape[-1] // k
    acts = np.ones(r)
    acts[0] = float(anew)
    G = np.kron(keep, np.diag(acts)) + np.kron(np.eye(k), np.diag(1.0 - acts))
    out[f"between_cov{end}"] = G @ between @ G.T
    if (shared := matrices.get(f"initial_between_cov{end}")) is not None:
        moved = shared.reshape(-1, k * r) @ G.T
        out[f"initial_between_cov{end}"] = moved.reshape(shared.shape)
    for family in ("intercept", "trend", "trend2"):
        value = matrices.get(f"{family}{end}")
        if value is not None and value.size % k == 0 and (anew or family != "intercept"):
            out[f"{family}{end}"] = (value.reshape(-1, k) @ keep.T).reshape(value.shape)
    return out


def _turns(phi: Array) -> list[Array]:
    """Return matrices F that commute with phi and change the sign of some of its eigenvalues."""
    k = len(phi)
    V = np.linalg.eig(phi)[1]
    if k == 1 or k > MANY or np.linalg.cond(V) > WELL:
        return [-np.eye(k)]
    signs = [np.array(s) for s in product((1.0, -1.0), repeat=k) if min(s) < 0.0]
    turns = [(V * s) @ np.linalg.inv(V) for s in signs]
    return [F.real for F in turns if np.abs(F.imag).max() < 1e-9]  # conjugates together


def _mirrors(k: int) -> list[Array]:
    """Return matrices of signs that differ, up to their own sign."""
    if not 1 < k <= MANY:
        return []
    return [np.diag((1.0, *rest)) for rest in product((1.0, -1.0), repeat=k - 1) if min(rest) < 0.0]
