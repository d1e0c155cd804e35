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
    from alliancedyn.causal import Directions
    from alliancedyn.causal.contrast import Contrast
    from alliancedyn.results import Estimate
    from alliancedyn.studies import Analysis

PATIENCE = 2.0  # seconds of silence before a progress bar appears
WIDE = 88  # columns from which an estimate and its interval stand in one line
PROSE = 100  # columns that a paragraph fills at most
COLUMNS = {"structural": "structural_standardized", "reduced": "standardized"}
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
        print_verdict(analysis, answer)
    say(analysis.reason)
    print()
    print_paths(analysis)
    print_groups(analysis)
    for label, reason in analysis.failures.items():
        bullet(f"{label} gave no result. {reason}")
    for sentence in to_know(analysis):
        bullet(sentence)
    print(f"\nReport: {out / REPORT}")


def print_verdict(analysis: Analysis, answer: Directions) -> None:
    """Print the first screen of the report: headline, counts, and both paths in every form."""
    from alliancedyn.causal import agreement, words
    from alliancedyn.report.verdict import changes

    settled = agreement.settled(analysis.directions, analysis.fits, analysis.rungs)
    beside = any(label not in analysis.rungs for label in analysis.fits)
    say(f"{agreement.headline(answer, settled)}.")
    counted = agreement.counts(answer, settled, "models of the ladder" if beside else "models")
    for sentence in (agreement.both_forms(answer), *counted):
        if sentence:
            say(sentence)
    if changed := changes(answer, settled, analysis.fits):
        say("Where the answer changes:")
        for sentence in changed:
            bullet(sentence.replace("’", "'"))
    for form, one in answer.forms.items():
        print(f"\n{words.capital(words.form_name(form, answer.lag))}")
        for source, target, state, path, raw, immediate in (
            (answer.source, answer.target, *_forward(one)),
            (answer.target, answer.source, *_backward(one)),
        ):
            when = words.moments(answer.lag, immediate)
            print(f"  {source} -> {target}: {state}, {figures(path)}")
            said = words.path_sentence(source, target, path, state, when, answer.higher)
            say(f"    {said} {words.points_sentence(source, target, raw, when)}".rstrip())
        print(f"  Difference in size: {figures(one.difference)}")
        say(f"  {words.capital(words.lead_words(one.lead, answer.source, answer.target))}.")
    pair = (answer.source, answer.target)
    print()
    for sentence in (
        words.good_ends(pair, answer.higher),
        words.unknown_ends(pair, answer.higher),
        words.units(answer.smallest_effect),
    ):
        if sentence:
            say(sentence)


def _forward(one: Contrast) -> tuple[str, Estimate, Estimate, bool]:
    return one.forward_state, one.forward, one.forward_raw, one.forward_immediate


def _backward(one: Contrast) -> tuple[str, Estimate, Estimate, bool]:
    return one.backward_state, one.backward, one.backward_raw, one.backward_immediate


def figures(estimate: Estimate) -> str:
    """Write an estimate with the places of the report, in characters that any terminal has."""
    return interval(estimate.value, estimate.lower, estimate.upper)


def interval(value: float, lower: float, upper: float, gap: str = " ") -> str:
    """Write a number and its interval as the report does."""
    from alliancedyn.plot.numerals import interval as written

    return written(value, lower, upper).replace("−", "-").replace(" [", f"{gap}[")


def print_paths(analysis: Analysis) -> None:
    """Print the cross-lagged paths, a row per model and form."""
    from rich.box import ASCII
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from alliancedyn.causal import words

    panel, frame = analysis.panel, analysis.comparison
    pairs = ((panel.process, panel.outcome), (panel.outcome, panel.process))
    width = columns()
    gap = " " if width >= WIDE else "\n"
    table = Table(box=ASCII, show_edge=False, pad_edge=False, show_lines=gap == "\n")
    for head in ("Model", "Form", *(f"{source} -> {target}" for source, target in pairs)):
        table.add_column(Text(head))
    for label in analysis.fits:
        mine = frame[frame["model"].eq(label)]
        shown = label
        for form, prefix in COLUMNS.items():
            cells = [_cell(mine, source, target, prefix, gap) for source, target in pairs]
            if form == "reduced" or any(cell != "-" for cell in cells):
                table.add_row(*map(Text, (shown, words.SHORT[form], *cells)))
                shown = ""
    console = Console(width=width, highlight=False)
    with console.capture() as drawn:
        console.print(table)
    print("\n".join(line.rstrip() for line in drawn.get().splitlines()))
    say(
        "Within-client SDs, 95% intervals. Time order: the structural form. Session to session: "
        "the reduced form."
    )
    print()


def _cell(mine: Any, source: str, target: str, prefix: str, gap: str) -> str:
    """Write a path with its interval; a dash where the model has no such path."""
    rows = mine[mine["source"].eq(source) & mine["target"].eq(target)]
    if not len(rows):
        return "-"
    value, low, high = (float(rows.iloc[0][f"{prefix}{end}"]) for end in ("", "_lower", "_upper"))
    return interval(value, low, high, gap) if math.isfinite(value) else "-"


def print_groups(analysis: Analysis) -> None:
    """Print both directions in every group, and whether groups differ."""
    found = analysis.groups
    if found is None:
        return
    from alliancedyn.causal.words import form_name

    forms = {form_name(one.basis, one.lag): None for one in found.directions.values()}
    say(f"{found.label}, by {found.column}, {' or '.join(forms)}")
    for group, answer in found.directions.items():
        for source, target, state, path in (
            (answer.source, answer.target, answer.forward_state, answer.forward),
            (answer.target, answer.source, answer.backward_state, answer.backward),
        ):
            print(f"  {group}, {source} -> {target}: {state}, {figures(path)}")
    if found.test is not None:
        say(f"Are the paths the same in all groups? {found.test.text}")
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
        if one.severity != "info"
        and one.message not in told_before
        and (one.code != "unknown-direction" or not analysis.directions)  # the verdict says it
    ]
    said_besides = (*analysis.decomposition.boundary, *analysis.notes, *told, *issues)
    return list(dict.fromkeys([*found, *said_besides]))
