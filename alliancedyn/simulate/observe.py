"""How a world is seen: who leaves and when, which scores are missing, which dates, which ceiling.

Order of events: ceiling, then scores missing completely at random, then dropout. Dropout looks at
observed scores only, so a likelihood that contains both series may ignore it (missing at random).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.errors import SpecificationError, listed
from alliancedyn.simulate.arguments import (
    as_array,
    as_choice,
    as_count,
    as_covariance,
    as_number,
    as_rows,
    as_share,
)

Array = NDArray[np.float64]

RULES = ("random", "unwell", "well_enough", "improving")


@dataclass(frozen=True)
class Dropout:
    """Clients who leave before the last session, and why.

    After each session from number ``first`` on, a client leaves with probability

        logistic(c + strength x),

    x depending on the rule, S being the last *observed* score of the outcome, higher = worse,
    in SDs of all observed scores:

    =================  ====================================================================
    ``rule``           x
    =================  ====================================================================
    ``"random"``       0: completely at random
    ``"unwell"``       S - mean: those who feel bad leave
    ``"well_enough"``  max(0, level - S): those below a level leave, the lower the sooner
    ``"improving"``    previous observed score - S: those who just improved leave
    =================  ====================================================================

    c is found by root search so that, given the scores drawn, the expected share of clients who
    leave before the last session is exactly ``rate``; the share that does leave varies binomially.

    Parameters
    ----------
    rule : str
        See the table.
    rate : float
        Expected share of clients who leave before the last session, from 0 to below 1.
    first : int
        Number of sessions that everybody attends.
    strength : float, log odds per SD
        How strongly x matters; not used by ``"random"``.
    level : float, score points, optional
        For ``"well_enough"``. Default: the mean of all observed scores.
    variable : str, optional
        The series S. Default: the outcome.

    Raises
    ------
    SpecificationError
        If a value is out of range or does not belong to the rule.
    """

    rule: str = "random"
    rate: float = 0.3
    first: int = 3
    strength: float = 1.0
    level: float | None = None
    variable: str | None = None

    def __post_init__(self) -> None:
        store = object.__setattr__
        as_choice(self.rule, RULES, "rule")
        store(self, "rate", as_share(self.rate, "rate"))
        store(self, "first", as_count(self.first, 1, "first"))
        store(self, "strength", as_number(self.strength, "strength"))
        if self.strength <= 0.0:
            raise SpecificationError(
                f'strength must be above 0, not {self.strength:g}. Use rule="random" for no effect.'
            )
        if self.level is not None:
            if self.rule != "well_enough":
                raise SpecificationError('level= belongs to rule="well_enough" only.')
            store(self, "level", as_number(self.level, "level"))


@dataclass(frozen=True)
class Gaps:
    """Weeks between one session and the next, drawn independently.

    Parameters
    ----------
    weeks : sequence of numbers
        Possible gaps, above 0.
    weights : sequence of numbers, optional
        Their relative frequencies. None: equally frequent.
    per : "session" or "week"
        What the lagged effects refer to. "session": a long gap carries over as much as a short one
        (then only the dates are irregular). "week": the dynamics run once a week whether or not
        there is a session, and ``weeks`` must be whole numbers.

    Raises
    ------
    SpecificationError
        If gaps or weights are impossible.
    """

    weeks: tuple[float, ...] = (1, 2, 4)
    weights: tuple[float, ...] | None = None
    per: str = "session"

    def __post_init__(self) -> None:
        weeks = as_array(self.weeks, (np.size(self.weeks),), "weeks")
        if not len(weeks) or (weeks <= 0.0).any():
            raise SpecificationError("weeks must hold at least one gap, each above 0.")
        as_choice(self.per, ("session", "week"), "per")
        if self.per == "week" and (weeks % 1 != 0).any():
            raise SpecificationError('per="week" needs whole numbers of weeks.')
        object.__setattr__(self, "weeks", tuple(weeks.tolist()))
        if self.weights is not None:
            weights = as_array(self.weights, weeks.shape, "weights")
            if (weights < 0.0).any() or weights.sum() <= 0.0:
                raise SpecificationError("weights must not be negative and not all zero.")
            object.__setattr__(self, "weights", tuple(weights.tolist()))

    def draw(self, clients: int, sessions: int, rng: np.random.Generator) -> Array:
        """Return weeks since each client's first session: (N, T), 0 at session 1."""
        weights = np.ones(len(self.weeks)) if self.weights is None else np.array(self.weights)
        cumulative = np.cumsum(weights / weights.sum())
        chosen = np.searchsorted(cumulative, rng.random((clients, sessions - 1)), side="right")
        elapsed = np.zeros((clients, sessions))
        gaps = np.array(self.weeks)[np.minimum(chosen, len(self.weeks) - 1)]
        np.cumsum(gaps, axis=1, out=elapsed[:, 1:])
        return elapsed


