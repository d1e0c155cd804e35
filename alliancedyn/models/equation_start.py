"""Starting values of dynamic panel equations: from available-case moments, in closed form.

Lagged effects come from the differenced equations, whose errors have nothing to do with scores
two sessions back or earlier (nor with exogenous scores at any session): moments linear in the
effects, solved by least squares. What the equations then leave over, r_t = alpha + e_t, covaries
with earlier scores through alpha alone, and with itself over sessions likewise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.starting import make_definite
from alliancedyn.engine.system import Matrices
from alliancedyn.models.panel_equations import FEEDBACK, LAGS, SHARED, Plan

Array = NDArray[np.float64]

OWN = (-0.5, 0.9)  # range of a starting autoregression
CROSS = 1.0  # largest other starting effect, SDs per SD
STABLE = (0.1, 0.8)  # share of what is left over that starts as stable
MOST = 0.8  # largest starting correlation of client effects
FLOOR = 0.03  # smallest eigenvalue of starting correlations
LEAST = 1e-3  # singular value, relative to the largest, of moments that say something


def column_moments(wide: Array) -> tuple[Array, Array]:
    """Return available-case means and a definite covariance of the columns of (N, p)."""
    seen = ~np.isnan(wide)
    count = seen.sum(axis=0)
    mean = np.where(seen, wide, 0.0).sum(axis=0) / np.maximum(count, 1)
    around = np.where(seen, wide - mean, 0.0)
    both = seen.astype(float)
    sd = np.sqrt(np.square(around).sum(axis=0) / np.maximum(count, 1))
    sd = np.where(sd > 0.0, sd, 1.0)
    around /= sd
    correlation = around.T @ around / np.maximum(both.T @ both, 1.0)
    return mean, make_definite(correlation, FLOOR) * np.outer(sd, sd)


def start(plan: Plan, wide: Array) -> Matrices:
    """Return starting values of every matrix."""
    mean, S = column_moments(wide)
    q, k, g, T = len(plan.covariates), len(plan.targets), len(plan.given), len(plan.sessions)
    phi = np.stack([_lags(plan, S, y) for y in plan.targets])
    W = np.eye(len(S))[g:] - _paths(plan, phi)  # what is left over, r = W v
    own = slice(g - q, g)
    average = (W @ S[:, own]).reshape(T - 1, k, q).mean(axis=0)
    between = np.linalg.solve(S[own, own], average.T).T
    W[:, own] -= np.tile(between, (T - 1, 1))
    left = W @ S
    stable, passing = _split((left @ W.T).reshape(T - 1, k, T - 1, k))
    shared, feedback = _with_given(left[:, :g].reshape(T - 1, k, g), plan, passing)
    rest = S[:g, :g] - passing[0, 0] * feedback.T @ feedback
    joint = np.block([[stable, shared], [shared.T, rest]])
    joint = _definite(joint, np.r_[np.diag(stable), np.diag(S)[:g]])
    errors = np.repeat(passing[None], 1 if plan.errors_equal else T - 1, axis=0)
    return {
        LAGS: phi.reshape(1, -1),
        "between": between.reshape(1, -1),
        "intercept": (W @ mean)[None],
        "innovation_cov": errors if k > 1 else errors[:, :, 0],
        "between_cov": joint[None, :k, :k],
        SHARED: joint[k : k + g - q, :k].reshape(1, -1),
        "initial_cov": joint[None, k:, k:] + passing[0, 0] * feedback.T @ feedback,
        FEEDBACK: passing[0, 0] * feedback[plan.moved][None],
        "mean": mean[None, :g],
    }


def _lags(plan: Plan, S: Array, y: str) -> Array:
    """Solve the differenced moments of one equation for its lagged effects (m,)."""
    sd = np.sqrt(np.diag(S))
    rows, right = [], []
    for i in range(2, len(plan.sessions)):
        t, before, earlier = (plan.sessions[i - back] for back in (0, 1, 2))
        free = ~(plan.moved[i - 1] | plan.moved[i - 2])
        use = np.flatnonzero(free).tolist()
        use += [plan.place[v, s] for s in plan.sessions[1 : i - 1] for v in plan.targets]
        change = [S[plan.place[x, before]] - S[plan.place[x, earlier]] for x in plan.predictors]
        rows.append((np.stack(change, axis=1) / sd[:, None])[use])
        right.append(((S[plan.place[y, t]] - S[plan.place[y, before]]) / sd)[use])
    found = np.linalg.lstsq(np.concatenate(rows), np.concatenate(right), rcond=LEAST)[0]
    first = plan.sessions[0]
    unit = sd[plan.place[y, first]] / sd[[plan.place[x, first] for x in plan.predictors]]
    found = np.clip(found, -CROSS * unit, CROSS * unit)
    own = plan.predictors.index(y)
    found[own] = np.clip(found[own], *OWN)
    return np.asarray(found)


def _paths(plan: Plan, phi: Array) -> Array:
    """Return the lagged effects (k, m) in the rows of B that belong to equations."""
    k = len(plan.targets)
    out = np.zeros(((len(plan.sessions) - 1) * k, len(plan.columns)))
    for i, before in enumerate(plan.sessions[:-1]):
        for j, x in enumerate(plan.predictors):
            out[i * k : (i + 1) * k, plan.place[x, before]] = phi[:, j]
    return out


def _split(cov: Array) -> tuple[Array, Array]:
    """Split the covariance (T-1, k, T-1, k) of what is left over into stable and passing parts."""
    n = len(cov)
    here = np.einsum("titj->ij", cov) / n
    apart = (np.einsum("tisj->ij", cov) / n - here) / (n - 1)
    variance = np.diag(here)
    share = np.clip(np.diag(apart) / variance, *STABLE)
    root = np.sqrt(share * variance)
    correlation = np.clip((apart + apart.T) / 2.0 / np.outer(root, root), -MOST, MOST)
    np.fill_diagonal(correlation, 1.0)
    stable = correlation * np.outer(root, root)
    return stable, _definite(here - stable, (1.0 - share) * variance)


def _with_given(left: Array, plan: Plan, passing: Array) -> tuple[Array, Array]:
    """Return covariances of client effects with what is given (k, g), and feedback (T-1, g)."""
    untouched = ~plan.moved[:, None, :]
    shared = (left * untouched).sum(axis=0) / np.maximum(untouched.sum(axis=0), 1)
    feedback = np.where(plan.moved, (left[:, 0] - shared[0]) / passing[0, 0], 0.0)
    return shared, feedback


def _definite(S: Array, variance: Array) -> Array:
    """Make a covariance definite, in units of the variances of its rows."""
    d = np.sqrt(variance)
    return make_definite(S / np.outer(d, d), FLOOR) * np.outer(d, d)
