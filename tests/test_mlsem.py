"""ML-SEM against lavaan, the published wage example, the filter, dense normals and the RI-CLPM.

Tolerances. lavaan stops within 1e-8 of the maximum of the log-likelihood, so log-likelihoods are
compared to 1e-6 and what is a smooth function of the data there to rounding. Estimates are
compared in standard errors, as in test_reference: lavaan's last step is up to 1e-4 of one.
Published figures have three decimals.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from reference_files import SIMULATED, published_dir, simulated

import alliancedyn as ad
from alliancedyn import MLSEM
from alliancedyn.engine.covariance import Sufficient, slopes_by_client, value_and_slopes
from alliancedyn.engine.likelihood import Likelihood
from alliancedyn.engine.moments import loglik_by_client
from alliancedyn.engine.system import Layout
from alliancedyn.errors import SpecificationError

Array = NDArray[np.float64]

LOGLIK = 1e-6
ESTIMATE = 2e-4  # in standard errors
ERROR = 2e-4
INDEX = 1e-5
SAME = 1e-9  # two routes to one number
CASE = "dynamic_panel"
INDICES = {
    "chisq": "chisq",
    "df": "df",
    "pvalue": "pvalue",
    "cfi": "cfi",
    "tli": "tli",
    "rmsea": "rmsea",
    "rmsea_lower": "rmsea.ci.lower",
    "rmsea_upper": "rmsea.ci.upper",
    "srmr": "srmr",
    "baseline_chisq": "baseline.chisq",
    "baseline_df": "baseline.df",
    "aic": "aic",
    "bic": "bic",
}
SCALED = {"chisq_scaled": "chisq.scaled", "scaling_factor": "chisq.scaling.factor"}
TIMING = {"alliance": "after", "symptoms": "before"}
TRUTH = ad.Dynamics(
    phi=[[0.35, -0.05], [-0.4, 0.45]],
    innovation_cov=[[0.8, -0.3], [-0.3, 3.6]],
    between_cov=[[0.8, -0.5], [-0.5, 4.0]],
    mean=(5.0, 12.0),
    variables=("alliance", "symptoms"),
)
FAMILIES = [
    MLSEM(),
    MLSEM(feedback="next_session", errors_equal=False),
    MLSEM(process_role="exogenous"),
    MLSEM(direction="both"),
    MLSEM(direction="both", errors_equal=False),
    MLSEM(exogenous=("hours",), covariates=("severity",)),
    MLSEM(direction="both", exogenous=("hours",), covariates=("severity",)),
]


@cache
def frame(which: str) -> pd.DataFrame:
    """Read a reference panel, with the columns that mlsem.R adds."""
    found = pd.read_csv(SIMULATED / CASE / f"{which}_long.csv")
    client, t = found["client"], found["session"]
    found["hours"] = ((7 * client + 3 * t**2 + client // 9 * t) % 13) / 4
    found["severity"] = np.where(client % 20 == 0, np.nan, ((37 * client) % 11) / 5 - 1)
    found["therapist"] = client % 17
    return found


def make_panel(data: pd.DataFrame, **more: Any) -> ad.SessionPanel:
    return ad.SessionPanel.from_frame(
        data,
        **{
            "client": "client",
            "session": "session",
            "variables": {"alliance": "alliance", "symptoms": "symptoms"},
            "covariates": ("hours", "severity"),
            "therapist": "therapist",
            "timing": TIMING,
            **more,
        },
    )


@cache
def panel(which: str) -> ad.SessionPanel:
    return make_panel(frame(which))


@cache
def lavaan() -> dict[str, Any]:
    path = Path(__file__).parent / "reference" / "mlsem" / "lavaan.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def assert_agrees(fit: ad.Fit, peer: dict[str, Any], indices: dict[str, str]) -> None:
    assert fit.converged
    assert fit.n_params == peer["npar"]
    assert fit.loglik == pytest.approx(peer["loglik"], abs=LOGLIK)
    for name, theirs in peer["params"].items():
        assert abs(fit.params[name] - theirs["estimate"]) < ESTIMATE * theirs["se"], name
        assert fit.se[name] == pytest.approx(theirs["se"], rel=ERROR), name
    ours = fit.fit_indices()
    for key, name in indices.items():
        assert ours[key] == pytest.approx(peer["fit"][name], rel=INDEX, abs=1e-6), key


# -- peers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["balanced", "unbalanced"])
@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("equal", MLSEM()),
        ("free", MLSEM(errors_equal=False)),
        ("exogenous_equal", MLSEM(process_role="exogenous")),
    ],
)
def test_lavaan(which: str, name: str, spec: MLSEM) -> None:
    peer = simulated(CASE, f"{which}_mlsem_{name}")
    fit = spec.fit(panel(which))
    assert_agrees(fit, peer, INDICES)
    assert fit.sample.clients == peer["N"]


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("both_balanced_equal", MLSEM(direction="both")),
        ("both_balanced_free", MLSEM(direction="both", errors_equal=False)),
        ("both_unbalanced_equal", MLSEM(direction="both")),
        ("both_unbalanced_robust", MLSEM(direction="both")),
        ("both_unbalanced_extra", FAMILIES[-1]),
        ("forward_unbalanced_robust", MLSEM()),
        ("forward_unbalanced_next", MLSEM(feedback="next_session")),
        ("forward_unbalanced_extra", FAMILIES[-2]),
    ],
)
def test_lavaan_beyond_the_reference_set(name: str, spec: MLSEM) -> None:
    peer = lavaan()[name]
    robust = name.endswith("robust")
    fit = spec.fit(panel(peer["data"]), errors="robust" if robust else "observed", strict=False)
    assert_agrees(fit, peer, INDICES | SCALED if robust else INDICES)
    assert fit.sample.clients == peer["clients"]


@pytest.mark.reference
def test_wages() -> None:
    """Allison, Williams & Moral-Benito (2017), and lavaan on the same data."""
    folder = published_dir() / "C2_wages_mlsem"
    peer = json.loads((folder / "peer_results.json").read_text(encoding="utf-8"))["socius_errinv"]
    names = {"wks": "wks", "union": "union", "lwage": "lwage"}
    data = ad.SessionPanel.from_frame(
        pd.read_csv(folder / "wages.csv"),
        client="id",
        session="t",
        variables=names,
        process="union",
        outcome="wks",
        covariates=("ed",),
    )
    fit = MLSEM(exogenous=("lwage",), covariates=("ed",)).fit(data)
    indices = fit.fit_indices()
    assert round(float(indices["chisq"]), 3) == 138.476
    assert indices["df"] == 76
    published = {
        "phi[wks,union]": (-1.206, 0.522),
        "phi[wks,lwage]": (0.588, 0.488),
        "between[wks,ed]": (-0.107, 0.056),
        "phi[wks,wks]": (0.188, 0.020),
    }
    for name, figures in published.items():
        assert (round(fit.params[name], 3), round(fit.se[name], 3)) == figures
    table = {(e["lhs"], e["op"], e["rhs"]): e for e in peer["estimates"]}
    theirs = {
        "phi[wks,union]": table["wks_2", "~", "union_1"],
        "residual_var[wks]": table["wks_2", "~~", "wks_2"],
        "between_cov[wks,wks]": table["alpha", "~~", "alpha"],
        "predictor_between_cov[union,wks]@3": table["alpha", "~~", "union_3"],
        "feedback_cov[union.5,wks]@3": table["wks_3", "~~", "union_5"],
    }
    known = {n: {"estimate": e["est"], "se": e["se"]} for n, e in theirs.items()}
    assert_agrees(fit, {**peer, "loglik": peer["logLik"], "params": known}, INDICES)


# -- the likelihood by other routes --------------------------------------------------------------


@pytest.mark.parametrize("spec", FAMILIES, ids=repr)
def test_the_filter_agrees(spec: MLSEM) -> None:
    """The same columns as states of a filter: value, score and clients' scores."""
    ours = spec.objective(panel("unbalanced"))
    theirs = Likelihood(ours.layout, ours.shares, ours.start, ours.implied)
    theta = ours.start + 0.02 * np.random.default_rng(3).standard_normal(len(ours.start))
    value, score = ours.value_and_score(theta)
    other_value, other_score = theirs.value_and_score(theta)
    assert value == pytest.approx(other_value, rel=1e-12)
    np.testing.assert_allclose(score, other_score, rtol=SAME, atol=SAME * np.abs(score).max())
    by_client = ours.scores(theta)
    np.testing.assert_allclose(by_client, theirs.scores(theta), atol=SAME * np.abs(score).max())
    np.testing.assert_allclose(by_client.sum(axis=0), score, atol=SAME * np.abs(score).max())


