"""One replication of a study: a panel from a known world, a model fitted to it, what it said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from alliancedyn.causal.bias import needed
from alliancedyn.causal.contrast import contrast
from alliancedyn.causal.direction import SEED, compare_directions
from alliancedyn.errors import SpecificationError
from alliancedyn.panel import SessionPanel
from alliancedyn.replicate import Failure
from alliancedyn.results import Fit
from alliancedyn.results.paths import no_time_order
from alliancedyn.simulate import Dynamics, simulate

Array = NDArray[np.float64]

NOT_CONVERGED = "Not converged"
BASES = ("both", "reduced", "structural")


class Fittable(Protocol):
    """A model that can be fitted to a panel; with ``errors=`` where a study asks for some."""

    @property
    def name(self) -> str:
        """What readers call it."""
        ...

    def fit(self, panel: SessionPanel, *, seed: int | None, strict: bool) -> Fit:
        """Return the fit, converged or not if not ``strict``."""
        ...


@dataclass(frozen=True)
class Verdict:
    """What a fit, or the truth itself, says of both directions on one basis.

    Parameters
    ----------
    lead : str
        "forward", "backward", "both", "neither", "undetermined" or "depends".
    forward, backward : str
        "supported", "practically zero" or "undetermined".
    """

    lead: str
    forward: str
    backward: str


@dataclass(frozen=True)
class Found:
    """What one fit says, small enough to travel between processes and to be written down.

    Parameters
    ----------
    names : tuple of str
        Parameters, (p,).
    estimates, errors : (p,)
        Estimates and standard errors; NaN = none.
    lower, upper : (p,)
        Intervals, as the model's own table has them.
    at_bound : tuple of str
        Parameters at a bound.
    verdicts : dict of str to Verdict
        Basis -> verdict on direction; empty where the model has no two directions.
    """

    names: tuple[str, ...]
    estimates: Array
    errors: Array
    lower: Array
    upper: Array
    at_bound: tuple[str, ...]
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """A function of a seed: a panel is simulated and the model fitted to it.

    Parameters
    ----------
    spec : specification
    truth : Dynamics
    clients, sessions : int
    observation : mapping
        How the world is seen: arguments of `simulate` by name.
    errors : str or None
        Standard errors, None = those that are usual for the model.
    level : float
        Of the intervals.
    smallest_effect : float
        Of the verdict on direction, within-client SDs.
    """

    spec: Fittable
    truth: Dynamics
    clients: int
    sessions: int
    observation: Mapping[str, Any]
    errors: str | None
    level: float
    smallest_effect: float

    def simulate(self, seed: np.random.SeedSequence) -> SessionPanel:
        """Return the panel of a replication."""
        return simulate(self.truth, self.clients, self.sessions, seed=seed, **self.observation)

    def fit(self, panel: SessionPanel, seed: int) -> Fit:
        """Fit the model, with the standard errors that are usual for it if none were asked for."""
        errors: dict[str, Any] = {} if self.errors is None else {"errors": self.errors}
        return self.spec.fit(panel, seed=seed, strict=False, **errors)

    def __call__(self, seed: np.random.SeedSequence) -> Found | Failure:
        """Simulate, fit and keep what matters."""
        panel = self.simulate(seed)
        own = int(seed.generate_state(1)[0])  # for further starting values, should there be any
        fit = self.fit(panel, own)
        if not fit.converged:
            return Failure(NOT_CONVERGED, str(fit.diagnostics.get("failure", "")))
        bounds = [
            name
            for sentence in fit.diagnostics["boundary"]
            for name in sentence.partition(": ")[0].split(", ")
        ]
        table = fit.table(self.level)
        return Found(
            names=tuple(str(name) for name in fit.params.index),
            estimates=fit.params.to_numpy(float),
            errors=fit.se.to_numpy(float),
            lower=table["lower"].to_numpy(float),
            upper=table["upper"].to_numpy(float),
            at_bound=tuple(bounds),
            verdicts=fit_verdicts(fit, self.smallest_effect),
        )


def fit_verdicts(fit: Fit, smallest_effect: float) -> dict[str, Verdict]:
    """Return what `compare_directions` says of a fit on each basis; empty where it refuses.

    Models whose bias is simulated beside every verdict are judged without that simulation.
    """
    try:
        if needed(fit):
            return _unchecked(fit, smallest_effect)
        said = compare_directions(fit, smallest_effect=smallest_effect)
    except SpecificationError:
        return {}
    found = {"both": Verdict(said.lead, said.forward_state, said.backward_state)}
    for basis, one in said.by_basis.items():
        found[basis] = Verdict(one.lead, one.forward_state, one.backward_state)
    return found


def _unchecked(fit: Fit, smallest_effect: float) -> dict[str, Verdict]:
    timed = no_time_order(fit.lagged, fit.timing) is None
    found = {}
    for basis in ("reduced", "structural") if timed else ("reduced",):
        one = contrast(fit, fit.process, fit.outcome, basis, smallest_effect, SEED)
        found[basis] = Verdict(one.lead, one.forward_state, one.backward_state)
    return together(found)


def together(found: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """Add the verdict on both bases: "depends" where their leads differ.

    The states are those of the structural basis where there is one.
    """
    main = found.get("structural", found["reduced"])
    agree = len({verdict.lead for verdict in found.values()}) == 1
    lead = main.lead if agree else "depends"
    return {"both": Verdict(lead, main.forward, main.backward), **found}
