"""Continuous time against other programs, dense normals, discrete time and known answers.

Tolerances. The reference fits are maxima of the same function on the same numbers, so the
log-likelihood agrees to rounding; estimates are compared in standard errors. Two exact routes to
one likelihood differ by rounding only.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference_files import SIMULATED, published_dir, simulated
from scipy.linalg import expm, logm, solve_continuous_lyapunov
from scipy.stats import multivariate_normal

from alliancedyn import (
    CLPM,
    RICLPM,
    ContinuousTime,
    Dynamics,
    Gaps,
    SessionPanel,
    SpecificationError,
    simulate,
)
from alliancedyn.engine.continuous import discretise, stationary_cov
from alliancedyn.engine.kalman import loglik_by_client
from alliancedyn.engine.likelihood import Likelihood
from alliancedyn.engine.unit_lag import at_gap

Array = NDArray[np.float64]

LOGLIK = 1e-8
ESTIMATE = 2e-4  # in standard errors
ERROR = 2e-4
GRADIENT = 1e-6
EXACT = 1e-9

A = np.array([[-0.9, -0.03], [-0.5, -0.7]])
Q = np.array([[1.2, -0.3], [-0.3, 4.5]])
BETWEEN = np.array([[0.8, -0.5], [-0.5, 4.0]])
CASES = [
    (
        f"{'traits' if traits else 'notraits'}_{initial}",
        ContinuousTime(traits=traits, initial=initial),
    )
    for traits in (True, False)
    for initial in ("stationary", "free")
]


def as_panel(frame: pd.DataFrame, **said: Any) -> SessionPanel:
    return SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        day="day" if "day" in frame else None,
        variables={"alliance": "alliance", "symptoms": "symptoms"},
        process="alliance",
        outcome="symptoms",
        timing={"alliance": "after", "symptoms": "before"},
        **said,
    )


@cache
def reference_panel() -> SessionPanel:
    return as_panel(pd.read_csv(SIMULATED / "continuous_time" / "sessions.csv"))


def process(seed: int, days: Array, drift: Array = A, between: Array = BETWEEN) -> pd.DataFrame:
    """Simulate clients at given days (N, T), time in weeks, settled at the first one."""
    rng = np.random.default_rng(seed)
    n, n_sessions = days.shape
    phi, psi = discretise(drift, Q, np.diff(days, axis=1).ravel() / 7.0)
    phi, psi = (m.reshape(n, n_sessions - 1, 2, 2) for m in (phi, psi))
    w = np.empty((n, n_sessions, 2))
    w[:, 0] = rng.multivariate_normal(np.zeros(2), stationary_cov(drift, Q), n)
    for t in range(1, n_sessions):
        noise = np.linalg.cholesky(psi[:, t - 1]) @ rng.standard_normal((n, 2, 1))
        w[:, t] = (phi[:, t - 1] @ w[:, t - 1, :, None] + noise)[..., 0]
    Y = [5.0, 12.0] + rng.multivariate_normal(np.zeros(2), between, n)[:, None] + w
    return in_rows(Y, days)


def in_rows(Y: Array, days: Array) -> pd.DataFrame:
    n, n_sessions, _ = Y.shape
    return pd.DataFrame(
        {
            "client": np.repeat([f"C{i:04d}" for i in range(n)], n_sessions),
            "session": np.tile(np.arange(1, n_sessions + 1), n),
            "day": days.ravel(),
            "alliance": Y[:, :, 0].ravel(),
            "symptoms": Y[:, :, 1].ravel(),
        }
    )


def random_days(seed: int, n: int, n_sessions: int) -> Array:
    gaps = np.random.default_rng(seed).gamma(4.0, 1.75, (n, n_sessions - 1))
    return np.pad(gaps.cumsum(axis=1), ((0, 0), (1, 0)))


def with_holes(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Take out cells and rows, first and last ones among them."""
    rng = np.random.default_rng(seed)
    out = frame.copy()
    for name in ("alliance", "symptoms"):
        out.loc[rng.random(len(out)) < 0.15, name] = np.nan
    out = out[rng.random(len(out)) > 0.15]
    return out.dropna(subset=["alliance", "symptoms"], how="all")


