"""Recovery: what was put in is found, up to Monte Carlo error; known biases are where theory says.

"Monte Carlo error" (mcse) is the standard error of a figure that comes from a finite number of
replications. Bounds: 4 for a bias, 3 for a coverage, as in the published grid.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import alliancedyn as ad
from alliancedyn.engine.moments import implied_moments
from alliancedyn.errors import DataError, InferenceWarning, SpecificationError
from alliancedyn.results import Fit
from alliancedyn.simulate import simulate
from alliancedyn.studies.performance import performance
from alliancedyn.studies.population import pseudo_true
from alliancedyn.studies.recovery import NOT_CONVERGED, RecoveryStudy, recover

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "simulations" / "results"
CONFIG = tomllib.loads((ROOT / "simulations" / "recovery_grid.toml").read_text("utf-8"))
TRUTH = ad.Dynamics.time_ordered(**CONFIG["truth"])
SEEN = {"dropout": ad.Dropout(**CONFIG["seen"]["dropout"]), "missing": CONFIG["seen"]["missing"]}
PATHS = [f"phi[{row},{col}]" for row in TRUTH.variables for col in TRUTH.variables]
SECONDS = 180.0  # what 500 panels of 200 clients x 8 sessions may take on two cores


# Measures ------------------------------------------------------------------------------------


def test_measures_are_those_of_their_definitions() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0.3, 0.1, 40)
    s = rng.uniform(0.05, 0.15, 40)
    found = performance(x[:, None], s[:, None], np.array([0.25]), 0.9)
    z = 1.6448536269514722
    covered = [abs(a - 0.25) <= z * b for a, b in zip(x, s, strict=True)]
    excluded = [a - z * b > 0 or a + z * b < 0 for a, b in zip(x, s, strict=True)]
    expected = {
        "bias": sum(x) / 40 - 0.25,
        "mcse_bias": np.std(x, ddof=1) / np.sqrt(40),
        "empirical_se": np.std(x, ddof=1),
        "rmse": np.sqrt(sum((x - 0.25) ** 2) / 40),
        "model_se": np.sqrt(sum(s**2) / 40),
        "coverage": sum(covered) / 40,
        "mcse_coverage": np.sqrt(sum(covered) / 40 * (1 - sum(covered) / 40) / 40),
        "power": sum(excluded) / 40,
        "n": 40,
        "intervals": 40,
    }
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value, rel=1e-12), name


def test_monte_carlo_errors_are_the_spread_of_repeated_studies() -> None:
    rng = np.random.default_rng(1)
    n, studies = 150, 4000
    x = rng.normal(0.2, 0.1, (n, studies))
    s = np.sqrt(0.01 * rng.chisquare(30, (n, studies)) / 30)
    found = performance(x, s, np.full(studies, 0.15), 0.95)
    for name in ("bias", "rmse", "empirical_se", "model_se", "coverage", "power"):
        spread = float(np.std(found[name]))
        claimed = float(np.sqrt(np.mean(found[f"mcse_{name}"] ** 2)))
        assert claimed == pytest.approx(spread, rel=0.05), name


def test_an_estimate_without_a_standard_error_counts_for_bias_only() -> None:
    x = np.array([[0.1, np.nan], [0.3, np.nan], [np.nan, np.nan]])
    s = np.array([[0.1, np.nan], [np.nan, np.nan], [np.nan, np.nan]])
    found = performance(x, s, np.array([0.0, 0.0]), 0.95)
    assert found["bias"][0] == pytest.approx(0.2)
    assert (found["n"][0], found["intervals"][0]) == (2, 1)
    assert found["coverage"][0] == 1.0
    assert np.isnan([found[name][1] for name in ("bias", "rmse", "coverage", "model_se")]).all()


# Pseudo-true values --------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [ad.RICLPM(), ad.RICLPM(initial="stationary", means="equal")])
def test_a_right_model_converges_to_the_truth(spec: ad.RICLPM) -> None:
    found, true = pseudo_true(spec, TRUTH, 5), TRUTH.params(5)
    assert len(found) >= 15
    assert max(abs(found - true[found.index])) < 1e-6


def test_the_clpm_converges_to_the_regression_that_mixes_the_levels_in() -> None:
    _, cov = TRUTH.moments(2)
    expected = np.linalg.solve(cov[:2, :2], cov[:2, 2:]).T  # of (a, s) on (a, s) before
    found = pseudo_true(ad.CLPM(), TRUTH, 8)
    assert found[PATHS].to_numpy() == pytest.approx(expected.ravel(), abs=1e-7)
    assert abs(found["phi[symptoms,symptoms]"] - 0.45) > 0.2


def test_pseudo_true_values_maximize_the_expected_log_likelihood() -> None:
    """The second route: E l from implied moments, with no panel and no kernel."""
    spec = ad.CLPM(initial="stationary", means="equal")
    mean, cov = TRUTH.moments(4)
    found = pseudo_true(spec, TRUTH, 4)
    free = [name for name in found.index if not name.startswith("initial_cov")]

    def expected(theta: np.ndarray) -> float:
        params = dict(zip(free, theta, strict=True))
        try:
            mu, sigma = implied_moments(spec.state_space(params, TRUTH.variables, (1, 2, 3, 4)))
        except SpecificationError:  # an explosive process, on the way of the search
            return 1e9
        away = cov + np.outer(mean - mu, mean - mu)
        sign, logdet = np.linalg.slogdet(sigma)
        return float(logdet + np.trace(np.linalg.solve(sigma, away))) if sign > 0 else 1e9

    best = minimize(expected, TRUTH.params()[free].to_numpy(), method="BFGS", tol=1e-9)
    assert best.x == pytest.approx(found[free].to_numpy(), abs=2e-5)
    assert expected(found[free].to_numpy()) <= best.fun + 1e-10


def test_clpm_estimates_gather_at_their_pseudo_true_values() -> None:
    target = pseudo_true(ad.CLPM(), TRUTH, 6)
    study = recover(
        ad.CLPM(), TRUTH, clients=1000, sessions=6, replications=60, seed=11, target=target
    )
    assert not study.failures
    table = study.table().loc[PATHS]
    assert (table["bias"].abs() < 4 * table["mcse_bias"]).all()
    # Precise enough to tell them from the truth, which they are not.
    assert (abs(table["mean"] - TRUTH.params()[PATHS]) > 4 * table["mcse_bias"])[
        ["phi[alliance,alliance]", "phi[symptoms,symptoms]", "phi[symptoms,alliance]"]
    ].all()


def test_lags_that_vary_over_clients_have_no_pseudo_true_value() -> None:
    varied = ad.Dynamics(
        phi=[[0.3, 0.0], [0.0, 0.3]], innovation_cov=np.eye(2), phi_sd=0.1 * np.ones((2, 2))
    )
    with pytest.raises(SpecificationError, match="no closed form"):
        pseudo_true(ad.CLPM(), varied, 4)


# Studies -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_published_cell_comes_out_again_in_time() -> None:
    """500 panels of 200 clients x 8 sessions: same figures as published, fast enough, recovered."""
    (cell,) = [c for c in CONFIG["cells"] if (c["clients"], c["sessions"]) == (200, 8)]
    study = recover(ad.RICLPM(), TRUTH, **cell, replications=500, jobs=2, **SEEN)
    assert study.seconds < SECONDS
    assert study.departures(PATHS).empty
    published = pd.read_csv(RESULTS / "recovery_grid.csv")
    published = published.query("clients == 200 and sessions == 8").set_index("parameter")
    table = study.table()
    assert list(table.index) == list(published.index)
    for measure in ("mean", "bias", "rmse", "empirical_se", "model_se", "mcse_bias"):
        np.testing.assert_allclose(table[measure], published[measure], rtol=1e-4, atol=1e-6)
    for measure in ("coverage", "power"):  # one interval may fall on its edge on another machine
        np.testing.assert_allclose(table[measure], published[measure], atol=0.0021)


@pytest.mark.parametrize(
    ("spec", "clients", "sessions"),
    [
        (ad.RICLPM(initial="stationary", means="equal"), 200, 6),
        (ad.RICLPM(lags="free"), 400, 4),
    ],
)
def test_other_options_recover_the_lags_too(spec: ad.RICLPM, clients: int, sessions: int) -> None:
    study = recover(
        spec, TRUTH, clients=clients, sessions=sessions, replications=100, seed=5, **SEEN
    )
    lags = [name for name in study.estimates if name.startswith("phi[")]
    assert len(lags) == (4 * (sessions - 1) if spec.lags == "free" else 4)
    assert study.departures(lags).empty
    assert len(study.estimates) + sum(study.failures.values()) == 100


def test_results_do_not_depend_on_the_number_of_processes() -> None:
    asked: dict[str, Any] = {"clients": 60, "sessions": 4, "replications": 12, "seed": 3, **SEEN}
    one = recover(ad.RICLPM(), TRUTH, **asked, jobs=1)
    two = recover(ad.RICLPM(), TRUTH, **asked, jobs=2)
    assert one.boundaries  # the search is started again there, at random: by the seed as well
    pd.testing.assert_frame_equal(one.estimates, two.estimates, check_exact=True)
    pd.testing.assert_frame_equal(one.errors, two.errors, check_exact=True)
    assert (one.failures, one.boundaries) == (two.failures, two.boundaries)


def test_a_wrong_model_departs_and_says_where() -> None:
    study = recover(ad.CLPM(), TRUTH, clients=300, sessions=5, replications=40, seed=1)
    off = study.departures()
    assert "phi[symptoms,symptoms]" in off.index
    assert off.loc["phi[symptoms,symptoms]", "bias_z"] > 20
    assert off.loc["phi[symptoms,symptoms]", "coverage"] < 0.05
    assert not [name for name in off.index if name.startswith("mean[")]


def test_a_bound_is_counted_and_its_estimates_kept() -> None:
    flat = ad.Dynamics(phi=[[0.3, 0.0], [0.0, 0.3]], innovation_cov=np.eye(2))
    study = recover(ad.RICLPM(), flat, clients=80, sessions=5, replications=30, seed=2)
    assert set(study.boundaries) <= set(study.estimates)
    at_bound = sum(n for name, n in study.boundaries.items() if name.startswith("between_cov"))
    assert at_bound >= 10
    assert len(study.estimates) == 30 - sum(study.failures.values())


@dataclass(frozen=True)
class Moody:
    """A model that refuses some panels and does not converge on others."""

    name: str = "Moody"

    def fit(
        self,
        panel: ad.SessionPanel,
        *,
        errors: str = "observed",
        seed: int | None,
        strict: bool,
    ) -> Fit:
        rows = len(panel.frame)
        if rows % 3 == 0:
            raise DataError(f"{rows} rows are too many by {rows / 7:.3f}. Bring fewer.")
        fit = ad.CLPM().fit(panel, errors=errors, seed=seed, strict=strict)
        if rows % 3 == 1:
            object.__setattr__(fit, "converged", False)
            fit.diagnostics["failure"] = f"the search stopped after {rows} rows."
        return fit


def test_every_failure_is_counted_by_its_reason_and_none_replaced() -> None:
    asked: dict[str, Any] = {"clients": 40, "sessions": 5, "replications": 30, "seed": 0, **SEEN}
    study = recover(Moody(), TRUTH, **asked, jobs=1)
    assert set(study.failures) == {
        "DataError: # rows are too many by #. Bring fewer.",
        f"{NOT_CONVERGED}: the search stopped after # rows.",
    }
    assert sum(study.failures.values()) + len(study.estimates) == 30
    assert 0 < len(study.estimates) < 30
    plain = recover(ad.CLPM(), TRUTH, **asked, jobs=1)
    kept = plain.estimates.loc[study.estimates.index]
    pd.testing.assert_frame_equal(study.estimates, kept)
    assert (study.table()["n"] == len(study.estimates)).all()


def test_a_study_in_which_everything_fails_has_an_empty_table() -> None:
    study = recover(ad.RICLPM(), TRUTH, clients=30, sessions=2, replications=4)
    assert list(study.failures.values()) == [4]
    assert "needs # or more sessions" in next(iter(study.failures))
    assert study.table().empty
    assert study.departures().empty
    assert "4 failed" in repr(study)


def test_therapists_and_a_start_of_its_own_are_part_of_the_truth() -> None:
    study = recover(
        ad.RICLPM(),
        TRUTH,
        clients=60,
        sessions=4,
        replications=2,
        therapists=ad.Therapists(10, [[0.5, -0.1], [-0.1, 0.4]]),
        start=[[2.0, -0.5], [-0.5, 3.0]],
        errors="cluster:therapist",
        jobs=1,
    )
    assert study.target["between_cov[alliance,alliance]"] == pytest.approx(1.5)
    assert study.target["between_cov[alliance,symptoms]"] == pytest.approx(-0.4)
    assert study.target["initial_cov[alliance,symptoms]"] == pytest.approx(-0.5)
    assert study.target["mean[symptoms]@3"] == 10.0


def test_power_of_a_variance_is_not_given() -> None:
    study = recover(ad.CLPM(), TRUTH, clients=60, sessions=3, replications=5, jobs=1)
    power = study.table()["power"]
    assert power.isna().sum() == 4
    assert power.isna()[
        ["innovation_cov[alliance,alliance]", "initial_cov[symptoms,symptoms]"]
    ].all()
    assert power.notna()["innovation_cov[alliance,symptoms]"]


@pytest.mark.parametrize(
    ("wrong", "fragment"),
    [
        ({"truth": "a world"}, "give a Dynamics"),
        ({"level": 95}, "level is 95; give a number between 0 and 1"),
        ({"clients": 0}, "clients is 0; give a whole number from 1 up"),
        ({"missing": 10}, "not a percentage"),
        ({"dropout": ad.Dropout(first=3)}, "Nobody can leave"),
        ({"start": "odd"}, "start='odd' is not known"),
        ({"replications": 0}, "replications is 0; give a whole number from 1 up"),
        ({"jobs": 0}, "jobs must be"),
        ({"target": {"phi[x,y]": 0.1}}, r"target names 'phi\[x,y\]'"),
    ],
)
def test_impossible_studies_are_refused(wrong: dict[str, Any], fragment: str) -> None:
    asked: dict[str, Any] = {"clients": 30, "sessions": 3, "replications": 2, "jobs": 1}
    asked |= {"truth": TRUTH} | wrong
    with pytest.raises(SpecificationError, match=fragment):
        recover(ad.CLPM(), asked.pop("truth"), **asked)


def test_departures_of_unknown_parameters_are_refused() -> None:
    study = recover(ad.CLPM(), TRUTH, clients=30, sessions=3, replications=2, jobs=1)
    with pytest.raises(SpecificationError, match=r"no parameter 'phi\[x,y\]'"):
        study.departures(["phi[x,y]"])


# Small cells ---------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [ad.RICLPM(), ad.CLPM()])
def test_twenty_clients_and_three_sessions_carry_a_warning(spec: ad.RICLPM | ad.CLPM) -> None:
    panel = simulate(TRUTH, 20, 3, missing=0.1, seed=0)
    fit = spec.fit(panel, strict=False)
    (note,) = fit.diagnostics["notes"]
    assert note.startswith(f"20 clients carry {fit.n_params} parameters: intervals and tests")
    with pytest.warns(InferenceWarning, match="20 clients carry"):
        spec.fit(panel)


def test_every_replication_of_the_smallest_cell_is_accounted_for() -> None:
    study = recover(ad.RICLPM(), TRUTH, clients=20, sessions=3, replications=20, seed=4, jobs=1)
    assert len(study.estimates) + sum(study.failures.values()) == 20
    assert study.boundaries


def test_two_sessions_cannot_tell_levels_from_lags() -> None:
    with pytest.raises(SpecificationError, match="RI-CLPM needs 3 or more sessions"):
        ad.RICLPM().fit(simulate(TRUTH, 200, 2, seed=0))


def test_a_session_of_fewer_than_five_clients_is_refused() -> None:
    frame = simulate(TRUTH, 40, 5, seed=0).frame
    frame = frame[(frame["session"] < 5) | (frame["client"] < "C04")]
    panel = ad.SessionPanel.from_frame(
        frame, client="client", session="session", variables=["alliance", "symptoms"]
    )
    with pytest.raises(SpecificationError, match=r"Fewer than 5 .*session 5,.*means=\"equal\""):
        ad.RICLPM().fit(panel)


def test_fewer_than_five_clients_are_refused() -> None:
    with pytest.raises(SpecificationError, match="needs 5 or more"):
        ad.RICLPM().fit(simulate(TRUTH, 4, 3, seed=0))


def test_a_constant_series_is_refused_by_name() -> None:
    frame = simulate(TRUTH, 50, 5, seed=0).frame
    frame["alliance"] = 4.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reading it has something to say as well
        panel = ad.SessionPanel.from_frame(
            frame, client="client", session="session", variables=["alliance", "symptoms"]
        )
    with pytest.raises(SpecificationError, match="'alliance' has the same value in every row"):
        ad.RICLPM().fit(panel)


def test_a_client_whose_series_never_moves_is_kept() -> None:
    frame = simulate(TRUTH, 60, 5, seed=0).frame
    frame.loc[frame["client"] == "C07", "alliance"] = 3.0
    panel = ad.SessionPanel.from_frame(
        frame, client="client", session="session", variables=["alliance", "symptoms"]
    )
    assert "C07" in set(panel.clients)
    assert [issue for issue in panel.issues if "never" in issue.message or "constant" in issue.code]
    assert ad.RICLPM().fit(panel, strict=False).sample.clients == 60


# One large panel -----------------------------------------------------------------------------


def test_structural_paths_of_a_large_panel() -> None:
    """b = -.12, g = -.10, h = 0 and the autoregressions, within 4 standard errors."""
    panel = simulate(TRUTH, 20_000, 10, seed=20260310)
    paths = ad.RICLPM().fit(panel).structural()
    true = {
        "forward": -0.12,
        "backward_immediate": -0.10,
        "backward_delayed": 0.0,
        "autoregression[alliance]": 0.35,
        "autoregression[symptoms]": 0.45,
    }
    assert set(true) == set(paths.index)
    for path, value in true.items():
        estimate, se = paths.loc[path, ["estimate", "se"]]
        assert se < 0.004, path
        assert abs(estimate - value) < 4 * se, path


# The published grid --------------------------------------------------------------------------


def test_the_published_grid_is_that_of_the_configuration() -> None:
    cells = pd.read_csv(RESULTS / "recovery_grid_cells.csv")
    assert cells[["clients", "sessions", "seed"]].to_dict("records") == CONFIG["cells"]
    assert (cells["replications"] == CONFIG["replications"]["full"]).all()
    assert CONFIG["replications"]["full"] >= 500
    assert {(c["clients"], c["sessions"]) for c in CONFIG["cells"]} == {
        (n, t) for n in (50, 200, 1000) for t in (4, 8, 20)
    }
    grid = pd.read_csv(RESULTS / "recovery_grid.csv")
    counted = grid.groupby(["clients", "sessions"])["n"].first().reset_index()
    both = counted.merge(cells, on=["clients", "sessions"])
    assert (both["n"] + both["failed"] == both["replications"]).all()


# Estimate +- 1.96 SE is too short where four sessions carry a random intercept: see below.
SHORT = {(200, 4, "phi[symptoms,symptoms]")}


def coverage_z(coverage: pd.Series, n: pd.Series) -> pd.Series:
    return (coverage - 0.95) / np.sqrt(0.95 * 0.05 / n)


def test_lagged_effects_of_the_published_grid_are_recovered() -> None:
    grid = pd.read_csv(RESULTS / "recovery_grid.csv")
    lags = grid[grid["parameter"].isin(PATHS)]
    assert len(lags) == 36
    assert (lags["bias"].abs() <= 4 * lags["mcse_bias"]).all()
    large = lags[lags["clients"] >= 200]
    off = large[coverage_z(large["coverage"], large["intervals"]).abs() > 3]
    assert set(zip(off["clients"], off["sessions"], off["parameter"], strict=True)) == SHORT


def test_intervals_fall_short_by_their_shape_and_not_by_the_estimate() -> None:
    """In the cell of SHORT, more panels: the interval by SE is short, that by likelihood is not."""
    found = pd.read_csv(RESULTS / "recovery_intervals.csv").set_index("parameter")
    assert (CONFIG["intervals"]["clients"], CONFIG["intervals"]["sessions"]) == (200, 4)
    assert (found["n"] + found["failed"] == CONFIG["intervals"]["replications"]).all()
    assert (coverage_z(found["coverage_profile"], found["n"]).abs() <= 3).all()
    wald = coverage_z(found["coverage_wald"], found["n"])
    assert wald["phi[symptoms,symptoms]"] < -3
    assert (found["coverage_wald"] > 0.92).all()


def test_the_page_shows_the_published_figures() -> None:
    page = (ROOT / "docs" / "recovery.md").read_text("utf-8")
    published = (RESULTS / "recovery_grid.md").read_text("utf-8")
    rows = [line for line in published.splitlines() if line.startswith("| ")]
    assert len(rows) == 38
    assert [row for row in rows if row not in page] == []
    intervals = pd.read_csv(RESULTS / "recovery_intervals.csv")
    for row in intervals.itertuples():
        wald = f"{row.coverage_wald:.3f} ({row.mcse_wald:.3f})"
        profile = f"{row.coverage_profile:.3f} ({row.mcse_profile:.3f})"
        assert f"| `{row.parameter}` | {wald} | {profile} |" in page
    figure = (ROOT / "docs" / "images" / "recovery-grid.png").read_bytes()
    assert figure == (RESULTS / "recovery_grid.png").read_bytes()


def run_script(name: str, *arguments: str) -> str:
    """Run a study script in its own process and return what it said about its progress."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "simulations" / name), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_grid_runs_as_documented(tmp_path: Path) -> None:
    out = tmp_path / "grid"
    said = run_script("recovery_grid.py", "--replications", "2", "--jobs", "2", "--out", str(out))
    assert said.count(RecoveryStudy.__name__) == len(CONFIG["cells"])
    assert {path.name for path in out.iterdir()} == {
        *("recovery_grid.csv", "recovery_grid_cells.csv", "recovery_grid.md", "recovery_grid.png")
    }
    grid = pd.read_csv(out / "recovery_grid.csv")
    assert len(grid) == sum(3 * (13 + 2 * sessions) for sessions in (4, 8, 20))


def test_the_intervals_run_as_documented(tmp_path: Path) -> None:
    run_script(
        "recovery_intervals.py", "--replications", "3", "--jobs", "1", "--out", str(tmp_path)
    )
    found = pd.read_csv(tmp_path / "recovery_intervals.csv")
    assert list(found["parameter"]) == PATHS
    assert (found["n"] == 3).all()
