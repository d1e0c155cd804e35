"""Autocorrelated residuals in mixed models against nlme and likelihoods written out densely.

Tolerances. The log-likelihood is compared at 1e-6, absolutely: both searches stop well below
that, and it is the difference that tests are made of. nlme stops where its estimates move by a few
1e-6 of themselves (its variances by more: their likelihood is flatter).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alliancedyn.engine.blocks import stack_columns
from alliancedyn.engine.clustered import clustered_cov
from alliancedyn.engine.correlated import fit_mixed_ar
from alliancedyn.engine.correlated_search import LARGEST_PHI, prepare
from alliancedyn.engine.mixed_inference import Freedom
from alliancedyn.engine.mixed_information import mixed_information
from alliancedyn.engine.serial import fit_serial
from alliancedyn.engine.whitening import whiten
from alliancedyn.errors import DataError, SpecificationError

HERE = Path(__file__).parent / "reference" / "mixed"
PEERS = json.loads((HERE / "covariance.json").read_text(encoding="utf-8"))
LOGLIK, COEFFICIENT, VARIANCE = 1e-6, 1e-5, 1e-4


def practice():
    frame = pd.read_csv(HERE.parent / "simulated" / "multilevel" / "sessions.csv")
    frame = frame[frame["use"] == 1]
    columns = ["alliance_within_lag1", "alliance_between", "session0"]
    X = np.column_stack([np.ones(len(frame)), frame[columns]])
    group = np.unique(frame["client"], return_inverse=True)[1]
    outer = np.unique(frame["therapist"], return_inverse=True)[1]
    late = ((3 * frame["client"] + 5 * frame["session"]) % 7) / 10
    times = {"session": frame["session"].to_numpy(), "real": (frame["session"] + late).to_numpy()}
    return frame["symptoms"].to_numpy(), X, group, outer, times


MODELS = {
    "ar1": ("session", 1, False),
    "ar1_slope": ("session", 2, False),
    "ar1_therapist": ("session", 1, True),
    "car1": ("real", 1, False),
}


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("model", list(MODELS))
def test_agrees_with_nlme(model, method):
    y, X, group, outer, times = practice()
    clock, effects, nested = MODELS[model]
    peer = PEERS[f"{model}_{method}"]
    fit = fit_mixed_ar(
        y,
        X,
        group,
        times[clock],
        Z=X[:, :effects],
        outer=outer if nested else None,
        reml=method == "reml",
    )
    assert fit.converged and fit.boundary == ()
    assert fit.loglik == pytest.approx(peer["loglik"], abs=LOGLIK)
    assert fit.beta == pytest.approx(peer["beta"], rel=COEFFICIENT)
    assert np.sqrt(np.diag(fit.beta_cov)) == pytest.approx(peer["se"], rel=VARIANCE)
    assert fit.residual_ar == pytest.approx(peer["phi"], rel=VARIANCE)
    assert fit.residual_var == pytest.approx(peer["residual"], rel=VARIANCE)
    assert fit.random_cov == pytest.approx(np.array(peer["random"]["client"]), rel=5 * VARIANCE)
    if nested:
        assert fit.outer_var == pytest.approx(peer["random"]["therapist"][0][0], rel=5 * VARIANCE)


class Small:
    """A small practice with gaps, single rows and every matrix over rows written out."""

    def __init__(self, seed=1, real=False, phi=0.5, clients=18, tau=1.0):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(1, 8, clients)
        sizes[0] = 1
        self.group = np.repeat(np.arange(clients), sizes)
        step = rng.exponential(1.3, sizes.sum()) + 0.1 if real else rng.integers(1, 4, sizes.sum())
        self.time = np.concatenate([np.cumsum(part) for part in np.split(step, np.cumsum(sizes))])
        parent = np.arange(clients) % 5
        self.outer = parent[self.group]
        n = len(self.group)
        self.X = np.column_stack([np.ones(n), rng.normal(size=n), self.time])
        self.Z = self.X[:, :2]
        gap = np.abs(self.time[:, None] - self.time[None, :])
        self.same = self.group[:, None] == self.group[None, :]
        self.gap = gap
        R = self.same * phi**gap
        self.y = self.X @ [10.0, 0.5, -0.2] + np.linalg.cholesky(R) @ rng.normal(size=n)
        self.y += np.sqrt(tau) * rng.normal(size=clients)[self.group]
        self.y += 0.7 * rng.normal(size=5)[self.outer]

    def loglik(self, theta, effects=1, nested=False, reml=True):
        """theta: G (upper triangle), omega, sigma^2, phi."""
        pairs = effects * (effects + 1) // 2
        G = np.zeros((effects, effects))
        G[np.triu_indices(effects)] = theta[:pairs]
        G = G + np.triu(G, 1).T
        V = theta[-2] * self.same * theta[-1] ** self.gap
        Z = self.Z[:, :effects]
        V = V + self.same * (Z @ G @ Z.T)
        if nested:
            V = V + theta[pairs] * (self.outer[:, None] == self.outer[None, :])
        W = np.linalg.inv(V)
        information = self.X.T @ W @ self.X
        r = self.y - self.X @ np.linalg.solve(information, self.X.T @ W @ self.y)
        value = np.linalg.slogdet(V)[1] + r @ W @ r
        n = len(r) - (3 if reml else 0)
        value += np.linalg.slogdet(information)[1] if reml else 0.0
        return -0.5 * (value + n * np.log(2 * np.pi))


CASES = [(1, False, False), (2, False, False), (1, True, False), (1, False, True), (2, True, True)]


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("effects", "nested", "real"), CASES)
def test_is_the_maximum_of_the_dense_likelihood(effects, nested, real, reml):
    data = Small(3, real)
    outer = data.outer if nested else None
    fit = fit_mixed_ar(
        data.y, data.X, data.group, data.time, Z=data.Z[:, :effects], outer=outer, reml=reml
    )
    assert fit.converged
    here = data.loglik(fit.variances, effects, nested, reml)
    assert fit.loglik == pytest.approx(here, abs=1e-8)
    rng = np.random.default_rng(0)
    steps = 0.02 * rng.normal(size=(40, len(fit.variances)))
    for step in steps * np.abs(fit.variances):
        moved = fit.variances + step
        if effects == 2 and np.linalg.det([[moved[0], moved[1]], [moved[1], moved[2]]]) < 0:
            continue
        assert data.loglik(moved, effects, nested, reml) <= here + 1e-9


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("effects", "nested", "real"), [(1, False, False), (1, True, True)])
def test_uncertainty_is_the_curvature_of_the_dense_likelihood(effects, nested, real, reml):
    data = Small(11, real, clients=60)
    outer = data.outer if nested else None
    fit = fit_mixed_ar(data.y, data.X, data.group, data.time, outer=outer, reml=reml)
    assert fit.boundary == ()
    h = 1e-3 * fit.variances
    at = lambda step: data.loglik(fit.variances + step, effects, nested, reml)  # noqa: E731
    E = np.diag(h)
    H = [
        [(at(a + b) - at(a - b) - at(b - a) + at(-a - b)) / (4 * a.sum() * b.sum()) for b in E]
        for a in E
    ]
    assert fit.variance_cov == pytest.approx(np.linalg.inv(-np.array(H)), rel=2e-3, abs=1e-6)
    assert fit.residual_ar_se == pytest.approx(np.sqrt(fit.variance_cov[-1, -1]), rel=1e-12)

    def beta_cov(variances):
        V = variances[-2] * data.same * variances[-1] ** data.gap + data.same * variances[0]
        if nested:
            V = V + variances[1] * (data.outer[:, None] == data.outer[None, :])
        return np.linalg.inv(data.X.T @ np.linalg.solve(V, data.X))

    assert fit.beta_cov == pytest.approx(beta_cov(fit.variances), rel=1e-7)
    for slope, step in zip(fit.beta_cov_slopes, E, strict=True):
        rise = beta_cov(fit.variances + step) - beta_cov(fit.variances - step)
        assert slope == pytest.approx(rise / (2 * step.sum()), rel=1e-3, abs=1e-6)
    df = Freedom(fit.beta_cov_slopes, fit.variance_cov).of(np.eye(3), fit.beta_cov)
    assert (df > 1.0).all() and (df < len(data.y)).all()


def test_gradient_is_that_of_the_deviance():
    data = Small(4)
    for x in (np.array([0.9, 0.2, 0.4, 0.3, 0.5]), np.array([0.1, -0.3, 0.05, 1.2, -0.4])):
        problem = prepare(data.y, data.X, data.Z, data.group, data.time, data.outer, True).problem
        steps = 1e-5 * np.eye(5)
        rise = [(problem(x + s)[0] - problem(x - s)[0]) / 2e-5 for s in steps]
        assert problem(x)[1] == pytest.approx(rise, rel=1e-6, abs=1e-6)


def test_whitening_undoes_the_correlation():
    data = Small(5, phi=-0.4)
    U = stack_columns(data.y, data.X, data.Z, np.ones(len(data.y)))
    first = np.concatenate([[True], np.diff(data.group) != 0])
    gap = np.where(first, 0.0, np.concatenate([[0.0], np.diff(data.time)]))
    gram, slope, log_det, log_det_slope = whiten(U, data.group, gap, -0.4, 18)
    R = data.same * (-0.4) ** data.gap
    assert gram.sum(axis=0) == pytest.approx(U.T @ np.linalg.solve(R, U), rel=1e-10)
    assert log_det == pytest.approx(np.linalg.slogdet(R)[1], rel=1e-10)
    up, down = (whiten(U, data.group, gap, -0.4 + h, 18) for h in (1e-6, -1e-6))
    assert slope == pytest.approx((up[0] - down[0]) / 2e-6, rel=1e-5, abs=1e-5)
    assert log_det_slope == pytest.approx((up[2] - down[2]) / 2e-6, rel=1e-6)


def test_agrees_with_the_search_for_a_stable_level():
    """Without covariates this is ``fit_serial``, found by another route."""
    data = Small(7, clients=80)
    ones = np.ones((len(data.y), 1))
    one = fit_serial(data.y, data.group, data.time.astype(np.int64))
    two = fit_mixed_ar(data.y, ones, data.group, data.time)
    assert two.loglik == pytest.approx(one.loglik, abs=1e-7)
    assert two.residual_ar == pytest.approx(one.phi, abs=1e-5)
    assert two.random_cov[0, 0] == pytest.approx(one.between, rel=1e-4)
    assert two.beta[0] == pytest.approx(one.mean, rel=1e-6)


def test_variances_of_zero_are_named():
    rng = np.random.default_rng(3)
    group, time = np.repeat(np.arange(60), 6), np.tile(np.arange(6), 60)
    e = rng.normal(size=(60, 6))
    for t in range(1, 6):  # alternation: clients are more alike than chance would make them
        e[:, t] -= 0.6 * e[:, t - 1]
    X = np.column_stack([np.ones(360), rng.normal(size=360)])
    fit = fit_mixed_ar(e.ravel(), X, group, time, outer=group % 7)
    assert fit.converged
    assert [bound.kind for bound in fit.boundary] == ["variance", "outer"]
    assert all(bound.slope <= 0.0 for bound in fit.boundary)
    assert fit.random_cov[0, 0] == 0.0 and fit.outer_var == 0.0
    assert not fit.variance_cov[:2].any() and fit.variance_cov[2, 2] > 0.0
    assert fit.residual_ar == pytest.approx(-0.6, abs=0.1)
    assert not fit.blups.any() and not fit.outer_blups.any()
    V = fit.residual_ar ** np.abs(time[:, None] - time) * (group[:, None] == group)
    W = np.linalg.inv(V)
    beta = np.linalg.solve(X.T @ W @ X, X.T @ W @ e.ravel())
    assert fit.beta == pytest.approx(beta, rel=1e-7, abs=1e-9)


def test_a_drift_without_end_is_named():
    rng = np.random.default_rng(5)
    group, time = np.repeat(np.arange(20), 50), np.tile(np.arange(50), 20)
    lines = rng.normal(size=20)[group] * time + 0.01 * rng.normal(size=1000)
    fit = fit_mixed_ar(lines, np.ones((1000, 1)), group, time)
    assert fit.boundary[-1].kind == "drift"
    assert "upper limit" in fit.boundary[-1].sentence
    assert fit.residual_ar == pytest.approx(LARGEST_PHI, abs=1e-4)
    assert np.isnan(fit.residual_ar_se) and not fit.variance_cov[-1].any()


def test_parts_of_clients_are_exact_to_first_order():
    """Give one client's rows a little more weight: beta moves by its influence."""
    data = Small(9)
    fit = fit_mixed_ar(data.y, data.X, data.group, data.time, outer=data.outer)
    V = fit.residual_var * data.same * fit.residual_ar**data.gap
    V = V + data.same * fit.random_cov[0, 0]
    V = V + fit.outer_var * (data.outer[:, None] == data.outer)
    W = np.linalg.inv(V)
    C = np.linalg.inv(data.X.T @ W @ data.X)
    r = W @ (data.y - data.X @ fit.beta)
    parts = [C @ data.X[data.group == i].T @ r[data.group == i] for i in range(18)]
    assert fit.influence == pytest.approx(np.array(parts), rel=1e-6, abs=1e-9)
    assert fit.influence.sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-9)
    u = fit.random_cov[0, 0] * np.bincount(data.group, r)
    assert fit.blups[:, 0] == pytest.approx(u, rel=1e-6, abs=1e-9)
    assert fit.outer_blups == pytest.approx(
        fit.outer_var * np.bincount(data.outer, r), rel=1e-6, abs=1e-9
    )


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), times=st.floats(0.01, 100.0), stretch=st.floats(0.01, 100.0))
def test_units_and_order_do_not_matter(seed, times, stretch):
    data = Small(13, clients=40)
    rng = np.random.default_rng(seed)
    order, label = rng.permutation(len(data.y)), rng.permutation(40)
    scale = np.array([1.0, stretch, 1.0])
    one = fit_mixed_ar(data.y, data.X, data.group, data.time, Z=data.Z)
    two = fit_mixed_ar(
        times * data.y[order],
        (data.X * scale)[order],
        label[data.group[order]],
        data.time[order] + 100,
        Z=(data.Z * scale[:2])[order],
    )
    assert two.beta * scale / times == pytest.approx(one.beta, rel=1e-5)
    assert two.residual_ar == pytest.approx(one.residual_ar, abs=1e-5)
    unit = np.outer(scale[:2], scale[:2]) / times**2
    assert two.random_cov * unit == pytest.approx(one.random_cov, rel=1e-3, abs=1e-5)
    rows = len(data.y) - 3
    shift = rows * np.log(times) + np.log(stretch)
    assert two.loglik + shift == pytest.approx(one.loglik, abs=1e-6)
    assert two.influence[label] * scale / times == pytest.approx(one.influence, rel=1e-3, abs=1e-4)


