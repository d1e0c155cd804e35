"""Fixed effects against dummies by statsmodels, plm, linearmodels and exact limits."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.typing import NDArray
from reference_files import SIMULATED

import alliancedyn as ad
from alliancedyn import Dynamics, InferenceWarning, SessionPanel, SpecificationError, simulate
from alliancedyn.engine.client_contrasts import RandomEffects, hausman, mundlak, random_effects
from alliancedyn.engine.two_way import Grid, correct_by_halves, estimate_within
from alliancedyn.models.fixed_effects import FixedEffects

Array = NDArray[np.float64]

EXACT = 1e-9  # two exact solutions of the same normal equations, relative
PLM = 1e-8  # plm solves by QR and prints 15 digits
MC = 4.0  # Monte Carlo errors that chance allows; one figure in 16,000 lies further out
TABLE = 0.004  # Monte Carlo error of the published benchmark figures

V = ("alliance", "symptoms")
TIMING = {"alliance": "after", "symptoms": "before"}
WORLD = Dynamics.time_ordered(
    0.35, 0.45, -0.12, -0.10, between_cov=[[1.0, -0.3], [-0.3, 1.0]], mean=(5.0, 10.0)
)
REFERENCE = Path(__file__).parent / "reference" / "fixed_effects"


def as_panel(frame: pd.DataFrame, **more: Any) -> SessionPanel:
    return SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables={v: v for v in V},
        process="alliance",
        outcome="symptoms",
        timing=TIMING,
        **more,
    )


def gappy(seed: int, clients: int = 60, sessions: int = 9, missing: float = 0.15) -> pd.DataFrame:
    """Draw a world and lose single scores and whole sessions."""
    frame = simulate(WORLD, clients=clients, sessions=sessions, seed=seed).frame
    frame = frame[["client", "session", *V]]
    rng = np.random.default_rng(seed)
    values = frame[list(V)].to_numpy(float).copy()
    values[rng.random(values.shape) < missing] = np.nan
    values[rng.random(len(values)) < missing / 2] = np.nan
    values[:, 1] -= 0.4 * np.sqrt(frame["session"])
    frame = frame.assign(**dict(zip(V, values.T, strict=True)))
    frame["crisis"] = (rng.random(len(frame)) < 0.2) * 1.0
    frame["therapist"] = "T" + (pd.factorize(frame["client"])[0] % 11).astype(str)
    return frame[frame[list(V)].notna().any(axis=1)]


def complete_rows(frame: pd.DataFrame, y: str = "symptoms", x: str = "alliance") -> pd.DataFrame:
    """Join every session with the one numbered before it; keep rows with all terms."""
    before = frame[["client", "session", *V]].assign(session=frame["session"] + 1)
    rows = frame.merge(before, on=["client", "session"], suffixes=("", "_before"))
    rows = rows.assign(y=rows[y], ly=rows[f"{y}_before"], lx=rows[f"{x}_before"])
    rows = rows.dropna(subset=["y", "ly", "lx"]).sort_values(["client", "session"])
    return rows[rows.groupby("client")["y"].transform("size") > 1].reset_index(drop=True)


def design(rows: pd.DataFrame, sessions: bool = True, more: tuple[str, ...] = ()) -> Array:
    """Write every column out: effects, session indicators, client indicators."""
    columns = [rows[["ly", "lx", *more]].to_numpy(float)]
    if sessions:
        columns.append(pd.get_dummies(rows["session"], drop_first=True).to_numpy(float))
    columns.append(pd.get_dummies(rows["client"]).to_numpy(float))
    return np.concatenate(columns, axis=1)


def dummies(rows: pd.DataFrame, Z: Array, groups: Any = None) -> Any:
    """Least squares with all columns written out."""
    model = sm.OLS(rows["y"].to_numpy(), Z)
    if groups is None:
        return model.fit()
    return model.fit(
        cov_type="cluster",
        cov_kwds={"groups": pd.factorize(groups)[0], "use_correction": False},
    )


def plain(**options: Any) -> FixedEffects:
    return FixedEffects(bias_correction=None, **options)


# -- estimates and errors against dummies ----------------------------------------------------------


@pytest.mark.parametrize("sessions", [True, False])
def test_estimates_are_those_with_a_column_for_every_client(sessions: bool) -> None:
    frame = gappy(1)
    rows = complete_rows(frame)
    peer = dummies(rows, design(rows, sessions))
    fit = plain(session_effects=sessions).fit(as_panel(frame), errors="observed", strict=False)
    effects = [n for n in fit.params.index if n.startswith(("phi[", "session["))]
    q = len(effects)
    assert q == 2 + sessions * (rows["session"].nunique() - 1)
    np.testing.assert_allclose(fit.params[effects], peer.params[:q], rtol=EXACT, atol=1e-12)
    np.testing.assert_allclose(
        fit.cov.loc[effects, effects], peer.cov_params()[:q, :q], rtol=1e-7, atol=1e-14
    )
    assert fit.params["residual_var[symptoms]"] == pytest.approx(peer.scale, rel=EXACT)
    assert fit.sample.rows == len(rows)


def test_robust_errors_are_clustered_by_client() -> None:
    frame = gappy(2)
    rows = complete_rows(frame)
    peer = dummies(rows, design(rows), rows["client"])
    fit = plain().fit(as_panel(frame), strict=False)
    assert fit.diagnostics["errors"] == "robust"
    effects = [n for n in fit.params.index if n.startswith(("phi[", "session["))]
    q = len(effects)
    np.testing.assert_allclose(
        fit.cov.loc[effects, effects], peer.cov_params()[:q, :q], rtol=1e-7, atol=1e-14
    )


def test_errors_can_be_clustered_by_therapist() -> None:
    frame = gappy(3)
    rows = complete_rows(frame)
    peer = dummies(rows, design(rows), rows["therapist"])
    panel = as_panel(frame, therapist="therapist")
    fit = plain().fit(panel, errors="cluster:therapist", strict=False)
    effects = [n for n in fit.params.index if n.startswith("phi[")]
    J = rows["therapist"].nunique()
    expected = peer.cov_params()[:2, :2] * J / (J - 1)
    np.testing.assert_allclose(fit.cov.loc[effects, effects], expected, rtol=1e-7)


def test_linearmodels_clusters_alike() -> None:
    from linearmodels.panel import PanelOLS

    frame = gappy(4)
    rows = complete_rows(frame)
    Z = design(rows)[:, : 1 + rows["session"].nunique()]
    at = pd.MultiIndex.from_arrays([pd.factorize(rows["client"])[0], rows["session"]])
    model = PanelOLS(pd.Series(rows["y"].to_numpy(), at), pd.DataFrame(Z, at), entity_effects=True)
    peer = model.fit(cov_type="clustered", cluster_entity=True, debiased=False)
    fit = plain().fit(as_panel(frame), strict=False)
    effects = [n for n in fit.params.index if n.startswith(("phi[", "session["))]
    np.testing.assert_allclose(fit.params[effects], peer.params, rtol=EXACT, atol=1e-12)
    np.testing.assert_allclose(
        fit.cov.loc[effects, effects], peer.cov.to_numpy(), rtol=1e-7, atol=1e-14
    )


def test_exogenous_columns_enter_at_the_session_of_the_outcome() -> None:
    frame = gappy(5)
    rows = complete_rows(frame)
    peer = dummies(rows, design(rows, more=("crisis",)), rows["client"])
    panel = as_panel(frame, covariates=("crisis",))
    fit = plain(exogenous="crisis").fit(panel, strict=False)
    assert fit.params["input[symptoms,crisis]"] == pytest.approx(peer.params[2], rel=1e-8)
    assert fit.se["input[symptoms,crisis]"] == pytest.approx(peer.bse[2], rel=1e-8)
    corrected = FixedEffects(exogenous=("crisis",)).fit(panel, strict=False)
    assert np.isfinite(corrected.se["input[symptoms,crisis]"])


# -- both directions -------------------------------------------------------------------------------


def stacked_sandwich(frame: pd.DataFrame) -> tuple[Array, Array]:
    """Write out both equations' estimates and what every client adds, with dense dummies."""
    clients = np.unique(frame["client"])
    effects, shares = [], []
    for y, x in (("symptoms", "alliance"), ("alliance", "symptoms")):
        rows = complete_rows(frame, y, x)
        Z = design(rows)
        beta = np.linalg.lstsq(Z, rows["y"].to_numpy(), rcond=None)[0]
        scores = Z * (rows["y"].to_numpy() - Z @ beta)[:, None]
        own = np.array([scores[(rows["client"] == c).to_numpy()].sum(axis=0) for c in clients])
        effects.append(beta[:2])
        shares.append((own @ np.linalg.inv(Z.T @ Z))[:, :2])
    joint = np.concatenate(shares, axis=1)
    return np.concatenate(effects), joint.T @ joint


