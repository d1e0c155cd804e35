"""Dynamic panel models by maximum likelihood (ML-SEM; Allison, Williams & Moral-Benito, 2017).

The scores of client i with an equation follow ::

    y_it = intercept_t + phi[y,y] y_{i,t-1} + phi[y,x] x_{i,t-1} + between' c_i + alpha_i + e_it

for t = 2..T. The client effect alpha_i covaries freely with the first score and with all scores
of the process and of exogenous series, as in fixed-effects regression; nothing is assumed of how
the first session came about. A *predetermined* process may answer to earlier errors of the
outcome; a strictly *exogenous* one does not. Estimation is full-information maximum likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.engine.assembly import Assembly
from alliancedyn.engine.centered import centered_layout
from alliancedyn.engine.kalman import Blocks
from alliancedyn.engine.likelihood import NOTHING, Implied, Share
from alliancedyn.engine.structural import EquationLikelihood
from alliancedyn.engine.system import Layout
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.models import equation_start
from alliancedyn.models.equation_data import (
    refuse_constant,
    refuse_repeated,
    refuse_thin,
    select_columns,
    used,
)
from alliancedyn.models.flat_sessions import refuse_flat_sessions
from alliancedyn.models.inference import fit_likelihood
from alliancedyn.models.known_lags import refuse_unknown_lags
from alliancedyn.models.panel_equations import Column, Plan
from alliancedyn.models.regression import (
    Regression,
    checked_errors,
    checked_names,
    checked_sessions,
)
from alliancedyn.models.selection import Selection
from alliancedyn.models.verdict import indefinite, tell
from alliancedyn.panel import SessionPanel
from alliancedyn.results import ClientGroup, Fit, Observed
from alliancedyn.results.model import Params, spelled

Array = NDArray[np.float64]

FEWEST_SESSIONS = 3
UNKNOWN_TIMING = (
    "when {process!r} and {outcome!r} were rated is not known, so what is new in {outcome!r} at a "
    "session is taken to have nothing to do with {process!r} at the same session. Give timing= "
    'when reading, or use feedback="same_session", which assumes less.'
)


@checked
@dataclass(frozen=True, repr=False)
class MLSEM:
    """Dynamic panel model by maximum likelihood (Allison, Williams & Moral-Benito, 2017).

    Parameters
    ----------
    process, outcome : str, optional
        The two series; by default those of the panel.
    direction : {"forward", "both"}
        One equation, of the outcome; or one of each series in a joint model, with two client
        effects and errors that covary within a session.
    process_role : {"predetermined", "exogenous"}
        Whether earlier errors of the outcome may move the process.
    exogenous : tuple of str
        Further series whose last score stands in the equations, and that nothing moves.
    covariates : tuple of str
        Client-level numbers with an effect on the outcome, uncorrelated with the client effect.
    errors_equal : bool
        Whether error variances are the same at all sessions.
    feedback : {"same_session", "next_session"}, optional
        From when on an error of the outcome may go with a predetermined process. By default the
        same session, which assumes least; the next one, as published, where timing is unknown.
    sessions : (int, int), optional
        First and last session number to use.
    starts : int
        Starting values to try; more than one are drawn around the first with ``fit(seed=...)``.
    """

    process: str | None = None
    outcome: str | None = None
    direction: Literal["forward", "both"] = "forward"
    process_role: Literal["predetermined", "exogenous"] = "predetermined"
    exogenous: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ()
    errors_equal: bool = True
    feedback: Literal["same_session", "next_session"] | None = None
    sessions: tuple[int, int] | None = field(default=None, kw_only=True)
    starts: int = field(default=1, kw_only=True)

    name: ClassVar[str] = "ML-SEM"
    splits: ClassVar[bool] = False  # scores into parts between and within clients
    assumptions: ClassVar[tuple[str, ...]] = (
        "Clients differ by a constant of their own, which may go with their first scores and with "
        "all scores of the process: no client has a trend of their own around the session "
        "intercepts.",
        "Errors are independent over sessions: whatever moves the outcome beyond the equation "
        "moves it once, and later scores only through the last one.",
        "A predetermined process may answer to past errors of the outcome, a strictly exogenous "
        "one (and every series named exogenous) does not.",
        "Covariates have nothing to do with the client effect.",
        "One session is the lag at which the series act on each other.",
        "Scores are free of measurement error, normally distributed, and missing at random given "
        "the observed scores.",
    )
    references: ClassVar[tuple[str, ...]] = (
        "Allison, P. D., Williams, R., & Moral-Benito, E. (2017). Maximum likelihood for "
        "cross-lagged panel models with fixed effects. Socius, 3.",
    )

    def __post_init__(self) -> None:
        for option, values in self.choices().items():
            if getattr(self, option) not in values:
                allowed = " or ".join(repr(value) for value in values)
                raise SpecificationError(
                    f"{option} is {getattr(self, option)!r}; choose {allowed}."
                )
        for option in ("exogenous", "covariates"):
            object.__setattr__(self, option, checked_names(option, getattr(self, option)))
        object.__setattr__(self, "sessions", checked_sessions(self.sessions))
        whole = isinstance(self.starts, int) and not isinstance(self.starts, bool)
        if not whole or self.starts < 1:
            raise SpecificationError(f"starts is {self.starts!r}; give a whole number from 1 up.")
        if self.direction == "both" and self.process_role == "exogenous":
            raise SpecificationError(
                'direction="both" explains the process by the outcome, so it cannot be strictly '
                'exogenous. Use process_role="predetermined", or direction="forward".'
            )
        if self.feedback is not None and not self._feeds_back:
            raise SpecificationError(
                f"feedback={self.feedback!r} is about a predetermined process without an equation "
                'of its own. Leave it out with direction="both" or process_role="exogenous".'
            )

    @classmethod
    def choices(cls) -> dict[str, tuple[Any, ...]]:
        """Return the values that options with a choice can take."""
        return {
            "direction": ("forward", "both"),
            "process_role": ("predetermined", "exogenous"),
            "errors_equal": (True, False),
            "feedback": (None, "same_session", "next_session"),
        }

    @property
    def _feeds_back(self) -> bool:
        return self.direction == "forward" and self.process_role == "predetermined"

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
        """Fit by full-information maximum likelihood.

        Parameters
        ----------
        panel : SessionPanel
        errors : {"observed", "robust", "cluster:therapist", "cluster:person", ...}, optional
            Standard errors: from the observed information; robust to non-normal scores
            (sandwich, with a scaled chi-square); or robust to clients of one therapist (or site,
            group, ...) not being independent. By default observed, or clustered by person where
            persons have several episodes.
        seed : int, optional
            For additional starting values.
        strict : bool
            Raise if the search does not converge; otherwise return the fit, which says so.

        Raises
        ------
        SpecificationError
            If these data cannot carry the model; the message names the remedy.
        ConvergenceError
            If ``strict`` and no maximum was found; the error holds the fit.
        """
        if errors is not None:
            errors = checked_errors(errors, Regression.known_errors)
        known = self._resolved(panel)
        selection = known._select(panel)
        data = selection.data
        likelihood = known.likelihood(data)
        known._refuse_beyond_clients(likelihood, data)
        chosen = data.variables[: 2 if self.direction == "both" else 2 + len(self.exogenous)]
        found = fit_likelihood(
            known, panel, selection, chosen, likelihood, errors, seed, False, self.starts
        )
        process, outcome = Regression(self.process, self.outcome).roles(panel)
        fit = replace(found, process=process, outcome=outcome)
        tell(fit, strict, depth=2)
        matrices = likelihood.layout.from_params(dict(fit.params))
        sources = known.plan(data).equations.sources.fill(matrices)
        fit.diagnostics["notes"] += indefinite(sources, "client effects, given scores and errors")
        if known.feedback != self.feedback and known.feedback == "next_session":
            fit.diagnostics["notes"].append(UNKNOWN_TIMING.format(process=process, outcome=outcome))
        return fit

    def __repr__(self) -> str:
        return spelled(self)

    @checked
    def loglik(self, panel: SessionPanel, params: Params) -> float:
        """Return the log-likelihood at any parameters, by canonical name."""
        likelihood = self.objective(panel)
        return likelihood.loglik(likelihood.layout.from_params(params))

    @checked
    def objective(self, panel: SessionPanel) -> EquationLikelihood:
        """Return the log-likelihood as a function of an unconstrained vector, with its score."""
        known = self._resolved(panel)
        data = known._select(panel).data
        likelihood = known.likelihood(data)
        known._refuse_beyond_clients(likelihood, data)
        return likelihood

    def observe(
        self, panel: SessionPanel, sessions: tuple[int, ...], variables: tuple[str, ...]
    ) -> Observed:
        """Return what the model sees of any panel at these sessions."""
        return self._resolved(panel)._seen(panel, sessions, few=True).data

    def groups_of(
        self, params: Params, data: Observed, variables: tuple[str, ...]
    ) -> list[ClientGroup]:
        """Return the moments of all clients at natural parameters."""
        plan = self.plan(data)
        layout = Layout(tuple(plan.blocks(dict.fromkeys(data.variables, 1.0))))
        system = plan.system(layout.from_params(params), data.variables)
        n, T = data.Y.shape[:2]
        reference = tuple(data.variables.index(v) for v in variables)
        return [ClientGroup(np.arange(n), system, np.zeros((n, T, 0)), reference)]

    def nobody(
        self, variables: tuple[str, ...], sessions: tuple[int, ...], groups: tuple[str, ...] = ()
    ) -> Observed:
        """Return a panel of these series without clients, as the model sees one."""
        columns = dict.fromkeys((*variables, *self.exogenous, *self.covariates))
        return Observed.of_nobody(tuple(columns), sessions, groups)

    def remarks(self, params: Params) -> list[str]:
        """Return what a reader should know about these estimates, in sentences."""
        return []

    # -- the parts, put together ----------------------------------------------------------------

    def plan(self, data: Observed) -> Plan:
        """Return the columns and equations of these data."""
        pair = tuple(v for v in data.variables if v in (self.process, self.outcome))
        both = self.direction == "both"
        targets = pair if both else tuple(v for v in pair if v == self.outcome)
        first, *_ = sessions = data.sessions
        given: list[Column] = [(v, first) for v in targets]
        loose = [*(v for v in pair if v not in targets), *self.exogenous]
        given += [(v, t) for v in loose for t in sessions[:-1]]
        given += [(c, None) for c in self.covariates]
        moved = []
        if self._feeds_back:
            wait = 0 if self.feedback == "same_session" else 1
            moved = [
                (t, j)
                for i, t in enumerate(sessions[1:], start=1)
                for j, (v, s) in enumerate(given)
                if v == self.process and s in sessions[i + wait :]
            ]
        return Plan(
            targets=targets,
            predictors=(*pair, *self.exogenous),
            given=tuple(given),
            covariates=self.covariates,
            sessions=sessions,
            feedback=tuple(moved),
            errors_equal=self.errors_equal,
        )

    def likelihood(self, data: Observed) -> EquationLikelihood:
        """Return the log-likelihood of observed scores, with starting values."""
        plan = self.plan(data)
        level = np.nanmean(data.Y, axis=(0, 1))
        data = replace(data, Y=data.Y - level)
        shifts = plan.shifts(dict(zip(data.variables, level.tolist(), strict=True)))
        wide = plan.wide(data.Y, data.variables)
        spread = [np.nanstd(data.Y[:, :, j]) or 1.0 for j in range(len(data.variables))]
        sd = {v: float(s) for v, s in zip(data.variables, spread, strict=True)}
        layout = Layout(tuple(plan.blocks(sd)))
        values = equation_start.start(plan, wide)
        family = Assembly(
            lambda matrices: plan.system(matrices, data.variables),
            tuple(block.key for block in layout.blocks if block.key not in ("mean", "intercept")),
        )
        share = Share(family, Blocks.pack(data.Y), np.arange(len(data.Y)))
        start = layout.theta({b.key: values[b.key].reshape(b.shape) for b in layout.blocks})
        cells, own = plan.cells(data.variables), plan.within
        implied = NOTHING if self.direction == "both" else Implied(plan.within_names, own)
        reported = centered_layout(layout, shifts) or layout
        return EquationLikelihood(
            reported, (share,), start, implied, equations=plan.equations, cells=cells
        )

    def _resolved(self, panel: SessionPanel) -> MLSEM:
        """Return the same model with roles and feedback as these data have them."""
        process, outcome = Regression(self.process, self.outcome).roles(panel)
        named = (process, outcome, *self.exogenous, *self.covariates)
        if twice := sorted({name for name in named if named.count(name) > 1}):
            raise SpecificationError(
                f"{listed(twice)} has two roles. Process, outcome, exogenous and covariates are "
                "different columns."
            )
        feedback = self.feedback
        if feedback is None and self._feeds_back:
            known = outcome in panel.timing and process in panel.timing
            feedback = "same_session" if known else "next_session"
        return replace(self, process=process, outcome=outcome, feedback=feedback)

    # -- data -----------------------------------------------------------------------------------

    def _select(self, panel: SessionPanel) -> Selection:
        selection = self._seen(panel, self.sessions)
        data = selection.data
        if len(data.sessions) < FEWEST_SESSIONS:
            raise SpecificationError(
                f"The {self.name} needs {FEWEST_SESSIONS} or more sessions; these data have "
                f"{len(data.sessions)}."
            )
        series = self.plan(data).predictors
        refuse_unknown_lags(~np.isnan(data.Y[:, :, : len(series)]), series)
        refuse_flat_sessions(data.Y[:, :, : len(series)], series, data.sessions)
        refuse_constant(self.plan(data), data)
        refuse_thin(self.plan(data), data)
        refuse_repeated(self.plan(data), data)
        return selection

    def _refuse_beyond_clients(self, likelihood: EquationLikelihood, data: Observed) -> None:
        """Refuse more free moments of predictors than there are clients to tell them from."""
        if self.direction == "forward" and (n := likelihood.layout.n_free) >= len(data.Y):
            raise SpecificationError(
                f"The {self.name} in one direction leaves {self.process!r} unrestricted, which "
                f"takes {n} parameters over {len(data.sessions)} sessions; these data have "
                f'{len(data.Y)} clients. Use direction="both", which has far fewer, or restrict '
                "sessions=(first, last)."
            )

    def _seen(
        self, panel: SessionPanel, sessions: tuple[int, ...] | None, few: bool = False
    ) -> Selection:
        """Pick clients and sessions; scores that the equations do not use count as missing."""
        pair = Regression(self.process, self.outcome).roles(panel)
        selection = select_columns(panel, pair, self.exogenous, self.covariates, sessions, few)
        return used(selection, self.plan(selection.data))
