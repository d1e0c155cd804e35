r"""Dynamic-panel GMM: lagged effects from changes, with earlier scores as instruments.

    y_it = client_i + session_t + phi[y,y] y_i,t-1 + phi[y,x] x_i,t-1 + input e_it + u_it

Changes between sessions lose the client's level, and with it the bias of pooled regression and of
person-mean centering; what they bring in, a lagged outcome that holds an error of the change, is
met by instruments from earlier sessions. A row needs all its terms, by session number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from alliancedyn.allowed import OR_ONE
from alliancedyn.checking import checked
from alliancedyn.engine import names
from alliancedyn.engine.gmm import GMMFit, fit_gmm
from alliancedyn.engine.maximise import outer_products
from alliancedyn.errors import SpecificationError
from alliancedyn.models.equation_data import far_from_zero
from alliancedyn.models.equations import Equation
from alliancedyn.models.instrument_guards import (
    MOST_LAGS,
    Asked,
    Bracket,
    bracket,
    of_zero,
    read,
    refuse_exact,
    refuse_too_many,
    refuse_unidentified,
    remarks,
)
from alliancedyn.models.regression import Question, Regression, checked_names
from alliancedyn.models.rows import lagged
from alliancedyn.models.selection import Needs

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

MOST_DIGITS = 1e5  # mean in units of spread, beyond which products lose what changes
FAR_FROM_ZERO = (
    "The scores of {name!r} lie {times:.0e} times their spread away from zero, which leaves too "
    "few digits for what changes. Use center_instruments=True, and check the export."
)

NO_TERM = "a term of the equation missing there or at the sessions before"
NO_CHANGE = "no complete session beside it to take a change from"


@checked
@dataclass(frozen=True, repr=False)
class DynamicPanelGMM(Regression):
    """Dynamic-panel regression by the generalized method of moments.

    Parameters
    ----------
    process, outcome, direction, sessions
        As in :class:`~alliancedyn.models.regression.Regression`.
    process_role : {"predetermined", "exogenous", "endogenous"}
        What the process is allowed to answer to; see the notes.
    outcome_lags, process_lags : int
        How many earlier sessions enter: ``phi[y,y]`` and ``phi2[y,y]``, ...
    exogenous : tuple of str
        Columns of the panel, one number per session, that act on the outcome of the same session
        and do not answer to any score: ``input[symptoms,crisis]``.
    transform : {"difference", "orthogonal"}
        Differences from the session before (Arellano & Bond, 1991), or deviations from the mean of
        all later ones (Arellano & Bover, 1995), which lose fewer rows at gaps.
    system : bool
        Also the equation in levels, with earlier changes as instruments (Blundell & Bond, 1998).
        That takes clients to start in the steady state; those who come at their worst do not.
    steps : {1, 2}
        Two steps weigh the moments by the first step's residuals; errors are then corrected after
        Windmeijer (2005).
    collapse : bool
        One instrument for every lag, rather than one for every session and lag.
    instrument_lags : (int, int or None)
        First and last session before the row's, from which outcome and process are instruments.
    session_effects : bool
        Whether sessions have an effect each, which is its own instrument. In differences
        ``session[3]`` is the change of level since session 2; otherwise a level.
    center_instruments : bool
        Whether scores are instruments as deviations from the mean of their session. A missing
        instrument counts as 0; so by default, as in other programs, estimates depend on where the
        scales have their zero when sessions are missing or there are no session effects. Centered,
        they never do.

    Notes
    -----
    The difference of sessions t and t-1 holds the errors u_t and u_(t-1). The regressor is the
    process of the session before, x_(t-1), whose change holds x_(t-1) and x_(t-2).

    - *Predetermined*: x_s may answer to all errors up to u_s (alliance after session s answers to
      symptoms before it), not to later ones. So x_(t-1) answers to u_(t-1) and is no instrument;
      x_(t-2) and earlier are: ``instrument_lags=(2, ...)``, the same sessions as of the outcome.
    - *Endogenous*: x_(t-1) may also share a cause with u_t, and x_(t-2) with u_(t-1). Its
      instruments start one session earlier, at x_(t-3).
    - *Exogenous*: x answers to no error of the outcome, ever. It is its own instrument.

    Standard errors are by default robust to any dependence and unequal variances within clients;
    ``errors="observed"`` takes the errors as white noise (one step), or leaves Windmeijer's
    correction out (two steps). With ``errors="cluster:therapist"`` clients' shares in the
    estimates, correction included, are added up by therapist; weights and tests of instruments go
    on treating clients as independent.

    References
    ----------
    Arellano, M., & Bond, S. (1991). Some tests of specification for panel data: Monte Carlo
    evidence and an application to employment equations. Review of Economic Studies, 58, 277-297.
    Arellano, M., & Bover, O. (1995). Another look at the instrumental variable estimation of
    error-components models. Journal of Econometrics, 68, 29-51.
    Blundell, R., & Bond, S. (1998). Initial conditions and moment restrictions in dynamic panel
    data models. Journal of Econometrics, 87, 115-143.
    Windmeijer, F. (2005). A finite sample correction for the variance of linear efficient two-step
    GMM estimators. Journal of Econometrics, 126, 25-51.
    """

    process_role: Literal["predetermined", "exogenous", "endogenous"] = "predetermined"
    outcome_lags: int = 1
    process_lags: int = 1
    exogenous: Annotated[tuple[str, ...], OR_ONE] = ()
    transform: Literal["difference", "orthogonal"] = "difference"
    system: bool = False
    steps: int = 2
    collapse: bool = True
    instrument_lags: tuple[int, int | None] = (2, None)
    session_effects: bool = True
    center_instruments: bool = False

    name: ClassVar[str] = "Dynamic-panel GMM"
    usual_errors: ClassVar[str] = "robust"
    assumptions: ClassVar[tuple[str, ...]] = (
        "Errors of the outcome have no memory: what is left over at one session says nothing about "
        "the next (m2 tests it).",
        "Earlier scores act on present change through the terms of the equation alone (Hansen's "
        "test).",
        "The process answers to errors of the outcome only as its role allows.",
        "Effects are the same for all clients and sessions; scores have no measurement error.",
        "Many clients: errors and tests rest on their number, and on fewer instruments than that.",
    )
    references: ClassVar[tuple[str, ...]] = (
        "Arellano, M., & Bond, S. (1991). Some tests of specification for panel data: Monte Carlo "
        "evidence and an application to employment equations. Review of Economic Studies, 58, "
        "277-297.",
        "Windmeijer, F. (2005). A finite sample correction for the variance of linear efficient "
        "two-step GMM estimators. Journal of Econometrics, 126, 25-51.",
    )

    def __post_init__(self) -> None:
        given = self.exogenous
        given = (given,) if isinstance(given, str) else given
        object.__setattr__(self, "exogenous", checked_names("exogenous", given))
        super().__post_init__()
        for option in ("outcome_lags", "process_lags"):
            count = getattr(self, option)
            if not _whole(count) or not 1 <= count <= MOST_LAGS:
                raise SpecificationError(
                    f"{option} is {getattr(self, option)!r}; give a number from 1 to {MOST_LAGS}."
                )
        object.__setattr__(self, "instrument_lags", _checked_lags(self.instrument_lags))
        if self.direction == "both" and self.process_role == "exogenous":
            raise SpecificationError(
                'direction="both" asks whether the outcome moves the process, which an exogenous '
                'process excludes. Use process_role="predetermined", or direction="forward".'
            )

    @classmethod
    def choices(cls) -> dict[str, tuple[Any, ...]]:
        """Return the values that options with a choice can take."""
        return {
            **super().choices(),
            "process_role": ("predetermined", "exogenous", "endogenous"),
            "transform": ("difference", "orthogonal"),
            "system": (True, False),
            "steps": (1, 2),
            "collapse": (True, False),
            "session_effects": (True, False),
            "center_instruments": (True, False),
        }

    def needs(self) -> Needs:
        """Return what the family needs of a panel beside the two series."""
        return Needs(time_varying=self.exogenous)

    def equation(self, question: Question) -> Equation:
        """Estimate one direction."""
        X = self._regressors(question)
        fit = self._estimated(question, X)
        refuse_too_many(fit, question.target, self._asked)
        refuse_exact(fit, question.y, question.target)
        labels = self._labels(question, fit)
        between = bracket(question.y, X, self.session_effects)
        clusters = question.clusters
        if question.errors == "observed":
            cov = fit.cov_conventional
        else:
            cov = fit.cov if clusters is None else outer_products(fit.influence, clusters)
        complete = ~np.isnan(question.y) & ~np.isnan(X).any(axis=2)
        used = ~np.isnan(fit.residuals).reshape(question.y.shape)
        return Equation(
            names=labels,
            estimates=fit.beta,
            cov=cov,
            shares=fit.influence,
            used=used,
            rows_set_aside=_set_aside(question.y, complete, used),
            variances={names.label("residual_var", question.target): fit.sigma2},
            variance_cov=_variance_cov(fit, used, self, clusters),
            notes=(
                *remarks(fit, between, self._asked),
                *self._of_zero(question, X, fit, labels),
            ),
            diagnostics=_diagnostics(fit, self._series(question), labels, between),
        )

    @property
    def _asked(self) -> Asked:
        """What advice to readers depends on."""
        return Asked(
            self.collapse, self.instrument_lags, self.outcome_lags, self.session_effects,
            self.steps, self.system,
        )  # fmt: skip

    def _series(self, question: Question) -> tuple[str, ...]:
        """Name the series with instruments of their own."""
        own = () if self.process_role == "exogenous" else (question.source,)
        return (question.target, *own)

    def _regressors(self, question: Question) -> Array:
        """Return lagged outcome, lagged process and exogenous columns in levels, (n, T, p)."""
        columns = []
        for scores, count in ((question.y, self.outcome_lags), (question.x, self.process_lags)):
            before = scores
            for _ in range(count):
                before = lagged(before)
                columns.append(before)
        return np.concatenate([np.stack(columns, axis=2), question.data.inputs], axis=2)

    def _estimated(self, question: Question, X: Array) -> GMMFit:
        """Estimate, refusing by name what cannot be."""
        if not self.center_instruments:
            for name, far in zip(
                question.data.variables, far_from_zero(question.data.Y), strict=True
            ):
                if far > MOST_DIGITS:
                    raise SpecificationError(FAR_FROM_ZERO.format(name=name, times=far))
        try:
            return self._estimate(question, X, self.center_instruments)
        except SpecificationError:
            refuse_unidentified(question.y, X, self._terms(question), self.session_effects)
            raise

    def _of_zero(
        self, question: Question, X: Array, fit: GMMFit, labels: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Say so where estimates depend on the arbitrary zero of the scales."""
        whole = not np.isnan(question.data.Y).any()
        if self.center_instruments or (whole and self.session_effects):
            return ()
        try:
            centered = self._estimate(question, X, True)
        except SpecificationError:
            return ()
        return of_zero(fit, centered, labels[: X.shape[2]], whole)

    def _estimate(self, question: Question, X: Array, center: bool) -> GMMFit:
        n, T = question.y.shape
        first, last = self.instrument_lags
        x, y = question.x, question.y
        if center:
            x, y = _from_session_means(x), _from_session_means(y)
        series: list[tuple[Array, tuple[int, int | None]]] = [(y.ravel(), self.instrument_lags)]
        own = self.outcome_lags + self.process_lags  # where columns that are their own begin
        if self.process_role == "exogenous":
            own = self.outcome_lags
        elif self.process_role == "endogenous":
            series.append((x.ravel(), (first + 1, None if last is None else last + 1)))
        else:
            series.append((x.ravel(), self.instrument_lags))
        flat = X.reshape(n * T, -1)
        return fit_gmm(
            question.y.ravel(),
            flat,
            np.repeat(np.arange(n), T),
            np.tile(np.array(question.data.sessions, np.int64), n),
            gmm=series,
            iv=flat[:, own:] if flat.shape[1] > own else None,
            transform=self.transform,
            steps=self.steps,
            collapse=self.collapse,
            session_effects=self.session_effects,
            system=self.system,
            intercept=self.system and not self.session_effects,
        )

    def _labels(self, question: Question, fit: GMMFit) -> tuple[str, ...]:
        sessions = [question.session_name(session) for session in fit.effects]
        constant = self.system and not self.session_effects
        rest = [names.label("intercept", question.target)] if constant else []
        return (*self._terms(question), *sessions, *rest)

    def _terms(self, question: Question) -> tuple[str, ...]:
        y, x = question.target, question.source
        lags = [names.label(_phi(k), y, y) for k in range(1, self.outcome_lags + 1)]
        lags += [names.label(_phi(k), y, x) for k in range(1, self.process_lags + 1)]
        return (*lags, *(names.label("input", y, name) for name in self.exogenous))