def test_both_directions_have_one_sandwich() -> None:
    frame = gappy(6)
    effects, cov = stacked_sandwich(frame)
    fit = plain(direction="both").fit(as_panel(frame), strict=False)
    names = [n for n in fit.params.index if n.startswith("phi[")]
    assert names[0] == "phi[symptoms,symptoms]"
    assert names[2] == "phi[alliance,alliance]"
    np.testing.assert_allclose(fit.params[names], effects, rtol=1e-8)
    np.testing.assert_allclose(fit.cov.loc[names, names], cov, rtol=1e-7, atol=1e-12)
    assert "session[alliance]@4" in fit.params
    assert fit.diagnostics["backward"]["uncorrected"]["phi[alliance,symptoms]"] == pytest.approx(
        fit.params["phi[alliance,symptoms]"]
    )


# -- plm -------------------------------------------------------------------------------------------


def plm() -> dict[str, Any]:
    answers: dict[str, Any] = json.loads((REFERENCE / "plm.json").read_text("utf-8"))
    return answers


@pytest.mark.parametrize("which", ["balanced", "unbalanced"])
@pytest.mark.parametrize("effect", ["individual", "twoways"])
def test_plm_gives_the_same(which: str, effect: str) -> None:
    peer = plm()[f"{which}_{effect}"]
    panel = as_panel(pd.read_csv(SIMULATED / "dynamic_panel" / f"{which}_long.csv"))
    spec = plain(session_effects=effect == "twoways")
    names = ["phi[symptoms,symptoms]", "phi[symptoms,alliance]"]
    for errors, cov in (("observed", "vcov"), ("robust", "arellano")):
        fit = spec.fit(panel, errors=errors, strict=False)
        np.testing.assert_allclose(fit.params[names], list(peer["coef"].values()), rtol=PLM)
        np.testing.assert_allclose(fit.cov.loc[names, names], peer[cov], rtol=1e-7)
    assert fit.params["residual_var[symptoms]"] == pytest.approx(peer["sigma2"][0], rel=PLM)
    for session, value in peer.get("sessions", {}).items():
        assert fit.params[f"session[{session}]"] == pytest.approx(value, rel=PLM)


