"""Say once what several models share, though their numbers differ."""

from __future__ import annotations

import re
from collections.abc import Iterable

_COUNT = re.compile(r"(?<![\w.\-@\[])\d[\d,]*(?![\w\]]|\.\d)")


def merged(found: Iterable[tuple[str, str]]) -> list[tuple[list[str], str]]:
    """Bring together who says the same: sentences that differ in counts alone become one.

    ``57 clients carry 40 parameters`` of one model and ``57 clients carry 43 parameters`` of
    another become ``57 clients carry 40 to 43 parameters`` of both.

    Parameters
    ----------
    found : iterable of (str, str)
        Who, and the sentence.

    Returns
    -------
    list of (list of str, str)
        In the order of first mention.
    """
    who: dict[str, list[str]] = {}
    said: dict[str, list[str]] = {}
    for label, sentence in found:
        skeleton = _COUNT.sub("#", sentence)
        if label not in who.setdefault(skeleton, []):
            who[skeleton].append(label)
        said.setdefault(skeleton, []).append(sentence)
    return [(labels, _spanned(said[skeleton])) for skeleton, labels in who.items()]


def _spanned(sentences: list[str]) -> str:
    """Return the sentence with every count that differs written as a span."""
    numbers = [[int(one.replace(",", "")) for one in _COUNT.findall(text)] for text in sentences]
    spans = []
    for values in zip(*numbers, strict=True):
        low, high = min(values), max(values)
        spans.append(f"{low:,}" if low == high else f"{low:,} to {high:,}")
    each = iter(spans)
    return _COUNT.sub(lambda _: next(each), sentences[0])
