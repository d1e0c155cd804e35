"""The likelihood of clients drawn with replacement, without building it anew."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.ascent import Hill
from alliancedyn.engine.kalman import Blocks, loglik_by_client
from alliancedyn.engine.likelihood import Likelihood

Array = NDArray[np.float64]
Index = NDArray[np.int64]

NOTHING = 1e-12  # derivative of a client's log-likelihood that is none


@dataclass(frozen=True)
class Weighted:
    """A log-likelihood in which every client counts as often as it was drawn.

    Parameters
    ----------
    likelihood : Likelihood
    weights : (N,)
        How often.
    """

    likelihood: Likelihood
    weights: Array

    def value_and_score(self, theta: Array) -> tuple[float, Array]:
        """Return sum w l and sum w s over clients; -inf where there is no such process."""
        value, score = self.likelihood.value_and_score(theta)
        if not np.isfinite(value):
            return -np.inf, score
        each = np.empty(len(self.weights))
        systems = self.likelihood.systems(self.likelihood.layout.matrices(theta))
        for system, share in zip(systems, self.likelihood.shares, strict=True):
            each[share.rows] = loglik_by_client(system, share.blocks)
        return float(self.weights @ each), self.weights @ self.likelihood.scores(theta)


@dataclass(frozen=True)
class Resampler:
    """Draws on the clients of a likelihood.

    Parameters
    ----------
    likelihood : Likelihood
    theta : (n,)
        Its maximum.
    """

    likelihood: Likelihood
    theta: Array

    def take(self, rows: Index) -> Hill:
        """Return the likelihood of these clients, one row for every time that one was drawn.

        Scores are packed again, which costs less than an evaluation; where clients have systems
        of their own they are weighted instead.
        """
        if self._each_its_own:
            weights = np.bincount(rows, minlength=self.likelihood.n_clients).astype(float)
            return Weighted(self.likelihood, weights)
        shares, first = [], 0
        for share, (place, Y, inputs) in zip(self.likelihood.shares, self._unpacked, strict=True):
            own = place[rows]
            own = own[own >= 0]
            packed = Blocks.pack(Y[own], inputs[own])
            shares.append(replace(share, blocks=packed, rows=first + np.arange(len(own))))
            first += len(own)
        return replace(self.likelihood, shares=tuple(shares))

    def silent(self, rows: Index) -> Index:
        """Return the elements of theta about which none of these clients says anything."""
        return np.flatnonzero(~self._speaks[rows].any(axis=0))

    @cached_property
    def _speaks(self) -> NDArray[np.bool_]:
        return np.abs(self.likelihood.scores(self.theta)) > NOTHING

    @cached_property
    def _each_its_own(self) -> bool:
        systems = self.likelihood.systems(self.likelihood.layout.matrices(self.theta))
        return any(system.phi.ndim == 4 for system in systems)

    @cached_property
    def _unpacked(self) -> list[tuple[Index, Array, Array]]:
        """For every share: place of each client in it (-1 = none), scores and inputs."""
        out = []
        for share in self.likelihood.shares:
            place = np.full(self.likelihood.n_clients, -1)
            place[share.rows] = np.arange(len(share.rows))
            blocks = share.blocks
            seen = blocks.gather(blocks.seen) > 0.0
            Y = np.where(seen, blocks.gather(blocks.y), np.nan)
            out.append((place, Y, blocks.gather(blocks.inputs)))
        return out
