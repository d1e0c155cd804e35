"""The names of the series, the roles they play and when in the session they are scored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from alliancedyn.engine.names import label
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.panel.choices import USUAL_ROLES, pair

ROLES = ("client", "session", "therapist", "date", "day", "group", "site", "episode", "arm")
DEFAULT_TIMING = {"alliance": "after", "symptoms": "before"}


def series_names(names: Any) -> tuple[str, ...]:
    """Return ``names`` as a tuple of at least two distinct, non-empty strings."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise SpecificationError("variables must be a sequence of names, one per series.")
    names = tuple(names)
    if any(not isinstance(name, str) or not name for name in names):
        raise SpecificationError("variables must be non-empty strings.")
    for name in names:
        label("phi", name)  # refuses names that could not be told apart in a parameter name
    refuse_roles(names)
    if len(set(names)) < len(names):
        raise SpecificationError(
            f"variables repeat a name: {listed(names)}. Name each series once."
        )
    if len(names) < 2:
        raise SpecificationError("Dynamics needs at least two series: a process and an outcome.")
    return names


def refuse_roles(names: Iterable[str]) -> None:
    """Raise SpecificationError where a series or item has the name of a column of panels."""
    if taken := [name for name in names if name in ROLES]:
        raise SpecificationError(
            f"A series or item cannot be called {listed(taken)}: that is a column of every panel "
            "that has one. Choose another name."
        )


def roles(variables: tuple[str, ...]) -> tuple[str, str]:
    """Return process and outcome, by the rule of a panel that names none."""
    return pair(USUAL_ROLES["process"], USUAL_ROLES["outcome"], variables)


def session_timing(
    timing: Mapping[str, str] | None, variables: tuple[str, ...]
) -> Mapping[str, str]:
    """Return when each series is scored, in the order of ``variables``; unknown ones left out."""
    if timing is None:
        timing = {name: when for name, when in DEFAULT_TIMING.items() if name in variables}
    if not isinstance(timing, Mapping):
        raise SpecificationError('timing must name the series, e.g. {"alliance": "after"}.')
    unknown = [name for name in timing if name not in variables]
    if unknown:
        raise SpecificationError(f"timing names {listed(unknown)}, which are not among variables.")
    wrong = [name for name, when in timing.items() if when not in ("before", "after")]
    if wrong:
        raise SpecificationError(f'timing of {listed(wrong)} must be "before" or "after".')
    return MappingProxyType({name: timing[name] for name in variables if name in timing})
