"""How good an estimator was over many replications, with the Monte Carlo error of every figure.

Notation of Morris, White and Crowther (2019, Table 6): n estimates x_r of a true value, with
standard errors s_r. Every measure is itself an estimate from n replications, and its Monte Carlo
error (``mcse_...``) says how far it may be from what infinitely many would give.

References
----------
Morris, T. P., White, I. R., & Crowther, M. J. (2019). Using simulation studies to evaluate
statistical methods. Statistics in Medicine, 38, 2074-2102.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from alliancedyn.errors import SpecificationError

Array = NDArray[np.float64]


def performance(
    estimates: Array,
    errors: Array,
    true: Array,
    level: float,
    intervals: tuple[Array, Array] | None = None,
) -> dict[str, Array]:
    """Compute bias, precision, coverage and power of estimates of known values.

    ::

        bias = mean(x) - true                     mcse = empirical_se / sqrt(n)
        empirical_se^2 = var(x)                   mcse = empirical_se / sqrt(2 (n - 1))
        rmse^2 = mean((x - true)^2)               mcse = sd((x - true)^2) / (2 rmse sqrt(n))
        model_se^2 = mean(s^2)                    mcse = sd(s^2) / (2 model_se sqrt(n))
        coverage, power = share p of intervals    mcse = sqrt(p (1 - p) / n)

    Intervals are x +- z s where no others are given. An estimate without an interval counts
    everywhere but in coverage and power, one without a standard error everywhere but in model_se.

    Parameters
    ----------
    estimates : (R, p)
        One row per replication, NaN = none.
    errors : (R, p)
        Standard errors, NaN = none.
    true : (p,)
        Values that should be found; NaN = unknown.
    level : float
        Of the intervals.
    intervals : pair of (R, p), optional
        Lower and upper ends, where a model has intervals of its own; NaN = none.

    Returns
    -------
    dict
        Measure to (p,): ``true``, ``mean``, ``bias``, ``rmse``, ``empirical_se``, ``model_se``,
        ``coverage``, ``power`` (share of intervals without 0), ``mcse_...`` of each, ``n``
        (estimates) and ``intervals``. NaN where too few replications are left.
    """
    if not 0.0 < level < 1.0:
        raise SpecificationError(f"level must be between 0 and 1, not {level:g}. Use 0.95.")
    z = float(ndtri(0.5 + level / 2.0))
    off = estimates - true
    lower, upper = (
        (estimates - z * errors, estimates + z * errors) if intervals is None else intervals
    )
    known = upper - lower
    n, n_errors = _counted(estimates), _counted(estimates * errors)
    mean, empirical = _mean(estimates), _sd(estimates)
    rmse, model_se = np.sqrt(_mean(off**2)), np.sqrt(_mean(errors**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {
            "true": np.asarray(true, float),
            "mean": mean,
            "bias": mean - true,
            "mcse_bias": empirical / np.sqrt(n),
            "rmse": rmse,
            "mcse_rmse": _sd(off**2) / (2.0 * rmse * np.sqrt(n)),
            "empirical_se": empirical,
            "mcse_empirical_se": empirical / np.sqrt(2.0 * (n - 1.0)),
            "model_se": model_se,
            "mcse_model_se": _sd(errors**2) / (2.0 * model_se * np.sqrt(n_errors)),
        }
    covered = (lower <= true) & (true <= upper)
    found |= _share("coverage", covered, known * np.where(np.isnan(true), np.nan, 1.0))
    found |= _share("power", (lower > 0.0) | (upper < 0.0), known)
    return found | {"n": n, "intervals": _counted(known)}


def _counted(values: Array) -> Array:
    return np.asarray((~np.isnan(values)).sum(axis=0), float)


def _mean(values: Array) -> Array:
    """Mean of what is there; NaN, without a warning, where nothing is."""
    n = _counted(values)
    return np.asarray(np.where(n > 0, np.nansum(values, axis=0) / np.maximum(n, 1), np.nan))


def _sd(values: Array) -> Array:
    n = _counted(values)
    squares = np.nansum((values - _mean(values)) ** 2, axis=0)
    return np.asarray(np.where(n > 1, np.sqrt(squares / np.maximum(n - 1, 1)), np.nan))


def _share(name: str, claim: NDArray[np.bool_], known: Array) -> dict[str, Array]:
    """Share of replications in which ``claim`` holds, among those where ``known`` is not NaN."""
    share = _mean(np.where(np.isnan(known), np.nan, claim))
    n = np.maximum(_counted(known), 1)
    return {name: share, f"mcse_{name}": np.sqrt(share * (1.0 - share) / n)}
