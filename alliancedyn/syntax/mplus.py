"""Paths in the words of Mplus.

Whatever Mplus would free by itself is written down: covariances are off (NOCOVARIANCES), and every
mean and variance that is on no path is fixed at zero.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from alliancedyn.syntax.lavaan import polynomial, wrap
from alliancedyn.syntax.naming import Names
from alliancedyn.syntax.paths import Node, Path, PathModel, Section

WIDTH = 80  # Mplus ignores what stands beyond column 90
MISSING = -999
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
    lines = [*command.lines(), "MODEL:"]
    for section in (*model.sections, _nothing(model)):
        if section.paths:
            lines += ["", f"  ! {section.title}", *_statements(section.paths, names, start)]
    own = [path for path in model.paths if len(set(path.values)) > 1]
    for number, name in enumerate(command.groups if own else ()):
        lines += ["", f"MODEL {name}:", *_statements(own, names, start, number)]
    return "\n".join([*lines, *_constraints(model, names)]) + "\n"


def _nothing(model: PathModel) -> Section:
    """Fix at zero the means and variances that are on no path, which Mplus might free."""
    said = {(path.kind, path.left) for path in model.paths if path.right in (None, path.left)}
    groups = len(next(model.paths).values)
    zero = (0.0,) * groups

    def silent(kind: str) -> list[Node]:
        return [n for n in model.nodes if (kind, n) not in said and n.role not in EXOGENOUS]

    means = [Path("mean", node, None, zero) for node in silent("mean")]
    variances = [Path("covariance", node, node, zero) for node in silent("covariance")]
    return Section("Nothing else varies or has a mean", (*means, *variances))


EXOGENOUS = ("covariate", "input")


def _statements(
    paths: Iterable[Path], names: Names, start: Mapping[str, float], group: int | None = None
) -> list[str]:
    """Write paths; without a group those that differ between groups stay without a label."""
    lines: list[str] = []
    for (kind, left, fixed), same in groupby(paths, key=_bundle):
        chunk = list(same)
        if not fixed:
            lines += [f"  {_free(path, names, start, group)}" for path in chunk]
            continue
        words = [f"{names.nodes[path.right or path.left]}@{path.values[0]:.10g}" for path in chunk]
        if kind == "loading" and left is not None:
            lines += _wrapped(f"{names.nodes[left]} BY {' '.join(words)};")
        elif kind == "regression" and left is not None:
            lines += _wrapped(f"{names.nodes[left]} ON {' '.join(words)};")
        else:
            begin, end = ("[", "]") if kind == "mean" else ("", "")
            lines += _wrapped(f"{begin}{' '.join(words)}{end};")
    return lines


def _bundle(path: Path) -> tuple[str, Node | None, bool]:
    """Say which paths make one statement: fixed ones of one kind, and of one left side."""
    fixed = not isinstance(path.values[0], str) and len(set(path.values)) == 1
    listed = fixed and path.right in (None, path.left)
    return path.kind, None if listed else path.left, fixed


def _free(path: Path, names: Names, start: Mapping[str, float], group: int | None) -> str:
    left = names.nodes[path.left]
    right = left if path.right is None else names.nodes[path.right]
    value = path.values[group or 0]
    if isinstance(value, str):
        begin = start.get(value)
        if path.kind == "loading" and begin is None:
            begin = 1.0  # without a start Mplus fixes the first loading
        tail = "" if begin is None else f"*{begin:.6g}"
        shared = group is not None or len(set(path.values)) == 1
        label = f" ({names.labels[value]})" if shared else ""
    else:
        tail, label = f"@{value:.10g}", ""
    if path.kind == "mean":
        return f"[{left}{tail}]{label};"
    if path.left == path.right:
        return f"{left}{tail}{label};"
    verb = {"loading": "BY", "regression": "ON", "covariance": "WITH"}[path.kind]
    return f"{left} {verb} {right}{tail}{label};"


def _constraints(model: PathModel, names: Names) -> list[str]:
    if not model.equations:
        return []
    lines = ["", "MODEL CONSTRAINT:"]
    if new := [names.labels[e.name] for e in model.equations if e.defines]:
        lines += _wrapped(f"NEW({' '.join(new)});")
    for equation in model.equations:
        text = f"{names.labels[equation.name]} = {polynomial(equation, names)};"
        lines += ["  " + line for line in wrap(text, " ", "    ", WIDTH)]
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
    )