@pytest.mark.parametrize("which", ["balanced", "unbalanced"])
@pytest.mark.parametrize("effect", ["individual", "twoways"])
def test_halves_fitted_by_plm_give_the_same_correction(which: str, effect: str) -> None:
    peer = plm()[f"{which}_{effect}"]["half_panel"]
    panel = as_panel(pd.read_csv(SIMULATED / "dynamic_panel" / f"{which}_long.csv"))
    fit = FixedEffects(session_effects=effect == "twoways").fit(panel, strict=False)
    names = ["phi[symptoms,symptoms]", "phi[symptoms,alliance]"]
    np.testing.assert_allclose(fit.params[names], list(peer["corrected"].values()), rtol=PLM)
    before = [fit.diagnostics["uncorrected"][name] for name in names]
    np.testing.assert_allclose(before, list(peer["uncorrected"].values()), rtol=PLM)
    assert fit.sample.rows == peer["nobs"]
    assert fit.sample.clients == peer["clients"]


def test_other_effects_are_estimated_given_the_corrected_ones() -> None:
    frame = gappy(7, clients=80, missing=0.05)
    fit = FixedEffects().fit(as_panel(frame), strict=False)
    rows = complete_rows(frame)
    rows = rows[rows.groupby("client")["y"].transform("size") > 3].reset_index(drop=True)
    Z = design(rows)
    left = rows["y"].to_numpy() - Z[:, :2] @ fit.params.iloc[:2].to_numpy()
    peer = np.linalg.lstsq(Z[:, 2:], left, rcond=None)[0]
    sessions = [n for n in fit.params.index if n.startswith("session[")]
    np.testing.assert_allclose(fit.params[sessions], peer[: len(sessions)], rtol=1e-8)


def static_grid(world: str) -> Grid:
    rows = pd.read_csv(REFERENCE / f"{world}.csv")
    wide = rows.pivot(index="client", columns="session", values=["y", "ly", "lx"])
    Y = np.stack([wide[name].to_numpy(float) for name in ("y", "ly", "lx")], axis=2)
    none = np.zeros((*Y.shape[:2], 0))
    return Grid(Y[:, :, 0], Y[:, :, 1:], none, ~np.isnan(Y[:, :, 0]), False)


