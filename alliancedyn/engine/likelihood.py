"""The log-likelihood of a family on a panel: matrices in, value and score in theta out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.engine.assembly import derivatives
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

    @property
    def by_load(self) -> bool:
        """Whether loadings depend on parameters."""
        ...

    def system(self, matrices: Matrices) -> StateSpace:
        """Return the system; raise SpecificationError where it does not exist."""
        ...

    def gradients(self, matrices: Matrices, score: Score) -> Matrices:
        """Return the derivatives by the matrices from those by the system."""
        ...


@dataclass(frozen=True)
class Implied:
    """Parameters that are reported but not free.

    Parameters
    ----------
    names : tuple of str
        Their canonical names, without a group.
    values : callable
        Matrices to their values, (..., q); leading axes and complex numbers allowed.
    """

    names: tuple[str, ...]
    values: Callable[[Matrices], Array]


NOTHING = Implied((), lambda matrices: np.zeros(0))


@dataclass(frozen=True)
class Share:
    """The clients of one group, whose systems have the same parameters.

    Parameters
    ----------
    family : Family
        How matrices make a system.
    blocks : Blocks
        The packed scores.
    rows : (n,) int
        Which clients of the selection these are.
    group : str, optional
        Such as ``arm=1``; None where there are no groups.
    """

    family: Family
    blocks: Blocks
    rows: NDArray[np.int64]
    group: str | None = None


def of_group(matrices: Matrices, group: str | None) -> Matrices:
    """Return one group's matrices under their plain names; shared ones belong to all groups."""
    shared = {key: value for key, value in matrices.items() if "|" not in key}
    if group is None:
        return shared
    end = f"|{group}"
    own = {key.removesuffix(end): value for key, value in matrices.items() if key.endswith(end)}
    return {**shared, **own}


@dataclass(frozen=True)
class Likelihood:
    """An :class:`~alliancedyn.engine.maximise.Objective` for a state-space family.

    Parameters
    ----------
    layout : Layout
        How theta is cut into matrices.
    shares : tuple of Share
        The clients, by group.
    start : (n,)
        Starting values of theta.
    implied : Implied
        Parameters that follow from the free ones.
    """

    layout: Layout
    shares: tuple[Share, ...]
    start: Array
    implied: Implied = NOTHING

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical names of the free parameters."""
        return self.layout.names

    @property
    def linear(self) -> NDArray[np.bool_]:
        """Which elements of theta the score is linear in."""
        return self.layout.linear

    @property
    def n_clients(self) -> int:
        """Number of clients."""
        return sum(len(share.rows) for share in self.shares)

    @checked
    def value_and_score(self, theta: Array) -> tuple[float, Array]:
        """Return the log-likelihood and its derivatives; -inf where there is no such process."""
        theta = self.layout.point(theta)
        matrices = self.layout.matrices(theta)
        total = 0.0
        gradients = {key: np.zeros_like(value) for key, value in matrices.items()}
        for share in self.shares:
            own = of_group(matrices, share.group)
            try:
                system = share.family.system(own)
            except SpecificationError:
                return -np.inf, np.zeros(len(theta))
            value, score = value_and_score(system, share.blocks, THREADS, share.family.by_load)
            total += value
            for key, slope in share.family.gradients(own, score).items():
                gradients[self._key(key, share.group)] += slope
        return total, self.layout.pull(theta, gradients)

    @checked
    def scores(self, theta: Array) -> Array:
        """Return every client's derivatives, (N, n)."""
        theta = self.layout.point(theta)
        matrices = self.layout.matrices(theta)
        out = np.zeros((self.n_clients, len(theta)))
        for share in self.shares:
            own = of_group(matrices, share.group)
            by_load = share.family.by_load
            score = score_by_client(share.family.system(own), share.blocks, THREADS, by_load)
            n = len(share.rows)
            gradients = {key: np.zeros((n, *value.shape)) for key, value in matrices.items()}
            for key, slope in share.family.gradients(own, score).items():
                gradients[self._key(key, share.group)] = slope
            out[share.rows] = self.layout.pull(theta, gradients)
        return out

    def systems(self, matrices: Matrices) -> list[StateSpace]:
        """Return the system of every share at natural parameters."""
        return [share.family.system(of_group(matrices, share.group)) for share in self.shares]

    def loglik(self, matrices: Matrices) -> float:
        """Return the log-likelihood at natural parameters; -inf where they are not admissible."""
        total = 0.0
        for system, share in zip(self.systems(matrices), self.shares, strict=True):
            total += float(loglik_by_client(system, share.blocks, THREADS).sum())
        return total if np.isfinite(total) else -np.inf

    @checked
    def to_params(self, theta: Array) -> dict[str, float]:
        """Return all reported parameters by canonical name, implied ones last."""
        theta = self.layout.point(theta)
        params = dict(zip(self.layout.names, self.layout.natural(theta).tolist(), strict=True))
        values = self._implied(self.layout.matrices(theta)).ravel().tolist()
        params.update(zip(self._implied_names, values, strict=True))
        return params

    def jacobian(self, theta: Array) -> Array:
        """Return the derivatives of all reported parameters by theta."""
        natural = self.layout.jacobian(theta)
        if not self.implied.names:
            return natural
        matrices = self.layout.matrices(theta)
        slopes = derivatives(self._implied, matrices, list(matrices))
        rows = np.stack(
            [
                self.layout.pull(
                    theta, {k: by[:, i].reshape(matrices[k].shape) for k, by in slopes.items()}
                )
                for i in range(len(self._implied_names))
            ]
        )
        return np.concatenate([natural, rows])

    @cached_property
    def _groups(self) -> list[str | None]:
        return [share.group for share in self.shares]

    @property
    def _implied_names(self) -> list[str]:
        return [
            name if group is None else f"{name}|{group}"
            for group in self._groups
            for name in self.implied.names
        ]

    def _implied(self, matrices: Matrices) -> Array:
        parts = [self.implied.values(of_group(matrices, group)) for group in self._groups]
        lead = np.broadcast_shapes(*(part.shape[:-1] for part in parts))
        return np.concatenate(
            [np.broadcast_to(part, (*lead, part.shape[-1])) for part in parts], axis=-1
        )

    @cached_property
    def _keys(self) -> frozenset[str]:
        return frozenset(block.key for block in self.layout.blocks)

    def _key(self, family: str, group: str | None) -> str:
        """Name of a family's array as one group sees it: its own if it has one, else shared."""
        own = f"{family}|{group}"
        return own if own in self._keys else family
