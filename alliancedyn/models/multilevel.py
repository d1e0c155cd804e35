"""From the terms of a within-between regression to its estimated equation, by a mixed model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names
from alliancedyn.engine.blocks import Components, summarise_blocks
from alliancedyn.engine.clustered import ClusteredCov, clustered_cov
from alliancedyn.engine.delta import Freedom
from alliancedyn.engine.mixed import fit_mixed
from alliancedyn.engine.mixed_inference import Freedom as ModelFreedom
from alliancedyn.engine.mixed_result import Bound, MixedFit
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.models.equations import Equation
from alliancedyn.models.rows import Terms

if TYPE_CHECKING:
    from alliancedyn.models.regression import Question
    from alliancedyn.models.within_between import WithinBetween

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

MANY = 1000  # clusters: from here on a t distribution is a normal one

_AT_ZERO = (
    "the data show no variance here beyond what the other terms make; the fixed effects and their "
    "errors are those of the model without it"
)


@dataclass(frozen=True)
class RobustFreedom:
    """Degrees of freedom of contrasts under a cluster-robust covariance."""

    found: ClusteredCov

    def of(self, contrasts: Array, cov: Array) -> Array:
        """Return them (m,) for contrasts (m, p)."""
        return self.found.freedom(contrasts)


@dataclass(frozen=True)
class Rows:
    """The rows of an equation, client by client."""

    y: Array
    X: Array
    Z: Array
    client: Codes  # 0 .. J - 1 over the clients with a row
    who: Codes  # the client of the data that each of them is
    time: Array
    outer: Codes | None


def mixed_equation(
    model: WithinBetween, question: Question, terms: Terms, therapist: Codes | None
) -> Equation:
    """Estimate one direction of a within-between regression.

    Raises
    ------
    SpecificationError
        If terms depend on one another, or the rows cannot carry the random effects.
    """
    rows, fit = fitted_rows(model, question, terms, therapist)
    cov, shares, freedom = _errors(question, rows, fit, len(question.data.Y))
    return Equation(
        names=tuple(terms.columns),
        estimates=np.asarray(fit.beta),
        cov=cov,
        shares=shares,
        used=terms.used,
        rows_set_aside=terms.set_aside(),
        variances=_variances(model, question, fit),
        variance_cov=fit.variance_cov,
        units=_units(rows, len(question.data.Y)),
        freedom=freedom,
        loglik=fit.loglik,
        failure=None if fit.converged else "the search for the variances did not converge.",
        boundary=tuple(_sentence(bound, model) for bound in fit.boundary),
        diagnostics={"iterations": fit.iterations},
    )


def fitted_rows(
    model: WithinBetween, question: Question, terms: Terms, therapist: Codes | None
) -> tuple[Rows, MixedFit]:
    """Return the rows of an equation and the mixed model fitted to them."""
    rows = _rows(model, question, terms, therapist)
    reml = model.method == "reml"
    return rows, fit_mixed(rows.y, rows.X, rows.Z, rows.client, outer=rows.outer, reml=reml)


def _rows(model: WithinBetween, question: Question, terms: Terms, therapist: Codes | None) -> Rows:
    """Lay the client-sessions that are used out, client by client."""
    used = terms.used
    who, client = np.unique(np.nonzero(used)[0], return_inverse=True)
    X = terms.design(used)
    Z = np.ones((len(X), 1 + len(model.random_slopes)))
    for place, slope in enumerate(model.random_slopes, start=1):
        Z[:, place] = X[:, _column(slope, question, terms)]
    return Rows(
        y=terms.outcome[used],
        X=X,
        Z=Z,
        client=np.asarray(client, np.int64),
        who=np.asarray(who, np.int64),
        time=np.broadcast_to(np.array(question.data.sessions), used.shape)[used],
        outer=None if therapist is None else _compact(therapist[used]),
    )


def _compact(codes: Codes) -> Codes:
    return np.asarray(np.unique(codes, return_inverse=True)[1], np.int64)


def _column(slope: str, question: Question, terms: Terms) -> int:
    """Return the place of the term whose effect differs between clients."""
    source, target = question.source, question.target
    known = {
        source: names.label("phi", target, source),
        target: names.label("phi", target, target),
        "trend": names.label("trend", target),
    }
    columns = list(terms.columns)
    if known.get(slope) not in columns:
        usable = [word for word, name in known.items() if name in columns]
        raise SpecificationError(
            f"random_slopes names {slope!r}, which is no term of the equation of {target!r}; "
            f"choose from {usable}."
        )
    return columns.index(known[slope])


def _errors(
    question: Question, rows: Rows, fit: MixedFit, n: int
) -> tuple[Array, Array, Freedom | None]:
    """Return covariance, shares by client (n, p) and degrees of freedom, under the errors asked.

    Robust errors are those of Bell and McCaffrey (CR2), which few clusters do not shrink. What is
    one client's share in a cluster is not needed: the cluster's stands in the row of its first.
    """
    shares = np.zeros((n, rows.X.shape[1]))
    if question.errors == "observed":
        shares[rows.who] = fit.influence
        return fit.beta_cov, shares, ModelFreedom(fit.beta_cov_slopes, fit.variance_cov)
    blocks = summarise_blocks(rows.y, rows.X, rows.Z, rows.client, rows.outer)
    components = Components(fit.random_cov, fit.residual_var, fit.outer_var)
    cluster = None if question.clusters is None else _compact(question.clusters[rows.who])
    found = clustered_cov(blocks, components, cluster, correction="CR2")
    codes = cluster
    if codes is None:
        codes = np.arange(len(rows.who)) if blocks.outer is None else blocks.outer
    shares[rows.who[np.unique(codes, return_index=True)[1]]] = found.scores
    return found.cov, shares, RobustFreedom(found) if found.clusters < MANY else None


def _units(rows: Rows, n: int) -> Codes | None:
    """Return codes (n,) of the therapists within which clients are not independent."""
    if rows.outer is None:
        return None
    codes = np.arange(n) + int(rows.outer.max()) + 1  # who has no row stays alone
    codes[rows.who] = rows.outer[np.unique(rows.client, return_index=True)[1]]
    return codes


def _variances(model: WithinBetween, question: Question, fit: MixedFit) -> dict[str, float]:
    """Name the variances in the order of `MixedFit.variances`."""
    effects = ("intercept", *model.random_slopes)
    labels = [
        question.random_name("random_cov", first, second)
        for place, first in enumerate(effects)
        for second in effects[place:]
    ]
    if len(fit.units) > 1:
        labels.append(question.random_name("therapist_random_cov", "intercept", "intercept"))
    labels.append(names.label("residual_var", question.target))
    return dict(zip(labels, fit.variances.tolist(), strict=True))


def _sentence(bound: Bound, model: WithinBetween) -> str:
    """Say which variance is at zero, and what that means."""
    effects = ("intercept", *model.random_slopes)
    which = listed([effects[column] for column in bound.columns])
    if bound.kind == "outer":
        return f"therapist_random_cov: therapists do not differ: {_AT_ZERO}."
    if bound.kind == "correlation":
        return (
            f"random_cov: the random effects of {which} are perfectly correlated, as happens where "
            "one of them hardly varies; the fixed effects and their errors take that as given."
        )
    return f"random_cov: clients do not differ in {which}: {_AT_ZERO}."
