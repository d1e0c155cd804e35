"""What the terminal shows: sentences, the summary of an analysis, notes and progress.

Results go to stdout; notes, errors and progress to stderr.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import textwrap
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alliancedyn.cli.files import REPORT
from alliancedyn.cli.speech import typed
from alliancedyn.errors import DataWarning, InferenceWarning

if TYPE_CHECKING:
    from alliancedyn.studies import Analysis

PATIENCE = 2.0  # seconds of silence before a progress bar appears
WIDE = 88  # columns from which an estimate and its interval stand in one line
PROSE = 100  # columns that a paragraph fills at most
_WHOLE: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def columns() -> int:
    """Return how many columns the output may fill: the terminal's, else enough for a table."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return max(shutil.get_terminal_size().columns, 20)
    return PROSE


def say(text: str) -> None:
    """Print a sentence, wrapped to the terminal."""
    lead = text[: len(text) - len(text.lstrip())]
    print(textwrap.fill(typed(text), min(columns(), PROSE), **_WHOLE, subsequent_indent=lead))


def bullet(text: str) -> None:
    """Print one item of a list, wrapped to the terminal."""
    print(
        textwrap.fill(f"- {typed(text)}", min(columns(), PROSE), **_WHOLE, subsequent_indent="  ")
    )


def show(text: str) -> None:
    """Print lines as they are."""
    print("\n".join(typed(line) for line in text.split("\n")))


def note(text: str) -> None:
    """Print one line beside the results."""
    print(typed(text), file=sys.stderr, flush=True)


