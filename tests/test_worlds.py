"""Every preset loads, simulates and shows what its note says."""

from __future__ import annotations

import dataclasses
import pickle
import tomllib
from pathlib import Path

import numpy as np
import pytest

import alliancedyn
from alliancedyn import worlds
from alliancedyn.errors import SpecificationError
from alliancedyn.simulate import Dropout, Gaps, Groups, Missing, Therapists, simulate

NAMES = (
    "alliance_x_technique",
    "buffer",
    "byproduct",
    "cbt_components",
    "cohesion_chain",
    "confounded_rater",
    "correlated_trends",
    "early_cohesion",
    "early_response",
    "feedback_arm",
    "good_enough_level",
    "group_rupture",
    "interpersonal_moderator",
    "irregular_gaps",
    "measurement_error",
    "medication",
    "nairobi_like",
    "null",
    "own_and_others",
    "reciprocal",
    "rupture_repair",
    "state",
    "therapist_effects_between",
    "therapist_effects_within",
    "trait_only",
    "trait_state",
    "two_raters",
    "warm_no_progress",
)
MC_ERRORS = 4  # Monte Carlo standard errors within which a simulated figure must lie


def within(truth):
    """Return the truth without what is stable, so that deviations alone are seen."""
    k = len(truth.variables)
    return dataclasses.replace(truth, between_cov=np.zeros((k, k)), mean=np.zeros(k), trend=None)


def lagged(truth):
    """Return the population regression of one session's scores on those of the session before."""
    _, cov = within(truth).moments(2)
    k = len(truth.variables)
    return np.linalg.solve(cov[:k, :k], cov[:k, k:]).T


