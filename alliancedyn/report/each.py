"""Every model on its own: what it is, its parameters in words, how it fits, what it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from alliancedyn.causal import describe_drift
from alliancedyn.errors import AllianceDynError
from alliancedyn.plot.numerals import number
from alliancedyn.report import figures, ladder, tables
from alliancedyn.report.checks import checks
from alliancedyn.report.figures import Picture
from alliancedyn.report.material import Material, is_detrended
from alliancedyn.report.parameters import Parameters, describe_parameters
from alliancedyn.report.tables import Table

if TYPE_CHECKING:
    import pandas as pd

    from alliancedyn.results import Fit


@dataclass(frozen=True)
class Each:
    """Everything about one model that is not compared with others."""

    number: int
    label: str
    text: str
    detrended: bool
    speaks: bool
    fit: str
    bounds: tuple[str, ...]
    checks: tuple[str, ...]
    parameters: Parameters
    fading: Table | None
    by_lag: Picture | None
    assumptions: tuple[str, ...]


def of_each(material: Material) -> tuple[Each, ...]:
    """Describe every model of a report."""
    return tuple(
        _each(material, place, label, fit)
        for place, (label, fit) in enumerate(material.fits.items(), start=1)
    )


def _each(material: Material, place: int, label: str, fit: Fit) -> Each:
    continuous = "drift" in fit.lagged.families
    return Each(
        number=place,
        label=label,
        text=ladder.describe(label, fit),
        detrended=is_detrended(label),
        speaks=label == material.speaker,
        fit=_fit(fit),
        bounds=tuple(str(one) for one in fit.diagnostics.get("boundary", ())),
        checks=checks(fit, material.directions.get(label)),
        parameters=describe_parameters(fit),
        fading=_fading(fit, place) if continuous else None,
        by_lag=figures.by_lag(fit, place) if continuous else None,
        assumptions=tuple(fit.model.assumptions),
    )


def _fit(fit: Fit) -> str:
    """Say in one line how much a model holds, and how it fits where that is known."""
    sample = fit.sample
    parts = [
        sample.people,
        f"sessions {fit.sessions[0]} to {fit.sessions[-1]}",
        f"{fit.n_params} parameters",
    ]
    if fit.loglik is not None:
        parts.append(f"log-likelihood {number(fit.loglik, 1)}")
        parts.append(f"BIC {number(fit.bic, 1)}")
    row = tables.index_row(fit)
    parts += [
        f"{name} {value}"
        for name, value in zip(("χ² (df)", "p", "CFI", "TLI", "RMSEA", "SRMR"), row, strict=True)
        if value != "–"
    ]
    return " · ".join(parts)


def _fading(fit: Fit, place: int) -> Table | None:
    """Say how fast deviations fade in a model that runs in continuous time."""
    groups = fit.lagged.groups if fit.lagged.grouped else (None,)
    rows = []
    for group in groups:
        try:
            frame = describe_drift(fit, group=group)
        except AllianceDynError:  # pragma: no cover - asked of continuous time only
            return None
        rows += [_mode(row, group) for _, row in frame.iterrows()]
    unit = getattr(fit.model, "unit", "unit")
    head = ("What it means", "Eigenvalue", f"Half-life, {unit}s")
    return Table(f"fading-{place}", "How fast deviations fade", head, tuple(rows))


def _mode(row: pd.Series, group: str | None) -> tuple[str, ...]:
    value = number(float(row["real"]), 3)
    if swing := float(row["imaginary"]):
        value += f" ± {number(swing, 3)}i"
    half, lower, upper = (float(row[name]) for name in ("half_life", "lower", "upper"))
    life = number(half, 2) if np.isfinite(half) else "never"
    if np.isfinite(lower) and np.isfinite(upper):
        life += f" [{number(lower, 2)}, {number(upper, 2)}]"
    said = str(row["meaning"])
    return (f"{said} ({group})" if group else said, value, life)
