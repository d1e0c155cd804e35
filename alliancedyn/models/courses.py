"""Growth factors: their loadings over sessions, means and starting values.

Every series has an intercept and one or two slopes; the states stand series by series,
``alliance, alliance.trend, symptoms, symptoms.trend``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names
from alliancedyn.engine.assembly import block_diagonal, join
from alliancedyn.engine.centered import Shift
from alliancedyn.engine.kalman import StateSpace
from alliancedyn.engine.starting import Moments, courses
from alliancedyn.engine.system import Block, Matrices, matrix, ratios, vector
from alliancedyn.errors import SpecificationError
from alliancedyn.models.design import TREND, TREND2, Design

Array = NDArray[np.float64]


class Courses(Protocol):
    """A specification whose clients have courses."""

    @property
    def growth(self) -> str:
        """Shape of the courses."""
        ...

    @property
    def knot(self) -> int | None:
        """Session at which a piecewise course bends."""
        ...

    @property
    def anchored(self) -> int:
        """How many first sessions have a known loading where others are free."""
        ...

    @property
    def item_intercepts(self) -> str:
        """Whether items measure the same way at every session."""
        ...


def factor_names(spec: Courses, design: Design) -> tuple[str, ...]:
    """Return what the growth factors are called, series by series."""
    ends = ("", TREND, TREND2) if spec.growth == "piecewise" else ("", TREND)
    return tuple(v + end for v in design.variables for end in ends)


def free_sessions(spec: Courses, sessions: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sessions at which the loading of a slope is estimated.

    All but the last and the first ones that are ``anchored``: two known loadings set the zero and
    the unit of the slope.
    """
    return sessions[spec.anchored : -1] if spec.growth == "free" else ()


def basis_blocks(spec: Courses, design: Design) -> list[Block]:
    """Return the free loadings of slopes."""
    if not (sessions := free_sessions(spec, design.sessions)):
        return []
    scale = [float(design.elapsed[-1])] * design.k
    return [ratios("basis", design.variables, scale, sessions)]


def growth_loadings(spec: Courses, matrices: Matrices, design: Design) -> Array:
    """Return the loadings of the factors, (..., T, k, r)."""
    elapsed = design.elapsed
    if spec.growth == "free":
        known, n = _same(elapsed, design.k), spec.anchored
        slopes = [join([known[:n], matrices["basis"], known[-1:]], -2)]
    elif spec.growth == "log":
        slopes = [_same(np.log1p(elapsed), design.k)]
    elif spec.growth == "piecewise":
        bend = _bend(spec, design)
        slopes = [_same(np.minimum(elapsed, bend), design.k)]
        slopes.append(_same(np.maximum(elapsed - bend, 0.0), design.k))
    else:
        slopes = [_same(elapsed, design.k)]
    ones = np.ones_like(slopes[0])
    return np.stack([ones, *slopes], axis=-1)


def _same(loading: Array, k: int) -> Array:
    return np.repeat(loading[:, None], k, axis=1)


def _bend(spec: Courses, design: Design) -> float:
    """Return the sessions before the course bends."""
    knot = spec.knot
    if knot is None or not design.sessions[0] < knot < design.sessions[-1]:
        raise SpecificationError(
            f"knot={knot!r} is not between the first and the last session of the model, "
            f"{design.sessions[0]} and {design.sessions[-1]}."
        )
    return float(knot - design.sessions[0])


