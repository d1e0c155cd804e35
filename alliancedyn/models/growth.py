"""Models in which every client has a course of their own.

Growth factors of client i, an intercept and one or two slopes for each series, follow
f_i ~ N(factor means, between_cov); lambda_t are their loadings at session t. They differ in what
the lagged effects act on:

* LCM-SR: on the deviations from the client's course, y_t = Lambda_t f + w_t,
  w_t = phi w_{t-1} + v_t.
* ALT: on the scores themselves, y_t = Lambda_t f + phi y_{t-1} + v_t, the first session being
  predetermined.
* Latent change: on the true scores, eta_t - eta_{t-1} = s + diag(self) eta_{t-1} +
  coupling eta_{t-1} + v_t, y_t = eta_t + e_t.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.engine import names, starting
from alliancedyn.engine.assembly import block_diagonal, join
from alliancedyn.engine.centered import Shift
from alliancedyn.engine.kalman import StateSpace
from alliancedyn.engine.likelihood import NOTHING, Implied
from alliancedyn.engine.system import (
    EVERY,
    Block,
    Matrices,
    covariance,
    entries,
    ratios,
    vector,
)
from alliancedyn.errors import SpecificationError
from alliancedyn.models.courses import (
    basis_blocks,
    carried,
    factor_mean_blocks,
    factor_means,
    factor_names,
    first_with_factors,
    growth_loadings,
    mean_course,
    shifts_of_change,
    shifts_of_course,
    spread,
    stack,
    start_courses,
    start_factor_means,
    with_factors,
)
from alliancedyn.models.design import Design
from alliancedyn.models.means import mean_blocks, session_means, start_means
from alliancedyn.models.specification import Specification
from alliancedyn.models.verdict import indefinite
from alliancedyn.models.within import (
    Within,
    cross,
    series_system,
    settled,
    start_within,
    within,
    within_blocks,
)
from alliancedyn.results.model import Params

Array = NDArray[np.float64]
Growth = Literal["linear", "log", "piecewise", "free"]

_NO_U = "Nothing that varies over sessions and is not in the model moves both series."
_LAG = "One session is the lag at which the series act on each other."
_NORMAL = "Scores are normally distributed, and missing at random given the observed scores."


@checked
@dataclass(frozen=True, repr=False)
class LCMSR(Specification):
    """Latent curve model with structured residuals (Curran et al., 2014).

    y_it = intercept_i + lambda_t trend_i + w_it: every client has a course, and lagged effects
    are those between deviations from it, w_it = phi w_{i,t-1} + v_it.

    The loading of the slope is the number of sessions since the first ("linear"), the logarithm
    of that number plus one ("log"), estimated between 0 at the first and the number of sessions
    at the last ("free", ``basis[...]``), or changes at session ``knot`` ("piecewise", a second
    slope ``trend2``).
    """

    __doc__ = f"{__doc__}\n{Specification.__doc__}"
    growth: Growth = "linear"
    knot: int | None = None
    means: Literal["growth", "free"] = "growth"  # type: ignore[assignment]

    name: ClassVar[str] = "LCM-SR"
    fewest_sessions: ClassVar[int] = 4
    anchored: ClassVar[int] = 1  # first sessions whose loading is known where others are free
    assumptions: ClassVar[tuple[str, ...]] = (
        "Every client's course has the chosen shape; what departs from it is within-client change.",
        _NO_U,
        _LAG,
        "Scores are free of measurement error, normally distributed, and missing at random given "
        "the observed scores.",
    )
    references: ClassVar[tuple[str, ...]] = (
        "Curran, P. J., Howard, A. L., Bainter, S. A., Lane, S. T., & McGinley, J. S. (2014). The "
        "separation of between-person and within-person components of individual change over "
        "time. Journal of Consulting and Clinical Psychology, 82, 879-894.",
    )

    @classmethod
    def choices(cls) -> dict[str, tuple[Any, ...]]:
        """Return the values that options with a choice can take."""
        growth = ("linear", "log", "piecewise", "free")
        return {**super().choices(), "means": ("growth", "free"), "growth": growth}

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.growth == "piecewise") != (self.knot is not None):
            raise SpecificationError(
                f"growth={self.growth!r} with knot={self.knot!r}: give the session at which the "
                'course bends with growth="piecewise", and only then.'
            )

    def bends(self) -> tuple[str, ...]:
        """Return the parameters by which the derivative of the system is not constant."""
        return ("basis", "trend") if self.growth == "free" else ()

    def moves_loads(self) -> bool:
        """Say whether loadings depend on parameters."""
        return self.growth == "free"

    def static(self, design: Design) -> tuple[str, ...]:
        """Return the growth factors, series by series."""
        return factor_names(self, design)

    def blocks(self, design: Design) -> list[Block]:
        """Return lagged effects, innovations, the first session, growth factors and means."""
        free = self.means == "free"
        return [
            *within_blocks(self, design),
            covariance("between_cov", self.static(design), design.units),
            *basis_blocks(self, design),
            *(mean_blocks(self, design) if free else factor_mean_blocks(self, design)),
        ]

    def assemble(self, matrices: Matrices, design: Design) -> StateSpace:
        """Return y = Lambda f + w."""
        part = within(self, matrices, design)
        loads = growth_loadings(self, matrices, design)
        if self.means == "free":
            mean = session_means(self, matrices, design)
        else:
            mean = np.einsum("...tjr,...jr->...tj", loads, factor_means(self, matrices, design))
        system = series_system(part, mean, design)
        return with_factors(system, loads, matrices["between_cov"][..., 0, :, :], design)

    def start(self, rough: starting.Moments, design: Design) -> Matrices:
        """Return starting values from rough moments."""
        courses, deviations = start_courses(self, rough, design)
        return {
            **start_within(self, deviations, design),
            **(start_means(self, rough, design) if self.means == "free" else {}),
            **courses,
        }

    def implied(self, design: Design) -> Implied:
        """Return the first session's covariance where the process is stationary."""
        return settled(self, design) if self.initial == "stationary" else NOTHING


