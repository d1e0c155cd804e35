"""Hostile calls, files and command lines, drawn from a seed; what they may end in is an own error.

Calls are made from the signatures of everything public: most arguments as they should be, one or
two of them something else.
"""

from __future__ import annotations

import inspect
import re
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pandas as pd

import alliancedyn as ad
from alliancedyn.errors import AllianceDynError

DEEP: list[Any] = []
for _ in range(60):
    DEEP = [DEEP]


class Strange:
    """An object that answers nothing."""

    def __repr__(self) -> str:
        return "Strange()"


def hostile_values() -> list[Any]:
    """Return what nobody should pass, new each time."""
    return [
        *(None, True, False, -1, 0, 1, 3, 2**31, 2**63, 10**30, 10**400, -(10**30)),
        *(0.5, -0.5, 1.5, float("nan"), float("inf"), -float("inf"), 1e300, 1e-300, 2j),
        *("", " ", "alliance", "alianse", "3", "0.5", "nan", "None", "a" * 5000, "x\0y", "\ud800"),
        *("phi[symptoms,alliance]", "phi[", "../..", "<b>", "'", '"', "%s{0}", b"alliance"),
        *([], (), {}, set(), [None], [1], (1, 2), (2, 1), (1, 2, 3), ("alliance",), [[1, 2], [3]]),
        *([float("nan")] * 2, ["alliance", "alliance"], ["alliance", 3], {"alliance": None}),
        *({"alliance": "1"}, {"alliance": -1.0}, {3: 4}, {"alliance": {}}, {"symptoms": (1, 2)}),
        *({"alliance": float("nan")}, {"alliance": [1, 2]}, {"nothing": 0.5}, DEEP, range(3)),
        *(np.array(3), np.arange(4.0), np.eye(2), np.zeros((0, 3)), np.array(["a", "b"])),
        *(np.full((2, 2), np.nan), np.array([None, 1], dtype=object), np.float64(0.5), np.int64(2)),
        *(pd.DataFrame({"client": [1], "session": [1]}), pd.DataFrame(), pd.Series([1.0])),
        *(pd.Series(dtype=float), pd.NA, pd.NaT, pd.Timestamp("2024-01-01"), pd.Index(["a"])),
        *(lambda: 1, len, int, str, Strange, Strange(), object(), iter([1]), ad, Ellipsis),
        *(ad.RICLPM, ad.RICLPM(), ad.DSEM(), ad.Estimate, Path("nothing.csv"), Path()),
        *(np.random.default_rng(1), np.random.SeedSequence(1), slice(1, 2), Exception("x")),
        *(np.datetime64("2024-01-01"), memoryview(b"ab"), frozenset({"alliance"})),
    ]


@cache
def world() -> dict[str, Any]:
    """Return small things of every kind that public functions take."""
    truth = ad.worlds.load("reciprocal").truth
    gaps = ad.Gaps(weeks=(1, 2), weights=(0.7, 0.3))
    therapists = ad.Therapists(4, np.eye(2) * 0.1)
    panel = ad.simulate(truth, 24, 6, seed=3, therapists=therapists, gaps=gaps, missing=0.05)
    riclpm, clpm = ad.RICLPM(means="equal"), ad.CLPM(means="equal")
    fit = riclpm.fit(panel, strict=False)
    other = clpm.fit(panel, strict=False)
    days = ad.ContinuousTime(traits=False).fit(panel, strict=False)
    mixed = ad.WithinBetween().fit(panel, strict=False)
    drawn = ad.DSEM(draws=40, tune=40, chains=2, sampler="gibbs")
    sampled = drawn.fit(panel, strict=False, seed=1)
    return {
        **{"truth": truth, "panel": panel, "spec": riclpm, "fit": fit, "clpm_fit": other},
        **{"riclpm_fit": fit, "restricted_fit": other, "general_fit": fit, "mixed": mixed},
        **{"fits": {"RI-CLPM": fit}, "days": days, "sampled": sampled, "frame": panel.frame},
        **{"directions": {"RI-CLPM": ad.compare_directions(fit)}, "results": {}},
        **{"comparison": ad.compare_models({"RI-CLPM": fit}), "quality": ad.check(panel)},
        **{"decomposition": ad.decompose(panel), "therapists": therapists, "gaps": gaps},
    }


TEXTS = ("alliance", "symptoms", "therapist", "client", "person", "arm", "mood", "free", "equal",
         "within", "stationary", "reduced", "structural", "log", "piecewise", "linear", "session",
         "observed", "robust", "cluster:therapist", "cluster:", "intercept", "trend", "days",
         "phi[symptoms,alliance]", "phi[alliance,alliance]", "symptoms<-alliance", "both", "lr",
         "mean[alliance]", "between_cov[symptoms]", "normal", "items", "C01", "T01", "drop", "date",
         "mean", "last", "first", "identical", "reciprocal", "example", "lavaan")  # fmt: skip


