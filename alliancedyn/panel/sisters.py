"""Sister columns: names that differ in one number or letter only, as the items of a scale do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alliancedyn.errors import DataError
from alliancedyn.panel.instruments import bare, known, says_total
from alliancedyn.panel.issues import Issue, info, joined, warning

if TYPE_CHECKING:
    from alliancedyn.panel.mapping import PanelMapping

LAST_LETTER = -1  # the place of a letter at the end, beside those of numbers
FEWEST = 3  # from which sisters are a family; two may as well be two raters
NUMBER = re.compile(r"[0-9]+")
LETTER = re.compile(r"(.*[\W_0-9])([a-zA-Z])")
REVERSED = re.compile(r"[\W_]*(?:[a-z]|rev|inv|rec|recoded|reversed|umgepolt)")


@dataclass(frozen=True)
class Family:
    """Columns that differ in one number or letter.

    Parameters
    ----------
    stem : str
        What stands before the number, without separators.
    columns : tuple of str
        In the order of the table.
    """

    stem: str
    columns: tuple[str, ...]

    @property
    def listing(self) -> str:
        """The columns, at most three of them, then a count."""
        return joined([repr(name) for name in self.columns])

    def totals(self, header: Sequence[str]) -> list[str]:
        """Return columns of the same stem that look like the score of the whole scale."""
        stem, scale = bare(self.stem), known(self.stem)
        others = [name for name in header if name not in self.columns]
        return [
            name
            for name in others
            if (bare(name) == stem and (says_total(name) or scale is not None))
            or (scale is not None and says_total(name) and (known(name) or (0,))[0] == scale[0])
        ]


def families(header: Sequence[str], fewest: int = FEWEST) -> list[Family]:
    """Return every set of sister columns, the largest first.

    ``wai_1``, ``wai_02``, ``wai.3``, ``WAI 4r`` are sisters; so are ``s1_wai`` and ``s2_wai``, and
    ``phq_a``, ``phq_b``, ``phq_c``. Names of different questionnaires, such as ``phq2``, ``phq9``
    and ``phq15`` or ``core10`` and ``core34``, are none.
    """
    found: dict[tuple[int, str, str], list[str]] = {}
    for name in dict.fromkeys(header):
        for key in _patterns(name):
            found.setdefault(key, []).append(name)
    sets = []
    for key, names in found.items():
        if key[0] == LAST_LETTER:
            names = _lettered(names)
        elif _different(names):
            continue
        if len(names) >= fewest:
            sets.append(Family(key[1] or key[2], tuple(names)))
    return sorted(sets, key=lambda family: -len(family.columns))


def _patterns(name: str) -> list[tuple[int, str, str]]:
    """Return what a name shares with its sisters: place of the number, text before, text after."""
    keys = []
    for place, number in enumerate(NUMBER.finditer(name)):
        before = re.sub(r"[\W_]+$", "", name[: number.start()]).casefold()
        after = re.sub(r"^[\W_]+", "", name[number.end() :]).casefold()
        if REVERSED.fullmatch(after):
            after = ""
        keys.append((place, before, after))
    letter = LETTER.fullmatch(name)
    if letter is not None:
        keys.append((LAST_LETTER, re.sub(r"[\W_]+$", "", letter.group(1)).casefold(), ""))
    return keys


def _different(names: Sequence[str]) -> bool:
    """Tell whether the numbers belong to the names of questionnaires: PHQ-2, PHQ-9, PHQ-15."""
    return all(
        (instrument := known(name)) is not None
        and bool(instrument[0].numbers)
        and not re.search(r"[0-9]", instrument[1])
        for name in names
    )


def _lettered(names: Sequence[str]) -> list[str]:
    """Return the names that end in a, b, c, ... without a gap: letters of items, not of raters."""
    by_letter = {name[-1].casefold(): name for name in names}
    run = 0
    while chr(ord("a") + run) in by_letter:
        run += 1
    return [by_letter[chr(ord("a") + i)] for i in range(run)] if run >= FEWEST else []


def check_items(mapping: PanelMapping, header: Sequence[str]) -> None:
    """Refuse one item, or one of several sessions side by side, in the place of a scale.

    Raises
    ------
    DataError
        If a variable's column has sisters that are not mapped, and is not named in
        ``single_items``.
    """
    if mapping.session is None and mapping.order != "date":
        return  # no session is named at all, which `layout` explains
    for name, column, family in _single(mapping, header):
        if column in mapping.single_items or name in mapping.single_items:
            continue
        totals = family.totals(header)
        remedy = (
            f"Map {joined([repr(total) for total in totals])} instead, which looks like their total"
            if totals
            else "Compute the total of its items first, one score per row, and map that"
        )
        raise DataError(
            f"{name} = {column!r} is one of {len(family.columns)} columns that differ in a number "
            f"only ({family.listing}): one item, or one of several sessions side by side, is no "
            f"score of a scale. {remedy}; if it is meant as it stands, say "
            f'single_items = ["{column}"].'
        )


def find_items(mapping: PanelMapping, header: Sequence[str]) -> list[Issue]:
    """Note variables that are single items on request, and columns that have one sister."""
    issues = [
        info(
            "single-item",
            f"{name!r} is one of {len(family.columns)} sister columns ({family.listing}), as "
            "single_items says; it is no score of the whole scale.",
        )
        for name, column, family in _single(mapping, header)
    ]
    large = {column for _, column, _ in _single(mapping, header)}
    for name, column, pair in _single(mapping, header, 2):
        if column not in large and column not in mapping.single_items:
            said = f"{name} = {column!r} has a sister column ({pair.listing}): two raters, two "
            said += "items or two sessions? Only this one is read; if that is meant, say "
            issues.append(warning("sister-column", f'{said}single_items = ["{column}"].'))
    return issues


def _single(
    mapping: PanelMapping, header: Sequence[str], fewest: int = FEWEST
) -> list[tuple[str, str, Family]]:
    """Return the variables whose column has sisters that are not mapped."""
    mapped = set(mapping.columns.values())
    sets = families(header, fewest)
    found = []
    for name, column in mapping.variables.items():
        family = next((one for one in sets if column in one.columns), None)
        if family is not None and not set(family.columns) <= mapped:
            found.append((name, column, family))
    return found
