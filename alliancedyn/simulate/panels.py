"""Turn a world into the session panel that a practice would have recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.errors import SpecificationError
from alliancedyn.panel import SessionPanel
from alliancedyn.simulate.arguments import as_count, as_share, factor
from alliancedyn.simulate.calendar import Episodes, Gaps
from alliancedyn.simulate.course import Setting
from alliancedyn.simulate.dynamics import Dynamics
from alliancedyn.simulate.groups import Groups
from alliancedyn.simulate.items import Items, measured
from alliancedyn.simulate.observe import (
    Dropout,
    Missing,
    apply_ceiling,
    hide_scores,
    last_sessions,
)
from alliancedyn.simulate.scores import Course, draw_course
from alliancedyn.simulate.therapists import Therapists, assign

Array = NDArray[np.float64]

ROLES = ("therapist", "day", "group", "site", "episode", "arm")
MEETING = "meeting"
GOOD_END = {"alliance": "better", "symptoms": "worse"}  # of the package's own worlds
MOST_SESSIONS = 400  # what a panel holds


@checked
def simulate(
    truth: Dynamics,
    clients: int,
    sessions: int,
    *,
    therapists: Therapists | None = None,
    groups: Groups | None = None,
    dropout: Dropout | None = None,
    missing: float | Missing = 0.0,
    gaps: Gaps | None = None,
    episodes: Episodes | None = None,
    items: Mapping[str, Items] | None = None,
    ceiling: Mapping[str, float] | None = None,
    start: Any = "stationary",
    seed: int | np.random.SeedSequence | None = None,
) -> SessionPanel:
    """Simulate a panel of clients and sessions whose true parameters are known.

    Scores, therapists, dates, missing scores and dropout draw from separate random streams: with
    the same seed, adding missing scores or dropout leaves the scores that are seen unchanged.

    Parameters
    ----------
    truth : Dynamics
        The world; it becomes ``panel.truth``.
    clients, sessions : int
        Number of clients, and of sessions planned for each (2 to 400).
    therapists : Therapists, optional
        Adds therapist differences and a column ``therapist``, with sites a column ``site``.
    groups : Groups, optional
        Adds therapy groups, whose members move each other, and a column ``group``; open ones also
        ``meeting``, the group's number of each session.
    dropout : Dropout, optional
        Who leaves early. It depends on observed scores only, except where its rule says so.
    missing : float or Missing
        Share of single scores, among sessions attended, that are missing completely at random;
        `Missing` for other reasons and for missed sessions. A session whose scores are all missing
        keeps its row.
    gaps : Gaps, optional
        Weeks between sessions; adds a column ``day``, days since the first session.
    episodes : Episodes, optional
        Clients who return; adds a column ``episode``. Each episode is a series of its own.
    items : mapping name -> Items, optional
        Questionnaires, or several raters, by which series are measured; kept items become
        variables of the panel.
    ceiling : mapping name -> number, score points, optional
        Highest possible score; what lies above is recorded as the ceiling. The parameters of
        ``truth`` describe the scores before that.
    start : "stationary" or (k, k) array, squared score points
        Covariance of the within-client deviations at session 1.
    seed : int or SeedSequence, optional
        None: a new panel each time.

    Returns
    -------
    SessionPanel
        One row per session attended.

    Raises
    ------
    SpecificationError
        If an argument is impossible.

    Examples
    --------
    >>> truth = Dynamics.time_ordered(phi_alliance=.35, phi_symptoms=.45, forward=-.12,
    ...                               backward=-.10, between_cov=[[1, -.3], [-.3, 1]])
    >>> panel = simulate(truth, clients=200, sessions=12, dropout=Dropout("well_enough"), seed=7)
    """
    clients = as_count(clients, 1, "clients")
    sessions = as_count(sessions, 2, "sessions", largest=MOST_SESSIONS)
    if not isinstance(missing, Missing):
        missing = Missing(as_share(missing, "missing"))
    streams = [np.random.default_rng(child) for child in _root(seed).spawn(8)]
    for_scores, for_therapists, for_dates, for_missing, for_dropout, *more = streams
    for_groups, for_items, for_episodes = more
    people = _people(episodes, clients, for_episodes)
    frame = _Surroundings(people, truth, sessions)
    frame.treat(therapists, for_therapists)
    frame.group(groups, for_groups)
    frame.date(gaps, episodes, for_dates)
    course = frame.run(start, for_scores)
    course = replace(course, covariates=course.covariates | frame.more)
    recorded, names, series = measured(
        course.scores, truth.variables, items, for_items, people.persons
    )
    recorded = apply_ceiling(recorded, names, ceiling)
    recorded, attended = _hidden(truth, course.scores, recorded, missing, for_missing)
    last = np.full(people.rows, sessions)
    if dropout is not None:
        watched = recorded[:, :, _watched(dropout, truth, names, series)]
        last = last_sessions(watched, dropout, for_dropout, _opened(dropout, course))
    seen = attended & (np.arange(1, sessions + 1) <= last[:, None])
    return _panel(truth, course, recorded, seen, people.columns() | frame.columns, series)


@dataclass(frozen=True)
class _People:
    """Whose series each row is: the clients, then once more those who return."""

    clients: int
    persons: NDArray[np.int64] | None

    @property
    def rows(self) -> int:
        return self.clients if self.persons is None else len(self.persons)

    def columns(self) -> dict[str, Any]:
        labels = _labels("C", self.clients)
        if self.persons is None:
            return {"client": (np.arange(self.clients), labels)}
        episode = np.repeat([0, 1], [self.clients, self.rows - self.clients])
        return {"client": (self.persons, labels), "episode": (episode, ["1", "2"])}


class _Surroundings:
    """Therapists, groups and dates around the clients, drawn one after the other."""

    def __init__(self, people: _People, truth: Dynamics, sessions: int) -> None:
        self.people, self.truth, self.sessions = people, truth, sessions
        self.columns: dict[str, Any] = {}
        self.more: dict[str, Any] = {}
        self.shifts: Array | None = None
        self.steps: NDArray[np.int64] | None = None
        self.setting = Setting(persons=people.persons)

    def treat(self, therapists: Therapists | None, rng: np.random.Generator) -> None:
        """Draw who treats whom."""
        if therapists is None:
            return
        k = len(self.truth.variables)
        load = assign(therapists, k, self.people.rows, self.sessions, rng)
        self.shifts = load.levels
        self.setting = replace(self.setting, lag_shifts=load.lags)
        self.columns["therapist"] = (load.therapist, _labels("T", therapists.n))
        if load.site is not None and therapists.sites is not None:
            self.columns["site"] = (load.site, _labels("S", therapists.sites))

    def group(self, groups: Groups | None, rng: np.random.Generator) -> None:
        """Put the clients into groups and draw the groups' levels."""
        if groups is None:
            return
        if self.people.persons is not None:
            raise SpecificationError("Groups and episodes cannot be combined: groups are closed.")
        members = groups.members(self.people.rows, self.sessions, rng)
        cov = groups.levels(len(self.truth.variables))
        levels = (rng.standard_normal((len(members.starts), len(cov))) @ factor(cov).T)[
            members.codes
        ]
        self.shifts = levels if self.shifts is None else self.shifts + levels
        self.setting = replace(self.setting, groups=groups, members=members)
        self.columns["group"] = (members.codes, _labels("G", len(members.starts)))
        if members.entry is not None:
            taken = (*self.truth.variables, *(c.name for c in self.truth.covariates))
            if MEETING in (*taken, *(e.name for e in self.truth.events)):
                raise SpecificationError(f"Open groups add a column {MEETING!r}: use other names.")
            self.more[MEETING] = members.entry[:, None] + np.arange(1.0, self.sessions + 1)

    def date(self, gaps: Gaps | None, episodes: Episodes | None, rng: np.random.Generator) -> None:
        """Draw when sessions take place; a second episode counts on from the first."""
        if gaps is None:
            return
        members = self.setting.members
        if members is None:
            weeks = gaps.draw(self.people.rows, self.sessions, rng)
        else:  # a group has one calendar
            meetings = gaps.draw(len(members.starts), members.meetings(self.sessions), rng)
            weeks = members.attended(meetings.T, self.sessions).T
        days = 7.0 * weeks
        if episodes is not None:
            days[self.people.clients :] += days.max() + 7.0 * episodes.pause
        self.columns["day"] = days
        self.steps = weeks.astype(np.int64) if gaps.per == "week" else None
        if gaps.per == "time":
            self.setting = replace(self.setting, weeks=weeks)

    def run(self, start: Any, rng: np.random.Generator) -> Course:
        """Draw the scores."""
        return draw_course(
            self.truth,
            self.people.rows,
            self.sessions,
            rng,
            start=start,
            shifts=self.shifts,
            steps=self.steps,
            setting=self.setting,
        )


