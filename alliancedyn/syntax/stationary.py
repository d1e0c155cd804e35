"""A process that has settled: innovation_cov = P - phi P phi', P the first session's covariance.

Mplus takes this as constraints. lavaan's search slows down and stops early with constraints that
are not linear, so its text says the same by labels alone: lagged effects act on carried-over
deviations c_t = w_{t-1} + g_t - h_t / 2, where g_t and h_t are factors without variance whose
covariance is P. Then Var(c_t) = P - P = 0, while c_t covaries with everything before as w_{t-1}
does; and w_t = phi c_t + v_t with Var(v_t) = P has Var(w_t) = P at every session.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations_with_replacement as pairs

from alliancedyn.syntax.paths import Equation, Node, Path, Section, Term
from alliancedyn.syntax.pieces import Frame, covariances


def innovation_equations(frame: Frame, defines: bool) -> tuple[Equation, ...]:
    """Return innovation_cov = P - phi P phi', element by element."""
    known, variables = frame.known, frame.variables
    equations = {}
    for g in range(max(1, len(known.groups))):

        def name(family: str, i: str, j: str, g: int = g) -> str:
            return str(known.get(family, i, j)[g])

        for i, j in pairs(variables, 2):
            terms: list[Term] = [(1.0, (name("initial_cov", i, j),))]
            terms += [
                (-1.0, (name("phi", i, a), name("phi", j, b), name("initial_cov", a, b)))
                for a in variables
                for b in variables
            ]
            target = name("innovation_cov", i, j)
            equations[target] = Equation(target, tuple(terms), defines)
    return tuple(equations.values())


def carried_over(frame: Frame) -> dict[tuple[str, int], Node]:
    """Return c_t under the session t - 1 that it carries over."""
    steps = zip(frame.sessions, frame.sessions[1:], strict=False)
    return {(v, last): Node("carried", v, t) for last, t in steps for v in frame.variables}


def phantoms(frame: Frame, nodes: Mapping[tuple[str, int], Node]) -> Section:
    """Define the c_t, and give each session the variance of the first."""
    paths: list[Path] = []
    for last, t in zip(frame.sessions, frame.sessions[1:], strict=False):
        for v in frame.variables:
            paths += _phantom(frame, v, nodes[v, last], t)
        for a in frame.variables:
            for b in frame.variables:
                P = frame.known.get("initial_cov", a, b)
                paths.append(Path("covariance", Node("added", a, t), Node("taken", b, t), P))
    for t in frame.sessions[1:]:
        now = [nodes[v, t] for v in frame.variables]
        paths += covariances(frame, "initial_cov", now, frame.variables, None)
    return Section("Stationary: as much varies at every session as at the first", tuple(paths))


def _phantom(frame: Frame, variable: str, last: Node, t: int) -> Iterator[Path]:
    carried, added, taken = (Node(role, variable, t) for role in ("carried", "added", "taken"))
    series = frame.series(variable, t)
    for node in (carried, added, taken):  # a factor must have an indicator
        yield frame.fixed("loading", node, series, 0.0)
    yield frame.fixed("regression", carried, last, 1.0)
    yield frame.fixed("regression", carried, added, 1.0)
    yield frame.fixed("regression", carried, taken, -0.5)
    for node in (carried, added, taken):
        yield frame.fixed("covariance", node, node, 0.0)
