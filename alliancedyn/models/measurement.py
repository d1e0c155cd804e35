"""From series to scores: several items per series, measurement error, what covariates do.

Series eta_t are what a family speaks about. Items measure them::

    y_jt = intercept_jt + loading_jt eta_t + e_jt,   e_jt ~ N(0, measurement_var_jt)

A series with one item is its own score (intercept 0, loading 1), with measurement error only
where it is asked for. The first item of a series with several has loading 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names
from alliancedyn.engine.assembly import block_diagonal, join
from alliancedyn.engine.kalman import StateSpace
from alliancedyn.engine.starting import ItemMoments
from alliancedyn.engine.system import (
    EVERY,
    Block,
    Layout,
    Matrices,
    Slots,
    matrix,
    ratios,
    variances,
    vector,
)
from alliancedyn.models.design import Design
from alliancedyn.models.options import Options

Array = NDArray[np.float64]
Error = Mapping[str, float] | str | None


def measurement_blocks(spec: Options, design: Design) -> list[Block]:
    """Return the parameters of the measurement part."""
    blocks = []
    sessions: Slots = design.sessions
    if others := _scaled_items(design):
        scale = [_loading_unit(item, design) for item in others]
        slots = sessions if spec.loadings == "free" else EVERY
        blocks.append(ratios("loading", others, scale, slots))
    if items := design.measured_items:
        slots = sessions if spec.item_intercepts == "free" else EVERY
        blocks.append(vector("intercept", items, design.units, slots))
    noisy, slots = _noisy(spec, design)
    if noisy:
        blocks.append(variances("measurement_var", noisy, design.units, slots))
    return [replace(block, family=_OWN_KEY.get(block.family, block.family)) for block in blocks]


# A growth model has intercepts of its own; those of items are kept apart from them.
_OWN_KEY = {"intercept": "item_intercept"}


def _scaled_items(design: Design) -> tuple[str, ...]:
    """Items whose loading is estimated."""
    return tuple(item for item in design.measured_items if item not in design.reference_items)


def _loading_unit(item: str, design: Design) -> float:
    """Return the unit of a loading: points of the item per point of its series."""
    series = design.variables[design.series_of[design.items.index(item)]]
    return design.units[item] / design.units[series]


def _noisy(spec: Options, design: Design) -> tuple[tuple[str, ...], Slots]:
    """Return the items whose error variance is estimated, and by which sessions."""
    given = spec.measurement_var
    if isinstance(given, Mapping):
        return tuple(item for item in design.measured_items if item not in given), design.sessions
    if given == "free" and not design.measured:
        return design.items, EVERY
    if given == "equal":
        return design.measured_items or design.items, EVERY
    if given == "free":
        return design.items, design.sessions
    return design.measured_items, design.sessions


def observe(spec: Options, system: StateSpace, matrices: Matrices, design: Design) -> StateSpace:
    """Turn a system of series into one of items with error.

    Parameters
    ----------
    system : StateSpace
        Scores are the k series, without noise.
    matrices : dict of arrays
        Those of :func:`measurement_blocks` among them.
    """
    noise, noise_at = _noise(spec, matrices, design)
    system = replace(system, noise=noise, noise_at=noise_at)
    if not design.measured:
        return system
    loading, series = _item_loadings(matrices, design), list(design.series_of)
    load, load_at = system.load, design.at_every(1)
    if load.shape[-3] > 1 or loading.shape[-2] > 1:
        load, load_at = load[..., system.load_at, :, :], design.at_every(2)
    means = system.mean[..., system.mean_at, :][..., series] * loading
    return replace(
        system,
        mean=_item_means(matrices, means, design),
        mean_at=design.at_every(2),
        load=load[..., series, :] * loading[..., None],
        load_at=load_at,
        load_index=system.load_index[series],
    )


def _item_loadings(matrices: Matrices, design: Design) -> Array:
    """Return the loadings of all items by slot, (..., S, p); 1 unless estimated."""
    if not (others := _scaled_items(design)):
        return np.ones((1, len(design.items)))
    given = matrices["loading"]
    out = np.ones((*given.shape[:-1], len(design.items)), given.dtype)
    out[..., [design.items.index(item) for item in others]] = given
    return out


def _item_means(matrices: Matrices, means: Array, design: Design) -> Array:
    """Add the intercepts of measured items to the means that their series give them."""
    given = matrices["item_intercept"]
    full = np.zeros((*given.shape[:-1], len(design.items)), given.dtype)
    full[..., [design.items.index(item) for item in design.measured_items]] = given
    return means + full


def _noise(spec: Options, matrices: Matrices, design: Design) -> tuple[Array, NDArray[np.int64]]:
    """Error variances by slot, (..., S, p), and the slot of each session."""
    fixed = np.zeros(len(design.items))
    if isinstance(spec.measurement_var, Mapping):
        for item, value in spec.measurement_var.items():
            fixed[design.items.index(item)] = value
    noisy, _ = _noisy(spec, design)
    if not noisy:
        return fixed[None], design.at_every(1)
    given = matrices["measurement_var"]
    out = np.zeros((*given.shape[:-1], len(design.items)), given.dtype) + fixed
    out[..., [design.items.index(item) for item in noisy]] = given
    return out, design.at_every(given.shape[-2])


def start_measurement(layout: Layout, items: ItemMoments, design: Design) -> Matrices:
    """Return starting values of the measurement part."""
    start: Matrices = {}
    for block in layout.blocks:
        own = [names.parse(name)[1][0] for name in block.names[: block.shape[-1]]]
        if block.family not in ("loading", "item_intercept", "measurement_var"):
            continue
        at = [design.items.index(item) for item in own]
        if block.family == "loading":
            start["loading"] = items.loading[at][None]
        elif block.family == "measurement_var":
            start["measurement_var"] = items.error[at][None]
        else:
            free = block.shape[0] > 1
            start["item_intercept"] = items.mean[:, at] if free else items.mean[:1, at]
    return start


def covariate_blocks(spec: Options, design: Design, static: tuple[str, ...]) -> list[Block]:
    """Return the effects of covariates on the stable parts, and of inputs on the series."""
    units = {**design.units, **{name: design.sd.get(name, 1.0) for name in _known(spec)}}
    blocks = []
    if spec.covariates:
        rows = static or design.variables
        blocks.append(matrix("between", rows, spec.covariates, units, linear=True))
    if spec.time_varying:
        v = design.variables
        blocks.append(matrix("input", v, spec.time_varying, units, linear=True))
    return blocks


def _known(spec: Options) -> tuple[str, ...]:
    return (*spec.covariates, *spec.time_varying)


def push(spec: Options, system: StateSpace, matrices: Matrices, design: Design) -> StateSpace:
    """Add what known inputs do: covariates to the stable parts, inputs to the series.

    A model without stable parts gets parts without variance, which carry the covariates.
    """
    if not _known(spec):
        return system
    k, d, m = design.k, system.phi.shape[-1], system.initial_cov.shape[-1]
    columns = []
    if spec.covariates:
        effects = matrices["between"][..., 0, :, :]
        if m == d:
            system, m = _with_constants(system, k), m + k
        columns.append(join([np.zeros((d, effects.shape[-1])), effects], -2))
    if spec.time_varying:
        effects = matrices["input"][..., 0, :, :]
        columns.append(join([effects, np.zeros((m - k, effects.shape[-1]))], -2))
    return replace(system, drive=join(columns, -1))


def _with_constants(system: StateSpace, k: int) -> StateSpace:
    """Add one constant state without variance to every series."""
    m = system.initial_cov.shape[-1]
    index = np.column_stack([system.load_index, m + np.arange(k)])
    ones = np.ones((*system.load.shape[:-1], 1))
    return replace(
        system,
        initial_cov=block_diagonal(system.initial_cov, np.zeros((k, k))),
        load_index=index,
        load=np.concatenate([system.load, ones], axis=-1),
    )
