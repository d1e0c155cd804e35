"""Columns that hold one value per client, and columns that change over their sessions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import alliancedyn as ad
from alliancedyn.errors import DataError, InferenceWarning, SpecificationError
from alliancedyn.models.dsem_task import task_of
from alliancedyn.models.selection import select

TECHNIQUE = ad.Dynamics(
    mean=(4.0, 12.0),
    phi=((0.3, 0.0), (-0.2, 0.3)),
    between_cov=((1.0, -0.4), (-0.4, 4.0)),
    innovation_cov=((0.8, 0.0), (0.0, 1.5)),
    covariates=[
        ad.Covariate(
            "technique",
            kind="binary",
            level="session",
            on_phi=(("symptoms", "alliance", -0.30),),
            on_level=(0.0, 0.5),
        )
    ],
)
MODERATION = "moderation[symptoms,alliance,technique]"


@pytest.fixture(scope="module")
def techniques() -> ad.SessionPanel:
    return ad.simulate(TECHNIQUE, clients=200, sessions=20, missing=0.05, seed=5)


def panel_of(frame: pd.DataFrame, **roles: Any) -> ad.SessionPanel:
    return ad.SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables=["alliance", "symptoms"],
        timing={"alliance": "after", "symptoms": "before"},
        **roles,
    )


@pytest.mark.parametrize(
    "spec",
    [
        ad.RICLPM(moderators=("technique",)),
        ad.RICLPM(covariates=("technique",)),
        ad.CLPM(group="technique"),
        ad.ContinuousTime(time="session", covariates=("technique",)),
        ad.DSEM(predictors=("technique",)),
        ad.MLSEM(direction="both", covariates=("technique",), sessions=(1, 5)),
        ad.WithinBetween(covariates=("technique",)),
    ],
)
def test_a_column_that_changes_is_no_property_of_clients(
    spec: Any, techniques: ad.SessionPanel
) -> None:
    with pytest.raises(DataError, match=r"'technique' changes over sessions for .* and 19\d more"):
        spec.fit(techniques)
    with pytest.raises(DataError, match="changes over sessions"):
        ad.WithinBetween().fit(techniques, errors="cluster:technique")


def test_few_clients_whose_covariate_changes_are_named() -> None:
    frame = ad.simulate(TECHNIQUE, clients=40, sessions=5, seed=1).frame
    frame["age"] = pd.factorize(frame["client"])[0] + 20.0
    at = frame.index[frame["client"] == frame["client"].iloc[-1]][-1]
    frame.loc[at, "age"] += 1.0
    panel = panel_of(frame, covariates=["age"])
    with pytest.raises(DataError, match=rf"for '{frame['client'].iloc[-1]}' \(1 of 40 clients\).*"
                                        "If that is an error, correct these clients"):  # fmt: skip
        ad.RICLPM(covariates=("age",)).fit(panel)
    frame.loc[at, "age"] = np.nan  # one value is known, and the rest is not another one
    assert panel_of(frame, covariates=["age"]).client_values("age")[-1] == 59.0


def test_a_moderation_by_what_changes_comes_back(techniques: ad.SessionPanel) -> None:
    with pytest.warns(InferenceWarning, match="'symptoms' was rated before that session"):
        fit = ad.WithinBetween(moderators=("technique",)).fit(techniques)
    found = fit.table().loc[MODERATION]
    assert abs(found["estimate"] + 0.30) < 2.5 * found["se"] and found["se"] < 0.06
    own = fit.table().loc["input[symptoms,technique]"]
    assert abs(own["estimate"] - 0.5) < 2.5 * own["se"]
    assert abs(fit.params["phi[symptoms,alliance]"] + 0.2) < 0.06  # that of the average session


def test_the_moderation_is_least_squares_on_deviations() -> None:
    """One client, so that the mixed model is least squares; lags and moderator laid out by hand."""
    frame = ad.simulate(TECHNIQUE, clients=8, sessions=12, missing=0.1, seed=3).frame
    frame["technique"] = np.random.default_rng(1).normal(size=len(frame))  # differs between clients
    whole = frame.set_index(["client", "session"]).unstack("session")
    x, y, z = (whole[name] for name in ("alliance", "symptoms", "technique"))
    for at, moved in (("outcome", z), ("predictor", z.shift(1, axis=1))):
        zw = moved.sub(z.mean(axis=1), axis=0)
        xw = x.shift(1, axis=1).sub(x.mean(axis=1), axis=0)
        yw = y.shift(1, axis=1).sub(y.mean(axis=1), axis=0)
        parts = {"phi[symptoms,alliance]": xw, "phi[symptoms,symptoms]": yw, MODERATION: xw * zw}
        parts["input[symptoms,technique]"] = zw
        used = y.notna() & np.logical_and.reduce([p.notna() for p in parts.values()])
        dummies = np.repeat(np.eye(len(y)), used.sum(axis=1), axis=0)
        flat = [p.to_numpy()[used.to_numpy()] for p in parts.values()]
        X = np.column_stack([*flat, dummies])
        by_hand = np.linalg.lstsq(X, y.to_numpy()[used.to_numpy()], rcond=None)[0]
        model = ad.WithinBetween(moderators=("technique",), moderator_session=at, trend=None)
        fit = model.fit(panel_of(frame, covariates=["technique"]), strict=False)
        assert fit.sample.rows == used.to_numpy().sum()
        # random intercepts beside the means of all predictors come close to fixed ones
        np.testing.assert_allclose(fit.params[list(parts)], by_hand[: len(parts)], atol=0.02)


def test_a_variable_of_the_panel_moderates_too(techniques: ad.SessionPanel) -> None:
    frame = techniques.frame
    as_covariate = ad.WithinBetween(moderators=("technique",)).fit(techniques, strict=False)
    three = ad.SessionPanel.from_frame(
        frame, client="client", session="session", variables=["alliance", "symptoms", "technique"]
    )
    as_variable = ad.WithinBetween(moderators=("technique",)).fit(three, strict=False)
    pd.testing.assert_series_equal(as_variable.params, as_covariate.params)
    with pytest.raises(SpecificationError, match="cannot be a series of the equation and its mod"):
        ad.WithinBetween(moderators=("symptoms",)).fit(three)


def test_sessions_without_the_moderator_are_counted(techniques: ad.SessionPanel) -> None:
    frame = techniques.frame
    frame.loc[frame["session"] == 4, "technique"] = np.nan
    fit = ad.WithinBetween(moderators=("technique",)).fit(
        panel_of(frame, covariates=["technique"]), strict=False
    )
    assert fit.sample.rows_set_aside["no technique at that session"] > 100


@pytest.mark.parametrize("digits", [None, 4, 2, 1])
def test_a_predictor_centered_before_has_no_effect_between(digits: int | None) -> None:
    frame = ad.simulate(TECHNIQUE, clients=60, sessions=8, missing=0.1, seed=2).frame
    frame["alliance"] -= frame.groupby("client")["alliance"].transform("mean")
    if digits is not None:
        frame["alliance"] = frame["alliance"].round(digits)
    panel = panel_of(frame)
    with pytest.warns(InferenceWarning, match=r"between\[symptoms,alliance\] is left out: "):
        fit = ad.WithinBetween().fit(panel)
    assert not [name for name in fit.params.index if name.startswith("between")]
    for by in ({"between": "therapist", "levels": ("therapist", "client")}, {"direction": "both"}):
        frame["therapist"] = (pd.factorize(frame["client"])[0] // 6).astype(str)
        more = ad.WithinBetween(**by).fit(panel_of(frame, therapist="therapist"), strict=False)
        assert max(abs(more.params[more.params.index.str.startswith("between")]), default=0.0) < 1
    with pytest.raises(SpecificationError, match="clients do not differ in 'alliance'"):
        ad.WithinBetween(moderators=("between",)).fit(panel)


def test_phi_is_that_without_the_term(techniques: ad.SessionPanel) -> None:
    frame = techniques.frame
    frame["alliance"] -= frame.groupby("client")["alliance"].transform("mean")
    fit = ad.WithinBetween().fit(panel_of(frame), strict=False)
    raw = ad.WithinBetween().fit(techniques, strict=False)
    phi = "phi[symptoms,alliance]"
    assert fit.params[phi] == pytest.approx(raw.params[phi], abs=0.003)
    assert fit.se[phi] == pytest.approx(raw.se[phi], rel=0.02)


def test_moderators_of_a_dsem_are_deviations_from_the_clients_means(
    techniques: ad.SessionPanel,
) -> None:
    for at, back in (("outcome", 0), ("predictor", 1)):
        spec = ad.DSEM(moderators=("technique",), moderator_session=at)
        data = select(techniques, spec.needs()).data
        task = task_of(spec, data)
        frame = techniques.frame
        own = frame["technique"] - frame.groupby("client")["technique"].transform("mean")
        wide = frame.assign(own=own).pivot(index="client", columns="session", values="own")
        wide = wide.loc[list(data.clients)].shift(back, axis=1).fillna(0.0).to_numpy()
        (spread,) = task.units.moderator
        np.testing.assert_allclose(task.data.moderators[:, :, 0] * spread, wide, atol=1e-12)
        assert task.data.moderators.std() == pytest.approx(1.0)
        shift, factor = task.units.of_parameters(task.shape)
        place = list(task.shape.parameter_names()).index(MODERATION)
        a, s = task.units.unit
        assert (shift[place], factor[place]) == (0.0, pytest.approx(s / a / spread))
        assert spec.engine == "nutpie"


def test_what_a_moderated_dsem_cannot_be_is_refused(techniques: ad.SessionPanel) -> None:
    for options, says in (
        ({"sampler": "gibbs"}, "no slopes of clients over sessions or moderators"),
        ({"sampler": "laplace"}, "quick look"),
        ({"lagged": ("symptoms<-alliance",)}, "does not go with lagged="),
        ({"moderator_session": "later"}, "choose 'outcome' or 'predictor'"),
    ):
        with pytest.raises(SpecificationError, match=says):
            ad.DSEM(moderators=("technique",), **options)
    frame = techniques.frame
    frame["still"] = pd.factorize(frame["client"])[0]
    frame.loc[3, "technique"] = np.nan
    panel = panel_of(frame, covariates=["technique", "still"])
    with pytest.raises(SpecificationError, match=r"does not change over sessions\. Use predictors"):
        ad.DSEM(moderators=("still",)).fit(panel)
    with pytest.raises(SpecificationError, match="is not known in 1 sessions that have scores"):
        ad.DSEM(moderators=("technique",)).fit(panel)


@pytest.mark.slow
def test_a_moderation_comes_back_from_a_dsem() -> None:
    panel = ad.simulate(TECHNIQUE, clients=60, sessions=10, seed=5)
    spec = ad.DSEM(moderators=("technique",), draws=200, tune=200, chains=2, max_draws=200)
    fit = spec.fit(panel, seed=1, strict=False)
    found = fit.table().loc[MODERATION]
    assert abs(found["estimate"] + 0.30) < 2.5 * found["se"] and found["se"] < 0.2
    assert abs(fit.params["input[symptoms,technique]"] - 0.5) < 0.25
    assert any("rated before that session" in note for note in fit.diagnostics["notes"])
    with pytest.raises(SpecificationError, match="are estimated only"):
        fit.predict()
