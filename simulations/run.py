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
from pathlib import Path

import known_answers
import results_page

SCRIPTS = {  # script: what it studies
    "recovery_grid": "Bias and coverage of the RI-CLPM, by clients and sessions",
    "benchmark_estimators": "Five estimators of lagged effects, from 4 sessions to 40",
    "trend_demonstrations": "What each way of removing trends does, in four worlds",
    "calibration": "Whether posteriors of the DSEM are as wide as they say",
}


def studies() -> dict[str, str]:
    """Return every study with what it is about."""
    known = tomllib.loads(known_answers.CONFIG.read_text(encoding="utf-8"))
    return SCRIPTS | {name: study["title"] for name, study in known.items()}


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
    if not names:
        print("\n".join(f"{name:22} {about}" for name, about in known.items()))
        return
    out = asked.out or (None if asked.full else Path("simulation-results"))
    given = ["--jobs", str(asked.jobs)]
    given += ["--full"] if asked.full else []
    given += ["--panels", str(asked.panels)] if asked.panels else []
    given += ["--out", str(out)] if out else []
    for name in names:
        if name in SCRIPTS:
            importlib.import_module(name).main(given)
        else:
            known_answers.main([name, *given])
    results_page.write(out or known_answers.RESULTS)


if __name__ == "__main__":
    main()
