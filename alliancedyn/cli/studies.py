"""Simulation studies from the terminal: a configuration in, tables out, to be interrupted at will.

A configuration names a model, a world and the design; the folder of the results also holds the
replications, so that the same command goes on where it was interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alliancedyn.cli import arguments, files, terminal
from alliancedyn.cli.arguments import Debug, Out, Overwrite
from alliancedyn.errors import DataError, SpecificationError, listed

if TYPE_CHECKING:
    import pandas as pd

    from alliancedyn.studies.trial import Fittable

REPLICATIONS, SUMMARY = "replications", "summary.txt"
INTERRUPTED = 130
WRITTEN = ("recovery.csv", "directions.csv", "power.csv", "smallest.csv", "curves.csv", SUMMARY)

RECOVER_EXAMPLES = (
    "alliancedyn recover study.toml --out recovery",
    "alliancedyn recover study.toml --out recovery --jobs 2",
    "alliancedyn recover study.toml --out recovery --cluster tcp://SCHEDULER:8786",
)
POWER_EXAMPLES = ("alliancedyn power plan.toml --out power",)
RECOVER_CONFIG = (
    'model = "ri-clpm"        # one of the families of analyze',
    'world = "world.toml"     # as for simulate, or the name of a world, such as "reciprocal"',
    "clients = 200",
    "sessions = 12",
    "replications = 500",
    "seed = 7",
    "[options]                # of the model; may be left out",
    'lags = "equal"',
)
POWER_CONFIG = (
    'model = "ri-clpm"',
    'world = "world.toml"',
    "clients = [50, 100, 200]",
    "sessions = [6, 10, 16]",
    'effect = "phi[symptoms,alliance]"     # or "direction"',
    "reliability = [1.0, 0.8]              # conditions to compare",
    'dropout = [{rule = "unwell", rate = 0.3}]',
    "replications = 200",
    "seed = 7",
)

Config = Annotated[
    Path, typer.Argument(help="TOML file with model, world and design.", metavar="CONFIG.TOML")
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", min=-1, help="Processes; by default one per processor.", metavar="N"),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster", help="Address of a Dask scheduler, instead of --jobs.", metavar="ADDRESS"
    ),
]


def recover(
    config: Config,
    out: Out,
    jobs: Jobs = None,
    cluster: Cluster = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Simulate from a known world, fit a model many times, and say how well it recovers the truth.

    Writes recovery.csv, directions.csv, summary.txt and the replications. Interrupted, the same
    command goes on where it was.
    """
    said, workers = _read(config, _RECOVER), _workers(jobs, cluster)
    from alliancedyn.studies.recovery import recover as run

    spec, world = _model(said), files.find_world(said.pop("world"), config.parent)
    folder = _folder(out, overwrite)
    with _interruptible(), terminal.Bar() as bar:
        study = run(
            spec,
            world,
            **said,
            **workers,
            checkpoint=folder / f"{REPLICATIONS}.jsonl",
            progress=bar,
        )
        bar.last("writing")
        tables = {"recovery.csv": study.table()}
        if any(one.verdicts for one in study.found):
            tables["directions.csv"] = study.directions()
        _write(folder, tables, study.summary())
    _tell(study.summary(), out)


