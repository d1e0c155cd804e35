"""What can be typed, and how the process ends.

Options are checked before any work; whatever goes wrong becomes one message and an exit code.
"""

from __future__ import annotations

import os
import secrets
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from alliancedyn import __version__
from alliancedyn.cli import arguments, files, speech, studies, terminal
from alliancedyn.cli.arguments import (
    PROGRAM,
    Bayes,
    Covariates,
    Debug,
    Errors,
    Export,
    Families,
    Group,
    HideIdentifiers,
    Mapping,
    Out,
    Overwrite,
    Seed,
    Sessions,
    ShowFileName,
    SmallestEffect,
)
from alliancedyn.errors import AllianceDynError, listed, withholding

INTERNAL, USAGE, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name=PROGRAM,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

# What --families takes, written out so that a help page loads nothing; a test compares.
LADDER = "clpm-equal-means, clpm, ri-clpm-equal-means, ri-clpm, lcm-sr, ri-clpm-detrended"
BESIDE = (
    "ri-clpm-free, ri-clpm-order2, ri-clpm-step@SESSION, lcm-sr-log, lcm-sr-straight-means,",
    "starts, gclm, alt, latent-change, ct-session, ct-session-straight-means, ct-days, ml-sem,",
    "gmm, fixed-effects, within-between, dsem, dsem-slopes; or all",
)


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
    _analyze(export, mapping, out, title=title, seed=seed, show_file_name=True, overwrite=overwrite)
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
    arguments.present(export)
    from alliancedyn.panel import guess_mapping

    guess = guess_mapping(export)
    if out is None:
        print(guess.to_toml(), end="")
        terminal.note("Nothing was written. Add --out map.toml to keep it.")
        return
    arguments.refuse_existing(out, overwrite)
    out.write_text(guess.to_toml(), encoding="utf-8")
    terminal.show(f"{guess.text}\n")
    if guess.unresolved:
        terminal.say(f"Fill in {listed(guess.unresolved, 9)} in {str(out)!r} first.")
    terminal.say(f"Wrote {str(out)!r}. Check every line of it, timing above all, then:")
    print(f"  {PROGRAM} check {arguments.quoted(export)} --map {arguments.quoted(out)}")


@app.command(
    short_help="Show what is in an export, and what it can carry.",
    epilog=examples("alliancedyn check export.csv --map map.toml"),
)
def check(
    export: Export,
    mapping: Mapping = None,
    sessions: Sessions = None,
    hide_identifiers: HideIdentifiers = False,
    debug: Debug = False,
) -> None:
    """Show what is in an export: row counts, findings, and which models the data can carry."""
    mapped, window = arguments.required(mapping, export), arguments.window(sessions)
    from alliancedyn.panel import check as describe
    from alliancedyn.panel import read_sessions
    from alliancedyn.studies import refusals, well_seen

    panel = read_sessions(export, mapping=mapped)
    terminal.show(describe(panel).text)
    print("\nModels that these data can carry")
    for label, reason in refusals(panel, sessions=window).items():
        terminal.show(f"  {label}: {'yes' if reason is None else f'no. {reason}'}")
    for remark in well_seen(panel)[1] if window is None else ():
        terminal.show(f"  {remark}")


