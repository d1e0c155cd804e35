"""The wide route: implied moments, dense likelihood, saturated model, independence."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from dense_systems import crosslagged
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_files import (
    estimates,
    panel_scores,
    published_dir,
    simulated,
    simulated_names,
    to_wide,
)
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, norm

from alliancedyn.engine import kalman
from alliancedyn.engine.moments import find_patterns, implied_moments, loglik_by_client
from alliancedyn.engine.saturated import independence, saturated
from alliancedyn.errors import DataError, SpecificationError

LOGLIK = 1e-10  # relative; both sides are the same normal densities in double precision
MAXIMUM = 1e-9  # relative; lavaan's EM stops when no moment moves by more than 1e-5


def holes(rng, Y, rate=0.15, dropout=0.4):
    """Knock out cells at random and the tail of some rows; every row keeps its first score."""
    Y = Y.copy()
    n, p = Y.shape
    Y[rng.random(Y.shape) < rate] = np.nan
    leaves = rng.random(n) < dropout
    last = np.where(leaves, rng.integers(1, p + 1, n), p)
    Y[np.arange(p) >= last[:, None]] = np.nan
    return Y


def correlated(rng, n, p, rho=0.5):
    cov = rho ** np.abs(np.subtract.outer(np.arange(p), np.arange(p))) + 0.3
    return 10.0 + rng.standard_normal((n, p)) @ np.linalg.cholesky(cov).T


def by_scipy(Y, mean, cov):
    out = np.zeros(len(Y))
    for i, row in enumerate(Y):
        o = ~np.isnan(row)
        if o.any():
            out[i] = multivariate_normal(mean[o], cov[np.ix_(o, o)]).logpdf(row[o])
    return out


# ---------------------------------------------------------------- implied moments


def crosslagged_files():
    for case in ("crosslagged_complete", "crosslagged_missing"):
        for name in simulated_names(case):
            other = ("group", "covariate", "starts", "lcmsr", "alt")
            # lavaan meets the stationarity constraint to a few digits only; OpenMx stands in
            loose = name == "riclpm_stationary"
            if "clpm" in name and not loose and not any(word in name for word in other):
                yield pytest.param(case, name, id=f"{case}-{name}")


@pytest.mark.parametrize(("case", "name"), list(crosslagged_files()))
def test_implied_moments_give_the_published_loglik(case, name):
    peer = simulated(case, name)
    Y = panel_scores(case, "growth" if "growth" in name else "panel")[0]
    mean, cov = implied_moments(crosslagged(estimates(peer), Y.shape[1]))
    ours = loglik_by_client(to_wide(Y), mean, cov).sum()
    assert ours == pytest.approx(peer["loglik"], rel=LOGLIK)


@pytest.mark.parametrize("name", ["clpm_equal", "riclpm_equal_innov", "riclpm_free"])
def test_likelihood_away_from_the_maximum(name):
    peer = simulated("likelihood_values", name)
    Y = panel_scores("crosslagged_missing")[0]
    for point in peer["points"]:
        mean, cov = implied_moments(crosslagged(point["params"], Y.shape[1]))
        by_client = loglik_by_client(to_wide(Y), mean, cov)
        assert by_client.sum() == pytest.approx(point["loglik"], rel=LOGLIK)
        assert by_client[:5] == pytest.approx(point["first_five_clients"], rel=LOGLIK)
        in_peer_order = np.r_[np.arange(0, 16, 2), np.arange(1, 16, 2)]
        assert mean[in_peer_order] == pytest.approx(point["implied_mean"], rel=1e-12)
        assert cov[0, in_peer_order] == pytest.approx(point["implied_cov_first_row"], rel=1e-10)


def general_system(rng, sessions=6):
    """Three scores on two VAR states and one constant state, correlated, with noise."""
    root = rng.standard_normal((3, 3))
    psi = np.array([np.eye(2) * 0.5, [[0.8, 0.2], [0.2, 0.4]]])
    return kalman.StateSpace(
        phi=rng.uniform(-0.4, 0.5, (2, 2, 2)),
        phi_at=np.array([0, 1, 0, 1, 1, 0])[:sessions],
        psi=psi,
        psi_at=np.array([0, 0, 1, 1, 0, 1])[:sessions],
        mean=rng.standard_normal((2, 3)),
        mean_at=np.array([0, 1, 1, 0, 0, 1])[:sessions],
        initial_cov=root @ root.T + np.eye(3),
        load_index=np.array([[0, 2], [1, 2], [0, 1]]),
        load=np.array([[[1.0, 1.0], [1.0, 0.7], [0.5, -0.4]]]),
        load_at=np.zeros(sessions, np.int64),
        noise=np.array([[0.1, 0.0, 0.3]]),
        noise_at=np.zeros(sessions, np.int64),
        drive=np.zeros((3, 0)),
    )


def test_implied_moments_match_simulated_scores():
    rng = np.random.default_rng(3)
    system, n = general_system(rng), 200_000
    H = np.zeros((3, 3))
    for j in range(3):
        for at, loading in zip(system.load_index[j], system.load[0, j], strict=True):
            H[j, at] += loading
    x = rng.standard_normal((n, 3)) @ np.linalg.cholesky(system.initial_cov).T
    scores = []
    for t in range(6):
        if t:
            shock = rng.standard_normal((n, 2)) @ np.linalg.cholesky(system.psi[system.psi_at[t]]).T
            x[:, :2] = x[:, :2] @ system.phi[system.phi_at[t]].T + shock
        noise = rng.standard_normal((n, 3)) * np.sqrt(system.noise[0])
        scores.append(system.mean[system.mean_at[t]] + x @ H.T + noise)
    drawn = np.concatenate(scores, axis=1)
    mean, cov = implied_moments(system)
    sd = np.sqrt(np.diag(cov))
    assert np.abs((drawn.mean(axis=0) - mean) / sd).max() < 4.5 / np.sqrt(n)
    gap = (np.cov(drawn.T, bias=True) - cov) / np.outer(sd, sd)
    assert np.abs(gap).max() < 4.5 * np.sqrt(2.0 / n)


def test_the_filter_and_the_wide_route_agree():
    rng = np.random.default_rng(4)
    system = general_system(rng)
    mean, cov = implied_moments(system)
    Y = mean + rng.standard_normal((40, 18)) @ np.linalg.cholesky(cov).T
    Y[rng.random(Y.shape) < 0.3] = np.nan
    Y[5, 3:] = np.nan  # one session
    Y[6, 6:9] = np.nan  # a whole session in the middle
    Y[7] = np.nan
    filtered = kalman.loglik_by_client(system, kalman.Blocks.pack(Y.reshape(40, 6, 3)))
    assert loglik_by_client(Y, mean, cov) == pytest.approx(filtered, rel=1e-9, abs=1e-12)


def test_client_specific_systems_have_no_single_covariance():
    system = general_system(np.random.default_rng(0))
    own = kalman.StateSpace(**{**vars(system), "phi": np.repeat(system.phi[None], 4, axis=0)})
    with pytest.raises(SpecificationError, match="differ between clients"):
        implied_moments(own)


def test_a_hundred_sessions():
    params = {f"mean[{v}]": m for v, m in (("alliance", 5.0), ("symptoms", 12.0))}
    params |= estimates(simulated("crosslagged_missing", "riclpm_equal_innov_means"))
    system = crosslagged(params, 100)
    mean, cov = implied_moments(system)
    assert cov.shape == (200, 200)
    assert np.linalg.eigvalsh(cov)[0] > 0.0
    Y = np.random.default_rng(1).multivariate_normal(mean, cov, size=3)
    filtered = kalman.loglik_by_client(system, kalman.Blocks.pack(Y.reshape(3, 100, 2)))
    assert loglik_by_client(Y, mean, cov) == pytest.approx(filtered, rel=1e-9)


# ---------------------------------------------------------------- dense likelihood


def test_loglik_by_client_is_the_normal_density():
    rng = np.random.default_rng(0)
    Y = holes(rng, correlated(rng, 60, 7))
    Y[11] = np.nan
    mean, cov = np.full(7, 10.0), np.cov(correlated(rng, 500, 7).T)
    ours = loglik_by_client(Y, mean, cov)
    assert ours == pytest.approx(by_scipy(Y, mean, cov), rel=1e-12, abs=1e-12)
    assert ours[11] == 0.0


def test_a_covariance_that_is_none_gives_minus_infinity():
    cov = np.array([[1.0, 2.0], [2.0, 1.0]])
    ours = loglik_by_client(np.array([[0.0, 0.0], [0.0, np.nan]]), np.zeros(2), cov)
    assert ours[0] == -np.inf
    assert ours[1] == pytest.approx(norm.logpdf(0.0))


@pytest.mark.parametrize("p", [1, 7, 8, 63, 64, 65, 130])
def test_patterns_group_equal_rows(p):
    rng = np.random.default_rng(p)
    kinds = rng.random((9, p)) < 0.5
    seen = kinds[rng.integers(0, 9, 200)]
    found = find_patterns(seen)
    assert sorted(found.order) == list(range(200))
    assert len(np.unique(found.seen, axis=0)) == len(found.seen) == len(np.unique(seen, axis=0))
    for k, pattern in enumerate(found.seen):
        rows = found.order[found.start[k] : found.start[k + 1]]
        assert (seen[rows] == pattern).all()
        assert (np.diff(rows) > 0).all()


# ---------------------------------------------------------------- saturated model


@pytest.mark.parametrize(
    ("case", "which", "name"),
    [
        ("crosslagged_complete", "panel", "riclpm_equal"),
        ("crosslagged_complete", "growth", "growth_clpm_equal_innov"),
        ("crosslagged_missing", "panel", "riclpm_equal"),
        ("crosslagged_missing", "growth", "growth_clpm_equal_innov"),
    ],
)
def test_saturated_and_independent_loglik_are_those_of_lavaan(case, which, name):
    Y = to_wide(panel_scores(case, which)[0])
    peer = simulated(case, name)["fit"]
    free = saturated(Y)
    bare, n_params = independence(Y)
    assert free.converged and free.reason is None
    assert free.loglik == pytest.approx(peer["unrestricted.logl"], rel=MAXIMUM)
    assert 2 * (free.loglik - bare) == pytest.approx(peer["baseline.chisq"], rel=1e-8)
    assert (free.n_params, n_params) == (Y.shape[1] * (Y.shape[1] + 3) // 2, 2 * Y.shape[1])
    assert loglik_by_client(Y, free.mean, free.cov).sum() == pytest.approx(free.loglik, rel=1e-12)


def test_complete_data_are_closed_form():
    rng = np.random.default_rng(1)
    Y = correlated(rng, 80, 6)
    free = saturated(Y)
    assert free.iterations == 1
    assert free.mean == pytest.approx(Y.mean(axis=0), rel=1e-12)
    assert free.cov == pytest.approx(np.cov(Y.T, bias=True), rel=1e-10)
    assert free.loglik == pytest.approx(
        multivariate_normal(Y.mean(axis=0), np.cov(Y.T, bias=True)).logpdf(Y).sum(), rel=1e-12
    )


def test_dropout_alone_is_sequential_regression():
    rng = np.random.default_rng(2)
    Y = holes(rng, correlated(rng, 150, 3), rate=0.0, dropout=0.5)
    free = saturated(Y)
    assert free.iterations == 1
    first = Y[:, 0]
    assert free.mean[0] == pytest.approx(first.mean(), rel=1e-12)
    both = Y[~np.isnan(Y[:, 1])]
    slope, level = np.polyfit(both[:, 0], both[:, 1], 1)
    residual = np.var(both[:, 1] - level - slope * both[:, 0])
    assert free.mean[1] == pytest.approx(level + slope * first.mean(), rel=1e-10)
    assert free.cov[1, 1] == pytest.approx(residual + slope**2 * first.var(), rel=1e-10)
    assert free.cov[0, 1] == pytest.approx(slope * first.var(), rel=1e-10)


def test_holes_against_a_direct_optimizer():
    rng = np.random.default_rng(5)
    Y = holes(rng, correlated(rng, 120, 3), rate=0.25, dropout=0.3)
    free = saturated(Y)
    low = np.tril_indices(3)

    def negative(theta):
        factor = np.zeros((3, 3))
        factor[low] = theta[3:]
        return -loglik_by_client(Y, theta[:3], factor @ factor.T).sum()

    start = np.r_[np.nanmean(Y, axis=0), np.diag(np.nanstd(Y, axis=0))[low]]
    found = minimize(negative, start, method="BFGS", options={"gtol": 1e-5})
    assert free.loglik == pytest.approx(-found.fun, abs=1e-6)
    factor = np.linalg.cholesky(free.cov)[low]
    assert np.r_[free.mean, factor] == pytest.approx(found.x, abs=2e-4)


def test_the_maximum_is_stationary():
    rng = np.random.default_rng(6)
    Y = holes(rng, correlated(rng, 300, 8))
    free = saturated(Y)
    for i in range(8):
        for j in range(i + 1):
            moved = []
            for step in (1e-4, -1e-4):
                cov = free.cov.copy()
                cov[i, j] += step
                cov[j, i] = cov[i, j]
                moved.append(loglik_by_client(Y, free.mean, cov).sum())
            assert (moved[0] - moved[1]) / 2e-4 == pytest.approx(0.0, abs=2e-3)
            assert max(moved) <= free.loglik + 1e-9


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), p=st.integers(2, 6))
def test_order_units_and_empty_rows_do_not_matter(seed, p):
    rng = np.random.default_rng(seed)
    Y = holes(rng, correlated(rng, 150, p), rate=0.1, dropout=0.3)
    free = saturated(Y)
    rows, columns = rng.permutation(150), rng.permutation(p)
    moved = saturated(np.concatenate([Y[rows][:, columns], np.full((4, p), np.nan)]))
    assert moved.loglik == pytest.approx(free.loglik, rel=1e-9)
    assert moved.mean == pytest.approx(free.mean[columns], rel=1e-5)
    assert moved.cov == pytest.approx(free.cov[np.ix_(columns, columns)], rel=1e-3, abs=1e-4)
    factor = rng.uniform(0.01, 100.0, p)
    rescaled = saturated(Y * factor - 1e3)
    lost = ((~np.isnan(Y)).sum(axis=0) * np.log(factor)).sum()
    assert rescaled.loglik == pytest.approx(free.loglik - lost, rel=1e-9, abs=1e-5)
    assert rescaled.mean == pytest.approx(free.mean * factor - 1e3, rel=1e-5)
    assert rescaled.cov == pytest.approx(free.cov * np.outer(factor, factor), rel=1e-3, abs=1e-4)


def test_a_pattern_of_one_client_and_a_column_nobody_filled_in():
    rng = np.random.default_rng(8)
    Y = correlated(rng, 60, 5)
    Y[7, [0, 2, 3]] = np.nan
    Y[:, 4] = np.nan
    free = saturated(Y)
    assert free.reason is None
    assert free.n_params == 14
    assert np.isnan(free.mean[4]) and np.isnan(free.cov[4]).all()
    assert free.loglik == pytest.approx(saturated(Y[:, :4]).loglik, rel=1e-12)


def test_columns_seen_mostly_at_the_end():
    rng = np.random.default_rng(9)
    Y = holes(rng, correlated(rng, 200, 6), rate=0.0, dropout=0.5)[:, ::-1]  # late entry
    assert saturated(Y).iterations == 1
    assert saturated(Y).loglik == pytest.approx(saturated(Y[:, ::-1]).loglik, rel=1e-12)


def test_a_large_panel_takes_seconds():
    rng = np.random.default_rng(10)
    Y = holes(rng, correlated(rng, 100_000, 20), rate=0.1)
    saturated(Y[:500])
    started = time.perf_counter()
    assert saturated(Y).converged
    assert time.perf_counter() - started < 20.0


# ---------------------------------------------------------------- where it does not exist


def broken():
    rng = np.random.default_rng(11)
    Y = correlated(rng, 50, 4)
    constant, once, apart, copied, few = (Y.copy() for _ in range(5))
    constant[:, 2] = 3.0
    once[1:, 2] = np.nan
    apart[:25, 1], apart[25:, 3] = np.nan, np.nan
    copied[:, 3] = copied[:, 0] - copied[:, 1]
    copied[rng.random(copied.shape) < 0.1] = np.nan
    few[:47, 3] = np.nan
    return [
        pytest.param(np.full((5, 3), np.nan), "no scores", id="nothing"),
        pytest.param(np.empty((0, 3)), "no scores", id="nobody"),
        pytest.param(constant, "do not vary at 'c'", id="constant"),
        pytest.param(once, "do not vary at 'c'", id="one score"),
        pytest.param(apart, "1 pair of columns never seen together ('b' and 'd')", id="apart"),
        pytest.param(Y[:4], "14 moments from 4 clients", id="N = p"),
        pytest.param(few, "'d' were seen together by 3 of them", id="few together"),
        pytest.param(copied, "covariance turns singular", id="collinear"),
    ]


@pytest.mark.parametrize(("Y", "fragment"), broken())
def test_no_saturated_model_comes_with_its_reason(Y, fragment):
    free = saturated(Y, names=list("abcd")[: Y.shape[1]])
    assert free.reason is not None and fragment in free.reason
    assert not free.converged
    assert np.isnan(free.loglik) and np.isnan(free.mean).all() and np.isnan(free.cov).all()


def test_infinite_scores_and_wrong_names_are_refused():
    with pytest.raises(DataError, match="finite"):
        saturated(np.array([[1.0, np.inf], [2.0, 1.0]]))
    with pytest.raises(SpecificationError, match="3 names for 2 columns"):
        saturated(np.zeros((3, 2)), names=["a", "b", "c"])


def published_wide(path, client, session, variables):
    frame = pd.read_csv(published_dir() / path)
    wide = frame.pivot(index=client, columns=session, values=list(variables))
    return to_wide(np.stack([wide[v].to_numpy(float) for v in variables], axis=2))


@pytest.mark.reference
def test_the_real_trial_cannot_carry_a_saturated_model():
    Y = published_wide(
        "A1_implement_wai_bai/sessions_long.csv", "client", "session", ("wai", "bai")
    )
    names = [f"{v}@{t}" for t in range(1, 16) for v in ("wai", "bai")]
    free = saturated(Y, names=names)
    assert free.reason is not None
    assert "p(p+3)/2 = 495 moments from 57 clients" in free.reason
    assert "'wai@11' and 'wai@15' were seen together by 22 of them" in free.reason


@pytest.mark.reference
def test_a_small_real_panel_can():
    Y = published_wide("A3_claus2020/claus_2020.csv", "id", "time", ("bdi", "who"))
    free = saturated(Y)
    assert free.reason is None
    assert free.loglik == pytest.approx(-909.883808724615, rel=MAXIMUM)  # lavaan 0.6-14
