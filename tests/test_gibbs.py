"""The blocked Gibbs sampler: its target, its agreement with Stan, its habits.

Tolerances. "Getting it right" (Geweke, 2004): scores are simulated given the parameters and a
sweep is made given the scores, in turn; the parameters must then keep to their prior, whose first
two moments are known. With batch means of 20 batches a t statistic beyond 5.4 has probability
3e-5; some 400 are looked at. A mistake in any step, in any option, moves one of them: the test of
the test plants one. Against Stan: 4 Monte Carlo errors of both for means, 5 % for SDs.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from reference_files import panel_scores, simulated
from scipy import stats

from alliancedyn.engine import gibbs
from alliancedyn.engine.dsem import Array, DsemData, DsemShape, Priors, Sampled
from alliancedyn.engine.gibbs import advance_chain, sample_gibbs
from alliancedyn.engine.gibbs_small import seed_thread
from alliancedyn.engine.gibbs_start import begin_earlier, lay_out, plan_of, start_chain
from alliancedyn.engine.gibbs_sweep import Chain, Kept
from alliancedyn.errors import ConvergenceError, SpecificationError

BATCHES = 20
T_LIMIT = 5.4
MONTE_CARLO = 4.0
SD = 0.05

TIGHT = Priors(
    mean=(0.3, 1.0), trend=(0.2, 0.5), phi=(0.1, 0.3), effect=(-0.1, 0.5), phi_sd=0.3,
    log_innovation_sd=0.6, sd=1.0, lkj=2.0, same=(-0.1, 0.4), same_sd=0.35,
)  # fmt: skip


def made(
    clients: int = 6, sessions: int = 4, k: int = 2, course: str = "", predictors: int = 0,
    noise: float = 0.0, therapist: bool = False, **options: Any,
) -> tuple[DsemData, DsemShape]:  # fmt: skip
    """Return a design with holes of every kind; scores 0 where seen, NaN elsewhere."""
    rng = np.random.default_rng(5)
    missing = rng.random((clients, sessions, k)) < 0.2
    missing[0, 1:] = missing[1, 2:] = missing[2, 0] = True  # one session, a leaver, a late start
    missing[:, 1, 0] |= np.arange(clients) == 3
    missing[missing.all(axis=(1, 2)), 0] = False
    missing[0, 0] = False
    columns, names = np.zeros((sessions, 0)), ()
    if course == "line":
        columns, names = np.arange(sessions)[:, None] / sessions, ("trend",)
    elif course == "session":
        columns = np.eye(sessions)[:, 1:]
        names = tuple(f"@{t}" for t in range(2, sessions + 1))
    X = rng.normal(size=(clients, predictors))
    data = DsemData(
        np.where(missing, np.nan, 0.0),
        columns,
        X - X.mean(axis=0),
        np.arange(clients) % 3 if therapist else None,
        np.full(k, noise),
    )
    shape = DsemShape(
        tuple("abc"[:k]),
        tuple(range(1, sessions + 1)),
        course=names,
        predictors=tuple("xyz"[:predictors]),
        therapist=therapist,
        **options,
    )
    return data, shape


def prior_moments(shape: DsemShape, priors: Priors) -> Array:
    """Return E[x] and E[x^2] of every parameter under its prior, (n, 2), from closed forms."""
    k, q = len(shape.variables), len(shape.effects)
    normal = {
        "mean": priors.mean, "trend": priors.trend, "session": priors.trend, "phi": priors.phi,
        "same": priors.same, "predictor": priors.effect,
    }  # fmt: skip
    half = {
        "phi_sd": priors.phi_sd, "same_sd": priors.same_sd,
        "log_innovation_sd": priors.log_innovation_sd,
    }  # fmt: skip
    found = []
    for name in shape.parameter_names():
        family, inside = name.split("[")
        rows = q if shape.correlated and family in ("between_cov", "random_corr") else k
        spread = 1.0 / (2.0 * priors.lkj + rows - 1.0)  # variance of a correlation under LKJ
        a, _, b = inside.split("]")[0].partition(",")
        if family in normal:
            at, sd = normal[family]
            found.append((at, at**2 + sd**2))
        elif family in half:
            found.append((half[family] * np.sqrt(2.0 / np.pi), half[family] ** 2))
        elif family == "random_corr":
            found.append((0.0, spread))
        elif a == b:
            found.append((priors.sd**2, 3.0 * priors.sd**4))
        else:
            found.append((0.0, spread * priors.sd**4))
    return np.array(found)


def simulate(data: DsemData, shape: DsemShape, chain: Chain, rng: np.random.Generator) -> Array:
    """Draw scores (N, T, k) given parameters and effects, straight from the model's equations."""
    N, T, k = data.Y.shape
    b = np.column_stack([np.ones(N), data.predictors]) @ chain.coef + chain.U
    level = b[:, :k] + (chain.v[data.therapist] if data.therapist is not None else 0.0)
    lags, same = np.zeros((2, N, k, k))
    at = {effect: b[:, e] for e, effect in enumerate(shape.effects)}
    for j, (family, row, column) in enumerate(shape.coefficients):
        effect = f"{row}<-{column}" if family == "phi" else f"same({row}<-{column})"
        into = lags if family == "phi" else same
        places = shape.variables.index(row), shape.variables.index(column)
        into[:, *places] = at.get(effect, chain.common[j])
    scale = np.exp(b[:, -k:] / 2.0) if shape.random_innovation else np.ones((N, k))
    innovation = np.linalg.cholesky(chain.innovation.cov)
    free, w = shape.initial == "free", np.zeros((N, k))
    if free:
        w = rng.normal(size=(N, k)) @ np.linalg.cholesky(chain.first.cov).T
    Y = np.empty((N, T, k))
    for t in range(T):
        if t or not free:
            shock = scale * (rng.normal(size=(N, k)) @ innovation.T)
            new = np.einsum("irc,ic->ir", lags, w) + shock
            w = np.linalg.solve(np.eye(k) - same, new[..., None])[..., 0]
        noise = rng.normal(size=(N, k)) * np.sqrt(data.measurement_var)
        Y[:, t] = level + data.course[t] @ chain.course + w + noise
    return Y


