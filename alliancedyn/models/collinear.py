"""Covariates that say the same: their effects cannot be told apart, whatever the scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alliancedyn.errors import SpecificationError, listed

Array = NDArray[np.float64]

DEPENDENT = 1e-9  # length of what a covariate adds to those before it, SDs
SOME = 1e-6  # weight, SDs per SD, of a covariate that another is made of


def refuse_collinear(X: Array, names: tuple[str, ...], what: str = "covariate") -> None:
    """Refuse numbers (n, c) of which one is a weighted sum of the others plus a number.

    Parameters
    ----------
    X : (n, c)
        Numbers of every client, or of every client and session; NaN = unknown.
    names : tuple of str
        What they are called.
    what : str
        What readers call them.

    Raises
    ------
    SpecificationError
        With the names and the remedy.
    """
    X = X[~np.isnan(X).any(axis=1)]
    if X.shape[1] < 2 or len(X) <= X.shape[1]:
        return
    around = X - X.mean(axis=0)
    sd = around.std(axis=0)
    unit = around / np.where(sd > 0.0, sd, 1.0) / np.sqrt(len(X))
    own = np.abs(np.diag(np.linalg.qr(unit, mode="r")))
    last = np.flatnonzero((own <= DEPENDENT) & (sd > 0.0))
    if not len(last):
        return
    j = int(last[0])
    weights = np.linalg.lstsq(unit[:, :j], unit[:, j], rcond=1e-12)[0]
    others = [names[i] for i in np.flatnonzero(np.abs(weights) > SOME)]
    raise SpecificationError(
        f"The {what} {names[j]!r} is nothing but {listed(others, 8)}"
        f"{' times a number' if len(others) == 1 else ', weighted and summed,'} plus a number: "
        "their effects cannot be told apart. Leave one of them out."
    )
