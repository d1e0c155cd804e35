"""What estimates are compared with: the model's own parameters in an endless panel of the world."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import alliancedyn as ad
from alliancedyn.errors import SpecificationError
from alliancedyn.replicate import Failure
from alliancedyn.simulate import (
    Covariate,
    Episodes,
    Gaps,
    Groups,
    GrowthCurve,
    Items,
    Phase,
    Therapists,
)
from alliancedyn.studies.causes import cause
from alliancedyn.studies.targets import compared_with
from alliancedyn.studies.trial import Trial

# One large panel per case, 6 to 60 parameters each: standard errors an estimate may be off.
ERRORS = 4
OWN: dict[str, Any] = {
    "phi": [[0.36, -0.05], [-0.12, 0.45]],
    "innovation_cov": [[1, -0.25], [-0.25, 1]],
    "between_cov": [[1, -0.3], [-0.3, 1]],
    "mean": (3.0, 10.0),
}
SEVERE = Covariate(
    "severe", "binary", 0.3, on_level=(-0.5, 1.0), on_phi=[("symptoms", "alliance", -0.2)]
)
MOOD = Covariate("mood", on_level=(0.3, -0.3))
STEP = Phase(4, [("symptoms", "alliance", -0.2)])
RISING = GrowthCurve(slope=(0.1, -0.2), slope_cov=0.02 * np.eye(2))
FASTER = Covariate("severe", "binary", 0.3, on_level=(-0.5, 1.0), on_trend=(0.1, -0.1))
LAG = [("symptoms", "alliance", -0.2)]
ARM = Covariate("arm", "binary", 0.4, on_level=(0.3, -1.0), on_phi=LAG)
FEEDBACK = Covariate("arm", "binary", 0.4, on_level=(0.3, 0), on_trend=(0.1, -0.2), on_phi=LAG)

CASES: dict[str, tuple[Any, dict[str, Any], int, dict[str, Any]]] = {
    "moderator": (
        ad.RICLPM(covariates=("severe",), moderators=("severe",), means="equal"),
        {"covariates": [SEVERE]}, 4000, {},
    ),
    "one covariate known": (
        ad.RICLPM(covariates=("severe",), means="equal"),
        {"covariates": [Covariate("severe", on_level=(-0.5, 1.0)), MOOD]}, 4000, {},
    ),
    "sites": (
        ad.RICLPM(means="equal"), {}, 4000,
        {"therapists": Therapists(800, 0.3 * np.eye(2), sites=400, site_cov=0.2 * np.eye(2))},
    ),
    "groups": (ad.RICLPM(means="equal"), {}, 4000, {"groups": Groups(4, cov=0.5 * np.eye(2))}),
    "step": (ad.RICLPM(step=4, means="equal"), {"phases": [STEP]}, 4000, {}),
    "free lags": (ad.RICLPM(lags="free", means="equal"), {"phases": [STEP]}, 4000, {}),
    "growth": (
        ad.LCMSR(covariates=("severe",)), {"trend": RISING, "covariates": [FASTER]}, 4000, {},
    ),
    "arms": (
        ad.LCMSR(group="arm"), {"trend": RISING, "covariates": [FEEDBACK]}, 4000, {},
    ),
    "arms and means": (ad.RICLPM(group="arm"), {"covariates": [ARM]}, 4000, {}),
    "no growth": (ad.LCMSR(), {}, 4000, {}),
    "one lag": (ad.RICLPM(order=2, means="equal"), {}, 4000, {}),
    "two lags": (
        ad.RICLPM(order=2, means="equal"), {"phi2": [[0.1, 0.05], [-0.05, 0.15]]}, 4000, {},
    ),
    "weeks": (ad.ContinuousTime(), {}, 1500, {"gaps": Gaps(per="time", jitter=2)}),
    "fortnights": (
        ad.ContinuousTime(time_unit=14.0), {}, 1500, {"gaps": Gaps(per="time", jitter=2)},
    ),
}  # fmt: skip


def compared(case: str) -> pd.DataFrame:
    spec, more, clients, seen = CASES[case]
    trial = Trial(spec, ad.Dynamics(**OWN, **more), clients, 6, seen, None, 0.95, 0.05)
    fit = trial.fit(trial.simulate(np.random.SeedSequence(3)), seed=1)
    true = compared_with(trial, {})
    table = pd.DataFrame({"estimate": fit.params, "se": fit.se})
    table["true"] = [true(name) for name in fit.params.index]
    return table


@pytest.mark.parametrize("case", CASES)
def test_a_right_model_finds_what_it_is_compared_with(case: str) -> None:
    table = compared(case)
    assert table["true"].notna().all(), list(table.index[table["true"].isna()])
    off = (table["estimate"] - table["true"]).abs() / table["se"]
    off = off[
        [not name.endswith("trend]") or case != "no growth" for name in off.index]
    ]  # at bounds
    assert off.max() < ERRORS, table[off >= ERRORS]


WAI = Items(
    ("task", "goal", "bond"), loading=(1.2, 0.8, 1.0), intercept=(0.5, 0.0, 1.0),
    error_var=(0.3, 0.4, 0.2),
)  # fmt: skip
TWO = ("alliance", "symptoms")


@pytest.mark.parametrize(
    ("spec", "items", "unknown"),
    [
        (
            ad.RICLPM(
                indicators={"alliance": ["task", "goal", "bond"]}, variables=TWO, means="equal"
            ),
            WAI,
            {"intercept"},
        ),
        (
            ad.RICLPM(indicators={"alliance": ["goal", "bond"]}, variables=TWO),
            WAI,
            {"intercept", "mean"},
        ),
        (
            ad.RICLPM(means="equal"),
            Items(("i", "j"), loading=(1.2, 0.7), intercept=(0.5, 2.0), keep="mean"),
            set(),
        ),
    ],
    ids=("three indicators", "two of three", "their mean"),
)
def test_items_give_their_unit_to_what_is_recovered(
    spec: ad.RICLPM, items: Items, unknown: set[str]
) -> None:
    seen = {"items": {"alliance": items}}
    trial = Trial(spec, ad.Dynamics(**OWN), 3000, 6, seen, None, 0.95, 0.05)
    fit, true = (
        trial.fit(trial.simulate(np.random.SeedSequence(1)), seed=1),
        compared_with(trial, {}),
    )
    target = pd.Series({name: true(name) for name in fit.params.index})
    none = target.index[target.isna()]
    assert {name.partition("[")[0] for name in none} == unknown
    assert not [name for name in none if "symptoms" in name]
    assert ((fit.params - target).abs() / fit.se).dropna().max() < ERRORS


def test_change_is_the_lag_less_one() -> None:
    truth = ad.Dynamics(**{**OWN, "between_cov": np.zeros((2, 2))})
    true = compared_with(Trial(ad.LatentChange(), truth, 50, 6, {}, None, 0.95, 0.05), {})
    assert true("self[symptoms]") == pytest.approx(0.45 - 1.0)
    assert true("coupling[symptoms,alliance]") == -0.12
    starts = compared_with(Trial(ad.STARTS(), truth, 50, 6, {}, None, 0.95, 0.05), {})
    assert starts("measurement_var[alliance]") == 0.0


def test_one_lag_for_sessions_that_differ_has_no_truth() -> None:
    trial = Trial(ad.RICLPM(), ad.Dynamics(**OWN, phases=[STEP]), 50, 6, {}, None, 0.95, 0.05)
    true = compared_with(trial, {})
    assert np.isnan(true("phi[symptoms,alliance]"))
    assert true("phi[symptoms,symptoms]") == 0.45
    assert true("phi[symptoms,alliance]@3") == pytest.approx(-0.12)
    assert true("phi[symptoms,alliance]@4") == pytest.approx(-0.32)


def test_therapists_that_the_model_knows_are_no_clients() -> None:
    cov = [[0.3, -0.1], [-0.1, 0.2]]
    seen = {"therapists": Therapists(9, cov)}
    truth = ad.Dynamics(**OWN)
    knows = compared_with(
        Trial(ad.DSEM(levels=("therapist", "client")), truth, 50, 6, seen, None, 0.95, 0.05), {}
    )
    assert knows("therapist_cov[alliance,symptoms]") == -0.1
    assert knows("between_cov[alliance,alliance]") == 1.0
    does_not = compared_with(Trial(ad.DSEM(), truth, 50, 6, seen, None, 0.95, 0.05), {})
    assert does_not("between_cov[alliance,alliance]") == 1.3


def test_effects_on_clients_lags_are_those_of_dsem() -> None:
    spec = ad.DSEM(random=("intercept", "phi"), predictors=("severe",), random_correlation="lkj")
    truth = ad.Dynamics(
        **OWN,
        phi_sd=0.1 * np.ones((2, 2)),
        covariates=[SEVERE],
        random_corr=[("alliance", "symptoms<-alliance", -0.4)],
    )
    true = compared_with(Trial(spec, truth, 50, 6, {}, None, 0.95, 0.05), {})
    assert true("predictor[symptoms,severe]") == 1.0
    assert true("predictor[symptoms<-alliance,severe]") == -0.2
    assert true("predictor[symptoms<-symptoms,severe]") == 0.0
    assert true("between_cov[symptoms,symptoms]") == 1.0, "what the predictor explains is no part"
    assert true("random_corr[alliance,symptoms<-alliance]") == -0.4
    assert true("random_corr[symptoms,symptoms<-alliance]") == 0.0


def test_failures_of_one_cause_are_counted_together() -> None:
    reasons = (
        "Chains disagree about 'phi[a,b]', 'phi[a,a]' and 3 more (R-hat 1.02, below 1.01 wanted).",
        "Chains disagree about 'mean[a]' (R-hat 1.3, below 1.01 wanted).",
        "Chains disagree about 'mean[a]' and 'between_cov[a,a]' (R-hat 1.11, below 1.01 wanted).",
    )
    causes = {cause(Failure("Not converged", reason)) for reason in reasons}
    assert causes == {
        "Not converged: Chains disagree about some parameters (R-hat #, below # wanted)."
    }
    named = cause(Failure("DataError", "'symptoms' has one value throughout."))
    assert named == "DataError: 'symptoms' has one value throughout."


def test_a_study_of_dsem_counts_what_did_not_converge() -> None:
    truth = ad.Dynamics(**OWN, phi_sd=0.1 * np.ones((2, 2)))
    short = ad.DSEM(random=("intercept", "phi"), draws=30, tune=30, chains=2)
    study = ad.recover(short, truth, 30, 6, replications=3, seed=7, jobs=1)
    assert len(study.found) == 0
    assert sum(study.failures.values()) == 3
    assert all(reason.startswith("Not converged: ") for reason in study.failures)
    long = ad.DSEM(random=("intercept", "phi"))
    study = ad.recover(long, truth, 60, 10, replications=1, seed=7, jobs=1)
    assert len(study.found) == 1, study.failures
    table = study.table()
    assert table["true"].notna().all()
    assert table.loc["phi_sd[symptoms,alliance]", "true"] == 0.1
    assert np.isnan(table.loc["phi_sd[symptoms,alliance]", "power"]), "an SD cannot be negative"


def test_groups_items_and_episodes_may_be_given_without_a_world() -> None:
    asked: dict[str, Any] = {"replications": 2, "seed": 1, "jobs": 1}
    spec, truth = ad.CLPM(means="equal"), ad.Dynamics(**OWN)
    items = {"alliance": Items(("a", "b"), error_var=0.2, keep="mean")}
    grouped = ad.recover(spec, truth, 40, 4, groups=Groups(4, turnover=2), **asked)
    asked_twice = ad.recover(spec, truth, 40, 4, items=items, episodes=Episodes(0.2), **asked)
    assert len(grouped.found) == len(asked_twice.found) == 2
    surface = ad.power(spec, truth, [30], [4], groups=Groups(4), items=items, **asked)
    assert len(surface.table) == 1


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda truth, path: ad.recover(ad.RICLPM, truth, 20, 4),
            "the class RICLPM; give a model",
        ),
        (lambda truth, path: ad.recover("ri-clpm", truth, 20, 4), "'ri-clpm'; give a model"),
        (
            lambda truth, path: ad.recover(ad.CLPM(), ad.simulate(truth, 20, 4, seed=1), 20, 4),
            "give a Dynamics or a World",
        ),
        (lambda truth, path: ad.recover(ad.CLPM(), truth, 20, 4, checkpoint=path), "is a folder"),
        (
            lambda truth, path: ad.power(ad.CLPM(), truth, 20, 4, dropout=(ad.Dropout(),)),
            r"dropout=.*give a Dropout\(\.\.\.\), or a list",
        ),
        (
            lambda truth, path: ad.power(ad.CLPM(), truth, 20, 4, checkpoint=path / "file"),
            "is a file. Name a folder",
        ),
    ],
)
def test_impossible_studies_are_refused(ask: Any, message: str, tmp_path: Any) -> None:
    (tmp_path / "file").write_text("a thesis", encoding="utf-8")
    with pytest.raises(SpecificationError, match=message):
        ask(ad.Dynamics(**OWN), tmp_path)
    assert (tmp_path / "file").read_text("utf-8") == "a thesis"


def test_a_world_brings_its_clients_and_sessions() -> None:
    world = ad.worlds.load("nairobi_like")
    asked: dict[str, Any] = {"replications": 1, "jobs": 1}
    own = ad.recover(ad.CLPM(), world, **asked)
    assert (own.clients, own.sessions) == (345, 6)
    other = ad.recover(ad.CLPM(), world, 50, **asked)
    assert (other.clients, other.sessions) == (50, 6)
    plain = ad.recover(ad.CLPM(means="equal", initial="stationary"), world.truth, **asked)
    assert (plain.clients, plain.sessions) == (200, 12)


def test_a_checkpoint_makes_its_folder(tmp_path: Any) -> None:
    path = tmp_path / "new" / "study.jsonl"
    ad.recover(ad.CLPM(), ad.Dynamics(**OWN), 20, 4, replications=1, jobs=1, checkpoint=path)
    assert path.exists()
