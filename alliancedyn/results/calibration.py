"""Whether forecasts are as sure as they should be."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.errors import DataError

if TYPE_CHECKING:
    from alliancedyn.results.scores import Observed

Array = NDArray[np.float64]

COVERAGES = (0.5, 0.8, 0.95)
PIT_BINS = 10


@dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """Whether forecasts are as sure as they should be; prints as its text.

    A forecast is calibrated if 95 % of its 95 % intervals hold the score, and the same for any
    other level: its standardized errors z = (score - mean) / sd are standard normal.

    Parameters
    ----------
    table : DataFrame
        One row for all scores and for those of each session, by variable and over all
        ("all"): session, variable, scores, clients; mean_error and sd_error of z (0 and 1 if
        calibrated), mean_error_se; coverage_50, coverage_80, coverage_95, shares of scores inside,
        and coverage_50_se, .... Standard errors allow for the scores of a client hanging together,
        and are at least those of independent scores.
    pit : DataFrame
        Scores by where in their forecast distribution they fell: rows variables and "all",
        columns ten bins by their upper end, all alike if calibrated.
    horizon : int
        Sessions ahead.
    in_sample : bool
        Whether these clients are those that the model was fitted to, which flatters it.
    """

    table: pd.DataFrame
    pit: pd.DataFrame
    horizon: int
    in_sample: bool

    @property
    def text(self) -> str:
        """Say it in sentences."""
        row = self.table.iloc[0]
        ahead = "one session" if self.horizon == 1 else f"{self.horizon} sessions"
        names = [f"coverage_{100 * level:.0f}" for level in COVERAGES]
        held = ", ".join(
            f"{level:.0%} intervals {row[name]:.1%} (SE {row[f'{name}_se']:.1%})"
            for level, name in zip(COVERAGES, names, strict=True)
        )
        lines = [
            f"Forecasts {ahead} ahead of {int(row['scores'])} scores of {int(row['clients'])} "
            f"clients.",
            f"Scores inside: {held}.",
            f"Standardized errors: mean {row['mean_error']:.3f} (SE {row['mean_error_se']:.3f}), "
            f"SD {row['sd_error']:.3f}; 0 and 1 if calibrated.",
        ]
        if self.in_sample:
            lines.append(
                "These are the clients that the model was fitted to, which flatters it: pass "
                "panel= with clients held out."
            )
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Calibration {self.horizon} ahead, {int(self.table.iloc[0]['scores'])} scores>"


def calibrated(
    forecasts: tuple[Array, Array], used: Observed, horizon: int, in_sample: bool
) -> Calibration:
    """Compare every score with mean and SD of its forecast, each (N, T, p)."""
    mean, sd = forecasts
    z = np.divide(used.Y - mean, sd, out=np.full(mean.shape, np.nan), where=sd > 0.0)
    if np.isnan(z).all():
        raise DataError(
            f"No score lies {horizon} or more sessions after the first session of the model, so "
            "there is no forecast to compare. Use a smaller horizon, or clients with later scores."
        )
    variables = list(used.variables)
    rows, counts = [], {}
    for variable in ("all", *variables):
        own = z if variable == "all" else z[:, :, [variables.index(variable)]]
        counts[variable] = _pit_counts(own)
        rows.append({"session": "all", "variable": variable, **_row(own)})
        rows += [
            {"session": int(session), "variable": variable, **_row(own[:, [t]])}
            for t, session in enumerate(used.sessions)
            if np.isfinite(own[:, t]).any()
        ]
    edges = pd.Index(np.round(np.arange(1, PIT_BINS + 1) / PIT_BINS, 2), name="up_to")
    pit = pd.DataFrame.from_dict(counts, orient="index", columns=edges)
    return Calibration(pd.DataFrame(rows), pit.rename_axis("variable"), horizon, in_sample)


def _row(z: Array) -> dict[str, float]:
    """Summarize standardized errors (N, T, p), NaN = no score or no forecast."""
    known = np.isfinite(z)
    n, clients = int(known.sum()), int(known.any(axis=(1, 2)).sum())
    mean = float(z[known].mean())
    found: dict[str, float] = {
        "scores": n,
        "clients": clients,
        "mean_error": mean,
        "mean_error_se": max(_clustered(z, known), n**-0.5),
        "sd_error": float(np.sqrt(np.mean((z[known] - mean) ** 2))),
    }
    for level in COVERAGES:
        inside = np.where(known, np.abs(z) <= NormalDist().inv_cdf((1.0 + level) / 2), np.nan)
        name = f"coverage_{100 * level:.0f}"
        found[name] = float(inside[known].mean())
        found[f"{name}_se"] = max(_clustered(inside, known), (level * (1 - level) / n) ** 0.5)
    return found


def _clustered(values: Array, known: NDArray[np.bool_]) -> float:
    """Return the standard error of a mean over the scores of independent clients."""
    n, clients = int(known.sum()), int(known.any(axis=(1, 2)).sum())
    if clients < 2:
        return 0.0
    off = np.where(known, values - values[known].mean(), 0.0).sum(axis=(1, 2))
    return float(np.sqrt(clients / (clients - 1) * (off**2).sum()) / n)


def _pit_counts(z: Array) -> list[int]:
    """Count scores by the tenth of their forecast distribution in which they fell."""
    inner = [NormalDist().inv_cdf(i / PIT_BINS) for i in range(1, PIT_BINS)]
    bins = np.searchsorted(inner, z[np.isfinite(z)])
    return [int(count) for count in np.bincount(bins, minlength=PIT_BINS)]
