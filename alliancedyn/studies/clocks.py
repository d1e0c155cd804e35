"""Which clock: discrete time, continuous time that counts sessions, or one that counts days.

Wester et al. (2025) compared the three on 1,413 patients and found that counting sessions
described alliance and symptoms best. :func:`compare_clocks` makes that comparison one call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.errors import SpecificationError
from alliancedyn.models import CLPM, RICLPM, ContinuousTime, Specification
from alliancedyn.models.clock import observed_gaps
from alliancedyn.panel import SessionPanel
from alliancedyn.results import Fit

DISCRETE, SESSION, DAYS = "discrete time", "continuous time, sessions", "continuous time, days"
SAME = 0.01  # log-likelihood within which two models describe the scores equally
TELLING = 2.0  # difference in BIC from which the data are said to prefer one clock
NUMBERS = ("loglik", "parameters", "aic", "bic", "bic_above_best", "converged", "at_bound", "note")


@checked
def compare_clocks(
    panel: SessionPanel,
    *,
    variables: tuple[str, ...] | None = None,
    traits: bool = True,
    means: Literal["free", "equal"] = "free",
    sessions: tuple[int, int] | None = None,
    measurement_var: Mapping[str, float] | str | None = None,
    reliability: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Fit the same process by three clocks to the same scores, and compare them.

    All three have a stationary first session, the same means and, with ``traits``, the same
    stable differences between clients; they have equally many parameters and differ only in how
    far apart sessions are: one step (discrete time: RI-CLPM, or CLPM without traits; continuous
    time that counts sessions), or the days that passed.

    Parameters
    ----------
    panel : SessionPanel
        With a date or day for every session, or the clock of days is left out and the note says
        why.
    variables : tuple of str, optional
        Two or more series; by default all.
    traits : bool
        Stable differences between clients.
    means : {"free", "equal"}
        A mean per session, or one; the same in all three models.
    sessions : (int, int), optional
        First and last session number to use.
    measurement_var, reliability : optional
        Measurement error as in the specifications.

    Returns
    -------
    DataFrame
        Index clock; loglik, parameters, aic, bic, bic_above_best, converged, at_bound, note. NaN
        where a clock could not be used; its note says why. ``attrs["text"]`` is the
        recommendation, in sentences.

    Raises
    ------
    SpecificationError
        If these data cannot carry the model by any clock.

    References
    ----------
    Wester, R. A., Koch, T., Münch, F., Driver, C., Lutz, W., & Rubel, J. (2025). In search of lost
    time: Discrete- versus continuous-time models of working alliance and symptom severity.
    Journal of Consulting and Clinical Psychology, 93, 27-39.
    """
    shared: dict[str, Any] = {
        "variables": variables,
        "means": means,
        "sessions": sessions,
        "measurement_var": measurement_var,
        "reliability": reliability,
        "initial": "stationary",
    }
    discrete = RICLPM if traits else CLPM
    specs: dict[str, Specification] = {
        DISCRETE: discrete(**shared),
        SESSION: ContinuousTime(**shared, traits=traits, time="session"),
        DAYS: ContinuousTime(**shared, traits=traits),
    }
    fits: dict[str, Fit] = {DISCRETE: specs[DISCRETE].fit(panel, strict=False)}
    why: dict[str, str] = {}
    for clock in (SESSION, DAYS):
        try:
            fits[clock] = specs[clock].fit(panel, strict=False)
        except SpecificationError as refusal:
            why[clock] = str(refusal)
    table = pd.DataFrame([_row(fits.get(name), why.get(name, "")) for name in specs])
    table.index = pd.Index(list(specs), name="clock")
    table["bic_above_best"] = table["bic"] - table["bic"].min()
    table = table[list(NUMBERS)]
    table.attrs["text"] = _text(fits, why)
    return table


def _row(fit: Fit | None, why: str) -> dict[str, object]:
    """Return the figures of one clock; without convergence none that could be compared."""
    missing = float("nan")
    if fit is None:
        return {
            **dict.fromkeys(("loglik", "parameters", "aic", "bic"), missing),
            "converged": False,
            "at_bound": False,
            "note": why,
        }
    failure = fit.diagnostics.get("failure", "")
    return {
        "loglik": fit.loglik if fit.converged else missing,
        "parameters": fit.n_params,
        "aic": fit.aic if fit.converged else missing,
        "bic": fit.bic if fit.converged else missing,
        "converged": fit.converged,
        "at_bound": bool(fit.diagnostics["boundary"]),
        "note": str(failure) if failure else " ".join(fit.diagnostics["boundary"]),
    }


def _text(fits: Mapping[str, Fit], why: Mapping[str, str]) -> str:
    """Say which clock describes the scores best, and what that does and does not mean."""
    usable = {name: fit for name, fit in fits.items() if fit.converged}
    sentences = []
    if DAYS in usable and SESSION in usable:
        sentences.append(_days_or_sessions(usable[SESSION], usable[DAYS]))
    sentences += [f"No fit by {name}: {said}" for name, said in why.items()]
    sentences += [
        f"The fit by {name} did not converge and is not compared."
        for name in fits
        if name not in usable
    ]
    if DISCRETE in usable and SESSION in usable:
        sentences.append(_discrete_or_continuous(usable[DISCRETE], usable[SESSION]))
    sentences.append(
        "All models have the same scores, means, stable differences and number of parameters, and "
        "start settled; BIC says which describes these scores best, not that the others are wrong."
    )
    return " ".join(sentences)


def _days_or_sessions(session: Fit, days: Fit) -> str:
    above = days.bic - session.bic
    gaps = _gaps(days)
    spread = f"gaps of {gaps[0]:g} to {gaps[-1]:g} days, half of them up to {np.median(gaps):g}"
    if gaps[-1] - gaps[0] < 1e-6 * gaps[-1]:
        return (
            f"All gaps are {gaps[0]:g} days, so sessions and days are one clock. Use time='session'"
            " or the discrete model; what happens at other lags, these data cannot say."
        )
    if abs(above) < TELLING:
        return (
            f"The data do not tell whether sessions or days are the better clock ({spread}; BIC "
            f"differs by {abs(above):.1f}). Report the effects by both."
        )
    if above > 0.0:
        return (
            f"Count sessions: BIC is {above:.1f} lower than by days ({spread}). What happened "
            "since the session before matters more than how long ago it was. Use the discrete "
            "model or ContinuousTime(time='session')."
        )
    return (
        f"Count days: BIC is {-above:.1f} lower than by sessions ({spread}). Treating gaps as "
        "equal distorts the lagged effects here. Use ContinuousTime()."
    )


def _discrete_or_continuous(discrete: Fit, session: Fit) -> str:
    ahead = (discrete.loglik or 0.0) - (session.loglik or 0.0)
    if abs(ahead) < SAME:
        return (
            "With sessions as the clock, discrete and continuous time are the same model, written "
            "in two ways."
        )
    return (
        f"Discrete time reaches a log-likelihood {ahead:.2f} higher than continuous time by "
        "sessions: its lagged effects are not those of any process that runs on between sessions."
        if ahead > 0.0
        else "Discrete time ended below continuous time by sessions, of which it is the more "
        "general form: its search stopped short. Give it more starting values (starts=)."
    )


def _gaps(days: Fit) -> NDArray[np.float64]:
    """Return the observed gaps in days."""
    return np.zeros(1) if days.data is None else observed_gaps(days.data, "days", 1.0)
