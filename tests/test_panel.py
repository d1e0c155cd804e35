"""The panel: what it hands out, that it never changes, and what it counts."""

from __future__ import annotations

import importlib.util
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import alliancedyn as ad
from alliancedyn.errors import DataError
from alliancedyn.panel import Issue, SessionPanel
from alliancedyn.panel.issues import CODES, SEVERITIES

ROLES: dict[str, Any] = {
    "client": "client",
    "session": "session",
    "variables": {"alliance": "wai", "symptoms": "phq"},
}


def made(**columns: Any) -> pd.DataFrame:
    """Return 3 clients with 3, 2 and 4 sessions, one of them with a gap, and further columns."""
    frame = pd.DataFrame(
        {
            "client": ["B", "B", "B", "A10", "A10", "A2", "A2", "A2", "A2"],
            "session": [1, 2, 3, 1, 2, 2, 3, 5, 6],
            "wai": [1.0, 2, 3, 4, 5, 6, np.nan, 8, 9.5],
            "phq": [9, 8, 7, 6, 5, 4, 3, 2, 1],
        }
    )
    return frame.assign(**columns)


def panel_of(frame: pd.DataFrame | None = None, **options: Any) -> SessionPanel:
    return SessionPanel.from_frame(made() if frame is None else frame, **(ROLES | options))


def counts(panel: SessionPanel) -> dict[str, int]:
    return {issue.code: issue.count for issue in panel.issues}


def test_arrays_hold_every_score_at_its_place() -> None:
    panel = panel_of()
    arrays = panel.arrays()
    assert arrays.clients.tolist() == ["A2", "A10", "B"]  # 2 before 10
    assert arrays.sessions.tolist() == [1, 2, 3, 4, 5, 6]
    assert arrays.variables == ("alliance", "symptoms")
    nan = np.nan
    expected = [[nan, 6, nan, nan, 8, 9.5], [4, 5, *[nan] * 4], [1, 2, 3, *[nan] * 3]]
    np.testing.assert_array_equal(arrays.Y[:, :, 0], expected)
    np.testing.assert_array_equal(arrays.Y[0, :, 1], [nan, 4, 3, nan, 2, 1])
    assert np.isnan(arrays.days).all()
    assert (arrays.therapist == -1).all()
    assert arrays.therapists == ()
    assert (arrays.Y.dtype, arrays.sessions.dtype, arrays.therapist.dtype) == (
        np.float64,
        np.int64,
        np.int64,
    )
    assert panel.arrays() is arrays


def test_arrays_agree_with_pivoting_the_frame() -> None:
    panel = panel_of()
    for j, name in enumerate(panel.variables):
        wide = panel.frame.pivot(index="client", columns="session", values=name)
        wide = wide.reindex(index=panel.clients, columns=panel.sessions)
        np.testing.assert_array_equal(panel.arrays().Y[:, :, j], wide.to_numpy())


def test_the_callers_frame_is_untouched_and_copies_are_handed_out() -> None:
    frame = made(therapist="T1", date=pd.Timestamp("2024-01-01"))
    before = frame.copy(deep=True)
    panel = panel_of(frame, therapist="therapist", date="date", missing_codes=[5])
    pd.testing.assert_frame_equal(frame, before)
    frame.loc[0, "phq"] = 99
    handed = panel.frame
    handed.loc[0, "symptoms"] = 99
    panel.issues.clear()
    panel.timing["alliance"] = "before"
    panel.clients[0] = "x"
    flow = panel.flow
    flow.loc[0, "rows"] = 0
    assert panel.frame["symptoms"].max() < 10
    assert panel.issues
    assert panel.timing["alliance"] == "after"
    assert panel.clients[0] == "A2"
    assert panel.flow["rows"][0] == 9
    with pytest.raises(AttributeError):
        panel.variables = ("a",)  # type: ignore[misc]


