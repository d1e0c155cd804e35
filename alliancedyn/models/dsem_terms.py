"""The pieces of the two-level dynamic model in PyMC, added one by one inside a model context.

See :mod:`alliancedyn.engine.dsem` for the equations and :mod:`alliancedyn.models.dsem_open` for
how the pieces go together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.dsem import DsemData, DsemShape, Priors
from alliancedyn.models.dsem_scores import last_seen, own_means
from alliancedyn.models.nuts import import_pymc

Tensors = dict[str, Any]

LONG = 8  # sessions from which scores say much about clients' slopes


def population(data: DsemData, shape: DsemShape, priors: Priors) -> Tensors:
    """Add the population's parameters; roots of covariances under ``..._root``."""
    pm = import_pymc()
    parts: Tensors = {
        "mean": pm.Normal("mean", *priors.mean, dims="variable"),
        **_coefficients(shape, priors),
    }
    if shape.moderators:
        dims = ("moderator", "outcome", "source")
        parts["moderation"] = pm.Normal("moderation", *priors.effect, dims=dims)
        parts["input"] = pm.Normal("input", *priors.effect, dims=("moderator", "outcome"))
    if shape.course:
        parts["course"] = pm.Normal("trend", *priors.trend, dims=("course", "variable"))
    if shape.predictors:
        parts["slopes"] = pm.Normal("slopes", *priors.effect, dims=("effect", "predictor"))
    _add_between(parts, shape, priors)
    covariances = ["innovation_cov"]
    covariances += ["initial_cov"] if shape.initial == "free" else []
    covariances += ["therapist_cov"] if shape.therapist else []
    for name in covariances:
        correlated = name != "innovation_cov" or not shape.same
        root, _, _ = _root(name, [priors.sd] * data.k, priors, correlated)
        parts[f"{name}_root"] = root
        parts[name] = pm.Deterministic(name, root @ root.T, dims=("variable", "variable_"))
    if shape.therapist:
        z = pm.Normal("therapist_z", dims=("therapist", "variable"))
        parts["therapist"] = z @ parts["therapist_cov_root"].T
    return parts


def _coefficients(shape: DsemShape, priors: Priors) -> Tensors:
    """Add the effects of scores on scores: matrices ``phi`` and ``same``, and all of them (p,)."""
    pm = import_pymc()
    import pytensor.tensor as pt

    parts: Tensors = {}
    if shape.lagged is None:
        parts["phi"] = pm.Normal("phi", *priors.phi, dims=("outcome", "source"))
        there = [parts["phi"].ravel()]
    else:
        there = [pm.Normal("lagged_effect", *priors.phi, dims="lagged")]
        parts["phi"] = _matrix("phi", there[0], shape, shape.lagged)
    if shape.same:
        there.append(pm.Normal("same_session_effect", *priors.same, dims="same_session"))
        parts["same"] = _matrix("same", there[1], shape, shape.same)
    return {**parts, "coefficients": pt.concatenate(there)}


def _matrix(name: str, values: Any, shape: DsemShape, pairs: Sequence[Sequence[str]]) -> Any:
    """Add a matrix of what stands at some pairs (outcome, predictor), 0 elsewhere."""
    pm = import_pymc()
    import pytensor.tensor as pt

    v = shape.variables
    at = tuple(np.array([v.index(pair[j]) for pair in pairs]) for j in (0, 1))
    full = pt.zeros((len(v), len(v)))[at].set(values)
    return pm.Deterministic(name, full, dims=("outcome", "source"))


def reduced(parts: Tensors, k: int) -> tuple[Any, Any]:
    """Return lags and innovation covariance with same-session effects solved for."""
    if "same" not in parts:
        return parts["phi"], parts["innovation_cov"]
    total: Any = np.eye(k)
    for _ in range(k - 1):  # (I - G)^-1 = I + G + G^2 + ..., and the k-th power of G is 0
        total = np.eye(k) + parts["same"] @ total
    return total @ parts["phi"], total @ parts["innovation_cov"] @ total.T


def _root(
    name: str, scales: list[float], priors: Priors, correlated: bool = True
) -> tuple[Any, Any, Any]:
    """Add a covariance by half-normal SDs and LKJ correlations: Cholesky root, corr, SDs."""
    pm = import_pymc()
    import pytensor.tensor as pt

    if len(scales) == 1 or not correlated:
        sd = pm.HalfNormal(f"{name}_sd", sigma=np.array(scales))
        return pt.diag(sd), np.eye(len(scales)), sd
    found: tuple[Any, Any, Any] = pm.LKJCholeskyCov(
        f"{name}_root",
        n=len(scales),
        eta=priors.lkj,
        sd_dist=pm.HalfNormal.dist(sigma=np.array(scales), shape=len(scales)),
        store_in_trace=False,
    )
    return found


