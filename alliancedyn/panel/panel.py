"""The panel: one row per client and session, checked once and trusted from then on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn import __version__
from alliancedyn.checking import checked, methods_checked, named
from alliancedyn.errors import DataError, identified, listed, nearest, people
from alliancedyn.panel.chronology import elapsed, since_first
from alliancedyn.panel.client_level import changing, one_value_each
from alliancedyn.panel.identifiers import natural
from alliancedyn.panel.issues import Issue, counted
from alliancedyn.panel.mapping import ROLES, Code, build_mapping, check_columns
from alliancedyn.panel.table import Table, as_pandas, plain
from alliancedyn.panel.validate import Content, validate

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Arrays:
    """A panel as arrays: clients in panel order, sessions consecutive.

    Parameters
    ----------
    Y : (N, T, k) float array, score points
        Last axis in the order of ``variables``; NaN = missing.
    days : (N, T) float array, days
        Since the client's first dated row; NaN where unseen or undated.
    clients : (N,) object array of str
    sessions : (T,) int64 array
        From the first to the last observed session number.
    therapist : (N,) int64 array
        Code of the client's most frequent therapist (ties: the first seen); -1 = unknown.
    therapists : tuple of str
        The ids that the codes index.
    variables : tuple of str
    """

    Y: Array
    days: Array
    clients: NDArray[np.object_]
    sessions: Codes
    therapist: Codes
    therapists: tuple[str, ...]
    variables: tuple[str, ...]


@methods_checked
@checked
class SessionPanel:
    """One row per client and session, with what is known about it.

    Made by `read_sessions`, `SessionPanel.from_frame` or `simulate`; never changed afterwards.
    Whatever it hands out is a copy, except for the cached `arrays`.

    Attributes
    ----------
    variables : tuple of str
        Names of the scores.
    process, outcome : str
        The two variables whose order in time is asked about.
    timing : dict
        Variable to ``"before"`` or ``"after"`` the session; a missing key is unknown.
    higher : dict
        Variable to ``"better"`` or ``"worse"``: what a higher score means for the client; a
        missing key is unknown.
    issues : list of Issue
        What was found, assumed, repaired.
    flow : DataFrame
        Rows and clients after each step of reading.
    provenance : dict
        File name, hash, mapping, version.
    truth : object or None
        What generated a simulated panel.
    """

    def __init__(self, content: Content, provenance: Mapping[str, Any], truth: Any = None) -> None:
        self._content = content
        self._provenance = dict(provenance)
        self._truth = truth

    @classmethod
    @named
    def from_frame(
        cls,
        frame: Any,
        *,
        client: str | None = None,
        session: str | None = None,
        variables: Mapping[str, str] | Sequence[str] | None = None,
        process: str | None = None,
        outcome: str | None = None,
        therapist: str | None = None,
        date: str | None = None,
        day: str | None = None,
        group: str | None = None,
        site: str | None = None,
        episode: str | None = None,
        arm: str | None = None,
        covariates: Sequence[str] | Mapping[str, str] = (),
        timing: Mapping[str, str] | None = None,
        higher: Mapping[str, str] | None = None,
        missing_codes: Sequence[Code] | Mapping[str, Sequence[Code]] = (),
        ranges: Mapping[str, tuple[float, float]] | None = None,
        duplicates: str | None = None,
        order: str | None = None,
        episode_gap: float | None = None,
        single_items: Sequence[str] = (),
        decimal: str | None = None,
        day_first: bool | None = None,
        date_format: str | None = None,
        truth: Any = None,
    ) -> SessionPanel:
        """Make a panel from a data frame, with the same checks as `read_sessions`.

        Rows in messages are positions from 0, as ``frame.iloc`` counts.

        Parameters
        ----------
        frame : DataFrame
            pandas, or any frame that narwhals understands if narwhals is installed. Left as it is.
        client, session, variables, process, outcome, therapist, date, day, group, site, episode, \