# -- other programs


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_reference_maxima(name: str, spec: ContinuousTime) -> None:
    peer = simulated("continuous_time", f"ml_{name}")
    fit = spec.fit(reference_panel())
    assert fit.n_params == peer["npar"]
    assert fit.loglik == pytest.approx(peer["loglik"], rel=LOGLIK)
    assert fit.aic == pytest.approx(peer["aic"], rel=LOGLIK)
    for parameter, theirs in peer["params"].items():
        distance = abs(fit.params[parameter] - theirs["estimate"]) / theirs["se"]
        assert distance < ESTIMATE, parameter
        assert fit.se[parameter] == pytest.approx(theirs["se"], rel=ERROR), parameter
    week = np.array(peer["transition_over_7_days"]).ravel()
    np.testing.assert_allclose(fit.params.filter(like="phi[").to_numpy(), week, atol=1e-7)
    spread = np.array(peer["innovation_cov_over_7_days"])[np.triu_indices(2)]
    np.testing.assert_allclose(fit.params.filter(like="innovation").to_numpy(), spread, rtol=1e-6)


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_reference_values(name: str, spec: ContinuousTime) -> None:
    peer = simulated("continuous_time", f"values_{name}")
    likelihood = spec.objective(reference_panel())
    assert sorted(likelihood.names) == sorted(peer["order"])
    for point in peer["points"]:
        assert spec.loglik(reference_panel(), point["params"]) == pytest.approx(
            point["loglik"], rel=LOGLIK
        )
        matrices = likelihood.layout.from_params(point["params"])
        (system,) = likelihood.systems(matrices)
        first = loglik_by_client(system, likelihood.shares[0].blocks)[:5]
        np.testing.assert_allclose(first, point["first_five_clients"], rtol=LOGLIK)
        ours = dict(zip(likelihood.names, natural_gradient(likelihood, matrices), strict=True))
        theirs = np.array(point["gradient"])
        np.testing.assert_allclose(
            [ours[parameter] for parameter in peer["order"]],
            theirs,
            rtol=GRADIENT,
            atol=GRADIENT * np.abs(theirs).max(),
        )


def natural_gradient(likelihood: Likelihood, matrices: dict[str, Array]) -> Array:
    """Return the derivatives by the natural parameters, from those by theta."""
    theta = likelihood.layout.theta(matrices)
    score = likelihood.value_and_score(theta)[1]
    return np.linalg.solve(likelihood.layout.jacobian(theta).T, score)


@pytest.mark.reference
def test_anomia_and_authoritarianism() -> None:
    """The panel of Voelkle et al. (2012), as ctsem's own tests fit it: gaps of 1, 1, 2 and 2."""
    folder = published_dir() / "D4_anomauth_ctsem"
    peer = json.loads((folder / "peer_results.json").read_text(encoding="utf-8"))
    wide = pd.read_csv(folder / "anomauth.csv")
    Y = np.stack([wide[[f"Y1_T{t}", f"Y2_T{t}"]].to_numpy() for t in range(5)], axis=1)
    days = np.broadcast_to([0.0, 1.0, 2.0, 4.0, 6.0], Y.shape[:2])
    frame = in_rows(Y, days).dropna(subset=["alliance", "symptoms"], how="all")
    spec = ContinuousTime(traits=False, initial_mean="free", time_unit=1)
    fit = spec.fit(as_panel(frame))
    assert fit.n_params == peer["npar"] == 14
    assert -2.0 * fit.loglik == pytest.approx(23415.929, abs=1e-2)
    assert -2.0 * fit.loglik == pytest.approx(peer["minus2LL"], rel=LOGLIK)
    drift = fit.params.filter(like="drift[").to_numpy()
    np.testing.assert_allclose(drift, np.ravel(peer["DRIFT"]), atol=1e-5)
    upper = np.triu_indices(2)
    for family, theirs in (("diffusion_cov", "DIFFUSIONcov"), ("initial_cov", "T0VAR")):
        ours = fit.params.filter(like=f"{family}[").to_numpy()
        np.testing.assert_allclose(ours, np.array(peer[theirs])[upper], atol=1e-5)
    for family, theirs in (("mean", "MANIFESTMEANS"), ("initial_mean", "T0MEANS")):
        ours = [fit.params[f"{family}[{v}]"] for v in ("alliance", "symptoms")]
        np.testing.assert_allclose(ours, peer[theirs], atol=1e-5)
    errors = [fit.se[f"mean[{v}]"] for v in ("alliance", "symptoms")]
    np.testing.assert_allclose(errors, peer["se_manifestmeans"], rtol=1e-4)
    assert fit.params["phi[symptoms,symptoms]"] == pytest.approx(
        peer["discrete_dT1"][1][1], abs=1e-5
    )


# -- a dense normal for every client


def symmetric(params: dict[str, float], family: str, group: str = "") -> Array:
    a, b = "alliance", "symptoms"
    both = params.get(f"{family}[{a},{b}]{group}", 0.0)
    ends = [params.get(f"{family}[{v},{v}]{group}", 0.0) for v in (a, b)]
    return np.array([[ends[0], both], [both, ends[1]]])


def plain(params: dict[str, float], family: str, group: str = "", column: str = "") -> Array:
    """Read a vector; zeros where it is no parameter."""
    return np.array(
        [params.get(f"{family}[{v}{column}]{group}", 0.0) for v in ("alliance", "symptoms")]
    )


def dense_loglik(
    frame: pd.DataFrame, params: dict[str, float], unit: float, stationary: bool
) -> float:
    """Sum the normal densities of all clients, straight from the equations of the model."""
    total = 0.0
    for _, rows in frame.groupby("client"):
        group = f"|arm={rows['arm'].iloc[0]}" if "arm" in rows else ""
        total += dense_client(rows, params, unit, stationary, group)
    return total


