"""The models that an analysis can be asked for: a ladder, and what may stand beside it.

Rungs of the ladder differ in one thing each. Models beside it answer the same question under
other assumptions; they are compared, but speak first only where no rung can.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from alliancedyn.decompose import decompose
from alliancedyn.errors import SpecificationError, listed, nearest
from alliancedyn.models import (
    ALT,
    CLPM,
    DSEM,
    GCLM,
    LCMSR,
    MLSEM,
    RICLPM,
    STARTS,
    ContinuousTime,
    DynamicPanelGMM,
    FixedEffects,
    LatentChange,
    Specification,
    WithinBetween,
)
from alliancedyn.models.selection import CLIENTS_PER_SESSION
from alliancedyn.panel import Issue, SessionPanel

DETRENDED = "detrended"
FEWEST_DETRENDED = 6  # sessions: from fewer a line takes half of a lagged effect, or all of it
EVERY = "all"
STEP = "ri-clpm-step"

Window = tuple[int, int]
Equations = WithinBetween | FixedEffects | DynamicPanelGMM | MLSEM
Model = Specification | Equations | DSEM


@dataclass(frozen=True)
class Family:
    """A model that can be asked for, and whether it sees detrended scores.

    Parameters
    ----------
    key : str
        Short name, as the command line takes it.
    label : str
        Name in tables and figures.
    spec : Specification, Equations or DSEM
        The model, without its variables.
    detrended : bool
        Whether each client's own straight line is taken from the scores first.
    rung : bool
        Whether it stands on the ladder.
    within : bool
        Whether its lagged effects are those between deviations from what is the client's own.
    """

    key: str
    label: str
    spec: Model
    detrended: bool = False
    rung: bool = False
    within: bool = True

    def given(
        self,
        panel: SessionPanel,
        sessions: Window | None,
        covariates: tuple[str, ...] = (),
    ) -> tuple[Model, SessionPanel]:
        """Return the model of process and outcome in some sessions, and the scores it sees.

        Raises
        ------
        SpecificationError
            If clients are too few, sessions are too few for scores to be detrended, or lagged
            effects are to change outside the sessions.
        """
        if panel.n_clients < CLIENTS_PER_SESSION:
            raise SpecificationError(
                f"A model of how clients change needs {CLIENTS_PER_SESSION} or more clients; "
                f"these data have {panel.n_clients}."
            )
        if isinstance(self.spec, DSEM):
            pair = pair_of(panel)
            known = replace(
                self.spec, variables=pair, sessions=sessions, predictors=tuple(covariates)
            )
            return known, panel
        if not isinstance(self.spec, Specification):
            return _both_ways(self.spec, panel, sessions, covariates), panel
        spec = replace(
            self.spec, variables=pair_of(panel), sessions=sessions, covariates=covariates
        )
        first, last = sessions or (int(panel.sessions[0]), int(panel.sessions[-1]))
        if spec.step is not None and not first + 1 < spec.step <= last:
            raise SpecificationError(
                f"Lagged effects cannot change at session {spec.step}: the models hold sessions "
                f"{first} to {last}. Name one from {first + 2} to {last}."
            )
        if not self.detrended:
            return spec, panel
        if (many := last - first + 1) < FEWEST_DETRENDED:
            raise SpecificationError(
                f"Detrending needs {FEWEST_DETRENDED} or more sessions; these data have {many}. "
                "Each client's own line would take most of the lagged effects with it."
            )
        return spec, _detrend(panel)


# In the order of tables. Whatever can follow a course that all clients share does so, session by
# session: a course that is taken for a straight line, or for none, comes back as lagged effects.
_LADDER = (
    Family("clpm-equal-means", "CLPM (equal means)", CLPM(means="equal"), within=False),
    Family("clpm", "CLPM (session means)", CLPM(), within=False),
    Family("ri-clpm-equal-means", "RI-CLPM (equal means)", RICLPM(means="equal")),
    Family("ri-clpm", "RI-CLPM (session means)", RICLPM()),
    Family("lcm-sr", "LCM-SR (session means)", LCMSR(means="free")),
    Family("ri-clpm-detrended", f"RI-CLPM ({DETRENDED})", RICLPM(), detrended=True),
)
_BESIDE = (
    Family("ri-clpm-free", "RI-CLPM (lags by session)", RICLPM(lags="free")),
    Family("ri-clpm-order2", "RI-CLPM (two sessions back)", RICLPM(order=2)),
    Family("lcm-sr-log", "LCM-SR (log trends)", LCMSR(growth="log", means="free")),
    Family("lcm-sr-straight-means", "LCM-SR (straight means)", LCMSR()),
    Family("starts", "STARTS", STARTS()),
    Family("gclm", "GCLM", GCLM()),
    Family("alt", "ALT", ALT(), within=False),
    Family("latent-change", "Latent change", LatentChange(innovations="equal"), within=False),
    Family(
        "ct-session", "Continuous time (sessions)", ContinuousTime(time="session", means="free")
    ),
    Family(
        "ct-session-straight-means",
        "Continuous time (sessions, straight means)",
        ContinuousTime(time="session", trend="linear"),
    ),
    Family("ct-days", "Continuous time (days)", ContinuousTime(means="free")),
    Family("ml-sem", "ML-SEM", MLSEM()),
    Family("gmm", "Dynamic-panel GMM", DynamicPanelGMM()),
    Family("fixed-effects", "Fixed effects (half-panel)", FixedEffects()),
    Family("within-between", "Within-between", WithinBetween(trend="session")),
)
# Sampled, which takes longer: only by name.
_SAMPLED = (
    Family("dsem", "DSEM (random intercepts)", DSEM(trend="session")),
    Family(
        "dsem-slopes",
        "DSEM (random lags)",
        DSEM(random=("intercept", "phi"), trend="session"),
    ),
)
BAYES = tuple(family.key for family in _SAMPLED)
DEFAULT = (
    "clpm-equal-means",
    "clpm",
    "ri-clpm-equal-means",
    "ri-clpm",
    "lcm-sr",
    "ri-clpm-detrended",
)
FAMILIES = {
    family.key: family
    for family in (*(replace(one, rung=True) for one in _LADDER), *_BESIDE, *_SAMPLED)
}


def pair_of(panel: SessionPanel) -> tuple[str, ...]:
    """Return process and outcome in panel order."""
    return tuple(name for name in panel.variables if name in (panel.process, panel.outcome))


def chosen(families: str | Sequence[str]) -> list[Family]:
    """Return the families behind some keys, in the order of tables.

    ``all`` stands for every family that is not sampled, ``ri-clpm-step@5`` for lagged effects that
    change once, from session 5 on.

    Raises
    ------
    SpecificationError
        If a key is unknown, or there is none.
    """
    keys = [families] if isinstance(families, str) else list(families)
    steps = {key: step for key in keys if (step := _stepped(key)) is not None}
    known = {*FAMILIES, *steps, EVERY}
    unknown = [key for key in keys if key not in known]
    if unknown or not keys:
        said = f"No family is called {listed(unknown)}." if unknown else "No family is named."
        near = nearest(unknown[0], choices()) if unknown else ""
        raise SpecificationError(f"{said}{near} Choose from {', '.join(choices())}.")
    asked = [*keys, *(key for key in FAMILIES if EVERY in keys and key not in BAYES)]
    found = [family for key, family in FAMILIES.items() if key in asked]
    return [*found, *steps.values()]


def choices() -> tuple[str, ...]:
    """Return every key that can be asked for."""
    return (*FAMILIES, f"{STEP}@SESSION", EVERY)


def _stepped(key: str) -> Family | None:
    """Return the model whose cross-lags change at the session that a key names."""
    said = re.fullmatch(rf"{STEP}@(-?\d+)", key)
    if said is None:
        return None
    session = int(said[1])
    return Family(key, f"RI-CLPM (change at session {session})", RICLPM(step=session))


def _both_ways(
    spec: Equations, panel: SessionPanel, sessions: Window | None, covariates: tuple[str, ...]
) -> Equations:
    """Return a model of equations for these roles; covariates where what does not vary counts."""
    known = replace(
        spec, process=panel.process, outcome=panel.outcome, direction="both", sessions=sessions
    )
    if isinstance(known, WithinBetween | MLSEM):
        return replace(known, covariates=covariates)
    return known


def _detrend(panel: SessionPanel) -> SessionPanel:
    """Take each client's own straight line out of the scores; the client's level stays."""
    scores = decompose(panel, trend="linear").detrended
    note = Issue(
        "scores-changed",
        "info",
        "Each client's own least-squares line over sessions was taken from the scores; the "
        "client's level was kept.",
        int(scores[list(panel.variables)].notna().to_numpy().sum()),
    )
    return panel.with_scores(scores, note)
