"""The options that the state-space families share, and which of them go together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar, Literal

from alliancedyn.errors import SpecificationError, listed, nearest
from alliancedyn.results.model import spelled

Same = Literal["equal", "free"]

_CHOICES = {
    "lags": ("equal", "free"),
    "innovations": ("equal", "free"),
    "means": ("free", "equal"),
    "initial": ("free", "stationary"),
    "order": (1, 2),
    "loadings": ("equal", "free"),
    "item_intercepts": ("free", "equal"),
}
_TUPLES = (
    *("variables", "sessions", "covariates", "moderators", "time_varying"),
    "equal_across_groups",
)
# What an option that is "free" could be instead, with fewer parameters.
_SAVINGS = {
    "lags": 'lags="equal"',
    "innovations": 'innovations="equal"',
    "measurement_var": "a known measurement_var (or reliability=)",
    "loadings": 'loadings="equal"',
    "item_intercepts": 'item_intercepts="equal"',
    "unit_loadings": 'unit_loadings="equal"',
    "growth": 'growth="linear"',
    "means": 'means="equal"',
}
# What equal_across_groups= can name, and the families of parameters it means.
SHARED = {
    "lags": ("phi", "phi2", "step", "ma", "self", "coupling", "moderation", "drift"),
    "innovations": ("innovation_cov", "diffusion_cov"),
    "means": ("mean", "intercept", "trend", "trend2", "item_intercept"),
    "between": ("between_cov", "between", "unit_loading", "basis"),
    "initial": ("initial_cov", "initial_between_cov", "initial_mean"),
    "inputs": ("input",),
    "measurement": ("loading", "measurement_var"),
}


@dataclass(frozen=True, repr=False)
class Options:
    """Options shared by the state-space families.

    Parameters
    ----------
    variables : tuple of str, optional
        Two or more series; by default all of the panel, in its order.
    lags, innovations : {"equal", "free"}
        Lagged effects and innovation covariances: one for all sessions, or one into each.
    means : {"free", "equal"}
        A mean for every session, or one for all.
    initial : {"free", "stationary"}
        The first session's within covariance: its own, or that at which the process settles.
    order : {1, 2}
        How many sessions back lagged effects reach.
    step : int, optional
        Session number from which on the cross-lags are others, by ``step[...]``.
    covariates : tuple of str
        Client-level numbers that shift the stable parts.
    moderators : tuple of str
        Client-level numbers by which lagged effects differ, ``moderation[...]``.
    time_varying : tuple of str
        Session-level numbers that push the series at their session; the lags carry it on.
    group : str, optional
        Client-level column: every group gets parameters of its own.
    equal_across_groups : tuple of str
        Which are the same in all groups: "lags", "means", "innovations", "between", "initial",
        "inputs" (what time-varying inputs do), "measurement".
    indicators : dict of str to list of str, optional
        Items of the series that have several.
    loadings, item_intercepts : {"equal", "free"}
        Whether items measure the same way at every session.
    measurement_var : dict of str to float, "free" or "equal", optional
        Error variances, squared score points: known, estimated (for items by session, or one for
        all sessions), or by default none for single scores and estimated for items.
    reliability : dict of str to float, optional
        Known reliabilities, which fix error variances at (1 - reliability) times the observed
        variance around the session means.
    sessions : (int, int), optional
        First and last session number to use.
    starts : int
        Starting values to try; more than one are drawn around the first with ``fit(seed=...)``.
    """

    variables: tuple[str, ...] | None = None
    lags: Same = "equal"
    innovations: Same = "equal"
    means: Literal["free", "equal"] = "free"
    initial: Literal["free", "stationary"] = "free"
    order: Literal[1, 2] = 1
    step: int | None = None
    covariates: tuple[str, ...] = ()
    moderators: tuple[str, ...] = ()
    time_varying: tuple[str, ...] = ()
    group: str | None = None
    equal_across_groups: tuple[str, ...] = ()
    indicators: Mapping[str, list[str]] | None = None
    loadings: Same = "equal"
    item_intercepts: Same = "equal"
    measurement_var: Mapping[str, float] | str | None = None
    reliability: Mapping[str, float] | None = None
    sessions: tuple[int, int] | None = None
    starts: int = 1

    name: ClassVar[str]

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_combinations()

    def _check_choices(self) -> None:
        for option, values in self.choices().items():
            if getattr(self, option) not in values:
                allowed = " or ".join(repr(value) for value in values)
                given = f"{option} is {getattr(self, option)!r}"
                if len(values) > 1:
                    choose = f"choose {allowed}"
                elif values[0] in (None, ()):
                    choose = f"the {self.name} does not take {option}="
                else:
                    choose = f"the {self.name} takes only {allowed}"
                near = nearest(getattr(self, option), [one for one in values if one])
                raise SpecificationError(f"{given}; {choose}.{near}")
        for option in _TUPLES:  # lists compare and hash badly
            given = getattr(self, option)
            if isinstance(given, str) or not (given is None or isinstance(given, Iterable)):
                raise SpecificationError(f"{option} is {given!r}; give several, as a tuple.")
            if given is None:
                continue
            object.__setattr__(self, option, tuple(given))
            twice = sorted({str(one) for one in given if list(given).count(one) > 1})
            if twice and option not in ("sessions", "variables"):
                raise SpecificationError(f"{option} names {listed(twice)} more than once.")
        if not (self.step is None or isinstance(self.step, Integral)):
            raise SpecificationError(
                f"step is {self.step!r}; give the number of the session from which on the "
                "cross-lags are others."
            )
        if not isinstance(self.starts, int) or self.starts < 1:
            raise SpecificationError(f"starts is {self.starts!r}; give a whole number from 1 up.")
        if self.sessions is not None and len(self.sessions) != 2:
            raise SpecificationError(
                f"sessions is {self.sessions!r}; give the first and the last, such as (1, 8)."
            )

    @classmethod
    def choices(cls) -> dict[str, tuple[Any, ...]]:
        """Return the values that options with a choice can take."""
        return dict(_CHOICES)

    def _check_combinations(self) -> None:
        if self.initial == "stationary" and "free" in (self.lags, self.innovations):
            raise SpecificationError(
                'initial="stationary" needs lags and innovations equal over sessions: a process '
                "that changes has no stationary covariance."
            )
        if self.step is not None and (self.lags == "free" or self.initial == "stationary"):
            raise SpecificationError(
                f'step={self.step!r} changes the cross-lags once, so it needs lags="equal" and '
                'initial="free".'
            )
        if self.moderators and (self.order == 2 or self.initial == "stationary"):
            raise SpecificationError(
                "moderators= makes lagged effects differ between clients; it needs order=1 and "
                'initial="free".'
            )
        if self.order == 2 and self.time_varying:
            raise SpecificationError(
                "order=2 and time_varying= do not go together. Use order=1, or leave the inputs "
                "out."
            )
        unknown = [word for word in self.equal_across_groups if word not in SHARED]
        if unknown or (self.equal_across_groups and self.group is None):
            raise SpecificationError(
                f"equal_across_groups={self.equal_across_groups!r} needs group= and can name "
                f"{listed(sorted(SHARED), 8)}."
            )
        self._check_measurement()

    def _check_indicators(self) -> None:
        given = dict(self.indicators or {})
        for series, items in given.items():
            if isinstance(items, str) or not len(items):
                raise SpecificationError(
                    f"indicators of {series!r} are {items!r}; give its items by name, in a list."
                )
        named = [item for items in given.values() for item in items]
        if twice := sorted({item for item in named if named.count(item) > 1}):
            raise SpecificationError(
                f"indicators= names {listed(twice)} more than once. An item belongs to one series."
            )

    def _check_measurement(self) -> None:
        self._check_indicators()
        given = self.measurement_var
        if isinstance(given, str) and given not in ("free", "equal"):
            raise SpecificationError(
                f"measurement_var is {given!r}; give variances by name, or choose 'free' or "
                "'equal'."
            )
        if isinstance(given, Mapping) and any(not value >= 0.0 for value in given.values()):
            raise SpecificationError(
                f"measurement_var is {dict(given)!r}: a variance cannot be negative."
            )
        if self.reliability is None:
            return
        if isinstance(given, str):
            raise SpecificationError(
                f"reliability fixes error variances; it does not go with measurement_var={given!r}."
            )
        if any(not 0.0 < value <= 1.0 for value in self.reliability.values()):
            raise SpecificationError(
                f"reliability is {dict(self.reliability)!r}; give shares above 0 and up to 1."
            )

    def __repr__(self) -> str:
        return spelled(self)


def savings(model: object) -> list[str]:
    """Name the options of a model that would save parameters; those it has already are left out."""
    found = [words for option, words in _SAVINGS.items() if getattr(model, option, None) == "free"]
    if getattr(model, "order", 1) == 2:
        found.append("order=1")
    if getattr(model, "direction", None) == "forward":  # leaves the process unrestricted
        found.append('direction="both"')
    return found