def dense_client(
    rows: pd.DataFrame, params: dict[str, float], unit: float, stationary: bool, group: str
) -> float:
    scores = rows[["alliance", "symptoms"]].to_numpy()
    crisis = rows["crisis"].to_numpy() if "crisis" in rows else np.zeros(len(rows))
    used = ~np.isnan(scores).all(axis=1) | (crisis != 0.0)
    start = used.argmax()
    scores, crisis = scores[start:], crisis[start:]
    h = rows["day"].to_numpy()[start:] / unit
    h = h - h[0]
    drift = np.array(
        [[params[f"drift[{r},{c}]{group}"] for c in ("alliance", "symptoms")]
         for r in ("alliance", "symptoms")]
    )  # fmt: skip
    settled = solve_continuous_lyapunov(drift, -symmetric(params, "diffusion_cov", group))
    first = settled if stationary else symmetric(params, "initial_cov", group)
    since = expm(drift * h[:, None, None])
    between = expm(drift * np.abs(np.subtract.outer(h, h))[..., None, None])
    m = len(h)
    cov = np.empty((m, 2, m, 2))
    mean = np.empty((m, 2))
    level = plain(params, "mean", group)
    if "severity" in rows:
        level = level + plain(params, "between", group, ",severity") * rows["severity"].iloc[0]
    for t in range(m):
        now = since[t] @ (first - settled) @ since[t].T + settled
        for s in range(t, m):
            cov[s, :, t] = between[s, t] @ now
            cov[t, :, s] = cov[s, :, t].T
        mean[t] = level + plain(params, "trend", group) * h[t]
        mean[t] += since[t] @ plain(params, "initial_mean", group)
        for s in range(t + 1):
            pushed = plain(params, "input", group, ",crisis") * crisis[s]
            mean[t] += between[t, s] @ pushed
    cov += symmetric(params, "between_cov", group)[None, :, None, :]
    flat = cov.reshape(2 * m, 2 * m)
    flat += np.diag(np.tile(plain(params, "measurement_var", group), m))
    seen = ~np.isnan(scores.ravel())
    if not seen.any():
        return 0.0
    return float(
        multivariate_normal.logpdf(
            scores.ravel()[seen], mean.ravel()[seen], flat[np.ix_(seen, seen)]
        )
    )


OPTIONS: list[dict[str, Any]] = [
    {},
    {"traits": False, "initial": "stationary"},
    {"trend": "linear", "initial_mean": "free"},
    {"traits": False, "trend": "linear", "covariates": ("severity",)},
    {"measurement_var": "free", "time_varying": ("crisis",), "covariates": ("severity",)},
    {"group": "arm", "time_unit": 10.0, "initial": "stationary", "measurement_var": "free"},
    {"group": "arm", "trend": "linear", "initial_mean": "free", "time_varying": ("crisis",)},
]


def rich_frame(seed: int, n: int = 23, n_sessions: int = 6) -> pd.DataFrame:
    """Draw clients with holes, covariate, groups, and inputs at some sessions without scores."""
    rng = np.random.default_rng(seed)
    frame = process(seed, random_days(seed, n, n_sessions))
    whole = frame.assign(
        severity=np.repeat(rng.standard_normal(n), n_sessions),
        arm=np.repeat(np.arange(n) % 2, n_sessions),
        crisis=(rng.random(len(frame)) < 0.2) * rng.choice([1.0, 2.5], len(frame)),
    )
    for name in ("alliance", "symptoms"):
        whole.loc[rng.random(len(whole)) < 0.25, name] = np.nan
    return whole[rng.random(len(whole)) > 0.15].reset_index(drop=True)


def rich_panel(frame: pd.DataFrame) -> SessionPanel:
    return as_panel(frame, arm="arm", covariates=("severity", "crisis"))


def some_point(likelihood: Likelihood, seed: int) -> tuple[Array, dict[str, float]]:
    """Return a point away from the start, by theta and by name."""
    rng = np.random.default_rng(seed)
    theta = likelihood.start + 0.15 * rng.standard_normal(len(likelihood.start))
    theta[likelihood.linear] += 0.2 * rng.standard_normal(int(likelihood.linear.sum()))
    return theta, likelihood.to_params(theta)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("seed", [1, 2])
def test_loglik_is_that_of_dense_normals(options: dict[str, Any], seed: int) -> None:
    frame = rich_frame(seed)
    spec = ContinuousTime(**options)
    panel = rich_panel(frame)
    likelihood = spec.objective(panel)
    theta, params = some_point(likelihood, seed)
    used = frame
    if not spec.time_varying:
        used = used.drop(columns="crisis")
    if not spec.covariates:
        used = used.drop(columns="severity")
    if spec.group is None:
        used = used.drop(columns="arm")
    dense = dense_loglik(used, params, spec.time_unit, spec.initial == "stationary")
    assert spec.loglik(panel, params) == pytest.approx(dense, rel=LOGLIK)
    assert likelihood.value_and_score(theta)[0] == pytest.approx(dense, rel=LOGLIK)


