"""Every example runs, and the family that the docs add is right."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from alliancedyn import SessionPanel
from alliancedyn.engine.moments import loglik_by_client

Array = NDArray[np.float64]

EXAMPLES = Path(__file__).parents[1] / "examples"
ALONE = sorted(EXAMPLES.glob("*.py"))
V = ("alliance", "symptoms")
PHI = np.array([[0.3, -0.05], [-0.15, 0.4]])
PARAMS = {
    **{f"phi[{a},{b}]": PHI[i, j] for i, a in enumerate(V) for j, b in enumerate(V)},
    **{"innovation_cov[alliance,alliance]": 1.0, "innovation_cov[alliance,symptoms]": -0.3},
    **{"innovation_cov[symptoms,symptoms]": 2.0, "initial_cov[alliance,alliance]": 2.0},
    **{"initial_cov[alliance,symptoms]": -0.8, "initial_cov[symptoms,symptoms]": 4.0},
    **{"between_cov[alliance,alliance]": 0.5, "between_cov[alliance,symptoms]": -0.2},
    **{"between_cov[symptoms,symptoms]": 0.8, "initial_between_cov[alliance,alliance]": 0.6},
    **{"initial_between_cov[alliance,symptoms]": -0.2, "initial_between_cov[symptoms,alliance]": 0},
    **{"initial_between_cov[symptoms,symptoms]": 1.0},
    **{f"mean[{v}]@{t}": 5.0 + 2 * j for j, v in enumerate(V) for t in range(1, 6)},
}


@pytest.mark.parametrize("path", ALONE, ids=lambda path: path.stem)
def test_an_example_runs(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "MPLBACKEND": "Agg"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_page_shows_the_file() -> None:
    page = (EXAMPLES.parent / "docs" / "add-a-family.md").read_text("utf-8")
    (shown,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = (EXAMPLES / "add_a_family.py").read_text("utf-8")
    assert shown == code
    written = code[code.index("@dataclass") : code.index("if __name__")].strip()
    assert len(written.splitlines()) <= 60


def unit_effects() -> Any:
    spec = importlib.util.spec_from_file_location("add_a_family", EXAMPLES / "add_a_family.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["add_a_family"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module.UnitEffects()


def symmetric(params: Mapping[str, float], family: str) -> Array:
    pairs = ("alliance,alliance", "alliance,symptoms", "symptoms,symptoms")
    a, c, b = (params[f"{family}[{pair}]"] for pair in pairs)
    return np.array([[a, c], [c, b]])


def dense(params: Mapping[str, float], sessions: int) -> tuple[Array, Array]:
    """Mean and covariance by stacking the equation: (I - lag phi) y = (first, k + v, ...)."""
    k = 2
    A = np.eye(sessions * k)
    S = np.zeros((sessions, k, sessions, k))
    stable, psi = symmetric(params, "between_cov"), symmetric(params, "innovation_cov")
    shared = np.array([[params[f"initial_between_cov[{a},{b}]"] for b in V] for a in V])
    S[0, :, 0] = symmetric(params, "initial_cov")
    for t in range(1, sessions):
        A[t * k : t * k + k, t * k - k : t * k] = -PHI
        S[0, :, t], S[t, :, 0] = shared, shared.T
        for s in range(1, sessions):
            S[t, :, s] = stable + (psi if s == t else 0.0)
    B = np.linalg.inv(A)
    mean = np.array([params[f"mean[{v}]@{t}"] for t in range(1, sessions + 1) for v in V])
    return mean, B @ S.reshape(sessions * k, -1) @ B.T


def drawn(clients: int, seed: int) -> tuple[Array, SessionPanel]:
    rng = np.random.default_rng(seed)
    mean, cov = dense(PARAMS, 5)
    wide = rng.multivariate_normal(mean, cov, clients)
    wide[rng.random(wide.shape) < 0.1] = np.nan
    rows = wide.reshape(clients * 5, 2)
    frame = pd.DataFrame(rows, columns=list(V))
    frame["client"] = np.repeat(np.arange(clients), 5)
    frame["session"] = np.tile(np.arange(1, 6), clients)
    frame = frame.dropna(how="all", subset=list(V))
    timing = {"alliance": "after", "symptoms": "before"}
    return wide, SessionPanel.from_frame(
        frame, client="client", session="session", variables={v: v for v in V}, timing=timing
    )


def test_the_added_family_has_the_likelihood_of_its_equation() -> None:
    wide, panel = drawn(60, 1)
    expected = loglik_by_client(wide, *dense(PARAMS, 5)).sum()
    assert unit_effects().loglik(panel, PARAMS) == pytest.approx(expected, rel=1e-10)


def test_the_added_family_has_the_score_of_its_likelihood() -> None:
    objective = unit_effects().objective(drawn(60, 2)[1])
    theta = objective.start + 0.05 * np.random.default_rng(3).standard_normal(len(objective.start))
    _, score = objective.value_and_score(theta)

    def slope(unit: Array, h: float) -> float:
        up, down = (objective.value_and_score(theta + side * unit)[0] for side in (h, -h))
        return float(up - down) / (2 * h)

    for i, unit in enumerate(np.eye(len(theta))):
        numeric = (4 * slope(unit, 1e-4) - slope(unit, 2e-4)) / 3  # Richardson
        assert score[i] == pytest.approx(numeric, rel=1e-6, abs=1e-5)


def test_the_added_family_gives_its_parameters_back() -> None:
    fit = unit_effects().fit(drawn(3000, 4)[1])
    off = (fit.params - pd.Series(PARAMS)) / fit.se
    assert np.abs(off).max() < 4.0
