"""Dynamic panel equations written over the columns of a wide panel: the parts of an ML-SEM.

Columns are what is given g (first scores, all scores of series without an equation, and client
covariates c), and scores y_t with an equation, t = 2..T::

    g = mean + g~,   g~ ~ (0, initial_cov)
    y_t = intercept_t + phi x_{t-1} + between c + alpha + e_t

Client effects alpha ~ (0, between_cov) covary freely with given scores, but not with covariates;
errors e_t ~ (0, innovation_cov) covary with those later given scores that they may move
(``feedback``). Otherwise g, alpha and e_t have nothing to do with one another, nor e_t with e_s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names
from alliancedyn.engine.centered import Shift
from alliancedyn.engine.kalman import StateSpace
from alliancedyn.engine.structural import Entry, Equations, Pattern
from alliancedyn.engine.system import EVERY, Block, Matrices, covariance, variances
from alliancedyn.errors import SpecificationError

Array = NDArray[np.float64]
Column = tuple[str, int | None]

LAGS, SHARED, FEEDBACK = "lags", "initial_between_cov", "feedback_cov"


class ColumnMoments(StateSpace):
    """Means and covariances of columns in the shape of a system, without a course in time."""

    @property
    def n_dynamic(self) -> int:
        """Refuse to say what happens next: the columns have no states."""
        raise SpecificationError(
            "An ML-SEM does not split scores into parts between and within clients, nor does it "
            "explain all of them: it has no states, forecasts or draws. Use a model of whole "
            "series, such as RICLPM()."
        )


@dataclass(frozen=True)
class Plan:
    """Which columns there are, and which of them have an equation.

    Parameters
    ----------
    targets : tuple of str
        Series with an equation, panel order.
    predictors : tuple of str
        Series whose last scores stand in the equations.
    given : tuple of (str, int or None)
        Columns without an equation: (series, session), and last (covariate, None).
    covariates : tuple of str
        Client-level numbers.
    sessions : tuple of int
        The T session numbers.
    feedback : tuple of (int, int)
        Pairs (session of an error, place in ``given`` of a score that it moves), ascending.
    errors_equal : bool
        Whether errors have the same (co)variances at all sessions.
    """

    targets: tuple[str, ...]
    predictors: tuple[str, ...]
    given: tuple[Column, ...]
    covariates: tuple[str, ...]
    sessions: tuple[int, ...]
    feedback: tuple[tuple[int, int], ...]
    errors_equal: bool

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Every column: what is given, then scores with an equation session by session."""
        later = [(v, t) for t in self.sessions[1:] for v in self.targets]
        return (*self.given, *later)

    @property
    def scored(self) -> tuple[Column, ...]:
        """What is given without the covariates, which client effects have nothing to do with."""
        return self.given[: len(self.given) - len(self.covariates)]

    @cached_property
    def place(self) -> dict[Column, int]:
        """Where each column stands."""
        return {column: j for j, column in enumerate(self.columns)}

    @cached_property
    def moved(self) -> NDArray[np.bool_]:
        """Which given scores the errors of which sessions move, (T-1, g)."""
        out = np.zeros((len(self.sessions) - 1, len(self.given)), bool)
        for t, j in self.feedback:
            out[self.sessions.index(t) - 1, j] = True
        return out

    def wide(self, Y: Array, variables: tuple[str, ...]) -> Array:
        """Lay scores (N, T, k) out by column, (N, p); covariates stand at the first session."""
        return np.ascontiguousarray(Y[:, *self.cells(variables)])

    def cells(self, variables: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return place in time and variable of every column."""
        times = [0 if t is None else self.sessions.index(t) for _, t in self.columns]
        return np.array(times), np.array([variables.index(v) for v, _ in self.columns])

    # -- parameters -----------------------------------------------------------------------------

    def blocks(self, sd: Mapping[str, float]) -> list[Block]:
        """Return all parameters; those that a reader looks for come first."""
        v, later = self.targets, self.sessions[1:]
        slots = EVERY if self.errors_equal else later
        lags = [(y, x) for y in v for x in self.predictors]
        found = [_plain(LAGS, [names.label("phi", *pair) for pair in lags], _ratios(lags, sd))]
        if self.covariates:
            pairs = [(y, c) for y in v for c in self.covariates]
            labels = [names.label("between", *pair) for pair in pairs]
            found.append(_plain("between", labels, _ratios(pairs, sd)))
        labels = [names.label("intercept", y, session=t) for t in later for y in v]
        found.append(_plain("intercept", labels, [sd[y] for _ in later for y in v], linear=True))
        found.append(self._innovations(sd, slots))
        found += [covariance("between_cov", v, sd), *self._given_blocks(sd)]
        return [*found, *self._nuisance(sd)]

    def _innovations(self, sd: Mapping[str, float], slots: tuple[int | None, ...]) -> Block:
        if len(self.targets) > 1:
            return covariance("innovation_cov", self.targets, sd, slots)
        block = variances("innovation_cov", self.targets, sd, slots)
        (y,) = self.targets
        labels = tuple(names.label("residual_var", y, session=t) for t in slots)
        return replace(block, names=labels)

    def _given_blocks(self, sd: Mapping[str, float]) -> list[Block]:
        """Return covariances of what is given with client effects, and among itself."""
        v, given, g = self.targets, self.given, len(self.given)
        firsts = given[: len(v)] if len(v) > 1 else ()  # of series explained from then on
        pairs = [(one, other) for one in self.scored for other in v]
        labels = [_shared_name(one, other, firsts) for one, other in pairs]
        shared = _plain(SHARED, labels, [sd[one[0]] * sd[other] for one, other in pairs])
        labels = [
            _given_name(one, other, firsts) for i, one in enumerate(given) for other in given[i:]
        ]
        scale = tuple(sd[one] for one, _ in given)
        spelled = tuple(_spelled(one) for one in given)
        own = Block("initial_cov", "covariance", tuple(labels), (1, g, g), scale, EVERY, spelled)
        return [shared, own]

    def _nuisance(self, sd: Mapping[str, float]) -> list[Block]:
        """Return what the model leaves free and nobody asks for."""
        found = []
        if self.feedback:
            (y,) = self.targets
            moved = [(self.given[j], t) for t, j in self.feedback]
            labels = [names.label(FEEDBACK, _spelled(g), y, session=t) for g, t in moved]
            found.append(_plain(FEEDBACK, labels, [sd[g[0]] * sd[y] for g, _ in moved]))
        labels = [names.label("mean", v, session=t) for v, t in self.given]
        found.append(_plain("mean", labels, [sd[v] for v, _ in self.given], linear=True))
        return found

    def shifts(self, level: Mapping[str, float]) -> dict[str, Shift]:
        """Return how means and intercepts carry the level of the columns."""
        found: dict[str, Shift] = {
            names.label("mean", v, session=t): (level[v], {}) for v, t in self.given
        }
        for y in self.targets:
            by = {names.label("phi", y, x): -level[x] for x in self.predictors}
            by |= {names.label("between", y, c): -level[c] for c in self.covariates}
            for t in self.sessions[1:]:
                found[names.label("intercept", y, session=t)] = (level[y], by)
        return found

    # -- moments --------------------------------------------------------------------------------

    @cached_property
    def equations(self) -> Equations:
        """The equations, with every parameter in its place."""
        return Equations(self._level(), self._paths(), self._entry(), self._sources())

    def _level(self) -> Pattern:
        """Return nu: means of what is given, intercepts of the rest."""
        g, p = len(self.given), len(self.columns)
        mean = Entry("mean", (1, g), np.arange(g), np.arange(g))
        rest = Entry("intercept", (1, p - g), np.arange(p - g), np.arange(g, p))
        return Pattern(np.zeros(p), (mean, rest))

    def _paths(self) -> Pattern:
        """Return B: lagged effects, and effects of covariates."""
        p, q = len(self.columns), len(self.covariates)
        lags: list[tuple[int, int]] = []
        beside: list[tuple[int, int]] = []
        for before, t in pairwise(self.sessions):
            for i, y in enumerate(self.targets):
                row = p * self.place[y, t]
                for j, x in enumerate(self.predictors):
                    lags.append((i * len(self.predictors) + j, row + self.place[x, before]))
                for j, c in enumerate(self.covariates):
                    beside.append((i * q + j, row + self.place[c, None]))
        k = len(self.targets)
        found = [Entry(LAGS, (1, k * len(self.predictors)), *np.array(lags).T)]
        if q:
            found.append(Entry("between", (1, k * q), *np.array(beside).T))
        return Pattern(np.zeros((p, p)), tuple(found))

    def _entry(self) -> Pattern:
        """Return N: what sources (client effects, what is given, errors) do to columns."""
        p, k, g = len(self.columns), len(self.targets), len(self.given)
        fixed = np.eye(p, p + k, k)
        later = np.arange(g, p)
        fixed[later, (later - g) % k] = 1.0
        return Pattern(fixed, ())

    def _sources(self) -> Pattern:
        """Return Omega: client effects, what is given, errors session by session."""
        p, k, g = len(self.columns), len(self.targets), len(self.given)
        r, n, s = p + k, len(self.feedback), k * len(self.scored)
        i, j = np.divmod(np.arange(s), k)
        found = [
            _square("between_cov", (1, k, k), 0, r),
            _square("initial_cov", (1, g, g), k, r),
            _twice(Entry(SHARED, (1, s), np.arange(s), (k + i) * r + j), r),
        ]
        if n:
            (y,) = self.targets
            moved = [(k + j) * r + k + self.place[y, t] for t, j in self.feedback]
            found.append(_twice(Entry(FEEDBACK, (1, n), np.arange(n), np.array(moved)), r))
        slots = 1 if self.errors_equal else len(self.sessions) - 1
        shape = (slots, k, k) if k > 1 else (slots, 1)
        each = [
            _square("innovation_cov", shape, k + g + t * k, r, min(t, slots - 1), k)
            for t in range(len(self.sessions) - 1)
        ]
        which, at = (np.concatenate([getattr(e, part) for e in each]) for part in ("which", "at"))
        found.append(Entry("innovation_cov", shape, which, at))
        return Pattern(np.zeros((r, r)), tuple(found))

    @property
    def within_names(self) -> tuple[str, ...]:
        """Names of the variances within clients that standardize effects."""
        return tuple(names.label("within_var", v) for v in self.predictors)

    def within(self, matrices: Matrices) -> Array:
        """Return the variances of series around clients' own means, (..., m), squared points.

        What a client's T_v scores of a series, less the session means, vary around their mean,
        divisor T_v - 1, is expected to be tr(C Sigma_v) / (T_v - 1), C taking off the mean.
        """
        moments = self.equations.moments(matrices)
        found = []
        for v in self.predictors:
            at = np.array(
                [j for j, (name, t) in enumerate(self.columns) if name == v and t is not None]
            )
            around = (np.eye(len(at)) - 1.0 / len(at)) / (len(at) - 1)
            cov = moments.cov[..., at[:, None], at]
            found.append((around * cov).sum(axis=(-2, -1)))
        return np.stack(found, axis=-1)

    def system(self, matrices: Matrices, variables: tuple[str, ...]) -> ColumnMoments:
        """Return the moments as a system whose states are the columns, each seen once."""
        moments = self.equations.moments(matrices)
        T, K, p = len(self.sessions), len(variables), len(self.columns)
        times, series = self.cells(variables)
        order = [np.flatnonzero(series == v) for v in range(K)]
        L = max(len(own) for own in order)
        index, load = np.zeros((K, L), np.int64), np.zeros((T, K, L))
        for v, own in enumerate(order):
            index[v, : len(own)] = own
            load[times[own], v, np.arange(len(own))] = 1.0
        mean = np.zeros((*moments.mean.shape[:-1], T, K), moments.mean.dtype)
        mean[..., times, series] = moments.mean
        still, none = np.zeros(T, np.int64), np.zeros((1, 0, 0))
        return ColumnMoments(
            none, still, none, still, mean, np.arange(T), moments.cov,
            index, load, np.arange(T), np.zeros((1, K)), still, np.zeros((p, 0)),
        )  # fmt: skip


def _plain(family: str, labels: list[str], scale: list[float], linear: bool = False) -> Block:
    return Block(family, "plain", tuple(labels), (1, len(labels)), tuple(scale), linear=linear)


def _ratios(pairs: list[tuple[str, str]], sd: Mapping[str, float]) -> list[float]:
    return [sd[row] / sd[column] for row, column in pairs]


def _square(
    key: str, shape: tuple[int, ...], first: int, r: int, slot: int = 0, size: int | None = None
) -> Entry:
    """Place one slot of a covariance at ``first`` on the diagonal of an (r, r) matrix."""
    n = shape[-1] if size is None else size
    which = np.arange(n * n)
    rows, columns = np.divmod(which, n)
    return Entry(key, shape, slot * n * n + which, (first + rows) * r + first + columns)


def _twice(entry: Entry, r: int) -> Entry:
    """Place the entries of an (r, r) matrix also where rows and columns are interchanged."""
    rows, columns = np.divmod(entry.at, r)
    return Entry(
        entry.key,
        entry.shape,
        np.r_[entry.which, entry.which],
        np.r_[entry.at, columns * r + rows],
    )


def _spelled(column: Column) -> str:
    variable, session = column
    return variable if session is None else f"{variable}.{session}"


def _shared_name(one: Column, effect: str, firsts: tuple[Column, ...]) -> str:
    """Name the covariance of a given score with the client effect of a series."""
    if one in firsts:
        return names.label("initial_between_cov", one[0], effect)
    return names.label("predictor_between_cov", one[0], effect, session=one[1])


def _given_name(one: Column, other: Column, firsts: tuple[Column, ...]) -> str:
    """Name the covariance of two given scores."""
    if one in firsts and other in firsts:
        return names.label("initial_cov", one[0], other[0])
    return names.label("predictor_cov", one[0], _spelled(other), session=one[1])