@pytest.mark.parametrize("world", ["static", "mixed"])
def test_plm_has_the_same_random_effects_and_the_same_hausman_test(world: str) -> None:
    peer, grid = plm()[f"{world}_random"], static_grid(world)
    fixed = estimate_within(grid)
    random = random_effects(grid, fixed)
    np.testing.assert_allclose(random.effects, [peer["coef"]["ly"], peer["coef"]["lx"]], rtol=PLM)
    np.testing.assert_allclose(random.cov, np.array(peer["vcov"])[1:, 1:], rtol=PLM)
    assert random.client_var == pytest.approx(peer["client_var"], rel=PLM)
    test = hausman(fixed.effects, fixed.cov, random)
    assert test.df == peer["hausman"]["df"]
    if world == "static":
        assert test.statistic == pytest.approx(peer["hausman"]["statistic"], rel=1e-6)
        assert test.pvalue == pytest.approx(peer["hausman"]["pvalue"], rel=1e-5)
    else:  # plm takes the absolute value of a negative statistic and goes on
        assert test.statistic == pytest.approx(-peer["hausman"]["statistic"], rel=1e-6)
        assert np.isnan(test.pvalue)
        assert "not positive semidefinite" in test.verdict


def test_plm_has_the_same_hausman_test_of_a_dynamic_panel() -> None:
    peer = plm()["balanced_random"]
    panel = as_panel(pd.read_csv(SIMULATED / "dynamic_panel" / "balanced_long.csv"))
    found = plain(session_effects=False).fit(panel, strict=False).diagnostics
    shown = found["random_effects"]
    estimates = list(shown["estimates"].values())
    np.testing.assert_allclose(estimates, [peer["coef"]["ly"], peer["coef"]["lx"]], rtol=PLM)
    se = np.sqrt(np.diag(np.array(peer["vcov"])))[1:]
    np.testing.assert_allclose(list(shown["se"].values()), se, rtol=PLM)
    assert shown["client_var"] == peer["client_var"] == 0.0
    assert found["hausman"]["statistic"] == pytest.approx(peer["hausman"]["statistic"], rel=1e-6)


# -- contrasts -------------------------------------------------------------------------------------


def drawn_grid(seed: int, unbalanced: bool, sessions: bool) -> Grid:
    """Draw a panel whose predictors go with the client's level."""
    rng = np.random.default_rng(seed)
    level = rng.standard_normal((60, 1, 1))
    X = rng.standard_normal((60, 8, 2)) + 0.3 * level
    y = X @ [0.3, -0.2] + level[:, :, 0] + rng.standard_normal((60, 8))
    used = rng.random(y.shape) < (0.8 if unbalanced else 2.0)
    used &= used.sum(axis=1, keepdims=True) > 1
    return Grid(y, X, rng.standard_normal((60, 8, 1)), used, sessions)


def written_out(grid: Grid) -> tuple[Array, Array, Array]:
    """Return y, all columns without client indicators, and the client of every row."""
    client, session = np.nonzero(grid.used)
    own = np.concatenate([grid.X, grid.E], axis=2)[grid.used]
    return (
        grid.y[grid.used],
        np.concatenate([own, (session[:, None] == grid.dummies) * 1.0], axis=1),
        client,
    )


@pytest.mark.parametrize("unbalanced", [True, False])
@pytest.mark.parametrize("sessions", [True, False])
def test_linearmodels_has_the_same_random_effects(unbalanced: bool, sessions: bool) -> None:
    from linearmodels.panel import RandomEffects as Peer

    grid = drawn_grid(8, unbalanced, sessions)
    y, Z, client = written_out(grid)
    at = pd.MultiIndex.from_arrays([client, np.nonzero(grid.used)[1]])
    peer = Peer(pd.Series(y, at), pd.DataFrame(Z, at).assign(intercept=1.0)).fit()
    ours = random_effects(grid, estimate_within(grid))
    np.testing.assert_allclose(ours.effects, peer.params.iloc[:3], rtol=EXACT)
    np.testing.assert_allclose(ours.cov, peer.cov.iloc[:3, :3], rtol=1e-8)
    assert ours.client_var == pytest.approx(peer.variance_decomposition["Effects"], rel=EXACT)


@pytest.mark.parametrize("unbalanced", [True, False])
def test_the_mundlak_test_is_that_of_added_client_means(unbalanced: bool) -> None:
    grid = drawn_grid(9, unbalanced, True)
    y, Z, client = written_out(grid)
    means = pd.DataFrame(Z).groupby(client).transform("mean").to_numpy()
    added = means if unbalanced else means[:, :3]  # else those of sessions are all the same
    W = np.column_stack([np.ones(len(y)), Z, added])
    kwds = {"groups": client, "use_correction": False}
    peer = sm.OLS(y, W).fit(cov_type="cluster", cov_kwds=kwds)
    own = slice(1 + Z.shape[1], 4 + Z.shape[1])
    d = peer.params[own]
    statistic = d @ np.linalg.solve(peer.cov_params()[own, own], d)
    ours = mundlak(grid, estimate_within(grid))
    assert ours.statistic == pytest.approx(statistic, rel=1e-7)
    assert ours.df == 3


