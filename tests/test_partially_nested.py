"""Clients without a therapist in models with therapists: kept, without an effect of one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from reference_files import cases_dir
from scipy.optimize import minimize

import alliancedyn as ad
from alliancedyn.engine.blocks import Components, summarise_blocks
from alliancedyn.engine.clustered import clustered_cov
from alliancedyn.engine.correlated import fit_mixed_ar
from alliancedyn.engine.crossed import fit_crossed
from alliancedyn.engine.mixed import fit_mixed
from alliancedyn.engine.mixed_information import mixed_information
from alliancedyn.engine.mixed_rows import NO_UNIT
from alliancedyn.errors import InferenceWarning

rng = np.random.default_rng(3)
CLIENT = np.repeat(np.arange(40), 6)
UNIT = np.where(CLIENT < 16, NO_UNIT, (CLIENT - 16) // 4)  # 16 clients without, 6 units of four
KEPT = np.sort(rng.permutation(240)[:200])
X = np.column_stack([np.ones(240), rng.normal(size=240), UNIT >= 0])
SHARED = np.where(UNIT < 0, 0.0, 0.8 * rng.normal(size=6)[np.maximum(UNIT, 0)])
Y = X @ [1.0, 0.5, 0.3] + rng.normal(size=40)[CLIENT] + SHARED + rng.normal(size=240)
Y = Y + 0.7 * rng.normal(size=40)[CLIENT] * X[:, 1]
Y, X, CLIENT, UNIT = Y[KEPT], X[KEPT], CLIENT[KEPT], UNIT[KEPT]
TIME = np.tile(np.arange(6.0), 40)[KEPT]
SAME_CLIENT = CLIENT[:, None] == CLIENT
SAME_UNIT = (UNIT[:, None] == UNIT) & (UNIT >= 0)
INDEPENDENT = np.where(UNIT < 0, 1000 + CLIENT, UNIT)


def dense(V: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Return REML log-likelihood, effects and their covariance under Cov(Y) = V."""
    root = np.linalg.cholesky(V)
    D = np.linalg.solve(root, np.column_stack([X, Y]))
    XX = D[:, :-1].T @ D[:, :-1]
    beta = np.linalg.solve(XX, D[:, :-1].T @ D[:, -1])
    left = D[:, -1] - D[:, :-1] @ beta
    deviance = 2.0 * np.log(np.diag(root)).sum() + left @ left + np.linalg.slogdet(XX)[1]
    deviance += (len(Y) - X.shape[1]) * np.log(2.0 * np.pi)
    return -0.5 * deviance, beta, np.linalg.inv(XX)


@pytest.mark.parametrize("slopes", [1, 2])
def test_the_likelihood_is_that_of_the_whole_matrix(slopes: int) -> None:
    Z = X[:, :slopes]

    def covariance(theta: np.ndarray) -> np.ndarray:
        root = np.zeros((slopes, slopes))
        root[np.tril_indices(slopes)] = theta[:-2]
        clients = SAME_CLIENT * (Z @ root @ root.T @ Z.T)
        return clients + theta[-2] ** 2 * SAME_UNIT + np.exp(theta[-1]) * np.eye(len(Y))

    start = np.r_[np.eye(slopes)[np.tril_indices(slopes)], 0.6, 0.0]
    best = minimize(lambda theta: -dense(covariance(theta))[0], start, options={"gtol": 1e-6})
    V = covariance(best.x)
    loglik, beta, cov = dense(V)
    fit = fit_mixed(Y, X, Z, CLIENT, outer=UNIT)
    assert fit.loglik == pytest.approx(loglik, abs=1e-8) and fit.units == (40, 6)
    np.testing.assert_allclose(fit.beta, beta, atol=1e-5)
    np.testing.assert_allclose(fit.beta_cov, cov, atol=1e-5)
    assert fit.outer_var == pytest.approx(best.x[-2] ** 2, abs=1e-4)
    scores = X * np.linalg.solve(V, Y - X @ beta)[:, None]
    parts = np.array([scores[c == CLIENT].sum(axis=0) for c in range(40)]) @ cov
    np.testing.assert_allclose(fit.influence, parts, atol=1e-5)
    blocks = summarise_blocks(Y, X, Z, CLIENT, UNIT)
    found = Components(fit.random_cov, fit.residual_var, fit.outer_var)
    known = mixed_information(blocks, found)
    np.testing.assert_allclose(known.variance_cov, fit.variance_cov, rtol=1e-5, atol=1e-9)
    robust = clustered_cov(blocks, found, correction="CR0")
    units = np.array([scores[u == INDEPENDENT].sum(axis=0) for u in np.unique(INDEPENDENT)])
    assert robust.clusters == 22
    np.testing.assert_allclose(robust.cov, cov @ units.T @ units @ cov, atol=1e-6)


