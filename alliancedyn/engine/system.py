"""From an unconstrained vector to named matrices and back.

An optimizer moves in theta, a vector without bounds and without units: lengths are divided by
the standard deviations of the scores, and every covariance is L L' with a free lower-triangular
L, so it may become singular (a bound, reached at a finite theta) but never indefinite. People
read natural parameters: the elements of the matrices, under their canonical names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names

Array = NDArray[np.float64]
Matrices = dict[str, Array]
Bound = tuple[str, int | None, Array]  # family, session, matrix in units of scale

SINGULAR = 1e-6  # smallest eigenvalue, relative to the scores' variances, that counts as a bound


@dataclass(frozen=True)
class Block:
    """A family of parameters: one vector, matrix or covariance per slot.

    Parameters
    ----------
    family : str
        Canonical family, such as ``phi``.
    kind : {"vector", "matrix", "covariance"}
        Shape (k,), (k, k), or symmetric (k, k), of one slot.
    slots : tuple of int or None
        Session of each slot; ``(None,)`` for one value at all sessions.
    """

    family: str
    kind: str
    slots: tuple[int | None, ...]

    def labels(self, variables: tuple[str, ...]) -> list[str]:
        """Canonical names, slot by slot; of a covariance the upper triangle."""
        if self.kind == "vector":
            return [
                names.label(self.family, v, session=slot) for slot in self.slots for v in variables
            ]
        if self.kind == "matrix":
            one = names.matrix_labels
            return [n for slot in self.slots for n in one(self.family, variables, variables, slot)]
        return [
            n for slot in self.slots for n in names.symmetric_labels(self.family, variables, slot)
        ]

    def size(self, k: int) -> int:
        """Count the free parameters."""
        per_slot = {"vector": k, "matrix": k * k, "covariance": k * (k + 1) // 2}[self.kind]
        return per_slot * len(self.slots)

    def shape(self, k: int) -> tuple[int, ...]:
        """Shape of the family's array."""
        return (len(self.slots), k) if self.kind == "vector" else (len(self.slots), k, k)


