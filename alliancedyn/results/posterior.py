"""Draws through ArviZ: do the chains agree, are there enough draws, InferenceData.

The only module that touches ArviZ.

References
----------
Vehtari, A., Gelman, A., Simpson, D., Carpenter, B., & Bürkner, P.-C. (2021). Rank-normalization,
folding, and localization: An improved R-hat for assessing convergence of MCMC. Bayesian Analysis,
16, 667-718.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.engine.laplace import RELIABLE_K
from alliancedyn.errors import DataError, listed
from alliancedyn.results.sampling import chained, need_sampled

if TYPE_CHECKING:
    from alliancedyn.results.fit import Fit

Array = NDArray[np.float64]

RHAT = 1.01  # chains disagree from here on
ESS = 400.0  # independent draws that a mean, and the ends of an interval, need
EBFMI = 0.3  # below it the energy of a gradient sampler moves too slowly
RULE = (
    f"R-hat below {RHAT}, bulk and tail effective sample sizes of {ESS:.0f} or more, no "
    f"divergences, E-BFMI above {EBFMI}"
)


def _arviz() -> Any:
    """Import ArviZ without its daily word about its own next version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz

    return arviz


def mixing(names: Sequence[str], draws: Array) -> pd.DataFrame:
    """Judge draws (chains, draws, n): rank-normalized split R-hat, effective sample sizes.

    Returns
    -------
    DataFrame
        Index names; columns rhat, ess_bulk, ess_tail, mcse (Monte Carlo error of the mean).
    """
    az = _arviz()
    data = az.convert_to_dataset({"x": draws})
    columns = {
        "rhat": az.rhat(data, method="rank"),
        "ess_bulk": az.ess(data, method="bulk"),
        "ess_tail": az.ess(data, method="tail"),
        "mcse": az.mcse(data, method="mean"),
    }
    found = {key: np.asarray(value["x"], float) for key, value in columns.items()}
    return pd.DataFrame(found, index=pd.Index(list(names), name="parameter"))


def verdict(table: pd.DataFrame, statistics: Mapping[str, Array]) -> dict[str, Any]:
    """Turn what `mixing` and the sampler say into diagnostics, with "failure" if they fail.

    Parameters
    ----------
    table : DataFrame
        Of `mixing`.
    statistics : mapping of str to array (chains, draws)
        "diverging" and "energy" of gradient samplers.

    Returns
    -------
    dict
        rhat_max, ess_bulk_min, ess_tail_min, each with the parameter it belongs to
        (rhat_worst, ...), divergences, ebfmi_min (NaN without an energy), and the rule.
    """
    energy = statistics.get("energy")
    slowest = float("nan") if energy is None else float(np.min(_arviz().bfmi(energy)))
    divergences = int(np.sum(statistics.get("diverging", np.zeros(1))))
    found: dict[str, Any] = {
        "rhat_max": float(table["rhat"].max()),
        "rhat_worst": str(table["rhat"].idxmax()),
        "ess_bulk_min": float(table["ess_bulk"].min()),
        "ess_bulk_worst": str(table["ess_bulk"].idxmin()),
        "ess_tail_min": float(table["ess_tail"].min()),
        "ess_tail_worst": str(table["ess_tail"].idxmin()),
        "divergences": divergences,
        "ebfmi_min": slowest,
        "rule": RULE,
    }
    sentence = _failure(table, divergences, slowest)
    if "pareto_k" in statistics:
        found["pareto_k"] = float(statistics["pareto_k"].ravel()[0])
        sentence = _far_from_normal(found["pareto_k"])
    if sentence:
        found["failure"] = sentence
    return found


def _far_from_normal(k: float) -> str | None:
    """Say that a quick look shows its own mode and not the posterior; None if it can stand."""
    if k <= RELIABLE_K:
        return None
    return (
        f"The posterior is too far from normal for a quick look (Pareto k {k:.2f}, up to "
        f'{RELIABLE_K} wanted). Use sampler="nutpie".'
    )


def _failure(table: pd.DataFrame, divergences: int, ebfmi: float) -> str | None:
    """Say which part of the rule the draws fail, for which parameters, and what to do."""
    said = []
    apart = table["rhat"][~(table["rhat"] < RHAT)].sort_values(ascending=False)
    if len(apart):
        said.append(
            f"Chains disagree about {listed(apart.index)} (R-hat {apart.iloc[0]:.3f}, "
            f"below {RHAT} wanted)."
        )
    for column, what in (("ess_bulk", "mean"), ("ess_tail", "interval")):
        few = table[column][~(table[column] >= ESS)].sort_values()
        if len(few):
            said.append(
                f"Too few independent draws for the {what} of {listed(few.index)} "
                f"({few.iloc[0]:.0f}, {ESS:.0f} wanted)."
            )
    remedy = "Draw more, with draws= or max_draws=, or let fewer effects be random."
    if divergences:
        said.append(f"{divergences} draws diverged: the posterior has corners not reached.")
        remedy = "Let fewer effects be random, or use narrower priors."
    if ebfmi <= EBFMI:
        said.append(f"The energy moves slowly (E-BFMI {ebfmi:.2f}, above {EBFMI} wanted).")
    return " ".join([*said, remedy]) if said else None


def inference_data(fit: Fit) -> Any:
    """Return a sampled fit as ArviZ InferenceData: posterior by canonical name, sample_stats.

    Scores and clients are not in it.
    """
    draws, sampling = need_sampled(fit, "idata")
    values = chained(draws, sampling.chains)
    posterior = {str(name): values[:, :, j] for j, name in enumerate(draws.columns)}
    data = _arviz().from_dict(posterior=posterior, sample_stats=dict(sampling.statistics) or None)
    data.posterior.attrs |= {"model": repr(fit.model), "sampler": fit.diagnostics["sampler"]}
    return data


@checked
def save_draws(fit: Fit, path: str | Path) -> Path:
    """Write the draws of a sampled fit to a NetCDF file that ArviZ reads; returns its path."""
    return Path(inference_data(fit).to_netcdf(str(path)))


@checked
def load_draws(path: str | Path) -> Any:
    """Read InferenceData that `save_draws` wrote.

    Raises
    ------
    DataError
        If there is no such file.
    """
    if not Path(path).is_file():
        raise DataError(f"There is no file {str(path)!r}. Write one with save_draws().")
    return _arviz().from_netcdf(str(path))
