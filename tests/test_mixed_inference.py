"""Degrees of freedom, adjusted and robust errors of mixed models.

Independent sources: the definitions written down with n x n matrices; lmerTest, pbkrtest and
clubSandwich on a simulated practice (``tests/reference/simulated/multilevel``).

Tolerances. Against dense matrices only rounding is left. Peers are compared at their own variance
estimates, so Kenward-Roger and robust errors agree to all digits; lmerTest takes its Hessian by
differences, good to 1e-6.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_files import SIMULATED, simulated
from scipy.linalg import sqrtm
from scipy.stats import chi2

from alliancedyn.engine.blocks import Components, summarise_blocks
from alliancedyn.engine.clustered import _quadrature, clustered_cov
from alliancedyn.engine.mixed import fit_mixed
from alliancedyn.engine.mixed_effects import variance_names
from alliancedyn.engine.mixed_inference import (
    Freedom,
    freedom_of,
    kenward_roger,
    mixture_lrt,
    satterthwaite,
)
from alliancedyn.engine.mixed_information import mixed_information
from alliancedyn.errors import ConvergenceError, DataError, SpecificationError

ROUNDING = 1e-9
PEER = 1e-9
LMERTEST = 1e-5

HERE = Path(__file__).parent / "reference" / "mixed"
PEERS = json.loads((HERE / "covariance.json").read_text(encoding="utf-8"))
CASE = "multilevel"
WORLD = Components(np.array([[1.0, 0.3], [0.3, 0.5]]), 1.3, 0.4)


class Dense:
    """The model of a small practice with every matrix over rows written out."""

    def __init__(self, seed=1, outer=True, single=True):
        rng = np.random.default_rng(seed)
        clients, therapists = 14, 4
        parent = rng.integers(0, therapists, clients)
        parent[:therapists] = np.arange(therapists)
        sizes = rng.integers(1, 7, clients)
        sizes[0] = 1 if single else 3
        order = rng.permutation(int(sizes.sum()))
        self.group = np.repeat(np.arange(clients), sizes)[order]
        self.outer = parent[self.group]
        self.parent = parent
        n = len(self.group)
        self.X = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
        self.Z = self.X[:, :2].copy()
        self.y = self.X @ [20.0, -1.0, 0.5] + 2.0 * rng.normal(size=n)
        self.y += rng.normal(size=clients)[self.group]
        self.world = WORLD if outer else Components(WORLD.random_cov, WORLD.residual_var)
        self.blocks = summarise_blocks(
            self.y, self.X, self.Z, self.group, self.outer if outer else None
        )
        self.parts = self._parts(outer)
        theta = [1.0, 0.3, 0.5, *([0.4] if outer else []), 1.3]
        self.V = sum(value * part for value, part in zip(theta, self.parts, strict=True))
        self.W = np.linalg.inv(self.V)
        self.C = np.linalg.inv(self.X.T @ self.W @ self.X)
        self.P = self.W - self.W @ self.X @ self.C @ self.X.T @ self.W
        self.beta = self.C @ self.X.T @ self.W @ self.y

    def _parts(self, outer):
        same = self.group[:, None] == self.group[None, :]
        z = self.Z.T
        parts = [
            same * np.outer(z[0], z[0]),
            same * (np.outer(z[0], z[1]) + np.outer(z[1], z[0])),
            same * np.outer(z[1], z[1]),
        ]
        if outer:
            parts.append((self.outer[:, None] == self.outer[None, :]).astype(float))
        return [*parts, np.eye(len(self.y))]

    def robust(self, cluster):
        """CR2 as Pustejovsky and Tipton define it, and its degrees of freedom."""
        labels = cluster[self.group]
        scores, a = [], []
        for c in np.unique(labels):
            rows = np.flatnonzero(labels == c)
            X, Phi = self.X[rows], self.V[np.ix_(rows, rows)]
            D = np.linalg.cholesky(Phi).T
            B = D @ (Phi - X @ self.C @ X.T) @ D.T
            roots, axes = np.linalg.eigh(B)
            keep = roots > 1e-10 * roots.max()
            A = D.T @ (axes[:, keep] / np.sqrt(roots[keep])) @ axes[:, keep].T @ D
            W = np.linalg.inv(Phi)
            scores.append(self.C @ X.T @ W @ A @ (self.y[rows] - X @ self.beta))
            wide = np.zeros((len(self.y), X.shape[1]))
            wide[rows] = A @ W @ X @ self.C
            a.append(wide)
        spread = self.V - self.X @ self.C @ self.X.T
        df = []
        for j in range(self.X.shape[1]):
            L = np.column_stack([part[:, j] for part in a])
            P = L.T @ spread @ L
            df.append(np.trace(P) ** 2 / (P**2).sum())
        S = np.array(scores)
        return S.T @ S, np.array(df)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_information_follows_from_its_definition(seed, outer, reml):
    dense = Dense(seed, outer)
    known = mixed_information(dense.blocks, dense.world, reml=reml)
    inside = dense.P if reml else dense.W
    expected = [[0.5 * np.trace(inside @ a @ inside @ b) for b in dense.parts] for a in dense.parts]
    Py = dense.P @ dense.y
    observed = np.array([[Py @ a @ dense.P @ b @ Py for b in dense.parts] for a in dense.parts])
    slopes = [dense.C @ dense.X.T @ dense.W @ a @ dense.W @ dense.X @ dense.C for a in dense.parts]
    assert known.names == variance_names(2, outer)
    assert known.beta == pytest.approx(dense.beta, rel=ROUNDING)
    assert known.beta_cov == pytest.approx(dense.C, rel=ROUNDING)
    assert known.expected == pytest.approx(np.array(expected), rel=ROUNDING)
    assert known.observed == pytest.approx(observed - expected, rel=ROUNDING, abs=ROUNDING)
    assert known.slopes == pytest.approx(np.array(slopes), rel=ROUNDING, abs=1e-12)


@pytest.mark.parametrize("outer", [True, False])
def test_observed_information_is_the_curvature_of_the_likelihood(outer):
    dense = Dense(5, outer)

    def loglik(theta):
        V = sum(value * part for value, part in zip(theta, dense.parts, strict=True))
        W = np.linalg.inv(V)
        information = dense.X.T @ W @ dense.X
        r = dense.y - dense.X @ np.linalg.solve(information, dense.X.T @ W @ dense.y)
        return -0.5 * (np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1] + r @ W @ r)

    theta = np.array([1.0, 0.3, 0.5, *([0.4] if outer else []), 1.3])
    step = 2e-4 * np.eye(len(theta))
    curvature = [
        [
            loglik(theta + a + b)
            - loglik(theta + a - b)
            - loglik(theta - a + b)
            + loglik(theta - a - b)
            for b in step
        ]
        for a in step
    ]
    known = mixed_information(dense.blocks, dense.world)
    assert known.observed == pytest.approx(-np.array(curvature) / 1.6e-7, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("outer", [True, False])
def test_kenward_roger_follows_from_its_definition(outer):
    dense = Dense(4, outer)
    adjusted = kenward_roger(dense.blocks, dense.world)
    X, W, C = dense.X, dense.W, dense.C
    information = np.array(
        [[0.5 * np.trace(dense.P @ a @ dense.P @ b) for b in dense.parts] for a in dense.parts]
    )
    weight = np.linalg.inv(information)
    inner = np.zeros_like(C)
    for k, a in enumerate(dense.parts):
        for m, b in enumerate(dense.parts):
            Q = X.T @ W @ a @ W @ b @ W @ X
            inner += weight[k, m] * (Q - (X.T @ W @ a @ W @ X) @ C @ (X.T @ W @ b @ W @ X))
    assert adjusted.cov == pytest.approx(C + 2.0 * C @ inner @ C, rel=ROUNDING)
    # For one effect Kenward and Roger's degrees of freedom are Satterthwaite's, with W for the
    # covariance of the variances.
    known = mixed_information(dense.blocks, dense.world)
    expected = satterthwaite(np.eye(3), C, known.slopes, weight)
    assert adjusted.of(np.eye(3)) == pytest.approx(expected, rel=ROUNDING)
    statistic, df1, df2 = adjusted.wald(np.eye(3)[1:2])
    assert (df1, df2) == (1, pytest.approx(expected[1], rel=ROUNDING))
    assert statistic == pytest.approx(dense.beta[1] ** 2 / adjusted.cov[1, 1], rel=ROUNDING)


@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_robust_errors_follow_from_their_definition(seed, outer):
    dense = Dense(seed, outer)
    cov, df = dense.robust(dense.parent)
    found = clustered_cov(dense.blocks, dense.world, dense.parent)
    assert found.clusters == 4
    assert found.beta == pytest.approx(dense.beta, rel=ROUNDING)
    assert found.cov == pytest.approx(cov, rel=1e-8)
    assert found.freedom(np.eye(3)) == pytest.approx(df, rel=1e-8)
    assert found.scores.T @ found.scores == pytest.approx(found.cov, rel=ROUNDING)


def test_robust_errors_by_client():
    dense = Dense(6, outer=False)
    cov, df = dense.robust(np.arange(14))
    found = clustered_cov(dense.blocks, dense.world)
    assert found.cov == pytest.approx(cov, rel=1e-8)
    assert found.freedom(np.eye(3)) == pytest.approx(df, rel=1e-8)


def test_robust_errors_where_one_cluster_carries_an_effect_alone():
    """Leverage 1: the adjustment exists on what is left of that cluster (good to 1e-4)."""
    dense = Dense(2, outer=False, single=False)
    dense.X = np.column_stack([dense.X, dense.parent[dense.group] == 2]).astype(float)
    dense.C = np.linalg.inv(dense.X.T @ dense.W @ dense.X)
    dense.beta = dense.C @ dense.X.T @ dense.W @ dense.y
    blocks = summarise_blocks(dense.y, dense.X, dense.Z, dense.group)
    cov, _ = dense.robust(dense.parent)
    found = clustered_cov(blocks, dense.world, dense.parent)
    assert found.cov == pytest.approx(cov, rel=1e-4, abs=1e-4)


def test_small_sample_factors():
    dense = Dense(1)
    plain = clustered_cov(dense.blocks, dense.world, correction="CR0").cov
    n, m, p = len(dense.y), 4, 3
    one = clustered_cov(dense.blocks, dense.world, correction="CR1").cov
    stata = clustered_cov(dense.blocks, dense.world, correction="CR1S").cov
    assert one == pytest.approx(plain * m / (m - 1), rel=ROUNDING)
    assert stata == pytest.approx(plain * m * (n - 1) / ((m - 1) * (n - p)), rel=ROUNDING)
    r = dense.W @ (dense.y - dense.X @ dense.beta)
    scores = [dense.X[dense.outer == b].T @ r[dense.outer == b] for b in range(m)]
    meat = sum(np.outer(s, s) for s in scores)
    assert plain == pytest.approx(dense.C @ meat @ dense.C, rel=ROUNDING)


def test_integral_gives_the_inverse_root():
    rng = np.random.default_rng(3)
    for span in (1.0, 1e2, 1e6, 1e12):
        nodes, weights = _quadrature(1.0, 2.0 * span)
        k = np.exp(rng.uniform(0.0, np.log(2.0 * span), 50))
        roots = (weights / (k[:, None] + nodes**2)).sum(axis=1)
        assert roots == pytest.approx(k**-0.5, rel=1e-10)
    K = np.array([[2.0, 0.3], [0.1, 1.0]])
    nodes, weights = _quadrature(0.5, 4.0)
    root = sum(w * np.linalg.inv(K + t**2 * np.eye(2)) for t, w in zip(nodes, weights, strict=True))
    assert root == pytest.approx(np.linalg.inv(sqrtm(K)), rel=1e-10)


def practice(name):
    """Return blocks, clients' therapists and the peer's answer with its variances."""
    if not (SIMULATED / CASE).is_dir():
        pytest.skip(f"no reference data: {CASE}")
    peer = simulated(CASE, name)
    frame = pd.read_csv(SIMULATED / CASE / "sessions.csv")
    frame = frame[frame[peer["rows"].split()[0]] == 1]
    columns = ["alliance_within_lag1", "alliance_between", "session0"]
    if "symptoms_within_lag1" in peer["formula"]:
        columns.append("symptoms_within_lag1")
    X = np.column_stack([np.ones(len(frame)), frame[columns]])
    group = np.unique(frame["client"], return_inverse=True)[1]
    therapist = np.unique(frame["therapist"], return_inverse=True)[1]
    variance = peer["variance"]
    G = np.array([[variance["random_cov[intercept,intercept]"]]])
    if "random_cov[alliance,alliance]" in variance:
        off = variance["random_cov[intercept,alliance]"]
        G = np.array([[G[0, 0], off], [off, variance["random_cov[alliance,alliance]"]]])
    outer = variance.get("therapist_random_cov[intercept,intercept]")
    nested = therapist if outer is not None else None
    blocks = summarise_blocks(frame["symptoms"].to_numpy(), X, X[:, : len(G)], group, nested)
    of_client = np.zeros(len(blocks.gram), dtype=np.int64)
    of_client[group] = therapist
    components = Components(G, variance["residual_var[symptoms]"], outer or 0.0)
    return blocks, components, of_client, peer


@pytest.mark.reference
@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("model", ["a", "b", "c", "d", "d2", "e"])
def test_agrees_with_lmertest_pbkrtest_and_clubsandwich(model, method):
    blocks, components, therapist, peer = practice(f"{model}_lme4_{method}")
    reml = method == "reml"
    known = mixed_information(blocks, components, reml=reml)
    each = np.eye(blocks.columns)
    published = [value["df_satterthwaite"] for value in peer["params"].values()]
    assert freedom_of(known).of(each, known.beta_cov) == pytest.approx(published, rel=LMERTEST)
    if reml:
        adjusted = kenward_roger(blocks, components)
        assert adjusted.of(each) == pytest.approx(list(peer["kenward_roger_df"].values()), rel=PEER)
        errors = list(peer["kenward_roger_se"].values())
        assert np.sqrt(np.diag(adjusted.cov)) == pytest.approx(errors, rel=PEER)
    for correction, robust in peer["cluster_robust_se_therapist"].items():
        found = clustered_cov(blocks, components, therapist, correction=correction)
        assert np.sqrt(np.diag(found.cov)) == pytest.approx(list(robust.values()), rel=PEER)


def test_joined_equations_keep_their_own_freedom():
    first, second = Dense(1), Dense(2, outer=False)
    known = [mixed_information(d.blocks, d.world) for d in (first, second)]
    joined = Freedom.join([freedom_of(part) for part in known])
    cov = np.zeros((6, 6))
    cov[:3, :3], cov[3:, 3:] = first.C, second.C
    alone = [freedom_of(part).of(np.eye(3), part.beta_cov) for part in known]
    assert joined.of(np.eye(6), cov) == pytest.approx(np.concatenate(alone), rel=ROUNDING)
    # A difference between equations has between the smaller df and the sum of both.
    mixed = joined.of(np.array([[0, 1, 0, 0, -1, 0]]), cov)[0]
    assert min(alone[0][1], alone[1][1]) <= mixed <= alone[0][1] + alone[1][1]


def test_known_variances_leave_infinite_freedom():
    held = Freedom(np.zeros((2, 3, 3)), np.eye(2))
    assert np.isinf(held.of(np.eye(3), np.eye(3))).all()
    with pytest.raises(SpecificationError, match="weights"):
        held.of(np.ones((1, 2)), np.eye(3))


@pytest.mark.parametrize(
    ("G", "outer", "free"),
    [
        ([[1.0, 0.5], [0.5, 0.25]], 0.4, 4),  # correlation of 1
        ([[0.0, 0.0], [0.0, 0.0]], 0.4, 2),
        ([[1.0, 0.0], [0.0, 0.0]], 0.0, 3),  # variance and covariance may move along the face
        ([[1.0, 0.3], [0.3, 0.5]], 0.0, 4),
    ],
)
def test_variances_at_their_bound_are_taken_as_known(G, outer, free):
    dense = Dense(3)
    at_bound = Components(np.array(G), 1.3, outer)
    known = mixed_information(dense.blocks, at_bound)
    assert known.free.shape == (5, free)
    df = freedom_of(known).of(np.eye(3), known.beta_cov)
    assert np.isfinite(df).all() and (df > 0.0).all()
    adjusted = kenward_roger(dense.blocks, at_bound)
    assert np.isfinite(adjusted.of(np.eye(3))).all()
    if outer == 0.0:
        assert not known.variance_cov[3].any()
        robust = clustered_cov(dense.blocks, at_bound, dense.parent)
        assert np.linalg.eigvalsh(robust.cov).min() > 0.0


def test_an_outer_variance_of_zero_leaves_the_model_without_it():
    data = Dense(3)
    zero = mixed_information(data.blocks, Components(WORLD.random_cov, 1.3, 0.0))
    alone = mixed_information(Dense(3, outer=False).blocks, Components(WORLD.random_cov, 1.3))
    each = np.eye(3)
    df = freedom_of(alone).of(each, alone.beta_cov)
    assert freedom_of(zero).of(each, zero.beta_cov) == pytest.approx(df, rel=1e-8)


def test_no_random_effects_is_ordinary_least_squares():
    dense = Dense(3, outer=False)
    plain = Components(np.zeros((2, 2)), 1.7)
    known = mixed_information(dense.blocks, plain)
    n = len(dense.y)
    df = freedom_of(known).of(np.eye(3), known.beta_cov)
    r = dense.y - dense.X @ known.beta
    # observed information about sigma^2: r'r / sigma^6 - (n - p) / (2 sigma^4)
    information = r @ r / 1.7**3 - 0.5 * (n - 3) / 1.7**2
    assert df == pytest.approx(np.full(3, 2.0 * 1.7**2 * information), rel=ROUNDING)
    assert kenward_roger(dense.blocks, plain).of(np.eye(3)) == pytest.approx(
        np.full(3, n - 3.0), rel=ROUNDING
    )


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    stretch=st.floats(1e-3, 1e3),
    times=st.floats(1e-3, 1e3),
)
def test_units_and_order_do_not_matter(seed, stretch, times):
    dense = Dense(8)
    rng = np.random.default_rng(seed)
    order, label = rng.permutation(len(dense.y)), rng.permutation(14)
    unit = np.array([1.0, stretch, 1.0])
    blocks = summarise_blocks(
        times * dense.y[order],
        (dense.X * unit)[order],
        (dense.Z * unit[:2])[order],
        label[dense.group[order]],
        dense.outer[order],
    )
    G = times**2 * WORLD.random_cov / np.outer(unit[:2], unit[:2])
    moved = Components(G, times**2 * WORLD.residual_var, times**2 * WORLD.outer_var)
    scale = times / unit
    before, after = (mixed_information(b, c) for b, c in ((dense.blocks, WORLD), (blocks, moved)))
    assert after.beta == pytest.approx(scale * before.beta, rel=1e-7)
    df = freedom_of(before).of(np.eye(3), before.beta_cov)
    assert freedom_of(after).of(np.eye(3), after.beta_cov) == pytest.approx(df, rel=1e-6)
    for correction in ("CR0", "CR2"):
        found = clustered_cov(blocks, moved, correction=correction).cov
        cov = clustered_cov(dense.blocks, WORLD, correction=correction).cov
        assert found / np.outer(scale, scale) == pytest.approx(cov, rel=1e-6)
    assert kenward_roger(blocks, moved).of(np.eye(3)) == pytest.approx(
        kenward_roger(dense.blocks, WORLD).of(np.eye(3)), rel=1e-6
    )


def test_mixtures_of_the_boundary():
    # Stram and Lee: the 5 % points of the two mixtures are 2.71 and 5.14.
    one = mixture_lrt(-100.0, -100.0 + 2.7055 / 2, "intercept")
    assert one.df == (0, 1)
    assert one.p_value == pytest.approx(0.05, rel=1e-3)
    two = mixture_lrt(-100.0, -100.0 + 5.1387 / 2, "slope")
    assert two.df == (1, 2)
    assert two.p_value == pytest.approx(0.05, rel=1e-3)
    three = mixture_lrt(-100.0, -97.0, "slope", effects=2)
    assert three.p_value == pytest.approx(0.5 * (chi2.sf(6, 2) + chi2.sf(6, 3)), rel=1e-12)
    assert mixture_lrt(-5.0, -5.0, "outer").p_value == 1.0
    assert mixture_lrt(-5.0, -5.00001, "outer").statistic == 0.0
    assert "half chi-square(1)" in one.text


def test_mixture_refuses_what_is_no_nested_pair():
    with pytest.raises(ConvergenceError, match="smaller one's"):
        mixture_lrt(-5.0, -6.0, "intercept")
    with pytest.raises(SpecificationError, match="Unknown random effect"):
        mixture_lrt(-5.0, -4.0, "trend")
    with pytest.raises(SpecificationError, match="at least one"):
        mixture_lrt(-5.0, -4.0, "slope", effects=0)


def test_refusals_name_the_remedy():
    dense = Dense(1)
    with pytest.raises(DataError, match="finite"):
        summarise_blocks(np.where(dense.y > 21, np.nan, dense.y), dense.X, dense.Z, dense.group)
    with pytest.raises(DataError, match="one row per score"):
        summarise_blocks(dense.y, dense.X[1:], dense.Z, dense.group)
    with pytest.raises(SpecificationError, match="more than one outer unit"):
        summarise_blocks(dense.y, dense.X, dense.Z, dense.group, dense.group[::-1] % 3)
    with pytest.raises(SpecificationError, match="split an outer unit"):
        clustered_cov(dense.blocks, WORLD, np.arange(14))
    with pytest.raises(DataError, match="one integer code per client"):
        clustered_cov(dense.blocks, WORLD, np.arange(5))
    with pytest.raises(DataError, match="without gaps"):
        clustered_cov(dense.blocks, WORLD, 2 * dense.parent)
    with pytest.raises(SpecificationError, match="One cluster"):
        clustered_cov(dense.blocks, WORLD, np.zeros(14, dtype=int))
    with pytest.raises(SpecificationError, match="Unknown correction"):
        clustered_cov(dense.blocks, WORLD, correction="HC3")
    with pytest.raises(SpecificationError, match="CR2"):
        clustered_cov(dense.blocks, WORLD, correction="CR0").freedom(np.eye(3))
    with pytest.raises(SpecificationError, match="residual variance"):
        mixed_information(dense.blocks, Components(WORLD.random_cov, 0.0))
    with pytest.raises(SpecificationError, match="dependent"):
        kenward_roger(dense.blocks, WORLD).wald(np.ones((2, 3)))


def small_samples(outer):
    frame = pd.read_csv(HERE.parent / "simulated" / "multilevel" / "sessions.csv")
    frame = frame[frame["use"] == 1]
    columns = ["alliance_within_lag1", "alliance_between", "session0"]
    X = np.column_stack([np.ones(len(frame)), frame[columns]])
    nested = frame["therapist"].to_numpy() if outer else None
    return summarise_blocks(frame["symptoms"].to_numpy(), X, X[:, :2], frame["client"], nested)


def test_joint_test_agrees_with_pbkrtest():
    peer = PEERS["small_samples"]
    blocks = small_samples(outer=True)
    found = Components(np.array(peer["random"]), peer["residual"], peer["outer"])
    statistic, df1, df2 = kenward_roger(blocks, found).wald(np.eye(4)[1:3])
    assert df1 == 2
    assert df2 == pytest.approx(peer["kr_df"], rel=PEER)
    assert statistic == pytest.approx(peer["kr_statistic"], rel=PEER)
    robust = clustered_cov(blocks, found)
    assert robust.freedom(np.eye(4)) == pytest.approx(peer["cr2_df"], rel=PEER)


def test_robust_errors_by_client_agree_with_clubsandwich():
    peer = PEERS["by_client"]
    found = Components(np.array(peer["random"]), peer["residual"])
    robust = clustered_cov(small_samples(outer=False), found)
    assert np.sqrt(np.diag(robust.cov)) == pytest.approx(peer["cr2_se"], rel=PEER)
    assert robust.freedom(np.eye(4)) == pytest.approx(peer["cr2_df"], rel=PEER)


@pytest.mark.reference
@pytest.mark.parametrize("model", ["a", "b", "d2", "e"])
def test_follows_a_fit_of_our_own(model):
    """From rows to degrees of freedom: two routes to the information, and lmerTest's figures."""
    blocks, _, therapist, peer = practice(f"{model}_lme4_reml")
    frame = pd.read_csv(SIMULATED / CASE / "sessions.csv")
    frame = frame[frame[peer["rows"].split()[0]] == 1]
    names = ["alliance_within_lag1", "alliance_between", "session0", "symptoms_within_lag1"]
    X = np.column_stack([np.ones(len(frame)), frame[names[: blocks.columns - 1]]])
    y, Z = frame["symptoms"].to_numpy(), X[:, : blocks.effects]
    outer = frame["therapist"] if blocks.outer is not None else None
    fit = fit_mixed(y, X, Z, frame["client"], outer=outer)
    found = Components(fit.random_cov, fit.residual_var, fit.outer_var)
    own = mixed_information(summarise_blocks(y, X, Z, frame["client"], outer), found)
    assert own.names == fit.variance_names
    assert own.beta == pytest.approx(fit.beta, rel=1e-9)
    assert own.variance_cov == pytest.approx(fit.variance_cov, rel=1e-5, abs=1e-9)
    assert own.slopes == pytest.approx(fit.beta_cov_slopes, rel=1e-5, abs=1e-12)
    df = Freedom(fit.beta_cov_slopes, fit.variance_cov).of(np.eye(len(fit.beta)), fit.beta_cov)
    published = [value["df_satterthwaite"] for value in peer["params"].values()]
    assert df == pytest.approx(published, rel=1e-3)
    robust = clustered_cov(blocks, found, therapist)
    errors = list(peer["cluster_robust_se_therapist"]["CR2"].values())
    assert np.sqrt(np.diag(robust.cov)) == pytest.approx(errors, rel=1e-4)


