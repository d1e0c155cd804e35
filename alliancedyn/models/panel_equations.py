"""Dynamic panel equations written over the columns of a wide panel: the parts of an ML-SEM.

Columns are client covariates c, what is given g (first scores, and all scores of series without
an equation), and scores y_t with an equation, t = 2..T::

    c ~ (mean_c, covariate_cov),   g = mean + effects (c - mean_c) + g~
    y_t = intercept_t + phi x_{t-1} + between c + alpha + e_t

Client effects alpha ~ (0, between_cov) covary freely with g~ ~ (0, initial_cov), and so do
errors e_t ~ (0, innovation_cov) with those later scores in g that they may move (``feedback``).
Otherwise c, g~, alpha and e_t have nothing to do with one another, nor e_t with e_s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names
from alliancedyn.engine.kalman import StateSpace
from alliancedyn.engine.structural import Entry, Equations, Pattern
from alliancedyn.engine.system import EVERY, Block, Matrices, covariance, variances
from alliancedyn.errors import SpecificationError

Array = NDArray[np.float64]
Column = tuple[str, int | None]

LAGS, SHARED, FEEDBACK, GIVEN_EFFECTS = (
    *("lags", "initial_between_cov", "feedback_cov", "predictor_between"),
)


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
    given : tuple of (str, int)
        Scores without an equation: (series, session).
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
    given: tuple[tuple[str, int], ...]
    covariates: tuple[str, ...]
    sessions: tuple[int, ...]
    feedback: tuple[tuple[int, int], ...]
    errors_equal: bool

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Every column: (series, session), or (covariate, None)."""
        later = [(v, t) for t in self.sessions[1:] for v in self.targets]
        return (*((c, None) for c in self.covariates), *self.given, *later)

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
        labels = [_shared_name(one, other, firsts) for one in given for other in v]
        shared = _plain(SHARED, labels, [sd[one[0]] * sd[other] for one in given for other in v])
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
        labels += [names.label("mean", c) for c in self.covariates]
        scale = [sd[v] for v, _ in self.given] + [sd[c] for c in self.covariates]
        found.append(_plain("mean", labels, scale, linear=True))
        if self.covariates:
            pairs = [(g, c) for g in self.given for c in self.covariates]
            labels = [names.label(GIVEN_EFFECTS, g[0], c, session=g[1]) for g, c in pairs]
            found.append(_plain(GIVEN_EFFECTS, labels, [sd[g[0]] / sd[c] for g, c in pairs]))
            found.append(covariance("covariate_cov", self.covariates, sd))
        return found

    # -- moments --------------------------------------------------------------------------------

    @cached_property
    def equations(self) -> Equations:
        """The equations, with every parameter in its place."""
        return Equations(self._level(), self._paths(), self._entry(), self._sources())

    def _level(self) -> Pattern:
        """Return nu: means of what is given and of covariates, intercepts of the rest."""
        g, q, p = len(self.given), len(self.covariates), len(self.columns)
        mean = Entry("mean", (1, g + q), np.arange(g + q), np.r_[q : q + g, :q])
        n = p - q - g
        return Pattern(
            np.zeros(p), (mean, Entry("intercept", (1, n), np.arange(n), np.arange(q + g, p)))
        )

    def _paths(self) -> Pattern:
        """Return B: lagged effects, and effects of covariates."""
        p, k, m, q = len(self.columns), len(self.targets), len(self.predictors), self._q
        cells, sources = [], []
        beside, origins = [], []
        for before, t in zip(self.sessions[:-1], self.sessions[1:], strict=True):
            for i, y in enumerate(self.targets):
                row = self.place[y, t]
                for j, x in enumerate(self.predictors):
                    cells.append(row * p + self.place[x, before])
                    sources.append(i * m + j)
                for c in range(q):
                    beside.append(row * p + c)
                    origins.append(i * q + c)
        found = [Entry(LAGS, (1, k * m), np.array(sources), np.array(cells))]
        if q:
            found.append(Entry("between", (1, k * q), np.array(origins), np.array(beside)))
        return Pattern(np.zeros((p, p)), tuple(found))

    @property
    def _q(self) -> int:
        return len(self.covariates)

    def _entry(self) -> Pattern:
        """Return N: what sources (covariates, client effects, given, errors) do to columns."""
        p, k, g, q = len(self.columns), len(self.targets), len(self.given), self._q
        r = p + k
        fixed = np.zeros((p, r))
        fixed[np.arange(q), np.arange(q)] = 1.0
        fixed[q + np.arange(g), q + k + np.arange(g)] = 1.0
        later = q + g + np.arange(p - q - g)
        fixed[later, q + np.arange(len(later)) % k] = 1.0  # client effects
        fixed[later, k + later] = 1.0
        if not q:
            return Pattern(fixed, ())
        rows, columns = np.divmod(np.arange(g * q), q)
        effects = Entry(GIVEN_EFFECTS, (1, g * q), np.arange(g * q), (q + rows) * r + columns)
        return Pattern(fixed, (effects,))

    def _sources(self) -> Pattern:
        """Return Omega: covariates, client effects, what is given, errors session by session."""
        p, k, g, q = len(self.columns), len(self.targets), len(self.given), self._q
        r, n = p + k, len(self.feedback)
        i, j = np.divmod(np.arange(g * k), k)
        found = [
            _square("between_cov", (1, k, k), q, r),
            _square("initial_cov", (1, g, g), q + k, r),
            _twice(Entry(SHARED, (1, g * k), np.arange(g * k), (q + k + i) * r + q + j), r),
        ]
        if q:
            found.append(_square("covariate_cov", (1, q, q), 0, r))
        if n:
            moved = [(q + k + j) * r + k + self.place[self.targets[0], t] for t, j in self.feedback]
            found.append(_twice(Entry(FEEDBACK, (1, n), np.arange(n), np.array(moved)), r))
        slots = 1 if self.errors_equal else len(self.sessions) - 1
        shape = (slots, k, k) if k > 1 else (slots, 1)
        for t in range(len(self.sessions) - 1):
            slot = 0 if self.errors_equal else t
            found.append(_square("innovation_cov", shape, q + k + g + t * k, r, slot, k))
        return Pattern(np.zeros((r, r)), tuple(found))

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
