"""Run a PyMC model: nutpie, PyMC's own sampler, or a quick look around its mode.

PyMC and nutpie load inside functions only, so that importing the package stays fast.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.laplace import laplace
from alliancedyn.errors import SpecificationError

if TYPE_CHECKING:
    import pymc

Array = NDArray[np.float64]
Sampler = Literal["nutpie", "pymc", "laplace"]

SAMPLERS = ("nutpie", "pymc", "laplace")
PROPOSALS = 4  # draws of the quick look for every draw that is kept


@dataclass(frozen=True)
class Drawn:
    """Draws of some quantities of a model.

    Parameters
    ----------
    values : mapping of str to array (chains, draws, ...)
        By name of the quantity. The quick look has one chain.
    statistics : mapping of str to array (chains, draws)
        "diverging" and "energy" of the samplers, "pareto_k" (1, 1) of the quick look.
    seconds : float
        Of sampling, without compilation.
    """

    values: Mapping[str, Array]
    seconds: float
    statistics: Mapping[str, Array] = field(default_factory=dict)


def import_pymc() -> Any:
    """Import PyMC without ArviZ's daily word about its own next version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import pymc

    return pymc


@dataclass(frozen=True, eq=False)
class Shown:
    """How PyMC prints one of its variables, in a form that plain pickle takes.

    PyMC hangs methods made of ``functools.partial`` on every variable. Pickle looks methods up by
    the name of their function, which a partial has not, so that no PyMC model could be pickled.
    """

    __func__: partial[str]
    of: Any

    def __call__(self, *args: Any, **options: Any) -> str:
        """Print the variable."""
        return self.__func__(self.of, *args, **options)


def picklable(model: pymc.Model) -> pymc.Model:
    """Return the model after making it fit for `pickle`, and not for cloudpickle alone."""
    for one in (model, *model.named_vars.values()):
        for name, method in list(vars(one).items()):
            if isinstance(method, MethodType):
                function: Any = method.__func__
                known = function if isinstance(function, partial) else partial(function)
                setattr(one, name, Shown(known, one))
    return model


def draw_rounds(
    model: pymc.Model,
    keep: Sequence[str],
    *,
    sampler: Sampler,
    totals: Sequence[int],
    tune: int,
    chains: int,
    seed: int | None,
    jitter: bool = True,
) -> Iterator[Drawn]:
    """Draw from a model, in ever longer chains; only what is named is kept.

    Gradient samplers cannot take a chain up again. The next round runs the same chains anew from
    the same seed, for longer.

    Parameters
    ----------
    model : pymc.Model
    keep : sequence of str
        Random variables and deterministics.
    sampler : {"nutpie", "pymc", "laplace"}
    totals : sequence of int
        Draws per chain of each round. The quick look returns chains times draws as one chain.
    tune, chains : int
        Per chain.
    seed : int, optional
        For the same draws again.
    jitter : bool
        Whether chains start around the initial values, or at them: far from them some processes
        do not exist.

    Raises
    ------
    SpecificationError
        If there is no such sampler.
    ConvergenceError
        If the quick look finds no mode.
    """
    if sampler not in SAMPLERS:
        raise SpecificationError(f"sampler is {sampler!r}; choose 'nutpie', 'pymc' or 'laplace'.")
    seed = _seeded(seed)
    if sampler == "laplace":
        for total in totals:
            yield _around_mode(model, keep, total * chains, seed)
        return
    code = _compiled(model, keep, jitter) if sampler == "nutpie" else None
    for total in totals:
        if code is not None:
            data, seconds = _run(code, total, tune, chains, seed)
        else:
            data, seconds = _by_pymc(model, list(keep), total, tune, chains, seed, jitter)
        yield _drawn(data, keep, seconds)


