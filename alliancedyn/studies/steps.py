"""Does a step of the ladder find something? Tests of each rung against the one it contains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alliancedyn.causal.boundary import BoundaryTest, boundary_test
from alliancedyn.causal.nested import LikelihoodRatio, likelihood_ratio, probability
from alliancedyn.errors import AllianceDynError
from alliancedyn.results import Fit
from alliancedyn.studies.families import FAMILIES

# The restricted model, the general one, and whether what is added are variances.
STEPS = (
    ("clpm-equal-means", "clpm", False),
    ("clpm", "ri-clpm", True),
    ("ri-clpm-equal-means", "ri-clpm", False),
    ("ri-clpm", "lcm-sr", True),
)


@dataclass(frozen=True)
class Step:
    """What a model adds to one that it contains.

    Parameters
    ----------
    earlier, later : str
        Labels of the restricted and of the general model.
    bic_change : float
        BIC of the general less that of the restricted model: negative speaks for the general.
    test : LikelihoodRatio, BoundaryTest or None
        Of what is added, None if it could not be tested.
    text : str
        Both in a few words.
    """

    earlier: str
    later: str
    bic_change: float
    test: LikelihoodRatio | BoundaryTest | None
    text: str


def steps_between(fits: Mapping[str, Fit]) -> tuple[Step, ...]:
    """Test every step between two models of the ladder that were both fitted.

    Parameters
    ----------
    fits : mapping of str to Fit
        By label; they hold their data.
    """
    found = []
    for first, second, variances in STEPS:
        earlier, later = FAMILIES[first].label, FAMILIES[second].label
        if earlier in fits and later in fits:
            found.append(_step(earlier, later, fits[earlier], fits[later], variances))
    return tuple(found)


def _step(earlier: str, later: str, restricted: Fit, general: Fit, variances: bool) -> Step:
    change = general.bic - restricted.bic
    bic = f"BIC {'falls' if change < 0.0 else 'rises'} by {abs(change):,.1f}"
    test: LikelihoodRatio | BoundaryTest
    try:
        test = (boundary_test if variances else likelihood_ratio)(restricted, general)
    except AllianceDynError as refusal:
        return Step(earlier, later, change, None, f"{bic}; no test: {refusal}")
    kind = "mixture of chi-squares" if variances else f"chi-square({test.df})"
    said = f"{kind} {test.statistic:.1f}, {probability(test.p_value)}; {bic}"
    return Step(earlier, later, change, test, said)
