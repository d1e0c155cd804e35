"""Which clients, sessions and scores a model uses, and what it must refuse before fitting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alliancedyn.errors import SpecificationError, at_sessions, listed, nearest
from alliancedyn.models.columns import by_client, by_session, by_session_or_client
from alliancedyn.panel import SessionPanel
from alliancedyn.panel.identifiers import natural
from alliancedyn.results import Observed, Sample
from alliancedyn.results.scores import clusters

Array = NDArray[np.float64]

FEWEST_CLIENTS = 5
MOST_GROUPS = 20
CLIENTS_PER_SESSION = 5  # fewer cannot carry a mean, lag or innovation of their own


@dataclass(frozen=True)
class Needs:
    """What a model needs of a panel.

    Parameters
    ----------
    variables : tuple of str, optional
        Series; by default all of the panel, or all that have indicators.
    indicators : dict of str to list of str, optional
        Items of series that have several.
    covariates, time_varying : tuple of str
        Client-level and session-level numbers.
    moderators : tuple of str
        Numbers of clients or of their sessions, which follow the inputs.
    group : str, optional
        Client-level column.
    therapist : bool
        Whether every client must have a therapist.
    days : bool
        Whether the day of every session must be known.
    fewest : int
        Series that the model needs.
    """

    variables: tuple[str, ...] | None = None
    indicators: Mapping[str, list[str]] | None = None
    covariates: tuple[str, ...] = ()
    time_varying: tuple[str, ...] = ()
    moderators: tuple[str, ...] = ()
    group: str | None = None
    therapist: bool = False
    days: bool = False
    fewest: int = 2


@dataclass(frozen=True)
class Selection:
    """What a model uses of a panel, and what it sets aside.

    Parameters
    ----------
    data : Observed
        The clients with a score.
    sample : Sample
        What was used and what was set aside.
    """

    data: Observed
    sample: Sample

    @property
    def sessions(self) -> tuple[int, ...]:
        """The T session numbers."""
        return self.data.sessions


def select(
    panel: SessionPanel,
    needs: Needs,
    sessions: tuple[int, ...] | None = None,
    few: bool = False,
) -> Selection:
    """Pick the model's scores and sessions; set aside clients who cannot be used, by reason.

    Parameters
    ----------
    panel : SessionPanel
    needs : Needs
    sessions : (int, int), optional
        First and last session number; all of the panel by default.
    few : bool
        Whether a handful of clients will do, as for a forecast.

    Raises
    ------
    SpecificationError
        If something that the model needs is not in the panel, the session range is empty, too few
        clients are left, or a series never varies.
    """
    if not isinstance(panel, SessionPanel):
        raise SpecificationError(
            f"A model is fitted to a SessionPanel, not to a {type(panel).__name__}. "
            "Make one with read_sessions() or SessionPanel.from_frame()."
        )
    arrays = panel.arrays()
    chosen = _chosen(arrays.variables, needs)
    numbers, window = _window(arrays.sessions, sessions, exact=few)
    everywhere = arrays.Y[:, :, [arrays.variables.index(name) for name in chosen]]
    Y = np.full((panel.n_clients, len(numbers), len(chosen)), np.nan)
    Y[:, np.isin(numbers, arrays.sessions)] = everywhere[:, window]
    days = np.full(Y.shape[:2], np.nan)
    days[:, np.isin(numbers, arrays.sessions)] = arrays.days[:, window]
    covariates = _covariates(panel, needs.covariates)
    moderators = _moderators(panel, needs.moderators, numbers)
    inputs = _inputs(panel, needs.time_varying, numbers, Y)
    codes, groups = _groups(panel, needs.group)
    aside = {"no score in the sessions of the model": np.isnan(Y).all(axis=(1, 2))}
    aside |= {f"no {name}": np.isnan(covariates[:, c]) for c, name in enumerate(needs.covariates)}
    for c, name in enumerate(needs.moderators):
        aside[f"no {name}"] = np.isnan(moderators[:, :, c]).all(axis=1)
    if needs.therapist:
        aside["no therapist"] = arrays.therapist < 0
    if needs.group is not None:
        aside[f"no {needs.group}"] = codes < 0
    kept: NDArray[np.bool_] = ~np.any(np.array(list(aside.values())), axis=0)
    if not few:
        _refuse_few(int(kept.sum()), chosen, numbers, aside)
    data = Observed(
        clients=arrays.clients[kept],
        sessions=numbers,
        variables=chosen,
        Y=Y[kept],
        days=days[kept],
        therapist=arrays.therapist[kept],
        covariates=covariates[kept],
        inputs=np.concatenate([inputs, moderators], axis=2)[kept],
        group=np.maximum(codes[kept], 0),
        groups=groups,
        seen=kept,
        person=np.unique(panel.persons[kept].astype(str), return_inverse=True)[1].astype(np.int64),
    )
    if not few:
        _refuse_constant(data)
        _refuse_constant_covariates(data, needs)
        _refuse_small_groups(data)
    return Selection(data, _sample(panel, data, everywhere, window, aside))


def _chosen(known: tuple[str, ...], needs: Needs) -> tuple[str, ...]:
    """Return the scores that the model uses: series without indicators in panel order."""
    items = {name: list(own) for name, own in (needs.indicators or {}).items()}
    taken = [item for own in items.values() for item in own]
    wanted = needs.variables or tuple(items or known)
    unknown = [name for name in (*wanted, *taken) if name not in (*known, *items)]
    if unknown:
        raise SpecificationError(
            f"The panel has no variable {listed(unknown)}; it has {listed(known, 8)}."
            f"{nearest(unknown[0], known)}"
        )
    single = [name for name in known if name in wanted]  # in panel order
    if len(set(wanted)) < needs.fewest or len(set(wanted)) < len(wanted):
        raise SpecificationError(
            f"A {'model' if needs.fewest < 2 else 'cross-lagged model'} needs "
            f"{'one' if needs.fewest < 2 else 'two'} or more different variables, "
            f"not {list(wanted)}. "
            "Name them with variables=(...)."
        )
    if not items:
        return tuple(single)
    return tuple(item for name in wanted for item in items.get(name, [name]))


def _window(
    known: NDArray[np.int64], sessions: tuple[int, ...] | None, exact: bool
) -> tuple[tuple[int, ...], NDArray[np.bool_]]:
    """Return the session numbers of the model, and which of the panel's they are."""
    ends = (int(known[0]), int(known[-1])) if sessions is None else sessions
    first, last = ends[0], ends[-1]
    window = (known >= first) & (known <= last)
    if not window.any():
        raise SpecificationError(
            f"sessions=({first}, {last}) holds none of the panel's sessions "
            f"{known[0]} to {known[-1]}."
        )
    if exact and sessions is not None:
        return sessions, window
    return tuple(int(s) for s in known[window]), window


