"""The one loop of every simulation study: simulate, fit, collect.

A task is a function of a seed. Each replication has a seed of its own, spawned from one root, so
that replication r is the same whoever computes it, and however many others there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from alliancedyn.errors import AllianceDynError, SpecificationError

Outcome = TypeVar("Outcome")
Seed = np.random.SeedSequence

BATCH = 25  # replications handed to a worker at once: the cost of handing over vanishes
ROUNDS = 4  # batches per worker at least, so that no worker waits long for the last one


class Progress(Protocol):
    """What a caller passes to hear how far a study is."""

    def __call__(self, done: int, total: int, doing: str) -> None:
        """Take in that ``done`` of ``total`` replications are over, and what is being done."""


@dataclass(frozen=True)
class Failure:
    """A replication without a result.

    Parameters
    ----------
    error : str
        Name of the error.
    reason : str
        Its message.
    """

    error: str
    reason: str


def replicate(
    task: Callable[[Seed], Outcome],
    replications: int,
    seed: int,
    jobs: int = 1,
    progress: Progress | None = None,
    doing: str = "replications",
) -> list[Outcome | Failure]:
    """Run a task once for every replication, here or in several processes.

    The outcomes do not depend on ``jobs``, and the first ones not on ``replications``. With several
    processes each computes with one thread of the linear algebra library.

    Parameters
    ----------
    task : callable
        Takes a ``numpy.random.SeedSequence``, returns anything that pickles.
    replications : int
        How many, 1 or more.
    seed : int
        Root of all seeds.
    jobs : int
        Processes; -1 = one per processor.
    progress : callable, optional
        Called as ``progress(done, total, doing)``, in the caller's process.
    doing : str
        What ``progress`` is told.

    Returns
    -------
    list
        One entry per replication, in order: what the task returned or, where it raised an
        `AllianceDynError`, a `Failure` with the reason. Any other error ends the study.

    Raises
    ------
    SpecificationError
        If a count or the seed is impossible.
    """
    _refuse_impossible(replications, seed, jobs)
    seeds = Seed(seed).spawn(replications)
    workers = _workers(jobs, replications)
    size = max(1, min(BATCH, -(-replications // (ROUNDS * workers))))
    batches = [seeds[first : first + size] for first in range(0, replications, size)]
    outcomes: list[Outcome | Failure] = []
    if progress is not None:
        progress(0, replications, doing)
    for batch in _run(task, batches, workers):
        outcomes += batch
        if progress is not None:
            progress(len(outcomes), replications, doing)
    return outcomes


def _refuse_impossible(replications: int, seed: int, jobs: int) -> None:
    for name, value, smallest in (("replications", replications, 1), ("seed", seed, 0)):
        if not _whole(value) or value < smallest:
            raise SpecificationError(
                f"{name} must be a whole number of at least {smallest}, not {value!r}."
            )
    if not _whole(jobs) or (jobs < 1 and jobs != -1):
        raise SpecificationError(
            f"jobs must be a number of processes, or -1 for one per processor, not {jobs!r}."
        )


def _whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _workers(jobs: int, replications: int) -> int:
    """Count the processes that can be of use."""
    if jobs == -1:
        from joblib import cpu_count

        jobs = int(cpu_count())
    return min(jobs, replications)


def _run(
    task: Callable[[Seed], Outcome], batches: Sequence[Sequence[Seed]], workers: int
) -> Iterator[list[Outcome | Failure]]:
    """Yield the outcomes batch by batch, in order."""
    if workers == 1:
        yield from (_attempt_all(task, batch) for batch in batches)
        return
    from joblib import Parallel, delayed, parallel_config

    with parallel_config(backend="loky", n_jobs=workers, inner_max_num_threads=1):
        parallel = Parallel(return_as="generator", batch_size=1)
    yield from parallel(delayed(_attempt_all)(task, batch) for batch in batches)


def _attempt_all(task: Callable[[Seed], Outcome], seeds: Sequence[Seed]) -> list[Outcome | Failure]:
    return [_attempt(task, seed) for seed in seeds]


def _attempt(task: Callable[[Seed], Outcome], seed: Seed) -> Outcome | Failure:
    try:
        return task(seed)
    except AllianceDynError as error:
        return Failure(type(error).__name__, str(error))
