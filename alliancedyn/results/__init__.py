"""Results: one frozen `Fit` for every model family, and the `Estimate` it derives.

Whatever is asked of a fit (an effect, a contrast, the path of a shock) is a function of its
parameters, and `Fit.derive` carries the uncertainty along. A new family brings parameters under
canonical names and a covariance; everything here then works on it.
"""

from alliancedyn.results.estimate import LEVEL, Estimate, Sample
from alliancedyn.results.fit import Fit
from alliancedyn.results.model import ClientGroup, Model, Panel, Params, Scores
from alliancedyn.results.scores import Observed

__all__ = [
    "LEVEL",
    "ClientGroup",
    "Estimate",
    "Fit",
    "Model",
    "Observed",
    "Panel",
    "Params",
    "Sample",
    "Scores",
]
