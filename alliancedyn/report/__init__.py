"""One self-contained document from a panel and fits, to send to a colleague.

The first screen says which direction leads, or on what the answer depends; the rest says why, and
what would have to hold. Every number comes from an object that was passed in. Nothing is fetched
from anywhere, nothing runs, and no client is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alliancedyn.checking import checked

if TYPE_CHECKING:
    import pandas as pd

    from alliancedyn.causal import Directions
    from alliancedyn.decompose import Decomposition
    from alliancedyn.panel import QualityReport, SessionPanel
    from alliancedyn.partition import TherapistPartition
    from alliancedyn.results import Fit
    from alliancedyn.studies import Analysis, GroupComparison, Step

__all__ = ["report_analysis", "write_report"]


def report_analysis(
    path: str | Path,
    analysis: Analysis,
    *,
    title: str | None = None,
    show_file_name: bool = False,
) -> Path:
    """Write the report of an analysis as one HTML file, with all that it found.

    Parameters
    ----------
    path : str or Path
        Where to write, as in :func:`write_report`.
    analysis : Analysis
        From :func:`alliancedyn.studies.analyze`.
    title : str, optional
        Heading above the verdict.
    show_file_name : bool
        Whether to name the export.

    Returns
    -------
    Path
        The file.
    """
    return write_report(
        path,
        analysis.panel,
        analysis.fits,
        directions=analysis.directions,
        decomposition=analysis.decomposition,
        comparison=analysis.comparison,
        quality=analysis.quality,
        failures=analysis.failures,
        title=title,
        seed=analysis.seed,
        notes=analysis.notes,
        headline=analysis.headline,
        reason=analysis.reason,
        rungs=analysis.rungs,
        steps=analysis.steps,
        groups=analysis.groups,
        partition=analysis.partition,
        show_file_name=show_file_name,
    )


@checked
def write_report(
    path: str | Path,
    panel: SessionPanel,
    fits: Mapping[str, Fit],
    *,
    directions: Mapping[str, Directions],
    decomposition: Decomposition | None = None,
    comparison: pd.DataFrame,
    quality: QualityReport,
    failures: Mapping[str, str] | None = None,
    title: str | None = None,
    seed: int | None = None,
    notes: Sequence[str] = (),
    headline: str | None = None,
    reason: str | None = None,
    rungs: Sequence[str] | None = None,
    steps: Sequence[Step] = (),
    groups: GroupComparison | None = None,
    partition: TherapistPartition | None = None,
    show_file_name: bool = False,
) -> Path:
    """Write a report of fits as one HTML file.

    Parameters
    ----------
    path : str or Path
        Where to write; folders are made, and the file appears whole or not at all.
    panel : SessionPanel
        What was analyzed.
    fits : mapping of str to Fit
        Label -> fit, in the order of the ladder, simplest first. A label that holds the word
        "detrended" marks a model of scores without each client's own line, and is shown as such.
    directions : mapping of str to Directions
        Label -> verdict, for the fits that have one.
    decomposition : Decomposition, optional
        Between and within parts.
    comparison : DataFrame
        From :func:`alliancedyn.compare_models` of ``fits``.
    quality : QualityReport
        From :func:`alliancedyn.check`.
    failures : mapping of str to str, optional
        Label -> reason, for models that were refused or failed.
    title : str, optional
        Heading above the verdict.
    seed : int, optional
        The seed of the analysis, for the methods paragraph.
    notes : sequence of str
        Sentences of the caller's own, shown with the warnings.
    headline : str, optional
        Label of the model on the first screen; by default the last one of the ladder that
        converged, has a verdict and is not detrended.
    reason : str, optional
        Why that model, a sentence.
    rungs : sequence of str, optional
        Labels of the models on the ladder; by default all. The others are compared, but they do
        not enter the story from model to model, nor the headline.
    steps : sequence of Step
        Tests between models of the ladder, as in :class:`alliancedyn.studies.Analysis`.
    groups : GroupComparison, optional
        The headline model by groups.
    partition : TherapistPartition, optional
        From :func:`alliancedyn.therapist_partition`.
    show_file_name : bool
        Whether to name the file that the panel was read from: its name can hold a person's.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    SpecificationError
        If there is no fit to report, or ``headline`` is not one of them.
    """
    from alliancedyn.report.document import Material, render

    material = Material(
        panel=panel,
        fits=dict(fits),
        directions=dict(directions),
        decomposition=decomposition,
        comparison=comparison,
        quality=quality,
        failures=dict(failures or {}),
        title=title,
        seed=seed,
        notes=tuple(notes),
        headline=headline,
        reason=reason,
        rungs=None if rungs is None else tuple(rungs),
        steps=tuple(steps),
        groups=groups,
        partition=partition,
        show_file_name=show_file_name,
    )
    target = Path(path)
    text = render(material)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    part.write_text(text, encoding="utf-8")
    return part.replace(target)