def test_offsets_do_not_matter():
    """Sessions counted from a hundred, scores around ten thousand."""
    data = Small(13, clients=40)
    fit = fit_mixed_ar(data.y, data.X, data.group, data.time, Z=data.X[:, [0, 2]])
    X = data.X + np.array([0.0, 0.0, 100.0])
    far = fit_mixed_ar(data.y + 1e4, X, data.group, data.time, Z=X[:, [0, 2]])
    assert far.loglik == pytest.approx(fit.loglik, abs=1e-6)
    assert far.beta[1:] == pytest.approx(fit.beta[1:], rel=1e-6)
    back = np.array([[1.0, 100.0], [0.0, 1.0]])
    assert back @ far.random_cov @ back.T == pytest.approx(fit.random_cov, rel=1e-3, abs=1e-5)
    assert far.blups @ back.T == pytest.approx(fit.blups, rel=1e-3, abs=1e-4)
    df = [Freedom(f.beta_cov_slopes, f.variance_cov).of(np.eye(3), f.beta_cov) for f in (fit, far)]
    assert df[1][1:] == pytest.approx(df[0][1:], rel=1e-3)


def test_a_perfect_correlation_is_named():
    data = Small(2, clients=60)
    y = data.X @ [10.0, 0.5, -0.2] + np.random.default_rng(2).normal(size=len(data.y))
    y += np.random.default_rng(3).normal(size=60)[data.group] * (1.0 + data.X[:, 1])
    fit = fit_mixed_ar(y, data.X, data.group, data.time, Z=data.Z)
    assert [bound.kind for bound in fit.boundary] == ["correlation"]
    assert fit.boundary[0].columns == (0, 1) and fit.boundary[0].slope <= 0.0
    assert np.linalg.det(fit.random_cov) == pytest.approx(0.0, abs=1e-10)
    assert fit.converged and np.isfinite(fit.residual_ar_se)
    assert np.linalg.matrix_rank(fit.variance_cov, tol=1e-10) == 4


