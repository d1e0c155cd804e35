"""Exported texts say what the model says, in the grammar of either program.

Three sources. (1) Readers that know the grammar and nothing of the writer turn a text into paths
and paths into a normal density of the wide data (wide_texts): it must be the state-space
likelihood at any parameters. (2) lavaan runs the text: its maximum must be ours. (3) lavaan's own
reader of Mplus input runs the Mplus text; Mplus itself is not run anywhere.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from reference_files import panel_frame
from wide_texts import Reading, mplus_commands, read_lavaan, read_mplus

from alliancedyn import SessionPanel
from alliancedyn.errors import SpecificationError
from alliancedyn.models import (
    ALT,
    CLPM,
    GCLM,
    LCMSR,
    RICLPM,
    STARTS,
    ContinuousTime,
    LatentChange,
    Specification,
)
from alliancedyn.syntax import FAMILIES, PROGRAMS, export_syntax, labels, wide_data, write_syntax

DENSITY = 1e-9  # relative: two ways to one normal density
ESTIMATE = 1e-4  # of max(1, |estimate|), in the panel's units: lavaan's last step is about 1e-5
LOGLIK = 1e-4
ERROR = 1e-3  # relative: both from second derivatives

ITEMS = {"alliance": ["bond", "task"], "symptoms": ["mood", "worry", "sleep"]}
MIXED = {"alliance": ["bond", "task"]}
ALL_EQUAL = ("lags", "means", "innovations", "between", "initial", "inputs", "measurement")
ARMS: dict[str, Any] = {"group": "arm"}
AGE: dict[str, Any] = {"covariates": ("age", "severity")}
FREE: dict[str, Any] = {"lags": "free", "innovations": "free"}
WITH_ITEMS: dict[str, Any] = {"indicators": ITEMS}

SPECS: list[Specification] = [
    CLPM(),
    CLPM(**FREE, means="equal"),
    CLPM(**AGE, time_varying=("crisis",)),
    CLPM(variables=("bond", "mood", "worry"), sessions=(1, 4)),
    RICLPM(),
    RICLPM(**FREE),
    RICLPM(order=2),
    RICLPM(order=2, **FREE),
    RICLPM(order=2, step=3),
    RICLPM(step=3, measurement_var={"bond": 0.2}),
    RICLPM(reliability={"bond": 0.9, "mood": 0.8}),
    RICLPM(measurement_var="free", **AGE, time_varying=("crisis",)),
    RICLPM(**ARMS),
    RICLPM(**ARMS, **FREE, equal_across_groups=("lags", "between")),
    RICLPM(**ARMS, **AGE, step=2, equal_across_groups=("means",)),
    RICLPM(**ARMS, equal_across_groups=ALL_EQUAL),
    RICLPM(initial="stationary"),
    RICLPM(initial="stationary", **ARMS, equal_across_groups=("lags",)),
    STARTS(),
    STARTS(**ARMS, **AGE),
    LCMSR(),
    LCMSR(growth="log", means="free", **AGE),
    LCMSR(growth="piecewise", knot=2),
    LCMSR(growth="free", **FREE),
    LCMSR(initial="stationary", measurement_var="free"),
    LCMSR(order=2, **ARMS, equal_across_groups=("between",)),
    ALT(),
    ALT(growth="free", **AGE, time_varying=("crisis",)),
    ALT(**ARMS, **FREE),
    ALT(measurement_var={"mood": 0.3}, step=3),
    GCLM(),
    GCLM(unit_loadings="equal", **FREE, **AGE),
    GCLM(unit_loadings="equal", **ARMS, time_varying=("crisis",), step=4),
    LatentChange(),
    LatentChange(innovations="free", measurement_var=None, **AGE, time_varying=("crisis",)),
    LatentChange(**ARMS, equal_across_groups=("lags", "measurement")),
    RICLPM(**WITH_ITEMS),
    RICLPM(**WITH_ITEMS, loadings="free", item_intercepts="free", measurement_var="equal"),
    RICLPM(**WITH_ITEMS, **ARMS, means="equal", equal_across_groups=("measurement",)),
    RICLPM(indicators=MIXED, variables=("alliance", "mood"), time_varying=("crisis",)),
    LCMSR(**WITH_ITEMS, **AGE),
    ALT(indicators=MIXED, variables=("alliance", "mood")),
    GCLM(**WITH_ITEMS, item_intercepts="free"),
    LatentChange(**WITH_ITEMS),
    RICLPM(initial="stationary", **AGE, time_varying=("crisis",)),
    RICLPM(initial="stationary", variables=("bond", "mood", "worry"), sessions=(1, 4)),
    STARTS(indicators=MIXED, variables=("alliance", "mood")),
    RICLPM(indicators={**MIXED, "symptoms": ["mood"]}, measurement_var={"bond": 0.3, "mood": 0.2}),
    GCLM(measurement_var="free", indicators=MIXED, variables=("mood", "alliance")),
    ALT(**ARMS, time_varying=("crisis",), equal_across_groups=ALL_EQUAL),
]


@cache
def panel() -> SessionPanel:
    """Five items at sessions 0 to 5, an arm, an age, a crisis now and then; gaps."""
    rng = np.random.default_rng(11)
    clients, sessions = 90, 6
    trait = rng.normal(size=(clients, 1, 2))
    series = trait + rng.normal(size=(clients, sessions, 2)).cumsum(axis=1) * 0.5
    score = np.repeat(series, (2, 3), axis=2) * (1.0, 0.8, 1.0, 1.2, 0.9)
    score += rng.normal(size=score.shape) * 0.6 + (5.0, 4.0, 10.0, 9.0, 8.0)
    score[rng.random(score.shape) < 0.1] = np.nan
    frame = pd.DataFrame(score.reshape(-1, 5), columns=["bond", "task", "mood", "worry", "sleep"])
    frame["client"] = np.repeat(np.arange(clients), sessions) + 1
    frame["session"] = np.tile(np.arange(sessions), clients)
    for name, values in {
        "arm": np.array(["own way", "manual"])[rng.integers(0, 2, clients)],
        "age": rng.normal(40.0, 9.0, clients).round(1),
        "severity": rng.normal(size=clients),
    }.items():
        frame[name] = np.repeat(values, sessions)
    happened = (rng.random(len(frame)) < 0.3) & (frame["session"] > 0)
    frame["crisis"] = happened.astype(float)
    return SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables=["bond", "task", "mood", "worry", "sleep"],
        process="bond",
        outcome="mood",
        arm="arm",
        covariates=["age", "severity", "crisis"],
    )


def of_two(spec: Specification) -> Specification:
    """Take two series where a specification names none."""
    if spec.indicators or spec.variables:
        return spec
    return replace(spec, variables=("bond", "mood"))


def some_params(spec: Specification, data: SessionPanel, seed: int = 5) -> dict[str, float]:
    """Return admissible parameters that are no special point."""
    objective = spec.objective(data)
    rng = np.random.default_rng(seed)
    theta = objective.start + 0.05 * rng.standard_normal(len(objective.start))
    return objective.to_params(theta)


@dataclass(frozen=True)
class Exported:
    """One specification, written out for one program."""

    spec: Specification
    text: str
    labels: dict[str, str]
    wide: pd.DataFrame

    @property
    def levels(self) -> list[str]:
        return sorted(self.wide["arm"].unique()) if self.spec.group else ["all"]

    def read(self) -> list[Reading]:
        if "In R:" in self.text:
            return read_lavaan(self.text, len(self.levels))
        return read_mplus(self.text)

    def loglik(self, params: Mapping[str, float]) -> float:
        """Return the log-likelihood that the text gives these parameters."""
        known = {label: params[name] for label, name in self.labels.items()}
        scores = self.wide.drop(columns="arm", errors="ignore")
        arm = self.wide["arm"] if self.spec.group else pd.Series("all", index=scores.index)
        pairs = zip(self.read(), self.levels, strict=True)
        return sum(reading.loglik(scores[arm == level], known) for reading, level in pairs)


def exported(spec: Specification, data: SessionPanel, to: Any) -> Exported:
    return Exported(
        spec, export_syntax(spec, data, to), labels(spec, data, to), wide_data(spec, data, to)
    )


@cache
def written(number: int, to: str) -> Exported:
    return exported(of_two(SPECS[number]), panel(), to)


every_spec = pytest.mark.parametrize("number", range(len(SPECS)), ids=lambda i: repr(SPECS[i]))
either_program = pytest.mark.parametrize("to", PROGRAMS)


# -- what the text says, read by grammar alone ----------------------------------------------------


@either_program
@every_spec
def test_a_text_says_the_likelihood_of_its_model(number: int, to: str) -> None:
    mine = written(number, to)
    params = some_params(mine.spec, panel())
    ours = mine.spec.loglik(panel(), params)
    assert mine.loglik(params) == pytest.approx(ours, rel=DENSITY)


@either_program
@every_spec
def test_every_parameter_has_one_label(number: int, to: str) -> None:
    mine = written(number, to)
    objective = mine.spec.objective(panel())
    known = mine.labels
    assert len(set(known.values())) == len(known)
    assert set(known.values()) == set(objective.to_params(objective.start))
    assert set(objective.names) <= set(known.values())
    said = {label for reading in mine.read() for label in reading.labels}
    said |= {left for reading in mine.read() for left, _, _ in reading.equations}
    assert set(known) <= said
    sign = "#" if to == "lavaan" else "!"
    for label, name in known.items():  # the comments say the same, one line each
        assert mine.text.count(f"{sign}   {label} = {name}\n") == 1


@every_spec
def test_mplus_could_read_every_line(number: int) -> None:
    mine = written(number, "mplus")
    assert max(len(line) for line in mine.text.splitlines()) <= 90
    commands = mplus_commands(mine.text)  # every statement ends with a semicolon
    assert list(commands)[:5] == ["TITLE", "DATA", "VARIABLE", "ANALYSIS", "MODEL"]
    said = re.findall(r"[A-Za-z]\w*", " ".join(s for c in list(commands)[4:] for s in commands[c]))
    assert max(len(word) for word in said) <= 8
    names = commands["VARIABLE"][0].removeprefix("NAMES = ").split()
    assert names == list(mine.wide.columns)
    assert max(len(name) for name in names) <= 8
    assert len({name.lower() for name in names}) == len(names)
    given = [n for n in names if n.startswith(("crisis", "age", "severity", "arm"))]
    for reading in mine.read():  # nothing is left to a default
        for node in set(reading.nodes) - set(given):
            assert ("covariance", node, node) in reading.paths, node
            assert ("mean", node, "") in reading.paths, node


def test_no_effect_is_said_of_an_input_that_nobody_had() -> None:
    text = export_syntax(of_two(RICLPM(time_varying=("crisis",))), panel())
    assert "crisis_1" in text
    assert "crisis_0" not in text


# -- names ----------------------------------------------------------------------------------------


@cache
def unfit() -> SessionPanel:
    """Names that neither R nor Mplus would take, alike in their first letters."""
    frame = panel().frame.rename(columns={"bond": "2nd Allianz Ω", "mood": "Symptome gesamt 1"})
    frame["Symptome gesamt 2"] = frame["worry"]
    frame["w_Symptome_gesamt_1"] = frame["sleep"]
    return SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables=[
            "2nd Allianz Ω",
            "Symptome gesamt 1",
            "Symptome gesamt 2",
            "w_Symptome_gesamt_1",
        ],
        process="2nd Allianz Ω",
        outcome="Symptome gesamt 1",
    )


@either_program
def test_unfit_names_are_translated(to: str) -> None:
    mine = exported(RICLPM(), unfit(), to)
    params = some_params(mine.spec, unfit())
    ours = mine.spec.loglik(unfit(), params)
    assert mine.loglik(params) == pytest.approx(ours, rel=DENSITY)
    for column in mine.wide:
        assert re.fullmatch(r"[A-Za-z]\w*", column)
    for name in unfit().variables:
        assert re.search(rf"^[#!]   \S+ \.\.\. \S+: {re.escape(name)}$", mine.text, re.MULTILINE)


def test_names_are_those_of_the_data_where_they_fit() -> None:
    assert list(wide_data(of_two(RICLPM(sessions=(0, 2))), panel())) == [
        *("bond_0", "bond_1", "bond_2"),
        *("mood_0", "mood_1", "mood_2"),
    ]
    assert "phi_mood.bond" in labels(of_two(RICLPM()), panel())
    assert labels(of_two(RICLPM(lags="free")), panel())["phi_mood.bond_at3"] == "phi[mood,bond]@3"


def test_starting_values_are_those_given() -> None:
    spec, data = of_two(RICLPM(**ARMS)), panel()
    params = dict.fromkeys(some_params(spec, data), 0.125)
    text = export_syntax(spec, data, start=params)
    assert "start(c(0.125, 0.125))*w_bond_0" in text
    assert len(read_lavaan(text, 2)) == 2
    assert "*0.125 (phi1);" in export_syntax(spec, data, "mplus", start=params)
    assert "start(" not in export_syntax(spec, data)


def test_files_hold_no_identifiers(tmp_path: Path) -> None:
    spec, data = of_two(RICLPM()), panel()
    for to in PROGRAMS:
        model, wide = write_syntax(spec, data, tmp_path / "new" / to, to)
        assert model.read_text("utf-8") == export_syntax(spec, data, to)
        table = wide.read_text("utf-8").splitlines()
        assert "client" not in table[0]
        assert len(table) == data.n_clients + (to == "lavaan")
    assert min(len(line.split()) for line in table) == 12  # missing scores are written out


def test_families_go_by_the_names_that_people_type() -> None:
    assert list(FAMILIES) == [
        *("clpm", "ri-clpm", "starts", "lcm-sr", "alt", "gclm", "latent-change"),
    ]
    text = export_syntax(FAMILIES["ri-clpm"](variables=("bond", "mood")), panel())
    assert text == export_syntax(of_two(RICLPM()), panel())


def test_the_example_runs(tmp_path: Path) -> None:
    example = Path(__file__).parents[1] / "examples" / "export_syntax.py"
    command = [sys.executable, str(example), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "phi[symptoms,alliance]" in done.stdout
    assert (tmp_path / "lavaan" / "wide.csv").exists()
    assert (tmp_path / "mplus" / "model.inp").exists()


# -- refusals -------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Newer(RICLPM):
    """A family that the export does not know."""


def test_an_option_that_the_pieces_do_not_follow_is_refused(monkeypatch: Any) -> None:
    """As one that a family may be given later, without new parameters."""
    monkeypatch.setattr("alliancedyn.syntax.families.FOLLOWED", {"variables"})
    assert export_syntax(of_two(RICLPM()), panel())
    with pytest.raises(SpecificationError, match="option 'lags' has no text"):
        export_syntax(of_two(RICLPM(lags="free")), panel())


@pytest.mark.parametrize(
    ("spec", "to", "fragment"),
    [
        (ContinuousTime(), "lavaan", "differ from client to client"),
        (Newer(), "lavaan", "Newer has no text"),
        ("ri-clpm", "lavaan", "give a model such as RICLPM"),
        (RICLPM(moderators=("one",)), "mplus", "moderators="),
        (RICLPM(order=2, initial="stationary"), "mplus", "no polynomial"),
        (RICLPM(), "amos", "choose 'lavaan' or 'mplus'"),
        (RICLPM(variables=("bond", "nothing")), "lavaan", "no variable 'nothing'"),
        (RICLPM(variables=("bond", "mood"), time_varying=("one",)), "lavaan", "is 1 for every"),
    ],
)
def test_what_cannot_be_said_is_refused(spec: Any, to: Any, fragment: str) -> None:
    frame = panel().frame.assign(one=1.0)
    data = SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables=["bond", "mood"],
        process="bond",
        outcome="mood",
        covariates=["one"],
    )
    with pytest.raises(SpecificationError, match=fragment):
        export_syntax(spec, data, to)


# -- lavaan runs it -------------------------------------------------------------------------------

RUN = """
suppressMessages(library(lavaan))
for (folder in commandArgs(trailingOnly = TRUE)) {
  setwd(folder)
  if (file.exists("model.lav")) {
    text <- readLines("model.lav")
    code <- sub("^# > ", "", text[startsWith(text, "# > ")])
    sink(nullfile()); suppressWarnings(eval(parse(text = code))); sink()
  } else {
    input <- mplus2lavaan("model.inp", run = FALSE)
    fit <- lavaan(input$model, data = input$data, meanstructure = TRUE, fixed.x = TRUE,
                  information = "observed",
                  missing = if (anyNA(input$data)) "fiml" else "listwise")
  }
  table <- parTable(fit)
  label <- ifelse(table$op == ":=", table$lhs, table$label)
  keep <- label != "" & !duplicated(label) & table$op != "=="
  out <- data.frame(label = label[keep], est = table$est[keep], se = table$se[keep])
  out <- rbind(out, data.frame(label = "loglik", est = as.numeric(logLik(fit)), se = NA))
  write.csv(out, "estimates.csv", row.names = FALSE)
}
"""


@cache
def reference_panel(case: str, which: str) -> SessionPanel:
    frame = panel_frame(f"crosslagged_{case}", which)
    rng = np.random.default_rng(3)
    frame["crisis"] = (rng.random(len(frame)) < 0.3) * (frame["session"] > 1).astype(float)
    own = [name for name in ("severity", "crisis") if name in frame]
    return SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables=["alliance", "symptoms"],
        timing={"alliance": "after", "symptoms": "before"},
        arm="arm" if "arm" in frame else None,
        covariates=own,
    )


@cache
def item_panel() -> SessionPanel:
    """Five items of two series that follow a settled process, complete: 300 clients, 4 sessions."""
    rng = np.random.default_rng(2)
    phi = np.array([[0.4, -0.1], [-0.2, 0.45]])
    age = rng.normal(40.0, 9.0, 300).round(1)
    trait = rng.multivariate_normal([0.0, 0.0], [[0.8, -0.3], [-0.3, 0.9]], 300)
    trait += 0.02 * (age - 40.0)[:, None]
    within = rng.multivariate_normal([0.0, 0.0], [[0.8, -0.3], [-0.3, 0.9]], 300)
    rows = []
    for session in range(1, 5):
        series = np.repeat(trait + within, (2, 3), axis=1) * (1.0, 0.8, 1.0, 1.2, 0.9)
        items = series + rng.normal(size=series.shape) * 0.55 + (5.0, 4.0, 10.0, 9.0, 8.0)
        names = [item for own in ITEMS.values() for item in own]
        frame = pd.DataFrame(items, columns=names)
        rows.append(frame.assign(client=np.arange(300), session=session, age=age))
        shock = rng.multivariate_normal([0.0, 0.0], [[0.6, -0.2], [-0.2, 0.7]], 300)
        within = within @ phi.T + shock
    return SessionPanel.from_frame(
        pd.concat(rows),
        client="client",
        session="session",
        variables=names,
        process="bond",
        outcome="mood",
        covariates=["age"],
    )


Source = Callable[[], SessionPanel]
COMPLETE: Source = lambda: reference_panel("complete", "panel")  # noqa: E731
GROWTH: Source = lambda: reference_panel("complete", "growth")  # noqa: E731
LONG: Source = lambda: reference_panel("complete", "starts")  # noqa: E731
MISSING: Source = lambda: reference_panel("missing", "panel")  # noqa: E731

RUNS: dict[str, tuple[Specification, Source, Any]] = {
    "clpm": (CLPM(**FREE), COMPLETE, "lavaan"),
    "riclpm missing": (RICLPM(sessions=(2, 6)), MISSING, "lavaan"),
    "riclpm free": (RICLPM(**FREE, means="equal"), COMPLETE, "lavaan"),
    "order 2": (RICLPM(order=2), COMPLETE, "lavaan"),
    "step": (RICLPM(step=4, measurement_var={"alliance": 0.1}), COMPLETE, "lavaan"),
    "covariates": (
        RICLPM(covariates=("severity",), time_varying=("crisis",)),
        COMPLETE,
        "lavaan",
    ),
    "groups": (RICLPM(group="arm", equal_across_groups=("lags",)), COMPLETE, "lavaan"),
    "stationary": (RICLPM(initial="stationary"), COMPLETE, "lavaan"),
    "starts": (STARTS(), LONG, "lavaan"),
    "lcmsr": (LCMSR(), GROWTH, "lavaan"),
    "lcmsr free": (LCMSR(growth="free"), GROWTH, "lavaan"),
    "alt": (ALT(), GROWTH, "lavaan"),
    "gclm": (GCLM(unit_loadings="equal"), GROWTH, "lavaan"),
    "change": (LatentChange(), GROWTH, "lavaan"),
    "items": (RICLPM(**WITH_ITEMS, covariates=("age",)), item_panel, "lavaan"),
    "mplus riclpm": (RICLPM(), COMPLETE, "mplus"),
    "mplus step": (RICLPM(step=4), COMPLETE, "mplus"),
    "mplus change": (LatentChange(), GROWTH, "mplus"),
    "mplus items": (RICLPM(**WITH_ITEMS, loadings="free"), item_panel, "mplus"),
}


def has_lavaan() -> bool:
    program = shutil.which("Rscript")
    if program is None:
        return False
    asked = [program, "-e", "library(lavaan)"]
    return not subprocess.run(asked, capture_output=True, check=False).returncode


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run every text in one R process."""
    if not has_lavaan():
        pytest.skip("Rscript with lavaan not found")
    home = tmp_path_factory.mktemp("texts")
    (home / "run.R").write_text(RUN, "utf-8")
    made = {}
    for name, (spec, source, to) in RUNS.items():
        made[name] = home / name.replace(" ", "_")
        write_syntax(spec, source(), made[name], to)
    command = ["Rscript", str(home / "run.R"), *(str(folder) for folder in made.values())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return made


@pytest.mark.parametrize("name", RUNS)
def test_lavaan_finds_our_maximum(name: str, folders: dict[str, Path]) -> None:
    spec, source, to = RUNS[name]
    fit = spec.fit(source())
    table = pd.read_csv(folders[name] / "estimates.csv", index_col="label")
    assert table.est["loglik"] == pytest.approx(fit.loglik, abs=LOGLIK)
    known = labels(spec, source(), to)
    assert set(known.values()) == set(fit.params.index)
    for label, ours in known.items():
        scale = max(1.0, abs(fit.params[ours]))
        assert abs(table.est[label] - fit.params[ours]) < ESTIMATE * scale, ours
        assert table.se[label] == pytest.approx(fit.se[ours], rel=ERROR), ours
