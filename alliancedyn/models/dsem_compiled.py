"""Open models compiled once and sampled with the scores of many panels.

Compiling takes most of a minute, sampling often a second. Scores are data of the compiled code and
not part of it, so that studies of many panels of one design compile once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.dsem import DsemData, DsemShape, Priors
from alliancedyn.models.nuts import Compiled

if TYPE_CHECKING:
    import pymc

KEPT = 4  # models whose compiled code is kept


@dataclass(frozen=True)
class Structure:
    """What compiled code depends on: panels that agree in it are sampled by the same code.

    Parameters
    ----------
    shape, priors, innovations, measurement
        As in :func:`alliancedyn.models.dsem_open.build_model`.
    size : tuple of int
        Clients, sessions, series, therapists.
    known : tuple of bytes
        Arrays that are constants of the code: in the marginal model the common course and error
        variances, in the explicit one also predictors, therapists and which scores were seen.
    build : callable
        Returns the model of the panel at hand, and what is kept of its draws.
    """

    shape: DsemShape
    priors: Priors
    innovations: Literal["normal", "student"]
    measurement: Literal["known", "free"]
    size: tuple[int, ...]
    known: tuple[bytes, ...]
    build: Callable[[], tuple[pymc.Model, list[str]]] = field(compare=False, repr=False)

    @classmethod
    def of(
        cls,
        data: DsemData,
        shape: DsemShape,
        priors: Priors,
        innovations: Literal["normal", "student"],
        measurement: Literal["known", "free"],
        marginal: bool,
        build: Callable[[], tuple[pymc.Model, list[str]]],
    ) -> Structure:
        """Read what code for these data depends on."""
        therapist = np.zeros(1, np.int64) if data.therapist is None else data.therapist
        known: list[NDArray[Any]] = [data.course, data.measurement_var]
        if not marginal:
            known += [data.predictors, therapist, np.isnan(data.Y), data.moderators]
        size = (*data.Y.shape, int(therapist.max()) + 1)
        constants = tuple(np.ascontiguousarray(one).tobytes() for one in known)
        return cls(shape, priors, innovations, measurement, size, constants, build)


@lru_cache(maxsize=KEPT)
def compiled(structure: Structure) -> Compiled:
    """Return the compiled model, made anew only if no panel like this one came lately."""
    return Compiled.of(*structure.build())
