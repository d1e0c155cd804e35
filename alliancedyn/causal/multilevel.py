"""Likelihood-ratio tests between multilevel regressions: fixed effects, and random ones."""

from __future__ import annotations

from dataclasses import replace

from scipy.special import chdtrc

from alliancedyn.engine.mixed_inference import Added, mixture_lrt
from alliancedyn.errors import SpecificationError
from alliancedyn.models import WithinBetween
from alliancedyn.results import Fit

_VARIANCES = ("random_cov[", "therapist_random_cov[", "residual_var[", "residual_ar[")


def are_multilevel(*fits: Fit) -> bool:
    """Tell whether all fits are multilevel regressions."""
    return all(isinstance(fit.model, WithinBetween) for fit in fits)


def fixed_effects_ratio(small: Fit, large: Fit, gain: float) -> tuple[int, float]:
    """Return degrees of freedom and p-value of fixed effects that the larger model adds.

    Raises
    ------
    SpecificationError
        If the fits are restricted likelihoods, saw other rows, or differ in random effects.
    """
    _refuse_other_rows(small, large)
    if small.model.method != "ml" or large.model.method != "ml":  # type: ignore[attr-defined]
        raise SpecificationError(
            "Restricted likelihoods of models with different fixed effects cannot be compared. Fit "
            'both with method="ml".'
        )
    ours, theirs = _fixed(small), _fixed(large)
    if _random(small) != _random(large) or not ours < theirs:
        raise SpecificationError(
            "The second model must have all fixed effects of the first, more of them, and the same "
            "random effects. Use boundary_test(restricted, general) for random effects."
        )
    df = len(theirs - ours)
    return df, float(chdtrc(df, gain))


def random_effect_ratio(
    small: Fit, large: Fit
) -> tuple[float, float, dict[int, float], tuple[str, ...], str]:
    """Test one random effect: statistic, p-value, mixture weights, what is tested, text.

    Raises
    ------
    SpecificationError
        If the fits differ in more than one random effect of clients, or of therapists.
    """
    _refuse_other_rows(small, large)
    ours, theirs = small.model, large.model
    assert isinstance(ours, WithinBetween) and isinstance(theirs, WithinBetween)
    more = [slope for slope in theirs.random_slopes if slope not in ours.random_slopes]
    as_ours = replace(theirs, random_slopes=ours.random_slopes, levels=ours.levels)
    kind: Added
    if as_ours != ours or small.loglik is None or large.loglik is None:
        what = "the fits differ in more than random effects, or hold two equations"
    elif ours.levels == theirs.levels and len(more) == 1:
        kind, what = "slope", ""
    elif ours.levels != theirs.levels and not more:
        kind, what = "outer", ""
    else:
        what = "the second fit must add one random slope, or therapists"
    if what:
        raise SpecificationError(f"This tests one random effect at a time: {what}.")
    found = mixture_lrt(
        small.loglik or 0.0, large.loglik or 0.0, kind, effects=1 + len(ours.random_slopes)
    )
    tested = tuple(name for name in _random(large) if name not in _random(small))
    weights = dict.fromkeys(found.df, 0.5)
    return found.statistic, found.p_value, weights, tested, found.text


def _refuse_other_rows(small: Fit, large: Fit) -> None:
    if small.sample.rows != large.sample.rows or small.sample.clients != large.sample.clients:
        raise SpecificationError(
            f"The fits used {small.sample.rows} and {large.sample.rows} sessions: their "
            "log-likelihoods cannot be compared. Choose options that need the same scores, such as "
            'lagged_outcome="within" in both.'
        )


def _fixed(fit: Fit) -> set[str]:
    return {
        str(name) for name in fit.params.index if not str(name).startswith((*_VARIANCES, "within"))
    }


def _random(fit: Fit) -> list[str]:
    return [str(name) for name in fit.params.index if str(name).startswith(_VARIANCES)]
