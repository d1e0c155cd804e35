"""From an unconstrained vector to named matrices and back.

An optimizer moves in theta, a vector without bounds and without units: lengths are divided by
the standard deviations of the scores, every covariance is L L' with a free lower-triangular L,
and every variance a square, so that they may become singular (a bound, reached at a finite
theta) but never indefinite. People read natural parameters: the elements of the matrices, under
their canonical names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alliancedyn.allowed import numeric, shown
from alliancedyn.engine import names
from alliancedyn.errors import SpecificationError

Array = NDArray[np.float64]
Matrices = dict[str, Array]
Slots = tuple[int | None, ...]

SINGULAR = 1e-6  # smallest eigenvalue, relative to the scores' variances, that counts as a bound
EVERY: Slots = (None,)  # one value for all sessions


@dataclass(frozen=True)
class Block:
    """A family of parameters: one array per slot.

    Parameters
    ----------
    family : str
        Canonical family, such as ``phi``.
    kind : {"plain", "variance", "covariance"}
        Free numbers, numbers that cannot be negative, or a symmetric positive semidefinite matrix.
    names : tuple of str
        Canonical names of the natural parameters, slot by slot; of a covariance its upper
        triangle.
    shape : tuple of int
        Shape of the family's array, slots first.
    scale : tuple of float
        Unit of each entry of a slot; of a variance the root of it, of a covariance that of each
        row.
    slots : tuple of int or None
        Session of each slot; ``(None,)`` for one value at all sessions.
    indices : tuple of str
        What the rows of a covariance, or the variances, belong to.
    linear : bool
        Whether the score is linear in it, as it is in means.
    group : str, optional
        The group that it belongs to, such as ``arm=1``; None if all groups share it.
    """

    family: str
    kind: Literal["plain", "variance", "covariance"]
    names: tuple[str, ...]
    shape: tuple[int, ...]
    scale: tuple[float, ...]
    slots: Slots = EVERY
    indices: tuple[str, ...] = ()
    linear: bool = False
    group: str | None = None

    @property
    def key(self) -> str:
        """Name of the family's array among the matrices."""
        return self.family if self.group is None else f"{self.family}|{self.group}"

    @property
    def size(self) -> int:
        """Number of free parameters."""
        return len(self.names)

    def of_group(self, group: str) -> Block:
        """Return the same block for one group."""
        own = tuple(f"{name}|{group}" for name in self.names)
        return replace(self, names=own, group=group)


Units = Mapping[str, float]


def vector(
    family: str, of: Sequence[str], units: Units, slots: Slots = EVERY, linear: bool = True
) -> Block:
    """Return a block of one number per name, in the unit of each: means, intercepts."""
    labels = tuple(names.label(family, v, session=slot) for slot in slots for v in of)
    scale = tuple(units[v] for v in of)
    return Block(family, "plain", labels, (len(slots), len(of)), scale, slots, linear=linear)


def matrix(
    family: str,
    rows: Sequence[str],
    columns: Sequence[str],
    units: Units,
    slots: Slots = EVERY,
    linear: bool = False,
) -> Block:
    """Return a block of effects, units of the row per unit of the column."""
    labels = tuple(
        name for slot in slots for name in names.matrix_labels(family, rows, columns, slot)
    )
    scale = tuple(units[row] / units[column] for row in rows for column in columns)
    shape = (len(slots), len(rows), len(columns))
    return Block(family, "plain", labels, shape, scale, slots, linear=linear)


def entries(
    family: str, pairs: Sequence[tuple[str, str]], units: Units, slots: Slots = EVERY
) -> Block:
    """Return a block of some elements (row, column) of a matrix, (S, len(pairs))."""
    labels = tuple(names.label(family, *pair, session=slot) for slot in slots for pair in pairs)
    scale = tuple(units[row] / units[column] for row, column in pairs)
    return Block(family, "plain", labels, (len(slots), len(pairs)), scale, slots)


def ratios(family: str, of: Sequence[str], scale: Sequence[float], slots: Slots = EVERY) -> Block:
    """Return a block of numbers whose units are given outright: loadings."""
    labels = tuple(names.label(family, v, session=slot) for slot in slots for v in of)
    return Block(family, "plain", labels, (len(slots), len(of)), tuple(scale), slots)


def variances(family: str, of: Sequence[str], units: Units, slots: Slots = EVERY) -> Block:
    """Return a block of variances, squared units of each name."""
    labels = tuple(names.label(family, v, session=slot) for slot in slots for v in of)
    scale = tuple(units[v] for v in of)
    return Block(family, "variance", labels, (len(slots), len(of)), scale, slots, tuple(of))


