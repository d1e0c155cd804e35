"""The two-level dynamic model in PyMC: open to be read, extended and sampled.

The model, its priors and the names of what is drawn stand in :mod:`alliancedyn.engine.dsem`. Here
they become a ``pymc.Model`` with named dims. There are two ways to the same posterior:

*Marginal*, where only intercepts are random and all is normal: intercepts, missing scores and
measurement errors are integrated out by the Kalman filter, which is one operation of the model
and brings its own derivatives.

*Explicit*, for random lagged effects and log innovation variances, Student-t innovations, censored
and ordinal scores: effects of clients are parameters (levels centered, the others not), and so are
scores that were not simply seen. As scores minus levels are the states, lagged residuals are
computed for all clients and sessions at once.

With Student-t innovations e ~ t(degrees, 0, Psi), ``innovation_cov`` is the scale matrix Psi; the
covariance is degrees / (degrees - 2) times that. The first session stays normal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names
from alliancedyn.engine.dsem import DsemData, DsemShape, Priors, Sampled
from alliancedyn.engine.dsem_world import loadings
from alliancedyn.engine.kalman import Blocks, StateSpace
from alliancedyn.engine.smooth import smooth
from alliancedyn.engine.var import reduced_form
from alliancedyn.errors import SpecificationError
from alliancedyn.models.dsem_compiled import Structure, compiled
from alliancedyn.models.dsem_scores import true_scores
from alliancedyn.models.dsem_terms import (
    Tensors,
    add_process,
    client_effects,
    measurement_sd,
    noisy,
    population,
    reduced,
)
from alliancedyn.models.nuts import Drawn, Sampler, draw_rounds, import_pymc, picklable

if TYPE_CHECKING:
    import pymc

Array = NDArray[np.float64]

SMOOTHED = 50  # draws at which the intercepts of clients are looked up in the marginal model


def build_model(
    data: DsemData,
    shape: DsemShape,
    priors: Priors,
    *,
    innovations: Literal["normal", "student"] = "normal",
    measurement: Literal["known", "free"] = "known",
    limits: Array | None = None,
    ordinal: tuple[int, ...] | None = None,
) -> pymc.Model:
    """Build the model in PyMC.

    Parameters
    ----------
    data, shape, priors
        See :mod:`alliancedyn.engine.dsem`.
    innovations : {"normal", "student"}
        Distribution of what is new at a session.
    measurement : {"known", "free"}
        Whether error variances are those of ``data`` or estimated, one for each series.
    limits : (k, 2), optional
        Floor and ceiling of every series on the scale of the priors, NaN or infinite where there
        is none: scores at them stand for all beyond.
    ordinal : (k,) tuple of int, optional
        Number of thresholds of each ordinal series, 0 for others. The outer two are fixed halfway
        between the outermost categories.

    Returns
    -------
    pymc.Model
        Deterministics "between_cov", "innovation_cov", "initial_cov", ... carry the matrices.

    Raises
    ------
    SpecificationError
        If options contradict the data or each other.
    """
    _check(data, shape, innovations, measurement, limits, ordinal)
    pm = import_pymc()
    with pm.Model(coords=_coords(data, shape)) as model:
        parts = population(data, shape, priors)
        noise = measurement_sd(data, priors, measurement)
        if is_marginal(shape, innovations, limits, ordinal):
            _add_marginal(data, shape, parts, noise)
        else:
            effects = client_effects(data, shape, parts)
            scores = true_scores(data.Y, shape, noise, noisy(data, measurement), limits, ordinal)
            add_process(data, shape, priors, parts, effects, scores, innovations)
    return picklable(model)


def is_marginal(
    shape: DsemShape, innovations: str, limits: Array | None, ordinal: tuple[int, ...] | None
) -> bool:
    """Say whether everything latent can be integrated out."""
    random = shape.random_phi or shape.random_innovation or shape.random_same
    scored = innovations == "normal" and limits is None and ordinal is None
    return scored and not (random or shape.moderators)


def _check(
    data: DsemData, shape: DsemShape, innovations: str, measurement: str, limits: Array | None,
    ordinal: tuple[int, ...] | None,
) -> None:  # fmt: skip
    if innovations not in ("normal", "student"):
        raise SpecificationError(f"innovations is {innovations!r}; choose 'normal' or 'student'.")
    if measurement not in ("known", "free"):
        raise SpecificationError(f"measurement is {measurement!r}; choose 'known' or 'free'.")
    if data.k != len(shape.variables):
        raise SpecificationError(f"{data.k} series for {len(shape.variables)} names.")
    if shape.therapist and data.therapist is None:
        raise SpecificationError(
            "A therapist level needs the therapist of every client. Name the column when reading "
            "the data, or leave the level out."
        )
    if limits is not None and np.shape(limits) != (data.k, 2):
        raise SpecificationError(f"limits has shape {np.shape(limits)}; give {(data.k, 2)}.")
    if ordinal is not None and len(ordinal) != data.k:
        raise SpecificationError(f"ordinal has {len(ordinal)} counts for {data.k} series.")


def _coords(data: DsemData, shape: DsemShape) -> dict[str, Any]:
    v = list(shape.variables)
    coords: dict[str, Any] = {
        "client": np.arange(len(data.Y)),
        "session": list(shape.sessions),
        "variable": v,
        "variable_": v,
        "outcome": v,
        "source": v,
        "stable": list(shape.stable),
        "stable_": list(shape.stable),
        "effect": list(shape.effects),
        "effect_": list(shape.effects),
        "lagged": [f"{row}<-{column}" for row, column in shape.lagged or ()],
        "same_session": [f"{row}<-{column}" for row, column in shape.same],
        "course": list(shape.course),
        "predictor": list(shape.predictors),
        "moderator": list(shape.moderators),
    }
    if shape.therapist and data.therapist is not None:
        coords["therapist"] = np.arange(int(data.therapist.max()) + 1)
    return coords


# -- everything latent integrated out -------------------------------------------------------------


def _add_marginal(data: DsemData, shape: DsemShape, parts: Tensors, noise: Any) -> None:
    """Add the likelihood in which intercepts, states and missing scores are integrated out."""
    pm = import_pymc()
    import pytensor.tensor as pt

    from alliancedyn.models.marginal_op import filter_loglik

    k = data.k
    inputs = known_inputs(data, "therapist" in parts)
    drive = [parts[name] for name in ("slopes",) if name in parts]
    if "therapist" in parts:
        slopes = len(shape.stable) - k
        drive.append(
            pt.concatenate([parts["therapist"].T, pt.zeros((slopes, parts["therapist"].shape[0]))])
        )
    mean = parts["mean"][None]
    if "course" in parts:
        mean = mean + data.course @ parts["course"]
    phi, psi = reduced(parts, k)
    matrices: Tensors = {
        "mean": mean,
        "phi": phi[None],
        "psi": psi[None],
        "initial_cov": pt.linalg.block_diag(parts.get("initial_cov", psi), parts["between_cov"]),
        "noise": pt.as_tensor_variable(noise)[None] ** 2,
    }
    if drive:
        still = pt.zeros((k, inputs.shape[2]))
        matrices["drive"] = pt.concatenate([still, pt.concatenate(drive, axis=1)])
    frame = series_with_intercepts(data, shape, inputs.shape[2])
    packed = [pm.Data(name, value) for name, value in packed_scores(data, inputs).items()]
    pm.Potential("scores", filter_loglik(frame, packed, matrices))


def packed_scores(data: DsemData, inputs: Array) -> dict[str, NDArray[Any]]:
    """Return by name the data of the marginal model: scores, which were seen, inputs, sessions.

    Their shapes depend on the numbers of clients and sessions alone, so that one compiled model
    does for all panels of one size.
    """
    blocks = Blocks.pack(data.Y, inputs)
    return {
        "packed_scores": blocks.y,
        "packed_seen": blocks.seen,
        "packed_inputs": blocks.inputs,
        "packed_last": blocks.last,
    }


def known_inputs(data: DsemData, therapist: bool) -> Array:
    """Return what moves clients' intercepts, at the first session: predictors, the therapist."""
    n, n_sessions = data.Y.shape[:2]
    columns = [data.predictors]
    if therapist and data.therapist is not None:
        columns.append(np.eye(int(data.therapist.max()) + 1)[data.therapist])
    first = np.concatenate(columns, axis=1)
    inputs = np.zeros((n, n_sessions, first.shape[1]))
    inputs[:, 0] = first
    return inputs


