"""Which pieces make which family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from alliancedyn.errors import SpecificationError, listed
from alliancedyn.models import (
    ALT,
    CLPM,
    GCLM,
    LCMSR,
    RICLPM,
    STARTS,
    ContinuousTime,
    LatentChange,
    Specification,
)
from alliancedyn.syntax import pieces, stationary
from alliancedyn.syntax.growth import curve_factors, factor_means, factor_nodes
from alliancedyn.syntax.paths import Equation, Node, Path, PathModel, Section
from alliancedyn.syntax.pieces import Frame

Nodes = dict[tuple[str, int], Node]


@dataclass(frozen=True)
class Draft:
    """A specification on its way into paths.

    Parameters
    ----------
    spec : Specification
    frame : Frame
    idle : set of Node
        Inputs that are zero for everybody, which are left out.
    constraints : bool
        Whether the program bears constraints that are not linear.
    """

    spec: Specification
    frame: Frame
    idle: frozenset[Node]
    constraints: bool

    def covariates(self, targets: list[tuple[str, Node]]) -> Section:
        """Return the effects of client-level covariates."""
        return pieces.covariate_effects(self.frame, self.spec.covariates, targets)

    def inputs(self, nodes: Nodes) -> Section:
        """Return the effects of what happens at a session."""
        return pieces.input_effects(self.frame, self.spec.time_varying, nodes, set(self.idle))


def clpm(draft: Draft) -> PathModel:
    """Build a cross-lagged panel model: deviations around the means."""
    frame = draft.frame
    shifted = [(v, frame.series(v, t)) for v in frame.variables for t in frame.sessions]
    return _around(draft, [pieces.means(frame), draft.covariates(shifted)])


def riclpm(draft: Draft) -> PathModel:
    """Build deviations around means and random intercepts."""
    frame = draft.frame
    shifted = [(v, Node("between", v)) for v in frame.variables]
    between = pieces.random_intercepts(frame)
    return _around(draft, [pieces.means(frame), between, draft.covariates(shifted)])


def lcmsr(draft: Draft) -> PathModel:
    """Build deviations around every client's own course."""
    frame = draft.frame
    courses = curve_factors(draft.spec, frame, frame.series, frame.sessions)
    level = [pieces.means(frame), factor_means(frame)]
    return _around(draft, [*level, courses, draft.covariates(factor_nodes(frame))])


def _around(draft: Draft, level: list[Section]) -> PathModel:
    """Add deviations and their process to means and stable parts."""
    frame = draft.frame
    nodes = pieces.deviations(frame)
    split = pieces.parts(frame, "within", "Every score holds a within-client deviation")
    sections = [pieces.measurement(frame), split, pieces.residuals(frame), *level]
    sections.append(pieces.first_session(frame, nodes))
    process, equations = _process(draft, nodes)
    return PathModel((*sections, *process, draft.inputs(nodes)), equations)


def _process(draft: Draft, nodes: Nodes) -> tuple[list[Section], tuple[Equation, ...]]:
    frame = draft.frame
    if draft.spec.initial == "free":
        lags, steps = pieces.lagged_effects(frame, nodes)
        return [lags, pieces.innovations(frame, nodes)], steps
    if draft.constraints:
        lags, _ = pieces.lagged_effects(frame, nodes)
        settled = stationary.innovation_equations(frame, defines=False)
        return [lags, pieces.innovations(frame, nodes)], settled
    lags, _ = pieces.lagged_effects(frame, nodes, stationary.carried_over(frame))
    settled = stationary.innovation_equations(frame, defines=True)
    return [lags, stationary.phantoms(frame, nodes)], settled


