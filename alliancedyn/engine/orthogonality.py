"""Tests of what a dynamic panel estimate rests on: errors without memory, valid instruments."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from alliancedyn.engine.instruments import Rows
from alliancedyn.engine.weighting import Moments, invert_information, weigh

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class NullTest:
    """A test of a null hypothesis.

    Parameters
    ----------
    name : str
    statistic : float
        NaN where there is none.
    df : int or None
        Degrees of freedom of a chi-square; None for a standard normal statistic.
    pvalue : float
        Two-sided for a normal statistic, upper tail for a chi-square.
    """

    name: str
    statistic: float
    df: int | None
    pvalue: float


def no_test(name: str) -> NullTest:
    """Return a test that was not made."""
    return NullTest(name, math.nan, None, math.nan)


def overidentification(statistic: float, df: int, name: str) -> NullTest:
    """Test that all moments hold together: a quadratic form that is chi-square with df = K - q.

    Sargan: ``e'Z W_1 Z'e / sigma2`` of one-step residuals. Hansen: ``e'Z W_2 Z'e`` of two-step
    residuals. Some programs print the second form with one-step residuals after one step; that is
    another number.
    """
    pvalue = float(chdtrc(df, max(statistic, 0.0))) if df > 0 else math.nan
    return NullTest(name, statistic, df, pvalue)


def difference_hansen(moments: Moments, S: Array, columns: list[int], full: NullTest) -> NullTest:
    """Test that some instruments are exogenous, given that the others are.

    The difference between Hansen's statistic and that of the remaining moments, both weighed by
    the same estimate S of their covariance, so that it cannot be negative; chi-square with as many
    degrees of freedom as moments are left out. NaN where the remaining do not identify the model.
    """
    name = "difference in Hansen"
    kept = ~np.isin(moments.used, columns)
    zx, zy = moments.zx[kept], moments.zy[kept]
    if kept.all() or kept.sum() < moments.q:
        return no_test(name)
    W, _ = weigh(S[np.ix_(kept, kept)])
    B = invert_information(zx.T @ W @ zx)
    if B is None:
        return no_test(name)
    g = zy - zx @ (B @ (zx.T @ W @ zy))
    return overidentification(full.statistic - float(g @ W @ g), int((~kept).sum()), name)


def autocorrelation(
    differenced: list[Rows], beta: Array, share: Array, cov: Array
) -> tuple[NullTest, NullTest]:
    """Test the differenced errors d for autocorrelation of order 1 and 2.

    With w_i = sum_t d_it d_i,t-l, the statistic is ``sum_i w_i / sqrt(v)``,

        v = sum_i w_i^2 - 2 x' (sum_i psi_i w_i) + x' V x,    x = sum_it d_i,t-l dx_it,

    psi_i the client's ``share`` (N, q) in beta and V its covariance (Arellano & Bond, 1991, eq. 8).
    """
    n = len(share)
    d, X = {}, {}
    for row in differenced:
        values, into = np.concatenate(row.X), np.array(row.into, np.int64)
        d[row.session] = np.zeros(n)
        d[row.session][row.who] = row.y - beta[into] @ values
        X[row.session] = (values, into, row.who)
    found = [_one_order(order, d, X, share, cov) for order in (1, 2)]
    return found[0], found[1]


def _one_order(
    order: int,
    d: dict[int, Array],
    X: dict[int, tuple[Array, Index, Index | slice]],
    share: Array,
    cov: Array,
) -> NullTest:
    name = f"m{order}"
    w, x = np.zeros(len(share)), np.zeros(len(cov))
    for session, own in d.items():
        if session - order not in d:
            continue
        lagged = d[session - order]
        values, into, who = X[session]
        w += own * lagged
        x[into] += values @ lagged[who]
    variance = float(w @ w - 2.0 * x @ (share.T @ w) + x @ cov @ x)
    if not variance > 0.0 or not w.any():
        return no_test(name)
    statistic = float(w.sum() / math.sqrt(variance))
    return NullTest(name, statistic, None, math.erfc(abs(statistic) / math.sqrt(2.0)))
