"""Draw the figure of the README from the bundled example: that of the demo itself.

Run with ``python simulations/readme_figure.py``; it writes docs/images/demo.png.
"""

from __future__ import annotations

from pathlib import Path

import alliancedyn as ad
from alliancedyn import plot
from alliancedyn.studies import analyze

TARGET = Path(__file__).resolve().parent.parent / "docs" / "images" / "demo.png"


def draw(target: Path = TARGET) -> Path:
    """Fit the models of the demo and draw both paths of each, in both forms."""
    found = analyze(ad.datasets.load("example"))
    axes = plot.model_forest(found.comparison, process="alliance", outcome="symptoms")
    target.parent.mkdir(parents=True, exist_ok=True)
    return plot.save(axes, target)


if __name__ == "__main__":
    print(draw())
