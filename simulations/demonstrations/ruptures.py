"""Alarms for ruptures in courses that have none."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from scipy.stats import multivariate_normal, norm

from alliancedyn import Dynamics
from alliancedyn.simulate import simulate_scores
from demonstrations.cell import ALLIANCE, Cell, Figures, load

QUANTITY = "share of clients with a false alarm"
CHART = "own chart: mean - 2 SD"
SHARE = 0.05  # of courses that the rule "drop set for 5 %" may take for one with a rupture
POINTS = 50_000  # of the numerical integral, whose error is about .0001


def rupture_alarms(study: dict[str, Any]) -> list[Cell]:
    """At least one alarm in a course of T sessions, by rule.

    A drop is y(t-1) - y(t). Alarm if it reaches

        drop >= RCI       1.96 sqrt(2) SEM, SEM the standard deviation of measurement error
        drop >= 1 SD      the standard deviation of a client's scores
        drop >= 5 % rule  z SD(drop) with 1 - Phi(z) = .05 / (T - 1): by Bonferroni's inequality
                          at most 5 % of courses
        own chart         y(t) <= mean - 2 SD, both of the client's own T scores
    """
    plain, sessions, cells = load(study["world"]).truth, study["sessions"], []
    for share in study["reliability"]:
        truth = replace(plain, reliability=(share, share))
        limits = drop_limits(truth, sessions)
        exact = {(QUANTITY, rule): some_drop(truth, sessions, c) for rule, c in limits.items()}
        draw = partial(_alarms, truth, limits, study)
        cells.append(Cell(draw, share, {QUANTITY: 0.0}, exact))
    return cells


def drop_limits(truth: Dynamics, sessions: int) -> dict[str, float]:
    """Return the drop that each rule takes for a rupture, score points."""
    error = truth.measurement_var[ALLIANCE]
    cov = drop_cov(truth, sessions)
    strict = norm.isf(SHARE / (sessions - 1)) * np.sqrt(cov[0, 0])
    return {
        "drop ≥ RCI": 1.96 * np.sqrt(2.0 * error),
        "drop ≥ 1 SD": float(np.sqrt(truth.within_cov[ALLIANCE, ALLIANCE] + error)),
        "drop set for 5 %": float(strict),
    }


def drop_cov(truth: Dynamics, sessions: int) -> np.ndarray:
    """Return the covariance of a course's T - 1 drops."""
    k = len(truth.variables)
    _, cov = truth.moments(sessions)
    D = -np.diff(np.eye(sessions), axis=0)
    return D @ cov[ALLIANCE::k, ALLIANCE::k] @ D.T


def some_drop(truth: Dynamics, sessions: int, limit: float) -> float:
    """Return the chance that any drop reaches the limit: 1 - P(all below), multivariate normal."""
    cov = drop_cov(truth, sessions)
    below = multivariate_normal(np.zeros(len(cov)), cov, seed=1, maxpts=POINTS, abseps=1e-4)
    return float(1.0 - below.cdf(np.full(len(cov), limit)))


def _alarms(
    truth: Dynamics, limits: dict[str, float], study: dict[str, Any], seed: np.random.SeedSequence
) -> Figures:
    rng = np.random.default_rng(seed)
    y = simulate_scores(truth, study["clients"], study["sessions"], rng)[:, :, ALLIANCE]
    drops = -np.diff(y, axis=1)
    alarmed = {rule: (drops >= limit).any(axis=1) for rule, limit in limits.items()}
    low = y.mean(axis=1, keepdims=True) - 2.0 * y.std(axis=1, ddof=1, keepdims=True)
    alarmed[CHART] = (y <= low).any(axis=1)
    return {(QUANTITY, rule): float(who.mean()) for rule, who in alarmed.items()}
