"""Figures: a panel or a result goes in, matplotlib ``Axes`` come out.

Nothing here opens a window, keeps global state or adds a number of its own: what is drawn was
computed by the panel, the decomposition, the fit or the comparison that was passed in. Every
figure accepts ``ax=``, survives a grey photocopy, names no client, and can say in words what it
shows: ``plot.alt_text(ax)``.
"""

from __future__ import annotations

from alliancedyn.plot.effects import impulse_response
from alliancedyn.plot.forest import direction_forest, model_forest
from alliancedyn.plot.lags import effect_by_lag
from alliancedyn.plot.missing import missingness
from alliancedyn.plot.paths import path_diagram
from alliancedyn.plot.posterior import client_effects, prior_posterior
from alliancedyn.plot.ranks import calibration
from alliancedyn.plot.series import between_within, spaghetti
from alliancedyn.plot.style import alt_text, panels, save, svg

__all__ = [
    "alt_text",
    "between_within",
    "calibration",
    "client_effects",
    "direction_forest",
    "effect_by_lag",
    "impulse_response",
    "missingness",
    "model_forest",
    "panels",
    "path_diagram",
    "prior_posterior",
    "save",
    "spaghetti",
    "svg",
]
