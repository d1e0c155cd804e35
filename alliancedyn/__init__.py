"""Which moves first, the therapeutic alliance or the symptoms? Panel models that answer honestly.

Every name below loads on first use, so ``import alliancedyn`` stays fast.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "errors": (
        "AllianceDynError",
        "ConvergenceError",
        "DataError",
        "DataWarning",
        "InferenceWarning",
        "SpecificationError",
    ),
    "panel": ("Issue", "QualityReport", "SessionPanel", "check", "guess_mapping", "read_sessions"),
    "partition": ("TherapistPartition", "therapist_partition"),
    "models.bayes": ("Bayes",),
    "models.client_effects": ("client_effects",),
    "models.loo": ("compare_loo", "loo"),
    "models.posterior_checks": ("posterior_check", "prior_predictive"),
    "results.posterior": ("load_draws", "save_draws"),
    "decompose": ("Decomposition", "decompose"),
    "simulate": (
        "Confounder",
        "Covariate",
        "Dropout",
        "Dynamics",
        "Episodes",
        "Event",
        "Gaps",
        "Groups",
        "GrowthCurve",
        "Innovations",
        "Items",
        "Missing",
        "Phase",
        "Therapists",
        "messy",
        "simulate",
    ),
    "results": ("Estimate", "Fit", "Sample"),
    "models": (
        "ALT",
        "CLPM",
        "ContinuousTime",
        "DSEM",
        "DynamicPanelGMM",
        "FixedEffects",
        "GCLM",
        "LCMSR",
        "LatentChange",
        "MLSEM",
        "RICLPM",
        "STARTS",
        "WithinBetween",
    ),
    "causal": (
        "Directions",
        "compare_directions",
        "compare_models",
        "describe_drift",
        "effect_by_lag",
        "peak_lag",
    ),
    "causal.bias": ("BiasDiagnosis", "bias_diagnosis"),
    "causal.posterior_reading": ("bayes_factor", "posterior_statements"),
    "causal.prior_sensitivity": ("power_scaling", "prior_overlap"),
    "causal.boundary": ("boundary_test",),
    "causal.nested": ("likelihood_ratio",),
    "studies.clocks": ("compare_clocks",),
    "studies.constraints": ("constraint_search",),
    "studies.ladder": ("ladder",),
    "studies.bootstrap": ("bootstrap",),
    "studies.calibration": ("calibrate",),
    "studies.power": ("PowerSurface", "power"),
    "studies.recovery": ("recover",),
    "syntax": ("export_syntax",),
    "report": ("write_report",),
    "engine": ("Objective",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = {"plot": "plot", "datasets": "panel.datasets", "engine": "engine", "worlds": "worlds"}

__all__ = sorted([*_HOME, *_MODULES, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"{__name__}.{_MODULES[name]}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """Keep ``alliancedyn.simulate`` the function once the module of that name is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and _HOME.get(name) == name):
            super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Package
