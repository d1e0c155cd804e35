"""Known answers: exact figures by independent routes, published figures, the page, the runner.

"Monte Carlo error" is the standard error of a figure from a finite number of panels. Of some 130
published figures that have an exact one, none lies more than four such errors off in 99 of 100
studies. Earlier figures agree as `results_page.agrees` says: rounding and two standard errors.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import alliancedyn as ad

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "simulations"
RESULTS = FOLDER / "results"
sys.path.append(str(FOLDER))  # the scripts are in no package

import known_answers  # noqa: E402
import results_page  # noqa: E402
from demonstrations import DEMONSTRATIONS, lagged, levels, ruptures  # noqa: E402
from demonstrations.cell import WORLDS, least_squares, load, within_pairs  # noqa: E402

CONFIG = tomllib.loads(known_answers.CONFIG.read_text("utf-8"))
PAGE = (ROOT / "docs" / "known-answers.md").read_text("utf-8")
CHANCE = 4.0
SAMPLED = ("calibration",)  # takes minutes however small; has tests of its own
DIFFERENT = {("unequal_reliability", "alliance → symptoms", "scores as they are")}


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return pd.concat([results_page.read(RESULTS / f"{name}.csv") for name in CONFIG])


# Exact figures, the long way round -----------------------------------------------------------


def test_means_over_pairs_are_dummy_variables_of_clients() -> None:
    panel = ad.simulate(load("two_directions").truth, 12, 7, seed=1, dropout=ad.Dropout(rate=0.5))
    Y = panel.arrays().Y
    rows = np.isfinite(Y[:, 1:]).all(axis=2)
    client = np.nonzero(rows)[0]
    dummies = np.equal.outer(client, np.arange(12)).astype(float)
    X = np.hstack([Y[:, :-1][rows], dummies[:, np.unique(client)]])
    expected = np.linalg.lstsq(X, Y[:, 1:][rows], rcond=None)[0][:2]
    np.testing.assert_allclose(least_squares(*within_pairs(Y)), expected, atol=1e-10)


def test_mean_squares_are_the_partition_by_therapist() -> None:
    rng = np.random.default_rng(2)
    a = rng.standard_normal((30, 1)) + rng.standard_normal((30, 8))
    s = -0.5 * a.mean(axis=1, keepdims=True) + rng.standard_normal((30, 8))
    client = np.arange(240)
    frame = pd.DataFrame(
        {
            "client": np.repeat(client, 2),
            "session": np.tile([1, 2], 240),
            "therapist": np.repeat(client // 8, 2),
            "alliance": np.column_stack([a.ravel(), np.full(240, np.nan)]).ravel(),
            "symptoms": np.column_stack([np.full(240, np.nan), s.ravel()]).ravel(),
        }
    )
    panel = ad.SessionPanel.from_frame(
        frame, client="client", session="session", therapist="therapist",
        variables=["alliance", "symptoms"], process="alliance", outcome="symptoms",
    )  # fmt: skip
    found = ad.therapist_partition(panel)
    observed, components, everyone = levels.slopes(a, s)
    assert found.slope("therapist", "observed").value == pytest.approx(observed, abs=1e-10)
    # Components by REML and by mean squares are the same where caseloads are equal.
    assert found.slope("therapist").value == pytest.approx(components, abs=1e-6)
    assert found.slope("total", "observed").value == pytest.approx(everyone, abs=1e-10)


def test_a_drop_over_one_pair_has_its_textbook_chance() -> None:
    truth = load("no_ruptures").truth
    sd = np.sqrt(2.0 * truth.within_cov[0, 0] * (1.0 - 0.35))
    found = ruptures.some_drop(truth, 2, 1.645 * sd)
    assert found == pytest.approx(0.05, abs=2e-5)  # 1.645 is rounded


def test_group_limits_are_what_dummies_of_group_sessions_give() -> None:
    study = {**CONFIG["group_part_whole"], "sizes": [4], "groups": 300, "sessions": 6}
    (cell,) = DEMONSTRATIONS["group_part_whole"](study)
    found = cell.draw(np.random.SeedSequence(3))
    world = load("own_and_others")
    groups = ad.simulate(
        world.truth, 1200, 6, seed=np.random.SeedSequence(3),
        groups=ad.Groups(4, others=((0, 0), (-0.3, 0)), shock_cov=((0.36, 0), (0, 0.2))),
    )  # fmt: skip
    Y = groups.arrays().Y
    before, now = Y[:, :-1].reshape(-1, 2), Y[:, 1:, 1].ravel()
    label = (np.arange(1200)[:, None] // 4 * 5 + np.arange(5)).ravel()
    frame = pd.DataFrame({"a": before[:, 0], "s": before[:, 1], "y": now})
    rest = frame - frame.groupby(label).transform("mean")
    slope = np.linalg.lstsq(rest[["a", "s"]], rest["y"], rcond=None)[0][0]
    assert found[levels.OWN, "distance from the group's mean"] == pytest.approx(slope, abs=1e-10)


def test_gaps_average_the_powers_of_the_lag_matrix() -> None:
    (cell,) = DEMONSTRATIONS["gaps"](CONFIG["gaps"])
    phi = np.array([[0.35, -0.10], [-0.15, 0.40]])
    mixed = 0.60 * phi + 0.25 * phi @ phi + 0.15 * phi @ phi @ phi @ phi
    key = lagged.CARRYING, "gaps treated as equal"
    assert cell.exact[key] == pytest.approx(mixed[1, 1], abs=1e-12)


# What is published ---------------------------------------------------------------------------


def test_published_figures_gather_at_the_exact_ones(published: pd.DataFrame) -> None:
    some = published.dropna(subset=["exact"])
    off = (some["mean"] - some["exact"]).abs() / some["mcse"]
    # The error is estimated from the panels: t, with the chance of four normal errors.
    most = stats.t.isf(stats.norm.sf(CHANCE), some["panels"] - 1)
    assert len(some) > 100
    assert (off < most).all()


def test_panels_without_an_estimate_are_counted_and_told(published: pd.DataFrame) -> None:
    cells = published.drop_duplicates("seed").set_index("seed")
    assert cells["failed"].sum() == 1
    assert cells.loc[cells["failed"] > 0, "study"].tolist() == ["dropout"]
    panels = cells.loc[cells["study"] == "dropout", "panels"].sum()
    assert f"In one of {panels} panels the LCM-SR did not converge" in " ".join(PAGE.split())


@pytest.mark.parametrize("name", CONFIG)
def test_earlier_figures_agree_or_are_named(name: str) -> None:
    found = results_page.read(RESULTS / f"{name}.csv")
    told = [row for row in found.itertuples() if row.earlier]
    asked = [one["value"] for one in CONFIG[name]["earlier"]]
    assert len(told) == sum(len(v) if isinstance(v, list) else 1 for v in asked)
    for row in told:
        key = (row.study, row.quantity, row.method)
        assert results_page.agrees(row) == (key not in DIFFERENT), key
        assert bool(row.note) == (key in DIFFERENT)


@pytest.mark.parametrize("name", CONFIG)
def test_published_results_are_those_of_the_configuration(name: str) -> None:
    found, study = results_page.read(RESULTS / f"{name}.csv"), CONFIG[name]
    assert (found["panels"] == study["full"]["panels"]).all()
    cells = DEMONSTRATIONS[name](study | study["full"])
    assert list(dict.fromkeys(found["seed"])) == [study["seed"] + i for i in range(len(cells))]
    for cell, (_, rows) in zip(cells, found.groupby("seed"), strict=True):
        for row in rows.itertuples():
            exact = cell.exact.get((row.quantity, row.method), np.nan)
            # Six digits are in the file, and the integral of normal drops has four.
            assert row.exact == pytest.approx(exact, rel=1e-4, abs=1e-4, nan_ok=True)


def test_no_two_studies_share_a_seed(published: pd.DataFrame) -> None:
    assert (published.groupby("seed")["study"].nunique() == 1).all()


def test_the_results_page_is_made_from_the_tables(tmp_path: Path) -> None:
    for path in RESULTS.glob("*.csv"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for name in CONFIG:
        (tmp_path / f"{name}.png").touch()
    if (RESULTS / "benchmark_estimators.png").exists():
        (tmp_path / "benchmark_estimators.png").touch()
    results_page.write(tmp_path)
    for page in ("README.md", "known_answers.md"):
        assert (tmp_path / page).read_text("utf-8") == (RESULTS / page).read_text("utf-8")


# The page ------------------------------------------------------------------------------------


def test_the_page_shows_the_published_tables_and_figures() -> None:
    written = (RESULTS / "known_answers.md").read_text("utf-8")
    tables = re.findall(r"(?:^\|.*\|\n)+", written, re.MULTILINE)
    assert len(tables) > len(CONFIG)
    assert [table for table in tables if table.strip() not in PAGE] == []
    for name in CONFIG:
        image = ROOT / "docs" / "images" / f"{name.replace('_', '-')}.png"
        assert image.read_bytes() == (RESULTS / f"{name}.png").read_bytes()
        assert f"images/{image.name}" in PAGE


@pytest.mark.parametrize("name", CONFIG)
def test_every_figure_in_the_prose_is_in_the_table_or_the_world(name: str) -> None:
    title = re.escape(CONFIG[name]["title"])
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    prose = "\n".join(line for line in section.splitlines() if not line.startswith(("|", "!")))
    said = [
        *((float(text), len(text.partition(".")[2])) for text in decimals(prose)),
        *((float(text) / 100.0, 2) for text in re.findall(r"(\d+)(?: to \d+)? %", prose)),
    ]
    known = known_figures(name)
    missing = [
        value for value, digits in said
        if not (np.abs(np.abs(known) - abs(value)) <= 0.5001 * 10.0**-digits).any()
    ]  # fmt: skip
    assert not missing


def decimals(text: str) -> list[str]:
    return re.findall(r"(?<![\w.])-?\d*\.\d+", text)


def known_figures(name: str) -> np.ndarray:
    """Return the figures of a study's table, of its worlds and of its configuration."""
    study = CONFIG[name]
    found = results_page.read(RESULTS / f"{name}.csv")
    # Where there is an exact figure the prose quotes it, not the simulated one.
    exact = found["exact"].fillna(found["mean"]).to_numpy(float)
    quoted = np.concatenate([found["true"].to_numpy(float), exact])
    texts = [str(study)]
    for world in study.get("worlds", [study.get("world")]):
        own = WORLDS / f"{world}.toml"
        texts.append((own if own.exists() else ad.worlds.path(world)).read_text("utf-8"))
    written = [float(text) for text in decimals(" ".join(texts))]
    return np.concatenate([quoted[np.isfinite(quoted)], written])


# The runner ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_runner_lists_and_runs_every_study_small(tmp_path: Path) -> None:
    runner = [sys.executable, str(FOLDER / "run.py")]
    listed = subprocess.run(runner, capture_output=True, text=True, check=True).stdout
    names = [line.split()[0] for line in listed.splitlines()]
    assert set(DEMONSTRATIONS) < set(names)
    fast = [name for name in names if name not in SAMPLED]
    arguments = [*fast, "--panels", "2", "--out", str(tmp_path)]
    done = subprocess.run([*runner, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = {path.name for path in tmp_path.iterdir()}
    assert {f"{name}.{kind}" for name in DEMONSTRATIONS for kind in ("csv", "png")} < written
    assert {"recovery_grid.csv", "benchmark_estimators.csv", "trends_ladder.csv"} < written
    page = (tmp_path / "README.md").read_text("utf-8")
    assert all(f"## {study['title']}\n" in page for study in CONFIG.values())


def test_an_unknown_study_is_refused() -> None:
    runner = [sys.executable, str(FOLDER / "run.py"), "gap"]
    done = subprocess.run(runner, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no study gap; there are recovery_grid" in done.stderr
