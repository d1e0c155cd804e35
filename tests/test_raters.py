"""Several raters of one series: loadings, errors, and views of a client that stay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import alliancedyn as ad
from alliancedyn.errors import SpecificationError
from alliancedyn.simulate import Dynamics, Episodes, Items, simulate

MC_ERRORS = 4  # Monte Carlo standard errors a figure may be off what theory says
TRUTH = Dynamics(
    phi=[[0.36, -0.05], [-0.12, 0.45]],
    innovation_cov=[[1, -0.25], [-0.25, 1]],
    between_cov=[[0.8, -0.3], [-0.3, 1.0]],
    mean=(5.0, 10.0),
)
TWO = Items(
    ("by_client", "by_therapist"), loading=(1.0, 0.7), intercept=(0.0, 1.0),
    error_var=(0.2, 0.4), stable_var=(0.1, 0.5),
)  # fmt: skip


def assert_cov(rows, cov):
    """The sample covariance of normal rows lies within Monte Carlo error of ``cov``."""
    spread = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / len(rows))
    assert np.all(np.abs(np.cov(rows.T) - cov) < MC_ERRORS * spread)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.floats(0.3, 1.5), st.floats(0.0, 1.0), st.floats(0.0, 2.0), st.integers(0, 2**32 - 1))
def test_two_sessions_of_two_raters_have_the_implied_covariance(loading, error, view, seed):
    raters = Items(
        ("a", "b"), loading=(1.0, loading), error_var=(0.3, error), stable_var=(view, 0.2)
    )
    Y = simulate(TRUTH, 20000, 2, items={"alliance": raters}, seed=seed).arrays().Y
    ((_, score),) = [TRUTH.moments(2)]
    own = score[np.ix_([0, 2], [0, 2])]  # alliance at sessions 1 and 2
    load = np.outer([1.0, loading], [1.0, loading])
    cov = np.kron(own, load) + np.kron(np.ones((2, 2)), np.diag([view, 0.2]))
    cov += np.kron(np.eye(2), np.diag([0.3, error]))
    assert_cov(Y[:, :, :2].reshape(-1, 4), cov)


def test_raters_agree_as_far_as_they_see_the_same():
    panel = simulate(TRUTH, 20000, 2, items={"alliance": TWO}, seed=1)
    assert panel.variables == ("by_client", "by_therapist", "symptoms")
    assert panel.process == "by_client"
    Y = panel.arrays().Y[:, 0]
    total = 0.8 + TRUTH.within_cov[0, 0]
    agree = 0.7 * total / np.sqrt((total + 0.3) * (0.49 * total + 0.9))
    assert abs(np.corrcoef(Y[:, 0], Y[:, 1])[0, 1] - agree) < MC_ERRORS / np.sqrt(20000)
    np.testing.assert_allclose(Y[:, :2].mean(axis=0), [5.0, 4.5], atol=0.05)


def test_a_view_stays_with_the_client_and_is_none_of_the_other_raters():
    still = Dynamics(phi=np.zeros((2, 2)), innovation_cov=np.zeros((2, 2)))
    raters = Items(("a", "b"), stable_var=(1.0, 2.0))
    Y = simulate(still, 5000, 3, items={"alliance": raters}, seed=1).arrays().Y
    np.testing.assert_array_equal(Y[:, 0], Y[:, 2])
    assert_cov(Y[:, 0, :2], np.diag([1.0, 2.0]))
    back = simulate(still, 40, 3, items={"alliance": raters}, episodes=Episodes(0.5), seed=1).frame
    assert back.groupby("client", observed=True)["a"].nunique().eq(1).all(), (
        "a person's, not an episode's"
    )


def test_views_leave_the_rest_as_it_was():
    plain = Items(("a", "b"), error_var=0.3)
    same = Items(("a", "b"), error_var=0.3, stable_var=0.0)
    first, second = (
        simulate(TRUTH, 20, 3, items={"alliance": one}, seed=1).frame for one in (plain, same)
    )
    assert first.equals(second)


def test_actor_and_partner_effects_are_recovered():
    world = ad.worlds.load("two_raters")
    study = ad.recover(
        ad.RICLPM(means="equal", initial="stationary"),
        world,
        150,
        6,
        replications=16,
        seed=3,
        jobs=1,
    )
    lags = [name for name in study.target.index if name.startswith("phi[")]
    table = study.table().loc[lags]
    assert study.target[lags].notna().all()
    assert len(lags) == 9
    assert (np.abs(table["bias"]) <= MC_ERRORS * table["mcse_bias"]).all()
    assert not study.failures


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stable_var": -1.0}, "stable_var must not be negative"),
        ({"stable_var": (1.0,)}, "stable_var has shape"),
        ({"stable_var": "large"}, "stable_var is 'large'; give several"),
    ],
)
def test_impossible_views_are_refused(options, message):
    with pytest.raises(SpecificationError, match=message):
        Items(("a", "b"), **options)


def test_a_rater_cannot_have_the_name_of_a_role():
    with pytest.raises(SpecificationError, match="cannot be called 'client', 'therapist'"):
        Items(("client", "therapist"))
    with pytest.raises(SpecificationError, match="cannot be called 'session'"):
        Dynamics(phi=0.3 * np.eye(2), innovation_cov=np.eye(2), variables=("session", "mood"))
