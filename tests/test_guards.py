"""What a model must not be asked: budget, identification, and error that leaves no trace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_crosslagged import as_panel, scores
from test_reference import COMPLETE, INDICATORS, ITEMS, panel

import alliancedyn as ad
from alliancedyn.engine.moments import implied_moments
from alliancedyn.errors import ConvergenceError, SpecificationError
from alliancedyn.models import Specification, guards

Array = NDArray[np.float64]

FAMILIES: list[Specification] = [
    ad.RICLPM(lags="free"),
    ad.CLPM(order=2),
    ad.STARTS(),
    ad.LCMSR(growth="free"),
    ad.ALT(),
    ad.GCLM(),
    ad.LatentChange(innovations="equal"),
]


def drawn(
    phi: Array, seed: int, clients: int = 200, sessions: int = 6, error: float = 0.5
) -> ad.SessionPanel:
    """Return scores with stable differences, a settled process and measurement error."""
    rng = np.random.default_rng(seed)
    k = len(phi)
    stable = 0.7 * rng.standard_normal((clients, k))
    w = rng.standard_normal((clients, k))
    Y = np.empty((clients, sessions, k))
    for t in range(-20, sessions):
        w = w @ phi.T + rng.standard_normal((clients, k))
        if t >= 0:
            Y[:, t] = stable + w + np.sqrt(error) * rng.standard_normal((clients, k))
    return as_panel(Y)


# -- before the fit ------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", FAMILIES, ids=lambda spec: spec.name)
def test_derivatives_of_moments_agree_with_differences(spec: Specification) -> None:
    likelihood = spec.objective(as_panel(scores(1, 100, 5)))
    layout = likelihood.layout
    theta = likelihood.start + 0.05 * np.random.default_rng(2).standard_normal(layout.n_free)
    at = layout.natural(theta)

    def wide(natural: Array) -> Array:
        (system,) = likelihood.systems(layout.unflatten(natural))
        mean, cov = implied_moments(system)
        return np.concatenate([mean, cov[np.triu_indices(len(mean))]])

    steps = 1e-5 * np.eye(len(at))
    differences = np.stack([(wide(at + s) - wide(at - s)) / 2e-5 for s in steps], axis=1)
    exact = guards._derivatives(likelihood, at, [np.ones(10, bool)], 0)
    np.testing.assert_allclose(exact, differences, atol=1e-6)


TOO_MANY: list[tuple[Specification, int, str]] = [
    (ad.RICLPM(order=2), 3, r"30 free parameters.* only 27 means.*order=1"),
    (ad.CLPM(order=2), 2, "parameters"),
    (ad.CLPM(measurement_var="free"), 2, "only 14 means"),
    (ad.ALT(lags="free", innovations="free"), 4, r'lags="equal", or innovations="equal"'),
]


@pytest.mark.parametrize(("spec", "sessions", "fragment"), TOO_MANY)
def test_more_parameters_than_moments_are_refused(
    spec: Specification, sessions: int, fragment: str
) -> None:
    clients = as_panel(scores(3, 200, sessions))
    with pytest.raises(SpecificationError, match=fragment):
        spec.fit(clients)
    with pytest.raises(SpecificationError, match=fragment):
        spec.objective(clients)


UNIDENTIFIED: list[tuple[Specification, int, str]] = [
    (ad.CLPM(initial="stationary", measurement_var="free"), 2, "measurement_var"),
    (ad.RICLPM(initial="stationary", measurement_var="free"), 3, "reliability="),
    (ad.GCLM(lags="free"), 6, r"'ma\[.*lags=\"equal\""),
]


@pytest.mark.parametrize(("spec", "sessions", "fragment"), UNIDENTIFIED)
def test_parameters_that_no_scores_tell_apart_are_refused(
    spec: Specification, sessions: int, fragment: str
) -> None:
    with pytest.raises(
        SpecificationError, match=rf"(?s)not identified from {sessions}.*{fragment}"
    ):
        spec.fit(as_panel(scores(4, 200, sessions)))


def test_a_flat_direction_that_is_refused_is_flat() -> None:
    """GCLM: the first session's score and its shock are one, so phi and ma act as one there."""
    data = as_panel(scores(5, 150, 6))
    spec = ad.GCLM(lags="free")
    likelihood = spec.likelihood(spec._select(data).data)
    names = [n for n in likelihood.names if n.endswith("@2")]
    at = likelihood.layout.natural(likelihood.start)
    place = {name: i for i, name in enumerate(likelihood.names)}
    moved = at.copy()
    moved[place["phi[alliance,alliance]@2"]] += 0.1
    moved[place["ma[alliance,alliance]@2"]] -= 0.1
    moved[place["unit_loading[alliance]@2"]] -= 0.1
    assert "ma[alliance,alliance]@2" in names
    before, after = (
        likelihood.loglik(likelihood.layout.unflatten(values)) for values in (at, moved)
    )
    assert after == pytest.approx(before, abs=1e-8)


