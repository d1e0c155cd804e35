"""Score and information of a likelihood in natural parameters, also where a covariance is zero.

The optimizer's theta holds Cholesky factors, in which the score of a covariance that is zero
vanishes whatever the data say. Tests of "this covariance is zero" need the derivatives by its
elements instead; they exist there, because the likelihood goes on smoothly to covariances that are
slightly indefinite.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.kalman import score_by_client, value_and_score
from alliancedyn.engine.likelihood import THREADS, Likelihood, of_group
from alliancedyn.engine.system import Block, Layout

Array = NDArray[np.float64]

STEP = 1e-4  # of a parameter, in its unit: truncation error about 1e-8 of the information


def units(layout: Layout) -> Array:
    """Return the unit of every natural parameter: score points, squared score points, ...; (n,)."""
    parts = []
    for block in layout.blocks:
        scale = np.array(block.scale)
        if block.kind == "covariance":
            scale = np.outer(scale, scale)[np.triu_indices(len(scale))]
        elif block.kind == "variance":
            scale = scale * scale
        parts.append(np.tile(scale, block.shape[0]))
    return np.concatenate(parts)


def score(likelihood: Likelihood, natural: Array) -> Array:
    """Return the derivatives of the log-likelihood by the natural parameters, (n,)."""
    return _collect(likelihood, natural, by_client=False)


def scores(likelihood: Likelihood, natural: Array) -> Array:
    """Return every client's derivatives by the natural parameters, (N, n)."""
    return _collect(likelihood, natural, by_client=True)


def information(likelihood: Likelihood, natural: Array) -> Array:
    """Return minus the second derivatives by the natural parameters, (n, n), by differences."""
    steps = STEP * units(likelihood.layout)
    H = np.stack(
        [
            (score(likelihood, natural - step) - score(likelihood, natural + step))
            for step in np.diag(steps)
        ]
    ) / (2.0 * steps[:, None])
    return np.asarray((H + H.T) / 2.0)


def _collect(likelihood: Likelihood, natural: Array, by_client: bool) -> Array:
    layout = likelihood.layout
    matrices = layout.unflatten(natural)
    lead = (likelihood.n_clients,) if by_client else ()
    total = {key: np.zeros((*lead, *value.shape)) for key, value in matrices.items()}
    for share in likelihood.shares:
        own = of_group(matrices, share.group)
        system = share.family.system(own)
        if by_client:
            slope = score_by_client(system, share.blocks, THREADS, share.family.by_load)
        else:
            _, slope = value_and_score(system, share.blocks, THREADS, share.family.by_load)
        for key, by in share.family.gradients(own, slope).items():
            whose = f"{key}|{share.group}"
            at = total[whose if whose in total else key]  # its own, or shared by all groups
            if by_client:
                at[share.rows] += by
            else:
                at += by
    return np.concatenate([flat(block, total[block.key]) for block in layout.blocks], axis=-1)


def flat(block: Block, by: Array) -> Array:
    """Turn derivatives by the entries of a family's array into those by its parameters."""
    lead = by.shape[: by.ndim - len(block.shape)]
    if block.kind != "covariance":
        return by.reshape(*lead, -1)
    rows, columns = np.triu_indices(block.shape[-1])
    both = by[..., rows, columns] + by[..., columns, rows] * (rows != columns)
    return np.asarray(both.reshape(*lead, -1))
