"""Groups and therapists: which level an effect belongs to."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from alliancedyn import Dynamics, Groups, simulate
from alliancedyn.simulate import simulate_scores
from alliancedyn.simulate.groups import settled
from demonstrations.cell import ALLIANCE, SYMPTOMS, Cell, Figures, least_squares, load

Study = dict[str, Any]
PATH = (SYMPTOMS, ALLIANCE)

# Groups --------------------------------------------------------------------------------------

OWN, OTHERS = "own alliance → symptoms", "others' alliance → symptoms"


def group_part_whole(study: Study) -> list[Cell]:
    """(A(t), S(t)) on (A(t-1), S(t-1)) of members: from the group's mean, alone, beside others."""
    world = load(study["world"])
    truth, cells = world.truth, []
    for size in study["sizes"]:
        groups = replace(world.observation["groups"], size=size)
        lags = np.array(groups.others)
        true = {OWN: truth.phi[PATH], OTHERS: lags[PATH]}
        draw = partial(_members, truth, groups, study)
        cells.append(Cell(draw, size, true, _member_limits(truth, groups)))
    return cells


def _member_limits(truth: Dynamics, groups: Groups) -> Figures:
    """Return what infinitely many groups give.

    Distances from the group's mean follow Phi - O / (n - 1) exactly. Own scores alone get
    Phi + O C P^-1, with P a member's variance and C the covariance with the others' mean.
    """
    size, lags = groups.size, np.array(groups.others)
    mean, distance = settled(truth.phi, truth.innovation_cov, groups, size)
    P, C = mean + distance, mean - distance / (size - 1)
    return {
        (OWN, "distance from the group's mean"): (truth.phi - lags / (size - 1))[PATH],
        (OWN, "own score alone"): (truth.phi + lags @ C @ np.linalg.inv(P))[PATH],
        (OWN, "beside the others' mean"): truth.phi[PATH],
        (OTHERS, "beside the others' mean"): lags[PATH],
    }


def _members(
    truth: Dynamics, groups: Groups, study: Study, seed: np.random.SeedSequence
) -> Figures:
    clients = study["groups"] * groups.size
    panel = simulate(truth, clients, study["sessions"], seed=seed, groups=groups)
    n, k = groups.size, len(truth.variables)
    Y = panel.arrays().Y.reshape(study["groups"], n, study["sessions"], k) - truth.mean
    mean = Y.mean(axis=1, keepdims=True)
    others = (n * mean - Y) / (n - 1)
    before, now = _members_rows(Y[:, :, :-1]), _members_rows(Y[:, :, 1:])
    apart = Y - mean
    centered = least_squares(_members_rows(apart[:, :, :-1]), _members_rows(apart[:, :, 1:]))
    beside = least_squares(np.hstack([before, _members_rows(others[:, :, :-1])]), now)
    return {
        (OWN, "distance from the group's mean"): float(centered[ALLIANCE, SYMPTOMS]),
        (OWN, "own score alone"): float(least_squares(before, now)[ALLIANCE, SYMPTOMS]),
        (OWN, "beside the others' mean"): float(beside[ALLIANCE, SYMPTOMS]),
        (OTHERS, "beside the others' mean"): float(beside[k + ALLIANCE, SYMPTOMS]),
    }


def _members_rows(Y: np.ndarray) -> np.ndarray:
    return Y.reshape(-1, Y.shape[-1])


# Therapists ----------------------------------------------------------------------------------

SLOPE, OVERALL = "slope between therapists", "slope over all clients"


def therapist_slope(study: Study) -> list[Cell]:
    """S(2) on A(1): therapists' observed means, all clients, and freed of who happened to come."""
    cells = []
    for caseload in study["caseloads"]:
        parts = [_therapists(load(name), caseload) for name in study["worlds"]]
        true = {SLOPE: parts[0][0]}
        exact = {key: value for _, figures in parts for key, value in figures.items()}
        cells.append(Cell(partial(_clinics, caseload, study), caseload, true, exact))
    return cells


def _icc(world: Any) -> tuple[float, str]:
    """Return the therapists' share of the variance of alliance, and how the figure says it."""
    truth, cov = world.truth, np.array(world.observation["therapists"].cov)
    total = cov + truth.between_cov + truth.within_cov
    icc = float(cov[ALLIANCE, ALLIANCE] / total[ALLIANCE, ALLIANCE])
    return icc, f"ICC {icc:.2f}"


def _therapists(world: Any, caseload: int) -> tuple[float, Figures]:
    """Return the true slope of therapists, and what infinitely many of them give.

    Nothing relates alliance and later symptoms among a therapist's clients (slope 0), so

        observed means   lambda beta_T, lambda = ICC / (ICC + (1 - ICC) / n)
        all clients      ICC beta_T + (1 - ICC) 0
    """
    cov = np.array(world.observation["therapists"].cov)
    slope = float(cov[SYMPTOMS, ALLIANCE] / cov[ALLIANCE, ALLIANCE])
    icc, label = _icc(world)
    weight = icc / (icc + (1.0 - icc) / caseload)
    return slope, {
        (SLOPE, f"observed means, {label}"): weight * slope,
        (SLOPE, f"covariance components, {label}"): slope,
        (OVERALL, label): icc * slope,
    }


def _clinics(caseload: int, study: Study, seed: np.random.SeedSequence) -> Figures:
    found: Figures = {}
    for name, own in zip(study["worlds"], seed.spawn(len(study["worlds"])), strict=True):
        found |= _clinic(load(name), caseload, study["therapists"], np.random.default_rng(own))
    return found


def _clinic(world: Any, n: int, therapists: int, rng: np.random.Generator) -> Figures:
    cov = np.array(world.observation["therapists"].cov)
    effects = rng.multivariate_normal(np.zeros(2), cov, size=therapists)
    shifts = np.repeat(effects, n, axis=0)
    Y = simulate_scores(world.truth, therapists * n, 2, rng, shifts=shifts) - world.truth.mean
    a = Y[:, 0, ALLIANCE].reshape(therapists, n)
    s = Y[:, 1, SYMPTOMS].reshape(therapists, n)
    between = slopes(a, s)
    label = _icc(world)[1]
    return {
        (SLOPE, f"observed means, {label}"): between["observed"],
        (SLOPE, f"covariance components, {label}"): between["components"],
        (OVERALL, label): between["all"],
    }


def slopes(a: np.ndarray, s: np.ndarray) -> dict[str, float]:
    """Regress s on a, (therapists, n) each: observed means, covariance components, everyone.

    MS and MP are mean squares and products of means (times n) and within caseloads. The expected
    MS of means is n var_T + var_C, within var_C; likewise MP: their differences belong to
    therapists alone.
    """
    groups, n = a.shape
    a, s = a - a.mean(), s - s.mean()
    am, sm = a.mean(axis=1), s.mean(axis=1)
    ms_t, mp_t = n * (am @ am) / (groups - 1), n * (am @ sm) / (groups - 1)
    own_a, own_s = a - am[:, None], s - sm[:, None]
    degrees = groups * (n - 1)
    ms_c, mp_c = (own_a * own_a).sum() / degrees, (own_a * own_s).sum() / degrees
    return {
        "observed": float(mp_t / ms_t),
        "components": float((mp_t - mp_c) / (ms_t - ms_c)),
        "all": float((a * s).sum() / (a * a).sum()),
    }
