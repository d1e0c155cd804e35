"""What a sampled fit keeps beside its draws: chains, priors, the effects of every client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.engine.dsem_prior import Term
from alliancedyn.errors import DataError, SpecificationError
from alliancedyn.results.estimate import checked_level

if TYPE_CHECKING:
    from alliancedyn.results.fit import Fit

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sampling:
    """How the draws came about.

    Parameters
    ----------
    chains : int
        The draws of a fit stand chain after chain.
    priors : tuple of Term
        The prior of every quantity, in raw units.
    statistics : mapping of str to array (chains, draws)
        What the sampler says of every draw, such as "diverging".
    effects : tuple of str
        The effects that differ between clients: ``alliance`` is an intercept,
        ``symptoms<-alliance`` a lagged effect, ``same(alliance<-symptoms)`` a same-session effect,
        ``log(alliance)`` a log innovation variance.
    clients : (N, q, 2), optional
        Posterior mean and SD of every client's effects, raw units; None without data.
    """

    chains: int
    priors: tuple[Term, ...] = ()
    statistics: Mapping[str, Array] = field(default_factory=dict)
    effects: tuple[str, ...] = ()
    clients: Array | None = None

    def prior(self, label: str) -> Term | None:
        """Return the prior of a quantity, None if it has none of its own."""
        return next((term for term in self.priors if term.label == label), None)


def need_sampled(fit: Fit, what: str) -> tuple[pd.DataFrame, Sampling]:
    """Return the draws of a fit and how they came about, or refuse what needs them.

    Raises
    ------
    SpecificationError
        If the fit was not sampled.
    """
    if fit.draws is None or fit.sampling is None:
        raise SpecificationError(
            f"{what} needs posterior draws; {fit.model.name} was not sampled. Fit a DSEM, or "
            "sample a state-space family: Bayes(spec).fit(panel)."
        )
    return fit.draws, fit.sampling


def chained(draws: pd.DataFrame, chains: int) -> Array:
    """Return draws as (chains, draws, n)."""
    values = draws.to_numpy(dtype=float)
    return values.reshape(chains, -1, values.shape[1])


def client_effects(fit: Fit, level: float) -> pd.DataFrame:
    """Return every client's effects; see `Fit.client_effects`."""
    _, sampling = need_sampled(fit, "client_effects")
    if sampling.clients is None or fit.data is None:
        raise DataError("This fit no longer holds its clients. Fit again, or keep its data.")
    reach = NormalDist().inv_cdf((1.0 + checked_level(level)) / 2.0)
    mean, sd = (sampling.clients[..., i] for i in (0, 1))
    n, q = mean.shape
    seen: NDArray[np.bool_] = np.any(~np.isnan(fit.data.Y), axis=2)
    columns: dict[str, Any] = {
        "client": np.repeat(fit.data.clients, q),
        "effect": np.tile(np.array(sampling.effects, object), n),
        "estimate": mean.ravel(),
        "sd": sd.ravel(),
        "lower": (mean - reach * sd).ravel(),
        "upper": (mean + reach * sd).ravel(),
        "sessions": np.repeat(seen.sum(axis=1), q),
    }
    return pd.DataFrame(columns)
