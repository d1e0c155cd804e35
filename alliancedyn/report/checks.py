"""What a regression says about itself: its tests, and its bias where that was simulated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from alliancedyn.plot.numerals import number
from alliancedyn.report.parameters import probability

if TYPE_CHECKING:
    from alliancedyn.causal import Directions
    from alliancedyn.results import Fit

_TESTS = {
    "m1": "m1 (differenced errors one session apart: expected to be rejected)",
    "m2": "m2 (two sessions apart: a rejection says that instruments are not valid)",
    "sargan": "Sargan",
    "hansen": "Hansen J (all instruments)",
    "hausman": "Hausman (against random effects)",
    "mundlak": "Mundlak (client means)",
}


def checks(fit: Fit, answer: Directions | None) -> tuple[str, ...]:
    """Return the sentences; empty for models that have no such tests."""
    found = []
    own = fit.diagnostics
    backward = own.get("backward")
    if isinstance(backward, Mapping):
        pairs = [(fit.outcome, own), (fit.process, backward)]
    else:
        pairs = [(fit.outcome, own)]
    for target, diagnostics in pairs:
        if said := _tests(diagnostics):
            found.append(f"Equation of {target}: {said}.")
    found += _sampling(own)
    bias = None if answer is None else answer.bias
    if bias is not None:
        found += bias.text.splitlines()
    return tuple(found)


def _tests(diagnostics: Mapping[str, Any]) -> str:
    parts = [
        f"{label} {_figures(diagnostics[key])}"
        for key, label in _TESTS.items()
        if isinstance(diagnostics.get(key), Mapping)
    ]
    if "instruments" in diagnostics:
        parts.append(
            f"{diagnostics['instruments']} instruments for {diagnostics['clients']} clients"
        )
    return "; ".join(parts)


def _figures(test: Mapping[str, Any]) -> str:
    """Write a statistic with its degrees of freedom and p-value."""
    df = "" if test.get("df") is None else f"({test['df']})"
    p = float(test["pvalue"])
    if not np.isfinite(p):
        return f"has no p-value here{': ' + test['verdict'] if test.get('verdict') else ''}"
    said = probability(p)
    return f"{number(float(test['statistic']), 2)}{df}, p {said if '<' in said else '= ' + said}"


def _sampling(diagnostics: Mapping[str, Any]) -> list[str]:
    """Say how a posterior was drawn, whether the chains agree, and from which priors."""
    if "rhat_max" not in diagnostics:
        return []
    worst = str(diagnostics.get("rhat_worst", ""))
    priors = "Priors: " + "; ".join(str(one) for one in diagnostics.get("priors", ())) + "."
    if "pareto_k" in diagnostics:
        k = f"{diagnostics['pareto_k']:.2f}"
        return [f"A quick look around the mode: Pareto k {k}, up to 0.7 can stand.", priors]
    return [
        f"Sampled by {diagnostics['sampler']}: largest R-hat {diagnostics['rhat_max']:.3f} "
        f"({worst}), effective sample sizes of {diagnostics['ess_bulk_min']:.0f} (bulk) and "
        f"{diagnostics['ess_tail_min']:.0f} (tail) or more, {diagnostics['divergences']} "
        "divergences.",
        priors,
    ]
