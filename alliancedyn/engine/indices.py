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

from alliancedyn.engine.saturated import Saturated
from alliancedyn.engine.scaling import cluster_factor
from alliancedyn.engine.wide import WideGroup
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


@dataclass(frozen=True)
class _Compared:
    """Both tests, and over how many clients in how many groups."""

    test: _Test
    baseline: _Test
    n: int
    n_groups: int


def fit_indices(
    groups: Sequence[WideGroup], *, loglik: float, n_params: int, trace: float | None = None
) -> dict[str, float | str]:
    """Compare a fitted model with the saturated model and with independent columns.

    With l the log-likelihoods, s saturated, b the baseline, n clients in G groups, p columns, and
    c covariates or inputs that the model takes as given::

        chisq = 2 (l_s - l),  df = sum over groups of [p(p+3)/2 + p c] - n_params
        CFI = 1 - max(chisq - df, 0) / max(chisq - df, chisq_b - df_b, 0)
        TLI = 1 - (chisq - df) / df * df_b / (chisq_b - df_b)
        RMSEA = sqrt(G max(chisq - df, 0) / (n df))
        SRMR^2 = mean of ((s_jk - sigma_jk) / sqrt(s_jj s_kk))^2 and ((m_j - mu_j) / sqrt(s_jj))^2
        AIC = 2 n_params - 2 l,  BIC = n_params log n - 2 l

    SRMR is the groups' average, weighted by their clients. In the baseline scores have to do with
    neither each other nor what is given.

    With ``trace`` also the Yuan-Bentler scaled versions (Mplus variant, "MLR"):
    chisq_scaled = chisq / c with c = (tr(A1^-1 B1) - trace) / df, the baseline likewise.

    Parameters
    ----------
    groups : sequence of WideGroup
        Scores and implied moments, one for each group of clients.
    loglik : float
        Log-likelihood of the fitted model.
    n_params : int
        Its free parameters.
    trace : float, optional
        tr(A0^-1 B0) of the fitted model, A0 its observed information and B0 the sum of outer
        products of its score over clients, or over clusters with the factor C / (C - 1).

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
    used = [group.trimmed() for group in groups]
    n, moments = sum(group.n_clients for group in used), sum(group.n_moments for group in used)
    out = withheld(loglik=loglik, n_params=n_params, n=n, scaled=trace is not None)
    df, baseline_df = moments - n_params, sum(group.baseline_df for group in used)
    out |= {"df": df, "baseline_df": baseline_df}
    free = [group.saturated() for group in used]
    if reasons := [found.reason for found in free if found.reason is not None]:
        return out | {"reason": reasons[0]}
    saturated = sum(found.loglik for found in free)
    if loglik > saturated + SLACK:
        return out | {"reason": _overtaken(loglik, saturated)}
    compared = _Compared(
        _Test(max(2.0 * (saturated - loglik), 0.0), df),
        _Test(2.0 * (saturated - sum(group.baseline() for group in used)), baseline_df),
        n,
        len(used),
    )
    out |= {"chisq": compared.test.chisq, "baseline_chisq": compared.baseline.chisq}
    out["srmr"] = _average_srmr(used, free)
    if df <= 0:
        return out | {"reason": _no_freedom(df, moments, n_params)}
    out |= _indices(compared)
    return out if trace is None else out | _scaled(used, free, compared, trace)


def withheld(
    reason: str | None = None, *, loglik: float, n_params: int, n: int, scaled: bool = False
) -> dict[str, float | str]:
    """Return AIC and BIC, with everything else NaN.

    Parameters
    ----------
    reason : str, optional
        Why there is no comparison with a saturated model.
    loglik, n_params : float, int
        Of the fitted model.
    n : int
        Clients.
    scaled : bool
        Whether scaled versions were asked for.
    """
    keys = (*PLAIN, *SCALED) if scaled else PLAIN
    out: dict[str, float | str] = dict.fromkeys(keys, np.nan)
    out["aic"] = 2.0 * n_params - 2.0 * loglik
    out["bic"] = n_params * math.log(n) - 2.0 * loglik if n else np.nan
    return out if reason is None else out | {"reason": reason}


def _overtaken(loglik: float, saturated: float) -> str:
    """Say that the saturated maximum cannot be the right one."""
    return (
        f"The saturated log-likelihood ({saturated:.4f}) is below the model's ({loglik:.4f}): "
        "with so many scores missing the search found a lower maximum, or the model was fitted "
        "to other scores."
    )


def _no_freedom(df: int, moments: int, n_params: int) -> str:
    """Say why a model without degrees of freedom has no test."""
    if df == 0:
        return (
            f"The model has as many parameters as there are moments ({n_params}): it reproduces "
            "any data, so there is nothing to test."
        )
    return (
        f"The model has more parameters ({n_params}) than there are moments ({moments}), so "
        "it is not identified from the moments and cannot be tested against them."
    )


def _indices(compared: _Compared) -> dict[str, float | str]:
    """Return the indices that rest on the unscaled chi-square."""
    test, baseline = compared.test, compared.baseline
    rmsea, lower, upper = _rmsea(test.chisq, test.df, compared)
    return {
        "pvalue": _upper_tail(test.chisq, test.df),
        "cfi": _cfi(test, baseline),
        "tli": _tli(test, baseline),
        "rmsea": rmsea,
        "rmsea_lower": lower,
        "rmsea_upper": upper,
    }


def _scaled(
    groups: list[WideGroup], free: list[Saturated], compared: _Compared, trace: float
) -> dict[str, float | str]:
    """Return the Yuan-Bentler scaled statistics, or the reason for their absence."""
    test, baseline = compared.test, compared.baseline
    try:
        of_free, of_baseline = _traces(groups, free)
    except SpecificationError as problem:
        return {"reason_scaled": str(problem)}
    factor = (of_free - trace) / test.df
    out: dict[str, float | str] = {"scaling_factor": factor}
    if not factor > 0.0:
        why = f"The scaling factor is {factor:.3f}; a chi-square cannot be divided by it. "
        return out | {"reason_scaled": why + "The sample is too small for the correction."}
    scaled = _Test(test.chisq / factor, test.df)
    rmsea, lower, upper = _rmsea(test.chisq, of_free - trace, compared)
    out |= {
        "chisq_scaled": scaled.chisq,
        "pvalue_scaled": _upper_tail(scaled.chisq, scaled.df),
        "rmsea_scaled": rmsea,
        "rmsea_lower_scaled": lower,
        "rmsea_upper_scaled": upper,
    }
    bare_factor = (of_free - of_baseline) / baseline.df
    out["baseline_scaling_factor"] = bare_factor
    if not bare_factor > 0.0:
        return out | {"reason_scaled": "The baseline's scaling factor is not positive."}
    bare_scaled = _Test(baseline.chisq / bare_factor, baseline.df)
    return out | {
        "baseline_chisq_scaled": bare_scaled.chisq,
        "cfi_scaled": _cfi(scaled, bare_scaled),
        "tli_scaled": _tli(scaled, bare_scaled),
    }


def _traces(groups: list[WideGroup], free: list[Saturated]) -> tuple[float, float]:
    """Return tr(A^-1 B) of the saturated model and of the baseline, all groups together.

    A has no entries between groups, so that the groups' traces add up even where a cluster has
    clients in several of them.
    """
    factor = 1.0
    if all(group.clusters is not None for group in groups):
        factor = cluster_factor(len(np.unique(np.concatenate([g.clusters for g in groups]))))
    pairs = [group.traces(found) for group, found in zip(groups, free, strict=True)]
    of_free, of_baseline = (factor * sum(side) for side in zip(*pairs, strict=True))
    return of_free, of_baseline


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


def _rmsea(chisq: float, df: float, compared: _Compared) -> tuple[float, float, float]:
    """Compute RMSEA and its 90 % interval from the noncentral chi-square distribution.

    In G groups it carries the factor sqrt(G), as in lavaan. The scaled RMSEA takes the unscaled
    chi-square with the expectation it has under the model, the trace tr(A1^-1 B1) -
    tr(A0^-1 B0), in place of df.
    """
    unit = compared.n_groups / (compared.n * df)
    tail = (1.0 - RMSEA_LEVEL) / 2.0
    lower, upper = _noncentrality(chisq, df, 1.0 - tail), _noncentrality(chisq, df, tail)
    point = max(chisq - df, 0.0)
    return math.sqrt(unit * point), math.sqrt(unit * lower), math.sqrt(unit * upper)


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


def _average_srmr(groups: list[WideGroup], free: list[Saturated]) -> float:
    """Average SRMR over groups, weighted by their clients."""
    weights = [group.n_clients for group in groups]
    return float(
        np.average([_srmr(f, g) for f, g in zip(free, groups, strict=True)], weights=weights)
    )


def _srmr(free: Saturated, group: WideGroup) -> float:
    """Root mean square of standardized differences of means, variances and covariances."""
    implied_mean, implied_cov = group.joint()
    sd = np.sqrt(np.diag(free.cov))
    low = np.tril_indices(len(sd))
    by_cov = ((free.cov - implied_cov) / np.outer(sd, sd))[low]
    by_mean = (free.mean - implied_mean) / sd
    return float(np.sqrt(np.mean(np.square(np.concatenate([by_cov, by_mean])))))
