"""Between, trend and within parts against dummy-variable regressions, lme4 and identities."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_files import published_dir

from alliancedyn.decompose import decompose
from alliancedyn.engine.trends import fit_client_lines, fit_session_effects
from alliancedyn.errors import SpecificationError
from alliancedyn.panel import SessionPanel

HERE = Path(__file__).parent / "reference" / "mixed"
NAMES = ["alliance", "symptoms"]
TRENDS = [None, "session", "linear"]


def make_panel(frame, names=NAMES, therapist=None):
    return SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables={name: name for name in names},
        process=names[0],
        outcome=names[-1],
        therapist=therapist,
    )


def make_frame(seed=0, clients=40, sessions=8, seen=0.8, therapists=5, phi=0.3):
    rng = np.random.default_rng(seed)
    state = np.zeros((clients, sessions, 2))
    for t in range(sessions):
        shock = rng.normal(size=(clients, 2)) @ np.array([[1.0, -0.4], [0.0, 0.9]])
        state[:, t] = phi * state[:, max(t - 1, 0)] + shock
    level = rng.normal(size=(clients, 1, 2)) * [1.0, 2.0]
    level = level + rng.normal(size=(therapists, 2))[np.arange(clients) % therapists][:, None, :]
    trend = np.arange(sessions)[None, :, None] * [0.1, -0.4]
    slopes = rng.normal(size=(clients, 1, 2)) * 0.1 * np.arange(sessions)[None, :, None]
    scores = level + trend + slopes + state + np.array([5.0, 14.0])
    scores[rng.random(scores.shape) > seen] = np.nan
    client, session = np.divmod(np.arange(clients * sessions), sessions)
    frame = pd.DataFrame(scores.reshape(-1, 2), columns=NAMES)
    frame.insert(0, "client", [f"C{i:03d}" for i in client])
    frame.insert(1, "session", session + 1)
    frame["therapist"] = [f"T{i % therapists}" for i in client]
    return frame.dropna(subset=NAMES, how="all").reset_index(drop=True)


def aligned(parts, panel):
    """Return between, trend, within and score as arrays on the rows of the panel."""
    between = parts.between.set_index("client").loc[parts.within["client"]].to_numpy()
    names = list(panel.variables)
    return between, *(frame[names].to_numpy() for frame in (parts.trend, parts.within, panel.frame))


@pytest.mark.parametrize("trend", TRENDS)
def test_parts_add_up_to_the_score(trend):
    panel = make_panel(make_frame(seen=0.6), therapist="therapist")
    parts = decompose(panel, trend)
    between, moved, within, score = aligned(parts, panel)
    whole = between + moved + within
    missing = np.isnan(whole) & ~np.isnan(score)
    assert missing.any() == (trend == "linear")
    np.testing.assert_allclose(whole[~np.isnan(whole)], score[~np.isnan(whole)], atol=1e-12)
    assert not (~np.isnan(whole) & np.isnan(score)).any()
    np.testing.assert_allclose(parts.detrended[NAMES], score - moved, atol=1e-12)
    np.testing.assert_allclose(parts.detrended[NAMES], between + within, atol=1e-12)
    means = parts.within.groupby("client")[NAMES].mean().to_numpy()
    assert np.nanmax(np.abs(means)) < 1e-12
    assert list(parts.within.columns) == ["client", "session", *NAMES]
    assert list(parts.between.columns) == ["client", *NAMES]
    pd.testing.assert_frame_equal(parts.trend[["client", "session"]], panel.frame.iloc[:, :2])


def test_without_a_trend_between_is_the_client_mean():
    panel = make_panel(make_frame())
    parts = decompose(panel, None)
    expected = panel.frame.groupby("client", sort=False)[NAMES].mean()
    np.testing.assert_allclose(parts.between[NAMES], expected, rtol=1e-13)
    assert (parts.trend[NAMES].fillna(0.0) == 0.0).all(axis=None)


def test_session_trend_of_complete_data_is_session_mean_minus_grand_mean():
    panel = make_panel(make_frame(seen=1.1))
    parts = decompose(panel, "session")
    frame = panel.frame
    expected = frame.groupby("session")[NAMES].transform("mean") - frame[NAMES].mean()
    np.testing.assert_allclose(parts.trend[NAMES], expected, atol=1e-10)
    plain = frame.groupby("client", sort=False)[NAMES].mean()
    np.testing.assert_allclose(parts.between[NAMES], plain, atol=1e-10)


def test_session_trend_of_unbalanced_data_is_the_dummy_variable_regression():
    panel = make_panel(make_frame(seen=0.5))
    parts = decompose(panel, "session")
    frame = panel.frame.dropna(subset=["symptoms"])
    dummies = pd.get_dummies(frame[["client"]]).astype(float)
    times = pd.get_dummies(frame["session"], drop_first=True).astype(float)
    X = np.column_stack([dummies, times])
    y = frame["symptoms"].to_numpy()
    residual = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
    seen = parts.within["symptoms"].notna()
    np.testing.assert_allclose(parts.within.loc[seen, "symptoms"], residual, atol=1e-10)
    assert abs(parts.trend["symptoms"].mean()) < 1e-12


def test_leaving_does_not_bend_the_session_trend():
    """Flat clients, the low ones leave halfway: session means jump, nobody changes."""
    frame = pd.DataFrame(
        [(f"L{i}", t, 10.0 + i) for i in range(5) for t in (1, 2)]
        + [(f"H{i}", t, 20.0 + i) for i in range(5) for t in (1, 2, 3, 4)],
        columns=["client", "session", "score"],
    )
    client = np.unique(frame["client"], return_inverse=True)[1]
    place = frame["session"].to_numpy() - 1
    effects = fit_session_effects(frame["score"].to_numpy(), client, place, 4)
    np.testing.assert_allclose(effects.effect, 0.0, atol=1e-12)
    assert effects.rank == 3


def test_sessions_that_no_client_links_are_told_apart():
    frame = make_frame(clients=20, sessions=8, seen=1.1)
    early = frame["client"] < "C010"
    frame = frame[(early & (frame["session"] <= 3)) | (~early & (frame["session"] >= 6))]
    panel = make_panel(frame)
    parts = decompose(panel, "session")
    found = [issue for issue in parts.issues if issue.code == "unlinked-sessions"]
    assert len(found) == 2 and found[0].count == 2 and "alliance" in found[0].message
    for block in (panel.frame["session"] <= 3, panel.frame["session"] >= 6):
        assert abs(parts.trend.loc[block, "alliance"].mean()) < 1e-12
    means = parts.within.groupby("session")[NAMES].mean().to_numpy()
    np.testing.assert_allclose(means, 0.0, atol=1e-12)


def test_lines_are_least_squares_lines():
    panel = make_panel(make_frame(seen=0.5))
    parts = decompose(panel, "linear")
    short = 0
    for _, rows in panel.frame.groupby("client"):
        seen = rows.dropna(subset=["symptoms"])
        moved = parts.trend.loc[seen.index, "symptoms"]
        if len(seen) < 3:
            assert moved.isna().all()
            short += len(seen) > 0
            continue
        line = np.polyval(np.polyfit(seen["session"], seen["symptoms"], 1), seen["session"])
        np.testing.assert_allclose(moved, line - seen["symptoms"].mean(), atol=1e-10)
        np.testing.assert_allclose(
            parts.within.loc[seen.index, "symptoms"], seen["symptoms"] - line, atol=1e-10
        )
    found = [issue for issue in parts.issues if "symptoms" in issue.message]
    assert short > 0
    assert [(issue.code, issue.count) for issue in found] == [("trend-not-estimable", short)]


def test_a_line_needs_three_scores():
    slope, center = fit_client_lines(
        np.array([1.0, 2.0, 4.0, 6.0, 9.0]), np.array([0, 0, 2, 2, 2]), np.arange(5), 3
    )
    assert np.isnan(slope[:2]).all() and slope[2] == pytest.approx(2.5)
    assert center[2] == 3.0


@pytest.mark.parametrize("levels", [("client",), ("therapist", "client")])
@pytest.mark.parametrize("name", ["nested", "flat", "alike"])
def test_variances_equal_those_of_lme4(name, levels):
    frame = pd.read_csv(HERE / "scores.csv", dtype={"client": str, "therapist": str})
    frame = frame[frame["panel"] == name].sort_values(["client", "session"])
    frame = frame.rename(columns={"score": "symptoms"}).assign(alliance=frame["score"] * 2 - 1)
    parts = decompose(make_panel(frame, therapist="therapist"), None, levels=levels)
    peer = json.loads((HERE / "peers.json").read_text(encoding="utf-8"))[name]
    peer = peer[f"{levels[0]}_reml"]
    expected = pd.Series([*(peer[level] for level in levels), peer["residual"]])
    np.testing.assert_allclose(parts.variance["symptoms"], expected, rtol=5e-4, atol=1e-12)
    np.testing.assert_allclose(parts.variance["alliance"], 4 * expected, rtol=5e-4, atol=1e-12)
    assert list(parts.variance.index) == [*levels, "session"]
    share = expected[:-1] / expected.sum()
    np.testing.assert_allclose(parts.icc["symptoms"], share, rtol=5e-4, atol=1e-12)
    assert list(parts.icc.index) == list(levels)
    named = [text for text in parts.boundary if " variance of symptoms is estimated" in text]
    at_zero = [level for level in levels if peer[level] == 0.0]
    assert sorted(text.split()[0] for text in named if "stable" not in text) == sorted(at_zero)
    assert all("lower bound, REML" in text for text in named)


def test_line_variances_count_the_lines():
    """Without counting, a line per client would make sessions look calmer than they are."""
    frame = make_frame(seed=3, clients=400, sessions=5, seen=1.1, phi=0.0)
    rough = decompose(make_panel(frame), "linear")
    truth = np.array([1.0, 0.16 + 0.81])  # innovation variances of alliance and symptoms
    np.testing.assert_allclose(rough.variance.loc["session"], truth, rtol=0.12)
    squares = (rough.within[NAMES] ** 2).sum()
    np.testing.assert_allclose(rough.variance.loc["session"], squares / (400 * 3), rtol=1e-6)


def test_session_variances_count_the_session_effects():
    frame = make_frame(seed=4, clients=30, sessions=6, seen=0.8, phi=0.0)
    parts = decompose(make_panel(frame), "session")
    seen = frame.dropna(subset=["symptoms"])
    freedom = len(seen) - seen["client"].nunique() - (seen["session"].nunique() - 1)
    squares = (parts.within["symptoms"] ** 2).sum()
    assert parts.variance.loc["session", "symptoms"] == pytest.approx(squares / freedom, rel=0.03)


def test_correlations_and_their_numbers():
    frame = make_frame(seed=5, seen=0.7)
    panel = make_panel(frame)
    parts = decompose(panel)
    count = frame.groupby("client")[NAMES].transform("count")
    usable = (count > 1).all(axis=1) & frame[NAMES].notna().all(axis=1)
    within = parts.within.loc[usable, NAMES]
    expected = np.corrcoef(within.T)[0, 1]
    assert parts.correlation_within.loc["alliance", "symptoms"] == pytest.approx(expected)
    assert parts.pairs_within.loc["alliance", "symptoms"] == len(within)
    between = parts.between[NAMES].dropna()
    expected = np.corrcoef(between.T)[0, 1]
    assert parts.correlation_between.loc["symptoms", "alliance"] == pytest.approx(expected)
    assert parts.pairs_between.loc["alliance", "symptoms"] == len(between)
    assert (np.diag(parts.correlation_within) == 1.0).all()


def test_reliability_is_the_formula_at_the_fitted_values():
    frame = make_frame(seed=6, clients=60, seen=0.7, phi=0.5)
    parts = decompose(make_panel(frame))
    fit = parts.reliability.loc["symptoms"]
    values, white = [], []
    tau, sigma = parts.variance["symptoms"]
    for _, rows in frame.dropna(subset=["symptoms"]).groupby("client"):
        t = rows["session"].to_numpy()
        gamma = fit["within_var"] * fit["autocorrelation"] ** np.abs(t[:, None] - t[None, :])
        values.append(fit["between_var"] / (fit["between_var"] + gamma.sum() / len(t) ** 2))
        white.append(tau / (tau + sigma / len(t)))
    assert fit["reliability"] == pytest.approx(np.mean(values), rel=1e-9)
    assert fit["reliability_median"] == pytest.approx(np.median(values), rel=1e-9)
    assert fit["white_noise"] == pytest.approx(np.mean(white), rel=1e-9)
    assert fit["white_noise_median"] == pytest.approx(np.median(white), rel=1e-9)
    assert fit["clients"] == len(values)
    assert fit["reliability"] < fit["white_noise"]


def test_reliability_finds_the_truth_that_white_noise_overstates():
    """Known stable variance 1, stationary AR(1) at .45: squared correlation of mean, level."""
    rng = np.random.default_rng(7)
    clients, sessions, phi = 4000, 8, 0.45
    state = rng.normal(size=clients)
    level = rng.normal(size=clients)
    scores = []
    for _ in range(sessions):
        scores.append(level + state)
        state = phi * state + np.sqrt(1 - phi**2) * rng.normal(size=clients)
    Y = np.column_stack(scores)
    frame = pd.DataFrame(
        {
            "client": np.repeat([f"{i}" for i in range(clients)], sessions),
            "session": np.tile(np.arange(1, sessions + 1), clients),
            "alliance": Y.ravel(),
            "symptoms": -Y.ravel(),
        }
    )
    reliability = decompose(make_panel(frame)).reliability.loc["alliance"]
    truth = np.corrcoef(Y.mean(axis=1), level)[0, 1] ** 2
    assert reliability["reliability"] == pytest.approx(truth, abs=0.02)
    assert reliability["autocorrelation"] == pytest.approx(phi, abs=0.03)
    assert reliability["white_noise"] > truth + 0.1


def fallen(seed, fall=-1.0, clients=80, sessions=8):
    """Draw panels in which all symptoms fall: half of the rest is stable, nothing goes together."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(clients, 1, 2)) + rng.normal(size=(clients, sessions, 2))
    scores += np.arange(sessions)[None, :, None] * [0.15, fall]
    client, session = np.divmod(np.arange(clients * sessions), sessions)
    frame = pd.DataFrame(scores.reshape(-1, 2), columns=NAMES)
    frame.insert(0, "client", [f"C{i:03d}" for i in client])
    frame.insert(1, "session", session + 1)
    return frame[(session < 3) | (rng.random(len(frame)) < 0.8)]


