"""A real trial, end to end: alliance and anxiety of 57 clients over 15 sessions (IMPLEMENT).

The data stay where they are. Figures of other programs: REML by lme4, therapists at zero.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference_files import published_dir

from alliancedyn.panel import SessionPanel, read_sessions
from alliancedyn.studies import Analysis, analyze

pytestmark = pytest.mark.reference

MAPPING = Path(__file__).parents[1] / "examples" / "implement_wai_bai" / "mapping.toml"
LADDER = [
    "CLPM (equal means)",
    "CLPM (session means)",
    "RI-CLPM (equal means)",
    "RI-CLPM (session means)",
    "LCM-SR (session means)",
    "RI-CLPM (detrended)",
]
PATH = "phi[anxiety,alliance]"


@pytest.fixture(scope="module")
def export() -> Path:
    path = published_dir() / "A1_implement_wai_bai" / "sessions_long.csv"
    if not path.is_file():
        pytest.skip(f"no {path.name} of A1_implement_wai_bai among the reference data")
    return path


@pytest.fixture(scope="module")
def panel(export: Path) -> SessionPanel:
    return read_sessions(export, mapping=MAPPING)


@pytest.fixture(scope="module")
def analysis(panel: SessionPanel) -> Analysis:
    return analyze(panel)


@pytest.fixture(scope="module")
def written(export: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("trial") / "results"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "alliancedyn", "analyze", export),
            *("--map", MAPPING, "--out", out),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def report_text(out: Path) -> str:
    """Return the words of a report, without its pictures."""
    html = (out / "report.html").read_text(encoding="utf-8")
    body = re.sub(r"<(style|svg)\b.*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_the_panel_is_that_of_the_article(panel: SessionPanel) -> None:
    assert (panel.n_clients, panel.n_sessions) == (57, 15)
    assert len(panel.arrays().therapists) == 13
    assert (panel.process, panel.outcome) == ("alliance", "anxiety")
    assert panel.timing == {"alliance": "after", "anxiety": "before"}
    assert int(np.isfinite(panel.arrays().Y[:, :, 0]).sum()) == 642
    assert int(np.isfinite(panel.arrays().Y[:, :, 1]).sum()) == 780


def test_every_rung_holds(analysis: Analysis) -> None:
    assert list(analysis.fits) == LADDER
    assert analysis.failures == {}
    assert analysis.headline == "LCM-SR (session means)"
    assert all(fit.sample.clients == 57 for fit in analysis.fits.values())


def test_the_raw_path_goes_from_negative_to_nothing(analysis: Analysis) -> None:
    """Negative while a shared course counts as a lag, nearer zero without; then not negative."""
    path = {label: analysis.fits[label].params[PATH] for label in LADDER}
    flat, curved, within, *rest = path.values()
    assert flat < curved < 0.0
    assert abs(curved) < abs(flat) / 2
    assert within < flat  # once levels are apart the shared course is all that is left
    assert all(one > 0.0 for one in rest)
    for label in LADDER:
        effect = analysis.fits[label].effect("alliance", "anxiety")
        assert (effect.lower < 0.0 < effect.upper) is (label != "RI-CLPM (equal means)")
    others = [one for label, one in analysis.directions.items() if label != LADDER[2]]
    assert {answer.lead for answer in others} == {"undetermined"}


def test_clients_differ_in_their_trends(analysis: Analysis) -> None:
    """BIC and the test of the step agree, and the larger model stays inside its bounds."""
    levels, trends = (analysis.fits[label] for label in LADDER[3:5])
    assert trends.bic < levels.bic
    (step,) = [one for one in analysis.steps if one.later == LADDER[4]]
    assert step.test is not None
    assert step.test.p_value < 0.001
    assert step.test.statistic == pytest.approx(2.0 * (trends.loglik - levels.loglik), abs=1e-6)
    assert not trends.diagnostics["boundary"]
    assert "these clients differ in their trends" in analysis.reason


def test_the_trend_is_what_made_the_path_within_clients(panel: SessionPanel) -> None:
    """With one mean for all sessions the path looks supported; session means take it away."""
    found = analyze(panel, families=["ri-clpm-equal-means", "ri-clpm"])
    flat, curved = (fit.effect("alliance", "anxiety") for fit in found.fits.values())
    assert flat.upper < 0.0
    assert curved.lower < 0.0 < curved.upper
    assert abs(curved.value) < abs(flat.value) / 5
    states = [answer.forward_state for answer in found.directions.values()]
    assert states == ["supported", "undetermined"]


def test_the_therapist_variance_is_at_its_bound_and_said_to_be(analysis: Analysis) -> None:
    variance = analysis.decomposition.variance
    assert list(variance.index) == ["therapist", "client", "session"]
    for name in ("alliance", "anxiety"):  # around the course that all share
        assert variance.loc["therapist", name] == 0.0
        (sentence,) = [one for one in analysis.decomposition.boundary if f"of {name} is" in one]
        assert sentence.startswith("therapist variance") and "bound" in sentence


def test_indices_that_do_not_exist_are_refused_with_their_reason(analysis: Analysis) -> None:
    for fit in analysis.fits.values():
        indices = fit.fit_indices()
        assert all(np.isnan(indices[name]) for name in ("chisq", "cfi", "tli", "rmsea", "srmr"))
        assert "saturated model" in str(indices["reason"])
        assert "57 clients" in str(indices["reason"])
        assert np.isfinite(indices["aic"])


def test_the_report_tells_all_of_it(written: tuple[Path, str]) -> None:
    out, _ = written
    text = report_text(out)
    for label in LADDER:
        assert label in text
    assert "Therapist variance of anxiety is estimated at zero" in text
    assert "The saturated model does not exist" in text
    assert "each client’s own straight line" in text
    assert "alliance → anxiety" in text
    assert "57 clients" in text


def test_the_terminal_tells_the_short_of_it(written: tuple[Path, str]) -> None:
    _, printed = written
    lines = printed.splitlines()
    assert lines[1] == "LCM-SR (session means): 57 clients, sessions 1-15"
    assert lines[2] == "The answer depends on the model."
    assert sum(line.startswith("  alliance -> anxiety: undetermined, ") for line in lines) == 2
    assert sum(line.startswith("  anxiety -> alliance: undetermined, ") for line in lines) == 2
    assert "therapist variance of anxiety is estimated at zero" in " ".join(printed.split())
    assert [row for row in LADDER if any(line.startswith(row) for line in lines)] == LADDER


def test_the_lesson_stands_on_the_first_page(written: tuple[Path, str]) -> None:
    """-.10 [-.17, -.03] with one mean for all sessions, nothing with session means: by default."""
    out, printed = written
    html = (out / "report.html").read_text(encoding="utf-8")
    top = " ".join(unescape(re.sub(r"<[^>]+>", " ", html[: html.index('id="data"')])).split())
    assert "● supported, −0.10 [−0.17, −0.03]" in top
    assert "◐ undetermined, 0.01 [−0.07, 0.08]" in top
    said = " ".join(printed.split())
    assert "RI-CLPM (equal means) | time order | -0.10 [-0.17, -0.03]" in said
    gone = "alliance -> anxiety goes from supported to undetermined"
    assert gone in said and gone.replace("->", "→") in top
    assert "every session gets its own mean" in said and "every session gets its own mean" in top


def test_the_stored_numbers_are_those_of_the_analysis(
    written: tuple[Path, str], analysis: Analysis
) -> None:
    out, _ = written
    stored: dict[str, Any] = json.loads((out / "fits.json").read_text(encoding="utf-8"))
    for label, fit in analysis.fits.items():
        mine = stored["fits"][label]
        assert mine["loglik"] == pytest.approx(fit.loglik, abs=1e-6)
        assert mine["params"][PATH] == pytest.approx(fit.params[PATH], abs=1e-7)
        assert mine["fit_indices"]["cfi"] is None
    assert stored["decomposition"]["variance"]["anxiety"]["therapist"] == 0.0