def test_units_of_time_carry_the_autocorrelation():
    data = Small(3, real=True)
    weeks = fit_mixed_ar(data.y, data.X, data.group, data.time)
    days = fit_mixed_ar(data.y, data.X, data.group, 7.0 * data.time + 0.25)
    assert days.loglik == pytest.approx(weeks.loglik, abs=1e-8)
    assert days.residual_ar**7 == pytest.approx(weeks.residual_ar, rel=1e-6)
    relative = weeks.residual_ar_se / weeks.residual_ar
    assert days.residual_ar_se * 7 / days.residual_ar == pytest.approx(relative, rel=1e-4)


def test_refusals_name_the_remedy():
    data = Small(1)
    with pytest.raises(DataError, match="finite"):
        fit_mixed_ar(np.where(data.y > 10, np.nan, data.y), data.X, data.group, data.time)
    with pytest.raises(DataError, match="two scores at one time"):
        fit_mixed_ar(data.y, data.X, data.group, np.ones(len(data.y)))
    with pytest.raises(DataError, match="one finite entry"):
        fit_mixed_ar(data.y, data.X, data.group, np.where(data.time > 3, np.nan, data.time))
    with pytest.raises(DataError, match="one finite entry"):
        fit_mixed_ar(data.y, data.X, data.group[1:], data.time)
    with pytest.raises(SpecificationError, match="repeated"):
        fit_mixed_ar(data.y, data.X, np.arange(len(data.y)), data.time)
    with pytest.raises(SpecificationError, match="of X are linearly dependent"):
        fit_mixed_ar(data.y, data.X[:, [0, 1, 1]], data.group, data.time)
    with pytest.raises(SpecificationError, match="of Z are linearly dependent"):
        fit_mixed_ar(data.y, data.X, data.group, data.time, Z=data.X[:, [0, 0]])
    with pytest.raises(SpecificationError, match="single client"):
        fit_mixed_ar(data.y, data.X, 0 * data.group, np.arange(len(data.y)))
    with pytest.raises(SpecificationError, match="single outer unit"):
        fit_mixed_ar(data.y, data.X, data.group, data.time, outer=0 * data.group)
    with pytest.raises(SpecificationError, match="cannot be told apart"):
        fit_mixed_ar(data.y, data.X, data.group, data.time, outer=data.group)
    with pytest.raises(SpecificationError, match="more than one outer unit"):
        fit_mixed_ar(data.y, data.X, data.group, data.time, outer=data.outer[::-1])


