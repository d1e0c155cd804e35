"""The general cross-lagged panel model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.engine import starting
from alliancedyn.engine.assembly import block_diagonal, join
from alliancedyn.engine.kalman import StateSpace
from alliancedyn.engine.system import EVERY, Block, Matrices, covariance, matrix, ratios
from alliancedyn.models.courses import carried, stack
from alliancedyn.models.design import Design
from alliancedyn.models.means import mean_blocks, session_means, start_means
from alliancedyn.models.specification import Specification
from alliancedyn.models.within import Within, series_system, start_within, within, within_blocks

Array = NDArray[np.float64]


@checked
@dataclass(frozen=True, repr=False)
class GCLM(Specification):
    """General cross-lagged panel model (Zyphur et al., 2020).

    y_t = mean_t + r_t,   r_t = diag(unit_loading_t) k_i + phi r_{t-1} + ma u_{t-1} + u_t

    with unit effects k_i ~ N(0, between_cov) that weigh 1 at the first session and ``unit_loading``
    at later ones, lagged effects phi that carry a shock on, and moving-average effects ma that
    pass it on once, both with cross-lags. r_1 = k_i + u_1, u_1 ~ N(0, initial_cov).
    """

    __doc__ = f"{__doc__}\n{Specification.__doc__}"
    unit_loadings: Literal["free", "equal"] = "free"
    starts: int = 3  # phi and ma compete: other maxima are common

    name: ClassVar[str] = "GCLM"
    fewest_sessions: ClassVar[int] = 5
    assumptions: ClassVar[tuple[str, ...]] = (
        "Stable differences between clients act on every session anew, through unit effects whose "
        "weight may change.",
        "Nothing that varies over sessions and is not in the model moves both series.",
        "A shock acts at the next session and is carried on from there.",
        "Scores are free of measurement error, normally distributed, and missing at random given "
        "the observed scores.",
    )
    references: ClassVar[tuple[str, ...]] = (
        "Zyphur, M. J., Allison, P. D., Tay, L., Voelkle, M. C., Preacher, K. J., Zhang, Z., et "
        "al. (2020). From data to causes I: Building a general cross-lagged panel model (GCLM). "
        "Organizational Research Methods, 23, 651-687.",
    )

    @classmethod
    def choices(cls) -> dict[str, tuple[Any, ...]]:
        """Return the values that options with a choice can take."""
        only: dict[str, tuple[Any, ...]] = {
            "initial": ("free",),
            "order": (1,),
            "unit_loadings": ("free", "equal"),
            "moderators": ((),),
        }
        return {**super().choices(), **only}

    def bends(self) -> tuple[str, ...]:
        """Return the parameters by which the derivative of the system is not constant."""
        return ("phi", "step", "unit_loading")

    def moves_loads(self) -> bool:
        """Say whether loadings depend on parameters."""
        return True

    def static(self, design: Design) -> tuple[str, ...]:
        """Return the unit effects."""
        return design.variables

    def blocks(self, design: Design) -> list[Block]:
        """Return lagged and moving-average effects, innovations, unit effects and means."""
        v, later = design.variables, design.sessions[1:]
        slots = later if self.lags == "free" else EVERY
        weights = [ratios("unit_loading", v, [1.0] * design.k, later)]
        return [
            *within_blocks(self, design),
            matrix("ma", v, v, design.units, slots),
            covariance("between_cov", v, design.units),
            *(weights if self.unit_loadings == "free" else []),
            *mean_blocks(self, design),
        ]

    def assemble(self, matrices: Matrices, design: Design) -> StateSpace:
        """Return r = B k + w, B_t = phi_t B_{t-1} + diag(unit_loading_t); states (w, u)."""
        k, T = design.k, design.n_sessions
        plain = within(self, matrices, design)
        weights = matrices.get("unit_loading", np.ones((T - 1, k)))
        reached = [np.eye(k)]
        for t in range(1, T):
            phi = plain.phi[..., plain.phi_at[t], :, :]
            reached.append(phi @ reached[-1] + np.eye(k) * weights[..., t - 1, :, None])
        system = series_system(
            _with_shocks(plain, matrices["ma"]), session_means(self, matrices, design), design
        )
        between = matrices["between_cov"][..., 0, :, :]
        return replace(
            carried(system, stack(reached, -3), design),
            initial_cov=block_diagonal(system.initial_cov, between),
        )

    def start(self, rough: starting.Moments, design: Design) -> Matrices:
        """Return starting values from rough moments: unit effects of what phi does not carry."""
        keep = np.eye(design.k) - rough.phi
        start = {**start_within(self, rough, design), **start_means(self, rough, design)}
        start["between_cov"] = (keep @ rough.between @ keep.T)[None]
        start["unit_loading"] = np.ones((design.n_sessions - 1, design.k))
        start["ma"] = np.zeros((1, design.k, design.k))
        return start


def _with_shocks(part: Within, ma: Array) -> Within:
    """Add the last shock to the states: w_t = phi w_{t-1} + ma u_{t-1} + u_t."""
    above = join([part.phi, ma], -1)
    phi = join([above, np.zeros_like(above)], -2)
    return replace(part, phi=phi, psi=_twice(part.psi), initial=_twice(part.initial))


def _twice(cov: Array) -> Array:
    """Return the covariance of (u, u)."""
    row = np.concatenate([cov, cov], axis=-1)
    return np.concatenate([row, row], axis=-2)
