"""Bayes: priors without a missing Jacobian, agreement with maximum likelihood, verdicts."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from scipy import stats

import alliancedyn as ad
from alliancedyn.engine import names
from alliancedyn.errors import SpecificationError
from alliancedyn.models.bayes import Bayes, natural
from alliancedyn.models.bayes_priors import DEFAULTS, check_priors
from alliancedyn.models.marginal_op import MarginalLogLik

ROUNDING = 1e-6  # of log densities, relative; volume elements are differences
ML_ERRORS = 0.2  # standard errors that priors this wide may move an estimate in a large panel
ML_SD = 0.10  # relative, of posterior SDs: about four Monte Carlo errors of 2,000 draws
TRUTH = ad.Dynamics(
    phi=[[0.36, -0.05], [-0.12, 0.45]],
    innovation_cov=[[1.0, -0.25], [-0.25, 1.0]],
    between_cov=[[0.8, -0.3], [-0.3, 1.0]],
    mean=(3.0, 10.0),
)
SMALL = ad.simulate(TRUTH, clients=40, sessions=5, missing=0.1, seed=7)
QUICK = {"sampler": "laplace", "draws": 500, "chains": 4}
BRIEF = {"sampler": "laplace", "draws": 100, "chains": 4}


def evaluator(model):
    """Compile log density without Jacobians, and theta."""
    with warnings.catch_warnings(), model:
        warnings.simplefilter("ignore")
        outs = [model.logp(jacobian=False), *model.replace_rvs_by_values([model["theta"]])]
        run = model.compile_fn(outs, inputs=model.value_vars, point_fn=False, mode="FAST_COMPILE")
        start = model.initial_point()
    return run, [start[one.name] for one in model.value_vars]


def root_volume(S) -> float:
    """Log volume element from the root of a covariance to SDs and correlations."""
    L = np.linalg.cholesky(S)
    rows, columns = np.tril_indices(len(L))
    low = np.tril_indices(len(L), -1)

    def read(packed):
        M = np.zeros_like(L)
        M[rows, columns] = packed
        cov = M @ M.T
        sd = np.sqrt(np.diag(cov))
        return np.concatenate([sd, (cov / sd / sd[:, None])[low]])

    at = L[rows, columns]
    step = 1e-6 * np.sqrt(np.diag(S)).max()
    J = [(read(at + step * e) - read(at - step * e)) / (2 * step) for e in np.eye(len(at))]
    return float(np.linalg.slogdet(np.array(J))[1])


@pytest.mark.parametrize(
    "spec", [ad.RICLPM(), ad.STARTS(), ad.LCMSR()], ids=["ri-clpm", "starts", "lcm-sr"]
)
def test_density_is_likelihood_times_priors(spec: ad.RICLPM) -> None:
    model, likelihood, prior = Bayes(spec)._build(SMALL, spec._select(SMALL).data)
    run, start = evaluator(model)
    rng, gaps, scale = np.random.default_rng(1), [], []
    for _ in range(4):
        ours, theta = run(*(one + 0.1 * rng.standard_normal(one.shape) for one in start))
        params = likelihood.to_params(theta)
        theirs = spec.loglik(SMALL, {name: params[name] for name in likelihood.names})
        values = prior.quantities(np.array([list(params.values())]))[0]
        for term, value in zip(prior.terms(), values, strict=False):
            if term.kind == "normal":
                theirs += stats.norm.logpdf(value, term.location, term.scale)
            elif term.kind == "half-normal":
                theirs += stats.halfnorm.logpdf(value, scale=term.scale)
        for block in likelihood.layout.blocks:
            if block.kind == "covariance":
                (S,) = likelihood.layout.matrices(theta)[block.key]
                sd = np.sqrt(np.diag(S))
                theirs += np.linalg.slogdet(S / sd / sd[:, None])[1]  # LKJ(2)
                theirs += root_volume(S)
        gaps.append(float(ours) - theirs)
        scale.append(abs(theirs))
    np.testing.assert_allclose(gaps, gaps[0], atol=ROUNDING * max(scale))


def test_large_panels_give_maximum_likelihood() -> None:
    panel = ad.simulate(TRUTH, clients=2000, sessions=4, missing=0.1, seed=7)
    best = ad.RICLPM().fit(panel)
    fit = Bayes(ad.RICLPM(), **QUICK).fit(panel, seed=1)
    assert list(fit.params.index) == list(best.params.index)
    assert (np.abs(fit.params - best.params) < ML_ERRORS * best.se).all()
    assert (np.abs(fit.se / best.se - 1.0) < ML_SD).all()
    assert fit.converged
    assert fit.sampling.statistics["pareto_k"].item() < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["nutpie", "pymc"])
def test_samplers_agree_with_the_quick_look(sampler: str) -> None:
    spec = ad.RICLPM(means="equal")
    panel = ad.simulate(TRUTH, clients=200, sessions=5, seed=2)
    look = Bayes(spec, **QUICK).fit(panel, seed=1)
    fit = Bayes(spec, sampler=sampler, draws=400, tune=400, chains=2).fit(
        panel, seed=1, strict=False
    )
    assert fit.diagnostics["divergences"] == 0
    error = fit.se / np.sqrt(fit.diagnostics["mixing"]["ess_bulk"])
    assert (np.abs(fit.params - look.params) < 4.5 * np.hypot(error, look.se / 30.0)).all()


def test_prior_takes_over_where_it_is_narrow() -> None:
    wide = Bayes(ad.RICLPM(), **BRIEF).fit(SMALL, seed=1, strict=False)
    narrow = Bayes(ad.RICLPM(), priors={"phi": ("normal", 0, 0.01)}, **BRIEF).fit(
        SMALL, seed=1, strict=False
    )
    lags = [name for name in wide.params.index if name.startswith("phi")]
    assert (np.abs(narrow.params[lags]) < 0.03).all()
    assert (narrow.se[lags] < 0.5 * wide.se[lags]).all()


def test_units_carry_over() -> None:
    frame = SMALL.frame.copy()
    frame["alliance"] *= 10.0
    scaled = ad.SessionPanel.from_frame(
        frame, client="client", session="session",
        variables={"alliance": "alliance", "symptoms": "symptoms"},
    )  # fmt: skip
    one, ten = (
        Bayes(ad.RICLPM(), **BRIEF).fit(panel, seed=1, strict=False) for panel in (SMALL, scaled)
    )
    ratio = ten.params["phi[symptoms,alliance]"] / one.params["phi[symptoms,alliance]"]
    assert ratio == pytest.approx(0.1, rel=1e-3)
    assert ten.params["innovation_cov[alliance,alliance]"] == pytest.approx(
        100.0 * one.params["innovation_cov[alliance,alliance]"], rel=1e-3
    )


def test_fit_reads_like_any_other() -> None:
    fit = Bayes(ad.STARTS(), **BRIEF).fit(SMALL, seed=3, strict=False)
    assert len(fit.draws) == 400
    assert "initial_cov[alliance,symptoms]" in fit.draws  # implied by the stationary process
    table = fit.table()
    assert {"estimate", "se", "lower", "upper", "prob_positive"} <= set(table.columns)
    assert any(line.startswith("phi[") for line in fit.diagnostics["priors"])
    effect = fit.effect("alliance", "symptoms", standardized="within")
    assert effect.lower < effect.value < effect.upper
    assert len(fit.states()) == 40 * 5 * 2 * 2
    again = Bayes(ad.STARTS(), **BRIEF).fit(SMALL, seed=3, strict=False)
    np.testing.assert_array_equal(fit.draws.to_numpy(), again.draws.to_numpy())


def test_items_belong_to_their_series() -> None:
    rng = np.random.default_rng(1)
    frame = SMALL.frame.copy()
    for item in ("bond", "task"):
        frame[item] = frame["alliance"] + 0.4 * rng.standard_normal(len(frame))
    panel = ad.SessionPanel.from_frame(
        frame, client="client", session="session",
        variables={name: name for name in ("bond", "task", "symptoms")},
    )  # fmt: skip
    items = {"alliance": ["bond", "task"]}
    spec = ad.RICLPM(variables=("alliance", "symptoms"), indicators=items, measurement_var="equal")
    fit = Bayes(spec, **BRIEF).fit(panel, seed=1, strict=False)
    assert fit.variables == ("alliance", "symptoms")
    assert {fit.process, fit.outcome} == {"alliance", "symptoms"}
    assert fit.params["loading[task]"] == pytest.approx(1.0, abs=0.15)


def test_draws_and_parameters_have_the_same_names() -> None:
    likelihood = MarginalLogLik(ad.STARTS(), SMALL).likelihood
    theta = np.tile(likelihood.start, (2, 3, 1))
    found, values = natural(likelihood, theta)
    assert values.shape == (2, 3, len(found))
    assert dict(zip(found, values[1, 2], strict=True)) == likelihood.to_params(likelihood.start)
    assert all(names.parse(name) for name in found)


def test_specification_says_what_it_is() -> None:
    spec = Bayes(ad.RICLPM(lags="free"), priors={"phi": ("normal", 0, 0.3)}, draws=200)
    assert repr(spec) == (
        "Bayes(RICLPM(lags='free'), priors={'phi': ('normal', 0, 0.3)}, draws=200)"
    )
    assert eval(repr(spec), {"Bayes": Bayes, "RICLPM": ad.RICLPM}) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert spec != Bayes(ad.RICLPM())
    assert spec.name == "Bayesian RI-CLPM"
    assert len(spec.assumptions) == len(ad.RICLPM.assumptions) + 1
    assert spec.references == ad.RICLPM.references


def test_unreliable_look_says_so() -> None:
    from alliancedyn.models.bayes import _notes
    from alliancedyn.models.nuts import Drawn

    for k, said in ((0.4, 0), (0.9, 1)):
        drawn = Drawn({}, 0.0, {"pareto_k": np.array([[k]])})
        assert len(_notes(drawn)) == said
    assert "0.90" in _notes(drawn)[0]


REFUSED = [
    ({"spec": "RICLPM"}, "spec is .RICLPM.; give a model"),
    ({"sampler": "stan"}, "choose 'nutpie'"),
    ({"draws": 0}, "draws is 0"),
    ({"priors": {"beta": ("normal", 0, 1)}}, "no 'beta'"),
    ({"priors": {"phi": ("cauchy", 0, 1)}}, "write it as"),
    ({"priors": {"phi": ("normal", 0, -1)}}, "scale above 0"),
    ({"priors": {"sd": ("half-normal", 0, 1)}}, "write it as"),
]


@pytest.mark.parametrize(("options", "fragment"), REFUSED)
def test_contradictions_are_refused(options: dict, fragment: str) -> None:
    with pytest.raises(SpecificationError, match=fragment):
        Bayes(**{"spec": ad.RICLPM(), **options})


def test_every_default_can_be_written() -> None:
    written = {
        key: (kind, *([location] if kind == "normal" else []), scale)
        for key, (kind, location, scale) in DEFAULTS.items()
    }
    check_priors(written)