IDENTIFIED: list[tuple[Specification, int]] = [
    (ad.CLPM(), 2),
    (ad.CLPM(lags="free", innovations="free"), 2),
    (ad.RICLPM(), 3),
    (ad.RICLPM(lags="free", innovations="free"), 4),
    (ad.RICLPM(order=2), 4),
    (ad.RICLPM(step=3), 4),
    (ad.STARTS(), 4),
    (ad.LCMSR(), 4),
    (ad.LCMSR(growth="free", means="free"), 5),
    (ad.LCMSR(growth="piecewise", knot=3), 5),
    (ad.LCMSR(lags="free", innovations="free"), 5),
    (ad.ALT(), 5),
    (ad.GCLM(), 5),
    (ad.LatentChange(innovations="free"), 4),
]


@pytest.mark.parametrize(("spec", "sessions"), IDENTIFIED, ids=lambda value: str(value))
def test_what_can_be_identified_is_asked(spec: Specification, sessions: int) -> None:
    assert spec.objective(as_panel(scores(6, 200, sessions))).layout.n_free


@pytest.mark.parametrize(
    "options",
    [
        {"indicators": INDICATORS, "item_intercepts": "free"},
        {"indicators": INDICATORS, "loadings": "free", "item_intercepts": "free"},
    ],
)
def test_items_are_no_obstacle(options: dict[str, Any]) -> None:
    assert ad.RICLPM(**options).objective(panel(ITEMS, "items")).layout.n_free


def test_groups_and_covariates_are_no_obstacle() -> None:
    clients = panel(COMPLETE, "panel")
    for spec in (
        ad.RICLPM(group="arm", sessions=(1, 3)),
        ad.RICLPM(covariates=("severity",), sessions=(1, 3)),
        ad.RICLPM(moderators=("severity",), sessions=(1, 3)),
        ad.LCMSR(covariates=("severity",), group="arm", sessions=(1, 4)),
    ):
        assert spec.objective(clients).layout.n_free


def test_a_session_that_few_clients_reach_can_be_predicted_without_error() -> None:
    phi = 0.3 * np.eye(3)
    Y = scores(7, 60, 5, phi=phi)
    Y[6:, 4] = np.nan
    clients = as_panel(Y, ("alliance", "symptoms", "insight"))
    free = {"lags": "free", "innovations": "free"}
    with pytest.raises(SpecificationError, match=r"Fewer than 7 clients .* '5'"):
        ad.CLPM(**free).fit(clients)  # type: ignore[arg-type]
    assert ad.CLPM(lags="free").objective(clients).layout.n_free


def test_the_same_question_is_answered_from_memory() -> None:
    guards._answers.clear()
    for seed in (8, 9):
        ad.RICLPM(reliability={"alliance": 0.9}).objective(as_panel(scores(seed, 80, 5)))
    assert len(guards._answers) == 1


