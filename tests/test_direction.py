"""The verdict on direction: its rules, its fairness to both directions, its words."""

from __future__ import annotations

import math
import pickle
import re
from dataclasses import astuple, replace

import numpy as np
import pandas as pd
import pytest
from made_fits import known_params, make_fit, random_cov, var_params
from test_compare import Weekly
from test_results import free_fit

from alliancedyn.causal import Directions, compare_directions
from alliancedyn.causal.contrast import name_lead, name_state
from alliancedyn.engine import var
from alliancedyn.errors import SpecificationError
from alliancedyn.results import Estimate, Fit

ROLES = ("alliance", "symptoms")


def spread(lower: float, upper: float) -> Estimate:
    return Estimate((lower + upper) / 2, (upper - lower) / 4, lower, upper)


class TestRules:
    @pytest.mark.parametrize(
        ("lower", "upper", "state"),
        [
            (-0.20, -0.08, "supported"),
            (0.01, 0.30, "supported"),
            (-0.04, 0.03, "practically zero"),
            (0.01, 0.04, "practically zero"),  # whatever the sign
            (-0.04, -0.01, "practically zero"),
            (-0.05, 0.03, "undetermined"),  # the limits are not inside
            (-0.20, 0.01, "undetermined"),
            (float("nan"), float("nan"), "undetermined"),
        ],
    )
    def test_states(self, lower: float, upper: float, state: str) -> None:
        assert name_state(spread(lower, upper), 0.05) == state

    @pytest.mark.parametrize(
        ("forward", "backward", "difference", "lead"),
        [
            ("supported", "undetermined", (0.01, 0.2), "forward"),
            ("supported", "supported", (0.01, 0.2), "forward"),
            ("undetermined", "supported", (-0.2, -0.01), "backward"),
            ("undetermined", "undetermined", (0.01, 0.2), "undetermined"),
            ("supported", "supported", (-0.1, 0.1), "both"),
            ("practically zero", "practically zero", (-0.01, 0.01), "neither"),
            ("practically zero", "practically zero", (0.001, 0.01), "neither"),
            ("supported", "practically zero", (-0.01, 0.2), "undetermined"),
            ("undetermined", "practically zero", (-0.1, 0.2), "undetermined"),
            ("supported", "supported", (float("nan"), float("nan")), "undetermined"),
        ],
    )
    def test_leads(self, forward, backward, difference, lead: str) -> None:
        assert name_lead(forward, backward, spread(*difference)) == lead


