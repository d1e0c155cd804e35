"""Power: against theory, verdicts against the truth's own, and how many clients are enough."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

import alliancedyn as ad
from alliancedyn.errors import SpecificationError
from alliancedyn.studies.power import PowerSurface, power
from alliancedyn.studies.recovery import recover
from alliancedyn.studies.remaining import in_words, told_with_time_left
from alliancedyn.studies.smallest import smallest
from alliancedyn.studies.trial import Found, Verdict
from alliancedyn.studies.verdicts import LEADS, confusion, true_verdicts

Array = NDArray[np.float64]

TRUTH = ad.Dynamics.time_ordered(
    phi_alliance=0.35,
    phi_symptoms=0.45,
    forward=-0.20,
    backward=-0.10,
    between_cov=[[1.0, -0.3], [-0.3, 1.0]],
    mean=(3.0, 10.0),
)
EFFECT = "phi[symptoms,alliance]"
Z = 1.959963984540054
MONTE_CARLO = 3.0  # standard errors of a simulated share that it may be off the computed one
FAST = ad.CLPM(means="equal", initial="stationary")


# Against theory --------------------------------------------------------------------------------


def score_cov(theta: Array, sessions: int) -> Array:
    """Covariance of a client's scores in a RI-CLPM, built session by session from dense blocks."""
    phi = theta[:4].reshape(2, 2)
    psi, first, between = (np.array([[a, b], [b, c]]) for a, b, c in theta[4:].reshape(3, 3))
    within = np.zeros((sessions, 2, sessions, 2))
    here = first
    for s in range(sessions):
        across = here
        for t in range(s, sessions):
            within[t, :, s, :], within[s, :, t, :] = across, across.T
            across = phi @ across
        here = phi @ here @ phi.T + psi
    ones = np.ones((sessions, sessions))
    return within.reshape(2 * sessions, -1) + np.kron(ones, between)


def computed_power(clients: int, sessions: int, stay: dict[int, float]) -> float:
    """Power of the Wald test from the expected information, by numbers of sessions attended.

    Means are orthogonal to covariances where scores are missing at random, so their information
    is left out.
    """

    def upper(S: Any) -> list[float]:
        return [S[0][0], S[0][1], S[1][1]]

    psi, W, between = (
        np.asarray(S) for S in (TRUTH.innovation_cov, TRUTH.within_cov, TRUTH.between_cov)
    )
    theta = np.array([*np.asarray(TRUTH.phi).ravel(), *upper(psi), *upper(W), *upper(between)])
    step = 1e-5 * np.eye(len(theta))
    information = np.zeros((len(theta), len(theta)))
    for attended, share in stay.items():
        inverse = np.linalg.inv(score_cov(theta, attended))
        slopes = [
            inverse @ (score_cov(theta + h, attended) - score_cov(theta - h, attended)) / 2e-5
            for h in step
        ]
        information += (
            clients * share / 2 * np.array([[np.sum(a * b.T) for b in slopes] for a in slopes])
        )
    assert max(stay) == sessions
    away = abs(theta[2]) / np.sqrt(np.linalg.inv(information)[2, 2])
    return float(norm.cdf(away - Z) + norm.cdf(-away - Z))


def random_dropout(sessions: int, rate: float, first: int) -> dict[int, float]:
    """Share of clients by last session where the hazard is the same after each from ``first``."""
    hazard = 1 - (1 - rate) ** (1 / (sessions - first))
    early = {t: hazard * (1 - hazard) ** (t - first) for t in range(first, sessions)}
    return {**early, sessions: 1 - rate}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("clients", "sessions", "rate"), [(80, 6, 0.0), (100, 5, 0.3), (50, 8, 0.4)]
)
def test_power_is_that_of_the_expected_information(
    clients: int, sessions: int, rate: float
) -> None:
    stay = random_dropout(sessions, rate, 3) if rate else {sessions: 1.0}
    expected = computed_power(clients, sessions, stay)
    assert 0.3 < expected < 0.95
    surface = power(
        ad.RICLPM(),
        TRUTH,
        clients=clients,
        sessions=sessions,
        dropout=ad.Dropout("random", rate=rate, first=3) if rate else None,
        replications=200,
        seed=20261122,
    )
    (row,) = surface.table.to_dict("records")
    assert abs(row["power"] - expected) < MONTE_CARLO * np.sqrt(expected * (1 - expected) / 200)


