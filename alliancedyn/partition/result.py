"""What a partition by therapist, client and session comes to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from html import escape

import pandas as pd

from alliancedyn.checking import methods_checked, named
from alliancedyn.errors import SpecificationError, people
from alliancedyn.panel import Issue
from alliancedyn.partition.select import Trend
from alliancedyn.partition.wording import identities, paragraphs, verdict
from alliancedyn.results.estimate import Estimate


@methods_checked
@named
@dataclass(frozen=True, repr=False, eq=False)
class TherapistPartition:
    """The association of process and outcome by level, and what can be said about therapists.

    Attributes
    ----------
    table : DataFrame
        Rows (version, level): version ``observed`` or ``latent`` means, level ``therapist``,
        ``client`` (within a therapist's caseload), ``session`` (within a client), ``total`` and
        ``difference`` (therapist - client, the contextual effect). Columns ``estimate``, ``se``,
        ``lower``, ``upper``, ``p_value`` (slopes, points of the outcome per point of the process;
        jackknife over therapists), ``share`` of the variance of the process at that level and
        ``contribution`` = share * slope. NaN where a slope does not exist or has no interval.
    reliability : DataFrame
        Rows ``therapist`` and ``client``: ``reliability`` of their observed means, what shares of
        the spread of these means come ``from_therapist``, ``from_client`` and ``from_session``,
        and the observed slope ``predicted`` from the latent ones beside the one ``observed``.
    components : DataFrame
        Level by ``variance`` of the process (REML, squared score points) and ``covariance`` with
        the outcome.
    issues : list of Issue
        Who was set aside or counted otherwise than recorded.
    notes : tuple of str
        Slopes or intervals that do not exist, and what the timing of the scores forbids to read.
    doubt : str
        Why nothing is said of therapists: too few of them, or differences that are not told from
        chance. Empty where the slopes are read aloud.
    process, outcome, lag, level, trend
        What was asked for.
    therapists, clients, persons, pairs, groups : int
        What the numbers rest on; ``groups`` of therapists were left out in turn.
    """

    table: pd.DataFrame
    reliability: pd.DataFrame
    components: pd.DataFrame
    issues: list[Issue]
    notes: tuple[str, ...]
    doubt: str
    process: str
    outcome: str
    lag: int
    level: float
    therapists: int
    clients: int
    persons: int
    pairs: int
    groups: int
    trend: Trend

    @cached_property
    def identity(self) -> str:
        """The sum of share * slope that gives the total slope, in numbers, for both versions."""
        return "\n".join(identities(self))

    @cached_property
    def text(self) -> str:
        """The table and its reading, in words."""
        return "\n".join(paragraphs(self))

    @cached_property
    def verdict(self) -> tuple[str, ...]:
        """What can be said of therapists and clients and what cannot, in paragraphs."""
        return verdict(self)

    def __repr__(self) -> str:
        return (
            f"TherapistPartition({self.process} -> {self.outcome}; lag={self.lag}; "
            f"{self.therapists} therapists, {people(self.clients, self.persons)})"
        )

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.text)}</pre>"

    def slope(self, level: str, version: str = "latent") -> Estimate:
        """Return one slope, or the total or difference, with its interval.

        Parameters
        ----------
        level : str
            ``"therapist"``, ``"client"``, ``"session"``, ``"total"`` or ``"difference"``.
        version : {"latent", "observed"}

        Returns
        -------
        Estimate
            NaN where the slope does not exist.

        Raises
        ------
        SpecificationError
            If the table has no such row.
        """
        if (version, level) not in self.table.index:
            rows = ", ".join(repr(row) for row in self.table.loc["observed"].index)
            raise SpecificationError(
                f"There is no slope {level!r} of {version!r} means. Levels: {rows}; "
                "versions: 'observed', 'latent'."
            )
        columns = ["estimate", "se", "lower", "upper", "p_value"]
        value, se, lower, upper, p = self.table.loc[(version, level), columns].astype(float)
        return Estimate(value, se, lower, upper, self.level, p)
