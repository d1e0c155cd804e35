"""The client-level bootstrap: fit again to clients drawn with replacement, many times over."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.engine.ascent import Point, climb
from alliancedyn.engine.resample import Resampler
from alliancedyn.errors import ConvergenceError, DataError, SpecificationError
from alliancedyn.models.persons import EPISODES, person_notes
from alliancedyn.models.verdict import boundary_sentences
from alliancedyn.panel import SessionPanel
from alliancedyn.replicate import Failure, Progress, Seed, replicate
from alliancedyn.results import Estimate, Fit, Observed, effects, scores
from alliancedyn.results.estimate import LEVEL, checked_level
from alliancedyn.results.model import Params
from alliancedyn.results.profile import maximum_of

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Kind = Literal["percentile", "corrected"]

FEWEST = 2  # resamples with estimates, without which there is no spread
NO_MAXIMUM = "no maximum was reached"
UNSEEN = "no client that was drawn says anything about some parameter"
KINDS = ("percentile", "corrected")


@dataclass(frozen=True, eq=False, repr=False)
class Bootstrap:
    """What became of every resample.

    Parameters
    ----------
    fit : Fit
        The fit, its covariance that of the draws: whatever is derived from it has bootstrap
        standard errors and normal intervals. Its estimates are unchanged, and it carries no
        draws, which would be read as those of a posterior.
    draws : DataFrame
        Estimates, one row per resample that has any (index ``resample``, from 0), one column per
        parameter.
    resamples : int
        How many were drawn.
    units : str
        What was drawn: "client" or, whole, "person", "therapist" or another cluster.
    seed : int
        Root of all random numbers.
    failures : dict
        Reason -> number of resamples without estimates.
    boundaries : dict
        Parameter -> number of resamples in which it is at a bound. Their estimates count.
    level : float
        Of the intervals.
    seconds : float
        Wall-clock time.
    """

    fit: Fit
    draws: pd.DataFrame
    resamples: int
    units: str
    seed: int
    failures: dict[str, int]
    boundaries: dict[str, int]
    level: float
    seconds: float

    def table(self, level: float | None = None) -> pd.DataFrame:
        """Return every parameter with both kinds of interval.

        Returns
        -------
        DataFrame
            Index ``parameter``; columns ``estimate``, ``se`` (SD of the draws), ``bias`` (their
            mean minus the estimate), ``lower``, ``upper`` (percentiles of the draws),
            ``corrected_lower``, ``corrected_upper`` (percentiles moved by how far the estimate is
            from the median of the draws).

        References
        ----------
        Efron, B. (1981). Nonparametric standard errors and confidence intervals. Canadian Journal
        of Statistics, 9, 139-158.
        """
        covered = self.level if level is None else checked_level(level)
        draws, at = self.draws.to_numpy(float), self.fit.params.to_numpy(float)
        plain, corrected = (_limits(draws, at, covered, kind) for kind in KINDS)
        columns = {
            "estimate": at,
            "se": draws.std(axis=0, ddof=1),
            "bias": draws.mean(axis=0) - at,
            "lower": plain[0],
            "upper": plain[1],
            "corrected_lower": corrected[0],
            "corrected_upper": corrected[1],
        }
        return pd.DataFrame(columns, pd.Index(self.draws.columns, name="parameter"))

    def derive(
        self,
        function: Callable[[Params], float],
        level: float | None = None,
        interval: Kind = "percentile",
    ) -> Estimate:
        """Estimate any function of the parameters, resample by resample.

        Parameters
        ----------
        function : callable
            Takes a mapping from canonical name to value and returns one number.
        level : float, optional
            Coverage; that of the bootstrap by default.
        interval : {"percentile", "corrected"}
            Percentiles of the draws, or those corrected for bias.

        Returns
        -------
        Estimate
            The value is that at the estimates, not the mean of the draws; no p-value.
        """
        effects.chosen("interval", interval, KINDS)
        covered = self.level if level is None else checked_level(level)
        value = self.fit.derive(function).value
        names = [str(name) for name in self.draws.columns]
        rows = (dict(zip(names, row, strict=True)) for row in self.draws.to_numpy(float).tolist())
        drawn = np.array([[float(function(row))] for row in rows])
        lower, upper = _limits(drawn, np.array([value]), covered, interval)
        se = float(drawn.std(ddof=1))
        return Estimate(value, se, float(lower[0]), float(upper[0]), covered)

    def effect(
        self,
        source: str,
        target: str,
        standardized: Literal["within"] | None = None,
        *,
        session: int | None = None,
        lag: int = 1,
        group: str | None = None,
        level: float | None = None,
        interval: Kind = "percentile",
    ) -> Estimate:
        """Return the lagged effect of source on target, as `Fit.effect`, resample by resample."""
        effects.chosen("standardized", standardized, (None, "within"))
        form = self.fit.lagged.of_group(group)
        basis = self.fit.sd_within_basis(group=group) if standardized else None
        function = effects.lagged_effect(form, source, target, session, basis, lag)
        return self.derive(lambda p: float(function(p)[0]), level, interval)

    def __repr__(self) -> str:
        return (
            f"<Bootstrap {self.fit.model.name} · {self.resamples} resamples of {self.units}s, "
            f"{sum(self.failures.values())} failed · seed {self.seed}>"
        )


@checked
def bootstrap(
    fit: Fit,
    resamples: int = 1000,
    *,
    seed: int = 7,
    level: float = LEVEL,
    jobs: int = 1,
    cluster: str | None = None,
    panel: SessionPanel | None = None,
    progress: Progress | None = None,
) -> Bootstrap:
    """Fit a model again to clients drawn with replacement, as many as there are, many times.

    Clients are drawn whole, with all of their sessions; within their group if the model has
    groups. Every resample climbs from the estimates of the fit to the maximum close to them.

    Parameters
    ----------
    fit : Fit
        By maximum likelihood.
    resamples : int
        How many.
    seed : int
        Root of all random numbers. Results do not depend on ``jobs``.
    level : float
        Of the intervals.
    jobs : int
        Processes; -1 = one per processor.
    cluster : str, optional
        Draw whole therapists (``"therapist"``), persons with all of their episodes
        (``"person"``), or whole units of another client-level column; by default those by which
        the errors of the fit are clustered, else persons. Who has no therapist is drawn alone.
    panel : SessionPanel, optional
        The one that was fitted: after `without_data`, or for clusters other than therapists.
    progress : callable, optional
        Called as ``progress(done, total, doing)``.

    Returns
    -------
    Bootstrap
        Resamples without estimates counted by reason, never replaced by others.

    Raises
    ------
    SpecificationError
        If an argument is impossible, or the model has no likelihood.
    DataError
        If the fit has no scores, or the panel is another one.
    ConvergenceError
        If the fit is not a maximum, or hardly any resample has one.

    References
    ----------
    Efron, B., & Tibshirani, R. J. (1993). An introduction to the bootstrap. Chapman & Hall.
    """
    began = time.perf_counter()
    checked_level(level)
    effects.whole_number("resamples", resamples, FEWEST)
    data = fit.data if panel is None else fit.model.observe(panel, fit.sessions, fit.variables)
    if data is None:
        raise DataError("This fit no longer holds its data. Pass panel=.")
    maximum_of(fit, data)  # refuses what cannot be resampled, before the first draw
    units, codes = _units(fit, data, cluster, panel)
    task = _Resample(fit, data, tuple(_strata(codes, data.group)))
    outcomes = replicate(task, resamples, seed, jobs, progress, f"resamples of {units}s")
    failures = _counted(one.reason for one in outcomes if isinstance(one, Failure))
    draws = _draws(fit, outcomes, failures)
    bounds = (one.at_bound for one in outcomes if isinstance(one, _Found))
    return Bootstrap(
        fit=_with_spread(fit, draws, resamples, units, sum(failures.values())),
        draws=draws,
        resamples=resamples,
        units=units,
        seed=seed,
        failures=failures,
        boundaries=_counted(name for names in bounds for name in set(names)),
        level=level,
        seconds=time.perf_counter() - began,
    )


@dataclass(frozen=True)
class _Found:
    """Estimates of one resample, small enough to travel between processes."""

    values: tuple[float, ...]
    at_bound: tuple[str, ...]


@dataclass(frozen=True)
class _Stratum:
    """Units to draw from: unit u holds the clients ``rows[start[u]:start[u + 1]]``."""

    rows: Index
    start: Index

    def draw(self, rng: np.random.Generator) -> Index:
        """Return the clients of as many units as there are."""
        n = len(self.start) - 1
        picked = rng.integers(0, n, n)
        lengths = np.diff(self.start)[picked]
        skipped = np.repeat(self.start[picked] - np.append(0, lengths.cumsum()[:-1]), lengths)
        return np.asarray(self.rows[skipped + np.arange(len(skipped))])


@dataclass(frozen=True)
class _Resample:
    """One resample: clients are drawn and the likelihood is climbed."""

    fit: Fit
    data: Observed
    strata: tuple[_Stratum, ...]

    @cached_property
    def _start(self) -> tuple[Resampler, Array]:
        maximum = maximum_of(self.fit, self.data)
        return Resampler(maximum.likelihood, maximum.theta), maximum.metric

    def __call__(self, seed: Seed) -> _Found | Failure:
        resampler, metric = self._start
        rng = np.random.default_rng(seed)
        rows = np.concatenate([stratum.draw(rng) for stratum in self.strata])
        if len(resampler.silent(rows)):
            return Failure(ConvergenceError.__name__, UNSEEN)
        hill, likelihood = resampler.take(rows), resampler.likelihood
        for start in (resampler.theta, likelihood.start):
            found = climb(hill, Point.at(hill, start, metric))
            if found is not None:
                break
        else:
            return Failure(ConvergenceError.__name__, NO_MAXIMUM)
        bounds = boundary_sentences(likelihood.layout.bounds(found.theta))
        names = [name for one in bounds for name in one.partition(": ")[0].split(", ")]
        return _Found(tuple(likelihood.to_params(found.theta).values()), tuple(names))


def _draws(
    fit: Fit, outcomes: Sequence[_Found | Failure], failures: dict[str, int]
) -> pd.DataFrame:
    """Collect the estimates, one row per resample that has any."""
    found = {r: one for r, one in enumerate(outcomes) if isinstance(one, _Found)}
    if len(found) < FEWEST:
        raise ConvergenceError(
            f"{len(found)} of {len(outcomes)} resamples have estimates ({failures}). Use more "
            "resamples, or a model with fewer parameters.",
            fit,
        )
    index = pd.Index(list(found), name="resample", dtype=int)
    return pd.DataFrame([one.values for one in found.values()], index, fit.params.index)


def _units(
    fit: Fit, data: Observed, cluster: str | None, panel: SessionPanel | None
) -> tuple[str, Index]:
    """Return what is drawn, and the code of each client's unit."""
    kind, _, by = str(fit.diagnostics.get("errors")).partition(":")
    usual = "person" if data.returning else "client"
    chosen = cluster or (by if kind == "cluster" else usual)
    if chosen == "client":
        return chosen, np.arange(len(data.Y))
    codes, why = scores.clusters(f"cluster:{chosen}", panel, data)
    if codes is None:
        raise SpecificationError(str(why))
    if chosen == "therapist" and (data.therapist < 0).all():
        raise SpecificationError(
            f"All {len(codes)} clients have no therapist, so whole therapists cannot be drawn. Use "
            'cluster="client".'
        )
    if codes.max() < 1:
        raise SpecificationError(
            f"All clients have the same {chosen}, so there is nothing to draw from. Use "
            'cluster="client".'
        )
    return chosen, codes


