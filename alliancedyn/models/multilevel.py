"""From the terms of a within-between regression to its estimated equation, by a mixed model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names
from alliancedyn.engine.blocks import Components, summarise_blocks
from alliancedyn.engine.clustered import ClusteredCov, clustered_cov
from alliancedyn.engine.correlated import CorrelatedFit, SerialLimit, fit_mixed_ar
from alliancedyn.engine.crossed import CrossedFit, fit_crossed
from alliancedyn.engine.delta import Freedom
from alliancedyn.engine.mixed import fit_mixed
from alliancedyn.engine.mixed_inference import Freedom as ModelFreedom
from alliancedyn.engine.mixed_result import Bound, MixedFit
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.models.equations import Equation
from alliancedyn.models.rows import Terms, refuse_dependent

if TYPE_CHECKING:
    from alliancedyn.models.regression import Question
    from alliancedyn.models.within_between import WithinBetween

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

Fitted = MixedFit | CorrelatedFit | CrossedFit

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
    of_client: Codes | None  # the (first) outer unit of each client

    @property
    def switches(self) -> int:
        """How many clients changed therapists."""
        if self.outer is None:
            return 0
        pairs = np.unique(self.client * (int(self.outer.max()) + 1) + self.outer)
        of_pair = pairs // (int(self.outer.max()) + 1)
        return int((np.bincount(of_pair) > 1).sum())


def mixed_equation(
    model: WithinBetween, question: Question, terms: Terms, therapist: Codes | None
) -> Equation:
    """Estimate one direction of a within-between regression.

    Raises
    ------
    SpecificationError
        If terms depend on one another, or the rows cannot carry the random effects.
    """
    rows = client_rows(model, question, terms, therapist)
    _refuse_therapists(rows)
    try:
        fit = fitted(model, rows)
    except SpecificationError:
        refuse_dependent(rows.X, tuple(terms.columns), question.target)
        raise
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
        boundary=_boundary(model, fit),
        notes=(*_notes(model, question, fit), *terms.notes),
    )


def _refuse_therapists(rows: Rows) -> None:
    """Refuse therapists who are no level: a single one, or one for each client.

    Raises
    ------
    SpecificationError
        With the remedy.
    """
    if rows.outer is None or rows.of_client is None:
        return
    therapists, remedy = int(rows.outer.max()) + 1, 'Use levels=("client",).'
    if therapists == 1:
        raise SpecificationError(
            "All clients with a usable session have the same therapist, so nothing is known of "
            f"how therapists differ. {remedy}"
        )
    if therapists == len(rows.who) == len(np.unique(rows.of_client)) and not rows.switches:
        raise SpecificationError(
            f"Each of the {therapists} therapists has a single client, so the two levels cannot "
            f"be told apart. {remedy}"
        )


def fitted(model: WithinBetween, rows: Rows) -> Fitted:
    """Fit the mixed model of the rows: nested, crossed, or with autocorrelated residuals.

    Raises
    ------
    SpecificationError
        If clients who changed therapists meet an option that has no crossed version.
    """
    reml = model.method == "reml"
    crossed = rows.switches
    if crossed and (model.random_slopes or model.residuals == "ar1"):
        what = "random_slopes" if model.random_slopes else 'residuals="ar1"'
        raise SpecificationError(
            f"{crossed} clients changed therapists, so therapists cross clients; {what} need each "
            "client to have one. Give each client one therapist, or leave "
            f"{what} out."
        )
    if crossed and rows.outer is not None:
        return fit_crossed(rows.y, rows.X, rows.client, rows.outer, reml=reml)
    if model.residuals == "ar1":
        return fit_mixed_ar(
            rows.y, rows.X, rows.client, rows.time, Z=rows.Z, outer=rows.outer, reml=reml
        )
    return fit_mixed(rows.y, rows.X, rows.Z, rows.client, outer=rows.outer, reml=reml)


def client_rows(
    model: WithinBetween, question: Question, terms: Terms, therapist: Codes | None
) -> Rows:
    """Lay the client-sessions that are used out, client by client."""
    used = terms.used
    who, client = np.unique(np.nonzero(used)[0], return_inverse=True)
    X = terms.design(used)
    Z = np.ones((len(X), 1 + len(model.random_slopes)))
    for place, slope in enumerate(model.random_slopes, start=1):
        Z[:, place] = X[:, _column(slope, question, terms)]
    outer = None if therapist is None else _compact(therapist[used])
    return Rows(
        y=terms.outcome[used],
        X=X,
        Z=Z,
        client=np.asarray(client, np.int64),
        who=np.asarray(who, np.int64),
        time=np.broadcast_to(np.array(question.data.sessions), used.shape)[used],
        outer=outer,
        of_client=None if outer is None else outer[np.unique(client, return_index=True)[1]],
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
    question: Question, rows: Rows, fit: Fitted, n: int
) -> tuple[Array, Array, Freedom | None]:
    """Return covariance, shares by client (n, p) and degrees of freedom, under the errors asked.

    Robust errors are those of Bell and McCaffrey (CR2), which few clusters do not shrink. What is
    one client's share in a cluster is not needed: the cluster's stands in the row of its first.
    """
    shares = np.zeros((n, rows.X.shape[1]))
    if question.errors == "observed":
        shares[rows.who] = fit.influence
        return fit.beta_cov, shares, ModelFreedom(fit.beta_cov_slopes, fit.variance_cov)
    if isinstance(fit, CrossedFit):
        raise SpecificationError(
            f"errors={question.errors!r} needs groups of clients that have nothing in common, and "
            f"{fit.switchers} clients changed therapists. Use errors='observed'."
        )
    cluster = None if question.clusters is None else _compact(question.clusters[rows.who])
    if isinstance(fit, CorrelatedFit):
        blocks, components = fit.blocks, fit.components
    else:
        blocks = summarise_blocks(rows.y, rows.X, rows.Z, rows.client, rows.outer)
        components = Components(fit.random_cov, fit.residual_var, fit.outer_var)
    found = clustered_cov(blocks, components, cluster, correction="CR2")
    codes = cluster if cluster is not None else rows.of_client
    if codes is None:
        codes = np.arange(len(rows.who))
    shares[rows.who[np.unique(codes, return_index=True)[1]]] = found.scores
    return found.cov, shares, RobustFreedom(found) if found.clusters < MANY else None


def _units(rows: Rows, n: int) -> Codes | None:
    """Return codes (n,) of the therapists within which clients are not independent."""
    if rows.of_client is None or rows.switches:
        return None
    codes = np.arange(n) + int(rows.of_client.max()) + 1  # who has no row stays alone
    codes[rows.who] = rows.of_client
    return codes


_INDEX = re.compile(r"\[(\d+),(\d+)\]")


def _variances(model: WithinBetween, question: Question, fit: Fitted) -> dict[str, float]:
    """Name the variances in the order of their covariance."""
    effects = ("intercept", *model.random_slopes)
    labels = []
    for name in fit.variance_names:
        places = _INDEX.search(name)
        if places is not None:
            first, second = sorted(int(place) for place in places.groups())
            label = question.random_name("random_cov", effects[first], effects[second])
        elif name.startswith("outer"):
            label = question.random_name("therapist_random_cov", "intercept", "intercept")
        else:
            family = "residual_ar" if name == "residual_ar" else "residual_var"
            label = names.label(family, question.target)
        labels.append(label)
    return dict(zip(labels, np.asarray(fit.variances).tolist(), strict=True))


def _boundary(model: WithinBetween, fit: Fitted) -> tuple[str, ...]:
    """Say which variances are at zero, and what that means."""
    effects = ("intercept", *model.random_slopes)
    return tuple(_sentence(bound, effects) for bound in fit.boundary)


def _sentence(bound: Bound | SerialLimit, effects: tuple[str, ...]) -> str:
    if isinstance(bound, SerialLimit):
        return f"residual_ar: {bound.sentence}"
    if bound.kind == "outer":
        return f"therapist_random_cov: therapists do not differ: {_AT_ZERO}."
    which = listed([effects[column] for column in bound.columns])
    if bound.kind == "variance":
        return f"random_cov: clients do not differ in {which}: {_AT_ZERO}."
    return (
        f"random_cov: the random effects of {which} are perfectly correlated, as happens where one "
        "of them hardly varies; the fixed effects and their errors take that as given."
    )


def _notes(model: WithinBetween, question: Question, fit: Fitted) -> tuple[str, ...]:
    """Say what options make of the numbers."""
    said = []
    if isinstance(fit, CrossedFit):
        said.append(
            f"{fit.switchers} clients changed therapists; each session counts for the therapist "
            "who held it."
        )
        if not question.alone:
            said.append("The covariance between directions takes clients as independent.")
    if model.residuals == "ar1" and model.lagged_outcome == "within":
        said.append(
            "A lagged outcome and autocorrelated residuals both carry a score on to the next, and "
            "the data hardly part them: read neither as the autoregression."
        )
    return tuple(said)
