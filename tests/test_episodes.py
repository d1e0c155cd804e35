"""Time that is not there: pauses, episodes, and the people behind several series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from reference_files import cases_dir

import alliancedyn as ad
from alliancedyn.errors import DataError
from alliancedyn.panel import SessionPanel

NAMED = {"alliance": "wai", "symptoms": "phq"}


def weekly(*starts: int, sessions: int = 4) -> list[int]:
    """Return days of weekly sessions from each start on."""
    return [start + 7 * i for start in starts for i in range(sessions)]


def treated(days: dict[str, list[int]], **columns: Any) -> pd.DataFrame:
    """Return scores of people on their days, numbered on over every pause."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        [(who, i + 1, day) for who, mine in days.items() for i, day in enumerate(mine)],
        columns=["id", "nr", "day"],
    )
    frame["wai"], frame["phq"] = rng.normal(4, 1, len(frame)), rng.normal(10, 3, len(frame))
    frame["date"] = pd.Timestamp("2023-01-02") + pd.to_timedelta(frame["day"], "D")
    return frame.assign(**columns)


def read(frame: pd.DataFrame, **options: Any) -> SessionPanel:
    said: dict[str, Any] = {"client": "id", "session": "nr", "variables": NAMED, "date": "date"}
    return SessionPanel.from_frame(frame, **(said | options))


def codes(panel: SessionPanel) -> dict[str, Any]:
    return {issue.code: issue for issue in panel.issues}


PEOPLE = {"a": weekly(0, 700), "b": weekly(0), "c": weekly(5, 400, 1000), "d": weekly(30)}


@pytest.mark.parametrize("options", [{}, {"session": None, "order": "date"}, {"order": "date"}])
def test_a_pause_is_never_closed_in_silence(options: dict[str, Any]) -> None:
    found = codes(read(treated(PEOPLE), **options))["long-pauses"]
    assert (found.severity, found.count) == ("warning", 3)
    assert "3 pauses of 2 of 4 persons" in found.message
    assert "longest 679 days, where 7 are usual" in found.message
    assert "add episode_gap = 90" in found.message


def test_days_serve_like_dates() -> None:
    by_date = read(treated(PEOPLE), episode_gap=90).frame
    by_day = read(treated(PEOPLE), episode_gap=90, date=None, day="day").frame
    pd.testing.assert_frame_equal(by_date.drop(columns="date"), by_day.drop(columns="day"))


@pytest.mark.parametrize(
    "days",
    [
        {"a": weekly(0, sessions=9), "b": [0, 14, 28, 70, 84]},  # six weeks of holidays
        {"a": [0, 30, 61, 150, 180, 211], "b": [0, 31, 62, 92]},  # monthly, two missed
        {"a": [0, 0, 1, 2, 20, 21], "b": [0, 1, 2, 3]},  # a diary with three weeks off
        {"a": [0, 400], "b": [0, 380], "c": [0, 390, 800]},  # yearly
    ],
)
def test_ordinary_intervals_are_no_pauses(days: dict[str, list[int]]) -> None:
    assert "long-pauses" not in codes(read(treated(days)))


def test_numbers_left_free_over_the_time_are_no_pause() -> None:
    frame = treated({"a": weekly(0, 140), "b": weekly(0, sessions=9)})
    frame.loc[(frame["id"] == "a") & (frame["nr"] > 4), "nr"] += 16
    assert "long-pauses" not in codes(read(frame))
    frame.loc[(frame["id"] == "a") & (frame["nr"] > 4), "nr"] -= 15
    assert codes(read(frame))["long-pauses"].count == 1


def test_the_gap_opens_episodes_that_count_from_one() -> None:
    panel = read(treated(PEOPLE), episode_gap=90)
    assert panel.clients.tolist() == ["a/1", "a/2", "b", "c/1", "c/2", "c/3", "d"]
    assert panel.persons.tolist() == ["a", "a", "b", "c", "c", "c", "d"]
    assert (panel.n_persons, panel.n_clients) == (4, 7)
    assert panel.sessions.tolist() == [1, 2, 3, 4]
    assert panel.frame["episode"].tolist() == [*"1111222211111111222233331111"]
    assert np.nanmax(panel.arrays().days) == 21
    found = codes(panel)
    assert found["opened-episodes"].count == 3
    assert "after up to 679 days" in found["opened-episodes"].message
    assert "long-pauses" not in found
    assert found["repeated-episodes"].count == 2


def test_numbers_that_start_again_need_no_column() -> None:
    frame = treated(PEOPLE)
    frame["own"] = frame.groupby("id").cumcount() % 4 + 1
    with pytest.raises(DataError, match="the days of the pause before it: episode_gap=90"):
        read(frame, session="own")
    ran_on = read(frame, episode_gap=90)
    pd.testing.assert_frame_equal(read(frame, session="own", episode_gap=90).frame, ran_on.frame)
    by_date = read(frame, session=None, order="date", episode_gap=90)
    pd.testing.assert_frame_equal(by_date.frame, ran_on.frame)


