"""Regressions of lagged scores: wrong session, stable levels, own means, errors, gaps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from alliancedyn import Dynamics, Gaps
from alliancedyn.simulate import simulate_scores
from demonstrations.cell import (
    ALLIANCE,
    SYMPTOMS,
    Cell,
    Figures,
    least_squares,
    load,
    pairs,
    population,
    within_pairs,
    without_levels,
)

Study = dict[str, Any]

FORWARD = "alliance → symptoms"
BACKWARD = "symptoms → alliance"
CARRYING = "symptoms → symptoms"
PATHS = {  # row = outcome, column = predictor
    FORWARD: (SYMPTOMS, ALLIANCE),
    BACKWARD: (ALLIANCE, SYMPTOMS),
    CARRYING: (SYMPTOMS, SYMPTOMS),
}


def scores(truth: Dynamics, study: Study, seed: np.random.SeedSequence, **how: Any) -> np.ndarray:
    """Draw a panel, deviations from the mean of the world: (N, T, k)."""
    rng = np.random.default_rng(seed)
    return simulate_scores(truth, study["clients"], study["sessions"], rng, **how) - truth.mean


def read_off(effects: np.ndarray, method: str, names: tuple[str, ...]) -> Figures:
    """Name the entries of a lag matrix."""
    return {(name, method): float(effects[PATHS[name]]) for name in names}


# The wrong session ---------------------------------------------------------------------------

A0, S0, A1, S1 = range(4)  # two sessions side by side
TIMING = {"alliance of the same session": [A1, S0], "alliance of the session before": [A0, S0]}


def same_session(study: Study) -> list[Cell]:
    """S(t) on A(t) and S(t-1): A(t) is rated after the session, S(t) before it."""
    truth = without_levels(load(study["world"]).truth)
    _, cov = truth.moments(2)
    exact = {(FORWARD, how): population(cov, S1, on)[0] for how, on in TIMING.items()}
    draw = partial(_two_sessions, truth, study)
    return [Cell(draw, true={FORWARD: truth.phi[SYMPTOMS, ALLIANCE]}, exact=exact)]


def _two_sessions(truth: Dynamics, study: Study, seed: np.random.SeedSequence) -> Figures:
    row = np.hstack(pairs(scores(truth, study, seed)))
    return {
        (FORWARD, how): float(least_squares(row[:, on], row[:, S1])[0])
        for how, on in TIMING.items()
    }


# Stable differences --------------------------------------------------------------------------


def stable_differences(study: Study) -> list[Cell]:
    """(A(t), S(t)) on (A(t-1), S(t-1)), with the clients' levels left in, and taken out."""
    truth, names = load(study["world"]).truth, (FORWARD, BACKWARD)
    exact = read_off(limit(truth, study["sessions"], own_mean=False), "levels left in", names)
    exact |= read_off(limit(truth, study["sessions"]), "person-centered", names)
    true = {name: truth.phi[PATHS[name]] for name in names}
    return [Cell(partial(_levels, truth, study, names), true=true, exact=exact)]


def _levels(
    truth: Dynamics, study: Study, names: tuple[str, ...], seed: np.random.SeedSequence
) -> Figures:
    Y = scores(truth, study, seed)
    found = read_off(least_squares(*pairs(Y)).T, "levels left in", names)
    return found | read_off(least_squares(*within_pairs(Y)).T, "person-centered", names)


def limit(truth: Dynamics, sessions: int, own_mean: bool = True) -> np.ndarray:
    """Return lagged effects (k, k) from infinitely many clients, own means over pairs taken out.

    The sums of products that least squares needs are linear in E[y y'], so the moments of the
    world give them: with R = I - 11'/(T - 1), sum over pairs p, q of R_pq E[y_p y_q'].
    """
    k, many = len(truth.variables), sessions - 1
    mean, cov = truth.moments(sessions)
    course = mean.reshape(sessions, k) - truth.mean
    blocks = cov.reshape(sessions, k, sessions, k) + np.multiply.outer(course, course)
    R = np.eye(many) - own_mean / many
    predictors = np.einsum("pq,pkql->kl", R, blocks[:-1, :, :-1])
    outcomes = np.einsum("pq,pkql->kl", R, blocks[:-1, :, 1:])
    return np.linalg.solve(predictors, outcomes).T


# Centering on the client's own mean ----------------------------------------------------------


