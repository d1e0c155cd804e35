"""Which of two series moves first: both directions, their difference, and a verdict by fixed rules.

Forward is source -> target, backward target -> source, both in within-client SDs. Two bases:
the reduced form takes both from the lag-1 matrix; the structural form takes the path across
sessions (b) and the one within a session (g) from the process in the order of its scores.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from html import escape
from math import isfinite
from typing import Literal

from alliancedyn.causal import wording, words
from alliancedyn.causal.bias import BESIDE, BiasDiagnosis, bias_diagnosis, needed
from alliancedyn.causal.compare import lag_of
from alliancedyn.causal.contrast import Contrast, Lead, Place, State, contrast
from alliancedyn.causal.lags import refuse_unseen_lag
from alliancedyn.checking import checked, named
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.results import Estimate, Fit
from alliancedyn.results.effects import leads_into
from alliancedyn.results.paths import no_time_order

Basis = Literal["both", "reduced", "structural"]

SMALLEST_EFFECT = 0.05  # within-client SDs: a convention, no finding
SEED = 20_221_122  # fixed, so that a verdict does not change from one run to the next


@named
@dataclass(frozen=True)
class Directions:
    """The verdict on which series leads; prints as its text.

    ``forward``, ``backward``, ``difference`` and the states are those of ``basis``, the
    structural one where it exists and both were asked for; ``by_basis`` holds all of them.
    ``lead`` is "depends" where the bases disagree, and "undetermined" where a lead is
    ``withdrawn``, because the estimator alone could have produced the difference. Where cross-lags
    change at a named session, ``periods`` holds the verdicts "early" and "late", the numbers here
    are plain averages over sessions in the reduced form, and ``lead`` is "depends" where the
    periods disagree.
    """

    source: str
    target: str
    basis: str
    smallest_effect: float
    forward: Estimate
    backward: Estimate
    difference: Estimate
    forward_state: State
    backward_state: State
    lead: Lead
    text: str
    assumptions: tuple[str, ...]
    by_basis: dict[str, Contrast]
    session: int | None = None
    group: str | None = None
    periods: dict[str, Directions] = field(default_factory=dict)
    bias: BiasDiagnosis | None = None
    lag: str = words.USUAL
    higher: dict[str, str] = field(default_factory=dict)
    withdrawn: bool = False

    @property
    def forms(self) -> dict[str, Contrast]:
        """The contrasts as they are shown: in their order, without leads that are withdrawn."""
        return words.forms_of(_withdrawn(self.by_basis) if self.withdrawn else self.by_basis)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Directions {self.source}, {self.target} · lead: {self.lead}>"

    def _repr_html_(self) -> str:
        return f'<pre style="white-space: pre-wrap">{escape(self.text)}</pre>'


@checked
def compare_directions(
    fit: Fit,
    source: str | None = None,
    target: str | None = None,
    smallest_effect: float = SMALLEST_EFFECT,
    basis: Basis = "both",
    seed: int = SEED,
    *,
    session: int | None = None,
    group: str | None = None,
) -> Directions:
    """Compare source -> target with target -> source.

    A direction is *practically zero* if its 95 % interval lies inside
    (-smallest_effect, smallest_effect), else *supported* if the interval excludes zero, else
    *undetermined*. The lead is *forward* if forward is supported and |forward| - |backward| is
    above zero throughout its interval, *backward* if the mirror image holds, *both* if both are
    supported and that interval holds zero, *neither* if both are practically zero, else
    *undetermined*; with ``basis="both"`` it is *depends* where the bases disagree.

    Parameters
    ----------
    fit : Fit
        A fit with lagged effects both ways.
    source, target : str, optional
        Default: the process and the outcome of the panel.
    smallest_effect : float
        Smallest size that would matter, within-client SDs; 0.05 is a convention.
    basis : "both", "reduced" or "structural"
        Structural needs two variables, equal lags, one score before and one after the session;
        "both" makes do with the reduced form where it is not to be had, and says why.
    seed : int
        For the joint draws of fits that have none of their own.
    session : int, optional
        Session into which the paths lead, where they differ between sessions; by default their
        plain average, and where they change once both values.
    group : str, optional
        Such as "arm=1", where groups have paths of their own.

    Returns
    -------
    Directions

    Raises
    ------
    SpecificationError
        If variables or options do not fit, the structural basis alone was asked for in vain,
        groups differ and none is named, the model has no within SD, or the unit of a model in
        continuous time lies outside the gaps of its data, where `effect_by_lag` is silent too.
    """
    if not isinstance(fit, Fit):
        raise SpecificationError(f"compare_directions needs a fit, not {type(fit).__name__}.")
    source, target = _roles(fit, source, target)
    refuse_size(smallest_effect)
    if basis not in ("both", "reduced", "structural"):
        raise SpecificationError(
            f"basis={basis!r} is not known. Use 'both', 'reduced' or 'structural'."
        )
    if getattr(fit.model, "direction", "both") == "forward":
        raise SpecificationError(
            f"The {fit.model.name} fit estimates {fit.process} -> {fit.outcome} only, so there is "
            'nothing to compare. Fit with direction="both".'
        )
    refuse_unseen_lag(fit)
    form, place = fit.lagged.of_group(group), Place(session, group)
    leads_into(form, session)
    asked = _Asked(source, target, smallest_effect, basis, seed)
    if form.step is None or session is not None:
        return _verdict(fit, asked, place)
    early = _verdict(fit, asked, replace(place, session=form.into[0]))
    late = _verdict(fit, asked, replace(place, session=form.into[-1]))
    average = _verdict(fit, replace(asked, basis="reduced"), place)
    return _both_periods(fit, asked, average, {"early": early, "late": late})


def refuse_size(smallest_effect: float) -> None:
    """Refuse what is no size of a path."""
    known = isinstance(smallest_effect, int | float) and isfinite(smallest_effect)
    if not known or smallest_effect < 0:
        raise SpecificationError(
            f"smallest_effect={smallest_effect!r}: give a size in within-client SDs, such as 0.05."
        )


@dataclass(frozen=True)
class _Asked:
    """What was asked for, whatever the place."""

    source: str
    target: str
    smallest_effect: float
    basis: Basis
    seed: int


def _verdict(fit: Fit, asked: _Asked, place: Place) -> Directions:
    """Put the contrasts of all bases together, in numbers and in words."""
    source, target, smallest_effect = asked.source, asked.target, asked.smallest_effect
    why = no_time_order(fit.lagged.of_group(place.group), fit.timing, place.session)
    if asked.basis == "structural" and why is not None:
        raise SpecificationError(why)
    wanted = ["reduced", "structural"] if asked.basis == "both" else [asked.basis]
    contrasts = {
        name: contrast(fit, source, target, name, smallest_effect, asked.seed, place)
        for name in (wanted if why is None else ["reduced"])
    }
    bias, withdrawn, warning = _made_up(fit)
    said = _withdrawn(contrasts) if withdrawn else contrasts
    shown = "structural" if "structural" in contrasts else "reduced"
    main = contrasts[shown]
    leads = {contrast.lead for contrast in said.values()}
    lead: Lead = said[shown].lead if len(leads) == 1 else "depends"
    assumptions = wording.assumptions(fit, source, target, shown, place)
    reason = why if asked.basis == "both" else None
    lines = [
        *fit.verdicts(),
        *wording.findings(fit, source, target, said, lead, reason),
        *warning,
        *wording.closing(fit, smallest_effect, assumptions, place),
    ]
    return Directions(
        source=source,
        target=target,
        basis=shown,
        smallest_effect=smallest_effect,
        forward=main.forward,
        backward=main.backward,
        difference=main.difference,
        forward_state=main.forward_state,
        backward_state=main.backward_state,
        lead=lead,
        text="\n".join(lines),
        assumptions=assumptions,
        by_basis=contrasts,
        session=place.session,
        group=place.group,
        bias=bias,
        lag=lag_of(fit),
        higher=dict(fit.higher),
        withdrawn=withdrawn,
    )


def _made_up(fit: Fit) -> tuple[BiasDiagnosis | None, bool, list[str]]:
    """Say whether the estimator alone could have produced a lead, and on what that rests."""
    if not needed(fit):
        return None, False, []
    if fit.data is None:
        said = (
            "Directions are not ranked: this estimator is biased where sessions are few, and "
            "without the data it cannot be simulated by how much."
        )
        return None, True, ["", said]
    bias = bias_diagnosis(fit, BESIDE)
    return bias, bool(bias.dominance), ["", *bias.text.splitlines()]


def _withdrawn(contrasts: dict[str, Contrast]) -> dict[str, Contrast]:
    """Return contrasts in which no direction leads."""
    return {
        name: replace(one, lead="undetermined") if one.lead in ("forward", "backward") else one
        for name, one in contrasts.items()
    }


def _both_periods(
    fit: Fit, asked: _Asked, average: Directions, periods: dict[str, Directions]
) -> Directions:
    """Put the verdicts before and after a step together."""
    source, target, step = average.source, average.target, fit.lagged.step
    leads = {verdict.lead for verdict in periods.values()}
    lead: Lead = leads.pop() if len(leads) == 1 else "depends"
    lines = [*fit.verdicts(), wording.period_lead(source, target, lead)]
    for name, when in (("early", f"Before session {step}"), ("late", f"From session {step} on")):
        one = periods[name]
        form = fit.lagged.of_group(one.group)
        why = no_time_order(form, fit.timing, one.session) if asked.basis == "both" else None
        lines += [
            "",
            f"{when}:",
            *wording.findings(fit, source, target, one.forms, one.lead, why),
        ]
    assumptions = periods["late"].assumptions
    place = Place(None, average.group)
    lines += ["", wording.change(fit, source, target, place)]
    lines += wording.closing(fit, asked.smallest_effect, assumptions, place)
    return replace(
        average, lead=lead, text="\n".join(lines), assumptions=assumptions, periods=periods
    )


def _roles(fit: Fit, source: str | None, target: str | None) -> tuple[str, str]:
    """Complete source and target from the roles, and check them."""
    other = {fit.process: fit.outcome, fit.outcome: fit.process}
    if source is None and target is None:
        source, target = fit.process, fit.outcome
    source = other.get(str(target)) if source is None else source
    target = other.get(str(source)) if target is None else target
    unknown = [str(n) for n in (source, target) if n is not None and n not in fit.variables]
    if unknown or source is None or target is None:
        raise SpecificationError(
            f"Source and target must be variables of the fit ({listed(fit.variables)})"
            f"{'; cannot use ' + listed(unknown) if unknown else ''}. Name both."
        )
    if source == target:
        raise SpecificationError(f"Source and target are both {source!r}. Name two variables.")
    return source, target
