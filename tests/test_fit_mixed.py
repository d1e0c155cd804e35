"""Linear mixed models against lme4, nlme, statsmodels' blind spots and dense likelihoods."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_files import SIMULATED, published_dir, simulated

from alliancedyn.engine import MixedFit, fit_mixed, mixed_search
from alliancedyn.engine.mixed import fit_variance_components
from alliancedyn.engine.mixed_likelihood import differentiate, evaluate
from alliancedyn.engine.mixed_rows import ClientStatistics, group_rows, reduce_rows
from alliancedyn.errors import DataError, SpecificationError

# lme4 stops a little short of the maximum: quadratic in the log-likelihood, linear in variances.
LOGLIK_BELOW, COEFFICIENT, VARIANCE, SHRUNKEN = 1e-6, 1e-5, 1e-4, 1e-5
DEGREES_OF_FREEDOM = 1e-4  # rest on differences in lmerTest, on exact derivatives here
DENSE = 1e-11  # the same likelihood by two routes, relative
PEAK = 1e-7  # what a maximiser with numerical or analytic gradient leaves, in log-likelihood


def dense_loglik(y, X, Z, group, random_cov, residual, reml, outer=None, outer_var=0.0):
    """Write the (restricted) likelihood down as its definition."""
    S = residual * np.eye(len(y)) + (group[:, None] == group) * (Z @ random_cov @ Z.T)
    if outer is not None:
        S = S + outer_var * (outer[:, None] == outer)
    inverse = np.linalg.inv(S)
    information = X.T @ inverse @ X
    r = y - X @ np.linalg.solve(information, X.T @ inverse @ y)
    p = X.shape[1] if reml else 0
    value = (len(y) - p) * np.log(2 * np.pi) + np.linalg.slogdet(S)[1] + r @ inverse @ r
    return -0.5 * (value + (np.linalg.slogdet(information)[1] if reml else 0.0))


def dense_maximum(y, X, Z, group, reml, outer=None, starts=6):
    """Maximise the dense likelihood from several starts, sigma^2 profiled out by scale."""
    q, n = Z.shape[1], len(y)
    same = group[:, None] == group
    above = None if outer is None else (outer[:, None] == outer).astype(float)
    lower = np.tril_indices(q)
    freedom = n - (X.shape[1] if reml else 0)

    def loss(theta):
        L = np.zeros((q, q))
        L[lower] = theta[: len(lower[0])]
        V = np.eye(n) + same * (Z @ L @ L.T @ Z.T)
        if above is not None:
            V = V + theta[-1] ** 2 * above
        factor = np.linalg.cholesky(V)
        half = np.linalg.solve(factor, np.column_stack([X, y]))
        basis, triangle = np.linalg.qr(half[:, :-1])
        r = half[:, -1] - basis @ (basis.T @ half[:, -1])
        value = 2 * np.log(np.diag(factor)).sum()
        value += freedom * (1 + np.log(2 * np.pi * (r @ r) / freedom))
        return value + (2 * np.log(np.abs(np.diag(triangle))).sum() if reml else 0.0)

    rng = np.random.default_rng(0)
    count = len(lower[0]) + (outer is not None)
    ends = []
    for size in np.geomspace(0.05, 3.0, starts):
        end = scipy.optimize.minimize(loss, size * rng.normal(size=count), options={"gtol": 1e-6})
        ends.append(-0.5 * end.fun)
    return max(ends)


def drawn(seed, clients=14, outers=4, q=2, constant=True, longest=6):
    """Draw a small unbalanced panel: some clients have a single row."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(clients), rng.integers(1, longest, clients))
    outer = (np.arange(clients) % outers)[group]
    n = len(group)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    Z = np.column_stack([np.ones(n), rng.normal(size=(n, q))])[:, :q] if constant else None
    Z = rng.normal(size=(n, q)) if Z is None else Z
    effects = rng.normal(size=(clients, q)) * np.linspace(1.0, 0.6, q)
    y = X @ [3.0, -0.5, 0.2] + (Z * effects[group]).sum(axis=1) + rng.normal(size=n)
    return y + 0.7 * rng.normal(size=outers)[outer], X, Z, group, outer


def lme4_case(model):
    """Return the arrays of a model of the simulated practice."""
    frame = pd.read_csv(SIMULATED / "multilevel" / "sessions.csv")
    lagged = model in ("c", "d2")
    frame = frame[frame["use_lagged" if lagged else "use"] == 1]
    columns = ["alliance_within_lag1", "alliance_between", "session0"]
    columns += ["symptoms_within_lag1"] if lagged else []
    X = np.column_stack([np.ones(len(frame)), frame[columns]])
    outer = frame["therapist"].to_numpy() if model[0] in "de" else None
    Z = X[:, : 2 if model in "be" else 1]
    return frame["symptoms"].to_numpy(), X, Z, frame["client"].to_numpy(), outer


