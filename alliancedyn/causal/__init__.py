"""What a fit means: which series moves first, and whether models agree on it.

`compare_directions` gives a verdict by fixed rules, the same for either direction;
`compare_models` puts the lagged effects of several fits into one unit; `effect_by_lag`,
`peak_lag` and `describe_drift` read a fit in continuous time. None estimates anything: all stand
on `Fit.derive`.
"""

from alliancedyn.causal.compare import compare_models
from alliancedyn.causal.contrast import Contrast
from alliancedyn.causal.direction import Directions, compare_directions
from alliancedyn.causal.lags import describe_drift, effect_by_lag, peak_lag

__all__ = [
    "Contrast",
    "Directions",
    "compare_directions",
    "compare_models",
    "describe_drift",
    "effect_by_lag",
    "peak_lag",
]
