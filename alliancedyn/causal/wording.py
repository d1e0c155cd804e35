"""A verdict on direction as a text: the words of `alliancedyn.causal.words`, laid out.

What would make a path causal is said in the assumptions, and only there.
"""

from __future__ import annotations

from operator import itemgetter

from alliancedyn.causal import words
from alliancedyn.causal.compare import lag_of
from alliancedyn.causal.contrast import Contrast, Lead, Place
from alliancedyn.engine import names
from alliancedyn.engine.lagged import OBSERVED, POOLED, STATIONARY
from alliancedyn.results import LEVEL, Fit
from alliancedyn.results.paths import no_time_order

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
    """Write what was found: two lines, difference, sentences, then every form."""
    forms, lag = words.forms_of(contrasts), lag_of(fit)
    form, main = next(iter(forms.items()))
    lines = [
        f"{source} -> {target}: {main.forward_state}, {main.forward} within-client SDs",
        f"{target} -> {source}: {main.backward_state}, {main.backward} within-client SDs",
        f"Difference in size, |{source} -> {target}| - |{target} -> {source}|: {main.difference}",
        f"These are paths {words.form_name(form, lag)}.",
        "",
        *_in_words(fit, source, target, main),
        words.lead_sentence(source, target, lead, forms, lag),
        "",
    ]
    for name, one in forms.items():
        lines += _form_lines(source, target, words.form_name(name, lag), one)
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


def _in_words(fit: Fit, source: str, target: str, one: Contrast) -> list[str]:
    """Say both paths in plain words, and in score points."""
    lines = []
    for first, then, path, raw, state, immediate in (
        (source, target, one.forward, one.forward_raw, one.forward_state, one.forward_immediate),
        (
            target,
            source,
            one.backward,
            one.backward_raw,
            one.backward_state,
            one.backward_immediate,
        ),
    ):
        when = words.moments(lag_of(fit), immediate)
        lines.append(words.path_sentence(first, then, path, state, when, fit.higher))
        lines.append(words.points_sentence(first, then, raw, when))
    return [line for line in lines if line]


def _form_lines(source: str, target: str, name: str, one: Contrast) -> list[str]:
    """Print one form with standardized and raw numbers."""
    rows = [
        (source, target, one.forward, one.forward_raw, one.forward_state),
        (target, source, one.backward, one.backward_raw, one.backward_state),
    ]
    lines = [f"{words.capital(name)}:"]
    lines += [
        f"  {first} -> {then}: {path} SD, {raw} raw, {state}"
        for first, then, path, raw, state in rows
    ]
    lead = words.lead_words(one.lead, source, target)
    return [*lines, f"  difference in size: {one.difference} SD; {lead}"]


def _units(fit: Fit, smallest_effect: float, place: Place) -> list[str]:
    """Say what the numbers are measured in and where practical zero ends."""
    kind, group = fit.sd_within_basis(group=place.group), place.group
    sds = ", ".join(f"{name} {sd:.3f}" for name, sd in fit.sd_within(group=group).items())
    how = _SDS[kind]
    if kind == OBSERVED and not getattr(fit.model, "sets_course_apart", True):
        how = "observed around the clients' own means, the course that all share included"
    lines = [
        f"Within-client SDs ({how}): {sds} points. Intervals cover {LEVEL:.0%}.",
        words.convention(smallest_effect),
        "Raw: points of the later score per point of the earlier.",
    ]
    pair = (fit.process, fit.outcome)
    lines += [
        one
        for one in (words.good_ends(pair, fit.higher), words.unknown_ends(pair, fit.higher))
        if one
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
