"""Open therapy groups: members who come and go, meetings that befall whoever is there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import alliancedyn as ad
from alliancedyn.errors import SpecificationError
from alliancedyn.simulate import Dynamics, Event, Gaps, Groups, simulate

MC_ERRORS = 4  # Monte Carlo standard errors a figure may be off what theory says
LAGS, OTHERS = [[0.3, 0.0], [-0.2, 0.4]], [[0.0, 0.0], [-0.3, 0.0]]
SHOCK = [[0.5, -0.2], [-0.2, 0.4]]
TRUTH = Dynamics(phi=LAGS, innovation_cov=np.eye(2), mean=(3.0, 10.0))


def open_panel(clients=3000, sessions=8, seed=1, truth=TRUTH, gaps=None, **options):
    groups = Groups(size=5, turnover=3, others=OTHERS, **options)
    return simulate(truth, clients, sessions, groups=groups, gaps=gaps, seed=seed)


def followed(frame):
    """Return each row with the client's next session, and who was there with whom: rows."""
    rows = frame.assign(alliance=frame["alliance"] - 3, symptoms=frame["symptoms"] - 10)
    there = rows.groupby(["group", "meeting"], observed=True)["alliance"]
    rows["count"] = there.transform("size")
    rows["others"] = (there.transform("sum") - rows["alliance"]) / (rows["count"] - 1).clip(1)
    after = rows[["client", "session", "alliance", "symptoms"]]
    after = after.assign(session=after["session"] - 1)
    return rows.merge(after, on=["client", "session"], suffixes=("", "_next"))


def test_seats_are_taken_one_after_the_other():
    frame = open_panel().frame
    there = frame.groupby(["group", "meeting"], observed=True)["client"].size()
    assert there.max() == 5, "never more than there are seats"
    assert frame.groupby("group", observed=True)["meeting"].min().eq(1).all()
    entries = frame[frame["session"] == 1].groupby("group", observed=True)["meeting"]
    assert (entries.nunique() > 3).mean() > 0.9, "members join at different meetings"
    steps = frame.groupby("client", observed=True)["meeting"].diff().dropna()
    assert (steps == 1).all(), "a client's sessions are the group's meetings in a row"


def test_own_and_others_effects_are_recovered_meeting_by_meeting():
    rows = followed(open_panel(6000).frame)
    rows = rows[rows["count"] > 1]
    X = rows[["alliance", "symptoms", "others"]].to_numpy()
    fit, *_ = np.linalg.lstsq(X, rows["symptoms_next"].to_numpy(), rcond=None)
    error = np.sqrt(np.diag(np.linalg.inv(X.T @ X)))
    assert np.all(np.abs(fit - [-0.2, 0.4, -0.3]) < MC_ERRORS * error)


def test_taking_session_numbers_for_meetings_loses_the_others():
    rows = followed(open_panel(6000).frame.assign(meeting=lambda frame: frame["session"]))
    X = rows[["alliance", "symptoms", "others"]].to_numpy()
    fit, *_ = np.linalg.lstsq(X, rows["symptoms_next"].to_numpy(), rcond=None)
    assert abs(fit[2]) < 0.15, "the truth is -.30"


def test_a_meeting_befalls_whoever_is_there_and_nobody_else():
    frame = open_panel(9000, shock_cov=SHOCK).frame
    rows = followed(frame)
    lagged = rows[["alliance", "symptoms"]].to_numpy() @ np.array(LAGS).T
    lagged += rows[["others"]].to_numpy() * [0.0, -0.3] * (rows[["count"]].to_numpy() > 1)
    moved = rows[["alliance_next", "symptoms_next"]].to_numpy() - lagged
    new = pd.DataFrame(moved, columns=["a", "s"]).assign(
        group=rows["group"].to_numpy(), meeting=rows["meeting"].to_numpy()
    )
    by_meeting = new.sort_values(["group", "meeting"]).groupby(["group", "meeting"], observed=True)
    two = by_meeting.filter(lambda rows: len(rows) > 1).groupby(["group", "meeting"], observed=True)
    first, second = (two[["a", "s"]].nth(i).to_numpy() for i in (0, 1))
    shared = first.T @ second / len(second)
    error = np.sqrt((2.25 + np.array(SHOCK) ** 2) / len(second))
    assert np.all(np.abs(shared - SHOCK) < MC_ERRORS * error)
    total = np.cov(moved.T)
    assert np.all(np.abs(np.diag(total) - [1.5, 1.4]) < 0.1)


