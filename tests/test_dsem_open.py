"""The open model: its density against one written out client by client, its draws against Stan."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from reference_files import VARIABLES, panel_scores, simulated
from scipy import stats

from alliancedyn.engine import names
from alliancedyn.engine.dsem import DsemData, DsemShape, Priors
from alliancedyn.engine.dsem_prior import log_prior
from alliancedyn.errors import SpecificationError
from alliancedyn.models import dsem_terms
from alliancedyn.models.dsem_open import build_model, open_rounds
from alliancedyn.models.dsem_scores import last_seen

ROUNDING = 1e-7  # of sums of some hundred densities, relative; Jacobians are differences
STAN_ERRORS = 4.0  # Monte Carlo errors between two samplers of one posterior
STAN_SD = 0.05  # relative, of posterior SDs, beside their Monte Carlo error
GIBBS_ERRORS = 4.5  # over some twenty parameters and two samplers

PRIORS = Priors()
STEPS = ("@2", "@3", "@4", "@5")
FULL = {
    "random_phi": True, "random_innovation": True, "correlated": True, "therapist": True,
    "course": ("trend",), "predictors": ("x",),
}  # fmt: skip


def small_data(seed: int = 3, noise: float = 0.0) -> DsemData:
    rng = np.random.default_rng(seed)
    Y = rng.standard_normal((12, 5, 2)) + np.array([0.5, -0.3])
    Y[rng.random(Y.shape) < 0.2] = np.nan
    Y[:4, 3:] = np.nan  # who left
    Y[:, 1, 0] = 0.7
    x = rng.standard_normal((12, 1))
    course = np.arange(5.0)[:, None] / 4.0
    return DsemData(Y, course, x - x.mean(), np.arange(12) % 3, np.full(2, noise))


def bare(data: DsemData) -> DsemData:
    return DsemData(
        data.Y, np.zeros((data.Y.shape[1], 0)), np.zeros((len(data.Y), 0)), None,
        data.measurement_var,
    )  # fmt: skip


def with_course(data: DsemData, options: dict) -> DsemData:
    """Give the data the columns that a shape names."""
    course = options.get("course", ())
    data = data if "predictors" in options else bare(data)
    columns = np.eye(5)[:, 1:] if course == STEPS else np.arange(5.0)[:, None]
    return replace(data, course=columns if course else np.zeros((5, 0)))


def shape_of(data: DsemData, **options) -> DsemShape:
    return DsemShape(VARIABLES, tuple(range(1, data.Y.shape[1] + 1)), **options)


class At:
    """A model at random points: log density there, and its quantities by name."""

    def __init__(self, model) -> None:
        self.values = model.value_vars
        kept = {**model.named_vars}
        self.kept = [name for name in kept if kept[name] not in model.potentials]
        with warnings.catch_warnings(), model:
            warnings.simplefilter("ignore")
            outs = model.replace_rvs_by_values([model[name] for name in self.kept])
            logp = model.logp(jacobian=False)
            self.run = model.compile_fn(
                [logp, *outs], inputs=self.values, point_fn=False, mode="FAST_COMPILE"
            )
            start = model.initial_point()
        self.start = [start[one.name] for one in self.values]

    def __call__(self, rng: np.random.Generator):
        point = [one + 0.3 * rng.standard_normal(one.shape) for one in self.start]
        logp, *rest = self.run(*point)
        return float(logp), dict(zip(self.kept, rest, strict=True))


def root_volume(L) -> float:
    """Log volume element from a root L to SDs and correlations, by differences."""
    rows, columns = np.tril_indices(len(L))
    low = np.tril_indices(len(L), -1)

    def read(packed):
        M = np.zeros_like(L)
        M[rows, columns] = packed
        S = M @ M.T
        sd = np.sqrt(np.diag(S))
        return np.concatenate([sd, (S / sd / sd[:, None])[low]])

    at, step = L[rows, columns], 1e-6
    J = [(read(at + step * e) - read(at - step * e)) / (2 * step) for e in np.eye(len(at))]
    return float(np.linalg.slogdet(np.array(J))[1])


def parameters(at: dict, shape: DsemShape):
    """Population parameters in canonical order."""
    v, effects, found = VARIABLES, shape.effects, []
    for name in shape.parameter_names():
        family, of, session = names.parse(name)
        if family in ("trend", "session"):
            step = 0 if family == "trend" else shape.course.index(f"@{session}")
            found.append(at["trend"][step, v.index(of[0])])
        elif family == "predictor":
            found.append(at["slopes"][effects.index(of[0]), 0])
        else:
            where = {"random_corr": effects, "between_cov": shape.stable}.get(family, v)
            found.append(at[family][tuple(where.index(one) for one in of)])
    return np.array(found)


def population_prior(at: dict, shape: DsemShape) -> float:
    """Log prior of means, effects and roots of covariances."""
    total = float(log_prior(shape, PRIORS, parameters(at, shape)[None])[0])
    joint = shape.correlated and len(shape.effects) > 2
    families = ["innovation_cov", "initial_cov", *(["therapist_cov"] if shape.therapist else [])]
    roots = [np.linalg.cholesky(at[name]) for name in families]
    inner = dsem_terms.sampled_order(shape)  # in which covariances are taken apart
    if not joint:
        inner = inner[: len(shape.stable)]
    L = effect_root(at, shape) if joint else np.linalg.cholesky(at["between_cov"])
    roots.append(np.linalg.cholesky((L @ L.T)[np.ix_(inner, inner)]))
    total += sum(root_volume(L) for L in roots)
    if shape.therapist:
        total += stats.norm.logpdf(at["therapist_z"]).sum()
    return total


def effect_root(at: dict, shape: DsemShape):
    """Root of the covariance of all effects of clients."""
    sd = np.sqrt(np.diag(at["between_cov"]))
    more = [at["phi_sd"].ravel()] if shape.random_phi else []
    more += [at["log_innovation_sd"]] if shape.random_innovation else []
    sd = np.concatenate([sd, *more])
    if "random_corr" in at:
        return np.linalg.cholesky(at["random_corr"] * sd * sd[:, None])
    S = np.diag(sd**2)
    f = len(shape.stable)
    S[:f, :f] = at["between_cov"]
    return np.linalg.cholesky(S)


def centers(at: dict, data: DsemData, shape: DsemShape):
    """Expected effects of every client."""
    middle = [at["mean"]]
    if shape.random_trend:  # around the common line, or around 0 beside common steps
        middle += [at["trend"][0] if shape.course == ("trend",) else np.zeros(2)]
    middle += [at["phi"].ravel()] if shape.random_phi else []
    middle += [np.zeros(2)] if shape.random_innovation else []
    out = np.tile(np.concatenate(middle), (len(data.Y), 1))
    if shape.predictors:
        out += data.predictors @ at["slopes"].T
    if shape.therapist:
        own = at["therapist_z"] @ np.linalg.cholesky(at["therapist_cov"]).T
        out[:, :2] += own[data.therapist]
    return out


def course_of(at: dict, data: DsemData, shape: DsemShape):
    """Common course beside what clients' own slopes are around."""
    if not shape.course or (shape.random_trend and shape.course == ("trend",)):
        return np.zeros((data.Y.shape[1], 2))
    return data.course @ at["trend"]


