"""Time dynamic-panel GMM against plm and pydynpd, in one run on the same data, answers first.

    python benchmarks/gmm.py [--sizes 500x10 5000x10] [--effect individual] [--no-peer]
                             [--pydynpd PYTHON]

Two-step difference GMM of symptoms on lagged symptoms and alliance, every lag of both from the
second as instruments, with Windmeijer's errors, Hansen's test and the tests of autocorrelation.
Per size: peers before, ours warm on one thread (median of several), peers after. A ratio counts
when a peer's two runs agree within 10 % and estimates, errors and Hansen's statistic agree to
1e-8. plm needs ``Rscript``; pydynpd a Python that imports it, this one or the one named. Further
columns: time and memory in clients, and the family's whole fit, from panel to table.
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
import tracemalloc
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pandas as pd

import alliancedyn as ad
from alliancedyn.engine import GMMFit, fit_gmm
from alliancedyn.models.dynamic_panel import DynamicPanelGMM

PEERS = Path(__file__).parent / "peers"
TRUTH = ad.Dynamics.time_ordered(
    phi_alliance=0.35,
    phi_symptoms=0.45,
    forward=-0.12,
    backward=-0.10,
    between_cov=[[1.0, -0.3], [-0.3, 1.0]],
)
Answer = dict[str, float]


def peer(command: list[str], path: Path, sessions: int, effect: str) -> Answer | None:
    """Run a peer once in a process of its own; None if it cannot be run here."""
    full = [*command, str(path), str(sessions), effect]
    done = subprocess.run(full, capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def arrays(frame: pd.DataFrame) -> tuple[np.ndarray, ...]:
    """Return outcome, regressors, client, session and alliance, lags taken by session number."""
    before = frame[["client", "session", "symptoms", "alliance"]].copy()
    before["session"] += 1
    X = frame[["client", "session"]].merge(before, how="left", on=["client", "session"])
    columns = ("symptoms", "client", "session", "alliance")
    y, client, session, alliance = (frame[name].to_numpy() for name in columns)
    return y, X[["symptoms", "alliance"]].to_numpy(), client, session, alliance


def ours(data: tuple[np.ndarray, ...], effect: str, runs: int = 15) -> tuple[float, GMMFit]:
    """Median seconds of an estimate with all its tests."""
    y, X, client, session, alliance = data
    seconds = []
    for _ in range(runs + 1):
        clock = time.perf_counter()
        fit = fit_gmm(
            y,
            X,
            client,
            session,
            gmm=[(y, (2, None)), (alliance, (2, None))],
            session_effects=effect == "twoways",
        )
        seconds.append(time.perf_counter() - clock)
    return float(np.median(seconds[1:])), fit


def verdict(name: str, before: Answer | None, after: Answer | None, own: float, fit: GMMFit) -> str:
    """Return the peer's seconds, the ratio, and whether it counts."""
    if before is None or after is None:
        return f"{name} was not run"
    pairs = [
        (fit.beta[0], before["phi"]),
        (fit.beta[1], before["b"]),
        (np.sqrt(fit.cov[1, 1]), before["se"]),
        (fit.hansen.statistic, before["hansen"]),
    ]
    off = max(abs(mine - theirs) / max(1.0, abs(theirs)) for mine, theirs in pairs)
    drift = abs(after["seconds"] / before["seconds"] - 1.0)
    theirs = (before["seconds"] + after["seconds"]) / 2.0
    counts = "counts" if drift < 0.1 and off < 1e-8 else "DOES NOT COUNT"
    return (
        f"{name} {before['version']} {theirs:7.3f} s {theirs / own:6.0f} x  {counts} "
        f"(drift {drift:.0%}, answers within {off:.0e}; its m1 {before['m1']:.4f})"
    )


def compare(size: str, effect: str, peers: dict[str, list[str]], folder: Path) -> None:
    """Print one row of the table."""
    clients, sessions = (int(part) for part in size.split("x"))
    panel = ad.simulate(TRUTH, clients=clients, sessions=sessions, seed=clients)
    Y = panel.arrays().Y
    frame = pd.DataFrame(
        {
            "client": np.repeat(np.arange(clients), sessions),
            "session": np.tile(np.arange(1, sessions + 1), clients),
            "alliance": Y[:, :, 0].ravel(),
            "symptoms": Y[:, :, 1].ravel(),
        }
    )
    path = folder / "long.csv"
    frame.to_csv(path, index=False, float_format="%.10g")
    data = arrays(pd.read_csv(path))
    before = {name: peer(command, path, sessions, effect) for name, command in peers.items()}
    own, fit = ours(data, effect)
    after = {name: peer(command, path, sessions, effect) for name, command in peers.items()}
    print(
        f"{size:>9} {effect:>10} {fit.n_instruments:4d} instruments  ours {own * 1e3:7.2f} ms "
        f"(m1 {fit.m1.statistic:.4f}, m2 {fit.m2.statistic:.4f})"
    )
    for name in peers:
        print(f"{'':>21}{verdict(name, before[name], after[name], own, fit)}")


def cost_in_clients(sizes: tuple[int, ...] = (1_000, 10_000, 100_000)) -> None:
    """Print seconds and memory per client of the family's whole fit, ten sessions."""
    print(
        "\nclients  seconds  microseconds and kilobytes per client (DynamicPanelGMM, 10 sessions)"
    )
    for clients in sizes:
        panel = ad.simulate(TRUTH, clients=clients, sessions=10, seed=1)
        DynamicPanelGMM().fit(panel, strict=False)
        clock = time.perf_counter()
        DynamicPanelGMM().fit(panel, strict=False)
        seconds = time.perf_counter() - clock
        data = arrays(panel.frame)
        tracemalloc.start()
        fit_gmm(
            data[0],
            data[1],
            data[2],
            data[3],
            gmm=[(data[0], (2, None)), (data[4], (2, None))],
            collapse=True,
            session_effects=True,
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        each = f"{seconds / clients * 1e6:8.1f} {peak / clients / 1e3:8.1f}"
        print(f"{clients:7d} {seconds:8.3f} {each}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="*", default=["500x10", "5000x10"])
    parser.add_argument("--effect", choices=["individual", "twoways"], default="individual")
    parser.add_argument("--pydynpd", default=sys.executable, help="a Python that imports pydynpd")
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    peers = {}
    if not options.no_peer:
        if shutil.which("Rscript"):
            peers["plm"] = ["Rscript", str(PEERS / "gmm.R")]
        peers["pydynpd"] = [options.pydynpd, "-W", "ignore", str(PEERS / "gmm_pydynpd.py")]
    print(f"{platform.machine()}, Python {platform.python_version()}, one thread")
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            compare(size, options.effect, peers, Path(folder))
    cost_in_clients()


if __name__ == "__main__":
    main()