@pytest.mark.parametrize("initial", ["free", "stationary"])
def test_clients_who_start_late_start_at_their_first_row(initial: str) -> None:
    """Also where all share one schedule, of which some miss the first sessions."""
    days = np.broadcast_to([0.0, 7.0, 21.0, 28.0, 56.0], (30, 5))
    frame = with_holes(process(51, days), 52)
    assert (frame.groupby("client")["session"].min() > 1).any()
    panel = as_panel(frame)
    spec = ContinuousTime(initial=initial, trend="linear", initial_mean="free")
    _, params = some_point(spec.objective(panel), 53)
    dense = dense_loglik(frame, params, 7.0, initial == "stationary")
    assert spec.loglik(panel, params) == pytest.approx(dense, rel=LOGLIK)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_score_is_the_derivative(options: dict[str, Any]) -> None:
    likelihood = ContinuousTime(**options).objective(rich_panel(rich_frame(3)))
    theta, _ = some_point(likelihood, 4)
    value, score = likelihood.value_and_score(theta)
    step = 1e-5
    for i in range(len(theta)):
        move = np.zeros_like(theta)
        move[i] = step
        ahead, back = (likelihood.value_and_score(theta + s * move)[0] for s in (1.0, -1.0))
        slope = (ahead - back) / (2.0 * step)
        assert score[i] == pytest.approx(slope, rel=GRADIENT, abs=1e-6 * abs(value))
    np.testing.assert_allclose(likelihood.scores(theta).sum(axis=0), score, rtol=1e-9, atol=1e-9)


def test_scores_of_clients_are_their_own() -> None:
    frame = rich_frame(5)
    spec = ContinuousTime(trend="linear")
    whole = spec.objective(rich_panel(frame))
    theta, _ = some_point(whole, 6)
    scores = whole.scores(theta)
    clients = rich_panel(frame).clients
    step = 1e-5
    for i, _name in enumerate(clients[:3]):
        move = np.zeros_like(theta)
        move[2] = step
        ahead, back = (
            loglik_by_client(*_system_and_blocks(whole, theta + s * move))[i] for s in (1.0, -1.0)
        )
        assert scores[i, 2] == pytest.approx((ahead - back) / (2.0 * step), rel=1e-5, abs=1e-7)


def _system_and_blocks(likelihood: Likelihood, theta: Array) -> tuple[Any, Any]:
    (system,) = likelihood.systems(likelihood.layout.matrices(theta))
    return system, likelihood.shares[0].blocks


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 30.0), st.floats(-8.0, 0.5))
def test_reported_lags_are_those_of_the_discretisation(seed: int, gap: float, size: float) -> None:
    rng = np.random.default_rng(seed)
    drift = rng.standard_normal((3, 3)) * np.exp(size)
    root = rng.standard_normal((3, 3))
    phi, psi = discretise(drift, root @ root.T, np.array([gap]))
    ours = at_gap(drift, root @ root.T, gap)
    np.testing.assert_allclose(ours[0], phi[0], rtol=1e-11, atol=1e-12 * np.abs(phi).max())
    np.testing.assert_allclose(ours[1], psi[0], rtol=1e-11, atol=1e-12 * np.abs(psi).max())


def test_errors_of_reported_lags_are_the_delta_method() -> None:
    fit = ContinuousTime(initial="stationary").fit(reference_panel())

    def lag(p: Any) -> float:
        drift = [[p[f"drift[{r},{c}]"] for c in fit.variables] for r in fit.variables]
        return float(expm(np.array(drift))[1, 0])

    ours = fit.derive(lag)
    assert fit.effect("alliance", "symptoms").value == pytest.approx(ours.value, rel=1e-12)
    assert fit.effect("alliance", "symptoms").se == pytest.approx(ours.se, rel=1e-6)
    P = symmetric(dict(fit.params), "initial_cov")
    drift = fit.params.filter(like="drift[").to_numpy().reshape(2, 2)
    Q_hat = symmetric(dict(fit.params), "diffusion_cov")
    np.testing.assert_allclose(drift @ P + P @ drift.T + Q_hat, 0.0, atol=1e-12)
    np.testing.assert_allclose(fit.sd_within().to_numpy(), np.sqrt(np.diag(P)), rtol=1e-9)


# -- discrete time


@pytest.mark.parametrize("discrete", [RICLPM, CLPM])
@pytest.mark.parametrize("clock", ["session", "days"])
@pytest.mark.parametrize("initial", ["free", "stationary"])
@pytest.mark.parametrize("means", ["free", "equal"])
def test_equal_gaps_are_discrete_time(
    discrete: type[RICLPM], clock: str, initial: str, means: str
) -> None:
    days = np.broadcast_to(7.0 * np.arange(6), (80, 6))
    frame = with_holes(process(7, days), 8)
    if clock == "days" and initial == "free":  # the first row is the first session
        starters = frame.loc[frame["session"] == 1, "client"]
        frame = frame[frame["client"].isin(starters)]
    panel = as_panel(frame)
    traits = discrete is RICLPM
    spec = ContinuousTime(traits=traits, initial=initial, means=means, time=clock)
    ct, dt = spec.fit(panel, strict=False), discrete(initial=initial, means=means).fit(panel)
    assert ct.loglik == pytest.approx(dt.loglik, rel=LOGLIK)
    assert ct.n_params == dt.n_params
    for name in dt.params.index:
        assert abs(ct.params[name] - dt.params[name]) < 1e-4 * dt.se[name], name
        assert ct.se[name] == pytest.approx(dt.se[name], rel=1e-4), name
    ours, theirs = ct.fit_indices(), dt.fit_indices()
    assert ours["chisq"] == pytest.approx(theirs["chisq"], rel=1e-6)
    assert ours["df"] == theirs["df"]