# Surfaces --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def surface() -> PowerSurface:
    return power(
        FAST,
        TRUTH,
        clients=[20, 40],
        sessions=[4, 5],
        dropout=[None, ad.Dropout("random", rate=0.3, first=2)],
        reliability=[1.0, (0.7, 0.9)],
        replications=8,
        jobs=1,
    )


def test_a_surface_has_a_row_for_every_design(surface: PowerSurface) -> None:
    table = surface.table
    assert len(table) == 16
    assert not table.duplicated(["clients", "sessions", "dropout", "reliability"]).any()
    assert set(table["dropout"]) == {"none", "random 30%"}
    assert set(table["reliability"]) == {"1", "0.7, 0.9"}
    assert (table["therapists"] == 0).all()
    assert surface.true == pytest.approx(-0.2)
    assert surface.effect == EFFECT
    assert "16 designs" in repr(surface)
    assert "clients for .80" in str(surface)


def test_each_design_is_a_study_of_its_own(surface: PowerSurface, tmp_path: Path) -> None:
    """The second route: the table of `recover`, with the seed of the design."""
    alone = power(FAST, TRUTH, clients=40, sessions=5, replications=8, jobs=1, checkpoint=tmp_path)
    (row,) = alone.table.to_dict("records")
    same = surface.table.query("clients == 40 and sessions == 5 and dropout == 'none'")
    assert row["power"] == same["power"].iloc[0]
    (file,) = tmp_path.iterdir()
    seed = int(file.stem.split("-")[1], 16)
    study = recover(FAST, TRUTH, 40, 5, replications=8, seed=seed, jobs=1)
    assert study.table().loc[EFFECT, "power"] == pytest.approx(row["power"], abs=1e-12)


def test_a_fit_that_fails_has_found_nothing() -> None:
    few = power(ad.RICLPM(), TRUTH, clients=8, sessions=3, replications=6, jobs=1, seed=1)
    (row,) = few.table.to_dict("records")
    study_hits = row["power"] * row["replications"]
    assert study_hits <= row["replications"] - row["failed"]


def test_fits_at_a_bound_are_counted() -> None:
    few = power(ad.RICLPM(), TRUTH, clients=20, sessions=4, replications=6, jobs=1, seed=1)
    (row,) = few.table.to_dict("records")
    root = np.random.SeedSequence([1, 20, 4, 0, 0, 0]).generate_state(2, np.uint64)
    study = recover(ad.RICLPM(), TRUTH, 20, 4, replications=6, seed=int(root[0]), jobs=1)
    most = max(study.boundaries.values())  # of one parameter: others may be at theirs elsewhere
    assert 0 < most <= row["at_bound"] <= row["replications"] - row["failed"]


def test_progress_runs_over_all_designs() -> None:
    heard: list[tuple[int, int, str]] = []
    power(
        FAST,
        TRUTH,
        clients=[20, 30],
        sessions=4,
        replications=3,
        jobs=1,
        progress=lambda *said: heard.append(said),
    )
    done = [said[0] for said in heard]
    assert (done[0], done[-1]) == (0, 6)
    assert done == sorted(done)
    assert {said[1] for said in heard} == {6}
    assert any("left" in said[2] for said in heard)


def test_the_direction_is_found_where_the_verdict_is_the_truths_own() -> None:
    """One direction only, and a large one: found in nearly all of many clients, in few of few."""
    clear = ad.Dynamics(
        phi=[[0.3, 0.0], [-0.35, 0.3]], innovation_cov=np.eye(2), timing={"alliance": "after"}
    )
    found = power(
        FAST, clear, clients=[15, 250], sessions=5, effect="direction", replications=20, jobs=1
    )
    assert found.true == "forward"
    small, large = found.table["power"]
    assert large >= 0.9
    assert small < 0.7


