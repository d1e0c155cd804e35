"""A verdict on direction in words: the same sentence for either direction, names exchanged.

A path "predicts" or "precedes"; what would make it causal is said in the assumptions, and only
there.
"""

from __future__ import annotations

from math import isfinite
from operator import itemgetter

from alliancedyn.causal.compare import lag_of
from alliancedyn.causal.contrast import Contrast, Lead, Place, State
from alliancedyn.engine import names
from alliancedyn.engine.lagged import OBSERVED, POOLED, STATIONARY
from alliancedyn.results import LEVEL, Estimate, Fit
from alliancedyn.results.paths import no_time_order

_STRUCTURAL = "Structural form (scores in the order in which they are taken)"
_SDS = {
    STATIONARY: "of the settled process",
    POOLED: "model-implied, pooled over sessions",
    OBSERVED: "observed around the clients' own means, the course that all share set apart",
}


def findings(
    fit: Fit,
    source: str,
    target: str,
    contrasts: dict[str, Contrast],
    lead: Lead,
    why_reduced: str | None,
) -> list[str]:
    """Write what was found: two lines, difference, sentences, every basis."""
    main = contrasts.get("structural") or contrasts["reduced"]
    forward, backward = (
        BEFORE_AFTER if immediate else moments(fit)
        for immediate in (main.forward_immediate, main.backward_immediate)
    )
    lines = [*_two_lines(source, target, main), _difference_line(source, target, main), ""]
    lines += [
        _sentence(source, target, main.forward, main.forward_state, forward),
        _sentence(target, source, main.backward, main.backward_state, backward),
        _lead_sentence(source, target, lead, contrasts),
        "",
    ]
    for name, contrast in contrasts.items():
        lines += _basis_lines(fit, source, target, name, contrast)
    if why_reduced is not None:
        lines.append(f"Structural form not available. {why_reduced}")
    return lines


def closing(
    fit: Fit, smallest_effect: float, assumptions: tuple[str, ...], place: Place
) -> list[str]:
    """Write what the numbers are measured in, and what they rest on."""
    return [
        "",
        *_units(fit, smallest_effect, place),
        "",
        "Assumptions: what it takes to read a path as an effect",
        *(f"- {assumption}" for assumption in assumptions),
    ]


def period_lead(source: str, target: str, lead: Lead) -> str:
    """Say which leads before and after a step, or that it changes."""
    words = {
        "forward": f"{source} leads before and after the change of the paths.",
        "backward": f"{target} leads before and after the change of the paths.",
        "both": "Each predicts the other before and after the change of the paths.",
        "neither": "Neither predicts the other before or after the change of the paths.",
        "undetermined": "Which of the two leads is undetermined before and after the change of "
        "the paths.",
    }
    return words.get(lead, "Which of the two leads depends on the sessions, or on the basis.")


def change(fit: Fit, source: str, target: str, place: Place) -> str:
    """Say by how much the paths change at the step."""
    form = fit.lagged.of_group(place.group)
    steps = []
    for first, then in ((source, target), (target, source)):
        group = form.suffix("step")
        name = names.label("step", then, first, session=form.step, group=group)
        steps.append(f"{first} -> {then} {fit.derive(itemgetter(name))}")
    return f"Change of the reduced paths at session {form.step}, raw: {'; '.join(steps)}."


def assumptions(fit: Fit, source: str, target: str, basis: str, place: Place) -> tuple[str, ...]:
    """List what must hold for the numbers, and for calling any of them an effect."""
    stated = [
        *fit.model.assumptions,
        "A path is an effect only if no unmodelled cause that changes over time moves both "
        f"{source} and {target}, if one session is the right lag, and, unless it is modelled, "
        "if there is no measurement error.",
    ]
    form = fit.lagged.of_group(place.group)
    if no_time_order(form, fit.timing, place.session) is None:
        before = source if fit.timing[source] == "before" else target
        after = target if before == source else source
        if basis == "structural":
            stated.append(
                f"The path {before} (before session t) -> {after} (after it) needs u_t and e_t, "
                "what is new in each of them, uncorrelated: nothing since the last session moves "
                f"both {before} and {after} except through {before}."
            )
        stated.append(
            f"In the reduced form {before} -> {after} is what is left of the path within a "
            "session one session later, g times the autoregression plus h: comparing it with "
            "the path across sessions is uneven."
        )
    return tuple(stated)


def _two_lines(source: str, target: str, main: Contrast) -> list[str]:
    return [
        f"{source} -> {target}: {main.forward_state}, {main.forward} within-client SDs",
        f"{target} -> {source}: {main.backward_state}, {main.backward} within-client SDs",
    ]


def _difference_line(source: str, target: str, main: Contrast) -> str:
    return f"Difference in size, |{source} -> {target}| - |{target} -> {source}|: {main.difference}"


BEFORE_AFTER = ("before a session", "after it")


