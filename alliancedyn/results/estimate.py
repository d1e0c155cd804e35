"""A number with its uncertainty, and the sample that it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor, isfinite, log10

import pandas as pd

from alliancedyn.checking import named
from alliancedyn.engine.delta import Derived
from alliancedyn.errors import SpecificationError, people

LEVEL = 0.95


@named
@dataclass(frozen=True)
class Sample:
    """What a fit was computed from, and what was set aside.

    Parameters
    ----------
    clients, sessions, rows, pairs : int
        Clients (series, where a person has several episodes), session numbers covered,
        client-sessions, and pairs of consecutive sessions used.
    clients_set_aside, rows_set_aside : dict
        Reason -> how many.
    persons : int or None
        People behind the clients; None = as many as clients.
    """

    clients: int
    sessions: int
    rows: int
    pairs: int
    clients_set_aside: dict[str, int] = field(default_factory=dict)
    rows_set_aside: dict[str, int] = field(default_factory=dict)
    persons: int | None = None

    @property
    def people(self) -> str:
        """The clients counted, with the persons behind them where some have several episodes."""
        return people(self.clients, self.persons)


@named
@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty; prints as ``-0.127 [-0.198, -0.056]``.

    Parameters
    ----------
    value, se : float
        Estimate and standard error (mean and SD over the draws of a sampled fit); ``se`` is NaN
        where none is available.
    lower, upper : float
        Limits of the interval: normal, or equal-tailed over the draws.
    level : float
        Coverage of the interval.
    p_value : float or None
        Two-sided normal p-value against zero; None for a sampled fit.
    prob_positive : float or None
        Share of the posterior draws above zero; None without draws.
    """

    value: float
    se: float
    lower: float
    upper: float
    level: float = LEVEL
    p_value: float | None = None
    prob_positive: float | None = None

    def __str__(self) -> str:
        numbers = (self.value, self.lower, self.upper)
        value, lower, upper = rounded(numbers)
        if not (isfinite(self.lower) and isfinite(self.upper)):
            return f"{value} [no interval]"
        return f"{value} [{lower}, {upper}]"


def rounded(numbers: tuple[float, ...]) -> list[str]:
    """Print numbers to three decimals, to more if all of them would round away."""
    largest = max((abs(number) for number in numbers if isfinite(number)), default=0.0)
    digits = 3 if largest == 0 or largest >= 0.01 else min(-floor(log10(largest)) + 2, 15)
    texts = [f"{number:.{digits}f}" for number in numbers]
    return [text if text.strip("-0.") else text.removeprefix("-") for text in texts]


def places_for(lower: float, upper: float) -> int:
    """Return how many places it takes to tell the ends of a span from each other and from 0."""
    ends = [abs(end) for end in (lower, upper) if end != 0.0]
    for places in range(2, 6):
        wide = upper - lower >= 2.5 * 10.0**-places or upper == lower
        if wide and all(round(end, places) != 0.0 for end in ends):
            return places
    return 6


def tabulate(derived: Derived, index: pd.Index, level: float) -> pd.DataFrame:
    """Lay derived quantities out in rows: estimate, se, lower, upper, p_value (prob_positive).

    Raises
    ------
    SpecificationError
        If ``level`` is not between 0 and 1.
    """
    bounds = derived.bounds(checked_level(level))
    columns = {
        "estimate": derived.values,
        "se": derived.se,
        "lower": bounds[:, 0],
        "upper": bounds[:, 1],
    }
    positive = derived.prob_positive()
    if positive is None:
        columns["p_value"] = derived.p_values()
    else:
        columns["prob_positive"] = positive
    return pd.DataFrame(columns, index=index)


def estimates(derived: Derived, level: float) -> list[Estimate]:
    """Return derived quantities one by one."""
    rows = tabulate(derived, pd.RangeIndex(len(derived.values)), level).to_dict("records")
    return [
        Estimate(
            value=row["estimate"],
            se=row["se"],
            lower=row["lower"],
            upper=row["upper"],
            level=level,
            p_value=row.get("p_value"),
            prob_positive=row.get("prob_positive"),
        )
        for row in rows
    ]


def checked_level(level: float) -> float:
    """Return ``level`` if it can be the coverage of an interval."""
    if not isinstance(level, int | float) or not 0.0 < level < 1.0:
        raise SpecificationError(f"level={level!r}: give a coverage between 0 and 1, such as 0.95.")
    return level
