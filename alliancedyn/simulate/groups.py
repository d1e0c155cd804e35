"""Therapy groups: members who move each other, and sessions that befall all of them.

    w_it = Phi w_i,t-1 + O m_(-i),t-1 + g_t + v_it

with m_(-i) the mean deviation of the *other* members of client i's group and g_t a shock that all
members of the group share at session t. In an open group t is the group's meeting, and the others
are those who were there at the meeting before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.checking import checked
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


@checked
@dataclass(frozen=True)
class Groups:
    """Therapy groups, closed or open.

    Clients fill the groups in order, the groups' numbers of clients differing by one at most.
    Whoever leaves early is no longer seen, but goes on moving the others: leaving the records is
    not leaving the process. Where lags differ between clients, a closed group starts as one of
    average clients would.

    Parameters
    ----------
    size : int, at least 2
        Members at a time, as nearly as the number of clients allows.
    turnover : int
        Clients who take a seat one after the other. 1: a closed group, whose members start
        together. Above 1: an open group; its seats are first taken at meetings drawn evenly, who
        has had all sessions makes room for the next, and newcomers bring deviations of their own.
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
    turnover: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", as_count(self.size, 2, "The size of a group"))
        object.__setattr__(self, "turnover", as_count(self.turnover, 1, "turnover"))
        for name in ("others", "shock_cov", "cov"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_rows(getattr(self, name), f"groups: {name}"))

    def codes(self, clients: int) -> Codes:
        """Return each client's group, 0, 1, ... in order."""
        count = max(1, clients // (self.size * self.turnover))
        if clients < 2:
            raise SpecificationError("A group needs two members: ask for more clients.")
        sizes = np.full(count, clients // count)
        sizes[: clients % count] += 1
        return np.repeat(np.arange(count), sizes)

    def members(self, clients: int, sessions: int, rng: np.random.Generator) -> Membership:
        """Put the clients into groups; draw at which meeting each joins an open one."""
        codes = self.codes(clients)
        closed = Membership.of(codes)
        if self.turnover == 1:
            return closed
        position = np.arange(clients) - closed.starts[codes]
        seat, turn = position % self.size, position // self.size
        free = rng.integers(sessions, size=(len(closed.starts), self.size))
        entry = free[codes, seat] + sessions * turn
        first = np.minimum.reduceat(entry, closed.starts)
        return replace(closed, entry=entry - first[codes])

    def refuse_explosive(self, phi: Array, members: Membership) -> None:
        """Raise SpecificationError unless a group settles whatever number of members is there."""
        O = self.lags(len(phi))  # noqa: E741
        refuse_explosive(phi + O)
        sizes = np.unique(members.sizes)
        if members.entry is not None:  # seats are taken, and left, one after the other
            sizes = np.arange(2.0, min(sizes.max(), self.size) + 1)
        for size in sizes:
            refuse_explosive(phi - O / (size - 1))

    def refuse_explosive_clients(self, phi: Array, members: Membership, sessions: int) -> None:
        """Raise SpecificationError unless groups of clients with lags of their own settle.

        The states of n members together have the lag matrix with Phi_i on the diagonal and
        O / (n - 1) everywhere else. ``phi`` (N, k, k).
        """
        k = phi.shape[-1]
        O = self.lags(k)  # noqa: E741
        for here in members.compositions(sessions):
            size = np.bincount(members.codes[here])[members.codes[here]]
            for n in np.unique(size[size > 1]):
                own = phi[here[size == n]].reshape(-1, n, k, k)
                joint = np.tile(O / (n - 1), (len(own), n, n))
                for i in range(n):
                    joint[:, i * k : (i + 1) * k, i * k : (i + 1) * k] = own[:, i]
                explosive = np.abs(np.linalg.eigvals(joint)).max(axis=-1) >= 1.0
                if explosive.any():
                    raise SpecificationError(
                        f"Members carry each other away in {int(explosive.sum())} groups of {n}: "
                        "their lags and the others' make an explosive process. Make others=, or "
                        "the spread of lags, smaller."
                    )

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
    """Who belongs together: ``codes`` (N,), sorted; ``starts`` (G,) and ``sizes`` (N,).

    ``entry`` (N,): the group's meeting, from 0, that is the client's first session; None in closed
    groups, where it is that of all.
    """

    codes: Codes
    starts: Codes
    sizes: Array
    entry: Codes | None = None

    @classmethod
    def of(cls, codes: Codes) -> Membership:
        """Read the groups from sorted codes."""
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        counts = np.diff(np.append(starts, len(codes)))
        return cls(codes, starts, counts[codes].astype(np.float64))

    def meetings(self, sessions: int) -> int:
        """Return how often the groups meet until everybody has had all sessions."""
        return sessions if self.entry is None else int(self.entry.max()) + sessions

    def compositions(self, sessions: int) -> list[Codes]:
        """Return who is there together: everybody, or at each meeting of open groups, sorted."""
        if self.entry is None:
            return [np.arange(len(self.codes))]
        session = np.arange(self.meetings(sessions))[:, None] - self.entry
        return [np.flatnonzero((one >= 0) & (one < sessions)) for one in session]

    def attended(self, values: Any, sessions: int) -> Any:
        """Return what befalls the groups (meetings, G, ...) by clients' sessions (T, N, ...)."""
        if self.entry is None:
            return values[:, self.codes]
        return values[np.arange(sessions)[:, None] + self.entry, self.codes]

    def mean(self, values: Array) -> Array:
        """Return each client's group mean of ``values`` (N, k)."""
        sums = np.add.reduceat(values, self.starts, axis=0)
        return sums[self.codes] / self.sizes[:, None]

    def others(self, values: Array) -> Array:
        """Return the mean of the other members: (N, k)."""
        n = self.sizes[:, None]
        return (n * self.mean(values) - values) / (n - 1.0)


def run_open(path: Array, lags: Array, others: Array, members: Membership) -> None:
    """Run the course of open groups in place, meeting by meeting.

    Parameters
    ----------
    path : (T, N, k) array, score points
        First states, and what moves the clients anew at each later session.
    lags : (T, N, k, k) array
        Lagged effects into each client's sessions.
    others : (k, k) array
        O, of the mean of those who were there at the meeting before.
    members : Membership
    """
    sessions, _, k = path.shape
    for meeting in range(1, members.meetings(sessions)):
        session = meeting - np.asarray(members.entry)
        was = np.flatnonzero((session >= 1) & (session <= sessions))
        states, codes = path[session[was] - 1, was], members.codes[was]
        sums = np.zeros((len(members.starts), k))
        np.add.at(sums, codes, states)
        count = np.bincount(codes, minlength=len(sums))[codes, None]
        mean = np.where(count > 1, (sums[codes] - states) / np.maximum(count - 1, 1), 0.0)
        stays = session[was] < sessions
        here, t = was[stays], session[was][stays]
        own = (lags[t, here] @ states[stays][:, :, None])[:, :, 0]
        path[t, here] += own + mean[stays] @ others.T


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
    """
    k = len(phi)
    O, shock = groups.lags(k), groups.shocks(k)  # noqa: E741
    together, apart = phi + O, phi - O / (size - 1)
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
