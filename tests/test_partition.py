"""Therapists, clients and sessions apart: dense algebra, ANOVA, identities, known worlds.

Independent of the code under test: inverses of the full covariance matrix for the estimating
equations, textbook mean squares of balanced nested data, data frames grouped by pandas, panels
with therapists left out by hand.
"""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alliancedyn.engine.level_products import (
    estimated_products,
    observed_products,
    reduce_pairs,
)
from alliancedyn.engine.mixed import fit_variance_components
from alliancedyn.errors import InferenceWarning, SpecificationError
from alliancedyn.panel import SessionPanel
from alliancedyn.partition import TherapistPartition, therapist_partition
from alliancedyn.simulate import Dynamics, Therapists, simulate

EXACT = 1e-10  # algebraic identities, relative to numbers of size one
REML = 1e-5  # where the search for the variances stops
LEVELS = ["therapist", "client", "session"]


def to_panel(frame, therapist="therapist"):
    return SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables=["alliance", "symptoms"],
        therapist=therapist,
        timing={"alliance": "after", "symptoms": "before"},
    )


def draw(
    seed=0, therapists=40, per=10, sessions=6, var=(0.3, 0.5, 0.7), slopes=(-0.35, 0.1, -0.2), b=0.0
):
    """Draw alliance by level and symptoms that follow it, level by level, one session later."""
    rng = np.random.default_rng(seed)
    J, N = therapists, therapists * per
    owner = np.repeat(np.arange(J), per)
    T, P, W = (rng.normal(size=n) * v**0.5 for n, v in zip((J, N, (N, sessions)), var, strict=True))
    a = T[owner, None] + P[:, None] + W
    s = (slopes[0] * T + 0.3 * rng.normal(size=J))[owner, None]
    s = s + (slopes[1] * P + 0.6 * rng.normal(size=N))[:, None] + rng.normal(size=(N, sessions))
    if sessions > 1:
        s[:, 1:] += slopes[2] * W[:, :-1]
    client, session = np.divmod(np.arange(N * sessions), sessions)
    return pd.DataFrame(
        {
            "client": [f"C{i:05d}" for i in client],
            "session": session + 1,
            "alliance": 5.0 + a.ravel(),
            "symptoms": 12.0 + s.ravel() + b * a.ravel(),
            "therapist": [f"T{j:04d}" for j in owner[client]],
        }
    )


def thin(frame, seed=1, seen=0.7):
    """Make scores missing, whole sessions and single scores, so that nothing is balanced."""
    rng = np.random.default_rng(seed)
    frame = frame.copy()
    for name in ("alliance", "symptoms"):
        frame.loc[rng.random(len(frame)) > seen, name] = np.nan
    return frame[rng.random(len(frame)) < seen].dropna(subset=["alliance", "symptoms"], how="all")


def lagged(frame, lag=1):
    """Pair the process at t - lag with the outcome at t by a join on session numbers."""
    before = frame[["client", "session", "alliance"]].assign(session=frame["session"] + lag)
    after = frame[["client", "session", "symptoms", "therapist"]]
    return before.merge(after, on=["client", "session"]).dropna().reset_index(drop=True)


def coded(rows):
    client = np.unique(rows["client"], return_inverse=True)[1]
    therapist = np.unique(rows["therapist"], return_inverse=True)[1]
    own = np.zeros(client.max() + 1, dtype=np.int64)
    own[client] = therapist
    return rows["alliance"].to_numpy(), rows["symptoms"].to_numpy(), client, own


def estimates(part, version):
    return part.table.loc[version, "estimate"]


def dense(a, s, client, therapist, ratios, active):
    """Solve the estimating equations with the full matrices."""
    ones = np.ones(len(a))
    Z = [
        (therapist[:, None] == therapist).astype(float),
        (client[:, None] == client).astype(float),
        np.eye(len(a)),
    ]
    H = np.linalg.inv(ratios[0] * Z[0] + ratios[1] * Z[1] + Z[2])
    P = H - np.outer(H @ ones, H @ ones) / (ones @ H @ ones)
    matrix = [[np.trace(P @ Z[m] @ P @ Z[k]) for k in active] for m in active]
    right = [[a @ P @ Z[m] @ P @ a, a @ P @ Z[m] @ P @ s] for m in active]
    out = np.zeros((3, 2))
    out[active] = np.linalg.solve(matrix, right)
    return out


