r"""Fixed effects of clients: lagged effects from change within clients alone.

    y_it = client_i + session_t + phi[y,y] y_i,t-1 + phi[y,x] x_i,t-1 + input e_it + u_it

by least squares (linearmodels' ``PanelOLS``), with effects corrected by the half-panel jackknife.
A row needs all its terms: scores at session numbers t and t - 1. What random effects would give is
contrasted in the diagnostics.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.allowed import OR_ONE
from alliancedyn.checking import checked
from alliancedyn.engine import names
from alliancedyn.engine.client_contrasts import (
    Contrast,
    RandomEffects,
    between_freedom,
    hausman,
    mundlak,
    random_effects,
)
from alliancedyn.engine.maximise import outer_products
from alliancedyn.engine.two_way import (
    ROWS_TO_HALVE,
    Grid,
    Within,
    collinear,
    correct_by_halves,
    estimate_within,
)
from alliancedyn.errors import SpecificationError
from alliancedyn.models.equations import Equation
from alliancedyn.models.regression import Question, Regression, checked_names
from alliancedyn.models.selection import Needs

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

EXACT = 1e-20  # share of the squares within clients that is rounding
SESSIONS_ENOUGH = 8  # with fewer, what the jackknife leaves of the bias can still be read

NO_LAG = "a term of the equation missing there or at the session before"
NO_ROW = "no session with all terms of the equation"
ONE_ROW = "one usable session, from which nothing is known of change"
TOO_SHORT = f"fewer than {ROWS_TO_HALVE} usable sessions, which cannot be halved"

ROBUST_ONLY = (
    'Effects corrected by halves vary more than errors="observed" would say, so these errors are '
    'robust. Use errors="robust", or bias_correction=None.'
)
NO_LICENSE = (
    "Lagged outcomes contain the client's effect, so random effects are inconsistent here whatever "
    "the sample says: a test that finds no difference is no license for them."
)


@checked
@dataclass(frozen=True, repr=False)
class FixedEffects(Regression):
    """Regression on lagged scores with fixed effects of clients and sessions.

    Parameters
    ----------
    process, outcome : str, optional
        The two series; by default those of the panel.
    direction : {"forward", "both"}
        Process -> outcome, or also outcome -> process, as a second equation of the same fit.
    session_effects : bool
        Whether every session has an effect: what all clients share there, as a common course of
        improvement. The first session in use is the reference.
    bias_correction : {"half-panel"} or None
        Whether to remove the part of the bias of the lagged effects that is proportional to one
        over the number of sessions. It needs clients with four usable sessions; others are set
        aside and counted. Other effects are estimated given the corrected ones.
    exogenous : tuple of str
        Columns of the panel, one number per session, that act on the outcome of the same session
        and do not answer to earlier scores: ``input[symptoms,crisis]``.
    sessions : (int, int), optional
        First and last session number to use.

    Notes
    -----
    Standard errors are by default robust to any dependence and unequal variances within clients
    (Arellano, 1987), without a small-sample factor. They hold the price of the correction: with
    eight sessions, errors a third to a half larger. ``errors="observed"`` takes errors to be
    independent with equal variances; for corrected effects there is no such formula, and errors
    are robust, which the fit says.

    References
    ----------
    Arellano, M. (1987). Computing robust standard errors for within-groups estimators. Oxford
    Bulletin of Economics and Statistics, 49(4), 431-434.
    Nickell, S. (1981). Biases in dynamic models with fixed effects. Econometrica, 49(6), 1417-1426.
    Dhaene, G., & Jochmans, K. (2015). Split-panel jackknife estimation of fixed-effect models.
    Review of Economic Studies, 82(3), 991-1030.
    Chudik, A., Pesaran, M. H., & Yang, J.-C. (2018). Half-panel jackknife fixed-effects estimation
    of linear panels with weakly exogenous regressors. Journal of Applied Econometrics, 33(6),
    816-836.
    """

    session_effects: bool = True
    bias_correction: Literal["half-panel"] | None = "half-panel"
    exogenous: Annotated[tuple[str, ...], OR_ONE] = ()

    name: ClassVar[str] = "Fixed effects"
    usual_errors: ClassVar[str] = "robust"
    assumptions: ClassVar[tuple[str, ...]] = (
        "Stable differences between clients add the same amount at every session.",
        "Nothing that varies within clients, beyond the terms of the equation, moves the process "
        "and later the outcome.",
        "Effects are the same for all clients and sessions; scores have no measurement error.",
        "Whether a session is missing does not depend on the error of the outcome there.",
        "Many sessions: the bias of lagged effects falls with their number, corrected or not; the "
        "half-panel correction takes both halves of a treatment to follow the same equation.",
    )
    references: ClassVar[tuple[str, ...]] = (
        "Nickell, S. (1981). Biases in dynamic models with fixed effects. Econometrica, 49(6), "
        "1417-1426.",
        "Dhaene, G., & Jochmans, K. (2015). Split-panel jackknife estimation of fixed-effect "
        "models. Review of Economic Studies, 82(3), 991-1030.",
        "Chudik, A., Pesaran, M. H., & Yang, J.-C. (2018). Half-panel jackknife fixed-effects "
        "estimation of linear panels with weakly exogenous regressors. Journal of Applied "
        "Econometrics, 33(6), 816-836.",
    )

    def __post_init__(self) -> None:
        given = self.exogenous
        given = (given,) if isinstance(given, str) else given
        object.__setattr__(self, "exogenous", checked_names("exogenous", given))
        super().__post_init__()

    @classmethod
    def choices(cls) -> dict[str, tuple[Any, ...]]:
        """Return the values that options with a choice can take."""
        return {
            **super().choices(),
            "session_effects": (True, False),
            "bias_correction": ("half-panel", None),
        }

    @property
    def biased_in_short_panels(self) -> bool:
        """Clients' levels make it so, unless that is corrected."""
        return self.bias_correction is None

    def needs(self) -> Needs:
        """Return what the family needs of a panel beside the two series."""
        return Needs(time_varying=self.exogenous)

    def equation(self, question: Question) -> Equation:
        """Estimate one direction."""
        halve = self.bias_correction == "half-panel"
        used, aside, clients_aside = _usable(question, halve)
        x, y = (scores - np.nanmean(scores) for scores in (question.x, question.y))
        X = np.full((*y.shape, 2), np.nan)  # digits are for what changes, not for a common level
        X[:, 1:, 0], X[:, 1:, 1] = y[:, :-1], x[:, :-1]
        grid = Grid(y, X, question.data.inputs, used, self.session_effects)
        labels = self._labels(question, grid)
        _refuse(grid, labels, question)
        known, r2 = _panel_ols(grid)
        plain = estimate_within(grid, known)
        _refuse_exact(grid, plain, question)
        within = _corrected(grid, plain) if halve else plain
        observed = question.errors == "observed" and not halve
        spoken_for = {"errors": "robust"} if question.errors == "observed" and halve else {}
        return Equation(
            names=labels,
            estimates=within.effects,
            cov=within.cov if observed else outer_products(within.shares, question.clusters),
            shares=within.shares,
            used=used,
            rows_set_aside=aside,
            clients_set_aside=clients_aside,
            variances={names.label("residual_var", question.target): within.residual_var},
            variance_cov=_variance_cov(grid, within, observed, question.clusters),
            notes=(*_notes(grid, halve), *((ROBUST_ONLY,) if spoken_for else ())),
            diagnostics={
                **spoken_for,
                "clients_without": clients_aside,
                "sessions_per_client": float(grid.counts[grid.counts > 0].mean()),
                "r2_within": r2,
                "uncorrected": dict(zip(labels[:2], plain.effects.tolist(), strict=False)),
                **_contrasts(grid, plain, labels, question.clusters),
            },
        )

    def _labels(self, question: Question, grid: Grid) -> tuple[str, ...]:
        y = question.target
        sessions = [question.session_name(question.data.sessions[t]) for t in grid.dummies]
        inputs = [names.label("input", y, name) for name in self.exogenous]
        return (
            names.label("phi", y, y),
            names.label("phi", y, question.source),
            *inputs,
            *sessions,
        )


