"""What a reader of the report meets first: names, numbers, scales, and what is left unsaid."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

import alliancedyn as ad
from alliancedyn.plot import style
from alliancedyn.report.abbreviations import NAMES
from alliancedyn.report.parameters import in_words
from alliancedyn.studies import analyze

TEMPLATES = Path(ad.__file__).parent / "report" / "templates"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """Return the report of a panel whose scale is declared."""
    found = ad.simulate(
        ad.Dynamics(
            phi=[[0.3, -0.1], [-0.1, 0.4]],
            innovation_cov=[[1.0, -0.2], [-0.2, 1.0]],
            between_cov=[[1.0, -0.3], [-0.3, 1.0]],
            mean=(4.0, 16.0),
            trend=ad.GrowthCurve(slope=(0.1, -1.0)),
        ),
        120,
        6,
        seed=2,
        therapists=ad.Therapists(12, cov=[[0.1, 0.0], [0.0, 0.1]]),
    )
    panel = ad.SessionPanel.from_frame(
        found.frame,
        client="client",
        session="session",
        variables=["alliance", "symptoms"],
        therapist="therapist",
        timing={"alliance": "after", "symptoms": "before"},
        higher={"alliance": "better", "symptoms": "worse"},
        ranges={"symptoms": (-30, 60)},
    )
    path = tmp_path_factory.mktemp("look") / "r.html"
    from alliancedyn.report import report_analysis

    report_analysis(path, analyze(panel))
    return path.read_text("utf-8")


def words(text: str) -> str:
    """Return what is read, without styles, figures and code."""
    text = re.sub(r"<(style|svg|code)\b.*?</\1>", " ", text, flags=re.DOTALL)
    text = re.sub(r'<img [^>]*alt="([^"]*)"[^>]*>', r" \1 ", text)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_sections_are_numbered_from_one_as_the_contents_are(page):
    numbers = re.findall(r'<span class="number">(\d+)</span>([^<]+)', page)
    assert [int(number) for number, _ in numbers] == list(range(1, len(numbers) + 1))
    contents = page[page.index('<nav class="contents"') : page.index("</nav>")]
    assert "<ol>" in contents
    assert re.findall(r">([^<]+)</a></li>", contents) == [title for _, title in numbers]
    (number,) = re.findall(r'<a href="#each">Section (\d+)</a>', page)
    assert (number, "Each model in full") in numbers


def test_short_names_of_models_are_spelled_out_before_they_are_used_again(page):
    said = words(page[page.index("<body>") :])
    for short, family in (("CLPM", "CLPM"), ("RI-CLPM", "RICLPM"), ("LCM-SR", "LCMSR")):
        assert f"{short}: {NAMES[family]}" in said
        assert said.index(f"{short}: {NAMES[family]}") < said.index("The same question, every")
    for index in ("CFI: comparative fit index", "RMSEA: root mean square error of approximation"):
        assert index in said
    assert "intraclass correlation (ICC)" in said and "restricted maximum likelihood (REML)" in said


def test_the_scale_and_its_good_end_stand_by_the_scores(page):
    table = words(page[page.index('id="table-scores"') : page.index("Adjacent pairs: scores")])
    assert "symptoms before the session −30 to 60 lower" in table
    assert "alliance after the session not declared higher" in table


def test_negative_numbers_have_one_minus_sign(page):
    left = re.findall(r"(?<![\w.'\"\-])-\.?\d[\d.]*", words(page))
    assert left == []


def test_internal_names_of_parameters_are_said_in_words():
    for name, said in (
        ("between_cov[alliance.trend,symptoms.trend]", "trend of alliance with trend of symptoms"),
        ("phi[symptoms,alliance]@3|arm=1", "(alliance → symptoms, session 3, arm=1)"),
        ("measurement_var[symptoms]", "measurement error: variances (symptoms)"),
    ):
        told = in_words(f"At a bound: {name} ends at zero.")
        assert said in told and name not in told and told.endswith(" ends at zero.")
    assert in_words("'symptoms@2' was seen") == "symptoms at session 2 was seen"
    assert (
        in_words("Take [9 not named here] as they are.") == "Take [9 not named here] as they are."
    )


def test_warnings_hold_no_internal_names(page):
    """Words come after identifiers are withheld, so that no message loses what it knows of them."""
    templates = [(TEMPLATES / name).read_text("utf-8") for name in ("report.html", "macros.html")]
    assert all("| words | discreet" not in text for text in templates)
    assert "text | discreet | words" in templates[0] and "note | discreet | words" in templates[1]
    section = page[page.index('<section aria-labelledby="warnings">') :]
    section = words(section[: section.index("</section>")])
    assert not re.search(r"\b[a-z_]+\[[^\]\d]+\]", section)
    assert "@" not in section


def test_therapists_who_are_not_read_are_folded_with_the_reason(page):
    section = page[page.index("<h3>Therapists</h3>") : page.index('id="models"')]
    assert section.index("Nothing is said here about therapists: there are 12") < section.index(
        '<details class="fold">'
    )
    assert section.index('id="table-therapists"') > section.index('<details class="fold">')
    assert "the level matters" not in section


def test_dashed_means_one_thing():
    """Directions differ in color and marker; dashes are left to intervals that include zero."""
    assert not hasattr(style.FORWARD, "line")
    css = (TEMPLATES / "report.css").read_text("utf-8")
    assert "dasharray" not in css and "dashed" not in css


def test_what_is_wider_than_a_small_screen_says_so(page):
    css = (TEMPLATES / "report.css").read_text("utf-8")
    small = css[css.index("@media (max-width: 44rem)") :]
    assert ".sideways { display: block; }" in small[: small.index("@page")]
    for figure in re.finditer(r"<figure>", page):
        assert "swipe sideways" in page[: figure.start()][-90:].lower()
