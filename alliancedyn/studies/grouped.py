"""Do lagged effects differ between groups? One model, every parameter by group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from alliancedyn.causal import Directions, compare_directions
from alliancedyn.causal.direction import SMALLEST_EFFECT
from alliancedyn.causal.group_contrast import GroupTest, compare_paths
from alliancedyn.errors import AllianceDynError, SpecificationError
from alliancedyn.models import Specification
from alliancedyn.panel import SessionPanel
from alliancedyn.results import Fit


@dataclass(frozen=True, eq=False)
class GroupComparison:
    """What a model says of each group, and whether their lagged effects differ.

    Parameters
    ----------
    column : str
        What clients are grouped by.
    label : str
        The model.
    fit : Fit
        Every parameter by group.
    directions : dict of str to Directions
        Group -> verdict on direction.
    test : GroupTest or None
        Of the same paths in all groups, those that ``directions`` show.
    notes : tuple of str
        Why something is missing.
    """

    column: str
    label: str
    fit: Fit
    directions: dict[str, Directions]
    test: GroupTest | None
    notes: tuple[str, ...]


def compare_groups(
    label: str,
    spec: Specification,
    panel: SessionPanel,
    column: str,
    fitted: Callable[[Specification, SessionPanel], Fit],
    smallest_effect: float = SMALLEST_EFFECT,
) -> GroupComparison:
    """Fit a model by groups and compare their lagged effects.

    Parameters
    ----------
    label : str
        What the model is called.
    spec : Specification
        Without groups.
    panel : SessionPanel
    column : str
        Client-level column.
    fitted : callable
        Fits, and raises an `AllianceDynError` if that fails.
    smallest_effect : float
        Smallest size of a path that matters, within-client SDs.

    Raises
    ------
    AllianceDynError
        If the model with everything by group cannot be fitted.
    """
    notes: list[str] = []
    fit = fitted(replace(spec, group=column), panel)
    directions: dict[str, Directions] = {}
    for group in fit.lagged.groups:
        try:
            directions[group] = compare_directions(
                fit, smallest_effect=smallest_effect, group=group
            )
        except AllianceDynError as refusal:
            notes.append(f"{group} gives no verdict on direction. " + str(refusal))
    test: GroupTest | None = None
    try:
        test = compare_paths(fit, directions)
    except SpecificationError as refusal:
        notes.append("The paths of the groups were not compared. " + str(refusal))
    return GroupComparison(column, label, fit, directions, test, tuple(notes))