def _root(seed: int | np.random.SeedSequence | None) -> np.random.SeedSequence:
    if isinstance(seed, np.random.SeedSequence):
        # A fresh copy, so that using the same sequence twice gives the same panel twice.
        return np.random.SeedSequence(
            seed.entropy, spawn_key=seed.spawn_key, pool_size=seed.pool_size
        )
    return np.random.SeedSequence(None if seed is None else as_count(seed, 0, "seed"))


def _people(episodes: Episodes | None, clients: int, rng: np.random.Generator) -> _People:
    if episodes is None:
        return _People(clients, None)
    returns = np.flatnonzero(rng.random(clients) < episodes.share)
    return _People(clients, np.concatenate([np.arange(clients), returns]))


def _hidden(
    truth: Dynamics, states: Array, recorded: Array, missing: Missing, rng: np.random.Generator
) -> tuple[Array, NDArray[np.bool_]]:
    """Return the recorded scores with gaps, and which sessions are attended, (N, T)."""
    name = truth.outcome if missing.variable is None else missing.variable
    if name not in truth.variables:
        raise SpecificationError(f"Missing looks at {name!r}, which is not among the series.")
    push = missing.push(states[:, :, truth.variables.index(name)])
    recorded = hide_scores(recorded, missing.share, rng, push)
    attended = np.ones(recorded.shape[:2], dtype=bool)
    if missing.sessions > 0.0:
        attended[:, 1:] = rng.random(attended[:, 1:].shape) >= missing.sessions
        recorded = np.where(attended[:, :, None], recorded, np.nan)
    return recorded, attended


