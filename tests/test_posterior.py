"""Draws judged and read: mixing, overlap, statements, Bayes factors, prediction, calibration."""

from __future__ import annotations

import pickle
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_fits import known_params, make_fit
from scipy import stats

import alliancedyn as ad
from alliancedyn.causal.posterior_reading import bayes_factor, posterior_statements
from alliancedyn.causal.prior_sensitivity import power_scaling, prior_overlap
from alliancedyn.engine.density import density, height, overlap
from alliancedyn.engine.dsem import Sampled
from alliancedyn.engine.dsem_prior import Term, prior_draws
from alliancedyn.engine.power_scaling import distance, sensitivity
from alliancedyn.errors import ConvergenceError, DataError, SpecificationError
from alliancedyn.models.dsem import DSEM
from alliancedyn.models.dsem_task import Task
from alliancedyn.models.loo import compare_loo, loo
from alliancedyn.models.posterior_checks import posterior_check
from alliancedyn.models.sampled_result import dominated
from alliancedyn.models.sampled_task import client_logliks, raw_task
from alliancedyn.results import Fit
from alliancedyn.results.posterior import load_draws, mixing, save_draws, verdict
from alliancedyn.results.sampling import Sampling
from alliancedyn.studies.calibration import band, calibrate, evaluation_points, judge

KERNEL = 0.02  # of a kernel density of 20,000 draws, relative to its height
SMOOTHED = 2e-3  # two implementations of smoothed importance sampling
PHI = "phi[symptoms,alliance]"
PRIORS = (
    Term(PHI, "normal", 0.0, 0.5),
    Term("phi[alliance,symptoms]", "normal", 0.0, 0.5),
    Term("between_sd[alliance]", "half-normal", 0.0, 2.0),
)


