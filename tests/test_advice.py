"""Advice names what is not so already."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import alliancedyn as ad
from alliancedyn.engine.dsem_prior import Term
from alliancedyn.errors import SpecificationError
from alliancedyn.models.instrument_guards import Asked
from alliancedyn.models.options import savings
from alliancedyn.models.sampled_result import contradicted

TRUTH = ad.Dynamics.time_ordered(
    0.4, 0.4, forward=-0.1, backward=-0.1, between_cov=[[1, -0.3], [-0.3, 1]]
)
ASKED = Asked(True, (2, None), 1, True, 2, False)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (ad.RICLPM(lags="free", innovations="free"), ["lags", "innovations", "means"]),
        (ad.RICLPM(means="equal", order=2), ["order"]),
        (ad.RICLPM(means="equal"), []),
        (ad.MLSEM(), ["direction"]),
        (ad.MLSEM(direction="both"), []),
    ],
)
def test_parameters_are_saved_by_options_that_are_not_set(model: object, options: list) -> None:
    said = savings(model)
    assert [one.partition("=")[0] for one in said] == options


def test_few_clients_are_not_told_to_do_what_is_done() -> None:
    panel = ad.simulate(TRUTH, clients=30, sessions=6, seed=1)
    (note,) = _notes(ad.RICLPM().fit(panel, strict=False), "too optimistic")
    assert note.endswith('Use means="equal".')
    few = ad.simulate(TRUTH, clients=18, sessions=6, seed=1)
    (note,) = _notes(ad.RICLPM(means="equal").fit(few, strict=False), "too optimistic")
    assert note.endswith("Use fewer sessions.")


@pytest.mark.parametrize(
    ("asked", "fewer", "later"),
    [
        (
            replace(ASKED, collapse=False),
            ["collapse=True", "instrument_lags=(2, 4)"],
            ["outcome_lags=2", "instrument_lags=(3, None)"],
        ),
        (ASKED, ["instrument_lags=(2, 4)"], ["outcome_lags=2", "instrument_lags=(3, None)"]),
        (
            replace(ASKED, instrument_lags=(3, 4), outcome_lags=4),
            ["instrument_lags=(3, 3)"],
            ["instrument_lags=(4, None)"],
        ),
        (
            replace(ASKED, instrument_lags=(2, 2)),
            ["session_effects=False"],
            ["outcome_lags=2", "instrument_lags=(3, None)"],
        ),
        (
            replace(ASKED, instrument_lags=(2, 2), session_effects=False),
            ["fewer sessions"],
            ["outcome_lags=2", "instrument_lags=(3, None)"],
        ),
    ],
)
def test_instruments_are_made_fewer_by_what_is_left(asked: Asked, fewer: list, later: list) -> None:
    assert asked.fewer == fewer
    assert asked.later == later


def test_collapsed_instruments_are_not_told_to_collapse() -> None:
    panel = ad.simulate(TRUTH, clients=14, sessions=12, seed=3)
    model = ad.DynamicPanelGMM(steps=1)
    (note,) = _notes(model.fit(panel, strict=False), "more instruments")
    assert "collapse" not in note
    assert "instrument_lags=(2, 4)" in note


@pytest.mark.parametrize(
    ("sessions", "absent"),
    [
        ((1, 3), ["Hansen's test of the instruments", "m1 (", "m2 ("]),
        ((1, 4), ["m2 ("]),
        ((1, 6), []),
    ],
)
def test_tests_that_short_series_cannot_give_are_named(sessions: tuple, absent: list) -> None:
    panel = ad.simulate(TRUTH, clients=120, sessions=6, seed=2)
    fit = ad.DynamicPanelGMM(sessions=sessions).fit(panel, strict=False)
    found = _notes(fit, "These data cannot give")
    assert len(found) == bool(absent)
    for test in absent:
        assert test in found[0]
    missing = [name for name in ("hansen", "m1", "m2") if np.isnan(fit.diagnostics[name]["pvalue"])]
    assert len(missing) == len(absent)


def test_terms_without_session_effects_are_not_blamed_on_them() -> None:
    panel = ad.simulate(TRUTH, clients=40, sessions=6, seed=1)
    frame = panel.frame.assign(same=1.0)
    frame = frame.assign(same=frame.groupby("client")["alliance"].transform("first"))
    again = ad.SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables={"alliance": "alliance", "symptoms": "symptoms"},
        timing={"alliance": "after", "symptoms": "before"},
        covariates=("same",),
    )
    for effects in (True, False):
        model = ad.FixedEffects(exogenous=("same",), session_effects=effects, bias_correction=None)
        with pytest.raises(SpecificationError) as refused:
            model.fit(again)
        assert ("session_effects=False" in str(refused.value)) == effects


def test_a_prior_in_the_way_is_named_with_its_remedy() -> None:
    rng = np.random.default_rng(0)
    prior = Term("between_sd[a]", "half-normal", 0.0, 2.0)
    values = 4.7 + 0.5 * rng.standard_normal((4000, 1))
    (note,) = contradicted(values, [prior])
    assert "between_sd[a]" in note
    assert "drawn towards it by 0.6 posterior SDs" in note
    assert "3 times as wide" in note
    assert contradicted(values - 2.0, [prior]) == []  # inside the prior
    sure = 4.7 + 0.01 * rng.standard_normal((4000, 1))  # the data have said it all
    assert contradicted(sure, [prior]) == []


def test_clients_who_differ_far_more_than_they_change() -> None:
    far = ad.Dynamics.time_ordered(
        0.35, 0.45, forward=-0.12, backward=-0.10, between_cov=[[25, -7.5], [-7.5, 25]]
    )
    panel = ad.simulate(far, clients=40, sessions=8, seed=3)
    fit = ad.DSEM().fit(panel, seed=1, strict=False)
    (note,) = _notes(fit, "the prior hardly allows")
    assert "between_sd[alliance]" in note
    wide = ad.DSEM(priors={"sd": ("half-normal", 6)}).fit(panel, seed=1, strict=False)
    assert not _notes(wide, "the prior hardly allows")
    assert (
        wide.params["between_cov[alliance,alliance]"] > fit.params["between_cov[alliance,alliance]"]
    )


def _notes(fit: ad.Fit, fragment: str) -> list[str]:
    return [note for note in fit.diagnostics["notes"] if fragment in note]
