"""What can be typed after a command: options, and what is refused before any work.

A refusal here is a mistake of usage, and says what to type instead.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from alliancedyn.errors import DataError

PROGRAM = "alliancedyn"

UsageError = typer.BadParameter.__mro__[1]  # typer brings its own click in some versions

Export = Annotated[Path, typer.Argument(help="CSV, TSV, Excel or Parquet file.", metavar="EXPORT")]
Mapping = Annotated[
    Path | None,
    typer.Option("--map", help="Mapping file: what each column is.", metavar="MAP.TOML"),
]
Out = Annotated[Path, typer.Option("--out", help="Folder for the results.", metavar="DIR")]
Seed = Annotated[
    int | None, typer.Option("--seed", min=0, help="Seed for whatever is drawn.", metavar="N")
]
Families = Annotated[
    list[str] | None,
    typer.Option(
        "--families",
        help="Models, separated by commas; by default clpm-equal-means, clpm, "
        "ri-clpm-equal-means, ri-clpm, lcm-sr, ri-clpm-detrended. The others are listed below.",
        metavar="A,B",
    ),
]
Errors = Annotated[
    str | None,
    typer.Option(
        "--errors",
        help="Standard errors: observed, robust or cluster:therapist; by default as is usual for "
        "the model, by person where persons have several episodes.",
        metavar="KIND",
    ),
]
Sessions = Annotated[
    str | None,
    typer.Option("--sessions", help="First and last session to model, as 1-12.", metavar="A-B"),
]
Covariates = Annotated[
    list[str] | None,
    typer.Option(
        "--covariates",
        help="Client-level numbers that shift the stable parts, separated by commas.",
        metavar="C,D",
    ),
]
Bayes = Annotated[
    bool,
    typer.Option("--bayes", help="Also sample two-level dynamic models (DSEM), with their priors."),
]
Group = Annotated[
    str | None,
    typer.Option(
        "--group",
        help="Client-level column: compare the lagged effects of its groups.",
        metavar="COLUMN",
    ),
]
SmallestEffect = Annotated[
    float,
    typer.Option(
        "--smallest-effect",
        min=0.0,
        help="Smallest path that matters, within-client SDs; 0.05 is a convention.",
        metavar="SDS",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Write although something is there already.")
]
HideIdentifiers = Annotated[
    bool,
    typer.Option("--hide-identifiers", help="Count clients in messages instead of naming them."),
]
ShowFileName = Annotated[
    bool,
    typer.Option("--show-file-name", help="Name the export in the report, too."),
]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error, and every warning.")
]


def present(export: Path) -> None:
    """Refuse an export that is not there, before anything heavy is loaded."""
    if not os.path.lexists(export.expanduser()) and "://" not in str(export):
        raise DataError(f"There is no file {export.name!r}. Check its path.")


def required(mapping: Path | None, export: Path) -> Path:
    """Return the mapping file, or say how to make one."""
    if mapping is not None:
        present(export)
        if not os.path.lexists(mapping.expanduser()):
            raise DataError(f"There is no mapping file {mapping.name!r}. Check its path.")
        return mapping
    raise UsageError(
        f"Say what the columns are with --map. To make a mapping: {PROGRAM} map "
        f"{quoted(export)} --out map.toml, then read it and correct it."
    )


def families(said: list[str] | None, option: str = "--families") -> list[str] | None:
    """Return the keys of models, None where none were named."""
    if said is None:
        return None
    from alliancedyn.errors import SpecificationError
    from alliancedyn.studies import chosen

    keys = list(words(said))
    try:
        chosen(keys)
    except SpecificationError as unknown:
        raise UsageError(f"{option}: {unknown}") from None
    return keys


def words(said: list[str] | None) -> tuple[str, ...]:
    """Take apart what was given with commas, or by repeating the option."""
    return tuple(word.strip() for one in said or () for word in one.split(",") if word.strip())


def one_family(said: str) -> str:
    """Return the key of a single model."""
    (*others, key) = families([said], "--model") or [""]
    if others or key == "all":
        raise UsageError("--model: name one model.")
    return key


def program(said: str) -> Literal["lavaan", "mplus"]:
    """Return the program that a text is written for."""
    known: tuple[Literal["lavaan", "mplus"], ...] = ("lavaan", "mplus")
    for program in known:
        if said.lower() == program:
            return program
    raise UsageError(f"--to: there is no {said!r}. Use lavaan or mplus.")


def errors(said: str | None) -> str | None:
    """Return a kind of standard errors; None for the usual one."""
    if said is None or said in ("observed", "robust") or re.fullmatch(r"cluster:.+", said):
        return said
    raise UsageError(f"--errors: {said!r} is not known. Use observed, robust or cluster:therapist.")


def window(said: str | None) -> tuple[int, int] | None:
    """Return first and last session."""
    if said is None:
        return None
    parts = re.fullmatch(r"\s*(\d+)\s*[-:,]\s*(\d+)\s*", said)
    if parts is None or int(parts[1]) >= int(parts[2]):
        raise UsageError(f"--sessions: {said!r} is no range. Give first and last, such as 1-12.")
    return int(parts[1]), int(parts[2])


def refuse_existing(out: Path, overwrite: bool) -> None:
    """Refuse to write over a file, or into a folder that does not exist."""
    if out.exists() and not overwrite:
        raise UsageError(f"--out: {str(out)!r} is there already. Name another, or add --overwrite.")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"--out: the folder of {str(out)!r} does not exist. Make it first.")


def quoted(path: Path) -> str:
    """Return a path as a shell takes it."""
    text = str(path)
    return text if re.fullmatch(r"[\w./\\:+-]+", text) else f'"{text}"'
