"""Ground truth: worlds with known parameters, and panels simulated from them.

`Dynamics` is the truth, with its analytic consequences; `simulate` draws a `SessionPanel` from it.
`GrowthCurve`, `Innovations`, `Confounder`, `Covariate`, `Phase` and `Event` say what else happens
in a world; `Therapists`, `Groups`, `Gaps`, `Episodes`, `Items`, `Missing` and `Dropout` who the
clients are with, and how they are seen; `messy` writes a panel as an export with the usual flaws.
`simulate_scores` is the array underneath, for studies that need no panel.
"""

from __future__ import annotations

from alliancedyn.simulate.calendar import Episodes, Gaps
from alliancedyn.simulate.dynamics import Dynamics
from alliancedyn.simulate.features import Confounder, Covariate, Event, Innovations, Phase
from alliancedyn.simulate.groups import Groups
from alliancedyn.simulate.growth import GrowthCurve
from alliancedyn.simulate.items import Items
from alliancedyn.simulate.messy import Messy, messy
from alliancedyn.simulate.observe import Dropout, Missing
from alliancedyn.simulate.panels import simulate
from alliancedyn.simulate.scores import simulate_scores
from alliancedyn.simulate.therapists import Therapists

__all__ = [
    "Confounder",
    "Covariate",
    "Dropout",
    "Dynamics",
    "Episodes",
    "Event",
    "Gaps",
    "Groups",
    "GrowthCurve",
    "Innovations",
    "Items",
    "Messy",
    "Missing",
    "Phase",
    "Therapists",
    "messy",
    "simulate",
    "simulate_scores",
]
