"""The time-ordered reading of two scores: when there is one, and what its paths are called."""

from __future__ import annotations

from collections.abc import Mapping

from alliancedyn.engine import names
from alliancedyn.engine.lagged import LaggedForm
from alliancedyn.errors import SpecificationError, listed


def no_time_order(
    form: LaggedForm, timing: Mapping[str, str], session: int | None = None
) -> str | None:
    """Say why a process cannot be put in time order; None if it can.

    With lags that differ between sessions it can be where one ``session`` is named.
    """
    if len(form.variables) != 2:
        return (
            f"The time-ordered form needs two variables; this fit has {len(form.variables)}. "
            "Fit the pair with variables=(...)."
        )
    if (why := _other_process(form, session)) is not None:
        return why
    unknown = [name for name in form.variables if timing.get(name) not in ("before", "after")]
    if unknown:
        return (
            f"The time-ordered form needs to know when each score is taken; unknown for "
            f"{listed(unknown)}. Read the panel with timing={{...: 'before' or 'after'}}."
        )
    first, second = form.variables
    if timing[first] == timing[second]:
        return (
            f"Both scores are taken {timing[first]} the session: there is no order within a "
            "session to recover. Use the reduced form."
        )
    return None


def _other_process(form: LaggedForm, session: int | None) -> str | None:
    """Say why the process is not one with equal first-order lags; None if it is."""
    if "drift" in form.families:
        return (
            "In continuous time both scores of a session are of one moment: there is no order "
            "within a session to recover. Use the reduced form."
        )
    if form.order == 2:
        return (
            "The time-ordered form is that of first-order lags; here they reach two sessions "
            "back. Fit with order=1."
        )
    if "ma" in form.families:
        return (
            "The time-ordered form is that of lagged effects alone; here moving-average terms pass "
            "shocks on beside them. Use the reduced form, and impulse_response() to follow a shock."
        )
    if "innovation_cov" not in form.families:
        return (
            "The time-ordered form rests on the covariance of innovations; this fit has none. Use "
            "the reduced form."
        )
    if form.group is None and form.own & {"phi", "step", "innovation_cov"}:
        return (
            f"The process differs between groups. Name one with group=: {listed(form.groups, 8)}."
        )
    if form.varies and session is None:
        return (
            "The time-ordered form needs the same lagged effects at every session; here they "
            "differ. Name one with session=, or fit with lags='equal' and no step."
        )
    return None


def time_order(
    form: LaggedForm, timing: Mapping[str, str], session: int | None = None
) -> tuple[str, str]:
    """Return the two variables as (after, before).

    Raises
    ------
    SpecificationError
        If the process cannot be put in time order; the message says why.
    """
    why = no_time_order(form, timing, session)
    if why is not None:
        raise SpecificationError(why)
    first, second = form.variables
    return (first, second) if timing[first] == "after" else (second, first)


def path_labels(order: tuple[str, str], process: str, outcome: str) -> tuple[list[str], list[str]]:
    """Name b, g, h, phi_after, phi_before by role, and the rows in the order of a table.

    Forward is process -> outcome. The score after the session reaches the one before the next
    (b, one path); the score before a session reaches the one after it at once (g) and from one
    session earlier (h).
    """
    after, before = order
    across, within = ("forward", "backward") if after == process else ("backward", "forward")
    solved = [across, f"{within}_immediate", f"{within}_delayed"]
    rows = sorted(solved, key=lambda path: path.startswith("backward"))
    rows += [names.label("autoregression", name) for name in (process, outcome)]
    return [*solved, *(names.label("autoregression", name) for name in (after, before))], rows
