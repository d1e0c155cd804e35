"""Fit indices and their scaled versions against lavaan, and where they do not exist."""

from __future__ import annotations

import math
import time

import numpy as np
import pandas as pd
import pytest
from dense_systems import crosslagged
from reference_files import (
    SIMULATED,
    estimates,
    panel_scores,
    published_dir,
    simulated,
    simulated_names,
    to_wide,
)
from scipy.linalg import block_diag
from scipy.stats import multivariate_normal, ncx2

from alliancedyn.engine import indices
from alliancedyn.engine.indices import PLAIN, SCALED, withheld
from alliancedyn.engine.moments import implied_moments, loglik_by_client
from alliancedyn.engine.saturated import independence, saturated
from alliancedyn.engine.scaling import cluster_factor, independence_trace, saturated_trace
from alliancedyn.engine.wide import WideGroup
from alliancedyn.errors import SpecificationError

AGREE = 1e-6  # relative; what lavaan's EM and optimizer leave
SRMR = 1e-5  # its EM stops when no moment moves by more than 1e-5
ROOT = 1e-4  # its interval comes from a root search with tolerance 1.2e-4 on the noncentrality
TRACE = 1e-5  # traces of differenced scores

LAVAAN = {
    "chisq": ("chisq", AGREE),
    "df": ("df", 0.0),
    "cfi": ("cfi", AGREE),
    "tli": ("tli", AGREE),
    "rmsea": ("rmsea", AGREE),
    "rmsea_lower": ("rmsea.ci.lower", ROOT),
    "rmsea_upper": ("rmsea.ci.upper", ROOT),
    "srmr": ("srmr", SRMR),
    "baseline_chisq": ("baseline.chisq", AGREE),
    "baseline_df": ("baseline.df", 0.0),
    "aic": ("aic", 1e-10),
    "bic": ("bic", 1e-10),
}
LAVAAN_SCALED = {
    "chisq_scaled": ("chisq.scaled", TRACE),
    "scaling_factor": ("chisq.scaling.factor", TRACE),
    "pvalue_scaled": ("pvalue.scaled", 10 * TRACE),
    "cfi_scaled": ("cfi.scaled", TRACE),
    "tli_scaled": ("tli.scaled", TRACE),
    "rmsea_scaled": ("rmsea.scaled", 10 * TRACE),
    "rmsea_upper_scaled": ("rmsea.ci.upper.scaled", ROOT),
    "baseline_chisq_scaled": ("baseline.chisq.scaled", AGREE),
    "baseline_scaling_factor": ("baseline.chisq.scaling.factor", AGREE),
}


def fit_indices(Y, *, loglik, n_params, trace=None, **moments):
    """Return the indices of one group."""
    group = WideGroup(Y, **moments)
    return indices.fit_indices([group], loglik=loglik, n_params=n_params, trace=trace)


def assert_like_lavaan(ours, theirs):
    assert "reason" not in ours
    for key, (name, tolerance) in LAVAAN.items():
        assert ours[key] == pytest.approx(theirs[name], rel=tolerance, abs=1e-12), key
    # lavaan takes 1 - F, which loses the far tail
    assert ours["pvalue"] == pytest.approx(theirs["pvalue"], rel=AGREE, abs=1e-15)


def lavaan_files():
    found = []
    for case in ("crosslagged_complete", "crosslagged_missing"):
        for name in simulated_names(case):
            other = ("group", "covariate", "lcmsr", "alt", "openmx", "bounded")
            if "clpm" in name and not any(word in name for word in other):
                found.append(pytest.param(case, name, id=f"{case}-{name}"))
    return found


def fitted(case, name):
    peer = simulated(case, name)
    Y, _, therapist = panel_scores(case, "growth" if "growth" in name else "panel")
    mean, cov = implied_moments(crosslagged(estimates(peer), Y.shape[1]))
    model = {
        "loglik": peer["loglik"],
        "n_params": peer["fit"]["npar"],
        "mean": mean,
        "cov": cov,
    }
    return to_wide(Y), model, peer, therapist


def wide_column(name):
    """Return a client-level column of the complete panel."""
    frame = pd.read_csv(SIMULATED / "crosslagged_complete" / "panel_wide.csv")
    return frame[name].to_numpy(float)


