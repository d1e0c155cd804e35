"""Every parameter of every family is on the page, or named as left out."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pytest
from made_fits import known_params, make_fit

import alliancedyn as ad
from alliancedyn.report.parameters import MOST_SESSIONS, describe_parameters

BOTH = ("alliance", "symptoms")
TRUTH = ad.Dynamics(
    phi=[[0.3, -0.1], [-0.1, 0.4]],
    innovation_cov=[[1.0, -0.2], [-0.2, 1.0]],
    between_cov=[[1.0, -0.3], [-0.3, 1.0]],
    mean=(4.0, 16.0),
    covariates=[ad.Covariate("severity", on_level=(0.0, 0.5)), ad.Covariate("arm", "binary", 0.5)],
)
MADE = {
    "CLPM": ad.CLPM(),
    "second order": ad.RICLPM(order=2),
    "free lags": ad.RICLPM(lags="free", innovations="free"),
    "step": ad.RICLPM(step=4),
    "arms": ad.RICLPM(group="arm"),
    "covariate": ad.RICLPM(covariates=("severity",)),
    "moderated": ad.RICLPM(moderators=("severity",)),
    "errors": ad.STARTS(),
    "LCM-SR": ad.LCMSR(),
    "free course": ad.LCMSR(growth="free"),
    "ALT": ad.ALT(),
    "GCLM": ad.GCLM(),
    "latent change": ad.LatentChange(),
    "clock": ad.ContinuousTime(time="session"),
    "within-between": ad.WithinBetween(
        direction="both", trend="session", random_slopes=("alliance",), covariates=("severity",)
    ),
    "one equation": ad.WithinBetween(moderators=("severity",), residuals="ar1"),
    "fixed": ad.FixedEffects(direction="both"),
    "GMM": ad.DynamicPanelGMM(direction="both"),
    "ML-SEM": ad.MLSEM(),
    "ML-SEM both": ad.MLSEM(direction="both"),
    "exogenous": ad.MLSEM(process_role="exogenous"),
}


@cache
def panel(sessions=6):
    return ad.simulate(TRUTH, 120, sessions, seed=4)


def check(fit):
    """Count rows shown, and what is said to be left out; return the page's lines by name."""
    found = describe_parameters(fit)
    lines = {line.name: line for part in found.parts for line in part.lines}
    cells = sum(cell != "–" for t in found.by_session for row in t.rows for cell in row[1:])
    assert len(lines) + cells + found.left_out == len(fit.table())
    assert bool(found.omission) == (found.left_out > 0)
    counts = [int(word) for word in found.omission.split() if word.isdigit()]
    assert sum(counts) == found.left_out
    assert all(line.words.strip() for line in lines.values())
    return lines


@pytest.mark.parametrize("spec", MADE.values(), ids=MADE)
def test_rows_shown_and_left_out_are_all_rows(spec):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(spec.fit(panel(), strict=False))


def test_values_of_sessions_between_those_shown_are_counted():
    fit = ad.RICLPM(lags="free").fit(panel(24), strict=False)
    found = describe_parameters(fit)
    check(fit)
    hidden = 4 * (23 - MOST_SESSIONS)
    assert f"{hidden} values of sessions between those shown" in found.omission
    assert "48 means of single sessions" in found.omission


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"random": ("intercept", "phi")},
        {"random": ("intercept", "phi"), "predictors": ("severity",)},
        {"trend": "session"},
    ],
)
def test_sampled_fits_of_few_draws(options):
    spec = ad.DSEM(draws=20, tune=20, chains=2, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(spec.fit(panel(), seed=1, strict=False))


# What open DSEMs estimate, without the minute that sampling them takes.
OPEN = {
    "same[symptoms,alliance]": "alliance → symptoms, same session",
    "degrees": "degrees of freedom",
    "threshold[symptoms,1]": "symptoms, threshold 1",
    "threshold[symptoms,2]": "symptoms, threshold 2",
    "measurement_var[alliance]": "alliance",
}
OWN = {
    "speed[alliance,symptoms]": "alliance, symptoms",
    "calm": "calm",
    "pace[alliance]|arm=1": "alliance, arm=1",
    "not a name!": "not a name!",
    "trend[alliance,symptoms,arm]": "alliance",
    "between[alliance]": "alliance",
}


@pytest.mark.parametrize("more", [OPEN, OWN])
def test_families_that_no_list_knows_are_shown(more):
    fit = make_fit(known_params() | dict.fromkeys(more, 0.4))
    lines = check(fit)
    for name, words in more.items():
        assert lines[name].words == words and lines[name].cells[0].startswith("0.4")
    titles = [part.title for part in describe_parameters(fit).parts]
    assert ("Other parameters" in titles) == (more is OWN)


def test_a_family_of_ones_own_by_session_has_a_table():
    own = {f"pace[{v}]@{t}": 0.1 * t for v in BOTH for t in range(2, 7)}
    fit = make_fit(known_params() | own)
    check(fit)
    (table,) = describe_parameters(fit).by_session
    assert table.title == "pace, by session" and table.head == ("Session", *BOTH)
    assert [row[0] for row in table.rows] == [str(t) for t in range(2, 7)]
    assert np.isclose(float(table.rows[-1][1].split()[0]), 0.6)
