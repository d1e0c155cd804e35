"""Which scores dynamic panel equations use of a panel, and what too few of them cannot carry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import SpecificationError, listed
from alliancedyn.models.collinear import refuse_collinear
from alliancedyn.models.columns import as_numbers, by_session
from alliancedyn.models.flat_sessions import refuse_unchanging
from alliancedyn.models.panel_equations import Plan
from alliancedyn.models.selection import CLIENTS_PER_SESSION, Needs, Selection, select
from alliancedyn.panel import SessionPanel
from alliancedyn.results import Observed

Array = NDArray[np.float64]

UNUSED = "no score that the equations use"
FAR_FROM_ZERO = (
    "The scores of {name!r} lie {times:.0e} times their spread away from zero, which leaves too "
    "few digits for what changes. Subtract a constant, such as their mean, and check the export."
)
MOST_DIGITS = 1e8  # mean in units of spread, beyond which too few are left once it is out
REPEATED = 1e-12  # 1 - |r| of columns that are the same up to rounding
UNCHANGING = "Name it in covariates=, or leave it out."
REMEDY = "Restrict the sessions to those that more clients reached: sessions=(first, last)."


def select_columns(
    panel: SessionPanel,
    pair: tuple[str, str],
    exogenous: tuple[str, ...],
    covariates: tuple[str, ...],
    sessions: tuple[int, ...] | None,
    few: bool = False,
) -> Selection:
    """Pick clients and sessions, every column as a variable: covariates at the first session.

    Parameters
    ----------
    panel : SessionPanel
    pair : (str, str)
        The two series with roles.
    exogenous : tuple of str
        Further session-level columns.
    covariates : tuple of str
        Client-level columns.
    sessions : (int, int), optional
        First and last session number; all of the panel by default.
    few : bool
        Whether a handful of clients will do.

    Raises
    ------
    SpecificationError
        If a column is not in the panel, holds no numbers, or never varies.
    """
    series = tuple(v for v in panel.variables if v in (*pair, *exogenous))
    found = select(panel, Needs(variables=series), sessions, few)
    data, numbers = found.data, found.data.sessions
    ordered = tuple(v for v in series if v in pair)
    columns = [data.Y[:, :, series.index(v)] for v in ordered]
    columns += [by_session(panel, v, numbers)[data.seen] for v in exogenous]
    for name in covariates:
        column = np.full((len(data.Y), len(numbers)), np.nan)
        column[:, 0] = _by_client(panel, name)[data.seen]
        columns.append(column)
    data = replace(data, variables=(*ordered, *exogenous, *covariates), Y=np.stack(columns, axis=2))
    return Selection(data, found.sample)


def _by_client(panel: SessionPanel, name: str) -> Array:
    """Return a client-level number (N,), NaN where it is not known."""
    values = as_numbers(name, pd.Series(panel.client_values(name)))
    if np.isnan(values).all():
        raise SpecificationError(
            f"The covariate {name!r} is known of no client. Check the export, or leave it out."
        )
    if not np.nanmax(values, initial=-np.inf) > np.nanmin(values, initial=np.inf):
        raise SpecificationError(
            f"The covariate {name!r} is the same for all clients in the model. Leave it out."
        )
    return values


def used(selection: Selection, plan: Plan) -> Selection:
    """Keep the scores that have a column, and the clients who have one."""
    data, sample = selection.data, selection.sample
    Y = np.full_like(data.Y, np.nan)
    times, series = plan.cells(data.variables)
    Y[:, times, series] = data.Y[:, times, series]
    scored = ~np.isnan(Y[:, :, : len(data.variables) - len(plan.covariates)])
    at: NDArray[np.bool_] = np.any(scored, axis=2)
    kept: NDArray[np.bool_] = np.any(at, axis=1)
    seen = data.seen.copy()
    seen[np.flatnonzero(seen)[~kept]] = False
    clients, rows = int(kept.sum()), int(at.sum())
    aside, left = dict(sample.clients_set_aside), dict(sample.rows_set_aside)
    if clients < len(kept):
        aside[UNUSED] = len(kept) - clients
    if rows < sample.rows:
        left[UNUSED] = sample.rows - rows
    return Selection(
        replace(
            data,
            Y=Y[kept],
            clients=data.clients[kept],
            days=data.days[kept],
            therapist=data.therapist[kept],
            covariates=data.covariates[kept],
            inputs=data.inputs[kept],
            group=data.group[kept],
            seen=seen,
            person=data.person[kept],
        ),
        replace(
            sample,
            clients=clients,
            rows=rows,
            pairs=int((at[:, 1:] & at[:, :-1]).sum()),
            clients_set_aside=aside,
            rows_set_aside=left,
        ),
    )


def refuse_thin(plan: Plan, data: Observed) -> None:
    """Refuse what too few clients were seen at for the moments that the equations leave free.

    Raises
    ------
    SpecificationError
        With the columns and the remedy.
    """
    wide = plan.wide(data.Y, data.variables)
    seen = (~np.isnan(wide)).astype(float)
    spelled = [v if t is None else f"{v} at session {t}" for v, t in plan.columns]
    if thin := [spelled[j] for j in np.flatnonzero(seen.sum(axis=0) < CLIENTS_PER_SESSION)]:
        raise SpecificationError(
            f"Fewer than {CLIENTS_PER_SESSION} clients have {listed(thin)}, too few for a mean or "
            f"intercept of its own. {REMEDY}"
        )
    known = len(plan.given)
    free = wide.shape[1] if plan.feedback else known
    if len(wide) <= free:
        raise SpecificationError(
            f"The equations leave the covariances of {free} columns free; {len(wide)} clients "
            f"cannot carry them. {REMEDY}"
        )
    together = (seen.T @ seen)[:known, :known]
    i, j = np.unravel_index(int(together.argmin()), together.shape)
    if together[i, j] < CLIENTS_PER_SESSION:
        raise SpecificationError(
            f"{spelled[i]} and {spelled[j]} were seen together in {int(together[i, j])} clients, "
            f"too few for a covariance of their own. {REMEDY}"
        )


def refuse_constant(plan: Plan, data: Observed) -> None:
    """Refuse series that never change within a client: their scores repeat each other.

    Raises
    ------
    SpecificationError
        With the series and the remedy.
    """
    at = [data.variables.index(name) for name in plan.predictors]
    refuse_unchanging(data.Y[:, :, at], plan.predictors, UNCHANGING)


def refuse_repeated(plan: Plan, data: Observed) -> None:
    """Refuse columns that repeat others, and scores too far from zero to see them change.

    Raises
    ------
    SpecificationError
        With the columns and the remedy.
    """
    for name, far in zip(data.variables, far_from_zero(data.Y), strict=True):
        if far > MOST_DIGITS:
            raise SpecificationError(FAR_FROM_ZERO.format(name=name, times=far))
    columns = {c: data.Y[:, 0, data.variables.index(c)] for c in plan.covariates}
    columns |= {v: data.Y[:, :, data.variables.index(v)].ravel() for v in plan.predictors}
    names = list(columns)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if _repeat(columns[one], columns[other]):
                raise SpecificationError(
                    f"{other!r} repeats {one!r}: one is the other times a number plus a number, "
                    "so their effects cannot be told apart. Leave one of them out."
                )
    if plan.covariates:
        wide = np.stack([columns[c] for c in plan.covariates], axis=1)
        refuse_collinear(wide, plan.covariates)


def far_from_zero(Y: Array) -> Array:
    """Return the mean of each series (n, T, k) in units of its spread, (k,)."""
    flat = Y.reshape(-1, Y.shape[2])
    spread = np.nanstd(flat, axis=0)
    return np.asarray(np.abs(np.nanmean(flat, axis=0)) / np.where(spread > 0.0, spread, np.inf))


def _repeat(one: Array, other: Array) -> bool:
    """Tell whether one column is a linear function of another of the same length."""
    if len(one) != len(other):
        return False
    both = ~np.isnan(one) & ~np.isnan(other)
    if both.sum() < CLIENTS_PER_SESSION:
        return False
    a, b = one[both] - one[both].mean(), other[both] - other[both].mean()
    length = float(np.sqrt((a @ a) * (b @ b)))
    return bool(length > 0.0 and 1.0 - abs(float(a @ b)) / length < REPEATED)
