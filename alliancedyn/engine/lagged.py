"""Read canonical parameters as a vector autoregression: lags, innovations, within SDs.

Within-client deviations w_t (k,) follow, with whichever terms a family has,

    w_t = phi_t w_{t-1} + phi2_t w_{t-2} + ma_t v_{t-1} + v_t,   v_t ~ N(0, innovation_cov_t),

where phi_t may be each session's own, or change its cross-lags once (``step``). All of it is
computed as a first-order process z_t = A_t z_{t-1} + entry v_t, z_t being w_t, (w_t, w_{t-1}) or
(w_t, v_t). Families with groups have such a process in each. Where the parameters are those of a
process in time order, w_t = same w_t + phi w_{t-1} + v_t, or leave lagged effects out, phi and
innovations here are those of the reduced form, with same-session effects solved for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names, var
from alliancedyn.errors import SpecificationError, listed

Array = NDArray[np.float64]

STATIONARY = "stationary"
POOLED = "pooled over sessions"
OBSERVED = "observed within clients"
_SETTLES_BELOW = 1.0 - 1e-4  # nearer to 1, the stationary SD is a number without meaning
_NEXT = ".next"  # of a second-order process the first two sessions have a joint covariance
_SPREAD = frozenset(("phi", "phi2", "ma", "step", "innovation_cov", "initial_cov"))


def _is_solved(known: set[str], variables: tuple[str, ...], families: frozenset[str]) -> bool:
    """Say whether a process has same-session effects or leaves lagged effects out."""
    if "same" in families and "innovation_cov" in families:
        return True
    whole = {"phi", "innovation_cov"} <= families
    plain = [name for name in known if name.startswith("phi[") and name.endswith("]")]
    return whole and 0 < len(plain) < len(variables) ** 2


@dataclass(frozen=True)
class LaggedForm:
    """Which elements of an autoregression a fit has, and how to compute with any value of them.

    Parameters
    ----------
    variables : tuple of str
        The k variables, panel order.
    sessions : tuple of int
        Session numbers, ascending.
    lag_sessions, innovation_sessions : tuple of int
        Sessions with lags or innovations of their own; empty if equal over sessions.
    families : frozenset of str
        Families of parameters that the fit has.
    step : int, optional
        Session from which on the cross-lags are others.
    factors : tuple of str
        Growth factors with which the first session's scores covary, as in an ALT.
    groups : tuple of str
        Such as ``("arm=0", "arm=1")``.
    own : frozenset of str
        Families with values of their own in each group.
    group : str, optional
        The group that is read.
    solved : bool
        Whether there are same-session effects, or lagged effects that are left out, thus zero.
    """

    variables: tuple[str, ...]
    sessions: tuple[int, ...]
    lag_sessions: tuple[int, ...]
    innovation_sessions: tuple[int, ...]
    families: frozenset[str] = frozenset()
    step: int | None = None
    factors: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    own: frozenset[str] = frozenset()
    group: str | None = None
    solved: bool = False

    @classmethod
    def of(
        cls, parameters: Iterable[str], variables: tuple[str, ...], sessions: tuple[int, ...]
    ) -> LaggedForm:
        """Read off the parameter names what there is, and what differs between sessions."""
        listed_names = list(parameters)
        by_family = {name: name.partition("[")[0] for name in listed_names}
        labels = {name: names.group_of(name) for name in listed_names if "|" in name}
        steps = names.sessions_of(listed_names, "step")
        shared = [n for n in listed_names if by_family[n] == "initial_between_cov"]
        return cls(
            variables,
            sessions,
            names.sessions_of(listed_names, "phi"),
            names.sessions_of(listed_names, "innovation_cov"),
            families=frozenset(by_family.values()),
            step=steps[0] if steps else None,
            factors=tuple(dict.fromkeys(names.parse(name)[1][1] for name in shared)),
            groups=tuple(dict.fromkeys(str(label) for label in labels.values())),
            own=frozenset(by_family[name] for name in labels),
            solved=_is_solved(set(listed_names), variables, frozenset(by_family.values())),
        )

    def of_group(self, group: str | None) -> LaggedForm:
        """Return the process of one group.

        Raises
        ------
        SpecificationError
            If there is no such group.
        """
        if group is None or group in self.groups:
            return replace(self, group=group)
        known = f"it has {listed(self.groups, 8)}" if self.groups else "it has no groups"
        raise SpecificationError(f"The fit has no group {group!r}; {known}.")

    @property
    def order(self) -> int:
        """How many sessions back lagged effects reach."""
        return 2 if "phi2" in self.families else 1

    @property
    def into(self) -> tuple[int, ...]:
        """Sessions into which lagged effects lead."""
        return self.sessions[self.order :]

    @property
    def varies(self) -> bool:
        """Whether lagged effects differ between sessions."""
        return bool(self.lag_sessions) or self.step is not None

    @property
    def grouped(self) -> bool:
        """Whether the process, and not only means or stable parts, differs between groups."""
        return bool(self.own & _SPREAD)

    def suffix(self, family: str) -> str | None:
        """Return the group in the names of a family, None if all groups share it.

        Raises
        ------
        SpecificationError
            If groups have values of their own and none was named.
        """
        if family not in self.own:
            return None
        if self.group is None:
            raise SpecificationError(
                f"{family} differs between groups. Name one with group=: {listed(self.groups, 8)}."
            )
        return self.group

    # -- matrices -------------------------------------------------------------------------------

    @property
    def settling_names(self) -> list[str]:
        """Names of the lagged effects that decide whether the process settles."""
        families = ("phi", "phi2") if self.order == 2 else ("phi",)
        session = self.lag_sessions[0] if self.lag_sessions else None
        return [
            name
            for family in families
            for name in names.matrix_labels(
                family, self.variables, self.variables, session, self.suffix(family)
            )
        ]

    @property
    def innovation_names(self) -> list[str]:
        """Names of the innovation covariance (of the first session that has its own, if any)."""
        session = self.innovation_sessions[0] if self.innovation_sessions else None
        group = self.suffix("innovation_cov")
        return names.symmetric_labels("innovation_cov", self.variables, session, group)

    def lags(self, p: Mapping[str, float], session: int | None = None) -> Array:
        """Return phi (k, k) into ``session``; without one, the plain average over sessions."""
        return self._lags_of("phi", p, session)

    def lag(
        self,
        p: Mapping[str, float],
        target: str,
        source: str,
        session: int | None = None,
        lag: int = 1,
    ) -> float:
        """Return one element of phi, or with ``lag=2`` of phi2; it alone has to be a parameter."""
        family = "phi" if lag == 1 else "phi2"
        if self.solved:
            at = self.variables.index(target), self.variables.index(source)
            return float(self.lags(p)[at])
        group = self.suffix(family)
        chosen: tuple[int | None, ...] = (None,)
        if self.lag_sessions:
            chosen = self.lag_sessions if session is None else (session,)
        found = [p[names.label(family, target, source, session=t, group=group)] for t in chosen]
        share = self._share_after_step(session) if lag == 1 and target != source else 0.0
        if share:
            group = self.suffix("step")
            found.append(
                share * p[names.label("step", target, source, session=self.step, group=group)]
            )
            return float(sum(found))
        return float(np.mean(found))

    def one_session(
        self, p: Mapping[str, float], target: str, source: str, session: int | None = None
    ) -> float:
        """Return the effect of a point of ``source`` on ``target`` one session later.

        It is the response at 1 to a shock: phi, and phi + ma where moving-average terms pass the
        shock on as well.
        """
        phi = self.lag(p, target, source, session)
        if "ma" not in self.families:
            return phi
        at = self.variables.index(target), self.variables.index(source)
        return phi + float(self._lags_of("ma", p, session)[at])

    def innovations(self, p: Mapping[str, float], session: int | None = None) -> Array:
        """Return Psi (k, k), squared score points; averaged if sessions have their own."""
        if self.solved:
            return self._solve(p)[1]
        group = self.suffix("innovation_cov")
        if self.innovation_sessions and session is None:
            return np.asarray(self._each_innovations(p).mean(axis=0))
        at = session if self.innovation_sessions else None
        return names.symmetric_matrix(p, "innovation_cov", self.variables, at, group)

    def motion(self, p: Mapping[str, float], session: int | None = None) -> tuple[Array, Array]:
        """Return A (q, q) and entry (q, k) of z_t = A z_{t-1} + entry v_t."""
        return self._first_order({f: self._lags_of(f, p, session) for f in self._lag_families})

    def _first_order(self, by_family: Mapping[str, Array]) -> tuple[Array, Array]:
        phi = by_family["phi"]
        if "phi2" in by_family:
            return var.second_order(phi, by_family["phi2"])
        if "ma" in by_family:
            return var.moving_average(phi, by_family["ma"])
        return phi, np.eye(phi.shape[-1])

    @property
    def _lag_families(self) -> list[str]:
        there = self.families | {"phi"} if self.solved else self.families
        return [family for family in ("phi", "phi2", "ma") if family in there]

    def settling(self, at: Mapping[str, Any]) -> Array:
        """Return the lagged effects (..., n) that decide whether the process settles.

        ``at`` holds numbers, or columns of draws.
        """
        if self.solved:
            phi = self._solve(at)[0]
            return np.asarray(phi.reshape(*phi.shape[:-2], -1))
        return np.stack([np.asarray(at[name], float) for name in self.settling_names], axis=-1)

    def spread(self, at: Mapping[str, Any]) -> Array:
        """Return innovation covariances (..., k, k) from numbers or columns of draws."""
        return self._solve(at)[1] if self.solved else self._filled(at, "innovation_cov", True)

    def _solve(self, p: Mapping[str, Any]) -> tuple[Array, Array]:
        """Return lags and innovation covariance of the reduced form, (..., k, k) each."""
        direct, same = (self._filled(p, family) for family in ("phi", "same"))
        return var.reduced_form(same, direct, self._filled(p, "innovation_cov", True))

    def _filled(self, p: Mapping[str, Any], family: str, symmetric: bool = False) -> Array:
        """Return a matrix (..., k, k), 0 where there is no parameter."""
        v = self.variables
        none = np.zeros(np.shape(p[names.label("innovation_cov", v[0], v[0])]))
        pairs = [(a, b) for a in v for b in v]
        if symmetric:
            pairs = [(a, b) if v.index(a) <= v.index(b) else (b, a) for a, b in pairs]
        labels = [names.label(family, a, b) for a, b in pairs]
        values = [np.asarray(p[name]) if name in p else none for name in labels]
        return np.stack(values, axis=-1).reshape(*none.shape, len(v), len(v))

    def _lags_of(self, family: str, p: Mapping[str, float], session: int | None) -> Array:
        if self.solved and family == "phi":
            return self._solve(p)[0]
        if self.lag_sessions and session is None:
            return np.asarray(self._each_lags(family, p).mean(axis=0))
        at = session if self.lag_sessions else None
        found = names.matrix(p, family, self.variables, self.variables, at, self.suffix(family))
        share = self._share_after_step(session) if family == "phi" else 0.0
        return found + share * self._step(p) if share else found

    def _share_after_step(self, session: int | None) -> float:
        """Return the share of sessions after the step; of one session 0 or 1."""
        if self.step is None:
            return 0.0
        chosen = self.into if session is None else (session,)
        return float(np.mean([t >= self.step for t in chosen]))

    def _step(self, p: Mapping[str, float]) -> Array:
        """Return what the step adds to phi (k, k)."""
        group, out = self.suffix("step"), np.zeros((len(self.variables),) * 2)
        for i, target in enumerate(self.variables):
            for j, source in enumerate(self.variables):
                if i != j:
                    name = names.label("step", target, source, session=self.step, group=group)
                    out[i, j] = p[name]
        return out

    # -- every session's matrices at once -------------------------------------------------------

    def _each_lags(self, family: str, p: Mapping[str, float]) -> Array:
        """Return the matrices into every session (S, k, k)."""
        k = len(self.variables)
        if self.solved:
            return np.repeat(self.lags(p)[None], len(self.into), axis=0)
        if not self.lag_sessions:
            same = names.matrix(
                p, family, self.variables, self.variables, group=self.suffix(family)
            )
            each = np.repeat(same[None], len(self.into), axis=0)
            if family == "phi" and self.step is not None:
                each[np.array(self.into) >= self.step] += self._step(p)
            return each
        return np.array([p[name] for name in self._each_lag_name[family]]).reshape(-1, k, k)

    def _each_innovations(self, p: Mapping[str, float]) -> Array:
        """Return Psi into every session (S, k, k)."""
        if not self.innovation_sessions:
            return np.repeat(self.innovations(p)[None], len(self.into), axis=0)
        k = len(self.variables)
        rows, columns = np.triu_indices(k)
        values = np.array([p[name] for name in self._each_innovation_name])
        full = np.empty((len(self.innovation_sessions), k, k))
        full[:, rows, columns] = full[:, columns, rows] = values.reshape(-1, len(rows))
        return full

    @cached_property
    def _each_lag_name(self) -> dict[str, list[str]]:
        return {
            family: [
                name
                for t in self.lag_sessions
                for name in names.matrix_labels(
                    family, self.variables, self.variables, t, self.suffix(family)
                )
            ]
            for family in self._lag_families
        }

    @cached_property
    def _each_innovation_name(self) -> list[str]:
        group = self.suffix("innovation_cov")
        return [
            name
            for t in self.innovation_sessions
            for name in names.symmetric_labels("innovation_cov", self.variables, t, group)
        ]

    # -- within SDs -----------------------------------------------------------------------------

    def within_cov(self, p: Mapping[str, float], basis: str) -> Array:
        """Return the within-client covariance (k, k), squared score points.

        ``"stationary"``: P = A P A' + entry Psi entry'. ``"pooled over sessions"``: the plain
        average over sessions of the same recursion, started at the first session's own. Error of
        measurement is not part of it, nor is what growth factors carry.
        """
        k = len(self.variables)
        if basis == STATIONARY:
            A, entry = self.motion(p)
            return var.stationary_cov(A, entry @ self.innovations(p) @ entry.T)[:k, :k]
        A, entry = self._first_order({f: self._each_lags(f, p) for f in self._lag_families})
        earlier, start = self._start(p, entry)
        Psi = entry @ self._each_innovations(p) @ entry.T
        path = var.covariance_path(A, Psi, start)[:, :k, :k]
        return np.asarray(np.concatenate([earlier, path]).mean(axis=0))

    def _start(self, p: Mapping[str, float], entry: Array) -> tuple[Array, Array]:
        """Return the covariance of z where its recursion starts, and those of w before that."""
        k, none = len(self.variables), np.zeros((0, len(self.variables), len(self.variables)))
        if self.order == 1:
            return none, entry @ self._initial(p) @ entry.T
        both = (*self.variables, *(name + _NEXT for name in self.variables))
        joint = names.symmetric_matrix(p, "initial_cov", both, group=self.suffix("initial_cov"))
        turned = np.roll(np.arange(2 * k), k)  # from (w_1, w_2) to (w_2, w_1)
        return joint[None, :k, :k], joint[np.ix_(turned, turned)]

    def _initial(self, p: Mapping[str, float]) -> Array:
        """Return the within covariance of the first session (k, k).

        Whole scores that covary with growth factors: what is left of them given the factors.
        Latent change scores start as the factors say, without a deviation.
        """
        v = self.variables
        if "coupling" in self.families and "initial_cov" not in self.families:
            return np.zeros((len(v), len(v)))
        own = names.symmetric_matrix(p, "initial_cov", v, group=self.suffix("initial_cov"))
        if not self.factors:
            return own
        group = self.suffix("initial_between_cov")
        shared = names.matrix(p, "initial_between_cov", v, self.factors, group=group)
        group = self.suffix("between_cov")
        between = names.symmetric_matrix(p, "between_cov", self.factors, group=group)
        return np.asarray(own - shared @ np.linalg.pinv(between, hermitian=True) @ shared.T)

    def within_sd(self, p: Mapping[str, float], basis: str) -> Array:
        """Return the within-client standard deviations (k,), score points."""
        if basis == OBSERVED:
            variance = np.array([p[names.label("within_var", v)] for v in self.variables])
            return np.sqrt(np.where(variance >= 0, variance, np.nan))
        variance = np.diag(self.within_cov(p, basis))
        return np.sqrt(np.where(variance >= 0, variance, np.nan))

    def basis(self, settling: Array) -> str:
        """Say which within SD there is, given the ``settling_names`` (..., n), or all draws."""
        if self.varies or self.innovation_sessions:
            return POOLED
        k = len(self.variables)
        matrices = np.asarray(settling, float).reshape(-1, self.order, k, k)
        by_family = dict(zip(("phi", "phi2"), np.moveaxis(matrices, 1, 0), strict=False))
        radius = np.abs(np.linalg.eigvals(self._first_order(by_family)[0])).max()
        return STATIONARY if radius < _SETTLES_BELOW else POOLED

    def time_ordered(
        self, p: Mapping[str, float], after: str, before: str, session: int | None = None
    ) -> Array:
        """Return (b, g, h, phi_after, phi_before) of the process in the order of its scores.

        With innovations that differ between sessions and no session named, g is the slope of the
        pooled innovations, sum_t Psi_t[after,before] / sum_t Psi_t[before,before].
        """
        order = np.ix_(*(2 * [[self.variables.index(after), self.variables.index(before)]]))
        Phi, Psi = self.lags(p, session)[order], self.innovations(p, session)[order]
        return np.array(var.structural_form(Phi, Psi))