@pytest.mark.parametrize(
    ("ratios", "active"),
    [((0.7, 0.3), [0, 1, 2]), ((0.0, 0.5), [1, 2]), ((0.4, 0.0), [0, 2]), ((0.0, 0.0), [2])],
)
def test_components_solve_the_equations_of_the_full_matrices(ratios, active):
    a, s, client, own = coded(lagged(thin(draw(therapists=7, per=5))))
    pairs = reduce_pairs(a, s, client, own)
    group = np.arange(own.max() + 1) % 3
    whole, without = estimated_products(pairs, ratios, active, group)
    expected = dense(a, s, client, own[client], ratios, active)
    np.testing.assert_allclose(whole, expected, atol=EXACT)
    for g in range(3):
        left = group[own[client]] != g
        expected = dense(a[left], s[left], client[left], own[client][left], ratios, active)
        np.testing.assert_allclose(without[g], expected, atol=EXACT)


def test_observed_sums_are_the_nested_decomposition():
    rows = lagged(thin(draw(therapists=9, per=6)))
    a, s, client, own = coded(rows)
    pairs = reduce_pairs(a, s, client, own)
    group = np.arange(9) // 2
    whole, without = observed_products(pairs, group)

    def by_hand(part):
        y = part[["alliance", "symptoms"]]
        by_client = y.groupby(part["client"]).transform("mean")
        by_therapist = y.groupby(part["therapist"]).transform("mean")
        levels = [by_therapist - y.mean(), by_client - by_therapist, y - by_client]
        return [[(d["alliance"] * d[name]).sum() for name in y] for d in levels]

    np.testing.assert_allclose(whole, by_hand(rows), rtol=EXACT)
    codes = np.unique(rows["therapist"], return_inverse=True)[1]
    for g in range(5):
        np.testing.assert_allclose(without[g], by_hand(rows[group[codes] != g]), rtol=EXACT)


@pytest.mark.parametrize("seed", range(3))
def test_the_identity_holds_exactly_in_unbalanced_data(seed):
    frame = thin(draw(seed), seed)
    part = therapist_partition(to_panel(frame), trend=None)
    rows = lagged(frame)
    total = np.polyfit(rows["alliance"], rows["symptoms"], 1)[0]
    assert abs(estimates(part, "observed")["total"] - total) < EXACT
    for version in ("observed", "latent"):
        table = part.table.loc[version]
        assert abs(table.loc[LEVELS, "share"].sum() - 1.0) < EXACT
        assert abs(table.loc[LEVELS, "contribution"].sum() - table.loc["total", "estimate"]) < EXACT
        difference = table.loc["therapist", "estimate"] - table.loc["client", "estimate"]
        assert abs(table.loc["difference", "estimate"] - difference) < EXACT


def test_latent_slopes_of_balanced_data_are_those_of_the_mean_squares():
    J, per, n = 12, 5, 4
    part = therapist_partition(to_panel(draw(3, J, per, n + 1)), trend=None)
    rows = lagged(draw(3, J, per, n + 1))
    y = rows[["alliance", "symptoms"]].to_numpy().reshape(J, per, n, 2)
    by_client, by_therapist = y.mean(axis=2), y.mean(axis=(1, 2))

    def mean_product(d, freedom):
        flat = d.reshape(-1, 2)
        return flat[:, 0] @ flat / freedom

    session = mean_product(y - by_client[:, :, None], J * per * (n - 1))
    client = mean_product(by_client - by_therapist[:, None], J * (per - 1)) * n
    therapist = mean_product(by_therapist - by_therapist.mean(axis=0), J - 1) * n * per
    expected = [(therapist - client) / (n * per), (client - session) / n, session]
    assert min(row[0] for row in expected) > 0.0
    np.testing.assert_allclose(part.components.to_numpy(), expected, atol=EXACT)
    slopes = [row[1] / row[0] for row in expected]
    np.testing.assert_allclose(estimates(part, "latent")[LEVELS], slopes, rtol=1e-9)
    # There the observed slopes are exactly the mixture that reliability predicts.
    mixed = part.reliability
    np.testing.assert_allclose(mixed["predicted"], mixed["observed"], atol=EXACT)
    lam = 1.0 - client[0] / therapist[0]
    assert abs(mixed.loc["therapist", "reliability"] - lam) < EXACT


