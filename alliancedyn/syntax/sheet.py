"""The wide table that lavaan and Mplus read: one row per client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import SpecificationError
from alliancedyn.models import Specification
from alliancedyn.models.selection import Selection
from alliancedyn.syntax.naming import Names
from alliancedyn.syntax.paths import Node

ROLES = ("score", "input", "covariate")


@dataclass(frozen=True)
class Sheet:
    """What stands in the table.

    Parameters
    ----------
    spec : Specification
    selection : Selection
        The clients with a score, and what is known of them.
    columns : tuple of Node
        Observed nodes, in the order of the columns.
    """

    spec: Specification
    selection: Selection
    columns: tuple[Node, ...]

    @property
    def missing(self) -> bool:
        """Whether a score is missing."""
        return bool(np.isnan(self.selection.data.Y).any())

    @property
    def levels(self) -> tuple[str, ...]:
        """Values of the group column, as parameter names spell them; empty without groups."""
        return tuple(group.partition("=")[2] for group in self.selection.data.groups)

    def frame(self, names: Names, coded: bool) -> pd.DataFrame:
        """Return the table; groups as codes 1, 2, ... if ``coded``, else as they are spelled."""
        data = self.selection.data
        columns: dict[str, NDArray[np.generic]] = {
            names.nodes[node]: self._values(node) for node in self.columns
        }
        if self.spec.group is not None:
            spelled = np.array(self.levels, object)[data.group]
            columns[names.nodes[Node("group", self.spec.group)]] = (
                data.group + 1 if coded else spelled
            )
        return pd.DataFrame(columns, index=pd.Index(data.clients, name="client"))

    def _values(self, node: Node) -> NDArray[np.float64]:
        data, spec = self.selection.data, self.spec
        if node.role == "covariate":
            return data.covariates[:, spec.covariates.index(node.variable)]
        at = data.sessions.index(int(node.session)) if node.session is not None else 0
        if node.role == "input":
            return data.inputs[:, at, spec.time_varying.index(node.variable)]
        return data.Y[:, at, data.variables.index(node.variable)]


def order_columns(nodes: Sequence[Node], selection: Selection) -> tuple[Node, ...]:
    """Put scores first, variable by variable, then inputs and covariates, sessions ascending."""
    place = {name: at for at, name in enumerate(selection.data.variables)}

    def key(node: Node) -> tuple[int, int, str, int]:
        session = -1 if node.session is None else node.session
        rank = place.get(node.variable, len(place))
        return ROLES.index(node.role), rank, node.variable, session

    return tuple(sorted((node for node in nodes if node.observed), key=key))


def idle_inputs(spec: Specification, selection: Selection) -> frozenset[Node]:
    """Return the inputs that are zero for everybody at a session: they have no effect there.

    Raises
    ------
    SpecificationError
        If an input is the same number, not zero, for a whole group: a column without variance
        cannot be a predictor in lavaan or Mplus.
    """
    data, idle = selection.data, set()
    for c, name in enumerate(spec.time_varying):
        for at, session in enumerate(data.sessions):
            values = data.inputs[:, at, c]
            if not values.any():
                idle.add(Node("input", name, session))
                continue
            for _, rows in data.rows_by_group():
                if np.ptp(values[rows]) == 0.0:
                    raise SpecificationError(
                        f"The time-varying covariate {name!r} is {values[rows][0]:g} for every "
                        f"client at session {session}, so that the programs cannot use it as a "
                        "predictor there. Fit the model here, or leave that session out with "
                        "sessions=(first, last)."
                    )
    return frozenset(idle)
