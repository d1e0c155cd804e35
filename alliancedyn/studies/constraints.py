"""Hold lagged effects, innovations and means equal over sessions, one after the other, by test.

The freest model lets all three differ between sessions. From it one constraint after the other is
added, in a fixed order, and the first that the scores reject ends the search.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isnan, nan
from typing import Any, Literal

import pandas as pd

from alliancedyn.causal.nested import likelihood_ratio, probability
from alliancedyn.checking import checked
from alliancedyn.errors import AllianceDynError, ConvergenceError, SpecificationError
from alliancedyn.models import Specification
from alliancedyn.panel import SessionPanel
from alliancedyn.results import Fit

ORDER = ("lags", "innovations", "means")

_FREE = "all free"
_COLUMNS = (
    "loglik",
    "parameters",
    "bic",
    "statistic",
    "df",
    "p_value",
    "bic_change",
    "kept",
    "note",
)


@dataclass(frozen=True, eq=False)
class ConstraintSearch:
    """Where a search over equality constraints ended; prints as its text.

    Parameters
    ----------
    table : DataFrame
        One row per step: loglik, parameters, bic; statistic, df, p_value of the step against the
        model before it; bic_change (negative = better); kept; note.
    spec : Specification
        The model with the constraints that were kept.
    fit : Fit
        Its fit.
    text : str
        The search in words.
    """

    table: pd.DataFrame
    spec: Specification
    fit: Fit
    text: str

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<ConstraintSearch · {self.spec!r}>"


@checked
def constraint_search(
    panel: SessionPanel,
    spec: Specification,
    *,
    criterion: Literal["lr", "bic"] = "lr",
    level: float = 0.05,
    errors: str | None = None,
    seed: int | None = None,
) -> ConstraintSearch:
    """Search for what can be held equal over sessions: lags, then innovations, then means.

    The search starts with all three free. Each step holds the next one equal and compares with
    the model before by likelihood ratio and BIC. It stops at the first constraint that is
    rejected; what was not tried stays free. Lags come first, because that they are the same at
    every session is what most questions about direction presuppose. Options that a family cannot
    free are left as they are; a growth model's means are "equal" when they follow its course.

    If the freest model cannot be fitted (too few clients at some session, or no convergence), the
    next constraint is taken without a test, and the note says so.

    Parameters
    ----------
    panel : SessionPanel
    spec : Specification
        The family and all other options.
    criterion : {"lr", "bic"}
        What rejects: p < ``level``, or a higher BIC. The other is reported all the same.
    level : float
        Of each test.
    errors : str, optional
        As in ``fit``; robust errors make the tests scaled ones.
    seed : int, optional
        For additional starting values.

    Returns
    -------
    ConstraintSearch

    Raises
    ------
    SpecificationError
        If the options do not allow a search, or no model can be fitted.
    """
    path = _path(spec, criterion, level)
    rows: dict[str, dict[str, Any]] = {}
    current: Fit | None = None
    kept: Specification | None = None
    stopped = False
    for name, candidate in path:
        row: dict[str, Any] = dict.fromkeys(_COLUMNS, nan) | {"kept": False, "note": ""}
        rows[name] = row
        if stopped:
            row["note"] = "not tried: the step before was rejected"
            continue
        fit, reason = _fitted(candidate, panel, errors, seed)
        if fit is None:
            row["note"] = reason if current is None else f"not kept: {reason}"
            stopped = current is not None
            continue
        row |= {"loglik": fit.loglik, "parameters": fit.n_params, "bic": fit.bic}
        if current is None:
            row |= {"kept": True, "note": "" if name == _FREE else "taken without a test"}
        else:
            row |= _judged(current, fit, criterion, level)
            stopped = not row["kept"]
        if row["kept"]:
            current, kept = fit, candidate
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(_COLUMNS))
    table = table.rename_axis("step")
    if current is None or kept is None:
        raise SpecificationError(
            f"No model of the search could be fitted. {rows[path[-1][0]]['note']}"
        )
    return ConstraintSearch(table, kept, current, _text(table, kept, criterion, level))


def _path(spec: Specification, criterion: str, level: float) -> list[tuple[str, Specification]]:
    """Return the models of the search, the freest first."""
    if not isinstance(spec, Specification):
        raise SpecificationError(
            f"constraint_search needs a specification such as RICLPM(), not {type(spec).__name__}."
        )
    if criterion not in ("lr", "bic") or not 0.0 < level < 1.0:
        raise SpecificationError(
            f"criterion={criterion!r} and level={level!r}: choose 'lr' or 'bic', and a level "
            "between 0 and 1."
        )
    if spec.initial == "stationary" or spec.step is not None:
        raise SpecificationError(
            'initial="stationary" and step= take equal lags for granted, so there is nothing to '
            "search. Leave them out."
        )
    values = spec.choices()
    ends = {
        option: next(value for value in ("equal", "growth") if value in values[option])
        for option in ORDER
        if "free" in values[option] and len(values[option]) > 1
    }
    if not ends:
        raise SpecificationError(f"The {spec.name} has nothing that could differ over sessions.")
    free: dict[str, Any] = dict.fromkeys(ends, "free")
    path = [(_FREE, replace(spec, **free))]
    for option, value in ends.items():
        free[option] = value
        path.append((f"{option} equal", replace(spec, **free)))
    return path


def _fitted(
    spec: Specification, panel: SessionPanel, errors: str | None, seed: int | None
) -> tuple[Fit | None, str]:
    """Return the fit, or why there is none."""
    try:
        fit = spec.fit(panel, errors=errors, seed=seed, strict=False)
    except (SpecificationError, ConvergenceError) as refusal:
        return None, str(refusal)
    if not fit.converged:
        return None, str(fit.diagnostics["failure"])
    return fit, ""


def _judged(general: Fit, restricted: Fit, criterion: str, level: float) -> dict[str, Any]:
    """Test one step, and say whether its constraint is kept."""
    change = restricted.bic - general.bic
    statistic, p_value, note = nan, nan, ""
    df = general.n_params - restricted.n_params
    try:
        test = likelihood_ratio(restricted, general)
        statistic, p_value = test.statistic, test.p_value
    except AllianceDynError as refusal:
        note = f"no test: {refusal}"
    by_bic = criterion == "bic" or isnan(p_value)
    rejected = change > 0.0 if by_bic else p_value < level
    if isnan(p_value):
        note = note or "the difference has no positive scaling; BIC decides"
    elif (p_value < level) != (change > 0.0):
        note = "test and BIC disagree"
    return {
        "statistic": statistic,
        "df": df,
        "p_value": p_value,
        "bic_change": change,
        "kept": not rejected,
        "note": note,
    }


def _text(table: pd.DataFrame, spec: Specification, criterion: str, level: float) -> str:
    """Tell the search step by step, and what it does to the tests."""
    lines = [f"{spec.name}: what can be held equal over sessions, {', then '.join(ORDER)}."]
    for name, row in table.iterrows():
        verdict = "kept" if row["kept"] else "rejected"
        if isnan(float(row["bic_change"])):
            verdict = str(row["note"]) or "the model to start from"
            lines.append(f"- {name}: {verdict.rstrip('.')}.")
            continue
        tested = f"chi-square({row['df']:g}) = {row['statistic']:.2f}"
        tested = f"{tested}, {probability(float(row['p_value']))}"
        tested = "no test" if isnan(float(row["p_value"])) else tested
        note = f"; {row['note']}" if row["note"] else ""
        lines.append(f"- {name}: {tested}, BIC {row['bic_change']:+.1f}: {verdict}{note}.")
    tests = int(table["p_value"].notna().sum())
    by = f"p < {level:g}" if criterion == "lr" else "a higher BIC"
    lines += [
        f"A constraint is rejected by {by}. Kept means not rejected, not shown to hold.",
        f"{tests} test{'s' if tests != 1 else ''} on the same scores: if all constraints held, at "
        f"least one would still be rejected with a probability of about "
        f"{1.0 - (1.0 - level) ** max(tests, 1):.0%}, each test at level {level:g}. Intervals and "
        "p-values of the model found here do not know of the search; a constraint that was "
        "decided before seeing the scores needs no test.",
    ]
    return "\n".join(lines)
