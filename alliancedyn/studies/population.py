"""What a model would estimate with infinitely many clients, right or wrong: its pseudo-true value.

The maximum likelihood estimator of a model M converges to the parameters at which the expected
log-likelihood is largest, the expectation being over the truth (White, 1982). For a normal model
of scores whose true mean is m and covariance S,

    E l = -1/2 [ p log 2 pi + log |Sigma| + tr(Sigma^-1 (S + (m - mu)(m - mu)')) ],

mu and Sigma being the model's. This needs m and S only, and nothing random.

References
----------
White, H. (1982). Maximum likelihood estimation of misspecified models. Econometrica, 50, 1-25.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import ConvergenceError
from alliancedyn.panel import SessionPanel
from alliancedyn.results import Fit
from alliancedyn.simulate import Dynamics

Array = NDArray[np.float64]


class Specification(Protocol):
    """A model that can be fitted to a panel."""

    @property
    def name(self) -> str:
        """What readers call it."""
        ...

    def fit(self, panel: SessionPanel, *, errors: str, seed: int | None, strict: bool) -> Fit:
        """Return the fit, converged or not if not ``strict``."""
        ...


def pseudo_true(spec: Specification, truth: Dynamics, sessions: int) -> pd.Series:
    """Return the parameters to which a model's estimates converge, every score observed.

    For a model that contains the truth these are the true parameters; for a CLPM in a world whose
    clients differ in their stable levels they are what its lagged effects then mean.

    Parameters
    ----------
    spec : specification
        The model.
    truth : Dynamics
        The world, in its stationary state from session 1 on.
    sessions : int
        How many are observed: a wrong model's answer depends on it.

    Returns
    -------
    Series
        Value by canonical name.

    Raises
    ------
    SpecificationError
        If lags vary over clients, so that scores are not normal, or the model refuses.
    ConvergenceError
        If no maximum was found.
    """
    panel = _balanced_panel(truth, sessions)
    fit = spec.fit(panel, errors="observed", seed=0, strict=False)
    if not fit.converged:
        raise ConvergenceError(
            f"No maximum of the expected log-likelihood of the {spec.name} was found: "
            f"{fit.diagnostics.get('failure', 'the search stopped.')}",
            fit,
        )
    return fit.params.rename("pseudo_true")


def _balanced_panel(truth: Dynamics, sessions: int) -> SessionPanel:
    """Make the smallest panel whose mean is m and whose covariance is S, exactly.

    A normal log-likelihood depends on complete scores through their mean and covariance alone, so
    its average over the 2 p clients m +- sqrt(p) l_j, l_j the columns of L with L L' = S, is E l.
    """
    mean, cov = truth.moments(sessions)
    values, vectors = np.linalg.eigh(cov)
    away = np.sqrt(len(mean) * np.maximum(values, 0.0)) * vectors
    Y = (mean + np.concatenate([away.T, -away.T])).reshape(-1, sessions, len(truth.variables))
    clients = len(Y)
    frame = pd.DataFrame(Y.reshape(clients * sessions, -1), columns=list(truth.variables))
    frame["client"] = np.repeat(np.arange(clients), sessions)
    frame["session"] = np.tile(np.arange(1, sessions + 1), clients)
    return SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables={name: name for name in truth.variables},
        process=truth.process,
        outcome=truth.outcome,
        timing=dict(truth.timing or {}),
        truth=truth,
    )
