"""What estimates are compared with: the truth, as far as it has the same parameters.

A model sees more, or less, than the world's own constants: therapists and groups that it does not
know are stable differences between clients to it; a covariate that it knows is none. What a model
calls by the name of a parameter is worked out here from what it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import continuous, names
from alliancedyn.errors import SpecificationError
from alliancedyn.models import ALT, GCLM, MLSEM, ContinuousTime, LatentChange, Regression
from alliancedyn.simulate import Dynamics, Items, system
from alliancedyn.simulate.course import in_continuous_time
from alliancedyn.studies.trial import Trial

Array = NDArray[np.float64]

# Stable parts that push at every session are no random intercepts, and what is called between_cov
# and initial_cov there is not what the truth calls so. These families mean the same:
_PUSHED = (ALT, GCLM, LatentChange, MLSEM)
_SAME_WHERE_PUSHED = ("phi", "phi2", "self", "coupling", "innovation_cov", "mean")
_SAME_IN_REGRESSIONS = ("phi",)
_BY_THERAPIST = ("therapist", "client")


def compared_with(trial: Trial, wanted: Mapping[str, float]) -> Callable[[str], float]:
    """Return the function from a parameter's name to what its estimates are compared with.

    Parameters
    ----------
    trial : Trial
    wanted : mapping of str to float
        Values that go before those of the truth.
    """
    values = _true_values(trial)
    same: tuple[str, ...] | None = None
    if isinstance(trial.spec, Regression):
        same = _SAME_IN_REGRESSIONS
    elif isinstance(trial.spec, _PUSHED):
        same = _SAME_WHERE_PUSHED
    if same is not None:
        values = {name: value for name, value in values.items() if names.parse(name)[0] in same}
    return lambda name: _look_up(values | dict(wanted), name)


def _true_values(trial: Trial) -> dict[str, float]:
    """Return what the model would find in an endless panel, were it right, by name."""
    truth, levels = _without_known(trial), _levels(trial)
    truth = replace(truth, between_cov=np.asarray(truth.between_cov) + levels["between_cov"])
    truth = _rescaled(truth, _scale(trial))
    values = {str(name): float(value) for name, value in truth.params(trial.sessions).items()}
    values = _absent(truth) | _first_two(truth) | values
    start = trial.observation.get("start")
    if start is not None and not isinstance(start, str):
        values |= _covariance("initial_cov", np.asarray(start, float), truth)
    if "therapist_cov" in levels:
        values |= _covariance("therapist_cov", levels["therapist_cov"], truth)
    values |= _continuous(trial, truth) | _known_effects(trial)
    return _by_arm(trial, _measured(trial, _phases(trial, _moderated(trial, values))))


def _absent(truth: Dynamics) -> dict[str, float]:
    """Return what is zero in a world without it, by the names of models that look for it."""
    series = tuple(truth.variables)
    factors = [factor for name in series for factor in (name, f"{name}.trend")]
    values = {
        name: 0.0
        for name in names.symmetric_labels("between_cov", factors)
        if any(index.endswith(".trend") for index in names.parse(name)[1])
    }
    for family in ("phi2", "phi_sd"):
        values |= dict.fromkeys(names.matrix_labels(family, series, series), 0.0)
    for family in ("measurement_var", "log_innovation_sd"):
        values |= {names.label(family, name): 0.0 for name in series}
    if truth.trend is None:
        for name, mean in zip(series, np.asarray(truth.mean).tolist(), strict=True):
            values |= {names.label("intercept", name): mean, names.label("trend", name): 0.0}
    for i, target in enumerate(series):  # latent change: w_t - w_t-1 = self w_t-1 + coupling ...
        for j, source in enumerate(series):
            label = names.label("self", target)
            label = label if i == j else names.label("coupling", target, source)
            values[label] = float(truth.phi[i, j]) - (i == j)
    return values


def _first_two(truth: Dynamics) -> dict[str, float]:
    """Return the covariance of the first two sessions' deviations, as models of order 2 have it."""
    k, series = len(truth.variables), tuple(truth.variables)
    A, settled = system.stationary(truth)
    W, lagged = settled[:k, :k], (settled @ A.T)[:k, :k]
    both = np.block([[W, lagged], [lagged.T, W]])
    labels = names.symmetric_labels("initial_cov", [*series, *(f"{name}.next" for name in series)])
    return dict(zip(labels, both[np.triu_indices(2 * k)].tolist(), strict=True))


def _scale(trial: Trial) -> Array:
    """Return points of what the model sees per point of each series, (k,).

    Of a series measured by items that is the loading of the model's first indicator, or the mean
    loading where the panel holds the mean of the items.
    """
    scale = np.ones(len(trial.truth.variables))
    for j, (_, items, shown) in enumerate(_indicators(trial)):
        if items is not None and items.keep == "mean":
            scale[j] = np.mean(items.loading)
        elif items is not None and shown:
            scale[j] = np.atleast_1d(items.loading)[items.names.index(shown[0])]
    return scale


