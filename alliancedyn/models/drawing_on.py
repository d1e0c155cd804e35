"""Draw on until the rule of `alliancedyn.results.posterior` holds: one way for every sampler.

A sampler hands out rounds, each with all draws so far, in ever longer chains. Another round is
asked for as long as chains disagree or have too few independent draws, and no limit is reached.
What more draws cannot mend (divergences, low energy, a mode that is not the posterior) ends it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import SpecificationError
from alliancedyn.results.posterior import EBFMI, ESS, RHAT, mixing, verdict

Array = NDArray[np.float64]
Found = TypeVar("Found")

FURTHER = 8  # times as many draws as were asked for, at most, where no limit is given
LONGEST = 600.0  # seconds that all rounds may take together, where no limit is given


@dataclass(frozen=True)
class Limit:
    """How far chains are continued.

    Parameters
    ----------
    draws : int
        Draws of each chain in the first round.
    most : int, optional
        Draws of each chain at which drawing on ends; eight times ``draws`` by default.
    seconds : float
        No round begins that would end later than this, judged by the round before.

    Raises
    ------
    SpecificationError
        If a limit means nothing.
    """

    draws: int
    most: int | None
    seconds: float

    def __post_init__(self) -> None:
        most, seconds = self.most, self.seconds
        whole = isinstance(most, int) and not isinstance(most, bool)
        if most is not None and not (whole and most >= self.draws):
            raise SpecificationError(
                f"max_draws is {most!r}; give a whole number from {self.draws} (draws=) up."
            )
        number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not (number and seconds >= 0.0):
            raise SpecificationError(
                f"max_seconds is {seconds!r}; give a number of seconds from 0 up."
            )

    @property
    def totals(self) -> tuple[int, ...]:
        """Draws of each chain at the end of each round: twice as many every time."""
        most = FURTHER * self.draws if self.most is None else self.most
        doubled = (self.draws * 2**n for n in range(64))
        return tuple(dict.fromkeys((*takewhile(lambda total: total < most, doubled), most)))


@dataclass(frozen=True)
class Judged:
    """Draws, and what is to be said of them.

    Parameters
    ----------
    names : sequence of str
        The n parameters.
    draws : (chains, draws, n)
        Raw units.
    table : DataFrame
        Of `mixing`.
    verdict : dict
        Of `alliancedyn.results.posterior.verdict`.
    notes : list of str
        That chains were continued, and why.
    """

    names: Sequence[str]
    draws: Array
    table: pd.DataFrame
    verdict: dict[str, Any]
    notes: list[str]


def draw_on(
    rounds: Iterator[Found],
    read: Callable[[Found], tuple[Sequence[str], Array, Mapping[str, Array]]],
    limit: Limit,
) -> tuple[Found, Judged]:
    """Take rounds until the draws pass, more of them would not help, or a limit is reached.

    Parameters
    ----------
    rounds : iterator
        Of a sampler, one for each of ``limit.totals``.
    read : callable
        Names, draws (chains, draws, n) in raw units and statistics of a round.
    limit : Limit

    Returns
    -------
    found : the last round
    judged : Judged
    """
    began = time.perf_counter()
    first: dict[str, Any] = {}
    totals = limit.totals
    for total in totals:
        start = time.perf_counter()
        found = next(rounds)
        names, draws, statistics = read(found)
        table = mixing(names, draws)
        said = verdict(table, statistics)
        first = first or said
        if "failure" not in said or total == totals[-1] or not _longer_helps(table, said):
            break
        now = time.perf_counter()
        if now - began + 2.0 * (now - start) > limit.seconds:
            said["failure"] += (
                f" Another round would have ended after the {limit.seconds:g} seconds that there "
                "are (max_seconds=)."
            )
            break
    notes = []
    if total > limit.draws:
        continued = f"Chains were continued from {limit.draws:,} to {total:,} draws each"
        if "failure" in said:
            said["failure"] += f" {continued}."
        else:
            notes = [f"{continued}, which met the rule for chains. {_shortfall(first)}"]
    return found, Judged(names, draws, table, said, notes)


def _longer_helps(table: pd.DataFrame, said: Mapping[str, Any]) -> bool:
    """Tell whether all that draws lack is their number."""
    stuck = said["divergences"] or "pareto_k" in said or said["ebfmi_min"] <= EBFMI
    return not stuck and bool(np.isfinite(table[["rhat", "ess_bulk", "ess_tail"]]).all(axis=None))


def _shortfall(said: Mapping[str, Any]) -> str:
    """Say what the first round lacked."""
    if said["rhat_max"] >= RHAT:
        return f"Before, they disagreed about {said['rhat_worst']} (R-hat {said['rhat_max']:.3f})."
    which = min(("ess_bulk", "ess_tail"), key=lambda one: said[f"{one}_min"])
    return (
        f"Before, {said[f'{which}_worst']} had {said[f'{which}_min']:.0f} independent draws, of "
        f"{ESS:.0f} wanted."
    )
