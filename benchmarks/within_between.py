"""Time the way from a Parquet file of a practice network to a multilevel fit.

    python benchmarks/within_between.py [--clients 110000]

Ten sessions a client, 8 in a hundred missing, 2,000 therapists. Printed are seconds since the start
of reading, the first use of compiled code included.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

import alliancedyn as ad

SESSIONS, THERAPISTS = 10, 2000
PHI = np.array([[0.35, -0.05], [-0.12, 0.45]])


def write(clients: int, path: Path) -> int:
    """Write an export and return its number of rows."""
    rng = np.random.default_rng(1)
    stable = rng.multivariate_normal([5.0, 12.0], [[1.0, -0.3], [-0.3, 1.0]], clients)
    within = rng.standard_normal((clients, 2))
    scores = np.empty((clients, SESSIONS, 2))
    for t in range(SESSIONS):
        within = within @ PHI.T + rng.standard_normal((clients, 2)) if t else within
        scores[:, t] = stable + within
    frame = pd.DataFrame(scores.reshape(-1, 2).round(2), columns=["alliance", "symptoms"])
    frame["client"] = np.repeat([f"K{i:06d}" for i in range(clients)], SESSIONS)
    frame["session"] = np.tile(np.arange(1, SESSIONS + 1), clients)
    frame["therapist"] = np.repeat(rng.integers(0, THERAPISTS, clients), SESSIONS)
    frame = frame[rng.random(len(frame)) < 0.92]
    frame.to_parquet(path)
    return len(frame)


def main() -> None:
    """Print the seconds of every step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=110_000)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "export.parquet"
        rows = write(asked.clients, path)
        began = time.perf_counter()
        panel = ad.read_sessions(
            path,
            client="client",
            session="session",
            therapist="therapist",
            variables={"alliance": "alliance", "symptoms": "symptoms"},
        )
        print(f"{rows:,} rows read: {time.perf_counter() - began:.1f} s")
        ad.WithinBetween().fit(panel)
        print(f"and WithinBetween() fitted: {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
