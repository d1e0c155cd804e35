"""What the terminal says speaks of commands, mapping files and configurations."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alliancedyn.cli import commands
from alliancedyn.cli.speech import _MODELS, answering, typed
from alliancedyn.models import RICLPM, ContinuousTime
from alliancedyn.studies import FAMILIES

SAID = [
    ("analyze", "Widen sessions=(first, last).", "Widen --sessions first-last."),
    ("analyze", "Use sessions=(2, 6).", "Use --sessions 2-6."),
    (
        "analyze",
        "Choose sessions=(first, last), on the command line --sessions first-last.",
        "Choose --sessions first-last.",
    ),
    ("analyze", 'Use errors="robust".', "Use --errors robust."),
    (
        "analyze",
        "Use errors='observed', or group='arm'.",
        "Use --errors observed, or --group arm.",
    ),
    ("analyze", 'Name covariates=("age", "sex").', "Name --covariates age,sex."),
    (
        "analyze",
        "Name it when reading, in covariates=.",
        "Name it when reading, in covariates in the mapping.",
    ),
    ("analyze", "Pass timing= to confirm.", "Pass timing in the mapping to confirm."),
    (
        "check",
        'Declare missing_codes=["k.A."]; else duplicates="mean".',
        'Declare missing_codes = ["k.A."] in the mapping; else duplicates = "mean".',
    ),
    (
        "check",
        'Declare missing_codes={"wai": [-9, 99]}.',
        'Declare missing_codes = {"wai" = [-9, 99]} in the mapping.',
    ),
    (
        "check",
        "Pass process= and outcome= to confirm.",
        "Pass process and outcome in the mapping to confirm.",
    ),
    ("map", "Pass day_first=True or False.", "Pass day_first = true or false in the mapping."),
    ("check", "Pass day_first=True.", "Pass day_first = true in the mapping."),
    ("check", "Give ranges=(0, 27).", "Give ranges = [0, 27] in the mapping."),
    ("check", 'Number with order="date".', 'Number with order = "date" in the mapping.'),
    ("analyze", "Pass process= and outcome=.", "Pass process and outcome in the mapping."),
    ("analyze", "Try starts=5, draws=9 or tune=3.", "Try starts=5, draws=9 or tune=3 in Python."),
    ("analyze", "Take order=1, not lags='free'.", "Take order=1 in Python, not lags='free'."),
    ("analyze", 'RICLPM(means="equal") answers.', "--families ri-clpm-equal-means answers."),
    ("analyze", 'Use means="equal".', "Use --families ri-clpm-equal-means."),
    ("power", 'Use means="equal".', 'Use means = "equal" in the configuration.'),
    ("analyze", "Or ContinuousTime(time='session').", "Or --families ct-session."),
    ("analyze", "Or DynamicPanelGMM().", "Or --families gmm."),
    (
        "analyze",
        'Use DSEM(random=("intercept",)), or less.',
        'Use DSEM(random=("intercept",)) in Python, or less.',
    ),
    ("power", 'Set direction="both".', 'Set direction = "both" in the configuration.'),
    ("recover", "jobs=0 means nothing.", "--jobs 0 means nothing."),
    ("simulate", 'event= belongs to rule="x".', 'event in the world belongs to rule = "x".'),
    ("map", "Let guess_mapping propose one.", "Let alliancedyn map propose one."),
]


@pytest.mark.parametrize(("command", "python", "said"), SAID)
def test_options_are_said_as_they_are_given(command: str, python: str, said: str) -> None:
    with answering(command):
        assert typed(python) == said


@pytest.mark.parametrize(
    "text",
    [
        "p = .03, df=3, p=.05 in phi[a,b]|arm=treated",
        "Wrote 'C:/run seed=7/errors=no.csv': 3 rows.",
        "Client 'order=date' and Hansen's test of clients' scores 'group=1' stand.",
        "The effect is a = b.",
        "No option at all.",
    ],
)
def test_names_paths_and_numbers_are_left_alone(text: str) -> None:
    with answering("analyze"):
        assert typed(text) == text


def test_models_have_the_keys_that_are_said() -> None:
    for _, _, key in _MODELS:
        assert key in FAMILIES
    assert FAMILIES["ri-clpm-equal-means"].spec == RICLPM(means="equal")
    assert FAMILIES["ct-session"].spec == ContinuousTime(time="session", means="free")


def test_no_python_in_what_commands_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        f"c{i},{t},{(i * 7 + t * 3) % 9},{(i * 5 + t * 2) % 13}" for i in range(9) for t in (1, 2)
    ]
    export, mapping = tmp_path / "export.csv", tmp_path / "map.toml"
    export.write_text("\n".join(["who,when,wai,phq", *rows, "c1,3,k.A.,4"]), encoding="utf-8")
    lines = ['client = "who"', 'session = "when"', "[variables]", 'alliance = "wai"']
    mapping.write_text("\n".join([*lines, 'symptoms = "phq"']), encoding="utf-8")
    assert commands.run(["check", str(export), "--map", str(mapping)]) == 3
    error = capsys.readouterr().err
    assert 'missing_codes = ["k.A."] in the mapping' in error
    mapping.write_text(
        "\n".join(['missing_codes = ["k.A."]', *lines, 'symptoms = "phq"']), encoding="utf-8"
    )
    assert commands.run(["check", str(export), "--map", str(mapping)]) == 0
    told = capsys.readouterr()
    for text in (told.out, told.err):
        assert not re.search(r"\b(sessions|errors|timing|variables|families)=", text), text
