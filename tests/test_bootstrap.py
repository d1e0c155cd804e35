"""The bootstrap against refits to the clients drawn, sandwiches, and known standard errors.

Monte Carlo tolerances: the SD of B draws has a relative standard error of 1 / sqrt(2 B); bounds
stand at four of them, seeds are fixed.
"""

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from made_fits import known_params, make_fit, make_scores

import alliancedyn as ad
from alliancedyn.engine.ascent import Point, climb
from alliancedyn.engine.resample import Resampler, Weighted
from alliancedyn.errors import ConvergenceError, DataError, SpecificationError
from alliancedyn.results import Fit
from alliancedyn.results.profile import maximum_of
from alliancedyn.studies.bootstrap import Bootstrap

TRUTH = ad.Dynamics.time_ordered(
    phi_alliance=0.35,
    phi_symptoms=0.45,
    forward=-0.12,
    backward=-0.10,
    between_cov=[[1.0, -0.3], [-0.3, 1.0]],
    mean=(3.0, 10.0),
)
VARIABLES = {"alliance": "alliance", "symptoms": "symptoms"}
SPEC = ad.RICLPM(means="equal")
DRAWS = 300
SLACK = 4.0 / np.sqrt(2.0 * DRAWS)


@pytest.fixture(scope="module")
def panel() -> ad.SessionPanel:
    therapists = ad.Therapists(25, [[0.5, 0.0], [0.0, 0.5]])
    return ad.simulate(TRUTH, clients=150, sessions=6, missing=0.1, therapists=therapists, seed=1)


@pytest.fixture(scope="module")
def fit(panel: ad.SessionPanel) -> Fit:
    return SPEC.fit(panel)


@pytest.fixture(scope="module")
def drawn(fit: Fit) -> Bootstrap:
    return ad.bootstrap(fit, DRAWS, seed=11)


def panel_of(Y: np.ndarray, **columns: np.ndarray) -> ad.SessionPanel:
    """Make a panel of scores (N, T, 2), one client per row."""
    n, n_sessions, _ = Y.shape
    frame = pd.DataFrame(Y.reshape(-1, 2), columns=list(VARIABLES))
    frame["client"] = np.repeat(np.arange(n), n_sessions)
    frame["session"] = np.tile(np.arange(1, n_sessions + 1), n)
    for name, values in columns.items():
        frame[name] = np.repeat(values, n_sessions)
    return ad.SessionPanel.from_frame(
        frame, client="client", session="session", variables=VARIABLES, **{n: n for n in columns}
    )


def test_a_resample_has_the_estimates_of_a_fit_to_the_clients_drawn(fit: Fit) -> None:
    rows = np.random.default_rng(3).integers(0, 150, 150)
    maximum = maximum_of(fit, fit.data)
    hill = Resampler(maximum.likelihood, maximum.theta).take(rows)
    found = climb(hill, Point.at(hill, maximum.theta, maximum.metric))
    again = SPEC.fit(panel_of(fit.data.Y[rows]))
    assert found.loglik == pytest.approx(again.loglik, abs=1e-7)
    estimates = pd.Series(maximum.likelihood.to_params(found.theta))
    off = (estimates - again.params) / again.se
    assert np.abs(off).max() < 1e-3


def test_standard_errors_are_those_of_the_sandwich(
    drawn: Bootstrap, panel: ad.SessionPanel
) -> None:
    robust = SPEC.fit(panel, errors="robust").se
    ratio = drawn.table()["se"] / robust
    # To first order the same thing; clients are 150, so that second-order terms show a little.
    assert np.abs(ratio - 1.0).max() < SLACK + 0.06
    assert abs(ratio.mean() - 1.0) < 0.06


def test_whole_therapists_are_drawn(fit: Fit, panel: ad.SessionPanel) -> None:
    clustered = SPEC.fit(panel, errors="cluster:therapist")
    by_errors = ad.bootstrap(clustered, DRAWS, seed=11)
    assert by_errors.units == "therapist"
    asked = ad.bootstrap(fit, DRAWS, seed=11, cluster="therapist")
    np.testing.assert_allclose(by_errors.draws, asked.draws, atol=1e-6)
    means = ["mean[alliance]", "mean[symptoms]"]
    ratio = by_errors.table().loc[means, "se"] / clustered.se[means]
    assert np.abs(ratio - 1.0).max() < SLACK + 0.1  # 25 therapists
    # What therapists share makes the means less certain than 150 separate clients would.
    apart = ad.bootstrap(clustered, 50, seed=11, cluster="client")
    assert apart.units == "client"
    assert (by_errors.table().loc[means, "se"] > 1.1 * apart.table().loc[means, "se"]).all()


