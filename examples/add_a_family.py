"""A family of one's own: a dynamic panel model with unit effects.

    r_t = k + phi r_{t-1} + v_t,   y_t = mean_t + r_t

Stable differences k act anew at every session, and lagged effects act on whole scores. The first
session has a covariance of its own, also with k.
"""

from dataclasses import dataclass, replace

import numpy as np

import alliancedyn as ad
from alliancedyn.engine.assembly import join
from alliancedyn.engine.system import covariance, matrix
from alliancedyn.models import Specification
from alliancedyn.models.courses import carried, stack
from alliancedyn.models.means import mean_blocks, session_means, start_means
from alliancedyn.models.within import series_system, start_within, within, within_blocks


@dataclass(frozen=True, repr=False)
class UnitEffects(Specification):
    """Dynamic panel model with unit effects and a predetermined first session."""

    name = "Unit effects"
    fewest_sessions = 4
    assumptions = ("Lagged effects act on whole scores.",)
    references = ()

    def static(self, design):
        return design.variables

    def bends(self):
        return ("phi",)

    def moves_loads(self):
        return True

    def blocks(self, design):
        v, units = design.variables, design.units
        first = matrix("initial_between_cov", v, v, units)
        first = replace(first, scale=tuple(units[a] * units[b] for a in v for b in v))
        stable = covariance("between_cov", v, units)
        return [*within_blocks(self, design), stable, first, *mean_blocks(self, design)]

    def assemble(self, matrices, design):
        part, k = within(self, matrices, design), design.k
        reached = [np.zeros((k, k))]  # what k has come to: B_1 = 0, B_t = phi B_{t-1} + I
        for t in range(1, design.n_sessions):
            reached.append(part.phi[..., part.phi_at[t], :, :] @ reached[-1] + np.eye(k))
        stable = matrices["between_cov"][..., 0, :, :]
        shared = matrices["initial_between_cov"][..., 0, :, :]
        below = join([np.swapaxes(shared, -1, -2), stable], -1)
        joint = join([join([part.initial, shared], -1), below], -2)
        system = series_system(part, session_means(self, matrices, design), design)
        return replace(carried(system, stack(reached, -3), design), initial_cov=joint)

    def start(self, rough, design):
        keep = np.eye(design.k) - rough.phi
        start = {**start_within(self, rough, design), **start_means(self, rough, design)}
        start["initial_cov"] = (rough.within + rough.between)[None]
        start["between_cov"] = (keep @ rough.between @ keep.T)[None]
        start["initial_between_cov"] = 0.8 * (rough.between @ keep.T)[None]
        return start


if __name__ == "__main__":
    panel = ad.datasets.load("example")
    fit = UnitEffects(sessions=(1, 8)).fit(panel)
    print(fit.table().filter(like="phi", axis=0).round(3))
    print(ad.compare_directions(fit, seed=1).text)