@pytest.mark.parametrize(("case", "name"), lavaan_files())
def test_indices_are_those_of_lavaan(case, name):
    Y, model, peer, _ = fitted(case, name)
    assert_like_lavaan(fit_indices(Y, **model), peer["fit"])


@pytest.mark.parametrize("lags", ["equal", "free", "free_by_session"])
def test_groups_are_those_of_lavaan(lags):
    peer = simulated("crosslagged_complete", f"riclpm_group_lags_{lags}")
    Y, _, _ = panel_scores("crosslagged_complete")
    arm = wide_column("arm")
    groups = []
    for label in (0, 1):
        end = f"|arm={label}"
        params = {
            name.removesuffix(end): value
            for name, value in estimates(peer).items()
            if name.endswith(end) or "|" not in name
        }
        mean, cov = implied_moments(crosslagged(params, Y.shape[1]))
        groups.append(WideGroup(to_wide(Y[arm == label]), mean, cov, label=f"arm={label}"))
    ours = indices.fit_indices(groups, loglik=peer["loglik"], n_params=peer["npar"])
    assert_like_lavaan(ours, peer["fit"])


def test_covariates_are_those_of_lavaan():
    """The implied covariance given severity; it moves every mean by its effect on the intercept."""
    peer = simulated("crosslagged_complete", "riclpm_equal_covariate")
    Y, _, _ = panel_scores("crosslagged_complete")
    params = estimates(peer)
    mean, cov = implied_moments(crosslagged(params, Y.shape[1]))
    effect = [params["between[alliance,severity]"], params["between[symptoms,severity]"]]
    group = WideGroup(
        to_wide(Y), mean, cov, wide_column("severity")[:, None], np.tile(effect, 5)[:, None]
    )
    ours = indices.fit_indices([group], loglik=peer["loglik"], n_params=peer["npar"])
    assert_like_lavaan(ours, peer["fit"])


def casewise(Y, sessions, names, theta):
    """Every client's log-likelihood at canonical parameters."""
    params = dict(zip(names, theta, strict=True))
    return loglik_by_client(Y, *implied_moments(crosslagged(params, sessions)))


def differenced(Y, sessions, params):
    """Casewise scores and Hessian of a cross-lagged model by differences alone."""
    names, at = list(params), np.array(list(params.values()))
    step = 1e-4 * np.maximum(1.0, np.abs(at))
    q = len(at)

    def scores(theta):
        moved = [[theta + sign * step * np.eye(q)[j] for sign in (1, -1)] for j in range(q)]
        pairs = [[casewise(Y, sessions, names, point) for point in pair] for pair in moved]
        return np.array([(up - down) for up, down in pairs]).T / (2 * step)

    hessian = np.empty((q, q))
    for j in range(q):
        move = 10 * step[j] * np.eye(q)[j]
        gap = scores(at + move).sum(axis=0) - scores(at - move).sum(axis=0)
        hessian[j] = gap / (20 * step[j])
    return scores(at), (hessian + hessian.T) / 2


@pytest.fixture(scope="module")
def score_and_hessian():
    Y, _, peer, therapist = fitted("crosslagged_missing", "riclpm_equal_innov_mlr")
    return (*differenced(Y, 8, estimates(peer)), therapist)


@pytest.mark.parametrize("name", ["riclpm_equal_innov_mlr", "riclpm_equal_innov_cluster"])
def test_scaled_indices_are_those_of_lavaan(name, score_and_hessian):
    scores, hessian, therapist = score_and_hessian
    clusters = therapist if "cluster" in name else None
    factor = 1.0
    if clusters is not None:
        codes = np.unique(clusters, return_inverse=True)[1]
        scores = np.array([np.bincount(codes, column) for column in scores.T]).T
        factor = len(scores) / (len(scores) - 1)
    trace = factor * np.trace(np.linalg.solve(-hessian, scores.T @ scores))
    Y, model, peer, _ = fitted("crosslagged_missing", name)
    ours = fit_indices(Y, **model, trace=trace, clusters=clusters)
    assert set(SCALED) <= set(ours)
    assert not {"reason", "reason_scaled"} & set(ours)
    for key, (theirs, tolerance) in LAVAAN_SCALED.items():
        assert ours[key] == pytest.approx(peer["fit"][theirs], rel=tolerance), key
    assert ours["rmsea_lower_scaled"] == peer["fit"]["rmsea.ci.lower.scaled"] == 0.0