def arviz() -> Any:
    """Import ArviZ, an independent route to the same figures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz as az

    return az


def sampled_fit(size: int = 4000, chains: int = 4, **changes: Any) -> Fit:
    """Make a sampled fit whose draws are normal around the worked example, SD .03."""
    params, rng = known_params(), np.random.default_rng(1)
    values = np.array(list(params.values())) + 0.03 * rng.standard_normal((size, len(params)))
    draws = pd.DataFrame(values, columns=list(params))
    given: dict[str, Any] = {
        "draws": draws,
        "loglik": None,
        "sampling": Sampling(chains, PRIORS),
        "diagnostics": {"boundary": [], "notes": [], "sampler": "gibbs", "ess_bulk_min": 4000.0},
    }
    return make_fit(params, **{**given, **changes})


@pytest.fixture(scope="module")
def panel() -> ad.SessionPanel:
    """Simulate 60 clients, 10 sessions, phi[symptoms,alliance] = -.12."""
    truth = ad.Dynamics.time_ordered(
        0.35, 0.45, forward=-0.12, backward=-0.10, between_cov=[[1, -0.3], [-0.3, 1]]
    )
    return ad.simulate(truth, clients=60, sessions=10, missing=0.05, seed=3)


@pytest.fixture(scope="module")
def fit(panel: ad.SessionPanel) -> Fit:
    """Sample random intercepts."""
    return DSEM(draws=700, tune=200).fit(panel, seed=1)


# -- do the draws do ------------------------------------------------------------------------------


def test_mixing_is_that_of_arviz_parameter_by_parameter() -> None:
    az, rng = arviz(), np.random.default_rng(1)
    draws = rng.standard_normal((4, 500, 3)).cumsum(axis=1) * [0.05, 0.0, 0.0]
    draws += rng.standard_normal((4, 500, 3))
    table = mixing(["a", "b", "c"], draws)
    for j, name in enumerate(["a", "b", "c"]):
        one = draws[:, :, j]
        assert table.loc[name, "rhat"] == pytest.approx(float(az.rhat(one)))
        assert table.loc[name, "ess_bulk"] == pytest.approx(float(az.ess(one, method="bulk")))
        assert table.loc[name, "ess_tail"] == pytest.approx(float(az.ess(one, method="tail")))
    assert table["rhat"].idxmax() == "a"


def test_draws_that_do_pass() -> None:
    draws = np.random.default_rng(2).standard_normal((4, 600, 2))
    energy = np.random.default_rng(3).standard_normal((4, 600))
    found = verdict(mixing(["a", "b"], draws), {"energy": energy})
    assert "failure" not in found
    assert found["divergences"] == 0
    assert found["rhat_max"] < 1.01
    assert found["ebfmi_min"] == pytest.approx(2.0, abs=0.3)  # of independent energies


@pytest.mark.parametrize(
    ("spoil", "statistics", "said"),
    [
        ("apart", {}, r"Chains disagree about 'b' \(R-hat"),
        ("few", {}, "Too few independent draws for the mean of '[ab]', '[ab]'"),
        ("none", {"diverging": np.eye(4, 600)}, "4 draws diverged"),
        ("none", {"energy": np.cumsum(np.full((4, 600), 0.1), axis=1)}, "energy moves slowly"),
        ("none", {"pareto_k": np.array([[0.9]])}, "too far from normal for a quick look"),
    ],
)
def test_draws_that_do_not_do_say_which_and_what_to_do(
    spoil: str, statistics: dict[str, np.ndarray], said: str
) -> None:
    draws = np.random.default_rng(2).standard_normal((4, 600, 2))
    if spoil == "apart":
        draws[0, :, 1] += 3.0
    if spoil == "few":
        draws = draws[:, :40]
    failure = verdict(mixing(["a", "b"], draws), statistics)["failure"]
    assert re.search(said, failure)
    assert any(word in failure for word in ("Draw more", "fewer effects", "Use sampler"))


def test_a_fit_whose_draws_fail_says_so_everywhere(panel: ad.SessionPanel) -> None:
    spec = DSEM(draws=20, tune=10, chains=2)
    with pytest.raises(ConvergenceError, match="Too few independent draws") as caught:
        spec.fit(panel, seed=1)
    failed = caught.value.fit
    assert not failed.converged
    assert "NOT CONVERGED" in repr(failed)
    assert "NOT CONVERGED, not to be interpreted" in str(failed)
    assert "NOT CONVERGED" in str(posterior_statements(failed))
    assert ad.compare_directions(failed).lead == "undetermined"


def test_a_fit_that_converged_knows_its_sampler_and_rule(fit: Fit) -> None:
    found = fit.diagnostics
    assert found["sampler"] == "gibbs"
    assert found["rhat_max"] < 1.01
    assert min(found["ess_bulk_min"], found["ess_tail_min"]) >= 400
    assert found["rhat_worst"] in fit.params.index
    assert found["seconds"] >= found["sampling_seconds"] > 0
    assert fit.loglik is None
    assert np.isnan(fit.bic)
    pd.testing.assert_series_equal(fit.params, fit.draws.mean(), check_names=False)


def test_inference_data_hold_the_draws_chain_by_chain(fit: Fit, tmp_path: Path) -> None:
    posterior = fit.idata.posterior
    assert dict(posterior.sizes) == {"chain": 4, "draw": 700}
    ours = fit.draws[PHI].to_numpy().reshape(4, 700)
    np.testing.assert_array_equal(posterior[PHI].to_numpy(), ours)
    back = load_draws(save_draws(fit, tmp_path / "draws.nc"))
    np.testing.assert_array_equal(back.posterior[PHI].to_numpy(), ours)
    with pytest.raises(DataError, match="no file"):
        load_draws(tmp_path / "none.nc")


def test_a_fit_without_data_keeps_no_client(fit: Fit) -> None:
    bare = pickle.loads(pickle.dumps(fit.without_data()))
    assert bare.data is None
    assert bare.sampling.clients is None
    with pytest.raises(DataError):
        bare.client_effects()
    with pytest.raises(DataError, match="Pass panel="):
        loo(bare)
    assert str(bare.effect("alliance", "symptoms")) == str(fit.effect("alliance", "symptoms"))


def test_what_needs_draws_is_refused_without() -> None:
    plain = make_fit(known_params())
    for ask in (posterior_statements, prior_overlap, loo, posterior_check, power_scaling):
        with pytest.raises(SpecificationError, match="was not sampled"):
            ask(plain)
    with pytest.raises(SpecificationError, match="was not sampled"):
        _ = plain.idata
    with pytest.raises(SpecificationError, match="was not sampled"):
        plain.client_effects()


def test_all_readings_of_a_fit_work_draw_by_draw(fit: Fit) -> None:
    ratio = fit.derive(lambda p: p[PHI] / (1.0 - p["phi[symptoms,symptoms]"]))
    by_hand = fit.draws[PHI] / (1.0 - fit.draws["phi[symptoms,symptoms]"])
    assert ratio.value == pytest.approx(by_hand.mean())
    assert ratio.lower == pytest.approx(by_hand.quantile(0.025))
    assert ratio.prob_positive == pytest.approx((by_hand > 0).mean())
    sustained = fit.long_run("alliance", "symptoms")
    assert sustained.value == pytest.approx(by_hand.mean())
    path = fit.impulse_response("alliance", sessions=2)
    assert path.loc[1, ("symptoms", "estimate")] == pytest.approx(fit.params[PHI])
    assert fit.structural().loc["forward", "estimate"] == pytest.approx(fit.params[PHI])
    assert ad.compare_models({"DSEM": fit})["converged"].all()


def test_within_sds_of_all_draws_at_once_are_those_of_each_draw(fit: Fit) -> None:
    form, names = fit.lagged, list(fit.draws.columns)
    alone = [
        form.within_sd(dict(zip(names, row, strict=True)), "stationary")
        for row in fit.draws.to_numpy()[::100]
    ]
    together = fit.derive_many(lambda p: form.within_sd(p, "stationary")).draws[::100]
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    np.testing.assert_allclose(
        fit.sd_within(), fit.derive_many(lambda p: form.within_sd(dict(p), "stationary")).values
    )


# -- densities ------------------------------------------------------------------------------------


def test_densities_are_those_of_the_normal() -> None:
    draws = np.random.default_rng(4).normal(0.3, 0.1, 20_000)
    grid = np.linspace(-0.2, 0.8, 1001)
    known = stats.norm(0.3, 0.1)
    found = density(draws, grid)
    assert np.abs(found - known.pdf(grid)).max() < KERNEL * 2 * known.pdf(0.3)
    assert np.trapezoid(found, grid) == pytest.approx(1.0, abs=1e-3)
    assert height(draws, 0.3) == pytest.approx(float(np.interp(0.3, grid, found)), rel=1e-3)
    half = np.abs(np.random.default_rng(5).normal(0.0, 1.0, 20_000))
    at = np.linspace(0.0, 4.0, 801)
    edge = density(half, at, lower=0.0)
    assert edge[0] == pytest.approx(stats.halfnorm.pdf(0.0), rel=0.05)  # no mass lost at the edge


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 0.5), (0.3, 0.2), (1.5, 0.1)])
def test_overlap_is_the_area_two_densities_share(mean: float, sd: float) -> None:
    prior, posterior = stats.norm(0.0, 0.5), stats.norm(mean, sd)
    grid = np.linspace(-4, 4, 80_001)
    exact = np.trapezoid(np.minimum(prior.pdf(grid), posterior.pdf(grid)), grid)
    draws = posterior.rvs(20_000, random_state=6)
    assert overlap(draws, prior.pdf) == pytest.approx(exact, abs=KERNEL)


def test_a_prior_that_dominates_short_series_is_named() -> None:
    shared = {"phi[a,b]": 0.5, "phi_sd[a,b]": 0.2, "mean[a]": 0.9, "between_corr[a,b]": 0.8}
    (note,) = dominated(shared, 8.0)
    assert "phi[a,b] (50%)" in note
    assert "mean" not in note.partition("share")[0].replace("what is said", "")
    assert not dominated(shared, 20.0)
    assert not dominated({"phi[a,b]": 0.3}, 8.0)


def test_overlap_of_a_fit_is_in_its_table(fit: Fit) -> None:
    table = prior_overlap(fit)
    assert table.loc[PHI, "prior"].startswith("normal(0, 0.5")
    assert 0.0 < table.loc["innovation_sd[alliance]", "overlap"] < 0.15
    assert list(table.index) == [term.label for term in fit.sampling.priors]


# -- statements -----------------------------------------------------------------------------------


def test_statements_are_shares_of_draws() -> None:
    made = sampled_fit()
    said = posterior_statements(made, smallest_effect=0.08)
    row = said.table.loc[("reduced", "alliance -> symptoms")]
    effect = made.effect("alliance", "symptoms", standardized="within")
    assert row["estimate"] == pytest.approx(effect.value)
    assert row["prob_positive"] == pytest.approx(effect.prob_positive)
    directions = ad.compare_directions(made)
    stronger = directions.by_basis["structural"].difference.prob_positive
    row = said.table.loc[("structural", "alliance -> symptoms")]
    assert row["prob_stronger"] == pytest.approx(stronger)
    back = said.table.loc[("structural", "symptoms -> alliance")]
    assert back["prob_stronger"] == pytest.approx(1.0 - stronger)
    assert said.table["prob_negligible"].between(0, 1).all()
    assert "alliance -> symptoms (structural)" in str(said)


def test_exchanging_source_and_target_exchanges_the_statements() -> None:
    made = sampled_fit()
    one = posterior_statements(made).table
    two = posterior_statements(made, "symptoms", "alliance").table
    for basis in ("reduced", "structural"):
        for way in ("alliance -> symptoms", "symptoms -> alliance"):
            pd.testing.assert_series_equal(one.loc[(basis, way)], two.loc[(basis, way)])
    with pytest.raises(SpecificationError, match="Name two"):
        posterior_statements(made, "alliance", "alliance")


def test_the_bayes_factor_of_a_normal_posterior_is_its_density_ratio() -> None:
    params, rng = known_params(), np.random.default_rng(8)
    values = np.tile(list(params.values()), (20_000, 1))
    at = list(params).index(PHI)
    values[:, at] = rng.normal(-0.05, 0.04, 20_000)
    made = sampled_fit(draws=pd.DataFrame(values, columns=list(params)))
    found = bayes_factor(made, PHI)
    exact = stats.norm(-0.05, 0.04).pdf(0.0) / stats.norm(0.0, 0.5).pdf(0.0)
    assert found.lower < exact < found.upper
    assert found.factor == pytest.approx(exact, rel=0.1)
    assert "at 0 than away from it" in str(found)
    assert bayes_factor(made, PHI, value=0.05).factor < found.factor


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (PHI, "draws of .* lie beyond 0"),
        ("between_cov[alliance,alliance]", "no normal prior of its own"),
        ("phi[alliance,mood]", "no normal prior of its own"),
    ],
)
def test_bayes_factors_that_draws_cannot_give_are_refused(name: str, said: str) -> None:
    with pytest.raises(SpecificationError, match=said):
        bayes_factor(sampled_fit(), name)  # its draws of phi are four SDs from 0


# -- prediction -----------------------------------------------------------------------------------


def test_leave_one_client_out_is_that_of_arviz(fit: Fit) -> None:
    az = arviz()
    found = loo(fit, draws=2800)
    _, _, data, shape = raw_task(fit, "loo")
    loglik = client_logliks(shape, fit.draws.to_numpy(), data)
    peer = az.loo(
        az.from_dict(
            posterior={"x": np.zeros((4, 700))}, log_likelihood={"y": loglik.reshape(4, 700, -1)}
        ),
        pointwise=True,
        reff=1.0,
    )
    assert found.elpd == pytest.approx(float(peer.elpd_loo), abs=0.05)
    assert found.p_loo == pytest.approx(float(peer.p_loo), abs=0.05)
    assert found.se == pytest.approx(float(peer.se), rel=1e-2)
    np.testing.assert_allclose(found.by_client, peer.loo_i.to_numpy(), atol=0.02)
    assert found.unreliable == 0
    assert "Expected log predictive density" in str(found)


def test_leaving_a_client_out_is_what_it_says(panel: ad.SessionPanel, fit: Fit) -> None:
    """Fit without a client, and average that client's likelihood: no importance sampling."""
    found = loo(fit, draws=2800)
    frame = panel.frame
    at = int(np.argmin(found.by_client))
    left = ad.SessionPanel.from_frame(
        frame[frame["client"] != found.clients[at]],
        client="client",
        session="session",
        variables={"alliance": "alliance", "symptoms": "symptoms"},
    )
    without = DSEM(draws=700, tune=200).fit(left, seed=2)
    _, _, data, shape = raw_task(fit, "loo")
    loglik = client_logliks(shape, without.draws.to_numpy(), data)[:, at]
    direct = float(np.log(np.exp(loglik - loglik.max()).mean()) + loglik.max())
    error = float(np.exp(loglik - direct).std() / np.sqrt(400))
    assert found.by_client[at] == pytest.approx(direct, abs=4 * error)