def peer_variances(variance):
    """Return lme4's variances in the order of ``MixedFit.variances``."""
    names = ["random_cov[intercept,intercept]", "random_cov[intercept,alliance]"]
    names += ["random_cov[alliance,alliance]", "therapist_random_cov[intercept,intercept]"]
    return [variance[name] for name in [*names, "residual_var[symptoms]"] if name in variance]


@pytest.mark.parametrize("model", ["a", "b", "c", "d", "d2", "e"])
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_agrees_with_lme4(model, method):
    y, X, Z, group, outer = lme4_case(model)
    peer = simulated("multilevel", f"{model}_lme4_{method}")
    fit = fit_mixed(y, X, Z, group, outer=outer, reml=method == "reml")
    assert fit.converged and fit.boundary == ()
    assert peer["loglik"] - LOGLIK_BELOW <= fit.loglik <= peer["loglik"] + 1e-4
    estimates = list(peer["params"].values())
    np.testing.assert_allclose(fit.beta, [e["estimate"] for e in estimates], rtol=COEFFICIENT)
    np.testing.assert_allclose(fit.beta_cov, peer["vcov"]["matrix"], rtol=VARIANCE, atol=1e-7)
    np.testing.assert_allclose(fit.variances, peer_variances(peer["variance"]), rtol=VARIANCE)
    first = np.array(
        [list(row.values())[1:] for row in peer["blups_first_three_clients"]], dtype=float
    )
    np.testing.assert_allclose(fit.blups[:3], first, atol=SHRUNKEN)
    assert fit.n == peer["nobs"]
    assert fit.units == tuple(peer["groups"].values())


@pytest.mark.parametrize("model", ["a", "b", "c", "d", "d2", "e"])
def test_covariance_of_the_variances_gives_lmertests_degrees_of_freedom(model):
    y, X, Z, group, outer = lme4_case(model)
    peer = simulated("multilevel", f"{model}_lme4_reml")
    fit = fit_mixed(y, X, Z, group, outer=outer)
    slopes = np.einsum("kaa->ka", fit.beta_cov_slopes)
    spread = np.einsum("ka,kl,la->a", slopes, fit.variance_cov, slopes)
    freedom = 2 * np.diag(fit.beta_cov) ** 2 / spread
    expected = [e["df_satterthwaite"] for e in peer["params"].values()]
    np.testing.assert_allclose(freedom, expected, rtol=DEGREES_OF_FREEDOM)


@pytest.mark.parametrize("model", ["a", "b", "d"])
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_agrees_with_nlme(model, method):
    y, X, Z, group, outer = lme4_case(model)
    peer = simulated("multilevel", f"{model}_nlme_{method}")
    fit = fit_mixed(y, X, Z, group, outer=outer, reml=method == "reml")
    assert fit.loglik == pytest.approx(peer["loglik"], abs=LOGLIK_BELOW)
    estimates = list(peer["params"].values())
    np.testing.assert_allclose(fit.beta, [e["estimate"] for e in estimates], rtol=COEFFICIENT)
    errors = np.sqrt(np.diag(fit.beta_cov))
    np.testing.assert_allclose(errors, [e["se"] for e in estimates], rtol=COEFFICIENT)
    assert fit.residual_var == pytest.approx(peer["residual_var"], rel=VARIANCE)


def statistics(y, X, Z, group, outer=None, ones=False):
    grouping = group_rows(group, outer)
    shift = (0.0, np.zeros(X.shape[1]), np.zeros(Z.shape[1]))
    root, projected, scatter = reduce_rows(y, X, Z, grouping, shift, ones)
    one = np.zeros(root.shape[1])
    one[-1 if ones else 0] = 1.0
    return ClientStatistics(root, projected, scatter, one, grouping.blocks, len(y))


SHAPES = [
    (1, True, False),
    (2, True, False),
    (3, True, False),
    (1, True, True),
    (2, True, True),
    (1, False, True),
    (2, False, True),
]


@pytest.mark.parametrize(("q", "constant", "nested"), SHAPES)
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("rank", ["full", "short", "none"])
def test_likelihood_is_the_dense_one_at_any_variances(q, constant, nested, reml, rank):
    rng = np.random.default_rng(q)
    y, X, Z, group, outer = drawn(3, q=q, constant=constant)
    stats = statistics(y, X, Z, group, outer if nested else None, nested and not constant)
    factor = rng.normal(size=(q, q)) * 2.0
    factor[:, {"full": q, "short": q - 1, "none": 0}[rank] :] = 0.0
    omega = np.zeros((len(stats.one),) * 2)
    omega[:q, :q] = factor @ factor.T
    rho = 0.0 if rank == "none" or not nested else 0.6
    value = evaluate(stats, omega, rho, reml)
    residual = value.squares / value.freedom
    dense = dense_loglik(
        y, X, Z, group, residual * omega[:q, :q], residual, reml, outer, residual * rho
    )
    assert -0.5 * value.deviance == pytest.approx(dense, rel=DENSE)


