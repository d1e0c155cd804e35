"""Dynamic-panel GMM against plm, against dense sums, and against its own definition.

Tolerances. Both sides solve the same linear equations from the same numbers, so they agree to
rounding: 1e-9 of a figure that is itself of order 1 (plm prints about 15 digits). Figures typed
from a printed table agree to its digits.
"""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dense_gmm import dense_gmm
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference_files import panel_frame, published_dir, simulated, simulated_names

from alliancedyn.engine import GMMFit, fit_gmm
from alliancedyn.errors import DataError, SpecificationError

Array = NDArray[np.float64]

ROUNDING = 1e-9
CASE = "dynamic_panel"
PHI = ("phi[symptoms,symptoms]", "phi[symptoms,alliance]")
SUMS = [name for name in simulated_names(CASE) if name.startswith("numpy_")]
PLM = [name for name in simulated_names(CASE) if not name.startswith("numpy_") and "ml" not in name]


def lagged(frame: pd.DataFrame, column: str, by: int = 1) -> Array:
    """Take a column at the session ``by`` numbers before; NaN where there was none."""
    before = frame[["client", "session", column]].assign(session=frame["session"] + by)
    joined = frame[["client", "session"]].merge(before, how="left", on=["client", "session"])
    return joined[column].to_numpy(float)


def fit_frame(frame: pd.DataFrame, lags: Any = (2, None), **options: Any) -> GMMFit:
    X = np.column_stack([lagged(frame, "symptoms"), lagged(frame, "alliance")])
    series = [(frame["symptoms"], tuple(lags)), (frame["alliance"], tuple(lags))]
    return fit_gmm(frame["symptoms"], X, frame["client"], frame["session"], gmm=series, **options)


def drawn(n: int = 60, T: int = 7, missing: float = 0.15, seed: int = 3) -> pd.DataFrame:
    """Draw a panel with single scores missing, a session mean, and clients of unequal length."""
    rng = np.random.default_rng(seed)
    level = rng.normal(size=(n, 2))
    s, a = np.empty((n, T)), np.empty((n, T))
    for t in range(T):
        s[:, t] = rng.normal(size=n) + (0.4 * s[:, t - 1] - 0.2 * a[:, t - 1] if t else 0.0)
        a[:, t] = rng.normal(size=n) + (0.3 * a[:, t - 1] if t else 0.0) - 0.1 * s[:, t]
    s, a = s + level[:, :1] - 0.3 * np.arange(T), a + level[:, 1:]
    ends = rng.integers(4, T + 1, size=n)[:, None] <= np.arange(T)
    for table in (s, a):
        table[(rng.random((n, T)) < missing) | ends] = np.nan
    frame = pd.DataFrame(
        {
            "client": np.repeat(np.arange(n), T),
            "session": np.tile(np.arange(1, T + 1), n),
            "symptoms": s.ravel(),
            "alliance": a.ravel(),
        }
    )
    return frame[~(frame["symptoms"].isna() & frame["alliance"].isna())].reset_index(drop=True)


def tables(frame: pd.DataFrame) -> tuple[Array, Array, list[Array]]:
    """Lay a panel out for the dense route."""
    wide = [
        frame.pivot(index="client", columns="session", values=v).to_numpy(float)
        for v in ("symptoms", "alliance")
    ]
    X = np.full((*wide[0].shape, 2), np.nan)
    for j in range(2):
        X[:, 1:, j] = wide[j][:, :-1]
    return wide[0], X, wide


