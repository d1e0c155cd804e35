"""Write scores.csv, three small unbalanced panels: ``python make.py``, then ``Rscript peers.R``.

``nested``: clients differ, therapists too, sessions are autocorrelated and some are missing.
``flat``: therapists do not differ. ``alike``: clients are more alike than chance would make them.
"""

from pathlib import Path

import numpy as np
import pandas as pd

SEED = 20261122


def draw(rng, name, clients, therapists, sessions, client_var, therapist_var, phi):
    therapist = np.sort(rng.integers(0, therapists, clients))
    level = rng.normal(0.0, np.sqrt(therapist_var), therapists)[therapist]
    level = level + rng.normal(0.0, np.sqrt(client_var), clients)
    state = rng.normal(0.0, 1.0, clients)
    rows = []
    length = rng.integers(2, sessions + 1, clients)
    for t in range(1, sessions + 1):
        if t > 1:
            state = phi * state + rng.normal(0.0, np.sqrt(1.0 - phi**2), clients)
        seen = (t <= length) & ((t <= 2) | (rng.random(clients) > 0.15))
        for i in np.flatnonzero(seen):
            rows.append(
                (name, f"{i + 1}", f"{therapist[i] + 1}", t, round(20 + level[i] + state[i], 6))
            )
    return rows


def main():
    rng = np.random.default_rng(SEED)
    rows = draw(rng, "nested", 70, 12, 9, 1.2, 0.6, 0.4)
    rows += draw(rng, "flat", 60, 10, 8, 0.8, 0.0, 0.2)
    rows += draw(rng, "alike", 40, 6, 6, 0.0, 0.0, -0.5)
    frame = pd.DataFrame(rows, columns=["panel", "client", "therapist", "session", "score"])
    frame.to_csv(Path(__file__).parent / "scores.csv", index=False)


if __name__ == "__main__":
    main()