def joint_statistics(
    data: DsemData, shape: DsemShape, told: Priors, true: Priors, sweeps: int = 10_000
) -> Array:
    """Return t statistics (2, n) of the first two moments of the parameters against the prior."""
    rng = np.random.default_rng(3)
    whole = data if shape.initial == "free" else begin_earlier(data)
    panel, plan = lay_out(whole), plan_of(data, shape, told)
    chain = start_chain(panel, plan, shape, told, rng)
    seed_thread(3)
    draws = np.empty((sweeps, len(shape.parameter_names())))
    kept = Kept(draws, *np.zeros((2, *chain.U.shape)))
    for step in range(-500, sweeps):
        last = slice(-data.Y.shape[1], None)
        panel.y[:, last] = np.where(panel.seen[:, last], simulate(data, shape, chain, rng), 0.0)
        chain.z[:] = panel.y
        at = max(step, 0)
        advance_chain(panel, plan, chain, kept, at, at + 1, int(step < 0))
    moments = np.stack([draws, draws**2]).reshape(2, BATCHES, -1, draws.shape[1]).mean(axis=2)
    error = moments.std(axis=1, ddof=1) / np.sqrt(BATCHES)
    return (moments.mean(axis=1) - prior_moments(shape, true).T) / error


JOINT = {
    "intercepts": {},
    "intercepts of three series": {"k": 3, "predictors": 1, "noise": 0.3, "course": "line"},
    "intercepts of one series": {"k": 1},
    "intercepts and therapists": {"therapist": True, "predictors": 1, "course": "line"},
    "intercepts and a time order": {
        "k": 3, "same": (("a", "c"), ("b", "c")), "lagged": (("a", "a"), ("b", "a")),
        "therapist": True,
    },
    "lags": {"random_phi": True, "predictors": 1},
    "line": {"random_phi": True, "course": "line"},
    "sessions": {"course": "session", "predictors": 1},
    "correlated": {"random_phi": True, "correlated": True, "predictors": 1, "course": "line"},
    "log variances": {"random_innovation": True},
    "correlated log variances": {"random_innovation": True, "correlated": True, "predictors": 1},
    "therapists": {"therapist": True, "random_phi": True, "predictors": 1},
    "measurement error": {"random_phi": True, "noise": 0.3},
    "three series": {"random_phi": True, "k": 3},
    "one series": {"random_phi": True, "random_innovation": True, "correlated": True, "k": 1},
    "same session": {
        "random_same": True, "same": (("b", "a"),), "predictors": 1, "lagged": (("b", "b"),),
    },
    "common same session": {
        "random_phi": True, "random_innovation": True, "same": (("b", "a"),), "noise": 0.3,
    },
    "time order of three": {
        "k": 3, "random_phi": True, "random_same": True, "correlated": True, "course": "line",
        "same": (("a", "c"), ("b", "c"), ("a", "b")), "lagged": (("a", "a"), ("b", "a")),
    },
    "no deviation before": {
        "random_phi": True, "random_innovation": True, "same": (("b", "a"),),
        "initial": "innovation",
    },
    "everything": {
        "random_phi": True, "random_innovation": True, "correlated": True, "therapist": True,
        "predictors": 1, "course": "line", "noise": 0.3,
    },
}  # fmt: skip


