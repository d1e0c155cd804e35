"""Trends: what each way of removing them does where they are noise, and where they are not.

    python simulations/trend_demonstrations.py          a few panels, into ./trends
    python simulations/trend_demonstrations.py --full   all of them, into simulations/results

Four worlds (``trend_demonstrations.toml``) meet two kinds of analysis. *Regressions* of
(a_t, s_t) on (a_{t-1}, s_{t-1}) within clients, with five corrections: simulated, and exact for
infinitely many clients. The *ladder* of models that `alliancedyn.studies.analysis` climbs, and the
LCM-SR: bias, coverage, verdicts. Written are ``trends_regressions.csv``, ``trends_ladder.csv``,
two figures (``trends_regressions.png``, ``trends_ladder.png``) and ``trends.md``, the tables.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from alliancedyn import LCMSR, Dynamics, GrowthCurve, compare_directions, plot, simulate
from alliancedyn.errors import AllianceDynError
from alliancedyn.plot.style import STYLE, look, styled
from alliancedyn.replicate import Failure, replicate
from alliancedyn.simulate import simulate_scores
from alliancedyn.studies.families import FAMILIES, Family
from alliancedyn.studies.performance import performance

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "trend_demonstrations.toml"
RESULTS = HERE / "results"
PAGE_FIGURES = HERE.parent / "docs" / "images"
FIGURES = ("trends_regressions.png", "trends_ladder.png")
LEVEL = 0.95
FORWARD, BACKWARD = "phi[symptoms,alliance]", "phi[alliance,symptoms]"
PATHS = (FORWARD, BACKWARD)
CORRECTIONS = {  # degree of the client's polynomial, session effects, lines taken out beforehand
    "level": (0, False, False),
    "level + session": (0, True, False),
    "line": (1, False, False),
    "line + session": (1, True, False),
    "line first": (1, False, True),
}
LADDER = {
    **FAMILIES,
    "lcm-sr": Family("lcm-sr", "LCM-SR (straight means)", LCMSR()),
    "lcm-sr-session-means": Family(
        "lcm-sr-session-means", "LCM-SR (session means)", LCMSR(means="free")
    ),
}


def main(arguments: list[str] | None = None) -> None:
    """Run the demonstrations and write their results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the panels of the full study")
    parser.add_argument("--panels", type=int, help="another number of panels per cell")
    parser.add_argument("--jobs", type=int, default=1, help="processes; -1 = one per processor")
    parser.add_argument("--out", type=Path, help="where the results go")
    asked = parser.parse_args(arguments)
    config = tomllib.loads(CONFIG.read_text(encoding="utf-8"))
    published = asked.full and asked.out is None
    out = asked.out or (RESULTS if asked.full else Path("trends"))
    size = "full" if asked.full else "small"
    for study in ("regressions", "ladder"):
        config[study].update(config[study][size])
        config[study]["panels"] = asked.panels or config[study]["panels"]
    regressions = run_regressions(config, asked.jobs)
    ladder = run_ladder(config, asked.jobs)
    write(config, regressions, ladder, out)
    if published:
        PAGE_FIGURES.mkdir(parents=True, exist_ok=True)
        for name in FIGURES:
            shutil.copyfile(out / name, PAGE_FIGURES / name.replace("_", "-"))
    print(f"Results: {out}")


def world(config: dict[str, Any], name: str) -> Dynamics:
    """Return one world of the configuration."""
    own = config["worlds"][name]
    trend = GrowthCurve(**own["trend"]) if "trend" in own else None
    lags = {key: own[key] for key in ("forward", "backward")}
    return Dynamics.time_ordered(**config["common"], **lags, trend=trend)


def cells(config: dict[str, Any], study: str) -> Iterator[tuple[str, int, int]]:
    """Yield world, sessions and seed of each cell of a study."""
    first, per_world = config[study]["seed"], config[study]["seeds_per_world"]
    for i, name in enumerate(config["worlds"]):
        for j, sessions in enumerate(config[study]["sessions"]):
            print(f"\r{study}: {name}, {sessions} sessions  ", end="", file=sys.stderr, flush=True)
            yield name, sessions, first + per_world * i + j