@pytest.mark.parametrize(("typed", "told"), [(1e3, "notes"), (1e6, "failure")])
def test_a_typing_error_is_named(typed: float, told: str) -> None:
    Y = scores(13, 100, 6)
    Y[1, 0, 0] = typed
    fit = ad.RICLPM().fit(as_panel(Y), strict=False)
    assert fit.converged == (told == "notes")
    assert f"'alliance' holds {typed:g}, " in str(fit.diagnostics[told])
    plain = ad.RICLPM().fit(as_panel(scores(13, 100, 6)), strict=False)
    assert "interquartile" not in str(plain.diagnostics)


def test_a_moderator_without_a_zero_is_named() -> None:
    frame = as_panel(scores(14, 80, 5)).frame
    frame["age"] = frame.groupby("client").ngroup() % 30 + 20.0
    clients = ad.SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables=["alliance", "symptoms"],
        covariates=["age"],
    )
    fit = ad.RICLPM(moderators=("age",)).fit(clients, strict=False)
    assert any("'age' is 0, and it runs from 20 to 49" in note for note in fit.diagnostics["notes"])


# -- after the fit -------------------------------------------------------------------------------

NOTHING = np.zeros((2, 2))
BOTH = np.array([[0.5, -0.1], [-0.1, 0.5]])
ALLIANCE = np.array([[0.5, 0.0], [-0.15, 0.0]])


@pytest.mark.parametrize("seed", range(5))
def test_error_that_cannot_be_told_from_innovations_is_refused(seed: int) -> None:
    fit = ad.STARTS().fit(drawn(NOTHING, seed), strict=False)
    assert not fit.converged
    assert "cannot be told apart" in fit.diagnostics["failure"] or (
        "flat in the direction" in fit.diagnostics["failure"]
    )


@pytest.mark.parametrize("seed", range(5))
def test_error_that_leaves_a_trace_behind_is_estimated(seed: int) -> None:
    fit = ad.STARTS().fit(drawn(BOTH, seed), strict=False)
    assert fit.converged, fit.diagnostics["failure"]


def test_the_series_without_a_trace_is_named_with_the_remedy() -> None:
    clients = drawn(ALLIANCE, 11)
    with pytest.raises(ConvergenceError, match=r"innovations of 'symptoms'.*reliability=") as found:
        ad.RICLPM(measurement_var="free").fit(clients)
    assert found.value.fit.diagnostics["failure"].count("'alliance'") == 0
    known = ad.RICLPM(reliability={"symptoms": 0.8}).fit(clients, strict=False)
    assert known.converged


def test_latent_change_without_a_trace_is_refused() -> None:
    """Its maximum without the trace is far from any usual start: proportional change is -1."""
    truth = ad.Dynamics(
        phi=[[0.0, 0.0], [0.0, 0.3]],
        innovation_cov=[[1.0, -0.25], [-0.25, 1.0]],
        between_cov=[[1.0, -0.3], [-0.3, 1.0]],
        mean=(3.0, 10.0),
        reliability=(0.8, 0.8),
    )
    clients = ad.simulate(truth, clients=500, sessions=20, missing=0.05, seed=3)
    fit = ad.LatentChange(innovations="equal").fit(clients, strict=False)
    assert "innovations of 'alliance' cannot be told apart" in fit.diagnostics["failure"]


def test_no_one_asks_for_a_trace_where_error_is_known_or_measured_by_items() -> None:
    clients = drawn(NOTHING, 12)
    assert ad.RICLPM(measurement_var={"symptoms": 0.4}).fit(clients, strict=False).converged
    assert ad.RICLPM(indicators=INDICATORS).fit(panel(ITEMS, "items"), strict=False).converged


@pytest.mark.slow
def test_how_often_it_refuses() -> None:
    """Nothing lagged: at least 95 % refused. Lagged effects of .5: at most 5 %."""
    refused = {
        name: np.mean(
            [not ad.STARTS().fit(drawn(phi, 100 + s), strict=False).converged for s in range(40)]
        )
        for name, phi in (("nothing", NOTHING), ("alliance", ALLIANCE), ("both", BOTH))
    }
    assert refused["nothing"] >= 0.95
    assert refused["alliance"] >= 0.85  # a test at level .05, less its Monte Carlo error
    assert refused["both"] <= 0.05
