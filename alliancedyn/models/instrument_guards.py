"""What to read before a dynamic-panel estimate: its tests, its instruments, and its bracket."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.gmm import GMMFit
from alliancedyn.engine.orthogonality import NullTest
from alliancedyn.engine.two_way import Grid, collinear
from alliancedyn.errors import SpecificationError

Array = NDArray[np.float64]

MOST_LAGS = 4  # of outcome and process that an equation takes
EXACT = 1e-18  # share of the outcome's variance that is rounding
NOTICEABLE = 1.0  # standard error by which the zero of the scales may move an effect
LEVEL = 0.05  # of tests that speak up
TOO_GOOD = 0.95  # p-values of Hansen's test above this


@dataclass(frozen=True)
class Asked:
    """The options that advice depends on, as `DynamicPanelGMM` has them."""

    collapse: bool
    instrument_lags: tuple[int, int | None]
    outcome_lags: int
    session_effects: bool
    steps: int
    system: bool

    @property
    def fewer(self) -> list[str]:
        """What would leave fewer instruments than there are now."""
        first, last = self.instrument_lags
        found = [] if self.collapse else ["collapse=True"]
        if last is None or last > first:
            shorter = first + 2 if last is None else last - 1
            found.append(f"instrument_lags=({first}, {shorter})")
        return found or (["session_effects=False"] if self.session_effects else ["fewer sessions"])

    @property
    def later(self) -> list[str]:
        """What would take errors with a longer memory."""
        lags = [] if self.outcome_lags >= MOST_LAGS else [f"outcome_lags={self.outcome_lags + 1}"]
        return [*lags, f"instrument_lags=({self.instrument_lags[0] + 1}, None)"]


@dataclass(frozen=True)
class Bracket:
    """The effects of the same terms by pooled regression, and within clients, (p,) each.

    With a positive autoregression, pooled regression overstates it (stable differences pass for
    carrying over) and regression within clients understates it (Nickell, 1981); a sound estimate
    lies between them.
    """

    pooled: Array
    within: Array


def bracket(y: Array, X: Array, session_effects: bool) -> Bracket:
    """Return both ends of the bracket from the rows that have all terms; NaN where there is none.

    Parameters
    ----------
    y : (n, T)
    X : (n, T, p)
    session_effects : bool
    """
    used = ~np.isnan(y) & ~np.isnan(X).any(axis=2)
    (n, T), p = y.shape, X.shape[2]
    within = Grid(y, X, np.zeros((n, T, 0)), used, session_effects)
    if session_effects:  # deviations from session means
        pooled = Grid(y.T, X.swapaxes(0, 1), np.zeros((T, n, 0)), used.T, False)
    else:  # from one mean of all rows
        flat = X.reshape(1, n * T, p)
        pooled = Grid(y.reshape(1, -1), flat, np.zeros((1, n * T, 0)), used.reshape(1, -1), False)
    return Bracket(_least_squares(pooled.gram, p), _least_squares(within.gram, p))


def _least_squares(gram: Array, p: int) -> Array:
    scale = np.sqrt(np.where(np.diag(gram) > 0.0, np.diag(gram), 1.0))
    unit = gram / np.outer(scale, scale)
    if np.linalg.cond(unit[1:, 1:]) > 1e10:
        return np.full(p, np.nan)
    return np.asarray((np.linalg.solve(unit[1:, 1:], unit[1:, 0]) * scale[0] / scale[1:])[:p])


def read(test: NullTest) -> dict[str, float | int | None]:
    """Return a test as plain numbers."""
    return {"statistic": test.statistic, "df": test.df, "pvalue": test.pvalue}


def refuse_unidentified(y: Array, X: Array, labels: tuple[str, ...], session_effects: bool) -> None:
    """Refuse a term that does not change within clients, or repeats others, by its name.

    Parameters
    ----------
    y : (n, T)
    X : (n, T, p)
    labels : tuple of str
        Names of the p terms.
    session_effects : bool

    Raises
    ------
    SpecificationError
        With the remedy.
    """
    used = ~np.isnan(y) & ~np.isnan(X).any(axis=2)
    if not (used.sum(axis=1) > 1).any():  # nothing changes for want of rows
        return
    grid = Grid(
        y, np.where(used[:, :, None], X, 0.0), np.zeros((*y.shape, 0)), used, session_effects
    )
    found = collinear(grid)
    if found is None or found[0] != "effect":
        return
    also = " (or session effects do)" if session_effects else ""
    raise SpecificationError(
        f"{labels[found[1]]} cannot be estimated: its predictor does not change within clients, or "
        f"the other terms add up to it{also}. Leave it out, or check the export."
    )


def refuse_exact(fit: GMMFit, y: Array, target: str) -> None:
    """Refuse an equation that leaves nothing of the outcome (n, T).

    Raises
    ------
    SpecificationError
        With the remedy.
    """
    left = fit.residuals[~np.isnan(fit.residuals)]
    spread = float(np.nanvar(y))
    if not float(left @ left) > EXACT * len(left) * spread:
        raise SpecificationError(
            f"The equation predicts {target!r} without error, so nothing can be inferred. Look for "
            "a column that repeats it, at this session or the one before."
        )


def refuse_too_many(fit: GMMFit, target: str, asked: Asked) -> None:
    """Refuse more instruments than there are rows to weigh them by.

    Raises
    ------
    SpecificationError
        With the remedy.
    """
    if fit.n_instruments > fit.n_rows:
        raise SpecificationError(
            f"{fit.n_instruments} instruments for {fit.n_rows} usable changes of {target!r} cannot "
            f"be weighed. Use {' or '.join(asked.fewer)}, or add clients."
        )


def remarks(fit: GMMFit, between: Bracket, asked: Asked) -> tuple[str, ...]:
    """Return what a reader should know, in sentences."""
    found = [
        *_of_instruments(fit, asked),
        *_of_untested(fit, asked),
        *_of_hansen(fit, asked),
        *_of_memory(fit, asked),
    ]
    if asked.steps == 1 and not np.isnan(fit.sargan.pvalue):
        found.append(
            "After one step the only test of all instruments is Sargan's, which takes errors to "
            "have equal variances; steps=2 adds Hansen's."
        )
    if asked.system:
        found.append(
            "The level equation takes every client to start in the steady state. Clients who start "
            "therapy at their worst do not: compare with system=False."
        )
    return (*found, *_of_bracket(fit, between))


def _of_instruments(fit: GMMFit, asked: Asked) -> list[str]:
    if fit.n_instruments <= fit.n_clients:
        return []
    return [
        f"There are more instruments ({fit.n_instruments}) than clients ({fit.n_clients}): "
        "estimates lean towards those within clients, and Hansen's test cannot reject. Use "
        f"{' or '.join(asked.fewer)}."
    ]


def _of_untested(fit: GMMFit, asked: Asked) -> list[str]:
    """Say in one sentence which tests these data cannot give, and why."""
    overall = ("Sargan's", fit.sargan) if asked.steps == 1 else ("Hansen's", fit.hansen)
    absent = []
    if np.isnan(overall[1].pvalue):
        absent.append(
            f"{overall[0]} test of the instruments (no more instruments than coefficients)"
        )
    for test, apart in ((fit.m1, "one session"), (fit.m2, "two sessions")):
        if np.isnan(test.pvalue):
            absent.append(f"{test.name} (no client has usable changes {apart} apart)")
    if not absent:
        return []
    return [
        f"These data cannot give {', '.join(absent)}: whether instruments are valid and errors "
        "without memory stays an assumption to that extent. More sessions would test it."
    ]


def _of_hansen(fit: GMMFit, asked: Asked) -> list[str]:
    found, p = [], fit.hansen.pvalue
    if p > TOO_GOOD:
        found.append(
            f"Hansen's test has a p-value of {p:.3f}. Valid instruments give that in one fit of "
            f"twenty, too many give it as a rule (here {fit.n_instruments} for {fit.n_clients} "
            "clients). See whether it stays with fewer instrument_lags."
        )
    if p < LEVEL:
        found.append(
            f"Hansen's test rejects the instruments (chi-square {fit.hansen.statistic:.1f} on "
            f"{fit.hansen.df} df, p = {p:.3f}): some earlier score acts on change by another way "
            f"than the equation's. Try {' or '.join(asked.later)}, or another process_role; see "
            "difference_in_hansen."
        )
    return found


def _of_memory(fit: GMMFit, asked: Asked) -> list[str]:
    found = []
    if fit.m2.pvalue < LEVEL:
        found.append(
            f"The errors have a memory (m2 = {fit.m2.statistic:.2f}, p = {fit.m2.pvalue:.3f}), so "
            f"scores {asked.instrument_lags[0]} sessions back are no instruments. Use "
            f"{' or '.join(asked.later)}."
        )
    if fit.m1.pvalue > LEVEL:
        found.append(
            f"Changes of the errors show no first-order correlation (m1 = {fit.m1.statistic:.2f}, "
            f"p = {fit.m1.pvalue:.3f}), which errors without memory would: there are few rows, or "
            "the errors drift."
        )
    return found


def of_zero(fit: GMMFit, centered: GMMFit, labels: tuple[str, ...], whole: bool) -> tuple[str, ...]:
    """Say which effect depends most on the zero of the scales, if one does noticeably.

    Parameters
    ----------
    fit, centered : GMMFit
        With scores as they are, and as deviations from session means, as instruments.
    labels : tuple of str
        The effects of both.
    whole : bool
        Whether no score is missing.
    """
    p = len(labels)
    se = np.sqrt(np.diag(fit.cov)[:p])
    moved = np.abs(centered.beta[:p] - fit.beta[:p]) / np.where(se > 0.0, se, np.inf)
    j = int(moved.argmax())
    if not moved[j] > NOTICEABLE:
        return ()
    why = "without session effects," if whole else "missing sessions count as 0, so that"
    return (
        f"{why[0].upper()}{why[1:]} estimates depend on where the scales have their zero: with "
        f"scores less their session's mean as instruments, {labels[j]} is {centered.beta[j]:.2f}, "
        f"not {fit.beta[j]:.2f}. Use center_instruments=True.",
    )


def _of_bracket(fit: GMMFit, between: Bracket) -> list[str]:
    low, high, own = between.within[0], between.pooled[0], fit.beta[0]
    if not low <= high or low <= own <= high:
        return []
    side = "above that of pooled regression" if own > high else "below that within clients"
    return [
        f"The autoregression ({own:.2f}) lies {side} (within clients {low:.2f}, pooled "
        f"{high:.2f}); a sound estimate lies between. Instruments are weak or wrong, or the sample "
        "is small."
    ]