def test_equal_gaps_have_the_log_likelihood_of_discrete_time_at_any_parameters() -> None:
    panel = as_panel(with_holes(process(9, np.broadcast_to(7.0 * np.arange(5), (40, 5))), 10))
    dt = RICLPM(means="equal", initial="stationary")
    params = dt.objective(panel).to_params(dt.objective(panel).start)
    phi = np.array([[params[f"phi[{r},{c}]"] for c in ("alliance", "symptoms")]
                    for r in ("alliance", "symptoms")])  # fmt: skip
    drift, P = logm(phi).real, symmetric(params, "initial_cov")
    spread = -(drift @ P + P @ drift.T)
    for i, r in enumerate(("alliance", "symptoms")):
        for j, c in enumerate(("alliance", "symptoms")):
            params[f"drift[{r},{c}]"] = drift[i, j]
            params[f"diffusion_cov[{r},{c}]"] = spread[i, j]
    for clock in ("session", "days"):
        spec = ContinuousTime(initial="stationary", time=clock)
        assert spec.loglik(panel, params) == pytest.approx(dt.loglik(panel, params), rel=LOGLIK)


def test_one_schedule_costs_no_more_than_discrete_time() -> None:
    frame = with_holes(process(11, np.broadcast_to([0.0, 7.0, 21.0, 28.0], (30, 4))), 12)
    panel = as_panel(frame)
    for spec in (ContinuousTime(initial="stationary"), ContinuousTime(time="session")):
        (share,) = spec.objective(panel).shares
        assert share.family.gaps.shape == (3,)
        unique = replace(
            share.family, gaps=np.broadcast_to(share.family.gaps, (len(share.rows), 3))
        )
        matrices = spec.objective(panel).layout.matrices(spec.objective(panel).start)
        both = [family.system(matrices) for family in (share.family, unique)]
        assert both[1].phi.ndim == 4
        np.testing.assert_allclose(
            loglik_by_client(both[0], share.blocks),
            loglik_by_client(both[1], share.blocks),
            rtol=1e-12,
        )


# -- what it is for


def test_unequal_gaps_treated_as_equal_shrink_the_autoregression() -> None:
    """Gaps of 1, 2 and 4 weeks (60, 25, 15 %): .40 becomes .29 by sessions, not by days."""
    truth = Dynamics(
        phi=[[0.35, 0.0], [0.0, 0.40]],
        innovation_cov=[[1.0, -0.3], [-0.3, 1.0]],
        between_cov=[[1.0, -0.3], [-0.3, 1.0]],
        mean=(0.0, 0.0),
    )
    gaps = Gaps(weeks=(1, 2, 4), weights=(0.6, 0.25, 0.15), per="week")
    panel = simulate(truth, clients=2000, sessions=10, gaps=gaps, seed=11)
    by_days = ContinuousTime(initial="stationary").fit(panel)
    by_session = RICLPM(initial="stationary", means="equal").fit(panel)
    own = "phi[symptoms,symptoms]"
    assert by_session.params[own] == pytest.approx(0.29, abs=0.02)
    assert by_session.params[own] < 0.40 - 5.0 * by_session.se[own]
    for r, row in zip(truth.variables, truth.phi, strict=True):
        for c, value in zip(truth.variables, row, strict=True):
            name = f"phi[{r},{c}]"
            assert abs(by_days.params[name] - value) < 3.5 * by_days.se[name], name
    assert by_days.se[own] < 0.015
    assert by_days.bic < by_session.bic - 10.0


def test_parameters_come_back_with_their_intervals() -> None:
    names = [f"drift[{r},{c}]" for r in ("alliance", "symptoms") for c in ("alliance", "symptoms")]
    found, errors = [], []
    for seed in range(40):
        frame = process(seed, random_days(10_000 + seed, 120, 8))
        fit = ContinuousTime().fit(as_panel(frame), strict=False)
        found.append(fit.params[names].to_numpy())
        errors.append(fit.se[names].to_numpy())
    deviation, errors = np.array(found) - A.ravel(), np.array(errors)
    spread = deviation.std(axis=0, ddof=1)
    assert (np.abs(deviation.mean(axis=0)) < 4.0 * spread / np.sqrt(40)).all()
    covered = (np.abs(deviation) < 1.96 * errors).mean(axis=0)
    assert (covered > 0.95 - 3.0 * np.sqrt(0.95 * 0.05 / 40)).all()
    # Four Monte Carlo errors of a standard deviation; 300 panels gave ratios of 1.02 to 1.08.
    apart = np.abs(np.log(errors.mean(axis=0) / spread))
    assert (apart < 4.0 / np.sqrt(2.0 * 39)).all()


