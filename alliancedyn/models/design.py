"""What a family must know of a panel to lay out its parameters: everything but the scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]

TREND = ".trend"
TREND2 = ".trend2"


@dataclass(frozen=True)
class Design:
    """Series, items, sessions and groups of one fit.

    Parameters
    ----------
    variables : tuple of str
        The k series.
    items : tuple of str
        The p scores; the series themselves unless they have several indicators.
    series_of : tuple of int
        Series of each item.
    sessions : tuple of int
        The T session numbers.
    groups : tuple of str
        Such as ``("arm=0", "arm=1")``; empty without groups.
    sd : dict of str to float
        Standard deviation of each series and item, score points; 1 where none is known.
    """

    variables: tuple[str, ...]
    items: tuple[str, ...]
    series_of: tuple[int, ...]
    sessions: tuple[int, ...]
    groups: tuple[str, ...] = ()
    sd: dict[str, float] = field(default_factory=dict)

    @property
    def k(self) -> int:
        """Number of series."""
        return len(self.variables)

    @property
    def n_sessions(self) -> int:
        """Number T of sessions."""
        return len(self.sessions)

    @cached_property
    def elapsed(self) -> Array:
        """Sessions since the first, (T,)."""
        return np.array(self.sessions, float) - self.sessions[0]

    @cached_property
    def measured(self) -> tuple[str, ...]:
        """Series with two or more items, whose mean and scale the items set."""
        counts = np.bincount(self.series_of, minlength=self.k)
        return tuple(v for v, n in zip(self.variables, counts, strict=True) if n > 1)

    @cached_property
    def reference_items(self) -> tuple[str, ...]:
        """First item of each measured series, whose loading is 1."""
        first = [self.series_of.index(self.variables.index(v)) for v in self.measured]
        return tuple(self.items[j] for j in first)

    @cached_property
    def measured_items(self) -> tuple[str, ...]:
        """Items of the measured series."""
        owners = [self.variables[j] for j in self.series_of]
        return tuple(item for item, v in zip(self.items, owners, strict=True) if v in self.measured)

    @cached_property
    def units(self) -> dict[str, float]:
        """Unit of each series, item and growth factor, score points (per session)."""
        span = max(float(self.elapsed[-1]), 1.0)
        own = {name: self.sd.get(name, 1.0) for name in (*self.variables, *self.items)}
        for v in self.variables:
            own[v + TREND] = own[v + TREND2] = own[v] / span
            own[v + NEXT] = own[v]
        return own

    def at_every(self, slots: int) -> Index:
        """Slot of each session where there is one for all, or one each."""
        return np.arange(self.n_sessions) if slots > 1 else np.zeros(self.n_sessions, np.int64)


NEXT = ".next"
