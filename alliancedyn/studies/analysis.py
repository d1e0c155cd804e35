"""The main job: from a panel to a verdict, by a ladder of models that differ in one thing each.

The ladder shows what happens to a lagged path when, rung by rung, what it may be confused with is
taken away: the course that all clients share, the stable differences between clients, each
client's own trend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import pandas as pd

from alliancedyn.causal import Directions, compare_directions, compare_models
from alliancedyn.causal.direction import SEED, SMALLEST_EFFECT, refuse_size
from alliancedyn.decompose import Decomposition, decompose
from alliancedyn.errors import (
    AllianceDynError,
    ConvergenceError,
    DataError,
    SpecificationError,
)
from alliancedyn.models import DSEM, Regression, Specification
from alliancedyn.models.selection import Needs, select
from alliancedyn.panel import QualityReport, SessionPanel, check
from alliancedyn.partition import TherapistPartition, therapist_partition
from alliancedyn.results import Fit
from alliancedyn.studies.families import (
    DEFAULT,
    Family,
    Model,
    Window,
    chosen,
    pair_of,
)
from alliancedyn.studies.grouped import GroupComparison, compare_groups
from alliancedyn.studies.headline import choose
from alliancedyn.studies.remarks import remarks_on
from alliancedyn.studies.steps import Step, steps_between
from alliancedyn.studies.window import able, well_seen


class Progress(Protocol):
    """What a caller passes to hear how far an analysis is."""

    def __call__(self, done: int, total: int, doing: str) -> None:
        """Take in that ``done`` of ``total`` steps are over and which one begins."""


@dataclass(frozen=True, eq=False, repr=False)
class Analysis:
    """Everything that an analysis found, ready for a report.

    Parameters
    ----------
    panel : SessionPanel
        What was analyzed.
    quality : QualityReport
        What was found in the data.
    decomposition : Decomposition
        Between and within parts; with the therapist level where therapists are known.
    fits : dict of str to Fit
        Label -> converged fit, in the order of the ladder.
    directions : dict of str to Directions
        Label -> verdict on direction.
    comparison : DataFrame
        The lagged effects of all fits, from `compare_models`.
    failures : dict of str to str
        Label -> why a model was refused or did not converge.
    notes : tuple of str
        Sentences that must travel with the numbers.
    headline : str
        Label of the fit that speaks first.
    reason : str
        Why it does, a sentence.
    errors : str
        How standard errors were computed.
    seed : int or None
        The seed that was given.
    rungs : tuple of str
        Labels of the models on the ladder; the others stand beside it.
    steps : tuple of Step
        Tests of each rung of the ladder against the one it contains.
    groups : GroupComparison or None
        The headline model by groups, if groups were asked for.
    partition : TherapistPartition or None
        The association by therapist, client and session, where therapists are known.
    """

    panel: SessionPanel
    quality: QualityReport
    decomposition: Decomposition
    fits: dict[str, Fit]
    directions: dict[str, Directions]
    comparison: pd.DataFrame
    failures: dict[str, str]
    notes: tuple[str, ...]
    headline: str
    reason: str
    errors: str
    seed: int | None
    rungs: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    groups: GroupComparison | None = None
    partition: TherapistPartition | None = None

    @property
    def fit(self) -> Fit:
        """The fit that speaks first."""
        return self.fits[self.headline]

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} refused or failed" if self.failures else ""
        return f"<Analysis of {self.panel!r} · {len(self.fits)} models{failed}>"

    def __str__(self) -> str:
        answer = self.directions.get(self.headline)
        verdict = "No verdict on direction." if answer is None else answer.text
        failures = [f"{label}: {reason}" for label, reason in self.failures.items()]
        said = [self.reason, *failures, *self.notes]
        return "\n".join([self.headline, "", verdict, "", *said]).rstrip()


def analyze(
    panel: SessionPanel,
    *,
    families: Sequence[str] = DEFAULT,
    errors: str | None = None,
    sessions: Window | None = None,
    covariates: Sequence[str] = (),
    group: str | None = None,
    smallest_effect: float = SMALLEST_EFFECT,
    seed: int | None = None,
    progress: Progress | None = None,
) -> Analysis:
    """Climb the ladder of models and compare both directions in each.

    Parameters
    ----------
    panel : SessionPanel
        Its process and outcome are modeled; further variables are described only.
    families : sequence of str
        Keys of `FAMILIES`, "ri-clpm-step@5" for lagged effects that change at session 5, or "all".
    errors : "observed", "robust" or "cluster:therapist" (or another client-level column), optional
        How standard errors are computed; by default as is usual for each model, clustered by
        person where persons have several episodes.
    sessions : (int, int), optional
        First and last session to model. By default the longest run of sessions in which at least
        five clients have each score, because fewer cannot carry a mean of their own; a note says
        what that leaves out.
    covariates : sequence of str
        Client-level numbers that shift the stable parts, in every model.
    group : str, optional
        Client-level column: the model that speaks first is fitted once more with every parameter
        by group, and it is tested whether the groups' lagged effects differ.
    smallest_effect : float
        Smallest size of a path that matters, within-client SDs; 0.05 is a convention.
    seed : int, optional
        For additional starting values and for the joint draws behind a verdict.
    progress : callable, optional
        Called with (steps done, steps in all, what begins now).

    Returns
    -------
    Analysis
        With the models that worked; those that did not are named with their reason.

    Raises
    ------
    SpecificationError
        If a family is unknown, there are no such groups, or every model was refused.
    ConvergenceError
        If no model worked and at least one did not converge.
    """
    refuse_size(smallest_effect)
    ladder = chosen(families) if sessions is not None else able(panel, chosen(families))
    asked = _Asked(sessions, tuple(covariates), errors, seed)
    steps = _Steps(progress, total=3 + len(ladder) + (group is not None))
    steps.begin("checking the data")
    quality = check(panel)
    steps.begin("between and within")
    decomposition, notes = _decompose(panel)
    partition = _partition(panel)
    if sessions is None:
        window, remarks = well_seen(panel)
        asked = replace(asked, sessions=window)
        notes += remarks
    if group is not None:  # what cannot be had is refused before any work
        select(panel, Needs(variables=pair_of(panel), group=group), asked.sessions)
    climbed = _climb(panel, ladder, asked, steps)
    if not climbed.fits:
        raise _nothing_worked(climbed.failures)
    steps.begin("comparing the models")
    directions, unsaid = _directions(climbed.fits, smallest_effect, seed)
    between = steps_between(climbed.fits)
    headline, reason = choose(ladder, climbed.fits, directions, climbed.failures, between)
    groups = None
    if group is not None:
        steps.begin(f"comparing {group}")
        (speaker,) = [family for family in ladder if family.label == headline]
        groups, untold = _by_group(panel, speaker, group, asked, smallest_effect)
        notes += untold
    steps.end()
    return Analysis(
        panel=panel,
        quality=quality,
        decomposition=decomposition,
        fits=climbed.fits,
        directions=directions,
        comparison=compare_models(climbed.fits),
        failures={label: str(failure) for label, failure in climbed.failures.items()},
        notes=(*notes, *remarks_on(panel, climbed.fits), *unsaid),
        headline=headline,
        reason=reason,
        errors=errors or str(climbed.fits[headline].diagnostics["errors"]),
        seed=seed,
        rungs=_rungs(ladder, families),
        steps=between,
        groups=groups,
        partition=partition,
    )


@dataclass(frozen=True)
class _Asked:
    """What every model is asked for."""

    sessions: Window | None
    covariates: tuple[str, ...]
    errors: str | None
    seed: int | None


class _Steps:
    """Tell whoever listens which step begins."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def begin(self, doing: str) -> None:
        if self._progress is not None:
            self._progress(self._done, self._total, doing)
        self._done += 1

    def end(self) -> None:
        if self._progress is not None:
            self._progress(self._total, self._total, "")