def _watched(
    dropout: Dropout, truth: Dynamics, names: tuple[str, ...], series: Mapping[str, str]
) -> int:
    """Return the column that dropout looks at: of a series in items, its first item."""
    default = truth.process if dropout.rule == "low" else truth.outcome
    name = default if dropout.variable is None else dropout.variable
    for j, column in enumerate(names):
        if name in (column, series[column]):
            return j
    raise SpecificationError(f"Dropout looks at {name!r}, which is not among the series.")


def _opened(dropout: Dropout, course: Course) -> Array | None:
    if dropout.rule != "rupture":
        return None
    if dropout.event is not None and dropout.event not in course.events:
        raise SpecificationError(f"Dropout looks at {dropout.event!r}, which is no event.")
    name = next(iter(course.events), None) if dropout.event is None else dropout.event
    return None if name is None else course.events[name]


def _labels(prefix: str, count: int) -> list[str]:
    width = max(2, len(str(count)))
    return [f"{prefix}{i:0{width}d}" for i in range(1, count + 1)]


def _panel(
    truth: Dynamics,
    course: Course,
    recorded: Array,
    seen: NDArray[np.bool_],
    columns: dict[str, Any],
    series: dict[str, str],
) -> SessionPanel:
    first = {source: name for name, source in reversed(series.items())}
    more: dict[str, Any] = {**course.covariates, **course.events}
    if "arm" in more:  # a role of the panel: two labels
        columns = columns | {"arm": (more.pop("arm").astype(np.int64), ["0", "1"])}
    roles = {role: role if role in columns else None for role in ROLES}
    timing = dict(truth.timing or {})
    return SessionPanel.from_frame(
        _table(recorded, seen, series, columns | more),
        session="session",
        variables={name: name for name in series},
        process=first[truth.process],
        outcome=first[truth.outcome],
        covariates=tuple(more),
        timing={name: timing[source] for name, source in series.items() if source in timing},
        higher={name: GOOD_END[source] for name, source in series.items() if source in GOOD_END},
        truth=truth,
        client="client",
        therapist=roles["therapist"],
        day=roles["day"],
        group=roles["group"],
        site=roles["site"],
        episode=roles["episode"],
        arm=roles["arm"],
    )


def _table(
    recorded: Array, seen: NDArray[np.bool_], series: dict[str, str], columns: dict[str, Any]
) -> pd.DataFrame:
    """Return one row per client and session seen; a column is an array or (codes, labels)."""
    who, when = np.nonzero(seen)
    frame: dict[str, Any] = {"session": when + 1}
    frame |= {name: recorded[who, when, j] for j, name in enumerate(series)}
    for name, values in columns.items():
        # Categories, not strings: a label is then checked once per client, not once per row.
        coded = isinstance(values, tuple)
        given = values[0] if coded else values
        rows = given[who] if given.ndim == 1 else given[who, when]
        frame[name] = pd.Categorical.from_codes(rows, values[1]) if coded else rows
    return pd.DataFrame(frame)
