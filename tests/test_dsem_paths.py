"""Same-session effects, chosen lagged effects, one series: densities, agreement, what is said.

Tolerances. Densities: rounding of sums of a few hundred terms. Draws against maximum likelihood:
a quarter of a standard error, as priors and skewness make. Published medians: half of their last
digit, and four Monte Carlo errors of medians, ours and those of the program that published them,
whose effective sample size is not told and taken as 400.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from reference_files import published_dir
from scipy import stats

import alliancedyn as ad
from alliancedyn.engine.dsem import DsemData, DsemShape, Priors
from alliancedyn.engine.dsem_prior import log_prior, prior_draws
from alliancedyn.engine.dsem_units import Units
from alliancedyn.engine.dsem_world import loglik_draws, simulate_scores
from alliancedyn.errors import SpecificationError
from alliancedyn.models.dsem import DSEM
from alliancedyn.models.dsem_open import build_model, canonical
from alliancedyn.models.dsem_scores import last_seen
from alliancedyn.models.dsem_task import task_of

ROUNDING = 1e-7
EXACT = 1e-10
HALF_DIGIT = 0.005
MONTE_CARLO = 4.0
TOLD_ESS = 400.0

PRIORS = Priors()
SERIES = ("alliance", "symptoms")
G = "same[alliance,symptoms]"
WIDE = {
    "mean": ("normal", 0, 100),
    "phi": ("normal", 0, 10),
    "same": ("normal", 0, 10),
    "phi_sd": ("half-normal", 10),
    "same_sd": ("half-normal", 10),
    "sd": ("half-normal", 10),
}  # fmt: skip


def shape_of(variables: tuple[str, ...], **options: object) -> DsemShape:
    return DsemShape(variables, tuple(range(1, 6)), **options)


SHAPES = {
    "common": shape_of(("a", "b"), same=(("b", "a"),)),
    "random": shape_of(
        ("a", "b"), same=(("b", "a"),), lagged=(("b", "b"), ("a", "b")), random_same=True,
        random_innovation=True,
    ),
    "all random": shape_of(("a", "b"), same=(("a", "b"),), random_phi=True, random_same=True),
    "three in order": shape_of(("a", "b", "c"), same=(("b", "a"), ("c", "a"), ("c", "b"))),
    "one series": shape_of(("a",)),
    "one series, random": shape_of(("a",), random_phi=True, random_innovation=True),
}  # fmt: skip


def scores(k: int, seed: int = 3) -> DsemData:
    """Return scores of ten clients at five sessions, with holes."""
    rng = np.random.default_rng(seed)
    Y = rng.standard_normal((10, 5, k))
    Y[rng.random(Y.shape) < 0.15] = np.nan
    Y[:3, 3:] = np.nan
    Y[:, 1, 0] = 0.4
    return DsemData(Y, np.zeros((5, 0)), np.zeros((10, 0)), None, np.zeros(k))


# -- densities ------------------------------------------------------------------------------------


class At:
    """A model at random points: log density there, and its quantities by name."""

    def __init__(self, model) -> None:
        data = {one.name for one in model.data_vars}
        apart = {one.name for one in model.potentials} | data
        self.kept = [name for name in model.named_vars if name not in apart]
        with warnings.catch_warnings(), model:
            warnings.simplefilter("ignore")
            outs = model.replace_rvs_by_values([model[name] for name in self.kept])
            logp = model.logp(jacobian=False)
            self.run = model.compile_fn(
                [logp, *outs], inputs=model.value_vars, point_fn=False, mode="FAST_COMPILE"
            )
            start = model.initial_point()
        self.start = [start[one.name] for one in model.value_vars]

    def __call__(self, rng: np.random.Generator) -> tuple[float, dict[str, np.ndarray]]:
        point = [one + 0.3 * rng.standard_normal(one.shape) for one in self.start]
        logp, *rest = self.run(*point)
        return float(logp), dict(zip(self.kept, rest, strict=True))


def root_volume(S: np.ndarray) -> float:
    """Log volume element from the root of a covariance to SDs and correlations, by differences."""
    L, k = np.linalg.cholesky(S), len(S)
    rows, columns = np.tril_indices(k)
    low = np.tril_indices(k, -1)

    def read(packed: np.ndarray) -> np.ndarray:
        M = np.zeros((k, k))
        M[rows, columns] = packed
        V = M @ M.T
        sd = np.sqrt(np.diag(V))
        return np.concatenate([sd, (V / sd / sd[:, None])[low]])

    at, step = L[rows, columns], 1e-6
    J = [(read(at + step * e) - read(at - step * e)) / (2 * step) for e in np.eye(len(at))]
    return float(np.linalg.slogdet(np.array(J))[1])


def matrices(at: dict[str, np.ndarray], shape: DsemShape, b: np.ndarray) -> tuple:
    """Lags, same-session effects and SDs of one client, element by element."""
    v, effects = shape.variables, shape.effects
    k = len(v)
    F, G = np.array(at["phi"], float), np.array(at.get("same", np.zeros((k, k))), float)
    for e, effect in enumerate(effects[k:], k):
        for r, row in enumerate(v):
            for c, column in enumerate(v):
                if effect == f"{row}<-{column}":
                    F[r, c] = b[e]
                if effect == f"same({row}<-{column})":
                    G[r, c] = b[e]
    logs = b[-k:] if shape.random_innovation else np.zeros(k)
    return F, G, np.exp(logs / 2.0)


def dense_process(at: dict, data: DsemData, shape: DsemShape, x: np.ndarray) -> float:
    """Log density of true scores given effects, and of effects given the population."""
    k, total = data.k, 0.0
    b = at["client_effects"]
    sd = np.concatenate(
        [at[f"{f}_sd"][shape.variables.index(r), shape.variables.index(c)][None]
         for f, r, c in shape.coefficients if f"{f}_sd" in at]
        + ([at["log_innovation_sd"]] if shape.random_innovation else [np.zeros(0)])
    )  # fmt: skip
    center = [at[f][shape.variables.index(r), shape.variables.index(c)]
              for f, r, c in shape.coefficients if f"{f}_sd" in at]  # fmt: skip
    center = np.array(center + [0.0] * (len(sd) - len(center)))
    for i, last in enumerate(last_seen(data.Y)):
        total += stats.multivariate_normal.logpdf(b[i, :k], at["mean"], at["between_cov"])
        total += stats.norm.logpdf((b[i, k:] - center) / sd).sum()  # not centered: that of z
        F, G, spread = matrices(at, shape, b[i])
        w = x[i] - b[i, :k]
        earlier = np.zeros(k)
        for t in range(last):
            if t == 0 and shape.initial == "free":
                total += stats.multivariate_normal.logpdf(w[0], np.zeros(k), at["initial_cov"])
            else:
                e = w[t] - G @ w[t] - F @ earlier
                psi = at["innovation_cov"] * spread * spread[:, None]
                total += stats.multivariate_normal.logpdf(e, np.zeros(k), psi)
            earlier = w[t]
    return float(total)


def true_scores_at(data: DsemData, at: dict) -> np.ndarray:
    x = data.Y.copy()
    inside = np.arange(data.Y.shape[1])[:, None] < last_seen(data.Y)[:, None, None]
    x[np.isnan(data.Y) & inside] = at["missing_score"]
    return x


@pytest.mark.parametrize("initial", ["free", "innovation"])
@pytest.mark.parametrize("name", SHAPES)
def test_the_open_model_has_the_density_of_the_equations(name: str, initial: str) -> None:
    shape = replace(SHAPES[name], initial=initial)
    data = scores(len(shape.variables))
    at = At(build_model(data, shape, PRIORS))
    rng, gaps = np.random.default_rng(1), []
    marginal = len(shape.effects) == data.k
    for _ in range(3):
        ours, values = at(rng)
        draw = np.array(list(canonical(values, shape).values()))
        dense = float(log_prior(shape, PRIORS, draw[None])[0])
        roots = ["between_cov", *(["initial_cov"] if initial == "free" else [])]
        roots += [] if shape.same else ["innovation_cov"]
        dense += sum(root_volume(values[one]) for one in roots) if data.k > 1 else 0.0
        if marginal:
            dense += float(loglik_draws(shape, draw[None], data).sum())
        else:
            dense += dense_process(values, data, shape, true_scores_at(data, values))
        gaps.append(ours - dense)
    np.testing.assert_allclose(gaps, gaps[0], atol=ROUNDING * max(abs(dense), 100.0))


def test_the_likelihood_with_same_session_effects_is_the_dense_normal() -> None:
    """Scores of a client as one normal vector, from the equations solved over all sessions."""
    shape = SHAPES["three in order"]
    data = scores(3)
    draw = prior_draws(shape, PRIORS, 1, np.random.default_rng(4))[0]
    p = dict(zip(shape.parameter_names(), draw, strict=True))
    v, T = shape.variables, 5
    whole = np.zeros((3 * T, 3 * T))  # (I - G) w_t - F w_{t-1} = e_t, stacked
    noise = np.zeros((3 * T, 3 * T))
    for t in range(T):
        here = slice(3 * t, 3 * t + 3)
        whole[here, here] = np.eye(3)
        noise[here, here] = np.diag([p[f"innovation_cov[{a},{a}]"] for a in v])
        for r, a in enumerate(v):
            for c, b in enumerate(v):
                if t:
                    whole[3 * t + r, 3 * t + c] -= p.get(f"same[{a},{b}]", 0.0)
                    whole[3 * t + r, 3 * t - 3 + c] -= p[f"phi[{a},{b}]"]
                else:
                    noise[r, c] = p.get(f"initial_cov[{a},{b}]", p.get(f"initial_cov[{b},{a}]"))
    solved = np.linalg.inv(whole)
    between = [
        [p.get(f"between_cov[{a},{b}]", p.get(f"between_cov[{b},{a}]")) for b in v] for a in v
    ]
    cov = solved @ noise @ solved.T + np.tile(between, (T, T))
    mean = np.tile([p[f"mean[{a}]"] for a in v], T)
    found = loglik_draws(shape, draw[None], data)[0]
    for i, y in enumerate(data.Y.reshape(10, -1)):
        seen = ~np.isnan(y)
        dense = stats.multivariate_normal(mean[seen], cov[np.ix_(seen, seen)]).logpdf(y[seen])
        assert found[i] == pytest.approx(dense, rel=1e-9)


# -- worlds and units -----------------------------------------------------------------------------


def test_simulated_scores_obey_the_equations() -> None:
    """Regressions of drawn scores on those before them return the parameters."""
    shape = shape_of(("a", "b"), same=(("b", "a"),), lagged=(("a", "a"), ("b", "b"), ("a", "b")))
    values = {
        "phi[a,a]": 0.3, "phi[b,b]": 0.4, "phi[a,b]": -0.2, "same[b,a]": 0.5,
        "innovation_cov[a,a]": 1.0, "innovation_cov[b,b]": 0.6, "initial_cov[a,a]": 1.0,
        "initial_cov[b,b]": 1.0,
    }  # fmt: skip
    draw = np.array([values.get(name, 0.0) for name in shape.parameter_names()])
    n = 40_000
    empty = DsemData(np.zeros((n, 5, 2)), np.zeros((5, 0)), np.zeros((n, 0)), None, np.zeros(2))
    Y = simulate_scores(shape, draw, empty, np.random.default_rng(6))
    a, b, before = Y[:, 4, 0], Y[:, 4, 1], Y[:, 3]
    slopes = np.linalg.lstsq(np.column_stack([a, before]), b, rcond=None)[0]
    np.testing.assert_allclose(slopes, [0.5, 0.0, 0.4], atol=4.5 / np.sqrt(n))
    slopes = np.linalg.lstsq(before, a, rcond=None)[0]
    np.testing.assert_allclose(slopes, [0.3, -0.2], atol=4.5 / np.sqrt(n))


def test_paths_are_carried_back_as_the_scores_are() -> None:
    shape, data = SHAPES["common"], scores(2)
    draw = prior_draws(shape, PRIORS, 1, np.random.default_rng(5))[0]
    units = Units(np.array([3.0, -2.0]), np.array([0.5, 4.0]), np.ones(0))
    raw = units.raw(draw, shape)
    jacobian = (~np.isnan(data.Y) * np.log(units.unit)).sum(axis=(1, 2))
    np.testing.assert_allclose(
        loglik_draws(shape, raw[None], replace(data, Y=units.center + units.unit * data.Y))[0],
        loglik_draws(shape, draw[None], data)[0] - jacobian,
        rtol=1e-9,
    )
    random = SHAPES["all random"]
    at = random.effects.index("same(a<-b)")
    assert units.of_effects(random)[at] == pytest.approx(0.5 / 4.0)


# -- fits -----------------------------------------------------------------------------------------

TRUTH = {
    "phi_alliance": 0.35, "phi_symptoms": 0.45, "forward": -0.12, "backward": -0.10,
    "between_cov": [[1.0, -0.3], [-0.3, 1.0]], "mean": (5.0, 10.0),
}  # fmt: skip


@pytest.fixture(scope="module")
def large() -> ad.SessionPanel:
    return ad.simulate(
        ad.Dynamics.time_ordered(**TRUTH), clients=400, sessions=9, missing=0.1, seed=5
    )


def test_time_order_is_a_reparametrization_of_the_reduced_form(large: ad.SessionPanel) -> None:
    """b, g, h of a whole time-ordered model are those that maximum likelihood solves for."""
    ml = ad.RICLPM(means="equal").fit(large)
    spec = DSEM(same=("alliance<-symptoms",), draws=1000, tune=300, chains=2)
    fit = spec.fit(large, seed=2, strict=False)
    theirs, ours = ml.structural(), fit.structural()
    off = (ours["estimate"] - theirs["estimate"]) / theirs["se"]
    assert off.abs().max() < 0.25
    np.testing.assert_allclose(ours["se"], theirs["se"], rtol=0.1)
    assert fit.params[G] == pytest.approx(ours.loc["backward_immediate", "estimate"], abs=EXACT)
    assert fit.params["phi[alliance,symptoms]"] == pytest.approx(
        ours.loc["backward_delayed", "estimate"], abs=EXACT
    )
    reduced = fit.effect("symptoms", "alliance", standardized="within")
    known = ml.effect("symptoms", "alliance", standardized="within")
    assert abs(reduced.value - known.value) < 0.25 * known.se
    assert fit.model.assumptions[-2].startswith("Nothing since the last session")


def test_reduced_effects_are_those_of_every_draw(large: ad.SessionPanel) -> None:
    spec = DSEM(
        same=("alliance<-symptoms",), lagged=("symptoms<-symptoms", "symptoms<-alliance"),
        draws=40, tune=20, chains=2,
    )  # fmt: skip
    fit = spec.fit(large, seed=2, strict=False)
    d = fit.draws
    b, g = d["phi[symptoms,alliance]"], d[G]
    assert fit.effect("alliance", "alliance").value == pytest.approx((g * b).mean(), abs=EXACT)
    path = fit.impulse_response("alliance", 2)
    s = d["phi[symptoms,symptoms]"]
    assert path.loc[1, ("alliance", "estimate")] == pytest.approx((g * b).mean(), abs=EXACT)
    assert path.loc[2, ("symptoms", "estimate")] == pytest.approx(
        (b * g * b + s * b).mean(), abs=EXACT
    )
    u, e = d["innovation_cov[symptoms,symptoms]"], d["innovation_cov[alliance,alliance]"]
    v = u.to_numpy()
    for _ in range(200):  # Var(s) = phi^2 Var(s) + b^2 Var(a) + 2 phi b Cov(s, a) + Var(u)
        v = s**2 * v + b**2 * (g**2 * v + e) + 2 * s * b * g * v + u
    assert fit.sd_within()["symptoms"] == pytest.approx(np.sqrt(v).mean(), rel=1e-9)
    assert fit.sd_within_basis() == "stationary"
    assert len(fit.states()) > 0
    assert {"phi[alliance,symptoms]", "innovation_cov[alliance,symptoms]"}.isdisjoint(d.columns)


def test_a_predictor_moves_a_random_same_session_effect() -> None:
    frames = []
    for arm, g in ((0, -0.5), (1, 0.1)):
        truth = ad.Dynamics.time_ordered(**{**TRUTH, "backward": g})
        one = ad.simulate(truth, clients=50, sessions=14, seed=3 + arm).frame
        frames.append(one.assign(client=one["client"].astype(str) + f"-{arm}", treated=float(arm)))
    panel = ad.SessionPanel.from_frame(
        pd.concat(frames), client="client", session="session",
        variables={"alliance": "alliance", "symptoms": "symptoms"}, covariates=("treated",),
        timing={"alliance": "after", "symptoms": "before"},
    )  # fmt: skip
    spec = DSEM(
        random=("intercept", "same"), same=("alliance<-symptoms",), predictors=("treated",),
        draws=500, tune=200, chains=2,
    )  # fmt: skip
    fit = spec.fit(panel, seed=4, strict=False)
    row = fit.table().loc["predictor[same(alliance<-symptoms),treated]"]
    assert row["lower"] < 0.6 < row["upper"]
    assert row["lower"] > 0.3
    own = fit.client_effects().query("effect == 'same(alliance<-symptoms)'")
    treated = own["client"].str.endswith("-1")
    assert own.loc[treated, "estimate"].mean() - own.loc[~treated, "estimate"].mean() > 0.4
    with pytest.raises(SpecificationError, match="one system"):
        fit.standardized()


@pytest.mark.parametrize("initial", ["free", "innovation"])
def test_one_series_is_sampled_alike_by_blocks_and_around_the_mode(
    large: ad.SessionPanel, initial: str
) -> None:
    spec = DSEM(variables=("symptoms",), initial=initial, draws=1500, tune=300, chains=2)
    blocks = spec.fit(large, seed=1, strict=False)
    mode = replace(spec, sampler="laplace").fit(large, seed=1, strict=False)
    assert set(blocks.params.index) == set(mode.params.index)
    off = (blocks.params - mode.params) / mode.se
    assert off.abs().max() < 4.5 * np.sqrt(2.0 / 1000.0)
    np.testing.assert_allclose(blocks.se, mode.se, rtol=0.12)
    assert ("initial_cov[symptoms,symptoms]" in blocks.params) == (initial == "free")
    with pytest.raises(SpecificationError, match="two variables"):
        blocks.structural()


# -- what it says and what it refuses -------------------------------------------------------------

FEW = {"draws": 30, "tune": 10, "chains": 2}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"same": "alliance<-symptoms"}, "as a tuple"),
        ({"same": ("alliance",)}, "is no path"),
        ({"same": ("a<-b", "b<-c", "c<-a")}, "circle"),
        ({"same": ("a<-a",)}, "circle"),
        ({"same": ("a<-b", "a <- b")}, "twice"),
        ({"random": ("intercept", "same")}, "Name them"),
        ({"lagged": ()}, "nothing dynamic"),
        ({"lagged": (), "same": ("a<-b",), "random": ("intercept", "phi")}, "Leave one out"),
        ({"initial": "stationary"}, "choose"),
        ({"initial": "innovation", "trend": "linear", "sampler": "gibbs"}, "nutpie"),
    ],
    ids=range(10),
)
def test_paths_that_contradict_each_other_are_refused(options: dict, said: str) -> None:
    with pytest.raises(SpecificationError, match=said):
        DSEM(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"same": ("alliance<-mood",)}, "the series of the model are 'alliance', 'symptoms'"),
        ({"lagged": ("mood<-mood",)}, "lagged names"),
        ({"same": ("symptoms<-alliance",)}, "Turn the path round"),
        ({"variables": ("symptoms", "symptoms")}, "one or more"),
    ],
    ids=range(4),
)
def test_paths_that_the_panel_does_not_have_are_refused(
    large: ad.SessionPanel, options: dict, said: str
) -> None:
    with pytest.raises(SpecificationError, match=said):
        DSEM(**options, **FEW).fit(large, seed=1)


def test_a_direction_that_the_data_do_not_settle_is_named(large: ad.SessionPanel) -> None:
    frame = large.frame
    panel = ad.SessionPanel.from_frame(
        frame, client="client", session="session",
        variables={"alliance": "alliance", "symptoms": "symptoms"},
        timing={"alliance": "after", "symptoms": "after"},
    )  # fmt: skip
    spec = DSEM(same=("symptoms<-alliance",), **FEW)
    notes = spec.fit(panel, seed=1, strict=False).diagnostics["notes"]
    assert any("same[symptoms,alliance]: nothing says" in note for note in notes)
    notes = DSEM(same=("alliance<-symptoms",), **FEW).fit(large, seed=1, strict=False)
    assert not any("nothing says" in note for note in notes.diagnostics["notes"])


def test_effects_are_random_in_one_order() -> None:
    spec = DSEM(random=["same", "phi", "intercept"], same=["a<-b"])
    assert spec.random == ("intercept", "phi", "same")
    assert repr(spec) == "DSEM(random=('intercept', 'phi', 'same'), same=('a<-b',))"


# -- published figures ----------------------------------------------------------------------------


def error_of_median(sd: float, ess: float) -> float:
    """Monte Carlo error of the median of normal draws."""
    return float(np.sqrt(np.pi / 2.0 / ess) * sd)


@pytest.mark.reference
def test_published_medians_of_a_primer_are_matched() -> None:
    """McNeish & Hamaker (2020): urge on its past and on same-day depression, 100 people, 50 days.

    Depression is centered at its latent mean and does not carry over. The variance of these means
    is next to zero, where its median is that of the prior: published .01, .0006 by a sampler with
    a uniform prior on the SD, as here. It is compared with that one.
    """
    folder = published_dir() / "D1_mcneish_hamaker2020"
    if not folder.is_dir():
        pytest.skip("no D1_mcneish_hamaker2020 among the reference data")
    panel = ad.read_sessions(
        folder / "two_level_data.csv", client="person", session="time",
        variables={"urge": "urge", "dep": "dep"}, process="dep", outcome="urge",
        timing={"dep": "before", "urge": "after"},
    )  # fmt: skip
    spec = DSEM(
        random=("intercept", "phi", "same"), same=("urge<-dep",), lagged=("urge<-urge",),
        scale="raw", priors=WIDE, draws=1500, tune=300,
    )  # fmt: skip
    fit = spec.fit(panel, seed=1)
    d = fit.draws
    ours = {
        "mean_urge": d["mean[urge]"], "mean_dep": d["mean[dep]"], "phi": d["phi[urge,urge]"],
        "beta": d["same[urge,dep]"], "resvar_urge": d["innovation_cov[urge,urge]"],
        "resvar_dep": d["innovation_cov[dep,dep]"], "var_phi": d["phi_sd[urge,urge]"] ** 2,
        "var_mean_urge": d["between_cov[urge,urge]"], "var_beta": d["same_sd[urge,dep]"] ** 2,
        "var_mean_dep": d["between_cov[dep,dep]"],
    }  # fmt: skip
    answers = json.loads((folder / "peer_results.json").read_text(encoding="utf-8"))
    for name, (median, *_) in answers["published_MH2020_median_lo_hi"].items():
        if name == "var_mean_dep":
            continue
        sd = float(ours[name].std())
        error = np.hypot(error_of_median(sd, TOLD_ESS), error_of_median(sd, len(d) / 2))
        assert abs(ours[name].median() - median) < HALF_DIGIT + MONTE_CARLO * error, name
    for peer in answers["estimates"]:
        draws = ours[peer["param"]]
        error = np.hypot(
            error_of_median(peer["sd"], peer["ess"]), error_of_median(draws.std(), len(d) / 2)
        )
        assert abs(draws.median() - peer["median"]) < MONTE_CARLO * error, peer["param"]


AUTHORS = {  # posterior mean, SD, effective draws: their table; re-run with the same priors
    "alpha": (-0.42, 0.09, 370, -0.409), "beta": (0.45, 0.06, 720, 0.444),
    "residual": (0.28, 0.02, 2900, 0.279), "level": (0.33, 0.08, 1600, 0.327),
    "slope": (0.11, 0.03, 12000, 0.108),
}  # fmt: skip


@pytest.mark.reference
def test_published_figures_of_one_anxiety_series_are_matched() -> None:
    """Faleh et al. (2025): y_it - a_i = b_i (y_i,t-1 - a_i) + e, y_i1 ~ N(a_i, Var e), JAGS.

    Their scores are in SDs of the first session. Their priors are not half-normal: precision of e
    gamma(1, 1), precision matrix of (a_i, b_i) Wishart(I, 2), which alone moves the variance of b
    from .06 to .11. Draws under wide priors are weighted by the ratio of the densities of
    (SD, SD, correlation, residual SD).
    """
    path = published_dir() / "A1_implement_wai_bai" / "sessions_long.csv"
    if not path.is_file():
        pytest.skip("no A1_implement_wai_bai among the reference data")
    frame = pd.read_csv(path)
    frame["y"] = frame["bai1"] / frame.loc[frame["session"] == 1, "bai1"].std()
    panel = ad.SessionPanel.from_frame(
        frame, client="client", session="session", variables={"alliance": "wai", "y": "y"},
        process="alliance", outcome="y", timing={"alliance": "after", "y": "before"},
    )  # fmt: skip
    spec = DSEM(
        random=("intercept", "phi"), random_correlation="lkj", variables=("y",),
        initial="innovation", scale="raw", draws=2500, tune=500,
        priors={"mean": ("normal", 0, 10**0.5), "phi": ("normal", 0, 1),
                "phi_sd": ("half-normal", 1), "sd": ("half-normal", 3)},
    )  # fmt: skip
    fit = spec.fit(panel, seed=1)
    d = fit.draws
    task = task_of(spec, fit.data)
    level, slope = np.sqrt(d["between_cov[y,y]"]), d["phi_sd[y,y]"]
    rho, residual = d["random_corr[y,y<-y]"], np.sqrt(d["innovation_cov[y,y]"])
    det = (level * slope) ** 2 * (1.0 - rho**2)
    theirs = -2.5 * np.log(det) - 0.5 * (level**2 + slope**2) / det  # Wishart, of the covariance
    theirs += 2.0 * np.log(level * slope)  # ... to SDs and correlation
    theirs += -3.0 * np.log(residual) - residual**-2 - d["mean[y]"] ** 2 / 20.0
    log_ratio = theirs - log_prior(task.shape, task.priors, d.to_numpy())
    w = np.exp(log_ratio - log_ratio.max()) * (d["phi[y,y]"].abs() < 1.0)
    w /= w.sum()
    ess = 1.0 / (w**2).sum()
    assert ess > 1000.0
    ours = {
        "alpha": d["mean[y]"], "beta": d["phi[y,y]"], "residual": residual**2,
        "level": level**2, "slope": slope**2,
    }  # fmt: skip
    for name, (mean, sd, effective, again) in AUTHORS.items():
        found = float((w * ours[name]).sum())
        spread = float(np.sqrt((w * (ours[name] - found) ** 2).sum()))
        error = MONTE_CARLO * spread * np.hypot(ess**-0.5, effective**-0.5)
        assert abs(found - mean) < HALF_DIGIT + error, name
        assert abs(found - again) < 0.1 * HALF_DIGIT + error, name
        assert abs(spread - sd) < HALF_DIGIT + error, name