def moments(fit: Fit) -> tuple[str, str]:
    """Say when the earlier and the later score of a lagged path are."""
    lag = lag_of(fit)
    if lag.endswith(("day", "days")):
        return "at one moment", f"{lag} later"
    return "at one session", "at the next"


def _sentence(source: str, target: str, path: Estimate, state: State, when: tuple[str, str]) -> str:
    """Say one direction in plain words."""
    first, then = when
    if not isfinite(path.lower):
        return (
            f"Whether {source} {first} predicts {target} {then} cannot be said: "
            "the standard error is not available."
        )
    if state == "practically zero":
        return f"The score of {source} {first} predicts practically nothing of {target} {then}."
    if state == "supported":
        way = "higher" if path.value > 0 else "lower"
        return f"A higher score of {source} {first} precedes a {way} one of {target} {then}."
    return f"Whether the score of {source} {first} predicts {target} {then} is undetermined."


def _lead_sentence(source: str, target: str, lead: Lead, contrasts: dict[str, Contrast]) -> str:
    """Say which leads, or on what that depends."""
    if lead == "depends":
        each = [
            f"{name} form: {_lead_words(source, target, contrast)}"
            for name, contrast in contrasts.items()
        ]
        return f"Which of the two leads depends on the basis: {'; '.join(each)}."
    return f"Lead: {_lead_words(source, target, next(iter(contrasts.values())))}."


def _lead_words(source: str, target: str, contrast: Contrast) -> str:
    if contrast.lead == "forward":
        return f"{source} leads ({source} -> {target} is the stronger path)"
    if contrast.lead == "backward":
        return f"{target} leads ({target} -> {source} is the stronger path)"
    if contrast.lead == "both":
        return "each predicts the other, neither reliably more strongly"
    if contrast.lead == "neither":
        return "neither predicts the other by an amount that matters"
    return "undetermined"


def _basis_lines(fit: Fit, source: str, target: str, name: str, contrast: Contrast) -> list[str]:
    """Print one basis with standardized and raw numbers."""
    rows = [
        (source, target, contrast.forward, contrast.forward_raw, contrast.forward_state),
        (target, source, contrast.backward, contrast.backward_raw, contrast.backward_state),
    ]
    over = " to ".join(when.removeprefix("at ") for when in moments(fit))
    lines = [
        f"{_STRUCTURAL if name == 'structural' else f'Reduced form (both paths from {over})'}:"
    ]
    lines += [
        f"  {first} -> {then}: {path} SD, {raw} raw, {state}"
        for first, then, path, raw, state in rows
    ]
    lead = _lead_name(source, target, contrast)
    return [*lines, f"  difference in size: {contrast.difference} SD; lead: {lead}"]


def _lead_name(source: str, target: str, contrast: Contrast) -> str:
    return {"forward": source, "backward": target}.get(contrast.lead, contrast.lead)


def _units(fit: Fit, smallest_effect: float, place: Place) -> list[str]:
    """Say what the numbers are measured in and where practical zero ends."""
    kind, group = fit.sd_within_basis(group=place.group), place.group
    sds = ", ".join(f"{name} {sd:.3f}" for name, sd in fit.sd_within(group=group).items())
    how = _SDS[kind]
    if kind == OBSERVED and not getattr(fit.model, "sets_course_apart", True):
        how = "observed around the clients' own means, the course that all share included"
    lines = [
        f"Within-client SDs ({how}): {sds} points. Practically zero: the interval lies inside "
        f"-{smallest_effect:g} to {smallest_effect:g}. Intervals cover {LEVEL:.0%}.",
        "Raw: points of the later score per point of the earlier.",
    ]
    if group is not None:
        lines.append(f"All of this is about the group {group}.")
    if kind != OBSERVED and not any(str(n).startswith("between_cov[") for n in fit.params.index):
        lines.append(
            "The model has no random intercepts: its SDs and paths mix stable differences "
            "between clients with change within them."
        )
    return [*lines, *_lags_shown(fit, place)]


def _lags_shown(fit: Fit, place: Place) -> list[str]:
    """Say which of the lagged effects are shown where there are several."""
    form, lines = fit.lagged, []
    if form.lag_sessions and place.session is None:
        lines.append("Lagged paths differ between sessions; shown is their plain average.")
    elif form.varies and place.session is not None:
        lines.append(f"Lagged paths differ between sessions; shown are those into {place.session}.")
    if form.order == 2:
        lines.append(
            "The paths shown reach one session back; second-order lags add what comes from two "
            "sessions back."
        )
    if "ma" in form.families:
        lines.append(
            "The paths shown are the whole effect one session later: what scores carry on (phi), "
            "and what is new in a score and passes on once (ma)."
        )
    if "drift" in form.families:
        lines.append(f"The paths shown lead over {lag_of(fit)}, the model's unit of time.")
    return lines
