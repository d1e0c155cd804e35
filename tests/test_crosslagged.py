"""Options, refusals, verdicts and invariances of the cross-lagged families."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_reference import COMPLETE, MISSING, panel

from alliancedyn import (
    CLPM,
    RICLPM,
    ConvergenceError,
    InferenceWarning,
    SessionPanel,
    SpecificationError,
)

Array = NDArray[np.float64]

PHI = np.array([[0.35, -0.05], [-0.15, 0.45]])


def scores(seed: int, clients: int, sessions: int, phi: Array = PHI, between: float = 1.0) -> Array:
    """Simulate (N, T, k) scores with random intercepts, plainly."""
    rng = np.random.default_rng(seed)
    k = len(phi)
    w = rng.standard_normal((clients, k))
    out = np.empty((clients, sessions, k))
    trait = np.sqrt(between) * rng.standard_normal((clients, k))
    for t in range(sessions):
        if t:
            w = w @ phi.T + rng.standard_normal((clients, k))
        out[:, t] = 10.0 + trait + w
    return out


def as_panel(Y: Array, variables: tuple[str, ...] = ("alliance", "symptoms")) -> SessionPanel:
    clients, sessions, k = Y.shape
    frame = pd.DataFrame(
        {
            "client": np.repeat([f"C{i:05d}" for i in range(clients)], sessions),
            "session": np.tile(np.arange(1, sessions + 1), clients),
            **{v: Y[:, :, j].ravel() for j, v in enumerate(variables)},
        }
    )
    frame = frame[~np.isnan(Y.reshape(-1, k)).all(axis=1)]
    timing = {"alliance": "after", "symptoms": "before"}
    return SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables={v: v for v in variables},
        process=variables[0],
        outcome=variables[1],
        timing={v: timing[v] for v in variables if v in timing},
    )


# -- specifications


def test_specifications_are_values() -> None:
    assert RICLPM(lags="free") == RICLPM(lags="free")
    assert RICLPM() != CLPM()
    assert pickle.loads(pickle.dumps(RICLPM(sessions=(2, 5)))) == RICLPM(sessions=(2, 5))
    assert hash(RICLPM(variables=["a", "b"])) == hash(RICLPM(variables=("a", "b")))
    assert "lags='free'" in repr(RICLPM(lags="free"))
    assert RICLPM().assumptions
    assert RICLPM().references


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"lags": "equals"}, "choose 'equal' or 'free'"),
        ({"initial": "stationary", "lags": "free"}, "equal over sessions"),
        ({"starts": 0}, "from 1 up"),
    ],
)
def test_contradictory_options_are_refused(options: dict[str, object], fragment: str) -> None:
    with pytest.raises(SpecificationError, match=fragment):
        RICLPM(**options)  # type: ignore[arg-type]


# -- refusals


def test_too_few_sessions() -> None:
    with pytest.raises(SpecificationError, match="3 or more sessions"):
        RICLPM().fit(as_panel(scores(1, 50, 2)))
    assert CLPM().fit(as_panel(scores(1, 50, 2))).converged


def test_unknown_variable_is_named() -> None:
    with pytest.raises(SpecificationError, match="'bond'"):
        RICLPM(variables=("alliance", "bond")).fit(panel(COMPLETE, "panel"))


def test_one_variable_is_not_enough() -> None:
    with pytest.raises(SpecificationError, match="two or more"):
        RICLPM(variables=("alliance", "alliance")).fit(panel(COMPLETE, "panel"))


def test_a_constant_series_is_refused() -> None:
    Y = scores(2, 60, 6)
    Y[:, :, 1] = 40.0
    with pytest.raises(SpecificationError, match="'symptoms' has the same value in every row"):
        RICLPM().fit(as_panel(Y))


def test_a_thin_session_is_refused_with_the_remedy() -> None:
    Y = scores(3, 60, 6)
    Y[4:, 5] = np.nan
    with pytest.raises(SpecificationError, match=r"sessions=\(1, 5\)"):
        RICLPM().fit(as_panel(Y))
    assert RICLPM(sessions=(1, 5)).fit(as_panel(Y)).sample.sessions == 5
    assert RICLPM(means="equal").fit(as_panel(Y)).converged


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"step": 2}, "step=2 leaves no lagged effects.*from 3 to 5"),
        ({"step": 6}, "from 3 to 5"),
        ({"step": 3, "order": 2}, "from 4 to 5"),
        ({"step": 3.5}, r"step is 3\.5"),
        ({"step": "five"}, "step is 'five'"),
        ({"measurement_var": {"mood": 1.0}}, "'mood'; the scores of this model are 'alliance'"),
        ({"reliability": {"mood": 0.8}}, "reliability names 'mood'"),
        ({"measurement_var": {"symptoms": 1e4}}, "is 10000, and the scores themselves vary by"),
        ({"indicators": {"a": ["alliance", "alliance"], "s": ["symptoms"]}}, "more than once"),
        ({"indicators": {"a": ["alliance"], "s": ["alliance"]}}, "one series"),
        ({"indicators": {"a": "alliance", "s": ["symptoms"]}}, "indicators is .*give a dict"),
        ({"indicators": {"a": [], "s": ["symptoms"]}}, "in a list"),
        ({"time_varying": ("alliance",)}, "a series of the model itself"),
        ({"covariates": ("severity", "severity")}, "names 'severity' more than once"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], fragment: str) -> None:
    with pytest.raises(SpecificationError, match=fragment):
        RICLPM(**options).fit(panel(COMPLETE, "panel"))


def test_an_empty_window_is_refused() -> None:
    with pytest.raises(SpecificationError, match="holds none"):
        RICLPM(sessions=(50, 60)).fit(panel(COMPLETE, "panel"))


@pytest.mark.parametrize(
    ("errors", "fragment"),
    [
        ("sandwich", "'observed', 'robust'"),
        ("cluster:", "choose"),
        ("cluster:therapist", "have no"),
    ],
)
def test_unknown_errors_are_refused(errors: str, fragment: str) -> None:
    with pytest.raises(SpecificationError, match=fragment):
        RICLPM().fit(as_panel(scores(4, 40, 4)), errors=errors)


def test_no_convergence_raises_with_the_fit_or_returns_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from alliancedyn.engine import maximise

    monkeypatch.setattr(
        maximise, "_search", lambda objective, start: maximise._End(start, -1e4, True, 1)
    )
    monkeypatch.setattr(maximise, "_polish", _unpolished)
    with pytest.raises(ConvergenceError, match="log-likelihood still to gain") as raised:
        RICLPM().fit(panel(COMPLETE, "panel"))
    assert not raised.value.fit.converged
    fit = RICLPM().fit(panel(COMPLETE, "panel"), strict=False)
    assert not fit.converged
    assert "NOT CONVERGED" in repr(fit)


def _unpolished(objective: object, theta: Array) -> object:
    from alliancedyn.engine.maximise import Maximum

    n = len(theta)
    return Maximum(theta, -1e4, np.ones(n), np.eye(n), 12.0, 1.0, (), 1, False), 1


def test_what_is_no_panel_is_refused() -> None:
    with pytest.raises(SpecificationError, match=r"SessionPanel\.from_frame"):
        RICLPM().fit(panel(COMPLETE, "panel").frame)


@pytest.mark.parametrize(
    "options", [{"variables": "alliance"}, {"sessions": 3}, {"sessions": (1,)}, {"starts": 2.5}]
)
def test_options_of_the_wrong_kind_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(SpecificationError, match=next(iter(options))):
        RICLPM(**options)  # type: ignore[arg-type]


def test_every_pair_with_five_clients_is_enough() -> None:
    rng = np.random.default_rng(1)
    Y = scores(30, 60, 6, np.diag([0.3, 0.4, 0.2, 0.1]) + 0.05)
    Y[rng.random(Y.shape) < 0.25] = np.nan
    fit = CLPM(innovations="free").fit(as_panel(Y, ("a", "b", "c", "d")), strict=False)
    assert fit.n_params > 60


def test_roles_stay_two_and_names_keep_the_order_of_the_panel() -> None:
    Y = scores(31, 80, 5, 0.3 * np.eye(3))
    frame = as_panel(Y, ("a", "b", "c")).frame
    data = SessionPanel.from_frame(
        frame, client="client", session="session", variables={v: v for v in "abc"},
        process="c", outcome="a",
    )  # fmt: skip
    fit = CLPM(variables=("c", "b")).fit(data)
    assert (fit.process, fit.outcome) == ("c", "b")
    assert fit.variables == ("b", "c")
    assert "innovation_cov[b,c]" in fit.params
    assert RICLPM(variables=("b", "a")).fit(data, strict=False).process == "b"


def test_contradicting_covariances_of_a_stationary_process_are_refused() -> None:
    data = panel(COMPLETE, "panel")
    spec = RICLPM(initial="stationary")
    params = dict(spec.fit(data).params)
    params["initial_cov[alliance,alliance]"] *= 1.5
    with pytest.raises(SpecificationError, match="contradict"):
        spec.loglik(data, params)


def test_an_inadmissible_covariance_has_no_likelihood() -> None:
    data = panel(COMPLETE, "panel")
    params = dict(RICLPM().fit(data).params)
    params["innovation_cov[alliance,alliance]"] = -1.0
    assert RICLPM().loglik(data, params) == -np.inf


# -- verdicts


def test_few_clients_for_the_parameters_are_flagged() -> None:
    with pytest.warns(InferenceWarning, match="20 clients carry 19 parameters"):
        fit = RICLPM().fit(as_panel(scores(5, 20, 3)))
    assert any("too optimistic" in note for note in fit.diagnostics["notes"])


def test_a_variance_at_its_bound_is_named() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InferenceWarning)
        fits = [RICLPM().fit(as_panel(scores(seed, 60, 5, between=0.0))) for seed in range(6)]
    bounded = [fit for fit in fits if fit.diagnostics["boundary"]]
    assert len(bounded) >= 3
    for fit in bounded:
        assert fit.converged
        assert all(text.startswith("between_cov[") for text in fit.diagnostics["boundary"])
        assert np.isfinite(fit.se["phi[symptoms,alliance]"])


def test_at_the_bound_more_starts_find_nothing_better() -> None:
    for seed in range(4):
        data = as_panel(scores(seed, 40, 4, between=0.0))
        few = RICLPM().fit(data, strict=False)
        many = RICLPM(starts=10).fit(data, seed=seed, strict=False)
        assert many.loglik == pytest.approx(few.loglik, abs=1e-6)


def _twice_the_other(Y: Array) -> Array:
    return np.stack([Y[:, :, 0], 2.0 * Y[:, :, 0] + 1.0], axis=2)


def _constant_within_clients(Y: Array) -> Array:
    return np.stack([Y[:, :, 0], np.broadcast_to(Y[:, :1, 1], Y.shape[:2])], axis=2)


def _one_value_far_off(Y: Array) -> Array:
    Y = Y.copy()
    Y[0, 0, 1] = 1e12
    return Y


def _one_session_late(Y: Array) -> Array:
    return np.stack([Y[:, :, 0], np.concatenate([Y[:, :1, 1], Y[:, :-1, 0]], axis=1)], axis=2)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [(_twice_the_other, "'symptoms' repeats"), (_constant_within_clients, "never changes")],
)
@pytest.mark.parametrize("spec", [RICLPM(), CLPM()])
def test_scores_without_a_likelihood_are_named_before_the_search(
    spec: RICLPM | CLPM, spoil: Callable[[Array], Array], says: str
) -> None:
    with pytest.raises(SpecificationError, match=says):
        spec.fit(as_panel(spoil(scores(21, 80, 5))), strict=False)


@pytest.mark.parametrize("spec", [RICLPM(), CLPM()])
def test_a_likelihood_without_limit_is_no_maximum(spec: RICLPM | CLPM) -> None:
    fit = spec.fit(as_panel(_one_session_late(scores(21, 80, 5))), strict=False)
    assert not fit.converged
    assert "grows without limit" in fit.diagnostics["failure"]
    assert "innovation_cov[" in fit.diagnostics["failure"]


def test_a_value_far_off_is_no_maximum_either() -> None:
    fit = RICLPM().fit(as_panel(_one_value_far_off(scores(21, 80, 5))), strict=False)
    assert not fit.converged
    assert fit.diagnostics["failure"]


def test_one_innovation_at_its_bound_among_others_is_a_maximum() -> None:
    bounded = 0
    spec = RICLPM(lags="free", innovations="free")
    for seed in range(12):
        fit = spec.fit(as_panel(scores(seed, 25, 5)), strict=False)
        named = [s for s in fit.diagnostics["boundary"] if s.startswith("innovation_cov[")]
        if named and fit.converged:
            bounded += 1
            assert fit.diagnostics["gradient"] < 1e-3
    assert bounded >= 2


def with_slopes(seed: int) -> Array:
    rng = np.random.default_rng(seed)
    return scores(seed, 200, 8) + np.arange(8)[None, :, None] * rng.normal(size=(200, 1, 2))


def test_the_same_call_gives_the_same_answer() -> None:
    spec, data = RICLPM(initial="stationary"), as_panel(with_slopes(3))
    first, second = (spec.fit(data, strict=False) for _ in range(2))
    np.testing.assert_array_equal(first.params, second.params)
    many = RICLPM(initial="stationary", starts=15).fit(data, strict=False, seed=5)
    assert many.loglik <= first.loglik + 1e-6


def test_several_maxima_are_mentioned() -> None:
    fit = RICLPM(initial="stationary").fit(as_panel(with_slopes(6)), strict=False)
    (told,) = [note for note in fit.diagnostics["notes"] if "several maxima" in note]
    assert f"{fit.loglik:.2f}" in told


def test_sessions_that_are_never_adjacent_do_not_identify_the_lags() -> None:
    Y = scores(22, 100, 5)
    Y[:, 1:] = np.nan
    Y[50:, 3] = scores(23, 50, 1)[:, 0]
    with pytest.raises(SpecificationError, match="multiples of 3 sessions"):
        RICLPM(means="equal").fit(as_panel(Y), strict=False)


def test_four_clients_are_too_few() -> None:
    with pytest.raises(SpecificationError, match="needs 5 or more"):
        RICLPM(means="equal").fit(as_panel(scores(24, 4, 8)))


@pytest.mark.parametrize("unit", [1e-15, 1e-6, 1e9])
def test_extreme_units_are_no_trouble(unit: float) -> None:
    Y = scores(25, 100, 5)
    fit = RICLPM().fit(as_panel(Y))
    again = RICLPM().fit(as_panel(Y * [1.0, unit]))
    shift = np.log(unit) * Y[:, :, 1].size
    assert again.loglik == pytest.approx(fit.loglik - shift, rel=1e-9)


# -- what must not matter


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000), a=st.floats(0.01, 100), b=st.floats(0.01, 100))
def test_units_do_not_matter(seed: int, a: float, b: float) -> None:
    Y = scores(seed, 120, 5)
    fit = RICLPM().fit(as_panel(Y), strict=False)
    again = RICLPM().fit(as_panel(Y * [a, b]), strict=False)
    ratio = again.params["phi[symptoms,alliance]"] / fit.params["phi[symptoms,alliance]"]
    assert ratio == pytest.approx(b / a, rel=1e-4)
    first = fit.effect("alliance", "symptoms", standardized="within")
    second = again.effect("alliance", "symptoms", standardized="within")
    assert second.value == pytest.approx(first.value, abs=1e-6)
    assert second.se == pytest.approx(first.se, rel=1e-4)


def test_order_and_names_of_clients_do_not_matter() -> None:
    Y = scores(8, 100, 5)
    Y[np.random.default_rng(1).random(Y.shape) < 0.2] = np.nan
    fit = RICLPM().fit(as_panel(Y))
    again = RICLPM().fit(as_panel(Y[::-1]))
    np.testing.assert_allclose(again.params, fit.params, rtol=1e-6, atol=1e-8)


def test_clients_without_a_score_in_the_window_are_set_aside_by_reason() -> None:
    Y = scores(9, 80, 6)
    Y[:7, 3:] = np.nan
    fit = RICLPM(sessions=(4, 6)).fit(as_panel(Y), strict=False)
    assert fit.sample.clients == 73
    assert fit.sample.clients_set_aside == {"no score in the sessions of the model": 7}
    assert fit.sample.rows_set_aside["outside the sessions of the model"] == 80 * 3


def test_one_session_clients_inform_the_means() -> None:
    Y = scores(10, 100, 4)
    Y[50:, 1:] = np.nan
    fit = RICLPM().fit(as_panel(Y))
    assert fit.sample.clients == 100
    only = RICLPM().fit(as_panel(Y[:50]), strict=False)
    assert fit.se["mean[alliance]@1"] < 0.85 * only.se["mean[alliance]@1"]


# -- sizes


def test_three_series() -> None:
    phi = np.array([[0.3, 0.1, 0.0], [-0.2, 0.4, 0.1], [0.0, 0.15, 0.2]])
    names = ("alliance", "symptoms", "sleep")
    fit = RICLPM().fit(as_panel(scores(11, 1500, 6, phi), names))
    for i, target in enumerate(names):
        for j, source in enumerate(names):
            name = f"phi[{target},{source}]"
            assert abs(fit.params[name] - phi[i, j]) < 4.5 * fit.se[name], name
    assert fit.fit_indices()["df"] == 18 * 21 // 2 - fit.n_params
    with pytest.raises(SpecificationError):
        fit.structural()


def test_a_hundred_sessions() -> None:
    Y = scores(12, 60, 100)
    Y[np.random.default_rng(2).random((60, 100)) < 0.3] = np.nan
    fit = RICLPM(means="equal").fit(as_panel(Y))
    assert abs(fit.params["phi[symptoms,alliance]"] + 0.15) < 4 * fit.se["phi[symptoms,alliance]"]
    assert fit.sessions == tuple(range(1, 101))


def test_many_clients_cost_in_proportion() -> None:
    fit = RICLPM().fit(as_panel(scores(13, 20_000, 5)))
    few = RICLPM().fit(as_panel(scores(13, 2_000, 5)))
    each, every = few.diagnostics["seconds"], fit.diagnostics["seconds"]
    assert every < 40 * each  # ten times the clients; generous on a busy machine
    assert fit.se["phi[symptoms,alliance]"] == pytest.approx(
        few.se["phi[symptoms,alliance]"] / np.sqrt(10), rel=0.1
    )


def test_fits_pickle_without_their_data() -> None:
    fit = RICLPM().fit(panel(MISSING, "panel"))
    small = pickle.loads(pickle.dumps(fit.without_data()))
    assert small.loglik == fit.loglik
    assert small.fit_indices(panel=panel(MISSING, "panel")) == fit.fit_indices()
