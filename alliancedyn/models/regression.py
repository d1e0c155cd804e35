"""What the regression families share: roles, the verb ``fit``, and equations joined into one fit.

A regression family estimates one equation for each direction from plain arrays: outcome on the
lagged scores of both series (forward) and, with ``direction="both"``, process on the same
(backward). The covariance between two equations comes from what each client contributes to both
(:mod:`alliancedyn.engine.stacking`), and so does that with the within-client variances by which
effects are standardized.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.engine import names
from alliancedyn.engine.delta import Freedom
from alliancedyn.engine.maximise import outer_products
from alliancedyn.engine.stacking import StackedFreedom, joint_covariance
from alliancedyn.errors import ConvergenceError, InferenceWarning, SpecificationError, listed
from alliancedyn.models.selection import Needs, Selection, cluster_codes, select
from alliancedyn.panel import SessionPanel
from alliancedyn.results import ClientGroup, Fit, Observed, Sample
from alliancedyn.results.model import Params

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

NO_PAIR = "no session with all terms of the equation"


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
    """

    source: str
    target: str
    data: Observed
    errors: str
    panel: SessionPanel | None = None
    clusters: NDArray[np.int64] | None = None
    alone: bool = True

    @property
    def x(self) -> Array:
        """Scores of the source, (n, T), NaN = missing."""
        return self.data.Y[:, :, self.data.variables.index(self.source)]

    @property
    def y(self) -> Array:
        """Scores of the target, (n, T), NaN = missing."""
        return self.data.Y[:, :, self.data.variables.index(self.target)]

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


