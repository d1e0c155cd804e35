"""Moments of the scores as functions of natural parameters, and the information that they carry.

Whatever a family says about a group of clients ends in the mean and the covariance of their
scores. Their derivatives by the parameters decide two things: whether the parameters can be told
apart at all, and the expected information, which for clients with observed scores o is ::

    I_ij = sum over clients [ 1/2 tr(W dS_i W dS_j) + dm_i' W dm_j ],   W = (S_oo)^-1.

It is the average of the observed information over scores that the model itself makes, which
scores are missing being given. Unlike that it is never indefinite, and it does not vary with how
well the model happens to fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from alliancedyn.engine.assembly import derivatives, join
from alliancedyn.engine.kalman import Blocks, StateSpace
from alliancedyn.engine.likelihood import Likelihood, Share, of_group
from alliancedyn.engine.moments import find_patterns
from alliancedyn.engine.natural import flat
from alliancedyn.engine.system import Matrices
from alliancedyn.errors import SpecificationError

Array = NDArray[np.float64]

LARGEST = 10_000_000  # slopes of covariances that are held at once: some 100 sessions, two series


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of one group's scores, session by session, or their derivatives.

    Parameters
    ----------
    mean : (..., T p)
        Where known inputs are 0, score points.
    cov : (..., T p, T p)
        Squared score points.
    effects : (..., T p, T, q)
        What one unit of each known input does to each mean.
    """

    mean: Array
    cov: Array
    effects: Array


def moments(system: StateSpace) -> Moments:
    """Return the moments of a system whose matrices may have leading axes and be complex.

    The same equations as :func:`~alliancedyn.engine.moments.implied_moments`, for many systems.
    """
    loads = _dense(system)
    T, p, d = len(system.mean_at), loads.shape[-2], system.phi.shape[-1]
    lead = np.broadcast_shapes(
        *(part.shape[:-3] for part in (system.phi, system.psi, loads)),
        *(part.shape[:-2] for part in (system.initial_cov, system.noise, system.drive)),
    )
    kind = np.result_type(system.phi, system.psi, system.initial_cov, loads, system.noise)
    cov = np.zeros((*lead, T, p, T, p), np.result_type(kind, system.drive))
    effects = np.zeros((*lead, T, p, T, system.drive.shape[-1]), cov.dtype)
    P = np.array(np.broadcast_to(system.initial_cov, (*lead, *system.initial_cov.shape[-2:])))
    for s in range(T):
        across, pushed, following = P, system.drive, P
        for t in range(s, T):
            if t > s:
                phi = system.phi[..., system.phi_at[t], :, :]
                across, pushed = _carry(phi, across), _carry(phi, pushed)
            if t == s + 1:
                following = _t(_carry(phi, _t(across)))
            load = loads[..., t, :, :]
            block = load @ across @ _t(loads[..., s, :, :])
            cov[..., t, :, s, :], cov[..., s, :, t, :] = block, _t(block)
            effects[..., t, :, s, :] = load @ pushed
        here = cov[..., s, :, s, :]
        here += np.eye(p) * system.noise[..., system.noise_at[s], None, :]
        if s + 1 < T:
            P = np.array(following, cov.dtype)
            P[..., :d, :d] += system.psi[..., system.psi_at[s + 1], :, :]
    mean = system.mean[..., system.mean_at, :]
    return Moments(
        mean.reshape(*mean.shape[:-2], -1),
        cov.reshape(*lead, T * p, T * p),
        effects.reshape(*lead, T * p, T, -1),
    )


def moment_slopes(likelihood: Likelihood, natural: Array) -> list[Moments]:
    """Return the derivatives of every group's moments by the natural parameters, axis 0.

    For families whose clients share their matrices.
    """
    layout = likelihood.layout
    matrices = layout.unflatten(natural)
    return [_slopes(likelihood, share, matrices) for share in likelihood.shares]