@dataclass(frozen=True)
class Therapists:
    """Therapists who differ in the level of their clients' scores.

    Each client has one therapist, drawn at random, so caseloads vary. A therapist's effect is
    N(0, cov) and adds to the clients' ``between_cov``.

    Parameters
    ----------
    n : int
        Number of therapists.
    cov : (k, k), squared score points
        Covariance of the therapist effects.

    Raises
    ------
    SpecificationError
        If ``n`` is below 1 or ``cov`` is not a covariance matrix.
    """

    n: int
    cov: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", as_count(self.n, 1, "The number of therapists"))
        rows = as_rows(self.cov, "The therapist covariance")
        as_covariance(rows, len(rows), "The therapist covariance")
        object.__setattr__(self, "cov", rows)


def apply_ceiling(
    scores: Array, variables: tuple[str, ...], ceiling: Mapping[str, float] | None
) -> Array:
    """Return the scores (N, T, k) with everything above an instrument's maximum set to it.

    Raises
    ------
    SpecificationError
        If a series is unknown or a maximum is not a number.
    """
    if ceiling is None:
        return scores
    if not isinstance(ceiling, Mapping):
        raise SpecificationError('ceiling must name the series, e.g. {"alliance": 7.0}.')
    unknown = [name for name in ceiling if name not in variables]
    if unknown:
        raise SpecificationError(
            f"ceiling names {listed(unknown)}, which are not among the series."
        )
    top = [as_number(ceiling.get(name, np.finfo(float).max), "ceiling") for name in variables]
    return np.minimum(scores, top)


def hide_scores(scores: Array, missing: float, rng: np.random.Generator) -> Array:
    """Return the scores with each one missing (NaN) independently with probability ``missing``."""
    if missing == 0.0:
        return scores
    return np.where(rng.random(scores.shape) < missing, np.nan, scores)


def last_sessions(observed: Array, dropout: Dropout, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw each client's last session number, 1..T.

    Parameters
    ----------
    observed : (N, T) array, score points
        The series that dropout looks at; NaN = missing, and never looked at.
    dropout : Dropout
        The rule.
    rng : numpy Generator

    Returns
    -------
    (N,) array of int
        T for those who stay.

    Raises
    ------
    SpecificationError
        If no session is left at which anybody could leave.
    """
    clients, sessions = observed.shape
    if dropout.first >= sessions:
        raise SpecificationError(
            f"Nobody can leave: dropout starts after session {dropout.first} and there are "
            f"{sessions} sessions. Use a smaller first= or more sessions."
        )
    stay = np.full(clients, sessions, dtype=np.int64)
    if dropout.rate == 0.0:
        return stay
    push = drive(observed, dropout)
    logit = push + _calibrate(push, dropout.rate)
    leaves = rng.random(push.shape) < 1.0 / (1.0 + np.exp(-np.clip(logit, -700.0, 700.0)))
    first_leave = dropout.first + leaves.argmax(axis=1)
    return np.where(leaves.any(axis=1), first_leave, stay)


def drive(observed: Array, dropout: Dropout) -> Array:
    """Return strength x at each chance to leave, after sessions first..T-1.

    Parameters
    ----------
    observed : (N, T) array, score points
        The series that dropout looks at; NaN = missing.
    dropout : Dropout
        The rule.

    Returns
    -------
    (N, T - first) array, log odds
        0 where the client has not been observed (twice, for "improving") yet.
    """
    chances = slice(dropout.first - 1, observed.shape[1] - 1)
    shape = (len(observed), observed.shape[1] - dropout.first)
    seen = observed[np.isfinite(observed)]
    spread = seen.std() if len(seen) else 0.0
    if dropout.rule == "random" or not spread > 0.0:
        return np.zeros(shape)
    last, previous = _last_two(observed)
    if dropout.rule == "unwell":
        x = last - seen.mean()
    elif dropout.rule == "well_enough":
        level = seen.mean() if dropout.level is None else dropout.level
        x = np.maximum(level - last, 0.0)
    else:
        x = previous - last
    x = np.nan_to_num(x[:, chances], nan=0.0)  # nothing seen yet: the average hazard
    return dropout.strength * x / spread


def _last_two(observed: Array) -> tuple[Array, Array]:
    """Return the last observed score up to each session, and the one observed before it."""
    sessions = np.arange(observed.shape[1])
    last = np.maximum.accumulate(np.where(np.isfinite(observed), sessions, -1), axis=1)
    before = np.take_along_axis(last, np.maximum(last - 1, 0), axis=1)
    before = np.where(last > 0, before, -1)
    return _pick(observed, last), _pick(observed, before)


def _pick(observed: Array, where: NDArray[Any]) -> Array:
    picked = np.take_along_axis(observed, np.maximum(where, 0), axis=1)
    return np.where(where >= 0, picked, np.nan)


def _calibrate(drive: Array, rate: float) -> float:
    """Find c with mean over clients of 1 - prod_t (1 - logistic(c + drive_it)) = rate."""
    from scipy.optimize import brentq

    def excess(c: float) -> float:
        staying = np.exp(-np.logaddexp(0.0, c + drive).sum(axis=1))
        return float(1.0 - staying.mean() - rate)

    bound = 50.0 + float(np.abs(drive).max())
    return float(brentq(excess, -bound, bound, xtol=1e-10))