def test_variances_are_reml_and_balanced_covariances_those_of_sums_and_differences():
    for frame, tolerance in ((draw(5), REML), (thin(draw(5)), 0.05)):
        a, s, client, own = coded(lagged(frame))
        groups = [client, own[client]]
        part = therapist_partition(to_panel(frame), trend=None)
        fit = fit_variance_components(a, groups)
        found = part.components["variance"]
        np.testing.assert_allclose(found, [*fit.variances[::-1], fit.residual], rtol=REML)
        plus, minus = (fit_variance_components(y, groups) for y in (a + s, a - s))
        levels = (plus.variances - minus.variances)[::-1] / 4.0
        polar = [*levels, (plus.residual - minus.residual) / 4.0]
        # Unbalanced data weigh sums and differences otherwise: equal only roughly.
        np.testing.assert_allclose(part.components["covariance"], polar, atol=tolerance)


def test_intervals_are_the_jackknife_with_therapists_left_out_by_hand():
    frame = thin(draw(7, therapists=12, per=6))
    part = therapist_partition(to_panel(frame), level=0.9, trend=None)
    assert part.groups == part.therapists == 12
    rows = lagged(frame)
    a, s, client, own = coded(rows)
    fit = fit_variance_components(a, [client, own[client]])
    ratios = tuple(fit.variances[::-1] / fit.residual)
    observed, latent = [], []
    for name in sorted(set(rows["therapist"])):
        left = (rows["therapist"] != name).to_numpy()
        again = therapist_partition(to_panel(frame[frame["therapist"] != name]), trend=None)
        observed.append(estimates(again, "observed"))
        cells = dense(a[left], s[left], client[left], own[client][left], ratios, [0, 1, 2])
        slopes = cells[:, 1] / cells[:, 0]
        total = cells[:, 1].sum() / cells[:, 0].sum()
        latent.append([*slopes, total, slopes[0] - slopes[1]])
    for version, left in (("observed", observed), ("latent", latent)):
        away = np.array(left) - np.mean(left, axis=0)
        se = np.sqrt(11 / 12 * (away**2).sum(axis=0))
        table = part.table.loc[version]
        np.testing.assert_allclose(table["se"], se, rtol=1e-8)
        # 1.795885: 95 % quantile of t with 11 degrees of freedom
        np.testing.assert_allclose(table["upper"] - table["estimate"], 1.795885 * se, rtol=1e-6)


def test_holding_the_weights_hardly_moves_the_jackknife():
    frame = draw(8, therapists=25)
    part = therapist_partition(to_panel(frame))
    again = [
        estimates(therapist_partition(to_panel(frame[frame["therapist"] != name])), "latent")
        for name in sorted(set(frame["therapist"]))
    ]
    away = np.array(again) - np.mean(again, axis=0)
    se = np.sqrt(24 / 25 * (away**2).sum(axis=0))
    np.testing.assert_allclose(part.table.loc["latent", "se"], se, rtol=0.02)


def test_many_therapists_are_left_out_in_a_hundred_groups():
    part = therapist_partition(to_panel(draw(9, therapists=150, per=4, sessions=3)))
    assert (part.therapists, part.groups) == (150, 100)
    row = part.table.loc[("observed", "total")]
    # 1.984217: 97.5 % quantile of t with 99 degrees of freedom
    assert abs((row["upper"] - row["estimate"]) / row["se"] - 1.984217) < 1e-5


@given(seed=st.integers(0, 10_000))
@settings(max_examples=8, deadline=None)
def test_order_and_names_of_rows_clients_and_therapists_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    frame = thin(draw(seed, therapists=10, per=5), seed)
    part = therapist_partition(to_panel(frame))
    other = frame.sample(frac=1.0, random_state=seed % 1000)
    for role in ("client", "therapist"):
        known = sorted(set(frame[role]))
        other[role] = other[role].map(dict(zip(known, rng.permutation(known), strict=True)))
    again = therapist_partition(to_panel(other))
    pd.testing.assert_frame_equal(part.table, again.table, rtol=1e-6, atol=1e-8)


