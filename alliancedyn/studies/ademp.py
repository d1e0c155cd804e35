"""A recovery study in words, in the order of Morris, White and Crowther (2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from alliancedyn.studies.remaining import in_words

if TYPE_CHECKING:
    from alliancedyn.studies.recovery import RecoveryStudy

MOST_ROWS = 8  # of lagged effects that are told one by one


def summary(study: RecoveryStudy) -> str:
    """Return aims, data, estimands, methods and performance, a paragraph each."""
    parts = {
        "Aims": _aims(study),
        "Data": _data(study),
        "Estimands": _estimands(study),
        "Methods": _methods(study),
        "Performance": _performance(study),
    }
    return "\n\n".join(f"{title}. {text}" for title, text in parts.items())


def _aims(study: RecoveryStudy) -> str:
    return (
        f"How well the {study.spec.name} recovers the parameters of a known world: bias, "
        f"precision, coverage of {study.level:.0%} intervals, power and verdicts on direction."
    )


def _data(study: RecoveryStudy) -> str:
    seen = ", ".join(f"{name}={value!r}" for name, value in sorted(study.observation.items()))
    return (
        f"{study.replications:,} panels of {study.clients:,} clients x {study.sessions} sessions, "
        f"seed {study.seed}, from {study.truth!r}; "
        f"{f'seen with {seen}' if seen else 'every score seen'}."
    )


def _estimands(study: RecoveryStudy) -> str:
    lags = study.target[[name.startswith("phi[") for name in study.target.index]].dropna()
    known = int(study.target.notna().sum())
    told = ", ".join(f"{name} = {value:.3f}" for name, value in lags.head(MOST_ROWS).items())
    none = len(study.target) - known
    rest = f" {none} parameters of the model have no counterpart in the truth." if none else ""
    return f"{known} parameters with a known value{f'; {told}' if told else ''}.{rest}"


def _methods(study: RecoveryStudy) -> str:
    return f"{study.spec!r}, one fit to each panel, intervals as the model reports them."


def _performance(study: RecoveryStudy) -> str:
    lines = [_counts(study)]
    table = study.table()
    lags = table[[name.startswith("phi[") for name in table.index]].head(MOST_ROWS)
    if len(lags):
        lines.append("Monte Carlo errors in brackets.")
        lines += [_row(name, row) for name, row in lags.iterrows()]
    verdicts = [one for one in study.found if one.verdicts]
    if verdicts:
        for basis, row in study.directions().iterrows():
            lines.append(
                f"Direction, {basis}: the truth is {row['truth']!r}, and so says the verdict in "
                f"{row['right']:.3f} ({row['mcse_right']:.3f}) of the panels; it claims something "
                f"else in {row['wrong']:.3f} ({row['mcse_wrong']:.3f})."
            )
    return "\n".join(lines)


def _counts(study: RecoveryStudy) -> str:
    failed = sum(study.failures.values())
    said = f"{len(study.found):,} of {study.replications:,} fits converged"
    if failed:
        causes = "; ".join(f"{count} x {reason}" for reason, count in study.failures.items())
        said += f", {failed:,} gave no estimates ({causes})"
    if study.boundaries:
        bounds = ", ".join(f"{name} in {count}" for name, count in study.boundaries.items())
        said += f"; at a bound, and kept: {bounds}"
    return f"{said}. It took {in_words(study.seconds)}."


def _row(name: object, row: pd.Series) -> str:
    parts = [
        f"{label} {row[key]:.3f} ({row[f'mcse_{key}']:.3f})"
        for key, label in (
            ("bias", "bias"),
            ("empirical_se", "empirical SE"),
            ("model_se", "model SE"),
            ("coverage", "coverage"),
            ("power", "type-I error" if row["true"] == 0.0 else "power"),
        )
        if np.isfinite(row[key])
    ]
    return f"{name}: {', '.join(parts)}."