# Regressions within clients ------------------------------------------------------------------


def operators(sessions: int, correction: str) -> tuple[np.ndarray, np.ndarray]:
    """Return what turns T scores of a client into corrected (present, lagged) scores of the pairs.

    "level" and "line" fit the client's mean, or straight line, to the T - 1 present and to the
    T - 1 lagged scores: regression with an intercept (and a slope) for each client. "line first"
    fits one line to all T scores, and leaves its residuals as they are.

    Returns
    -------
    now, before : (T - 1, T) arrays
    """
    degree, _, beforehand = CORRECTIONS[correction]
    if beforehand:
        residual = _residual_maker(sessions, degree)
        return residual[1:], residual[:-1]
    residual, every = _residual_maker(sessions - 1, degree), np.eye(sessions)
    return residual @ every[1:], residual @ every[:-1]


def _residual_maker(length: int, degree: int) -> np.ndarray:
    X = np.vander(np.arange(length, dtype=float), degree + 1)
    return np.eye(length) - X @ np.linalg.pinv(X)


def regress(mean: np.ndarray, cov: np.ndarray, correction: str) -> np.ndarray:
    """Regress each series on the lags of both within clients: (k, k), row = outcome.

    Least squares needs sums over clients of products of scores only. With M the mean of y y' over
    clients (their covariance, where session means are taken out) and B_p what makes the corrected
    lagged scores of pair p from y, the products of predictors are sum_p B_p M B_p'. Moments of a
    panel give its estimates; those of a world, what infinitely many clients would give.

    Parameters
    ----------
    mean : (T, k) array, score points
    cov : (T, k, T, k) array, squared score points
    correction : str
        Key of `CORRECTIONS`.
    """
    second = cov if CORRECTIONS[correction][1] else cov + np.multiply.outer(mean, mean)
    now, before = operators(len(mean), correction)
    lagged = np.einsum("pt,tkul->pkul", before, second)
    predictors = np.einsum("pkul,pu->kl", lagged, before)
    return np.linalg.solve(predictors, np.einsum("pkul,pu->kl", lagged, now)).T


def limits(truth: Dynamics, sessions: int) -> np.ndarray:
    """Return what each correction gives with infinitely many clients: (corrections, k, k)."""
    k = len(truth.variables)
    mean, cov = truth.moments(sessions)
    world = mean.reshape(sessions, k), cov.reshape(sessions, k, sessions, k)
    return np.array([regress(*world, correction) for correction in CORRECTIONS])


def estimates(Y: np.ndarray) -> np.ndarray:
    """Return what each correction gives with complete scores (N, T, k): (corrections, k, k)."""
    mean = Y.mean(axis=0)
    away = (Y - mean).reshape(len(Y), -1)
    cov = (away.T @ away / len(Y)).reshape(*mean.shape, *mean.shape)
    return np.array([regress(mean, cov, correction) for correction in CORRECTIONS])


@dataclass(frozen=True)
class Regressions:
    """One panel: every correction's lag matrix, (corrections, k, k)."""

    truth: Dynamics
    clients: int
    sessions: int

    def __call__(self, seed: np.random.SeedSequence) -> np.ndarray:
        """Simulate complete scores and regress."""
        rng = np.random.default_rng(seed)
        return estimates(simulate_scores(self.truth, self.clients, self.sessions, rng))


def run_regressions(config: dict[str, Any], jobs: int) -> pd.DataFrame:
    """Return one row per world, number of sessions, correction and lagged effect."""
    rows, panels = [], config["regressions"]["panels"]
    for name, sessions, seed in cells(config, "regressions"):
        truth = world(config, name)
        task = Regressions(truth, config["regressions"]["clients"], sessions)
        found = np.array(replicate(task, panels, seed, jobs))
        spread = found.std(axis=0, ddof=1) / np.sqrt(panels)
        exact = limits(truth, sessions)
        for i, correction in enumerate(CORRECTIONS):
            for (row, col), true in np.ndenumerate(truth.phi):
                rows.append(
                    {
                        "world": name,
                        "sessions": sessions,
                        "correction": correction,
                        "parameter": f"phi[{truth.variables[row]},{truth.variables[col]}]",
                        "true": true,
                        "limit": exact[i, row, col],
                        "mean": found[:, i, row, col].mean(),
                        "mcse": spread[i, row, col],
                        "panels": panels,
                        "clients": task.clients,
                        "seed": seed,
                    }
                )
    print(file=sys.stderr)
    return pd.DataFrame(rows)


