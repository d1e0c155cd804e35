"""One group of clients as a wide panel, beside the moments that a model implies for it.

What a model takes as given, client covariates and inputs, is not modelled: the saturated model
is conditional on it too. It frees the regression of every score on what is given and the
covariances of the residuals. Its maximum is that of all columns jointly, less that of the given
ones, which are complete and so have a closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.kalman import StateSpace
from alliancedyn.engine.moments import LOG_2PI, column_names, implied_moments, input_effects
from alliancedyn.engine.saturated import Saturated, independence, saturated
from alliancedyn.engine.scaling import independence_trace, saturated_trace

Array = NDArray[np.float64]
Index = NDArray[np.int64]

VARIES = 1e-10  # spread, relative to the size of the numbers, above which they are not constant


@dataclass(frozen=True)
class WideGroup:
    """Scores of one group of clients and what a model implies for them.

    Parameters
    ----------
    Y : (n, p)
        Scores the model was fitted to, score points, NaN = missing. Rows without a score do not
        count as clients; a column that nobody was seen at brings no moments.
    mean, cov : (p,), (p, p)
        Its implied moments where all that is given is 0, score points and squared score points.
    given : (n, c), optional
        What the model takes as given; no NaN.
    effects : (p, c), optional
        What one unit of it does to each mean.
    clusters : (n,) int, optional
        Cluster codes, if scores are summed over clusters.
    names : sequence of str, optional
        Names of the p columns, for reasons.
    label : str, optional
        Such as ``arm=1``.
    """

    Y: Array
    mean: Array
    cov: Array
    given: Array | None = None
    effects: Array | None = None
    clusters: Index | None = None
    names: Sequence[str] | None = None
    label: str | None = None

    @classmethod
    def of_system(cls, system: StateSpace, Y: Array, inputs: Array) -> WideGroup:
        """Lay scores (n, T, p) and inputs (n, T, q) out beside a system's implied moments."""
        mean, cov = implied_moments(system)
        n = len(Y)
        return cls(Y.reshape(n, -1), mean, cov, inputs.reshape(n, -1), input_effects(system))

    @property
    def n_clients(self) -> int:
        """Number of rows."""
        return len(self.Y)

    @property
    def n_moments(self) -> int:
        """Free parameters of the saturated model."""
        p = self.Y.shape[1]
        return p * (p + 3) // 2 + p * self.x.shape[1]

    @property
    def baseline_df(self) -> int:
        """Of these, how many relate one column to another."""
        return self.n_moments - 2 * self.Y.shape[1]

    @property
    def x(self) -> Array:
        """What is given, (n, c); c = 0 if nothing is."""
        return np.zeros((len(self.Y), 0)) if self.given is None else self.given

    def trimmed(self) -> WideGroup:
        """Drop clients without a score, columns that nobody was seen at, givens that never vary.

        A constant one moves the means by what it does.
        """
        Y, x = np.asarray(self.Y, float), np.asarray(self.x, float)
        seen = ~np.isnan(Y)
        rows, columns = seen.any(axis=1), seen.any(axis=0)
        x = x[rows]
        first = x[0] if len(x) else np.zeros(x.shape[1])
        varies = np.abs(x - first).max(axis=0, initial=0.0) > VARIES * np.abs(first)
        B = np.zeros((Y.shape[1], len(varies))) if self.effects is None else self.effects
        mean = self.mean + B @ np.where(varies, 0.0, first)
        labels = column_names(self.names, Y.shape[1])
        return replace(
            self,
            Y=Y[rows][:, columns],
            mean=mean[columns],
            cov=np.asarray(self.cov)[np.ix_(columns, columns)],
            given=x[:, varies],
            effects=B[columns][:, varies],
            clusters=None if self.clusters is None else np.asarray(self.clusters)[rows],
            names=[labels[j] for j in np.flatnonzero(columns)],
        )

    def joint(self) -> tuple[Array, Array]:
        """Return the implied mean and covariance of scores and givens, (p + c,) and (p + c)^2.

        With B the effects and S the covariance of what is given (divisor n), the covariance of
        the scores is cov + B S B', and that of the scores with the givens is B S.
        """
        if self.x.shape[1] == 0 or self.effects is None:
            return self.mean, self.cov
        center, S = self.x.mean(axis=0), _cov(self.x)
        B = self.effects
        cross = B @ S
        mean = np.concatenate([self.mean + B @ center, center])
        return mean, np.block([[self.cov + cross @ B.T, cross], [cross.T, S]])

    def saturated(self) -> Saturated:
        """Return the saturated model: joint moments, and the log-likelihood given the givens."""
        labels = [
            *column_names(self.names, self.Y.shape[1]),
            *(f"covariate or input {c + 1}" for c in range(self.x.shape[1])),
        ]
        found = saturated(np.column_stack([self.Y, self.x]), names=labels)
        reason = found.reason
        if reason is not None and self.label is not None:
            reason = f"In {self.label}: {reason}"
        own = 0.0 if reason is not None else _normal_loglik(self.x)
        return replace(found, loglik=found.loglik - own, n_params=self.n_moments, reason=reason)

    def baseline(self) -> float:
        """Return the log-likelihood of columns that have to do with nothing."""
        return independence(self.Y)[0]

    def traces(self, free: Saturated) -> tuple[float, float]:
        """Return tr(A^-1 B) of the saturated model, given the givens, and of the baseline.

        The joint information falls into that of the regressions on the givens and that of the
        givens, so the trace of the latter is taken off.
        """
        of_free = saturated_trace(
            np.column_stack([self.Y, self.x]), free.mean, free.cov, self.clusters
        )
        if self.x.shape[1]:
            own = saturated_trace(self.x, self.x.mean(axis=0), _cov(self.x), self.clusters)
            of_free -= own
        return of_free, independence_trace(self.Y, self.clusters)


def _cov(x: Array) -> Array:
    """Covariance (c, c) of complete columns, divisor n."""
    around = x - x.mean(axis=0)
    return np.asarray(around.T @ around / len(x))


def _normal_loglik(x: Array) -> float:
    """Maximize the normal log-likelihood of complete columns: -n/2 (c log 2 pi + log|S| + c)."""
    n, c = x.shape
    if c == 0:
        return 0.0
    return float(-0.5 * n * (c * (LOG_2PI + 1.0) + np.linalg.slogdet(_cov(x))[1]))
