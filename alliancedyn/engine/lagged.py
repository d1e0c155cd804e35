"""Read canonical parameters as a VAR(1): lags, innovations, within SDs, time-ordered form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

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
        chosen = self.lag_sessions if session is None else (session,)
        each = [names.matrix(p, "phi", self.variables, self.variables, t) for t in chosen]
        return np.asarray(np.mean(each, axis=0))

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
        each = [
            names.symmetric_matrix(p, "innovation_cov", self.variables, t)
            for t in self.innovation_sessions
        ]
        return np.asarray(np.mean(each, axis=0))

    def within_cov(self, p: Mapping[str, float], basis: str) -> Array:
        """Return the within-client covariance (k, k), squared score points.

        ``"stationary"``: P = Phi P Phi' + Psi. ``"pooled over sessions"``: the plain average
        over sessions of P_t = Phi_t P_{t-1} Phi_t' + Psi_t, started at the first session's own.
        """
        if basis == STATIONARY:
            return var.stationary_cov(self.lags(p), self.innovations(p))
        into = self.sessions[1:]
        lags = self.lags(p)
        Phi = [self.lags(p, t) if self.lag_sessions else lags for t in into]
        Psi = [self._innovation_into(p, t) for t in into]
        initial = names.symmetric_matrix(p, "initial_cov", self.variables)
        path = var.covariance_path(np.array(Phi), np.array(Psi), initial)
        return np.asarray(path.mean(axis=0))

    def _innovation_into(self, p: Mapping[str, float], session: int) -> Array:
        own = session if self.innovation_sessions else None
        return names.symmetric_matrix(p, "innovation_cov", self.variables, own)

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
