"""Moderators of a regression: numbers of clients, or numbers that change over their sessions.

A number z of clients multiplies the lagged deviation as it is, and has an effect of its own. One
that changes over sessions is split as the process is: its deviation from the client's mean
multiplies the lagged deviation, and has an effect of its own, ``input[y,z]``, beside that of the
client's mean, ``between[y,z]``::

    (phi + moderation (z_is - mean_i z)) (x_i,t-1 - mean_i x) + input (z_is - mean_i z)
        + between mean_i z,   s = t, or t - 1

Without the split the product would carry how clients differ in both into the moderation within.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alliancedyn.models.rows import centered, client_means, lagged

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Moderator:
    """One moderator at the client-sessions.

    Parameters
    ----------
    by : (n, 1) or (n, T)
        What the lagged deviation is multiplied by; NaN = unknown.
    level : (n, 1), optional
        What clients differ in; None where their means were taken out before.
    changes : bool
        Whether it changes over sessions.
    """

    by: Array
    level: Array | None
    changes: bool


def moderator_of(values: Array, x: Array, nearest: bool, at_outcome: bool) -> Moderator:
    """Split a moderator (n, T) into level and deviations, if it changes over sessions.

    Parameters
    ----------
    values : (n, T)
        NaN = unknown.
    x : (n, T)
        The predictor whose effect it changes, NaN = missing.
    nearest : bool
        Whether ``x`` is taken from the nearest earlier session.
    at_outcome : bool
        Whether the moderator is that of the session of the outcome, or else of that of ``x``.
    """
    level = client_means(values)[:, None]
    if not (values != level)[~np.isnan(values)].any():
        return Moderator(level, level, changes=False)
    within = values - level
    if not at_outcome:  # an unknown one at the session of x is not to be sought further back
        found = lagged(np.where(np.isnan(x), np.nan, np.nan_to_num(within, nan=np.inf)), nearest)
        within = np.where(np.isinf(found), np.nan, found)
    return Moderator(within, None if centered(values) else level, changes=True)
