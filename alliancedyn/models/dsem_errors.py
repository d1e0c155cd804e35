"""Where estimated measurement error cannot be told from what is new at a session."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names

Array = NDArray[np.float64]

NEAR_ZERO = 0.15  # autoregression below which deviations hardly reach the next session


def error_notes(labels: Sequence[str], draws: Array) -> list[str]:
    """Name the series whose error variance rests on its prior.

    An error leaves no trace at the next session, an innovation does, by the autoregression: if
    that is near zero, scores show the sum of both variances alone.

    Parameters
    ----------
    labels : sequence of str
        The n parameters.
    draws : (D, n)
        Their draws.
    """
    at = {name: j for j, name in enumerate(labels)}
    said = []
    for name in labels:
        family, of, _ = names.parse(name)
        if family != "measurement_var":
            continue
        own = names.label("phi", of[0], of[0])
        low, high = np.quantile(draws[:, at[own]], [0.025, 0.975]) if own in at else (0.0, 0.0)
        if low < NEAR_ZERO and high > -NEAR_ZERO:
            there = f"{own} is {low:.2f} to {high:.2f}" if own in at else f"there is no {own}"
            said.append(
                f"{there}: what does not carry on to the next session cannot be told from "
                f"measurement error, so {name} and innovation_cov[{of[0]},{of[0]}] split their "
                "sum as the prior says. Give a known variance in measurement_var=."
            )
    return said
