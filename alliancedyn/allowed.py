"""What an annotation allows, as a test and in words."""

from __future__ import annotations

import math
import os
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, Protocol

import numpy as np

from alliancedyn.errors import nearest

# Whole numbers that mean the same wherever they are asked for: least, and most that can be meant.
# What lies beyond does not end, or does not fit into memory.
WHOLE = {
    "seed": (0, 2**128),
    "draws": (1, 1_000_000),
    "tune": (0, 1_000_000),
    "chains": (1, 1_000),
    "resamples": (1, 1_000_000),
    "replications": (1, 10_000_000),
    "ranks": (1, 100_000),
    "points": (1, 100_000),
    "starts": (1, 10_000),
    "clients": (1, 1_000_000),
    "sessions": (None, 100_000),
    "horizon": (1, 10_000),
    "each": (0, 1_000_000),
    "columns": (1, 100),
}
SHARES = ("level", "power")  # floats strictly between 0 and 1, where that is their default
NOT_NEGATIVE = ("smallest_effect",)
WORDS = {
    "errors": "'observed', 'robust' or 'cluster:therapist'",
    "bounds": "the lowest and the highest possible score by name, finite numbers or None where "
    'there is no such end, such as {"alliance": (1, 7)} or {"symptoms": (None, 7)}',
}
PROSE = ("message", "text", "headline", "reason", "notes", "note", "title")
LONGEST_NAME = 1_000  # characters of a name or a path
OR_ONE = "or one of them, not in a list"  # Annotated[Sequence[Event], OR_ONE]
LONGEST = 60  # characters of a value that a message shows

Test = Callable[[Any], bool]


@dataclass(frozen=True)
class Rule:
    """What one option allows.

    Parameters
    ----------
    allows : callable
        Whether a value is of the right kind.
    words : str
        The same for a reader.
    choices : tuple of str
        Texts that can be chosen, for a suggestion.
    container : {tuple, dict}, optional
        What a column, an array or a set of values is turned into: it compares and hashes badly.
    """

    allows: Test
    words: str
    choices: tuple[str, ...] = ()
    container: type | None = None

    def taken(self, value: Any) -> Any:
        """Return a value that is allowed as what is called can bear it."""
        if self.container is tuple and not isinstance(value, list | tuple) and _is_several(value):
            return tuple(value)
        return dict(value) if self.container is dict and _series(value) else value

    def refusal(self, name: str, value: Any) -> str:
        """Say what is wrong and what to do."""
        verb = "choose" if self.words[:1] in "'T" else "give"
        advice = _advice(value, self.words)
        close = nearest(value, self.choices) if isinstance(value, str) else ""
        return f"{name} is {shown(value)}; {verb} {self.words}.{close}{advice}"


def rule_of(name: str, hint: Any, default: Any, *, chooses: bool = True) -> Rule:
    """Return the rule of an annotation; the name says what its numbers can be.

    Without ``chooses`` a text or number passes where one is to be chosen: its class knows which.
    """
    parts = [_part(name, one, default) for one in _alternatives(hint)]
    if not chooses and any(typing.get_origin(one) is Literal for one in _alternatives(hint)):
        parts.append((_word, ""))
    tests = [test for test, _ in parts]
    words = " or ".join(dict.fromkeys(word for _, word in parts if word))
    chosen = [
        value
        for one in _alternatives(hint)
        if typing.get_origin(one) is Literal
        for value in typing.get_args(one)
        if isinstance(value, str)
    ]
    words = WORDS.get(name, words)
    origins = [typing.get_origin(one) for one in _alternatives(hint)]
    container = next((kind for kind in map(_container, origins) if kind is not None), None)
    one_test = tests[0] if len(tests) == 1 else lambda value: any(test(value) for test in tests)
    return Rule(one_test, words, tuple(chosen), container)


def _container(origin: Any) -> type | None:
    if not isinstance(origin, type) or not issubclass(origin, Collection):
        return None
    if issubclass(origin, Mapping):
        return dict
    return None if issubclass(origin, np.ndarray | set) else tuple


def _alternatives(hint: Any) -> list[Any]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [inner for one in typing.get_args(hint) for inner in _alternatives(one)]
    if typing.get_origin(hint) is typing.Annotated:
        several, *said = typing.get_args(hint)
        return [several, *(typing.get_args(several)[:1] if OR_ONE in said else ())]
    return [hint]