@given(unit=st.floats(1e-3, 1e3), scale=st.floats(1e-3, 1e3), sign=st.sampled_from([-1.0, 1.0]))
@settings(max_examples=8, deadline=None)
def test_other_units_and_origins_rescale_the_slopes(unit, scale, sign):
    frame = thin(draw(11, therapists=10, per=5))
    plain = therapist_partition(to_panel(frame)).table
    moved = frame.assign(
        alliance=sign * unit * (frame["alliance"] + 3.0),
        symptoms=scale * (frame["symptoms"] - 40.0),
    )
    table = therapist_partition(to_panel(moved)).table
    ratio = sign * scale / unit
    np.testing.assert_allclose(table["estimate"], ratio * plain["estimate"], rtol=1e-5)
    np.testing.assert_allclose(table["se"], abs(ratio) * plain["se"], rtol=1e-5)
    np.testing.assert_allclose(table["share"], plain["share"], rtol=1e-5)


def test_adding_the_process_to_the_outcome_adds_to_every_slope():
    frame = thin(draw(12))
    panels = [
        to_panel(frame),
        to_panel(frame.assign(symptoms=frame.eval("symptoms + 2 * alliance"))),
    ]
    tables = []
    for panel in panels:
        with pytest.warns(InferenceWarning, match="same session"):
            tables.append(therapist_partition(panel, lag=0).table)
    moved = tables[1]["estimate"] - tables[0]["estimate"]
    expected = moved * 0.0 + 2.0
    expected[moved.index.get_level_values("level") == "difference"] = 0.0
    np.testing.assert_allclose(moved, expected, atol=EXACT)
    np.testing.assert_allclose(tables[0]["se"], tables[1]["se"], rtol=1e-8)


# Worlds with a known answer.


def repeat(replications, **world):
    parts = [therapist_partition(to_panel(draw(seed, **world))) for seed in range(replications)]
    return parts, {v: np.array([estimates(p, v) for p in parts]) for v in ("observed", "latent")}


def within_error(values, truth, errors=3.5):
    """Return whether the mean of replications lies within Monte Carlo error of the truth."""
    return abs(values.mean() - truth) < errors * values.std(ddof=1) / len(values) ** 0.5


@pytest.mark.parametrize("slopes", [(-0.35, 0.0, -0.1), (0.0, -0.35, -0.1)])
def test_both_versions_of_the_therapist_world_are_recovered(slopes):
    """All of the association is the therapists', or all of it lies within their caseloads."""
    world = {"therapists": 150, "per": 10, "sessions": 5, "var": (0.1, 0.45, 0.45)}
    parts, found = repeat(40, slopes=slopes, **world)
    for level in range(3):
        assert within_error(found["latent"][:, level], slopes[level])
    assert within_error(found["latent"][:, 4], slopes[0] - slopes[1])
    assert within_error(
        found["latent"][:, 3], 0.1 * slopes[0] + 0.45 * slopes[1] + 0.45 * slopes[2]
    )
    # Means over 10 clients of 4 pairs each: what lambda leaves of the therapists' slope.
    spread = np.array([0.1, 0.45 / 10, 0.45 / 40])
    attenuated = spread @ slopes / spread.sum()
    assert within_error(found["observed"][:, 0], attenuated)
    assert not within_error(found["observed"][:, 0], slopes[0])
    lam = np.array([part.reliability.loc["therapist", "reliability"] for part in parts])
    assert abs(lam.mean() - spread[0] / spread.sum()) < 0.01
    inside = np.array(
        [
            part.table.loc["latent", "lower"].to_numpy()[[0, 1, 2, 4]]
            < [*slopes, slopes[0] - slopes[1]]
            for part in parts
        ]
    )
    assert inside.mean() > 0.9


@pytest.mark.parametrize(
    ("icc", "per", "slope", "reliability"), [(0.05, 10, -0.12, 0.34), (0.10, 30, -0.27, 0.77)]
)
def test_one_score_per_client_attenuates_as_the_formula_says(icc, per, slope, reliability):
    """With lambda = ICC / (ICC + (1 - ICC) / n), beta_T = -.35 turns into -.12 and -.27."""
    parts, observed, latent = [], [], []
    for seed in range(40):
        world = draw(seed, 150, per, 2, (icc, 1.0 - icc, 0.0), (-0.35, 0.0, 0.0))
        parts.append(therapist_partition(to_panel(world)))
        observed.append(estimates(parts[-1], "observed")["therapist"])
        latent.append(estimates(parts[-1], "latent")["therapist"])
    lam = icc / (icc + (1.0 - icc) / per)
    assert round(lam, 2) in (reliability, round(reliability + 0.01, 2))
    assert round(-0.35 * lam, 2) == slope
    assert within_error(np.array(observed), -0.35 * lam)
    assert within_error(np.array(latent), -0.35, errors=4.0)  # a ratio: some bias is left
    found = np.mean([part.reliability.loc["therapist", "reliability"] for part in parts])
    assert abs(found - lam) < 0.02
    assert list(parts[0].components.index) == ["therapist", "client"]
    assert "sessions included" in parts[0].text