def test_a_newcomer_meets_the_first_session_with_the_shock_of_that_meeting():
    frame = open_panel(9000, shock_cov=SHOCK).frame
    scores = frame.loc[frame["session"] == 1, ["alliance", "symptoms"]].to_numpy()
    expected = np.diag(TRUTH.within_cov) + np.diag(SHOCK)
    assert np.all(np.abs(scores.var(axis=0) - expected) < MC_ERRORS * expected * 2 / np.sqrt(9000))


def test_a_group_has_one_calendar():
    for groups in (Groups(4), Groups(4, turnover=3)):
        frame = simulate(TRUTH, 240, 6, groups=groups, gaps=Gaps(), seed=1).frame
        at = "meeting" if "meeting" in frame else "session"
        assert frame.groupby(["group", at], observed=True)["day"].nunique().eq(1).all()
        assert frame.groupby(at)["day"].nunique().max() > 1, "every group its own"


def test_an_event_of_the_group_is_that_of_the_meeting():
    event = Event(
        "rupture", (-1.0, 0.0), hazard=0.3, while_open=(-0.2, 0.0), repair=0.5, level="group"
    )
    truth = Dynamics(phi=LAGS, innovation_cov=np.eye(2), events=[event])
    frame = open_panel(600, truth=truth).frame
    assert frame.groupby(["group", "meeting"], observed=True)["rupture"].nunique().eq(1).all()
    assert 0.2 < frame["rupture"].mean() < 0.6


def test_few_clients_and_the_same_seed():
    small = open_panel(clients=3, sessions=4, seed=3)
    assert small.frame["group"].nunique() == 1
    assert small.frame.equals(open_panel(clients=3, sessions=4, seed=3).frame)
    assert open_panel(30).frame.equals(open_panel(30).frame)


def test_closed_groups_stay_what_they_were():
    options = {"others": OTHERS, "shock_cov": SHOCK}
    one = simulate(TRUTH, 40, 5, groups=Groups(5, **options), seed=2)
    assert one.frame.equals(
        simulate(TRUTH, 40, 5, groups=Groups(5, turnover=1, **options), seed=2).frame
    )
    assert "meeting" not in one.frame


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Groups(5, turnover=0), "turnover must be at least 1"),
        (lambda: Groups(5, turnover=1.5), "turnover is 1.5; give a whole number"),
        (
            lambda: simulate(
                TRUTH, 40, 4, groups=Groups(5, turnover=2, others=[[0.8, 0], [0, 0.8]]), seed=1
            ),
            "explosive",
        ),
        (
            # settles with six members, not with the two that an open group may have
            lambda: simulate(
                TRUTH, 40, 4, groups=Groups(6, turnover=2, others=[[-0.9, 0], [0, 0]]), seed=1
            ),
            "explosive",
        ),
        (
            lambda: simulate(
                Dynamics(phi=LAGS, innovation_cov=np.eye(2), variables=("meeting", "mood")),
                40, 4, groups=Groups(5, turnover=2),
            ),
            "a column 'meeting'",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(SpecificationError, match=message):
        make()


@pytest.mark.parametrize("turnover", [1, 2])
def test_members_with_lags_of_their_own_must_settle_together(turnover):
    """Each member settles alone, and the average group does; some groups do not."""
    truth = Dynamics(phi=0.5 * np.eye(2), innovation_cov=np.eye(2), phi_sd=np.full((2, 2), 0.25))
    groups = Groups(4, turnover=turnover, others=0.4 * np.eye(2))
    with pytest.raises(SpecificationError, match="Members carry each other away in"):
        simulate(truth, 120, 10, groups=groups, seed=1)
    calm = Dynamics(phi=0.3 * np.eye(2), innovation_cov=np.eye(2), phi_sd=np.full((2, 2), 0.1))
    Y = simulate(calm, 120, 60, groups=groups, seed=1).arrays().Y
    assert np.abs(Y).max() < 15


def test_a_world_file_may_hold_open_groups(tmp_path):
    file = tmp_path / "open.toml"
    file.write_text(
        "phi = [[0.3, 0], [-0.2, 0.4]]\ninnovation_cov = [[1, 0], [0, 1]]\n"
        "[groups]\nsize = 4\nturnover = 2\n",
        encoding="utf-8",
    )
    assert "meeting" in ad.worlds.read(file).simulate(clients=24, sessions=4, seed=1).frame
