"""Named worlds: presets of a truth and of how it is seen, each a TOML file with its source.

Every world is *plausible*: its size and shape are chosen so that a method can be tried on it, not
estimated from data. The one coefficient that was read in a published abstract says so in its note.

Examples
--------
>>> import alliancedyn as ad
>>> world = ad.worlds.load("reciprocal")
>>> panel = world.simulate(seed=1)
>>> world.truth.effect("alliance", "symptoms")
-0.12
"""

from __future__ import annotations

from pathlib import Path

from alliancedyn.checking import checked
from alliancedyn.errors import SpecificationError, listed, nearest
from alliancedyn.worlds.read import World, read

_PRESETS = Path(__file__).resolve().parent / "presets"

__all__ = ["World", "load", "names", "path", "read"]


@checked
def names() -> list[str]:
    """Return the names of the worlds, in alphabetical order."""
    return sorted(file.stem for file in _PRESETS.glob("*.toml"))


@checked
def path(name: str) -> Path:
    """Return where the TOML file of a world lies: a template for your own.

    Raises
    ------
    SpecificationError
        If there is no such world.
    """
    if name not in names():
        raise SpecificationError(
            f"There is no world {name!r}. Use one of {listed(names(), len(names()))}, or read your "
            f"own file with worlds.read(path).{nearest(name, names())}"
        )
    return _PRESETS / f"{name}.toml"


@checked
def load(name: str) -> World:
    """Read a world by name.

    Parameters
    ----------
    name : str
        One of `names`.

    Returns
    -------
    World

    Raises
    ------
    SpecificationError
        If there is no such world.
    """
    return read(path(name))
