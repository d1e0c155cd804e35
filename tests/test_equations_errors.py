"""Multilevel and dynamic-panel models given nonsense: one clear error each, by name, with a remedy.

Every row of the tables is an input, the class of the error, and a part of its message. Warnings are
errors here, so what passes does so without a word from numpy or from another library.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alliancedyn as ad
from alliancedyn import MLSEM, DynamicPanelGMM, FixedEffects, WithinBetween
from alliancedyn.cli.commands import run
from alliancedyn.engine import fit_gmm, fit_mixed
from alliancedyn.errors import AllianceDynError, DataError, InferenceWarning, SpecificationError

FAMILIES = (WithinBetween, FixedEffects, DynamicPanelGMM, MLSEM)
TRUTH = ad.Dynamics.time_ordered(
    phi_alliance=0.35,
    phi_symptoms=0.45,
    forward=-0.12,
    backward=-0.10,
    between_cov=[[1.0, -0.3], [-0.3, 1.0]],
    mean=(5.0, 10.0),
)
# Shifting a scale moves nothing but rounding: sums of products of a few hundred clients.
SHIFTED = 1e-6

Change = Callable[[pd.DataFrame], pd.DataFrame]


def frame(clients: int = 60, sessions: int = 6) -> pd.DataFrame:
    """Return scores with therapists, a client-level and a session-level number."""
    found = ad.simulate(TRUTH, clients=clients, sessions=sessions, seed=1).frame
    found = found[["client", "session", "alliance", "symptoms"]].copy()
    code = pd.factorize(found["client"])[0]
    rng = np.random.default_rng(1)
    found["therapist"] = [f"T{c % 7}" for c in code]
    found["severity"] = rng.standard_normal(clients)[code]
    found["crisis"] = (rng.random(len(found)) < 0.2).astype(float)
    return found


def panel(scores: pd.DataFrame, *covariates: str) -> ad.SessionPanel:
    return ad.SessionPanel.from_frame(
        scores,
        client="client",
        session="session",
        variables={"alliance": "alliance", "symptoms": "symptoms"},
        therapist="therapist",
        covariates=covariates or ("severity", "crisis"),
        timing={"alliance": "after", "symptoms": "before"},
    )


SCORES = frame()
PANEL = panel(SCORES)

FOR_ALL: list[tuple[dict[str, Any], str]] = [
    ({"process": "wai"}, "has no variable 'wai'; it has 'alliance', 'symptoms'"),
    ({"process": "symptoms"}, "Process and outcome are both 'symptoms'"),
    ({"outcome": 3}, "outcome is 3; give a text"),
    ({"direction": "backward"}, "direction is 'backward'; choose 'forward' or 'both'"),
    ({"sessions": 5}, r"sessions is 5; give the numbers of the first and the last"),
    ({"sessions": (3,)}, r"sessions is \(3,\); give"),
    ({"sessions": ()}, r"sessions is \(\); give"),
    ({"sessions": (1, 2, 3)}, r"sessions is \(1, 2, 3\); give"),
    ({"sessions": ("1", "5")}, r"sessions is \('1', '5'\); give"),
    ({"sessions": (1.5, 6)}, r"sessions is \(1.5, 6\); give"),
    ({"sessions": (50, 60)}, "holds none of the panel's sessions 1 to 6"),
    ({"sessions": (5, 2)}, "holds none of the panel's sessions 1 to 6"),
    ({"sessions": (2, 3)}, "session"),
]

OPTIONS: list[tuple[type, dict[str, Any], str]] = [
    (WithinBetween, {"random_slopes": None}, "random_slopes is None; give several, as a tuple"),
    (WithinBetween, {"random_slopes": "alliance"}, "random_slopes is 'alliance'; give several"),
    (WithinBetween, {"random_slopes": ("alliance", "alliance")}, "'alliance' more than once"),
    (WithinBetween, {"random_slopes": ("wai",)}, "which is no term of the equation of 'symptoms'"),
    (WithinBetween, {"random_slopes": ("trend",), "trend": None}, "'trend', which is no term"),
    (WithinBetween, {"levels": "therapist"}, "levels is 'therapist'; give several, as a tuple"),
    (WithinBetween, {"levels": None}, "levels is None; give several"),
    (WithinBetween, {"levels": ("client", "therapist")}, "choose .'client',. or .'therapist',"),
    (WithinBetween, {"lag": 1}, "lag is 1; choose 'previous_session'"),
    (WithinBetween, {"lagged_outcome": "raw"}, 'turn the sign.*lagged_outcome="within"'),
    (WithinBetween, {"trend": "quadratic"}, "trend is 'quadratic'; choose 'linear'"),
    (WithinBetween, {"method": "ML"}, "method is 'ML'; choose 'reml' or 'ml'"),
    (WithinBetween, {"between": "therapist"}, "needs therapists as a level"),
    (WithinBetween, {"covariates": ("wai",)}, "no column 'wai' per client"),
    (WithinBetween, {"covariates": ("therapist",)}, "'T0', 'T1', 'T2' and 4 more, not numbers"),
    (WithinBetween, {"moderators": ("alliance",)}, "'alliance' cannot be a series of the equation"),
    (FixedEffects, {"session_effects": None}, "session_effects is None; choose True or False"),
    (FixedEffects, {"bias_correction": True}, "bias_correction is True; choose 'half-panel'"),
    (FixedEffects, {"exogenous": None}, "exogenous is None; give several, as a tuple"),
    (FixedEffects, {"exogenous": ("crisis", "crisis")}, "'crisis' more than once"),
    (FixedEffects, {"exogenous": ("alliance",)}, "cannot be a series and exogenous too"),
    (FixedEffects, {"exogenous": "severity"}, r"input\[symptoms,severity\] cannot be estimated"),
    (DynamicPanelGMM, {"outcome_lags": 1.0}, "outcome_lags is 1.0; give a whole number"),
    (DynamicPanelGMM, {"outcome_lags": True}, "outcome_lags is True; give a whole number"),
    (DynamicPanelGMM, {"process_lags": [1]}, r"process_lags is \[1\]; give a whole number"),
    (DynamicPanelGMM, {"instrument_lags": 2}, "instrument_lags is 2; give 2 values"),
    (DynamicPanelGMM, {"instrument_lags": None}, "instrument_lags is None; give"),
    (DynamicPanelGMM, {"instrument_lags": (2,)}, r"instrument_lags is \(2,\); give"),
    (DynamicPanelGMM, {"instrument_lags": (2, 3, 4)}, r"instrument_lags is \(2, 3, 4\); give"),
    (DynamicPanelGMM, {"instrument_lags": ("2", None)}, "give 2 values, in a tuple"),
    (DynamicPanelGMM, {"instrument_lags": (2.5, 4)}, "give 2 values, in a tuple"),
    (DynamicPanelGMM, {"instrument_lags": (9, None)}, "4 instruments cannot identify 6"),
    (DynamicPanelGMM, {"exogenous": None}, "exogenous is None; give several"),
    (DynamicPanelGMM, {"exogenous": "severity"}, r"input\[symptoms,severity\] cannot be estima"),
    (DynamicPanelGMM, {"center_instruments": 1.5}, "choose True or False"),
    (MLSEM, {"process_role": "endogenous"}, "choose 'predetermined' or 'exogenous'"),
    (MLSEM, {"exogenous": None}, "exogenous is None; give several"),
    (MLSEM, {"exogenous": ("severity",)}, r"'severity' never changes.*covariates="),
    (MLSEM, {"covariates": ("alliance",)}, "'alliance' has two roles"),
    (MLSEM, {"errors_equal": None}, "errors_equal is None; choose True or False"),
    (MLSEM, {"starts": True}, "starts is True; give a whole number"),
    (MLSEM, {"feedback": "same_session", "direction": "both"}, "Leave it out with direction"),
]

ERRORS: list[tuple[Any, str]] = [
    (5, "errors is 5; choose 'observed', 'robust' or 'cluster:therapist'"),
    (["robust"], r"errors is \['robust'\]; choose"),
    ("clusters", "errors is 'clusters'; choose"),
    ("cluster:", "errors is 'cluster:'; choose"),
    ("cluster:site", "no column 'site' per client"),
]


def _named(value: object) -> str:
    """Name a case without the address of a function, which differs between processes."""
    return re.sub(r" at 0x\w+", "", str(value))[-60:]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("options", "says"), FOR_ALL, ids=lambda value: str(value)[:40])
def test_roles_and_sessions(family: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecificationError, match=says):
        family(**options).fit(PANEL)


@pytest.mark.parametrize(("family", "options", "says"), OPTIONS, ids=lambda value: str(value)[:40])
def test_options(family: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises((SpecificationError, DataError), match=says):
        family(**options).fit(PANEL)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("errors", "says"), ERRORS, ids=lambda value: str(value)[:40])
def test_errors(family: Any, errors: Any, says: str) -> None:
    with pytest.raises((SpecificationError, DataError), match=says):
        family().fit(PANEL, errors=errors)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("given", [None, SCORES, SCORES.to_numpy()], ids=type)
def test_what_is_no_panel(family: Any, given: Any) -> None:
    with pytest.raises(SpecificationError, match="give a SessionPanel"):
        family().fit(given)


# -- exports -------------------------------------------------------------------------------------


def constant(name: str) -> Change:
    return lambda f: f.assign(**{name: f.groupby("client")[name].transform("first")})


def every_other(f: pd.DataFrame) -> pd.DataFrame:
    return f.assign(session=2 * f["session"])


def repeats(f: pd.DataFrame) -> pd.DataFrame:
    return f.assign(alliance=2.0 * f["symptoms"] + 1.0)


def next_score(f: pd.DataFrame) -> pd.DataFrame:
    return f.assign(alliance=f.groupby("client")["symptoms"].shift(-1))


def course(f: pd.DataFrame) -> pd.DataFrame:
    return f.assign(alliance=1.0 * f["session"])


WB, FE, GMM, SEM = "WithinBetween", "FixedEffects", "DynamicPanelGMM", "MLSEM"
EXPORTS: list[tuple[Change, dict[str, str]]] = [
    (constant("alliance"), dict.fromkeys((WB, FE, GMM, SEM), "'alliance' never changes within")),
    (constant("symptoms"), dict.fromkeys((WB, FE, GMM, SEM), "'symptoms' never changes within")),
    (
        lambda f: f.assign(alliance=4.0),
        dict.fromkeys((WB, FE, GMM, SEM), "'alliance' has the same value in every row"),
    ),
    (
        every_other,
        {
            WB: '0 sessions of 0 clients.*lag="nearest_earlier"',
            FE: "three sessions in a row",
            GMM: "one after the other.*check the session numbers",
            SEM: "multiples of 2 sessions",
        },
    ),
    (
        repeats,
        {
            WB: r"phi\[symptoms,symptoms\] is nothing but a weighted sum of 'phi\[symptoms,alli",
            FE: r"phi\[symptoms,alliance\] cannot be estimated",
            GMM: r"phi\[symptoms,alliance\] cannot be estimated|symptoms\] cannot be estimated",
            SEM: "'symptoms' repeats 'alliance'",
        },
    ),
    (
        next_score,
        {
            WB: "No spread is left within clients.*repeats the outcome",
            FE: "predicts 'symptoms' without error.*a column that repeats it",
            GMM: "predicts 'symptoms' without error.*a column that repeats it",
        },
    ),
    (
        course,
        {
            WB: r"between\[symptoms,alliance\] is nothing but a weighted sum of 'intercept",
            FE: r"phi\[symptoms,alliance\] cannot be estimated.*session_effects=False",
            GMM: r"phi\[symptoms,alliance\] cannot be estimated.*session effects do",
        },
    ),
    (
        lambda f: f[f["client"].isin(f["client"].unique()[:4])],
        dict.fromkeys((WB, FE, GMM, SEM), "4 clients have a score.*5 or more"),
    ),
    (
        lambda f: f[f["session"] < 3],
        {
            WB: "60 sessions of 60 clients",
            FE: "three sessions in a row",
            GMM: "No client has two sessions",
            SEM: "needs 3 or more sessions",
        },
    ),
    (
        lambda f: f.assign(symptoms=f["symptoms"] + 1e8),
        {GMM: "center_instruments=True"},
    ),
]


@pytest.mark.parametrize(
    ("change", "family", "says"),
    [(change, family, says) for change, found in EXPORTS for family, says in found.items()],
    ids=lambda value: str(value)[:50] if isinstance(value, str) else "",
)
def test_exports(change: Change, family: str, says: str) -> None:
    with pytest.raises(SpecificationError, match=says):
        getattr(ad, family)().fit(panel(change(SCORES)))


def hole(f: pd.DataFrame) -> pd.DataFrame:
    return f.assign(crisis=f["crisis"].where(np.arange(len(f)) % 37 > 0))


COLUMNS: list[tuple[Change, Any, str]] = [
    (hole, FixedEffects(exogenous=("crisis",)), "'crisis' is not a number in 10 sessions"),
    (hole, DynamicPanelGMM(exogenous=("crisis",)), "'crisis' is not a number in 10 sessions"),
    (
        lambda f: f.assign(severity=f["severity"] > 0).replace({True: "high", False: "low"}),
        WithinBetween(covariates=("severity",)),
        "'severity' holds 'high', 'low', not numbers",
    ),
    (
        lambda f: f.assign(severity=1.0),
        WithinBetween(moderators=("severity",)),
        "'severity' is the same for all clients",
    ),
    (
        lambda f: f.assign(severity=np.nan),
        WithinBetween(covariates=("severity",)),
        "60 clients have no severity",
    ),
    (
        lambda f: f.assign(severity=np.nan),
        MLSEM(covariates=("severity",)),
        "'severity' is known of no client",
    ),
    (
        lambda f: f.assign(crisis=2.0 * f["severity"] - 1.0),
        WithinBetween(covariates=("severity", "crisis")),
        r"between\[symptoms,crisis\] is nothing but a weighted sum of .*'between\[symptoms,sev",
    ),
    (
        lambda f: f.assign(crisis=2.0 * f["severity"] - 1.0),
        MLSEM(covariates=("severity", "crisis"), sessions=(1, 3)),
        "'crisis' repeats 'severity'",
    ),
]


@pytest.mark.parametrize(("change", "spec", "says"), COLUMNS, ids=_named)
def test_further_columns(change: Change, spec: Any, says: str) -> None:
    with pytest.raises(SpecificationError, match=says):
        spec.fit(panel(change(SCORES)))


LEVELS = WithinBetween(levels=("therapist", "client"))


@pytest.mark.parametrize(
    ("therapists", "says"),
    [
        (lambda f: "T1", "have the same therapist"),
        (lambda f: f["client"], "Each of the 60 therapists has a single client"),
        (lambda f: None, r'360 others have no therapist.*levels=\("client",\)|no therapist'),
    ],
    ids=["one", "each", "none"],
)
def test_therapists(therapists: Callable[[pd.DataFrame], Any], says: str) -> None:
    data = panel(SCORES.assign(therapist=therapists(SCORES)))
    with pytest.raises(SpecificationError, match=says):
        LEVELS.fit(data)
    with pytest.raises(SpecificationError, match=r"1 therapist only|single client|is empty"):
        ad.therapist_partition(data)


def test_a_therapist_with_one_client_and_clients_without_a_therapist_are_no_obstacle() -> None:
    who = SCORES["client"].unique()
    therapist = SCORES["therapist"].where(~SCORES["client"].isin(who[:5]))
    therapist = therapist.where(SCORES["client"] != who[6], "lone")
    fit = LEVELS.fit(panel(SCORES.assign(therapist=therapist)), strict=False)
    assert fit.sample.clients == 60  # those without a therapist stay, without an effect of one
    assert "no therapist at that session" not in fit.sample.rows_set_aside
    (note,) = (note for note in fit.diagnostics["notes"] if "no therapist" in note)
    assert note.startswith("5 of 60 clients have no therapist: they stay, without a therapist eff")
    data = panel(SCORES.assign(therapist=therapist))
    with pytest.warns(InferenceWarning, match="5 clients have no therapist: .* a cluster alone"):
        WithinBetween().fit(data, errors="cluster:therapist")


@pytest.mark.parametrize("first", [0, 5])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_number_of_the_first_session_changes_no_effect(family: Any, first: int) -> None:
    moved = panel(SCORES.assign(session=SCORES["session"] - 1 + first))
    name = "phi[symptoms,alliance]"
    one, other = (family().fit(data, strict=False) for data in (PANEL, moved))
    assert other.params[name] == pytest.approx(one.params[name], abs=SHIFTED)
    assert other.sessions[0] == first


# -- the zero of the scales ----------------------------------------------------------------------


@pytest.mark.parametrize("transform", ["difference", "orthogonal"])
@pytest.mark.parametrize("session_effects", [True, False])
def test_centered_instruments_do_not_know_the_zero(transform: Any, session_effects: bool) -> None:
    holes = frame(clients=120, sessions=7)
    holes = holes[np.random.default_rng(3).random(len(holes)) > 0.15]
    moved = holes.assign(symptoms=holes["symptoms"] + 500.0, alliance=holes["alliance"] - 80.0)
    raw, spec = (
        DynamicPanelGMM(
            transform=transform, session_effects=session_effects, center_instruments=center
        )
        for center in (False, True)
    )
    for name in ("phi[symptoms,symptoms]", "phi[symptoms,alliance]"):
        one, other = (spec.fit(panel(data), strict=False) for data in (holes, moved))
        assert other.params[name] == pytest.approx(one.params[name], abs=SHIFTED)
        assert other.se[name] == pytest.approx(one.se[name], abs=SHIFTED)
        near, far = (raw.fit(panel(data), strict=False) for data in (holes, moved))
        assert abs(near.params[name] - far.params[name]) > 0.001  # which is why the option exists


def test_without_gaps_centered_instruments_give_the_same() -> None:
    one = DynamicPanelGMM().fit(PANEL, strict=False)
    other = DynamicPanelGMM(center_instruments=True).fit(PANEL, strict=False)
    assert other.params.to_numpy() == pytest.approx(one.params.to_numpy(), abs=SHIFTED)
    assert not any("zero" in note for note in one.diagnostics["notes"])


def test_estimates_that_hang_on_the_zero_say_so() -> None:
    holes = frame(clients=150, sessions=8)
    holes = holes[np.random.default_rng(3).random(len(holes)) > 0.15]
    holes = holes.assign(symptoms=holes["symptoms"] + 200.0)
    fit = DynamicPanelGMM(transform="orthogonal").fit(panel(holes), strict=False)
    assert any("where the scales have their zero" in note for note in fit.diagnostics["notes"])


def test_fixed_effects_keep_their_digits_far_from_zero() -> None:
    far = panel(SCORES.assign(symptoms=SCORES["symptoms"] + 1e8))
    spec = FixedEffects(bias_correction=None)
    one, other = (spec.fit(data, strict=False) for data in (PANEL, far))
    assert other.params["phi[symptoms,alliance]"] == pytest.approx(
        one.params["phi[symptoms,alliance]"], abs=SHIFTED
    )


# -- what is done with fits ----------------------------------------------------------------------

SPECS: dict[str, Any] = {
    "within-between": WithinBetween(direction="both"),
    "fixed effects": FixedEffects(direction="both"),
    "gmm": DynamicPanelGMM(direction="both"),
    "ml-sem": MLSEM(direction="both"),
}


def test_fits_travel_and_are_compared() -> None:
    fits = {name: spec.fit(PANEL, strict=False) for name, spec in SPECS.items()}
    away = {name: pickle.loads(pickle.dumps(fit.without_data())) for name, fit in fits.items()}
    for name, fit in fits.items():
        assert away[name].table().equals(fit.table())
        assert away[name].data is None
    table = ad.compare_models(fits)
    assert set(table.index.get_level_values(0)) | set(table.iloc[:, 0]) >= set(fits)
    assert len(ad.compare_models(away)) == len(table)
    for name, fit in fits.items():
        assert ad.compare_directions(away[name]).forward.value == pytest.approx(
            ad.compare_directions(fit).forward.value
        )


@pytest.mark.parametrize("name", SPECS)
def test_recovery_runs(name: str) -> None:
    study = ad.recover(SPECS[name], TRUTH, clients=60, sessions=6, replications=4, seed=1, jobs=1)
    assert not study.failures
    assert "phi[symptoms,alliance]" in study.table().index


def test_what_simulated_panels_do_not_have_is_counted() -> None:
    study = ad.recover(
        WithinBetween(covariates=("severity",)),
        TRUTH,
        clients=60,
        sessions=6,
        replications=4,
        seed=1,
        jobs=1,
    )
    assert sum(study.failures.values()) == 4
    assert "no column 'severity'" in next(iter(study.failures))


FIT = WithinBetween().fit(PANEL, strict=False)
VERBS: list[tuple[Callable[[], Any], type[AllianceDynError], str]] = [
    (lambda: ad.client_effects(WithinBetween()), SpecificationError, "Fit it first"),
    (lambda: ad.client_effects(PANEL), SpecificationError, "give a Fit"),
    (lambda: ad.client_effects(FIT, level=95), SpecificationError, "between 0 and 1"),
    (lambda: ad.client_effects(FIT.without_data()), DataError, "Pass panel="),
    (lambda: ad.client_effects(FIT, SCORES), SpecificationError, "SessionPanel"),
    (lambda: ad.bias_diagnosis(WithinBetween()), SpecificationError, "give a Fit"),
    (lambda: ad.bias_diagnosis(FIT, 5), SpecificationError, "give 20 or more"),
    (lambda: ad.bias_diagnosis(FIT, 20, seed="x"), SpecificationError, "seed is 'x'"),
    (lambda: ad.bias_diagnosis(FIT.without_data()), SpecificationError, "no longer holds its"),
    (lambda: ad.therapist_partition(SCORES), SpecificationError, "give a SessionPanel"),
    (lambda: ad.therapist_partition(PANEL, lag=2), SpecificationError, "lag=2: use 1"),
    (lambda: ad.therapist_partition(PANEL, "wai"), SpecificationError, "'wai'"),
    (lambda: FIT.fit_indices(), SpecificationError, "is a regression: it has no fit indices"),
    (lambda: FIT.states(), SpecificationError, "Use a model of both series"),
    (lambda: FIT.structural(), SpecificationError, "Use the reduced form"),
]


@pytest.mark.parametrize(("call", "error", "says"), VERBS, ids=_named)
def test_verbs(call: Callable[[], Any], error: type[AllianceDynError], says: str) -> None:
    with pytest.raises(error, match=says):
        call()


# -- plain arrays --------------------------------------------------------------------------------

RNG = np.random.default_rng(2)
Y, X = RNG.standard_normal(60), np.column_stack([np.ones(60), RNG.standard_normal(60)])
Z, G = np.ones((60, 1)), np.repeat(np.arange(12), 5)
S = np.tile(np.arange(5), 12)
BEFORE = np.where(S == 0, np.nan, np.roll(Y, 1))[:, None]
LAGS = [(Y, (2, None))]
ARRAYS: list[tuple[Callable[[], Any], type[AllianceDynError], str]] = [
    (lambda: fit_mixed(["a"] * 60, X, Z, G), DataError, "must hold numbers"),
    (lambda: fit_mixed(Y[:5], X, Z, G), DataError, "one row per score"),
    (lambda: fit_mixed(np.r_[np.nan, Y[1:]], X, Z, G), DataError, "y must be finite"),
    (lambda: fit_mixed(Y, X, Z, G + 0.5), DataError, "must be integers"),
    (lambda: fit_mixed(Y, X, Z, 0 * G), SpecificationError, "a single client"),
    (lambda: fit_mixed(Y, X, Z, np.arange(60)), SpecificationError, "more rows than the 1 random"),
    (lambda: fit_mixed(0 * Y + 3, X, Z, G), SpecificationError, "No spread is left"),
    (lambda: fit_mixed(1e200 * Y, X, Z, G), DataError, "too large to be squared"),
    (lambda: fit_gmm(["a"] * 60, BEFORE, G, S, gmm=LAGS), DataError, "must hold numbers"),
    (lambda: fit_gmm(Y, BEFORE, G, S, gmm=[(Y, 2)]), SpecificationError, "gmm is"),
    (
        lambda: fit_gmm(Y, BEFORE, G, S, gmm=(Y, (2, None))),
        SpecificationError,
        "gmm is .*; give several",
    ),
    (lambda: fit_gmm(Y, BEFORE, G, S, gmm=[]), SpecificationError, "0 instruments cannot"),
    (lambda: fit_gmm(Y, BEFORE, G, S + 0.5, gmm=LAGS), DataError, "whole numbers"),
    (lambda: fit_gmm(Y, BEFORE, G, 0 * S, gmm=LAGS), DataError, "at the same session"),
]


@pytest.mark.parametrize(("call", "error", "says"), ARRAYS, ids=_named)
def test_arrays(call: Callable[[], Any], error: type[AllianceDynError], says: str) -> None:
    with pytest.raises(error, match=says):
        call()


# -- the command line ----------------------------------------------------------------------------

MAPPING = """client = "client"
session = "session"
therapist = "therapist"
covariates = ["severity"]
missing_codes = [-9, "n/a"]
[variables]
alliance = "wai"
symptoms = "phq"
[timing]
alliance = "after"
symptoms = "before"
"""


def messy() -> pd.DataFrame:
    """Return text for numbers, codes for missing, gaps, single sessions, switches, any order."""
    rng = np.random.default_rng(4)
    found = frame(clients=60, sessions=8)
    found = found[rng.random(len(found)) > 0.1].copy()
    who = found["client"].unique()
    found["wai"], found["phq"] = (found[v].round(1).astype(str) for v in ("alliance", "symptoms"))
    found.loc[found.index[::17], "wai"] = ""
    found.loc[found.index[5::19], "phq"] = "n/a"
    found.loc[found.index[7::23], "phq"] = "-9"
    found.loc[found["client"].isin(who[:6]), "therapist"] = ""
    found.loc[found["client"].isin(who[6:9]) & (found["session"] > 4), "therapist"] = "T99"
    found.loc[found["client"].isin(who[9:12]), "wai"] = "5"
    found = found[~found["client"].isin(who[12:18]) | (found["session"] == 1)]
    found["session"] += 4
    columns = ["client", "session", "wai", "phq", "therapist", "severity"]
    return found[columns].sample(frac=1.0, random_state=1)


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        ([], 0, "Within-between"),
        (["--errors", "cluster:therapist"], 0, "each is a cluster alone"),
        (["--sessions", "5-6"], 4, "No model could be fitted"),
    ],
    ids=["as it is", "clustered", "two sessions"],
)
def test_a_messy_file_from_the_command_line(
    more: list[str], code: int, says: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    messy().to_csv(tmp_path / "export.csv", index=False, sep=";")
    (tmp_path / "map.toml").write_text(MAPPING)
    families = "within-between,gmm,fixed-effects,ml-sem"
    arguments = ["analyze", str(tmp_path / "export.csv"), "--map", str(tmp_path / "map.toml")]
    arguments += ["--out", str(tmp_path / "out"), "--families", families, *more]
    assert run(arguments) == code
    shown = capsys.readouterr()
    assert says in " ".join((shown.out + shown.err).split())
    assert "Traceback" not in shown.out + shown.err
    assert (tmp_path / "out" / "report.html").exists() == (code == 0)