def _indicators(trial: Trial) -> list[tuple[str, Items | None, tuple[str, ...]]]:
    """Return each series, the items that measure it, and which of them are its indicators."""
    asked = getattr(trial.spec, "indicators", None) or {}
    given = trial.observation.get("items") or {}
    found = []
    for name in trial.truth.variables:
        items = given.get(name)
        shown = [] if items is None else [x for x in asked.get(name, ()) if x in items.names]
        found.append((name, items, tuple(shown)))
    return found


def _rescaled(truth: Dynamics, scale: Array) -> Dynamics:
    """Return the world in which a point of series j is ``scale[j]`` points."""
    if (scale == 1.0).all() or (scale == 0.0).any():
        return truth
    twice, ratio = np.outer(scale, scale), scale[:, None] / scale
    changes: dict[str, Any] = {
        "phi": truth.phi * ratio,
        "innovation_cov": truth.innovation_cov * twice,
        "between_cov": np.asarray(truth.between_cov) * twice,
        "mean": np.asarray(truth.mean) * scale,
    }
    if truth.phi2 is not None:
        changes["phi2"] = truth.phi2 * ratio
    if truth.phi_sd is not None:
        changes["phi_sd"] = truth.phi_sd * np.abs(ratio)
    return replace(truth, **changes)


def _measured(trial: Trial, values: dict[str, float]) -> dict[str, float]:
    """Give loadings and error variances; answers in steps, or cut off, have no such parameters."""
    for name, items, shown in _indicators(trial):
        if items is None:
            continue
        loading = dict(zip(items.names, np.atleast_1d(items.loading).tolist(), strict=True))
        error = dict(zip(items.names, np.atleast_1d(items.error_var).tolist(), strict=True))
        exact = items.step is None and bool(np.isinf(items.bounds).all())
        for one in shown if exact else ():
            values[names.label("loading", one)] = loading[one] / loading[shown[0]]
            values[names.label("measurement_var", one)] = error[one]
        where = names.label("mean", name)
        for label in [label for label in values if label.partition("@")[0] == where]:
            if shown or items.keep == "items":
                values[label] = np.nan  # of an indicator, at what the model fixes
            else:
                values[label] += float(np.mean(items.intercept))
    return values


def _levels(trial: Trial) -> dict[str, Array]:
    """Return what therapists, sites and groups add to stable differences, by what it is called."""
    k = len(trial.truth.variables)
    therapist, group = np.zeros((2, k, k))
    for part, where in (("therapists", therapist), ("groups", group)):
        given = trial.observation.get(part)
        for cov in (getattr(given, "cov", None), getattr(given, "site_cov", None)):
            if cov is not None:
                where += np.asarray(cov)
    if tuple(getattr(trial.spec, "levels", ())) == _BY_THERAPIST:
        return {"between_cov": group, "therapist_cov": therapist}
    return {"between_cov": therapist + group}


def _without_known(trial: Trial) -> Dynamics:
    """Return the truth of a client in whom the covariates that the model knows are zero.

    Predictors of DSEM are centered, and leave the average client where it is.
    """
    truth, mean = trial.truth, np.array(trial.truth.mean)
    known = (*getattr(trial.spec, "covariates", ()), *_predictors(trial))
    known += ("arm",) if getattr(trial.spec, "group", None) == "arm" else ()
    trend = truth.trend
    for one in truth.covariates:
        if one.name not in known or one.level != "client" or one.name in _predictors(trial):
            continue
        if one.on_level is not None:
            mean -= one.mean * np.array(one.on_level)
        if one.on_trend is not None and trend is not None and trend.slope is not None:
            slope = np.array(trend.slope) - one.mean * np.array(one.on_trend)
            trend = replace(trend, slope=tuple(slope.tolist()))
    kept = tuple(
        one if one.name not in known or one.level != "client" else replace(one, on_level=None)
        for one in truth.covariates
    )
    kept = tuple(replace(one, on_trend=None) if one.name in known else one for one in kept)
    return replace(truth, mean=mean, trend=trend, covariates=kept)


def _predictors(trial: Trial) -> tuple[str, ...]:
    return tuple(getattr(trial.spec, "predictors", ()))


def _known_effects(trial: Trial) -> dict[str, float]:
    """Return the effects of the covariates, moderators and predictors that the model knows."""
    values: dict[str, float] = {}
    series, spec = tuple(trial.truth.variables), trial.spec
    for one in trial.truth.covariates:
        for family, known, slope in (
            ("between", getattr(spec, "covariates", ()), ".trend"),
            ("predictor", _predictors(trial), None),
        ):
            if one.name not in known or one.level != "client":
                continue
            levels = np.zeros(len(series)) if one.on_level is None else one.on_level
            for s, x in zip(series, levels, strict=True):
                values[names.label(family, s, one.name)] = float(x)
            if slope:
                trends = np.zeros(len(series)) if one.on_trend is None else one.on_trend
                for s, x in zip(series, trends, strict=True):
                    values[names.label(family, f"{s}{slope}", one.name)] = float(x)
        changes = {(target, source): size for target, source, size in one.on_phi}
        for target in series:
            for source in series:
                size = changes.get((target, source), 0.0)
                if one.name in getattr(spec, "moderators", ()):
                    values[names.label("moderation", target, source, one.name)] = size
                if one.name in _predictors(trial):
                    values[names.label("predictor", f"{target}<-{source}", one.name)] = size
    return values


