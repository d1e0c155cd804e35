"""Demonstrations whose answer is known: what ordinary analyses find where the truth is written.

    python simulations/known_answers.py                    all, small, into ./known-answers
    python simulations/known_answers.py gaps dropout       two of them
    python simulations/known_answers.py --full             all, into simulations/results

Each demonstration has a table in ``known_answers.toml``, a world in ``worlds/`` (or a preset) and
a function in ``demonstrations/`` with the regression written out. Beside the simulated mean and
its Monte Carlo error stands, wherever there is one, the exact figure for infinitely many clients.
Written are ``NAME.csv``, ``NAME.png`` and, from all files in the folder, ``README.md``.
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
import results_page
from demonstrations import DEMONSTRATIONS
from demonstrations.cell import Cell
from demonstrations.figure import draw

from alliancedyn import plot
from alliancedyn.replicate import Failure, replicate

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "known_answers.toml"
RESULTS = HERE / "results"
PAGE_FIGURES = HERE.parent / "docs" / "images"


def main(arguments: list[str] | None = None) -> None:
    """Run demonstrations and write their results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(DEMONSTRATIONS))
    parser.add_argument("--full", action="store_true", help="the panels of the full study")
    parser.add_argument("--panels", type=int, help="another number of panels per cell")
    parser.add_argument("--jobs", type=int, default=1, help="processes; -1 = one per processor")
    parser.add_argument("--out", type=Path, help="where the results go")
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.names if name not in DEMONSTRATIONS]
    if unknown:
        parser.error(
            f"no demonstration {', '.join(unknown)}; there are {', '.join(DEMONSTRATIONS)}"
        )
    config = tomllib.loads(CONFIG.read_text(encoding="utf-8"))
    out = asked.out or (RESULTS if asked.full else Path("known-answers"))
    out.mkdir(parents=True, exist_ok=True)
    for name in asked.names or DEMONSTRATIONS:
        study = config[name] | config[name]["full" if asked.full else "small"]
        study["panels"] = asked.panels or study["panels"]
        write(name, study, run(name, study, asked.jobs), out)
        if asked.full and asked.out is None:
            PAGE_FIGURES.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(out / f"{name}.png", PAGE_FIGURES / f"{name.replace('_', '-')}.png")
    results_page.write(out)
    print(f"Results: {out}")


def run(name: str, study: dict[str, Any], jobs: int = 1) -> pd.DataFrame:
    """Return one row per cell, quantity and method."""
    tables = []
    cells = DEMONSTRATIONS[name](study)
    for place, cell in enumerate(cells):
        print(f"\r{name}: {place + 1} of {len(cells)}  ", end="", file=sys.stderr, flush=True)
        seed = study["seed"] + place
        outcomes = replicate(cell.draw, study["panels"], seed, jobs)
        tables.append(summarize(cell, outcomes).assign(seed=seed))
    print(file=sys.stderr)
    found = pd.concat(tables, ignore_index=True)
    found.insert(0, "study", name)
    return results_page.with_earlier(found, study.get("earlier", []))


def summarize(cell: Cell, outcomes: list[Any]) -> pd.DataFrame:
    """Return mean and Monte Carlo error of a cell's figures; panels that failed are counted."""
    found = [one for one in outcomes if not isinstance(one, Failure)]
    if not found:
        raise RuntimeError(f"No panel has an estimate: {outcomes[0].reason}")
    rows = []
    for quantity, method in found[0]:
        values = np.array([one[quantity, method] for one in found])
        rows.append(
            {
                "x": cell.x,
                "quantity": quantity,
                "method": method,
                "true": cell.true.get(quantity, np.nan),
                "exact": cell.exact.get((quantity, method), np.nan),
                "mean": values.mean(),
                "mcse": values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan,
                "panels": len(outcomes),
                "failed": len(outcomes) - len(found),
            }
        )
    return pd.DataFrame(rows)


def write(name: str, study: dict[str, Any], found: pd.DataFrame, out: Path) -> None:
    """Write table and figure of one demonstration into ``out``."""
    target = out / f"{name}.csv"
    found.to_csv(target, index=False, float_format="%.6g", lineterminator="\n")
    shown = results_page.read(target)  # the figure shows what the file holds
    plot.save(draw(shown, study), out / f"{name}.png")


if __name__ == "__main__":
    main()