def series_with_intercepts(data: DsemData, shape: DsemShape, q: int) -> StateSpace:
    """Return the frame of y = mean + w + k + (t - 1) s: slots and loadings, matrices zero."""
    k, n_sessions = data.k, data.Y.shape[1]
    m, course = k + len(shape.stable), bool(shape.course)
    once = np.zeros(n_sessions, np.int64)
    return StateSpace(
        phi=np.zeros((1, k, k)),
        phi_at=once,
        psi=np.zeros((1, k, k)),
        psi_at=once,
        mean=np.zeros((n_sessions if course else 1, k)),
        mean_at=np.arange(n_sessions) if course else once,
        initial_cov=np.zeros((m, m)),
        **loadings(shape),
        noise=np.zeros((1, k)),
        noise_at=once,
        drive=np.zeros((m, q)),
    )


# -- draws ----------------------------------------------------------------------------------------


def open_rounds(
    data: DsemData,
    shape: DsemShape,
    priors: Priors,
    *,
    innovations: Literal["normal", "student"] = "normal",
    measurement: Literal["known", "free"] = "known",
    limits: Array | None = None,
    ordinal: tuple[int, ...] | None = None,
    sampler: Sampler = "nutpie",
    totals: Sequence[int] = (1000,),
    tune: int = 1000,
    chains: int = 4,
    seed: int | None = None,
) -> Iterator[Sampled]:
    """Sample the open model, in ever longer chains.

    Parameters
    ----------
    data, shape, priors, innovations, measurement, limits, ordinal
        As in :func:`build_model`.
    sampler : {"nutpie", "pymc", "laplace"}
        The last is a quick look, for models in which everything latent is integrated out; its
        Pareto k is among the statistics.
    totals : sequence of int
        Draws per chain of each round.
    tune, chains : int
    seed : int, optional

    Yields
    ------
    Sampled
        In the order of ``shape.parameter_names()``, then ``degrees``, ``measurement_var[...]`` and
        ``threshold[variable,number]`` where they are estimated.

    Raises
    ------
    SpecificationError
        If options contradict each other.
    """
    marginal = is_marginal(shape, innovations, limits, ordinal)
    if sampler == "laplace" and not marginal:
        raise SpecificationError(
            'sampler="laplace" needs a model in which only intercepts are random and all is '
            'normal. Use sampler="nutpie".'
        )

    def build() -> tuple[pymc.Model, list[str]]:
        model = build_model(
            data, shape, priors, innovations=innovations, measurement=measurement, limits=limits,
            ordinal=ordinal,
        )  # fmt: skip
        return model, _kept(model)

    if sampler == "nutpie" and limits is None and ordinal is None:
        _check(data, shape, innovations, measurement, limits, ordinal)
        code = compiled(
            Structure.of(data, shape, priors, innovations, measurement, marginal, build)
        )
        given: dict[str, NDArray[Any]] = {"seen_scores": np.nan_to_num(data.Y)}
        if marginal:
            given = packed_scores(data, known_inputs(data, shape.therapist))
        rounds = code.draw_rounds(given, totals=totals, tune=tune, chains=chains, seed=seed)
    else:
        rounds = draw_rounds(
            *build(), sampler=sampler, totals=totals, tune=tune, chains=chains, seed=seed
        )
    for drawn in rounds:
        yield _sampled(drawn, data, shape, sampler, marginal)