def test_an_indefinite_difference_is_named_and_has_no_p() -> None:
    fixed, cov = np.array([0.3, -0.2]), np.diag([0.01, 0.02])
    random = RandomEffects(np.array([0.2, -0.1]), np.diag([0.005, 0.03]), 1.0, 1.0)
    test = hausman(fixed, cov, random)
    assert np.isnan(test.pvalue)
    assert "not positive semidefinite" in test.verdict
    assert test.statistic == pytest.approx(0.01 / 0.005 - 0.01 / 0.01)


def test_a_singular_difference_is_tested_where_it_is_not() -> None:
    fixed, cov = np.array([0.3, -0.2]), np.diag([0.01, 0.02])
    test = hausman(fixed, cov, RandomEffects(np.array([0.2, -0.1]), np.diag([0.005, 0.02]), 1, 1))
    assert test.df == 1
    assert test.statistic == pytest.approx(2.0)
    assert "generalized inverse" in test.verdict


def test_no_contrast_licenses_random_effects() -> None:
    fit = FixedEffects().fit(simulate(WORLD, clients=40, sessions=10, seed=1))
    assert "no license" in fit.diagnostics["contrast"]
    assert {"statistic", "df", "pvalue", "verdict"} == set(fit.diagnostics["hausman"])


def test_too_few_clients_for_their_means_have_no_contrast() -> None:
    frame = simulate(WORLD, clients=7, sessions=14, seed=2).frame
    frame = frame[(frame["session"] + pd.factorize(frame["client"])[0]) % 6 > 0]
    found = plain().fit(as_panel(frame), strict=False).diagnostics
    assert np.isnan(found["mundlak"]["statistic"])
    assert "Too few clients" in found["mundlak"]["verdict"]


# -- known biases ----------------------------------------------------------------------------------


