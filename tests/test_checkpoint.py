"""A study killed and started again: nothing lost, nothing repeated, no other study taken for it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alliancedyn as ad
from alliancedyn import replicate as loop
from alliancedyn.errors import DataError, SpecificationError
from alliancedyn.replicate import Failure
from alliancedyn.results import Fit
from alliancedyn.studies.checkpoint import Checkpoint
from alliancedyn.studies.recovery import RecoveryStudy, recover
from alliancedyn.studies.trial import Found, Verdict

TRUTH = ad.Dynamics.time_ordered(
    phi_alliance=0.35, phi_symptoms=0.45, forward=-0.12, backward=-0.10, mean=(3.0, 10.0)
)
SPEC = ad.CLPM(means="equal", initial="stationary")
ASKED: dict[str, Any] = {"clients": 40, "sessions": 4, "seed": 5, "missing": 0.1}
REPLICATIONS = 23  # no multiple of a batch
STUDY = {"model": "CLPM()", "seed": "7"}

SCRIPT = """
import sys
import alliancedyn as ad
from alliancedyn.studies.recovery import recover
truth = ad.Dynamics.time_ordered(
    phi_alliance=0.35, phi_symptoms=0.45, forward=-0.12, backward=-0.10, mean=(3.0, 10.0)
)
spec = ad.CLPM(means="equal", initial="stationary")
recover(spec, truth, clients=40, sessions=4, seed=5, missing=0.1, replications=5000,
        jobs=int(sys.argv[2]), checkpoint=sys.argv[1])