def test_slopes_of_the_normal_likelihood() -> None:
    """Dense densities client by client; slopes by differences. Patterns of one client and many."""
    rng = np.random.default_rng(1)
    n, p = 60, 5
    root = rng.standard_normal((p, p))
    mean, cov = rng.standard_normal(p), root @ root.T + np.eye(p)
    Y = rng.multivariate_normal(mean, cov, n)
    Y[:25][rng.random((25, p)) < 0.4] = np.nan
    Y[40:50, 2] = np.nan
    Y[0] = np.nan
    scores = Sufficient.of(Y)
    assert len(scores.rows) < n  # many clients share a pattern

    def value(mean: Array, cov: Array) -> float:
        return float(loglik_by_client(Y, mean, cov).sum())

    loglik, by_mean, by_cov = value_and_slopes(scores, mean, cov)
    assert loglik == pytest.approx(value(mean, cov), rel=1e-12)
    step = 1e-5
    for j in range(p):
        e = step * np.eye(p)[j]
        slope = (value(mean + e, cov) - value(mean - e, cov)) / (2 * step)
        assert by_mean[j] == pytest.approx(slope, rel=1e-6, abs=1e-6)
        for k in range(j + 1):
            E = step * (np.outer(np.eye(p)[j], np.eye(p)[k]) + np.outer(np.eye(p)[k], np.eye(p)[j]))
            slope = (value(mean, cov + E) - value(mean, cov - E)) / (2 * step)
            assert 2 * by_cov[j, k] == pytest.approx(slope, rel=1e-6, abs=1e-6)
    np.testing.assert_array_equal(by_cov, by_cov.T)
    each_mean, each_cov = slopes_by_client(Y, mean, cov)
    np.testing.assert_allclose(each_mean.sum(axis=0), by_mean, atol=1e-10)
    np.testing.assert_allclose(each_cov.sum(axis=0), by_cov, atol=1e-10)
    assert not each_mean[0].any()
    assert not each_cov[0].any()
    assert np.isnan(value_and_slopes(scores, mean, cov - 10.0 * np.eye(p))[0])


