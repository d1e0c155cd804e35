"""What a world may hold besides lagged effects: shapes of innovations, common causes, events.

Each class is a value that `Dynamics` takes. Vectors have one number per series, in the order of
``Dynamics.variables``; changes of lagged effects are written as (target, source, change) by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from alliancedyn.checking import checked
from alliancedyn.engine.names import label
from alliancedyn.errors import SpecificationError
from alliancedyn.simulate.arguments import (
    as_array,
    as_choice,
    as_count,
    as_number,
    as_paths,
    as_share,
    as_vector,
)

Array = NDArray[np.float64]
Vector = tuple[float, ...]
Path = tuple[str, str, float]

LARGEST_SKEWNESS = 2.5  # z + c (z^2 - 1) reaches 2.83 as c grows without bound


@checked
@dataclass(frozen=True)
class Innovations:
    """How innovations are distributed; their covariance stays ``innovation_cov``.

    With z standard normal, the standardized innovation is

        "normal"    z
        "student"   z sqrt((df - 2) / chi2(df)), one chi2 for all series of a session
        "skewed"    (z + c (z^2 - 1)) / sqrt(1 + 2 c^2), c solving for the skewness

    and client i's innovation of series j is multiplied by exp(log_sd_j x / 2), x ~ N(0, 1).

    Parameters
    ----------
    shape : "normal", "student" or "skewed"
    df : float, above 2
        Degrees of freedom of ``"student"``.
    skewness : float, within -2.5 .. 2.5
        Of ``"skewed"``: before series are correlated, so that of the first series is exact.
    log_sd : sequence of k numbers, optional
        SDs over clients of the log innovation *variance*. ``innovation_cov`` is then that of the
        median client.

    Raises
    ------
    SpecificationError
        If a value is out of range.
    """

    shape: str = "normal"
    df: float = 5.0
    skewness: float = 1.0
    log_sd: Vector | None = None

    def __post_init__(self) -> None:
        as_choice(self.shape, ("normal", "student", "skewed"), "shape")
        if not as_number(self.df, "df") > 2.0:
            raise SpecificationError(f"df must be above 2, not {self.df:g}: else no variance.")
        if abs(as_number(self.skewness, "skewness")) > LARGEST_SKEWNESS:
            raise SpecificationError(
                f"skewness must lie within {LARGEST_SKEWNESS:g} of 0, not {self.skewness:g}."
            )
        if self.log_sd is not None:
            spread = as_vector(self.log_sd, "log_sd")
            if min(spread) < 0.0:
                raise SpecificationError("log_sd holds standard deviations: not negative.")
            object.__setattr__(self, "log_sd", spread)

    def reshape(self, normal: Array, rng: np.random.Generator) -> Array:
        """Turn standard normal draws (runs, N, k) into draws of this shape, variance 1."""
        if self.shape == "student":
            chi = rng.chisquare(self.df, size=(*normal.shape[:-1], 1))
            return normal * np.sqrt((self.df - 2.0) / chi)
        if self.shape == "skewed":
            c = _bend(self.skewness)
            return (normal + c * (normal**2 - 1.0)) / np.sqrt(1.0 + 2.0 * c * c)
        return normal


def _bend(skewness: float) -> float:
    """Solve (6 c + 8 c^3) / (1 + 2 c^2)^1.5 = skewness for c."""

    def excess(c: float) -> float:
        return (6.0 * c + 8.0 * c**3) / (1.0 + 2.0 * c * c) ** 1.5 - skewness

    return float(brentq(excess, -10.0, 10.0, xtol=1e-14))


@checked
@dataclass(frozen=True)
class Confounder:
    """An unobserved series that moves the others at the same session: life events, medication.

        U_t = phi U_{t-1} + x_t,    Var(U) = var,    w_t = Phi w_{t-1} + effects U_t + v_t

    Parameters
    ----------
    effects : sequence of k numbers, score points per point of U
    phi : float, between -1 and 1
    var : float, above 0
        Stationary variance of U.

    Raises
    ------
    SpecificationError
        If U would not settle.
    """

    effects: Vector
    phi: float = 0.5
    var: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "effects", as_vector(self.effects, "effects"))
        if not abs(as_number(self.phi, "The confounder's phi")) < 1.0:
            raise SpecificationError(
                f"The confounder is explosive: its phi is {self.phi:g} and must be within -1 .. 1."
            )
        if not as_number(self.var, "The confounder's var") > 0.0:
            raise SpecificationError("The confounder's var must be above 0.")


@checked
@dataclass(frozen=True)
class Covariate:
    """A recorded property of a client, or of a session, that moves levels, slopes or lags.

    Every effect multiplies the *centered* value z - E(z): ``Dynamics.mean``, ``trend`` and ``phi``
    stay those of the average client. A client property that changes a lag is a trait x state
    moderator; a session property that does, such as a technique used or not, is a moderator
    within clients.

    Parameters
    ----------
    name : str
        Column of the panel.
    kind : "normal" or "binary"
        Standard normal, or 1 with probability ``share`` and else 0.
    share : float
    level : "client" or "session"
        A session property is drawn anew at each session and must be binary.
    on_level : sequence of k numbers, score points per unit, optional
    on_trend : sequence of k numbers, score points per unit and unit of the basis, optional
        Client level only; needs a trend with a basis.
    on_phi : sequence of (target, source, change per unit)
        For a session property: the lag *into* that session.

    Raises
    ------
    SpecificationError
        If options contradict each other.
    """

    name: str
    kind: str = "normal"
    share: float = 0.5
    level: str = "client"
    on_level: Vector | None = None
    on_trend: Vector | None = None
    on_phi: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        store = object.__setattr__
        label("phi", self.name)
        as_choice(self.kind, ("normal", "binary"), "kind")
        as_choice(self.level, ("client", "session"), "level")
        if not as_share(self.share, "share") > 0.0:
            raise SpecificationError("share must be above 0.")
        for name in ("on_level", "on_trend"):
            if getattr(self, name) is not None:
                store(self, name, as_vector(getattr(self, name), name))
        store(self, "on_phi", as_paths(self.on_phi, "on_phi"))
        if self.level == "session" and (self.kind != "binary" or self.on_trend is not None):
            raise SpecificationError(
                f"{self.name!r} changes from session to session: it must be binary and has no "
                "effect on the trend."
            )

    @property
    def mean(self) -> float:
        """Expected value."""
        return self.share if self.kind == "binary" else 0.0

    @property
    def variance(self) -> float:
        """Variance of the value."""
        return self.share * (1.0 - self.share) if self.kind == "binary" else 1.0

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Draw values of the given shape, not centered."""
        if self.kind == "binary":
            return (rng.random(shape) < self.share).astype(np.float64)
        return rng.standard_normal(shape)