# -- peers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("name", SUMS)
def test_every_figure_of_the_dense_sums(name: str, steps: int) -> None:
    peer = simulated(CASE, name)
    frame = panel_frame(CASE, "unbalanced" if "unbalanced" in name else "balanced")
    fit = fit_frame(
        frame,
        peer["lags"],
        transform=peer["transform"],
        collapse=peer["collapse"],
        session_effects=peer["session_effects"],
        steps=steps,
    )
    step = peer["onestep" if steps == 1 else "twostep"]
    for at, effect in enumerate(PHI):
        own = step["params"][effect]
        assert fit.beta[at] == pytest.approx(own["estimate"], abs=ROUNDING)
        assert np.sqrt(fit.cov[at, at]) == pytest.approx(own["se_robust"], abs=ROUNDING)
        conventional = np.sqrt(fit.cov_conventional[at, at])
        assert conventional == pytest.approx(own["se_conventional"], abs=ROUNDING)
    assert fit.cov[:2, :2] == pytest.approx(np.array(step["vcov_robust"]), abs=ROUNDING)
    test, own = (fit.sargan, step["sargan"]) if steps == 1 else (fit.hansen, step["hansen"])
    assert (test.statistic, test.pvalue) == pytest.approx(
        (own["statistic"], own["pvalue"]), abs=ROUNDING
    )
    assert test.df == own["df"]
    for test, key in ((fit.m1, "m1"), (fit.m2, "m2")):
        if key in step:
            assert test.statistic == pytest.approx(step[key]["statistic"], abs=ROUNDING)
            assert test.pvalue == pytest.approx(step[key]["pvalue"], abs=ROUNDING)
    if peer["session_effects"] and peer["transform"] == "difference":
        assert fit.beta[2:] == pytest.approx(np.array(step["session_columns"]), abs=1e-8)
    assert fit.n_instruments == peer["instruments"]
    assert fit.rank == peer["weight_rank"]
    assert fit.n_rows == peer["rows"]
    assert fit.n_clients == peer["clients_with_rows"]
    assert fit.sigma2 == pytest.approx(peer["sigma2_onestep"], abs=1e-8)


@pytest.mark.parametrize("name", PLM)
def test_estimates_and_errors_of_plm(name: str) -> None:
    peer = simulated(CASE, name)
    frame = panel_frame(CASE, "unbalanced" if "unbalanced" in name else "balanced")
    fit = fit_frame(
        frame,
        (2, 4) if "lags2to4" in name else (2, None),
        collapse="collapsed" in name,
        session_effects="nosessions" not in name,
        steps=1 if "onestep" in name else 2,
        system="system" in name,
    )
    for at, effect in enumerate(PHI):
        own = peer["params"][effect]
        assert fit.beta[at] == pytest.approx(own["estimate"], abs=ROUNDING)
        assert np.sqrt(fit.cov[at, at]) == pytest.approx(own["se_robust"], abs=ROUNDING)
    assert fit.n_instruments == peer["instruments"]
    if fit.hansen.df is not None:
        assert fit.hansen.statistic == pytest.approx(peer["hansen"]["statistic"], abs=1e-8)


def employment(published: Any) -> tuple[pd.DataFrame, Array]:
    """Read Arellano and Bond's firms: log employment n, wage w, capital k, industry output ys."""
    frame = pd.read_csv(published / "C1_empluk" / "empluk.csv")
    frame = frame.rename(columns={"firm": "client", "year": "session"})
    for short, long in {"n": "emp", "w": "wage", "k": "capital", "ys": "output"}.items():
        frame[short] = np.log(frame[long])
    terms = [("n", 1), ("n", 2), ("w", 0), ("w", 1), ("k", 0), ("k", 1), ("k", 2)]
    terms += [("ys", 0), ("ys", 1), ("ys", 2)]
    return frame, np.column_stack([lagged(frame, name, by) for name, by in terms])


def fit_employment(frame: pd.DataFrame, X: Array, steps: int) -> GMMFit:
    return fit_gmm(
        frame["n"],
        X,
        frame["client"],
        frame["session"],
        gmm=[(frame["n"], (2, None))],
        iv=X[:, 2:],
        steps=steps,
        session_effects=True,
    )


