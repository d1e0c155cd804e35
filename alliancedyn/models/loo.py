"""How well a sampled model predicts clients it has not seen: leave-one-client-out.

The unit is a client: sessions of a client predict one another, so that leaving one session out
would reward knowing the client. For client i with scores y_i and S draws theta_s,

    elpd = sum_i log p(y_i | all others) ~ sum_i log sum_s w_si p(y_i | theta_s)

with p(y_i | theta) of the population alone, everything of the client integrated out (given the
other clients of the therapist, where therapists have a level of their own), and weights w_si
proportional to 1 / p(y_i | theta_s), their tail smoothed (PSIS). Where it is too long, Pareto
k above .7, the client is so unlike the others that the draws of all cannot stand in for the draws
without it.

Where lagged effects or innovation variances differ between clients, their integral is a numerical
one (:mod:`alliancedyn.engine.dsem_integrated`); its error is reported beside that of the sample.

References
----------
Bürkner, P.-C., Gabry, J., & Vehtari, A. (2021). Efficient leave-one-out cross-validation for
Bayesian non-factorized normal and Student-t models. Computational Statistics, 36, 1243-1261.

Vehtari, A., Gelman, A., & Gabry, J. (2017). Practical Bayesian model evaluation using
leave-one-out cross-validation and WAIC. Statistics and Computing, 27, 1413-1432.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp

from alliancedyn.checking import checked
from alliancedyn.engine.laplace import RELIABLE_K, smooth_weights
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.models.dsem import DSEM
from alliancedyn.models.sampled_task import whole_client_logliks
from alliancedyn.panel import SessionPanel
from alliancedyn.results import Fit
from alliancedyn.results.effects import whole_number
from alliancedyn.results.sampling import need_sampled

Array = NDArray[np.float64]

DRAWS = 1000  # where a client has a likelihood in closed form
INTEGRATED = 400  # where it is an integral at every draw
POINTS = 128  # of that integral


@dataclass(frozen=True)
class Loo:
    """Expected log predictive density of unseen clients; prints as a sentence.

    Parameters
    ----------
    elpd, se : float
        Sum over clients, and its standard error from their differences.
    p_loo : float
        Effective number of parameters.
    by_client : (N,)
        What every client adds to elpd, in the order of the panel.
    pareto_k : (N,)
        Shape of the weights; above .7 the term of this client cannot be trusted.
    clients : (N,) object
        Identifiers.
    fingerprint : str or None
        Of the scores, to compare like with like.
    integration_error : float
        Monte Carlo error of elpd where effects of clients are integrated out numerically, else 0.
    """

    elpd: float
    se: float
    p_loo: float
    by_client: Array
    pareto_k: Array
    clients: NDArray[np.object_]
    fingerprint: str | None = None
    integration_error: float = 0.0

    @property
    def unreliable(self) -> int:
        """How many clients have a Pareto k above .7."""
        return int((self.pareto_k > RELIABLE_K).sum())

    def __str__(self) -> str:
        said = (
            f"Expected log predictive density of unseen clients {self.elpd:.1f} (SE {self.se:.1f}, "
            f"{len(self.by_client)} clients), effective parameters {self.p_loo:.1f}."
        )
        if self.integration_error:
            said += f" Monte Carlo error of integrating clients out {self.integration_error:.2f}."
        if self.unreliable:
            said += (
                f" Not to be trusted for {self.unreliable} clients (Pareto k above {RELIABLE_K}): "
                "the fit without each of them would be another."
            )
        return said


@checked
def loo(
    fit: Fit,
    panel: SessionPanel | None = None,
    *,
    draws: int | None = None,
    points: int = POINTS,
    seed: int | None = 0,
) -> Loo:
    """Estimate how well the model predicts a client it has not seen.

    Parameters
    ----------
    fit : Fit
        Sampled: a DSEM with normal innovations, or a state-space family.
    panel : SessionPanel, optional
        The one that was fitted, after `without_data`.
    draws : int, optional
        How many of the posterior draws to use, evenly spaced; by default 1,000, and 400 where
        clients have lagged effects of their own.
    points, seed : int
        Of the integral over these effects, at every draw.

    Raises
    ------
    SpecificationError
        If the fit was not sampled, or a client's scores have no likelihood given all others.
    """
    values, _ = need_sampled(fit, "loo")
    if draws is None:
        own = isinstance(fit.model, DSEM) and not fit.model.one_system
        draws = INTEGRATED if own else DRAWS
    count = min(whole_number("draws", draws, 100), len(values))
    at = np.linspace(0, len(values) - 1, count).round().astype(int)
    points = whole_number("points", points, 8)
    loglik, error, used = whole_client_logliks(fit, values.iloc[at], panel, points, seed)
    terms, k = np.empty(loglik.shape[1]), np.empty(loglik.shape[1])
    for i in range(len(terms)):  # one tail to fit per client
        log_weights, k[i] = smooth_weights(-loglik[:, i])
        terms[i] = logsumexp(log_weights + loglik[:, i])
    inside = logsumexp(loglik, axis=0) - np.log(count)
    return Loo(
        elpd=float(terms.sum()),
        se=float(sqrt(len(terms)) * np.std(terms, ddof=1)),
        p_loo=float((inside - terms).sum()),
        by_client=terms,
        pareto_k=k,
        clients=used.clients,
        fingerprint=fit.fingerprint(),
        integration_error=float(np.sqrt((error.mean(axis=0) ** 2).sum())),
    )


@checked
def compare_loo(results: Mapping[str, Loo]) -> pd.DataFrame:
    """Rank models by how well they predict unseen clients.

    Returns
    -------
    DataFrame
        Index model, best first; columns elpd, se, p_loo, difference (to the best, 0 or below),
        difference_se (of the sum of clients' differences) and unreliable (clients with a Pareto k
        above .7). A difference within two of its standard errors ranks nothing.

    Raises
    ------
    SpecificationError
        If there is nothing to compare, or the models were fitted to different scores.
    """
    if not results:
        raise SpecificationError("No models to compare. Pass {'name': loo(fit), ...}.")
    first = next(iter(results.values()))
    other = [
        name
        for name, one in results.items()
        if len(one.by_client) != len(first.by_client) or one.fingerprint != first.fingerprint
    ]
    if other:
        raise SpecificationError(
            f"{listed(other)} saw other scores than the first model; their predictions cannot be "
            "compared. Fit all to the same panel, variables and sessions."
        )
    ranked = sorted(results.items(), key=lambda pair: -pair[1].elpd)
    best = ranked[0][1]
    rows = {}
    for name, one in ranked:
        apart = one.by_client - best.by_client
        rows[name] = {
            "elpd": one.elpd,
            "se": one.se,
            "p_loo": one.p_loo,
            "difference": float(apart.sum()),
            "difference_se": float(sqrt(len(apart)) * np.std(apart, ddof=1)),
            "unreliable": one.unreliable,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
