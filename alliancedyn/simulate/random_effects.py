"""What is a client's own: levels, slopes, lagged effects, innovation variances; how they correlate.

    b_i = (levels, slopes, Phi_i, log variances) = means + D L z_i,    L L' = R,    z_i ~ N(0, I)

D holds the SDs, R the correlations. L is lower triangular, so levels and slopes need the first
numbers of z only: whatever correlates with them, they stay the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine.names import label
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.simulate import system
from alliancedyn.simulate.arguments import as_array, as_covariance, factor

if TYPE_CHECKING:
    from alliancedyn.simulate.dynamics import Dynamics

Array = NDArray[np.float64]
Persons = NDArray[np.int64] | None
Pair = tuple[str, str, float]

# A client whose lag matrix is still explosive after this many draws: phi_sd is absurdly large.
REDRAWS = 1000


def as_pairs(value: Any) -> tuple[Pair, ...]:
    """Return correlations of random effects, each (effect, effect, r), as tuples."""
    try:
        return tuple((str(a), str(b), float(as_array(r, (), "random_corr"))) for a, b, r in value)
    except (TypeError, ValueError) as problem:
        if isinstance(problem, SpecificationError):
            raise
        raise SpecificationError(
            'random_corr must list correlations: [("alliance", "symptoms<-alliance", -0.4)].'
        ) from None


def spreads(truth: Dynamics) -> dict[str, float]:
    """Return the SD of every effect that is a client's own, in the order of b_i.

    ``alliance`` is a level, ``alliance.trend`` a slope, ``symptoms<-alliance`` a lagged effect and
    ``log(alliance)`` a log innovation variance.
    """
    series = tuple(truth.variables)
    names = list(series)
    if truth.trend is not None and truth.trend.varies:
        names += [f"{name}.trend" for name in series]
    sds = np.sqrt(np.diag(truth.random_effects_cov)).tolist()
    if truth.phi_sd is not None:
        names += [f"{row}<-{column}" for row in series for column in series]
        sds += np.asarray(truth.phi_sd).ravel().tolist()
    log_sd = None if truth.innovations is None else truth.innovations.log_sd
    if log_sd is not None:
        names += [f"log({name})" for name in series]
        sds += list(log_sd)
    return dict(zip(names, sds, strict=True))


def correlations(truth: Dynamics) -> Array:
    """Return R, (q, q); an effect that does not vary correlates with nothing."""
    sds = spreads(truth)
    place = {name: i for i, name in enumerate(sds)}
    stable = np.asarray(truth.random_effects_cov)
    sd = np.sqrt(np.outer(np.diag(stable), np.diag(stable)))
    R = np.eye(len(sds))
    R[: len(stable), : len(stable)] = np.divide(stable, sd, out=np.eye(len(stable)), where=sd > 0.0)
    for one, other, r in truth.random_corr:
        R[place[one], place[other]] = R[place[other], place[one]] = r
    return R


def refuse_impossible(truth: Dynamics) -> None:
    """Raise SpecificationError unless ``random_corr`` names effects that vary, and can be."""
    if not truth.random_corr:
        return
    sds, first = spreads(truth), len(truth.random_effects_cov)
    ends = [name for one, other, _ in truth.random_corr for name in (one, other)]
    if unknown := [name for name in ends if not sds.get(name, 0.0) > 0.0]:
        varying = [name for name, sd in sds.items() if sd > 0.0]
        raise SpecificationError(
            f"random_corr names {listed(unknown)}, which does not differ between clients. "
            f"These do: {listed(varying, len(varying))}."
        )
    stable = set(list(sds)[:first])
    pairs = [frozenset(pair[:2]) for pair in truth.random_corr]
    if any(pair <= stable for pair in pairs):
        raise SpecificationError(
            "Levels and slopes correlate by between_cov, slope_cov and intercept_slope_cov: leave "
            "them out of random_corr."
        )
    if any(len(pair) < 2 for pair in pairs) or len(set(pairs)) < len(pairs):
        raise SpecificationError("random_corr must name two effects, and each pair once.")
    as_covariance(correlations(truth), len(sds), "The correlation matrix of random effects")


class OwnEffects:
    """Draws of every client's own effects, one kind after the other.

    Parameters
    ----------
    truth : Dynamics
    clients : int
        Rows, episodes that return included.
    rng : numpy Generator
        Of levels and slopes; other kinds have their own.
    persons : (N,) array of int, optional
        Whose episode each row is: all episodes of a person share the person's effects.
    """

    def __init__(
        self, truth: Dynamics, clients: int, rng: np.random.Generator, persons: Persons = None
    ) -> None:
        self.truth, self.persons = truth, persons
        size = len(truth.random_effects_cov)
        self.drawn = [rng.standard_normal((clients, size))]
        self.root = factor(correlations(truth)) if truth.random_corr else None

    @property
    def clients(self) -> int:
        """Number of rows."""
        return len(self.drawn[0])

    def stable(self) -> Array:
        """Return levels (k) and, if they vary, slopes (k): (N, k or 2 k)."""
        effects = self.drawn[0] @ factor(self.truth.random_effects_cov).T
        return effects if self.persons is None else effects[self.persons]

    def lags(self, rng: np.random.Generator, shifts: Array | None = None) -> Array:
        """Draw each client's lag matrix, kept stationary: (N, k, k).

        phi_i ~ N(phi, phi_sd^2) elementwise, given the client's level and slope. A client whose
        process has spectral radius 1 or more is drawn again, which is a draw from the normal
        truncated to stationary processes.

        Parameters
        ----------
        rng : numpy Generator
        shifts : (N, k, k) array, optional
            What moves a client's lags by covariates, therapist and site; never drawn again.

        Raises
        ------
        SpecificationError
            If ``phi_sd`` is so large that stationary matrices are hardly ever drawn.
        """
        truth, persons = self.truth, self.persons
        k = len(truth.variables)
        spread = np.zeros((k, k)) if truth.phi_sd is None else np.asarray(truth.phi_sd)
        normal = np.zeros((self.clients, k * k))
        pending = np.arange(self.clients)
        for _ in range(REDRAWS if np.any(spread) else 1):
            normal[pending] = rng.standard_normal((len(pending), k * k))
            own = spread.ravel() * self._given(normal, truth.phi_sd is not None)
            whole = truth.phi + own.reshape(-1, k, k)
            whole = whole if persons is None else whole[persons]
            whole = whole if shifts is None else whole + shifts
            A, _ = system.companion(truth, whole, np.asarray(truth.innovation_cov))
            explosive = ~(np.abs(np.linalg.eigvals(A)).max(axis=-1) < 1.0)
            if not explosive.any():
                if truth.phi_sd is not None:
                    self.drawn.append(normal)
                return whole
            pending = np.flatnonzero(explosive)
            pending = pending if persons is None else np.unique(persons[pending])
        raise _explosive(len(pending), self.clients, bool(np.any(spread)))

    def scales(self, rng: np.random.Generator) -> Array | None:
        """Draw exp(log_sd x / 2), what each client's innovations are multiplied by: (N, k)."""
        innovations = self.truth.innovations
        if innovations is None or innovations.log_sd is None:
            return None
        log_sd = np.array(innovations.log_sd)
        normal = rng.standard_normal((self.clients, len(log_sd)))
        scale: Array = np.exp(0.5 * log_sd * self._given(normal, True))
        return scale if self.persons is None else scale[self.persons]

    def _given(self, normal: Array, varies: bool) -> Array:
        """Correlate standard normals of the next kind of effect with those drawn before."""
        if self.root is None or not varies:
            return normal
        known = np.hstack(self.drawn)
        rows = slice(known.shape[1], known.shape[1] + normal.shape[1])
        L = self.root[rows]
        given: Array = known @ L[:, : known.shape[1]].T + normal @ L[:, rows].T
        return given


def _explosive(pending: int, clients: int, varies: bool) -> SpecificationError:
    if not varies:
        return SpecificationError(
            f"Covariates, therapists or sites make the lags of {pending} of {clients} clients "
            "explosive. Make their effects on lags smaller."
        )
    return SpecificationError(
        f"phi_sd is too large: {pending} of {clients} clients had explosive lags in each of "
        f"{REDRAWS} draws. Make phi_sd smaller."
    )


def named(truth: Dynamics) -> dict[str, float]:
    """Return the SDs of log innovation variances, and all correlations, by canonical name.

    Correlations of levels with each other are in ``between_cov``; where there are none beside
    those, they are left out.
    """
    found = {}
    if truth.innovations is not None and truth.innovations.log_sd is not None:
        for name, sd in zip(truth.variables, truth.innovations.log_sd, strict=True):
            found[label("log_innovation_sd", name)] = sd
    effects, k = list(spreads(truth)), len(truth.variables)
    if len(effects) == len(truth.random_effects_cov):
        return found
    R = correlations(truth)
    for a in range(len(effects)):
        for b in range(max(a + 1, k), len(effects)):
            found[label("random_corr", effects[a], effects[b])] = float(R[a, b])
    return found
