"""The one result: what every model family returns, and everything that is computed from it.

All quantities stand on one primitive, `Fit.derive`: a function of the parameters goes in, an
estimate with its interval comes out, by the delta method for maximum likelihood and draw by draw
for sampled fits.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import log
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.engine.delta import Derived, collect, propagate
from alliancedyn.engine.lagged import LaggedForm
from alliancedyn.errors import DataError, SpecificationError, listed
from alliancedyn.results import display, effects, paths, saturation, scores
from alliancedyn.results.estimate import (
    LEVEL,
    Estimate,
    Sample,
    estimates,
    tabulate,
)
from alliancedyn.results.model import ClientGroup, Model, Panel, Params

if TYPE_CHECKING:
    from alliancedyn.results.profile import ProfileEstimate

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Fit:
    """The result of any model family.

    Parameters
    ----------
    model : Model
        The specification that was fitted.
    params : Series
        Estimates by canonical name (posterior means of a sampled fit).
    cov : DataFrame
        Their covariance, same names both ways; NaN where no standard error is available.
    sample : Sample
        What was used and what was set aside.
    diagnostics : dict
        Always "gradient", "condition", "boundary" (sentences naming parameters at a bound) and
        "seconds"; more by family.
    loglik : float or None
        Log-likelihood at ``params``, normal, divisor N.
    n_params : int
        Freely estimated parameters.
    converged : bool
        Whether ``params`` maximize the likelihood (or the sampler mixed).
    variables : tuple of str
        The k variables, panel order.
    process, outcome : str
        The two roles.
    timing : dict
        Variable -> "before" or "after" the session; missing = unknown.
    sessions : tuple of int
        Session numbers that the model covers.
    draws : DataFrame or None
        Posterior draws, columns = names.
    data : Observed or None
        The scores; None after `without_data`.
    """

    model: Model
    params: pd.Series
    cov: pd.DataFrame
    sample: Sample
    diagnostics: dict[str, Any]
    loglik: float | None
    n_params: int
    converged: bool
    variables: tuple[str, ...]
    process: str
    outcome: str
    timing: dict[str, str]
    sessions: tuple[int, ...]
    draws: pd.DataFrame | None = None
    data: scores.Observed | None = None

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

    @property
    def aic(self) -> float:
        """-2 log-likelihood + 2 parameters; NaN without a likelihood."""
        return float("nan") if self.loglik is None else 2 * self.n_params - 2 * self.loglik

    @property
    def bic(self) -> float:
        """-2 log-likelihood + log(clients) parameters; NaN without a likelihood."""
        if self.loglik is None:
            return float("nan")
        return self.n_params * log(self.sample.clients) - 2 * self.loglik

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
                return collect(function, self.draws.to_numpy(dtype=float), columns)
            at = self.params.to_numpy(dtype=float)
            return propagate(function, known, at, self.cov.to_numpy(dtype=float))
        except KeyError as missing:
            name = str(missing.args[0]) if missing.args else ""
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known
            raise SpecificationError(
                f"{name!r} is not a parameter of this fit. Use for example {listed(near)}."
            ) from missing

    def profile(
        self,
        quantity: str | Callable[[Params], float],
        level: float = LEVEL,
        panel: Panel | None = None,
    ) -> ProfileEstimate:
        """Estimate a parameter, or any smooth function of them, with its profile interval.

        The interval holds every value c at which 2 (l_max - l_p(c)) is below the chi-square
        quantile (1 df), l_p(c) being the log-likelihood maximized with the quantity held at c.
        With robust errors the quantile is multiplied by robust over plain variance.

        Parameters
        ----------
        quantity : str or callable
            Canonical name, or a function as in `derive`.
        level : float
            Coverage of the interval.
        panel : SessionPanel, optional
            The one that was fitted, after `without_data`.

        Returns
        -------
        ProfileEstimate
            ``notes`` says why an end is at a bound or infinite; ``p_value`` is that of the
            likelihood ratio against zero, None for a variance.

        Raises
        ------
        SpecificationError
            If there is no such parameter, or no likelihood.
        ConvergenceError
            If the fit is not at the highest maximum.
        """
        from alliancedyn.results.profile import profile_estimate

        return profile_estimate(self, quantity, level, self._scores(panel))

    def table(self, level: float = LEVEL) -> pd.DataFrame:
        """Return every parameter: estimate, se, lower, upper, p_value (prob_positive if sampled).

        The p-value of a variance tests a value on the edge of what is possible: read the
        interval, or compare models, instead.
        """
        index = pd.Index(self.params.index, name="parameter")
        draws = None if self.draws is None else self.draws[list(index)].to_numpy(dtype=float)
        at, cov = self.params.to_numpy(dtype=float), self.cov.to_numpy(dtype=float)
        return tabulate(Derived(at, cov, draws), index, level)

    @cached_property
    def lagged(self) -> LaggedForm:
        """The parameters read as a VAR(1)."""
        return LaggedForm.of(map(str, self.params.index), self.variables, self.sessions)

    def sd_within_basis(self) -> str:
        """Say which within SD standardizes effects: "stationary" or "pooled over sessions".

        Stationary where lags and innovations are equal over sessions and the process settles (in
        every draw, if sampled); else the root of the model-implied within variance averaged over
        sessions. In a model without random intercepts "within" is the whole of the score.
        """
        form, k = self.lagged, len(self.variables)
        at: Any = self.params if self.draws is None else self.draws
        effects.need_lags(form, at, self.model.name)
        return form.basis(at[form.lag_names].to_numpy(dtype=float).reshape(-1, k, k))

    def sd_within(self) -> pd.Series:
        """Return the within-client SDs that standardize effects, score points by variable."""
        basis = self.sd_within_basis()
        derived = self.derive_many(lambda p: self.lagged.within_sd(p, basis))
        return pd.Series(derived.values, index=list(self.variables), name="sd_within")

    def effect(
        self,
        source: str,
        target: str,
        standardized: Literal["within"] | None = None,
        *,
        session: int | None = None,
        level: float = LEVEL,
    ) -> Estimate:
        """Return the lagged effect phi[target,source]: source at t-1 -> target at t.

        Parameters
        ----------
        source, target : str
            Variables.
        standardized : "within" or None
            In within-client SDs, phi SD(source) / SD(target) (see `sd_within_basis`), or raw.
        session : int or None
            The target's session, where lags differ between sessions; None = their plain average.
        level : float
            Coverage of the interval.

        Returns
        -------
        Estimate
            Points of the target per point of the source, or within SDs per within SD.

        Raises
        ------
        SpecificationError
            If a variable, the standardization or the session is not part of the model.
        """
        effects.chosen("standardized", standardized, (None, "within"))
        basis = self.sd_within_basis() if standardized else None
        function = effects.lagged_effect(self.lagged, source, target, session, basis)
        return estimates(self.derive_many(function), level)[0]

    def structural(self, level: float = LEVEL) -> pd.DataFrame:
        """Return the process in the order in which the scores are taken.

        With the outcome o taken before and the process p after the session::

            o_t = phi_o o_{t-1} + b p_{t-1} + u_t            forward
            p_t = phi_p p_{t-1} + g o_t + h o_{t-1} + e_t    backward_immediate, backward_delayed

        If it is the process that is taken before, the roles swap and so do the rows: backward
        (b), forward_immediate (g), forward_delayed (h). ``g`` and ``h`` need u_t and e_t
        uncorrelated. Where innovations differ between sessions, g is that of the pooled ones.

        Returns
        -------
        DataFrame
            Those rows and ``autoregression[...]`` of process and outcome, raw units; columns
            estimate, se, lower, upper, p_value (prob_positive if sampled).

        Raises
        ------
        SpecificationError
            Unless two variables, equal lags, one score before and one after the session.
        """
        form = self.lagged
        order = paths.time_order(form, self.timing)
        solved, rows = paths.path_labels(order, self.process, self.outcome)
        derived = self.derive_many(lambda p: form.time_ordered(p, *order))
        return tabulate(derived, pd.Index(solved, name="path"), level).loc[rows]

    def impulse_response(
        self,
        shock: str,
        sessions: int = 8,
        kind: Literal["reduced", "structural"] = "reduced",
        level: float = LEVEL,
    ) -> pd.DataFrame:
        """Follow a shock of one raw unit through the following sessions.

        Reduced: an innovation of one point in ``shock`` alone. Structural: one point of u or e,
        entered in time order, so that a shock to the score before the session moves the score
        after it by g in the same session.

        Returns
        -------
        DataFrame
            Rows 0..sessions; columns (variable, estimate / lower / upper), score points.

        Raises
        ------
        SpecificationError
            If lags differ between sessions, or time order is needed and not known.
        """
        effects.chosen("kind", kind, ("reduced", "structural"))
        steps = effects.whole_number("sessions", sessions, 0)
        order = paths.time_order(self.lagged, self.timing) if kind == "structural" else None
        derived = self.derive_many(effects.response(self.lagged, shock, steps, order))
        return effects.response_frame(derived, self.variables, level)

    def long_run(
        self,
        source: str,
        target: str,
        kind: Literal["sustained", "total"] = "sustained",
        level: float = LEVEL,
    ) -> Estimate:
        """Return what a change in the source comes to in the end.

        Sustained: phi[target,source] / (1 - phi[target,target]), the eventual change of the
        target (points) if the source stays one point higher. Total: the target's response to a
        passing shock of one point in the source, summed over all later sessions.

        Raises
        ------
        SpecificationError
            If lags differ between sessions, or the process does not settle.
        """
        function = effects.long_run(self.lagged, source, target, kind)
        return estimates(self.derive_many(function), level)[0]

    def fit_indices(self, panel: Panel | None = None) -> dict[str, float | str]:
        """Return chi-square, CFI, TLI, RMSEA (90 % interval), SRMR, AIC, BIC against saturation.

        Robust fits add scaled versions. NaN plus "reason" ("reason_scaled") where an index does
        not exist, as when the data cannot identify the saturated model.

        Raises
        ------
        SpecificationError
            If the fit has no likelihood.
        """
        return dict(self._own_indices if panel is None else self._indices(panel))

    @cached_property
    def _own_indices(self) -> dict[str, float | str]:
        return self._indices(None)

    def _indices(self, panel: Panel | None) -> dict[str, float | str]:
        if self.loglik is None:
            raise SpecificationError(f"{self.model.name} has no likelihood, so no fit indices.")
        used = self._scores(panel)
        clusters, why = scores.clusters(self.diagnostics.get("errors"), panel, used)
        trace = self.diagnostics.get("trace") if why is None else None
        found = saturation.indices(
            self._groups(used), used, self.loglik, self.n_params, trace, clusters
        )
        return found if why is None else {**found, "reason_scaled": why}

    def predict(self, horizon: int = 1, panel: Panel | None = None) -> pd.DataFrame:
        """Forecast each client's score at session t from the scores up to session t - horizon.

        Parameters
        ----------
        horizon : int
            Sessions ahead, 1 or more.
        panel : SessionPanel, optional
            Other clients than those fitted, or the same after `without_data`.

        Returns
        -------
        DataFrame
            client, session, variable, mean, sd (score points); one row per session of the model
            that lies at least ``horizon`` sessions after its first. Estimates are taken as known.
        """
        from alliancedyn.engine.smooth import forecast

        steps = effects.whole_number("horizon", horizon, 1)
        used = self._scores(panel)
        mean, sd = np.full(used.Y.shape, np.nan), np.full(used.Y.shape, np.nan)
        for group in self._groups(used):
            mean[group.rows], sd[group.rows] = forecast(
                group.system, used.Y[group.rows], steps, group.inputs
            )
        keys = {"variable": list(used.variables)}
        return scores.in_rows(used.clients, self.sessions, keys, mean, sd)

    def states(self, panel: Panel | None = None) -> pd.DataFrame:
        """Return each client's stable and momentary parts, given all of the client's scores.

        Both are deviations (score points): "between" of the client from the session means,
        "within" of the session from the client. Not for forecasting: they use later sessions.

        Returns
        -------
        DataFrame
            client, session, variable, part, mean, sd.
        """
        from alliancedyn.engine.smooth import smooth

        used = self._scores(panel)
        shape = (*used.Y.shape[:2], 2 * len(self.variables))
        mean, sd = np.full(shape, np.nan), np.full(shape, np.nan)
        stable = False
        for group in self._groups(used):
            weights = scores.parts(group)
            stable |= bool(weights[:, len(self.variables) :].any())
            mean[group.rows], sd[group.rows] = smooth(
                group.system, used.Y[group.rows], group.inputs, weights
            )
        shown = shape[2] if stable else len(self.variables)
        parts = ["within"] * len(self.variables) + ["between"] * len(self.variables)
        keys = {"variable": list(self.variables) * 2, "part": parts}
        keys = {key: labels[:shown] for key, labels in keys.items()}
        cut = slice(shown)
        return scores.in_rows(used.clients, self.sessions, keys, mean[..., cut], sd[..., cut])

    def without_data(self) -> Fit:
        """Return the fit without its scores: pickles small, shares safely.

        `predict`, `states` and `fit_indices` then take ``panel=``.
        """
        diagnostics = {**self.diagnostics, "fingerprint": self.fingerprint()}
        return replace(self, data=None, diagnostics=diagnostics)

    def fingerprint(self) -> str | None:
        """Return a digest of the scores used, equal for fits to the same scores; None if lost."""
        if self.data is None:
            return self.diagnostics.get("fingerprint")
        variables = tuple(sorted(self.data.variables))
        return scores.fingerprint(scores.align(self.data, variables, self.sessions))

    def verdicts(self) -> list[str]:
        """Return the sentences to read before any number: no convergence, bounds; else empty."""
        return display.verdicts(self.converged, self.diagnostics)

    def __repr__(self) -> str:
        state = "converged" if self.converged else "NOT CONVERGED"
        bounds = len(self.diagnostics.get("boundary", ()))
        at_bound = f", {bounds} at a bound" if bounds else ""
        return f"<Fit {self._heading()} · {state}{at_bound}>"

    def __str__(self) -> str:
        return display.text(self._heading(), self.verdicts(), self.table())

    def _repr_html_(self) -> str:
        return display.html(self._heading(), self.verdicts(), self.table())

    def _heading(self) -> str:
        return display.heading(self.model.name, self.variables, self.sample, self.loglik)

    def _groups(self, used: scores.Observed) -> list[ClientGroup]:
        params = {str(name): float(value) for name, value in self.params.items()}
        return self.model.groups_of(params, used, self.variables)

    def _scores(self, panel: Panel | None) -> scores.Observed:
        if panel is not None:
            return self.model.observe(panel, self.sessions, self.variables)
        if self.data is None:
            raise DataError("This fit no longer holds its data. Pass panel=.")
        return self.data
