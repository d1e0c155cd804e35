"""Hostile exports, mappings, configurations and command lines, drawn from a seed.

A good file is damaged once or a few times, as programs, transfers and people do it.
"""

from __future__ import annotations

import contextlib
import io
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from alliancedyn.cli import run

Rng = np.random.Generator

MAPPING = """
client = "client"
session = "session"
date = "date"
therapist = "therapist"
missing_codes = [-99, "NA"]
duplicates = "error"

[variables]
alliance = "wai"
symptoms = "phq"

[timing]
alliance = "after"
symptoms = "before"

[higher]
alliance = "better"
symptoms = "worse"

[ranges]
alliance = [1, 7]
"""
WORLD = """
phi = [[0.36, -0.05], [-0.12, 0.45]]
innovation_cov = [[1, -0.25], [-0.25, 1]]
between_cov = [[1, -0.3], [-0.3, 1]]
mean = [3, 10]
variables = ["alliance", "symptoms"]
missing = 0.1
[dropout]
rule = "unwell"
rate = 0.3
"""
STUDY = """
model = "ri-clpm"
world = "reciprocal"
clients = 20
sessions = 4
replications = 1
seed = 7
level = 0.95
[options]
lags = "equal"
"""
CELLS = (
    *("", "NA", "k.A.", "-99", "1e155", "1e300", "-1e308", "1e999", "inf", "-inf", "nan", "TRUE"),
    *("9" * 5000, "0" * 400, "1,5", "1.234,5", "1'000", "٣", "３", "½", "2024-02-30", "31.12.1899"),
    *("0001-01-01", "9999-12-31", "2024-01-01T25:00:00+99:00", "45000", "=1+1", "\x00", "\ufffe"),
    *("<script>", '"', "'", ";", "\t", "a" * 200_000, "C01", "C01 ", "c01", "1.0", "-", "−3", "🙂"),
)
VALUES = (
    *("nan", "inf", "-inf", "1e400", "9" * 5000, "-1", "0", "true", "[]", "{}", '""', '"\\u0000"'),
    *("[1, [2, [3]]]", "[" * 300 + "]" * 300, "{a = 1}", "2024-01-01", "1979-05-27T07:32:00Z"),
    *(
        '"undefined"',
        '"x\\u0000y"',
        '"idna"',
        '"punycode"',
        "'alliance'",
        "[[1]]",
        "0x7fffffffffff",
    ),
    *("1_000_000_000_000", "10000000000000000000000000000000", '"cp037"', '"alianse"', "[1, 2]"),
)
KEYS = ("client", "sesion", "encoding", "delimiter", "decimal", "sheet", "order", "episode",
        "episode_gap", "process", "covariates", "group", "day_first", "date_format", "site", "day",
        "higher", "ranges", "phi_sd", "gaps", "therapists", "options", "items", "effect", "x.y.z",
        "reliability", "errors", "target", "jobs", "level", "trend", "events")  # fmt: skip


def good_rows(rng: Rng) -> pd.DataFrame:
    """Return a small export without a flaw."""
    clients, sessions = 8, 5
    n = clients * sessions
    session = np.tile(np.arange(1, sessions + 1), clients)
    day = pd.Timestamp("2024-01-01") + pd.to_timedelta(7 * session, unit="D")
    return pd.DataFrame(
        {
            "client": np.repeat([f"C{i:02d}" for i in range(clients)], sessions),
            "session": session,
            "date": day.strftime("%Y-%m-%d"),
            "therapist": np.repeat([f"T{i % 3}" for i in range(clients)], sessions),
            "wai": rng.integers(1, 8, n),
            "phq": rng.integers(0, 28, n),
        }
    )


