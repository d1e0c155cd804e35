"""States, forecasts, draws and calibration of fits, against dense conditional normals."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from made_fits import known_params, make_fit, make_scores
from numpy.typing import NDArray
from test_kalman import random_scores, random_system
from test_lagged import ROLES, SPECS, panel, read, spec_of
from test_smooth import joint_states, loadings

from alliancedyn.engine import names, smooth
from alliancedyn.engine.kalman import StateSpace
from alliancedyn.engine.moments import implied_moments, input_effects
from alliancedyn.errors import DataError, SpecificationError
from alliancedyn.models import RICLPM, ContinuousTime, Specification
from alliancedyn.panel import SessionPanel
from alliancedyn.results import ClientGroup, Fit, Observed, forecasts, scores
from alliancedyn.results.calibration import COVERAGES, calibrated
from alliancedyn.simulate import Dynamics, Gaps, simulate

Array = NDArray[np.float64]


def conditional(system: StateSpace, row: Array, inputs: Array) -> tuple[Array, Array, Array, Array]:
    """Mean and covariance of all states, then of all scores, given the scores of one client."""
    V, Z = joint_states(system), loadings(system)
    level, C = implied_moments(system)
    level = level + inputs.ravel() @ input_effects(system).T
    pushed = state_effects(system) @ inputs.ravel()
    seen = ~np.isnan(row)
    B = np.linalg.lstsq(C[np.ix_(seen, seen)], Z[seen] @ V, rcond=None)[0].T
    x = pushed + B @ (row - level)[seen]
    left = V - B @ Z[seen] @ V
    noise = np.concatenate([system.noise[at] for at in system.noise_at])
    scores = level + Z @ (x - pushed)
    spread = Z @ left @ Z.T + np.diag(noise)
    scores[seen] = row[seen]
    spread[seen] = spread[:, seen] = 0.0
    return x, left, scores, spread


def state_effects(system: StateSpace) -> Array:
    """What every input does to every state, (T m, T q), by running the recursion."""
    T, m, d, q = system.n_sessions, system.n_states, system.n_dynamic, system.drive.shape[1]
    out = np.zeros((T, m, T, q))
    for s in range(T):
        x = system.drive
        out[s, :, s] = x
        for t in range(s + 1, T):
            F = np.eye(m)
            F[:d, :d] = system.phi[system.phi_at[t]]
            x = F @ x
            out[t, :, s] = x
    return out.reshape(T * m, T * q)


class Units:
    """In place of random numbers: draw 0 gets none, draw k the k-th unit vector."""

    def __init__(self, draws: int) -> None:
        self.rows, self.used = np.vstack([np.zeros(draws - 1), np.eye(draws - 1)]), 0

    def standard_normal(self, shape: tuple[int, ...]) -> Array:
        size = int(np.prod(shape[1:]))
        out = self.rows[:, self.used : self.used + size].reshape(shape)
        self.used += size
        return out


class Zeros:
    """In place of random numbers: none."""

    def standard_normal(self, shape: tuple[int, ...]) -> Array:
        return np.zeros(shape)


def numbers_needed(system: StateSpace) -> int:
    """Return how many random numbers a draw of the states takes; one of scores takes fewer."""
    T, p = system.n_sessions, len(system.load_index)
    return system.n_states + (T - 1) * system.n_dynamic + T * p


def singular(seed: int) -> StateSpace:
    """Return a system with covariances of rank one and one score without noise."""
    system = random_system(seed, 5)
    u = np.random.default_rng(seed).standard_normal((3, 2))
    initial = np.zeros((4, 4))
    initial[:2, :2], initial[2:, 2:] = np.outer(u[0], u[0]), np.outer(u[1], u[1])
    psi = np.repeat(np.outer(u[2], u[2])[None], len(system.psi), axis=0)
    return replace(system, initial_cov=initial, psi=psi, noise=np.array([[0.2, 0.0], [0.1, 0.3]]))


SYSTEMS = {
    "traits": lambda: random_system(3, 5),
    "no traits": lambda: random_system(4, 5, traits=False),
    "inputs": lambda: random_system(5, 4, q=2),
    "no noise": lambda: replace(random_system(6, 5), noise=np.zeros((2, 2))),
    "singular": lambda: singular(7),
}


@pytest.mark.parametrize("which", SYSTEMS)
def test_draws_have_exactly_the_conditional_distribution(which: str) -> None:
    """Feed unit vectors for random numbers: the response to them is a root of the covariance."""
    system = SYSTEMS[which]()
    Y = random_scores(8, 8, system.n_sessions)
    if which == "singular":  # scores that such a system can produce
        Y = np.where(np.isnan(Y), np.nan, produced(system, len(Y)))
    q = system.drive.shape[1]
    inputs = np.random.default_rng(1).standard_normal((len(Y), system.n_sessions, q))
    draws = 1 + numbers_needed(system)
    parts = np.broadcast_to(np.eye(system.n_states), (system.n_sessions, *[system.n_states] * 2))
    for i in range(len(Y)):
        one = slice(i, i + 1)
        x, left, scores, spread = conditional(system, Y[i].ravel(), inputs[i])
        found = smooth.draw(system, Y[one], draws, Units(draws), inputs[one]).reshape(draws, -1)
        np.testing.assert_allclose(found[0], scores, atol=1e-8)
        root = found[1:] - found[0]
        np.testing.assert_allclose(root.T @ root, spread, atol=1e-8)
        states = smooth.draw(system, Y[one], draws, Units(draws), inputs[one], parts)
        states = states.reshape(draws, -1)
        np.testing.assert_allclose(states[0], x, atol=1e-8)
        root = states[1:] - states[0]
        np.testing.assert_allclose(root.T @ root, left, atol=1e-8)


def produced(system: StateSpace, n: int) -> Array:
    rng = np.random.default_rng(2)
    _, y = smooth._simulated_states(system, 1, n, rng)
    return np.asarray(y[0] + system.mean[system.mean_at])


def test_random_draws_have_the_conditional_moments() -> None:
    system, draws = random_system(9, 4), 20_000
    Y = random_scores(9, 3, 4)
    found = smooth.draw(system, Y, draws, np.random.default_rng(3)).reshape(draws, 3, -1)
    for i in range(3):
        _, _, mean, spread = conditional(system, Y[i].ravel(), np.zeros((4, 0)))
        sd = np.sqrt(np.diag(spread))
        off = (found[:, i].mean(axis=0) - mean) * np.sqrt(draws)
        assert (np.abs(off) <= 4.5 * sd + 1e-9).all()
        error = np.sqrt((spread**2 + np.outer(sd, sd) ** 2) / draws)
        assert (np.abs(np.cov(found[:, i].T) - spread) <= 4.5 * error + 1e-9).all()


def test_seen_scores_are_returned_untouched() -> None:
    system, Y = singular(3), random_scores(4, 20, 5)
    found = smooth.draw(system, Y, 3, np.random.default_rng(1))
    seen = np.broadcast_to(~np.isnan(Y), found.shape)
    np.testing.assert_array_equal(found[seen], np.broadcast_to(Y, found.shape)[seen])
    assert np.isfinite(found).all()


def test_portions_of_draws_have_the_same_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    system, Y = random_system(9, 4), random_scores(9, 11, 4)
    monkeypatch.setattr(smooth, "NUMBERS", 1)
    found = smooth.draw(system, Y, 2, np.random.default_rng(1))
    assert found.shape == (2, 11, 4, 2) and np.isfinite(found).all()
    mean = smooth.draw(system, Y, 1, Zeros())[0]
    for i in range(11):
        _, _, expected, _ = conditional(system, Y[i].ravel(), np.zeros((4, 0)))
        np.testing.assert_allclose(mean[i].ravel(), expected, atol=1e-9)


@pytest.mark.parametrize("which", SYSTEMS)
def test_smoothed_states_are_conditional_normals_even_if_singular(which: str) -> None:
    system = SYSTEMS[which]()
    Y = random_scores(8, 12, system.n_sessions)
    if which == "singular":
        Y = np.where(np.isnan(Y), np.nan, produced(system, len(Y)))
    q = system.drive.shape[1]
    inputs = np.random.default_rng(1).standard_normal((len(Y), system.n_sessions, q))
    mean, sd = smooth.smooth(system, Y, inputs)
    for i in range(len(Y)):
        x, left, _, _ = conditional(system, Y[i].ravel(), inputs[i])
        np.testing.assert_allclose(mean[i].ravel(), x, atol=1e-8)
        np.testing.assert_allclose(sd[i].ravel() ** 2, np.diag(left), atol=1e-8)


def test_every_client_may_have_lags_of_their_own() -> None:
    system, Y = random_system(2, 5), random_scores(2, 7, 5)
    rng = np.random.default_rng(5)
    phi = system.phi + rng.uniform(-0.2, 0.2, (7, *system.phi.shape))
    psi = system.psi * rng.uniform(0.5, 2.0, (7, 1, 1, 1))
    own = replace(system, phi=phi, psi=psi)
    draws = 1 + numbers_needed(system)
    mean, sd = smooth.smooth(own, Y)
    ahead = smooth.forecast(own, Y, 2)
    for i in range(7):
        alone = replace(system, phi=phi[i], psi=psi[i])
        for whole, part in zip((mean, sd), smooth.smooth(alone, Y[i : i + 1]), strict=True):
            np.testing.assert_allclose(whole[i], part[0], atol=1e-10)
        for whole, part in zip(ahead, smooth.forecast(alone, Y[i : i + 1], 2), strict=True):
            np.testing.assert_allclose(whole[i], part[0], atol=1e-10)
        one = replace(system, phi=phi[i : i + 1], psi=psi[i : i + 1])
        found = smooth.draw(one, Y[i : i + 1], draws, Units(draws))
        expected = smooth.draw(alone, Y[i : i + 1], draws, Units(draws))
        np.testing.assert_allclose(found, expected, atol=1e-10)


# -- families -------------------------------------------------------------------------------------

FAMILIES = {**SPECS, "moderated": RICLPM(moderators=("severity",))}


@cache
def prepared(which: str) -> tuple[list[ClientGroup], Observed, dict[str, float]]:
    """Return the systems of a family near its starting values, and the scores of a panel."""
    if which in SPECS:
        params, _, groups = read(which)
        return groups, spec_of(which)._select(panel()).data, params
    spec: Specification = replace(FAMILIES[which], variables=ROLES)
    data = spec._select(panel()).data
    likelihood = spec.likelihood(data)
    rng = np.random.default_rng(1)
    moved = likelihood.start + 0.05 * rng.standard_normal(len(likelihood.start))
    params = likelihood.to_params(moved)
    return spec.groups_of(params, data, ROLES), data, params


def of_client(group: ClientGroup, i: int) -> tuple[StateSpace, Array]:
    """Return the system and the inputs of the i-th client of a group."""
    system = group.system
    phi = system.phi[i] if system.phi.ndim == 4 else system.phi
    psi = system.psi[i] if system.psi.ndim == 4 else system.psi
    return replace(system, phi=phi, psi=psi), group.inputs[i]


@pytest.mark.parametrize("which", FAMILIES)
def test_states_of_every_family_are_conditional_normals(which: str) -> None:
    groups, data, _ = prepared(which)
    mean, sd = forecasts.smoothed(groups, data)
    for group in groups:
        weights = scores.parts(group)[:, : mean.shape[2]]
        T, r, m = weights.shape
        wide = np.zeros((T, r, T, m))
        wide[np.arange(T), :, np.arange(T)] = weights
        wide = wide.reshape(T * r, T * m)
        for i, row in list(enumerate(group.rows))[:6]:
            x, left, _, _ = conditional(
                *of_client(group, i)[:1], data.Y[row].ravel(), group.inputs[i]
            )
            np.testing.assert_allclose(mean[row].ravel(), wide @ x, atol=1e-8)
            np.testing.assert_allclose(
                sd[row].ravel() ** 2, np.diag(wide @ left @ wide.T), atol=1e-8
            )


@pytest.mark.parametrize("which", FAMILIES)
@pytest.mark.parametrize("horizon", [1, 3])
def test_forecasts_of_every_family_are_conditional_normals(which: str, horizon: int) -> None:
    groups, data, _ = prepared(which)
    mean, sd = forecasts.predicted(groups, data, horizon)
    assert np.isnan(mean[:, :horizon]).all()
    for group in groups:
        for i, row in list(enumerate(group.rows))[:3]:
            system, inputs = of_client(group, i)
            for t in range(horizon, system.n_sessions):
                known = data.Y[row].copy()
                known[t - horizon + 1 :] = np.nan
                _, _, expected, spread = conditional(system, known.ravel(), inputs)
                p = known.shape[1]
                np.testing.assert_allclose(mean[row, t], expected.reshape(-1, p)[t], atol=1e-8)
                variance = np.diag(spread).reshape(-1, p)[t]
                np.testing.assert_allclose(sd[row, t] ** 2, variance, atol=1e-8)


@pytest.mark.parametrize("which", FAMILIES)
def test_draws_of_every_family_are_conditional_normals(which: str) -> None:
    groups, data, _ = prepared(which)
    group = groups[-1]
    for i, row in list(enumerate(group.rows))[:4]:
        system, inputs = of_client(group, i)
        draws = 1 + numbers_needed(system)
        found = smooth.draw(system, data.Y[[row]], draws, Units(draws), inputs[None])
        found = found.reshape(draws, -1)
        _, _, expected, spread = conditional(system, data.Y[row].ravel(), inputs)
        np.testing.assert_allclose(found[0], expected, atol=1e-8)
        root = found[1:] - found[0]
        np.testing.assert_allclose(root.T @ root, spread, atol=1e-8)


def test_sessions_without_a_time_have_no_states_forecasts_or_draws() -> None:
    truth = Dynamics(
        phi=[[0.4, -0.1], [-0.1, 0.4]], innovation_cov=np.eye(2), between_cov=np.eye(2)
    )
    weekly = simulate(truth, clients=80, sessions=8, missing=0.2, gaps=Gaps(), seed=2)
    fit = ContinuousTime().fit(weekly)
    (group,) = fit._groups(fit.data)
    lost = ~group.placed
    assert lost.any() and group.system.phi.ndim == 4
    found = fit.draw_scores(2, seed=1)
    np.testing.assert_array_equal(np.isnan(found).any(axis=(0, 3)), lost)
    counted = fit.states().groupby(["client", "session"]).size()
    assert len(counted) == (~lost).sum()
    assert len(fit.predict()) == 2 * (~lost[:, 1:]).sum()
    assert np.isfinite(fit.draw_scores(2, seed=1, parameters="drawn")[:, ~lost]).all()


def part_covariance(which: str) -> tuple[Array, Array]:
    """Covariance of within and of between parts over sessions, (T k, T k) each."""
    (group,), _, _ = prepared(which)
    weights = scores.parts(group)
    T, r, m = weights.shape
    V = joint_states(group.system).reshape(T, m, T, m)
    full = np.einsum("tri,tisj,suj->trsu", weights, V, weights)
    k = r // 2
    within, between = full[:, :k, :, :k], full[:, k:, :, k:]
    return within.reshape(T * k, T * k), between.reshape(T * k, T * k)


def test_the_between_part_of_growth_is_the_course() -> None:
    _, _, params = prepared("LCM-SR")
    factors = [v + end for v in ROLES for end in ("", ".trend", ".trend2")]
    B = names.symmetric_matrix(params, "between_cov", factors)
    t = np.arange(6.0)  # the course bends at session 3, two after the first
    course = np.column_stack([np.ones(6), np.minimum(t, 2.0), np.maximum(t - 2.0, 0.0)])
    load = np.kron(course[:, None], np.eye(2)).reshape(6, 2, 2, 3)
    load = np.einsum("tr,jk->tjkr", course, np.eye(2)).reshape(12, 6)
    np.testing.assert_allclose(part_covariance("LCM-SR")[1], load @ B @ load.T, atol=1e-10)


def test_the_between_part_of_a_gclm_is_what_unit_effects_have_come_to() -> None:
    _, _, params = prepared("GCLM")
    phi = names.matrix(params, "phi", ROLES, ROLES)
    reached = [np.eye(2)]
    for t in range(2, 7):
        weight = [params[f"unit_loading[{v}]@{t}"] for v in ROLES]
        reached.append(phi @ reached[-1] + np.diag(weight))
    load = np.concatenate(reached)
    B = names.symmetric_matrix(params, "between_cov", ROLES)
    np.testing.assert_allclose(part_covariance("GCLM")[1], load @ B @ load.T, atol=1e-10)


def test_the_within_part_of_second_order_lags_is_this_session_alone() -> None:
    _, _, params = prepared("order 2")
    phi, phi2 = (names.matrix(params, f, ROLES, ROLES) for f in ("phi", "phi2"))
    psi = names.symmetric_matrix(params, "innovation_cov", ROLES)
    first = (*ROLES, *(v + ".next" for v in ROLES))
    V = np.zeros((12, 12))
    V[:4, :4] = names.symmetric_matrix(params, "initial_cov", first)
    for t in range(2, 6):
        now, before = slice(2 * t, 2 * t + 2), slice(0, 2 * t)
        V[now, before] = (
            phi @ V[2 * t - 2 : 2 * t, before] + phi2 @ V[2 * t - 4 : 2 * t - 2, before]
        )
        V[before, now] = V[now, before].T
        V[now, now] = psi + V[now, before][:, -2:] @ phi.T + V[now, before][:, -4:-2] @ phi2.T
    np.testing.assert_allclose(part_covariance("order 2")[0], V, atol=1e-10)


# -- a fit's verbs --------------------------------------------------------------------------------


@cache
def fitted() -> Fit:
    return RICLPM().fit(trial(150, 5))


def trial(clients: int, seed: int, missing: float = 0.15) -> SessionPanel:
    truth = Dynamics.time_ordered(
        phi_alliance=0.35,
        phi_symptoms=0.45,
        forward=-0.12,
        backward=-0.10,
        between_cov=[[1, -0.3], [-0.3, 1]],
        mean=(5.0, 10.0),
    )
    return simulate(truth, clients=clients, sessions=8, missing=missing, seed=seed)


class TestDraws:
    def test_shape_and_what_was_seen(self) -> None:
        fit = fitted()
        found = fit.draw_scores(4, seed=1)
        Y = fit.data.Y
        assert found.shape == (4, *Y.shape) and np.isfinite(found).all()
        seen = ~np.isnan(Y)
        for one in found:
            np.testing.assert_array_equal(one[seen], Y[seen])
        assert (found[1:][:, ~seen] != found[0][~seen]).all()
        np.testing.assert_array_equal(found, fit.draw_scores(4, seed=1))
        assert (fit.draw_scores(4, seed=2)[:, ~seen] != found[:, ~seen]).all()

    def test_states_have_the_moments_of_states(self) -> None:
        fit, D = fitted(), 500
        found = fit.draw_scores(D, seed=3, of="states")
        frame = fit.states()
        mean, sd = (frame[c].to_numpy().reshape(found.shape[1:]) for c in ("mean", "sd"))
        z = (found.mean(axis=0) - mean) / (sd / D**0.5 + 1e-9)
        assert np.abs(z).max() < 5.5  # 4,800 standard normals
        assert np.abs(found.std(axis=0) / sd - 1).max() < 5.5 / (2 * D) ** 0.5
        total = found[..., :2] + found[..., 2:]
        level = fit.params[[f"mean[{v}]@{t}" for t in range(1, 9) for v in ROLES]].to_numpy()
        Y, seen = fit.data.Y, ~np.isnan(fit.data.Y)
        np.testing.assert_allclose((total + level.reshape(8, 2))[0][seen], Y[seen], atol=1e-8)

    def test_other_clients(self) -> None:
        fit, others = fitted(), trial(20, 9)
        found = fit.without_data().draw_scores(2, seed=1, panel=others)
        assert found.shape == (2, 20, 8, 2)
        with pytest.raises(DataError, match="panel="):
            fit.without_data().draw_scores(2)

    def test_drawn_parameters_have_the_distribution_of_the_estimates(self) -> None:
        fit, D = fitted(), 4000
        one = forecasts._asymptotic(fit, np.random.default_rng(1))
        draws = pd.DataFrame([one() for _ in range(D)])
        se = np.sqrt(np.diag(fit.cov))
        assert (np.abs(draws.mean() - fit.params) < 5 * se / D**0.5).all()
        error = 5 * np.sqrt((fit.cov**2 + np.outer(se, se) ** 2) / D)
        assert (np.abs(draws.cov() - fit.cov) < error).all(axis=None)

    def test_drawn_parameters_widen_the_draws(self) -> None:
        """Total variance: that of draws within parameters, plus that of means between them."""
        fit, D = RICLPM(means="equal").fit(trial(32, 5, missing=0.3)), 1000
        missing = np.isnan(fit.data.Y)
        each = forecasts.parameter_draws(fit, fit.data, np.random.default_rng(2))
        means, left = np.empty((2, D, missing.sum()))
        for d in range(D):
            groups = next(each)
            means[d] = forecasts.drawn(groups, fit.data, 1, Zeros(), "scores")[0, missing]
            rng = np.random.default_rng(d)
            left[d] = forecasts.drawn(groups, fit.data, 1, rng, "scores")[0, missing] - means[d]
        between, within = means.var(axis=0).mean(), left.var(axis=0).mean()
        assert between > 0.02 * within
        found = fit.draw_scores(D, seed=1, parameters="drawn")[:, missing].var(axis=0).mean()
        assert found == pytest.approx(between + within, rel=0.01)
        fixed = fit.draw_scores(D, seed=1)[:, missing].var(axis=0).mean()
        assert fixed < between + within - 0.01

    def test_posterior_draws_are_used(self) -> None:
        params = known_params()
        wide = pd.DataFrame([{**params, "mean[symptoms]": m} for m in (-100.0, 100.0)])
        Y = np.random.default_rng(1).normal(size=(6, 8, 2))
        Y[:, 4:] = np.nan
        Y[:, :, 1] = np.nan
        fit = make_fit(params, draws=wide, data=make_scores(Y, ROLES))
        found = fit.draw_scores(40, seed=1, parameters="drawn")[:, :, :, 1]
        assert set(np.round(found.mean(axis=(1, 2)), -2)) == {-100.0, 100.0}

    @pytest.mark.parametrize("which", ["stationary", "groups", "order 2"])
    def test_families_with_implied_parameters_and_groups(self, which: str) -> None:
        fit = spec_of(which).fit(panel(), strict=False)
        for parameters in ("fixed", "drawn"):
            found = fit.draw_scores(2, seed=1, parameters=parameters)
            assert np.isfinite(found).all() and np.abs(found).max() < 50

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"draws": 0}, "from 1 up"),
            ({"parameters": "random"}, "'fixed' or 'drawn'"),
            ({"of": "items"}, "'scores' or 'states'"),
        ],
    )
    def test_refusals(self, options: dict, message: str) -> None:
        with pytest.raises(SpecificationError, match=message):
            fitted().draw_scores(**options)


def test_intervals_of_states_and_forecasts() -> None:
    fit = fitted()
    for frame in (fit.states(level=0.8), fit.predict(level=0.8)):
        np.testing.assert_allclose(frame["upper"] - frame["mean"], 1.2815516 * frame["sd"])
        np.testing.assert_allclose(frame["mean"] - frame["lower"], 1.2815516 * frame["sd"])
    assert list(fit.predict().columns) == ["client", "session", "variable", "mean", "sd"]
    with pytest.raises(SpecificationError, match="between 0 and 1"):
        fit.states(level=95)


class TestCalibration:
    def test_counts_by_hand(self) -> None:
        fit = fitted()
        found = fit.calibration(horizon=2)
        frame = fit.predict(horizon=2).set_index(["client", "session", "variable"])
        Y = pd.Series(
            fit.data.Y.ravel(),
            pd.MultiIndex.from_product(
                [fit.data.clients, fit.sessions, ROLES], names=frame.index.names
            ),
        )
        z = ((Y - frame["mean"]) / frame["sd"]).dropna()
        whole = found.table.iloc[0]
        assert (whole["session"], whole["variable"]) == ("all", "all")
        assert whole["scores"] == len(z) and whole["mean_error"] == pytest.approx(z.mean())
        assert whole["sd_error"] == pytest.approx(z.std(ddof=0))
        table = found.table.set_index(["variable", "session"])
        one = z.xs("symptoms", level="variable").xs(5, level="session")
        assert table.loc[("symptoms", 5), "coverage_80"] == np.mean(one.abs() < 1.2815516)
        assert table.loc[("symptoms", 5), "clients"] == len(one)
        assert found.pit.loc["all"].sum() == len(z)
        assert (
            found.pit.loc["symptoms", 0.1]
            == (z.xs("symptoms", level="variable") < -1.2815516).sum()
        )
        assert set(table.loc["all"].index) == {"all", *range(3, 9)}

    def test_held_out_clients_are_forecast_as_well_as_promised(self) -> None:
        fit = RICLPM().fit(trial(3000, 6))  # means off by .02 SD, which moves a tenth by .004
        found = fit.without_data().calibration(panel=trial(1500, 77))
        row = found.table.iloc[0]
        for level in COVERAGES:
            name = f"coverage_{100 * level:.0f}"
            assert abs(row[name] - level) < 4 * row[f"{name}_se"]
        assert not found.in_sample and "flatters" not in found.text
        assert "flatters" in str(fitted().calibration())
        counts = found.pit.loc["all"] / found.pit.loc["all"].sum()
        assert np.abs(counts - 0.1).max() < 0.01

    def test_forecasts_that_are_too_sure_are_found_out(self) -> None:
        (group,) = fitted()._groups(fitted().data)
        sure = replace(group, system=replace(group.system, psi=group.system.psi / 4))
        row = calibrated(
            forecasts.predicted([sure], fitted().data, 1), fitted().data, 1, True
        ).table.iloc[0]
        assert row["coverage_95"] < 0.95 - 10 * row["coverage_95_se"] and row["sd_error"] > 1.2

    def test_scores_of_one_client_count_as_one(self) -> None:
        """Two variables that are copies of one another: the errors are those of one."""
        rng = np.random.default_rng(1)
        z = rng.standard_normal((300, 4, 1))
        from alliancedyn.results.calibration import _row

        once, twice = _row(z), _row(np.concatenate([z, z], axis=2))
        for name in ("mean_error_se", "coverage_50_se", "coverage_95_se"):
            assert twice[name] == pytest.approx(once[name], rel=0.1)
        assert twice["scores"] == 2 * once["scores"]

    def test_no_score_to_compare_with(self) -> None:
        short = trial(20, 1)
        frame = short.frame[short.frame["session"] <= 2]
        early = SessionPanel.from_frame(
            frame, client="client", session="session", variables={v: v for v in ROLES}
        )
        with pytest.raises(DataError, match="smaller horizon"):
            fitted().calibration(horizon=5, panel=early)
        with pytest.raises(SpecificationError, match="from 1 up"):
            fitted().calibration(horizon=0)

    def test_shows_itself(self) -> None:
        found = fitted().calibration()
        assert repr(found).startswith("<Calibration 1 ahead, ")
        assert "95% intervals" in found.text and "one session ahead" in found.text
