"""Studies on a Dask cluster: a real scheduler and workers, each a process of its own.

Nothing skips: the package distributed is part of the development tools.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alliancedyn as ad
from alliancedyn.errors import SpecificationError
from alliancedyn.replicate import Failure, replicate
from alliancedyn.results import Fit
from alliancedyn.studies.recovery import RecoveryStudy, recover

TRUTH = ad.Dynamics.time_ordered(
    phi_alliance=0.35, phi_symptoms=0.45, forward=-0.12, backward=-0.10, mean=(3.0, 10.0)
)
SPEC = ad.CLPM(means="equal", initial="stationary")
ASKED: dict[str, Any] = {"clients": 40, "sessions": 4, "seed": 5, "missing": 0.1}
REPLICATIONS = 60
START_SECONDS = 120.0  # patience with a process that starts on a busy machine


def started(*command: str, log: Path) -> subprocess.Popen[bytes]:
    """Start one part of Dask as a process that imports what this one imports."""
    path = os.pathsep.join([str(Path(__file__).parent), *(p for p in sys.path if p)])
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "distributed.cli." + command[0], *command[1:]],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        )


def worker(address: str, folder: Path, number: int) -> subprocess.Popen[bytes]:
    """Start a worker with one thread, without a nanny that would start it again."""
    return started(
        *("dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"),
        *("--name", f"worker-{number}", "--local-directory", str(folder / f"worker-{number}")),
        log=folder / f"worker-{number}.log",
    )


@dataclass
class Cluster:
    """A scheduler's address, and its workers as processes."""

    address: str
    workers: list[subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    log = folder / "scheduler.log"
    scheduler = started(
        *("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"), log=log
    )
    workers: list[subprocess.Popen[bytes]] = []
    try:
        address = scheduler_address(log)
        workers += [worker(address, folder, number) for number in range(4)]
        yield Cluster(address, workers)
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


def scheduler_address(log: Path) -> str:
    patience = time.monotonic() + START_SECONDS
    while time.monotonic() < patience:
        found = re.search(rb"Scheduler at:\s+(tcp://\S+)", log.read_bytes())
        if found:
            return found[1].decode()
        time.sleep(0.05)
    raise AssertionError(log.read_text("utf-8"))


@pytest.fixture(scope="module")
def here() -> RecoveryStudy:
    return recover(SPEC, TRUTH, **ASKED, replications=REPLICATIONS, jobs=1)


def assert_same(one: RecoveryStudy, other: RecoveryStudy) -> None:
    """Compare two studies to the last bit."""
    assert one.table().to_csv() == other.table().to_csv()
    pd.testing.assert_frame_equal(one.estimates, other.estimates, check_exact=True)
    pd.testing.assert_frame_equal(one.errors, other.errors, check_exact=True)
    pd.testing.assert_frame_equal(one.directions(), other.directions(), check_exact=True)
    assert (one.failures, one.boundaries) == (other.failures, other.boundaries)


@pytest.mark.parametrize("jobs", [2, 4])
def test_processes_give_the_same_bytes(jobs: int, here: RecoveryStudy) -> None:
    assert_same(recover(SPEC, TRUTH, **ASKED, replications=REPLICATIONS, jobs=jobs), here)


def test_a_cluster_gives_the_same_bytes_by_its_address(
    cluster: Cluster, here: RecoveryStudy
) -> None:
    heard: list[tuple[int, int]] = []
    found = recover(
        SPEC,
        TRUTH,
        **ASKED,
        replications=REPLICATIONS,
        cluster=cluster.address,
        progress=lambda done, total, doing: heard.append((done, total)),
    )
    assert_same(found, here)
    assert heard[0] == (0, REPLICATIONS)
    assert heard[-1] == (REPLICATIONS, REPLICATIONS)


def test_failures_come_back_from_a_cluster(cluster: Cluster) -> None:
    asked: dict[str, Any] = {"clients": 30, "sessions": 2, "replications": 4, "seed": 0}
    there = recover(ad.RICLPM(), TRUTH, **asked, cluster=cluster.address)
    assert there.failures == recover(ad.RICLPM(), TRUTH, **asked, jobs=1).failures
    assert sum(there.failures.values()) == 4


@dataclass(frozen=True)
class Slow:
    """A model that takes its time, so that a worker is at work when it is killed."""

    name: str = "Slow"

    def fit(
        self,
        panel: ad.SessionPanel,
        *,
        errors: str = "observed",
        seed: int | None,
        strict: bool,
    ) -> Fit:
        time.sleep(0.05)
        return SPEC.fit(panel, errors=errors, seed=seed, strict=strict)


def test_workers_killed_in_the_middle_change_nothing(
    cluster: Cluster, here: RecoveryStudy, tmp_path: Path
) -> None:
    import distributed

    killed: list[int] = []

    def kill(done: int, total: int, doing: str) -> None:
        if done > 10 * len(killed) and len(killed) < 2:
            victim = cluster.workers[len(killed)]
            victim.kill()
            killed.append(victim.wait())
            assert done < total

    with distributed.Client(cluster.address, set_as_default=False) as client:
        client.wait_for_workers(4, timeout=START_SECONDS)
        found = recover(
            Slow(),
            TRUTH,
            **ASKED,
            replications=REPLICATIONS,
            cluster=client,
            checkpoint=tmp_path / "study.jsonl",
            progress=kill,
        )
        assert len(killed) == 2
        assert len(client.scheduler_info()["workers"]) == 2
        assert client.status == "running", "a client that is given stays open"
    assert_same(found, here)


def test_a_mistake_in_the_task_ends_the_study(cluster: Cluster) -> None:
    def broken(seed: np.random.SeedSequence) -> int:
        raise ZeroDivisionError("a mistake in the task")

    with pytest.raises(ZeroDivisionError, match="a mistake in the task"):
        replicate(broken, 3, seed=0, cluster=cluster.address)


@pytest.mark.parametrize(
    ("given", "fragment"),
    [
        (7, "cluster must be a distributed.Client or an address"),
        ("tcp://127.0.0.1:1", "No scheduler answers at 'tcp://127.0.0.1:1'"),
    ],
)
def test_what_is_no_cluster_is_refused(
    given: Any, fragment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alliancedyn.replicate.PATIENCE", 1.0)
    with pytest.raises(SpecificationError, match=re.escape(fragment)):
        replicate(lambda seed: 1, 3, seed=0, cluster=given)


def test_without_the_package_the_message_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SpecificationError, match="-m pip install distributed"):
        replicate(lambda seed: Failure("A", "b"), 3, seed=0, cluster="tcp://127.0.0.1:8786")