@pytest.mark.parametrize("fall", [-1.0, 0.0])
def test_a_course_that_all_share_is_neither_level_nor_change_within_clients(fall):
    """With and without a course: variance 1 and 1, ICC .5, reliability 7/8 or so, no relation."""
    found = [decompose(make_panel(fallen(seed, fall))) for seed in range(12)]
    icc, reliability, related, error = (
        np.array(one)
        for one in zip(
            *(
                (
                    d.icc.loc["client", "symptoms"],
                    d.reliability.loc["symptoms", "reliability"],
                    d.correlation_within.loc["alliance", "symptoms"],
                    d.variance.loc["session", "symptoms"],
                )
                for d in found
            ),
            strict=True,
        )
    )
    assert abs(icc.mean() - 0.5) < 0.04 and abs(error.mean() - 1.0) < 0.04
    assert abs(reliability.mean() - 0.87) < 0.04 and reliability.min() > 0.7
    assert abs(related.mean()) < 0.03
    assert not any(d.boundary for d in found)
    # As before without the course, to the last digit.
    straight = decompose(make_panel(fallen(3, 0.0)))
    np.testing.assert_allclose(found[3].icc, straight.icc, rtol=1e-5)
    np.testing.assert_allclose(found[3].within[NAMES], straight.within[NAMES], atol=1e-9)


