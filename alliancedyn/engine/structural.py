"""Linear equations among the columns of a wide panel, and the moments that they imply.

The p columns v of a client depend on each other and on r independent sources z::

    v = nu + B v + N z,   z ~ (0, Omega)
    M = (I - B)^-1 N,   mean = (I - B)^-1 nu,   Sigma = M Omega M'

Each element of nu, B, N and Omega is a constant or an entry of one of a family's matrices. The
slopes of any function of the moments, d by the mean and D by the covariance, come back by ::

    H = (I - B)^-T 2 D M Omega,   h = (I - B)^-T d
    by N: H,   by B: H M' + h mean',   by nu: h,   by Omega: M' D M.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.engine.covariance import Sufficient, slopes_by_client, value_and_slopes
from alliancedyn.engine.likelihood import Likelihood
from alliancedyn.engine.system import Matrices

Array = NDArray[np.float64]
Index = NDArray[np.int64]

CHUNK = 2**22  # numbers held at a time while passing over the clients


@dataclass(frozen=True)
class Entry:
    """Where the entries of one of a family's matrices stand.

    Parameters
    ----------
    key : str
        The matrix.
    shape : tuple of int
        Its shape.
    which : (n,) int
        Its entries, flattened.
    at : (n,) int
        Elements of the larger matrix, flattened.
    """

    key: str
    shape: tuple[int, ...]
    which: Index
    at: Index

    def values(self, matrices: Mapping[str, Array]) -> Array:
        """Return the entries (..., n); leading axes of the matrix are kept."""
        value = matrices[self.key]
        lead = value.shape[: value.ndim - len(self.shape)]
        return np.asarray(value.reshape(*lead, -1)[..., self.which])

    @cached_property
    def gather(self) -> Array | None:
        """What sums slopes by elements (n,) to slopes by entries; None if each stands once."""
        if len(np.unique(self.which)) == len(self.which):
            return None
        return np.asarray(self.which[:, None] == np.arange(int(np.prod(self.shape))), float)

    def pull(self, slopes: Array, into: Array) -> None:
        """Add slopes (..., M) by all elements of the larger matrix to those by this one."""
        lead = slopes.shape[:-1]
        flat = into.reshape(*lead, -1)
        if self.gather is None:
            flat[..., self.which] += slopes[..., self.at]
        else:
            flat += slopes[..., self.at] @ self.gather


@dataclass(frozen=True)
class Pattern:
    """A matrix of constants and of entries of a family's matrices.

    Parameters
    ----------
    constant : array
        Its constants, 0 elsewhere.
    entries : sequence of Entry
    """

    constant: Array
    entries: Sequence[Entry]

    def fill(self, matrices: Mapping[str, Array]) -> Array:
        """Return the matrix (..., *shape); leading axes and complex numbers are allowed."""
        found = [entry.values(matrices) for entry in self.entries]
        lead = np.broadcast_shapes(*(value.shape[:-1] for value in found))
        kind = complex if any(np.iscomplexobj(value) for value in found) else float
        out = np.empty((*lead, self.constant.size), kind)
        out[...] = self.constant.ravel()
        for entry, value in zip(self.entries, found, strict=True):
            out[..., entry.at] = value
        return out.reshape(*lead, *self.constant.shape)

    def pull(self, slopes: Array, gradients: Matrices) -> None:
        """Add what slopes (..., *shape) by the matrix mean for those that its entries come from."""
        lead = slopes.shape[: slopes.ndim - self.constant.ndim]
        flat = slopes.reshape(*lead, -1)
        for entry in self.entries:
            entry.pull(flat, gradients[entry.key])


@dataclass(frozen=True)
class Moments:
    """Mean and covariance, with what the slopes need.

    Parameters
    ----------
    mean, cov : (p,), (p, p)
        Score points and squared score points.
    passed : (p, p)
        (I - B)^-1.
    reach : (p, r)
        M, what a unit of each source does to each column.
    sources : (r, r)
        Omega.
    """

    mean: Array
    cov: Array
    passed: Array
    reach: Array
    sources: Array


@dataclass(frozen=True)
class Equations:
    """A family of linear equations.

    Parameters
    ----------
    level : Pattern
        nu, (p,).
    paths : Pattern
        B, (p, p), strictly lower triangular in some order of the columns.
    entry : Pattern
        N, (p, r).
    sources : Pattern
        Omega, (r, r).
    """

    level: Pattern
    paths: Pattern
    entry: Pattern
    sources: Pattern

    def moments(self, matrices: Mapping[str, Array]) -> Moments:
        """Return the implied moments; leading axes and complex numbers are allowed."""
        B, Omega = self.paths.fill(matrices), self.sources.fill(matrices)
        passed = np.asarray(np.linalg.inv(np.eye(B.shape[-1]) - B), B.dtype)
        reach = passed @ self.entry.fill(matrices)
        cov = reach @ Omega @ np.swapaxes(reach, -1, -2)
        mean = (passed @ self.level.fill(matrices)[..., None])[..., 0]
        return Moments(mean, (cov + np.swapaxes(cov, -1, -2)) / 2.0, passed, reach, Omega)

    def pull(
        self, matrices: Mapping[str, Array], moments: Moments, by_mean: Array, by_cov: Array
    ) -> Matrices:
        """Return the slopes by a family's matrices, from those by the moments.

        ``by_mean`` (..., p) and ``by_cov`` (..., p, p) may have leading axes, which are kept.
        """
        reach, passed = moments.reach, moments.passed
        H = passed.T @ by_cov @ (2.0 * reach @ moments.sources)
        h = by_mean @ passed
        lead = h.shape[:-1]
        gradients = {key: np.zeros((*lead, *value.shape)) for key, value in matrices.items()}
        self.level.pull(h, gradients)
        self.paths.pull(H @ reach.T + h[..., None] * moments.mean, gradients)
        self.entry.pull(H, gradients)
        self.sources.pull(reach.T @ by_cov @ reach, gradients)
        return gradients

    def slopes(self, matrices: Mapping[str, Array]) -> Matrices:
        """Return the slopes of all moments by a family's matrices, (p + p(p+1)/2, *shape).

        Means first, then the lower triangle of the covariance row by row.
        """
        moments = self.moments(matrices)
        p = len(moments.mean)
        rows, columns = np.tril_indices(p)
        q = p + len(rows)
        by_mean, by_cov = np.zeros((q, p)), np.zeros((q, p, p))
        by_mean[np.arange(p), np.arange(p)] = 1.0
        by_cov[p + np.arange(len(rows)), rows, columns] += 0.5
        by_cov[p + np.arange(len(rows)), columns, rows] += 0.5
        return self.pull(matrices, moments, by_mean, by_cov)


@dataclass(frozen=True)
class EquationLikelihood(Likelihood):
    """The log-likelihood of linear equations among the columns of a wide panel.

    A :class:`~alliancedyn.engine.likelihood.Likelihood` of one group whose value and score come
    from means and covariances; a filter would find the same.

    Parameters
    ----------
    equations : Equations
        How matrices make moments.
    cells : ((p,), (p,)) int
        Session and score of every column among those in ``shares``.
    """

    equations: Equations = field(kw_only=True)
    cells: tuple[Index, Index] = field(kw_only=True)

    @cached_property
    def wide(self) -> Array:
        """Scores (N, p), NaN = missing."""
        (share,) = self.shares
        seen = share.blocks.gather(share.blocks.seen) > 0.0
        scores = np.where(seen, share.blocks.gather(share.blocks.y), np.nan)
        return np.ascontiguousarray(scores[:, *self.cells])

    @cached_property
    def _sufficient(self) -> Sufficient:
        return Sufficient.of(self.wide)

    @checked
    def value_and_score(self, theta: Array) -> tuple[float, Array]:
        """Return the log-likelihood and its derivatives; -inf where the covariance is singular."""
        theta = self.layout.point(theta)
        matrices = self.layout.matrices(theta)
        moments = self.equations.moments(matrices)
        value, by_mean, by_cov = value_and_slopes(self._sufficient, moments.mean, moments.cov)
        if not np.isfinite(value):
            return -np.inf, np.zeros(len(theta))
        gradients = self.equations.pull(matrices, moments, by_mean, by_cov)
        return value, self.layout.pull(theta, gradients)

    @checked
    def scores(self, theta: Array) -> Array:
        """Return every client's derivatives, (N, n)."""
        theta = self.layout.point(theta)
        matrices = self.layout.matrices(theta)
        moments = self.equations.moments(matrices)
        p = len(moments.mean)
        slopes = self.layout.pull(theta, self.equations.slopes(matrices))
        rows, columns = np.tril_indices(p)
        twice = np.where(rows == columns, 1.0, 2.0)
        out = np.empty((len(self.wide), slopes.shape[1]))
        size = max(1, CHUNK // p**2)
        for first in range(0, len(out), size):
            cut = slice(first, first + size)
            by_mean, by_cov = slopes_by_client(self.wide[cut], moments.mean, moments.cov)
            out[cut] = by_mean @ slopes[:p] + (by_cov[:, rows, columns] * twice) @ slopes[p:]
        return out

    def loglik(self, matrices: Matrices) -> float:
        """Return the log-likelihood at natural parameters; -inf where they are not admissible."""
        moments = self.equations.moments(matrices)
        value = value_and_slopes(self._sufficient, moments.mean, moments.cov)[0]
        return value if np.isfinite(value) else -np.inf
