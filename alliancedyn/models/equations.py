"""An estimated equation, and how the equations of one fit are put together.

The covariance between two equations comes from what each client contributes to both
(:mod:`alliancedyn.engine.stacking`), and so does that with the within-client variances by which
effects are standardized.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.engine import names
from alliancedyn.engine.delta import Freedom
from alliancedyn.engine.maximise import outer_products
from alliancedyn.engine.stacking import StackedFreedom, joint_covariance
from alliancedyn.engine.trends import fit_session_effects
from alliancedyn.errors import SpecificationError
from alliancedyn.models.selection import Selection
from alliancedyn.panel import SessionPanel
from alliancedyn.panel.issues import cautions
from alliancedyn.results import Fit, Model, Observed, Sample

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

NO_PAIR = "no session with all terms of the equation"


@dataclass(frozen=True, kw_only=True)
class Equation:
    """An estimated equation.

    Parameters
    ----------
    names : tuple of str
        The q effects, canonical names.
    estimates, cov : (q,), (q, q)
        Effects and their covariance under the errors asked for.
    shares : (n, q)
        Every client's first-order share in the estimates.
    used : (n, T) bool
        Client-sessions that entered as outcomes.
    rows_set_aside : dict
        Reason -> how many client-sessions with a score of the outcome did not.
    clients_set_aside : dict
        Reason -> how many clients did not; those not counted here have no usable session.
    variances : dict
        Variance parameters by canonical name.
    variance_cov : (r, r), optional
        Their covariance; NaN without one.
    units : (n,) int, optional
        Codes of the clients who are not independent, in the model or under the errors asked.
    freedom : Freedom, optional
        Degrees of freedom of contrasts of the effects; infinite without it.
    loglik : float, optional
    failure : str, optional
        Why the estimates are none.
    boundary, notes : tuple of str
        What to read before any number.
    diagnostics : dict
        More, by family.
    """

    names: tuple[str, ...]
    estimates: Array
    cov: Array
    shares: Array
    used: Mask
    rows_set_aside: dict[str, int] = field(default_factory=dict)
    clients_set_aside: dict[str, int] = field(default_factory=dict)
    variances: dict[str, float] = field(default_factory=dict)
    variance_cov: Array | None = None
    units: NDArray[np.int64] | None = None
    freedom: Freedom | None = None
    loglik: float | None = None
    failure: str | None = None
    boundary: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    diagnostics: dict[str, Any] = field(default_factory=dict)


def joined(
    model: Model,
    panel: SessionPanel,
    selection: Selection,
    roles: tuple[str, str],
    equations: list[Equation],
    errors: str,
    clusters: NDArray[np.int64] | None,
) -> Fit:
    """Put the equations of one fit together; the first is that of the outcome."""
    data, main = selection.data, equations[0]
    clusters = clusters if main.units is None else main.units
    spread = within_variances(data, getattr(model, "sets_course_apart", True), clusters)
    params, cov = _stacked([*equations, spread], errors == "observed", clusters)
    targets = [roles[1], roles[0]]
    failures = [e.failure for e in equations if e.failure is not None]
    diagnostics: dict[str, Any] = {
        "errors": errors,
        "gradient": 0.0,
        "condition": float(np.linalg.cond(_scaled(main.cov))),
        "boundary": _said([e.boundary for e in equations], targets),
        "notes": [*_said([e.notes for e in equations], targets), *cautions(panel.issues)],
        "pairs": {t: int(e.used.sum()) for t, e in zip(targets, equations, strict=False)},
        **main.diagnostics,
    }
    if failures:
        diagnostics["failure"] = " ".join(failures)
    if len(equations) > 1:
        diagnostics["backward"] = dict(equations[1].diagnostics)
    return Fit(
        model=model,
        params=params,
        cov=cov,
        sample=_sample(selection.sample, equations),
        diagnostics=diagnostics,
        loglik=main.loglik if len(equations) == 1 else None,
        n_params=sum(len(e.names) + len(e.variances) for e in equations),
        converged=not failures,
        variables=data.variables,
        process=roles[0],
        outcome=roles[1],
        timing={v: panel.timing[v] for v in data.variables if v in panel.timing},
        higher={v: panel.higher[v] for v in data.variables if v in panel.higher},
        sessions=data.sessions,
        freedom=_freedom(equations),
        data=data,
    )


def _freedom(equations: list[Equation]) -> StackedFreedom | None:
    """Return the degrees of freedom of all contrasts, None if they are infinite."""
    if all(e.freedom is None for e in equations):
        return None
    ends = np.cumsum([len(e.names) for e in equations]).tolist()
    return StackedFreedom(
        tuple((end - len(e.names), end, e.freedom) for e, end in zip(equations, ends, strict=True))
    )


def _stacked(
    equations: list[Equation], modeled: bool, clusters: NDArray[np.int64] | None
) -> tuple[pd.Series, pd.DataFrame]:
    """Return all parameters and their covariance, effects first.

    Effects and variances of a normal model are uncorrelated by theory; nothing else that was not
    estimated is filled in: it is NaN.
    """
    effects = [name for e in equations for name in e.names]
    variances = [name for e in equations for name in e.variances]
    q, r = len(effects), len(variances)
    cov = np.full((q + r, q + r), np.nan)
    cov[:q, :q] = joint_covariance(
        [e.cov for e in equations], [e.shares for e in equations], clusters
    )
    at, row = q, 0
    for e in equations:
        n = len(e.variances)
        if e.variance_cov is not None:
            cov[at : at + n, at : at + n] = e.variance_cov
        if modeled:
            own = slice(row, row + len(e.names))
            cov[own, at : at + n] = cov[at : at + n, own] = 0.0
        at, row = at + n, row + len(e.names)
    values = [*np.concatenate([e.estimates for e in equations])]
    values += [value for e in equations for value in e.variances.values()]
    index = pd.Index([*effects, *variances])
    return (
        pd.Series(values, index=index, name="estimate", dtype=float),
        pd.DataFrame(cov, index=index, columns=index),
    )


def within_variances(
    data: Observed, course: bool, clusters: NDArray[np.int64] | None = None
) -> Equation:
    """Estimate both variances within clients: pooled squares around the clients' own means.

    V = S / D with S = sum (y_it - mean_i - c_t)^2, D = sum (T_i - 1) - r over clients, c_t (r of
    them free) the least-squares effects of sessions if the model has a course that all clients
    share (``course``), else 0: what the model sets apart is no change within clients. The share
    of a client in the error of V is (S_i - V D_i) / D, D_i = T_i - 1 - r T_i / sum T.
    """
    values, shares = [], []
    for j in range(len(data.variables)):
        scores = data.Y[:, :, j]
        seen = ~np.isnan(scores)
        n = seen.sum(axis=1)
        freedom = np.maximum(n - 1.0, 0.0)
        if not freedom.any():
            raise SpecificationError(
                f"No client has two scores of {data.variables[j]!r}, so nothing is known of change "
                "within clients. Add sessions, or widen sessions=(first, last)."
            )
        if course:
            client, session = np.nonzero(seen)
            codes = np.unique(client, return_inverse=True)[1]
            effects = fit_session_effects(scores[seen], codes, session, seen.shape[1])
            scores = scores - np.nan_to_num(effects.effect)
            freedom = freedom - effects.rank * n / n.sum()
        mean = np.where(seen, scores, 0.0).sum(axis=1) / np.maximum(n, 1)
        squares = np.where(seen, (scores - mean[:, None]) ** 2, 0.0).sum(axis=1)
        value = squares.sum() / max(freedom.sum(), 1.0)
        values.append(value)
        shares.append((squares - value * freedom) / max(freedom.sum(), 1.0))
    stacked = np.column_stack(shares)
    return Equation(
        names=tuple(names.label("within_var", v) for v in data.variables),
        estimates=np.array(values),
        cov=outer_products(stacked, clusters),
        shares=stacked,
        used=np.zeros(data.Y.shape[:2], bool),
    )


def _sample(selected: Sample, equations: list[Equation]) -> Sample:
    """Count what entered: clients and client-sessions of either equation."""
    used: Mask = np.any([e.used for e in equations], axis=0)
    clients = int(used.any(axis=1).sum())
    aside = {**selected.clients_set_aside}
    if (without := selected.clients - clients) and len(equations) == 1:
        aside |= equations[0].clients_set_aside
        without -= sum(equations[0].clients_set_aside.values())
    if without:
        aside[NO_PAIR] = aside.get(NO_PAIR, 0) + without
    rows = int(equations[0].used.sum())
    return replace(
        selected,
        clients=clients,
        rows=rows,
        pairs=rows,
        clients_set_aside=aside,
        rows_set_aside={**selected.rows_set_aside, **equations[0].rows_set_aside},
    )


def _said(sentences: list[tuple[str, ...]], targets: list[str]) -> list[str]:
    """Return what the equations say, by target where there are two."""
    if len(sentences) == 1:
        return list(sentences[0])
    return [
        f"{target}: {sentence}"
        for own, target in zip(sentences, targets, strict=True)
        for sentence in own
    ]


def _scaled(cov: Array) -> Array:
    d = np.sqrt(np.where(np.diag(cov) > 0.0, np.diag(cov), 1.0))
    return np.asarray(cov / d / d[:, None])
