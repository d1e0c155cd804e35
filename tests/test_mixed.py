"""Variance components against lme4, nlme, statsmodels, closed forms and dense likelihoods."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_files import SIMULATED, published_dir, simulated

from alliancedyn.engine.mixed import fit_variance_components
from alliancedyn.engine.nested import ClusterStatistics, _ascend, _descend, maximise_components
from alliancedyn.engine.serial import fit_serial, mean_error_factor
from alliancedyn.errors import DataError, SpecificationError

HERE = Path(__file__).parent / "reference" / "mixed"
PEERS = json.loads((HERE / "peers.json").read_text(encoding="utf-8"))
# lme4 and nlme stop a little short of the maximum: quadratic in the log-likelihood, linear in the
# variances.
LOGLIK, VARIANCE = 1e-8, 1e-4


def scores(panel):
    frame = pd.read_csv(HERE / "scores.csv")
    return frame[frame["panel"] == panel].reset_index(drop=True)


def codes(column):
    return np.unique(column, return_inverse=True)[1]


def dense_loglik(y, groups, variances, residual, X, reml):
    """Write the (restricted) likelihood down as its definition."""
    S = residual * np.eye(len(y))
    for group, variance in zip(groups, variances, strict=True):
        S = S + variance * (group[:, None] == group[None, :])
    inverse = np.linalg.inv(S)
    information = X.T @ inverse @ X
    r = y - X @ np.linalg.solve(information, X.T @ inverse @ y)
    p = X.shape[1] if reml else 0
    value = (len(y) - p) * np.log(2 * np.pi) + np.linalg.slogdet(S)[1] + r @ inverse @ r
    return -0.5 * (value + (np.linalg.slogdet(information)[1] if reml else 0.0))


def unbalanced(seed, clients=25, therapists=6, sites=3, columns=2):
    rng = np.random.default_rng(seed)
    therapist = rng.integers(0, therapists, clients)
    therapist[:therapists] = np.arange(therapists)
    site = rng.integers(0, sites, therapists)
    site[:sites] = np.arange(sites)
    client = np.repeat(np.arange(clients), rng.integers(1, 7, clients))
    X = np.column_stack([np.ones(len(client)), rng.normal(size=(len(client), columns - 1))])
    y = rng.normal(size=len(client)) + rng.normal(size=clients)[client]
    y += (
        rng.normal(size=therapists)[therapist[client]]
        + rng.normal(size=sites)[site[therapist[client]]]
    )
    return y, [client, therapist[client], site[therapist[client]]], X


@pytest.mark.parametrize("panel", ["nested", "flat", "alike"])
@pytest.mark.parametrize("levels", [("client",), ("client", "therapist")])
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_agrees_with_lme4_on_small_panels(panel, levels, method):
    frame = scores(panel)
    peer = PEERS[panel][f"{levels[-1]}_{method}"]
    fit = fit_variance_components(
        frame["score"], [frame[level] for level in levels], reml=method == "reml"
    )
    assert fit.converged
    assert fit.loglik == pytest.approx(peer["loglik"], rel=LOGLIK)
    assert fit.beta[0] == pytest.approx(peer["mean"], rel=1e-6)
    assert fit.beta_cov[0, 0] == pytest.approx(peer["mean_var"], rel=VARIANCE)
    assert fit.residual == pytest.approx(peer["residual"], rel=VARIANCE)
    expected = [peer[level] for level in levels]
    np.testing.assert_allclose(fit.variances, expected, rtol=5e-4, atol=1e-9)
    assert fit.boundary == tuple(i for i, value in enumerate(expected) if value == 0.0)


def test_the_same_variance_is_inside_under_reml_and_at_its_bound_under_ml():
    frame = scores("flat")
    groups = [frame["client"], frame["therapist"]]
    inside = fit_variance_components(frame["score"], groups)
    bound = fit_variance_components(frame["score"], groups, reml=False)
    assert inside.boundary == () and 0 < inside.variances[1] < 0.02
    assert bound.boundary == (1,) and bound.variances[1] == 0.0
    assert bound.slopes[1] < -1e-3 and abs(bound.slopes[0]) < 1e-5


@pytest.mark.parametrize("model", ["a", "c", "d", "d2"])
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_agrees_with_lme4_with_fixed_effects(model, method):
    frame = pd.read_csv(SIMULATED / "multilevel" / "sessions.csv")
    peer = simulated("multilevel", f"{model}_lme4_{method}")
    lagged = model in ("c", "d2")
    frame = frame[frame["use_lagged" if lagged else "use"] == 1]
    columns = ["alliance_within_lag1", "alliance_between", "session0"]
    columns += ["symptoms_within_lag1"] if lagged else []
    X = np.column_stack([np.ones(len(frame)), frame[columns]])
    groups = [frame["client"]] + ([frame["therapist"]] if model.startswith("d") else [])
    fit = fit_variance_components(frame["symptoms"], groups, X, reml=method == "reml")
    assert fit.loglik == pytest.approx(peer["loglik"], rel=LOGLIK)
    assert fit.units[0] == peer["groups"]["client"] and fit.rows == peer["nobs"]
    variance = peer["variance"]
    assert fit.residual == pytest.approx(variance["residual_var[symptoms]"], rel=VARIANCE)
    assert fit.variances[0] == pytest.approx(variance["random_cov[intercept,intercept]"], rel=2e-4)
    if model.startswith("d"):
        therapist = variance["therapist_random_cov[intercept,intercept]"]
        assert fit.variances[1] == pytest.approx(therapist, rel=2e-4)
    estimate = [value["estimate"] for value in peer["params"].values()]
    np.testing.assert_allclose(fit.beta, estimate, rtol=1e-5)
    np.testing.assert_allclose(fit.beta_cov, peer["vcov"]["matrix"], rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("reml", [True, False])
def test_equals_the_dense_likelihood_and_is_its_maximum(seed, reml):
    y, groups, X = unbalanced(seed)
    fit = fit_variance_components(y, groups, X, reml=reml)
    top = dense_loglik(y, groups, fit.variances, fit.residual, X, reml)
    assert fit.loglik == pytest.approx(top, rel=1e-11)
    theta = np.append(fit.variances, fit.residual)
    for position in range(4):
        for factor in (0.97, 1.03):
            moved = theta.copy()
            moved[position] = max(moved[position] * factor, 1e-3 * (factor > 1))
            assert dense_loglik(y, groups, moved[:3], moved[3], X, reml) <= top + 1e-9


@pytest.mark.parametrize("reml", [True, False])
def test_gradient_equals_central_differences(reml):
    rng = np.random.default_rng(8)
    mean = rng.normal(size=(12, 3))
    half = rng.normal(size=(3, 3))
    parents = (np.arange(12) // 2, np.arange(6) // 3)
    weight = rng.uniform(1, 6, 12)
    stats = ClusterStatistics(weight, mean, half @ half.T, parents, 40, absorbed=3, log_det=0.7)
    for ratios in (np.array([0.4, 1.3, 0.2]), np.array([0.0, 2.0, 0.0]), np.array([90.0, 0.01, 7])):
        gradient = _descend(ratios, _ascend(ratios, stats, reml), stats, reml)
        for level in range(3):
            step = 1e-6 * max(1.0, ratios[level])
            ahead, behind = ratios.copy(), ratios.copy()
            ahead[level] += step
            behind[level] -= step
            rise = _ascend(ahead, stats, reml).deviance - _ascend(behind, stats, reml).deviance
            assert gradient[level] == pytest.approx(rise / (2 * step), rel=2e-6, abs=1e-7)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    clients=st.integers(3, 30),
    sessions=st.integers(2, 8),
    ratio=st.sampled_from([0.0, 0.05, 1.0, 400.0]),
)
def test_balanced_panels_give_the_analysis_of_variance(seed, clients, sessions, ratio):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(clients, sessions)) + np.sqrt(ratio) * rng.normal(size=(clients, 1))
    fit = fit_variance_components(y.ravel(), [np.repeat(np.arange(clients), sessions)])
    between = sessions * np.var(y.mean(axis=1), ddof=1)
    within = np.var(y, axis=1, ddof=1).mean()
    if between > within:
        assert fit.boundary == ()
        assert fit.variances[0] == pytest.approx((between - within) / sessions, rel=1e-5, abs=1e-9)
        assert fit.residual == pytest.approx(within, rel=1e-5)
    else:
        assert fit.boundary == (0,) and fit.variances[0] == 0.0
        assert fit.residual == pytest.approx(np.var(y, ddof=1), rel=1e-9)


def test_agrees_with_statsmodels():
    from statsmodels.regression.mixed_linear_model import MixedLM

    y, groups, X = unbalanced(5, clients=80)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = MixedLM(y, X, groups[0]).fit(reml=False, method="powell", ftol=1e-12, xtol=1e-10)
    fit = fit_variance_components(y, groups[:1], X, reml=False)
    assert fit.loglik == pytest.approx(peer.llf, rel=1e-9)
    assert fit.variances[0] == pytest.approx(float(peer.cov_re[0, 0]), rel=1e-4)
    assert fit.residual == pytest.approx(peer.scale, rel=1e-4)
    np.testing.assert_allclose(fit.beta, peer.fe_params, rtol=1e-5)


def test_scale_offset_order_and_labels_change_nothing():
    y, groups, X = unbalanced(11, clients=60)
    fit = fit_variance_components(y, groups, X)
    order = np.random.default_rng(0).permutation(len(y))
    names = [np.array(7 * code - 900_000_000)[order] for code in groups]
    wide = np.column_stack([X[:, 0], 1e5 * X[:, 1] - 3e6])
    moved = fit_variance_components((1e3 * y + 1e8)[order], names, wide[order])
    np.testing.assert_allclose(moved.variances, 1e6 * fit.variances, rtol=1e-5)
    assert moved.residual == pytest.approx(1e6 * fit.residual, rel=1e-6)
    assert moved.beta[1] == pytest.approx(1e-2 * fit.beta[1], rel=1e-5)


def test_extreme_ratios_are_found():
    rng = np.random.default_rng(12)
    client = np.repeat(np.arange(40), 5)
    steep = 1e4 * rng.normal(size=40)[client] + 1e-2 * rng.normal(size=200)
    fit = fit_variance_components(steep, [client])
    within = np.var(steep.reshape(40, 5), axis=1, ddof=1).mean()
    assert fit.converged and fit.residual == pytest.approx(within, rel=1e-6)
    two = np.var(steep.reshape(40, 5).mean(axis=1), ddof=1) - within / 5
    assert fit.variances[0] == pytest.approx(two, rel=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_a_bound_is_a_bound_at_any_ratio_of_the_levels(seed):
    """Therapists above clients who differ 1e8 times as much as sessions: zero, or a maximum."""
    rng = np.random.default_rng(seed)
    client = np.repeat(np.arange(14), rng.integers(1, 9, 14))
    therapist = np.arange(14) % 4
    y = 100.0 * rng.normal(size=14)[client] + 0.01 * rng.normal(size=len(client))
    fit = fit_variance_components(y, [client, therapist[client]])
    assert fit.converged
    if fit.boundary:
        assert fit.boundary == (1,) and fit.variances[1] == 0.0 and fit.slopes[1] < 0
    else:
        assert fit.variances[1] > 1.0
        assert abs(fit.slopes[1]) * fit.variances[1] / fit.residual < 1e-4


def test_absorbed_lines_cost_their_degrees_of_freedom():
    frame = scores("nested")
    count = frame.groupby("client")["score"].transform("size")
    frame = frame[count >= 3].reset_index(drop=True)
    client = codes(frame["client"])
    center = frame.groupby("client")[["session", "score"]].transform("mean")
    moment = (frame["session"] - center["session"]).to_numpy()
    squares = np.bincount(client, moment**2)
    slope = np.bincount(client, moment * (frame["score"] - center["score"])) / squares
    fit = fit_variance_components(
        frame["score"] - slope[client] * moment, [client], absorbed=len(squares)
    )
    peer = PEERS["nested"]["lines_reml"]
    assert fit.variances[0] == pytest.approx(peer["client"], rel=VARIANCE)
    assert fit.residual == pytest.approx(peer["residual"], rel=VARIANCE)
    # What lme4's constant adds for the slopes, which a function of the residuals cannot know.
    assert fit.loglik - 0.5 * np.log(squares).sum() == pytest.approx(peer["loglik"], rel=LOGLIK)
    alone = fit_serial(frame["score"].to_numpy(), client, frame["session"].to_numpy(), slopes=True)
    peer = PEERS["nested"]["serial_lines_reml"]
    assert alone.loglik == pytest.approx(peer["loglik"], rel=LOGLIK)
    assert alone.phi == pytest.approx(peer["phi"], rel=2e-4)
    assert alone.between == pytest.approx(peer["between"], rel=2e-4)
    assert alone.within == pytest.approx(peer["within"], rel=2e-4)


@pytest.mark.parametrize("panel", ["nested", "flat"])
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_serial_agrees_with_nlme(panel, method):
    frame = scores(panel).assign(code=lambda d: codes(d["client"])).sort_values(["code", "session"])
    fit = fit_serial(
        frame["score"].to_numpy(),
        frame["code"].to_numpy(),
        frame["session"].to_numpy(),
        reml=method == "reml",
    )
    peer = PEERS[panel][f"serial_{method}"]
    assert fit.converged and fit.boundary == ()
    assert fit.loglik == pytest.approx(peer["loglik"], rel=LOGLIK)
    assert fit.phi == pytest.approx(peer["phi"], rel=2e-4, abs=2e-6)
    assert fit.between == pytest.approx(peer["between"], rel=2e-4)
    assert fit.within == pytest.approx(peer["within"], rel=2e-4)


def test_serial_without_autocorrelation_is_the_random_intercept_model():
    frame = (
        scores("flat").assign(code=lambda d: codes(d["client"])).sort_values(["code", "session"])
    )
    y, client, session = (frame[name].to_numpy() for name in ("score", "code", "session"))
    fit = fit_serial(y, client, session)
    plain = fit_variance_components(y, [client])
    assert fit.loglik >= plain.loglik
    assert fit.loglik - plain.loglik < 0.01  # phi is estimated at -0.01 there


def test_serial_with_session_effects_is_the_restricted_likelihood():
    """Complete data: y ~ 0 + session with random intercepts and AR(1), written out densely."""
    rng = np.random.default_rng(14)
    clients, sessions = 9, 5
    y = rng.normal(size=(clients, sessions)) + rng.normal(size=(clients, 1)) + np.arange(5.0)
    client, session = np.divmod(np.arange(clients * sessions), sessions)
    left = (y - y.mean(axis=0) + y.mean()).ravel()
    fit = fit_serial(left + 1e9, client, 3 * session, session_effects=True)
    same = client[:, None] == client[None, :]
    gap = 3 * np.abs(session[:, None] - session[None, :])
    X = (session[:, None] == np.arange(sessions)).astype(float)

    def restricted(phi, between, within):
        S = same * (between + within * float(abs(phi)) ** gap * np.sign(phi) ** gap)
        inverse = np.linalg.inv(S)
        information = X.T @ inverse @ X
        r = y.ravel() - X @ np.linalg.solve(information, X.T @ inverse @ y.ravel())
        value = (len(r) - sessions) * np.log(2 * np.pi) + np.linalg.slogdet(S)[1] + r @ inverse @ r
        return -0.5 * (value + np.linalg.slogdet(information)[1])

    top = restricted(fit.phi, fit.between, fit.within)
    assert fit.loglik == pytest.approx(top, rel=1e-6)
    for move in np.vstack([np.eye(3), -np.eye(3)]) * 0.03:
        phi, between, within = np.array([fit.phi, fit.between, fit.within]) + move
        assert restricted(phi, between, within) < top


def test_a_drift_is_named_when_it_passes_for_a_level():
    rng = np.random.default_rng(4)
    walk = np.cumsum(rng.normal(size=(60, 12)), axis=1)
    client, session = np.divmod(np.arange(60 * 12), 12)
    fit = fit_serial(walk.ravel(), client, session)
    assert "drift" in fit.boundary or ("between" in fit.boundary and fit.phi > 0.9)


def test_variance_of_a_mean_under_autocorrelation():
    rng = np.random.default_rng(6)
    seen = rng.random((30, 9)) < 0.6
    seen[0] = False
    for phi in (0.45, -0.6, 0.0):
        factor = mean_error_factor(seen, phi)
        assert np.isnan(factor[0])
        for row, value in zip(seen[1:], factor[1:], strict=True):
            t = np.flatnonzero(row)
            if len(t):
                P = phi ** np.abs(t[:, None] - t[None, :]).astype(float)
                assert value == pytest.approx(P.sum() / len(t) ** 2, rel=1e-12)
    # At an autocorrelation of .45 white noise understates the variance of the mean by half or more.
    for sessions in (8, 12, 20):
        full = np.ones((1, sessions), dtype=bool)
        ratio = mean_error_factor(full, 0.45)[0] / mean_error_factor(full, 0.0)[0]
        assert 2.0 < ratio < 2.6


def test_a_million_rows():
    rng = np.random.default_rng(9)
    client = np.repeat(np.arange(100_000), 10)
    therapist = (np.arange(100_000) // 50)[client]
    y = rng.normal(size=len(client)) + rng.normal(size=100_000)[client]
    y += 0.5 * rng.normal(size=2_000)[therapist]
    started = time.perf_counter()
    fit = fit_variance_components(y, [client, therapist])
    assert time.perf_counter() - started < 5.0  # about 0.3 s; lme4 needs most of a minute
    assert fit.converged
    np.testing.assert_allclose([*fit.variances, fit.residual], [1.0, 0.25, 1.0], rtol=0.1)


def test_start_does_not_move_the_maximum():
    y, groups, _ = unbalanced(21, clients=50)
    stats = ClusterStatistics(
        np.bincount(groups[0]).astype(float),
        np.column_stack([np.ones(50), np.bincount(groups[0], y) / np.bincount(groups[0])]),
        np.diag([0.0, 30.0]),
        (),
        len(y),
    )
    ends = [maximise_components(stats, True, np.array([start])) for start in (0.0, 1e-3, 1.0, 1e4)]
    ends.append(maximise_components(stats))
    for end in ends:
        assert end.converged
        assert end.variances[0] == pytest.approx(ends[-1].variances[0], rel=1e-6)


PAIRED = np.repeat(np.arange(6), 2)
RISING = np.arange(12.0) ** 1.5


@pytest.mark.parametrize(
    ("y", "groups", "X", "error", "fragment"),
    [
        (RISING, [], None, SpecificationError, "No grouping"),
        (RISING, [PAIRED[:5]], None, DataError, "one row per score"),
        (np.where(RISING > 9, np.nan, RISING), [PAIRED], None, DataError, "must be finite"),
        (RISING, [PAIRED.astype(float)], None, DataError, "must be integers"),
        (RISING, [PAIRED], np.full((12, 1), np.inf), DataError, "must be finite"),
        (RISING, [PAIRED], np.ones((12, 2)), SpecificationError, "linearly dependent"),
        (RISING, [np.arange(12)], None, SpecificationError, "two scores"),
        (RISING, [PAIRED, PAIRED + 3], None, SpecificationError, "same units"),
        (RISING, [PAIRED, np.zeros(12, int)], None, SpecificationError, "single unit"),
        (RISING, [np.zeros(12, int)], None, SpecificationError, "single unit"),
        (RISING, [PAIRED, np.arange(12) % 3], None, SpecificationError, "not nested"),
        (RISING[PAIRED], [PAIRED], None, SpecificationError, "No spread"),
        (np.full(12, 0.1), [PAIRED], None, SpecificationError, "No spread"),
        (np.array([]), [np.array([], int)], None, SpecificationError, "no scores"),
        (RISING[:1], [PAIRED[:1]], None, SpecificationError, "two scores"),
    ],
)
def test_refusals_name_the_reason(y, groups, X, error, fragment):
    with pytest.raises(error, match=fragment):
        fit_variance_components(y, groups, X)


def test_serial_refuses_what_it_cannot_tell():
    session = np.tile([1, 2], 6)
    with pytest.raises(SpecificationError, match="at least two clients"):
        fit_serial(RISING, np.arange(12), np.ones(12, int))
    with pytest.raises(SpecificationError, match="three of each"):
        fit_serial(RISING, PAIRED, session, slopes=True)
    with pytest.raises(SpecificationError, match="No spread"):
        fit_serial(RISING[PAIRED], PAIRED, session)
    with pytest.raises(DataError, match="two scores at one session"):
        fit_serial(RISING, PAIRED, np.ones(12, int))


@pytest.mark.reference
@pytest.mark.parametrize("method", ["REML", "ML"])
def test_inpatient_trial(method):
    folder = published_dir() / "A3_claus2020"
    frame = pd.read_csv(folder / "claus_2020.csv").dropna(subset=["bdi"])
    peer = json.loads((folder / "peer_results.json").read_text())[f"null_{method}"]
    fit = fit_variance_components(frame["bdi"], [codes(frame["id"])], reml=method == "REML")
    assert fit.loglik == pytest.approx(peer["logLik"], rel=LOGLIK)
    assert fit.variances[0] == pytest.approx(peer["varcorr"][0]["vcov"], rel=VARIANCE)
    assert fit.residual == pytest.approx(peer["varcorr"][1]["vcov"], rel=VARIANCE)
    assert fit.beta_cov[0, 0] == pytest.approx(peer["vcov_fixef"][0][0], rel=VARIANCE)


@pytest.mark.reference
@pytest.mark.parametrize("method", ["REML", "ML"])
def test_beat_the_blues(method):
    folder = published_dir() / "A4_btheb"
    frame = pd.read_csv(folder / "btheb_long.csv").dropna(subset=["bdi"])
    peer = json.loads((folder / "peer_results.json").read_text())[f"random_intercept_{method}"]
    X = np.column_stack(
        [
            np.ones(len(frame)),
            frame["bdi.pre"],
            frame["time"],
            frame["treatment"] == "BtheB",
            frame["drug"] == "Yes",
            frame["length"] == ">6m",
        ]
    ).astype(float)
    fit = fit_variance_components(frame["bdi"], [codes(frame["subject"])], X, method == "REML")
    assert fit.loglik == pytest.approx(peer["logLik"], rel=LOGLIK)
    np.testing.assert_allclose(fit.beta, [term["Estimate"] for term in peer["fixef"]], rtol=1e-4)
    np.testing.assert_allclose(fit.beta_cov, peer["vcov_fixef"], rtol=1e-3, atol=1e-6)
    assert fit.variances[0] == pytest.approx(peer["varcorr"][0]["vcov"], rel=VARIANCE)
    if method == "ML":  # the figures printed in the HSAUR3 vignette, every digit
        assert round(fit.loglik, 2) == -935.75
        assert (round(fit.variances[0], 2), round(fit.residual, 2)) == (48.78, 25.14)


@pytest.mark.reference
def test_therapist_variance_of_the_real_trial():
    """lme4 1.1-31, wai and bai ~ 1 + (1 | client) + (1 | therapist), REML, tight bobyqa."""
    frame = pd.read_csv(published_dir() / "A1_implement_wai_bai" / "sessions_long.csv")
    lme4 = {
        "wai": (-326.257904957, 0.28589769426, 0.00422369965, 0.12086633288),
        "bai": (-321.891993003, 0.1509344756, 0.0, 0.1069330790),
    }
    for name, (loglik, client, therapist, residual) in lme4.items():
        rows = frame.dropna(subset=[name])
        fit = fit_variance_components(rows[name], [rows["client"], rows["therapist"]])
        assert fit.loglik == pytest.approx(loglik, rel=LOGLIK)
        np.testing.assert_allclose(fit.variances, [client, therapist], rtol=2e-3, atol=1e-9)
        assert fit.residual == pytest.approx(residual, rel=VARIANCE)
        assert fit.boundary == ((1,) if therapist == 0.0 else ())
