"""The two-level dynamic model: what it is given, its priors, and the names of what is drawn.

For client i, with observed scores y_it (k,) on the scale of the priors::

    y_it = m_i + C_t d_i + w_it + n_it,           n_it ~ N(0, diag(measurement_var))
    w_it = G_i w_it + Phi_i w_i,t-1 + e_it,        e_it ~ N(0, Psi_i),   w_i1 ~ N(0, initial_cov)
    Psi_i = D_i Psi D_i,                           D_i = diag(exp(l_i / 2))

    b_i = (m_i, vec Phi_i, vec G_i, l_i) = mean + B x_i + v_g(i) + u_i,   u_i ~ N(0, Omega)

Clients can have slopes s_i over sessions of their own: then (t - 1) s_i takes the place of the
common line in y_it, t - 1 being sessions since the first, and b_i = (m_i, s_i, vec Phi_i, ...).
Their mean is that of the common line, or 0 beside common steps; intercepts and slopes correlate.

with as many of the effects b random as asked for, predictors x_i centered at their means, a random
intercept v of the therapist where there is one, and C_t known columns (a line or a step for every
session) with common effects. ``vec Phi`` goes row by row: row = outcome, column = predictor.

G holds same-session effects of scores that are taken earlier in a session. They run in one
direction, so that G is triangular in some order of the series, and where there are any, Psi is
diagonal: what they leave of a session's scores has nothing in common. Without them G = 0. The
states then follow w_t = (I - G)^-1 (Phi w_{t-1} + e_t), the reduced form. Single elements of Phi
can be left out.

Priors, on scores standardized within clients unless ``scale="raw"`` (half-normal for SDs):

    mean ~ N(0, 5), trend ~ N(0, 5), Phi and G ~ N(0, .5), B ~ N(0, 1),
    SDs of random Phi and G ~ N+(0, .3), SD of random log innovation variances ~ N+(0, 1),
    SDs of clients' slopes ~ N+(0, .5), all other SDs ~ N+(0, 2), correlations ~ LKJ(2)

References
----------
Asparouhov, T., Hamaker, E. L., & Muthén, B. (2018). Dynamic structural equation models. Structural
Equation Modeling, 25, 359-388.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Priors:
    """Scales of the priors (see the module), in the units of the scores that are sampled.

    Parameters
    ----------
    mean, trend, phi, same, effect : (float, float)
        Normal location and scale: level of a series, common course, lagged effects, same-session
        effects, effects of predictors on random effects.
    phi_sd, same_sd, trend_sd, log_innovation_sd, sd : float
        Half-normal scales: of SDs of random lagged and same-session effects, of clients' slopes
        per session, of random log innovation variances, and of all other SDs (between,
        innovation, initial, therapist).
    lkj : float
        Shape of the correlation priors.
    degrees : (float, float)
        Gamma shape and rate of the degrees of freedom of Student-t innovations.
    """

    mean: tuple[float, float] = (0.0, 5.0)
    trend: tuple[float, float] = (0.0, 5.0)
    phi: tuple[float, float] = (0.0, 0.5)
    same: tuple[float, float] = (0.0, 0.5)
    effect: tuple[float, float] = (0.0, 1.0)
    phi_sd: float = 0.3
    same_sd: float = 0.3
    trend_sd: float = 0.5
    log_innovation_sd: float = 1.0
    sd: float = 2.0
    lkj: float = 2.0
    degrees: tuple[float, float] = (2.0, 0.1)


@dataclass(frozen=True)
class DsemData:
    """What is sampled, on the scale of the priors.

    Parameters
    ----------
    Y : (N, T, k)
        Scores, NaN = missing; every client has a score.
    course : (T, m)
        Known columns of the common course, 0 at the first session; m may be 0.
    predictors : (N, c)
        Client-level numbers, centered; c may be 0.
    therapist : (N,) int, optional
        Codes 0 .. J - 1.
    measurement_var : (k,)
        Known error variances; 0 where there is none.
    moderators : (N, T, m)
        What lagged effects into a session change with, as deviations from clients' means; m may
        be 0.
    """

    Y: Array
    course: Array
    predictors: Array
    therapist: Codes | None
    measurement_var: Array
    moderators: Array = field(default_factory=lambda: np.zeros((0, 0, 0)))

    @property
    def k(self) -> int:
        """Number of series."""
        return int(self.Y.shape[2])


@dataclass(frozen=True)
class DsemShape:
    """Which effects differ between clients, and how.

    Parameters
    ----------
    variables : tuple of str
        The k series.
    sessions : tuple of int
        The T session numbers.
    course : tuple of str
        Names of the columns of `DsemData.course`, such as ("trend",) or ("@2", "@3", ...).
    predictors : tuple of str
        Names of the predictors.
    random_phi, random_innovation, random_same : bool
        Whether lagged effects, log innovation variances and same-session effects differ between
        clients (intercepts do).
    correlated : bool
        Whether all random effects correlate, or intercepts with one another only.
    therapist : bool
        Whether therapists have random intercepts of their own.
    lagged : tuple of (str, str), optional
        Lagged effects that there are, as (outcome, predictor); all of them unless given.
    same : tuple of (str, str)
        Same-session effects, as (outcome, predictor). With any, innovations are independent.
    initial : {"free", "innovation"}
        Whether the first state has a covariance of its own, or that of innovations, as if there
        had been no deviation before it.
    random_trend : bool
        Whether clients have slopes over sessions of their own.
    moderators : tuple of str
        Names of what lagged effects change with from session to session.
    """

    variables: tuple[str, ...]
    sessions: tuple[int, ...]
    course: tuple[str, ...] = ()
    predictors: tuple[str, ...] = ()
    random_phi: bool = False
    random_innovation: bool = False
    correlated: bool = False
    therapist: bool = False
    random_same: bool = False
    lagged: tuple[tuple[str, str], ...] | None = None
    same: tuple[tuple[str, str], ...] = ()
    initial: Literal["free", "innovation"] = "free"
    random_trend: bool = False
    moderators: tuple[str, ...] = ()

    @property
    def stable(self) -> tuple[str, ...]:
        """Names of the effects that move scores themselves: intercepts, then slopes."""
        slopes = [f"{name}.trend" for name in self.variables] if self.random_trend else []
        return (*self.variables, *slopes)

    @property
    def between_names(self) -> list[str]:
        """Names of the elements of their covariance, series by series as in growth models."""
        k = len(self.variables)
        order = [name for j in range(k) for name in self.stable[j::k]]
        return names.symmetric_labels("between_cov", order)

    @property
    def elapsed(self) -> Array:
        """Sessions since the first, (T,)."""
        return np.array(self.sessions, float) - self.sessions[0]

    @property
    def coefficients(self) -> tuple[tuple[str, str, str], ...]:
        """The p effects of scores on scores: ("phi", outcome, predictor), then ("same", ...)."""
        v = self.variables
        lagged = self.lagged
        if lagged is None:
            lagged = tuple((row, column) for row in v for column in v)
        return (*(("phi", *pair) for pair in lagged), *(("same", *pair) for pair in self.same))

    @property
    def own_coefficients(self) -> tuple[int, int]:
        """First and last + 1 of the coefficients that differ between clients."""
        p, lags = len(self.coefficients), len(self.coefficients) - len(self.same)
        start = 0 if self.random_phi else lags
        return start, max(start, p if self.random_same else lags)

    @property
    def effects(self) -> tuple[str, ...]:
        """Names of the effects of a client that are random, in the order of b_i.

        ``alliance`` is its intercept, ``alliance.trend`` its slope, ``symptoms<-alliance`` a
        lagged effect,
        ``same(alliance<-symptoms)`` a same-session effect, ``log(alliance)`` a log innovation
        variance.
        """
        v = self.variables
        found = list(self.stable)
        for family, row, column in self.coefficients[slice(*self.own_coefficients)]:
            found.append(f"{row}<-{column}" if family == "phi" else f"same({row}<-{column})")
        if self.random_innovation:
            found += [f"log({name})" for name in v]
        return tuple(found)

    def parameter_names(self) -> tuple[str, ...]:
        """Name every population parameter, in the order in which draws are stored.

        mean[a]; trend[a] or session[a]@t; phi[a,b]; same[a,b]; moderation[a,b,z], input[a,z];
        phi_sd[a,b]; same_sd[a,b];
        log_innovation_sd[a] (SD of the log innovation variance); predictor[effect,x]; between_cov
        of intercepts and slopes; random_corr[e,f] of all pairs of effects that are not in it;
        therapist_cov; innovation_cov (of a client with average log variances; variances alone
        where there are same-session effects); initial_cov.
        """
        v = self.variables
        found = [names.label("mean", name) for name in v]
        for column in self.course:
            for name in v:
                if column.startswith("@"):
                    found.append(names.label("session", name, session=int(column[1:])))
                else:
                    found.append(names.label(column, name))
        found += [names.label(*one) for one in self.coefficients]
        for z in self.moderators:
            found += [names.label("moderation", row, column, z) for row in v for column in v]
            found += [names.label("input", row, z) for row in v]
        for family, row, column in self.coefficients[slice(*self.own_coefficients)]:
            found.append(names.label(f"{family}_sd", row, column))
        if self.random_innovation:
            found += [names.label("log_innovation_sd", name) for name in v]
        for x in self.predictors:
            found += [names.label("predictor", effect, x) for effect in self.effects]
        found += self.between_names
        if self.correlated:
            effects = self.effects
            found += [
                names.label("random_corr", effects[a], effects[b])
                for a in range(len(effects))
                for b in range(max(a + 1, len(self.stable)), len(effects))
            ]
        if self.therapist:
            found += names.symmetric_labels("therapist_cov", v)
        found += self.innovation_names
        if self.initial == "free":
            found += names.symmetric_labels("initial_cov", v)
        return tuple(found)

    @property
    def innovation_names(self) -> list[str]:
        """Names of the innovation covariance, or of variances alone."""
        if self.same:
            return [names.label("innovation_cov", name, name) for name in self.variables]
        return names.symmetric_labels("innovation_cov", self.variables)

    def coefficient_matrices(self, values: Array) -> tuple[Array, Array]:
        """Lay coefficients (..., p) out as Phi (..., k, k) and G (..., k, k)."""
        v, k = self.variables, len(self.variables)
        both = np.zeros((2, *values.shape[:-1], k, k))
        for j, (family, row, column) in enumerate(self.coefficients):
            both[int(family == "same"), ..., v.index(row), v.index(column)] = values[..., j]
        return both[0], both[1]


@dataclass(frozen=True)
class Sampled:
    """Posterior draws of the population parameters, and what the sampler says of itself.

    Parameters
    ----------
    names : tuple of str
        As in `DsemShape.parameter_names`.
    draws : (chains, draws, n)
        On the scale of the priors.
    clients : (N, q, 2)
        Posterior mean and SD of every client's effects b_i; not their draws.
    sampler : str
        Such as "gibbs" or "nutpie".
    seconds : float
        Sampling time, compilation aside.
    statistics : mapping
        By name an array (chains, draws): "diverging", "energy" of gradient samplers.
    """

    names: tuple[str, ...]
    draws: Array
    clients: Array
    sampler: str
    seconds: float
    statistics: Mapping[str, Array] = field(default_factory=dict)
