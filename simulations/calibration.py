"""Simulation-based calibration of the DSEM: do both engines draw from the posterior they claim.

    python simulations/calibration.py                 small: 20 rounds per cell, into ./calibration
    python simulations/calibration.py --full          100 rounds, into simulations/results
    python simulations/calibration.py --cell slopes-nutpie           one cell; the page shows all

Everything that is random is fixed by ``calibration.toml``. Written are, part by part,
``calibration_CELL.csv`` (ranks of every round, and how its chains went), then ``calibration.csv``
(every parameter's verdict), ``calibration.png`` (ECDFs of ranks) and ``calibration.md``. A run that
was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from alliancedyn import DSEM, Dynamics, SessionPanel, plot, simulate
from alliancedyn.studies.calibration import Calibration, calibrate, judge

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "calibration.toml"
RESULTS = HERE / "results"
PAGE_FIGURE = HERE.parent / "docs" / "images" / "calibration.png"
ABOUT = ["part", "dropped", "seconds", "ess", "rhat", "divergences"]


def main(arguments: list[str] | None = None) -> None:
    """Run the cells and write their results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the rounds of the full study")
    parser.add_argument("--panels", type=int, help="another number of parts per cell")
    parser.add_argument("--cell", action="append", help="only this cell; may be repeated")
    parser.add_argument("--jobs", type=int, default=1, help="not used: chains run side by side")
    parser.add_argument("--out", type=Path, help="where the results go")
    asked = parser.parse_args(arguments)
    config = tomllib.loads(CONFIG.read_text(encoding="utf-8"))
    parts = asked.panels or config["parts"]["full" if asked.full else "small"]
    out = asked.out or (RESULTS if asked.full else Path("calibration"))
    out.mkdir(parents=True, exist_ok=True)
    panel = design(config)
    for cell in config["cells"]:
        if not asked.cell or cell["name"] in asked.cell:
            run_cell(config, cell, panel, parts, out / f"calibration_{cell['name']}.csv")
    write(config, out)
    if asked.full and asked.out is None:
        shutil.copyfile(out / "calibration.png", PAGE_FIGURE)
    print(f"Results: {out}")


def design(config: dict[str, Any]) -> SessionPanel:
    """Return a panel whose clients, sessions and missing scores are those of every round."""
    anything = Dynamics(phi=np.zeros((2, 2)), innovation_cov=np.eye(2), between_cov=np.eye(2))
    size = {name: config[name] for name in ("clients", "sessions", "missing", "seed")}
    return simulate(anything, **size)


def run_cell(
    config: dict[str, Any], cell: dict[str, Any], panel: SessionPanel, parts: int, path: Path
) -> None:
    """Run the parts of a cell that are not in its file yet."""
    options = {name: cell[name] for name in ("sampler", "draws", "tune", "chains")}
    spec = DSEM(random=tuple(cell["random"]), **options)
    rows = pd.read_csv(path) if path.is_file() else pd.DataFrame({"part": []})
    for part in range(parts):
        if part in set(rows["part"]):
            continue
        began = time.process_time()
        found = calibrate(
            spec,
            panel,
            replications=config["parts"]["rounds"],
            ranks=cell["ranks"],
            seed=config["seed"] + part,
            level=config["level"],
        )
        seconds = (time.process_time() - began) / len(found.ranks)
        about = pd.DataFrame(
            {"part": part, "dropped": 0, "seconds": seconds, **found.chains.to_dict("list")}
        )
        about.loc[0, "dropped"] = found.dropped
        rows = pd.concat([rows, pd.concat([about, found.ranks.astype(int)], axis=1)])
        rows.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
        print(f"{cell['name']}, part {part}: {seconds:.1f} CPU s a round", file=sys.stderr)


def read(config: dict[str, Any], out: Path) -> dict[str, Calibration]:
    """Return the cells that have rounds."""
    found = {}
    for cell in config["cells"]:
        path = out / f"calibration_{cell['name']}.csv"
        if path.is_file():
            rows = pd.read_csv(path)
            ranks = rows.drop(columns=ABOUT)
            found[cell["name"]] = Calibration(
                ranks,
                cell["ranks"],
                judge(ranks, cell["ranks"], config["level"]),
                int(rows["dropped"].sum()),
                rows[["ess", "rhat", "divergences"]],
                config["level"],
                cell["sampler"],
            )
    return found


def write(config: dict[str, Any], out: Path) -> None:
    """Write table, figure and page of all cells that have rounds."""
    cells = read(config, out)
    table = pd.concat({name: cell.table for name, cell in cells.items()}, names=["cell"])
    table.to_csv(out / "calibration.csv", float_format="%.6g", lineterminator="\n")
    axes = plot.panels(2, (9.0, 4.0), share_y=True)
    for ax, model in zip(axes, ("intercepts", "slopes"), strict=True):
        shown = {
            name.removeprefix(f"{model}-"): cell
            for name, cell in cells.items()
            if name.startswith(model)
        }
        if shown:
            plot.calibration(shown, ax=ax, title=f"Random {model}")
    axes[1].set_ylabel("")
    plot.save(axes, out / "calibration.png")
    page = f"# Calibration of the DSEM's engines\n\n{summary(config, cells)}\n\n{markdown(cells)}\n"
    (out / "calibration.md").write_text(page, encoding="utf-8")


def summary(config: dict[str, Any], cells: dict[str, Calibration]) -> str:
    """Say in words what was found."""
    said = [
        f"{config['clients']} clients, {config['sessions']} sessions, {config['missing']:.0%} of "
        f"scores missing; seed {config['seed']}; simultaneous {config['level']:.0%} bands."
    ]
    said += [f"{name}: {cell}" for name, cell in cells.items()]
    return "\n\n".join(said)


def markdown(cells: dict[str, Calibration]) -> str:
    """Return one row per cell."""
    head = ["model and engine", "rounds", "dropped", "ranks among", "parameters", "in own band"]
    head += ["in the band for all", "smallest ESS, median", "rounds with fewer", "divergent draws"]
    rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for name, cell in cells.items():
        rows.append(
            [
                *(name, str(len(cell.ranks)), str(cell.dropped), str(cell.draws)),
                *(str(len(cell.table)), str(int(cell.table["inside"].sum()))),
                *(str(int(cell.table["inside_all"].sum())), f"{cell.chains['ess'].median():.0f}"),
                *(str(cell.few), f"{int(cell.chains['divergences'].sum()):,}"),
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main()