def test_any_family_with_a_system_predicts_clients(panel: ad.SessionPanel, fit: Fit) -> None:
    """At the same draws the RI-CLPM with equal means is the DSEM with random intercepts."""
    spec = ad.RICLPM(means="equal")
    other = replace(fit, model=spec, data=spec.observe(panel, fit.sessions, fit.variables))
    one, two = loo(fit, draws=200), loo(other, draws=200)
    np.testing.assert_allclose(one.by_client, two.by_client, rtol=1e-9)


def test_the_model_that_made_the_data_predicts_best(panel: ad.SessionPanel, fit: Fit) -> None:
    frame = panel.frame
    frame["symptoms"] -= 0.5 * frame["session"]
    moved = ad.SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables={"alliance": "alliance", "symptoms": "symptoms"},
    )
    specs = {"line": DSEM(trend="linear", draws=300, tune=100), "none": DSEM(draws=300, tune=100)}
    results = {name: loo(spec.fit(moved, seed=1, strict=False)) for name, spec in specs.items()}
    table = compare_loo(results)
    assert list(table.index) == ["line", "none"]
    assert table.loc["none", "difference"] < -4 * table.loc["none", "difference_se"]
    assert table.loc["line", "difference"] == 0.0
    with pytest.raises(SpecificationError, match="other scores"):
        compare_loo({"line": results["line"], "before": loo(fit)})
    with pytest.raises(SpecificationError, match="No models"):
        compare_loo({})


