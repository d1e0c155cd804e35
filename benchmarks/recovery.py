"""Time recovery studies: replications per second by number of workers, and where the time goes.

    python benchmarks/recovery.py [--size 200x10] [--replications 1000] [--workers 1 2 4]
    python benchmarks/recovery.py --model dsem --size 80x12 --replications 100

A third of the clients leave early and one score in ten is missing. Every number of workers must
give the same table, to the last bit, or the run ends with an error. The first line splits one
replication into simulation, fit and verdict on direction, one thread; a busy machine makes
seconds longer, and processor time hardly.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Callable
from dataclasses import replace

import alliancedyn as ad
from alliancedyn.studies.trial import fit_verdicts

TRUTH = ad.Dynamics.time_ordered(
    phi_alliance=0.35,
    phi_symptoms=0.45,
    forward=-0.12,
    backward=-0.10,
    between_cov=[[1.0, -0.3], [-0.3, 1.0]],
    mean=(3.0, 10.0),
)
MODELS = {"ri-clpm": ad.RICLPM(), "dsem": ad.DSEM(random=("intercept", "phi"))}
SPREAD = [[0.1, 0.1], [0.1, 0.1]]  # SDs of lagged effects, for the DSEM
SEEN = {"dropout": ad.Dropout("unwell", rate=0.3), "missing": 0.1}


def milliseconds(task: Callable[[], object], runs: int) -> float:
    """Mean processor time of a task, after a first run that does not count."""
    task()
    clock = time.process_time()
    for _ in range(runs):
        task()
    return (time.process_time() - clock) / runs * 1e3


def main() -> None:
    """Print the parts of one replication, then a row per number of workers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="200x10")
    parser.add_argument("--replications", type=int, default=1000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--model", choices=MODELS, default="ri-clpm")
    parser.add_argument("--runs", type=int, default=20, help="repeated measurements of a part")
    asked = parser.parse_args()
    clients, sessions = (int(part) for part in asked.size.split("x"))
    spec = MODELS[asked.model]
    truth = replace(TRUTH, phi_sd=SPREAD) if asked.model == "dsem" else TRUTH
    panel = ad.simulate(truth, clients, sessions, seed=1, **SEEN)
    fit = spec.fit(panel, seed=1, strict=False)
    parts = {
        "simulation": lambda: ad.simulate(truth, clients, sessions, seed=1, **SEEN),
        "fit": lambda: spec.fit(panel, seed=1, strict=False),
        "verdict": lambda: fit_verdicts(fit, 0.05),
    }
    spent = ", ".join(
        f"{name} {milliseconds(task, asked.runs):.1f} ms" for name, task in parts.items()
    )
    print(f"{clients} clients x {sessions} sessions, processor time of one: {spent}")
    print(f"{'workers':>8} {'replications':>12} {'seconds':>8} {'per s':>7} {'x one':>6}")
    first: tuple[str, float] | None = None
    for workers in asked.workers:
        study = ad.recover(
            spec,
            truth,
            clients,
            sessions,
            replications=asked.replications,
            jobs=workers,
            **SEEN,
        )
        table, rate = study.table().to_csv(), asked.replications / study.seconds
        first = first or (table, rate)
        if table != first[0]:
            raise SystemExit(f"{workers} workers give another table.")
        print(
            f"{workers:8d} {asked.replications:12d} {study.seconds:8.1f} {rate:7.1f} "
            f"{rate / first[1]:6.2f}"
        )


if __name__ == "__main__":
    main()
