"""Ground truth: worlds with known parameters, and panels simulated from them.

`Dynamics` is the truth, with its analytic consequences; `simulate` draws a `SessionPanel` from it;
`Dropout`, `Gaps`, `GrowthCurve` and `Therapists` describe how clients, dates and levels behave.
`simulate_scores` is the array underneath, for studies that need no panel.
"""

from __future__ import annotations

from alliancedyn.simulate.dynamics import Dynamics
from alliancedyn.simulate.growth import GrowthCurve
from alliancedyn.simulate.observe import Dropout, Gaps, Therapists
from alliancedyn.simulate.panels import simulate
from alliancedyn.simulate.scores import simulate_scores

__all__ = [
    "Dropout",
    "Dynamics",
    "Gaps",
    "GrowthCurve",
    "Therapists",
    "simulate",
    "simulate_scores",
]
