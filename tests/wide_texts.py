"""Readers of lavaan and Mplus texts: what a text says, as a likelihood of wide data.

They know the grammar and nothing of the program that wrote it. A text becomes paths between named
nodes; paths become matrices (A: effects, S: covariances, m: intercepts; McArdle & McDonald, 1984)::

    mean = (I - A)^-1 m,   cov = (I - A)^-1 S (I - A)^-T

and covariates are nodes without variance whose intercept is the client's own value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
Coefficient = str | float
Key = tuple[str, str, str]  # kind, left, right

_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?$")


@dataclass
class Reading:
    """What a text says of one group.

    ``paths`` maps ("effect", outcome, predictor), ("covariance", a, b) or ("mean", a, "") to a
    label or a number; ``equations`` are (left, operator, right).
    """

    paths: dict[Key, Coefficient] = field(default_factory=dict)
    equations: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, kind: str, left: str, right: str, value: Coefficient) -> None:
        a, b = sorted((left, right)) if kind == "covariance" else (left, right)
        assert (kind, a, b) not in self.paths, f"said twice: {kind} {a} {b}"
        self.paths[kind, a, b] = value

    @property
    def labels(self) -> set[str]:
        """Labels of parameters that are on a path."""
        return {value for value in self.paths.values() if isinstance(value, str)}

    @property
    def nodes(self) -> list[str]:
        return sorted({name for _, a, b in self.paths for name in (a, b) if name})

    def values(self, known: Mapping[str, float]) -> dict[str, float]:
        """Complete labels by the equations, each with at most one unknown, and check them."""
        values = dict(known)
        for left, _, right in self.equations:
            unknown = {word for word in _words(f"{left} {right}") if word not in values}
            assert len(unknown) < 2, unknown
            for name in unknown:
                at = [_gap(left, right, {**values, name: x}) for x in (0.0, 1.0)]
                values[name] = -at[0] / (at[1] - at[0])
            gap = _gap(left, right, values)
            assert abs(gap) < 1e-8 * max(1.0, abs(values.get(left, 1.0))), (left, right, gap)
        return values

    def loglik(self, wide: pd.DataFrame, known: Mapping[str, float]) -> float:
        """Return the log-likelihood of the scores given the covariates; ``wide`` NaN = missing."""
        values = self.values(known)
        nodes = self.nodes
        at = {name: i for i, name in enumerate(nodes)}
        A, S = np.zeros((2, len(nodes), len(nodes)))
        m = np.zeros(len(nodes))
        for (kind, a, b), value in self.paths.items():
            number = values[value] if isinstance(value, str) else value
            if kind == "effect":
                A[at[a], at[b]] += number
            elif kind == "mean":
                m[at[a]] = number
            else:
                S[at[a], at[b]] = S[at[b], at[a]] = number
        total = np.linalg.inv(np.eye(len(nodes)) - A)
        caused = {a for kind, a, _ in self.paths if kind == "effect"}
        given = [n for n in nodes if n in wide and n not in caused and not S[at[n]].any()]
        scores = [n for n in nodes if n in wide and n not in given]
        rows = [at[n] for n in scores]
        x = wide[given].to_numpy(float)
        mean = (m @ total.T)[rows] + x @ total[np.ix_(rows, [at[n] for n in given])].T
        cov = (total @ S @ total.T)[np.ix_(rows, rows)]
        return _normal(wide[scores].to_numpy(float) - mean, cov)


def _normal(error: Array, cov: Array) -> float:
    """Sum the normal log-densities of rows with missing entries, pattern by pattern."""
    patterns, which = np.unique(~np.isnan(error), axis=0, return_inverse=True)
    value = 0.0
    for i, seen in enumerate(patterns):
        own = error[which.ravel() == i][:, seen]
        L = np.linalg.cholesky(cov[np.ix_(seen, seen)])
        z = np.linalg.solve(L, own.T)
        logdet = 2.0 * np.log(np.diag(L)).sum() + seen.sum() * np.log(2.0 * np.pi)
        value -= 0.5 * (len(own) * logdet + (z**2).sum())
    return value


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z][\w.]*", text)


def _gap(left: str, right: str, values: Mapping[str, float]) -> float:
    """Evaluate left - right, sums of products."""
    total = 0.0
    for sign, side in ((1.0, left), (-1.0, right)):
        for term in re.findall(r"[-+]?[^-+]+", side.replace(" ", "")):
            product = -sign if term[0] == "-" else sign
            for word in term.lstrip("+-").split("*"):
                product *= float(word) if _NUMBER.match(word) else values[word]
            total += product
    return total


def _coefficient(word: str) -> Coefficient:
    return float(word) if _NUMBER.match(word) else word


# -- lavaan ---------------------------------------------------------------------------------------


def read_lavaan(text: str, groups: int = 1) -> list[Reading]:
    """Read a lavaan model, one reading per group."""
    bare = [line.split("#")[0].rstrip() for line in text.splitlines()]
    statements: list[str] = []
    for line in bare:
        if line.startswith(" "):
            statements[-1] += line
        elif line:
            statements.append(line)
    readings = [Reading() for _ in range(groups)]
    for statement in statements:
        left, operator, right = re.match(r"(\S+) (=~|~~|~|==|:=) (.*)$", statement).groups()  # type: ignore[union-attr]
        if operator in ("==", ":="):
            for reading in readings:
                reading.equations.append((left, operator, right))
            continue
        for term in re.split(r" \+\s+", right):
            _lavaan_term(readings, left, operator, term)
    return readings


def _lavaan_term(readings: list[Reading], left: str, operator: str, term: str) -> None:
    bundle, name = term.rsplit("*", 1)
    if bundle.startswith("start("):
        return
    several = re.fullmatch(r"c\((.*)\)", bundle)
    values = several[1].split(", ") if several else [bundle] * len(readings)
    for reading, value in zip(readings, values, strict=True):
        if operator == "=~":
            reading.add("effect", name, left, _coefficient(value))
        elif operator == "~~":
            reading.add("covariance", left, name, _coefficient(value))
        elif name == "1":
            reading.add("mean", left, "", _coefficient(value))
        else:
            reading.add("effect", left, name, _coefficient(value))


# -- Mplus ----------------------------------------------------------------------------------------


def mplus_commands(text: str) -> dict[str, list[str]]:
    """Take an input file apart: command to its statements, without comments."""
    commands: dict[str, str] = {}
    current = ""
    for line in text.splitlines():
        bare = line.split("!")[0].rstrip()
        head = re.fullmatch(r"([A-Z]+(?: \w+)?):", bare)
        if head:
            current = head[1]
            commands[current] = ""
        elif bare:
            commands[current] += f" {bare.strip()}"
    for name, content in commands.items():
        assert content.endswith(";"), f"{name} does not end"
    return {name: [s.strip() for s in c.split(";")[:-1]] for name, c in commands.items()}


def read_mplus(text: str) -> list[Reading]:
    """Read an input file, one reading per group; what a group says replaces what all share."""
    commands = mplus_commands(text)
    shared = Reading()
    for statement in commands["MODEL"]:
        _mplus_statement(shared, statement)
    readings = []
    grouping = " ".join(s for s in commands["VARIABLE"] if s.startswith("GROUPING"))
    for name in re.findall(r"\d+ = (\w+)", grouping) or [""]:
        own = Reading()
        for statement in commands.get(f"MODEL {name}", []):
            _mplus_statement(own, statement)
        assert set(own.paths) <= set(shared.paths)
        both = Reading({**shared.paths, **own.paths})
        for statement in commands.get("MODEL CONSTRAINT", []):
            if not statement.startswith("NEW("):
                left, right = statement.split(" = ")
                both.equations.append((left, "=", " ".join(right.split())))
        readings.append(both)
    return readings


def _mplus_statement(reading: Reading, statement: str) -> None:
    body, _, label = statement.partition("(")
    name = label.rstrip(")") or None
    mean = body.strip().startswith("[")
    words = body.replace("[", " ").replace("]", " ").split()
    if len(words) > 1 and words[1] in ("BY", "ON", "WITH"):
        left, verb, terms = words[0], words[1], words[2:]
    else:
        left, verb, terms = "", "mean" if mean else "variance", words
    assert name is None or len(terms) == 1
    for term in terms:
        node, value = _mplus_term(term, name)
        if verb == "BY":
            reading.add("effect", node, left, value)
        elif verb == "ON":
            reading.add("effect", left, node, value)
        elif verb == "mean":
            reading.add("mean", node, "", value)
        else:
            reading.add("covariance", left or node, node, value)


def _mplus_term(term: str, label: str | None) -> tuple[str, Coefficient]:
    node, fixed, value = term.partition("@")
    if fixed:
        return node, float(value)
    return node.partition("*")[0], label or "free by group"