def _sampled(
    drawn: Drawn, data: DsemData, shape: DsemShape, sampler: Sampler, marginal: bool
) -> Sampled:
    """Give draws their names, and clients their effects."""
    found = canonical(drawn.values, shape)
    if marginal:
        clients = _smoothed_intercepts(data, shape, drawn)
    else:
        own = drawn.values["client_effects"].reshape(-1, len(data.Y), len(shape.effects))
        clients = np.stack([own.mean(axis=0), own.std(axis=0, ddof=1)], axis=-1)
    return Sampled(
        names=tuple(found),
        draws=np.stack(list(found.values()), axis=-1),
        clients=clients,
        sampler=sampler,
        seconds=drawn.seconds,
        statistics=drawn.statistics,
    )


def _kept(model: pymc.Model) -> list[str]:
    """Name what is kept of every draw."""
    keep = [name for name in _CARRIED if name in model.named_vars]
    keep += [name for name in model.named_vars if name.startswith("threshold_")]
    return [name for name in keep if not name.startswith("threshold_spacing_")]


_CARRIED = (
    *(
        "mean",
        "trend",
        "phi",
        "same",
        "moderation",
        "input",
        "phi_sd",
        "same_sd",
        "log_innovation_sd",
        "slopes",
    ),
    "between_cov",
    *("random_corr", "therapist_cov", "therapist_z", "innovation_cov", "initial_cov"),
    *("client_effects", "degrees", "measurement_var"),
)