def test_columns_stand_in_canonical_order() -> None:
    extra = made(s="S", th="T", e="1", d=range(9), dt=pd.Timestamp("2024-01-01"), arm_="x", age=40)
    extra["dt"] += pd.to_timedelta(extra["d"], "D")
    panel = panel_of(
        extra,
        site="s",
        therapist="th",
        episode="e",
        day="d",
        date="dt",
        arm="arm_",
        covariates=["age"],
    )
    assert list(panel.frame) == [
        *("client", "session", "alliance", "symptoms", "therapist", "date", "day", "site"),
        *("episode", "arm", "age"),
    ]
    assert panel.roles == {
        **dict.fromkeys(("client", "session", "therapist", "date", "day", "site"), True),
        **dict.fromkeys(("episode", "arm"), True),
        "group": False,
    }


def test_days_count_from_the_first_dated_row() -> None:
    dates = [f"2024-02-{day:02d}" for day in (1, 8, 20, 2, 9, 3, 10, 24, 28)]
    dates[5] = ""  # the first row of A2 has no date
    days = panel_of(made(date=dates), date="date").arrays().days
    np.testing.assert_array_equal(days[0], [np.nan, np.nan, 0, np.nan, 14, 18])
    np.testing.assert_array_equal(days[2], [0, 7, 19, *[np.nan] * 3])
    elapsed = panel_of(made(t=[3, 10, 22, 0, 7, 5, 12, 26, 30.5]), day="t").arrays().days
    np.testing.assert_array_equal(elapsed[0], [np.nan, 0, 7, np.nan, 21, 25.5])


def test_the_most_frequent_therapist_stands_for_the_client() -> None:
    therapists = ["T2", "T1", "T1", "T10", "T2", "T9", None, "T2", "T2"]
    panel = panel_of(made(th=therapists), therapist="th")
    arrays = panel.arrays()
    assert arrays.therapists == ("T1", "T2", "T9", "T10")
    assert [arrays.therapists[code] for code in arrays.therapist] == ["T2", "T10", "T1"]
    assert panel.client_values("therapist").tolist() == ["T2", "T10", "T1"]
    assert counts(panel)["therapist-switches"] == 3
    assert counts(panel)["missing-therapist"] == 1
    assert panel.frame["therapist"].isna().sum() == 1


def test_an_unknown_therapist_is_none() -> None:
    panel = panel_of(made(th=["T1"] * 3 + [None] * 6), therapist="th")
    assert panel.client_values("therapist").tolist() == [None, None, "T1"]
    assert panel.arrays().therapist.tolist() == [-1, -1, 0]


def test_client_values_are_the_one_known() -> None:
    frame = made(
        age=[np.nan, 30, 30, 40, 40, 50, 50, 50, 50],
        years=[np.nan, 30, 31, 40, 40, 50, 50, 50, 50],
        arm=["x", "x", "x", None, None, None, "y", "y", "y"],
        sex=list("fffffmmmm"),
    )
    panel = panel_of(frame, arm="arm", covariates=["age", "years", "sex"])
    assert panel.client_values("age").tolist() == [50, 40, 30]
    assert panel.client_values("age").dtype == float
    with pytest.raises(
        DataError, match=r"'years' changes over sessions for 'B' \(1 of 3 clients\)"
    ):
        panel.client_values("years")
    assert panel.client_values("arm").tolist() == ["y", None, "x"]
    assert panel.client_values("sex").tolist() == ["m", "f", "f"]
    assert counts(panel)["varying-client-column"] == 1
    for name in ("group", "nonsense", "alliance"):
        with pytest.raises(DataError, match=f"no column '{name}' per client"):
            panel.client_values(name)


def test_roles_and_timing_default_by_name_and_say_so() -> None:
    panel = panel_of()
    assert (panel.process, panel.outcome) == ("alliance", "symptoms")
    assert panel.timing == {"alliance": "after", "symptoms": "before"}
    assert {"default-roles", "default-timing"} <= set(counts(panel))
    other = panel_of(variables={"credibility": "wai", "distress": "phq"})
    assert (other.process, other.outcome) == ("credibility", "distress")
    assert other.timing == {}
    assert counts(other)["unknown-timing"] == 2
    turned = panel_of(process="symptoms")
    assert (turned.process, turned.outcome) == ("symptoms", "alliance")
    said = panel_of(
        process="alliance", outcome="symptoms", timing={"alliance": "before", "symptoms": "unknown"}
    )
    assert said.timing == {"alliance": "before"}
    assert not {"default-roles", "default-timing"} & set(counts(said))


