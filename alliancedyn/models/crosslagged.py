"""Cross-lagged panel models, without and with random intercepts.

The scores of client i at session t are ``y_it = mean_t + k_i + w_it``; the deviations follow

    w_it = phi w_{i,t-1} + v_it,   v_it ~ N(0, innovation_cov),   w_i1 ~ N(0, initial_cov)

and the random intercepts k_i ~ N(0, between_cov) are absent from the CLPM. Rows of phi are
outcomes and columns predictors. Estimation is full-information maximum likelihood: every score
that was observed counts, and missing ones are taken to be missing at random.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names, starting
from alliancedyn.engine.kalman import Blocks, Score, StateSpace
from alliancedyn.engine.likelihood import Likelihood
from alliancedyn.engine.system import Block, Layout, Matrices
from alliancedyn.engine.var import stationary_cov, stationary_cov_adjoint, stationary_cov_tangent
from alliancedyn.errors import SpecificationError
from alliancedyn.models.inference import fit_likelihood
from alliancedyn.models.selection import Selection, refuse_thin_sessions, select
from alliancedyn.panel import SessionPanel
from alliancedyn.results import Fit

Array = NDArray[np.float64]
Same = Literal["equal", "free"]
Params = Mapping[str, float]


@dataclass(frozen=True)
class _Process:
    """The family: named matrices to system matrices, and derivatives back."""

    n_sessions: int
    traits: bool
    stationary: bool

    def system(self, matrices: Matrices) -> StateSpace:
        phi, psi = matrices["phi"], matrices["innovation_cov"]
        mean = matrices["mean"]
        k = mean.shape[1]
        initial = matrices.get("initial_cov")
        first = stationary_cov(phi[0], psi[0]) if initial is None else initial[0]
        states = 2 * k if self.traits else k
        initial_cov = np.zeros((states, states))
        initial_cov[:k, :k] = first
        if self.traits:
            initial_cov[k:, k:] = matrices["between_cov"][0]
        index = np.arange(states).reshape(-1, k).T
        return StateSpace(
            phi=phi,
            phi_at=self._into(phi),
            psi=psi,
            psi_at=self._into(psi),
            mean=mean,
            mean_at=np.arange(self.n_sessions) * (len(mean) > 1),
            initial_cov=initial_cov,
            load_index=np.ascontiguousarray(index),
            load=np.ones(index.shape),
            noise=np.zeros(k),
        )

    def _into(self, slots: Array) -> NDArray[np.int64]:
        """Slot used into each session: slot 0 is that of the second one."""
        own = len(slots) > 1
        return np.maximum(np.arange(self.n_sessions) - 1, 0) * own

    def gradients(self, matrices: Matrices, score: Score) -> Matrices:
        k = score.mean.shape[-1]
        first = score.initial_cov[..., :k, :k]
        out = {"mean": score.mean, "phi": score.phi, "innovation_cov": score.psi}
        if self.traits:
            out["between_cov"] = score.initial_cov[..., None, k:, k:]
        if not self.stationary:
            return {**out, "initial_cov": first[..., None, :, :]}
        phi, psi = matrices["phi"][0], matrices["innovation_cov"][0]
        by_phi, by_psi = stationary_cov_adjoint(phi, psi, first)
        out["phi"] = score.phi + by_phi[..., None, :, :]
        out["innovation_cov"] = score.psi + by_psi[..., None, :, :]
        return out


@dataclass(frozen=True)
class _CrossLagged:
    """Options shared by the cross-lagged families.

    Parameters
    ----------
    variables : tuple of str, optional
        Two or more series; by default all of the panel, in its order.
    lags, innovations : {"equal", "free"}
        Lagged effects and innovation covariances: one for all sessions, or one into each.
    means : {"free", "equal"}
        A mean for every session, or one for all.
    initial : {"free", "stationary"}
        The first session's within covariance: its own, or that at which the process settles.
    sessions : (int, int), optional
        First and last session number to use.
    starts : int
        Starting values to try; more than one are drawn around the first with ``fit(seed=...)``.
    """

    variables: tuple[str, ...] | None = None
    lags: Same = "equal"
    innovations: Same = "equal"
    means: Same = "free"
    initial: Literal["free", "stationary"] = "free"
    sessions: tuple[int, int] | None = None
    starts: int = 1

    name: ClassVar[str]
    traits: ClassVar[bool]
    assumptions: ClassVar[tuple[str, ...]]
    references: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        allowed = {
            "lags": ("equal", "free"),
            "innovations": ("equal", "free"),
            "means": ("free", "equal"),
            "initial": ("free", "stationary"),
        }
        for option, values in allowed.items():
            if getattr(self, option) not in values:
                raise SpecificationError(
                    f"{option} is {getattr(self, option)!r}; choose {values[0]!r} or {values[1]!r}."
                )
        for option in ("variables", "sessions"):  # lists compare and hash badly
            given = getattr(self, option)
            if isinstance(given, str) or not (given is None or isinstance(given, Iterable)):
                raise SpecificationError(f"{option} is {given!r}; give several, as a tuple.")
            if given is not None:
                object.__setattr__(self, option, tuple(given))
        if self.initial == "stationary" and "free" in (self.lags, self.innovations):
            raise SpecificationError(
                'initial="stationary" needs lags and innovations equal over sessions: a process '
                "that changes has no stationary covariance."
            )
        if not isinstance(self.starts, int) or self.starts < 1:
            raise SpecificationError(f"starts is {self.starts!r}; give a whole number from 1 up.")
        if self.sessions is not None and len(self.sessions) != 2:
            raise SpecificationError(
                f"sessions is {self.sessions!r}; give the first and the last, such as (1, 8)."
            )

    def fit(
        self,
        panel: SessionPanel,
        *,
        errors: str = "observed",
        seed: int | None = None,
        strict: bool = True,
    ) -> Fit:
        """Fit by full-information maximum likelihood.

        Parameters
        ----------
        panel : SessionPanel
        errors : {"observed", "robust", "cluster:therapist", ...}
            Standard errors: from the observed information; robust to non-normal scores
            (sandwich, with a scaled chi-square); or robust to clients of one therapist (or site,
            group, ...) not being independent.
        seed : int, optional
            For additional starting values.
        strict : bool
            Raise if the search does not converge; otherwise return the fit, which says so.

        Raises
        ------
        SpecificationError
            If these data cannot carry the model; the message names the remedy.
        ConvergenceError
            If ``strict`` and no maximum was found; the error holds the fit.
        """
        selection = self._select(panel)
        likelihood = self._likelihood(selection)
        return fit_likelihood(self, panel, selection, likelihood, errors, seed, strict, self.starts)

    def loglik(self, panel: SessionPanel, params: Params) -> float:
        """Return the log-likelihood at any parameters, by canonical name."""
        selection = self._select(panel)
        layout = self._layout(selection.variables, selection.sessions)
        system = self._process(selection.sessions).system(self._matrices(layout, params))
        return self._likelihood(selection).loglik(system)

    def objective(self, panel: SessionPanel) -> Likelihood:
        """Return the log-likelihood as a function of an unconstrained vector, with its score."""
        return self._likelihood(self._select(panel))

    def state_space(
        self, params: Params, variables: tuple[str, ...], sessions: tuple[int, ...]
    ) -> StateSpace:
        """Return the system matrices at natural parameters."""
        layout = self._layout(variables, sessions)
        return self._process(sessions).system(self._matrices(layout, params))

    def _select(self, panel: SessionPanel) -> Selection:
        selection = select(panel, self.variables, self.sessions)
        fewest = 3 if self.traits else 2
        if len(selection.sessions) < fewest:
            raise SpecificationError(
                f"The {self.name} needs {fewest} or more sessions; these data have "
                f"{len(selection.sessions)}."
            )
        free = {
            option: getattr(self, option) == "free" for option in ("means", "lags", "innovations")
        }
        refuse_thin_sessions(selection, **free)
        return selection

    def _process(self, sessions: tuple[int, ...]) -> _Process:
        return _Process(len(sessions), self.traits, self.initial == "stationary")

    def _layout(
        self,
        variables: tuple[str, ...],
        sessions: tuple[int, ...],
        scale: tuple[float, ...] | None = None,
    ) -> Layout:
        into: tuple[int | None, ...] = sessions[1:]
        every: tuple[int | None, ...] = (None,)
        blocks = [
            Block("phi", "matrix", into if self.lags == "free" else every),
            Block("innovation_cov", "covariance", into if self.innovations == "free" else every),
        ]
        if self.initial == "free":
            blocks.append(Block("initial_cov", "covariance", every))
        if self.traits:
            blocks.append(Block("between_cov", "covariance", every))
        blocks.append(Block("mean", "vector", sessions if self.means == "free" else every))
        return Layout(variables, tuple(blocks), scale or (1.0,) * len(variables))

    def _matrices(self, layout: Layout, params: Params) -> Matrices:
        """Collect named parameters; a stationary process may be given by its covariance."""
        settled = names.symmetric_labels("initial_cov", layout.variables)
        if self.initial != "stationary" or settled[0] not in params:
            return layout.from_params(params)
        phi = names.matrix(params, "phi", layout.variables, layout.variables)
        P = names.symmetric_matrix(params, "initial_cov", layout.variables)
        implied = names.symmetric_labels("innovation_cov", layout.variables)
        upper = np.triu_indices(layout.k)
        psi = dict(zip(implied, (P - phi @ P @ phi.T)[upper].tolist(), strict=True))
        given = np.array([params.get(name, psi[name]) for name in implied])
        if not np.allclose(given, list(psi.values()), rtol=1e-6, atol=1e-6 * np.abs(P).max()):
            raise SpecificationError(
                "initial_cov and innovation_cov contradict each other: a stationary process has "
                "innovation_cov = initial_cov - phi initial_cov phi'. Give one of them."
            )
        return layout.from_params({**params, **psi})

    def _likelihood(self, selection: Selection) -> Likelihood:
        rough = starting.moments(selection.Y, self.traits)
        layout = self._layout(selection.variables, selection.sessions, tuple(rough.sd.tolist()))
        start = {
            "phi": rough.phi,
            "innovation_cov": rough.innovation,
            "initial_cov": rough.within,
            "between_cov": rough.between,
        }
        matrices = {
            block.family: np.repeat(start[block.family][None], len(block.slots), axis=0)
            for block in layout.blocks
            if block.family != "mean"
        }
        free = self.means == "free"
        matrices["mean"] = rough.mean if free else rough.mean.mean(axis=0, keepdims=True)
        return Likelihood(
            layout=layout,
            family=self._process(selection.sessions),
            blocks=Blocks.pack(selection.Y),
            start=layout.theta(matrices),
            implied=_Settled(layout) if self.initial == "stationary" else None,
        )


@dataclass(frozen=True)
class _Settled:
    """The first session's covariance where it is implied: P = phi P phi' + innovation_cov."""

    layout: Layout

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(names.symmetric_labels("initial_cov", self.layout.variables))

    def values(self, matrices: Matrices) -> Array:
        upper = np.triu_indices(self.layout.k)
        return stationary_cov(matrices["phi"][0], matrices["innovation_cov"][0])[upper]

    def jacobian(self, matrices: Matrices, natural: Array) -> Array:
        """Return the derivatives by theta, from those of the natural parameters (len(names), n)."""
        k, cuts = self.layout.k, self.layout.slices
        upper = np.triu_indices(k)
        d_phi = natural[cuts["phi"]].T.reshape(-1, k, k)
        d_psi = np.zeros_like(d_phi)
        d_psi[:, upper[0], upper[1]] = natural[cuts["innovation_cov"]].T
        d_psi[:, upper[1], upper[0]] = natural[cuts["innovation_cov"]].T
        phi, psi = matrices["phi"][0], matrices["innovation_cov"][0]
        return stationary_cov_tangent(phi, psi, d_phi, d_psi)[:, upper[0], upper[1]].T


@dataclass(frozen=True)
class CLPM(_CrossLagged):
    """Cross-lagged panel model: w_it = phi w_{i,t-1} + v_it around the session means.

    It has no stable differences between clients, so that they are mixed into the lagged effects:
    fitted to show how far its answer is from that of the :class:`RICLPM`.
    """

    __doc__ = f"{__doc__}\n{_CrossLagged.__doc__}"
    name: ClassVar[str] = "CLPM"
    traits: ClassVar[bool] = False
    assumptions: ClassVar[tuple[str, ...]] = (
        "Clients do not differ in their stable levels: all that differs between them fades with "
        "the autoregression. Where they do differ, between-client differences are mixed into the "
        "lagged effects.",
        "Nothing that varies over sessions and is not in the model moves both series.",
        "One session is the lag at which the series act on each other.",
        "Scores are free of measurement error, normally distributed, and missing at random given "
        "the observed scores.",
    )
    references: ClassVar[tuple[str, ...]] = (
        "Hamaker, E. L., Kuiper, R. M., & Grasman, R. P. P. P. (2015). A critique of the "
        "cross-lagged panel model. Psychological Methods, 20, 102-116.",
    )


@dataclass(frozen=True)
class RICLPM(_CrossLagged):
    """Random-intercept cross-lagged panel model (Hamaker, Kuiper & Grasman, 2015).

    Stable differences between clients, k_i ~ N(0, between_cov), are split from the within-client
    deviations w_it = phi w_{i,t-1} + v_it, so that phi speaks about change within clients.
    """

    __doc__ = f"{__doc__}\n{_CrossLagged.__doc__}"
    name: ClassVar[str] = "RI-CLPM"
    traits: ClassVar[bool] = True
    assumptions: ClassVar[tuple[str, ...]] = (
        "Clients differ by a constant: no client has a trend of their own around the session "
        "means. Where they do, shared trends are mixed into the lagged effects.",
        "Nothing that varies over sessions and is not in the model moves both series.",
        "One session is the lag at which the series act on each other.",
        "Scores are free of measurement error, normally distributed, and missing at random given "
        "the observed scores.",
    )
    references: ClassVar[tuple[str, ...]] = (
        "Hamaker, E. L., Kuiper, R. M., & Grasman, R. P. P. P. (2015). A critique of the "
        "cross-lagged panel model. Psychological Methods, 20, 102-116.",
    )
