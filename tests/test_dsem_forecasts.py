"""States and forecasts of clients with processes of their own, against dense densities on grids."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

import alliancedyn as ad
from alliancedyn.engine.dsem import DsemData, DsemShape
from alliancedyn.engine.dsem_mixture import ENOUGH, ClientMixture
from alliancedyn.engine.dsem_world import first_inputs, simulate_scores, system
from alliancedyn.engine.smooth import forecast, session_logliks, smooth, within_between
from alliancedyn.errors import InferenceWarning, SpecificationError
from alliancedyn.models.dsem import DSEM

SAME = 1e-6  # points, of a population whose SD of lagged effects is 1e-5 (its floor)
GRID = 0.01  # SDs: error of a mean of 256 evenly spread draws, of which half or more count
WORLD = {
    "mean[a]": 2.0, "mean[s]": 1.5, "phi[a,a]": 0.4, "phi[a,s]": 0.1, "phi[s,a]": -0.2,
    "phi[s,s]": 0.3, "between_cov[a,a]": 0.8, "between_cov[a,s]": -0.2, "between_cov[s,s]": 0.6,
    "innovation_cov[a,a]": 1.0, "innovation_cov[a,s]": -0.2, "innovation_cov[s,s]": 0.9,
    "initial_cov[a,a]": 1.1, "initial_cov[a,s]": 0.1, "initial_cov[s,s]": 1.2,
    "phi_sd[a,a]": 0.2, "phi_sd[a,s]": 0.1, "phi_sd[s,a]": 0.25, "phi_sd[s,s]": 0.15,
    "log_innovation_sd[a]": 0.5, "log_innovation_sd[s]": 0.3, "random_corr[a,a<-a]": 0.5,
    "therapist_cov[a,a]": 0.3, "therapist_cov[a,s]": 0.1, "therapist_cov[s,s]": 0.2,
    "trend[a]": 0.1, "trend[s]": -0.1, "predictor[a,x]": 0.3, "predictor[s,x]": -0.2,
    "predictor[a<-a,x]": 0.0, "predictor[a<-s,x]": 0.0, "predictor[s<-a,x]": 0.0,
    "predictor[s<-s,x]": 0.0, "same[a,s]": -0.3, "same_sd[a,s]": 0.2,
    "between_cov[a,a.trend]": 0.05, "between_cov[a,s.trend]": 0.0, "between_cov[a.trend,s]": 0.0,
    "between_cov[a.trend,a.trend]": 0.1, "between_cov[a.trend,s.trend]": 0.02,
    "between_cov[s,s.trend]": -0.03, "between_cov[s.trend,s.trend]": 0.08,
}  # fmt: skip


def values_of(shape: DsemShape, **changed: float) -> np.ndarray:
    return np.array([{**WORLD, **changed}[name] for name in shape.parameter_names()])


def data_of(shape: DsemShape, n: int = 6) -> DsemData:
    rng, T, k = np.random.default_rng(3), len(shape.sessions), len(shape.variables)
    Y = rng.standard_normal((n, T, k)) * 1.5 + 2.0
    Y[0, 1, 0] = Y[3, 2, -1] = Y[2, 0, 0] = np.nan
    Y[4, 1] = np.nan
    course = np.arange(float(T))[:, None] if shape.course else np.zeros((T, 0))
    x = rng.standard_normal((n, len(shape.predictors)))
    therapist = np.arange(n) // 2 if shape.therapist else None
    return DsemData(Y, course, x, therapist, np.full(k, 0.1))


KINDS = {
    "lags": {"random_phi": True, "predictors": ("x",), "therapist": True},
    "all": {"random_phi": True, "random_innovation": True},
    "same": {"random_phi": True, "random_same": True, "same": (("a", "s"),)},
    "slopes": {"random_phi": True, "random_trend": True},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("horizon", [1, 2])
def test_without_spread_they_are_those_of_one_system(horizon: int, kind: str) -> None:
    shape = DsemShape(("a", "s"), (1, 2, 3, 4, 5), course=("trend",), **KINDS[kind])
    plain = replace(shape, random_phi=False, random_innovation=False, random_same=False)
    data = data_of(shape)
    none = {name: 0.0 for name in WORLD if name.partition("_sd")[1]}
    own = ClientMixture(shape, values_of(shape, **none), data)
    one, inputs = system(plain, values_of(plain), data), first_inputs(data)
    found, exact = own.forecast(horizon), forecast(one, data.Y, horizon, inputs)
    assert np.isnan(found.mean[:, :horizon]).all()
    np.testing.assert_allclose(found.mean, exact[0], atol=SAME)
    np.testing.assert_allclose(found.sd, exact[1], atol=SAME)
    parts = smooth(one, data.Y, inputs, within_between(one, range(2)))
    found = own.smooth()
    np.testing.assert_allclose(found.mean, parts[0], atol=SAME)
    np.testing.assert_allclose(found.sd, parts[1], atol=SAME)


def dense_moments(
    y: np.ndarray, mean: np.ndarray, cov: np.ndarray, of: np.ndarray, cross: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Log density of the seen scores, and mean and variance of others given them, written out."""
    seen = ~np.isnan(y)
    if not seen.any():
        return 0.0, np.zeros(len(of)), np.diag(of)
    S, off = cov[np.ix_(seen, seen)], (y - mean)[seen]
    gain = cross[:, seen] @ np.linalg.inv(S)
    log = -0.5 * (np.linalg.slogdet(2 * np.pi * S)[1] + off @ np.linalg.solve(S, off))
    return log, gain @ off, np.diag(of - gain @ cross[:, seen].T)


