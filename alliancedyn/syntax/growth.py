"""Growth factors: the course of every client, as paths."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from alliancedyn.models.courses import free_sessions
from alliancedyn.syntax.paths import Node, Path, Section, Values
from alliancedyn.syntax.pieces import Frame, covariances

# Role of the node, ending of its name in between_cov, family of its mean.
FACTORS = (
    ("between", "", "intercept"),
    ("trend", ".trend", "trend"),
    ("trend2", ".trend2", "trend2"),
)


def factor_nodes(frame: Frame) -> list[tuple[str, Node]]:
    """Return the growth factors that exist, (index in names, node), series by series."""
    return [
        (v + end, Node(role, v))
        for v in frame.variables
        for role, end, _ in FACTORS
        if frame.known.find("between_cov", v + end, v + end) is not None
    ]


def factor_means(frame: Frame) -> Section:
    """Give every growth factor its mean; 0 where the sessions or the items hold it."""
    family = {role: family for role, _, family in FACTORS}
    paths = [frame.maybe(node, family[node.role], node.variable) for _, node in factor_nodes(frame)]
    return Section("Means of the growth factors", tuple(paths))


def curve_factors(
    spec: Any,
    frame: Frame,
    target: Callable[[str, int], Node],
    sessions: Sequence[int],
) -> Section:
    """Add intercepts and slopes to the series at some sessions."""
    factors = factor_nodes(frame)
    paths: list[Path] = []
    for _, factor in factors:
        for t in sessions:
            values = _loading(spec, frame, factor, t)
            if set(values) != {0.0}:
                paths.append(Path("loading", factor, target(factor.variable, t), values))
    words = [word for word, _ in factors]
    paths += covariances(frame, "between_cov", [node for _, node in factors], words, None)
    return Section("Every client's own course", tuple(paths))


def _loading(spec: Any, frame: Frame, factor: Node, t: int) -> Values:
    """Return the weight of a growth factor at a session."""
    first = frame.sessions[0]
    elapsed = float(t - first)
    if factor.role == "between":
        return frame.known.same(1.0)
    if t in free_sessions(spec, tuple(frame.sessions)):
        return frame.known.get("basis", factor.variable, session=t)
    if spec.growth == "log":
        elapsed = math.log1p(elapsed)
    if spec.growth == "piecewise":
        bend = float(spec.knot - first)
        return frame.known.same(
            min(elapsed, bend) if factor.role == "trend" else max(elapsed - bend, 0.0)
        )
    return frame.known.same(elapsed)
