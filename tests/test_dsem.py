"""The DSEM specification: from a panel to draws in raw units, and what it refuses."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reference_files import VARIABLES, panel_frame, published_dir, simulated
from scipy import stats

import alliancedyn as ad
from alliancedyn.engine.dsem import DsemData, DsemShape, Priors
from alliancedyn.engine.dsem_prior import (
    lkj_draws,
    log_prior,
    prior_draws,
    quantities,
    stored,
    terms,
)
from alliancedyn.engine.dsem_units import Units, within_units
from alliancedyn.engine.dsem_world import loglik_draws, simulate_scores
from alliancedyn.engine.panel_statistics import panel_statistics, statistic_names
from alliancedyn.errors import DataError, SpecificationError
from alliancedyn.models.dsem import DSEM
from alliancedyn.models.loo import compare_loo, loo
from alliancedyn.models.posterior_checks import prior_predictive

EXACT = 1e-10  # algebra in double precision
STAN_ERRORS = 4.0  # Monte Carlo errors between two samplers of one posterior
STAN_SD = 0.05  # relative, of posterior SDs
MEAN_ERRORS = 4.5  # standard errors of a simulated mean, over some fifty comparisons

FULL = DsemShape(
    ("a", "s"),
    tuple(range(1, 7)),
    course=("trend",),
    predictors=("x",),
    random_phi=True,
    random_innovation=True,
    correlated=True,
    therapist=True,
)
TRUTH = {
    "phi_alliance": 0.35,
    "phi_symptoms": 0.45,
    "forward": -0.12,
    "backward": -0.10,
    "between_cov": [[1.0, -0.3], [-0.3, 1.0]],
    "mean": (5.0, 10.0),
}


def small_panel(clients: int = 40, sessions: int = 8, **more: object) -> ad.SessionPanel:
    """Simulate a panel."""
    truth = ad.Dynamics.time_ordered(**TRUTH)
    return ad.simulate(truth, clients=clients, sessions=sessions, missing=0.1, seed=5, **more)


def from_frame(frame: pd.DataFrame, **more: object) -> ad.SessionPanel:
    """Read a frame with alliance and symptoms."""
    return ad.SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables={"alliance": "alliance", "symptoms": "symptoms"},
        timing={"alliance": "after", "symptoms": "before"},
        **more,
    )


# -- priors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [2, 4, 8])
def test_lkj_correlations_have_their_known_margins(p: int) -> None:
    R = lkj_draws(p, 2.0, 4000, np.random.default_rng(1))
    alpha = 2.0 - 1.0 + p / 2.0  # Lewandowski et al.: Beta(eta - 1 + p / 2) on (-1, 1)
    for a in range(p):
        for b in range(a + 1, p):
            share = stats.kstest((R[:, a, b] + 1.0) / 2.0, stats.beta(alpha, alpha).cdf)
            assert share.pvalue > 1e-4
    assert np.linalg.eigvalsh(R).min() > 0.0
    np.testing.assert_allclose(np.diagonal(R, axis1=1, axis2=2), 1.0, atol=EXACT)


def test_draws_from_priors_are_those_of_their_terms() -> None:
    draws = prior_draws(FULL, Priors(), 3000, np.random.default_rng(2))
    values = quantities(FULL, draws)
    np.testing.assert_allclose(stored(FULL, values), draws, atol=EXACT)
    for j, term in enumerate(terms(FULL, Priors())):
        known = {
            "normal": stats.norm(term.location, term.scale),
            "half-normal": stats.halfnorm(scale=term.scale),
            "lkj": stats.beta(*[1.0 + term.size / 2.0] * 2, loc=-1.0, scale=2.0),
        }[term.kind]
        assert stats.kstest(values[:, j], known.cdf).pvalue > 1e-4, term.label
        inside = values[:5, j]
        np.testing.assert_allclose(term.density(inside), known.pdf(inside), rtol=1e-9)


def test_the_log_density_of_priors_is_that_of_scipy() -> None:
    shape = DsemShape(("a", "s"), (1, 2, 3), random_phi=True)
    priors = Priors()
    draws = prior_draws(shape, priors, 20, np.random.default_rng(3))
    values = dict(
        zip([t.label for t in terms(shape, priors)], quantities(shape, draws).T, strict=True)
    )
    total = np.zeros(20)
    for label, x in values.items():
        if label.startswith("mean["):
            total += stats.norm(0, 5).logpdf(x)
        elif label.startswith("phi["):
            total += stats.norm(0, 0.5).logpdf(x)
        elif label.startswith("phi_sd["):
            total += stats.halfnorm(scale=0.3).logpdf(x)
        elif "_corr" in label:
            total += np.log(1.0 - x**2)  # LKJ(2) of two variables
        else:
            total += stats.halfnorm(scale=2.0).logpdf(x)
    apart = total - log_prior(shape, priors, draws)
    np.testing.assert_allclose(apart, apart[0], atol=EXACT)


# -- worlds ---------------------------------------------------------------------------------------


def dense_moments(values: dict[str, float], T: int, x: float, mv: np.ndarray) -> tuple:
    """Mean (2 T,) and covariance of one client with random intercepts, by plain sums."""
    v = ("a", "s")
    phi = np.array([[values[f"phi[{i},{j}]"] for j in v] for i in v])

    def symmetric(name: str) -> np.ndarray:
        off = values[f"{name}[a,s]"]
        return np.array([[values[f"{name}[a,a]"], off], [off, values[f"{name}[s,s]"]]])

    W = np.zeros((T, T, 2, 2))
    W[0, 0] = symmetric("initial_cov")
    for t in range(1, T):
        W[t, t] = phi @ W[t - 1, t - 1] @ phi.T + symmetric("innovation_cov")
    for t in range(T):
        for u in range(t + 1, T):
            W[u, t] = phi @ W[u - 1, t]
            W[t, u] = W[u, t].T
    cov = W + symmetric("between_cov")[None, None]
    flat = cov.transpose(0, 2, 1, 3).reshape(2 * T, 2 * T) + np.diag(np.tile(mv, T))
    level = np.array([values[f"mean[{i}]"] + values[f"predictor[{i},x]"] * x for i in v])
    slope = np.array([values[f"trend[{i}]"] for i in v])
    return (level + np.arange(T)[:, None] * slope).ravel(), flat


def intercept_world() -> tuple[DsemShape, np.ndarray, dict[str, float]]:
    shape = DsemShape(("a", "s"), tuple(range(1, 6)), course=("trend",), predictors=("x",))
    draw = prior_draws(shape, Priors(), 1, np.random.default_rng(4))[0]
    return shape, draw, dict(zip(shape.parameter_names(), draw, strict=True))


def test_the_likelihood_of_a_client_is_the_dense_normal() -> None:
    shape, draw, values = intercept_world()
    rng, mv = np.random.default_rng(5), np.array([0.2, 0.0])
    Y = rng.normal(size=(7, 5, 2)) * 2.0
    Y[rng.random(Y.shape) < 0.25] = np.nan
    x = rng.normal(size=(7, 1))
    data = DsemData(Y, np.arange(5.0)[:, None], x, None, mv)
    found = loglik_draws(shape, draw[None], data)[0]
    for i in range(7):
        mean, cov = dense_moments(values, 5, x[i, 0], mv)
        seen = ~np.isnan(Y[i].ravel())
        dense = stats.multivariate_normal(mean[seen], cov[np.ix_(seen, seen)])
        assert found[i] == pytest.approx(dense.logpdf(Y[i].ravel()[seen]), rel=1e-9)


def test_simulated_scores_have_the_moments_of_the_model() -> None:
    shape, draw, values = intercept_world()
    n, mv = 40_000, np.array([0.2, 0.0])
    empty = DsemData(np.zeros((n, 5, 2)), np.arange(5.0)[:, None], np.full((n, 1), 0.7), None, mv)
    Y = simulate_scores(shape, draw, empty, np.random.default_rng(6)).reshape(n, -1)
    mean, cov = dense_moments(values, 5, 0.7, mv)
    d = np.sqrt(np.diag(cov))
    assert np.abs((Y.mean(axis=0) - mean) / d * np.sqrt(n)).max() < MEAN_ERRORS
    error = np.sqrt((cov**2 + np.outer(d**2, d**2)) / n)  # of a normal's sample covariance
    assert np.abs((np.cov(Y, rowvar=False) - cov) / error).max() < MEAN_ERRORS


def test_simulated_effects_have_their_covariance_and_therapists_theirs() -> None:
    from alliancedyn.engine.dsem_world import Population, draw_effects

    draw = prior_draws(FULL, Priors(), 1, np.random.default_rng(7))[0]
    world, n = Population.of(FULL, draw), 30_000
    data = DsemData(
        np.zeros((n, 6, 2)), np.zeros((6, 1)), np.zeros((n, 1)), np.arange(n), np.zeros(2)
    )
    b = draw_effects(FULL, world, data, np.random.default_rng(8))
    cov = world.effect_cov.copy()
    cov[:2, :2] += world.therapist_cov
    d = np.sqrt(np.diag(cov))
    error = np.sqrt((cov**2 + np.outer(d**2, d**2)) / n)
    assert np.abs((np.cov(b, rowvar=False) - cov) / error).max() < MEAN_ERRORS
    np.testing.assert_allclose(b.mean(axis=0)[2:6], world.phi.ravel(), atol=5 * d[2:6].max() / 170)


def test_statistics_of_a_panel_are_those_of_pandas() -> None:
    panel = small_panel()
    Y = panel.arrays().Y
    found = dict(zip(statistic_names(VARIABLES), panel_statistics(Y), strict=True))
    long = panel.frame.set_index(["client", "session"])[list(VARIABLES)]
    d = long - long.groupby("client").transform("mean")
    before = d.copy()
    before.index = pd.MultiIndex.from_arrays(
        [d.index.get_level_values(0), d.index.get_level_values(1) + 1], names=d.index.names
    )
    both = d.join(before.add_suffix("_1"), how="inner")

    def around_zero(x: str, y: str) -> float:
        pair = both[[x, y]].dropna()
        return float((pair[x] * pair[y]).sum() / np.sqrt((pair**2).sum().prod()))

    assert found["autocorrelation[symptoms]"] == pytest.approx(
        around_zero("symptoms", "symptoms_1"), abs=EXACT
    )
    assert found["lagged_corr[symptoms,alliance]"] == pytest.approx(
        around_zero("symptoms", "alliance_1"), abs=EXACT
    )
    scores = long["alliance"].dropna()
    within = (d["alliance"] ** 2).sum() / (len(scores) - scores.groupby("client").ngroups)
    assert found["within_var[alliance]"] == pytest.approx(within, abs=EXACT)
    assert 0.0 < found["icc[alliance]"] < 1.0
    own = {
        client: np.polyfit(rows["session"], rows["alliance"], 1)[0]
        for client, rows in panel.frame.dropna(subset="alliance").groupby("client")
        if len(rows) >= 3
    }
    assert found["slope_sd[alliance]"] == pytest.approx(np.std(list(own.values()), ddof=1))
    rows = panel.frame.dropna(subset="alliance")
    s = rows["session"] - rows.groupby("client")["session"].transform("mean")
    assert found["slope[alliance]"] == pytest.approx((rows["alliance"] * s).sum() / (s**2).sum())


# -- units ----------------------------------------------------------------------------------------


def test_the_unit_is_the_pooled_sd_within_clients() -> None:
    panel = small_panel()
    center, unit = within_units(panel.arrays().Y)
    long = panel.frame
    for j, name in enumerate(VARIABLES):
        scores = long.dropna(subset=name)
        d = scores[name] - scores.groupby("client")[name].transform("mean")
        assert center[j] == pytest.approx(scores[name].mean(), abs=EXACT)
        pooled = np.sqrt((d**2).sum() / (len(d) - scores["client"].nunique()))
        assert unit[j] == pytest.approx(pooled, abs=EXACT)


def test_parameters_are_carried_back_as_the_scores_are() -> None:
    """Scores of a world, carried to raw units, have the likelihood of raw parameters."""
    shape, draw, _ = intercept_world()
    units = Units(np.array([3.0, -2.0]), np.array([0.5, 4.0]), np.array([2.5]))
    raw = units.raw(draw, shape)
    rng = np.random.default_rng(9)
    z, x = rng.normal(size=(6, 5, 2)), rng.normal(size=(6, 1))
    course, mv = np.arange(5.0)[:, None], np.array([0.3, 0.1])
    scaled = DsemData(z, course, x, None, mv)
    y = units.center + units.unit * z
    own = DsemData(y, course, x * units.predictor, None, mv * units.unit**2)
    jacobian = 5 * np.log(units.unit).sum()
    np.testing.assert_allclose(
        loglik_draws(shape, raw[None], own)[0],
        loglik_draws(shape, draw[None], scaled)[0] - jacobian,
        rtol=1e-9,
    )


def test_rescaled_scores_give_the_rescaled_posterior_draw_by_draw() -> None:
    panel = small_panel()
    moved = panel.frame
    moved["alliance"] = 3.0 + 2.0 * moved["alliance"]
    spec = DSEM(random=("intercept", "phi"), draws=60, tune=20, chains=2)
    one = spec.fit(panel, seed=1, strict=False)
    two = spec.fit(from_frame(moved), seed=1, strict=False)
    for name, factor in {
        "phi[symptoms,alliance]": 0.5,
        "phi[alliance,symptoms]": 2.0,
        "phi[alliance,alliance]": 1.0,
        "phi_sd[symptoms,alliance]": 0.5,
        "between_cov[alliance,symptoms]": 2.0,
        "innovation_cov[alliance,alliance]": 4.0,
    }.items():
        np.testing.assert_allclose(two.draws[name], factor * one.draws[name], rtol=1e-7)
    np.testing.assert_allclose(
        two.draws["mean[alliance]"], 3.0 + 2.0 * one.draws["mean[alliance]"], rtol=1e-9
    )
    effects = [f.client_effects().set_index(["client", "effect"])["estimate"] for f in (one, two)]
    at = effects[0].index.get_level_values("effect") == "alliance"
    np.testing.assert_allclose(effects[1][at], 3.0 + 2.0 * effects[0][at], rtol=1e-9)


# -- the fit --------------------------------------------------------------------------------------


def test_raw_scores_give_the_posterior_of_stan() -> None:
    peer = simulated("dsem", "fixed_phi")["params"]
    panel = from_frame(panel_frame("dsem", "fixed"))
    fit = DSEM(scale="raw", draws=1500, tune=300).fit(panel, seed=11)
    mixing = fit.diagnostics["mixing"]
    assert set(peer) == set(fit.params.index)
    for name, theirs in peer.items():
        error = np.hypot(theirs["mcse_mean"], mixing.loc[name, "mcse"])
        assert abs(fit.params[name] - theirs["mean"]) < STAN_ERRORS * error, name
        relative = 1.0 / np.sqrt(2.0 * min(mixing.loc[name, "ess_bulk"], theirs["ess_bulk"]))
        assert abs(fit.se[name] / theirs["sd"] - 1.0) < STAN_SD + 2 * relative, name
    assert fit.converged
    assert fit.diagnostics["sampler"] == "gibbs"


def test_with_many_clients_the_posterior_is_the_maximum_and_its_errors() -> None:
    panel = small_panel(clients=500, sessions=10)
    ml = ad.RICLPM(means="equal").fit(panel)
    fit = DSEM(draws=1000, tune=300).fit(panel, seed=2)
    off = (fit.params[ml.params.index] - ml.params) / ml.se
    assert np.abs(off).max() < 0.25  # priors, skewness, and Monte Carlo error
    np.testing.assert_allclose(fit.se[ml.params.index], ml.se, rtol=0.1)


def test_forecasts_are_those_of_the_same_system_by_maximum_likelihood() -> None:
    panel = small_panel()
    ml = ad.RICLPM(means="equal").fit(panel)
    fit = DSEM(draws=60, tune=20, chains=2).fit(panel, seed=1, strict=False)
    params = {name: float(value) for name, value in fit.params.items()}
    (ours,) = fit.model.groups_of(params, fit.data, fit.variables)
    (theirs,) = ml.model.groups_of(params, ml.data, ml.variables)
    for part in ("phi", "psi", "initial_cov", "noise", "load"):
        np.testing.assert_allclose(getattr(ours.system, part), getattr(theirs.system, part))
    np.testing.assert_allclose(ours.system.mean[0], theirs.system.mean[0])
    assert list(fit.predict().columns) == list(ml.predict().columns)
    assert len(fit.predict()) == len(ml.predict())


def test_clients_are_shrunken_towards_the_population() -> None:
    panel = small_panel()
    fit = DSEM(draws=300, tune=50, chains=2).fit(panel, seed=1, strict=False)
    own = fit.client_effects().pivot(index="client", columns="effect", values="estimate")[
        "symptoms"
    ]
    states = fit.states()
    there = states[(states["variable"] == "symptoms") & (states["part"] == "between")]
    smoothed = there.groupby("client")["mean"].first() + fit.params["mean[symptoms]"]
    own, smoothed = own.align(smoothed)
    # Posterior means over draws, beside the smoother at the posterior mean of the parameters.
    assert np.corrcoef(own, smoothed)[0, 1] > 0.995
    seen = panel.frame.groupby("client")["symptoms"].mean()
    assert own.std() < seen.std()


def test_predictors_move_levels_and_lagged_effects() -> None:
    rng = np.random.default_rng(3)
    frames = []
    for arm, cross in ((0, -0.4), (1, 0.2)):
        truth = ad.Dynamics(
            phi=[[0.3, 0.0], [cross, 0.3]],
            innovation_cov=np.eye(2),
            between_cov=np.eye(2) * 0.5,
            mean=(5.0 + arm, 10.0),
        )
        one = ad.simulate(truth, clients=60, sessions=14, seed=int(rng.integers(1000))).frame
        one["client"] = one["client"].astype(str) + f"-{arm}"
        frames.append(one.assign(treated=float(arm)))
    panel = from_frame(pd.concat(frames), covariates=("treated",))
    spec = DSEM(random=("intercept", "phi"), predictors=("treated",), draws=400, tune=100, chains=2)
    fit = spec.fit(panel, seed=4, strict=False)
    table = fit.table()
    effect = table.loc["predictor[symptoms<-alliance,treated]"]
    assert effect["lower"] < 0.6 < effect["upper"]
    assert effect["lower"] > 0.2
    level = table.loc["predictor[alliance,treated]"]
    assert level["lower"] < 1.0 < level["upper"]
    assert fit.model.predictor_means == {"treated": pytest.approx(0.5)}


def test_a_linear_course_and_steps_agree_with_the_world() -> None:
    truth = ad.Dynamics.time_ordered(**TRUTH)
    panel = small_panel(clients=80)
    frame = panel.frame
    frame["symptoms"] -= 0.8 * (frame["session"] - 1)
    del truth
    line = DSEM(trend="linear", draws=300, tune=100, chains=2)
    steps = DSEM(trend="session", draws=300, tune=100, chains=2)
    moved = from_frame(frame)
    a, b = (spec.fit(moved, seed=3, strict=False) for spec in (line, steps))
    row = a.table().loc["trend[symptoms]"]
    assert row["lower"] < -0.8 < row["upper"]
    row = b.table().loc["session[symptoms]@5"]
    assert row["lower"] < -3.2 < row["upper"]
    assert a.predict().shape == b.predict().shape


def test_therapists_have_a_level_of_their_own() -> None:
    truth = ad.Dynamics.time_ordered(**TRUTH)
    therapists = ad.Therapists(12, [[1.5, 0.0], [0.0, 1.5]])
    panel = ad.simulate(truth, clients=120, sessions=6, therapists=therapists, seed=5)
    spec = DSEM(levels=("therapist", "client"), draws=300, tune=150, chains=2)
    fit = spec.fit(panel, seed=1, strict=False)
    row = fit.table().loc["therapist_cov[alliance,alliance]"]
    assert row["lower"] < 1.5 < row["upper"]
    assert row["lower"] > 0.2


# -- what it says and what it refuses -------------------------------------------------------------


def test_a_specification_says_what_it_is_and_travels() -> None:
    spec = DSEM(random=["intercept", "phi"], trend="linear", priors={"phi": ("normal", 0, 0.3)})
    assert repr(spec) == (
        "DSEM(random=('intercept', 'phi'), trend='linear', priors={'phi': ('normal', 0, 0.3)})"
    )
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert spec.assumptions
    assert spec.references
    assert DSEM().engine == "gibbs"
    assert DSEM(innovations="student").engine == "nutpie"


def test_priors_are_printed_in_raw_units_and_can_be_changed() -> None:
    panel = small_panel()
    spec = DSEM(
        priors={"phi": ("normal", 0.1, 0.2), "sd": ("half-normal", 1.0)},
        scale="raw",
        draws=30,
        tune=10,
        chains=2,
    )
    said = " ".join(spec.fit(panel, seed=1, strict=False).diagnostics["priors"])
    assert "phi[...] (4) ~ normal(0.1, 0.2)" in said
    assert "between_sd[alliance] , between_sd[symptoms]".replace(" ,", ",") in said
    assert "half-normal(1)" in said
    predictive = prior_predictive(spec, panel, draws=4000, seed=1)
    row = predictive.table.loc["phi[symptoms,alliance]"]
    assert row["mean"] == pytest.approx(0.1, abs=4 * 0.2 / np.sqrt(4000))
    assert row["upper"] == pytest.approx(0.1 + 1.96 * 0.2, abs=0.03)
    assert predictive.table.loc["icc[alliance]", "prior"] == "follows"
    assert 0.0 <= predictive.explosive < 0.05


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"random": ("phi",)}, "choose"),
        ({"random": "intercept"}, "as a tuple"),
        ({"priors": {"slope": ("normal", 0, 1)}}, "priors= has no 'slope'"),
        ({"priors": {"between_cov": ("half-normal", 1)}}, "share 'sd'"),
        ({"priors": {"phi": ("cauchy", 0, 1)}}, "write it as"),
        ({"priors": {"phi_sd": ("half-normal", 0)}}, "scale above 0"),
        ({"chains": 1}, "from 2 up"),
        ({"draws": 0}, "from 1 up"),
        ({"sampler": "gibbs", "innovations": "student"}, "nutpie"),
        ({"sampler": "laplace", "random": ("intercept", "phi")}, "quick look"),
        ({"measurement_var": {"alliance": -1.0}}, "negative"),
        ({"measurement_var": "equal"}, "measurement_var is 'equal'; give"),
        ({"sessions": (1, 2, 3)}, "first and the last"),
    ],
)
def test_options_that_do_not_exist_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(SpecificationError, match=said):
        DSEM(**options)


def frame_of(Y: np.ndarray, **columns: object) -> pd.DataFrame:
    """Lay scores (N, T, 2) out in rows."""
    n, T, _ = Y.shape
    rows = {
        "client": np.repeat([f"C{i}" for i in range(n)], T),
        "session": np.tile(range(1, T + 1), n),
    }
    return pd.DataFrame(
        {**rows, "alliance": Y[..., 0].ravel(), "symptoms": Y[..., 1].ravel(), **columns}
    )


def flat_within() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    Y = rng.normal(size=(10, 5, 2))
    Y[..., 0] = rng.normal(size=(10, 1))
    return frame_of(Y)


NOISE = np.random.default_rng(2).normal(size=(10, 6, 2))


@pytest.mark.parametrize(
    ("spec", "frame", "said"),
    [
        (DSEM(), frame_of(NOISE[:, :2]), "3 or more sessions"),
        (DSEM(), frame_of(NOISE[:1]), "1 clients"),
        (DSEM(), flat_within(), "'alliance' does not vary within any client"),
        (DSEM(), frame_of(np.where(np.arange(6)[:, None] % 2, NOISE, np.nan)), "in a row"),
        (DSEM(levels=("therapist", "client")), frame_of(NOISE), "no therapist"),
        (DSEM(measurement_var={"mood": 0.1}), frame_of(NOISE), "'mood'"),
        (DSEM(predictors=("severity",)), frame_of(NOISE), "severity"),
    ],
)
def test_data_that_cannot_carry_the_model_are_refused(
    spec: DSEM, frame: pd.DataFrame, said: str
) -> None:
    with pytest.raises((SpecificationError, DataError), match=said):
        spec.fit(from_frame(frame), seed=1)


@pytest.mark.parametrize(
    ("therapist", "said"),
    [(np.zeros(60), "same therapist"), (np.repeat(np.arange(10), 6), "Every therapist has one")],
)
def test_therapists_that_cannot_be_told_apart_are_refused(therapist: np.ndarray, said: str) -> None:
    frame = frame_of(NOISE, who=[f"T{int(code)}" for code in therapist])
    with pytest.raises(SpecificationError, match=said):
        DSEM(levels=("therapist", "client")).fit(from_frame(frame, therapist="who"), seed=1)


def test_short_series_are_flagged() -> None:
    panel = small_panel(sessions=4)
    fit = DSEM(draws=30, tune=10, chains=2).fit(panel, seed=1, strict=False)
    assert any(note.startswith("4 sessions") for note in fit.diagnostics["notes"])


def test_what_needs_one_system_is_refused_where_lags_are_random() -> None:
    spec = DSEM(random=("intercept", "phi"), draws=30, tune=10, chains=2)
    fit = spec.fit(small_panel(), seed=1, strict=False)
    for ask in (fit.standardized, fit.draw_scores):
        with pytest.raises(SpecificationError, match="one system for all clients"):
            ask()
    with pytest.raises(SpecificationError, match="one system for all clients"):
        fit.draw_scores(2, parameters="drawn")
    with pytest.raises(SpecificationError, match="no likelihood"):
        fit.fit_indices()


@pytest.mark.reference
def test_a_real_trial_says_what_maximum_likelihood_says_with_and_without_a_course() -> None:
    """IMPLEMENT, 57 clients, 15 sessions: an effect that a common course explains away."""
    path = published_dir() / "A1_implement_wai_bai" / "sessions_long.csv"
    if not path.is_file():
        pytest.skip("no A1_implement_wai_bai among the reference data")
    mapping = Path(__file__).parents[1] / "examples" / "implement_wai_bai" / "mapping.toml"
    panel = ad.read_sessions(path, mapping=mapping)
    name = "phi[anxiety,alliance]"
    flat = DSEM(draws=800, tune=200).fit(panel, seed=1)
    ml = ad.RICLPM(means="equal").fit(panel)
    assert flat.params[name] == pytest.approx(ml.params[name], abs=0.25 * ml.se[name])
    assert flat.se[name] == pytest.approx(ml.se[name], rel=0.1)
    steps = DSEM(trend="session", draws=800, tune=200).fit(panel, seed=1)
    free = ad.RICLPM().fit(panel, strict=False)  # says that 57 clients are few
    assert steps.params[name] == pytest.approx(free.params[name], abs=0.35 * free.se[name])
    ranked = compare_loo({"flat": loo(flat), "steps": loo(steps)})
    assert ranked.index[0] == "steps"
    assert ranked.loc["flat", "difference"] < -2 * ranked.loc["flat", "difference_se"]
