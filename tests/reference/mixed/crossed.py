"""Write crossed.csv, a practice whose clients may change therapist: ``python crossed.py``.

140 clients, 13 therapists; one client in seven goes to another therapist during treatment.
"""

from pathlib import Path

import numpy as np
import pandas as pd

SEED = 20261123


def main():
    rng = np.random.default_rng(SEED)
    clients, therapists = 140, 13
    first = rng.integers(0, therapists, clients)
    second = np.where(rng.random(clients) < 1 / 7, rng.integers(0, therapists, clients), first)
    length = rng.integers(1, 11, clients)
    switch = rng.integers(2, 8, clients)
    client = np.repeat(np.arange(clients), length)
    session = np.concatenate([np.arange(1, n + 1) for n in length])
    therapist = np.where(session >= switch[client], second[client], first[client])
    x = rng.normal(size=len(client))
    y = 20.0 - 0.4 * session + 0.7 * x + rng.normal(0.0, 1.8, len(client))
    y = y + rng.normal(0.0, 2.0, clients)[client] + rng.normal(0.0, 1.0, therapists)[therapist]
    flat = (
        20.0 + 0.7 * x + rng.normal(0.0, 1.8, len(client)) + rng.normal(0.0, 2.0, clients)[client]
    )
    frame = pd.DataFrame(
        {
            "client": client + 1,
            "therapist": therapist + 1,
            "session": session,
            "x": x.round(6),
            "score": y.round(6),
            "flat": flat.round(6),
        }
    )
    order = rng.permutation(len(frame))
    frame.iloc[order].to_csv(Path(__file__).parent / "crossed.csv", index=False)


if __name__ == "__main__":
    main()