def covariance(family: str, of: Sequence[str], units: Units, slots: Slots = EVERY) -> Block:
    """Return a block of covariances of the names with each other."""
    labels = tuple(name for slot in slots for name in names.symmetric_labels(family, of, slot))
    shape, scale = (len(slots), len(of), len(of)), tuple(units[v] for v in of)
    return Block(family, "covariance", labels, shape, scale, slots, tuple(of))


@dataclass(frozen=True)
class Bound:
    """A covariance or variance that has become singular: its block, slot and unit-free matrix."""

    block: Block
    slot: int
    matrix: Array


@dataclass(frozen=True)
class Layout:
    """How theta is cut into matrices.

    Parameters
    ----------
    blocks : tuple of Block
        The families, in the order in which they are reported.
    """

    blocks: tuple[Block, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Canonical names of the natural parameters."""
        return tuple(name for block in self.blocks for name in block.names)

    @cached_property
    def n_free(self) -> int:
        """Length of theta."""
        return sum(block.size for block in self.blocks)

    @cached_property
    def linear(self) -> NDArray[np.bool_]:
        """Which elements of theta are means, in which the score is linear; (n_free,)."""
        return np.repeat(
            [block.linear for block in self.blocks], [block.size for block in self.blocks]
        )

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where in theta, and in :attr:`names`, each family stands."""
        edges = np.cumsum([0, *(block.size for block in self.blocks)])
        return {
            block.key: slice(int(a), int(b))
            for block, a, b in zip(self.blocks, edges[:-1], edges[1:], strict=True)
        }

    @cached_property
    def _cuts(self) -> list[tuple[Block, slice, Array]]:
        """Return each block, its slice and its scale, as an array."""
        scales = [np.array(block.scale) for block in self.blocks]
        return list(zip(self.blocks, self.slices.values(), scales, strict=True))

    def point(self, theta: Any) -> Array:
        """Return theta as floats (n_free,).

        Raises
        ------
        SpecificationError
            If it is not as many finite numbers.
        """
        at = np.asarray(theta, float) if numeric(theta) else np.empty(0)
        if at.shape != (self.n_free,) or not np.isfinite(at).all():
            raise SpecificationError(
                f"theta is {shown(theta)}; give {self.n_free} finite numbers, such as start."
            )
        return at

    def matrices(self, theta: Array) -> Matrices:
        """Return every family's array, slots first, in natural units."""
        out: Matrices = {}
        for block, cut, scale in self._cuts:
            part = theta[cut]
            if block.kind == "covariance":
                L = _factors(block, part, scale)
                out[block.key] = L @ np.swapaxes(L, 1, 2)
            else:
                value = part.reshape(block.shape[0], -1) * scale
                value = value if block.kind == "plain" else value * value
                out[block.key] = value.reshape(block.shape)
        return out

    def pull(self, theta: Array, gradients: Matrices) -> Array:
        """Chain rule: derivatives by the matrices, (..., *shape), to derivatives by theta.

        Derivatives by a covariance are symmetric and meant entry by entry; leading axes (clients)
        are kept.
        """
        parts = []
        for block, cut, scale in self._cuts:
            G = gradients[block.key]
            lead = G.shape[: G.ndim - len(block.shape)]
            if block.kind == "covariance":
                rows, columns = _lower(block.shape[-1])
                full = 2.0 * (G @ _factors(block, theta[cut], scale)) * scale[:, None]
                parts.append(full[..., rows, columns].reshape(*lead, -1))
                continue
            factor = np.tile(scale, block.shape[0])
            if block.kind == "variance":
                factor = 2.0 * theta[cut] * factor * factor
            parts.append(G.reshape(*lead, -1) * factor)
        return np.concatenate(parts, axis=-1)

    def natural(self, theta: Array) -> Array:
        """Return the natural parameters in the order of :attr:`names`."""
        values = self.matrices(theta)
        return np.concatenate([_flat(block, values[block.key]) for block in self.blocks])

    def jacobian(self, theta: Array) -> Array:
        """Return d natural / d theta, (len(names), n_free)."""
        J = np.zeros((len(self.names), self.n_free))
        for block, cut, scale in self._cuts:
            at = np.arange(cut.start, cut.stop)
            if block.kind == "covariance":
                pieces = _covariance_jacobian(block, theta[cut], scale)
                q = pieces.shape[-1]
                for s, piece in enumerate(pieces):
                    here = slice(cut.start + s * q, cut.start + (s + 1) * q)
                    J[here, here] = piece
                continue
            factor = np.tile(scale, block.shape[0])
            J[at, at] = factor if block.kind == "plain" else 2.0 * theta[cut] * factor * factor
        return J

    def from_params(self, params: Mapping[str, float]) -> Matrices:
        """Return every family's array from natural parameters by name.

        Raises
        ------
        SpecificationError
            If a parameter of the layout is not among them.
        """
        return self.unflatten(names.collect(params, self.names))

    def chain(self, slopes: Array) -> Array:
        """Return slopes by the natural parameters, given those by the matrices' entries, axis 0."""
        return slopes

    def unflatten(self, natural: Array) -> Matrices:
        """Return every family's array from the natural parameters in their order."""
        out: Matrices = {}
        for block, cut in zip(self.blocks, self.slices.values(), strict=True):
            part = natural[cut]
            if block.kind != "covariance":
                out[block.key] = part.reshape(block.shape)
                continue
            full = np.empty(block.shape)
            rows, columns = _upper(block.shape[-1])
            full[:, rows, columns] = full[:, columns, rows] = part.reshape(block.shape[0], -1)
            out[block.key] = full
        return out

    def theta(self, matrices: Matrices) -> Array:
        """Return the theta at which :meth:`matrices` gives these arrays (covariances made PSD)."""
        parts = []
        for block, _, scale in self._cuts:
            value = np.asarray(matrices[block.key], float)
            if block.kind == "covariance":
                rows, columns = _lower(block.shape[-1])
                unit = value / (scale[:, None] * scale)
                parts.append(np.stack([_factor(one) for one in unit])[:, rows, columns].ravel())
                continue
            if block.kind == "variance":
                value = np.sqrt(np.maximum(value, 0.0))
            parts.append((value.reshape(block.shape[0], -1) / scale).ravel())
        return np.concatenate(parts)

    def bounds(self, theta: Array) -> list[Bound]:
        """Return the covariances and variances that are singular."""
        found = []
        values = self._unit_free.matrices(theta)
        for block in self.blocks:
            unit = values[block.key]
            if block.kind == "plain":
                continue
            if block.kind == "variance":
                singular = unit.min(axis=1) < SINGULAR
                unit = np.apply_along_axis(np.diag, 1, unit)
            else:
                singular = np.linalg.eigvalsh(unit)[:, 0] < SINGULAR
            found += [Bound(block, int(s), unit[s]) for s in np.flatnonzero(singular)]
        return found

    def held(self, theta: Array) -> NDArray[np.bool_]:
        """Return which natural parameters no longer move with theta: variances at zero."""
        moves = np.abs(self._unit_free.jacobian(theta)).max(axis=1)
        return np.asarray(moves < 2.0 * np.sqrt(SINGULAR))

    @cached_property
    def _unit_free(self) -> Layout:
        return Layout(
            tuple(replace(block, scale=(1.0,) * len(block.scale)) for block in self.blocks)
        )


@lru_cache
def _lower(k: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rows, columns = np.tril_indices(k)
    return rows, columns


@lru_cache
def _upper(k: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rows, columns = np.triu_indices(k)
    return rows, columns


def _factors(block: Block, theta: Array, scale: Array) -> Array:
    """Lower-triangular L (S, k, k) of a covariance family, in natural units."""
    L = np.zeros(block.shape)
    rows, columns = _lower(block.shape[-1])
    L[:, rows, columns] = theta.reshape(block.shape[0], -1)
    return L * scale[:, None]


def _flat(block: Block, value: Array) -> Array:
    """Natural parameters of a family's array, in the order of their names."""
    if block.kind != "covariance":
        return value.ravel()
    rows, columns = _upper(block.shape[-1])
    return value[:, rows, columns].ravel()


def _covariance_jacobian(block: Block, theta: Array, scale: Array) -> Array:
    """Return d(upper triangle of L L') / d(lower triangle of L / scale), (S, q, q)."""
    k = block.shape[-1]
    L = _factors(block, theta, scale)
    rows, columns = _lower(k)
    upper = _upper(k)
    q = len(rows)
    unit = np.zeros((q, k, k))
    unit[np.arange(q), rows, columns] = scale[rows]
    half = np.einsum("aij,slj->sail", unit, L)
    full = half + np.swapaxes(half, 2, 3)
    return np.swapaxes(full[:, :, upper[0], upper[1]], 1, 2)


def _factor(S: Array, floor: float = 1e-10) -> Array:
    """Lower-triangular L with L L' = S, for S that may be singular or slightly indefinite."""
    values, vectors = np.linalg.eigh((S + S.T) / 2.0)
    root = vectors * np.sqrt(np.maximum(values, floor))
    lower: Array = np.transpose(np.linalg.qr(root.T, mode="r"))
    return lower * np.where(np.diag(lower) < 0.0, -1.0, 1.0)
