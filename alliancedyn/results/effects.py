"""Lagged effects, shocks and long-run effects as functions of the parameters, checked first."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.engine import var
from alliancedyn.engine.delta import Derived
from alliancedyn.engine.lagged import LaggedForm
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.results.estimate import checked_level
from alliancedyn.results.model import Params

Array = NDArray[np.float64]
Function = Callable[[Params], Array]


def position(form: LaggedForm, variable: str) -> int:
    """Return the place of a variable among those of the fit, or refuse it."""
    if variable not in form.variables:
        raise SpecificationError(
            f"{variable!r} is not a variable of this fit. Use one of {listed(form.variables)}."
        )
    return form.variables.index(variable)


def whole_number(name: str, value: Any, least: int) -> int:
    """Return ``value`` as int if it is a whole number of at least ``least``."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise SpecificationError(f"{name}={value!r}: give a whole number, {least} or more.")
    return int(value)


def chosen(name: str, value: object, options: tuple[object, ...]) -> None:
    """Refuse an option that does not exist."""
    if value not in options:
        known = " or ".join(repr(option) for option in options)
        raise SpecificationError(f"{name}={value!r} is not known. Use {known}.")


def lagged_effect(
    form: LaggedForm, source: str, target: str, session: int | None, basis: str | None
) -> Function:
    """Return phi[target,source] as a function, in within SDs if a ``basis`` for them is given."""
    i, j = position(form, target), position(form, source)
    if session is not None and session not in form.sessions[1:]:
        raise SpecificationError(
            f"No lagged effect leads into session {session!r}. "
            f"Sessions that have one: {listed(form.sessions[1:])}."
        )

    def function(p: Params) -> Array:
        phi = form.lag(p, target, source, session)
        if basis is None:
            return np.array([phi])
        sd = form.within_sd(p, basis)
        return np.array([phi * sd[j] / sd[i]])

    return function


def response(
    form: LaggedForm, shock: str, sessions: int, order: tuple[str, str] | None
) -> Function:
    """Return the path of a unit shock, flattened (sessions + 1) x k; ``order`` if structural."""
    j = position(form, shock)
    need_equal_lags(form, "impulse response")

    def function(p: Params) -> Array:
        start = np.zeros(len(form.variables))
        start[j] = 1.0
        if order is not None and shock == order[1]:
            start[position(form, order[0])] = form.time_ordered(p, *order)[1]
        return var.impulse_response(form.lags(p), start, sessions).ravel()

    return function


def long_run(form: LaggedForm, source: str, target: str, kind: str) -> Function:
    """Return the sustained or the total effect as a function."""
    i, j = position(form, target), position(form, source)
    need_equal_lags(form, "long-run effect")
    chosen("kind", kind, ("sustained", "total"))
    if kind == "sustained" and i == j:
        raise SpecificationError(
            f"{source!r} cannot be held and respond at once. Use kind='total'."
        )

    def function(p: Params) -> Array:
        Phi = form.lags(p)
        if kind == "total":
            return np.array([var.total_effect(Phi)[i, j]])
        return np.array([var.sustained_effect(Phi[i, i], Phi[i, j])])

    return function


def response_frame(derived: Derived, variables: tuple[str, ...], level: float) -> pd.DataFrame:
    """Lay the path of a shock out: rows sessions, columns (variable, estimate / lower / upper)."""
    values = np.column_stack([derived.values, derived.bounds(checked_level(level))])
    values = values.reshape(-1, 3 * len(variables))
    columns = pd.MultiIndex.from_product(
        [variables, ["estimate", "lower", "upper"]], names=["variable", "quantity"]
    )
    return pd.DataFrame(values, pd.RangeIndex(len(values), name="session"), columns)


def need_lags(form: LaggedForm, known: Container[str], model: str) -> None:
    """Refuse a within SD where lagged effects are not all in the model."""
    absent = [name for name in form.lag_names if name not in known]
    if absent:
        raise SpecificationError(
            f"{model} has no lagged effect {listed(absent)}, so there is no within SD to "
            "standardize by. Use standardized=None."
        )


def need_equal_lags(form: LaggedForm, what: str) -> None:
    """Refuse what has no meaning when every session has lags of its own."""
    if form.lag_sessions:
        raise SpecificationError(
            f"Lagged effects differ between sessions, so there is no single {what}. "
            "Fit with lags='equal'."
        )