@pytest.mark.parametrize("spec", FAMILIES, ids=repr)
def test_slopes_of_the_moments(spec: MLSEM) -> None:
    """Every moment by every parameter, against differences of the equations solved by hand."""
    likelihood = spec.objective(panel("unbalanced"))
    theta, layout = likelihood.start, likelihood.layout
    rows, columns = np.tril_indices(likelihood.wide.shape[1])

    def moments(theta: Array) -> Array:
        found = likelihood.equations.moments(layout.matrices(theta))
        return np.concatenate([found.mean, found.cov[rows, columns]])

    slopes = layout.pull(theta, likelihood.equations.slopes(layout.matrices(theta)))
    step = 1e-5
    for i in range(len(theta)):
        e = step * np.eye(len(theta))[i]
        differences = (moments(theta + e) - moments(theta - e)) / (2 * step)
        np.testing.assert_allclose(slopes[:, i], differences, atol=1e-6 * np.abs(slopes).max())


def test_equations_written_out() -> None:
    """Moments of three sessions by hand, from scores simulated by the equations themselves."""
    spec, data = MLSEM(feedback="same_session"), ad.simulate(TRUTH, clients=50, sessions=3, seed=1)
    likelihood = spec.objective(data)
    params = {
        **likelihood.to_params(likelihood.start),
        "phi[symptoms,alliance]": -0.4,
        "phi[symptoms,symptoms]": 0.5,
        "residual_var[symptoms]": 2.0,
        "between_cov[symptoms,symptoms]": 1.5,
        "predictor_between_cov[symptoms,symptoms]@1": 0.7,
        "predictor_between_cov[alliance,symptoms]@1": -0.2,
        "predictor_between_cov[alliance,symptoms]@2": 0.3,
        "feedback_cov[alliance.2,symptoms]@2": -0.6,
    }
    matrices = likelihood.layout.from_params(params)
    found = likelihood.equations.moments(matrices).cov  # s1, a1, a2, s2, s3
    own = [f"predictor_cov[symptoms,{x}]@1" for x in ("symptoms.1", "alliance.1", "alliance.2")]
    s1s1, s1a1, s1a2 = (params[name] for name in own)
    a1a2 = params["predictor_cov[alliance,alliance.2]@1"]
    a2a2 = params["predictor_cov[alliance,alliance.2]@2"]
    cov_s2_s1 = 0.5 * s1s1 - 0.4 * s1a1 + 0.7
    cov_s2_a2 = 0.5 * s1a2 - 0.4 * a1a2 + 0.3 - 0.6
    cov_s2_alpha = 0.5 * 0.7 - 0.4 * -0.2 + 1.5
    cov_s2_e2 = 2.0
    assert found[3, 0] == pytest.approx(cov_s2_s1, rel=SAME)
    assert found[3, 2] == pytest.approx(cov_s2_a2, rel=SAME)
    var_s2 = (
        0.5 * cov_s2_s1 - 0.4 * (0.5 * s1a1 - 0.4 * params["predictor_cov[alliance,alliance.1]@1"]
                                 - 0.2) + cov_s2_alpha + cov_s2_e2
    )  # fmt: skip
    assert found[3, 3] == pytest.approx(var_s2, rel=SAME)
    assert found[4, 3] == pytest.approx(0.5 * var_s2 - 0.4 * cov_s2_a2 + cov_s2_alpha, rel=SAME)
    cov_s3_a2 = 0.5 * cov_s2_a2 - 0.4 * a2a2 + 0.3
    assert found[4, 2] == pytest.approx(cov_s3_a2, rel=SAME)


