"""WithinBetween against lme4, lmerTest and clubSandwich, its guards, and its simulated bias."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, t

import alliancedyn as ad
from alliancedyn import SessionPanel, WithinBetween, client_effects
from alliancedyn.engine.crossed import fit_crossed
from alliancedyn.errors import InferenceWarning, SpecificationError

CASE = Path(__file__).parent / "reference" / "simulated" / "multilevel"
# The peers' columns are client means rounded to six decimals; ours are not rounded.
LOGLIK = 5e-6
COEFFICIENT = 1e-5
VARIANCE = 1e-4
RELATIVE = 1e-4  # of standard errors and degrees of freedom

SPECS: dict[str, dict[str, Any]] = {
    "a": {"lagged_outcome": "none"},
    "b": {"lagged_outcome": "none", "random_slopes": ("alliance",)},
    "c": {},
    "d": {"lagged_outcome": "none", "levels": ("therapist", "client")},
    "d2": {"levels": ("therapist", "client")},
    "e": {
        "lagged_outcome": "none",
        "random_slopes": ("alliance",),
        "levels": ("therapist", "client"),
    },
}


def sessions() -> pd.DataFrame:
    return pd.read_csv(CASE / "sessions.csv")


def as_panel(frame: pd.DataFrame, **roles: Any) -> SessionPanel:
    return SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables=["alliance", "symptoms"],
        process="alliance",
        outcome="symptoms",
        **roles,
    )


@pytest.fixture(scope="module")
def panel() -> SessionPanel:
    return as_panel(sessions(), therapist="therapist")


def peer(name: str, method: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CASE / "fits" / f"{name}_lme4_{method}.json").read_text())
    return found


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("name", SPECS)
def test_every_model_is_that_of_lme4(name: str, method: str, panel: SessionPanel) -> None:
    theirs = peer(name, method)
    fit = WithinBetween(method=method, **SPECS[name]).fit(panel)
    assert fit.loglik == pytest.approx(theirs["loglik"], abs=LOGLIK)
    assert (fit.sample.rows, fit.sample.clients) == (theirs["nobs"], theirs["groups"]["client"])
    for parameter, value in theirs["params"].items():
        assert fit.params[parameter] == pytest.approx(value["estimate"], abs=COEFFICIENT)
        assert fit.se[parameter] == pytest.approx(value["se"], rel=RELATIVE)
    for parameter, value in theirs["variance"].items():
        assert fit.params[parameter] == pytest.approx(value, abs=VARIANCE)


@pytest.mark.parametrize("name", SPECS)
def test_degrees_of_freedom_are_satterthwaites(name: str, panel: SessionPanel) -> None:
    theirs = peer(name, "reml")["params"]
    fit = WithinBetween(**SPECS[name]).fit(panel)
    table = fit.table()
    for parameter, value in theirs.items():
        assert table.loc[parameter, "p_value"] == pytest.approx(value["p"], rel=1e-2, abs=1e-300)
        reach = (table.loc[parameter, "upper"] - value["estimate"]) / value["se"]
        df = value["df_satterthwaite"]
        assert reach == pytest.approx(t.ppf(0.975, df), rel=1e-4)


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("name", SPECS)
def test_errors_by_therapist_are_those_of_clubsandwich(
    name: str, method: str, panel: SessionPanel
) -> None:
    theirs = peer(name, method)["cluster_robust_se_therapist"]["CR2"]
    fit = WithinBetween(method=method, **SPECS[name]).fit(panel, errors="cluster:therapist")
    for parameter, value in theirs.items():
        assert fit.se[parameter] == pytest.approx(value, rel=RELATIVE)


def test_shrunken_effects_are_those_of_lme4(panel: SessionPanel) -> None:
    fit = WithinBetween(**SPECS["b"]).fit(panel)
    frame = client_effects(fit).set_index(["client", "effect"])["estimate"]
    for client in peer("b", "reml")["blups_first_three_clients"]:
        ours = frame[client["client"]]
        assert ours["intercept"] == pytest.approx(client["(Intercept)"], abs=1e-5)
        assert ours["alliance"] == pytest.approx(client["alliance_within_lag1"], abs=1e-5)


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_autocorrelated_residuals_are_those_of_nlme(method: str, panel: SessionPanel) -> None:
    theirs = json.loads((CASE / "fits" / f"a_nlme_ar1_{method}.json").read_text())
    spec = WithinBetween(method=method, lagged_outcome="none", residuals="ar1")  # type: ignore[arg-type]
    fit = spec.fit(panel)
    assert fit.loglik == pytest.approx(theirs["loglik"], abs=LOGLIK)
    for parameter, value in theirs["params"].items():
        assert fit.params[parameter] == pytest.approx(value["estimate"], abs=COEFFICIENT)
    assert fit.params["residual_ar[symptoms]"] == pytest.approx(theirs["ar1"], abs=VARIANCE)
    assert fit.params["residual_var[symptoms]"] == pytest.approx(
        theirs["residual_var"], abs=VARIANCE
    )


def test_clients_who_change_therapists_make_a_crossed_model() -> None:
    frame = sessions()
    late = frame["client"].isin(frame["client"].unique()[::9]) & (frame["session"] > 5)
    frame.loc[late, "therapist"] = frame.loc[late, "therapist"] % 39 + 1
    moved = as_panel(frame, therapist="therapist")
    with pytest.warns(InferenceWarning, match="clients changed therapists"):
        fit = WithinBetween(levels=("therapist", "client")).fit(moved)
    rows = frame[frame["use_lagged"] == 1]
    terms = ["alliance_within_lag1", "symptoms_within_lag1", "alliance_between", "session0"]
    by_hand = fit_crossed(
        rows["symptoms"].to_numpy(),
        np.column_stack([np.ones(len(rows)), rows[terms].to_numpy()]),
        pd.factorize(rows["client"])[0],
        pd.factorize(rows["therapist"])[0],
    )
    np.testing.assert_allclose(fit.params.iloc[:5], by_hand.beta, atol=COEFFICIENT)
    assert fit.loglik == pytest.approx(by_hand.loglik, abs=LOGLIK)
    with pytest.raises(SpecificationError, match="random_slopes need each client to have one"):
        WithinBetween(levels=("therapist", "client"), random_slopes=("alliance",)).fit(moved)


def test_one_random_effect_is_tested_by_a_mixture(panel: SessionPanel) -> None:
    plain, slope = (WithinBetween(**SPECS[name]).fit(panel) for name in "ab")
    therapists = WithinBetween(**SPECS["d"]).fit(panel)
    for large, name, dfs in ((slope, "b", (1, 2)), (therapists, "d", (0, 1))):
        found = ad.boundary_test(plain, large)
        statistic = 2.0 * (peer(name, "reml")["loglik"] - peer("a", "reml")["loglik"])
        assert found.statistic == pytest.approx(statistic, abs=4 * LOGLIK)
        tails = [chi2.sf(statistic, df) if df else 0.0 for df in dfs]
        assert found.p_value == pytest.approx(sum(tails) / 2.0, rel=1e-4)
    with pytest.raises(SpecificationError, match="one random effect at a time"):
        ad.boundary_test(plain, WithinBetween(**SPECS["e"]).fit(panel))


def test_fixed_effects_are_tested_by_full_likelihood(panel: SessionPanel) -> None:
    options = {"lagged_outcome": "none", "method": "ml"}
    plain = WithinBetween(**options, trend=None).fit(panel)  # type: ignore[arg-type]
    line = WithinBetween(**options).fit(panel)  # type: ignore[arg-type]
    found = ad.likelihood_ratio(plain, line)
    assert (found.df, found.statistic) == (1, pytest.approx(2 * (line.loglik - plain.loglik)))
    with pytest.raises(SpecificationError, match="Restricted likelihoods"):
        ad.likelihood_ratio(
            WithinBetween(trend=None).fit(panel), WithinBetween(trend="linear").fit(panel)
        )


# -- what goes in --------------------------------------------------------------------------------


def test_a_gap_is_never_closed() -> None:
    frame = pd.DataFrame({"client": np.repeat(np.arange(40), 5)})
    frame["session"] = np.tile([1, 2, 3, 5, 6], 40)
    rng = np.random.default_rng(3)
    frame["alliance"], frame["symptoms"] = rng.normal(size=(2, len(frame)))
    frame["symptoms"] += np.repeat(rng.normal(size=40), 5)
    fit = WithinBetween(trend=None).fit(as_panel(frame))
    assert fit.sample.pairs == 3 * 40  # into sessions 2, 3 and 6
    assert fit.sample.rows_set_aside["no score of alliance at the session before"] == 2 * 40
    reached = WithinBetween(trend=None, lag="nearest_earlier").fit(as_panel(frame))
    assert reached.sample.pairs == 4 * 40


def test_by_hand_on_one_small_panel() -> None:
    """Least squares of our terms, built by loops, equal the fixed effects without variances."""
    rng = np.random.default_rng(8)
    frame = pd.DataFrame(
        {"client": np.repeat(np.arange(30), 6), "session": np.tile(np.arange(1, 7), 30)}
    )
    frame["alliance"], frame["symptoms"] = rng.normal(size=(2, len(frame)))
    frame = frame[rng.random(len(frame)) < 0.8]
    rows, y = [], []
    for _, own in frame.groupby("client"):
        by = own.set_index("session")
        mean = by.mean()
        for session in by.index:
            if session - 1 in by.index:
                before = by.loc[session - 1] - mean
                row = [1.0, before["alliance"], before["symptoms"], mean["alliance"], session - 1.0]
                rows.append(row)
                y.append(by.loc[session, "symptoms"])
    with pytest.warns(InferenceWarning, match="clients do not differ"):
        fit = WithinBetween().fit(as_panel(frame))
    expected = np.linalg.lstsq(np.array(rows), np.array(y))[0]
    np.testing.assert_allclose(fit.params.iloc[:5], expected, rtol=1e-8, atol=1e-10)
    assert fit.params["random_cov[intercept,intercept]"] == 0.0


def test_clients_who_cannot_be_used_are_counted(panel: SessionPanel) -> None:
    fit = WithinBetween(lagged_outcome="none").fit(panel)
    assert sum(fit.sample.clients_set_aside.values()) == 300 - 299
    scored = int(sessions()["symptoms"].notna().sum())
    assert fit.sample.rows + sum(fit.sample.rows_set_aside.values()) == scored


def test_therapist_and_client_means_part_the_between_effect(panel: SessionPanel) -> None:
    spec = WithinBetween(levels=("therapist", "client"), between="therapist")
    fit = spec.fit(panel)
    whole = WithinBetween(levels=("therapist", "client")).fit(panel)
    parts = fit.params[["between[symptoms,alliance]", "between_therapist[symptoms,alliance]"]]
    assert parts.min() < whole.params["between[symptoms,alliance]"] < parts.max()


def test_trait_by_state_moderation_is_an_interaction(panel: SessionPanel) -> None:
    fit = WithinBetween(moderators=("between",)).fit(panel)
    name = "moderation[symptoms,alliance,between]"
    frame = sessions()
    arrays = panel.arrays()
    shifted = as_panel(frame.assign(alliance=frame["alliance"] + 10.0))
    again = WithinBetween(moderators=("between",)).fit(shifted)
    assert again.params[name] == pytest.approx(fit.params[name], rel=1e-6)
    phi = "phi[symptoms,alliance]"  # at the average client, wherever zero is
    assert again.params[phi] == pytest.approx(fit.params[phi], rel=1e-6)
    assert arrays.Y.shape[0] == 300


@settings(max_examples=8, deadline=None)
@given(factor=st.floats(0.01, 100.0), seed=st.integers(0, 100))
def test_units_and_order_change_nothing(factor: float, seed: int) -> None:
    frame = sessions().sample(frac=1.0, random_state=seed)
    frame["alliance"] *= factor
    fit = WithinBetween(direction="both").fit(as_panel(frame))
    plain = WithinBetween(direction="both").fit(as_panel(sessions()))
    name = "phi[symptoms,alliance]"
    assert fit.params[name] * factor == pytest.approx(plain.params[name], rel=1e-6)
    for pair in (("alliance", "symptoms"), ("symptoms", "alliance")):
        ours, theirs = (one.effect(*pair, standardized="within") for one in (fit, plain))
        assert ours.value == pytest.approx(theirs.value, rel=1e-6)
        assert ours.se == pytest.approx(theirs.se, rel=1e-6)


# -- both directions -----------------------------------------------------------------------------


def test_two_equations_have_a_covariance(panel: SessionPanel) -> None:
    """Robust by client, it is the sandwich of both equations stacked."""
    both = WithinBetween(direction="both").fit(panel)
    alone = WithinBetween().fit(panel)
    names = ["phi[symptoms,alliance]", "phi[alliance,symptoms]"]
    assert both.params[names[0]] == alone.params[names[0]]
    assert both.se[names[0]] == pytest.approx(alone.se[names[0]], rel=1e-12)
    cov = both.cov.loc[names, names].to_numpy()
    assert np.isfinite(cov).all()
    assert abs(cov[0, 1]) > 0.0
    assert np.linalg.eigvalsh(both.cov.iloc[:12, :12].to_numpy()).min() > -1e-12


def test_the_covariance_between_directions_is_that_of_resampled_clients(
    panel: SessionPanel,
) -> None:
    both = WithinBetween(direction="both").fit(panel, errors="robust")
    names = ["phi[symptoms,symptoms]", "phi[alliance,symptoms]"]
    rng = np.random.default_rng(5)
    by_client = dict(list(sessions().groupby("client")))
    draws = []
    for _ in range(150):
        chosen = rng.choice(list(by_client), len(by_client))
        frame = pd.concat([by_client[c].assign(client=i) for i, c in enumerate(chosen)])
        draws.append(WithinBetween(direction="both").fit(as_panel(frame)).params[names])
    ours = both.cov.loc[names, names].to_numpy()
    spread = np.cov(np.array(draws).T)
    np.testing.assert_allclose(np.sqrt(np.diag(ours)), np.sqrt(np.diag(spread)), rtol=0.25)
    correlation = ours[0, 1] / np.sqrt(ours[0, 0] * ours[1, 1])
    resampled = spread[0, 1] / np.sqrt(spread[0, 0] * spread[1, 1])
    assert correlation == pytest.approx(resampled, abs=4.0 / np.sqrt(150))


# -- what must not happen ------------------------------------------------------------------------


def test_mixed_centering_is_refused() -> None:
    with pytest.raises(SpecificationError, match="mixes two kinds of effects"):
        WithinBetween(lagged_outcome="raw")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"random_slopes": ("age",)}, "no term of the equation"),
        ({"levels": ("site",)}, "levels is"),
        ({"between": "therapist"}, "needs therapists as a level"),
        ({"moderators": "between"}, "as a tuple"),
        ({"process": "bond"}, "no variable 'bond'"),
        ({"process": "symptoms", "outcome": "symptoms"}, "both 'symptoms'"),
    ],
)
def test_what_cannot_be_is_refused(
    options: dict[str, Any], message: str, panel: SessionPanel
) -> None:
    with pytest.raises(SpecificationError, match=message):
        WithinBetween(**options).fit(panel)


def test_therapists_must_be_known() -> None:
    with pytest.raises(SpecificationError, match="names no therapists"):
        WithinBetween(levels=("therapist", "client")).fit(as_panel(sessions()))


def test_what_a_regression_does_not_have_is_refused_by_name(panel: SessionPanel) -> None:
    fit = WithinBetween().fit(panel)
    for verb in (fit.predict, fit.states, fit.fit_indices):
        with pytest.raises(SpecificationError, match="is a regression"):
            verb()


def test_a_fit_travels(panel: SessionPanel) -> None:
    fit = WithinBetween(direction="both").fit(panel, errors="cluster:therapist")
    copy = pickle.loads(pickle.dumps(fit.without_data()))
    pd.testing.assert_frame_equal(copy.table(), fit.table())
    assert "Directions are not ranked" in ad.compare_directions(copy).text


def test_one_direction_cannot_be_compared(panel: SessionPanel) -> None:
    fit = WithinBetween().fit(panel)
    with pytest.raises(SpecificationError, match='direction="both"'):
        ad.compare_directions(fit)
    with pytest.raises(SpecificationError, match="'spec': a WithinBetween"):
        ad.compare_models({"spec": WithinBetween()})  # type: ignore[dict-item]


# -- the bias ------------------------------------------------------------------------------------


def world(clients: int, n_sessions: int, backward: float, seed: int) -> SessionPanel:
    """W2: apparent dominance from person means alone."""
    truth = ad.Dynamics(
        phi=[[0.35, backward], [-0.15, 0.40]],
        innovation_cov=[[1.0, -0.3], [-0.3, 1.0]],
        between_cov=[[1.0, -0.3], [-0.3, 1.0]],
        mean=(5.0, 10.0),
    )
    return ad.simulate(truth, clients=clients, sessions=n_sessions, seed=seed)


def test_the_simulated_bias_is_the_bias() -> None:
    """At 8 sessions centering takes a far larger share of one direction than of the other."""
    found = ad.bias_diagnosis(
        WithinBetween(direction="both", trend=None).fit(world(1000, 8, -0.10, 1)), 60
    )
    table = found.table
    lost = -table["bias"] / table["true"]
    assert lost["phi[alliance,symptoms]"] > 3.0 * lost["phi[symptoms,alliance]"] > 0.0
    large = WithinBetween(direction="both", trend=None).fit(world(60_000, 8, -0.10, 2))
    for name, row in table.iterrows():
        truth = {"phi[alliance,alliance]": 0.35, "phi[symptoms,symptoms]": 0.40}
        truth |= {"phi[symptoms,alliance]": -0.15, "phi[alliance,symptoms]": -0.10}
        bias = large.params[str(name)] - truth[str(name)]
        # the world is fitted to 1,000 clients, so its own error is part of the difference
        assert row["bias"] == pytest.approx(
            bias, abs=4 * (row["mcse"] + large.se[str(name)]) + 0.02
        )


def test_a_lead_that_the_estimator_makes_up_is_withdrawn() -> None:
    """Both directions equally strong in within SDs (.15), and person means make one of them lead.

    The symptoms carry on more (.6 against .1), so more of what they do is lost with their mean.
    """
    truth = ad.Dynamics(
        phi=[[0.1, -0.113], [-0.199, 0.6]],
        innovation_cov=[[1.0, -0.4], [-0.4, 1.0]],
        between_cov=[[1.0, -0.3], [-0.3, 1.0]],
        mean=(5.0, 10.0),
    )
    panel = ad.simulate(truth, clients=3000, sessions=5, seed=4)
    directions = ad.compare_directions(WithinBetween(direction="both", trend=None).fit(panel))
    assert directions.bias is not None
    assert directions.by_basis["reduced"].lead == "forward"  # what the numbers alone would say
    assert directions.bias.dominance
    assert directions.lead == "undetermined" and directions.withdrawn
    assert directions.forms["reduced"].lead == "undetermined"
    assert "the estimator alone could have produced it" in directions.text
    assert directions.text.count("Which of the two leads is undetermined.") == 1
    assert "stronger path" not in directions.text  # nothing is said to lead before or after


def test_a_lead_that_it_does_not_make_up_stays() -> None:
    """Only one direction is there at all."""
    truth = ad.Dynamics(
        phi=[[0.3, 0.0], [-0.3, 0.3]],
        innovation_cov=[[1.0, -0.2], [-0.2, 1.0]],
        between_cov=[[1.0, -0.3], [-0.3, 1.0]],
        mean=(5.0, 10.0),
    )
    panel = ad.simulate(truth, clients=1000, sessions=10, seed=4)
    directions = ad.compare_directions(WithinBetween(direction="both", trend=None).fit(panel))
    assert directions.lead == "forward"
    assert "more than the estimator produces by itself" in directions.text


def test_comparison_prints_the_bias_beside_the_estimate(panel: SessionPanel) -> None:
    fits = {
        "WB": WithinBetween(direction="both").fit(panel),
        "RI": ad.RICLPM().fit(panel, strict=False),
    }
    frame = ad.compare_models(fits).set_index("model")
    assert np.isfinite(frame.loc["WB", "expected_bias"]).all()
    assert np.isnan(frame.loc["RI", "expected_bias"]).all()