def power(
    config: Config,
    out: Out,
    jobs: Jobs = None,
    cluster: Cluster = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Simulate the power to find an effect over clients, sessions and how they are seen.

    Writes power.csv, smallest.csv (clients for a power of .80), curves.csv, summary.txt and the
    replications. Interrupted, the same command goes on where it was.
    """
    said, workers = _read(config, _POWER), _workers(jobs, cluster)
    from alliancedyn.studies.power import power as run

    spec, world = _model(said), files.find_world(said.pop("world"), config.parent)
    conditions = _conditions(said)
    folder = _folder(out, overwrite)
    with _interruptible(), terminal.Bar() as bar:
        surface = run(
            spec,
            world,
            **said,
            **conditions,
            **workers,
            checkpoint=folder / REPLICATIONS,
            progress=bar,
        )
        bar.last("writing")
        tables = {
            "power.csv": surface.table.set_index("clients"),
            "smallest.csv": surface.smallest(),
            "curves.csv": surface.curves().set_index("clients"),
        }
        _write(folder, tables, str(surface))
    print(f"{surface}\n")
    terminal.say(f"Wrote power.csv, smallest.csv and curves.csv into {str(out)!r}.")


# -- a configuration ----------------------------------------------------------------------------

_WHOLE, _NUMBER, _TEXT, _TABLE, _MANY = (int,), (int, float), (str,), (dict,), (int, list)
_SHARED: dict[str, tuple[type, ...]] = {
    **{"model": _TEXT, "world": _TEXT, "options": _TABLE, "errors": _TEXT},
    **{"replications": _WHOLE, "seed": _WHOLE, "level": _NUMBER, "smallest_effect": _NUMBER},
    **{"missing": _NUMBER, "ceiling": _TABLE},
}
_RECOVER = {**_SHARED, "clients": _WHOLE, "sessions": _WHOLE, "target": _TABLE}
_POWER = {
    **_SHARED,
    **{"clients": _MANY, "sessions": _MANY, "effect": _TEXT, "basis": _TEXT},
    **{"dropout": (dict, list), "therapists": (dict, list), "reliability": (*_NUMBER, list)},
}


def _read(config: Path, known: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    """Read a configuration and refuse what means nothing in it."""
    from alliancedyn.panel.source import LARGEST_TOML, parse_toml, read_bytes

    try:
        said = parse_toml(read_bytes(config, LARGEST_TOML))
    except FileNotFoundError:
        raise arguments.UsageError(f"There is no file {config.name!r}.") from None
    except DataError:
        raise
    except ValueError as problem:
        raise SpecificationError(
            f"{config.name!r} is no readable TOML: {problem}. Correct that line."
        ) from None
    if unknown := [key for key in said if key not in known]:
        raise SpecificationError(
            f"{listed(unknown)} means nothing in {config.name!r}. Known: {', '.join(known)}."
        )
    if absent := [key for key in ("model", "world", "clients", "sessions") if key not in said]:
        raise SpecificationError(f"{config.name!r} does not say {listed(absent, 4)}.")
    for key, value in said.items():
        if isinstance(value, bool) or not isinstance(value, known[key]):
            words = {int: "a whole number", float: "a number", str: "a text", list: "a list"}
            kinds = " or ".join(words.get(kind, "a table") for kind in known[key])
            raise SpecificationError(f"{config.name!r}: {key} must be {kinds}, not {value!r}.")
    return said


def _model(said: dict[str, Any]) -> Fittable:
    """Take the model and its options out of a configuration."""
    from alliancedyn.studies import chosen

    (family, *others) = chosen([said.pop("model")])
    if others or family.detrended:
        raise SpecificationError(
            "model: name one family that is fitted to scores as they are, such as 'ri-clpm'."
        )
    options = said.pop("options", {})
    known = [entry.name for entry in fields(family.spec)]
    if unknown := [name for name in options if name not in known]:
        raise SpecificationError(
            f"{listed(unknown)} is no option of the {family.spec.name}. Known: {', '.join(known)}."
        )
    given = {name: _frozen(value) for name, value in options.items()}
    return replace(family.spec, **given)


def _conditions(said: dict[str, Any]) -> dict[str, Any]:
    """Take the conditions that are compared out of a configuration."""
    from alliancedyn.simulate import Dropout, Therapists

    found: dict[str, Any] = {}
    for name, kind in (("dropout", Dropout), ("therapists", Therapists)):
        if name in said:
            found[name] = _each(said.pop(name), partial(_made, kind, name))
    if "reliability" in said:
        found["reliability"] = _each(said.pop("reliability"), _frozen)
    return found


def _each(value: Any, make: Callable[[Any], Any]) -> Any:
    return [make(one) for one in value] if isinstance(value, list) else make(value)


def _made(kind: Callable[..., Any], name: str, said: Any) -> Any:
    """Make a condition of a table; an empty one is none at all."""
    if not isinstance(said, dict):
        raise SpecificationError(f"{name}: give a table, such as {{rate = 0.3}}, not {said!r}.")
    return kind(**said) if said else None


def _frozen(value: Any) -> Any:
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value


def _workers(jobs: int | None, cluster: str | None) -> dict[str, Any]:
    if jobs is not None and cluster is not None:
        raise arguments.UsageError("--jobs and --cluster exclude each other. Give one of them.")
    if jobs == 0:
        raise arguments.UsageError("--jobs: give a number of processes, or leave it out.")
    return {"jobs": -1 if jobs is None else jobs, "cluster": cluster}


# -- results ------------------------------------------------------------------------------------


def _folder(out: Path, overwrite: bool) -> Path:
    """Return the folder, made if need be; one with other things in it is refused."""
    if out.exists() and not out.is_dir():
        raise arguments.UsageError(f"--out: {str(out)!r} is a file. Name a folder.")
    if out.is_dir() and not overwrite:
        ours = {REPLICATIONS, f"{REPLICATIONS}.jsonl", *WRITTEN}
        if strange := sorted(path.name for path in out.iterdir() if path.name not in ours):
            raise arguments.UsageError(
                f"--out: {str(out)!r} holds {listed(strange)}, which no study wrote. Name another "
                "folder, or add --overwrite to put the results beside them."
            )
    out.mkdir(parents=True, exist_ok=True)
    return out


class _interruptible:  # noqa: N801 - reads as a statement
    """Say, where a study is interrupted, that nothing is lost."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt:
            terminal.note("Interrupted; what is done is kept. The same command goes on from there.")
            sys.exit(INTERRUPTED)


def _write(folder: Path, tables: Mapping[str, pd.DataFrame], summary: str) -> None:
    texts = {name: table.to_csv(lineterminator="\n") for name, table in tables.items()}
    for name, text in {**texts, SUMMARY: f"{summary}\n"}.items():
        part = folder / f".{name}.part"
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(folder / name)


def _tell(summary: str, out: Path) -> None:
    for line in summary.splitlines():
        terminal.say(line) if line else print()
    print()
    terminal.say(f"Wrote recovery.csv and {SUMMARY} into {str(out)!r}.")


def configuration(lines: Sequence[str]) -> str:
    """Lay a configuration out for the foot of a help page."""
    return "\n\n\b\nA configuration:\n" + "\n".join(f"  {line}" for line in lines)
