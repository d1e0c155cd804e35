"""Panels of a known process, rated at every so many sessions; used by tests and studies."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import alliancedyn as ad
from alliancedyn.errors import SpecificationError

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

PHI = np.array([[0.6, -0.1], [-0.2, 0.5]])
PSI = np.array([[1.0, -0.3], [-0.3, 1.0]])
LEVELS = np.array([[1.0, -0.3], [-0.3, 1.0]])


def drawn(clients: int, sessions: int, seed: int) -> Array:
    """Draw scores (N, T, 2) of stable levels and a process that has settled."""
    rng = np.random.default_rng(seed)
    P = np.linalg.solve(np.eye(4) - np.kron(PHI, PHI), PSI.ravel()).reshape(2, 2)
    w = rng.multivariate_normal(np.zeros(2), P, clients)
    levels = 5.0 + rng.multivariate_normal(np.zeros(2), LEVELS, clients)
    path = [w]
    for _ in range(sessions - 1):
        w = w @ PHI.T + rng.multivariate_normal(np.zeros(2), PSI, clients)
        path.append(w)
    return np.stack(path, axis=1) + levels[:, None]


def rated(every: tuple[int, int], offset: Any, clients: int, sessions: int) -> Flags:
    """Say which scores there are: series j at every ``every[j]``-th session from an offset on."""
    seen = np.zeros((clients, sessions, 2), bool)
    for i in range(clients):
        for j in range(2):
            seen[i, offset(i, j) % every[j] :: every[j], j] = True
    return seen


def panel_of(Y: Array, seen: Flags) -> ad.SessionPanel:
    scores = np.where(seen, Y, np.nan)
    client, session = np.nonzero(seen.any(axis=2))
    frame = pd.DataFrame(
        {
            "client": [f"C{i:03d}" for i in client],
            "session": session + 1,
            "alliance": scores[client, session, 0],
            "symptoms": scores[client, session, 1],
        }
    )
    return ad.SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables={"alliance": "alliance", "symptoms": "symptoms"},
        timing={"alliance": "after", "symptoms": "before"},
    )


def quiet(spec: Any, panel: ad.SessionPanel) -> ad.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return spec.fit(panel, strict=False)


def random_panel(seed: int) -> ad.SessionPanel:
    """Draw a panel whose series are rated at periods and offsets of their own."""
    rng = np.random.default_rng([77, seed])
    clients, sessions = int(rng.choice([50, 80, 120])), int(rng.choice([6, 8, 10, 12]))
    every = int(rng.integers(1, 5)), int(rng.integers(1, 5))
    offsets = rng.integers(12, size=(clients, 2))
    if seed % 3:  # one series a fixed number of sessions after the other
        offsets[:, 1] = offsets[:, 0] + seed % 3
    seen = rated(every, lambda i, j: int(offsets[i, j]), clients, sessions)
    seen[: int(rng.integers(4))] = True  # a few clients are rated at every session
    return panel_of(drawn(clients, sessions, seed), seen)


def below_unsaid(spec: Any, panel: ad.SessionPanel, starts: int = 20) -> float | None:
    """Return how far a fit silently ends below the best of many starts; None if refused."""
    try:
        one, many = quiet(spec, panel), quiet(replace(spec, starts=starts), panel)
    except SpecificationError:
        return None
    said = any("several maxima" in note for note in one.diagnostics["notes"])
    assert one.loglik is not None
    assert many.loglik is not None
    return 0.0 if said or not one.converged else max(many.loglik - one.loglik, 0.0)
