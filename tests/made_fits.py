"""Fits put together by hand: parameters, covariance and scores of the test's own choosing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from alliancedyn.engine import names, var
from alliancedyn.engine.kalman import StateSpace
from alliancedyn.results import ClientGroup, Fit, Observed, Sample
from alliancedyn.results.scores import align

AFTER_BEFORE = {"alliance": "after", "symptoms": "before"}


@dataclass(frozen=True)
class MadeModel:
    """A random-intercept VAR in the fewest lines that a fit needs."""

    name: str = "RI-CLPM"
    assumptions: tuple[str, ...] = ("Scores are missing at random.",)
    references: tuple[str, ...] = ()

    def observe(
        self, panel: Any, sessions: tuple[int, ...], variables: tuple[str, ...]
    ) -> Observed:
        data = panel.arrays()
        Y = align(data, variables, sessions)
        seen = ~np.isnan(Y).all(axis=(1, 2))
        known = Observed.of_scores(np.asarray(data.clients)[seen], sessions, variables, Y[seen])
        return replace(known, therapist=np.asarray(data.therapist)[seen], seen=seen)

    def groups_of(
        self, params: Mapping[str, float], data: Observed, variables: tuple[str, ...]
    ) -> list[ClientGroup]:
        system = self.state_space(params, variables, data.sessions)
        rows = np.arange(len(data.Y))
        return [ClientGroup(rows, system, data.inputs, tuple(range(len(variables))))]

    def state_space(
        self, params: Mapping[str, float], variables: tuple[str, ...], sessions: tuple[int, ...]
    ) -> StateSpace:
        k, n_sessions = len(variables), len(sessions)
        initial = np.zeros((2 * k, 2 * k))
        initial[:k, :k] = names.symmetric_matrix(params, "initial_cov", variables)
        initial[k:, k:] = names.symmetric_matrix(params, "between_cov", variables)
        return StateSpace(
            phi=names.matrix(params, "phi", variables, variables)[None],
            phi_at=np.zeros(n_sessions, np.int64),
            psi=names.symmetric_matrix(params, "innovation_cov", variables)[None],
            psi_at=np.zeros(n_sessions, np.int64),
            mean=np.array([[params[f"mean[{name}]"] for name in variables]]),
            mean_at=np.zeros(n_sessions, np.int64),
            initial_cov=initial,
            load_index=np.array([[j, k + j] for j in range(k)]),
            load=np.ones((1, k, 2)),
            load_at=np.zeros(n_sessions, np.int64),
            noise=np.zeros((1, k)),
            noise_at=np.zeros(n_sessions, np.int64),
            drive=np.zeros((2 * k, 0)),
        )


def var_params(
    Phi: np.ndarray,
    Psi: np.ndarray,
    variables: tuple[str, ...] = ("alliance", "symptoms"),
    *,
    initial: np.ndarray | None = None,
    between: np.ndarray | None = None,
) -> dict[str, float]:
    """Spell matrices as canonical parameters."""
    Phi, Psi = np.asarray(Phi, float), np.asarray(Psi, float)
    k = len(variables)
    initial = var.stationary_cov(Phi, Psi) if initial is None else initial
    between = np.eye(k) if between is None else between
    upper = np.triu_indices(k)
    params = dict(zip(names.matrix_labels("phi", variables, variables), Phi.ravel(), strict=True))
    for family, matrix in (
        ("innovation_cov", Psi),
        ("initial_cov", initial),
        ("between_cov", between),
    ):
        params |= dict(
            zip(names.symmetric_labels(family, variables), np.asarray(matrix)[upper], strict=True)
        )
    params |= {f"mean[{name}]": 1.0 + j for j, name in enumerate(variables)}
    return {name: float(value) for name, value in params.items()}


def known_params() -> dict[str, float]:
    """Return the worked example: phi_A .35, phi_S .45, b -.12, g -.10, unit innovations."""
    return var_params(*var.time_ordered_to_reduced(0.35, 0.45, -0.12, -0.10, 0.0, 1.0, 1.0))


def random_cov(n: int, scale: float = 0.03, seed: int = 1) -> np.ndarray:
    """Return a well-behaved covariance (n, n) with correlated errors, SEs around ``scale``."""
    root = np.random.default_rng(seed).normal(size=(n, n)) * 0.4 + np.eye(n)
    cov = root @ root.T
    return scale**2 * cov / np.diag(cov).mean()


def make_fit(params: Mapping[str, float], cov: Any = None, **changes: Any) -> Fit:
    """Make a fit of these parameters; ``cov`` may be a matrix or one SE for all."""
    index = list(params)
    if cov is None or np.isscalar(cov):
        cov = random_cov(len(index), 0.03 if cov is None else float(cov))
    given: dict[str, Any] = {
        "model": MadeModel(),
        "params": pd.Series(dict(params), dtype=float),
        "cov": pd.DataFrame(np.asarray(cov), index=index, columns=index),
        "sample": Sample(clients=200, sessions=8, rows=1500, pairs=1290),
        "diagnostics": {"gradient": 1e-9, "condition": 10.0, "boundary": [], "seconds": 0.01},
        "loglik": -4321.5,
        "n_params": len(index),
        "converged": True,
        "variables": ("alliance", "symptoms"),
        "process": "alliance",
        "outcome": "symptoms",
        "timing": dict(AFTER_BEFORE),
        "sessions": tuple(range(1, 9)),
    }
    return Fit(**{**given, **changes})


def make_scores(Y: np.ndarray, variables: tuple[str, ...], first: int = 1) -> Observed:
    """Make a panel's scores (N, T, k)."""
    clients = np.array([f"C{i:02d}" for i in range(len(Y))], dtype=object)
    return Observed.of_scores(clients, tuple(range(first, first + Y.shape[1])), variables, Y)
