"""What the short names of models and of fit indices stand for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alliancedyn.results import Fit

NAMES = {
    "CLPM": "cross-lagged panel model",
    "RICLPM": "random-intercept cross-lagged panel model",
    "LCMSR": "latent curve model with structured residuals",
    "ALT": "autoregressive latent trajectory model",
    "STARTS": "stable trait, autoregressive trait and state model",
    "GCLM": "general cross-lagged model",
    "DSEM": "dynamic structural equation model",
    "DynamicPanelGMM": "generalized method of moments for dynamic panels",
    "MLSEM": "dynamic panel model by maximum likelihood, as structural equations",
}
CRITERIA = (
    "AIC and BIC: the information criteria of Akaike and of Schwarz (Bayesian); the smaller the "
    "better."
)
INDICES = (
    "χ²: misfit against a model without restrictions. CFI: comparative fit index. TLI: "
    "Tucker-Lewis index. RMSEA: root mean square error of approximation. SRMR: standardized root "
    f"mean square residual. {CRITERIA}"
)


def spelled(fits: Iterable[Fit]) -> tuple[str, ...]:
    """Spell out the short names of models, each once: ``CLPM: cross-lagged panel model``."""
    found = {}
    for fit in fits:
        if (long := NAMES.get(type(fit.model).__name__)) is not None:
            found[fit.model.name] = f"{fit.model.name}: {long}"
    return tuple(found.values())
