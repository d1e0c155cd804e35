"""What the state-space families share: their options and the verbs ``fit``, ``loglik``, ....

A family says three things: which parameters it has (:meth:`Specification.blocks`), what system of
series they make (:meth:`Specification.assemble`), and where to start. Covariates, several
indicators, measurement error, groups, the likelihood, its maximum and the result are the same for
all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.engine import starting
from alliancedyn.engine.assembly import Assembly
from alliancedyn.engine.centered import Shift, centered_layout
from alliancedyn.engine.kalman import Blocks, StateSpace
from alliancedyn.engine.likelihood import NOTHING, Family, Implied, Likelihood, Share, of_group
from alliancedyn.engine.system import Block, Layout, Matrices
from alliancedyn.errors import SpecificationError, at_sessions, listed
from alliancedyn.models.collinear import refuse_collinear
from alliancedyn.models.design import Design
from alliancedyn.models.flat_sessions import refuse_flat_sessions, refuse_unchanging
from alliancedyn.models.guards import refuse_unidentified
from alliancedyn.models.inference import fit_likelihood
from alliancedyn.models.known_lags import refuse_apart, refuse_unknown_lags
from alliancedyn.models.measurement import (
    covariate_blocks,
    measurement_blocks,
    observe,
    push,
    start_measurement,
)
from alliancedyn.models.moderation import Moderated, moderation_blocks
from alliancedyn.models.options import SHARED, Options
from alliancedyn.models.selection import Needs, Selection, refuse_thin_sessions, select
from alliancedyn.panel import SessionPanel
from alliancedyn.results import ClientGroup, Fit, Observed

UNCHANGING = "Leave it out with variables=(...), name it in covariates=, or check the export."

Array = NDArray[np.float64]
Params = Mapping[str, float]


@dataclass(frozen=True, repr=False)
class Specification(Options):
    """A family: options, what it says about itself, and the verbs."""

    __doc__ = f"{__doc__}\n\n{Options.__doc__}"
    assumptions: ClassVar[tuple[str, ...]]
    references: ClassVar[tuple[str, ...]]
    fewest_sessions: ClassVar[int] = 2

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

    def shifts(self, design: Design, level: Mapping[str, float]) -> dict[str, Shift]:
        """Return by how much parameters change with the level of scores through lagged effects.

        Parameter -> (constant, {other parameter: weight}); empty where lagged effects act on
        deviations alone.
        """
        return {}

    def remarks(self, params: Params) -> list[str]:
        """Return what a reader should know about these estimates, in sentences."""
        return []

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
        selection = self._select(panel)
        known = self._with_known_errors(selection)
        likelihood = known.around_level(selection.data)
        refuse_unidentified(known, known.design(selection.data), likelihood, selection.data)
        variables, _ = self._series(selection.data.variables)
        return fit_likelihood(
            known, panel, selection, variables, likelihood, errors, seed, strict, self.starts
        )

    @checked
    def loglik(self, panel: SessionPanel, params: Params) -> float:
        """Return the log-likelihood at any parameters, by canonical name."""
        selection = self._select(panel)
        known = self._with_known_errors(selection)
        likelihood = known.around_level(selection.data)
        known_params = known.completed(params, known.design(selection.data))
        return likelihood.loglik(likelihood.layout.from_params(known_params))

    @checked
    def objective(self, panel: SessionPanel, *, centered: bool = True) -> Likelihood:
        """Return the log-likelihood as a function of an unconstrained vector, with its score.

        With ``centered=False`` the vector is that of the parameters of the scores as they are.
        """
        selection = self._select(panel)
        known = self._with_known_errors(selection)
        data = selection.data
        likelihood = known.around_level(data) if centered else known.likelihood(data)
        refuse_unidentified(known, known.design(selection.data), likelihood, selection.data)
        return likelihood

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
        (group,) = self.groups_of(params, self.nobody(variables, sessions), variables)
        return group.system

    def nobody(
        self, variables: tuple[str, ...], sessions: tuple[int, ...], groups: tuple[str, ...] = ()
    ) -> Observed:
        """Return a panel of these series without clients, as the model sees one."""
        items = self.indicators or {}
        scores = tuple(item for name in variables for item in items.get(name, [name]))
        known = len(self.covariates) + len(self.moderators)
        return Observed.of_nobody(scores, sessions, groups, known, len(self.time_varying))

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
        shared = {family for word in self.equal_across_groups for family in SHARED[word]}
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
        return self.layout(design).from_params(self.completed(params, design))

    def completed(self, params: Params, design: Design) -> Params:
        """Return parameters with those that follow from others, where they may be given so."""
        return params

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

    def around_level(self, data: Observed) -> Likelihood:
        """Return the log-likelihood that is searched, with starting values.

        Searched around the level of the scores, where that makes a difference; parameters are
        those of the scores as they are.
        """
        level = np.nanmean(data.Y, axis=(0, 1))
        named = dict(zip(data.variables, level.tolist(), strict=True))
        design = self.design(data)
        shifts = {} if design.measured else self.shifts(design, named)
        if not shifts:  # items have intercepts of their own, which carry the level
            return self.likelihood(data)
        found = self.likelihood(replace(data, Y=data.Y - level))
        layout = centered_layout(found.layout, shifts)
        return self.likelihood(data) if layout is None else replace(found, layout=layout)

    def likelihood(self, data: Observed) -> Likelihood:
        """Return the log-likelihood of scores, with starting values, in parameters of its own."""
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
                f"{len(selection.sessions)} ({at_sessions(selection.sessions)})."
            )
        numbers, c = selection.data.covariates, len(self.covariates)
        refuse_collinear(numbers[:, :c], self.covariates)
        refuse_collinear(numbers[:, c:], self.moderators, "moderator")
        self._refuse_unknown_lags(selection.data)
        self._refuse_flat_sessions(selection.data)
        free = {
            option: getattr(self, option) == "free" for option in ("means", "lags", "innovations")
        }
        refuse_thin_sessions(selection, **free)
        self._refuse_misnamed(selection)
        return selection

    def _refuse_unknown_lags(self, data: Observed) -> None:
        """Refuse ratings from which lagged effects over one session cannot be known.

        Inputs that vary over sessions are seen at all of them, and tell roots of phi apart.
        """
        seen, series = self._seen(data)
        by_group = "phi" not in {one for word in self.equal_across_groups for one in SHARED[word]}
        parts = [rows for _, rows in data.rows_by_group()] if by_group else [slice(None)]
        for rows in parts:
            if self.time_varying:
                refuse_apart(seen[rows], series)
            else:
                refuse_unknown_lags(seen[rows], series)

    def _refuse_flat_sessions(self, data: Observed) -> None:
        """Refuse single scores that do not vary within clients, or at a session."""
        design = self.design(data)
        single = [j for j, v in enumerate(data.variables) if v in design.variables]
        names = tuple(data.variables[j] for j in single)
        refuse_unchanging(data.Y[:, :, single], names, UNCHANGING)
        refuse_flat_sessions(data.Y[:, :, single], names, data.sessions)

    def _seen(self, data: Observed) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
        """Return which series some item was seen of, (N, T, k), and their names."""
        series, series_of = self._series(data.variables)
        items = ~np.isnan(data.Y)
        own = [items[:, :, np.array(series_of) == j].any(axis=2) for j in range(len(series))]
        return np.stack(own, axis=2), series

    def _refuse_misnamed(self, selection: Selection) -> None:
        """Refuse what names something that these data do not have, or have as something else."""
        first, last = selection.sessions[0] + self.order, selection.sessions[-1]
        if self.step is not None and not first < self.step <= last:
            raise SpecificationError(
                f"step={self.step} leaves no lagged effects before it or none from it on: the "
                f"model holds sessions {selection.sessions[0]} to {last}. Name one from "
                f"{first + 1} to {last}."
            )
        scores = selection.data.variables
        if both := [name for name in self.time_varying if name in scores]:
            raise SpecificationError(
                f"time_varying= names {listed(both)}, a series of the model itself. Leave it out "
                "of one of the two."
            )
        for name, pushes in zip(self.time_varying, selection.data.inputs.T, strict=True):
            if not pushes.any():
                raise SpecificationError(
                    f"The time-varying covariate {name!r} is 0 at every session of the model: "
                    "nothing happened. Leave it out."
                )
        for option in ("measurement_var", "reliability"):
            given = getattr(self, option)
            if isinstance(given, Mapping) and (
                unknown := [name for name in given if name not in scores]
            ):
                raise SpecificationError(
                    f"{option} names {listed(unknown)}; the scores of this model are "
                    f"{listed(scores, 8)}."
                )

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
            known[name] = (1.0 - reliability) * starting.variance_around_means(
                data.Y[:, :, data.variables.index(name)]
            )
        given = dict(self.measurement_var or {})  # type: ignore[arg-type]
        return replace(self, reliability=None, measurement_var={**given, **known})


def _spreads(spec: Specification, data: Observed) -> dict[str, float]:
    """Return the standard deviation of every covariate and input."""
    numbers = (*spec.covariates, *spec.moderators)
    by_client = zip(numbers, np.std(data.covariates, axis=0), strict=True)
    by_session = zip(spec.time_varying, np.std(data.inputs, axis=(0, 1)), strict=True)
    return {name: float(sd) or 1.0 for name, sd in (*by_client, *by_session)}
