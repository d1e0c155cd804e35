"""Multilevel regression of one series on the lagged deviations and the means of the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.engine import names
from alliancedyn.errors import SpecificationError
from alliancedyn.models.equations import Equation
from alliancedyn.models.moderators import Moderator, moderator_of
from alliancedyn.models.multilevel import mixed_equation
from alliancedyn.models.regression import Question, Regression, checked_names
from alliancedyn.models.rows import Terms, centered, client_means, lagged, therapist_means
from alliancedyn.models.selection import FEWEST_CLIENTS, Needs

Array = NDArray[np.float64]

Mask = NDArray[np.bool_]
Codes = NDArray[np.int64]

NO_THERAPIST = "no therapist at that session"
BETWEEN = "between"  # as a moderator: the client's own mean
_CENTERED = (
    "{term} is left out: clients' means of {name!r} differ by rounding at most, so it was centered "
    "on them before and nothing is known of what clients' levels go with. Use the scores as rated."
)
_LATE = (
    "{name!r} moderates as it was at the session of the outcome, and {target!r} was rated before "
    'that session. If it is of the session itself, use moderator_session="predictor".'
)


@checked
@dataclass(frozen=True, repr=False)
class WithinBetween(Regression):
    """Within-between multilevel regression: what a client's deviations, and means, go with.

    For client i at session t, with deviations from the client's mean over all observed sessions::

        y_it = intercept + phi[y,x] (x_i,t-1 - mean_i x) + phi[y,y] (y_i,t-1 - mean_i y)
               + between[y,x] mean_i x + trend (t - first) + u_i + e_it

    u_i ~ N(0, random_cov), with slopes of lagged terms or of the trend; e_it ~ N(0, residual_var).
    Person means use later sessions: with few sessions the lagged effects are biased, those of the
    lagged outcome most, and the two directions unequally. ``bias_diagnosis`` says by how much.

    Parameters
    ----------
    process, outcome, direction, sessions
        As in :class:`~alliancedyn.models.regression.Regression`.
    lag : {"previous_session", "nearest_earlier"}
        The score of the previous session number, or the last one before, however long ago.
    lagged_outcome : {"within", "none"}
        The lagged outcome as the deviation from the client's mean, or not at all.
    random_slopes : tuple of str
        Lagged terms whose effects differ between clients, by the series' name, or "trend".
    trend : {"linear", "session", None}
        A straight line over sessions, an effect of every session, or neither.
    levels : ("client",) or ("therapist", "client")
        Whether therapists have random intercepts of their own. Clients who changed therapists
        belong to each of them for the sessions they had there; clients without any (a control arm)
        have no such intercept.
    between : {"client", "therapist"}
        The effect of the client's mean, or of the therapist's mean (over clients) and of the
        client's difference from it.
    residuals : {"independent", "ar1"}
        Correlated as ``residual_ar`` to the power of the difference between session numbers.
    moderators : tuple of str
        Numbers by which phi[y,x] differs, ``moderation[y,x,severity]``. Of clients: taken as they
        are, so that phi is the effect where they are 0. Of sessions (a covariate that changes, or
        another variable of the panel, such as technique): their deviation from the client's mean,
        beside its own effect ``input[y,technique]`` and that of the mean; phi is the effect at the
        client's mean. "between" is the client's own mean of x, centered at the mean over clients
        (trait x state).
    moderator_session : {"outcome", "predictor"}
        Whether a moderator that changes over sessions is that of the session of y, or of the
        session before, where x is taken from.
    covariates : tuple of str
        Client-level numbers with an effect of their own.
    method : {"reml", "ml"}
        Restricted or full maximum likelihood.
    """

    lag: Literal["previous_session", "nearest_earlier"] = "previous_session"
    lagged_outcome: Literal["within", "none"] = "within"
    random_slopes: tuple[str, ...] = ()
    trend: Literal["linear", "session"] | None = "linear"
    levels: tuple[str, ...] = ("client",)
    residuals: Literal["independent", "ar1"] = "independent"
    moderators: tuple[str, ...] = ()
    moderator_session: Literal["outcome", "predictor"] = "outcome"
    covariates: tuple[str, ...] = ()
    method: Literal["reml", "ml"] = "reml"
    between: Literal["client", "therapist"] = "client"

    name: ClassVar[str] = "Within-between"
    assumptions: ClassVar[tuple[str, ...]] = (
        "The client's mean over all sessions stands for what is stable; later sessions are part "
        "of it, so that lagged effects are biased where sessions are few.",
        "Nothing that varies over sessions and is not in the model moves both series.",
        "A change acts at the next session.",
        "Random effects and residuals are normally distributed and unrelated to the predictors.",
        "Scores are free of measurement error; sessions missing at random given those observed.",
    )
    references: ClassVar[tuple[str, ...]] = (
        "Bell, A., & Jones, K. (2015). Explaining fixed effects: Random effects modeling of "
        "time-series cross-sectional and panel data. Political Science Research and Methods, 3, "
        "133-153.",
        "Hamaker, E. L., & Grasman, R. P. P. P. (2015). To center or not to center? Investigating "
        "inertia with a multilevel autoregressive model. Frontiers in Psychology, 5, 1492.",
    )

    def __post_init__(self) -> None:
        if str(self.lagged_outcome) == "raw":
            raise SpecificationError(
                "A raw lagged outcome beside a centered process mixes two kinds of effects, and "
                "can turn the sign of a lagged effect (+.11 at 5 sessions where the truth is "
                '-.15). Use lagged_outcome="within".'
            )
        for option in ("random_slopes", "levels", "moderators", "covariates"):
            object.__setattr__(self, option, checked_names(option, getattr(self, option)))
        super().__post_init__()
        if self.between == "therapist" and "therapist" not in self.levels:
            raise SpecificationError(
                'between="therapist" needs therapists as a level: levels=("therapist", "client").'
            )

    @classmethod
    def choices(cls) -> dict[str, tuple[Any, ...]]:
        """Return the values that options with a choice can take."""
        return {
            **super().choices(),
            "lag": ("previous_session", "nearest_earlier"),
            "lagged_outcome": ("within", "none"),
            "trend": ("linear", "session", None),
            "levels": (("client",), ("therapist", "client")),
            "residuals": ("independent", "ar1"),
            "method": ("reml", "ml"),
            "moderator_session": ("outcome", "predictor"),
            "between": ("client", "therapist"),
        }

    @property
    def sets_course_apart(self) -> bool:
        """Whether the course that all clients share is no change within them."""
        return self.trend is not None

    @property
    def biased_in_short_panels(self) -> bool:
        """Person means make it so."""
        return True

    def needs(self) -> Needs:
        """Return what the model needs of a panel beside the two series."""
        numbers = tuple(name for name in self.moderators if name != BETWEEN)
        return Needs(
            covariates=self.covariates,
            moderators=numbers,
            therapist=self.between == "therapist",
        )

    def for_simulation(self) -> WithinBetween:
        """Return the model without therapists, whom simulated scores do not have."""
        return replace(self, levels=("client",), between="client")

    def equation(self, question: Question) -> Equation:
        """Estimate one direction by a linear mixed model."""
        terms, therapist = self.terms_and_therapists(question)
        _refuse_nothing(terms, question, self)
        return mixed_equation(self, question, terms, therapist)

    def terms_and_therapists(self, question: Question) -> tuple[Terms, Codes | None]:
        """Return the terms of one direction, and the therapist of every client-session."""
        therapist = question.therapist_by_session() if "therapist" in self.levels else None
        return self.terms(question, therapist), therapist

    def terms(self, question: Question, therapist: Codes | None = None) -> Terms:
        """Return all terms of one direction at every client-session."""
        x, y, nearest = question.x, question.y, self.lag == "nearest_earlier"
        source, target = question.source, question.target
        mean_x, mean_y = client_means(x)[:, None], client_means(y)[:, None]
        before_x, before_y = lagged(x, nearest) - mean_x, lagged(y, nearest) - mean_y
        columns = {names.label("intercept", target): np.ones((1, 1))}
        columns[names.label("phi", target, source)] = before_x
        reasons = {_missing(source, nearest): np.isnan(before_x)}
        if self.lagged_outcome == "within":
            columns[names.label("phi", target, target)] = before_y
            reasons[_missing(target, nearest)] = np.isnan(before_y)
        if therapist is not None:  # clients without any have no effect of one
            some = (therapist >= 0).any(axis=1, keepdims=True) | (self.between == "therapist")
            reasons[NO_THERAPIST] = (therapist < 0) & some
        notes: list[str] = []
        columns |= self._means(question, mean_x, therapist, notes)
        moderating = self._moderating(question, reasons, notes)
        columns |= self._courses(question, reasons)
        columns |= self._of_clients(question, before_x, mean_x, moderating)
        return Terms(y, columns, reasons, tuple(notes))

    def _means(
        self, question: Question, mean_x: Array, therapist: Codes | None, notes: list[str]
    ) -> dict[str, Array]:
        """Return the client's mean, or the therapist's and the client's difference from it."""
        source, target = question.source, question.target
        between = names.label("between", target, source)
        if centered(question.x):
            if BETWEEN in self.moderators:
                raise SpecificationError(
                    f'moderators= names "between", and clients do not differ in {source!r}: its '
                    "means over clients were taken out. Leave it out, or use the scores as rated."
                )
            notes.append(_CENTERED.format(term=between, name=source))
            return {}
        if self.between == "client" or therapist is None:
            return {between: mean_x}
        shared = therapist_means(mean_x[:, 0], therapist)
        return {between: mean_x - shared, names.label("between_therapist", target, source): shared}

    def _courses(self, question: Question, reasons: dict[str, Mask]) -> dict[str, Array]:
        """Return the line over sessions, or an effect of every session but the first used."""
        sessions = np.array(question.data.sessions, float)[None]
        if self.trend == "linear":
            return {names.label("trend", question.target): sessions - sessions[0, 0]}
        if self.trend is None:
            return {}
        used = Terms(question.y, {}, reasons).used.any(axis=0)
        return {
            question.session_name(int(number)): (sessions == number).astype(float)
            for number in sessions[0, used][1:]
        }

    def _moderating(
        self, question: Question, reasons: dict[str, Mask], notes: list[str]
    ) -> dict[str, Moderator]:
        """Return the moderators that are columns; add why sessions or terms are left out."""
        target, at_outcome = question.target, self.moderator_session == "outcome"
        nearest = self.lag == "nearest_earlier"
        found = {}
        for name, values in zip(self.needs().moderators, question.data.inputs.T, strict=True):
            own = found[name] = moderator_of(values.T, question.x, nearest, at_outcome)
            if own.changes:
                where = "at that session" if at_outcome else "at the session before"
                reasons[f"no {name} {where}"] = np.isnan(own.by)
                if at_outcome and question.before(target):
                    notes.append(_LATE.format(name=name, target=target))
            if own.level is None:
                notes.append(_CENTERED.format(term=names.label("between", target, name), name=name))
        return found

    def _of_clients(
        self,
        question: Question,
        before_x: Array,
        mean_x: Array,
        moderating: dict[str, Moderator],
    ) -> dict[str, Array]:
        """Return covariates, moderators and what moderators change."""
        source, target = question.source, question.target
        known = zip(self.covariates, question.data.covariates.T, strict=True)
        columns = {names.label("between", target, name): x[:, None] for name, x in known}
        for name, moderator in moderating.items():
            if moderator.level is not None:
                columns[names.label("between", target, name)] = moderator.level
            if moderator.changes:
                columns[names.label("input", target, name)] = moderator.by
        for name in self.moderators:
            by = moderating[name].by if name != BETWEEN else mean_x - np.nanmean(mean_x)
            columns[names.label("moderation", target, source, name)] = before_x * by
        return columns


def _missing(variable: str, nearest: bool) -> str:
    where = "at any earlier session" if nearest else "at the session before"
    return f"no score of {variable} {where}"


def _refuse_nothing(terms: Terms, question: Question, model: WithinBetween) -> None:
    """Refuse data in which too few client-sessions have all terms."""
    used = terms.used
    rows, clients = int(used.sum()), int(used.any(axis=1).sum())
    if clients >= FEWEST_CLIENTS and rows > clients:
        return
    if "therapist" in model.levels and (lost := terms.set_aside().get(NO_THERAPIST, 0)):
        raise SpecificationError(
            f"{rows} sessions of {clients} clients have a therapist and all terms of the equation; "
            f'{lost} others have no therapist. Use levels=("client",), or fill the column in.'
        )
    remedy = 'lag="nearest_earlier"' if model.lag == "previous_session" else "more sessions"
    raise SpecificationError(
        f"{rows} sessions of {clients} clients have a score of {question.target!r} and all terms "
        f"of the equation one session before; {FEWEST_CLIENTS} clients, some with two such "
        f"sessions, are the least. Use {remedy}, or check the session numbers."
    )
