"""Time continuous time: no two gaps alike, one schedule for all, and discrete time beside them.

    python benchmarks/continuous_time.py [--sizes 200x10 1000x20]

Whole fits with standard errors, warm, on one thread, median of several; and one evaluation of the
log-likelihood with its score. Before a time counts, the log-likelihood of the first clients is
compared with dense normals that share no code with the filter.
"""

from __future__ import annotations

import argparse
import os
import platform
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from scipy.linalg import expm, solve_continuous_lyapunov

import alliancedyn as ad
from alliancedyn.engine import likelihood
from alliancedyn.engine.continuous import discretise, stationary_cov
from alliancedyn.engine.kalman import loglik_by_client

DRIFT = np.array([[-0.9, -0.03], [-0.5, -0.7]])
DIFFUSION = np.array([[1.2, -0.3], [-0.3, 4.5]])
BETWEEN = np.array([[0.8, -0.5], [-0.5, 4.0]])
DENSE = 3  # clients whose log-likelihood is checked


def make_panel(clients: int, sessions: int, unique: bool, seed: int = 1) -> ad.SessionPanel:
    """Simulate a settled process at unique gaps, or at one schedule of 7, 14 and 28 days."""
    rng = np.random.default_rng(seed)
    gaps = rng.gamma(4.0, 1.75, (clients, sessions - 1))
    if not unique:
        gaps = np.broadcast_to(rng.choice([7.0, 14.0, 28.0], sessions - 1), gaps.shape)
    phi, psi = discretise(DRIFT, DIFFUSION, gaps.ravel() / 7.0)
    phi, psi = (m.reshape(clients, sessions - 1, 2, 2) for m in (phi, psi))
    w = rng.multivariate_normal(np.zeros(2), stationary_cov(DRIFT, DIFFUSION), clients)
    path = [w]
    for t in range(sessions - 1):
        noise = np.linalg.cholesky(psi[:, t]) @ rng.standard_normal((clients, 2, 1))
        path.append((phi[:, t] @ path[-1][..., None] + noise)[..., 0])
    stable = rng.multivariate_normal([5.0, 12.0], BETWEEN, clients)
    Y = np.stack(path, axis=1) + stable[:, None]
    Y[rng.random(Y.shape) < 0.1] = np.nan
    frame = pd.DataFrame(
        {
            "client": np.repeat(np.arange(clients), sessions),
            "session": np.tile(np.arange(1, sessions + 1), clients),
            "day": np.pad(gaps.cumsum(axis=1), ((0, 0), (1, 0))).ravel(),
            "alliance": Y[:, :, 0].ravel(),
            "symptoms": Y[:, :, 1].ravel(),
        }
    )
    names = {"alliance": "alliance", "symptoms": "symptoms"}
    return ad.SessionPanel.from_frame(
        frame, client="client", session="session", day="day", variables=names
    )


def dense(panel: ad.SessionPanel) -> np.ndarray:
    """Log-likelihoods of the first clients at the values that made the data."""
    arrays = panel.arrays()
    settled = solve_continuous_lyapunov(DRIFT, -DIFFUSION)
    out = np.empty(DENSE)
    for i in range(DENSE):
        h = arrays.days[i] / 7.0
        cov = np.zeros((len(h), 2, len(h), 2))
        for t in range(len(h)):
            for s in range(t, len(h)):
                cov[s, :, t] = expm(DRIFT * (h[s] - h[t])) @ settled + BETWEEN
                cov[t, :, s] = cov[s, :, t].T
        seen = ~np.isnan(arrays.Y[i].ravel())
        distance = (arrays.Y[i] - [5.0, 12.0]).ravel()[seen]
        S = cov.reshape(2 * len(h), -1)[np.ix_(seen, seen)]
        out[i] = -0.5 * (
            seen.sum() * np.log(2.0 * np.pi)
            + np.linalg.slogdet(S)[1]
            + distance @ np.linalg.solve(S, distance)
        )
    return out


def off_by(panel: ad.SessionPanel) -> float:
    """Return how far our log-likelihoods are from the dense ones, relative."""
    objective = ad.ContinuousTime(initial="stationary").objective(panel)
    made = {
        "drift": DRIFT[None],
        "diffusion_cov": DIFFUSION[None],
        "between_cov": BETWEEN[None],
        "mean": np.array([[5.0, 12.0]]),
    }
    (system,) = objective.systems(made)
    ours = loglik_by_client(system, objective.shares[0].blocks)[:DENSE]
    return float(np.abs(ours / dense(panel) - 1.0).max())


def seconds(panel: ad.SessionPanel, spec: ad.RICLPM | ad.ContinuousTime, runs: int = 5) -> float:
    """Median seconds of a whole fit."""
    spec.fit(panel, strict=False)
    times = []
    for _ in range(runs):
        clock = time.perf_counter()
        spec.fit(panel, strict=False)
        times.append(time.perf_counter() - clock)
    return float(np.median(times))


def evaluation(
    panel: ad.SessionPanel, spec: ad.RICLPM | ad.ContinuousTime, runs: int = 20
) -> float:
    """Median milliseconds of the log-likelihood with its score."""
    objective = spec.objective(panel)
    objective.value_and_score(objective.start)
    times = []
    for _ in range(runs):
        clock = time.perf_counter()
        objective.value_and_score(objective.start)
        times.append(time.perf_counter() - clock)
    return 1e3 * float(np.median(times))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="*", default=["200x10", "1000x20"])
    options = parser.parse_args()
    likelihood.THREADS = 1
    print(f"{platform.machine()}, Python {platform.python_version()}, one thread")
    print("     size  model                              fit s   value and score ms")
    for size in options.sizes:
        clients, sessions = (int(part) for part in size.split("x"))
        unique = make_panel(clients, sessions, unique=True)
        shared = make_panel(clients, sessions, unique=False)
        wrong = max(off_by(unique), off_by(shared))
        if wrong > 1e-8:
            raise SystemExit(f"log-likelihoods are off by {wrong:.0e}: no time counts")
        for name, panel, spec in (
            ("continuous, no two gaps alike", unique, ad.ContinuousTime()),
            ("continuous, one schedule", shared, ad.ContinuousTime()),
            ("continuous, sessions", unique, ad.ContinuousTime(time="session")),
            ("RI-CLPM, one mean", unique, ad.RICLPM(means="equal")),
        ):
            print(
                f"{size:>9}  {name:30} {seconds(panel, spec):9.2f} {evaluation(panel, spec):12.1f}"
            )
        print(f"           answers within {wrong:.0e} of dense normals")


if __name__ == "__main__":
    main()