def centering(study: Study) -> list[Cell]:
    """(A(t), S(t)) on (A(t-1), S(t-1)), each less the client's own mean: what is lost."""
    truth, cells = load(study["world"]).truth, []
    for sessions in study["sessions"]:
        draw = partial(_centered, truth, {**study, "sessions": sessions})
        exact = _lost(limit(truth, sessions), truth.phi)
        cells.append(Cell(draw, x=sessions, true={"share of the effect lost": 0.0}, exact=exact))
    return cells


def _centered(truth: Dynamics, study: Study, seed: np.random.SeedSequence) -> Figures:
    return _lost(least_squares(*within_pairs(scores(truth, study, seed))).T, truth.phi)


def _lost(found: np.ndarray, true: np.ndarray) -> Figures:
    share = 1.0 - found / true
    return {("share of the effect lost", name): float(share[PATHS[name]]) for name in PATHS}


# Measurement error ---------------------------------------------------------------------------


def reliability(study: Study) -> list[Cell]:
    """(A(t), S(t)) on (A(t-1), S(t-1)) of scores with error, both equally reliable."""
    truth = without_levels(load(study["world"]).truth)
    return [
        _with_error(truth, (share, share), study, (CARRYING, FORWARD), share)
        for share in study["reliability"]
    ]


def unequal_reliability(study: Study) -> list[Cell]:
    """(A(t), S(t)) on (A(t-1), S(t-1)): no effects, alliance measured well and symptoms badly."""
    truth = without_levels(load(study["world"]).truth)
    return [_with_error(truth, truth.reliability, study, (FORWARD, BACKWARD), None)]


def _with_error(
    truth: Dynamics, share: Any, study: Study, names: tuple[str, ...], x: float | None
) -> Cell:
    """Return the cell of a world seen with a within-client reliability of ``share``.

    Lagged effects are P^-1 C with P the variance of predictors, C their covariance with outcomes.
    Error adds to P alone: known error variance can be taken out of it again.
    """
    seen = replace(truth, reliability=share)
    noise = np.diag(seen.measurement_var)
    lagged = truth.phi @ truth.within_cov
    raw = lagged @ np.linalg.inv(truth.within_cov + noise)
    exact = read_off(raw, "scores as they are", names)
    exact |= read_off(truth.phi, "error variance taken out", names)
    true = {name: truth.phi[PATHS[name]] for name in names}
    return Cell(partial(_attenuated, seen, study, names), x, true, exact)


def _attenuated(
    seen: Dynamics, study: Study, names: tuple[str, ...], seed: np.random.SeedSequence
) -> Figures:
    before, now = pairs(scores(seen, study, seed))
    found = read_off(least_squares(before, now).T, "scores as they are", names)
    P = before.T @ before - len(before) * np.diag(seen.measurement_var)
    corrected = np.linalg.solve(P, before.T @ now).T
    return found | read_off(corrected, "error variance taken out", names)


# Gaps ----------------------------------------------------------------------------------------


def gaps(study: Study) -> list[Cell]:
    """(A(t), S(t)) on (A(t-1), S(t-1)), sessions one, two or four weeks apart.

    The variance is the same at all sessions, so pairs w weeks apart give Phi^w, and all together
    the average of Phi^w over gaps.
    """
    world, names = load(study["world"]), tuple(PATHS)
    seen = world.observation["gaps"]
    weights = np.array(seen.weights) / np.sum(seen.weights)
    powers = [np.linalg.matrix_power(world.truth.phi, int(weeks)) for weeks in seen.weeks]
    mixed = np.einsum("w,wij->ij", weights, powers)
    exact = read_off(mixed, "gaps treated as equal", names)
    exact |= read_off(world.truth.phi, "pairs one week apart", names)
    true = {name: world.truth.phi[PATHS[name]] for name in names}
    return [Cell(partial(_irregular, world.truth, seen, study), true=true, exact=exact)]


def _irregular(truth: Dynamics, seen: Gaps, study: Study, seed: np.random.SeedSequence) -> Figures:
    dates, course = seed.spawn(2)
    weeks = seen.draw(study["clients"], study["sessions"], np.random.default_rng(dates))
    before, now = pairs(scores(truth, study, course, steps=weeks.astype(np.int64)))
    near = np.diff(weeks, axis=1).ravel() == 1.0
    found = read_off(least_squares(before, now).T, "gaps treated as equal", tuple(PATHS))
    own = least_squares(before[near], now[near]).T
    return found | read_off(own, "pairs one week apart", tuple(PATHS))
