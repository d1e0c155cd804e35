"""Scores of the clients in natural parameters, also where a covariance is zero.

The optimizer's theta holds Cholesky factors, in which the score of a covariance that is zero
vanishes whatever the data say. Tests of "this covariance is zero" need the derivatives by its
elements instead; they exist there, because the likelihood goes on smoothly to covariances that are
slightly indefinite.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.kalman import score_by_client
from alliancedyn.engine.likelihood import THREADS, Likelihood, of_group
from alliancedyn.engine.system import Block

Array = NDArray[np.float64]


def scores(likelihood: Likelihood, natural: Array) -> Array:
    """Return the derivatives of every client's log-likelihood by the natural parameters.

    Parameters
    ----------
    likelihood : Likelihood
    natural : (n,)
        In the order of ``likelihood.names``, score points and their squares.

    Returns
    -------
    (N, n)
    """
    layout = likelihood.layout
    matrices = layout.unflatten(natural)
    total = {key: np.zeros((likelihood.n_clients, *value.shape)) for key, value in matrices.items()}
    for share in likelihood.shares:
        own = of_group(matrices, share.group)
        by_load = share.family.by_load
        slope = score_by_client(share.family.system(own), share.blocks, THREADS, by_load)
        for key, by in share.family.gradients(own, slope).items():
            whose = f"{key}|{share.group}"
            total[whose if whose in total else key][share.rows] += by  # shared: all groups
    return np.concatenate([flat(block, total[block.key]) for block in layout.blocks], axis=-1)


def flat(block: Block, by: Array) -> Array:
    """Turn derivatives by the entries of a family's array into those by its parameters."""
    lead = by.shape[: by.ndim - len(block.shape)]
    if block.kind != "covariance":
        return by.reshape(*lead, -1)
    rows, columns = np.triu_indices(block.shape[-1])
    both = by[..., rows, columns] + by[..., columns, rows] * (rows != columns)
    return np.asarray(both.reshape(*lead, -1))