@pytest.mark.parametrize("clustered", [False, True])
def test_saturated_trace_is_that_of_lavaan(clustered):
    name = "riclpm_equal_innov_cluster" if clustered else "riclpm_equal_innov_mlr"
    Y, _, peer, therapist = fitted("crosslagged_missing", name)
    free = saturated(Y)
    trace = saturated_trace(Y, free.mean, free.cov, therapist if clustered else None)
    trace *= cluster_factor(len(np.unique(therapist))) if clustered else 1.0
    assert trace / 152 == pytest.approx(peer["fit"]["scaling.factor.h1"], rel=AGREE)


# ---------------------------------------------------------------- traces by differences


def panel_with_holes(seed=0, n=120, p=4):
    rng = np.random.default_rng(seed)
    root = np.tril(rng.uniform(0.2, 1.0, (p, p)), -1) + 1.5 * np.eye(p)
    Y = rng.standard_t(6, (n, p)) @ root.T + 5.0
    Y[rng.random(Y.shape) < 0.2] = np.nan
    return Y[~np.isnan(Y).all(axis=1)], rng


def free_moments_by_differences(Y, mean, cov):
    low = np.tril_indices(len(mean))
    theta = np.r_[mean, cov[low]]

    def value(at):
        full = np.zeros_like(cov)
        full[low] = at[len(mean) :]
        full = full + full.T - np.diag(np.diag(full))
        return loglik_by_client(Y, at[: len(mean)], full)

    q, h = len(theta), 1e-4
    unit = h * np.eye(q)
    scores = np.array([(value(theta + e) - value(theta - e)) / (2 * h) for e in unit]).T
    h *= 5
    unit = h * np.eye(q)
    hessian = np.array(
        [
            [
                (
                    value(theta + a + b)
                    - value(theta + a - b)
                    - value(theta - a + b)
                    + value(theta - a - b)
                ).sum()
                / (4 * h * h)
                for b in unit
            ]
            for a in unit
        ]
    )
    return scores, hessian


@pytest.mark.parametrize("clustered", [False, True])
def test_saturated_trace_is_its_definition(clustered):
    Y, rng = panel_with_holes()
    free = saturated(Y)
    scores, hessian = free_moments_by_differences(Y, free.mean, free.cov)
    codes = rng.integers(0, 15, len(Y)) * 7 if clustered else None
    if codes is not None:
        scores = np.array([scores[codes == code].sum(axis=0) for code in np.unique(codes)])
    expected = np.trace(np.linalg.solve(-hessian, scores.T @ scores))
    assert saturated_trace(Y, free.mean, free.cov, codes) == pytest.approx(expected, rel=1e-5)


def test_chunks_do_not_matter(monkeypatch):
    Y, rng = panel_with_holes(seed=3)
    codes = rng.integers(0, 9, len(Y))
    free = saturated(Y)
    whole = [saturated_trace(Y, free.mean, free.cov, c) for c in (None, codes)]
    monkeypatch.setattr("alliancedyn.engine.scaling.CHUNK", 7 * 16)
    parts = [saturated_trace(Y, free.mean, free.cov, c) for c in (None, codes)]
    assert parts == pytest.approx(whole, rel=1e-11)


def test_independence_trace_is_its_definition():
    Y, rng = panel_with_holes(seed=1)
    mean, cov = np.nanmean(Y, axis=0), np.diag(np.nanvar(Y, axis=0))
    scores, hessian = free_moments_by_differences(Y, mean, cov)
    at = [0, 1, 2, 3, 4, 6, 9, 13]  # means and variances
    hessian = hessian[np.ix_(at, at)]
    for codes in (None, rng.integers(0, 12, len(Y))):
        summed = scores[:, at]
        if codes is not None:
            summed = np.array([summed[codes == code].sum(axis=0) for code in np.unique(codes)])
        expected = np.trace(np.linalg.solve(-hessian, summed.T @ summed))
        assert independence_trace(Y, codes) == pytest.approx(expected, rel=1e-5)


def test_normal_scores_need_no_scaling():
    rng = np.random.default_rng(2)
    Y = rng.standard_normal((40_000, 5)) @ np.linalg.cholesky(np.eye(5) + 0.4).T
    Y[rng.random(Y.shape) < 0.1] = np.nan
    free = saturated(Y)
    assert saturated_trace(Y, free.mean, free.cov) == pytest.approx(20.0, rel=0.03)
    assert independence_trace(Y) == pytest.approx(10.0, rel=0.03)