def test_an_event_moves_the_process_and_the_drift_carries_it_on() -> None:
    days = random_days(13, 400, 8)
    frame = process(13, days)
    rng = np.random.default_rng(13)
    crisis = (rng.random((400, 8)) < 0.15) * 1.0
    Y = frame[["alliance", "symptoms"]].to_numpy().reshape(400, 8, 2).copy()
    pushed = np.zeros((400, 2))
    for t in range(8):
        if t:
            carry = expm(A * ((days[:, t] - days[:, t - 1]) / 7.0)[:, None, None])
            pushed = (carry @ pushed[..., None])[..., 0]
        pushed = pushed + crisis[:, t, None] * [-0.8, 3.0]
        Y[:, t] += pushed
    whole = in_rows(Y, days).assign(crisis=crisis.ravel())
    panel = as_panel(whole, covariates=("crisis",))
    fit = ContinuousTime(time_varying=("crisis",)).fit(panel)
    for name, value in (("alliance", -0.8), ("symptoms", 3.0)):
        parameter = f"input[{name},crisis]"
        assert abs(fit.params[parameter] - value) < 3.5 * fit.se[parameter]
        assert fit.se[parameter] < 0.2


# -- states and forecasts


def test_states_and_forecasts_are_those_of_dense_normals() -> None:
    frame = with_holes(process(15, random_days(15, 40, 6)), 16)
    panel = as_panel(frame)
    fit = ContinuousTime().fit(panel, strict=False)
    states = fit.states().set_index(["client", "session", "variable", "part"])
    ahead = fit.predict().set_index(["client", "session", "variable"])
    who = frame["client"].value_counts().idxmax()
    rows = frame[frame["client"] == who]
    mean, cov = _joint(rows, dict(fit.params))
    Y, m = rows[["alliance", "symptoms"]].to_numpy(), len(rows)
    seen = np.flatnonzero(~np.isnan(Y.ravel()))
    w = np.arange(2 * m)
    loads = cov["w"] + cov["k"]
    gain = np.linalg.solve(loads[np.ix_(seen, seen)], (Y.ravel() - mean)[seen])
    for part, name in (("w", "within"), ("k", "between")):
        expected = cov[part][:, seen] @ gain
        left = cov[part] - cov[part][:, seen] @ np.linalg.solve(
            loads[np.ix_(seen, seen)], cov[part][seen]
        )
        for at in w:
            key = (who, rows["session"].iloc[at // 2], ("alliance", "symptoms")[at % 2], name)
            assert states.loc[key, "mean"] == pytest.approx(expected[at], abs=1e-8)
            assert states.loc[key, "sd"] == pytest.approx(np.sqrt(left[at, at]), abs=1e-7)
    last = rows["session"].iloc[-1]
    past = seen[seen < 2 * (m - 1)]
    weights = np.linalg.solve(loads[np.ix_(past, past)], loads[past])
    for j, name in enumerate(("alliance", "symptoms")):
        at = 2 * (m - 1) + j
        forecast = mean[at] + weights[:, at] @ (Y.ravel() - mean)[past]
        assert ahead.loc[(who, last, name), "mean"] == pytest.approx(forecast, abs=1e-8)


def _joint(rows: pd.DataFrame, params: dict[str, float]) -> tuple[Array, dict[str, Array]]:
    """Mean of all scores of a client, and covariances of the within and the stable parts."""
    drift = np.array([[params[f"drift[{r},{c}]"] for c in ("alliance", "symptoms")]
                      for r in ("alliance", "symptoms")])  # fmt: skip
    settled = solve_continuous_lyapunov(drift, -symmetric(params, "diffusion_cov"))
    h = (rows["day"].to_numpy() - rows["day"].iloc[0]) / 7.0
    m = len(h)
    within = np.empty((m, 2, m, 2))
    for t in range(m):
        carry = expm(drift * h[t])
        now = carry @ (symmetric(params, "initial_cov") - settled) @ carry.T + settled
        for s in range(t, m):
            within[s, :, t] = expm(drift * (h[s] - h[t])) @ now
            within[t, :, s] = within[s, :, t].T
    stable = np.tile(symmetric(params, "between_cov"), (m, m))
    mean = np.tile(plain(params, "mean"), m)
    return mean, {"w": within.reshape(2 * m, 2 * m), "k": stable}


def test_sessions_without_a_time_have_no_state() -> None:
    frame = process(17, random_days(17, 30, 5))
    gone = (frame["client"] == "C0003") & (frame["session"] == 3)
    unscored = (frame["client"] == "C0004") & (frame["session"] == 3)
    frame.loc[unscored, ["alliance", "symptoms"]] = np.nan
    fit = ContinuousTime().fit(as_panel(frame[~gone]), strict=False)
    states = fit.states().set_index(["client", "session"])
    assert ("C0003", 3) not in states.index
    assert ("C0004", 3) in states.index  # no score, but a day
    assert ("C0003", 3) not in fit.predict().set_index(["client", "session"]).index
    bare = fit.without_data()
    pd.testing.assert_frame_equal(bare.states(panel=as_panel(frame[~gone])), fit.states())


# -- errors


def test_robust_errors_are_the_sandwich() -> None:
    frame = process(19, random_days(19, 150, 6))
    frame["therapist"] = frame["client"].map(lambda c: f"T{int(c[1:]) % 30}")
    panel = as_panel(frame, therapist="therapist")
    spec = ContinuousTime(initial="stationary")
    plain_fit = spec.fit(panel)
    likelihood = plain_fit.model.likelihood(plain_fit.data)
    theta = likelihood.layout.theta(likelihood.layout.from_params(dict(plain_fit.params)))
    to_natural = likelihood.layout.jacobian(theta)
    scores = likelihood.scores(theta) @ np.linalg.inv(to_natural)
    names = list(likelihood.names)
    bread = plain_fit.cov.loc[names, names].to_numpy()
    codes = np.array([int(c[1:]) % 30 for c in panel.clients])
    sums = np.zeros((30, len(names)))
    np.add.at(sums, codes, scores)
    for errors, meat in (
        ("robust", scores.T @ scores),
        ("cluster:therapist", sums.T @ sums * 30 / 29),
    ):
        fit = spec.fit(panel, errors=errors)
        expected = np.sqrt(np.diag(bread @ meat @ bread))
        np.testing.assert_allclose(fit.se[names].to_numpy(), expected, rtol=1e-5)
        assert "own days" in fit.fit_indices()["reason"]


# -- invariances


def test_the_unit_of_time_is_only_a_unit() -> None:
    weeks, days = (
        ContinuousTime(time_unit=unit, trend="linear").fit(reference_panel()) for unit in (7.0, 1.0)
    )
    assert days.loglik == pytest.approx(weeks.loglik, rel=1e-12)
    for family in ("drift", "diffusion_cov", "trend"):
        np.testing.assert_allclose(
            7.0 * days.params.filter(like=f"{family}[").to_numpy(),
            weeks.params.filter(like=f"{family}[").to_numpy(),
            rtol=1e-5,
            atol=1e-6,
        )


def test_the_search_starts_alike_in_any_unit_of_time() -> None:
    values = []
    for unit in (7.0, 1.0, 365.0):
        objective = ContinuousTime(time_unit=unit).objective(reference_panel())
        values.append(objective.value_and_score(objective.start)[0])
    np.testing.assert_allclose(values, values[0], rtol=1e-10)
    assert values[0] > -4733.910896 - 300.0  # not far below the maximum


def test_scores_rescaled_rescale_the_drift() -> None:
    frame = pd.read_csv(SIMULATED / "continuous_time" / "sessions.csv")
    fit = ContinuousTime().fit(as_panel(frame.assign(alliance=10.0 * frame["alliance"] + 3.0)))
    plain_fit = ContinuousTime().fit(reference_panel())
    for name, factor in (
        ("drift[symptoms,alliance]", 0.1),
        ("drift[alliance,symptoms]", 10.0),
        ("drift[alliance,alliance]", 1.0),
        ("between_cov[alliance,symptoms]", 10.0),
    ):
        assert fit.params[name] == pytest.approx(factor * plain_fit.params[name], rel=1e-5)


def test_rows_in_any_order_and_empty_rows_change_nothing() -> None:
    frame = with_holes(process(21, random_days(21, 40, 6)), 22)
    spec = ContinuousTime(trend="linear", initial_mean="free")
    plain_fit = spec.fit(as_panel(frame), strict=False)
    mixed = frame.sample(frac=1.0, random_state=3)
    empty = frame.groupby("client", as_index=False).first()
    empty = empty.assign(session=empty["session"] - 1, day=-3.0, alliance=np.nan, symptoms=np.nan)
    more = as_panel(pd.concat([mixed, empty]))
    fit = ContinuousTime(
        trend="linear", initial_mean="free", sessions=(int(frame["session"].min()), 6)
    ).fit(more, strict=False)
    assert fit.loglik == pytest.approx(plain_fit.loglik, rel=1e-10)
    whole = spec.fit(more, strict=False)
    assert whole.loglik == pytest.approx(plain_fit.loglik, rel=1e-10)


def test_specifications_are_values() -> None:
    spec = ContinuousTime(time="session", traits=False)
    assert spec == ContinuousTime(traits=False, time="session")
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert hash(spec) == hash(ContinuousTime(traits=False, time="session"))
    assert repr(spec) == "ContinuousTime(traits=False, time='session')"
    assert ContinuousTime().unit == "week"
    assert ContinuousTime(time_unit=30).unit == "30-day period"
    assert spec.unit == "session"


# -- refusals


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"lags": "free"}, "lags is 'free'; .*only 'equal'"),
        ({"order": 2}, "order is 2; .*only 1"),
        ({"step": 4}, "step is 4; .*does not take step="),
        ({"moderators": ("severity",)}, "moderators is"),
        ({"time": "weeks"}, "choose 'days' or 'session'"),
        ({"time_unit": 0.0}, "days in a unit of time"),
        ({"time_unit": "week"}, "give a finite number"),
        ({"means": "free", "trend": "linear"}, 'means="equal" with trend='),
        ({"initial_mean": "session"}, "choose 'common' or 'free'"),
    ],
)
def test_options_without_sense_are_refused(options: dict[str, Any], fragment: str) -> None:
    with pytest.raises(SpecificationError, match=fragment):
        ContinuousTime(**options)


