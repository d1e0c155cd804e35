"""Make the bundled data sets: synthetic clients, fixed seeds, known truth.

    python simulations/make_datasets.py [DIRECTORY]

writes ``example.csv``, ``trial.csv`` and the true parameters of both into DIRECTORY, by default
the package's own data. No person stands behind any row.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from alliancedyn.simulate import Dropout, Dynamics, Gaps, GrowthCurve, simulate_scores
from alliancedyn.simulate.arguments import factor
from alliancedyn.simulate.observe import hide_scores, last_sessions

HERE = Path(__file__).resolve().parent
BUNDLED = HERE.parent / "alliancedyn" / "data"

# Example: a practice with routine monitoring. WAI-SR as the mean of 12 items (1-5), PHQ-9 (0-27).
EXAMPLE_SEED = 20260101
EXAMPLE_CLIENTS, EXAMPLE_SESSIONS, EXAMPLE_THERAPISTS = 220, 16, 24
EXAMPLE = Dynamics.time_ordered(
    phi_alliance=0.30,
    phi_symptoms=0.40,
    forward=-0.55,
    backward=-0.011,
    alliance_var=0.14,
    symptoms_var=7.0,
    between_cov=[[0.27, -1.45], [-1.45, 18.0]],
    mean=(3.9, 15.5),
    trend=GrowthCurve(slope=(0.25, -5.0), shape="exponential", rate=0.25),
)
EXAMPLE_THERAPIST_COV = np.array([[0.03, -0.04], [-0.04, 0.6]])

# Trial: two arms, twelve weekly sessions. WAI-SR total (12-60), CORE-10 total (0-40).
TRIAL_SEED = 20260102
TRIAL_CLIENTS, TRIAL_SESSIONS = 120, 12
TRIAL = Dynamics.time_ordered(
    phi_alliance=0.35,
    phi_symptoms=0.45,
    forward=-0.16,
    backward=-0.11,
    alliance_var=9.0,
    symptoms_var=12.0,
    between_cov=[[16.0, -8.0], [-8.0, 20.0]],
    mean=(41.0, 22.0),
    trend=GrowthCurve(slope=(0.3, -0.6)),
)
TRIAL_SEVERITY = np.array([-1.0, 2.5])  # score points per SD of severity
TRIAL_ARM = np.array([1.5, 0.0])  # score points, "feedback" against "usual"


def main(directory: Path = BUNDLED) -> None:
    """Write both data sets and their truths into ``directory``."""
    example = make_example()
    trial = make_trial()
    write(example, directory / "example.csv")
    write(trial, directory / "trial.csv")
    stable = EXAMPLE.between_cov + EXAMPLE_THERAPIST_COV
    write_truth(EXAMPLE, stable, EXAMPLE_SESSIONS, directory / "example_truth.csv")
    stable = TRIAL.between_cov + np.outer(TRIAL_SEVERITY, TRIAL_SEVERITY)
    stable = stable + np.outer(TRIAL_ARM, TRIAL_ARM) / 4  # half of the clients in each arm
    centered = dataclasses.replace(TRIAL, mean=TRIAL.mean + TRIAL_ARM / 2)
    write_truth(centered, stable, TRIAL_SESSIONS, directory / "trial_truth.csv")


def make_example() -> pd.DataFrame:
    """Simulate the practice, then its records with their flaws."""
    streams = [
        np.random.default_rng(child) for child in np.random.SeedSequence(EXAMPLE_SEED).spawn(4)
    ]
    for_scores, for_therapists, for_observation, for_flaws = streams
    codes = for_therapists.integers(EXAMPLE_THERAPISTS, size=EXAMPLE_CLIENTS)
    effects = for_therapists.standard_normal((EXAMPLE_THERAPISTS, 2))
    effects = effects @ factor(EXAMPLE_THERAPIST_COV).T
    scores = simulate_scores(
        EXAMPLE,
        EXAMPLE_CLIENTS,
        EXAMPLE_SESSIONS,
        for_scores,
        shifts=effects[codes],
    )
    scores[:, :, 0] = np.clip(np.rint(scores[:, :, 0] * 12) / 12, 1.0, 5.0)
    scores[:, :, 1] = np.clip(np.rint(scores[:, :, 1]), 0, 27)
    scores = hide_scores(scores, 0.06, for_observation)
    leave = Dropout("well_enough", rate=0.55, first=4, level=10.0)
    last = last_sessions(scores[:, :, 1], leave, for_observation)
    booked = for_observation.integers(8, EXAMPLE_SESSIONS + 5, size=EXAMPLE_CLIENTS)
    last = np.minimum(last, booked)  # treatments end as agreed after 8 to 16 sessions
    return flawed(scores, last, codes, for_observation, for_flaws)


def flawed(
    scores: np.ndarray,
    last: np.ndarray,
    codes: np.ndarray,
    for_observation: np.random.Generator,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Turn scores into an export as practices have them; see ``example.md`` for the list."""
    clients, sessions, _ = scores.shape
    order = rng.permutation(clients)
    last[order[:9]] = 1  # came once
    constant = [client for client in order if last[client] >= 8][:2]
    scores[constant, :, 0] = np.where(np.isnan(scores[constant, :, 0]), np.nan, 5.0)
    weeks = Gaps((1, 2, 3, 5), (0.68, 0.22, 0.06, 0.04)).draw(clients, sessions, for_observation)
    intake = for_observation.integers(0, 600, size=clients)
    therapist = np.repeat(codes[:, None], sessions, axis=1)
    for client in [client for client in order if last[client] >= 6][2:9]:
        therapist[client, rng.integers(2, 5) :] = (codes[client] + 1) % EXAMPLE_THERAPISTS
    attended = np.arange(1, sessions + 1) <= last[:, None]
    attended[:, 1:] &= rng.random((clients, sessions - 1)) >= 0.04  # no forms kept that day
    who, when = np.nonzero(attended)
    day = (intake[:, None] + 7 * weeks)[who, when].astype(int)
    frame = pd.DataFrame(
        {
            "client_id": [f"C{client + 1:03d}" for client in who],
            "session_no": when + 1,
            "date": (np.datetime64("2022-01-10") + day).astype(str),
            "therapist_id": [f"T{code + 1:02d}" for code in therapist[who, when]],
            "wai_sr": texts(scores[who, when, 0], "{:.2f}"),
            "phq9": texts(scores[who, when, 1], "{:.0f}"),
        }
    )
    skipped = (frame["phq9"] == "") & (rng.random(len(frame)) < 0.6)
    frame.loc[skipped, "phq9"] = "-9"
    padded = rng.choice(len(frame), size=14, replace=False)
    frame.loc[padded, "client_id"] += " "
    twice = frame.iloc[np.sort(rng.choice(len(frame), size=6, replace=False))]
    return pd.concat([frame, twice]).sort_index(kind="stable")


