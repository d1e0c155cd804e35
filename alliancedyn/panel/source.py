"""The bytes of a file on disk: regular, of a size that can be read, or refused by name."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from alliancedyn.errors import DataError

MEGABYTE = 2**20
LARGEST_EXPORT, LARGEST_TOML = 256 * MEGABYTE, MEGABYTE
DEEPEST = 20  # tables and lists within one another
TOO_DEEP = "its tables are nested too deeply"


def read_bytes(path: Path, largest: int = LARGEST_EXPORT) -> bytes:
    """Read a regular file whole.

    Parameters
    ----------
    path : Path
    largest : int, bytes
        A larger file is refused.

    Returns
    -------
    bytes

    Raises
    ------
    FileNotFoundError
        If there is none.
    DataError
        If it is a folder, a device or a pipe, larger than that, or cannot be read.
    """
    name = path.name or str(path)
    try:
        if path.is_dir():
            raise DataError(f"{name!r} is a folder. Pass the path of one file.")
        if path.exists() and not path.is_file():  # a pipe or device may never end
            raise DataError(f"{name!r} is a pipe or a device, not a file. Save it as a file first.")
        size = path.stat().st_size
        with path.open("rb") as file:
            raw = file.read(largest + 1) if size <= largest else b""
    except (FileNotFoundError, DataError):
        raise
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise DataError(f"{name!r} cannot be read: {reason}. Is it open elsewhere?") from None
    if max(size, len(raw)) > largest:
        raise DataError(
            f"{name!r} is larger than {largest // MEGABYTE:,} MB, too large for a file of its "
            "kind. Export only the columns and rows that are needed."
        )
    return raw


def parse_toml(raw: bytes) -> dict[str, Any]:
    """Read TOML; whatever is wrong with it is a ValueError whose text says what.

    Raises
    ------
    ValueError
        If it is no TOML, or nothing that a person wrote.
    """
    try:
        values = tomllib.loads(raw.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # Python reads no whole numbers of more than 4,300 digits
        raise ValueError("it holds a number of thousands of digits") from None
    inside: list[Any] = [values]  # how deep Python goes by itself is not the same everywhere
    for _ in range(DEEPEST):
        inside = [
            one
            for value in inside
            if isinstance(value, dict | list)
            for one in (value.values() if isinstance(value, dict) else value)
        ]
    if inside:
        raise ValueError(TOO_DEEP)
    return values
