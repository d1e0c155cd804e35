"""Five estimators of lagged effects on the same panels, from 4 sessions to 40.

    python simulations/benchmark_estimators.py          a few panels, into ./benchmark-estimators
    python simulations/benchmark_estimators.py --full   all of them, into simulations/results

The world stands in ``benchmark_estimators.toml``: stationary, clients with stable differences.
Pooled regression and regression within clients (person-mean centering) are biased at every number
of sessions, by an amount that is exact here; dynamic-panel GMM, the RI-CLPM and ML-SEM are not,
and differ in precision. Written are ``benchmark_estimators.csv``, ``.png`` and ``.md``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from demonstrations.lagged import limit
from results_page import markdown

from alliancedyn import MLSEM, RICLPM, DynamicPanelGMM, Dynamics, plot, simulate
from alliancedyn.errors import AllianceDynError
from alliancedyn.models.instrument_guards import bracket
from alliancedyn.plot.style import STYLE, look, styled
from alliancedyn.replicate import Failure, replicate
from alliancedyn.studies.performance import performance

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "benchmark_estimators.toml"
RESULTS = HERE / "results"
PAGE_FIGURES = HERE.parent / "docs" / "images"
NAME = "benchmark_estimators"
LEVEL = 0.95
EFFECTS = ("phi[symptoms,symptoms]", "phi[symptoms,alliance]")
REGRESSIONS = ("pooled", "person-centered")
MODELS = {"GMM": DynamicPanelGMM(), "RI-CLPM": RICLPM(), "ML-SEM": MLSEM()}
ESTIMATORS = (*REGRESSIONS, *MODELS)


def main(arguments: list[str] | None = None) -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the panels of the full study")
    parser.add_argument("--panels", type=int, help="another number of panels per cell")
    parser.add_argument("--jobs", type=int, default=1, help="processes; -1 = one per processor")
    parser.add_argument("--out", type=Path, help="where the results go")
    asked = parser.parse_args(arguments)
    config = tomllib.loads(CONFIG.read_text(encoding="utf-8"))
    config["study"].update(config["study"]["full" if asked.full else "small"])
    config["study"]["panels"] = asked.panels or config["study"]["panels"]
    out = asked.out or (RESULTS if asked.full else Path("benchmark-estimators"))
    write(run(config, asked.jobs), out)
    if asked.full and asked.out is None:
        PAGE_FIGURES.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(out / f"{NAME}.png", PAGE_FIGURES / "benchmark-estimators.png")
    print(f"Results: {out}")


def world(config: dict[str, Any]) -> Dynamics:
    """Return the world of the configuration."""
    return Dynamics.time_ordered(**config["world"])


# What infinitely many clients would give ------------------------------------------------------


def limits(truth: Dynamics, sessions: int) -> dict[str, np.ndarray]:
    """Return what both regressions give with infinitely many clients: (2,) each, as `EFFECTS`."""
    means = zip(REGRESSIONS, (False, True), strict=True)
    return {name: limit(truth, sessions, own)[1, ::-1] for name, own in means}


# One panel ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """One panel, seen by every estimator: estimates and standard errors, (estimators, 2, 2)."""

    truth: Dynamics
    clients: int
    sessions: int
    most: dict[str, int]

    def __call__(self, seed: np.random.SeedSequence) -> np.ndarray:
        """Simulate a panel and estimate; NaN where an estimator has no answer."""
        panel = simulate(self.truth, self.clients, self.sessions, seed=seed)
        alliance, symptoms = np.moveaxis(panel.arrays().Y, 2, 0)
        X = np.full((*symptoms.shape, 2), np.nan)
        X[:, 1:, 0], X[:, 1:, 1] = symptoms[:, :-1], alliance[:, :-1]
        ends = bracket(symptoms, X, session_effects=False)
        out = np.full((len(ESTIMATORS), 2, len(EFFECTS)), np.nan)
        out[0, 0], out[1, 0] = ends.pooled, ends.within
        for i, (name, model) in enumerate(MODELS.items(), start=len(REGRESSIONS)):
            if self.sessions > self.most[name]:
                continue
            try:
                fit = model.fit(panel, strict=False)
            except AllianceDynError:
                continue
            if fit.converged:
                out[i, 0] = fit.params[list(EFFECTS)]
                out[i, 1] = fit.se[list(EFFECTS)]
        return out


def run(config: dict[str, Any], jobs: int) -> pd.DataFrame:
    """Return one row per number of sessions, estimator and effect."""
    study, truth = config["study"], world(config)
    true = truth.params()[list(EFFECTS)].to_numpy(float)
    tables = []
    for place, sessions in enumerate(study["sessions"]):
        print(f"\r{sessions} sessions  ", end="", file=sys.stderr, flush=True)
        seed = study["seed"] + place
        task = Panel(truth, study["clients"], sessions, config["most_sessions"])
        outcomes = replicate(task, study["panels"], seed, jobs)
        broken = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
        if broken:
            raise RuntimeError(f"{len(broken)} panels failed: {broken[0].reason}")
        exact = limits(truth, sessions)
        for i, name in enumerate(ESTIMATORS):
            if sessions > config["most_sessions"].get(name, sessions):
                continue
            own = np.array([outcome[i] for outcome in outcomes])
            found = performance(own[:, 0], own[:, 1], true, LEVEL)
            measures = ("true", "mean", "mcse_bias", "empirical_se", "mcse_empirical_se")
            measures += ("rmse", "model_se", "coverage", "mcse_coverage")
            table = pd.DataFrame({"parameter": EFFECTS, **{key: found[key] for key in measures}})
            table.insert(0, "sessions", sessions)
            table.insert(1, "estimator", name)
            table["limit"] = exact.get(name, true)
            table["failed"] = study["panels"] - found["n"].astype(int)
            table["panels"], table["clients"], table["seed"] = (
                study["panels"],
                study["clients"],
                seed,
            )
            tables.append(table)
    print(file=sys.stderr)
    return pd.concat(tables, ignore_index=True)


# What is written ------------------------------------------------------------------------------


def write(results: pd.DataFrame, out: Path) -> None:
    """Write table, figure and page into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"{NAME}.csv"
    results.to_csv(target, index=False, float_format="%.6g", lineterminator="\n")
    shown = pd.read_csv(target)  # figure and page show what the file holds
    plot.save(draw(shown), out / f"{NAME}.png")
    parts = ["# Estimators side by side"]
    parts += [table_of(shown, effect) for effect in EFFECTS]
    parts += [coverage_of(shown)]
    (out / f"{NAME}.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def table_of(results: pd.DataFrame, effect: str) -> str:
    """Return mean estimates, Monte Carlo errors in brackets; exact limits of the regressions."""
    some = results[results["parameter"] == effect]
    true = some["true"].iloc[0]
    head = ["sessions", *(f"{name}, exact" for name in REGRESSIONS), *ESTIMATORS]
    rows = [head]
    for sessions, own in some.groupby("sessions"):
        by = own.set_index("estimator")
        exact = [f"{by.loc[name, 'limit']:.3f}" for name in REGRESSIONS]
        seen = [
            f"{by.loc[name, 'mean']:.3f} ({by.loc[name, 'mcse_bias']:.3f})"
            if name in by.index
            else ""
            for name in ESTIMATORS
        ]
        rows.append([str(sessions), *exact, *seen])
    return f"`{effect}`, in truth {true:.2f}\n\n{markdown(rows, '---:')}"


def coverage_of(results: pd.DataFrame) -> str:
    """Return spread and coverage of the models' estimates of the forward effect."""
    some = results[(results["parameter"] == EFFECTS[1]) & results["estimator"].isin(MODELS)]
    rows = [["sessions", *(f"{name}, {what}" for name in MODELS for what in ("SD", "coverage"))]]
    for sessions, own in some.groupby("sessions"):
        by, cells = own.set_index("estimator"), []
        for name in MODELS:
            if name not in by.index:
                cells += ["", ""]
                continue
            r = by.loc[name]
            cells += [f"{r['empirical_se']:.3f}", f"{r['coverage']:.2f} ({r['mcse_coverage']:.2f})"]
        rows.append([str(sessions), *cells])
    return f"`{EFFECTS[1]}`: spread over panels, and coverage of 95 % intervals\n\n" + markdown(
        rows, "---:"
    )


def draw(results: pd.DataFrame) -> np.ndarray:
    """Draw mean estimates against sessions, one panel per effect; bars are spread over panels."""
    titles = ("symptoms → symptoms", "alliance → symptoms")
    with styled():
        axes = plot.panels(len(EFFECTS), (9.0, 3.8))
        for ax, effect, title in zip(axes, EFFECTS, titles, strict=True):
            some = results[results["parameter"] == effect]
            for j, name in enumerate(ESTIMATORS):
                own, looks = some[some["estimator"] == name], look(j)
                ax.errorbar(
                    own["sessions"] * (1.0 + 0.015 * (j - 2)),
                    own["mean"],
                    yerr=own["empirical_se"],
                    color=looks.color,
                    marker=looks.marker,
                    linewidth=1.2,
                    label=name,
                )
            ax.axhline(some["true"].iloc[0], color=STYLE["axes.labelcolor"], linewidth=0.8)
            ax.set_xscale("log")
            ax.set_xticks(ticks := sorted(set(some["sessions"])), [str(t) for t in ticks])
            ax.minorticks_off()
            ax.set_xlabel("sessions")
            ax.set_title(title)
        axes[0].set_ylabel("points per point")
        axes[0].legend(loc="lower right")
    return axes


if __name__ == "__main__":
    main()
