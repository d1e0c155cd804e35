"""Therapy groups: members who move each other, and sessions that befall all of them.

    w_it = Phi w_i,t-1 + O m_(-i),t-1 + g_t + v_it

with m_(-i) the mean deviation of the *other* members of client i's group and g_t a shock that all
members of the group share at session t.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import var
from alliancedyn.errors import SpecificationError
from alliancedyn.simulate.arguments import (
    as_array,
    as_count,
    as_covariance,
    as_rows,
    factor,
    refuse_explosive,
)

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Groups:
    """Closed therapy groups whose members start together.

    Clients fill the groups in order, sizes differing by one at most. Whoever leaves early is no
    longer seen, but goes on moving the others: leaving the records is not leaving the process.

    Parameters
    ----------
    size : int, at least 2
        Members per group, as nearly as the number of clients allows.
    others : (k, k), optional
        O, lagged effects of the other members' mean, row = outcome. None: none.
    shock_cov : (k, k), squared score points, optional
        Covariance of what befalls all members of a group at one session.
    cov : (k, k), squared score points, optional
        Covariance of the groups' stable levels; adds to ``between_cov``.

    Raises
    ------
    SpecificationError
        If a group has fewer than two members or a covariance is none.
    """

    size: int = 8
    others: Rows | None = None
    shock_cov: Rows | None = None
    cov: Rows | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", as_count(self.size, 2, "The size of a group"))
        for name in ("others", "shock_cov", "cov"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_rows(getattr(self, name), f"groups: {name}"))

    def codes(self, clients: int) -> Codes:
        """Return each client's group, 0, 1, ... in order."""
        count = max(1, clients // self.size)
        if clients < 2:
            raise SpecificationError("A group needs two members: ask for more clients.")
        sizes = np.full(count, clients // count)
        sizes[: clients % count] += 1
        return np.repeat(np.arange(count), sizes)

    def lags(self, k: int) -> Array:
        """Return O as an array, zero where there are no effects of others."""
        return np.zeros((k, k)) if self.others is None else as_array(self.others, (k, k), "others")

    def shocks(self, k: int) -> Array:
        """Return the covariance of the shared shocks, zero where there are none."""
        return _cov(self.shock_cov, k, "shock_cov")

    def levels(self, k: int) -> Array:
        """Return the covariance of the groups' stable levels, zero where there are none."""
        return _cov(self.cov, k, "cov")


@dataclass(frozen=True)
class Membership:
    """Who belongs together: ``codes`` (N,), sorted; ``starts`` (G,) and ``sizes`` (N,)."""

    codes: Codes
    starts: Codes
    sizes: Array

    @classmethod
    def of(cls, codes: Codes) -> Membership:
        """Read the groups from sorted codes."""
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        counts = np.diff(np.append(starts, len(codes)))
        return cls(codes, starts, counts[codes].astype(np.float64))

    def mean(self, values: Array) -> Array:
        """Return each client's group mean of ``values`` (N, k)."""
        sums = np.add.reduceat(values, self.starts, axis=0)
        return sums[self.codes] / self.sizes[:, None]

    def others(self, values: Array) -> Array:
        """Return the mean of the other members: (N, k)."""
        n = self.sizes[:, None]
        return (n * self.mean(values) - values) / (n - 1.0)


def settled(phi: Array, psi: Array, groups: Groups, size: int) -> tuple[Array, Array]:
    """Return the stationary covariances of a group's mean and of a member's distance from it.

    Members being alike, mean and distances are two separate processes:

        mean      m_t = (Phi + O) m_{t-1} + g_t + v-bar_t            Cov = Psi / n + shock_cov
        distance  d_t = (Phi - O / (n - 1)) d_{t-1} + v_t - v-bar_t  Cov = (1 - 1/n) Psi

    Parameters
    ----------
    phi, psi : (k, k) arrays
    groups : Groups
    size : int
        Members n.

    Returns
    -------
    mean_cov, distance_cov : (k, k) arrays, squared score points
        A member's variance is their sum; two members' covariance mean_cov - distance_cov / (n - 1).

    Raises
    ------
    SpecificationError
        If either process is explosive.
    """
    k = len(phi)
    O, shock = groups.lags(k), groups.shocks(k)  # noqa: E741
    together, apart = phi + O, phi - O / (size - 1)
    refuse_explosive(together)
    refuse_explosive(apart)
    mean_cov = var.stationary_cov(together, psi / size + shock)
    distance_cov = var.stationary_cov(apart, psi * (1.0 - 1.0 / size))
    return mean_cov, distance_cov


def first_states(
    normal: Array, phi: Array, psi: Array, groups: Groups, members: Membership
) -> Array:
    """Turn standard normal draws (N, k) into stationary states of coupled members, (N, k)."""
    own_mean = members.mean(normal)
    states = np.empty_like(normal)
    for size in np.unique(members.sizes):
        mean_cov, distance_cov = settled(phi, psi, groups, int(size))
        here = members.sizes == size
        # The mean of n standard normals has variance 1 / n, the distance from it 1 - 1 / n.
        mean = own_mean[here] * np.sqrt(size) @ factor(mean_cov).T
        apart = (normal - own_mean)[here] / np.sqrt(1.0 - 1.0 / size) @ factor(distance_cov).T
        states[here] = mean + apart
    return states


def _cov(rows: Rows | None, k: int, name: str) -> Array:
    return np.zeros((k, k)) if rows is None else as_covariance(rows, k, f"groups: {name}")
