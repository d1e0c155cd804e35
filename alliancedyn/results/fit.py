"""The one result: what every model family returns, and everything that is computed from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import log
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.checking import methods_checked, named
from alliancedyn.errors import DataError, SpecificationError
from alliancedyn.results import display, effects, saturation, scores
from alliancedyn.results.estimate import LEVEL, Sample
from alliancedyn.results.model import ClientGroup, Panel, Params
from alliancedyn.results.parameters import Parameters

if TYPE_CHECKING:
    from alliancedyn.results.calibration import Calibration
    from alliancedyn.results.profile import ProfileEstimate
    from alliancedyn.results.sampling import Sampling

Array = NDArray[np.float64]


@methods_checked
@named
@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Fit(Parameters):
    """The result of any model family.

    Parameters
    ----------
    model, params, cov, variables, process, outcome, timing, sessions, draws
        As in :class:`~alliancedyn.results.parameters.Parameters`.
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
    data : Observed or None
        The scores; None after `without_data`.
    sampling : Sampling or None
        Of a sampled fit: chains, priors, the effects of every client.
    """

    sample: Sample
    diagnostics: dict[str, Any]
    loglik: float | None
    n_params: int
    converged: bool
    data: scores.Observed | None = None
    sampling: Sampling | None = None

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

    def standardized(self, level: float = LEVEL) -> pd.DataFrame:
        """Return effects, covariances and variances in units without a unit.

        Lagged effects are in within SDs (see `sd_within_basis`), those of the two sessions where
        lags or innovations differ between sessions. What is the same at all sessions has one row.

        Returns
        -------
        DataFrame
            Index ``quantity``; columns estimate, se, lower, upper, p_value (NaN for shares;
            prob_positive if sampled). Rows ``phi[...]``, ``phi2[...]``; ``r2[...]``, what the
            sessions before explain of the variance within clients, and ``innovation_share[...]``,
            the rest; ``icc[...]``, the share of a score's variance between clients, covariates
            given; ``loading[...]`` and ``error_share[...]`` of items; ``between_corr[...]``,
            ``initial_corr[...]``, ``innovation_corr[...]``.

        Raises
        ------
        SpecificationError
            If the model has no lagged effects or no innovations.
        """
        from alliancedyn.results.standardized import standardized

        return standardized(self, level)

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

    def predict(
        self, horizon: int = 1, panel: Panel | None = None, *, level: float | None = None
    ) -> pd.DataFrame:
        """Forecast each client's score at session t from the scores up to session t - horizon.

        Parameters
        ----------
        horizon : int
            Sessions ahead, 1 or more.
        panel : SessionPanel, optional
            Other clients than those fitted, or the same after `without_data`.
        level : float, optional
            Coverage of an interval to add, as columns lower and upper.

        Returns
        -------
        DataFrame
            client, session, variable, mean, sd (score points); one row per session of the model
            that lies at least ``horizon`` sessions after its first. Estimates are taken as known.

        Notes
        -----
        Lagged effects and innovation variances that differ between clients (`DSEM`) are
        integrated over their population, weighted by the likelihood of the client's scores up to
        session t - horizon, with 256 draws, or up to 4,096 where fewer than 50 of them count.
        An InferenceWarning says where fewer than 20 count in the end.
        """
        from alliancedyn.results import forecasts

        steps = effects.whole_number("horizon", horizon, 1)
        used = self._scores(panel)
        mean, sd = forecasts.predicted_of(self, used, steps)
        keys = {"variable": list(used.variables)}
        frame = scores.in_rows(used.clients, self.sessions, keys, mean, sd)
        return forecasts.with_interval(frame, level)

    def calibration(self, horizon: int = 1, panel: Panel | None = None) -> Calibration:
        """Check whether forecasts are as sure as they should be, against the scores that came.

        Without ``panel`` they are those of the clients that the model was fitted to, which
        flatters it: parameters were chosen to make just these errors small. Give clients held out.

        Parameters
        ----------
        horizon : int
            Sessions ahead, 1 or more.
        panel : SessionPanel, optional
            Clients held out.

        Returns
        -------
        Calibration
            Coverage of 50, 80 and 95 % intervals, mean standardized error and PIT histogram, by
            session and overall.

        Raises
        ------
        DataError
            If no score has a forecast.
        """
        from alliancedyn.results import forecasts
        from alliancedyn.results.calibration import calibrated

        steps = effects.whole_number("horizon", horizon, 1)
        used = self._scores(panel)
        found = forecasts.predicted_of(self, used, steps)
        return calibrated(found, used, steps, panel is None)

    def states(self, panel: Panel | None = None, *, level: float | None = None) -> pd.DataFrame:
        """Return each client's stable and momentary parts, given all of the client's scores.

        Both are deviations (score points of a series, or of its first item): "between" of the
        client from the session means, its course included where clients have one, and "within"
        of the session from the client. Not for forecasting: they use later sessions. Lagged effects
        of clients' own are integrated as in `predict`, given all scores.

        Parameters
        ----------
        panel : SessionPanel, optional
            Other clients than those fitted, or the same after `without_data`.
        level : float, optional
            Coverage of an interval to add, as columns lower and upper.

        Returns
        -------
        DataFrame
            client, session, variable, part, mean, sd.
        """
        from alliancedyn.results import forecasts

        used = self._scores(panel)
        mean, sd = forecasts.smoothed_of(self, used)
        k = len(self.variables)
        parts = (["within"] * k + ["between"] * k)[: mean.shape[2]]
        keys = {"variable": (list(self.variables) * 2)[: mean.shape[2]], "part": parts}
        frame = scores.in_rows(used.clients, self.sessions, keys, mean, sd)
        return forecasts.with_interval(frame, level)

    def draw_scores(
        self,
        draws: int = 20,
        *,
        seed: int | None = None,
        panel: Panel | None = None,
        parameters: Literal["fixed", "drawn"] = "fixed",
        of: Literal["scores", "states"] = "scores",
    ) -> Array:
        """Draw the scores that were not seen, jointly, given those that were.

        Parameters
        ----------
        draws : int
            How many times.
        seed : int, optional
            For the same draws again.
        panel : SessionPanel, optional
            Other clients than those fitted, or the same after `without_data`.
        parameters : {"fixed", "drawn"}
            At the estimates, or every draw at parameters drawn from their asymptotic normal
            distribution (posterior draws, if there are any), as multiple imputation needs. What
            has no standard error stays fixed; covariances that come out indefinite are moved to
            the nearest that is not.
        of : {"scores", "states"}
            Scores, or the parts of `states`: within of every variable, then between.

        Returns
        -------
        array (draws, N, T, p)
            Score points, clients in the order of `states`, sessions of the model, and scores in
            the order of `data.variables`; seen scores as they are. NaN at sessions that have no
            place in the time of the model. Of states the last axis is k or 2 k long.

        References
        ----------
        Durbin, J., & Koopman, S. J. (2002). A simple and efficient simulation smoother for state
        space time series analysis. Biometrika, 89, 603-615.
        """
        from alliancedyn.results import forecasts

        effects.chosen("parameters", parameters, ("fixed", "drawn"))
        effects.chosen("of", of, ("scores", "states"))
        count = effects.whole_number("draws", draws, 1)
        used, rng = self._scores(panel), np.random.default_rng(seed)
        if parameters == "fixed":
            return forecasts.drawn(self._groups(used), used, count, rng, of)
        if self.sampling is not None:
            self._groups(used)  # says why, if there is no one system for all clients
        each = forecasts.parameter_draws(self, used, rng)
        return np.concatenate([forecasts.drawn(next(each), used, 1, rng, of) for _ in range(count)])

    @cached_property
    def idata(self) -> Any:
        """The draws as ArviZ InferenceData, by canonical name; without scores or clients.

        Raises
        ------
        SpecificationError
            If the fit was not sampled.
        """
        from alliancedyn.results.posterior import inference_data

        return inference_data(self)

    def client_effects(self, level: float = LEVEL) -> pd.DataFrame:
        """Return every client's own effects in a sampled fit, shrunken to the average client.

        Their posterior means and SDs, the uncertainty of the population included. Most intervals
        overlap: a ranking by such numbers is a ranking of noise.

        Returns
        -------
        DataFrame
            client, effect ("alliance" is its level, "symptoms<-alliance" a lagged effect,
            "same(alliance<-symptoms)" a same-session effect, "log(alliance)" a log innovation
            variance against the average), estimate, sd, lower, upper (normal; raw units) and
            sessions, how many the client has.

        Raises
        ------
        SpecificationError
            If the fit was not sampled.
        DataError
            After `without_data`.
        """
        from alliancedyn.results.sampling import client_effects

        return client_effects(self, level)

    def without_data(self) -> Fit:
        """Return the fit without its scores and clients: pickles small, shares safely.

        `predict`, `states` and `fit_indices` then take ``panel=``.
        """
        diagnostics = {**self.diagnostics, "fingerprint": self.fingerprint()}
        sampling = None if self.sampling is None else replace(self.sampling, clients=None)
        return replace(self, data=None, diagnostics=diagnostics, sampling=sampling)

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
        from alliancedyn.results.forecasts import estimates

        return self.model.groups_of(estimates(self), used, self.variables)

    def _scores(self, panel: Panel | None) -> scores.Observed:
        if panel is not None:
            return self.model.observe(panel, self.sessions, self.variables)
        if self.data is None:
            raise DataError("This fit no longer holds its data. Pass panel=.")
        return self.data
