"""How long a study will still take, said beside what is being done."""

from __future__ import annotations

import time
from collections.abc import Callable

from alliancedyn.replicate import Progress

MINUTE, HOUR = 60.0, 3600.0


def told_with_time_left(
    progress: Progress | None, clock: Callable[[], float] = time.monotonic
) -> Progress | None:
    """Return a progress that adds, to what is being done, how long the rest will take.

    The rest is taken to go at the mean pace since the first call: what a checkpoint knew
    already counts for nothing.

    Parameters
    ----------
    progress : callable, optional
        Who listens; None if nobody does.
    clock : callable
        Returns the time in seconds.
    """
    if progress is None:
        return None
    first: list[tuple[int, float]] = []

    def told(done: int, total: int, doing: str) -> None:
        now = clock()
        if not first:
            first.append((done, now))
        at_first, began = first[0]
        if done > at_first and done < total:
            seconds = (now - began) * (total - done) / (done - at_first)
            doing = f"{doing}, {in_words(seconds)} left"
        progress(done, total, doing)

    return told


def in_words(seconds: float) -> str:
    """Say how long something takes, as precisely as one wants to know."""
    if seconds < MINUTE:
        return f"{max(round(seconds), 1)} s"
    if seconds < 100.0 * MINUTE:
        return f"{round(seconds / MINUTE)} min"
    return f"{seconds / HOUR:.1f} h"
