"""The ladder from the CLPM by the RI-CLPM to the LCM-SR: three models, one recommendation in words.

Each rung sets one more thing apart from change within clients: first their stable levels, then
their own trends. A rung is judged by BIC, by the test against the rung below (variances are at
the edge of their range there, see :mod:`alliancedyn.causal.boundary`), by whether it stayed
inside its bounds, and by what its lagged effects mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan
from typing import Any, Literal

import pandas as pd

from alliancedyn.causal.boundary import boundary_test
from alliancedyn.causal.nested import probability
from alliancedyn.causal.words import form_name
from alliancedyn.checking import checked
from alliancedyn.errors import AllianceDynError, SpecificationError
from alliancedyn.models import CLPM, LCMSR, RICLPM, Specification
from alliancedyn.panel import SessionPanel
from alliancedyn.results import Fit
from alliancedyn.studies.families import pair_of
from alliancedyn.studies.headline import TELLING, recommend
from alliancedyn.studies.window import well_seen

LEVEL = 0.05  # of the tests that the recommendation looks at

_INDICES = ("chisq", "df", "pvalue", "cfi", "rmsea")
_SETS_APART = {
    "RI-CLPM": "stable differences between clients",
    "LCM-SR": "differences between clients in their trends",
}


@checked
def ladder(
    panel: SessionPanel,
    *,
    lags: Literal["equal", "free"] = "equal",
    innovations: Literal["equal", "free"] = "equal",
    means: Literal["free", "equal"] = "free",
    covariates: Sequence[str] = (),
    sessions: tuple[int, int] | None = None,
    errors: str | None = None,
    seed: int | None = None,
) -> pd.DataFrame:
    """Fit CLPM, RI-CLPM and LCM-SR to process and outcome, and say which to read.

    Parameters
    ----------
    panel : SessionPanel
        Its process and outcome are modeled.
    lags, innovations : {"equal", "free"}
        The same in all three models.
    means : {"free", "equal"}
        A mean for every session, or one for all (in the LCM-SR a straight line).
    covariates : sequence of str
        Client-level numbers that shift the scores or, where there are any, the stable parts.
    sessions : (int, int), optional
        First and last session; by default the longest run in which five or more clients have
        each score.
    errors : str, optional
        As in ``fit``.
    seed : int, optional
        For additional starting values.

    Returns
    -------
    DataFrame
        One row per model: loglik, parameters, aic, bic, bic_above_best; chisq, df, pvalue, cfi,
        rmsea (NaN where they do not exist); converged, admissible (no variance or correlation at
        its bound), boundary (which, in words); against (the rung below), statistic and p_value of
        the boundary test against it; forward and backward, the paths from the process to the
        outcome and back over one session (reduced form), within-client SDs, each with _lower and
        _upper; note (why a model was
        refused, did not converge, or could not be tested). ``.attrs``: "recommendation", a few
        sentences; "recommended", the name of the model or None, by the rule of `analyze`;
        "forward", "backward" and "form", what those columns are; "notes".

    Raises
    ------
    SpecificationError
        If an option is unknown.
    """
    window, notes = (sessions, []) if sessions is not None else well_seen(panel)
    base = CLPM(
        variables=pair_of(panel),
        lags=lags,
        innovations=innovations,
        means=means,
        covariates=tuple(covariates),
        sessions=window,
    )
    fits, reasons = _climb(panel, _rungs(base), errors, seed)
    forward, backward = (panel.process, panel.outcome), (panel.outcome, panel.process)
    rows = {}
    below: str | None = None
    for name in reasons:
        rows[name] = _row(fits.get(name), reasons[name], forward, backward)
        if name in fits:
            rows[name] |= _against(fits, name, below)
            below = name
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    table.insert(4, "bic_above_best", table["bic"] - table["bic"].min())
    recommended, sentences = _recommend(table)
    table.attrs = {
        "recommendation": " ".join(sentences),
        "recommended": recommended,
        "form": form_name("reduced"),
        "forward": " -> ".join(forward),
        "backward": " -> ".join(backward),
        "notes": list(notes),
    }
    return table


def _rungs(base: CLPM) -> list[Specification]:
    """Return the three models with the same options."""
    shared: dict[str, Any] = {
        name: getattr(base, name)
        for name in ("variables", "lags", "innovations", "covariates", "sessions")
    }
    course: Literal["free", "growth"] = "free" if base.means == "free" else "growth"
    return [base, RICLPM(**shared, means=base.means), LCMSR(**shared, means=course)]


def _climb(
    panel: SessionPanel, rungs: list[Specification], errors: str | None, seed: int | None
) -> tuple[dict[str, Fit], dict[str, str]]:
    """Return the fits that have a maximum, and for every model why it has none, or nothing."""
    fits: dict[str, Fit] = {}
    reasons: dict[str, str] = {}
    for spec in rungs:
        try:
            fit = spec.fit(panel, errors=errors, seed=seed, strict=False)
        except AllianceDynError as refusal:
            reasons[spec.name] = str(refusal)
            continue
        reasons[spec.name] = str(fit.diagnostics.get("failure", ""))
        if fit.converged:
            fits[spec.name] = fit
    return fits, reasons


def _row(
    fit: Fit | None, reason: str, forward: tuple[str, str], backward: tuple[str, str]
) -> dict[str, object]:
    """Return what one model says; NaN throughout if it has nothing to say."""
    indices = {} if fit is None else fit.fit_indices()
    row: dict[str, object] = {
        "loglik": nan if fit is None else fit.loglik,
        "parameters": nan if fit is None else fit.n_params,
        "aic": nan if fit is None else fit.aic,
        "bic": nan if fit is None else fit.bic,
        **{name: indices.get(name, nan) for name in _INDICES},
        "converged": fit is not None,
        "admissible": fit is not None and not fit.diagnostics["boundary"],
        "boundary": "" if fit is None else " ".join(fit.diagnostics["boundary"]),
        "against": "",
        "statistic": nan,
        "p_value": nan,
    }
    for name, (source, target) in (("forward", forward), ("backward", backward)):
        effect = None if fit is None else fit.effect(source, target, standardized="within")
        row[name] = nan if effect is None else effect.value
        row[f"{name}_lower"] = nan if effect is None else effect.lower
        row[f"{name}_upper"] = nan if effect is None else effect.upper
    row["note"] = reason
    return row


def _against(fits: dict[str, Fit], name: str, below: str | None) -> dict[str, object]:
    """Test a rung against the one below it."""
    if below is None:
        return {}
    try:
        test = boundary_test(fits[below], fits[name])
    except SpecificationError as refusal:
        return {"against": below, "note": f"No test against the {below}: {refusal}"}
    return {"against": below, "statistic": test.statistic, "p_value": test.p_value}


# -- in words ------------------------------------------------------------------------------------


def _recommend(table: pd.DataFrame) -> tuple[str | None, list[str]]:
    """Recommend by the rule of `analyze`, and say what speaks against it.

    The CLPM is recommended only where nothing else could be fitted. A model at a bound is named,
    and may be the one: a trend without variance of its own in some direction is no reason to
    prefer a model without trends. Nothing here looks at the lagged effects themselves.
    """
    fitted = table[table["converged"]]
    sentences = [f"{name}: {row['note']}" for name, row in table.iterrows() if not row["converged"]]
    if fitted.empty:
        return None, ["No model could be fitted.", *sentences]
    levels, trends = (
        float(fitted.loc[name, "bic"]) if name in fitted.index else None
        for name in ("RI-CLPM", "LCM-SR")
    )
    names = {"levels": "RI-CLPM", "trends": "LCM-SR", None: "CLPM"}
    chosen = names[recommend(levels, trends)]
    reasons = [*_by_bic(fitted, chosen), *_by_test(table), *_at_bounds(fitted, chosen)]
    reasons.append(
        f"Recommended: {chosen}. The choice rests on the description of the scores, not on the "
        "lagged effects: where these differ between the rows, the answer on direction depends on "
        "the model, and the report should say so."
    )
    return chosen, [*reasons, *sentences]


def _by_bic(fitted: pd.DataFrame, chosen: str) -> list[str]:
    order = fitted["bic"].sort_values()
    best = str(order.index[0])
    if len(order) == 1:
        return [f"Only the {best} could be fitted."]
    ahead, second = float(order.iloc[1] - order.iloc[0]), str(order.index[1])
    told = f"The {best} has the lowest BIC, {ahead:.1f} below the {second}"
    if ahead < TELLING:
        told += ", too little to tell the two apart"
    sentences = [f"{told}."]
    if best != chosen and best == "CLPM":
        sentences.append(
            "It is passed over, because clients do differ in their stable levels, which the CLPM "
            "mixes with change within clients."
        )
    return sentences


def _by_test(table: pd.DataFrame) -> list[str]:
    sentences = []
    for name, row in table.iterrows():
        p_value = float(row["p_value"])
        if isnan(p_value):
            if row["converged"] and row["note"]:
                sentences.append(str(row["note"]))
            continue
        what = _SETS_APART[str(name)]
        if row["against"] == "CLPM" and name == "LCM-SR":
            what = "differences between clients in their levels or trends"
        found = "shows" if p_value < LEVEL else "does not show"
        sentences.append(
            f"The test against the {row['against']} {found} {what} ({probability(p_value)})."
        )
    return sentences


def _at_bounds(fitted: pd.DataFrame, chosen: str) -> list[str]:
    """Name the models at their bounds, and what that means for the choice."""
    outside = [str(name) for name in fitted.index[~fitted["admissible"]]]
    if not outside:
        return []
    said = " and ".join(f"the {name}" for name in outside)
    sentences = [
        f"{said[:1].upper()}{said[1:]} end{'s' if len(outside) == 1 else ''} at a bound: a "
        "variance of zero, or a correlation of one."
    ]
    if chosen in outside:
        sentences.append("Its standard errors take the bound as given; its lagged effects stand.")
    return sentences
