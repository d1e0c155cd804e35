"""What the regression families share: roles, the verb ``fit``, and equations joined into one fit.

A regression family estimates one equation for each direction from plain arrays: outcome on the
lagged scores of both series (forward) and, with ``direction="both"``, process on the same
(backward). :mod:`alliancedyn.models.equations` makes one fit of them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.engine import names
from alliancedyn.errors import SpecificationError, listed, nearest
from alliancedyn.models.equations import Equation, joined
from alliancedyn.models.flat_sessions import refuse_unchanging
from alliancedyn.models.persons import cluster_notes, usual_errors
from alliancedyn.models.selection import Needs, Selection, cluster_codes, select
from alliancedyn.models.verdict import tell
from alliancedyn.panel import SessionPanel
from alliancedyn.results import ClientGroup, Fit, Observed
from alliancedyn.results.model import Params, spelled

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

UNCHANGING = (
    "Check that the export holds a score of every session, or name another series with process= "
    "or outcome=."
)


@dataclass(frozen=True)
class Question:
    """One direction: what the scores of ``target`` are regressed on.

    Parameters
    ----------
    source, target : str
        Predictor of interest, and the series that is explained.
    data : Observed
        The clients; the two series are ``x`` and ``y``.
    errors : str
        "observed", "robust", or "cluster:...".
    panel : SessionPanel, optional
        Where they come from; None in simulations.
    clusters : (n,) int, optional
        Codes of the clusters of ``errors``.
    alone : bool
        Whether this is the only equation of the fit.
    asked : bool
        Whether these errors were asked for, or are those that are usual.
    """

    source: str
    target: str
    data: Observed
    errors: str
    panel: SessionPanel | None = None
    clusters: NDArray[np.int64] | None = None
    alone: bool = True
    asked: bool = True

    @property
    def x(self) -> Array:
        """Scores of the source, (n, T), NaN = missing."""
        return self.data.Y[:, :, self.data.variables.index(self.source)]

    @property
    def y(self) -> Array:
        """Scores of the target, (n, T), NaN = missing."""
        return self.data.Y[:, :, self.data.variables.index(self.target)]

    def before(self, variable: str) -> bool:
        """Say whether a series was rated before the session, as far as that is known."""
        return self.panel is not None and self.panel.timing.get(variable) == "before"

    def therapist_by_session(self) -> NDArray[np.int64]:
        """Return the therapist code of every client-session (n, T), -1 = none known.

        Raises
        ------
        SpecificationError
            If the panel names no therapists.
        """
        frame = None if self.panel is None else self.panel.frame
        if self.panel is None or frame is None or "therapist" not in frame:
            raise SpecificationError(
                "The panel names no therapists, so they cannot be a level. Read it with "
                'therapist=..., or use levels=("client",).'
            )
        codes = np.full((self.panel.n_clients, len(self.data.sessions)), -1)
        at = np.searchsorted(self.data.sessions, frame["session"].to_numpy())
        inside = frame["session"].isin(self.data.sessions).to_numpy()
        client = pd.Index(self.panel.clients).get_indexer(frame["client"])[inside]
        codes[client, at[inside]] = pd.factorize(frame["therapist"], sort=True)[0][inside]
        return codes[self.data.seen]

    def session_name(self, session: int) -> str:
        """Name a session effect: ``session[3]``, with two equations ``session[symptoms]@3``."""
        if self.alone:
            return names.label("session", session)
        return names.label("session", self.target, session=session)

    def random_name(self, family: str, *effects: str) -> str:
        """Name a (co)variance of random effects, those of two equations by their target."""
        if self.alone:
            return names.label(family, *effects)
        return names.label(family, *(f"{self.target}.{effect}" for effect in effects))


@dataclass(frozen=True, repr=False)
class Regression:
    """A regression family: its two roles, and the verbs.

    Parameters
    ----------
    process, outcome : str, optional
        The two series; by default those of the panel.
    direction : {"forward", "both"}
        Process -> outcome, or also outcome -> process, as a second equation of the same fit.
    sessions : (int, int), optional
        First and last session number to use.
    """

    process: str | None = None
    outcome: str | None = None
    direction: Literal["forward", "both"] = "forward"
    sessions: tuple[int, int] | None = field(default=None, kw_only=True)

    name: ClassVar[str]
    assumptions: ClassVar[tuple[str, ...]]
    references: ClassVar[tuple[str, ...]]
    known_errors: ClassVar[tuple[str, ...]] = ("observed", "robust", "cluster:therapist")
    usual_errors: ClassVar[str] = "observed"

    def __post_init__(self) -> None:
        for option, values in self.choices().items():
            if getattr(self, option) not in values:
                allowed = " or ".join(repr(value) for value in values)
                near = nearest(getattr(self, option), map(str, values))
                raise SpecificationError(
                    f"{option} is {getattr(self, option)!r}; choose {allowed}.{near}"
                )
        object.__setattr__(self, "sessions", checked_sessions(self.sessions))

    @classmethod
    def choices(cls) -> dict[str, tuple[Any, ...]]:
        """Return the values that options with a choice can take."""
        return {"direction": ("forward", "both")}

    # -- what a family says ---------------------------------------------------------------------

    def equation(self, question: Question) -> Equation:
        """Estimate one direction."""
        raise NotImplementedError

    def needs(self) -> Needs:
        """Return what the family needs of a panel beside the two series."""
        return Needs()

    @property
    def sets_course_apart(self) -> bool:
        """Whether the course that all clients share is no change within them."""
        return bool(getattr(self, "session_effects", True))

    @property
    def biased_in_short_panels(self) -> bool:
        """Whether no number is to be read without its bias, and no direction ranked."""
        return False

    def for_simulation(self) -> Regression:
        """Return the model as it is fitted to simulated scores, of which only those are known."""
        return self

    # -- verbs ----------------------------------------------------------------------------------

    @checked
    def fit(
        self,
        panel: SessionPanel,
        *,
        errors: str | None = None,
        seed: int | None = None,
        strict: bool = True,
    ) -> Fit:
        """Estimate the equation of each direction, and their joint covariance.

        Parameters
        ----------
        panel : SessionPanel
        errors : {"observed", "robust", "cluster:therapist", ...}
            Standard errors: as the model says; robust, by client; or robust to clients of one
            therapist (or site, group, ...) not being independent. By default those that are usual
            for the family, or clustered by person where persons have several episodes.
        seed : int, optional
            Not used: nothing here is drawn.
        strict : bool
            Raise if an equation could not be estimated; otherwise return the fit, which says so.

        Raises
        ------
        SpecificationError
            If these data cannot carry the model; the message names the remedy.
        ConvergenceError
            If ``strict`` and an equation has no solution; the error holds the fit.
        """
        began = time.perf_counter()
        if errors is not None:
            errors = checked_errors(errors, self.known_errors)
        process, outcome = self.roles(panel)
        needs = replace(self.needs(), variables=(process, outcome))
        selection = select(panel, needs, self.sessions)
        refuse_unchanging(selection.data.Y, selection.data.variables, UNCHANGING)
        asked = errors is not None
        errors = usual_errors(selection.data, self.usual_errors) if errors is None else errors
        clusters = _clusters(panel, selection, errors, self.known_errors)
        pairs = [(process, outcome), (outcome, process)][: 1 + (self.direction == "both")]
        equations = [
            self.equation(
                Question(
                    source, target, selection.data, errors, panel, clusters, len(pairs) == 1, asked
                )
            )
            for source, target in pairs
        ]
        fit = joined(self, panel, selection, (process, outcome), equations, errors, clusters)
        if lost := selection.sample.clients_set_aside.get("no therapist"):
            fit.diagnostics["notes"].append(f"{lost} clients have no therapist and are set aside.")
        said = str(fit.diagnostics["errors"])
        fit.diagnostics["notes"] += cluster_notes(
            panel, selection.data, said, clusters if said.startswith("cluster:") else None
        )
        fit.diagnostics["seconds"] = time.perf_counter() - began
        tell(fit, strict, depth=2)
        return fit

    def roles(self, panel: SessionPanel) -> tuple[str, str]:
        """Return process and outcome, the panel's where the model names none.

        Raises
        ------
        SpecificationError
            If they are no two series of the panel.
        """
        refuse_no_panel(panel)
        process, outcome = self.process or panel.process, self.outcome or panel.outcome
        unknown = [name for name in (process, outcome) if name not in panel.variables]
        if unknown:
            raise SpecificationError(
                f"The panel has no variable {listed(unknown)}; it has "
                f"{listed(panel.variables, 8)}. Name two with process= and outcome=."
                f"{nearest(unknown[0], panel.variables)}"
            )
        if process == outcome:
            raise SpecificationError(
                f"Process and outcome are both {process!r}. Name two series with process= and "
                "outcome=."
            )
        if shared := [name for name in self.needs().time_varying if name in (process, outcome)]:
            raise SpecificationError(
                f"{listed(shared)} cannot be a series and exogenous too. Leave it out of "
                "exogenous=."
            )
        if shared := [name for name in self.needs().moderators if name in (process, outcome)]:
            raise SpecificationError(
                f"{listed(shared)} cannot be a series of the equation and its moderator too. Leave "
                'it out of moderators=; "between" there is the client\'s own mean.'
            )
        return process, outcome

    def observe(
        self, panel: SessionPanel, sessions: tuple[int, ...], variables: tuple[str, ...]
    ) -> Observed:
        """Return what the model sees of any panel at these sessions."""
        return select(panel, replace(self.needs(), variables=variables), sessions, few=True).data

    def groups_of(
        self, params: Params, data: Observed, variables: tuple[str, ...]
    ) -> list[ClientGroup]:
        """Refuse what only a model of whole series has."""
        raise SpecificationError(
            f"The {self.name} model is a regression: it has no fit indices, forecasts, states or "
            "profile intervals. Use a model of both series, such as RICLPM()."
        )

    def __repr__(self) -> str:
        return spelled(self)


def refuse_no_panel(panel: object) -> None:
    """Refuse anything but a panel, such as the table it is read from."""
    if not isinstance(panel, SessionPanel):
        raise SpecificationError(
            f"A model is fitted to a SessionPanel, not to a {type(panel).__name__}. "
            "Make one with read_sessions() or SessionPanel.from_frame()."
        )


def checked_sessions(sessions: object) -> tuple[int, int] | None:
    """Return first and last session, refusing what are not two whole numbers."""
    if sessions is None:
        return None
    ends = tuple(sessions) if isinstance(sessions, tuple | list) else ()
    whole = [isinstance(end, int | np.integer) and not isinstance(end, bool) for end in ends]
    if len(ends) != 2 or not all(whole):
        raise SpecificationError(
            f"sessions is {sessions!r}; give the numbers of the first and the last session, such "
            "as sessions=(1, 12)."
        )
    return int(ends[0]), int(ends[1])


def checked_errors(errors: object, known: tuple[str, ...]) -> str:
    """Return the kind of errors, refusing what is no text."""
    if not isinstance(errors, str):
        raise SpecificationError(f"errors is {errors!r}; choose {listed(known, 8)}.")
    return errors


def checked_names(option: str, given: object) -> tuple[str, ...]:
    """Return the names an option holds, refusing a single text, other things and repetitions.

    Raises
    ------
    SpecificationError
        With the option and what to write.
    """
    if not isinstance(given, tuple | list):
        raise SpecificationError(
            f'{option} is {given!r}; give several, as a tuple: {option}=("...",), or () for none.'
        )
    if twice := sorted({str(name) for name in given if list(given).count(name) > 1}):
        raise SpecificationError(f"{option} names {listed(twice)} more than once. Name it once.")
    return tuple(given)


def _clusters(
    panel: SessionPanel, selection: Selection, errors: str, known: tuple[str, ...]
) -> NDArray[np.int64] | None:
    kind, _, by = errors.partition(":")
    if kind == "cluster" and by and "cluster:therapist" in known:
        return cluster_codes(panel, selection, by)
    if errors not in known or kind == "cluster":
        raise SpecificationError(f"errors is {errors!r}; choose {listed(known, 8)}.")
    return None