@pytest.mark.reference
@pytest.mark.parametrize(
    ("key", "steps"),
    [
        ("table4_a1_onestep_robust", 1),
        ("table4_a2_twostep_windmeijer", 2),
        ("table4_b_onestep_robust", 1),
        ("table4_b_twostep_windmeijer", 2),
    ],
)
def test_arellano_and_bond_table_4(key: str, steps: int) -> None:
    folder = published_dir()
    peer = json.loads((folder / "C1_empluk" / "peer_results.json").read_text("utf-8"))[key]
    frame, X = employment(folder)
    if "_b_" in key:
        X = X[:, [0, 1, 2, 3, 4, 7, 8]]
    fit = fit_employment(frame, X, steps)
    q = X.shape[1]
    assert fit.beta[:q] == pytest.approx(np.array(list(peer["coef"].values())), abs=1e-9)
    assert np.sqrt(np.diag(fit.cov))[:q] == pytest.approx(
        np.array(list(peer["se"].values())), abs=1e-9
    )
    assert fit.m1.statistic == pytest.approx(peer["m1"][0][0], abs=1e-9)
    assert fit.m2.statistic == pytest.approx(peer["m2"][0][0], abs=1e-9)
    if steps == 2:
        assert fit.hansen.statistic == pytest.approx(peer["sargan"]["stat"], abs=1e-9)
        assert fit.hansen.df == peer["sargan"]["df"]


@pytest.mark.reference
def test_printed_digits_of_table_4_and_three_sargan_statistics() -> None:
    frame, X = employment(published_dir())
    one = fit_employment(frame, X, 1)
    assert round(one.beta[0], 3) == 0.686
    assert round(float(np.sqrt(one.cov[0, 0])), 3) == 0.145
    assert round(one.m2.statistic, 3) == -0.516
    two = fit_employment(frame, X[:, [0, 1, 2, 3, 4, 7, 8]], 2)
    conventional = np.sqrt(np.diag(two.cov_conventional))[:7]
    assert np.round(two.beta[:7], 3).tolist() == [
        0.474,
        -0.053,
        -0.513,
        0.225,
        0.293,
        0.610,
        -0.446,
    ]
    assert np.round(conventional, 3).tolist() == [0.085, 0.027, 0.049, 0.080, 0.039, 0.109, 0.125]
    assert round(two.hansen.statistic, 1) == 30.1
    # The paper's 65.8 divides the residual variance by rows less coefficients, ours by rows (as
    # the sums above do). The 48.75 that plm prints after a robust first step is another statistic:
    # one-step residuals with two-step weights.
    assert one.sargan.statistic == pytest.approx(67.588, abs=1e-3)
    assert one.sargan.statistic * (611 - 16) / 611 == pytest.approx(65.8, abs=0.05)
    assert (one.n_rows, len(one.beta)) == (611, 16)


# -- a second route ------------------------------------------------------------------------------


@pytest.mark.parametrize("system", [False, True])
@pytest.mark.parametrize("effects", [False, True])
@pytest.mark.parametrize("collapse", [False, True])
@pytest.mark.parametrize("transform", ["difference", "orthogonal"])
def test_unbalanced_panels_client_by_client(
    transform: str, collapse: bool, effects: bool, system: bool
) -> None:
    frame = drawn(n=150, T=6)
    y, X, series = tables(frame)
    lags = (2, 3)
    dense = dense_gmm(
        y,
        X,
        series,
        [lags, lags],
        transform=transform,
        collapse=collapse,
        effects=effects,
        system=system,
    )
    for steps, key in ((1, "one"), (2, "two")):
        fit = fit_frame(
            frame,
            lags,
            transform=transform,
            collapse=collapse,
            session_effects=effects,
            system=system,
            steps=steps,
        )
        beta, cov = dense[key]
        assert fit.beta[:2] == pytest.approx(beta[:2], abs=1e-8)
        assert fit.cov[:2, :2] == pytest.approx(cov[:2, :2], abs=1e-8)
    assert fit.hansen.statistic == pytest.approx(dense["hansen"], abs=1e-6)
    assert fit.rank == dense["instruments"]


def test_session_effects_belong_inside_the_instrument_matrix() -> None:
    frame = drawn(n=200, T=6, missing=0.0)
    shifted = frame.assign(symptoms=frame["symptoms"] + 5.0 * np.sin(3.0 * frame["session"]))
    for collapse in (False, True):
        own = [
            fit_frame(data, (2, 3), session_effects=True, collapse=collapse)
            for data in (frame, shifted)
        ]
        # What all clients share at a session says nothing about lagged effects.
        assert own[1].beta[:2] == pytest.approx(own[0].beta[:2], abs=1e-8)
        assert own[1].hansen.statistic == pytest.approx(own[0].hansen.statistic, abs=1e-6)
        outside = []
        for data in (frame, shifted):
            y, X, series = tables(data)
            found = dense_gmm(
                y,
                X,
                series,
                [(2, 3), (2, 3)],
                collapse=collapse,
                effects=True,
                effects_in_z=False,
            )
            outside.append(found["two"][0][:2])
        assert abs(outside[1] - outside[0]).max() > 0.01  # what leaving them outside does


