"""Figures of sampled fits: a posterior over its prior, clients without names."""

from __future__ import annotations

import numpy as np
import pytest

import alliancedyn as ad
from alliancedyn import plot
from alliancedyn.errors import SpecificationError
from alliancedyn.models.dsem import DSEM
from alliancedyn.results import Fit

LAG = "symptoms<-alliance"
PHI = "phi[symptoms,alliance]"


@pytest.fixture(scope="module")
def fit() -> Fit:
    """Sample random lagged effects of 30 clients."""
    truth = ad.Dynamics(
        phi=[[0.3, 0.0], [-0.2, 0.3]], innovation_cov=np.eye(2), between_cov=np.eye(2)
    )
    panel = ad.simulate(truth, clients=30, sessions=10, seed=5)
    spec = DSEM(random=("intercept", "phi"), draws=150, tune=100, chains=2)
    return spec.fit(panel, seed=1, strict=False)


def test_clients_are_drawn_in_order_and_without_names(fit: Fit) -> None:
    own = fit.client_effects().query("effect == @LAG").sort_values("estimate")
    axes = plot.client_effects(fit, LAG)
    np.testing.assert_allclose(axes.lines[0].get_xdata(), own["estimate"])
    segments = np.array(axes.collections[0].get_segments())
    np.testing.assert_allclose(segments[:, 0, 0], own["lower"])
    drawn = plot.svg(axes)
    assert not any(f">{name}<" in drawn for name in own["client"])
    assert "30 clients" in plot.alt_text(axes)
    named = plot.client_effects(fit, LAG, names=True)
    assert [text.get_text() for text in named.get_yticklabels()] == list(map(str, own["client"]))
    with pytest.raises(SpecificationError, match="does not differ between clients"):
        plot.client_effects(fit, "symptoms<-nothing")


def test_a_posterior_stands_over_its_prior(fit: Fit) -> None:
    axes = plot.prior_posterior(fit, PHI)
    line = axes.lines[0]
    area = np.trapezoid(line.get_ydata(), line.get_xdata())
    assert area == pytest.approx(1.0, abs=0.02)
    peak = line.get_xdata()[np.argmax(line.get_ydata())]
    assert abs(peak - fit.draws[PHI].mean()) < fit.draws[PHI].std()
    assert f"{fit.diagnostics['overlap'][PHI]:.0%}" in plot.alt_text(axes)
    half = plot.prior_posterior(fit, "phi_sd[symptoms,alliance]")
    assert half.lines[0].get_xdata()[0] == 0.0
    with pytest.raises(SpecificationError, match="no prior of its own"):
        plot.prior_posterior(fit, "between_cov[alliance,alliance]")


def test_impulse_responses_of_draws_have_bands(fit: Fit) -> None:
    axes = plot.impulse_response(fit, "alliance", sessions=4)
    frame = fit.impulse_response("alliance", sessions=4)
    lower = frame[("symptoms", "lower")].to_numpy()
    drawn = [band.get_paths()[0].vertices[:, 1] for band in axes.collections]
    assert any(np.isclose(values.min(), lower.min()) for values in drawn)
