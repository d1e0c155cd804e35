"""The partition in plain words: associations by level, never a ranking of therapists."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from alliancedyn.errors import people
from alliancedyn.results.estimate import Estimate, rounded

if TYPE_CHECKING:
    from alliancedyn.partition.result import TherapistPartition

FEW_THERAPISTS = 30
VERSIONS = ("observed", "latent")
ROWS = {
    "therapist": "therapist's average",
    "client": "client within caseload",
    "session": "session within client",
    "total": "all levels together",
    "difference": "therapist minus client",
}
COURSES = {
    "session": "The course that all clients share is taken out of both scores.",
    None: "A course that all clients share is still in both scores.",
}
WIDTH = 96


def paragraphs(part: TherapistPartition) -> list[str]:
    """Return the text of a partition, line by line."""
    blocks = [
        _question(part),
        "\n".join(_grid(part)),
        _answer(part),
        *part.notes,
        _spread(part),
        "\n".join(identities(part)),
        _attenuation(part),
        _modesty(part),
        *(issue.message for issue in part.issues),
    ]
    text = "\n\n".join(_wrapped(block) for block in blocks if block)
    return text.split("\n")


def verdict(part: TherapistPartition) -> tuple[str, ...]:
    """Return what can be said and what cannot, without the numbers of the table."""
    said = (_answer(part), *part.notes, _attenuation(part), _modesty(part))
    return tuple(sentence for sentence in said if sentence)


def identities(part: TherapistPartition) -> list[str]:
    """Return, by version, total slope = sum of share * slope, with its numbers.

    Where a slope is not given, what its level adds to the total stands in its place.
    """
    lines = []
    for version in VERSIONS:
        rows = part.table.loc[version]
        levels = rows.loc[rows.index.isin(part.components.index)]
        used = levels[levels["share"] > 0.0]
        if used.empty:
            continue
        shown = used["estimate"].where(used["estimate"].notna(), used["contribution"])
        total, *texts = rounded((float(rows.loc["total", "estimate"]), *map(float, shown)))
        terms = " + ".join(
            f"{share:.3f} x {text} ({level})" if known else f"{text} ({level})"
            for level, share, known, text in zip(
                used.index, used["share"], used["estimate"].notna(), texts, strict=True
            )
        )
        lines.append(f"{version} means: {total} = {terms}")
    return lines


def at_bound(level: str, process: str, units: int) -> str:
    """Say that a level has no latent slope, its variance being estimated at zero."""
    what, below = {
        "therapist": ("therapists' averages", "their clients and sessions"),
        "client": ("clients' averages within caseloads", "their sessions"),
    }[level]
    return (
        f"The latent {level} slope does not exist: the {level} variance of {process} is estimated "
        f"at zero (its lower bound, REML), so the {units} {what} differ no more than chance in "
        f"{below} makes them, and there is nothing that an outcome could go with. This is an "
        "estimate, not proof that they are alike."
    )


def not_estimable(process: str, refusal: str) -> str:
    """Say why there are no latent means."""
    return f"Latent means of {process} are not estimated. {refusal}"


def not_converged(process: str) -> str:
    """Say that the variances are not at their maximum."""
    return f"The search for the variances of {process} stopped early: do not report latent slopes."


def doubt(therapists: int, process: str, table: pd.DataFrame, weak: bool) -> str:
    """Say why therapists' slopes are not read aloud; nothing where they can be."""
    start = "Nothing is said here about therapists"
    if therapists < FEW_THERAPISTS:
        return (
            f"{start}: there are {therapists}, and an average over so few is about those persons. "
            f"From {FEW_THERAPISTS} to 50 therapists with about ten clients each it can be read."
        )
    if weak or np.isnan(table.loc[("latent", "therapist"), "se"]):
        return (
            f"{start}: their averages of {process} are not told from what chance in their clients "
            "and sessions makes, so there is nothing that an outcome could go with."
        )
    return ""


def same_session(process: str, outcome: str, timing: Mapping[str, str]) -> str:
    """Warn that scores of one session have no order, or the wrong one."""
    if (timing.get(process), timing.get(outcome)) == ("after", "before"):
        order = f"{outcome} was rated before the session and {process} after it, so"
    elif (timing.get(process), timing.get(outcome)) == ("before", "after"):
        order = f"{process} was rated before the session and {outcome} after it; even so,"
    else:
        order = "their order within the session is not known, and"
    return (
        f"lag=0 takes {process} and {outcome} from the same session: {order} the slopes can hold "
        f"the way from {outcome} to {process} as well. Such a regression returns an association "
        "where the process has no effect at all. Use lag=1 for what precedes what."
    )


def weak_variance(process: str, variance: float, se: float) -> str:
    """Say that the variance that the latent therapist slope divides by may be nothing."""
    return (
        f"The therapist variance of {process} is itself hardly told from zero ({variance:.3g}, "
        f"standard error {se:.2g}). The latent therapist slope divides by it: read its value, and "
        "that of the difference, as a rough one."
    )


def without_interval(table: pd.DataFrame, process: str) -> list[str]:
    """Name the slopes that have no interval, or no value with observed means."""
    notes = []
    for version in VERSIONS:
        rows = table.loc[version].drop(index=["total", "difference"])
        bare = rows.index[(rows["share"] > 0.0) & rows["estimate"].isna()]
        if len(bare):
            gone = " and ".join(bare)
            notes.append(
                f"No {gone} slope of {version} means is given: without one group of therapists "
                f"{process} has no variance left there, so no interval can be had."
            )
    rows = table.loc["observed"].drop(index=["total", "difference"])
    notes.extend(
        f"The observed {level} slope does not exist: {process} does not vary at that level."
        for level in rows.index[rows["share"] == 0.0]
    )
    return notes