def test_gaps_are_not_closed() -> None:
    frame = drawn(n=200, missing=0.0)
    holed = frame[~((frame["session"] == 4) & (frame["client"] % 2 == 0))]
    blank = frame.copy()
    gone = (blank["session"] == 4) & (blank["client"] % 2 == 0)
    blank.loc[gone, ["symptoms", "alliance"]] = np.nan
    closed = holed.assign(session=holed.groupby("client").cumcount() + 1)
    as_gap, as_blank, renumbered = (fit_frame(data) for data in (holed, blank, closed))
    assert as_gap.beta == pytest.approx(as_blank.beta, abs=1e-12)
    assert as_gap.n_rows == as_blank.n_rows < renumbered.n_rows
    assert abs(as_gap.beta - renumbered.beta).max() > 0.005


# -- its own definition --------------------------------------------------------------------------


@pytest.mark.parametrize("system", [False, True])
@pytest.mark.parametrize("transform", ["difference", "orthogonal"])
@pytest.mark.parametrize("steps", [1, 2])
def test_shares_of_clients_make_the_covariance(steps: int, transform: str, system: bool) -> None:
    frame = panel_frame(CASE, "unbalanced")
    fit = fit_frame(
        frame, (2, 4), steps=steps, transform=transform, system=system, session_effects=True
    )
    assert fit.influence.shape == (len(fit.clients), len(fit.beta))
    assert fit.influence.T @ fit.influence == pytest.approx(fit.cov, abs=1e-10)
    # One-step shares are those of the estimate itself: they add up to nothing at the solution.
    if steps == 1:
        assert abs(fit.influence.sum(axis=0)).max() < 1e-9


def test_a_share_is_what_leaving_the_client_out_changes() -> None:
    frame = panel_frame(CASE, "balanced")
    fit = fit_frame(frame, (2, 4), steps=1, collapse=True)
    weight = np.abs(fit.influence[:, 0])
    for at in np.argsort(weight)[-5:]:
        rest = frame[frame["client"] != fit.clients[at]]
        change = fit.beta - fit_frame(rest, (2, 4), steps=1, collapse=True).beta
        # First order: off by the weight that one client of 200 has in the sums.
        assert change == pytest.approx(fit.influence[at], rel=0.25)


def test_difference_in_hansen_finds_the_series_that_is_no_instrument() -> None:
    frame = drawn(n=600, missing=0.05, seed=8)
    X = np.column_stack([lagged(frame, "symptoms"), lagged(frame, "alliance")])
    alliance, symptoms = frame["alliance"], frame["symptoms"]
    good = fit_gmm(
        symptoms,
        X,
        frame["client"],
        frame["session"],
        gmm=[(symptoms, (2, None)), (alliance, (2, None))],
    )
    assert [test.df for test in good.difference_hansen] == [15, 15]
    assert all(0.0 <= t.statistic <= good.hansen.statistic for t in good.difference_hansen)
    assert all(test.pvalue > 0.01 for test in good.difference_hansen)
    # The last session's symptoms hold the last session's shock, which is in the difference.
    bad = fit_gmm(
        symptoms,
        X,
        frame["client"],
        frame["session"],
        gmm=[(symptoms, (2, None)), (alliance, (2, None)), (symptoms, (1, 1))],
    )
    assert bad.difference_hansen[2].pvalue < 1e-6
    # What is left over is the test of the good instruments alone, weighed by nearly the same S.
    left = bad.hansen.statistic - bad.difference_hansen[2].statistic
    assert left == pytest.approx(good.hansen.statistic, rel=0.3)


