"""Which shape is this export? Shapes that are not one row per client and session are refused."""

from __future__ import annotations

import re
from collections.abc import Sequence

from alliancedyn.errors import DataError
from alliancedyn.panel.issues import Issue, counted, info, joined, named_rows, warning
from alliancedyn.panel.table import PADDING

# A family of columns that differ in one number: wai_1, s3_wai, WAI.3.1.
NUMBERED = re.compile(r"[0-9]+")
FEWEST = 3
LONGEST_NAME = 2000  # characters of a column name; some forms put whole questions there
ABOVE = 30  # rows among which the row of column names is looked for
# A number or a date: what stands in a row of values and in no row of names.
VALUE = re.compile(r"[-+]?[0-9]+(?:[.,][0-9]+)?|[0-9]{1,4}([-/.])[0-9]{1,2}\1[0-9]{1,4}.*")
CONTACT = {
    *("firstname", "lastname", "surname", "fullname", "vorname", "nachname", "email", "mail"),
    *("emailaddress", "phone", "phonenumber", "telefon", "mobile", "address", "street", "strasse"),
    *("ipaddress", "recipientfirstname", "recipientlastname", "recipientemail"),
    *("locationlatitude", "locationlongitude", "latitude", "longitude", "postcode", "zipcode"),
}
INSTRUMENT = {
    *("instrument", "measure", "questionnaire", "scale", "test", "assessment", "fragebogen"),
    *("questionnaire_name", "instrument_name", "vragenlijst", "cuestionario"),
}
WIDE_HELP = (
    "Reshape it to one row per client and session (client, session, one column per score; "
    "pandas.wide_to_long does that): wide layouts cannot be read yet."
)


def clean_header(names: Sequence[object]) -> list[str]:
    """Strip column names; an empty one is called by its place.

    Raises
    ------
    DataError
        If a name is longer than any name is.
    """
    texts = ["" if name is None else str(name).strip(PADDING) for name in names]
    for place, text in enumerate(texts, start=1):
        if len(text) > LONGEST_NAME:
            raise DataError(
                f"The name of column {place} has {len(text):,} characters. Is the row of column "
                "names missing, or a quotation mark?"
            )
    return [text or f"column {place}" for place, text in enumerate(texts, start=1)]


def find_header(rows: Sequence[Sequence[object]], wanted: Sequence[str] = ()) -> int:
    """Find the row of column names below a title, a date of export and the like.

    The first row is it unless it is nearly empty beside a later one, or a later one holds the names
    that the caller expects and the first does not.

    Parameters
    ----------
    rows : sequence of rows of cells
        The first rows of the table.
    wanted : sequence of str
        Column names that the caller expects.

    Returns
    -------
    int
        Place of the row of names, from 0.
    """
    texts = [_filled(row) for row in rows]
    expected = [len(set(row) & set(wanted)) for row in texts]
    if max(expected, default=0):
        return expected.index(max(expected))
    for place, names in enumerate(texts):
        above = max((len(row) for row in texts[:place]), default=0)
        if not place and names and len(names) * 2 > max(map(len, texts)):
            return 0
        if len(names) > 2 and len(names) >= 2 * above and _are_names(names):
            return place
    return 0


def _filled(row: Sequence[object]) -> list[str]:
    cells = ["" if cell is None else str(cell).strip(PADDING) for cell in row]
    return [cell for cell in cells if cell]


def _are_names(cells: Sequence[str]) -> bool:
    return len(set(cells)) == len(cells) and not any(VALUE.fullmatch(cell) for cell in cells)


def note_header(row: int) -> list[Issue]:
    """Say where the column names were found, if not in the first row; ``row`` counts from 1."""
    if row == 1:
        return []
    said = f"Column names were found in row {row}; {counted(row - 1, 'row')} above "
    return [warning("header-below", f"{said}{'was' if row == 2 else 'were'} left out.", row - 1)]


def more_headers(header: Sequence[str], following: Sequence[Sequence[object]]) -> int:
    """Count the rows below the names that are headers too: Qualtrics' question texts and ids."""
    for place, row in enumerate(following[:2], start=1):
        if any('"ImportId"' in str(cell) for cell in row):
            return place
    if following and "StartDate" in header:
        at = header.index("StartDate")
        return int(len(following[0]) > at and str(following[0][at]).strip() == "Start Date")
    return 0


def note_more_headers(row: int, count: int) -> list[Issue]:
    """Say which rows below the names were left out as headers; ``row`` is the row of names."""
    if not count:
        return []
    said = f"{named_rows(range(row + 1, row + count + 1)).capitalize()} "
    said += f"{'holds' if count == 1 else 'hold'} Qualtrics' question texts and import ids; left "
    return [info("header-rows", f"{said}out.", count)]


def contact_columns(header: Sequence[str]) -> list[str]:
    """Name the columns that say who or where a person is: name, address, e-mail, place."""
    return [name for name in header if re.sub(r"[^a-z]+", "", name.casefold()) in CONTACT]


def wide_columns(header: Sequence[str]) -> list[str]:
    """Name the columns of the largest family that differs in a number only, if three or more."""
    families: dict[tuple[int, str], list[str]] = {}
    for column, name in enumerate(header, start=1):
        if name == f"column {column}":  # an unnamed one, called by its place
            continue
        for place, number in enumerate(NUMBERED.finditer(name)):
            pattern = f"{name[: number.start()]}#{name[number.end() :]}"
            families.setdefault((place, pattern.casefold()), []).append(name)
    largest = max(families.values(), key=len, default=[])
    return largest if len(largest) >= FEWEST else []


def refuse_without_session(header: Sequence[str], *, repeats: bool) -> None:
    """Say why a table without a session column cannot be read.

    Parameters
    ----------
    header : sequence of str
    repeats : bool
        Whether clients have several rows, so that numbered columns are no sessions.

    Raises
    ------
    DataError
        Always; the message depends on the shape.
    """
    wide = [] if repeats else wide_columns(header)
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
