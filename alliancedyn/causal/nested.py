"""Compare two fits of which one is the other with something held equal or left out.

Twice the difference of their log-likelihoods is a chi-square where what was left out could have
been positive or negative: effects, differences between groups or sessions. Where it was a
variance, it could only have been positive, and the chi-square is wrong: that is the business of
:func:`~alliancedyn.causal.boundary.boundary_test`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite, isnan, nan

from alliancedyn.causal.multilevel import are_multilevel, fixed_effects_ratio
from alliancedyn.checking import checked
from alliancedyn.engine import names
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.models.design import NEXT
from alliancedyn.results import Fit

LOST = 1e-3  # log-likelihood by which a search may stop short without being called wrong

# What an option may be in a restricted model whose general one has another value.
_LOOSER: dict[str, tuple[object, ...]] = {
    "lags": ("equal",),
    "innovations": ("equal",),
    "means": ("equal", "growth"),
    "initial": ("stationary",),
    "order": (1,),
    "step": (None,),
    "group": (None,),
    "growth": ("linear", "log"),
    "loadings": ("equal",),
    "item_intercepts": ("equal",),
    "unit_loadings": ("equal",),
    "equal_across_groups": (),
    "covariates": (),
    "moderators": (),
    "time_varying": (),
}
# Variances that a larger model adds; the first session's only take up what lagged effects gave.
_BOUNDED = ("between_cov", "innovation_cov", "measurement_var", "diffusion_cov")


@dataclass(frozen=True)
class LikelihoodRatio:
    """A test of what a restricted model leaves out; prints as its text.

    Parameters
    ----------
    statistic : float
        Twice the difference of the log-likelihoods, divided by ``scaling``; NaN where the scaling
        is not positive.
    df : int
        Difference in the number of parameters.
    p_value : float
        Upper tail of the chi-square with ``df`` degrees of freedom.
    scaling : float
        1 unless the fits have robust errors.
    text : str
        The result in words.
    """

    statistic: float
    df: int
    p_value: float
    scaling: float
    text: str

    def __str__(self) -> str:
        return self.text


@checked
def likelihood_ratio(restricted_fit: Fit, general_fit: Fit) -> LikelihoodRatio:
    """Test a model against a more general one that contains it.

    With l_0, l_1 the log-likelihoods and p_0 < p_1 the numbers of parameters::

        T = 2 (l_1 - l_0) / c  ~  chi-square(p_1 - p_0)  if the restricted model holds

    c = 1 for fits with ``errors="observed"``. For robust errors it corrects for scores that are
    not normal (Satorra & Bentler, 2001; the difference test of lavaan's ``anova`` for scaled
    statistics)::

        c = (t_1 - t_0) / (p_1 - p_0),   t = tr(H^-1 J)

    H the observed information and J the sum of outer products of the score at each maximum. In
    terms of the scaled chi-squares of both fits, c = (df_0 c_0 - df_1 c_1) / (df_0 - df_1): the
    saturated model cancels out. c can come out negative, and then there is no test.

    Parameters
    ----------
    restricted_fit, general_fit : Fit
        Of the same scores, with the same kind of errors; in this order.

    Returns
    -------
    LikelihoodRatio

    Raises
    ------
    SpecificationError
        If the fits saw different scores, the first is not the smaller or fits better, one has not
        converged, they are of different families or the first is the freer one in some option, or
        the second adds a variance, which only :func:`boundary_test` can test.

    References
    ----------
    Satorra, A., & Bentler, P. M. (2001). A scaled difference chi-square test statistic for moment
    structure analysis. Psychometrika, 66, 507-514.
    """
    from scipy.special import chdtrc

    gain = checked_gain(restricted_fit, general_fit)
    if are_multilevel(restricted_fit, general_fit):
        df, p_value = fixed_effects_ratio(restricted_fit, general_fit, gain)
        text = _text(restricted_fit, general_fit, gain, df, p_value, 1.0)
        return LikelihoodRatio(gain, df, p_value, 1.0, text)
    _refuse_other_families(restricted_fit, general_fit)
    if added := _added_variances(restricted_fit, general_fit):
        raise SpecificationError(
            f"The {general_fit.model.name} adds a variance ({listed(added)}), which cannot be "
            "negative: the chi-square does not hold. Use boundary_test(restricted, general)."
        )
    df = general_fit.n_params - restricted_fit.n_params
    scaling = _scaling(restricted_fit, general_fit, df)
    statistic = gain / scaling if scaling > 0.0 else nan
    p_value = nan if isnan(statistic) else float(chdtrc(df, statistic))
    text = _text(restricted_fit, general_fit, statistic, df, p_value, scaling)
    return LikelihoodRatio(statistic, df, p_value, scaling, text)


def checked_gain(restricted: Fit, general: Fit) -> float:
    """Return twice the gain in log-likelihood, after checking that the two can be compared.

    Raises
    ------
    SpecificationError
        If they cannot.
    """
    for fit in (restricted, general):
        if not isinstance(fit, Fit) or fit.loglik is None:
            raise SpecificationError(
                "A likelihood-ratio test compares two maximum-likelihood fits: "
                "(restricted_fit, general_fit)."
            )
        if not fit.converged:
            raise SpecificationError(
                f"The {fit.model.name} did not converge, so its log-likelihood is not a maximum. "
                f"{fit.diagnostics.get('failure', '')}".rstrip()
            )
    _refuse_other_scores(restricted, general)
    if restricted.n_params >= general.n_params:
        raise SpecificationError(
            f"The first fit has {restricted.n_params} parameters and the second "
            f"{general.n_params}: give the restricted fit first, then the general one."
        )
    gain = 2.0 * (float(general.loglik or 0.0) - float(restricted.loglik or 0.0))
    if gain < -2.0 * LOST:
        raise SpecificationError(
            f"The general fit has the lower log-likelihood, by {-gain / 2:.4f}: the models are not "
            "nested, or its search ended at a lower maximum. Give it more starting values "
            "(starts=)."
        )
    return max(gain, 0.0)


def _refuse_other_scores(restricted: Fit, general: Fit) -> None:
    ours, theirs = restricted.fingerprint(), general.fingerprint()
    if ours is None or ours != theirs:
        raise SpecificationError(
            "The two fits did not see the same scores, so that their log-likelihoods cannot be "
            "compared. Fit both to the same variables, sessions and clients (a client without a "
            "covariate or a group is set aside)."
        )


def _refuse_other_families(restricted: Fit, general: Fit) -> None:
    """Refuse fits of which one is not the other with something left out or held equal."""
    ours, theirs = restricted.model, general.model
    if type(ours) is not type(theirs):
        raise SpecificationError(
            f"{ours.name} and {theirs.name} are different families. If the second is the first "
            "with variances added, use boundary_test(restricted, general); else compare BIC."
        )
    freer = [option for option in _LOOSER if _is_freer(option, ours, theirs)]
    if freer:
        raise SpecificationError(
            f"The first fit is the freer one in {listed(freer)}, so it is not contained in the "
            "second. Compare BIC, or test one option at a time."
        )


def _is_freer(option: str, restricted: object, general: object) -> bool:
    """Say whether the model that should be restricted allows what the other rules out."""
    ours, theirs = getattr(restricted, option, None), getattr(general, option, None)
    if ours == theirs or (option == "step" and getattr(general, "lags", "equal") == "free"):
        return False
    if option in ("covariates", "moderators", "time_varying"):
        return not set(ours or ()) <= set(theirs or ())
    if option == "equal_across_groups":
        return getattr(restricted, "group", None) is not None and not set(ours or ()) >= set(
            theirs or ()
        )
    return ours not in _LOOSER[option]


def _added_variances(restricted: Fit, general: Fit) -> list[str]:
    """Name variances of the general model that the restricted one takes to be zero."""
    held = set(_variances(restricted.params.index))
    return [
        names.label(family, *indices)
        for family, indices in dict.fromkeys(_variances(general.params.index))
        if (family, indices) not in held and not indices[0].endswith(NEXT)
    ]


def _variances(labels: Iterable[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Return family and indices of every variance, sessions and groups aside."""
    parsed = [names.parse(str(label))[:2] for label in labels]
    return [(f, i) for f, i in parsed if f in _BOUNDED and len(set(i)) == 1]


