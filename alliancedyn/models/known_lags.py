"""Which powers of the lag matrix the ratings can know: none is estimated that they cannot."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.gaps import common_gap, turned
from alliancedyn.errors import SpecificationError, listed

Flags = NDArray[np.bool_]

SMOOTH = 'ContinuousTime(time="session"), which takes the smoothest course between sessions'


def refuse_unknown_lags(seen: Flags, series: tuple[str, ...]) -> None:
    """Refuse ratings that have the same likelihood at several matrices of lagged effects.

    Parameters
    ----------
    seen : (N, T, k)
        Which scores there are, by session number.
    series : tuple of str
        The k series.

    Raises
    ------
    SpecificationError
        With what the ratings know, and the remedy.
    """
    refuse_apart(seen, series)
    if (gap := common_gap(seen)) == 0:
        raise SpecificationError(
            "No client has scores at two sessions, so nothing is known of change. Check the client "
            "column and the session numbers, or widen sessions=(first, last)."
        )
    if gap > 1:
        raise SpecificationError(
            f"No two scores of a client are one session apart: all gaps are multiples of {gap} "
            f"sessions. So effects over one session are not identified: the data know those over "
            f"{gap}, phi to the power {gap}, and several phi have that power"
            f"{', with either sign' if gap % 2 == 0 else ''}. Number the sessions anew, so that "
            f"{gap} become one (session // {gap}) and phi is the effect over {gap} sessions, or "
            f"use {SMOOTH}."
        )
    if (found := turned(seen)) is not None:
        ones, others = _sides(found[1], series)
        raise SpecificationError(
            f"Within every client, scores of one series lie an even number of sessions apart, and "
            f"those of {listed(ones)} an odd number from those of {listed(others)}. So effects "
            "over one session are not identified: with the signs of all autoregressions reversed "
            "they have the same likelihood. Number pairs of scores from neighboring sessions "
            f"alike, or use {SMOOTH}."
        )


def refuse_apart(seen: Flags, series: tuple[str, ...]) -> None:
    """Refuse series that no client has together.

    Raises
    ------
    SpecificationError
        With the series and the remedy.
    """
    if (found := turned(seen)) is not None and not found[0]:
        ones, others = _sides(found[1], series)
        raise SpecificationError(
            f"No client has scores of both {listed(ones)} and {listed(others)}, so that nothing "
            "is known of how they go together. Check the export, or leave a series out with "
            "variables=(...)."
        )


def _sides(signs: tuple[int, ...], series: tuple[str, ...]) -> tuple[list[str], list[str]]:
    pairs = list(zip(series, signs, strict=True))
    return [v for v, sign in pairs if sign > 0], [v for v, sign in pairs if sign < 0]


def between_sessions(seen: Flags) -> list[str]:
    """Say where effects over one session are read off a course that nobody saw."""
    if (gap := common_gap(seen)) < 2:
        return []
    return [
        f"no two scores of a client are one session apart: all gaps are multiples of {gap} "
        f"sessions. Effects over fewer than {gap} are those of the smoothest course between."
    ]
