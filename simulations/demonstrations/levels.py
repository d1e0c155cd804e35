"""Groups and therapists: which level an effect belongs to."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from alliancedyn import Dynamics, Groups, simulate
from alliancedyn.simulate import simulate_scores
from alliancedyn.simulate.groups import settled
from alliancedyn.worlds import World
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
    clinics, cells = [load(name) for name in study["worlds"]], []
    for caseload in study["caseloads"]:
        exact: Figures = {}
        for clinic in clinics:
            exact |= _clinic_limits(clinic, caseload)
        draw = partial(_clinics, clinics, caseload, study["therapists"])
        cells.append(Cell(draw, caseload, {SLOPE: _therapist_slope(clinics[0])}, exact))
    return cells


def _therapist_cov(clinic: World) -> np.ndarray:
    return np.array(clinic.observation["therapists"].cov)


def _therapist_slope(clinic: World) -> float:
    cov = _therapist_cov(clinic)
    return float(cov[SYMPTOMS, ALLIANCE] / cov[ALLIANCE, ALLIANCE])


def _icc(clinic: World) -> float:
    """Return the therapists' share of the variance of alliance."""
    truth, cov = clinic.truth, _therapist_cov(clinic)
    total = cov + truth.between_cov + truth.within_cov
    return float(cov[ALLIANCE, ALLIANCE] / total[ALLIANCE, ALLIANCE])


def _named(clinic: World, observed: float, components: float, everyone: float) -> Figures:
    icc = f"ICC {_icc(clinic):.2f}"
    return {
        (SLOPE, f"observed means, {icc}"): observed,
        (SLOPE, f"covariance components, {icc}"): components,
        (OVERALL, f"all clients, {icc}"): everyone,
    }


def _clinic_limits(clinic: World, caseload: int) -> Figures:
    """Return what infinitely many therapists give.

    Nothing relates alliance and later symptoms among a therapist's clients (slope 0), so

        observed means   lambda beta_T, lambda = ICC / (ICC + (1 - ICC) / n)
        all clients      ICC beta_T + (1 - ICC) 0
    """
    slope, icc = _therapist_slope(clinic), _icc(clinic)
    weight = icc / (icc + (1.0 - icc) / caseload)
    return _named(clinic, weight * slope, slope, icc * slope)


def _clinics(
    clinics: list[World], caseload: int, therapists: int, seed: np.random.SeedSequence
) -> Figures:
    found: Figures = {}
    for clinic, own in zip(clinics, seed.spawn(len(clinics)), strict=True):
        a, s = _first_alliance_next_symptoms(clinic, caseload, therapists, own)
        found |= _named(clinic, *slopes(a, s))
    return found


def _first_alliance_next_symptoms(
    clinic: World, n: int, therapists: int, seed: np.random.SeedSequence
) -> tuple[np.ndarray, np.ndarray]:
    """Draw A(1) and S(2) of every client, (therapists, n) each."""
    rng = np.random.default_rng(seed)
    effects = rng.multivariate_normal(np.zeros(2), _therapist_cov(clinic), size=therapists)
    shifts = np.repeat(effects, n, axis=0)
    Y = simulate_scores(clinic.truth, therapists * n, 2, rng, shifts=shifts)
    return Y[:, 0, ALLIANCE].reshape(-1, n), Y[:, 1, SYMPTOMS].reshape(-1, n)


def slopes(a: np.ndarray, s: np.ndarray) -> tuple[float, float, float]:
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
    components = (mp_t - mp_c) / (ms_t - ms_c)
    return float(mp_t / ms_t), float(components), float((a * s).sum() / (a * a).sum())
