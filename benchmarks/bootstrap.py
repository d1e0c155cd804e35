"""Count resamples per second of the client-level bootstrap, one process.

    python benchmarks/bootstrap.py [--sizes 200x8 500x20] [--resamples 1000]

Per size: seconds, resamples per second, likelihoods evaluated per resample, and how many times as
long the same number of complete fits would have taken.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import alliancedyn as ad
from alliancedyn.engine import likelihood

TRUTH = ad.Dynamics(
    phi=[[0.4, -0.05], [-0.15, 0.3]],
    innovation_cov=[[1.0, -0.3], [-0.3, 1.0]],
    between_cov=[[1.0, -0.4], [-0.4, 1.0]],
    mean=(0.0, 0.0),
)


def make_panel(clients: int, sessions: int) -> ad.SessionPanel:
    """Half the clients leave early, and one cell in ten is missing."""
    dropout = ad.Dropout(rule="random", rate=0.5, first=min(4, sessions - 1))
    return ad.simulate(
        TRUTH, clients=clients, sessions=sessions, dropout=dropout, missing=0.1, seed=clients
    )


def seconds_of_fit(panel: ad.SessionPanel, runs: int = 5) -> float:
    """Median seconds of a complete fit."""
    taken = []
    for _ in range(runs):
        clock = time.perf_counter()
        ad.RICLPM().fit(panel, strict=False)
        taken.append(time.perf_counter() - clock)
    return float(np.median(taken))


def evaluations(fit: ad.Fit, resamples: int = 20) -> float:
    """Likelihoods evaluated in one resample."""
    count = 0
    plain = likelihood.Likelihood.value_and_score

    def counting(self: likelihood.Likelihood, theta: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal count
        count += 1
        return plain(self, theta)

    likelihood.Likelihood.value_and_score = counting
    try:
        ad.bootstrap(fit, resamples)
    finally:
        likelihood.Likelihood.value_and_score = plain
    return count / resamples


def main() -> None:
    """Print one row per size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["200x8", "500x20"])
    parser.add_argument("--resamples", type=int, default=1000)
    asked = parser.parse_args()
    likelihood.THREADS = 1
    print(f"{'size':>8} {'resamples':>9} {'seconds':>8} {'per s':>7} {'evals':>6} {'x fit':>6}")
    for size in asked.sizes:
        clients, sessions = (int(part) for part in size.split("x"))
        panel = make_panel(clients, sessions)
        fit = ad.RICLPM().fit(panel, strict=False)
        ad.bootstrap(fit, 5)
        drawn = ad.bootstrap(fit, asked.resamples)
        rate = asked.resamples / drawn.seconds
        print(
            f"{size:>8} {asked.resamples:9d} {drawn.seconds:8.2f} {rate:7.0f} "
            f"{evaluations(fit):6.1f} {seconds_of_fit(panel) * rate:6.1f}"
        )


if __name__ == "__main__":
    main()