def test_one_cluster_is_refused():
    Y, _ = panel_with_holes()
    ours = saturated_fit(Y, 8, trace=8.0, clusters=np.zeros(len(Y), np.int64))
    assert "at least two clusters" in ours["reason_scaled"]
    with pytest.raises(SpecificationError, match="at least two clusters"):
        cluster_factor(1)


def test_the_number_of_clusters_is_that_of_all_groups():
    """A group of one therapist is no reason to refuse; its factor is that of all therapists."""
    Y, rng = panel_with_holes(seed=5)
    codes = np.r_[np.zeros(80, np.int64), rng.integers(1, 9, len(Y) - 80)]
    free = [saturated(part) for part in (Y[:80], Y[80:])]
    groups = [
        WideGroup(Y[rows], found.mean, found.cov, clusters=codes[rows])
        for rows, found in zip((slice(80), slice(80, None)), free, strict=True)
    ]
    loglik = sum(found.loglik for found in free) - 5.0
    ours = indices.fit_indices(groups, loglik=loglik, n_params=20, trace=6.0)
    traces = [group.traces(found)[0] for group, found in zip(groups, free, strict=True)]
    expected = (9 / 8 * sum(traces) - 6.0) / 8
    assert ours["scaling_factor"] == pytest.approx(expected, rel=1e-12)
    assert (ours["chisq"], ours["df"]) == (pytest.approx(10.0), 8)


def test_twenty_sessions_of_five_hundred_clients_take_about_a_second():
    rng = np.random.default_rng(4)
    Y = rng.standard_normal((500, 40)) @ np.linalg.cholesky(np.eye(40) + 0.5).T
    Y[rng.random(Y.shape) < 0.1] = np.nan
    free = saturated(Y)
    saturated_trace(Y[:, :4], free.mean[:4], free.cov[:4, :4])
    started = time.perf_counter()
    saturated_trace(Y, free.mean, free.cov)
    assert time.perf_counter() - started < 5.0


# ---------------------------------------------------------------- covariates and inputs


def panel_with_covariates(seed=7, n=140):
    """Scores at three columns with holes, and two covariates that move them."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.exponential(size=n), rng.integers(0, 2, n)])
    B = np.array([[0.5, 1.0], [0.0, -1.0], [0.3, 0.0]])
    Y = x @ B.T + rng.standard_normal((n, 3)) @ np.linalg.cholesky(np.eye(3) + 0.5).T
    Y[rng.random(Y.shape) < 0.1] = np.nan
    return Y[~np.isnan(Y).all(axis=1)], x[~np.isnan(Y).all(axis=1)], B, rng


def regression_loglik(Y, x, theta):
    """Every client's log-likelihood given x: intercepts, slopes, residual covariance."""
    p, c = Y.shape[1], x.shape[1]
    mean, slopes = theta[:p], theta[p : p + p * c].reshape(p, c)
    cov = np.zeros((p, p))
    cov[np.tril_indices(p)] = theta[p + p * c :]
    cov += np.tril(cov, -1).T
    return loglik_by_client(Y - x @ slopes.T, mean, cov)


def regression_of(free, p):
    """Saturated moments of (y, x) as intercepts, slopes and residual covariance."""
    S = free.cov
    slopes = np.linalg.solve(S[p:, p:], S[p:, :p]).T
    residual = S[:p, :p] - slopes @ S[p:, :p]
    mean = free.mean[:p] - slopes @ free.mean[p:]
    return np.concatenate([mean, slopes.ravel(), residual[np.tril_indices(p)]])


def test_the_saturated_model_is_a_regression_on_what_is_given():
    Y, x, B, _ = panel_with_covariates()
    group = WideGroup(Y, np.zeros(3), np.eye(3), x, B)
    free = group.saturated()
    theta = regression_of(free, 3)
    assert len(theta) == free.n_params == group.n_moments == 9 + 3 * 2
    assert group.baseline_df == 3 + 3 * 2
    assert free.loglik == pytest.approx(regression_loglik(Y, x, theta).sum(), rel=1e-10)
    step = 1e-5
    for j in range(len(theta)):  # and it is the maximum
        e = step * np.eye(len(theta))[j]
        up, down = (regression_loglik(Y, x, theta + sign * e).sum() for sign in (1, -1))
        assert abs(up - down) / (2 * step) < 1e-3


