"""Demonstrations whose answer is known: a world, a regression, what it returns and what is true.

Each is a function of its table in ``known_answers.toml`` and returns cells (`cell.Cell`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from demonstrations.cell import Cell
from demonstrations.lagged import (
    centering,
    gaps,
    reliability,
    same_session,
    stable_differences,
    unequal_reliability,
)
from demonstrations.leaving import dropout
from demonstrations.levels import group_part_whole, therapist_slope
from demonstrations.ruptures import rupture_alarms

DEMONSTRATIONS: dict[str, Callable[[dict[str, Any]], list[Cell]]] = {
    one.__name__: one
    for one in (
        same_session,
        stable_differences,
        centering,
        reliability,
        unequal_reliability,
        gaps,
        dropout,
        rupture_alarms,
        group_part_whole,
        therapist_slope,
    )
}
