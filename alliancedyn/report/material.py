"""What a report is made from, and which of the models speaks first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from alliancedyn.errors import SpecificationError, listed
from alliancedyn.report.privacy import Discretion

if TYPE_CHECKING:
    import pandas as pd

    from alliancedyn.causal import Directions
    from alliancedyn.decompose import Decomposition
    from alliancedyn.panel import QualityReport, SessionPanel
    from alliancedyn.partition import TherapistPartition
    from alliancedyn.results import Fit
    from alliancedyn.studies import GroupComparison, Step

DETRENDED = "detrended"
USUAL = "1 session"  # the lag that ``compare_models`` writes where nothing else is said


@dataclass(frozen=True)
class Material:
    """Everything passed to ``write_report``; see there."""

    panel: SessionPanel
    fits: dict[str, Fit]
    directions: dict[str, Directions]
    decomposition: Decomposition | None
    comparison: pd.DataFrame
    quality: QualityReport
    failures: dict[str, str]
    title: str | None
    seed: int | None
    notes: tuple[str, ...]
    headline: str | None
    reason: str | None = None
    rungs: tuple[str, ...] | None = None
    steps: tuple[Step, ...] = ()
    groups: GroupComparison | None = None
    partition: TherapistPartition | None = None
    show_file_name: bool = False

    def __post_init__(self) -> None:
        if not self.fits:
            raise SpecificationError(
                "There is no fit to report. Pass at least one, or read the reasons of the "
                f"failures: {listed(self.failures.values(), 1) if self.failures else 'none given'}."
            )
        if self.headline is not None and self.headline not in self.fits:
            raise SpecificationError(
                f"headline={self.headline!r} is not among the fits. "
                f"Choose one of {listed(self.fits, len(self.fits))}."
            )

    @cached_property
    def ladder(self) -> tuple[str, ...]:
        """Labels of the models on the ladder, in its order."""
        if self.rungs is None:
            return tuple(self.fits)
        return tuple(label for label in self.fits if label in self.rungs)

    @cached_property
    def beside(self) -> tuple[str, ...]:
        """Labels of the models beside the ladder."""
        return tuple(label for label in self.fits if label not in self.ladder)

    @cached_property
    def speaker(self) -> str:
        """Label of the model on the first screen."""
        if self.headline is not None:
            return self.headline
        labels = list(self.ladder or self.fits)
        for demands in ((True, True, True), (True, True, False), (False, True, False)):
            suitable = [label for label in labels if self._meets(label, demands)]
            if suitable:
                return suitable[-1]
        return labels[-1]

    def _meets(self, label: str, demands: tuple[bool, bool, bool]) -> bool:
        settled, verdict, undoctored = demands
        return (
            (not settled or self.fits[label].converged)
            and (not verdict or label in self.directions)
            and (not undoctored or not is_detrended(label))
        )

    @cached_property
    def lag(self) -> str:
        """Over what time the effects on the first screen lead, ``1 session`` as a rule."""
        mine = self.comparison[self.comparison["model"] == self.speaker]
        return str(mine["lag"].iloc[0]) if len(mine) and "lag" in mine else USUAL

    @property
    def fit(self) -> Fit:
        """The fit on the first screen."""
        return self.fits[self.speaker]

    @cached_property
    def discretion(self) -> Discretion:
        """What must not be named."""
        noted = [one for fit in self.fits.values() for one in fit.diagnostics.get("notes", ())]
        aside = [one for fit in self.fits.values() for one in fit.sample.clients_set_aside]
        told = self.groups.notes if self.groups is not None else ()
        issues = [one.message for one in self.panel.issues]
        return Discretion.of(issues, self.failures.values(), self.notes, noted, aside, told)


def is_detrended(label: str) -> bool:
    """Tell from its label whether a model saw scores without each client's own line."""
    return DETRENDED in label.lower()
