"""Turn a world into the session panel that a practice would have recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import SpecificationError
from alliancedyn.panel import SessionPanel
from alliancedyn.simulate.arguments import as_count, as_covariance, as_share, factor
from alliancedyn.simulate.dynamics import Dynamics
from alliancedyn.simulate.observe import (
    Dropout,
    Gaps,
    Therapists,
    apply_ceiling,
    hide_scores,
    last_sessions,
)
from alliancedyn.simulate.scores import simulate_scores

Array = NDArray[np.float64]

MOST_SESSIONS = 400  # what a panel holds


def simulate(
    truth: Dynamics,
    clients: int,
    sessions: int,
    *,
    therapists: Therapists | None = None,
    dropout: Dropout | None = None,
    missing: float = 0.0,
    gaps: Gaps | None = None,
    ceiling: Mapping[str, float] | None = None,
    start: Any = "stationary",
    seed: int | np.random.SeedSequence | None = None,
) -> SessionPanel:
    """Simulate a panel of clients and sessions whose true parameters are known.

    Scores, therapists, dates, missing scores and dropout draw from separate random streams: with
    the same seed, adding missing scores or dropout leaves the scores that are seen unchanged.

    Parameters
    ----------
    truth : Dynamics
        The world; it becomes ``panel.truth``.
    clients, sessions : int
        Number of clients, and of sessions planned for each (2 to 400).
    therapists : Therapists, optional
        Adds therapist differences and a column ``therapist``.
    dropout : Dropout, optional
        Who leaves early. It depends on observed scores only.
    missing : float
        Share of single scores, among sessions attended, that are missing completely at random.
        A session whose scores are all missing keeps its row.
    gaps : Gaps, optional
        Weeks between sessions; adds a column ``day``, days since the first session.
    ceiling : mapping name -> number, score points, optional
        Highest possible score; what lies above is recorded as the ceiling. The parameters of
        ``truth`` describe the scores before that.
    start : "stationary" or (k, k) array, squared score points
        Covariance of the within-client deviations at session 1.
    seed : int or SeedSequence, optional
        None: a new panel each time.

    Returns
    -------
    SessionPanel
        One row per session attended.

    Raises
    ------
    SpecificationError
        If an argument is impossible.

    Examples
    --------
    >>> truth = Dynamics.time_ordered(phi_alliance=.35, phi_symptoms=.45, forward=-.12,
    ...                               backward=-.10, between_cov=[[1, -.3], [-.3, 1]])
    >>> panel = simulate(truth, clients=200, sessions=12, dropout=Dropout("well_enough"), seed=7)
    """
    if not isinstance(truth, Dynamics):
        raise SpecificationError("truth must be a Dynamics, e.g. Dynamics.time_ordered(...).")
    for name, given, kind in (
        ("therapists", therapists, Therapists),
        ("dropout", dropout, Dropout),
        ("gaps", gaps, Gaps),
    ):
        if not (given is None or isinstance(given, kind)):
            raise SpecificationError(f"{name}={given!r}: give a {kind.__name__}(...) or None.")
    clients = as_count(clients, 1, "clients")
    sessions = as_count(sessions, 2, "sessions", largest=MOST_SESSIONS)
    missing = as_share(missing, "missing")
    streams = [np.random.default_rng(child) for child in _root(seed).spawn(5)]
    for_scores, for_therapists, for_gaps, for_missing, for_dropout = streams
    columns: dict[str, Any] = {}
    effects, steps = None, None
    if therapists is not None:
        codes, effects = _assign(therapists, truth, clients, for_therapists)
        columns["therapist"] = pd.Categorical.from_codes(codes, _labels("T", therapists.n))
    if gaps is not None:
        weeks = gaps.draw(clients, sessions, for_gaps)
        columns["day"] = 7.0 * weeks
        steps = weeks.astype(np.int64) if gaps.per == "week" else None
    scores = simulate_scores(
        truth, clients, sessions, for_scores, start=start, shifts=effects, steps=steps
    )
    scores = apply_ceiling(scores, tuple(truth.variables), ceiling)
    scores = hide_scores(scores, missing, for_missing)
    last = np.full(clients, sessions)
    if dropout is not None:
        last = last_sessions(scores[:, :, _watched(dropout, truth)], dropout, for_dropout)
    return _panel(truth, scores, last, columns)


def _root(seed: int | np.random.SeedSequence | None) -> np.random.SeedSequence:
    if isinstance(seed, np.random.SeedSequence):
        # A fresh copy, so that using the same sequence twice gives the same panel twice.
        return np.random.SeedSequence(
            seed.entropy, spawn_key=seed.spawn_key, pool_size=seed.pool_size
        )
    return np.random.SeedSequence(None if seed is None else as_count(seed, 0, "seed"))


def _assign(
    therapists: Therapists, truth: Dynamics, clients: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Array]:
    cov = as_covariance(therapists.cov, len(truth.variables), "The therapist covariance")
    codes = rng.integers(therapists.n, size=clients)
    effects = rng.standard_normal((therapists.n, len(cov))) @ factor(cov).T
    return codes, effects[codes]


def _watched(dropout: Dropout, truth: Dynamics) -> int:
    name = truth.outcome if dropout.variable is None else dropout.variable
    if name not in truth.variables:
        raise SpecificationError(f"Dropout looks at {name!r}, which is not among the series.")
    return truth.variables.index(name)


def _labels(prefix: str, count: int) -> list[str]:
    width = max(2, len(str(count)))
    return [f"{prefix}{i:0{width}d}" for i in range(1, count + 1)]


def _panel(
    truth: Dynamics, scores: Array, last: NDArray[np.int64], columns: dict[str, Any]
) -> SessionPanel:
    clients, sessions, _ = scores.shape
    who, when = np.nonzero(np.arange(1, sessions + 1) <= last[:, None])
    # Categories, not strings: a label is then checked once per client, not once per row.
    frame: dict[str, Any] = {
        "client": pd.Categorical.from_codes(who, _labels("C", clients)),
        "session": when + 1,
    }
    frame |= {name: scores[who, when, j] for j, name in enumerate(truth.variables)}
    if "therapist" in columns:
        frame["therapist"] = columns["therapist"][who]
    if "day" in columns:
        frame["day"] = columns["day"][who, when]
    return SessionPanel.from_frame(
        pd.DataFrame(frame),
        client="client",
        session="session",
        variables={name: name for name in truth.variables},
        process=truth.process,
        outcome=truth.outcome,
        therapist="therapist" if "therapist" in columns else None,
        day="day" if "day" in columns else None,
        timing=dict(truth.timing or {}),
        truth=truth,
    )