class TestNumbers:
    def test_known_standardized_paths(self) -> None:
        found = compare_directions(make_fit(known_params()))
        structural, reduced = found.by_basis["structural"], found.by_basis["reduced"]
        assert round(structural.forward.value, 4) == -0.1138
        assert round(structural.backward.value, 4) == -0.1054
        assert round(reduced.forward.value, 4) == -0.1138
        assert reduced.backward.value == pytest.approx(-0.045 * math.sqrt(1.30398659 / 1.17334927))
        assert structural.backward_raw.value == pytest.approx(-0.10)
        assert reduced.backward_raw.value == pytest.approx(-0.045)
        assert found.forward == structural.forward and found.basis == "structural"
        assert found.difference.value == pytest.approx(
            abs(found.forward.value) - abs(found.backward.value)
        )

    def test_estimates_are_those_of_the_fit(self) -> None:
        fit = make_fit(known_params())
        found = compare_directions(fit, basis="reduced")
        assert found.forward == fit.effect(*ROLES, standardized="within")
        assert found.backward == fit.effect(*ROLES[::-1], standardized="within")
        raw = compare_directions(fit, basis="structural").by_basis["structural"].backward_raw
        assert raw.se == pytest.approx(fit.structural().loc["backward_immediate", "se"])

    def test_difference_agrees_with_draws_of_all_parameters(self) -> None:
        """Joint draws of the two paths against draws of the whole parameter vector."""
        fit = make_fit(known_params(), 0.01)
        rng = np.random.default_rng(2)
        theta = rng.multivariate_normal(fit.params.to_numpy(), fit.cov.to_numpy(), size=20_000)
        p = {name: theta[:, i] for i, name in enumerate(fit.params.index)}
        sds = np.empty((len(theta), 2))
        for d in range(len(theta)):
            Phi = [[p[f"phi[{i},{j}]"][d] for j in ROLES] for i in ROLES]
            cross = p["innovation_cov[alliance,symptoms]"][d]
            Psi = [
                [p["innovation_cov[alliance,alliance]"][d], cross],
                [cross, p["innovation_cov[symptoms,symptoms]"][d]],
            ]
            sds[d] = np.sqrt(np.diag(var.stationary_cov(np.array(Phi), np.array(Psi))))
        ratio = sds[:, 0] / sds[:, 1]
        g = p["innovation_cov[alliance,symptoms]"] / p["innovation_cov[symptoms,symptoms]"]
        gaps = np.abs(p["phi[symptoms,alliance]"] * ratio) - np.abs(g / ratio)
        found = compare_directions(fit, basis="structural").difference
        assert found.se == pytest.approx(gaps.std(), rel=0.03)
        # an end of a 95 % interval from 20,000 draws has a Monte Carlo error of .019 SE
        assert found.lower == pytest.approx(np.quantile(gaps, 0.025), abs=0.1 * found.se)
        assert found.upper == pytest.approx(np.quantile(gaps, 0.975), abs=0.1 * found.se)

    def test_covariance_between_the_paths_counts(self) -> None:
        params = known_params()
        index = list(params)
        i, j = index.index("phi[symptoms,alliance]"), index.index("phi[alliance,symptoms]")
        widths = []
        for correlation in (-0.9, 0.9):
            cov = np.diag(np.full(len(index), 1e-10))
            cov[i, i] = cov[j, j] = 0.01**2
            cov[i, j] = cov[j, i] = correlation * 0.01**2
            widths.append(compare_directions(make_fit(params, cov), basis="reduced").difference.se)
        assert widths[0] > 3 * widths[1]

    def test_same_answer_every_time(self) -> None:
        fit = make_fit(known_params())
        assert compare_directions(fit) == compare_directions(fit)
        other = compare_directions(fit, seed=1).difference
        assert other != compare_directions(fit).difference
        assert other.lower == pytest.approx(compare_directions(fit).difference.lower, abs=0.005)

    def test_posterior_draws_are_used(self) -> None:
        params = known_params()
        rng = np.random.default_rng(4)
        cov = random_cov(len(params), 0.02)
        draws = pd.DataFrame(
            rng.multivariate_normal(list(params.values()), cov, size=1000), columns=list(params)
        )
        found = compare_directions(make_fit(params, cov, draws=draws), basis="reduced")
        exact = compare_directions(make_fit(params, cov), basis="reduced")
        assert found.forward.p_value is None
        assert found.difference.prob_positive == pytest.approx(0.99, abs=0.02)
        assert found.difference.lower == pytest.approx(exact.difference.lower, abs=0.01)


@pytest.mark.parametrize("se", [0.005, 0.03, 0.2])
@pytest.mark.parametrize("basis", ["both", "reduced", "structural"])
def test_exchanging_source_and_target_exchanges_the_answer(se: float, basis) -> None:
    fit = make_fit(known_params(), se)
    there = compare_directions(fit, *ROLES, basis=basis)
    back = compare_directions(fit, *ROLES[::-1], basis=basis)
    assert there.forward == back.backward
    assert there.backward == back.forward
    assert there.difference.lower == -back.difference.upper
    assert there.difference.value == -back.difference.value
    mirror = {"forward": "backward", "backward": "forward"}
    assert back.lead == mirror.get(there.lead, there.lead)


def test_names_and_timing_exchanged_give_the_same_words() -> None:
    """No sentence favors a name: call symptoms alliance and the text follows, word for word."""
    Phi, Psi = var.time_ordered_to_reduced(0.35, 0.45, -0.12, -0.10, 0.0, 1.0, 1.0)
    one = make_fit(var_params(Phi, Psi, ROLES))
    other = make_fit(
        var_params(Phi, Psi, ROLES[::-1]),
        variables=ROLES[::-1],
        process="symptoms",
        outcome="alliance",
        timing={"symptoms": "after", "alliance": "before"},
    )
    swap = {"alliance": "symptoms", "symptoms": "alliance"}
    expected = re.sub("alliance|symptoms", lambda m: swap[m[0]], compare_directions(one).text)
    assert compare_directions(other).text == expected