def test_numbers_with_the_course_left_in_say_so():
    parts = decompose(make_panel(fallen(0, -2.0)), None)
    assert parts.correlation_within.loc["alliance", "symptoms"] < -0.2
    assert "a course that all share is in it" in str(parts)
    assert "the course that all clients share left in" in parts.estimator
    assert any('judge by trend="session"' in sentence for sentence in parts.boundary)
    assert "the shared course" in decompose(make_panel(fallen(0, -2.0))).estimator


def test_therapist_level_is_refused_where_it_cannot_be_estimated():
    frame = make_frame()
    with pytest.raises(SpecificationError, match="two therapists; this panel names 0"):
        decompose(make_panel(frame), levels=("therapist", "client"))
    single = make_panel(frame.assign(therapist="T1"), therapist="therapist")
    with pytest.raises(SpecificationError, match="two therapists; this panel names 1"):
        decompose(single, levels=("therapist", "client"))
    own = make_panel(frame.assign(therapist=frame["client"]), therapist="therapist")
    with pytest.raises(SpecificationError, match="one therapist with two clients"):
        decompose(own, levels=("therapist", "client"))


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"trend": "quadratic"}, "trend is 'quadratic'; choose 'session'"),
        ({"levels": ("client", "therapist")}, "Unknown levels"),
        ({"levels": ()}, "Unknown levels"),
    ],
)
def test_unknown_options_are_refused(options, fragment):
    with pytest.raises(SpecificationError, match=fragment):
        decompose(make_panel(make_frame()), **options)


