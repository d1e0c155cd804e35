"""Scales with ends and ordered categories in DSEM: density, recovery, what is said and refused."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import alliancedyn as ad
from alliancedyn.engine.dsem import DsemData, DsemShape, Priors
from alliancedyn.errors import SpecificationError
from alliancedyn.models.dsem_open import build_model
from alliancedyn.models.dsem_scales import limits_of, scale_flags, scale_sentences
from alliancedyn.models.dsem_task import raw_terms, task_of
from alliancedyn.results.display import verdicts

LATTICE = 2e-5  # of normal probabilities of three and four dimensions by integration, absolute log
VARIABLES = ("alliance", "symptoms")
TRUTH = ad.Dynamics(
    phi=[[0.4, -0.1], [-0.25, 0.45]], innovation_cov=[[1, -0.1], [-0.1, 1]],
    between_cov=[[1, -0.3], [-0.3, 1]], mean=(5.0, 10.0),
)  # fmt: skip
STEPS = {"alliance": ad.Items(("alliance",), lowest=3, highest=7, step=1.0)}


# -- the density of scores that stand for others, against rectangles of normals -------------------


def one_client(Y) -> DsemData:
    nothing = np.zeros((Y.shape[0], 0)), np.zeros((1, 0))
    return DsemData(Y[None], *nothing, None, np.zeros(2))


def logp_of(model):
    """Log density as a function of values by name of the variable; others at the start."""
    with warnings.catch_warnings(), model:
        warnings.simplefilter("ignore")
        run = model.compile_fn(model.logp(jacobian=False), mode="FAST_COMPILE")
        start = model.initial_point()
    return lambda point: float(run({name: point.get(name, start[name]) for name in start})), start


def integrated(logp, point: dict, latent: list[tuple]) -> float:
    """Integrate over latent scores: the density is that of a normal, on a rectangle.

    ``latent`` holds (name, size, to value, lower, upper): the name of a value variable, how many
    elements, a function from scores (or shares of a category) to that value, and the rectangle.
    Differences of a quadratic give its coefficients exactly.
    """
    sizes = [size for _, size, *_ in latent]
    lower = np.concatenate([np.full(s, one[3]) for s, one in zip(sizes, latent, strict=True)])
    upper = np.concatenate([np.full(s, one[4]) for s, one in zip(sizes, latent, strict=True)])
    base = np.where(np.isfinite(lower), lower + 0.1, 0.0)
    step, n = 0.1, len(base)

    def at(z) -> float:
        parts = np.split(z, np.cumsum(sizes)[:-1])
        values = {
            name: to(part).reshape(shape_of_value(point, name, part))
            for (name, _, to, *_), part in zip(latent, parts, strict=True)
        }
        return logp({**point, **values})

    eye = step * np.eye(n)
    f0, f1 = at(base), [at(base + one) for one in eye]
    H = np.empty((n, n))
    for i in range(n):
        for j in range(i, n):
            H[i, j] = H[j, i] = (at(base + eye[i] + eye[j]) - f1[i] - f1[j] + f0) / step**2
    g = (np.array(f1) - f0) / step - 0.5 * step * np.diag(H)
    S = np.linalg.inv(-H)
    middle = base + S @ g
    bounded = np.isfinite(lower) | np.isfinite(upper)
    peak = f0 + 0.5 * g @ S @ g
    volume = 0.5 * n * np.log(2 * np.pi) + 0.5 * np.linalg.slogdet(S)[1]
    keep = np.ix_(bounded, bounded)
    return peak + volume + log_box(middle[bounded], S[keep], lower[bounded], upper[bounded])


def shape_of_value(point: dict, name: str, part):
    return (1, 2) if name == "client_level" else part.shape


def log_box(mean, cov, lower, upper) -> float:
    if not len(mean):
        return 0.0
    found = stats.multivariate_normal(mean, cov, maxpts=400_000, abseps=1e-9, releps=1e-7, seed=1)
    return float(np.log(found.cdf(upper, lower_limit=lower)))


def dense_box(at: dict, lower, upper) -> float:
    """Log probability, by the dense normal, of one client's scores (T, 2) between two arrays.

    Equal ends: the score is seen, and counts with its density. -inf to inf: it is missing.
    """
    T = len(lower)
    V, P = np.zeros((T, 2, T, 2)), at["initial_cov"]
    for t in range(T):
        forward = P
        for u in range(t, T):
            V[u, :, t], V[t, :, u] = forward, forward.T
            forward = at["phi"] @ forward
        P = at["phi"] @ P @ at["phi"].T + at["innovation_cov"]
    V = V.reshape(2 * T, 2 * T) + np.tile(at["between_cov"], (T, T))
    mean, low, high = np.tile(at["mean"], T), lower.ravel(), upper.ravel()
    seen = low == high
    box = ~seen & (np.isfinite(low) | np.isfinite(high))
    total = stats.multivariate_normal.logpdf(low[seen], mean[seen], V[np.ix_(seen, seen)])
    K = np.linalg.solve(V[np.ix_(seen, seen)], V[np.ix_(seen, box)]).T
    center = mean[box] + K @ (low[seen] - mean[seen])
    cov = V[np.ix_(box, box)] - K @ V[np.ix_(seen, box)]
    return float(total) + log_box(center, cov, low[box], high[box])


def quantities_of(model, names: list[str]):
    with warnings.catch_warnings(), model:
        warnings.simplefilter("ignore")
        outs = model.replace_rvs_by_values([model[name] for name in names])
        run = model.compile_fn(
            outs, inputs=model.value_vars, point_fn=False, mode="FAST_COMPILE",
            on_unused_input="ignore",
        )  # fmt: skip
    order = [one.name for one in model.value_vars]
    return lambda point: dict(zip(names, run(*(point[n] for n in order)), strict=True))


def compare(censored, plain, latent_of, box_of) -> None:
    """Models of one client, with and without ends, differ as dense normals do, at any point.

    The priors of both are the same and drop out, as do constants.
    """
    logp, start = logp_of(censored)
    other, bare = logp_of(plain)
    families = ["mean", "phi", "between_cov", "innovation_cov", "initial_cov"]
    more = [name for name in censored.named_vars if name == "threshold_symptoms"]
    read = quantities_of(censored, families + more)
    rng, gaps = np.random.default_rng(3), []
    for _ in range(3):
        point = {name: x + 0.3 * rng.standard_normal(x.shape) for name, x in start.items()}
        at = read(point)
        ours = integrated(logp, point, latent_of(at))
        ours -= other({name: point[name] for name in bare})
        dense = dense_box(at, *box_of(at)) - dense_box(at, *box_of(None))
        gaps.append((ours - dense, dense))
    apart, moves = np.array(gaps).T
    assert np.ptp(moves) > 0.1  # there is something to compare
    np.testing.assert_allclose(apart, apart[0], atol=LATTICE)


def test_censored_scores_have_the_probability_of_all_beyond() -> None:
    Y = np.array([[0.4, 0.3], [1.2, -0.2], [np.nan, 0.9], [-0.5, 0.1], [1.2, -1.0]])
    shape, limits = DsemShape(VARIABLES, (1, 2, 3, 4, 5)), np.array([[-0.5, 1.2], [np.nan] * 2])
    censored = build_model(one_client(Y), shape, Priors(), limits=limits)
    plain = build_model(one_client(Y), shape, Priors())

    def latent_of(_at: dict) -> list[tuple]:
        return [
            ("client_level", 2, np.asarray, -np.inf, np.inf),
            ("missing_score", 1, np.asarray, -np.inf, np.inf),
            ("below_floor_log__", 1, np.log, 0.0, np.inf),
            ("above_ceiling_log__", 2, np.log, 0.0, np.inf),
        ]

    def box_of(at: dict | None):
        low, high = Y.copy(), Y.copy()
        low[np.isnan(Y)], high[np.isnan(Y)] = -np.inf, np.inf
        if at is not None:
            low[:, 0] = np.where(Y[:, 0] == -0.5, -np.inf, low[:, 0])
            high[:, 0] = np.where(Y[:, 0] == 1.2, np.inf, high[:, 0])
        return low, high

    compare(censored, plain, latent_of, box_of)


def test_ordered_scores_have_the_probability_of_their_category() -> None:
    Y = np.array([[0.4, 0.0], [1.2, 1.0], [-0.3, 3.0], [0.6, 2.0]])
    shape = DsemShape(VARIABLES, (1, 2, 3, 4))
    ordered = build_model(one_client(Y), shape, Priors(), ordinal=(0, 3))
    plain = build_model(one_client(Y), shape, Priors())

    def latent_of(_at: dict) -> list[tuple]:
        return [
            ("client_level", 2, np.asarray, -np.inf, np.inf),
            ("below_first_symptoms_log__", 1, np.log, 0.0, np.inf),
            ("above_last_symptoms_log__", 1, np.log, 0.0, np.inf),
            ("within_category_symptoms_interval__", 2, lambda s: np.log(s / (1 - s)), 0.0, 1.0),
        ]

    def box_of(at: dict | None):
        low, high = Y.copy(), Y.copy()
        if at is not None:
            cuts = np.concatenate([[-np.inf], at["threshold_symptoms"], [np.inf]])
            codes = Y[:, 1].astype(int)
            low[:, 1], high[:, 1] = cuts[codes], cuts[codes + 1]
        return low, high

    compare(ordered, plain, latent_of, box_of)


# -- recovery -------------------------------------------------------------------------------------


def covers(fit: ad.Fit, name: str, truth: float) -> bool:
    row = fit.table().loc[name]
    return bool(row["lower"] < truth < row["upper"])


def test_ignored_ends_tilt_the_directions() -> None:
    """Half of the scores at the ceiling: what moves alliance looks weak, what it moves strong."""
    many = ad.simulate(TRUTH, clients=2000, sessions=8, ceiling={"alliance": 5.0}, seed=4)
    fit = ad.RICLPM(means="equal").fit(many)
    assert fit.params["phi[alliance,symptoms]"] > -0.1 + 3 * fit.se["phi[alliance,symptoms]"]
    assert fit.params["phi[symptoms,alliance]"] < -0.25 - 3 * fit.se["phi[symptoms,alliance]"]
    assert fit.params["between_cov[alliance,alliance]"] < 0.4
    many = ad.simulate(TRUTH, clients=2000, sessions=8, items=STEPS, seed=4)
    fit = ad.RICLPM(means="equal").fit(many)
    assert fit.params["phi[alliance,alliance]"] < 0.4 - 3 * fit.se["phi[alliance,alliance]"]


@pytest.mark.slow
def test_ends_and_cuts_are_undone() -> None:
    codes = {"symptoms": ad.Items(("symptoms",), lowest=8, highest=12, step=1.0)}
    panel = ad.simulate(
        TRUTH, clients=60, sessions=8, ceiling={"alliance": 5.0}, items=codes, seed=5
    )
    ignored = ad.RICLPM(means="equal").fit(panel)
    spec = ad.DSEM(
        bounds={"alliance": (None, 5)}, ordinal=("symptoms",), draws=250, tune=250, chains=2
    )
    fit = spec.fit(panel, seed=1, strict=False)
    assert fit.diagnostics["sampler"] == "nutpie"
    assert fit.diagnostics["divergences"] == 0
    known = {
        "mean[alliance]": 5.0, "between_cov[alliance,alliance]": 1.0,
        "innovation_cov[alliance,alliance]": 1.0,
    }  # fmt: skip
    for name, truth in known.items():
        assert abs(ignored.params[name] - truth) > 3 * ignored.se[name], name
    known |= {
        "phi[alliance,alliance]": 0.4, "phi[alliance,symptoms]": -0.1,
        "phi[symptoms,alliance]": -0.25, "phi[symptoms,symptoms]": 0.45, "mean[symptoms]": 10.0,
        "between_cov[symptoms,symptoms]": 1.0, "innovation_cov[symptoms,symptoms]": 1.0,
        "threshold[symptoms,2]": 9.5, "threshold[symptoms,3]": 10.5,
    }  # fmt: skip
    for name, truth in known.items():
        assert covers(fit, name, truth), name
    assert str(fit).index("SCALE: ") < str(fit).index("\nphi[symptoms,alliance]")
    assert fit.standardized().index[0] == "phi[alliance,alliance]"  # of the score without ends
    for ask in (fit.predict, fit.states, lambda: ad.loo(fit)):
        with pytest.raises(SpecificationError, match="stand for others"):
            ask()
    with pytest.raises(SpecificationError, match="bounds or categories"):
        ad.posterior_check(fit)


# -- what is said ---------------------------------------------------------------------------------

SMALL = ad.simulate(TRUTH, clients=30, sessions=5, items=STEPS, ceiling={"symptoms": 11.0}, seed=2)


def observed(spec: ad.DSEM, panel: ad.SessionPanel = SMALL):
    return spec._select(panel).data


def test_a_fit_says_on_which_scale_it_is() -> None:
    spec = ad.DSEM(bounds={"symptoms": (0, 11)}, ordinal=("alliance",))
    said = scale_sentences(spec, observed(spec))
    assert len(said) == 2
    assert said[0].startswith("alliance is read as 5 ordered categories")
    assert "cuts at 3.5 and 6.5" in said[0]
    share = np.mean(observed(spec).Y[..., 1] == 11.0)
    assert said[1].startswith(f"{share:.0%} of the scores of symptoms are 11 and stand for 11 or")
    assert any("score without ends" in one for one in spec.assumptions)
    assert not any("score without ends" in one for one in ad.DSEM().assumptions)
    assert repr(spec) == "DSEM(bounds={'symptoms': (0, 11)}, ordinal=('alliance',))"
    assert spec.engine == "nutpie"
    assert verdicts(True, {"scale": said}) == [f"SCALE: {one}" for one in said]


def test_bounds_that_no_score_reaches_do_nothing_and_say_so() -> None:
    spec = ad.DSEM(bounds={"symptoms": (-50, 50)})
    assert limits_of(spec, observed(spec)) is None  # the same model as without
    assert task_of(spec, observed(spec)).limits is None
    (said,) = scale_flags(spec, observed(spec))
    assert said == "No score of symptoms is at -50 or 50, so its bounds do nothing."
    low = ad.simulate(TRUTH, clients=30, sessions=5, ceiling={"symptoms": 9.0}, seed=2)
    spec = ad.DSEM(bounds={"symptoms": (None, 9)})
    (said,) = scale_flags(spec, observed(spec, low))
    assert "normal tail" in said


def test_rare_categories_are_named() -> None:
    spec = ad.DSEM(ordinal=("alliance",))
    frame = SMALL.frame
    frame.loc[frame.index[:3], "alliance"] = 8.0
    (said,) = scale_flags(spec, observed(spec, panel_of(frame)))
    assert said.startswith("Fewer than 10 scores of alliance are 8:")


def test_limits_and_cuts_are_carried_to_the_scale_of_the_priors_and_back() -> None:
    spec = ad.DSEM(bounds={"symptoms": (None, 11)}, ordinal=("alliance",))
    task = task_of(spec, observed(spec))
    assert task.cuts == (4, 0)
    at_end = task.data.Y[..., 1] == task.limits[1, 1]  # equal to the last bit
    np.testing.assert_array_equal(at_end, observed(spec).Y[..., 1] == 11.0)
    labels = [*task.shape.parameter_names(), "threshold[alliance,2]", "threshold[alliance,3]"]
    shift, factor = task.units.of_parameters(task.shape, labels)
    assert shift[-1] == task.units.center[0]
    assert factor[-1] == task.units.unit[0]
    second, third = raw_terms(task, labels)[-2:]
    x = np.linspace(3.6, 6.4, 7)
    for term, (a, b) in ((second, (1, 2)), (third, (2, 1))):  # order statistics of two uniforms
        np.testing.assert_allclose(term.density(x), stats.beta(a, b, 3.5, 3.0).pdf(x), rtol=1e-9)


# -- what is refused ------------------------------------------------------------------------------


def panel_of(frame: pd.DataFrame) -> ad.SessionPanel:
    return ad.SessionPanel.from_frame(
        frame, client="client", session="session",
        variables={"alliance": "alliance", "symptoms": "symptoms"},
        timing={"alliance": "after", "symptoms": "before"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bounds": {"alliance": 7}}, "lowest and the highest"),
        ({"bounds": {"alliance": (7, 1)}}, "lowest and the highest"),
        ({"bounds": {"alliance": (None, None)}}, "lowest and the highest"),
        ({"bounds": {"alliance": (1, float("inf"))}}, "None, 7"),
        ({"bounds": {"alliance": (1, 7)}, "ordinal": ("alliance",)}, "cannot have bounds and be"),
        ({"ordinal": "alliance"}, "as a tuple"),
        ({"ordinal": ("alliance",), "sampler": "gibbs"}, "nutpie"),
        ({"bounds": {"alliance": (1, 7)}, "sampler": "laplace"}, "quick look"),
    ],
)
def test_scales_that_are_none_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(SpecificationError, match=said):
        ad.DSEM(**options)


def changed(codes) -> pd.DataFrame:
    frame = SMALL.frame
    frame["alliance"] = codes(frame["alliance"])
    return frame


@pytest.mark.parametrize(
    ("options", "codes", "said"),
    [
        ({"bounds": {"mood": (1, 7)}}, lambda y: y, "bounds names 'mood'"),
        ({"ordinal": ("mood",)}, lambda y: y, "ordinal names 'mood'"),
        ({"bounds": {"alliance": (3, 6)}}, lambda y: y, "lie beyond its bounds \\(3, 6\\): 7"),
        ({"ordinal": ("alliance",)}, lambda y: y / 2, "whole numbers as codes; alliance has 1.5"),
        ({"ordinal": ("alliance",)}, lambda y: (y > 5.0) * 1.0, "2 categories; .* 3 or more"),
        ({"ordinal": ("alliance",)}, lambda y: y.where(y != 4.0, 5.0), "the category 4, so"),
        (
            {"ordinal": ("alliance",)},
            lambda y: pd.Series(np.arange(len(y)) % 14.0, y.index),
            "14 categories; .* up to 10",
        ),
    ],
    ids=["bounds", "ordinal", "beyond", "halves", "two", "gap", "many"],
)
def test_scores_that_a_scale_cannot_give_are_refused(options: dict, codes, said: str) -> None:
    with pytest.raises(SpecificationError, match=said):
        ad.DSEM(**options).fit(panel_of(changed(codes)), seed=1)
