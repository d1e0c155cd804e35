"""The report: valid, self-contained, discreet, honest, and readable in a real browser."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from base64 import b64decode
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages import Page

import alliancedyn as ad
from alliancedyn.causal.agreement import stand
from alliancedyn.decompose import decompose
from alliancedyn.errors import Message, SpecificationError, identified, withholding
from alliancedyn.panel import Issue
from alliancedyn.report import report_analysis
from alliancedyn.report.privacy import Discretion
from alliancedyn.simulate import Dropout, Dynamics, simulate
from alliancedyn.studies import analyze

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="needs headless Chromium, which is not installed"
)


def _frame(clients: int = 90, sessions: int = 8, seed: int = 3) -> pd.DataFrame:
    """Simulate a panel whose client and therapist ids cannot be mistaken for anything else."""
    truth = Dynamics.time_ordered(
        phi_alliance=0.35,
        phi_symptoms=0.45,
        forward=-0.15,
        backward=-0.12,
        between_cov=[[1.0, -0.3], [-0.3, 2.0]],
        mean=(4.0, 12.0),
    )
    dropout = Dropout(rule="random", rate=0.3, first=3)
    panel = simulate(truth, clients, sessions, dropout=dropout, missing=0.08, seed=seed)
    frame = panel.frame[["client", "session", "alliance", "symptoms"]].copy()
    frame["client"] = "Quixote-" + frame["client"].astype(str)
    frame["therapist"] = np.where(frame["client"].str[-1].isin(list("02468")), "Dulcinea", "Sancho")
    return frame


def _panel(
    frame: pd.DataFrame, variables: tuple[str, ...], timing: dict[str, str] | None
) -> ad.SessionPanel:
    return ad.SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables={name: name for name in variables},
        therapist="therapist",
        timing=timing,
    )


def _write(path: Path, panel: ad.SessionPanel, fits: dict[str, ad.Fit], **more: object) -> str:
    directions = more.pop("directions", None)
    ad.write_report(
        path,
        panel,
        fits,
        directions=directions
        if directions is not None
        else {label: ad.compare_directions(fit) for label, fit in fits.items()},
        decomposition=more.pop("decomposition", decompose(panel)),
        comparison=ad.compare_models(fits),
        quality=ad.check(panel),
        **more,
    )
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def panel() -> ad.SessionPanel:
    timing = {"alliance": "after", "symptoms": "before"}
    return _panel(_frame(), ("alliance", "symptoms"), timing)


@pytest.fixture(scope="module")
def fits(panel: ad.SessionPanel) -> dict[str, ad.Fit]:
    return {
        "CLPM, equal means": ad.CLPM(means="equal").fit(panel),
        "CLPM, session means": ad.CLPM().fit(panel),
        "RI-CLPM, session means": ad.RICLPM().fit(panel),
        "RI-CLPM, client-detrended": ad.RICLPM(means="equal").fit(panel),
    }


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report") / "deep" / "report.html"


@pytest.fixture(scope="module")
def text(path: Path, panel: ad.SessionPanel, fits: dict[str, ad.Fit]) -> str:
    return _write(
        path, panel, fits, failures={"LCM-SR": "It needs four sessions. Use RI-CLPM."}, seed=7
    )


def _words(text: str) -> str:
    return " ".join(" ".join(Page(text).words).split())


# -- the page -----------------------------------------------------------------------------------


def test_the_page_is_valid_and_self_contained(text):
    assert Page(text).faults == []


def test_the_strict_reader_sees_faults():
    bad = (
        "<!DOCTYPE html><html lang='en'><head><meta name='viewport'></head><body><h1 id='a'>x</h1>"
    )
    faults = Page(
        f"{bad}<h3 id='a'><p><img src='http://x'></h3><a href='#b'>x</a></body></html>"
    ).faults
    for part in ("closes what", "alternative", "twice", "jumps", "fetches", "nothing has the id b"):
        assert any(part in fault for fault in faults), part


def test_figures_are_inside_the_file_and_described(text):
    images = [one for tag, one in Page(text).elements if tag == "img"]
    assert len(images) == 6
    for image in images:
        kind, _, data = image["src"].partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert b64decode(data).startswith(b"<?xml")
        assert len(image["alt"]) > 60


def test_sections_stand_in_order(text):
    found = [text.index(f'id="{name}"') for name in (
        "verdict", "data", "parts", "models", "ladder", "course", "each", "assumptions",
        "warnings", "methods", "provenance",
    )]  # fmt: skip
    assert found == sorted(found)


def test_a_report_is_written_whole_or_not_at_all(tmp_path, panel, fits):
    with pytest.raises(SpecificationError, match="not among the fits"):
        _write(tmp_path / "report.html", panel, fits, headline="DSEM")
    assert list(tmp_path.iterdir()) == []


def test_the_same_analysis_gives_the_same_bytes(tmp_path, panel, fits):
    few = {"RI-CLPM": fits["RI-CLPM, session means"]}
    assert _write(tmp_path / "a.html", panel, few) == _write(tmp_path / "b.html", panel, few)


def test_a_report_needs_a_fit(tmp_path, panel, fits):
    with pytest.raises(SpecificationError, match=r"no fit to report.*Too few"):
        ad.write_report(
            tmp_path / "x.html",
            panel,
            {},
            directions={},
            comparison=ad.compare_models(fits),
            quality=ad.check(panel),
            failures={"CLPM": "Too few sessions."},
        )


# -- what it says -------------------------------------------------------------------------------


def test_the_verdict_is_that_of_the_headline_model(text, fits):
    answer = ad.compare_directions(fits["RI-CLPM, session means"])
    top = text[: text.index('id="data"')]
    for state in (answer.forward_state, answer.backward_state):
        assert state in top
    assert "Numbers: RI-CLPM, session means" in top


def _answer(base: ad.Directions, **changes: object) -> ad.Directions:
    """Return a verdict whose two forms say the same."""
    forms = {name: replace(base.by_basis["reduced"], **changes) for name in base.by_basis}
    told = {key: changes[key] for key in ("lead", "forward_state", "backward_state")}
    return replace(base, by_basis=forms, **told)


SUPPORTED = {"forward_state": "supported", "backward_state": "supported"}


def test_models_that_disagree_are_said_to(tmp_path, panel, fits):
    base = ad.compare_directions(fits["RI-CLPM, session means"])
    unclear = {**SUPPORTED, "forward_state": "undetermined"}
    answers = {
        "CLPM, session means": _answer(base, lead="forward", **SUPPORTED),
        "RI-CLPM, session means": _answer(base, lead="backward", **unclear),
    }
    chosen = {label: fits[label] for label in answers}
    text = _write(tmp_path / "r.html", panel, chosen, directions=answers)
    assert "<h1>The answer depends on the model</h1>" in text
    assert "stable differences between clients are set apart" in _words(text)
    assert "alliance → symptoms goes from supported to undetermined" in _words(text)
    for form in ("in time order (structural form)", "from one session to the next (reduced form)"):
        assert f"Supported {form}: alliance → symptoms in 1 of 2 models" in _words(text)


@pytest.mark.parametrize(
    ("states", "leads", "headline"),
    [
        (("supported", "supported"), ("both", "forward"), "Each predicts the other; which path"),
        (("supported", "undetermined"), ("undetermined", "forward"), "In every model alliance"),
        (("undetermined", "supported"), ("backward", "undetermined"), "In every model symptoms"),
        (("supported", "supported"), ("both", "both"), "Each predicts the other, and neither"),
        (("supported", "supported"), ("both", "undetermined"), "Which of the two leads is und"),
    ],
)
def test_the_headline_keeps_what_models_share(tmp_path, panel, fits, states, leads, headline):
    """No model's lead, no dispute about leads: "both" and "undetermined" name none."""
    base = ad.compare_directions(fits["RI-CLPM, session means"])
    said = {"forward_state": states[0], "backward_state": states[1]}
    labels = ("CLPM, session means", "RI-CLPM, session means")
    answers = {
        label: _answer(base, lead=lead, **said) for label, lead in zip(labels, leads, strict=True)
    }
    chosen = {label: fits[label] for label in answers}
    text = _write(tmp_path / "r.html", panel, chosen, directions=answers)
    assert f"<h1>{headline}" in text