@checked
@dataclass(frozen=True, repr=False)
class ALT(LCMSR):
    """Autoregressive latent trajectory model (Bollen & Curran, 2004), bivariate.

    From the second session on y_it = intercept_i + lambda_t trend_i + phi y_{i,t-1} + v_it: a
    course and lagged effects of the scores themselves. The first session is predetermined: it has
    a mean, variances and covariances with the factors of its own, which are unrestricted.

    Intercept and slope are not those of the scores, because phi carries the past along. Where the
    loadings of the slope are free, that of the second session is 1, because the first has none.
    """

    __doc__ = f"{__doc__}\n{LCMSR.__doc__}"
    name: ClassVar[str] = "ALT"
    anchored: ClassVar[int] = 2
    assumptions: ClassVar[tuple[str, ...]] = (
        "Lagged effects act on whole scores, stable differences included, not on deviations from "
        "a client's own course.",
        "Every client's drift has the chosen shape.",
        _NO_U,
        _LAG,
        _NORMAL,
    )
    references: ClassVar[tuple[str, ...]] = (
        "Bollen, K. A., & Curran, P. J. (2004). Autoregressive latent trajectory (ALT) models: A "
        "synthesis of two traditions. Sociological Methods & Research, 32, 336-383.",
    )

    @classmethod
    def choices(cls) -> dict[str, tuple[Any, ...]]:
        """Return the values that options with a choice can take."""
        return {
            **super().choices(),
            **{"means": ("growth",), "initial": ("free",), "order": (1,), "moderators": ((),)},
        }

    def remarks(self, params: Params) -> list[str]:
        """Say where first scores and growth factors cannot have the covariances they are given."""
        return [
            said
            for group, cov in _joint_covs(params).items()
            for said in indefinite(cov, "the first session's scores and the growth factors", group)
        ]

    def bends(self) -> tuple[str, ...]:
        """Return the parameters by which the derivative of the system is not constant."""
        return ("phi", "step", "basis", "intercept", "trend", "trend2", "mean")

    def moves_loads(self) -> bool:
        """Say whether loadings depend on parameters."""
        return True

    def shifts(self, design: Design, level: Mapping[str, float]) -> dict[str, Shift]:
        """Return how intercepts and the first session carry the level of the scores."""
        one = self.lags == "equal" and self.step is None
        return shifts_of_course(design, level) if one else {}  # else no one intercept does

    def blocks(self, design: Design) -> list[Block]:
        """Return lagged effects, innovations, first session with factors, and means."""
        plain = tuple(v for v in design.variables if v not in design.measured)
        first = [vector("mean", plain, design.units, design.sessions[:1])] if plain else []
        factors = self.static(design)
        return [
            *within_blocks(self, design),
            covariance("between_cov", factors, design.units),
            first_with_factors(factors, design),
            *basis_blocks(self, design),
            *factor_mean_blocks(self, design),
            *first,
        ]

    def assemble(self, matrices: Matrices, design: Design) -> StateSpace:
        """Return y = mean + B f + w with B_1 = 0, B_t = phi_t B_{t-1} + Lambda_t."""
        k = design.k
        part = within(self, matrices, design)
        between = matrices["between_cov"][..., 0, :, :]
        shared = matrices["initial_between_cov"][..., 0, :, :]
        beside = np.swapaxes(shared, -1, -2)
        joint = join([join([part.initial, shared], -1), join([beside, between], -1)], -2)
        loads = spread(growth_loadings(self, matrices, design))
        factors = factor_means(self, matrices, design)
        flat = factors.reshape(*factors.shape[:-2], -1, 1)
        first = np.zeros(k)
        if "mean" in matrices:
            given = matrices["mean"]
            first = np.zeros((*given.shape[:-2], k), given.dtype)
            plain = [j for j, v in enumerate(design.variables) if v not in design.measured]
            first[..., plain] = given[..., 0, :]
        reached, mean = [np.zeros_like(loads[..., 0, :, :])], [first[..., None]]
        for t in range(1, design.n_sessions):
            phi = part.phi[..., part.phi_at[t], :, :]
            reached.append(phi @ reached[-1] + loads[..., t, :, :])
            mean.append(phi @ mean[-1] + loads[..., t, :, :] @ flat)
        system = series_system(part, stack(mean, -3)[..., 0], design)
        return replace(carried(system, stack(reached, -3), design), initial_cov=joint)

    def start(self, rough: starting.Moments, design: Design) -> Matrices:
        """Return starting values: those of deviations from courses, written as an ALT.

        With y_t = a + lambda_t b + w_t, where lambda_t - lambda_{t-1} = 1, the factors are
        (I - phi) a + phi b and (I - phi) b, and the first session is a + w_1.
        """
        courses, deviations = start_courses(self, rough, design)
        k, loads = design.k, growth_loadings(self, courses, design)
        r = loads.shape[-1]
        phi, stable = deviations.phi, courses["between_cov"][0]
        passed = np.kron(np.eye(k) - phi, np.eye(r))
        passed[np.ix_(np.arange(k) * r, np.arange(k) * r + 1)] += phi
        first = stable[np.arange(k) * r]
        course: Array = passed @ mean_course(loads, rough.mean).ravel()
        plain = [j for j, v in enumerate(design.variables) if v not in design.measured]
        return {
            **courses,
            **start_within(self, deviations, design),
            **start_factor_means(self, course.reshape(k, r), design),
            "between_cov": (passed @ stable @ passed.T)[None],
            "initial_cov": (first[:, np.arange(k) * r] + deviations.within)[None],
            "initial_between_cov": 0.8 * (first @ passed.T)[None],  # away from the bound
            "mean": rough.mean[:1, plain],
        }


