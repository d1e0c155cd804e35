"""From draws to a result: one way for every sampled family."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.engine.density import overlap
from alliancedyn.engine.dsem_prior import Term
from alliancedyn.models.drawing_on import Judged
from alliancedyn.models.persons import person_notes
from alliancedyn.models.selection import Selection
from alliancedyn.models.verdict import tell
from alliancedyn.panel import SessionPanel
from alliancedyn.panel.choices import pair
from alliancedyn.panel.issues import cautions
from alliancedyn.results import Fit, Model
from alliancedyn.results.sampling import Sampling

Array = NDArray[np.float64]

DOMINATED = 0.35  # overlap above which the data have said little (Garrett & Zeger, 2000)
TAIL = 1.96  # prior scales from its center, beyond which less than 5 % of it lies
PULL = 0.1  # posterior SDs by which such a prior moves the mean, from where that is said
SHORT = 15  # sessions per client, in the middle, below which that is said


def sampled_fit(
    model: Model,
    panel: SessionPanel,
    selection: Selection,
    judged: Judged,
    sampling: Sampling,
    *,
    sampler: str,
    values: Array,
    notes: Sequence[str] = (),
    scale: Sequence[str] = (),
    began: float,
    sampling_seconds: float,
    strict: bool,
    depth: int,
) -> Fit:
    """Return the fit that draws make, with what was found when they were judged.

    Parameters
    ----------
    model, panel, selection
        What was fitted to what.
    judged : Judged
        The draws, and whether they pass.
    sampling : Sampling
        Chains, priors, clients.
    sampler : str
        Which was used.
    values : (chains * draws, m)
        The quantities that have priors, in the order of ``sampling.priors``.
    notes : sequence of str
        What a reader should know beside.
    scale : sequence of str
        On which scale the numbers are, where it is not that of the scores.
    began, sampling_seconds : float
        Clock at the start; seconds of sampling.
    strict : bool
        Raise if the draws fail the rule of :mod:`alliancedyn.results.posterior`.
    depth : int
        Calls between the caller's caller and this function.

    Raises
    ------
    ConvergenceError
        If ``strict`` and the draws fail; it holds the fit.
    """
    index = pd.Index(list(judged.names), name="parameter")
    flat = judged.draws.reshape(-1, judged.draws.shape[-1])
    cov = np.cov(flat, rowvar=False)
    shared = overlaps(values, sampling.priors)
    sessions = float(np.median(np.any(~np.isnan(selection.data.Y), axis=2).sum(axis=1)))
    diagnostics: dict[str, Any] = {
        "errors": "posterior",
        "gradient": float("nan"),
        "condition": float(np.linalg.cond(np.corrcoef(flat, rowvar=False))),
        "boundary": [],
        "notes": [
            *judged.notes,
            *notes,
            *cautions(panel.issues),
            *dominated(shared, sessions),
            *contradicted(values, sampling.priors),
            *person_notes(selection.data, "posterior"),
        ],
        **({"scale": list(scale)} if scale else {}),
        "sampler": sampler,
        "priors": prior_sentences(sampling.priors),
        "overlap": shared,
        "mixing": judged.table,
        **judged.verdict,
        "sampling_seconds": sampling_seconds,
        "seconds": time.perf_counter() - began,
    }
    data = selection.data
    process, outcome = pair(panel.process, panel.outcome, data.variables)
    fit = Fit(
        model=model,
        params=pd.Series(flat.mean(axis=0), index=index, name="estimate"),
        cov=pd.DataFrame(cov, index=index, columns=index),
        sample=selection.sample,
        diagnostics=diagnostics,
        loglik=None,
        n_params=len(index),
        converged="failure" not in diagnostics,
        variables=data.variables,
        process=process,
        outcome=outcome,
        timing={v: panel.timing[v] for v in data.variables if v in panel.timing},
        higher={v: panel.higher[v] for v in data.variables if v in panel.higher},
        sessions=data.sessions,
        draws=pd.DataFrame(flat, columns=index),
        data=data,
        sampling=sampling,
    )
    tell(fit, strict, depth=depth + 1)
    return fit


def overlaps(values: Array, priors: Sequence[Term]) -> dict[str, float]:
    """Return by label the area that prior and posterior density of every quantity share."""
    return {
        term.label: overlap(values[:, j], term.density, term.lower, term.upper)
        for j, term in enumerate(priors)
    }


def dominated(shared: dict[str, float], sessions: float) -> list[str]:
    """Say of which lagged effects and SDs the prior has said much, where sessions are few.

    Rule: overlap above 35 % and fewer than 15 sessions of the client in the middle.
    """
    if sessions >= SHORT:
        return []
    much = [
        name
        for name, area in shared.items()
        if area > DOMINATED and (name.startswith(("phi", "same[")) or "_sd[" in name)
    ]
    if not much:
        return []
    named = ", ".join(f"{name} ({shared[name]:.0%})" for name in much[:4])
    more = f" and {len(much) - 4} more" if len(much) > 4 else ""
    return [
        f"With {sessions:.0f} sessions of a client the prior says much of what is said here "
        f"of {named}{more}: the share of the posterior that it holds is above {DOMINATED:.0%}. "
        "Try other priors=, or let fewer effects be random."
    ]


def contradicted(values: Array, priors: Sequence[Term]) -> list[str]:
    """Say where the posterior lies in the tail of its prior and is drawn back by it.

    Rule: less than 5 % of a normal or half-normal prior lies as far out as the posterior mean, and
    the slope of the log prior there moves that mean by a tenth of the posterior's SD or more.
    """
    said = []
    for draws, term in zip(values.T, priors, strict=True):
        if term.kind not in ("normal", "half-normal"):
            continue
        mean, spread = float(draws.mean()), float(draws.std())
        out = abs(mean - term.location) / term.scale
        if out > TAIL and (pull := out * spread / term.scale) > PULL:
            said.append(
                f"{term.label} (posterior mean {mean:.3g}, prior {term}, drawn towards it by "
                f"{pull:.1f} posterior SDs; a prior {int(np.ceil(out))} times as wide has room)"
            )
    if not said:
        return []
    more = f" and {len(said) - 3} more" if len(said) > 3 else ""
    return [
        f"The data lie where the prior hardly allows them: {'; '.join(said[:3])}{more}. Widen "
        "with priors= and compare."
    ]


def prior_sentences(priors: Sequence[Term]) -> list[str]:
    """Return the priors in raw units, alike ones in one sentence."""
    alike: dict[tuple[str, str], list[str]] = {}
    for term in priors:
        alike.setdefault((term.label.partition("[")[0], str(term)), []).append(term.label)
    return [
        f"{', '.join(labels) if len(labels) <= 3 else f'{family}[...] ({len(labels)})'} ~ {prior}"
        for (family, prior), labels in alike.items()
    ]
