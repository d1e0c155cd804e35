"""What pages name exists: functions, their arguments, options of commands, keys of mappings."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import alliancedyn as ad
from alliancedyn import plot
from alliancedyn.cli.commands import app
from alliancedyn.panel.mapping import KEYS

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
KNOWN: dict[str, Any] = {"ad": ad, "alliancedyn": ad, "plot": plot}
OBJECTS: dict[str, Any] = {"fit": ad.Fit, "panel": ad.SessionPanel}


def label(page: Path) -> str:
    """Return a page as the repository knows it."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """Yield the fenced texts of a page in these languages."""
    for indent, language, text in FENCE.findall(page.read_text("utf-8")):
        if language in languages:
            yield re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)


def code(text: str) -> str:
    """Return what is typed: all of it, or the lines after the prompts of a session."""
    if not re.search(r"^>>> ", text, re.MULTILINE):
        return text
    return "\n".join(re.findall(r"^(?:>>>|\.\.\.) ?(.*)$", text, re.MULTILINE))


def found(node: ast.expr, names: dict[str, Any]) -> Any:
    """Return what an expression names, None if that cannot be known."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = found(node.value, names)
        if owner is None:
            return None
        if not hasattr(owner, node.attr) and node.attr not in annotated(owner):
            raise AssertionError(f"{ast.unparse(node)} does not exist")
        return getattr(owner, node.attr, None)
    return None


def annotated(owner: Any) -> set[str]:
    """Return the fields of a class, which an instance has."""
    kinds = inspect.getmro(owner) if inspect.isclass(owner) else ()
    return {name for kind in kinds for name in getattr(kind, "__annotations__", {})}


def imported(tree: ast.Module) -> dict[str, Any]:
    """Return the names that a text imports from the package."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("alliancedyn"):
            module = __import__(str(node.module), fromlist=[one.name for one in node.names])
            for one in node.names:
                names[one.asname or one.name] = getattr(module, one.name)
    return names


def check_call(call: ast.Call, names: dict[str, Any]) -> None:
    """Refuse a keyword that the function called does not take."""
    function = found(call.func, names)
    if not callable(function) or not getattr(function, "__module__", "").startswith("alliancedyn"):
        return
    parameters = inspect.signature(function).parameters
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return
    for keyword in call.keywords:
        if keyword.arg is not None and keyword.arg not in parameters:
            raise AssertionError(f"{ast.unparse(call.func)} takes no {keyword.arg}=")


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_python_on_a_page_names_what_exists(page: Path) -> None:
    names = {**KNOWN, **OBJECTS}
    for text in blocks(page, "python"):
        tree = ast.parse(code(text))
        names |= imported(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                found(node, names)
            if isinstance(node, ast.Call):
                check_call(node, names)


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_mappings_on_a_page_have_keys_that_mean_something(page: Path) -> None:
    for text in blocks(page, "toml"):
        said = tomllib.loads(text)
        if "client" in said or "missing_codes" in said or "timing" in said:
            assert not set(said) - set(KEYS)


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_commands_on_a_page_can_be_typed(page: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for text in blocks(page, "sh", "bash", "console"):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if not words or Path(words[0]).name != "alliancedyn" or len(words) < 2:
                continue
            if words[1].startswith("-") or not words[1].islower():
                continue
            assert words[1] in commands, line
            known = {name for one in commands[words[1]].params for name in one.opts}
            used = {word.strip("[]").partition("=")[0] for word in words if "--" in word[:3]}
            assert not used - known - {"--help"}, line
