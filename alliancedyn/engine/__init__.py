"""The ground floor: arrays in, numbers out, with NumPy, SciPy and Numba alone.

Two routes lead to every likelihood: the compiled filter with its score (:mod:`kalman`) and the
wide normal (:mod:`moments`). :mod:`system` turns parameters into matrices, :mod:`maximise` finds
and judges the maximum. Nothing here knows a data frame, a panel or a therapist.
"""

from alliancedyn.engine.gmm import GMMFit, fit_gmm
from alliancedyn.engine.maximise import Objective

__all__ = ["GMMFit", "Objective", "fit_gmm"]