@checked
@dataclass(frozen=True)
class Phase:
    """Lagged effects that change during treatment: from session ``first`` on.

    Parameters
    ----------
    first : int, at least 2
        The first session into which the changed effects act.
    on_phi : sequence of (target, source, change)

    Raises
    ------
    SpecificationError
        If the session is impossible.
    """

    first: int
    on_phi: tuple[Path, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", as_count(self.first, 2, "first"))
        object.__setattr__(self, "on_phi", as_paths(self.on_phi, "on_phi"))


@checked
@dataclass(frozen=True)
class Event:
    """Something that befalls a client (or a whole group) and pushes the within-client states.

    While none is open, one begins at each session with probability ``hazard``, so a client has met
    one by session n with probability 1 - (1 - hazard)^n: .109 per session makes half by session 6.
    A push enters the state and fades, and crosses over, by the lagged effects.

    Parameters
    ----------
    name : str
        Column of the panel: 1 from the session at which it begins until it ends.
    hazard : float
        Probability per session.
    onset : sequence of k numbers, score points
        Push at the session where it begins.
    while_open : sequence of k numbers, optional
        Push at each later session at which it is open.
    repair : float
        Probability, per later session, that an open event ends. With 0 and no ``while_open`` the
        event is over at once: a crisis.
    end : sequence of k numbers, optional
        Push at the session where it ends.
    repairable : float
        Share of clients (or groups) whose events can end.
    level : "client" or "group"
        "group": all members of a therapy group at once; needs groups.

    Raises
    ------
    SpecificationError
        If a probability lies outside 0 .. 1.
    """

    name: str
    onset: Vector
    hazard: float = 0.109
    while_open: Vector | None = None
    repair: float = 0.0
    end: Vector | None = None
    repairable: float = 1.0
    level: str = "client"

    def __post_init__(self) -> None:
        label("phi", self.name)
        for name in ("onset", "while_open", "end"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_vector(getattr(self, name), name))
        for name in ("hazard", "repair", "repairable"):
            if not 0.0 <= as_number(getattr(self, name), name) <= 1.0:
                raise SpecificationError(f"{name} must be from 0 to 1: it is a probability.")
        as_choice(self.level, ("client", "group"), "level")

    @property
    def lasts(self) -> bool:
        """Whether it stays open after the session where it begins."""
        return self.repair > 0.0 or self.while_open is not None

    def draw(self, units: int, runs: int, rng: np.random.Generator) -> tuple[Any, Any, Any]:
        """Draw when it begins, is open afterwards and ends: three (runs, units) of bool."""
        can_end = rng.random(units) < self.repairable
        chances = rng.random((runs, 2, units))  # by session: more sessions continue the same
        begins, still, ends = np.zeros((3, runs, units), dtype=bool)
        is_open = np.zeros(units, dtype=bool)
        for t in range(runs):
            ends[t] = is_open & can_end & (chances[t, 1] < self.repair)
            begins[t] = ~is_open & (chances[t, 0] < self.hazard)
            still[t] = is_open & ~ends[t]
            is_open = still[t] | (begins[t] & self.lasts)
        return begins, still, ends

    def push(self, begins: Any, still: Any, ends: Any) -> Array:
        """Return what it adds to the states: (runs, units, k), score points."""
        push = begins[..., None] * as_array(self.onset, (len(self.onset),), "onset")
        for when, size in ((still, self.while_open), (ends, self.end)):
            if size is not None:
                push = push + when[..., None] * np.array(size)
        return push
