"""Numbers as a reader expects them: a true minus sign, few places, an interval in brackets."""

from __future__ import annotations

from math import isfinite


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

    Two places, or as many more (up to six) as keep a nonzero end of the interval from reading 0.
    """
    if places is None:
        places = _places(lower, upper)
    if not (isfinite(lower) and isfinite(upper)):
        return f"{number(value, places)} [no interval]"
    return f"{number(value, places)} [{number(lower, places)}, {number(upper, places)}]"


def _places(*ends: float) -> int:
    smallest = min((abs(end) for end in ends if isfinite(end) and end != 0.0), default=1.0)
    places = 2
    while places < 6 and round(smallest, places) == 0.0:
        places += 1
    return places
