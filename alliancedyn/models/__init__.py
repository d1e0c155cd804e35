"""The model families: frozen specifications with one verb, ``fit``.

A state-space family is a short function from named matrices to system matrices; everything else
(the likelihood, its maximum, standard errors, the result) is shared. A regression family estimates
an equation for each direction from plain arrays; :mod:`alliancedyn.models.equations` joins them.
"""

from alliancedyn.models.continuous_time import ContinuousTime
from alliancedyn.models.crosslagged import CLPM, RICLPM, STARTS
from alliancedyn.models.dsem import DSEM
from alliancedyn.models.dynamic_panel import DynamicPanelGMM
from alliancedyn.models.fixed_effects import FixedEffects
from alliancedyn.models.gclm import GCLM
from alliancedyn.models.growth import ALT, LCMSR, LatentChange
from alliancedyn.models.mlsem import MLSEM
from alliancedyn.models.regression import Regression
from alliancedyn.models.specification import Specification
from alliancedyn.models.within_between import WithinBetween

__all__ = [
    "ALT",
    "CLPM",
    "DSEM",
    "GCLM",
    "LCMSR",
    "MLSEM",
    "RICLPM",
    "STARTS",
    "ContinuousTime",
    "DynamicPanelGMM",
    "FixedEffects",
    "LatentChange",
    "Regression",
    "Specification",
    "WithinBetween",
]
