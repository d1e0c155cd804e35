"""Blocked Gibbs sampling of the two-level VAR(1) of :mod:`alliancedyn.engine.dsem`, compiled.

The model is conditionally Gaussian: given the lag matrices, intercepts and missing scores are
normal, given the states, the lag matrices are. A sweep draws these blocks exactly, and draws what
lies above them (scales, means, predictors, therapists) with the block below integrated out, so
that chains hardly remember where they were. See :mod:`alliancedyn.engine.gibbs_sweep`.

References
----------
van Dyk, D. A., & Park, T. (2008). Partially collapsed Gibbs samplers: Theory and methods. Journal
of the American Statistical Association, 103, 790-796.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.random import Generator, SeedSequence

from alliancedyn.engine.dsem import Array, DsemData, DsemShape, Priors, Sampled
from alliancedyn.engine.gibbs_common import advance_common
from alliancedyn.engine.gibbs_small import seed_thread
from alliancedyn.engine.gibbs_start import begin_earlier, lay_out, plan_of, start_chain
from alliancedyn.engine.gibbs_sweep import Chain, Kept, Panel, Plan, advance
from alliancedyn.errors import ConvergenceError, SpecificationError

Progress = Callable[[int, int, str], None]

PIECES = 20  # in which a chain runs; progress is told after each
DOING = "sweeps"


def sample_gibbs(
    data: DsemData,
    shape: DsemShape,
    priors: Priors,
    *,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    seed: int | None = None,
    progress: Progress | None = None,
) -> Sampled:
    """Sample the posterior in blocks; every missing score is integrated out or drawn exactly.

    Parameters
    ----------
    data, shape, priors
        See :mod:`alliancedyn.engine.dsem`; innovations are normal.
    draws, tune, chains : int
        Sweeps kept and sweeps before them, per chain. Only widths of slices are tuned.
    seed : int, optional
        The same draws for the same seed, on however many cores.
    progress : callable, optional
        Called as ``progress(done, total, doing)`` in the caller's thread.

    Raises
    ------
    SpecificationError
        If a number of draws or chains is below 1.
    ConvergenceError
        If a chain left the range of numbers.
    """
    return next(
        gibbs_rounds(
            data, shape, priors, totals=(draws,), tune=tune, chains=chains, seed=seed,
            progress=progress,
        )
    )  # fmt: skip


def gibbs_rounds(
    data: DsemData,
    shape: DsemShape,
    priors: Priors,
    *,
    totals: Sequence[int],
    tune: int,
    chains: int,
    seed: int | None,
    progress: Progress | None = None,
) -> Iterator[Sampled]:
    """Yield all draws so far whenever chains have reached the next of ``totals``.

    Chains go on from where they were, so that a caller who asks for one more round pays for what
    is new alone. The rest is as in `sample_gibbs`.
    """
    if min(totals[0], chains) < 1 or tune < 0:
        raise SpecificationError(
            f"draws and chains must be at least 1 and tune at least 0; got {totals[0]}, {chains}, "
            f"{tune}. Use the defaults, 1000, 4 and 1000."
        )
    if shape.initial == "innovation":
        if shape.course:
            raise SpecificationError(
                "The Gibbs sampler needs a free first session where there is a common course. Use "
                'initial="free", or sampler="nutpie".'
            )
        data = begin_earlier(data)
    panel, plan = lay_out(data), plan_of(data, shape, priors)
    first = partial(_begin, panel, plan, shape, priors)
    runs = [first(totals[0], child) for child in SeedSequence(seed).spawn(chains)]
    _advance(panel, plan, 0, 2, 1, first(1, SeedSequence(0)))  # compiles before the clock starts
    rounds, seconds, known = [runs], 0.0, 0
    for total in totals:
        if known:  # what is tuned stays as it is
            rounds.append(
                [replace(run, kept=_room(run.chain, total - known, shape)) for run in runs]
            )
        clock = time.perf_counter()
        _run(panel, plan, rounds[-1], total - known, 0 if known else tune, progress)
        seconds += time.perf_counter() - clock
        known = total
        sampled = np.stack(
            [np.concatenate([run.kept.draws for run in own]) for own in zip(*rounds, strict=True)]
        )
        if not np.isfinite(sampled).all():
            raise ConvergenceError(
                "The Gibbs sampler left the range of numbers: a client's states explode. Look for "
                "scores far from the rest, sample on standardized scores, or use priors with less "
                "room."
            )
        kept = [run.kept for some in rounds for run in some]
        yield Sampled(shape.parameter_names(), sampled, _clients(kept), "gibbs", seconds)


@dataclass(frozen=True)
class _Run:
    """One chain: its state, what it keeps, the seeds of its pieces."""

    chain: Chain
    kept: Kept
    rng: Generator


def _begin(
    panel: Panel, plan: Plan, shape: DsemShape, priors: Priors, draws: int, seed: SeedSequence
) -> _Run:
    """Start a chain, with room for what it keeps."""
    rng = np.random.default_rng(seed)
    chain = start_chain(panel, plan, shape, priors, rng)
    return _Run(chain, _room(chain, draws, shape), rng)


def _room(chain: Chain, draws: int, shape: DsemShape) -> Kept:
    """Make room for so many draws."""
    empty = np.zeros((draws, len(shape.parameter_names())))
    return Kept(empty, np.zeros_like(chain.mean), np.zeros_like(chain.mean))


def _advance(panel: Panel, plan: Plan, start: int, stop: int, tune: int, run: _Run) -> None:
    """Run a piece of a chain on this thread's generator, seeded from the chain's own."""
    seed_thread(int(run.rng.integers(2**32)))
    with np.errstate(over="ignore", invalid="ignore"):  # told once, when all draws are in
        advance_chain(panel, plan, run.chain, run.kept, start, stop, tune)


def advance_chain(
    panel: Panel, plan: Plan, chain: Chain, kept: Kept, start: int, stop: int, tune: int
) -> None:
    """Do sweeps start .. stop on this thread's generator; those from ``tune`` on are stored."""
    only_intercepts = chain.U.shape[1] == chain.k and plan.free_first
    go = advance_common if only_intercepts else advance
    go(panel, plan, chain, kept, start, stop, tune)


def _run(
    panel: Panel, plan: Plan, runs: list[_Run], draws: int, tune: int, progress: Progress | None
) -> None:
    """Run all chains, as many at a time as there are cores."""
    total = draws + tune
    size = -(-total // PIECES)  # with or without progress: a piece has its own seed
    workers = min(len(runs), _cores())
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, total, size):
            stop = min(start + size, total)
            list(pool.map(partial(_advance, panel, plan, start, stop, tune), runs))
            if progress is not None:
                progress(stop * len(runs), total * len(runs), DOING)


def _cores() -> int:
    """Count the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _clients(kept: list[Kept]) -> Array:
    """Pool the running means and SDs of the effects over chains and rounds: (N, q, 2)."""
    weight = np.array([len(one.draws) for one in kept], float)
    centers = np.stack([one.center for one in kept])
    mean = np.average(centers, axis=0, weights=weight)
    squares = sum(one.square for one in kept)
    squares = squares + np.tensordot(weight, (centers - mean) ** 2, axes=1)
    sd = np.sqrt(squares / max(weight.sum() - 1.0, 1.0))
    return np.stack([mean, sd], axis=2)
