"""Readings of a sampled process, draw by draw, without repeating what is the same for all.

A function of the parameters is evaluated at every draw. Its most costly part is nearly always the
within-client SD, which takes an eigenvalue problem and a linear system; here these are solved for
all draws at once, and a draw looks its own up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.engine import var
from alliancedyn.engine.delta import Derived
from alliancedyn.engine.lagged import STATIONARY, LaggedForm
from alliancedyn.results.model import Params

Array = NDArray[np.float64]


class Draw(dict[str, float]):
    """The parameters of one draw, and which draw it is."""

    place: int


@dataclass(frozen=True)
class DrawnForm(LaggedForm):
    """A lagged process whose within SDs are known at every draw of ``drawn``."""

    drawn: pd.DataFrame | None = field(default=None, compare=False, repr=False)
    known: dict[str | None, Array] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of_draws(cls, form: LaggedForm, draws: pd.DataFrame) -> DrawnForm:
        """Return a process together with the draws of its parameters."""
        return cls(**{one.name: getattr(form, one.name) for one in fields(form)}, drawn=draws)

    def within_sd(self, p: Mapping[str, float], basis: str) -> Array:
        """Return the within-client standard deviations (k,), score points."""
        simple = basis == STATIONARY and self.order == 1 and "ma" not in self.families
        if not isinstance(p, Draw) or self.drawn is None or not simple:
            return super().within_sd(p, basis)
        if self.group not in self.known:
            self.known[self.group] = self._all_sds(self.drawn)
        return np.asarray(self.known[self.group][p.place])

    def _all_sds(self, draws: pd.DataFrame) -> Array:
        """Return the stationary SDs (D, k); the process settles in every draw."""
        k = len(self.variables)
        phi, psi = self.settling(draws).reshape(-1, k, k), self.spread(draws)
        variance = np.diagonal(var.stationary_cov(phi, psi), axis1=1, axis2=2)
        return np.sqrt(np.where(variance >= 0, variance, np.nan))


def collected(
    function: Callable[[Params], Array], draws: pd.DataFrame, names: Sequence[str]
) -> Derived:
    """Evaluate ``function`` at every draw (D, n)."""
    found = []
    for place, row in enumerate(draws.to_numpy(dtype=float).tolist()):
        one = Draw(zip(names, row, strict=True))
        one.place = place
        found.append(np.atleast_1d(np.asarray(function(one), dtype=float)))
    values = np.stack(found)
    return Derived(values.mean(axis=0), np.atleast_2d(np.cov(values, rowvar=False)), values)