def test_forms_that_part_are_no_dispute_between_models(tmp_path, panel, fits):
    """ "Depends" is what one model says of two forms; both forms stand under their names."""
    base = ad.compare_directions(fits["RI-CLPM, session means"])
    same = _answer(base, lead="both", **SUPPORTED)
    other = replace(same.by_basis["reduced"], lead="undetermined", backward_state="undetermined")
    answer = replace(same, lead="depends", by_basis={**same.by_basis, "reduced": other})
    chosen = {label: fits[label] for label in ("CLPM, session means", "RI-CLPM, session means")}
    text = _write(tmp_path / "r.html", panel, chosen, directions=dict.fromkeys(chosen, answer))
    words = _words(text)
    assert "<h1>The answer depends on how time is read</h1>" in text
    assert "depends on the model" not in words[: words.index("In this report")]
    for sentence in (
        "In time order (structural form), each predicts the other, and neither path is clearly "
        "the stronger; from one session to the next (reduced form), which of the two leads is "
        "undetermined.",
        "Supported in time order (structural form): alliance → symptoms in 2 of 2 models, symptoms "
        "→ alliance in 2 of 2.",
        "Supported from one session to the next (reduced form): alliance → symptoms in 2 of 2 "
        "models, symptoms → alliance in 0 of 2.",
    ):
        assert sentence in words


