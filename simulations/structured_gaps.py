"""Fit panels whose series are rated at every so many sessions, each series at its own.

    python simulations/structured_gaps.py [PANELS] [FIRST]

No fit may end below the best of twenty starting values without saying so. Prints those that do,
and exits with 1 if any did. `make studies` runs it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from rating_patterns import below_unsaid, random_panel

import alliancedyn as ad

FAMILIES = (
    ad.CLPM(means="equal"),
    ad.RICLPM(means="equal"),
    ad.MLSEM(direction="both"),
    ad.ContinuousTime(time="session"),
)
LEAST = 0.01  # log-likelihood that counts


def main(panels: int = 60, first: int = 0) -> int:
    """Draw, fit, and return how many ended too low in silence."""
    fits = wrong = 0
    for seed in range(first, first + panels):
        panel = random_panel(seed)
        for spec in FAMILIES:
            below = below_unsaid(spec, panel)
            fits += below is not None
            if below is not None and below > LEAST:
                wrong += 1
                print(f"panel {seed}, {spec.name}: {below:.2f} below the best of twenty starts")
    print(f"{panels} panels, {fits} fits: {wrong} ended too low in silence")
    return wrong


if __name__ == "__main__":
    sys.exit(main(*(int(one) for one in sys.argv[1:])) > 0)
