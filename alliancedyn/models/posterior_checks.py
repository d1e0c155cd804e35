"""Check whether a sampled model produces panels like the one it was fitted to.

Panels are drawn from the population model at posterior draws, new clients and all, with the very
scores missing that are missing in the data; what every panel shows at first sight is then compared
with what the data show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.engine.dsem_prior import prior_draws, quantities, terms
from alliancedyn.engine.dsem_settled import settled_quantities
from alliancedyn.engine.dsem_world import simulate_scores
from alliancedyn.engine.panel_statistics import panel_statistics, statistic_names
from alliancedyn.errors import SpecificationError
from alliancedyn.models.dsem import DSEM
from alliancedyn.models.dsem_task import raw_data, raw_terms, shape_of, task_of
from alliancedyn.models.sampled_task import scores_used
from alliancedyn.models.selection import select
from alliancedyn.panel import SessionPanel
from alliancedyn.results import Fit, Observed
from alliancedyn.results.effects import whole_number
from alliancedyn.results.estimate import LEVEL, checked_level
from alliancedyn.results.forecasts import drawn as drawn_scores
from alliancedyn.results.sampling import need_sampled

Array = NDArray[np.float64]

EXTREME = 0.025  # share of panels beyond the data on either side


@dataclass(frozen=True)
class PosteriorCheck:
    """The data beside panels that the model draws; prints as sentences.

    Parameters
    ----------
    table : DataFrame
        Index statistic; columns observed, mean, lower, upper (of the drawn panels),
        p_value (share of them at or above the data: near 0 or 1 is a misfit), misfit.
    drawn : DataFrame
        The statistics of every drawn panel.
    """

    table: pd.DataFrame
    drawn: pd.DataFrame

    def __str__(self) -> str:
        bad = self.table[self.table["misfit"]]
        if bad.empty:
            return (
                f"The model draws panels like the data: all {len(self.table)} statistics lie "
                f"inside the middle 95 % of {len(self.drawn)} drawn panels."
            )
        rows = [
            f"{name} is {row['observed']:.3f}, of drawn panels {row['mean']:.3f} "
            f"[{row['lower']:.3f}, {row['upper']:.3f}]"
            for name, row in bad.iterrows()
        ]
        return "The model does not draw panels like the data: " + "; ".join(rows) + "."


@checked
def posterior_check(
    fit: Fit,
    panel: SessionPanel | None = None,
    *,
    draws: int = 200,
    seed: int | None = None,
    level: float = LEVEL,
) -> PosteriorCheck:
    """Compare autocorrelation, lagged correlation, within variance, ICC and slopes with the data.

    Parameters
    ----------
    fit : Fit
        Sampled: a DSEM with normal innovations, or a state-space family.
    panel : SessionPanel, optional
        The one that was fitted, after `without_data`.
    draws : int
        Panels to draw, each at its own posterior draw.
    seed : int, optional
        For the same panels again.
    level : float
        Coverage of the interval of drawn panels.

    Raises
    ------
    SpecificationError
        If the fit was not sampled, or its innovations are not normal.

    References
    ----------
    Gelman, A., Meng, X.-L., & Stern, H. (1996). Posterior predictive assessment of model fitness
    via realized discrepancies. Statistica Sinica, 6, 733-760.
    """
    values, _ = need_sampled(fit, "posterior_check")
    rng = np.random.default_rng(seed)
    at = np.linspace(0, len(values) - 1, whole_number("draws", draws, 20)).round().astype(int)
    used = scores_used(fit, panel)
    drawn = np.stack([panel_statistics(Y) for Y in _panels(fit, used, values.iloc[at], rng)])
    names = pd.Index(statistic_names(used.variables), name="statistic")
    observed = panel_statistics(used.Y)
    tail = (1.0 - checked_level(level)) / 2.0
    lower, upper = np.nanquantile(drawn, [tail, 1.0 - tail], axis=0)
    p = np.nanmean(np.where(np.isnan(drawn), np.nan, drawn >= observed), axis=0)
    table = pd.DataFrame(
        {
            "observed": observed,
            "mean": np.nanmean(drawn, axis=0),
            "lower": lower,
            "upper": upper,
            "p_value": p,
            "misfit": np.minimum(p, 1.0 - p) < EXTREME,
        },
        index=names,
    )
    return PosteriorCheck(table, pd.DataFrame(drawn, columns=names))


def _panels(
    fit: Fit, used: Observed, draws: pd.DataFrame, rng: np.random.Generator
) -> Iterator[Array]:
    """Draw a panel (N, T, p) at each draw, missing where the data are."""
    model, seen = fit.model, ~np.isnan(used.Y)
    if isinstance(model, DSEM) and model.draws_panels:
        data, shape = raw_data(model, used), shape_of(model, used.variables, used.sessions)
        for row in draws.to_numpy(float):
            yield simulate_scores(shape, row, data, rng)
        return
    if isinstance(model, DSEM) and (
        not model.one_system or model.innovations != "normal" or model.bounds or model.ordinal
    ):
        raise SpecificationError(
            "Panels are drawn with normal innovations, known measurement error and scores without "
            "bounds or categories only; this model has others."
        )
    nothing = replace(used, Y=np.full(used.Y.shape, np.nan))
    for params in draws.to_dict("records"):
        groups = model.groups_of(params, nothing, fit.variables)
        yield np.where(seen, drawn_scores(groups, nothing, 1, rng, "scores")[0], np.nan)


@dataclass(frozen=True)
class PriorPredictive:
    """What the priors say before any data; prints as a table.

    Parameters
    ----------
    table : DataFrame
        Index quantity; columns prior, mean, lower, upper (95 % of draws), raw units.
    draws : DataFrame
        Draws of every quantity of the table, to plot.
    explosive : float
        Share of draws in which the average client's process does not settle.
    """

    table: pd.DataFrame
    draws: pd.DataFrame
    explosive: float

    def __str__(self) -> str:
        return (
            f"{self.table.round(3).to_string()}\n"
            f"{self.explosive:.0%} of draws have an average process that does not settle."
        )


@checked
def prior_predictive(
    spec: DSEM, panel: SessionPanel, *, draws: int = 2000, seed: int | None = None
) -> PriorPredictive:
    """Draw from the priors: lagged effects, SDs, ICCs and effects in within SDs.

    The ICC is between / (between + within variance), within being that at which the average
    process settles; ``within[b,a]`` is the lagged effect in such SDs. Both are taken from draws
    that settle.

    Parameters
    ----------
    spec : DSEM
    panel : SessionPanel
        Whose units the priors are carried to.
    draws : int
    seed : int, optional
    """
    data = select(panel, spec.needs(), spec.sessions).data
    task = task_of(spec, data)
    size = whole_number("draws", draws, 100)
    raw = task.units.raw(
        prior_draws(task.shape, task.priors, size, np.random.default_rng(seed)), task.shape
    )
    labels = [term.label for term in terms(task.shape, task.priors)]
    frame = pd.DataFrame(quantities(task.shape, raw), columns=labels)
    more, settles = settled_quantities(task.shape, raw)
    frame = pd.concat([frame, pd.DataFrame(more)], axis=1)
    lower, upper = frame.quantile(0.025), frame.quantile(0.975)
    stated = {term.label: str(term) for term in raw_terms(task, task.shape.parameter_names())}
    table = pd.DataFrame(
        {
            "prior": [stated.get(name, "follows") for name in frame.columns],
            "mean": frame.mean(),
            "lower": lower,
            "upper": upper,
        }
    ).rename_axis("quantity")
    return PriorPredictive(table, frame, float(1.0 - settles.mean()))