"""


@pytest.fixture(scope="module")
def whole() -> RecoveryStudy:
    return recover(SPEC, TRUTH, **ASKED, replications=REPLICATIONS, jobs=1)


def assert_same(one: RecoveryStudy, other: RecoveryStudy) -> None:
    """Compare two studies to the last bit."""
    pd.testing.assert_frame_equal(one.table(), other.table(), check_exact=True)
    pd.testing.assert_frame_equal(one.estimates, other.estimates, check_exact=True)
    pd.testing.assert_frame_equal(one.directions(), other.directions(), check_exact=True)
    assert one.table().to_csv() == other.table().to_csv()
    assert (one.failures, one.boundaries) == (other.failures, other.boundaries)


def replications_in(path: Path) -> list[int]:
    return [json.loads(line)["replication"] for line in path.read_text("utf-8").splitlines()[1:]]


def test_a_checkpoint_changes_no_number(whole: RecoveryStudy, tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    kept = recover(SPEC, TRUTH, **ASKED, replications=REPLICATIONS, jobs=1, checkpoint=path)
    assert_same(kept, whole)
    assert sorted(replications_in(path)) == list(range(REPLICATIONS))


@pytest.mark.parametrize("cut", range(6))
def test_interrupted_anywhere_and_resumed(cut: int, whole: RecoveryStudy, tmp_path: Path) -> None:
    """The file ends at a random byte, as it does when the machine goes down."""
    path = tmp_path / "study.jsonl"
    recover(SPEC, TRUTH, **ASKED, replications=REPLICATIONS, jobs=1, checkpoint=path)
    raw = path.read_bytes()
    end = int(np.random.default_rng(cut).integers(0, len(raw))) if cut else 4
    path.write_bytes(raw[:end])
    left = max(raw[:end].count(b"\n") - 1, 0)
    heard: list[int] = []
    resumed = recover(
        SPEC,
        TRUTH,
        **ASKED,
        replications=REPLICATIONS,
        jobs=1,
        checkpoint=path,
        progress=lambda done, total, doing: heard.append(done),
    )
    assert_same(resumed, whole)
    assert heard[0] == left
    assert sorted(replications_in(path)) == list(range(REPLICATIONS)), "none lost, none twice"


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL on Windows")
@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_in_the_middle_and_resumed(jobs: int, tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(path), str(jobs)])
    patience = time.monotonic() + 120.0
    while time.monotonic() < patience and process.poll() is None:
        if path.exists() and path.read_bytes().count(b"\n") > 12 + 5 * jobs:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was still at work"
    whole_lines = path.read_bytes().count(b"\n")
    assert whole_lines > 12
    known = whole_lines - 1
    many = known + 6
    resumed = recover(SPEC, TRUTH, **ASKED, replications=many, jobs=1, checkpoint=path)
    assert_same(resumed, recover(SPEC, TRUTH, **ASKED, replications=many, jobs=1))
    assert len(set(replications_in(path))) == len(replications_in(path))


def test_what_is_done_is_not_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    recover(SPEC, TRUTH, **ASKED, replications=10, jobs=1, checkpoint=path)
    before = path.read_bytes()
    again = recover(SPEC, TRUTH, **ASKED, replications=10, jobs=1, checkpoint=path)
    assert path.read_bytes() == before
    shorter = recover(SPEC, TRUTH, **ASKED, replications=4, jobs=1, checkpoint=path)
    assert path.read_bytes() == before
    pd.testing.assert_frame_equal(shorter.estimates, again.estimates.iloc[:4], check_exact=True)


@dataclass(frozen=True)
class Tired:
    """A model that fails where alliance is low, and gives up altogether at some point."""

    mood: str
    name: str = "Tired"

    def fit(
        self,
        panel: ad.SessionPanel,
        *,
        errors: str = "observed",
        seed: int | None,
        strict: bool,
    ) -> Fit:
        level = panel.frame["alliance"].mean()
        if self.mood == "broken" and level > 3.2:
            raise ZeroDivisionError("a mistake in the model")
        if level < 2.95:
            raise DataError(f"Alliance is {level:.3f}, too low.")
        return SPEC.fit(panel, errors=errors, seed=seed, strict=strict)

    def __repr__(self) -> str:
        return "Tired()"


def test_failures_are_kept_and_a_mistake_ends_the_study(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    with pytest.raises(ZeroDivisionError):
        recover(Tired("broken"), TRUTH, **ASKED, replications=40, jobs=1, checkpoint=path)
    kept = len(replications_in(path))
    assert 0 < kept < 40
    mended = recover(Tired("well"), TRUTH, **ASKED, replications=40, jobs=1, checkpoint=path)
    whole = recover(Tired("well"), TRUTH, **ASKED, replications=40, jobs=1)
    assert_same(mended, whole)
    (reason,) = mended.failures
    assert reason == "DataError: Alliance is #, too low."


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"seed": 6}, "'seed'.*There, seed is 5; here, 6"),
        ({"clients": 41}, "'clients'"),
        ({"missing": 0.2}, "'observation'"),
        ({"errors": "robust"}, "'errors'"),
        ({"level": 0.9}, "'level'"),
        ({"spec": ad.CLPM()}, r"'model'.*here, CLPM\(\)"),
    ],
)
def test_another_study_is_refused_by_name(
    change: dict[str, Any], word: str, tmp_path: Path
) -> None:
    path = tmp_path / "study.jsonl"
    recover(SPEC, TRUTH, **ASKED, replications=2, jobs=1, checkpoint=path)
    before = path.read_bytes()
    asked = {"spec": SPEC, "truth": TRUTH, **ASKED, "replications": 2, "jobs": 1} | change
    with pytest.raises(SpecificationError, match=f"'study.jsonl' belongs to another.*{word}"):
        recover(**asked, checkpoint=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", ["client,session\n1,2\n", '{"kind": "site"}\n', "no end", "[1]\n"]
)
def test_a_file_that_is_no_checkpoint_is_left_alone(content: str, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"'data\.csv' is no checkpoint"):
        Checkpoint(path, STUDY)
    assert path.read_text(encoding="utf-8") == content


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    Checkpoint(path, STUDY).keep({0: Failure("DataError", "No rows."), 1: Failure("A", "b")})
    lines = path.read_text("utf-8").splitlines()
    lines[1] = lines[1][:-9]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"Line 2 of the checkpoint 'study\.jsonl'"):
        Checkpoint(path, STUDY)


def test_numbers_come_back_to_the_last_bit(tmp_path: Path) -> None:
    values = np.array([1 / 3, -0.0, 5e-324, np.nan, np.inf, 1e300])
    found = Found(
        names=("a", "b", "c", "d", "e", "f"),
        estimates=values,
        errors=values[::-1].copy(),
        lower=values * 0.1,
        upper=values + 1,
        at_bound=("a",),
        verdicts={"both": Verdict("depends", "supported", "undetermined")},
    )
    path = tmp_path / "study.jsonl"
    Checkpoint(path, STUDY).keep({3: found})
    back = Checkpoint(path, STUDY).outcomes()[3]
    assert isinstance(back, Found)
    for name in ("estimates", "errors", "lower", "upper"):
        assert getattr(back, name).tobytes() == getattr(found, name).tobytes(), name
    assert (back.names, back.at_bound, back.verdicts) == (found.names, ("a",), found.verdicts)


def test_few_are_lost_where_batches_are_written_down() -> None:
    assert loop.KEPT_BATCH < loop.BATCH
