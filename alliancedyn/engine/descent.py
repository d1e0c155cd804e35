"""Minimize a smooth function of a few parameters whose exact gradient is at hand.

BFGS comes close; Newton steps, with the curvature by differences of the gradient, bring the rest
and say what is left to gain: that promise is the verdict, not the optimizer's own flag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Slope = Callable[[Array], tuple[float, Array]]

CONVERGED = 1e-8  # deviance that the next Newton step promises to take away
NEWTON_STEPS = 12
DIFFERENCE = 1e-5
# The root of a variance ratio below this is tried at its bound of zero.
NEAR_ZERO = 3e-3


@dataclass(frozen=True)
class Lowest:
    """Where a search stopped.

    Attributes
    ----------
    x, value, gradient : array (n,), float, array (n,)
        The point, the function there and its gradient.
    left : float
        What the next Newton step promises to take away.
    steps : int
        Steps taken.
    """

    x: Array
    value: float
    gradient: Array
    left: float
    steps: int

    @property
    def converged(self) -> bool:
        """Whether next to nothing is left."""
        return self.left < CONVERGED


def minimise(function: Slope, start: Array, close: bool = False) -> Lowest:
    """Search from ``start``; parameters should be of order one.

    ``close`` says that the start is near the minimum: Newton steps alone will do.
    """
    x, steps = (start, 0) if close else _approach(function, start)
    value, gradient = function(x)
    left = np.inf
    for _ in range(NEWTON_STEPS):
        step, left = newton_step(function, x, gradient)
        if left < 1e-4 * CONVERGED:
            break
        moved = _shorten(function, x, step, value)
        if moved is None:
            break
        x, value, gradient = moved
        steps += 1
    return Lowest(x, value, gradient, left, steps)


def _approach(function: Slope, start: Array) -> tuple[Array, int]:
    from scipy.optimize import minimize

    size = 1.0 + abs(function(start)[0])
    found = minimize(
        lambda x: tuple(part / size for part in function(x)),
        start,
        jac=True,
        method="BFGS",
        options={"gtol": 1e-7, "maxiter": 500},
    )
    return np.asarray(found.x), int(found.nit)


def settle_roots(function: Slope, lowest: Lowest, places: Iterable[int]) -> Lowest:
    """Put roots of variances that a search leaves next to zero onto zero, or search on from above.

    In the root of a variance zero is always a stationary point: the best place to be, or a saddle.
    """
    for place in places:
        if abs(lowest.x[place]) > NEAR_ZERO:
            continue
        x, above = lowest.x.copy(), lowest.x.copy()
        x[place], above[place] = 0.0, 10.0 * NEAR_ZERO
        if function(above)[0] < lowest.value:
            lowest = minimise(function, above)
            continue
        value, gradient = function(x)
        if value <= lowest.value + 1e-12 * abs(lowest.value):
            lowest = replace(lowest, x=x, value=value, gradient=gradient)
    return lowest


def curvature(function: Slope, x: Array, step: float = DIFFERENCE) -> Array:
    """Return the Hessian by central differences of the gradient."""
    rows = []
    for unit in np.eye(len(x)):
        h = step * max(1.0, abs(float(unit @ x)))
        rows.append((function(x + h * unit)[1] - function(x - h * unit)[1]) / (2.0 * h))
    H = np.array(rows)
    return 0.5 * (H + H.T)


def newton_step(function: Slope, x: Array, gradient: Array) -> tuple[Array, float]:
    """Return a descent step and what it promises; curvature enters by its modulus."""
    roots, axes = np.linalg.eigh(curvature(function, x))
    firm = np.maximum(np.abs(roots), 1e-10 * max(1.0, float(np.abs(roots).max())))
    along = axes.T @ gradient
    return -axes @ (along / firm), 0.5 * float((along**2 / firm).sum())


def _shorten(
    function: Slope, x: Array, step: Array, value: float
) -> tuple[Array, float, Array] | None:
    rounding = 1e-13 * abs(value)
    for _ in range(30):
        reached, slope = function(x + step)
        if reached <= value + rounding:
            return x + step, reached, slope
        step = 0.5 * step
    return None
