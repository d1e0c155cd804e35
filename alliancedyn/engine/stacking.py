"""The joint covariance of estimates that were computed equation by equation from the same clients.

With psi_a (n, q_a) each client's first-order share in the estimates of equation a (estimates minus
truth is about psi_a' 1), and V_a (q_a, q_a) the covariance that the equation itself gives them,

    C = B R B',   R_ab = psi_a' psi_b,   B = blockdiag((V_a R_aa^-1)^(1/2)).

B is the same operation for any linear functions of the estimates, so that neither unit nor zero of
a scale matters. Diagonal blocks of C are the V_a; what lies between them is correlated as the
clients' shares are; and C cannot be indefinite. Where V_a is itself the sum of squared shares, C is
the sandwich.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.delta import Freedom
from alliancedyn.engine.maximise import outer_products

Array = NDArray[np.float64]

_NOTHING = 1e-12  # eigenvalue, relative to the largest, of a direction in which nothing was shared


def joint_covariance(
    covariances: Sequence[Array],
    shares: Sequence[Array],
    clusters: NDArray[np.int64] | None = None,
) -> Array:
    """Return the covariance of all estimates together.

    Parameters
    ----------
    covariances : sequence of (q_a, q_a)
        What each equation says of its own estimates.
    shares : sequence of (n, q_a)
        Every client's first-order share in them, the same n clients in the same order.
    clusters : (n,) int, optional
        Codes of the clusters within which clients are not independent.

    Returns
    -------
    array (sum q_a, sum q_a)
    """
    R = outer_products(np.concatenate(shares, axis=1), clusters)
    ends = np.cumsum([len(V) for V in covariances])
    B = np.zeros_like(R)
    for V, end in zip(covariances, ends, strict=True):
        own = slice(end - len(V), end)
        B[own, own] = _matching(V, R[own, own])
    C = B @ R @ B.T
    for V, end in zip(covariances, ends, strict=True):  # to the last digit
        C[end - len(V) : end, end - len(V) : end] = V
    return np.asarray(C)


def _matching(V: Array, R: Array) -> Array:
    """Return B = (V R^-1)^(1/2), with B R B' = V, where R says something.

    With R = L L', B = L (L^-1 V L^-T)^(1/2) L^-1.
    """
    d = np.sqrt(np.where(np.diag(R) > 0.0, np.diag(R), 1.0))
    values, axes = np.linalg.eigh(R / d / d[:, None])
    keep = values > _NOTHING * max(float(values.max(initial=0.0)), 0.0)
    size = np.sqrt(values[keep])
    L, back = d[:, None] * axes[:, keep] * size, (axes[:, keep] / size).T / d
    middle = back @ V @ back.T
    roots, turn = np.linalg.eigh((middle + middle.T) / 2.0)
    return np.asarray(L @ (turn * np.sqrt(np.maximum(roots, 0.0))) @ turn.T @ back)


@dataclass(frozen=True)
class StackedFreedom:
    """Degrees of freedom of contrasts that may reach over several equations.

    Parameters
    ----------
    parts : tuple of (int, int, Freedom or None)
        First and one past the last place of an equation's estimates, and the degrees of freedom
        of contrasts among them; None = infinite.
    """

    parts: tuple[tuple[int, int, Freedom | None], ...]

    def of(self, contrasts: Array, cov: Array) -> Array:
        """Return the degrees of freedom (m,) of contrasts (m, n): of several parts the fewest."""
        fewest = np.full(len(contrasts), np.inf)
        for start, stop, freedom in self.parts:
            own = contrasts[:, start:stop]
            asked = np.any(own != 0.0, axis=1)
            if freedom is not None and asked.any():
                found = freedom.of(own[asked], cov[start:stop, start:stop])
                fewest[asked] = np.fmin(fewest[asked], found)
        return fewest
