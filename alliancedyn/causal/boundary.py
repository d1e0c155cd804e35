"""Test whether there are stable differences between clients: a covariance at the edge of its range.

Under the null hypothesis the covariance of the random intercepts is zero, and a covariance matrix
cannot be less than that. So twice the gain in log-likelihood is no chi-square but a mixture of
them (chi-bar-square), whose weights depend on the information that these data hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.causal.multilevel import are_multilevel, random_effect_ratio
from alliancedyn.causal.nested import checked_gain, describe, errors_of, probability
from alliancedyn.checking import checked
from alliancedyn.engine import names, natural
from alliancedyn.engine.assembly import Assembly
from alliancedyn.engine.cone import DRAWS, TailBySimulation, likelihood_ratio_tail
from alliancedyn.engine.expected import expected_information
from alliancedyn.engine.likelihood import Likelihood
from alliancedyn.engine.maximise import outer_products
from alliancedyn.engine.system import Block, Layout
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.results import Fit
from alliancedyn.results.scores import clusters as cluster_codes

Array = NDArray[np.float64]
Index = NDArray[np.int64]

SEED = 20_221_122  # fixed, so that a p-value does not change from one run to the next
SAME = 1e-5  # log-likelihood by which the embedded model may differ from the fitted one
FLAT = 1e-6  # eigenvalue of the scaled information below which a direction carries nothing


@dataclass(frozen=True)
class BoundaryTest:
    """A test of variances that may be zero; prints as its text.

    Parameters
    ----------
    statistic : float
        Twice the difference of the log-likelihoods.
    p_value : float
        Upper tail of its null distribution, the mixture.
    naive_p_value : float
        From the chi-square with ``df`` degrees of freedom: too large.
    df : int
        Difference in the number of parameters.
    weights : dict of int to float
        Degrees of freedom -> share in the mixture; empty where the mixture is known by
        simulation only.
    tested : tuple of str
        The parameters that the null hypothesis sets to zero.
    text : str
        The result in words.
    """

    statistic: float
    p_value: float
    naive_p_value: float
    df: int
    weights: dict[int, float]
    tested: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class _Null:
    """The restricted model as a point of the general one.

    ``at`` (n,) its natural parameters; ``kept`` those that both models have; ``free`` new ones
    without a bound; ``bounded`` new covariance matrices, upper triangles, of these ``sizes``.
    """

    at: Array
    kept: Index
    free: Index
    bounded: Index
    sizes: tuple[int, ...]


@checked
def boundary_test(
    clpm_fit: Fit, riclpm_fit: Fit, *, draws: int = DRAWS, seed: int = SEED
) -> BoundaryTest:
    """Test a CLPM against an RI-CLPM, or any model against one that adds variances.

    Under the null hypothesis ``between_cov`` is zero, the apex of the cone K of positive
    semidefinite matrices, and with z ~ N(0, M^-1)::

        2 (l_1 - l_0)  ->  z' M z - min over b in K of (z - b)' M (z - b)

    M is the expected information about ``between_cov`` at the CLPM's estimates, all other
    parameters profiled out (a Schur complement). The cone has a curved surface, so the null
    distribution is found by projecting draws onto it. For two series it is a mixture of
    chi-squares with 0 to 3 degrees of freedom.

    The same holds for an LCM-SR against an RI-CLPM: there the slopes' covariance is zero under
    the null hypothesis, while its covariances with the random intercepts, whose own covariance is
    not at the edge, may take either sign. They add chi-squares without a bound. Fits with robust
    errors get z ~ N(0, M^-1 J M^-1), J the covariance of the score.

    Between two `WithinBetween` fits that differ in one random slope, or in therapists, the mixture
    is that of Stram and Lee (1994): half and half of two chi-squares.

    Parameters
    ----------
    clpm_fit, riclpm_fit : Fit
        The restricted and the general fit, of the same scores; they hold their data.
    draws : int
        Random directions.
    seed : int
        For the draws.

    Returns
    -------
    BoundaryTest

    Raises
    ------
    SpecificationError
        If the fits cannot be compared; if the first is not a special case of the second, or
        adds no variance to it; if a covariance of the first is at its bound, where the theory
        does not hold; or if these data carry no information about what is tested.

    References
    ----------
    Stoel, R. D., Garre, F. G., Dolan, C., & van den Wittenboer, G. (2006). On the likelihood ratio
    test in structural equation modeling when parameters are subject to boundary constraints.
    Psychological Methods, 11, 439-455.

    Stram, D. O., & Lee, J. W. (1994). Variance components testing in the longitudinal mixed effects
    model. Biometrics, 50, 1171-1177.

    Shapiro, A. (1985). Asymptotic distribution of test statistics in the analysis of moment
    structures under inequality constraints. Biometrika, 72, 133-144.
    """
    from scipy.special import chdtrc

    gain = checked_gain(clpm_fit, riclpm_fit)
    if are_multilevel(clpm_fit, riclpm_fit):
        gain, p_value, weights, tested, text = random_effect_ratio(clpm_fit, riclpm_fit)
        df = riclpm_fit.n_params - clpm_fit.n_params
        return BoundaryTest(gain, p_value, float(chdtrc(df, gain)), df, weights, tested, text)
    _refuse_bounds(clpm_fit)
    likelihood = _likelihood(riclpm_fit)
    null = _embed(clpm_fit, riclpm_fit, likelihood)
    errors = errors_of(clpm_fit, riclpm_fit)
    metric, spread = _efficient(likelihood, null, clpm_fit, errors)
    rng = np.random.default_rng(seed)
    tail = likelihood_ratio_tail(metric, spread, len(null.free), null.sizes, rng, draws)
    df = riclpm_fit.n_params - clpm_fit.n_params
    p_value, naive = tail.p_value(gain), float(chdtrc(df, gain))
    weights = _weights(tail, null, robust=spread is not metric)
    tested = tuple(likelihood.names[i] for i in (*null.free, *null.bounded))
    text = _text(clpm_fit, riclpm_fit, gain, p_value, naive, df, weights)
    return BoundaryTest(gain, p_value, naive, df, weights, tested, text)


def _refuse_bounds(fit: Fit) -> None:
    if sentences := fit.diagnostics.get("boundary"):
        which = listed([str(sentence).split(":")[0] for sentence in sentences])
        raise SpecificationError(
            f"In the {fit.model.name} {which} is already at its bound. The distribution of the "
            "test is not known there; compare BIC."
        )


def _likelihood(fit: Fit) -> Likelihood:
    make: Any = getattr(fit.model, "likelihood", None)
    if make is None or fit.data is None:
        raise SpecificationError(
            f"The boundary test needs the likelihood of the {fit.model.name} and its data. Give "
            "fits of state-space families, before without_data()."
        )
    found: Likelihood = make(fit.data)
    return found


# -- the restricted model as a point of the general one -------------------------------------------


def _embed(restricted: Fit, general: Fit, likelihood: Likelihood) -> _Null:
    """Place the restricted estimates in the general model, what it lacks at zero."""
    layout = likelihood.layout
    known = _known(restricted, layout)
    at = np.array([known.get(name, 0.0) for name in layout.names])
    kept = np.array([i for i, name in enumerate(layout.names) if name in known], np.int64)
    bounded, sizes = _bounded(layout, known)
    rest = {*kept.tolist(), *bounded}
    free = np.array([i for i in range(layout.n_free) if i not in rest], np.int64)
    null = _Null(at, kept, free, np.array(bounded, np.int64), tuple(sizes))
    reached = likelihood.loglik(layout.unflatten(at))
    if len(kept) != restricted.n_params or not abs(reached - (restricted.loglik or 0.0)) < SAME:
        raise SpecificationError(
            f"The {restricted.model.name} is not the {general.model.name} with some parameters at "
            "zero. Give both the same options (lags, innovations, means, first session, groups)."
        )
    if not sizes:
        raise SpecificationError(
            f"The {general.model.name} adds no variance to the {restricted.model.name}. Use "
            "likelihood_ratio(restricted, general)."
        )
    return null


def _known(restricted: Fit, layout: Layout) -> dict[str, float]:
    """Return the restricted estimates by the general model's names: one mean is an intercept."""
    names_there = set(layout.names)
    known = {}
    for name, value in restricted.params.items():
        family, indices, session = names.parse(str(name))
        spelled = str(name)
        if family == "mean" and session is None and spelled not in names_there:
            spelled = names.label("intercept", *indices, group=names.group_of(str(name)))
        if spelled in names_there:
            known[spelled] = float(value)
    return known


