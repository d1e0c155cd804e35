"""From an export to a panel: one function for every kind of file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alliancedyn import __version__
from alliancedyn.checking import named
from alliancedyn.errors import DataError
from alliancedyn.panel.issues import joined
from alliancedyn.panel.mapping import (
    Code,
    PanelMapping,
    build_mapping,
    check_columns,
    read_toml,
)
from alliancedyn.panel.panel import SessionPanel
from alliancedyn.panel.source import read_bytes
from alliancedyn.panel.table import Table
from alliancedyn.panel.textfile import Chooser, read_text
from alliancedyn.panel.validate import validate
from alliancedyn.panel.workbook import read_excel, read_parquet

TEXT = (".csv", ".tsv", ".tab", ".txt", ".dat")
EXCEL = (".xlsx", ".xlsm")
PARQUET = (".parquet", ".pq")
# Endings people try, with what to do instead.
OTHERS = {
    ".xls": "the old Excel format cannot be read; save it as .xlsx",
    ".xlsb": "binary workbooks cannot be read; save it as .xlsx",
    ".ods": "OpenDocument cannot be read; save it as .xlsx or .csv",
    ".sav": "SPSS files cannot be read yet; save the values, not the labels, as .csv",
    ".zsav": "SPSS files cannot be read yet; save the values, not the labels, as .csv",
    ".dta": "Stata files cannot be read; export the data as .csv",
    ".sas7bdat": "SAS files cannot be read; export the data as .csv",
    ".rds": "R files cannot be read; write the data with write.csv(row.names = FALSE)",
    ".rdata": "R files cannot be read; write the data with write.csv(row.names = FALSE)",
    ".json": "JSON is no table; export the sessions as .csv",
    ".xml": "XML is no table; export the sessions as .csv",
    ".html": "a web page is no table; export the sessions as .csv",
    ".pdf": "a PDF is no table; export the sessions as .csv",
    ".docx": "a document is no table; export the sessions as .csv",
    ".zip": "archives are not opened; unpack it first",
    ".gz": "archives are not opened; unpack it first",
    ".7z": "archives are not opened; unpack it first",
}


@named
def read_sessions(
    path: str | Path,
    mapping: str | Path | Mapping[str, Any] | None = None,
    *,
    client: str | None = None,
    session: str | None = None,
    variables: Mapping[str, str] | Sequence[str] | None = None,
    process: str | None = None,
    outcome: str | None = None,
    therapist: str | None = None,
    date: str | None = None,
    day: str | None = None,
    group: str | None = None,
    site: str | None = None,
    episode: str | None = None,
    arm: str | None = None,
    covariates: Sequence[str] | Mapping[str, str] = (),
    timing: Mapping[str, str] | None = None,
    higher: Mapping[str, str] | None = None,
    missing_codes: Sequence[Code] | Mapping[str, Sequence[Code]] = (),
    ranges: Mapping[str, tuple[float, float]] | None = None,
    duplicates: str | None = None,
    order: str | None = None,
    episode_gap: float | None = None,
    single_items: Sequence[str] = (),
    encoding: str | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
    sheet: str | int | None = None,
    day_first: bool | None = None,
    date_format: str | None = None,
) -> SessionPanel:
    """Read an export with one row per client and session.

    Cells are read as text and converted only then, so nothing is taken for missing by guess. What
    the file leaves open (encoding, delimiter, decimal mark, order of day and month) is decided by
    evidence over the whole file, or refused with what to pass.

    Parameters
    ----------
    path : str or Path
        CSV or TSV (comma, semicolon, tab or bar; UTF-8, UTF-16 or cp1252), Excel (.xlsx), Parquet.
    mapping : path of a TOML file or mapping, optional
        The arguments below, kept with the data. Arguments overrule it one by one.
    client : str
        Column of the client ids. Ids stay text.
    session : str
        Column of the session numbers: whole numbers, 0 and negative ones included.
    variables : mapping name -> column, or sequence of columns
        Two or more score columns.
    process, outcome : str, optional
        Names of two variables; default alliance and symptoms if so named, else the first two.
    therapist, group, site, episode, arm : str, optional
        Columns of ids. A client's second episode becomes a series of its own.
    date : str, optional
        Column of the session dates.
    day : str, optional
        Column of elapsed days, a number; used instead of the dates where both are given.
    covariates : sequence of columns or mapping name -> column, optional
        Further columns, numbers or text.
    timing : mapping variable -> "before", "after" or "unknown", optional
        When each variable is rated. Assumed for the names alliance (after) and symptoms (before).
    higher : mapping variable -> "better", "worse" or "unknown", optional
        Whether a higher score means that the client is better off. Nothing is assumed from names:
        sentences and figures say "unknown" until it is set.
    missing_codes : sequence, or mapping column -> sequence, optional
        What stands for "no score". A sequence concerns the scores, elapsed days and covariates; a
        mapping any column.
    ranges : mapping variable -> (lowest, highest), optional
        Possible scores, score points. A score outside is an error unless declared missing.
    duplicates : {"error", "first", "last", "mean", "most_complete"}, optional
        What to do with rows of one client and session that disagree; default error. Identical rows
        are always reduced to one and counted.
    order : {"date", "session"}, optional
        "date": number the sessions by date. "session": keep the numbers although dates run
        backwards, which is otherwise an error.
    episode_gap : float, optional
        Days without a session after which a client's next one opens a new episode: a series of
        its own of the same person, whose sessions count from 1. Needs dates or days.
    single_items : sequence of str, optional
        Variables, or their columns, that are one of several numbered sister columns on purpose
        (``waisr_01`` beside ``waisr_02`` ...); without it they are refused.
    encoding, delimiter, decimal : str, optional
        Overrule the evidence.
    sheet : str or int, optional
        Sheet of a workbook, by name or counted from 1.
    day_first : bool, optional
        Whether 03/04/2024 is the third of April, where the column itself does not tell.
    date_format : str, optional
        A strptime format, such as ``"%d.%m.%y"``.

    Returns
    -------
    SessionPanel

    Raises
    ------
    DataError
        If the file, the mapping or the data cannot be used as they are. The message names the rows
        as a spreadsheet numbers them (the header is row 1), and what to do.

    Examples
    --------
    >>> panel = read_sessions("export.csv", client="client_id", session="session_no",
    ...                       variables={"alliance": "wai_sr", "symptoms": "phq9"},
    ...                       missing_codes=[-9, 999])                        # doctest: +SKIP
    """
    arguments = {
        **{"client": client, "session": session, "variables": variables, "process": process},
        **{"outcome": outcome, "therapist": therapist, "date": date, "day": day, "group": group},
        **{"site": site, "episode": episode, "arm": arm, "covariates": covariates},
        **{"timing": timing, "higher": higher, "missing_codes": missing_codes, "ranges": ranges},
        **{"episode_gap": episode_gap, "single_items": single_items},
        **{"duplicates": duplicates, "order": order, "encoding": encoding, "sheet": sheet},
        **{"delimiter": delimiter, "decimal": decimal, "day_first": day_first},
        **{"date_format": date_format},
    }
    said = build_mapping(_overruled(mapping, arguments))
    raw, name = load_bytes(path)
    digest = hashlib.sha256(raw).hexdigest()
    if said.sha256 is not None and said.sha256.casefold() != digest:
        raise DataError(
            f"The mapping was made for another file: it names sha256 {said.sha256[:12]}..., but "
            f"{name!r} has {digest[:12]}... Check the mapping, then correct or delete its sha256."
        )
    table = read_table(raw, name, said, lambda header: check_columns(said, header))
    content = validate(table, said)
    provenance = {
        **{"file": name, "sha256": digest, "bytes": len(raw), "rows": len(table.rows)},
        **{"alliancedyn": __version__, "mapping": said.to_dict()},
        **{"decimal": content.decimal, **table.facts},
    }
    return SessionPanel(content, provenance)


def _overruled(
    mapping: str | Path | Mapping[str, Any] | None, arguments: dict[str, Any]
) -> dict[str, Any]:
    """Return the mapping with what the arguments say instead."""
    known: dict[str, Any] = {}
    if isinstance(mapping, Mapping):
        known = dict(mapping)
        unknown = [key for key in known if key not in PanelMapping.__dataclass_fields__]
        if unknown:
            raise DataError(f"The mapping has unknown keys: {joined([repr(k) for k in unknown])}.")
    elif mapping is not None:
        known = read_toml(mapping)
    given = {
        key: value
        for key, value in arguments.items()
        if value is not None and not (isinstance(value, Sequence | Mapping) and not len(value))
    }
    return known | given


def load_bytes(path: str | Path) -> tuple[bytes, str]:
    """Read a file whole.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    raw : bytes
    name : str
        File name without folders, safe to print and keep.

    Raises
    ------
    DataError
        If it cannot be found or read.
    """
    if not isinstance(path, str | Path):
        raise DataError(
            f"read_sessions reads a file; a {type(path).__name__} is none. For a data frame use "
            "SessionPanel.from_frame."
        )
    if "://" in str(path):
        raise DataError("Files are read from disk only. Download the export and pass its path.")
    path = Path(path).expanduser()
    try:
        raw = read_bytes(path)
    except FileNotFoundError:
        raise DataError(f"There is no file {path.name!r}. Check its path.") from None
    if not raw:
        raise DataError(f"{path.name!r} is empty. Export the sessions again.")
    return raw, path.name


def read_table(raw: bytes, name: str, mapping: PanelMapping, choose: Chooser) -> Table:
    """Read the cells of a file of any supported kind.

    Parameters
    ----------
    raw : bytes
    name : str
        File name; its ending tells the kind.
    mapping : PanelMapping
        For what it says about the file itself.
    choose : function
        Given the column names, returns those to load, or raises.

    Returns
    -------
    Table

    Raises
    ------
    DataError
        If the kind is not supported or the file cannot be read.
    """
    ending = Path(name).suffix.casefold()
    if ending in TEXT:
        return read_text(
            raw,
            name,
            choose,
            wanted=list(mapping.columns.values()),
            encoding=mapping.encoding,
            delimiter=mapping.delimiter,
        )
    if ending in EXCEL:
        wanted = list(mapping.columns.values())
        return read_excel(raw, name, choose, mapping.sheet, wanted)
    if ending in PARQUET:
        return read_parquet(raw, name, choose)
    if ending in OTHERS:
        raise DataError(f"{name!r}: {OTHERS[ending]}.")
    kinds = joined([*TEXT, *EXCEL, *PARQUET], 20)
    raise DataError(f"{name!r} has the ending {ending!r}, which is not known. Known: {kinds}.")
