"""The compiled loop for clients who share a system, against the kernels for clients who do not.

Tolerance. The same numbers by two routes, variances by pattern and sums here, session by session
there: 1e-9 of the largest, for matrices of at most three rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_gibbs import drawn

from alliancedyn.engine import gibbs_shared
from alliancedyn.engine.dsem import Array
from alliancedyn.engine.gibbs_common import make_room
from alliancedyn.engine.gibbs_effects import draw_effects, spread
from alliancedyn.engine.gibbs_first import open_patterns, set_openings, spread_first
from alliancedyn.engine.gibbs_intercepts import draw_intercepts, spread_intercepts
from alliancedyn.engine.gibbs_segments import lay_out_segments
from alliancedyn.engine.gibbs_small import seed_thread
from alliancedyn.engine.gibbs_start import lay_out
from alliancedyn.engine.gibbs_states import draw_states, filter_all, moments
from alliancedyn.engine.gibbs_systems import scores_at_mean

EXACT = 1e-9

PHI = np.array([[0.4, -0.1, 0.2], [0.15, 0.3, 0.0], [-0.2, 0.1, 0.5]])
PSI = np.array([[1.0, 0.3, -0.2], [0.3, 0.8, 0.1], [-0.2, 0.1, 1.2]])
FIRST = np.array([[1.5, -0.4, 0.3], [-0.4, 1.1, 0.2], [0.3, 0.2, 0.9]])


CASES: dict[str, dict[str, Any]] = {
    "two series": {"clients": 9, "sessions": 12},
    "one series": {"clients": 8, "sessions": 6, "k": 1},
    "three series": {"clients": 9, "sessions": 9, "k": 3},
    "measurement error": {"clients": 7, "sessions": 6, "noise": 0.3},
}


class Both:
    """The same clients filtered by pattern and one by one."""

    def __init__(self, case: str) -> None:
        self.panel = panel = lay_out(drawn("intercepts", **CASES[case])[0])
        N, _, k = panel.y.shape
        phi, psi, first = (x[:k, :k].copy() for x in (PHI, PSI, FIRST))
        self.phi, self.axes = phi, tuple(range(k))
        segments, self.room = panel.segments, make_room(panel)
        room = self.room
        gibbs_shared.sum_runs(self.axes, panel.y, panel.whole, panel.last, room.runs)
        gibbs_shared.set_patterns(
            self.axes, segments.pattern, segments.rows, panel.noise, phi, psi, first, room.table,
            room.known,
        )  # fmt: skip
        gibbs_shared.intercept_information(
            self.axes, segments.place, segments.pattern, panel.y, panel.whole, room.runs, phi, psi,
            first, room.table, room.known, room.w, room.info, room.score,
        )  # fmt: skip
        self.every = [np.tile(x, (N, 1, 1)) for x in (phi, psi)]
        G = segments.gaps
        self.gaps = (np.zeros((G, k)), np.zeros((G, k, k)), np.zeros((G, k, k)))
        self.info, self.score = np.zeros((N, k, k)), np.zeros((N, k))
        filter_all(
            panel.y, panel.seen, panel.whole, panel.slot, panel.last, panel.noise, *self.every,
            first, *self.gaps, self.info, self.score,
        )  # fmt: skip
        self.m = np.random.default_rng(4).normal(size=(N, k))


def close(found: Array, other: Array) -> bool:
    return bool(np.abs(found - other).max() <= EXACT * np.abs(other).max())


@pytest.mark.parametrize("case", CASES)
def test_patterns_say_of_intercepts_what_the_filter_of_every_client_says(case: str) -> None:
    both = Both(case)
    assert close(both.room.info, both.info)
    assert close(both.room.score, both.score)


def states(both: Both, seed: int) -> tuple[Array, Array]:
    """Draw the states by pattern and one by one: (N, T, k) each, from the same numbers."""
    panel, segments = both.panel, both.panel.segments
    own, other = np.zeros((2, *panel.y.shape))
    seed_thread(seed)
    w = both.room.w.copy()
    gibbs_shared.draw_segments(
        both.axes, segments.place, segments.pattern, panel.y, both.m, both.phi, both.room.table, w
    )
    gibbs_shared.fill_states(
        segments.place, segments.pattern, panel.y, both.m, panel.last, w, own
    )  # fmt: skip
    seed_thread(seed)
    draw_states(
        panel.y, panel.whole, panel.slot, panel.last, both.m, *both.every, *both.gaps, other
    )
    return own, other


@pytest.mark.parametrize("case", CASES)
def test_states_have_the_mean_and_variance_that_they_have_client_by_client(case: str) -> None:
    """H0: equal means and variances of 1,500 draws each; 5 is far out for some 300 z scores."""
    both, count = Both(case), 1500
    drawn_both = np.array([states(both, seed) for seed in range(count)])
    own, other = drawn_both[:, 0], drawn_both[:, 1]
    spread = np.hypot(own.std(axis=0), other.std(axis=0))
    known = spread < 1e-12
    assert close(own.mean(axis=0)[known], other.mean(axis=0)[known])
    z = (own.mean(axis=0) - other.mean(axis=0))[~known] / spread[~known] * np.sqrt(count)
    assert np.abs(z).max() < 5.0
    ratio = np.log(own.std(axis=0)[~known] / other.std(axis=0)[~known])
    assert np.abs(ratio).max() < 5.0 / np.sqrt(count)


@pytest.mark.parametrize("case", CASES)
def test_intercepts_are_spread_and_drawn_as_effects_of_any_kind_are(case: str) -> None:
    both = Both(case)
    N, k = both.m.shape
    A, score, mean, V = both.info, both.score, 0.5 * both.m, FIRST[:k, :k].copy()
    r = scores_at_mean(A, score, mean, 0)
    own, other = (
        (np.zeros((N, k, k)), np.zeros((N, k, 1)), np.zeros((N, k))) for _ in range(2)
    )  # fmt: skip
    spread_intercepts(both.axes, A, score, mean, V, *own[:2])
    spread(A, r, V, 0, k, other[2], *other[:2])
    seed_thread(1)
    draw_intercepts(both.axes, A, score, mean, V, own[2])
    seed_thread(1)
    draw_effects(A, r, V, 0, k, other[2])
    for x, y in zip(own, other, strict=True):
        assert close(x, y)


@pytest.mark.parametrize("case", CASES)
def test_sums_over_runs_and_segments_are_those_over_all_sessions(case: str) -> None:
    both = Both(case)
    panel, segments, room = both.panel, both.panel.segments, both.room
    N, T, k = panel.y.shape
    gibbs_shared.draw_segments(
        both.axes, segments.place, segments.pattern, panel.y, both.m, both.phi, room.table, room.w
    )
    gibbs_shared.sum_moments(
        both.axes, segments.place, segments.pattern, panel.y, both.m, room.w, panel.whole,
        room.runs, room.S, room.scatter,
    )  # fmt: skip
    W, S, scatter = np.zeros((N, T, k)), np.zeros((3, N, k, k)), np.zeros((k, k))
    gibbs_shared.fill_states(
        segments.place, segments.pattern, panel.y, both.m, panel.last, room.w, W
    )  # fmt: skip
    moments(W, panel.last, S, scatter)
    assert close(room.S, S.sum(axis=1))
    assert close(room.scatter, scatter)
    again = np.zeros_like(room.w)
    gibbs_shared.read_states(segments.place, segments.pattern, W, again)
    np.testing.assert_array_equal(again, room.w)


def test_clients_with_the_same_holes_share_a_pattern() -> None:
    seen = np.ones((5, 6, 2), np.bool_)
    seen[:3, 2, 0] = seen[3, 2:4, 1] = seen[4, 4:] = seen[0, 0] = False
    last = np.array([6, 6, 6, 6, 4])
    found = lay_out_segments(seen, seen.all(axis=2), last)
    assert found.gaps == 6
    assert len(found.pattern) == 3
    assert sorted(found.place[:, 2].tolist()).count(found.place[1, 2]) == 3
    assert found.rows.shape == ((1 + 1) + (1 + 1) + (2 + 1), 2)


def first_state(both: Both, i: int, V: Array, mean: Array) -> tuple[Array, Array]:
    """Mean and covariance of a client's first state given all scores, from one normal density."""
    panel = both.panel
    _, T, k = panel.y.shape
    phi, psi, first = both.phi, both.every[1][i], FIRST[:k, :k]
    carry = [np.linalg.matrix_power(phi, t) for t in range(T)]  # of w_1 and of every innovation
    ways = np.zeros((T, T + 1, k, k))  # of y_t on (w_1, e_2, .., e_T, m)
    for t in range(T):
        for s in range(t + 1):
            ways[t, s] = carry[t - s]
        ways[t, T] = np.eye(k)
    loads = ways.transpose(0, 2, 1, 3).reshape(T * k, (T + 1) * k)
    known = np.zeros(((T + 1) * k,) * 2)
    for s, own in enumerate([first, *[psi] * (T - 1), V]):
        known[s * k : (s + 1) * k, s * k : (s + 1) * k] = own
    seen = panel.seen[i].ravel()
    cov = loads @ known @ loads.T + np.diag(np.tile(panel.noise, T))
    away = (panel.y[i] - mean).ravel()[seen]
    gain = np.linalg.solve(cov[np.ix_(seen, seen)], (loads @ known)[seen, :k]).T
    return gain @ away, first - gain @ (loads @ known)[seen, :k]


