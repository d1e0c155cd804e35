"""What a study simulates from: a truth, and how it is seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from alliancedyn.errors import SpecificationError
from alliancedyn.simulate import Dynamics


class World(Protocol):
    """A truth with the way in which it is usually seen."""

    @property
    def truth(self) -> Dynamics:
        """What is true."""
        ...

    @property
    def observation(self) -> Mapping[str, Any]:
        """Arguments of `simulate` by name."""
        ...


def seen_from(world: Dynamics | World, given: Mapping[str, Any]) -> tuple[Dynamics, dict[str, Any]]:
    """Return the truth of a world and how it is seen; what is given goes before the world's own.

    Raises
    ------
    SpecificationError
        If it is no world.
    """
    own: dict[str, Any] = {}
    truth: Any = world
    if not isinstance(world, Dynamics):
        seen = getattr(world, "observation", None)  # a panel has a truth, and no way to be seen
        truth = getattr(world, "truth", None) if isinstance(seen, Mapping) else None
        own = dict(seen or {})
    if not isinstance(truth, Dynamics):
        raise SpecificationError(
            "truth must be a Dynamics, e.g. Dynamics.time_ordered(...), or a world, e.g. "
            'worlds.load("reciprocal").'
        )
    chosen = own | {name: value for name, value in given.items() if value is not None}
    return truth, {name: value for name, value in chosen.items() if value is not None}