def test_sensitivity_to_the_likelihood_needs_a_closed_form(panel: ad.SessionPanel) -> None:
    spec = DSEM(random=("intercept", "phi"), draws=30, tune=10, chains=2)
    table = power_scaling(spec.fit(panel, seed=1, strict=False))
    assert table["likelihood"].isna().all()


def test_a_model_draws_panels_like_its_own_data_and_unlike_others(
    panel: ad.SessionPanel, fit: Fit
) -> None:
    good = posterior_check(fit, seed=1)
    assert not good.table["misfit"].any()
    assert good.table["lower"].lt(good.table["upper"]).all()
    assert "like the data" in str(good)
    frame = panel.frame  # every other session in a mood of its own: no VAR(1) has that
    frame["alliance"] += 2.0 * (frame["session"] % 2)
    moved = ad.SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables={"alliance": "alliance", "symptoms": "symptoms"},
    )
    stiff = DSEM(priors={"phi": ("normal", 0.0, 0.05)}, draws=200, tune=100, chains=2)
    bad = posterior_check(stiff.fit(moved, seed=1, strict=False), seed=1)
    assert bad.table.loc["autocorrelation[alliance]", "misfit"]
    assert "does not draw panels like the data" in str(bad)


def test_panels_of_any_family_are_those_of_its_system(panel: ad.SessionPanel, fit: Fit) -> None:
    """At the same draws the RI-CLPM with equal means draws the panels of the DSEM."""
    spec = ad.RICLPM(means="equal")
    other = replace(fit, model=spec, data=spec.observe(panel, fit.sessions, fit.variables))
    one, two = (posterior_check(which, draws=400, seed=1) for which in (fit, other))
    error = np.hypot(one.drawn.std(), two.drawn.std()) / np.sqrt(400)
    assert (np.abs(one.drawn.mean() - two.drawn.mean()) < 4.5 * error).all()
    np.testing.assert_allclose(one.table["observed"], two.table["observed"])
    with pytest.raises(SpecificationError, match="knows the priors of a DSEM only"):
        power_scaling(other)