def alt(draft: Draft) -> PathModel:
    """Build lagged effects of the scores themselves beside a course, the first session given."""
    frame = draft.frame
    nodes = pieces.true_scores(frame, always=False)
    first, later = frame.sessions[0], frame.sessions[1:]
    courses = curve_factors(draft.spec, frame, lambda v, t: nodes[v, t], later)
    start = [frame.maybe(nodes[v, first], "mean", v, session=first) for v in frame.variables]
    start += [frame.fixed("mean", nodes[v, t], None, 0.0) for v in frame.variables for t in later]
    joint = [
        Path("covariance", factor, nodes[v, first], frame.known.get("initial_between_cov", v, word))
        for word, factor in factor_nodes(frame)
        for v in frame.variables
    ]
    lags, steps = pieces.lagged_effects(frame, nodes)
    return PathModel(
        (
            pieces.measurement(frame),
            pieces.behind_scores(frame, nodes),
            factor_means(frame),
            courses,
            Section("The first session is given: its means", tuple(start)),
            pieces.first_session(frame, nodes),
            Section("Its covariances with the course", tuple(joint)),
            draft.covariates(factor_nodes(frame)),
            lags,
            pieces.innovations(frame, nodes),
            draft.inputs(nodes),
        ),
        steps,
    )


def gclm(draft: Draft) -> PathModel:
    """Build unit effects, lagged and moving-average effects."""
    frame = draft.frame
    nodes = pieces.deviations(frame)
    shocks = {key: Node("impulse", *key) for key in nodes}
    lags, steps = pieces.lagged_effects(frame, nodes)
    passed, _ = pieces.lagged_effects(frame, nodes, shocks, family="ma")
    split = pieces.parts(frame, "within", "Every score holds a deviation from the mean")
    shifted = [(v, Node("between", v)) for v in frame.variables]
    return PathModel(
        (
            pieces.measurement(frame),
            split,
            pieces.residuals(frame),
            pieces.means(frame),
            _unit_effects(frame, nodes),
            draft.covariates(shifted),
            _shocks(frame, nodes, shocks),
            pieces.first_session(frame, shocks),
            lags,
            Section("Moving averages: a shock acts once more", passed.paths),
            pieces.innovations(frame, shocks),
            draft.inputs(nodes),
        ),
        steps,
    )


def _unit_effects(frame: Frame, nodes: Nodes) -> Section:
    units = [Node("between", v) for v in frame.variables]
    paths = []
    for v, unit in zip(frame.variables, units, strict=True):
        for t in frame.sessions:
            weight = None
            if t > frame.sessions[0]:
                weight = frame.known.find("unit_loading", v, session=t)
            paths.append(Path("loading", unit, nodes[v, t], weight or frame.known.same(1.0)))
    paths += [frame.fixed("mean", unit, None, 0.0) for unit in units]
    paths += pieces.covariances(frame, "between_cov", units, frame.variables, None)
    return Section("Unit effects: stable differences that act at every session", tuple(paths))


def _shocks(frame: Frame, nodes: Nodes, shocks: Nodes) -> Section:
    paths = [frame.fixed("loading", shocks[key], node, 1.0) for key, node in nodes.items()]
    paths += [frame.fixed("covariance", node, node, 0.0) for node in nodes.values()]
    return Section("All that is new at a session is its shock", tuple(paths))


def latent_change(draft: Draft) -> PathModel:
    """Build changes of true scores that depend on the present ones."""
    frame, known = draft.frame, draft.frame.known
    nodes = pieces.true_scores(frame, always=True)
    first = frame.sessions[0]
    start = []
    for v in frame.variables:
        start.append(frame.fixed("loading", Node("between", v), nodes[v, first], 1.0))
    start += pieces.covariances(
        frame,
        "between_cov",
        [node for _, node in factor_nodes(frame)],
        [word for word, _ in factor_nodes(frame)],
        None,
    )
    start += [frame.fixed("covariance", node, node, 0.0) for node in nodes.values()]
    start += [frame.fixed("mean", node, None, 0.0) for node in nodes.values()]
    last = frame.sessions[-1]
    noisy = known.find("innovation_cov", *frame.variables[:2], session=last) is not None
    changes = {key: Node("change", *key) for key in nodes if key[1] != first}
    return PathModel(
        (
            pieces.measurement(frame),
            pieces.behind_scores(frame, nodes),
            factor_means(frame),
            Section("True scores start at an intercept", tuple(start)),
            draft.covariates(factor_nodes(frame)),
            _changes(frame, nodes, changes),
            *([pieces.innovations(frame, changes)] if noisy else []),
            draft.inputs(nodes),
        ),
        _change_equations(frame),
    )


