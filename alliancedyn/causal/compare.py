"""The same effects side by side in several models: one unit, one lag, one sign."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

import pandas as pd

from alliancedyn.causal.bias import BESIDE, bias_diagnosis, needed
from alliancedyn.causal.contrast import Place, both_paths
from alliancedyn.checking import checked
from alliancedyn.engine import names
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.results import LEVEL, Estimate, Fit
from alliancedyn.results.estimate import estimates
from alliancedyn.results.paths import no_time_order

EVERYONE = "all"
FORMS = ("structural", "reduced")  # in the order in which they are shown
_NOTHING = Estimate(float("nan"), float("nan"), float("nan"), float("nan"))


@checked
def compare_models(fits: Mapping[str, Fit]) -> pd.DataFrame:
    """Lay the lagged effects of several fits side by side.

    Parameters
    ----------
    fits : mapping of str to Fit
        Name to show -> fit. The first is the one that data are compared with.

    Returns
    -------
    DataFrame
        One row per effect, model and group: model, group ("all" where groups do not differ in
        their lags or innovations), effect, source, target, lag; estimate, se, lower, upper
        (points of the target per point of the source); standardized, standardized_se,
        standardized_lower, standardized_upper (within-client SDs; NaN where the model has none)
        and sd_within, how those SDs were taken. These are of the reduced form, from one session to
        the next. structural_estimate, ..., structural_standardized, ... are the same path in time
        order (the structural form), and structural_lag the time that it spans, "within a session"
        or "1 session"; NaN and None where the model has no time order. expected_bias and
        expected_bias_mcse, what `bias_diagnosis` simulates for models that are biased in short
        panels (points; NaN for others); converged, at_bound, same_data; loglik, aic, bic, clients.
        AIC and BIC are NaN where ``same_data`` is False: the model saw other variables, sessions,
        clients or scores than the first, and they cannot be compared.

    Raises
    ------
    SpecificationError
        If there is nothing to compare.
    """
    if not isinstance(fits, Mapping) or not fits:
        raise SpecificationError("No named fits to compare. Pass {'RI-CLPM': fit, ...}.")
    if wrong := [str(name) for name, fit in fits.items() if not isinstance(fit, Fit)]:
        raise SpecificationError(
            f"{listed(wrong)} is no fit. Pass what spec.fit(panel) returns, by the name to show."
        )
    first = next(iter(fits.values()))
    rows = [
        {"model": name, **effect, **_about(fit, _same_data(fit, first))}
        for name, fit in fits.items()
        for effect in _effects(fit)
    ]
    if not rows:
        raise SpecificationError("None of these fits has a lagged effect between two variables.")
    frame = pd.DataFrame(rows)
    order = {effect: at for at, effect in enumerate(dict.fromkeys(frame["effect"]))}
    return frame.sort_values(
        "effect", key=lambda column: column.map(order), kind="stable"
    ).reset_index(drop=True)


def _effects(fit: Fit) -> list[dict[str, object]]:
    """Return the cross-lagged effects that a fit has, group by group, raw and in within SDs."""
    groups = fit.lagged.groups if fit.lagged.grouped else (None,)
    return [effect for group in groups for effect in _effects_of(fit, group)]


def _effects_of(fit: Fit, group: str | None) -> list[dict[str, object]]:
    form = fit.lagged.of_group(group)
    session = form.lag_sessions[0] if form.lag_sessions else None
    suffix = form.suffix("phi")
    pairs = [
        (source, target)
        for source, target in permutations(fit.variables, 2)
        if names.label("phi", target, source, session=session, group=suffix) in fit.params.index
    ]
    basis = _sd_basis(fit, group)
    ordered = _in_time_order(fit, group) if basis else {}
    rows: list[dict[str, object]] = []
    for source, target in pairs:
        raw = fit.effect(source, target, group=group)
        within = _NOTHING
        if basis:
            within = fit.effect(source, target, standardized="within", group=group)
        timed, timed_within, span = ordered.get((source, target), (_NOTHING, _NOTHING, None))
        rows.append(
            {
                "group": EVERYONE if group is None else group,
                "effect": f"{source} -> {target}",
                "source": source,
                "target": target,
                "lag": lag_of(fit),
                **_columns("estimate", "", raw),
                **_columns("standardized", "standardized_", within),
                "sd_within": basis,
                "structural_lag": span,
                **_columns("structural_estimate", "structural_", timed),
                **_columns("structural_standardized", "structural_standardized_", timed_within),
                **_expected_bias(fit, source, target),
            }
        )
    return rows


def _columns(name: str, prefix: str, one: Estimate) -> dict[str, object]:
    bounds = {"se": one.se, "lower": one.lower, "upper": one.upper}
    return {name: one.value, **{f"{prefix}{key}": value for key, value in bounds.items()}}


def _in_time_order(
    fit: Fit, group: str | None
) -> dict[tuple[str, str], tuple[Estimate, Estimate, str]]:
    """Return both paths of the structural form, raw and in within SDs, and what each spans."""
    if no_time_order(fit.lagged.of_group(group), fit.timing) is not None:
        return {}
    first, second = fit.variables
    derived = both_paths(fit, first, second, "structural", Place(None, group))
    out, back, out_raw, back_raw = estimates(derived, LEVEL)
    return {
        (source, target): (raw, within, span)
        for source, target, raw, within in (
            (first, second, out_raw, out),
            (second, first, back_raw, back),
        )
        for span in ["within a session" if fit.timing[source] == "before" else "1 session"]
    }


def _expected_bias(fit: Fit, source: str, target: str) -> dict[str, object]:
    """Return the simulated bias of an effect, where it must not be read without."""
    found = {"bias": float("nan"), "mcse": float("nan")}
    if needed(fit) and fit.data is not None:
        row = bias_diagnosis(fit, BESIDE).table.loc[names.label("phi", target, source)]
        found = {key: float(row[key]) for key in found}
    return {"expected_bias": found["bias"], "expected_bias_mcse": found["mcse"]}


def columns(form: str, standardized: bool) -> tuple[str, str, str]:
    """Name the columns that hold a path in a form: its estimate, and both ends of its interval."""
    prefix = "structural_" if form == "structural" else ""
    if standardized:
        name = f"{prefix}standardized"
        return name, f"{name}_lower", f"{name}_upper"
    return f"{prefix}estimate", f"{prefix}lower", f"{prefix}upper"


def forms_in(frame: pd.DataFrame) -> tuple[str, ...]:
    """Return the forms that rows of a comparison have, in the order in which they are shown."""
    return tuple(
        form
        for form in FORMS
        if (name := columns(form, False)[0]) in frame and frame[name].notna().any()
    )


def lag_of(fit: Fit) -> str:
    """Say over what time the lagged effects lead: ``1 session``, or the time unit in days."""
    form = fit.lagged
    if "drift" in form.families and getattr(fit.model, "time", "session") == "days":
        unit = getattr(fit.model, "time_unit", 1.0)
        return "1 day" if unit == 1 else f"{unit:g} days"
    return "1 session (average over sessions)" if form.varies else "1 session"


def _sd_basis(fit: Fit, group: str | None) -> str | None:
    """Return how within SDs are taken; None if the model implies none."""
    try:
        fit.sd_within(group=group)
    except SpecificationError:
        return None
    return fit.sd_within_basis(group=group)


def _about(fit: Fit, same_data: bool) -> dict[str, object]:
    missing = float("nan")
    return {
        "converged": fit.converged,
        "at_bound": bool(fit.diagnostics.get("boundary")),
        "same_data": same_data,
        "loglik": missing if fit.loglik is None else fit.loglik,
        "aic": fit.aic if same_data else missing,
        "bic": fit.bic if same_data else missing,
        "clients": fit.sample.clients,
    }


def _same_data(fit: Fit, first: Fit) -> bool:
    """Tell whether two fits explain the same scores, as far as they can still say."""
    if (
        set(fit.variables) != set(first.variables)
        or fit.sessions != first.sessions
        or fit.sample.clients != first.sample.clients
        or fit.sample.rows != first.sample.rows
    ):
        return False
    ours, theirs = fit.fingerprint(), first.fingerprint()
    return ours is None or theirs is None or ours == theirs