def _joint_covs(params: Params) -> dict[str | None, Array]:
    """Return the joint covariance of first scores and growth factors of every group of an ALT."""
    shared = [name for name in params if names.parse(name)[0] == "initial_between_cov"]
    found: dict[str | None, Array] = {}
    for group in dict.fromkeys(names.group_of(name) for name in shared):
        pairs = [names.parse(name)[1] for name in shared if names.group_of(name) == group]
        rows, factors = (tuple(dict.fromkeys(own)) for own in zip(*pairs, strict=True))
        beside = names.matrix(params, "initial_between_cov", rows, factors, group=group)
        own = [
            names.symmetric_matrix(
                params, family, of,
                group=group if names.label(family, of[0], of[0], group=group) in params else None,
            )
            for family, of in (("initial_cov", rows), ("between_cov", factors))
        ]  # fmt: skip
        found[group] = np.block([[own[0], beside], [beside.T, own[1]]])
    return found


@checked
@dataclass(frozen=True, repr=False)
class LatentChange(LCMSR):
    """Latent change score model (McArdle, 2009), with constant change and coupling both ways.

    True scores change by eta_t - eta_{t-1} = trend_i + diag(self) eta_{t-1} +
    coupling eta_{t-1} (+ v_t), from eta_1 = intercept_i; y_t = eta_t + e_t,
    e_t ~ N(0, measurement_var). ``phi`` = I + self and coupling is reported with them.
    """

    __doc__ = f"{__doc__}\n{LCMSR.__doc__}"
    innovations: Literal["none", "equal", "free"] = "none"  # type: ignore[assignment]
    measurement_var: Mapping[str, float] | str | None = "free"

    name: ClassVar[str] = "Latent change"
    assumptions: ClassVar[tuple[str, ...]] = (
        "Every client's true score changes by a constant of their own and in proportion to the "
        "present scores, deterministically unless innovations are added.",
        "Coupling acts on whole scores, stable differences included.",
        _NO_U,
        _LAG,
        "Errors are independent over sessions and between the series. " + _NORMAL,
    )
    references: ClassVar[tuple[str, ...]] = (
        "McArdle, J. J. (2009). Latent variable modeling of differences and changes with "
        "longitudinal data. Annual Review of Psychology, 60, 577-605.",
    )

    @classmethod
    def choices(cls) -> dict[str, tuple[Any, ...]]:
        """Return the values that options with a choice can take."""
        only: dict[str, tuple[Any, ...]] = {
            "lags": ("equal",),
            "innovations": ("none", "equal", "free"),
            "means": ("growth",),
            "initial": ("free",),
            **{"order": (1,), "growth": ("linear",), "step": (None,), "moderators": ((),)},
        }
        return {**super().choices(), **only}

    def remarks(self, params: Params) -> list[str]:
        """Say what change without chance does to the coupling."""
        if self.innovations != "none":
            return []
        return [
            "Change is taken to follow each client's curve exactly: what pushes a client off it "
            "is called measurement error. Where chance does push clients, the coupling is "
            "not to be trusted: in simulated panels a true effect of -0.20 comes back as -0.40 and "
            'larger, up to -2.6. Compare with innovations="equal".'
        ]

    def bends(self) -> tuple[str, ...]:
        """Return the parameters by which the derivative of the system is not constant."""
        return ("self", "coupling", "intercept", "trend")

    def moves_loads(self) -> bool:
        """Say whether loadings depend on parameters."""
        return True

    def shifts(self, design: Design, level: Mapping[str, float]) -> dict[str, Shift]:
        """Return how the start and the constant change carry the level of the scores."""
        return shifts_of_change(design, level)

    def blocks(self, design: Design) -> list[Block]:
        """Return self-feedback, coupling, innovations if any, factors and their means."""
        v, units = design.variables, design.units
        ones = [1.0] * design.k
        noisy = []
        if self.innovations != "none":
            into = design.sessions[1:] if self.innovations == "free" else EVERY
            noisy = [covariance("innovation_cov", v, units, into)]
        return [
            ratios("self", v, ones),
            entries("coupling", cross(v), units),
            *noisy,
            covariance("between_cov", self.static(design), units),
            *factor_mean_blocks(self, design),
        ]

    def assemble(self, matrices: Matrices, design: Design) -> StateSpace:
        """Return eta = B f + w with B_1 = (I, 0), B_t = phi B_{t-1} + (0, I)."""
        k, T = design.k, design.n_sessions
        phi = _phi_of_change(matrices, k)
        loads = spread(np.repeat(np.eye(2)[:, None], k, axis=1))  # of intercept, of trend
        reached = [loads[0]]
        for _ in range(1, T):
            reached.append(phi @ reached[-1] + loads[1])
        path = stack(reached, -3)
        factors = factor_means(self, matrices, design)
        mean = (path @ factors.reshape(*factors.shape[:-2], 1, -1, 1))[..., 0]
        psi = matrices.get("innovation_cov", np.zeros((1, k, k)))
        later = np.maximum(np.arange(T) - 1, 0)
        part = Within(
            phi[..., None, :, :],
            np.zeros(T, np.int64),
            psi,
            later * (psi.shape[-3] > 1),
            np.zeros((k, k)),
        )
        system = carried(series_system(part, mean, design), path, design)
        between = matrices["between_cov"][..., 0, :, :]
        return replace(system, initial_cov=block_diagonal(np.zeros((k, k)), between))

    def start(self, rough: starting.Moments, design: Design) -> Matrices:
        """Return starting values from rough moments: slow return to a level of one's own."""
        k = design.k
        start, _ = start_courses(self, rough, design)
        start["self"] = np.full((1, k), -0.1)
        start["coupling"] = np.zeros((1, k * (k - 1)))
        start["innovation_cov"] = 0.5 * rough.innovation[None]
        return start

    def implied(self, design: Design) -> Implied:
        """Return the lagged effects, phi = I + diag(self) + coupling."""
        v = design.variables
        labels = tuple(names.matrix_labels("phi", v, v))

        def values(matrices: Matrices) -> Array:
            phi = _phi_of_change(matrices, design.k)
            return phi.reshape(*phi.shape[:-2], -1)

        return Implied(labels, values)


def _phi_of_change(matrices: Matrices, k: int) -> Array:
    """Return I + diag(self) + coupling, (..., k, k)."""
    own, across = matrices["self"][..., 0, :], matrices["coupling"][..., 0, :]
    lead = np.broadcast_shapes(own.shape[:-1], across.shape[:-1])
    out = np.zeros((*lead, k, k), np.result_type(own, across))
    rows, columns = np.nonzero(~np.eye(k, dtype=bool))
    out[..., rows, columns] = across
    out[..., np.arange(k), np.arange(k)] = 1.0 + own
    return out
