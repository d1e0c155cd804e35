"""Panels drawn from state-space systems, by the definition of the model and nothing else.

``draw`` takes the system matrices of :class:`alliancedyn.engine.kalman.StateSpace` literally: a
first state, transitions with innovations and inputs, scores with noise. It shares no code with
the filter.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn import SessionPanel
from alliancedyn.engine.kalman import StateSpace

Array = NDArray[np.float64]

ROLES = ("alliance", "symptoms")
INDICATORS = {"alliance": ["bond", "task", "goal"], "symptoms": ["parcel1", "parcel2"]}
ITEMS = tuple(item for items in INDICATORS.values() for item in items)


def root(cov: Array) -> Array:
    """Return R with R R' = cov (..., m, m), which may be singular."""
    values, vectors = np.linalg.eigh(cov)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :])


def draw(
    system: StateSpace, n: int, rng: np.random.Generator, inputs: Array | None = None
) -> Array:
    """Draw scores (n, T, p) of clients who follow a system."""
    T, m, d = system.n_sessions, system.n_states, system.phi.shape[-1]
    u = np.zeros((n, T, system.drive.shape[1])) if inputs is None else inputs
    Y = np.empty((n, T, len(system.load_index)))
    x = np.zeros((n, m))
    for t in range(T):
        if t == 0:
            x = rng.standard_normal((n, m)) @ root(system.initial_cov).T
        else:
            phi = system.phi[..., system.phi_at[t], :, :]
            psi = system.psi[..., system.psi_at[t], :, :]
            shock = root(psi) @ rng.standard_normal((n, d, 1))
            x[:, :d] = (phi @ x[:, :d, None] + shock)[..., 0]
        x = x + u[:, t] @ system.drive.T
        noise = np.sqrt(system.noise[system.noise_at[t]])
        Y[:, t] = system.mean[system.mean_at[t]] + rng.standard_normal(Y[:, t].shape) * noise
        for j, states in enumerate(system.load_index):
            Y[:, t, j] += x[:, states] @ system.load[system.load_at[t], j]
    return Y


def knock_out(Y: Array, rng: np.random.Generator, rate: float = 0.1, leave: float = 0.06) -> Array:
    """Make scores missing one by one, by sessions, and for good."""
    Y = Y.copy()
    Y[rng.random(Y.shape) < rate] = np.nan
    Y[rng.random(Y.shape[:2]) < rate / 2] = np.nan
    gone = (rng.random(Y.shape[:2]) < leave).cumsum(axis=1) > 0
    Y[gone & (np.arange(Y.shape[1]) >= 2)] = np.nan
    Y[:, 0, 0] = np.where(np.isnan(Y).all(axis=(1, 2)), 0.0, Y[:, 0, 0])
    return Y


def to_panel(
    Y: Array,
    variables: tuple[str, ...] = ROLES,
    by_client: Mapping[str, Array] | None = None,
    crisis: Array | None = None,
) -> SessionPanel:
    """Make a panel of scores, client-level columns and one session-level input."""
    n, T, _ = Y.shape
    frame = pd.DataFrame(
        {"client": np.repeat(np.arange(n), T), "session": np.tile(1 + np.arange(T), n)}
    )
    for j, name in enumerate(variables):
        frame[name] = Y[:, :, j].ravel()
    known = dict(by_client or {})
    for name, values in known.items():
        frame[name] = np.repeat(values, T)
    if crisis is not None:
        frame["crisis"] = crisis.ravel()
    return SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables={name: name for name in variables},
        process=variables[0],
        outcome=variables[-1],
        covariates=tuple(set(known) - {"arm"}) + (("crisis",) if crisis is not None else ()),
        arm="arm" if "arm" in known else None,
        timing=dict(zip((variables[0], variables[-1]), ("after", "before"), strict=True)),
    )