@pytest.mark.parametrize(
    ("wrong", "fragment"),
    [
        ({"effect": "phi[x,y]"}, r"no parameter 'phi\[x,y\]'"),
        ({"clients": []}, "whole numbers above 0"),
        ({"clients": 2.5}, "clients is 2.5; give a whole number"),
        ({"dropout": []}, "A list of conditions is empty"),
        ({"dropout": ad.Dropout("random", first=9)}, "Nobody can leave"),
        ({"spec": ad.WithinBetween(), "effect": "direction"}, "no verdict on direction"),
        ({"reliability": [1.0, 1.3]}, "reliab"),
        ({"truth": "a world"}, "give a Dynamics"),
        ({"level": 95}, "level is 95; give a number between 0 and 1"),
        ({"smallest_effect": -1}, "smallest_effect"),
        ({"effect": "direction", "basis": "causal"}, "basis is 'causal'; choose"),
    ],
)
def test_impossible_surfaces_are_refused(wrong: dict[str, Any], fragment: str) -> None:
    asked: dict[str, Any] = {"spec": FAST, "truth": TRUTH, "clients": 20, "sessions": 4}
    with pytest.raises(SpecificationError, match=fragment):
        power(**(asked | {"replications": 1, "jobs": 1} | wrong))


def test_a_truth_without_a_lead_has_no_power_to_find_it() -> None:
    """Forward and backward as strong as each other by one reading, not by the other."""
    torn = ad.Dynamics.time_ordered(0.3, 0.3, forward=0.0, backward=-0.3)
    own = true_verdicts(torn, 0.05)
    assert own["both"].lead == "depends" or own["both"].lead == own["reduced"].lead
    mixed = ad.Dynamics.time_ordered(0.05, 0.4, forward=0.0, backward=-0.1)
    assert true_verdicts(mixed, 0.05)["both"].lead == "depends"
    with pytest.raises(SpecificationError, match="no lead that could be found"):
        power(FAST, mixed, clients=30, sessions=4, effect="direction", replications=1, jobs=1)


def test_a_world_brings_along_how_it_is_seen() -> None:
    seen = types.SimpleNamespace(
        truth=TRUTH, observation={"missing": 0.2, "dropout": ad.Dropout("unwell", first=2)}
    )
    found = recover(FAST, seen, clients=20, sessions=4, replications=2, jobs=1)
    given = recover(
        FAST,
        TRUTH,
        20,
        4,
        replications=2,
        jobs=1,
        missing=0.2,
        dropout=ad.Dropout("unwell", first=2),
    )
    pd.testing.assert_frame_equal(found.estimates, given.estimates, check_exact=True)
    other = recover(FAST, seen, clients=20, sessions=4, replications=2, jobs=1, missing=0.0)
    assert not other.estimates.equals(found.estimates)
    assert other.observation["missing"] == 0.0
    asked: dict[str, Any] = {"clients": 20, "sessions": 4, "replications": 1, "jobs": 1}
    assert list(power(FAST, seen, **asked).table["dropout"]) == ["unwell 30%"]
    without = power(FAST, seen, **asked, dropout=[None, ad.Dropout(first=2)])
    assert list(without.table["dropout"]) == ["none", "random 30%"]


# How many are enough ---------------------------------------------------------------------------


def test_the_smallest_number_is_found_and_covered_as_often_as_said() -> None:
    rng = np.random.default_rng(4)
    clients, tried = np.array([50.0, 100.0, 300.0]), np.full(3, 400.0)
    wanted = ((Z + norm.ppf(0.8)) / 0.2) ** 2
    chances = norm.cdf(0.2 * np.sqrt(clients) - Z)
    found = [
        smallest(clients, rng.binomial(400, chances) * 1.0, tried, 0.8, 0.95) for _ in range(60)
    ]
    numbers = np.array([one.clients for one in found])
    assert abs(numbers.mean() - wanted) < 4 * numbers.std() / np.sqrt(60) + 1
    covered = np.mean([one.lower <= wanted <= one.upper for one in found])
    assert covered >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 60)
    assert not any(one.note for one in found if one.note and "not fit" not in one.note)