def test_errors_without_memory_pass_and_errors_with_memory_fail() -> None:
    rng = np.random.default_rng(5)
    n, T = 800, 8
    for moving_average, passes in ((0.0, True), (0.6, False)):
        e = rng.normal(size=(n, T + 1))
        y = np.zeros((n, T))
        level = rng.normal(size=n)
        for t in range(T):
            u = e[:, t + 1] + moving_average * e[:, t]
            y[:, t] = level + u + (0.4 * (y[:, t - 1] - level) if t else 0.0)
        lag = np.full((n, T), np.nan)
        lag[:, 1:] = y[:, :-1]
        client, session = np.repeat(np.arange(n), T), np.tile(np.arange(T), n)
        fit = fit_gmm(y.ravel(), lag.reshape(-1, 1), client, session, gmm=[(y.ravel(), (2, 4))])
        assert fit.m1.pvalue < 1e-6
        assert (fit.m2.pvalue > 0.01) == passes
        assert (fit.hansen.pvalue > 0.01) == passes


@pytest.mark.parametrize("transform", ["difference", "orthogonal"])
def test_rows_in_any_order_and_any_labels(transform: str) -> None:
    frame = drawn()
    order = np.random.default_rng(0).permutation(len(frame))
    mixed = frame.iloc[order].reset_index(drop=True)
    named = frame.assign(client=[f"C{9999 - c:05d}" for c in frame["client"]])
    later = frame.assign(session=frame["session"] + 7, client=frame["client"] * 1000 - 5)
    options: dict[str, Any] = {"transform": transform, "session_effects": True, "collapse": True}
    fit = fit_frame(frame, **options)
    for other in (mixed, named, later):
        found = fit_frame(other, **options)
        assert found.beta == pytest.approx(fit.beta, abs=1e-10)
        assert found.cov == pytest.approx(fit.cov, abs=1e-10)
        assert found.m1.statistic == pytest.approx(fit.m1.statistic, abs=1e-8)
    assert fit_frame(mixed, **options).residuals == pytest.approx(
        fit.residuals[order], abs=1e-10, nan_ok=True
    )
    assert fit_frame(later, **options).effects == tuple(s + 7 for s in fit.effects)


def test_a_client_without_rows_changes_nothing() -> None:
    frame = drawn()
    lone = pd.DataFrame({"client": [900], "session": [1], "symptoms": [99.0], "alliance": [99.0]})
    more = pd.concat([frame, lone], ignore_index=True)
    fit, other = fit_frame(frame), fit_frame(more)
    assert other.beta == pytest.approx(fit.beta, abs=1e-10)
    assert (other.influence[-1] == 0.0).all()
    assert other.n_clients == fit.n_clients


@settings(max_examples=15, deadline=None)
@given(
    a=st.floats(1e-3, 1e3),
    s=st.floats(1e-3, 1e3),
    transform=st.sampled_from(["difference", "orthogonal"]),
    steps=st.sampled_from([1, 2]),
)
def test_rescaling_a_score_rescales_its_effect(
    a: float, s: float, transform: str, steps: int
) -> None:
    frame = drawn()
    scaled = frame.assign(alliance=a * frame["alliance"], symptoms=s * frame["symptoms"])
    options: dict[str, Any] = {
        "transform": transform,
        "steps": steps,
        "collapse": True,
        "session_effects": True,
    }
    fit, other = fit_frame(frame, **options), fit_frame(scaled, **options)
    assert other.beta[0] == pytest.approx(fit.beta[0], rel=1e-7, abs=1e-9)
    assert other.beta[1] == pytest.approx(fit.beta[1] * s / a, rel=1e-7)
    assert other.m1.statistic == pytest.approx(fit.m1.statistic, rel=1e-7)


def test_more_instruments_than_clients_are_weighed_and_said() -> None:
    few = drawn(n=12, T=8, missing=0.0)
    fit = fit_frame(few, session_effects=True)
    assert fit.rank < fit.n_instruments
    assert "rank" in fit.notes[0]
    assert np.isfinite(fit.cov).all()
    scaled = fit_frame(few.assign(alliance=100.0 * few["alliance"]), session_effects=True)
    assert scaled.beta[1] * 100.0 == pytest.approx(fit.beta[1], rel=1e-5)


