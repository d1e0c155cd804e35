"""Canonical parameter names, and the matrices that parameters spell out.

A name is ``family[index,...]``, then ``@session`` if the value is one session's, then
``|group=value`` if it is one group's: ``phi[symptoms,alliance]@3|arm=1``. Rows are outcomes,
columns predictors. Covariances are symmetric and named once, indices in panel order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from alliancedyn.errors import SpecificationError, listed

Array = NDArray[np.float64]

_NAME = re.compile(
    r"(?P<family>[A-Za-z_]\w*)(?:\[(?P<indices>[^\[\]]+)\])?(?:@(?P<session>-?\d+))?"
    r"(?:\|(?P<group>[^|]+))?"
)
_RESERVED = set("[],@|")


def label(
    family: str, *indices: str | int, session: int | None = None, group: str | None = None
) -> str:
    """Spell a canonical name: ``label("phi", "symptoms", "alliance", session=3)``.

    Raises
    ------
    SpecificationError
        If an index holds one of the characters that structure a name.
    """
    return _label(family, tuple(map(str, indices)), session, group)


# Cached, as all below: the delta method and draws spell the same names thousands of times.
@lru_cache(maxsize=4096)
def _label(family: str, words: tuple[str, ...], session: int | None, group: str | None) -> str:
    bad = [word for word in words if not word or _RESERVED & set(word)]
    if bad:
        raise SpecificationError(
            f"Names in a model cannot be empty or hold any of [ ] , @ |; found {listed(bad)}. "
            "Rename the variable."
        )
    name = f"{family}[{','.join(words)}]" if words else family
    if session is not None:
        name += f"@{int(session)}"
    return name if group is None else f"{name}|{group}"


@lru_cache(maxsize=4096)
def parse(name: str) -> tuple[str, tuple[str, ...], int | None]:
    """Take a canonical name apart into family, indices and session (None if for all sessions).

    Raises
    ------
    SpecificationError
        If ``name`` is not a canonical name.
    """
    match = _match(name)
    indices = tuple(match["indices"].split(",")) if match["indices"] else ()
    session = None if match["session"] is None else int(match["session"])
    return match["family"], indices, session


@lru_cache(maxsize=4096)
def group_of(name: str) -> str | None:
    """Return the group part of a canonical name (``arm=1``), None if it has none."""
    group: str | None = _match(name)["group"]
    return group


def _match(name: str) -> re.Match[str]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise SpecificationError(
            f"{name!r} is not a parameter name. "
            "Write family[indices]@session, for example phi[symptoms,alliance]@3."
        )
    return match


def matrix_labels(
    family: str,
    rows: Sequence[str],
    columns: Sequence[str],
    session: int | None = None,
    group: str | None = None,
) -> list[str]:
    """Name every element of a matrix, row by row."""
    return list(_matrix_labels(family, tuple(rows), tuple(columns), session, group))


def symmetric_labels(
    family: str, variables: Sequence[str], session: int | None = None, group: str | None = None
) -> list[str]:
    """Name the distinct elements of a symmetric matrix: upper triangle, row by row."""
    return list(_symmetric_labels(family, tuple(variables), session, group))


@lru_cache(maxsize=4096)
def _matrix_labels(
    family: str,
    rows: tuple[str, ...],
    columns: tuple[str, ...],
    session: int | None,
    group: str | None,
) -> tuple[str, ...]:
    return tuple(
        label(family, row, column, session=session, group=group)
        for row in rows
        for column in columns
    )


@lru_cache(maxsize=4096)
def _symmetric_labels(
    family: str, variables: tuple[str, ...], session: int | None, group: str | None
) -> tuple[str, ...]:
    return tuple(
        label(family, row, column, session=session, group=group)
        for i, row in enumerate(variables)
        for column in variables[i:]
    )


def sessions_of(names: Iterable[str], family: str) -> tuple[int, ...]:
    """Return the sessions for which ``family`` has values of its own, ascending."""
    start = f"{family}["
    found = {parse(name)[2] for name in names if name.startswith(start)}
    return tuple(sorted(session for session in found if session is not None))


def matrix(
    params: Mapping[str, float],
    family: str,
    rows: Sequence[str],
    columns: Sequence[str],
    session: int | None = None,
    group: str | None = None,
) -> Array:
    """Collect ``family[row,column]`` into an array (rows, columns).

    Raises
    ------
    SpecificationError
        If an element is not among the parameters.
    """
    names = matrix_labels(family, rows, columns, session, group)
    return collect(params, names).reshape(len(rows), len(columns))


def symmetric_matrix(
    params: Mapping[str, float],
    family: str,
    variables: Sequence[str],
    session: int | None = None,
    group: str | None = None,
) -> Array:
    """Collect a covariance ``family[i,j]`` (k, k) from the elements named once.

    Raises
    ------
    SpecificationError
        If an element is not among the parameters.
    """
    values = collect(params, symmetric_labels(family, variables, session, group))
    k = len(variables)
    full = np.empty((k, k))
    upper = _upper(k)
    full[upper] = values
    full.T[upper] = values
    return full


@lru_cache
def _upper(k: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(k)


def collect(params: Mapping[str, float], names: Sequence[str]) -> Array:
    """Return the values of the named parameters.

    Raises
    ------
    SpecificationError
        If one is not among the parameters.
    """
    missing = [name for name in names if name not in params]
    if missing:
        raise SpecificationError(
            f"The model has no parameter {listed(missing)}. See fit.params for those it has."
        )
    return np.array([params[name] for name in names], dtype=float)
