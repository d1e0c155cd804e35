"""Cross-lagged panel models: without random intercepts, with them, and with measurement error.

The scores of client i at session t are ``y_it = mean_t + k_i + w_it``; the deviations follow

    w_it = phi w_{i,t-1} + v_it,   v_it ~ N(0, innovation_cov),   w_i1 ~ N(0, initial_cov)

and the random intercepts k_i ~ N(0, between_cov) are absent from the CLPM. Rows of phi are
outcomes and columns predictors. Estimation is full-information maximum likelihood: every score
that was observed counts, and missing ones are taken to be missing at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from alliancedyn.checking import checked
from alliancedyn.engine import names, starting
from alliancedyn.engine.kalman import StateSpace
from alliancedyn.engine.likelihood import NOTHING, Implied
from alliancedyn.engine.system import Block, Matrices, covariance
from alliancedyn.errors import SpecificationError
from alliancedyn.models.design import Design
from alliancedyn.models.means import mean_blocks, session_means, start_means
from alliancedyn.models.specification import Params, Specification
from alliancedyn.models.within import (
    series_system,
    settled,
    start_within,
    within,
    within_blocks,
)

_NORMAL = (
    "Nothing that varies over sessions and is not in the model moves both series.",
    "One session is the lag at which the series act on each other.",
)
_NO_ERROR = (
    "Scores are free of measurement error, normally distributed, and missing at random given "
    "the observed scores."
)
_HAMAKER = (
    "Hamaker, E. L., Kuiper, R. M., & Grasman, R. P. P. P. (2015). A critique of the "
    "cross-lagged panel model. Psychological Methods, 20, 102-116."
)


@checked
@dataclass(frozen=True, repr=False)
class CLPM(Specification):
    """Cross-lagged panel model: w_it = phi w_{i,t-1} + v_it around the session means.

    It has no stable differences between clients, so that they are mixed into the lagged effects:
    fitted to show how far its answer is from that of the :class:`RICLPM`.
    """

    __doc__ = f"{__doc__}\n{Specification.__doc__}"
    name: ClassVar[str] = "CLPM"
    assumptions: ClassVar[tuple[str, ...]] = (
        "Clients do not differ in their stable levels: all that differs between them fades with "
        "the autoregression. Where they do differ, between-client differences are mixed into the "
        "lagged effects.",
        *_NORMAL,
        _NO_ERROR,
    )
    references: ClassVar[tuple[str, ...]] = (_HAMAKER,)

    def blocks(self, design: Design) -> list[Block]:
        """Return lagged effects, innovations, the first session and means."""
        return [*within_blocks(self, design), *mean_blocks(self, design)]

    def assemble(self, matrices: Matrices, design: Design) -> StateSpace:
        """Return y = mean + w."""
        part = within(self, matrices, design)
        return series_system(part, session_means(self, matrices, design), design)

    def start(self, rough: starting.Moments, design: Design) -> Matrices:
        """Return starting values from rough moments."""
        return {**start_within(self, rough, design), **start_means(self, rough, design)}

    def implied(self, design: Design) -> Implied:
        """Return the first session's covariance where the process is stationary."""
        return settled(self, design) if self.initial == "stationary" else NOTHING

    def completed(self, params: Params, design: Design) -> Params:
        """Return parameters with the innovations of a process given by its covariance."""
        stationary = self.initial == "stationary" and self.order == 1
        return _with_innovations(params, design) if stationary else params


@checked
@dataclass(frozen=True, repr=False)
class RICLPM(CLPM):
    """Random-intercept cross-lagged panel model (Hamaker, Kuiper & Grasman, 2015).

    Stable differences between clients, k_i ~ N(0, between_cov), are split from the within-client
    deviations w_it = phi w_{i,t-1} + v_it, so that phi speaks about change within clients.
    """

    __doc__ = f"{__doc__}\n{Specification.__doc__}"
    name: ClassVar[str] = "RI-CLPM"
    fewest_sessions: ClassVar[int] = 3
    assumptions: ClassVar[tuple[str, ...]] = (
        "Clients differ by a constant: no client has a trend of their own around the session "
        "means. Where they do, shared trends are mixed into the lagged effects.",
        *_NORMAL,
        _NO_ERROR,
    )

    def static(self, design: Design) -> tuple[str, ...]:
        """Return the random intercepts."""
        return design.variables

    def blocks(self, design: Design) -> list[Block]:
        """Return lagged effects, innovations, the first session, random intercepts and means."""
        stable = covariance("between_cov", design.variables, design.units)
        return [*within_blocks(self, design), stable, *mean_blocks(self, design)]

    def assemble(self, matrices: Matrices, design: Design) -> StateSpace:
        """Return y = mean + k + w."""
        part = within(self, matrices, design)
        stable = matrices["between_cov"][..., 0, :, :]
        return series_system(part, session_means(self, matrices, design), design, stable)

    def start(self, rough: starting.Moments, design: Design) -> Matrices:
        """Return starting values from rough moments."""
        return {**super().start(rough, design), "between_cov": rough.between[None]}


@checked
@dataclass(frozen=True, repr=False)
class STARTS(RICLPM):
    """Stable trait, autoregressive trait, state model (Kenny & Zautra, 1995), bivariate.

    y_it = mean_t + k_i + w_it + e_it: a stable trait k_i, a stationary process
    w_it = phi w_{i,t-1} + v_it with cross-lags, and a state e_it ~ N(0, measurement_var) that
    leaves no trace, measurement error included.
    """

    __doc__ = f"{__doc__}\n{Specification.__doc__}"
    initial: Literal["free", "stationary"] = "stationary"
    measurement_var: Mapping[str, float] | str | None = "free"

    name: ClassVar[str] = "STARTS"
    fewest_sessions: ClassVar[int] = 4
    assumptions: ClassVar[tuple[str, ...]] = (
        "The process has settled before the first session: variances and lagged effects are the "
        "same at all sessions.",
        "What a session leaves no trace of, measurement error and passing states, is independent "
        "over sessions and between the series.",
        *_NORMAL,
        "Scores are normally distributed, and missing at random given the observed scores.",
    )
    references: ClassVar[tuple[str, ...]] = (
        "Kenny, D. A., & Zautra, A. (1995). The trait-state-error model for multiwave data. "
        "Journal of Consulting and Clinical Psychology, 63, 52-59.",
    )


def _with_innovations(params: Params, design: Design) -> Params:
    """Fill in the innovations of a stationary process that is given by its covariance."""
    out = dict(params)
    for group in design.groups or (None,):
        out |= _innovations_of(params, design.variables, group)
    return out


def _innovations_of(
    params: Params, variables: tuple[str, ...], group: str | None
) -> dict[str, float]:
    given = names.symmetric_labels("initial_cov", variables, group=group)
    if given[0] not in params:
        return {}
    lags = group if names.label("phi", variables[0], variables[0], group=group) in params else None
    phi = names.matrix(params, "phi", variables, variables, group=lags)
    P = names.symmetric_matrix(params, "initial_cov", variables, group=group)
    labels = names.symmetric_labels("innovation_cov", variables, group=group)
    upper = np.triu_indices(len(variables))
    psi = dict(zip(labels, (P - phi @ P @ phi.T)[upper].tolist(), strict=True))
    both = np.array([params.get(name, psi[name]) for name in labels])
    if not np.allclose(both, list(psi.values()), rtol=1e-6, atol=1e-6 * np.abs(P).max()):
        raise SpecificationError(
            "initial_cov and innovation_cov contradict each other: a stationary process has "
            "innovation_cov = initial_cov - phi initial_cov phi'. Give one of them."
        )
    return psi