def test_a_path_that_turns_round_is_a_disagreement(tmp_path, panel, fits):
    base = ad.compare_directions(fits["RI-CLPM, session means"])
    up = replace(base.forward, value=0.3, lower=0.1, upper=0.5)
    down = replace(base.forward, value=-0.3, lower=-0.5, upper=-0.1)
    answers = {
        "CLPM, session means": _answer(base, forward=up, lead="both", **SUPPORTED),
        "RI-CLPM, session means": _answer(base, forward=down, lead="both", **SUPPORTED),
    }
    chosen = {label: fits[label] for label in answers}
    text = _write(tmp_path / "r.html", panel, chosen, directions=answers)
    assert "<h1>The answer depends on the model</h1>" in text
    assert "alliance → symptoms changes its sign" in _words(text)


def test_models_that_agree_are_said_to(tmp_path, panel, fits):
    base = ad.compare_directions(fits["RI-CLPM, session means"])
    answer = _answer(base, lead="both", **SUPPORTED)
    chosen = {label: fits[label] for label in ("CLPM, session means", "RI-CLPM, session means")}
    text = _write(tmp_path / "r.html", panel, chosen, directions=dict.fromkeys(chosen, answer))
    said = "<h1>Each predicts the other, and neither path is clearly the stronger</h1>"
    assert said in text
    assert "All 2 models that converged give the same verdict." in text


def test_the_good_end_of_every_score_is_said(tmp_path, panel, fits):
    fit = fits["RI-CLPM, session means"]
    down = replace(ad.compare_directions(fit).forward, value=-0.3, lower=-0.5, upper=-0.1)
    for higher, sentence in (
        ({}, "A higher score of alliance at one session precedes a lower one of symptoms"),
        (
            {"alliance": "better", "symptoms": "better"},
            "A better score of alliance (higher) at one session precedes a worse one of symptoms "
            "(lower)",
        ),
        (
            {"alliance": "better", "symptoms": "worse"},
            "A better score of alliance (higher) at one session precedes a better one of symptoms "
            "(lower)",
        ),
    ):
        answer = ad.compare_directions(replace(fit, higher=higher))
        answer = _answer(answer, forward=down, lead="both", **SUPPORTED)
        text = _write(tmp_path / "r.html", panel, {"RI-CLPM": fit}, directions={"RI-CLPM": answer})
        top = _words(text[: text.index('id="data"')])
        assert sentence in top
        assert ("better or worse is not set" in top) is (not higher)
        assert ("Higher alliance is better" in top) is bool(higher)


@pytest.mark.parametrize(
    ("lead", "mirrored"), [("forward", "backward"), ("both", "both"), ("neither", "neither")]
)
def test_no_direction_is_favored_by_the_words(lead, mirrored):
    from alliancedyn.causal.words import lead_words

    assert lead_words(lead, "p", "q") == lead_words(mirrored, "q", "p")


def test_the_ladder_tells_both_paths_with_the_numbers_of_the_comparison(text, fits):
    from alliancedyn.plot.numerals import interval

    words = _words(text[text.index('id="ladder"') : text.index('id="course"')])
    for row in ad.compare_models(fits).to_dict("records"):
        assert interval(row["estimate"], row["lower"], row["upper"]) in words
        ends = (row[f"structural_{name}"] for name in ("estimate", "lower", "upper"))
        assert interval(*ends) in words
    assert words.count("every session gets its own mean") == 1  # said once, for both paths
    assert words.count("stable differences between clients are set apart") == 1
    assert words.count("straight line is taken out of the scores first") == 1
    assert words.count("alliance → symptoms") == words.count("symptoms → alliance") == 10
    assert "over 4 models" in words


def test_detrended_models_are_marked_and_never_speak_first(text):
    assert text.count('<span class="tag">detrended</span>') == 3  # verdict, ladder, in full
    assert "Detrended models are a check" in text
    assert 'class="speaks"><th scope="row" rowspan="2">RI-CLPM, session means' in text


def test_failures_are_named_with_their_reason(text):
    words = _words(text)
    assert "LCM-SR" in words
    assert "It needs four sessions. Use RI-CLPM." in words
    assert "1 model could not be fitted" in words


