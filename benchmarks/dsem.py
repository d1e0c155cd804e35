"""Time the Gibbs sampler against nutpie and PyMC's default sampler, in one run on the same data.

    python benchmarks/dsem.py [--parts speed cost memory cold] [--kinds random fixed]
                              [--seeds 1 2 3] [--peers nutpie pymc] [--peer-python PYTHON]

speed    Bulk effective size per second of the worst population parameter, two chains on two cores,
         means over the seeds. Seconds are those of sampling, tuning included, compilation not, for
         all samplers alike. Tuning is as long as each needs: 500 sweeps before 2,000 of ours, 400
         before 1,000 of nutpie's (its default), as many as are kept of PyMC's (its default). A
         ratio counts when the posterior means of phi agree within 4 Monte Carlo errors (taken from
         the smaller of the two effective sizes). Ours is timed before and after the peers, and the
         slower one counts.
cost     Microseconds per sweep against sessions; the panel of 1,000 clients.
memory   Peak memory against draws.
cold     The first result of a process, with nothing compiled and with everything.

Two series, ten in a hundred scores missing, the package's default priors. The peers sample the
model of `peers/dsem_pymc.py`, where levels, lags and missing scores are explicit unknowns. PyMC's
default sampler makes 500 draws after 500, for time's sake. Rates per second of processor time are
printed too: they say more where the machine is busy. Stan is not run.
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
PARTS = ("speed", "cost", "memory", "cold")
CHAINS = 2
PHI = np.array([[0.35, -0.1], [-0.18, 0.4]])
PHI_SD = np.array([[0.14, 0.1], [0.15, 0.14]])
INNOVATION = np.linalg.cholesky(np.array([[0.8, -0.2], [-0.2, 1.0]]))
BETWEEN = np.linalg.cholesky(np.array([[0.8, -0.3], [-0.3, 1.1]]))
ONE = """
import resource, sys
import numpy as np
from alliancedyn.engine.dsem import DsemData, DsemShape, Priors
from alliancedyn.engine.gibbs import sample_gibbs
kind, draws = sys.argv[1], int(sys.argv[2])
Y = np.random.default_rng(1).normal(size=(100, 20, 2))
data = DsemData(Y, np.zeros((20, 0)), np.zeros((100, 0)), None, np.zeros(2))
shape = DsemShape(("a", "b"), tuple(range(1, 21)), random_phi=kind == "random")
sample_gibbs(data, shape, Priors(), draws=draws, tune=100 if draws > 1 else 1)
usage = resource.getrusage(resource.RUSAGE_SELF)
print(usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)
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


def ours(Y: np.ndarray, kind: str, tune: int, draws: int, seed: int) -> dict:
    """Sample; effective size of the worst parameter, seconds, posterior means of phi."""
    sample_gibbs(*task(Y, kind), draws=2, tune=2, chains=CHAINS, seed=seed)  # compiles
    clock = time.process_time()
    found = sample_gibbs(*task(Y, kind), draws=draws, tune=tune, chains=CHAINS, seed=seed)
    spent = time.process_time() - clock
    sizes = [float(az.ess(found.draws[:, :, j])) for j in range(len(found.names))]
    phi = found.draws[:, :, 2:6]
    return {
        "seconds": found.seconds,
        "spent": spent,
        "ess": min(sizes),
        "phi": phi.mean(axis=(0, 1)),
        "phi_sd": phi.std(axis=(0, 1)),
        "worst": found.names[int(np.argmin(sizes))],
    }