def make_trial() -> pd.DataFrame:
    """Simulate the trial: complete, weekly, with an arm and a severity at intake."""
    streams = [
        np.random.default_rng(child) for child in np.random.SeedSequence(TRIAL_SEED).spawn(3)
    ]
    for_scores, for_severity, for_arm = streams
    severity = np.round(for_severity.standard_normal(TRIAL_CLIENTS), 2)
    arm = for_arm.permutation(np.arange(TRIAL_CLIENTS) % 2)
    shifts = np.outer(severity, TRIAL_SEVERITY) + np.outer(arm, TRIAL_ARM)
    scores = simulate_scores(TRIAL, TRIAL_CLIENTS, TRIAL_SESSIONS, for_scores, shifts=shifts)
    scores = np.clip(np.rint(scores), [12, 0], [60, 40]).astype(int)
    who, when = np.divmod(np.arange(TRIAL_CLIENTS * TRIAL_SESSIONS), TRIAL_SESSIONS)
    return pd.DataFrame(
        {
            "client": [f"P{client + 1:03d}" for client in who],
            "session": when + 1,
            "day": 7 * when,
            "arm": np.array(["usual", "feedback"])[arm][who],
            "severity": texts(severity[who], "{:.2f}"),
            "wai_sr": scores[who, when, 0],
            "core10": scores[who, when, 1],
        }
    )


def texts(values: np.ndarray, pattern: str) -> list[str]:
    """Write numbers with a fixed pattern, missing ones as nothing."""
    return ["" if np.isnan(value) else pattern.format(value + 0.0) for value in values]


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write an export with the same bytes on every platform."""
    path.write_bytes(frame.to_csv(index=False, lineterminator="\n").encode())


def write_truth(truth: Dynamics, between_cov: np.ndarray, sessions: int, path: Path) -> None:
    """Write the true parameters by name; between clients everything stable is counted."""
    values = dataclasses.replace(truth, between_cov=between_cov).params(sessions)
    rows = "".join(f'"{name}",{value:.6g}\n' for name, value in values.items())
    path.write_bytes(f"parameter,true\n{rows}".encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else BUNDLED)
