"""Cross-lagged systems written straight from canonical parameters, for checking other routes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.kalman import StateSpace

Array = NDArray[np.float64]

VARIABLES = ("alliance", "symptoms")


def symmetric(params: Mapping[str, float], name: str, suffix: str = "") -> Array:
    """Read a 2 x 2 covariance; zeros where it is no parameter."""
    out = np.zeros((2, 2))
    for i, a in enumerate(VARIABLES):
        for j, b in enumerate(VARIABLES):
            either = (f"{name}[{a},{b}]{suffix}", f"{name}[{b},{a}]{suffix}")
            out[i, j] = next((params[key] for key in either if key in params), 0.0)
    return out


def lag_matrix(params: Mapping[str, float], suffix: str = "") -> Array:
    return np.array([[params[f"phi[{a},{b}]{suffix}"] for b in VARIABLES] for a in VARIABLES])


def crosslagged(params: Mapping[str, float], sessions: int) -> StateSpace:
    """Build CLPM or RI-CLPM: two within states, two random intercepts (variance 0 in CLPM)."""
    later = [f"@{t}" for t in range(2, sessions + 1)]
    lags_free = "phi[alliance,alliance]" not in params
    innovations_free = "innovation_cov[alliance,alliance]@2" in params
    phi = np.array([lag_matrix(params, at) for at in (later if lags_free else [""])])
    psi = np.array(
        [symmetric(params, "innovation_cov", at) for at in (later if innovations_free else [""])]
    )
    initial = symmetric(params, "initial_cov")
    if not psi.any():  # stationary: the innovations keep the initial covariance
        psi[0] = initial - phi[0] @ initial @ phi[0].T
    by_session = np.maximum(np.arange(sessions) - 1, 0)
    same = np.zeros(sessions, np.int64)
    mean = [
        [params.get(f"mean[{v}]@{t}", params.get(f"mean[{v}]", np.nan)) for v in VARIABLES]
        for t in range(1, sessions + 1)
    ]
    states = np.zeros((4, 4))
    states[:2, :2], states[2:, 2:] = initial, symmetric(params, "between_cov")
    return StateSpace(
        phi=phi,
        phi_at=by_session if lags_free else same,
        psi=psi,
        psi_at=by_session if innovations_free else same,
        mean=np.array(mean),
        mean_at=np.arange(sessions),
        initial_cov=states,
        load_index=np.array([[0, 2], [1, 3]]),
        load=np.ones((1, 2, 2)),
        load_at=same,
        noise=np.zeros((1, 2)),
        noise_at=same,
        drive=np.zeros((4, 0)),
    )