def test_what_is_counted() -> None:
    rows = [
        *[("A", t, 5.0, 10.0 + t, "T1") for t in (1, 2, 3)],
        *[("B", t, 5.0 - t, 10.0, "T1") for t in (1, 2, 5)],
        ("C", 2, 3.0, 4.0, "T1"),
        ("D", 1, np.nan, np.nan, "T1"),
        ("D", 4, np.nan, np.nan, "T1"),
    ]
    frame = pd.DataFrame(rows, columns=["client", "session", "wai", "phq", "th"])
    panel = panel_of(frame, therapist="th", ranges={"wai": (0, 5), "symptoms": (4, 27)})
    found = counts(panel)
    assert found["single-session-clients"] == 1
    assert found["session-gaps"] == 4
    assert found["late-start"] == 1
    assert found["no-score-clients"] == 1
    assert found["rows-without-scores"] == 2
    assert found["empty-sessions"] == 1  # nobody was scored at session 4
    assert found["ceiling"] == 3  # 3 of 7 alliance scores at 5
    assert "floor" not in found  # 1 of 7 symptom scores at 4
    constant = [i.message for i in panel.issues if i.code == "constant-series"]
    assert len(constant) == 2
    assert "1 of the 2 clients" in constant[0]
    assert "therapist-switches" not in found


def test_findings_of_ids(recwarn: pytest.WarningsRecorder) -> None:
    frame = pd.DataFrame(
        {
            "client": ["007", "007", "12", "12", "c 1", "c 1", "C1", "C1"],
            "session": [1, 2] * 4,
            "wai": range(8),
            "phq": range(8),
        }
    )
    found = counts(panel_of(frame))
    assert found["lost-leading-zeros"] == 1
    assert found["case-differing-ids"] == 2
    frame["client"] = [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]
    panel = panel_of(frame)
    assert panel.clients.tolist() == ["1", "2", "3", "4"]
    assert counts(panel)["float-ids"] == 8
    assert not recwarn.list


def test_episodes_are_series_of_their_own() -> None:
    frame = made()
    frame.loc[2, "session"] = 1
    frame["care"] = [1, 1, 2, 1, 1, 1, 1, 1, 1]
    panel = panel_of(frame, episode="care")
    assert panel.clients.tolist() == ["A2", "A10", "B/1", "B/2"]
    assert counts(panel)["repeated-episodes"] == 1
    assert panel.client_values("episode").tolist() == ["1", "1", "1", "2"]


@pytest.mark.parametrize(
    ("policy", "scores"),
    [
        ("first", [1.0, 9.0]),
        ("last", [3.0, np.nan]),
        ("mean", [2.0, 8.0]),
        ("most_complete", [1.0, 9.0]),
    ],
)
def test_policies_for_conflicting_rows(policy: str, scores: list[float]) -> None:
    frame = pd.concat([made(), made().iloc[[0, 0, 5]]], ignore_index=True)
    frame["phq"] = frame["phq"].astype(float)
    frame.loc[[9, 10], ["wai", "phq"]] = [[2.0, 7.0], [3.0, np.nan]]
    panel = panel_of(frame, duplicates=policy)
    row = panel.frame[(panel.frame["client"] == "B") & (panel.frame["session"] == 1)]
    np.testing.assert_array_equal(row[["alliance", "symptoms"]].to_numpy()[0], scores)
    assert counts(panel)["duplicates-resolved"] == 1
    assert counts(panel)["duplicates-removed"] == 1
    assert panel.flow["rows"].tolist()[:3] == [12, 12, 9]


