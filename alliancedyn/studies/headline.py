"""Which of several models speaks first, and why: a rule that never looks at a lagged effect.

Random intercepts are always preferred to none, because a model without them mixes stable
differences between clients into its lagged effects. Whether clients also differ in their trends
is for the data to say: between the RI-CLPM and the LCM-SR with the same means, BIC decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from alliancedyn.causal import Directions
from alliancedyn.causal.nested import probability
from alliancedyn.results import LEVEL, Fit
from alliancedyn.studies.families import FAMILIES, Family
from alliancedyn.studies.steps import Step

LEVELS, TRENDS = FAMILIES["ri-clpm"], FAMILIES["lcm-sr"]
TELLING = 2.0  # a smaller difference in BIC is hardly evidence


def recommend(levels: float | None, trends: float | None) -> str | None:
    """Choose between stable levels and trends of the clients' own by BIC.

    A model without random intercepts is never recommended before one that has them, whatever its
    BIC: it mixes stable differences between clients into its lagged effects.

    Parameters
    ----------
    levels, trends : float or None
        BIC of the RI-CLPM and of the LCM-SR with the same means, None where there is none.

    Returns
    -------
    str or None
        "levels", "trends", or None where neither is to be had.
    """
    if levels is None or trends is None:
        return None if levels is None is trends else "trends" if levels is None else "levels"
    return "trends" if trends < levels else "levels"


def choose(
    families: Iterable[Family],
    fits: Mapping[str, Fit],
    directions: Mapping[str, Directions],
    failures: Mapping[str, Exception],
    steps: Iterable[Step] = (),
) -> tuple[str, str]:
    """Choose who speaks first among the models that have a verdict.

    Parameters
    ----------
    families : iterable of Family
        Those that were asked for, in the order of tables.
    fits, directions, failures : mapping
        By label.
    steps : iterable of Step
        Tests between them; the rule does not use them, the reason says where they disagree.

    Returns
    -------
    label, reason : str
        The reason is a sentence.
    """
    levels, trends = (
        fits[one.label].bic if one.label in directions else None for one in (LEVELS, TRENDS)
    )
    chosen = recommend(levels, trends)
    if chosen is not None:
        family = TRENDS if chosen == "trends" else LEVELS
        if levels is not None and trends is not None:
            return family.label, _by_bic(fits, family is TRENDS, steps)
        return family.label, _alone(family, failures, fits)
    fitted = [(place, family) for place, family in enumerate(families) if family.label in fits]
    heard = [(place, family) for place, family in fitted if family.label in directions]
    _, first = max(heard or fitted, key=_standing)
    why = _why_not(LEVELS, failures, fits)
    return first.label, f"{first.label} is reported first, in place of {LEVELS.label}: {why}."


def _standing(placed: tuple[int, Family]) -> tuple[bool, bool, bool, int]:
    """Rank by untouched scores, then effects within clients, then the ladder, highest rung up."""
    place, family = placed
    return not family.detrended, family.within, family.rung, place if family.rung else -place


def _by_bic(fits: Mapping[str, Fit], growing: bool, steps: Iterable[Step]) -> str:
    """Say what BIC finds about trends of the clients' own, and whether the test agrees."""
    levels, trends = fits[LEVELS.label], fits[TRENDS.label]
    difference = abs(levels.bic - trends.bic)
    first, other = (TRENDS, LEVELS) if growing else (LEVELS, TRENDS)
    against = _disagreement(growing, steps)
    if against:
        found = f"by BIC clients {'differ' if growing else 'do not differ'} in their trends"
    elif growing:
        found = "these clients differ in their trends"
    else:
        found = "these data do not ask for trends of the clients' own"
    adds = "in which they differ in their levels only" if growing else "which adds them"
    said = (
        f"{first.label} is reported first: {found}{against}. Its BIC is lower by {difference:.1f} "
        f"than that of {other.label}, {adds}."
    )
    if growing and levels.diagnostics.get("boundary"):
        said += f" {LEVELS.label} is at a bound, as happens where clients differ in their trends."
    if not growing and _no_trends(trends):
        said += f" {TRENDS.label} is at a bound: in some direction it finds no variance of the "
        said += "trends."
    if difference < TELLING:
        said += f" A difference below {TELLING:g} is hardly evidence: read both."
    return said


def _disagreement(growing: bool, steps: Iterable[Step]) -> str:
    """Say where the test of the trends points the other way than BIC; else nothing."""
    for step in steps:
        if (step.earlier, step.later) != (LEVELS.label, TRENDS.label) or step.test is None:
            continue
        if (step.test.p_value < 1.0 - LEVEL) is not growing:
            way = "finds none" if growing else "finds that they do"
            return f", the test of that step {way} ({probability(step.test.p_value)}): read both"
    return ""


def _no_trends(fit: Fit) -> bool:
    return any("between_cov" in str(one) for one in fit.diagnostics.get("boundary", ()))


def _alone(family: Family, failures: Mapping[str, Exception], fits: Mapping[str, Fit]) -> str:
    """Say why one of the two speaks without the other."""
    if family is TRENDS:
        why = _why_not(LEVELS, failures, fits)
        return f"{family.label} is reported first, in place of {LEVELS.label}: {why}."
    said = f"{family.label} is reported first: it sets stable differences between clients apart."
    if TRENDS.label not in failures and TRENDS.label not in fits:
        return f"{said} Whether clients also differ in their trends was not asked."
    why = _why_not(TRENDS, failures, fits)
    return f"{said} {TRENDS.label}, which adds trends, cannot be compared: {why}."


def _why_not(family: Family, failures: Mapping[str, Exception], fits: Mapping[str, Fit]) -> str:
    if family.label in failures:
        return str(failures[family.label]).rstrip(".")
    return "it gives no verdict" if family.label in fits else "it was not asked for"
