"""Turn a clean panel into an export with the flaws that practice exports have, and the answer key.

Each flaw is planted in clients of its own, so that each can be found, and counted, by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from alliancedyn.checking import checked
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.panel import SessionPanel
from alliancedyn.simulate.arguments import as_count

FIRST_DAY = np.datetime64("2024-01-08")
ENTRY_DAYS = 300  # clients start within so many days of the first
KEY = ("flaw", "row", "column", "client", "session", "true", "written", "found", "code", "remedy")


class Messy(NamedTuple):
    """An export with flaws, and where they are.

    ``text`` is the file as CSV. ``key`` has one row per flawed place: ``flaw``; ``row`` as a
    spreadsheet counts (the header is row 1); ``column``; ``client`` and ``session`` as they truly
    are; ``true`` and ``written`` cells; ``found``, how reading shows it: ``"issue"`` (reported
    under ``code``), ``"refused"`` (until ``remedy`` is passed, then reported under ``code``) or
    ``"unseen"`` (no reader can know; ``remedy`` says who can). ``key.attrs["mapping"]`` holds the
    arguments of `read_sessions`, remedies included.
    """

    text: str
    key: pd.DataFrame


@dataclass
class _Export:
    """The file while it is being spoilt."""

    frame: pd.DataFrame
    process: str
    outcome: str
    rng: np.random.Generator
    each: int
    free: list[str]
    timing: dict[str, str]
    key: list[dict[str, Any]] = field(default_factory=list)

    def take(self, shortest: int = 1) -> list[str]:
        """Return clients of at least ``shortest`` rows in whom nothing is planted yet."""
        lengths = self.frame["client_id"].value_counts()
        fit = [client for client in self.free if lengths[client] >= shortest]
        if len(fit) < self.each:
            raise SpecificationError(
                f"There are too few clients of {shortest} sessions or more for so many flaws. "
                "Simulate more clients, or ask for fewer flaws=."
            )
        taken = fit[: self.each]
        self.free = [client for client in self.free if client not in taken]
        return taken

    def rows(self, client: str) -> Any:
        """Return the index labels of a client's rows, in order."""
        return self.frame.index[self.frame["client_id"] == client]

    def scored(self, client: str, column: str) -> Any:
        """Return the label of one of the client's rows with a score, chosen at random."""
        rows = self.frame.index[(self.frame["client_id"] == client) & (self.frame[column] != "")]
        return rows[self.rng.integers(len(rows))]

    def note(self, flaw: str, label: Any, column: str, true: str, written: str) -> None:
        """Add one place to the key; the row number is filled in at the end."""
        found, code, remedy = FLAWS[flaw][1:]
        at = self.frame.loc[label]
        who, when = at["_client"], at["_session"]
        values = (flaw, label, column, who, when, true, written, found, code, remedy)
        self.key.append(dict(zip(KEY, values, strict=True)))

    def write(self, flaw: str, label: Any, column: str, text: str) -> None:
        """Overwrite one cell and note it."""
        true = self.frame.at[label, column]
        self.frame.at[label, column] = text
        self.note(flaw, label, column, true, text)

    def repeat(self, label: Any) -> Any:
        """Insert a copy of a row just before it and return the label of the copy."""
        copy = label - 0.5
        self.frame.loc[copy] = self.frame.loc[label]
        self.frame = self.frame.sort_index()
        return copy


@checked
def messy(
    panel: SessionPanel,
    seed: int | None = None,
    *,
    flaws: Sequence[str] | None = None,
    each: int = 2,
) -> Messy:
    """Write a panel as a practice would have exported it, flaws included, with the answer key.

    Parameters
    ----------
    panel : SessionPanel
        Usually simulated; its own missing scores become blank cells.
    seed : int, optional
        None: other places each time.
    flaws : sequence of str, optional
        Which to plant; None: all of `flaw_names`.
    each : int
        How many clients each flaw befalls.

    Returns
    -------
    Messy
        ``text`` and ``key``.

    Raises
    ------
    SpecificationError
        If a flaw is not known or there are too few clients.

    Examples
    --------
    >>> import alliancedyn as ad
    >>> panel = ad.worlds.load("reciprocal").simulate(clients=60, seed=1)
    >>> text, key = messy(panel, seed=1)
    """
    known = list(FLAWS)
    chosen = known if flaws is None else list(flaws)
    unknown = [name for name in chosen if name not in FLAWS]
    if unknown:
        raise SpecificationError(
            f"{listed(unknown)} is no known flaw. Use some of {listed(known, len(known))}."
        )
    seed = None if seed is None else as_count(seed, 0, "seed")
    rng = np.random.default_rng(seed)
    export = _start(panel, rng, as_count(each, 1, "each"))
    for name in known:  # in the order of the table, whatever the order asked for
        if name in chosen:
            FLAWS[name][0](export)
    return _finish(export, chosen)


