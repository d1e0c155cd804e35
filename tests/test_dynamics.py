"""The analytic consequences of a known world: constants, identities and refusals.

Constants come from the project's statistics (phi_A .35, phi_S .45, b -.12, g -.10, unit innovation
variances) and are met to four decimals; identities are checked by a second route.
"""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alliancedyn.errors import SpecificationError
from alliancedyn.simulate import Dynamics, GrowthCurve

FOUR_DECIMALS = 5e-5


def time_ordered(**changes):
    options = {"phi_alliance": 0.35, "phi_symptoms": 0.45, "forward": -0.12, "backward": -0.10}
    return Dynamics.time_ordered(**(options | changes))


def reduced(**changes):
    options = {"phi": [[0.36, -0.05], [-0.12, 0.45]], "innovation_cov": [[1, -0.25], [-0.25, 1]]}
    return Dynamics(**(options | changes))


@st.composite
def worlds(draw):
    """Any stationary pair of series with between differences, correlated innovations, error."""
    lag = st.floats(-0.6, 0.6)
    phi = np.array([[draw(lag), draw(lag)], [draw(lag), draw(lag)]])
    phi *= min(1.0, 0.85 / max(np.abs(np.linalg.eigvals(phi)).max(), 1e-9))
    root = np.tril(np.array([[draw(st.floats(0.3, 2)) for _ in range(2)] for _ in range(2)]))
    between = np.tril(np.array([[draw(st.floats(-1, 2)) for _ in range(2)] for _ in range(2)]))
    return Dynamics(
        phi=phi,
        innovation_cov=root @ root.T,
        between_cov=between @ between.T,
        mean=(3.0, 10.0),
        reliability=(draw(st.floats(0.4, 1)), draw(st.floats(0.4, 1))),
    )


class TestConstants:
    def test_time_ordered_world_has_the_known_reduced_form(self):
        truth = time_ordered()
        np.testing.assert_allclose(truth.phi, [[0.362, -0.045], [-0.12, 0.45]], atol=FOUR_DECIMALS)
        assert truth.innovation_cov[0, 1] == pytest.approx(-0.10, abs=FOUR_DECIMALS)
        assert truth.innovation_cov[0, 0] == pytest.approx(1.01, abs=FOUR_DECIMALS)

    def test_within_moments(self):
        within = time_ordered().within_cov
        assert within[0, 0] == pytest.approx(1.1733, abs=FOUR_DECIMALS)
        assert within[1, 1] == pytest.approx(1.3040, abs=FOUR_DECIMALS)
        r = within[0, 1] / np.sqrt(within[0, 0] * within[1, 1])
        assert r == pytest.approx(-0.1724, abs=FOUR_DECIMALS)

    def test_standardized_effects(self):
        structural = time_ordered().structural()
        assert structural.loc["forward", "standardized"] == pytest.approx(
            -0.1138, abs=FOUR_DECIMALS
        )
        assert structural.loc["backward_immediate", "standardized"] == pytest.approx(
            -0.1054, abs=FOUR_DECIMALS
        )
        assert time_ordered().effect(
            "alliance", "symptoms", standardized="within"
        ) == pytest.approx(-0.1138, abs=FOUR_DECIMALS)

    @pytest.mark.parametrize("kind", ["reduced", "structural"])
    def test_impulse_response_to_alliance(self, kind):
        response = time_ordered().impulse_response("alliance", 6, kind=kind)["symptoms"]
        known = [0, -0.1200, -0.0974, -0.0602, -0.0336, -0.0178, -0.0091]
        np.testing.assert_allclose(response, known, atol=FOUR_DECIMALS)
        assert list(response.index) == list(range(7))

    def test_long_run(self):
        truth = time_ordered()
        assert truth.long_run("alliance", "symptoms") == pytest.approx(-0.2182, abs=FOUR_DECIMALS)
        total = truth.long_run("alliance", "symptoms", kind="total")
        assert total == pytest.approx(-0.3473, abs=FOUR_DECIMALS)