@pytest.mark.parametrize(
    ("hits", "fragment", "known"),
    [
        ([400, 400, 400], "simulate fewer", "upper"),
        ([0, 0, 0], "never found", "lower"),
        ([20, 22, 19], "stays below", "lower"),
    ],
)
def test_what_is_not_determined_is_said(hits: list[int], fragment: str, known: str) -> None:
    found = smallest(
        np.array([50.0, 100, 200]), np.array(hits, float), np.full(3, 400.0), 0.8, 0.95
    )
    assert np.isnan(found.clients)
    assert fragment in found.note
    assert np.isfinite(getattr(found, known))


def test_a_number_beyond_those_simulated_says_so() -> None:
    found = smallest(
        np.array([40.0, 80, 120]), np.array([60.0, 150, 220]), np.full(3, 400.0), 0.8, 0.95
    )
    assert found.clients > 120
    assert found.note.startswith("Outside the numbers simulated")


def test_powers_off_the_curve_say_so() -> None:
    found = smallest(
        np.array([50.0, 100, 200]), np.array([40.0, 350, 360]), np.full(3, 400.0), 0.8, 0.95
    )
    assert "does not fit" in found.note


def test_smallest_and_curves_of_a_surface(surface: PowerSurface) -> None:
    table = surface.smallest(0.5)
    assert list(table.columns) == ["clients", "lower", "upper", "note"]
    assert len(table) == 8
    assert table.index.names == ["sessions", "dropout", "reliability", "therapists"]
    curves = surface.curves()
    simulated = curves.dropna(subset="simulated")
    assert sorted(simulated["simulated"]) == sorted(surface.table["power"])
    for _, rows in curves.groupby(table.index.names):
        assert (rows["power"].dropna().diff().dropna() >= -1e-9).all(), "power falls with clients"
    with pytest.raises(SpecificationError, match="power is 80; give a number between 0 and 1"):
        surface.smallest(80)


# Verdicts --------------------------------------------------------------------------------------


def test_the_truths_own_verdicts() -> None:
    """By hand: within-SD paths of a world without cross-lagged correlation of innovations."""
    null = ad.Dynamics(phi=np.diag([0.3, 0.3]), innovation_cov=np.eye(2), timing={})
    assert true_verdicts(null, 0.05)["both"] == Verdict(
        "neither", "practically zero", "practically zero"
    )
    back = ad.Dynamics(phi=[[0.3, 0.3], [0.0, 0.3]], innovation_cov=np.eye(2), timing={})
    assert true_verdicts(back, 0.05)["reduced"] == Verdict(
        "backward", "practically zero", "supported"
    )
    equal = ad.Dynamics(phi=[[0.3, 0.2], [0.2, 0.3]], innovation_cov=np.eye(2), timing={})
    assert true_verdicts(equal, 0.05)["reduced"].lead == "both"


def said(lead: str) -> Found:
    nothing = np.empty(0)
    verdict = {"reduced": Verdict(lead, "undetermined", "undetermined")}
    return Found((), nothing, nothing, nothing, nothing, (), verdict)


def test_a_confusion_matrix_counts_what_was_said() -> None:
    truth = ad.Dynamics(phi=[[0.3, 0.0], [-0.3, 0.3]], innovation_cov=np.eye(2), timing={})
    leads = ["forward"] * 6 + ["undetermined"] * 2 + ["both", "backward"]
    row = confusion([said(lead) for lead in leads], truth, 0.05).loc["reduced"]
    assert row["truth"] == "forward"
    assert row[list(LEADS)].sum() == pytest.approx(1.0)
    assert (row["right"], row["wrong"], row["n"]) == (0.6, 0.2, 10)
    assert row["mcse_right"] == pytest.approx(np.sqrt(0.6 * 0.4 / 10))


def test_a_study_counts_the_verdicts_of_its_fits() -> None:
    study = recover(FAST, TRUTH, 60, 4, replications=10, jobs=1, seed=3)
    table = study.directions()
    assert list(table.index) == ["both", "reduced", "structural"]
    first = TRUTH, 60, 4
    leads = []
    for child in np.random.SeedSequence(3).spawn(10):
        fit = FAST.fit(ad.simulate(*first, seed=child), seed=0, strict=False)
        leads.append(ad.compare_directions(fit).lead)
    assert {lead: leads.count(lead) / 10 for lead in LEADS} == table.loc[
        "both", list(LEADS)
    ].to_dict()


