"""Turn what users write (numbers, lists, arrays) into checked arrays, or say what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.allowed import numeric
from alliancedyn.engine import var
from alliancedyn.errors import SpecificationError

Array = NDArray[np.float64]

# Eigenvalues this far below zero (relative to the largest variance) are rounding, not a mistake.
PSD_TOLERANCE = 1e-10


def as_array(value: Any, shape: tuple[int, ...], name: str) -> Array:
    """Return ``value`` as a read-only float array of the given shape.

    Raises
    ------
    SpecificationError
        If the value is not numeric, holds NaN or infinity, or has another shape.
    """
    if not numeric(value):
        raise SpecificationError(
            f"{name} must be numbers arranged as {shape}. Pass nested lists or an array."
        )
    array = np.array(value, dtype=np.float64)
    if array.shape != shape:
        raise SpecificationError(
            f"{name} has shape {array.shape}, expected {shape}. "
            "Pass nested lists or an array of that shape."
        )
    if not np.isfinite(array).all():
        raise SpecificationError(f"{name} holds NaN or infinity. Give finite numbers.")
    array += 0.0  # turns -0.0 into 0.0, so that equal values have equal bytes and hashes
    array.flags.writeable = False
    return array


def as_covariance(value: Any, size: int, name: str) -> Array:
    """Return ``value`` as a read-only symmetric positive semidefinite (size, size) array."""
    array = as_array(value, (size, size), name)
    scale = max(float(np.abs(array).max()), 1e-300)
    if np.abs(array - array.T).max() > PSD_TOLERANCE * scale:
        raise SpecificationError(
            f"{name} is not symmetric. Write each covariance on both sides of the diagonal."
        )
    if np.linalg.eigvalsh(array).min() < -PSD_TOLERANCE * scale:
        raise SpecificationError(
            f"{name} is not a covariance matrix: its smallest eigenvalue is "
            f"{np.linalg.eigvalsh(array).min():.4g}. "
            "Variances must be non-negative and correlations between -1 and 1."
        )
    return array


def as_count(value: Any, smallest: int, name: str, *, largest: int | None = None) -> int:
    """Return ``value`` as an int of at least ``smallest`` (and at most ``largest``)."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise SpecificationError(f"{name} must be a whole number, not {value!r}.")
    if value < smallest:
        raise SpecificationError(f"{name} must be at least {smallest}, not {value}.")
    if largest is not None and value > largest:
        raise SpecificationError(f"{name} must be at most {largest}, not {value}.")
    return int(value)


def as_number(value: Any, name: str) -> float:
    """Return ``value`` as a finite float."""
    return float(as_array(value, (), name))


def as_share(value: Any, name: str) -> float:
    """Return ``value`` as a share from 0 up to, not including, 1."""
    share = as_number(value, name)
    if not 0.0 <= share < 1.0:
        raise SpecificationError(
            f"{name} must be at least 0 and below 1, not {share:g}. "
            "It is a share, not a percentage."
        )
    return share


def as_choice(value: Any, choices: Sequence[str], name: str) -> str:
    """Return ``value`` if it is one of ``choices``."""
    if value not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        raise SpecificationError(f"{name}={value!r} is not known. Use one of {known}.")
    return str(value)


def as_rows(value: Any, name: str) -> tuple[tuple[float, ...], ...]:
    """Return a two-dimensional array-like as nested tuples, which compare and hash by value."""
    if not numeric(value):
        raise SpecificationError(f"{name} must be a table of numbers.")
    array = np.array(value, dtype=np.float64)
    if array.ndim != 2 or array.size == 0 or not np.isfinite(array).all():
        raise SpecificationError(
            f"{name} must be a table of finite numbers, one column per series."
        )
    return tuple(tuple(row) for row in (array + 0.0).tolist())


def as_lag_sds(value: Any, k: int) -> Array:
    """Return the standard deviations of client-specific lags, (k, k), none negative."""
    sds = as_array(value, (k, k), "phi_sd")
    if (sds < 0.0).any():
        raise SpecificationError("phi_sd holds standard deviations: they must not be negative.")
    return sds


def as_reliabilities(value: Any, k: int) -> Array:
    """Return one reliability in (0, 1] per series; one number serves all, None means 1."""
    value = 1.0 if value is None else value
    shares = as_array(np.full(k, value) if np.ndim(value) == 0 else value, (k,), "reliability")
    if (shares <= 0.0).any() or (shares > 1.0).any():
        raise SpecificationError(
            "reliability must be above 0 and at most 1. It is the share of the within-client "
            "variance that is not measurement error."
        )
    return shares


def refuse_explosive(phi: Array) -> None:
    """Raise SpecificationError unless the process of lag matrix ``phi`` settles."""
    radius = var.spectral_radius(phi)
    if not radius < 1.0:
        raise SpecificationError(
            f"phi is explosive: its spectral radius is {radius:.3f} and must be below 1. "
            "Make the lagged effects smaller."
        )


def factor(cov: Array) -> Array:
    """Return the lower triangular L with L L' = cov, also where cov is only semidefinite.

    Written out (k is small) so that a singular covariance is allowed and the result does not
    depend on which LAPACK is installed.

    Parameters
    ----------
    cov : (..., k, k) array, squared score points
        Symmetric positive semidefinite.

    Returns
    -------
    (..., k, k) array, score points
        A direction without variance has a column of zeros.
    """
    size = cov.shape[-1]
    lower = np.zeros_like(cov)
    floor = PSD_TOLERANCE * np.abs(cov).max(axis=(-2, -1), initial=0.0)
    for j in range(size):
        pivot = cov[..., j, j] - (lower[..., j, :j] ** 2).sum(axis=-1)
        root = np.sqrt(np.where(pivot > floor, pivot, 0.0))
        lower[..., j, j] = root
        safe = np.where(root > 0.0, root, 1.0)
        for i in range(j + 1, size):
            rest = cov[..., i, j] - (lower[..., i, :j] * lower[..., j, :j]).sum(axis=-1)
            lower[..., i, j] = np.where(root > 0.0, rest / safe, 0.0)
    return lower


def as_vector(value: Any, name: str) -> tuple[float, ...]:
    """Return one number per series as a tuple, which compares and hashes by value."""
    return tuple(as_array(value, (max(np.size(value), 1),), name).tolist())


def as_paths(value: Any, name: str) -> tuple[tuple[str, str, float], ...]:
    """Return changes of lagged effects, each (target, source, change), as tuples."""
    try:
        paths = tuple((target, source, size) for target, source, size in value)
    except (TypeError, ValueError):
        raise SpecificationError(
            f'{name} must list changes of lagged effects: [("target", "source", 0.1)].'
        ) from None
    return tuple(
        (str(target), str(source), as_number(size, name)) for target, source, size in paths
    )


def as_several(value: Any, kind: type, name: str) -> tuple[Any, ...]:
    """Return a sequence of values of one kind as a tuple; a single one is a sequence of one."""
    values = (value,) if isinstance(value, kind) else value
    if not isinstance(values, Sequence) or any(not isinstance(one, kind) for one in values):
        raise SpecificationError(f"{name} must be a list of {kind.__name__}(...).")
    return tuple(values)