class TestStructure:
    def test_structural_returns_what_built_the_world(self):
        truth = time_ordered(backward_delayed=0.07, alliance_var=2.0, symptoms_var=0.5)
        value = truth.structural()["value"]
        assert value.to_dict() == pytest.approx(
            {
                "forward": -0.12,
                "backward_immediate": -0.10,
                "backward_delayed": 0.07,
                "autoregression[alliance]": 0.35,
                "autoregression[symptoms]": 0.45,
            },
            abs=1e-12,
        )

    def test_order_of_the_series_does_not_matter(self):
        truth = time_ordered()
        swap = np.ix_([1, 0], [1, 0])
        turned = Dynamics(
            phi=truth.phi[swap],
            innovation_cov=truth.innovation_cov[swap],
            variables=("symptoms", "alliance"),
        )
        ours, theirs = truth.structural(), turned.structural()
        np.testing.assert_allclose(theirs.loc[ours.index], ours, atol=1e-12)
        assert turned.process == "alliance"
        assert turned.outcome == "symptoms"

    def test_other_names_need_their_timing(self):
        options = {"variables": ("credibility", "distress")}
        assert dict(reduced(**options).timing) == {}
        with pytest.raises(SpecificationError, match="structural"):
            reduced(**options).structural()
        timing = {"credibility": "before", "distress": "after"}
        swapped = reduced(**options, timing=timing).structural()
        # The process is taken before: its path to the outcome lies within the session.
        assert list(swapped.index)[:3] == ["forward_immediate", "forward_delayed", "backward"]
        assert swapped.loc["backward", "value"] == pytest.approx(-0.05)
        assert swapped.loc["forward_immediate", "value"] == pytest.approx(-0.25)

    def test_a_push_of_symptoms_moves_alliance_in_the_same_session_only_structurally(self):
        truth = time_ordered()
        assert truth.impulse_response("symptoms", 3).loc[0, "alliance"] == 0.0
        structural = truth.impulse_response("symptoms", 3, kind="structural")
        assert structural.loc[0, "alliance"] == pytest.approx(-0.10)
        assert structural.loc[1, "symptoms"] == pytest.approx(0.45 + -0.12 * -0.10)

    def test_total_effect_is_the_sum_of_the_responses(self):
        truth = reduced()
        response = truth.impulse_response("symptoms", 200)
        for target in truth.variables:
            assert truth.long_run("symptoms", target, kind="total") == pytest.approx(
                response[target].iloc[1:].sum(), abs=1e-12
            )

    def test_sustained_effect_is_where_a_held_source_takes_the_target(self):
        truth, level = reduced(), 0.0
        for _ in range(200):
            level = 0.45 * level - 0.12 * 1.0
        assert truth.long_run("alliance", "symptoms") == pytest.approx(level, abs=1e-12)

    @settings(max_examples=40, deadline=None)
    @given(truth=worlds())
    def test_within_cov_solves_its_equation_and_moments_hold_it(self, truth):
        within, phi = truth.within_cov, truth.phi
        np.testing.assert_allclose(
            within, phi @ within @ phi.T + truth.innovation_cov, atol=1e-9 * np.abs(within).max()
        )
        mean, cov = truth.moments(4)
        np.testing.assert_allclose(mean, np.tile([3.0, 10.0], 4))
        np.testing.assert_allclose(cov, cov.T)
        assert np.linalg.eigvalsh(cov).min() > -1e-9
        np.testing.assert_allclose(cov[6:8, 0:2], phi @ phi @ phi @ within + truth.between_cov)
        total = np.diag(cov)[:2]
        np.testing.assert_allclose(truth.icc, np.diag(truth.between_cov) / total)
        share = np.diag(within) / (np.diag(within) + truth.measurement_var)
        np.testing.assert_allclose(share, truth.reliability)

    @settings(max_examples=20, deadline=None)
    @given(truth=worlds(), scale=st.floats(0.1, 10))
    def test_rescaling_a_series_rescales_phi_by_the_known_ratio(self, truth, scale):
        unit = np.diag([scale, 1.0])
        other = Dynamics(
            phi=unit @ truth.phi @ np.linalg.inv(unit),
            innovation_cov=unit @ truth.innovation_cov @ unit,
        )
        plain = truth.effect("alliance", "symptoms")
        assert other.effect("alliance", "symptoms") == pytest.approx(plain / scale)
        assert other.effect("alliance", "symptoms", "within") == pytest.approx(
            truth.effect("alliance", "symptoms", "within")
        )


class TestParams:
    def test_names_and_values(self):
        params = reduced(mean=(3, 10), reliability=0.8, phi_sd=np.full((2, 2), 0.1)).params()
        assert params["phi[symptoms,alliance]"] == -0.12
        assert params["innovation_cov[alliance,symptoms]"] == -0.25
        assert "innovation_cov[symptoms,alliance]" not in params
        assert params["between_cov[alliance,alliance]"] == 0.0
        assert params["mean[symptoms]"] == 10.0
        assert params["phi_sd[alliance,symptoms]"] == 0.1
        within = reduced().within_cov
        assert params["initial_cov[alliance,symptoms]"] == pytest.approx(within[0, 1])
        assert params["measurement_var[symptoms]"] == pytest.approx(within[1, 1] * 0.25)
        assert params.index.is_unique

    def test_growth_names_put_slopes_beside_their_intercepts(self):
        trend = GrowthCurve(
            slope=(0.15, -0.9),
            slope_cov=[[0.1, -0.12], [-0.12, 0.8]],
            intercept_slope_cov=[[0.02, -0.05], [0.03, -0.2]],
        )
        params = reduced(
            between_cov=[[0.9, -0.5], [-0.5, 6.0]], mean=(4.9, 14.0), trend=trend
        ).params(sessions=3)
        between = [name for name in params.index if name.startswith("between_cov")]
        assert between[:4] == [
            "between_cov[alliance,alliance]",
            "between_cov[alliance,alliance.trend]",
            "between_cov[alliance,symptoms]",
            "between_cov[alliance,symptoms.trend]",
        ]
        assert params["between_cov[alliance,symptoms.trend]"] == -0.05
        assert params["between_cov[alliance.trend,symptoms]"] == 0.03
        assert params["intercept[symptoms]"] == 14.0
        assert params["trend[symptoms]"] == -0.9
        assert params["mean[symptoms]@3"] == pytest.approx(14.0 - 1.8)
        assert "mean[symptoms]" not in params


