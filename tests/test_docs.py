"""What the README and the pages show is what happens."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TALKING = [page for page in PAGES if re.search(r"^ *>>> ", page.read_text("utf-8"), re.MULTILINE)]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def label(page: Path) -> str:
    """Return a page as the repository knows it."""
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", TALKING, ids=label)
def test_a_session_on_a_page_gives_what_the_page_shows(page: Path) -> None:
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    # A fence is no output: what a page shows ends before it.
    text = page.read_text("utf-8").replace("\n```", "\n\n```")
    examples = doctest.DocTestParser().get_doctest(text, {}, label(page), str(page), 0)
    runner = doctest.DocTestRunner(optionflags=flags)
    said: list[str] = []
    result = runner.run(examples, out=said.append)
    assert result.attempted
    assert not result.failed, "".join(said)


def test_the_ten_lines_of_the_readme_run(tmp_path: Path) -> None:
    (block,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL
    )
    assert len([line for line in block.splitlines() if line.strip()]) <= 10
    done = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning:alliancedyn", "-c", block],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr
    assert "phi[symptoms,alliance]" in done.stdout


@pytest.mark.parametrize("page", [*PAGES, *sorted(ROOT.glob("*.md"))], ids=label)
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    broken = [target for target in LINK.findall(prose) if not (page.parent / target).exists()]
    assert not broken


def test_search_works_on_pages_opened_from_disk() -> None:
    """The index comes as a script, and what stands in for the worker is a file of these pages."""
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert re.search(r"^  - offline\b", text, re.MULTILINE)
    assert "use_directory_urls: false" in text
    (polyfill,) = re.findall(r"^  polyfills:\n    - (\S+)$", text, re.MULTILINE)
    assert "iframe-worker" in polyfill  # or the plugin adds one from the network
    script = (ROOT / "docs" / polyfill).read_text("utf-8")
    assert "window.IFrameWorker" in script and "window.Worker" in script
    assert "://" not in text + script


def test_the_command_is_named_where_make_puts_it() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert "`.venv/bin/alliancedyn map" in readme
    assert "$(BIN)/alliancedyn" in (ROOT / "Makefile").read_text("utf-8")
