"""Messages that were written for Python, said as a command line, a mapping or a study takes them.

The library names options as its functions take them: ``sessions=(2, 6)``, ``order="date"``. Who
types a command has ``--sessions 2-6`` and ``order = "date"`` in a file. What prints asks here, so
that no message has to know who reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_command: ContextVar[str] = ContextVar("_command", default="")

_TYPED = ("families", "errors", "seed", "jobs", "cluster", "overwrite")
_EITHER = ("covariates", "group")  # of the mapping where reading is spoken of, else typed
_ELSEWHERE = {
    "simulate": "in the world",
    "recover": "in the configuration",
    "power": "in the configuration",
}
_MODELS = (
    ("RICLPM", 'means="equal"', "ri-clpm-equal-means"),
    ("CLPM", 'means="equal"', "clpm-equal-means"),
    ("RICLPM", "", "ri-clpm"),
    ("LCMSR", "", "lcm-sr"),
    ("DynamicPanelGMM", "", "gmm"),
    ("FixedEffects", "", "fixed-effects"),
    ("WithinBetween", "", "within-between"),
    ("ContinuousTime", 'time="session", trend="linear"', "ct-session-straight-means"),
    ("ContinuousTime", 'time="session"', "ct-session"),
    ("ContinuousTime", "", "ct-days"),
)
_VALUE = (
    r""""[^"]*"|'[^']*'|\[[^\[\]]*\]|\((?:[^()]|\([^()]*\))*\)|\{(?:[^{}]|\{[^{}]*\})*\}"""
    r"|[-+]?\w[\w-]*(?:\.\w+)*"
)
_OPTION = rf"(?<![\w.@|'\"-])([a-z][a-z_0-9]+)=(?![=\s])({_VALUE})?|(?<![\w.@|'\"-])([a-z_]{{3,}})="
_CALL = r"\b[A-Za-z_][\w.]*\((?:[^()=]|\([^()]*\))*=(?:[^()]|\([^()]*\))*\)"
_QUOTED = r"(?<!\w)(?<!=)'[^'\n]*'(?!\w)"  # a name, a value or a path: never ours to change
_PARTS = re.compile(rf"{_OPTION}|(?P<call>{_CALL})|(?P<quoted>{_QUOTED})")
_JOINED = (" and ", " or ", ", ")
_SAID_TWICE = re.compile(r"\w+=\([^()]*\), on the command line (--\w+ [\w-]+)")


@contextmanager
def answering(command: str) -> Iterator[None]:
    """Let what is printed inside speak to whoever typed this command."""
    token = _command.set(command)
    try:
        yield
    finally:
        _command.reset(token)


def typed(text: str) -> str:
    """Return a message in the words of the command at hand."""
    text = text.replace("guess_mapping", "alliancedyn map")
    if "=" not in text and "()" not in text:
        return text
    text = _SAID_TWICE.sub(r"\1", text)
    if _command.get() not in _ELSEWHERE:
        for name, options, key in _MODELS:
            call = rf"\b(?:ad\.)?{name}\({options}\)".replace('"', "[\"']")
            text = re.sub(call, f"--families {key}", text)
    reading = re.search(r"\b[Rr]ead(ing)?\b", text) is not None
    said = [(found, *_said(found, reading)) for found in _PARTS.finditer(text)]
    told = {""}  # a place is named once, after the options that are listed together
    out, end = "", 0
    for i, (found, words, place) in enumerate(said):
        alike = i + 1 < len(said) and said[i + 1][2] == place
        between = text[found.end() : said[i + 1][0].start()] if alike else ""
        where = "" if place in told or between in _JOINED else f" {place}"
        told |= {place} if where else set()
        out += text[end : found.start()] + words + where
        end = found.end()
    return re.sub(r"\btrue (in the \w+) or False\b", r"true or false \1", out + text[end:])


def _said(found: re.Match[str], reading: bool) -> tuple[str, str]:
    """Return an option as it is typed or written into a file, and where ("" if typed)."""
    if found["quoted"]:
        return found[0], ""
    if found["call"]:
        shown = found["call"].startswith("SessionPanel(")  # what a panel is, not what to do
        return found[0], "" if shown else "in Python"
    name, value = found[1] or found[3], found[2] or ""
    if not _is_option(name, value):
        return found[0], ""
    command = _command.get()
    if command in _ELSEWHERE and name not in ("seed", "jobs", "cluster"):
        return _written(name, value), _ELSEWHERE[command]
    if name == "means" and value[1:-1] == "equal":
        return f"--families {_MODELS[0][2]}", ""
    if name == "sessions":
        return f"--sessions {_window(value)}".rstrip(), ""
    if name in _TYPED or (name in _EITHER and not reading):
        return f"--{name} {_words(value)}".rstrip(), ""
    if _of_mapping(name, value):
        return _written(name, value), "in the mapping"
    return found[0], "in Python"


def _is_option(name: str, value: str) -> bool:
    from alliancedyn.panel.mapping import KEYS

    return len(name) > 3 or name in (*KEYS, "lag") or value.startswith(("(", "[", "{", '"', "'"))


def _of_mapping(name: str, value: str) -> bool:
    from alliancedyn.panel.mapping import KEYS

    return name in KEYS and not (name == "order" and value.isdigit())


def _written(name: str, value: str) -> str:
    """Return an option as TOML has it."""
    value = re.sub(r"\bTrue\b", "true", re.sub(r"\bFalse\b", "false", value))
    if value.startswith("("):
        value = f"[{value[1:-1].rstrip(', ')}]"
    if value.startswith("{"):
        value = re.sub(r"(\"[^\"]*\"|'[^']*'|\.\.\.): ", r"\1 = ", value)
    return f"{name} = {value}" if value else name


def _window(value: str) -> str:
    """Return a pair of sessions as they are typed."""
    return "-".join(part.strip() for part in value.strip("()").split(",") if part.strip())


def _words(value: str) -> str:
    """Return names as they are typed: without quotes, commas between them."""
    inner = value.strip("()[]").rstrip(",")
    return ",".join(part.strip().strip("\"'") for part in inner.split(",")) if inner else ""
