"""What is published about trends: right by an independent route, complete, and what the page says.

"Monte Carlo error" (mcse) is the standard error of a figure from a finite number of panels.
Regressions must lie within 4.5 of theirs: of 320 chance ones none does so in 998 of 1,000 studies.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alliancedyn as ad
from alliancedyn.panel import Issue
from alliancedyn.simulate import simulate_scores

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "simulations" / "trend_demonstrations.py"
RESULTS = ROOT / "simulations" / "results"
CONFIG = tomllib.loads(SCRIPT.with_suffix(".toml").read_text("utf-8"))
CHANCE = 4.5
FORWARD = "phi[symptoms,alliance]"
FEW = [6, 10, 20]  # what the page quotes of the regressions


def load_script() -> ModuleType:
    """Import the script, which is in no package."""
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[SCRIPT.stem] = module  # dataclasses look their annotations up there
    spec.loader.exec_module(module)
    return module


STUDY = load_script()


@pytest.fixture(scope="module")
def regressions() -> pd.DataFrame:
    return pd.read_csv(RESULTS / "trends_regressions.csv")


@pytest.fixture(scope="module")
def ladder() -> pd.DataFrame:
    return pd.read_csv(RESULTS / "trends_ladder.csv", keep_default_na=False)


# The regressions -----------------------------------------------------------------------------


def by_dummies(Y: np.ndarray, correction: str) -> np.ndarray:
    """Regress with one column per client, client's slope and session: the long way round."""
    clients, sessions, k = Y.shape
    client, session = np.divmod(np.arange(clients * (sessions - 1)), sessions - 1)
    columns = [np.equal.outer(client, np.arange(clients)).astype(float)]
    if "line" in correction:
        columns.append(columns[0] * session[:, None])
    if "session" in correction:
        columns.append(np.equal.outer(session, np.arange(sessions - 1)).astype(float))
    before, now = Y[:, :-1].reshape(-1, k), Y[:, 1:].reshape(-1, k)
    found = np.linalg.lstsq(np.hstack([before, *columns]), now, rcond=None)[0]
    return found[:k].T


@pytest.mark.parametrize("correction", ["level", "level + session", "line", "line + session"])
def test_corrections_are_dummy_variables(correction: str) -> None:
    Y = simulate_scores(STUDY.world(CONFIG, "both"), 12, 6, np.random.default_rng(1))
    found = STUDY.estimates(Y)[list(STUDY.CORRECTIONS).index(correction)]
    np.testing.assert_allclose(found, by_dummies(Y, correction), atol=1e-10)


def test_lines_taken_out_first_are_those_of_the_decomposition() -> None:
    panel = ad.simulate(STUDY.world(CONFIG, "both"), 15, 7, seed=2)
    Y = panel.arrays().Y
    parts = ad.decompose(panel, trend="linear").within[["alliance", "symptoms"]].to_numpy()
    rest = parts.reshape(15, 7, 2)
    before, now = rest[:, :-1].reshape(-1, 2), rest[:, 1:].reshape(-1, 2)
    expected = np.linalg.lstsq(before, now, rcond=None)[0].T
    found = STUDY.estimates(Y)[list(STUDY.CORRECTIONS).index("line first")]
    np.testing.assert_allclose(found, expected, atol=1e-10)


def exact(name: str, correction: str, sessions: int) -> float:
    """Return alliance -> symptoms with infinitely many clients."""
    found = STUDY.limits(STUDY.world(CONFIG, name), sessions)
    return float(found[list(STUDY.CORRECTIONS).index(correction)][1, 0])


# Computed earlier with other random numbers, N x T about 400,000: errors up to about .004.
EARLIER = {
    ("effect", "level"): {6: -0.106, 10: -0.118, 20: -0.118, 40: -0.119},
    ("effect", "line"): {6: -0.076, 10: -0.104, 20: -0.116, 40: -0.118},
    ("slopes", "level"): {6: -0.063, 10: -0.096, 20: -0.129},
    ("slopes", "level + session"): {6: -0.028, 10: -0.044, 20: -0.081},
    ("slopes", "line"): {6: -0.007, 10: -0.002, 20: 0.001},
}


@pytest.mark.parametrize("correction", ["level", "line"])
def test_what_an_effect_becomes_agrees_with_earlier_figures(correction: str) -> None:
    for sessions, value in EARLIER["effect", correction].items():
        assert exact("effect", correction, sessions) == pytest.approx(value, abs=0.004)