def test_sessions_by_date() -> None:
    dates = pd.to_datetime([f"2024-02-{d:02d}" for d in (8, 1, 20, 2, 9, 3, 10, 24, 28)])
    numbered = panel_of(made(date=dates), session=None, date="date", order="date")
    assert numbered.frame["session"].tolist() == [1, 2, 3, 4, 1, 2, 1, 2, 3]
    assert numbered.frame["alliance"].tolist()[-3:] == [2, 1, 3]
    dealt = panel_of(made(date=dates), date="date", order="date")
    assert dealt.frame["session"].tolist() == [2, 3, 5, 6, 1, 2, 1, 2, 3]  # gaps stay
    assert dealt.frame["alliance"].tolist()[-3:] == [2, 1, 3]
    assert counts(dealt)["sessions-by-date"] == 2
    kept = panel_of(made(date=dates), date="date", order="session")
    assert kept.frame["alliance"].tolist()[-3:] == [1, 2, 3]
    assert counts(kept)["dates-out-of-order"] == 1


def test_numbering_may_start_anywhere() -> None:
    frame = made()
    frame["session"] -= 2
    panel = panel_of(frame)
    assert panel.sessions.tolist() == [-1, 0, 1, 2, 3, 4]
    assert counts(panel)["numbering-start"] == 1


def test_new_scores_keep_everything_else() -> None:
    panel = panel_of(made(th="T1"), therapist="th")
    before = panel.frame
    scores = before[["symptoms", "alliance"]] - 1
    note = Issue("scores-changed", "info", "One point was taken off.")
    changed = panel.with_scores(scores.set_axis(range(9)[::-1]), note)  # by position
    np.testing.assert_array_equal(changed.frame["alliance"], before["alliance"] - 1)
    np.testing.assert_array_equal(changed.arrays().Y, panel.arrays().Y - 1)
    assert changed.issues == [*panel.issues, note]
    assert changed.frame["therapist"].tolist() == before["therapist"].tolist()
    pd.testing.assert_frame_equal(panel.frame, before)
    with pytest.raises(DataError, match=r"as panel\.frame has"):
        panel.with_scores(scores[["alliance"]], note)
    with pytest.raises(DataError, match=r"as panel\.frame has"):
        panel.with_scores(scores.head(3), note)
    with pytest.raises(DataError, match="infinite"):
        panel.with_scores(scores.assign(alliance=np.inf), note)


def test_a_subset_keeps_the_clients_and_their_order() -> None:
    panel = panel_of(made(th=list("abcabcabc")), therapist="th")
    part = panel.subset(["B", "A2"])
    assert part.clients.tolist() == ["A2", "B"]
    whole, cut = panel.arrays(), part.arrays()
    np.testing.assert_array_equal(cut.Y, whole.Y[[0, 2]])
    for code, mine in zip(whole.therapist[[0, 2]], cut.therapist, strict=True):
        assert whole.therapists[code] == cut.therapists[mine]
    for clients in ([], ["nobody"]):
        with pytest.raises(DataError):
            panel.subset(clients)


def test_it_shows_itself_and_pickles() -> None:
    panel = panel_of()
    panel.arrays()
    said = repr(panel)
    assert "\n" not in said
    assert said.startswith("SessionPanel(3 clients, sessions 1-6, 9 rows; alliance (after)")
    assert "<table" in panel._repr_html_()
    again = pickle.loads(pickle.dumps(panel))
    pd.testing.assert_frame_equal(again.frame, panel.frame)
    np.testing.assert_array_equal(again.arrays().Y, panel.arrays().Y)
    assert again.issues == panel.issues
    assert len(pickle.dumps(panel)) < len(pickle.dumps((panel, panel.arrays())))


def test_the_report_shows_flow_issues_and_facts() -> None:
    panel = panel_of()
    report = ad.check(panel)
    assert list(report.table) == ["severity", "code", "message", "count"]
    weights = report.table["severity"].map(SEVERITIES.index)[: len(panel.issues)]
    assert weights.is_monotonic_increasing
    assert len(report.table) == len(panel.issues) + 2
    facts = report.variables
    assert facts.loc["alliance", ["scores", "clients", "fewest", "most", "pairs"]].tolist() == [
        *(8, 3, 2, 3, 4)
    ]
    assert facts.loc["alliance", "missing_percent"] == pytest.approx(100 / 9)
    assert facts.loc["symptoms", "sd"] == pytest.approx(np.std(range(1, 10), ddof=1))
    pd.testing.assert_frame_equal(report.flow, panel.flow)
    for words in ("9 rows, 3 clients", "default-timing", "median 3", panel.summary):
        assert words in report.text
    assert str(report) == report.text
    assert repr(report) == "QualityReport(0 errors, 3 warnings, 3 notes)"
    assert "<table" in report._repr_html_()


