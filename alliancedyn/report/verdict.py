"""The first screen: which direction leads, each way and their difference, and who disagrees.

Nothing is decided here: states and leads are those of ``compare_directions``. The same words serve
either direction, names exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import TYPE_CHECKING

from alliancedyn.plot.numerals import interval, number
from alliancedyn.report.ladder import step
from alliancedyn.report.material import USUAL, Material, is_detrended

if TYPE_CHECKING:
    from alliancedyn.causal import Directions
    from alliancedyn.results import Estimate

MARKS = {"supported": "●", "practically zero": "○", "undetermined": "◐"}
BASES = {
    "reduced": "from one session to the next (reduced form)",
    "structural": "in the order in which the scores are taken (structural form)",
}
_WIDTH, _MARGIN = 260.0, 8.0


@dataclass(frozen=True)
class Strip:
    """Where an interval lies on a small scale, in pixels of a drawing 260 wide."""

    point: float
    lower: float
    upper: float
    zero: float
    band_from: float
    band_to: float


@dataclass(frozen=True)
class Answer:
    """One line of the verdict."""

    name: str
    kind: str
    mark: str
    state: str
    figures: str
    sentence: str
    strip: Strip | None


@dataclass(frozen=True)
class Standing:
    """The verdict of one model, for the table of all of them."""

    label: str
    detrended: bool
    speaks: bool
    converged: bool
    forward: str
    backward: str
    lead: str


@dataclass(frozen=True)
class Verdict:
    """All of the first screen."""

    question: str
    headline: str
    model: str
    deck: str
    basis: str
    unit: str
    answers: tuple[Answer, ...]
    sentences: tuple[str, ...]
    agree: bool
    agreement: tuple[str, ...]
    standings: tuple[Standing, ...]
    others: tuple[Standing, ...] = ()
    chorus: str = ""


def conclude(material: Material) -> Verdict:
    """Put the verdict of the headline model first, and beside it those of all others."""
    process, outcome = material.fit.process, material.fit.outcome
    question = f"Which moves first, {process} or {outcome}?"
    ladder, beside = (
        tuple(_standing(material, label) for label in labels if label in material.directions)
        for labels in (material.ladder, material.beside)
    )
    standings = ladder or beside
    answer = material.directions.get(material.speaker)
    if answer is None:
        return Verdict(
            question,
            "No model gave a verdict",
            material.speaker,
            "",
            "",
            "",
            (),
            ("None of the models has a verdict on direction; sections 4 and 9 say why.",),
            True,
            (),
            standings,
        )
    changes = _changes(material)
    return Verdict(
        question=question,
        headline=_headline(material, answer),
        model=material.speaker,
        deck=_deck(material),
        basis=_basis(material, answer.basis),
        unit=_unit(answer),
        answers=_answers(answer),
        sentences=_sentences(answer),
        agree=not changes,
        agreement=changes or _unanimity(material),
        standings=standings,
        others=beside if ladder else (),
        chorus=_chorus(material) if ladder else "",
    )


def _basis(material: Material, basis: str) -> str:
    if basis == "reduced" and not material.lag.startswith(USUAL):
        return f"over {material.lag} (reduced form)"
    return BASES.get(basis, basis)


def capital(text: str) -> str:
    """Return ``text`` with its first letter large and the rest as it was."""
    return text[:1].upper() + text[1:]


# -- the headline -------------------------------------------------------------------------------


def _headline(material: Material, answer: Directions) -> str:
    if not material.fit.converged:
        return "No verdict: the model did not converge"
    dispute = _dispute(material)
    return dispute or lead_words(answer.lead, answer.source, answer.target)


def lead_words(lead: str, source: str, target: str) -> str:
    """Say a lead in a few words."""
    return {
        "forward": f"The stronger path runs from {source} to {target}",
        "backward": f"The stronger path runs from {target} to {source}",
        "both": "Each predicts the other; neither path is clearly the stronger",
        "neither": "Neither predicts the other to an extent that matters",
        "depends": "The answer depends on how time is read",
    }.get(lead, "These data do not settle which leads")


def _dispute(material: Material) -> str:
    """Say in a headline that converged models disagree; empty if they do not."""
    answers = list(_settled(material).values())
    forward = {_stand(one.forward, one.forward_state) for one in answers}
    backward = {_stand(one.backward, one.backward_state) for one in answers}
    if len(forward) > 1 or len(backward) > 1:
        return "The answer depends on the model"
    if len({answer.lead for answer in answers}) < 2:
        return ""
    return _shared_words(answers[0])


def _shared_words(answer: Directions) -> str:
    """Say what models share that agree on each path but not on which is the stronger."""
    forward, backward = (
        state == "supported" for state in (answer.forward_state, answer.backward_state)
    )
    if forward and backward:
        return "Each predicts the other; which path is the stronger depends on the model"
    if not (forward or backward):
        return "The answer depends on the model"
    source, target = answer.source, answer.target
    if backward:
        source, target = target, source
    return (
        f"In every model {source} predicts {target}; whether more than the reverse depends "
        "on the model"
    )


def _stand(one: Estimate, state: str) -> tuple[str, bool]:
    """Return a state, with the sign where it is one that matters."""
    return state, state == "supported" and one.value > 0


def _settled(material: Material) -> dict[str, Directions]:
    """Return the verdicts of the ladder that rest on a maximum; of all models without a ladder."""
    found = {
        label: answer
        for label, answer in material.directions.items()
        if label in material.fits and material.fits[label].converged
    }
    return {label: answer for label, answer in found.items() if label in material.ladder} or found


def _deck(material: Material) -> str:
    """Count in how many models each direction is supported, where there are several."""
    answers = list(_settled(material).values())
    if len(answers) < 2:
        return ""
    source, target, total = answers[0].source, answers[0].target, len(answers)
    forward = sum(answer.forward_state == "supported" for answer in answers)
    backward = sum(answer.backward_state == "supported" for answer in answers)
    return (
        f"Supported: {source} → {target} in {forward} of {total} models"
        f"{' of the ladder' if material.beside else ''}, "
        f"{target} → {source} in {backward} of {total}."
    )


# -- the lines ----------------------------------------------------------------------------------


def _answers(answer: Directions) -> tuple[Answer, ...]:
    source, target = answer.source, answer.target
    contrast = answer.by_basis.get(answer.basis)
    reach = _reach(answer)
    forward = _sentence(
        source,
        target,
        answer.forward,
        answer.forward_state,
        contrast is not None and contrast.forward_immediate,
    )
    backward = _sentence(
        target,
        source,
        answer.backward,
        answer.backward_state,
        contrast is not None and contrast.backward_immediate,
    )
    gap, band = answer.difference, answer.smallest_effect
    return (
        _line(
            "forward",
            f"{source} → {target}",
            answer.forward,
            answer.forward_state,
            forward,
            _strip(answer.forward, reach, band),
        ),
        _line(
            "backward",
            f"{target} → {source}",
            answer.backward,
            answer.backward_state,
            backward,
            _strip(answer.backward, reach, band),
        ),
        _line(
            "difference",
            "Difference in size",
            gap,
            "",
            _gap_sentence(gap, source, target),
            _strip(gap, reach, 0.0),
        ),
    )


def _line(
    kind: str, name: str, one: Estimate, state: str, sentence: str, strip: Strip | None
) -> Answer:
    return Answer(name, kind, MARKS.get(state, ""), state, figures(one), sentence, strip)


def figures(estimate: Estimate) -> str:
    """Write an estimate with its interval."""
    return interval(estimate.value, estimate.lower, estimate.upper)


def _sentence(source: str, target: str, one: Estimate, state: str, immediate: bool) -> str:
    first, then = (
        ("before a session", "after it") if immediate else ("at one session", "at the next")
    )
    if not isfinite(one.lower):
        return f"Whether {source} {first} predicts {target} {then} cannot be said: no interval."
    if state == "practically zero":
        return f"Hardly anything in {target} {then} is predicted by {source} {first}."
    if state == "supported":
        way = "higher" if one.value > 0 else "lower"
        return f"Higher {source} {first} precedes {way} {target} {then}."
    return f"Whether {source} {first} predicts {target} {then} is undetermined."


def _gap_sentence(gap: Estimate, source: str, target: str) -> str:
    if not isfinite(gap.lower):
        return "Which of the two is larger cannot be said: no interval."
    if gap.lower > 0:
        return f"The larger of the two is {source} → {target}."
    if gap.upper < 0:
        return f"The larger of the two is {target} → {source}."
    return "Which of the two is larger is not settled: the interval includes zero."


def _reach(answer: Directions) -> float:
    ends = [
        abs(end)
        for one in (answer.forward, answer.backward, answer.difference)
        for end in (one.value, one.lower, one.upper)
        if isfinite(end)
    ]
    return max([2.0 * answer.smallest_effect, 1e-9, *ends]) * 1.08


def _strip(one: Estimate, reach: float, band: float) -> Strip | None:
    if not (isfinite(one.lower) and isfinite(one.upper)):
        return None

    def place(value: float) -> float:
        half = _WIDTH / 2
        return round(half + value / reach * (half - _MARGIN), 1)

    return Strip(
        place(one.value),
        place(one.lower),
        place(one.upper),
        place(0.0),
        place(-band),
        place(band),
    )


def _unit(answer: Directions) -> str:
    band = number(answer.smallest_effect, 2)
    return (
        "Within-client standard deviations of the later score per standard deviation of the "
        f"earlier, with 95% intervals. The shaded band, ±{band}, is too small to matter."
    )


# -- sentences ----------------------------------------------------------------------------------


def _sentences(answer: Directions) -> tuple[str, ...]:
    """Say where the two readings of time part, if they do."""
    if answer.lead != "depends":
        return ()
    source, target = answer.source, answer.target
    each = [
        f"read {BASES[name]}, {_lower(lead_words(one.lead, source, target))}"
        for name, one in answer.by_basis.items()
    ]
    return (f"{capital('; '.join(each))}. Section 6 shows both readings.",)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _unanimity(material: Material) -> tuple[str, ...]:
    count = len(_settled(material))
    of = " of the ladder" if material.beside else ""
    return (f"All {count} models{of} that converged give the same verdict.",) if count > 1 else ()


def _chorus(material: Material) -> str:
    """Count the models beside the ladder that call both paths as the headline model does."""
    mine = material.directions[material.speaker]
    others = [material.directions[one] for one in material.beside if one in material.directions]
    if not others:
        return ""
    stand = (_stand(mine.forward, mine.forward_state), _stand(mine.backward, mine.backward_state))
    same = sum(
        (_stand(one.forward, one.forward_state), _stand(one.backward, one.backward_state)) == stand
        for one in others
    )
    return f"{same} of {len(others)} call both paths as {material.speaker} does"


def _changes(material: Material) -> tuple[str, ...]:
    """Say at which steps of the ladder the answer changes."""
    answers = _settled(material)
    labels = list(answers)
    changes = []
    for earlier, later in pairwise(labels):
        changed = _changed(answers[earlier], answers[later])
        if changed:
            why = step(earlier, material.fits[earlier], later, material.fits[later])
            changes.append(f"{later}, where {why}: {changed}.")
    return tuple(changes)


def _changed(earlier: Directions, later: Directions) -> str:
    source, target = earlier.source, earlier.target
    parts = []
    for name, before, after in (
        (
            f"{source} → {target}",
            _stand(earlier.forward, earlier.forward_state),
            _stand(later.forward, later.forward_state),
        ),
        (
            f"{target} → {source}",
            _stand(earlier.backward, earlier.backward_state),
            _stand(later.backward, later.backward_state),
        ),
    ):
        if before != after:
            turned = before[0] == after[0]
            parts.append(
                f"{name} changes its sign"
                if turned
                else f"{name} goes from {before[0]} to {after[0]}"
            )
    if earlier.lead != later.lead and not parts:
        parts.append(_lower(lead_words(later.lead, source, target)))
    return ", and ".join(parts)


def _standing(material: Material, label: str) -> Standing:
    answer = material.directions[label]
    converged = label in material.fits and material.fits[label].converged
    return Standing(
        label=label,
        detrended=is_detrended(label),
        speaks=label == material.speaker,
        converged=converged,
        forward=f"{MARKS[answer.forward_state]} {answer.forward_state}",
        backward=f"{MARKS[answer.backward_state]} {answer.backward_state}",
        lead=lead_words(answer.lead, answer.source, answer.target)
        if converged
        else "did not converge",
    )
