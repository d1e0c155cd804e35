"""Lagged effects that differ between clients by something known about them.

With x_i the moderators of client i (units of their own)::

    phi_i = phi + sum_c moderation_c x_ic

so that ``phi`` is the lagged effect where every moderator is 0: center a moderator to make that
its average. Every client then has transition matrices of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names
from alliancedyn.engine.assembly import Assembly
from alliancedyn.engine.kalman import Score, StateSpace
from alliancedyn.engine.system import Block, Matrices
from alliancedyn.models.design import Design

Array = NDArray[np.float64]


def moderation_blocks(moderators: tuple[str, ...], design: Design) -> list[Block]:
    """Return ``moderation[outcome,predictor,moderator]`` for every lagged effect, (1, c, k, k)."""
    if not moderators:
        return []
    v, units = design.variables, design.units
    cells = [(c, a, b) for c in moderators for a in v for b in v]
    return [
        Block(
            "moderation",
            "plain",
            tuple(names.label("moderation", a, b, c) for c, a, b in cells),
            (1, len(moderators), len(v), len(v)),
            tuple(units[a] / units[b] / design.sd.get(c, 1.0) for c, a, b in cells),
        )
    ]


@dataclass(frozen=True)
class Moderated:
    """A family whose first-order lags are moderated.

    Parameters
    ----------
    plain : Assembly
        The family at moderators of 0.
    moderators : (n, c)
        Of the clients.
    """

    plain: Assembly
    moderators: Array

    @property
    def by_load(self) -> bool:
        """Whether loadings depend on parameters."""
        return self.plain.by_load

    def system(self, matrices: Matrices) -> StateSpace:
        """Return the system, with lag matrices of every client."""
        system = self.plain.system(_without_moderation(matrices))
        shift = np.einsum("nc,cij->nij", self.moderators, matrices["moderation"][0])
        n = len(self.moderators)
        return replace(
            system,
            phi=system.phi + shift[:, None],
            psi=np.broadcast_to(system.psi, (n, *system.psi.shape)),
        )

    def gradients(self, matrices: Matrices, score: Score) -> Matrices:
        """Return the derivatives by the matrices from those by the system."""
        by_lag = score.phi.sum(axis=-3)  # (n, k, k): over slots
        own = self.moderators[:, :, None, None] * by_lag[:, None]
        if score.mean.ndim == 2:  # summed over clients
            score = replace(score, phi=score.phi.sum(axis=0), psi=score.psi.sum(axis=0))
            own = own.sum(axis=0)
        plain = self.plain.gradients(_without_moderation(matrices), score)
        return {**plain, "moderation": own[..., None, :, :, :]}


def _without_moderation(matrices: Mapping[str, Array]) -> Matrices:
    return {key: value for key, value in matrices.items() if key != "moderation"}
