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
from alliancedyn.errors import SpecificationError, listed, nearest
from alliancedyn.results.estimate import checked_level
from alliancedyn.results.model import Params

Array = NDArray[np.float64]
Function = Callable[[Params], Array]


def position(form: LaggedForm, variable: str) -> int:
    """Return the place of a variable among those of the fit, or refuse it."""
    if variable not in form.variables:
        raise SpecificationError(
            f"{variable!r} is not a variable of this fit. Use one of {listed(form.variables)}."
            f"{nearest(variable, form.variables)}"
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


def leads_into(form: LaggedForm, session: int | None) -> None:
    """Refuse a session into which no lagged effect leads."""
    if session is not None and session not in form.into:
        raise SpecificationError(
            f"No lagged effect leads into session {session!r}. "
            f"Sessions that have one: {listed(form.into)}."
        )


def lagged_effect(
    form: LaggedForm,
    source: str,
    target: str,
    session: int | None,
    basis: str | None,
    lag: int = 1,
) -> Function:
    """Return the effect over one session as a function, or phi2 with ``lag=2``.

    In within SDs if a ``basis`` for them is given.
    """
    i, j = position(form, target), position(form, source)
    leads_into(form, session)
    if whole_number("lag", lag, 1) > form.order:
        raise SpecificationError(
            f"The fit has no lagged effects over {lag} sessions. Use lag=1, or fit with order=2; "
            "impulse_response() follows a shock over several sessions."
        )

    def function(p: Params) -> Array:
        if lag == 1:
            phi = form.one_session(p, target, source, session)
        else:
            phi = form.lag(p, target, source, session, lag)
        if basis is None:
            return np.array([phi])
        sd = form.within_sd(p, basis)
        return np.array([phi * sd[j] / sd[i]])

    return function


def response(
    form: LaggedForm,
    shock: str,
    sessions: int,
    order: tuple[str, str] | None,
    session: int | None = None,
) -> Function:
    """Return the path of a unit shock, flattened (sessions + 1) x k; ``order`` if structural."""
    j, k = position(form, shock), len(form.variables)
    need_equal_lags(form, "impulse response", session)

    def function(p: Params) -> Array:
        start = np.zeros(k)
        start[j] = 1.0
        if order is not None and shock == order[1]:
            start[position(form, order[0])] = form.time_ordered(p, *order, session)[1]
        A, entry = form.motion(p, session)
        return var.impulse_response(A, entry @ start, sessions)[:, :k].ravel()

    return function


def long_run(
    form: LaggedForm, source: str, target: str, kind: str, session: int | None = None
) -> Function:
    """Return the sustained or the total effect as a function."""
    i, j = position(form, target), position(form, source)
    need_equal_lags(form, "long-run effect", session)
    chosen("kind", kind, ("sustained", "total"))
    if kind == "sustained" and i == j:
        raise SpecificationError(
            f"{source!r} cannot be held and respond at once. Use kind='total'."
        )
    if kind == "sustained" and "ma" in form.families:
        raise SpecificationError(
            "With moving-average terms it matters by which shocks the source is held, so there is "
            "no single sustained effect. Use kind='total'."
        )

    def function(p: Params) -> Array:
        if kind == "total":
            A, entry = form.motion(p, session)
            return np.array([(var.total_effect(A) @ entry)[i, j]])
        lags = range(1, form.order + 1)
        terms = [form.lag(p, target, v, session, lag) for lag in lags for v in (target, source)]
        return np.array([var.sustained_effect(*terms)])

    return function


def response_frame(derived: Derived, variables: tuple[str, ...], level: float) -> pd.DataFrame:
    """Lay the path of a shock out: rows sessions, columns (variable, estimate / lower / upper)."""
    values = np.column_stack([derived.values, derived.bounds(checked_level(level))])
    values = values.reshape(-1, 3 * len(variables))
    columns = pd.MultiIndex.from_product(
        [variables, ["estimate", "lower", "upper"]], names=["variable", "quantity"]
    )
    return pd.DataFrame(values, pd.RangeIndex(len(values), name="session"), columns)


def need_within(form: LaggedForm, known: Container[str], model: str) -> None:
    """Refuse a within SD where lagged effects or innovations are not all in the model."""
    absent = [name for name in form.settling_names if name not in known]
    if absent and not form.solved:
        raise SpecificationError(
            f"{model} has no lagged effect {listed(absent)}, so there is no within SD to "
            "standardize by. Use standardized=None."
        )
    if not form.solved and any(name not in known for name in form.innovation_names):
        raise SpecificationError(
            f"{model} has no innovations here: nothing happens within clients that their courses "
            "do not carry, so there is no within SD to standardize by. Use standardized=None."
        )


def need_equal_lags(form: LaggedForm, what: str, session: int | None) -> None:
    """Refuse what has no meaning when lags differ between sessions and none is named."""
    leads_into(form, session)
    if form.varies and session is None:
        raise SpecificationError(
            f"Lagged effects differ between sessions, so there is no single {what}. "
            "Name a session whose lags are to stay, with session=, or fit with lags='equal' and "
            "no step."
        )
