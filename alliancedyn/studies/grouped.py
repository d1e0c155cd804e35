"""Do lagged effects differ between groups? One model, with and without lags of each group's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from alliancedyn.causal import Directions, compare_directions
from alliancedyn.causal.direction import SMALLEST_EFFECT
from alliancedyn.causal.nested import LikelihoodRatio, likelihood_ratio
from alliancedyn.errors import AllianceDynError
from alliancedyn.models import Specification
from alliancedyn.panel import SessionPanel
from alliancedyn.results import Fit

SHARED = "lags"


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
    equal : Fit or None
        The same with lagged effects equal across groups; None if it could not be fitted.
    directions : dict of str to Directions
        Group -> verdict on direction.
    test : LikelihoodRatio or None
        Of equal lagged effects.
    notes : tuple of str
        Why something is missing.
    """

    column: str
    label: str
    fit: Fit
    equal: Fit | None
    directions: dict[str, Directions]
    test: LikelihoodRatio | None
    notes: tuple[str, ...]


def compare_groups(
    label: str,
    spec: Specification,
    panel: SessionPanel,
    column: str,
    fitted: Callable[[Specification, SessionPanel], Fit],
    smallest_effect: float = SMALLEST_EFFECT,
) -> GroupComparison:
    """Fit a model by groups, twice, and compare their lagged effects.

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
    equal: Fit | None = None
    test: LikelihoodRatio | None = None
    try:
        equal = fitted(replace(spec, group=column, equal_across_groups=(SHARED,)), panel)
        test = likelihood_ratio(equal, fit)
    except AllianceDynError as refusal:
        notes.append(f"Equal lagged effects in all groups were not tested. {refusal}")
    directions: dict[str, Directions] = {}
    for group in fit.lagged.groups:
        try:
            directions[group] = compare_directions(
                fit, smallest_effect=smallest_effect, group=group
            )
        except AllianceDynError as refusal:
            notes.append(f"{group} gives no verdict on direction. {refusal}")
    return GroupComparison(column, label, fit, equal, directions, test, tuple(notes))