# The ladder ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rung:
    """What one model says about one panel, or why it says nothing."""

    estimates: tuple[float, ...] = (np.nan, np.nan)
    errors: tuple[float, ...] = (np.nan, np.nan)
    states: tuple[str, ...] = ("", "")
    lead: str = ""
    at_bound: bool = False
    bic: float = np.nan  # only where the model saw the scores as they are
    failure: str = ""


@dataclass(frozen=True)
class Climb:
    """One panel, seen by every model of the ladder."""

    truth: Dynamics
    clients: int
    sessions: int
    families: tuple[str, ...]

    def __call__(self, seed: np.random.SeedSequence) -> list[Rung]:
        """Simulate a panel and climb."""
        panel = simulate(self.truth, self.clients, self.sessions, seed=seed)
        own = int(seed.generate_state(1)[0])  # for further starting values, should there be any
        return [self._step(LADDER[key], panel, own) for key in self.families]

    def _step(self, family: Family, panel: Any, seed: int) -> Rung:
        try:
            spec, seen = family.given(panel, None)
            fit = spec.fit(seen, seed=seed, strict=False)
            if not fit.converged:
                return Rung(failure="Not converged")
            verdict = compare_directions(fit)
        except AllianceDynError as error:
            return Rung(failure=type(error).__name__)
        reduced = verdict.by_basis["reduced"]
        return Rung(
            estimates=tuple(float(fit.params[path]) for path in PATHS),
            errors=tuple(float(fit.se[path]) for path in PATHS),
            states=(reduced.forward_state, reduced.backward_state),
            lead=verdict.lead,
            at_bound=bool(fit.diagnostics["boundary"]),
            bic=np.nan if family.detrended else float(fit.bic),
        )


def run_ladder(config: dict[str, Any], jobs: int) -> pd.DataFrame:
    """Return one row per world, number of sessions, model and cross-lagged effect."""
    families = tuple(config["ladder"]["families"])
    tables = []
    for name, sessions, seed in cells(config, "ladder"):
        truth = world(config, name)
        task = Climb(truth, config["ladder"]["clients"], sessions, families)
        outcomes = replicate(task, config["ladder"]["panels"], seed, jobs)
        climbs = [_every_rung(outcome, len(families)) for outcome in outcomes]
        bic = np.array([[rung.bic for rung in rungs] for rungs in climbs])
        lowest = bic == np.fmin.reduce(bic, axis=1, keepdims=True)
        for i, key in enumerate(families):
            table = describe([rungs[i] for rungs in climbs], truth)
            table["lowest_bic"] = lowest[:, i].mean()
            where = {"world": name, "sessions": sessions, "family": key}
            where["label"] = LADDER[key].label
            for place, (column, value) in enumerate(where.items()):
                table.insert(place, column, value)
            table["clients"], table["seed"] = task.clients, seed
            tables.append(table)
    print(file=sys.stderr)
    return pd.concat(tables, ignore_index=True)


def _every_rung(outcome: list[Rung] | Failure, rungs: int) -> list[Rung]:
    return [Rung(failure=outcome.error)] * rungs if isinstance(outcome, Failure) else outcome


