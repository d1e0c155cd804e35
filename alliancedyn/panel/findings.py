"""What a reader of the results should know about a panel: counted over clients and sessions."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import identified
from alliancedyn.panel.client_level import CLIENT_LEVEL, changing
from alliancedyn.panel.issues import Issue, counted, info, joined, warning
from alliancedyn.panel.prepared import find_prepared

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
PILED_UP = 0.20  # share of scores at an end of the range from which it is worth a word


def find_all(
    frame: pd.DataFrame,
    codes: Codes,
    clients: NDArray[np.object_],
    variables: tuple[str, ...],
    roles: tuple[str, str],
    ranges: dict[str, tuple[float, float]],
    covariates: tuple[str, ...],
) -> list[Issue]:
    """Look for everything that can be counted on a valid panel.

    Parameters
    ----------
    frame : DataFrame
        Canonical columns, sorted by client and session.
    codes : (n,) int64 array
        Client of each row, 0..N-1, all present.
    clients : (N,) object array of str
    variables : tuple of str
    roles : (process, outcome)
    ranges : dict variable -> (lowest, highest), score points
    covariates : tuple of str

    Returns
    -------
    list of Issue
    """
    scores = frame[list(variables)].to_numpy(np.float64)
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    return [
        *_find_sessions(frame["session"].to_numpy(), scores, codes, starts, clients),
        *_find_absent(scores, starts, clients),
        *_find_constant(scores, starts, variables),
        *_find_piles(scores, variables, ranges),
        *find_prepared(frame["session"].to_numpy(), scores, codes, variables),
        *_find_apart(frame, roles),
        *_find_therapists(frame, codes),
        *_find_varying(frame, codes, clients, (*CLIENT_LEVEL, *covariates)),
    ]


def _find_sessions(
    session: Codes, scores: Array, codes: Codes, starts: Codes, clients: NDArray[np.object_]
) -> list[Issue]:
    issues = []
    sizes = np.diff(np.append(starts, len(session)))
    first, last = session[starts], session[starts + sizes - 1]
    single = sizes == 1
    if single.any():
        single_clients = counted(int(single.sum()), "client has", "clients have")
        said = f"{single_clients} one session only, too few to show change: "
        issues.append(
            info("single-session-clients", f"{said}{identified(clients[single])}.", single.sum())
        )
    gaps = last - first + 1 - sizes
    if gaps.any():
        absent = counted(int(gaps.sum()), "session is", "sessions are")
        said = f"{absent} missing between the first and last of "
        said += f"{counted(int((gaps > 0).sum()), 'client')}; they stay gaps and are never closed."
        issues.append(info("session-gaps", said, gaps.sum()))
    start = int(session.min())
    if start != 1:
        said = f"Session numbers start at {start}, not at 1; they were kept as they are."
        issues.append(info("numbering-start", said))
    late = first > start
    if late.any():
        said = f"{counted(int(late.sum()), 'client')} did not start at session {start}; their "
        said += "earlier sessions count as missing."
        issues.append(info("late-start", said, late.sum()))
    scored = np.unique(session[~np.isnan(scores).all(axis=1)])
    empty = np.setdiff1d(np.arange(start, int(session.max()) + 1), scored)
    if len(empty):
        said = (
            f"Nobody has a score at session {joined([str(number) for number in empty])}; restrict "
        )
        issues.append(warning("empty-sessions", f"{said}a model with sessions=.", len(empty)))
    return issues


def _find_absent(scores: Array, starts: Codes, clients: NDArray[np.object_]) -> list[Issue]:
    issues = []
    scored = ~np.isnan(scores).all(axis=1)
    if not scored.all():
        count = int((~scored).sum())
        said = f"{counted(count, 'row has', 'rows have')} no score; kept, as sessions took place."
        issues.append(info("rows-without-scores", said, count))
    never = ~np.logical_or.reduceat(scored, starts)
    if never.any():
        unscored = counted(int(never.sum()), "client has", "clients have")
        said = f"{unscored} no score at all: {identified(clients[never])}. Models "
        said += "set them aside."
        issues.append(warning("no-score-clients", said, never.sum()))
    return issues


def _find_constant(scores: Array, starts: Codes, variables: tuple[str, ...]) -> list[Issue]:
    issues = []
    for j, name in enumerate(variables):
        values = scores[:, j]
        low, high = np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)
        several = np.add.reduceat((~np.isnan(values)).astype(np.int64), starts) > 1
        flat = int((several & (low == high)).sum())
        if np.nanmin(values) == np.nanmax(values):
            said = (
                f"All scores of {name!r} are {np.nanmin(values):g}; nothing can be learned from it."
            )
            issues.append(warning("constant-variable", said))
        elif flat:
            said = f"{name!r} never changes within {flat:,} of the {int(several.sum()):,} clients "
            said += "with two or more scores; they say nothing about change in it."
            issues.append(info("constant-series", said, flat))
    return issues


def _find_piles(
    scores: Array, variables: tuple[str, ...], ranges: dict[str, tuple[float, float]]
) -> list[Issue]:
    issues = []
    for j, name in enumerate(variables):
        for end, code in zip(ranges.get(name, ()), ("floor", "ceiling"), strict=False):
            values = scores[:, j][~np.isnan(scores[:, j])]
            at = int((values == end).sum())
            if at >= PILED_UP * len(values):
                word = {"floor": "lowest", "ceiling": "highest"}[code]
                said = (
                    f"{at / len(values):.0%} of the scores of {name!r} are at the {word} possible "
                )
                issues.append(warning(code, f"{said}value, {end:g}.", at))
    return issues


def _find_apart(frame: pd.DataFrame, roles: tuple[str, str]) -> list[Issue]:
    together = frame[list(roles)].notna().to_numpy().all(axis=1)
    if together.any():
        return []
    said = f"{roles[0]!r} and {roles[1]!r} are never scored in the same row. Are rows numbered by "
    return [warning("never-together", f"{said}questionnaire instead of by session?")]


def _find_therapists(frame: pd.DataFrame, codes: Codes) -> list[Issue]:
    if "therapist" not in frame:
        return []
    issues = []
    therapist, _ = pd.factorize(frame["therapist"])
    switched = changing(np.where(therapist < 0, np.nan, therapist), codes)
    if len(switched):
        said = (
            f"{counted(len(switched), 'client')} saw more than one therapist; each session keeps "
        )
        said += "its own, and the most frequent one stands for the client."
        issues.append(info("therapist-switches", said, len(switched)))
    unknown = int((therapist < 0).sum())
    if unknown:
        said = f"{counted(unknown, 'row has', 'rows have')} no therapist."
        issues.append(info("missing-therapist", said, unknown))
    return issues


def _find_varying(
    frame: pd.DataFrame, codes: Codes, clients: NDArray[np.object_], names: tuple[str, ...]
) -> list[Issue]:
    issues = []
    for name in names:
        if name not in frame:
            continue
        switched = changing(frame[name], codes)
        if len(switched):
            said = f"{name!r} changes over sessions for {identified(clients[switched])}, so no one "
            said += "value stands for the client; where one is needed, it is refused."
            if name == "site":
                said += " Are client ids unique across sites?"
            issues.append(warning("varying-client-column", said, len(switched)))
    return issues
