"""Continuous time: the process runs on between sessions, and every gap is as long as it was.

The scores of client i at the time h of a session are ``y_i(h) = mean + k_i + w_i(h)`` (plus
``trend`` times the time since the client's first row), with

    dw = A w dt + G dW,   diffusion_cov = G G',   w_i at the first row ~ N(0, initial_cov)

and k_i ~ N(0, between_cov). From one session to the next, a gap of h apart, this is a VAR(1) with
phi = expm(A h) and the innovation covariance int_0^h expm(A s) G G' expm(A s)' ds: exact at each
client's own gaps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.engine import names, starting
from alliancedyn.engine.assembly import Assembly, join
from alliancedyn.engine.continuous import (
    describe_drift,
    discretise,
    discretise_adjoint,
    drift_from_lags,
    stationary_cov,
)
from alliancedyn.engine.kalman import Score, StateSpace
from alliancedyn.engine.likelihood import Family, Implied, Likelihood
from alliancedyn.engine.system import Block, Matrices, covariance, matrix, vector
from alliancedyn.engine.unit_lag import at_gap
from alliancedyn.errors import SpecificationError
from alliancedyn.models.clock import Clock, refuse_repeats
from alliancedyn.models.design import Design
from alliancedyn.models.known_lags import refuse_apart
from alliancedyn.models.means import mean_blocks, session_means, start_means
from alliancedyn.models.measurement import measurement_blocks, observe, push
from alliancedyn.models.selection import Selection
from alliancedyn.models.specification import Params, Specification
from alliancedyn.models.within import Within, series_system
from alliancedyn.panel import SessionPanel
from alliancedyn.results import ClientGroup, Observed

Array = NDArray[np.float64]
Index = NDArray[np.int64]

WITH_TRAITS = 3  # sessions from which stable differences can be told from slow ones


@dataclass(frozen=True)
class Discretised:
    """A family whose lags and innovations are those of a drift and a diffusion at many gaps.

    Parameters
    ----------
    rest : Assembly
        Everything else; the transitions of its system are placeholders.
    gaps : (T - 1,) or (N, T - 1)
        Units of time into each session from the second on, of all clients or of each.
    """

    rest: Assembly
    gaps: Array

    @property
    def by_load(self) -> bool:
        """Whether loadings depend on parameters."""
        return self.rest.by_load

    def system(self, matrices: Matrices) -> StateSpace:
        """Return the system; raise SpecificationError where it does not exist."""
        system = self.rest.system(matrices)
        A, Q = matrices["drift"][0], matrices["diffusion_cov"][0]
        shape = (*self.gaps.shape, *A.shape)
        phi, psi = discretise(A, Q, self.gaps.ravel())
        at = np.maximum(np.arange(self.gaps.shape[-1] + 1) - 1, 0)
        return replace(system, phi=phi.reshape(shape), phi_at=at, psi=psi.reshape(shape), psi_at=at)

    def gradients(self, matrices: Matrices, score: Score) -> Matrices:
        """Return the derivatives by the matrices from those by the system."""
        A, Q = matrices["drift"][0], matrices["diffusion_cov"][0]
        by_client = score.mean.ndim == 3
        still = np.zeros((*score.mean.shape[:-2], 1, *A.shape))
        out = self.rest.gradients(matrices, replace(score, phi=still, psi=still))
        n = len(score.phi)
        gaps = np.broadcast_to(self.gaps, score.phi.shape[:-2]).ravel()
        by_phi, by_psi = (by.reshape(-1, *A.shape) for by in (score.phi, score.psi))
        owner = np.repeat(np.arange(n), self.gaps.shape[-1]) if by_client else None
        by_A, by_Q = discretise_adjoint(A, Q, gaps, by_phi, by_psi, owner, n if by_client else None)
        out["drift"] = out["drift"] + by_A[..., None, :, :]
        out["diffusion_cov"] = out["diffusion_cov"] + by_Q[..., None, :, :]
        return out


@checked
@dataclass(frozen=True, repr=False)
class ContinuousTime(Specification):
    """Continuous-time VAR(1) with stable differences between clients.

    y_i = mean + k_i + w_i (+ trend x time), dw = A w dt + G dW, exact at each client's own gaps.
    ``drift[symptoms,alliance]`` is the effect of the level of alliance on the rate of change of
    symptoms, per unit of time; ``phi`` and ``innovation_cov`` at one unit of time are reported
    with it.

    Options of its own: ``traits`` (stable differences k_i), ``initial_mean`` ("free": w at the
    client's first row has a mean of its own), ``time`` ("days", or "session" to count sessions),
    ``time_unit`` (days in a unit of time; with sessions the unit is one session) and ``trend``
    ("linear": a common trend per unit of time since the client's first row). With
    ``time="session"`` the first row is the first session of the model, as in discrete time.

    Means are one for all sessions unless ``means="free"``. A time-varying input is an impulse: it
    moves w by ``input[...]`` at its session, and the drift carries that on.
    """

    __doc__ = f"{__doc__}\n{Specification.__doc__}"
    means: Literal["free", "equal"] = "equal"
    traits: bool = True
    initial_mean: Literal["common", "free"] = "common"
    time: Literal["days", "session"] = "days"
    time_unit: float = 7.0
    trend: Literal["linear"] | None = None

    name: ClassVar[str] = "Continuous time"
    assumptions: ClassVar[tuple[str, ...]] = (
        "The process runs on between sessions by the same law as across them: a session is a "
        "moment at which it is seen, not an event that moves it.",
        "Drift and diffusion are the same at all times and for all clients.",
        "Clients differ by a constant, if at all: no client has a trend of their own.",
        "Nothing that varies over time and is not in the model moves both series.",
        "Scores of one session are of one moment, free of measurement error unless it is modelled, "
        "normally distributed, and missing at random given the observed scores. When sessions "
        "take place does not depend on what was not observed.",
    )
    references: ClassVar[tuple[str, ...]] = (
        "Voelkle, M. C., Oud, J. H. L., Davidov, E., & Schmidt, P. (2012). An SEM approach to "
        "continuous time modeling of panel data: Relating authoritarianism and anomia. "
        "Psychological Methods, 17, 176-192.",
        "Driver, C. C., Oud, J. H. L., & Voelkle, M. C. (2017). Continuous time structural "
        "equation modeling with R package ctsem. Journal of Statistical Software, 77(5).",
    )

    @classmethod
    def choices(cls) -> dict[str, tuple[Any, ...]]:
        """Return the values that options with a choice can take."""
        only: dict[str, tuple[Any, ...]] = {
            "lags": ("equal",),
            "innovations": ("equal",),
            "order": (1,),
            "step": (None,),
            "traits": (True, False),
            "initial_mean": ("common", "free"),
            "time": ("days", "session"),
            "trend": (None, "linear"),
            "moderators": ((),),
        }
        return {**super().choices(), **only}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (isinstance(self.time_unit, int | float) and 0.0 < self.time_unit < np.inf):
            raise SpecificationError(
                f"time_unit is {self.time_unit!r}; give the days in a unit of time, such as 7."
            )
        if self.means == "free" and (self.trend or self.initial_mean == "free"):
            raise SpecificationError(
                'means="free" already follows the scores from session to session. Use '
                'means="equal" with trend= or initial_mean="free".'
            )

    # -- the family -------------------------------------------------------------------------------

    def static(self, design: Design) -> tuple[str, ...]:
        """Return the stable differences."""
        return design.variables if self.traits else ()

    def blocks(self, design: Design) -> list[Block]:
        """Return drift, diffusion, the first row, stable differences and means."""
        v, units = design.variables, design.units
        blocks = [matrix("drift", v, v, units), covariance("diffusion_cov", v, units)]
        if self.initial == "free":
            blocks.append(covariance("initial_cov", v, units))
        if self.traits:
            blocks.append(covariance("between_cov", v, units))
        blocks += mean_blocks(self, design)
        blocks += [vector(family, v, units) for family in self._moved()]
        return blocks

    def _moved(self) -> list[str]:
        """Return what known inputs of the clock's own move: the first row, and the trend."""
        first = ["initial_mean"] if self.initial_mean == "free" else []
        return [*first, *(["trend"] if self.trend else [])]

    def assemble(self, matrices: Matrices, design: Design) -> StateSpace:
        """Return y = mean + k + w with placeholders for the transitions, which need the gaps."""
        k = design.k
        still, at = np.zeros((1, k, k)), design.at_every(1)
        part = Within(still, at, still, at, self._initial(matrices))
        stable = matrices["between_cov"][..., 0, :, :] if self.traits else None
        if stable is None and (self.trend or self.covariates):
            stable = np.zeros((k, k))  # constants without variance carry what is known
        return series_system(part, session_means(self, matrices, design), design, stable)

    def _initial(self, matrices: Matrices) -> Array:
        if self.initial == "free":
            return matrices["initial_cov"][..., 0, :, :]
        A, Q = matrices["drift"][..., 0, :, :], matrices["diffusion_cov"][..., 0, :, :]
        return np.asarray(stationary_cov(A, Q))

    def family(self, design: Design, data: Observed, rows: Index) -> Family:
        """Return the function from matrices to the system of some clients."""

        def build(matrices: Matrices) -> StateSpace:
            series = push(self, self.assemble(matrices, design), matrices, design)
            moved = self._move(series, matrices, design)
            return observe(self, moved, matrices, design)

        bent = ["drift", "diffusion_cov"] if self.initial == "stationary" else []
        if design.measured:
            bent += ["loading", "mean"]
        clock = self.clock(data).of_clients(rows)
        shared = clock.schedule(settled=self.initial == "stationary")
        rest = Assembly(build, tuple(bent), bool(design.measured))
        return Discretised(rest, clock.gaps if shared is None else shared)

    def _move(self, system: StateSpace, matrices: Matrices, design: Design) -> StateSpace:
        """Add what the clock's own inputs move: w at the first row, and constants over time."""
        k, m = design.k, system.initial_cov.shape[-1]
        columns = [system.drive]
        for family in self._moved():
            effect = matrices[family][..., 0, :, None]
            before = 0 if family == "initial_mean" else k
            above, below = np.zeros((before, 1)), np.zeros((m - before - k, 1))
            columns.append(join([above, effect, below], -2))
        return replace(system, drive=join(columns, -1)) if len(columns) > 1 else system

    def start(self, rough: starting.Moments, design: Design) -> Matrices:
        """Return starting values from rough moments, as if all gaps were one unit of time."""
        A = drift_from_lags(rough.phi, 1.0)
        units = np.outer(rough.sd, rough.sd)
        spread = -(A @ rough.within + rough.within @ A.T) / units
        return {
            "drift": A[None],
            "diffusion_cov": (starting.make_definite(spread, 0.05) * units)[None],
            "initial_cov": rough.within[None],
            "between_cov": rough.between[None],
            **start_means(self, rough, design),
        }

    def implied(self, design: Design) -> Implied:
        """Return lags and innovations at one unit of time, and a stationary first row."""
        v, upper = design.variables, np.triu_indices(design.k)
        labels = [
            *names.matrix_labels("phi", v, v),
            *names.symmetric_labels("innovation_cov", v),
        ]
        if settled := self.initial == "stationary":
            labels += names.symmetric_labels("initial_cov", v)

        def values(matrices: Matrices) -> Array:
            A, Q = matrices["drift"][..., 0, :, :], matrices["diffusion_cov"][..., 0, :, :]
            phi, psi = at_gap(A, Q)
            parts = [phi.reshape(*phi.shape[:-2], -1), psi[..., upper[0], upper[1]]]
            if settled:
                parts.append(stationary_cov(A, Q)[..., upper[0], upper[1]])
            return join(parts, -1)

        return Implied(tuple(labels), values)

    def remarks(self, params: Params) -> list[str]:
        """Say where deviations do not fade."""
        found = []
        firsts = [name for name in params if name.startswith("drift[")]
        for group in dict.fromkeys(names.group_of(name) for name in firsts):
            own = [name for name in firsts if names.group_of(name) == group]
            k = math.isqrt(len(own))
            drift = np.array([params[name] for name in own]).reshape(k, k)
            slowest = describe_drift(drift)[0].value.real
            if slowest >= 0.0:
                where = "" if group is None else f" where {group}"
                drifts = self.trend is not None or self.means == "free"
                remedy = 'Use trend="linear" or means="free" if scores drift together.'
                found.append(
                    f"the drift{where} has an eigenvalue of {slowest:.3g} per {self.unit}, which "
                    "is not negative: deviations do not fade, so that there is no level to which "
                    f"clients return. {'Read no effect of it.' if drifts else remedy}"
                )
        return found

    @property
    def unit(self) -> str:
        """What a unit of time is called, such as "week"."""
        if self.time == "session":
            return "session"
        return {1.0: "day", 7.0: "week"}.get(
            float(self.time_unit), f"{self.time_unit:g}-day period"
        )

    # -- its clock --------------------------------------------------------------------------------

    def clock(self, data: Observed) -> Clock:
        """Return when the sessions are.

        Raises
        ------
        SpecificationError
            If days are needed and not known, or run backwards.
        """
        return Clock.of(data, self.time, self.time_unit)

    def groups_of(
        self, params: Params, data: Observed, variables: tuple[str, ...]
    ) -> list[ClientGroup]:
        """Return the systems of all clients at natural parameters, one for each group."""
        placed = self.clock(data).placed
        found = super().groups_of(params, data, variables)
        return [replace(group, placed=placed[group.rows]) for group in found]

    def likelihood(self, data: Observed) -> Likelihood:
        """Return the log-likelihood of scores, with starting values, in parameters of its own."""
        clock = self.clock(data)
        refuse_repeats(data, clock, self._exact(data))
        found = super().likelihood(data)
        start = found.layout.matrices(found.start)
        for key in start:
            if key.partition("|")[0] in ("drift", "diffusion_cov"):
                start[key] = start[key] / clock.typical
        return replace(found, start=found.layout.theta(start))

    def _exact(self, data: Observed) -> tuple[bool, ...]:
        """Say which scores have no measurement error."""
        blocks = measurement_blocks(self, self.design(data))
        noisy = {v for block in blocks if block.family == "measurement_var" for v in block.indices}
        if isinstance(self.measurement_var, Mapping):
            noisy |= {name for name, value in self.measurement_var.items() if value > 0.0}
        return tuple(name not in noisy for name in data.variables)

    def _inputs(self, data: Observed) -> Array:
        """Known inputs (N, T, q): covariates, what varies over time, the first row, time."""
        clock, columns = self.clock(data), [super()._inputs(data)]
        if self.initial_mean == "free":
            columns.append((np.arange(len(data.sessions)) == clock.first[:, None])[..., None] * 1.0)
        if self.trend:
            columns.append(clock.passing[..., None])
        return np.concatenate(columns, axis=2)

    def _refuse_unknown_lags(self, data: Observed) -> None:
        """Refuse series that no client has together: of all powers of phi one root is smooth."""
        refuse_apart(*self._seen(data))

    def _select(self, panel: SessionPanel) -> Selection:
        selection = super()._select(panel)
        if self.traits and len(selection.sessions) < WITH_TRAITS:
            raise SpecificationError(
                f"Stable differences need {WITH_TRAITS} or more sessions; these data have "
                f"{len(selection.sessions)}. Use traits=False."
            )
        self.clock(selection.data)  # refuses what has no place in time
        return selection
