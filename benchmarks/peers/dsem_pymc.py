"""Sample the two-level VAR(1) with explicit latent states by PyMC; print one JSON line.

    python dsem_pymc.py DATA.npz nutpie|pymc random|fixed DRAWS TUNE CHAINS SEED

Written for speed: missing scores are the latent states that are left, everything is one vectorized
expression, random lags are non-centered, intercepts centered, correlations by LKJ(2) factors.
Seconds are those of sampling, tuning included, compilation not; "spent" is processor time.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import arviz as az
import numpy as np
import pymc as pm
import pytensor.tensor as pt


def model(Y: np.ndarray, random: bool) -> pm.Model:
    """Write the model down; priors as in the package."""
    N, _, k = Y.shape
    holes = np.argwhere(np.isnan(Y))
    filled = np.nan_to_num(Y)
    with pm.Model() as found:
        mean = pm.Normal("mean", 0.0, 5.0, shape=k)
        factors = {}
        for name in ("between", "innovation", "initial"):
            factors[name], _, _ = pm.LKJCholeskyCov(
                name, n=k, eta=2.0, sd_dist=pm.HalfNormal.dist(2.0, shape=k), compute_corr=True
            )
            pm.Deterministic(f"{name}_cov", factors[name] @ factors[name].T)
        m = pm.MvNormal("m", mean, chol=factors["between"], shape=(N, k))
        scores = pt.as_tensor(filled)
        if len(holes):
            missing = pm.Flat("missing", shape=len(holes))
            scores = pt.set_subtensor(scores[tuple(holes.T)], missing)
        phi = pm.Normal("phi", 0.0, 0.5, shape=(k, k))
        w = scores - m[:, None, :]
        if random:
            tau = pm.HalfNormal("phi_sd", 0.3, shape=(k, k))
            lags = phi + tau * pm.Normal("z", shape=(N, k, k))
            carried = (lags[:, None, :, :] * w[:, :-1, None, :]).sum(axis=-1)
        else:
            carried = w[:, :-1] @ phi.T
        steps = (w[:, 1:] - carried).reshape((-1, k))
        for name, e in (("innovation", steps), ("initial", w[:, 0])):
            L = factors[name]
            z = pt.linalg.solve_triangular(L, e.T, lower=True)
            pm.Potential(
                f"{name}_loglik", -0.5 * pt.sum(z**2) - e.shape[0] * pt.sum(pt.log(pt.diagonal(L)))
            )
    return found


def main() -> None:
    """Sample, and print seconds, effective sizes and posterior means."""
    path, sampler, kind, draws, tune, chains, seed = sys.argv[1:]
    written = model(np.load(path)["Y"], kind == "random")
    count = {"draws": int(draws), "tune": int(tune), "chains": int(chains)}
    names = ["mean", "phi", "between_cov", "innovation_cov", "initial_cov"]
    names += ["phi_sd"] if kind == "random" else []
    if sampler == "nutpie":
        import nutpie

        ready = nutpie.compile_pymc_model(written)
        clock, spent = time.perf_counter(), time.process_time()
        trace = nutpie.sample(ready, **count, seed=int(seed), progress_bar=False, cores=2)
        seconds, spent = time.perf_counter() - clock, time.process_time() - spent
        version = nutpie.__version__
    else:
        with written:
            trace = pm.sample(
                **count,
                random_seed=int(seed),
                progressbar=False,
                cores=2,
                compute_convergence_checks=False,
            )
        seconds = float(trace.posterior.attrs["sampling_time"])  # without compilation
        times = os.times()  # every chain has a process, which compiles nothing
        spent = times.children_user + times.children_system
        version = pm.__version__
    posterior = trace.posterior
    flat = {name: posterior[name].values.reshape(*posterior[name].shape[:2], -1) for name in names}
    k = int(np.sqrt(flat["phi"].shape[2]))
    once = np.flatnonzero(np.triu(np.ones((k, k))).ravel())
    columns = [x[:, :, once] if name.endswith("_cov") else x for name, x in flat.items()]
    answers = {
        "seconds": seconds,
        "spent": spent,
        "version": version,
        "ess": min(float(az.ess(x[:, :, j])) for x in columns for j in range(x.shape[2])),
        "phi": flat["phi"].mean(axis=(0, 1)).tolist(),
        "phi_sd": flat["phi"].std(axis=(0, 1)).tolist(),
    }
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
