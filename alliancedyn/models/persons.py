"""Persons with several series: which standard errors are usual then, and what errors leave out.

A person who comes back has several episodes, each a series of its own. Series of one person are
not independent, and errors that take them so are too small.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alliancedyn.panel import SessionPanel
from alliancedyn.results import Observed

Codes = NDArray[np.int64]

BY_PERSON = "cluster:person"
EPISODES = "persons have several episodes"


def usual_errors(data: Observed, otherwise: str) -> str:
    """Return the errors of a fit that was asked for none: by person where persons come back."""
    return BY_PERSON if data.returning else otherwise


def person_notes(data: Observed, errors: str, clusters: Codes | None = None) -> list[str]:
    """Say what errors make of persons with several series; nothing where there are none.

    Parameters
    ----------
    data : Observed
    errors : str
        "observed", "robust", "cluster:...", "posterior" or "bootstrap:" and what was drawn.
    clusters : (n,) int, optional
        Codes of the clusters, if errors are clustered.
    """
    if not data.returning:
        return []
    persons = len(np.unique(data.person))
    who = f"{data.returning} of {persons} {EPISODES} ({len(data.Y)} series in all)"
    if errors == "bootstrap:person":
        return [f"{who}, which are not independent: whole persons were drawn."]
    if errors.startswith("bootstrap:"):
        return [f"{who}; whole {errors.partition(':')[2]}s were drawn, not whole persons."]
    if errors == BY_PERSON:
        return [f"{who}, which are not independent: standard errors are clustered by person."]
    if errors == "posterior":
        return [
            f"{who}, which the model takes as independent: where episodes of one person are alike, "
            "intervals are too narrow."
        ]
    if clusters is None:
        return [
            f"{who}, which errors={errors!r} takes as independent. Use errors={BY_PERSON!r}, or "
            "leave errors= out."
        ]
    pairs = np.unique(np.column_stack([data.person, clusters]), axis=0)
    split = int((np.unique(pairs[:, 0], return_counts=True)[1] > 1).sum())
    if not split:
        return []
    by = errors.partition(":")[2]
    return [
        f"{who}; {split} of them have episodes in several clusters by {by}, which "
        f"errors={errors!r} takes as independent. Compare errors={BY_PERSON!r}."
    ]


def cluster_notes(
    panel: SessionPanel, data: Observed, errors: str, clusters: Codes | None
) -> list[str]:
    """Say what errors make of persons with several series, and of clients without a cluster."""
    by = errors.partition(":")[2]
    lone: list[str] = []
    if clusters is not None and by != "person":
        known = [v is not None and v == v for v in np.asarray(panel.client_values(by))[data.seen]]
        if missing := len(known) - sum(known):
            lone = [f"{missing} clients have no {by}: for the errors each is a cluster alone."]
    return [*person_notes(data, errors, clusters), *lone]
