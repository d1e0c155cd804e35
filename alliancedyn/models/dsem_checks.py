"""Which options of a two-level dynamic model can be, and go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliancedyn.errors import SpecificationError, listed
from alliancedyn.models.dsem_scales import check_scales
from alliancedyn.models.dsem_task import check_priors

if TYPE_CHECKING:
    from alliancedyn.models.dsem import DSEM


def check_numbers(spec: DSEM) -> None:
    """Refuse options that cannot be, or do not go together.

    Raises
    ------
    SpecificationError
        With the remedy.
    """
    if spec.sessions is not None and len(spec.sessions) != 2:
        raise SpecificationError(
            f"sessions is {spec.sessions!r}; give the first and the last, such as (1, 8)."
        )
    given = spec.measurement_var
    if isinstance(given, str) and given != "free":
        raise SpecificationError(
            f'measurement_var is {given!r}; give variances by name, or "free".'
        )
    if any(not value >= 0.0 for value in spec.known_errors.values()):
        raise SpecificationError("measurement_var: a variance cannot be negative.")
    check_scales(spec.known_bounds, spec.ordinal)
    if spec.sampler == "gibbs" and not spec.in_blocks:
        raise SpecificationError(
            "The Gibbs sampler is for normal innovations, known measurement error, scores "
            "without bounds or categories, and no slopes of clients over sessions or moderators. "
            'Use sampler="nutpie".'
        )
    if spec.sampler == "laplace" and not (spec.one_system and spec.draws_panels):
        raise SpecificationError(
            "The quick look needs random intercepts alone (or with slopes over sessions), "
            "normal innovations, known measurement error, and scores without bounds or "
            'categories. Use sampler="gibbs" or "nutpie".'
        )
    absent = [x for x in spec.predictors if x not in (spec.predictor_means or spec.predictors)]
    if absent:
        raise SpecificationError(f"predictor_means lacks {listed(absent)}.")
    check_priors(spec.priors or {})