def loads(data: DsemData, shape: DsemShape):
    """Loadings (2 T, f) of all scores of a client on intercepts and slopes."""
    T = data.Y.shape[1]
    level = np.tile(np.eye(2), (T, 1))
    if not shape.random_trend:
        return level
    return np.concatenate([level, np.repeat(np.arange(T), 2)[:, None] * level], axis=1)


def dense_marginal(at: dict, data: DsemData, shape: DsemShape) -> float:
    """Log-likelihood of all scores from one covariance matrix per client."""
    T = data.Y.shape[1]
    V = np.zeros((T, 2, T, 2))
    P = at["initial_cov"]
    noise = at.get("measurement_var", data.measurement_var)
    for t in range(T):
        forward = P
        for u in range(t, T):
            V[u, :, t] = forward
            V[t, :, u] = forward.T
            forward = at["phi"] @ forward
        P = at["phi"] @ P @ at["phi"].T + at["innovation_cov"]
    Z = loads(data, shape)
    V = V.reshape(2 * T, 2 * T) + Z @ at["between_cov"] @ Z.T + np.diag(np.tile(noise, T))
    means = (centers(at, data, shape) @ Z.T).reshape(-1, T, 2) + course_of(at, data, shape)
    total = 0.0
    for y, mean in zip(data.Y.reshape(-1, 2 * T), means.reshape(-1, 2 * T), strict=True):
        seen = ~np.isnan(y)
        total += stats.multivariate_normal.logpdf(y[seen], mean[seen], V[np.ix_(seen, seen)])
    return total


