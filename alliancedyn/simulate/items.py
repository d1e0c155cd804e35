"""Questionnaires and raters: items and parcels, answers in steps, floors and ceilings.

    item_j = intercept_j + loading_j score + v_ij + e_j,    v_ij ~ N(0, stable_var_j),
                                                            e_j ~ N(0, error_var_j),

then held between ``lowest`` and ``highest`` and rounded to a multiple of ``step`` above ``lowest``.
v_ij stays with client i over all sessions: what is meant by an item, or how a rater sees a client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.engine.names import label
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.simulate.arguments import as_array, as_choice, as_number
from alliancedyn.simulate.series import refuse_roles

Array = NDArray[np.float64]


@checked
@dataclass(frozen=True)
class Items:
    """The items, parcels or raters by which one series is measured.

    Parameters
    ----------
    names : sequence of str
        Columns of the panel if items are kept.
    loading, intercept, error_var, stable_var : number or one per item
        ``error_var``, new at every session, and ``stable_var``, of what adds to all of a client's
        answers to the item or by the rater, in squared points of the item.
    lowest, highest : float, optional
        Ends of the scale of an item; answers beyond are recorded there. None: no end.
    step : float, optional
        Distance of neighboring answers, 1 for a Likert item. None: a visual analogue scale.
    keep : "items" or "mean"
        Whether the panel holds the items, or their mean under the name of the series.

    Raises
    ------
    SpecificationError
        If names repeat, or numbers do not fit.
    """

    names: tuple[str, ...]
    loading: tuple[float, ...] | float = 1.0
    intercept: tuple[float, ...] | float = 0.0
    error_var: tuple[float, ...] | float = 0.0
    lowest: float | None = None
    highest: float | None = None
    step: float | None = None
    keep: str = "items"
    stable_var: tuple[float, ...] | float = 0.0

    def __post_init__(self) -> None:
        names = (self.names,) if isinstance(self.names, str) else tuple(self.names)
        for name in names:
            label("loading", name)
        refuse_roles(names)
        if not names or len(set(names)) < len(names):
            raise SpecificationError("Items need names, each different.")
        object.__setattr__(self, "names", names)
        for name in ("loading", "intercept", "error_var", "stable_var"):
            given: Any = getattr(self, name)
            full = np.full(len(names), given) if np.ndim(given) == 0 else given
            object.__setattr__(self, name, tuple(as_array(full, (len(names),), name).tolist()))
        for name in ("error_var", "stable_var"):
            if min(getattr(self, name)) < 0.0:
                raise SpecificationError(f"{name} must not be negative.")
        if self.step is not None and not as_number(self.step, "step") > 0.0:
            raise SpecificationError("step must be above 0.")
        low, high = self.bounds
        if not low < high:
            raise SpecificationError(f"lowest must be below highest: {low:g}, {high:g}.")
        as_choice(self.keep, ("items", "mean"), "keep")

    @property
    def bounds(self) -> tuple[float, float]:
        """Ends of the scale, infinite where there is none."""
        low = -np.inf if self.lowest is None else as_number(self.lowest, "lowest")
        high = np.inf if self.highest is None else as_number(self.highest, "highest")
        return low, high

    def answers(
        self, scores: Array, rng: np.random.Generator, persons: NDArray[np.int64] | None = None
    ) -> Array:
        """Return the answers (N, T, items) to scores (N, T), score points.

        ``persons`` (N,): whose episode each row is, where clients return.
        """
        noise = rng.standard_normal((*scores.shape, len(self.names)))
        answers = np.asarray(self.intercept) + scores[:, :, None] * np.asarray(self.loading)
        answers = answers + np.sqrt(self.error_var) * noise
        if any(np.atleast_1d(self.stable_var)):
            views = np.sqrt(self.stable_var) * rng.standard_normal((len(scores), len(self.names)))
            answers += (views if persons is None else views[persons])[:, None, :]
        low, high = self.bounds
        if self.step is not None:
            origin = 0.0 if self.lowest is None else low
            answers = origin + self.step * np.round((answers - origin) / self.step)
        return np.clip(answers, low, high)


def measured(
    scores: Array,
    variables: Sequence[str],
    items: Mapping[str, Items] | None,
    rng: np.random.Generator,
    persons: NDArray[np.int64] | None = None,
) -> tuple[Array, tuple[str, ...], dict[str, str]]:
    """Return what a questionnaire records of scores (N, T, k); ``persons`` as in `Items.answers`.

    Returns
    -------
    recorded : (N, T, columns) array
    names : tuple of str
        One per column.
    series : dict name -> name of the series that the column measures

    Raises
    ------
    SpecificationError
        If an unknown series is measured, or two columns have one name.
    """
    if items is None:
        return scores, tuple(variables), {name: name for name in variables}
    if not isinstance(items, Mapping) or not all(isinstance(one, Items) for one in items.values()):
        raise SpecificationError('items must name the series: {"alliance": Items((...))}.')
    unknown = [name for name in items if name not in variables]
    if unknown:
        raise SpecificationError(f"items names {listed(unknown)}, which are not among the series.")
    streams = dict(zip(variables, rng.spawn(len(variables)), strict=True))
    columns: list[Array] = []
    series: dict[str, str] = {}
    for j, name in enumerate(variables):
        values = scores[:, :, j, None]
        names: tuple[str, ...] = (name,)
        if name in items:
            values = items[name].answers(scores[:, :, j], streams[name], persons)
            names = items[name].names
            if items[name].keep == "mean":
                values, names = values.mean(axis=2, keepdims=True), (name,)
        if set(names) & set(series):
            raise SpecificationError(
                f"{listed(sorted(set(names) & set(series)))} name two columns."
            )
        columns.append(values)
        series |= dict.fromkeys(names, name)
    return np.concatenate(columns, axis=2), tuple(series), series
