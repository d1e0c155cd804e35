"""What a model must not be asked: more than the data can say, before the fit and after it.

Before the fit three things are certain. There cannot be more parameters than means, variances and
covariances; parameters that leave all of these unchanged when they move together cannot be told
apart, whatever the scores; and a session seen by too few clients can be predicted without error,
so that the likelihood has no maximum. After the fit one more can be seen: measurement error is
what leaves no trace at the next session, and if nothing does, it has no meaning of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import chdtrc

from alliancedyn.engine import names, starting
from alliancedyn.engine.ascent import Point, climb, metric_of, without
from alliancedyn.engine.expected import moment_slopes
from alliancedyn.engine.likelihood import Likelihood
from alliancedyn.engine.maximise import REFUSED, Maximum
from alliancedyn.engine.system import Layout
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.models.design import Design
from alliancedyn.models.options import savings
from alliancedyn.results import Observed

if TYPE_CHECKING:
    from alliancedyn.models.specification import Specification

Array = NDArray[np.float64]
Seen = NDArray[np.bool_]  # which scores at which sessions some client has, (p,)

SESSIONS = 10  # beyond them every model here that can be identified is
POINTS = 3  # random parameters at which identification is tried
DEPENDENT = 1e-9  # singular value, relative to the largest, of parameters that move nothing
TURNS = 100  # of a search: what is left in a flat valley then does not matter to a test
LEVEL = 0.05  # of the test that a series leaves a trace at all
CLEAR = 1e-6  # p-value from which no other maximum is looked for
KEPT = 256  # answers remembered: a study asks the same question thousands of times

_LAGGED = ("phi", "phi2", "step", "ma", "coupling", "self", "moderation")
_BY_CLIENT = ("drift", "moderation")  # every client has moments of their own, known better for it

_answers: dict[tuple[object, ...], tuple[str, ...]] = {}


def refuse_unidentified(
    spec: Specification, design: Design, likelihood: Likelihood, data: Observed
) -> None:
    """Refuse a model that no scores of this shape could identify, whatever their values.

    Raises
    ------
    SpecificationError
        With what is missing and the remedy.
    """
    _refuse_too_much_error(spec, data)
    _refuse_without_maximum(spec, design, data)
    if any(block.family in _BY_CLIENT for block in likelihood.layout.blocks):
        return
    _refuse_beyond_budget(spec, likelihood, data)
    if len(data.sessions) > SESSIONS:
        return
    if loose := _loose(spec, likelihood, data):
        raise SpecificationError(
            f"The {spec.name} is not identified from {len(data.sessions)} sessions: "
            f"{listed(loose)} can move together without changing any mean or covariance of the "
            f"scores. {_remedy(spec)}"
        )


def _refuse_too_much_error(spec: Specification, data: Observed) -> None:
    """Refuse a known error variance that is all, or more, of what the scores vary by."""
    known = spec.measurement_var
    for name, value in known.items() if isinstance(known, Mapping) else ():
        seen = starting.variance_around_means(data.Y[:, :, data.variables.index(name)])
        if value >= seen:
            raise SpecificationError(
                f"measurement_var of {name!r} is {value:g}, and the scores themselves vary by "
                f"{seen:.3g} around their session means. Give an error variance below that, in "
                "squared score points."
            )


def _remedy(spec: Specification) -> str:
    """Name the options that would save parameters."""
    return f"Use more sessions{''.join(f', or {words}' for words in savings(spec))}."


def _refuse_beyond_budget(spec: Specification, likelihood: Likelihood, data: Observed) -> None:
    """Refuse more parameters than there are means, variances, covariances and regressions."""
    known = data.covariates.shape[1] + data.inputs.shape[1] * data.inputs.shape[2]
    columns = [int(_seen(data, rows).sum()) for _, rows in data.rows_by_group()]
    moments = sum(p * (p + 3) // 2 + p * known for p in columns)
    if (n := likelihood.layout.n_free) > moments:
        raise SpecificationError(
            f"The {spec.name} has {n} free parameters, and the {sum(columns)} scores that were "
            f"observed (series by session) have only {moments} means, variances and covariances. "
            f"{_remedy(spec)}"
        )


def _seen(data: Observed, rows: NDArray[np.int64]) -> Seen:
    """Return which scores (p,) some client of a group has."""
    return np.asarray((~np.isnan(data.Y[rows])).any(axis=0).ravel())


def _refuse_without_maximum(spec: Specification, design: Design, data: Observed) -> None:
    """Refuse innovations of a session's own where its few clients can be predicted exactly.

    With a mean and lagged effects of its own, a session of n clients is fitted without error as
    soon as n - 1 - k (k per order) is less than k: the likelihood then has no maximum.
    """
    if spec.innovations != "free" or design.measured:
        return
    k = design.k
    needed = np.full(len(data.sessions), k + (spec.means == "free"))
    needed[spec.order :] += k * spec.order * (spec.lags == "free")
    for _, rows in data.rows_by_group():
        counts = (~np.isnan(data.Y[rows])).any(axis=2).sum(axis=0)
        if (counts < needed).any():
            few = np.array(data.sessions)[counts < needed]
            raise SpecificationError(
                f"Fewer than {needed[-1]} clients are seen at session {listed(few)}; parameters of "
                "its own can predict them without error: the likelihood has no maximum. "
                'Use innovations="equal", or restrict sessions=(first, last).'
            )


# -- identification at random parameters ---------------------------------------------------------


def _loose(spec: Specification, likelihood: Likelihood, data: Observed) -> tuple[str, ...]:
    """Return parameters that no means and covariances of these scores could tell apart."""
    shape = [_seen(data, rows) for _, rows in data.rows_by_group()]
    masks = tuple(columns.tobytes() for columns in shape)
    known = spec.measurement_var
    if isinstance(known, Mapping):  # how large a known error is makes no difference
        spec = replace(spec, measurement_var=dict.fromkeys(known, 0.0))
    key = (type(spec), repr(spec), data.sessions, data.variables, data.groups, masks)
    if key not in _answers:
        if len(_answers) >= KEPT:
            _answers.clear()
        _answers[key] = _dependent(likelihood, shape, len(spec.covariates))
    return _answers[key]


def _dependent(likelihood: Likelihood, shape: list[Seen], n_covariates: int) -> tuple[str, ...]:
    """Try random parameters; a model is identified if its moments have full rank at one of them."""
    layout = likelihood.layout
    rng = np.random.default_rng(0)
    found: tuple[str, ...] = ()
    for _ in range(POINTS):
        theta = likelihood.start + 0.1 * rng.standard_normal(layout.n_free)
        try:
            J = _derivatives(likelihood, layout.natural(theta), shape, n_covariates)
        except SpecificationError:  # not stationary there
            continue
        found = _null(J, layout)
        if not found:
            break
    return found


def _derivatives(
    likelihood: Likelihood, natural: Array, shape: list[Seen], n_covariates: int
) -> Array:
    """Differentiate all moments of the scores by the natural parameters, (moments, n)."""
    parts = []
    for slopes, columns in zip(moment_slopes(likelihood, natural), shape, strict=True):
        n = len(slopes.mean)
        first, later = slopes.effects[..., 0, :n_covariates], slopes.effects[..., n_covariates:]
        parts += [slopes.mean[:, columns], slopes.cov[:, np.triu(np.outer(columns, columns))]]
        parts += [by[:, columns].reshape(n, -1) for by in (first, later)]
    return np.concatenate(parts, axis=1).T


def _null(J: Array, layout: Layout) -> tuple[str, ...]:
    """Return the names that weigh most in the directions that change nothing."""
    rows = np.abs(J).max(axis=1)
    J = J[rows > 0.0] / rows[rows > 0.0, None]
    length = np.linalg.norm(J, axis=0)
    if (length == 0.0).any():
        return tuple(np.array(layout.names)[length == 0.0].tolist())
    _, values, directions = np.linalg.svd(J / length, full_matrices=True)
    full = np.zeros(J.shape[1])
    full[: len(values)] = values
    loose = directions[full < DEPENDENT * values[0]]
    if not len(loose):
        return ()
    weight = np.abs(loose).max(axis=0)
    order = np.argsort(-weight, kind="stable")
    return tuple(layout.names[i] for i in order if weight[i] > 0.1)


# -- after the fit -------------------------------------------------------------------------------


def traceless_error(likelihood: Likelihood, found: Maximum) -> str | None:
    """Say which measurement error the data cannot tell from innovations; None if they can.

    A series y_j = eta_j + e_j leaves traces through column j of the lag matrix. If that is zero,
    a part of the innovations of eta_j and the error e_j are exchangeable: the likelihood is flat
    in the error variance. So for every error variance that is estimated from a single score, the
    model without any lagged effect of that series, and without the error, is fitted; unless it is
    rejected, by a likelihood ratio with as many degrees of freedom as parameters were taken out,
    there is no ground for the error variance. (Wald intervals are no guide: under the hypothesis
    the estimates of lagged effects are ratios of noise, and their errors with them.) Of several
    the most doubtful is named: its latent scores are free to stand in for those of others.
    """
    layout = likelihood.layout
    if "innovation_cov" not in {block.family for block in layout.blocks}:
        return None
    doubts = []
    for series, group in _with_error(layout):
        held = _traces(layout, found.theta, series, group)
        lost = found.loglik - _best_without(likelihood, found, held)
        doubts.append((_tail(lost, len(held)), 2.0 * lost, len(held), series, group))
    if not doubts or (worst := max(doubts, key=lambda doubt: doubt[0]))[0] <= LEVEL:
        return None
    p_value, gain, df, series, group = worst
    where = "" if group is None else f" where {group}"
    return (
        f"measurement error and innovations of {series!r} cannot be told apart{where}: its lagged "
        f"effects are not distinguishable from zero (chi-square({df}) = {gain:.2f}, "
        f"p = {p_value:.2f}), and error is what leaves no trace at the next session. Give a known "
        f"reliability={{{series!r}: ...}}, or leave measurement_var out."
    )


def _with_error(layout: Layout) -> list[tuple[str, str | None]]:
    """Return the series, by group, whose single score has an error variance to estimate."""
    found = []
    for name in layout.names:
        family, indices, _ = names.parse(name)
        if family == "measurement_var" and _columns(layout, indices[0], names.group_of(name)):
            found.append((indices[0], names.group_of(name)))
    return list(dict.fromkeys(found))


def _columns(layout: Layout, series: str, group: str | None) -> list[int]:
    """Return the places of all that carries a series to the next sessions."""
    found = []
    for i, name in enumerate(layout.names):
        family, indices, _ = names.parse(name)
        if family not in _LAGGED or names.group_of(name) not in (None, group):
            continue
        if indices[min(1, len(indices) - 1)] == series:  # the predictor
            found.append(i)
    return found


def _traces(layout: Layout, theta: Array, series: str, group: str | None) -> dict[int, float]:
    """Return which elements of theta to hold, and where, so that a series leaves no trace.

    The error itself is held at zero, where it is smallest: the innovations take it up.
    """
    held = dict.fromkeys(_columns(layout, series, group), 0.0)
    for i in list(held):
        if names.parse(layout.names[i])[0] == "self":  # phi = 1 + self
            held[i] = -1.0
    errors = [
        i
        for i, name in enumerate(layout.names)
        if names.parse(name)[:2] == ("measurement_var", (series,)) and names.group_of(name) == group
    ]
    held[min(errors, key=lambda i: abs(theta[i]))] = 0.0
    return held


def _best_without(likelihood: Likelihood, found: Maximum, held: Mapping[int, float]) -> float:
    """Return the highest log-likelihood with some elements of theta held.

    A climb from where the others are expected to go, by the information at the maximum, comes
    first. Where it leaves the test in no doubt that is all; else, and where it fails, a search
    from the moments has a say too: there may be several maxima.
    """
    metric = metric_of(found.information)
    near = _climbed(likelihood, found.theta, metric, held)
    p_value = _tail(found.loglik - near, len(held))
    if p_value > LEVEL or (np.isfinite(near) and p_value < CLEAR):
        return near
    return max(near, _searched(likelihood, metric, held))


def _tail(lost: float, df: int) -> float:
    """Return the p-value of a loss of log-likelihood."""
    return float(chdtrc(df, max(2.0 * lost, 0.0)))


def _climbed(
    likelihood: Likelihood, theta: Array, metric: Array, held: Mapping[int, float]
) -> float:
    """Climb from what the metric foretells of the others; -inf if no maximum is reached."""
    at, mask = np.array(list(held)), np.zeros(len(theta), bool)
    mask[at] = True
    across = np.linalg.solve(metric[np.ix_(at, at)], np.array(list(held.values())) - theta[at])
    start = theta + metric[:, at] @ across
    start[at] = list(held.values())
    here = Point.at(likelihood, start, without(metric, mask))
    if not np.isfinite(here.loglik):
        return -np.inf
    top = climb(likelihood, here)
    return -np.inf if top is None else top.loglik


def _searched(likelihood: Likelihood, metric: Array, held: Mapping[int, float]) -> float:
    """Search from the moment start."""
    clients, theta = likelihood.n_clients, likelihood.start
    mask = np.zeros(len(theta), bool)
    mask[list(held)] = True
    full = theta.copy()
    full[list(held)] = list(held.values())

    def negative(part: Array) -> tuple[float, Array]:
        full[~mask] = part
        value, score = likelihood.value_and_score(full)
        if not np.isfinite(value) or not np.isfinite(score).all():
            return REFUSED, np.zeros_like(part)
        return -value / clients, -score[~mask] / clients

    first = without(metric, mask)[np.ix_(~mask, ~mask)] * clients
    options = {"gtol": 1e-6, "maxiter": TURNS, "hess_inv0": (first + first.T) / 2.0}
    done = minimize(negative, theta[~mask], jac=True, method="BFGS", options=options)
    return float(-done.fun * clients)
