"""How often a study's verdicts on direction are those that the truth itself would get.

The truth is judged by the rules of `compare_directions` as if it had been estimated without
error: every interval is a point.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from alliancedyn.causal.contrast import name_lead, name_state
from alliancedyn.results import LEVEL, Estimate
from alliancedyn.simulate import Dynamics
from alliancedyn.studies.trial import BASES, Found, Verdict, together

LEADS = ("forward", "backward", "both", "neither", "undetermined", "depends")
ALIKE = 1e-9  # true paths that differ by less are equal up to rounding
OPEN = ("undetermined", "depends")  # verdicts that claim nothing


def true_verdicts(
    truth: Dynamics, smallest_effect: float, bases: Sequence[str] = BASES
) -> dict[str, Verdict]:
    """Return the verdict that the truth itself gets, by basis.

    Parameters
    ----------
    truth : Dynamics
        With lags that vary over clients, its average client is judged.
    smallest_effect : float
        Smallest size that would matter, within-client SDs.
    bases : sequence of str
        Those that are wanted: "both" weighs the others that are named.

    Returns
    -------
    dict
        Without "structural" where the truth has no time order.
    """
    process, outcome = truth.process, truth.outcome
    found = {
        "reduced": _judged(
            truth.effect(process, outcome, "within"),
            truth.effect(outcome, process, "within"),
            smallest_effect,
        )
    }
    if "structural" in bases and _timed(truth):
        paths = truth.structural()["standardized"]
        across, within = (
            ("forward", "backward_immediate")
            if "forward" in paths.index
            else ("forward_immediate", "backward")
        )
        found["structural"] = _judged(paths[across], paths[within], smallest_effect)
    return {basis: one for basis, one in together(found).items() if basis in bases}


def _timed(truth: Dynamics) -> bool:
    taken = dict(truth.timing or {})
    ordered = sorted(taken.get(name, "") for name in truth.variables) == ["after", "before"]
    return ordered and bool((np.diag(truth.innovation_cov) > 0.0).all())


def _judged(forward: float, backward: float, smallest_effect: float) -> Verdict:
    def exactly(value: float) -> Estimate:
        return Estimate(value, 0.0, value, value, LEVEL)

    one = name_state(exactly(forward), smallest_effect)
    other = name_state(exactly(backward), smallest_effect)
    apart = abs(forward) - abs(backward)
    lead = name_lead(one, other, exactly(0.0 if abs(apart) < ALIKE else apart))
    return Verdict(lead, one, other)


def confusion(found: Sequence[Found], truth: Dynamics, smallest_effect: float) -> pd.DataFrame:
    """Count the verdicts of fits against the truth's own.

    Returns
    -------
    DataFrame
        Index ``basis``; ``truth``, the verdict that is right; the share of fits with each verdict,
        ``mcse_...`` its Monte Carlo error sqrt(p (1 - p) / n); ``right``, the share with the
        truth's verdict; ``wrong``, the share with another one that claims something; ``n`` fits.
    """
    said = [one.verdicts for one in found if one.verdicts]
    bases = [basis for basis in BASES if any(basis in one for one in said)]
    true = true_verdicts(truth, smallest_effect, bases)
    rows = []
    for basis in (basis for basis in bases if basis in true):
        leads = pd.Series([one[basis].lead for one in said if basis in one], dtype=object)
        own = true[basis].lead
        shares = {lead: float((leads == lead).mean()) for lead in LEADS}
        shares["right"] = shares[own]
        shares["wrong"] = float((~leads.isin([own, *OPEN])).mean())
        spread = {f"mcse_{k}": float(np.sqrt(p * (1 - p) / len(leads))) for k, p in shares.items()}
        rows.append({"basis": basis, "truth": own, **shares, **spread, "n": len(leads)})
    columns = ["basis", "truth", *LEADS, "right", "wrong"]
    columns += [f"mcse_{name}" for name in columns[2:]] + ["n"]
    return pd.DataFrame(rows, columns=columns).set_index("basis")
