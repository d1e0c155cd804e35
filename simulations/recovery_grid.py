"""Recover the RI-CLPM over a grid of clients and sessions, with dropout and missing scores.

    python simulations/recovery_grid.py                 100 panels per cell, into ./recovery-grid
    python simulations/recovery_grid.py --full          500 per cell, into simulations/results

Everything that is random is fixed by ``recovery_grid.toml``. Written are ``recovery_grid.csv``
(every parameter of every cell), ``recovery_grid_cells.csv`` (failures and bounds),
``recovery_grid.png`` and ``recovery_grid.md`` (the lagged effects, as a page).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from alliancedyn import RICLPM, Dropout, Dynamics, plot
from alliancedyn.plot.style import STYLE, look, styled
from alliancedyn.studies.recovery import RecoveryStudy, recover

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "recovery_grid.toml"
RESULTS = HERE / "results"
PAGE_FIGURE = HERE.parent / "docs" / "images" / "recovery-grid.png"
BIAS, COVERAGE = 4.0, 3.0  # Monte Carlo errors that a recovered parameter may be off
LEVEL = 0.95


def main(arguments: list[str] | None = None) -> None:
    """Run the grid and write its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the replications of the full study")
    parser.add_argument(
        "--panels", "--replications", type=int, help="another number of panels per cell"
    )
    parser.add_argument("--jobs", type=int, default=-1, help="processes; -1 = one per processor")
    parser.add_argument("--out", type=Path, help="where the results go")
    asked = parser.parse_args(arguments)
    config = tomllib.loads(CONFIG.read_text(encoding="utf-8"))
    size = asked.panels or config["replications"]["full" if asked.full else "small"]
    published = asked.full and asked.out is None
    out = asked.out or (RESULTS if asked.full else Path("recovery-grid"))
    studies = [run_cell(config, cell, size, asked.jobs) for cell in config["cells"]]
    write(studies, [cell["seed"] for cell in config["cells"]], out)
    if published:
        PAGE_FIGURE.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(out / "recovery_grid.png", PAGE_FIGURE)
    print(f"Results: {out}")


def run_cell(
    config: dict[str, Any], cell: dict[str, int], replications: int, jobs: int
) -> RecoveryStudy:
    """Run one cell of the grid."""
    seen = dict(config["seen"])
    study = recover(
        RICLPM(),
        Dynamics.time_ordered(**config["truth"]),
        clients=cell["clients"],
        sessions=cell["sessions"],
        replications=replications,
        seed=cell["seed"],
        jobs=jobs,
        dropout=Dropout(**seen.pop("dropout")),
        **seen,
        level=LEVEL,
        progress=_tell,
    )
    print(f"\r{study!r} in {study.seconds:.0f} s", file=sys.stderr)
    return study


def _tell(done: int, total: int, doing: str) -> None:
    print(f"\r{doing}: {done} of {total}", end="", file=sys.stderr, flush=True)


def write(studies: list[RecoveryStudy], seeds: list[int], out: Path) -> None:
    """Write tables, figure and page into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    grid, cells = collect(studies), describe(studies, seeds)
    grid.to_csv(out / "recovery_grid.csv", index=False, float_format="%.6g", lineterminator="\n")
    cells.to_csv(out / "recovery_grid_cells.csv", index=False, lineterminator="\n")
    plot.save(draw(lags(grid)), out / "recovery_grid.png")
    page = f"# Recovery grid\n\n{summary(grid, cells)}\n\n{markdown(grid, cells)}\n"
    (out / "recovery_grid.md").write_text(page, encoding="utf-8")


def collect(studies: list[RecoveryStudy]) -> pd.DataFrame:
    """Return every parameter of every cell, one row each."""
    tables = []
    for study in studies:
        table = study.table()
        table["at_bound"] = pd.Series(study.boundaries).reindex(table.index).fillna(0).astype(int)
        table["bias_z"] = table["bias"] / table["mcse_bias"]
        nominal = np.sqrt(LEVEL * (1.0 - LEVEL) / table["intervals"])
        table["coverage_z"] = (table["coverage"] - LEVEL) / nominal
        table = table.reset_index()
        table.insert(0, "clients", study.clients)
        table.insert(1, "sessions", study.sessions)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def describe(studies: list[RecoveryStudy], seeds: list[int]) -> pd.DataFrame:
    """Return one row per cell: replications, failures and their reasons, bounds."""
    return pd.DataFrame(
        {
            "clients": study.clients,
            "sessions": study.sessions,
            "seed": seed,
            "replications": study.replications,
            "failed": sum(study.failures.values()),
            "reasons": "; ".join(f"{reason} ({n})" for reason, n in study.failures.items()),
            "at_bound": "; ".join(f"{name} ({n})" for name, n in study.boundaries.items()),
        }
        for study, seed in zip(studies, seeds, strict=True)
    )


def lags(grid: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the lagged effects."""
    return grid[grid["parameter"].str.startswith("phi[")]


