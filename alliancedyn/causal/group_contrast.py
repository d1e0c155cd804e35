"""Are both directions the same in all groups? The test of the very paths that are shown by group.

With d the differences of the paths of each group from those of the first one, standardized and in
time order just as they are shown, and V their covariance, both from one fit::

    W = d' V^-1 d  ~  chi-square(rank of V)  if the paths are equal
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from alliancedyn.causal.contrast import Place, both_ways
from alliancedyn.causal.direction import Directions
from alliancedyn.causal.nested import probability
from alliancedyn.errors import SpecificationError
from alliancedyn.results import LEVEL, Estimate, Fit
from alliancedyn.results.estimate import estimates

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GroupDifference:
    """One path in one group less the same path in the first group."""

    source: str
    target: str
    group: str
    against: str
    estimate: Estimate


@dataclass(frozen=True)
class GroupTest:
    """A Wald test of paths that are equal in all groups; prints as its text.

    Parameters
    ----------
    statistic : float
        NaN where a path has no standard error.
    df : int
    p_value : float
    basis : str
        "structural" (in time order) or "reduced", as the paths are shown.
    differences : tuple of GroupDifference
        Every path of every group against the first group, within-client SDs.
    text : str
        The result in words.
    """

    statistic: float
    df: int
    p_value: float
    basis: str
    differences: tuple[GroupDifference, ...]
    text: str

    def __str__(self) -> str:
        return self.text


def compare_paths(fit: Fit, directions: Mapping[str, Directions]) -> GroupTest:
    """Test whether both paths are the same in all groups, as their verdicts show them.

    Parameters
    ----------
    fit : Fit
        With parameters by group.
    directions : mapping of str to Directions
        Group -> verdict, two or more.

    Raises
    ------
    SpecificationError
        If there are fewer than two verdicts, or they do not show the same paths.
    """
    pairs = {(one.source, one.target, one.basis, one.session) for one in directions.values()}
    if len(directions) < 2 or len(pairs) > 1:
        raise SpecificationError("Groups can be compared where two or more show the same paths.")
    ((source, target, basis, session),) = pairs
    ways = [both_ways(fit, source, target, basis, Place(session, group)) for group in directions]

    def differences(p: Mapping[str, float]) -> Array:
        paths = np.array([way(p)[:2] for way in ways])
        return np.asarray((paths[1:] - paths[0]).ravel())

    derived = fit.derive_many(differences)
    against, *groups = directions
    found = tuple(
        GroupDifference(*path, group, against, one)
        for (group, path), one in zip(
            [(g, path) for g in groups for path in ((source, target), (target, source))],
            estimates(derived, LEVEL),
            strict=True,
        )
    )
    statistic, df, p_value = _wald(derived.values, derived.cov)
    text = _words(found, statistic, df, p_value, basis)
    return GroupTest(statistic, df, p_value, basis, found, text)


def _wald(d: Array, V: Array) -> tuple[float, int, float]:
    from scipy.special import chdtrc

    if not (np.isfinite(d).all() and np.isfinite(V).all()):
        return nan, len(d), nan
    df = int(np.linalg.matrix_rank(V, hermitian=True))
    statistic = float(d @ np.linalg.pinv(V, hermitian=True) @ d)
    return statistic, df, float(chdtrc(df, statistic)) if df else nan


def _words(
    found: tuple[GroupDifference, ...], statistic: float, df: int, p_value: float, basis: str
) -> str:
    """Say what was tested, and by how much two groups differ."""
    how = "in time order, " if basis == "structural" else ""
    said = [
        f"Both paths as shown ({how}within-client SDs), equal in all groups: "
        f"chi-square({df}) = {statistic:.2f}, {probability(p_value)} (Wald)."
        if np.isfinite(statistic)
        else "There is no test: a path has no standard error."
    ]
    if len({one.group for one in found}) == 1:
        one = found[0]
        apart = "; ".join(f"{d.source} -> {d.target}: {d.estimate}" for d in found)
        said.append(f"{one.group} minus {one.against}, {apart}.")
    return " ".join(said)
