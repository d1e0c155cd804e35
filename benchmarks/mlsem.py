"""Time the ML-SEM against lavaan, in one run on the same data, answers compared first.

    python benchmarks/mlsem.py [--sizes 200x7 500x7 500x12] [--no-peer]

Per size, complete and with missing scores: lavaan before, ours warm on one thread with fit indices
(median of several), lavaan after. A ratio counts when the two lavaan runs agree within 10 % and
the answers agree; without ``Rscript`` and lavaan the peer's columns say so.
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
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import alliancedyn as ad

PEER = Path(__file__).parent / "peers" / "mlsem.R"
TRUTH = ad.Dynamics(
    phi=[[0.35, -0.05], [-0.4, 0.45]],
    innovation_cov=[[0.8, -0.3], [-0.3, 3.6]],
    between_cov=[[0.8, -0.5], [-0.5, 4.0]],
    mean=(5.0, 12.0),
)
AGREE = 1e-3  # standard errors
RUNS = 5


def make_panel(clients: int, sessions: int, missing: bool) -> ad.SessionPanel:
    """Simulate complete scores, or with a third of clients leaving early and holes."""
    dropout = ad.Dropout(rule="random", rate=0.3) if missing else None
    return ad.simulate(
        TRUTH,
        clients=clients,
        sessions=sessions,
        dropout=dropout,
        missing=0.1 if missing else 0.0,
        seed=clients + sessions,
    )


def peer(panel: ad.SessionPanel, folder: Path) -> dict[str, float]:
    """Run lavaan once in a process of its own."""
    Y = panel.arrays().Y
    names = [f"{v}{t + 1}" for v in "as" for t in range(Y.shape[1])]
    wide = np.concatenate([Y[:, :, 0], Y[:, :, 1]], axis=1)
    path = folder / "wide.csv"
    rows = [",".join("NA" if np.isnan(v) else f"{v:.12g}" for v in row) for row in wide]
    path.write_text(",".join(names) + "\n" + "\n".join(rows) + "\n", encoding="utf-8")
    done = subprocess.run(
        ["Rscript", str(PEER), str(path), str(Y.shape[1])],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def ours(panel: ad.SessionPanel, spec: ad.MLSEM) -> tuple[ad.Fit, float, float]:
    """Return a fit, and the median seconds of a fit and of a fit with its indices."""
    fits, whole = [], []
    spec.fit(panel, strict=False).fit_indices()
    for _ in range(RUNS):
        began = time.perf_counter()
        fit = spec.fit(panel, strict=False)
        fits.append(time.perf_counter() - began)
        fit.fit_indices()
        whole.append(time.perf_counter() - began)
    return fit, median(fits), median(whole)


def row(clients: int, sessions: int, missing: bool, folder: Path | None) -> str:
    """Return one line of the table."""
    panel = make_panel(clients, sessions, missing)
    before = peer(panel, folder) if folder else None
    fit, seconds, whole = ours(panel, ad.MLSEM())
    _, both, _ = ours(panel, ad.MLSEM(direction="both"))
    line = (
        f"| {clients} x {sessions} | {'missing' if missing else 'complete'} | {fit.n_params} | "
        f"{1e3 * seconds:.0f} | {1e3 * whole:.0f} | {1e3 * both:.0f} | "
    )
    if before is None:
        return line + "not run | | |"
    after = peer(panel, folder)
    name = "phi[symptoms,alliance]"
    off = abs(fit.params[name] - before["phi"]) / before["se"]
    drift = abs(after["seconds"] / before["seconds"] - 1.0)
    counts = "yes" if drift < 0.1 and off < AGREE else "no"
    theirs = (before["seconds"] + after["seconds"]) / 2.0
    return line + f"{theirs:.2f} | {theirs / whole:.0f} | {counts} ({drift:.0%}, {off:.0e}) |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["200x7", "500x7", "500x12"])
    parser.add_argument("--no-peer", action="store_true")
    chosen = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, alliancedyn {ad.__version__}")
    print("| clients x sessions | scores | parameters | fit, ms | and indices, ms | both, ms | "
          "lavaan, s | ratio | counts (drift, SE) |")  # fmt: skip
    print("|---|---|---:|---:|---:|---:|---:|---:|---|")
    with tempfile.TemporaryDirectory() as folder:
        found = None if chosen.no_peer or shutil.which("Rscript") is None else Path(folder)
        for size in chosen.sizes:
            clients, sessions = (int(part) for part in size.split("x"))
            for missing in (False, True):
                print(row(clients, sessions, missing, found), flush=True)


if __name__ == "__main__":
    main()