def test_missing_fit_indices_are_explained(tmp_path, panel, fits, monkeypatch):
    fit = fits["CLPM, session means"]
    reason = "Sessions 7 and 8 are never seen together."
    monkeypatch.setattr(
        ad.Fit, "fit_indices", lambda self, panel=None: {"chisq": float("nan"), "reason": reason}
    )
    assert reason in _words(_write(tmp_path / "r.html", panel, {"CLPM": fit}))


def test_fits_without_data_still_report(tmp_path, panel, fits):
    text = _write(
        tmp_path / "r.html", panel, {"RI-CLPM": fits["RI-CLPM, session means"].without_data()}
    )
    assert Page(text).faults == []
    assert "Pass panel=" in _words(text)


def test_assumptions_and_the_causal_paragraph_are_always_there(text, fits):
    words = _words(text)
    assert "not effects of an intervention" in words
    for one in fits["RI-CLPM, session means"].model.assumptions:
        assert " ".join(one.split()) in words


def test_the_methods_paragraph_holds_the_real_figures(text, panel):
    start = text.index('class="box paste"')
    words = " ".join(unescape(text[start : text.index("</p>", start)]).split())
    attended = np.isfinite(panel.arrays().Y).any(axis=2).sum(axis=1)
    for part in (
        f"{panel.n_clients} clients",
        f"range {attended.min()} to {attended.max()}",
        "alliance after each session, symptoms before each session",
        "full-information maximum likelihood",
        f"alliancedyn {ad.__version__}",
        f"numpy {np.__version__}",
        f"Python {sys.version.split()[0]}",
        "seed 7",
        "LCM-SR could not be fitted",
    ):
        assert part in words, part


def test_errors_are_named_as_they_were_computed(tmp_path, panel):
    fit = ad.RICLPM().fit(panel, errors="robust")
    assert "robust to non-normal scores" in _words(
        _write(tmp_path / "r.html", panel, {"RI-CLPM": fit})
    )


# -- many families ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trial() -> ad.SessionPanel:
    return ad.datasets.load("trial")


@pytest.fixture(scope="module")
def everything(trial):
    asked = ["all", "ri-clpm-step@5"]
    return analyze(trial, families=asked, sessions=(1, 6), group="arm", seed=3)


@pytest.fixture(scope="module")
def whole(everything, tmp_path_factory) -> str:
    return _of(everything, tmp_path_factory.mktemp("all") / "report.html")


def _of(analysis, path) -> str:
    return report_analysis(path, analysis).read_text("utf-8")


def _section(text: str, name: str, following: str) -> str:
    return _words(text[text.index(f'id="{name}"') - 8 : text.index(f'id="{following}"') - 8])


def test_every_family_has_a_page_that_is_valid(whole, everything):
    assert Page(whole).faults == []
    each = _section(whole, "each", "assumptions")
    for label, fit in everything.fits.items():
        assert label in each
        for one in fit.model.assumptions:
            assert " ".join(one.split()) in each
    for word in (
        "Lagged effects, one session to the next",
        "Growth factors: trend, mean per session",
        "Measurement error: variances",
        "Unit effects: weight, by session",
        "What the present scores do to change",
        "Drift: what a level does to the rate of change, per week",
        "How fast deviations fade",
        "What the change adds to the cross-lagged effects",
        "Lagged effects from two sessions back",
    ):
        assert word in each, word


def test_every_parameter_is_shown_with_its_number_or_counted(everything):
    from alliancedyn.report.parameters import MOST_SESSIONS, describe_parameters

    for fit in everything.fits.values():
        found = describe_parameters(fit)
        lines = [line for part in found.parts for line in part.lines]
        cells = sum(cell != "–" for t in found.by_session for row in t.rows for cell in row[1:])
        assert max((len(t.rows) for t in found.by_session), default=0) <= MOST_SESSIONS
        assert len(lines) + cells + found.left_out == len(fit.params)
        for line in lines:
            shown = float(line.cells[0].replace("−", "-").replace(",", ""))
            assert shown == pytest.approx(fit.params[line.name], abs=0.51e-3)


def test_the_lag_and_the_fading_of_continuous_time_are_those_of_the_fit(whole, everything):
    from alliancedyn.causal import describe_drift
    from alliancedyn.plot.numerals import number

    fit = everything.fits["Continuous time (days)"]
    words = _section(whole, "each", "assumptions")
    for _, row in describe_drift(fit).iterrows():
        assert row["meaning"] in words
        assert number(float(row["half_life"]), 2) in words
    assert "Continuous time (days): 7 days apart." in _words(whole)
    clocked = sum("drift" in one.lagged.families for one in everything.fits.values())
    said = "Effect of one score on the other against the time between them"
    assert whole.count(said) == clocked > 1