def _bounded(layout: Layout, known: dict[str, float]) -> tuple[list[int], list[int]]:
    """Find the variances and covariance matrices that the restricted model sets to zero.

    Of a covariance matrix some of whose rows both models have, the new rows are a matrix of
    their own in the tangent cone, and the covariances with the old ones are free.
    """
    bounded: list[int] = []
    sizes: list[int] = []
    for block in layout.blocks:
        if block.kind == "plain":
            continue
        first = layout.slices[block.key].start
        per_slot = block.size // block.shape[0]
        for slot in range(block.shape[0]):
            start = first + slot * per_slot
            for group in _new_matrices(block, layout.names[start : start + per_slot], known):
                sizes.append(int((np.sqrt(8 * len(group) + 1) - 1) / 2))
                bounded += [start + i for i in group]
    return bounded, sizes


def _new_matrices(
    block: Block, labels: tuple[str, ...], known: dict[str, float]
) -> list[list[int]]:
    """Return the places, within one slot, of the elements of each new matrix."""
    if block.kind == "variance":
        return [[i] for i, name in enumerate(labels) if name not in known]
    rows, columns = np.triu_indices(block.shape[-1])
    pairs = list(zip(rows.tolist(), columns.tolist(), strict=True))
    new = {r for (r, c), name in zip(pairs, labels, strict=True) if r == c and name not in known}
    group = [i for i, pair in enumerate(pairs) if set(pair) <= new]
    return [group] if group else []


