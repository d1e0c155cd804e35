"""Names that another program accepts, for scores, factors and parameters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from alliancedyn.engine import names
from alliancedyn.errors import SpecificationError
from alliancedyn.syntax.paths import Node

PREFIX = {
    "score": "",
    "covariate": "",
    "input": "",
    "group": "",
    "factor": "f",
    "within": "w",
    "between": "k",
    "trend": "s",
    "trend2": "s2",
    "change": "d",
    "impulse": "u",
    "true": "e",
    "carried": "c",
    "added": "g",
    "taken": "h",
}
MPLUS_WIDTH = 8
RESERVED = {
    "lavaan": {"if", "else", "for", "while", "repeat", "function", "next", "break", "in", "na"}
    | {"true", "false", "null", "inf", "nan", "c", "t", "start", "equal", "label"},
    "mplus": {"on", "by", "with", "at", "all", "pon", "pwith", "xwith", "new", "do", "if", "model"}
    | {"missing", "blank", "gamma", "beta", "alpha", "tau", "nu", "theta", "psi", "lambda"},
}
# Four letters and a running number: Mplus reads eight characters.
SHORT = {
    "phi": "phi",
    "phi2": "phib",
    "step": "step",
    "input": "inp",
    "innovation_cov": "inn",
    "initial_cov": "ini",
    "initial_between_cov": "inib",
    "between_cov": "bcov",
    "between": "betw",
    "mean": "mean",
    "intercept": "icpt",
    "trend": "tren",
    "trend2": "trnb",
    "basis": "bas",
    "loading": "load",
    "unit_loading": "unit",
    "measurement_var": "meas",
    "coupling": "coup",
    "self": "self",
    "ma": "ma",
    "late": "late",
}


@dataclass(frozen=True)
class Names:
    """What nodes and parameters are called in a text.

    Parameters
    ----------
    nodes : dict
        Node to name.
    labels : dict
        Canonical parameter name to label.
    """

    nodes: dict[Node, str]
    labels: dict[str, str]


def name_all(nodes: Iterable[Node], parameters: Sequence[str], to: str) -> Names:
    """Give every node and parameter a name that the program accepts, none twice.

    Raises
    ------
    SpecificationError
        If so many names share their first letters that eight characters do not tell them apart.
    """
    width = MPLUS_WIDTH if to == "mplus" else 255
    taken = set(RESERVED[to])
    families: dict[tuple[str, str], list[Node]] = {}
    for node in sorted(nodes, key=lambda node: not node.observed):  # the data keep their names
        families.setdefault((node.role, node.variable), []).append(node)
    named = {
        node: name
        for family in families.values()
        for node, name in zip(family, _series(family, taken, width), strict=True)
    }
    return Names(named, _short(parameters) if to == "mplus" else _spelled(parameters))


def _series(family: Sequence[Node], taken: set[str], width: int) -> list[str]:
    """Name one variable at all its sessions, with one stem."""
    role, variable = family[0].role, family[0].variable
    between = "" if width == MPLUS_WIDTH else "_"
    prefix = PREFIX[role] + (between if PREFIX[role] else "")
    ends = ["" if n.session is None else "_" + _number(n.session) for n in family]
    room = width - len(prefix) - max(len(end) for end in ends)
    word = plain(variable)
    stem = word.rstrip("0123456789")  # what numbers it stays when it must be cut
    number = word[len(stem) :]
    for attempt in range(1, 1000):
        tail = number if attempt == 1 else f"{number}{attempt}"
        if len(tail) >= room:
            break
        found = [prefix + stem[: room - len(tail)].rstrip("_") + tail + end for end in ends]
        if not taken & {name.lower() for name in found}:
            taken.update(name.lower() for name in found)
            return found
    raise SpecificationError(
        f"No name of {width} characters is left for {variable!r}. Give the variables shorter names."
    )


def plain(name: str) -> str:
    """Reduce a name to unaccented letters, digits and underscores, a letter first."""
    ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    word = re.sub(r"[^A-Za-z0-9]+", "_", ascii_only).strip("_")
    return word if word[:1].isalpha() else f"v{word}"


def _number(session: int) -> str:
    return str(session) if session >= 0 else f"m{-session}"


def _spelled(parameters: Sequence[str]) -> dict[str, str]:
    """Spell labels out: ``phi[symptoms,alliance]@3|arm=1`` is phi_symptoms.alliance_at3_arm.1."""
    labels: dict[str, str] = {}
    taken: set[str] = set()
    for name in parameters:
        family, indices, session = names.parse(name)
        group = names.group_of(name)
        word = family
        if indices:
            word += "_" + ".".join(
                ".".join(plain(part) for part in index.split(".")) for index in indices
            )
        if session is not None:
            word += f"_at{_number(session)}"
        if group is not None:
            word += "_" + ".".join(re.findall(r"\w+", group, re.ASCII))
        label, again = word, 1
        while label in taken:
            again += 1
            label = f"{word}.{again}"
        taken.add(label)
        labels[name] = label
    return labels


def _short(parameters: Sequence[str]) -> dict[str, str]:
    """Give each parameter the short word of its family and a number."""
    labels: dict[str, str] = {}
    counts: dict[str, int] = {}
    for name in parameters:
        word = SHORT[names.parse(name)[0]]
        counts[word] = counts.get(word, 0) + 1
        labels[name] = f"{word}{counts[word]}"
    return labels
