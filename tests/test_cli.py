"""The command line as a person meets it: real processes, what they print, write and return."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from alliancedyn import __version__, worlds
from alliancedyn.cli import commands, files
from alliancedyn.panel import datasets, read_sessions
from alliancedyn.studies import chosen

HELP_SECONDS = 1.5  # the whole process; measured around 0.2
FILES = {"report.html", "fits.json", "effects.csv", "figures"}
EXAMPLE, EXAMPLE_MAP = str(datasets.path("example")), str(datasets.mapping_path("example"))
WORLD = "\n".join(files.WORLD_EXAMPLE)


def alliancedyn(
    *arguments: str | Path, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one command in a process of its own, away from any terminal."""
    return subprocess.run(
        [sys.executable, "-m", "alliancedyn", *map(str, arguments)],
        capture_output=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **(env or {})},
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
    )


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that an error must be."""
    assert done.stdout == ""
    assert done.stderr.endswith("\n")
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in lines[0]
    return lines[0]


def messy_export(folder: Path) -> Path:
    """Write what German offices export: BOM, semicolons, decimal commas, spaces in names."""
    rng = np.random.default_rng(3)
    rows = ["Klient;Sitzung;Therapeut;WAI gesamt;PHQ-9;Bemerkung"]
    for client in range(1, 61):
        level, now = rng.normal(size=2), rng.normal(size=2)
        for session in range(1, int(rng.integers(5, 12))):
            now = np.array([[0.4, -0.1], [-0.15, 0.4]]) @ now + rng.normal(size=2)
            alliance = f"{4 + 0.5 * level[0] + 0.4 * now[0]:.2f}".replace(".", ",")
            symptoms = str(int(np.clip(12 + 3 * level[1] + 2.5 * now[1], 0, 27)))
            alliance = "" if rng.random() < 0.08 else alliance
            symptoms = "-9" if rng.random() < 0.05 else symptoms
            rows.append(f"{client:03d};{session};T{client % 7};{alliance};{symptoms};böse")
    export = folder / "Sitzungen für März.csv"
    export.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode("utf-8"))
    return export


def strict_json(path: Path) -> Any:
    """Load JSON, refusing the NaN and Infinity that are none."""

    def refuse(literal: str) -> None:
        raise AssertionError(f"{literal} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


# -- help ---------------------------------------------------------------------------------------


def test_help_is_there_at_once(tmp_path: Path) -> None:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = alliancedyn("--help", cwd=tmp_path)
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 0
    assert min(seconds) < HELP_SECONDS
    assert all(command in done.stdout for command in commands.COMMANDS)


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from alliancedyn.cli import run; run(['analyze', '--help']);"
        "print({'numpy', 'pandas', 'numba', 'scipy', 'matplotlib', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


@pytest.mark.parametrize("command", commands.COMMANDS)
def test_every_command_shows_examples_that_parse(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.run([command, "--help"]) == 0
    text = capsys.readouterr().out
    examples = re.findall(r"^ +alliancedyn (.+)$", text, re.MULTILINE)
    assert examples
    assert all(example.startswith(command) for example in examples)
    known = set(re.findall(r"--[a-z]+", text.partition("Options:")[2].partition("Examples")[0]))
    assert {option for line in examples for option in re.findall(r"--[a-z]+", line)} <= known
    assert max(map(len, text.splitlines())) <= 100


def test_no_arguments_means_help_and_version_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run([]) == 0
    assert "Commands:" in capsys.readouterr().out
    assert commands.run(["--version"]) == 0
    assert capsys.readouterr().out == f"alliancedyn {__version__}\n"


FORMS = ("in time order (structural form)", "from one session to the next (reduced form)")


# -- the main job -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("a place with spaces")
    done = alliancedyn("demo", "--out", "first report", "--seed", "11", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "first report", done.stdout


def test_demo_writes_everything_and_nothing_else(demo: tuple[Path, str]) -> None:
    out, _ = demo
    assert {path.name for path in out.iterdir()} == FILES
    assert {path.name for path in out.parent.iterdir()} == {out.name}
    assert {path.stem for path in (out / "figures").iterdir()} == set(files.DRAWN)
    for figure in (out / "figures").iterdir():
        assert figure.read_bytes().startswith(b"\x89PNG")
    assert "<html" in (out / "report.html").read_text(encoding="utf-8")[:200]


def test_demo_says_the_verdict_and_where_the_report_is(demo: tuple[Path, str]) -> None:
    _, text = demo
    lines = text.splitlines()
    assert lines[1].startswith("RI-CLPM (session means): 220 clients")
    assert lines[2] == "The answer depends on how time is read."
    places = [lines.index(f"{form[:1].upper()}{form[1:]}") for form in FORMS]
    for place in places:
        assert lines[place + 1].startswith("  alliance -> symptoms: ")
    whole = " ".join(text.split())
    for form in FORMS:
        assert f"Supported {form}: alliance -> symptoms in " in whole
    assert "One point more of alliance at one session goes with 0.52 points less" in whole
    assert "by convention the smallest size that matters" in whole
    table = [line for line in lines if " | " in line]
    assert [row.split(" | ")[1].strip() for row in table[1:]] == [
        "time order",
        "session to session",
    ] * 6
    assert [name for row in table[1:] if (name := row.split(" | ")[0].strip())] == [
        "CLPM (equal means)",
        "CLPM (session means)",
        "RI-CLPM (equal means)",
        "RI-CLPM (session means)",
        "LCM-SR (session means)",
        "RI-CLPM (detrended)",
    ]
    assert "is reported first: these data do not ask for trends" in " ".join(text.split())
    assert f"Report: {Path('first report') / 'report.html'}" in lines
    assert "synthetic" in lines[-1]
    assert "\x1b" not in text
    assert max(map(len, lines)) <= 100


def test_fits_json_holds_the_numbers_and_no_person(demo: tuple[Path, str]) -> None:
    out, _ = demo
    stored = strict_json(out / "fits.json")
    assert stored["program"] == "alliancedyn"
    assert (stored["version"], stored["seed"]) == (__version__, 11)
    assert len(stored["mapping"]["sha256"]) == len(stored["export"]["sha256"]) == 64
    assert {"numpy", "scipy", "numba", "Python"} <= set(stored["software"])
    fit = stored["fits"][stored["headline"]]
    assert fit["converged"]
    assert fit["params"].keys() == fit["se"].keys() == set(fit["cov"]["names"])
    rows = np.array(fit["cov"]["rows"], float)
    np.testing.assert_allclose(np.sqrt(np.diag(rows)), list(fit["se"].values()), rtol=1e-9)
    assert fit["aic"] == pytest.approx(2 * fit["n_params"] - 2 * fit["loglik"])
    assert {"chisq", "cfi", "rmsea", "srmr"} <= set(fit["fit_indices"])
    assert {"gradient", "condition", "boundary", "seconds"} <= set(fit["diagnostics"])
    assert fit["direction"]["forward"]["lower"] < fit["direction"]["forward"]["upper"]
    assert stored["reason"].startswith(f"{stored['headline']} is reported first")
    assert [step["later"] for step in stored["steps"]] == [
        "CLPM (session means)",
        "RI-CLPM (session means)",
        "RI-CLPM (session means)",
        "LCM-SR (session means)",
    ]
    for step in stored["steps"]:
        earlier, later = (stored["fits"][step[end]] for end in ("earlier", "later"))
        assert step["statistic"] == pytest.approx(2 * (later["loglik"] - earlier["loglik"]))
        assert step["bic_change"] == pytest.approx(later["bic"] - earlier["bic"])
    assert [label for label, one in stored["fits"].items() if one["detrended"]] == [
        "RI-CLPM (detrended)"
    ]
    clients = set(datasets.load("example").arrays().clients)
    text = (out / "fits.json").read_text(encoding="utf-8")
    assert not set(re.findall(r"\w+", text)) & clients


def test_effects_csv_agrees_with_fits_json(demo: tuple[Path, str]) -> None:
    out, _ = demo
    fits = strict_json(out / "fits.json")["fits"]
    with (out / "effects.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 12
    for row in rows:
        name = f"phi[{row['target']},{row['source']}]"
        assert float(row["estimate"]) == pytest.approx(fits[row["model"]]["params"][name])


def test_map_check_analyze_on_a_messy_export(tmp_path: Path) -> None:
    export = messy_export(tmp_path)
    done = alliancedyn("map", export.name, "--out", "map.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Check every line" in done.stdout
    assert f'alliancedyn check "{export.name}" --map map.toml' in done.stdout
    mapping = tmp_path / "map.toml"
    guess = tomllib.loads(mapping.read_text(encoding="utf-8"))
    assert guess["variables"] == {"alliance": "WAI gesamt", "symptoms": "PHQ-9"}

    done = alliancedyn("check", export.name, "--map", "map.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "suspect-missing-code" in done.stdout
    assert "RI-CLPM (session means): yes" in done.stdout

    confirmed = mapping.read_text(encoding="utf-8").replace("# missing_codes = [-9, 999]", "mc = 1")
    confirmed = confirmed.replace("mc = 1", "missing_codes = [-9]")
    mapping.write_text(confirmed, encoding="utf-8")
    done = alliancedyn(
        *("analyze", export.name, "--map", "map.toml", "--out", "deep/er/Bericht März"),
        *("--families", "clpm,ri-clpm", "--errors", "cluster:therapist"),
        cwd=tmp_path,
        env={"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "COLUMNS": "60"},
    )
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 60
    assert done.stdout.isascii()
    out = tmp_path / "deep" / "er" / "Bericht März"
    assert {path.name for path in out.iterdir()} == FILES
    stored = strict_json(out / "fits.json")
    assert list(stored["fits"]) == ["CLPM (session means)", "RI-CLPM (session means)"]
    assert stored["fits"]["CLPM (session means)"]["diagnostics"]["errors"] == "cluster:therapist"
    assert "clustered over 7 clusters" in " ".join(done.stdout.split())


def test_families_groups_and_covariates_by_name(tmp_path: Path) -> None:
    trial, mapped = str(datasets.path("trial")), str(datasets.mapping_path("trial"))
    done = alliancedyn(
        *("analyze", trial, "--map", mapped, "--out", "r", "--sessions", "1-5"),
        *("--families", "ri-clpm,gclm,ri-clpm-step@3", "--families", "ct-days,latent-change"),
        *("--group", "arm", "--covariates", "severity"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    stored = strict_json(tmp_path / "r" / "fits.json")
    labels = {"RI-CLPM (session means)", "GCLM", "RI-CLPM (change at session 3)"}
    labels |= {"Continuous time (days)", "Latent change"}
    assert {*stored["fits"], *stored["failures"]} == labels
    for label, reason in stored["failures"].items():
        assert f"{label} gave no result. {reason}" in " ".join(done.stdout.split())
    for fit in stored["fits"].values():
        assert any(name.startswith("between[") for name in fit["params"])
    assert set(stored["groups"]["directions"]) == {"arm=feedback", "arm=usual"}
    assert 0.0 <= stored["groups"]["test"]["p_value"] <= 1.0
    assert "RI-CLPM (session means), by arm" in done.stdout
    assert "arm=usual, alliance -> symptoms: " in done.stdout


def test_a_family_that_fails_is_named_and_the_others_are_written(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text(
        "\n".join(
            GOOD.splitlines()[:1]
            + [line for line in GOOD.splitlines()[1:] if line.split(",")[1] in "123"]
        ),
        encoding="utf-8",
    )
    (tmp_path / "m.toml").write_text(ROLES + MAP, encoding="utf-8")
    done = alliancedyn(
        *("analyze", "e.csv", "--map", "m.toml", "--out", "r", "--families", "all"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    said = " ".join(done.stdout.split())
    assert "STARTS gave no result. The STARTS needs 4 or more sessions" in said
    assert "Continuous time (days) gave no result." in said
    stored = strict_json(tmp_path / "r" / "fits.json")
    assert len(stored["fits"]) + len(stored["failures"]) == len(chosen("all"))


# -- for other programs -------------------------------------------------------------------------


def test_a_text_is_shown_or_written_with_its_data(tmp_path: Path) -> None:
    from alliancedyn.models import RICLPM
    from alliancedyn.syntax import export_syntax, wide_data

    panel = datasets.load("example")
    spec = RICLPM(variables=("alliance", "symptoms"), sessions=(1, 6))
    arguments = ("export-syntax", EXAMPLE, "--map", EXAMPLE_MAP, "--model", "ri-clpm")
    done = alliancedyn(*arguments, "--to", "lavaan", "--sessions", "1-6", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == export_syntax(spec, panel, "lavaan")
    assert not list(tmp_path.iterdir())
    done = alliancedyn(
        *(*arguments, "--to", "Mplus", "--sessions", "1-6", "--out", "for Mplus"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "model.inp" in done.stdout
    out = tmp_path / "for Mplus"
    assert {path.name for path in out.iterdir()} == {"model.inp", "wide.dat"}
    assert (out / "model.inp").read_text("utf-8") == export_syntax(spec, panel, "mplus")
    rows = (out / "wide.dat").read_text("utf-8").splitlines()
    assert len(rows) == len(wide_data(spec, panel, "mplus"))
    done = alliancedyn(*arguments, "--to", "mplus", "--out", "for Mplus", cwd=tmp_path)
    assert done.returncode == 2
    assert "is there already" in sentence(done)


EXPORT = {
    "another program": (["--model", "clpm", "--to", "r"], 2, "--to: there is no 'r'"),
    "no such model": (["--model", "lcm", "--to", "mplus"], 2, "--model: .*'lcm'.*lcm-sr"),
    "two models": (["--model", "clpm,ri-clpm", "--to", "mplus"], 2, "--model: name one model"),
    "all models": (["--model", "all", "--to", "mplus"], 2, "--model: name one model"),
    "no program": (["--model", "clpm"], 2, "--to"),
    "not in sessions": (["--model", "ct-days", "--to", "lavaan"], 4, "differ from client"),
    "no such covariate": (
        ["--model", "clpm", "--to", "lavaan", "--covariates", "age"],
        3,
        "no column 'age'",
    ),
}


@pytest.mark.parametrize("case", EXPORT, ids=str)
def test_what_cannot_be_exported_is_one_line(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options, code, said = EXPORT[case]
    monkeypatch.chdir(tmp_path)
    assert commands.run(["export-syntax", EXAMPLE, "--map", EXAMPLE_MAP, *options]) == code
    out, error = capsys.readouterr()
    assert out == ""
    assert len(error.splitlines()) == 1
    assert re.search(said, error)
    assert not list(tmp_path.iterdir())


def test_the_help_names_every_family() -> None:
    from alliancedyn.studies import choices

    words = " ".join([commands.LADDER, *commands.BESIDE]).replace(", or all", ", all")
    assert set(re.split(r"[,;\s]+", words)) - {"or", ""} == set(choices())


def test_simulated_panels_are_the_same_from_the_same_seed(tmp_path: Path) -> None:
    (tmp_path / "world.toml").write_text(WORLD, encoding="utf-8")
    for name in ("a.csv", "b.csv"):
        arguments = ("--clients", "30", "--sessions", "6", "--seed", "7", "--out", name)
        done = alliancedyn("simulate", "world.toml", *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "30 clients" in done.stdout
        assert "seed 7" in done.stdout
    first = (tmp_path / "a.csv").read_bytes()
    assert first == (tmp_path / "b.csv").read_bytes()
    assert first.startswith(b"client,session,alliance,symptoms")
    beside = {f"{name}{end}" for name in "ab" for end in (".csv", "-map.toml", "-truth.csv")}
    assert {path.name for path in tmp_path.iterdir()} == {"world.toml", *beside}


# -- what goes wrong ----------------------------------------------------------------------------

GOOD = "client,session,wai,phq\n" + "\n".join(
    f"c{i},{t},{(i * 7 + t * 3) % 11},{(i * 5 + t * 2) % 13}" for i in range(9) for t in range(1, 8)
)
MAP = '[variables]\nalliance = "wai"\nsymptoms = "phq"\n'
ROLES = 'client = "client"\nsession = "session"\n'
BAD = {
    "unknown column": (GOOD, ROLES + MAP.replace("wai", "wia"), 3, "'wia'.*'wai'"),
    "conflicting duplicates": (f"{GOOD}\nc1,1,3,3", ROLES + MAP, 3, "c1"),
    "a word among numbers": (GOOD.replace("c3,2,", "c3,2,good "), ROLES + MAP, 3, "good"),
    "unknown key": (GOOD, f"clinet = 'x'\n{ROLES}{MAP}", 3, "clinet.*client"),
    "mapping is no TOML": (GOOD, "client = ", 3, "TOML"),
    "constant series": (re.sub(r",\d+\n", ",5\n", GOOD + "\n"), ROLES + MAP, 4, "No model.*same"),
    "too few clients": (GOOD[: GOOD.index("c3")].strip(), ROLES + MAP, 4, "5 or more clients"),
}


@pytest.mark.parametrize("case", BAD, ids=str)
def test_bad_input_is_one_line_and_nothing_written(tmp_path: Path, case: str) -> None:
    export, mapping, code, said = BAD[case]
    (tmp_path / "export.csv").write_text(export, encoding="utf-8")
    (tmp_path / "map.toml").write_text(mapping, encoding="utf-8")
    arguments = ("analyze", "export.csv", "--map", "map.toml", "--out", "new/results")
    done = alliancedyn(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    notes = [line for line in done.stderr.splitlines() if not line.startswith("First run")]
    done.stderr = "\n".join(notes) + "\n"
    assert re.search(said, sentence(done))
    assert {path.name for path in tmp_path.iterdir()} == {"export.csv", "map.toml"}


USAGE = {
    "no mapping": (["analyze", EXAMPLE, "--out", "x"], r"--map.*alliancedyn map .*--out map\.toml"),
    "check without mapping": (["check", EXAMPLE], "--map"),
    "no out": (["analyze", EXAMPLE, "--map", EXAMPLE_MAP], "--out"),
    "unknown command": (["anlyze"], "anlyze.*analyze"),
    "unknown option": (["demo", "--ouf", "x"], "--ouf"),
    "unknown family": (
        ["analyze", EXAMPLE, "--map", EXAMPLE_MAP, "--out", "x", "--families", "clpm,lcm"],
        "'lcm'.*ri-clpm",
    ),
    "unknown errors": (
        ["analyze", EXAMPLE, "--map", EXAMPLE_MAP, "--out", "x", "--errors", "robst"],
        "'robst'.*robust",
    ),
    "sessions reversed": (
        ["analyze", EXAMPLE, "--map", EXAMPLE_MAP, "--out", "x", "--sessions", "9-3"],
        "'9-3'",
    ),
    "a step without a session": (
        ["analyze", EXAMPLE, "--map", EXAMPLE_MAP, "--out", "x", "--families", "ri-clpm-step"],
        "'ri-clpm-step'.*ri-clpm-step@SESSION",
    ),
    "negative seed": (["demo", "--seed", "-1"], "--seed"),
}


@pytest.mark.parametrize("case", USAGE, ids=str)
def test_usage_errors_return_2_and_point_to_help(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, said = USAGE[case]
    monkeypatch.chdir(tmp_path)
    assert commands.run(arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert len(error.splitlines()) == 1
    assert re.search(said, error)
    assert re.search(r"Help: alliancedyn( \w+)? --help$", error.strip())
    assert not list(tmp_path.iterdir())


def test_a_usage_error_in_a_process_of_its_own(tmp_path: Path) -> None:
    done = alliancedyn("analyze", EXAMPLE, "--out", "results", cwd=tmp_path)
    assert done.returncode == 2
    assert "--map" in sentence(done)
    assert not list(tmp_path.iterdir())


def test_no_model_that_converges_returns_5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from alliancedyn import studies
    from alliancedyn.errors import ConvergenceError

    def failing(*_: object, **__: object) -> None:
        raise ConvergenceError("No model could be fitted. The likelihood is flat.")

    monkeypatch.setattr(studies, "analyze", failing)
    arguments = ["analyze", EXAMPLE, "--map", EXAMPLE_MAP, "--out", str(tmp_path / "x")]
    assert commands.run(arguments) == 5
    assert "Error: No model could be fitted." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    arguments = ("check", "nowhere.csv", "--map", EXAMPLE_MAP)
    assert "'nowhere.csv'" in sentence(alliancedyn(*arguments, cwd=tmp_path))
    for place in ((*arguments, "--debug"), ("--debug", *arguments)):
        done = alliancedyn(*place, cwd=tmp_path)
        assert done.returncode == 3
        assert done.stderr.startswith("Traceback")
        assert "DataError" in done.stderr


def test_the_unexpected_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from alliancedyn import panel

    def broken(_: object) -> None:
        raise ZeroDivisionError("all is\nlost")

    monkeypatch.setattr(panel, "guess_mapping", broken)
    assert commands.run(["map", EXAMPLE]) == 1
    said = capsys.readouterr().err
    assert said == (
        "Internal error: ZeroDivisionError: all is lost. Run with --debug for the traceback.\n"
    )


def test_our_warnings_are_lines_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import warnings

    from alliancedyn import panel
    from alliancedyn.errors import DataWarning

    guess = panel.guess_mapping

    def warned(path: Path) -> object:
        for _ in range(2):
            warnings.warn("Look\nhere.", DataWarning, stacklevel=1)
            warnings.warn("Not your business.", RuntimeWarning, stacklevel=1)
        return guess(path)

    monkeypatch.setattr(panel, "guess_mapping", warned)
    assert commands.run(["map", EXAMPLE]) == 0
    said = capsys.readouterr().err
    assert said.count("Note: Look here.\n") == 1
    assert "business" not in said
    assert commands.run(["map", EXAMPLE, "--debug"]) == 0
    assert "RuntimeWarning: Not your business." in capsys.readouterr().err


# -- what is there already ----------------------------------------------------------------------


def test_map_without_out_shows_and_writes_nothing(tmp_path: Path) -> None:
    done = alliancedyn("map", EXAMPLE, cwd=tmp_path)
    assert done.returncode == 0
    assert tomllib.loads(done.stdout)["variables"]
    assert "--out" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_mapping_that_was_corrected_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "map.toml"
    out.write_text("mine", encoding="utf-8")
    assert commands.run(["map", EXAMPLE, "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == "mine"
    assert commands.run(["map", EXAMPLE, "--out", str(out), "--overwrite"]) == 0
    assert out.read_text(encoding="utf-8") != "mine"


def written(folder: Path, *, overwrite: bool = False, **texts: str) -> None:
    """Write files as an analysis does; double underscores stand for a folder."""
    with files.replacing(folder, overwrite=overwrite) as part:
        for name, text in texts.items():
            place = part / name.replace("__", "/").replace("_", ".")
            place.parent.mkdir(exist_ok=True)
            place.write_text(text, encoding="utf-8")


OURS = {"fits_json": '{"program": "alliancedyn"}', "report_html": "old"}


def test_an_earlier_analysis_is_replaced_and_notes_beside_it_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    written(out, **OURS, figures__paths_png="old")
    (out / "my notes.txt").write_text("keep", encoding="utf-8")
    written(out, **{**OURS, "report_html": "new"}, figures__courses_png="new")
    assert (out / "report.html").read_text(encoding="utf-8") == "new"
    assert (out / "my notes.txt").read_text(encoding="utf-8") == "keep"
    assert [path.name for path in (out / "figures").iterdir()] == ["courses.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_somebody_elses_folder_is_refused_unless_told(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("years", encoding="utf-8")
    with pytest.raises(files.OccupiedError, match="--overwrite"):
        written(tmp_path, **OURS)
    written(tmp_path, overwrite=True, **OURS)
    assert (tmp_path / "thesis.docx").read_text(encoding="utf-8") == "years"
    assert (tmp_path / "report.html").exists()
    with pytest.raises(files.OccupiedError, match="is a file"):
        written(tmp_path / "thesis.docx", **OURS)
    foreign = tmp_path / "other"
    foreign.mkdir()
    (foreign / "fits.json").write_text("[NaN", encoding="utf-8")
    with pytest.raises(files.OccupiedError):
        written(foreign, **OURS)


def test_what_fails_half_way_leaves_no_trace(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with pytest.raises(ZeroDivisionError), files.replacing(out, overwrite=False) as part:
        (part / "report.html").write_text("half", encoding="utf-8")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_moved_brings_all_others_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    written(out, **OURS, effects_csv="old")
    replace = Path.replace

    def locked(self: Path, target: Path) -> Path:
        if target == out / "report.html" and "new" in self.parts:
            raise PermissionError(13, "Permission denied", str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", locked)
    with pytest.raises(PermissionError):
        written(out, **{**OURS, "report_html": "new"}, effects_csv="new")
    with pytest.raises(PermissionError):  # a folder made for this is taken away again
        monkeypatch.setattr(Path, "replace", lambda *_: locked(out / "new", out / "report.html"))
        written(tmp_path / "fresh", **OURS)
    monkeypatch.undo()
    assert (out / "report.html").read_text(encoding="utf-8") == "old"
    assert (out / "effects.csv").read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# -- the terminal -------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_is_clean(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "alliancedyn", "demo", "--out", "results"]
    running = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background passes on that interrupts are ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 20
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(tmp_path.iterdir()), "the work began"
    running.send_signal(signal.SIGINT)
    out, error = running.communicate(timeout=20)
    assert running.returncode == 130
    assert out == ""
    assert error.splitlines()[-1] == "Interrupted; nothing was written."
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="POSIX terminals")
def test_progress_shows_on_a_terminal_after_two_seconds() -> None:
    import pty

    code = (
        "import time; from alliancedyn.cli import terminal\n"
        "terminal.PATIENCE = 0.2\n"
        "with terminal.Bar() as bar:\n"
        "    bar(1, 3, 'fitting [bold]'); time.sleep(WAIT); bar.last('writing')\n"
        "print('done')"
    )
    shown = {}
    for wait in ("0.0", "1.0"):
        ours, theirs = pty.openpty()
        running = subprocess.Popen(
            [sys.executable, "-c", code.replace("WAIT", wait)],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
        )
        os.close(theirs)
        out, _ = running.communicate(timeout=20)
        assert out.split() == [b"done"]
        os.set_blocking(ours, False)
        try:
            shown[wait] = os.read(ours, 100_000)
        except OSError:  # nothing was written before the other end closed
            shown[wait] = b""
        os.close(ours)
    assert shown["0.0"] == b""
    assert b"fitting [bold]" in shown["1.0"]


def test_a_pipe_that_closes_early_is_no_error(tmp_path: Path) -> None:
    command = f'"{sys.executable}" -m alliancedyn map "{EXAMPLE}" | head -1'
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert "rror" not in done.stderr


# -- worlds -------------------------------------------------------------------------------------

WORLDS = {
    "unknown key": ("phy = 1", "'phy' means nothing in the world.*phi"),
    "incomplete": ("mean = [1, 2]", "phi"),
    "explosive": ("phi = [[1.2, 0], [0, 1]]\ninnovation_cov = [[1, 0], [0, 1]]", "explo|stationar"),
    "no TOML": ("phi = [", "TOML"),
    "part is no table": (f"dropout = 3\n{WORLD.partition('[dropout]')[0]}", "dropout must be"),
    "unknown key of a part": (f"{WORLD}\nspeed = 2", "'speed' means nothing in dropout.*rule"),
    "unknown argument": ("[time_ordered]\nforwards = 1", "time_ordered.*forwards"),
}


@pytest.mark.parametrize("case", WORLDS, ids=str)
def test_impossible_worlds_return_4(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, said = WORLDS[case]
    world = tmp_path / "world.toml"
    world.write_text(text, encoding="utf-8")
    out = tmp_path / "out.csv"
    arguments = [str(world), "--clients", "9", "--sessions", "4", "--out", str(out)]
    assert commands.run(["simulate", *arguments]) == 4
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(said, error)
    assert not out.exists()


def test_a_world_in_time_order_with_everything_observed(tmp_path: Path) -> None:
    world = tmp_path / "world.toml"
    world.write_text(
        "missing = 0.1\nceiling = { alliance = 6.0 }\n"
        "therapists = { n = 3, cov = [[0.1, 0], [0, 0.1]] }\n"
        "gaps = { weeks = [1, 2], weights = [0.7, 0.3] }\n"
        "[time_ordered]\nphi_alliance = 0.35\nphi_symptoms = 0.45\nforward = -0.12\n"
        "backward = -0.1\nmean = [5, 10]\n"
        '[dropout]\nrule = "well_enough"\n',
        encoding="utf-8",
    )
    known = files.find_world(str(world))
    assert known.truth.effect("alliance", "symptoms") == pytest.approx(-0.12)
    assert set(known.observation) == {"missing", "ceiling", "therapists", "gaps", "dropout"}
    assert commands.run(
        ["simulate", str(world), "--clients", "20", "--sessions", "6", "--out", f"{world}.csv"]
    ) == 0  # fmt: skip
    header = Path(f"{world}.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "client,session,alliance,symptoms,therapist,day"


def test_a_world_may_be_one_that_has_a_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "panel.csv"
    assert commands.run(["simulate", "two_raters", "--seed", "1", "--out", str(out)]) == 0
    expected = worlds.load("two_raters").simulate(seed=1).frame
    assert out.read_text("utf-8") == expected.to_csv(index=False)
    assert "200 clients, 2,400 rows" in " ".join(capsys.readouterr().out.split())
    assert commands.run(["simulate", "two_rater", "--out", str(tmp_path / "no.csv")]) == 4
    said = " ".join(capsys.readouterr().err.split())
    assert "no world 'two_rater'" in said
    assert "'two_raters'" in said


def test_a_simulated_panel_is_read_by_its_own_mapping_and_its_truth_stands_beside(
    tmp_path: Path,
) -> None:
    for name in worlds.names():
        world, out = worlds.load(name), tmp_path / f"{name}.csv"
        drawn = world.simulate(12, 6, seed=5)
        files.write_simulated(out, drawn, world, 5)
        mapping, truth = files.beside(out)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            panel = read_sessions(out, mapping=mapping)
        assert panel.variables == drawn.variables, name
        assert np.allclose(panel.arrays().Y, drawn.arrays().Y, equal_nan=True), name
        assert (panel.timing, panel.higher) == (drawn.timing, drawn.higher), name
        assert panel.process == drawn.process, name
        stored = pd.read_csv(truth, index_col="parameter")["truth"]
        assert stored.to_dict() == pytest.approx(world.truth.params(6).to_dict()), name


# -- examples -----------------------------------------------------------------------------------

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["ten_lines", "first_report"])
def test_examples_run(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr
    assert "alliance -> symptoms" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["first-report.html"] * (
        name == "first_report"
    )


def test_the_ten_lines_are_those_of_the_readme() -> None:
    (block,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    example = (ROOT / "examples" / "ten_lines.py").read_text(encoding="utf-8")

    def bare(text: str) -> list[str]:
        return [line.partition("#")[0].strip() for line in text.splitlines() if line.strip()]

    assert bare(example)[1:] == bare(block)


def test_the_world_on_the_page_is_the_one_in_the_help() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    shown = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert tomllib.loads(WORLD) in [tomllib.loads(block) for block in shown]
    for option in ("--families", "--errors", "--sessions", "--seed", "--overwrite", "--debug"):
        assert option in page


def test_json_holds_what_json_can_hold() -> None:
    given = {
        1: (float("nan"), float("-inf"), np.float64(2.5), np.int64(3), np.bool_(True)),
        "rows": np.array([[1.0, np.nan]]),
        "name": "M\udcfcller",
        "none": None,
        "kind": Path("a"),
    }
    assert json.loads(json.dumps(files._plain(given), allow_nan=False)) == {
        "1": [None, None, 2.5, 3, True],
        "rows": [[1.0, None]],
        "name": "M?ller",
        "none": None,
        "kind": "a",
    }


@pytest.mark.parametrize(("more", "said"), [([], "'Quixote'"), (["--hide-identifiers"], "[1 not")])
def test_people_are_named_to_who_has_the_export_unless_hidden(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    export, mapping = tmp_path / "e.csv", tmp_path / "m.toml"
    export.write_text("client,session,a,s\nQuixote,2,1,2\nQuixote,2,2,3\n", encoding="utf-8")
    mapping.write_text(
        'client = "client"\nsession = "session"\n[variables]\nalliance = "a"\nsymptoms = "s"\n',
        encoding="utf-8",
    )
    assert commands.run(["check", str(export), "--map", str(mapping), *more]) == 3
    told = capsys.readouterr().err
    assert said in told
    assert ("Quixote" in told) == (not more)
