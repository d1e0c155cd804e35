"""Reading a continuous-time fit: how fast deviations fade, and how effects depend on the lag.

A drift speaks about the next instant. What it says of a lag h is phi(h) = expm(A h); that is
shown at lags between the shortest and the longest gap of the data and refused beyond.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.engine import continuous, names
from alliancedyn.errors import DataError, InferenceWarning, SpecificationError, listed, nearest
from alliancedyn.models import ContinuousTime
from alliancedyn.models.clock import observed_gaps
from alliancedyn.panel import SessionPanel
from alliancedyn.results import LEVEL, Estimate, Fit
from alliancedyn.results.estimate import checked_level, tabulate

Array = NDArray[np.float64]
Params = Mapping[str, float]

LAGS = 50
OUTERMOST = 0.99  # share of the gaps up to which effects are shown unless lags are named
INSIDE = 1e-9  # relative slack at the ends of the observed gaps


@dataclass(frozen=True)
class Gaps:
    """The gaps between sessions with a score that a fit has seen.

    Parameters
    ----------
    values : (M,)
        Units of time, ascending.
    unit : str
        What a unit is called, such as "week".
    """

    values: Array
    unit: str

    @property
    def shortest(self) -> float:
        """The smallest gap."""
        return float(self.values[0])

    @property
    def longest(self) -> float:
        """The largest gap."""
        return float(self.values[-1])

    def __str__(self) -> str:
        return f"{self.shortest:.3g} to {self.longest:.3g} {self.unit}s"

    def lags(self, count: int = LAGS) -> Array:
        """Return lags from the shortest gap to one that few gaps exceed."""
        end = float(np.quantile(self.values, OUTERMOST, method="higher"))
        return np.unique(np.linspace(self.shortest, end, count))

    def checked(self, lags: Sequence[float] | Array) -> Array:
        """Return the lags as an array; refuse those outside."""
        wanted = np.asarray(lags, float).ravel()
        slack = INSIDE * self.longest
        outside = ~((wanted >= self.shortest - slack) & (wanted <= self.longest + slack))
        if not len(wanted) or outside.any():
            raise SpecificationError(
                f"Lags {listed(wanted[outside])} lie outside the gaps of these data, {self}: "
                "there the model was never seen at work. Ask for lags inside."
            )
        return wanted


def gaps_of(fit: Fit, panel: SessionPanel | None = None) -> Gaps:
    """Return the gaps between sessions with a score of a continuous-time fit.

    Parameters
    ----------
    fit : Fit
    panel : SessionPanel, optional
        Its panel, if the fit no longer holds its data.

    Raises
    ------
    SpecificationError
        If the fit is not one in continuous time.
    DataError
        If the fit no longer holds its data and no panel is given.
    """
    model = _model(fit)
    data = fit.data if panel is None else model.observe(panel, fit.sessions, fit.variables)
    if data is None:
        raise DataError("This fit no longer holds its data. Pass panel=.")
    return Gaps(observed_gaps(data, model.time, model.time_unit), model.unit)


def refuse_unseen_lag(fit: Fit) -> None:
    """Refuse to speak of a unit of time that no two sessions of the data lie apart.

    Raises
    ------
    SpecificationError
        If the fit is one in continuous time whose unit lies outside the gaps of its data.
    """
    model = fit.model
    if not isinstance(model, ContinuousTime) or model.time == "session" or fit.data is None:
        return
    gaps = gaps_of(fit)
    slack = INSIDE * gaps.longest
    if gaps.shortest - slack <= 1.0 <= gaps.longest + slack:
        return
    days = float(np.median(gaps.values)) * model.time_unit
    raise SpecificationError(
        f"The effects of this fit lead over one {model.unit}, and no two sessions of these data "
        f"lie that far apart: their gaps run from {gaps}. Fit with time_unit={days:g}, the median "
        "gap in days."
    )


@checked
def describe_drift(fit: Fit, *, group: str | None = None, level: float = LEVEL) -> pd.DataFrame:
    """Say what the eigenvalues of the drift mean: how fast deviations fade, and whether they swing.

    A deviation is a sum of parts, one per eigenvalue, each of which fades as exp(Re h) and, where
    the eigenvalue is complex, swings with the period 2 pi / Im.

    Parameters
    ----------
    fit : Fit
        Of a continuous-time model.
    group : str, optional
        Such as ``arm=1``, where drifts differ between groups.
    level : float
        Coverage of the intervals.

    Returns
    -------
    DataFrame
        One row per eigenvalue (per pair of complex ones), slowest first: real, imaginary (per
        unit of time); half_life, lower, upper (units of time, by the delta method on the
        logarithm; inf where the part does not fade, NaN where there is no interval), period
        (inf where it does not swing), meaning.

    Raises
    ------
    SpecificationError
        If the fit is not one in continuous time, or has no such group.
    """
    model = _model(fit)
    bounds = fit.derive_many(_log_rates(fit, group)).bounds(checked_level(level))
    rows = []
    for at, mode in _modes(_drift(fit, group)(_params(fit))):
        lower, upper = np.log(2.0) * np.exp(-bounds[at, ::-1])
        rows.append(
            {
                "real": mode.value.real,
                "imaginary": abs(mode.value.imag),
                "half_life": mode.half_life,
                "lower": lower,
                "upper": upper,
                "period": mode.period,
                "meaning": _meaning(mode, model.unit),
            }
        )
    return pd.DataFrame(rows)


@checked
def effect_by_lag(
    fit: Fit,
    source: str,
    target: str,
    lags: Sequence[float] | Array | None = None,
    *,
    standardized: Literal["within"] | None = None,
    group: str | None = None,
    level: float = LEVEL,
    panel: SessionPanel | None = None,
) -> pd.DataFrame:
    """Return the effect of the source on the target after each lag, expm(A h)[target, source].

    Parameters
    ----------
    fit : Fit
        Of a continuous-time model.
    source, target : str
        Variables.
    lags : sequence of float, optional
        Units of time, within the observed gaps; by default 50 from the shortest gap to the one
        that 1 % of the gaps exceed.
    standardized : "within" or None
        In SDs of the settled process, or raw score points.
    group : str, optional
        Such as ``arm=1``, where drifts differ between groups.
    level : float
        Coverage of the intervals.
    panel : SessionPanel, optional
        The panel of the fit, if the fit no longer holds its data.

    Returns
    -------
    DataFrame
        Index lag; estimate, se, lower, upper, p_value (prob_positive if sampled), and
        ``gaps_as_long``, the share of the observed gaps that are as long or longer.

    Raises
    ------
    SpecificationError
        If the fit is not one in continuous time, or a lag lies outside the observed gaps.
    """
    gaps = gaps_of(fit, panel)
    at = gaps.lags() if lags is None else gaps.checked(lags)
    i, j = _place(fit, target), _place(fit, source)
    drift = _drift(fit, group)
    spread = _diffusion(fit, group)
    if standardized not in (None, "within"):
        raise SpecificationError(f"standardized={standardized!r} is not known. Use 'within'.")

    def function(p: Params) -> Array:
        A = drift(p)
        effects = continuous.discretise(A, np.zeros_like(A), at)[0][:, i, j]
        if standardized is None:
            return effects
        sd = np.sqrt(np.diag(continuous.stationary_cov(A, spread(p))))
        return np.asarray(effects * sd[j] / sd[i])

    table = tabulate(fit.derive_many(function), pd.Index(at, name="lag"), level)
    below = np.searchsorted(gaps.values, at * (1.0 - INSIDE), side="left")
    table["gaps_as_long"] = 1.0 - below / len(gaps.values)
    return table


@checked
def peak_lag(
    fit: Fit,
    source: str,
    target: str,
    *,
    group: str | None = None,
    level: float = LEVEL,
    panel: SessionPanel | None = None,
) -> Estimate:
    """Estimate the lag at which the source has its largest effect on the target.

    The interval is by the delta method on the logarithm, so that it stays above zero. A peak
    outside the observed gaps is an extrapolation, and a warning says so.

    Parameters
    ----------
    fit, source, target, group, level, panel
        As in :func:`effect_by_lag`.

    Returns
    -------
    Estimate
        Units of time.

    Raises
    ------
    SpecificationError
        If the effect has no peak: it is largest at lag 0 already, the process does not settle, or
        the source does not act on the target.
    """
    gaps = gaps_of(fit, panel)
    drift, i, j = _drift(fit, group), _place(fit, target), _place(fit, source)
    peak = continuous.peak_lag(drift(_params(fit)), i, j)[0]
    if not peak > 0.0:
        why = "is largest at lag 0" if peak == 0.0 else "does not exist"
        raise SpecificationError(
            f"The effect of {source!r} on {target!r} {why}: it has no lag at which it peaks."
        )
    derived = fit.derive_many(lambda p: np.log([continuous.peak_lag(drift(p), i, j)[0]]))
    value = math.exp(float(derived.values[0]))
    lower, upper = np.exp(derived.bounds(checked_level(level))[0])
    if not gaps.shortest <= value <= gaps.longest:
        warnings.warn(
            f"The effect of {source!r} on {target!r} is largest at a lag of {value:.3g}, outside "
            f"the gaps of these data, {gaps}: an extrapolation that rests on the model alone.",
            InferenceWarning,
            stacklevel=2,
        )
    return Estimate(value, value * float(derived.se[0]), float(lower), float(upper), level)


def _model(fit: Fit) -> ContinuousTime:
    model = getattr(fit, "model", None)
    if not isinstance(model, ContinuousTime):
        called = getattr(model, "name", type(fit).__name__)
        raise SpecificationError(
            f"This needs the fit of a ContinuousTime model, not of {called}: only there have "
            "effects a value at every lag."
        )
    return model


def _params(fit: Fit) -> dict[str, float]:
    return {str(name): float(value) for name, value in fit.params.items()}


def _place(fit: Fit, variable: str) -> int:
    if variable not in fit.variables:
        raise SpecificationError(
            f"{variable!r} is not a variable of this fit. Use one of {listed(fit.variables)}."
            f"{nearest(variable, fit.variables)}"
        )
    return fit.variables.index(variable)


def _drift(fit: Fit, group: str | None) -> Callable[[Params], Array]:
    """Return the drift as a function of the parameters."""
    v, of = fit.variables, _owner(fit, "drift", group)
    return lambda p: names.matrix(p, "drift", v, v, group=of)


def _diffusion(fit: Fit, group: str | None) -> Callable[[Params], Array]:
    """Return the diffusion covariance as a function of the parameters."""
    v, of = fit.variables, _owner(fit, "diffusion_cov", group)
    return lambda p: names.symmetric_matrix(p, "diffusion_cov", v, group=of)


def _owner(fit: Fit, family: str, group: str | None) -> str | None:
    """Return the group that a matrix belongs to, None if all groups share it."""
    _model(fit)
    first = fit.variables[0]
    known = fit.lagged.groups
    if group is not None and group not in known:
        have = f"it has {listed(known, 8)}" if known else "it has no groups"
        raise SpecificationError(f"The fit has no group {group!r}; {have}.")
    if names.label(family, first, first) in fit.params.index:
        return None
    if group is None:
        raise SpecificationError(
            f"The {family.partition('_')[0]} differs between groups. Name one with group=, such as "
            f"{known[0]!r}."
        )
    return group


def _modes(A: Array) -> list[tuple[int, continuous.DriftMode]]:
    """Return the modes of a drift, a pair of complex ones once, each with its place among all."""
    return [
        (at, mode) for at, mode in enumerate(continuous.describe_drift(A)) if mode.value.imag >= 0.0
    ]


def _log_rates(fit: Fit, group: str | None) -> Callable[[Params], Array]:
    """Return the logarithm of the rate at which each part fades, slowest first; NaN if none."""
    drift = _drift(fit, group)

    def function(p: Params) -> Array:
        rates = np.sort(-np.linalg.eigvals(drift(p)).real)
        return np.log(np.where(rates > 0.0, rates, np.nan))

    return function


def _meaning(mode: continuous.DriftMode, unit: str) -> str:
    """Put a mode in words."""
    if not math.isfinite(mode.half_life):
        return "does not fade: the process never settles, and what it says of long lags is void"
    fades = f"halves in {mode.half_life:.3g} {unit}s"
    if not math.isfinite(mode.period):
        return fades
    return f"{fades} while it swings back and forth once in {mode.period:.3g} {unit}s"
