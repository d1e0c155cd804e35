"""Linear mixed models by exact ML and REML, from one pass over the rows.

For client i with rows y_i (n_i,), fixed-effect columns X_i (n_i, p) and random-effect columns
Z_i (n_i, q), within an outer unit g (a therapist, a site) where there is one,

    y_i = X_i beta + Z_i u_i + 1 v_g + e_i,
    u_i ~ N(0, random_cov),  v_g ~ N(0, outer_var),  e_i ~ N(0, residual_var I).

``fit_mixed`` reduces the rows to the statistics of the clients (:mod:`mixed_rows`), puts the
columns on a scale of their own (:mod:`mixed_design`), writes the likelihood and its derivatives
down (:mod:`mixed_likelihood`) and maximises it (:mod:`mixed_search`). ``fit_variance_components``
is the special case of random intercepts at any number of nested levels (:mod:`nested`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alliancedyn.allowed import numeric
from alliancedyn.checking import checked
from alliancedyn.engine.mixed_design import standardize
from alliancedyn.engine.mixed_result import MixedFit, assemble
from alliancedyn.engine.mixed_rows import Grouping, group_rows
from alliancedyn.engine.mixed_search import maximise_mixed
from alliancedyn.engine.nested import (
    ROUNDING,
    Array,
    ClusterStatistics,
    Codes,
    VarianceComponents,
    maximise_components,
    sum_by,
)
from alliancedyn.errors import DataError, SpecificationError


@checked
def fit_mixed(
    y: ArrayLike,
    X: ArrayLike,
    Z: ArrayLike,
    group: ArrayLike,
    *,
    outer: ArrayLike | None = None,
    reml: bool = True,
) -> MixedFit:
    """Fit a linear mixed model by restricted or full maximum likelihood.

    Parameters
    ----------
    y : array (n,)
        Scores, in score points; no NaN.
    X : array (n, p)
        Fixed-effect columns, the intercept among them; no NaN.
    Z : array (n, q)
        Random-effect columns, e.g. ones and a predictor; their effects may correlate freely.
    group : integer array (n,)
        Client of each row, any codes in any order.
    outer : integer array (n,), optional
        Unit of the level above (therapist, site) of each row, for a random intercept there; each
        client must lie in one, or in none (NO_UNIT), without such an intercept.
    reml : bool
        Restricted (True) or full maximum likelihood.

    Returns
    -------
    MixedFit
        With the verdict on each variance that ends at zero.

    Raises
    ------
    DataError
        If values are missing or infinite, lengths differ, or codes are no integers.
    SpecificationError
        If columns of X or of Z are linearly dependent, if clients or outer units cannot be told
        from what lies below or above them, if a client has rows in two outer units, or if no
        spread is left within clients.

    References
    ----------
    Bates, Maechler, Bolker & Walker (2015), Fitting linear mixed-effects models using lme4,
    Journal of Statistical Software 67(1), whose profiled (REML) deviance and constants these are.
    """
    rows, codes, above = _checked_rows(y, X, Z, group, outer)
    _refuse_few_rows(rows)
    grouping = group_rows(codes, above)
    _refuse_single_units(grouping)
    design = standardize(*rows, grouping)
    peak = maximise_mixed(design.stats, rows[2].shape[1], reml)
    return assemble(rows, grouping, design, peak, reml)


def _checked_rows(
    y: ArrayLike, X: ArrayLike, Z: ArrayLike, group: ArrayLike, outer: ArrayLike | None
) -> tuple[tuple[Array, Array, Array], Codes, Codes | None]:
    if not all(numeric(part, flags=True) for part in (y, X, Z)):
        raise DataError("y, X and Z must hold numbers. Turn text into numbers first.")
    scores, fixed, random = (np.asarray(part, dtype=np.float64) for part in (y, X, Z))
    if not numeric(group) or not (outer is None or numeric(outer)):
        raise DataError("Group codes must be integers. Use numpy.unique(..., return_inverse=True).")
    codes = [np.atleast_1d(np.asarray(code)) for code in (group, outer) if code is not None]
    if scores.ndim != 1 or fixed.ndim != 2 or random.ndim != 2:
        raise DataError("y must have one dimension, X and Z two. Use Z[:, None] for one column.")
    if any(len(part) != len(scores) for part in (fixed, random, *codes)):
        raise DataError("y, X, Z and the group codes need one row per score each.")
    if any(code.ndim != 1 or code.dtype.kind not in "iu" for code in codes):
        raise DataError("Group codes must be integers. Use numpy.unique(..., return_inverse=True).")
    whole = [np.ascontiguousarray(code, dtype=np.int64) for code in codes]
    return (scores, fixed, random), whole[0], whole[1] if outer is not None else None


def _refuse_few_rows(rows: tuple[Array, Array, Array]) -> None:
    (n, p), q = rows[1].shape, rows[2].shape[1]
    if not p or not q:
        raise SpecificationError("X and Z need at least one column each, e.g. a column of ones.")
    if n <= p:
        raise SpecificationError(f"{n} rows cannot carry {p} fixed effects.")


def _refuse_single_units(grouping: Grouping) -> None:
    for units, name in zip(grouping.units, ("client", "outer unit"), strict=False):
        if units < 2:
            raise SpecificationError(
                f"There is a single {name}, so there is no variance between them. Leave it out."
            )


def fit_variance_components(
    y: ArrayLike,
    groups: Sequence[ArrayLike],
    X: ArrayLike | None = None,
    reml: bool = True,
    absorbed: int = 0,
) -> VarianceComponents:
    """Fit nested random intercepts by restricted or full maximum likelihood.

    Parameters
    ----------
    y : array (n,)
        Scores, in score points; no NaN.
    groups : sequence of integer arrays (n,)
        Unit codes, inner to outer, e.g. ``[client, therapist]``. Any integers; each inner unit
        must lie in one outer unit.
    X : array (n, p), optional
        Fixed-effect columns, the intercept among them; no NaN. Without it: an intercept.
    reml : bool
        Restricted (True) or full maximum likelihood.
    absorbed : int
        Number of fixed effects that were projected out of ``y`` beforehand and vary only within
        the innermost units (such as client-specific slopes). They cost degrees of freedom under
        REML; under ML they do not. The log-likelihood then lacks the term of REML's constant that
        belongs to them, -1/2 log of the determinant of their information.

    Returns
    -------
    VarianceComponents
        With the verdict on each variance that ends at zero.

    Raises
    ------
    DataError
        If ``y`` or ``X`` hold missing or infinite values, lengths differ, or codes are no integers.
    SpecificationError
        If a level is not nested in the next, repeats another level or has a single unit, if the
        columns of ``X`` are dependent, or if no spread is left within the innermost units.

    References
    ----------
    Bates, Maechler, Bolker & Walker (2015), Fitting linear mixed-effects models using lme4,
    Journal of Statistical Software 67(1), whose profiled (REML) deviance and constants these are.
    """
    scores, design, codes = _validated(y, groups, X)
    members, parents = _nest(codes)
    _refuse_unidentified(members, parents)
    # An orthonormal basis and the residuals of ordinary least squares: the same likelihood, and
    # generalised least squares no longer depends on the scale of X or the offset of y.
    basis, triangle = np.linalg.qr(design)
    _refuse_collinear(triangle, design)
    start = np.linalg.solve(triangle, basis.T @ scores)
    columns = np.column_stack([basis, scores - design @ start])
    stats = replace(summarise_clusters(columns, members, parents), absorbed=absorbed)
    _refuse_no_spread(stats, scores)
    fit = maximise_components(stats, reml)
    back = np.linalg.inv(triangle)
    log_volume = float(np.log(np.abs(np.diag(triangle))).sum())
    return replace(
        fit,
        beta=start + back @ fit.beta,
        beta_cov=back @ fit.beta_cov @ back.T,
        loglik=fit.loglik - (log_volume if reml else 0.0),
    )


def summarise_clusters(
    columns: Array, members: Codes, parents: tuple[Codes, ...]
) -> ClusterStatistics:
    """Reduce rows with independent residuals to the statistics of their innermost units.

    Parameters
    ----------
    columns : array (n, p + 1)
        Fixed-effect columns, then the scores; no NaN.
    members : integer array (n,)
        Innermost unit of each row, 0 .. J - 1, none empty.
    parents : tuple of integer arrays
        As in ``ClusterStatistics``.
    """
    weight = np.bincount(members).astype(np.float64)
    mean = sum_by(members, columns, len(weight)) / weight[:, None]
    deviation = columns - mean[members]
    return ClusterStatistics(weight, mean, deviation.T @ deviation, parents, len(members))


def _validated(
    y: ArrayLike, groups: Sequence[ArrayLike], X: ArrayLike | None
) -> tuple[Array, Array, list[Codes]]:
    scores = np.asarray(y, dtype=np.float64)
    design = np.ones((len(scores), 1)) if X is None else np.asarray(X, dtype=np.float64)
    codes = [np.asarray(group) for group in groups]
    if not codes:
        raise SpecificationError("No grouping was given. Pass at least the client codes.")
    if design.ndim != 2 or any(len(part) != len(scores) for part in (design, *codes)):
        raise DataError("Scores, design and group codes need one row per score each.")
    if not (np.isfinite(scores).all() and np.isfinite(design).all()):
        raise DataError("Scores and design must be finite. Drop rows with missing values first.")
    if any(code.dtype.kind not in "iu" for code in codes):
        raise DataError("Group codes must be integers. Use numpy.unique(..., return_inverse=True).")
    return scores, design, [_compact(code) for code in codes]


def _compact(codes: NDArray[np.integer]) -> Codes:
    """Renumber codes 0 .. units - 1 without gaps, without sorting the rows where possible."""
    if len(codes) and codes.min() >= 0 and codes.max() < 4 * len(codes):
        seen = np.bincount(codes) > 0
        return np.asarray((np.cumsum(seen) - 1)[codes], dtype=np.int64)
    return np.asarray(np.unique(codes, return_inverse=True)[1], dtype=np.int64)


def _nest(codes: list[Codes]) -> tuple[Codes, tuple[Codes, ...]]:
    """Return the innermost unit of each row and, per level, the unit of the next level."""
    parents = []
    for level, (inner, outer) in enumerate(pairwise(codes)):
        parent = np.zeros(int(inner.max(initial=-1)) + 1, dtype=np.int64)
        parent[inner] = outer
        split = np.unique(inner[parent[inner] != outer]).size
        if split:
            raise SpecificationError(
                f"Level {level} is not nested in level {level + 1}: {split} of its units lie in "
                "more than one outer unit. Give each inner unit one outer unit."
            )
        parents.append(parent)
    return codes[0], tuple(parents)


def _refuse_unidentified(members: Codes, parents: tuple[Codes, ...]) -> None:
    units = [int(codes.max(initial=-1)) + 1 for codes in (members, *parents)]
    if not len(members):
        raise SpecificationError("There are no scores to fit.")
    if units[0] == len(members):
        raise SpecificationError(
            "No innermost unit has two scores, so its variance cannot be told from that of single "
            "scores. Use repeated scores."
        )
    for level, (inner, outer) in enumerate(pairwise(units)):
        if inner == outer:
            raise SpecificationError(
                f"Levels {level} and {level + 1} hold the same units, so their variances cannot "
                "be told apart. Leave one of them out."
            )
    if units[-1] < 2:
        raise SpecificationError(
            "The outermost level has a single unit, so it has no variance. Leave it out."
        )


def _refuse_collinear(triangle: Array, design: Array) -> None:
    size = np.linalg.norm(design, axis=0)
    if design.shape[0] <= design.shape[1] or np.any(np.abs(np.diag(triangle)) <= 1e-10 * size):
        raise SpecificationError(
            "The columns of the design are linearly dependent. Drop the redundant ones."
        )


def _refuse_no_spread(stats: ClusterStatistics, scores: Array) -> None:
    """Refuse scores whose spread within innermost units, given X, is zero up to rounding."""
    xx, xy, yy = stats.scatter[:-1, :-1], stats.scatter[:-1, -1], stats.scatter[-1, -1]
    left = float(yy - xy @ np.linalg.lstsq(xx, xy, rcond=1e-12)[0])
    if left <= stats.rows * (ROUNDING * float(np.abs(scores).max())) ** 2:
        raise SpecificationError(
            "No spread is left within the innermost units, so the residual variance is zero and "
            "the likelihood has no maximum. Leave this variable out."
        )