def off(grid: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose bias or coverage is off by more than Monte Carlo error."""
    recovered = (grid["bias_z"].abs() <= BIAS) & (grid["coverage_z"].abs() <= COVERAGE)
    return grid[~recovered]


def summary(grid: pd.DataFrame, cells: pd.DataFrame) -> str:
    """Say in words how many lagged effects were recovered, and name those that were not."""
    paths = lags(grid)
    large = paths[paths["clients"] >= 200]
    lines = [
        f"{cells['replications'].iloc[0]:,} panels per cell, {cells['failed'].sum()} of "
        f"{cells['replications'].sum():,} without a converged fit.",
        f"Lagged effects at 200 or more clients: {len(large) - len(off(large))} of {len(large)} "
        f"with a bias within {BIAS:g} Monte Carlo errors and a coverage within {COVERAGE:g} of "
        f"{LEVEL:g}. At 50 clients: {len(paths) - len(large) - len(off(paths)) + len(off(large))} "
        f"of {len(paths) - len(large)}.",
    ]
    for row in off(paths).itertuples():
        lines.append(
            f"Off: {row.parameter} at {row.clients} x {row.sessions}: bias {row.bias:+.4f} "
            f"({row.bias_z:+.1f} Monte Carlo errors), coverage {row.coverage:.3f} "
            f"({row.coverage_z:+.1f})."
        )
    return "\n".join(lines)


def markdown(grid: pd.DataFrame, cells: pd.DataFrame) -> str:
    """Return the lagged effects as a table, Monte Carlo errors in brackets."""
    head = ["clients", "sessions", "parameter", "true", "bias", "empirical SE", "model SE"]
    head += ["coverage", "power", "failed", "at a bound"]
    rows = [head, ["---:"] * 2 + ["---"] + ["---:"] * 8]
    failed = cells.set_index(["clients", "sessions"])["failed"]
    bounds = grid.groupby(["clients", "sessions"])["at_bound"].sum()
    for row in lags(grid).itertuples():
        cell = (row.clients, row.sessions)
        rows.append(
            [
                *(f"{row.clients:,}", str(row.sessions), f"`{row.parameter}`", f"{row.true:.3f}"),
                f"{row.bias:+.4f} ({row.mcse_bias:.4f})",
                f"{row.empirical_se:.4f} ({row.mcse_empirical_se:.4f})",
                f"{row.model_se:.4f} ({row.mcse_model_se:.4f})",
                f"{row.coverage:.3f} ({row.mcse_coverage:.3f})",
                f"{row.power:.3f} ({row.mcse_power:.3f})",
                *(str(failed[cell]), str(bounds[cell])),
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def draw(paths: pd.DataFrame) -> np.ndarray:
    """Draw bias and coverage of the lagged effects with the range that chance allows."""
    names = list(dict.fromkeys(paths["parameter"]))
    with styled():
        axes = plot.panels(2, (8.6, 5.4))
        for side, measure, unit in ((0, "bias", BIAS), (1, "coverage", COVERAGE)):
            _draw_side(axes[side], paths, names, measure, unit)
        axes[0].set_title("Bias, true value at 0")
        axes[0].set_xlabel(f"score points per score point; bars: {BIAS:g} Monte Carlo errors")
        axes[1].set_title(f"Coverage of {LEVEL:.0%} intervals")
        axes[1].set_xlabel(f"share; band: {COVERAGE:g} Monte Carlo errors around {LEVEL:g}")
        axes[0].set_ylabel("clients × sessions")
        axes[1].set_yticklabels([])
        axes[1].legend(loc="lower left")
    return axes


def _draw_side(ax: Axes, paths: pd.DataFrame, names: list[str], measure: str, unit: float) -> None:
    cells = list(dict.fromkeys(zip(paths["clients"], paths["sessions"], strict=True)))
    place = {cell: -position for position, cell in enumerate(cells)}
    for j, name in enumerate(names):
        rows = paths[paths["parameter"] == name]
        y = np.array([place[cell] for cell in zip(rows["clients"], rows["sessions"], strict=True)])
        spread = unit * rows["mcse_bias"] if measure == "bias" else None
        ax.errorbar(
            *(rows[measure], y + 0.24 - 0.16 * j),
            xerr=spread,
            **{"fmt": look(j).marker, "color": look(j).color, "label": name},
            **{"markersize": 4, "linewidth": 1.0},
        )
    if measure == "coverage":
        half = unit * np.sqrt(LEVEL * (1.0 - LEVEL) / paths["intervals"].min())
        ax.axvspan(LEVEL - half, LEVEL + half, color=STYLE["axes.edgecolor"], alpha=0.35, zorder=0)
    ax.axvline(0.0 if measure == "bias" else LEVEL, color=STYLE["axes.labelcolor"], linewidth=0.8)
    ax.set_yticks(list(place.values()), [f"{n:,} × {t}" for n, t in cells])


if __name__ == "__main__":
    main()