def own_within(phi: float, psi: float, T: int) -> np.ndarray:
    """Covariance (T, T) of the deviations of one series."""
    variance, W = WORLD["initial_cov[a,a]"], np.zeros((T, T))
    for t in range(T):
        for u in range(t, T):
            W[t, u] = W[u, t] = variance * phi ** (u - t)
        variance = phi**2 * variance + psi
    return W


@pytest.mark.parametrize("more", ["lag", "correlated", "innovation"])
def test_forecasts_and_states_of_one_series_are_those_of_quadrature(more: str) -> None:
    """Gauss-Hermite over the own effects, a dense normal of all sessions at every node."""
    shape = DsemShape(
        ("a",), (1, 2, 3, 4, 5), random_phi=True,
        correlated=more == "correlated", random_innovation=more == "innovation",
    )  # fmt: skip
    data, T = data_of(shape), 5
    own = ClientMixture(shape, values_of(shape), data)
    ahead, parts = own.forecast(), own.smooth()
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    z = [(a, 0.0, w) for a, w in zip(nodes, weights, strict=True)]
    if more == "innovation":
        z = [(a, b, w * v) for a, _, w in z for b, v in zip(nodes, weights, strict=True)]
    corr = 0.5 if more == "correlated" else 0.0
    B = WORLD["between_cov[a,a]"]
    for i in range(len(data.Y)):
        logs = np.zeros((len(z), T))
        means, variances = np.zeros((2, len(z), T))
        state_means, state_vars = np.zeros((2, len(z), 2 * T))
        for g, (a, b, _) in enumerate(z):
            W = own_within(0.4 + 0.2 * a, np.exp(0.5 * b), T)
            level = np.full((T, T), B * (1.0 - corr**2))
            shift = corr * np.sqrt(B) * a
            cov, mean = W + level + 0.1 * np.eye(T), np.full(T, 2.0 + shift)
            y = data.Y[i, :, 0]
            for t in range(1, T):
                logs[g, t - 1], m, v = dense_moments(
                    y[:t], mean[:t], cov[:t, :t], cov[t : t + 1, t : t + 1], cov[t : t + 1, :t]
                )
                means[g, t], variances[g, t] = m[0] + mean[t], v[0]
            of = np.block([[W, 0 * W], [0 * W, level]])
            logs[g, T - 1], m, state_vars[g] = dense_moments(
                y, mean, cov, of, np.concatenate([W, level])
            )
            state_means[g] = m + np.repeat([0.0, shift], T)
        w = np.exp(logs) * np.array([one[2] for one in z])[:, None]
        w /= w.sum(axis=0)
        for t in range(1, T):
            center = w[:, t - 1] @ means[:, t]
            sd = np.sqrt(w[:, t - 1] @ (variances[:, t] + (means[:, t] - center) ** 2))
            assert ahead.mean[i, t, 0] == pytest.approx(center, abs=GRID * sd)
            assert ahead.sd[i, t, 0] == pytest.approx(sd, rel=GRID)
        center = w[:, -1] @ state_means
        sd = np.sqrt(w[:, -1] @ (state_vars + (state_means - center) ** 2))
        found = parts.mean[i].T.ravel(), parts.sd[i].T.ravel()
        np.testing.assert_array_less(np.abs(found[0] - center), GRID * sd)
        np.testing.assert_allclose(found[1], sd, rtol=GRID)