def test_equations_show_their_tests_and_their_bias(whole, everything):
    each = _section(whole, "each", "assumptions")
    test = everything.fits["Dynamic-panel GMM"].diagnostics["hansen"]
    assert f"Hansen J (all instruments) {test['statistic']:.2f}({test['df']})" in each
    for line in everything.directions["Within-between"].bias.text.splitlines():
        assert " ".join(line.split()) in each.replace("−", "-")
    assert "Mundlak (client means)" in each


def test_therapists_are_no_ranking(panel, tmp_path):
    found = analyze(panel, families="ri-clpm", sessions=(1, 8))
    part = found.partition
    assert part is not None
    words = _section(_of(found, tmp_path / "r.html"), "parts", "models")
    assert "the therapist’s or the client’s?" in words
    for sentence in part.verdict:
        assert " ".join(sentence.split()) in words
    assert "do not rank therapists" in words


def test_models_beside_the_ladder_enter_neither_headline_nor_story(whole, everything, tmp_path):
    top = _words(whole[: whole.index('id="data"')])
    beside = [label for label in everything.fits if label not in everything.rungs]
    assert len(everything.rungs) == 6
    assert f"{len(beside)} more models beside the ladder" in top
    ladder = _section(whole, "ladder", "course")
    assert not any(label in ladder for label in beside)
    said = "call both paths as RI-CLPM (session means) does"
    assert everything.headline == "RI-CLPM (session means)"
    mine = everything.directions[everything.headline]
    same = sum(
        all(
            stand(one.forms[form]) == stand(mine.forms[form])
            for form in one.forms
            if form in mine.forms
        )
        for one in (everything.directions[label] for label in beside)
    )
    assert f"{same} of {len(beside)} {said}" in top
    zero = dict.fromkeys(("forward_state", "backward_state"), "practically zero")
    turned = _answer(mine, lead="neither", **zero)
    answers = {**everything.directions, **dict.fromkeys(beside, turned)}
    rungs = {label: answers[label] for label in everything.rungs}
    other = _of(replace(everything, directions=answers), tmp_path / "r.html")
    plain = _of(replace(everything, directions=rungs), tmp_path / "s.html")
    assert re.search("<h1>.*</h1>", other)[0] == re.search("<h1>.*</h1>", plain)[0]


def test_the_tests_between_rungs_stand_where_the_step_is(whole, everything):
    words = _section(whole, "ladder", "course")
    assert [one.later for one in everything.steps if one.earlier in everything.rungs] == [
        "CLPM (session means)",
        "RI-CLPM (session means)",
        "RI-CLPM (session means)",
        "LCM-SR (session means)",
    ]
    for one in everything.steps:
        if one.earlier in everything.rungs:
            assert one.text in words
    assert "Gain of this step: against CLPM (session means): mixture" in words
    assert "Stoel" in _section(whole, "methods", "provenance")


def test_methods_name_every_family_its_assumptions_and_references(whole, everything):
    words = _section(whole, "methods", "provenance")
    for label, fit in everything.fits.items():
        assert label in words
        for one in (*fit.model.assumptions, *fit.model.references):
            assert " ".join(one.split()) in words


def test_why_a_model_is_reported_first_stands_by_it(whole, everything):
    assert everything.reason in _words(whole[: whole.index('id="data"')])


def test_groups_have_a_row_each_and_a_test_of_their_difference(whole, everything):
    from alliancedyn.report.verdict import figures

    words = _section(whole, "models", "ladder")
    assert everything.groups is not None
    assert list(everything.groups.directions) == ["arm=feedback", "arm=usual"]
    for group, one in everything.groups.directions.items():
        assert group in words
        for path in (one.forward, one.backward):
            assert figures(path) in words
    test = everything.groups.test.text.replace(" -> ", " → ")
    assert re.sub(r"(?<![\w.])-(?=\d)", "−", test) in words


def test_a_fit_by_groups_can_be_reported_on_its_own(tmp_path, trial):
    fit = ad.RICLPM(group="arm").fit(trial, strict=False)
    answer = ad.compare_directions(fit, group="arm=usual")
    text = _write(
        tmp_path / "r.html", trial, {"RI-CLPM by arm": fit}, directions={"RI-CLPM by arm": answer}
    )
    words = _words(text)
    assert Page(text).faults == []
    for group in ("arm=feedback", "arm=usual"):
        assert f"RI-CLPM by arm, {group}" in words
        assert f"alliance → symptoms, {group}" in words


