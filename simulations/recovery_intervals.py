"""Coverage of two kinds of interval for lagged effects: estimate +- 1.96 SE, and by likelihood.

    python simulations/recovery_intervals.py [--replications N] [--jobs N] [--out DIR]

At the true value v of a lagged effect, the first kind covers it if |x - v| / SE < 1.96, the second
(profile likelihood) if twice the drop of the log-likelihood, with the effect held at v and all
else maximized again, is below 1.96 squared. World, dropout, missing scores and seed are those of
``recovery_grid.toml``. Writes ``recovery_intervals.csv``.
"""

from __future__ import annotations

import argparse
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from alliancedyn import RICLPM, Dropout, Dynamics, SessionPanel, simulate
from alliancedyn.replicate import Failure, replicate
from alliancedyn.results import Fit

HERE = Path(__file__).resolve().parent
Z = 1.959963984540054
REFUSED = 1e12  # told to the optimizer where the likelihood does not exist


@dataclass(frozen=True)
class Trial:
    """One panel: |x - v| / SE and the likelihood ratio at v, for each lagged effect."""

    config: dict[str, Any]

    def __call__(self, seed: np.random.SeedSequence) -> np.ndarray | Failure:
        """Return (4, 2), one row per lagged effect."""
        truth = Dynamics.time_ordered(**self.config["truth"])
        cell, seen = self.config["intervals"], dict(self.config["seen"])
        dropout = Dropout(**seen.pop("dropout"))
        panel = simulate(
            truth, cell["clients"], cell["sessions"], seed=seed, dropout=dropout, **seen
        )
        fit = RICLPM().fit(panel, seed=0, strict=False)
        if not fit.converged:
            return Failure("Not converged", fit.diagnostics["failure"])
        true = truth.params()
        return np.array(
            [
                (abs(fit.params[name] - true[name]) / fit.se[name], ratio(fit, panel, name, true))
                for name in paths(truth)
            ]
        )


def paths(truth: Dynamics) -> list[str]:
    """Name the lagged effects."""
    return [name for name in truth.params().index if name.startswith("phi[")]


def ratio(fit: Fit, panel: SessionPanel, name: str, true: pd.Series) -> float:
    """Return twice the drop of the log-likelihood with one lagged effect held at its true value."""
    objective = RICLPM().objective(panel)
    held = {**fit.params.to_dict(), name: float(true[name])}
    layout = objective.layout
    theta = layout.theta(layout.from_params(held))
    free = np.array([other != name for other in objective.names])

    def negative(values: np.ndarray) -> tuple[float, np.ndarray]:
        at = theta.copy()
        at[free] = values
        value, score = objective.value_and_score(at)
        return (-value, -score[free]) if np.isfinite(value) else (REFUSED, 0.0 * values)

    found = minimize(negative, theta[free], jac=True, method="BFGS", options={"gtol": 1e-4})
    return 2.0 * (float(fit.loglik or np.nan) + float(found.fun))


def main(arguments: list[str] | None = None) -> None:
    """Run the study and write its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int)
    parser.add_argument("--jobs", type=int, default=-1)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    asked = parser.parse_args(arguments)
    config = tomllib.loads((HERE / "recovery_grid.toml").read_text(encoding="utf-8"))
    cell = config["intervals"]
    n = asked.replications or cell["replications"]
    outcomes = replicate(Trial(config), n, cell["seed"], asked.jobs)
    found = np.stack([one for one in outcomes if not isinstance(one, Failure)])
    table = pd.DataFrame({"parameter": paths(Dynamics.time_ordered(**config["truth"]))})
    for kind, covered in (("wald", found[..., 0] < Z), ("profile", found[..., 1] < Z * Z)):
        share = covered.mean(axis=0)
        table[f"coverage_{kind}"] = share
        table[f"mcse_{kind}"] = np.sqrt(share * (1.0 - share) / len(found))
    table["n"], table["failed"] = len(found), n - len(found)
    asked.out.mkdir(parents=True, exist_ok=True)
    target = asked.out / "recovery_intervals.csv"
    table.to_csv(target, index=False, float_format="%.6g", lineterminator="\n")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
