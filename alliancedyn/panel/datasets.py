"""The bundled data sets: synthetic, documented, available offline.

Each is a raw export with its flaws, a mapping that reads it, the true parameters it was simulated
from and a description. No person stands behind any row.

Examples
--------
>>> import alliancedyn as ad
>>> panel = ad.datasets.load("example")
>>> print(ad.datasets.describe("example"))
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from alliancedyn.checking import checked
from alliancedyn.errors import DataError, listed, nearest

if TYPE_CHECKING:
    from alliancedyn.panel import SessionPanel

_DATA = Path(__file__).resolve().parent.parent / "data"
_NAMES = ("example", "trial")

__all__ = ["describe", "load", "mapping_path", "names", "path", "truth"]


@checked
def names() -> list[str]:
    """Return the names of the bundled data sets."""
    return list(_NAMES)


@checked
def load(name: str) -> SessionPanel:
    """Read a bundled data set as anybody would read the export: with its mapping file.

    Parameters
    ----------
    name : str
        One of `names`.

    Returns
    -------
    SessionPanel
        What was wrong with the export stands in ``panel.issues``.

    Raises
    ------
    DataError
        If there is no such data set.
    """
    from alliancedyn.panel import read_sessions

    return read_sessions(path(name), mapping=mapping_path(name))


@checked
def path(name: str) -> Path:
    """Return where the raw export (CSV) lies."""
    return _file(name, ".csv")


@checked
def mapping_path(name: str) -> Path:
    """Return where the mapping file (TOML) lies."""
    return _file(name, ".toml")


@checked
def describe(name: str) -> str:
    """Return the description (Markdown): columns, planted flaws and the truth behind them."""
    return _file(name, ".md").read_text(encoding="utf-8")


@checked
def truth(name: str) -> pd.Series:
    """Return the parameters that the data set was simulated from, by the names that fits use.

    Returns
    -------
    Series
        Of the scores before rounding and ceilings; ``between_cov`` counts all that is stable in a
        client, therapists and covariates included.

    Examples
    --------
    >>> fit.table().join(ad.datasets.truth("example"))
    """
    table = pd.read_csv(_file(name, "_truth.csv"), index_col="parameter")
    return table["true"]


def _file(name: str, ending: str) -> Path:
    if name not in _NAMES:
        known = f"{listed(_NAMES)}.{nearest(name, _NAMES)}"
        raise DataError(f"There is no bundled data set {name!r}. There are {known}")
    return _DATA / f"{name}{ending}"