def damaged_text(text: str, rng: Rng) -> bytes:
    """Return a delimited text with a cell, a row, a mark or a byte that is wrong."""
    lines = [line.split(",") for line in text.splitlines()]
    for _ in range(int(rng.integers(1, 4))):
        row = int(rng.integers(len(lines)))
        kind = int(rng.integers(9))
        if kind <= 3 and lines[row]:
            lines[row][rng.integers(len(lines[row]))] = str(rng.choice(CELLS))
        elif kind == 4:
            column = int(rng.integers(6))
            cell = str(rng.choice(CELLS))
            lines = [[*line[:column], cell, *line[column + 1 :]] for line in lines]
        elif kind == 5:
            lines.insert(row, list(lines[int(rng.integers(len(lines)))]))
        elif kind == 6:
            lines[row] = lines[row][: int(rng.integers(4))]
        elif kind == 7:
            lines = lines[row:]
        else:
            lines[row] = lines[row] * 2
        lines = lines or [[""]]
    joined = str(rng.choice([",", ",", ";", "\t", "|", " "])).join
    ends = str(rng.choice(["\n", "\n", "\r\n", "\r", "\n\n"]))
    whole = ends.join(joined(line) for line in lines)
    encoding = str(rng.choice(["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "latin-1"]))
    return damaged_bytes(whole.encode(encoding, "replace"), rng, share=0.3)


def damaged_bytes(data: bytes, rng: Rng, share: float = 1.0) -> bytes:
    """Return bytes with some changed, cut out or put in, in a share of cases."""
    if not data or rng.random() > share:
        return data
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.integers(max(len(changed), 1)))
        kind = int(rng.integers(4))
        if kind == 0:
            changed[at : at + 1] = bytes([int(rng.integers(256))])
        elif kind == 1:
            del changed[at : at + int(rng.integers(1, 40))]
        elif kind == 2:
            changed[at:at] = rng.bytes(int(rng.integers(1, 8)))
        else:
            changed = changed[: max(at, 1)]
    return bytes(changed)


def damaged_toml(text: str, rng: Rng) -> bytes:
    """Return a TOML text with a value, a key or a line that is wrong."""
    lines = text.strip().splitlines()
    for _ in range(int(rng.integers(1, 3))):
        at = int(rng.integers(len(lines)))
        key = lines[at].partition("=")[0].strip() if "=" in lines[at] else "client"
        kind = int(rng.integers(5))
        if kind <= 1:
            lines[at] = f"{key} = {rng.choice(VALUES)}"
        elif kind == 2:
            lines.insert(0, f"{rng.choice(KEYS)} = {rng.choice(VALUES)}")
        elif kind == 3:
            del lines[at]
            lines = lines or [""]
        else:
            lines.append(f"[{rng.choice(KEYS)}]\n{rng.choice(KEYS)} = {rng.choice(VALUES)}")
    return damaged_bytes("\n".join(lines).encode(), rng, share=0.15)


def damaged_workbook(frame: pd.DataFrame, rng: Rng) -> bytes:
    """Return a workbook with something wrong in one of its parts."""
    whole = io.BytesIO()
    frame.astype(object).to_excel(whole, index=False)
    out = io.BytesIO()
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(out, "w") as target:
        names = source.namelist()
        hit = {str(rng.choice(names)), "xl/worksheets/sheet1.xml"}
        for name in names:
            part = source.read(name)
            if name in hit and rng.random() < 0.7:
                pairs = ((rb'r="[A-Z]+\d+"', b'r="XFD9999"'), (rb"<v>[^<]*</v>", b"<v>1e300</v>"),
                         (rb't="\w+"', b't="d"'), (rb"<v>\d+</v>", b"<v>999999</v>"))  # fmt: skip
                found, new = pairs[int(rng.integers(len(pairs)))]
                part = re.sub(found, new, part, count=int(rng.integers(1, 9)))
                part = damaged_bytes(part, rng, share=0.3)
            if rng.random() > 0.03:
                target.writestr(name, part)
    return damaged_bytes(out.getvalue(), rng, share=0.2)


def damaged_parquet(frame: pd.DataFrame, rng: Rng) -> bytes:
    """Return a Parquet file with a column of another kind, or damaged bytes."""
    name = str(rng.choice(list(frame)))
    kinds = ("category", "string", "boolean", "Int64", "float64", "object", "datetime64[ns]")
    changed = frame.copy()
    with contextlib.suppress(Exception):  # not every column becomes every kind
        changed[name] = pd.Series(changed[name]).astype(str(rng.choice(kinds)))
    with contextlib.suppress(Exception):
        changed.loc[rng.random(len(changed)) < 0.2, name] = None
    out = io.BytesIO()
    changed.to_parquet(out, index=bool(rng.integers(2)))
    return damaged_bytes(out.getvalue(), rng, share=0.4)


def _write(folder: Path, number: int, rng: Rng) -> tuple[Path, Path]:
    frame = good_rows(rng)
    kind = str(rng.choice(["csv"] * 8 + ["xlsx", "parquet", "toml", "toml", "toml"]))
    export, mapping = folder / f"e{number}.{kind}", folder / f"m{number}.toml"
    mapping.write_text(MAPPING, encoding="utf-8")
    if kind == "xlsx":
        export.write_bytes(damaged_workbook(frame, rng))
    elif kind == "parquet":
        export.write_bytes(damaged_parquet(frame, rng))
    else:
        export = export.with_suffix(".csv")
        text = frame.to_csv(index=False)
        if kind == "csv":
            export.write_bytes(damaged_text(text, rng))
        else:
            export.write_text(text, encoding="utf-8")
            mapping.write_bytes(damaged_toml(MAPPING, rng))
    return export, mapping


def hostile_lines(count: int, seed: int, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield command lines over hostile files, each with a text that says which."""
    rng = np.random.default_rng(seed)
    good = folder / "good.csv"
    good_rows(rng).to_csv(good, index=False)
    whole = folder / "good.toml"
    whole.write_text(MAPPING, encoding="utf-8")
    for number in range(count):
        kind = int(rng.integers(10))
        if kind <= 5:
            export, mapping = _write(folder, number, rng)
            typed = ["check", str(export), "--map", str(mapping)]
            typed = ["map", str(export)] if kind == 5 else typed
        elif kind <= 7:
            toml = folder / f"w{number}.toml"
            world = kind == 6
            toml.write_bytes(damaged_toml(WORLD if world else STUDY, rng))
            out = str(folder / f"o{number}")
            if world:
                size = ["--clients", "5", "--sessions", "4", "--seed", "1"]
                typed = ["simulate", str(toml), *size, "--out", f"{out}.csv"]
            else:
                verb = str(rng.choice(["recover", "power"]))
                typed = [verb, str(toml), "--out", str(good)]  # a file: none is to run
        else:
            typed = _odd_line(rng, good, whole, folder / f"o{number}")
        yield " ".join(ascii(one)[:80] for one in typed), typed


OPTIONS = ("--map", "--out", "--seed", "--families", "--errors", "--sessions", "--covariates",
           "--group", "--bayes", "--overwrite", "--clients", "--jobs", "--cluster",
           "--model", "--to", "--mpa", "--familes", "-h", "--help", "--version", "--x")  # fmt: skip
WORDS = ("", "-1", "0", "1e9", "nan", "9" * 400, "1-5", "5-1", "1-999", "riclpm", "ri_clpm", "clpm",
         "all", "ri-clpm-step@99", "observed", "cluster:", "cluster:x", "arm", "therapist", "x,y",
         ",", "\x00", "\ud800", "~", "..", "/", "lavaan", "mplus", "stata", "a" * 5000)  # fmt: skip


def _odd_line(rng: Rng, good: Path, whole: Path, out: Path) -> list[str]:
    """Return a command with options that do not fit, over files without a flaw."""
    verbs = ("map", "check", "export-syntax", "simulate", "recover", "power", "chek", "", "analyze")
    verb = str(rng.choice(verbs))
    typed = [verb, str(rng.choice([str(good), "nothing.csv", str(out.parent), "reciprocal", ""]))]
    typed += ["--map", str(whole)] if rng.random() < 0.6 and verb in verbs[1:3] else []
    for _ in range(int(rng.integers(0, 4))):
        typed.append(str(rng.choice(OPTIONS)))
        typed += [str(rng.choice(WORDS))] if rng.random() < 0.8 else []
    if verb == "analyze":
        typed.append("--familes")
    if verb in ("recover", "power"):
        typed.append("--replications")
    return typed


def answer(typed: list[str]) -> str | None:
    """Return what is wrong with how the command line answered, if anything is."""
    said, noted = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(noted):
        try:
            code = run(typed)
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
    text = noted.getvalue()
    if code not in (0, 2, 3, 4, 5, 130) or "Traceback" in text or "Internal error" in text:
        return f"exit {code}: {text[:400]}"
    if code and not text.strip():
        return f"exit {code} without a word"
    if len(text) > 20_000:
        return f"{len(text):,} characters: {text[:200]}"
    return None


def bound(typed: list[str]) -> Callable[[], str | None]:
    """Return a command line as a call."""
    return lambda: answer(typed)
