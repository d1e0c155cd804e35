"""What estimates are compared with: the truth, as far as it has the same parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from alliancedyn.engine import names
from alliancedyn.models import ALT, GCLM, MLSEM, LatentChange, Regression
from alliancedyn.studies.trial import Trial

# Stable parts that push at every session are no random intercepts, and what is called between_cov
# and initial_cov there is not what the truth calls so. These families mean the same:
_PUSHED = (ALT, GCLM, LatentChange, MLSEM)
_SAME_WHERE_PUSHED = ("phi", "phi2", "innovation_cov", "mean")
_SAME_IN_REGRESSIONS = ("phi",)


def compared_with(trial: Trial, wanted: Mapping[str, float]) -> Callable[[str], float]:
    """Return the function from a parameter's name to what its estimates are compared with.

    Parameters
    ----------
    trial : Trial
    wanted : mapping of str to float
        Values that go before those of the truth.
    """
    values = _true_values(trial)
    same: tuple[str, ...] | None = None
    if isinstance(trial.spec, Regression):
        same = _SAME_IN_REGRESSIONS
    elif isinstance(trial.spec, _PUSHED):
        same = _SAME_WHERE_PUSHED
    if same is not None:
        values = {name: value for name, value in values.items() if names.parse(name)[0] in same}
    return lambda name: _look_up(values | dict(wanted), name)


def _true_values(trial: Trial) -> dict[str, float]:
    """Return the truth by name; therapists' differences are part of those between clients."""
    truth = trial.truth
    therapists, start = trial.observation.get("therapists"), trial.observation.get("start")
    if therapists is not None:
        cov = np.asarray(truth.between_cov) + np.asarray(therapists.cov)
        truth = replace(truth, between_cov=cov)
    values = {str(name): float(value) for name, value in truth.params(trial.sessions).items()}
    if start is not None and not isinstance(start, str):
        labels = names.symmetric_labels("initial_cov", truth.variables)
        upper = np.asarray(start, float)[np.triu_indices(len(truth.variables))]
        values |= dict(zip(labels, upper.tolist(), strict=True))
    return values


def _look_up(values: Mapping[str, float], name: str) -> float:
    """Find a parameter's value; one session's is that of all where the world does not change."""
    return values.get(name, values.get(name.partition("@")[0], np.nan))
