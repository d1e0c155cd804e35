"""A fit beside the saturated model: its fit indices, or why there are none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alliancedyn.results.model import ClientGroup
from alliancedyn.results.scores import Observed

if TYPE_CHECKING:
    from alliancedyn.engine.wide import WideGroup

Index = NDArray[np.int64]


def indices(
    groups: list[ClientGroup],
    used: Observed,
    loglik: float,
    n_params: int,
    trace: float | None,
    clusters: Index | None,
) -> dict[str, float | str]:
    """Return the fit indices, see :func:`alliancedyn.engine.indices.fit_indices`.

    Parameters
    ----------
    groups : list of ClientGroup
        The fitted systems.
    used : Observed
        The scores.
    loglik, n_params : float, int
        Of the fit.
    trace : float, optional
        What its robust errors add to the test; None for unscaled indices alone.
    clusters : (n,) int, optional
        Cluster codes of all clients.
    """
    from alliancedyn.engine.indices import fit_indices, withheld

    if (reason := _reason(groups, used)) is not None:
        scaled = trace is not None
        return withheld(reason, loglik=loglik, n_params=n_params, n=len(used.Y), scaled=scaled)
    wide = [_wide(group, used, clusters) for group in groups]
    return fit_indices(wide, loglik=loglik, n_params=n_params, trace=trace)


def _reason(groups: list[ClientGroup], used: Observed) -> str | None:
    """Say why no saturated model can be set beside these systems; None if one can."""
    if any(group.system.phi.ndim == 4 for group in groups):
        return (
            "Every client has a system of their own, by their own days or moderators, so there are "
            "no common means and covariances that a saturated model could free. Compare models by "
            "BIC."
        )
    absent: NDArray[np.bool_] = np.all(np.isnan(used.Y), axis=2)
    if used.inputs.shape[2] and absent.any():
        return (
            f"At sessions without a score ({int(absent.sum())} in all) the time-varying covariates "
            "are not known; a saturated model would have to take them as given. Compare models by "
            "BIC."
        )
    return None


def _wide(group: ClientGroup, used: Observed, clusters: Index | None) -> WideGroup:
    """Lay a group's scores out beside the moments that its system implies."""
    from alliancedyn.engine.wide import WideGroup

    return replace(
        WideGroup.of_system(group.system, used.Y[group.rows], group.inputs),
        clusters=None if clusters is None else clusters[group.rows],
        names=[f"{name}@{t}" for t in used.sessions for name in used.variables],
        label=group.label,
    )