@pytest.mark.parametrize(("q", "constant", "nested"), SHAPES)
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("singular", [True, False])
def test_derivatives_equal_differences(q, constant, nested, reml, singular):
    rng = np.random.default_rng(10 + q)
    y, X, Z, group, outer = drawn(4, q=q, constant=constant)
    stats = statistics(y, X, Z, group, outer if nested else None, nested and not constant)
    m = len(stats.one)
    factor = np.zeros((m, q))
    factor[:q] = rng.normal(size=(q, q))
    factor[:, q - singular :] = 0.0
    omega, rho = factor @ factor.T, 0.6 if nested and not singular else 0.0
    slopes = differentiate(stats, evaluate(stats, omega, rho, reml), reml)
    places = list(zip(*np.triu_indices(m), strict=True))
    for k in range(len(slopes.gradient)):

        def moved(step, k=k):
            at, along = omega.copy(), rho + (step if k == len(places) else 0.0)
            if k < len(places):
                a, b = places[k]
                at[a, b] += step
                at[b, a] = at[a, b]
            return evaluate(stats, at, along, reml)

        ahead, behind = moved(1e-5), moved(-1e-5)
        rise = (ahead.deviance - behind.deviance) / 2e-5
        assert slopes.gradient[k] == pytest.approx(rise, rel=1e-6, abs=1e-6)
        bend = differentiate(stats, ahead, reml).gradient
        bend = (bend - differentiate(stats, behind, reml).gradient) / 2e-5
        size = np.abs(slopes.hessian).max()
        np.testing.assert_allclose(slopes.hessian[k], bend, rtol=1e-5, atol=1e-6 * size)


@pytest.mark.parametrize(("q", "constant", "nested"), SHAPES)
@pytest.mark.parametrize("reml", [True, False])
def test_is_the_maximum_of_the_dense_likelihood(q, constant, nested, reml):
    y, X, Z, group, outer = drawn(20 + q, clients=10, q=q, constant=constant)
    outer = outer if nested else None
    fit = fit_mixed(y, X, Z, group, outer=outer, reml=reml)
    assert fit.converged
    there = dense_loglik(
        y, X, Z, group, fit.random_cov, fit.residual_var, reml, outer, fit.outer_var
    )
    assert fit.loglik == pytest.approx(there, rel=DENSE)
    assert fit.loglik >= dense_maximum(y, X, Z, group, reml, outer) - PEAK


def stubborn(slope, seed, clients=60, sessions=6):
    """Draw panels on which gradient searches of the covariance's root stop early."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(clients), sessions)
    x = rng.normal(size=len(group))
    X = np.column_stack([np.ones(len(group)), x])
    u = rng.normal(size=clients)
    b = slope * rng.normal(size=clients)
    y = X @ [10, -0.3] + 2 * u[group] + b[group] * x + 1.8 * rng.normal(size=len(group))
    return y, X, group


@pytest.mark.parametrize(("slope", "seed", "singular"), [(0.1, 0, False), (0.3, 7, True)])
def test_finds_the_maximum_where_statsmodels_stops_two_units_short(slope, seed, singular):
    from statsmodels.regression.mixed_linear_model import MixedLM

    y, X, group = stubborn(slope, seed)
    fit = fit_mixed(y, X, X, group)
    assert fit.converged and bool(fit.boundary) == singular
    assert fit.loglik >= dense_maximum(y, X, X, group, True) - PEAK
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = MixedLM(y, X, group, exog_re=X).fit(reml=True)
    assert fit.loglik > peer.llf - PEAK
    if peer.converged and peer.llf < fit.loglik - 2.0:  # statsmodels 0.14 says so on both
        short = dense_loglik(y, X, X, group, np.asarray(peer.cov_re), peer.scale, True)
        assert short < fit.loglik - 2.0


@pytest.mark.parametrize("seed", [109, 173, 204, 273])
def test_the_higher_of_several_maxima(seed, monkeypatch):
    """Ten clients, three strongly correlated effects: one or two starts end a unit lower."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(10), rng.integers(2, 6, 10))
    Z = np.column_stack([np.ones(len(group)), rng.normal(size=(len(group), 2))])
    X = np.column_stack([np.ones(len(group)), rng.normal(size=len(group))])
    effects = rng.normal(size=(3, 3))
    effects = rng.normal(size=(10, 3)) @ (3 * effects).T
    y = (Z * effects[group]).sum(axis=1) + rng.normal(size=len(group))
    fit = fit_mixed(y, X, Z, group)
    there = dense_loglik(y, X, Z, group, fit.random_cov, fit.residual_var, True)
    assert fit.loglik == pytest.approx(there, rel=1e-9)
    assert fit.loglik >= dense_maximum(y, X, Z, group, True, starts=3) - PEAK
    monkeypatch.setattr(mixed_search, "VERY_FEW_CLIENTS", 0)
    assert fit_mixed(y, X, Z, group).loglik < fit.loglik - 0.4


