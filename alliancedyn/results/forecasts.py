"""What a fit says of each client: states, forecasts, draws of what was not seen."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.engine.smooth import draw, forecast, smooth
from alliancedyn.errors import InferenceWarning, SpecificationError
from alliancedyn.results import scores
from alliancedyn.results.estimate import checked_level
from alliancedyn.results.model import ClientGroup, OwnProcesses

if TYPE_CHECKING:
    from alliancedyn.engine.dsem_mixture import ClientMixture, Mixed
    from alliancedyn.engine.kalman import StateSpace
    from alliancedyn.results.fit import Fit
    from alliancedyn.results.scores import Observed

Array = NDArray[np.float64]

FEW = 20.0  # effective draws of a client's own effects below which numbers are rough
TRIES = 100  # draws of parameters, of which one must be a process that exists


def predicted_of(fit: Fit, used: Observed, horizon: int) -> tuple[Array, Array]:
    """Return mean and SD of every score at the estimates; see `predicted`.

    Where clients have processes of their own, these are integrated over their population, given
    the scores up to ``horizon`` before (:mod:`alliancedyn.engine.dsem_mixture`).
    """
    own = _own_processes(fit, used)
    if own is None:
        return predicted(_at_estimates(fit, used), used, horizon)
    return _told(own.forecast(horizon), "Forecasts")


def smoothed_of(fit: Fit, used: Observed) -> tuple[Array, Array]:
    """Return mean and SD of parts at the estimates; see `smoothed`.

    Clients' own processes are integrated over their population, given all scores.
    """
    own = _own_processes(fit, used)
    if own is None:
        return smoothed(_at_estimates(fit, used), used)
    return _told(own.smooth(), "States")


def estimates(fit: Fit) -> dict[str, float]:
    """Return the parameters that states and forecasts take as known: posterior means if sampled."""
    return {str(name): float(value) for name, value in fit.params.items()}


def _at_estimates(fit: Fit, used: Observed) -> list[ClientGroup]:
    return fit.model.groups_of(estimates(fit), used, fit.variables)


def _own_processes(fit: Fit, used: Observed) -> ClientMixture | None:
    if not isinstance(fit.model, OwnProcesses):
        return None
    return fit.model.mixture_of(estimates(fit), used, fit.variables)


def _told(found: Mixed, what: str) -> tuple[Array, Array]:
    """Return mean and SD, and say where few draws of clients' processes fit the scores."""
    rough: NDArray[np.bool_] = np.any(found.effective < FEW, axis=1)
    if rough.any():
        warnings.warn(
            f"{what} of {rough.sum()} of {len(rough)} clients rest on fewer than {FEW:.0f} "
            f"effective draws of the client's own effects (least {np.nanmin(found.effective):.1f}):"
            " scores say more of these clients than the population does, and mean and sd have "
            "Monte Carlo errors that count. Read them as rough, or use fewer random effects.",
            InferenceWarning,
            stacklevel=4,
        )
    return found.mean, found.sd


def predicted(groups: list[ClientGroup], used: Observed, horizon: int) -> tuple[Array, Array]:
    """Return mean and SD of every score (N, T, p) given those up to ``horizon`` before."""
    mean, sd = np.full(used.Y.shape, np.nan), np.full(used.Y.shape, np.nan)
    for group in groups:
        ahead, sd[group.rows] = forecast(group.system, used.Y[group.rows], horizon, group.inputs)
        mean[group.rows] = group.at_placed(ahead)
    return mean, sd


def smoothed(groups: list[ClientGroup], used: Observed) -> tuple[Array, Array]:
    """Return mean and SD of within and between parts, (N, T, k) or (N, T, 2 k)."""
    width = _width(groups)
    shape = (*used.Y.shape[:2], width)
    mean, sd = np.full(shape, np.nan), np.full(shape, np.nan)
    for group in groups:
        weights = scores.parts(group)[:, :width]
        found, sd[group.rows] = smooth(group.system, used.Y[group.rows], group.inputs, weights)
        mean[group.rows] = group.at_placed(found)
    return mean, sd