arm, covariates, timing, higher, missing_codes, ranges, duplicates, order, episode_gap, \
single_items, decimal, day_first, date_format
            As in `read_sessions`.
        truth : object, optional
            What generated the data.

        Returns
        -------
        SessionPanel

        Raises
        ------
        DataError
            If the data or what is said about them cannot be used as they are.
        """
        said = {
            **{"client": client, "session": session, "variables": variables, "process": process},
            **{"outcome": outcome, "therapist": therapist, "date": date, "day": day},
            **{"group": group, "site": site, "episode": episode, "arm": arm, "timing": timing},
            **{"covariates": covariates, "missing_codes": missing_codes, "ranges": ranges},
            **{"duplicates": duplicates, "order": order, "episode_gap": episode_gap},
            **{"higher": higher, "decimal": decimal, "single_items": single_items},
            **{"day_first": day_first, "date_format": date_format},
        }
        mapping = build_mapping(said)
        frame = as_pandas(frame)
        header = [str(name) for name in frame.columns]
        columns = check_columns(mapping, header)
        if not len(frame):
            raise DataError("The frame has no rows.")
        own = frame.iloc[:, [header.index(column) for column in columns]].reset_index(drop=True)
        own.columns = pd.Index(columns)
        table = Table(plain(own), np.arange(len(own), dtype=np.int64), tuple(header))
        provenance = {"file": None, "alliancedyn": __version__, "rows": len(own)}
        return cls(validate(table, mapping), provenance | {"mapping": mapping.to_dict()}, truth)

    @property
    def frame(self) -> pd.DataFrame:
        """Canonical columns, sorted by client and session; a copy."""
        return self._content.frame.copy()

    @property
    def n_clients(self) -> int:
        """Number of clients (with episodes: of series)."""
        return len(self._content.clients)

    @property
    def persons(self) -> NDArray[np.object_]:
        """Id of the person behind each client (series), (N,); one person may have several."""
        return self._content.persons.copy()

    @property
    def n_persons(self) -> int:
        """Number of persons; fewer than clients where some have several episodes."""
        return len(set(self._content.persons))

    @property
    def people(self) -> str:
        """The clients counted, with the persons behind them where some have several episodes."""
        return people(self.n_clients, self.n_persons)

    @property
    def n_sessions(self) -> int:
        """Number of sessions from the first to the last observed number."""
        return len(self.sessions)

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the scores."""
        return self._content.variables

    @property
    def process(self) -> str:
        """Name of the process variable."""
        return self._content.process

    @property
    def outcome(self) -> str:
        """Name of the outcome variable."""
        return self._content.outcome

    @property
    def timing(self) -> dict[str, str]:
        """When each variable was rated; a missing key is unknown."""
        return dict(self._content.timing)

    @property
    def higher(self) -> dict[str, str]:
        """Whether a higher score is better or worse; a missing key is unknown."""
        return dict(self._content.higher)

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Declared lowest and highest possible score by variable, score points."""
        return dict(self._content.ranges)

    @property
    def covariates(self) -> tuple[str, ...]:
        """Names of the covariates."""
        return self._content.covariates

    @property
    def roles(self) -> dict[str, bool]:
        """Whether each role has a column."""
        return {role: role in self._content.frame for role in ROLES}

    @property
    def clients(self) -> NDArray[np.object_]:
        """Client ids in panel order, (N,)."""
        return self._content.clients.copy()

    @property
    def sessions(self) -> Codes:
        """Consecutive session numbers from the first to the last observed, (T,)."""
        numbers = self._content.frame["session"]
        return np.arange(int(numbers.min()), int(numbers.max()) + 1, dtype=np.int64)

    @property
    def issues(self) -> list[Issue]:
        """What was found, assumed and repaired."""
        return list(self._content.issues)

    @property
    def flow(self) -> pd.DataFrame:
        """Rows and clients after each step of reading."""
        return self._content.flow.copy()

    @property
    def provenance(self) -> dict[str, Any]:
        """File name, hash, size, mapping and version behind the panel."""
        return dict(self._provenance)

    @property
    def truth(self) -> Any:
        """What generated a simulated panel, else None."""
        return self._truth

    def arrays(self) -> Arrays:
        """Return the panel as arrays; computed once and read-only.

        Returns
        -------
        Arrays
        """
        return self._arrays

    @cached_property
    def _arrays(self) -> Arrays:
        content, sessions = self._content, self.sessions
        shape = (len(content.clients), len(sessions))
        cell = content.codes * shape[1] + (content.frame["session"].to_numpy() - sessions[0])
        Y = np.full((shape[0] * shape[1], len(content.variables)), np.nan)
        Y[cell] = content.frame[list(content.variables)].to_numpy(np.float64)
        days = np.full(shape[0] * shape[1], np.nan)
        clock = next((name for name in ("day", "date") if name in content.frame), None)
        if clock is not None:
            days[cell] = since_first(elapsed(content.frame, clock), content.codes)
        therapist, therapists = self._primary_therapist()
        for shared in (Y, days, therapist):  # cached: a write would change every later fit
            shared.flags.writeable = False
        return Arrays(
            Y=Y.reshape(*shape, -1),
            days=days.reshape(shape),
            clients=content.clients.copy(),
            sessions=sessions,
            therapist=therapist,
            therapists=therapists,
            variables=content.variables,
        )

    def _primary_therapist(self) -> tuple[Codes, tuple[str, ...]]:
        """Return the most frequent therapist of each client, ties to the first seen."""
        frame, codes = self._content.frame, self._content.codes
        primary = np.full(self.n_clients, -1, dtype=np.int64)
        if "therapist" not in frame:
            return primary, ()
        seen, names = pd.factorize(frame["therapist"])
        order = sorted(range(len(names)), key=lambda i: natural(str(names[i])))
        place = np.empty(len(names), np.int64)
        place[order] = np.arange(len(names))
        known = seen >= 0
        keys = codes[known] * max(len(names), 1) + place[seen[known]]
        pairs, first, counts = np.unique(keys, return_index=True, return_counts=True)
        who, which = np.divmod(pairs, max(len(names), 1))
        best = np.lexsort((first, -counts, who))
        top = best[np.diff(who[best], prepend=-1) > 0]
        primary[who[top]] = which[top]
        return primary, tuple(str(names[i]) for i in order)

    def client_values(self, name: str) -> NDArray[Any]:
        """Return one value per client of a client-level column.

        Parameters
        ----------
        name : str
            ``"person"``, ``"therapist"`` (the most frequent), ``"group"``, ``"site"``, ``"arm"``,
            ``"episode"`` or a covariate.

        Returns
        -------
        (N,) array in panel order
            Float for numeric covariates (NaN = unknown), else object (None = unknown).

        Raises
        ------
        DataError
            If the panel has no such column, or it changes over a client's sessions.
        """
        if name == "person" and name not in self.covariates:
            return self.persons
        frame = self._content.frame
        known = [n for n in ("therapist", "group", "site", "arm", "episode") if n in frame]
        if name not in (*known, *self.covariates):
            have = ["person", *known, *self.covariates]
            raise DataError(
                f"The panel has no column {name!r} per client. It has {listed(have, 8)}. Name it "
                f"when reading, as a role or in covariates=.{nearest(name, have)}"
            )
        if name == "therapist":
            arrays = self.arrays()
            return np.array([*arrays.therapists, None], object)[arrays.therapist]
        content = self._content
        return one_value_each(name, frame[name], content.codes, content.clients)

    def changing(self, name: str) -> bool:
        """Say whether a column has more than one known value in some client."""
        if name not in self._content.frame:
            raise DataError(f"The panel has no column {name!r}.{nearest(name, self.frame)}")
        return bool(len(changing(self._content.frame[name], self._content.codes)))

    def with_scores(self, scores: pd.DataFrame, note: Issue) -> SessionPanel:
        """Return the same rows with other scores, such as detrended ones.

        Parameters
        ----------
        scores : DataFrame
            A column per variable in score points, rows as in ``panel.frame``; NaN = missing.
        note : Issue
            What was done, kept with the new panel.

        Returns
        -------
        SessionPanel

        Raises
        ------
        DataError
            If rows or columns do not match, or a score is infinite.
        """
        missing = [name for name in self.variables if name not in scores]
        if missing or len(scores) != len(self._content.frame):
            raise DataError(
                f"New scores need the columns {listed(self.variables, 8)} and "
                f"{counted(len(self._content.frame), 'row')}, as panel.frame has."
            )
        frame = self.frame
        for name in self.variables:
            frame[name] = scores[name].to_numpy(np.float64)
        if np.isinf(frame[list(self.variables)].to_numpy()).any():
            raise DataError("New scores hold infinite values. Use NaN for missing scores.")
        issues = (*self._content.issues, note)
        content = replace(self._content, frame=frame, issues=issues, ranges={})
        return SessionPanel(content, self._provenance, self._truth)

    def subset(self, clients: Collection[str]) -> SessionPanel:
        """Return the panel of some clients, in panel order; issues and flow stay those of reading.

        Parameters
        ----------
        clients : collection of str

        Returns
        -------
        SessionPanel

        Raises
        ------
        DataError
            If a client is unknown or none is left.
        """
        wanted = {str(client) for client in clients}
        unknown = sorted(wanted - set(self._content.clients))
        if unknown or not wanted:
            said = f"The panel has no client {identified(unknown)}." if unknown else None
            raise DataError(said or "Name some clients.")
        kept = np.array([client in wanted for client in self._content.clients], bool)
        place = np.cumsum(kept) - 1
        rows = kept[self._content.codes]
        content = replace(
            self._content,
            frame=self._content.frame[rows].reset_index(drop=True),
            clients=self._content.clients[kept],
            persons=self._content.persons[kept],
            codes=place[self._content.codes[rows]].astype(np.int64),
        )
        return SessionPanel(content, self._provenance, self._truth)

    @property
    def summary(self) -> str:
        """Clients, sessions, rows, scores with their timing, and roles, in one line."""
        rows, sessions = counted(len(self._content.frame), "row"), self.sessions
        timing = self._content.timing
        names = ", ".join(f"{v} ({timing.get(v, 'timing unknown')})" for v in self.variables)
        roles = f"process {self.process!r}, outcome {self.outcome!r}"
        return f"{self.people}, sessions {sessions[0]}-{sessions[-1]}, {rows}; {names}; {roles}"

    def __repr__(self) -> str:
        return f"SessionPanel({self.summary})"

    def _repr_html_(self) -> str:
        head = self._content.frame.head(5).to_html(index=False)
        return f"<p><b>{escape(repr(self))}</b></p><p>See panel.issues.</p>{head}"

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the cached arrays, which are quickly made again."""
        return {key: value for key, value in self.__dict__.items() if key != "_arrays"}
