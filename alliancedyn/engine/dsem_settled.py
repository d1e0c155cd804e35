"""What follows of draws for the process of the average client, all draws at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names
from alliancedyn.engine.dsem import DsemShape
from alliancedyn.engine.var import reduced_form, stationary_cov

Array = NDArray[np.float64]


def settled_quantities(
    shape: DsemShape, draws: Array
) -> tuple[dict[str, Array], NDArray[np.bool_]]:
    """Return ICCs and lagged effects in within SDs at draws (D, n), NaN where nothing settles.

    Returns
    -------
    dict of str to (D,)
        ``icc[a]`` and ``within[b,a]``.
    settles : (D,) bool
        Whether the average process does.
    """
    at = {name: j for j, name in enumerate(shape.parameter_names())}
    v, k = shape.variables, len(shape.variables)
    lags = draws[:, [at[names.label(*one)] for one in shape.coefficients]]
    direct, same = shape.coefficient_matrices(lags)
    phi, psi = reduced_form(same, direct, _symmetric(draws, at, "innovation_cov", v))
    settles = np.abs(np.linalg.eigvals(phi)).max(axis=1) < 1.0
    within = np.full((len(draws), k), np.nan)
    cov = stationary_cov(phi[settles], psi[settles])
    within[settles] = np.diagonal(cov, axis1=1, axis2=2)
    between = np.diagonal(_symmetric(draws, at, "between_cov", v), axis1=1, axis2=2)
    if shape.therapist:
        between = between + np.diagonal(_symmetric(draws, at, "therapist_cov", v), axis1=1, axis2=2)
    out = {names.label("icc", a): between[:, j] / (between + within)[:, j] for j, a in enumerate(v)}
    sd = np.sqrt(within)
    for i, b in enumerate(v):
        for j, a in enumerate(v):
            if i != j:
                out[names.label("within", b, a)] = phi[:, i, j] * sd[:, j] / sd[:, i]
    return out, settles


def _symmetric(draws: Array, at: dict[str, int], family: str, variables: tuple[str, ...]) -> Array:
    k = len(variables)
    full = np.empty((len(draws), k, k))
    upper = np.triu_indices(k)
    for a, b, name in zip(*upper, names.symmetric_labels(family, variables), strict=True):
        full[:, a, b] = full[:, b, a] = draws[:, at[name]] if name in at else 0.0
    return full
