"""The same model in the words of lavaan and Mplus, with the same parameters under their names.

A specification is first spelled out as paths (:mod:`alliancedyn.syntax.families`, from the pieces
in :mod:`alliancedyn.syntax.pieces`) and then written in the grammar of either program. Which
parameters exist, which are shared by sessions or groups and what they are called is asked of the
specification itself, so that a text can never say less than the fit.
"""

from alliancedyn.syntax.export import (
    PROGRAMS,
    export_syntax,
    labels,
    wide_data,
    write_syntax,
)
from alliancedyn.syntax.families import FAMILIES

__all__ = ["FAMILIES", "PROGRAMS", "export_syntax", "labels", "wide_data", "write_syntax"]
