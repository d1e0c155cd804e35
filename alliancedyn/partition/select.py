"""Which pairs of scores a partition rests on, and who is set aside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.engine.nested import ROUNDING
from alliancedyn.engine.trends import fit_session_effects
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.panel import Issue, SessionPanel
from alliancedyn.panel.issues import about_clients

Trend = Literal["session"] | None
Array = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Selected:
    """Pairs of scores with codes of clients 0 .. I - 1 and the therapist (I,) of each."""

    a: Array
    s: Array
    client: Codes
    therapist: Codes
    issues: list[Issue]
    flat: bool = False  # one pair per client: clients and sessions are one level
    persons: int = 0  # behind the clients; fewer where some have several episodes
    absorbed: int = 0  # degrees of freedom that the shared course took of the process


def roles(
    panel: SessionPanel, process: str | None, outcome: str | None, lag: int
) -> tuple[str, str]:
    """Return process and outcome; refuse what cannot be asked."""
    if not isinstance(panel, SessionPanel):
        raise SpecificationError(
            f"therapist_partition takes a SessionPanel, not a {type(panel).__name__}. Make one "
            "with read_sessions() or SessionPanel.from_frame()."
        )
    process, outcome = process or panel.process, outcome or panel.outcome
    unknown = [name for name in (process, outcome) if name not in panel.variables]
    if unknown:
        raise SpecificationError(
            f"Not among the variables of the panel: {listed(unknown)}. "
            f"It has {', '.join(panel.variables)}."
        )
    if process == outcome:
        raise SpecificationError(f"Process and outcome are both {process!r}. Name two variables.")
    if lag not in (0, 1) or isinstance(lag, bool):
        raise SpecificationError(
            f"lag={lag!r}: use 1 (process one session before the outcome) or 0 (same session)."
        )
    return process, outcome


def select(panel: SessionPanel, process: str, outcome: str, lag: int, trend: Trend) -> Selected:
    """Return the pairs of the process at t - lag with the outcome at t, both seen."""
    arrays = panel.arrays()
    if not panel.roles["therapist"]:
        raise SpecificationError(
            "The panel has no therapist column, so nothing can be said about therapists. Name it: "
            'therapist="therapist_id".'
        )
    first, second = (panel.variables.index(name) for name in (process, outcome))
    a, s = arrays.Y[:, : arrays.Y.shape[1] - lag, first], arrays.Y[:, lag:, second]
    both = np.isfinite(a) & np.isfinite(s)
    paired = f"{process} at one session and {outcome} at the {('same', 'next')[lag]}"
    seen, known = both.any(axis=1), arrays.therapist >= 0
    used = seen & known
    if not known.any():
        raise SpecificationError("The therapist column is empty: no client has a known therapist.")
    if not seen.any():
        raise SpecificationError(
            f"No client has {paired}, so there are no pairs to relate. Check the session numbers."
        )
    therapists, therapist = np.unique(arrays.therapist[used], return_inverse=True)
    _refuse_too_few(len(therapists), int(used.sum()))
    row, place = np.nonzero(both & used[:, None])
    client = np.asarray((np.cumsum(used) - 1)[row], dtype=np.int64)
    chosen = Selected(
        a[row, place],
        s[row, place],
        client,
        therapist.astype(np.int64),
        [
            *about_clients(
                "missing-therapist",
                "warning",
                arrays.clients[seen & ~known],
                "without a known therapist: set aside",
            ),
            *about_clients(
                "no-pair-clients",
                "info",
                arrays.clients[~seen],
                f"without {paired}: set aside",
            ),
            *_switches(panel, used),
        ],
        persons=len(set(panel.persons[used])),
    )
    _refuse_constant(chosen, process, outcome)
    if trend == "session":
        chosen = _refuse_constant(_without_course(chosen, place), process, outcome)
    return _flattened(chosen, process, outcome)


def _without_course(chosen: Selected, place: Codes) -> Selected:
    """Take out of both scores what the sessions do to all clients alike.

    A course that all share moves both scores together and is no association within clients.
    """
    sessions = int(place.max()) + 1
    a, s = (fit_session_effects(y, chosen.client, place, sessions) for y in (chosen.a, chosen.s))
    return replace(
        chosen,
        a=chosen.a - a.effect[place],
        s=chosen.s - s.effect[place],
        absorbed=a.rank,
    )


def _refuse_too_few(therapists: int, clients: int) -> None:
    if therapists < 2:
        raise SpecificationError(
            f"There are scores of {therapists} therapist{'' if therapists == 1 else 's'} only: "
            "differences between therapists need two at the very least."
        )
    if therapists == clients:
        raise SpecificationError(
            f"Each of the {therapists} therapists has a single client, so therapist and client "
            "cannot be told apart. At least one therapist with two clients is needed."
        )


def _refuse_constant(chosen: Selected, process: str, outcome: str) -> Selected:
    for name, values in ((process, chosen.a), (outcome, chosen.s)):
        if _flat(values - values.mean(), values):
            raise SpecificationError(f"{name} is the same in every pair: there is no association.")
    return chosen


def _flat(deviation: Array, values: Array) -> bool:
    """Return whether deviations are nothing but rounding of the values."""
    return bool(np.abs(deviation).max() <= ROUNDING * np.abs(values).max())


def _flattened(chosen: Selected, process: str, outcome: str) -> Selected:
    """Reduce to one pair per client where the process never moves within one."""
    size = np.bincount(chosen.client)
    a, s = (np.bincount(chosen.client, y) / size for y in (chosen.a, chosen.s))
    if not _flat(chosen.a - a[chosen.client], chosen.a):
        return chosen
    issues = chosen.issues
    if size.max() > 1:
        text = (
            f"{process} never changes within a client: each client counts once, with the mean of "
            f"{outcome}, and there is no session level."
        )
        issues = [*issues, Issue("constant-series", "info", text, len(size))]
    return Selected(a, s, np.arange(len(size)), chosen.therapist, issues, flat=True)


def _switches(panel: SessionPanel, used: NDArray[np.bool_]) -> list[Issue]:
    frame, clients = panel.frame, panel.clients
    who = pd.Index(clients).get_indexer(pd.Index(frame["client"]))
    code = pd.factorize(frame["therapist"])[0]
    known = code >= 0
    lowest, highest = np.full(len(clients), len(code)), np.full(len(clients), -1)
    np.minimum.at(lowest, who[known], code[known])
    np.maximum.at(highest, who[known], code[known])
    several = (lowest < highest) & used
    text = "with more than one therapist: counted under the one of most sessions"
    return about_clients("therapist-switches", "info", clients[several], text)