def test_zero_variance_leaves_the_fixed_effects_alone():
    """Clients who differ less than chance: least squares, with the verdict."""
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(30), 5)
    X = np.column_stack([np.ones(150), rng.normal(size=150)])
    y = X @ [5.0, 0.8] + rng.normal(size=150)
    y -= np.bincount(group, y - X @ [5.0, 0.8])[group] / 5
    fit = fit_mixed(y, X, X[:, :1], group)
    least = np.linalg.lstsq(X, y, rcond=None)[0]
    np.testing.assert_allclose(fit.beta, least, rtol=1e-12)
    assert fit.random_cov[0, 0] == 0.0 and np.all(fit.blups == 0.0)
    assert [(bound.kind, bound.columns) for bound in fit.boundary] == [("variance", (0,))]
    assert fit.boundary[0].slope < 0.0 and "falls" in fit.boundary[0].sentence
    assert fit.residual_var == pytest.approx(np.sum((y - X @ least) ** 2) / 148, rel=1e-12)
    assert fit.converged and fit.variance_cov[0].tolist() == [0.0, 0.0]


def test_bounds_are_decided_by_the_derivative_of_the_dense_likelihood():
    """Each kind of bound occurs, and the likelihood falls as the variance leaves zero."""
    kinds = set()
    for seed in range(12):
        y, X, Z, group, outer = drawn(100 + seed, clients=12, outers=4)
        fit = fit_mixed(y, X, Z, group, outer=outer)
        assert fit.converged
        inside = (y, X, Z, group, fit.random_cov, fit.residual_var, True, outer, fit.outer_var)
        top = dense_loglik(*inside)
        if not fit.boundary:
            assert np.linalg.eigvalsh(fit.random_cov)[0] > 0 and fit.outer_var > 0
        for bound in fit.boundary:
            kinds.add(bound.kind)
            assert bound.slope <= 0.0
            step = 1e-4 * fit.residual_var
            if bound.kind == "outer":
                assert fit.outer_var == 0.0
                moved = dense_loglik(*inside[:-1], step)
            else:
                roots, axes = np.linalg.eigh(fit.random_cov)
                assert abs(roots[0]) < 1e-12 * fit.residual_var
                raised = fit.random_cov + step * np.outer(axes[:, 0], axes[:, 0])
                moved = dense_loglik(*inside[:4], raised, *inside[5:])
            assert moved < top
    assert kinds >= {"outer", "correlation"}


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_variance_cov_is_the_inverse_hessian_of_the_dense_likelihood(reml, nested):
    y, X, Z, group, outer = drawn(9, clients=40, outers=8, longest=9)
    outer = outer if nested else None
    fit = fit_mixed(y, X, Z, group, outer=outer, reml=reml)
    assert fit.boundary == ()
    names = ["random_cov[0,0]", "random_cov[0,1]", "random_cov[1,1]"]
    assert list(fit.variance_names) == [*names, *(["outer_var"] if nested else []), "residual_var"]

    def dense(v):
        G = np.array([[v[0], v[1]], [v[1], v[2]]])
        return dense_loglik(y, X, Z, group, G, v[-1], reml, outer, v[3] if nested else 0.0)

    v, count = fit.variances, len(fit.variances)
    steps = 1e-3 * np.sqrt(np.diag(fit.variance_cov))
    hessian = np.empty((count, count))
    for i in range(count):
        for j in range(count):
            total = 0.0
            for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                at = (
                    v
                    + a * steps[i] * (np.arange(count) == i)
                    + b * steps[j] * (np.arange(count) == j)
                )
                total += a * b * dense(at)
            hessian[i, j] = total / (4 * steps[i] * steps[j])
    size = np.sqrt(np.outer(np.diag(fit.variance_cov), np.diag(fit.variance_cov)))
    np.testing.assert_allclose(fit.variance_cov / size, np.linalg.inv(-hessian) / size, atol=2e-4)


