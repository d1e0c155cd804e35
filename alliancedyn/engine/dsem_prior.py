"""The priors of the two-level dynamic model as distributions: terms, draws, log density.

Every prior is on a quantity that can be read: a mean, a lagged effect, an SD, a correlation. What
is stored are covariances, so quantities are taken from the draws and put back into them here.

References
----------
Lewandowski, D., Kurowicka, D., & Joe, H. (2009). Generating random correlation matrices based on
vines and extended onion method. Journal of Multivariate Analysis, 100, 1989-2001.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi

import numpy as np
from numpy.typing import NDArray
from scipy.special import beta, gammaln

from alliancedyn.engine import names
from alliancedyn.engine.dsem import DsemShape, Priors

Array = NDArray[np.float64]

COVARIANCES = ("between_cov", "therapist_cov", "innovation_cov", "initial_cov")


@dataclass(frozen=True)
class Term:
    """The prior of one quantity.

    Parameters
    ----------
    label : str
        Canonical name of a parameter, or ``between_sd[a]``, ``between_corr[a,b]``, ... of what
        is stored as a covariance.
    kind : str
        "normal", "half-normal", "lkj", "gamma" or "beta".
    location, scale : float
        Of a normal; of a half-normal the scale alone; of correlations the scale is the LKJ shape;
        of a gamma its shape and its rate; of a beta its lower end and how far the upper is.
    size : int
        Rows of the correlation matrix; 1 of anything else.
    shape : (float, float)
        Of a beta.
    """

    label: str
    kind: str
    location: float
    scale: float
    size: int = 1
    shape: tuple[float, float] = (1.0, 1.0)

    def density(self, x: Array) -> Array:
        """Return the marginal density at any values."""
        x = np.asarray(x, float)
        if self.kind == "lkj":  # of one correlation of a p x p matrix: Beta on (-1, 1)
            b = self.scale - 1.0 + self.size / 2.0
            inside = np.clip(1.0 - x**2, 0.0, None)
            return np.asarray(inside ** (b - 1.0) / beta(0.5, b))
        if self.kind == "gamma":
            a, rate = self.location, self.scale
            positive = np.maximum(x, np.finfo(float).tiny)
            logs = a * np.log(rate) - gammaln(a) + (a - 1.0) * np.log(positive) - rate * positive
            return np.asarray(np.where(x >= 0.0, np.exp(logs), 0.0))
        z = (x - self.location) / self.scale
        if self.kind == "beta":
            a, b = self.shape
            inside = np.where((z > 0.0) & (z < 1.0), z, np.nan)
            powers = inside ** (a - 1.0) * (1.0 - inside) ** (b - 1.0)
            return np.asarray(np.nan_to_num(powers) / (beta(a, b) * self.scale))
        normal = np.exp(-0.5 * z * z) / (self.scale * np.sqrt(2.0 * pi))
        if self.kind == "half-normal":
            return np.asarray(np.where(x >= 0.0, 2.0 * normal, 0.0))
        return np.asarray(normal)

    @property
    def lower(self) -> float:
        """Least possible value."""
        known = {"half-normal": 0.0, "lkj": -1.0, "gamma": 0.0, "beta": self.location}
        return known.get(self.kind, -np.inf)

    @property
    def upper(self) -> float:
        """Largest possible value."""
        known = {"lkj": 1.0, "beta": self.location + self.scale}
        return known.get(self.kind, np.inf)

    def times(self, factor: float, shift: float = 0.0) -> Term:
        """Return the prior of shift + factor times the quantity."""
        if self.kind in ("lkj", "gamma"):
            return self
        moved = shift + factor * self.location, factor * self.scale
        return Term(self.label, self.kind, *moved, shape=self.shape)

    def __str__(self) -> str:
        if self.kind == "lkj":
            return f"LKJ({self.scale:g})"
        if self.kind == "gamma":
            return f"gamma({self.location:g}, {self.scale:g})"
        if self.kind == "half-normal":
            return f"half-normal({self.scale:.3g})"
        if self.kind == "beta":
            a, b = self.shape
            ends = f"{self.location:.3g} to {self.location + self.scale:.3g}"
            return f"beta({a:g}, {b:g}) from {ends}"
        return f"normal({self.location:.3g}, {self.scale:.3g})"


def terms(shape: DsemShape, priors: Priors) -> tuple[Term, ...]:
    """Return the prior of every quantity, SDs and correlations in place of covariances."""
    normal = {
        "mean": priors.mean,
        "trend": priors.trend,
        "session": priors.trend,
        "phi": priors.phi,
        "same": priors.same,
        **dict.fromkeys(("predictor", "moderation", "input"), priors.effect),
    }
    half = {
        "phi_sd": priors.phi_sd,
        "same_sd": priors.same_sd,
        "log_innovation_sd": priors.log_innovation_sd,
    }
    k, found = len(shape.variables), []
    for name in shape.parameter_names():
        family, of, _ = names.parse(name)
        if family in normal:
            found.append(Term(name, "normal", *normal[family]))
        elif family in half:
            found.append(Term(name, "half-normal", 0.0, half[family]))
        elif family == "random_corr":
            found.append(Term(name, "lkj", 0.0, priors.lkj, len(shape.effects)))
        elif family.endswith("_cov"):
            joint = shape.correlated and family == "between_cov"
            size = len(shape.effects) if joint else k
            if family == "between_cov" and not joint:
                size = len(shape.stable)
            found.append(_of_covariance(family, of, priors, size))
    return tuple(found)


def _of_covariance(family: str, of: tuple[str, ...], priors: Priors, size: int) -> Term:
    stem = family.removesuffix("_cov")
    if of[0] == of[1]:
        scale = priors.trend_sd if of[0].endswith(".trend") else priors.sd
        return Term(names.label(f"{stem}_sd", of[0]), "half-normal", 0.0, scale)
    return Term(names.label(f"{stem}_corr", *of), "lkj", 0.0, priors.lkj, size)


def quantities(shape: DsemShape, draws: Array) -> Array:
    """Return the quantities of `terms` at draws (..., n), in their order and number."""
    at = {name: i for i, name in enumerate(shape.parameter_names())}
    out = np.array(draws, float)
    for name, i in at.items():
        family, of, _ = names.parse(name)
        if not family.endswith("_cov"):
            continue
        first, second = (draws[..., at[names.label(family, v, v)]] for v in of)
        if of[0] == of[1]:
            out[..., i] = np.sqrt(np.maximum(first, 0.0))
        else:
            spread = np.sqrt(np.maximum(first * second, 0.0))
            out[..., i] = np.divide(
                draws[..., i], spread, out=np.zeros(spread.shape), where=spread > 0.0
            )
    return out


def stored(shape: DsemShape, values: Array) -> Array:
    """Turn SDs and correlations (..., n) back into what is stored; undoes `quantities`."""
    at = {name: i for i, name in enumerate(shape.parameter_names())}
    out = np.array(values, float)
    for name, i in at.items():
        family, of, _ = names.parse(name)
        if family.endswith("_cov"):
            first, second = (values[..., at[names.label(family, v, v)]] for v in of)
            out[..., i] = first * second * (1.0 if of[0] == of[1] else values[..., i])
    return out


def prior_draws(shape: DsemShape, priors: Priors, size: int, rng: np.random.Generator) -> Array:
    """Draw all parameters from their priors, (size, n), on the scale of the priors."""
    values = np.empty((size, len(shape.parameter_names())))
    for j, term in enumerate(terms(shape, priors)):
        drawn = rng.standard_normal(size)
        if term.kind == "half-normal":
            values[:, j] = term.scale * np.abs(drawn)
        elif term.kind == "normal":
            values[:, j] = term.location + term.scale * drawn
    for places in _matrices(shape):
        p = 1 + max(b for _, b, _ in places)
        R = lkj_draws(p, priors.lkj, size, rng)
        for a, b, j in places:
            values[:, j] = R[:, a, b]
    return stored(shape, values)


def log_prior(shape: DsemShape, priors: Priors, draws: Array) -> Array:
    """Return the log density (D,) of draws (D, n), of the quantities that have priors.

    On SDs and correlations, without a Jacobian; up to a constant.
    """
    values = quantities(shape, draws)
    total = np.zeros(len(values))
    for j, term in enumerate(terms(shape, priors)):
        if term.kind != "lkj":
            z = (values[:, j] - term.location) / term.scale
            total -= 0.5 * z * z + log(term.scale)
    for places in _matrices(shape):
        p = 1 + max(b for _, b, _ in places)
        R = np.broadcast_to(np.eye(p), (len(values), p, p)).copy()
        for a, b, j in places:
            R[:, a, b] = R[:, b, a] = values[:, j]
        total += (priors.lkj - 1.0) * np.linalg.slogdet(R)[1]
    return total


def lkj_draws(p: int, eta: float, size: int, rng: np.random.Generator) -> Array:
    """Draw correlation matrices (size, p, p) of density det(R)^(eta - 1), by the C-vine."""
    L = np.zeros((size, p, p))
    L[:, 0, 0] = 1.0
    left = np.ones((size, p))  # what earlier columns leave of a row's unit length
    for a in range(p - 1):
        b = eta + (p - 2 - a) / 2.0
        partial = 2.0 * rng.beta(b, b, (size, p - 1 - a)) - 1.0
        L[:, a + 1 :, a] = partial * np.sqrt(left[:, a + 1 :])
        left[:, a + 1 :] *= 1.0 - partial**2
        L[:, a + 1, a + 1] = np.sqrt(left[:, a + 1])
    return L @ np.swapaxes(L, 1, 2)


def _matrices(shape: DsemShape) -> list[list[tuple[int, int, int]]]:
    """Return for every correlation matrix its elements: (row, column, place among parameters)."""
    at = {name: i for i, name in enumerate(shape.parameter_names())}
    v, effects = shape.variables, shape.effects
    found = []
    for family in COVARIANCES:
        own = shape.stable if family == "between_cov" else v
        labels = [
            (a, b, names.label(family, x, y)) for b, y in enumerate(own) for a, x in enumerate(own)
        ]
        places = [
            (min(a, b), max(a, b), at[name]) for a, b, name in labels if name in at and a != b
        ]
        if family == "between_cov" and shape.correlated:
            places += [
                (a, b, at[names.label("random_corr", effects[a], effects[b])])
                for a in range(len(effects))
                for b in range(max(a + 1, len(shape.stable)), len(effects))
            ]
        if places:
            found.append(places)
    return found