@app.command(
    short_help="Fit the models, compare directions, write the report.",
    epilog=examples(
        "alliancedyn analyze export.csv --map map.toml --out results",
        "alliancedyn analyze export.csv --map map.toml --out results --families clpm,ri-clpm",
        "alliancedyn analyze export.csv --map map.toml --out results --errors cluster:therapist",
        "alliancedyn analyze export.csv --map map.toml --out results --families all --group arm",
    )
    + "\n\n\b\nFamilies:\n"
    + "\n".join(f"  {line}" for line in (f"{LADDER},", *BESIDE)),
)
def analyze(
    export: Export,
    out: Out,
    mapping: Mapping = None,
    seed: Seed = None,
    families: Families = None,
    errors: Errors = None,
    sessions: Sessions = None,
    covariates: Covariates = None,
    group: Group = None,
    smallest_effect: SmallestEffect = 0.05,
    bayes: Bayes = False,
    show_file_name: ShowFileName = False,
    overwrite: Overwrite = False,
    hide_identifiers: HideIdentifiers = False,
    debug: Debug = False,
) -> None:
    """Fit the ladder of models, compare both directions and write the report.

    Writes report.html (all of it, to send), fits.json (every number), effects.csv and figures/.
    Models that were refused or did not converge are named with their reason.
    """
    _analyze(
        export,
        arguments.required(mapping, export),
        out,
        seed=seed,
        families=arguments.families(families),
        errors=arguments.errors(errors),
        sessions=arguments.window(sessions),
        covariates=arguments.words(covariates),
        group=group,
        smallest_effect=smallest_effect,
        bayes=bayes,
        show_file_name=show_file_name,
        overwrite=overwrite,
    )


