"""What the package promises about itself: fast import, floors, size, names, no hosts."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import time
import types
from functools import cache
from pathlib import Path

import pytest

import alliancedyn

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "alliancedyn"
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("numba", "scipy", "pymc", "statsmodels", "linearmodels", "matplotlib")
IMPORT_SECONDS = 0.3  # a shell prompt's patience; measured around 0.01
MODULE_LINES = 450
VAGUE = {"base", "common", "core", "helper", "helpers", "misc", "util", "utils"}

# Strings that look like hosts and are none: XML names its vocabularies by them, nothing is fetched.
NAMESPACES = (
    "http://www.w3.org/2000/svg",
    "http://www.w3.org/1999/xlink",
    "http://www.w3.org/1998/Math/MathML",
    "http://www.w3.org/1999/xhtml",
)
# Files whose subject is that nothing is fetched: they must spell the prefixes out to look for them.
ABOUT_HOSTS = {"tests/test_architecture.py", "tests/test_report.py"}
BINARY = {".npz", ".parquet", ".pdf", ".png", ".sav", ".xlsx", ".zip"}
HOST = re.compile(r"(?:https?|ftp)://[^\s'\"<>)\]]*")
# Where a developer's machine leaks in: home, work and temporary folders, drive letters.
MACHINE_PATH = re.compile(r"(?<![\w./~-])(?:/(?:work|home|root|Users|tmp|opt)/\w|[A-Z]:\\\\?Users)")


def label(path: Path) -> str:
    """Return a path as the repository knows it."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    """Parse one module."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def tracked() -> tuple[Path, ...]:
    """List the repository's own text files, or everything beside the package without git."""
    listing = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT.as_posix()}", "ls-files", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("not a git checkout: what belongs to the repository is unknown")
    paths = (ROOT / name for name in listing.stdout.decode().split("\0") if name)
    return tuple(path for path in paths if path.is_file() and path.suffix not in BINARY)


def fresh(code: str) -> str:
    """Run code in a new interpreter and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout.strip()


def test_importing_loads_nothing_heavy() -> None:
    loaded = fresh(
        "import sys, alliancedyn; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    assert "alliancedyn" in loaded.split()
    assert not set(HEAVY) & set(loaded.split())


def test_importing_is_fast() -> None:
    clock = (
        "import time; start = time.perf_counter(); import alliancedyn;"
        " print(time.perf_counter() - start)"
    )
    assert min(float(fresh(clock)) for _ in range(5)) < IMPORT_SECONDS


def test_the_whole_process_is_fast() -> None:
    def seconds(code: str) -> float:
        start = time.perf_counter()
        fresh(code)
        return time.perf_counter() - start

    bare = min(seconds("pass") for _ in range(3))
    assert min(seconds("import alliancedyn") for _ in range(5)) - bare < IMPORT_SECONDS


@pytest.mark.parametrize("name", alliancedyn.__all__)
def test_every_public_name_resolves(name: str) -> None:
    value = getattr(alliancedyn, name)
    if name == "__version__":
        return
    assert isinstance(value, types.ModuleType) == (name in {"datasets", "engine", "plot", "worlds"})
    assert value.__name__.split(".")[-1] == name
    assert value.__doc__


@pytest.mark.parametrize(
    "first",
    [
        "ad.Dynamics, ad.Decomposition",
        "importlib.import_module('alliancedyn.simulate')",
        "importlib.import_module('alliancedyn.decompose')",
        "importlib.import_module('alliancedyn.report')",
    ],
)
def test_a_module_never_hides_the_function_of_its_name(first: str) -> None:
    """Python binds a loaded submodule on its package, over any function of that name."""
    said = fresh(
        f"import importlib, alliancedyn as ad; {first};"
        " print(callable(ad.simulate), callable(ad.decompose))"
    )
    assert said == "True True"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = alliancedyn.nonsense
    assert set(dir(alliancedyn)) == set(alliancedyn.__all__)


# Importing __main__ would run the command line.
@pytest.mark.parametrize("path", [p for p in MODULES if p.stem != "__main__"], ids=label)
def test_subpackages_export_what_they_say(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} opens without a word for its reader"
    missing = [public for public in getattr(module, "__all__", []) if not hasattr(module, public)]
    assert not missing


@pytest.mark.parametrize("path", [p for p in MODULES if "cli" not in p.parts], ids=label)
def test_only_the_command_line_prints(path: Path) -> None:
    calls = [
        f"{label(path)}:{node.lineno}"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"print", "sys.exit", "exit", "sys.stdout.write"}
    ]
    if label(path) == "alliancedyn/__main__.py":
        calls = [call for call in calls if "print" in call]
    assert not calls


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_modules_stay_readable(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES
    assert not VAGUE & {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}


def undocumented(node: ast.Module | ast.ClassDef, prefix: str) -> list[str]:
    """Name the public functions and classes under a node that have no docstring."""
    found = []
    for child in node.body:
        if not isinstance(child, ast.FunctionDef | ast.ClassDef) or child.name.startswith("_"):
            continue
        overload = any("overload" in ast.unparse(mark) for mark in child.decorator_list)
        if not overload and not ast.get_docstring(child):
            found.append(f"{prefix}{child.name}")
        if isinstance(child, ast.ClassDef):
            found += undocumented(child, f"{prefix}{child.name}.")
    return found


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_everything_public_is_documented(path: Path) -> None:
    assert not undocumented(tree(path), f"{label(path)}: ")


def test_no_host_is_named() -> None:
    found = []
    for path in tracked():
        if label(path) in ABOUT_HOSTS:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for namespace in NAMESPACES:
            text = text.replace(f'"{namespace}"', "").replace(f"'{namespace}'", "")
        found += [f"{label(path)}: {host}" for host in HOST.findall(text)]
    assert not found


def test_no_machine_is_named() -> None:
    found = []
    for path in tracked():
        if label(path) == label(Path(__file__)):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{label(path)}: {place.group()}" for place in MACHINE_PATH.finditer(text)]
    assert not found


def test_every_fragment_is_in_the_changelog() -> None:
    """A kind that ``make changelog`` does not print is a change that nobody is told of."""
    (kinds,) = re.findall(r"for kind in ([a-z ]+);", (ROOT / "Makefile").read_text("utf-8"))
    fragments = [p for p in (ROOT / "changelog.d").iterdir() if p.name != "README.md"]
    assert len(fragments) > 50
    lost = [
        p.name for p in fragments if p.name.split(".")[1:] not in [[k, "md"] for k in kinds.split()]
    ]
    assert not lost
    page = (ROOT / "changelog.d" / "README.md").read_text("utf-8")
    assert all(f"`{kind}`" in page for kind in kinds.split())
    empty = [p.name for p in fragments if not p.read_text("utf-8").strip()]
    assert not empty