# -- the information about what is tested ----------------------------------------------------------


def _efficient(
    likelihood: Likelihood, null: _Null, restricted: Fit, errors: str
) -> tuple[Array, Array]:
    """Return the information about the tested parameters and the covariance of their score.

    All others are profiled out. The information is the expected one, given which scores were
    observed: the observed one is noisy in a direction that holds little, and sometimes indefinite,
    so that tests with it are too cautious in small samples.
    """
    tested = np.concatenate([null.free, null.bounded])
    shared = all(isinstance(share.family, Assembly) for share in likelihood.shares)
    if not shared and errors != "observed":
        raise SpecificationError(
            f"Where every client has matrices of their own the test needs errors='observed', not "
            f"{errors!r}. Refit both."
        )
    if shared:
        H = expected_information(likelihood, null.at)
    else:
        H = outer_products(natural.scores(likelihood, null.at))
    metric = spread = _profiled(H, H, tested, null.kept)
    if errors != "observed":
        J = outer_products(natural.scores(likelihood, null.at), _codes(restricted, errors))
        spread = _profiled(J, H, tested, null.kept)
    if not _definite(metric, H, tested) or not _definite(spread, spread, np.arange(len(tested))):
        raise SpecificationError(
            "These data carry no information about the variances in question apart from the "
            "other parameters, as happens with few sessions or when lagged effects near 1 can "
            "stand for stable differences. Compare BIC."
        )
    return metric, spread


def _codes(fit: Fit, errors: str) -> Index | None:
    if fit.data is None:
        return None
    codes, why = cluster_codes(errors, None, fit.data)
    if why is not None:
        raise SpecificationError(f'{why} Refit both with errors="robust" or "cluster:therapist".')
    return codes


def _profiled(spread: Array, H: Array, tested: Index, kept: Index) -> Array:
    """Return the covariance of the tested scores less their regression on the others, by H."""
    try:
        by = np.linalg.solve(H[np.ix_(kept, kept)], H[np.ix_(kept, tested)])
    except np.linalg.LinAlgError:
        return np.zeros((len(tested), len(tested)))
    across = by.T @ spread[np.ix_(kept, tested)]
    own = spread[np.ix_(tested, tested)] - across - across.T
    own = own + by.T @ spread[np.ix_(kept, kept)] @ by
    return np.asarray((own + own.T) / 2.0)


def _definite(metric: Array, before: Array, tested: Index) -> bool:
    """Say whether every direction keeps information once the other parameters are profiled out."""
    scale = np.diag(before)[tested]
    if not (np.isfinite(metric).all() and (scale > 0.0).all()):
        return False
    d = np.sqrt(scale)
    return bool(np.linalg.eigvalsh(metric / d / d[:, None])[0] > FLAT)


# -- in words ------------------------------------------------------------------------------------


def _weights(tail: TailBySimulation, null: _Null, robust: bool) -> dict[int, float]:
    """Return the weights of the mixture where two shares of draws determine them.

    Weights of even and of odd degrees of freedom sum to one half each, as for any cone that is no
    linear space. So the shares inside the cone and at its apex give all of them for a single
    variance and for a 2 x 2 covariance; free directions shift the degrees of freedom.
    """
    if robust or len(null.sizes) != 1 or null.sizes[0] > 2:
        return {}
    if null.sizes[0] == 1:
        weights = [0.5, 0.5]
    else:
        weights = [tail.outside, 0.5 - tail.inside, 0.5 - tail.outside, tail.inside]
    return {len(null.free) + j: weight for j, weight in enumerate(weights)}


def _text(
    restricted: Fit,
    general: Fit,
    gain: float,
    p_value: float,
    naive: float,
    df: int,
    weights: dict[int, float],
) -> str:
    mixture = ", ".join(f"{weight:.2f} on {j}" for j, weight in weights.items())
    kind = f" (weights by degrees of freedom: {mixture})" if mixture else ""
    lines = [
        f"{describe(general)} against {describe(restricted)}: 2 x gain in log-likelihood = "
        f"{gain:.2f}, {probability(p_value)} from the mixture of chi-squares that holds where "
        f"variances are zero{kind}.",
        f"The plain chi-square({df}) would give {probability(naive)}: it forgets that variances "
        "cannot be negative, and rejects too rarely.",
    ]
    return " ".join(lines)
