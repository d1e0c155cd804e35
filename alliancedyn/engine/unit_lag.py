"""The discretisation at a single gap as plain array algebra, so that complex steps go through it.

The compiled route of :mod:`alliancedyn.engine.continuous` serves thousands of gaps; this one
serves what is reported, with leading axes and complex numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

SHORT = 0.5  # largest ||A t|| at which the power series is summed
TERMS = 20  # the first term left out is below 1e-17 of the sum


def at_gap(A: Any, Q: Any, gap: float = 1.0) -> tuple[Any, Any]:
    """Return phi = expm(A h) and psi = int_0^h expm(A s) Q expm(A s)' ds at one gap h.

    A power series at h / 2^s and s doublings, psi <- psi + phi psi phi', phi <- phi^2.

    Parameters
    ----------
    A, Q : array (..., d, d)
        Drift and diffusion covariance, per unit of time; leading axes broadcast, complex numbers
        go through without conjugation.
    gap : float
        Units of time, >= 0.

    Returns
    -------
    phi, psi : array (..., d, d)
        psi is made symmetric, so that its derivatives by Q are symmetric entry by entry.
        NaN throughout where A or Q is not finite.
    """
    A, Q = np.broadcast_arrays(np.asarray(A), np.asarray(Q))
    if not (np.isfinite(A).all() and np.isfinite(Q).all()):
        unknown = np.full(A.shape, np.nan)
        return unknown, unknown.copy()
    size = gap * float(np.abs(A.real).sum(axis=-1).max(initial=0.0))
    doublings = max(0, math.frexp(size / SHORT)[1])
    t = gap / 2.0**doublings
    across = A.swapaxes(-1, -2)
    power, spread = np.eye(A.shape[-1]) + 0.0 * A, t * Q
    phi, psi = power, spread
    for k in range(1, TERMS + 1):
        power = (t / k) * (A @ power)
        spread = (t / (k + 1)) * (A @ spread + spread @ across)
        phi, psi = phi + power, psi + spread
    for _ in range(doublings):
        psi = psi + phi @ psi @ phi.swapaxes(-1, -2)
        phi = phi @ phi
    return phi, 0.5 * (psi + psi.swapaxes(-1, -2))