def test_a_course_that_the_model_lacks_is_seen(panel: ad.SessionPanel) -> None:
    frame = panel.frame
    frame["symptoms"] -= 0.3 * frame["session"]
    moved = ad.SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables={"alliance": "alliance", "symptoms": "symptoms"},
    )
    flat, line = (
        posterior_check(spec.fit(moved, seed=1, strict=False), seed=1).table["misfit"]
        for spec in (
            DSEM(draws=200, tune=100, chains=2),
            DSEM(trend="linear", draws=200, tune=100, chains=2),
        )
    )
    assert flat["slope[symptoms]"]
    assert not line["slope[symptoms]"]


# -- priors ---------------------------------------------------------------------------------------


def test_power_scaling_is_that_of_arviz() -> None:
    az, rng = arviz(), np.random.default_rng(9)
    x = rng.normal(0.6, 0.25, 4000)
    component = stats.norm(0.0, 0.3).logpdf(x)
    ours, k = sensitivity(x[:, None], component)
    data = az.from_dict(posterior={"x": x.reshape(4, 1000)})
    data.add_groups({"log_prior": {"x": component.reshape(4, 1000)}})
    theirs = float(az.psens(data, component="prior")["x"])
    assert ours[0] == pytest.approx(theirs, rel=0.02)
    assert ours[0] > 0.05
    assert k < 0.7
    weights = np.exp(component - component.max())
    weights /= weights.sum()
    moved = stats.norm(0.6, 0.25)
    assert distance(x, np.full(4000, 1 / 4000)) == pytest.approx(0.0, abs=1e-6)
    assert 0.0 < distance(moved.rvs(4000, random_state=1), weights) < 1.0