def _seeded(seed: int | None) -> int:
    """Return the seed, or a fresh one that the samplers take."""
    return int(np.random.SeedSequence().generate_state(1)[0] // 2) if seed is None else seed


def _drawn(data: Any, keep: Sequence[str], seconds: float) -> Drawn:
    values = {name: np.asarray(data.posterior[name], float) for name in keep}
    kept = {name: data.sample_stats[name] for name in ("diverging", "energy")}
    statistics = {name: np.asarray(value, float) for name, value in kept.items()}
    return Drawn(values, seconds, statistics)


@dataclass(frozen=True, eq=False)
class Compiled:
    """A model compiled for nutpie once, to be sampled with any data of the same shapes.

    Parameters
    ----------
    model : pymc.Model
        Its ``pm.Data`` can be exchanged.
    keep : tuple of str
        What is kept of every draw.
    code : nutpie's compiled model
    """

    model: Any
    keep: tuple[str, ...]
    code: Any

    @classmethod
    def of(cls, model: pymc.Model, keep: Sequence[str]) -> Compiled:
        """Compile a model."""
        return cls(model, tuple(keep), _compiled(model, keep, jitter=True))

    def draw_rounds(
        self,
        data: Mapping[str, NDArray[Any]],
        *,
        totals: Sequence[int],
        tune: int,
        chains: int,
        seed: int | None,
    ) -> Iterator[Drawn]:
        """Draw from the posterior given these data; see `draw_rounds`."""
        seed = _seeded(seed)
        for total in totals:
            import_pymc().set_data(dict(data), model=self.model)  # where chains start
            found, seconds = _run(self.code.with_data(**data), total, tune, chains, seed)
            yield _drawn(found, self.keep, seconds)


def _compiled(model: Any, keep: Sequence[str], jitter: bool) -> Any:
    import_pymc()
    import nutpie

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba, about code that it compiles
        return nutpie.compile_pymc_model(
            model, var_names=list(keep), jitter_rvs=None if jitter else set()
        )


def _run(code: Any, draws: int, tune: int, chains: int, seed: int) -> tuple[Any, float]:
    import nutpie

    began = time.perf_counter()
    data = nutpie.sample(
        code, draws=draws, tune=tune, chains=chains, seed=seed, progress_bar=False,
        save_warmup=False, cores=min(chains, os.cpu_count() or 1),
    )  # fmt: skip
    return data, time.perf_counter() - began


def _by_pymc(
    model: Any, keep: list[str], draws: int, tune: int, chains: int, seed: int, jitter: bool
) -> tuple[Any, float]:
    pm = import_pymc()
    with warnings.catch_warnings(), model:
        warnings.simplefilter("ignore")
        data = pm.sample(
            draws=draws, tune=tune, chains=chains, cores=min(chains, os.cpu_count() or 1),
            random_seed=seed, progressbar=False, quiet=True, compute_convergence_checks=False,
            var_names=keep, init="auto" if jitter else "adapt_diag",
        )  # fmt: skip
    return data, float(data.posterior.attrs["sampling_time"])


def _around_mode(model: Any, keep: Sequence[str], size: int, seed: int) -> Drawn:
    """Weigh draws from around the mode, and return as many of equal weight."""
    pm = import_pymc()
    rng = np.random.default_rng(seed)
    with warnings.catch_warnings(), model:
        warnings.simplefilter("ignore")
        density = model.logp_dlogp_function(ravel_inputs=True)
        density.set_extra_values({})
        values = model.value_vars
        back = model.compile_fn(
            model.replace_rvs_by_values([model[name] for name in keep]),
            inputs=values, point_fn=False, on_unused_input="ignore",
        )  # fmt: skip
        start = pm.blocking.DictToArrayBijection.map(
            {one.name: model.initial_point()[one.name] for one in values}
        )
        began = time.perf_counter()
        found = laplace(_split(density), start.data, PROPOSALS * size, rng)
        points = found.resample(size, rng)
        rows = [back(*_unravel(point, start.point_map_info)) for point in points]
    out = {name: np.stack([row[i] for row in rows])[None] for i, name in enumerate(keep)}
    return Drawn(out, time.perf_counter() - began, {"pareto_k": np.array([[found.pareto_k]])})


def _split(density: Any) -> Any:
    """Return value and gradient as plain numbers."""

    def one(theta: Array) -> tuple[float, Array]:
        value, gradient = density(theta)
        return float(value), np.asarray(gradient, float)

    return one


def _unravel(point: Array, info: Any) -> list[Array]:
    """Cut a vector into the values of the model."""
    parts, first = [], 0
    for _, shape, size, dtype in info:
        parts.append(point[first : first + size].reshape(shape).astype(dtype))
        first += size
    return parts
