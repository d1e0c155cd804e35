"""Clients' own levels, slopes, lags and innovation variances, and how they correlate."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import alliancedyn as ad
from alliancedyn.engine.dsem import DsemShape
from alliancedyn.errors import SpecificationError
from alliancedyn.simulate import Dynamics, Episodes, GrowthCurve, Innovations, simulate_scores
from alliancedyn.simulate.random_effects import OwnEffects, correlations, spreads

# Monte Carlo standard errors; some hundred comparisons exceed it by chance once in a hundred runs.
MC_ERRORS = 4
CLIENTS = 20000


def world(**changes):
    options = {
        "phi": [[0.30, -0.05], [-0.12, 0.35]],
        "innovation_cov": [[1, -0.25], [-0.25, 1]],
        "between_cov": [[1.0, -0.3], [-0.3, 1.5]],
        "phi_sd": np.full((2, 2), 0.1),
    }
    return Dynamics(**(options | changes))


TREND = GrowthCurve(
    slope=(0.1, -0.2),
    slope_cov=[[0.02, 0.0], [0.0, 0.05]],
    intercept_slope_cov=[[0.02, 0], [0, -0.05]],
)
PAIRS = (
    ("alliance", "symptoms<-alliance", -0.5),
    ("symptoms.trend", "symptoms<-symptoms", 0.3),
    ("symptoms<-alliance", "symptoms<-symptoms", 0.2),
    ("symptoms", "log(symptoms)", 0.4),
    ("alliance<-alliance", "log(symptoms)", -0.3),
    ("log(alliance)", "log(symptoms)", 0.5),
)
FULL = {"trend": TREND, "innovations": Innovations(log_sd=(0.4, 0.6)), "random_corr": PAIRS}


def own(truth, clients, seed=1, persons=None):
    """Draw every effect of every client, (N, q), in the order of `spreads`."""
    levels, lags, scales = np.random.default_rng(seed).spawn(3)
    effects = OwnEffects(truth, clients, levels, persons)
    drawn = [effects.stable(), effects.lags(lags).reshape(-1, 4)]
    scale = effects.scales(scales)
    return np.hstack(drawn if scale is None else [*drawn, 2.0 * np.log(scale)])


def assert_implied(truth, drawn):
    """SDs and correlations of the draws are those of the world."""
    n = len(drawn)
    sd, R = np.array(list(spreads(truth).values())), correlations(truth)
    assert np.all(np.abs(drawn.std(axis=0) - sd) <= MC_ERRORS * sd / np.sqrt(2 * n))
    error = MC_ERRORS * (1 - R**2) / np.sqrt(n) + 1e-12
    assert np.all(np.abs(np.corrcoef(drawn.T) - R) <= error)


def test_all_kinds_of_effects_correlate_as_said():
    truth = world(**FULL)
    assert_implied(truth, own(truth, CLIENTS))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6), st.floats(0.01, 0.1), st.integers(0, 2**32 - 1))
def test_any_correlations_and_spreads(level, lag, sd, seed):
    truth = world(
        phi_sd=np.full((2, 2), sd),
        random_corr=[
            ("alliance", "symptoms<-alliance", level),
            ("symptoms<-alliance", "alliance<-symptoms", lag),
        ],
    )
    assert_implied(truth, own(truth, 5000, seed))


def test_levels_stay_the_same_whatever_correlates_with_them():
    plain = own(world(**{**FULL, "random_corr": ()}), 500)
    np.testing.assert_array_equal(own(world(**FULL), 500)[:, :4], plain[:, :4])


def test_lags_of_a_client_with_a_good_alliance_are_larger_in_the_scores():
    truth = world(random_corr=[("alliance", "symptoms<-alliance", -0.9)])
    Y = simulate_scores(truth, 4000, 30, np.random.default_rng(1))
    level = Y.mean(axis=1)[:, 0]
    slopes = []
    for half in (level > np.median(level), level <= np.median(level)):
        W = Y[half] - Y[half].mean(axis=1, keepdims=True)
        X, y = W[:, :-1].reshape(-1, 2), W[:, 1:, 1].ravel()
        slopes.append(np.linalg.lstsq(X, y, rcond=None)[0][0])
    # E(lag | upper half) = phi -/+ .9 x SD x sqrt(2 / pi), so the halves differ by .144, a little
    # less because a client's mean over 30 sessions is not the level
    assert -0.16 < slopes[0] - slopes[1] < -0.10


def test_a_correlation_survives_drawing_explosive_clients_again():
    truth = world(
        phi_sd=np.full((2, 2), 0.35), random_corr=[("alliance", "symptoms<-alliance", 0.5)]
    )
    drawn = own(truth, CLIENTS)
    lags = drawn[:, 2:].reshape(-1, 2, 2)
    assert np.abs(np.linalg.eigvals(lags)).max() < 1.0
    # levels are never drawn again: exactly normal with their own variance
    assert abs(drawn[:, 0].std() - 1.0) <= MC_ERRORS / np.sqrt(2 * CLIENTS)
    assert np.corrcoef(drawn[:, 0], lags[:, 1, 0])[0, 1] > 0.35


def test_episodes_of_a_person_share_the_effects():
    persons = np.array([0, 1, 2, 1])
    drawn = own(world(**FULL), 4, persons=persons)
    np.testing.assert_array_equal(drawn[1], drawn[3])
    panel = ad.simulate(world(**FULL), 30, 5, episodes=Episodes(0.3), seed=1)
    assert panel.frame["episode"].nunique() == 2


def test_names_are_those_of_dsem():
    truth = world(innovations=FULL["innovations"], random_corr=PAIRS[3:])
    shape = DsemShape(
        ("alliance", "symptoms"), (1, 2), random_phi=True, random_innovation=True, correlated=True
    )
    assert list(spreads(truth)) == list(shape.effects)
    assert set(shape.parameter_names()) == set(truth.params().index)
    params = truth.params()
    assert params["random_corr[symptoms,log(symptoms)]"] == 0.4
    assert params["random_corr[alliance,symptoms<-alliance]"] == 0.0
    assert params["log_innovation_sd[symptoms]"] == 0.6


def test_a_world_with_correlations_is_a_value(tmp_path):
    truth = world(**FULL)
    assert eval(repr(truth)) == truth == pickle.loads(pickle.dumps(truth))
    assert truth != world(**{**FULL, "random_corr": PAIRS[:2]})
    file = tmp_path / "own.toml"
    file.write_text(
        "phi = [[0.3, -0.05], [-0.12, 0.35]]\ninnovation_cov = [[1, -0.25], [-0.25, 1]]\n"
        "between_cov = [[1, 0], [0, 1]]\nphi_sd = [[0.1, 0.1], [0.1, 0.1]]\n"
        'random_corr = [["alliance", "symptoms<-alliance", -0.5]]\n',
        encoding="utf-8",
    )
    assert ad.worlds.read(file).truth.random_corr == PAIRS[:1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"random_corr": [("alliance", "phi", 0.1)]}, "'phi', which does not differ.*symptoms<-al"),
        ({"random_corr": [("alliance", "log(alliance)", 0.1)]}, "does not differ between clients"),
        ({"random_corr": [("alliance", "symptoms", 0.1)]}, "by between_cov, slope_cov"),
        (
            {"between_cov": None, "random_corr": [("alliance", "symptoms<-alliance", 0.1)]},
            "'alliance', which does not differ",
        ),
        ({"random_corr": [("alliance", "symptoms<-alliance", 1.5)]}, "random effects is not a cov"),
        ({"random_corr": [("alliance", "symptoms<-alliance")]}, "random_corr is .*give several"),
        (
            {"random_corr": [("alliance", "symptoms<-alliance", "much")]},
            "random_corr is .*give several",
        ),
        ({"random_corr": 3}, "random_corr is 3; give several"),
        ({"random_corr": [PAIRS[0], (*PAIRS[0][1::-1], 0.5)]}, "each pair once"),
        ({"random_corr": [("symptoms<-alliance", "symptoms<-alliance", 1.0)]}, "two effects"),
        (
            {
                "random_corr": [
                    ("alliance", "symptoms<-alliance", 0.9),
                    ("symptoms", "symptoms<-alliance", 0.9),
                ]
            },
            "smallest eigenvalue",
        ),
    ],
)
def test_impossible_correlations_are_refused(changes, message):
    with pytest.raises(SpecificationError, match=message):
        world(**changes)
