"""What can be typed, and how the process ends.

Options are checked before any work; whatever goes wrong becomes one message and an exit code.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from alliancedyn import __version__
from alliancedyn.cli import files, terminal
from alliancedyn.errors import AllianceDynError, listed

PROGRAM = "alliancedyn"
INTERNAL, USAGE, INTERRUPTED = 1, 2, 130

UsageError = typer.BadParameter.__mro__[1]  # typer brings its own click in some versions

app = typer.Typer(
    name=PROGRAM,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

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
        help="Models, separated by commas: clpm-equal-means, clpm, ri-clpm, ri-clpm-detrended "
        "(these by default), ri-clpm-equal-means.",
        metavar="A,B",
    ),
]
Errors = Annotated[
    str,
    typer.Option(
        "--errors", help="Standard errors: observed, robust or cluster:therapist.", metavar="KIND"
    ),
]
Sessions = Annotated[
    str | None,
    typer.Option("--sessions", help="First and last session to model, as 1-12.", metavar="A-B"),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Write although something is there already.")
]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error, and every warning.")
]


def examples(*lines: str) -> str:
    """Lay example lines out for the foot of a help page, each kept as it is."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


# -- commands -----------------------------------------------------------------------------------


@app.callback(
    invoke_without_command=True,
    epilog=examples(
        "alliancedyn demo",
        "alliancedyn map export.csv --out map.toml",
        "alliancedyn check export.csv --map map.toml",
        "alliancedyn analyze export.csv --map map.toml --out results",
    ),
)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
    debug: Debug = False,
) -> None:
    """Say which moves first, the therapeutic alliance or the symptoms.

    From a session-by-session export to a report: map, check, analyze.

    Exit codes: 0 done, 1 internal error, 2 usage, 3 data, 4 specification, 5 convergence.
    """
    if version:
        print(f"{PROGRAM} {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command(epilog=examples("alliancedyn demo", 'alliancedyn demo --out "my first report"'))
def demo(
    out: Out = Path("demo-out"),
    seed: Seed = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Analyze the bundled, synthetic example and write a report."""
    from alliancedyn.panel import datasets

    export, mapping = datasets.path("example"), datasets.mapping_path("example")
    title = "Demonstration with synthetic data"
    _analyze(export, mapping, out, title=title, seed=seed, overwrite=overwrite)
    terminal.say("These data are synthetic: no person stands behind any row.")


@app.command(
    "map",
    short_help="Guess what each column is, for you to confirm.",
    epilog=examples(
        "alliancedyn map export.csv --out map.toml",
        'alliancedyn map "session ratings.xlsx"',
    ),
)
def map_(
    export: Export,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where to write the mapping.", metavar="MAP.TOML"),
    ] = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Guess what each column of an export is, and write it down for you to confirm.

    Nothing is analyzed on a guess: read the file, correct it, then pass it to check and analyze.
    Without --out the mapping is shown and nothing is written.
    """
    from alliancedyn.panel import guess_mapping

    guess = guess_mapping(export)
    if out is None:
        print(guess.to_toml(), end="")
        terminal.note("Nothing was written. Add --out map.toml to keep it.")
        return
    _refuse_existing(out, overwrite)
    out.write_text(guess.to_toml(), encoding="utf-8")
    print(f"{guess.text}\n")
    if guess.unresolved:
        terminal.say(f"Fill in {listed(guess.unresolved, 9)} in {str(out)!r} first.")
    terminal.say(f"Wrote {str(out)!r}. Check every line of it, timing above all, then:")
    print(f"  {PROGRAM} check {_quoted(export)} --map {_quoted(out)}")


@app.command(
    short_help="Show what is in an export, and what it can carry.",
    epilog=examples("alliancedyn check export.csv --map map.toml"),
)
def check(
    export: Export,
    mapping: Mapping = None,
    sessions: Sessions = None,
    debug: Debug = False,
) -> None:
    """Show what is in an export: row counts, findings, and which models the data can carry."""
    mapped, window = _required(mapping, export), _window(sessions)
    from alliancedyn.panel import check as describe
    from alliancedyn.panel import read_sessions
    from alliancedyn.studies import refusals, well_seen

    panel = read_sessions(export, mapping=mapped)
    print(describe(panel).text)
    print("\nModels that these data can carry")
    for label, reason in refusals(panel, sessions=window).items():
        print(f"  {label}: {'yes' if reason is None else f'no. {reason}'}")
    for remark in well_seen(panel)[1] if window is None else ():
        print(f"  {remark}")


@app.command(
    short_help="Fit the models, compare directions, write the report.",
    epilog=examples(
        "alliancedyn analyze export.csv --map map.toml --out results",
        "alliancedyn analyze export.csv --map map.toml --out results --families clpm,ri-clpm",
        "alliancedyn analyze export.csv --map map.toml --out results --errors cluster:therapist",
    ),
)
def analyze(
    export: Export,
    out: Out,
    mapping: Mapping = None,
    seed: Seed = None,
    families: Families = None,
    errors: Errors = "observed",
    sessions: Sessions = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Fit the ladder of models, compare both directions and write the report.

    Writes report.html (all of it, to send), fits.json (every number), effects.csv and figures/.
    Models that were refused or did not converge are named with their reason.
    """
    _analyze(
        export,
        _required(mapping, export),
        out,
        seed=seed,
        families=_families(families),
        errors=_errors(errors),
        sessions=_window(sessions),
        overwrite=overwrite,
    )


@app.command(
    epilog=examples(
        "alliancedyn simulate world.toml --clients 200 --sessions 12 --seed 7 --out panel.csv",
    )
    + "\n\n\b\nA world:\n"
    + "\n".join(f"  {line}" for line in files.WORLD_EXAMPLE)
)
def simulate(
    world: Annotated[
        Path, typer.Argument(help="TOML file with the true parameters.", metavar="WORLD.TOML")
    ],
    clients: Annotated[int, typer.Option("--clients", min=1, metavar="N", help="Clients.")],
    sessions: Annotated[
        int, typer.Option("--sessions", min=2, metavar="T", help="Sessions planned for each.")
    ],
    out: Annotated[Path, typer.Option("--out", help="CSV file to write.", metavar="PANEL.CSV")],
    seed: Seed = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Simulate a panel from a world whose true parameters are known."""
    from alliancedyn.simulate import simulate as draw

    _refuse_existing(out, overwrite)
    known = files.read_world(world)
    seed = secrets.randbelow(2**32) if seed is None else seed
    panel = draw(known.truth, clients, sessions, seed=seed, **known.observation)
    files.write_csv(panel, out)
    rows = f"{panel.n_clients:,} clients, {len(panel.frame):,} rows"
    terminal.say(f"Wrote {str(out)!r}: {rows}, seed {seed}.")


def _analyze(
    export: Path,
    mapping: Path,
    out: Path,
    *,
    title: str | None = None,
    seed: int | None = None,
    families: list[str] | None = None,
    errors: str = "observed",
    sessions: tuple[int, int] | None = None,
    overwrite: bool = False,
) -> None:
    try:
        with files.replacing(out, overwrite=overwrite) as folder, terminal.Bar() as bar:
            from alliancedyn.panel import read_sessions
            from alliancedyn.studies import DEFAULT
            from alliancedyn.studies import analyze as climb

            panel = read_sessions(export, mapping=mapping)
            terminal.announce_compiling()
            analysis = climb(
                panel,
                families=families or DEFAULT,
                errors=errors,
                sessions=sessions,
                seed=seed,
                progress=bar,
            )
            bar.last("writing the report")
            files.write_analysis(
                folder, analysis, title=title, mapping=mapping.read_bytes(), export=export.name
            )
    except files.OccupiedError as occupied:
        raise UsageError(f"--out: {occupied}") from None
    terminal.summarize(analysis, out)


# -- arguments ----------------------------------------------------------------------------------


def _required(mapping: Path | None, export: Path) -> Path:
    if mapping is not None:
        return mapping
    raise UsageError(
        f"Say what the columns are with --map. To make a mapping: {PROGRAM} map "
        f"{_quoted(export)} --out map.toml, then read it and correct it."
    )


def _families(said: list[str] | None) -> list[str] | None:
    if said is None:
        return None
    from alliancedyn.studies import FAMILIES

    keys = [key.strip() for one in said for key in one.split(",") if key.strip()]
    unknown = [key for key in keys if key not in FAMILIES]
    if unknown or not keys:
        named = f"there is no model {listed(unknown)}" if unknown else "no model is named"
        raise UsageError(f"--families: {named}. Choose from {', '.join(FAMILIES)}.")
    return keys


def _errors(said: str) -> str:
    if said in ("observed", "robust") or re.fullmatch(r"cluster:.+", said):
        return said
    raise UsageError(f"--errors: {said!r} is not known. Use observed, robust or cluster:therapist.")


def _window(said: str | None) -> tuple[int, int] | None:
    if said is None:
        return None
    parts = re.fullmatch(r"\s*(\d+)\s*[-:,]\s*(\d+)\s*", said)
    if parts is None or int(parts[1]) >= int(parts[2]):
        raise UsageError(f"--sessions: {said!r} is no range. Give first and last, such as 1-12.")
    return int(parts[1]), int(parts[2])


def _refuse_existing(out: Path, overwrite: bool) -> None:
    if out.exists() and not overwrite:
        raise UsageError(f"--out: {str(out)!r} is there already. Name another, or add --overwrite.")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"--out: the folder of {str(out)!r} does not exist. Make it first.")


def _quoted(path: Path) -> str:
    text = str(path)
    return text if re.fullmatch(r"[\w./\\:+-]+", text) else f'"{text}"'


# -- the process --------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; every error is one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a C locale shows "?" instead of failing
    debug = "--debug" in arguments
    command = typer.main.get_command(app)
    try:
        with terminal.warnings_as_notes(debug):
            code = command.main(arguments, prog_name=PROGRAM, standalone_mode=False)
            sys.stdout.flush()
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except BrokenPipeError:  # the reader, head or less, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, typer.Abort):
        terminal.note("Interrupted; nothing was written.")
        return INTERRUPTED
    except Exception as error:
        if debug:
            traceback.print_exc()
        message, code = _explain(error, next((a for a in arguments if a in COMMANDS), ""))
        terminal.note(message)
        return code


COMMANDS = ("demo", "map", "check", "analyze", "simulate")


def _explain(error: Exception, command: str) -> tuple[str, int]:
    """Return what to say about an error, and the exit code."""
    if isinstance(error, AllianceDynError):
        return f"Error: {error}", error.exit_code
    if isinstance(error, UsageError):
        said = error.format_message()  # type: ignore[attr-defined]
        said += "" if said.endswith((".", "?", "!")) else "."
        page = f"{PROGRAM} {command}".rstrip()
        return f"Error: {said} Help: {page} --help", USAGE
    if isinstance(error, OSError) and error.strerror:
        place = f" {Path(error.filename).name!r}" if isinstance(error.filename, str) else ""
        return f"Error: cannot read or write{place}: {error.strerror}.", INTERNAL
    text = " ".join(str(error).split())
    kind = type(error).__name__
    return f"Internal error: {kind}: {text}. Run with --debug for the traceback.", INTERNAL