@dataclass(frozen=True, kw_only=True)
class Equation:
    """An estimated equation.

    Parameters
    ----------
    names : tuple of str
        The q effects, canonical names.
    estimates, cov : (q,), (q, q)
        Effects and their covariance under the errors asked for.
    shares : (n, q)
        Every client's first-order share in the estimates.
    used : (n, T) bool
        Client-sessions that entered as outcomes.
    rows_set_aside : dict
        Reason -> how many client-sessions with a score of the outcome did not.
    variances : dict
        Variance parameters by canonical name.
    variance_cov : (r, r), optional
        Their covariance; NaN without one.
    units : (n,) int, optional
        Codes of the clients who are not independent in the model itself.
    freedom : Freedom, optional
        Degrees of freedom of contrasts of the effects; infinite without it.
    loglik : float, optional
    failure : str, optional
        Why the estimates are none.
    boundary, notes : tuple of str
        What to read before any number.
    diagnostics : dict
        More, by family.
    """

    names: tuple[str, ...]
    estimates: Array
    cov: Array
    shares: Array
    used: Mask
    rows_set_aside: dict[str, int] = field(default_factory=dict)
    variances: dict[str, float] = field(default_factory=dict)
    variance_cov: Array | None = None
    units: NDArray[np.int64] | None = None
    freedom: Freedom | None = None
    loglik: float | None = None
    failure: str | None = None
    boundary: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    diagnostics: dict[str, Any] = field(default_factory=dict)


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
                raise SpecificationError(
                    f"{option} is {getattr(self, option)!r}; choose {allowed}."
                )

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

    def for_simulation(self) -> Regression:
        """Return the model as it is fitted to simulated scores, of which only those are known."""
        return self

    # -- verbs ----------------------------------------------------------------------------------

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
            for the family.
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
        errors = self.usual_errors if errors is None else errors
        process, outcome = self.roles(panel)
        needs = replace(self.needs(), variables=(process, outcome))
        selection = select(panel, needs, self.sessions)
        clusters = _clusters(panel, selection, errors, self.known_errors)
        pairs = [(process, outcome), (outcome, process)][: 1 + (self.direction == "both")]
        equations = [
            self.equation(
                Question(source, target, selection.data, errors, panel, clusters, len(pairs) == 1)
            )
            for source, target in pairs
        ]
        fit = _joined(self, panel, selection, (process, outcome), equations, errors, clusters)
        fit.diagnostics["seconds"] = time.perf_counter() - began
        _report(fit, strict)
        return fit

    def roles(self, panel: SessionPanel) -> tuple[str, str]:
        """Return process and outcome, the panel's where the model names none.

        Raises
        ------
        SpecificationError
            If they are no two series of the panel.
        """
        if not isinstance(panel, SessionPanel):
            raise SpecificationError(
                f"A model is fitted to a SessionPanel, not to a {type(panel).__name__}. "
                "Make one with read_sessions() or SessionPanel.from_frame()."
            )
        process, outcome = self.process or panel.process, self.outcome or panel.outcome
        unknown = [name for name in (process, outcome) if name not in panel.variables]
        if unknown:
            raise SpecificationError(
                f"The panel has no variable {listed(unknown)}; it has "
                f"{listed(panel.variables, 8)}. Name two with process= and outcome=."
            )
        if process == outcome:
            raise SpecificationError(
                f"Process and outcome are both {process!r}. Name two series with process= and "
                "outcome=."
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
        given = [
            f"{entry.name}={getattr(self, entry.name)!r}"
            for entry in fields(self)
            if getattr(self, entry.name) != entry.default
        ]
        return f"{type(self).__name__}({', '.join(given)})"


# -- from equations to a fit ---------------------------------------------------------------------


def _joined(
    model: Regression,
    panel: SessionPanel,
    selection: Selection,
    roles: tuple[str, str],
    equations: list[Equation],
    errors: str,
    clusters: NDArray[np.int64] | None,
) -> Fit:
    """Put the equations of one fit together; the first is that of the outcome."""
    data, main = selection.data, equations[0]
    clusters = main.units if clusters is None else clusters
    spread = within_variances(data, clusters)
    params, cov = _stacked([*equations, spread], errors == "observed", clusters)
    targets = [roles[1], roles[0]]
    failures = [e.failure for e in equations if e.failure is not None]
    diagnostics: dict[str, Any] = {
        "errors": errors,
        "gradient": 0.0,
        "condition": float(np.linalg.cond(_scaled(main.cov))),
        "boundary": _said([e.boundary for e in equations], targets),
        "notes": _said([e.notes for e in equations], targets),
        "pairs": {t: int(e.used.sum()) for t, e in zip(targets, equations, strict=False)},
        **main.diagnostics,
    }
    if failures:
        diagnostics["failure"] = " ".join(failures)
    if len(equations) > 1:
        diagnostics["backward"] = dict(equations[1].diagnostics)
    return Fit(
        model=model,
        params=params,
        cov=cov,
        sample=_sample(selection.sample, equations),
        diagnostics=diagnostics,
        loglik=main.loglik if len(equations) == 1 else None,
        n_params=sum(len(e.names) + len(e.variances) for e in equations),
        converged=not failures,
        variables=data.variables,
        process=roles[0],
        outcome=roles[1],
        timing={v: panel.timing[v] for v in data.variables if v in panel.timing},
        sessions=data.sessions,
        freedom=_freedom(equations),
        data=data,
    )


def _freedom(equations: list[Equation]) -> StackedFreedom | None:
    """Return the degrees of freedom of all contrasts, None if they are infinite."""
    if all(e.freedom is None for e in equations):
        return None
    ends = np.cumsum([len(e.names) for e in equations]).tolist()
    return StackedFreedom(
        tuple((end - len(e.names), end, e.freedom) for e, end in zip(equations, ends, strict=True))
    )


def _stacked(
    equations: list[Equation], modeled: bool, clusters: NDArray[np.int64] | None
) -> tuple[pd.Series, pd.DataFrame]:
    """Return all parameters and their covariance, effects first.

    Effects and variances of a normal model are uncorrelated by theory; nothing else that was not
    estimated is filled in: it is NaN.
    """
    effects = [name for e in equations for name in e.names]
    variances = [name for e in equations for name in e.variances]
    q, r = len(effects), len(variances)
    cov = np.full((q + r, q + r), np.nan)
    cov[:q, :q] = joint_covariance(
        [e.cov for e in equations], [e.shares for e in equations], clusters
    )
    at, row = q, 0
    for e in equations:
        n = len(e.variances)
        if e.variance_cov is not None:
            cov[at : at + n, at : at + n] = e.variance_cov
        if modeled:
            own = slice(row, row + len(e.names))
            cov[own, at : at + n] = cov[at : at + n, own] = 0.0
        at, row = at + n, row + len(e.names)
    values = [*np.concatenate([e.estimates for e in equations])]
    values += [value for e in equations for value in e.variances.values()]
    index = pd.Index([*effects, *variances])
    return (
        pd.Series(values, index=index, name="estimate", dtype=float),
        pd.DataFrame(cov, index=index, columns=index),
    )


def within_variances(data: Observed, clusters: NDArray[np.int64] | None = None) -> Equation:
    """Estimate both variances within clients: pooled squares around the clients' own means.

    V = S / D with S = sum (y_it - mean_i)^2 and D = sum (T_i - 1) over clients; the share of a
    client in the error of V is (S_i - V D_i) / D.
    """
    values, shares = [], []
    for j in range(len(data.variables)):
        scores = data.Y[:, :, j]
        seen = ~np.isnan(scores)
        n = seen.sum(axis=1)
        mean = np.where(seen, scores, 0.0).sum(axis=1) / np.maximum(n, 1)
        squares = np.where(seen, (scores - mean[:, None]) ** 2, 0.0).sum(axis=1)
        freedom = np.maximum(n - 1, 0)
        if not freedom.any():
            raise SpecificationError(
                f"No client has two scores of {data.variables[j]!r}, so nothing is known of change "
                "within clients. Add sessions, or widen sessions=(first, last)."
            )
        value = squares.sum() / freedom.sum()
        values.append(value)
        shares.append((squares - value * freedom) / freedom.sum())
    stacked = np.column_stack(shares)
    return Equation(
        names=tuple(names.label("within_var", v) for v in data.variables),
        estimates=np.array(values),
        cov=outer_products(stacked, clusters),
        shares=stacked,
        used=np.zeros(data.Y.shape[:2], bool),
    )


def _sample(selected: Sample, equations: list[Equation]) -> Sample:
    """Count what entered: clients and client-sessions of either equation."""
    used: Mask = np.any([e.used for e in equations], axis=0)
    clients = int(used.any(axis=1).sum())
    without = selected.clients - clients
    aside = {**selected.clients_set_aside, **({NO_PAIR: without} if without else {})}
    rows = int(equations[0].used.sum())
    return replace(
        selected,
        clients=clients,
        rows=rows,
        pairs=rows,
        clients_set_aside=aside,
        rows_set_aside={**selected.rows_set_aside, **equations[0].rows_set_aside},
    )


def _said(sentences: list[tuple[str, ...]], targets: list[str]) -> list[str]:
    """Return what the equations say, by target where there are two."""
    if len(sentences) == 1:
        return list(sentences[0])
    return [
        f"{target}: {sentence}"
        for own, target in zip(sentences, targets, strict=True)
        for sentence in own
    ]


def _scaled(cov: Array) -> Array:
    d = np.sqrt(np.where(np.diag(cov) > 0.0, np.diag(cov), 1.0))
    return np.asarray(cov / d / d[:, None])


def _clusters(
    panel: SessionPanel, selection: Selection, errors: str, known: tuple[str, ...]
) -> NDArray[np.int64] | None:
    kind, _, by = errors.partition(":")
    if kind == "cluster" and by and "cluster:therapist" in known:
        return cluster_codes(panel, selection, by)
    if errors not in known or kind == "cluster":
        raise SpecificationError(f"errors is {errors!r}; choose {listed(known, 8)}.")
    return None


def _report(fit: Fit, strict: bool) -> None:
    """Raise or warn where a person is looking; a study reads the diagnostics instead."""
    if not strict:
        return
    if not fit.converged:
        raise ConvergenceError(
            f"{fit.model.name}: {fit.diagnostics['failure']} Use strict=False to look at it.", fit
        )
    for sentence in [*fit.diagnostics["boundary"], *fit.diagnostics["notes"]]:
        warnings.warn(f"{fit.model.name}: {sentence}", InferenceWarning, stacklevel=3)
