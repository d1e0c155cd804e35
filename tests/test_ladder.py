"""The ladder and the search over constraints: figures of the fits, rules, words."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats
from test_crosslagged import PHI, as_panel, scores

import alliancedyn as ad
from alliancedyn.errors import SpecificationError
from alliancedyn.studies import analyze
from alliancedyn.studies.ladder import _recommend

Array = NDArray[np.float64]


@cache
def plain() -> ad.SessionPanel:
    """Return scores with stable differences and no trends, the same at all sessions."""
    return as_panel(scores(51, 250, 6))


@cache
def climbed() -> pd.DataFrame:
    return ad.ladder(plain())


def trending(seed: int, clients: int = 250, sessions: int = 6) -> ad.SessionPanel:
    """Return scores whose clients have trends of their own."""
    rng = np.random.default_rng(seed)
    Y = scores(seed, clients, sessions)
    slopes = 0.4 * rng.standard_normal((clients, 1, 2))
    return as_panel(Y + slopes * np.arange(sessions)[:, None])


def changing(seed: int, what: str, clients: int = 300, sessions: int = 6) -> ad.SessionPanel:
    """Return scores in which lags, innovations or means differ between sessions."""
    rng = np.random.default_rng(seed)
    stable, w = rng.standard_normal((2, clients, 2))
    Y = np.empty((clients, sessions, 2))
    for t in range(sessions):
        late = t >= sessions // 2
        phi = PHI if what != "lags" or not late else -PHI
        sd = 1.6 if what == "innovations" and late else 1.0
        if t:
            w = w @ phi.T + sd * rng.standard_normal((clients, 2))
        Y[:, t] = 5.0 + (0.8 * t if what == "means" else 0.0) + stable + w
    return as_panel(Y)


# -- the ladder ----------------------------------------------------------------------------------


def test_the_table_holds_the_figures_of_the_fits() -> None:
    table = climbed()
    assert list(table.index) == ["CLPM", "RI-CLPM", "LCM-SR"]
    specs = (ad.CLPM(), ad.RICLPM(), ad.LCMSR(means="free"))
    fits = {spec.name: spec.fit(plain(), strict=False) for spec in specs}
    for name, fit in fits.items():
        row, indices = table.loc[name], fit.fit_indices()
        assert row["loglik"] == pytest.approx(fit.loglik)
        assert row["parameters"] == fit.n_params
        assert row["bic"] == pytest.approx(fit.bic)
        assert row["aic"] == pytest.approx(fit.aic)
        assert row["cfi"] == pytest.approx(indices["cfi"])
        assert row["rmsea"] == pytest.approx(indices["rmsea"])
        forward = fit.effect("alliance", "symptoms", standardized="within")
        backward = fit.effect("symptoms", "alliance", standardized="within")
        assert row["forward"] == pytest.approx(forward.value)
        assert row["backward_upper"] == pytest.approx(backward.upper)
        assert row["admissible"] == (not fit.diagnostics["boundary"])
    assert table["bic_above_best"].min() == 0.0
    test = ad.boundary_test(fits["CLPM"], fits["RI-CLPM"])
    assert table.loc["RI-CLPM", "p_value"] == pytest.approx(test.p_value)
    assert table.loc["RI-CLPM", "against"] == "CLPM"
    assert table.loc["LCM-SR", "against"] == "RI-CLPM"


def test_stable_differences_lead_to_the_riclpm() -> None:
    attrs = climbed().attrs
    assert attrs["recommended"] == "RI-CLPM"
    assert "shows stable differences between clients (p < 0.001)" in attrs["recommendation"]
    assert "does not show differences between clients in their trends" in attrs["recommendation"]
    assert attrs["forward"] == "alliance -> symptoms"


def test_without_stable_differences_the_rule_is_still_that_of_analyze() -> None:
    """Nobody who runs both is told two things: the CLPM stands in only for want of others."""
    panel = as_panel(scores(52, 250, 6, between=0.0))
    found = ad.ladder(panel)
    assert "does not show stable differences" in found.attrs["recommendation"]
    assert "passed over" in found.attrs["recommendation"]
    reported = analyze(panel, families=["clpm", "ri-clpm", "lcm-sr"]).headline
    assert reported.startswith(found.attrs["recommended"])


@pytest.mark.parametrize("means", ["free", "equal"])
def test_trends_of_their_own_lead_to_the_lcmsr(means: str) -> None:
    found = ad.ladder(trending(53), means=means)  # type: ignore[arg-type]
    assert found.attrs["recommended"] == "LCM-SR"
    assert "Recommended: LCM-SR" in found.attrs["recommendation"]


def test_the_recommendation_does_not_look_at_the_direction() -> None:
    """Relabeling process and outcome exchanges the columns and changes nothing else."""
    turned = plain().frame.rename(columns={"alliance": "symptoms", "symptoms": "alliance"})
    swapped = ad.ladder(
        ad.SessionPanel.from_frame(
            turned,
            client="client",
            session="session",
            variables={"alliance": "alliance", "symptoms": "symptoms"},
            process="alliance",
            outcome="symptoms",
            timing={"alliance": "before", "symptoms": "after"},
        )
    )
    assert swapped.attrs["recommendation"] == climbed().attrs["recommendation"]
    pd.testing.assert_series_equal(
        swapped["forward"], climbed()["backward"], check_names=False, rtol=1e-3
    )
    for word in ("leads", "alliance", "symptoms"):
        assert word not in climbed().attrs["recommendation"]


def test_a_refused_model_stays_in_the_table_with_its_reason() -> None:
    found = ad.ladder(as_panel(scores(54, 150, 3)))
    assert not found.loc["LCM-SR", "converged"]
    assert "4 or more sessions" in str(found.loc["LCM-SR", "note"])
    assert np.isnan(found.loc["LCM-SR", "bic"])
    assert "LCM-SR: The LCM-SR needs 4" in found.attrs["recommendation"]
    assert found.attrs["recommended"] == "RI-CLPM"


def test_models_at_a_bound_are_named_and_bic_decides() -> None:
    table = climbed().copy()
    table.loc["RI-CLPM", ["admissible", "boundary"]] = [False, "the variance is at zero"]
    chosen, sentences = _recommend(table)
    said = " ".join(sentences)
    assert "RI-CLPM" in said
    assert "a bound" in said
    assert chosen == table["bic"].drop("CLPM").idxmin()


def test_the_clpm_is_passed_over_where_clients_differ_even_with_the_lowest_bic() -> None:
    table = climbed().copy()
    table.loc["CLPM", "bic"] = table["bic"].min() - 50.0
    chosen, sentences = _recommend(table)
    assert chosen != "CLPM"
    assert any("passed over" in sentence for sentence in sentences)


def test_nothing_fitted_is_said_plainly() -> None:
    found = ad.ladder(as_panel(scores(55, 4, 5)))
    assert found.attrs["recommended"] is None
    assert found.attrs["recommendation"].startswith("No model could be fitted.")


def test_options_reach_all_three_models() -> None:
    found = ad.ladder(plain(), innovations="free", means="equal", sessions=(1, 5), errors="robust")
    equal = ad.ladder(plain(), means="equal", sessions=(1, 5))
    assert (found["parameters"] - equal["parameters"] == 9).all()
    with pytest.raises(SpecificationError, match="choose"):
        ad.ladder(plain(), lags="equals")  # type: ignore[arg-type]


# -- the search ----------------------------------------------------------------------------------


def test_constraints_that_hold_are_kept() -> None:
    found = ad.constraint_search(plain(), ad.RICLPM())
    assert list(found.table.index) == ["all free", "lags equal", "innovations equal", "means equal"]
    assert found.table["kept"].all()
    assert found.spec == ad.RICLPM(means="equal")
    assert found.fit.model == found.spec
    assert found.table.loc["lags equal", "df"] == 16
    assert "3 tests on the same scores" in found.text
    assert "about 14%" in found.text
    assert "not shown to hold" in str(found)


def test_the_steps_are_likelihood_ratios() -> None:
    found = ad.constraint_search(plain(), ad.RICLPM()).table
    free = ad.RICLPM(lags="free", innovations="free").fit(plain(), strict=False)
    equal = ad.RICLPM(innovations="free").fit(plain(), strict=False)
    statistic = 2.0 * (free.loglik - equal.loglik)  # type: ignore[operator]
    row = found.loc["lags equal"]
    assert row["statistic"] == pytest.approx(statistic, abs=1e-5)
    assert row["p_value"] == pytest.approx(stats.chi2.sf(statistic, 16), rel=1e-5)
    assert row["bic_change"] == pytest.approx(equal.bic - free.bic, abs=1e-4)


@pytest.mark.parametrize("criterion", ["lr", "bic"])
@pytest.mark.parametrize(
    ("what", "spec"),
    [
        ("lags", ad.RICLPM(lags="free", innovations="free")),
        ("innovations", ad.RICLPM(innovations="free")),
        ("means", ad.RICLPM()),
    ],
)
def test_the_first_constraint_that_fails_ends_the_search(
    what: str, spec: ad.RICLPM, criterion: str
) -> None:
    found = ad.constraint_search(changing(61, what), ad.RICLPM(), criterion=criterion)  # type: ignore[arg-type]
    assert found.spec == spec
    assert not found.table.loc[f"{what} equal", "kept"]
    after = found.table.index.get_loc(f"{what} equal") + 1
    assert (found.table["note"].iloc[after:] == "not tried: the step before was rejected").all()


def test_growth_models_end_with_the_means_of_their_course() -> None:
    found = ad.constraint_search(trending(63), ad.LCMSR())
    assert found.spec.means == "growth"
    assert found.table.loc["means equal", "df"] == 8


def test_what_cannot_be_fitted_is_constrained_without_a_test() -> None:
    Y = scores(63, 120, 6)
    Y[4:, 5] = np.nan  # four clients reach the last session
    found = ad.constraint_search(as_panel(Y), ad.RICLPM())
    table = found.table
    assert not table["kept"].iloc[:3].any()
    assert "Fewer than 5 clients" in table.loc["all free", "note"]
    assert table.loc["means equal", "note"] == "taken without a test"
    assert found.spec == ad.RICLPM(means="equal")
    assert "0 tests" in found.text


def test_families_free_what_they_can() -> None:
    found = ad.constraint_search(plain(), ad.ALT())
    assert list(found.table.index) == ["all free", "lags equal", "innovations equal"]
    assert found.spec.means == "growth"


@pytest.mark.parametrize(
    ("spec", "options", "fragment"),
    [
        (ad.STARTS(), {}, "nothing to search"),
        (ad.RICLPM(step=3), {}, "step="),
        (ad.RICLPM(), {"criterion": "aic"}, "criterion is 'aic'"),
        (ad.RICLPM(), {"level": 1.5}, "level is 1.5"),
        ("RICLPM", {}, "give a model such as"),
    ],
)
def test_searches_that_make_no_sense_are_refused(
    spec: object, options: dict[str, object], fragment: str
) -> None:
    with pytest.raises(SpecificationError, match=fragment):
        ad.constraint_search(plain(), spec, **options)  # type: ignore[arg-type]


def test_nothing_to_start_from_is_an_error() -> None:
    with pytest.raises(SpecificationError, match="No model of the search could be fitted"):
        ad.constraint_search(plain(), replace(ad.LCMSR(), sessions=(1, 3)))