def dense_explicit(at: dict, data: DsemData, shape: DsemShape, x, degrees=None) -> float:
    """Log density of effects and true scores x, client by client, session by session."""
    b, middle = at["client_effects"], centers(at, data, shape)
    course, inner = course_of(at, data, shape), dsem_terms.sampled_order(shape)
    L = effect_root(at, shape)
    L = np.linalg.cholesky((L @ L.T)[np.ix_(inner, inner)])
    total = 0.0
    for i, last in enumerate(last_seen(data.Y)):
        # What is not centered has the density of z: all but levels, or slopes in long series.
        f, apart = len(shape.stable), (b[i] - middle[i])[inner]
        c = 2 if not shape.random_trend or len(course) >= dsem_terms.LONG else 0
        if c:
            total += stats.multivariate_normal.logpdf(
                apart[:c], np.zeros(c), L[:c, :c] @ L[:c, :c].T
            )
        total += stats.norm.logpdf(np.linalg.solve(L, apart)[c:]).sum()
        phi = b[i, f : f + 4].reshape(2, 2) if shape.random_phi else at["phi"]
        spread = np.exp(b[i, -2:] / 2.0) if shape.random_innovation else np.ones(2)
        psi = at["innovation_cov"] * spread * spread[:, None]
        w = x[i] - (loads(data, shape) @ b[i, :f]).reshape(-1, 2) - course
        total += stats.multivariate_normal.logpdf(w[0], np.zeros(2), at["initial_cov"])
        for t in range(1, last):
            e = w[t] - phi @ w[t - 1]
            if degrees is None:
                total += stats.multivariate_normal.logpdf(e, np.zeros(2), psi)
            else:
                total += stats.multivariate_t.logpdf(e, np.zeros(2), psi, degrees)
    return total


def agree(pairs: list[tuple[float, float]]) -> None:
    """Two log densities differ by the same constant everywhere."""
    gaps = np.array([ours - theirs for ours, theirs in pairs])
    scale = max(abs(theirs) for _, theirs in pairs)
    assert np.ptp([theirs for _, theirs in pairs]) > 1.0
    np.testing.assert_allclose(gaps, gaps[0], atol=ROUNDING * scale)


def true_scores_at(data: DsemData, at: dict):
    """Fill in what is not seen, in the order of the cells."""
    x = data.Y.copy()
    inside = np.arange(data.Y.shape[1])[:, None] < last_seen(data.Y)[:, None, None]
    cells = np.isnan(data.Y) & inside
    x[cells] = at["missing_score"]
    return x


@pytest.mark.parametrize("measurement", ["known", "free"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"course": ("trend",), "predictors": ("x",)},
        {"course": ("trend",), "predictors": ("x",), "random_trend": True},
    ],
    ids=["intercepts", "course", "slopes"],
)
def test_marginal_density_is_the_dense_one(options: dict, measurement: str) -> None:
    data = with_course(small_data(noise=0.2), options)
    shape = shape_of(data, therapist=bool(options), **options)
    at = At(build_model(data, shape, PRIORS, measurement=measurement))
    rng, pairs = np.random.default_rng(1), []
    for _ in range(4):
        ours, values = at(rng)
        dense = population_prior(values, shape) + dense_marginal(values, data, shape)
        if measurement == "free":
            sd = np.sqrt(values["measurement_var"])
            dense += stats.halfnorm.logpdf(sd, scale=PRIORS.sd).sum()
        pairs.append((ours, dense))
    agree(pairs)


@pytest.mark.parametrize(
    "options",
    [
        {"random_phi": True},
        {"random_innovation": True},
        FULL,
        FULL | {"random_trend": True},
        {"random_phi": True, "random_trend": True, "course": STEPS},
    ],
    ids=["lags", "innovations", "all, correlated", "with slopes", "slopes beside steps"],
)
def test_explicit_density_is_the_dense_one(options: dict) -> None:
    explicit_agrees(options)


