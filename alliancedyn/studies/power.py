"""Would I find it? Power over clients, sessions and how they are seen, and how many are enough."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliancedyn.checking import checked, methods_checked, named
from alliancedyn.engine import names
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.replicate import Cluster, Progress
from alliancedyn.simulate import Dropout, Dynamics, Gaps, Groups, Items, Missing, Therapists
from alliancedyn.studies import smallest as counts
from alliancedyn.studies.recovery import (
    RecoveryStudy,
    Work,
    refuse_impossible,
    study_of,
)
from alliancedyn.studies.remaining import told_with_time_left
from alliancedyn.studies.targets import compared_with
from alliancedyn.studies.trial import Fittable, Trial, fit_verdicts
from alliancedyn.studies.verdicts import OPEN, true_verdicts
from alliancedyn.studies.world import World, seen_from

DIRECTION = "direction"
CONDITIONS = ["sessions", "dropout", "reliability", "therapists"]
POINTS = 60  # numbers of clients at which a fitted curve is given


@methods_checked
@named
@dataclass(frozen=True, eq=False, repr=False)
class PowerSurface:
    """Power over designs.

    Parameters
    ----------
    spec : specification
        The model that is fitted.
    truth : Dynamics
        The world.
    effect : str
        What is looked for: a parameter, or "direction".
    true : float or str
        Its true value; of "direction", the verdict that is right.
    table : DataFrame
        A row per design: ``clients``, ``sessions``, ``dropout``, ``reliability``,
        ``therapists``; ``power`` with ``mcse``, the share of all replications in which the effect
        was found, one that failed having found nothing; ``replications``, ``failed``, and
        ``at_bound``, the fits that converged with a parameter at a bound, which count.
    level : float
        Of the intervals that decide.
    seed : int
        Root of all random numbers.
    seconds : float
        Wall-clock time.
    """

    spec: Fittable
    truth: Dynamics
    effect: str
    true: float | str
    table: pd.DataFrame
    level: float
    seed: int
    seconds: float

    def smallest(self, power: float = 0.8, level: float = 0.95) -> pd.DataFrame:
        """Return the smallest number of clients for a power, by what else makes a design.

        A curve power(N) = Phi(a + b sqrt(N)), b >= 0, is fitted to the simulated powers.

        Parameters
        ----------
        power : float
            What is wanted.
        level : float
            Of the interval, which covers Monte Carlo error and nothing else.

        Returns
        -------
        DataFrame
            Index ``sessions``, ``dropout``, ``reliability``, ``therapists``; columns ``clients``
            (NaN where the powers simulated do not determine it), ``lower``, ``upper``, ``note``.

        Raises
        ------
        SpecificationError
            If power or level are no shares.
        """
        rows = [
            (key, one.clients, one.lower, one.upper, one.note)
            for key, _, one in self._fitted(power, level)
        ]
        index = pd.MultiIndex.from_tuples([row[0] for row in rows], names=CONDITIONS)
        columns = ["clients", "lower", "upper", "note"]
        return pd.DataFrame([row[1:] for row in rows], index=index, columns=columns)

    def curves(self) -> pd.DataFrame:
        """Return what a figure of power against clients needs.

        Returns
        -------
        DataFrame
            A row per design and number of clients: ``sessions``, ``dropout``, ``reliability``,
            ``therapists``, ``clients``, ``power`` on the fitted curve and, where it was
            simulated, ``simulated`` with ``mcse``; NaN elsewhere.
        """
        parts = []
        known = self.table["power"].mean()  # where the curves are best known
        middle = float(np.clip(known, 0.05, 0.95))
        for key, rows, one in self._fitted(middle, 0.95):
            simulated = rows.set_index("clients")[["power", "mcse"]]
            few, many = simulated.index.min(), simulated.index.max()
            between = np.linspace(np.sqrt(few), np.sqrt(many), POINTS) ** 2
            clients = np.union1d(np.round(between), simulated.index)
            part = pd.DataFrame(dict(zip(CONDITIONS, key, strict=True)), index=clients)
            fitted = counts.curve(clients, middle, one.clients, one.slope)
            part = part.assign(
                clients=clients,
                power=fitted,
                simulated=simulated["power"].reindex(clients),
                mcse=simulated["mcse"].reindex(clients),
            )
            parts.append(part.reset_index(drop=True))
        return pd.concat(parts, ignore_index=True)

    def _fitted(
        self, power: float, level: float
    ) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame, counts.Smallest]]:
        for name, value in (("power", power), ("level", level)):
            if not 0.0 < value < 1.0:
                raise SpecificationError(f"{name} must be between 0 and 1, not {value!r}.")
        for key, rows in self.table.groupby(CONDITIONS, sort=False, dropna=False):
            tried = rows["replications"].to_numpy(float)
            hits = np.round(rows["power"].to_numpy(float) * tried)
            found = counts.smallest(rows["clients"].to_numpy(float), hits, tried, power, level)
            yield tuple(key), rows, found

    def __str__(self) -> str:
        said = f"{self.true:g}" if isinstance(self.true, float) else repr(self.true)
        said = "something that the world does not state" if said == "nan" else said
        head = f"Power of the {self.spec.name} for {self.effect}, in truth {said}"
        wide = self.table.pivot_table("power", CONDITIONS, "clients", sort=False, dropna=False)
        enough = self.smallest()["clients"].rename("clients for .80")
        return f"{head}\n\n{wide.round(2).join(enough).to_string()}"

    def __repr__(self) -> str:
        return f"<PowerSurface {self.spec.name} · {self.effect} · {len(self.table)} designs>"


@dataclass(frozen=True)
class _Design:
    """One row of the surface."""

    trial: Trial
    seed: int
    labels: Mapping[str, Any] = field(default_factory=dict)


@checked
def power(
    spec: Fittable,
    truth: Dynamics | World,
    clients: int | Sequence[int] = (50, 100, 200),
    sessions: int | Sequence[int] = (6, 10, 16),
    *,
    dropout: Dropout | list[Dropout | None] | None = None,
    reliability: float | tuple[float, ...] | list[Any] | None = None,
    therapists: Therapists | list[Therapists | None] | None = None,
    missing: float | Missing | None = None,
    groups: Groups | None = None,
    gaps: Gaps | None = None,
    items: Mapping[str, Items] | None = None,
    ceiling: Mapping[str, float] | None = None,
    effect: str | None = None,
    basis: Literal["both", "reduced", "structural"] = "both",
    smallest_effect: float = 0.05,
    replications: int = 200,
    seed: int = 7,
    jobs: int = -1,
    cluster: Cluster | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    errors: str | None = None,
    level: float = 0.95,
    progress: Progress | None = None,
) -> PowerSurface:
    """Simulate the power to find an effect over clients, sessions and how they are seen.

    Every combination is a recovery study with a seed of its own, made from ``seed`` and the
    design, so that adding designs changes no others.

    Parameters
    ----------
    spec : specification
        The model that will be fitted.
    truth : Dynamics or World
        What is thought to be true.
    clients, sessions : int or sequence of int
        Numbers to try.
    dropout, reliability, therapists : value or list of values
        As in `simulate` and `Dynamics`; a list is a set of conditions to compare, in which None
        is none at all. A tuple of reliabilities has one for each series.
    missing, groups, gaps, items, ceiling
        As in `simulate`, the same in all designs.
    effect : str, optional
        A parameter, found where its interval excludes 0; or "direction", found where the verdict
        is the one that the truth itself gets. Default: the lagged effect of process on outcome.
    basis : "both", "reduced" or "structural"
        Of the verdict on direction.
    smallest_effect : float
        Smallest size that would matter to it, within-client SDs.
    replications : int
        Per design. 200 give a power near .8 up to a Monte Carlo error of .03.
    seed, jobs, cluster, errors, level, progress
        As in `recover`.
    checkpoint : path, optional
        A folder, which holds a file per design; see `recover`.

    Returns
    -------
    PowerSurface

    Raises
    ------
    SpecificationError
        If a design is impossible, the model has no such effect, or the truth has no lead.
    """
    asked = {"missing": missing, "groups": groups, "gaps": gaps, "items": items, "ceiling": ceiling}
    world, seen = seen_from(truth, asked)
    wanted = names.label("phi", world.outcome, world.process) if effect is None else effect
    conditions = {"dropout": dropout, "reliability": reliability, "therapists": therapists}
    _refuse_other(dropout, Dropout, "dropout")
    _refuse_other(therapists, Therapists, "therapists")
    designs = [
        _Design(Trial(spec, one, n, t, observation, errors, level, smallest_effect), own, labels)
        for n, t, one, observation, own, labels in _grid(
            world, seen, _numbers(clients), _numbers(sessions), conditions, seed
        )
    ]
    for design in designs:  # whatever is impossible is so before the first hour
        refuse_impossible(design.trial, design.seed)
    true = _refuse_unknown(designs[0], wanted, basis)
    folder = None if checkpoint is None else _folder(Path(checkpoint))
    told = told_with_time_left(progress)
    rows, seconds = [], 0.0
    for i, design in enumerate(designs):
        part = _Part(told, i * replications, len(designs) * replications)
        path = None if folder is None else folder / f"{_file_name(design)}.jsonl"
        work = Work(jobs, cluster, path, None if told is None else part)
        study = study_of(design.trial, replications, design.seed, work)
        seconds += study.seconds
        rows.append({**design.labels, **_counted(study, wanted, basis)})
    return PowerSurface(spec, world, wanted, true, pd.DataFrame(rows), level, seed, seconds)


def _folder(path: Path) -> Path:
    if path.exists() and not path.is_dir():
        raise SpecificationError(
            f"checkpoint={str(path)!r} is a file. Name a folder: power keeps a file per design."
        )
    path.mkdir(parents=True, exist_ok=True)
    return path


@dataclass(frozen=True)
class _Part:
    """The progress of one design as a part of the whole."""

    told: Progress | None
    before: int
    total: int

    def __call__(self, done: int, total: int, doing: str) -> None:
        if self.told is not None:
            self.told(self.before + done, self.total, doing)


def _grid(
    world: Dynamics,
    seen: Mapping[str, Any],
    clients: Sequence[int],
    sessions: Sequence[int],
    conditions: Mapping[str, Any],
    seed: int,
) -> Iterator[tuple[int, int, Dynamics, dict[str, Any], int, dict[str, Any]]]:
    """Yield the designs: clients change fastest."""
    lists = {name: _as_list(value) for name, value in conditions.items()}
    at = itertools.product(*(range(len(values)) for values in lists.values()))
    for places, t, n in itertools.product(list(at), sessions, clients):
        d, r, h = (values[i] for values, i in zip(lists.values(), places, strict=True))
        truth = world if r is None else replace(world, reliability=r)
        own = {"dropout": d, "therapists": h}
        # Alone, None leaves what the world brings along; in a list it is a condition: nobody.
        own = {k: v for k, v in own.items() if v is not None or isinstance(conditions[k], list)}
        observation = {k: v for k, v in {**seen, **own}.items() if v is not None}
        root = np.random.SeedSequence([seed, n, t, *places]).generate_state(2, np.uint64)
        labels = {
            "clients": n,
            "sessions": t,
            "dropout": _dropout_label(observation.get("dropout")),
            "reliability": _reliability_label(truth),
            "therapists": getattr(observation.get("therapists"), "n", 0),
        }
        yield n, t, truth, observation, int(root[0]), labels


def _refuse_other(value: Any, kind: type, name: str) -> None:
    if any(not (one is None or isinstance(one, kind)) for one in _as_list(value)):
        raise SpecificationError(
            f"{name}={value!r}: give a {kind.__name__}(...), or a list of such and of None."
        )


def _as_list(value: Any) -> list[Any]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise SpecificationError("A list of conditions is empty. Name one, or leave it out.")
    return values


def _numbers(given: int | Sequence[int]) -> list[int]:
    values = list(given) if isinstance(given, Sequence | np.ndarray) else [given]
    if not values or any(not isinstance(one, int | np.integer) or one < 1 for one in values):
        raise SpecificationError(
            f"clients and sessions must be whole numbers above 0, not {given!r}."
        )
    return [int(one) for one in dict.fromkeys(values)]


def _dropout_label(dropout: Dropout | None) -> str:
    return "none" if dropout is None else f"{dropout.rule} {dropout.rate:.0%}"


def _reliability_label(truth: Dynamics) -> str:
    values = np.asarray(truth.reliability, float)
    shown = values[:1] if (values == values[0]).all() else values
    return ", ".join(f"{value:g}" for value in shown)


def _file_name(design: _Design) -> str:
    return f"{design.trial.clients}x{design.trial.sessions}-{design.seed:016x}"


def _refuse_unknown(design: _Design, effect: str, basis: str) -> float | str:
    """Return what is true of the effect, or say that the model or the truth has no such thing."""
    trial = design.trial
    panel = trial.simulate(np.random.SeedSequence(design.seed))
    fit = trial.fit(panel, seed=0)
    if effect != DIRECTION:
        if effect not in fit.params.index:
            raise SpecificationError(
                f"The {trial.spec.name} has no parameter {effect!r}. It has "
                f"{listed(fit.params.index, 8)}; or look for 'direction'."
            )
        return compared_with(trial, {})(effect)
    bases = list(fit_verdicts(fit, trial.smallest_effect))
    if basis not in bases:
        raise SpecificationError(
            f"The {trial.spec.name} gives no verdict on direction on the basis {basis!r} here"
            f"{'; it does on ' + listed(bases) if bases else ''}."
        )
    own = true_verdicts(trial.truth, trial.smallest_effect, bases)
    lead = own[basis].lead
    if lead in OPEN:
        said = ", ".join(f"{name}: {one.lead}" for name, one in own.items() if name != "both")
        raise SpecificationError(
            f"The truth itself has no lead that could be found ({said}). Choose one with basis=."
        )
    return lead


def _counted(study: RecoveryStudy, effect: str, basis: str) -> dict[str, float | int]:
    """Count the replications in which the effect was found."""
    if effect == DIRECTION:
        bases = next((list(one.verdicts) for one in study.found), [])
        right = true_verdicts(study.truth, study.smallest_effect, bases)
        hits = sum(one.verdicts[basis].lead == right[basis].lead for one in study.found)
    elif effect in study.estimates:
        hits = int(((study.lower[effect] > 0.0) | (study.upper[effect] < 0.0)).sum())
    else:
        hits = 0
    share = hits / study.replications
    return {
        "power": share,
        "mcse": float(np.sqrt(share * (1.0 - share) / study.replications)),
        "replications": study.replications,
        "failed": sum(study.failures.values()),
        "at_bound": sum(bool(one.at_bound) for one in study.found),
    }