def test_what_slopes_fake_agrees_with_earlier_figures() -> None:
    """Slopes were not written down with the figures; their sampling error at 6 sessions was."""
    for correction in ("level", "level + session", "line"):
        for sessions, value in EARLIER["slopes", correction].items():
            # Lines taken out, the true figure is 0 whatever the slopes: what is left is chance, and
            # shared by the three rows, which came from the same panels.
            chance = EARLIER["slopes", "line"][sessions]
            found = exact("slopes", correction, sessions)
            assert found == pytest.approx(value, abs=0.0071)
            assert found == pytest.approx(value - chance, abs=0.0031)


def test_a_line_of_ones_own_removes_slopes_without_rest() -> None:
    for correction in ("line", "line + session", "line first"):
        for sessions in CONFIG["regressions"]["full"]["sessions"]:
            assert abs(exact("slopes", correction, sessions)) < 1e-9
            with_slopes, without = (exact(n, correction, sessions) for n in ("both", "effect"))
            assert with_slopes == pytest.approx(without, abs=1e-9)


def assert_cells(published: pd.DataFrame, asked: dict[str, Any]) -> None:
    """Compare worlds, sessions, seeds, panels and clients of a file with the configuration."""
    cells = published[["world", "sessions", "seed"]].drop_duplicates()
    expected = [(name, t) for name in CONFIG["worlds"] for t in asked["full"]["sessions"]]
    assert list(zip(cells["world"], cells["sessions"], strict=True)) == expected
    assert list(cells["seed"]) == [
        asked["seed"] + asked["seeds_per_world"] * i + j
        for i in range(len(CONFIG["worlds"]))
        for j in range(len(asked["full"]["sessions"]))
    ]
    assert (published["panels"] == asked["full"]["panels"]).all()
    assert (published["clients"] == asked["clients"]).all()


def test_published_regressions_are_those_of_the_configuration(regressions: pd.DataFrame) -> None:
    asked = CONFIG["regressions"]
    assert_cells(regressions, asked)
    cells = len(CONFIG["worlds"]) * len(asked["full"]["sessions"])
    assert len(regressions) == cells * len(STUDY.CORRECTIONS) * 4


def test_simulated_regressions_gather_at_their_limits(regressions: pd.DataFrame) -> None:
    z = (regressions["mean"] - regressions["limit"]) / regressions["mcse"]
    assert (z.abs() < CHANCE).all()
    assert 0.8 < z.std() < 1.2
    assert regressions["mcse"].max() < 0.001


def test_a_published_regression_comes_out_again(regressions: pd.DataFrame) -> None:
    published = regressions.query("world == 'effect' and sessions == 6")
    worlds = {"effect": CONFIG["worlds"]["effect"]}
    asked = {
        **CONFIG["regressions"],
        **CONFIG["regressions"]["full"],
        **{"sessions": [6], "seed": int(published["seed"].iloc[0])},
    }
    again = STUDY.run_regressions({**CONFIG, "worlds": worlds, "regressions": asked}, 1)
    for measure in ("true", "limit", "mean", "mcse"):
        np.testing.assert_allclose(again[measure], published[measure], rtol=1e-5, atol=1e-9)


# The ladder ----------------------------------------------------------------------------------


def test_the_published_ladder_is_that_of_the_configuration(ladder: pd.DataFrame) -> None:
    asked = CONFIG["ladder"]
    assert_cells(ladder, asked)
    assert asked["full"]["panels"] >= 200
    assert list(dict.fromkeys(ladder["family"])) == asked["families"]
    cells = len(CONFIG["worlds"]) * len(asked["full"]["sessions"])
    assert len(ladder) == cells * len(asked["families"]) * 2
    shares = ladder[[name for name in ladder if name.startswith("lead_")]].sum(axis=1)
    assert (abs(shares - 1.0) < 1e-4).all()