def peer(
    python: str, name: str, path: Path, kind: str, length: tuple[int, int], seed: int
) -> dict | None:
    """Run a peer in a process of its own; None if it cannot be run here."""
    tune, draws = length
    command = [python, "-W", "ignore", str(PEER), str(path), name, kind]
    command += [str(draws), str(tune), str(CHAINS), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else None


def rate(answer: dict) -> float:
    """Return effective draws per second."""
    return answer["ess"] / answer["seconds"]


def compare(kind: str, seed: int, options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Print one seed's rows; return the rates that count, ours and the peers'."""
    Y = scores(options.clients, options.sessions, kind, seed)
    path = folder / "scores.npz"
    np.savez(path, Y=Y)
    before = ours(Y, kind, *options.ours, seed)
    answers = {
        name: peer(options.peer_python, name, path, kind, getattr(options, name), seed)
        for name in options.peers
    }
    after = ours(Y, kind, *options.ours, seed + 1)
    rates = {"ours": min(rate(before), rate(after))}
    work = min(one["ess"] / one["spent"] for one in (before, after))
    print(
        f"{kind:>7} seed {seed}: ours {rate(before):.0f} and {rate(after):.0f} per second "
        f"(size {before['ess']:.0f} in {before['seconds']:.2f} s, worst {before['worst']})"
    )
    for name, answer in answers.items():
        if answer is None:
            print(f"{'':>16}{name} was not run")
            continue
        error = before["phi_sd"] / np.sqrt(min(before["ess"], answer["ess"]))
        off = float(np.max(np.abs(before["phi"] - np.array(answer["phi"])) / error))
        if off < 4.0:
            rates[name] = rate(answer)
        print(
            f"{'':>16}{name} {answer['version']} {rate(answer):.1f} per second (size "
            f"{answer['ess']:.0f} in {answer['seconds']:.1f} s): "
            f"{rates['ours'] / rate(answer):.1f} x, per second of processor time "
            f"{work / (answer['ess'] / answer['spent']):.1f} x  "
            f"{'counts' if off < 4.0 else 'DOES NOT COUNT'} "
            f"(phi within {off:.1f} Monte Carlo errors)",
            flush=True,
        )
    return rates


def speed(options: argparse.Namespace) -> None:
    """Print rates and their ratios."""
    print(
        f"\n{options.clients} clients, {options.sessions} sessions, {CHAINS} chains; Stan: not run"
    )
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.kinds:
            found = [compare(kind, seed, options, Path(folder)) for seed in options.seeds]
            mean = np.mean([one["ours"] for one in found])
            print(f"{kind:>7} mean of {len(found)} seeds: ours {mean:.0f} per second")
            for name in options.peers:
                both = [(one["ours"], one[name]) for one in found if name in one]
                if not both:
                    continue
                own, theirs = np.mean(both, axis=0)
                print(f"{'':>16}{name} {theirs:.1f} per second: {own / theirs:.1f} x", flush=True)


def cost(options: argparse.Namespace) -> None:
    """Print time against sessions and the large panel."""
    for kind in options.kinds:
        print(f"\nsessions  microseconds per sweep (200 clients, {kind} lags, one chain)")
        for sessions in (10, 20, 40, 80):
            Y = scores(200, sessions, kind, 1)
            sweeps = 2000 if kind == "fixed" else 600
            clock = time.process_time()
            found = sample_gibbs(*task(Y, kind), draws=sweeps // 2, tune=sweeps // 2, chains=1)
            spent = time.process_time() - clock
            print(f"{sessions:8d} {found.seconds / sweeps * 1e6:8.0f} ({spent / sweeps * 1e6:.0f} "
                  "of processor time)")  # fmt: skip
    if "random" in options.kinds:
        large = ours(scores(1000, 20, "random", 1), "random", 500, 1500, 1)
        print(f"1,000 x 20, random lags: size {large['ess']:.0f} in {large['seconds']:.1f} s")


def process(kind: str, draws: int, cache: str | None = None) -> tuple[float, float, float]:
    """Sample four chains in a new process: seconds, peak megabytes, processor seconds."""
    more = {} if cache is None else {"NUMBA_CACHE_DIR": cache}
    clock = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ONE, kind, str(draws)],
        env=os.environ | more,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - clock
    peak, spent = (float(word) for word in done.stdout.split())
    return seconds, peak, spent


def memory(options: argparse.Namespace) -> None:
    """Print peak memory against draws: what grows are the draws of the population parameters."""
    print("\npeak memory of a process, megabytes (100 x 20, 4 chains)")
    for kind in options.kinds:
        peaks = {draws: process(kind, draws)[1] for draws in (1, 500, 2000, 8000)}
        row = ", ".join(f"{draws:,} draws {peak:.0f}" for draws, peak in peaks.items())
        print(f"{kind:>7} {row}")


def cold(options: argparse.Namespace) -> None:
    """Print how long a new process takes to its first result."""
    print(
        "\nfirst result of a process, from its start (100 x 20, 4 chains of 1,000 and 100 before)"
    )
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            for state in ("nothing compiled", "compiled before"):
                seconds, _, spent = process(kind, 1000, folder)
                print(f"{kind:>7} {state}: {seconds:.1f} s ({spent:.1f} s of processor time)")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--kinds", nargs="*", choices=("random", "fixed"), default=["random", "fixed"]
    )
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    lengths = {"ours": (500, 2000), "nutpie": (400, 1000), "pymc": (500, 500)}
    for name, length in lengths.items():
        parser.add_argument(
            f"--{name}", nargs=2, type=int, default=length, metavar=("TUNE", "DRAWS")
        )
    parser.add_argument(
        "--peers", nargs="*", choices=("nutpie", "pymc"), default=["nutpie", "pymc"]
    )
    parser.add_argument("--peer-python", default=sys.executable, help="one that imports nutpie")
    options = parser.parse_args()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{platform.machine()}, Python {platform.python_version()}, load {load:.1f} at the start")
    parts = {"speed": speed, "cost": cost, "memory": memory, "cold": cold}
    for part in options.parts:
        parts[part](options)


if __name__ == "__main__":
    main()