def test_every_issue_has_a_documented_code() -> None:
    frame = made(th=list("abcabcabc"), date=pd.Timestamp("2024-01-01"))
    panel = panel_of(frame, therapist="th", date="date")
    assert {issue.code for issue in panel.issues} <= set(CODES)
    assert {issue.severity for issue in panel.issues} <= set(SEVERITIES)
    assert counts(panel)["same-day-sessions"] == 6


def test_columns_of_any_type() -> None:
    frame = made()
    frame["session"] = pd.array(frame["session"], "Int64")
    frame["wai"] = pd.array(frame["wai"], "Float64")
    frame["phq"] = frame["phq"].astype(str).astype("category")
    frame["client"] = frame["client"].astype("category")
    frame["date"] = pd.date_range("2024-01-01 23:00", periods=9, tz="Europe/Stockholm")
    panel = panel_of(frame, date="date")
    np.testing.assert_array_equal(panel.arrays().Y, panel_of().arrays().Y)
    assert panel.frame["date"].dt.hour.unique().tolist() == [23]


def test_frames_of_other_libraries_by_narwhals() -> None:
    if importlib.util.find_spec("narwhals") is None:
        pytest.skip("needs narwhals")
    arrow = pytest.importorskip("pyarrow")
    table = arrow.Table.from_pandas(made(), preserve_index=False)
    np.testing.assert_array_equal(panel_of(table).arrays().Y, panel_of().arrays().Y)


def test_narwhals_is_named_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alliancedyn.panel.table.find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install narwhals"):
        panel_of({"client": []})  # type: ignore[arg-type]


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    """Draw a small panel with gaps and blanks; every client has two sessions or more."""
    clients = draw(st.integers(1, 5))
    rows = []
    for client in range(clients):
        sessions = draw(st.sets(st.integers(-2, 9), min_size=2, max_size=5))
        for session in sorted(sessions):
            scores = [draw(st.one_of(st.none(), st.integers(1, 6))) for _ in range(2)]
            rows.append((f"c{client}", session, *scores))
    frame = pd.DataFrame(rows, columns=["client", "session", "wai", "phq"])
    frame[["wai", "phq"]] = frame[["wai", "phq"]].astype(float)
    frame.loc[0, ["wai", "phq"]] = 3.0
    return frame


@given(frames(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_shuffling_rows_changes_nothing(frame: pd.DataFrame, random: Any) -> None:
    order = list(range(len(frame)))
    random.shuffle(order)
    left, right = panel_of(frame), panel_of(frame.iloc[order])
    pd.testing.assert_frame_equal(left.frame, right.frame)
    np.testing.assert_array_equal(left.arrays().Y, right.arrays().Y)
    assert counts(left) == counts(right)


@given(frames())
@settings(deadline=None, max_examples=60)
def test_relabelling_clients_changes_nothing_but_their_names(frame: pd.DataFrame) -> None:
    names = {f"c{i}": f"person {9 - i}" for i in range(6)}
    left = panel_of(frame)
    right = panel_of(frame.assign(client=frame["client"].map(names)))
    place = [right.clients.tolist().index(names[client]) for client in left.clients]
    np.testing.assert_array_equal(left.arrays().Y, right.arrays().Y[place])
    assert counts(left) == counts(right)


@given(frames())
@settings(deadline=None, max_examples=40)
def test_repeating_rows_changes_nothing_but_the_flow(frame: pd.DataFrame) -> None:
    left, right = panel_of(frame), panel_of(pd.concat([frame, frame]))
    pd.testing.assert_frame_equal(left.frame, right.frame)
    assert counts(right)["duplicates-removed"] == len(frame)


def test_the_page_lists_every_code() -> None:
    page = (Path(__file__).parents[1] / "docs" / "data.md").read_text("utf-8")
    listed = re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", page, re.MULTILINE)
    assert {code: words for code, words in listed if "-" in code or code in CODES} == CODES