# -- what the joint model is ---------------------------------------------------------------------


def as_joint(params: dict[str, float], sessions: tuple[int, ...]) -> dict[str, float]:
    """Write an RI-CLPM as a joint ML-SEM: alpha = (I - phi) k, intercepts from the means."""
    v = ("alliance", "symptoms")

    def square(family: str) -> Array:
        ordered = [[tuple(sorted(pair)) for pair in [(i, j) for j in v]] for i in v]
        return np.array([[params[f"{family}[{a},{b}]"] for a, b in row] for row in ordered])

    phi = np.array([[params[f"phi[{i},{j}]"] for j in v] for i in v])
    mean = np.array([[params[f"mean[{i}]@{t}"] for i in v] for t in sessions])
    K, W = square("between_cov"), square("initial_cov")
    left = np.eye(2) - phi
    found = {name: value for name, value in params.items() if name.startswith(("phi", "innov"))}
    for i, a in enumerate(v):
        found[f"mean[{a}]@{sessions[0]}"] = mean[0, i]
        for t in range(1, len(sessions)):
            found[f"intercept[{a}]@{sessions[t]}"] = (mean[t] - phi @ mean[t - 1])[i]
        for j, b in enumerate(v):
            found[f"initial_between_cov[{a},{b}]"] = (K @ left.T)[i, j]
            if j >= i:
                found[f"between_cov[{a},{b}]"] = (left @ K @ left.T)[i, j]
                found[f"initial_cov[{a},{b}]"] = (K + W)[i, j]
    return found


def test_both_directions_contain_the_riclpm() -> None:
    """An RI-CLPM is a joint ML-SEM in which the first deviations go with no stable part."""
    data = panel("unbalanced")
    within, joint = ad.RICLPM().fit(data), MLSEM(direction="both").fit(data)
    written = as_joint(dict(within.params), within.sessions)
    assert MLSEM(direction="both").loglik(data, written) == pytest.approx(within.loglik, rel=1e-12)
    assert joint.n_params == within.n_params + 4
    assert joint.loglik > within.loglik
    assert joint.fingerprint() == within.fingerprint()


