"""A strict reader of HTML pages, for tests: balance, references, accessible names."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

VOID = {"br", "hr", "img", "input", "link", "meta", "area", "base", "col", "source", "wbr"}
SVG_EMPTY = {"rect", "line", "circle", "path"}
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


class Page(HTMLParser):
    """Parses a page and collects what is wrong with it in ``faults``."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.addresses: list[str] = []
        self.pointers: list[str] = []
        self.headings: list[int] = []
        self.captions = 0
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self._conclude(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if len(found) != len(attrs):
            self.faults.append(f"<{tag}> repeats an attribute")
        self._note(tag, found)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in SVG_EMPTY:
            self.faults.append(f"<{tag}/> closes itself outside a drawing")
        self._note(tag, {name: value or "" for name, value in attrs})

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> closes what is not open at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    def _note(self, tag: str, found: dict[str, str]) -> None:
        self.elements.append((tag, found))
        if "id" in found:
            self.ids.append(found["id"])
        for name in ("href", "src", "action", "poster", "data"):
            if name in found:
                self.addresses.append(found[name])
        for name in ("aria-labelledby", "aria-describedby"):
            self.pointers += found.get(name, "").split()
        if tag in HEADINGS:
            self.headings.append(int(tag[1]))
        if tag == "img" and not found.get("alt", "").strip():
            self.faults.append("an image has no alternative text")
        if tag == "svg" and not (found.get("aria-hidden") == "true" or found.get("aria-label")):
            self.faults.append("a drawing is neither hidden nor named")
        if tag == "th" and found.get("scope") not in ("col", "row"):
            self.faults.append("a header cell has no scope")
        if tag in ("script", "iframe", "object", "embed", "form", "base"):
            self.faults.append(f"the page holds <{tag}>")
        self.faults += [f"<{tag}> has {name}" for name in found if name.startswith("on")]

    def _conclude(self, text: str) -> None:
        if self._open:
            self.faults.append(f"left open: {self._open}")
        twice = {one for one in self.ids if self.ids.count(one) > 1}
        if twice:
            self.faults.append(f"ids used twice: {sorted(twice)}")
        known = set(self.ids)
        anchors = [one[1:] for one in self.addresses if one.startswith("#")]
        self.faults += [
            f"nothing has the id {one}" for one in anchors + self.pointers if one not in known
        ]
        outside = [one for one in self.addresses if not one.startswith(("#", "data:"))]
        if outside:
            self.faults.append(f"fetches {outside}")
        style = text.partition("<style>")[2].partition("</style>")[0]
        self.faults += [
            f"the style holds {one}" for one in ("http", "@import", "url(") if one in style
        ]
        self._check_outline(text)

    def _check_outline(self, text: str) -> None:
        if self.headings.count(1) != 1:
            self.faults.append("there is not exactly one h1")
        for above, below in zip([0, *self.headings], self.headings, strict=False):
            if below > above + 1:
                self.faults.append(f"a heading jumps from level {above} to {below}")
        tables = sum(tag == "table" for tag, _ in self.elements)
        if tables != sum(tag == "caption" for tag, _ in self.elements):
            self.faults.append("a table has no caption")
        if not text.lstrip().lower().startswith("<!doctype html>"):
            self.faults.append("the page has no doctype")
        root: dict[str, Any] = next((one for tag, one in self.elements if tag == "html"), {})
        if root.get("lang") != "en":
            self.faults.append("the page has no language")
        if not any(tag == "meta" and one.get("name") == "viewport" for tag, one in self.elements):
            self.faults.append("the page has no viewport")
