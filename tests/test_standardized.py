"""Standardized solutions against lavaan, and against formulas written out session by session.

Tolerances: lavaan's own optimizer stops within 1e-5 of the estimates, which leaves 1e-4 in
standardized ones and their errors; formulas agree to rounding.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_fits import known_params, make_fit

import alliancedyn as ad
from alliancedyn.errors import SpecificationError
from alliancedyn.results import Fit

A, S = "alliance", "symptoms"
TRUTH = ad.Dynamics.time_ordered(
    phi_alliance=0.35,
    phi_symptoms=0.45,
    forward=-0.12,
    backward=-0.10,
    between_cov=[[1.0, -0.3], [-0.3, 2.0]],
    mean=(3.0, 10.0),
)
FREE = ad.RICLPM(lags="free", innovations="free")


def panel(sessions: int = 5, clients: int = 200) -> ad.SessionPanel:
    return ad.simulate(TRUTH, clients=clients, sessions=sessions, missing=0.1, seed=5)


def fitted(spec: ad.RICLPM, data: ad.SessionPanel | None = None) -> Fit:
    return spec.fit(panel() if data is None else data, strict=False)


def lavaan(data: ad.SessionPanel, lags: str, folder: Path) -> pd.DataFrame:
    """Fit the RI-CLPM with free innovations in lavaan and return its standardizedSolution."""
    if shutil.which("Rscript") is None:
        pytest.skip("Rscript is not here")
    Y = data.arrays().Y
    sessions = range(1, Y.shape[1] + 1)
    wide = {f"{v}{t}": Y[:, t - 1, j] for j, v in enumerate("as") for t in sessions}
    pd.DataFrame(wide).to_csv(folder / "wide.csv", index=False, na_rep="NA")
    lines = [f"r{v} =~ " + " + ".join(f"1*{v}{t}" for t in sessions) for v in "as"]
    lines += [f"w{v}{t} =~ 1*{v}{t}" for v in "as" for t in sessions]
    lines += [f"{v}{t} ~~ 0*{v}{t}\n{v}{t} ~ 1" for v in "as" for t in sessions]
    for t in sessions:
        lines += [f"wa{t} ~~ ws{t}", f"wa{t} ~~ wa{t}", f"ws{t} ~~ ws{t}"]
        for i in "as" if t > 1 else "":
            label = {j: f"p{i}{j}*" if lags == "equal" else "" for j in "as"}
            lines.append(f"w{i}{t} ~ {label['a']}wa{t - 1} + {label['s']}ws{t - 1}")
    lines += ["ra ~~ ra", "rs ~~ rs", "ra ~~ rs"]
    lines += [f"r{v} ~~ 0*w{u}1" for v in "as" for u in "as"]
    (folder / "model.txt").write_text("\n".join(lines), encoding="utf-8")
    script = (
        "suppressMessages(library(lavaan)); d <- read.csv('wide.csv');"
        "f <- lavaan(paste(readLines('model.txt'), collapse='\\n'), d, missing='fiml',"
        "control=list(rel.tol=1e-12));"
        "s <- standardizedSolution(f);"
        "write.csv(as.data.frame(s)[, c('lhs','op','rhs','est.std','se')], 'out.csv',"
        "row.names=FALSE)"
    )
    done = subprocess.run(
        ["Rscript", "-e", script], cwd=folder, capture_output=True, text=True, check=False
    )
    if "no package called" in done.stderr:
        pytest.skip("lavaan is not here")
    assert done.returncode == 0, done.stderr
    out = pd.read_csv(folder / "out.csv")
    return out.set_index(out["lhs"] + out["op"] + out["rhs"])


@pytest.mark.parametrize("lags", ["equal", "free"])
def test_lavaan_agrees(lags: str, tmp_path: Path) -> None:
    data = panel()
    theirs = lavaan(data, lags, tmp_path)
    ours = ad.RICLPM(lags=lags, innovations="free").fit(data).standardized()
    letter = {A: "a", S: "s"}
    pairs = {
        "between_corr[alliance,symptoms]": "ra~~rs",
        "initial_corr[alliance,symptoms]": "wa1~~ws1",
    }
    for t in range(2, 6):
        pairs[f"innovation_corr[alliance,symptoms]@{t}"] = f"wa{t}~~ws{t}"
        for i in (A, S):
            own = letter[i]
            pairs[f"innovation_share[{i}]@{t}"] = f"w{own}{t}~~w{own}{t}"
            for j in (A, S):
                pairs[f"phi[{i},{j}]@{t}"] = f"w{own}{t}~w{letter[j]}{t - 1}"
    found, known = ours.loc[list(pairs)], theirs.loc[list(pairs.values())]
    np.testing.assert_allclose(found["estimate"], known["est.std"], atol=1e-4)
    np.testing.assert_allclose(found["se"], known["se"], atol=1e-4)
    for i in (A, S):
        for t in range(1, 6):
            loading = theirs.loc[f"r{letter[i]}=~{letter[i]}{t}", "est.std"]
            assert ours.loc[f"icc[{i}]@{t}", "estimate"] == pytest.approx(loading**2, abs=1e-4)


def within_path(p: pd.Series, sessions: int) -> np.ndarray:
    """Return the within covariances (T, 2, 2), written out."""
    cov = [
        [
            [p[f"initial_cov[{A},{A}]"], p[f"initial_cov[{A},{S}]"]],
            [0.0, p[f"initial_cov[{S},{S}]"]],
        ]
    ]
    cov[0][1][0] = cov[0][0][1]
    path = [np.array(cov[0])]
    for t in range(2, sessions + 1):
        at = "" if f"phi[{A},{A}]" in p else f"@{t}"
        phi = np.array([[p[f"phi[{i},{j}]{at}"] for j in (A, S)] for i in (A, S)])
        at = "" if f"innovation_cov[{A},{A}]" in p else f"@{t}"
        cross = p[f"innovation_cov[{A},{S}]{at}"]
        psi = np.array(
            [[p[f"innovation_cov[{A},{A}]{at}"], cross], [cross, p[f"innovation_cov[{S},{S}]{at}"]]]
        )
        path.append(phi @ path[-1] @ phi.T + psi)
    return np.array(path)


def test_free_lags_session_by_session() -> None:
    fit = fitted(FREE)
    p, table = fit.params, fit.standardized()
    W = within_path(p, 5)
    for t in range(2, 6):
        for i, target in enumerate((A, S)):
            share = p[f"innovation_cov[{target},{target}]@{t}"] / W[t - 1, i, i]
            assert table.loc[f"r2[{target}]@{t}", "estimate"] == pytest.approx(1.0 - share)
            for j, source in enumerate((A, S)):
                scale = np.sqrt(W[t - 2, j, j] / W[t - 1, i, i])
                name = f"phi[{target},{source}]@{t}"
                assert table.loc[name, "estimate"] == pytest.approx(p[name] * scale)
    for t in range(1, 6):
        for i, v in enumerate((A, S)):
            between = p[f"between_cov[{v},{v}]"]
            known = between / (between + W[t - 1, i, i])
            assert table.loc[f"icc[{v}]@{t}", "estimate"] == pytest.approx(known)


def test_equal_lags_stand_in_the_units_of_effects() -> None:
    fit = fitted(ad.RICLPM())
    table = fit.standardized()
    for target in (A, S):
        for source in (A, S):
            known = fit.effect(source, target, "within")
            row = table.loc[f"phi[{target},{source}]"]
            assert (row["estimate"], row["se"], row["lower"]) == pytest.approx(
                (known.value, known.se, known.lower)
            )
    assert table.loc["between_corr[alliance,symptoms]", "estimate"] == pytest.approx(
        fit.params[f"between_cov[{A},{S}]"]
        / np.sqrt(fit.params[f"between_cov[{A},{A}]"] * fit.params[f"between_cov[{S},{S}]"])
    )


def test_errors_are_those_of_the_delta_method_by_hand() -> None:
    fit = fitted(ad.RICLPM())
    name, v = "between_corr[alliance,symptoms]", "between_cov[{},{}]"
    own = [v.format(A, A), v.format(A, S), v.format(S, S)]
    a, c, s = fit.params[own]
    gradient = np.array([-0.5 * c / a, 1.0, -0.5 * c / s]) / np.sqrt(a * s)
    se = np.sqrt(gradient @ fit.cov.loc[own, own].to_numpy() @ gradient)
    row = fit.standardized(level=0.9).loc[name]
    assert row["se"] == pytest.approx(se, rel=1e-6)
    assert row["upper"] - row["estimate"] == pytest.approx(1.6448536 * se, rel=1e-6)


def test_what_is_the_same_at_all_sessions_has_one_row() -> None:
    table = fitted(ad.RICLPM(initial="stationary")).standardized()
    assert [name for name in table.index if name.startswith(("icc", "r2"))] == [
        "icc[alliance]",
        "icc[symptoms]",
        "r2[alliance]",
        "r2[symptoms]",
    ]
    assert not table["estimate"].isna().any()
    assert table.loc[["icc[alliance]", "r2[alliance]"], "p_value"].isna().all()
    assert (table["se"] > 0.0).all()


def test_measurement_error_is_part_of_a_score() -> None:
    fit = fitted(ad.RICLPM(initial="stationary", measurement_var={A: 0.2, S: 0.3}))
    table, p = fit.standardized(), fit.params
    for v, error in ((A, 0.2), (S, 0.3)):
        whole = p[f"between_cov[{v},{v}]"] + p[f"initial_cov[{v},{v}]"] + error
        assert table.loc[f"error_share[{v}]", "estimate"] == pytest.approx(error / whole)
        known = p[f"between_cov[{v},{v}]"] / whole
        assert table.loc[f"icc[{v}]", "estimate"] == pytest.approx(known)


def items() -> ad.SessionPanel:
    """Make three items of alliance with loadings 1, .8, 1.2 and error variances .5, .4, .9."""
    frame = panel().frame
    rng = np.random.default_rng(0)
    for name, loading, error in (("task", 1.0, 0.5), ("goal", 0.8, 0.4), ("bond", 1.2, 0.9)):
        noise = np.sqrt(error) * rng.standard_normal(len(frame))
        frame[name] = 2.0 + loading * frame[A] + noise
    names = ["task", "goal", "bond", S]
    return ad.SessionPanel.from_frame(
        frame, client="client", session="session", variables={name: name for name in names}
    )


def test_items_have_standardized_loadings() -> None:
    spec = ad.RICLPM(
        variables=(A, S),
        indicators={A: ["task", "goal", "bond"]},
        measurement_var="equal",
        initial="stationary",
    )
    fit = fitted(spec, items())
    table, p = fit.standardized(), fit.params
    factor = p[f"between_cov[{A},{A}]"] + p[f"initial_cov[{A},{A}]"]
    for name in ("task", "goal", "bond"):
        loading, error = p.get(f"loading[{name}]", 1.0), p[f"measurement_var[{name}]"]
        score = loading**2 * factor + error
        known = loading * np.sqrt(factor / score)
        assert table.loc[f"loading[{name}]", "estimate"] == pytest.approx(known)
        assert table.loc[f"error_share[{name}]", "estimate"] == pytest.approx(error / score)
    assert table.loc[f"icc[{A}]", "estimate"] == pytest.approx(p[f"between_cov[{A},{A}]"] / factor)


def test_groups_have_rows_of_their_own() -> None:
    data = panel()
    frame = data.frame
    frame["arm"] = frame["client"].rank(method="dense").astype(int) % 2
    both = ad.SessionPanel.from_frame(
        frame, client="client", session="session", variables={A: A, S: S}, arm="arm"
    )
    fit = fitted(ad.RICLPM(group="arm", initial="stationary"), both)
    table, p = fit.standardized(), fit.params
    for arm in ("0", "1"):
        known = p[f"between_cov[{A},{A}]|arm={arm}"]
        known /= known + p[f"initial_cov[{A},{A}]|arm={arm}"]
        assert table.loc[f"icc[{A}]|arm={arm}", "estimate"] == pytest.approx(known)
        effect = fit.effect(A, S, "within", group=f"arm={arm}")
        assert table.loc[f"phi[{S},{A}]|arm={arm}", "estimate"] == pytest.approx(effect.value)
    shared = fitted(
        ad.RICLPM(group="arm", equal_across_groups=("lags", "innovations", "initial")), both
    ).standardized()
    assert f"phi[{S},{A}]" in shared.index
    assert f"between_corr[{A},{S}]|arm=1" in shared.index


def test_growth_makes_the_share_between_change() -> None:
    fit = fitted(ad.LCMSR(), panel(6))
    p, table = fit.params, fit.standardized()
    W = within_path(p, 6)
    for t in range(1, 7):
        x = t - 1.0
        between = (
            p[f"between_cov[{A},{A}]"]
            + 2.0 * x * p[f"between_cov[{A},{A}.trend]"]
            + x * x * p[f"between_cov[{A}.trend,{A}.trend]"]
        )
        known = between / (between + W[t - 1, 0, 0])
        assert table.loc[f"icc[{A}]@{t}", "estimate"] == pytest.approx(known)


@pytest.mark.parametrize(
    ("spec", "holds"),
    [
        (ad.ALT(), lambda names: not any(name.startswith("icc") for name in names)),
        (ad.CLPM(), lambda names: not any(name.startswith("icc") for name in names)),
        (ad.GCLM(), lambda names: "icc[alliance]@3" in names),
        (ad.RICLPM(order=2), lambda names: "phi2[symptoms,alliance]" in names),
        (ad.RICLPM(step=4), lambda names: "phi[symptoms,alliance]@4" in names),
        (
            ad.ContinuousTime(time="session"),
            lambda names: "diffusion_corr[alliance,symptoms]" in names,
        ),
        (ad.LatentChange(innovations="equal"), lambda names: "r2[alliance]@3" in names),
        (ad.STARTS(), lambda names: "error_share[symptoms]" in names),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)
def test_every_family(spec: ad.RICLPM, holds: Callable[[list[str]], bool]) -> None:
    table = fitted(spec, panel(6)).standardized()
    assert holds(list(table.index))
    estimates = table["estimate"]
    assert np.isfinite(estimates).all()
    shares = estimates[[name.startswith(("r2", "icc", "error", "innov")) for name in table.index]]
    assert (np.abs(shares) <= 1.0).all()


def test_alt_correlates_the_first_session_with_the_factors() -> None:
    fit = fitted(ad.ALT(), panel(6))
    p = fit.params
    known = p[f"initial_between_cov[{A},{S}]"] / np.sqrt(
        p[f"initial_cov[{A},{A}]"] * p[f"between_cov[{S},{S}]"]
    )
    table = fit.standardized()
    assert table.loc[f"initial_between_corr[{A},{S}]", "estimate"] == pytest.approx(known)
    assert f"initial_between_corr[{A},{A}]" in table.index


def test_draws_are_standardized_one_by_one() -> None:
    params = known_params()
    draws = pd.DataFrame([params, params, params])
    draws["phi[symptoms,alliance]"] = [-0.2, -0.1, 0.0]
    table = make_fit(params, draws=draws).standardized()
    assert table.loc["phi[symptoms,alliance]", "prob_positive"] == 0.0
    assert table.loc["innovation_corr[alliance,symptoms]", "se"] == pytest.approx(0.0, abs=1e-12)


def test_it_needs_no_data() -> None:
    fit = fitted(ad.RICLPM())
    pd.testing.assert_frame_equal(fit.without_data().standardized(), fit.standardized())


def test_models_without_innovations_are_refused() -> None:
    with pytest.raises(SpecificationError, match="no lagged effects phi with innovations"):
        fitted(ad.LatentChange()).standardized()
    with pytest.raises(SpecificationError, match="number between 0 and 1"):
        fitted(ad.RICLPM()).standardized(level=2)


def known_panel() -> ad.SessionPanel:
    data = panel(6)
    frame = data.frame
    code = pd.factorize(frame["client"])[0]
    frame["severity"] = np.random.default_rng(2).normal(size=code.max() + 1)[code]
    frame["crisis"] = (np.random.default_rng(3).random(len(frame)) < 0.2).astype(float)
    frame["arm"] = np.where(code % 2, "b", "a")
    return ad.SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables=[A, S],
        covariates=["severity", "crisis"],
        arm="arm",
    )


@pytest.mark.parametrize(
    "options",
    [
        {"covariates": ("severity",)},
        {"time_varying": ("crisis",)},
        {"covariates": ("severity",), "time_varying": ("crisis",), "group": "arm"},
    ],
    ids=["covariates", "inputs", "all"],
)
@pytest.mark.parametrize("family", [ad.CLPM, ad.RICLPM, ad.LCMSR, ad.ALT, ad.STARTS, ad.GCLM])
def test_what_is_known_beside_the_scores_is_no_obstacle(
    family: type[ad.RICLPM], options: dict[str, tuple[str, ...]]
) -> None:
    fit = family(**options).fit(known_panel(), strict=False)
    table = fit.standardized()
    assert np.isfinite(table["estimate"]).all()
    pd.testing.assert_frame_equal(fit.without_data().standardized(), table)
    if family is ad.GCLM:  # whose effect at the next session is phi + ma
        return
    for group in ("|arm=a", "|arm=b") if "group" in options else ("",):
        effect = fit.effect(A, S, "within", group=group.lstrip("|") or None)
        assert table.loc[f"phi[{S},{A}]{group}", "estimate"] == pytest.approx(effect.value)


def test_shares_between_are_given_covariates() -> None:
    fit = fitted(ad.RICLPM(covariates=("severity",), initial="stationary"), known_panel())
    between, within = (fit.params[f"{f}_cov[{A},{A}]"] for f in ("between", "initial"))
    share = fit.standardized().loc[f"icc[{A}]", "estimate"]
    assert share == pytest.approx(between / (between + within))


def test_the_joint_ml_sem_is_standardized_without_shares_between() -> None:
    fit = ad.MLSEM(direction="both", covariates=("severity",), sessions=(1, 4)).fit(
        known_panel(), strict=False
    )
    table = fit.standardized()
    effect = fit.effect(A, S, "within")
    assert table.loc[f"phi[{S},{A}]", "estimate"] == pytest.approx(effect.value)
    assert not [name for name in table.index if name.startswith("icc")]
    pd.testing.assert_frame_equal(fit.without_data().standardized(), table)
