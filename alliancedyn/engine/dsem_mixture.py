"""States and forecasts of clients whose lagged effects or innovation variances are their own.

Given a client's own effects b (lagged and same-session effects, log innovation variances), the
Kalman filter and smoother are exact. b itself is known from the scores only so far, and is
integrated over the population: of M evenly spread draws b_m ~ N(mu_i, C), the forecast of session
t from scores up to s takes

    p(y_it | y_i1..s) ~ sum_m w_ims p(y_it | y_i1..s, b_m),     w_ims ~ p(y_i1..s | b_m)

a mixture of M Gaussian filters, of which mean and SD are returned. Weights hold no more than the
scores up to s, and the draws none, so that no forecast looks ahead. States take the weights of all
scores and smoothers in place of filters. Both are exact as M grows.

The more sessions a client has, the fewer draws of the population fit the client: the effective
number of draws is 1 / sum w². Where it is too low, M is raised. That is decided for each session
by the scores that its forecast may know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import qmc

from alliancedyn.engine.dsem import DsemData, DsemShape
from alliancedyn.engine.dsem_integrated import Effects, own_systems
from alliancedyn.engine.dsem_world import Population, root
from alliancedyn.engine.kalman import StateSpace
from alliancedyn.engine.smooth import forecast, session_logliks, smooth, within_between

Array = NDArray[np.float64]

POINTS = (256, 1024, 4096)  # M, and what it is raised to
ENOUGH = 50.0  # effective draws above which M is not raised: a seventh of the spread, at most
SEED = 20260101  # of the shifts of the evenly spread draws
ROWS = 50_000  # clients times draws at a time


@dataclass(frozen=True)
class Mixed:
    """Mean and SD of a mixture over a client's own effects.

    Parameters
    ----------
    mean, sd : (N, T, q)
        Score points.
    effective : (N, T)
        Effective number of draws; the Monte Carlo error of a mean is about the SD of the draws'
        means over its root, or less, as draws are evenly spread.
    """

    mean: Array
    sd: Array
    effective: Array


@dataclass(frozen=True)
class ClientMixture:
    """Clients with processes of their own, at one vector of parameters of their population.

    Parameters
    ----------
    shape : DsemShape
        With random lagged or same-session effects or log innovation variances.
    values : (n,)
        Parameters, in the units of the data.
    data : DsemData
        Clients of one therapist are taken one by one.
    points : tuple of int
        M, powers of two, and what it is raised to where too few draws fit a client.
    """

    shape: DsemShape
    values: Array
    data: DsemData
    points: tuple[int, ...] = POINTS

    def forecast(self, horizon: int = 1) -> Mixed:
        """Return every score (N, T, k) given those up to ``horizon`` before; NaN at the first."""

        def of(system: StateSpace, Y: Array, inputs: Array) -> tuple[Array, Array, Array]:
            logs = session_logliks(system, Y, inputs).cumsum(axis=1)
            known = np.full_like(logs, np.nan)
            known[:, horizon:] = logs[:, : max(logs.shape[1] - horizon, 0)]
            return *forecast(system, Y, horizon, inputs), known

        return self._refined(of)

    def smooth(self) -> Mixed:
        """Return within and between parts (N, T, 2 k) given all scores of the client."""
        series = range(self.data.k)

        def of(system: StateSpace, Y: Array, inputs: Array) -> tuple[Array, Array, Array]:
            total = session_logliks(system, Y, inputs).sum(axis=1)
            weights = within_between(system, series)
            every = np.repeat(total[:, None], Y.shape[1], axis=1)
            return *smooth(system, Y, inputs, weights), every

        return self._refined(of)

    def _refined(
        self, of: Callable[[StateSpace, Array, Array], tuple[Array, Array, Array]]
    ) -> Mixed:
        """Mix with the fewest draws that are enough for each client and session."""
        first, *more = self.points
        found = self._mixed(of, np.arange(len(self.data.Y)), first)
        for points in more:
            short = found.effective < ENOUGH
            rows = np.flatnonzero(short.any(axis=1))
            if not len(rows):
                break
            better, at = self._mixed(of, rows, points), short[rows]
            found.mean[rows] = np.where(at[..., None], better.mean, found.mean[rows])
            found.sd[rows] = np.where(at[..., None], better.sd, found.sd[rows])
            found.effective[rows] = np.where(at, better.effective, found.effective[rows])
        return found

    def _mixed(
        self,
        of: Callable[[StateSpace, Array, Array], tuple[Array, Array, Array]],
        rows: NDArray[np.int64],
        points: int,
    ) -> Mixed:
        """Mix over ``points`` draws of each of these clients, portion by portion."""
        size = max(1, ROWS // points)
        done = []
        for start in range(0, max(len(rows), 1), size):
            system, Y, inputs = self._drawn(rows[start : start + size], points)
            with np.errstate(over="ignore", invalid="ignore"):  # a process that explodes
                done.append(_mix(points, *of(system, Y, inputs)))
        means, sds, effective = zip(*done, strict=True)
        return Mixed(np.concatenate(means), np.concatenate(sds), np.concatenate(effective))

    def _drawn(self, rows: NDArray[np.int64], points: int) -> tuple[StateSpace, Array, Array]:
        """Return systems, scores and inputs of ``points`` draws of each client, (n M, ...).

        The draws are the same for all clients, so that a client's numbers do not depend on who
        else is in the panel.
        """
        data = replace(
            self.data, Y=self.data.Y[rows], predictors=self.data.predictors[rows], therapist=None
        )
        world = Population.of(self.shape, self.values)
        effects = Effects.of(self.shape, world, data)
        k, n, r = data.k, len(rows), len(effects.cov)
        effects.left[:k, :k] += world.therapist_cov
        even = qmc.Sobol(r, rng=np.random.default_rng(SEED)).random(points)
        z = ndtri(np.clip(even, 1e-9, 1.0 - 1e-9)) @ root(effects.cov).T
        b = (effects.center[:, None] + z).reshape(n * points, r)
        Y = np.repeat(data.Y, points, axis=0)
        inputs = np.zeros((*Y.shape[:2], effects.shift.shape[1]))
        moved = effects.shift[:, None] + z @ effects.slope.T
        inputs[:, 0] = moved.reshape(n * points, -1)
        return own_systems(self.shape, data, world, effects, b), Y, inputs


def _mix(points: int, mean: Array, sd: Array, logs: Array) -> tuple[Array, Array, Array]:
    """Return mean and SD (n, T, q) and effective numbers (n, T) of mixtures of M in a row.

    ``mean``, ``sd`` (n M, T, q) are those of the draws, ``logs`` (n M, T) their log weights. What
    has no weight for any draw is NaN.
    """
    n, (T, q) = len(mean) // points, mean.shape[1:]
    mean, sd = mean.reshape(n, points, T, q), sd.reshape(n, points, T, q)
    usable = np.isfinite(logs).reshape(n, points, T)
    usable &= np.isfinite(mean).all(axis=3) & np.isfinite(sd).all(axis=3)
    some = usable.any(axis=1)
    log_w = np.where(usable, logs.reshape(n, points, T), -np.inf)
    top = np.where(some, log_w.max(axis=1), 0.0)
    w = np.exp(log_w - top[:, None])
    w /= np.where(some, w.sum(axis=1), np.nan)[:, None]
    mean, sd = (np.where(usable[..., None], part, 0.0) for part in (mean, sd))
    center = np.einsum("nmt,nmtq->ntq", w, mean)
    spread = np.einsum("nmt,nmtq->ntq", w, sd**2 + (mean - center[:, None]) ** 2)
    return center, np.sqrt(spread), 1.0 / (w**2).sum(axis=1)
