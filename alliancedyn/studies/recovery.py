"""Does a model find what was put in? Simulate from a known world, fit, compare, many times over."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.engine import names
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.replicate import Cluster, Failure, Progress, replicate
from alliancedyn.simulate import (
    Dropout,
    Dynamics,
    Episodes,
    Gaps,
    Groups,
    Items,
    Missing,
    Therapists,
)
from alliancedyn.studies.ademp import summary
from alliancedyn.studies.causes import cause
from alliancedyn.studies.checkpoint import Checkpoint, identity
from alliancedyn.studies.performance import performance
from alliancedyn.studies.remaining import told_with_time_left
from alliancedyn.studies.targets import compared_with
from alliancedyn.studies.trial import NOT_CONVERGED, Fittable, Found, Trial
from alliancedyn.studies.verdicts import confusion
from alliancedyn.studies.world import World, seen_from

__all__ = ["NOT_CONVERGED", "RecoveryStudy", "recover"]

Array = NDArray[np.float64]

CLIENTS, SESSIONS = 200, 12  # where neither the caller nor the world says how many

MEASURES = (
    *("true", "mean", "bias", "rmse", "empirical_se", "model_se", "coverage", "power"),
    *("mcse_bias", "mcse_rmse", "mcse_empirical_se", "mcse_model_se"),
    *("mcse_coverage", "mcse_power", "n", "intervals"),
)


@dataclass(frozen=True, eq=False, repr=False)
class RecoveryStudy:
    """What became of every replication.

    Parameters
    ----------
    spec : specification
        The model that was fitted.
    truth : Dynamics
        The world it was fitted to.
    clients, sessions : int
        Of each panel.
    replications : int
        How many panels were simulated, failures included.
    seed : int
        Root of all random numbers.
    target : Series
        What the estimates are compared with, by name; NaN = nothing.
    estimates, errors : DataFrame
        Estimates and standard errors, one row per converged fit (index ``replication``, from 0),
        one column per parameter.
    failures : dict
        Reason -> number of replications without estimates; numbers in a reason appear as ``#``,
        names of parameters as "some parameters".
    boundaries : dict
        Parameter -> number of converged fits in which it is at a bound. Their estimates count.
    seconds : float
        Wall-clock time of the whole study.
    level : float
        Of the intervals.
    observation : dict
        How the world was seen: arguments of `simulate` by name.
    smallest_effect : float
        Smallest size that would matter to a verdict on direction, within-client SDs.
    found : tuple of Found
        What every converged fit said, in the order of the estimates.
    """

    spec: Fittable
    truth: Dynamics
    clients: int
    sessions: int
    replications: int
    seed: int
    target: pd.Series
    estimates: pd.DataFrame
    errors: pd.DataFrame
    failures: dict[str, int]
    boundaries: dict[str, int]
    seconds: float
    level: float
    observation: dict[str, Any]
    smallest_effect: float
    found: tuple[Found, ...]

    @cached_property
    def lower(self) -> pd.DataFrame:
        """Lower ends of the intervals, like ``estimates``."""
        return self._frame("lower")

    @cached_property
    def upper(self) -> pd.DataFrame:
        """Upper ends of the intervals, like ``estimates``."""
        return self._frame("upper")

    def _frame(self, what: str) -> pd.DataFrame:
        rows = dict(zip(self.estimates.index, self.found, strict=True))
        return _frame(rows, self.estimates.columns, what)

    def table(self) -> pd.DataFrame:
        """Return how well each parameter was recovered.

        Returns
        -------
        DataFrame
            Index ``parameter``; columns ``true``, ``mean``, ``bias``, ``rmse``,
            ``empirical_se`` (SD of the estimates), ``model_se`` (what the standard errors say it
            is), ``coverage``, ``power`` (share of intervals without 0; NaN for variances and SDs,
            which cannot be negative), ``mcse_...``, their Monte Carlo errors, ``n`` converged fits
            and ``intervals``, those with an interval. Where the truth has no such parameter,
            ``true`` and all that is compared with it are NaN.
        """
        found = performance(
            self.estimates.to_numpy(float),
            self.errors.to_numpy(float),
            self.target.to_numpy(float),
            self.level,
            (self.lower.to_numpy(float), self.upper.to_numpy(float)),
        )
        index = pd.Index(self.estimates.columns, name="parameter")
        table = pd.DataFrame(found, index=index)[list(MEASURES)]
        table.loc[[_is_variance(name) for name in index], ["power", "mcse_power"]] = np.nan
        return table.astype({"n": int, "intervals": int})

    def departures(
        self,
        parameters: Sequence[str] | None = None,
        *,
        bias: float = 4.0,
        coverage: float = 3.0,
    ) -> pd.DataFrame:
        """Return the parameters that are not recovered, up to Monte Carlo error.

        Parameters
        ----------
        parameters : sequence of str, optional
            Names to look at; default: all with a known truth.
        bias : float
            Monte Carlo errors that the mean may be off.
        coverage : float
            Monte Carlo errors that coverage may be off its level L, taken under the hypothesis
            that it is L: sqrt(L (1 - L) / intervals).

        Returns
        -------
        DataFrame
            Index ``parameter``; columns ``true``, ``bias``, ``coverage``, and ``bias_z`` and
            ``coverage_z``, the same in Monte Carlo errors. Empty = all recovered.
        """
        table = self.table()
        chosen = list(table.index[table["true"].notna()] if parameters is None else parameters)
        unknown = [name for name in chosen if name not in table.index]
        if unknown:
            raise SpecificationError(
                f"The study has no parameter {listed(unknown)}. It has {listed(table.index, 8)}."
            )
        table = table.loc[chosen]
        nominal = np.sqrt(self.level * (1.0 - self.level) / table["intervals"].clip(lower=1))
        table["bias_z"] = table["bias"] / table["mcse_bias"]
        table["coverage_z"] = (table["coverage"] - self.level) / nominal
        # Written so that NaN, a parameter never estimated, counts as not recovered.
        recovered = (table["bias_z"].abs() <= bias) & (table["coverage_z"].abs() <= coverage)
        return table.loc[~recovered, ["true", "bias", "coverage", "bias_z", "coverage_z"]]

    def directions(self) -> pd.DataFrame:
        """Count the verdicts on direction against the one that the truth itself would get.

        Returns
        -------
        DataFrame
            Index ``basis`` ("both", "reduced", "structural", as far as the model has them);
            columns ``truth`` (the right verdict), the share of converged fits with each verdict,
            ``right``, ``wrong`` (another verdict that claims something), ``mcse_...`` of each,
            and ``n``. Rows of several studies, put below each other, are a confusion matrix.

        Raises
        ------
        SpecificationError
            If the model has no two directions.
        """
        table = confusion(self.found, self.truth, self.smallest_effect)
        if table.empty and len(self.found):
            raise SpecificationError(
                f"The {self.spec.name} gives no verdict on direction here: that takes lagged "
                'effects both ways. For a regression, set direction="both".'
            )
        return table

    def summary(self) -> str:
        """Return the study in words: aims, data, estimands, methods, performance."""
        return summary(self)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return (
            f"<RecoveryStudy {self.spec.name} · {self.clients} clients x {self.sessions} sessions "
            f"· {self.replications} replications, {sum(self.failures.values())} failed · "
            f"seed {self.seed}>"
        )


@checked
def recover(
    spec: Fittable,
    truth: Dynamics | World,
    clients: int | None = None,
    sessions: int | None = None,
    *,
    replications: int = 500,
    seed: int = 7,
    jobs: int = -1,
    cluster: Cluster | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    dropout: Dropout | None = None,
    missing: float | Missing | None = None,
    therapists: Therapists | None = None,
    groups: Groups | None = None,
    gaps: Gaps | None = None,
    episodes: Episodes | None = None,
    items: Mapping[str, Items] | None = None,
    ceiling: Mapping[str, float] | None = None,
    start: Any = None,
    errors: str | None = None,
    target: Mapping[str, float] | pd.Series | None = None,
    level: float = 0.95,
    smallest_effect: float = 0.05,
    progress: Progress | None = None,
) -> RecoveryStudy:
    """Simulate many panels from a known world, fit a model to each, and compare.

    Parameters
    ----------
    spec : specification
        A model, right or wrong for this world. Parameters that mean something else in it than in
        the truth have no true value: of a regression only the lagged effects have one; where
        stable parts push at every session (ALT, GCLM, ML-SEM, latent change), also innovations
        and means.
    truth : Dynamics or World
        The world. A `World` brings along how it is seen; what is given here goes before that.
    clients, sessions : int, optional
        Of each panel; by default those of the world, 200 and 12 where it says nothing.
    replications : int
        How many panels.
    seed : int
        Root of all random numbers. Results depend neither on ``jobs`` nor on ``cluster``.
    jobs : int
        Processes; -1 = one per processor. Not used with a cluster.
    cluster : distributed.Client or str, optional
        A Dask cluster, or the address of its scheduler, such as "tcp://...:8786".
    checkpoint : path, optional
        A file that keeps every replication as it ends. A study that was interrupted goes on
        from there, a longer one takes over what a shorter one found.
    dropout, missing, therapists, groups, gaps, episodes, items, ceiling, start
        How the world is seen, as in `simulate`.
    errors : str, optional
        Standard errors, as in ``spec.fit``; by default those that are usual for the model.
    target : mapping name -> value or Series, optional
        What estimates are compared with, where that is not the truth: for a model that is wrong,
        its `pseudo_true` values. Names that are left out are compared with the truth.
    level : float
        Of the intervals.
    smallest_effect : float
        Smallest size that would matter to a verdict on direction, within-client SDs.
    progress : callable, optional
        Called as ``progress(done, total, doing)``; ``doing`` says how long it will take.

    Returns
    -------
    RecoveryStudy
        Failed replications counted by reason, never replaced by others.

    Raises
    ------
    SpecificationError
        If an argument is impossible, or the checkpoint belongs to another study.
    DataError
        If the checkpoint is damaged.

    References
    ----------
    Morris, T. P., White, I. R., & Crowther, M. J. (2019). Using simulation studies to evaluate
    statistical methods. Statistics in Medicine, 38, 2074-2102.
    """
    given = {
        **{"dropout": dropout, "missing": missing, "therapists": therapists, "groups": groups},
        **{"gaps": gaps, "episodes": episodes, "items": items, "ceiling": ceiling, "start": start},
    }
    clients = getattr(truth, "clients", CLIENTS) if clients is None else clients
    sessions = getattr(truth, "sessions", SESSIONS) if sessions is None else sessions
    truth, observation = seen_from(truth, given)
    trial = Trial(spec, truth, clients, sessions, observation, errors, level, smallest_effect)
    wanted = {} if target is None else pd.Series(target, dtype=float).to_dict()
    refuse_impossible(trial, seed)
    if wanted:
        _refuse_unknown(wanted, trial, seed)
    work = Work(jobs, cluster, checkpoint, told_with_time_left(progress))
    return study_of(trial, replications, seed, work, wanted)


@dataclass(frozen=True)
class Work:
    """Where and how a study is computed; no number depends on it.

    Parameters
    ----------
    jobs : int
        Processes; -1 = one per processor.
    cluster : distributed.Client or str, optional
        A Dask cluster instead.
    checkpoint : path, optional
        File that keeps every replication.
    progress : callable, optional
        Who is told.
    """

    jobs: int = -1
    cluster: Cluster | None = None
    checkpoint: str | os.PathLike[str] | None = None
    progress: Progress | None = None


def study_of(
    trial: Trial,
    replications: int,
    seed: int,
    work: Work,
    target: Mapping[str, float] | None = None,
) -> RecoveryStudy:
    """Run a trial many times and put what was found together; see `recover`."""
    began = time.perf_counter()
    path = work.checkpoint
    outcomes = replicate(
        trial,
        replications,
        seed,
        work.jobs,
        work.progress,
        f"{trial.spec.name}, {trial.clients} clients x {trial.sessions} sessions",
        cluster=work.cluster,
        keeper=None if path is None else Checkpoint(path, identity(trial, seed)),
    )
    return _collected(trial, outcomes, seed, target or {}, time.perf_counter() - began)


def _collected(
    trial: Trial,
    outcomes: Sequence[Found | Failure],
    seed: int,
    wanted: Mapping[str, float],
    seconds: float,
) -> RecoveryStudy:
    """Put the outcomes of all replications together."""
    found = {r: one for r, one in enumerate(outcomes) if isinstance(one, Found)}
    # A last session that nobody attended has no mean in that replication.
    columns = max((list(one.names) for one in found.values()), key=len, default=[])
    compared = compared_with(trial, wanted)
    return RecoveryStudy(
        spec=trial.spec,
        truth=trial.truth,
        clients=trial.clients,
        sessions=trial.sessions,
        replications=len(outcomes),
        seed=seed,
        target=pd.Series({name: compared(name) for name in columns}, dtype=float),
        estimates=_frame(found, columns, "estimates"),
        errors=_frame(found, columns, "errors"),
        failures=_counted(cause(one) for one in outcomes if isinstance(one, Failure)),
        boundaries=_counted(name for one in found.values() for name in set(one.at_bound)),
        seconds=seconds,
        level=trial.level,
        observation=dict(trial.observation),
        smallest_effect=trial.smallest_effect,
        found=tuple(found.values()),
    )


def _frame(found: Mapping[int, Found], columns: Sequence[str], what: str) -> pd.DataFrame:
    """Collect one vector of every converged fit, a row per fit."""
    index = pd.Index(list(found), name="replication", dtype=int)
    place = {name: j for j, name in enumerate(columns)}
    values = np.full((len(found), len(columns)), np.nan)
    for row, one in enumerate(found.values()):
        values[row, [place[name] for name in one.names]] = getattr(one, what)
    return pd.DataFrame(values, index=index, columns=columns)


def refuse_impossible(trial: Trial, seed: int) -> None:
    """Refuse a world or a way of seeing it that no draw can make possible, before the first one."""
    (first,) = replicate(trial.simulate, 1, seed)
    if isinstance(first, Failure) and first.error == SpecificationError.__name__:
        raise SpecificationError(first.reason)


def _refuse_unknown(target: Mapping[str, float], trial: Trial, seed: int) -> None:
    """Refuse names that the first replication does not estimate, before the others are run."""
    (first,) = replicate(trial, 1, seed)
    known = first.names if isinstance(first, Found) else tuple(target)
    unknown = [name for name in target if name not in known]
    if unknown:
        raise SpecificationError(
            f"target names {listed(unknown)}, which the model does not estimate. It estimates "
            f"{listed(known, 8)}."
        )


def _counted(values: Any) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _is_variance(name: str) -> bool:
    """Tell whether a parameter is a variance or SD, of which 0 is the smallest possible value."""
    family, indices, _ = names.parse(name)
    return family.endswith(("var", "_sd")) or ("cov" in family and len(set(indices)) == 1)