def test_sentences_that_differ_in_counts_are_said_once():
    from alliancedyn.report.merging import merged

    said = [
        ("A", "57 clients carry 43 parameters: too many."),
        ("B", "57 clients carry 1,050 parameters: too many."),
        ("A", "variance at session 3 ended at -324.84."),
        ("B", "variance at session 3 ended at -317.69."),
        ("C", "phi[a,b]@3 is flat."),
        ("C", "phi[a,b]@4 is flat."),
    ]
    assert merged(said) == [
        (["A", "B"], "57 clients carry 43 to 1,050 parameters: too many."),
        (["A"], "variance at session 3 ended at -324.84."),
        (["B"], "variance at session 3 ended at -317.69."),
        (["C"], "phi[a,b]@3 is flat."),
        (["C"], "phi[a,b]@4 is flat."),
    ]


def test_details_are_folded_and_the_report_stays_short(text, whole):
    for page in (text, whole):
        folds = [one for tag, one in Page(page).elements if tag == "details"]
        assert len(folds) >= 5
        assert all("open" not in one for one in folds)


# -- odd cases ----------------------------------------------------------------------------------


def test_unknown_timing_is_warned_of_and_the_lags_are_shown(tmp_path):
    frame = _frame().rename(columns={"alliance": "wai", "symptoms": "phq"})
    panel = _panel(frame, ("wai", "phq"), None)
    text = _write(tmp_path / "r.html", panel, {"RI-CLPM": ad.RICLPM().fit(panel)})
    words = _words(text)
    assert Page(text).faults == []
    assert "Whether wai and phq are rated before or after the session is unknown" in words
    assert "When wai and phq were rated, before or after the session, was not known." in words
    assert "Two readings of time" not in words


def test_three_variables(tmp_path):
    frame = _frame()
    frame["hope"] = np.random.default_rng(0).normal(size=len(frame)) + frame["alliance"] / 2
    timing = {"alliance": "after", "symptoms": "before", "hope": "after"}
    panel = _panel(frame, ("alliance", "symptoms", "hope"), timing)
    fit = ad.RICLPM().fit(panel, strict=False)  # few clients for so many parameters
    text = _write(tmp_path / "r.html", panel, {"RI-CLPM": fit})
    assert Page(text).faults == []
    assert "alliance, hope" in _words(text)
    assert "carry 51 parameters" in _words(text[text.index('id="warnings"') - 40 :])


def test_session_specific_lags(tmp_path, panel):
    fit = ad.RICLPM(lags="free").fit(panel, strict=False)
    text = _write(tmp_path / "r.html", panel, {"RI-CLPM, free lags": fit})
    assert Page(text).faults == []
    assert "No figure here" in text  # there is no one impulse response


def test_bounds_and_failed_convergence_are_said_at_the_top_and_in_full(tmp_path, panel, fits):
    fit = fits["RI-CLPM, session means"]
    sentence = "between_cov[alliance,alliance] ended at zero: this is the CLPM."
    bounded = replace(fit, diagnostics={**fit.diagnostics, "boundary": [sentence]})
    text = _write(tmp_path / "a.html", panel, {"RI-CLPM": bounded})
    said = "differences between clients (alliance, variance) ended at zero: this is the CLPM."
    assert said in _words(text) and sentence not in _words(text)
    assert "1 warning" in _words(text[: text.index('id="data"')])
    failed = replace(fit, converged=False)
    text = _write(tmp_path / "b.html", panel, {"RI-CLPM": failed})
    assert "<h1>No verdict: the model did not converge</h1>" in text
    assert "must not be read" in _words(text)


def test_a_converged_model_speaks_before_one_that_did_not(tmp_path, panel, fits):
    some = {
        "CLPM": fits["CLPM, session means"],
        "RI-CLPM": replace(fits["RI-CLPM, session means"], converged=False),
    }
    text = _write(tmp_path / "r.html", panel, some)
    assert "Numbers: CLPM</p>" in text


def test_without_a_verdict_there_is_still_a_report(tmp_path, panel, fits):
    few = {"CLPM": fits["CLPM, session means"]}
    text = _write(tmp_path / "r.html", panel, few, directions={}, decomposition=None)
    assert "<h1>No model gave a verdict</h1>" in text
    assert Page(text).faults == []


