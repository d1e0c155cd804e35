"""Standardized solutions: effects, covariances and variances in units without a unit.

With W_t the within-client covariance of the series at session t, Psi_t that of the innovations
into it, B_t that of the stable parts, V_t the variances of the scores and E_t those of their
errors, all as the model implies them::

    phi[i,j]              phi_t[i,j] sqrt(W_{t-1}[j,j] / W_t[i,i])
    innovation_share[i]   Psi_t[i,i] / W_t[i,i]
    r2[i]                 1 - Psi_t[i,i] / W_t[i,i]
    icc[i]                B_t[i,i] / V_t[i]; of a series with several items without error; none
                          in an ALT, whose stable part builds up
    error_share[q]        E_t[q] / V_t[q]
    loading[q]            +- sqrt(1 - E_t[q] / V_t[q])
    ..._corr[i,j]         a covariance over the root of the product of its variances
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.engine import names
from alliancedyn.engine.lagged import STATIONARY, LaggedForm
from alliancedyn.errors import SpecificationError
from alliancedyn.results.estimate import tabulate
from alliancedyn.results.model import ClientGroup, Params
from alliancedyn.results.scores import Observed

if TYPE_CHECKING:
    from alliancedyn.results.fit import Fit

Array = NDArray[np.float64]
Rows = dict[str, float]

SAME = 1e-8  # relative difference between sessions that is none
SHARES = ("innovation_share", "r2", "icc", "error_share")
_VARIANCES = {"initial_between_cov": ("initial_cov", "between_cov")}  # others are their own
OWN_LAGS = frozenset(("drift", "moderation"))  # families of clients with lags of their own


def standardized(fit: Fit, level: float) -> pd.DataFrame:
    """Return the standardized solution of a fit; see `Fit.standardized`."""
    if not {"phi", "innovation_cov"} <= fit.lagged.families:
        raise SpecificationError(
            f"{fit.model.name} has no lagged effects phi with innovations here, so there are no "
            "within-client variances to standardize by. Use fit.table()."
        )
    solution = Solution.of(fit)
    everything = solution.rows({str(name): float(value) for name, value in fit.params.items()})
    kept = _once(everything)
    places = [list(everything).index(name) for name in kept]
    derived = fit.derive_many(lambda p: np.array(list(solution.rows(p).values()))[places])
    labels = list(kept.values())
    table = tabulate(derived, pd.Index(labels, name="quantity"), level)
    if "p_value" in table:  # zero is the edge of what a share can be
        table.loc[[name.partition("[")[0] in SHARES for name in labels], "p_value"] = np.nan
    return table


def _once(rows: Rows) -> dict[str, str]:
    """Say which rows to keep and what to call them: what is the same at all sessions once."""
    alike: dict[str, list[str]] = {}
    for name in rows:
        family, indices, _ = names.parse(name)
        short = names.label(family, *indices, group=names.group_of(name))
        alike.setdefault(short, []).append(name)
    kept = {}
    for short, own in alike.items():
        values = np.array([rows[name] for name in own])
        if np.ptp(values) <= SAME * np.abs(values).max():
            kept[own[0]] = short
        else:
            kept.update({name: name for name in own})
    return kept


@dataclass(frozen=True)
class Path:
    """Variances that a model implies at every session.

    Parameters
    ----------
    within, between, series : (T, k)
        Of the series: of deviations, of stable parts, of both together; squared score points.
    score, error : (T, p)
        Of the items, and of their errors.
    sign : (T, p)
        Signs of their loadings.
    reference : tuple of int
        For each series, its item with loading 1.
    """

    within: Array
    between: Array
    series: Array
    score: Array
    error: Array
    sign: Array
    reference: tuple[int, ...]

    @classmethod
    def of(cls, group: ClientGroup) -> Path:
        """Follow the states: P_1 = initial_cov, P_t = F_t P_{t-1} F_t' + Q_t."""
        system, own = group.system, list(group.reference)
        d, states = system.n_dynamic, np.empty((system.n_sessions, *system.initial_cov.shape))
        F = np.eye(len(system.initial_cov))
        for t in range(system.n_sessions):
            if t == 0:
                states[0] = system.initial_cov
                continue
            F[:d, :d] = system.phi[system.phi_at[t]]
            states[t] = F @ states[t - 1] @ F.T
            states[t, :d, :d] += system.psi[system.psi_at[t]]
        load, error = system.loadings, system.noise[system.noise_at]
        dynamic, stable = load[:, own].copy(), load[:, own].copy()
        dynamic[..., d:], stable[..., :d] = 0.0, 0.0
        score = _variance(load, states)
        return cls(
            within=_variance(dynamic, states),
            between=_variance(stable, states),
            series=score[:, own],
            score=score + error,
            error=error,
            sign=np.sign(load.sum(axis=-1)),
            reference=group.reference,
        )