def test_means_of_complete_scores_have_known_standard_errors() -> None:
    """Their estimates are averages, whose ideal bootstrap error is SD / sqrt(N), divisor N."""
    Y = ad.simulate(TRUTH, clients=60, sessions=4, seed=2).arrays().Y
    drawn = ad.bootstrap(ad.RICLPM().fit(panel_of(Y)), DRAWS, seed=1)
    table = drawn.table()
    for j, variable in enumerate(VARIABLES):
        for t in range(4):
            row = table.loc[f"mean[{variable}]@{t + 1}"]
            assert row["estimate"] == pytest.approx(Y[:, t, j].mean(), abs=1e-6)
            assert row["se"] == pytest.approx(Y[:, t, j].std() / np.sqrt(60), rel=SLACK)
            assert abs(row["bias"]) < 4.0 * row["se"] / np.sqrt(DRAWS)


def test_results_do_not_depend_on_processes_or_on_how_many(fit: Fit, drawn: Bootstrap) -> None:
    two = ad.bootstrap(fit, 20, seed=11, jobs=2)
    np.testing.assert_array_equal(two.draws, drawn.draws.iloc[:20])
    other = ad.bootstrap(fit, 5, seed=12)
    assert not np.array_equal(other.draws, drawn.draws.iloc[:5])


def test_the_table_holds_percentiles_and_corrected_percentiles(drawn: Bootstrap) -> None:
    normal = NormalDist()
    name = "between_cov[symptoms,symptoms]"
    draws, estimate = np.sort(drawn.draws[name].to_numpy()), drawn.fit.params[name]
    shift = normal.inv_cdf(float((draws < estimate).mean()))
    for level in (0.95, 0.8):
        row, z = drawn.table(level).loc[name], normal.inv_cdf((1.0 + level) / 2.0)
        plain = np.quantile(draws, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
        moved = np.quantile(draws, [normal.cdf(2 * shift - z), normal.cdf(2 * shift + z)])
        assert (row["lower"], row["upper"]) == pytest.approx(tuple(plain))
        assert (row["corrected_lower"], row["corrected_upper"]) == pytest.approx(tuple(moved))
        assert row["se"] == pytest.approx(np.std(draws, ddof=1))
        assert row["bias"] == pytest.approx(draws.mean() - estimate)


def test_any_function_resample_by_resample(drawn: Bootstrap, fit: Fit) -> None:
    a, b = "phi[symptoms,alliance]", "phi[symptoms,symptoms]"
    found = drawn.derive(lambda p: p[a] / (1.0 - p[b]))
    values = drawn.draws[a] / (1.0 - drawn.draws[b])
    assert found.value == fit.params[a] / (1.0 - fit.params[b])
    assert (found.lower, found.upper) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))
    assert found.se == pytest.approx(values.std(ddof=1))
    assert found.p_value is None
    assert found.prob_positive is None
    effect, plain = drawn.effect("alliance", "symptoms", "within"), drawn.table().loc[a]
    assert effect.value == fit.effect("alliance", "symptoms", "within").value
    raw = drawn.effect("alliance", "symptoms", interval="corrected")
    assert (raw.lower, raw.upper) == (plain["corrected_lower"], plain["corrected_upper"])


def test_the_fit_has_bootstrap_errors_and_the_same_estimates(drawn: Bootstrap, fit: Fit) -> None:
    pd.testing.assert_series_equal(drawn.fit.params, fit.params)
    np.testing.assert_allclose(drawn.fit.se, drawn.draws.std())
    assert drawn.fit.draws is None
    assert "p_value" in drawn.fit.table()
    assert drawn.fit.diagnostics["errors"] == "bootstrap (300 resamples of clients)"
    directions = ad.compare_directions(drawn.fit)
    assert directions.forward.value == ad.compare_directions(fit).forward.value
    assert directions.forward.se != ad.compare_directions(fit).forward.se


def test_it_pickles_and_says_what_it_is(drawn: Bootstrap) -> None:
    again = pickle.loads(pickle.dumps(drawn))
    pd.testing.assert_frame_equal(again.table(), drawn.table())
    assert repr(drawn) == "<Bootstrap RI-CLPM · 300 resamples of clients, 0 failed · seed 11>"
    assert drawn.failures == {}
    assert len(drawn.draws) == drawn.resamples


def test_resamples_without_estimates_are_counted() -> None:
    """A last session that five clients attended is missed by a resample in 150."""
    Y = ad.simulate(TRUTH, clients=60, sessions=5, seed=4).arrays().Y.copy()
    Y[5:, 4] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = ad.CLPM().fit(panel_of(Y))
    drawn = ad.bootstrap(fit, 400, seed=5)
    reason = "no client that was drawn says anything about some parameter"
    missed = sum(
        not (rows < 5).any()
        for rows in (
            np.random.default_rng(seed).integers(0, 60, 60)
            for seed in np.random.SeedSequence(5).spawn(400)
        )
    )
    assert missed > 0
    assert drawn.failures[reason] == missed
    assert len(drawn.draws) == 400 - sum(drawn.failures.values())
    assert any("have no estimates" in note for note in drawn.fit.diagnostics["notes"])


