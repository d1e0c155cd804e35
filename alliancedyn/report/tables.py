"""Tables of the report: captions, header cells and rows of ready-made text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliancedyn.causal.compare import EVERYONE, columns, forms_in
from alliancedyn.causal.words import SHORT, capital, form_name
from alliancedyn.errors import AllianceDynError, people
from alliancedyn.partition.wording import COURSES
from alliancedyn.plot.numerals import interval, number
from alliancedyn.report.abbreviations import CRITERIA, INDICES
from alliancedyn.report.material import USUAL, Material, is_detrended
from alliancedyn.report.merging import merged
from alliancedyn.report.parameters import probability

if TYPE_CHECKING:
    from alliancedyn.decompose import Decomposition
    from alliancedyn.results import Fit

SMALL_CELL = 5
_MOST_SESSIONS = 16
_MOST_NAMED = 6
_BETTER = {"better": "higher", "worse": "lower"}
_WHEN = {"before": "before the session", "after": "after the session"}


@dataclass(frozen=True)
class Table:
    """One table: the first cell of every row is its header."""

    name: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


# -- the data -----------------------------------------------------------------------------------


def flow(material: Material) -> Table:
    """Show what happened to the rows between the export and the panel."""
    frame = material.panel.flow
    rows = tuple(
        (f"{str(step)[:1].upper()}{str(step)[1:]}", *(_count(one) for one in counts))
        for step, *counts in frame.itertuples(index=False)
    )
    several = "persons" in frame  # some people have several episodes, each a series of its own
    head = ("Step", "Rows", *(("Episodes", "Persons") if several else ("Clients",)))
    return Table("flow", "From the export to the panel", head, rows)


def scores(material: Material) -> Table:
    """Describe every variable; extremes are left out, because they can point to one client."""
    rows = tuple(
        (
            str(name),
            _WHEN.get(material.panel.timing.get(str(name), ""), "unknown"),
            _range(material, str(name)),
            _BETTER.get(material.panel.higher.get(str(name), ""), "not said"),
            f"{int(facts['scores']):,}",
            f"{float(facts['missing_percent']):.1f}%",
            number(float(facts["mean"])),
            number(float(facts["sd"])),
            number(float(facts["scores_per_client"]), 1),
            f"{int(facts['pairs']):,}",
        )
        for name, facts in material.quality.variables.iterrows()
    )
    head = (
        "Variable",
        "Rated",
        "Range",
        "Better",
        "Scores",
        "Missing rows",
        "Mean",
        "SD",
        "Per client, median",
        "Adjacent pairs",
    )
    note = (
        "Score points. Range: the lowest and highest score that can be, where it was declared. "
        "Better: which end is good for the client. Adjacent pairs: scores whose previous session "
        "has a score of the same variable too."
    )
    return Table("scores", "The scores", head, rows, (note,))


def _range(material: Material, name: str) -> str:
    if name not in material.panel.ranges:
        return "not declared"
    low, high = material.panel.ranges[name]
    return f"{low:g} to {high:g}"


def attendance(material: Material) -> Table:
    """Show how many clients were observed at each session, small counts withheld."""
    panel = material.panel
    observed = np.isfinite(panel.arrays().Y)
    sessions = list(panel.sessions)
    columns = [("any score", observed.any(axis=2).sum(axis=0))]
    columns += [
        (name, observed[:, :, position].sum(axis=0))
        for position, name in enumerate(panel.variables)
    ]
    shown = _spread(len(sessions))
    rows = tuple((name, *(_safe_count(int(counts[t])) for t in shown)) for name, counts in columns)
    notes = [f"Counts below {SMALL_CELL} are not shown."]
    if len(shown) < len(sessions):
        notes.insert(0, f"{len(shown)} of {len(sessions)} sessions, evenly spread.")
    who = "Clients" if panel.n_persons == panel.n_clients else "Episodes"
    head = (f"{who} with", *(str(sessions[t]) for t in shown))
    return Table("attendance", f"{who} observed at each session", head, rows, tuple(notes))


def _spread(sessions: int) -> list[int]:
    kept = min(sessions, _MOST_SESSIONS)
    return sorted(set(np.linspace(0, sessions - 1, kept).round().astype(int).tolist()))


def _safe_count(count: int) -> str:
    return f"{count:,}" if count >= SMALL_CELL or count == 0 else f"< {SMALL_CELL}"


def _count(value: Any) -> str:
    return "–" if value is None or pd.isna(value) else f"{int(value):,}"


# -- trait and state ----------------------------------------------------------------------------


def variance(decomposition: Decomposition) -> Table:
    """Show variances and intraclass correlations by level and variable."""
    head = ["Level"]
    for name in decomposition.variance.columns:
        head += [f"{name}, variance", f"{name}, share"]
    rows = []
    for level in decomposition.variance.index:
        cells = [f"Between {level}s" if level != "session" else "Within clients, over sessions"]
        for name in decomposition.variance.columns:
            share = (
                decomposition.icc.loc[level, name] if level in decomposition.icc.index else np.nan
            )
            cells += [number(float(decomposition.variance.loc[level, name]), 3), _share(share)]
        rows.append(tuple(cells))
    notes = (
        f"{decomposition.estimator.rstrip('.')}.",
        "The share of a level is its intraclass correlation (ICC).",
    )
    return Table("variance", "Variance by level", tuple(head), tuple(rows), notes)


def _share(value: float) -> str:
    return "–" if not np.isfinite(value) else f"{value:.2f}"


def correlations(decomposition: Decomposition) -> Table:
    """Show every pair's correlation between and within clients."""
    names = [str(name) for name in decomposition.correlation_between.columns]
    rows = []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            between = float(decomposition.correlation_between.loc[first, second])
            within = float(decomposition.correlation_within.loc[first, second])
            rows.append((f"{first}, {second}", number(between), number(within)))
    around = _AROUND[decomposition.trend_kind]
    return Table(
        "correlations",
        "Correlations of the two parts",
        ("Pair", "Between clients", "Within clients, same session"),
        tuple(rows),
        (f"Of the observed parts: client means, and deviations {around}.",),
    )


