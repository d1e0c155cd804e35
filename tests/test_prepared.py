"""Scores that were centered, copied down, filled with zeros: recognized, and no false alarm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from reference_files import cases_dir

import alliancedyn as ad
from alliancedyn.panel import SessionPanel

Array = NDArray[np.float64]
KINDS = {
    *("centered-on-client", "standardized-within-client", "centered-on-panel", "copied-scores"),
    *("constant-session", "joint-zeros"),
}


def scores(clients: int = 40, sessions: int = 12, seed: int = 1) -> pd.DataFrame:
    """Return scores that move with the client and from session to session."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "client": np.repeat([f"c{i}" for i in range(clients)], sessions),
            "session": np.tile(np.arange(1, sessions + 1), clients),
        }
    )
    level = np.repeat(rng.normal(0, 1, (clients, 2)), sessions, axis=0)
    state = level + 0.8 * rng.normal(0, 1, level.shape)
    frame["alliance"] = (26 + 5 * state[:, 0]).clip(1, 40).round(1)
    frame["symptoms"] = (9 + 4 * state[:, 1] - 0.3 * frame["session"]).clip(0, 27).round()
    return frame


def found(frame: pd.DataFrame, **options: Any) -> dict[str, Any]:
    panel = SessionPanel.from_frame(
        frame, client="client", session="session", variables=["alliance", "symptoms"], **options
    )
    return {issue.code: issue for issue in panel.issues if issue.code in KINDS}


def by_client(frame: pd.DataFrame) -> Any:
    return frame.groupby("client")["alliance"]


@pytest.mark.parametrize("seed", range(6))
def test_ordinary_scores_raise_no_alarm(seed: int) -> None:
    assert found(scores(seed=seed)) == {}
    rng = np.random.default_rng(seed)
    rough = scores(seed=seed)
    rough["alliance"] = (rough["alliance"] / 10).round()  # five answers, mostly repeated
    rough["symptoms"] = rng.choice([0, 0, 0, 1, 2, 3, 5, 9], len(rough))  # most people are well
    assert found(rough) == {}
    for shift in (2, 4, 6, 8):  # up to half of both scales at zero
        well = scores(seed=seed)
        well["symptoms"] = (well["symptoms"] - shift).clip(0)
        well["alliance"] = (well["symptoms"] + rng.normal(0, 3, len(rough)) - 2).clip(0).round()
        assert found(well) == {}
    flat = scores(seed=seed)
    flat["alliance"] = 0.5 * np.repeat(rng.normal(0, 1, 40), 12) - 0.5 * (flat["session"] - 6.5)
    assert found(flat) == {}


def test_what_is_centered_on_the_client_is_named() -> None:
    for digits in (1, 2, 9):
        frame = scores()
        frame["alliance"] = (frame["alliance"] - by_client(frame).transform("mean")).round(digits)
        assert found(frame)["centered-on-client"].count == 40
        frame["alliance"] += 20  # the grand mean put back
        assert list(found(frame)) == ["centered-on-client"]
    holes = frame.drop(frame.index[::37])  # some rows went missing afterwards
    assert "centered-on-client" in found(holes)
    frame["alliance"] = by_client(frame).transform(lambda own: (own - own.mean()) / own.std())
    assert list(found(frame)) == ["standardized-within-client"]


def test_what_is_centered_on_the_panel_is_noted() -> None:
    frame = scores()
    frame["alliance"] = (frame["alliance"] - frame["alliance"].mean()).round(2)
    assert "grand mean" in found(frame)["centered-on-panel"].message
    frame["alliance"] -= frame.groupby("session")["alliance"].transform("mean")
    noted = found(frame)["centered-on-panel"]
    assert noted.severity == "info"
    assert "session means" in noted.message


@pytest.mark.parametrize(("every", "word"), [(2, "second"), (4, "fourth")])
def test_scores_copied_down_are_named_with_their_rhythm(every: int, word: str) -> None:
    frame = scores()
    rated = (frame["session"] - 1) % every == 0
    frame["alliance"] = frame["alliance"].where(rated).ffill()
    named = found(frame)["copied-scores"]
    assert named.severity == "warning"
    assert named.count == pytest.approx((1 - 1 / every) * len(frame), rel=0.03)  # and a few ties
    assert f"rated at every {word} session" in named.message
    fit = ad.CLPM(means="equal").fit(
        SessionPanel.from_frame(
            frame, client="client", session="session", variables=["alliance", "symptoms"]
        ),
        strict=False,
    )
    assert named.message in fit.diagnostics["notes"]


def test_scores_carried_forward_without_a_rhythm_are_named() -> None:
    frame = scores()
    rated = (np.random.default_rng(4).random(len(frame)) < 0.5) | (frame["session"] == 1)
    frame["alliance"] = frame["alliance"].where(rated).ffill()
    assert "far more than come close to it" in found(frame)["copied-scores"].message


@pytest.mark.parametrize("ranges", [None, {"alliance": (0, 40), "symptoms": (0, 27)}])
@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_zeros_for_no_form_are_named(ranges: Any, scale: float) -> None:
    frame = scores()
    frame["alliance"] *= scale
    empty = np.random.default_rng(2).random(len(frame)) < 0.04
    frame.loc[empty, ["alliance", "symptoms"]] = 0.0
    named = found(frame, ranges=ranges)["joint-zeros"]
    assert named.count == empty.sum()
    assert "low score of 'alliance'" in named.message


def test_a_session_without_variance_is_named_with_the_remedy() -> None:
    frame = scores(sessions=6)
    frame.loc[frame["session"] == 1, "symptoms"] = 12
    named = found(frame)["constant-session"].message
    assert "'symptoms' are equal at session 1 (12)" in named
    assert "sessions=(2, 6)" in named
    frame.loc[frame["session"] == 4, "symptoms"] = 3
    assert "sessions=" not in found(frame)["constant-session"].message
    assert "sessions 1 (12) and 4 (3)" in found(frame)["constant-session"].message


@pytest.mark.reference
@pytest.mark.parametrize(
    ("file", "code", "says"),
    [
        ("centred_alliance", "centered-on-client", "every one of 150 clients"),
        ("copied_down", "copied-scores", "75% of the scores of 'alliance'"),
        ("constant_first_session", "constant-session", "sessions=(2, 6)"),
        *((name, None, "") for name in ("centred_none", "copied_down_truth", "partially_nested")),
        *((name, None, "") for name in ("every_second_both", "every_third_alliance")),
    ],
)
def test_cases_that_went_wrong(file: str, code: str | None, says: str) -> None:
    frame = pd.read_csv(cases_dir() / "bugs" / f"{file}.csv")
    named = found(frame)
    assert list(named) == ([] if code is None else [code])
    assert code is None or says in named[code].message
