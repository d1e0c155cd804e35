"""What was estimated, and everything that follows from the parameters alone.

All quantities stand on one primitive, `Parameters.derive`: a function of the parameters goes in,
an estimate with its interval comes out, by the delta method for maximum likelihood and draw by
draw for sampled fits.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.checking import methods_checked
from alliancedyn.engine.delta import Derived, Freedom, propagate
from alliancedyn.engine.lagged import OBSERVED, LaggedForm
from alliancedyn.errors import AllianceDynError, SpecificationError, listed
from alliancedyn.results import effects, paths
from alliancedyn.results.drawn import DrawnForm, collected
from alliancedyn.results.estimate import LEVEL, Estimate, estimates, tabulate
from alliancedyn.results.model import Model, Params

Array = NDArray[np.float64]


@methods_checked
@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Parameters:
    """Estimates under canonical names, with their uncertainty.

    Parameters
    ----------
    model : Model
        The specification that was fitted.
    params : Series
        Estimates by canonical name (posterior means of a sampled fit).
    cov : DataFrame
        Their covariance, same names both ways; NaN where no standard error is available.
    variables : tuple of str
        The k variables, panel order.
    process, outcome : str
        The two roles.
    timing : dict
        Variable -> "before" or "after" the session; missing = unknown.
    sessions : tuple of int
        Session numbers that the model covers.
    higher : dict
        Variable -> "better" or "worse": what a higher score means; missing = unknown.
    draws : DataFrame or None
        Posterior draws, columns = names.
    freedom : Freedom or None
        Degrees of freedom of contrasts of the estimates, which make intervals those of t
        distributions; None = normal.
    """

    model: Model
    params: pd.Series
    cov: pd.DataFrame
    variables: tuple[str, ...]
    process: str
    outcome: str
    timing: dict[str, str]
    sessions: tuple[int, ...]
    draws: pd.DataFrame | None = None
    freedom: Freedom | None = None
    higher: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        order = list(self.params.index)
        if list(self.cov.index) != order or list(self.cov.columns) != order:
            raise SpecificationError(
                "Rows and columns of cov must name the parameters in the order of params. "
                "Reindex it with params.index."
            )

    @property
    def se(self) -> pd.Series:
        """Standard errors by canonical name; NaN where not available."""
        derived = Derived(self.params.to_numpy(dtype=float), self.cov.to_numpy(dtype=float))
        return pd.Series(derived.se, index=self.params.index, name="se")

    def derive(self, function: Callable[[Params], float], level: float = LEVEL) -> Estimate:
        """Estimate any function of the parameters, with its uncertainty.

        ``fit.derive(lambda p: p["phi[symptoms,alliance]"] / (1 - p["phi[symptoms,symptoms]"]))``

        Parameters
        ----------
        function : callable
            Takes a mapping from canonical name to value and returns one number.
        level : float
            Coverage of the interval.

        Returns
        -------
        Estimate
            By the delta method; draw by draw if the fit has draws.

        Raises
        ------
        SpecificationError
            If the function asks for a name that is not a parameter, or returns no single number.
        """

        def one(p: Params) -> Array:
            value = np.asarray(function(p), dtype=float)
            if value.size != 1:
                raise SpecificationError(
                    f"The function given to derive() returned {value.size} numbers. "
                    "Return one number, or call derive() once for each."
                )
            return value.reshape(1)

        return estimates(self.derive_many(one), level)[0]

    def derive_many(self, function: Callable[[Params], Array]) -> Derived:
        """Estimate several functions of the parameters with their joint covariance.

        ``function`` takes a mapping from canonical name to value and returns an array (q,); the
        result holds values (q,), their covariance (q, q), and draws (D, q) if the fit has any.
        """
        known = [str(name) for name in self.params.index]
        try:
            if self.draws is not None:
                columns = [str(name) for name in self.draws.columns]
                return collected(function, self.draws, columns)
            at = self.params.to_numpy(dtype=float)
            return propagate(function, known, at, self.cov.to_numpy(dtype=float), self.freedom)
        except (TypeError, ValueError) as failed:
            if isinstance(failed, AllianceDynError):
                raise
            raise SpecificationError(
                f"The function cannot be computed from the parameters: {failed}. Give a function "
                "of a mapping from name to value that returns numbers."
            ) from failed
        except KeyError as missing:
            name = str(missing.args[0]) if missing.args else ""
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known
            raise SpecificationError(
                f"{name!r} is not a parameter of this fit. Use for example {listed(near)}."
            ) from missing

    def table(self, level: float = LEVEL) -> pd.DataFrame:
        """Return every parameter: estimate, se, lower, upper, p_value (prob_positive if sampled).

        The p-value of a variance tests a value on the edge of what is possible: read the
        interval, or compare models, instead.
        """
        index = pd.Index(self.params.index, name="parameter")
        draws = None if self.draws is None else self.draws[list(index)].to_numpy(dtype=float)
        at, cov = self.params.to_numpy(dtype=float), self.cov.to_numpy(dtype=float)
        df = None
        if self.freedom is not None:
            df = self.freedom.of(np.eye(len(at)), np.nan_to_num(cov))
        return tabulate(Derived(at, cov, draws, df), index, level)

    @cached_property
    def lagged(self) -> LaggedForm:
        """The parameters read as a vector autoregression, in all groups."""
        form = LaggedForm.of(map(str, self.params.index), self.variables, self.sessions)
        return form if self.draws is None else DrawnForm.of_draws(form, self.draws)

    def sd_within_basis(self, *, group: str | None = None) -> str:
        """Say which within SD standardizes effects.

        "stationary" or "pooled over sessions", or of a regression "observed within clients".

        Stationary where lags and innovations are equal over sessions and the process settles (in
        every draw, if sampled); else the root of the model-implied within variance averaged over
        sessions. In a model without random intercepts "within" is the whole of the score.
        """
        form = self.lagged.of_group(group)
        if "within_var" in form.families:
            return OBSERVED
        at: Any = self.params if self.draws is None else self.draws
        effects.need_within(form, at, self.model.name)
        return form.basis(form.settling(at))

    def sd_within(self, *, group: str | None = None) -> pd.Series:
        """Return the within-client SDs that standardize effects, score points by variable.

        Those of the lagged process alone: without measurement error, growth and known inputs.
        """
        form, basis = self.lagged.of_group(group), self.sd_within_basis(group=group)
        derived = self.derive_many(lambda p: form.within_sd(p, basis))
        return pd.Series(derived.values, index=list(self.variables), name="sd_within")

    def effect(
        self,
        source: str,
        target: str,
        standardized: Literal["within"] | None = None,
        *,
        session: int | None = None,
        lag: int = 1,
        group: str | None = None,
        level: float = LEVEL,
    ) -> Estimate:
        """Return the effect of the source on the target one session later.

        In every family it is the response of `impulse_response` at session 1: phi[target,source],
        and phi + ma where moving-average terms pass a shock on as well.

        Parameters
        ----------
        source, target : str
            Variables.
        standardized : "within" or None
            In within-client SDs, phi SD(source) / SD(target) (see `sd_within_basis`), or raw.
        session : int or None
            The target's session, where lags differ between sessions or change at a step; None =
            their plain average.
        lag : int
            2 for phi2[target,source], what the source adds from two sessions back.
        group : str or None
            Such as "arm=1", where groups have lags of their own.
        level : float
            Coverage of the interval.

        Returns
        -------
        Estimate
            Points of the target per point of the source, or within SDs per within SD.

        Raises
        ------
        SpecificationError
            If a variable, the standardization, the session or the lag is not part of the model,
            or groups differ and none is named.
        """
        effects.chosen("standardized", standardized, (None, "within"))
        form = self.lagged.of_group(group)
        basis = self.sd_within_basis(group=group) if standardized else None
        function = effects.lagged_effect(form, source, target, session, basis, lag)
        return estimates(self.derive_many(function), level)[0]

    def structural(
        self, level: float = LEVEL, *, session: int | None = None, group: str | None = None
    ) -> pd.DataFrame:
        """Return the process in the order in which the scores are taken.

        With the outcome o taken before and the process p after the session::

            o_t = phi_o o_{t-1} + b p_{t-1} + u_t            forward
            p_t = phi_p p_{t-1} + g o_t + h o_{t-1} + e_t    backward_immediate, backward_delayed

        If it is the process that is taken before, the roles swap and so do the rows: backward
        (b), forward_immediate (g), forward_delayed (h). ``g`` and ``h`` need u_t and e_t
        uncorrelated. Where innovations differ between sessions, g is that of the pooled ones, or
        that of ``session``.

        Returns
        -------
        DataFrame
            Those rows and ``autoregression[...]`` of process and outcome, raw units; columns
            estimate, se, lower, upper, p_value (prob_positive if sampled).

        Raises
        ------
        SpecificationError
            Unless two variables, first-order lags, equal or those of one ``session``, in one
            ``group``, one score before and one after the session.
        """
        form = self.lagged.of_group(group)
        effects.leads_into(form, session)
        order = paths.time_order(form, self.timing, session)
        solved, rows = paths.path_labels(order, self.process, self.outcome)
        derived = self.derive_many(lambda p: form.time_ordered(p, *order, session))
        return tabulate(derived, pd.Index(solved, name="path"), level).loc[rows]

    def impulse_response(
        self,
        shock: str,
        sessions: int = 8,
        kind: Literal["reduced", "structural"] = "reduced",
        level: float = LEVEL,
        *,
        session: int | None = None,
        group: str | None = None,
    ) -> pd.DataFrame:
        """Follow a shock of one raw unit through the following sessions.

        Reduced: an innovation of one point in ``shock`` alone. Structural: one point of u or e,
        entered in time order, so that a shock to the score before the session moves the score
        after it by g in the same session. Where lags differ between sessions, those into
        ``session`` are taken to stay.

        Returns
        -------
        DataFrame
            Rows 0..sessions; columns (variable, estimate / lower / upper), score points.

        Raises
        ------
        SpecificationError
            If lags differ between sessions or groups and none is named, or time order is needed
            and not known.
        """
        effects.chosen("kind", kind, ("reduced", "structural"))
        steps = effects.whole_number("sessions", sessions, 0)
        form = self.lagged.of_group(group)
        order = paths.time_order(form, self.timing, session) if kind == "structural" else None
        derived = self.derive_many(effects.response(form, shock, steps, order, session))
        return effects.response_frame(derived, self.variables, level)

    def long_run(
        self,
        source: str,
        target: str,
        kind: Literal["sustained", "total"] = "sustained",
        level: float = LEVEL,
        *,
        session: int | None = None,
        group: str | None = None,
    ) -> Estimate:
        """Return what a change in the source comes to in the end.

        Sustained: phi[target,source] / (1 - phi[target,target]), the eventual change of the
        target (points) if the source stays one point higher. Total: the target's response to a
        passing shock of one point in the source, summed over all later sessions. Second-order
        lags add to both, moving-average terms to the second.

        Raises
        ------
        SpecificationError
            If lags differ between sessions or groups and none is named, or the process does not
            settle.
        """
        form = self.lagged.of_group(group)
        function = effects.long_run(form, source, target, kind, session)
        return estimates(self.derive_many(function), level)[0]
