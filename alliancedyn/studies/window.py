"""Which sessions a ladder of models can hold, and which models where no run of them will do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alliancedyn.errors import at_sessions
from alliancedyn.models.flat_sessions import same_for_all
from alliancedyn.models.selection import CLIENTS_PER_SESSION
from alliancedyn.panel import SessionPanel
from alliancedyn.studies.families import FAMILIES, Family, Window

Array = NDArray[np.float64]

FEWEST = 3  # sessions that most models need
# What can be fitted without a mean for every session: the course that all share is left in, or
# taken for a straight line.
SPARING = ("ri-clpm-equal-means", "lcm-sr-straight-means", "ct-session-straight-means")


def well_seen(panel: SessionPanel) -> tuple[Window | None, list[str]]:
    """Find the longest run of sessions in which enough clients have each score, and differ in it.

    Returns
    -------
    window : (int, int) or None
        First and last session; None if that is all of them, or if there is no such run.
    notes : list of str
        What is left out, in words.
    """
    sessions, Y = _scores(panel)
    first, stop = _longest(Y)
    if stop - first == len(sessions) or len(sessions) < FEWEST:
        return None, []
    if stop - first < FEWEST:
        return None, _scattered(panel, sessions, Y)
    scored = np.count_nonzero(~np.isnan(Y).all(axis=2), axis=0)
    outside = int(scored.sum() - scored[first:stop].sum())
    window = int(sessions[first]), int(sessions[stop - 1])
    same = [int(sessions[t]) for t in np.flatnonzero(same_for_all(Y).any(axis=1))]
    flat = f" At {at_sessions(same)} all clients have the same score." if same else ""
    note = (
        f"The models hold sessions {window[0]} to {window[1]}; the panel runs from {sessions[0]} "
        f"to {sessions[-1]}. Outside, some session is seen by fewer than {CLIENTS_PER_SESSION} "
        f"clients, too few for a mean of its own, or has scores that do not vary.{flat} "
        f"{outside:,} rows with scores are left out. Choose others with sessions=(first, last), on "
        "the command line --sessions first-last."
    )
    return window, [note]


def able(panel: SessionPanel, families: list[Family]) -> list[Family]:
    """Add models without a mean for every session where no run of sessions has such means."""
    sessions, Y = _scores(panel)
    first, stop = _longest(Y)
    if stop - first >= FEWEST or len(sessions) < FEWEST:
        return families
    asked = [*families, *(FAMILIES[key] for key in SPARING)]
    known = [family for family in FAMILIES.values() if family in asked]
    return [*known, *(family for family in families if family not in known)]


def _scores(panel: SessionPanel) -> tuple[NDArray[np.int64], Array]:
    """Return session numbers (T,) and the scores of process and outcome, (N, T, 2)."""
    arrays = panel.arrays()
    pair = [arrays.variables.index(name) for name in (panel.process, panel.outcome)]
    return arrays.sessions, arrays.Y[:, :, pair]


def _longest(Y: Array) -> tuple[int, int]:
    """Return the places of the longest run of sessions that can have means, (first, stop)."""
    counts = (~np.isnan(Y)).sum(axis=0)
    enough = (counts >= CLIENTS_PER_SESSION).all(axis=1) & ~same_for_all(Y).any(axis=1)
    edges = np.flatnonzero(np.diff(np.r_[False, enough, False].astype(np.int64)))
    starts, stops = edges[::2], edges[1::2]
    if not len(starts):
        return 0, 0
    longest = int(np.argmax(stops - starts))
    return int(starts[longest]), int(stops[longest])


def _scattered(panel: SessionPanel, sessions: NDArray[np.int64], Y: Array) -> list[str]:
    """Say at which sessions a series was scored that was not scored at all of them."""
    enough = (~np.isnan(Y)).sum(axis=0) >= CLIENTS_PER_SESSION
    said = []
    for j, name in enumerate((panel.process, panel.outcome)):
        if not enough[:, j].all():
            at = [int(s) for s in sessions[enough[:, j]]]
            where = f"{at_sessions(at)} alone" if at else "no session"
            said.append(f"{name!r} is scored by {CLIENTS_PER_SESSION} or more clients at {where}")
    if not said:
        return []
    return [
        f"{'; '.join(said)} (the panel runs from {sessions[0]} to {sessions[-1]}). Models with a "
        'mean for every session cannot be fitted; those with means="equal" or a straight course, '
        "and continuous time, can, and are added. With equal means, a course that all clients "
        "share is mixed into the lagged effects."
    ]
