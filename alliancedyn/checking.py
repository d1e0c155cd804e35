"""What a caller passes, held against the annotations of what is called: the one place for it.

``@checked`` on a function or a dataclass refuses unknown, missing and superfluous arguments and
values of another type than annotated, by one `SpecificationError` that names the option, the value
and what is allowed. Annotations are read at the first call, so that importing costs nothing.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from types import FunctionType
from typing import Any, TypeVar

from alliancedyn.allowed import Rule, frame_like, rule_of, shown
from alliancedyn.errors import SpecificationError, nearest

_PACKAGE = __name__.partition(".")[0]
Subject = TypeVar("Subject", bound=Callable[..., Any])
Kind = TypeVar("Kind", bound=type)


def checked(subject: Subject) -> Subject:
    """Check whatever is passed to a function, a method or the constructor of a dataclass."""
    if isinstance(subject, type):
        subject.__init__ = _guarded(subject.__init__, subject)  # type: ignore[misc]
        return subject
    return _guarded(subject, None)


def methods_checked(kind: Kind) -> Kind:
    """Check whatever is passed to the public methods of a class, with `checked`."""
    for name, method in list(vars(kind).items()):
        if name.startswith("_"):
            continue
        done = hasattr(getattr(method, "__func__", method), "__wrapped__")
        if isinstance(method, FunctionType) and not done:
            setattr(kind, name, checked(method))
        elif isinstance(method, classmethod) and not done:
            setattr(kind, name, classmethod(checked(method.__func__)))
    return kind


def named(subject: Subject) -> Subject:
    """Check names and number of what is passed to a result's constructor, not the values.

    What the package computes may be NaN, and is made too often to look at each number.
    """
    if isinstance(subject, type):
        subject.__init__ = _guarded(subject.__init__, subject, values=False)  # type: ignore[misc]
        return subject
    return _guarded(subject, None, values=False)


def _guarded(call: Any, owner: type | None, *, values: bool = True) -> Any:
    read: list[_Call] = []

    @functools.wraps(call)
    def guarded(*args: Any, **options: Any) -> Any:
        if not read:
            read.append(_Call(call, owner, values))
        changed = read[0].refuse(args, options)
        if changed:
            names = read[0].positional
            args = tuple(changed.pop(n, one) for n, one in zip(names, args, strict=False))
            options = {**options, **changed}
        return call(*args, **options)

    return guarded


class _Call:
    """What a function or a constructor takes."""

    def __init__(self, call: Any, owner: type | None, values: bool) -> None:
        parameters = inspect.signature(call).parameters
        first = next(iter(parameters), "")
        self.bound = first in ("self", "cls")
        self.name = owner.__name__ if owner is not None else str(call.__qualname__)
        self.specifies = owner is not None and hasattr(owner, "fit")
        kinds = inspect.Parameter
        self.positional = [
            name for name, one in parameters.items() if one.kind is not kinds.KEYWORD_ONLY
        ]
        self.names = [name for name in parameters if not (self.bound and name == first)]
        self.required = [name for name in self.names if parameters[name].default is kinds.empty]
        self.defaults = {name: parameters[name].default for name in self.names}
        self.rules: dict[str, Rule] = {}
        if values:
            hints = _hints(call, owner)
            chooses = hasattr(owner, "choices")  # which says more than its annotations
            self.rules = {
                name: rule_of(name, hints[name], self.defaults[name], chooses=not chooses)
                for name in self.names
                if name in hints
            }

    def refuse(self, args: tuple[Any, ...], options: Mapping[str, Any]) -> dict[str, Any]:
        """Raise SpecificationError unless these arguments can be passed; return those to replace.

        Columns and arrays where several names or a table are asked for become tuples and dicts.
        """
        given = dict(zip(self.positional, args, strict=False))
        place = self._place(args)
        if len(args) > len(self.positional):
            self._refuse_first(place, args[int(self.bound) :])
            most = len(self.positional) - self.bound
            raise SpecificationError(
                f"{place} takes at most {most} values without a name, not "
                f"{len(args) - self.bound}; name the others: {_some(self.names)}."
            )
        for name, value in options.items():
            if name not in self.defaults:
                raise SpecificationError(
                    f"{place} has no option {name!r}.{nearest(name, self.names)} "
                    f"It takes {_some(self.names)}."
                )
            if name in given:
                raise SpecificationError(f"{place} was given {name} twice. Give it once.")
            given[name] = value
        if absent := [name for name in self.required if name not in given]:
            raise SpecificationError(f"{place} needs {_some(absent)}.")
        changed = {}
        for name, rule in self.rules.items():
            if name in given and given[name] is not self.defaults[name]:
                value = given[name]
                if not rule.allows(value):
                    self._refuse_first(place, (value,))
                    raise SpecificationError(f"{place}: {rule.refusal(name, value)}")
                if (taken := rule.taken(value)) is not value:
                    changed[name] = taken
        return changed

    def _place(self, args: tuple[Any, ...]) -> str:
        """Return what the reader called; a method of a specification by the name of its class."""
        if self.bound and args and "." in self.name:
            own = args[0] if isinstance(args[0], type) else type(args[0])
            return f"{own.__name__}.{self.name.rpartition('.')[2]}"
        return self.name

    def _refuse_first(self, place: str, values: tuple[Any, ...]) -> None:
        if self.specifies and values and (frame_like(values[0]) or hasattr(values[0], "arrays")):
            raise SpecificationError(
                f"{place} was given {shown(values[0])}. A specification holds no data: say "
                f"{place}().fit(panel), where panel comes from read_sessions or "
                "SessionPanel.from_frame."
            )


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:8])} and others"


def _hints(call: Any, owner: type | None) -> dict[str, Any]:
    """Return annotations as types, read where they were written."""
    if owner is None or not is_dataclass(owner):
        return _evaluated(call.__annotations__, call.__globals__)
    found: dict[str, Any] = {}
    for base in reversed(owner.__mro__):
        module = sys.modules.get(base.__module__)
        found |= _evaluated(inspect.get_annotations(base), vars(module))
    return found


def _evaluated(written: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    names = _Names(known)
    return {
        name: eval(hint, {}, names) if isinstance(hint, str) else hint  # our own source
        for name, hint in written.items()
        if name != "return"
    }


class _Unloaded(type):
    """A type that was imported for annotations only: known by its name."""

    def __getattr__(cls, name: str) -> _Unloaded:
        if name.startswith("_"):
            raise AttributeError(name)
        return _Unloaded(name, (), {})

    def __getitem__(cls, _: Any) -> _Unloaded:
        return cls

    def __instancecheck__(cls, value: Any) -> bool:
        return any(base.__name__ == cls.__name__ for base in type(value).__mro__)


class _Names(dict[str, Any]):
    """The names of a module, and stand-ins for those that are there for type checkers only."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        import builtins
        import collections.abc
        import typing

        super().__init__()
        self._places = (known, vars(builtins), vars(collections.abc), vars(typing))

    def __missing__(self, name: str) -> Any:
        if name == "ArrayLike":  # says everything that can become an array
            return Any
        for place in self._places:
            if name in place:
                return place[name]
        loaded = [vars(one) for key, one in [*sys.modules.items()] if key.startswith(_PACKAGE)]
        meant = {id(place[name]): place[name] for place in loaded if name in place}
        if len(meant) == 1:
            return next(iter(meant.values()))
        return _Unloaded(name, (), {})  # not loaded, or several of that name: known by it only
