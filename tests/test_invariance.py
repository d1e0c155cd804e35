"""Where the zero of a scale lies, and what its unit is, changes no answer of any family.

Scores become c + k y, with c up to 30,000 and k from a thousandth to a thousand. Everything that is
reported must follow: effects and their errors, tests, indices, standardized solutions, forecasts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import alliancedyn as ad
from alliancedyn.engine import names
from alliancedyn.errors import AllianceDynError
from alliancedyn.results import Fit

A, S = "alliance", "symptoms"
ONE = ((1.0, -0.3), (-0.3, 1.0))
TRUTH = ad.Dynamics(
    phi=((0.3, -0.15), (-0.2, 0.35)), innovation_cov=ONE, between_cov=ONE, mean=(4.0, 10.0)
)
FAMILIES: dict[str, Any] = {
    "clpm": ad.CLPM(lags="free", means="free"),
    "ri-clpm": ad.RICLPM(covariates=("severity",)),
    "ri-clpm by group": ad.RICLPM(group="arm", means="equal"),
    "ri-clpm moderated": ad.RICLPM(moderators=("severity",), means="equal"),
    "ri-clpm of two sessions": ad.RICLPM(order=2, means="equal"),
    "lcm-sr": ad.LCMSR(),
    "alt": ad.ALT(covariates=("severity",)),
    "starts": ad.STARTS(),
    "gclm": ad.GCLM(),
    "latent change": ad.LatentChange(innovations="equal"),
    "continuous time": ad.ContinuousTime(time="session", trend="linear"),
    "ml-sem": ad.MLSEM(covariates=("severity",)),
    "ml-sem of both": ad.MLSEM(direction="both"),
    "within-between": ad.WithinBetween(direction="both"),
    "within-between of therapists": ad.WithinBetween(
        levels=("therapist", "client"), random_slopes=(A,), moderators=("between",)
    ),
    "within-between, autocorrelated": ad.WithinBetween(residuals="ar1", lagged_outcome="none"),
    "fixed effects": ad.FixedEffects(direction="both"),
    "gmm": ad.DynamicPanelGMM(direction="both", center_instruments=True),
}
# c and k of alliance, of symptoms
CHANGES = [(30_000.0, 1.0, -30_000.0, 1.0), (-0.5, 1e-3, 30_000.0, 1e3)]
CLOSE = 2e-4  # searches stop within 1e-4 of the estimates where the likelihood is flat
SIMPLE = ("phi", "moderation", "self", "coupling", "step")
INDICES = ("chisq", "df", "cfi", "rmsea", "srmr")


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    frame = ad.simulate(TRUTH, clients=120, sessions=5, missing=0.05, seed=8).frame
    code = pd.factorize(frame["client"])[0]
    frame["severity"] = np.random.default_rng(1).normal(size=code.max() + 1)[code]
    return frame.assign(arm=np.where(code % 2, "b", "a"), therapist=(code // 8).astype(str))


def panel_of(frame: pd.DataFrame, change: tuple[float, float, float, float]) -> ad.SessionPanel:
    ca, ka, cs, ks = change
    moved = frame.assign(alliance=ca + ka * frame[A], symptoms=cs + ks * frame[S])
    return ad.SessionPanel.from_frame(
        moved,
        client="client",
        session="session",
        variables=[A, S],
        timing={A: "after", S: "before"},
        covariates=["severity"],
        arm="arm",
        therapist="therapist",
    )


def reported(fit: Fit, change: tuple[float, float, float, float]) -> dict[str, float]:
    """Return what is reported, brought back to the first scale."""
    ca, ka, cs, ks = change
    unit = {A: ka, S: ks}
    out: dict[str, float] = {}
    table = fit.table()
    for label in table.index:
        family, indices, _ = names.parse(label)
        if family in SIMPLE:
            factor = unit[indices[0]] / unit[indices[1]] if len(indices) > 1 else 1.0
            if indices[-1] == "between":  # the moderator is in points of the process itself
                factor = unit[indices[0]] / unit[indices[1]] / unit[A]
            out[label] = table.loc[label, "estimate"] / factor
            out[f"se {label}"] = table.loc[label, "se"] / factor
    for target in (A, S):
        for source in (A, S):
            try:
                found = fit.effect(source, target, standardized="within")
            except AllianceDynError:
                continue
            out[f"effect {target},{source}"], out[f"its se {target},{source}"] = (
                found.value,
                found.se,
            )
    if fit.loglik is not None and not isinstance(fit.model, ad.WithinBetween):
        scored = (~np.isnan(fit.data.Y)).sum(axis=(0, 1))  # of covariates: units as they are
        jacobian = scored[fit.data.variables.index(S)] * np.log(ks)
        if A in fit.data.variables:
            jacobian += scored[fit.data.variables.index(A)] * np.log(ka)
        out["log-likelihood"] = fit.loglik + jacobian
        indices = fit.fit_indices()
        out |= {name: float(indices[name]) for name in INDICES}
    try:
        solution = fit.standardized()
        out |= {f"standardized {name}": value for name, value in solution["estimate"].items()}
        out |= {f"its se {name}": value for name, value in solution["se"].items()}
        response = fit.impulse_response(A)
        for name, one in unit.items():
            moved = response[name]["estimate"] * unit[A] / one
            out |= {f"response of {name} at {t}": value for t, value in moved.items()}
        ahead = fit.predict()
        zero, one = (np.where(ahead["variable"] == A, x, y) for x, y in ((ca, cs), (ka, ks)))
        out["forecasts"] = float((((ahead["mean"] - zero) / one) ** 2).mean())
        out["their sds"] = float((ahead["sd"] / one).mean())
    except AllianceDynError:  # what a family does not have
        pass
    return out


@pytest.mark.parametrize("family", FAMILIES)
def test_zero_and_unit_of_scales_change_nothing(family: str, scores: pd.DataFrame) -> None:
    spec = FAMILIES[family]
    here = (0.0, 1.0, 0.0, 1.0)
    before = reported(spec.fit(panel_of(scores, here), strict=False), here)
    for change in CHANGES:
        fit = spec.fit(panel_of(scores, change), strict=False)
        assert fit.converged
        after = reported(fit, change)
        assert set(after) == set(before)
        for name, value in before.items():
            assert after[name] == pytest.approx(value, rel=CLOSE, abs=CLOSE, nan_ok=True), name
