"""A family as one function from named matrices to a system, with derivatives for free.

The function is plain array algebra. Its derivatives come from complex steps, all at once: every
matrix gets a leading axis with one entry per direction, the function is called a single time, and
the imaginary parts are the derivatives, exact to rounding. Parameters in which the system is
affine have constant derivatives, which are taken once.

So a function that assembles a system must allow leading axes and complex numbers: index with
``...``, no ``abs``, ``max`` or conjugate transposes, and no checks unless the numbers are real.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.kalman import Score, StateSpace
from alliancedyn.engine.system import Matrices

Array = NDArray[np.float64]

STEP = 1e-30  # any size will do: nothing is subtracted
DIMENSIONS = {"mean": 2, "phi": 3, "psi": 3, "initial_cov": 2, "load": 3, "noise": 2, "drive": 2}


def derivatives(
    function: Callable[[Matrices], Any], matrices: Matrices, by: Sequence[str]
) -> dict[str, Array]:
    """Return the derivatives of a function of matrices, entry by entry.

    Parameters
    ----------
    function : callable
        Takes matrices with one leading axis and returns an array (directions, M).
    matrices : dict of arrays
        Where.
    by : sequence of str
        The matrices to differentiate by.

    Returns
    -------
    dict of (size, M)
        By family; rows are the entries of its array in order.
    """
    sizes = [matrices[key].size for key in by]
    total = sum(sizes)
    if total == 0:
        return {}
    moved = {key: value[None] for key, value in matrices.items()}
    first = 0
    for key, size in zip(by, sizes, strict=True):
        one = np.repeat(matrices[key][None], total, axis=0).astype(complex)
        one.reshape(total, -1)[first + np.arange(size), np.arange(size)] += 1j * STEP
        moved[key] = one
        first += size
    values = np.asarray(function(moved)).imag / STEP
    values = np.broadcast_to(values, (total, values.shape[-1]))
    edges = np.cumsum([0, *sizes])
    return {key: values[a:b] for key, a, b in zip(by, edges[:-1], edges[1:], strict=True)}


@dataclass(frozen=True)
class Assembly:
    """A family of systems.

    Parameters
    ----------
    build : callable
        Named matrices to a system; see the module's docstring for what it must allow.
    nonlinear : tuple of str
        Matrices by which the derivative of the system is not constant.
    by_load : bool
        Whether loadings depend on parameters.
    """

    build: Callable[[Matrices], StateSpace]
    nonlinear: tuple[str, ...] = ()
    by_load: bool = False
    _constant: dict[str, Array] = field(default_factory=dict, compare=False, repr=False)

    def system(self, matrices: Matrices) -> StateSpace:
        """Return the system; raise SpecificationError where it does not exist."""
        return self.build(matrices)

    def gradients(self, matrices: Matrices, score: Score) -> Matrices:
        """Return the derivatives by the matrices from those by the system."""
        flat = _flat_score(score)
        out: Matrices = {}
        for key, J in self._jacobians(matrices).items():
            by = flat @ J.T
            out[key] = by.reshape(*by.shape[:-1], *matrices[key].shape)
        return out

    def _jacobians(self, matrices: Matrices) -> dict[str, Array]:
        """Return the derivatives of the flattened system by each matrix, (size, M)."""
        if not self._constant:
            fixed = [key for key in matrices if key not in self.nonlinear]
            self._constant.update(derivatives(self._flat_system, matrices, fixed))
        bent = [key for key in self.nonlinear if key in matrices]
        return {**self._constant, **derivatives(self._flat_system, matrices, bent)}

    def _flat_system(self, matrices: Matrices) -> Array:
        system = self.build(matrices)
        parts = [_flat(name, getattr(system, name)) for name in DIMENSIONS]
        rows = max(len(part) if part.ndim > 1 else 1 for part in parts)
        return np.concatenate(
            [np.broadcast_to(part, (rows, part.shape[-1])) for part in parts], axis=-1
        )


def _flat_score(score: Score) -> Array:
    """Return the derivatives by the whole system in one vector, or one per client."""
    return np.concatenate([_flat(name, getattr(score, name)) for name in DIMENSIONS], axis=-1)


def _flat(name: str, value: Array) -> Array:
    return value.reshape(*value.shape[: value.ndim - DIMENSIONS[name]], -1)


def block_diagonal(*parts: Array) -> Array:
    """Put square matrices (..., k, k) on a diagonal, leading axes broadcast."""
    lead = np.broadcast_shapes(*(part.shape[:-2] for part in parts))
    m = sum(part.shape[-1] for part in parts)
    out = np.zeros((*lead, m, m), np.result_type(*parts))
    first = 0
    for part in parts:
        last = first + part.shape[-1]
        out[..., first:last, first:last] = part
        first = last
    return out


def join(parts: Sequence[Array], axis: int) -> Array:
    """Concatenate along one of the trailing axes (negative), leading axes broadcast."""
    lead = np.broadcast_shapes(*(part.shape[:axis] for part in parts))
    return np.concatenate(
        [np.broadcast_to(part, (*lead, *part.shape[axis:])) for part in parts], axis=axis
    )