class TestBases:
    def test_the_lead_depends_on_the_basis(self) -> None:
        found = compare_directions(make_fit(known_params(), 0.005))
        assert found.by_basis["reduced"].lead == "forward"
        assert found.by_basis["structural"].lead == "both"
        assert found.lead == "depends"
        assert (
            "In time order (structural form), each predicts the other, and neither path is clearly "
            "the stronger; from one session to the next (reduced form), the stronger path runs "
            "from alliance to symptoms.\n"
        ) in found.text

    def test_agreement_is_a_verdict(self) -> None:
        Phi, Psi = var.time_ordered_to_reduced(0.35, 0.45, -0.3, -0.05, 0.0, 1.0, 1.0)
        found = compare_directions(make_fit(var_params(Phi, Psi), 0.01))
        assert found.lead == "forward"
        Phi, Psi = var.time_ordered_to_reduced(0.35, 0.45, -0.05, -0.4, -0.2, 1.0, 1.0)
        assert compare_directions(make_fit(var_params(Phi, Psi), 0.01)).lead == "backward"
        Phi, Psi = var.time_ordered_to_reduced(0.35, 0.45, 0.0, 0.0, 0.0, 1.0, 1.0)
        assert compare_directions(make_fit(var_params(Phi, Psi), 0.01)).lead == "neither"
        assert compare_directions(make_fit(var_params(Phi, Psi), 0.1)).lead == "undetermined"

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"timing": {}}, "unknown for 'alliance', 'symptoms'"),
            ({"timing": {"alliance": "after", "symptoms": "after"}}, "Both scores are taken after"),
        ],
    )
    def test_without_time_order_the_reduced_form_has_to_do(self, changes, reason: str) -> None:
        fit = make_fit(known_params(), **changes)
        found = compare_directions(fit)
        assert list(found.by_basis) == ["reduced"] and found.basis == "reduced"
        assert "Structural form not available" in found.text and reason in found.text
        assert "u_t" not in found.text
        with pytest.raises(SpecificationError, match=reason):
            compare_directions(fit, basis="structural")
        assert "not available" not in compare_directions(fit, basis="reduced").text

    def test_free_lags_are_averaged_and_said_so(self) -> None:
        fit = free_fit()
        found = compare_directions(fit)
        assert found.forward == fit.effect(*ROLES, standardized="within")
        assert "plain average" in found.text and "pooled over sessions" in found.text

    def test_a_pair_out_of_three(self) -> None:
        three = ("alliance", "symptoms", "hope")
        Phi = np.array([[0.3, 0.0, 0.0], [-0.1, 0.4, 0.0], [0.2, 0.0, 0.3]])
        fit = make_fit(var_params(Phi, np.eye(3), three), variables=three)
        found = compare_directions(fit, "alliance", "hope")
        assert found.forward == fit.effect("alliance", "hope", standardized="within")
        assert "two variables; this fit has 3" in found.text
        assert compare_directions(fit).source == "alliance"

    def test_the_score_before_the_session_as_process(self) -> None:
        """Forward is then the path within the session."""
        fit = make_fit(known_params(), process="symptoms", outcome="alliance")
        found = compare_directions(fit)
        assert (found.source, found.target) == ("symptoms", "alliance")
        assert round(found.forward.value, 4) == -0.1054
        assert "A higher score of symptoms before a session precedes a lower one" in found.text


class TestWords:
    def test_two_lines_then_the_difference(self) -> None:
        lines = compare_directions(make_fit(known_params())).text.splitlines()
        assert lines[0] == (
            "alliance -> symptoms: supported, -0.114 [-0.173, -0.055] within-client SDs"
        )
        assert lines[1].startswith("symptoms -> alliance: supported, -0.105")
        assert lines[2].startswith("Difference in size, |alliance -> symptoms| -")

    def test_raw_units_and_the_mandatory_caution(self) -> None:
        found = compare_directions(make_fit(known_params()))
        assert "-0.120 [-0.182, -0.058] raw" in found.text
        caution = [a for a in found.assumptions if "u_t and e_t" in a]
        assert len(caution) == 1 and "uncorrelated" in caution[0]
        assert caution[0] in found.text
        assert any("no measurement error" in a for a in found.assumptions)
        assert "Scores are missing at random." in found.assumptions

    @pytest.mark.parametrize("se", [0.005, 0.03, 0.2])
    def test_effect_is_a_word_for_the_assumptions(self, se: float) -> None:
        for changes in ({}, {"timing": {}}, {"sessions": (1, 2, 3)}):
            text = compare_directions(make_fit(known_params(), se, **changes)).text
            numbers, box = text.split("\nAssumptions")
            assert not re.search("effect|cause|influence|impact", numbers, re.IGNORECASE)
            assert "effect" in box

    @pytest.mark.parametrize(
        "names", [("credibility", "distress"), ("wai sr (7)", "Ångest"), ("y2", "y1")]
    )
    def test_any_names(self, names: tuple[str, str]) -> None:
        Phi, Psi = var.time_ordered_to_reduced(0.35, 0.45, -0.12, -0.10, 0.0, 1.0, 1.0)
        fit = make_fit(
            var_params(Phi, Psi, names),
            variables=names,
            process=names[0],
            outcome=names[1],
            timing={names[0]: "after", names[1]: "before"},
        )
        text = compare_directions(fit).text
        assert names[0] in text and "alliance" not in text and "symptoms" not in text

    def test_trouble_comes_first(self) -> None:
        fit = make_fit(known_params())
        troubled = replace(
            fit, converged=False, diagnostics={**fit.diagnostics, "boundary": ["x is at zero."]}
        )
        lines = compare_directions(troubled).text.splitlines()
        assert lines[0].startswith("NOT CONVERGED") and lines[1] == "AT A BOUND: x is at zero."

    def test_without_standard_errors_nothing_is_settled(self) -> None:
        fit = make_fit(known_params(), np.full((15, 15), np.nan))
        found = compare_directions(fit)
        assert (found.forward_state, found.backward_state) == ("undetermined", "undetermined")
        assert found.lead == "undetermined"
        assert "standard error is not available" in found.text
        assert math.isnan(found.difference.lower)

    def test_no_random_intercepts_is_said(self) -> None:
        params = {n: v for n, v in known_params().items() if not n.startswith("between_cov")}
        assert "has no random intercepts" in compare_directions(make_fit(params)).text

    def test_shows_itself(self) -> None:
        found = compare_directions(make_fit(known_params()))
        assert str(found) == found.text
        assert repr(found) == "<Directions alliance, symptoms · lead: depends>"
        assert "-&gt;" in found._repr_html_()
        assert pickle.loads(pickle.dumps(found)) == found
        assert isinstance(found, Directions)


