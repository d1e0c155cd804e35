"""From a panel to what a two-level dynamic model samples: arrays, shape, priors, units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names
from alliancedyn.engine.dsem import DsemData, DsemShape, Priors
from alliancedyn.engine.dsem_prior import Term, quantities, terms
from alliancedyn.engine.dsem_units import Units, within_units
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.models.dsem_paths import moderating, pair_of
from alliancedyn.models.dsem_scales import cuts_of, limits_of, refuse_scales, scale_flags
from alliancedyn.results import Observed

if TYPE_CHECKING:
    from alliancedyn.models.dsem import DSEM

Array = NDArray[np.float64]

FEWEST_SESSIONS = 3
FEWEST_FOR_SLOPES = 4  # of clients over sessions
FEW_SESSIONS = 5  # below it priors speak as loudly as data
FEW_THERAPISTS = 5

# What priors= can name: the field of `Priors`, the distribution, how many numbers.
PRIORS = {
    "mean": ("mean", "normal", 2),
    "trend": ("trend", "normal", 2),
    "phi": ("phi", "normal", 2),
    "same": ("same", "normal", 2),
    "predictor": ("effect", "normal", 2),
    "phi_sd": ("phi_sd", "half-normal", 1),
    "trend_sd": ("trend_sd", "half-normal", 1),
    "same_sd": ("same_sd", "half-normal", 1),
    "log_innovation_sd": ("log_innovation_sd", "half-normal", 1),
    "sd": ("sd", "half-normal", 1),
    "lkj": ("lkj", "lkj", 1),
    "degrees": ("degrees", "gamma", 2),
}


@dataclass(frozen=True)
class Task:
    """What is sampled.

    Parameters
    ----------
    data : DsemData
        On the scale of the priors.
    shape : DsemShape
    priors : Priors
    units : Units
        The way back to score points.
    limits : (k, 2), optional
        Floors and ceilings on the scale of the priors, NaN where no score is at one.
    cuts : (k,) tuple of int, optional
        Numbers of cuts of ordinal series, 0 of others.
    """

    data: DsemData
    shape: DsemShape
    priors: Priors
    units: Units
    limits: Array | None = None
    cuts: tuple[int, ...] | None = None


def task_of(spec: DSEM, data: Observed) -> Task:
    """Put scores on the scale of the priors."""
    raw = raw_data(spec, data)
    k, c = raw.k, raw.predictors.shape[1]
    m = raw.moderators.shape[2]
    units = Units(np.zeros(k), np.ones(k), np.ones(c), np.ones(m))
    if spec.scale == "within":
        center, unit = within_units(data.Y)
        spread = np.std(raw.moderators, axis=(0, 1)) if m else np.ones(0)
        units = Units(center, unit, np.std(raw.predictors, axis=0), spread)
    scaled = DsemData(
        Y=(raw.Y - units.center) / units.unit,
        course=raw.course,
        predictors=raw.predictors / units.predictor,
        therapist=raw.therapist,
        measurement_var=raw.measurement_var / units.unit**2,
        moderators=raw.moderators / units.moderator if m else raw.moderators,
    )
    limits = limits_of(spec, data)
    if limits is not None:  # as scores are, so that equal ones stay equal
        limits = (limits - units.center[:, None]) / units.unit[:, None]
    return Task(
        scaled,
        shape_of(spec, data.variables, data.sessions),
        priors_of(spec),
        units,
        limits,
        cuts_of(spec, data),
    )


def raw_terms(task: Task, labels: Sequence[str]) -> tuple[Term, ...]:
    """Return the priors in raw units, in the order of the parameters that were sampled."""
    shift, factor = task.units.of_parameters(task.shape, labels)
    known = (*terms(task.shape, task.priors), *_more_terms(task, labels))
    found = []
    for name, term, moved, times in zip(labels, known, shift, factor, strict=True):
        is_root = term.label != name  # an SD, of what is stored as a variance
        found.append(term.times(float(np.sqrt(times) if is_root else times), float(moved)))
    return tuple(found)


def _more_terms(task: Task, labels: Sequence[str]) -> list[Term]:
    """Return the priors of parameters that the shape does not have."""
    found = []
    for name in labels[len(task.shape.parameter_names()) :]:
        if name == "degrees":
            found.append(Term(name, "gamma", *task.priors.degrees))
        elif name.startswith("threshold["):
            found.append(_of_cut(task, name))
        else:
            label = name.replace("measurement_var", "measurement_sd")
            found.append(Term(label, "half-normal", 0.0, task.priors.sd))
    return found


def _of_cut(task: Task, name: str) -> Term:
    """Return the prior of a cut: of uniform ones between the outer two, in order."""
    _, (variable, number), _ = names.parse(name)
    j = task.shape.variables.index(variable)
    values = np.unique(task.data.Y[:, :, j][~np.isnan(task.data.Y[:, :, j])])
    first, last = values[:2].mean(), values[-2:].mean()
    place, inner = int(number) - 1, len(values) - 3
    return Term(name, "beta", float(first), float(last - first), shape=(place, inner + 1 - place))


def readable(task: Task, labels: Sequence[str], raw: Array) -> Array:
    """Return the quantities that have priors at raw draws (D, n), in the order of `raw_terms`."""
    n = len(task.shape.parameter_names())
    out = np.array(raw, float)
    out[:, :n] = quantities(task.shape, raw[:, :n])
    for j, name in enumerate(labels):
        if name.startswith("measurement_var["):
            out[:, j] = np.sqrt(raw[:, j])
    return out


def raw_data(spec: DSEM, data: Observed) -> DsemData:
    """Return the arrays in raw units, predictors centered."""
    known = spec.known_errors
    centers = predictor_means(spec, data)
    therapist = None
    if "therapist" in spec.levels:
        therapist = np.unique(data.therapist, return_inverse=True)[1].astype(np.int64)
    return DsemData(
        Y=data.Y,
        course=course_of(spec, data.sessions),
        predictors=data.covariates - np.array([centers[x] for x in spec.predictors]),
        therapist=therapist,
        measurement_var=np.array([float(known.get(v, 0.0)) for v in data.variables]),
        moderators=moderating(spec, data),
    )


def predictor_means(spec: DSEM, data: Observed) -> dict[str, float]:
    """Return where predictors are centered: as given, or at the mean over clients."""
    if spec.predictor_means is not None:
        return dict(spec.predictor_means)
    if not spec.predictors:
        return {}
    return dict(zip(spec.predictors, data.covariates.mean(axis=0).tolist(), strict=True))


def course_of(spec: DSEM, sessions: Sequence[int]) -> Array:
    """Return the known columns (T, m) of the common course, 0 at the first session."""
    if spec.trend == "linear":
        return (np.array(sessions, float) - sessions[0])[:, None]
    if spec.trend == "session":
        return np.eye(len(sessions))[:, 1:]
    return np.zeros((len(sessions), 0))


def shape_of(spec: DSEM, variables: tuple[str, ...], sessions: tuple[int, ...]) -> DsemShape:
    """Return which effects differ between clients."""
    course: tuple[str, ...] = ()
    if spec.trend == "linear":
        course = ("trend",)
    elif spec.trend == "session":
        course = tuple(f"@{session}" for session in sessions[1:])
    return DsemShape(
        variables=variables,
        sessions=sessions,
        course=course,
        predictors=spec.predictors,
        random_phi="phi" in spec.random,
        random_trend="trend" in spec.random,
        random_innovation="innovation" in spec.random,
        correlated=spec.random_correlation == "lkj",
        therapist="therapist" in spec.levels,
        random_same="same" in spec.random,
        lagged=None if spec.lagged is None else tuple(map(pair_of, spec.lagged)),
        same=tuple(map(pair_of, spec.same)),
        initial=spec.initial,
        moderators=spec.moderators,
    )


def priors_of(spec: DSEM) -> Priors:
    """Return the priors with those that were given in place of the defaults."""
    changes: dict[str, Any] = {}
    for family, given in (spec.priors or {}).items():
        where, _, count = PRIORS[family]
        numbers = tuple(float(x) for x in given[1:])
        changes[where] = numbers if count == 2 else numbers[0]
    return replace(Priors(), **changes)


def check_priors(priors: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse priors of families that do not exist, or of other distributions.

    Raises
    ------
    SpecificationError
        With what can be named.
    """
    unknown = [family for family in priors if family not in PRIORS]
    if unknown:
        raise SpecificationError(
            f"priors= has no {listed(unknown)}; it can name {listed(PRIORS, 9)}. SDs between "
            "clients, of innovations and of the first session share 'sd', correlations 'lkj'."
        )
    for family, given in priors.items():
        _, kind, count = PRIORS[family]
        numbers = given[1:] if isinstance(given, tuple | list) else ()
        good = len(numbers) == count and all(isinstance(x, int | float) for x in numbers)
        named = good and str(given[0]).replace("_", "-") in (kind, kind.replace("-", ""))
        positive = numbers[-1:] if kind == "normal" else numbers
        if not named or not all(0 < x < np.inf for x in positive):
            example = ", ".join([repr(kind), *["0.5"] * count])
            raise SpecificationError(
                f"priors[{family!r}] is {given!r}; write it as ({example}), with a scale above 0."
            )


