"""The pieces that models are made of: measurement, means, between part, within part.

Series are what lagged effects are about. A series with one item is its score; one with several
is a factor of them. Deviations (role ``within``) are what is left of a series after its mean and
its stable parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement as pairs

from alliancedyn.syntax.paths import Equation, Kind, Node, Path, Section, Value, Values, Vocabulary

NEXT = ".next"  # ending of the second session in the names of initial_cov


@dataclass(frozen=True)
class Frame:
    """What every piece needs.

    Parameters
    ----------
    items : mapping
        The items of every series, in order; one item is the series itself.
    sessions : tuple of int
    known : Vocabulary
        The parameters of the specification.
    """

    items: Mapping[str, tuple[str, ...]]
    sessions: tuple[int, ...]
    known: Vocabulary

    @property
    def variables(self) -> tuple[str, ...]:
        """The series."""
        return tuple(self.items)

    @property
    def order(self) -> int:
        """How many sessions back lagged effects reach."""
        return 1 + any(name.startswith("phi2[") for name in self.known.names)

    def series(self, variable: str, session: int) -> Node:
        """Return the score of a series, or the factor of its items."""
        own = self.items[variable]
        if len(own) > 1:
            return Node("factor", variable, session)
        return Node("score", own[0], session)

    def noise(self, item: str, session: int) -> Values:
        """Return the error variance of an item, 0 unless there is one."""
        found = self.known.find("measurement_var", item, session=session)
        return found or self.known.same(0.0)

    def fixed(self, kind: Kind, left: Node, right: Node | None, value: float) -> Path:
        """Return a path that is fixed."""
        return Path(kind, left, right, self.known.same(value))

    def maybe(self, node: Node, family: str, *indices: str, session: int | None = None) -> Path:
        """Return the mean of a node, 0 if it is no parameter."""
        found = self.known.find(family, *indices, session=session)
        return Path("mean", node, None, found or self.known.same(0.0))


def covariances(
    frame: Frame, family: str, nodes: Sequence[Node], words: Sequence[str], session: int | None
) -> Iterator[Path]:
    """Yield the variances and covariances of some nodes, ``words`` being their indices."""
    for i, j in pairs(range(len(nodes)), 2):
        values = frame.known.get(family, words[i], words[j], session=session)
        yield Path("covariance", nodes[i], nodes[j], values)


# -- measurement ----------------------------------------------------------------------------------


def measurement(frame: Frame) -> Section:
    """Let items measure their series: loadings, intercepts, error variances."""
    paths: list[Path] = []
    for v, items in frame.items.items():
        for t in frame.sessions if len(items) > 1 else ():
            paths += _items(frame, v, items, t)
    return Section("Items measure their series", tuple(paths))


def _items(frame: Frame, variable: str, items: tuple[str, ...], t: int) -> Iterator[Path]:
    factor, known = frame.series(variable, t), frame.known
    scores = [Node("score", item, t) for item in items]
    yield frame.fixed("loading", factor, scores[0], 1.0)
    for item, score in zip(items[1:], scores[1:], strict=True):
        yield Path("loading", factor, score, known.get("loading", item, session=t))
    for item, score in zip(items, scores, strict=True):
        yield Path("mean", score, None, known.get("intercept", item, session=t))
        yield Path("covariance", score, score, frame.noise(item, t))


def residuals(frame: Frame) -> Section:
    """Leave no variance to a series but that of its parts, and measurement error."""
    paths = []
    for v, items in frame.items.items():
        for t in frame.sessions:
            series = frame.series(v, t)
            zero = frame.known.same(0.0)
            noise = frame.noise(items[0], t) if len(items) == 1 else zero
            paths.append(Path("covariance", series, series, noise))
    return Section("Nothing else varies, measurement error apart", tuple(paths))


def parts(frame: Frame, role: str, title: str) -> Section:
    """Make factors of one session part of each series."""
    paths = [
        frame.fixed("loading", Node(role, v, t), frame.series(v, t), 1.0)
        for v in frame.variables
        for t in frame.sessions
    ]
    return Section(title, tuple(paths))


def true_scores(frame: Frame, always: bool) -> dict[tuple[str, int], Node]:
    """Return what lagged effects of whole scores act on: the series, or what lies behind it."""
    nodes = {}
    for v, items in frame.items.items():
        noisy = [frame.known.find("measurement_var", items[0], session=t) for t in frame.sessions]
        behind = len(items) == 1 and (always or any(noisy))
        for t in frame.sessions:
            nodes[v, t] = Node("true", v, t) if behind else frame.series(v, t)
    return nodes


def behind_scores(frame: Frame, nodes: Mapping[tuple[str, int], Node]) -> Section:
    """Measure true scores by one score each, with error."""
    paths = []
    for (v, t), node in nodes.items():
        if node.role == "true":
            score = frame.series(v, t)
            paths.append(frame.fixed("loading", node, score, 1.0))
            paths.append(frame.fixed("mean", score, None, 0.0))
            paths.append(Path("covariance", score, score, frame.noise(score.variable, t)))
    return Section("A score is a true score and measurement error", tuple(paths))


# -- means and the between part -------------------------------------------------------------------


def means(frame: Frame) -> Section:
    """Give each series its mean, by session or for all; 0 where its items hold it."""
    paths = [
        frame.maybe(frame.series(v, t), "mean", v, session=t)
        for v in frame.variables
        for t in frame.sessions
    ]
    return Section("Means", tuple(paths))


def random_intercepts(frame: Frame) -> Section:
    """Add what is stable in a client: a factor with equal loadings on all sessions."""
    factors = [Node("between", v) for v in frame.variables]
    paths = [
        frame.fixed("loading", factor, frame.series(v, t), 1.0)
        for v, factor in zip(frame.variables, factors, strict=True)
        for t in frame.sessions
    ]
    paths += [frame.fixed("mean", factor, None, 0.0) for factor in factors]
    paths += covariances(frame, "between_cov", factors, frame.variables, None)
    return Section("Random intercepts: what is stable in a client", tuple(paths))


def covariate_effects(
    frame: Frame, covariates: Sequence[str], targets: Sequence[tuple[str, Node]]
) -> Section:
    """Regress nodes on client-level covariates; ``targets`` are (index in names, node)."""
    paths = [
        Path("regression", node, Node("covariate", name), frame.known.get("between", word, name))
        for word, node in targets
        for name in covariates
    ]
    return Section("Client-level covariates", tuple(paths))


# -- the within part ------------------------------------------------------------------------------


def deviations(frame: Frame) -> dict[tuple[str, int], Node]:
    """Return the deviation of every series at every session."""
    return {(v, t): Node("within", v, t) for v in frame.variables for t in frame.sessions}


def first_session(frame: Frame, nodes: Mapping[tuple[str, int], Node]) -> Section:
    """Let deviations at the start covary freely: of one session, or of two if lags reach as far."""
    begin = frame.sessions[: frame.order]
    first = [nodes[v, t] for t in begin for v in frame.variables]
    words = [v + end for _, end in zip(begin, ("", NEXT), strict=False) for v in frame.variables]
    paths = covariances(frame, "initial_cov", first, words, None)
    return Section("Where the process starts", tuple(paths))


def lagged_effects(
    frame: Frame,
    nodes: Mapping[tuple[str, int], Node],
    before: Mapping[tuple[str, int], Node] | None = None,
    family: str = "phi",
) -> tuple[Section, tuple[Equation, ...]]:
    """Regress each node on those of the session before, and of two before at second order.

    ``before`` gives the predictors by series and session, the nodes themselves by default.
    """
    before = before or nodes
    paths: list[Path] = []
    equations: dict[str, Equation] = {}
    for at in range(frame.order, len(frame.sessions)):
        t = frame.sessions[at]
        for row in frame.variables:
            for column in frame.variables:
                values = _lag(frame, family, row, column, t, equations)
                last = before[column, frame.sessions[at - 1]]
                paths.append(Path("regression", nodes[row, t], last, values))
            for column in frame.variables if frame.order == 2 else ():
                values = frame.known.get("phi2", row, column, session=t)
                earlier = before[column, frame.sessions[at - 2]]
                paths.append(Path("regression", nodes[row, t], earlier, values))
    return Section("Lagged effects", tuple(paths)), tuple(equations.values())


def _lag(
    frame: Frame, family: str, row: str, column: str, t: int, equations: dict[str, Equation]
) -> Values:
    """Return the effect into session t; after a step one of its own, with step = it - phi."""
    values = frame.known.get(family, row, column, session=t)
    begin = f"step[{row},{column}]@"
    sessions = {
        int(name.removeprefix(begin).partition("|")[0])
        for name in frame.known.names
        if name.startswith(begin)
    }
    if family != "phi" or not sessions or t < min(sessions):
        return values
    step = frame.known.get("step", row, column, session=min(sessions))
    late: list[Value] = []
    for first, by in zip(values, step, strict=True):
        group = str(by).partition("|")[2] or str(first).partition("|")[2]
        name = f"late[{row},{column}]@{min(sessions)}" + (f"|{group}" if group else "")
        late.append(name)
        difference = ((1.0, (name,)), (-1.0, (str(first),)))
        equations[str(by)] = Equation(str(by), difference, defines=True)
    return tuple(late)


def innovations(frame: Frame, nodes: Mapping[tuple[str, int], Node]) -> Section:
    """Let what is new at a session covary within it."""
    paths: list[Path] = []
    for t in frame.sessions[frame.order :]:
        now = [nodes[v, t] for v in frame.variables]
        paths += covariances(frame, "innovation_cov", now, frame.variables, t)
    return Section("Innovations: what is new at a session", tuple(paths))


def input_effects(
    frame: Frame, inputs: Sequence[str], nodes: Mapping[tuple[str, int], Node], idle: set[Node]
) -> Section:
    """Let what happens at a session act there; ``idle`` columns hold nothing but zeros."""
    paths = []
    for name in inputs:
        for (v, t), node in nodes.items():
            column = Node("input", name, t)
            if column not in idle:
                values = frame.known.get("input", v, name)
                paths.append(Path("regression", node, column, values))
    return Section("What happens at a session", tuple(paths))