def describe(rungs: list[Rung], truth: Dynamics) -> pd.DataFrame:
    """Return how one model did in one cell: one row per cross-lagged effect.

    ``supported`` is the share of converged fits whose verdict on the direction (reduced form) is
    "supported", ``wrongly_supported`` the share in which it is so although the effect is zero or
    has the other sign, ``practically_zero`` that of the verdict of this name.
    """
    fitted = [rung for rung in rungs if not rung.failure]
    true = truth.params()[list(PATHS)].to_numpy(float)
    estimates = np.array([rung.estimates for rung in fitted]).reshape(-1, len(PATHS))
    errors = np.array([rung.errors for rung in fitted]).reshape(-1, len(PATHS))
    states = np.array([rung.states for rung in fitted], dtype=object).reshape(-1, len(PATHS))
    found = performance(estimates, errors, true, LEVEL)
    measures = ("true", "mean", "bias", "empirical_se", "model_se", "coverage")
    measures += tuple(f"mcse_{name}" for name in measures[2:])
    table = pd.DataFrame({"parameter": PATHS, **{name: found[name] for name in measures}})
    supported = states == "supported"
    claims = {
        "supported": supported,
        "wrongly_supported": supported & (estimates * true <= 0.0),
        "practically_zero": states == "practically zero",
    }
    n = max(len(fitted), 1)
    for claim, held in claims.items():
        table[claim] = share = held.sum(axis=0) / n
        table[f"mcse_{claim}"] = np.sqrt(share * (1.0 - share) / n)
    leads = Counter(rung.lead for rung in fitted)
    for lead in ("forward", "backward", "both", "neither", "undetermined", "depends"):
        table[f"lead_{lead}"] = leads[lead] / n
    table["panels"], table["failed"] = len(rungs), len(rungs) - len(fitted)
    reasons = Counter(rung.failure for rung in rungs if rung.failure)
    table["reasons"] = "; ".join(f"{reason} ({count})" for reason, count in reasons.items())
    table["at_bound"] = sum(rung.at_bound for rung in fitted)
    return table


# What is written -----------------------------------------------------------------------------


def write(
    config: dict[str, Any], regressions: pd.DataFrame, ladder: pd.DataFrame, out: Path
) -> None:
    """Write tables, figures and page into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    files = out / "trends_regressions.csv", out / "trends_ladder.csv"
    for target, table in zip(files, (regressions, ladder), strict=True):
        table.to_csv(target, index=False, float_format="%.6g", lineterminator="\n")
    regressions, ladder = map(pd.read_csv, files)  # figures and page show what the files hold
    titles = {name: own["title"] for name, own in config["worlds"].items()}
    plot.save(draw_regressions(regressions, titles), out / FIGURES[0])
    plot.save(draw_ladder(ladder, titles), out / FIGURES[1])
    parts = ["# Trends", regression_table(regressions, titles)]
    parts += [ladder_table(ladder, titles, name) for name in titles]
    parts += [bic_table(ladder, titles)]
    (out / "trends.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def regression_table(regressions: pd.DataFrame, titles: dict[str, str]) -> str:
    """Return the forward effect by correction: exact, and simulated with its Monte Carlo error."""
    sessions = list(dict.fromkeys(regressions["sessions"]))
    rows = [["world", "true", "correction", *(f"{t} sessions" for t in sessions)]]
    forward = regressions[regressions["parameter"] == FORWARD]
    for (name, correction), some in forward.groupby(["world", "correction"], sort=False):
        told = some[["limit", "mean", "mcse"]].to_numpy()
        figures = [f"{_points(x)}; {_points(m, 4)} ({e:.4f})" for x, m, e in told]
        true = _points(some["true"].iloc[0], 2)
        rows.append([titles[str(name)], true, str(correction), *figures])
    return _markdown(rows, left=(0, 2))


def ladder_table(ladder: pd.DataFrame, titles: dict[str, str], name: str) -> str:
    """Return the forward effect in one world by model, Monte Carlo errors in brackets."""
    sessions = list(dict.fromkeys(ladder["sessions"]))
    some = ladder[(ladder["world"] == name) & (ladder["parameter"] == FORWARD)]
    claim = "supported" if some["true"].iloc[0] else "wrongly supported"
    head = [f"{measure}, {t}" for measure in ("bias", "coverage", claim) for t in sessions]
    rows = [["model", *head]]
    for label, found in some.groupby("label", sort=False):
        biases = [f"{_points(r.bias)} ({r.mcse_bias:.3f})" for r in found.itertuples()]
        covered = [f"{r.coverage:.3f} ({r.mcse_coverage:.3f})" for r in found.itertuples()]
        claimed = [f"{r.supported:.3f} ({r.mcse_supported:.3f})" for r in found.itertuples()]
        rows.append([str(label), *biases, *covered, *claimed])
    return f"{titles[name]}: true effect {_points(some['true'].iloc[0], 2)}\n\n" + _markdown(rows)


def bic_table(ladder: pd.DataFrame, titles: dict[str, str]) -> str:
    """Return the share of panels in which each model has the lowest BIC."""
    seen = ladder[(ladder["parameter"] == FORWARD) & ~ladder["family"].str.contains("detrended")]
    wide = seen.pivot_table("lowest_bic", ["world", "sessions"], "label", sort=False)
    rows = [["world", "sessions", *wide.columns]]
    rows += [[titles[w], str(t), *(f"{x:.2f}" for x in row)] for (w, t), *row in wide.itertuples()]
    return _markdown(rows)


def _points(value: float, digits: int = 3) -> str:
    """Write score points without the sign of a rounded zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _markdown(rows: list[list[str]], left: tuple[int, ...] = (0,)) -> str:
    rule = ["---" if i in left else "---:" for i in range(len(rows[0]))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))