def _covariates(panel: SessionPanel, names: tuple[str, ...]) -> Array:
    """Return client-level numbers, (n_clients, c)."""
    columns = [by_client(panel, name) for name in names]
    return np.array(columns, float).reshape(len(names), panel.n_clients).T


def _inputs(
    panel: SessionPanel, names: tuple[str, ...], numbers: tuple[int, ...], Y: Array
) -> Array:
    """Return session-level numbers, (n_clients, T, q); 0 where there was no session."""
    out = np.zeros((*Y.shape[:2], len(names)))
    scored = ~np.isnan(Y).all(axis=2)
    for c, name in enumerate(names):
        values = by_session(panel, name, numbers)
        if missing := int((np.isnan(values) & scored).sum()):
            raise SpecificationError(
                f"The time-varying covariate {name!r} is not a number in {missing} sessions that "
                "have scores. Fill it in (0 where nothing happened), or set those scores missing."
            )
        out[:, :, c] = np.nan_to_num(values, nan=0.0)
    return out


def _moderators(panel: SessionPanel, names: tuple[str, ...], numbers: tuple[int, ...]) -> Array:
    """Return numbers of clients or of their sessions, (n_clients, T, q), NaN = unknown."""
    out = np.empty((panel.n_clients, len(numbers), len(names)))
    for c, name in enumerate(names):
        out[:, :, c] = by_session_or_client(panel, name, numbers)
    return out


