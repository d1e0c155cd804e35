"""Which of two series moves first: both directions, their difference, and a verdict by fixed rules.

Forward is source -> target, backward target -> source, both in within-client SDs. Two bases:
the reduced form takes both from the lag-1 matrix; the structural form takes the path across
sessions (b) and the one within a session (g) from the process in the order of its scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from math import isfinite
from typing import Literal

from alliancedyn.causal import wording
from alliancedyn.causal.contrast import Contrast, Lead, State, contrast
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.results import Estimate, Fit
from alliancedyn.results.paths import no_time_order

Basis = Literal["both", "reduced", "structural"]

SEED = 20_221_122  # fixed, so that a verdict does not change from one run to the next


@dataclass(frozen=True)
class Directions:
    """The verdict on which series leads; prints as its text.

    ``forward``, ``backward``, ``difference`` and the states are those of ``basis``, the
    structural one where it exists and both were asked for; ``by_basis`` holds all of them.
    ``lead`` is "depends" where the bases disagree.
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

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Directions {self.source}, {self.target} · lead: {self.lead}>"

    def _repr_html_(self) -> str:
        return f'<pre style="white-space: pre-wrap">{escape(self.text)}</pre>'


def compare_directions(
    fit: Fit,
    source: str | None = None,
    target: str | None = None,
    smallest_effect: float = 0.05,
    basis: Basis = "both",
    seed: int = SEED,
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
        Smallest size that would matter, within-client SDs.
    basis : "both", "reduced" or "structural"
        Structural needs two variables, equal lags, one score before and one after the session;
        "both" makes do with the reduced form where it is not to be had, and says why.
    seed : int
        For the joint draws of fits that have none of their own.

    Returns
    -------
    Directions

    Raises
    ------
    SpecificationError
        If variables or options do not fit, or the structural basis alone was asked for in vain.
    """
    if not isinstance(fit, Fit):
        raise SpecificationError(f"compare_directions needs a fit, not {type(fit).__name__}.")
    source, target = _roles(fit, source, target)
    known = isinstance(smallest_effect, int | float) and isfinite(smallest_effect)
    if not known or smallest_effect < 0:
        raise SpecificationError(
            f"smallest_effect={smallest_effect!r}: give a size in within-client SDs, such as 0.05."
        )
    if basis not in ("both", "reduced", "structural"):
        raise SpecificationError(
            f"basis={basis!r} is not known. Use 'both', 'reduced' or 'structural'."
        )
    why = no_time_order(fit.lagged, fit.timing)
    if basis == "structural" and why is not None:
        raise SpecificationError(why)
    wanted = ["reduced", "structural"] if basis == "both" else [basis]
    if why is not None:
        wanted = ["reduced"]
    contrasts = {
        name: contrast(fit, source, target, name, smallest_effect, seed) for name in wanted
    }
    return _verdict(
        fit, source, target, smallest_effect, contrasts, why if basis == "both" else None
    )


def _verdict(
    fit: Fit,
    source: str,
    target: str,
    smallest_effect: float,
    contrasts: dict[str, Contrast],
    why: str | None,
) -> Directions:
    """Put the contrasts of all bases together, in numbers and in words."""
    shown = "structural" if "structural" in contrasts else "reduced"
    main = contrasts[shown]
    leads = {contrast.lead for contrast in contrasts.values()}
    lead: Lead = main.lead if len(leads) == 1 else "depends"
    assumptions = wording.assumptions(fit, source, target, shown)
    text = wording.report(fit, source, target, smallest_effect, contrasts, lead, assumptions, why)
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
        text=text,
        assumptions=assumptions,
        by_basis=contrasts,
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