def draw_regressions(regressions: pd.DataFrame, titles: dict[str, str]) -> np.ndarray:
    """Draw the forward effect against sessions: lines exact, markers simulated."""
    forward = regressions[regressions["parameter"] == FORWARD]
    with styled():
        axes = plot.panels(len(titles), (11.0, 3.6), share_y=True)
        for ax, (name, title) in zip(axes, titles.items(), strict=True):
            some = forward[forward["world"] == name]
            for j, correction in enumerate(CORRECTIONS):
                rows, looks = some[some["correction"] == correction], look(j)
                line = {"color": looks.color}
                ax.plot(rows["sessions"], rows["limit"], **line)
                ax.plot(rows["sessions"], rows["mean"], looks.marker, color=looks.color)
                ax.plot([], [], marker=looks.marker, label=correction, **line)
            _mark_truth(ax.axhline, some)
            ax.set_title(title)
            ax.set_xlabel("sessions")
            ax.set_xticks(sorted(set(some["sessions"])))
        axes[0].set_ylabel("alliance → symptoms\n(points per point)")
        axes[0].legend(loc="lower left")
    return axes


def draw_ladder(ladder: pd.DataFrame, titles: dict[str, str]) -> np.ndarray:
    """Draw the mean estimate of the forward effect, and its spread, by model and sessions."""
    forward = ladder[ladder["parameter"] == FORWARD]
    labels = list(dict.fromkeys(forward["label"]))
    with styled():
        axes = plot.panels(len(titles), (11.0, 0.9 + 0.55 * len(labels)), share_y=True)
        for ax, (name, title) in zip(axes, titles.items(), strict=True):
            some = forward[forward["world"] == name]
            for j, (sessions, rows) in enumerate(some.groupby("sessions")):
                y = [0.24 - 0.24 * j - labels.index(label) for label in rows["label"]]
                ax.errorbar(
                    *(rows["mean"], y),
                    xerr=rows["empirical_se"],
                    **{"fmt": look(j).marker, "color": look(j).color, "markersize": 4},
                    **{"linewidth": 1.0, "label": f"{sessions} sessions"},
                )
            _mark_truth(ax.axvline, some)
            ax.set_title(title)
            ax.set_xlabel("alliance → symptoms")
            ax.xaxis.set_major_locator(MaxNLocator(4))
        axes[0].set_yticks([-i for i in range(len(labels))], labels)
        axes[0].legend(loc="lower left")
    return axes


def _mark_truth(draw: Any, rows: pd.DataFrame) -> None:
    draw(rows["true"].iloc[0], color=STYLE["axes.labelcolor"], linewidth=0.8)


if __name__ == "__main__":
    main()
