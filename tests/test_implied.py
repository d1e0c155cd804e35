"""What a world implies, and what is simulated from it, over random parameters.

Each property is computed from the scores by a way of its own (regression, analysis of variance,
counting) and must meet the figure that the world states within Monte Carlo error.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alliancedyn.errors import SpecificationError
from alliancedyn.simulate import (
    Confounder,
    Dropout,
    Dynamics,
    Event,
    Therapists,
    simulate,
    simulate_scores,
)

# Standard errors: examples are the same in every run, and some two hundred comparisons among them
# would exceed four by chance once in eighty choices of examples.
MC_ERRORS = 4
N = 12000

many = settings(max_examples=15, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


def drawn(seed, k=2, radius=0.9, **options):
    """Draw a world from the whole range of lags and covariances."""
    rng = np.random.default_rng(seed)
    phi = rng.uniform(-0.7, 0.7, (k, k))
    phi *= min(1.0, radius / np.abs(np.linalg.eigvals(phi)).max())
    innovation, between = np.tril(rng.uniform(-2, 2, (2, k, k)))
    return Dynamics(
        phi=phi,
        innovation_cov=innovation @ innovation.T + 0.1 * np.eye(k),
        between_cov=between @ between.T,
        mean=rng.uniform(-5, 15, k),
        variables=("alliance", "symptoms", "hope")[:k],
        **options,
    )


def within_alone(truth):
    k = len(truth.variables)
    return Dynamics(
        phi=truth.phi,
        innovation_cov=truth.innovation_cov,
        variables=truth.variables,
        phi2=truth.phi2,
        confounder=truth.confounder,
        mean=np.zeros(k),
    )


def scores(truth, clients, sessions, seed=1):
    return simulate_scores(truth, clients, sessions, np.random.default_rng(seed))


def regressed(X, y):
    """Return least-squares coefficients and their standard errors, no intercept."""
    fit, *_ = np.linalg.lstsq(X, y, rcond=None)
    spread = np.sqrt(np.mean((y - X @ fit) ** 2) * np.diag(np.linalg.inv(X.T @ X)))
    return fit, spread


@many
@given(seeds, st.sampled_from([2, 3]))
def test_stationary_covariance_at_every_session(seed, k):
    truth = within_alone(drawn(seed, k))
    Y = scores(truth, N, 4)
    W = truth.within_cov
    error = np.sqrt((np.outer(np.diag(W), np.diag(W)) + W**2) / N)
    for t in range(4):
        assert np.all(np.abs(Y[:, t].T @ Y[:, t] / N - W) <= MC_ERRORS * error)


@many
@given(seeds, st.sampled_from([2, 3]))
def test_impulse_responses_are_the_regressions_on_the_first_session(seed, k):
    truth = within_alone(drawn(seed, k))
    Y = scores(truth, N, 5)
    implied = [truth.impulse_response(name, 4).to_numpy() for name in truth.variables]
    for h in range(1, 5):
        for j in range(k):
            fit, spread = regressed(Y[:, 0], Y[:, h, j])
            theory = [response[h, j] for response in implied]
            assert np.all(np.abs(fit - theory) <= MC_ERRORS * spread)


@many
@given(seeds, st.floats(-0.2, 0.2), st.floats(-0.8, 0.8), st.floats(0.1, 0.5))
def test_second_lags_and_common_causes_have_the_covariance_they_imply(seed, lag, own, effect):
    whole = drawn(
        seed, radius=0.6, phi2=lag * np.eye(2), confounder=Confounder((effect, -effect), phi=own)
    )
    truth = within_alone(whole)
    Y = scores(truth, N, 3).reshape(N, 6)
    _, cov = truth.moments(3)
    error = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / N)
    assert np.all(np.abs(Y.T @ Y / N - cov) <= MC_ERRORS * error)


@many
@given(st.tuples(*[st.floats(-0.6, 0.6)] * 5), st.floats(0.2, 3.0), st.floats(0.2, 3.0), seeds)
def test_paths_in_time_order_are_the_regressions_in_time_order(paths, alliance, symptoms, seed):
    phi_a, phi_s, b, g, h = paths
    try:
        truth = Dynamics.time_ordered(phi_a, phi_s, b, g, alliance, symptoms, backward_delayed=h)
    except SpecificationError:  # explosive: see below
        return
    Y = scores(truth, N, 3, seed)
    A, S = Y[:, :, 0], Y[:, :, 1]
    fit, spread = regressed(np.column_stack([A[:, 1], S[:, 1]]), S[:, 2])
    assert np.all(np.abs(fit - [b, phi_s]) <= MC_ERRORS * spread)
    fit, spread = regressed(np.column_stack([S[:, 2], A[:, 1], S[:, 1]]), A[:, 2])
    assert np.all(np.abs(fit - [g, phi_a, h]) <= MC_ERRORS * spread)
    fit, spread = regressed(Y[:, 1], A[:, 2])  # the reduced form: what a lag-1 model sees
    assert np.all(np.abs(fit - truth.phi[0]) <= MC_ERRORS * spread)
    assert truth.phi[0, 0] == pytest.approx(phi_a + g * b)
    assert truth.phi[0, 1] == pytest.approx(h + g * phi_s)


@many
@given(seeds, st.tuples(st.floats(0.3, 1.0), st.floats(0.3, 1.0)))
def test_icc_is_the_correlation_of_sessions_far_apart(seed, reliability):
    truth = drawn(seed, radius=0.5, reliability=reliability)
    Y = scores(truth, N, 21)  # .5^20: nothing within is left
    for j, name in enumerate(truth.variables):
        far = np.corrcoef(Y[:, 0, j], Y[:, 20, j])[0, 1]
        icc = truth.icc[name]
        assert abs(far - icc) <= MC_ERRORS * (1 - icc**2) / np.sqrt(N)


@many
@given(seeds, st.tuples(st.floats(0.2, 1.0), st.floats(0.2, 1.0)))
def test_reliability_is_the_share_of_the_variance_within(seed, reliability):
    truth = drawn(seed, reliability=reliability)
    exact = Dynamics(
        phi=truth.phi,
        innovation_cov=truth.innovation_cov,
        between_cov=truth.between_cov,
        mean=truth.mean,
    )
    Y, clean = scores(truth, N, 2), scores(exact, N, 2)
    levels = scores(
        Dynamics(phi=np.zeros((2, 2)), innovation_cov=np.zeros((2, 2)),
                 between_cov=truth.between_cov, mean=truth.mean), N, 2,
    )  # fmt: skip
    within, noise = (clean - levels)[:, 0].var(axis=0), (Y - clean)[:, 0].var(axis=0)
    share = within / (within + noise)
    r = np.array(reliability)
    assert np.all(np.abs(share - r) <= MC_ERRORS * r * (1 - r) * 2.0 / np.sqrt(N) + 1e-12)


@many
@given(st.floats(0.02, 0.4), st.integers(2, 10), seeds)
def test_ruptures_begin_at_their_hazard(hazard, sessions, seed):
    truth = Dynamics(
        phi=0.3 * np.eye(2), innovation_cov=np.eye(2),
        events=[Event("rupture", (-1.0, 0.0), hazard=hazard, repair=0.4)],
    )  # fmt: skip
    frame = simulate(truth, 3000, sessions, seed=seed).frame
    open_at = frame["rupture"].to_numpy().reshape(3000, sessions)
    met = np.maximum.accumulate(open_at, axis=1).mean(axis=0)
    expected = 1 - (1 - hazard) ** np.arange(1, sessions + 1)
    assert np.all(np.abs(met - expected) <= MC_ERRORS * np.sqrt(expected * (1 - expected) / 3000))


def test_the_default_hazard_meets_half_of_the_clients_by_session_six():
    assert Event("rupture", (-1.0, 0.0)).hazard == 0.109
    met = 1 - (1 - 0.109) ** 6
    assert met == pytest.approx(0.5, abs=5e-4)


RULES = ("random", "unwell", "well_enough", "improving", "low", "administrative")


@settings(max_examples=18, deadline=None, derandomize=True)
@given(st.sampled_from(RULES), st.floats(0.02, 0.9), st.floats(0.2, 3.0), st.integers(1, 4), seeds)
def test_the_share_who_leave_is_the_rate(rule, rate, strength, first, seed):
    leaving = Dropout(rule, rate=rate, strength=strength, first=first)
    frame = simulate(drawn(seed), 3000, 7, dropout=leaving, missing=0.1, seed=seed).frame
    last = frame.groupby("client", observed=True)["session"].max()
    assert abs((last < 7).mean() - rate) <= MC_ERRORS * np.sqrt(rate * (1 - rate) / 3000)
    assert last.min() >= first


@many
@given(seeds, st.floats(0.02, 0.4), st.integers(100, 300))
def test_therapist_icc_by_analysis_of_variance(seed, icc, therapists):
    truth = drawn(seed)
    total = np.diag(truth.between_cov) + np.diag(truth.within_cov)
    cov = np.diag(total * icc / (1 - icc))
    who = Therapists(therapists, cov)
    frame = simulate(truth, 6000, 2, therapists=who, seed=seed).frame
    first = frame[frame["session"] == 1]
    for name, own, rest in zip(truth.variables, np.diag(cov), total, strict=True):
        by = first.groupby("therapist", observed=True)[name]
        n, mean, var = by.size().to_numpy(), by.mean().to_numpy(), by.var().to_numpy()
        a = len(n)
        within = np.sum((n - 1) * np.nan_to_num(var)) / (n.sum() - a)
        between = np.sum(n * (mean - first[name].mean()) ** 2) / (a - 1)
        size = (n.sum() - (n**2).sum() / n.sum()) / (a - 1)
        found = (between - within) / size
        error = np.sqrt(2.0 / (a - 1)) * (own + rest / size)
        assert abs(found - own) <= MC_ERRORS * error
        assert abs(within - rest) <= MC_ERRORS * rest * np.sqrt(2.0 / (n.sum() - a))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seeds, st.sampled_from([2, 3]), st.floats(0.5, 1.5))
def test_explosive_lags_are_refused_and_no_others(seed, k, radius):
    phi = np.random.default_rng(seed).uniform(-1, 1, (k, k))
    phi *= radius / np.abs(np.linalg.eigvals(phi)).max()
    names = ("a", "b", "c")[:k]
    if radius < 1.0 - 1e-9:
        assert np.isfinite(Dynamics(phi, np.eye(k), variables=names).within_cov).all()
    elif radius > 1.0 + 1e-9:
        with pytest.raises(SpecificationError, match="explosive: its spectral radius"):
            Dynamics(phi, np.eye(k), variables=names)