def test_claims_are_counted_as_defined() -> None:
    truth = STUDY.world(CONFIG, "effect")
    rungs = [
        STUDY.Rung((-0.2, 0.3), (0.05, 0.1), ("supported", "supported"), "both"),
        STUDY.Rung((0.2, 0.0), (0.05, 0.1), ("supported", "practically zero"), "forward"),
        STUDY.Rung((-0.1, 0.0), (0.1, 0.1), ("undetermined", "undetermined"), "undetermined"),
        STUDY.Rung(failure="Not converged"),
    ]
    table = STUDY.describe(rungs, truth).set_index("parameter")
    assert table.loc[FORWARD, "supported"] == pytest.approx(2 / 3)
    assert table.loc[FORWARD, "wrongly_supported"] == pytest.approx(1 / 3)
    assert table.loc[FORWARD, "bias"] == pytest.approx(-0.1 / 3 + 0.12)
    assert table.loc[FORWARD, "coverage"] == pytest.approx(2 / 3)
    backward = table.loc["phi[alliance,symptoms]"]
    assert backward["wrongly_supported"] == backward["practically_zero"] == pytest.approx(1 / 3)
    assert list(table["failed"]) == [1, 1]
    assert (table["reasons"] == "Not converged (1)").all()
    leads = table[[name for name in table if name.startswith("lead_")]]
    np.testing.assert_allclose(leads.sum(axis=1), 1.0)
    still = STUDY.describe(rungs, STUDY.world(CONFIG, "slopes")).set_index("parameter")
    assert still.loc[FORWARD, "wrongly_supported"] == pytest.approx(2 / 3)


def test_a_rung_is_what_its_model_says_of_the_panel() -> None:
    truth = STUDY.world(CONFIG, "effect")
    seeds = [np.random.SeedSequence(5).spawn(1)[0] for _ in range(2)]
    plain, detrended = STUDY.Climb(truth, 60, 6, ("ri-clpm", "ri-clpm-detrended"))(seeds[0])
    panel = ad.simulate(truth, 60, 6, seed=seeds[1])
    lines = panel.with_scores(
        ad.decompose(panel, trend="linear").detrended,
        Issue("scores-changed", "info", "Lines were taken out.", 720),
    )
    for rung, seen in ((plain, panel), (detrended, lines)):
        fit = ad.RICLPM().fit(seen)
        verdict = ad.compare_directions(fit, basis="reduced")
        assert rung.estimates[0] == pytest.approx(fit.params[FORWARD], abs=1e-6)
        assert rung.errors[0] == pytest.approx(fit.se[FORWARD], rel=1e-4)
        assert rung.states == (verdict.forward_state, verdict.backward_state)


# The page ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs" / "trends.md").read_text("utf-8")


def test_the_page_shows_the_published_tables_and_figures(page: str) -> None:
    published = (RESULTS / "trends.md").read_text("utf-8")
    rows = [line for line in published.splitlines() if line.startswith("| ")]
    worlds, corrections = len(CONFIG["worlds"]), len(STUDY.CORRECTIONS)
    models = len(CONFIG["ladder"]["families"])
    sessions = len(CONFIG["ladder"]["full"]["sessions"])
    assert len(rows) == 4 + worlds * (corrections + 2 + models + sessions)
    assert [row for row in rows if row not in page] == []
    for name in STUDY.FIGURES:
        copied = ROOT / "docs" / "images" / name.replace("_", "-")
        assert copied.read_bytes() == (RESULTS / name).read_bytes()


def points(value: float) -> str:
    """Write score points as the prose of the page does: -.058, and 0 for a rounded zero."""
    return f"{value:.3f}".replace("0.", ".", 1) if round(value, 3) else "0"


def listed(values: list[str]) -> str:
    return f"{', '.join(values[:-1])} and {values[-1]}"


# World and correction (exact, from 6, 10 and 20 sessions) within what the page says of them.
OF_REGRESSIONS = {
    ("slopes", "level"): "the within estimator finds {}",
    ("slopes", "level + session"): "and leave {}",
    ("both", "line"): "{} in the world with an effect and slopes",
    ("effect", "line"): "a true -.12 comes back as {} from",
    ("effect", "line first"): "as {} if the lines are taken out first",
    ("effect", "level"): "The level alone costs next to nothing here ({})",
    ("course", "level"): "fools the level ({})",
    ("course", "line"): "leave a rest ({})",
}
# World, model, measure and, where one figure is quoted, sessions.
OF_THE_LADDER = {
    ("slopes", "ri-clpm", "supported", None): "an effect that is not there in {} % of panels",
    ("slopes", "ri-clpm-equal-means", "supported", None): "one mean for all sessions in {} %",
    ("slopes", "ri-clpm", "bias", 10): "At 10 sessions its bias is {}: more",
    ("slopes", "ri-clpm-detrended", "supported", None): "keep their word** there: {} %",
    ("slopes", "lcm-sr", "supported", None): "and {} %. - **Detrending",
    ("effect", "ri-clpm-detrended", "bias", None): "bias of the detrended RI-CLPM is {} and",
    ("effect", "ri-clpm-detrended", "coverage", None): "hold the truth in {} of panels",
    ("effect", "lcm-sr", "bias", None): "that of the LCM-SR is {}, with",
    ("effect", "lcm-sr", "coverage", None): "with {}. It knows",
    ("effect", "lcm-sr", "empirical_se", None): "Its estimates spread by {} where",
    ("effect", "ri-clpm", "empirical_se", None): "those of the RI-CLPM spread by {};",
    ("effect", "lcm-sr", "supported", 6): "at 6 sessions it finds the effect in {} % of panels",
    ("effect", "ri-clpm", "supported", 6): "of panels, the RI-CLPM in {} %.",
    ("course", "ri-clpm-equal-means", "supported", None): "is wrong in {} % of panels, with them",
    ("course", "ri-clpm", "supported", None): "with them in {} %.",
    ("course", "clpm", "supported", None): "({} % in the last world)",
}