def _variance(load: Array, states: Array) -> Array:
    """Return the variances (T, q) of load_t x_t, Cov x_t = states[t]."""
    return np.asarray(((load @ states) * load).sum(axis=-1))


@dataclass(frozen=True)
class Solution:
    """The standardized quantities of a fit as functions of its parameters.

    Parameters
    ----------
    fit : Fit
    form : LaggedForm
        Its lagged effects.
    bases : dict
        Group (None without groups) -> what standardizes its lagged effects.
    nobody : Observed
        A panel without clients, of the fit's sessions, items and groups.
    """

    fit: Fit
    form: LaggedForm
    bases: dict[str | None, str]
    nobody: Observed

    @classmethod
    def of(cls, fit: Fit) -> Solution:
        """Decide what standardizes, once for all values of the parameters."""
        form = fit.lagged
        of_model = getattr(fit.model, "nobody", Observed.of_nobody)
        nobody = of_model(fit.variables, fit.sessions, form.groups)
        bases = {label: fit.sd_within_basis(group=label) for label in form.groups or (None,)}
        return cls(fit, form, bases, nobody)

    @property
    def _one_path(self) -> bool:
        """Whether all clients have the same lags at the same sessions."""
        return self._splits and not self.form.families & OWN_LAGS

    @property
    def _splits(self) -> bool:
        """Whether the model splits scores into parts between and within clients."""
        return bool(getattr(self.fit.model, "splits", True))

    def rows(self, p: Params) -> Rows:
        """Return every quantity by name, in the same order for any ``p``."""
        paths: dict[str | None, Path] = {}
        if self._one_path:
            groups = self.fit.model.groups_of(self._free(p), self.nobody, self.fit.variables)
            paths = {group.label: Path.of(group) for group in groups}
        lags: Rows = {}
        for label in self.form.groups if self.form.grouped else list(self.bases)[:1]:
            lags |= self._lags(p, label, paths.get(label))
        shares: Rows = {}
        for label in self.bases:
            if label in paths:
                shares |= self._shares(p, label, paths[label])
            elif self.bases[label] == STATIONARY:
                shares |= self._settled_shares(p, label)
        return {**lags, **_by_family(shares), **_correlations(p)}

    def _free(self, p: Params) -> Params:
        """Leave out the first session's covariance where it follows from the others."""
        if getattr(self.fit.model, "initial", None) != "stationary":
            return p
        return {name: p[name] for name in p if not name.startswith("initial_cov[")}

    def _lags(self, p: Params, label: str | None, path: Path | None) -> Rows:
        """Return lagged effects, per session where lags or innovations differ between them."""
        form = self.form.of_group(label)
        out: Rows = {}
        each = form.varies or bool(form.innovation_sessions)
        if path is None or not each:
            sd = np.broadcast_to(form.within_sd(p, self.bases[label]), (3, len(form.variables)))
            return self._effects(p, label, None, sd)
        for t in form.into:
            at = form.sessions.index(t)
            sd = np.sqrt(path.within[at - np.arange(form.order + 1)])
            out |= self._effects(p, label, t, sd)
        return out

    def _effects(self, p: Params, label: str | None, session: int | None, sd: Array) -> Rows:
        """Return the lagged effects into a session; ``sd[l]`` (k,) of l sessions before it."""
        form = self.form.of_group(label)
        out: Rows = {}
        shown = label if self.form.grouped else None
        for lag, family in enumerate(("phi", "phi2")[: form.order], start=1):
            for i, target in enumerate(form.variables):
                for j, source in enumerate(form.variables):
                    name = names.label(family, target, source, session=session, group=shown)
                    raw = form.lag(p, target, source, session, lag)
                    out[name] = float(raw * sd[lag, j] / sd[0, i])
        return out

    def _shares(self, p: Params, label: str | None, path: Path) -> Rows:
        """Return shares of variance and item loadings, session by session."""
        form = self.form.of_group(label)
        out: Rows = {}
        single = [self.nobody.variables[q] in form.variables for q in path.reference]
        whole = np.where(single, path.score[:, list(path.reference)], path.series)
        for t, session in enumerate(form.sessions):
            if session in form.into:
                share = np.diag(form.innovations(p, session)) / path.within[t]
                out |= _named("r2", form.variables, 1.0 - share, session, label)
                out |= _named("innovation_share", form.variables, share, session, label)
            if path.between.any() and not form.factors:
                share = path.between[t] / whole[t]
                out |= _named("icc", form.variables, share, session, label)
            error = path.error[t] / path.score[t]
            for q, item in enumerate(self.nobody.variables):
                if path.error[:, q].any():
                    out |= _named("error_share", (item,), error[[q]], session, label)
                if item not in form.variables:
                    loading = path.sign[t, [q]] * np.sqrt(1.0 - error[[q]])
                    out |= _named("loading", (item,), loading, session, label)
        return out

    def _settled_shares(self, p: Params, label: str | None) -> Rows:
        """Return shares of variance of a process that has settled, whenever its sessions are."""
        form = self.form.of_group(label)
        within = form.within_sd(p, STATIONARY) ** 2
        share = np.diag(form.innovations(p)) / within
        out = _named("r2", form.variables, 1.0 - share, group=label)
        out |= _named("innovation_share", form.variables, share, group=label)
        owner = form.suffix("between_cov") if "between_cov" in form.families else None
        stable = [names.label("between_cov", v, v, group=owner) for v in form.variables]
        error = getattr(self.fit.model, "measurement_var", None)
        alone = self.nobody.variables == form.variables and stable[0] in p
        if error is None and self._splits and alone:
            between = np.array([p[name] for name in stable])
            out |= _named("icc", form.variables, between / (between + within), group=label)
        return out