def test_a_prior_that_fights_the_data_is_found(panel: ad.SessionPanel, fit: Fit) -> None:
    calm = power_scaling(fit)
    assert (calm["prior"] < 0.05).all()
    assert (calm.loc[calm.index.str.startswith("phi"), "likelihood"] > 0.05).all()
    assert calm.attrs["pareto_k"] < 0.7
    strong = {"phi": ("normal", -0.4, 0.05)}
    with pytest.warns(ad.InferenceWarning, match=r"the prior hardly allows them: phi\[alliance"):
        fit = DSEM(priors=strong, draws=700, tune=200).fit(panel, seed=1)
    fought = power_scaling(fit)
    assert fought.loc["phi[alliance,alliance]", "reading"] == "prior and data disagree"


# -- calibration ----------------------------------------------------------------------------------


def test_the_band_holds_uniform_ranks_as_often_as_it_says() -> None:
    low, high = band(150, 50, 0.95)
    at, rng = evaluation_points(50), np.random.default_rng(10)
    inside = 0
    for _ in range(2000):
        ranks = rng.integers(0, 51, 150)
        count = (ranks[:, None] <= at).sum(axis=0)
        inside += bool(((low <= count) & (count <= high)).all())
    error = np.sqrt(0.95 * 0.05 / 2000)
    assert inside / 2000 > 0.95 - 4 * error
    assert inside / 2000 < 0.95 + 0.02  # counts are whole numbers: a little conservative


@pytest.mark.parametrize(("width", "right"), [(1.0, True), (0.5, False), (2.0, False)])
def test_samplers_are_told_apart(
    width: float, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Draws from the prior are calibrated, whatever the data; from a narrower one they are not."""

    def from_prior(self: DSEM, task: Task, seed: int | None, progress: Any = None) -> Sampled:
        rng = np.random.default_rng(seed)
        flat = prior_draws(task.shape, task.priors, 200, rng)
        n = len(task.shape.parameter_names())
        lagged = [j for j, name in enumerate(task.shape.parameter_names()) if "phi[" in name]
        flat[:, lagged] *= width
        clients = np.zeros((len(task.data.Y), 2, 2))
        return Sampled(task.shape.parameter_names(), flat.reshape(2, 100, n), clients, "made", 0.0)

    monkeypatch.setattr(DSEM, "sample", from_prior)
    monkeypatch.setattr("alliancedyn.studies.calibration.BOUND", 1e9)  # no round depends on data
    found = calibrate(DSEM(), clients=5, sessions=3, replications=200, seed=1)
    assert found.calibrated == right
    lagged = found.table.index.str.startswith("phi")
    assert found.table.loc[~lagged, "inside_all"].all()
    if not right:
        assert (found.table.loc[lagged, "excursion"] > 0).all()
        assert "leave the 99% bands" in str(found)


def test_the_gibbs_sampler_is_calibrated_on_a_tiny_design() -> None:
    spec = DSEM(draws=200, tune=100, chains=2)
    found = calibrate(spec, clients=20, sessions=5, replications=40, seed=3)
    assert found.calibrated
    assert len(found.ranks) == 40
    assert found.ranks.to_numpy().max() <= found.draws


def test_ranks_at_one_end_leave_the_band() -> None:
    ranks = pd.DataFrame({"good": np.arange(100), "bad": np.full(100, 2.0)})
    table = judge(ranks, 100, 0.99)
    assert table.loc["good", "inside"]
    assert not table.loc["bad", "inside"]
    assert table.loc["bad", "mean_rank"] == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        (DSEM(innovations="student"), {}, "normal innovations"),
        (DSEM(predictors=("arm",)), {}, "pass panel="),
        (DSEM(), {"missing": 1.0}, "below .9"),
        (DSEM(priors={"phi": ("normal", 40.0, 0.1)}), {"sessions": 8}, "explode"),
    ],
)
def test_designs_that_cannot_be_calibrated_are_refused(
    spec: DSEM, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(SpecificationError, match=said):
        calibrate(spec, clients=10, replications=1, **options)