# -- rows ----------------------------------------------------------------------------------------


def _usable(question: Question, halve: bool) -> tuple[Mask, dict[str, int], dict[str, int]]:
    """Return the rows in use (n, T); by reason, rows with an outcome and clients that are not."""
    scored: Mask = ~np.isnan(question.y)
    used = np.zeros_like(scored)
    used[:, 1:] = scored[:, 1:] & scored[:, :-1] & ~np.isnan(question.x[:, :-1])
    n = used.sum(axis=1)
    _refuse_short(n, halve, question)
    rows, clients = {NO_LAG: int(scored.sum() - n.sum())}, {NO_ROW: int((n == 0).sum())}
    for reason, short in ((ONE_ROW, n == 1), (TOO_SHORT, halve & (n > 1) & (n < ROWS_TO_HALVE))):
        rows[f"of clients with {reason}"] = int(n[short].sum())
        clients[reason] = int(short.sum())
        used[short] = False
    return (
        used,
        {reason: count for reason, count in rows.items() if count},
        {reason: count for reason, count in clients.items() if count},
    )


def _refuse_short(n: NDArray[np.int64], halve: bool, question: Question) -> None:
    longest = int(n.max(initial=0))
    if longest < 2:
        raise SpecificationError(
            f"No client has two sessions with {question.target!r} there and both series at the "
            "session before, so nothing is known of change within clients. Fixed effects need "
            "three sessions in a row, or two pairs of sessions."
        )
    if halve and longest < ROWS_TO_HALVE:
        raise SpecificationError(
            f"No client has {ROWS_TO_HALVE} sessions with {question.target!r} there and both "
            f"series at the session before (the most is {longest}), so clients cannot be halved. "
            "Use bias_correction=None, and mind the bias, or DynamicPanelGMM()."
        )


