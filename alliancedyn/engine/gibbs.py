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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.random import Generator, SeedSequence

from alliancedyn.engine.dsem import Array, DsemData, DsemShape, Priors, Sampled
from alliancedyn.engine.gibbs_small import seed_thread
from alliancedyn.engine.gibbs_sweep import Chain, Kept, Panel, Plan, Scales, advance, prepare
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
    if min(draws, chains) < 1 or tune < 0:
        raise SpecificationError(
            f"draws and chains must be at least 1 and tune at least 0; got {draws}, {chains}, "
            f"{tune}. Use the defaults, 1000, 4 and 1000."
        )
    panel, plan = _panel(data), _plan(data, shape, priors)
    runs = [
        _start(panel, plan, shape, priors, draws, np.random.default_rng(child))
        for child in SeedSequence(seed).spawn(chains)
    ]
    _compile(panel, plan, shape, priors)
    clock = time.perf_counter()
    _run(panel, plan, runs, draws, tune, progress)
    seconds = time.perf_counter() - clock
    sampled = np.stack([run.kept.draws for run in runs])
    if not np.isfinite(sampled).all():
        raise ConvergenceError(
            "The Gibbs sampler left the range of numbers: a client's states explode. Look for "
            "scores far from the rest, sample on standardized scores, or use priors with less room."
        )
    return Sampled(shape.parameter_names(), sampled, _clients(runs, draws), "gibbs", seconds)


@dataclass(frozen=True)
class _Run:
    """One chain: its state, what it keeps, the seeds of its pieces."""

    chain: Chain
    kept: Kept
    rng: Generator


def _panel(data: DsemData) -> Panel:
    """Lay the data out for the kernels; sessions after a client's last score are left out."""
    N, T, k = data.Y.shape
    seen = ~np.isnan(data.Y)
    here = seen.any(axis=2)
    last = np.where(here.any(axis=1), T - here[:, ::-1].argmax(axis=1), 1)
    whole = seen.all(axis=2) & bool((data.measurement_var == 0.0).all())
    gap = ~whole & (np.arange(T) < last[:, None])
    slot = np.full((N, T), -1, dtype=np.int64)
    slot[gap] = np.arange(gap.sum())
    therapist = np.zeros(N, np.int64) if data.therapist is None else data.therapist
    return Panel(
        np.ascontiguousarray(np.where(seen, data.Y, 0.0)),
        np.ascontiguousarray(seen),
        np.ascontiguousarray(whole),
        slot,
        last.astype(np.int64),
        np.ascontiguousarray(data.course, dtype=np.float64),
        np.column_stack([np.ones(N), data.predictors.reshape(N, -1)]),
        np.ascontiguousarray(therapist, dtype=np.int64),
        np.ascontiguousarray(data.measurement_var, dtype=np.float64),
        (last - 1).astype(np.float64),
    )


def _plan(data: DsemData, shape: DsemShape, priors: Priors) -> Plan:
    """Lay the options and the normal priors out."""
    k, q = data.k, len(shape.effects)
    rows = 1 + len(shape.predictors)
    location, sd = np.full((rows, q), priors.effect[0]), np.full((rows, q), priors.effect[1])
    location[0], sd[0] = priors.phi
    location[0, :k], sd[0, :k] = priors.mean
    course = (priors.mean[0], priors.mean[1] ** -2, priors.trend[0], priors.trend[1] ** -2)
    return Plan(
        shape.random_phi,
        shape.random_innovation,
        shape.correlated,
        shape.therapist,
        priors.lkj,
        location,
        sd**-2.0,
        np.array(course),
        np.array([priors.phi[0], priors.phi[1] ** -2]),
    )


def _scales(sd: Array, scale: Array, free: Array) -> Scales:
    p = len(sd)
    return Scales(sd, np.eye(p), np.ascontiguousarray(free), scale, 0.5 * scale)


def _effect_scales(shape: DsemShape, priors: Priors) -> tuple[Array, Array]:
    """Return the prior scales of the SDs of effects, and which correlations are free."""
    k, q = len(shape.variables), len(shape.effects)
    scale = np.full(q, priors.sd)
    if shape.random_phi:
        scale[k : k + k * k] = priors.phi_sd
    if shape.random_innovation:
        scale[q - k :] = priors.log_innovation_sd
    free = np.full((q, q), shape.correlated)
    free[:k, :k] = True
    return scale, free


