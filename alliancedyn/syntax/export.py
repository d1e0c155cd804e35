"""From a specification and a panel to a text that another program runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from alliancedyn import __version__
from alliancedyn.checking import checked
from alliancedyn.errors import SpecificationError
from alliancedyn.models import Specification
from alliancedyn.models.selection import Needs, Selection, select
from alliancedyn.panel import SessionPanel
from alliancedyn.syntax import lavaan, mplus
from alliancedyn.syntax.families import Draft, build, refuse_inexpressible
from alliancedyn.syntax.naming import Names, name_all
from alliancedyn.syntax.paths import Node, PathModel, Vocabulary
from alliancedyn.syntax.pieces import Frame
from alliancedyn.syntax.sheet import Sheet, idle_inputs, order_columns

Program = Literal["lavaan", "mplus"]
PROGRAMS = ("lavaan", "mplus")
CALLED = {"lavaan": "lavaan", "mplus": "Mplus"}


@dataclass(frozen=True)
class _Text:
    """Everything that is known before a word is written."""

    spec: Specification
    to: str
    model: PathModel
    names: Names
    sheet: Sheet

    @property
    def group(self) -> str | None:
        if self.spec.group is None:
            return None
        return self.names.nodes[Node("group", self.spec.group)]

    @property
    def columns(self) -> list[str]:
        own = [self.names.nodes[node] for node in self.sheet.columns]
        return own if self.group is None else [*own, self.group]


@checked
def export_syntax(
    spec: Specification,
    panel: SessionPanel,
    to: Program = "lavaan",
    *,
    start: Mapping[str, float] | None = None,
) -> str:
    """Write a model as a complete text for lavaan or Mplus.

    The text holds the model and, in comments, the columns of the wide data, the call that fits it
    and the canonical name of every parameter. It defines the same likelihood as ``spec.fit``.

    Parameters
    ----------
    spec : specification
        Such as ``RICLPM(lags="free")``.
    panel : SessionPanel
        Gives the variables, the sessions and whether scores are missing.
    to : {"lavaan", "mplus"}
    start : mapping, optional
        Starting values by canonical name, such as ``fit.params``; by default those of the program.

    Returns
    -------
    str

    Raises
    ------
    SpecificationError
        If the program cannot express the model, or these data cannot carry it.

    See Also
    --------
    wide_data : The table that the text reads.
    labels : Which label stands for which parameter.
    """
    text = _text(spec, panel, to)
    begins = dict(start or {})
    sign, lines = ("#", _lavaan_header(text)) if to == "lavaan" else ("!", _header(text))
    head = "\n".join(f"{sign} {line}".rstrip() for line in lines)
    if to == "lavaan":
        return f"{head}\n{lavaan.body(text.model, text.names, begins)}"
    title = f"{spec.name} of {text.sheet.selection.sample.people}"
    groups = [f"g{code}" for code, _ in enumerate(text.sheet.levels, start=1)]
    command = mplus.Command(title, text.columns, text.group, groups)
    return f"{head}\n{mplus.body(command, text.model, text.names, begins)}"


def labels(spec: Specification, panel: SessionPanel, to: Program = "lavaan") -> dict[str, str]:
    """Return the canonical name that each label of :func:`export_syntax` stands for.

    Parameters
    ----------
    spec, panel, to
        As there.

    Returns
    -------
    dict
        Label to canonical name; every free parameter once, and those that follow from them.

    Raises
    ------
    SpecificationError
        As there.
    """
    known = _text(spec, panel, to).names.labels
    return {label: name for name, label in known.items() if not name.startswith("late[")}


def wide_data(spec: Specification, panel: SessionPanel, to: Program = "lavaan") -> pd.DataFrame:
    """Return the data that the text of :func:`export_syntax` reads.

    :func:`write_syntax` writes it to a file as the program wants it.

    Parameters
    ----------
    spec, panel, to
        As there.

    Returns
    -------
    DataFrame
        One row per client with a score, indexed by client; score points, NaN = missing.

    Raises
    ------
    SpecificationError
        As there.
    """
    text = _text(spec, panel, to)
    return text.sheet.frame(text.names, coded=to == "mplus")


def write_syntax(
    spec: Specification, panel: SessionPanel, folder: str | Path, to: Program = "lavaan"
) -> tuple[Path, Path]:
    """Write the text and its data to a folder: everything that the program needs to run.

    Parameters
    ----------
    spec, panel, to
        As in :func:`export_syntax`.
    folder : str or Path
        Made if it is not there. Files of the same name are replaced.

    Returns
    -------
    (Path, Path)
        ``model.lav`` and ``wide.csv``, or ``model.inp`` and ``wide.dat``. The data hold scores
        and covariates, no identifiers of clients.

    Raises
    ------
    SpecificationError
        As in :func:`export_syntax`.
    """
    text, wide = export_syntax(spec, panel, to), wide_data(spec, panel, to)
    home = Path(folder)
    home.mkdir(parents=True, exist_ok=True)
    if to == "lavaan":
        model, data = home / "model.lav", home / "wide.csv"
        wide.to_csv(data, index=False)
    else:
        model, data = home / "model.inp", home / "wide.dat"
        wide.to_csv(data, sep=" ", header=False, index=False, na_rep=str(mplus.MISSING))
    model.write_text(text, encoding="utf-8")
    return model, data


def _text(spec: Specification, panel: SessionPanel, to: str) -> _Text:
    if to not in PROGRAMS:
        raise SpecificationError(f"to is {to!r}; choose {PROGRAMS[0]!r} or {PROGRAMS[1]!r}.")
    refuse_inexpressible(spec)
    needs = Needs(
        variables=spec.variables,
        indicators=spec.indicators,
        covariates=spec.covariates,
        time_varying=spec.time_varying,
        group=spec.group,
    )
    selection = select(panel, needs, spec.sessions)
    frame = _frame(spec, panel, selection)
    idle = idle_inputs(spec, selection)
    model = build(Draft(spec, frame, idle, constraints=to == "mplus"))
    sheet = Sheet(spec, selection, order_columns(model.nodes, selection))
    nodes = [*sheet.columns, *(node for node in model.nodes if not node.observed)]
    if spec.group is not None:
        nodes.append(Node("group", spec.group))
    return _Text(spec, to, model, name_all(nodes, model.parameters, to), sheet)


def _frame(spec: Specification, panel: SessionPanel, selection: Selection) -> Frame:
    """Ask the specification which parameters it has, and which errors it holds at a value."""
    data = selection.data
    objective = spec.objective(panel)
    names = frozenset(objective.to_params(objective.start))
    system = objective.systems(objective.layout.matrices(objective.start))[0]
    noise = dict(zip(data.variables, system.noise[system.noise_at[0]].tolist(), strict=True))
    fixed = {
        f"measurement_var[{item}]": value
        for item, value in noise.items()
        if value and not any(name.startswith(f"measurement_var[{item}]") for name in names)
    }
    design = spec.design(data)
    items = {
        v: tuple(
            item for item, owner in zip(data.variables, design.series_of, strict=True) if owner == j
        )
        for j, v in enumerate(design.variables)
    }
    return Frame(items, data.sessions, Vocabulary(names, data.groups, fixed))


def _lavaan_header(text: _Text) -> list[str]:
    call = lavaan.call(text.sheet.missing, text.group, text.sheet.levels)
    return _header(text, ["", "In R:", *(f"> {line}" for line in call)])


def _header(text: _Text, how: list[str] | None = None) -> list[str]:
    selection = text.sheet.selection
    sessions = selection.sessions
    scores = "some scores are missing" if text.sheet.missing else "no score is missing"
    lines = [
        f"{text.spec.name}, written by alliancedyn {__version__} for {CALLED[text.to]}",
        *lavaan.wrap(f"{text.spec!r}", ", ", "    ", mplus.WIDTH),
        f"{selection.sample.people}, sessions {sessions[0]} to {sessions[-1]}; {scores}",
        "",
        "Data: one row per client, these columns in this order,",
        "wide.csv with their names, missing scores empty"
        if text.to == "lavaan"
        else f"wide.dat without names, missing scores {mplus.MISSING}",
        *_columns(text),
        *(how or []),
        "",
        "Parameters, label = name",
    ]
    return [*lines, *(f"  {label} = {_meaning(name)}" for name, label in text.names.labels.items())]


def _meaning(name: str) -> str:
    """Say what a label stands for; an effect after a step is a sum of two parameters."""
    if not name.startswith("late["):
        return name
    pair = name.removeprefix("late").partition("@")[0]
    _, bar, group = name.partition("|")
    return f"phi{pair}{bar}{group} + step{name.removeprefix('late')}"


def _columns(text: _Text) -> list[str]:
    """Say what stands in the columns, one line per series."""
    series: dict[tuple[str, str], list[Node]] = {}
    for node in text.sheet.columns:
        series.setdefault((node.role, node.variable), []).append(node)
    lines = []
    for (_, variable), nodes in series.items():
        first, last = text.names.nodes[nodes[0]], text.names.nodes[nodes[-1]]
        span = first if len(nodes) == 1 else f"{first} ... {last}"
        lines.append(f"  {span}: {variable}")
    if text.group is not None:
        codes = ", ".join(
            level if text.to == "lavaan" else f"{code} = {level}"
            for code, level in enumerate(text.sheet.levels, start=1)
        )
        lines.append(f"  {text.group}: {text.spec.group} ({codes})")
    return lines
