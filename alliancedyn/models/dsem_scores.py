"""Scores that are not simply seen: missing, censored, ordinal, measured with error.

The open model needs true scores x_it of every client up to the last session seen. Where a score
is seen without error, x is the score. Elsewhere it is a parameter::

    missing             x is free
    at a floor f        x = f - h,  h > 0              at a ceiling c    x = c + h
    category j          x between thresholds c_j and c_j+1
    with an error       x = what was seen - sd z,      z ~ N(0, 1)

so that no cell has a density of its own: the process gives it one.

What was seen stands in the model as data, "seen_scores" with 0 for what was not, and can be
exchanged for other scores with the same ones missing: nothing is compiled anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.dsem import DsemShape
from alliancedyn.errors import SpecificationError
from alliancedyn.models.nuts import import_pymc

Array = NDArray[np.float64]


def last_seen(Y: Array) -> NDArray[np.int64]:
    """Return the number of sessions up to the last with a score, (N,)."""
    at_all: NDArray[np.bool_] = np.any(~np.isnan(Y), axis=2)
    return np.asarray(Y.shape[1] - at_all[:, ::-1].argmax(axis=1), np.int64)


def seen_scores(Y: Array) -> Any:
    """Return the scores (N, T, k) of the model in whose context this is, 0 where missing."""
    pm = import_pymc()
    model = pm.modelcontext(None)
    if "seen_scores" not in model.named_vars:
        pm.Data("seen_scores", np.nan_to_num(Y), dims=("client", "session", "variable"))
    return model["seen_scores"]


def own_means(Y: Array) -> Any:
    """Return clients' means (N, k) of the scores seen, a tensor, 0 where there is none."""
    counts = (~np.isnan(Y)).sum(axis=1)
    return seen_scores(Y).reshape(Y.shape).sum(axis=1) / np.maximum(counts, 1)


def true_scores(
    Y: Array,
    shape: DsemShape,
    error_sd: Any,
    noisy: NDArray[np.bool_],
    limits: Array | None,
    ordinal: tuple[int, ...] | None,
) -> Any:
    """Return true scores (N, T, k), a tensor, inside a model context; 0 after the last session.

    Parameters
    ----------
    Y : (N, T, k)
        Scores on the scale of the priors, NaN = missing.
    error_sd : (k,) tensor or array
        SDs of measurement errors.
    noisy : (k,) bool
        Series that have errors.
    limits : (k, 2), optional
        Floor and ceiling on the scale of the priors; NaN or infinite where there is none.
    ordinal : (k,) tuple of int, optional
        Number of thresholds of each ordinal series, 0 for others.
    """
    seen = ~np.isnan(Y)
    x: Any = seen_scores(Y).reshape((Y.size,))
    if ordinal is not None:
        for j, count in enumerate(ordinal):
            if count:
                x = _between_thresholds(x, Y, j, count, shape.variables[j])
    if limits is not None:
        x = _beyond_limits(x, Y, limits)
    x = _with_errors(x, seen & noisy, error_sd)
    return _with_missing(x, Y).reshape(Y.shape)


def _at(where: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.flatnonzero(where.ravel())


def _with_missing(x: Any, Y: Array) -> Any:
    pm = import_pymc()
    inside = np.arange(Y.shape[1])[None, :, None] < last_seen(Y)[:, None, None]
    cells = _at(np.isnan(Y) & inside)
    if not len(cells):
        return x
    _, n_sessions, k = Y.shape
    start = own_means(Y)[cells // (n_sessions * k), cells % k]
    return x[cells].set(pm.Flat("missing_score", shape=len(cells), initval=start))


def _with_errors(x: Any, noisy: NDArray[np.bool_], error_sd: Any) -> Any:
    pm = import_pymc()
    import pytensor.tensor as pt

    cells = _at(noisy)
    if not len(cells):
        return x
    series = cells % noisy.shape[2]
    z = pm.Normal("measurement_z", shape=len(cells))
    return x[cells].inc(-pt.as_tensor_variable(error_sd)[series] * z)


def _beyond_limits(x: Any, Y: Array, limits: Array) -> Any:
    pm = import_pymc()
    floor, ceiling = limits[:, 0], limits[:, 1]
    with np.errstate(invalid="ignore"):
        low, high = _at(floor >= Y), _at(ceiling <= Y)
    k = Y.shape[2]
    if len(low):
        below = pm.HalfFlat("below_floor", shape=len(low), initval=np.full(len(low), 0.5))
        x = x[low].set(floor[low % k] - below)
    if len(high):
        above = pm.HalfFlat("above_ceiling", shape=len(high), initval=np.full(len(high), 0.5))
        x = x[high].set(ceiling[high % k] + above)
    return x


def categories(Y: Array, count: int, name: str) -> Array:
    """Return the values of the categories of an ordinal series, ascending.

    Raises
    ------
    SpecificationError
        Unless there is one more than thresholds, and three or more.
    """
    values = np.unique(Y[~np.isnan(Y)])
    if count < 2:
        raise SpecificationError(
            f"{name} has {count} threshold: two or more are needed, as the outer two set its "
            "location and unit. Treat a yes-no item in another way."
        )
    if len(values) != count + 1:
        raise SpecificationError(
            f"{name} takes {len(values)} different values, which needs {len(values) - 1} "
            f"thresholds; {count} were given. Join categories that are not used."
        )
    return np.asarray(values)


def _between_thresholds(x: Any, Y: Array, j: int, count: int, name: str) -> Any:
    """Place the scores of an ordinal series between thresholds.

    The outer thresholds lie halfway between the two lowest and the two highest categories, which
    keeps the unit of the scores; the inner ones are estimated, their spacings Dirichlet(1).
    """
    pm = import_pymc()
    import pytensor.tensor as pt

    values = categories(Y[:, :, j], count, name)
    first, last = values[:2].mean(), values[-2:].mean()
    inner = pm.Dirichlet(f"threshold_spacing_{name}", np.ones(count - 1)) if count > 2 else None
    shares = pt.zeros(1) if inner is None else pt.concatenate([[0.0], pt.cumsum(inner)[:-1]])
    cuts = pt.concatenate([first + (last - first) * shares, [last]])
    pm.Deterministic(f"threshold_{name}", cuts)
    code = np.full(Y.shape, -1)
    code[:, :, j] = np.where(
        np.isnan(Y[:, :, j]), -1, np.searchsorted(values, np.nan_to_num(Y[:, :, j]))
    )
    low, high = _at(code == 0), _at(code == count)
    middle = _at((code > 0) & (code < count))
    below = pm.HalfFlat(f"below_first_{name}", shape=len(low), initval=np.full(len(low), 0.5))
    above = pm.HalfFlat(f"above_last_{name}", shape=len(high), initval=np.full(len(high), 0.5))
    share = pm.Uniform(f"within_category_{name}", shape=len(middle))
    at = code.ravel()[middle]
    width = cuts[at] - cuts[at - 1]
    pm.Potential(f"category_width_{name}", pt.log(width).sum())  # of placing by a share of it
    x = x[low].set(first - below)
    x = x[high].set(last + above)
    return x[middle].set(cuts[at - 1] + width * share)