def test_the_simulator_of_the_package_agrees():
    """beta_T = -.5, beta_C = .2, and alliance that leads symptoms within clients by -.3."""
    truth = Dynamics(
        phi=[[0.0, 0.0], [-0.3, 0.0]],
        innovation_cov=[[1.0, 0.0], [0.0, 1.0]],
        between_cov=[[0.6, 0.12], [0.12, 1.0]],
        mean=(5.0, 12.0),
        timing={"alliance": "after", "symptoms": "before"},
    )
    therapists = Therapists(120, ((0.3, -0.15), (-0.15, 0.2)))
    found = np.array(
        [
            estimates(
                therapist_partition(
                    simulate(truth, clients=1200, sessions=5, therapists=therapists, seed=seed)
                ),
                "latent",
            )
            for seed in range(20)
        ]
    )
    for level, value in enumerate((-0.5, 0.2, -0.3)):
        assert within_error(found[:, level], value)


def test_carry_over_passes_for_level_in_clients_but_leaves_therapists_alone():
    """Autocorrelation phi moves 2 sum (n - k) phi^k / (n (n - 1)) of the sessions' variance."""
    truth = Dynamics(
        phi=[[0.35, 0.0], [0.0, 0.45]],
        innovation_cov=[[1.0, 0.0], [0.0, 1.0]],
        between_cov=[[0.6, 0.12], [0.12, 1.0]],
        mean=(5.0, 12.0),
        timing={"alliance": "after", "symptoms": "before"},
    )
    therapists = Therapists(120, ((0.3, -0.15), (-0.15, 0.2)))
    variances, slopes = [], []
    for seed in range(20):
        panel = simulate(truth, clients=1200, sessions=6, therapists=therapists, seed=seed)
        part = therapist_partition(panel)
        variances.append(part.components["variance"].to_numpy())
        slopes.append(estimates(part, "latent")["therapist"])
    moved = sum((5 - k) * 0.35**k for k in range(1, 5)) / 10
    assert round(moved, 2) == 0.19
    within = 1.0 / (1.0 - 0.35**2)
    expected = [0.3, 0.6 + moved * within, (1.0 - moved) * within]
    for found, value in zip(np.array(variances).T, expected, strict=True):
        assert within_error(found, value)
    assert within_error(np.array(slopes), -0.5)


def test_intervals_cover():
    hits, replications = np.zeros(4), 150
    slopes = (-0.35, 0.1, -0.2)
    truth = np.array([*slopes, slopes[0] - slopes[1]])
    for seed in range(replications):
        part = therapist_partition(to_panel(draw(seed, 40, 10, 4, (0.2, 0.45, 0.45), slopes)))
        rows = part.table.loc["latent"].drop(index="total")
        hits += (rows["lower"] < truth) & (truth < rows["upper"])
    # Binomial error at 150 replications: .018; the session slope of a lag has no bias here.
    assert (np.abs(hits / replications - 0.95) < 3.5 * 0.018).all()


# What does not exist, and data as they come.


def test_no_therapist_variance_is_named_and_has_no_number():
    for seed in range(30):
        frame = draw(seed, 15, 8, 5, (0.0, 0.5, 0.5))
        part = therapist_partition(to_panel(frame), trend=None)
        if part.components.loc["therapist", "variance"] == 0.0:
            break
    latent = part.table.loc["latent"]
    gone = latent.loc[["therapist", "difference"], ["estimate", "se", "lower", "upper"]]
    assert gone.isna().all(axis=None)
    assert latent.loc["therapist", "share"] == latent.loc["therapist", "contribution"] == 0.0
    assert latent.loc[["client", "session", "total"], "lower"].notna().all()
    assert abs(latent["contribution"][LEVELS].sum() - latent.loc["total", "estimate"]) < EXACT
    assert np.isfinite(estimates(part, "observed")["therapist"])
    # Without a therapist level, the components are those of two levels.
    a, s, client, _ = coded(lagged(frame))
    two = fit_variance_components(a, [client])
    ratios = (0.0, two.variances[0] / two.residual)
    expected = dense(a, s, client, client * 0, ratios, [1, 2])
    np.testing.assert_allclose(part.components.to_numpy(), expected, atol=REML)
    (note,) = part.notes
    assert note.startswith("The latent therapist slope does not exist: the therapist variance of")
    assert "Nothing is said here about therapists" in part.doubt and part.doubt in part.verdict
    assert "not given" in part.text and "nan" not in part.text
    assert "therapist" not in part.identity.split("\n")[1]


