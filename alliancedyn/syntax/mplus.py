"""Paths in the words of Mplus."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from alliancedyn.syntax.lavaan import polynomial, wrap
from alliancedyn.syntax.naming import Names
from alliancedyn.syntax.paths import Path, PathModel

WIDTH = 80  # Mplus ignores what stands beyond column 90
MISSING = -999
# Without NOCOVARIANCES whatever predicts nothing would be correlated.
ANALYSIS = ("  ESTIMATOR = ML;", "  INFORMATION = OBSERVED;", "  MODEL = NOCOVARIANCES;")


@dataclass(frozen=True)
class Command:
    """What an input file says beside the model.

    Parameters
    ----------
    title : str
    columns : sequence of str
        Names of the columns of the data file, in order.
    group : str, optional
        Column with the codes 1, 2, ... of the groups.
    groups : sequence of str
        A name for each of these codes.
    """

    title: str
    columns: Sequence[str]
    group: str | None
    groups: Sequence[str]

    def lines(self) -> list[str]:
        """Return the commands before the model."""
        used = [name for name in self.columns if name != self.group]
        lines = ["TITLE:", f"  {self.title};", "DATA:", "  FILE = wide.dat;", "VARIABLE:"]
        lines += _wrapped(f"NAMES = {' '.join(self.columns)};")
        lines += _wrapped(f"USEVARIABLES = {' '.join(used)};")
        lines.append(f"  MISSING = ALL ({MISSING});")
        if self.group is not None:
            codes = " ".join(f"{code} = {name}" for code, name in enumerate(self.groups, start=1))
            lines += _wrapped(f"GROUPING = {self.group} ({codes});")
        return [*lines, "ANALYSIS:", *ANALYSIS]


def body(command: Command, model: PathModel, names: Names, start: Mapping[str, float]) -> str:
    """Write a complete input file.

    Parameters
    ----------
    command : Command
    model : PathModel
    names : Names
    start : mapping
        Starting values by canonical name; Mplus chooses the others.
    """
    lines = [*command.lines(), "MODEL:", *_sections(model, names, start)]
    own = [path for path in model.paths if len(set(path.values)) > 1]
    for number, name in enumerate(command.groups):
        lines += ["", f"MODEL {name}:", *_statements(own, names, start, number)]
    return "\n".join([*lines, *_constraints(model, names)]) + "\n"


def _sections(model: PathModel, names: Names, start: Mapping[str, float]) -> list[str]:
    lines: list[str] = []
    for section in model.sections:
        if section.paths:
            lines += ["", f"  ! {section.title}"]
            lines += _statements(section.paths, names, start, None)
    return lines


def _statements(
    paths: Iterable[Path], names: Names, start: Mapping[str, float], group: int | None
) -> list[str]:
    """Write paths; without a group those that differ between groups stay without a label."""
    lines: list[str] = []
    for _, same in groupby(paths, key=lambda path: (path.kind, path.left, _number(path))):
        chunk = list(same)
        if chunk[0].kind == "loading" and _number(chunk[0]) is not None:
            words = [f"{names.nodes[path.right]}@{_number(path)}" for path in chunk if path.right]
            lines += _wrapped(f"{names.nodes[chunk[0].left]} BY {' '.join(words)};")
        else:
            lines += [f"  {_statement(path, names, start, group)}" for path in chunk]
    return lines


def _number(path: Path) -> str | None:
    """Spell the value at which a path is fixed in every group; None if it is not."""
    first = path.values[0]
    if isinstance(first, str) or len(set(path.values)) > 1:
        return None
    return f"{first:.10g}"


def _statement(path: Path, names: Names, start: Mapping[str, float], group: int | None) -> str:
    left = names.nodes[path.left]
    right = left if path.right is None else names.nodes[path.right]
    value = path.values[group or 0]
    if isinstance(value, str):
        begin = start.get(value)
        tail = "*" if begin is None else f"*{begin:.6g}"
        if begin is None and path.kind != "loading":
            tail = ""
        shared = group is not None or len(set(path.values)) == 1
        label = f" ({names.labels[value]})" if shared else ""
    else:
        tail, label = f"@{value:.10g}", ""
    if path.kind == "loading":
        return f"{left} BY {right}{tail}{label};"
    if path.kind == "regression":
        return f"{left} ON {right}{tail}{label};"
    if path.kind == "mean":
        return f"[{left}{tail}]{label};"
    if path.left == path.right:
        return f"{left}{tail}{label};"
    return f"{left} WITH {right}{tail}{label};"


def _constraints(model: PathModel, names: Names) -> list[str]:
    if not model.equations:
        return []
    lines = ["", "MODEL CONSTRAINT:"]
    new = [names.labels[e.name] for e in model.equations if e.defines]
    if new:
        lines += _wrapped(f"NEW({' '.join(new)});")
    for equation in model.equations:
        text = f"{names.labels[equation.name]} = {polynomial(equation, names)};"
        lines += ["  " + line for line in wrap(text, " ", "    ")]
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
    )
