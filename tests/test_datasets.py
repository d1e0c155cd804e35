"""The bundled data sets: reproducible to the byte, as flawed as described, true to their truth."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alliancedyn.errors import DataError
from alliancedyn.models import CLPM, RICLPM
from alliancedyn.panel import datasets

SCRIPT = Path(__file__).resolve().parent.parent / "simulations" / "make_datasets.py"
MADE = ["example.csv", "example_truth.csv", "trial.csv", "trial_truth.csv"]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_datasets", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def example():
    return datasets.load("example")


@pytest.fixture(scope="module")
def trial():
    return datasets.load("trial")


@pytest.fixture(scope="module")
def export():
    """The raw example as text, untouched."""
    return pd.read_csv(datasets.path("example"), dtype=str, keep_default_na=False)


def test_the_script_makes_them_byte_for_byte(script, tmp_path):
    script.main(tmp_path)
    bundled = datasets.path("example").parent
    for name in MADE:
        assert (tmp_path / name).read_bytes() == (bundled / name).read_bytes(), name


def test_they_stay_small():
    folder = datasets.path("example").parent
    assert sum(file.stat().st_size for file in folder.iterdir()) < 400_000


@pytest.mark.parametrize("name", datasets.names())
def test_every_set_is_complete_and_says_it_is_synthetic(name):
    assert "SYNTHETIC" in datasets.describe(name).splitlines()[0]
    mapping = tomllib.loads(datasets.mapping_path(name).read_text(encoding="utf-8"))
    header = datasets.path(name).read_text(encoding="utf-8").splitlines()[0].split(",")
    assert set(mapping["variables"].values()) <= set(header)
    for column in header:
        assert f"`{column}`" in datasets.describe(name)
    panel = datasets.load(name)
    assert dict(panel.timing) == {"alliance": "after", "symptoms": "before"}
    assert (panel.process, panel.outcome) == ("alliance", "symptoms")


@pytest.mark.parametrize("call", [datasets.load, datasets.path, datasets.describe, datasets.truth])
def test_unknown_names_are_refused_with_the_known_ones(call):
    with pytest.raises(DataError, match=r"no bundled data set 'Example'\. There are 'example'"):
        call("Example")


class TestExample:
    def test_size(self, example):
        assert example.n_clients == 220
        assert list(example.sessions) == list(range(1, 17))
        assert len(np.unique(example.frame["therapist"])) == 24

    def test_planted_flaws_are_there_as_described(self, export):
        ids = export["client_id"]
        assert (ids != ids.str.strip()).sum() == 14
        assert (export["phq9"] == "-9").sum() == 72
        assert export.duplicated().sum() == 6
        clean = export.assign(client_id=ids.str.strip()).drop_duplicates()
        by_client = clean.groupby("client_id")
        assert (by_client.size() == 1).sum() == 9
        assert (by_client["therapist_id"].nunique() > 1).sum() == 7
        wai = pd.to_numeric(clean["wai_sr"])
        assert (wai == 5.0).mean() == pytest.approx(0.13, abs=0.005)
        always = (wai == 5.0).groupby(clean["client_id"]).sum()
        seen = wai.notna().groupby(clean["client_id"]).sum()
        assert ((always == seen) & (seen > 1)).sum() == 4

    def test_scores_lie_on_the_instruments_scales(self, example):
        frame = example.frame
        wai, phq = frame["alliance"].dropna(), frame["symptoms"].dropna()
        assert wai.between(1, 5).all()
        assert (wai * 12 - (wai * 12).round()).abs().max() < 0.07  # means of 12 whole numbers
        assert phq.between(0, 27).all()
        assert (phq == phq.round()).all()

    def test_reading_it_leaves_nothing_of_the_flaws(self, example, export):
        frame = example.frame
        assert len(frame) == len(export) - 6
        assert not frame.duplicated(["client", "session"]).any()
        assert frame["client"].str.fullmatch(r"C\d{3}").all()
        assert (frame["symptoms"].isna()).sum() > 72
        counts = {(issue.code, issue.count) for issue in example.issues}
        assert {
            ("padded-ids", 14),
            ("missing-codes", 72),
            ("duplicates-removed", 6),
            ("single-session-clients", 9),
            ("session-gaps", 69),
            ("rows-without-scores", 4),
            ("constant-series", 4),
            ("therapist-switches", 7),
        } <= counts

    def test_clients_leave_when_well_enough(self, example):
        seen = example.frame.dropna(subset=["symptoms"])
        last = seen.groupby("client").tail(1)
        left = last.loc[last["session"].between(4, 7), "symptoms"]
        stayed = seen["client"].isin(last.loc[last["session"] > 7, "client"])
        meanwhile = seen.loc[stayed & seen["session"].between(4, 7), "symptoms"]
        assert left.mean() < meanwhile.mean() - 2.0


class TestTrial:
    def test_clean_weekly_and_complete(self, trial):
        data = trial.arrays()
        assert data.Y.shape == (120, 12, 2)
        assert np.isfinite(data.Y).all()
        assert trial.issues == []
        np.testing.assert_array_equal(data.days, np.tile(7.0 * np.arange(12), (120, 1)))

    def test_arm_and_severity_are_clients_own(self, trial):
        arm = trial.client_values("arm")
        assert sorted(np.unique(arm)) == ["feedback", "usual"]
        assert (arm == "usual").sum() == 60
        severity = np.asarray(trial.client_values("severity"), dtype=float)
        level = trial.arrays().Y.mean(axis=1)
        assert np.corrcoef(severity, level[:, 1])[0, 1] > 0.2
        assert np.corrcoef(severity, level[:, 0])[0, 1] < 0.0


class TestTruth:
    def test_tables_are_the_worlds(self, script):
        truth = datasets.truth("example")
        expected = script.EXAMPLE.params(16)
        same = [name for name in truth.index if not name.startswith("between_cov")]
        np.testing.assert_allclose(truth[same], expected[same], rtol=1e-5)
        assert truth["between_cov[alliance,alliance]"] == pytest.approx(0.27 + 0.03)

    def test_descriptions_quote_the_truth(self, script):
        text = datasets.describe("example")
        structural = script.EXAMPLE.structural()
        assert f"{structural.loc['forward', 'value']:.2f}".lstrip("-") in text
        assert structural.loc["forward", "standardized"] == pytest.approx(-0.07, abs=0.005)
        assert structural.loc["backward_immediate", "standardized"] == pytest.approx(
            -0.08, abs=0.005
        )
        between = script.EXAMPLE.between_cov + script.EXAMPLE_THERAPIST_COV
        r = between[0, 1] / np.sqrt(between[0, 0] * between[1, 1])
        assert r == pytest.approx(-0.63, abs=0.005)

    @pytest.mark.parametrize("name", datasets.names())
    def test_the_right_model_finds_the_lags(self, name):
        fit = RICLPM(lags="equal", innovations="equal").fit(datasets.load(name))
        truth = datasets.truth(name)
        lags = [name for name in truth.index if name.startswith("phi[")]
        assert len(lags) == 4
        assert np.all(np.abs(fit.params[lags] - truth[lags]) < 3 * fit.se[lags])

    def test_the_naive_model_exaggerates(self, example):
        """Figures of lavaan 0.6-14 on the same scores: -0.823 (0.117) and -0.522 (0.204)."""
        path = "phi[symptoms,alliance]"
        naive = CLPM(lags="equal", innovations="equal").fit(example)
        right = RICLPM(lags="equal", innovations="equal").fit(example)
        assert naive.params[path] == pytest.approx(-0.823, abs=2e-3)
        assert naive.se[path] == pytest.approx(0.117, abs=2e-3)
        assert right.params[path] == pytest.approx(-0.522, abs=2e-3)
        assert right.se[path] == pytest.approx(0.204, abs=2e-3)
