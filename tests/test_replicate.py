"""Replications: seeds, failures, and the same outcomes however many processes compute them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import joblib
import numpy as np
import pytest

from alliancedyn.errors import ConvergenceError, DataError, SpecificationError
from alliancedyn.replicate import Failure, replicate


def draw(seed: np.random.SeedSequence) -> float:
    return float(np.random.default_rng(seed).standard_normal())


def test_every_replication_has_its_own_seed() -> None:
    values = replicate(draw, 400, seed=1)
    assert len(set(values)) == 400
    assert abs(np.mean(values)) < 4 / 20
    assert 0.8 < np.std(values) < 1.2


def test_outcomes_do_not_depend_on_the_number_of_processes() -> None:
    assert replicate(draw, 61, seed=3) == replicate(draw, 61, seed=3, jobs=2)


def test_more_replications_continue_fewer() -> None:
    assert replicate(draw, 200, seed=3)[:7] == replicate(draw, 7, seed=3)


def test_another_seed_gives_other_outcomes() -> None:
    assert replicate(draw, 5, seed=3) != replicate(draw, 5, seed=4)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failure_is_kept_in_its_place_with_its_reason(jobs: int) -> None:
    def sometimes(seed: np.random.SeedSequence) -> int:
        number = seed.spawn_key[0]
        if number % 3 == 1:
            raise DataError(f"Replication {number} has no rows.")
        if number % 3 == 2:
            raise ConvergenceError("The search stopped.", fit=object())
        return number

    outcomes = replicate(sometimes, 8, seed=0, jobs=jobs)
    assert len(outcomes) == 8
    assert [o for o in outcomes if not isinstance(o, Failure)] == [0, 3, 6]
    assert outcomes[4] == Failure("DataError", "Replication 4 has no rows.")
    assert outcomes[5] == Failure("ConvergenceError", "The search stopped.")


@pytest.mark.parametrize("jobs", [1, 2])
def test_any_other_error_ends_the_study(jobs: int) -> None:
    def broken(seed: np.random.SeedSequence) -> int:
        raise ZeroDivisionError("a mistake in the task")

    with pytest.raises(ZeroDivisionError, match="a mistake in the task"):
        replicate(broken, 6, seed=0, jobs=jobs)


@pytest.mark.parametrize("jobs", [1, 2])
def test_progress_counts_every_replication_once(jobs: int) -> None:
    heard: list[tuple[int, int, str]] = []
    replicate(draw, 90, seed=0, jobs=jobs, progress=lambda *said: heard.append(said), doing="N=50")
    done = [said[0] for said in heard]
    assert done[0] == 0
    assert done[-1] == 90
    assert done == sorted(set(done))
    assert {said[1:] for said in heard} == {(90, "N=50")}


def test_workers_compute_elsewhere_with_one_thread_each() -> None:
    def where(seed: np.random.SeedSequence) -> tuple[int, str | None]:
        return os.getpid(), os.environ.get("OPENBLAS_NUM_THREADS")

    found = replicate(where, 20, seed=0, jobs=2)
    assert os.getpid() not in {pid for pid, _ in found}
    assert {threads for _, threads in found} == {"1"}
    assert {pid for pid, _ in replicate(where, 3, seed=0)} == {os.getpid()}


@pytest.mark.parametrize(
    ("wrong", "fragment"),
    [
        ({"replications": 0}, "replications must be a whole number of at least 1"),
        ({"replications": 2.5}, "replications must be"),
        ({"replications": True}, "replications must be"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"seed": None}, "seed must be"),
        ({"jobs": 0}, "jobs must be a number of processes"),
        ({"jobs": -2}, "jobs must be a number of processes"),
    ],
)
def test_impossible_counts_are_refused(wrong: dict[str, object], fragment: str) -> None:
    asked: dict[str, object] = {"replications": 3, "seed": 0, "jobs": 1} | wrong
    with pytest.raises(SpecificationError, match=fragment):
        replicate(draw, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("jobs", "replications", "workers"),
    [(10**9, 10**6, 6), (10**9, 5, 5), (-1, 100, 3), (2, 100, 2), (1, 100, 1), (-1, 1, 1)],
)
def test_never_more_processes_than_two_per_processor_or_than_tasks(
    monkeypatch: pytest.MonkeyPatch, jobs: int, replications: int, workers: int
) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: 3)
    used: list[int] = []

    class Counted:
        def __init__(self, **_: object) -> None:
            used.append(joblib.parallel.get_active_backend()[1])

        def __call__(self, tasks: Iterable[tuple[Any, Any, Any]]) -> Iterator[Any]:
            return (function(*args) for function, args, _ in tasks)

    monkeypatch.setattr("joblib.Parallel", Counted)
    found = replicate(lambda seed: 1, replications if replications < 1000 else 50, 1, jobs)
    assert set(found) == {1}
    assert used in ([], [min(workers, 50)])
    assert (used == []) == (workers == 1)


@pytest.mark.parametrize("jobs", [0, -2, -(10**9), 1.5, True, "2", None])
def test_impossible_numbers_of_processes_are_refused_by_name(jobs: object) -> None:
    with pytest.raises(SpecificationError, match="jobs must be a number of processes, or -1"):
        replicate(draw, 2, seed=1, jobs=jobs)  # type: ignore[arg-type]
