"""The log-likelihood of a family on a panel: matrices in, value and score in theta out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.kalman import Blocks, Score, StateSpace, loglik_by_client
from alliancedyn.engine.kalman import score_by_client, value_and_score
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
    natural : callable
        Matrices to all reported parameters by name, implied ones included.
    """

    layout: Layout
    family: Family
    blocks: Blocks
    start: Array
    natural: Callable[[Matrices], dict[str, float]]

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
        """Return the natural parameters by canonical name."""
        return self.natural(self.layout.matrices(np.asarray(theta, float)))

    def loglik(self, params: Mapping[str, float]) -> float:
        """Return the log-likelihood at natural parameters."""
        system = self.family.system(self.layout.from_params(params))
        return float(loglik_by_client(system, self.blocks, THREADS).sum())