def _slopes(likelihood: Likelihood, share: Share, matrices: Matrices) -> Moments:
    def function(moved: Matrices) -> Array:
        found = moments(share.family.system(of_group(moved, share.group)))
        parts = [found.mean, found.cov, found.effects]
        shapes.extend(part.shape[1:] for part in parts)
        lead = max(len(part) for part in parts)
        flattened = [part.reshape(len(part), -1) for part in parts]
        return np.concatenate(
            [np.broadcast_to(part, (lead, part.shape[-1])) for part in flattened], axis=-1
        )

    shapes: list[tuple[int, ...]] = []
    by = derivatives(function, matrices, list(matrices))
    pieces = []
    for block in likelihood.layout.blocks:
        slope = by[block.key].T.reshape(-1, *matrices[block.key].shape)
        pieces.append(flat(block, slope).T)
    together = likelihood.layout.chain(np.concatenate(pieces))
    edges = np.cumsum([int(np.prod(shape)) for shape in shapes[:3]])
    mean, cov, effects = np.split(together, edges[:-1], axis=1)
    n = len(together)
    cov = cov.reshape(n, *shapes[1])
    return Moments(mean, (cov + _t(cov)) / 2.0, effects.reshape(n, *shapes[2]))


def expected_information(likelihood: Likelihood, natural: Array) -> Array:
    """Return the expected information about the natural parameters, (n, n), shared matrices only.

    Parameters
    ----------
    likelihood : Likelihood
    natural : (n,)
        Where; covariances may be zero as long as those of the scores are definite.

    Raises
    ------
    SpecificationError
        If there are too many scores per client and parameters: of 200 sessions with means of their
        own it would take minutes and gigabytes.
    """
    n = likelihood.layout.n_free
    scores = max(share.blocks.gather(share.blocks.seen)[0].size for share in likelihood.shares)
    if n * scores**2 > LARGEST:
        raise SpecificationError(
            f"A test by the expected information takes the slopes of {scores} x {scores} "
            f"covariances by {n} parameters, which would take minutes. Choose fewer sessions with "
            "sessions=(first, last), or compare BIC."
        )
    out = np.zeros((n, n))
    matrices = likelihood.layout.unflatten(natural)
    for share, slopes in zip(likelihood.shares, moment_slopes(likelihood, natural), strict=True):
        cov = moments(share.family.system(of_group(matrices, share.group))).cov
        out += _of_share(share.blocks, cov, slopes)
    return out


def _of_share(blocks: Blocks, cov: Array, slopes: Moments) -> Array:
    """Sum the information over clients, pattern of missing scores by pattern."""
    seen = blocks.gather(blocks.seen).reshape(blocks.n_clients, -1) > 0.0
    inputs = blocks.gather(blocks.inputs)
    n = len(slopes.mean)
    bends = np.flatnonzero(np.abs(slopes.cov).max(axis=(1, 2)) > 0.0)  # those that move S
    out = np.zeros((n, n))
    patterns = find_patterns(seen)
    for k, columns in enumerate(patterns.seen):
        rows = patterns.order[patterns.start[k] : patterns.start[k + 1]]
        if not columns.any():
            continue
        L = np.linalg.cholesky(cov[np.ix_(columns, columns)])
        root = solve_triangular(L, np.eye(len(L)), lower=True)
        X = root @ slopes.cov[np.ix_(bends, columns, columns)] @ root.T
        X = X.reshape(len(bends), -1)
        out[np.ix_(bends, bends)] += 0.5 * len(rows) * (X @ X.T)
        pushed = np.einsum("ntq,iatq->nia", inputs[rows], slopes.effects[:, columns])
        D = (slopes.mean[:, columns] + pushed) @ root.T
        out += np.einsum("nia,nja->ij", D, D, optimize=True)
    return out


def _t(matrix: Array) -> Array:
    return np.swapaxes(matrix, -1, -2)


def _carry(phi: Array, states: Array) -> Array:
    """Move the dynamic rows of states one session on; the others stay."""
    d = phi.shape[-1]
    return join([phi @ states[..., :d, :], states[..., d:, :]], -2)


def _dense(system: StateSpace) -> Array:
    """Return the loadings of the scores on all states at every session, (..., T, p, m)."""
    p, columns = system.load_index.shape
    out = np.zeros((*system.load.shape[:-1], system.initial_cov.shape[-1]), system.load.dtype)
    for column in range(columns):
        out[..., np.arange(p), system.load_index[:, column]] += system.load[..., column]
    return out[..., system.load_at, :, :]
