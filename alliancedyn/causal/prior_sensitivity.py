"""How much of a posterior is prior: what they share, and what moves when the prior is turned up."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.engine.dsem_prior import log_prior
from alliancedyn.engine.power_scaling import sensitivity
from alliancedyn.models.dsem_task import raw_terms, readable, task_of
from alliancedyn.models.sampled_result import DOMINATED
from alliancedyn.models.sampled_task import client_logliks, no_marginal, raw_task
from alliancedyn.panel import SessionPanel
from alliancedyn.results import Fit
from alliancedyn.results.sampling import need_sampled

Array = NDArray[np.float64]

MOVES = 0.05  # sensitivity above which a quantity moves with a component


@checked
def prior_overlap(fit: Fit) -> pd.DataFrame:
    """Compare the prior and the posterior of every quantity that has a prior.

    Returns
    -------
    DataFrame
        Index quantity, SDs and correlations in place of covariances; columns prior (raw units),
        overlap (area under the smaller of the two densities: 0 = the data say it all, 1 = they
        say nothing) and prior_dominates (above 35 %, after Garrett and Zeger).

    Raises
    ------
    SpecificationError
        If the fit was not sampled.

    References
    ----------
    Garrett, E. S., & Zeger, S. L. (2000). Latent class model diagnosis. Biometrics, 56, 1055-1067.
    """
    _, sampling = need_sampled(fit, "prior_overlap")
    shared = fit.diagnostics["overlap"]
    rows = {term.label: (str(term), shared[term.label]) for term in sampling.priors}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["prior", "overlap"])
    table["prior_dominates"] = table["overlap"] > DOMINATED
    return table.rename_axis("quantity")


@checked
def power_scaling(fit: Fit, panel: SessionPanel | None = None) -> pd.DataFrame:
    """Find what moves when the prior, or the likelihood, counts a little more or less.

    All priors together are raised to a power near 1, and the draws reweighted (importance
    sampling with smoothed weights): nothing is sampled again.

    Parameters
    ----------
    fit : Fit
        Of a DSEM.
    panel : SessionPanel, optional
        The one that was fitted, after `without_data`.

    Returns
    -------
    DataFrame
        Index quantity; columns prior and likelihood (sensitivity, per doubling of the power;
        likelihood is NaN where it has no closed form, as with random lagged effects) and reading:
        "-" below .05; "prior and data disagree" if both move it; "prior is strong, or the data
        say little" if the prior alone does; "depends on the prior" where only the prior is known.
        ``attrs["pareto_k"]`` is the larger shape of the weights, up to .7 to be trusted.

    Raises
    ------
    SpecificationError
        If the fit is not that of a DSEM with normal innovations.

    References
    ----------
    Kallioinen, N., Paananen, T., Bürkner, P.-C., & Vehtari, A. (2024). Detecting and diagnosing
    prior and likelihood sensitivity with power-scaling. Statistics and Computing, 34, 57.
    """
    model, used, data, shape = raw_task(fit, "power_scaling", panel)
    draws, _ = need_sampled(fit, "power_scaling")
    task, raw = task_of(model, used), draws.to_numpy(float)
    n, labels = len(shape.parameter_names()), list(map(str, draws.columns))
    shift, factor = task.units.of_parameters(shape, labels)
    prior = log_prior(shape, task.priors, ((raw - shift) / factor)[:, :n])
    more = raw_terms(task, labels)[n:]
    values = readable(task, labels, raw)
    for j, term in enumerate(more, start=n):
        prior += np.log(term.density(values[:, j]))
    by_prior, k = sensitivity(values, prior)
    by_data = np.full(len(by_prior), np.nan)
    if no_marginal(model) is None:
        by_data, k_data = sensitivity(values, client_logliks(shape, raw, data).sum(axis=1))
        k = max(k, k_data)
    index = [term.label for term in raw_terms(task, labels)]
    table = pd.DataFrame({"prior": by_prior, "likelihood": by_data}, index=index)
    table["reading"] = [_reading(*pair) for pair in zip(by_prior, by_data, strict=True)]
    table.attrs["pareto_k"] = k
    return table.rename_axis("quantity")


def _reading(by_prior: float, by_data: float) -> str:
    if by_prior < MOVES:
        return "-"
    if np.isnan(by_data):
        return "depends on the prior"
    if by_data >= MOVES:
        return "prior and data disagree"
    return "prior is strong, or the data say little"
