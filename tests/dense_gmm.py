"""GMM of a dynamic panel written out client by client: one matrix after another.

The second route to every number of :mod:`alliancedyn.engine.gmm`. For client i with level rows
t = 0 .. T-1, the transformed rows are ``D_i y_i``, their white-noise covariance is ``D_i D_i'``,
and Z_i is a plain matrix with one line per transformed row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def transformation(complete: NDArray[np.bool_], transform: str, system: bool) -> list[Any]:
    """Return (kind, session, weights (T,)) of every row of one client."""
    T = len(complete)
    rows: list[Any] = []
    for t in range(T):
        h = np.zeros(T)
        if not complete[t]:
            continue
        if transform == "difference" and t and complete[t - 1]:
            h[t], h[t - 1] = 1.0, -1.0
            rows.append(("transformed", t, h))
        later = [s for s in range(t + 1, T) if complete[s]]
        if transform == "orthogonal" and later:
            h[t] = 1.0
            h[later] = -1.0 / len(later)
            rows.append(("transformed", t, h / np.linalg.norm(h)))
    if system:
        rows += [("level", t, np.eye(T)[t]) for t in range(1, T) if complete[t]]
    return rows


def instruments(
    kind: str,
    t: int,
    series: list[Array],
    lags: list[tuple[int, int]],
    transform: str,
    collapse: bool,
) -> dict[Any, float]:
    """Return the instruments of one row of one client by the name of their column."""
    z: dict[Any, float] = {}
    for j, (values, (first, last)) in enumerate(zip(series, lags, strict=True)):
        known = np.nan_to_num(values)
        if kind == "level":
            s = t - first + 1
            if s >= 1:
                both = not np.isnan(values[s]) and not np.isnan(values[s - 1])
                name = ("level", j) if collapse else ("level", j, t)
                z[name] = known[s] - known[s - 1] if both else 0.0
            continue
        newest = t - first + (transform == "orthogonal")
        for lag in range(first, last + 1):
            s = newest - (lag - first)
            if s >= 0:
                z[(j, lag) if collapse else (j, lag, t)] = known[s]
    return z


def dense_gmm(
    y: Array,
    X: Array,
    series: list[Array],
    lags: list[tuple[int, int]],
    *,
    transform: str = "difference",
    collapse: bool = False,
    effects: bool = False,
    system: bool = False,
    effects_in_z: bool = True,
) -> dict[str, Any]:
    """Fit by both steps; ``y`` (N, T), ``X`` (N, T, p), ``series`` of (N, T)."""
    N, T = y.shape
    complete = ~np.isnan(y) & ~np.isnan(X).any(axis=2)
    clients, names = [], {}
    for i in range(N):
        rows = transformation(complete[i], transform, system)
        y0, X0 = np.where(complete[i], y[i], 0.0), np.where(complete[i][:, None], X[i], 0.0)
        D = np.array([h for _, _, h in rows]).reshape(len(rows), T)
        Z = []
        for kind, t, h in rows:
            z = instruments(kind, t, [v[i] for v in series], lags, transform, collapse)
            if effects and effects_in_z and (kind == "level" or not system):
                z |= {("effect", s): h[s] for s in range(T) if h[s]}
            Z.append(z)
            names |= {name: None for name, value in z.items() if value != 0.0}
        clients.append((D, D @ y0, D @ X0, Z))
    return _both_steps(clients, list(names), T, effects)


def _both_steps(clients: list[Any], names: list[Any], T: int, effects: bool) -> dict[str, Any]:
    blocks = []
    for D, y, X, rows in clients:
        Z = np.array([[z.get(name, 0.0) for name in names] for z in rows])
        blocks.append((D, y, np.hstack([X, D]) if effects else X, Z.reshape(len(rows), len(names))))
    A = sum(Z.T @ D @ D.T @ Z for D, _, _, Z in blocks)
    zx = sum(Z.T @ X for _, _, X, Z in blocks)
    zy = sum(Z.T @ y for _, y, _, Z in blocks)
    pinv = np.linalg.pinv

    def solve(W: Array) -> tuple[Array, Array]:
        # Session effects as given are one too many: the pseudo-inverse leaves slopes alone.
        B = pinv(zx.T @ W @ zx, rcond=1e-10, hermitian=True)
        return B @ zx.T @ W @ zy, B

    W1 = pinv(A, rcond=1e-12, hermitian=True)
    b1, B1 = solve(W1)
    ze = np.array([Z.T @ (y - X @ b1) for _, y, X, Z in blocks])
    S = ze.T @ ze
    W2 = pinv(S, rcond=1e-12, hermitian=True)
    b2, B2 = solve(W2)
    V1 = B1 @ zx.T @ W1 @ S @ W1 @ zx @ B1
    g = zy - zx @ b2
    D = np.empty((len(b2), len(b2)))
    for j in range(len(b2)):
        zj = np.array([Z.T @ X[:, j] for _, _, X, Z in blocks])
        dS = -(zj.T @ ze + ze.T @ zj)
        D[:, j] = -B2 @ zx.T @ W2 @ dS @ W2 @ g
    V2 = B2 + D @ B2 + B2 @ D.T + D @ V1 @ D.T
    return {
        "one": (b1, V1),
        "two": (b2, V2),
        "hansen": float(g @ W2 @ g),
        "instruments": int(np.linalg.matrix_rank(A)),
    }