def refuse_unsuitable(spec: DSEM, data: Observed) -> None:
    """Refuse data that cannot carry the model.

    Raises
    ------
    SpecificationError
        With the reason and the remedy.
    """
    T = len(data.sessions)
    if T < FEWEST_SESSIONS:
        raise SpecificationError(
            f"The DSEM needs {FEWEST_SESSIONS} or more sessions; these data have {T}. Widen "
            "sessions=(first, last)."
        )
    if "trend" in spec.random and T < FEWEST_FOR_SLOPES:
        raise SpecificationError(
            f"Slopes of clients need {FEWEST_FOR_SLOPES} or more sessions; these data have {T}. "
            'Leave "trend" out of random=, or widen sessions=(first, last).'
        )
    still = within_units(data.Y)[1] <= 1e-9 * np.nanstd(data.Y, axis=(0, 1))
    if still.any():
        named = [v for v, constant in zip(data.variables, still, strict=True) if constant]
        raise SpecificationError(
            f"{listed(named)} does not vary within any client, so there is no change to model. "
            "Leave it out with variables=(...), or check the export."
        )
    seen = ~np.isnan(data.Y)
    pairs = int((seen[:, 1:].any(axis=2) & seen[:, :-1].any(axis=2)).sum())
    if pairs == 0:
        raise SpecificationError(
            "No client has scores at two sessions in a row, so nothing is known of lagged effects. "
            "Check the session numbers."
        )
    if "therapist" in spec.levels:
        _refuse_therapists(data)
    refuse_scales(spec, data)
    moderating(spec, data)
    unknown = [v for v in spec.known_errors if v not in data.variables]
    if unknown:
        raise SpecificationError(
            f"measurement_var names {listed(unknown)}; the model has {listed(data.variables, 8)}."
        )


