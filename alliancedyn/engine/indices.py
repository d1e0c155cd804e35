"""Fit indices: how far a model is from the saturated one, and from having no relations at all.

Conventions are those of lavaan: normal likelihood with divisor N, n = clients with a score,
baseline = means and variances free, RMSEA with a 90 % interval, SRMR including the means.

References
----------
Bentler, P. M. (1990). Comparative fit indexes in structural models. Psychological Bulletin, 107,
238-246.
Browne, M. W., & Cudeck, R. (1992). Alternative ways of assessing model fit. Sociological Methods
& Research, 21, 230-258.
Yuan, K.-H., & Bentler, P. M. (2000). Three likelihood-based methods for mean and covariance
structure analysis with nonnormal missing data. Sociological Methodology, 30, 165-200.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import chdtrc, chndtr

from alliancedyn.engine.saturated import Saturated, independence, saturated
from alliancedyn.engine.scaling import independence_trace, saturated_trace
from alliancedyn.errors import SpecificationError

Array = NDArray[np.float64]
Index = NDArray[np.int64]

RMSEA_LEVEL = 0.90
SLACK = 1e-4  # by how much rounding may put a model above the saturated log-likelihood
PLAIN = (
    *("chisq", "df", "pvalue", "cfi", "tli", "rmsea", "rmsea_lower", "rmsea_upper", "srmr"),
    *("baseline_chisq", "baseline_df"),
)
SCALED = (
    *("scaling_factor", "chisq_scaled", "pvalue_scaled", "cfi_scaled", "tli_scaled"),
    *("rmsea_scaled", "rmsea_lower_scaled", "rmsea_upper_scaled"),
    *("baseline_chisq_scaled", "baseline_scaling_factor"),
)


@dataclass(frozen=True)
class _Test:
    """A chi-square against the saturated model."""

    chisq: float
    df: int


def fit_indices(
    Y: Array,
    *,
    loglik: float,
    n_params: int,
    mean: Array,
    cov: Array,
    trace: float | None = None,
    clusters: Index | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, float | str]:
    """Compare a fitted model with the saturated model and with independent columns.

    With l the log-likelihoods, s saturated, b the baseline, n clients::

        chisq = 2 (l_s - l),  df = p(p+3)/2 - n_params
        CFI = 1 - max(chisq - df, 0) / max(chisq - df, chisq_b - df_b, 0)
        TLI = 1 - (chisq - df) / df * df_b / (chisq_b - df_b)
        RMSEA = sqrt(max(chisq - df, 0) / (n df))
        SRMR^2 = mean of ((s_jk - sigma_jk) / sqrt(s_jj s_kk))^2 and ((m_j - mu_j) / sqrt(s_jj))^2
        AIC = 2 n_params - 2 l,  BIC = n_params log n - 2 l

    With ``trace`` also the Yuan-Bentler scaled versions (Mplus variant, "MLR"):
    chisq_scaled = chisq / c with c = (tr(A1^-1 B1) - trace) / df, the baseline likewise.

    Parameters
    ----------
    Y : (N, p)
        Scores the model was fitted to, score points, NaN = missing. Rows without a score do not
        count as clients; a column that nobody was seen at brings no moments and no df.
    loglik : float
        Log-likelihood of the fitted model.
    n_params : int
        Its free parameters.
    mean, cov : (p,), (p, p)
        Its implied moments, score points and squared score points.
    trace : float, optional
        tr(A0^-1 B0) of the fitted model, A0 its observed information and B0 the sum of outer
        products of its score over clients, or over clusters with the factor C / (C - 1).
    clusters : (N,) int, optional
        Cluster codes that B0 was summed over.
    names : sequence of str, optional
        Column names for the reason.

    Returns
    -------
    dict
        ``chisq``, ``df``, ``pvalue``, ``cfi``, ``tli``, ``rmsea``, ``rmsea_lower``,
        ``rmsea_upper`` (90 %), ``srmr``, ``baseline_chisq``, ``baseline_df``, ``aic``, ``bic``;
        with ``trace`` also ``scaling_factor``, ``chisq_scaled``, ``pvalue_scaled``,
        ``cfi_scaled``, ``tli_scaled``, ``rmsea_scaled``, ``rmsea_lower_scaled``,
        ``rmsea_upper_scaled``, ``baseline_chisq_scaled``, ``baseline_scaling_factor``. What does
        not exist is NaN, and ``reason`` (``reason_scaled`` where only the scaled versions are
        concerned) says why.
    """
    Y = np.asarray(Y, float)
    seen = ~np.isnan(Y)
    rows, columns = seen.any(axis=1), seen.any(axis=0)
    n, p = int(rows.sum()), int(columns.sum())
    df = p * (p + 3) // 2 - n_params
    out: dict[str, float | str] = dict.fromkeys(PLAIN, np.nan)
    out |= {"df": df, "baseline_df": p * (p - 1) // 2}
    out |= {
        "aic": 2.0 * n_params - 2.0 * loglik,
        "bic": n_params * math.log(n) - 2.0 * loglik if n else np.nan,
    }
    if trace is not None:
        out |= dict.fromkeys(SCALED, np.nan)
    free = saturated(Y, names=names)
    if free.reason is not None:
        return out | {"reason": free.reason}
    if loglik > free.loglik + SLACK:
        return out | {"reason": _overtaken(loglik, free)}
    used = Y[rows][:, columns]
    moments = (free.mean[columns], free.cov[np.ix_(columns, columns)])
    implied = (np.asarray(mean, float)[columns], np.asarray(cov, float)[np.ix_(columns, columns)])
    test = _Test(max(2.0 * (free.loglik - loglik), 0.0), df)
    baseline = _Test(2.0 * (free.loglik - independence(used)[0]), p * (p - 1) // 2)
    out |= {
        "chisq": test.chisq,
        "baseline_chisq": baseline.chisq,
        "srmr": _srmr(*moments, *implied),
    }
    if df <= 0:
        return out | {"reason": _no_freedom(df, free, n_params)}
    out |= _indices(test, baseline, n)
    if trace is not None:
        codes = None if clusters is None else np.asarray(clusters)[rows]
        out |= _scaled(used, moments, test, baseline, trace, codes)
    return out


def _overtaken(loglik: float, free: Saturated) -> str:
    """Say that the saturated maximum cannot be the right one."""
    return (
        f"The saturated log-likelihood ({free.loglik:.4f}) is below the model's ({loglik:.4f}): "
        "with so many scores missing the search found a lower maximum, or the model was fitted "
        "to other scores."
    )


def _no_freedom(df: int, free: Saturated, n_params: int) -> str:
    """Say why a model without degrees of freedom has no test."""
    if df == 0:
        return (
            f"The model has as many parameters as there are moments ({n_params}): it reproduces "
            "any data, so there is nothing to test."
        )
    return (
        f"The model has more parameters ({n_params}) than there are moments ({free.n_params}), so "
        "it is not identified from the moments and cannot be tested against them."
    )


def _indices(test: _Test, baseline: _Test, n: int) -> dict[str, float | str]:
    """Return the indices that rest on the unscaled chi-square."""
    cfi, tli = _cfi(test, baseline), _tli(test, baseline)
    rmsea, lower, upper = _rmsea(test.chisq, test.df, n)
    return {
        "pvalue": _upper_tail(test.chisq, test.df),
        "cfi": cfi,
        "tli": tli,
        "rmsea": rmsea,
        "rmsea_lower": lower,
        "rmsea_upper": upper,
    }


def _scaled(
    Y: Array,
    moments: tuple[Array, Array],
    test: _Test,
    baseline: _Test,
    trace: float,
    clusters: Index | None,
) -> dict[str, float | str]:
    """Return the Yuan-Bentler scaled statistics, or the reason for their absence."""
    try:
        free = saturated_trace(Y, *moments, clusters)
        bare = independence_trace(Y, clusters)
    except SpecificationError as problem:
        return {"reason_scaled": str(problem)}
    factor = (free - trace) / test.df
    out: dict[str, float | str] = {"scaling_factor": factor}
    if not factor > 0.0:
        why = f"The scaling factor is {factor:.3f}; a chi-square cannot be divided by it. "
        return out | {"reason_scaled": why + "The sample is too small for the correction."}
    scaled = _Test(test.chisq / factor, test.df)
    rmsea, lower, upper = _rmsea(test.chisq, free - trace, len(Y))
    out |= {
        "chisq_scaled": scaled.chisq,
        "pvalue_scaled": _upper_tail(scaled.chisq, scaled.df),
        "rmsea_scaled": rmsea,
        "rmsea_lower_scaled": lower,
        "rmsea_upper_scaled": upper,
    }
    bare_factor = (free - bare) / baseline.df
    out["baseline_scaling_factor"] = bare_factor
    if not bare_factor > 0.0:
        return out | {"reason_scaled": "The baseline's scaling factor is not positive."}
    bare_scaled = _Test(baseline.chisq / bare_factor, baseline.df)
    return out | {
        "baseline_chisq_scaled": bare_scaled.chisq,
        "cfi_scaled": _cfi(scaled, bare_scaled),
        "tli_scaled": _tli(scaled, bare_scaled),
    }


def _cfi(test: _Test, baseline: _Test) -> float:
    """Compute the comparative fit index; 1 where neither model misfits."""
    misfit = max(test.chisq - test.df, 0.0)
    worst = max(misfit, baseline.chisq - baseline.df)
    if baseline.df == 0:
        return math.nan
    return 1.0 if worst == 0.0 else 1.0 - misfit / worst


def _tli(test: _Test, baseline: _Test) -> float:
    """Compute the Tucker-Lewis index; it may leave [0, 1]."""
    worst = (baseline.chisq - baseline.df) * test.df
    if baseline.df == 0 or worst == 0.0:
        return math.nan
    return 1.0 - (test.chisq - test.df) * baseline.df / worst


def _rmsea(chisq: float, df: float, n: int) -> tuple[float, float, float]:
    """Compute RMSEA and its 90 % interval from the noncentral chi-square distribution.

    The scaled RMSEA takes the unscaled chi-square with the expectation it has under the model,
    the trace tr(A1^-1 B1) - tr(A0^-1 B0), in place of df.
    """
    point = math.sqrt(max(chisq - df, 0.0) / (n * df))
    tail = (1.0 - RMSEA_LEVEL) / 2.0
    bounds = (_noncentrality(chisq, df, 1.0 - tail), _noncentrality(chisq, df, tail))
    return point, math.sqrt(bounds[0] / (n * df)), math.sqrt(bounds[1] / (n * df))


def _noncentrality(chisq: float, df: float, probability: float) -> float:
    """Find the noncentrality that puts ``chisq`` at this quantile; 0 where even 0 is too much."""
    if not chisq > 0.0 or chndtr(chisq, df, 0.0) <= probability:
        return 0.0
    high = max(chisq, 1.0)
    while chndtr(chisq, df, high) > probability:
        high *= 2.0
    return float(brentq(lambda value: chndtr(chisq, df, value) - probability, 0.0, high))


def _upper_tail(chisq: float, df: int) -> float:
    """Probability of a larger chi-square."""
    return float(chdtrc(df, max(chisq, 0.0)))


def _srmr(mean: Array, cov: Array, implied_mean: Array, implied_cov: Array) -> float:
    """Root mean square of standardized differences of means, variances and covariances."""
    sd = np.sqrt(np.diag(cov))
    low = np.tril_indices(len(sd))
    by_cov = ((cov - implied_cov) / np.outer(sd, sd))[low]
    by_mean = (mean - implied_mean) / sd
    return float(np.sqrt(np.mean(np.square(np.concatenate([by_cov, by_mean])))))
