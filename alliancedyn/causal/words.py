"""The words of a verdict, one set for the terminal, the report and every figure.

A path "predicts" or "precedes". The same words serve either direction, names exchanged. Where it
is known whether a higher score is better or worse, a sentence says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite

from alliancedyn.causal.compare import FORMS
from alliancedyn.causal.contrast import Contrast
from alliancedyn.results import LEVEL, Estimate
from alliancedyn.results.estimate import places_for

SHORT = {"structural": "time order", "reduced": "session to session"}
USUAL = "1 session"  # the lag of a lagged path where nothing else is said


def capital(text: str) -> str:
    """Return ``text`` with its first letter large and the rest as it was."""
    return text[:1].upper() + text[1:]


def form_name(form: str, lag: str = USUAL) -> str:
    """Name a form: what its paths span, and what the field calls it."""
    if form == "structural":
        return "in time order (structural form)"
    if lag.startswith(USUAL):
        return "from one session to the next (reduced form)"
    return f"over {lag} (reduced form)"


def forms_of(by_basis: Mapping[str, Contrast]) -> dict[str, Contrast]:
    """Return the contrasts in the order in which they are shown."""
    return {form: by_basis[form] for form in FORMS if form in by_basis}


def moments(lag: str, immediate: bool) -> tuple[str, str]:
    """Say when the earlier and the later score of a path are."""
    if immediate:
        return "before a session", "after it"
    if lag.endswith(("day", "days")):
        return "at one moment", f"{lag} later"
    return "at one session", "at the next"


def path_sentence(
    source: str,
    target: str,
    path: Estimate,
    state: str,
    when: tuple[str, str],
    higher: Mapping[str, str],
) -> str:
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
        return (
            f"{capital(_which(source, True, 'score', higher))} {first} precedes "
            f"{_which(target, path.value > 0, 'one', higher)} {then}."
        )
    return f"Whether the score of {source} {first} predicts {target} {then} is undetermined."


def _which(name: str, up: bool, noun: str, higher: Mapping[str, str]) -> str:
    """Name a higher or lower score, by what it means where that is known."""
    word = "higher" if up else "lower"
    if name not in higher:
        return f"a {word} {noun} of {name}"
    good = (higher[name] == "better") is up
    return f"a {'better' if good else 'worse'} {noun} of {name} ({word})"


def points_sentence(source: str, target: str, raw: Estimate, when: tuple[str, str]) -> str:
    """Say a path in score points."""
    first, then = when
    if not (isfinite(raw.lower) and isfinite(raw.upper)):
        return ""
    places = places_for(raw.lower, raw.upper)
    low, high = (_points(end, places) for end in (raw.lower, raw.upper))
    if raw.lower * raw.upper > 0.0:  # one side: the smaller first, and the word once
        ends = sorted((abs(raw.lower), abs(raw.upper)))
        span = f"{ends[0]:,.{places}f} to {ends[1]:,.{places}f} {_side(raw.value)}"
    else:
        span = f"{low} to {high}"
    size = f"{abs(raw.value):,.{places}f}"
    points = "point" if float(size.replace(",", "")) == 1.0 else "points"
    return (
        f"One point more of {source} {first} goes with {size} {points} {_side(raw.value)} of "
        f"{target} {then} ({LEVEL:.0%} interval: {span})."
    )


def _side(value: float) -> str:
    return "more" if value > 0.0 else "less"


def _points(end: float, places: int) -> str:
    return f"{abs(end):,.{places}f} {_side(end)}"


def lead_words(lead: str, source: str, target: str) -> str:
    """Say a lead in a few words."""
    return {
        "forward": f"the stronger path runs from {source} to {target}",
        "backward": f"the stronger path runs from {target} to {source}",
        "both": "each predicts the other, and neither path is clearly the stronger",
        "neither": "neither predicts the other to an extent that matters",
    }.get(lead, "which of the two leads is undetermined")


def lead_sentence(
    source: str, target: str, lead: str, contrasts: Mapping[str, Contrast], lag: str
) -> str:
    """Say which leads; where the forms say different things, what each of them says."""
    if lead != "depends":
        return f"{capital(lead_words(lead, source, target))}."
    each = [
        f"{form_name(form, lag)}, {lead_words(one.lead, source, target)}"
        for form, one in forms_of(contrasts).items()
    ]
    return f"{capital('; '.join(each))}."


def good_ends(names: Iterable[str], higher: Mapping[str, str]) -> str:
    """Say what a higher score of each series means, as far as that is known."""
    known = [f"higher {name} is {higher[name]}" for name in names if name in higher]
    return f"{capital(', '.join(known))}." if known else ""


def unknown_ends(names: Iterable[str], higher: Mapping[str, str]) -> str:
    """Say which series have no good end set, and how to set it; empty if all have."""
    unknown = [name for name in names if name not in higher]
    if not unknown:
        return ""
    example = ", ".join(f'{name} = "better"' for name in unknown)
    return (
        f"Whether a higher score of {' or '.join(unknown)} is better or worse is not set: read the "
        f'signs with care. Set it in the mapping, under [higher]: {example}, or "worse".'
    )


def convention(smallest_effect: float) -> str:
    """Say what is too small to matter, and that this is a convention."""
    return (
        f"Practically zero: the interval lies within {smallest_effect:g} within-client SDs of "
        "zero, by convention the smallest size that matters."
    )


def units(smallest_effect: float) -> str:
    """Say what the numbers of a verdict are measured in, and what counts as zero."""
    return (
        f"Within-client SDs of the later score per within-client SD of the earlier, {LEVEL:.0%} "
        f"intervals. {convention(smallest_effect)} Another is chosen with --smallest-effect."
    )
