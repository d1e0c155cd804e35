"""Parameters of scores as they are, from a likelihood of scores around a level.

Where lagged effects act on whole scores, y_t = a + phi y_{t-1} + e_t, a constant c added to the
scores moves the intercept by (1 - phi) c: with scores far from zero, intercept and phi are one
direction of the likelihood, and differences lose its digits. With c taken out of the scores nothing
is lost, and the parameters reported are linear in those that are searched for,

    reported = turn free + move,   a = a' + c - phi c.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.system import Layout, Matrices

Array = NDArray[np.float64]
Shift = tuple[float, Mapping[str, float]]


@dataclass(frozen=True, eq=False)
class CenteredLayout(Layout):
    """A layout whose natural parameters are linear in those of its matrices.

    Parameters
    ----------
    turn, move : (n, n), (n,)
        reported = turn free + move.
    """

    turn: Array
    move: Array

    def natural(self, theta: Array) -> Array:
        """Return the reported parameters in the order of :attr:`names`."""
        return np.asarray(self.turn @ super().natural(theta) + self.move)

    def jacobian(self, theta: Array) -> Array:
        """Return d reported / d theta, (len(names), n_free)."""
        return np.asarray(self.turn @ super().jacobian(theta))

    def chain(self, slopes: Array) -> Array:
        """Return slopes by the reported parameters, given those by the searched ones, axis 0."""
        return np.asarray(np.linalg.solve(self.turn.T, slopes), float)

    def unflatten(self, natural: Array) -> Matrices:
        """Return every family's array from the reported parameters in their order."""
        return super().unflatten(np.asarray(np.linalg.solve(self.turn, natural - self.move), float))


def centered_layout(layout: Layout, shifts: Mapping[str, Shift]) -> CenteredLayout | None:
    """Return the layout that reports parameters of scores before a level was taken out.

    Parameters
    ----------
    layout : Layout
        Of scores around the level.
    shifts : dict
        Parameter -> (constant, {other parameter: weight}) to be added to it, without groups: a
        parameter of a group goes with others of that group, or with shared ones.

    Returns
    -------
    CenteredLayout or None
        None where a shared parameter goes with others that differ between groups: no one shift.
    """
    at = {name: i for i, name in enumerate(layout.names)}
    turn, move = np.eye(len(at)), np.zeros(len(at))
    for name, row in at.items():
        own, bar, group = name.partition("|")
        constant, weights = shifts.get(own, (0.0, {}))
        move[row] = constant
        for other, weight in weights.items():
            column = at.get(f"{other}{bar}{group}", at.get(other))
            if column is None:
                return None
            turn[row, column] = weight
    return CenteredLayout(layout.blocks, turn, move)
