"""The delta method: what a function of the parameters is, and how sure we are of it.

For f(theta) (q,) with estimate theta (n,) and covariance V (n, n),

    Cov f = J V J',    J (q, n) by central differences.

Only parameters that the function reads are varied, so one whose standard error is not available
(at a bound, NaN in V) spoils nothing but the functions that depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Array = NDArray[np.float64]
Function = Callable[[Mapping[str, float]], Array]


class Freedom(Protocol):
    """How sure a covariance is: degrees of freedom of any contrast of the estimates."""

    def of(self, contrasts: Array, cov: Array) -> Array:
        """Return the degrees of freedom (m,) of contrasts (m, n) whose covariance is ``cov``."""
        ...


_STEP = float(np.finfo(float).eps ** (1 / 3))  # balances truncation and rounding


class _Reading(Mapping[str, float]):
    """A mapping that remembers which names were read."""

    def __init__(self, values: Mapping[str, float]) -> None:
        self._values = values
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> float:
        value = self._values[name]
        self.read.add(name)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True)
class Derived:
    """Quantities derived together from one fit, with their joint uncertainty.

    Parameters
    ----------
    values : array (q,)
        Function of the estimates, or mean over the posterior draws.
    cov : array (q, q)
        Joint covariance; NaN in the rows of quantities without a standard error.
    draws : array (D, q) or None
        The quantities at every posterior draw.
    df : array (q,) or None
        Degrees of freedom of their t distributions; None = normal.
    """

    values: Array
    cov: Array
    draws: Array | None = None
    df: Array | None = None

    @property
    def se(self) -> Array:
        """Standard errors (q,); NaN where not available."""
        variance = np.diag(self.cov)
        return np.sqrt(np.where(variance >= 0, variance, np.nan))

    def bounds(self, level: float) -> Array:
        """Return the interval limits (q, 2): normal, t, or equal-tailed quantiles of the draws."""
        if self.draws is not None:
            tail = (1.0 - level) / 2
            return np.asarray(np.quantile(self.draws, [tail, 1.0 - tail], axis=0).T)
        reach = self._quantile((1.0 + level) / 2) * self.se
        return np.column_stack([self.values - reach, self.values + reach])

    def p_values(self) -> Array:
        """Return two-sided p-values against zero (q,); NaN without a standard error."""
        se = self.se
        ratio = np.divide(self.values, se, out=np.full(len(se), np.nan), where=se > 0)
        if self.df is not None:
            return np.asarray(2.0 * stdtr(self.df, -np.abs(ratio)))
        return np.array([math.erfc(abs(z) / math.sqrt(2.0)) for z in ratio])

    def _quantile(self, share: float) -> Array | float:
        if self.df is None:
            return NormalDist().inv_cdf(share)
        return np.asarray(stdtrit(self.df, share))

    def prob_positive(self) -> Array | None:
        """Return the share of draws above zero (q,); None without draws."""
        return None if self.draws is None else np.asarray((self.draws > 0).mean(axis=0))


def propagate(
    function: Function,
    names: Sequence[str],
    at: Array,
    cov: Array,
    freedom: Freedom | None = None,
) -> Derived:
    """Carry the covariance of the estimates over to ``function`` of them.

    Parameters
    ----------
    function : callable
        Takes a mapping from name to value, returns an array (q,).
    names : sequence of str
        Names of the n parameters.
    at : array (n,)
        Estimates.
    cov : array (n, n)
        Their covariance; NaN allowed where a standard error is not available.
    freedom : Freedom, optional
        How sure the covariance is; makes intervals those of t distributions.

    Returns
    -------
    Derived
    """
    values = dict(zip(names, at.tolist(), strict=True))
    reading = _Reading(values)
    centre = np.atleast_1d(np.asarray(function(reading), dtype=float))
    with np.errstate(invalid="ignore"):
        se = np.sqrt(np.where(np.diag(cov) >= 0, np.diag(cov), np.nan))
    used = [i for i, name in enumerate(names) if name in reading.read and se[i] != 0]
    known = [i for i in used if np.isfinite(se[i])]
    jacobian = np.empty((len(centre), len(known)))
    for column, i in enumerate(known):
        jacobian[:, column] = _central_difference(function, values, names[i], se[i])
    spread = jacobian @ cov[np.ix_(known, known)] @ jacobian.T
    if len(known) < len(used):
        unknown = [names[i] for i in used if i not in known]
        depends = [_reads(function, values, q, unknown) for q in range(len(centre))]
        spread[depends, :] = np.nan
        spread[:, depends] = np.nan
    if freedom is None:
        return Derived(centre, spread)
    full = np.zeros((len(centre), len(names)))
    full[:, known] = jacobian
    return Derived(centre, spread, df=freedom.of(full, np.nan_to_num(cov)))


def _central_difference(
    function: Function, values: dict[str, float], name: str, scale: float
) -> Array:
    """Return the derivative (q,) of ``function`` by one parameter."""
    step = _STEP * max(abs(values[name]), scale)
    above, below = values[name] + step, values[name] - step
    upper = np.atleast_1d(np.asarray(function({**values, name: above}), dtype=float))
    lower = np.atleast_1d(np.asarray(function({**values, name: below}), dtype=float))
    return (upper - lower) / (above - below)


def _reads(function: Function, values: dict[str, float], q: int, unknown: list[str]) -> bool:
    """Tell whether component ``q`` changes with a parameter of unknown uncertainty.

    Steps away from zero, upwards, so that a variance at its bound stays a variance.
    """
    centre = np.atleast_1d(np.asarray(function(values), dtype=float))[q]
    for name in unknown:
        step = 1e-6 * max(abs(values[name]), 1.0)
        moved = function({**values, name: values[name] + math.copysign(step, values[name])})
        if np.atleast_1d(np.asarray(moved, dtype=float))[q] != centre:
            return True
    return False
