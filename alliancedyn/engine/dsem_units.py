"""The units of a two-level dynamic model: from scores to the scale of the priors, and back.

Sampling happens on z = (y - center) / unit, so that priors mean the same for any questionnaire.
All parameters are then carried back by what a change of units does to them::

    mean, cuts     center_a + unit_a mean       phi, same, their SDs    unit_a / unit_b
    trend, session unit_a                       covariances             unit_a unit_b
    predictor      unit of the effect / unit of the predictor; moderation and input likewise

Correlations and SDs of log variances have no unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names
from alliancedyn.engine.dsem import DsemShape

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Units:
    """Where the scores are centered and what they are divided by.

    Parameters
    ----------
    center, unit : (k,)
        Score points.
    predictor, moderator : (c,), (m,)
        What predictors and moderators are divided by, in their own units.
    """

    center: Array
    unit: Array
    predictor: Array
    moderator: Array = field(default_factory=lambda: np.zeros(0))

    def of_effects(self, shape: DsemShape) -> Array:
        """Return the unit (q,) of every effect of a client."""
        found = [self.unit] * (2 if shape.random_trend else 1)
        own = dict(zip(shape.variables, self.unit.tolist(), strict=True))
        coefficients = shape.coefficients[slice(*shape.own_coefficients)]
        found.append(np.array([own[row] / own[column] for _, row, column in coefficients]))
        if shape.random_innovation:
            found.append(np.ones(len(self.unit)))
        return np.concatenate(found)

    def of_parameters(
        self, shape: DsemShape, labels: Sequence[str] | None = None
    ) -> tuple[Array, Array]:
        """Return (shift, factor), each (n,), of every parameter: raw = shift + factor sampled.

        ``labels`` are the parameters, where there are more than the shape has.
        """
        own = dict(zip(shape.variables, self.unit.tolist(), strict=True))
        own |= {f"{name}.trend": unit for name, unit in own.items()}
        middle = dict(zip(shape.variables, self.center.tolist(), strict=True))
        effect = dict(zip(shape.effects, self.of_effects(shape).tolist(), strict=True))
        by = dict(zip(shape.predictors, self.predictor.tolist(), strict=True))
        by |= dict(zip(shape.moderators, self.moderator.tolist(), strict=True))
        shift, factor = [], []
        for name in labels or shape.parameter_names():
            family, of, _ = names.parse(name)
            shift.append(middle[of[0]] if family in ("mean", "threshold") else 0.0)
            if family in ("mean", "trend", "session", "threshold"):
                factor.append(own[of[0]])
            elif family in ("phi", "phi_sd", "same", "same_sd"):
                factor.append(own[of[0]] / own[of[1]])
            elif family == "moderation":
                factor.append(own[of[0]] / own[of[1]] / by[of[2]])
            elif family == "input":
                factor.append(own[of[0]] / by[of[1]])
            elif family == "predictor":
                factor.append(effect[of[0]] / by[of[1]])
            elif family.endswith("_cov"):
                factor.append(own[of[0]] * own[of[1]])
            elif family == "measurement_var":
                factor.append(own[of[0]] ** 2)
            else:
                factor.append(1.0)
        return np.array(shift), np.array(factor)

    def raw(self, draws: Array, shape: DsemShape, labels: Sequence[str] | None = None) -> Array:
        """Carry draws (..., n) from the scale of the priors to raw units."""
        shift, factor = self.of_parameters(shape, labels)
        return np.asarray(shift + factor * draws)

    def raw_clients(self, clients: Array, shape: DsemShape) -> Array:
        """Carry means and SDs (N, q, 2) of clients' effects to raw units."""
        factor = self.of_effects(shape)
        out = clients * factor[:, None]
        k = len(self.center)
        out[:, :k, 0] += self.center
        return np.asarray(out)


def within_units(Y: Array) -> tuple[Array, Array]:
    """Return the grand means and the pooled SDs within clients of scores (N, T, k), NaN = missing.

    The SD is the root of all squared deviations from clients' own means, over scores minus
    clients: the within mean square of an analysis of variance.
    """
    seen = ~np.isnan(Y)
    counts = seen.sum(axis=1)
    own = np.divide(np.nansum(Y, axis=1), counts, out=np.zeros(counts.shape), where=counts > 0)
    squares = np.nansum((Y - own[:, None]) ** 2, axis=(0, 1))
    spare = seen.sum(axis=(0, 1)) - (counts > 0).sum(axis=0)
    variance = np.divide(squares, spare, out=np.zeros(len(spare)), where=spare > 0)
    return np.nanmean(Y, axis=(0, 1)), np.sqrt(variance)
