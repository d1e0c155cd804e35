"""The saturated model: every mean, variance and covariance of a wide panel free.

Fit indices compare a model with it, and with the opposite extreme, columns that have nothing to
do with one another. The first may not exist: the data can be too few for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.em import Search, column_moments, lay_out, moments_from, search
from alliancedyn.engine.moments import LOG_2PI, column_names
from alliancedyn.errors import DataError, listed

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Saturated:
    """Free means and covariances of a wide panel, or why they do not exist.

    Parameters
    ----------
    mean : (p,)
        Means, score points; NaN where not identified and at columns never observed.
    cov : (p, p)
        Covariance (divisor N), squared score points; NaN likewise.
    loglik : float
        Maximized log-likelihood; NaN where not identified.
    n_params : int
        Means and covariances of the observed columns, p (p + 3) / 2.
    converged : bool
        Whether the maximum was found.
    iterations : int
        Evaluations of the EM map.
    reason : str or None
        Why there is no saturated model; None if there is one.
    """

    mean: Array
    cov: Array
    loglik: float
    n_params: int
    converged: bool
    iterations: int
    reason: str | None = None


def independence(Y: Array) -> tuple[float, int]:
    """Maximize the likelihood with free means and variances and no covariances.

    The columns are independent normals, so the maximum is closed form with missing scores too::

        l = -1/2 sum_j n_j [log(2 pi v_j) + 1]

    with n_j scores in column j and v_j their variance (divisor n_j). Columns never observed do
    not count.

    Parameters
    ----------
    Y : (N, p)
        Scores, score points, NaN = missing.

    Returns
    -------
    loglik : float
        Maximized log-likelihood; infinite if a column is constant.
    n_params : int
        Two for each observed column.
    """
    count, _, variance = column_moments(np.asarray(Y, float))
    used = count > 0
    with np.errstate(divide="ignore"):
        logs = np.log(variance[used])
    return float(-0.5 * np.sum(count[used] * (LOG_2PI + logs + 1.0))), 2 * int(used.sum())


def saturated(Y: Array, *, names: Sequence[str] | None = None) -> Saturated:
    """Maximize the likelihood over all means, variances and covariances.

    Parameters
    ----------
    Y : (N, p)
        Scores, score points, NaN = missing. Rows without a score and columns that nobody was
        seen at are set aside.
    names : sequence of str, optional
        Column names for the sentence that says why there is no saturated model.

    Returns
    -------
    Saturated
        With a ``reason`` instead of moments where the data cannot carry them:

        - a column does not vary, or two columns are never seen together;
        - some pair of columns is seen together by no more clients than there are columns. On
          complete data this is N <= p, on dropout the exact condition for a nonsingular
          covariance; with scattered holes it is where the search runs into a singular one;
        - the search runs into a singular covariance all the same, or does not end.

    Raises
    ------
    DataError
        If a score is infinite.
    SpecificationError
        If ``names`` does not fit the columns.
    """
    Y = np.asarray(Y, float)
    if np.isinf(Y).any():
        raise DataError("Scores must be finite or missing; some are infinite. Mark them missing.")
    labels = column_names(names, Y.shape[1])
    seen = ~np.isnan(Y)
    used = np.flatnonzero(seen.any(axis=0))
    kept = Y[seen.any(axis=1)][:, used]
    p = len(used)
    n_params = p * (p + 3) // 2
    labels = [labels[j] for j in used]
    reason, steps = _refusal(kept, labels), 0
    if reason is None:
        layout = lay_out(kept)
        found = search(layout)
        steps, reason = found.steps, _failure(found, kept, labels)
    mean, cov = np.full(Y.shape[1], np.nan), np.full((Y.shape[1],) * 2, np.nan)
    if reason is not None:
        return Saturated(mean, cov, np.nan, n_params, False, steps, reason)
    mean[used], cov[np.ix_(used, used)] = moments_from(layout, found.theta)
    loglik = found.loglik - layout.log_scale
    return Saturated(mean, cov, loglik, n_params, True, steps)


def _demand(n: int, p: int) -> str:
    moments = p * (p + 3) // 2
    return f"The saturated model does not exist: p(p+3)/2 = {moments} moments from {n} clients"


def _refusal(Y: Array, labels: list[str]) -> str | None:
    """Say why the saturated model cannot be identified, as far as counting tells."""
    n, p = Y.shape
    if n == 0:
        return "The saturated model does not exist: there are no scores."
    _, mean, variance = column_moments(Y)
    flat = [labels[j] for j in np.flatnonzero(variance <= (1e-10 * np.abs(mean)) ** 2)]
    if flat:
        return f"The saturated model does not exist: the scores do not vary at {listed(flat)}."
    if n <= p:
        return f"{_demand(n, p)}; a covariance of {p} columns needs more than {p} clients."
    seen = (~np.isnan(Y)).astype(float)
    together = np.rint(seen.T @ seen).astype(np.int64)
    i, j = np.unravel_index(int(together.argmin()), together.shape)
    pair = f"{labels[i]!r} and {labels[j]!r}"
    if together[i, j] == 0:
        never = int((together == 0).sum()) // 2
        pairs = f"such as {pair}" if never > 1 else pair
        return (
            f"The saturated model does not exist: {never} pair{'s' if never > 1 else ''} of "
            f"columns never seen together ({pairs})."
        )
    if together[i, j] <= p:
        where = f"{labels[i]!r} was seen" if i == j else f"{pair} were seen together"
        return (
            f"{_demand(n, p)}; {where} by {together[i, j]} of them, and a covariance of {p} "
            f"columns needs more than {p} at every pair."
        )
    return None


def _failure(found: Search, Y: Array, labels: list[str]) -> str | None:
    """Say how the search for the maximum failed, if it did."""
    if found.converged:
        return None
    n, p = Y.shape
    if found.singular >= 0:
        return (
            f"{_demand(n, p)}; the covariance turns singular at {labels[found.singular]!r}, whose "
            "scores are a combination of the others' as far as the scores seen together can tell."
        )
    return (
        f"{_demand(n, p)}, with too many scores missing: the search for the maximum did not end "
        f"in {found.steps} steps."
    )
