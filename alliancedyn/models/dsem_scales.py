"""Scales with ends, and scales of a few ordered categories, in a two-level dynamic model.

The model speaks of a score x without ends; what a questionnaire records of it is y::

    bounds (f, c)    y = f if x <= f,    y = c if x >= c,    y = x between
    ordinal          y = category j if x lies between cut j and cut j + 1

so that levels, variances and lagged effects are those of x. With measurement error, x is the score
with its error. Of an ordered score of the codes lo .. hi the outer two cuts are fixed at lo + 1/2
and hi - 1/2, which gives x the points of the codes; the inner ones are estimated, and the spaces
between them have a uniform prior, Dirichlet(1).

References
----------
Albert, J. H., & Chib, S. (1993). Bayesian analysis of binary and polychotomous response data.
Journal of the American Statistical Association, 88, 669-679.

Tobin, J. (1958). Estimation of relationships for limited dependent variables. Econometrica, 26,
24-36.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alliancedyn.errors import SpecificationError, listed
from alliancedyn.results import Observed

if TYPE_CHECKING:
    from alliancedyn.models.dsem import DSEM

Array = NDArray[np.float64]
Bounds = Mapping[str, tuple[float | None, float | None]]

MOST_CATEGORIES = 10  # of an ordered score; above, a number
FEWEST_CATEGORIES = 3  # the outer two cuts are fixed
FEW_SCORES = 10  # in a category, whose cut is then a guess
MUCH = 0.5  # share of scores at a bound above which the normal tail speaks


def check_scales(bounds: Bounds, ordinal: Sequence[str]) -> None:
    """Refuse bounds that are none, and series that are given both ways.

    Raises
    ------
    SpecificationError
        With how they are written.
    """
    for name, ends in bounds.items():
        pair = tuple(ends) if isinstance(ends, tuple | list) else ()
        known = [x for x in pair if x is not None]
        number = all(isinstance(x, int | float) and np.isfinite(x) for x in known)
        if len(pair) != 2 or not known or not number or known != sorted(set(known)):
            raise SpecificationError(
                f"bounds[{name!r}] is {ends!r}; give the lowest and the highest possible score, "
                "such as (1, 7), or (None, 7) for a scale without a floor."
            )
    if both := [name for name in ordinal if name in bounds]:
        raise SpecificationError(
            f"{listed(both)} cannot have bounds and be ordinal: the lowest and the highest "
            "category are open already. Leave it out of bounds=."
        )


def limits_of(spec: DSEM, data: Observed) -> Array | None:
    """Return floors and ceilings (k, 2) in raw units, NaN where no score is at one; or None."""
    limits = np.full((len(data.variables), 2), np.nan)
    for j, name in enumerate(data.variables):
        for side, end in enumerate(spec.known_bounds.get(name, ())):
            if end is not None and np.any(data.Y[:, :, j] == end):
                limits[j, side] = end
    return None if np.isnan(limits).all() else limits


def cuts_of(spec: DSEM, data: Observed) -> tuple[int, ...] | None:
    """Return the number of cuts of every series, 0 of those that are not ordinal; or None."""
    if not spec.ordinal:
        return None
    codes = [_seen(data.Y[:, :, j]) for j in range(len(data.variables))]
    return tuple(
        len(np.unique(own)) - 1 if name in spec.ordinal else 0
        for name, own in zip(data.variables, codes, strict=True)
    )


def refuse_scales(spec: DSEM, data: Observed) -> None:
    """Refuse scores that the given scales cannot produce.

    Raises
    ------
    SpecificationError
        With the scores and the remedy.
    """
    for option, given in (("bounds", tuple(spec.known_bounds)), ("ordinal", spec.ordinal)):
        if unknown := [name for name in given if name not in data.variables]:
            raise SpecificationError(
                f"{option} names {listed(unknown)}; the model has {listed(data.variables, 8)}."
            )
    for j, name in enumerate(data.variables):
        scores = _seen(data.Y[:, :, j])
        if name in spec.known_bounds:
            _refuse_beyond(name, scores, spec.known_bounds[name])
        if name in spec.ordinal:
            _refuse_codes(name, scores)


def _refuse_beyond(name: str, scores: Array, ends: tuple[float | None, float | None]) -> None:
    low, high = (-np.inf if ends[0] is None else ends[0], np.inf if ends[1] is None else ends[1])
    beyond = scores[(scores < low) | (scores > high)]
    if len(beyond):
        raise SpecificationError(
            f"{len(beyond)} scores of {name} lie beyond its bounds ({_end(ends[0])}, "
            f"{_end(ends[1])}): {_numbers(np.unique(beyond))}. Give the ends of the scale, or "
            "check the export."
        )


def _refuse_codes(name: str, scores: Array) -> None:
    """Refuse codes that are not whole, too few, too many, or have gaps."""
    codes = np.unique(scores)
    parts = codes[codes != np.round(codes)]
    if len(parts):
        raise SpecificationError(
            f"ordinal= needs whole numbers as codes; {name} has {_numbers(parts)}. A mean of "
            "items is a number: leave it out of ordinal=, and give bounds= if many are at an end."
        )
    if len(codes) > MOST_CATEGORIES:
        raise SpecificationError(
            f"{name} has {len(codes)} categories; ordinal= is for up to {MOST_CATEGORIES}. Leave "
            "it out of ordinal=: so many steps are a number, with bounds= if it has ends."
        )
    if len(codes) < FEWEST_CATEGORIES:
        raise SpecificationError(
            f"{name} has {len(codes)} categories; ordinal= needs {FEWEST_CATEGORIES} or more, as "
            "its outer two cuts set location and unit."
        )
    whole = np.arange(codes[0], codes[-1] + 1.0)
    if len(whole) > len(codes):
        never = np.setdiff1d(whole, codes)
        raise SpecificationError(
            f"Nobody gave {name} the category {_numbers(never)}, so its two cuts cannot be told "
            "apart. Join it with a neighbor: recode so that the codes have no gap."
        )


def scale_flags(spec: DSEM, data: Observed) -> list[str]:
    """Say where an option does nothing, or rests on little."""
    said = []
    for j, name in enumerate(data.variables):
        scores = _seen(data.Y[:, :, j])
        if name in spec.known_bounds:
            ends = spec.known_bounds[name]
            share = float(np.isin(scores, [x for x in ends if x is not None]).mean())
            if share == 0.0:
                said.append(f"No score of {name} is at {_ends(ends)}, so its bounds do nothing.")
            elif share > MUCH:
                said.append(
                    f"{share:.0%} of the scores of {name} are at its bounds: what is said of it "
                    "rests more on the normal tail beyond than on scores."
                )
        if name in spec.ordinal:
            codes, counts = np.unique(scores, return_counts=True)
            if few := codes[counts < FEW_SCORES].tolist():
                said.append(
                    f"Fewer than {FEW_SCORES} scores of {name} are {_numbers(few)}: its cuts "
                    "there are guesses. Join it with a neighbor."
                )
    return said


def scale_sentences(spec: DSEM, data: Observed) -> list[str]:
    """Say on which scale the numbers of a fit are."""
    said = []
    for j, name in enumerate(data.variables):
        scores = _seen(data.Y[:, :, j])
        for side, end in enumerate(spec.known_bounds.get(name, ())):
            if end is not None and (share := float((scores == end).mean())) > 0.0:
                way = ("less", "more")[side]
                said.append(
                    f"{share:.0%} of the scores of {name} are {end:g} and stand for {end:g} or "
                    f"{way}; means, variances and effects are those of {name} without this end."
                )
        if name in spec.ordinal:
            codes = np.unique(scores)
            said.append(
                f"{name} is read as {len(codes)} ordered categories of a score without ends, in "
                f"points of its codes: cuts at {codes[0] + 0.5:g} and {codes[-1] - 0.5:g}, those "
                "between estimated. Means, variances and effects are those of that score."
            )
    return said


def scale_assumptions(spec: DSEM) -> tuple[str, ...]:
    """Return what must hold of scores beyond the ends of scales."""
    if not spec.known_bounds and not spec.ordinal:
        return ()
    named = listed([*spec.known_bounds, *spec.ordinal], 8)
    return (
        f"Behind the scores of {named} is a score without ends that follows the model, beyond the "
        "ends of the scale as between them; effects are those of that score.",
    )


def _seen(scores: Array) -> Array:
    return np.asarray(scores[~np.isnan(scores)])


def _end(end: float | None) -> str:
    return "None" if end is None else f"{end:g}"


def _ends(ends: tuple[float | None, float | None]) -> str:
    return " or ".join(f"{end:g}" for end in ends if end is not None)


def _numbers(values: Sequence[float] | Array) -> str:
    return listed([f"{value:g}" for value in values]).replace("'", "")
