"""The model families: frozen specifications with one verb, ``fit``.

A family is a short function from named matrices to system matrices; everything else (the
likelihood, its maximum, standard errors, the result) is shared.
"""

from alliancedyn.models.continuous_time import ContinuousTime
from alliancedyn.models.crosslagged import CLPM, RICLPM, STARTS
from alliancedyn.models.gclm import GCLM
from alliancedyn.models.growth import ALT, LCMSR, LatentChange
from alliancedyn.models.specification import Specification

__all__ = [
    "ALT",
    "CLPM",
    "GCLM",
    "LCMSR",
    "RICLPM",
    "STARTS",
    "ContinuousTime",
    "LatentChange",
    "Specification",
]