def flaw_names() -> list[str]:
    """Return the names of the flaws that `messy` can plant."""
    return list(FLAWS)


def _start(panel: SessionPanel, rng: np.random.Generator, each: int) -> _Export:
    """Write the clean export: ids, dates as day/month/year, therapists, scores to two decimals."""
    own = panel.frame
    client = own["client"].astype(str).to_numpy()
    names, codes = np.unique(client, return_inverse=True)
    day = own["day"].to_numpy() if "day" in own else 7.0 * (own["session"].to_numpy() - 1)
    dates = FIRST_DAY + (rng.integers(ENTRY_DAYS, size=len(names))[codes] + day).astype(int)
    if "therapist" in own:
        therapist = own["therapist"].astype(str).to_numpy()
    else:
        therapist = np.array([f"T{1 + code % 9:02d}" for code in codes])
    frame = pd.DataFrame({"client_id": client, "episode": "1"})
    frame["session_no"] = own["session"].astype(str).to_numpy()
    frame["date"] = pd.DatetimeIndex(dates).strftime("%d/%m/%Y")
    frame["therapist_id"] = therapist
    for name in panel.variables:
        frame[name] = ["" if np.isnan(x) else f"{x:.2f}" for x in own[name].to_numpy(float)]
    frame["_client"], frame["_session"] = client, own["session"].to_numpy()
    frame.index = pd.Index(np.arange(len(frame), dtype=float))
    free = list(rng.permutation(names))
    frame = frame.astype({"_client": object})
    timing = dict(panel.timing)
    return _Export(frame, panel.process, panel.outcome, rng, each, free, timing)


def _finish(export: _Export, chosen: list[str]) -> Messy:
    frame = export.frame.sort_index()
    place = {label: row for row, label in enumerate(frame.index, start=2)}
    visible = frame.drop(columns=["_client", "_session"])
    comma = "decimal_comma" in chosen
    key = pd.DataFrame(export.key, columns=list(KEY))
    key["row"] = [place.get(label, 0) for label in key["row"]]
    if comma:
        scores = [export.process, export.outcome]
        scores += [name for name in visible.columns[5:] if name not in scores]
        for name in scores:
            visible[name] = visible[name].str.replace(".", ",", regex=False)
    key = key.sort_values(["row", "flaw"], ignore_index=True)
    key.attrs["mapping"] = {
        "client": "client_id",
        "session": "session_no",
        "date": "date",
        "day_first": True,
        "therapist": "therapist_id",
        "episode": "episode",
        "variables": {name: name for name in visible.columns[5:]},
        "process": export.process,
        "outcome": export.outcome,
        "timing": export.timing,
        "missing_codes": {export.outcome: [-999]},
        "duplicates": "last",
        "order": "session",
    }
    text = visible.to_csv(index=False, sep=";" if comma else ",", lineterminator="\n")
    return Messy(text, key)


def _missing_code(export: _Export) -> None:
    for client in export.take():
        export.write("missing_code", export.scored(client, export.outcome), export.outcome, "-999")


def _suspect_code(export: _Export) -> None:
    for client in export.take():
        export.write("suspect_code", export.scored(client, export.process), export.process, "777")


def _zero_placeholder(export: _Export) -> None:
    for client in export.take():
        label = export.scored(client, export.process)
        export.write("zero_placeholder", label, export.process, "0")


def _half_scale(export: _Export) -> None:
    for client in export.take():
        for label in export.rows(client):
            score = export.frame.at[label, export.outcome]
            if score:
                export.write("half_scale", label, export.outcome, f"{float(score) / 2:.2f}")


def _padded_id(export: _Export) -> None:
    for client in export.take():
        label = export.rows(client)[0]
        export.write("padded_id", label, "client_id", f"{client} ")


def _case_id(export: _Export) -> None:
    for client in export.take(2):
        label = export.rows(client)[-1]
        export.write("case_id", label, "client_id", client.swapcase())


def _repeated_row(export: _Export) -> None:
    for client in export.take():
        label = export.scored(client, export.outcome)
        export.note("repeated_row", export.repeat(label), "", "", "the whole row")


def _conflict(export: _Export) -> None:
    for client in export.take():
        copy = export.repeat(export.scored(client, export.outcome))
        score = float(export.frame.at[copy, export.outcome])
        export.write("conflict", copy, export.outcome, f"{score + 1.0:.2f}")


