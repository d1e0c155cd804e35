"""Models travel: plain pickle, and chains in processes of their own."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest

import alliancedyn as ad

SAME = 1e-12  # the same graph, compiled twice
TRUTH = ad.Dynamics.time_ordered(
    0.35, 0.45, forward=-0.12, backward=-0.10, between_cov=[[1, -0.3], [-0.3, 1]], mean=(5.0, 10.0)
)
PANEL = ad.simulate(TRUTH, clients=12, sessions=5, missing=0.1, seed=4)
SPECS = {
    "filtered": ad.DSEM(),
    "family": ad.Bayes(ad.RICLPM(means="equal")),
    "explicit": ad.DSEM(random=("intercept", "phi"), innovations="student"),
}


def density(model) -> float:
    """Log density at the initial point."""
    with warnings.catch_warnings(), model:
        warnings.simplefilter("ignore")
        run = model.compile_fn(model.logp(), mode="FAST_COMPILE")
        return float(run(model.initial_point()))


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_models_pickle_as_they_are(spec: ad.DSEM) -> None:
    model = spec.build(PANEL)
    again = pickle.loads(pickle.dumps(model))
    assert sorted(again.named_vars) == sorted(model.named_vars)
    assert again.coords == model.coords
    assert density(again) == pytest.approx(density(model), rel=SAME)
    assert "phi ~ Normal" in again.str_repr()
    assert again.str_repr() == model.str_repr()
    assert "mathcal" in again["phi"]._repr_latex_() or "operatorname" in again._repr_latex_()


@pytest.mark.parametrize("name", ["filtered", "family"])
def test_chains_run_in_processes_of_their_own(name: str) -> None:
    model = pickle.loads(pickle.dumps(SPECS[name].build(PANEL)))
    draws = []
    for cores in (2, 1):
        with warnings.catch_warnings(), model:
            warnings.simplefilter("ignore")
            import pymc as pm

            found = pm.sample(
                draws=15, tune=10, chains=2, cores=cores, random_seed=3, progressbar=False,
                quiet=True, compute_convergence_checks=False,
            )  # fmt: skip
        draws.append(np.asarray(found.posterior["phi"]))
    apart, together = draws
    assert apart.shape[:2] == (2, 15)
    assert np.isfinite(apart).all()
    assert not np.allclose(apart[0], apart[1])  # two chains, not one twice
    np.testing.assert_allclose(apart, together, rtol=1e-6)  # processes change nothing


@pytest.mark.parametrize("name", ["filtered", "family"])
def test_compiled_models_travel_to_bare_processes(name: str) -> None:
    """Where processes are not forked, PyMC sends the compiled density by cloudpickle."""
    import cloudpickle

    model = SPECS[name].build(PANEL)
    with warnings.catch_warnings(), model:
        warnings.simplefilter("ignore")
        one = model.logp_dlogp_function(ravel_inputs=True)
        one.set_extra_values({})
        two = cloudpickle.loads(cloudpickle.dumps(one))
        point = model.initial_point()
        at = np.concatenate([point[v.name].ravel() for v in model.value_vars])
        value, slope = one(at)
        again, slope_again = two(at)
    assert float(again) == pytest.approx(float(value), rel=SAME)
    np.testing.assert_allclose(slope_again, slope, rtol=SAME)
