"""Many fits, read together: the ladder of models that an analysis climbs.

A study decides which models are asked and keeps what each of them answered, refusals included.
It estimates nothing itself.
"""

from __future__ import annotations

from alliancedyn.studies.analysis import Analysis, Progress, analyze, refusals
from alliancedyn.studies.families import BAYES, DEFAULT, FAMILIES, Family, choices, chosen
from alliancedyn.studies.grouped import GroupComparison
from alliancedyn.studies.steps import Step
from alliancedyn.studies.window import well_seen

__all__ = [
    "BAYES",
    "DEFAULT",
    "FAMILIES",
    "Analysis",
    "Family",
    "GroupComparison",
    "Progress",
    "Step",
    "analyze",
    "choices",
    "chosen",
    "refusals",
    "well_seen",
]