_AROUND = {
    "session": "from them after the course that all clients share (session means) is taken out",
    "linear": "from each client’s own line",
    None: "from them; a course that all clients share is in them",
}


def reliability(decomposition: Decomposition) -> Table:
    """Show how well a client's mean measures the stable level."""
    rows = tuple(
        (str(name), number(float(row["reliability"])), number(float(row["white_noise"])))
        for name, row in decomposition.reliability.iterrows()
    )
    return Table(
        "reliability",
        "Reliability of the client’s mean as a measure of the stable level",
        ("Variable", "With autocorrelation", "White-noise formula"),
        rows,
        ("Average over clients. The white-noise formula overstates it where sessions carry over.",),
    )


def therapists(material: Material) -> Table | None:
    """Show the association of process and outcome by therapist, client and session."""
    part = material.partition
    if part is None:
        return None
    rows = []
    for level, words in _LEVELS.items():
        if level not in part.table.loc["observed"].index:
            continue
        cells = [words]
        for version in ("observed", "latent"):
            slope = part.slope(level, version)
            share = float(part.table.loc[(version, level), "share"])
            said = "–"
            if np.isfinite(slope.value):
                said = number(slope.value, 3)
            if np.isfinite(slope.lower):
                said = interval(slope.value, slope.lower, slope.upper)
            cells += [_share(share), said]
        rows.append(tuple(cells))
    head = ("", "Share, observed", "Slope, observed", "Share, latent", "Slope, latent")
    notes = (
        f"{part.process.capitalize()} at one session and {part.outcome} at the next: "
        f"{part.therapists:,} therapists, {people(part.clients, part.persons)}, {part.pairs:,} "
        f"pairs. Share of the variance of {part.process}; points of {part.outcome} per point of "
        f"{part.process}. {COURSES[part.trend]}",
        "Latent means: what the averages would be with many clients and many sessions.",
    )
    title = "Whose average goes with the outcome: the therapist’s or the client’s?"
    return Table("therapists", title, head, tuple(rows), notes)


