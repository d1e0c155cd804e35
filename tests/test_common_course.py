"""A course that all clients share changes no effect and no within SD of a model that sets it apart.

The same panel is fitted twice, once with a course added to every client's scores. A linear one is
set apart by lines, session effects and session means alike, so every number must stay as it is.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import alliancedyn as ad
from alliancedyn.models import Regression

A, S = "alliance", "symptoms"
TRUTH = ad.Dynamics(
    phi=[[0.3, -0.1], [-0.1, 0.4]],
    innovation_cov=[[1.0, -0.2], [-0.2, 1.0]],
    between_cov=[[1.0, -0.3], [-0.3, 1.0]],
    mean=(4.0, 16.0),
)
FALL = (0.16, -1.0)
REGRESSIONS = (
    ad.WithinBetween(direction="both"),
    ad.WithinBetween(direction="both", trend="session"),
    ad.FixedEffects(direction="both"),
    ad.DynamicPanelGMM(direction="both"),
    ad.MLSEM(),
)
SPECS = (*REGRESSIONS, ad.MLSEM(direction="both"), ad.RICLPM(), ad.CLPM(), ad.STARTS())


@cache
def panel(falling: bool, seed: int = 3, clients: int = 250) -> ad.SessionPanel:
    found = ad.simulate(TRUTH, clients, 7, missing=0.1, seed=seed)
    if not falling:
        return found
    frame = found.frame
    for name, slope in zip((A, S), FALL, strict=True):
        frame[name] = frame[name] + slope * (frame["session"] - 1)
    note = ad.Issue("scores-changed", "info", "A course was added to all.")
    return found.with_scores(frame[[A, S]], note)


def standardized(spec, falling, **options):
    fit = spec.fit(panel(falling, **options), strict=False)
    pairs = [(A, S), (S, A)] if getattr(spec, "direction", "both") == "both" else [(A, S)]
    effects = [fit.effect(*pair, standardized="within") for pair in pairs]
    return fit.sd_within().to_numpy(), np.array([[one.value, one.se] for one in effects])


@pytest.mark.parametrize("spec", SPECS, ids=lambda one: f"{one.name} {one.__class__.__name__}")
def test_standardized_effects_do_not_know_a_shared_course(spec):
    straight, fallen = standardized(spec, False), standardized(spec, True)
    np.testing.assert_allclose(fallen[0], straight[0], rtol=2e-3)
    np.testing.assert_allclose(fallen[1], straight[1], rtol=0.02, atol=5e-4)
    # Near the truth: 1.06 and 1.10 points, or somewhat less around means of seven sessions.
    if not isinstance(spec, ad.CLPM):
        assert (np.abs(straight[0] - 1.05) < 0.15).all()


def test_what_a_model_leaves_in_its_sd_holds():
    """Without a trend in the model the course is change within clients, and is called so."""
    left_in = ad.FixedEffects(direction="both", session_effects=False)
    straight, fallen = standardized(left_in, False), standardized(left_in, True)
    assert fallen[0][1] > 1.8 * straight[0][1]
    text = ad.compare_directions(left_in.fit(panel(True), strict=False)).text
    assert "the course that all share included" in " ".join(text.split())
    apart = ad.compare_directions(REGRESSIONS[2].fit(panel(True), strict=False)).text
    assert "the course that all share set apart" in " ".join(apart.split())


def test_falling_symptoms_do_not_lead():
    """Both effects are -.10: neither may look larger for the course (before: .20 of panels)."""
    sizes = []
    for seed in range(12):
        for spec in (REGRESSIONS[0], REGRESSIONS[3]):
            _, effects = standardized(spec, True, seed=seed, clients=150)
            sizes.append(np.abs(effects[:, 0]))
    forward, backward = np.mean(sizes, axis=0)
    assert abs(forward - backward) < 0.04


@pytest.mark.parametrize("spec", REGRESSIONS, ids=lambda one: f"{one.name} {one.direction}")
def test_the_within_variance_is_the_pooled_square_around_both_means(spec):
    """Of complete data: squares around client and session means, over their degrees of freedom."""
    data = ad.simulate(TRUTH, 60, 6, seed=1)
    fit = spec.fit(data, strict=False)
    Y = data.arrays().Y[:, :, 1]
    rest = Y - Y.mean(axis=1, keepdims=True) - Y.mean(axis=0) + Y.mean()
    expected = (rest**2).sum() / (59 * 5)
    tolerance = 1e-9 if isinstance(spec, Regression) else 0.1
    assert fit.params[f"within_var[{S}]"] == pytest.approx(expected, rel=tolerance)