def test_clients_who_do_not_differ_have_no_slope_either():
    for seed in range(30):
        part = therapist_partition(to_panel(draw(seed, 40, 6, 5, (0.4, 0.0, 0.5))))
        if part.components.loc["client", "variance"] == 0.0:
            break
    assert np.isnan(estimates(part, "latent")[["client", "difference"]]).all()
    assert np.isfinite(estimates(part, "latent")[["therapist", "session", "total"]]).all()
    assert any("latent client slope does not exist" in note for note in part.notes)
    text = " ".join(part.text.split())
    assert "Client: among clients of the same therapist, these data cannot say" in text
    assert "nan" not in text


def test_sessions_keep_their_numbers_and_gaps_stay_open():
    frame = draw(20, therapists=6, per=4, sessions=8)
    gapped = frame[~frame["session"].isin([3, 6])]
    part = therapist_partition(to_panel(gapped), trend=None)
    assert part.pairs == len(lagged(gapped)) == 24 * 3  # 1-2, 4-5, 7-8
    rows = lagged(gapped)
    total = np.polyfit(rows["alliance"], rows["symptoms"], 1)[0]
    assert abs(estimates(part, "observed")["total"] - total) < EXACT


def test_single_sessions_single_clients_and_constant_series_stay_in():
    frame = draw(21, therapists=12, per=5, sessions=6)
    owner = frame["therapist"]
    frame = frame[(owner != "T0000") | (frame["client"] == "C00000")]  # one client
    frame = frame[(frame["client"] != "C00007") | (frame["session"] <= 2)]  # one pair
    frame = frame[(frame["client"] != "C00008") | (frame["session"] == 1)]  # no pair
    frame.loc[frame["client"] == "C00009", "alliance"] = 4.0
    part = therapist_partition(to_panel(frame))
    assert part.therapists == 12 and part.clients == frame["client"].nunique() - 1
    assert part.pairs == len(lagged(frame))
    assert part.table.drop(columns=["share", "contribution"]).notna().all(axis=None)
    (issue,) = part.issues
    assert (issue.code, issue.count) == ("no-pair-clients", 1) and "C00008" in issue.message
    table = part.table.loc["latent"]
    assert abs(table.loc[LEVELS, "contribution"].sum() - table.loc["total", "estimate"]) < EXACT


def test_switchers_count_under_the_therapist_of_most_sessions_and_are_named():
    frame = draw(22, therapists=12, per=5, sessions=6)
    plain = therapist_partition(to_panel(frame))
    switched = frame.copy()
    mine = switched["client"] == "C00011"
    switched.loc[mine & (switched["session"] > 4), "therapist"] = "T0007"
    part = therapist_partition(to_panel(switched))
    pd.testing.assert_frame_equal(plain.table, part.table)
    (issue,) = part.issues
    assert (issue.code, issue.count) == ("therapist-switches", 1) and "C00011" in part.text


def test_unknown_therapists_are_set_aside_and_counted():
    frame = draw(23, therapists=12, per=5)
    lost = frame["client"].isin(["C00003", "C00033"])
    part = therapist_partition(to_panel(frame.assign(therapist=frame["therapist"].mask(lost))))
    pd.testing.assert_frame_equal(part.table, therapist_partition(to_panel(frame[~lost])).table)
    (issue,) = part.issues
    assert (issue.code, issue.count) == ("missing-therapist", 2)


