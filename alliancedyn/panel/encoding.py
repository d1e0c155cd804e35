"""What kind of file is this? Bytes to text, decided by evidence."""

from __future__ import annotations

import codecs

from alliancedyn.errors import DataError
from alliancedyn.panel.issues import Issue, counted, info, quoted

# First bytes of files that are no text table, with what to do about each.
SIGNATURES = (
    (b"PK\x03\x04", "an Excel workbook or zip archive", "Give it its own ending (.xlsx) or unpack"),
    (b"\xd0\xcf\x11\xe0", "an old or password-protected Office file", "Save it as .xlsx or .csv"),
    (b"PAR1", "a Parquet file", "Give it the ending .parquet"),
    (b"%PDF", "a PDF document", "Ask for the table as CSV or Excel"),
    (b"\x1f\x8b", "a gzip archive", "Unpack it first"),
    (b"$FL2", "an SPSS file", "Save it as .csv or .xlsx"),
    (b"$FL3", "an SPSS file", "Save it as .csv or .xlsx"),
    (b"SQLite format 3", "a database", "Export the sessions as CSV"),
    (b"\x89PNG", "a picture", "Ask for the table as CSV or Excel"),
)
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SAMPLE = 65536


def decode(raw: bytes, name: str, encoding: str | None) -> tuple[str, str, list[Issue]]:
    """Turn the bytes of a text table into text.

    A byte-order mark decides; else UTF-8 if every byte fits; else UTF-16 by its zero bytes; else
    the Western European code page cp1252, with an issue.

    Parameters
    ----------
    raw : bytes
        The whole file.
    name : str
        File name for messages.
    encoding : str or None
        The caller's own word, which overrules.

    Returns
    -------
    text : str
        Without a byte-order mark.
    encoding : str
        The one used.
    issues : list of Issue

    Raises
    ------
    DataError
        If the file is no text, or not in the encoding named.
    """
    _refuse_other_kinds(raw, name)
    if encoding is not None:
        return _decode_as(raw, name, encoding), encoding, []
    found = next((known for mark, known in MARKS if raw.startswith(mark)), None)
    found = found or _zero_bytes(raw[:SAMPLE])
    if found is not None:
        return _decode_as(raw, name, found), found, []
    refuse_binary(raw, name)
    try:
        return raw.decode("utf-8"), "utf-8", []
    except UnicodeDecodeError as problem:
        row = raw.count(b"\n", 0, problem.start) + 1
    try:
        text = raw.decode("cp1252")
    except UnicodeDecodeError:
        raise DataError(
            f"{name!r} is neither UTF-8, UTF-16 nor cp1252 text (see row {row}). Save it as "
            'UTF-8, or name its encoding, e.g. encoding="mac_roman".'
        ) from None
    note = info(
        "encoding-assumed",
        f"{name!r} is not UTF-8 (first at row {row}); it was read as cp1252 (Western European). "
        "If accented letters look wrong, pass encoding=.",
    )
    return text, "cp1252", [note]


def _decode_as(raw: bytes, name: str, encoding: str) -> str:
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as problem:
        row = raw.count(b"\n", 0, problem.start) + 1
        raise DataError(
            f"{name!r} is not {encoding} text: the bytes in row {row} do not fit. It may be "
            "damaged or in another encoding; leave encoding= away to have it inferred, or name it."
        ) from None
    except (LookupError, ValueError):  # not known, "undefined", or no name at all
        raise DataError(
            f"Unknown encoding {quoted(encoding)}. Use a name such as 'utf-8', 'utf-16' or "
            "'cp1252'."
        ) from None
    return text.removeprefix("\ufeff")


def _refuse_other_kinds(raw: bytes, name: str) -> None:
    for signature, kind, remedy in SIGNATURES:
        if raw.startswith(signature):
            raise DataError(f"{name!r} is {kind}, not a text table. {remedy}.")
    start = raw[:SAMPLE].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<table", b"<?xml")):
        raise DataError(
            f"{name!r} is a web page or XML under another name, as some systems export. "
            "Open it in a spreadsheet and save it as .xlsx or .csv."
        )
    if start.startswith((b'{"', b"[{", b"{\n", b"{\r\n")):
        raise DataError(f"{name!r} is JSON, not a table. Export the sessions as CSV or Excel.")


def _zero_bytes(sample: bytes) -> str | None:
    """Recognize UTF-16 without a mark: every other byte of Western text is zero."""
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    half = max(len(sample) // 2, 1)
    if odd > 0.4 * half and even < 0.1 * half:
        return "utf-16-le"
    if even > 0.4 * half and odd < 0.1 * half:
        return "utf-16-be"
    return None


def refuse_binary(raw: bytes, name: str) -> None:
    """Refuse bytes that no text table holds.

    Raises
    ------
    DataError
        If there are control bytes.
    """
    controls = bytes(code for code in range(32) if code not in (9, 10, 12, 13, 26, 27))
    stray = len(raw) - len(raw.translate(None, controls))
    if stray:
        raise DataError(
            f"{name!r} is not a text table: it holds {counted(stray, 'control byte')}. It may be "
            "damaged or of another kind; export it again as CSV or Excel."
        )