def near(one: Estimate, other: Estimate) -> bool:
    """Tell whether two estimates are the same to rounding."""
    return astuple(one)[:4] == pytest.approx(astuple(other)[:4], rel=1e-9)


def step_fit(change: tuple[float, float], se: float = 0.01, **changes) -> Fit:
    """Make a fit whose cross-lags change at session 5 of 8: those on alliance and on symptoms."""
    params = known_params()
    params["step[alliance,symptoms]@5"], params["step[symptoms,alliance]@5"] = change
    return make_fit(params, se, **changes)


class TestChangeAtASession:
    def test_early_and_late_are_both_stated(self) -> None:
        fit = step_fit((0.0, 0.3))
        found = compare_directions(fit)
        early, late = found.periods["early"], found.periods["late"]
        assert (early.session, late.session) == (2, 8)
        assert near(early.forward, fit.effect(*ROLES, "within", session=4))
        assert near(late.forward, fit.effect(*ROLES, "within", session=5))
        assert late.forward.value > 0 > early.forward.value
        assert list(early.by_basis) == list(late.by_basis) == ["reduced", "structural"]
        assert "Before session 5:" in found.text and "From session 5 on:" in found.text
        step = fit.derive(lambda p: p["step[symptoms,alliance]@5"])
        assert f"at session 5, raw: alliance -> symptoms {step}; symptoms -> " in found.text
        assert found.text.count("\nAssumptions") == 1

    def test_the_numbers_of_the_whole_are_averages(self) -> None:
        fit = step_fit((0.0, 0.3))
        found = compare_directions(fit)
        assert found.basis == "reduced" and found.session is None
        assert near(found.forward, fit.effect(*ROLES, standardized="within"))

    def test_one_session_is_one_verdict(self) -> None:
        fit = step_fit((0.0, 0.3))
        one = compare_directions(fit, session=6)
        assert not one.periods and one.session == 6
        assert near(one.forward, compare_directions(fit).periods["late"].forward)
        assert "shown are those into 6" in one.text
        with pytest.raises(SpecificationError, match="leads into session 1"):
            compare_directions(fit, session=1)

    def test_the_lead_is_that_of_both_periods_or_depends(self) -> None:
        Phi, Psi = var.time_ordered_to_reduced(0.35, 0.45, -0.3, -0.05, 0.0, 1.0, 1.0)
        params = var_params(Phi, Psi)
        params |= {"step[alliance,symptoms]@5": 0.0, "step[symptoms,alliance]@5": -0.1}
        assert compare_directions(make_fit(params, 0.01)).lead == "forward"
        assert "alliance leads before and after" in compare_directions(make_fit(params, 0.01)).text
        params["step[symptoms,alliance]@5"] = 0.3
        found = compare_directions(make_fit(params, 0.01))
        assert found.periods["early"].lead == "forward"
        assert found.periods["late"].lead != "forward" and found.lead == "depends"

    def test_exchange_and_pickle(self) -> None:
        fit = step_fit((0.05, 0.2))
        there, back = compare_directions(fit), compare_directions(fit, *ROLES[::-1])
        for period in ("early", "late"):
            assert there.periods[period].forward == back.periods[period].backward
        assert pickle.loads(pickle.dumps(there)) == there

    def test_without_time_order(self) -> None:
        fit = step_fit((0.0, 0.3), timing={})
        assert list(compare_directions(fit).periods["late"].by_basis) == ["reduced"]
        assert compare_directions(fit).text.count("Structural form not available") == 2
        with pytest.raises(SpecificationError, match="unknown for"):
            compare_directions(fit, basis="structural")

    def test_free_lags_at_one_session(self) -> None:
        fit = free_fit()
        found = compare_directions(fit, session=3)
        assert near(found.forward, fit.effect(*ROLES, "within", session=3))
        assert list(found.by_basis) == ["reduced", "structural"]
        b = found.by_basis["structural"].backward_raw
        assert b.value == fit.structural(session=3).loc["backward_immediate", "estimate"]