@pytest.mark.parametrize(
    "hostile", ["<script>alert`1`</script>", 'a"b', "x & y", "</style><b>", "$x_1$"]
)
def test_hostile_names_are_shown_and_do_nothing(tmp_path, hostile):
    frame = _frame(60, 6).rename(columns={"alliance": hostile})
    timing = {hostile: "after", "symptoms": "before"}
    panel = _panel(frame, (hostile, "symptoms"), timing)
    title = f"Study of {hostile}"
    fits = {f"CLPM of {hostile}": ad.CLPM().fit(panel)}
    text = _write(tmp_path / "r.html", panel, fits, title=title, notes=(f"Mind {hostile}.",))
    assert Page(text).faults == []
    assert title in _words(text)
    assert f"Mind {hostile}." in _words(text)


# -- who is not named ---------------------------------------------------------------------------


def test_no_client_and_no_therapist_is_named(tmp_path, panel, fits):
    fit = fits["RI-CLPM, session means"]
    clients = list(panel.arrays().clients)
    who = Message(f"Look at {identified(clients[:9])}, seen by {identified(['Dulcinea'])}.")
    why = Message(f"no score, as {identified(clients[2:3])}")
    aside = replace(fit.sample, clients_set_aside={why: 1})
    noted = replace(fit, sample=aside, diagnostics={**fit.diagnostics, "notes": [who]})
    text = _write(
        tmp_path / "r.html", panel, {"RI-CLPM": noted}, failures={"CLPM": who}, notes=(who,)
    )
    everything = text + "".join(
        b64decode(one["src"].partition(",")[2]).decode()
        for tag, one in Page(text).elements
        if tag == "img"
    )
    for name in ("Quixote", "Dulcinea", "Sancho"):
        assert name not in everything
    assert "[9 not named here]" in text


def test_folders_are_not_named(tmp_path):
    folder = tmp_path / "patients of Dr Sancho"
    folder.mkdir()
    source = folder / "export.csv"
    _frame(40, 5).to_csv(source, index=False)
    variables = {"alliance": "alliance", "symptoms": "symptoms"}
    panel = ad.read_sessions(
        source, client="client", session="session", variables=variables, therapist="therapist"
    )
    fits = {"CLPM": ad.CLPM().fit(panel)}
    assert "export.csv" not in _write(tmp_path / "r.html", panel, fits)
    text = _write(tmp_path / "r.html", panel, fits, show_file_name=True)
    assert "export.csv" in text
    assert "patients of" not in text
    assert str(tmp_path) not in text


STRANGE = (
    *("O'Brien", 'the "boss"', "<b>Ann</b>", "a, b", "two\nlines", "Zoë", "患者", "client", "3"),
    *("alliance", "rows", "' and '", "\x02C1\x03", "C1 and 7 more", "no score"),
)


@pytest.mark.parametrize("name", STRANGE)
def test_identifiers_in_messages_are_withheld_whatever_they_look_like(name):
    issue = Issue("floor", "info", f"Column 'alliance': 2 rows of {identified([name])} are odd.")
    error = ad.DataError(f"No score for {identified([name, 'C2', 'C3', 'C4'])}.")
    note = "Model 3 of the ladder failed. " + str(error)
    shy = Discretion.of([issue.message], [str(error)])
    assert repr(name) in issue.message
    assert not set("\x02\x03\x1f") & set(f"{issue.message}{error}{note}")
    expected = "Column 'alliance': 2 rows of [1 not named here] are odd."
    assert shy.withhold(issue.message) == shy.withhold("".join(issue.message)) == expected
    assert shy.withhold(note) == "Model 3 of the ladder failed. No score for [4 not named here]."
    assert shy.withhold(f"CLPM: {error} More.") == "CLPM: No score for [4 not named here]. More."
    assert shy.withhold(f"rows, client, 3 and {name}") == f"rows, client, 3 and {name}"
    again = pickle.loads(pickle.dumps(error))
    assert shy.withhold(str(again)) == "No score for [4 not named here]."


def test_messages_count_people_where_that_is_asked():
    with withholding():
        error = ad.DataError(f"No score for {identified(['Ann', 'Bob'])}.")
    assert str(error) == "No score for [2 not named here]."
    assert str(ad.DataError(f"No score for {identified(['Ann'])}.")) == "No score for 'Ann'."