def _refuse(grid: Grid, labels: tuple[str, ...], question: Question) -> None:
    """Refuse equations whose terms cannot be told apart, by name."""
    effects = grid.session_effects
    without = ", or use session_effects=False" if effects else ""
    found = collinear(grid)
    if found is not None:
        kind, j = found
        if kind == "session":
            raise SpecificationError(
                "Session effects cannot be told apart from client effects: some sessions are seen "
                "only of clients who are not seen at the others. Use session_effects=False, or "
                "narrow sessions=(first, last)."
            )
        also = " (with session effects, what is the same for all clients)" if effects else ""
        term = labels[j if kind == "effect" else grid.n_effects + j]
        raise SpecificationError(
            f"{term} cannot be estimated: its predictor does not change within clients, or the "
            f"other terms add up to it{also}. Leave it out{without}."
        )
    if grid.freedom < 1:
        clients = int((grid.counts > 0).sum())
        raise SpecificationError(
            f"{int(grid.counts.sum())} usable sessions of {clients} clients cannot carry "
            f"{len(labels)} effects for {question.target!r} beside one of every client. Add "
            f"sessions{without}."
        )


def _refuse_exact(grid: Grid, plain: Within, question: Question) -> None:
    """Refuse an outcome that the terms predict without error."""
    spread = float((grid.deviations[:, :, 0] ** 2).sum())
    if not float((plain.residuals**2).sum()) > EXACT * spread:
        raise SpecificationError(
            f"The equation predicts {question.target!r} without error, so nothing can be inferred. "
            "Look for a column that repeats it, at this session or the one before."
        )


# -- estimates -----------------------------------------------------------------------------------