def test_switches_and_unknown_therapists_are_named():
    frame = make_frame(clients=12, seen=1.1, therapists=3)
    frame.loc[(frame["client"] == "C004") & (frame["session"] > 6), "therapist"] = "T2"
    frame.loc[frame["client"] == "C005", "therapist"] = None
    parts = decompose(
        make_panel(frame, therapist="therapist"), None, levels=("therapist", "client")
    )
    found = {issue.code: issue for issue in parts.issues}
    assert (
        found["therapist-switches"].count == 1 and "'C004'" in found["therapist-switches"].message
    )
    assert found["missing-therapist"].count == 1 and "'C005'" in found["missing-therapist"].message
    stayed = frame[frame["client"] != "C005"].copy()
    stayed.loc[stayed["client"] == "C004", "therapist"] = "T1"
    plain = decompose(
        make_panel(stayed, therapist="therapist"), None, levels=("therapist", "client")
    )
    np.testing.assert_allclose(parts.variance, plain.variance, rtol=1e-9)


def test_single_scores_are_named_and_kept_out_of_within_correlations():
    frame = make_frame(clients=15, seen=1.1)
    frame = frame[(frame["client"] > "C001") | (frame["session"] == 1)]
    parts = decompose(make_panel(frame))
    found = [issue for issue in parts.issues if issue.code == "single-scores"]
    assert [issue.count for issue in found] == [2, 2]
    assert parts.pairs_within.loc["alliance", "symptoms"] == len(frame) - 2
    lonely = parts.within[parts.within["client"] <= "C001"]
    assert (lonely[NAMES] == 0.0).all(axis=None)


