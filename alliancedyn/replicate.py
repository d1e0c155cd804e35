"""The one loop of every simulation study: simulate, fit, collect.

A task is a function of a seed. Each replication has a seed of its own, spawned from one root, so
that replication r is the same whoever computes it, and however many others there are: in this
process, in several, or on the machines of a Dask cluster.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

from alliancedyn import __version__
from alliancedyn.engine import likelihood
from alliancedyn.errors import AllianceDynError, SpecificationError

Outcome = TypeVar("Outcome")
Seed = np.random.SeedSequence
Cluster: TypeAlias = Any  # a distributed.Client, or the address of a scheduler

BATCH = 25  # replications handed to a worker at once: the cost of handing over vanishes
KEPT_BATCH = 5  # where each batch is written down: so many are computed again at worst
ROUNDS = 4  # batches per worker at least, so that no worker waits long for the last one
PATIENCE = 30.0  # seconds to wait for a cluster's scheduler, and for its first worker

_ALONE = threading.RLock()  # a worker with several threads computes one batch at a time


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


class Keeper(Protocol):
    """What remembers the outcomes of a study that is interrupted."""

    def outcomes(self) -> Mapping[int, Any]:
        """Return what is known already, by replication."""
        ...

    def keep(self, found: Mapping[int, Any]) -> None:
        """Take in what has just been found, by replication."""
        ...


def replicate(
    task: Callable[[Seed], Outcome],
    replications: int,
    seed: int,
    jobs: int = 1,
    progress: Progress | None = None,
    doing: str = "replications",
    *,
    cluster: Cluster | None = None,
    keeper: Keeper | None = None,
) -> list[Outcome | Failure]:
    """Run a task once for every replication: here, in several processes or on a cluster.

    The outcomes depend neither on ``jobs`` nor on ``cluster``, and the first ones not on
    ``replications``. Every worker computes with one thread.

    Parameters
    ----------
    task : callable
        Takes a ``numpy.random.SeedSequence``, returns anything that pickles.
    replications : int
        How many, 1 or more.
    seed : int
        Root of all seeds.
    jobs : int
        Processes; -1 = one per processor. Never more than two per processor, or than replications.
        Not used with a cluster.
    progress : callable, optional
        Called as ``progress(done, total, doing)``, in the caller's process.
    doing : str
        What ``progress`` is told.
    cluster : distributed.Client or str, optional
        A Dask cluster, or the address of its scheduler. Its workers need alliancedyn in the same
        version; a worker that is lost is replaced by others, with the same outcomes.
    keeper : Keeper, optional
        Asked first for what is known already, and given every batch as it is found.

    Returns
    -------
    list
        One entry per replication, in order: what the task returned or, where it raised an
        `AllianceDynError`, a `Failure` with the reason. Any other error ends the study.

    Raises
    ------
    SpecificationError
        If a count or the seed is impossible, or the cluster cannot be used.
    """
    _refuse_impossible(replications, seed, jobs)
    kept = {} if keeper is None else dict(keeper.outcomes())
    found = {r: outcome for r, outcome in kept.items() if r < replications}
    seeds = Seed(seed).spawn(replications)
    left = [(r, seeds[r]) for r in range(replications) if r not in found]
    if progress is not None:
        progress(len(found), replications, doing)
    most = BATCH if keeper is None else KEPT_BATCH
    for batch in _run(task, left, most, jobs, cluster):
        if keeper is not None:
            keeper.keep(batch)
        found |= batch
        if progress is not None:
            progress(len(found), replications, doing)
    return [found[r] for r in range(replications)]


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


Numbered = Sequence[tuple[int, Seed]]  # replications with their seeds
Batch = dict[int, Any]  # their outcomes


def _run(
    task: Callable[[Seed], Any], left: Numbered, most: int, jobs: int, cluster: Cluster | None
) -> Iterator[Batch]:
    """Yield the outcomes batch by batch, as they come."""
    if not left:
        return
    if cluster is not None:
        yield from _on_cluster(task, left, most, cluster)
        return
    workers = _workers(jobs, len(left))
    batches = _batches(left, most, workers)
    if workers == 1:
        yield from (_attempt_all(task, batch) for batch in batches)
        return
    from joblib import Parallel, delayed, parallel_config

    with parallel_config(backend="loky", n_jobs=workers, inner_max_num_threads=1):
        parallel = Parallel(return_as="generator_unordered", batch_size=1)
    yield from parallel(delayed(_attempt_all)(task, batch) for batch in batches)


def _workers(jobs: int, replications: int) -> int:
    """Count the processes that can be of use: more than two per processor only take memory."""
    if jobs == 1:
        return 1
    from joblib import cpu_count

    processors = int(cpu_count())
    return min(processors if jobs == -1 else jobs, 2 * processors, replications)


def _batches(left: Numbered, most: int, workers: int) -> list[Numbered]:
    size = max(1, min(most, -(-len(left) // (ROUNDS * max(workers, 1)))))
    return [left[first : first + size] for first in range(0, len(left), size)]


def _on_cluster(
    task: Callable[[Seed], Any], left: Numbered, most: int, cluster: Cluster
) -> Iterator[Batch]:
    """Yield the outcomes that the workers of a Dask cluster send, as they come."""
    with _connected(cluster) as (client, distributed):
        workers = _equal_workers(client)
        futures = [
            client.submit(_attempt_all, task, batch, pure=False)
            for batch in _batches(left, most, workers)
        ]
        try:
            for future in distributed.as_completed(futures, loop=client.loop):
                yield future.result()  # computed anew if its worker was lost on the way
                future.release()
        finally:
            client.cancel(futures)


@contextmanager
def _connected(cluster: Cluster) -> Iterator[tuple[Any, Any]]:
    """Give a client of the cluster, closed at the end if it was made here."""
    try:
        import distributed
    except ModuleNotFoundError:
        raise SpecificationError(
            "cluster= needs the package distributed, which is not installed. Run: "
            f'"{sys.executable}" -m pip install distributed'
        ) from None
    if isinstance(cluster, distributed.Client):
        yield cluster, distributed
        return
    if not isinstance(cluster, str):
        raise SpecificationError(
            f"cluster must be a distributed.Client or an address such as 'tcp://...:8786', not "
            f"{cluster!r}."
        )
    try:
        client = distributed.Client(cluster, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as problem:  # no such address, nobody there: TimeoutError too
        raise SpecificationError(
            f"No scheduler answers at {cluster!r}: {problem}. Start one with: dask scheduler."
        ) from None
    with client:
        yield client, distributed


def _equal_workers(client: Any) -> int:
    """Return how many workers a cluster has, or say what is wrong with them."""
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise SpecificationError(
            "The cluster has no workers. Start some with: dask worker ADDRESS --nthreads 1."
        ) from None
    try:
        versions = client.run(_version)
    except ModuleNotFoundError:
        raise SpecificationError(
            f"The workers have no alliancedyn. Install version {__version__} there."
        ) from None
    if others := {version for version in versions.values() if version != __version__}:
        raise SpecificationError(
            f"The workers have alliancedyn {', '.join(sorted(others))}, here it is {__version__}: "
            "results could differ. Install the same version everywhere."
        )
    return len(versions)


def _version() -> str:
    return __version__


def _attempt_all(task: Callable[[Seed], Any], batch: Numbered) -> Batch:
    with _ALONE, _one_thread():
        return {r: _attempt(task, seed) for r, seed in batch}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sum over clients in one order, however many processors a machine has."""
    before, likelihood.THREADS = likelihood.THREADS, 1
    try:
        yield
    finally:
        likelihood.THREADS = before


def _attempt(task: Callable[[Seed], Outcome], seed: Seed) -> Outcome | Failure:
    try:
        return task(seed)
    except AllianceDynError as error:
        return Failure(type(error).__name__, str(error))
