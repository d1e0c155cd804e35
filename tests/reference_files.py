"""Readers of the reference panels and of the answers that other programs give on them.

Three lines serve most tests::

    Y, clients, therapist = panel_scores("crosslagged_missing")   # Y (N, T, 2): alliance, symptoms
    wide = to_wide(Y)                                              # (N, 2T), session-major
    peer = simulated("crosslagged_missing", "riclpm_equal")        # peer["fit"]["chisq"], ...
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

Array = NDArray[np.float64]

SIMULATED = Path(__file__).parent / "reference" / "simulated"
VARIABLES = ("alliance", "symptoms")


@functools.cache
def _parsed(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def simulated(case: str, name: str) -> dict[str, Any]:
    """Load one answer, e.g. ``simulated("crosslagged_missing", "riclpm_equal")``."""
    folder = SIMULATED / case
    if case != "likelihood_values":
        folder = folder / "fits"
    answer: dict[str, Any] = json.loads(_parsed(folder / f"{name}.json"))
    return answer


def simulated_names(case: str) -> list[str]:
    """Name every answer kept for a case, sorted."""
    return sorted(path.stem for path in (SIMULATED / case / "fits").glob("*.json"))


def estimates(peer: dict[str, Any]) -> dict[str, float]:
    """Return the canonical parameters of a lavaan or OpenMx answer as plain numbers."""
    return {
        name: float(value["estimate"] if isinstance(value, dict) else value)
        for name, value in peer["params"].items()
    }


def panel_frame(case: str, which: str = "panel") -> pd.DataFrame:
    """Return the long frame (``client``, ``session``, ...) of a panel, growth, ... file."""
    return pd.read_csv(SIMULATED / case / f"{which}_long.csv")


def panel_scores(
    case: str, which: str = "panel"
) -> tuple[Array, NDArray[np.int64], NDArray[np.int64] | None]:
    """Return scores ``(N, T, 2)`` (alliance, symptoms; NaN missing), clients, therapist codes."""
    wide = pd.read_csv(SIMULATED / case / f"{which}_wide.csv")
    sessions = sum(column.startswith("alliance_") for column in wide.columns)
    Y = np.stack(
        [
            wide[[f"{variable}_{t}" for t in range(1, sessions + 1)]].to_numpy(np.float64)
            for variable in VARIABLES
        ],
        axis=2,
    )
    therapist = wide["therapist"].to_numpy(np.int64) if "therapist" in wide else None
    return Y, wide["client"].to_numpy(np.int64), therapist


def to_wide(Y: Array) -> Array:
    """Lay scores ``(N, T, k)`` out session-major: ``(N, T k)``, session 1 first."""
    return np.ascontiguousarray(Y.reshape(len(Y), -1))


def published_dir() -> Path:
    """Return the folder of other people's data, or skip the test where it is absent."""
    named = os.environ.get("ALLIANCEDYN_REFERENCE")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip("no reference data: set ALLIANCEDYN_REFERENCE to the folder that holds them")
    return folder


def cases_dir() -> Path:
    """Return the folder of exports that went wrong once, or skip the test where it is absent."""
    named = os.environ.get("ALLIANCEDYN_CASES")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "cases"
    if not folder.is_dir():
        pytest.skip("no cases: set ALLIANCEDYN_CASES to the folder that holds them")
    return folder