def test_strange_identifiers_of_an_export_stay_out_of_its_report(tmp_path):
    frame = _frame(40, 5)
    clients = sorted(set(frame["client"]))
    names = {**dict(zip(clients, STRANGE[:7], strict=False)), clients[8]: "Quixote"}
    frame["client"] = frame["client"].replace(names)
    frame = frame[(frame["session"] == 1) | ~frame["client"].isin(list(names.values()))]
    frame["therapist"] = [f"<i>Dr {1 + row % 5}</i>" for row in range(len(frame))]
    panel = _panel(frame, ("alliance", "symptoms"), None)
    assert any("Quixote" in one.message or "O'Brien" in one.message for one in panel.issues)
    text = unescape(_write(tmp_path / "r.html", panel, {"CLPM": ad.CLPM().fit(panel)}))
    for name in ("O'Brien", "boss", "Ann</b>", "a, b", "Zoë", "患者", "Quixote", "<i>Dr", "Dr 1"):
        assert name not in text, name
    assert "not named here" in text


def test_small_counts_are_withheld(tmp_path):
    frame = _frame(40, 6)
    late = frame["session"].to_numpy() == 6
    first_three = np.isin(frame["client"], sorted(set(frame["client"][late]))[:3])
    panel = _panel(frame[~late | first_three], ("alliance", "symptoms"), None)
    fit = ad.CLPM(sessions=(1, 5)).fit(panel)
    text = _write(tmp_path / "r.html", panel, {"CLPM": fit})
    table = text[text.index('id="table-attendance"') : text.index("Counts below 5")]
    assert "<td>&lt; 5</td>" in table
    assert "<td>3</td>" not in table


# -- cost ---------------------------------------------------------------------------------------


def test_importing_the_report_is_light():
    code = (
        "import sys, alliancedyn.report; "
        "bad = {'matplotlib', 'jinja2', 'numba', 'scipy'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_report_takes_seconds(tmp_path, panel, fits):
    began = time.process_time()  # of this process: other work on the machine is not the report's
    _write(tmp_path / "r.html", panel, fits)
    assert time.process_time() - began < 4.0


# -- a real browser -----------------------------------------------------------------------------


def _chromium(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--allow-file-access-from-files",
        f"--user-data-dir={home / 'profile'}",
        *arguments,
    ]
    environment = {**os.environ, "HOME": str(home)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=True, env=environment
    )


def _measure(report: Path, width: int, home: Path) -> dict[str, object]:
    """Open the report in a frame of ``width`` pixels and measure it there."""
    probe = home / f"probe{width}.html"
    probe.write_text(
        f"""<!DOCTYPE html><body>
<iframe id="f" src="{report.as_uri()}" style="width:{width}px;height:800px;border:0"></iframe>
<pre id="found"></pre><script>
document.getElementById("f").onload = () => {{
  const page = document.getElementById("f").contentDocument;
  const wide = [...page.querySelectorAll("body *")].filter(one =>
    !one.closest(".scroll") && !one.closest(".skip, .hidden") &&
    one.getBoundingClientRect().right > {width} + 1);
  const answers = page.querySelector(".answers").getBoundingClientRect();
  document.getElementById("found").textContent = JSON.stringify({{
    width: page.documentElement.scrollWidth,
    wide: wide.map(one => one.tagName + "." + one.className),
    broken: [...page.images].filter(one => one.complete && !one.naturalWidth).length,
    images: page.images.length,
    headline: page.querySelector("h1").getBoundingClientRect().bottom,
    answers: answers.top,
  }});
}};
</script></body>""",
        "utf-8",
    )
    run = _chromium("--virtual-time-budget=8000", "--dump-dom", probe.as_uri(), home=home)
    found = run.stdout.partition('<pre id="found">')[2].partition("</pre>")[0]
    return dict(json.loads(unescape(found)))


@pytest.mark.browser
@needs_chromium
def test_the_console_stays_silent(text, path, tmp_path):
    run = _chromium(
        "--enable-logging=stderr",
        "--virtual-time-budget=5000",
        "--dump-dom",
        path.as_uri(),
        home=tmp_path,
    )
    assert "</html>" in run.stdout
    said = [line for line in run.stderr.splitlines() if "CONSOLE" in line]
    assert said == []


@pytest.mark.browser
@needs_chromium
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_its_window(text, path, tmp_path, width):
    found = _measure(path, width, tmp_path)
    assert found["width"] <= width
    assert found["wide"] == []
    assert (found["broken"], found["images"]) == (0, 6)
    assert found["headline"] < 320
    assert found["answers"] < 640, "the answer is not on the first screen"


@pytest.mark.browser
@needs_chromium
def test_it_prints(text, path, tmp_path):
    target = tmp_path / "report.pdf"
    _chromium(f"--print-to-pdf={target}", "--no-pdf-header-footer", path.as_uri(), home=tmp_path)
    pages = target.read_bytes().count(b"/Type /Page\n") + target.read_bytes().count(b"/Type /Page ")
    assert target.stat().st_size > 50_000
    assert pages < 20
