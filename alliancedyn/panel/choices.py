"""Which variable is the process, which the outcome, when each was rated, which end is good."""

from __future__ import annotations

from collections.abc import Sequence

from alliancedyn.panel.instruments import good_end
from alliancedyn.panel.issues import Issue, info, joined, warning
from alliancedyn.panel.mapping import PanelMapping

USUAL_ROLES = {"process": "alliance", "outcome": "symptoms"}
USUAL_TIMING = {"alliance": "after", "symptoms": "before"}


def choose_roles(mapping: PanelMapping) -> tuple[str, str, list[Issue]]:
    """Return process and outcome, and an issue if any of them was chosen by default.

    Returns
    -------
    process, outcome : str
    issues : list of Issue
    """
    names = list(mapping.variables)
    chosen = {"process": mapping.process, "outcome": mapping.outcome}
    for role in chosen:
        taken = [name for name in chosen.values() if name is not None]
        usual = USUAL_ROLES[role]
        if chosen[role] is None and usual in names and usual not in taken:
            chosen[role] = usual
    for role in chosen:
        if chosen[role] is None:
            chosen[role] = next(name for name in names if name not in chosen.values())
    process, outcome = str(chosen["process"]), str(chosen["outcome"])
    if mapping.process is not None and mapping.outcome is not None:
        return process, outcome, []
    said = f"By default {process!r} is the process and {outcome!r} the outcome. Pass "
    return process, outcome, [info("default-roles", f"{said}process= and outcome= to confirm.")]


def pair(process: str, outcome: str, among: Sequence[str]) -> tuple[str, str]:
    """Return process and outcome of a model that may have left some of the panel's series out.

    A role stays where the model has its series; else the usual name for it (alliance, symptoms)
    stands in, else the first other series of the model.

    Parameters
    ----------
    process, outcome : str
        The panel's roles.
    among : sequence of str
        The series of the model, at least one.

    Returns
    -------
    process, outcome : str
    """
    roles: list[str | None] = []
    for role, usual in zip((process, outcome), USUAL_ROLES.values(), strict=True):
        roles.append(next((name for name in (role, usual) if name in among), None))
    first, second = roles
    if first is None or first == second:
        first = next((name for name in among if name != second), among[0])
    if second is None:
        second = next((name for name in among if name != first), among[0])
    return first, second


def choose_timing(mapping: PanelMapping) -> tuple[dict[str, str], list[Issue]]:
    """Return when each variable was rated; a missing key means unknown.

    Only the names alliance and symptoms have a default, and an issue says that it was used.
    """
    timing, issues = dict(mapping.timing), []
    assumed = [name for name in mapping.variables if name in USUAL_TIMING and name not in timing]
    if assumed:
        timing |= {name: USUAL_TIMING[name] for name in assumed}
        listing = joined([f"{name!r} {USUAL_TIMING[name]}" for name in assumed])
        said = f"Timing was assumed from the names: {listing} the session. Pass timing= to confirm."
        issues.append(warning("default-timing", said, len(assumed)))
    timing = {name: when for name, when in timing.items() if when != "unknown"}
    unknown = [name for name in mapping.variables if name not in timing]
    if unknown:
        listing = joined([repr(name) for name in unknown])
        was = "was" if len(unknown) == 1 else "were"
        said = f"It is unknown whether {listing} {was} rated before or after the session; what "
        said += "needs that order is refused. Pass timing=."
        issues.append(warning("unknown-timing", said, len(unknown)))
    return {name: timing[name] for name in mapping.variables if name in timing}, issues


def choose_higher(mapping: PanelMapping) -> tuple[dict[str, str], list[Issue]]:
    """Return what a higher score of each variable means; a missing key means unknown.

    Nothing is taken from names. They only tell what to confirm, and what contradicts them.
    """
    higher = {name: word for name, word in mapping.higher.items() if word != "unknown"}
    hints = {name: expected_end(name, column) for name, column in mapping.variables.items()}
    issues = []
    unsaid = [name for name in mapping.variables if name not in higher]
    if unsaid:
        listing = joined([repr(name) for name in unsaid])
        lines = ", ".join(f'"{name}" = "{(hints[name] or ("?", ""))[0]}"' for name in unsaid[:3])
        reasons = [f"{hint[1]}: {hint[0]}" for name in unsaid if (hint := hints[name]) is not None]
        said = f"It is not said whether higher scores of {listing} are better or worse for the "
        said += f"client, so no result is called good or bad. Confirm and add: higher = {{{lines}}}"
        said += f" ({joined(reasons)} when higher)." if reasons else ' ("better" or "worse").'
        issues.append(warning("unknown-direction", said, len(unsaid)))
    for name, word in higher.items():
        hint = hints[name]
        if hint is not None and hint[0] != word:
            said = f"Higher scores of {name!r} are declared {word}, but {hint[1]} of column "
            said += f"{mapping.variables[name]!r} is {hint[0]} when higher. Check higher."
            issues.append(warning("contradicted-direction", said))
    return {name: higher[name] for name in mapping.variables if name in higher}, issues


def expected_end(name: str, column: str) -> tuple[str, str] | None:
    """Return the good end that the column's name suggests, else the variable's, and why."""
    return good_end(column) or good_end(name)
