"""Every client's own effects in a multilevel fit, shrunken to the average, with their intervals."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pandas as pd

from alliancedyn.checking import checked
from alliancedyn.engine.mixed_result import MixedFit
from alliancedyn.errors import DataError, SpecificationError
from alliancedyn.models.multilevel import client_rows, fitted
from alliancedyn.models.regression import Question
from alliancedyn.models.within_between import WithinBetween
from alliancedyn.panel import SessionPanel
from alliancedyn.results import Fit
from alliancedyn.results.estimate import LEVEL, checked_level


@checked
def client_effects(
    fit: Fit, panel: SessionPanel | None = None, *, level: float = LEVEL
) -> pd.DataFrame:
    """Return how far each client's intercept, or slope, lies from that of the average client.

    They are predictions, shrunken by what the client's own sessions cannot tell::

        u_i = G Z_i'V_i^-1 (y_i - X_i beta),   Var(u_i | y) = G - G Z_i'V_i^-1 Z_i G

    taking variances and fixed effects as known. Clients stand in the order of the panel: intervals
    of most of them overlap, and a ranking by such numbers is a ranking of noise.

    Parameters
    ----------
    fit : Fit
        Of a `WithinBetween` model.
    panel : SessionPanel, optional
        The one that was fitted; needed for therapists, and after `without_data`.
    level : float
        Coverage of the intervals.

    Returns
    -------
    DataFrame
        client, outcome, effect ("intercept", or the term whose effect differs), estimate, se,
        lower, upper (units of the outcome per unit of the term) and sessions, how many were used.

    Raises
    ------
    SpecificationError
        If the fit is none of a `WithinBetween` model with independent residuals.
    DataError
        If the data are needed and not there.
    """
    model = fit.model if isinstance(fit, Fit) else None
    if not isinstance(model, WithinBetween) or model.residuals != "independent":
        raise SpecificationError(
            "client_effects belong to a WithinBetween model with independent residuals. For parts "
            "of a model of both series use fit.states()."
        )
    data = fit.data
    if panel is not None:
        data = model.observe(panel, fit.sessions, fit.variables)
    if data is None or (panel is None and "therapist" in model.levels):
        raise DataError("The fit does not hold all that is needed here. Pass panel=.")
    reach = NormalDist().inv_cdf((1.0 + checked_level(level)) / 2.0)
    pairs = [(fit.process, fit.outcome), (fit.outcome, fit.process)]
    frames = []
    for source, target in pairs[: 1 + (model.direction == "both")]:
        question = Question(source, target, data, "observed", panel)
        terms, therapist = model.terms_and_therapists(question)
        rows = client_rows(model, question, terms, therapist)
        mixed = fitted(model, rows)
        if not isinstance(mixed, MixedFit):
            raise SpecificationError(
                f"{rows.switches} clients changed therapists; their effects have no intervals of "
                "their own. Give each client one therapist."
            )
        se = np.sqrt(np.einsum("iaa->ia", mixed.blup_cov))
        for place, effect in enumerate(("intercept", *model.random_slopes)):
            value = mixed.blups[:, place]
            frames.append(
                pd.DataFrame(
                    {
                        "client": data.clients[rows.who],
                        "outcome": target,
                        "effect": effect,
                        "estimate": value,
                        "se": se[:, place],
                        "lower": value - reach * se[:, place],
                        "upper": value + reach * se[:, place],
                        "sessions": np.bincount(rows.client),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)