@pytest.mark.parametrize("nested", [True, False])
def test_what_follows_from_the_fit_equals_its_definition(nested):
    y, X, Z, group, outer = drawn(9, clients=40, outers=8, longest=9)
    fit = fit_mixed(y, X, Z, group, outer=outer if nested else None)
    assert fit.outer_var > 0 or not nested

    def covariance(v):
        G = np.array([[v[0], v[1]], [v[1], v[2]]])
        above = v[3] * (outer[:, None] == outer) if nested else 0.0
        return v[-1] * np.eye(len(y)) + (group[:, None] == group) * (Z @ G @ Z.T) + above

    inverse = np.linalg.inv(covariance(fit.variances))
    bread = np.linalg.inv(X.T @ inverse @ X)
    np.testing.assert_allclose(fit.beta_cov, bread, rtol=1e-9)
    weighted = inverse @ (y - X @ fit.beta)
    influence = np.array([bread @ X[group == j].T @ weighted[group == j] for j in range(40)])
    np.testing.assert_allclose(fit.influence, influence, rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(fit.influence.sum(axis=0), 0.0, atol=1e-10)
    for j in (0, 7, 39):
        Zj = np.where((group == j)[:, None], Z, 0.0)
        given = fit.random_cov - fit.random_cov @ Zj.T @ inverse @ Zj @ fit.random_cov
        np.testing.assert_allclose(fit.blups[j], fit.random_cov @ Zj.T @ weighted, rtol=1e-7)
        np.testing.assert_allclose(fit.blup_cov[j], given, rtol=1e-7)
    if nested:
        for g in range(8):
            inside = (outer == g).astype(float)
            expected = fit.outer_var * (inside @ weighted)
            assert fit.outer_blups[g] == pytest.approx(expected, rel=1e-7)
            left = fit.outer_var - fit.outer_var**2 * (inside @ inverse @ inside)
            assert fit.outer_blup_var[g] == pytest.approx(left, rel=1e-7)
    for k, slope in enumerate(fit.beta_cov_slopes):
        step = 1e-4 * np.sqrt(fit.variance_cov[k, k]) * (np.arange(len(fit.variances)) == k)
        ends = [
            np.linalg.inv(X.T @ np.linalg.solve(covariance(fit.variances + s * step), X))
            for s in (1, -1)
        ]
        expected = (ends[0] - ends[1]) / (2 * step[k])
        np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def test_random_intercepts_agree_with_variance_components():
    y, X, Z, group, outer = drawn(31, clients=50, outers=9)
    fit = fit_mixed(y, X, Z[:, :1], group, outer=outer)
    other = fit_variance_components(y, [group, outer], X)
    assert fit.loglik == pytest.approx(other.loglik, rel=1e-12)
    np.testing.assert_allclose(
        fit.variances, [*other.variances, other.residual], rtol=1e-5, atol=1e-9
    )
    np.testing.assert_allclose(fit.beta, other.beta, rtol=1e-6)
    np.testing.assert_allclose(fit.beta_cov, other.beta_cov, rtol=1e-5)


def same_fit(one: MixedFit, other: MixedFit, tolerance=1e-6):
    assert one.loglik == pytest.approx(other.loglik, rel=1e-10)
    for name in ("beta", "beta_cov", "variances", "blups", "influence", "variance_cov"):
        left, right = getattr(one, name), getattr(other, name)
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance * abs(right).max())


@pytest.mark.parametrize("nested", [True, False])
def test_order_and_labels_of_rows_change_nothing(nested):
    y, X, Z, group, outer = drawn(9, clients=40, outers=8)
    fit = fit_mixed(y, X, Z, group, outer=outer if nested else None)
    order = np.random.default_rng(0).permutation(len(y))
    for codes in (group, 7 * group - 900_000_000, group.astype(np.int16), 3_000_000 * group):
        moved = fit_mixed(
            y[order],
            X[order],
            Z[order],
            codes[order],
            outer=-5 * outer[order] if nested else None,
        )
        same_fit(moved, fit)
        assert moved.clients.tolist() == np.unique(codes).tolist()
        if nested:
            assert moved.outer_units.tolist() == np.unique(-5 * outer).tolist()
            np.testing.assert_allclose(moved.outer_blups, fit.outer_blups[::-1], rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    size=st.sampled_from([1e-6, 1.0, 1e5]),
    column=st.sampled_from([1e-4, 1.0, 1e6]),
    offset=st.sampled_from([0.0, -30.0, 1e5]),
    nested=st.booleans(),
)
def test_units_rescale_what_they_should(seed, size, column, offset, nested):
    y, X, Z, group, outer = drawn(seed, clients=20)
    outer = outer if nested else None
    fit = fit_mixed(y, X, Z, group, outer=outer)
    wide, steep = X * [1.0, column, 1.0] + [0.0, offset, 0.0], Z * [1.0, column]
    moved = fit_mixed(size * (y + offset), wide, steep, group, outer=outer)
    assert moved.converged == fit.converged
    np.testing.assert_allclose(moved.beta[1:], size * fit.beta[1:] / [column, 1.0], rtol=1e-4)
    unit = size / np.array([1.0, column])
    largest = np.sqrt(np.diag(fit.random_cov) + fit.residual_var)
    np.testing.assert_allclose(
        moved.random_cov / np.outer(unit, unit) / np.outer(largest, largest),
        fit.random_cov / np.outer(largest, largest),
        atol=2e-4,
    )
    assert moved.residual_var == pytest.approx(size**2 * fit.residual_var, rel=1e-4)
    freedom = len(y) - 3
    log_units = freedom * np.log(size) + np.log(column)  # n - p scores, one column of X
    assert moved.loglik == pytest.approx(fit.loglik - log_units, abs=1e-5)


def test_a_client_with_a_single_row_is_used():
    y, X, Z, group, _ = drawn(9, clients=40)
    more = [np.append(part, part[:1], axis=0) for part in (y, X, Z)]
    fit = fit_mixed(*more, np.append(group, 99))
    assert fit.units == (41,) and fit.blups.shape == (41, 2)
    there = dense_loglik(*more, np.append(group, 99), fit.random_cov, fit.residual_var, True)
    assert fit.loglik == pytest.approx(there, rel=DENSE)