def _rungs(ladder: list[Family], families: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of the rungs: those of the default ladder, and those asked for by name."""
    named = {*DEFAULT, *([families] if isinstance(families, str) else families)}
    return tuple(family.label for family in ladder if family.rung and family.key in named)


@dataclass(frozen=True)
class _Climbed:
    """What each rung gave."""

    fits: dict[str, Fit]
    failures: dict[str, AllianceDynError]


def refusals(
    panel: SessionPanel,
    families: Sequence[str] = DEFAULT,
    sessions: Window | None = None,
    covariates: Sequence[str] = (),
) -> dict[str, str | None]:
    """Say which models these data can carry, without fitting any.

    Returns
    -------
    dict
        Label -> why the model would be refused, None if it would not.
    """
    window = well_seen(panel)[0] if sessions is None else sessions
    found: dict[str, str | None] = {}
    asked = chosen(families)
    for family in asked if sessions is not None else able(panel, asked):
        try:
            spec, seen = family.given(panel, window, tuple(covariates))
            if isinstance(spec, Regression):
                spec.fit(seen, strict=False)  # nothing is searched for: this is as quick
            elif isinstance(spec, DSEM):
                select(seen, spec.needs(), spec.sessions)
            else:
                spec.objective(seen)
        except AllianceDynError as refusal:
            found[family.label] = str(refusal)
        else:
            found[family.label] = None
    return found


def _decompose(panel: SessionPanel) -> tuple[Decomposition, list[str]]:
    """Split with the therapist level if therapists are known, and say why if that was refused."""
    if not panel.roles.get("therapist"):
        return decompose(panel), []
    try:
        return decompose(panel, levels=("therapist", "client")), []
    except SpecificationError as refusal:
        return decompose(panel), [f"Therapists are no level of the variance split. {refusal}"]


def _partition(panel: SessionPanel) -> TherapistPartition | None:
    """Split the association by therapist where that can be done; `_decompose` says where not."""
    if not panel.roles.get("therapist"):
        return None
    try:
        return therapist_partition(panel)
    except (SpecificationError, DataError):
        return None


def _climb(
    panel: SessionPanel,
    ladder: list[Family],
    asked: _Asked,
    steps: _Steps,
) -> _Climbed:
    fits: dict[str, Fit] = {}
    failures: dict[str, AllianceDynError] = {}
    for family in ladder:
        steps.begin(family.label)
        try:
            spec, seen = family.given(panel, asked.sessions, asked.covariates)
            fits[family.label] = _fitted(spec, seen, asked)
        except AllianceDynError as refusal:
            failures[family.label] = refusal
    return _Climbed(fits, failures)


def _fitted(spec: Model, panel: SessionPanel, asked: _Asked) -> Fit:
    """Fit, and let a fit that did not converge be an error like any other."""
    if isinstance(spec, Regression):
        fit = spec.fit(panel, errors=asked.errors, strict=False)
    elif isinstance(spec, DSEM):
        fit = spec.fit(panel, seed=0 if asked.seed is None else asked.seed, strict=False)
    else:
        fit = spec.fit(panel, errors=asked.errors, seed=asked.seed, strict=False)
    if not fit.converged:
        reason = fit.diagnostics.get("failure", "the estimates are not a maximum.")
        raise ConvergenceError(f"Did not converge: {reason}", fit)
    return fit


def _by_group(
    panel: SessionPanel, family: Family, column: str, asked: _Asked, smallest_effect: float
) -> tuple[GroupComparison | None, list[str]]:
    """Fit a model by groups, or say why that is not possible."""
    spec, seen = family.given(panel, asked.sessions, asked.covariates)
    if not isinstance(spec, Specification):
        return None, [f"{family.label} was not fitted by {column}: it has no version by groups."]
    try:
        found = compare_groups(
            family.label,
            spec,
            seen,
            column,
            lambda one, data: _fitted(one, data, asked),
            smallest_effect,
        )
    except AllianceDynError as refusal:
        return None, [f"{family.label} was not fitted by {column}. {refusal}"]
    return found, []


def _nothing_worked(failures: Mapping[str, AllianceDynError]) -> AllianceDynError:
    """Return the error that speaks for all models, each reason said once."""
    labels: dict[str, list[str]] = {}
    for label, failure in failures.items():
        labels.setdefault(str(failure), []).append(label)
    reasons = " ".join(f"{', '.join(who)}: {reason}" for reason, who in labels.items())
    text = f"No model could be fitted. {reasons}"
    for kind in (ConvergenceError, SpecificationError, DataError):
        first = next((one for one in failures.values() if isinstance(one, kind)), None)
        if isinstance(first, ConvergenceError):
            return ConvergenceError(text, first.fit)
        if first is not None:
            return kind(text)
    return AllianceDynError(text)


def _directions(
    fits: Mapping[str, Fit], smallest_effect: float, seed: int | None
) -> tuple[dict[str, Directions], list[str]]:
    found: dict[str, Directions] = {}
    refused: list[str] = []
    for label, fit in fits.items():
        try:
            found[label] = compare_directions(
                fit, smallest_effect=smallest_effect, seed=SEED if seed is None else seed
            )
        except SpecificationError as refusal:
            refused.append(f"{label} gives no verdict on direction. {refusal}")
    return found, refused
