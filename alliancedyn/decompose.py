"""Split every score into a stable client level, a trend and a within-client part.

    score = between + trend + within        for every client, session and variable.

The parts are observed ones: person means and deviations from them. The variances, and so the
intraclass correlations, are estimated (REML) and free of the sampling error that person means
carry. Person means use future sessions: they describe, they must never forecast.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.checking import checked, named
from alliancedyn.engine.mixed import fit_variance_components
from alliancedyn.engine.nested import VarianceComponents
from alliancedyn.engine.serial import fit_serial, mean_error_factor
from alliancedyn.engine.trends import fit_client_lines, fit_session_effects
from alliancedyn.errors import SpecificationError
from alliancedyn.panel import Issue, SessionPanel
from alliancedyn.panel.issues import about_clients

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Trend = Literal["session", "linear"] | None

LEVELS = (("client",), ("therapist", "client"))
AROUND = {
    None: "around their means: a course that all share is in it",
    "session": "around their means and the course that all share",
    "linear": "around their own lines",
}
RELIABILITY_COLUMNS = (
    "reliability",
    "reliability_median",
    "white_noise",
    "white_noise_median",
    "autocorrelation",
    "between_var",
    "within_var",
    "clients",
)


@named
@dataclass(frozen=True, repr=False, eq=False)
class Decomposition:
    """Between, trend and within parts of a panel, and what each level contributes.

    Attributes
    ----------
    within, trend, detrended : DataFrame
        Columns ``client``, ``session`` and the variables, in score points, one row per row of
        ``panel.frame``; NaN where a score is missing or its trend cannot be estimated.
        ``detrended`` = score - trend = between + within: it keeps the client's level.
    between : DataFrame
        Columns ``client`` and the variables: each client's mean over the client's own observed
        sessions (of the score minus its trend), in score points.
    variance : DataFrame
        Level (therapist, client, session) by variable, REML, squared score points.
    icc : DataFrame
        Level by variable: the share of the total variance that lies at that level. Two sessions of
        one client correlate by the sum of the rows (without autocorrelation).
    correlation_within, correlation_between : DataFrame
        Pearson correlations of the observed parts: over sessions of clients with at least two
        scores of both variables; over clients.
    pairs_within, pairs_between : DataFrame
        The numbers of sessions and of clients behind them.
    reliability : DataFrame
        One row per variable: reliability of the person mean as a measure of the stable level, its
        mean and median over clients, with autocorrelated deviations (``reliability``) and with
        the white-noise formula (``white_noise``); the autocorrelation one session apart and the
        two variances it rests on.
    boundary : tuple of str
        A sentence for every variance or autocorrelation that ends at its bound.
    issues : list of Issue
        What was set aside or could not be estimated, counted and named.
    estimator : str
        The estimator behind ``variance``, ``icc`` and ``reliability``.
    trend_kind, levels
        The options asked for.
    """

    within: pd.DataFrame
    between: pd.DataFrame
    trend: pd.DataFrame
    detrended: pd.DataFrame
    variance: pd.DataFrame
    icc: pd.DataFrame
    correlation_within: pd.DataFrame
    correlation_between: pd.DataFrame
    pairs_within: pd.DataFrame
    pairs_between: pd.DataFrame
    reliability: pd.DataFrame
    boundary: tuple[str, ...]
    issues: list[Issue]
    estimator: str
    trend_kind: Trend
    levels: tuple[str, ...]

    def __repr__(self) -> str:
        variables = ", ".join(self.variance.columns)
        return (
            f"Decomposition({variables}; {len(self.between)} clients; "
            f"trend={self.trend_kind!r}, levels={'+'.join(self.levels)})"
        )

    def __str__(self) -> str:
        blocks = [f"{title}\n{table.round(3).to_string()}" for title, table in self._tables()]
        return "\n\n".join([repr(self), *blocks, *self._sentences()])

    def _repr_html_(self) -> str:
        blocks = [
            f"<h4>{escape(title)}</h4>{table.round(3).to_html()}" for title, table in self._tables()
        ]
        notes = "".join(f"<p>{escape(sentence)}</p>" for sentence in self._sentences())
        return f"<p><b>{escape(repr(self))}</b></p>{''.join(blocks)}{notes}"

    def _tables(self) -> list[tuple[str, pd.DataFrame]]:
        return [
            ("Variance by level (REML, squared score points)", self.variance),
            ("Intraclass correlation (share of the total variance)", self.icc),
            (f"Correlation within clients, {AROUND[self.trend_kind]}", self.correlation_within),
            ("Sessions behind it", self.pairs_within),
            ("Correlation between clients' means", self.correlation_between),
            ("Clients behind it", self.pairs_between),
            ("Reliability of the person mean", self.reliability),
        ]

    def _sentences(self) -> list[str]:
        return [*self.boundary, *(issue.message for issue in self.issues), self.estimator]


@dataclass(frozen=True)
class _Rows:
    """The rows of the panel with clients and sessions as codes."""

    keys: pd.DataFrame  # client, session
    scores: pd.DataFrame
    client: Codes
    session: Codes  # number
    clients: tuple[str, ...]
    therapist: Codes  # per client, -1 unknown

    def named(self, clients: Codes) -> list[str]:
        return [self.clients[position] for position in clients]


@dataclass(frozen=True)
class _Parts:
    """One variable taken apart; arrays per row, but ``between`` per client."""

    between: Array
    trend: Array
    within: Array
    absorbed: int  # degrees of freedom that the trend took of what follows in ``detrended``


@checked
def decompose(
    panel: SessionPanel,
    trend: Trend = "session",
    levels: tuple[str, ...] = ("client",),
) -> Decomposition:
    """Split scores into between, trend and within parts, and their variance into levels.

    Parameters
    ----------
    panel : SessionPanel
        Scores by client and session. Missing scores stay missing; gaps stay gaps.
    trend : "session", "linear" or None
        ``"session"``: the course that all clients share, the session means minus the grand mean,
        adjusted by least squares for which clients attended (with complete data: exactly the
        session means minus the grand mean). ``"linear"``: each client's own least-squares line
        against the session number, as a deviation from the client's mean; it needs three scores
        of the variable, fewer leave trend and within part missing. None: no trend; a course that
        all share then counts as change within clients, in every number.
    levels : ("client",) or ("therapist", "client")
        Groupings whose variances are separated, outer to inner. A client who changed therapist
        counts under the therapist of most sessions.

    Returns
    -------
    Decomposition
        Its parts add up to the score wherever none of them is missing.

    Raises
    ------
    SpecificationError
        If an option is unknown, or the therapist level is asked of a panel that names fewer than
        two therapists or only therapists with a single client.

    References
    ----------
    Curran & Bauer (2011), The disaggregation of within-person and between-person effects in
    longitudinal models of change, Annual Review of Psychology 62, 583-619.
    """
    if levels not in LEVELS:
        raise SpecificationError(
            f'Unknown levels {levels!r}. Use ("client",) or ("therapist", "client").'
        )
    rows = _rows(panel)
    issues = _therapist_issues(panel, rows) if "therapist" in levels else []
    parts: dict[str, _Parts] = {}
    for name in panel.variables:
        parts[name], found = _take_apart(rows, name, trend)
        issues.extend(found)
    variance, boundary, found = _variances(rows, parts, levels, trend)
    reliability, limits, more = _reliabilities(rows, parts, variance, trend)
    within, between, trends = (
        pd.DataFrame({name: getattr(part, piece) for name, part in parts.items()})
        for piece in ("within", "between", "trend")
    )
    repeated = within.where(within.groupby(rows.client).transform("count") > 1)
    return Decomposition(
        within=pd.concat([rows.keys, within], axis=1),
        between=pd.concat([pd.DataFrame({"client": rows.clients}), between], axis=1),
        trend=pd.concat([rows.keys, trends], axis=1),
        detrended=pd.concat([rows.keys, rows.scores - trends], axis=1),
        variance=variance,
        icc=variance.iloc[:-1] / variance.sum(skipna=False),
        correlation_within=_named(repeated.corr()),
        correlation_between=_named(between.corr()),
        pairs_within=_pair_counts(repeated),
        pairs_between=_pair_counts(between),
        reliability=reliability,
        boundary=(*boundary, *limits),
        issues=[*issues, *found, *more],
        estimator=_estimator(trend, levels),
        trend_kind=trend,
        levels=levels,
    )


def _rows(panel: SessionPanel) -> _Rows:
    frame, arrays = panel.frame.reset_index(drop=True), panel.arrays()
    return _Rows(
        keys=frame[["client", "session"]],
        scores=frame[list(panel.variables)].astype(np.float64),
        client=pd.Index(arrays.clients).get_indexer(pd.Index(frame["client"])).astype(np.int64),
        session=frame["session"].to_numpy(np.int64),
        clients=tuple(arrays.clients),
        therapist=arrays.therapist,
    )


def _therapist_issues(panel: SessionPanel, rows: _Rows) -> list[Issue]:
    """Refuse a therapist level that the panel cannot carry; name whom the level sets aside."""
    known = rows.therapist[rows.therapist >= 0]
    named = len(np.unique(known))
    if named < 2 or named == len(known):
        needed = "two therapists" if named < 2 else "one therapist with two clients"
        raise SpecificationError(
            f"The therapist level needs at least {needed}; this panel names {named} for its "
            f'{len(rows.clients)} clients. Name the therapist column, or use levels=("client",).'
        )
    seen = panel.frame.groupby("client", sort=False)["therapist"].nunique()
    return [
        *about_clients(
            "missing-therapist",
            "warning",
            rows.named(np.flatnonzero(rows.therapist < 0)),
            "without a therapist: left out of the variances by level",
        ),
        *about_clients(
            "therapist-switches",
            "info",
            seen.index[seen > 1],
            "with more than one therapist: counted under the one of most sessions",
        ),
    ]


def _take_apart(rows: _Rows, name: str, trend: Trend) -> tuple[_Parts, list[Issue]]:
    score = rows.scores[name].to_numpy()
    seen = np.flatnonzero(np.isfinite(score))
    client, session, y = rows.client[seen], rows.session[seen], score[seen]
    count = np.bincount(client, minlength=len(rows.clients))
    moved, absorbed, issues = np.zeros(len(y)), 0, []
    if trend == "session" and len(y):
        codes, place = np.unique(client, return_inverse=True)[1], session - session.min()
        effects = fit_session_effects(y, codes, place, int(place.max()) + 1)
        moved, absorbed = effects.effect[place], effects.rank
        issues.extend(_unlinked(name, effects.block))
    elif trend == "linear":
        slope, center = fit_client_lines(y, client, session, len(count))
        moved, absorbed = slope[client] * (session - center[client]), np.isfinite(slope).sum()
        short = rows.named(np.flatnonzero((count > 0) & (count < 3)))
        text = f"with fewer than three scores of {name}: no line, so no trend and no within part"
        issues.extend(about_clients("trend-not-estimable", "warning", short, text))
    if trend != "linear":
        text = f"with a single score of {name}: its within part is zero by construction"
        issues.extend(
            about_clients("single-scores", "info", rows.named(np.flatnonzero(count == 1)), text)
        )
    # A line is a deviation from the client's mean already; the session trend is not.
    level = y - moved if trend == "session" else y
    mean = np.bincount(client, level, len(count)) / np.where(count > 0, count, np.nan)
    full = np.full(len(score), np.nan)
    full[seen] = moved
    return _Parts(mean, full, score - full - mean[rows.client], int(absorbed)), issues


def _variances(
    rows: _Rows, parts: dict[str, _Parts], levels: tuple[str, ...], trend: Trend
) -> tuple[pd.DataFrame, list[str], list[Issue]]:
    index = pd.Index([*levels, "session"], name="level")
    table = pd.DataFrame(np.nan, index=index, columns=pd.Index(parts, name="variable"))
    sentences: list[str] = []
    issues: list[Issue] = []
    for name, part in parts.items():
        y, client, _ = _fit_rows(rows, name, part)
        groups = [client]
        if "therapist" in levels:
            known = rows.therapist[client] >= 0
            y, client = y[known], client[known]
            groups = [client, rows.therapist[client]]
        absorbed = len(np.unique(client)) if trend == "linear" else part.absorbed
        try:
            fit = fit_variance_components(y, groups, absorbed=absorbed)
        except SpecificationError as refusal:
            issues.append(_not_estimable(name, "variances", refusal))
            continue
        table[name] = [*fit.variances[::-1], fit.residual]
        sentences.extend(
            _bound_sentence(name, levels[::-1], position, fit) for position in fit.boundary
        )
        if not fit.converged:
            issues.append(_not_converged(name, "variances"))
    return table, sentences, issues


def _reliabilities(
    rows: _Rows, parts: dict[str, _Parts], variance: pd.DataFrame, trend: Trend
) -> tuple[pd.DataFrame, list[str], list[Issue]]:
    """Return the reliability of person means, tau^2 / (tau^2 + Var of the mean deviation)."""
    index = pd.Index(parts, name="variable")
    table = pd.DataFrame(np.nan, index=index, columns=pd.Index(RELIABILITY_COLUMNS))
    sentences: list[str] = []
    issues: list[Issue] = []
    for name in variance.columns[variance.notna().all()]:
        part = parts[name]
        y, client, session = _fit_rows(rows, name, part)
        clients, codes = np.unique(client, return_inverse=True)
        try:
            fit = fit_serial(y, codes, session, trend == "linear", trend == "session")
        except SpecificationError as refusal:
            issues.append(_not_estimable(name, "reliability", refusal))
            continue
        observed = np.zeros((len(clients), int(np.ptp(session)) + 1), dtype=bool)
        observed[codes, session - session.min()] = True
        serial = fit.between / (fit.between + fit.within * mean_error_factor(observed, fit.phi))
        levels, residual = variance[name].iloc[:-1].sum(), variance[name].iloc[-1]
        white = levels / (levels + residual * mean_error_factor(observed, 0.0))
        if "drift" in fit.boundary:
            serial[:] = np.nan
        table.loc[name] = [
            *(serial.mean(), np.median(serial), white.mean(), np.median(white)),
            *(fit.phi, fit.between, fit.within, len(clients)),
        ]
        sentences.extend(_serial_sentence(name, bound, trend) for bound in fit.boundary)
        if not fit.converged:
            issues.append(_not_converged(name, "reliability"))
    table["clients"] = table["clients"].fillna(0).astype(np.int64)
    return table, sentences, issues


def _fit_rows(rows: _Rows, name: str, part: _Parts) -> tuple[Array, Codes, Codes]:
    """Return detrended scores, client codes and session numbers, without missing ones."""
    used = np.flatnonzero(np.isfinite(part.within))
    detrended = rows.scores[name].to_numpy()[used] - part.trend[used]
    return detrended, rows.client[used], rows.session[used]


def _named(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename_axis(index="variable", columns="variable")


def _pair_counts(parts: pd.DataFrame) -> pd.DataFrame:
    seen = parts.notna().astype(np.int64)
    return _named(seen.T @ seen)


def _unlinked(name: str, block: Codes) -> list[Issue]:
    blocks = len(np.unique(block[block >= 0]))
    text = (
        f"The sessions of {name} fall into {blocks} blocks that no client links: the session trend "
        "compares sessions within a block only. Restrict the sessions, or leave the trend out."
    )
    return [Issue("unlinked-sessions", "warning", text, blocks)] if blocks > 1 else []


def _not_estimable(name: str, what: str, refusal: SpecificationError) -> Issue:
    return Issue("not-estimable", "warning", f"The {what} of {name} are not estimated. {refusal}")


def _not_converged(name: str, what: str) -> Issue:
    text = f"The search for the {what} of {name} stopped before its maximum: do not report them."
    return Issue("not-converged", "error", text)


def _bound_sentence(
    name: str, levels: tuple[str, ...], position: int, fit: VarianceComponents
) -> str:
    level = levels[position]
    below = "clients and sessions" if level == "therapist" else "sessions"
    return (
        f"{level} variance of {name} is estimated at zero (its lower bound, REML): the likelihood "
        f"falls as it rises from zero, so the {fit.units[position]} {level} means spread no more "
        f"than their {below} alone would make them. This is an estimate, not proof of no spread."
    )


def _serial_sentence(name: str, bound: str, trend: Trend) -> str:
    said = {
        "between": f"stable variance of {name} is estimated at zero (its lower bound, REML) once "
        "neighboring sessions may be alike, and with it the reliability of its person means. Slow "
        "change of clients' own can hide a stable level: no proof that there is none.",
        "drift": f"autocorrelation of {name} is estimated at the upper limit of the search: a slow "
        "drift and a stable level cannot be told apart, so its reliability is not given.",
        "alternation": f"autocorrelation of {name} is estimated at the lower limit of the search: "
        "its scores alternate from session to session.",
    }[bound]
    judge = ' The course that all clients share is in it: judge by trend="session".'
    return said + (judge if trend is None and bound != "alternation" else "")


def _estimator(trend: Trend, levels: tuple[str, ...]) -> str:
    taken = {
        None: ", the course that all clients share left in",
        "session": " of scores minus the shared course, whose degrees of freedom are counted",
        "linear": " of scores minus each client's line, whose degrees of freedom are counted",
    }[trend]
    return (
        "Variances and intraclass correlations: restricted maximum likelihood (REML), "
        "intercept-only, random intercepts for "
        f"{' and '.join(f'{level}s' for level in levels)}, independent sessions{taken}; carry-over "
        "from session to session counts partly as stable there. Reliability: REML with a random "
        "client intercept and first-order autocorrelated sessions. Correlations: observed parts, "
        "not corrected for unreliability."
    )
