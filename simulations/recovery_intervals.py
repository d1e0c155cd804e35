"""Coverage of two kinds of interval for lagged effects: estimate +- 1.96 SE, and by likelihood.

    python simulations/recovery_intervals.py [--replications N] [--jobs N] [--out DIR]

The first kind is that of ``fit.table()``, the second that of ``fit.profile()``: all values that
lower the log-likelihood, everything else maximized again, by less than 1.92. World, dropout,
missing scores and seed are those of ``recovery_grid.toml``. Writes ``recovery_intervals.csv``.
"""

from __future__ import annotations

import argparse
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from alliancedyn import RICLPM, Dropout, Dynamics, simulate
from alliancedyn.replicate import Failure, replicate

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Trial:
    """One panel: whether either interval holds the true value, for each lagged effect."""

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
        wald = fit.table()
        true = truth.params()
        covered = []
        for name in paths(truth):
            profile = fit.profile(name)
            covered.append(
                (
                    wald.loc[name, "lower"] < true[name] < wald.loc[name, "upper"],
                    profile.lower < true[name] < profile.upper,
                )
            )
        return np.array(covered)


def paths(truth: Dynamics) -> list[str]:
    """Name the lagged effects."""
    return [name for name in truth.params().index if name.startswith("phi[")]


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
    for kind, covered in (("wald", found[..., 0]), ("profile", found[..., 1])):
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
