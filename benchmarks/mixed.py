"""Time linear mixed models against lme4, in one run on the same data, answers compared first.

    python benchmarks/mixed.py [--rows 20000 200000] [--models slope therapist] [--no-peer]

REML with a random intercept and slope of ten-session clients, alone and with therapists above them
(50 clients each). Per size: lme4 before, ours warm on one thread (median of several; then with the
covariance of the variances, shrunken effects and each client's influence), lme4 after. A ratio
counts when the two lme4 runs agree within 10 % and the answers agree; without ``Rscript`` and lme4
the peer's columns say so and no ratio is printed. A last table: rows in random order, and memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from alliancedyn.engine import MixedFit, fit_mixed

PEER = Path(__file__).parent / "peers" / "mixed.R"
Rows = dict[str, np.ndarray]


def make_rows(rows: int) -> Rows:
    """Ten sessions per client, fifty clients per therapist, slopes that differ."""
    rng = np.random.default_rng(rows)
    clients = rows // 10
    client = np.repeat(np.arange(clients), 10)
    therapist = client // 50
    x = rng.normal(size=rows)
    between = rng.normal(size=clients)[client]
    session = np.tile(np.arange(10.0), clients)
    u = rng.multivariate_normal([0.0, 0.0], [[1.0, 0.1], [0.1, 0.1]], clients)[client]
    y = 5.0 - 0.3 * x - 0.5 * between - 0.2 * session + u[:, 0] + u[:, 1] * x
    y += 0.5 * rng.normal(size=clients // 50)[therapist] + 1.5 * rng.normal(size=rows)
    columns = {"y": y, "x": x, "between": between, "session": session}
    return {**columns, "client": client.astype(np.int32), "therapist": therapist.astype(np.int32)}


def arguments(data: Rows, model: str) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Return y, X, Z, client codes and, for that model, therapist codes."""
    ones = np.ones(len(data["y"]))
    X = np.column_stack([ones, data["x"], data["between"], data["session"]])
    Z = np.column_stack([ones, data["x"]])
    client, therapist = (data[name].astype(np.int64) for name in ("client", "therapist"))
    return [data["y"], X, Z, client], therapist if model == "therapist" else None


def peer(data: Rows, model: str, folder: Path) -> dict:
    """Run lme4 once in a process of its own."""
    for name, column in data.items():
        column.tofile(folder / name)
    command = ["Rscript", str(PEER), str(folder), str(len(data["y"])), model]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def whole(fit: MixedFit) -> None:
    """Ask for everything that is worked out on demand."""
    for name in ("variance_cov", "beta_cov_slopes", "blups", "blup_cov", "influence"):
        getattr(fit, name)


def ours(data: Rows, model: str, runs: int = 7) -> tuple[float, float, MixedFit]:
    """Median seconds of the fit, and of the fit with everything else."""
    rows, outer = arguments(data, model)
    whole(fit_mixed(*rows, outer=outer))
    plain, all_of_it = [], []
    for _ in range(runs):
        clock = time.perf_counter()
        fit = fit_mixed(*rows, outer=outer)
        plain.append(time.perf_counter() - clock)
        whole(fit)
        all_of_it.append(time.perf_counter() - clock)
    return float(np.median(plain)), float(np.median(all_of_it)), fit


def compare(rows: int, model: str, folder: Path, with_peer: bool) -> None:
    """Print one row of the table."""
    data = make_rows(rows)
    before = peer(data, model, folder) if with_peer else None
    plain, complete, fit = ours(data, model)
    line = f"{rows:9d} {model:>9} {plain * 1e3:9.1f} {complete * 1e3:9.1f}"
    if before is None:
        print(f"{line}   lme4 was not run")
        return
    after = peer(data, model, folder)
    off = float(np.max(np.abs(fit.beta - before["beta"]) / before["se"]))
    # Ours may be higher (the peer stops early), never lower.
    higher = fit.loglik - before["loglik"]
    drift = abs(after["seconds"] / before["seconds"] - 1)
    theirs = (before["seconds"] + after["seconds"]) / 2
    verdict = "counts" if drift < 0.1 and off < 1e-2 and higher > -1e-6 else "DOES NOT COUNT"
    print(
        f"{line} {theirs:9.2f} {theirs / plain:8.0f} {theirs / complete:8.0f}   {verdict} (drift "
        f"{drift:.0%}, ours higher by {higher:.1e}, fixed effects within {off:.0e} of an error)"
    )


def shuffled(rows: int = 1_000_000) -> None:
    """Print the time with rows in random order."""
    data = make_rows(rows)
    order = np.random.default_rng(0).permutation(rows)
    data = {name: column[order] for name, column in data.items()}
    plain, complete, _ = ours(data, "slope", runs=3)
    print(f"{rows} rows in random order: fit {plain * 1e3:.0f} ms, whole {complete * 1e3:.0f} ms")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="*", type=int, default=[2_000, 20_000, 200_000])
    parser.add_argument("--models", nargs="*", default=["slope", "therapist"])
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    found = shutil.which("Rscript") is not None and not options.no_peer
    print(f"{platform.machine()}, Python {platform.python_version()}, one thread, lme4: {found}")
    print("     rows     model   fit ms  whole ms    lme4 s    x fit  x whole")
    with tempfile.TemporaryDirectory() as folder:
        for rows in options.rows:
            for model in options.models:
                compare(rows, model, Path(folder), found)
    shuffled()


if __name__ == "__main__":
    main()
