"""What is declared is what is used, what is pinned satisfies it, and the command starts."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import alliancedyn

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINNED = re.compile(r"[a-z0-9-]+==[0-9][0-9a-z.]*")
# Installed names that differ from imported ones.
DISTRIBUTION = {"dask": "distributed"}


def pins() -> dict[str, Version]:
    """Read the tested versions by canonical name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {name: Version(number) for name, number in pairs}


def requirements() -> list[Requirement]:
    """Collect what the package and all its extras ask for, itself apart."""
    texts = [*PROJECT["dependencies"]]
    for extra in PROJECT["optional-dependencies"].values():
        texts += extra
    found = [Requirement(text) for text in texts]
    return [one for one in found if canonicalize_name(one.name) != "alliancedyn"]


def test_constraints_hold_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    held = [line for line in lines if line and not line.startswith("#")]
    assert len(held) > 50
    assert not [line for line in held if not PINNED.fullmatch(line)]
    names = [line.split("==")[0] for line in held]
    assert names == sorted(set(names)), "sorted, each once"
    assert all(name == canonicalize_name(name) for name in names)


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_requirement_is_pinned_within_its_range(requirement: Requirement) -> None:
    pinned = pins().get(canonicalize_name(requirement.name))
    assert pinned is not None
    assert requirement.specifier.contains(pinned)
    assert requirement.specifier, "a lower bound says what was tried"


def imported(path: Path) -> set[str]:
    """Name the packages a module imports, at whatever depth in its code."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_everything_imported_is_declared() -> None:
    declared = {canonicalize_name(one.name) for one in requirements()}
    used = set().union(*(imported(path) for path in (ROOT / "alliancedyn").rglob("*.py")))
    outside = used - set(sys.stdlib_module_names) - {"alliancedyn"}
    undeclared = {name for name in outside if DISTRIBUTION.get(name, name) not in declared}
    assert not undeclared


def test_excel_needs_no_extra() -> None:
    runtime = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    assert "openpyxl" in runtime


def test_the_version_is_one() -> None:
    assert version("alliancedyn") == alliancedyn.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {alliancedyn.__version__}\n" in citation
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {alliancedyn.__version__}" in changes or "## Unreleased" in changes


def test_the_command_starts() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "alliancedyn", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for verb in ("demo", "map", "check", "analyze", "simulate"):
        assert verb in done.stdout


def test_the_script_is_installed() -> None:
    scripts = Path(sys.executable).parent
    found = [path for path in scripts.iterdir() if path.stem == "alliancedyn"]
    assert found, f"no alliancedyn command beside {sys.executable}"
    done = subprocess.run([found[0], "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_worlds_data_and_templates(tmp_path: Path) -> None:
    kept = {".toml", ".csv", ".md", ".html", ".css", ".py"}
    package = ROOT / "alliancedyn"
    ours = {path.relative_to(ROOT) for path in package.rglob("*") if path.suffix in kept}
    assert ROOT / "alliancedyn" / "py.typed" in package.iterdir()
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    assert not [name for name in ours if not (tmp_path / "site" / name).is_file()]
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import alliancedyn as ad; "
        "print(ad.__file__); print(len([ad.worlds.load(name) for name in ad.worlds.names()]))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(tmp_path / "site")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    place, count = done.stdout.split()
    assert Path(place).is_relative_to(tmp_path)
    assert int(count) == len(list((package / "worlds" / "presets").glob("*.toml")))