def _changes(frame: Frame, nodes: Nodes, changes: Nodes) -> Section:
    paths = []
    for last, t in zip(frame.sessions, frame.sessions[1:], strict=False):
        for row in frame.variables:
            change, now = changes[row, t], nodes[row, t]
            paths.append(frame.fixed("loading", change, now, 1.0))
            paths.append(frame.fixed("regression", now, nodes[row, last], 1.0))
            paths.append(frame.fixed("loading", Node("trend", row), change, 1.0))
            for column in frame.variables:
                effect = ("self", row) if row == column else ("coupling", row, column)
                values = frame.known.get(*effect)
                paths.append(Path("regression", change, nodes[column, last], values))
            if frame.known.find("innovation_cov", row, row, session=t) is None:
                paths.append(frame.fixed("covariance", change, change, 0.0))
    return Section("Change: constant, in proportion to the score, coupled", tuple(paths))


def _change_equations(frame: Frame) -> tuple[Equation, ...]:
    """Return phi = I + diag(self) + coupling."""
    equations = {}
    for row in frame.variables:
        for column in frame.variables:
            effect = ("self", row) if row == column else ("coupling", row, column)
            for phi, own in zip(
                frame.known.get("phi", row, column), frame.known.get(*effect), strict=True
            ):
                one = ((1.0, ()),) if row == column else ()
                equations[str(phi)] = Equation(str(phi), (*one, (1.0, (str(own),))), defines=True)
    return tuple(equations.values())


BUILD: dict[type[Specification], Callable[[Draft], PathModel]] = {
    CLPM: clpm,
    RICLPM: riclpm,
    STARTS: riclpm,
    LCMSR: lcmsr,
    ALT: alt,
    GCLM: gclm,
    LatentChange: latent_change,
}


# The same by the names that people type: "ri-clpm".
FAMILIES: dict[str, type[Specification]] = {
    kind.name.lower().replace(" ", "-"): kind for kind in BUILD
}


# Options that the pieces follow; what a later one would change is not known to them.
FOLLOWED = {
    *("variables", "sessions", "starts", "lags", "innovations", "means", "initial", "order"),
    *("step", "covariates", "time_varying", "group", "equal_across_groups", "indicators"),
    *("loadings", "item_intercepts", "measurement_var", "reliability"),
    *("growth", "knot", "unit_loadings"),
}


def refuse_inexpressible(spec: object) -> None:
    """Refuse what paths between sessions cannot say.

    Raises
    ------
    SpecificationError
        With the reason.
    """
    family = type(spec).__name__
    if isinstance(spec, ContinuousTime):
        raise SpecificationError(
            "ContinuousTime has no text in lavaan or Mplus: its lags differ from client to client, "
            "and a path between two sessions is the same for all. Export the RI-CLPM, which "
            "counts in sessions."
        )
    if not isinstance(spec, Specification) or type(spec) not in BUILD:
        known = [kind.__name__ for kind in BUILD]
        raise SpecificationError(
            f"{family} has no text in lavaan or Mplus; there is one for {listed(known, 8)}."
        )
    if spec.moderators:
        raise SpecificationError(
            f"moderators={spec.moderators!r} has no text in lavaan or Mplus: lagged effects that "
            "differ from client to client are no paths. Export it with group=, for a few kinds of "
            "clients."
        )
    if spec.initial == "stationary" and spec.order == 2:
        raise SpecificationError(
            'order=2 with initial="stationary" has no text in lavaan or Mplus: the covariance at '
            "which a second-order process settles is no polynomial of its effects. Use "
            'initial="free".'
        )
    _refuse_unknown_options(spec)


def _refuse_unknown_options(spec: Specification) -> None:
    given = [f.name for f in fields(spec) if getattr(spec, f.name) != f.default]
    if unknown := sorted(set(given) - FOLLOWED):
        raise SpecificationError(
            f"The option {listed(unknown)} has no text in lavaan or Mplus. Leave it out, or fit "
            "the model here."
        )


def build(draft: Draft) -> PathModel:
    """Build the paths of a specification.

    Raises
    ------
    SpecificationError
        If parameters would be left over.
    """
    model = BUILD[type(draft.spec)](draft)
    left = sorted(draft.frame.known.names - set(model.parameters))
    if left:
        raise SpecificationError(
            f"The text of this {draft.spec.name} would lack {listed(left)}. Leave out the option "
            "that adds such parameters, or fit the model here."
        )
    return model