def _therapist_switch(export: _Export) -> None:
    for client in export.take(2):
        rows = export.rows(client)
        for label in rows[len(rows) // 2 :]:
            export.write("therapist_switch", label, "therapist_id", "T99")


def _date_flip(export: _Export) -> None:
    """Swap day and month where that puts a session before the one before it."""
    done = 0
    for client in list(export.free):
        rows = export.rows(client)
        texts = list(export.frame.loc[rows, "date"])
        for before, label, text in zip(texts, rows[1:], texts[1:], strict=False):
            day, month, year = text.split("/")
            flipped = f"{month}/{day}/{year}"
            if int(day) <= 12 and _as_date(flipped) < _as_date(before):
                export.write("date_flip", label, "date", flipped)
                export.free.remove(client)
                done += 1
                break
        if done == export.each:
            return
    raise SpecificationError(
        "Too few dates can be read with day and month swapped. Simulate more clients or sessions."
    )


def _second_episode(export: _Export) -> None:
    for client in export.take(4):
        rows = export.rows(client)
        for number, label in enumerate(rows[len(rows) // 2 :], start=1):
            export.write("second_episode", label, "session_no", str(number))
            export.frame.at[label, "episode"] = "2"


def _constant_series(export: _Export) -> None:
    for client in export.take(2):
        top = export.frame.at[export.scored(client, export.process), export.process]
        for label in export.rows(client):
            if export.frame.at[label, export.process] not in ("", top):
                export.write("constant_series", label, export.process, top)


def _blank_row(export: _Export) -> None:
    for client in export.take():
        label = export.rows(client)[-1] + 0.25
        export.frame.loc[label] = [""] * 5 + [""] * (export.frame.shape[1] - 7) + [client, 0]
        export.note("blank_row", label, "", "", "an empty row")


def _same_day(export: _Export) -> None:
    """Date a session like the one before it: two in one day, or a date never changed."""
    for client in export.take(2):
        before, label = export.rows(client)[:2]
        export.write("same_day", label, "date", export.frame.at[before, "date"])


def _blank_date(export: _Export) -> None:
    for client in export.take(2):
        export.write("blank_date", export.rows(client)[1], "date", "")


def _blank_therapist(export: _Export) -> None:
    for client in export.take():
        export.write("blank_therapist", export.rows(client)[0], "therapist_id", "")


def _decimal_comma(export: _Export) -> None:
    """Scores are written with a comma in the end; the key says so once."""
    found, code, remedy = FLAWS["decimal_comma"][1:]
    values = ("decimal_comma", -1, "", "", 0, "decimal points", "decimal commas", found, code)
    export.key.append(dict(zip(KEY, (*values, remedy), strict=True)))


def _as_date(text: str) -> str:
    """Return day/month/year as a text that sorts."""
    return "-".join(reversed(text.split("/")))


# What plants it; how reading shows it; the code; what makes it readable, or who can know.
FLAWS: dict[str, tuple[Callable[[_Export], None], str, str, str]] = {
    "date_flip": (_date_flip, "refused", "dates-out-of-order", 'order="session"'),
    "second_episode": (_second_episode, "issue", "repeated-episodes", "episode= names the column"),
    "missing_code": (_missing_code, "issue", "missing-codes", "missing_codes= declares it"),
    "suspect_code": (_suspect_code, "issue", "suspect-missing-code", "declare it, or the range"),
    "zero_placeholder": (_zero_placeholder, "unseen", "", "ranges= refuses it"),
    "half_scale": (_half_scale, "unseen", "", "compare the client's scores with the others'"),
    "padded_id": (_padded_id, "issue", "padded-ids", "none needed: spaces are removed"),
    "case_id": (_case_id, "issue", "case-differing-ids", "write the id alike"),
    "repeated_row": (_repeated_row, "issue", "duplicates-removed", "none needed"),
    "conflict": (_conflict, "refused", "duplicates-resolved", 'duplicates="last"'),
    "therapist_switch": (_therapist_switch, "issue", "therapist-switches", "none needed"),
    "constant_series": (_constant_series, "issue", "constant-series", "none: nothing within"),
    "same_day": (_same_day, "issue", "same-day-sessions", "none: the order is by session"),
    "blank_date": (_blank_date, "issue", "missing-dates", "none: the order is by session"),
    "blank_therapist": (_blank_therapist, "issue", "missing-therapist", "none needed"),
    "blank_row": (_blank_row, "issue", "blank-rows", "none needed"),
    "decimal_comma": (_decimal_comma, "issue", "decimal-comma", "none needed"),
}