def _question(part: TherapistPartition) -> str:
    when = "at the next session" if part.lag == 1 else "at the same session"
    return (
        f"What goes with {part.outcome} {when}: the therapist's average {part.process}, or the "
        f"client's {part.process} within the therapist's caseload? {part.therapists:,} therapists, "
        f"{people(part.clients, part.persons)}, {part.pairs:,} pairs of scores. "
        f"{COURSES[part.trend]}"
    )


def _grid(part: TherapistPartition) -> list[str]:
    percent = f"{100 * part.level:g} %"
    head = f"{'':24}{'observed means':>38}{'latent means':>38}"
    units = f"slope [{percent} interval]"
    lines = [head, f"{'':24}" + f"{'share':>9}{units:>29}" * 2]
    levels = part.table.loc["observed"].index
    for level in levels:
        cells = "".join(_cell(part, level, version) for version in VERSIONS)
        lines.append(f"{ROWS[level]:24}{cells}".rstrip())
    return [
        *lines,
        f"Share of the variance of {part.process}; slopes in points of {part.outcome} per point of "
        f"{part.process}.",
        "Observed means: averages of the scores seen. Latent means: what these would be with many",
        "clients of each therapist and many sessions of each client.",
    ]


def _cell(part: TherapistPartition, level: str, version: str) -> str:
    share = part.table.loc[(version, level), "share"]
    estimate = part.slope(level, version)
    text = str(estimate) if np.isfinite(estimate.value) else "not given"
    return f"{'' if np.isnan(share) else f'{share:.3f}':>9}{text:>29}"


def _answer(part: TherapistPartition) -> str:
    """Say what can be told apart, from latent means, and nothing beyond."""
    if part.doubt:
        return part.doubt
    therapist, client = part.slope("therapist"), part.slope("client")
    difference = part.slope("difference")
    sentences = [_reading(part, "therapist", therapist), _reading(part, "client", client)]
    if np.isfinite(difference.lower):
        sentences.append(_contrast(difference, _told(therapist), _told(client)))
    return " ".join(sentences)


def _reading(part: TherapistPartition, level: str, slope: Estimate) -> str:
    """Read one latent slope aloud."""
    start, what = {
        "therapist": ("Therapist: ", f"the therapist's average {part.process}"),
        "client": ("Client: among clients of the same therapist, ", f"average {part.process}"),
    }[level]
    if not np.isfinite(slope.lower):
        return f"{start}these data cannot say what {what} goes with."
    if not _told(slope):
        return (
            f"{start}no association of {what} with {part.outcome} is shown (latent slope {slope}; "
            "the interval contains zero)."
        )
    side = "higher" if slope.value > 0 else "lower"
    return (
        f"{start}one point more of {what} goes with {part.outcome} "
        f"{rounded((abs(slope.value),))[0]} points {side} (latent slope {slope})."
    )


def _contrast(difference: Estimate, therapist: bool, client: bool) -> str:
    if _told(difference):
        return f"The two slopes differ by {difference}: the level matters."
    apart = (
        " That the interval of one contains zero and that of the other does not is no evidence "
        "that they differ."
        if therapist != client
        else ""
    )
    return (
        f"The two slopes are not told apart (difference {difference}), so there is no verdict."
        + (apart)
    )


def _told(estimate: Estimate) -> bool:
    return bool(estimate.lower > 0.0 or estimate.upper < 0.0)


def _spread(part: TherapistPartition) -> str:
    shares = part.table.loc["latent", "share"]
    if shares.isna().all() or np.isnan(shares["therapist"]):
        return ""
    told = {"therapist": "lies between therapists", "client": "between clients of one therapist"}
    told["session"] = "between sessions of one client"
    if "session" not in shares.index:
        told["client"] += " (sessions included: one pair per client)"
    listed = ", ".join(
        f"{100 * shares[level]:.1f} % {told[level]}" for level in part.components.index
    )
    return (
        f"Of the variance of {part.process}, {listed}. A level that holds little of the variance "
        "adds little to the total, however steep its slope:"
    )


def _attenuation(part: TherapistPartition) -> str:
    row = part.reliability.loc["therapist"]
    if not np.isfinite(row["reliability"]):
        return ""
    levels = [level for level in part.components.index if row[f"from_{level}"] > 0.0]
    slopes = [part.slope(level).value for level in levels]
    if not np.isfinite([row["observed"], *slopes]).all():
        return ""
    predicted, found, *texts = rounded((row["predicted"], row["observed"], *slopes))
    parts = " + ".join(
        f"{row[f'from_{level}']:.2f} x {slope} ({level})"
        for level, slope in zip(levels, texts, strict=True)
    )
    return (
        f"Why two versions: the observed average of a therapist is made of the few clients and "
        f"sessions seen. Its reliability (lambda) is {row['reliability']:.2f}; the rest is which "
        "clients happened to come, and how their sessions went. The observed therapist slope is "
        f"therefore a mixture, about {parts} = {predicted} (found: {found}). Latent means undo the "
        "mixture, at the price of wider intervals."
    )


def _modesty(part: TherapistPartition) -> str:
    return (
        "These are associations, not effects. Clients are not assigned to therapists at random: "
        "severity, setting and length of treatment come with the caseload, and the earlier level "
        f"of {part.outcome} is not held constant. Sessions count as independent around a client's "
        "level, so carry-over from one to the next passes partly for the client's level (the "
        "therapist's row is not touched by it). Slopes describe "
        f"levels, not persons: do not rank therapists by them."
    )


def _wrapped(block: str) -> str:
    return block if "\n" in block or " means: " in block else fill(block, WIDTH)