def test_session_logliks_add_up_to_the_dense_density() -> None:
    shape = DsemShape(("a",), (1, 2, 3, 4, 5))
    data = data_of(shape)
    logs = session_logliks(system(shape, values_of(shape), data), data.Y)
    cov = own_within(0.4, 1.0, 5) + 0.8 + 0.1 * np.eye(5)
    for y, log in zip(data.Y[:, :, 0], logs, strict=True):
        for t in range(1, 6):
            dense = dense_moments(y[:t], np.full(t, 2.0), cov[:t, :t], cov, np.zeros((5, t)))[0]
            assert log[:t].sum() == pytest.approx(dense, abs=1e-9)


def test_intervals_hold_the_share_of_scores_that_they_say() -> None:
    """At the true parameters, of clients whose lagged effects and innovations differ much."""
    shape = DsemShape(("a", "s"), tuple(range(1, 11)), random_phi=True, random_innovation=True)
    empty = DsemData(
        np.zeros((300, 10, 2)), np.zeros((10, 0)), np.zeros((300, 0)), None, np.zeros(2)
    )
    values = values_of(shape)
    data = replace(empty, Y=simulate_scores(shape, values, empty, np.random.default_rng(8)))
    found = ClientMixture(shape, values, data, points=(256,)).forecast()
    z = ((data.Y - found.mean) / found.sd)[:, 1:]
    inside = (np.abs(z) < norm.ppf(0.95)).mean(axis=(1, 2))
    assert inside.mean() == pytest.approx(0.9, abs=3 * inside.std() / np.sqrt(300) + 0.005)
    assert z.mean() == pytest.approx(0.0, abs=3 * z.mean(axis=(1, 2)).std() / np.sqrt(300))
    plain = replace(shape, random_phi=False, random_innovation=False)
    one = forecast(system(plain, values_of(plain), data), data.Y)

    def log_score(mean: np.ndarray, sd: np.ndarray) -> float:
        return float(norm.logpdf(data.Y[:, 5:], mean[:, 5:], sd[:, 5:]).mean())

    assert log_score(found.mean, found.sd) > log_score(*one) + 0.01


def test_no_later_session_and_no_other_client_moves_a_forecast() -> None:
    shape = DsemShape(("a", "s"), tuple(range(1, 9)), random_phi=True)
    data = data_of(shape)
    own = ClientMixture(shape, values_of(shape), data, points=(64, 512))
    found = own.forecast()
    later = data.Y.copy()
    later[:, 4:] += 10.0 * np.random.default_rng(1).standard_normal(later[:, 4:].shape)
    moved = replace(own, data=replace(data, Y=later)).forecast()
    np.testing.assert_array_equal(moved.mean[:, :5], found.mean[:, :5])
    np.testing.assert_array_equal(moved.sd[:, :5], found.sd[:, :5])
    assert (np.abs(moved.mean[:, 5:] - found.mean[:, 5:]) > 0.1).any()
    alone = replace(
        own, data=replace(data, Y=data.Y[[3]], predictors=data.predictors[[3]])
    ).forecast()
    np.testing.assert_allclose(alone.mean, found.mean[[3]], rtol=1e-12)


