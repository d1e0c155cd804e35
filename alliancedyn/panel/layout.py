"""Which shape is this export? Shapes that are not one row per client and session are refused."""

from __future__ import annotations

import re
from collections.abc import Sequence

from alliancedyn.errors import DataError
from alliancedyn.panel.issues import joined
from alliancedyn.panel.table import PADDING

# A family of columns that differ in one number: wai_1, s3_wai, WAI.3.1.
NUMBERED = re.compile(r"[0-9]+")
FEWEST = 3
INSTRUMENT = {"instrument", "measure", "questionnaire", "scale", "test", "assessment"}
WIDE_HELP = (
    "Reshape it to one row per client and session (client, session, one column per score); "
    "wide layouts cannot be read yet."
)


def clean_header(names: Sequence[object]) -> list[str]:
    """Strip column names; an empty one is called by its place."""
    texts = ["" if name is None else str(name).strip(PADDING) for name in names]
    return [text or f"column {place}" for place, text in enumerate(texts, start=1)]


def refuse_foreign_rows(header: Sequence[str], following: Sequence[Sequence[str]]) -> None:
    """Refuse a Qualtrics export, whose first three rows are all headers.

    Raises
    ------
    DataError
        If one of the two rows after the header holds import ids.
    """
    if any('"ImportId"' in cell for row in following for cell in row):
        raise DataError(
            "This is a Qualtrics export with three header rows, one row per response; it cannot "
            "be read yet. Delete the second and third row, and keep one row per client and session."
        )


def wide_columns(header: Sequence[str]) -> list[str]:
    """Name the columns of the largest family that differs in a number only, if three or more."""
    families: dict[tuple[int, str], list[str]] = {}
    for name in header:
        for place, number in enumerate(NUMBERED.finditer(name)):
            pattern = f"{name[: number.start()]}#{name[number.end() :]}"
            families.setdefault((place, pattern.casefold()), []).append(name)
    largest = max(families.values(), key=len, default=[])
    return largest if len(largest) >= FEWEST else []


def refuse_without_session(header: Sequence[str]) -> None:
    """Say why a table without a session column cannot be read.

    Raises
    ------
    DataError
        Always; the message depends on the shape.
    """
    wide = wide_columns(header)
    if wide:
        raise DataError(
            f"No session column is named, and {joined([repr(name) for name in wide])} look like "
            f"one row per client with a column per session (a wide layout). {WIDE_HELP}"
        )
    raise DataError(
        'No session column is named. Pass session="...", or date="..." with order="date" to '
        "number the sessions by date."
    )


def refuse_one_row_each(clients: int, header: Sequence[str]) -> None:
    """Refuse a table in which no client has a second session.

    Raises
    ------
    DataError
        Always; the message depends on the shape.
    """
    wide = wide_columns(header)
    hint = (
        f" {joined([repr(name) for name in wide])} look like sessions side by side." if wide else ""
    )
    raise DataError(
        f"Each of the {clients:,} clients has one row only, so nothing can be said about change."
        f"{hint} {WIDE_HELP}"
    )


def instrument_column(header: Sequence[str]) -> str | None:
    """Name the column of a table with one row per questionnaire, if there is one."""
    return next((name for name in header if name.casefold() in INSTRUMENT), None)
