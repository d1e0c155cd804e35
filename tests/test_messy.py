"""What is planted in an export is found when it is read, and counted right."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import alliancedyn as ad
from alliancedyn.errors import DataError, SpecificationError
from alliancedyn.simulate import messy
from alliancedyn.simulate.messy import FLAWS, flaw_names

PANEL = ad.worlds.load("reciprocal").simulate(clients=90, seed=1)


def read(made, tmp_path, **changes):
    file = tmp_path / "export.csv"
    file.write_text(made.text, encoding="utf-8")
    return ad.read_sessions(file, made.key.attrs["mapping"], **changes)


def counts(panel):
    return {issue.code: issue.count for issue in panel.issues}


def test_everything_planted_is_found_and_counted(tmp_path):
    made = messy(PANEL, 3)
    panel = read(made, tmp_path)
    found = counts(panel)
    key = made.key
    for flaw, rows in key.groupby("flaw"):
        code = rows["code"].iloc[0]
        if rows["found"].iloc[0] == "unseen":
            assert code == ""
            continue
        assert code in found, flaw
        per_place = {"padded_id", "missing_code", "suspect_code", "repeated_row", "conflict"}
        per_place |= {"blank_row", "date_flip", "same_day", "blank_date", "blank_therapist"}
        if flaw in per_place:
            assert found[code] == len(rows), flaw
        elif flaw != "decimal_comma" and flaw != "case_id":
            assert found[code] == rows["client"].nunique(), flaw
    codes = set(ad.check(panel).table["code"])
    assert set(key["code"]) - {""} <= codes


@pytest.mark.parametrize("flaw", flaw_names())
def test_each_flaw_alone(flaw, tmp_path):
    clean = counts(read(messy(PANEL, 3, flaws=[]), tmp_path))
    made = messy(PANEL, 3, flaws=[flaw])
    more = set(counts(read(made, tmp_path))) - set(clean)
    expected = {FLAWS[flaw][2]} - {""}
    assert expected <= more
    # Ids that differ in case also split clients; episodes restart dates' sessions; day and month
    # changed about leave months between two sessions.
    beside = {"long-pauses"} if flaw == "date_flip" else set()
    assert more <= expected | {"single-session-clients", "late-start"} | beside


def test_rows_of_the_key_point_into_the_file():
    made = messy(PANEL, 5, flaws=["missing_code", "padded_id", "repeated_row", "blank_row"])
    lines = made.text.splitlines()
    header = lines[0].split(",")
    for place in made.key.itertuples():
        cells = lines[place.row - 1].split(",")
        if place.column:
            assert cells[header.index(place.column)] == place.written
        elif place.flaw == "blank_row":
            assert set(cells) == {""}
        else:
            assert lines[place.row - 1] in (lines[place.row - 2], lines[place.row])


@pytest.mark.parametrize(
    ("flaw", "remedy", "message"),
    [
        ("conflict", "duplicates", "Conflicting rows"),
        ("date_flip", "order", "Sessions must increase within a client"),
        ("second_episode", "episode", "Conflicting rows"),
    ],
)
def test_without_the_remedy_reading_refuses(flaw, remedy, message, tmp_path):
    made = messy(PANEL, 3, flaws=[flaw])
    mapping = dict(made.key.attrs["mapping"])
    mapping.pop(remedy)
    if remedy == "episode":
        mapping.pop("duplicates")
    file = tmp_path / "export.csv"
    file.write_text(made.text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        ad.read_sessions(file, mapping)


def test_a_declared_range_refuses_the_placeholder(tmp_path):
    made = messy(ad.worlds.load("nairobi_like").simulate(seed=1), 3, flaws=["zero_placeholder"])
    with pytest.raises(DataError, match="outside its range"):
        read(made, tmp_path, ranges={"alliance": (0.5, 7), "symptoms": (-20, 60)})


def test_a_clean_export_is_the_panel(tmp_path):
    made = messy(PANEL, 3, flaws=[])
    assert made.key.empty
    back = read(made, tmp_path)
    np.testing.assert_allclose(back.arrays().Y, PANEL.arrays().Y, atol=0.005 + 1e-9)


def test_the_seed_decides():
    assert messy(PANEL, 3).text == messy(PANEL, 3).text
    pd.testing.assert_frame_equal(messy(PANEL, 3).key, messy(PANEL, 3).key)
    assert messy(PANEL, 3).text != messy(PANEL, 4).text


def test_therapists_dates_and_missing_scores_of_the_panel_are_kept(tmp_path):
    truth = ad.worlds.load("reciprocal").truth
    panel = ad.simulate(
        truth,
        60,
        8,
        therapists=ad.Therapists(5, np.eye(2) * 0.1),
        gaps=ad.Gaps(weeks=(1, 2)),
        missing=0.1,
        seed=1,
    )
    back = read(messy(panel, 1, flaws=[]), tmp_path)
    np.testing.assert_array_equal(np.isnan(back.arrays().Y), np.isnan(panel.arrays().Y))
    np.testing.assert_array_equal(back.frame["therapist"], panel.frame["therapist"].astype(str))
    np.testing.assert_allclose(
        np.diff(back.arrays().days, axis=1), np.diff(panel.arrays().days, axis=1)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flaws": ["typos"]}, "'typos' is no known flaw"),
        ({"each": 40}, "too few clients"),
        ({"each": 0}, "each must be at least 1"),
        ({"seed": -1}, "seed is -1; give a whole number from 0 up"),
    ],
)
def test_impossible_requests_are_refused(options, message):
    with pytest.raises(SpecificationError, match=message):
        messy(PANEL, **({"seed": 1} | options))


def test_too_few_dates_to_flip():
    panel = ad.simulate(ad.worlds.load("null").truth, 2, 2, seed=1)
    with pytest.raises(SpecificationError, match="Too few dates"):
        messy(panel, 1, flaws=["date_flip"])