def _add_between(parts: Tensors, shape: DsemShape, priors: Priors) -> None:
    """Add how the effects of clients differ: ``effect_root`` of all, or intercepts and the SDs."""
    pm = import_pymc()
    k = len(shape.variables)
    f = len(shape.stable)
    own = shape.coefficients[slice(*shape.own_coefficients)]
    scales = [priors.phi_sd if family == "phi" else priors.same_sd for family, _, _ in own]
    scales += [priors.log_innovation_sd] * (k if shape.random_innovation else 0)
    between = [priors.trend_sd] * (f - k) + [priors.sd] * k
    inner = sampled_order(shape)
    if shape.correlated and scales:
        root, corr, sd = _root("effect", [*between, *scales], priors)
        pm.Deterministic("random_corr", corr[np.ix_(inner, inner)], dims=("effect", "effect_"))
        more = sd[f:]
    else:
        root, _, _ = _root("between_cov", between, priors)
    if scales and not shape.correlated:
        more = pm.HalfNormal("effect_sd", sigma=np.array(scales))
        parts["effect_sd"] = more
    for family in ("phi", "same"):
        here = [j for j, one in enumerate(own) if one[0] == family]
        if here:
            _matrix(f"{family}_sd", more[np.array(here)], shape, [own[j][1:] for j in here])
    if shape.random_innovation:
        pm.Deterministic("log_innovation_sd", more[-k:], dims="variable")
    level, order = root[:f, :f], inner[:f]
    parts["effect_root"] = root
    parts["between_cov"] = pm.Deterministic(
        "between_cov", (level @ level.T)[np.ix_(order, order)], dims=("stable", "stable_")
    )


def sampled_order(shape: DsemShape) -> NDArray[np.int64]:
    """Return where every effect (q,) stands in the order that is sampled: slopes first.

    It is its own inverse. A level at the first session is hard to tell from that session's
    deviation, a slope is not: given the slope, the level follows more easily than the other way.
    """
    k, q = len(shape.variables), len(shape.effects)
    order = np.arange(q)
    if shape.random_trend:
        order[: 2 * k] = [*range(k, 2 * k), *range(k)]
    return order


def noisy(data: DsemData, measurement: str) -> NDArray[np.bool_]:
    """Say which series have measurement error, (k,)."""
    return np.full(data.k, True) if measurement == "free" else data.measurement_var > 0.0


def measurement_sd(data: DsemData, priors: Priors, measurement: str) -> Any:
    """Return SDs (k,) of measurement errors, up to their sign."""
    pm = import_pymc()
    if measurement == "known":
        return np.sqrt(data.measurement_var)
    # A half-normal SD on both sides of zero: chains pass through it, where on the logarithm of an
    # SD that may be zero they wander off.
    root = pm.Normal(
        "measurement_root", sigma=priors.sd, dims="variable", initval=np.full(data.k, 0.5)
    )
    pm.Deterministic("measurement_var", root**2, dims="variable")
    return root


def client_effects(data: DsemData, shape: DsemShape, parts: Tensors) -> Any:
    """Add the effects b (N, q) of clients.

    Intercepts m are centered, as a client's scores say much about them; all others, about which
    they say little, are not: given the intercepts they are center + L_21 L_11^-1 (m - center) +
    L_22 z. Where clients have slopes over sessions, these take the place of the intercepts if
    sessions are many, and nothing is centered if they are few.
    """
    pm = import_pymc()
    import pytensor.tensor as pt

    k, f, q = data.k, len(shape.stable), len(shape.effects)
    center = [parts["mean"]]
    if shape.random_trend:
        line = shape.course == ("trend",)
        center.append(parts["course"][0] if line else pt.zeros(k))
    center += [parts["coefficients"][slice(*shape.own_coefficients)]]
    center += [pt.zeros(k)] if shape.random_innovation else []
    middle = pt.concatenate(center)[None] + np.zeros((len(data.Y), 1))
    if shape.predictors:
        middle = middle + data.predictors @ parts["slopes"].T
    if shape.therapist:
        middle = middle[:, :k].inc(parts["therapist"][data.therapist])
    root, inner = parts["effect_root"], sampled_order(shape)
    order = inner if shape.random_trend else slice(None)
    middle = middle[:, order]
    b, white, c = [], [], 0  # c are centered: levels, or slopes where sessions are many
    if not shape.random_trend or data.Y.shape[1] >= LONG:
        c = k
        start = pt.zeros((len(data.Y), k)) if shape.random_trend else own_means(data.Y)
        pm.modelcontext(None).add_coord("centered", [shape.effects[j] for j in inner[:k]])
        own = pm.Flat("client_level", dims=("client", "centered"), initval=start)
        b, white = [own], _whiten(own - middle[:, :k], root[:k, :k], k)
        pm.Potential("client_levels", _log_density(white, root[:k, :k]))
    if q > c:
        pm.modelcontext(None).add_coord("other", [shape.effects[j] for j in inner[c:]])
        z = pm.Normal("client_z", dims=("client", "other"))
        together = q if shape.correlated else f  # those that correlate with intercepts
        if together > c:
            shared = pt.stack(white, axis=1) @ root[c:, :c].T if c else 0.0
            b.append(middle[:, c:together] + shared + z[:, : together - c] @ root[c:, c:].T)
        if q > together:
            b.append(middle[:, together:] + z[:, together - c :] * parts["effect_sd"])
    every = pt.concatenate(b, axis=1)[:, order]
    return pm.Deterministic("client_effects", every, dims=("client", "effect"))


