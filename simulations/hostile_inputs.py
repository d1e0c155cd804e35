"""Pass, read and type what nobody should: by far more of it than the tests have time for.

    python simulations/hostile_inputs.py [CALLS] [COMMANDS] [SEED]

Prints what raised anything but an error of the package, hung, or ended in an internal error, and
exits with 1 if anything did. `make studies` runs it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import hostile
import hostile_files
import matplotlib
from matplotlib import pyplot

LONGEST = 10.0  # seconds of the processor for one call or command


def main(calls: int = 12_000, commands: int = 4_000, seed: int = 100) -> int:
    """Draw, run, and return how many went wrong."""
    matplotlib.use("Agg")
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)  # some calls write where they are
        for text, call in hostile.hostile_calls(calls, seed, folder):
            began = time.process_time()
            raised, _ = hostile.outcome(call)
            _note(found, text, raised, time.process_time() - began)
            pyplot.close("all")
        for text, typed in hostile_files.hostile_lines(commands, seed, folder):
            began = time.process_time()
            _note(found, text, hostile_files.answer(typed), time.process_time() - began)
        os.chdir(Path(__file__).parent)
    print(f"{calls:,} calls and {commands:,} commands, seed {seed}: {found.total()} went wrong")
    for text, count in found.most_common():
        print(f"{count} x {text}")
    return found.total()


def _note(found: Counter[str], text: str, wrong: str | None, seconds: float) -> None:
    if wrong is None and seconds > LONGEST:
        wrong = f"took {seconds:.0f} s"
    if wrong is not None:
        found[f"{text[:200]}: {wrong[:200]}"] += 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])) > 0)
