"""Report, terminal, figures, CSV and README say the same: number by number and word by word.

One run of the demo, and one of a real trial where its data are at hand, read in every place where
a reader could look.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from reference_files import cases_dir, published_dir

from alliancedyn.causal.compare import columns
from alliancedyn.causal.words import SHORT, capital, form_name
from alliancedyn.cli import commands
from alliancedyn.plot.numerals import interval

ROOT = Path(__file__).parents[1]
TRIAL = ROOT / "examples" / "implement_wai_bai" / "mapping.toml"


@dataclass(frozen=True)
class Run:
    """What one analysis wrote, and what it printed."""

    out: Path
    printed: str

    @property
    def effects(self) -> pd.DataFrame:
        return pd.read_csv(self.out / "effects.csv")

    @property
    def html(self) -> str:
        return (self.out / "report.html").read_text(encoding="utf-8")

    @property
    def first_page(self) -> str:
        """The words of the report before its first section, in the terminal's characters."""
        return typed(words(self.html[: self.html.index('id="data"')]))

    @property
    def figure(self) -> str:
        """The words that the figure of both directions carries."""
        return description(self.out / "figures" / "directions.png")


def run(*typed_words: str, out: Path) -> Run:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = commands.run([*typed_words, "--out", str(out)])
    assert code == 0
    return Run(out, printed.getvalue())


def words(html: str) -> str:
    body = re.sub(r"<(style|svg)\b.*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def typed(text: str) -> str:
    """Return text in the characters that a terminal has."""
    return " ".join(text.replace("→", "->").replace("−", "-").replace("’", "'").split())


def description(png: Path) -> str:
    with Image.open(png) as image:
        return str(image.text["Description"])  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run("demo", out=tmp_path_factory.mktemp("demo") / "out")


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Run:
    export = published_dir() / "A1_implement_wai_bai" / "sessions_long.csv"
    if not export.is_file():
        pytest.skip(f"no {export.name} of A1_implement_wai_bai among the reference data")
    out = tmp_path_factory.mktemp("trial") / "out"
    return run("analyze", str(export), "--map", str(TRIAL), out=out)


def numbers(found: Run) -> None:
    """Every path of the CSV stands in figure, report and terminal, under the same form."""
    table = [
        " ".join(line.split()) for line in found.printed.splitlines() if line.count(" | ") == 3
    ]
    label = ""
    rows = {}
    for line in table[1:]:
        name, form, *cells = (cell.strip() for cell in line.split("|"))
        label = name or label
        rows[label, form] = cells
    page = typed(words(found.html[found.html.index('id="models"') :]))
    top = found.first_page
    assert len(rows) == found.effects["model"].nunique() * len(SHORT)
    for _, row in found.effects.iterrows():
        for form, short in SHORT.items():
            value, low, high = (float(row[name]) for name in columns(form, True))
            said = typed(interval(value, low, high))
            path = f"{row['source']} -> {row['target']}"
            assert said in rows[row["model"], short]
            assert f"{row['model']}, {path}, {short}: {said}" in typed(found.figure)
            assert said in page and said in top
            raw = typed(interval(*(float(row[name]) for name in columns(form, False))))
            assert raw in page


def sentences(found: Run) -> None:
    """Whatever the terminal says above its table stands on the report's first page."""
    top = found.printed[: found.printed.index("\nModel  ")].strip().splitlines()[1:]
    figures = re.compile(r"^  .*: (supported, |undetermined, |practically zero, )?-?\d.*\]$")
    heads = tuple(capital(form_name(form)) for form in SHORT)
    prose = [f"{line}." if line in heads else line for line in top if not figures.match(line)]
    said = " ".join(" ".join(prose).replace("changes: - ", "changes: ").split())
    headline, rest = said.split(". ", 1)
    assert f"<h1>{headline}</h1>" in typed(found.html)
    kept = [part.strip(" .-") for part in re.split(r"(?<=[a-z)\d])[.:] ", rest)]
    assert len(kept) > 15
    assert [part for part in kept if part not in found.first_page] == []


def stored(found: Run) -> None:
    """The numbers kept for machines are those of the CSV, in both forms."""
    fits = json.loads((found.out / "fits.json").read_text(encoding="utf-8"))["fits"]
    for _, row in found.effects.iterrows():
        answer = fits[row["model"]]["direction"]
        way = "forward" if row["source"] == answer["source"] else "backward"
        for form, one in answer["forms"].items():
            value, low, high = (float(row[name]) for name in columns(form, True))
            kept = [one[way][key] for key in ("value", "lower", "upper")]
            assert kept == pytest.approx([value, low, high], rel=1e-9)


@pytest.mark.parametrize("told", [numbers, sentences, stored])
def test_the_demo_says_one_thing(demo: Run, told) -> None:
    told(demo)


@pytest.mark.reference
@pytest.mark.parametrize("told", [numbers, sentences, stored])
def test_the_real_trial_says_one_thing(trial: Run, told) -> None:
    told(trial)


def test_the_figure_of_the_readme_is_that_of_the_demo(demo: Run) -> None:
    """Drawn anew by ``python simulations/readme_figure.py``."""
    assert description(ROOT / "docs" / "images" / "demo.png") == demo.figure


@pytest.mark.parametrize("page", ["cli.md", "tutorial.md"])
def test_the_pages_show_the_terminal_as_it_is(demo: Run, page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    (block,) = re.findall(r"```text\n(RI-CLPM \(session means\): .*?)```", text, re.DOTALL)
    shown = [line for line in demo.printed.splitlines() if line.strip()]
    lines = [line for line in block.splitlines() if line.strip()]
    start = shown.index(lines[0])
    assert shown[start : start + len(lines)] == lines


def test_scores_that_are_better_when_higher_are_spoken_of_so(tmp_path: Path) -> None:
    """ORS and SRS: "higher symptoms" are clients who feel better."""
    export = cases_dir() / "8_openfit_pcoms.csv"
    mapping = (cases_dir() / "mappings" / "8.toml").read_text(encoding="utf-8")
    higher = '\n[higher]\nalliance = "better"\nsymptoms = "better"\n'
    told = {}
    for name, more in (("unset", ""), ("set", higher)):
        path = tmp_path / f"{name}.toml"
        path.write_text(mapping + more, encoding="utf-8")
        out = tmp_path / name
        options = ("--map", str(path), "--families", "clpm,ri-clpm")
        told[name] = run("analyze", str(export), *options, out=out)
    for where in (told["set"].first_page, typed(told["set"].printed)):
        assert "Higher alliance is better, higher symptoms is better." in where
        assert "better or worse is not set" not in where
        assert "A higher score" not in where and "a higher one" not in where
        assert re.search(r"A better score of (alliance|symptoms) \(higher\)", where)
        assert not re.search(r"worse (score|one) of \w+ \(higher\)", where)
    for where in (told["unset"].first_page, typed(told["unset"].printed)):
        assert where.count("better or worse is not set") == 1
        assert "A better score" not in where and "A worse score" not in where