def test_one_direction_contains_both() -> None:
    """What the joint model implies for the columns of one equation is a case of that equation.

    Its predictor covariances, those with the client effect and those with earlier errors are
    read off the joint model; nothing else is left to differ.
    """
    data = panel("unbalanced")
    fit, alone = MLSEM(direction="both").fit(data), MLSEM().fit(data)
    likelihood = MLSEM(direction="both").objective(data)
    joint, single = fit.model.plan(fit.data), alone.model.plan(alone.data)
    layout = Layout(likelihood.layout.blocks)  # of scores as they are: the search centers them
    moments = likelihood.equations.moments(layout.from_params(fit.params))
    with_sources = moments.reach @ moments.sources  # columns: alpha of both, first scores, errors
    natural = {name: fit.params.get(name, 0.0) for name in alone.params.index}
    natural["residual_var[symptoms]"] = fit.params["innovation_cov[symptoms,symptoms]"]
    for v, t in single.given:
        row = joint.place[v, t]
        natural[f"mean[{v}]@{t}"] = moments.mean[row]
        natural[f"predictor_between_cov[{v},symptoms]@{t}"] = with_sources[row, 1]
        for other, later in single.given:
            name = f"predictor_cov[{v},{other}.{later}]@{t}"
            if name in natural:
                natural[name] = moments.cov[row, joint.place[other, later]]
        for session in fit.sessions[1:-1]:
            covariance = with_sources[row, 2 + joint.place["symptoms", session]]
            if t < session:
                assert abs(covariance) < 1e-12
            else:
                natural[f"feedback_cov[{v}.{t},symptoms]@{session}"] = covariance
    at = [joint.place[column] for column in single.columns]
    scores = Sufficient.of(single.wide(alone.data.Y, alone.data.variables))
    implied = value_and_slopes(scores, moments.mean[at], moments.cov[np.ix_(at, at)])[0]
    assert MLSEM().loglik(data, natural) == pytest.approx(implied, rel=1e-12)
    assert alone.loglik > implied


# -- the result ----------------------------------------------------------------------------------


def test_what_follows_from_a_fit() -> None:
    data = panel("balanced")
    fit = MLSEM().fit(data)
    effect, own = (fit.params[f"phi[symptoms,{v}]"] for v in ("alliance", "symptoms"))
    assert fit.effect("alliance", "symptoms").value == effect
    long_run = fit.long_run("alliance", "symptoms")
    derived = fit.derive(lambda p: p["phi[symptoms,alliance]"] / (1 - p["phi[symptoms,symptoms]"]))
    assert long_run.value == pytest.approx(effect / (1.0 - own), rel=1e-12)
    assert long_run.se == pytest.approx(derived.se, rel=1e-9)
    assert long_run.lower < long_run.value < long_run.upper < 0.0
    standardized = fit.effect("alliance", "symptoms", standardized="within")
    ratio = np.sqrt(fit.params["within_var[alliance]"] / fit.params["within_var[symptoms]"])
    assert standardized.value == pytest.approx(effect * ratio, rel=1e-9)
    profile = fit.profile("phi[symptoms,alliance]")
    assert profile.lower == pytest.approx(fit.effect("alliance", "symptoms").lower, abs=0.01)
    assert MLSEM().loglik(data, fit.params) == pytest.approx(fit.loglik, rel=1e-12)
    small = pickle.loads(pickle.dumps(fit.without_data()))
    assert small.fit_indices(data) == fit.fit_indices()
    assert small.fingerprint() == fit.fingerprint()
    assert fit.fingerprint() != ad.RICLPM().fit(data, strict=False).fingerprint()
    assert (fit.process, fit.outcome) == ("alliance", "symptoms")


@pytest.mark.parametrize("spec", [MLSEM(), MLSEM(direction="both")])
@pytest.mark.parametrize("verb", [ad.Fit.predict, ad.Fit.states, ad.Fit.draw_scores])
def test_it_says_nothing_of_states(spec: MLSEM, verb: Callable[[ad.Fit], Any]) -> None:
    fit = spec.fit(panel("balanced"))
    with pytest.raises(SpecificationError, match="no states, forecasts or draws"):
        verb(fit)