@pytest.mark.parametrize("case", CASES)
def test_first_states_are_known_as_in_the_density_of_all_scores(case: str) -> None:
    both = Both(case)
    panel, segments, room = both.panel, both.panel.segments, both.room
    N, _, k = both.panel.y.shape
    P = len(segments.pattern)
    V, first, mean = PSI[:k, :k] + np.eye(k), FIRST[:k, :k].copy(), 0.5 * both.m
    line, var = np.zeros((2, P, k, k))
    opening, own = np.zeros((N, k)), np.zeros(N, np.int64)
    H, g = np.zeros((N, k, k)), np.zeros((N, k, 1))
    open_patterns(both.axes, segments.pattern, both.phi, room.table, line, var)
    set_openings(
        both.axes, segments.place, segments.pattern, panel.y, both.phi, room.table, room.w,
        opening, own,
    )  # fmt: skip
    spread_first(
        both.axes, opening, own, line, var, room.info, room.score, mean, V, first, H, g
    )  # fmt: skip
    assert (own >= 0).any()
    weight = np.linalg.inv(first)
    dense = [first_state(both, i, V, mean[i]) for i in range(N)]
    assert close(g[..., 0], np.array([weight @ e for e, _ in dense]))
    assert close(H, np.array([weight - weight @ C @ weight for _, C in dense]))