def test_in_long_series_slopes_are_centered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dsem_terms, "LONG", 5)
    explicit_agrees({"random_phi": True, "random_trend": True, "course": ("trend",)})


def explicit_agrees(options: dict) -> None:
    data = with_course(small_data(), options)
    shape = shape_of(data, **options)
    at = At(build_model(data, shape, PRIORS))
    rng, pairs = np.random.default_rng(2), []
    for _ in range(4):
        ours, values = at(rng)
        x = true_scores_at(data, values)
        dense = population_prior(values, shape) + dense_explicit(values, data, shape, x)
        pairs.append((ours, dense))
    agree(pairs)


def test_student_density_is_the_dense_one() -> None:
    data = bare(small_data())
    shape = shape_of(data)
    at = At(build_model(data, shape, PRIORS, innovations="student"))
    rng, pairs = np.random.default_rng(2), []
    for _ in range(4):
        ours, values = at(rng)
        x, degrees = true_scores_at(data, values), values["degrees"]
        dense = population_prior(values, shape)
        dense += dense_explicit(values, data, shape, x, float(degrees))
        dense += stats.gamma.logpdf(degrees, PRIORS.degrees[0], scale=1 / PRIORS.degrees[1])
        pairs.append((ours, dense))
    agree(pairs)


def test_scores_with_errors_have_the_density_of_their_errors() -> None:
    data = bare(small_data(noise=0.3))
    shape = shape_of(data, random_phi=True)
    at = At(build_model(data, shape, PRIORS))
    rng, pairs = np.random.default_rng(4), []
    for _ in range(4):
        ours, values = at(rng)
        x = true_scores_at(data, values)
        seen = ~np.isnan(data.Y)
        x[seen] -= np.sqrt(0.3) * values["measurement_z"]
        dense = population_prior(values, shape) + dense_explicit(values, data, shape, x)
        dense += stats.norm.logpdf(data.Y[seen], x[seen], np.sqrt(0.3)).sum()
        pairs.append((ours, dense))
    agree(pairs)


def test_censored_and_ordinal_scores_lie_where_they_must() -> None:
    data = bare(small_data())
    data.Y[:, :, 0] = np.clip(data.Y[:, :, 0], -0.5, 1.2)  # a floor and a ceiling
    data.Y[:, :, 1] = np.digitize(data.Y[:, :, 1], [-1.0, 0.0, 1.0]) + np.where(
        np.isnan(data.Y[:, :, 1]), np.nan, 0.0
    )
    shape = shape_of(data)
    limits = np.array([[-0.5, 1.2], [np.nan, np.nan]])
    model = build_model(data, shape, PRIORS, limits=limits, ordinal=(0, 3))
    at = At(model)
    rng, pairs = np.random.default_rng(6), []
    y = data.Y
    for _ in range(4):
        ours, values = at(rng)
        cuts = values["threshold_symptoms"]
        np.testing.assert_allclose(cuts[[0, -1]], [0.5, 2.5])
        assert 0.5 < cuts[1] < 2.5
        x = true_scores_at(data, values)
        x[:, :, 0][y[:, :, 0] == -0.5] = -0.5 - values["below_floor"]
        x[:, :, 0][y[:, :, 0] == 1.2] = 1.2 + values["above_ceiling"]
        codes = y[:, :, 1]
        x[:, :, 1][codes == 0] = cuts[0] - values["below_first_symptoms"]
        x[:, :, 1][codes == 3] = cuts[2] + values["above_last_symptoms"]
        middle = (codes == 1) | (codes == 2)
        low = cuts[codes[middle].astype(int) - 1]
        width = cuts[codes[middle].astype(int)] - low
        x[:, :, 1][middle] = low + width * values["within_category_symptoms"]
        assert (x[:, :, 0][y[:, :, 0] == -0.5] < -0.5).all()
        dense = population_prior(values, shape) + dense_explicit(values, data, shape, x)
        pairs.append((ours, dense + np.log(width).sum()))  # shares of a category, not scores
    agree(pairs)


def case_seven(which: str) -> DsemData:
    Y, _, _ = panel_scores("dsem", which)
    nothing = np.zeros((Y.shape[1], 0)), np.zeros((len(Y), 0))
    return DsemData(Y, *nothing, None, np.zeros(2))


