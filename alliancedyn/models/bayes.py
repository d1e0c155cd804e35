"""Any state-space family, sampled on its marginal likelihood.

Stable parts, states and missing scores are integrated out by the Kalman filter, so that only the
parameters of the family are sampled: a few dozen numbers, whatever the number of clients. The
posterior is the likelihood that maximum likelihood climbs times the priors of
:mod:`alliancedyn.models.bayes_priors`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.engine.laplace import RELIABLE_K
from alliancedyn.engine.likelihood import Likelihood
from alliancedyn.errors import ConvergenceError, SpecificationError
from alliancedyn.models.bayes_priors import Prior, check_priors
from alliancedyn.models.drawing_on import LONGEST, Limit, draw_on
from alliancedyn.models.nuts import SAMPLERS, Drawn, Sampler, draw_rounds, import_pymc, picklable
from alliancedyn.models.sampled_result import sampled_fit
from alliancedyn.models.specification import Specification
from alliancedyn.panel import SessionPanel
from alliancedyn.panel.choices import pair
from alliancedyn.results import ClientGroup, Fit, Observed
from alliancedyn.results.model import Params, spelled
from alliancedyn.results.sampling import Sampling

if TYPE_CHECKING:
    import pymc

Array = NDArray[np.float64]


@checked
@dataclass(frozen=True, repr=False)
class Bayes:
    """A state-space family with priors: ``Bayes(RICLPM()).fit(panel, seed=1)``.

    Parameters
    ----------
    spec : Specification
        Such as ``RICLPM()``, ``LCMSR()`` or ``STARTS()``.
    priors : dict, optional
        In place of the defaults, on scores in within-client SDs: ``{"phi": ("normal", 0, 0.3),
        "sd": ("half-normal", 1)}``. Keys: "mean", "trend", "phi", "predictor", "loading",
        "covariance" (normal: location, scale), "sd" (half-normal: scale), "lkj" (shape), or one
        family of parameters such as "phi2", or "between_cov" for its SDs.
    draws, tune, chains : int
    sampler : {"nutpie", "pymc", "laplace"}
        The last is a quick look: importance sampling around the mode, whose Pareto k tells whether
        it can be trusted.
    max_draws : int, optional
        Chains that disagree, or are too short, are continued to so many draws each; by default to
        eight times ``draws``. The fit notes it. ``max_draws=draws`` leaves them as they are.
    max_seconds : float
        No chains are continued beyond this time.
    """

    spec: Specification
    priors: Mapping[str, tuple[Any, ...]] | None = None
    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    sampler: Sampler = "nutpie"
    max_draws: int | None = None
    max_seconds: float = LONGEST

    def __post_init__(self) -> None:
        if not isinstance(self.spec, Specification):
            raise SpecificationError(
                f"Bayes samples state-space families, such as Bayes(RICLPM()); got {self.spec!r}. "
                "DSEM samples by itself."
            )
        if self.sampler not in SAMPLERS:
            raise SpecificationError(
                f"sampler is {self.sampler!r}; choose 'nutpie', 'pymc' or 'laplace'."
            )
        for option, least in (("draws", 4), ("tune", 1), ("chains", 1)):
            value = getattr(self, option)
            if not isinstance(value, int) or value < least:
                raise SpecificationError(
                    f"{option} is {value!r}; give a whole number from {least} up."
                )
        check_priors(self.priors or {})
        _ = self._limit  # refuses what means nothing

    @property
    def _limit(self) -> Limit:
        return Limit(self.draws, self.max_draws, self.max_seconds)

    @property
    def name(self) -> str:
        """What readers call it."""
        return f"Bayesian {self.spec.name}"

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What must hold for its estimates to mean what they say."""
        return (
            *self.spec.assumptions,
            "The priors hold: where clients or sessions are few they speak as loudly as the data.",
        )

    @property
    def references(self) -> tuple[str, ...]:
        """Where it comes from."""
        return self.spec.references

    @checked
    def fit(self, panel: SessionPanel, *, seed: int | None = None, strict: bool = True) -> Fit:
        """Sample the posterior.

        Parameters
        ----------
        panel : SessionPanel
        seed : int, optional
            For the same draws again.
        strict : bool
            Raise if the draws fail the rule (R-hat, effective sample sizes, divergences, E-BFMI);
            otherwise return the fit, which says so.

        Raises
        ------
        SpecificationError
            If these data cannot carry the model; the message names the remedy.
        ConvergenceError
            If ``strict`` and the draws fail the rule; the error holds the fit.
        """
        began = time.perf_counter()
        selection = self.spec._select(panel)
        known = replace(self, spec=self.spec._with_known_errors(selection))
        model, likelihood, prior = known._build(panel, selection.data)
        limit = self._limit
        rounds = draw_rounds(
            model, ["theta"], sampler=self.sampler, totals=limit.totals, tune=self.tune,
            chains=self.chains, seed=seed, jitter=False,
        )  # fmt: skip

        def read(drawn: Drawn) -> tuple[list[str], Array, Mapping[str, Array]]:
            names, draws = natural(likelihood, drawn.values["theta"])
            # the quick look has one chain
            return names, draws.reshape(self.chains, -1, draws.shape[-1]), drawn.statistics

        drawn, judged = draw_on(rounds, read, limit)
        flat = judged.draws.reshape(-1, judged.draws.shape[-1])
        variables, _ = known.spec._series(selection.data.variables)
        sampling = Sampling(chains=self.chains, priors=prior.terms(), statistics=drawn.statistics)
        try:
            fit = sampled_fit(
                known, panel, selection, judged, sampling, sampler=self.sampler,
                values=prior.quantities(flat), notes=_notes(drawn),
                began=began, sampling_seconds=drawn.seconds, strict=strict, depth=2,
            )  # fmt: skip
        except ConvergenceError as error:
            error.fit = _of_series(error.fit, variables)
            raise
        return _of_series(fit, variables)

    @checked
    def build(self, panel: SessionPanel) -> pymc.Model:
        """Return the model as a `pymc.Model`, on the scale of the priors, to read and extend."""
        selection = self.spec._select(panel)
        known = replace(self, spec=self.spec._with_known_errors(selection))
        return known._build(panel, selection.data)[0]

    def _build(self, panel: SessionPanel, data: Observed) -> tuple[Any, Likelihood, Prior]:
        pm = import_pymc()
        from alliancedyn.models.marginal_op import MarginalLogLik

        loglik = MarginalLogLik(self.spec, panel)
        prior = Prior.of(self.spec, data, loglik.likelihood, self.priors)
        with pm.Model() as model:
            theta = pm.Deterministic("theta", prior.add_theta())
            pm.Potential("scores", loglik(theta)[0])
        return picklable(model), loglik.likelihood, prior

    # -- what results ask for, answered by the family -------------------------------------------

    def observe(
        self, panel: SessionPanel, sessions: tuple[int, ...], variables: tuple[str, ...]
    ) -> Observed:
        """Return what the model sees of any panel at these sessions."""
        return self.spec.observe(panel, sessions, variables)

    def groups_of(
        self, params: Params, data: Observed, variables: tuple[str, ...]
    ) -> list[ClientGroup]:
        """Return the systems of all clients at natural parameters, one for each group.

        Parameters that follow from others are left out: the mean of a function of draws is not
        the function of their means.
        """
        free = self.spec.layout(self.spec.design(data)).names
        own = {name: params[name] for name in free}
        return self.spec.groups_of(own, data, variables)

    def __repr__(self) -> str:
        return spelled(self)


def natural(likelihood: Likelihood, theta: Array) -> tuple[list[str], Array]:
    """Return the names of all reported parameters, and their values (chains, draws, q)."""
    flat = theta.reshape(-1, theta.shape[-1])
    rows = [likelihood.to_params(one) for one in flat]
    names = list(rows[0])
    values = np.array([list(row.values()) for row in rows])
    return names, values.reshape(*theta.shape[:2], len(names))


def _notes(drawn: Drawn) -> list[str]:
    """Say what the quick look is worth."""
    if "pareto_k" not in drawn.statistics:
        return []
    k = float(drawn.statistics["pareto_k"].item())
    if k > RELIABLE_K:
        return [
            f"The quick look cannot be trusted here: Pareto k is {k:.2f}, above {RELIABLE_K}. The "
            'posterior is far from normal. Use sampler="nutpie".'
        ]
    return []


def _of_series(fit: Fit | None, variables: tuple[str, ...]) -> Fit:
    """Let a fit to items speak of their series."""
    if fit is None or fit.variables == variables:
        return fit  # type: ignore[return-value]
    process, outcome = pair(fit.process, fit.outcome, variables)
    return replace(fit, variables=variables, process=process, outcome=outcome)
