"""Clients with slopes over sessions of their own: the LCM-SR, and what it leaves out."""

from __future__ import annotations

import numpy as np
import pytest

import alliancedyn as ad
from alliancedyn.engine.dsem_world import Population, draw_effects, loglik_draws, simulate_scores
from alliancedyn.errors import SpecificationError
from alliancedyn.models.dsem_task import raw_data, shape_of

EXACT = 1e-9  # one likelihood, two ways to its matrices, relative
MONTE_CARLO = 3.5  # errors of means over 24 parameters, of 1,000 draws that are worth 500
FACTORS = ("alliance", "alliance.trend", "symptoms", "symptoms.trend")
BASE = {
    "phi": [[0.4, -0.1], [-0.25, 0.45]], "innovation_cov": [[1, -0.1], [-0.1, 1]],
    "between_cov": [[1, -0.3], [-0.3, 1]], "mean": (5.0, 10.0),
}  # fmt: skip
SLOPES = ad.GrowthCurve(slope=(0.1, -0.3), slope_cov=[[0.06, -0.04], [-0.04, 0.08]])
TRUTH = ad.Dynamics(**BASE, trend=SLOPES)
PANEL = ad.simulate(TRUTH, clients=400, sessions=8, missing=0.1, seed=4)
SPEC = ad.DSEM(random=("intercept", "trend"))
SAME_PRIORS = {"trend_sd": ("half-normal", 2.0)}  # as all SDs of Bayes(LCMSR())


def panel_data(spec: ad.DSEM, panel: ad.SessionPanel = PANEL):
    data = spec._select(panel).data
    return raw_data(spec, data), shape_of(spec, data.variables, data.sessions)


def with_means(params) -> dict[str, float]:
    """Call the means of intercepts what an LCM-SR calls them."""
    return {str(k).replace("mean[", "intercept["): float(v) for k, v in params.items()}


def test_names_are_those_of_growth_models() -> None:
    _, shape = panel_data(SPEC)
    ours = [name.replace("mean[", "intercept[") for name in shape.parameter_names()]
    assert sorted(ours) == sorted(ad.LCMSR().fit(PANEL, strict=False).params.index)
    assert shape.stable == ("alliance", "symptoms", "alliance.trend", "symptoms.trend")


def test_the_likelihood_is_that_of_the_lcm_sr() -> None:
    ml = ad.LCMSR().fit(PANEL, strict=False)
    data, shape = panel_data(SPEC)
    rng = np.random.default_rng(1)
    for _ in range(3):
        moved = ml.params * (1.0 + 0.05 * rng.standard_normal(len(ml.params)))
        values = np.array(
            [moved[name.replace("mean[", "intercept[")] for name in shape.parameter_names()]
        )
        ours = loglik_draws(shape, values[None], data).sum()
        theirs = ad.LCMSR().loglik(PANEL, dict(moved))
        assert ours == pytest.approx(theirs, rel=EXACT)


def test_the_posterior_is_that_of_the_sampled_lcm_sr() -> None:
    """Another prior machinery, another way into the filter; both by the quick look."""
    sizes = {"draws": 500, "chains": 2, "sampler": "laplace"}
    ours = ad.DSEM(random=("intercept", "trend"), priors=SAME_PRIORS, **sizes)
    fit = ours.fit(PANEL, seed=1, strict=False)
    peer = ad.Bayes(ad.LCMSR(), **sizes).fit(PANEL, seed=2, strict=False)
    params, se = with_means(fit.params), with_means(fit.se)
    assert set(params) == set(peer.params.index)
    for name, theirs in peer.params.items():
        error = MONTE_CARLO * np.hypot(se[name], peer.se[name]) / np.sqrt(500)
        assert abs(params[name] - theirs) < error, name
        assert se[name] == pytest.approx(peer.se[name], rel=0.15), name