def test_both_directions_as_a_process() -> None:
    """Within SDs, time order and directions rest on lags and innovations as in any VAR."""
    fit = MLSEM(direction="both").fit(panel("balanced"))
    assert fit.sd_within_basis() == "stationary"
    cross, own = (fit.params[f"innovation_cov[{v},symptoms]"] for v in ("alliance", "symptoms"))
    g = cross / own
    assert fit.structural().loc["backward_immediate", "estimate"] == pytest.approx(g, rel=1e-9)
    assert ad.compare_directions(fit).lead in ("forward", "backward", "both", "undetermined",
                                               "depends", "neither")  # fmt: skip


def test_variances_within_clients() -> None:
    """Implied by the model; of an exogenous process, which is left free, those of the data."""
    data, spec = panel("balanced"), MLSEM(process_role="exogenous")
    fit, robust = spec.fit(data), spec.fit(data, errors="robust")
    process, outcome = fit.data.Y[:, :6, 0], fit.data.Y[:, :, 1]
    process, outcome = process - process.mean(axis=0), outcome - outcome.mean(axis=0)
    squares = process.var(axis=1, ddof=1)
    assert fit.params["within_var[alliance]"] == pytest.approx(squares.mean(), rel=1e-6)
    expected = squares.std() / np.sqrt(len(squares))
    assert robust.se["within_var[alliance]"] == pytest.approx(expected, rel=1e-5)
    squares = outcome.var(axis=1, ddof=1)
    assert fit.params["within_var[symptoms]"] == pytest.approx(squares.mean(), rel=0.05)


def test_clustered_errors() -> None:
    """One client to a cluster: J/(J-1) times the robust covariance; therapists differ from it."""
    data = make_panel(frame("balanced").assign(site=frame("balanced")["client"]), site="site")
    robust, alone = (MLSEM().fit(data, errors=e, strict=False) for e in ("robust", "cluster:site"))
    n = robust.sample.clients
    ratio = (alone.se / robust.se).to_numpy()
    np.testing.assert_allclose(ratio, np.sqrt(n / (n - 1.0)), rtol=1e-9)
    therapists = MLSEM().fit(data, errors="cluster:therapist", strict=False)
    assert np.isfinite(therapists.se).all()
    assert not np.allclose(therapists.se, robust.se, rtol=1e-3)


def test_bootstrap() -> None:
    """Clients drawn again: spread like the robust errors, within the noise of 100 resamples."""
    fit = MLSEM().fit(panel("balanced"), errors="robust")
    again = ad.bootstrap(fit, resamples=100, seed=1)
    assert again.table().loc["phi[symptoms,alliance]", "se"] == pytest.approx(
        fit.se["phi[symptoms,alliance]"], rel=0.25
    )
    assert again.table().loc["within_var[symptoms]", "se"] == pytest.approx(
        fit.se["within_var[symptoms]"], rel=0.25
    )


# -- invariance ----------------------------------------------------------------------------------


def test_units_rows_and_labels_do_not_matter() -> None:
    before = frame("unbalanced")
    changed = before.sample(frac=1.0, random_state=2)
    changed["alliance"] = 10.0 * changed["alliance"] + 3.0
    changed["client"] = [f"C{900 - c}" for c in changed["client"]]
    a = MLSEM().fit(panel("unbalanced"))
    b = MLSEM().fit(make_panel(changed))
    phi = "phi[symptoms,alliance]"
    assert b.params[phi] == pytest.approx(a.params[phi] / 10.0, rel=1e-6)
    assert b.se[phi] == pytest.approx(a.se[phi] / 10.0, rel=1e-5)
    n_scores = int((~np.isnan(b.data.Y[:, :, 0])).sum())
    assert b.loglik == pytest.approx(a.loglik - n_scores * np.log(10.0), abs=1e-6)
    assert b.fit_indices()["chisq"] == pytest.approx(a.fit_indices()["chisq"], abs=1e-5)


def test_clients_without_a_column_are_set_aside() -> None:
    """The process at the last session has no column: who has only that is counted, not used."""
    late = pd.DataFrame({"client": [998, 999], "session": 7, "alliance": [5.0, 4.0]})
    a = MLSEM().fit(panel("unbalanced"))
    b = MLSEM().fit(make_panel(pd.concat([frame("unbalanced"), late])), strict=False)
    assert b.loglik == pytest.approx(a.loglik, rel=1e-12)
    assert b.sample.clients == a.sample.clients
    assert b.sample.clients_set_aside == {"no score that the equations use": 2}
    assert b.bic == pytest.approx(a.bic, rel=1e-12)
    both = MLSEM(direction="both").fit(make_panel(pd.concat([frame("unbalanced"), late])))
    assert both.sample.clients == a.sample.clients + 2