_LEVELS = {
    "therapist": "Therapist’s average",
    "client": "Client within caseload",
    "session": "Session within client",
    "total": "All levels together",
    "difference": "Therapist minus client",
}


# -- models -------------------------------------------------------------------------------------


def effects(material: Material) -> Table:
    """Show both directions of every model, raw and standardized."""
    process, outcome = material.fit.process, material.fit.outcome
    frame = material.comparison
    pairs = ((process, outcome), (outcome, process))
    head = ["Model", "Form"]
    for source, target in pairs:
        head += [f"{source} → {target}, raw", f"{source} → {target}, SD"]
    rows = []
    for label, fit in material.fits.items():
        mine = frame[frame["model"] == label]
        groups = list(dict.fromkeys(mine["group"])) if "group" in mine else [EVERYONE]
        for group in groups or [EVERYONE]:
            own = mine[mine["group"] == group] if "group" in mine else mine
            name = _labeled(label, fit) + ("" if group == EVERYONE else f", {group}")
            for form in forms_in(own) or ("reduced",):
                cells = [name, SHORT[form]]
                for source, target in pairs:
                    here = own[(own["source"] == source) & (own["target"] == target)]
                    cells += _pair_cells(here, form)
                rows.append(tuple(cells))
    return Table(
        "effects",
        "Lagged effects, every model",
        tuple(head),
        tuple(rows),
        (
            "Raw: score points of the later score per score point of the earlier. SD: "
            "within-client standard deviations. Estimates with 95% intervals. Session to session: "
            "both paths over one session (reduced form). Time order: the scores in the order in "
            "which they are taken (structural form).",
            *_other_lags(frame),
        ),
    )


def _other_lags(frame: pd.DataFrame) -> list[str]:
    """Say which models speak about another lag than one session."""
    if "lag" not in frame:
        return []
    other = frame[~frame["lag"].astype(str).str.startswith(USUAL)]
    said = dict.fromkeys(zip(other["model"].astype(str), other["lag"].astype(str), strict=True))
    return [f"{model}: {lag} apart." for model, lag in said]


def _labeled(label: str, fit: Fit) -> str:
    remarks = ["detrended"] if is_detrended(label) and "detrended" not in label.lower() else []
    if not fit.converged:
        remarks.append("did not converge")
    if fit.diagnostics.get("boundary"):
        remarks.append("at a bound")
    return f"{label} ({', '.join(remarks)})" if remarks else label


def _pair_cells(mine: pd.DataFrame, form: str) -> list[str]:
    if mine.empty:
        return ["–", "–"]
    row = mine.iloc[0]
    cells = []
    for standardized in (False, True):
        value, lower, upper = (float(row[name]) for name in columns(form, standardized))
        cells.append(interval(value, lower, upper) if np.isfinite(value) else "–")
    return cells


def indices(material: Material) -> Table:
    """Show fit indices, and say why where there are none; without any, AIC and BIC alone."""
    rows: list[tuple[str, ...]] = []
    reasons: list[tuple[str, str]] = []
    for label, fit in material.fits.items():
        found, reason = _indices_of(fit)
        rows.append((label, *_index_cells(found), *_criteria(material, label)))
        if reason:
            reasons.append((label, reason))
    head: tuple[str, ...] = (
        "Model",
        "χ² (df)",
        "p",
        "CFI",
        "TLI",
        "RMSEA [90%]",
        "SRMR",
        "AIC",
        "BIC",
    )
    if all(cell == "–" for row in rows for cell in row[1:-2]):
        head = (head[0], *head[-2:])
        rows = [(row[0], *row[-2:]) for row in rows]
    notes = [INDICES if len(head) > 3 else CRITERIA]
    for labels, reason in merged(reasons):
        many = f"{len(labels)} models" if len(labels) > _MOST_NAMED else ", ".join(labels)
        who = "No fit indices" if len(labels) == len(material.fits) else many
        notes.append(f"{who}: {reason}")
    if any("–" in row[-2:] for row in rows):
        notes.append(
            "AIC and BIC are given only where the same scores were modeled as in the first model."
        )
    return Table("indices", "Fit of every model", head, tuple(rows), tuple(notes))


