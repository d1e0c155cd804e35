"""How a fit shows itself: one line, a table in text, a table in HTML."""

from __future__ import annotations

from html import escape
from typing import Any

import pandas as pd

from alliancedyn.results.estimate import LEVEL, Sample, rounded

_ROWS = 40


def verdicts(converged: bool, diagnostics: dict[str, Any]) -> list[str]:
    """Return the sentences that must stand before any number of a fit; empty if none."""
    sentences = []
    if not converged:
        failure = diagnostics.get("failure", "The estimates are not a maximum.")
        sentences.append(f"NOT CONVERGED, not to be interpreted: {failure}")
    sentences += [f"AT A BOUND: {sentence}" for sentence in diagnostics.get("boundary", ())]
    sentences += [f"SCALE: {sentence}" for sentence in diagnostics.get("scale", ())]
    sentences += [f"NOTE: {sentence}" for sentence in diagnostics.get("notes", ())]
    return sentences


def heading(name: str, variables: tuple[str, ...], sample: Sample, loglik: float | None) -> str:
    """Return who was fitted to what: ``RI-CLPM of alliance, symptoms · 200 clients, ...``."""
    parts = [
        f"{name} of {', '.join(variables)}",
        f"{sample.people}, {sample.sessions} sessions",
    ]
    if loglik is not None:
        parts.append(f"log-likelihood {loglik:.4f}")
    return " · ".join(parts)


def shortened(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return a table short enough to read, and a sentence about what was left out."""
    if len(table) <= _ROWS:
        return table, ""
    general = table[[("@" not in str(name)) for name in table.index]].head(_ROWS)
    if general.empty:
        general = table.head(_ROWS)
    return general, f"{len(table) - len(general)} more parameters: see fit.table()."


def text(title: str, warnings: list[str], table: pd.DataFrame) -> str:
    """Lay a fit out as text."""
    shown, rest = shortened(table)
    body = _printed(shown).to_string()
    level = f"Intervals cover {LEVEL:.0%}."
    return "\n".join([title, *warnings, "", body, "", *filter(None, [rest]), level])


def html(title: str, warnings: list[str], table: pd.DataFrame) -> str:
    """Lay a fit out as HTML for notebooks."""
    shown, rest = shortened(table)
    notes = "".join(f"<p><strong>{escape(line)}</strong></p>" for line in warnings)
    after = f"<p>{escape(rest)} Intervals cover {LEVEL:.0%}.</p>"
    body = _printed(shown).to_html(border=0, escape=True)
    return f"<div><p>{escape(title)}</p>{notes}{body}{after}</div>"


def _printed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as text; what does not exist says so, and no p-value is called zero."""
    shown = table.map(_cell)
    if "p_value" in table:
        small = table["p_value"] < 0.001
        three = table["p_value"].map(lambda p: f"{p:.3f}" if pd.notna(p) else "n/a")
        shown["p_value"] = three.mask(small, "<0.001")
    return shown


def _cell(number: float) -> str:
    if pd.isna(number):
        return "n/a"
    return f"{number:.2g}" if 0 < abs(number) < 0.0005 else rounded((1.0, number))[1]