def _part(name: str, hint: Any, default: Any) -> tuple[Test, str]:
    """Return the test of one alternative, and its words."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if hint is None or hint is type(None):
        return (lambda value: value is None), "None"
    if hint is int:
        return _whole(name)
    if hint is float:
        return _number(name, default)
    if hint is str:
        most = 10**6 if name in PROSE else LONGEST_NAME
        if default == "":
            return (lambda value: isinstance(value, str) and len(value) <= most), "a text"
        return (lambda value: _text(value) and len(value) <= most), "a text"
    if hint is bool:
        return (lambda value: isinstance(value, bool | np.bool_)), "True or False"
    if origin is Literal:
        return (lambda value: _chosen(value, inside)), " or ".join(map(repr, inside))
    if origin is np.ndarray or _rows(hint):
        return numeric, "numbers, as an array or nested lists"
    if origin is tuple and inside[-1:] != (Ellipsis,):
        return _fixed(name, inside)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _table(inside)
    if isinstance(origin, type) and issubclass(origin, Collection):
        return _several(name, inside[0])
    if origin is Callable or getattr(origin, "__name__", "") == "Callable":
        return callable, "a function"
    kind = origin or hint
    if kind is os.PathLike:
        return (lambda value: isinstance(value, os.PathLike)), "a path"
    if kind is Any or not isinstance(kind, type) or kind is object:
        return (lambda value: True), "another value"
    if getattr(kind, "_is_protocol", False):
        return _like(kind)
    return (lambda value: isinstance(value, kind)), _kind_words(kind)


def _word(value: Any) -> bool:
    if isinstance(value, str):
        return _text(value) and len(value) <= LONGEST_NAME
    return isinstance(value, Integral) and not isinstance(value, bool | np.bool_)


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value


def _whole(name: str) -> tuple[Test, str]:
    least, most = WHOLE.get(name, (None, None))
    low, high = (-(2**63) if least is None else least), (2**63 - 1 if most is None else most)
    words = "a whole number"
    if least is not None:
        words += f" from {least} up"
    if most is not None and most < 2**63:
        words += f" (at most {most:,})"

    def allows(value: Any) -> bool:
        whole = isinstance(value, Integral) and not isinstance(value, bool | np.bool_)
        return whole and low <= value <= high

    return allows, words


def _rows(hint: Any) -> bool:
    """Tell whether a hint is a table of numbers: any number of tuples of any number of floats."""
    outer, inner = typing.get_args(hint), typing.get_args((typing.get_args(hint) or (None,))[0])
    return outer[1:] == (Ellipsis,) and inner == (float, Ellipsis)


def _number(name: str, default: Any) -> tuple[Test, str]:
    def finite(value: Any) -> bool:
        if not isinstance(value, Real) or isinstance(value, bool | np.bool_):
            return False
        try:
            return math.isfinite(float(value))
        except OverflowError:
            return False

    if name in SHARES and isinstance(default, float) and 0.0 < default < 1.0:
        return (lambda value: finite(value) and 0.0 < value < 1.0), "a number between 0 and 1"
    if name in NOT_NEGATIVE:
        return (lambda value: finite(value) and value >= 0.0), "a number from 0 up"
    return finite, "a finite number"


def _chosen(value: Any, among: tuple[Any, ...]) -> bool:
    if isinstance(value, bool | np.bool_):
        return any(value is one for one in among)
    return isinstance(value, str | Integral) and any(value == one for one in among)


def numeric(value: Any, *, flags: bool = False) -> bool:
    """Tell whether a value is numbers, alone or in lists, arrays or frames; also ``flags``."""
    if value is None or isinstance(value, str | bytes | Mapping | set | bool):
        return False
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return False
    return array.dtype.kind in ("biuf" if flags else "iuf")


def _fixed(name: str, inside: tuple[Any, ...]) -> tuple[Test, str]:
    rules = [rule_of(name, one, None) for one in inside]

    def allows(value: Any) -> bool:
        if not _is_several(value) or len(value) != len(rules):
            return False
        return all(rule.allows(one) for rule, one in zip(rules, value, strict=True))

    if name == "sessions" and len(rules) == 2:
        return allows, "the numbers of the first and the last session, such as (1, 8)"
    words = {rule.words for rule in rules}
    said = f"each {rules[0].words}" if len(words) == 1 else " and ".join(r.words for r in rules)
    return allows, f"{len(rules)} values, in a tuple, {said}"


def _several(name: str, inside: Any) -> tuple[Test, str]:
    rule = rule_of(name, inside, None)
    words = {"a text": "texts that are not empty", "a finite number": "numbers"}.get(
        rule.words, f"each {rule.words}"
    )
    return (
        lambda value: _is_several(value) and all(rule.allows(one) for one in value),
        f"several, as a tuple ({words})",
    )


def _is_several(value: Any) -> bool:
    if isinstance(value, str | bytes | Mapping) or frame_like(value):
        return False
    if isinstance(value, np.ndarray):
        return value.ndim == 1
    return isinstance(value, Iterable) and hasattr(value, "__len__")


def _table(inside: tuple[Any, ...]) -> tuple[Test, str]:
    keys, values = (rule_of("", one, "") for one in inside)

    def allows(value: Any) -> bool:
        if not (isinstance(value, Mapping) or _series(value)):
            return False
        return all(keys.allows(key) and values.allows(one) for key, one in value.items())

    return allows, f"a dict (name to {values.words})"


def _like(kind: type) -> tuple[Test, str]:
    asked = {
        name
        for base in kind.__mro__
        if base not in (object, Protocol, typing.Generic)
        for name in vars(base)
        if name == "__call__" or not name.startswith("_")
    }
    if "__call__" in asked:
        return callable, "a function"
    words = {"Panel": "a SessionPanel", "Fittable": "a model such as RICLPM()"}
    said = words.get(kind.__name__, f"a {kind.__name__}")
    return (
        lambda value: not isinstance(value, type) and all(hasattr(value, one) for one in asked)
    ), said


def _kind_words(kind: type) -> str:
    name = kind.__name__
    if name in ("Path", "PurePath"):
        return "a path"
    if name == "Specification":
        return "a model such as RICLPM()"
    article = "an" if name[:1] in "AEIO" else "a"
    return f"{article} {name}"


def frame_like(value: Any) -> bool:
    """Tell whether a value is a data frame, of whatever library."""
    return not isinstance(value, type) and hasattr(value, "columns") and hasattr(value, "shape")


def _series(value: Any) -> bool:
    return hasattr(value, "items") and hasattr(value, "index") and not frame_like(value)


def shown(value: Any) -> str:
    """Return a value as a message can bear it: short, and without the data of anybody."""
    kind = type(value).__name__
    if isinstance(value, type):
        return f"the class {value.__name__}"
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape != ():
        return f"a {kind} of {' x '.join(map(str, shape))}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**20:
        return f"a number of {value.bit_length() * 0.30103:.0f} digits"
    if value is None or isinstance(value, bool | int | float | complex | str | np.generic):
        text = repr(value.item() if isinstance(value, np.generic) else value)
    elif isinstance(value, Mapping) and len(value) <= 6:
        text = f"{{{', '.join(f'{shown(key)}: {shown(one)}' for key, one in value.items())}}}"
    elif isinstance(value, list | tuple):
        inside = ", ".join(shown(one) for one in value[:6])
        last = "," if len(value) == 1 else ""
        text = f"[{inside}]" if isinstance(value, list) else f"({inside}{last})"
        text = text if len(value) <= 6 else f"a {kind} of {len(value)}"
    else:
        return f"{'an' if kind[:1] in 'AEIO' else 'a'} {kind}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _advice(value: Any, words: str) -> str:
    """Return what to do about values that are often passed in another's place."""
    if isinstance(value, type) and ("model such as" in words or value.__name__ in words):
        return f" Call it: {value.__name__}()."
    if "SessionPanel" in words and frame_like(value):
        return (
            " Make a panel of the frame: SessionPanel.from_frame(frame, client=..., session=..., "
            "variables=...)."
        )
    if "Fit" in words.split() and hasattr(value, "fit"):
        return " Fit it first: model.fit(panel)."
    if (
        "Fit" not in words
        and "number" in words
        and isinstance(value, str)
        and re.search(r"\d", value)
    ):
        return " Write it without quotes."
    return ""