def errors_of(restricted: Fit, general: Fit) -> str:
    """Return how the errors of both fits were computed; refuse if in different ways."""
    kinds = [str(fit.diagnostics.get("errors", "observed")) for fit in (restricted, general)]
    if kinds[0] != kinds[1]:
        raise SpecificationError(
            f"The fits have errors={kinds[0]!r} and errors={kinds[1]!r}. Fit both with the same."
        )
    return kinds[0]


def _scaling(restricted: Fit, general: Fit, df: int) -> float:
    """Return the scaling c of the difference; 1 for errors from the observed information."""
    if errors_of(restricted, general) == "observed":
        return 1.0
    t0, t1 = (float(fit.diagnostics.get("trace", nan)) for fit in (restricted, general))
    return (t1 - t0) / df


def probability(p: float) -> str:
    """Write a p-value: ``p = 0.032``, ``p < 0.001``."""
    if isnan(p):
        return "no p-value"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _text(
    restricted: Fit, general: Fit, statistic: float, df: int, p_value: float, scaling: float
) -> str:
    pair = f"{describe(general)} against {describe(restricted)}"
    if isnan(statistic):
        why = f"{scaling:.3f}" if isfinite(scaling) else "unknown"
        return (
            f"{pair}: no test. The scaling of the difference is {why}, not positive, as happens in "
            'small samples. Compare fits with errors="observed", or BIC.'
        )
    scaled = "" if scaling == 1.0 else f", scaled by {scaling:.3f}"
    lines = [f"{pair}: chi-square({df}) = {statistic:.2f}{scaled}, {probability(p_value)}."]
    if bounded := bounds_of(restricted, general):
        lines.append(
            f"The {bounded} ends at a bound, where the chi-square holds only roughly: read p as "
            "an indication."
        )
    return " ".join(lines)


def bounds_of(*fits: Fit) -> str:
    """Name the models that ended at a bound, ``RI-CLPM and LCM-SR``; empty if none."""
    found = [fit.model.name for fit in fits if fit.diagnostics.get("boundary")]
    return " and ".join(dict.fromkeys(found))


def describe(fit: Fit) -> str:
    """Return a model's name and how many parameters it has."""
    return f"{fit.model.name} ({fit.n_params} parameters)"