def test_an_episode_of_a_column_is_parted_further() -> None:
    frame = treated({"a": weekly(0, 700), "b": weekly(0)}, ep=[*"11112222", *"1111"])
    frame.loc[frame["id"] == "a", "nr"] = [1, 2, 3, 4, 1, 2, 3, 4]
    frame.loc[7, "date"] += pd.Timedelta(days=200)
    panel = read(frame, episode="ep", episode_gap=90)
    assert panel.clients.tolist() == ["a/1", "a/2.1", "a/2.2", "b"]
    assert panel.persons.tolist() == ["a", "a", "a", "b"]
    assert panel.frame["episode"].tolist()[6:8] == ["2.1", "2.2"]
    assert panel.frame["session"].tolist()[7] == 1


def test_sessions_without_a_date_need_a_side() -> None:
    frame = treated(PEOPLE)
    frame["date"] = frame["date"].astype(object)
    frame.loc[[1, 9], "date"] = None  # inside the first episode of a; b has one only
    assert read(frame, episode_gap=90).clients.tolist()[:3] == ["a/1", "a/2", "b"]
    frame.loc[4, "date"] = None  # the first session after the pause, or the last before it
    with pytest.raises(DataError, match="on which side of a pause the sessions without a date"):
        read(frame, episode_gap=90)


def test_a_gap_needs_times() -> None:
    with pytest.raises(DataError, match="episode_gap needs dates or elapsed days"):
        read(treated(PEOPLE), date=None, episode_gap=90)
    quiet = codes(read(treated({"a": weekly(0), "b": weekly(3)}), episode_gap=90))
    assert quiet["opened-episodes"].count == 0


def test_persons_and_episodes_are_both_counted() -> None:
    panel = read(treated(PEOPLE), episode_gap=90)
    assert panel.people == "4 persons with 7 episodes"
    assert panel.people in repr(panel)
    assert panel.flow["persons"].tolist() == [4] * 5
    text = ad.check(panel).text
    assert "28 rows, 4 persons with 7 episodes" in text
    assert "7 episodes with 4 to 4 scores" in text
    fewer = ad.plot.spaghetti(panel, "alliance", clients=3).get_title("left")
    assert fewer.replace("\n", " ") == "3 of 7 episodes at random, and the mean of all"
    assert "persons" not in read(treated({"a": weekly(0), "b": weekly(2)})).flow


def test_days_between_sessions_are_shown() -> None:
    report = ad.check(read(treated({"a": weekly(0, sessions=5), "b": [0, 10, 40]})))
    assert report.spacing is not None
    assert (report.spacing.intervals, report.spacing.median, report.spacing.longest) == (6, 7, 30)
    assert "Days between sessions: median 7, 5th to 95th percentile 7 to 25, longest 30" in (
        report.text
    )
    assert "session-spacing" in report.table["code"].tolist()
    undated = read(treated(PEOPLE), date=None)
    assert ad.check(undated).spacing is None


def test_a_fit_over_a_pause_says_so() -> None:
    people = {f"p{i}": weekly(0, 600) if i % 3 == 0 else weekly(i) for i in range(30)}
    fit = ad.CLPM(means="equal").fit(read(treated(people)), strict=False)
    assert any("so effects are lagged over it" in note for note in fit.diagnostics["notes"])
    assert fit.sample.people == "30 clients"
    by_days = ad.ContinuousTime(time="days", means="equal").fit(read(treated(people)), strict=False)
    assert not any("lagged over" in note for note in by_days.diagnostics["notes"])
    parted = ad.CLPM(means="equal").fit(read(treated(people), episode_gap=90), strict=False)
    assert not any("lagged over" in note for note in parted.diagnostics["notes"])
    assert parted.sample.people == "30 persons with 40 episodes"
    assert "30 persons with 40 episodes" in str(parted)


@pytest.mark.reference
def test_two_treatments_are_one_case_however_they_are_told_apart() -> None:
    cases = cases_dir()
    mappings: Path = cases / "mappings"
    by_column = ad.read_sessions(cases / "7_two_episodes.csv", mappings / "7.toml")
    dates_only = cases / "7c_two_episodes_dates_only.csv"
    by_gap = ad.read_sessions(dates_only, mappings / "7c.toml", episode_gap=90)
    pd.testing.assert_frame_equal(by_gap.frame, by_column.frame)
    assert by_gap.persons.tolist() == by_column.persons.tolist()
    assert by_gap.people == "70 persons with 95 episodes"
    backward = ad.compare_directions(ad.RICLPM().fit(by_gap, strict=False)).backward
    assert backward.value == pytest.approx(-0.117, abs=0.0006)  # -.257 where the pause is closed
    closed = codes(ad.read_sessions(dates_only, mappings / "7c.toml"))["long-pauses"]
    assert "25 pauses of 25 of 70 persons" in closed.message
    assert "longest 900 days" in closed.message


def test_therapists_are_told_of_persons_and_episodes() -> None:
    rng = np.random.default_rng(5)
    rows = [
        {"client": who, "episode": episode, "session": t, "therapist": f"T{who % 4}",
         "alliance": rng.normal(), "symptoms": rng.normal()}
        for who in range(24) for episode in range(1, 2 + (who < 8)) for t in range(1, 6)
    ]  # fmt: skip
    panel = ad.SessionPanel.from_frame(
        pd.DataFrame(rows), client="client", session="session", episode="episode",
        therapist="therapist", variables=["alliance", "symptoms"],
    )  # fmt: skip
    part = ad.therapist_partition(panel)
    assert (part.clients, part.persons) == (32, 24)
    assert "24 persons with 32 episodes" in part.text
    assert "24 persons with 32 episodes" in repr(part)
