"""The page of results: every quoted figure beside the earlier one, and whether they agree."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
CHANCE = 2.0  # standard errors within which two figures agree
HEAD = ("quantity", "method", "at", "true", "earlier", "exact", "simulated", "agree?")
TOP = """# Results

Written by `simulations/run.py`. *Earlier* figures are those that the program was designed to show.
*Exact* is what infinitely many clients give, computed from the world; *simulated* the mean over
panels with its Monte Carlo error in brackets. Two figures *agree* if they differ by no more than
rounding and two standard errors, the earlier figure's included where it is known.
"""


def read(path: Path) -> pd.DataFrame:
    """Read the table of a demonstration; earlier figures and notes stay as written."""
    return pd.read_csv(path, dtype={"earlier": str, "note": str}).fillna(
        {"earlier": "", "note": ""}
    )


def write(out: Path) -> None:
    """Write ``README.md`` from the tables in a folder, and ``known_answers.md``, all figures."""
    parts, known, config = [TOP], ["# Known answers\n"], _toml("known_answers")
    shown = tables(out)
    for name, (title, found) in shown.items():
        if "study" in found:
            known += [
                f"## {title}\n",
                *(f"{one}\n" for one in every(found, config[name].get("x", ""))),
            ]
        rows = [list(HEAD), *lines(found)]
        parts.append(f"## {title}\n\n{markdown(rows)}\n")
        if (out / f"{name}.png").exists():
            parts.append(f"Every figure: `{name}.csv`\n\n![{title}]({name}.png)\n")
    (out / "README.md").write_text("\n".join(parts), encoding="utf-8")
    known += ["## What was expected\n", f"{expected(shown)}\n"]
    (out / "known_answers.md").write_text("\n".join(known), encoding="utf-8")


def tables(out: Path) -> dict[str, tuple[str, pd.DataFrame]]:
    """Return title and rows of each study in a folder that has earlier figures."""
    found = {}
    for name, study in _toml("earlier").items():
        if (out / study["file"]).exists():
            found[name] = (study["title"], elsewhere(out / study["file"], study))
    for name, study in _toml("known_answers").items():
        if (out / f"{name}.csv").exists():
            found[name] = (study["title"], read(out / f"{name}.csv"))
    return found


def _toml(name: str) -> dict[str, Any]:
    return tomllib.loads((HERE / f"{name}.toml").read_text(encoding="utf-8"))


def elsewhere(path: Path, study: dict[str, Any]) -> pd.DataFrame:
    """Bring the table of another study into the form of the demonstrations."""
    table = pd.read_csv(path)
    exact = table[study["method"]].isin(study["exact"])
    found = pd.DataFrame(
        {
            "x": table["sessions"],
            "quantity": table[study["quantity"]],
            "method": table[study["method"]],
            "true": table["true"],
            "exact": table["limit"].where(exact),
            "mean": table["mean"],
            "mcse": table["mcse_bias" if "mcse_bias" in table else "mcse"],
        }
    )
    if "world" not in study:
        return with_earlier(found, study["earlier"])
    found["method"] += ", world '" + table["world"] + "'"
    named = [
        one | {"method": f"{one['method']}, world '{one['world']}'"} for one in study["earlier"]
    ]
    return with_earlier(found, named)


def with_earlier(found: pd.DataFrame, told: list[dict[str, Any]]) -> pd.DataFrame:
    """Add earlier figures, as written down, with their own error and a note, to their rows.

    Figures of cells that were not run are left out.
    """
    found = found.assign(earlier="", earlier_error=np.nan, note="")
    for one in told:
        xs, values = one.get("x"), one["value"]
        several = zip(xs, values, strict=True) if isinstance(values, list) else [(xs, values)]
        for x, value in several:
            here = (found["quantity"] == one["quantity"]) & (found["method"] == one["method"])
            here &= True if x is None else found["x"] == x
            found.loc[here, "earlier"] = value
            found.loc[here, "earlier_error"] = one.get("error", 0.0)
            found.loc[here, "note"] = one.get("note", "")
    return found


def lines(found: pd.DataFrame) -> list[list[str]]:
    """Return one line for every quantity and method that has earlier figures."""
    told = []
    some = found[found["earlier"] != ""]
    for (quantity, method), rows in some.groupby(["quantity", "method"], sort=False):
        each = list(rows.itertuples())
        wrong = [row for row in each if not agrees(row)]
        where = _list(_place(row.x) for row in wrong)
        why = {row.note for row in wrong if row.note}
        told.append(
            [
                *(str(quantity), str(method), _list(_place(row.x) for row in each)),
                points(each[0].true),
                _list(row.earlier for row in each),
                _list(points(row.exact) for row in each),
                _list(f"{points(row.mean)} ({row.mcse:.4f})" for row in each),
                "; ".join([f"no {where}".strip(), *why]) if wrong else "yes",
            ]
        )
    return told


def expected(shown: dict[str, tuple[str, pd.DataFrame]]) -> str:
    """Return earlier figures beside those of all studies in few columns."""
    rows = [["", "at", "earlier", "exact, or simulated (Monte Carlo error)", "agree?"]]
    for title, found in shown.values():
        for quantity, method, at, _, earlier, exact, simulated, said in lines(found):
            name = f"`{quantity}`" if quantity.startswith("phi[") else quantity
            rows.append([f"{title}: {name}, {method}", at, earlier, exact or simulated, said])
    return markdown(rows)


def every(found: pd.DataFrame, x: str = "") -> list[str]:
    """Return all figures: one table, or one for each quantity if there are several, over ``x``."""
    if found["x"].isna().all():
        return [_crossed(found, "method", "quantity", "")]
    several = found["quantity"].nunique() > 1
    told = []
    for quantity, rows in found.groupby("quantity", sort=False):
        true = points(rows["true"].iloc[0])
        named = f"*{quantity}*" + (f", in truth {true}" if true else "") + "\n\n"
        told.append((named if several else "") + _crossed(rows, "x", "method", x))
    return told


def _crossed(found: pd.DataFrame, down: str, across: str, corner: str) -> str:
    """Return a table of "exact; mean (Monte Carlo error)"."""
    columns = list(dict.fromkeys(found[across]))
    rows = [[corner, *columns]]
    for place, some in found.groupby(down, sort=False):
        cells = {row[across]: _cell(row) for _, row in some.iterrows()}
        rows.append([_place(place), *(cells.get(name, "") for name in columns)])
    return markdown(rows)


def _cell(row: pd.Series) -> str:
    exact = f"{points(row['exact'])}; " if np.isfinite(row["exact"]) else ""
    return f"{exact}{points(row['mean'], 4)} ({row['mcse']:.4f})"


def agrees(row: Any) -> bool:
    """Say whether a figure and the earlier one differ by no more than rounding and chance."""
    half = 0.5 * 10.0 ** -len(row.earlier.partition(".")[2])
    exact = not np.isnan(row.exact)
    ours, error = (row.exact, 0.0) if exact else (row.mean, row.mcse)
    gap = abs(ours - float(row.earlier))
    return bool(gap <= half + CHANCE * np.hypot(error, row.earlier_error) + 1e-9)


def points(value: float, digits: int = 3) -> str:
    """Write a figure without the sign of a rounded zero."""
    return "" if np.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


def markdown(rows: list[list[str]], rule: str = "---") -> str:
    """Return a table; the first row is the head, ``rule`` aligns all columns."""
    return "\n".join(
        f"| {' | '.join(row)} |" for row in (rows[0], [rule] * len(rows[0]), *rows[1:])
    )


def _place(x: Any) -> str:
    return x if isinstance(x, str) else "" if np.isnan(x) else f"{x:g}"


def _list(parts: Any) -> str:
    return ", ".join(part for part in parts if part)