def limits(world: Dynamics, sessions: int, y: int = 1) -> tuple[Array, Array]:
    """Return what least squares within clients, and its correction, tend to with many clients.

    From the covariance of the scores alone, alliance and symptoms by session; means are the
    sessions'. ``y`` is the place of the outcome; effects of its own lag come first.
    """
    S = world.moments(sessions)[1]

    def slope(outcomes: range) -> Array:
        n = len(outcomes)
        M = np.eye(n) - 1.0 / n
        pick = [np.array([2 * (t - 1) + j for t in outcomes]) for j in (y, 1 - y)]
        now = np.array([2 * t + y for t in outcomes])
        XX = np.array([[np.trace(M @ S[np.ix_(a, b)]) for b in pick] for a in pick])
        return np.linalg.solve(XX, [np.trace(M @ S[np.ix_(a, now)]) for a in pick])

    n = sessions - 1
    cuts = [1 + n // 2, 1 + (n + 1) // 2]
    halves = [slope(r) for c in cuts for r in (range(1, c), range(c, sessions))]
    whole = slope(range(1, sessions))
    return whole, 2.0 * whole - np.mean(halves, axis=0)


@pytest.mark.parametrize(("sessions", "published"), [(8, (0.226, -0.112)), (20, (0.371, -0.122))])
def test_the_bias_is_the_known_one_and_the_correction_takes_most_away(
    sessions: int, published: tuple[float, float]
) -> None:
    whole, corrected = limits(WORLD, sessions)
    np.testing.assert_allclose(whole, published, atol=MC * TABLE)
    panel = simulate(WORLD, clients=24000 // sessions, sessions=sessions, seed=sessions)
    names = ["phi[symptoms,symptoms]", "phi[symptoms,alliance]"]
    for spec, limit in ((plain(), whole), (FixedEffects(), corrected)):
        fit = spec.fit(panel, strict=False)
        off = (fit.params[names] - limit) / fit.se[names]
        assert np.abs(off).max() < MC
    truth = np.array([0.45, -0.12])
    assert np.abs(corrected - truth)[0] < 0.2 * np.abs(whole - truth)[0]


SLOPES = Dynamics.time_ordered(
    0.35,
    0.45,
    0.0,
    0.0,
    between_cov=[[1.0, -0.3], [-0.3, 1.0]],
    mean=(3.0, 10.0),
    trend=ad.GrowthCurve(slope=(0.10, -0.20), slope_cov=[[0.0225, -0.01125], [-0.01125, 0.0225]]),
)
ALIKE = Dynamics(  # what happens from session to session, with errors that go together
    phi=[[0.35, -0.10], [-0.15, 0.40]],
    innovation_cov=[[1.0, -0.3], [-0.3, 1.0]],
    between_cov=[[1.0, -0.3], [-0.3, 1.0]],
    mean=(0.0, 0.0),
)


def test_the_page_shows_the_limits() -> None:
    page = (Path(__file__).parents[1] / "docs" / "fixed-effects.md").read_text("utf-8")

    def shown(sessions: int, *values: float) -> bool:
        return " | ".join([f"| {sessions}", *(f"{v:.3f}" for v in values)]) + " |" in page

    for sessions in (5, 6, 8, 12, 20, 40):
        assert shown(sessions, *np.concatenate(limits(WORLD, sessions)))
    for sessions in (6, 8, 12):
        forward, backward = limits(ALIKE, sessions), limits(ALIKE, sessions, y=0)
        assert shown(sessions, forward[0][1], forward[1][1], backward[0][1], backward[1][1])
    for sessions in (6, 10, 20):
        assert shown(sessions, *(limit[1] for limit in limits(SLOPES, sessions)))


def test_errors_of_corrected_effects_hold_the_price_of_the_correction() -> None:
    """Over repeated panels the robust error meets the spread; the formula without halves does not.

    400 panels give the spread to 3.5 %, and with 150 clients the sandwich is a few percent short.
    """
    rng = np.random.default_rng(11)
    Phi, root = (
        np.array([[0.362, -0.045], [-0.12, 0.45]]),
        np.linalg.cholesky(np.array([[1.01, -0.10], [-0.10, 1.0]])),
    )
    found, robust, formula = [], [], []
    for _ in range(400):
        w = rng.standard_normal((150, 2))
        Y = np.empty((150, 10, 2))
        for t in range(-15, 10):
            w = w @ Phi.T + rng.standard_normal((150, 2)) @ root.T
            if t >= 0:
                Y[:, t] = w
        X = np.full(Y.shape, np.nan)
        X[:, 1:] = Y[:, :-1, ::-1]
        used = np.ones(Y.shape[:2], bool)
        used[:, 0] = False
        grid = Grid(Y[:, :, 1], X, np.zeros((150, 10, 0)), used, True)
        fit = correct_by_halves(grid, estimate_within(grid))
        found.append(fit.effects[:2])
        robust.append((fit.shares[:, :2] ** 2).sum(axis=0))
        formula.append(np.diag(fit.cov)[:2])
    spread = np.std(found, axis=0)
    assert np.abs(np.sqrt(np.mean(robust, axis=0)) / spread - 1.0).max() < 0.12
    assert np.sqrt(np.mean(formula, axis=0))[0] / spread[0] < 0.85


def test_shares_are_what_another_copy_of_a_client_would_change() -> None:
    """By definition: the derivative of the estimates in the client's weight."""
    grid, copies = drawn_grid(21, True, True), 400
    few = np.flatnonzero(grid.counts > 3)[:20]

    def fitted(clients: NDArray[np.int64]) -> Any:
        own = Grid(grid.y[clients], grid.X[clients], grid.E[clients], grid.used[clients], True)
        return correct_by_halves(own, estimate_within(own))

    alone, many = fitted(few), np.tile(few, copies)
    base = fitted(many).effects
    np.testing.assert_allclose(base, alone.effects, rtol=1e-7, atol=1e-10)
    scale = np.sqrt((alone.shares**2).sum(axis=0))
    for i in range(3):
        moved = (fitted(np.append(many, few[i])).effects - base) * copies
        assert (np.abs(moved - alone.shares[i]) / scale).max() < 2e-3  # about 1 / copies
    np.testing.assert_allclose(alone.shares.sum(axis=0), 0.0, atol=1e-10)


# -- what must not matter --------------------------------------------------------------------------


def test_order_of_rows_and_names_of_clients_do_not_matter() -> None:
    frame = gappy(12)
    fit = FixedEffects().fit(as_panel(frame), strict=False)
    other = frame.sample(frac=1.0, random_state=np.random.default_rng(1))
    other["client"] = "Z" + other["client"].astype(str).str[::-1]
    again = FixedEffects().fit(as_panel(other), strict=False)
    np.testing.assert_allclose(again.params, fit.params, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(again.cov, fit.cov, rtol=1e-7, atol=1e-12)


def test_rescaling_a_series_rescales_its_effects() -> None:
    frame = gappy(13)
    fit = FixedEffects(direction="both").fit(as_panel(frame), strict=False)
    wide = as_panel(frame.assign(alliance=1000.0 * frame["alliance"] + 7.0))
    again = FixedEffects(direction="both").fit(wide, strict=False)
    ratio = {"phi[symptoms,symptoms]": 1.0, "phi[symptoms,alliance]": 1e-3}
    ratio |= {"phi[alliance,alliance]": 1.0, "phi[alliance,symptoms]": 1e3}
    for name, factor in ratio.items():
        assert again.params[name] == pytest.approx(factor * fit.params[name], rel=1e-7)
        assert again.se[name] == pytest.approx(factor * fit.se[name], rel=1e-7)
    for source, target in (V, V[::-1]):
        one, two = (f.effect(source, target, standardized="within") for f in (fit, again))
        assert two.value == pytest.approx(one.value, rel=1e-7)
        assert two.se == pytest.approx(one.se, rel=1e-6)


def test_levels_of_clients_and_courses_of_all_do_not_matter() -> None:
    frame = gappy(14)
    fit = FixedEffects().fit(as_panel(frame), strict=False)
    level = 50.0 * pd.factorize(frame["client"])[0]
    other = frame.assign(alliance=frame["alliance"] + level)
    again = FixedEffects().fit(as_panel(other), strict=False)
    np.testing.assert_allclose(again.params.iloc[:2], fit.params.iloc[:2], rtol=1e-7)
    other = frame.assign(alliance=frame["alliance"] + frame["session"] ** 2)
    again = FixedEffects().fit(as_panel(other), strict=False)
    np.testing.assert_allclose(again.params.iloc[:2], fit.params.iloc[:2], rtol=1e-7)


def test_gaps_are_not_closed_and_rows_are_counted_by_reason() -> None:
    frame = simulate(WORLD, clients=30, sessions=10, seed=15).frame[["client", "session", *V]]
    first, second, third = frame["client"].unique()[:3]
    one = frame["client"] == first
    two = frame["client"] == second
    three = frame["client"] == third
    lost = one & frame["session"].isin([3, 6])  # leaves 8 scores, 5 pairs
    lost |= two & (frame["session"] > 2)  # 1 pair
    lost |= three & (frame["session"] > 3)  # 2 pairs
    frame = frame[~lost]
    fit = FixedEffects().fit(as_panel(frame), strict=False)
    assert fit.sample.rows == 27 * 9 + 5
    reasons = {r.split(" usable")[0]: n for r, n in fit.sample.rows_set_aside.items()}
    assert reasons["of clients with one"] == 1
    assert reasons["of clients with fewer than 4"] == 2
    assert reasons["a term of the equation missing there or at the session before"] == 30 + 2
    assert list(fit.diagnostics["clients_without"].values()) == [1, 1]
    assert fit.sample.clients == 28
    both = plain().fit(as_panel(frame), strict=False)
    assert both.sample.rows == 27 * 9 + 5 + 2


# -- refusals, notes and the fit -------------------------------------------------------------------


def test_what_cannot_be_estimated_is_refused_by_name() -> None:
    frame = simulate(WORLD, clients=30, sessions=6, seed=16).frame[["client", "session", *V]]
    two = as_panel(frame[frame["session"] < 3])
    with pytest.raises(SpecificationError, match="No client has two sessions"):
        plain().fit(two)
    with pytest.raises(SpecificationError, match=r"cannot be halved.*bias_correction=None"):
        FixedEffects().fit(as_panel(frame[frame["session"] < 4]))
    constant = frame.assign(symptoms=3.0)
    with pytest.raises(SpecificationError, match="'symptoms' has the same value"):
        FixedEffects().fit(as_panel(constant))
    level = frame.assign(alliance=pd.factorize(frame["client"])[0] / 7)
    with pytest.raises(SpecificationError, match="'alliance' never changes within a client"):
        FixedEffects().fit(as_panel(level))
    course = frame.assign(alliance=frame["session"] * 1.0)
    with pytest.raises(
        SpecificationError, match=r"phi\[symptoms,alliance\].*session_effects=False"
    ):
        FixedEffects().fit(as_panel(course))
    assert plain(session_effects=False).fit(as_panel(course), strict=False).converged


def test_a_half_without_change_and_too_few_rows_are_refused() -> None:
    frame = simulate(WORLD, clients=30, sessions=9, seed=22).frame[["client", "session", *V]]
    late = frame.assign(alliance=frame["alliance"].where(frame["session"] > 5, 1.0))
    with pytest.raises(SpecificationError, match=r"one half .* bias_correction=None"):
        FixedEffects().fit(as_panel(late))
    assert plain().fit(as_panel(late), strict=False).converged
    place = pd.factorize(frame["client"])[0]
    few = frame[(place < 5) & (frame["session"] < np.where(place < 3, 4, 2))]
    with pytest.raises(SpecificationError, match="6 usable sessions of 3 clients cannot carry 3"):
        plain().fit(as_panel(few))


def test_sessions_that_share_no_client_are_refused() -> None:
    frame = simulate(WORLD, clients=40, sessions=12, seed=17).frame[["client", "session", *V]]
    early = pd.factorize(frame["client"])[0] % 2 == 0
    apart = frame[np.where(early, frame["session"] <= 6, frame["session"] > 6)]
    with pytest.raises(SpecificationError, match="Session effects cannot be told apart"):
        plain().fit(as_panel(apart))
    assert plain(session_effects=False).fit(as_panel(apart), strict=False).converged


def test_options_and_errors_that_do_not_go_are_refused() -> None:
    with pytest.raises(SpecificationError, match="'half-panel' or None"):
        FixedEffects(bias_correction="jackknife")  # type: ignore[arg-type]
    with pytest.raises(SpecificationError, match="session_effects"):
        FixedEffects(session_effects="yes")  # type: ignore[arg-type]
    panel = simulate(WORLD, clients=30, sessions=9, seed=18)
    with pytest.raises(SpecificationError, match="a series and exogenous too"):
        FixedEffects(exogenous=("alliance",)).fit(panel)


def test_corrected_effects_have_robust_errors_only_and_say_so() -> None:
    panel = simulate(WORLD, clients=50, sessions=10, seed=23)
    fit = FixedEffects().fit(panel)
    with pytest.warns(InferenceWarning, match="so these errors are robust"):
        same = FixedEffects().fit(panel, errors="observed")
    assert same.diagnostics["errors"] == "robust"
    np.testing.assert_allclose(same.se, fit.se, rtol=1e-12)
    assert plain().fit(panel, errors="observed", strict=False).diagnostics["errors"] == "observed"
    study = ad.recover(
        FixedEffects(), WORLD, clients=50, sessions=10, replications=4, seed=1, jobs=1
    )
    assert not study.failures
    assert study.table()["coverage"].notna().any()


def test_what_is_left_of_the_bias_is_said() -> None:
    short = simulate(WORLD, clients=60, sessions=7, seed=19)
    with pytest.warns(InferenceWarning, match="removes only part of the bias"):
        FixedEffects().fit(short)
    with pytest.warns(InferenceWarning, match=r"\(1 \+ phi\) / 6\.0"):
        plain().fit(simulate(WORLD, clients=60, sessions=8, seed=19))
    fit = FixedEffects().fit(simulate(WORLD, clients=60, sessions=8, seed=19))
    assert fit.diagnostics["notes"] == []


def test_the_fit_answers_like_every_fit() -> None:
    panel = simulate(WORLD, clients=150, sessions=12, seed=20)
    fit = FixedEffects(direction="both").fit(panel)
    table = ad.compare_models({"FE": fit, "RI-CLPM": ad.RICLPM().fit(panel)})
    assert set(table["model"]) == {"FE", "RI-CLPM"}
    verdict = ad.compare_directions(fit, seed=1)
    assert verdict.forward.value == pytest.approx(
        fit.effect("alliance", "symptoms", standardized="within").value
    )
    assert np.isfinite(verdict.difference.se)
    bare = fit.without_data()
    again = pickle.loads(pickle.dumps(bare))
    assert again.params.equals(fit.params)
    assert again.data is None
    assert pickle.loads(pickle.dumps(fit)).model == FixedEffects(direction="both")
    assert repr(FixedEffects(direction="both")) == "FixedEffects(direction='both')"
    assert fit.long_run("alliance", "symptoms").value == pytest.approx(
        fit.params["phi[symptoms,alliance]"] / (1 - fit.params["phi[symptoms,symptoms]"])
    )


def test_linearmodels_loads_only_when_a_model_is_fitted() -> None:
    code = (
        "import sys, alliancedyn.models.fixed_effects; "
        "print({'linearmodels', 'statsmodels'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
