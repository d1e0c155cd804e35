"""Slopes by level with observed and with latent means, and their jackknife over therapists."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from alliancedyn.checking import checked
from alliancedyn.engine.delta import Derived
from alliancedyn.engine.level_products import (
    LEVELS,
    NestedPairs,
    estimated_products,
    expected_products,
    observed_products,
    reduce_pairs,
)
from alliancedyn.engine.mixed import fit_variance_components
from alliancedyn.engine.nested import VarianceComponents
from alliancedyn.errors import InferenceWarning, SpecificationError
from alliancedyn.panel import SessionPanel
from alliancedyn.partition import wording
from alliancedyn.partition.result import TherapistPartition
from alliancedyn.partition.select import Selected, Trend, roles, select
from alliancedyn.results.estimate import LEVEL, checked_level, tabulate

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

GROUPS = 100  # of therapists, left out one at a time
_NOTHING = 1e-14  # share of the variance that is rounding


@dataclass(frozen=True)
class _Products:
    """Variances (or sums of squares) and covariances by level, of all and without each group."""

    whole: Array  # (L, 2)
    without: Array  # (G, L, 2)


@checked
def therapist_partition(
    panel: SessionPanel,
    process: str | None = None,
    outcome: str | None = None,
    lag: int = 1,
    level: float = LEVEL,
    trend: Trend = "session",
) -> TherapistPartition:
    """Split the association of process and outcome over therapists, clients and sessions.

    With SS_l and SP_l the sums of squares and products at level l (therapist, client within
    therapist, session within client) of the observed means, and var_l and cov_l the variances and
    covariances of the latent ones,

        observed: b_l    = SP_l / SS_l      total = sum_l (SS_l / sum SS) b_l
        latent:   beta_l = cov_l / var_l    total = sum_l (var_l / sum var) beta_l

    var_l is REML of ``process ~ 1 + (1 | therapist / client)``; cov_l solves the same estimating
    equations for the pair, so that adding c * process to the outcome adds c to every slope.
    Intervals: jackknife that leaves out one group of therapists at a time (at most 100 groups, the
    weights of the equations held), t with one degree of freedom less than groups.

    Parameters
    ----------
    panel : SessionPanel
        With a therapist column. A client counts under the therapist of most sessions; clients
        without one are set aside and counted.
    process, outcome : str, optional
        Names of the variables; default those of the panel.
    lag : 1 or 0
        Process at the session number before that of the outcome (gaps are not closed), or at the
        same session, which warns.
    level : float
        Coverage of the intervals.
    trend : "session" or None
        ``"session"``: the course that all clients share is taken out of both scores first (least
        squares: client level + session). None: it stays in, and passes for association within
        clients wherever both scores move over sessions.

    Returns
    -------
    TherapistPartition

    Raises
    ------
    SpecificationError
        If the panel has no therapists, a single one, or only therapists with one client; if a
        variable is unknown or constant, or an option cannot be used.

    References
    ----------
    Baldwin, Wampold & Imel (2007), Untangling the alliance-outcome correlation: exploring the
    relative importance of therapist and patient variability in the alliance, Journal of Consulting
    and Clinical Psychology 75, 842-852: the question, with observed means.
    Lüdtke, Marsh, Robitzsch, Trautwein, Asparouhov & Muthén (2008), The multilevel latent covariate
    model, Psychological Methods 13, 203-229: why observed means of groups attenuate.
    Rao (1971), Estimation of variance and covariance components: MINQUE theory, Journal of
    Multivariate Analysis 1, 257-275: the estimating equations.
    """
    checked_level(level)
    process, outcome = roles(panel, process, outcome, lag)
    chosen = select(panel, process, outcome, lag, trend)
    pairs = reduce_pairs(chosen.a, chosen.s, chosen.client, chosen.therapist)
    group = _deal(pairs.pairs)
    names = LEVELS[: 2 if chosen.flat else 3]
    whole, without = observed_products(pairs, group)
    observed = _Products(whole[: len(names)], without[:, : len(names)])
    latent, notes = _latent(chosen, pairs, group, process)
    weak = _weak(latent, process)
    table = _table({"observed": observed, "latent": latent}, names, level)
    if lag == 0:
        notes = [*notes, wording.same_session(process, outcome, panel.timing)]
        warnings.warn(notes[-1], InferenceWarning, stacklevel=2)
    return TherapistPartition(
        table=table,
        reliability=_reliability(pairs, latent.whole, table, names),
        components=_components(latent.whole, names),
        issues=chosen.issues,
        notes=(*notes, *weak, *wording.without_interval(table, process)),
        doubt=wording.doubt(pairs.therapists, process, table, bool(weak)),
        process=process,
        outcome=outcome,
        lag=lag,
        level=level,
        therapists=pairs.therapists,
        clients=len(pairs.size),
        persons=chosen.persons,
        pairs=len(chosen.a),
        groups=int(group.max()) + 1,
        trend=trend,
    )


def _deal(pairs: Array) -> Codes:
    """Deal therapists with these numbers of pairs (J,) into groups of about equal size."""
    groups = min(len(pairs), GROUPS)
    turn = np.arange(len(pairs)) % (2 * groups)
    group = np.empty(len(pairs), dtype=np.int64)
    group[np.argsort(-pairs, kind="stable")] = np.where(turn < groups, turn, 2 * groups - 1 - turn)
    return group


def _latent(
    chosen: Selected, pairs: NestedPairs, group: Codes, process: str
) -> tuple[_Products, list[str]]:
    """Return the components by level, and what does not exist among them and why."""
    therapist = chosen.therapist[chosen.client]
    inner_to_outer = [therapist] if chosen.flat else [chosen.client, therapist]
    try:
        fit = fit_variance_components(
            chosen.a - chosen.a.mean(),
            inner_to_outer,
            absorbed=0 if chosen.flat else chosen.absorbed,
        )
    except SpecificationError as refusal:
        shape = (len(inner_to_outer) + 1, 2)
        nothing = _Products(np.full(shape, np.nan), np.full((int(group.max()) + 1, *shape), np.nan))
        return nothing, [wording.not_estimable(process, str(refusal))]
    ratio = fit.variances[::-1] / fit.residual
    ratios = (float(ratio[0]), 0.0 if chosen.flat else float(ratio[1]))
    active = [position for position, value in enumerate((*ratios, 1.0)) if value > 0.0]
    whole, without = estimated_products(pairs, ratios, active, group)
    if chosen.flat:  # what varies within a therapist are clients
        whole, without = whole[[0, 2]], without[:, [0, 2]]
    latent = _Products(whole, without)
    return latent, _verdicts(fit, active, process)


def _verdicts(fit: VarianceComponents, active: list[int], process: str) -> list[str]:
    """Name the levels without a variance, and a search that stopped early."""
    notes = [
        wording.at_bound(LEVELS[position], process, units)
        for position, units in enumerate(reversed(fit.units))
        if position not in active
    ]
    return notes if fit.converged else [*notes, wording.not_converged(process)]


def _weak(latent: _Products, process: str) -> list[str]:
    """Say so where the variance that the therapist slope divides by may be nothing."""
    variance, without = float(latent.whole[0, 0]), latent.without[:, 0, 0]
    groups = len(without)
    if not without.min() > 0.0:  # no interval at all, which is said elsewhere
        return []
    se = float(np.sqrt((groups - 1) / groups * ((without - without.mean()) ** 2).sum()))
    weak = variance < stdtrit(groups - 1, (1.0 + LEVEL) / 2) * se
    return [wording.weak_variance(process, variance, se)] if weak else []


def _table(versions: Mapping[str, _Products], names: tuple[str, ...], level: float) -> pd.DataFrame:
    """Lay out slopes, total and difference of both versions with their joint jackknife."""
    values = np.concatenate([_slopes(products.whole) for products in versions.values()])
    left = np.column_stack([_slopes(products.without) for products in versions.values()])
    groups = len(left)
    with np.errstate(invalid="ignore"):
        away = left - left.mean(axis=0)
        cov = (groups - 1) / groups * away.T @ away
    rows = [(version, name) for version in versions for name in (*names, "total", "difference")]
    index = pd.MultiIndex.from_tuples(rows, names=["version", "level"])
    derived = Derived(values, cov, df=np.full(len(values), groups - 1.0))
    table = tabulate(derived, index, level)
    table["share"] = np.concatenate([_shares(products.whole) for products in versions.values()])
    table["contribution"] = table["share"] * table["estimate"]
    gone = (table["share"] == 0.0) & table["estimate"].isna()
    table.loc[gone, "contribution"] = 0.0
    # A slope that rests on one group of therapists is a number that nobody should read.
    table.loc[table["se"].isna(), "estimate"] = np.nan
    return table


def _slopes(products: Array) -> Array:
    """Return the slopes by level, in total and the difference of the first two, (..., L + 2)."""
    variance, covariance = products[..., 0], products[..., 1]
    total = variance.sum(axis=-1, keepdims=True)
    total = np.where(total > 0.0, total, np.nan)
    # Without a group a component may vanish or turn negative: then there is no slope without it.
    exists = variance > _NOTHING * total
    each = np.divide(covariance, variance, out=np.full(variance.shape, np.nan), where=exists)
    whole = covariance.sum(axis=-1, keepdims=True) / total
    return np.concatenate([each, whole, each[..., :1] - each[..., 1:2]], axis=-1)


def _shares(products: Array) -> Array:
    share = products[:, 0] / products[:, 0].sum()
    return np.concatenate([share, [1.0, np.nan]])


def _components(products: Array, names: tuple[str, ...]) -> pd.DataFrame:
    columns = pd.Index(["variance", "covariance"])
    return pd.DataFrame(products, pd.Index(names, name="level"), columns)


def _reliability(
    pairs: NestedPairs, components: Array, table: pd.DataFrame, names: tuple[str, ...]
) -> pd.DataFrame:
    """Return what the spread of observed means is made of: lambda, and the slope that follows."""
    expected = expected_products(pairs)
    if len(names) == 2:  # one pair per client: clients and sessions are one level
        expected = np.column_stack([expected[:, 0], expected[:, 2]])
        expected[1] = [0.0, len(pairs.size) - pairs.therapists]
    with np.errstate(invalid="ignore"):
        spread = (expected * components[:, 0]).sum(axis=1)
        shares = expected * components[:, 0] / spread[:, None]
        predicted = expected @ components[:, 1] / spread
    out = pd.DataFrame(
        shares,
        index=pd.Index(["therapist", "client"], name="means of"),
        columns=[f"from_{name}" for name in names],
    )
    out.insert(0, "reliability", np.diag(shares))
    out["predicted"] = predicted
    out["observed"] = table.loc["observed", "estimate"].iloc[:2].to_numpy()
    return out
