"""Chains are continued until they agree or a limit is reached, and the fit says so."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

import alliancedyn as ad
from alliancedyn import Bayes
from alliancedyn.engine.gibbs import _clients
from alliancedyn.engine.gibbs_sweep import Kept
from alliancedyn.errors import SpecificationError
from alliancedyn.models.drawing_on import Limit, draw_on

NAMES = ("phi[a,a]", "phi[a,b]")


def slow_chains(limit: Limit, memory: float, pause: float = 0.0) -> Iterator[np.ndarray]:
    """Yield ever longer stretches of two autoregressive chains of two parameters."""
    most = limit.totals[-1]
    x = np.random.default_rng(1).standard_normal((4, most, 2))
    for t in range(1, most):
        x[:, t] += memory * x[:, t - 1]
    for total in limit.totals:
        time.sleep(pause)
        yield x[:, :total]


def judged(limit: Limit, memory: float, statistics: dict | None = None, pause: float = 0.0):
    return draw_on(
        slow_chains(limit, memory, pause), lambda x: (NAMES, x, statistics or {}), limit
    )[1]


@pytest.mark.parametrize(
    ("draws", "most", "totals"),
    [
        (1000, None, (1000, 2000, 4000, 8000)),
        (1000, 1000, (1000,)),
        (300, 1000, (300, 600, 1000)),
    ],
)
def test_rounds_double_up_to_the_limit(draws: int, most: int | None, totals: tuple) -> None:
    assert Limit(draws, most, 600.0).totals == totals


def test_chains_go_on_until_the_rule_holds() -> None:
    found = judged(Limit(500, None, 600.0), 0.9)
    assert found.draws.shape == (4, 4000, 2)
    assert "failure" not in found.verdict
    (note,) = found.notes
    assert "from 500 to 4,000 draws each" in note
    assert "disagreed about phi" in note


def test_chains_that_pass_are_left_alone() -> None:
    found = judged(Limit(500, None, 600.0), 0.0)
    assert found.draws.shape == (4, 500, 2)
    assert found.notes == []


def test_the_limit_of_draws_is_said() -> None:
    found = judged(Limit(100, 200, 600.0), 0.95)
    assert found.draws.shape == (4, 200, 2)
    assert found.verdict["failure"].endswith("Chains were continued from 100 to 200 draws each.")
    assert found.notes == []


def test_the_limit_of_time_is_said() -> None:
    found = judged(Limit(100, None, 0.05), 0.95, pause=0.02)
    assert found.draws.shape == (4, 100, 2)
    assert "after the 0.05 seconds" in found.verdict["failure"]


@pytest.mark.parametrize(
    "statistics",
    [{"diverging": np.ones((4, 100))}, {"pareto_k": np.array([[0.9]])}],
)
def test_what_draws_cannot_mend_is_not_drawn_on(statistics: dict) -> None:
    found = judged(Limit(100, None, 600.0), 0.95, statistics)
    assert found.draws.shape == (4, 100, 2)
    assert "failure" in found.verdict


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"max_draws": 10}, "whole number from 1000"),
        ({"max_draws": 2000.5}, "max_draws is 2000.5"),
        ({"max_seconds": -1}, "max_seconds is -1"),
        ({"max_seconds": float("nan")}, "max_seconds is nan"),
    ],
)
def test_limits_that_mean_nothing_are_refused(options: dict, fragment: str) -> None:
    for make in (ad.DSEM, lambda **given: Bayes(ad.RICLPM(), **given)):
        with pytest.raises(SpecificationError, match=fragment):
            make(**options)


def test_gibbs_chains_are_taken_up_where_they_were() -> None:
    truth = ad.Dynamics.time_ordered(0.4, 0.4, -0.1, -0.1, between_cov=[[1, -0.3], [-0.3, 1]])
    panel = ad.simulate(truth, clients=60, sessions=6, seed=2)
    sizes = {"draws": 200, "tune": 200}
    short = ad.DSEM(**sizes, max_draws=200).fit(panel, seed=1, strict=False)
    assert not short.converged
    fit = ad.DSEM(**sizes).fit(panel, seed=1, strict=False)
    assert fit.converged
    assert "Chains were continued from 200" in fit.diagnostics["notes"][0]
    long = fit.draws.to_numpy().reshape(4, -1, len(fit.params))
    assert long.shape[1] > 200
    first = short.draws.to_numpy().reshape(4, 200, -1)
    assert np.array_equal(long[:, :200], first)
    again = ad.DSEM(**sizes).fit(panel, seed=1, strict=False)
    assert again.draws.equals(fit.draws)
    own = fit.client_effects()
    assert own["estimate"].groupby(own["effect"]).mean()["alliance"] == pytest.approx(
        fit.params["mean[alliance]"], abs=0.05
    )


def test_effects_of_clients_are_pooled_over_rounds_of_any_length() -> None:
    x = np.random.default_rng(0).standard_normal((70, 3, 2))
    parts = (x[:10], x[10:30], x[30:])
    kept = [
        Kept(np.zeros((len(one), 5)), one.mean(axis=0), ((one - one.mean(axis=0)) ** 2).sum(axis=0))
        for one in parts
    ]
    mean, sd = np.moveaxis(_clients(kept), 2, 0)
    assert mean == pytest.approx(x.mean(axis=0))
    assert sd == pytest.approx(x.std(axis=0, ddof=1))


@pytest.mark.slow
def test_gradient_samplers_run_the_same_chains_for_longer() -> None:
    truth = ad.Dynamics.time_ordered(0.4, 0.4, -0.1, -0.1, between_cov=[[1, -0.3], [-0.3, 1]])
    panel = ad.simulate(truth, clients=60, sessions=5, seed=2)
    sizes = {"draws": 60, "tune": 150, "chains": 2}
    short = Bayes(ad.RICLPM(), **sizes, max_draws=60).fit(panel, seed=1, strict=False)
    fit = Bayes(ad.RICLPM(), **sizes).fit(panel, seed=1, strict=False)
    long = fit.draws.to_numpy().reshape(2, -1, len(fit.params))
    assert long.shape[1] > 60
    assert np.array_equal(long[:, :60], short.draws.to_numpy().reshape(2, 60, -1))
