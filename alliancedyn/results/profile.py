"""Profile-likelihood intervals of a fit: where each end is, and why an end is missing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import erfc, isfinite, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.engine.ascent import metric_of
from alliancedyn.engine.maximise import observed_information
from alliancedyn.engine.profile import (
    Function,
    Limit,
    Profile,
    is_variance,
    limit,
    profile_function,
    profile_parameter,
)
from alliancedyn.errors import ConvergenceError, DataError, SpecificationError
from alliancedyn.results.estimate import Estimate, checked_level, rounded

if TYPE_CHECKING:
    from alliancedyn.engine.ascent import Point
    from alliancedyn.engine.likelihood import Likelihood
    from alliancedyn.results.fit import Fit
    from alliancedyn.results.scores import Observed

Array = NDArray[np.float64]

OTHER_DATA = 1e-4  # log-likelihood by which scores are not those that were fitted
FAR = 8.0  # standard errors beyond which a p-value is taken from the normal distribution


@dataclass(frozen=True)
class ProfileEstimate(Estimate):
    """An estimate with its profile-likelihood interval; a missing end is infinite.

    Parameters
    ----------
    notes : tuple of str
        Why an end is not where the log-likelihood has fallen far enough; empty if both are.
    """

    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        value, lower, upper = rounded((self.value, self.lower, self.upper))
        return f"{value} [{lower}, {upper}]"


@dataclass(frozen=True)
class Maximum:
    """The maximum of a likelihood as a fit reports it.

    Parameters
    ----------
    likelihood : Likelihood
    theta : (n,)
        The estimates.
    metric : (n, n)
        Inverse information.
    """

    likelihood: Likelihood
    theta: Array
    metric: Array


def maximum_of(fit: Fit, data: Observed) -> Maximum:
    """Return where a fit is on the likelihood of its scores.

    Raises
    ------
    SpecificationError
        If the model has no such likelihood, or was sampled.
    ConvergenceError
        If the fit is not at a maximum.
    DataError
        If the scores are others than those that were fitted.
    """
    likelihood = _likelihood(fit, data)
    layout = likelihood.layout
    theta = layout.theta(layout.from_params(fit.params))
    loglik, score = likelihood.value_and_score(theta)
    if fit.loglik is None or abs(loglik - fit.loglik) > OTHER_DATA:
        raise DataError(
            f"These scores have a log-likelihood of {loglik:.4f} where the fit has {fit.loglik}. "
            "Pass the panel that was fitted."
        )
    if fit.diagnostics.get("errors") == "observed" and not fit.diagnostics.get("boundary"):
        own = list(layout.names)
        back = np.linalg.inv(layout.jacobian(theta))
        return Maximum(likelihood, theta, back @ fit.cov.loc[own, own].to_numpy(float) @ back.T)

    def score_at(where: Array) -> Array:
        return likelihood.value_and_score(where)[1]

    information = observed_information(score_at, theta, likelihood.linear, score)
    return Maximum(likelihood, theta, metric_of(information))


def _likelihood(fit: Fit, data: Observed) -> Likelihood:
    plain = getattr(fit.model, "likelihood", None)
    found = getattr(fit.model, "around_level", plain)
    if found is None or fit.draws is not None:
        raise SpecificationError(
            f"{fit.model.name} was not fitted by maximizing a likelihood of its parameters, so "
            "there is none to profile or to resample. Use the intervals of fit.table()."
        )
    if not fit.converged:
        raise ConvergenceError(
            f"{fit.model.name}: the estimates are not a maximum, so nothing can be measured from "
            f"it. {fit.diagnostics.get('failure', '')}".rstrip(),
            fit,
        )
    likelihood: Likelihood = found(data)
    return likelihood


def profile_estimate(
    fit: Fit, quantity: str | Function, level: float, data: Observed
) -> ProfileEstimate:
    """Return a quantity with its profile-likelihood interval; see `Fit.profile`."""
    reach = NormalDist().inv_cdf((1.0 + checked_level(level)) / 2.0)
    function = (lambda p: p[quantity]) if isinstance(quantity, str) else quantity
    wald = fit.derive(function, level)
    maximum = maximum_of(fit, data)
    likelihood, where = maximum.likelihood, (maximum.theta, maximum.metric)
    stretch = _stretch(fit, function, wald.se, maximum)
    if isinstance(quantity, str):
        profile = profile_parameter(likelihood, quantity, *where)
        squared = is_variance(likelihood.layout, quantity)
    else:
        profile, squared = profile_function(likelihood, quantity, *where), False
    ends = [limit(profile, side, reach * stretch) for side in (-1, 1)]
    lower, upper = (end.value**2 if squared else end.value for end, _ in ends)
    return ProfileEstimate(
        value=wald.value,
        se=wald.se,
        lower=lower,
        upper=upper,
        level=level,
        p_value=None if squared else _p_value(profile, wald, ends, stretch),
        notes=tuple(_notes([end for end, _ in ends])),
    )


def _notes(ends: list[Limit]) -> list[str]:
    """Return the reasons, each with the end that it is about."""
    sides = zip(("lower", "upper"), ends, strict=True)
    return [f"{side} end: {end.reason}." for side, end in sides if end.reason is not None]


def _stretch(fit: Fit, function: Function, se: float, maximum: Maximum) -> float:
    """Return by how much robust errors exceed those of the likelihood; 1 if they are the same."""
    if fit.diagnostics.get("errors") == "observed":
        return 1.0
    J = maximum.likelihood.jacobian(maximum.theta)
    names = list(maximum.likelihood.to_params(maximum.theta))
    cov = pd.DataFrame(J @ maximum.metric @ J.T, names, names).loc[fit.cov.index, fit.cov.index]
    plain = replace(fit, cov=cov).derive(function).se
    return se / plain if isfinite(se) and plain > 0.0 else 1.0


def _p_value(
    profile: Profile, wald: Estimate, ends: list[tuple[Limit, Point]], stretch: float
) -> float | None:
    """Test zero by the likelihood ratio, by the normal distribution where it is far away."""
    if not isfinite(wald.se) or abs(wald.value) > FAR * wald.se:
        return wald.p_value
    _, near = ends[0] if wald.value > 0.0 else ends[1]
    found = profile.hold(0.0, near)
    return None if found is None else erfc(profile.root(found) / stretch / sqrt(2.0))