def test_a_repeated_instrument_changes_nothing() -> None:
    frame = drawn(n=200)
    X = np.column_stack([lagged(frame, "symptoms"), lagged(frame, "alliance")])
    series = [(frame["symptoms"], (2, None)), (frame["alliance"], (2, None))]
    one = fit_gmm(frame["symptoms"], X, frame["client"], frame["session"], gmm=series)
    twice = fit_gmm(
        frame["symptoms"], X, frame["client"], frame["session"], gmm=[*series, series[0]]
    )
    assert twice.beta == pytest.approx(one.beta, abs=1e-7)
    assert twice.rank == one.rank < twice.n_instruments
    assert twice.hansen.statistic == pytest.approx(one.hansen.statistic, abs=1e-6)


def test_memory_grows_with_clients_and_no_faster() -> None:
    used = []
    for n in (500, 2000):
        frame = drawn(n=n, T=8, missing=0.0)
        fit_frame(frame, session_effects=True)
        tracemalloc.start()
        fit_frame(frame, session_effects=True)
        used.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert used[1] < 4.6 * used[0]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"transform": "demean"}, SpecificationError, "choose 'difference' or 'orthogonal'"),
        ({"steps": 3}, SpecificationError, "choose 1 or 2"),
        ({"lags": (0, 2)}, SpecificationError, "must start at 1 or later"),
        ({"lags": (3, 2)}, SpecificationError, "not end before"),
        ({"intercept": True}, SpecificationError, "lost in transformed rows"),
        ({"lags": (7, 9)}, SpecificationError, "cannot identify"),
        ({"y": np.inf}, DataError, "y holds 1 infinite"),
        ({"client": np.nan}, DataError, "client is missing in 1 rows"),
        ({"session": np.nan}, DataError, "session is missing in 1 rows"),
        ({"session": 1.5}, DataError, "whole numbers"),
        ({"session": 10**9}, DataError, "more than the 1,000"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_fitted_says_so(
    change: dict[str, Any], error: type[Exception], says: str
) -> None:
    frame = drawn(n=30)
    X = np.column_stack([lagged(frame, "symptoms"), lagged(frame, "alliance")])
    columns = {
        "y": frame["symptoms"].to_numpy(float).copy(),
        "client": frame["client"].to_numpy(float),
        "session": frame["session"].to_numpy(float),
    }
    options = dict(change)
    lags = options.pop("lags", (2, None))
    for name in ("y", "client", "session"):
        if name in options:
            columns[name][0] = options.pop(name)
    series = [(frame["symptoms"], lags), (frame["alliance"], lags)]
    with pytest.raises(error, match=says):
        fit_gmm(columns["y"], X, columns["client"], columns["session"], gmm=series, **options)


def test_duplicates_lengths_and_empty_panels_are_refused() -> None:
    frame = drawn(n=30)
    twice = pd.concat([frame, frame.iloc[:1]], ignore_index=True)
    X = np.ones((len(twice), 1))
    with pytest.raises(DataError, match="More than one row at the same session for client '0'"):
        fit_gmm(twice["symptoms"], X, twice["client"], twice["session"], gmm=[])
    with pytest.raises(DataError, match="one row per client and session each"):
        fit_gmm(twice["symptoms"], X[:-1], twice["client"], twice["session"], gmm=[])
    with pytest.raises(DataError, match="gmm has 3 rows"):
        fit_gmm(
            frame["symptoms"],
            lagged(frame, "symptoms")[:, None],
            frame["client"],
            frame["session"],
            gmm=[(np.ones(3), (2, None))],
        )
    with pytest.raises(SpecificationError, match="No client has two sessions"):
        fit_frame(frame[frame["session"] < 2])
    constant = np.column_stack([lagged(frame, "symptoms"), np.ones(len(frame))])
    with pytest.raises(SpecificationError, match="do not identify all coefficients"):
        fit_gmm(
            frame["symptoms"],
            constant,
            frame["client"],
            frame["session"],
            gmm=[(frame["symptoms"], (2, None))],
        )