def test_robust_errors_stand_on_the_whitened_rows():
    data = Small(15, clients=30)
    fit = fit_mixed_ar(data.y, data.X, data.group, data.time)
    V = fit.residual_var * data.same * fit.residual_ar**data.gap + data.same * fit.random_cov[0, 0]
    W = np.linalg.inv(V)
    r = W @ (data.y - data.X @ fit.beta)
    scores = [data.X[data.group == i].T @ r[data.group == i] for i in range(30)]
    meat = sum(np.outer(s, s) for s in scores)
    plain = clustered_cov(fit.blocks, fit.components, correction="CR0")
    assert plain.cov == pytest.approx(fit.beta_cov @ meat @ fit.beta_cov, rel=1e-7)
    assert plain.beta == pytest.approx(fit.beta, rel=1e-9)
    assert plain.whole == pytest.approx(fit.beta_cov, rel=1e-8)
    known = mixed_information(fit.blocks, fit.components)
    assert known.beta_cov == pytest.approx(fit.beta_cov, rel=1e-8)
    # CR2 makes the estimate unbiased: its mean under the model is the covariance of the model
    robust = clustered_cov(fit.blocks, fit.components, correction="CR2")
    assert robust.own.sum(axis=0) == pytest.approx(fit.beta_cov, rel=1e-8)
