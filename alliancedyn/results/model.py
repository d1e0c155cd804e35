"""What a result needs to know of a specification and of a panel, and nothing more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from alliancedyn.engine.dsem_mixture import ClientMixture
    from alliancedyn.engine.kalman import StateSpace

Array = NDArray[np.float64]
Params = Mapping[str, float]


class Scores(Protocol):
    """Arrays of a panel, clients in panel order and sessions consecutive."""

    @property
    def Y(self) -> Array:
        """Scores (N, T, k), NaN = missing."""
        ...

    @property
    def clients(self) -> NDArray[Any]:
        """Client identifiers (N,)."""
        ...

    @property
    def sessions(self) -> Sequence[int] | NDArray[np.int64]:
        """Session numbers (T,), consecutive."""
        ...

    @property
    def therapist(self) -> NDArray[np.int64]:
        """Therapist codes (N,), -1 = unknown."""
        ...

    @property
    def variables(self) -> tuple[str, ...]:
        """The k variables."""
        ...


class Panel(Protocol):
    """Whatever holds arrays: a `SessionPanel`."""

    def arrays(self) -> Scores:
        """Return the scores."""
        ...

    def client_values(self, name: str) -> NDArray[Any]:
        """Return a client-level column (N,), such as "site", clients in panel order."""
        ...


class Model(Protocol):
    """A specification, as far as its result needs it."""

    @property
    def name(self) -> str:
        """What readers call it: ``RI-CLPM``."""
        ...

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What must hold for its estimates to mean what they say, in sentences."""
        ...

    @property
    def references(self) -> tuple[str, ...]:
        """Where it comes from."""
        ...

    def observe(self, panel: Any, sessions: tuple[int, ...], variables: tuple[str, ...]) -> Any:
        """Return what it sees of a panel, an :class:`~alliancedyn.results.Observed`."""
        ...

    def groups_of(self, params: Params, data: Any, variables: tuple[str, ...]) -> list[ClientGroup]:
        """Return the systems of all clients at ``params``, one for each group."""
        ...


@runtime_checkable
class OwnProcesses(Protocol):
    """A specification in which clients can have processes of their own."""

    def mixture_of(
        self, params: Params, data: Any, variables: tuple[str, ...]
    ) -> ClientMixture | None:
        """Return these clients with processes of their own, None if all have one process."""
        ...


def spelled(spec: Any) -> str:
    """Return a specification as one would type it: options at their defaults are left out."""
    given = [
        repr(value) if entry.default is MISSING else f"{entry.name}={value!r}"
        for entry in fields(spec)
        if (value := getattr(spec, entry.name)) != entry.default
    ]
    return f"{type(spec).__name__}({', '.join(given)})"


@dataclass(frozen=True)
class ClientGroup:
    """Clients whose systems have the same parameters.

    Parameters
    ----------
    rows : (n,) int
        Which of the observed clients.
    system : StateSpace
        Of items; lag matrices may be each client's own.
    inputs : (n, T, q)
        What pushes them.
    reference : tuple of int
        For each series, the item in whose units it is measured.
    label : str, optional
        Such as ``arm=1``.
    placed : (n, T) bool, optional
        Sessions that have a place in time; all of them unless given.
    """

    rows: NDArray[np.int64]
    system: StateSpace
    inputs: Array
    reference: tuple[int, ...]
    label: str | None = None
    placed: NDArray[np.bool_] | None = None

    def at_placed(self, values: Array) -> Array:
        """Return values (n, T, q) with NaN at sessions that have no place in time."""
        return values if self.placed is None else np.where(self.placed[..., None], values, np.nan)