def _start(
    panel: Panel, plan: Plan, shape: DsemShape, priors: Priors, draws: int, rng: Generator
) -> _Run:
    """Start a chain at rough moments, spread wider than the posterior is likely to be."""
    N, T, k = panel.y.shape
    q = len(shape.effects)
    level, between, within = _rough(panel)
    coef = np.zeros((panel.X.shape[1], q))
    coef[0, :k] = level + between * rng.uniform(-0.5, 0.5, k)
    if shape.random_phi:
        coef[0, k : k + k * k] = rng.uniform(-0.3, 0.3, k * k)
    scale, free = _effect_scales(shape, priors)
    sd = scale * rng.uniform(0.1, 0.6, q)
    sd[:k] = between * rng.uniform(0.5, 1.5, k)
    common, every = np.full(k, priors.sd), np.ones((k, k), dtype=np.bool_)
    count = int(panel.slot.max()) + 1
    chain = Chain(
        coef=coef,
        course=np.zeros((panel.course.shape[1], k)),
        phi=rng.uniform(-0.3, 0.3, (k, k)),
        random=_scales(sd, scale, free),
        therapist=_scales(between * rng.uniform(0.2, 1.0, k), common, every),
        innovation=_scales(within * rng.uniform(0.6, 1.4, k), common, every),
        first=_scales(within * rng.uniform(0.6, 1.4, k), common, every),
        U=np.zeros((N, q)),
        v=np.zeros((int(panel.therapist.max()) + 1, k)),
        W=np.zeros((N, T, k)),
        stretch=np.full(k, 0.5 * priors.log_innovation_sd),
        z=panel.y.copy(),
        mean=np.zeros((N, q)),
        lags=np.zeros((N, k, k)),
        logs=np.zeros((N, k)),
        psi=np.zeros((N, k, k)),
        gaps=(np.zeros((count, k)), np.zeros((count, k, k)), np.zeros((count, k, k))),
        info=np.zeros((N, k, k)),
        score=np.zeros((N, k)),
        lag_info=np.zeros((N, k * k, k * k)),
        lag_score=np.zeros((N, k * k)),
        S=np.zeros((3, N, k, k)),
        E=np.zeros((N, k, k)),
        first_scatter=np.zeros((k, k)),
    )
    prepare(panel, plan, chain)
    kept = Kept(
        np.zeros((draws, len(shape.parameter_names()))), np.zeros((N, q)), np.zeros((N, q))
    )
    return _Run(chain, kept, rng)


def _rough(panel: Panel) -> tuple[Array, Array, Array]:
    """Return rough levels (k,), SDs between clients and SDs within, kept away from 0."""
    y = np.where(panel.seen, panel.y, np.nan)
    count = panel.seen.sum(axis=1)
    means = panel.y.sum(axis=1) / np.maximum(count, 1)
    known = count > 0
    within, between, level = np.ones((3, y.shape[2]))
    for j in range(y.shape[2]):
        own = means[known[:, j], j]
        level[j] = own.mean() if own.size else 0.0
        away = (y[:, :, j] - means[:, None, j])[panel.seen[:, :, j]]
        spread = float(np.sqrt(np.mean(away**2))) if away.size else 1.0
        within[j] = spread if spread > 0.0 else 1.0
        between[j] = max(float(own.std()), 0.1 * within[j]) if own.size else 1.0
    return level, between, within


def _advance(panel: Panel, plan: Plan, start: int, stop: int, tune: int, run: _Run) -> None:
    """Run a piece of a chain on this thread's generator, seeded from the chain's own."""
    seed_thread(int(run.rng.integers(2**32)))
    advance(panel, plan, run.chain, run.kept, start, stop, tune)


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


def _clients(runs: list[_Run], draws: int) -> Array:
    """Pool the running means and SDs of the effects over chains: (N, q, 2)."""
    centers = np.stack([run.kept.center for run in runs])
    squares = sum(run.kept.square for run in runs)
    mean = centers.mean(axis=0)
    squares = squares + draws * ((centers - mean) ** 2).sum(axis=0)
    sd = np.sqrt(squares / max(draws * len(runs) - 1, 1))
    return np.stack([mean, sd], axis=2)


def _compile(panel: Panel, plan: Plan, shape: DsemShape, priors: Priors) -> None:
    """Compile, or load what was compiled, before the clock starts: two sweeps thrown away."""
    spare = _start(panel, plan, shape, priors, 1, np.random.default_rng(0))
    _advance(panel, plan, 0, 2, 1, spare)
