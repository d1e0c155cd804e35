"""The ground floor: arrays in, numbers out, with NumPy, SciPy and Numba alone.

Two routes lead to every likelihood: the compiled filter with its score (:mod:`kalman`) and the
wide normal (:mod:`moments`). :mod:`system` turns parameters into matrices, :mod:`maximise` finds
and judges the maximum. Nothing here knows a data frame, a panel or a therapist.
"""

from alliancedyn.engine.gmm import GMMFit, fit_gmm
from alliancedyn.engine.maximise import Objective
from alliancedyn.engine.mixed import fit_mixed
from alliancedyn.engine.mixed_result import MixedFit

__all__ = ["GMMFit", "MixedFit", "Objective", "fit_gmm", "fit_mixed"]
