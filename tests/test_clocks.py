"""Reading effects at every lag, and comparing clocks, against closed forms and made worlds."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from scipy.linalg import expm
from test_continuous_time import (
    as_panel,
    process,
    random_days,
    reference_panel,
    rich_frame,
    rich_panel,
)

from alliancedyn import (
    RICLPM,
    ContinuousTime,
    DataError,
    Dynamics,
    Fit,
    Gaps,
    InferenceWarning,
    SessionPanel,
    SpecificationError,
    compare_clocks,
    compare_directions,
    compare_models,
    describe_drift,
    effect_by_lag,
    peak_lag,
    plot,
    simulate,
)
from alliancedyn.causal.lags import gaps_of
from alliancedyn.engine.continuous import discretise
from alliancedyn.studies.clocks import DAYS, DISCRETE, SESSION

SWINGING = np.array([[-0.4, 0.9], [-0.7, -0.3]])


@pytest.fixture(scope="module")
def fit() -> Fit:
    return ContinuousTime(initial="stationary").fit(reference_panel())


@pytest.fixture(scope="module")
def swinging() -> Fit:
    frame = process(31, random_days(31, 200, 8), drift=SWINGING)
    return ContinuousTime().fit(as_panel(frame))


def drift_of(fit: Fit) -> np.ndarray:
    return fit.params.filter(like="drift[").to_numpy().reshape(2, 2)


# -- effects against the lag


def test_effects_are_the_exponential_of_the_drift(fit: Fit) -> None:
    table = effect_by_lag(fit, "alliance", "symptoms")
    assert len(table) == 50
    for lag in table.index[[0, 20, 49]]:
        expected = expm(drift_of(fit) * lag)[1, 0]
        assert table.loc[lag, "estimate"] == pytest.approx(expected, rel=1e-10)
    week = effect_by_lag(fit, "alliance", "symptoms", [1.0]).iloc[0]
    reported = fit.effect("alliance", "symptoms")
    assert week["estimate"] == pytest.approx(reported.value, rel=1e-10)
    assert week["se"] == pytest.approx(reported.se, rel=1e-6)
    assert week["lower"] == pytest.approx(reported.lower, rel=1e-5)
    within = effect_by_lag(fit, "alliance", "symptoms", [1.0], standardized="within").iloc[0]
    standardized = fit.effect("alliance", "symptoms", standardized="within")
    assert within["estimate"] == pytest.approx(standardized.value, rel=1e-9)
    assert within["se"] == pytest.approx(standardized.se, rel=1e-4)


def test_lags_stay_inside_the_observed_gaps(fit: Fit) -> None:
    frame = reference_panel().frame
    scored = frame.dropna(subset=["alliance", "symptoms"], how="all")
    gaps = scored.groupby("client")["day"].diff().dropna().to_numpy() / 7.0
    seen = gaps_of(fit)
    assert seen.shortest == pytest.approx(gaps.min())
    assert seen.longest == pytest.approx(gaps.max())
    assert len(seen.values) == len(gaps)
    table = effect_by_lag(fit, "alliance", "symptoms")
    assert table.index[0] == pytest.approx(gaps.min())
    assert gaps.min() < table.index[-1] <= np.quantile(gaps, 0.995)
    for lag, share in table["gaps_as_long"].items():
        assert share == pytest.approx((gaps >= lag - 1e-9).mean(), abs=1e-12)
    effect_by_lag(fit, "alliance", "symptoms", [gaps.min(), gaps.max()])
    for lag in (0.0, gaps.min() / 2.0, gaps.max() + 0.5):
        with pytest.raises(SpecificationError, match=r"0\.143 to 4\.71 weeks"):
            effect_by_lag(fit, "alliance", "symptoms", [1.0, lag])


def test_equal_gaps_show_one_lag() -> None:
    frame = process(33, np.broadcast_to(7.0 * np.arange(6), (100, 6)))
    fit = ContinuousTime().fit(as_panel(frame), strict=False)
    assert effect_by_lag(fit, "alliance", "symptoms").index.tolist() == [1.0]
    with pytest.raises(SpecificationError, match="1 to 1 week"):
        effect_by_lag(fit, "alliance", "symptoms", [2.0])
    assert isinstance(plot.effect_by_lag(fit), Axes)


def test_a_fit_without_data_asks_for_its_panel(fit: Fit) -> None:
    bare = fit.without_data()
    with pytest.raises(DataError, match="panel="):
        effect_by_lag(bare, "alliance", "symptoms")
    pd.testing.assert_frame_equal(
        effect_by_lag(bare, "alliance", "symptoms", panel=reference_panel()),
        effect_by_lag(fit, "alliance", "symptoms"),
    )


def test_other_models_have_no_effect_at_every_lag() -> None:
    other = RICLPM(means="equal").fit(reference_panel(), strict=False)
    for call in (
        lambda: effect_by_lag(other, "alliance", "symptoms"),
        lambda: peak_lag(other, "alliance", "symptoms"),
        lambda: describe_drift(other),
        lambda: plot.effect_by_lag(other),
    ):
        with pytest.raises(SpecificationError, match="not of RI-CLPM"):
            call()
    with pytest.raises(SpecificationError, match="'bond' is not a variable"):
        fit = ContinuousTime(initial="stationary").fit(reference_panel())
        effect_by_lag(fit, "bond", "symptoms")


# -- the peak


def grid_peak(drift: np.ndarray, lags: np.ndarray) -> float:
    effects = np.abs(discretise(drift, np.zeros_like(drift), lags)[0][:, 1, 0])
    return float(lags[effects.argmax()])


def test_the_peak_is_that_of_a_grid(fit: Fit, swinging: Fit) -> None:
    lags = np.arange(1, 4000) * 1e-3
    for one in (fit, swinging):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InferenceWarning)
            peak = peak_lag(one, "alliance", "symptoms")
        assert peak.value == pytest.approx(grid_peak(drift_of(one), lags), abs=1e-3)
        assert 0.0 < peak.lower < peak.value < peak.upper


def test_the_interval_of_the_peak_is_that_of_draws(fit: Fit) -> None:
    names = [f"drift[{r},{c}]" for r in fit.variables for c in fit.variables]
    rng = np.random.default_rng(1)
    draws = rng.multivariate_normal(fit.params[names], fit.cov.loc[names, names], 1000)
    lags = np.arange(1, 1000) * 4e-3
    drawn = [grid_peak(draw.reshape(2, 2), lags) for draw in draws]
    peak = peak_lag(fit, "alliance", "symptoms")
    assert peak.se == pytest.approx(np.std(drawn), rel=0.15)
    assert peak.lower == pytest.approx(np.quantile(drawn, 0.025), abs=0.1 * peak.se + 0.05)
    assert peak.upper == pytest.approx(np.quantile(drawn, 0.975), abs=0.1 * peak.se + 0.05)


def test_a_peak_outside_the_gaps_is_called_an_extrapolation(fit: Fit) -> None:
    frame = process(35, np.broadcast_to(35.0 * np.arange(6), (400, 6)))
    wide = ContinuousTime().fit(as_panel(frame), strict=False)
    with pytest.warns(InferenceWarning, match=r"outside the gaps of these data, 5 to 5 weeks"):
        peak_lag(wide, "alliance", "symptoms")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        peak_lag(fit, "alliance", "symptoms")
    with pytest.raises(SpecificationError, match="largest at lag 0"):
        peak_lag(fit, "alliance", "alliance")


# -- the drift in words


def test_half_lives_are_those_of_the_eigenvalues(fit: Fit, swinging: Fit) -> None:
    table = describe_drift(fit)
    values = np.sort(np.linalg.eigvals(drift_of(fit)).real)[::-1]
    np.testing.assert_allclose(table["half_life"], np.log(2.0) / -values, rtol=1e-12)
    assert np.isinf(table["period"]).all()
    assert (table["lower"] < table["half_life"]).all()
    assert (table["half_life"] < table["upper"]).all()
    assert "halves in 1.08 weeks" in table["meaning"].iloc[0]
    (pair,) = describe_drift(swinging).to_dict("records")
    value = np.linalg.eigvals(drift_of(swinging))[0]
    assert pair["half_life"] == pytest.approx(np.log(2.0) / -value.real)
    assert pair["period"] == pytest.approx(2.0 * np.pi / abs(value.imag))
    assert "swings back and forth" in pair["meaning"]
    true = np.linalg.eigvals(SWINGING)[0]
    assert pair["lower"] < np.log(2.0) / -true.real < pair["upper"]


def test_a_process_that_grows_is_said_not_to_settle() -> None:
    rng = np.random.default_rng(37)
    walk = rng.standard_normal((60, 6, 2)).cumsum(axis=1) * 1.35 ** np.arange(6)[None, :, None]
    frame = process(37, np.broadcast_to(7.0 * np.arange(6), (60, 6)))
    frame[["alliance", "symptoms"]] = walk.reshape(-1, 2)
    fit = ContinuousTime(traits=False).fit(as_panel(frame), strict=False)
    table = describe_drift(fit)
    assert np.isinf(table["half_life"].iloc[0])
    assert "never settles" in table["meaning"].iloc[0]
    (note,) = [note for note in fit.diagnostics["notes"] if "eigenvalue" in note]
    assert "deviations do not fade" in note


def test_groups_have_drifts_of_their_own() -> None:
    panel = rich_panel(rich_frame(39, n=160, n_sessions=8))
    own = ContinuousTime(group="arm").fit(panel, strict=False)
    with pytest.raises(SpecificationError, match="differs between groups"):
        effect_by_lag(own, "alliance", "symptoms")
    with pytest.raises(SpecificationError, match="no group 'arm=7'"):
        describe_drift(own, group="arm=7")
    lag = float(gaps_of(own).values[50])
    for group in ("arm=0", "arm=1"):
        row = effect_by_lag(own, "alliance", "symptoms", [lag], group=group).iloc[0]
        drift = own.params[
            [f"drift[{r},{c}]|{group}" for r in own.variables for c in own.variables]
        ]
        expected = expm(drift.to_numpy().reshape(2, 2) * lag)[1, 0]
        assert row["estimate"] == pytest.approx(expected, rel=1e-9)
    shared = ContinuousTime(group="arm", equal_across_groups=("lags", "innovations"))
    one = shared.fit(panel, strict=False)
    assert one.n_params == own.n_params - 7
    assert len(effect_by_lag(one, "alliance", "symptoms", [lag])) == 1
    assert one.loglik < own.loglik


def test_lags_of_a_week_enter_comparisons(fit: Fit) -> None:
    table = compare_models(
        {"by days": fit, "RI-CLPM": RICLPM().fit(reference_panel(), strict=False)}
    )
    row = table[(table["model"] == "by days") & (table["target"] == "symptoms")].iloc[0]
    assert row["estimate"] == pytest.approx(fit.effect("alliance", "symptoms").value)
    verdict = compare_directions(fit)
    assert verdict.basis == "reduced"
    assert "one moment" in verdict.text


def test_no_verdict_over_a_lag_at_which_effects_are_refused(fit: Fit) -> None:
    for unit in (1000.0, 0.01):
        model = replace(fit.model, time_unit=unit)  # type: ignore[type-var]
        other = replace(fit, model=model)
        with pytest.raises(SpecificationError, match="outside the gaps"):
            effect_by_lag(other, "alliance", "symptoms", [1.0])
        with pytest.raises(SpecificationError, match=r"no two sessions .* Fit with time_unit="):
            compare_directions(other)


# -- clocks


def two_clocks(per: str) -> SessionPanel:
    truth = Dynamics(
        phi=[[0.35, -0.1], [-0.15, 0.4]],
        innovation_cov=[[1.0, -0.3], [-0.3, 1.0]],
        between_cov=[[1.0, -0.3], [-0.3, 1.0]],
        mean=(0.0, 0.0),
    )
    gaps = Gaps(weeks=(1, 2, 4), weights=(0.6, 0.25, 0.15), per=per)
    return simulate(truth, clients=500, sessions=8, gaps=gaps, seed=41)


@pytest.mark.parametrize(("per", "best", "said"), [
    ("session", SESSION, "Count sessions"), ("week", DAYS, "Count days"),
])  # fmt: skip
def test_the_clock_that_made_the_data_is_found(per: str, best: str, said: str) -> None:
    panel = two_clocks(per)
    table = compare_clocks(panel)
    assert table.index.tolist() == [DISCRETE, SESSION, DAYS]
    assert table["bic"].drop(DISCRETE).idxmin() == best
    assert table.attrs["text"].startswith(said)
    assert table["parameters"].nunique() == 1
    discrete = RICLPM(initial="stationary").fit(panel)
    assert table.loc[DISCRETE, "bic"] == pytest.approx(discrete.bic)
    assert table.loc[SESSION, "loglik"] == pytest.approx(discrete.loglik, rel=1e-8)
    assert "the same model, written in two ways" in table.attrs["text"]
    assert table["bic_above_best"].min() == 0.0


def test_missing_days_leave_the_other_clocks_and_say_so() -> None:
    frame = process(43, random_days(43, 150, 6))
    frame.loc[3, "day"] = np.nan
    table = compare_clocks(as_panel(frame))
    assert np.isnan(table.loc[DAYS, "bic"])
    assert "have a score but no day" in table.loc[DAYS, "note"]
    assert f"No fit by {DAYS}" in table.attrs["text"]
    assert np.isfinite(table.loc[SESSION, "bic"])


def test_equal_gaps_are_one_clock() -> None:
    frame = process(45, np.broadcast_to(7.0 * np.arange(6), (150, 6)))
    table = compare_clocks(as_panel(frame), means="equal")
    assert table["loglik"].max() - table["loglik"].min() < 1e-4
    assert "All gaps are 7 days" in table.attrs["text"]


def test_a_lag_matrix_without_a_drift_is_named() -> None:
    """A negative autoregression is that of no process that runs on between sessions."""
    truth = Dynamics(
        phi=[[-0.4, 0.0], [-0.1, 0.4]],
        innovation_cov=[[1.0, -0.3], [-0.3, 1.0]],
        between_cov=[[1.0, -0.3], [-0.3, 1.0]],
        mean=(0.0, 0.0),
    )
    table = compare_clocks(simulate(truth, clients=300, sessions=6, seed=47), means="equal")
    text = table.attrs["text"]
    assert "not those of any process" in text or "did not converge" in text


def test_traits_and_error_are_those_asked_for() -> None:
    table = compare_clocks(two_clocks("week"), traits=False, means="equal")
    assert (table["parameters"] == 9).all()
    known = {"alliance": 0.1, "symptoms": 0.1}
    table = compare_clocks(two_clocks("week"), means="equal", measurement_var=known)
    assert (table["parameters"] == 12).all()


# -- the figure


def test_the_figure_ends_where_the_gaps_end(fit: Fit) -> None:
    axes = plot.effect_by_lag(fit)
    table = effect_by_lag(fit, "alliance", "symptoms", standardized="within")
    lines = [line for line in axes.lines if len(line.get_xdata()) > 2]
    assert len(lines) == 2
    for line in lines:
        assert line.get_xdata()[0] == pytest.approx(table.index[0])
        assert line.get_xdata()[-1] == pytest.approx(table.index[-1])
    assert lines[0].get_ydata()[-1] == pytest.approx(table["estimate"].iloc[-1])
    text = plot.alt_text(axes)
    assert "alliance → symptoms is largest there at 1.26 weeks, −0.11 [−0.17, −0.05]" in text
    assert plot.svg(axes).startswith("<?xml")


def test_one_path_can_be_drawn_in_points(fit: Fit) -> None:
    axes = plot.effect_by_lag(fit, "alliance", "symptoms", standardized=False)
    assert axes.get_ylabel() == "Score points per score point"
    with pytest.raises(SpecificationError, match="one scale only"):
        plot.effect_by_lag(fit, standardized=False)
    with pytest.raises(SpecificationError, match="both source and target"):
        plot.effect_by_lag(fit, "alliance")


def test_many_lengths_of_gaps_are_thinned(swinging: Fit) -> None:
    axes = plot.effect_by_lag(swinging)
    (rug,) = [c for c in axes.collections if hasattr(c, "get_segments")]
    assert len(rug.get_segments()) == 200
