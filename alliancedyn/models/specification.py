"""What the state-space families share: their options and the verbs ``fit``, ``loglik``, ....

A family says three things: which parameters it has (:meth:`Specification.blocks`), what system of
series they make (:meth:`Specification.assemble`), and where to start. Covariates, several
indicators, measurement error, groups, the likelihood, its maximum and the result are the same for
all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import starting
from alliancedyn.engine.assembly import Assembly
from alliancedyn.engine.kalman import Blocks, StateSpace
from alliancedyn.engine.likelihood import NOTHING, Family, Implied, Likelihood, Share, of_group
from alliancedyn.engine.system import Block, Layout, Matrices
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.models.design import Design
from alliancedyn.models.inference import fit_likelihood
from alliancedyn.models.measurement import (
    covariate_blocks,
    measurement_blocks,
    observe,
    push,
    start_measurement,
)
from alliancedyn.models.moderation import Moderated, moderation_blocks
from alliancedyn.models.selection import Needs, Selection, refuse_thin_sessions, select
from alliancedyn.panel import SessionPanel
from alliancedyn.results import ClientGroup, Fit, Observed

Array = NDArray[np.float64]
Same = Literal["equal", "free"]
Params = Mapping[str, float]

_CHOICES = {
    "lags": ("equal", "free"),
    "innovations": ("equal", "free"),
    "means": ("free", "equal"),
    "initial": ("free", "stationary"),
    "order": (1, 2),
    "loadings": ("equal", "free"),
    "item_intercepts": ("free", "equal"),
}
_TUPLES = (
    *("variables", "sessions", "covariates", "moderators", "time_varying"),
    "equal_across_groups",
)
_SHARED = {
    "lags": ("phi", "phi2", "step", "ma", "self", "coupling", "moderation", "drift"),
    "innovations": ("innovation_cov", "diffusion_cov"),
    "means": ("mean", "intercept", "trend", "trend2", "item_intercept"),
    "between": ("between_cov", "between", "unit_loading", "basis"),
    "initial": ("initial_cov", "initial_mean"),
    "measurement": ("loading", "measurement_var"),
}


@dataclass(frozen=True, repr=False)
class Specification:
    """Options shared by the state-space families.

    Parameters
    ----------
    variables : tuple of str, optional
        Two or more series; by default all of the panel, in its order.
    lags, innovations : {"equal", "free"}
        Lagged effects and innovation covariances: one for all sessions, or one into each.
    means : {"free", "equal"}
        A mean for every session, or one for all.
    initial : {"free", "stationary"}
        The first session's within covariance: its own, or that at which the process settles.
    order : {1, 2}
        How many sessions back lagged effects reach.
    step : int, optional
        Session number from which on the cross-lags are others, by ``step[...]``.
    covariates : tuple of str
        Client-level numbers that shift the stable parts.
    moderators : tuple of str
        Client-level numbers by which lagged effects differ, ``moderation[...]``.
    time_varying : tuple of str
        Session-level numbers that push the series at their session; the lags carry it on.
    group : str, optional
        Client-level column: every group gets parameters of its own.
    equal_across_groups : tuple of str
        Which are the same in all groups: "lags", "means", "innovations", "between", "initial",
        "measurement".
    indicators : dict of str to list of str, optional
        Items of the series that have several.
    loadings, item_intercepts : {"equal", "free"}
        Whether items measure the same way at every session.
    measurement_var : dict of str to float, "free" or "equal", optional
        Error variances, squared score points: known, estimated (for items by session, or one for
        all sessions), or by default none for single scores and estimated for items.
    reliability : dict of str to float, optional
        Known reliabilities, which fix error variances at (1 - reliability) times the observed
        variance around the session means.
    sessions : (int, int), optional
        First and last session number to use.
    starts : int
        Starting values to try; more than one are drawn around the first with ``fit(seed=...)``.
    """

    variables: tuple[str, ...] | None = None
    lags: Same = "equal"
    innovations: Same = "equal"
    means: Literal["free", "equal"] = "free"
    initial: Literal["free", "stationary"] = "free"
    order: Literal[1, 2] = 1
    step: int | None = None
    covariates: tuple[str, ...] = ()
    moderators: tuple[str, ...] = ()
    time_varying: tuple[str, ...] = ()
    group: str | None = None
    equal_across_groups: tuple[str, ...] = ()
    indicators: Mapping[str, list[str]] | None = None
    loadings: Same = "equal"
    item_intercepts: Same = "equal"
    measurement_var: Mapping[str, float] | str | None = None
    reliability: Mapping[str, float] | None = None
    sessions: tuple[int, int] | None = None
    starts: int = 1

    name: ClassVar[str]
    assumptions: ClassVar[tuple[str, ...]]
    references: ClassVar[tuple[str, ...]]
    fewest_sessions: ClassVar[int] = 2

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_combinations()

    # -- what a family says ---------------------------------------------------------------------

    def blocks(self, design: Design) -> list[Block]:
        """Return the family's own parameters."""
        raise NotImplementedError

    def assemble(self, matrices: Matrices, design: Design) -> StateSpace:
        """Return the system of the series; see :mod:`alliancedyn.engine.assembly` for the rules."""
        raise NotImplementedError

    def start(self, rough: starting.Moments, design: Design) -> Matrices:
        """Return starting values of the family's own parameters from rough moments."""
        raise NotImplementedError

    def static(self, design: Design) -> tuple[str, ...]:
        """Return what the stable states are called: those that covariates shift."""
        return ()

    def bends(self) -> tuple[str, ...]:
        """Return the parameters by which the derivative of the system is not constant."""
        return ()

    def moves_loads(self) -> bool:
        """Say whether loadings depend on parameters."""
        return False

    def implied(self, design: Design) -> Implied:
        """Return parameters that are reported but not free."""
        return NOTHING

    # -- verbs ----------------------------------------------------------------------------------

    def fit(
        self,
        panel: SessionPanel,
        *,
        errors: str = "observed",
        seed: int | None = None,
        strict: bool = True,
    ) -> Fit:
        """Fit by full-information maximum likelihood.

        Parameters
        ----------
        panel : SessionPanel
        errors : {"observed", "robust", "cluster:therapist", ...}
            Standard errors: from the observed information; robust to non-normal scores
            (sandwich, with a scaled chi-square); or robust to clients of one therapist (or site,
            group, ...) not being independent.
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
        selection = self._select(panel)
        known = self._with_known_errors(selection)
        likelihood = known.likelihood(selection.data)
        variables, _ = self._series(selection.data.variables)
        return fit_likelihood(
            known, panel, selection, variables, likelihood, errors, seed, strict, self.starts
        )

    def loglik(self, panel: SessionPanel, params: Params) -> float:
        """Return the log-likelihood at any parameters, by canonical name."""
        selection = self._select(panel)
        known = self._with_known_errors(selection)
        likelihood = known.likelihood(selection.data)
        return likelihood.loglik(known.matrices(params, known.design(selection.data)))

    def objective(self, panel: SessionPanel) -> Likelihood:
        """Return the log-likelihood as a function of an unconstrained vector, with its score."""
        selection = self._select(panel)
        return self._with_known_errors(selection).likelihood(selection.data)

    def observe(
        self, panel: SessionPanel, sessions: tuple[int, ...], variables: tuple[str, ...]
    ) -> Observed:
        """Return what the model sees of any panel at these sessions."""
        needs = self._needs()
        if needs.variables is None:
            needs = replace(needs, variables=variables)
        return select(panel, needs, sessions, few=True).data

    def groups_of(
        self, params: Params, data: Observed, variables: tuple[str, ...]
    ) -> list[ClientGroup]:
        """Return the systems of all clients at natural parameters, one for each group."""
        design = self.design(data)
        matrices = self.matrices(params, design)
        found = []
        for label, rows in data.rows_by_group():
            system = self.family(design, data, rows).system(of_group(matrices, label))
            inputs = self._inputs(data)[rows]
            first = tuple(design.series_of.index(j) for j in range(design.k))
            found.append(ClientGroup(rows, system, inputs, first, label))
        return found

    def state_space(
        self, params: Params, variables: tuple[str, ...], sessions: tuple[int, ...]
    ) -> StateSpace:
        """Return the system matrices at natural parameters, for models without groups."""
        nobody = Observed.of_scores(
            np.empty(0, object), sessions, variables, np.empty((0, len(sessions), len(variables)))
        )
        (group,) = self.groups_of(params, nobody, variables)
        return group.system

    # -- the parts, put together ----------------------------------------------------------------

    def layout(self, design: Design) -> Layout:
        """Return all parameters, group by group."""
        blocks = [
            *self.blocks(design),
            *measurement_blocks(self, design),
            *covariate_blocks(self, design, self.static(design)),
            *moderation_blocks(self.moderators, design),
        ]
        if not design.groups:
            return Layout(tuple(blocks))
        shared = {family for word in self.equal_across_groups for family in _SHARED[word]}
        own = [
            block.of_group(group)
            for group in design.groups
            for block in blocks
            if block.family not in shared
        ]
        return Layout((*(block for block in blocks if block.family in shared), *own))

    def family(self, design: Design, data: Observed, rows: NDArray[np.int64]) -> Family:
        """Return the function from matrices to the system of some clients."""

        def build(matrices: Matrices) -> StateSpace:
            series = self.assemble(matrices, design)
            pushed = push(self, series, matrices, design)
            return observe(self, pushed, matrices, design)

        bent = self.bends()
        if self.initial == "stationary":
            bent = (*bent, "phi", "phi2", "innovation_cov")
        if design.measured:
            bent = (*bent, "loading", "mean", "intercept", "trend", "trend2")
        moving = self.moves_loads() or bool(design.measured)
        assembly = Assembly(build, tuple(dict.fromkeys(bent)), moving)
        if not self.moderators:
            return assembly
        return Moderated(assembly, data.covariates[rows, len(self.covariates) :])

    def matrices(self, params: Params, design: Design) -> Matrices:
        """Return all matrices at natural parameters."""
        return self.layout(design).from_params(params)

    def design(self, data: Observed, sd: Mapping[str, float] | None = None) -> Design:
        """Return what the family must know of these data."""
        variables, series_of = self._series(data.variables)
        known = dict(sd or {})
        return Design(variables, data.variables, series_of, data.sessions, data.groups, known)

    def _series(self, items: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Return the series, and which one each item belongs to."""
        if not self.indicators:
            return items, tuple(range(len(items)))
        owner = {item: v for v, own in self.indicators.items() for item in own}
        series = tuple(dict.fromkeys(owner.get(item, item) for item in items))
        return series, tuple(series.index(owner.get(item, item)) for item in items)

    def likelihood(self, data: Observed) -> Likelihood:
        """Return the log-likelihood of observed scores, with starting values."""
        bare = self.design(data)
        items = starting.item_moments(data.Y, bare.series_of)
        rough = starting.moments(items.series, traits=bool(self.static(bare)))
        rough = starting.anchored(rough, [v in bare.measured for v in bare.variables])
        sd = dict(zip((*bare.items, *bare.variables), (*items.sd, *rough.sd), strict=True))
        design = self.design(data, sd | _spreads(self, data))
        layout = self.layout(design)
        inputs = self._inputs(data)
        shares = tuple(
            Share(
                family=self.family(design, data, rows),
                blocks=Blocks.pack(data.Y[rows], inputs[rows]),
                rows=rows,
                group=label,
            )
            for label, rows in data.rows_by_group()
        )
        start = layout.theta(self._start(layout, rough, items, design))
        return Likelihood(layout, shares, start, self.implied(design))

    def _start(
        self,
        layout: Layout,
        rough: starting.Moments,
        items: starting.ItemMoments,
        design: Design,
    ) -> Matrices:
        """Return starting values of all matrices, the same in all groups; 0 where none is known."""
        own = {**self.start(rough, design), **start_measurement(layout, items, design)}
        out = {}
        for block in layout.blocks:
            value = own.get(block.family, np.zeros(block.shape))
            out[block.key] = np.array(np.broadcast_to(value, block.shape))
        return out

    def _inputs(self, data: Observed) -> Array:
        """Known inputs (N, T, q): covariates at the first session, then what varies over time."""
        n, n_sessions = data.Y.shape[:2]
        first = np.zeros((n, n_sessions, len(self.covariates)))
        first[:, 0] = data.covariates[:, : len(self.covariates)]
        return np.concatenate([first, data.inputs], axis=2)

    def _select(self, panel: SessionPanel) -> Selection:
        selection = select(panel, self._needs(), self.sessions)
        if len(selection.sessions) < self.fewest_sessions:
            raise SpecificationError(
                f"The {self.name} needs {self.fewest_sessions} or more sessions; these data have "
                f"{len(selection.sessions)}."
            )
        free = {
            option: getattr(self, option) == "free" for option in ("means", "lags", "innovations")
        }
        refuse_thin_sessions(selection, **free)
        return selection

    def _needs(self) -> Needs:
        return Needs(
            variables=self.variables,
            indicators=self.indicators,
            covariates=(*self.covariates, *self.moderators),
            time_varying=self.time_varying,
            group=self.group,
        )

    def _with_known_errors(self, selection: Selection) -> Specification:
        """Turn known reliabilities into error variances of these data."""
        if self.reliability is None:
            return self
        data = selection.data
        known = {}
        for name, reliability in self.reliability.items():
            scores = data.Y[:, :, data.variables.index(name)]
            around = scores - starting.session_means(scores[:, :, None])[:, 0]
            known[name] = float((1.0 - reliability) * np.nanvar(around))
        given = dict(self.measurement_var or {})  # type: ignore[arg-type]
        return replace(self, reliability=None, measurement_var={**given, **known})

    def _check_choices(self) -> None:
        for option, values in self.choices().items():
            if getattr(self, option) not in values:
                allowed = " or ".join(repr(value) for value in values)
                raise SpecificationError(
                    f"{option} is {getattr(self, option)!r}; choose {allowed}."
                )
        for option in _TUPLES:  # lists compare and hash badly
            given = getattr(self, option)
            if isinstance(given, str) or not (given is None or isinstance(given, Iterable)):
                raise SpecificationError(f"{option} is {given!r}; give several, as a tuple.")
            if given is not None:
                object.__setattr__(self, option, tuple(given))
        if not isinstance(self.starts, int) or self.starts < 1:
            raise SpecificationError(f"starts is {self.starts!r}; give a whole number from 1 up.")
        if self.sessions is not None and len(self.sessions) != 2:
            raise SpecificationError(
                f"sessions is {self.sessions!r}; give the first and the last, such as (1, 8)."
            )

    @classmethod
    def choices(cls) -> dict[str, tuple[Any, ...]]:
        """Return the values that options with a choice can take."""
        return dict(_CHOICES)

    def _check_combinations(self) -> None:
        if self.initial == "stationary" and "free" in (self.lags, self.innovations):
            raise SpecificationError(
                'initial="stationary" needs lags and innovations equal over sessions: a process '
                "that changes has no stationary covariance."
            )
        if self.step is not None and (self.lags == "free" or self.initial == "stationary"):
            raise SpecificationError(
                f'step={self.step!r} changes the cross-lags once, so it needs lags="equal" and '
                'initial="free".'
            )
        if self.moderators and (self.order == 2 or self.initial == "stationary"):
            raise SpecificationError(
                "moderators= makes lagged effects differ between clients; it needs order=1 and "
                'initial="free".'
            )
        if self.order == 2 and self.time_varying:
            raise SpecificationError(
                "order=2 and time_varying= do not go together. Use order=1, or leave the inputs "
                "out."
            )
        unknown = [word for word in self.equal_across_groups if word not in _SHARED]
        if unknown or (self.equal_across_groups and self.group is None):
            raise SpecificationError(
                f"equal_across_groups={self.equal_across_groups!r} needs group= and can name "
                f"{listed(sorted(_SHARED), 8)}."
            )
        self._check_measurement()

    def _check_measurement(self) -> None:
        given = self.measurement_var
        if isinstance(given, str) and given not in ("free", "equal"):
            raise SpecificationError(
                f"measurement_var is {given!r}; give variances by name, or choose 'free' or "
                "'equal'."
            )
        if isinstance(given, Mapping) and any(not value >= 0.0 for value in given.values()):
            raise SpecificationError(
                f"measurement_var is {dict(given)!r}: a variance cannot be negative."
            )
        if self.reliability is None:
            return
        if isinstance(given, str):
            raise SpecificationError(
                f"reliability fixes error variances; it does not go with measurement_var={given!r}."
            )
        if any(not 0.0 < value <= 1.0 for value in self.reliability.values()):
            raise SpecificationError(
                f"reliability is {dict(self.reliability)!r}; give shares above 0 and up to 1."
            )

    def __repr__(self) -> str:
        given = [
            f"{entry.name}={getattr(self, entry.name)!r}"
            for entry in fields(self)
            if getattr(self, entry.name) != entry.default
        ]
        return f"{type(self).__name__}({', '.join(given)})"


def _spreads(spec: Specification, data: Observed) -> dict[str, float]:
    """Return the standard deviation of every covariate and input."""
    numbers = (*spec.covariates, *spec.moderators)
    by_client = zip(numbers, np.std(data.covariates, axis=0), strict=True)
    by_session = zip(spec.time_varying, np.std(data.inputs, axis=(0, 1)), strict=True)
    return {name: float(sd) or 1.0 for name, sd in (*by_client, *by_session)}