def test_the_trace_of_a_regression_is_its_definition():
    Y, x, B, rng = panel_with_covariates()
    group = WideGroup(Y, np.zeros(3), np.eye(3), x, B, clusters=rng.integers(0, 20, len(Y)))
    free = group.saturated()
    theta, h = regression_of(free, 3), 1e-4
    unit = h * np.eye(len(theta))

    def value(at):
        return regression_loglik(Y, x, at)

    scores = np.array([(value(theta + e) - value(theta - e)) / (2 * h) for e in unit]).T
    hessian = np.array(
        [
            [
                (value(theta + a + b) - value(theta + a - b)
                 - value(theta - a + b) + value(theta - a - b)).sum() / (4 * h * h)
                for b in unit
            ]
            for a in unit
        ]
    )  # fmt: skip
    summed = np.array([scores[group.clusters == c].sum(axis=0) for c in range(20)])
    of_free, of_baseline = group.traces(free)
    expected = np.trace(np.linalg.solve(-hessian, summed.T @ summed))
    assert of_free == pytest.approx(expected, rel=1e-5)
    assert of_baseline == independence_trace(Y, group.clusters)


def test_implied_moments_of_scores_and_covariates():
    """Against the moments of scores made from the regression, residuals made exactly normal."""
    rng = np.random.default_rng(3)
    n, B, cov = 60, np.array([[0.5, 1.0], [0.0, -1.0]]), np.array([[2.0, 0.3], [0.3, 1.0]])
    x = rng.exponential(size=(n, 2))
    raw = rng.standard_normal((n, 2))
    columns = np.column_stack([np.ones(n), x])
    raw -= columns @ np.linalg.lstsq(columns, raw, rcond=None)[0]
    raw = raw @ np.linalg.inv(np.linalg.cholesky(raw.T @ raw / n)).T @ np.linalg.cholesky(cov).T
    Y = [3.0, -1.0] + x @ B.T + raw
    mean, joint = WideGroup(Y, np.array([3.0, -1.0]), cov, x, B).joint()
    both = np.column_stack([Y, x])
    np.testing.assert_allclose(mean, both.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(joint, np.cov(both.T, bias=True), rtol=1e-10, atol=1e-12)


def test_what_is_the_same_for_all_is_no_covariate():
    """A constant covariate moves the means by what it does and brings no moments."""
    Y, x, B, _ = panel_with_covariates()
    mean, cov = np.array([0.1, 0.2, 0.3]), np.eye(3) + 0.5
    plain = WideGroup(Y, mean, cov, x, B)
    shifted = WideGroup(
        Y,
        mean - 4.0 * np.array([1.0, 2.0, 3.0]),
        cov,
        np.column_stack([x, np.full(len(x), 4.0), np.zeros(len(x))]),
        np.column_stack([B, [1.0, 2.0, 3.0], [7.0, 7.0, 7.0]]),
    )
    loglik = regression_loglik(
        Y, x, np.concatenate([mean, B.ravel(), cov[np.tril_indices(3)]])
    ).sum()
    first, second = (
        indices.fit_indices([group], loglik=loglik, n_params=8, trace=8.0)
        for group in (plain, shifted)
    )
    assert second == pytest.approx(first, rel=1e-10)
    assert first["df"] == 15 - 8


def test_covariates_that_say_the_same_are_no_ground_for_a_test():
    Y, x, B, _ = panel_with_covariates()
    twice = WideGroup(Y, np.zeros(3), np.eye(3), x[:, [0, 0]], B, label="arm=1")
    ours = indices.fit_indices([twice], loglik=-600.0, n_params=8)
    assert ours["reason"].startswith("In arm=1: The saturated model does not exist")
    assert "covariate or input 2" in ours["reason"]


def test_two_groups_of_one_population():
    """Baseline, df and chi-square add up; SRMR is the average weighted by clients."""
    Y, _ = panel_with_holes(seed=4)
    mean, cov = np.nanmean(Y, axis=0), np.diag(np.nanvar(Y, axis=0))
    cuts = (slice(50), slice(50, None))
    parts = [WideGroup(Y[cut], mean, cov) for cut in cuts]
    logliks = [loglik_by_client(Y[cut], mean, cov).sum() for cut in cuts]
    alone = [
        indices.fit_indices([part], loglik=loglik, n_params=4)
        for part, loglik in zip(parts, logliks, strict=True)
    ]
    both = indices.fit_indices(parts, loglik=sum(logliks), n_params=8)
    for key in ("chisq", "df", "baseline_chisq", "baseline_df"):
        assert both[key] == pytest.approx(alone[0][key] + alone[1][key], rel=1e-12), key
    share = 50 / len(Y)
    expected = share * alone[0]["srmr"] + (1 - share) * alone[1]["srmr"]
    assert both["srmr"] == pytest.approx(expected, rel=1e-12)
    misfit = (both["chisq"] - both["df"]) / (len(Y) * both["df"])
    assert both["rmsea"] == pytest.approx(math.sqrt(2 * misfit), rel=1e-12)


# ---------------------------------------------------------------- what does not exist


def test_withheld_indices_are_those_of_a_comparison():
    for scaled in (False, True):
        ours = withheld("No.", loglik=-100.0, n_params=3, n=50, scaled=scaled)
        compared = saturated_fit(panel_with_holes()[0], 8, trace=8.0 if scaled else None)
        assert set(ours) == {*compared, "reason"}
        assert [key for key, value in ours.items() if value == value] == ["aic", "bic", "reason"]
    assert ours["aic"] == 206.0 and ours["bic"] == pytest.approx(200.0 + 3 * math.log(50))


def saturated_fit(Y, n_params, **more):
    free = saturated(Y)
    return fit_indices(
        Y, loglik=free.loglik, n_params=n_params, mean=free.mean, cov=free.cov, **more
    )


def test_a_model_as_free_as_the_data_has_nothing_to_test():
    Y, _ = panel_with_holes()
    ours = saturated_fit(Y, 14, trace=14.0)
    assert (ours["df"], ours["chisq"]) == (0, pytest.approx(0.0, abs=1e-9))
    assert ours["srmr"] == pytest.approx(0.0, abs=1e-12)
    assert "nothing to test" in ours["reason"]
    for key in ("pvalue", "cfi", "tli", "rmsea", "rmsea_lower", "rmsea_upper", *SCALED):
        assert math.isnan(ours[key]), key


def test_more_parameters_than_moments():
    Y, _ = panel_with_holes()
    ours = saturated_fit(Y, 17)
    assert ours["df"] == -3
    assert "more parameters (17) than there are moments (14)" in ours["reason"]
    assert math.isnan(ours["rmsea"]) and math.isfinite(ours["aic"])


def test_a_model_above_the_saturated_one_is_not_reported():
    Y, _ = panel_with_holes()
    free = saturated(Y)
    ours = fit_indices(Y, loglik=free.loglik + 1.0, n_params=8, mean=free.mean, cov=free.cov)
    assert "below the model's" in ours["reason"]
    assert math.isnan(ours["chisq"])


def test_the_baseline_fits_itself():
    Y, _ = panel_with_holes()
    loglik, n_params = independence(Y)
    mean, cov = np.nanmean(Y, axis=0), np.diag(np.nanvar(Y, axis=0))
    trace = independence_trace(Y)
    ours = fit_indices(Y, loglik=loglik, n_params=n_params, mean=mean, cov=cov, trace=trace)
    assert ours["chisq"] == pytest.approx(ours["baseline_chisq"], rel=1e-12)
    assert ours["chisq_scaled"] == pytest.approx(ours["baseline_chisq_scaled"], rel=1e-12)
    assert (ours["cfi"], ours["tli"]) == (pytest.approx(0.0), pytest.approx(0.0))


def test_empty_rows_and_columns_change_nothing():
    Y, rng = panel_with_holes()
    codes = rng.integers(0, 10, len(Y))
    loglik, n_params = independence(Y)
    mean, cov = np.nanmean(Y, axis=0), np.diag(np.nanvar(Y, axis=0))
    more = {"loglik": loglik, "n_params": n_params, "trace": 8.3}
    plain = fit_indices(Y, mean=mean, cov=cov, clusters=codes, **more)
    padded = np.full((len(Y) + 3, 5), np.nan)
    padded[2:-1, [0, 1, 3, 4]] = Y
    wide_mean = np.insert(mean, 2, 99.0)
    wide_cov = block_diag(cov, 1.0)[np.ix_([0, 1, 4, 2, 3], [0, 1, 4, 2, 3])]
    codes = np.r_[77, 78, codes, 79]
    wider = fit_indices(padded, mean=wide_mean, cov=wide_cov, clusters=codes, **more)
    assert wider == pytest.approx(plain, rel=1e-10)


def test_what_does_not_exist_is_nan_with_its_reason():
    rng = np.random.default_rng(0)
    Y = rng.standard_normal((6, 8))
    ours = fit_indices(
        Y,
        loglik=-90.0,
        n_params=5,
        mean=np.zeros(8),
        cov=np.eye(8),
        trace=5.0,
        names=list("abcdefgh"),
    )
    assert "p(p+3)/2 = 44 moments from 6 clients" in ours["reason"]
    for key in (*PLAIN, *SCALED):
        assert key in ("df", "baseline_df") or math.isnan(ours[key]), key
    assert (ours["df"], ours["aic"]) == (39, 190.0)
    assert ours["bic"] == pytest.approx(180.0 + 5 * math.log(6))


def test_nobody_at_all():
    ours = fit_indices(
        np.empty((0, 4)), loglik=0.0, n_params=3, mean=np.zeros(4), cov=np.eye(4), trace=1.0
    )
    assert "no scores" in ours["reason"]
    assert math.isnan(ours["bic"])


def test_scaled_versions_can_be_missing_alone(monkeypatch):
    Y, _ = panel_with_holes()
    loglik, n_params = independence(Y)
    model = {
        "loglik": loglik,
        "n_params": n_params,
        "mean": np.nanmean(Y, axis=0),
        "cov": np.diag(np.nanvar(Y, axis=0)),
    }
    negative = fit_indices(Y, **model, trace=1e3)
    assert "scaling factor is -" in negative["reason_scaled"]
    assert math.isnan(negative["chisq_scaled"]) and math.isfinite(negative["cfi"])
    monkeypatch.setattr("alliancedyn.engine.scaling.MOST_COLUMNS", 3)
    wide = fit_indices(Y, **model, trace=8.0)
    assert "above 3 columns, and there are 4" in wide["reason_scaled"]
    assert math.isnan(wide["scaling_factor"]) and "reason" not in wide


def test_the_rmsea_interval_is_a_noncentral_quantile():
    Y, model, _, _ = fitted("crosslagged_missing", "clpm_equal")
    ours = fit_indices(Y, **model)
    n, df = len(Y), ours["df"]
    for key, probability in (("rmsea_lower", 0.95), ("rmsea_upper", 0.05)):
        noncentrality = ours[key] ** 2 * n * df
        assert ncx2.cdf(ours["chisq"], df, noncentrality) == pytest.approx(probability, abs=1e-9)


def test_small_samples_inflate_the_chisq_as_documented():
    """E[2 (l_s - l)] of the truth against its nominal df, complete normal data."""
    rng = np.random.default_rng(12)
    n, p, draws = 50, 16, 150
    truth = multivariate_normal(np.zeros(p))
    chisq = []
    for _ in range(draws):
        Y = rng.standard_normal((n, p))
        chisq.append(2 * (saturated(Y).loglik - truth.logpdf(Y).sum()))
    ratio = np.mean(chisq) / (p * (p + 3) / 2)
    error = np.std(chisq) / np.sqrt(draws) / (p * (p + 3) / 2)
    assert ratio == pytest.approx(1.143, abs=4 * error)


@pytest.mark.reference
def test_a_small_real_panel_has_its_baseline():
    frame = pd.read_csv(published_dir() / "A3_claus2020" / "claus_2020.csv")
    wide = frame.pivot(index="id", columns="time", values=["bdi", "who"])
    Y = to_wide(np.stack([wide[v].to_numpy(float) for v in ("bdi", "who")], axis=2))
    loglik = -922.653879626789  # lavaan 0.6-14, RI-CLPM with equal lags, 27 parameters
    ours = fit_indices(Y, loglik=loglik, n_params=27, mean=np.zeros(8), cov=np.eye(8))
    expected = {
        "chisq": 25.5401418043493,
        "df": 17,
        "pvalue": 0.0832561426709785,
        "baseline_chisq": 228.86068453944,
        "baseline_df": 28,
        "cfi": 0.957482262773667,
        "tli": 0.929970785744863,
        "rmsea": 0.108087096944018,
        "rmsea_upper": 0.189449462154828,
    }
    for key, value in expected.items():
        assert ours[key] == pytest.approx(value, rel=ROOT), key
