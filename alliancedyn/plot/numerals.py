"""Numbers and names as a figure can hold them: true minus signs, few places, short names."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from alliancedyn.results.estimate import places_for

__all__ = ["interval", "number", "places_for", "short", "with_end"]


def short(name: str, most: int) -> str:
    """Shorten a long name in its middle, where names of one kind differ least.

    The words of a figure (``alt_text``) have it in full.
    """
    if len(name) <= most:
        return name
    head = (most - 1) // 2
    return f"{name[:head]}…{name[head + 1 - most :]}"


def number(value: float, places: int = 2) -> str:
    """Write a number with fixed places and a true minus sign; a dash where there is none."""
    if not isfinite(value):
        return "–"
    text = f"{value:,.{places}f}"
    if not text.strip("-0.,"):
        text = text.lstrip("-")
    return text.replace("-", "−")


def interval(value: float, lower: float, upper: float, places: int | None = None) -> str:
    """Write an estimate with its interval: −0.12 [−0.19, −0.05].

    Two places, or as many more (up to six) as show how wide the interval is and keep a nonzero
    end of it from reading 0.
    """
    if not (isfinite(lower) and isfinite(upper)):
        return f"{number(value, places or 2)} [no interval]"
    if places is None:
        places = places_for(lower, upper)
    return f"{number(value, places)} [{number(lower, places)}, {number(upper, places)}]"


def with_end(name: str, higher: Mapping[str, str], most: int) -> str:
    """Name a score as the label of an axis, with what a higher one means where that is known."""
    end = f" (higher = {higher[name]})" if name in higher else ""
    return f"{short(name, most)}{end}"
