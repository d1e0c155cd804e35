"""Whatever is passed, read or typed: an answer or an error of our own, in seconds.

The seeds are fixed, so that what fails here fails again. ``make studies`` draws many more.
"""

from __future__ import annotations

import time
from pathlib import Path

import hostile
import hostile_files
import numpy as np
import pytest
from matplotlib import pyplot

import alliancedyn as ad
from alliancedyn.errors import SpecificationError

CALLS, LINES = 1200, 400
LONGEST = 10.0  # seconds of a single call or command


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_hostile_call_raises_anything_but_our_own_errors(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong, long = [], []
    for text, call in hostile.hostile_calls(CALLS // 3, seed, tmp_path):
        raised, seconds = hostile.outcome(call)
        wrong += [f"{text}: {raised}"] if raised else []
        long += [text] if seconds > LONGEST else []
        pyplot.close("all")
    assert not wrong
    assert not long


def test_every_public_name_is_called() -> None:
    called = {one.name.split(".")[0] for one in hostile.calls()}
    left = {name for name in ad.__all__ if name not in called}
    assert all(name == "__version__" or name.endswith(("Error", "Warning")) for name in left), left
    assert len(hostile.calls()) > 150


@pytest.mark.parametrize("seed", [1, 2])
def test_no_hostile_file_or_command_ends_in_an_internal_error(seed: int, tmp_path: Path) -> None:
    wrong, long = [], []
    for text, typed in hostile_files.hostile_lines(LINES // 2, seed, tmp_path):
        began = time.process_time()
        said = hostile_files.answer(typed)
        wrong += [f"{text}: {said}"] if said else []
        long += [text] if time.process_time() - began > LONGEST else []
    assert not wrong
    assert not long


def test_a_good_file_is_answered_well(tmp_path: Path) -> None:
    good, mapping = tmp_path / "good.csv", tmp_path / "good.toml"
    hostile_files.good_rows(np.random.default_rng(1)).to_csv(good, index=False)
    mapping.write_text(hostile_files.MAPPING, encoding="utf-8")
    assert hostile_files.run(["check", str(good), "--map", str(mapping)]) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ad.RICLPM(hostile.world()["frame"]), "RICLPM.*holds no data.*fit\\(panel\\)"),
        (lambda: ad.DSEM(hostile.world()["panel"]), "DSEM.*holds no data"),
        (lambda: ad.RICLPM().fit(hostile.world()["frame"]), "SessionPanel.from_frame"),
        (lambda: ad.RICLPM(meens="equal"), "no option 'meens'. Did you mean 'means'"),
        (lambda: ad.RICLPM(means="equel"), "means is 'equel'.*Did you mean 'equal'"),
        (lambda: ad.WithinBetween(lagged_outcom="none"), "Did you mean 'lagged_outcome'"),
        (lambda: ad.WithinBetween(lag="previous"), "Did you mean 'previous_session'"),
        (lambda: ad.decompose(hostile.world()["panel"], trends=None), "Did you mean 'trend'"),
        (lambda: ad.worlds.load("reciprocol"), "Did you mean 'reciprocal'"),
        (lambda: ad.datasets.load("exampel"), "Did you mean 'example'"),
        (lambda: hostile.world()["fit"].effect("aliance", "symptoms"), "Did you mean 'alliance'"),
        (lambda: ad.RICLPM(variables=("alliance", "symtoms")).fit(hostile.world()["panel"]),
         "Did you mean 'symptoms'"),
        (lambda: hostile.world()["panel"].client_values("theapist"), "Did you mean 'therapist'"),
        (lambda: ad.RICLPM().fit(), "RICLPM.fit needs panel"),
        (lambda: ad.RICLPM(("alliance", "symptoms"), starts=2.0), "starts is 2.0; give a whole"),
        (lambda: ad.RICLPM(starts="2"), "starts is '2'; give a whole number.*without quotes"),
        (lambda: ad.RICLPM(starts=True), "starts is True; give a whole number"),
        (lambda: ad.DSEM(draws=-5), "draws is -5; give a whole number from 1 up"),
        (lambda: ad.DSEM(draws=10**12), "draws is 1000000000000; give .*at most 1,000,000"),
        (lambda: ad.RICLPM().fit(hostile.world()["panel"], seed=-1), "seed is -1; give a whole"),
        (lambda: hostile.world()["fit"].table(level=float("nan")), "level is nan; give a number"),
        (lambda: hostile.world()["fit"].table(level=95), "level is 95; give a number between"),
        (lambda: ad.compare_directions(ad.RICLPM()), "give a Fit. Fit it first"),
        (lambda: ad.RICLPM(group=""), "group is ''; give a text"),
        (lambda: ad.RICLPM(reliability={"alliance": float("inf")}), "reliability is .*inf"),
        (lambda: ad.Dynamics([["0.3", 0], [0, 0.3]], [[1, 0], [0, 1]]), "phi is .*; give numbers"),
        (lambda: ad.Estimate(1.0), "Estimate needs se, lower, upper"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_what_is_allowed(call, message: str) -> None:
    with pytest.raises((SpecificationError, ad.DataError), match=message):
        call()


def test_lists_arrays_and_columns_of_names_are_taken() -> None:
    frame = hostile.world()["frame"]
    names = ("alliance", "symptoms")
    for given in (list(names), frame.columns[2:4], frame.columns[2:4].to_numpy(str)):
        assert ad.RICLPM(variables=given).variables == names