def effective(draws) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    return float(arviz.ess(draws))


def assert_stan(sampled, peer: dict) -> None:
    for j, name in enumerate(sampled.names):
        stan, draws = peer["params"][name], sampled.draws[..., j]
        error = np.hypot(stan["mcse_mean"], draws.std() / np.sqrt(effective(draws)))
        assert abs(draws.mean() - stan["mean"]) < STAN_ERRORS * error, name
        relative = np.sqrt(0.5 / effective((draws - draws.mean()) ** 2))  # Monte Carlo, of an SD
        assert abs(draws.std() / stan["sd"] - 1.0) < STAN_SD + 2 * relative, name


@pytest.mark.parametrize(
    "sampler",
    ["laplace", pytest.param("pymc", marks=pytest.mark.slow),
     pytest.param("nutpie", marks=pytest.mark.slow)],
)  # fmt: skip
def test_posterior_is_that_of_stan(sampler: str) -> None:
    data = case_seven("fixed")
    sampled = next(
        open_rounds(
            data, shape_of(data), PRIORS, sampler=sampler, totals=(500,), tune=400, chains=2, seed=3
        )
    )
    assert_stan(sampled, simulated("dsem", "fixed_phi"))
    assert sampled.clients.shape == (80, 2, 2)
    own = np.nanmean(data.Y, axis=1)
    assert np.corrcoef(own[:, 0], sampled.clients[:, 0, 0])[0, 1] > 0.9
    assert (sampled.clients[:, :, 1] > 0.0).all()
    if sampler != "laplace":
        assert sampled.statistics["diverging"].shape == (2, 500)
        assert sampled.statistics["energy"].shape == (2, 500)


@pytest.mark.slow
def test_random_lags_agree_with_the_gibbs_sampler() -> None:
    from alliancedyn.engine.gibbs import sample_gibbs

    data = case_seven("random")
    shape = shape_of(data, random_phi=True)
    sizes = {"totals": (500,), "tune": 500, "chains": 2}
    here = next(open_rounds(data, shape, PRIORS, seed=1, **sizes))
    there = sample_gibbs(data, shape, PRIORS, seed=2, draws=4000, tune=500, chains=2)
    assert here.names == there.names
    for j, name in enumerate(here.names):
        one, two = here.draws[..., j], there.draws[..., j]
        error = np.hypot(*(x.std() / np.sqrt(effective(x)) for x in (one, two)))
        assert abs(one.mean() - two.mean()) < GIBBS_ERRORS * error, name


def test_dims_name_what_they_hold() -> None:
    data = small_data()
    model = build_model(data, shape_of(data, **FULL), PRIORS)
    dims = model.named_vars_to_dims
    assert dims["phi"] == ("outcome", "source")
    assert dims["client_effects"] == ("client", "effect")
    assert dims["slopes"] == ("effect", "predictor")
    assert model.coords["effect"][2] == "alliance<-alliance"
    assert model.coords["session"] == (1, 2, 3, 4, 5)


REFUSED = [
    ({"innovations": "cauchy"}, {}, "innovations is 'cauchy'"),
    ({"measurement": "none"}, {}, "measurement is 'none'"),
    ({"limits": np.zeros((3, 2))}, {}, "limits has shape"),
    ({"ordinal": (2,)}, {}, "ordinal has 1 counts"),
    ({"ordinal": (0, 1)}, {}, "has 1 threshold"),
    ({"ordinal": (0, 2)}, {}, "different values"),
    ({}, {"therapist": True}, "A therapist level needs"),
]


@pytest.mark.parametrize(("options", "levels", "fragment"), REFUSED)
def test_contradictions_are_refused(options: dict, levels: dict, fragment: str) -> None:
    data = bare(small_data())
    with pytest.raises(SpecificationError, match=fragment):
        build_model(data, shape_of(data, **levels), PRIORS, **options)


def test_quick_look_and_samplers_are_checked() -> None:
    data = bare(small_data())
    with pytest.raises(SpecificationError, match="only intercepts are random"):
        next(open_rounds(data, shape_of(data, random_phi=True), PRIORS, sampler="laplace"))
    with pytest.raises(SpecificationError, match="choose 'nutpie'"):
        next(open_rounds(data, shape_of(data), PRIORS, sampler="stan"))