def plausible(annotation: str, rng: np.random.Generator) -> Any:
    """Return a value of an annotated kind that may mean nothing where it is passed."""
    one = str(rng.choice(TEXTS))
    if "Literal[" in annotation or "Same" in annotation:
        said = re.findall(r"'(\w[\w-]*)'", annotation)
        return str(rng.choice(said)) if said and rng.random() < 0.7 else one
    many = tuple(str(text) for text in rng.choice(TEXTS, int(rng.integers(0, 4))))
    number = float(rng.choice([0.0, -1.0, 0.5, 1.0, 1e-12, 1e12, -1e300, 7.0, 0.05, 99.0]))
    whole = int(rng.choice([-3, -1, 0, 1, 2, 3, 5, 6, 7, 40, 399]))
    kinds = {
        "tuple[int, int]": (whole, int(rng.integers(-2, 12))),
        "Mapping[str, list[str]]": {one: list(many), "alliance": ["alliance", "symptoms"]},
        "Mapping[str, float]": {one: number, "alliance": 0.5},
        "Mapping[str, tuple": {one: ("normal", 0.0, number), "phi": ("normal", 0, 1)},
        "Mapping[str, str]": {one: str(rng.choice(TEXTS))},
        "tuple[str": many,
        "Sequence[str]": list(many),
        "tuple[float": (number, 1.0),
        "Rows": [[number, 0.1], [0.1, 1.0]],
        "Array": np.array([[number, 0.1], [0.0, 1.0]]),
        "Vector": (number, 0.5),
        "int": whole,
        "float": number,
        "bool": bool(rng.integers(2)),
        "str": one,
    }
    return next((value for kind, value in kinds.items() if kind in annotation), one)


NAMED: dict[str, Any] = {
    **{"clients": 6, "sessions": 4, "replications": 1, "resamples": 2, "draws": 4, "tune": 2},
    **{"chains": 2, "seed": 1, "jobs": 1, "source": "alliance", "target": "symptoms", "points": 8},
    **{"shock": "alliance", "parameter": "phi[symptoms,alliance]", "horizon": 1, "ranks": 5},
    **{"effect": "phi[symptoms,alliance]", "phi": [[0.3, 0.0], [-0.1, 0.4]], "size": (3.0, 2.0)},
    **{"innovation_cov": np.eye(2), "cov": np.eye(2), "n": 3, "first": 2, "columns": 2},
    **{"on_phi": [("symptoms", "alliance", 0.1)], "onset": (0.0, 1.0), "drift": -np.eye(2)},
    **{"diffusion_cov": np.eye(2), "forward": -0.1, "backward": -0.1, "phi_alliance": 0.3},
    **{"phi_symptoms": 0.3, "function": lambda p: 1.0, "quantity": "phi[symptoms,alliance]"},
    **{"model": "x", "code": "floor", "severity": "info", "message": "m", "version": "latent"},
}


@dataclass(frozen=True)
class Call:
    """Something public with what it should be given."""

    name: str
    function: Callable[..., Any]
    given: dict[str, Any] = field(default_factory=dict)


# Whose argument is a fit in continuous time, or a sampled one.
FITS = {
    "days": ("describe_drift", "effect_by_lag", "peak_lag", "plot.effect_by_lag"),
    "sampled": ("bayes_factor", "posterior_statements", "power_scaling", "prior_overlap", "loo",
                "save_draws", "plot.prior_posterior", "plot.client_effects", "client_effects"),
}  # fmt: skip

# Long by their nature even at their smallest: their types are checked, their work is not done.
LONG = ("calibrate", "DSEM.fit", "Bayes.fit", "recover", "power", "ladder", "constraint_search",
        "compare_clocks", "loo", "posterior_check", "prior_predictive", "Bayes.build")  # fmt: skip