def test_a_panel_without_days_is_refused_with_the_remedy() -> None:
    frame = process(23, random_days(23, 20, 4)).drop(columns="day")
    with pytest.raises(SpecificationError, match=r'neither.*time="session"'):
        ContinuousTime().fit(as_panel(frame))
    assert ContinuousTime(time="session").fit(as_panel(frame), strict=False).n_params == 15


def test_scores_without_a_day_are_counted_and_refused() -> None:
    frame = process(24, random_days(24, 20, 4))
    frame.loc[[5, 13, 14], "day"] = np.nan
    with pytest.raises(SpecificationError, match=r"3 sessions of 'C0001', 'C0003' have a score"):
        ContinuousTime().fit(as_panel(frame))
    frame.loc[[5, 13, 14], ["alliance", "symptoms"]] = np.nan
    ContinuousTime().fit(as_panel(frame), strict=False)


def test_days_that_run_backwards_are_refused() -> None:
    frame = process(25, random_days(25, 20, 4))
    frame.loc[6, "day"] = 0.5
    with pytest.raises(SpecificationError, match=r"Days run backwards.*'C0001'"):
        ContinuousTime().fit(as_panel(frame, order="session"))


def test_two_scores_at_one_time_need_measurement_error() -> None:
    frame = process(26, random_days(26, 60, 5))
    frame.loc[7, "day"] = frame.loc[6, "day"]
    with pytest.raises(SpecificationError, match="2 sessions of 'C0001' share their day"):
        ContinuousTime().fit(as_panel(frame))
    ContinuousTime(measurement_var={"alliance": 0.3, "symptoms": 0.9}).fit(
        as_panel(frame), strict=False
    )
    with pytest.raises(SpecificationError, match="share their day"):
        ContinuousTime(measurement_var={"alliance": 0.3}).objective(as_panel(frame))
    frame.loc[6, "symptoms"] = np.nan  # what is left of the two rows is one row in two parts
    frame.loc[7, "alliance"] = np.nan
    split = ContinuousTime().fit(as_panel(frame), strict=False)
    joined = frame.copy()
    joined.loc[6, "symptoms"] = frame.loc[7, "symptoms"]
    one = ContinuousTime().fit(as_panel(joined.drop(index=7)), strict=False)
    assert split.loglik == pytest.approx(one.loglik, rel=1e-10)


