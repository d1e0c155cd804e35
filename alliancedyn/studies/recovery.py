"""Does a model find what was put in? Simulate from a known world, fit, compare, many times over."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.engine import names
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.panel import SessionPanel
from alliancedyn.replicate import Failure, Progress, replicate
from alliancedyn.simulate import Dropout, Dynamics, Gaps, Therapists, simulate
from alliancedyn.studies.performance import performance
from alliancedyn.studies.population import Specification

Array = NDArray[np.float64]

MEASURES = (
    *("true", "mean", "bias", "rmse", "empirical_se", "model_se", "coverage", "power"),
    *("mcse_bias", "mcse_rmse", "mcse_empirical_se", "mcse_model_se"),
    *("mcse_coverage", "mcse_power", "n", "intervals"),
)
NOT_CONVERGED = "Not converged"
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class _Found:
    """What one fit says, small enough to travel between processes."""

    names: tuple[str, ...]
    estimates: Array
    errors: Array
    at_bound: tuple[str, ...]


@dataclass(frozen=True)
class _Trial:
    """One replication: a panel is simulated and the model fitted to it."""

    spec: Specification
    truth: Dynamics
    clients: int
    sessions: int
    observation: Mapping[str, Any]
    errors: str | None

    def simulate(self, seed: np.random.SeedSequence) -> SessionPanel:
        return simulate(self.truth, self.clients, self.sessions, seed=seed, **self.observation)

    def __call__(self, seed: np.random.SeedSequence) -> _Found | Failure:
        panel = self.simulate(seed)
        own = int(seed.generate_state(1)[0])  # for further starting values, should there be any
        errors = {} if self.errors is None else {"errors": self.errors}
        fit = self.spec.fit(panel, seed=own, strict=False, **errors)
        if not fit.converged:
            return Failure(NOT_CONVERGED, str(fit.diagnostics.get("failure", "")))
        bounds = [
            name
            for sentence in fit.diagnostics["boundary"]
            for name in sentence.partition(": ")[0].split(", ")
        ]
        return _Found(
            names=tuple(str(name) for name in fit.params.index),
            estimates=fit.params.to_numpy(float),
            errors=fit.se.to_numpy(float),
            at_bound=tuple(bounds),
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
        Reason -> number of replications without estimates; numbers in a reason appear as ``#``.
    boundaries : dict
        Parameter -> number of converged fits in which it is at a bound. Their estimates count.
    seconds : float
        Wall-clock time of the whole study.
    level : float
        Of the intervals.
    """

    spec: Specification
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

    def table(self) -> pd.DataFrame:
        """Return how well each parameter was recovered.

        Returns
        -------
        DataFrame
            Index ``parameter``; columns ``true``, ``mean``, ``bias``, ``rmse``,
            ``empirical_se`` (SD of the estimates), ``model_se`` (what the standard errors say it
            is), ``coverage``, ``power`` (share of intervals without 0; NaN for variances, which
            cannot be negative), ``mcse_...``, their Monte Carlo errors, ``n`` converged fits and
            ``intervals``, those with a standard error.
        """
        found = performance(
            self.estimates.to_numpy(float),
            self.errors.to_numpy(float),
            self.target.to_numpy(float),
            self.level,
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

    def __repr__(self) -> str:
        return (
            f"<RecoveryStudy {self.spec.name} · {self.clients} clients x {self.sessions} sessions "
            f"· {self.replications} replications, {sum(self.failures.values())} failed · "
            f"seed {self.seed}>"
        )


def recover(
    spec: Specification,
    truth: Dynamics,
    *,
    clients: int,
    sessions: int,
    replications: int = 500,
    seed: int = 7,
    jobs: int = -1,
    dropout: Dropout | None = None,
    missing: float = 0.0,
    therapists: Therapists | None = None,
    gaps: Gaps | None = None,
    ceiling: Mapping[str, float] | None = None,
    start: Any = "stationary",
    errors: str | None = None,
    target: Mapping[str, float] | pd.Series | None = None,
    level: float = 0.95,
    progress: Progress | None = None,
) -> RecoveryStudy:
    """Simulate many panels from a known world, fit a model to each, and compare.

    Parameters
    ----------
    spec : specification
        A model, right or wrong for this world.
    truth : Dynamics
        The world.
    clients, sessions : int
        Of each panel.
    replications : int
        How many panels.
    seed : int
        Root of all random numbers. Results do not depend on ``jobs``.
    jobs : int
        Processes; -1 = one per processor.
    dropout, missing, therapists, gaps, ceiling, start
        How the world is seen, as in `simulate`.
    errors : str, optional
        Standard errors, as in ``spec.fit``; by default those that are usual for the model.
    target : mapping name -> value or Series, optional
        What estimates are compared with, where that is not the truth: for a model that is wrong,
        its `pseudo_true` values. Names that are left out are compared with the truth.
    level : float
        Of the intervals.
    progress : callable, optional
        Called as ``progress(done, total, doing)``.

    Returns
    -------
    RecoveryStudy
        Failed replications counted by reason, never replaced by others.

    Raises
    ------
    SpecificationError
        If an argument is impossible.

    References
    ----------
    Morris, T. P., White, I. R., & Crowther, M. J. (2019). Using simulation studies to evaluate
    statistical methods. Statistics in Medicine, 38, 2074-2102.
    """
    if not isinstance(truth, Dynamics):
        raise SpecificationError("truth must be a Dynamics, e.g. Dynamics.time_ordered(...).")
    if not 0.0 < level < 1.0:
        raise SpecificationError(f"level must be between 0 and 1, not {level:g}. Use 0.95.")
    observation = {
        **{"dropout": dropout, "missing": missing, "therapists": therapists},
        **{"gaps": gaps, "ceiling": ceiling, "start": start},
    }
    trial = _Trial(spec, truth, clients, sessions, observation, errors)
    wanted = {} if target is None else pd.Series(target, dtype=float).to_dict()
    began = time.perf_counter()
    _refuse_impossible(trial, seed)
    if wanted:
        _refuse_unknown(wanted, trial, seed)
    doing = f"{spec.name}, {clients} clients x {sessions} sessions"
    outcomes = replicate(trial, replications, seed, jobs, progress, doing)
    estimates, spread = _frames(outcomes)
    compared = _true_values(truth, sessions, therapists, start) | wanted
    found = [outcome for outcome in outcomes if isinstance(outcome, _Found)]
    return RecoveryStudy(
        spec=spec,
        truth=truth,
        clients=clients,
        sessions=sessions,
        replications=replications,
        seed=seed,
        target=pd.Series({name: _look_up(compared, name) for name in estimates}, dtype=float),
        estimates=estimates,
        errors=spread,
        failures=_counted(_reason(one) for one in outcomes if isinstance(one, Failure)),
        boundaries=_counted(name for outcome in found for name in set(outcome.at_bound)),
        seconds=time.perf_counter() - began,
        level=level,
    )


def _frames(outcomes: Sequence[_Found | Failure]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Collect estimates and standard errors, one row per converged fit."""
    found = {r: one for r, one in enumerate(outcomes) if isinstance(one, _Found)}
    # A last session that nobody attended has no mean in that replication.
    columns = max((list(one.names) for one in found.values()), key=len, default=[])
    index = pd.Index(list(found), name="replication", dtype=int)
    place = {name: j for j, name in enumerate(columns)}
    values = np.full((2, len(found), len(columns)), np.nan)
    for row, one in enumerate(found.values()):
        at = [place[name] for name in one.names]
        values[0, row, at], values[1, row, at] = one.estimates, one.errors
    estimates, errors = (pd.DataFrame(part, index=index, columns=columns) for part in values)
    return estimates, errors


def _true_values(
    truth: Dynamics, sessions: int, therapists: Therapists | None, start: Any
) -> dict[str, float]:
    """Return the truth by name; therapists' differences are part of those between clients."""
    if therapists is not None:
        cov = np.asarray(truth.between_cov) + np.asarray(therapists.cov)
        truth = replace(truth, between_cov=cov)
    values = {str(name): float(value) for name, value in truth.params(sessions).items()}
    if not isinstance(start, str):
        labels = names.symmetric_labels("initial_cov", truth.variables)
        upper = np.asarray(start, float)[np.triu_indices(len(truth.variables))]
        values |= dict(zip(labels, upper.tolist(), strict=True))
    return values


def _look_up(values: Mapping[str, float], name: str) -> float:
    """Find a parameter's value; one session's is that of all where the world does not change."""
    return values.get(name, values.get(name.partition("@")[0], np.nan))


def _refuse_impossible(trial: _Trial, seed: int) -> None:
    """Refuse a world or a way of seeing it that no draw can make possible, before the first one."""
    (first,) = replicate(trial.simulate, 1, seed)
    if isinstance(first, Failure) and first.error == SpecificationError.__name__:
        raise SpecificationError(first.reason)


def _refuse_unknown(target: Mapping[str, float], trial: _Trial, seed: int) -> None:
    """Refuse names that the first replication does not estimate, before the others are run."""
    (first,) = replicate(trial, 1, seed)
    known = first.names if isinstance(first, _Found) else tuple(target)
    unknown = [name for name in target if name not in known]
    if unknown:
        raise SpecificationError(
            f"target names {listed(unknown)}, which the model does not estimate. It estimates "
            f"{listed(known, 8)}."
        )


def _reason(failure: Failure) -> str:
    """Reason of a failure, alike for failures that differ in their figures only."""
    return f"{failure.error}: {_NUMBER.sub('#', failure.reason)}"


def _counted(values: Any) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _is_variance(name: str) -> bool:
    """Tell whether a parameter is a variance, of which 0 is the smallest possible value."""
    family, indices, _ = names.parse(name)
    return "cov" in family and len(set(indices)) == 1