@cache
def calls() -> tuple[Call, ...]:
    """Return everything public that takes arguments."""
    parts = world()
    found = []
    for name in ad.__all__:
        thing = getattr(ad, name)
        if inspect.ismodule(thing):
            found += [_call(f"{name}.{one}", getattr(thing, one)) for one in thing.__all__]
        elif callable(thing) and not (isinstance(thing, type) and issubclass(thing, Exception)):
            found.append(_call(name, thing))
    owners = {
        **{
            "Fit": parts["fit"],
            "SampledFit": parts["sampled"],
            "ContinuousFit": parts["days"],
            "MixedFit": parts["mixed"],
        },
        **{"SessionPanel": parts["panel"], "Dynamics": parts["truth"]},
        **{"TherapistPartition": ad.therapist_partition(parts["panel"])},
        **{"World": ad.worlds.load("reciprocal"), "RICLPM": parts["spec"], "MLSEM": ad.MLSEM()},
        **{"DSEM": ad.DSEM(), "WithinBetween": ad.WithinBetween(), "GMM": ad.DynamicPanelGMM()},
        **{"FixedEffects": ad.FixedEffects(), "Bayes": ad.Bayes(ad.RICLPM(), draws=4, tune=2)},
    }
    for owner, value in owners.items():
        verbs = ("fit", "loglik", "objective") if hasattr(value, "fit") else dir(value)
        for verb in verbs:
            kind = inspect.getattr_static(value, verb, None)
            if not verb.startswith("_") and isinstance(kind, FunctionType | classmethod):
                found.append(_call(f"{owner}.{verb}", getattr(value, verb)))
    likelihood = parts["spec"].objective(parts["panel"])
    for verb in ("value_and_score", "scores", "to_params"):
        found.append(_call(f"Objective.{verb}", getattr(likelihood, verb)))
    y, ids = np.random.default_rng(1).normal(size=40), np.repeat(np.arange(8), 5)
    X = np.column_stack([np.ones(40), np.sin(np.arange(40.0))])
    arrays = {"y": y, "X": X, "Z": np.ones((40, 1)), "group": ids}
    rows = {"y": y, "X": X[:, 1:], "client": ids, "session": np.tile(np.arange(5), 8)}
    found += [
        Call("engine.fit_mixed", ad.engine.fit_mixed, arrays),
        Call("engine.fit_gmm", ad.engine.fit_gmm, {**rows, "gmm": [(X[:, 1], (2, None))]}),
    ]
    return tuple(one for one in found if "Objective" not in one.name or "." in one.name[:10])


def _call(name: str, function: Callable[..., Any]) -> Call:
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:
        return Call(name, function)
    parts, given = world(), {}
    for option, one in parameters.items():
        if option in NAMED and (one.default is one.empty or option in _CHEAP):
            given[option] = NAMED[option]
        if one.default is one.empty and option in parts:
            given[option] = parts[option]
    if "fit" in given:
        given["fit"] = parts[next((kind for kind, names in FITS.items() if name in names), "fit")]
    if name.startswith("Objective"):
        given = {"theta": np.zeros(3)}
    if name == "messy":
        given["flaws"] = ["padded-ids"]
    return Call(name, function, given)


_CHEAP = ("replications", "resamples", "draws", "tune", "ranks", "points", "jobs", "chains")


def hostile_calls(count: int, seed: int, folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield calls with something wrong in them, each with a text that says which."""
    rng = np.random.default_rng(seed)
    everything = calls()
    for number in range(count):
        one = everything[number % len(everything)]
        given = dict(one.given)
        if "path" in inspect.signature(one.function).parameters and "read" not in one.name:
            given["path"] = folder / "out"
        pool = hostile_values()
        options = list(inspect.signature(one.function).parameters)
        wrong = rng.choice(options, min(len(options), int(rng.integers(1, 4))), replace=False)
        wrong = [str(option) for option in wrong]
        kinds = inspect.signature(one.function).parameters
        for option in wrong:
            absurd = rng.random() < 0.5
            kind = str(kinds[option].annotation)
            given[option] = pool[rng.integers(len(pool))] if absurd else plausible(kind, rng)
        given |= {"jobs": 1} if type(given.get("jobs")) is int else {}
        if rng.random() < 0.1 and given:
            given.pop(str(rng.choice(list(given))))
        if rng.random() < 0.1:
            given[str(rng.choice(options) if options else "x") + "s"] = 1
        if one.name in LONG and all(option in given for option in _needed(one)):
            given["nonsense"] = 1
        yield f"{one.name}({_written(given, wrong)})", _bound(one.function, given)


def _needed(one: Call) -> list[str]:
    parameters = inspect.signature(one.function).parameters.values()
    return [entry.name for entry in parameters if entry.default is entry.empty]


def _bound(function: Callable[..., Any], given: dict[str, Any]) -> Callable[[], Any]:
    return lambda: function(**given)


def _written(given: dict[str, Any], wrong: Any) -> str:
    said = []
    for option in given:
        text = ascii(given[option]) if not isinstance(given[option], int) else hex(given[option])
        said.append(f"{option}={text[:60]}" if option in wrong else option)
    return ", ".join(said)


def outcome(call: Callable[[], Any]) -> tuple[str | None, float]:
    """Return what a call raised if that is no error of our own, and its seconds."""
    began = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except AllianceDynError as error:
        text = str(error)
        bad = not text or "Traceback" in text or len(text) > 3000
        return (f"message of {len(text)} characters" if bad else None), time.perf_counter() - began
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}", time.perf_counter() - began
    return None, time.perf_counter() - began
