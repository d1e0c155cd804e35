"""Read canonical parameters as a VAR(1): lags, innovations, within SDs, time-ordered form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names, var

Array = NDArray[np.float64]

STATIONARY = "stationary"
POOLED = "pooled over sessions"
_SETTLES_BELOW = 1.0 - 1e-4  # nearer to 1, the stationary SD is a number without meaning


@dataclass(frozen=True)
class LaggedForm:
    """Which elements of a VAR(1) a fit has, and how to compute with any value of them.

    Parameters
    ----------
    variables : tuple of str
        The k variables, panel order.
    sessions : tuple of int
        Session numbers, ascending.
    lag_sessions, innovation_sessions : tuple of int
        Sessions with lags or innovations of their own; empty if equal over sessions.
    """

    variables: tuple[str, ...]
    sessions: tuple[int, ...]
    lag_sessions: tuple[int, ...]
    innovation_sessions: tuple[int, ...]

    @classmethod
    def of(
        cls, parameters: Iterable[str], variables: tuple[str, ...], sessions: tuple[int, ...]
    ) -> LaggedForm:
        """Read off the parameter names what differs between sessions."""
        listed = list(parameters)
        return cls(
            variables,
            sessions,
            names.sessions_of(listed, "phi"),
            names.sessions_of(listed, "innovation_cov"),
        )

    @cached_property
    def lag_names(self) -> list[str]:
        """Names of the elements of Phi, row by row (first session that has its own, if any)."""
        session = self.lag_sessions[0] if self.lag_sessions else None
        return names.matrix_labels("phi", self.variables, self.variables, session)

    def lags(self, p: Mapping[str, float], session: int | None = None) -> Array:
        """Return Phi (k, k) into ``session``; without one, the plain average over sessions."""
        if not self.lag_sessions:
            return names.matrix(p, "phi", self.variables, self.variables)
        if session is not None:
            return names.matrix(p, "phi", self.variables, self.variables, session)
        return np.asarray(self._each_lags(p).mean(axis=0))

    @cached_property
    def _lag_names_by_session(self) -> list[str]:
        each = (
            names.matrix_labels("phi", self.variables, self.variables, session)
            for session in self.lag_sessions
        )
        return list(chain.from_iterable(each))

    @cached_property
    def _innovation_names_by_session(self) -> list[str]:
        each = (
            names.symmetric_labels("innovation_cov", self.variables, session)
            for session in self.innovation_sessions
        )
        return list(chain.from_iterable(each))

    def _each_lags(self, p: Mapping[str, float]) -> Array:
        """Return Phi into every session that has its own (S, k, k)."""
        k = len(self.variables)
        return np.array([p[name] for name in self._lag_names_by_session]).reshape(-1, k, k)

    def _each_innovations(self, p: Mapping[str, float]) -> Array:
        """Return Psi into every session that has its own (S, k, k)."""
        k = len(self.variables)
        rows, columns = np.triu_indices(k)
        values = np.array([p[name] for name in self._innovation_names_by_session])
        full = np.empty((len(self.innovation_sessions), k, k))
        full[:, rows, columns] = full[:, columns, rows] = values.reshape(-1, len(rows))
        return full

    def lag(
        self, p: Mapping[str, float], target: str, source: str, session: int | None = None
    ) -> float:
        """Return one element of Phi; it alone has to be a parameter."""
        if not self.lag_sessions:
            return float(p[names.label("phi", target, source)])
        chosen = self.lag_sessions if session is None else (session,)
        return float(np.mean([p[names.label("phi", target, source, session=t)] for t in chosen]))

    def innovations(self, p: Mapping[str, float]) -> Array:
        """Return Psi (k, k), squared score points; averaged if sessions have their own."""
        if not self.innovation_sessions:
            return names.symmetric_matrix(p, "innovation_cov", self.variables)
        return np.asarray(self._each_innovations(p).mean(axis=0))

    def within_cov(self, p: Mapping[str, float], basis: str) -> Array:
        """Return the within-client covariance (k, k), squared score points.

        ``"stationary"``: P = Phi P Phi' + Psi. ``"pooled over sessions"``: the plain average
        over sessions of P_t = Phi_t P_{t-1} Phi_t' + Psi_t, started at the first session's own.
        """
        if basis == STATIONARY:
            return var.stationary_cov(self.lags(p), self.innovations(p))
        initial = names.symmetric_matrix(p, "initial_cov", self.variables)
        shape = (len(self.sessions) - 1, *initial.shape)
        Phi = self._each_lags(p) if self.lag_sessions else self.lags(p)
        Psi = self._each_innovations(p) if self.innovation_sessions else self.innovations(p)
        path = var.covariance_path(
            np.broadcast_to(Phi, shape), np.broadcast_to(Psi, shape), initial
        )
        return np.asarray(path.mean(axis=0))

    def within_sd(self, p: Mapping[str, float], basis: str) -> Array:
        """Return the within-client standard deviations (k,), score points."""
        variance = np.diag(self.within_cov(p, basis))
        return np.sqrt(np.where(variance >= 0, variance, np.nan))

    def basis(self, Phi: Array) -> str:
        """Say which within SD there is, given lags (..., k, k) at the estimate or at all draws."""
        if self.lag_sessions or self.innovation_sessions:
            return POOLED
        radius = np.abs(np.linalg.eigvals(Phi)).max()
        return STATIONARY if radius < _SETTLES_BELOW else POOLED

    def time_ordered(self, p: Mapping[str, float], after: str, before: str) -> Array:
        """Return (b, g, h, phi_after, phi_before) of the process in the order of its scores.

        With innovations that differ between sessions g is the slope of the pooled innovations,
        sum_t Psi_t[after,before] / sum_t Psi_t[before,before].
        """
        order = np.ix_(*(2 * [[self.variables.index(after), self.variables.index(before)]]))
        return np.array(var.structural_form(self.lags(p)[order], self.innovations(p)[order]))
