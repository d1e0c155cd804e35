"""What results ask of a two-level dynamic model: one system for all clients, or one for each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from alliancedyn.engine import names
from alliancedyn.engine.dsem import DsemData, DsemShape
from alliancedyn.engine.dsem_mixture import ClientMixture
from alliancedyn.engine.dsem_world import first_inputs, system
from alliancedyn.errors import SpecificationError
from alliancedyn.models.dsem_task import raw_data, shape_of
from alliancedyn.results import ClientGroup, Observed
from alliancedyn.results.model import Array, Params

if TYPE_CHECKING:
    from alliancedyn.models.dsem import DSEM


def groups_of(
    spec: DSEM, params: Params, data: Observed, variables: tuple[str, ...]
) -> list[ClientGroup]:
    """Return the system of all clients, where only intercepts and slopes differ between them.

    Raises
    ------
    SpecificationError
        If lagged effects or innovations are random, or scores are not normal as they stand.
    """
    if not spec.one_system or spec.innovations != "normal":
        raise SpecificationError(
            "Draws of scores and standardized tables need one system for all clients (and states "
            "and forecasts normal innovations); here lagged effects differ between clients, or "
            'innovations are not normal. Use DSEM(random=("intercept",)), or effect(), table() '
            "and client_effects()."
        )
    _refuse_scales(spec, data)
    shape, values, raw = _at(spec, params, data, variables)
    rows = np.arange(len(data.Y))
    return [ClientGroup(rows, system(shape, values, raw), first_inputs(raw), tuple(range(raw.k)))]


def mixture_of(
    spec: DSEM, params: Params, data: Observed, variables: tuple[str, ...]
) -> ClientMixture | None:
    """Return clients with processes of their own; None where there is one system for all.

    Raises
    ------
    SpecificationError
        If the scores of a client are not normal given the client's effects, or the first session
        varies as a client's own innovations.
    """
    if spec.one_system or spec.innovations != "normal":
        return None
    _refuse_scales(spec, data)
    if spec.initial == "innovation" and {"same", "innovation"} & set(spec.random):
        raise SpecificationError(
            "States and forecasts need one covariance of the first session for all clients, and "
            'here it varies as a client\'s own innovations. Use initial="free", or effect(), '
            "table() and client_effects()."
        )
    return ClientMixture(*_at(spec, params, data, variables))


def _refuse_scales(spec: DSEM, data: Observed) -> None:
    if (spec.known_bounds or spec.ordinal) and len(data.Y):
        raise SpecificationError(
            "States and forecasts take scores as they stand, and here those at bounds or in "
            "categories stand for others. Use effect(), table() and client_effects()."
        )


def _at(
    spec: DSEM, params: Params, data: Observed, variables: tuple[str, ...]
) -> tuple[DsemShape, Array, DsemData]:
    """Return shape, parameters and scores, all in raw units."""
    shape = shape_of(spec, variables, data.sessions)
    values = np.array([params[name] for name in shape.parameter_names()])
    raw = raw_data(spec, data)
    if spec.measurement_var == "free":
        errors = [params[names.label("measurement_var", v)] for v in variables]
        raw = replace(raw, measurement_var=np.array(errors))
    return shape, values, raw
