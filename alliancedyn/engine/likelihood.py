"""The log-likelihood of a family on a panel: matrices in, value and score in theta out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.kalman import (
    Blocks,
    Score,
    StateSpace,
    loglik_by_client,
    score_by_client,
    value_and_score,
)
from alliancedyn.engine.system import Layout, Matrices
from alliancedyn.errors import SpecificationError

Array = NDArray[np.float64]

THREADS = os.cpu_count() or 1  # large panels only; see kalman.THREADS_FROM


class Family(Protocol):
    """What makes a family: parameters to system matrices, and derivatives back."""

    def system(self, matrices: Matrices) -> StateSpace:
        """Return the system; raise SpecificationError where it does not exist."""
        ...

    def gradients(self, matrices: Matrices, score: Score) -> Matrices:
        """Return the derivatives by the matrices from those by the system."""
        ...


class Implied(Protocol):
    """Parameters that are reported but not free."""

    @property
    def names(self) -> tuple[str, ...]:
        """Their canonical names."""
        ...

    def values(self, matrices: Matrices) -> Array:
        """Return their values, (q,)."""
        ...

    def jacobian(self, matrices: Matrices, natural: Array) -> Array:
        """Return their derivatives by theta, (q, n), given those of the natural parameters."""
        ...


@dataclass(frozen=True)
class Likelihood:
    """An :class:`~alliancedyn.engine.maximise.Objective` for a state-space family.

    Parameters
    ----------
    layout : Layout
        How theta is cut into matrices.
    family : Family
        How matrices make a system.
    blocks : Blocks
        The packed scores.
    start : (n,)
        Starting values of theta.
    implied : Implied, optional
        Parameters that follow from the free ones.
    """

    layout: Layout
    family: Family
    blocks: Blocks
    start: Array
    implied: Implied | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical names of the free parameters."""
        return self.layout.names

    @property
    def linear(self) -> NDArray[np.bool_]:
        """Which elements of theta the score is linear in."""
        return self.layout.linear

    def value_and_score(self, theta: Array) -> tuple[float, Array]:
        """Return the log-likelihood and its derivatives; -inf where there is no such process."""
        matrices = self.layout.matrices(np.asarray(theta, float))
        try:
            system = self.family.system(matrices)
        except SpecificationError:
            return -np.inf, np.zeros(len(theta))
        value, score = value_and_score(system, self.blocks, THREADS)
        return value, self.layout.pull(theta, self.family.gradients(matrices, score))

    def scores(self, theta: Array) -> Array:
        """Return every client's derivatives, (N, n)."""
        matrices = self.layout.matrices(theta)
        score = score_by_client(self.family.system(matrices), self.blocks, THREADS)
        return self.layout.pull(theta, self.family.gradients(matrices, score))

    def to_params(self, theta: Array) -> dict[str, float]:
        """Return all reported parameters by canonical name, implied ones last."""
        theta = np.asarray(theta, float)
        params = dict(zip(self.layout.names, self.layout.natural(theta).tolist(), strict=True))
        if self.implied is not None:
            values = self.implied.values(self.layout.matrices(theta)).tolist()
            params.update(zip(self.implied.names, values, strict=True))
        return params

    def jacobian(self, theta: Array) -> Array:
        """Return the derivatives of all reported parameters by theta."""
        natural = self.layout.jacobian(theta)
        if self.implied is None:
            return natural
        rows = self.implied.jacobian(self.layout.matrices(theta), natural)
        return np.concatenate([natural, rows])

    def loglik(self, system: StateSpace) -> float:
        """Return the log-likelihood of any system on these scores; -inf if not admissible."""
        value = float(loglik_by_client(system, self.blocks, THREADS).sum())
        return value if np.isfinite(value) else -np.inf