class Bar:
    """A progress bar on a terminal's stderr, only if the work takes over two seconds."""

    def __init__(self) -> None:
        self._state = (0, 1, "reading the data")
        self._timer = threading.Timer(PATIENCE, self._show)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._shown: Any = None
        self._over = False

    def __enter__(self) -> Bar:
        if sys.stderr.isatty():
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            self._over = True
            if self._shown is not None:
                self._shown.stop()

    def __call__(self, done: int, total: int, doing: str) -> None:
        """Take in how far the work is."""
        with self._lock:
            self._state = (done, total + 1, doing or self._state[2])
            self._draw()

    def last(self, doing: str) -> None:
        """Take in that the last step begins."""
        self(self._state[1] - 1, self._state[1] - 1, doing)

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        parts = (BarColumn(24), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
        with self._lock:
            if self._over:
                return
            self._shown = Progress(*parts, console=Console(stderr=True), transient=True)
            self._shown.add_task("", total=1)
            self._draw()
            self._shown.start()

    def _draw(self) -> None:
        if self._shown is not None:
            done, total, doing = self._state
            self._shown.update(0, completed=done, total=total, description=doing)


@contextmanager
def warnings_as_notes(debug: bool) -> Iterator[None]:
    """Show each of our own warnings once, as one line; all others with --debug only."""
    said: set[str] = set()

    def show(message: Any, category: type[Warning], *_: Any) -> None:
        text = " ".join(str(message).split())
        ours = issubclass(category, DataWarning | InferenceWarning)
        if text not in said:
            said.add(text)
            note(f"Note: {text}" if ours else f"{category.__name__}: {text}")

    with warnings.catch_warnings():
        warnings.simplefilter("default" if debug else "ignore")
        for category in (DataWarning, InferenceWarning):
            warnings.simplefilter("always", category)
        warnings.showwarning = show  # type: ignore[assignment]
        yield


# -- an analysis in a few lines -----------------------------------------------------------------


def announce_compiling() -> None:
    """Say once that the first run on a machine waits for the compiler."""
    from alliancedyn.engine import kalman

    kernel = next((one for one in vars(kalman).values() if hasattr(one, "stats")), None)
    if kernel is None:  # compilation is switched off
        return
    source = Path(kernel.py_func.__code__.co_filename)
    stored = Path(kernel.stats.cache_path).glob(f"{source.stem}.*.nbi")
    if not any(one.stat().st_mtime >= source.stat().st_mtime for one in stored):
        note("First run on this machine: the engine is being compiled, some ten seconds, once.")


def summarize(analysis: Analysis, out: Path) -> None:
    """Print the verdict, the paths by model, what must be known, and where the report is."""
    fit, answer = analysis.fit, analysis.directions.get(analysis.headline)
    sample = f"{fit.sample.people}, sessions {fit.sessions[0]}-{fit.sessions[-1]}"
    print(f"\n{analysis.headline}: {sample}")
    if answer is None:
        say("No verdict on direction.")
    else:
        for source, target, state, path in (
            (answer.source, answer.target, answer.forward_state, answer.forward),
            (answer.target, answer.source, answer.backward_state, answer.backward),
        ):
            print(f"{source} -> {target}: {state}, {path}")
        way = "in time order" if answer.basis == "structural" else _span(analysis)
        say(f"{_lead(answer)} (Within-client SDs, {way}, 95% intervals.)")
    say(analysis.reason)
    print()
    print_paths(analysis)
    print_groups(analysis)
    for label, reason in analysis.failures.items():
        bullet(f"{label} gave no result. {reason}")
    for sentence in to_know(analysis):
        bullet(sentence)
    print(f"\nReport: {out / REPORT}")


def _span(analysis: Analysis) -> str:
    """Say over what time the paths of the headline model lead."""
    frame = analysis.comparison
    lag = str(frame.loc[frame["model"] == analysis.headline, "lag"].iloc[0])
    return "one session to the next" if lag.startswith("1 session") else f"over {lag}"


def _lead(answer: Any) -> str:
    said = {
        "forward": f"{answer.source} leads",
        "backward": f"{answer.target} leads",
        "both": "each predicts the other, neither reliably more strongly",
        "neither": "neither predicts the other by an amount that matters",
        "depends": "which of the two leads depends on how time is read: see the report",
    }
    text = said.get(answer.lead, "which of the two leads is undetermined")
    return f"{text[:1].upper()}{text[1:]}."


def print_paths(analysis: Analysis) -> None:
    """Print the cross-lagged paths, a row per model."""
    from rich.box import ASCII
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    panel, frame = analysis.panel, analysis.comparison
    pairs = ((panel.process, panel.outcome), (panel.outcome, panel.process))
    width = columns()
    gap = " " if width >= WIDE else "\n"
    table = Table(box=ASCII, show_edge=False, pad_edge=False, show_lines=gap == "\n")
    table.add_column("Model")
    for source, target in pairs:
        table.add_column(Text(f"{source} -> {target}"))
    for label in analysis.fits:
        cells = []
        for source, target in pairs:
            mine = frame["model"].eq(label) & frame["source"].eq(source)
            rows = frame[mine & frame["target"].eq(target)]
            cells.append(Text(_path_cell(rows.iloc[0], gap) if len(rows) else "-"))
        table.add_row(Text(label), *cells)
    console = Console(width=width, highlight=False)
    with console.capture() as drawn:
        console.print(table)
    print("\n".join(line.rstrip() for line in drawn.get().splitlines()))
    say("Within-client SDs, one session to the next (reduced form), 95% intervals.")
    print()


def _path_cell(row: Any, gap: str) -> str:
    """Write a path with its interval; a dash where the model has no within-client SDs."""
    value, low, high = (
        float(row[name]) for name in ("standardized", "standardized_lower", "standardized_upper")
    )
    if not math.isfinite(value):
        return "-"
    if not math.isfinite(low):
        return f"{value:.3f}{gap}[no interval]"
    return f"{value:.3f}{gap}[{low:.3f}, {high:.3f}]"


def print_groups(analysis: Analysis) -> None:
    """Print both directions in every group, and whether groups differ."""
    found = analysis.groups
    if found is None:
        return
    print(f"{found.label}, by {found.column}")
    for group, answer in found.directions.items():
        for source, target, state, path in (
            (answer.source, answer.target, answer.forward_state, answer.forward),
            (answer.target, answer.source, answer.backward_state, answer.backward),
        ):
            print(f"  {group}, {source} -> {target}: {state}, {path}")
    if found.test is not None:
        say(f"Are the lagged effects the same in all groups? {found.test.text}")
    print()


def to_know(analysis: Analysis) -> list[str]:
    """Collect what stands in the way of reading the numbers at face value, each once."""
    from alliancedyn.report.merging import merged

    said = [
        (label, str(sentence))
        for label, fit in analysis.fits.items()
        for sentence in (*fit.diagnostics.get("boundary", ()), *fit.diagnostics.get("notes", ()))
    ]
    found = [f"{', '.join(labels)}: {sentence}" for labels, sentence in merged(said)]
    told = analysis.groups.notes if analysis.groups is not None else ()
    told_before = {sentence for _, sentence in said}
    issues = [
        one.message
        for one in analysis.panel.issues
        if one.severity != "info" and one.message not in told_before
    ]
    said_besides = (*analysis.decomposition.boundary, *analysis.notes, *told, *issues)
    return list(dict.fromkeys([*found, *said_besides]))
