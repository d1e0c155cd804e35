"""Priors of the state-space families, on parameters that can be read.

Every prior speaks of scores divided by their pooled SD within clients, so that it means the same
whatever the questionnaire: levels around the average score, lagged effects in within SDs per
within SD, the SDs of covariances and their correlations. A covariance is sampled as D R D, the
SDs in D half-normal and R LKJ; its root is what the likelihood takes, so that no change of
variables is left to account for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names
from alliancedyn.engine.dsem_prior import Term
from alliancedyn.engine.dsem_units import within_units
from alliancedyn.engine.likelihood import Likelihood
from alliancedyn.engine.starting import item_moments
from alliancedyn.engine.system import Block, Layout
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.models.design import Design
from alliancedyn.models.nuts import import_pymc
from alliancedyn.models.specification import Specification
from alliancedyn.results import Observed

Array = NDArray[np.float64]
Given = Mapping[str, tuple[Any, ...]]

# What priors= can name: distribution and its numbers.
DEFAULTS: dict[str, tuple[str, float, float]] = {
    "mean": ("normal", 0.0, 5.0),
    "trend": ("normal", 0.0, 5.0),
    "phi": ("normal", 0.0, 0.5),
    "predictor": ("normal", 0.0, 1.0),
    "loading": ("normal", 1.0, 1.0),
    "covariance": ("normal", 0.0, 1.0),
    "sd": ("half-normal", 0.0, 2.0),
    "lkj": ("lkj", 0.0, 2.0),
}
# Which of them a family of parameters follows.
FOLLOWS = {
    "mean": ("mean", "intercept", "item_intercept", "initial_mean"),
    "trend": ("trend", "trend2"),
    "phi": ("phi", "phi2", "step", "ma", "self", "coupling", "drift"),
    "predictor": ("between", "input", "moderation"),
    "loading": ("loading", "unit_loading", "basis"),
    "covariance": ("initial_between_cov",),
}
_KEY = {family: key for key, families in FOLLOWS.items() for family in families}


@dataclass(frozen=True)
class Prior:
    """The priors of one fit.

    Parameters
    ----------
    layout : Layout
        With the units of the priors for scales.
    likelihood : Likelihood
        Whose unconstrained vector is sampled.
    centers : dict of str to array
        Where levels are centered, by block, raw units.
    chosen : mapping
        Distribution and numbers by key.
    """

    layout: Layout
    likelihood: Likelihood
    centers: dict[str, Array]
    chosen: Mapping[str, tuple[str, float, float]]

    @classmethod
    def of(
        cls, spec: Specification, data: Observed, likelihood: Likelihood, given: Given | None
    ) -> Prior:
        """Find units and centers in the data."""
        layout = spec.layout(spec.design(data, _units(spec.design(data), spec, data)))
        start = likelihood.layout.matrices(likelihood.start)
        centers = {}
        for block in layout.blocks:
            if block.family in ("mean", "intercept", "item_intercept", "basis"):
                value = start[block.key].reshape(block.shape[0], -1)
                if block.family != "basis":  # one center for all sessions
                    value = np.broadcast_to(value.mean(axis=0), value.shape)
                centers[block.key] = value.ravel()
        return cls(layout, likelihood, centers, {**DEFAULTS, **_read(given or {})})

    def add_theta(self) -> Any:
        """Add all parameters to the model in context; return the unconstrained vector, (n,)."""
        import pytensor.tensor as pt

        own = {block.key: np.array(block.scale) for block in self.likelihood.layout.blocks}
        parts = []
        for block in self.layout.blocks:
            ratio = np.array(block.scale) / own[block.key]
            if block.kind == "covariance":
                parts += [self._root(block, slot, ratio) for slot in block.slots]
            elif block.kind == "variance":
                parts.append(self._sds(block) * np.tile(ratio, block.shape[0]))
            else:
                parts.append(self._numbers(block, own[block.key]))
        return pt.concatenate([pt.atleast_1d(part) for part in parts])

    def _of(self, family: str) -> tuple[str, float, float]:
        """Return the prior of a family: its own, or that of its kind."""
        return self.chosen.get(family) or self.chosen[_KEY.get(family, "predictor")]

    def _sd(self, family: str) -> float:
        return self.chosen.get(family, self.chosen["sd"])[2]

    def _numbers(self, block: Block, own: Array) -> Any:
        """Add numbers without bounds: z ~ N, raw = center + unit z."""
        pm = import_pymc()
        _, location, scale = self._of(block.family)
        unit, slots = np.array(block.scale), block.shape[0]
        center = self.centers.get(block.key, np.zeros(block.size))
        own = np.tile(own, slots)
        shift, factor = center / own, np.tile(unit, slots) / own
        location = 0.0 if block.family == "basis" else location
        begin = self.likelihood.layout.slices[block.key]
        start = (self.likelihood.start[begin] - shift) / factor
        dim = f"{block.key} of"
        pm.modelcontext(None).add_coord(dim, list(block.names))
        return shift + factor * pm.Normal(block.key, location, scale, dims=dim, initval=start)

    def _sds(self, block: Block) -> Any:
        pm = import_pymc()
        dim = f"{block.key} of"
        pm.modelcontext(None).add_coord(dim, list(block.names))
        begin = self.likelihood.layout.slices[block.key]
        start = np.maximum(np.abs(self.likelihood.start[begin]), 0.1)
        scale = self._sd(block.family)
        return pm.HalfNormal(f"{block.key} SD", scale, dims=dim, initval=start)

    def _root(self, block: Block, slot: int | None, ratio: Array) -> Any:
        """Add a covariance; return the lower triangle of its root, row by row."""
        pm = import_pymc()
        k = block.shape[-1]
        name = f"{block.key} root" + ("" if slot is None else f"@{slot}")
        scale = self._sd(block.family)
        rows, _ = np.tril_indices(k)
        if k == 1:
            return pm.HalfNormal(name, scale) * ratio[rows]
        packed = pm.LKJCholeskyCov(
            name,
            n=k,
            eta=self.chosen["lkj"][2],
            sd_dist=pm.HalfNormal.dist(sigma=scale, shape=k),
            compute_corr=False,
        )
        return packed * ratio[rows]

    def terms(self) -> tuple[Term, ...]:
        """Return the prior of every parameter in raw units, SDs in place of variances."""
        found = []
        for block in self.layout.blocks:
            unit = dict(zip(block.names, np.tile(block.scale, block.shape[0]), strict=False))
            if block.kind == "covariance":
                found += [self._of_covariance(block, name) for name in block.names]
                continue
            center = self.centers.get(block.key, np.zeros(block.size))
            for name, middle in zip(block.names, center.tolist(), strict=True):
                if block.kind == "variance":
                    term = Term(_stem(name, "_sd"), "half-normal", 0.0, self._sd(block.family))
                else:
                    kind, location, scale = self._of(block.family)
                    location = 0.0 if block.family == "basis" else location
                    term = Term(name, kind, location, scale)
                found.append(term.times(float(unit[name]), middle))
        return tuple(found)

    def _of_covariance(self, block: Block, name: str) -> Term:
        _, (a, b), _ = names.parse(name)
        if a != b:
            lkj = self.chosen["lkj"][2]
            return Term(_stem(name, "_corr"), "lkj", 0.0, lkj, block.shape[-1])
        unit = block.scale[block.indices.index(a)]
        term = Term(_stem(name, "_sd"), "half-normal", 0.0, self._sd(block.family))
        return term.times(float(unit))

    def quantities(self, draws: Array) -> Array:
        """Return what has priors at raw parameters (D, n): SDs and correlations of covariances."""
        at = {name: i for i, name in enumerate(self.layout.names)}
        out = draws[:, : len(at)].copy()
        for block in self.layout.blocks:
            if block.kind == "plain":
                continue
            for name in block.names:
                family, of, session = names.parse(name)
                i = at[name]
                if len(of) < 2 or of[0] == of[1]:
                    out[:, i] = np.sqrt(np.maximum(draws[:, i], 0.0))
                    continue
                group = names.group_of(name)
                own = [names.label(family, v, v, session=session, group=group) for v in of]
                spread = np.sqrt(draws[:, at[own[0]]] * draws[:, at[own[1]]])
                out[:, i] = draws[:, i] / spread
        return out


def _stem(name: str, ending: str) -> str:
    """Turn ``between_cov[a,b]`` into ``between_corr[a,b]``, ``measurement_var[a]`` into ..._sd."""
    family, _, rest = name.partition("[")
    own = family.removesuffix("_cov").removesuffix("_var") + ending + "[" + rest
    of, _, tail = own.partition("]")
    first, comma, second = of.partition(",")
    one = comma and first.partition("[")[2] == second
    return f"{first if one else of}]{tail}"


def _units(design: Design, spec: Specification, data: Observed) -> dict[str, float]:
    """Return the within-client SD of every item and series, and the SD of every known number."""
    series = item_moments(data.Y, design.series_of).series
    found = dict(zip(design.items, within_units(data.Y)[1].tolist(), strict=True))
    found |= dict(zip(design.variables, within_units(series)[1].tolist(), strict=True))
    numbers = (*spec.covariates, *spec.moderators)
    found |= dict(zip(numbers, np.std(data.covariates, axis=0).tolist(), strict=True))
    found |= dict(zip(spec.time_varying, np.std(data.inputs, axis=(0, 1)).tolist(), strict=True))
    return {name: value if value > 0.0 else 1.0 for name, value in found.items()}


def _read(given: Given) -> dict[str, tuple[str, float, float]]:
    """Return given priors in the form of the defaults."""
    found = {}
    for family, prior in given.items():
        numbers = tuple(float(x) for x in prior[1:])
        kind = kind_of(family)
        found[family] = (kind, *(numbers if kind == "normal" else (0.0, *numbers)))
    return found  # type: ignore[return-value]


def kind_of(family: str) -> str | None:
    """Return the distribution of a key or family, None if there is no such."""
    if family in DEFAULTS:
        return DEFAULTS[family][0]
    if family in _KEY:
        return "normal"
    ends = ("between_cov", "innovation_cov", "initial_cov", "diffusion_cov", "measurement_var")
    return "half-normal" if family in ends else None


def check_priors(given: Given) -> None:
    """Refuse priors of families that do not exist, or of other distributions.

    Raises
    ------
    SpecificationError
        With what can be named, and how it is written.
    """
    unknown = [family for family in given if kind_of(family) is None]
    if unknown:
        raise SpecificationError(
            f"priors= has no {listed(unknown)}; it can name {listed(DEFAULTS, 9)}, or one family "
            'of parameters such as "phi2" or "between_cov" (its SDs).'
        )
    for family, prior in given.items():
        kind = kind_of(family)
        numbers = prior[1:] if isinstance(prior, tuple | list) else ()
        count = 2 if kind == "normal" else 1
        good = len(numbers) == count and all(isinstance(x, int | float) for x in numbers)
        if not good or str(prior[0]).replace("_", "-") != kind or not 0 < numbers[-1] < np.inf:
            example = ", ".join([repr(kind), *["0.5"] * count])
            raise SpecificationError(
                f"priors[{family!r}] is {prior!r}; write it as ({example}), with a scale above 0."
            )