def test_resamples_at_a_bound_are_counted_and_kept() -> None:
    panel = ad.simulate(TRUTH, clients=50, sessions=4, missing=0.1, seed=1)
    drawn = ad.bootstrap(ad.RICLPM(means="equal").fit(panel, strict=False), 60, seed=2)
    assert 0 < drawn.boundaries["between_cov[alliance,symptoms]"] < 60
    assert len(drawn.draws) == 60 - sum(drawn.failures.values())


def test_groups_keep_their_size() -> None:
    Y = ad.simulate(TRUTH, clients=90, sessions=5, seed=6).arrays().Y
    arm = np.repeat([0, 1], [60, 30])
    spec = ad.RICLPM(means="equal", group="arm", equal_across_groups=("lags", "between"))
    fit = spec.fit(panel_of(Y, arm=arm), strict=False)
    drawn = ad.bootstrap(fit, 200, seed=1)
    # The mean of each group has the error of as many clients as it has.
    for group in (0, 1):
        name = f"mean[symptoms]|arm={group}"
        robust = spec.fit(panel_of(Y, arm=arm), errors="robust", strict=False).se[name]
        assert drawn.table().loc[name, "se"] == pytest.approx(robust, rel=4.0 / np.sqrt(400) + 0.05)


def test_weights_are_rows() -> None:
    """Clients with lags of their own, as in continuous time, are weighted: the same function."""
    panel = ad.simulate(TRUTH, clients=40, sessions=5, gaps=ad.Gaps((1, 2), (0.5, 0.5)), seed=8)
    likelihood = ad.ContinuousTime().objective(panel)
    resampler = Resampler(likelihood, likelihood.start)
    rows = np.random.default_rng(0).integers(0, 40, 40)
    weighted = resampler.take(rows)
    assert isinstance(weighted, Weighted)
    value, score = weighted.value_and_score(likelihood.start)
    whole, sums = likelihood.value_and_score(likelihood.start)
    once = Weighted(likelihood, np.ones(40)).value_and_score(likelihood.start)
    assert once[0] == pytest.approx(whole, rel=1e-12)
    np.testing.assert_allclose(once[1], sums, rtol=1e-8, atol=1e-8)
    each = likelihood.scores(likelihood.start)
    np.testing.assert_allclose(score, each[rows].sum(axis=0), rtol=1e-9, atol=1e-9)
    assert value != pytest.approx(whole)
    plain = SPEC.objective(panel)
    packed = Resampler(plain, plain.start).take(rows).value_and_score(plain.start)
    same = Weighted(plain, np.bincount(rows, minlength=40)).value_and_score(plain.start)
    assert packed[0] == pytest.approx(same[0], rel=1e-12)
    np.testing.assert_allclose(packed[1], same[1], rtol=1e-8, atol=1e-8)


def test_a_fit_without_its_data_takes_the_panel(
    fit: Fit, panel: ad.SessionPanel, drawn: Bootstrap
) -> None:
    bare = fit.without_data()
    with pytest.raises(DataError, match="Pass panel="):
        ad.bootstrap(bare, 3)
    given = ad.bootstrap(bare, 3, seed=11, panel=panel)
    np.testing.assert_array_equal(given.draws, drawn.draws.iloc[:3])


def test_what_cannot_be_resampled_is_refused(fit: Fit) -> None:
    with pytest.raises(SpecificationError, match="number between 0 and 1"):
        ad.bootstrap(fit, 5, level=95)
    with pytest.raises(SpecificationError, match="resamples=1: give a whole number, 2 or more"):
        ad.bootstrap(fit, 1)
    with pytest.raises(SpecificationError, match="pass panel="):
        ad.bootstrap(fit, 5, cluster="site")
    alone = replace(fit, data=replace(fit.data, therapist=np.zeros(150, int)))
    with pytest.raises(SpecificationError, match="the same therapist"):
        ad.bootstrap(alone, 5, cluster="therapist")
    unknown = replace(fit, data=replace(fit.data, therapist=np.full(150, -1)))
    with pytest.raises(SpecificationError, match="150 clients have no therapist"):
        ad.bootstrap(unknown, 5, cluster="therapist")
    made = make_fit(known_params(), data=make_scores(np.zeros((3, 8, 2)), tuple(VARIABLES)))
    with pytest.raises(SpecificationError, match="none to profile or to resample"):
        ad.bootstrap(made, 5)
    with pytest.raises(ConvergenceError, match="not a maximum"):
        ad.bootstrap(replace(fit, converged=False), 5)
    with pytest.raises(SpecificationError, match="is not known"):
        ad.bootstrap(fit, 5).derive(lambda p: 1.0, interval="bca")


def test_another_panel_is_refused(fit: Fit) -> None:
    other = ad.simulate(TRUTH, clients=150, sessions=6, seed=2)
    with pytest.raises(DataError, match="Pass the panel that was fitted"):
        ad.bootstrap(fit, 5, panel=other)