def canonical(values: Mapping[str, Array], shape: DsemShape) -> dict[str, Array]:
    """Return arrays (chains, draws) by canonical name from those of the model's matrices."""
    v, effects = shape.variables, shape.effects
    columns = {"trend": "trend"}
    found: dict[str, Array] = {}
    for name in shape.parameter_names():
        family, of, session = names.parse(name)
        if family in ("mean", "log_innovation_sd"):
            found[name] = values[family][..., v.index(of[0])]
        elif family == "predictor":
            at = (effects.index(of[0]), shape.predictors.index(of[1]))
            found[name] = values["slopes"][..., at[0], at[1]]
        elif family == "moderation":
            places = shape.moderators.index(of[2]), v.index(of[0]), v.index(of[1])
            found[name] = values[family][..., places[0], places[1], places[2]]
        elif family == "input":
            found[name] = values[family][..., shape.moderators.index(of[1]), v.index(of[0])]
        elif family == "random_corr":
            found[name] = values[family][..., effects.index(of[0]), effects.index(of[1])]
        elif family == "between_cov":
            at = (shape.stable.index(of[0]), shape.stable.index(of[1]))
            found[name] = values[family][..., at[0], at[1]]
        elif len(of) == 2:
            found[name] = values[family][..., v.index(of[0]), v.index(of[1])]
        else:
            column = f"@{session}" if family == "session" else columns.get(family, family)
            found[name] = values["trend"][..., shape.course.index(column), v.index(of[0])]
    if "degrees" in values:
        found["degrees"] = values["degrees"]
    for j, name in enumerate(v):
        if "measurement_var" in values:
            found[names.label("measurement_var", name)] = values["measurement_var"][..., j]
        for number in range(1, values.get(f"threshold_{name}", np.zeros(2)).shape[-1] - 1):
            label = names.label("threshold", name, str(number + 1))
            found[label] = values[f"threshold_{name}"][..., number]
    return found


def _smoothed_intercepts(data: DsemData, shape: DsemShape, drawn: Drawn) -> Array:
    """Return mean and SD (N, f, 2) of clients' intercepts and slopes, over some of the draws."""
    k = data.k
    flat = {key: one.reshape(-1, *one.shape[2:]) for key, one in drawn.values.items()}
    count = len(flat["mean"])
    inputs = known_inputs(data, shape.therapist)
    frame = series_with_intercepts(data, shape, inputs.shape[2])
    m = k + len(shape.stable)
    means, variances = [], []
    for i in np.linspace(0, count - 1, min(SMOOTHED, count)).astype(int):
        one = {key: value[i] for key, value in flat.items()}
        none, initial = np.zeros((k, k)), np.zeros((m, m))
        phi, psi = reduced_form(one.get("same", none), one["phi"], one["innovation_cov"])
        initial[:k, :k], initial[k:, k:] = one.get("initial_cov", psi), one["between_cov"]
        course = data.course @ one["trend"] if shape.course else np.zeros((1, k))
        system = replace(
            frame,
            phi=phi[None],
            psi=psi[None],
            mean=one["mean"] + course,
            initial_cov=initial,
            noise=one.get("measurement_var", data.measurement_var)[None],
            drive=_drive(one, shape, k),
        )
        mean, sd = smooth(system, data.Y, inputs)
        center = [one["mean"]]
        if shape.random_trend:
            center.append(one["trend"][0] if shape.course == ("trend",) else np.zeros(k))
        means.append(np.concatenate(center) + mean[:, 0, k:])
        variances.append(sd[:, 0, k:] ** 2)
    total = np.mean(variances, axis=0) + np.var(means, axis=0)
    return np.stack([np.mean(means, axis=0), np.sqrt(total)], axis=-1)


def _drive(one: Mapping[str, Array], shape: DsemShape, k: int) -> Array:
    f = len(shape.stable)
    columns = [one["slopes"]] if shape.predictors else [np.zeros((f, 0))]
    if shape.therapist:
        L = np.linalg.cholesky(one["therapist_cov"])
        own = L @ one["therapist_z"].T
        columns.append(np.concatenate([own, np.zeros((f - k, own.shape[1]))]))
    effects = np.concatenate(columns, axis=1)
    return np.concatenate([np.zeros((k, effects.shape[1])), effects])