def test_a_variable_without_change_is_set_aside_not_fatal():
    frame = make_frame(clients=15, seen=1.1)
    frame["symptoms"] = frame.groupby("client")["symptoms"].transform("first")
    parts = decompose(make_panel(frame))
    assert parts.variance["symptoms"].isna().all()
    assert np.isnan(parts.reliability.loc["symptoms", "reliability"])
    assert parts.reliability.loc["symptoms", "clients"] == 0
    assert parts.variance["alliance"].notna().all()
    found = [issue for issue in parts.issues if issue.code == "not-estimable"]
    assert len(found) == 1 and "variances of symptoms" in found[0].message


@pytest.mark.parametrize("trend", TRENDS)
def test_one_score_per_client_has_no_within_part(trend):
    frame = make_frame(clients=15, sessions=2, seen=1.1)
    frame.loc[frame["session"] == 1, "symptoms"] = np.nan
    frame.loc[frame["session"] == 2, "alliance"] = np.nan
    parts = decompose(make_panel(frame), trend)
    assert parts.variance.isna().all(axis=None)
    assert parts.reliability["reliability"].isna().all()
    assert parts.pairs_within.to_numpy().sum() == 0


@pytest.mark.parametrize("trend", TRENDS)
def test_a_variable_never_seen_is_survived(trend):
    frame = make_frame(clients=10, seen=1.1).assign(symptoms=np.nan)
    frame.loc[0, "symptoms"] = 3.0
    parts = decompose(make_panel(frame), trend)
    assert parts.variance["symptoms"].isna().all()
    assert parts.variance["alliance"].notna().all()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), factor=st.sampled_from([0.01, 3.0, 250.0]))