def _moderated(trial: Trial, values: dict[str, float]) -> dict[str, float]:
    """Give lagged effects where the moderators that the model knows are zero.

    Those that change over sessions are centered, and leave the average session where it is.
    """
    for one in trial.truth.covariates:
        if one.name in getattr(trial.spec, "moderators", ()) and one.level == "client":
            for target, source, size in one.on_phi:
                values[names.label("phi", target, source)] -= one.mean * size
    return values


def _by_arm(trial: Trial, values: dict[str, float]) -> dict[str, float]:
    """Give each arm its own figures, where the model has parameters by arm.

    ``values`` are those of arm 0, lagged effects those of the average client; see `_without_known`.
    """
    arms = [one for one in trial.truth.covariates if one.name == "arm"]
    if getattr(trial.spec, "group", None) != "arm" or not arms:
        return values
    (arm,), series = arms, tuple(trial.truth.variables)
    nothing = (0.0,) * len(series)
    level = dict(zip(series, arm.on_level or nothing, strict=True))
    slope = dict(zip(series, arm.on_trend or nothing, strict=True))
    lag = {names.label("phi", target, source): size for target, source, size in arm.on_phi}
    trend = trial.truth.trend
    course = None if trend is None or arm.on_trend is None else trend.basis(trial.sessions)
    for name, value in list(values.items()):
        family, indices, session = names.parse(name)
        more = lag.get(name.partition("@")[0], 0.0)
        value -= arm.share * more
        if family in ("mean", "intercept"):
            more = level.get(indices[0], 0.0)
            if course is not None and session is not None:
                more += slope[indices[0]] * course[session - 1]
        elif family == "trend":
            more = slope[indices[0]]
        values |= {f"{name}|arm=0": value, f"{name}|arm=1": value + more}
    return values


def _phases(trial: Trial, values: dict[str, float]) -> dict[str, float]:
    """Give lagged effects that change by session; one value for all sessions has no truth then.

    A model with a step at the session of the only phase has the lags before it and the change.
    """
    phases = sorted(trial.truth.phases, key=lambda one: one.first)
    step = len(phases) == 1 and getattr(trial.spec, "step", None) == phases[0].first
    moved = {path[:2] for phase in phases for path in phase.on_phi}
    if step:  # the model lets all cross-lags change
        series = tuple(trial.truth.variables)
        moved |= {(target, source) for target in series for source in series if target != source}
    for target, source in sorted(moved):
        name = names.label("phi", target, source)
        for t in range(2, trial.sessions + 1):
            changes = [
                size
                for phase in phases
                if phase.first <= t
                for to, by, size in phase.on_phi
                if (to, by) == (target, source)
            ]
            values[f"{name}@{t}"] = values[name] + sum(changes)
            if step and t == phases[0].first:
                values[names.label("step", target, source, session=t)] = sum(changes)
        if not step:
            values[name] = np.nan
    return values


def _continuous(trial: Trial, truth: Dynamics) -> dict[str, float]:
    """Return drift and diffusion per unit of time, for models of a process in continuous time."""
    spec = trial.spec
    if not isinstance(spec, ContinuousTime):
        return {}
    if truth.phi2 is not None or truth.confounder is not None:
        return {}
    try:
        drift, diffusion = in_continuous_time(truth)
    except SpecificationError:
        return {}
    unit = spec.time_unit / 7.0 if spec.time == "days" else 1.0  # a world's own unit is a week
    phi, psi = continuous.discretise(drift, diffusion, np.array([unit]))
    series = tuple(truth.variables)
    values: dict[str, float] = {}
    for family, matrix in (("drift", unit * drift), ("phi", phi[0])):
        labels = names.matrix_labels(family, series, series)
        values |= dict(zip(labels, matrix.ravel().tolist(), strict=True))
    values |= _covariance("diffusion_cov", unit * diffusion, truth)
    return values | _covariance("innovation_cov", psi[0], truth)


def _covariance(family: str, matrix: Array, truth: Dynamics) -> dict[str, float]:
    labels = names.symmetric_labels(family, tuple(truth.variables))
    upper = matrix[np.triu_indices(len(truth.variables))]
    return dict(zip(labels, upper.tolist(), strict=True))


def _look_up(values: Mapping[str, Any], name: str) -> float:
    """Find a parameter's value; one session's is that of all where the world does not change.

    A group's is that of all clients where the world has no such groups.
    """
    alone, _, group = name.partition("|")
    always = alone.partition("@")[0]
    for one in (name, f"{always}|{group}", alone, always):
        if one in values:
            return float(values[one])
    return np.nan
