"""Models side by side: one unit, one sign, and a flag where they saw different data."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from made_fits import MadeModel, known_params, make_fit, make_scores, var_params
from test_results import free_fit

from alliancedyn.causal import compare_models
from alliancedyn.errors import SpecificationError
from alliancedyn.results import Sample

ROLES = ("alliance", "symptoms")
Y = np.random.default_rng(1).normal(size=(5, 8, 2))


def test_one_row_per_effect_and_model() -> None:
    first, second = make_fit(known_params()), make_fit(known_params(), 0.05, loglik=-4300.0)
    frame = compare_models({"RI-CLPM": first, "CLPM": second})
    assert list(frame["model"]) == ["RI-CLPM", "CLPM"] * 2
    assert list(frame["effect"]) == ["alliance -> symptoms"] * 2 + ["symptoms -> alliance"] * 2
    row = frame.iloc[1]
    raw, within = second.effect(*ROLES), second.effect(*ROLES, standardized="within")
    assert list(row[["estimate", "se", "lower", "upper"]]) == [
        raw.value,
        raw.se,
        raw.lower,
        raw.upper,
    ]
    assert row["standardized"] == within.value and row["standardized_upper"] == within.upper
    assert (row["source"], row["target"], row["lag"]) == (*ROLES, "1 session")
    assert row["aic"] == second.aic and row["bic"] == second.bic and row["loglik"] == -4300.0
    assert row["clients"] == 200
    assert frame["same_data"].all() and frame["converged"].all()


def test_trouble_is_flagged() -> None:
    fit = make_fit(known_params())
    bad = replace(fit, converged=False, diagnostics={"boundary": ["x is at zero."]})
    frame = compare_models({"a": fit, "b": bad}).set_index("model")
    assert not frame.loc["b", "converged"].any() and frame.loc["b", "at_bound"].all()
    assert not frame.loc["a", "at_bound"].any()


@pytest.mark.parametrize(
    "changes",
    [
        {"sample": Sample(199, 8, 1500, 1290)},
        {"sample": Sample(200, 8, 1499, 1290)},
        {"sessions": tuple(range(2, 10))},
        {"data": make_scores(Y + 1e-6, ROLES)},
    ],
)
def test_criteria_are_not_set_side_by_side_for_different_data(changes: dict) -> None:
    first = make_fit(known_params(), data=make_scores(Y, ROLES))
    second = replace(first, **changes)
    frame = compare_models({"a": first, "b": second}).set_index("model")
    assert frame.loc["a", "same_data"].all() and not frame.loc["b", "same_data"].any()
    assert frame.loc["b", ["aic", "bic"]].isna().all(axis=None)
    assert frame.loc["a", ["aic", "bic"]].notna().all(axis=None)
    assert frame.loc["b", "loglik"].notna().all()


def test_the_same_scores_are_recognized_without_the_data() -> None:
    first = make_fit(known_params(), data=make_scores(Y, ROLES))
    turned = replace(first, variables=ROLES[::-1], data=make_scores(Y[:, :, ::-1], ROLES[::-1]))
    detrended = replace(first, data=make_scores(Y - Y.mean(axis=1, keepdims=True), ROLES))
    frame = compare_models(
        {"a": first.without_data(), "b": turned, "c": detrended.without_data()}
    ).set_index("model")
    assert frame.loc["b", "same_data"].all()
    assert not frame.loc["c", "same_data"].any()


def test_other_variables_are_other_effects() -> None:
    Phi, Psi = 0.3 * np.eye(2), np.eye(2)
    other = make_fit(
        var_params(Phi, Psi, ("alliance", "hope")),
        variables=("alliance", "hope"),
        outcome="hope",
        timing={},
    )
    frame = compare_models({"a": make_fit(known_params()), "b": other})
    assert set(frame["effect"]) == {
        "alliance -> symptoms",
        "symptoms -> alliance",
        "alliance -> hope",
        "hope -> alliance",
    }
    assert not frame.set_index("model").loc["b", "same_data"].any()


def test_a_family_with_one_direction_and_no_within_sd() -> None:
    one = make_fit({"phi[symptoms,alliance]": -0.1, "residual_var[symptoms]": 1.0}, loglik=None)
    frame = compare_models({"RI-CLPM": make_fit(known_params()), "WithinBetween": one})
    row = frame[frame["model"] == "WithinBetween"]
    assert list(row["effect"]) == ["alliance -> symptoms"]
    assert row[["standardized", "standardized_se", "aic"]].isna().all(axis=None)
    assert row["estimate"].item() == -0.1 and row["sd_within"].isna().all()


def test_free_lags_say_that_they_are_averaged() -> None:
    frame = compare_models({"free": free_fit()})
    assert set(frame["lag"]) == {"1 session (average over sessions)"}
    assert set(frame["sd_within"]) == {"pooled over sessions"}


def test_one_row_per_effect_model_and_group() -> None:
    params = known_params()
    halved = {n: v / 2 if n.startswith("phi") else v for n, v in params.items()}
    both = {f"{n}|arm=0": v for n, v in params.items()}
    grouped = make_fit(both | {f"{n}|arm=1": v for n, v in halved.items()})
    frame = compare_models({"one": make_fit(params), "two": grouped})
    assert list(frame["model"]) == ["one", "two", "two"] * 2
    assert list(frame["group"]) == ["all", "arm=0", "arm=1"] * 2
    assert frame.loc[2, "estimate"] == pytest.approx(params["phi[symptoms,alliance]"] / 2)
    within = grouped.effect(*ROLES, "within", group="arm=1")
    assert frame.loc[2, "standardized"] == within.value


def test_groups_that_differ_in_their_means_alone_are_one_row() -> None:
    params = known_params()
    means = {n: params.pop(n) for n in list(params) if n.startswith("mean")}
    params |= {f"{n}|arm={g}": v for g in (0, 1) for n, v in means.items()}
    frame = compare_models({"a": make_fit(params)})
    assert list(frame["group"]) == ["all", "all"] and frame["standardized"].notna().all()


def test_the_lag_is_said() -> None:
    step = {"step[alliance,symptoms]@5": 0.0, "step[symptoms,alliance]@5": 0.1}
    continuous = make_fit({**known_params(), "drift[symptoms,alliance]": -0.2})
    model = Weekly()
    frame = compare_models(
        {
            "step": make_fit(known_params() | step),
            "sessions": continuous,
            "days": replace(continuous, model=model),
        }
    ).set_index("model")
    assert set(frame.loc["step", "lag"]) == {"1 session (average over sessions)"}
    assert set(frame.loc["sessions", "lag"]) == {"1 session"}
    assert set(frame.loc["days", "lag"]) == {"7 days"}


@dataclass(frozen=True)
class Weekly(MadeModel):
    time: str = "days"
    time_unit: float = 7.0


def test_a_model_without_innovations_is_shown_raw() -> None:
    params = {n: v for n, v in known_params().items() if not n.startswith("innovation")}
    frame = compare_models({"a": make_fit(params)})
    assert frame["estimate"].notna().all() and frame["standardized"].isna().all()


def test_nothing_to_compare() -> None:
    with pytest.raises(SpecificationError, match="No named fits"):
        compare_models({})
    with pytest.raises(SpecificationError, match="None of these fits"):
        compare_models({"a": make_fit({"mean[alliance]": 1.0})})