def index_row(fit: Fit) -> tuple[str, ...]:
    """Return chi-square, p, CFI, TLI, RMSEA and SRMR of a fit; a dash for each there is none of."""
    return _index_cells(_indices_of(fit)[0])


def _indices_of(fit: Fit) -> tuple[dict[str, Any], str]:
    try:
        found = dict(fit.fit_indices())
    except AllianceDynError as refusal:
        return {}, str(refusal)
    return found, str(found.get("reason") or "")


def _index_cells(found: dict[str, Any]) -> tuple[str, ...]:
    tail = "_scaled" if np.isfinite(_float(found, "chisq_scaled")) else ""

    def value(name: str) -> str:
        scaled = _float(found, f"{name}{tail}")
        return number(scaled if np.isfinite(scaled) else _float(found, name), 3)

    chisq = _float(found, f"chisq{tail}")
    test = f"{number(chisq, 1)} ({number(_float(found, 'df'), 0)})" if np.isfinite(chisq) else "–"
    ends = (_float(found, "rmsea"), _float(found, "rmsea_lower"), _float(found, "rmsea_upper"))
    pvalue = _float(found, f"pvalue{tail}")
    rmsea = interval(*ends, 3) if np.isfinite(ends[0]) else "–"
    return test, probability(pvalue), value("cfi"), value("tli"), rmsea, value("srmr")


def _float(found: dict[str, Any], name: str) -> float:
    value = found.get(name)
    return float(value) if isinstance(value, int | float | np.floating) else float("nan")


def _criteria(material: Material, label: str) -> tuple[str, str]:
    frame = material.comparison
    mine = frame[frame["model"] == label]
    if mine.empty:
        return "–", "–"
    row = mine.iloc[0]
    return number(float(row["aic"]), 1), number(float(row["bic"]), 1)


def bases(material: Material) -> Table | None:
    """Show the headline model's two readings of time side by side."""
    answer = material.directions.get(material.speaker)
    if answer is None or len(answer.by_basis) < 2:
        return None
    rows = tuple(
        (
            capital(form_name(form, answer.lag)),
            _estimate(one.forward),
            _estimate(one.backward),
            _estimate(one.difference),
            {"forward": answer.source, "backward": answer.target}.get(one.lead, one.lead),
        )
        for form, one in answer.forms.items()
    )
    head = (
        "Reading",
        f"{answer.source} → {answer.target}",
        f"{answer.target} → {answer.source}",
        "Difference in size",
        "Leads",
    )
    return Table("bases", f"Two readings of time, {material.speaker}", head, rows, ())


def _estimate(one: Any) -> str:
    return interval(one.value, one.lower, one.upper)


# -- groups -------------------------------------------------------------------------------------


def groups(material: Material) -> Table | None:
    """Show both directions in every group."""
    found = material.groups
    if found is None:
        return None
    names = {"forward": found.fit.process, "backward": found.fit.outcome}
    rows = tuple(
        (
            group,
            f"{_estimate(one.forward)} {one.forward_state}",
            f"{_estimate(one.backward)} {one.backward_state}",
            names.get(one.lead, one.lead),
        )
        for group, one in found.directions.items()
    )
    head = (
        "Group",
        f"{found.fit.process} → {found.fit.outcome}",
        f"{found.fit.outcome} → {found.fit.process}",
        "Leads",
    )
    forms = {capital(form_name(one.basis, one.lag)): None for one in found.directions.values()}
    note = (
        f"{' or '.join(forms)}: within-client standard deviations of each group, with 95% "
        "intervals."
    )
    return Table("groups", f"{found.label}, by {found.column}", head, rows, (note,))
