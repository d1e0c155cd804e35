"""Sentences that must travel with the numbers of an analysis."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from alliancedyn.errors import listed
from alliancedyn.panel import SessionPanel
from alliancedyn.results import Fit
from alliancedyn.studies.families import FAMILIES


def remarks_on(panel: SessionPanel, fits: Mapping[str, Fit]) -> list[str]:
    """Return what must travel with the numbers of these models."""
    found = []
    others = [name for name in panel.variables if name not in (panel.process, panel.outcome)]
    if others:
        found.append(
            f"The models hold {panel.process} and {panel.outcome} only; described but not "
            f"modeled: {listed(others)}."
        )
    label = FAMILIES["ri-clpm-detrended"].label
    if label in fits:
        found.append(_detrending_remark(label, fits[label]))
    return found


def _detrending_remark(label: str, fit: Fit) -> str:
    """Say what detrending takes away; a test simulates the figures."""
    text = (
        f"{label} saw scores without each client's own straight line. That removes what two "
        "courses share by drifting together, and some of the lagged effect with it: in simulated "
        "panels without any trend a true effect of -0.12 comes back as -0.07 from 6 sessions, "
        "-0.10 from 10 and -0.11 from 20. "
    )
    if fit.data is not None:
        seen = np.isfinite(fit.data.Y).any(axis=2).sum(axis=1)
        text += f"Here the median client has {np.median(seen):g} sessions. "
    return f"{text}Its standard errors take the lines as known."