def test_predictors_that_vary_between_clients_only_are_found_again():
    """A slope of a client's own constant is a matter of heteroscedasticity, and a legal one."""
    y, X, Z, group, _ = drawn(12, clients=40)
    Z = np.column_stack([Z[:, 0], np.random.default_rng(1).normal(size=40)[group]])
    fit = fit_mixed(y, X, Z, group)
    assert fit.loglik >= dense_maximum(y, X, Z, group, True, starts=3) - PEAK


def test_extreme_ratios_and_offsets_lose_no_digits():
    rng = np.random.default_rng(12)
    group = np.repeat(np.arange(40), 5)
    y = 1e4 * rng.normal(size=40)[group] + 1e-2 * rng.normal(size=200) + 1e6
    one = np.ones((200, 1))
    fit = fit_mixed(y, one, one, group)
    within = np.var(y.reshape(40, 5), axis=1, ddof=1).mean()
    between = np.var(y.reshape(40, 5).mean(axis=1), ddof=1)
    assert fit.converged and fit.residual_var == pytest.approx(within, rel=1e-6)
    assert fit.random_cov[0, 0] == pytest.approx(between - within / 5, rel=1e-6)


def test_nearly_dependent_columns_are_turned_row_by_row():
    """Two columns that agree to nine digits, and dummies far from a constant: the dense answer."""
    y, X, Z, group, _ = drawn(9, clients=40)
    near = np.column_stack([X, X[:, 1] + 1e-9 * X[:, 2] * X[:, 1]])
    fit = fit_mixed(y, near, Z, group)
    plain = fit_mixed(y, np.column_stack([X, X[:, 2] * X[:, 1]]), Z, group)
    np.testing.assert_allclose(fit.variances, plain.variances, rtol=1e-4, atol=1e-7)
    assert fit.beta[3] == pytest.approx(1e9 * plain.beta[3], rel=1e-4)
    months = np.arange(len(y)) % 3
    dummies = (months[:, None] == np.arange(3)).astype(float)
    far = fit_mixed(y + 1e8, dummies, Z, group)
    close = fit_mixed(y, dummies, Z, group)
    np.testing.assert_allclose(far.variances, close.variances, rtol=1e-4, atol=1e-7)
    steep = np.column_stack([Z[:, 0], 1.0 + 1e-6 * Z[:, 1]])
    tilted = fit_mixed(y, X, steep, group)
    assert tilted.loglik == pytest.approx(fit_mixed(y, X, Z, group).loglik, abs=1e-6)


@pytest.mark.parametrize("nested", [True, False])
def test_a_sample_of_many_clients_only_gives_the_start(monkeypatch, nested):
    y, X, Z, group, outer = drawn(7, clients=6000, outers=600)
    outer = outer if nested else None
    quick = fit_mixed(y, X, Z, group, outer=outer)
    monkeypatch.setattr(mixed_search, "FEW_CLIENTS", 10**9)
    whole = fit_mixed(y, X, Z, group, outer=outer)
    assert quick.converged and whole.converged
    assert quick.loglik == pytest.approx(whole.loglik, rel=1e-13)
    np.testing.assert_allclose(quick.variances, whole.variances, rtol=1e-5)


@pytest.mark.parametrize("seed", [1, 3])
def test_a_step_to_the_mirror_image_is_no_progress(seed):
    """One effect behind intercept and slope, none of the outer units: roots of both signs."""
    rng = np.random.default_rng(seed)
    outer = rng.integers(0, 300, 1000)
    group = np.repeat(np.arange(1000), rng.integers(1, 12, 1000))
    Z = np.column_stack([np.ones(len(group)), rng.normal(size=len(group)) + 2])
    y = rng.normal(size=1000)[group] * (Z @ [0.6, 1.6]) + rng.normal(size=len(group))
    fit = fit_mixed(y, Z[:, :1], Z, group, outer=outer[group], reml=False)
    assert fit.converged and fit.outer_var < 0.02
    np.testing.assert_allclose(fit.random_cov, [[0.36, 0.96], [0.96, 2.56]], atol=0.3)


def test_ten_thousand_clients_take_no_time():
    y, X, Z, group, outer = drawn(8, clients=10_000, outers=400)
    order = np.random.default_rng(0).permutation(len(y))
    fit_mixed(y[:200], X[:200], Z[:200], group[:200])
    started = time.perf_counter()
    fit = fit_mixed(y[order], X[order], Z[order], group[order], outer=outer[order])
    assert time.perf_counter() - started < 2.0  # about 0.02 s once compiled
    assert fit.converged and fit.units == (10_000, 400)
    np.testing.assert_allclose(np.diag(fit.random_cov), [1.0, 0.36], rtol=0.1)
    assert fit.residual_var == pytest.approx(1.0, rel=0.05)