def test_with_many_clients_the_posterior_is_the_maximum() -> None:
    panel = ad.simulate(TRUTH, clients=800, sessions=8, seed=6)
    ml = ad.LCMSR().fit(panel)
    spec = ad.DSEM(random=("intercept", "trend"), sampler="laplace", draws=500, chains=2)
    fit = spec.fit(panel, seed=1, strict=False)
    params = with_means(fit.params)
    off = [(params[name] - value) / ml.se[name] for name, value in ml.params.items()]
    assert np.abs(off).max() < 0.5  # skewed variances: the mean is not the mode
    assert fit.predict().shape == ml.predict().shape


def test_slopes_of_clients_are_no_lagged_effects() -> None:
    """Correlated improvement, no effect: without slopes the model sees one."""
    still = ad.Dynamics(**{**BASE, "phi": [[0.4, 0.0], [0.0, 0.4]]}, trend=SLOPES)
    panel = ad.simulate(still, clients=300, sessions=8, seed=6)
    sizes = {"draws": 500, "chains": 2, "sampler": "laplace"}
    rows = {}
    for random in (("intercept",), ("intercept", "trend")):
        spec = ad.DSEM(random=random, trend="linear", **sizes)
        rows[random] = spec.fit(panel, seed=1, strict=False).table().loc["phi[symptoms,alliance]"]
    assert rows["intercept",]["upper"] < 0.0
    with_slopes = rows["intercept", "trend"]
    assert with_slopes["lower"] < 0.0 < with_slopes["upper"]


def test_worlds_have_slopes_around_the_line() -> None:
    spec = ad.DSEM(random=("intercept", "trend", "phi"), random_correlation="lkj")
    data, shape = panel_data(spec)
    params = dict.fromkeys(shape.parameter_names(), 0.0)
    params |= {f"between_cov[{f},{f}]": 0.2 for f in FACTORS}
    params |= {f"phi_sd[{a},{b}]": 0.1 for a in FACTORS[::2] for b in FACTORS[::2]}
    params |= {
        "mean[alliance]": 5.0, "trend[alliance]": 0.5, "between_cov[alliance,alliance.trend]": 0.1,
        "random_corr[alliance.trend,alliance<-alliance]": 0.4,
    }  # fmt: skip
    world = Population.of(shape, np.array([params[name] for name in shape.parameter_names()]))
    many = data.__class__(
        np.zeros((20_000, 8, 2)), data.course, np.zeros((20_000, 0)), None, np.zeros(2)
    )
    b = draw_effects(shape, world, many, np.random.default_rng(1))
    at = {name: j for j, name in enumerate(shape.effects)}
    np.testing.assert_allclose(b[:, at["alliance.trend"]].mean(), 0.5, atol=0.02)
    own = np.corrcoef(b, rowvar=False)
    assert own[at["alliance"], at["alliance.trend"]] == pytest.approx(0.5, abs=0.03)
    assert own[at["alliance.trend"], at["alliance<-alliance"]] == pytest.approx(0.4, abs=0.03)
    values = np.array([params[name] for name in shape.parameter_names()])
    Y = simulate_scores(shape, values, many, np.random.default_rng(2))  # no innovations: lines
    np.testing.assert_allclose(np.diff(Y[..., 0], 2, axis=1), 0.0, atol=1e-9)
    assert np.diff(Y[..., 0], axis=1).mean() == pytest.approx(0.5, abs=0.02)


def test_what_slopes_need_is_said() -> None:
    assert SPEC.trend == "linear"
    assert SPEC.engine == "nutpie"
    assert ad.DSEM(random=("trend", "intercept"), trend="session").trend == "session"
    assert "slopes over sessions" in SPEC.assumptions[0]
    with pytest.raises(SpecificationError, match="slopes of clients"):
        ad.DSEM(random=("intercept", "trend"), sampler="gibbs")
    with pytest.raises(SpecificationError, match="quick look"):
        ad.DSEM(random=("intercept", "trend", "phi"), sampler="laplace")
    short = ad.simulate(TRUTH, clients=30, sessions=3, seed=1)
    with pytest.raises(SpecificationError, match="Slopes of clients need 4"):
        SPEC.fit(short, seed=1)