def test_clusters_of_many_thousand_rows_need_no_matrix_over_rows():
    """Without random effects s_c = (I - X_c'X_c M)^(-1/2) X_c'e_c, a matrix of p by p."""
    rng = np.random.default_rng(21)
    n, clients = 60_000, 3_000
    group = np.repeat(np.arange(clients), 20)
    cluster = np.minimum(np.arange(clients) // 900, 3)  # three of 18,000 rows, one of 6,000
    X = np.column_stack([np.ones(n), rng.normal(size=n), cluster[group] + rng.normal(size=n)])
    y = X @ [3.0, 1.0, -1.0] + rng.normal(size=n) * (1.0 + cluster[group])
    blocks = summarise_blocks(y, X, X[:, :1], group)
    found = clustered_cov(blocks, Components(np.zeros((1, 1)), 4.0), cluster)
    M = np.linalg.inv(X.T @ X)
    e = y - X @ (M @ X.T @ y)
    scores = []
    for c in range(4):
        rows = cluster[group] == c
        left = np.eye(3) - X[rows].T @ X[rows] @ M
        scores.append(M @ np.linalg.solve(np.real(sqrtm(left)), X[rows].T @ e[rows]))
    assert found.scores == pytest.approx(np.array(scores), rel=1e-8, abs=1e-12)


def test_mixture_keeps_its_size():
    """A random slope that is not there is found in 5, 10 and 20 of 100 samples."""
    rng = np.random.default_rng(1)
    clients, sessions, samples = 80, 6, 300
    group = np.repeat(np.arange(clients), sessions)
    moment = np.tile(np.arange(sessions) - 2.5, clients)
    X = np.column_stack([np.ones(len(group)), moment])
    p_values = []
    for _ in range(samples):
        y = rng.normal(size=len(group)) + rng.normal(size=clients)[group]
        small, large = fit_mixed(y, X, X[:, :1], group), fit_mixed(y, X, X, group)
        p_values.append(mixture_lrt(small.loglik, large.loglik, "slope").p_value)
    for size in (0.05, 0.1, 0.2):
        error = np.sqrt(size * (1.0 - size) / samples)
        assert abs(np.mean(np.array(p_values) < size) - size) < 2.6 * error
