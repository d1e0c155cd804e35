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
    usual = [one for one in (LEVELS, TRENDS) if one.label in directions]
    if len(usual) == 2:
        label, reason = _by_bic(fits)
        return label, reason + _disagreement(label, steps)
    if usual:
        return usual[0].label, _alone(usual[0], failures, fits)
    fitted = [(place, family) for place, family in enumerate(families) if family.label in fits]
    heard = [(place, family) for place, family in fitted if family.label in directions]
    _, first = max(heard or fitted, key=_standing)
    why = _why_not(LEVELS, failures, fits)
    return first.label, f"{first.label} is reported first, in place of {LEVELS.label}: {why}."


def _standing(placed: tuple[int, Family]) -> tuple[bool, bool, bool, int]:
    """Rank by untouched scores, then effects within clients, then the ladder, highest rung up."""
    place, family = placed
    return not family.detrended, family.within, family.rung, place if family.rung else -place


def _by_bic(fits: Mapping[str, Fit]) -> tuple[str, str]:
    """Let BIC say whether clients differ in their trends."""
    levels, trends = fits[LEVELS.label], fits[TRENDS.label]
    difference = levels.bic - trends.bic
    close = (
        f" A difference below {TELLING:g} is hardly evidence: read both."
        if abs(difference) < TELLING
        else ""
    )
    if difference > 0.0:
        bound = (
            f" {LEVELS.label} is at a bound, as happens where clients differ in their trends."
            if levels.diagnostics.get("boundary")
            else ""
        )
        return TRENDS.label, (
            f"{TRENDS.label} is reported first: these clients differ in their trends. Its BIC is "
            f"lower by {difference:.1f} than that of {LEVELS.label}, in which they differ in their "
            f"levels only.{bound}{close}"
        )
    bound = (
        f" {TRENDS.label} is at a bound: in some direction it finds no variance of the trends."
        if _no_trends(trends)
        else ""
    )
    return LEVELS.label, (
        f"{LEVELS.label} is reported first: these data do not ask for trends of the clients' own. "
        f"Its BIC is lower by {-difference:.1f} than that of {TRENDS.label}, which adds them."
        f"{bound}{close}"
    )


def _disagreement(label: str, steps: Iterable[Step]) -> str:
    """Say where the test of the trends points the other way than BIC."""
    for step in steps:
        if (step.earlier, step.later) != (LEVELS.label, TRENDS.label) or step.test is None:
            continue
        found = step.test.p_value < 1.0 - LEVEL
        if found is not (label == TRENDS.label):
            way = "finds trends" if found else "finds no trends"
            said = probability(step.test.p_value)
            return f" The test of the step {way} ({said}): read both models."
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