MEMORY = """
import numpy as np
from alliancedyn.engine import fit_mixed

def fit(clients):
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(clients), {sessions})
    x = rng.normal(size=len(group))
    X = np.column_stack([np.ones(len(x)), x, rng.normal(size=len(x)), rng.normal(size=len(x))])
    Z = np.ascontiguousarray(X[:, :2])
    y = rng.normal(size=len(x)) + rng.normal(size=clients)[group]
    if {shuffled}:
        group = rng.permutation(group)
    size = sum(part.nbytes for part in (y, X, Z, group))
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = peak()
    done = fit_mixed(y, X, Z, group)
    return (peak() - before) / size

def peak():
    with open("/proc/self/status") as file:
        return 1024 * int(next(line for line in file if line.startswith("VmHWM")).split()[1])

fit(50)
print(fit(1_000_000 // {sessions}))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is Linux's")
@pytest.mark.parametrize(("sessions", "shuffled"), [(10, False), (10, True), (3, True)])
def test_memory_stays_below_the_data_themselves(sessions, shuffled):
    """A million rows: the peak while fitting, beyond what the data take themselves."""
    code = MEMORY.format(shuffled=shuffled, sessions=sessions)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.0  # about 0.4, 0.6 and 0.85


def test_the_result_pickles_and_prints_in_few_lines():
    y, X, Z, group, outer = drawn(9)
    fit = fit_mixed(y, X, Z, group, outer=outer)
    back = pickle.loads(pickle.dumps(fit))
    np.testing.assert_array_equal(back.influence, fit.influence)
    assert "_rows" not in repr(fit)


Y, ONE = np.arange(12.0) ** 1.5, np.ones((12, 1))
PAIRED = np.repeat(np.arange(6), 2)
X12 = np.column_stack([ONE, np.sin(np.arange(12.0))])


@pytest.mark.parametrize(
    ("changed", "error", "fragment"),
    [
        ({"y": np.where(Y > 9, np.nan, Y)}, DataError, "^y must be finite"),
        ({"X": np.where(X12 > 0.9, np.inf, X12)}, DataError, "^X must be finite"),
        ({"Z": np.where(X12 < -0.9, np.nan, X12)}, DataError, "^Z must be finite"),
        ({"Z": np.full((12, 1), np.nan)}, DataError, "^Z must be finite"),
        ({"y": 1e200 * Y}, DataError, "too large"),
        ({"y": ONE}, DataError, "one dimension"),
        ({"Z": np.ones(12)}, DataError, "one dimension"),
        ({"group": PAIRED[:5]}, DataError, "one row per score"),
        ({"group": PAIRED.astype(float)}, DataError, "must be integers"),
        ({"X": np.column_stack([ONE, 3 * ONE])}, SpecificationError, "1 of X is constant and"),
        ({"X": np.column_stack([X12, X12 @ [2, 3]])}, SpecificationError, "Column 2 of X is lin"),
        ({"X": np.column_stack([X12, 0 * ONE])}, SpecificationError, "Column 2 of X is zero"),
        ({"X": np.eye(12)}, SpecificationError, "12 rows cannot carry 12"),
        ({"X": np.empty((12, 0))}, SpecificationError, "at least one column"),
        ({"Z": np.column_stack([X12, X12[:, 1]])}, SpecificationError, "Column 2 of Z is lin"),
        ({"Z": np.column_stack([ONE, ONE])}, SpecificationError, "Column 1 of Z is constant"),
        ({"group": np.arange(12)}, SpecificationError, "No client has more rows"),
        ({"Z": X12}, SpecificationError, "No client has more rows than the 2 random effects"),
        ({"group": np.zeros(12, int)}, SpecificationError, "single client"),
        ({"outer": np.zeros(12, int)}, SpecificationError, "single outer unit"),
        ({"outer": PAIRED + 3}, SpecificationError, "Every outer unit has a single client"),
        ({"outer": np.arange(12) % 3}, SpecificationError, "crossed"),
        ({"y": Y[PAIRED]}, SpecificationError, "No spread"),
        ({"y": np.full(12, 0.1)}, SpecificationError, "No spread"),
        ({"y": X12 @ [3.0, 0.1]}, SpecificationError, "No spread"),
    ],
)
def test_refusals_name_the_reason(changed, error, fragment):
    arguments = {"y": Y, "X": X12, "Z": ONE, "group": PAIRED, "outer": None} | changed
    outer = arguments.pop("outer")
    with pytest.raises(error, match=fragment):
        fit_mixed(*arguments.values(), outer=outer)


# The same model by lme4 1.1-31 with bobyqa, rhobeg .2, rhoend 1e-9; variances in our order.
TIGHT = {
    "ML": {
        "loglik": -935.518899297863,
        "beta": [
            5.613907291038,
            0.641846762078,
            -0.702134292438,
            -2.375991662849,
            -2.869441008682,
            0.140387879051,
        ],
        "variances": [50.733496975179, -0.556229684762, 0.184397139840, 23.994461902975],
    },
    "REML": {
        "loglik": -933.168055683929,
        "beta": [
            5.599240843991,
            0.642595119808,
            -0.698841938954,
            -2.366612027239,
            -2.864422737051,
            0.119384914174,
        ],
        "variances": [54.250820079822, -0.645734715991, 0.210414972407, 23.994952444928],
    },
}


@pytest.mark.reference
@pytest.mark.parametrize("method", ["REML", "ML"])
def test_beat_the_blues(method):
    folder = published_dir() / "A4_btheb"
    frame = pd.read_csv(folder / "btheb_long.csv").dropna(subset=["bdi"])
    peers = json.loads((folder / "peer_results.json").read_text())
    y, time_ = frame["bdi"].to_numpy(), frame["time"].to_numpy(float)
    group = np.unique(frame["subject"], return_inverse=True)[1]
    treated, drug = frame["treatment"] == "BtheB", frame["drug"] == "Yes"
    long = frame["length"] == ">6m"
    X = np.column_stack([np.ones(len(y)), frame["bdi.pre"], time_, treated, drug, long])
    X = X.astype(float)
    fits = {}
    for name, q in (("intercept", 1), ("slope", 2)):
        peer = peers[f"random_{name}_{method}"]
        fit = fits[name] = fit_mixed(y, X, X[:, [0, 2]][:, :q], group, reml=method == "REML")
        assert peer["logLik"] - LOGLIK_BELOW <= fit.loglik <= peer["logLik"] + 1e-4
        # lme4's default optimiser, which made the file, stops short with the slope: see below.
        estimates = [term["Estimate"] for term in peer["fixef"]]
        errors = np.sqrt(np.diag(fit.beta_cov))
        np.testing.assert_allclose(fit.beta / errors, estimates / errors, atol=1e-4)
        np.testing.assert_allclose(fit.beta_cov, peer["vcov_fixef"], rtol=2e-3, atol=1e-5)
        variances = [entry["vcov"] for entry in peer["varcorr"]]
        expected = variances if q == 1 else [variances[k] for k in (0, 2, 1, 3)]
        np.testing.assert_allclose(fit.variances, expected, rtol=1e-3)
    fit = fits["slope"]
    assert fit.loglik >= TIGHT[method]["loglik"] - 1e-10
    np.testing.assert_allclose(fit.beta, TIGHT[method]["beta"], rtol=COEFFICIENT)
    np.testing.assert_allclose(fit.variances, TIGHT[method]["variances"], rtol=VARIANCE)
    if method == "ML":  # figure 13.2 of the vignette, every printed digit
        fit = fits["intercept"]
        printed = [5.59239, 0.63968, -0.70476, -2.32908, -2.82495, 0.19708]
        np.testing.assert_array_equal(np.round(fit.beta, 5), printed)
        errors = [2.24244, 0.07789, 0.14639, 1.67036, 1.72684, 1.63832]
        np.testing.assert_array_equal(np.round(np.sqrt(np.diag(fit.beta_cov)), 5), errors)
        assert np.round(fit.variances, 2).tolist() == [48.78, 25.14]
        assert round(fit.loglik, 2) == -935.75
        assert round(2 * (fits["slope"].loglik - fit.loglik), 4) == 0.4542


@pytest.mark.reference
def test_group_cohesion():
    folder = published_dir() / "F1_bh1996_cohesion"
    frame = pd.read_csv(folder / "bh1996.csv")
    peers = json.loads((folder / "peer_results.json").read_text())
    group, one = frame["GRP"].to_numpy(), np.ones((len(frame), 1))
    for name in ("COHES", "WBEING", "LEAD", "HRS"):
        peer = peers[f"null_{name}"]
        fit = fit_mixed(frame[name], one, one, group)
        assert fit.loglik >= peer["logLik"] - LOGLIK_BELOW
        assert fit.beta[0] == pytest.approx(peer["fixef"][0]["Estimate"], rel=COEFFICIENT)
        icc = fit.random_cov[0, 0] / (fit.random_cov[0, 0] + fit.residual_var)
        assert icc == pytest.approx(peer["icc_reml"], rel=VARIANCE)
    mean = frame.groupby("GRP")["COHES"].transform("mean")
    X = np.column_stack([one, frame["COHES"] - mean, mean])
    fit = fit_mixed(frame["WBEING"], X, one, group)
    errors = np.sqrt(np.diag(fit.beta_cov))
    assert (round(fit.beta[1], 4), round(errors[1], 4)) == (0.2495, 0.0119)
    assert (round(fit.beta[2], 4), round(errors[2], 4)) == (0.3146, 0.0970)
    peer = peers["wb_REML"]
    assert fit.loglik >= peer["logLik"] - LOGLIK_BELOW
    np.testing.assert_allclose(
        fit.beta, [term["Estimate"] for term in peer["fixef"]], rtol=COEFFICIENT
    )
    np.testing.assert_allclose(
        fit.variances, [entry["vcov"] for entry in peer["varcorr"]], rtol=VARIANCE
    )
