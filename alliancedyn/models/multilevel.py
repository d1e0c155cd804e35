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
from alliancedyn.engine.mixed_rows import NO_UNIT
from alliancedyn.errors import SpecificationError, listed
from alliancedyn.models.equations import Equation
from alliancedyn.models.persons import BY_PERSON
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
    outer: Codes | None  # therapist of each row, -1 = none
    of_client: Codes | None  # the (first) outer unit of each client

    @property
    def switches(self) -> int:
        """How many clients changed therapists."""
        if self.outer is None:
            return 0
        pairs = np.unique(np.column_stack([self.client, self.outer]), axis=0)
        return int((np.bincount(pairs[:, 0]) > 1).sum())

    @property
    def codes(self) -> Codes | None:
        """The outer units as the engine takes them."""
        return None if self.outer is None else np.where(self.outer < 0, NO_UNIT, self.outer)

    @property
    def free(self) -> int:
        """How many clients have no therapist though others have."""
        return 0 if self.of_client is None else int((self.of_client < 0).sum())


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
    n = len(question.data.Y)
    units = _units(question, rows, n)
    plain = question.errors == "observed"
    robust = _robust(question, fit, None if units is None else units[rows.who])
    cov, shares, freedom = _errors(robust, units, rows, fit, n)
    return Equation(
        names=tuple(terms.columns),
        estimates=np.asarray(fit.beta),
        cov=cov,
        shares=shares,
        used=terms.used,
        rows_set_aside=terms.set_aside(),
        variances=_variances(model, question, fit),
        variance_cov=fit.variance_cov,
        units=units if plain or robust else question.clusters,
        freedom=freedom,
        loglik=fit.loglik,
        failure=None if fit.converged else "the search for the variances did not converge.",
        boundary=_boundary(model, fit),
        notes=(*_notes(model, question, fit), *_free(rows), *terms.notes),
        diagnostics={} if plain or robust else {"errors": "observed"},
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
    if therapists < 2:
        some = "have the same therapist" if therapists else "have no therapist"
        raise SpecificationError(
            f"All clients with a usable session {some}, so nothing is known of how therapists "
            f"differ. {remedy}"
        )
    if therapists == len(rows.who) - rows.free and not rows.switches:
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
    outer = rows.codes
    if crossed and outer is not None:
        return fit_crossed(rows.y, rows.X, rows.client, outer, reml=reml)
    if model.residuals == "ar1":
        return fit_mixed_ar(
            rows.y, rows.X, rows.client, rows.time, Z=rows.Z, outer=outer, reml=reml
        )
    return fit_mixed(rows.y, rows.X, rows.Z, rows.client, outer=outer, reml=reml)


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
    """Renumber codes from 0; -1, for none, stays."""
    places = np.unique(codes[codes >= 0], return_inverse=True)[1]
    out = np.full(len(codes), -1, np.int64)
    out[codes >= 0] = places
    return out


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


def _robust(question: Question, fit: Fitted, units: Codes | None) -> bool:
    """Say whether errors are robust; refuse where they were asked for and cannot be."""
    if question.errors == "observed":
        return False
    if isinstance(fit, CrossedFit):
        why = f"{fit.switchers} clients changed therapists. Use errors='observed'."
    elif units is not None and len(np.unique(units)) < 2:
        why = (
            "persons with several episodes connect all therapists. Use errors='observed', or "
            'levels=("client",).'
        )
    else:
        return True
    if not question.asked:
        return False
    raise SpecificationError(
        f"errors={question.errors!r} needs groups of clients that have nothing in common, and {why}"
    )


def _errors(
    robust: bool, units: Codes | None, rows: Rows, fit: Fitted, n: int
) -> tuple[Array, Array, Freedom | None]:
    """Return covariance, shares by client (n, p) and degrees of freedom, under the errors asked.

    Robust errors are those of Bell and McCaffrey (CR2), which few clusters do not shrink. What is
    one client's share in a cluster is not needed: the cluster's stands in the row of its first.
    """
    shares = np.zeros((n, rows.X.shape[1]))
    if not robust or isinstance(fit, CrossedFit):
        shares[rows.who] = fit.influence
        return fit.beta_cov, shares, ModelFreedom(fit.beta_cov_slopes, fit.variance_cov)
    cluster = None if units is None else _compact(units[rows.who])
    if isinstance(fit, CorrelatedFit):
        blocks, components = fit.blocks, fit.components
    else:
        blocks = summarise_blocks(rows.y, rows.X, rows.Z, rows.client, rows.codes)
        components = Components(fit.random_cov, fit.residual_var, fit.outer_var)
    found = clustered_cov(blocks, components, cluster, correction="CR2")
    codes = np.arange(len(rows.who)) if cluster is None else cluster
    shares[rows.who[np.unique(codes, return_index=True)[1]]] = found.scores
    return found.cov, shares, RobustFreedom(found) if found.clusters < MANY else None


def _units(question: Question, rows: Rows, n: int) -> Codes | None:
    """Return codes (n,) of the clusters asked for, or else of the therapists; None without any.

    Persons may have episodes with several therapists, whose clients are dependent too: who is
    connected by one or the other is one cluster.
    """
    clusters = question.clusters
    if rows.of_client is None or rows.switches:
        return clusters
    therapist = np.arange(n) + int(rows.of_client.max()) + 1  # who has none stays alone
    known = rows.of_client >= 0
    therapist[rows.who[known]] = rows.of_client[known]
    if clusters is None:
        return therapist
    return _connected(clusters, therapist) if question.errors == BY_PERSON else clusters


def _connected(one: Codes, other: Codes) -> Codes:
    """Return codes (n,) that are equal where a chain of equal codes of either kind leads."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = (np.unique(codes, return_inverse=True)[1] for codes in (one, other))
    size = int(first.max()) + int(second.max()) + 2
    edges = (np.ones(len(first)), (first, int(first.max()) + 1 + second))
    found = connected_components(coo_array(edges, shape=(size, size)), directed=False)[1]
    return np.asarray(found[first], np.int64)


def _free(rows: Rows) -> tuple[str, ...]:
    """Say which clients have no therapist effect."""
    if not rows.free:
        return ()
    return (
        f"{rows.free} of {len(rows.who)} clients have no therapist: they stay, without a therapist "
        "effect, as a control arm does. If theirs is only unknown, leave them out (panel.subset).",
    )


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
