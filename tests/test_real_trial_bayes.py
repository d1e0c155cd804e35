"""The Bayesian page of the real trial: the script runs, and says what the page reads aloud."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from reference_files import published_dir

FOLDER = Path(__file__).parents[1] / "examples" / "implement_wai_bai"
MONTE_CARLO = 0.03  # of probabilities and shares from 6,000 draws, four errors


@pytest.mark.reference
def test_the_page_reads_aloud_what_the_script_says(tmp_path: Path) -> None:
    path = published_dir() / "A1_implement_wai_bai" / "sessions_long.csv"
    if not path.is_file():
        pytest.skip("no A1_implement_wai_bai among the reference data")
    done = subprocess.run(
        [sys.executable, FOLDER / "bayes.py", path, "--out", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "MPLBACKEND": "Agg"},
    )
    assert done.returncode == 0, done.stderr
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    for number in (r"P\(b < 0\) = (\d\.\d+)", r"alliance -> anxiety  (-?\d\.\d+) \[.*within SDs"):
        said = [float(x) for x in re.findall(number, done.stdout)]
        read = [float(x) for x in re.findall(number, page)]
        assert said[:2] == pytest.approx(read, abs=MONTE_CARLO)
    assert "does not draw panels like the data: slope[alliance]" in done.stdout
    assert "draws panels like the data: all 13" in done.stdout
    assert {one.name for one in tmp_path.iterdir()} == {
        "prior-posterior.svg",
        "anxiety-to-alliance.svg",
    }