def test_the_names():
    assert tuple(worlds.names()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_world_is_documented_and_simulates(name):
    world = worlds.load(name)
    assert world.evidence == "plausible"
    assert len(world.title) > 20
    assert len(world.source) > 10
    panel = world.simulate(seed=1)
    assert panel.n_clients == world.clients
    assert panel.truth == world.truth
    assert panel.frame.equals(world.simulate(seed=1).frame)
    assert set(panel.timing.values()) <= {"before", "after"}
    assert set(panel.timing) == set(panel.variables)
    assert worlds.load(name) == world
    assert pickle.loads(pickle.dumps(world)) == world
    assert hash(world) == hash(worlds.load(name))
    assert name in str(world)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_says_where_it_comes_from(name):
    said = tomllib.loads(worlds.path(name).read_text(encoding="utf-8"))
    assert {"title", "source", "evidence"} <= set(said["about"])


def test_presets_lie_inside_the_package_so_that_the_wheel_holds_them():
    root = Path(alliancedyn.__file__).parent
    wheel = tomllib.loads((root.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert wheel["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": [root.name]}
    assert tuple(sorted(file.stem for file in root.glob("worlds/presets/*.toml"))) == NAMES


class TestDirections:
    @pytest.mark.parametrize(
        ("name", "forward", "backward"),
        [
            ("null", 0.0, 0.0),
            ("byproduct", 0.0, -0.10),
            ("trait_only", 0.0, 0.0),
            ("state", -0.12, 0.0),
            ("trait_state", -0.12, 0.0),
            ("reciprocal", -0.12, -0.10),
        ],
    )
    def test_effects_are_the_hypothesis(self, name, forward, backward):
        paths = worlds.load(name).truth.structural()["value"]
        assert paths["forward"] == pytest.approx(forward, abs=1e-12)
        assert paths["backward_immediate"] == pytest.approx(backward, abs=1e-12)
        assert paths["backward_delayed"] == pytest.approx(0.0, abs=1e-12)

    def test_reciprocal_constants(self):
        truth = worlds.load("reciprocal").truth
        response = truth.impulse_response("alliance", 6)["symptoms"].round(4)
        assert list(response) == [0, -0.12, -0.0974, -0.0602, -0.0336, -0.0178, -0.0091]
        assert truth.long_run("alliance", "symptoms", "total") == pytest.approx(-0.3473, abs=5e-5)
        assert truth.long_run("alliance", "symptoms") == pytest.approx(-0.2182, abs=5e-5)

    def test_wrong_timing_manufactures_an_effect(self):
        """Symptoms on same-session alliance given earlier symptoms: -.087 in `byproduct`."""
        _, cov = within(worlds.load("byproduct").truth).moments(2)
        x = [2, 1]  # alliance and earlier symptoms
        slope = np.linalg.solve(cov[np.ix_(x, x)], cov[x, 3])[0]
        assert slope == pytest.approx(-0.087, abs=5e-4)

    def test_trait_worlds_link_level_and_slope_only(self):
        frame = worlds.load("trait_only").truth.params()
        assert frame["between_cov[alliance,symptoms.trend]"] == -0.075
        assert frame["phi[symptoms,alliance]"] == 0.0


class TestSizes:
    def test_nairobi(self):
        truth = worlds.load("nairobi_like").truth
        assert truth.effect("alliance", "symptoms") == -1.27
        assert -0.21 <= truth.effect("alliance", "symptoms", "within") <= -0.16
        np.testing.assert_allclose(truth.icc, [0.70, 0.55], atol=0.01)

    def test_measurement_error_makes_direction_from_nothing(self):
        seen = lagged(worlds.load("measurement_error").truth)
        assert seen[1, 0] == pytest.approx(-0.049, abs=5e-4)
        assert seen[0, 1] == pytest.approx(-0.003, abs=5e-4)

    def test_gaps_treated_as_equal_shrink_the_autoregression(self):
        world = worlds.load("irregular_gaps")
        gaps = dataclasses.replace(world.observation["gaps"], holidays=(), jitter=0)
        truth = within(world.truth)
        Y = simulate(truth, 4000, 12, gaps=gaps, seed=1).arrays().Y
        fit, *_ = np.linalg.lstsq(Y[:, :-1].reshape(-1, 2), Y[:, 1:].reshape(-1, 2), rcond=None)
        assert fit[1, 1] == pytest.approx(0.29, abs=0.015)

    def test_therapists_explain_the_outcome_in_one_world_only(self):
        between = worlds.load("therapist_effects_between")
        within_them = worlds.load("therapist_effects_within")
        for world, slope in ((between, -0.35), (within_them, 0.0)):
            cov = np.array(world.observation["therapists"].cov)
            total = cov + world.truth.between_cov + world.truth.within_cov
            assert cov[1, 0] / cov[0, 0] == pytest.approx(slope)
            assert cov[0, 0] / total[0, 0] == pytest.approx(0.10, abs=0.01)
            assert cov[1, 1] / total[1, 1] == pytest.approx(0.05, abs=0.01)
        assert between.truth.between_cov[0, 1] == 0.0
        assert within_them.truth.between_cov[0, 1] == -0.35

    def test_repair_goes_with_outcome_as_published(self):
        world = worlds.load("rupture_repair")
        frame = simulate(world.truth, 6000, 16, seed=1).frame
        client = frame.groupby("client")
        met = client["rupture"].max() > 0
        repaired = client["rupture"].last()[met] == 0
        r = np.corrcoef(repaired, -client["symptoms"].last()[met])[0, 1]
        assert 0.22 < r < 0.31  # r = .24 to .29, and Monte Carlo error .012
        by_six = frame[frame["session"] <= 6].groupby("client")["rupture"].max().mean()
        assert abs(by_six - 0.5) < MC_ERRORS * np.sqrt(0.25 / 6000)

    def test_completers_look_as_if_therapy_did_little(self):
        world = worlds.load("good_enough_level")
        Y = world.simulate(clients=20000, seed=2).arrays().Y[:, :, 1]
        whole = simulate(world.truth, 20000, 12, seed=2).arrays().Y[:, :, 1]
        stayed = np.isfinite(Y[:, -1])
        assert (whole[:, -1] - whole[:, 0]).mean() == pytest.approx(-1.66, abs=0.06)
        assert (Y[stayed, -1] - Y[stayed, 0]).mean() == pytest.approx(-1.1, abs=0.1)

    def test_the_bond_predicts_only_when_left_alone(self):
        seen = lagged(worlds.load("cbt_components").truth)
        assert seen[1, 2] == pytest.approx(0.0, abs=1e-10)
        _, cov = within(worlds.load("cbt_components").truth).moments(2)
        x = [1, 2]  # symptoms and bond without agreement
        assert np.linalg.solve(cov[np.ix_(x, x)], cov[x, 4])[1] < -0.03

    def test_competence_does_nothing_and_seems_to(self):
        truth = worlds.load("confounded_rater").truth
        assert lagged(truth)[1, 0] == pytest.approx(0.0, abs=1e-10)
        _, cov = truth.moments(2)
        assert cov[0, 3] / np.sqrt(cov[0, 0] * cov[3, 3]) < -0.25

    def test_moderated_effects(self):
        for name, path, values in (
            ("interpersonal_moderator", ("symptoms", "alliance"), (0.0, -0.20)),
            ("alliance_x_technique", ("symptoms", "alliance"), (0.0, -0.24)),
            ("buffer", ("symptoms", "conflict"), (0.30, 0.0)),
        ):
            truth = worlds.load(name).truth
            (covariate,) = truth.covariates
            ((target, source, change),) = covariate.on_phi
            assert (target, source) == path
            step = {"buffer": 1.5, "alliance_x_technique": 0.5}.get(name, 1.0)
            ends = truth.effect(source, target) + change * step * np.array([-1, 1])
            np.testing.assert_allclose(ends, values, atol=1e-12)

    def test_group_ruptures_strike_everybody(self):
        world = worlds.load("group_rupture")
        frame = simulate(world.truth, 80, 8, groups=world.observation["groups"], seed=3).frame
        assert (frame.groupby(["group", "session"], observed=True)["rupture"].nunique() == 1).all()
        assert frame["rupture"].max() == 1.0

    def test_two_raters_have_actor_and_partner_effects(self):
        world = worlds.load("two_raters")
        paths = lagged(world.truth)
        np.testing.assert_allclose(paths[[0, 2]][:, [0, 2]], [[0.30, 0.05], [0.15, 0.40]])
        views = world.truth.between_cov[0, 2] / np.sqrt(
            np.prod(np.diag(world.truth.between_cov)[::2])
        )
        assert views == pytest.approx(0.37, abs=0.005)

    def test_medication_left_out_makes_alliance_look_stronger(self):
        truth = worlds.load("medication").truth
        assert lagged(truth)[1, 0] == pytest.approx(-0.10)
        _, cov = within(truth).moments(2)
        left = np.linalg.solve(cov[:2, :2], cov[:2, 3:5]).T
        assert left[1, 0] == pytest.approx(-0.16, abs=0.005)

    def test_cohesion_reaches_feedback_after_two_sessions(self):
        response = worlds.load("cohesion_chain").truth.impulse_response("cohesion", 2)["feedback"]
        np.testing.assert_allclose(response, [0.0, 0.0, 0.075], atol=1e-12)

    def test_cohesion_matters_up_to_session_five(self):
        world = worlds.load("early_cohesion")
        truth = dataclasses.replace(world.truth, between_cov=np.zeros((2, 2)))
        Y = simulate(truth, 8000, 9, seed=1).arrays().Y
        for t in range(8):  # into session t + 2
            fit, *_ = np.linalg.lstsq(Y[:, t] - truth.mean, Y[:, t + 1, 1] - 10.0, rcond=None)
            assert abs(fit[0] - (-0.25 if t + 2 < 6 else -0.05)) < MC_ERRORS / np.sqrt(8000)

    @pytest.mark.parametrize(("size", "slope"), [(4, -0.10), (8, -0.157)])
    def test_centering_at_the_group_mixes_own_with_others(self, size, slope):
        world = worlds.load("own_and_others")
        groups = dataclasses.replace(world.observation["groups"], size=size)
        truth = dataclasses.replace(world.truth, between_cov=np.zeros((2, 2)))
        Y = simulate(truth, 16000, 4, groups=groups, seed=2).arrays().Y
        members = Y.reshape(-1, size, 4, 2)
        off = (members - members.mean(axis=1, keepdims=True)).reshape(-1, 4, 2)
        X, y = off[:, :-1].reshape(-1, 2), off[:, 1:, 1].ravel()
        fit, *_ = np.linalg.lstsq(X, y, rcond=None)
        assert abs(fit[0] - slope) < MC_ERRORS / np.sqrt(len(y))


def test_what_a_world_is_seen_with():
    kinds = {
        ("therapist_effects_between", "therapists"): Therapists,
        ("group_rupture", "groups"): Groups,
        ("good_enough_level", "dropout"): Dropout,
        ("irregular_gaps", "gaps"): Gaps,
    }
    for (name, key), kind in kinds.items():
        assert isinstance(worlds.load(name).observation[key], kind)
    assert worlds.load("reciprocal").simulate(clients=7, sessions=3, seed=1).n_clients == 7


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(SpecificationError, match=r"'recip'.*'reciprocal'"):
        worlds.load("recip")


CONTINUOUS = """
mean = [1, 2]
[continuous]
drift = [[-0.8, -0.1], [-0.2, -0.6]]
diffusion_cov = [[1.0, -0.2], [-0.2, 0.8]]
[missing]
share = 0.2
rule = "state"
[items.alliance]
names = ["task", "bond"]
[confounder]
effects = [0.1, 0.2]
[[phases]]
first = 4
on_phi = [["symptoms", "alliance", 0.1]]
"""


def test_a_file_of_ones_own(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(CONTINUOUS, encoding="utf-8")
    world = worlds.read(file)
    assert world.name == "mine"
    assert world.observation["missing"] == Missing(0.2, "state")
    assert world.truth.confounder.effects == (0.1, 0.2)
    assert list(world.truth.mean) == [1, 2]
    assert world.simulate(clients=20, sessions=5, seed=1).variables == ("task", "bond", "symptoms")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("phi = [", "no readable TOML"),
        ("phi = 3\ncolour = 2", "'colour' means nothing in the world"),
        ("[time_ordered]\nforward = 0", "time_ordered: .* needs phi_alliance"),
        ("colour = 2\n[time_ordered]\nforward = 0", "'colour' means nothing in the world"),
        ("time_ordered = 3", "must be a table"),
        ("[about]\ncolour = 'red'", r"'colour' means nothing in \[about\]"),
        ("[about]\nevidence = 'proven'", "evidence of 'mine.toml' must be one of"),
        ("[dropout]\nhow = 1", "'how' means nothing in dropout"),
        ("dropout = 3", "dropout must be a table"),
        ("phi = [[1.2, 0], [0, 0.1]]\ninnovation_cov = [[1, 0], [0, 1]]", "explosive"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path, text, message):
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SpecificationError, match=message):
        worlds.read(file)


def test_a_folder_is_no_world(tmp_path):
    with pytest.raises(SpecificationError, match="is a folder"):
        worlds.read(tmp_path)


def test_no_file(tmp_path):
    with pytest.raises(SpecificationError, match=r"no file 'none.toml'"):
        worlds.read(tmp_path / "none.toml")