def mean_families(spec: Courses, design: Design) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return the families of factor means: name, ending of the factor, series that have one.

    The items of a series with several hold its level at the first session, and its whole course
    if their intercepts are free.
    """
    plain = tuple(v for v in design.variables if v not in design.measured)
    moving = plain if spec.item_intercepts == "free" else design.variables
    families = [("intercept", "", plain), ("trend", TREND, moving)]
    if spec.growth == "piecewise":
        families.append(("trend2", TREND2, moving))
    return [family for family in families if family[2]]


def factor_mean_blocks(spec: Courses, design: Design) -> list[Block]:
    """Return the means of the growth factors."""
    return [
        vector(family, of, {v: design.units[v + end] for v in of})
        for family, end, of in mean_families(spec, design)
    ]


def factor_means(spec: Courses, matrices: Matrices, design: Design) -> Array:
    """Return the means of the growth factors, (..., k, r); 0 where the items hold them."""
    columns = {"": 0, TREND: 1, TREND2: 2}
    r = 3 if spec.growth == "piecewise" else 2
    given = [
        (matrices[family][..., 0, :], of, columns[end])
        for family, end, of in mean_families(spec, design)
    ]
    lead = np.broadcast_shapes(*(value.shape[:-1] for value, _, _ in given))
    out = np.zeros((*lead, design.k, r), np.result_type(float, *(v for v, _, _ in given)))
    for value, of, column in given:
        out[..., [design.variables.index(v) for v in of], column] = value
    return out


def with_factors(system: StateSpace, loads: Array, between: Array, design: Design) -> StateSpace:
    """Add growth factors to a system of deviations; ``loads`` (..., T, k, r)."""
    k, r, d = design.k, loads.shape[-1], system.phi.shape[-1]
    factors = d + np.arange(k * r).reshape(k, r)
    ones = np.ones((*loads.shape[:-1], 1))
    return replace(
        system,
        initial_cov=block_diagonal(system.initial_cov, between),
        load_index=np.column_stack([np.arange(k), factors]),
        load=np.concatenate([ones, loads], axis=-1),
        load_at=design.at_every(2),
        drive=np.zeros((d + k * r, 0)),
    )


def start_courses(spec: Courses, rough: Moments, design: Design) -> tuple[Matrices, Moments]:
    """Return starting values of factor means and covariances, and moments around the courses."""
    start: Matrices = {}
    if spec.growth == "free":
        start["basis"] = _same(design.elapsed, design.k)[spec.anchored : -1]
    loads = growth_loadings(spec, start, design)
    units = np.array([design.units[name] for name in factor_names(spec, design)])
    between, deviations = courses(rough, spread(loads), units)
    start["between_cov"] = between[None]
    course = mean_course(loads, rough.mean)
    return {**start, **start_factor_means(spec, course, design)}, deviations


def mean_course(loads: Array, mean: Array) -> Array:
    """Fit session means (T, k) by courses with loadings (T, k, r); returns (k, r)."""
    series = range(loads.shape[1])
    fitted = [np.linalg.lstsq(loads[:, j], mean[:, j], rcond=None)[0] for j in series]
    return np.stack(fitted)


def start_factor_means(spec: Courses, course: Array, design: Design) -> Matrices:
    """Return starting values of factor means, those of (k, r) that are estimated."""
    columns = {"": 0, TREND: 1, TREND2: 2}
    return {
        family: course[[design.variables.index(v) for v in of], columns[end]][None]
        for family, end, of in mean_families(spec, design)
    }


def spread(loads: Array) -> Array:
    """Lay loadings (..., T, k, r) on a series' own factors out on all, (..., T, k, k r)."""
    k, r = loads.shape[-2:]
    out = np.zeros((*loads.shape[:-1], k * r), loads.dtype)
    for j in range(k):
        out[..., j, j * r : (j + 1) * r] = loads[..., j, :]
    return out


def stack(parts: list[Array], axis: int) -> Array:
    """Stack over sessions before the trailing axes, leading axes broadcast."""
    shape = np.broadcast_shapes(*(part.shape for part in parts))
    return np.stack([np.broadcast_to(part, shape) for part in parts], axis=axis)


def carried(system: StateSpace, reached: Array, design: Design) -> StateSpace:
    """Add factors that every series may carry along; ``reached`` (..., T, k, c)."""
    k, d, c = design.k, system.phi.shape[-1], reached.shape[-1]
    ones = np.ones((*reached.shape[:-1], 1))
    everywhere = np.tile(d + np.arange(c), (k, 1))
    return replace(
        system,
        load_index=np.column_stack([np.arange(k), everywhere]),
        load=np.concatenate([ones, reached], axis=-1),
        load_at=design.at_every(2),
        drive=np.zeros((d + c, 0)),
    )


def first_with_factors(factors: tuple[str, ...], design: Design) -> Block:
    """Return the covariances of the first session's scores with the growth factors."""
    block = matrix("initial_between_cov", design.variables, factors, design.units)
    products = [design.units[v] * design.units[f] for v in design.variables for f in factors]
    return replace(block, scale=tuple(products))


def shifts_of_course(design: Design, level: Mapping[str, float]) -> dict[str, Shift]:
    """Return what the level of scores adds to an ALT's first session and intercepts.

    With y = c + y', a + phi (c + y') - c makes the intercept of y' out of a = a' + c - phi c.
    """
    found: dict[str, Shift] = {}
    for v in design.variables:
        found[names.label("mean", v, session=design.sessions[0])] = (level[v], {})
        by = {names.label("phi", v, u): -level[u] for u in design.variables}
        found[names.label("intercept", v)] = (level[v], by)
    return found


def shifts_of_change(design: Design, level: Mapping[str, float]) -> dict[str, Shift]:
    """Return what the level of scores adds to the start and the constant of latent change."""
    found: dict[str, Shift] = {}
    for v in design.variables:
        found[names.label("intercept", v)] = (level[v], {})
        by = {names.label("coupling", v, u): -level[u] for u in design.variables if u != v}
        found[names.label("trend", v)] = (0.0, {names.label("self", v): -level[v], **by})
    return found
