"""The benchmark of estimators: exact limits by an independent route, published figures, the page.

"Monte Carlo error" is the standard error of a figure from a finite number of panels. Figures
computed earlier with other random numbers carry errors of about .004 (regressions, some 400,000
client-sessions) and .02 (GMM, 6,000 clients), beside half a unit of their third digit. What lies
within four errors is chance: of the 90 figures here none goes beyond in 199 of 200 studies.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alliancedyn import DynamicPanelGMM, simulate
from alliancedyn.simulate import simulate_scores

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "simulations" / "results"
sys.path.append(str(ROOT / "simulations"))  # the scripts are in no package

import benchmark_estimators  # noqa: E402

CONFIG = tomllib.loads(benchmark_estimators.CONFIG.read_text("utf-8"))
CHANCE = 4.0
HALF_A_DIGIT = 0.0005
REGRESSION_ERROR, GMM_ERROR = 0.004, 0.02

# Sessions: pooled, person-centered (exact here), GMM; the effect of symptoms, of the alliance.
EARLIER = {
    4: ((0.775, -0.066), (-0.061, -0.095), (0.472, -0.114)),
    6: ((0.774, -0.064), (0.134, -0.106), (0.432, -0.132)),
    8: ((0.776, -0.064), (0.226, -0.112), (0.454, -0.123)),
    12: ((0.776, -0.066), (0.308, -0.121), (0.452, -0.120)),
    20: ((0.774, -0.065), (0.371, -0.122), None),
    40: ((0.779, -0.063), (0.412, -0.117), None),
}


@pytest.fixture(scope="module")
def small() -> pd.DataFrame:
    study = {**CONFIG["study"], **CONFIG["study"]["small"]}
    return benchmark_estimators.run({**CONFIG, "study": study}, 1)


@pytest.fixture(scope="module")
def full() -> pd.DataFrame:
    return pd.read_csv(RESULTS / "benchmark_estimators.csv")


@pytest.mark.parametrize("sessions", EARLIER)
def test_exact_limits_agree_with_earlier_figures(sessions: int) -> None:
    found = benchmark_estimators.limits(benchmark_estimators.world(CONFIG), sessions)
    for name, earlier in zip(benchmark_estimators.REGRESSIONS, EARLIER[sessions], strict=False):
        assert found[name] == pytest.approx(np.array(earlier), abs=REGRESSION_ERROR + HALF_A_DIGIT)


def test_limits_are_what_dummy_variables_give_many_clients() -> None:
    truth, sessions, clients = benchmark_estimators.world(CONFIG), 5, 60_000
    Y = simulate_scores(truth, clients, sessions, np.random.default_rng(1))
    before, now = Y[:, :-1], Y[:, 1:, 1]
    pooled = np.column_stack([before.reshape(-1, 2), np.ones(clients * (sessions - 1))])
    effects = np.linalg.lstsq(pooled, now.ravel(), rcond=None)[0][[1, 0]]
    own = before - before.mean(axis=1, keepdims=True)
    rest = (now - now.mean(axis=1, keepdims=True)).ravel()
    within = np.linalg.lstsq(own.reshape(-1, 2), rest, rcond=None)[0][[1, 0]]
    limits = benchmark_estimators.limits(truth, sessions)
    # One over the root of 240,000 rows is .002.
    assert effects == pytest.approx(limits["pooled"], abs=0.008)
    assert within == pytest.approx(limits["person-centered"], abs=0.008)


def off(results: pd.DataFrame, target: pd.Series) -> pd.Series:
    return abs(results["mean"] - target) / results["mcse_bias"]


def test_a_small_run_reproduces_the_table(small: pd.DataFrame) -> None:
    assert (small["failed"] == 0).all()
    # With twelve panels the error itself is estimated: its t distribution has eleven degrees.
    assert (off(small, small["limit"]) < 1.4 * CHANCE).all()
    for sessions in CONFIG["study"]["small"]["sessions"]:
        for name, earlier, error in zip(
            ("pooled", "person-centered", "GMM"),
            EARLIER[sessions],
            (REGRESSION_ERROR, REGRESSION_ERROR, GMM_ERROR),
            strict=True,
        ):
            own = small[(small["sessions"] == sessions) & (small["estimator"] == name)]
            both = np.hypot(own["mcse_bias"], error) * CHANCE + HALF_A_DIGIT
            assert (abs(own["mean"] - np.array(earlier)) < both).all()


def test_published_means_agree_with_earlier_figures(full: pd.DataFrame) -> None:
    for sessions, row in EARLIER.items():
        for name, earlier, error in zip(
            ("pooled", "person-centered", "GMM"),
            row,
            (REGRESSION_ERROR, REGRESSION_ERROR, GMM_ERROR),
            strict=True,
        ):
            if earlier is None:
                continue
            own = full[(full["sessions"] == sessions) & (full["estimator"] == name)]
            both = 2.0 * np.hypot(own["mcse_bias"], error) + HALF_A_DIGIT
            assert (abs(own["mean"] - np.array(earlier)) < both).all()


def test_published_regressions_gather_at_their_limits(full: pd.DataFrame) -> None:
    some = full[full["estimator"].isin(benchmark_estimators.REGRESSIONS)]
    assert (off(some, some["limit"]) < CHANCE).all()


def test_models_find_the_truth_and_say_how_sure_they_are(full: pd.DataFrame) -> None:
    models = full[full["estimator"].isin(benchmark_estimators.MODELS)]
    assert (models["failed"] == 0).all()
    assert (off(models, models["true"]) < CHANCE).all()
    mcse = np.sqrt(0.95 * 0.05 / models["panels"])
    assert (abs(models["coverage"] - 0.95) < CHANCE * mcse).all()


def test_published_results_are_those_of_the_configuration(full: pd.DataFrame) -> None:
    study = {**CONFIG["study"], **CONFIG["study"]["full"]}
    assert list(dict.fromkeys(full["sessions"])) == study["sessions"]
    seeds = [study["seed"] + i for i in range(len(study["sessions"]))]
    assert list(dict.fromkeys(full["seed"])) == seeds
    assert (full["panels"] == study["panels"]).all()
    assert (full["clients"] == study["clients"]).all()


def test_a_published_panel_comes_out_again() -> None:
    truth = benchmark_estimators.world(CONFIG)
    seeds = [np.random.SeedSequence(9).spawn(1)[0] for _ in range(2)]
    found = benchmark_estimators.Panel(truth, 200, 5, {"GMM": 5, "RI-CLPM": 4, "ML-SEM": 4})(
        seeds[0]
    )
    fit = DynamicPanelGMM().fit(simulate(truth, 200, 5, seed=seeds[1]), strict=False)
    assert found[2, 0] == pytest.approx(
        fit.params[list(benchmark_estimators.EFFECTS)].to_numpy(), abs=1e-12
    )
    assert np.isnan(found[3:]).all()


def test_the_page_shows_the_published_tables() -> None:
    page = (ROOT / "docs" / "benchmark-estimators.md").read_text("utf-8")
    written = (RESULTS / "benchmark_estimators.md").read_text("utf-8")
    tables = re.findall(r"(?:^\|.*\|\n)+", written, re.MULTILINE)
    assert len(tables) == 3
    for table in tables:
        assert table.strip() in page
