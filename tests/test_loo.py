"""Likelihoods of whole clients that no filter gives alone, and leaving clients out with them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import alliancedyn as ad
from alliancedyn.engine.dsem import DsemData, DsemShape
from alliancedyn.engine.dsem_integrated import grouped_logliks, integrated_logliks
from alliancedyn.engine.dsem_world import Population, loglik_draws
from alliancedyn.errors import SpecificationError
from alliancedyn.models.dsem import DSEM
from alliancedyn.models.loo import compare_loo, loo

EXACT = 1e-9  # relative, of sums of a few dozen densities
ERRORS = 5.0  # Monte Carlo errors of an importance sample; over some dozens of clients

WORLD = {
    "mean[a]": 2.0, "mean[s]": 1.5, "phi[a,a]": 0.4, "phi[a,s]": 0.0, "phi[s,a]": -0.2,
    "phi[s,s]": 0.3, "between_cov[a,a]": 0.8, "between_cov[a,s]": -0.2, "between_cov[s,s]": 0.6,
    "therapist_cov[a,a]": 0.5, "therapist_cov[a,s]": 0.1, "therapist_cov[s,s]": 0.3,
    "innovation_cov[a,a]": 1.0, "innovation_cov[a,s]": -0.2, "innovation_cov[s,s]": 0.9,
    "initial_cov[a,a]": 1.1, "initial_cov[a,s]": 0.1, "initial_cov[s,s]": 1.2,
    "phi_sd[s,a]": 0.25, "log_innovation_sd[a]": 0.5, "log_innovation_sd[s]": 0.3,
    "random_corr[a,s<-a]": 0.4, "random_corr[s,s<-a]": -0.3, "trend[a]": 0.1, "trend[s]": -0.1,
}  # fmt: skip


def data_and_values(shape: DsemShape, n: int = 6) -> tuple[DsemData, np.ndarray]:
    rng, T = np.random.default_rng(3), len(shape.sessions)
    Y = rng.standard_normal((n, T, 2)) * 1.5 + 2.0
    Y[0, 1, 0] = Y[3, 2, 1] = np.nan
    course = np.arange(float(T))[:, None] if shape.course else np.zeros((T, 0))
    therapist = np.array([0, 0, 0, 1, 1, 2]) if shape.therapist else None
    data = DsemData(Y, course, np.zeros((n, 0)), therapist, np.zeros(2))
    return data, np.array([WORLD[name] for name in shape.parameter_names()])


def within_cov(phi: np.ndarray, world: Population, T: int) -> np.ndarray:
    """Covariance (T, 2, T, 2) of deviations within clients, written out."""
    P, C = np.zeros((T, 2, T, 2)), world.initial_cov
    for t in range(T):
        B = C
        for u in range(t, T):
            P[u, :, t], P[t, :, u] = B, B.T
            B = phi @ B
        C = phi @ C @ phi.T + world.innovation_cov
    return P.reshape(2 * T, 2 * T)


def test_the_quadratic_of_a_therapist_is_the_dense_conditional_density() -> None:
    shape = DsemShape(("a", "s"), (1, 2, 3), therapist=True)
    data, values = data_and_values(shape)
    found = grouped_logliks(shape, values[None], data)[0]
    world, T = Population.of(shape, values), 3
    same, ones = data.therapist[:, None] == data.therapist, np.ones((T, T))
    cov = np.kron(np.eye(6), within_cov(world.phi, world, T) + np.kron(ones, world.effect_cov))
    cov += np.kron(same, np.kron(ones, world.therapist_cov))
    y, client = data.Y.ravel(), np.repeat(np.arange(6), 2 * T)
    mean = np.tile(world.mean, 6 * T)

    def density(rows: np.ndarray) -> float:
        return multivariate_normal(mean[rows], cov[np.ix_(rows, rows)]).logpdf(y[rows])

    seen = ~np.isnan(y)
    dense = [density(seen) - density(seen & (client != i)) for i in range(6)]
    np.testing.assert_allclose(found, dense, rtol=EXACT)


@pytest.mark.parametrize("correlated", [False, True], ids=["independent", "correlated"])
def test_one_random_lag_is_integrated_as_by_quadrature(correlated: bool) -> None:
    """The only lagged effect differs between clients: a sum over a fine grid is an exact answer."""
    shape = DsemShape(
        ("a", "s"), (1, 2, 3, 4), random_phi=True, correlated=correlated, lagged=(("s", "a"),)
    )
    data, values = data_and_values(shape)
    found, error = integrated_logliks(shape, values[None], data, 256, np.random.default_rng(1))
    world, T = Population.of(shape, values), 4
    sd, full = world.effect_sd[2], world.effect_cov
    grid = world.phi[1, 0] + sd * np.linspace(-8.0, 8.0, 801)
    weights = np.exp(-0.5 * np.linspace(-8.0, 8.0, 801) ** 2)
    dense = np.zeros((6, len(grid)))
    for g, own in enumerate(grid):
        phi = np.array([[0.0, 0.0], [own, 0.0]])
        slope = full[:2, 2] / sd**2
        left = full[:2, :2] - np.outer(slope, full[2, :2])
        cov = within_cov(phi, world, T) + np.kron(np.ones((T, T)), left)
        mean = np.tile(world.mean + slope * (own - world.phi[1, 0]), T)
        for i in range(6):
            seen = ~np.isnan(data.Y[i].ravel())
            normal = multivariate_normal(mean[seen], cov[np.ix_(seen, seen)])
            dense[i, g] = normal.logpdf(data.Y[i].ravel()[seen])
    exact = np.log(np.exp(dense) @ weights / weights.sum())
    assert (np.abs(found[0] - exact) < ERRORS * error[0] + 1e-6).all()
    assert error.max() < 0.02


def test_random_innovations_are_integrated_as_by_draws_from_the_population() -> None:
    shape = DsemShape(
        ("a", "s"), (1, 2, 3, 4), course=("trend",), random_innovation=True, lagged=(("s", "a"),)
    )
    data, values = data_and_values(shape)
    found, error = integrated_logliks(shape, values[None], data, 256, np.random.default_rng(1))
    world, rng, T = Population.of(shape, values), np.random.default_rng(2), 4
    logs = []
    for b in rng.standard_normal((4000, 2)) * world.effect_sd[2:]:
        D = np.diag(np.exp(b / 2.0))
        own = Population(**{**world.__dict__, "innovation_cov": D @ world.innovation_cov @ D})
        cov = within_cov(world.phi, own, T) + np.kron(np.ones((T, T)), world.effect_cov[:2, :2])
        mean = (world.mean + data.course @ world.course).ravel()
        row = []
        for i in range(6):
            seen = ~np.isnan(data.Y[i].ravel())
            y, S = (data.Y[i].ravel() - mean)[seen], cov[np.ix_(seen, seen)]
            size = len(y) * np.log(2.0 * np.pi) + np.linalg.slogdet(S)[1]
            row.append(-0.5 * (size + y @ np.linalg.solve(S, y)))
        logs.append(row)
    weight = np.exp(logs)
    plain = np.log(weight.mean(axis=0))
    spread = weight.std(axis=0) / weight.mean(axis=0) / np.sqrt(len(weight))
    assert (np.abs(found[0] - plain) < ERRORS * np.hypot(error[0], spread)).all()


def test_without_spread_the_integral_is_the_closed_form() -> None:
    shape = DsemShape(("a", "s"), (1, 2, 3, 4), random_phi=True, lagged=(("s", "a"),))
    plain = DsemShape(("a", "s"), (1, 2, 3, 4), lagged=(("s", "a"),))
    data, values = data_and_values(shape)
    values[shape.parameter_names().index("phi_sd[s,a]")] = 0.0
    found, error = integrated_logliks(shape, values[None], data, 256, np.random.default_rng(1))
    _, known = data_and_values(plain)
    off = np.abs(found - loglik_draws(plain, known[None], data))
    assert (off < ERRORS * error).all()
    assert off.max() < 0.01


@pytest.fixture(scope="module")
def panel() -> ad.SessionPanel:
    """Lagged effects differ much between clients, levels between therapists."""
    truth = ad.Dynamics(
        phi=[[0.3, 0.0], [-0.2, 0.3]], innovation_cov=np.eye(2), between_cov=np.eye(2),
        phi_sd=[[0.05, 0.05], [0.4, 0.05]],
    )  # fmt: skip
    level = ad.Therapists(n=12, cov=[[1.5, 0.0], [0.0, 1.5]])
    return ad.simulate(truth, clients=48, sessions=10, therapists=level, missing=0.05, seed=5)


def test_models_with_what_made_the_data_predict_clients_better(panel: ad.SessionPanel) -> None:
    size = {"draws": 200, "tune": 100, "chains": 2}
    specs = {
        "plain": DSEM(**size),
        "lags": DSEM(random=("intercept", "phi"), **size),
        "therapists": DSEM(levels=("therapist", "client"), **size),
    }
    fits = {name: spec.fit(panel, seed=1, strict=False) for name, spec in specs.items()}
    found = {name: loo(fit, draws=100) for name, fit in fits.items()}
    table = compare_loo(found)
    assert table.loc["plain", "elpd"] < table.loc["therapists", "elpd"]
    assert table.loc["plain", "elpd"] < table.loc["lags", "elpd"]
    assert found["plain"].integration_error == found["therapists"].integration_error == 0.0
    assert 0.0 < found["lags"].integration_error < 1.0
    assert "Monte Carlo error of integrating" in str(found["lags"])
    again = loo(fits["lags"], draws=100, points=512, seed=1)
    assert again.elpd == pytest.approx(found["lags"].elpd, abs=3 * found["lags"].integration_error)
    bare = loo(fits["lags"].without_data(), panel, draws=100)
    assert bare.elpd == pytest.approx(found["lags"].elpd, rel=EXACT)


def test_what_cannot_be_integrated_is_refused_with_the_reason(panel: ad.SessionPanel) -> None:
    both = DSEM(
        random=("intercept", "phi"), levels=("therapist", "client"), draws=60, tune=30, chains=2
    )
    with pytest.raises(SpecificationError, match="not independent and have lagged effects"):
        loo(both.fit(panel, seed=1, strict=False))
