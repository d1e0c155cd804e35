"""What several models say together: a headline, how many support each path, and where they part.

Reduced and structural form are never mixed: whatever is counted is counted in one form, and says
in which.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import pairwise

from alliancedyn.causal.compare import FORMS
from alliancedyn.causal.contrast import Contrast
from alliancedyn.causal.direction import Directions
from alliancedyn.causal.words import (
    capital,
    form_name,
    lead_sentence,
    lead_words,
)
from alliancedyn.results import Fit

Stand = tuple[tuple[str, bool], tuple[str, bool]]


def stand(one: Contrast) -> Stand:
    """Return the state of both paths, with the sign where it is one that matters."""
    return (
        (one.forward_state, one.forward_state == "supported" and one.forward.value > 0),
        (one.backward_state, one.backward_state == "supported" and one.backward.value > 0),
    )


def settled(
    directions: Mapping[str, Directions], fits: Mapping[str, Fit], ladder: Collection[str]
) -> dict[str, Directions]:
    """Return the verdicts of the ladder that rest on a maximum; of all models without a ladder."""
    found = {
        label: answer
        for label, answer in directions.items()
        if label in fits and fits[label].converged
    }
    return {label: answer for label, answer in found.items() if label in ladder} or found


def in_form(answers: Mapping[str, Directions], form: str, lag: str) -> dict[str, Contrast]:
    """Return the contrasts of the models that have a form, over the same time."""
    return {
        label: answer.forms[form]
        for label, answer in answers.items()
        if form in answer.forms and (form == "structural" or answer.lag == lag)
    }


def headline(answer: Directions, answers: Mapping[str, Directions]) -> str:
    """Say in a few words what a model found, or on what the answer depends.

    Parameters
    ----------
    answer : Directions
        Of the model that is reported first.
    answers : mapping of str to Directions
        Those of all models that count, that one among them; they are compared in its form.
    """
    found = list(in_form(answers, answer.basis, answer.lag).values())
    if len({stand(one) for one in found}) > 1:
        return "The answer depends on the model"
    leads = {one.lead for one in found}
    if len(leads) > 1 and leads & {"forward", "backward"}:
        return _shared_words(answer, found[0])
    if answer.lead != "depends":
        return capital(lead_words(answer.lead, answer.source, answer.target))
    if answer.periods:
        return "The answer depends on the sessions"
    return "The answer depends on how time is read"


def _shared_words(answer: Directions, one: Contrast) -> str:
    """Say what models share that agree on each path but not on which is the stronger."""
    forward, backward = (state == "supported" for state in (one.forward_state, one.backward_state))
    if forward and backward:
        return "Each predicts the other; which path is the stronger depends on the model"
    source, target = answer.source, answer.target
    if backward:
        source, target = target, source
    return (
        f"In every model {source} predicts {target}; whether more than the reverse depends on "
        "the model"
    )


def both_forms(answer: Directions) -> str:
    """Say what each form says where they differ; empty where they do not."""
    if answer.lead != "depends" or answer.periods:
        return ""
    return lead_sentence(answer.source, answer.target, answer.lead, answer.forms, answer.lag)


def counts(
    answer: Directions, answers: Mapping[str, Directions], models: str = "models"
) -> tuple[str, ...]:
    """Count in how many models each path is supported, a sentence per form."""
    source, target = answer.source, answer.target
    said = []
    for form in FORMS:
        found = list(in_form(answers, form, answer.lag).values())
        if len(found) < 2:
            continue
        forward = sum(one.forward_state == "supported" for one in found)
        backward = sum(one.backward_state == "supported" for one in found)
        said.append(
            f"Supported {form_name(form, answer.lag)}: {source} -> {target} in {forward} of "
            f"{len(found)} {models}, {target} -> {source} in {backward} of {len(found)}."
        )
    return tuple(said)


def changes(answer: Directions, answers: Mapping[str, Directions]) -> dict[tuple[str, str], str]:
    """Say between which neighboring models what changes, in which form."""
    said: dict[tuple[str, str], str] = {}
    for earlier, later in pairwise(answers):
        parts = []
        for form in FORMS:
            found = in_form(answers, form, answer.lag)
            if earlier not in found or later not in found:
                continue
            if change := _changed(answer, found[earlier], found[later]):
                parts.append(f"{form_name(form, answer.lag)}, {change}")
        if parts:
            said[earlier, later] = "; ".join(parts)
    return said


def _changed(answer: Directions, earlier: Contrast, later: Contrast) -> str:
    source, target = answer.source, answer.target
    names = (f"{source} -> {target}", f"{target} -> {source}")
    parts = []
    for name, before, after in zip(names, stand(earlier), stand(later), strict=True):
        if before != after:
            turned = before[0] == after[0]
            parts.append(
                f"{name} changes its sign"
                if turned
                else f"{name} goes from {before[0]} to {after[0]}"
            )
    if earlier.lead != later.lead and not parts:
        parts.append(lead_words(later.lead, source, target))
    return ", and ".join(parts)
