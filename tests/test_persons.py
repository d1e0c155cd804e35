"""Persons with several episodes: errors, tests and resampling by person unless asked otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from reference_files import cases_dir

import alliancedyn as ad
from alliancedyn.errors import InferenceWarning, SpecificationError

ONE = ((1.0, -0.3), (-0.3, 1.0))
TRUTH = ad.Dynamics(phi=((0.3, -0.1), (-0.2, 0.3)), innovation_cov=ONE, between_cov=ONE)
PHI = "phi[symptoms,alliance]"
SAID = "25 of 70 persons have several episodes"
FAMILIES = [
    ad.RICLPM(means="equal"),
    ad.MLSEM(direction="both", sessions=(1, 6)),
    ad.WithinBetween(),
    ad.FixedEffects(),
    ad.DynamicPanelGMM(),
]


def read(**more: Any) -> ad.SessionPanel:
    return ad.read_sessions(
        cases_dir() / "7_two_episodes.csv",
        client="client_id",
        episode="episode",
        session="session_in_episode",
        variables={"alliance": "wai_total", "symptoms": "phq9_total"},
        timing={"alliance": "after", "symptoms": "before"},
        **more,
    )


@pytest.fixture(scope="module")
def twins() -> pd.DataFrame:
    """Every series twice: two episodes of one person, the same scores."""
    frame = ad.simulate(TRUTH, clients=60, sessions=7, missing=0.05, seed=8).frame
    return pd.concat([frame.assign(episode=1), frame.assign(episode=2)])


def panel_of(frame: pd.DataFrame, **roles: Any) -> ad.SessionPanel:
    return ad.SessionPanel.from_frame(
        frame, client="client", session="session", variables=["alliance", "symptoms"], **roles
    )


@pytest.mark.parametrize("spec", FAMILIES, ids=lambda spec: spec.name)
def test_errors_of_a_case_are_by_person(spec: Any) -> None:
    panel = read()
    assert (panel.n_persons, panel.n_clients) == (70, 95)
    with pytest.warns(InferenceWarning, match=f"{SAID} .*standard errors are clustered by person"):
        fit = spec.fit(panel)
    assert fit.diagnostics["errors"] == "cluster:person"
    same = spec.fit(panel, errors="cluster:person", strict=False)
    pd.testing.assert_series_equal(fit.se, same.se)
    apart = spec.fit(panel, errors="robust", strict=False)
    assert abs(apart.se[PHI] / fit.se[PHI] - 1.0) > 0.001
    assert apart.params[PHI] == fit.params[PHI]
    (note,) = (note for note in apart.diagnostics["notes"] if SAID in note)
    assert "which errors='robust' takes as independent" in note


@pytest.mark.parametrize("spec", FAMILIES[:1] + FAMILIES[2:], ids=lambda spec: spec.name)
def test_the_same_scores_twice_are_no_more_data(spec: Any, twins: pd.DataFrame) -> None:
    """Clustered by person, errors are those of the single series; taken apart 1 / sqrt 2 of them.

    Sandwiches over m clusters have a factor of m / (m - 1), those over clients none.
    """
    twice = spec.fit(panel_of(twins, episode="episode"), strict=False)
    once = spec.fit(panel_of(twins[twins["episode"] == 1]), errors="robust", strict=False)
    apart = spec.fit(panel_of(twins, episode="episode"), errors="robust", strict=False)
    assert twice.params[PHI] == pytest.approx(once.params[PHI], rel=2e-4)
    factor = 1.0 if isinstance(spec, ad.WithinBetween) else np.sqrt(60 / 59)
    assert twice.se[PHI] == pytest.approx(factor * once.se[PHI], rel=1e-3)
    assert apart.se[PHI] == pytest.approx(once.se[PHI] / np.sqrt(2.0), rel=0.02)


def test_observed_errors_are_to_be_had_and_said() -> None:
    with pytest.warns(InferenceWarning, match="errors='observed' takes as independent"):
        fit = FAMILIES[0].fit(read(), errors="observed")
    assert fit.diagnostics["errors"] == "observed"


def test_without_returning_persons_nothing_changes(twins: pd.DataFrame) -> None:
    fit = FAMILIES[0].fit(panel_of(twins[twins["episode"] == 1], episode="episode"), strict=False)
    assert fit.diagnostics["errors"] == "observed"
    assert not [note for note in fit.diagnostics["notes"] if "episodes" in note]


def test_whole_persons_are_drawn(twins: pd.DataFrame) -> None:
    """Both episodes of a person hold the same scores, so that every resample holds each twice."""
    panel = panel_of(twins, episode="episode")
    fit = FAMILIES[0].fit(panel, errors="observed", strict=False)
    twice = ad.bootstrap(fit, 12, seed=3)
    once = FAMILIES[0].fit(panel_of(twins[twins["episode"] == 1]), strict=False)
    single = ad.bootstrap(once, 12, seed=3)
    assert twice.units == "person" and single.units == "client"
    np.testing.assert_allclose(twice.draws[PHI], single.draws[PHI], atol=1e-4)
    assert "whole persons were drawn" in " ".join(twice.fit.diagnostics["notes"])
    apart = ad.bootstrap(fit, 3, seed=3, cluster="client")
    assert "clients were drawn, not whole persons" in " ".join(apart.fit.diagnostics["notes"])


def test_persons_within_therapists_and_across_them(twins: pd.DataFrame) -> None:
    code = pd.factorize(twins["client"])[0]
    nested = panel_of(twins.assign(therapist=(code // 6).astype(str)), **ROLES)
    across = (code // 6 + (code % 6 == 0) * (twins["episode"] - 1)) % 10
    crossed = panel_of(twins.assign(therapist=across.astype(str)), **ROLES)
    levels = ad.WithinBetween(levels=("therapist", "client"))
    fit = levels.fit(nested, strict=False)  # who shares a therapist is one cluster
    same = levels.fit(nested, errors="cluster:therapist", strict=False)
    assert fit.diagnostics["errors"] == "cluster:person"
    pd.testing.assert_series_equal(fit.se, same.se)
    assert not [note for note in same.diagnostics["notes"] if "episodes" in note]
    plain = levels.fit(crossed, strict=False)  # persons connect all therapists
    assert plain.diagnostics["errors"] == "observed"
    assert "takes as independent" in " ".join(plain.diagnostics["notes"])
    with pytest.raises(SpecificationError, match="connect all therapists"):
        levels.fit(crossed, errors="cluster:person")
    split = FAMILIES[0].fit(crossed, errors="cluster:therapist", strict=False)
    assert "10 of them have episodes in several clusters" in " ".join(split.diagnostics["notes"])


ROLES = {"episode": "episode", "therapist": "therapist"}
