"""Simulation-based calibration: does a sampler draw from the posterior that it claims.

Parameters are drawn from the priors, scores from the model at these parameters, and the sampler
draws from the posterior given these scores. Over many rounds the rank of a parameter's true value
among (thinned) posterior draws is then uniform. Ranks that pile up in the middle mean a posterior
too wide, at the ends one too narrow, on one side a biased one.

*Scores that nobody has.* The priors allow processes that do not settle, whose scores leave the
range of any questionnaire, and innovations next to nothing, with which a session foretells the next
one to the last digit. A round is dropped when any simulated score is further than ``BOUND`` from
zero, in the units of the priors, or when clients' own regressions on the session before leave less
than ``FORETOLD`` of a series' variance within clients (see `plausible`). As that depends on the
scores alone, which the posterior is given anyway, p(theta | scores, kept) = p(theta | scores): the
same rule holds in generator and model, and ranks of the rounds that are kept stay uniform.

*Independence.* Ranks are uniform among independent draws. Draws of a chain are thinned evenly to
``ranks`` of them; where chains have fewer effective draws than that, ranks pile up at the ends for
no fault of the posterior, so the effective sample size of every round is reported.

*Units.* Scores are drawn and sampled on the scale of the priors: standardizing them by their own
SDs would make the priors depend on the data, for which ranks are not uniform.

References
----------
Talts, S., Betancourt, M., Simpson, D., Vehtari, A., & Gelman, A. (2018). Validating Bayesian
inference algorithms with simulation-based calibration. arXiv:1804.06788.

Säilynoja, T., Bürkner, P.-C., & Vehtari, A. (2022). Graphical test for discrete uniformity and its
applications in goodness-of-fit evaluation and multiple sample comparison. Statistics and Computing,
32, 32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binom

from alliancedyn.checking import checked
from alliancedyn.engine.dsem import DsemData
from alliancedyn.engine.dsem_prior import prior_draws, quantities, terms
from alliancedyn.engine.dsem_units import within_units
from alliancedyn.engine.dsem_world import simulate_scores
from alliancedyn.errors import SpecificationError
from alliancedyn.models.dsem import DSEM
from alliancedyn.models.dsem_task import Task, task_of
from alliancedyn.models.selection import select
from alliancedyn.panel import SessionPanel
from alliancedyn.results import Observed
from alliancedyn.results.effects import whole_number
from alliancedyn.results.posterior import mixing

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]

BOUND = 50.0  # largest score, in the units of the priors, of a round that is kept
FORETOLD = 0.02  # least share of a series' variance within clients that its own past leaves
RANKS = 100  # posterior draws that a true value is ranked among
LEVEL = 0.99
SIMULATED = 20_000  # samples of uniform ranks that the bands are taken from
POINTS = 100  # places at which an ECDF is looked at, at most
MOST_DROPPED = 200  # rounds dropped for one kept, beyond which the design is refused


@dataclass(frozen=True)
class Calibration:
    """Ranks of true values among posterior draws, and what uniform ranks would do.

    Parameters
    ----------
    ranks : DataFrame
        One row per round, one column per parameter; 0 to ``draws``.
    draws : int
        Posterior draws that each is ranked among.
    table : DataFrame
        Index parameter; columns mean_rank (share, .5 expected), excursion (largest departure of
        the ECDF of ranks beyond its band, 0 = inside), inside (the parameter's own band) and
        inside_all (the band in which all parameters lie together, by Bonferroni's bound).
    dropped : int
        Rounds whose scores nobody has (see the module).
    chains : DataFrame
        One row per round: ess (smallest bulk effective sample size of a parameter), rhat (largest)
        and divergences.
    level : float
        Coverage of the bands, simultaneous over ranks.
    sampler : str
    """

    ranks: pd.DataFrame
    draws: int
    table: pd.DataFrame
    dropped: int
    chains: pd.DataFrame
    level: float
    sampler: str

    @property
    def few(self) -> int:
        """Rounds in which a parameter has fewer effective draws than it is ranked among."""
        return int((self.chains["ess"] < self.draws).sum())

    @property
    def calibrated(self) -> bool:
        """Whether all parameters lie inside the band that holds for all of them."""
        return bool(self.table["inside_all"].all())

    def __str__(self) -> str:
        rounds = len(self.ranks)
        outside = self.table.index[~self.table["inside_all"]]
        said = (
            f"All {len(self.table)} parameters lie inside the {self.level:.0%} bands"
            if outside.empty
            else f"{len(outside)} of {len(self.table)} parameters leave the {self.level:.0%} "
            f"bands: {', '.join(outside)}"
        )
        ess = self.chains["ess"]
        return (
            f"Simulation-based calibration of {self.sampler}, {rounds} rounds ({self.dropped} more "
            f"dropped, as nobody has such scores): {said}. Ranks are among {self.draws} draws; "
            f"smallest effective sample size of a round {ess.median():.0f} in the middle, below "
            f"{self.draws} in {self.few}."
        )


@checked
def calibrate(
    spec: DSEM,
    panel: SessionPanel | None = None,
    *,
    clients: int = 60,
    sessions: int = 12,
    missing: float = 0.15,
    replications: int = 200,
    ranks: int = RANKS,
    seed: int = 0,
    level: float = LEVEL,
    progress: Progress | None = None,
) -> Calibration:
    """Check a sampler on a design by drawing from the prior and back.

    Parameters
    ----------
    spec : DSEM
        Its options, priors, sampler and number of draws; innovations normal, scale does not
        matter (see the module).
    panel : SessionPanel, optional
        Whose clients, sessions and missing scores make the design; else the three below.
    clients, sessions : int
        Size of a design without a panel.
    missing : float
        Share of its scores that are missing, each on its own.
    replications : int
        Rounds that are kept.
    ranks : int
        Posterior draws that a true value is ranked among; effective sample sizes should be larger.
    seed : int
        Of all random numbers.
    level : float
        Coverage of the bands.
    progress : callable, optional
        Called as ``progress(done, total, doing)``.

    Raises
    ------
    SpecificationError
        If the model cannot be simulated here, or nearly all rounds explode.
    """
    if not spec.draws_panels:
        raise SpecificationError(
            "Calibration draws normal innovations, known measurement error and scores without "
            "bounds or categories only."
        )
    among = min(whole_number("ranks", ranks, 10), spec.chains * spec.draws)
    design = _design(spec, panel, clients, sessions, missing, seed)
    rounds = []
    for done, child in enumerate(np.random.SeedSequence(seed).spawn(replications)):
        rounds.append(_round(spec, design, among, np.random.default_rng(child)))
        if progress is not None:
            progress(done + 1, replications, "rounds")
    labels = [term.label for term in terms(design.shape, design.priors)]
    frame = pd.DataFrame([one.ranks for one in rounds], columns=labels)
    chains = pd.DataFrame([one.chains for one in rounds])
    dropped = sum(one.dropped for one in rounds)
    table = judge(frame, among, level)
    return Calibration(frame, among, table, dropped, chains, level, spec.engine)


def _design(
    spec: DSEM,
    panel: SessionPanel | None,
    clients: int,
    sessions: int,
    missing: float,
    seed: int,
) -> Task:
    """Return who has which sessions, on the scale of the priors."""
    if panel is not None:
        selection = select(panel, spec.needs(), spec.sessions)
        return task_of(replace(spec, scale="raw"), selection.data)
    if not 0.0 <= missing < 0.9:
        raise SpecificationError(f"missing is {missing!r}; give a share below .9.")
    if spec.predictors or "therapist" in spec.levels:
        raise SpecificationError("Predictors and therapists come from a panel: pass panel=.")
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    variables = spec.variables or ("alliance", "symptoms")
    Y = np.zeros((clients, sessions, len(variables)))
    Y[rng.random(Y.shape) < missing] = np.nan
    Y[np.isnan(Y).all(axis=(1, 2)), 0] = 0.0  # every client has a score
    names = np.array([f"{i + 1}" for i in range(clients)], object)
    observed = Observed.of_scores(names, tuple(range(1, sessions + 1)), variables, Y)
    return task_of(replace(spec, scale="raw"), observed)


@dataclass(frozen=True)
class _Round:
    """Ranks (n,), rounds dropped before this one, how the chains went."""

    ranks: Array
    dropped: int
    chains: dict[str, float]


def _round(spec: DSEM, design: Task, ranks: int, rng: np.random.Generator) -> _Round:
    """Draw parameters and scores, sample, rank."""
    for lost in range(MOST_DROPPED):
        truth = prior_draws(design.shape, design.priors, 1, rng)[0]
        Y = simulate_scores(design.shape, truth, design.data, rng)
        if plausible(Y):
            data: DsemData = replace(design.data, Y=Y)
            sampled = spec.sample(replace(design, data=data), int(rng.integers(2**31)))
            table = mixing(sampled.names, sampled.draws)
            chains = {
                "ess": float(table["ess_bulk"].min()),
                "rhat": float(table["rhat"].max()),
                "divergences": float(np.sum(sampled.statistics.get("diverging", 0))),
            }
            return _Round(_ranks(design, sampled.draws, truth, ranks), lost, chains)
    raise SpecificationError(
        f"{MOST_DROPPED} draws from the priors in a row gave scores further than {BOUND:g} from "
        "zero, or none that the session before does not foretell: these priors let nearly every "
        "process explode, or stand still. Give narrower ones with priors=."
    )


def plausible(Y: Array) -> bool:
    """Say whether scores (N, T, k), NaN = missing, could be anybody's; see the module.

    Every score within ``BOUND``; and of the variance of each series within clients, regressions of
    each client's own scores on those of the session before leave ``FORETOLD`` or more (pooled over
    clients with two or more sessions to spare; not asked where there is none).
    """
    seen = Y[~np.isnan(Y)]
    if not np.isfinite(seen).all() or np.abs(seen).max() > BOUND:
        return False
    k = Y.shape[2]
    before, after = Y[:, :-1], Y[:, 1:]
    whole: NDArray[np.bool_] = ~np.any(np.isnan(before) | np.isnan(after), axis=2)
    enough = whole.sum(axis=1) >= k + 3
    if not enough.any():
        return True
    use = whole[enough][..., None]
    X = np.concatenate([use.astype(float), np.where(use, before[enough], 0.0)], axis=2)
    y = np.where(use, after[enough], 0.0)
    left = y - X @ (np.linalg.pinv(X) @ y)
    variance = (left**2).sum(axis=(0, 1)) / (use.sum() - (k + 1) * enough.sum())
    return bool((variance >= FORETOLD * within_units(Y)[1] ** 2).all())


def _ranks(design: Task, draws: Array, truth: Array, ranks: int) -> Array:
    """Return how many of evenly spaced draws lie below the truth, quantity by quantity."""
    flat = draws.reshape(-1, draws.shape[-1])
    at = np.linspace(0, len(flat) - 1, ranks).round().astype(int)
    below = quantities(design.shape, flat[at]) < quantities(design.shape, truth)
    return np.asarray(below.sum(axis=0), float)


def judge(ranks: pd.DataFrame, draws: int, level: float) -> pd.DataFrame:
    """Compare the ECDF of every column of ranks (R, n) with the bands of uniform ranks."""
    R, n = ranks.shape
    own = band(R, draws, level)
    joint = band(R, draws, 1.0 - (1.0 - level) / n)
    at = evaluation_points(draws)
    rows = {}
    for name, values in ranks.items():
        count = (values.to_numpy()[:, None] <= at).sum(axis=0)
        low, high = own
        beyond = np.maximum(np.maximum(low - count, count - high), 0.0).max() / R
        rows[name] = {
            "mean_rank": float(values.mean() / draws),
            "excursion": float(beyond),
            "inside": bool(beyond == 0.0),
            "inside_all": bool(((joint[0] <= count) & (count <= joint[1])).all()),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("parameter")


def evaluation_points(draws: int) -> NDArray[np.int64]:
    """Return the ranks (P,) at which an ECDF is looked at, the last (all below it) left out."""
    return np.unique(np.linspace(0, draws - 1, min(POINTS, draws)).round().astype(np.int64))


def band(replications: int, draws: int, level: float) -> tuple[Array, Array]:
    """Return counts (P,) between which all of an ECDF of uniform ranks stays, with ``level``.

    Pointwise binomial intervals, all of one coverage, which is set so that the whole ECDF of
    simulated uniform ranks stays inside in ``level`` of the samples (their algorithm 1).
    """
    share = (evaluation_points(draws) + 1.0) / (draws + 1.0)
    gamma = float(np.quantile(_smallest_tails(replications, draws), 1.0 - level))
    low = binom.ppf(gamma, replications, share)
    high = binom.isf(gamma, replications, share)
    return np.asarray(low, float), np.asarray(high, float)


@lru_cache(maxsize=8)
def _smallest_tails(replications: int, draws: int) -> Array:
    """Return the smallest pointwise tail of the ECDF of each of many samples of uniform ranks."""
    at = evaluation_points(draws)
    share = (at + 1.0) / (draws + 1.0)
    rng = np.random.default_rng(0)  # the same bands every time
    tails = []
    for size in [SIMULATED // 20] * 20:  # in parts, for the memory
        drawn = rng.integers(0, draws + 1, (size, replications))
        count = _counts(drawn, draws)[:, at]
        below = binom.cdf(count, replications, share)
        above = binom.sf(count - 1, replications, share)
        tails.append(np.minimum(below, above).min(axis=1))
    return np.concatenate(tails)


def _counts(drawn: NDArray[np.int64], draws: int) -> NDArray[np.int64]:
    """Return how many of each row's ranks are at or below 0, 1, ..., ``draws``."""
    rows = np.arange(len(drawn))[:, None] * (draws + 1)
    flat = np.bincount((rows + drawn).ravel(), minlength=len(drawn) * (draws + 1))
    return np.cumsum(flat.reshape(len(drawn), draws + 1), axis=1)
