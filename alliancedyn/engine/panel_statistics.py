"""What a panel of scores shows at first sight: persistence, lagged and same-session association.

Around each client's own mean over sessions, d_it = y_it - mean_i::

    within_var[a]          sum d^2 / (scores - clients)
    autocorrelation[a]     corr(d_a,t-1, d_a,t), pooled over pairs of sessions in a row
    lagged_corr[b,a]       corr(d_a,t-1, d_b,t)
    same_corr[a,b]         corr(d_a,t, d_b,t)
    icc[a]                 between / (between + within), between = variance of clients' means less
                           within / scores per client (harmonic mean), not below 0
    slope[a]               sum d s / sum s^2, s = the session around the client's mean session
    slope_sd[a]            SD over clients with three or more scores of their own such slopes

They are biased as descriptions of the process where sessions are few; that does not matter where
the same is computed of scores that a model has drawn with the same scores missing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names

Array = NDArray[np.float64]


def statistic_names(variables: Sequence[str]) -> tuple[str, ...]:
    """Name the statistics of `panel_statistics`, in their order."""
    pairs = [(b, a) for b in variables for a in variables if a != b]
    once = [(a, b) for i, a in enumerate(variables) for b in variables[i + 1 :]]
    return (
        *(names.label("autocorrelation", v) for v in variables),
        *(names.label("lagged_corr", b, a) for b, a in pairs),
        *(names.label("same_corr", a, b) for a, b in once),
        *(names.label("within_var", v) for v in variables),
        *(names.label("icc", v) for v in variables),
        *(names.label("slope", v) for v in variables),
        *(names.label("slope_sd", v) for v in variables),
    )


def panel_statistics(Y: Array) -> Array:
    """Return the statistics (m,) of scores (N, T, k), NaN = missing; NaN where there is none."""
    k = Y.shape[2]
    seen = np.isfinite(Y)
    counts = seen.sum(axis=1)
    filled = np.where(seen, Y, 0.0)
    own = np.divide(filled.sum(axis=1), counts, out=np.zeros(counts.shape), where=counts > 0)
    d = np.where(seen, Y - own[:, None], np.nan)
    lagged = np.array([[_corr(d[:, :-1, a], d[:, 1:, b]) for a in range(k)] for b in range(k)])
    same = [_corr(d[:, :, a], d[:, :, b]) for a in range(k) for b in range(a + 1, k)]
    apart = ~np.eye(k, dtype=bool)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        spare = counts.sum(axis=0) - (counts > 0).sum(axis=0)
        within = np.nansum(d**2, axis=(0, 1)) / spare
        icc = np.array([_icc(own[:, j], counts[:, j], within[j]) for j in range(k)])
    slope, spread = _slopes(d, seen, counts)
    return np.concatenate([np.diag(lagged), lagged[apart], same, within, icc, slope, spread])


def _slopes(d: Array, seen: NDArray[np.bool_], counts: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return pooled slopes over sessions (k,), and how clients' own differ (k,)."""
    session = np.arange(d.shape[1], dtype=float)[None, :, None] * seen
    middle = np.divide(session.sum(axis=1), counts, out=np.zeros(counts.shape), where=counts > 0)
    s = np.where(seen, np.arange(d.shape[1], dtype=float)[None, :, None] - middle[:, None], 0.0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        product, square = np.nansum(d * s, axis=1), (s * s).sum(axis=1)
        pooled = product.sum(axis=0) / square.sum(axis=0)
        own = np.where(counts >= 3, product / square, np.nan)
        known = np.isfinite(own).sum(axis=0)
        mean = np.nansum(own, axis=0) / known
        spread = np.sqrt(np.nansum((own - mean) ** 2, axis=0) / (known - 1))
    return pooled, spread


def _corr(x: Array, y: Array) -> float:
    """Return the correlation of deviations over all places where both are known."""
    with np.errstate(invalid="ignore", over="ignore"):
        both = np.isfinite(x) & np.isfinite(y)
        a, b = x[both], y[both]
        size = float(np.sqrt((a @ a) * (b @ b)))
        return float(a @ b) / size if size > 0.0 and np.isfinite(size) else float("nan")


def _icc(own: Array, counts: NDArray[np.int64], within: float) -> float:
    """Return the share of variance between clients of one series."""
    some = counts > 0
    if some.sum() < 2 or not np.isfinite(within):
        return float("nan")
    noise = within * float((1.0 / counts[some]).mean())
    between = max(float(np.var(own[some], ddof=1)) - noise, 0.0)
    return between / (between + within)
