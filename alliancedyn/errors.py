"""What can go wrong, by name: every error carries the exit code that the command line returns.

A message says what is wrong (at most three values, then a count) and what to do about it.
It holds no client data beyond the identifier.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_OPEN, _COUNT, _CLOSE = "\x02", "\x1f", "\x03"  # around identifiers, while a message is written
_withholding: ContextVar[bool] = ContextVar("_withholding", default=False)
_MARKED = re.compile(f"{_OPEN}([0-9]+){_COUNT}([^{_CLOSE}]*){_CLOSE}")


class Message(str):
    """A sentence that knows which of its parts name clients or other people.

    Attributes
    ----------
    identifiers : tuple of (int, int, int)
        Where such a part begins and ends, and how many it stands for.
    """

    identifiers: tuple[tuple[int, int, int], ...]

    def __new__(cls, text: object = "") -> Message:
        """Take the marks of `identified` out of a text and remember where they were."""
        if isinstance(text, Message):
            return text
        plain, places = "", []
        pieces = _MARKED.split(str(text))
        for before, count, named in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=False):
            plain += before
            places.append((len(plain), len(plain) + len(named), int(count)))
            plain += named
        message = super().__new__(cls, plain + pieces[-1])
        message.identifiers = tuple(places)
        return message

    def __str__(self) -> str:
        return self

    def __radd__(self, before: str) -> Message:
        message = super().__new__(type(self), before + "".join(self))
        shift = len(before)
        message.identifiers = tuple((a + shift, b + shift, n) for a, b, n in self.identifiers)
        return message

    def withheld(self) -> str:
        """Return the sentence with identifiers replaced by their number."""
        text = "".join(self)
        for start, end, count in reversed(self.identifiers):
            text = f"{text[:start]}[{count:,} not named here]{text[end:]}"
        return text


class AllianceDynError(Exception):
    """Root of every error that alliancedyn raises on purpose."""

    exit_code = 1

    def __init__(self, message: object = "") -> None:
        super().__init__(Message(message))


class DataError(AllianceDynError, ValueError):
    """The data cannot be used as they are; the message names the rows and the remedy."""

    exit_code = 3


class SpecificationError(AllianceDynError, ValueError):
    """The model asked for cannot be fitted to these data, or its options contradict each other."""

    exit_code = 4


class ConvergenceError(AllianceDynError, RuntimeError):
    """The likelihood was not maximised; ``fit`` holds the unconverged result for inspection."""

    exit_code = 5

    def __init__(self, message: str = "", fit: Any = None) -> None:
        super().__init__(message)
        self.fit = fit


class DataWarning(UserWarning):
    """Something in the data that a reader of the results should know."""

    def __init__(self, message: object = "") -> None:
        super().__init__(Message(message))


class InferenceWarning(UserWarning):
    """Something in the inference that a reader of the results should know."""

    def __init__(self, message: object = "") -> None:
        super().__init__(Message(message))


def people(clients: int, persons: int | None = None) -> str:
    """Count the clients, or the persons and their episodes where some have several.

    Parameters
    ----------
    clients : int
        Series of sessions: one per client, or per episode of a client.
    persons : int, optional
        People behind them; as many as clients if None.
    """
    if persons is not None and persons < clients:
        return f"{persons:,} person{'s' * (persons != 1)} with {clients:,} episodes"
    return f"{clients:,} client{'s' * (clients != 1)}"


@contextmanager
def withholding(asked: bool = True) -> Iterator[None]:
    """Let messages that are written inside count people instead of naming them, if asked to."""
    token = _withholding.set(asked)
    try:
        yield
    finally:
        _withholding.reset(token)


def identified(values: Any, shown: int = 3) -> str:
    """Name people as `listed` does, marked: whatever prints the message can leave them out."""
    values = list(values)
    if _withholding.get():
        return f"[{len(values):,} not named here]"
    return f"{_OPEN}{len(values)}{_COUNT}{listed(values, shown)}{_CLOSE}"


def listed(values: Any, shown: int = 3) -> str:
    """Name at most ``shown`` of ``values`` and count the rest: ``'C03', 'C11' and 7 more``."""
    values = list(values)
    named = ", ".join(repr(str(value)) for value in values[:shown])
    rest = len(values) - shown
    return f"{named} and {rest} more" if rest > 0 else named


def at_sessions(numbers: Iterable[int], shown: int = 8) -> str:
    """Name sessions by number: ``session 1`` or ``sessions 1, 4, 7 and 10``."""
    found = [str(number) for number in numbers]
    if len(found) > shown:
        return f"sessions {', '.join(found[:shown])} and {len(found) - shown} more"
    if len(found) == 1:
        return f"session {found[0]}"
    return f"sessions {', '.join(found[:-1])} and {found[-1]}"


def nearest(given: Any, known: Iterable[str], shown: int = 1) -> str:
    """Return `` Did you mean 'means'?`` where a name is close to what was given, else nothing."""
    from difflib import get_close_matches  # not needed unless something is wrong

    def folded(text: str) -> str:
        return text.casefold().replace("_", "").replace("-", "").replace(" ", "")

    names: dict[str, str] = {}
    for name in known:
        names.setdefault(folded(str(name)), str(name))
    found = get_close_matches(folded(str(given)[:200]), list(names), shown, 0.6)
    return f" Did you mean {' or '.join(repr(names[one]) for one in found)}?" if found else ""