def test_more_draws_are_taken_where_few_fit_a_client() -> None:
    shape = DsemShape(("a", "s"), tuple(range(1, 41)), random_phi=True)
    values, empty = values_of(shape), data_of(shape)
    full = replace(empty, Y=np.zeros(empty.Y.shape))
    data = replace(empty, Y=simulate_scores(shape, values, full, np.random.default_rng(2)))
    few = ClientMixture(shape, values, data, points=(256,)).forecast()
    more = ClientMixture(shape, values, data, points=(256, 4096)).forecast()
    assert few.effective[:, 1:].min() < 40.0 < more.effective[:, 1:].min()
    kept = few.effective[:, 1:] >= ENOUGH
    np.testing.assert_array_equal(more.mean[:, 1:][kept], few.mean[:, 1:][kept])
    assert (np.abs(more.mean - few.mean)[:, 1:] < 0.25 * more.sd[:, 1:]).all()


@pytest.fixture(scope="module")
def panel() -> ad.SessionPanel:
    truth = ad.Dynamics(
        phi=[[0.36, -0.05], [-0.15, 0.45]], innovation_cov=[[1, -0.1], [-0.1, 1]],
        between_cov=[[1, -0.3], [-0.3, 1]], mean=(5.0, 10.0), phi_sd=[[0.1, 0.1], [0.2, 0.1]],
    )  # fmt: skip
    return ad.simulate(truth, clients=60, sessions=8, missing=0.1, seed=4)


def test_a_fit_with_random_lags_forecasts_and_says_where_clients_stand(
    panel: ad.SessionPanel,
) -> None:
    fit = DSEM(random=("intercept", "phi", "innovation"), draws=200, tune=200, chains=2).fit(
        panel, seed=1, strict=False
    )
    plain = ad.RICLPM().fit(panel)
    keys = ["client", "session", "variable"]
    ours, theirs = fit.predict(level=0.9), plain.predict(level=0.9)
    assert ours[keys].equals(theirs[keys])
    assert np.corrcoef(ours["mean"], theirs["mean"])[0, 1] > 0.95
    ours, theirs = fit.states(), plain.states()
    assert ours[[*keys, "part"]].equals(theirs[[*keys, "part"]])
    assert np.corrcoef(ours["mean"], theirs["mean"])[0, 1] > 0.95
    first = fit.calibration().table.iloc[0]
    assert first["coverage_80"] == pytest.approx(0.8, abs=0.05)
    lost = fit.without_data()
    again = lost.predict(panel=panel)
    np.testing.assert_array_equal(again["mean"], fit.predict()["mean"])


def test_few_effective_draws_are_said(
    panel: ad.SessionPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = DSEM(random=("intercept", "phi"), draws=30, tune=10, chains=2).fit(
        panel, seed=1, strict=False
    )
    monkeypatch.setattr("alliancedyn.results.forecasts.FEW", 1e6)
    with pytest.warns(InferenceWarning, match="Forecasts of 60 of 60 clients rest on fewer"):
        fit.predict()


def test_what_has_no_mixture_is_refused_with_the_reason(panel: ad.SessionPanel) -> None:
    fit = DSEM(random=("intercept", "phi"), draws=30, tune=10, chains=2).fit(
        panel, seed=1, strict=False
    )
    start = replace(
        fit, model=replace(fit.model, random=("intercept", "innovation"), initial="innovation")
    )
    with pytest.raises(SpecificationError, match="covariance of the first session"):
        start.predict()
    with pytest.raises(SpecificationError, match="innovations are not normal"):
        replace(fit, model=replace(fit.model, innovations="student")).states()
    bounded = replace(fit, model=replace(fit.model, bounds={"alliance": (1, 7)}))
    with pytest.raises(SpecificationError, match="at bounds"):
        bounded.predict()
