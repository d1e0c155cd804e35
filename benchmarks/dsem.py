"""Time the Gibbs sampler against nutpie and PyMC's default sampler, in one run on the same data.

    python benchmarks/dsem.py [--sizes 100x20] [--kinds random fixed] [--seeds 1] [--draws 1000]
                              [--peers nutpie pymc] [--peer-python PYTHON] [--cost]

Two series, ten in a hundred scores missing, the package's default priors. The peers sample a model
with explicit latent states (`peers/dsem_pymc.py`). Compared is the bulk effective size per second
of the worst population parameter, tuning included, compilation not, two chains on two cores; a
ratio counts when the posterior means of phi agree within 4 Monte Carlo errors (taken from the
smaller of the two effective sizes). Stan is not run. ``--cost`` adds time against sessions, the
large panel, memory, and the first result of a process that has nothing compiled.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import arviz as az
import numpy as np

from alliancedyn.engine.dsem import DsemData, DsemShape, Priors
from alliancedyn.engine.gibbs import sample_gibbs

PEER = Path(__file__).parent / "peers" / "dsem_pymc.py"
PHI = np.array([[0.35, -0.1], [-0.18, 0.4]])
PHI_SD = np.array([[0.14, 0.1], [0.15, 0.14]])
INNOVATION = np.linalg.cholesky(np.array([[0.8, -0.2], [-0.2, 1.0]]))
BETWEEN = np.linalg.cholesky(np.array([[0.8, -0.3], [-0.3, 1.1]]))
COLD = """
import time; clock = time.perf_counter()
import numpy as np
from alliancedyn.engine.dsem import DsemData, DsemShape, Priors
from alliancedyn.engine.gibbs import sample_gibbs
Y = np.random.default_rng(1).normal(size=(100, 20, 2))
data = DsemData(Y, np.zeros((20, 0)), np.zeros((100, 0)), None, np.zeros(2))
sample_gibbs(data, DsemShape(("a", "b"), tuple(range(1, 21)), random_phi=True), Priors())
print(time.perf_counter() - clock)
"""


def scores(clients: int, sessions: int, kind: str, seed: int) -> np.ndarray:
    """Simulate scores (N, T, 2), NaN where missing."""
    rng = np.random.default_rng(seed)
    lags = PHI + (PHI_SD * rng.normal(size=(clients, 2, 2)) if kind == "random" else 0.0)
    lags = np.broadcast_to(lags, (clients, 2, 2))
    m = rng.normal(size=(clients, 2)) @ BETWEEN.T
    w = rng.normal(size=(clients, 2)) @ INNOVATION.T
    Y = np.empty((clients, sessions, 2))
    for t in range(sessions):
        Y[:, t] = m + w
        shock = rng.normal(size=(clients, 2)) @ INNOVATION.T
        w = np.einsum("irc,ic->ir", lags, w) + shock
    Y[rng.random(Y.shape) < 0.1] = np.nan
    return Y


def task(Y: np.ndarray, kind: str) -> tuple[DsemData, DsemShape, Priors]:
    """Return what the sampler takes."""
    N, T, _ = Y.shape
    data = DsemData(Y, np.zeros((T, 0)), np.zeros((N, 0)), None, np.zeros(2))
    shape = DsemShape(("alliance", "symptoms"), tuple(range(1, T + 1)), random_phi=kind == "random")
    return data, shape, Priors()


def ours(Y: np.ndarray, kind: str, draws: int, seed: int) -> dict:
    """Sample, two chains."""
    found = sample_gibbs(*task(Y, kind), draws=draws, tune=draws, chains=2, seed=seed)
    sizes = [float(az.ess(found.draws[:, :, j])) for j in range(len(found.names))]
    phi = found.draws[:, :, 2:6]
    return {
        "seconds": found.seconds,
        "ess": min(sizes),
        "phi": phi.mean(axis=(0, 1)),
        "phi_sd": phi.std(axis=(0, 1)),
        "worst": found.names[int(np.argmin(sizes))],
    }


def peer(python: str, name: str, path: Path, kind: str, draws: int, seed: int) -> dict | None:
    """Run a peer in a process of its own; None if it cannot be run here."""
    command = [python, "-W", "ignore", str(PEER), str(path), name, kind]
    command += [str(draws), str(draws), "2", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else None


def compare(size: str, kind: str, seed: int, options: argparse.Namespace, folder: Path) -> None:
    """Print one row of the table per peer."""
    clients, sessions = (int(part) for part in size.split("x"))
    Y = scores(clients, sessions, kind, seed)
    path = folder / "scores.npz"
    np.savez(path, Y=Y)
    before = ours(Y, kind, options.draws, seed)
    rows = {
        name: peer(options.peer_python, name, path, kind, options.peer_draws, seed)
        for name in options.peers
    }
    after = ours(Y, kind, options.draws, seed + 1)
    rate = [answer["ess"] / answer["seconds"] for answer in (before, after)]
    print(
        f"{size:>9} {kind:>7} seed {seed}: ours {rate[0]:7.0f} and {rate[1]:7.0f} per second "
        f"(size {before['ess']:.0f} in {before['seconds']:.2f} s, worst {before['worst']})"
    )
    for name, answer in rows.items():
        if answer is None:
            print(f"{'':>25}{name} was not run")
            continue
        theirs = answer["ess"] / answer["seconds"]
        error = before["phi_sd"] / np.sqrt(min(before["ess"], answer["ess"]))
        off = float(np.max(np.abs(before["phi"] - np.array(answer["phi"])) / error))
        counts = "counts" if off < 4.0 else "DOES NOT COUNT"
        print(
            f"{'':>25}{name} {answer['version']} {theirs:7.1f} per second (size "
            f"{answer['ess']:.0f} in {answer['seconds']:.1f} s): {min(rate) / theirs:5.1f} x  "
            f"{counts} (phi within {off:.1f} Monte Carlo errors)"
        )


def cost() -> None:
    """Print time against sessions, the large panel, the first result of a new process."""
    print("\nsessions  microseconds per sweep (200 clients, random lags, one chain)")
    for sessions in (10, 20, 40, 80, 160):
        Y = scores(200, sessions, "random", 1)
        found = sample_gibbs(*task(Y, "random"), draws=300, tune=100, chains=1, seed=1)
        print(f"{sessions:8d} {found.seconds / 400 * 1e6:13.0f}")
    found_large = ours(scores(1000, 20, "random", 1), "random", 1000, 1)
    print(f"1000x20: size {found_large['ess']:.0f} in {found_large['seconds']:.1f} s, two chains")
    with tempfile.TemporaryDirectory() as folder:
        for state in ("nothing compiled", "compiled before"):
            clock = time.perf_counter()
            subprocess.run(
                [sys.executable, "-W", "ignore", "-c", COLD],
                env=os.environ | {"NUMBA_CACHE_DIR": folder},
                capture_output=True,
                check=True,
            )
            print(
                f"first result of a process, {state}, 4 chains of 2000: "
                f"{time.perf_counter() - clock:.1f} s"
            )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="*", default=["100x20"])
    parser.add_argument("--kinds", nargs="*", default=["random", "fixed"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--peer-draws", type=int, default=1000)
    parser.add_argument("--peers", nargs="*", default=["nutpie", "pymc"])
    parser.add_argument("--peer-python", default=sys.executable, help="one that imports nutpie")
    parser.add_argument("--cost", action="store_true")
    options = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, two chains; Stan: not run")
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.kinds:
            for size in options.sizes:
                for seed in options.seeds:
                    compare(size, kind, seed, options, Path(folder))
    if options.cost:
        cost()


if __name__ == "__main__":
    main()
