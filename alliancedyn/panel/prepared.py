"""What was done to scores before they were exported: centered, copied down, filled with zeros."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alliancedyn.panel.issues import Issue, counted, info, joined, warning

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]

FEW_CLIENTS, FEW_SCORES = 10, 10  # fewer say nothing about a pattern over clients, over scores
TOO_EQUAL = 0.05  # of the variance that client means have by chance alone
EQUAL_SDS = 0.01  # coefficient of variation of the clients' SDs up to which they are one
RHYTHMS = range(2, 13)  # scores copied from every second, third, ... session
COPIED, FRESH = 0.95, 0.8  # shares of repeats in a copied, and at most in a fresh session
LIKELY, EXCESS, VALUES = 0.3, 5.0, 20  # repeats, times as many as next values, of so many values
FEWEST_ZEROS, MOST_ZEROS = 3, 0.2  # rows; share of rows above which 0 is an ordinary score
TOGETHER = 0.8  # share of a score's zeros that stand in rows where all scores are zero
LOWEST = 0.1  # of the scores that are not 0: those to look at beside it
BESIDE, TIMES = 0.1, 2.0  # share of them with 0 in the others; times the share among all


def find_prepared(
    session: Codes, scores: Array, codes: Codes, variables: tuple[str, ...]
) -> list[Issue]:
    """Look for scores that are not what was rated.

    Parameters
    ----------
    session, codes : (n,) int64 arrays
        Session and client of each row, sorted by client and session.
    scores : (n, k) float array, score points
        NaN = missing.
    variables : tuple of str

    Returns
    -------
    list of Issue
    """
    issues = []
    for j, name in enumerate(variables):
        seen = ~np.isnan(scores[:, j])
        values, client, number = scores[seen, j], codes[seen], session[seen]
        if len(values) < FEW_SCORES or values.min() == values.max():
            continue
        issues += _find_centered(values, client, number, name)
        issues += _find_copied(values, client, number, name)
        issues += _find_constant_sessions(values, number, name)
    return [*issues, *_find_joint_zeros(scores, variables)]


# -- centered -----------------------------------------------------------------------------------


def _find_centered(values: Array, client: Codes, session: Codes, name: str) -> list[Issue]:
    """Report scores whose differences between clients, or whose level, were taken out."""
    if _same_client_means(values, client, session):
        clients = len(np.unique(client))
        if _same_client_sds(values, client):
            said = f"{name!r} has the same mean and the same SD in every one of {clients:,} "
            said += "clients: it seems standardized within clients. Differences between clients, "
            said += "and effects in score points, do not exist in it. Map the scores as rated."
            return [warning("standardized-within-client", said, clients)]
        said = f"{name!r} has the same mean in every one of {clients:,} clients: it seems centered "
        said += "on the client's mean. Differences between clients do not exist in it. Map the "
        said += "scores as rated; models center by themselves."
        return [warning("centered-on-client", said, clients)]
    if values.min() >= 0 or (values == np.round(values)).all():
        return []
    tolerance = _rounding(values)
    place = np.unique(session, return_inverse=True)[1]
    counts = np.bincount(place)
    means = np.bincount(place, values) / counts
    full = counts >= FEW_CLIENTS
    if full.sum() > 1 and (np.abs(means[full]) <= tolerance).all():
        said = f"{name!r} has mean 0 at every session: it seems centered on session means. The "
        said += "common course does not exist in it."
        return [info("centered-on-panel", said)]
    if abs(values.mean()) <= tolerance:
        said = f"{name!r} has mean 0: it seems centered on its grand mean. Effects are unchanged; "
        return [info("centered-on-panel", f"{said}means and ranges are not those of the scale.")]
    return []


def _same_client_means(values: Array, client: Codes, session: Codes) -> bool:
    """Tell whether client means differ far less than chance alone would make them differ."""
    _, who, counts = np.unique(client, return_inverse=True, return_counts=True)
    several = counts > 1
    if several.sum() < FEW_CLIENTS:
        return False
    means = np.bincount(who, values) / counts
    _, at, seen = np.unique(session, return_inverse=True, return_counts=True)
    rest = values - (np.bincount(at, values) / seen)[at]  # without the course that clients share
    rest = rest - (np.bincount(who, rest) / counts)[who]
    within = float((rest[several[who]] ** 2).sum() / (counts[several] - 1).sum())
    center = np.average(means[several], weights=counts[several])
    spread = float((counts[several] * (means[several] - center) ** 2).sum()) / (several.sum() - 1)
    return spread < TOO_EQUAL * within


def _same_client_sds(values: Array, client: Codes) -> bool:
    _, who, counts = np.unique(client, return_inverse=True, return_counts=True)
    means = np.bincount(who, values) / counts
    squares = np.bincount(who, (values - means[who]) ** 2)
    spreads = [
        np.sqrt(squares / np.maximum(counts - less, 1))[(counts > 3) & (squares > 0)]
        for less in (0, 1)
    ]
    return any(len(sds) >= FEW_CLIENTS and sds.std() < EQUAL_SDS * sds.mean() for sds in spreads)


def _rounding(values: Array) -> float:
    """Return how far rounding moves a mean of 0 at most, score points."""
    for digits in range(1, 7):
        if np.allclose(values, np.round(values, digits), rtol=0, atol=1e-9):
            return 0.5 * 10.0**-digits
    return 1e-8 * float(np.abs(values).max())


# -- copied down --------------------------------------------------------------------------------


def _find_copied(values: Array, client: Codes, session: Codes, name: str) -> list[Issue]:
    """Report scores that repeat the row before, in a rhythm or far more often than near it."""
    follows = (np.diff(client) == 0) & (np.diff(session) == 1)
    steps, at = np.diff(values)[follows], session[1:][follows]
    who = client[1:][follows]
    first = session[np.concatenate([[True], np.diff(client) != 0])]
    place = at - first[np.cumsum(np.concatenate([[0], np.diff(client) != 0]))[1:][follows]]
    same = steps == 0
    if same.sum() < FEW_SCORES or len(np.unique(who)) < 3:
        return []
    share = f"{same.sum() / len(values):.0%} of the scores of {name!r} repeat the row before"
    remedy = "Leave the copies blank: a model takes each for a rating of its own, and for stability"
    every = _rhythm(same, place) or _rhythm(same, at)
    if every is not None:
        said = f"{share}, all but every {_ordinal(every)} one: it seems to be rated at every "
        said += f"{_ordinal(every)} session and copied into the rows between. {remedy}."
        return [warning("copied-scores", said, int(same.sum()))]
    moving = _changing(steps, who) & (values[1:][follows] > values.min())
    moving &= values[1:][follows] < values.max()
    near = np.abs(steps[moving & ~same])
    if len(np.unique(values)) < VALUES or not len(near):
        return []
    repeated, next_to = int((same & moving).sum()), int((near == near.min()).sum())
    if repeated >= LIKELY * moving.sum() and repeated > EXCESS * next_to / 2:
        said = f"{share}, far more than come close to it: they may be copied down from it. "
        return [warning("copied-scores", f"{said}{remedy} (if they are).", int(same.sum()))]
    return []


def _rhythm(same: Mask, place: Codes) -> int | None:
    """Return k if scores change at every k-th place only, and repeat the one before elsewhere."""
    found = []
    for every in RHYTHMS:
        for offset in range(every):
            fresh = place % every == offset
            between, changes = same[~fresh], same[fresh]
            if min(len(between), len(changes)) >= FEW_SCORES and (
                between.mean() >= COPIED and changes.mean() <= FRESH
            ):
                found.append((float(changes.mean()), every))
    return min(found)[1] if found else None


def _changing(steps: Array, who: Codes) -> Mask:
    """Return the steps of clients whose score changes at all."""
    return np.isin(who, np.unique(who[steps != 0]))


def _ordinal(number: int) -> str:
    words = ("second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
    return words[number - 2] if number - 2 < len(words) else f"{number}th"


# -- one value for all --------------------------------------------------------------------------


def _find_constant_sessions(values: Array, session: Codes, name: str) -> list[Issue]:
    """Report sessions at which everybody has the same score."""
    numbers, place = np.unique(session, return_inverse=True)
    counts = np.bincount(place)
    low, high = np.full(len(numbers), np.inf), np.full(len(numbers), -np.inf)
    np.minimum.at(low, place, values)
    np.maximum.at(high, place, values)
    flat = (low == high) & (counts >= FEW_SCORES)
    if not flat.any() or flat.all():
        return []
    where = [f"{n} ({v:g})" for n, v in zip(numbers[flat], low[flat], strict=True)]
    word = "session" if len(where) == 1 else "sessions"
    said = (
        f"All scores of {name!r} are equal at {word} {joined(where)}, by an entry criterion or a "
    )
    said += "default perhaps: nothing varies there, and models of each session's variance fail. "
    moving = numbers[~flat]
    inside = numbers[(numbers >= moving.min()) & (numbers <= moving.max())]
    if len(inside) == len(moving) and len(moving) > 1:
        said += f"Leave it out with sessions=({moving.min()}, {moving.max()})."
    else:
        said += "Declare these scores missing if they were not rated."
    return [warning("constant-session", said, int(flat.sum()))]


def _find_joint_zeros(scores: Array, variables: tuple[str, ...]) -> list[Issue]:
    """Report zeros that come in all scores of the same rows, where low scores do not."""
    seen, zeros = ~np.isnan(scores), scores == 0
    joint = (zeros == seen).all(axis=1) & (seen.sum(axis=1) > 1)
    count = int(joint.sum())
    if not FEWEST_ZEROS <= count <= MOST_ZEROS * len(scores):
        return []
    apart = [
        repr(name)
        for j, name in enumerate(variables)
        if joint[zeros[:, j]].mean() >= TOGETHER and not _zeros_beside(scores, seen, zeros, j)
    ]
    if not apart:
        return []
    said = (
        f"{counted(count, 'row has', 'rows have')} 0 in every score, as hardly any row with a low "
    )
    said += (
        f"score of {joined(apart)} has in the others: 0 may stand for no form. If so, leave these "
    )
    said += "scores blank in the export, or declare 0 a missing code of a score that cannot be 0."
    return [warning("joint-zeros", said, count)]


def _zeros_beside(scores: Array, seen: Mask, zeros: Mask, j: int) -> bool:
    """Tell whether the other scores are often 0 too where one is low but not 0."""
    others = np.delete(seen, j, axis=1).any(axis=1)
    low = np.flatnonzero(seen[:, j] & ~zeros[:, j] & others)
    if not len(low) or scores[low, j].min() < 0:  # 0 is in the middle of such a score
        return True
    rest = np.delete(zeros == seen, j, axis=1)[low].all(axis=1)
    reach = np.sort(scores[low, j])[max(int(LOWEST * len(low)), min(2 * FEW_SCORES, len(low))) - 1]
    beside = rest[scores[low, j] <= reach].mean()
    return bool(beside > BESIDE and beside > TIMES * rest.mean())