def _panel_ols(grid: Grid) -> tuple[Array, float]:
    """Return the effects of X and E by ``PanelOLS``, and its R2 within clients.

    Session effects, shares of clients and halves of the panel follow from cross-products, without
    a column for every session.
    """
    from linearmodels.panel import PanelOLS  # loads in a second, so not before it is needed

    client, session = np.nonzero(grid.used)
    rows = pd.MultiIndex.from_arrays([client, session], names=["client", "session"])
    columns = np.concatenate([grid.X, grid.E], axis=2)[grid.used]
    model = PanelOLS(
        pd.DataFrame({"outcome": grid.y[grid.used]}, index=rows),
        pd.DataFrame(columns, index=rows, columns=[f"x{j}" for j in range(columns.shape[1])]),
        entity_effects=True,
        time_effects=bool(len(grid.dummies)),
        check_rank=False,  # done, by name
    )
    result = model.fit(debiased=False)
    return result.params.to_numpy(float), float(result.rsquared_within)


def _corrected(grid: Grid, plain: Within) -> Within:
    """Correct by halves, or say why that cannot be done."""
    try:
        return correct_by_halves(grid, plain)
    except np.linalg.LinAlgError as error:
        without = ", or session_effects=False" if grid.session_effects else ""
        raise SpecificationError(
            "In one half of the clients' sessions the lagged effects cannot be told apart from "
            f"the other terms. Use bias_correction=None{without}."
        ) from error


def _variance_cov(
    grid: Grid, within: Within, observed: bool, clusters: NDArray[np.int64] | None
) -> Array:
    """Return the variance of the residual variance: normal, or by the clients' shares in it."""
    if observed:
        return np.array([[2.0 * within.residual_var**2 / grid.freedom]])
    squares = (within.residuals**2).sum(axis=1)
    weight = np.maximum(grid.counts - 1.0, 0.0)
    shares = (squares - squares.sum() * weight / weight.sum()) / grid.freedom
    return outer_products(shares[:, None], clusters)


def _notes(grid: Grid, halve: bool) -> tuple[str, ...]:
    """Say what is left of the bias."""
    rows = float(grid.counts[grid.counts > 0].mean())
    size = f"{rows:.1f} usable sessions per client"
    if not halve:
        return (
            f"With {size}, least squares within clients pulls the autoregression down, by about "
            f"(1 + phi) / {max(rows - 1.0, 1.0):.1f}, and the cross-lagged effect with it. Use "
            'bias_correction="half-panel", or compare with DynamicPanelGMM().',
        )
    if rows + 1.0 < SESSIONS_ENOUGH:
        return (
            f"With {size} the half-panel correction removes only part of the bias: what falls "
            "with the square of the number of sessions stays. Compare with DynamicPanelGMM().",
        )
    return ()


# -- contrasts -----------------------------------------------------------------------------------


def _contrasts(
    grid: Grid, fixed: Within, labels: tuple[str, ...], clusters: NDArray[np.int64] | None
) -> dict[str, Any]:
    """Return random effects of clients on the same rows, and two tests against fixed ones."""
    k = grid.n_effects + grid.E.shape[2]
    if between_freedom(grid) < 1:
        none = Contrast(np.nan, k, np.nan, "Too few clients for a regression of their means.")
        return {
            "random_effects": {},
            "hausman": asdict(none),
            "mundlak": asdict(none),
            "contrast": NO_LICENSE,
        }
    random = random_effects(grid, fixed)
    return {
        "random_effects": _shown(random, labels[:k]),
        "hausman": asdict(hausman(fixed.effects[:k], fixed.cov[:k, :k], random)),
        "mundlak": asdict(mundlak(grid, fixed, clusters)),
        "contrast": NO_LICENSE,
    }


def _shown(random: RandomEffects, labels: tuple[str, ...]) -> dict[str, Any]:
    se = np.sqrt(np.diag(random.cov)).tolist()
    return {
        "estimates": dict(zip(labels, random.effects.tolist(), strict=True)),
        "se": dict(zip(labels, se, strict=True)),
        "client_var": random.client_var,
        "residual_var": random.residual_var,
    }