def _named(
    family: str,
    variables: Sequence[str],
    values: Array,
    session: int | None = None,
    group: str | None = None,
) -> Rows:
    return {
        names.label(family, name, session=session, group=group): float(value)
        for name, value in zip(variables, values, strict=True)
    }


def _by_family(rows: Rows) -> Rows:
    """Put the quantities of one kind together, one variable after the other."""
    return {name: rows[name] for name in _ordered(tuple(rows))}


@lru_cache(maxsize=64)  # the same names at every draw
def _ordered(rows: tuple[str, ...]) -> tuple[str, ...]:
    order: dict[str, int] = {}
    for name in rows:
        order.setdefault(name.partition("@")[0], len(order))
    kinds = {name: name.partition("[")[0] for name in order}
    first = {kind: place for place, kind in enumerate(dict.fromkeys(kinds.values()))}
    return tuple(
        sorted(
            rows,
            key=lambda name: (first[name.partition("[")[0]], order[name.partition("@")[0]]),
        )
    )


def _correlations(p: Params) -> Rows:
    """Return every covariance parameter as a correlation."""
    out = {}
    for name in p:
        family, indices, session = names.parse(name)
        if not family.endswith("_cov"):
            continue
        kinds = _VARIANCES.get(family, (family, family))
        group = names.group_of(name)
        own = [
            names.label(kind, v, v, session=session, group=group)
            for kind, v in zip(kinds, indices, strict=True)
        ]
        if own[0] != own[1] and all(one in p for one in own):
            label = names.label(f"{family[:-4]}_corr", *indices, session=session, group=group)
            out[label] = p[name] / np.sqrt(p[own[0]] * p[own[1]])
    return out
