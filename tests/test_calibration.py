"""Calibration: which scores nobody has, code compiled once for many panels, figures of ranks."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from alliancedyn import plot
from alliancedyn.engine.dsem import DsemData, DsemShape, Priors
from alliancedyn.errors import SpecificationError
from alliancedyn.models.dsem_compiled import Structure
from alliancedyn.models.dsem_open import build_model, known_inputs, packed_scores
from alliancedyn.studies.calibration import BOUND, Calibration, calibrate, judge, plausible

ROUNDING = 1e-9  # of a sum of some hundred densities, relative


def series(shock: float, phi: float = 0.5, seed: int = 1) -> np.ndarray:
    """Two series of 40 clients: the second follows the first with shocks of this size."""
    rng = np.random.default_rng(seed)
    Y = rng.standard_normal((40, 10, 2))
    for t in range(1, 10):
        Y[:, t, 1] = phi * Y[:, t - 1, 0] + shock * rng.standard_normal(40)
    Y[rng.random(Y.shape) < 0.1] = np.nan
    return Y


def test_scores_that_nobody_has_are_told_by_the_scores_alone() -> None:
    assert plausible(series(1.0))
    assert plausible(series(0.2))  # leaves .04 / .29 of the variance
    assert not plausible(series(0.02))  # leaves less than .002
    assert plausible(series(0.02)[:, :3])  # too few sessions to tell
    far = series(1.0)
    far[3, 4, 0] = BOUND + 1.0
    assert not plausible(far)
    far[3, 4, 0] = np.inf
    assert not plausible(far)


def data_of(Y: np.ndarray) -> DsemData:
    n, T, k = Y.shape
    return DsemData(Y, np.zeros((T, 0)), np.zeros((n, 0)), None, np.zeros(k))


def density_of(model: Any) -> Any:
    with warnings.catch_warnings(), model:
        warnings.simplefilter("ignore")
        run = model.compile_fn(
            model.logp(), inputs=model.value_vars, point_fn=False, mode="FAST_COMPILE"
        )
        start = model.initial_point()
    at = [start[value.name] for value in model.value_vars]

    def density(rng: np.random.Generator) -> float:
        return float(run(*(one + 0.1 * rng.standard_normal(one.shape) for one in at)))

    return density, start


@pytest.mark.parametrize("random_phi", [False, True], ids=["marginal", "explicit"])
def test_exchanged_scores_give_the_model_of_these_scores(random_phi: bool) -> None:
    import pymc as pm

    first = series(1.0)[:8, :5]
    second = np.where(np.isnan(first), np.nan, series(0.7, seed=2)[:8, :5])
    second = np.where(np.isnan(second) & ~np.isnan(first), 0.3, second)
    shape = DsemShape(("a", "s"), (1, 2, 3, 4, 5), random_phi=random_phi)
    moved = build_model(data_of(first), shape, Priors())
    given = {"seen_scores": np.nan_to_num(second)}
    if not random_phi:
        given = packed_scores(data_of(second), known_inputs(data_of(second), False))
    pm.set_data(given, model=moved)
    ours, ours_start = density_of(moved)
    theirs, their_start = density_of(build_model(data_of(second), shape, Priors()))
    for name, value in their_start.items():
        np.testing.assert_allclose(ours_start[name], value, atol=ROUNDING)
    for seed in range(3):
        one, two = (f(np.random.default_rng(seed)) for f in (ours, theirs))
        assert one == pytest.approx(two, rel=ROUNDING)


def test_panels_share_code_only_where_its_constants_agree() -> None:
    shape, Y = DsemShape(("a", "s"), tuple(range(1, 11))), series(1.0)
    other = series(0.7, seed=2)  # other scores missing

    def structure(Y: np.ndarray, marginal: bool, **changes: Any) -> Structure:
        data = replace(data_of(Y), **changes)
        return Structure.of(data, shape, Priors(), "normal", "known", marginal, lambda: None)

    assert structure(Y, True) == structure(other, True)
    assert structure(Y, False) != structure(other, False)
    assert structure(Y, False) == structure(Y + 1.0, False)
    assert structure(Y, True) != structure(Y[:-1], True)
    assert structure(Y, True) != structure(Y, True, measurement_var=np.ones(2))


def made(rounds: int, seed: int, ess: float = 300.0) -> Calibration:
    ranks = pd.DataFrame(
        np.random.default_rng(seed).integers(0, 51, (rounds, 3)), columns=list("abc")
    )
    chains = pd.DataFrame({"ess": [ess] * rounds, "rhat": 1.0, "divergences": 0.0})
    return Calibration(ranks, 50, judge(ranks, 50, 0.99), 7, chains, 0.99, "made")


def test_a_figure_shows_departures_from_uniform_inside_their_band() -> None:
    one, two = made(100, 1), made(60, 2, ess=20.0)
    assert "below 50 in 0" in str(one)
    assert "below 50 in 60" in str(two)
    axes = plot.calibration({"one": one, "two": two})
    lines = [line.get_ydata() for line in axes.lines if len(line.get_ydata()) > 10]
    assert len(lines) == 6
    shares = (one.ranks["a"].to_numpy()[:, None] <= np.arange(50)).mean(axis=0)
    np.testing.assert_allclose(lines[0], shares - (np.arange(50) + 1) / 51)
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert max(np.abs(line).max() for line in lines) < np.abs(band).max() < 0.35
    assert "60 rounds" in plot.alt_text(axes)


def test_ranks_have_as_many_draws_as_asked_for() -> None:
    from alliancedyn.models.dsem import DSEM

    spec = DSEM(draws=60, tune=40, chains=2)
    found = calibrate(spec, clients=12, sessions=5, replications=3, ranks=20, seed=2)
    assert found.draws == 20
    assert found.ranks.to_numpy().max() <= 20
    assert list(found.chains.columns) == ["ess", "rhat", "divergences"]
    with pytest.raises(SpecificationError, match="ranks"):
        calibrate(spec, replications=1, ranks=2)
