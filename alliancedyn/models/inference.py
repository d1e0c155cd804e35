"""From a likelihood to a result: maximum, verdict, standard errors, sample."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.engine.gaps import patchy
from alliancedyn.engine.likelihood import Likelihood
from alliancedyn.engine.maximise import (
    Maximum,
    invert_information,
    outer_products,
    sandwich,
)
from alliancedyn.engine.moments import implied_moments
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.models.guards import traceless_error
from alliancedyn.models.known_lags import between_sessions
from alliancedyn.models.options import savings
from alliancedyn.models.persons import cluster_notes, usual_errors
from alliancedyn.models.search import search
from alliancedyn.models.selection import Selection, cluster_codes
from alliancedyn.models.verdict import (
    boundary_sentences,
    failure_sentence,
    far_scores,
    notes,
    off_center,
    rival_sentence,
    tell,
)
from alliancedyn.panel import SessionPanel
from alliancedyn.panel.choices import pair
from alliancedyn.panel.issues import cautions
from alliancedyn.results import Fit, Model
from alliancedyn.results.model import Params

Array = NDArray[np.float64]

SINGULAR_SCORES = 1e-9  # smallest eigenvalue of the implied correlations that counts as zero


class Remarking(Model, Protocol):
    """A specification that may have something to say about its own estimates."""

    def remarks(self, params: Params) -> list[str]:
        """Return what a reader should know about these estimates, in sentences."""
        ...


def fit_likelihood(
    model: Remarking,
    panel: SessionPanel,
    selection: Selection,
    variables: tuple[str, ...],
    likelihood: Likelihood,
    errors: str | None,
    seed: int | None,
    strict: bool,
    starts: int = 1,
) -> Fit:
    """Maximize a likelihood and return the fit with its verdict.

    Raises
    ------
    SpecificationError
        If ``errors`` is not known or the clusters are not.
    ConvergenceError
        If ``strict`` and the search did not converge; it holds the fit.
    """
    began = time.perf_counter()
    errors = usual_errors(selection.data, "observed") if errors is None else errors
    clusters = _clusters(panel, selection, errors)
    columns, known = selection.data.variables, getattr(model, "covariates", ())
    seen = ~np.isnan(selection.data.Y[:, :, [v not in known for v in columns]])
    found = search(likelihood, seen, starts, seed)
    bounds = likelihood.layout.bounds(found.theta)
    fewer = savings(model)
    unlimited = bool(bounds) and _singular_scores(likelihood, found)
    failure = failure_sentence(likelihood.layout, found, bounds, unlimited, fewer, starts)
    centers = off_center(getattr(model, "moderators", ()), selection.data)
    if failure:
        failure = " ".join([failure, far_scores(selection.data) or "", *centers]).strip()
    failure = failure or (rival_sentence(likelihood, found) if patchy(seen) else None)
    failure = failure or traceless_error(likelihood, found)
    inverse, _, _ = invert_information(found.information)
    diagnostics: dict[str, Any] = {
        "errors": errors,
        "gradient": float(np.abs(found.score).max()),
        "decrement": found.decrement,
        "condition": found.condition,
        "boundary": boundary_sentences(bounds),
        "notes": [
            *model.remarks(likelihood.to_params(found.theta)),
            *centers,
            *(between_sessions(seen) if getattr(model, "time", None) == "session" else []),
            *notes(selection, found, clusters, fewer, starts),
            *cautions(panel.issues, in_days=getattr(model, "time", None) == "days"),
            *cluster_notes(panel, selection.data, errors, clusters),
        ],
        "evaluations": found.evaluations,
    }
    if errors != "observed":
        scores = likelihood.scores(found.theta)
        diagnostics["trace"] = float(np.sum(inverse * outer_products(scores, clusters)))
        inverse = sandwich(inverse, scores, clusters)
    diagnostics["seconds"] = time.perf_counter() - began
    if failure is not None:
        diagnostics["failure"] = failure
    fit = _result(model, panel, selection, variables, likelihood, found, inverse, diagnostics)
    if errors != "observed":
        indices = fit.fit_indices(panel)
        scaled = {key: indices[key] for key in ("scaling_factor", "chisq_scaled")}
        fit = replace(fit, diagnostics={**diagnostics, **scaled})
    tell(fit, strict, depth=3)
    return fit


def _result(
    model: Model,
    panel: SessionPanel,
    selection: Selection,
    chosen: tuple[str, ...],
    likelihood: Likelihood,
    found: Maximum,
    inverse: Array,
    diagnostics: dict[str, Any],
) -> Fit:
    params = pd.Series(likelihood.to_params(found.theta), name="estimate", dtype=float)
    J = likelihood.jacobian(found.theta)
    cov = J @ inverse @ J.T
    held = np.flatnonzero(likelihood.layout.held(found.theta))  # at zero: no standard error
    cov[held, :] = cov[:, held] = np.nan
    process, outcome = pair(panel.process, panel.outcome, chosen)
    return Fit(
        model=model,
        params=params,
        cov=pd.DataFrame(cov, index=params.index, columns=params.index),
        sample=selection.sample,
        diagnostics=diagnostics,
        loglik=found.loglik,
        n_params=len(found.theta),
        converged="failure" not in diagnostics,
        variables=chosen,
        process=process,
        outcome=outcome,
        timing=_shared(panel.timing, model, chosen),
        higher=_shared(panel.higher, model, chosen),
        sessions=selection.sessions,
        data=selection.data,
    )


def _shared(said: dict[str, str], model: Model, chosen: tuple[str, ...]) -> dict[str, str]:
    """Return what is said of each series; of one with several items, what all of them share."""
    items = getattr(model, "indicators", None) or {}
    found = {}
    for name in chosen:
        words = {said.get(item) for item in items.get(name, [name])}
        if len(words) == 1 and (word := words.pop()) is not None:
            found[name] = word
    return found


def _singular_scores(likelihood: Likelihood, found: Maximum) -> bool:
    """Say whether the scores themselves are singular there: not a maximum, but a pole."""
    systems = likelihood.systems(likelihood.layout.matrices(found.theta))
    for system, share in zip(systems, likelihood.shares, strict=True):
        seen = share.blocks.seen.any(axis=(0, 3)).ravel()
        if system.phi.ndim == 4:  # every client's own: the one with most scores tells
            each = share.blocks.gather(share.blocks.seen)
            who = int(each.sum(axis=(1, 2)).argmax())
            system, seen = (
                replace(system, phi=system.phi[who], psi=system.psi[who]),
                each[who].ravel() > 0.0,
            )
        cov = implied_moments(system)[1][np.ix_(seen, seen)]
        d = np.sqrt(np.diag(cov))
        if np.linalg.eigvalsh(cov / d / d[:, None])[0] < SINGULAR_SCORES:
            return True
    return False


def _clusters(panel: SessionPanel, selection: Selection, errors: str) -> NDArray[np.int64] | None:
    if errors in ("observed", "robust"):
        return None
    kind, _, by = str(errors).partition(":")
    if kind != "cluster" or not by:
        known = ["observed", "robust", "cluster:therapist"]
        raise SpecificationError(f"errors is {errors!r}; choose {listed(known)}.")
    return cluster_codes(panel, selection, by)