def test_columns_may_come_as_scores_or_as_covariates() -> None:
    names = {"alliance": "alliance", "symptoms": "symptoms", "hours": "hours"}
    roles = {"process": "alliance", "outcome": "symptoms", "covariates": ("severity",)}
    spec = MLSEM(exogenous=("hours",), covariates=("severity",))
    a = spec.fit(panel("unbalanced"), strict=False)
    b = spec.fit(make_panel(frame("unbalanced"), variables=names, **roles), strict=False)
    assert b.loglik == pytest.approx(a.loglik, rel=1e-12)
    assert list(b.params.index) == list(a.params.index)


# -- bounds, timing, errors ----------------------------------------------------------------------


def test_a_client_effect_without_variance_is_a_verdict() -> None:
    world = ad.Dynamics(
        phi=[[0.35, -0.05], [-0.4, 0.45]],
        innovation_cov=[[0.8, -0.3], [-0.3, 3.6]],
        between_cov=[[1e-6, 0.0], [0.0, 1e-6]],
        mean=(5.0, 12.0),
        variables=("alliance", "symptoms"),
    )
    fit = MLSEM().fit(ad.simulate(world, clients=200, sessions=5, seed=0), strict=False)
    assert fit.converged
    (sentence,) = fit.diagnostics["boundary"]
    assert sentence.startswith("between_cov[symptoms,symptoms]: the variance is at its lower bound")
    assert 0.0 <= fit.params["between_cov[symptoms,symptoms]"] < 1e-5
    assert np.isnan(fit.se["between_cov[symptoms,symptoms]"])
    assert np.isfinite(fit.se["phi[symptoms,alliance]"])
    assert np.isfinite(fit.effect("alliance", "symptoms", standardized="within").se)


def test_timing_decides_what_errors_may_move() -> None:
    data = frame("balanced").rename(columns={"alliance": "wai", "symptoms": "phq"})
    names = {"wai": "wai", "phq": "phq"}
    unknown = make_panel(data, variables=names, timing=None)
    fit = MLSEM().fit(unknown)
    assert fit.model.feedback == "next_session"
    assert any(
        "when 'wai' and 'phq' were rated is not known" in n for n in fit.diagnostics["notes"]
    )
    known = MLSEM().fit(make_panel(data, variables=names, timing={"wai": "after", "phq": "before"}))
    assert known.model.feedback == "same_session"
    assert known.diagnostics["notes"] == []
    assert known.n_params == fit.n_params + 5
    asked = MLSEM(feedback="same_session").fit(unknown)
    assert asked.loglik == pytest.approx(known.loglik, rel=1e-12)
    assert asked.diagnostics["notes"] == []


def thin(last: int) -> pd.DataFrame:
    """Return the balanced panel with the last session of few clients only."""
    found = frame("balanced")
    return found[(found["session"] < 7) | (found["client"] <= last)]


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        (lambda: MLSEM(direction="backward"), "direction is 'backward'; choose"),
        (lambda: MLSEM(process_role="endogenous"), "process_role is 'endogenous'; choose"),
        (lambda: MLSEM(starts=0), "starts is 0"),
        (lambda: MLSEM(covariates="severity"), "give several, as a tuple"),
        (lambda: MLSEM(direction="both", process_role="exogenous"), "cannot be strictly exogenous"),
        (lambda: MLSEM(direction="both", feedback="same_session"), "Leave it out"),
        (lambda: MLSEM().fit(None), "give a SessionPanel"),
        (lambda: MLSEM("mood").fit(panel("balanced")), "The panel has no variable 'mood'"),
        (lambda: MLSEM("symptoms").fit(panel("balanced")), "Process and outcome are both"),
        (
            lambda: MLSEM(exogenous=("alliance",)).fit(panel("balanced")),
            "'alliance' has two roles",
        ),
        (lambda: MLSEM(exogenous=("mood",)).fit(panel("balanced")), "has no column 'mood'"),
        (
            lambda: MLSEM(exogenous=("severity",)).fit(panel("balanced")),
            "'severity' never changes within a client",
        ),
        (lambda: MLSEM(sessions=(1, 2)).fit(panel("balanced")), "needs 3 or more sessions"),
        (lambda: MLSEM().fit(make_panel(thin(4))), "symptoms at session 7"),
        (
            lambda: MLSEM().fit(panel("balanced").subset([str(c) for c in range(1, 13)])),
            "covariances of 13 columns free; 12 clients cannot carry them",
        ),
        (lambda: MLSEM().fit(panel("balanced"), errors="hc3"), "errors is 'hc3'"),
    ],
)
def test_refusals(make: Callable[[], Any], fragment: str) -> None:
    with pytest.raises(SpecificationError) as refused:
        make()
    assert fragment in str(refused.value)