def test_a_regression_is_compared_by_its_lags_alone() -> None:
    study = recover(
        ad.WithinBetween(direction="both"), TRUTH, 40, 5, replications=3, jobs=1, seed=1
    )
    known = study.target.dropna()
    assert sorted(known.index) == sorted(TRUTH.params().filter(like="phi[").index)
    table = study.table()
    assert table.loc["within_var[alliance]", ["true", "bias", "coverage", "power"]].isna().all()
    assert np.isfinite(table.loc["within_var[alliance]", "mean"])
    assert list(study.directions().index) == ["both", "reduced"]


def test_one_direction_has_no_verdict() -> None:
    study = recover(ad.WithinBetween(), TRUTH, 40, 5, replications=2, jobs=1)
    with pytest.raises(SpecificationError, match='direction="both"'):
        study.directions()


@pytest.mark.parametrize("spec", [ad.ALT(), ad.MLSEM(direction="both")])
def test_stable_parts_that_push_are_no_random_intercepts(spec: ad.ALT | ad.MLSEM) -> None:
    study = recover(spec, TRUTH, 80, 5, replications=1, jobs=1)
    assert study.target.filter(like="between_cov").isna().all()
    assert study.target.filter(like="phi[").notna().all()


def test_the_summary_goes_through_a_study_in_order() -> None:
    study = recover(FAST, TRUTH, 30, 4, replications=4, jobs=1, missing=0.1)
    text = str(study)
    places = [
        text.index(f"{word}.") for word in ("Aims", "Data", "Estimands", "Methods", "Performance")
    ]
    assert places == sorted(places)
    for said in (
        "4 panels of 30 clients x 4 sessions, seed 7",
        "missing=0.1",
        "4 of 4 fits",
        EFFECT,
    ):
        assert said in text


# Progress --------------------------------------------------------------------------------------


def test_the_time_left_is_that_of_the_pace_so_far() -> None:
    now = iter([100.0, 110.0, 300.0, 400.0])
    heard: list[str] = []
    told = told_with_time_left(lambda done, total, doing: heard.append(doing), lambda: next(now))
    assert told is not None
    for done in (50, 60, 80, 100):  # 50 were known already
        told(done, 100, "N")
    assert heard == ["N", "N, 40 s left", "N, 2 min left", "N"]
    assert told_with_time_left(None) is None


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (59, "59 s"), (150, "2 min"), (7200, "2.0 h")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


@pytest.mark.parametrize(
    ("effect", "value"),
    [
        ("between[symptoms.trend,x]", -0.3),
        ("between[alliance.trend,x]", 0.0),
        ("between[symptoms,x]", 0.5),
        ("between_cov[symptoms.trend,symptoms.trend]", 0.02),
    ],
)
def test_what_the_world_states_is_what_is_looked_for(effect: str, value: float) -> None:
    """The true value of any parameter that the world has, by the model's name for it."""
    world = ad.Dynamics(
        phi=[[0.3, -0.1], [-0.1, 0.4]],
        innovation_cov=[[1.0, -0.2], [-0.2, 1.0]],
        between_cov=[[1.0, -0.3], [-0.3, 1.0]],
        mean=(3.5, 16.0),
        trend=ad.GrowthCurve(slope=(0.1, -0.5), slope_cov=[[0.01, 0.0], [0.0, 0.02]]),
        covariates=[
            ad.Covariate("x", "binary", 0.5, on_level=(0.0, 0.5), on_trend=(0.0, -0.3)),
        ],
    )
    surface = ad.power(
        ad.LCMSR(covariates=("x",)), world, 80, 5, effect=effect, replications=2, jobs=1
    )
    assert surface.true == pytest.approx(value)
    assert f"in truth {value:g}" in str(surface) and "nan" not in str(surface).split("\n")[0]
