"""The time-ordered reading of two scores: when there is one, and what its paths are called."""

from __future__ import annotations

from collections.abc import Mapping

from alliancedyn.engine import names
from alliancedyn.engine.lagged import LaggedForm
from alliancedyn.errors import SpecificationError, listed


def no_time_order(form: LaggedForm, timing: Mapping[str, str]) -> str | None:
    """Say why a process cannot be put in time order; None if it can."""
    if len(form.variables) != 2:
        return (
            f"The time-ordered form needs two variables; this fit has {len(form.variables)}. "
            "Fit the pair with variables=(...)."
        )
    if form.lag_sessions:
        return (
            "The time-ordered form needs the same lagged effects at every session; here they "
            "differ. Fit with lags='equal'."
        )
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


def time_order(form: LaggedForm, timing: Mapping[str, str]) -> tuple[str, str]:
    """Return the two variables as (after, before).

    Raises
    ------
    SpecificationError
        If the process cannot be put in time order; the message says why.
    """
    why = no_time_order(form, timing)
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