def test_many_parameters_get_a_note() -> None:
    few = panel("balanced").subset([str(c) for c in range(1, 81)])
    fit = MLSEM().fit(few, strict=False)
    (note,) = [one for one in fit.diagnostics["notes"] if one.startswith("80 clients carry 67")]
    assert 'direction="both"' in note
    with pytest.warns(ad.InferenceWarning, match="ML-SEM: 80 clients carry 67 parameters"):
        MLSEM().fit(few)


@pytest.mark.parametrize("errors_equal", [True, False])
@pytest.mark.parametrize(
    "spec", [MLSEM(), MLSEM(process_role="exogenous"), MLSEM(direction="both")]
)
def test_three_sessions_identify(spec: MLSEM, errors_equal: bool) -> None:
    """All moments together move with every parameter, and the parameters do not outnumber them."""
    data = ad.simulate(TRUTH, clients=300, sessions=3, seed=1)
    likelihood = replace(spec, errors_equal=errors_equal).objective(data)
    theta = likelihood.start + 0.1 * np.random.default_rng(0).standard_normal(len(likelihood.start))
    slopes = likelihood.layout.pull(
        theta, likelihood.equations.slopes(likelihood.layout.matrices(theta))
    )
    slopes = slopes / np.linalg.norm(slopes, axis=0)
    assert slopes.shape[0] >= slopes.shape[1]
    values = np.linalg.svd(slopes, compute_uv=False)
    assert values[-1] > 1e-4 * values[0]


def test_a_specification_shows_itself() -> None:
    spec = MLSEM(direction="both", covariates=["severity"])
    assert repr(spec) == "MLSEM(direction='both', covariates=('severity',))"
    assert pickle.loads(pickle.dumps(spec)) == spec


# -- recovery ------------------------------------------------------------------------------------


def test_recovery_and_what_strict_exogeneity_costs() -> None:
    """Both models are unbiased with feedback; a process taken as exogenous is not."""
    specs = {
        "forward": MLSEM(),
        "both": MLSEM(direction="both"),
        "exogenous": MLSEM(process_role="exogenous"),
    }
    names = ["phi[symptoms,alliance]", "phi[symptoms,symptoms]"]
    found: dict[str, list[Array]] = {key: [] for key in specs}
    inside: dict[str, list[Array]] = {key: [] for key in specs}
    truth = np.array([-0.4, 0.45])
    for seed in range(40):
        data = ad.simulate(TRUTH, clients=400, sessions=5, missing=0.1, seed=seed)
        for key, spec in specs.items():
            fit = spec.fit(data, strict=False)
            assert fit.converged
            off = fit.params[names].to_numpy() - truth
            found[key].append(off)
            inside[key].append(np.abs(off) < 1.96 * fit.se[names].to_numpy())
    for key in ("forward", "both"):
        off = np.array(found[key])
        mcse = off.std(axis=0, ddof=1) / np.sqrt(len(off))
        assert (np.abs(off.mean(axis=0)) < 3.5 * mcse).all(), key
        assert (np.mean(inside[key], axis=0) > 0.84).all(), key  # 3 MCSE below .95
    spread = {key: np.array(value)[:, 0].std() for key, value in found.items()}
    assert spread["both"] < spread["forward"]  # what the second equation adds
    biased = np.array(found["exogenous"])[:, 0]
    assert biased.mean() > 5.0 * biased.std() / np.sqrt(len(biased))
