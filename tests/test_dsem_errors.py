"""Estimated measurement error, Student-t innovations and the quick look, each sampled once."""

from __future__ import annotations

import numpy as np
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