def test_alliance_rated_once_and_copied_down_counts_once_per_client():
    frame = draw(24, therapists=20, per=6, sessions=5)
    first = frame.groupby("client")["alliance"].transform("first")
    part = therapist_partition(to_panel(frame.assign(alliance=first)))
    assert list(part.table.loc["latent"].index) == ["therapist", "client", "total", "difference"]
    assert part.pairs == part.clients == 120
    assert [issue.code for issue in part.issues] == ["constant-series"]
    rows = lagged(frame.assign(alliance=first)).groupby("client").mean(numeric_only=True)
    y = rows[["alliance", "symptoms"]].to_numpy().reshape(20, 6, 2)
    center = y.mean(axis=1, keepdims=True)
    within = (y - center).reshape(-1, 2)
    client = within[:, 0] @ within / 100
    top = (center - y.mean(axis=(0, 1)))[:, 0]
    therapist = (top[:, 0] @ top * 6 / 19 - client) / 6
    np.testing.assert_allclose(part.components.to_numpy(), [therapist, client], atol=EXACT)
    np.testing.assert_allclose(part.reliability["predicted"], part.reliability["observed"])


def test_one_pair_per_client_is_two_levels():
    frame = draw(25, therapists=20, per=6, sessions=2)
    part = therapist_partition(to_panel(frame))
    assert list(part.components.index) == ["therapist", "client"] and not part.issues
    a, _, client, own = coded(lagged(frame))
    fit = fit_variance_components(a, [own[client]])
    expected = [fit.variances[0], fit.residual]
    np.testing.assert_allclose(part.components["variance"], expected, rtol=REML)
    assert "nan" not in part.text


def test_a_slope_without_an_interval_is_not_given():
    part = therapist_partition(to_panel(draw(26, therapists=2, per=20)))
    row = part.table.loc[("observed", "therapist")]
    assert np.isnan(row["estimate"]) and np.isnan(row["se"]) and np.isfinite(row["contribution"])
    assert "there are 2, and an average over so few" in part.doubt
    assert any("No therapist slope of observed means is given" in n for n in part.notes)
    assert "nan" not in part.text
    rows = part.table.loc["observed"]
    assert abs(rows.loc[LEVELS, "contribution"].sum() - rows.loc["total", "estimate"]) < EXACT
    assert " x " not in part.identity.split(" (therapist)")[0]


@pytest.mark.parametrize(("therapists", "few"), [(29, True), (30, False)])
def test_fewer_than_thirty_therapists_are_not_read(therapists, few):
    part = therapist_partition(to_panel(draw(27, therapists=therapists)))
    assert bool(part.doubt) == few == ("Nothing is said here about therapists" in part.text)
    assert ("Therapist: " in part.text) != few


def test_therapists_told_apart_by_chance_only_are_not_read():
    """Many therapists who hardly differ: a slope that divides by next to nothing."""
    told = []
    for seed in range(12):
        frame = draw(seed, 40, 5, 5, (0.02, 0.6, 0.6), (0.0, -0.5, 0.0))
        part = therapist_partition(to_panel(frame))
        weak = any("hardly told from zero" in note for note in part.notes)
        zero = np.isnan(part.slope("therapist").lower)
        told.append(not (weak or zero))
        assert bool(part.doubt) == (weak or zero)
        assert ("the level matters" in part.text) <= told[-1]
    assert sum(told) <= 3


def fallen(seed, fall=-1.2):
    """Draw panels in which nothing goes with anything but that all symptoms fall."""
    frame = draw(seed, 30, 5, 8, slopes=(0.0, 0.0, 0.0))
    return frame.assign(
        alliance=frame["alliance"] + 0.15 * frame["session"],
        symptoms=frame["symptoms"] + fall * frame["session"],
    )


def test_a_course_that_all_share_is_no_slope_of_sessions():
    off, left_in = 0, 0
    for seed in range(20):
        frame = thin(fallen(seed), seed)
        slope = therapist_partition(to_panel(frame)).slope("session")
        off += slope.lower > 0.0 or slope.upper < 0.0
        held = therapist_partition(to_panel(frame), trend=None).slope("session")
        left_in += held.upper < 0.0
    assert off <= 4 and left_in >= 18


def test_taking_the_course_out_undoes_it_exactly():
    """Any course that all share leaves every number as it is."""
    frame = thin(draw(40, 12, 5, 6))
    bent = frame.assign(
        alliance=frame["alliance"] + np.sqrt(frame["session"]),
        symptoms=frame["symptoms"] - frame["session"] ** 2,
    )
    plain, moved = (therapist_partition(to_panel(one)).table for one in (frame, bent))
    np.testing.assert_allclose(moved, plain, rtol=1e-4, atol=1e-7)
    refuse("trend is 'linear'; choose 'session'", trend="linear")


