"""The first screen: which direction leads, each way and their difference, and who disagrees.

Nothing is decided here: states and leads are those of ``compare_directions``, words and counts
those of ``alliancedyn.causal``. Reduced and structural form stand side by side under their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from alliancedyn.causal import agreement, words
from alliancedyn.causal.words import capital
from alliancedyn.plot.numerals import interval
from alliancedyn.report.ladder import step
from alliancedyn.report.material import Material, is_detrended

if TYPE_CHECKING:
    from alliancedyn.causal import Directions
    from alliancedyn.causal.contrast import Contrast
    from alliancedyn.results import Estimate, Fit

MARKS = {"supported": "●", "practically zero": "○", "undetermined": "◐"}
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
    points: str
    strip: Strip | None


@dataclass(frozen=True)
class Reading:
    """Both paths and their difference in one form."""

    name: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Row:
    """The verdict of one model in one form."""

    form: str
    forward: str
    backward: str
    lead: str


@dataclass(frozen=True)
class Standing:
    """The verdict of one model, for the table of all of them."""

    label: str
    detrended: bool
    speaks: bool
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Verdict:
    """All of the first screen."""

    question: str
    headline: str
    model: str
    deck: tuple[str, ...]
    unit: str
    readings: tuple[Reading, ...]
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
            question=question,
            headline="No model gave a verdict",
            model=material.speaker,
            deck=(),
            unit="",
            readings=(),
            sentences=("None of the models has a verdict on direction; sections 4 and 9 say why.",),
            agree=True,
            agreement=(),
            standings=standings,
        )
    changed = _changes(material, answer)
    return Verdict(
        question=question,
        headline=_headline(material, answer),
        model=material.speaker,
        deck=_deck(material, answer),
        unit=_unit(answer),
        readings=_readings(answer),
        sentences=_sentences(answer),
        agree=not changed,
        agreement=changed or _unanimity(material),
        standings=standings,
        others=beside if ladder else (),
        chorus=_chorus(material, answer) if ladder else "",
    )


def arrows(text: str) -> str:
    """Draw the arrows of a sentence as a page has them."""
    return text.replace(" -> ", " → ")


# -- the headline -------------------------------------------------------------------------------


def _headline(material: Material, answer: Directions) -> str:
    if not material.fit.converged:
        return "No verdict: the model did not converge"
    return agreement.headline(answer, settled(material))


def settled(material: Material) -> dict[str, Directions]:
    """Return the verdicts of the ladder that rest on a maximum; of all models without a ladder."""
    return agreement.settled(material.directions, material.fits, material.ladder)


def _deck(material: Material, answer: Directions) -> tuple[str, ...]:
    """Say where the forms part, and in how many models each path is supported."""
    models = "models of the ladder" if material.beside else "models"
    found = agreement.counts(answer, settled(material), models)
    parted = agreement.both_forms(answer)
    return tuple(arrows(sentence) for sentence in (*([parted] if parted else []), *found))


# -- the lines ----------------------------------------------------------------------------------


def _readings(answer: Directions) -> tuple[Reading, ...]:
    """Lay out both paths and their difference in every form, on one scale."""
    reach = _reach(answer)
    return tuple(
        Reading(
            capital(words.form_name(form, answer.lag)),
            (
                _path(answer, one, reach, backward=False),
                _path(answer, one, reach, backward=True),
                _difference(answer, one, reach),
            ),
        )
        for form, one in answer.forms.items()
    )


def _path(answer: Directions, one: Contrast, reach: float, *, backward: bool) -> Answer:
    source, target = answer.source, answer.target
    path, raw, state, immediate = (
        one.forward,
        one.forward_raw,
        one.forward_state,
        one.forward_immediate,
    )
    if backward:
        source, target = target, source
        path, raw, state, immediate = (
            one.backward,
            one.backward_raw,
            one.backward_state,
            one.backward_immediate,
        )
    when = words.moments(answer.lag, immediate)
    return Answer(
        name=f"{source} → {target}",
        kind="backward" if backward else "forward",
        mark=MARKS[state],
        state=state,
        figures=figures(path),
        sentence=words.path_sentence(source, target, path, state, when, answer.higher),
        points=words.points_sentence(source, target, raw, when),
        strip=_strip(path, reach, answer.smallest_effect),
    )


def _difference(answer: Directions, one: Contrast, reach: float) -> Answer:
    gap = one.difference
    return Answer(
        name="Difference in size",
        kind="difference",
        mark="",
        state="",
        figures=figures(gap),
        sentence=f"{capital(words.lead_words(one.lead, answer.source, answer.target))}.",
        points="",
        strip=_strip(gap, reach, 0.0),
    )


def figures(estimate: Estimate) -> str:
    """Write an estimate with its interval."""
    return interval(estimate.value, estimate.lower, estimate.upper)


def _reach(answer: Directions) -> float:
    ends = [
        abs(end)
        for form in answer.forms.values()
        for one in (form.forward, form.backward, form.difference)
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
    return f"{words.units(answer.smallest_effect)} That band is shaded."


# -- sentences ----------------------------------------------------------------------------------


def _sentences(answer: Directions) -> tuple[str, ...]:
    """Say what a higher score means."""
    pair = (answer.source, answer.target)
    found = (
        words.good_ends(pair, answer.higher),
        words.unknown_ends(pair, answer.higher),
    )
    return tuple(sentence for sentence in found if sentence)


def _unanimity(material: Material) -> tuple[str, ...]:
    count = len(settled(material))
    of = " of the ladder" if material.beside else ""
    return (f"All {count} models{of} that converged give the same verdict.",) if count > 1 else ()


def _chorus(material: Material, mine: Directions) -> str:
    """Count the models beside the ladder that call both paths as the headline model does."""
    others = [material.directions[one] for one in material.beside if one in material.directions]
    if not others:
        return ""
    same = sum(
        all(
            agreement.stand(one.forms[form]) == agreement.stand(mine.forms[form])
            for form in one.forms
            if form in mine.forms
        )
        for one in others
    )
    return f"{same} of {len(others)} call both paths as {material.speaker} does"


def _changes(material: Material, answer: Directions) -> tuple[str, ...]:
    """Say at which steps of the ladder the answer changes."""
    return tuple(arrows(one) for one in changes(answer, settled(material), material.fits))


def changes(
    answer: Directions, answers: Mapping[str, Directions], fits: Mapping[str, Fit]
) -> tuple[str, ...]:
    """Say at which models the answer changes from the one before, and what they change."""
    found = agreement.changes(answer, answers)
    return tuple(
        f"{later}, where {step(earlier, fits[earlier], later, fits[later])}: {change}."
        for (earlier, later), change in found.items()
    )


def _standing(material: Material, label: str) -> Standing:
    answer = material.directions[label]
    converged = label in material.fits and material.fits[label].converged
    return Standing(
        label=label,
        detrended=is_detrended(label),
        speaks=label == material.speaker,
        rows=tuple(
            Row(
                form=words.SHORT[form],
                forward=_told(one.forward_state, one.forward),
                backward=_told(one.backward_state, one.backward),
                lead=capital(words.lead_words(one.lead, answer.source, answer.target))
                if converged
                else "did not converge",
            )
            for form, one in answer.forms.items()
        ),
    )


def _told(state: str, path: Estimate) -> str:
    unbroken = figures(path).replace(" ", "\N{NO-BREAK SPACE}")
    return f"{MARKS[state]} {state}, {unbroken}"
