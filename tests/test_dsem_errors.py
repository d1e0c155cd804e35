"""Estimated measurement error, Student-t innovations and the quick look, each sampled once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import alliancedyn as ad
from alliancedyn.errors import ConvergenceError
from alliancedyn.models.dsem_errors import error_notes
from alliancedyn.report.checks import _sampling

BASE = {
    "phi": [[0.6, -0.1], [-0.25, 0.6]], "innovation_cov": [[1, -0.1], [-0.1, 1]],
    "between_cov": [[1, -0.3], [-0.3, 1]], "mean": (5.0, 10.0),
}  # fmt: skip


def test_errors_that_leave_no_trace_are_said_to_rest_on_the_prior() -> None:
    labels = ["phi[a,a]", "phi[b,b]", "measurement_var[a]", "measurement_var[b]"]
    draws = np.random.default_rng(1).normal([0.02, 0.5, 0.3, 0.3], 0.05, (2000, 4))
    (said,) = error_notes(labels, draws)
    assert said.startswith("phi[a,a] is -0.07 to 0.12: what")
    assert "measurement_var[a] and innovation_cov[a,a] split" in said
    assert not error_notes(labels[:2], draws[:, :2])
    (said,) = error_notes(["phi[b,b]", "measurement_var[a]"], draws[:, 1:3])
    assert said.startswith("there is no phi[a,a]")


def test_a_quick_look_says_everywhere_how_far_it_can_be_trusted() -> None:
    spec = ad.DSEM(sampler="laplace", draws=250, chains=2)
    few = ad.simulate(ad.Dynamics(**BASE), clients=8, sessions=4, seed=4)
    fit = spec.fit(few, seed=1, strict=False)
    assert fit.diagnostics["pareto_k"] > 0.7
    assert not fit.converged
    k = f"Pareto k {fit.diagnostics['pareto_k']:.2f}"
    shown = [str(fit), fit._repr_html_(), str(ad.posterior_statements(fit))]
    directions = ad.compare_directions(fit)
    assert directions.lead == "undetermined"
    for place in (*shown, str(directions), " ".join(_sampling(fit.diagnostics))):
        assert k in place
    with pytest.raises(ConvergenceError, match="Pareto k"):
        spec.fit(few, seed=1)


def covers(fit: ad.Fit, known: dict[str, float]) -> None:
    table = fit.table()
    for name, truth in known.items():
        assert table.loc[name, "lower"] < truth < table.loc[name, "upper"], name


@pytest.mark.slow
def test_estimated_errors_are_those_of_the_world() -> None:
    truth = ad.Dynamics(**BASE, reliability=(0.75, 0.8))
    panel = ad.simulate(truth, clients=80, sessions=14, seed=4)
    plain = ad.RICLPM(means="equal").fit(panel)
    assert plain.params["phi[alliance,alliance]"] < 0.6 - 2 * plain.se["phi[alliance,alliance]"]
    spec = ad.DSEM(measurement_var="free", sampler="pymc", draws=200, tune=300, chains=2)
    fit = spec.fit(panel, seed=1, strict=False)
    errors = panel.truth.measurement_var
    covers(
        fit,
        {
            "phi[alliance,alliance]": 0.6, "phi[symptoms,symptoms]": 0.6,
            "phi[symptoms,alliance]": -0.25, "phi[alliance,symptoms]": -0.1,
            "measurement_var[alliance]": float(errors[0]),
            "measurement_var[symptoms]": float(errors[1]),
            "innovation_cov[alliance,alliance]": 1.0, "innovation_cov[symptoms,symptoms]": 1.0,
        },
    )  # fmt: skip
    assert spec.engine == "pymc"
    assert ad.DSEM(measurement_var="free").engine == "nutpie"


def outlying_panel() -> ad.SessionPanel:
    """Fifty clients whose innovations are Student-t with four degrees of freedom."""
    rng, n, T = np.random.default_rng(5), 50, 12
    phi, root = np.array(BASE["phi"]), np.linalg.cholesky(BASE["innovation_cov"])
    level = rng.multivariate_normal(BASE["mean"], BASE["between_cov"], n)
    w, Y = np.zeros((n, 2)), np.empty((n, T, 2))
    for t in range(-20, T):
        e = rng.standard_normal((n, 2)) @ root.T / np.sqrt(rng.chisquare(4, (n, 1)) / 4)
        w = w @ phi.T + e
        if t >= 0:
            Y[:, t] = level + w
    frame = pd.DataFrame(Y.reshape(-1, 2), columns=["alliance", "symptoms"])
    frame["client"] = np.repeat([f"C{i}" for i in range(n)], T)
    frame["session"] = np.tile(np.arange(1, T + 1), n)
    return ad.SessionPanel.from_frame(
        frame, client="client", session="session",
        variables={"alliance": "alliance", "symptoms": "symptoms"},
        timing={"alliance": "after", "symptoms": "before"},
    )  # fmt: skip


@pytest.mark.slow
def test_student_innovations_are_those_of_the_world() -> None:
    spec = ad.DSEM(innovations="student", sampler="pymc", draws=200, tune=300, chains=2)
    fit = spec.fit(outlying_panel(), seed=1, strict=False)
    covers(
        fit,
        {
            "phi[alliance,alliance]": 0.6, "phi[symptoms,symptoms]": 0.6,
            "phi[symptoms,alliance]": -0.25, "degrees": 4.0,
            "innovation_cov[alliance,alliance]": 1.0, "innovation_cov[symptoms,symptoms]": 1.0,
        },
    )  # fmt: skip
    assert fit.table().loc["degrees", "upper"] < 15.0
