"""A world as a file: the truth, how it is seen, how many clients, and where the idea comes from.

The file holds the arguments of `Dynamics` (or a table ``[time_ordered]`` or ``[continuous]`` with
those of its constructors), beside them those of `simulate`, and a table ``[about]``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from alliancedyn.checking import checked
from alliancedyn.errors import DataError, SpecificationError, listed
from alliancedyn.panel import SessionPanel
from alliancedyn.panel.source import LARGEST_TOML, parse_toml, read_bytes
from alliancedyn.simulate import (
    Confounder,
    Covariate,
    Dropout,
    Dynamics,
    Episodes,
    Event,
    Gaps,
    Groups,
    GrowthCurve,
    Innovations,
    Items,
    Missing,
    Phase,
    Therapists,
    simulate,
)

OBSERVATION: dict[str, Any] = {
    "therapists": Therapists,
    "groups": Groups,
    "dropout": Dropout,
    "missing": Missing,
    "gaps": Gaps,
    "episodes": Episodes,
    "items": Items,
    "ceiling": None,
    "start": None,
}
PARTS: dict[str, Any] = {
    "trend": GrowthCurve,
    "innovations": Innovations,
    "confounder": Confounder,
    "covariates": Covariate,
    "phases": Phase,
    "events": Event,
}
ABOUT = ("title", "source", "evidence", "note", "clients", "sessions")
EVIDENCE = ("plausible", "empirical")


@checked
@dataclass(frozen=True)
class World:
    """A truth, and the clients, sessions and flaws with which it is usually seen.

    Parameters
    ----------
    name : str
    truth : Dynamics
    observation : mapping
        Arguments of `simulate` beside the truth and the numbers of clients and sessions.
    clients, sessions : int
        Numbers used unless others are asked for.
    title, source, note : str
        What happens in it, where the idea comes from, what to keep in mind.
    evidence : "plausible" or "empirical"
        Whether its figures were chosen or estimated.
    """

    name: str
    truth: Dynamics
    observation: Mapping[str, Any] = field(default_factory=dict)
    clients: int = 200
    sessions: int = 12
    title: str = ""
    source: str = ""
    evidence: str = "plausible"
    note: str = ""

    @checked
    def simulate(
        self,
        clients: int | None = None,
        sessions: int | None = None,
        *,
        seed: int | np.random.SeedSequence | None = None,
    ) -> SessionPanel:
        """Simulate a panel from this world, seen as it is usually seen.

        Parameters
        ----------
        clients, sessions : int, optional
            None: those of the world.
        seed : int or SeedSequence, optional
            None: a new panel each time.

        Returns
        -------
        SessionPanel
        """
        return simulate(
            self.truth,
            self.clients if clients is None else clients,
            self.sessions if sessions is None else sessions,
            seed=seed,
            **self.observation,
        )

    def __str__(self) -> str:
        lines = [f"{self.name} ({self.evidence}): {self.title}", f"Source: {self.source}"]
        return "\n".join([*lines, self.note] if self.note else lines)

    def __hash__(self) -> int:
        return hash((self.name, self.truth, self.clients, self.sessions))

    def __reduce__(self) -> tuple[Any, ...]:
        values = [getattr(self, one.name) for one in fields(self)]
        values[2] = dict(self.observation)
        return type(self), tuple(values)


@checked
def read(path: str | Path) -> World:
    """Read a world from a TOML file.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    World

    Raises
    ------
    SpecificationError
        If it cannot be read, has a key that means nothing, or describes an impossible world.
    """
    path = Path(path)
    said = _toml(path)
    about = said.pop("about", {})
    unknown = [key for key in about if key not in ABOUT] if isinstance(about, dict) else ["about"]
    if unknown:
        raise SpecificationError(f"{listed(unknown)} means nothing in [about] of {path.name!r}.")
    if about.get("evidence", "plausible") not in EVIDENCE:
        raise SpecificationError(f"evidence of {path.name!r} must be one of {listed(EVIDENCE)}.")
    seen = {key: _seen(key, said.pop(key)) for key in OBSERVATION if key in said}
    return World(path.stem, _truth(said), MappingProxyType(seen), **about)


def _truth(said: dict[str, Any]) -> Dynamics:
    parts = {key: _part(PARTS[key], said.pop(key), key) for key in PARTS if key in said}
    if "time_ordered" in said:
        return _built(Dynamics.time_ordered, "time_ordered", said, parts)
    if "continuous" in said:
        return _built(Dynamics.continuous, "continuous", said, parts)
    return _part(Dynamics, said | parts, "the world")


def _built(
    build: Callable[..., Dynamics], key: str, said: dict[str, Any], parts: dict[str, Any]
) -> Dynamics:
    """Return the truth of a constructor, with what the class can hold beside it."""
    given = _table(said.pop(key), key)
    _refuse_unknown(said, Dynamics, "the world")
    passed = ["between_cov", "mean"]
    if key == "time_ordered":
        passed += ["variables", "reliability"]
    first = {name: said.pop(name) for name in passed if name in said}
    truth = _called(build, {**given, **first}, key)
    return replace(truth, **said, **parts)


def _seen(key: str, value: Any) -> Any:
    kind = OBSERVATION[key]
    if key == "items":
        return {name: _part(Items, one, key) for name, one in _table(value, key).items()}
    if kind is None or (key == "missing" and not isinstance(value, dict)):
        return value
    return _part(kind, value, key)


def _part(kind: Any, said: Any, where: str) -> Any:
    if isinstance(said, list):
        return tuple(_part(kind, one, where) for one in said)
    _refuse_unknown(_table(said, where), kind, where)
    return _called(kind, said, where)


def _table(said: Any, where: str) -> dict[str, Any]:
    if not isinstance(said, dict):
        raise SpecificationError(f"{where} must be a table of values, not {said!r}.")
    return said


def _refuse_unknown(said: dict[str, Any], kind: Any, where: str) -> None:
    known = [one.name for one in fields(kind)]
    unknown = [key for key in said if key not in known]
    if unknown:
        extra = f", {', '.join(OBSERVATION)}, about" if kind is Dynamics else ""
        raise SpecificationError(
            f"{listed(unknown)} means nothing in {where}. Known: {', '.join(known)}{extra}."
        )


def _called(function: Callable[..., Any], said: dict[str, Any], where: str) -> Any:
    try:
        return function(**said)
    except SpecificationError as problem:
        raise SpecificationError(f"{where}: {problem}") from None


def _toml(path: Path) -> dict[str, Any]:
    try:
        raw = read_bytes(path, LARGEST_TOML)
    except FileNotFoundError:
        raise SpecificationError(
            f"There is no file {path.name!r}. Give a TOML file with phi, innovation_cov, "
            "between_cov and mean, or the name of a world to worlds.load(name)."
        ) from None
    except DataError as problem:  # a folder, or nothing that may be read
        raise SpecificationError(f"The world cannot be read: {problem}") from None
    try:
        return parse_toml(raw)
    except ValueError as problem:
        raise SpecificationError(
            f"The world {path.name!r} is no readable TOML: {problem}. Correct that line."
        ) from None
