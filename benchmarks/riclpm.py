"""Time the RI-CLPM against lavaan, in one run on the same data, answers compared first.

    python benchmarks/riclpm.py [--sizes 200x5 500x20] [--lags equal] [--no-peer]

Per size: lavaan before, ours warm on one thread (median of several), lavaan after. A ratio counts
when the two lavaan runs agree within 10 % and the answers agree; without ``Rscript`` and lavaan
the peer's columns say so and no ratio is printed. Further tables: cost in clients, and the first
result of a new process with and without compiled code on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import alliancedyn as ad
from alliancedyn.engine import likelihood

PEER = Path(__file__).parent / "peers" / "riclpm.R"
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


def peer(panel: ad.SessionPanel, lags: str, folder: Path) -> dict[str, float]:
    """Run lavaan once in a process of its own."""
    Y = panel.arrays().Y
    sessions = Y.shape[1]
    names = [f"a{t + 1}" for t in range(sessions)] + [f"s{t + 1}" for t in range(sessions)]
    wide = np.concatenate([Y[:, :, 0], Y[:, :, 1]], axis=1)
    path = folder / "wide.csv"
    rows = [",".join("NA" if np.isnan(v) else f"{v:.10g}" for v in row) for row in wide]
    path.write_text(",".join(names) + "\n" + "\n".join(rows) + "\n", encoding="utf-8")
    command = ["Rscript", str(PEER), str(path), str(sessions), lags]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def ours(panel: ad.SessionPanel, spec: ad.RICLPM, runs: int = 7) -> tuple[float, float, ad.Fit]:
    """Median seconds of estimates with errors, and of those with fit indices."""
    fit = spec.fit(panel, strict=False)
    fit.fit_indices()
    plain, whole = [], []
    for _ in range(runs):
        clock = time.perf_counter()
        fit = spec.fit(panel, strict=False)
        plain.append(time.perf_counter() - clock)
        fit.fit_indices()
        whole.append(time.perf_counter() - clock)
    return float(np.median(plain)), float(np.median(whole)), fit


def compare(size: str, lags: str, folder: Path, with_peer: bool) -> None:
    """Print one row of the table."""
    clients, sessions = (int(part) for part in size.split("x"))
    panel = make_panel(clients, sessions)
    spec = ad.RICLPM(lags=lags, innovations="equal" if lags == "equal" else "free")
    before = peer(panel, lags, folder) if with_peer else None
    plain, whole, fit = ours(panel, spec)
    row = f"{size:>9} {lags:>6} {plain * 1e3:9.1f} {whole * 1e3:9.1f}"
    if before is None:
        print(f"{row}   lavaan was not run")
        return
    after = peer(panel, lags, folder)
    name = "phi[symptoms,alliance]" + ("@2" if lags == "free" else "")
    off = max(
        abs(fit.params[name] - before["phi"]) / before["se"], abs(fit.se[name] / before["se"] - 1)
    )
    # Ours may be higher (the peer stops early), never lower.
    lower = before["loglik"] - fit.loglik
    drift = abs(after["seconds"] / before["seconds"] - 1)
    theirs = (before["seconds"] + after["seconds"]) / 2
    verdict = "counts" if drift < 0.1 and off < 1e-3 and lower < 1e-5 else "DOES NOT COUNT"
    print(
        f"{row} {theirs:9.2f} {theirs / plain:8.0f} {theirs / whole:8.0f}   {verdict}"
        f" (drift {drift:.0%}, answers within {off:.0e} of an error)"
    )


def cost_in_clients(sizes: tuple[int, ...] = (1_000, 10_000, 100_000)) -> None:
    """Print how seconds per client change with the number of clients, eight sessions."""
    print("\nclients  seconds  microseconds per client (RI-CLPM, 8 sessions, with errors)")
    for clients in sizes:
        panel = make_panel(clients, 8)
        clock = time.perf_counter()
        ad.RICLPM().fit(panel)
        seconds = time.perf_counter() - clock
        print(f"{clients:7d} {seconds:8.2f} {seconds / clients * 1e6:8.1f}")


FIRST = """
import time; clock = time.perf_counter()
import alliancedyn as ad
panel = ad.datasets.load("trial")
ad.RICLPM().fit(panel)
print(time.perf_counter() - clock)
"""


def first_result(folder: Path) -> None:
    """Print the seconds to the first fit of a new process, code compiled and not."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "compiled")}
    for state in ("nothing compiled", "compiled before"):
        command = [sys.executable, "-W", "ignore", "-c", FIRST]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        print(f"first result of a new process, {state}: {float(done.stdout):.2f} s")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="*", default=["200x5", "500x10", "500x20"])
    parser.add_argument("--lags", choices=["equal", "free"], default="equal")
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    likelihood.THREADS = 1
    found = shutil.which("Rscript") is not None and not options.no_peer
    print(f"{platform.machine()}, Python {platform.python_version()}, one thread, lavaan: {found}")
    print("     size   lags   fit ms whole ms  lavaan s    x fit  x whole")
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            compare(size, options.lags, Path(folder), found)
        cost_in_clients()
        first_result(Path(folder))


if __name__ == "__main__":
    main()