@pytest.mark.parametrize("trend", TRENDS)
def test_rescaling_and_relabelling(trend, seed, factor):
    frame = make_frame(seed=seed, clients=25, seen=0.8)
    base = decompose(make_panel(frame), trend)
    moved = frame.assign(
        alliance=factor * frame["alliance"] + 7,
        client="x" + frame["client"],
        session=frame.session + 4,
    )
    other = decompose(make_panel(moved), trend)
    np.testing.assert_allclose(
        other.variance["alliance"], factor**2 * base.variance["alliance"], rtol=1e-5, atol=1e-9
    )
    np.testing.assert_allclose(other.icc, base.icc, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(
        other.within["alliance"], factor * base.within["alliance"], rtol=1e-9, atol=1e-9 * factor
    )
    np.testing.assert_allclose(
        other.reliability["reliability"], base.reliability["reliability"], rtol=1e-3, atol=1e-6
    )
    np.testing.assert_allclose(other.correlation_within, base.correlation_within, rtol=1e-8)


def test_three_variables_and_printing():
    frame = make_frame(seen=0.8).assign(mood=lambda d: d["alliance"] - 0.3 * d["symptoms"])
    parts = decompose(make_panel(frame, names=[*NAMES, "mood"]))
    assert parts.correlation_within.shape == (3, 3)
    assert repr(parts) == (
        "Decomposition(alliance, symptoms, mood; 40 clients; trend='session', levels=client)"
    )
    assert "\n" not in repr(parts)
    text, html = str(parts), parts._repr_html_()
    for piece in ("Intraclass correlation", "Reliability of the person mean", "mood", "REML"):
        assert piece in text and piece in html
    assert html.count("<table") == 7


def test_the_panel_is_not_altered():
    panel = make_panel(make_frame())
    before = panel.frame
    parts = decompose(panel, "linear")
    parts.within.iloc[:, 2:] = 0.0
    pd.testing.assert_frame_equal(panel.frame, before)


@pytest.mark.reference
@pytest.mark.parametrize("trend", TRENDS)
def test_the_real_trial_names_its_therapist_variance(trend):
    frame = pd.read_csv(
        published_dir() / "A1_implement_wai_bai" / "sessions_long.csv",
        dtype={"client": str, "therapist": str},
    )
    panel = make_panel(frame, ["wai", "bai"], therapist="therapist")
    parts = decompose(panel, trend, levels=("therapist", "client"))
    assert parts.variance.loc["therapist", "bai"] == 0.0
    assert parts.icc.loc["therapist", "bai"] == 0.0
    text = "therapist variance of bai is estimated at zero (its lower bound, REML): "
    assert sum(sentence.startswith(text) for sentence in parts.boundary) == 1
    assert len(parts.between) == 57 and "13 therapist means" in " ".join(parts.boundary)
    if trend is None:  # lme4 1.1-31, REML, (1 | client) + (1 | therapist)
        expected = [
            [0.00422369965, 0.0],
            [0.28589769426, 0.1509344756],
            [0.12086633288, 0.106933079],
        ]
        np.testing.assert_allclose(parts.variance, expected, rtol=2e-3, atol=1e-12)
    if trend == "linear":
        found = [issue for issue in parts.issues if issue.code == "trend-not-estimable"]
        assert [issue.count for issue in found] == [2]