@pytest.mark.parametrize("case", JOINT)
def test_parameters_keep_to_their_prior_when_scores_are_drawn_anew(case: str) -> None:
    """H0: every parameter's first two moments are those of its prior; t with 19 df."""
    found = joint_statistics(*made(**JOINT[case]), TIGHT, TIGHT)
    assert np.abs(found).max() < T_LIMIT


def test_the_joint_test_sees_a_prior_that_is_a_tenth_off() -> None:
    found = joint_statistics(*made(**JOINT["lags"]), replace(TIGHT, phi_sd=0.33), TIGHT)
    assert np.abs(found).max() > T_LIMIT


def effective(draws: Array) -> Array:
    """Return effective sizes (n,) of draws (chains, draws, n) by batch means, not more than all."""
    chains, count, n = draws.shape
    batches = draws.reshape(chains * BATCHES, count // BATCHES, n).mean(axis=1)
    ratio = draws.reshape(-1, n).var(axis=0) / batches.var(axis=0, ddof=1)
    return np.minimum(ratio * chains * BATCHES, chains * count)


PEERS = {"fixed_phi": "fixed", "fixed_phi_on_random_data": "random", "random_phi": "random"}


@pytest.mark.parametrize("name", PEERS)
def test_posterior_is_that_of_stan(name: str) -> None:
    Y, _, _ = panel_scores("dsem", PEERS[name])
    T = Y.shape[1]
    data = DsemData(Y, np.zeros((T, 0)), np.zeros((len(Y), 0)), None, np.zeros(2))
    shape = DsemShape(
        ("alliance", "symptoms"), tuple(range(1, T + 1)), random_phi=name == "random_phi"
    )
    found = sample_gibbs(data, shape, Priors(), draws=2400, tune=300, chains=4, seed=2)
    peer = simulated("dsem", name)["params"]
    assert sorted(peer) == sorted(found.names)
    theirs = {key: np.array([peer[n][key] for n in found.names]) for key in ("mean", "sd")}
    theirs["error"] = np.array([peer[n]["mcse_mean"] for n in found.names])
    pooled = found.draws.reshape(-1, len(found.names))
    error = np.hypot(pooled.std(axis=0) / np.sqrt(effective(found.draws)), theirs["error"])
    assert (np.abs(pooled.mean(axis=0) - theirs["mean"]) < MONTE_CARLO * error).all()
    assert (np.abs(pooled.std(axis=0) / theirs["sd"] - 1.0) < SD).all()


def drawn(case: str = "everything", **size: int) -> tuple[DsemData, DsemShape]:
    """Return a design with scores in it."""
    data, shape = made(**JOINT[case], **size)
    rng = np.random.default_rng(8)
    return replace(data, Y=data.Y + rng.normal(size=data.Y.shape)), shape


def sampled(data: DsemData, shape: DsemShape, **options: int) -> Sampled:
    return sample_gibbs(data, shape, Priors(), **{"draws": 40, "tune": 20, "seed": 4} | options)


def test_draws_depend_on_the_seed_and_not_on_cores_or_progress(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, shape = drawn(clients=8)
    told: list[tuple[int, int]] = []
    once = sample_gibbs(
        data, shape, Priors(), draws=40, tune=20, chains=3, seed=4,
        progress=lambda done, total, _: told.append((done, total)),
    )  # fmt: skip
    monkeypatch.setattr(gibbs, "_cores", lambda: 1)
    again = sampled(data, shape, chains=3)
    np.testing.assert_array_equal(once.draws, again.draws)
    np.testing.assert_array_equal(once.clients, again.clients)
    assert told[-1] == (180, 180)
    assert not np.array_equal(once.draws, sampled(data, shape, chains=3, seed=5).draws)
    assert not np.array_equal(once.draws[0], once.draws[1])


def test_shapes_and_names_follow_the_options() -> None:
    data, shape = drawn(clients=5)
    found = sampled(data, shape, chains=2)
    assert found.draws.shape == (2, 40, len(shape.parameter_names()))
    assert found.clients.shape == (5, len(shape.effects), 2)
    assert (found.clients[:, :, 1] > 0.0).all()


def test_few_clients_and_complete_scores_are_sampled() -> None:
    rng = np.random.default_rng(1)
    data = DsemData(
        rng.normal(size=(5, 8, 2)), np.zeros((8, 0)), np.zeros((5, 0)), None, np.zeros(2)
    )
    shape = DsemShape(("a", "b"), tuple(range(1, 9)), random_phi=True)
    assert np.isfinite(sampled(data, shape, chains=2).draws).all()


def test_a_client_without_information_on_lags_keeps_to_the_population() -> None:
    data, shape = drawn("lags", clients=30, sessions=8)
    Y = data.Y.copy()
    Y[0, 1:] = np.nan
    Y[0, 0] = 0.0
    found = sample_gibbs(replace(data, Y=Y), shape, Priors(), draws=1500, tune=300, seed=1)
    columns = [found.names.index(n) for n in ("phi[a,a]", "predictor[a<-a,x]")]
    population = found.draws[:, :, columns] @ np.array([1.0, data.predictors[0, 0]])
    error = 8.0 * found.clients[0, 2, 1] / np.sqrt(found.draws.shape[0] * found.draws.shape[1])
    assert abs(found.clients[0, 2, 0] - population.mean()) < error


def test_intercept_of_one_series_agrees_with_its_closed_form() -> None:
    """One session each: y ~ N(mean, between + initial); the mean's posterior is a t-like mixture.

    With its two variances nearly fixed by tight priors it is normal, precision N / (V + P) + 1.
    """
    rng = np.random.default_rng(2)
    Y = rng.normal(0.7, 1.0, size=(60, 1, 1))
    data = DsemData(Y, np.zeros((1, 0)), np.zeros((60, 0)), None, np.zeros(1))
    tiny = Priors(mean=(0.0, 1.0), sd=1e-3)
    found = sample_gibbs(
        replace(data, measurement_var=np.ones(1)), DsemShape(("a",), (1,)), tiny,
        draws=3000, tune=200, chains=2, seed=1,
    )  # fmt: skip
    mean = found.draws[:, :, 0].ravel()
    exact = stats.norm(Y.sum() / 61.0, 61.0**-0.5)
    # 6,000 nearly independent draws: 4 errors of a mean, 5 % of an SD
    assert abs(mean.mean() - exact.mean()) < 4.0 * exact.std() / np.sqrt(len(mean) / 2)
    assert abs(mean.std() / exact.std() - 1.0) < SD


def test_too_few_draws_are_refused() -> None:
    data, shape = drawn("intercepts")
    with pytest.raises(SpecificationError, match="at least 1"):
        sample_gibbs(data, shape, Priors(), draws=0)


def test_numbers_out_of_range_are_an_error() -> None:
    data, shape = drawn("intercepts")
    with pytest.raises(ConvergenceError, match="left the range"):
        sampled(replace(data, Y=data.Y * 1e153), shape, chains=1)


def test_cores_are_counted() -> None:
    assert 1 <= gibbs._cores() <= (os.cpu_count() or 1)
