"""The test of groups is the test of the paths that are shown by group."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

import alliancedyn as ad
from alliancedyn.causal.group_contrast import compare_paths
from alliancedyn.errors import SpecificationError
from alliancedyn.studies.grouped import compare_groups

A, S = "alliance", "symptoms"


def arm(backward, forward=-0.12):
    return ad.Dynamics.time_ordered(
        phi_alliance=0.35,
        phi_symptoms=0.45,
        forward=forward,
        backward=backward,
        between_cov=[[1.0, -0.3], [-0.3, 1.0]],
        mean=(4.0, 16.0),
    )


@cache
def fitted(backward=(-0.1, -0.1), seed=1, clients=150):
    frames = []
    for name, own, at in zip(("feedback", "usual"), backward, (0, 1), strict=True):
        frame = ad.simulate(arm(own), clients, 7, seed=10 * seed + at).frame
        frames.append(frame.assign(client=name[0] + frame["client"].astype(str), arm=name))
    panel = ad.SessionPanel.from_frame(
        pd.concat(frames, ignore_index=True),
        client="client",
        session="session",
        variables=[A, S],
        timing={A: "after", S: "before"},
        arm="arm",
    )
    return compare_groups(
        "RI-CLPM", ad.RICLPM(), panel, "arm", lambda spec, data: spec.fit(data, strict=False)
    )


def test_differences_are_those_of_the_figures_shown():
    found = fitted()
    first, second = found.directions.values()
    assert first.basis == found.test.basis == "structural"
    for difference, one, other in zip(
        found.test.differences,
        (first.forward, first.backward),
        (second.forward, second.backward),
        strict=True,
    ):
        assert difference.estimate.value == pytest.approx(other.value - one.value, abs=1e-9)
        # The arms share no client and no parameter.
        assert difference.estimate.se == pytest.approx(np.hypot(one.se, other.se), rel=1e-4)
        assert str(difference.estimate) in found.test.text
    assert found.test.df == 2
    assert found.test.p_value == pytest.approx(chi2.sf(found.test.statistic, 2))
    assert "in time order" in found.test.text


def test_a_difference_within_the_session_is_found():
    """The same lags, but symptoms go with alliance in one arm only, within the session."""
    found = fitted((-0.3, 0.05), clients=250)
    backward = found.test.differences[1].estimate
    assert backward.lower > 0.0 and found.test.p_value < 0.001


def test_equal_groups_differ_by_chance_only():
    values = [fitted(seed=seed, clients=80).test.p_value for seed in range(2, 12)]
    assert sum(p < 0.05 for p in values) <= 2 and np.mean(values) > 0.25


def test_groups_that_show_different_paths_are_not_compared():
    found = fitted()
    one, other = found.directions
    with pytest.raises(SpecificationError, match="two or more show the same paths"):
        compare_paths(found.fit, {one: found.directions[one]})
    reduced = ad.compare_directions(found.fit, basis="reduced", group=other)
    with pytest.raises(SpecificationError, match="two or more show the same paths"):
        compare_paths(found.fit, {one: found.directions[one], other: reduced})
    both = {g: ad.compare_directions(found.fit, basis="reduced", group=g) for g in (one, other)}
    test = compare_paths(found.fit, both)
    assert test.basis == "reduced" and "in time order" not in test.text
