"""Crossed random intercepts against lme4 and likelihoods written out densely.

Tolerances. Both programs maximize the same function; its value is compared at 1e-6. Estimates
agree to what is left of lme4's last step.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alliancedyn.engine.crossed import LARGEST_OUTER, _evaluate, _tabulate, fit_crossed
from alliancedyn.engine.mixed import fit_variance_components
from alliancedyn.engine.mixed_inference import Freedom
from alliancedyn.errors import DataError, SpecificationError

HERE = Path(__file__).parent / "reference" / "mixed"
PEERS = json.loads((HERE / "covariance.json").read_text(encoding="utf-8"))
LOGLIK, COEFFICIENT, VARIANCE = 1e-6, 1e-6, 1e-5


def practice():
    frame = pd.read_csv(HERE / "crossed.csv")
    return frame, frame["client"].to_numpy() - 1, frame["therapist"].to_numpy() - 1


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_agrees_with_lme4(method):
    frame, client, therapist = practice()
    X = np.column_stack([np.ones(len(frame)), frame[["session", "x"]]])
    peer = PEERS[f"crossed_{method}"]
    fit = fit_crossed(frame["score"].to_numpy(), X, client, therapist, reml=method == "reml")
    assert fit.converged and fit.boundary == ()
    assert fit.switchers == (frame.groupby("client")["therapist"].nunique() > 1).sum() > 5
    assert fit.loglik == pytest.approx(peer["loglik"], abs=LOGLIK)
    assert fit.beta == pytest.approx(peer["beta"], rel=COEFFICIENT)
    assert np.sqrt(np.diag(fit.beta_cov)) == pytest.approx(peer["se"], rel=VARIANCE)
    assert fit.random_cov[0, 0] == pytest.approx(peer["client"], rel=VARIANCE)
    assert fit.outer_var == pytest.approx(peer["therapist"], rel=VARIANCE)
    assert fit.residual_var == pytest.approx(peer["residual"], rel=VARIANCE)
    assert fit.outer_blups == pytest.approx(peer["therapists"], abs=VARIANCE)
    assert fit.blups[:5, 0] == pytest.approx(peer["first_clients"], abs=VARIANCE)


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_therapists_who_do_not_differ_are_named(method):
    frame, client, therapist = practice()
    X = np.column_stack([np.ones(len(frame)), frame["x"]])
    peer = PEERS[f"crossed_flat_{method}"]
    fit = fit_crossed(frame["flat"].to_numpy(), X, client, therapist, reml=method == "reml")
    assert fit.converged and [bound.kind for bound in fit.boundary] == ["outer"]
    assert fit.outer_var == 0.0 and not fit.outer_blups.any()
    assert not fit.variance_cov[1].any()
    assert fit.loglik == pytest.approx(peer["loglik"], abs=LOGLIK)
    assert fit.beta == pytest.approx(peer["beta"], rel=COEFFICIENT)
    # what is left is the model without therapists
    alone = fit_variance_components(frame["flat"], [client], X, reml=method == "reml")
    assert fit.loglik == pytest.approx(alone.loglik, abs=1e-8)
    assert fit.random_cov[0, 0] == pytest.approx(alone.variances[0], rel=1e-5)


class Small:
    """A few clients, some of whom change therapist, with matrices over rows written out."""

    def __init__(self, seed=1, switching=0.3, clients=20, outers=5):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(1, 7, clients)
        sizes[0] = 1
        self.client = np.repeat(np.arange(clients), sizes)
        n = len(self.client)
        own = np.arange(clients) % outers
        self.outer = own[self.client]
        moved = rng.random(n) < switching
        self.outer[moved] = rng.integers(0, outers, moved.sum())
        self.X = np.column_stack([np.ones(n), rng.normal(size=n)])
        self.y = self.X @ [10.0, 0.5] + rng.normal(size=n)
        self.y += rng.normal(size=clients)[self.client] + rng.normal(size=outers)[self.outer]
        self.parts = [
            (self.client[:, None] == self.client).astype(float),
            (self.outer[:, None] == self.outer).astype(float),
            np.eye(n),
        ]

    def cov(self, variances):
        return sum(value * part for value, part in zip(variances, self.parts, strict=True))

    def loglik(self, variances, reml=True):
        V = self.cov(variances)
        W = np.linalg.inv(V)
        information = self.X.T @ W @ self.X
        r = self.y - self.X @ np.linalg.solve(information, self.X.T @ W @ self.y)
        value = np.linalg.slogdet(V)[1] + r @ W @ r
        value += np.linalg.slogdet(information)[1] if reml else 0.0
        n = len(r) - (2 if reml else 0)
        return -0.5 * (value + n * np.log(2 * np.pi))


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("switching", [0.0, 0.2, 1.0])
def test_is_the_maximum_of_the_dense_likelihood(switching, reml):
    data = Small(3, switching)
    fit = fit_crossed(data.y, data.X, data.client, data.outer, reml=reml)
    assert fit.converged and fit.boundary == ()
    here = data.loglik(fit.variances, reml)
    assert fit.loglik == pytest.approx(here, abs=1e-9)
    for step in 0.02 * np.random.default_rng(0).normal(size=(40, 3)):
        assert data.loglik(fit.variances * (1 + step), reml) <= here + 1e-10


@pytest.mark.parametrize("reml", [True, False])
def test_uncertainty_is_the_curvature_of_the_dense_likelihood(reml):
    data = Small(5, clients=40, outers=8)
    fit = fit_crossed(data.y, data.X, data.client, data.outer, reml=reml)
    E = np.diag(1e-3 * fit.variances)
    at = [
        [data.loglik(fit.variances + s, reml) for s in (a + b, a - b, b - a, -a - b)]
        for a in E
        for b in E
    ]
    size = np.outer(E.sum(axis=1), E.sum(axis=1)).ravel()
    H = np.array([(p - q - r + s) / (4 * h) for (p, q, r, s), h in zip(at, size, strict=True)])
    assert fit.variance_cov == pytest.approx(np.linalg.inv(-H.reshape(3, 3)), rel=1e-3)
    V = data.cov(fit.variances)
    W = np.linalg.inv(V)
    C = np.linalg.inv(data.X.T @ W @ data.X)
    assert fit.beta_cov == pytest.approx(C, rel=1e-9)
    slopes = [C @ data.X.T @ W @ part @ W @ data.X @ C for part in data.parts]
    assert fit.beta_cov_slopes == pytest.approx(np.array(slopes), rel=1e-8, abs=1e-12)
    df = Freedom(fit.beta_cov_slopes, fit.variance_cov).of(np.eye(2), fit.beta_cov)
    assert (df > 1.0).all() and (df < len(data.y)).all()


def test_predictions_and_parts_of_clients():
    data = Small(7)
    fit = fit_crossed(data.y, data.X, data.client, data.outer)
    W = np.linalg.inv(data.cov(fit.variances))
    r = W @ (data.y - data.X @ fit.beta)
    assert fit.blups[:, 0] == pytest.approx(
        fit.variances[0] * np.bincount(data.client, r), rel=1e-8, abs=1e-10
    )
    assert fit.outer_blups == pytest.approx(
        fit.variances[1] * np.bincount(data.outer, r), rel=1e-8, abs=1e-10
    )
    parts = [data.X[data.client == i].T @ r[data.client == i] for i in range(20)]
    assert fit.influence == pytest.approx(np.array(parts) @ fit.beta_cov, rel=1e-7, abs=1e-10)
    assert fit.influence.sum(axis=0) == pytest.approx(np.zeros(2), abs=1e-9)


def test_gradient_is_that_of_the_deviance():
    data = Small(9)
    D = np.column_stack([data.X, data.y])
    for reml in (True, False):
        table = _tabulate(D, data.client, data.outer, reml)
        for rho, kappa in ((0.7, 0.4), (3.0, 0.0), (0.0, 0.2), (1e4, 1e3)):
            at = _evaluate(table, rho, kappa)
            h = 1e-5 * max(rho, 1.0), 1e-5 * max(kappa, 1.0)
            up, down = _evaluate(table, rho + h[0], kappa), _evaluate(table, rho, kappa + h[1])
            mid = _evaluate(table, rho + h[0] / 2, kappa), _evaluate(table, rho, kappa + h[1] / 2)
            # three-point one-sided differences: ratios below zero are not defined
            rise = [
                (4 * m.deviance - e.deviance - 3 * at.deviance) / step
                for m, e, step in zip(mid, (up, down), h, strict=True)
            ]
            assert at.slopes == pytest.approx(rise, rel=1e-3, abs=1e-5)


def test_nested_clients_give_the_nested_model():
    data = Small(4, switching=0.0, clients=60, outers=8)
    fit = fit_crossed(data.y, data.X, data.client, data.outer)
    nested = fit_variance_components(data.y, [data.client, data.outer], data.X)
    assert fit.switchers == 0
    assert fit.loglik == pytest.approx(nested.loglik, abs=1e-8)
    assert fit.variances[:2] == pytest.approx(nested.variances, rel=1e-4)
    assert fit.beta == pytest.approx(nested.beta, rel=1e-6)


def test_large_ratios_lose_no_digits():
    """Clients a thousand residual standard deviations apart."""
    data = Small(6)
    y = data.y + 1000.0 * np.random.default_rng(1).normal(size=20)[data.client]
    data.y = y
    fit = fit_crossed(y, data.X, data.client, data.outer)
    assert fit.loglik == pytest.approx(data.loglik(fit.variances), abs=1e-6)
    assert fit.random_cov[0, 0] == pytest.approx(1e6, rel=0.8)
    assert fit.converged


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), times=st.floats(1e-3, 1e3), stretch=st.floats(1e-3, 1e3))
def test_units_and_order_do_not_matter(seed, times, stretch):
    data = Small(8, clients=40)
    rng = np.random.default_rng(seed)
    order, label, other = rng.permutation(len(data.y)), rng.permutation(40), rng.permutation(5)
    scale = np.array([1.0, stretch])
    one = fit_crossed(data.y, data.X, data.client, data.outer)
    two = fit_crossed(
        times * data.y[order],
        (data.X * scale)[order],
        3 * label[data.client[order]] - 7,
        other[data.outer[order]],
    )
    assert two.beta * scale / times == pytest.approx(one.beta, rel=1e-6)
    assert two.variances / times**2 == pytest.approx(one.variances, rel=1e-4)
    assert two.influence[label] * scale / times == pytest.approx(one.influence, rel=1e-4, abs=1e-6)
    shift = (len(data.y) - 2) * np.log(times) + np.log(stretch)
    assert two.loglik + shift == pytest.approx(one.loglik, abs=1e-7)


def test_refusals_name_the_remedy():
    data = Small(1)
    y, X, client, outer = data.y, data.X, data.client, data.outer
    n = len(y)
    with pytest.raises(DataError, match="finite"):
        fit_crossed(np.where(y > 10, np.nan, y), X, client, outer)
    with pytest.raises(DataError, match="one row per score"):
        fit_crossed(y, X[1:], client, outer)
    with pytest.raises(DataError, match="codes must be integers"):
        fit_crossed(y, X, client / 2, outer)
    with pytest.raises(SpecificationError, match="single unit"):
        fit_crossed(y, X, client, np.zeros(n, dtype=int))
    with pytest.raises(SpecificationError, match="single score"):
        fit_crossed(y, X, np.arange(n), outer)
    with pytest.raises(SpecificationError, match="same units"):
        fit_crossed(y, X, client, client)
    with pytest.raises(SpecificationError, match="dependent"):
        fit_crossed(y, X[:, [0, 1, 1]], client, outer)
    with pytest.raises(SpecificationError, match="No spread"):
        fit_crossed(client.astype(float), X[:, :1], client, outer)
    many = np.repeat(np.arange(LARGEST_OUTER + 1), 2)
    with pytest.raises(SpecificationError, match="at most 2000 outer units; there are 2001"):
        fit_crossed(np.ones(len(many)), np.ones((len(many), 1)), many // 3, many)