def test_crossed_and_autocorrelated_models_keep_them_too() -> None:
    nested = fit_mixed(Y, X, X[:, :1], CLIENT, outer=UNIT)
    crossed = fit_crossed(Y, X, CLIENT, UNIT)
    assert crossed.loglik == pytest.approx(nested.loglik, abs=1e-9)
    assert crossed.switchers == 0 and crossed.units == (40, 6)
    for name in ("beta", "beta_cov", "variance_cov", "influence", "outer_blups"):
        np.testing.assert_allclose(getattr(crossed, name), getattr(nested, name), atol=1e-6)
    serial = fit_mixed_ar(Y, X, CLIENT, TIME, Z=X[:, :1], outer=UNIT)
    V = SAME_CLIENT * serial.random_cov[0, 0] + serial.outer_var * SAME_UNIT
    apart = np.abs(TIME[:, None] - TIME)
    V = V + SAME_CLIENT * serial.residual_var * serial.residual_ar**apart
    loglik, beta, _ = dense(V)
    assert serial.loglik == pytest.approx(loglik, abs=1e-8) and serial.units == (40, 6)
    assert len(serial.outer_blups) == 6 and loglik > nested.loglik
    np.testing.assert_allclose(serial.beta, beta, atol=1e-10)


def test_a_control_arm_stays_with_lmers_figures() -> None:
    panel = ad.read_sessions(
        cases_dir() / "bugs" / "partially_nested.csv",
        client="client",
        session="session",
        variables={"alliance": "alliance", "symptoms": "symptoms"},
        timing={"alliance": "after", "symptoms": "before"},
        therapist="therapist",
    )
    with pytest.warns(InferenceWarning, match="59 of 119 clients have no therapist: they stay"):
        fit = ad.WithinBetween(levels=("therapist", "client")).fit(panel)
    assert (fit.sample.rows, fit.sample.clients) == (465, 119)
    name = "phi[symptoms,alliance]"
    assert round(float(fit.params[name]), 3) == -0.010 and round(float(fit.se[name]), 3) == 0.067
    by_therapist = ad.WithinBetween(levels=("therapist", "client"), between="therapist")
    with pytest.warns(InferenceWarning, match="60 clients have no therapist and are set aside"):
        lost = by_therapist.fit(panel)
    assert lost.sample.clients_set_aside == {"no therapist": 60}


def test_errors_by_therapist_take_clients_without_one_alone() -> None:
    one = ((1.0, 0.0), (0.0, 1.0))
    truth = ad.Dynamics(phi=((0.3, 0.0), (-0.2, 0.3)), innovation_cov=one, between_cov=one)
    frame = ad.simulate(truth, clients=60, sessions=6, seed=4).frame
    code = pd.factorize(frame["client"])[0]
    frame["therapist"] = np.where(code < 20, None, (code // 5).astype(str))
    frame["alone"] = np.where(code < 20, code + 100, code // 5).astype(str)
    roles = {"client": "client", "session": "session", "variables": ["alliance", "symptoms"]}
    panel = ad.SessionPanel.from_frame(frame, therapist="therapist", site="alone", **roles)
    for spec in (ad.RICLPM(means="equal"), ad.WithinBetween(), ad.DynamicPanelGMM()):
        fit = spec.fit(panel, errors="cluster:therapist", strict=False)
        same = spec.fit(panel, errors="cluster:site", strict=False)
        np.testing.assert_allclose(fit.se, same.se, rtol=1e-9)
        assert any("20 clients have no therapist" in note for note in fit.diagnostics["notes"])
    fit = ad.RICLPM(means="equal").fit(panel, strict=False)
    drawn = ad.bootstrap(fit, 5, cluster="therapist", seed=1)
    assert drawn.units == "therapist" and len(drawn.draws) == 5