def refuse(match, frame=None, therapist="therapist", **options):
    panel = to_panel(draw(0, 3, 3, 3) if frame is None else frame, therapist)
    with pytest.raises(SpecificationError, match=match):
        therapist_partition(panel, **options)


def test_what_cannot_be_asked_is_refused_by_name():
    frame = draw(0, 3, 3, 3)
    refuse("no therapist column", therapist=None)
    refuse("therapist column is empty", frame.assign(therapist=None))
    refuse("scores of 1 therapist only", frame[frame["therapist"] == "T0000"])
    refuse("Each of the 3 therapists has a single client", draw(0, 3, 1, 4))
    refuse("'mood'", process="mood")
    refuse("both 'symptoms'", process="symptoms")
    refuse("lag=2", lag=2)
    refuse("level is 95", level=95)
    refuse("alliance is the same in every pair", frame.assign(alliance=3.0))
    refuse("symptoms is the same in every pair", frame.assign(symptoms=3.0))
    never = frame.assign(symptoms=frame["symptoms"].where(frame["session"] == 1))
    refuse("No client has alliance at one session and symptoms at the next", never)


def test_scores_of_one_session_warn_by_their_order():
    frame = draw(30, 10, 4, 4)
    with pytest.warns(InferenceWarning, match="way from symptoms to alliance as well"):
        part = therapist_partition(to_panel(frame), lag=0)
    assert "Use lag=1" in part.text and "at the same session" in part.text
    assert part.pairs == len(frame)
    with pytest.warns(InferenceWarning, match="symptoms was rated before .* even so"):
        therapist_partition(to_panel(frame), process="symptoms", outcome="alliance", lag=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        therapist_partition(to_panel(frame), process="symptoms", outcome="alliance")


# What a reader sees.


def test_the_text_reads_the_slopes_and_stays_modest():
    part = therapist_partition(to_panel(draw(31, 60, 10, 6, (0.3, 0.4, 0.4), (-0.8, 0.0, -0.2))))
    text = " ".join(part.text.split())
    slope = part.slope("therapist")
    assert f"(latent slope {slope})" in text and f"points lower (latent slope {slope})" in text
    assert f"The two slopes differ by {part.slope('difference')}" in text
    assert "Client: among clients of the same therapist, no association of average" in text
    assert "associations, not effects" in text and "not assigned to therapists at random" in text
    assert "do not rank therapists" in text
    for line in part.identity.split("\n"):
        assert line in part.text
        total, terms = line.partition(": ")[2].split(" = ")
        pieces = [term.split(" (")[0].split(" x ") for term in terms.split(" + ")]
        assert abs(float(total) - sum(float(a) * float(b) for a, b in pieces)) < 2e-3
    lam = part.reliability.loc["therapist", "reliability"]
    assert f"Its reliability (lambda) is {lam:.2f}" in text
    assert max(map(len, part.text.split("\n"))) <= 110


def test_a_difference_between_verdicts_is_not_a_verdict():
    for seed in range(60):
        part = therapist_partition(to_panel(draw(seed, 30, 8, 5, (0.2, 0.5, 0.4), (-0.3, -0.2, 0))))
        rows = part.table.loc["latent"]
        told = rows["lower"].gt(0.0) | rows["upper"].lt(0.0)
        if told["client"] and not (part.doubt or told["therapist"] or told["difference"]):
            break
    assert "so there is no verdict. That the interval of one contains zero" in " ".join(
        part.text.split()
    )


def test_the_result_prints_pickles_and_answers_by_level():
    part = therapist_partition(to_panel(draw(32)))
    assert str(part) == part.text and "\n" not in repr(part)
    assert repr(part) == (
        "TherapistPartition(alliance -> symptoms; lag=1; 40 therapists, 400 clients)"
    )
    assert part._repr_html_().startswith("<pre>")
    copy = pickle.loads(pickle.dumps(part))
    assert isinstance(copy, TherapistPartition) and copy.text == part.text
    row = part.table.loc[("observed", "client")]
    slope = part.slope("client", "observed")
    assert (slope.value, slope.lower, slope.p_value) == tuple(row[["estimate", "lower", "p_value"]])
    with pytest.raises(SpecificationError, match="'site'"):
        part.slope("site")
    with pytest.raises(AttributeError):
        part.lag = 0