def add_process(
    data: DsemData, shape: DsemShape, priors: Priors, parts: Tensors, effects: Any, scores: Any,
    innovations: str,
) -> None:  # fmt: skip
    """Add the density of the first session and of what is new at every later one."""
    pm = import_pymc()
    import pytensor.tensor as pt

    n_sessions, k = data.Y.shape[1:]
    w = scores - effects[:, None, :k]
    if shape.random_trend:
        w = w - shape.elapsed[:, None] * effects[:, None, k : 2 * k]
    if shape.course and not (shape.random_trend and shape.course == ("trend",)):
        w = w - data.course @ parts["course"]
    free = shape.initial == "free"
    if not free:  # a session before the first, without deviations
        w, n_sessions = pt.concatenate([pt.zeros_like(w[:, :1]), w], axis=1), n_sessions + 1
    new = _new(w, shape, parts, effects)
    if shape.moderators:
        new = new - _moderated(w[:, :-1], data.moderators[:, 1 if free else 0 :], parts)
    steps = last_seen(data.Y) - free
    client, step = np.nonzero(np.arange(n_sessions - 1) < steps[:, None])
    new = new[client, step]
    if shape.random_innovation:
        spread = effects[:, -k:][client] / 2.0
        new = new / pt.exp(spread)
        pm.Potential("innovation_spread", -spread.sum())
    if free:
        root = parts["initial_cov_root"]
        pm.Potential("first_session", _log_density(_whiten(w[:, 0], root, k), root))
    root = parts["innovation_cov_root"]
    later = _whiten(new, root, k)
    degrees = None
    if innovations == "student":
        degrees = pm.Gamma("degrees", alpha=priors.degrees[0], beta=priors.degrees[1])
    pm.Potential("later_sessions", _log_density(later, root, degrees))


def _new(w: Any, shape: DsemShape, parts: Tensors, effects: Any) -> Any:
    """Return what other scores, and the same a session ago, leave of states (N, T, k)."""
    import pytensor.tensor as pt

    v, k, f = shape.variables, len(shape.variables), len(shape.stable)
    start, stop = shape.own_coefficients
    before, after = w[:, :-1], w[:, 1:]
    left = [after[:, :, r] for r in range(k)]
    for j, (family, row, column) in enumerate(shape.coefficients):
        own = start <= j < stop
        size = effects[:, f + j - start, None] if own else parts["coefficients"][j]
        by = before if family == "phi" else after
        left[v.index(row)] = left[v.index(row)] - size * by[:, :, v.index(column)]
    return pt.stack(left, axis=-1)


def _moderated(before: Any, moderators: NDArray[np.float64], parts: Tensors) -> Any:
    """Return what moderators (N, T - 1, m) of a session do there, and to lags into it."""
    import pytensor.tensor as pt

    total: Any = 0.0
    for j in range(moderators.shape[2]):
        lags = pt.dot(before, parts["moderation"][j].T)
        total = total + moderators[:, :, j : j + 1] * (parts["input"][j] + lags)
    return total


def _whiten(e: Any, root: Any, k: int) -> list[Any]:
    """Return the columns of L^-1 e for all rows e at once.

    By hand: PyMC's distributions solve a system for each row, and libraries start threads for it.
    """
    white: list[Any] = []
    for a in range(k):
        rest = e[:, a]
        for b in range(a):
            rest = rest - root[a, b] * white[b]
        white.append(rest / root[a, a])
    return white


def _log_density(white: list[Any], root: Any, degrees: Any = None) -> Any:
    """Return the log density of rows e ~ N(0, L L') or t(degrees, 0, L L') up to a constant."""
    import pytensor.tensor as pt

    rows, k = white[0].shape[0], len(white)
    distance = sum(one**2 for one in white)
    volume = -rows * pt.log(pt.diag(root)).sum()
    if degrees is None:
        return volume - 0.5 * distance.sum()
    total = (degrees + k) / 2.0
    each = pt.gammaln(total) - pt.gammaln(degrees / 2.0) - k / 2.0 * pt.log(degrees)
    return volume + rows * each - (total * pt.log1p(distance / degrees)).sum()
