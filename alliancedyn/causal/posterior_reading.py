"""A posterior in words: probabilities of direction and size, and a Bayes factor for none.

Probabilities are shares of draws. They speak about the model and its priors as they are: that
symptoms follow the alliance with probability .98 *if* nothing else that varies moves both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.engine.density import bandwidth, height
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.results import Fit
from alliancedyn.results.paths import no_time_order, time_order
from alliancedyn.results.sampling import chained, need_sampled

Array = NDArray[np.float64]

BEYOND = 25  # draws on either side of the value that its density can be estimated from
BATCHES = 10  # of each chain, for the error of a density


@dataclass(frozen=True)
class Statements:
    """What a posterior says of two directions; prints as its sentences.

    Parameters
    ----------
    table : DataFrame
        Rows (basis, direction); columns estimate, lower, upper (within SDs), prob_negative,
        prob_positive, prob_negligible (inside the region of practical equivalence), prob_stronger
        (than the other direction, in size) and mcse, the largest Monte Carlo error of these.
    smallest_effect : float
        Half-width of that region, within SDs.
    text : str
    """

    table: pd.DataFrame
    smallest_effect: float
    text: str

    def __str__(self) -> str:
        return self.text


@checked
def posterior_statements(
    fit: Fit,
    source: str | None = None,
    target: str | None = None,
    *,
    smallest_effect: float = 0.05,
) -> Statements:
    """Say how probable each direction, its sign, its size and its lead are.

    Parameters
    ----------
    fit : Fit
        Sampled.
    source, target : str, optional
        By default the process and the outcome.
    smallest_effect : float
        Half-width of the region of practical equivalence, within-client SDs.

    Returns
    -------
    Statements
        On the reduced and, where the scores have a time order, the structural basis (see
        `compare_directions`).

    Raises
    ------
    SpecificationError
        If the fit was not sampled, or a variable is not part of it.
    """
    draws, _ = need_sampled(fit, "posterior_statements")
    source, target = source or fit.process, target or fit.outcome
    unknown = [name for name in (source, target) if name not in fit.variables]
    if unknown or source == target:
        raise SpecificationError(
            f"Name two of {listed(fit.variables, 8)} as source and target, not "
            f"{source!r} and {target!r}."
        )
    if not isfinite(smallest_effect) or smallest_effect < 0:
        raise SpecificationError(f"smallest_effect={smallest_effect!r}: give a size, such as 0.05.")
    bases = ["reduced"]
    if no_time_order(fit.lagged, fit.timing) is None:
        bases.append("structural")
    ess = float(fit.diagnostics.get("ess_bulk_min", len(draws)))
    parts = {b: _of_basis(_paths(fit, source, target, b), smallest_effect, ess) for b in bases}
    for part in parts.values():
        part.index = pd.Index([f"{source} -> {target}", f"{target} -> {source}"])
    table = pd.concat(parts, names=["basis", "direction"])
    lines = [*fit.verdicts(), *_sentences(table, smallest_effect)]
    return Statements(table, smallest_effect, "\n".join(lines))


def _paths(fit: Fit, source: str, target: str, basis: str) -> Array:
    """Return the draws (D, 2) of both directions in within SDs."""
    form, sd_basis = fit.lagged, fit.sd_within_basis()
    i, j = fit.variables.index(source), fit.variables.index(target)

    def function(p: Mapping[str, float]) -> Array:
        if basis == "reduced":
            out, back = form.one_session(p, target, source), form.one_session(p, source, target)
        else:
            order = time_order(form, fit.timing)
            across, within = form.time_ordered(p, *order)[:2]
            out, back = (across, within) if source == order[0] else (within, across)
        sd = form.within_sd(p, sd_basis)
        return np.array([out * sd[i] / sd[j], back * sd[j] / sd[i]])

    draws = fit.derive_many(function).draws
    assert draws is not None  # sampled
    return draws


def _of_basis(draws: Array, smallest: float, ess: float) -> pd.DataFrame:
    size = np.abs(draws)
    stronger = float((size[:, 0] > size[:, 1]).mean())
    shares = {
        "prob_negative": (draws < 0).mean(axis=0),
        "prob_positive": (draws > 0).mean(axis=0),
        "prob_negligible": (size < smallest).mean(axis=0),
        "prob_stronger": np.array([stronger, 1.0 - stronger]),
    }
    each = np.array(list(shares.values()))
    lower, upper = np.quantile(draws, [0.025, 0.975], axis=0)
    return pd.DataFrame(
        {
            "estimate": draws.mean(axis=0),
            "lower": lower,
            "upper": upper,
            **shares,
            "mcse": np.sqrt(each * (1.0 - each) / max(ess, 1.0)).max(axis=0),
        }
    )


def _sentences(table: pd.DataFrame, smallest: float) -> list[str]:
    said = []
    for (basis, direction), row in table.iterrows():
        sign, share = max(
            ("negative", row["prob_negative"]),
            ("positive", row["prob_positive"]),
            key=lambda pair: pair[1],
        )
        said.append(
            f"{direction} ({basis}): {row['estimate']:.3f} [{row['lower']:.3f}, "
            f"{row['upper']:.3f}] within SDs; {sign} with probability {_share(share)}, smaller "
            f"than {smallest:g} with {_share(row['prob_negligible'])}, stronger than the other "
            f"direction with {_share(row['prob_stronger'])}."
        )
    said.append(f"Monte Carlo errors of these probabilities are up to {table['mcse'].max():.3f}.")
    return said


def _share(p: float) -> str:
    if p > 0.995:
        return "> .99"
    return "< .01" if p < 0.005 else f"{p:.2f}".lstrip("0")


@dataclass(frozen=True)
class BayesFactor:
    """How much better a value predicts the data than the prior around it; prints as a sentence.

    Parameters
    ----------
    parameter : str
    value : float
        The value in question.
    factor : float
        Posterior over prior density there: above 1 for the value, below 1 against it.
    lower, upper : float
        Two Monte Carlo errors and the choice of smoothing either way.
    prior : str
    """

    parameter: str
    value: float
    factor: float
    lower: float
    upper: float
    prior: str

    def __str__(self) -> str:
        against = self.factor < 1.0
        shown = [1.0 / x for x in (self.factor, self.upper, self.lower)]
        numbers = shown if against else [self.factor, self.lower, self.upper]
        return (
            f"{self.parameter}: the data are {numbers[0]:.3g} times "
            f"({numbers[1]:.3g} to {numbers[2]:.3g}) better predicted "
            f"{'away from' if against else 'at'} {self.value:g} than "
            f"{'at it' if against else 'away from it'}, with the prior {self.prior}. Another "
            "prior gives another factor."
        )


@checked
def bayes_factor(fit: Fit, parameter: str, value: float = 0.0) -> BayesFactor:
    """Compare a parameter at one value with its prior, by the Savage-Dickey density ratio.

    B = p(value | data) / p(value): the posterior density there over that of the prior, which
    priors that are independent of one another allow (Dickey, 1971). The posterior density is a
    kernel estimate; ``lower`` and ``upper`` hold two Monte Carlo errors, from batches of the
    chains, and what a kernel a third narrower or wider would have given.

    Parameters
    ----------
    fit : Fit
        Sampled.
    parameter : str
        A mean, trend, lagged effect or effect of a predictor.
    value : float
        Raw units.

    Raises
    ------
    SpecificationError
        If the fit was not sampled, the parameter has no normal prior of its own (a variance has
        its edge at zero), or too few draws lie beyond the value for a density there.

    References
    ----------
    Dickey, J. M. (1971). The weighted likelihood ratio, linear hypotheses on normal location
    parameters. Annals of Mathematical Statistics, 42, 204-223.
    """
    draws, sampling = need_sampled(fit, "bayes_factor")
    prior = sampling.prior(parameter)
    if parameter not in draws.columns or prior is None or prior.kind != "normal":
        able = [term.label for term in sampling.priors if term.kind == "normal"]
        raise SpecificationError(
            f"{parameter!r} has no normal prior of its own, so there is no density ratio. Ask for "
            f"{listed(able, 8)}."
        )
    x = draws[parameter].to_numpy(float)
    beyond = int(min((x < value).sum(), (x > value).sum()))
    if beyond < BEYOND:
        raise SpecificationError(
            f"{beyond} of {len(x)} draws of {parameter} lie beyond {value:g}: its density there "
            "cannot be estimated from them, only that the data speak against it. Read "
            "posterior_statements(), or draw more."
        )
    at_prior = float(prior.density(np.array([value]))[0])
    factor = height(x, value) / at_prior
    error = _height_error(chained(draws[[parameter]], sampling.chains)[..., 0], value) / at_prior
    smoothed = [height(x, value, width) / at_prior for width in (2 / 3, 1.0, 3 / 2)]
    lower = max(min(smoothed) - 2.0 * error, factor * 1e-3)
    return BayesFactor(parameter, value, factor, lower, max(smoothed) + 2.0 * error, str(prior))


def _height_error(chains: Array, value: float) -> float:
    """Return the Monte Carlo error of a density at a value from batches of chains (C, D)."""
    h = bandwidth(chains.ravel())
    z = (chains - value) / h
    each = np.exp(-0.5 * z * z) / (h * sqrt(2.0 * np.pi))
    size = each.shape[1] // BATCHES
    if size < 1:
        return float(each.std(ddof=1) / sqrt(each.size))
    batches = each[:, : size * BATCHES].reshape(-1, size).mean(axis=1)
    return float(batches.std(ddof=1) / sqrt(len(batches)))
