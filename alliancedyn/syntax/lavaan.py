"""Paths in the words of lavaan."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from alliancedyn.syntax.naming import Names
from alliancedyn.syntax.paths import Equation, Path, PathModel, Values

WIDTH = 90
OPERATOR = {"loading": "=~", "regression": "~", "covariance": "~~", "mean": "~"}


def body(model: PathModel, names: Names, start: Mapping[str, float]) -> str:
    """Write the model, section by section.

    Parameters
    ----------
    model : PathModel
    names : Names
    start : mapping
        Starting values by canonical name; lavaan chooses the others.
    """
    lines: list[str] = []
    for section in model.sections:
        if section.paths:
            lines += ["", f"# {section.title}"]
            lines += _statements(section.paths, names, start)
    if model.equations:
        lines += ["", "# Parameters that follow from others"]
        lines += [_equation(equation, names) for equation in model.equations]
    return "\n".join(lines) + "\n"


def call(missing: bool, group: str | None, levels: Sequence[str]) -> list[str]:
    """Write the R session that fits the model.

    Nothing beyond the text is free, and errors are from the observed information.
    """
    read = 'wide <- read.csv("wide.csv")'
    if group is not None:  # a group "01" is not a number
        read = f'wide <- read.csv("wide.csv", colClasses = c({group} = "character"))'
    arguments = [f"{key} = {value}" for key, value in _options(missing, group, levels)]
    fit = f"fit <- lavaan({', '.join(['model', 'data = wide', *arguments])})"
    return [
        "library(lavaan)",
        'model <- paste(readLines("model.lav"), collapse = "\\n")',
        read,
        *wrap(fit, ", ", "              "),
        "summary(fit)",
    ]


def _options(missing: bool, group: str | None, levels: Sequence[str]) -> list[tuple[str, str]]:
    chosen = [
        ("meanstructure", "TRUE"),
        ("fixed.x", "TRUE"),
        ("estimator", '"ML"'),
        ("information", '"observed"'),
        ("auto.var", "FALSE"),
        ("auto.cov.lv.x", "FALSE"),
        ("int.ov.free", "FALSE"),
    ]
    if missing:
        chosen.append(("missing", '"fiml"'))
    if group is not None:
        quoted = ", ".join(json.dumps(level, ensure_ascii=False) for level in levels)
        chosen += [("group", f'"{group}"'), ("group.label", f"c({quoted})")]
    return chosen


def wrap(line: str, at: str, indent: str, width: int = WIDTH) -> list[str]:
    """Break a long line after ``at``."""
    lines = [""]
    pieces = line.split(at)
    for number, piece in enumerate(pieces):
        word = piece + (at if number < len(pieces) - 1 else "")
        if lines[-1].strip() and len(lines[-1]) + len(word.rstrip()) > width:
            lines.append(indent)
        lines[-1] += word
    return [line.rstrip() for line in lines]


def _statements(paths: Iterable[Path], names: Names, start: Mapping[str, float]) -> list[str]:
    lines: list[str] = []
    for (kind, left), same in groupby(paths, key=lambda path: (path.kind, path.left)):
        terms = [_term(path, names, start) for path in same]
        begin = f"{names.nodes[left]} {OPERATOR[kind]} "
        if kind in ("loading", "regression"):
            lines += wrap(begin + " + ".join(terms), " + ", "    ")
        else:
            lines += [begin + term for term in terms]
    return lines


def _term(path: Path, names: Names, start: Mapping[str, float]) -> str:
    right = "1" if path.right is None else names.nodes[path.right]
    fixed = path.values[0]
    if not isinstance(fixed, str) and set(path.values) == {fixed}:
        return f"{fixed:.12g}*{right}"
    begins = [start.get(value) if isinstance(value, str) else None for value in path.values]
    guess = ""
    if None not in begins:
        numbers = [f"{begin:.6g}" for begin in begins]
        guess = f"start({_bundle(numbers)})*{right} + "
    return guess + f"{_bundle(_labelled(path.values, names))}*{right}"


def _labelled(values: Values, names: Names) -> list[str]:
    return [names.labels[v] if isinstance(v, str) else f"{v:.12g}" for v in values]


def _bundle(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"c({', '.join(words)})"


def _equation(equation: Equation, names: Names) -> str:
    sign = ":=" if equation.defines else "=="
    begin = f"{names.labels[equation.name]} {sign} "
    return "\n".join(wrap(begin + polynomial(equation, names), " ", "    "))


def polynomial(equation: Equation, names: Names) -> str:
    """Write the right-hand side of an equation."""
    text = ""
    for weight, factors in equation.terms:
        words = [names.labels[name] for name in factors]
        if abs(weight) != 1.0 or not words:
            words = [f"{abs(weight):.12g}", *words]
        sign = ("-" if weight < 0.0 else "") if not text else (" - " if weight < 0.0 else " + ")
        text += sign + "*".join(words)
    return text
