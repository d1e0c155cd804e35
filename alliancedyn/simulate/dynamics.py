"""The truth of a simulated world, and everything about it that can be computed without simulating.

Observed score of client i at session t (k series, score points):

    y_it = mean + k_i + trend_i(t) + w_it + e_it
    w_it = Phi w_i,t-1 + Phi2 w_i,t-2 + c U_it + v_it,      Cov(v_it) = Psi

with stable client differences k_i ~ N(0, between_cov), within-client deviations w_it, an
unobserved common cause U_it and measurement error e_it. What else may happen is in `features`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.allowed import OR_ONE
from alliancedyn.checking import checked, methods_checked
from alliancedyn.engine import var
from alliancedyn.errors import SpecificationError, listed, nearest
from alliancedyn.simulate import parameters, random_effects, system
from alliancedyn.simulate.arguments import (
    as_array,
    as_count,
    as_covariance,
    as_lag_sds,
    as_reliabilities,
    as_several,
)
from alliancedyn.simulate.features import Confounder, Covariate, Event, Innovations, Phase
from alliancedyn.simulate.growth import GrowthCurve, refuse_mismatched
from alliancedyn.simulate.series import roles, series_names, session_timing

Array = NDArray[np.float64]


@methods_checked
@checked
@dataclass(frozen=True, eq=False, repr=False)
class Dynamics:
    """A world whose parameters are known: the ground truth of simulated panels.

    Lists are accepted wherever an array is named; arrays are stored read-only. Two worlds with the
    same numbers are equal and hash alike.

    Parameters
    ----------
    phi : (k, k)
        Lagged effects per session, row = outcome, column = predictor: ``phi[1, 0]`` is the effect
        of the first series at one session on the second at the next.
    innovation_cov : (k, k), squared score points
        Covariance of what moves the series anew at each session.
    between_cov : (k, k), squared score points, optional
        Covariance of the clients' stable levels. None: clients differ only within (a CLPM world).
    mean : (k,), score points, optional
        Expected score, at session 1 if there is a trend. None: zero.
    trend : GrowthCurve, optional
        Expected course over sessions, with client slopes on request.
    phi_sd : (k, k), optional
        Standard deviations of client-specific lagged effects, independent normal around ``phi``.
        Clients whose own lag matrix would be explosive are drawn again, so with large SDs the
        mean lag among simulated clients is smaller than ``phi``. The analytic figures of this
        class describe the client with ``phi_sd = 0``.
    reliability : (k,) or one number, optional
        Share of the *within-client* variance that is not measurement error, r. The error variance
        is ``within variance x (1 - r) / r``. None: measured without error.
    variables : sequence of k names
        Default ``("alliance", "symptoms")`` when k = 2.
    timing : mapping name -> "before" | "after", optional
        When in the session each score is taken. Default: alliance after and symptoms before for
        series of those names, otherwise unknown.
    phi2 : (k, k), optional
        Lagged effects over two sessions.
    random_corr : sequence of (effect, effect, correlation)
        Of clients' lagged effects and log innovation variances, with each other or with levels and
        slopes: ``("alliance", "symptoms<-alliance", -0.4)``. Effects are named as by DSEM, a slope
        ``alliance.trend``, a log variance ``log(alliance)``.
    innovations : Innovations, optional
        Student-t or skewed innovations, and variances that differ between clients.
    confounder : Confounder, optional
        An unobserved series that moves the others.
    covariates, phases, events : sequences of Covariate, Phase, Event
        Properties that move levels, slopes or lags; lags that change; ruptures and crises.

    Raises
    ------
    SpecificationError
        If shapes disagree, a covariance is not one, a reliability lies outside (0, 1], or ``phi``
        is explosive.

    References
    ----------
    Hamaker, E. L., Kuiper, R. M., & Grasman, R. P. P. P. (2015). A critique of the cross-lagged
    panel model. Psychological Methods, 20(1), 102-116.

    Examples
    --------
    >>> truth = Dynamics(phi=[[0.36, -0.05], [-0.12, 0.45]],
    ...                  innovation_cov=[[1, -0.25], [-0.25, 1]],
    ...                  between_cov=[[1, -0.3], [-0.3, 1]], mean=(3, 10))
    >>> truth.effect("alliance", "symptoms")
    -0.12
    """

    phi: Array
    innovation_cov: Array
    between_cov: Array | None = None
    mean: Array | None = None
    trend: GrowthCurve | None = None
    phi_sd: Array | None = None
    reliability: Array | float | None = None
    variables: Sequence[str] = ("alliance", "symptoms")
    timing: Mapping[str, str] | None = None
    phi2: Array | None = None
    innovations: Innovations | None = None
    confounder: Confounder | None = None
    covariates: Annotated[Sequence[Covariate], OR_ONE] = ()
    phases: Annotated[Sequence[Phase], OR_ONE] = ()
    events: Annotated[Sequence[Event], OR_ONE] = ()
    random_corr: Sequence[tuple[str, str, float]] = ()

    def __post_init__(self) -> None:
        store, variables = object.__setattr__, series_names(self.variables)
        store(self, "variables", variables)
        k = len(variables)
        store(self, "phi", as_array(self.phi, (k, k), "phi"))
        store(self, "innovation_cov", as_covariance(self.innovation_cov, k, "innovation_cov"))
        between = np.zeros((k, k)) if self.between_cov is None else self.between_cov
        store(self, "between_cov", as_covariance(between, k, "between_cov"))
        store(self, "mean", as_array(np.zeros(k) if self.mean is None else self.mean, (k,), "mean"))
        if self.phi_sd is not None:
            store(self, "phi_sd", as_lag_sds(self.phi_sd, k))
        store(self, "reliability", as_reliabilities(self.reliability, k))
        store(self, "timing", session_timing(self.timing, variables))
        if self.phi2 is not None:
            store(self, "phi2", as_array(self.phi2, (k, k), "phi2"))
        store(self, "covariates", as_several(self.covariates, Covariate, "covariates"))
        store(self, "phases", as_several(self.phases, Phase, "phases"))
        store(self, "events", as_several(self.events, Event, "events"))
        if self.trend is not None:
            refuse_mismatched(self.trend, k)
            size = len(self.random_effects_cov)
            as_covariance(self.random_effects_cov, size, "The intercept and slope covariance")
        store(self, "random_corr", random_effects.as_pairs(self.random_corr))
        system.refuse_impossible(self)
        random_effects.refuse_impossible(self)

    @classmethod
    def time_ordered(
        cls,
        phi_alliance: float,
        phi_symptoms: float,
        forward: float,
        backward: float,
        alliance_var: float = 1.0,
        symptoms_var: float = 1.0,
        *,
        backward_delayed: float = 0.0,
        between_cov: Any = None,
        mean: Any = None,
        trend: GrowthCurve | None = None,
        phi_sd: Any = None,
        reliability: Any = None,
        variables: tuple[str, str] = ("alliance", "symptoms"),
    ) -> Dynamics:
        """Build the world from what happens in time: symptoms before, alliance after the session.

            s_t = phi_symptoms s_{t-1} + forward a_{t-1}                           + u_t
            a_t = phi_alliance a_{t-1} + backward s_t + backward_delayed s_{t-1}   + e_t

        Parameters
        ----------
        phi_alliance, phi_symptoms : float
            Autoregressions.
        forward, backward : float
            b: alliance after session t-1 on symptoms before t; g: those on alliance after t.
        alliance_var, symptoms_var : float, squared score points
            Variances of the independent innovations e and u.
        backward_delayed : float
            h: symptoms before session t-1 on alliance after t, past the path through s_t.
        between_cov, mean, trend, phi_sd, reliability
            As for the class; ``phi_sd`` belongs to the resulting (reduced) ``phi``.
        variables : pair of names
            The series rated after the session first, the one rated before it second.
        """
        given = (phi_alliance, phi_symptoms, forward, backward, backward_delayed)
        lags = as_array(given, (5,), "The lagged effects")
        variances = as_array((alliance_var, symptoms_var), (2,), "The innovation variances")
        if (variances < 0.0).any():
            raise SpecificationError("Innovation variances must not be negative.")
        phi, psi = var.time_ordered_to_reduced(*lags.tolist(), *variances.tolist())
        after, before = series_names(variables)
        return cls(
            phi=phi,
            innovation_cov=psi,
            between_cov=between_cov,
            mean=mean,
            trend=trend,
            phi_sd=phi_sd,
            reliability=reliability,
            variables=(after, before),
            timing={after: "after", before: "before"},
        )

    @classmethod
    def continuous(
        cls, drift: Any, diffusion_cov: Any, *, between_cov: Any = None, mean: Any = None
    ) -> Dynamics:
        """Build the world from a process in continuous time, dw = A w dt + G dW, seen once a week.

        ``drift`` is A (k, k) per week, row = outcome; ``diffusion_cov`` is GG' in squared score
        points per week. `Gaps` with ``per="time"`` sees the same process at any gap; the other
        options of the class are set by `dataclasses.replace`.
        """
        phi, psi = parameters.one_week(drift, diffusion_cov)
        return cls(phi=phi, innovation_cov=psi, between_cov=between_cov, mean=mean)

    @property
    def process(self) -> str:
        """The series that plays the process: ``"alliance"`` if there is one, else the first."""
        return roles(tuple(self.variables))[0]

    @property
    def outcome(self) -> str:
        """The series that plays the outcome: ``"symptoms"`` if there is one, else the second."""
        return roles(tuple(self.variables))[1]

    @cached_property
    def within_cov(self) -> Array:
        """Stationary covariance W = Phi W Phi' + Psi: (k, k), squared score points."""
        k = len(self.variables)
        cov: Array = np.ascontiguousarray(system.stationary(self)[1][:k, :k])
        cov.flags.writeable = False
        return cov

    @cached_property
    def measurement_var(self) -> Array:
        """Measurement-error variances: (k,), squared score points."""
        reliability = np.asarray(self.reliability, dtype=float)
        variances = np.asarray(np.diag(self.within_cov) * (1.0 - reliability) / reliability)
        variances.flags.writeable = False
        return variances

    @cached_property
    def random_effects_cov(self) -> Array:
        """Covariance of what is stable in a client: intercepts (k), then slopes (k) if they vary.

        Squared score points; slopes per unit of the trend's basis; covariates not included.
        """
        between = np.asarray(self.between_cov)
        if self.trend is None or self.trend.slope_cov is None:
            return between
        slopes = np.array(self.trend.slope_cov)
        crossed = self.trend.intercept_slope_cov
        cross = np.zeros_like(between) if crossed is None else np.array(crossed)
        return np.block([[between, cross], [cross.T, slopes]])

    @property
    def icc(self) -> pd.Series:
        """Share of a session's score variance that is stable between clients.

        Observed scores: between / (between + within + measurement error), at session 1 where
        there are slopes, covariates included; therapists, who belong to `simulate`, come on top.
        """
        return pd.Series(parameters.stable_shares(self), index=list(self.variables), name="icc")

    def session_means(self, sessions: int) -> Array:
        """Return the expected scores at sessions 1..``sessions``: (T, k), score points."""
        sessions = as_count(sessions, 1, "sessions")
        mean = np.tile(np.asarray(self.mean), (sessions, 1))
        return mean if self.trend is None else mean + self.trend.expected(sessions)

    def moments(self, sessions: int) -> tuple[Array, Array]:
        """Return mean and covariance of a client's scores at sessions 1..T, stationary start.

        Cov(w_s, w_t) = W (Phi')^(t-s) for s <= t.

        Returns
        -------
        mean : (T k,) array, score points
            Session-major: session 1 (all series), session 2, ...
        cov : (T k, T k) array, squared score points
            Between, trend, within and measurement parts together.

        Raises
        ------
        SpecificationError
            If lags or innovation variances vary, or events happen: a mixture, no closed form.
        """
        parameters.refuse_mixture(self)
        return self.session_means(sessions).ravel(), parameters.score_cov(self, sessions)

    def effect(self, source: str, target: str, standardized: parameters.Within = None) -> float:
        """Return the lagged effect of ``source`` on ``target`` one session later.

        Parameters
        ----------
        source, target : str
            Names of two series (or twice the same: its autoregression).
        standardized : None or "within"
            None: score points per score point. "within": within-client SDs of the target per
            within-client SD of the source (error-free, stationary).
        """
        i, j = self._position(target), self._position(source)
        raw = float(self.phi[i, j])
        if standardized is None:
            return raw
        return raw * self._sd_ratio(i, j)

    def structural(self) -> pd.DataFrame:
        """Return the effects in the order in which things happen (one score before, one after).

        With the process p taken after and the outcome o taken before the session:

            o_t = phi_o o_{t-1} + b p_{t-1} + u_t            forward
            p_t = phi_p p_{t-1} + g o_t + h o_{t-1} + e_t    backward_immediate, backward_delayed

        If it is the process that is taken before, the rows swap too: backward (b),
        forward_immediate (g), forward_delayed (h).

        Returns
        -------
        DataFrame, columns ``value`` (score points) and ``standardized`` (within-client SDs)
            Those rows and ``autoregression[...]`` of process and outcome.

        Raises
        ------
        SpecificationError
            Unless there are two series, one taken before and one after the session.
        """
        after, before = parameters.after_before(self, "structural()")
        scale = self._sd_ratio(before, after), self._sd_ratio(after, before)
        return parameters.time_ordered(self, after, before, *scale)

    def impulse_response(
        self, shock: str, sessions: int = 8, kind: Literal["reduced", "structural"] = "reduced"
    ) -> pd.DataFrame:
        """Follow a one-point innovation in ``shock`` over the sessions after it.

        Parameters
        ----------
        shock : str
            The series that is pushed by one score point.
        sessions : int
            How many sessions to follow it.
        kind : "reduced" or "structural"
            "reduced": nothing else moves at the session of the push. "structural": the score taken
            after that session answers a push of the score taken before it at once (by g).

        Returns
        -------
        DataFrame
            Rows 0 .. ``sessions`` (index ``session``), one column per series, score points.
        """
        sessions = as_count(sessions, 0, "sessions")
        push = np.zeros(len(self.variables))
        push[self._position(shock)] = 1.0
        if kind == "structural":
            i, j = parameters.after_before(self, 'impulse_response(kind="structural")')
            push[i] += push[j] * self.innovation_cov[i, j] / self.innovation_cov[j, j]
        response = parameters.response(self, push, sessions)
        index = pd.RangeIndex(sessions + 1, name="session")
        return pd.DataFrame(response, index=index, columns=list(self.variables))

    def long_run(self, source: str, target: str, kind: parameters.Ends = "sustained") -> float:
        """Return where the effect of ``source`` on ``target`` ends.

        Parameters
        ----------
        source, target : str
            Names of two series.
        kind : "sustained" or "total"
            "sustained": change of the target if the source stays one point higher for good,
            phi_target,source / (1 - phi_target). "total": summed response of the target to a
            passing one-point push of the source, feedback included.
        """
        i, j = self._position(target), self._position(source)
        if kind == "total":
            return float(parameters.total_effect(self)[i, j])
        if i == j:
            raise SpecificationError(
                'A sustained effect needs two series. For one series ask kind="total".'
            )
        lags = self.phi if self.phi2 is None else self.phi + self.phi2
        return float(var.sustained_effect(float(lags[i, i]), float(lags[i, j])))

    def params(self, sessions: int | None = None) -> pd.Series:
        """Return the true parameters by the names that fits use.

        Parameters
        ----------
        sessions : int, optional
            Also give ``mean[...]@t`` for sessions 1..``sessions``.

        Returns
        -------
        Series
            ``phi[...]``, ``innovation_cov[...]``, ``between_cov[...]``, ``initial_cov[...]`` (the
            stationary one), ``mean[...]`` or, where there is a growth curve with slopes,
            ``intercept[...]`` and ``trend[...]``; where there are such, ``measurement_var[...]``,
            ``phi_sd[...]``, ``phi2[...]``.
        """
        return parameters.named(self, sessions)

    def _position(self, name: str) -> int:
        if name not in self.variables:
            known = f"{listed(self.variables, 9)}.{nearest(name, self.variables)}"
            raise SpecificationError(f"There is no series {name!r}. The series are {known}")
        return self.variables.index(name)

    def _sd_ratio(self, target: int, source: int) -> float:
        target_var, source_var = self.within_cov[target, target], self.within_cov[source, source]
        if not target_var > 0.0:
            name = f"{self.variables[target]!r} never varies within clients"
            raise SpecificationError(f"{name}, so nothing can be standardised by its SD.")
        return float(np.sqrt(source_var / target_var))

    def _values(self) -> list[Any]:  # plain lists, numbers and names, ready for the constructor
        return [_plain(getattr(self, field.name)) for field in fields(self)]

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, Dynamics) else NotImplemented

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        named = zip((field.name for field in fields(self)), self._values(), strict=True)
        given = (f"{name}={value!r}" for name, value in named if value not in (None, ()))
        return f"Dynamics({', '.join(given)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(self._values())  # by the constructor: arrays return read-only


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return dict(value) if isinstance(value, Mapping) else value