class TestGrowthCurve:
    @pytest.mark.parametrize(
        ("shape", "basis"),
        [
            ("linear", [0, 1, 2]),
            ("log", [0, np.log(2), np.log(3)]),
            ("exponential", [0, 1 - np.exp(-0.5), 1 - np.exp(-1.0)]),
        ],
    )
    def test_shapes(self, shape, basis):
        curve = GrowthCurve(slope=(2.0, -4.0), shape=shape)
        np.testing.assert_allclose(curve.expected(3), np.outer(basis, [2.0, -4.0]))

    def test_session_means(self):
        rows = [[0, 0], [0.2, -1], [0.3, -1.5]]
        truth = reduced(mean=(3, 10), trend=GrowthCurve(shape="sessions", means=rows))
        np.testing.assert_allclose(truth.session_means(2), [[3, 10], [3.2, 9]])
        with pytest.raises(SpecificationError, match="3 sessions, not 4"):
            truth.session_means(4)
        assert "trend[alliance]" not in truth.params(3)


class TestValue:
    def world(self):
        trend = GrowthCurve(slope=(0.1, -0.5), slope_cov=[[0.1, 0], [0, 0.2]])
        return reduced(
            between_cov=[[1, -0.3], [-0.3, 1]],
            mean=(3, 10),
            trend=trend,
            phi_sd=[[0.1, 0], [0, 0.1]],
            reliability=(0.9, 0.8),
        )

    def test_equal_by_value_hash_and_repr(self):
        assert self.world() == self.world()
        assert hash(self.world()) == hash(self.world())
        assert eval(repr(self.world())) == self.world()
        assert self.world() != dataclasses.replace(self.world(), reliability=(0.9, 0.7))
        assert self.world() != "a world"
        assert reduced(phi=np.zeros((2, 2))) == reduced(phi=-np.zeros((2, 2)))
        forth = reduced(timing={"alliance": "after", "symptoms": "before"})
        back = reduced(timing={"symptoms": "before", "alliance": "after"})
        assert forth == back
        assert hash(forth) == hash(back)

    @pytest.mark.parametrize(
        "copied", [copy.copy, copy.deepcopy, lambda truth: pickle.loads(pickle.dumps(truth))]
    )
    def test_copies_are_equal_and_still_read_only(self, copied):
        other = copied(self.world())
        assert other == self.world()
        with pytest.raises(ValueError, match="read-only"):
            other.phi[0, 0] = 1.0
        with pytest.raises(ValueError, match="read-only"):
            other.within_cov[0, 0] = 1.0

    def test_the_callers_array_is_neither_kept_nor_locked(self):
        phi = np.array([[0.3, 0.0], [0.0, 0.3]])
        truth = reduced(phi=phi)
        phi[0, 0] = 0.9
        assert truth.phi[0, 0] == 0.3

    def test_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            reduced().phi = np.eye(2)