def test_the_prose_quotes_the_published_figures(
    page: str, regressions: pd.DataFrame, ladder: pd.DataFrame
) -> None:
    prose = " ".join(page.split())
    few = regressions[regressions["parameter"].eq(FORWARD) & regressions["sessions"].isin(FEW)]
    limits = few.set_index(["world", "correction"])["limit"].sort_index()
    for of, sentence in OF_REGRESSIONS.items():
        told = [points(limit) for limit in limits[of]]
        assert sentence.format(listed(told)) in prose
    forward = ladder[ladder["parameter"] == FORWARD]
    for (*of, measure, only), sentence in OF_THE_LADDER.items():
        rows = forward[(forward[["world", "family"]] == of).all(axis=1)]
        rows = rows if only is None else rows[rows["sessions"] == only]
        percent = measure == "supported"
        told = [f"{100 * x:.0f}" if percent else points(x) for x in rows[measure]]
        assert sentence.format(told[0] if only else listed(told)) in prose
    assert f"the same {CONFIG['ladder']['full']['panels']} panels" in prose
    fits, failed = forward["panels"].sum(), forward["failed"].sum()
    assert f"{failed} of {fits:,} fits did not converge" in prose


def test_what_the_page_concludes_holds(regressions: pd.DataFrame, ladder: pd.DataFrame) -> None:
    """Claims of the page that quote no figure."""
    forward = ladder[ladder["parameter"] == FORWARD].set_index(["world", "family", "sessions"])
    assert (forward["failed"] <= 0.01 * forward["panels"]).all()
    z = (forward["coverage"] - 0.95) / np.sqrt(0.95 * 0.05 / forward["panels"])
    off = forward["bias"].abs() / forward["mcse_bias"]
    for world in CONFIG["worlds"]:
        for sessions in CONFIG["ladder"]["full"]["sessions"]:
            at = (world, "lcm-sr-session-means", sessions)
            assert off[at] < CHANCE
            assert z[at] > -CHANCE
    alarm = forward.sort_index().loc[("slopes", "ri-clpm")]
    assert alarm.loc[10, "bias"] < alarm.loc[6, "bias"] < 0.0
    assert alarm.loc[10, "supported"] > alarm.loc[6, "supported"]
    real = ladder[ladder["world"].isin(["effect", "both"]) & (ladder["parameter"] == FORWARD)]
    assert (real["wrongly_supported"] <= 0.005).all()


def test_the_published_tables_are_those_of_the_files(
    regressions: pd.DataFrame, ladder: pd.DataFrame
) -> None:
    published = (RESULTS / "trends.md").read_text("utf-8")
    titles = {name: own["title"] for name, own in CONFIG["worlds"].items()}
    assert STUDY.regression_table(regressions, titles) in published
    for name in titles:
        assert STUDY.ladder_table(ladder, titles, name) in published
    assert STUDY.bic_table(ladder, titles) in published


def test_the_study_runs_as_documented(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--panels", "2", "--jobs", "2", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {
        *("trends_regressions.csv", "trends_ladder.csv", "trends.md", *STUDY.FIGURES)
    }
    for name in ("trends_regressions.csv", "trends_ladder.csv"):
        small, full = pd.read_csv(tmp_path / name), pd.read_csv(RESULTS / name)
        assert list(small) == list(full)
        assert (small["panels"] == 2).all()
        assert list(dict.fromkeys(small["world"])) == list(CONFIG["worlds"])