@app.command(
    epilog=examples(
        "alliancedyn simulate world.toml --clients 200 --sessions 12 --seed 7 --out panel.csv",
        "alliancedyn simulate reciprocal --seed 7 --out panel.csv",
    )
    + "\n\n\b\nA world:\n"
    + "\n".join(f"  {line}" for line in files.WORLD_EXAMPLE)
)
def simulate(
    world: Annotated[
        str,
        typer.Argument(help="TOML file with the true parameters, or a name.", metavar="WORLD"),
    ],
    out: Annotated[Path, typer.Option("--out", help="CSV file to write.", metavar="PANEL.CSV")],
    clients: Annotated[
        int | None, typer.Option("--clients", min=1, metavar="N", help="Clients.")
    ] = None,
    sessions: Annotated[
        int | None,
        typer.Option("--sessions", min=2, metavar="T", help="Sessions planned for each."),
    ] = None,
    seed: Seed = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Simulate a panel from a world whose true parameters are known.

    A world is a file, or has a name, such as reciprocal. It says how many clients and sessions
    there are where --clients and --sessions do not. Beside PANEL.CSV are written its mapping
    (PANEL-map.toml) and the true parameters (PANEL-truth.csv).
    """
    mapping, truth = files.beside(out)
    for path in (out, mapping, truth):
        arguments.refuse_existing(path, overwrite)
    known = files.find_world(world)
    seed = secrets.randbelow(2**32) if seed is None else seed
    panel = known.simulate(clients, sessions, seed=seed)
    files.write_simulated(out, panel, known, seed)
    rows = f"{panel.n_clients:,} clients, {len(panel.frame):,} rows"
    terminal.say(f"Wrote {str(out)!r}: {rows}, seed {seed}.")
    terminal.say(f"Beside it {mapping.name!r}, its mapping, and {truth.name!r}, what is true.")
    print(f"  {PROGRAM} check {arguments.quoted(out)} --map {arguments.quoted(mapping)}")


@app.command(
    "export-syntax",
    short_help="Write a model for lavaan or Mplus.",
    epilog=examples(
        "alliancedyn export-syntax export.csv --map map.toml --model ri-clpm --to lavaan",
        "alliancedyn export-syntax export.csv --map map.toml --model lcm-sr --to mplus --out lcm",
    ),
)
def export_syntax(
    export: Export,
    model: Annotated[
        str, typer.Option("--model", help="One of the families of analyze.", metavar="FAMILY")
    ],
    to: Annotated[str, typer.Option("--to", help="lavaan or mplus.", metavar="PROGRAM")],
    mapping: Mapping = None,
    sessions: Sessions = None,
    covariates: Covariates = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the text and its data.", metavar="DIR"),
    ] = None,
    overwrite: Overwrite = False,
    hide_identifiers: HideIdentifiers = False,
    debug: Debug = False,
) -> None:
    """Write a model of these data as a text that lavaan or Mplus runs.

    The text defines the likelihood that analyze maximizes, with its parameters under their names.
    Without --out it is shown. With it, the folder holds the text and the data it reads, in wide
    form, without identifiers of clients.
    """
    key, program = arguments.one_family(model), arguments.program(to)
    mapped, window = arguments.required(mapping, export), arguments.window(sessions)
    if out is not None:
        arguments.refuse_existing(out, overwrite)
    from alliancedyn.errors import SpecificationError
    from alliancedyn.models import Specification
    from alliancedyn.panel import read_sessions
    from alliancedyn.studies import chosen, well_seen
    from alliancedyn.syntax import export_syntax as written
    from alliancedyn.syntax import write_syntax

    panel = read_sessions(export, mapping=mapped)
    left_out: list[str] = []
    if window is None:
        window, left_out = well_seen(panel)
    (family,) = chosen(key)
    spec, seen = family.given(panel, window, arguments.words(covariates))
    if not isinstance(spec, Specification):
        raise SpecificationError(
            f"{family.label} has no text for lavaan or Mplus. Choose a model of the ladder, such "
            "as --model ri-clpm."
        )
    if out is None:
        print(written(spec, seen, program), end="")
    else:
        text, data = write_syntax(spec, seen, out, program)
        terminal.say(f"Wrote {str(text)!r}, and {data.name!r} with the data that it reads.")
    for remark in left_out:
        terminal.note(remark)


for _command, _examples, _config in (
    (studies.recover, studies.RECOVER_EXAMPLES, studies.RECOVER_CONFIG),
    (studies.power, studies.POWER_EXAMPLES, studies.POWER_CONFIG),
):
    app.command(epilog=examples(*_examples) + studies.configuration(_config))(_command)


def _analyze(
    export: Path,
    mapping: Path,
    out: Path,
    *,
    title: str | None = None,
    seed: int | None = None,
    families: list[str] | None = None,
    errors: str | None = None,
    sessions: tuple[int, int] | None = None,
    covariates: tuple[str, ...] = (),
    group: str | None = None,
    smallest_effect: float = 0.05,
    bayes: bool = False,
    show_file_name: bool = False,
    overwrite: bool = False,
) -> None:
    named = export.name if show_file_name else None
    try:
        with files.replacing(out, overwrite=overwrite) as folder, terminal.Bar() as bar:
            from alliancedyn.panel import read_sessions
            from alliancedyn.studies import BAYES, DEFAULT
            from alliancedyn.studies import analyze as climb

            panel = read_sessions(export, mapping=mapping)
            terminal.announce_compiling()
            analysis = climb(
                panel,
                families=[*(families or DEFAULT), *(BAYES if bayes else ())],
                errors=errors,
                sessions=sessions,
                covariates=covariates,
                group=group,
                smallest_effect=smallest_effect,
                seed=seed,
                progress=bar,
            )
            bar.last("writing the report")
            files.write_analysis(
                folder, analysis, title=title, mapping=mapping.read_bytes(), export=named
            )
    except files.OccupiedError as occupied:
        raise arguments.UsageError(f"--out: {occupied}") from None
    terminal.summarize(analysis, out)


# -- the process --------------------------------------------------------------------------------


def main(typed: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run(sys.argv[1:] if typed is None else typed))


def run(typed: list[str]) -> int:
    """Run one command and return its exit code; every error is one line on stderr."""
    word = next((one for one in typed if one in COMMANDS), "")
    with speech.answering(word), withholding("--hide-identifiers" in typed):
        return _run(typed, word)


def _run(typed: list[str], word: str) -> int:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a C locale shows "?" instead of failing
    debug = "--debug" in typed
    command = typer.main.get_command(app)
    try:
        with terminal.warnings_as_notes(debug):
            code = command.main(typed, prog_name=PROGRAM, standalone_mode=False)
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
        message, code = _explain(error, word)
        terminal.note(message)
        return code


COMMANDS = ("demo", "map", "check", "analyze", "export-syntax", "simulate", "recover", "power")


def _explain(error: Exception, command: str) -> tuple[str, int]:
    """Return what to say about an error, and the exit code."""
    if isinstance(error, AllianceDynError):
        return f"Error: {error}", error.exit_code
    if isinstance(error, arguments.UsageError):
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
