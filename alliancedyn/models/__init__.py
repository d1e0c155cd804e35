"""The model families: frozen specifications with one verb, ``fit``.

A family is a short function from named matrices to system matrices; everything else (the
likelihood, its maximum, standard errors, the result) is shared.
"""

from alliancedyn.models.crosslagged import CLPM, RICLPM

__all__ = ["CLPM", "RICLPM"]