def _from_session_means(scores: Array) -> Array:
    """Return scores (n, T) less the mean of their session; NaN stays."""
    seen = ~np.isnan(scores)
    total = np.where(seen, scores, 0.0).sum(axis=0)
    return np.asarray(scores - total / np.maximum(seen.sum(axis=0), 1))


def _phi(lag: int) -> str:
    return "phi" if lag == 1 else f"phi{lag}"


def _whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _checked_lags(lags: object) -> tuple[int, int | None]:
    ends = tuple(lags) if isinstance(lags, tuple | list) else ()
    if len(ends) == 2 and _whole(ends[0]) and (ends[1] is None or _whole(ends[1])):
        first, last = ends
        if first >= 2 and (last is None or last >= first):
            return first, last
    raise SpecificationError(
        f"instrument_lags is {lags!r}; give (first, last) with 2 <= first <= last, or (first, "
        "None) for all. The score one session before holds an error of the change itself."
    )


def _set_aside(y: Array, complete: Mask, used: Mask) -> dict[str, int]:
    scored = ~np.isnan(y)
    found = {
        NO_TERM: int((scored & ~complete).sum()),
        NO_CHANGE: int((complete & ~used).sum()),
    }
    return {reason: count for reason, count in found.items() if count}


def _variance_cov(
    fit: GMMFit, used: Mask, model: DynamicPanelGMM, clusters: NDArray[np.int64] | None
) -> Array:
    """Return the variance of the residual variance by the clients' shares in it.

    sigma2 = sum e^2 / (c rows), c = 2 in differences; a client's share is what its own squares
    exceed sigma2 by, over all rows. The error of the effects is of second order.
    """
    scale = 2.0 if model.transform == "difference" else 1.0
    squares = np.where(used, fit.residuals.reshape(used.shape), 0.0) ** 2 / scale
    rows = used.sum(axis=1)
    shares = (squares.sum(axis=1) - squares.sum() / rows.sum() * rows) / rows.sum()
    return outer_products(shares[:, None], clusters)


def _diagnostics(
    fit: GMMFit, series: tuple[str, ...], labels: tuple[str, ...], between: Bracket
) -> dict[str, Any]:
    owners = (*series, "levels")[: len(fit.difference_hansen)]
    pairs = zip(owners, fit.difference_hansen, strict=True)
    return {
        "m1": read(fit.m1),
        "m2": read(fit.m2),
        "sargan": read(fit.sargan),
        "hansen": read(fit.hansen),
        "difference_in_hansen": {name: read(test) for name, test in pairs},
        "instruments": fit.n_instruments,
        "rank": fit.rank,
        "clients": fit.n_clients,
        "bracket": {
            "pooled": dict(zip(labels, between.pooled.tolist(), strict=False)),
            "within": dict(zip(labels, between.within.tolist(), strict=False)),
        },
    }
