"""Dropout: who is still there at the end, and what each way of counting makes of it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from alliancedyn import LCMSR, RICLPM, Dropout, Dynamics, simulate
from alliancedyn.errors import ConvergenceError
from demonstrations.cell import ALLIANCE, SYMPTOMS, Cell, Figures, least_squares, load, within_pairs
from demonstrations.lagged import limit

CHANGE = "mean change in symptoms"
EFFECT = "alliance → symptoms"
MODELS = {"RI-CLPM": RICLPM(), "LCM-SR": LCMSR(means="free")}
RULES = {  # as the figure names them
    "nobody": None,
    "anybody": "random",
    "low alliance": "low",
    "well enough": "well_enough",
    "improving fast": "improving",
}


def dropout(study: dict[str, Any]) -> list[Cell]:
    """Change from the first to the last session, and S(t) on A(t-1), S(t-1) within clients."""
    world = load(study["world"])
    truth = world.truth
    means = truth.session_means(study["sessions"])[:, SYMPTOMS]
    true = {CHANGE: float(means[-1] - means[0]), EFFECT: truth.phi[SYMPTOMS, ALLIANCE]}
    complete = {
        (CHANGE, "those still there"): true[CHANGE],
        (CHANGE, "last score carried forward"): true[CHANGE],
        (EFFECT, "person-centered"): float(limit(truth, study["sessions"])[SYMPTOMS, ALLIANCE]),
    }
    cells = []
    for who, rule in RULES.items():
        leave = None if rule is None else replace(world.observation["dropout"], rule=rule)
        draw = partial(_who_is_left, truth, leave, study)
        cells.append(Cell(draw, who, true, {} if rule else complete))
    return cells


def _who_is_left(
    truth: Dynamics, leave: Dropout | None, study: dict[str, Any], seed: np.random.SeedSequence
) -> Figures:
    panel = simulate(truth, study["clients"], study["sessions"], seed=seed, dropout=leave)
    Y = panel.arrays().Y
    symptoms = Y[:, :, SYMPTOMS]
    stayed = np.isfinite(symptoms[:, -1])
    last = np.isfinite(symptoms).sum(axis=1) - 1
    found = {
        (CHANGE, "those still there"): (symptoms[stayed, -1] - symptoms[stayed, 0]).mean(),
        (CHANGE, "last score carried forward"): (
            symptoms[np.arange(len(Y)), last] - symptoms[:, 0]
        ).mean(),
        (EFFECT, "person-centered"): least_squares(*within_pairs(Y))[ALLIANCE, SYMPTOMS],
    }
    for name in study["models"]:
        fit = MODELS[name].fit(panel, strict=False)
        if not fit.converged:
            raise ConvergenceError(f"The {name} did not converge.")
        means = fit.params[[f"mean[symptoms]@{t}" for t in (1, study["sessions"])]]
        found[CHANGE, name] = float(means.iloc[1] - means.iloc[0])
        found[EFFECT, name] = float(fit.params["phi[symptoms,alliance]"])
    return {key: float(value) for key, value in found.items()}