@dataclass(frozen=True)
class Layout:
    """How theta is cut into matrices.

    Parameters
    ----------
    variables : tuple of str
        The k series, in panel order.
    blocks : tuple of Block
        The families, in the order in which they are reported.
    scale : tuple of float
        Standard deviation of each series, score points.
    """

    variables: tuple[str, ...]
    blocks: tuple[Block, ...]
    scale: tuple[float, ...]

    @property
    def k(self) -> int:
        """Number of series."""
        return len(self.variables)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Canonical names of the natural parameters."""
        return tuple(n for block in self.blocks for n in block.labels(self.variables))

    @cached_property
    def n_free(self) -> int:
        """Length of theta."""
        return sum(block.size(self.k) for block in self.blocks)

    @cached_property
    def linear(self) -> NDArray[np.bool_]:
        """Which elements of theta are means, in which the score is linear; (n_free,)."""
        return np.repeat(
            [block.kind == "vector" for block in self.blocks],
            [block.size(self.k) for block in self.blocks],
        )

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where in theta, and in :attr:`names`, each family stands."""
        edges = np.cumsum([0, *(block.size(self.k) for block in self.blocks)])
        return {
            block.family: slice(int(a), int(b))
            for block, a, b in zip(self.blocks, edges[:-1], edges[1:], strict=True)
        }

    @cached_property
    def _scale(self) -> Array:
        return np.array(self.scale)

    @cached_property
    def _ratio(self) -> Array:
        return np.asarray(self._scale[:, None] / self._scale)

    @cached_property
    def _lower(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        rows, columns = np.tril_indices(self.k)
        return rows, columns

    def _factors(self, block: Block, theta: Array) -> Array:
        """Lower-triangular L (S, k, k) of a covariance family, score points."""
        L = np.zeros(block.shape(self.k))
        rows, columns = self._lower
        L[:, rows, columns] = theta.reshape(len(block.slots), -1)
        return L * self._scale[:, None]

    def matrices(self, theta: Array) -> Matrices:
        """Return every family's array, slots first, in score points."""
        out: Matrices = {}
        for block, cut in zip(self.blocks, self.slices.values(), strict=True):
            part = theta[cut]
            if block.kind == "vector":
                out[block.family] = part.reshape(block.shape(self.k)) * self._scale
            elif block.kind == "matrix":
                out[block.family] = part.reshape(block.shape(self.k)) * self._ratio
            else:
                L = self._factors(block, part)
                out[block.family] = L @ np.swapaxes(L, 1, 2)
        return out

    def pull(self, theta: Array, gradients: Matrices) -> Array:
        """Chain rule: derivatives by the matrices, (..., S, k, k), to derivatives by theta.

        Derivatives by a covariance are symmetric and meant entry by entry; leading axes (clients)
        are kept.
        """
        rows, columns = self._lower
        parts = []
        for block, cut in zip(self.blocks, self.slices.values(), strict=True):
            G = gradients[block.family]
            lead = G.shape[: G.ndim - len(block.shape(self.k))]
            if block.kind == "vector":
                part = G * self._scale
            elif block.kind == "matrix":
                part = G * self._ratio
            else:
                L = self._factors(block, theta[cut])
                full = 2.0 * (G @ L) * self._scale[:, None]
                part = full[..., rows, columns]
            parts.append(part.reshape(*lead, -1))
        return np.concatenate(parts, axis=-1)

    def natural(self, theta: Array) -> Array:
        """Return the natural parameters in the order of :attr:`names`."""
        upper = np.triu_indices(self.k)
        values = self.matrices(theta)
        return np.concatenate(
            [
                (
                    values[block.family][:, upper[0], upper[1]]
                    if block.kind == "covariance"
                    else values[block.family]
                ).ravel()
                for block in self.blocks
            ]
        )

    def jacobian(self, theta: Array) -> Array:
        """Return d natural / d theta, (len(names), n_free)."""
        J = np.zeros((len(self.names), self.n_free))
        for block, cut in zip(self.blocks, self.slices.values(), strict=True):
            at = np.arange(cut.start, cut.stop)
            if block.kind == "vector":
                J[at, at] = np.tile(self.scale, len(block.slots))
            elif block.kind == "matrix":
                J[at, at] = np.tile(self._ratio.ravel(), len(block.slots))
            else:
                q = self.k * (self.k + 1) // 2
                for s, piece in enumerate(self._covariance_jacobian(block, theta[cut])):
                    here = slice(cut.start + s * q, cut.start + (s + 1) * q)
                    J[here, here] = piece
        return J

    def _covariance_jacobian(self, block: Block, theta: Array) -> Array:
        """Return d(upper triangle of L L') / d(lower triangle of L / scale), (S, q, q)."""
        k = self.k
        L = self._factors(block, theta)
        rows, columns = self._lower
        upper = np.triu_indices(k)
        q = len(rows)
        unit = np.zeros((q, k, k))
        unit[np.arange(q), rows, columns] = self._scale[rows]
        half = np.einsum("aij,slj->sail", unit, L)
        full = half + np.swapaxes(half, 2, 3)
        return np.swapaxes(full[:, :, upper[0], upper[1]], 1, 2)

    def from_params(self, params: Mapping[str, float]) -> Matrices:
        """Return every family's array from natural parameters by name.

        Raises
        ------
        SpecificationError
            If a parameter of the layout is not among them.
        """
        out: Matrices = {}
        for block in self.blocks:
            v = self.variables
            if block.kind == "vector":
                found = [names.collect(params, names_of) for names_of in self._slotwise(block)]
            elif block.kind == "matrix":
                found = [names.matrix(params, block.family, v, v, slot) for slot in block.slots]
            else:
                found = [names.symmetric_matrix(params, block.family, v, s) for s in block.slots]
            out[block.family] = np.stack(found)
        return out

    def _slotwise(self, block: Block) -> list[list[str]]:
        labels = block.labels(self.variables)
        return [labels[i : i + self.k] for i in range(0, len(labels), self.k)]

    def theta(self, matrices: Matrices) -> Array:
        """Return the theta at which :meth:`matrices` gives these arrays (covariances made PSD)."""
        scale = self._scale
        rows, columns = self._lower
        parts = []
        for block in self.blocks:
            value = matrices[block.family]
            if block.kind == "vector":
                parts.append((value / scale).ravel())
            elif block.kind == "matrix":
                parts.append((value / self._ratio).ravel())
            else:
                unit = value / (scale[:, None] * scale)
                L = np.stack([_factor(one) for one in unit])
                parts.append(L[:, rows, columns].ravel())
        return np.concatenate(parts)

    def bounds(self, theta: Array) -> list[Bound]:
        """Return the covariances that are singular."""
        found = []
        values = self._unit_free.matrices(theta)
        for block in self.blocks:
            if block.kind != "covariance":
                continue
            smallest = np.linalg.eigvalsh(values[block.family])[:, 0]
            found += [
                (block.family, block.slots[s], values[block.family][s])
                for s in np.flatnonzero(smallest < SINGULAR)
            ]
        return found

    def held(self, theta: Array) -> NDArray[np.bool_]:
        """Return which natural parameters no longer move with theta: variances at zero."""
        moves = np.abs(self._unit_free.jacobian(theta)).max(axis=1)
        return np.asarray(moves < 2.0 * np.sqrt(SINGULAR))

    @cached_property
    def _unit_free(self) -> Layout:
        return Layout(self.variables, self.blocks, (1.0,) * self.k)


def _factor(S: Array, floor: float = 1e-10) -> Array:
    """Lower-triangular L with L L' = S, for S that may be singular or slightly indefinite."""
    values, vectors = np.linalg.eigh((S + S.T) / 2.0)
    root = vectors * np.sqrt(np.maximum(values, floor))
    lower: Array = np.transpose(np.linalg.qr(root.T, mode="r"))
    return lower * np.where(np.diag(lower) < 0.0, -1.0, 1.0)