def _refuse_therapists(data: Observed) -> None:
    if unknown := int((data.therapist < 0).sum()):
        raise SpecificationError(
            f"{unknown} clients have no therapist. Give every client one, or use "
            'levels=("client",).'
        )
    counts = np.unique(data.therapist, return_counts=True)[1]
    if len(counts) < 2:
        raise SpecificationError(
            "All clients have the same therapist, so therapists cannot be told apart. Use "
            'levels=("client",).'
        )
    if counts.max() < 2:
        raise SpecificationError(
            "Every therapist has one client, so that differences between therapists cannot be told "
            'from differences between clients. Use levels=("client",).'
        )


def flags(spec: DSEM, data: Observed) -> list[str]:
    """Say what a reader should know about these data under this model."""
    said = []
    if (T := len(data.sessions)) < FEW_SESSIONS:
        said.append(
            f"{T} sessions: level and change of a client can hardly be told apart, and priors "
            "speak as loudly as the data. Compare other priors=."
        )
    if "therapist" in spec.levels:
        counts = np.unique(data.therapist, return_counts=True)[1]
        if len(counts) < FEW_THERAPISTS:
            said.append(
                f"{len(counts)} therapists: how much they differ is mostly what the prior says."
            )
    pairs = (~np.isnan(data.Y)).any(axis=2)
    alone = int((pairs.sum(axis=1) < 2).sum())
    if alone:
        said.append(f"{alone} clients have one session: they inform levels, not lagged effects.")
    return [*said, *scale_flags(spec, data)]
