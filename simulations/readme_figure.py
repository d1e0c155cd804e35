"""Draw the figure of the README from the bundled example: both directions in every model.

Run with ``python simulations/readme_figure.py``; it writes docs/images/demo.png.
"""

from __future__ import annotations

from pathlib import Path

import alliancedyn as ad
from alliancedyn import plot

TARGET = Path(__file__).resolve().parent.parent / "docs" / "images" / "demo.png"


def draw(target: Path = TARGET) -> Path:
    """Fit the models of the demo and draw the two directions of each, in time order."""
    panel = ad.datasets.load("example")
    fits = {
        "CLPM, equal means": ad.CLPM(means="equal").fit(panel),
        "CLPM, session means": ad.CLPM().fit(panel),
        "RI-CLPM, session means": ad.RICLPM().fit(panel),
        "LCM-SR, session means": ad.LCMSR(means="free").fit(panel, strict=False),
    }
    axes = plot.direction_forest({label: ad.compare_directions(fit) for label, fit in fits.items()})
    target.parent.mkdir(parents=True, exist_ok=True)
    return plot.save(axes, target)


if __name__ == "__main__":
    print(draw())
