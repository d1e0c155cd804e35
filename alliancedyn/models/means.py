"""Means of the series: one for every session, or one for all.

The mean of a series with several items is counted from the first session, because the intercepts
of its items already hold the level; if they are free over sessions they hold its whole course.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names
from alliancedyn.engine.starting import Moments
from alliancedyn.engine.system import EVERY, Block, Matrices, vector
from alliancedyn.models.design import Design
from alliancedyn.models.options import Options

Array = NDArray[np.float64]


def mean_blocks(spec: Options, design: Design) -> list[Block]:
    """Return the means, none if the items hold them all."""
    if not design.measured:
        slots = design.sessions if spec.means == "free" else EVERY
        return [vector("mean", design.variables, design.units, slots)]
    cells = _cells(spec, design)
    if not cells:
        return []
    each = spec.means == "free"
    labels = tuple(
        names.label("mean", design.variables[j], session=design.sessions[t] if each else None)
        for t, j in cells
    )
    scale = tuple(design.units[design.variables[j]] for _, j in cells)
    return [Block("mean", "plain", labels, (1, len(cells)), scale, linear=True)]


def _cells(spec: Options, design: Design) -> list[tuple[int, int]]:
    """Sessions and series with a mean to estimate, where some series have several items."""
    sessions = range(design.n_sessions) if spec.means == "free" else range(1)
    anchored = [v in design.measured for v in design.variables]
    held = spec.item_intercepts == "free"
    return [
        (t, j) for t in sessions for j in range(design.k) if not (anchored[j] and (held or t == 0))
    ]


def session_means(spec: Options, matrices: Matrices, design: Design) -> Array:
    """Return the means by slot, (..., S, k)."""
    if not design.measured:
        return matrices["mean"]
    slots = design.n_sessions if spec.means == "free" else 1
    if not (cells := _cells(spec, design)):
        return np.zeros((slots, design.k))
    given = matrices["mean"][..., 0, :]
    out = np.zeros((*given.shape[:-1], slots, design.k), given.dtype)
    at, series = (list(side) for side in zip(*cells, strict=True))
    out[..., at, series] = given
    return out


def start_means(spec: Options, rough: Moments, design: Design) -> Matrices:
    """Return starting values of the means."""
    if not design.measured:
        free = spec.means == "free"
        return {"mean": rough.mean if free else rough.mean.mean(axis=0, keepdims=True)}
    cells = _cells(spec, design)
    return {"mean": np.array([[rough.mean[t, j] for t, j in cells]])} if cells else {}
