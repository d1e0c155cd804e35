"""The quality of a panel at a glance: flow, issues by weight, facts by variable."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd

from alliancedyn.checking import checked, named
from alliancedyn.errors import people
from alliancedyn.panel.issues import SEVERITIES, counted
from alliancedyn.panel.panel import SessionPanel
from alliancedyn.panel.pauses import Spacing, intervals, spacing

FACTS = {"variable-summary": "Variables", "session-spacing": "Time"}  # codes that are no issues


@named
@dataclass(frozen=True)
class QualityReport:
    """What was found in the data.

    Parameters
    ----------
    table : DataFrame
        Severity, code, message, count: one row per issue, the heaviest first, then one row per
        variable with the code ``variable-summary``, and one of the days between sessions.
    variables : DataFrame
        Index variable: ``scores``, ``missing_percent``, ``min``, ``max``, ``mean``, ``sd`` (score
        points), ``clients`` with a score, ``scores_per_client`` (median), ``fewest``, ``most``,
        and ``pairs``, the scores whose previous session has a score of that variable too.
    flow : DataFrame
        Rows and clients after each step of reading.
    spacing : Spacing or None
        Days between sessions, where dates or days are known; in ``table`` as ``session-spacing``.
    text : str
        All of it as plain text.
    """

    table: pd.DataFrame
    variables: pd.DataFrame
    flow: pd.DataFrame
    spacing: Spacing | None
    text: str

    def __repr__(self) -> str:
        weights = self.table["severity"][~self.table["code"].isin(FACTS)].value_counts()
        nouns = zip(SEVERITIES, ("error", "warning", "note"), strict=True)
        counts = ", ".join(counted(int(weights.get(kind, 0)), noun) for kind, noun in nouns)
        return f"QualityReport({counts})"

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        parts = (self.flow.to_html(index=False), self.table.to_html(index=False))
        return f"<p><b>{escape(repr(self))}</b></p>{''.join(parts)}{self.variables.to_html()}"


@checked
def check(panel: SessionPanel) -> QualityReport:
    """Describe the quality of a panel: the flow of rows, all issues, facts by variable.

    Parameters
    ----------
    panel : SessionPanel

    Returns
    -------
    QualityReport
    """
    variables = _describe(panel)
    issues = sorted(panel.issues, key=lambda issue: SEVERITIES.index(issue.severity))
    rows = [(issue.severity, issue.code, issue.message, issue.count) for issue in issues]
    noun = "client" if panel.n_persons == panel.n_clients else "episode"
    rows += [("info", "variable-summary", _sentence(v, f, noun), int(f["scores"])) for v, f in
             variables.iterrows()]  # fmt: skip
    frame = panel.frame
    codes = pd.Index(panel.clients).get_indexer(frame["client"]).astype(np.int64)
    apart = spacing(intervals(frame, codes)[0])
    if apart is not None:
        rows.append(("info", "session-spacing", apart.text, apart.intervals))
    table = pd.DataFrame(rows, columns=["severity", "code", "message", "count"])
    return QualityReport(table, variables, panel.flow, apart, _text(panel, table))


def _describe(panel: SessionPanel) -> pd.DataFrame:
    arrays = panel.arrays()
    rows = {}
    present = len(panel.frame)
    for j, name in enumerate(panel.variables):
        Y = arrays.Y[:, :, j]
        seen = ~np.isnan(Y)
        values, per_client = Y[seen], seen.sum(axis=1)
        scored = per_client[per_client > 0]
        rows[name] = {
            "scores": len(values),
            "missing_percent": 100 * (1 - len(values) / present),
            "min": values.min(initial=np.inf) if len(values) else np.nan,
            "max": values.max(initial=-np.inf) if len(values) else np.nan,
            "mean": values.mean() if len(values) else np.nan,
            "sd": values.std(ddof=1) if len(values) > 1 else np.nan,
            "clients": len(scored),
            "scores_per_client": np.median(scored) if len(scored) else 0.0,
            "fewest": scored.min() if len(scored) else 0,
            "most": scored.max() if len(scored) else 0,
            "pairs": int((seen[:, 1:] & seen[:, :-1]).sum()),
        }
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("variable")
    return frame.astype(dict.fromkeys(("scores", "clients", "fewest", "most", "pairs"), "int64"))


def _sentence(name: object, facts: pd.Series, noun: str) -> str:
    who = counted(int(facts["clients"]), noun)
    return (
        f"{name}: {int(facts['scores']):,} scores from {facts['min']:g} to {facts['max']:g}, "
        f"{facts['missing_percent']:.1f} % of rows missing; {who} with "
        f"{int(facts['fewest'])} to {int(facts['most'])} scores (median "
        f"{facts['scores_per_client']:g}); {int(facts['pairs']):,} pairs of adjacent sessions."
    )


def _text(panel: SessionPanel, table: pd.DataFrame) -> str:
    lines = [panel.summary, "", "Rows and clients"]
    width = max(len(step) for step in panel.flow["step"])
    lines += [
        f"  {step:<{width}}  {counted(rows, 'row')}, {people(clients, *persons)}"
        for step, rows, clients, *persons in panel.flow.itertuples(index=False)
    ]
    for code, title in FACTS.items():
        said = table["message"][table["code"] == code]
        lines += ["", title, *(f"  {message}" for message in said)] if len(said) else []
    issues = table[~table["code"].isin(FACTS)]
    lines += ["", f"{counted(len(issues), 'issue')}"]
    lines += [
        f"  {severity:<8}{code}: {message}"
        for severity, code, message, _ in issues.itertuples(index=False)
    ]
    return "\n".join(lines)