REFUSED = [
    ({"phi": [[1.02, 0], [0, 0.4]]}, "spectral radius is 1.020"),
    ({"phi": [[1.0, 0], [0, 0.4]]}, "explosive"),
    ({"phi": [[0.4]]}, r"phi has shape \(1, 1\), expected \(2, 2\)"),
    ({"phi": "strong"}, "phi is 'strong'; give numbers"),
    ({"phi": [[0.4, 0.1], [0.4]]}, "give numbers, as an array"),
    ({"phi": [[np.nan, 0], [0, 0.4]]}, "phi holds NaN"),
    ({"innovation_cov": [[1, 0.5], [0.2, 1]]}, "innovation_cov is not symmetric"),
    ({"innovation_cov": [[1, 2], [2, 1]]}, "smallest eigenvalue is -1"),
    ({"innovation_cov": [[-1, 0], [0, 1]]}, "not a covariance"),
    ({"between_cov": [[1, 2], [2, 1]]}, "between_cov is not a covariance"),
    ({"mean": (1, 2, 3)}, "mean has shape"),
    ({"reliability": 0.0}, "reliability must be above 0"),
    ({"reliability": (0.9, 1.1)}, "at most 1"),
    ({"reliability": (0.9, 0.9, 0.9)}, "reliability has shape"),
    ({"reliability": "good"}, "reliability is 'good'; give numbers"),
    ({"phi_sd": [[-0.1, 0], [0, 0]]}, "phi_sd holds standard deviations"),
    ({"variables": ("a", "a")}, "repeat a name"),
    ({"variables": ("a", "b[1]")}, "Rename the variable"),
    ({"variables": "ab"}, "variables is 'ab'; give several"),
    ({"variables": 2}, "variables is 2; give several"),
    ({"timing": "before"}, "timing is 'before'; give a dict"),
    ({"variables": ("a", "")}, "not empty"),
    ({"variables": ("a",), "phi": [[0.5]], "innovation_cov": [[1]]}, "at least two series"),
    ({"timing": {"mood": "before"}}, "'mood', which are not among"),
    ({"timing": {"alliance": "during"}}, '"before" or "after"'),
    ({"trend": GrowthCurve(slope=(1, 2, 3))}, "describes 3 series"),
    ({"trend": "linear"}, "give a GrowthCurve"),
    ({"trend": GrowthCurve(slope=(1, 2), slope_cov=[[1, 2], [2, 1]])}, "slope_cov is not a cov"),
    (
        {
            "between_cov": np.eye(2),
            "trend": GrowthCurve(
                slope=(1, 2), slope_cov=np.eye(2), intercept_slope_cov=[[1.5, 0], [0, 0]]
            ),
        },
        "intercept and slope covariance",
    ),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_impossible_worlds_are_refused_by_name(changes, message):
    with pytest.raises(SpecificationError, match=message):
        reduced(**changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs slope"),
        ({"slope": (1, 2), "shape": "cubic"}, "'cubic' is not known"),
        ({"slope": (1, 2), "means": [[0, 0]]}, "belongs to"),
        ({"shape": "sessions"}, "needs means"),
        ({"shape": "sessions", "means": [[0, 0]], "slope": (1, 2)}, "no slopes"),
        ({"shape": "sessions", "means": [[0, np.nan]]}, "finite"),
        ({"slope": (1, 2), "intercept_slope_cov": np.eye(2)}, "give both"),
        ({"slope": (1, 2), "rate": 0}, "rate must be above 0"),
    ],
)
def test_impossible_curves_are_refused(options, message):
    with pytest.raises(SpecificationError, match=message):
        GrowthCurve(**options)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda truth: truth.effect("mood", "symptoms"), "no series 'mood'"),
        (
            lambda truth: truth.effect("alliance", "symptoms", "between"),
            "is 'between'; choose 'within'",
        ),
        (lambda truth: truth.impulse_response("alliance", -1), "at least 0"),
        (
            lambda truth: truth.impulse_response("alliance", 3, kind="total"),
            "is 'total'; choose 'reduced'",
        ),
        (lambda truth: truth.long_run("alliance", "alliance"), "needs two series"),
        (
            lambda truth: truth.long_run("alliance", "symptoms", kind="big"),
            "is 'big'; choose 'sustained'",
        ),
        (lambda truth: truth.session_means(True), "whole number"),
        (lambda truth: dataclasses.replace(truth, phi_sd=np.eye(2)).moments(3), "closed form"),
        (
            lambda truth: dataclasses.replace(
                truth, innovation_cov=np.diag([1, 0]), phi=np.diag([0.3, 0.3])
            ).effect("alliance", "symptoms", "within"),
            "never varies",
        ),
        (lambda truth: time_ordered(symptoms_var=0).structural(), "needs innovations"),
        (lambda truth: time_ordered(symptoms_var=-1), "must not be negative"),
        (lambda truth: time_ordered(phi_alliance="a"), "give a finite number"),
        (lambda truth: time_ordered(phi_alliance=1.2), "explosive"),
    ],
)
def test_impossible_questions_are_refused(ask, message):
    with pytest.raises(SpecificationError, match=message):
        ask(reduced())


def test_three_series_have_everything_but_a_time_order():
    truth = Dynamics(
        phi=0.4 * np.eye(3) + 0.05,
        innovation_cov=np.eye(3),
        between_cov=np.eye(3),
        variables=("alliance", "insight", "symptoms"),
    )
    assert truth.outcome == "symptoms"
    assert len(truth.params()) == 9 + 6 + 6 + 6 + 3
    assert truth.impulse_response("insight", 2).shape == (3, 3)
    with pytest.raises(SpecificationError, match="two series"):
        truth.structural()