def _strata(codes: Index, group: Index) -> Iterable[_Stratum]:
    """Cut the clients into units, by group if no unit has clients of two."""
    pairs = np.unique(np.column_stack([codes, group]), axis=0)
    nested = len(pairs) == len(np.unique(codes))
    for code in np.unique(group) if nested else [None]:
        rows = np.arange(len(codes)) if code is None else np.flatnonzero(group == code)
        rows = rows[np.argsort(codes[rows], kind="stable")]
        first = np.flatnonzero(np.diff(codes[rows], prepend=-1))
        yield _Stratum(rows, np.append(first, len(rows)))


def _limits(draws: Array, at: Array, level: float, kind: str) -> tuple[Array, Array]:
    """Return percentiles of the draws (D, q), corrected for bias or not."""
    normal = NormalDist()
    z = normal.inv_cdf((1.0 + level) / 2.0)
    if kind == "percentile":
        ends = np.quantile(draws, [normal.cdf(-z), normal.cdf(z)], axis=0)
        return ends[0], ends[1]
    share = ((draws < at).mean(axis=0) + (draws <= at).mean(axis=0)) / 2.0
    inside = 0.5 / len(draws)  # a share of 0 or 1 has no quantile
    shift = [normal.inv_cdf(min(max(float(s), inside), 1.0 - inside)) for s in share]
    limits = [
        np.array([
            np.quantile(draws[:, q], normal.cdf(2.0 * move + side * z))
            for q, move in enumerate(shift)
        ])
        for side in (-1.0, 1.0)
    ]  # fmt: skip
    return limits[0], limits[1]


def _with_spread(fit: Fit, draws: pd.DataFrame, resamples: int, units: str, failed: int) -> Fit:
    """Return the fit with the covariance of the draws."""
    diagnostics: dict[str, Any] = {
        **fit.diagnostics,
        "errors": f"bootstrap ({resamples:,} resamples of {units}s)",
    }
    notes = [note for note in fit.diagnostics.get("notes", ()) if EPISODES not in note]
    if fit.data is not None:
        notes += person_notes(fit.data, f"bootstrap:{units}")
    if failed:
        notes.append(f"{failed} of {resamples:,} resamples have no estimates and are left out.")
    diagnostics["notes"] = notes
    return replace(fit, cov=draws.cov(), diagnostics=diagnostics)


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())