def _groups(panel: SessionPanel, by: str | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return group codes (n_clients,), -1 where unknown, and the labels of the groups."""
    if by is None:
        return np.zeros(panel.n_clients, np.int64), ()
    values = panel.client_values(by)
    text = [
        None if v is None or v != v else f"{v:g}" if isinstance(v, float) else str(v)
        for v in values
    ]
    labels = sorted({t for t in text if t is not None}, key=natural)
    if not 2 <= len(labels) <= MOST_GROUPS:
        raise SpecificationError(
            f"group={by!r} makes {len(labels)} groups; give a column with 2 to {MOST_GROUPS}."
        )
    at = {label: code for code, label in enumerate(labels)}
    codes = np.array([-1 if t is None else at[t] for t in text], np.int64)
    return codes, tuple(f"{by}={label}" for label in labels)


def _refuse_small_groups(data: Observed) -> None:
    counts = np.bincount(data.group, minlength=len(data.groups))
    small = [g for g, n in zip(data.groups, counts, strict=False) if n < FEWEST_CLIENTS]
    if small:
        raise SpecificationError(
            f"Groups of fewer than {FEWEST_CLIENTS} clients cannot have parameters of their own: "
            f"{listed(small)}. Join them with others, or leave group= out."
        )


def _refuse_few(
    kept: int,
    chosen: tuple[str, ...],
    numbers: tuple[int, ...],
    aside: Mapping[str, NDArray[np.bool_]],
) -> None:
    if kept >= FEWEST_CLIENTS:
        return
    others = {reason: int(who.sum()) for reason, who in list(aside.items())[1:] if who.any()}
    lost = "".join(f" {n} clients have {reason}." for reason, n in others.items())
    raise SpecificationError(
        f"{kept} clients have a score of {listed(chosen)} in sessions {numbers[0]} to "
        f"{numbers[-1]}; a model of differences between and within clients needs "
        f"{FEWEST_CLIENTS} or more.{lost} Add clients, or widen sessions=(first, last)."
    )


def _sample(
    panel: SessionPanel,
    data: Observed,
    everywhere: Array,
    window: NDArray[np.bool_],
    aside: Mapping[str, NDArray[np.bool_]],
) -> Sample:
    seen: NDArray[np.bool_] = np.any(~np.isnan(data.Y), axis=2)
    rows = int(seen.sum())
    scored: NDArray[np.bool_] = np.any(~np.isnan(everywhere), axis=2)
    inside = int(scored[:, window].sum())
    reasons, counted = {}, np.zeros(panel.n_clients, bool)
    for reason, who in aside.items():  # each client once, by the first reason that holds
        reasons[reason] = int((who & ~counted).sum())
        counted |= who
    dropped = {
        "no score of the model's variables": len(panel.frame) - int(scored.sum()),
        "outside the sessions of the model": int(scored.sum()) - inside,
        "of clients set aside": inside - rows,
    }
    return Sample(
        clients=len(data.Y),
        sessions=len(data.sessions),
        rows=rows,
        pairs=int((seen[:, 1:] & seen[:, :-1]).sum()),
        clients_set_aside={reason: n for reason, n in reasons.items() if n},
        rows_set_aside={reason: n for reason, n in dropped.items() if n},
        persons=len(set(panel.persons[~counted])),
    )


def _refuse_constant(data: Observed) -> None:
    flat = data.Y.reshape(-1, len(data.variables))
    absent = [v for j, v in enumerate(data.variables) if np.isnan(flat[:, j]).all()]
    if absent:
        raise SpecificationError(
            f"{listed(absent)} has no score in sessions {data.sessions[0]} to {data.sessions[-1]}. "
            "Leave it out with variables=(...), or widen sessions=(first, last)."
        )
    spread = np.nanmax(flat, axis=0) - np.nanmin(flat, axis=0)
    constant = [v for j, v in enumerate(data.variables) if not spread[j] > 0.0]
    if constant:
        raise SpecificationError(
            f"{listed(constant)} has the same value in every row, so nothing can be said about "
            "what moves with it. Leave it out with variables=(...), or check the export."
        )


def _refuse_constant_covariates(data: Observed, needs: Needs) -> None:
    moderators = data.inputs[:, :, data.inputs.shape[2] - len(needs.moderators) :]
    low = [*data.covariates.min(axis=0), *np.nanmin(moderators, axis=(0, 1))]
    high = [*data.covariates.max(axis=0), *np.nanmax(moderators, axis=(0, 1))]
    names = (*needs.covariates, *needs.moderators)
    if same := [name for name, a, b in zip(names, low, high, strict=True) if not b > a]:
        raise SpecificationError(
            f"The covariate {listed(same)} is the same for all clients in the model. Leave it out."
        )
    for group, rows in data.rows_by_group() if data.groups else ():
        spread = np.ptp(data.covariates[rows], axis=0)
        if same := [c for c, width in zip(needs.covariates, spread, strict=True) if not width > 0]:
            raise SpecificationError(
                f"The covariate {listed(same)} is the same for all clients where {group}: it says "
                "what the groups say already. Leave it out, or leave group= out."
            )


def refuse_thin_sessions(
    selection: Selection, means: bool = False, lags: bool = False, innovations: bool = False
) -> None:
    """Refuse parameters of a session of its own where fewer than five clients were seen.

    A mean needs clients with the score, an innovation covariance with both scores of a pair, a
    lagged effect with the outcome there and the predictor the session before.

    Raises
    ------
    SpecificationError
        With the sessions and the remedy.
    """
    for _, rows in selection.data.rows_by_group():
        _refuse_thin_group(selection, rows, means, lags, innovations)


def _refuse_thin_group(
    selection: Selection, rows: NDArray[np.int64], means: bool, lags: bool, innovations: bool
) -> None:
    seen = (~np.isnan(selection.data.Y[rows])).astype(float)
    T, k = seen.shape[1:]
    fewest = {}  # by session and series
    if means:
        fewest["mean"] = seen.sum(axis=0)
    if innovations:
        pairs = np.einsum("nti,ntj->tij", seen[:, 1:], seen[:, 1:])
        fewest["innovation covariance"] = np.full((T, k), np.inf)
        fewest["innovation covariance"][1:] = pairs.min(axis=2)
    if lags:
        pairs = np.einsum("nti,ntj->tij", seen[:, 1:], seen[:, :-1])
        fewest["lagged effect"] = np.full((T, k), np.inf)
        fewest["lagged effect"][1:] = pairs.min(axis=2)
    for what, counts in fewest.items():
        if (counts < CLIENTS_PER_SESSION).any():
            _refuse_thin(selection, counts >= CLIENTS_PER_SESSION, what)


def _refuse_thin(selection: Selection, enough: NDArray[np.bool_], what: str) -> None:
    """Refuse parameters of sessions that are not ``enough`` (T, k) for them."""
    option = {"mean": "means", "innovation covariance": "innovations", "lagged effect": "lags"}
    sessions = selection.sessions
    thin = [s for s, them in zip(sessions, enough, strict=True) if not them.all()]
    window = longest_run([s for s in sessions if s not in thin])
    narrower = f", or sessions=({window[0]}, {window[-1]})" if len(window) > 2 else ""
    said = (
        f"Fewer than {CLIENTS_PER_SESSION} clients are seen at {at_sessions(thin)}, too few for a "
        f"{what} of its own."
    )
    smooth = ""
    if len(window) < 3 or enough.all(axis=0).any():  # who is rated when, not who stays
        said = _rated(selection, enough, what)
        smooth = ', or ContinuousTime(time="session", trend="linear")'
    raise SpecificationError(f'{said} Use {option[what]}="equal"{smooth}{narrower}.')


def _rated(selection: Selection, enough: NDArray[np.bool_], what: str) -> str:
    """Say at which sessions alone a series is seen often enough."""
    found = []
    for name, own in zip(selection.data.variables, enough.T, strict=True):
        if not own.all():
            at = [s for s, ok in zip(selection.sessions, own, strict=True) if ok]
            found.append(f"{name!r} at {at_sessions(at)} alone" if at else f"{name!r} at none")
    return (
        f"{CLIENTS_PER_SESSION} or more clients, the least for a {what} of its own, have "
        f"{'; '.join(found)} (of sessions {selection.sessions[0]} to {selection.sessions[-1]})."
    )


def longest_run(numbers: list[int]) -> list[int]:
    """Return the longest run of consecutive numbers."""
    best: list[int] = []
    run: list[int] = []
    for number in numbers:
        run = [*run, number] if run and number == run[-1] + 1 else [number]
        best = max(best, run, key=len)
    return best


def cluster_codes(panel: SessionPanel, selection: Selection, by: str) -> NDArray[np.int64]:
    """Return the cluster code of every client of the selection.

    Clients whose cluster is not known, as those without a therapist, are clusters alone.

    Raises
    ------
    SpecificationError
        If no cluster is known, or there is only one.
    """
    codes, why = clusters(f"cluster:{by}", panel, selection.data)
    if codes is None:
        raise SpecificationError(str(why))
    if by == "therapist" and (selection.data.therapist < 0).all():
        raise SpecificationError(
            f"All {len(codes)} clients have no therapist, so their errors cannot be clustered. "
            'Name the column when reading, or use errors="robust".'
        )
    if codes.max() < 1:
        raise SpecificationError(
            f"All clients have the same {by}; clustered errors need two or more. "
            'Use errors="robust".'
        )
    return codes
