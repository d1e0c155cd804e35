"""Every study of this folder, by name.

How to call it::

python simulations/run.py                     what there is
python simulations/run.py gaps reliability    some of them, small, into ./simulation-results
python simulations/run.py all                 all of them, small
python simulations/run.py all --full          all figures of the docs, into simulations/results
"""

from __future__ import annotations

import argparse
import importlib
import tomllib
from collections.abc import Callable
from pathlib import Path

import known_answers
import results_page

HERE = Path(__file__).resolve().parent
SCRIPTS = {  # script: what it studies
    "recovery_grid": "bias and coverage of the RI-CLPM by clients and sessions",
    "benchmark_estimators": "five estimators of lagged effects, from 4 sessions to 40",
    "trend_demonstrations": "what each way of removing trends does, in four worlds",
}


def studies() -> dict[str, tuple[str, Callable[[list[str]], None]]]:
    """Return what each study is about, and what runs it."""
    found = {name: (what, importlib.import_module(name).main) for name, what in SCRIPTS.items()}
    config = tomllib.loads(known_answers.CONFIG.read_text(encoding="utf-8"))
    for name, study in config.items():
        found[name] = (
            study["title"],
            lambda arguments, name=name: known_answers.main([name, *arguments]),
        )
    return found


def main(arguments: list[str] | None = None) -> None:
    """Run studies, or say which there are."""
    known = studies()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="STUDY", help="none: list them; or all")
    parser.add_argument("--full", action="store_true", help="the figures of the docs")
    parser.add_argument("--panels", type=int, help="another number of panels per cell")
    parser.add_argument("--jobs", type=int, default=1, help="processes; -1 = one per processor")
    parser.add_argument("--out", type=Path, help="where the results go")
    asked = parser.parse_args(arguments)
    names = list(known) if asked.names == ["all"] else asked.names
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"no study {', '.join(unknown)}; there are {', '.join(known)}")
    for name, (what, _) in known.items() if not names else ():
        print(f"{name:22} {what}")
    given = ["--jobs", str(asked.jobs)]
    given += ["--full"] if asked.full else []
    given += ["--panels", str(asked.panels)] if asked.panels else []
    out = asked.out or (None if asked.full else Path("simulation-results"))
    given += ["--out", str(out)] if out else []
    for name in names:
        known[name][1](given)
    if names:
        results_page.write(out or HERE / "results")


if __name__ == "__main__":
    main()