def _width(groups: list[ClientGroup]) -> int:
    """Return how many parts there are: k, or 2 k where something is stable."""
    k = len(groups[0].reference)
    stable = any(scores.parts(group)[:, k:].any() for group in groups)
    return 2 * k if stable else k


def with_interval(frame: pd.DataFrame, level: float | None) -> pd.DataFrame:
    """Add the limits that hold ``level`` of a normal distribution; nothing if it is None."""
    if level is None:
        return frame
    reach = NormalDist().inv_cdf((1.0 + checked_level(level)) / 2) * frame["sd"]
    return frame.assign(lower=frame["mean"] - reach, upper=frame["mean"] + reach)


def drawn(
    groups: list[ClientGroup], used: Observed, draws: int, rng: np.random.Generator, of: str
) -> Array:
    """Draw scores (D, N, T, p), or parts (D, N, T, k or 2 k), given the seen scores."""
    width = used.Y.shape[2] if of == "scores" else _width(groups)
    out = np.full((draws, *used.Y.shape[:2], width), np.nan)
    for group in groups:
        parts = None if of == "scores" else scores.parts(group)[:, :width]
        known = used.Y[group.rows]
        found = draw(group.system, known, draws, rng, group.inputs, parts)
        out[:, group.rows] = group.at_placed(found)
    return out


def parameter_draws(
    fit: Fit, used: Observed, rng: np.random.Generator
) -> Iterator[list[ClientGroup]]:
    """Yield systems at parameters drawn from their posterior, or asymptotic, distribution.

    What has no standard error stays as estimated.
    """
    draw_one = _asymptotic(fit, rng) if fit.draws is None else _posterior(fit.draws, rng)
    refused = 0
    while refused < TRIES:
        try:
            found = fit.model.groups_of(draw_one(), used, fit.variables)
        except SpecificationError:
            refused += 1  # a process that never settles, of a model that says that it has
            continue
        refused = 0
        yield [replace(group, system=_admissible(group.system)) for group in found]
    raise SpecificationError(
        f"{TRIES} draws of the parameters in a row were none that the model allows: the estimates "
        "lie at the edge of a process that settles. Use parameters='fixed'."
    )


def _posterior(draws: pd.DataFrame, rng: np.random.Generator) -> Callable[[], dict[str, float]]:
    labels, values = list(map(str, draws.columns)), draws.to_numpy(dtype=float)
    return lambda: dict(zip(labels, values[rng.integers(len(values))].tolist(), strict=True))


def _asymptotic(fit: Fit, rng: np.random.Generator) -> Callable[[], dict[str, float]]:
    """Draw the free parameters, which are listed first; those that follow from them will do so."""
    labels = list(map(str, fit.params.index[: fit.n_params]))
    at = fit.params.to_numpy(dtype=float)[: len(labels)]
    V = fit.cov.to_numpy(dtype=float)[: len(labels), : len(labels)]
    known = np.flatnonzero(np.isfinite(np.diag(V)))
    root = np.zeros((len(at), len(known)))
    values, axes = np.linalg.eigh(V[np.ix_(known, known)])
    root[known] = axes * np.sqrt(np.maximum(values, 0.0))

    def one() -> dict[str, float]:
        moved = at + root @ rng.standard_normal(len(known))
        return dict(zip(labels, moved.tolist(), strict=True))

    return one


def _admissible(system: StateSpace) -> StateSpace:
    """Return the system with variances below zero, in any direction, set to zero."""
    return replace(
        system,
        psi=_semidefinite(system.psi),
        initial_cov=_semidefinite(system.initial_cov),
        noise=np.maximum(system.noise, 0.0),
    )


def _semidefinite(S: Array) -> Array:
    values, axes = np.linalg.eigh(S)
    return np.asarray((axes * np.maximum(values, 0.0)[..., None, :]) @ np.swapaxes(axes, -1, -2))