class TestGroups:
    def fit(self) -> Fit:
        params = known_params()
        both = {f"{n}|arm=0": v for n, v in params.items()}
        return make_fit(both | {f"{n}|arm=1": v for n, v in params.items()}, 0.01)

    def test_one_group_at_a_time(self) -> None:
        fit = self.fit()
        found = compare_directions(fit, group="arm=1")
        assert found.group == "arm=1" and "about the group arm=1" in found.text
        assert near(found.forward, fit.effect(*ROLES, "within", group="arm=1"))
        alone = compare_directions(make_fit(known_params()))
        assert found.forward.value == pytest.approx(alone.forward.value)
        assert found.backward.value == pytest.approx(alone.backward.value)

    def test_groups_are_listed(self) -> None:
        with pytest.raises(SpecificationError, match="'arm=0', 'arm=1'"):
            compare_directions(self.fit())
        with pytest.raises(SpecificationError, match="no group 'arm=7'"):
            compare_directions(self.fit(), group="arm=7")


class TestOtherProcesses:
    @pytest.mark.parametrize(
        ("family", "reason", "words"),
        [
            ("phi2", "two sessions back", "second-order lags add"),
            ("ma", "moving-average terms pass", "passes on once"),
            ("drift", "one moment", "over 1 session, the model's unit of time"),
        ],
    )
    def test_the_reduced_form_and_what_it_leaves_out(self, family, reason, words) -> None:
        more = {f"{family}[{a},{b}]": 0.05 for a in ROLES for b in ROLES}
        found = compare_directions(make_fit(known_params() | more))
        assert list(found.by_basis) == ["reduced"]
        assert reason in found.text and words in found.text

    def test_continuous_time_says_how_much_later(self) -> None:
        fit = make_fit({**known_params(), "drift[symptoms,alliance]": -0.2}, model=Weekly())
        text = compare_directions(fit).text
        assert "at one moment precedes a lower one of symptoms 7 days later." in text
        assert "Over 7 days (reduced form):" in text
        assert "at the next" not in text

    def test_without_innovations_there_is_no_unit_to_compare_in(self) -> None:
        params = {n: v for n, v in known_params().items() if not n.startswith("innovation")}
        with pytest.raises(SpecificationError, match="no innovations"):
            compare_directions(make_fit(params))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "mood"}, "Name both"),
        ({"source": "mood", "target": "symptoms"}, "cannot use 'mood'"),
        ({"target": "mood"}, "Name both"),
        ({"source": "alliance", "target": "alliance"}, "Name two variables"),
        ({"smallest_effect": -0.1}, "smallest_effect"),
        ({"smallest_effect": float("nan")}, "smallest_effect"),
        ({"basis": "raw"}, "basis is 'raw'; choose"),
    ],
)
def test_refusals(options: dict, message: str) -> None:
    with pytest.raises(SpecificationError, match=message):
        compare_directions(make_fit(known_params()), **options)


def test_one_role_completes_the_other() -> None:
    fit: Fit = make_fit(known_params())
    assert compare_directions(fit, source="symptoms").target == "alliance"
    assert compare_directions(fit, target="alliance").source == "symptoms"


def test_smallest_effect_of_zero_calls_nothing_zero() -> None:
    Phi, Psi = var.time_ordered_to_reduced(0.35, 0.45, 0.0, 0.0, 0.0, 1.0, 1.0)
    found = compare_directions(make_fit(var_params(Phi, Psi), 0.001), smallest_effect=0.0)
    assert found.forward_state != "practically zero"


def test_a_fit_that_did_not_converge_gives_no_verdict() -> None:
    fit = replace(make_fit(known_params()), converged=False)
    verdict = compare_directions(fit)
    assert verdict.lead == "undetermined"
    assert verdict.forward_state == verdict.backward_state == "undetermined"
    assert verdict.text.startswith("NOT CONVERGED")
