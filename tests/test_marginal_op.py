"""Marginal likelihoods inside PyTensor: values against the kernel, derivatives by differences."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest

import alliancedyn as ad
from alliancedyn.engine.kalman import loglik_by_client
from alliancedyn.models.marginal_op import MATRICES, FilterLogLik, MarginalLogLik, filter_loglik

ROUNDING = 1e-9  # two orders of the same sums
TRUTH = ad.Dynamics(
    phi=[[0.36, -0.05], [-0.12, 0.45]],
    innovation_cov=[[1.0, -0.25], [-0.25, 1.0]],
    between_cov=[[0.8, -0.3], [-0.3, 1.0]],
    mean=(3.0, 10.0),
)
PANEL = ad.simulate(TRUTH, clients=70, sessions=5, missing=0.15, seed=7)  # more than one block
FAMILIES = {
    "ri-clpm": ad.RICLPM(),
    "clpm, free lags": ad.CLPM(lags="free"),
    "starts": ad.STARTS(),
    "lcm-sr": ad.LCMSR(means="free"),
}


def pytensor():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pytensor
        import pytensor.gradient

    return pytensor


def system_of(op: MarginalLogLik):
    likelihood = op.likelihood
    matrices = likelihood.layout.matrices(likelihood.start)
    (share,) = likelihood.shares
    return share.family.system(matrices), share.blocks


@pytest.mark.parametrize("spec", FAMILIES.values(), ids=FAMILIES)
def test_score_is_the_derivative(spec: ad.RICLPM) -> None:
    op = MarginalLogLik(spec, PANEL)
    rng = np.random.default_rng(1)
    theta = op.likelihood.start * rng.uniform(0.95, 1.05, len(op.likelihood.start))
    pytensor().gradient.verify_grad(lambda t: op(t)[0], [theta], rng=rng)


def test_score_of_the_filter_is_the_derivative() -> None:
    system, blocks = system_of(MarginalLogLik(ad.RICLPM(), PANEL))
    at = {name: getattr(system, name).copy() for name in MATRICES}
    at["noise"] += 0.2
    rng = np.random.default_rng(1)

    def value(*matrices):
        return filter_loglik(system, blocks, dict(zip(MATRICES[:5], matrices, strict=True)))

    pytensor().gradient.verify_grad(value, [at[name] for name in MATRICES[:5]], rng=rng)


def test_compiled_filter_is_the_kernel() -> None:
    pt = pytensor().tensor
    system, blocks = system_of(MarginalLogLik(ad.RICLPM(), PANEL))
    names = [name for name in MATRICES if name != "drive"]
    given = {
        name: pt.tensor(name, dtype="float64", shape=getattr(system, name).shape) for name in names
    }
    out = filter_loglik(system, blocks, given)
    slopes = pytensor().grad(out, list(given.values()))
    at = [getattr(system, name) for name in names]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = {
            mode: pytensor().function(list(given.values()), [out, *slopes], mode=mode)(*at)
            for mode in ("NUMBA", "FAST_COMPILE")
        }
    assert float(run["NUMBA"][0]) == pytest.approx(
        loglik_by_client(system, blocks).sum(), rel=ROUNDING
    )
    for ours, plain in zip(run["NUMBA"], run["FAST_COMPILE"], strict=True):
        np.testing.assert_allclose(ours, plain, rtol=ROUNDING, atol=ROUNDING)


def test_compiled_code_calls_back_for_other_families() -> None:
    pt = pytensor().tensor
    op = MarginalLogLik(ad.STARTS(), PANEL)
    theta = pt.dvector()
    value = op(theta)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = pytensor().function([theta], [value, pytensor().grad(value, theta)], mode="NUMBA")
    at = op.likelihood.start
    expected = op.likelihood.value_and_score(at)
    assert float(run(at)[0]) == pytest.approx(expected[0], rel=ROUNDING)
    np.testing.assert_allclose(run(at)[1], expected[1], rtol=ROUNDING)


def test_where_no_process_exists_the_density_is_zero() -> None:
    op = MarginalLogLik(ad.RICLPM(initial="stationary"), PANEL)
    theta = op.likelihood.start.copy()
    theta[op.likelihood.layout.slices["phi"]] = [1.2, 0.0, 0.0, 1.2]  # explodes
    value, score = op.evaluate(theta)
    assert value == -np.inf
    assert not score.any()


def test_pickled_operations_give_the_same() -> None:
    op = MarginalLogLik(ad.RICLPM(), PANEL)
    again = pickle.loads(pickle.dumps(op))
    value, score = op.evaluate(op.likelihood.start)
    assert again.evaluate(op.likelihood.start)[0] == value
    np.testing.assert_array_equal(again.evaluate(op.likelihood.start)[1], score)
    assert again != op  # two panels must never be taken for one
    assert pickle.loads(pickle.dumps(FilterLogLik())) == FilterLogLik()


def test_second_derivatives_are_refused() -> None:
    pt = pytensor().tensor
    op = MarginalLogLik(ad.RICLPM(), PANEL)
    theta = pt.dvector()
    score = pytensor().grad(op(theta)[0], theta)
    with pytest.raises(NotImplementedError, match="no derivatives"):
        pytensor().grad(score.sum(), theta)
