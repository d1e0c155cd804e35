"""Dynamic structural equation model: clients with lagged effects of their own, sampled.

    y_it = m_i + C_t d_i + w_it + n_it,    w_it = Phi_i w_i,t-1 + e_it,    e_it ~ N(0, Psi_i)

Levels m_i, lagged effects Phi_i and innovation variances may differ between clients, as draws from
a population whose means, SDs and correlations are estimated. The model and its priors are written
out in :mod:`alliancedyn.engine.dsem`; levels and missing scores are part of the model, so that
there is neither the bias of centering at observed means nor a gap that is closed. What same-session
effects add, in time order or of covariates that vary over sessions, stands in
:mod:`alliancedyn.models.dsem_paths`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from alliancedyn.checking import checked
from alliancedyn.engine.dsem import Sampled
from alliancedyn.engine.dsem_mixture import ClientMixture
from alliancedyn.errors import SpecificationError
from alliancedyn.models.collinear import refuse_collinear
from alliancedyn.models.drawing_on import LONGEST, Limit, draw_on
from alliancedyn.models.dsem_checks import check_numbers
from alliancedyn.models.dsem_clients import groups_of, mixture_of
from alliancedyn.models.dsem_errors import error_notes
from alliancedyn.models.dsem_paths import (
    check_moderators,
    check_paths,
    moderator_notes,
    path_assumptions,
    path_notes,
    random_effects,
    refuse_paths,
)
from alliancedyn.models.dsem_scales import (
    Bounds,
    scale_assumptions,
    scale_sentences,
)
from alliancedyn.models.dsem_task import (
    Task,
    flags,
    predictor_means,
    raw_terms,
    readable,
    refuse_unsuitable,
    task_of,
)
from alliancedyn.models.sampled_result import sampled_fit
from alliancedyn.models.selection import Needs, Selection, select
from alliancedyn.panel import SessionPanel
from alliancedyn.results import ClientGroup, Fit, Observed
from alliancedyn.results.model import Params, spelled
from alliancedyn.results.sampling import Sampling

_CHOICES: dict[str, tuple[Any, ...]] = {
    "random_correlation": ("none", "lkj"),
    "trend": (None, "linear", "session"),
    "innovations": ("normal", "student"),
    "scale": ("within", "raw"),
    "sampler": ("auto", "gibbs", "nutpie", "pymc", "laplace"),
    "levels": (("client",), ("therapist", "client")),
    "initial": ("free", "innovation"),
}
_TUPLES = (
    "random",
    "predictors",
    "moderators",
    "levels",
    "variables",
    "sessions",
    "ordinal",
    "same",
    "lagged",
)


@checked
@dataclass(frozen=True, repr=False)
class DSEM:
    """Two-level dynamic structural equation model (Asparouhov, Hamaker & Muthén, 2018).

    Parameters
    ----------
    random : tuple of str
        What differs between clients: "intercept", and any of "trend" (slopes over sessions),
        "phi" (lagged effects), "same" (same-session effects) and "innovation" (innovation
        variances).
    random_correlation : {"none", "lkj"}
        Whether these effects correlate, all with all, or only intercepts and slopes over sessions
        with one another.
    trend : {None, "linear", "session"}
        Common course of all clients: none, a line, or a step for every session. A line where
        clients have slopes of their own, unless steps are asked for.
    predictors : tuple of str
        Client-level numbers that shift every random effect:
        ``predictor[symptoms<-alliance,severity]`` says by how much a lagged effect differs.
    measurement_var : dict of str to float or "free", optional
        Known error variances, squared score points; or estimated, where errors leave no trace at
        the next session.
    innovations : {"normal", "student"}
        Student-t innovations give less weight to single sessions far from all others.
    scale : {"within", "raw"}
        What priors speak about: scores in within-client SDs, or raw score points. Results are in
        raw score points either way.
    priors : dict, optional
        Such as {"phi": ("normal", 0, .5), "phi_sd": ("half-normal", .3)}; see ``assumptions`` of
        the fit for those in force.
    draws, tune, chains : int
        Draws kept per chain, draws before them, and chains.
    sampler : {"auto", "gibbs", "nutpie", "pymc", "laplace"}
        "auto" takes the fastest that can: the compiled Gibbs sampler where all is normal and
        errors are known, else nutpie. All draw from the same posterior; "laplace" is a quick look
        around its mode, with random intercepts alone, that says how far it can be trusted.
    variables : tuple of str, optional
        One series or more; by default all of the panel.
    sessions : (int, int), optional
        First and last session number to use.
    levels : {("client",), ("therapist", "client")}
        Whether therapists have random intercepts of their own.
    predictor_means : dict of str to float, optional
        Where predictors are centered; by default at their means over clients.
    bounds : dict of str to (float, float), optional
        Lowest and highest possible score, ``{"alliance": (1, 7)}``, None where there is no such
        end: scores there stand for all beyond (censored), and effects are those of the score
        without ends.
    ordinal : tuple of str
        Series of a few ordered categories, coded in whole numbers: the score behind them is cut at
        ``threshold[symptoms,2]``, ...; effects are those of that score.
    same : tuple of str
        Same-session effects, ``("alliance<-symptoms",)``: of a score on one that is taken later in
        the session. ``phi[...]`` are then effects given the scores of the same session,
        ``innovation_cov[...]`` what neither predicts; `Fit.effect` returns the reduced form, which
        compares with other families. A covariate that varies over sessions enters like that,
        centered at its latent mean, with its lagged effects left out by ``lagged``.
    lagged : tuple of str, optional
        Lagged effects that there are, ``("symptoms<-symptoms", "symptoms<-alliance")``; all of
        them by default.
    moderators : tuple of str
        Numbers of sessions, such as technique, with which all lagged effects into a session change,
        ``moderation[symptoms,alliance,technique]``, beside ``input[symptoms,technique]``: as
        deviations from the client's mean, so that phi is the effect there.
    moderator_session : {"outcome", "predictor"}
        Whether they are those of the session of the outcome, or of the one before.
    initial : {"free", "innovation"}
        Whether deviations at the first session have a covariance of their own, or vary as
        innovations do, as if there had been none before.
    max_draws : int, optional
        Chains that disagree, or are too short, are continued to so many draws each; by default to
        eight times ``draws``. The fit notes it. ``max_draws=draws`` leaves them as they are.
    max_seconds : float
        No chains are continued beyond this time.
    """

    random: tuple[str, ...] = ("intercept",)
    random_correlation: Literal["none", "lkj"] = "none"
    trend: Literal["linear", "session"] | None = None
    predictors: tuple[str, ...] = ()
    measurement_var: Mapping[str, float] | Literal["free"] | None = None
    innovations: Literal["normal", "student"] = "normal"
    scale: Literal["within", "raw"] = "within"
    priors: Mapping[str, tuple[Any, ...]] | None = None
    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    sampler: Literal["auto", "gibbs", "nutpie", "pymc", "laplace"] = "auto"
    variables: tuple[str, ...] | None = None
    sessions: tuple[int, int] | None = None
    levels: tuple[str, ...] = ("client",)
    predictor_means: Mapping[str, float] | None = None
    bounds: Bounds | None = None
    ordinal: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    lagged: tuple[str, ...] | None = None
    moderators: tuple[str, ...] = ()
    moderator_session: Literal["outcome", "predictor"] = "outcome"
    initial: Literal["free", "innovation"] = "free"
    max_draws: int | None = None
    max_seconds: float = LONGEST

    name: ClassVar[str] = "DSEM"
    _assumed: ClassVar[tuple[str, ...]] = (
        "Clients' levels (and lagged effects, where they are random) are draws from a normal "
        "population around the common course; no client has a trend of their own.",
        "Nothing that varies over sessions and is not in the model moves both series.",
        "One session is the lag at which the series act on each other.",
        "Scores are free of measurement error beyond what measurement_var says, and missing at "
        "random given the observed scores.",
        "The priors hold: where sessions are few they speak as loudly as the data.",
    )
    references: ClassVar[tuple[str, ...]] = (
        "Asparouhov, T., Hamaker, E. L., & Muthén, B. (2018). Dynamic structural equation models. "
        "Structural Equation Modeling, 25, 359-388.",
    )

    def __post_init__(self) -> None:
        for option in _TUPLES:  # lists compare and hash badly
            given = getattr(self, option)
            if isinstance(given, str):
                raise SpecificationError(f"{option} is {given!r}; give several, as a tuple.")
            if given is not None:
                object.__setattr__(self, option, tuple(given))
        for option, values in _CHOICES.items():
            if getattr(self, option) not in values:
                allowed = " or ".join(repr(value) for value in values)
                raise SpecificationError(
                    f"{option} is {getattr(self, option)!r}; choose {allowed}."
                )
        for option, least in (("draws", 1), ("tune", 0), ("chains", 2)):
            number = getattr(self, option)
            if not isinstance(number, int) or number < least:
                raise SpecificationError(
                    f"{option} is {number!r}; give a whole number from {least} up."
                )
        _ = self._limit  # refuses what means nothing
        object.__setattr__(self, "random", random_effects(self.random))
        if "trend" in self.random and self.trend is None:
            object.__setattr__(self, "trend", "linear")
        check_paths(self.random, self.same, self.lagged)
        check_moderators(self)
        check_numbers(self)

    # -- verbs ----------------------------------------------------------------------------------

    @checked
    def fit(
        self,
        panel: SessionPanel,
        *,
        seed: int | None = None,
        strict: bool = True,
        progress: Callable[..., Any] | None = None,
    ) -> Fit:
        """Draw from the posterior.

        Parameters
        ----------
        panel : SessionPanel
        seed : int, optional
            For the same draws again.
        strict : bool
            Raise if the draws fail the rule (R-hat, effective sample sizes, divergences, E-BFMI);
            otherwise return the fit, which says so.
        progress : callable, optional
            Told how far the sampler is.

        Raises
        ------
        SpecificationError
            If these data cannot carry the model; the message names the remedy.
        ConvergenceError
            If ``strict`` and the draws fail the rule; the error holds the fit.
        """
        began = time.perf_counter()
        selection = self._select(panel)
        task = task_of(self, selection.data)

        def read(sampled: Sampled) -> tuple[tuple[str, ...], Any, Mapping[str, Any]]:
            raw = task.units.raw(sampled.draws, task.shape, sampled.names)
            # the quick look has one chain
            return sampled.names, raw.reshape(self.chains, -1, raw.shape[-1]), sampled.statistics

        sampled, judged = draw_on(self._rounds(task, seed, progress), read, self._limit)
        flat = judged.draws.reshape(-1, judged.draws.shape[-1])
        notes = [*flags(self, selection.data), *path_notes(self, panel.timing)]
        notes += moderator_notes(self, selection.data.variables, panel.timing)
        return sampled_fit(
            self._known(selection.data),
            panel,
            selection,
            judged,
            Sampling(
                chains=self.chains,
                priors=raw_terms(task, sampled.names),
                statistics=sampled.statistics,
                effects=task.shape.effects,
                clients=task.units.raw_clients(sampled.clients, task.shape),
            ),
            sampler=sampled.sampler,
            values=readable(task, sampled.names, flat),
            notes=[*notes, *error_notes(sampled.names, flat)],
            scale=scale_sentences(self, selection.data),
            began=began,
            sampling_seconds=sampled.seconds,
            strict=strict,
            depth=2,
        )

    @checked
    def build(self, panel: SessionPanel) -> Any:
        """Return the model as a `pymc.Model`, on the scale of the priors, to read and extend."""
        from alliancedyn.models.dsem_open import build_model

        task = task_of(self, self._select(panel).data)
        return build_model(
            task.data,
            task.shape,
            task.priors,
            innovations=self.innovations,
            measurement=self._measurement,
            limits=task.limits,
            ordinal=task.cuts,
        )

    def sample(self, task: Task, seed: int | None) -> Sampled:
        """Draw from the posterior of arrays, on the scale of the priors; chains as they come."""
        return next(self._rounds(task, seed))

    def _rounds(
        self, task: Task, seed: int | None, progress: Callable[..., Any] | None = None
    ) -> Iterator[Sampled]:
        if self.engine == "gibbs":
            from alliancedyn.engine.gibbs import gibbs_rounds

            return gibbs_rounds(
                task.data, task.shape, task.priors, totals=self._limit.totals, tune=self.tune,
                chains=self.chains, seed=seed, progress=progress,
            )  # fmt: skip
        from alliancedyn.models.dsem_open import open_rounds

        return open_rounds(
            task.data, task.shape, task.priors, innovations=self.innovations,
            measurement=self._measurement, limits=task.limits, ordinal=task.cuts,
            sampler=self.engine, totals=self._limit.totals, tune=self.tune, chains=self.chains,
            seed=seed,
        )  # fmt: skip

    @property
    def _limit(self) -> Limit:
        return Limit(self.draws, self.max_draws, self.max_seconds)

    @property
    def engine(self) -> Literal["gibbs", "nutpie", "pymc", "laplace"]:
        """What draws: the fastest that can, unless one was named."""
        if self.sampler != "auto":
            return self.sampler
        return "gibbs" if self.in_blocks else "nutpie"

    @property
    def in_blocks(self) -> bool:
        """Whether the Gibbs sampler can draw it, block by block."""
        line = self.trend is not None and self.initial == "innovation"
        return self.draws_panels and "trend" not in self.random and not line

    @property
    def one_system(self) -> bool:
        """Whether all clients have one process, around levels and slopes of their own."""
        return set(self.random) <= {"intercept", "trend"} and not self.moderators

    @property
    def draws_panels(self) -> bool:
        """Whether panels can be drawn: all normal, known errors, no bounds or categories."""
        seen = not (self.known_bounds or self.ordinal or self.moderators)
        return self.innovations == "normal" and self.measurement_var != "free" and seen

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What must hold for its estimates to mean what they say."""
        clients, *others, priors = self._assumed
        if "trend" in self.random:
            clients = (
                "Clients' levels and slopes over sessions (and lagged effects, where they are "
                "random) are draws from a normal population around the common course; what a "
                "client's line leaves is change within the client."
            )
        return (clients, *others, *path_assumptions(self), *scale_assumptions(self), priors)

    @property
    def known_bounds(self) -> Bounds:
        """Ends of scales by series."""
        return self.bounds or {}

    @property
    def known_errors(self) -> Mapping[str, float]:
        """Known error variances by series."""
        given = self.measurement_var
        return given if isinstance(given, Mapping) else {}

    @property
    def _measurement(self) -> Literal["known", "free"]:
        return "free" if self.measurement_var == "free" else "known"

    # -- what results ask for -------------------------------------------------------------------

    def observe(
        self, panel: SessionPanel, sessions: tuple[int, ...], variables: tuple[str, ...]
    ) -> Observed:
        """Return what the model sees of any panel at these sessions."""
        return select(panel, replace(self.needs(), variables=variables), sessions, few=True).data

    def groups_of(
        self, params: Params, data: Observed, variables: tuple[str, ...]
    ) -> list[ClientGroup]:
        """Return the system of all clients, where only intercepts differ between them.

        Raises
        ------
        SpecificationError
            If lagged effects or innovations are random, or innovations are not normal.
        """
        return groups_of(self, params, data, variables)

    def mixture_of(
        self, params: Params, data: Observed, variables: tuple[str, ...]
    ) -> ClientMixture | None:
        """Return clients whose processes differ, None where there is one system for all.

        Raises
        ------
        SpecificationError
            If there are neither states nor forecasts: innovations are not normal, say.
        """
        return mixture_of(self, params, data, variables)

    def _select(self, panel: SessionPanel) -> Selection:
        selection = select(panel, self.needs(), self.sessions)
        refuse_collinear(selection.data.covariates, self.predictors, "predictor")
        refuse_paths(self, selection.data.variables, panel.timing)
        refuse_unsuitable(self, selection.data)
        return selection

    def needs(self) -> Needs:
        """Return what the model needs of a panel."""
        return Needs(
            variables=self.variables,
            covariates=self.predictors,
            moderators=self.moderators,
            fewest=1,
        )

    def _known(self, data: Observed) -> DSEM:
        """Return the specification with predictors centered where these clients have their mean."""
        if not self.predictors:
            return self
        return replace(self, predictor_means=predictor_means(self, data))

    def __repr__(self) -> str:
        return spelled(self)
