"""What a sampled fit was sampled from, put together again for checks that need it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.engine.dsem import DsemData, DsemShape
from alliancedyn.engine.dsem_integrated import grouped_logliks, integrated_logliks
from alliancedyn.engine.dsem_world import loglik_draws
from alliancedyn.engine.kalman import Blocks, loglik_by_client
from alliancedyn.errors import DataError, SpecificationError
from alliancedyn.models.dsem import DSEM
from alliancedyn.models.dsem_task import raw_data, shape_of
from alliancedyn.panel import SessionPanel
from alliancedyn.results import Fit, Observed
from alliancedyn.results.sampling import need_sampled

Array = NDArray[np.float64]


def raw_task(
    fit: Fit, what: str, panel: SessionPanel | None = None
) -> tuple[DSEM, Observed, DsemData, DsemShape]:
    """Return model, scores, arrays in raw units and shape of a sampled fit.

    Raises
    ------
    SpecificationError
        If the fit is not that of a DSEM.
    DataError
        If the fit no longer holds its data and no panel is given.
    """
    need_sampled(fit, what)
    model = fit.model
    if not isinstance(model, DSEM):
        raise SpecificationError(
            f"{what} knows the priors of a DSEM only, and this is a {model.name}. Read "
            "prior_overlap(), or fit again with other priors=."
        )
    used = scores_used(fit, panel)
    return model, used, raw_data(model, used), shape_of(model, used.variables, used.sessions)


def no_marginal(model: DSEM) -> str | None:
    """Say why a client's scores have no likelihood with all of the client's effects integrated."""
    if model.innovations != "normal":
        return "innovations are not normal"
    if model.measurement_var == "free":
        return "measurement error is estimated"
    if model.known_bounds or model.ordinal:
        return "scores at bounds or in categories stand for others"
    if "therapist" in model.levels:
        return "clients of one therapist are not independent"
    if not model.one_system:
        return "lagged effects differ between clients"
    return None


def client_logliks(shape: DsemShape, draws: Array, data: DsemData) -> Array:
    """Return the log-likelihood (D, N) of every client at raw draws (D, n)."""
    return loglik_draws(shape, draws, data)


def no_loo(model: DSEM) -> str | None:
    """Say why a client's scores have no likelihood given all others, not even a numerical one."""
    own = not model.one_system
    if model.innovations != "normal":
        return "innovations are not normal"
    if model.known_bounds or model.ordinal:
        return "scores at bounds or in categories stand for others"
    if "therapist" in model.levels and own:
        return "clients of one therapist are not independent and have lagged effects of their own"
    if model.measurement_var == "free" and (own or "therapist" in model.levels):
        return "measurement error is estimated beside lagged effects or therapists of its own"
    if own and model.initial == "innovation" and model.random != ("intercept", "phi"):
        return "the first session varies as a client's own innovations"
    return None


def whole_client_logliks(
    fit: Fit, draws: pd.DataFrame, panel: SessionPanel | None, points: int, seed: int | None
) -> tuple[Array, Array, Observed]:
    """Return log-likelihoods (D, N) of whole clients given all others, their errors, the scores.

    In closed form where there is one (errors 0): by the filter, or for clients of therapists by
    :func:`alliancedyn.engine.dsem_integrated.grouped_logliks`. Else integrated numerically.

    Raises
    ------
    SpecificationError
        If there is neither.
    DataError
        If the fit no longer holds its data and no panel is given.
    """
    if not isinstance(fit.model, DSEM):
        used = scores_used(fit, panel)
        exact = _by_systems(fit, draws, used)
        return exact, np.zeros_like(exact), used
    model, used, data, shape = raw_task(fit, "loo", panel)
    if why := no_loo(model):
        raise SpecificationError(
            f"Leave-one-client-out needs the likelihood of a whole client, and here {why}, so "
            "that there is none. Compare with posterior_check(), or fit a DSEM without that."
        )
    if model.measurement_var == "free":
        exact = _by_systems(fit, draws, used)
    elif "therapist" in model.levels:
        exact = grouped_logliks(shape, draws.to_numpy(float), data)
    elif model.one_system:
        exact = client_logliks(shape, draws.to_numpy(float), data)
    else:
        rng = np.random.default_rng(seed)
        return *integrated_logliks(shape, draws.to_numpy(float), data, points, rng), used
    return exact, np.zeros_like(exact), used


def scores_used(fit: Fit, panel: SessionPanel | None) -> Observed:
    """Return the scores of a fit, or those of a panel as its model sees them.

    Raises
    ------
    DataError
        If the fit no longer holds its data and no panel is given.
    """
    used = fit.data
    if panel is not None:
        used = fit.model.observe(panel, fit.sessions, fit.variables)
    if used is None:
        raise DataError("This fit no longer holds its data. Pass panel=.")
    return used


def _by_systems(fit: Fit, draws: pd.DataFrame, used: Observed) -> Array:
    """Return log-likelihoods (D, N) under any model that has a system."""
    out = np.empty((len(draws), len(used.Y)))
    packed: dict[str | None, Blocks] = {}
    for place, params in enumerate(draws.to_dict("records")):
        for group in fit.model.groups_of(params, used, fit.variables):
            if group.label not in packed:
                packed[group.label] = Blocks.pack(used.Y[group.rows], group.inputs)
            out[place, group.rows] = loglik_by_client(group.system, packed[group.label])
    return out
