"""Recovery and power from the command line: what they read, write, refuse and go on with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import alliancedyn as ad
from alliancedyn.cli import commands
from alliancedyn.studies.power import power
from alliancedyn.studies.recovery import recover

WORLD = """
mean = [3, 10]
between_cov = [[1, -0.3], [-0.3, 1]]
missing = 0.1
[time_ordered]
phi_alliance = 0.35
phi_symptoms = 0.45
forward = -0.12
backward = -0.10
[dropout]
rule = "unwell"
rate = 0.3
first = 2
"""
STUDY = """
model = "clpm"
world = "world.toml"
clients = 30
sessions = 4
replications = {replications}
seed = 3
[options]
means = "equal"
"""
PLAN = """
model = "clpm"
world = "world.toml"
clients = [20, 40]
sessions = 4
reliability = [1.0, [0.7, 0.9]]
dropout = [{}, {rule = "random", rate = 0.3, first = 2}]
replications = 3
"""
TRUTH = ad.Dynamics.time_ordered(
    phi_alliance=0.35,
    phi_symptoms=0.45,
    forward=-0.12,
    backward=-0.10,
    mean=(3, 10),
    between_cov=[[1, -0.3], [-0.3, 1]],
)
LEAVING = ad.Dropout("unwell", rate=0.3, first=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "world.toml").write_text(WORLD, encoding="utf-8")
    (tmp_path / "study.toml").write_text(STUDY.format(replications=6), encoding="utf-8")
    (tmp_path / "plan.toml").write_text(PLAN, encoding="utf-8")
    return tmp_path


def test_recover_writes_the_study(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["recover", str(folder / "study.toml"), "--out", str(folder / "out"), "--jobs", "1"]
    assert commands.run(asked) == 0
    said = capsys.readouterr()
    assert said.out.startswith("Aims. How well the CLPM recovers")
    assert "6 of 6 fits converged" in said.out
    assert said.err == ""
    names = {path.name for path in (folder / "out").iterdir()}
    assert names == {"recovery.csv", "directions.csv", "summary.txt", "replications.jsonl"}
    study = recover(
        ad.CLPM(means="equal"),
        TRUTH,
        30,
        4,
        replications=6,
        seed=3,
        jobs=1,
        dropout=LEAVING,
        missing=0.1,
    )
    text = (folder / "out" / "recovery.csv").read_text("utf-8")
    assert text == study.table().to_csv(lineterminator="\n")
    assert study.summary()[:60] in (folder / "out" / "summary.txt").read_text("utf-8")
    before = {path.name: path.read_bytes() for path in (folder / "out").glob("*.csv")}
    assert commands.run(asked) == 0, "again: everything is known"
    assert before == {path.name: path.read_bytes() for path in (folder / "out").glob("*.csv")}


def test_a_world_may_be_one_that_has_a_name(folder: Path) -> None:
    text = STUDY.format(replications=1).replace("world.toml", "null")
    (folder / "study.toml").write_text(text, encoding="utf-8")
    asked = ["recover", str(folder / "study.toml"), "--out", str(folder / "out"), "--jobs", "1"]
    assert commands.run(asked) == 0
    said = (folder / "out" / "directions.csv").read_text("utf-8")
    assert said.splitlines()[1].startswith("both,neither,")


def test_power_writes_the_surface(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "out"
    asked = ["power", str(folder / "plan.toml"), "--out", str(out), "--jobs", "1"]
    assert commands.run(asked) == 0
    assert "clients for .80" in capsys.readouterr().out
    names = {path.name for path in out.iterdir()}
    assert names == {"power.csv", "smallest.csv", "curves.csv", "summary.txt", "replications"}
    surface = power(
        ad.CLPM(),
        TRUTH,
        clients=[20, 40],
        sessions=4,
        reliability=[1.0, (0.7, 0.9)],
        dropout=[None, ad.Dropout("random", rate=0.3, first=2)],
        missing=0.1,
        replications=3,
        jobs=1,
    )
    table = pd.read_csv(out / "power.csv", dtype={"reliability": str}, keep_default_na=False)
    assert len(table) == 8
    assert list(table["dropout"]) == list(surface.table["dropout"])
    np.testing.assert_array_equal(table["power"], surface.table["power"])
    assert len(list((out / "replications").iterdir())) == 8


def test_interrupted_by_hand_and_gone_on_with(folder: Path) -> None:
    (folder / "study.toml").write_text(STUDY.format(replications=4000), encoding="utf-8")
    command = [sys.executable, "-m", "alliancedyn", "recover", "study.toml", "--out", "out"]
    process = subprocess.Popen(
        [*command, "--jobs", "1"],
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells hide it in "&"
    )
    kept = folder / "out" / "replications.jsonl"
    patience = time.monotonic() + 120.0
    while time.monotonic() < patience and process.poll() is None:
        if kept.exists() and kept.read_bytes().count(b"\n") > 6:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60.0)
    assert process.returncode == 130
    assert said.decode().splitlines() == [
        "Interrupted; what is done is kept. The same command goes on from there."
    ]
    done = kept.read_bytes().count(b"\n") - 1
    assert done >= 6
    (folder / "study.toml").write_text(STUDY.format(replications=done + 2), encoding="utf-8")
    asked = ["recover", str(folder / "study.toml"), "--out", str(folder / "out"), "--jobs", "1"]
    assert commands.run(asked) == 0
    assert kept.read_bytes().count(b"\n") == done + 3
    asked[3] = str(folder / "whole")
    assert commands.run(asked) == 0
    whole = (folder / "whole" / "recovery.csv").read_bytes()
    assert (folder / "out" / "recovery.csv").read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "code", "fragment"),
    [
        (("seed = 3", "sead = 3"), 4, "'sead' means nothing in 'study.toml'"),
        (("clients = 30", ""), 4, "does not say 'clients'"),
        (("clients = 30", 'clients = "many"'), 4, "clients must be a whole number"),
        (("clients = 30", "clients = 30 30"), 4, "no readable TOML"),
        (('"clpm"', '"clmp"'), 4, "'clmp'"),
        (('"clpm"', '"ri-clpm-detrended"'), 4, "fitted to scores as they are"),
        (('means = "equal"', 'meens = "equal"'), 4, "'meens' is no option of the CLPM"),
        (('means = "equal"', 'means = "odd"'), 4, "odd"),
        (('"world.toml"', '"nowhere.toml"'), 4, "nowhere"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(
    folder: Path,
    change: tuple[str, str],
    code: int,
    fragment: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = STUDY.format(replications=2).replace(*change)
    (folder / "study.toml").write_text(text, encoding="utf-8")
    asked = ["recover", str(folder / "study.toml"), "--out", str(folder / "out"), "--jobs", "1"]
    assert commands.run(asked) == code
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert fragment in line
    assert not (folder / "out").exists()


def test_what_is_typed_wrong_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study, out = str(folder / "study.toml"), str(folder / "out")
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
    for asked, fragment in (
        (["--out", out, "--jobs", "2", "--cluster", "tcp://x:1"], "exclude each other"),
        (["--out", out, "--jobs", "0"], "give a number of processes"),
        (["--out", str(folder / "mine")], "holds 'thesis.txt', which no study wrote"),
        (["--out", study], "is a file"),
    ):
        assert commands.run(["recover", study, *asked]) == 2
        assert fragment in capsys.readouterr().err
    assert commands.run(["recover", str(folder / "no.toml"), "--out", out]) == 2
    assert "There is no file 'no.toml'" in capsys.readouterr().err


def test_results_of_another_study_are_not_gone_on_with(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["recover", str(folder / "study.toml"), "--out", str(folder / "out"), "--jobs", "1"]
    assert commands.run(asked) == 0
    text = STUDY.format(replications=6).replace("seed = 3", "seed = 4")
    (folder / "study.toml").write_text(text, encoding="utf-8")
    capsys.readouterr()
    assert commands.run(asked) == 4
    assert "belongs to another study: they differ in 'seed'" in capsys.readouterr().err
