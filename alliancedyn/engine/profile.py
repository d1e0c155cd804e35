"""Profile likelihood: how far a quantity can move before the data object.

For a function psi of the parameters, l_p(c) is the highest log-likelihood among parameters with
psi = c. The interval holds every c with ::

    2 (l_max - l_p(c)) <= reach^2,

reach being the normal quantile 1.96 for 95 %. Nothing is assumed about the shape of the
likelihood, and the interval of a function of psi is that function of the interval.

Two loops: the outer one finds c where the signed root r(c) = sqrt(2 (l_max - l_p(c))) equals
reach. It is nearly a straight line, and its slope is known from the Lagrange multiplier, so that
Newton steps, kept inside a bracket, need two or three rounds. The inner one holds psi = c by
sequential quadratic programming, with the information at the maximum as its first metric,
improved by every score that it sees, and starts where the last round ended.

References
----------
Venzon, D. J., & Moolgavkar, S. H. (1988). A method for computing profile-likelihood-based
confidence intervals. Journal of the Royal Statistical Society C, 37, 87-94.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, nan, sqrt

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.ascent import Curve, Point, climb, without
from alliancedyn.engine.likelihood import Likelihood
from alliancedyn.engine.system import Layout
from alliancedyn.errors import ConvergenceError

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Params = Mapping[str, float]
Function = Callable[[Params], float]

ENOUGH = 1e-4  # |r - reach| from which one more Newton step is exact
ROUNDS = 60
NEWTON = 20  # rounds after which a bracket is only halved
FARTHEST = 1e3  # multiples of the normal interval beyond which there is no limit
NARROW = 1e-3  # standard errors to which the edge of what is possible is found
HIGHER = 1e-5  # log-likelihood by which a constrained maximum may exceed the maximum by rounding
FLATTER = 0.3  # of a gradient at the edge of what is possible, relative to the maximum
STEP = float(np.finfo(float).eps ** (1 / 3))
NUDGE = 0.05  # standard deviations: leaves a variance of zero, where the score vanishes

NO_LIMIT = "the log-likelihood never falls far enough: the data set no limit on this side"
EDGE = "no parameters of the model lead beyond this value"
LOST = (
    "no maximum was found beyond {:.4g}: a variance may vanish and leave the quantity undetermined"
)
AT_ZERO = "a variance cannot be negative, and the data are compatible with zero"


@dataclass(frozen=True)
class Limit:
    """An end of an interval, and why the likelihood does not end there, where it does not."""

    value: float
    reason: str | None = None


@dataclass(frozen=True)
class Profile:
    """What can be asked about one quantity.

    Parameters
    ----------
    likelihood : Likelihood
    curve : Curve
        The quantity psi.
    top : Point
        The maximum of the likelihood.
    floor : Point or None
        The maximum with psi at its smallest possible value, where there is one.
    """

    likelihood: Likelihood
    curve: Curve
    top: Point
    floor: Point | None = None

    @cached_property
    def sd(self) -> float:
        """Standard error of psi by the metric at the maximum."""
        gradient = self.off_zero(self.top).gradient
        return sqrt(max(float(gradient @ self.top.metric @ gradient), 0.0))

    def hold(self, value: float, near: Point | None = None) -> Point | None:
        """Maximize with psi = value, from a point near to that; None if there is no such point."""
        start = self.top if near is None else near
        found = climb(self.likelihood, self.off_zero(start), self.curve, value)
        if found is None and start is not self.top:
            return self.hold(value)
        return found

    def off_zero(self, point: Point) -> Point:
        """Leave variances of zero, where by symmetry neither score nor gradient point anywhere."""
        zero = self._roots[np.abs(point.theta[self._roots]) < NUDGE / 10.0]
        if not len(zero):
            return point
        theta = point.theta.copy()
        theta[zero] = NUDGE
        return Point.at(self.likelihood, theta, self.top.metric, self.curve)

    def root(self, point: Point) -> float:
        """Return r, the root of twice the log-likelihood lost.

        Raises
        ------
        ConvergenceError
            If nothing is lost but something gained.
        """
        lost = self.top.loglik - point.loglik
        if lost < -HIGHER:
            raise ConvergenceError(
                f"The profile found a log-likelihood {-lost:.2g} higher than that of the fit, "
                "which is therefore not at the highest maximum. Fit again with more starting "
                "values (starts=)."
            )
        return sqrt(max(2.0 * lost, 0.0))

    @cached_property
    def _roots(self) -> Index:
        return roots(self.likelihood.layout)


def limit(profile: Profile, side: int, reach: float) -> tuple[Limit, Point]:
    """Find one end of the interval: the value at which r = reach.

    Parameters
    ----------
    profile : Profile
    side : {-1, 1}
        Lower or upper.
    reach : float
        Root of the quantile: 1.96 for 95 %.

    Returns
    -------
    Limit
        The end.
    Point
        The maximum there, or the last one inside the interval.

    Raises
    ------
    ConvergenceError
        If there are parameters with a higher log-likelihood than at the maximum.
    """
    top, sd = profile.top, profile.sd
    floor = profile.floor if side < 0 else None
    if floor is not None and (
        profile.root(floor) <= reach or top.value - floor.value < NARROW * sd
    ):
        return Limit(floor.value, AT_ZERO), floor
    search = _Search(inner=top, outer=None if floor is None else floor.value, impossible=False)
    aim = search.inside(top.value + side * reach * sd)
    last = top
    for turn in range(ROUNDS):
        if turn >= NEWTON and search.outer is not None:
            aim = search.middle
        found = profile.hold(aim, last)
        if found is None:
            search = replace(search, outer=aim, impossible=True)
            last, aim = search.inner, search.middle
        else:
            root = profile.root(found)
            rise = -side * found.slope / max(root, 1e-300)  # of r, outward
            if abs(root - reach) < ENOUGH and rise > 0.0:
                return Limit(found.value + side * (reach - root) / rise), found
            search = search.narrowed(found, root < reach)
            ahead = (reach - root) / rise if rise > 0.0 else inf
            ahead = min(ahead, 3.0 * abs(found.value - top.value))
            last, aim = found, search.inside(found.value + side * ahead)
        if search.outer is not None and abs(search.outer - search.inner.value) < NARROW * sd:
            break
        if search.outer is None and abs(search.inner.value - top.value) > FARTHEST * reach * sd:
            return Limit(side * inf, NO_LIMIT), search.inner
    return _edge(profile, search, side), search.inner


def _edge(profile: Profile, search: _Search, side: int) -> Limit:
    """Judge a search that ended in a narrow bracket: an edge of what is possible, or a loss.

    At the largest possible value of a smooth function its gradient vanishes.
    """
    inner = search.inner
    if not search.impossible:
        return Limit(inner.value)
    gradient = profile.off_zero(inner).gradient
    sd = sqrt(max(float(gradient @ profile.top.metric @ gradient), 0.0))
    if sd < FLATTER * profile.sd:
        return Limit(inner.value, EDGE)
    return Limit(side * inf, LOST.format(inner.value))


@dataclass(frozen=True)
class _Search:
    """The bracket of an end: ``inner`` belongs to the interval, ``outer`` does not."""

    inner: Point
    outer: float | None
    impossible: bool  # no parameters were found at the outer value

    @property
    def middle(self) -> float:
        return (self.inner.value + (self.outer or 0.0)) / 2.0

    def inside(self, aim: float) -> float:
        """Return an aim strictly inside the bracket; half way where it is not."""
        if self.outer is None:
            return aim
        low, high = sorted((self.inner.value, self.outer))
        return aim if low < aim < high else self.middle

    def narrowed(self, found: Point, belongs: bool) -> _Search:
        if belongs:
            return replace(self, inner=found)
        return replace(self, outer=found.value, impossible=False)


def roots(layout: Layout) -> Index:
    """Return the elements of theta whose square is a variance, left over or whole."""
    places = []
    for block, cut in zip(layout.blocks, layout.slices.values(), strict=True):
        at = np.arange(cut.start, cut.stop).reshape(block.shape[0], -1)
        if block.kind == "variance":
            places.append(at.ravel())
        elif block.kind == "covariance":
            rows, columns = np.tril_indices(block.shape[-1])
            places.append(at[:, rows == columns].ravel())
    return np.concatenate([np.empty(0, np.int64), *places])


@dataclass(frozen=True)
class _Factors:
    """A variance or covariance as ``unit`` times the product of two rows of L."""

    first: Index
    second: Index
    unit: float

    @property
    def is_variance(self) -> bool:
        return bool(self.first[0] == self.second[0])

    def length(self) -> Curve:
        """Return the root of a variance, score points."""
        row, unit = self.first, sqrt(self.unit)

        def gradient(theta: Array) -> Array:
            out = np.zeros_like(theta)
            out[row[-1]] = unit  # at zero
            if (length := float(np.linalg.norm(theta[row]))) > 0.0:
                out[row] = unit * theta[row] / length
            return out

        return Curve(lambda theta: unit * float(np.linalg.norm(theta[row])), gradient)

    def product(self) -> Curve:
        """Return a covariance, squared score points."""

        def gradient(theta: Array) -> Array:
            out = np.zeros_like(theta)
            out[self.first] = self.unit * theta[self.second]
            out[self.second] = self.unit * theta[self.first]
            return out

        return Curve(lambda at: self.unit * float(at[self.first] @ at[self.second]), gradient)


def _factors(layout: Layout, name: str) -> _Factors | None:
    """Return a free variance or covariance as a product; None if the parameter is none."""
    if name not in layout.names:
        return None
    at = layout.names.index(name)
    block, cut = next(
        (block, cut)
        for block, cut in zip(layout.blocks, layout.slices.values(), strict=True)
        if cut.start <= at < cut.stop
    )
    slot, place = divmod(at - cut.start, block.size // block.shape[0])
    if block.kind == "variance":
        return _Factors(np.array([at]), np.array([at]), block.scale[place] ** 2)
    if block.kind != "covariance":
        return None
    start = cut.start + slot * (block.size // block.shape[0])
    i, j = (int(index[place]) for index in np.triu_indices(block.shape[-1]))
    first, second = (start + row * (row + 1) // 2 + np.arange(i + 1) for row in (i, j))
    return _Factors(first, second, block.scale[i] * block.scale[j])


def is_variance(layout: Layout, name: str) -> bool:
    """Tell whether a parameter is a free variance."""
    factors = _factors(layout, name)
    return factors is not None and factors.is_variance


def profile_parameter(likelihood: Likelihood, name: str, theta: Array, metric: Array) -> Profile:
    """Profile one reported parameter; of a variance its square root.

    Parameters
    ----------
    likelihood : Likelihood
    name : str
        Canonical name.
    theta : (n,)
        The maximum.
    metric : (n, n)
        Inverse information there.
    """
    factors = _factors(likelihood.layout, name)
    if factors is not None and factors.is_variance:
        curve = factors.length()
        top = Point.at(likelihood, theta, metric, curve)
        return Profile(likelihood, curve, top, _at_zero(likelihood, top, factors.first))
    curve = factors.product() if factors is not None else _reported(likelihood, name)
    return Profile(likelihood, curve, Point.at(likelihood, theta, metric, curve))


def profile_function(
    likelihood: Likelihood, function: Function, theta: Array, metric: Array
) -> Profile:
    """Profile a smooth function of the reported parameters, given by canonical name."""

    def value(at: Array) -> float:
        return _or_nan(function, likelihood, at)

    def gradient(at: Array) -> Array:
        by = np.array(differences(function, likelihood.to_params(at)))
        return by @ likelihood.jacobian(at)

    curve = Curve(value, gradient)
    return Profile(likelihood, curve, Point.at(likelihood, theta, metric, curve))


def _reported(likelihood: Likelihood, name: str) -> Curve:
    """Return a free number, or a parameter that follows from others."""
    layout = likelihood.layout
    if name in layout.names:  # theta itself, but for the unit
        row, nothing = layout.names.index(name), np.zeros(layout.n_free)
        unit, zero = layout.jacobian(nothing)[row], float(layout.natural(nothing)[row])
        return Curve(lambda theta: float(unit @ theta) + zero, lambda theta: unit)
    row = list(likelihood.to_params(likelihood.start)).index(name)
    return Curve(
        lambda theta: _or_nan(lambda p: p[name], likelihood, theta),
        lambda theta: np.asarray(likelihood.jacobian(theta)[row]),
    )


def _or_nan(function: Function, likelihood: Likelihood, theta: Array) -> float:
    """Return a function of the parameters; NaN where they or it do not exist."""
    try:
        with np.errstate(all="ignore"):
            return float(function(likelihood.to_params(theta)))
    except (ArithmeticError, ValueError):
        return nan


def _at_zero(likelihood: Likelihood, top: Point, row: Index) -> Point:
    """Return the maximum without the variance; log-likelihood -inf if there is none."""
    held = np.zeros(len(top.theta), bool)
    held[row] = True
    theta = np.where(held, 0.0, top.theta)
    start = Point.at(likelihood, theta, without(top.metric, held))
    found = climb(likelihood, start) if np.isfinite(start.loglik) else None
    if found is None:
        return replace(start, loglik=-inf, value=0.0)
    return found


def differences(function: Function, params: dict[str, float]) -> list[float]:
    """Return the derivatives of a function by every parameter; 0 by those that it does not read."""
    asked = _Asked(params)
    function(asked)
    found = []
    for name, value in params.items():
        if name not in asked.names:
            found.append(0.0)
            continue
        step = STEP * max(abs(value), 1e-3)
        above, below = ({**params, name: value + sign * step} for sign in (1.0, -1.0))
        found.append((float(function(above)) - float(function(below))) / (2.0 * step))
    return found


class _Asked(dict[str, float]):
    """A mapping that remembers what was read."""

    def __init__(self, values: dict[str, float]) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> float:
        self.names.add(name)
        return super().__getitem__(name)