def test_traits_need_three_sessions() -> None:
    frame = process(27, random_days(27, 40, 2))
    with pytest.raises(SpecificationError, match="traits=False"):
        ContinuousTime().fit(as_panel(frame))
    assert ContinuousTime(traits=False).fit(as_panel(frame)).converged


def test_a_missed_session_is_no_singular_score() -> None:
    """At a bound the scores of a client are looked at where that client was seen."""
    frame = process(29, random_days(29, 300, 6))
    frame = frame[~((frame["client"] == "C0000") & (frame["session"].isin([2, 4])))]
    fit = ContinuousTime(measurement_var="free").fit(as_panel(frame), strict=False)
    assert fit.diagnostics["boundary"]
    assert fit.converged


def test_several_items_have_continuous_time_too() -> None:
    frame = process(28, random_days(28, 150, 6), between=0.5 * BETWEEN)
    rng = np.random.default_rng(28)
    items = {
        name: loading * frame[series] + 0.5 * rng.standard_normal(len(frame))
        for name, series, loading in (
            ("bond", "alliance", 1.0),
            ("task", "alliance", 0.8),
            ("parcel1", "symptoms", 1.0),
            ("parcel2", "symptoms", 1.2),
        )
    }
    panel = SessionPanel.from_frame(
        frame.assign(**items),
        client="client",
        session="session",
        day="day",
        variables={name: name for name in items},
    )
    spec = ContinuousTime(
        indicators={"alliance": ["bond", "task"], "symptoms": ["parcel1", "parcel2"]},
        measurement_var="equal",
    )
    fit = spec.fit(panel)
    for name, value in (("loading[task]", 0.8), ("loading[parcel2]", 1.2)):
        assert abs(fit.params[name] - value) < 3.5 * fit.se[name]
    for r in range(2):
        for c in range(2):
            name = f"drift[{fit.variables[r]},{fit.variables[c]}]"
            assert abs(fit.params[name] - A[r, c]) < 3.5 * fit.se[name], name
