"""What ratings and covariates know: lags, sessions without variance, maxima, bad solutions."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rating_patterns import PHI, below_unsaid, drawn, panel_of, quiet, random_panel, rated

import alliancedyn as ad
from alliancedyn.engine import gaps
from alliancedyn.engine.starting import moments
from alliancedyn.errors import SpecificationError
from alliancedyn.studies import FAMILIES as FAMILIES_BY_KEY
from alliancedyn.studies import analyze, well_seen
from alliancedyn.studies.window import SPARING

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

EVERY_SECOND_ALLIANCE = rated((2, 1), lambda i, j: i, 120, 12)
FAMILIES = [
    ad.CLPM(), ad.RICLPM(), ad.LCMSR(), ad.ALT(), ad.STARTS(), ad.GCLM(), ad.LatentChange(),
    ad.MLSEM(), ad.MLSEM(direction="both"),
]  # fmt: skip


# -- what a pattern knows ------------------------------------------------------------------------


def test_pairs_are_counted_by_lag_outcome_and_predictor() -> None:
    rng = np.random.default_rng(1)
    seen = rng.random((7, 5, 2)) < 0.6
    counted = gaps.pairs_at_lags(seen)
    by_hand = sum(int(seen[n, t, 1] and seen[n, t - 2, 0]) for n in range(7) for t in range(2, 5))
    assert counted[2, 1, 0] == by_hand
    assert counted.shape == (5, 2, 2)


def test_only_structure_makes_a_pattern_patchy() -> None:
    rng = np.random.default_rng(2)
    assert not gaps.patchy(rng.random((200, 10, 2)) < 0.4)  # gaps by chance
    assert not gaps.patchy(np.arange(10)[:, None] < rng.integers(2, 10, (200, 1, 1)))  # dropout
    assert gaps.patchy(EVERY_SECOND_ALLIANCE)


@pytest.mark.parametrize("gap", [1, 2, 3])
def test_the_common_gap_is_that_of_every_client(gap: int) -> None:
    assert gaps.common_gap(rated((gap, gap), lambda i, j: i, 9, 12)) == gap


def test_signs_can_be_turned_where_every_client_sees_one_of_them() -> None:
    assert gaps.turned(EVERY_SECOND_ALLIANCE) is None
    assert gaps.turned(rated((2, 2), lambda i, j: i, 9, 8)) == (True, (1, 1))
    assert gaps.turned(rated((2, 2), lambda i, j: i + j, 9, 8)) == (True, (1, -1))
    apart = rated((1, 1), lambda i, j: 0, 8, 6)
    apart[::2, :, 0] = apart[1::2, :, 1] = False
    assert gaps.turned(apart) == (False, (1, -1))


def test_turned_signs_leave_the_likelihood_as_it_is() -> None:
    seen = rated((2, 2), lambda i, j: i + j, 40, 8)
    few = seen.copy()
    few[:5] = True  # so that the model is not refused; their scores are then taken away again
    panel = panel_of(drawn(40, 8, 3), few)
    spec = ad.RICLPM(means="equal")
    data = spec._select(panel).data
    likelihood = spec.likelihood(replace(data, Y=np.where(seen, data.Y, np.nan)))
    at = likelihood.layout.matrices(likelihood.start)
    D = np.diag([1.0, -1.0])
    other = {
        **at,
        "phi": -D @ at["phi"] @ D,
        "innovation_cov": D @ at["innovation_cov"] @ D,
        "initial_cov": D @ at["initial_cov"] @ D,
    }
    assert likelihood.loglik(other) == pytest.approx(likelihood.loglik(at), rel=1e-12)


def test_other_roots_have_the_same_square() -> None:
    roots = [other["phi"][0] for other in gaps.other_roots({"phi": PHI[None]})]
    squares = [root @ root for root in roots[:3]]
    np.testing.assert_allclose(squares, np.broadcast_to(PHI @ PHI, (3, 2, 2)), atol=1e-12)
    assert len({tuple(np.round(root.ravel(), 6)) for root in roots}) == 4
    np.testing.assert_allclose(roots[3], [[-0.6, -0.1], [-0.2, -0.5]])


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", FAMILIES, ids=lambda spec: f"{spec.name}-{spec!r}"[:30])
def test_effects_over_one_session_are_refused_where_all_gaps_are_even(spec: Any) -> None:
    panel = panel_of(drawn(60, 12, 4), rated((2, 2), lambda i, j: i, 60, 12))
    with pytest.raises(SpecificationError, match=r"multiples of 2 sessions.*session // 2"):
        spec.fit(panel)


@pytest.mark.parametrize("every", [(2, 2), (4, 4)])
def test_series_rated_in_turn_are_refused(every: tuple[int, int]) -> None:
    panel = panel_of(drawn(60, 12, 5), rated(every, lambda i, j: i + j, 60, 12))
    with pytest.raises(SpecificationError, match="signs of all autoregressions reversed"):
        ad.RICLPM(means="equal").fit(panel)


def test_series_that_no_client_has_together_are_refused() -> None:
    seen = rated((1, 1), lambda i, j: 0, 60, 6)
    seen[::2, :, 0] = seen[1::2, :, 1] = False
    for spec in (ad.RICLPM(), ad.ContinuousTime(time="session")):
        with pytest.raises(SpecificationError, match="No client has scores of both 'alliance'"):
            spec.fit(panel_of(drawn(60, 6, 6), seen))


def test_continuous_time_gives_the_smoothest_course_and_says_so() -> None:
    panel = panel_of(drawn(150, 12, 7), rated((2, 2), lambda i, j: i, 150, 12))
    fit = quiet(ad.ContinuousTime(time="session"), panel)
    assert fit.converged
    assert any("multiples of 2 sessions" in note for note in fit.diagnostics["notes"])
    assert fit.params["phi[alliance,alliance]"] == pytest.approx(0.6, abs=0.15)


def test_an_input_at_every_session_tells_roots_apart() -> None:
    seen = rated((2, 2), lambda i, j: i, 60, 12)
    panel = panel_of(drawn(60, 12, 8), seen)
    frame = panel.frame.assign(
        homework=np.tile([0.0, 1.0, 1.0], len(panel.frame))[: len(panel.frame)]
    )
    known = ad.SessionPanel.from_frame(
        frame, client="client", session="session", covariates=["homework"],
        variables={"alliance": "alliance", "symptoms": "symptoms"},
    )  # fmt: skip
    quiet(ad.RICLPM(means="equal", time_varying=("homework",)), known)  # not refused


# -- starting values and search ------------------------------------------------------------------


def test_starting_lags_come_from_the_lags_that_were_seen() -> None:
    rough = moments(np.where(EVERY_SECOND_ALLIANCE, drawn(120, 12, 9), np.nan), traits=True)
    assert rough.phi[0, 0] > 0.2
    assert rough.phi[1, 1] > 0.2


@pytest.mark.parametrize(
    "spec", [ad.RICLPM(), ad.MLSEM(direction="both")], ids=lambda spec: spec.name
)
@pytest.mark.parametrize("every", [(2, 1), (3, 2)])
def test_no_structured_panel_ends_below_the_best_of_many_starts(
    spec: Any, every: tuple[int, int]
) -> None:
    offsets = np.random.default_rng(every).integers(6, size=(150, 2))
    seen = rated(every, lambda i, j: int(offsets[i, j]), 150, 12)
    panel = panel_of(drawn(150, 12, every[1]), seen)
    one, many = quiet(spec, panel), quiet(replace(spec, starts=20), panel)
    assert one.loglik > many.loglik - 0.01


@pytest.mark.parametrize("seed", [0, 1])  # simulations/structured_gaps.py runs many more
def test_no_random_pattern_ends_below_the_best_of_many_starts_unsaid(seed: int) -> None:
    panel = random_panel(seed)
    for spec in (ad.CLPM(means="equal"), ad.RICLPM(means="equal")):
        assert (below_unsaid(spec, panel) or 0.0) < 0.01, spec.name


def test_every_second_alliance_finds_the_world() -> None:
    fit = quiet(ad.RICLPM(means="equal"), panel_of(drawn(150, 12, 1), EVERY_SECOND_ALLIANCE_150))
    assert fit.converged
    estimates = fit.params[[f"phi[{a},{b}]" for a in fit.variables for b in fit.variables]]
    np.testing.assert_allclose(estimates, PHI.ravel(), atol=0.15)


EVERY_SECOND_ALLIANCE_150 = rated((2, 1), lambda i, j: i, 150, 12)


def test_maxima_that_the_data_do_not_tell_apart_are_no_answer() -> None:
    seen = rated((2, 2), lambda i, j: i, 80, 12)
    seen[0] = True  # one client tells the sign of phi, and does not tell it well
    fit = quiet(ad.RICLPM(means="equal"), panel_of(drawn(80, 12, 11), seen))
    assert not fit.converged
    assert "do not tell two sets of lagged effects apart" in fit.diagnostics["failure"]


# -- sessions without variance, series at some sessions only -------------------------------------


@pytest.mark.parametrize("spec", [*FAMILIES, ad.ContinuousTime(time="session")], ids=repr)
def test_a_session_without_variance_is_named_with_its_remedy(spec: Any) -> None:
    Y = drawn(80, 6, 12)
    Y[:, 0, 1] = 12.0
    with pytest.raises(SpecificationError, match=r"no variance at session 1.*sessions=\(2, 6\)"):
        spec.fit(panel_of(Y, np.ones(Y.shape, bool)))


def test_a_session_at_which_one_score_repeats_the_other_is_named() -> None:
    Y = drawn(80, 7, 13)
    Y[:, 6, 1] = 20.0 - 2.0 * Y[:, 6, 0]
    with pytest.raises(SpecificationError, match=r"session 7 'symptoms' repeats.*\(1, 6\)"):
        ad.RICLPM().fit(panel_of(Y, np.ones(Y.shape, bool)))


@pytest.mark.parametrize(
    "spec", [ad.CLPM(), ad.ALT(), ad.ContinuousTime(time="session"), ad.MLSEM()], ids=repr
)
def test_a_series_that_never_changes_within_a_client_is_named(spec: Any) -> None:
    Y = drawn(80, 6, 23)
    Y[:, :, 1] = Y[:, :1, 1]
    with pytest.raises(SpecificationError, match="'symptoms' never changes within a client"):
        spec.fit(panel_of(Y, np.ones(Y.shape, bool)))


def test_a_series_with_one_score_per_client_is_named() -> None:
    seen = np.ones((80, 6, 2), bool)
    seen[:, :, 1] = np.arange(6) == (np.arange(80) % 6)[:, None]
    for spec in (ad.RICLPM(means="equal"), ad.WithinBetween()):
        with pytest.raises(SpecificationError, match="No client has two scores of 'symptoms'"):
            spec.fit(panel_of(drawn(80, 6, 24), seen))


def test_a_few_clients_with_one_coarse_score_are_no_reason_to_refuse() -> None:
    Y, seen = drawn(80, 6, 14), np.ones((80, 6, 2), bool)
    seen[6:, 5] = False
    Y[:6, 5, 1] = 5.0
    assert quiet(ad.RICLPM(), panel_of(Y, seen)).loglik is not None


def test_who_is_rated_when_is_said_where_means_need_every_session() -> None:
    seen = rated((1, 3), lambda i, j: 0, 80, 11)
    with pytest.raises(SpecificationError, match=r"'symptoms' at sessions 1, 4, 7 and 10 alone"):
        ad.RICLPM().fit(panel_of(drawn(80, 11, 15), seen))


def test_an_analysis_adds_models_where_no_run_of_sessions_has_means() -> None:
    panel = panel_of(drawn(120, 12, 16), rated((3, 1), lambda i, j: 0, 120, 12))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = analyze(panel, families=["clpm"])
    assert set(found.fits) == {FAMILIES_BY_KEY[key].label for key in SPARING}
    assert any("'alliance' is scored by 5 or more clients" in note for note in found.notes)


def test_an_analysis_leaves_out_a_session_without_variance() -> None:
    Y = drawn(80, 6, 17)
    Y[:, 0, 1] = 12.0
    window, (note,) = well_seen(panel_of(Y, np.ones(Y.shape, bool)))
    assert window == (2, 6)
    assert "At session 1 all clients have the same score" in note


# -- estimates that no population has, or none that settles --------------------------------------


def test_an_explosive_estimate_is_noted_by_every_family() -> None:
    rng = np.random.default_rng(18)
    path = [rng.normal(size=(120, 2))]
    for _ in range(5):
        path.append(path[-1] @ np.diag([1.15, 1.1]) + rng.normal(size=(120, 2)))
    panel = panel_of(np.stack(path, axis=1), np.ones((120, 6, 2), bool))
    for spec in (ad.CLPM(), ad.RICLPM(), ad.ALT(), ad.GCLM(), ad.MLSEM(direction="both")):
        fit = quiet(spec, panel)
        size = np.abs(np.linalg.eigvals(fit.lagged.motion(dict(fit.params))[0])).max()
        told = [note for note in fit.diagnostics["notes"] if "explosive" in note]
        assert len(told) == (size >= 1.0), spec.name
    assert "explosive" in " ".join(quiet(ad.CLPM(), panel).diagnostics["notes"])


def test_a_process_that_settles_is_not_called_explosive() -> None:
    fit = quiet(ad.RICLPM(), panel_of(drawn(120, 6, 19), np.ones((120, 6, 2), bool)))
    assert not any("explosive" in note for note in fit.diagnostics["notes"])


def test_an_alt_without_a_population_says_so() -> None:
    notes = []
    for seed in (0, 2):  # the first has a negative eigenvalue, the second none
        panel = panel_of(drawn(60, 5, seed), np.ones((60, 5, 2), bool))
        fit = quiet(ad.ALT(), panel)
        notes.append(any("negative eigenvalue" in note for note in fit.diagnostics["notes"]))
    assert notes == [True, False]


# -- covariates that say the same ----------------------------------------------------------------


def with_columns(columns: dict[str, Array]) -> ad.SessionPanel:
    frame = panel_of(drawn(80, 6, 20), np.ones((80, 6, 2), bool)).frame
    place = frame["client"].str[1:].astype(int).to_numpy()
    frame = frame.assign(**{name: values[place] for name, values in columns.items()})
    return ad.SessionPanel.from_frame(
        frame, client="client", session="session", covariates=list(columns),
        variables={"alliance": "alliance", "symptoms": "symptoms"},
    )  # fmt: skip


@pytest.mark.parametrize(
    "spec",
    [
        ad.RICLPM(covariates=("age", "severity", "sum")),
        ad.ALT(covariates=("age", "severity", "sum")),
        ad.ContinuousTime(time="session", covariates=("age", "severity", "sum")),
        ad.RICLPM(moderators=("age", "severity", "sum")),
        ad.MLSEM(covariates=("age", "severity", "sum")),
        ad.DSEM(predictors=("age", "severity", "sum")),
    ],
    ids=lambda spec: spec.name,
)
def test_collinear_covariates_are_named(spec: Any) -> None:
    rng = np.random.default_rng(21)
    age, severity = rng.normal(40.0, 10.0, 80), rng.normal(20.0, 5.0, 80)
    panel = with_columns({"age": age, "severity": severity, "sum": age + 2.0 * severity})
    with pytest.raises(SpecificationError, match="'sum' is nothing but 'age', 'severity'"):
        spec.fit(panel)


def test_a_covariate_that_the_groups_say_already_is_named() -> None:
    half = np.repeat([0.0, 1.0], 40)
    panel = with_columns({"treated": half, "untreated": 1.0 - half})
    with pytest.raises(SpecificationError, match="'treated' is the same for all clients where"):
        ad.RICLPM(covariates=("treated",), group="untreated").fit(panel)


def test_a_covariate_may_also_moderate() -> None:
    panel = with_columns({"age": np.random.default_rng(22).normal(0.0, 1.0, 80)})
    assert quiet(ad.RICLPM(covariates=("age",), moderators=("age",)), panel).converged
