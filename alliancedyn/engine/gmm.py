"""Difference, orthogonal-deviation and system GMM for dynamic panels, from instrument blocks.

For y_it = x_it' beta + alpha_i + u_it, transformed rows (differences, or forward orthogonal
deviations) lose alpha_i, and values of earlier sessions are their instruments Z_i (rows, K)::

    one step    beta_1 = (X'Z W_1 Z'X)^-1 X'Z W_1 Z'y,   W_1 = (sum_i Z_i' H Z_i)^-1
    two steps   the same with W_2 = (sum_i Z_i' e_i e_i' Z_i)^-1, e the one-step residuals

with X'Z = sum_i X_i'Z_i and H the covariance of the rows if u were white noise of variance 1.
Z_i is block diagonal over rows (or stacked, if collapsed) and is never formed: every row keeps its
own columns. Time and memory grow linearly with clients.

References
----------
Arellano, M., & Bond, S. (1991). Some tests of specification for panel data: Monte Carlo evidence
and an application to employment equations. Review of Economic Studies, 58, 277-297.
Arellano, M., & Bover, O. (1995). Another look at the instrumental variable estimation of
error-components models. Journal of Econometrics, 68, 29-51.
Blundell, R., & Bond, S. (1998). Initial conditions and moment restrictions in dynamic panel data
models. Journal of Econometrics, 87, 115-143.
Windmeijer, F. (2005). A finite sample correction for the variance of linear efficient two-step
GMM estimators. Journal of Econometrics, 126, 25-51.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alliancedyn.checking import checked, named
from alliancedyn.engine.instruments import (
    Columns,
    Grid,
    Kind,
    Lags,
    Rows,
    add_effects,
    effect_instruments,
    effect_sessions,
    exogenous_columns,
    lagged_differences,
    lagged_levels,
    make_rows,
    refuse_lags,
)
from alliancedyn.engine.orthogonality import (
    NullTest,
    autocorrelation,
    difference_hansen,
    no_test,
    overidentification,
)
from alliancedyn.engine.weighting import Moments, Step, solve, weigh
from alliancedyn.errors import SpecificationError

Array = NDArray[np.float64]


@named
@dataclass(frozen=True)
class GMMFit:
    """A fitted dynamic panel equation.

    Parameters
    ----------
    beta : (q,)
        Coefficients of X, then of session effects, then of the intercept, where there are any.
    cov : (q, q)
        Robust to any errors within clients: sandwich after one step, Windmeijer after two.
    cov_conventional : (q, q)
        For white noise u (one step), or without Windmeijer's correction (two steps).
    influence : (N, q)
        Each client's first-order share in ``beta`` (estimate - truth is about their sum), in the
        order of ``clients``. After two steps with what the estimated weight adds, so that
        ``influence.T @ influence`` is ``cov`` after either (without that correction it is the
        robust sandwich). Exact unless the weight matrix is singular.
    clients : (N,)
        Client codes, sorted.
    m1, m2 : NullTest
        No first- or second-order autocorrelation of the differenced errors.
    sargan : NullTest
        Overidentification after one step, valid for white noise u.
    hansen : NullTest
        Overidentification after two steps, valid whatever the errors; NaN after one step.
    difference_hansen : tuple of NullTest
        For each GMM series, then (in systems) for the level rows: their instruments are exogenous,
        given the others. NaN after one step.
    n_instruments, rank : int
        Columns of Z, and the rank of the weight matrix.
    n_rows, n_clients : int
        Transformed and level rows used, and clients with at least one.
    effects : tuple of int
        Sessions of the session effects, in their order in ``beta``. In differences the effect of a
        row is the change from the session before; in orthogonal deviations and in systems effects
        are those of level rows (in deviations relative to the first).
    sigma2 : float
        One-step variance of u.
    residuals : (n,)
        Of the transformed rows, at the rows of ``y`` they belong to; NaN where none.
    notes : tuple of str
        What a reader should know.
    """

    beta: Array
    cov: Array
    cov_conventional: Array
    influence: Array
    clients: NDArray[np.generic]
    m1: NullTest
    m2: NullTest
    sargan: NullTest
    hansen: NullTest
    difference_hansen: tuple[NullTest, ...]
    n_instruments: int
    rank: int
    n_rows: int
    n_clients: int
    effects: tuple[int, ...]
    sigma2: float
    residuals: Array
    notes: tuple[str, ...]


@checked
def fit_gmm(
    y: ArrayLike,
    X: ArrayLike,
    client: ArrayLike,
    session: ArrayLike,
    *,
    gmm: Sequence[tuple[ArrayLike, Lags]],
    iv: ArrayLike | None = None,
    transform: str = "difference",
    steps: int = 2,
    collapse: bool = False,
    session_effects: bool = False,
    system: bool = False,
    intercept: bool = False,
) -> GMMFit:
    """Fit a dynamic panel equation by the generalized method of moments.

    Parameters
    ----------
    y : (n,)
        Outcome in levels, one row per client and session, in any order; NaN = missing.
    X : (n, p)
        Regressors in levels, lags already taken by session number; NaN = missing.
    client, session : (n,)
        Client codes and session numbers. Gaps stay gaps: sessions are never renumbered.
    gmm : sequence of (values (n,), (first lag, last lag))
        Series whose own levels at these lags are instruments of the transformed row; a last lag
        of None takes all. In orthogonal deviations lags count from the next session.
    iv : (n, r), optional
        Strictly exogenous columns, instruments of their own transformed selves.
    transform : {"difference", "orthogonal"}
    steps : {1, 2}
    collapse : bool
        One column per series and lag instead of one per session, series and lag.
    session_effects : bool
        A free effect for every session; its columns are instruments too.
    system : bool
        Also the equation in levels, with lagged differences as instruments.
    intercept : bool
        A constant in the level rows of a system; not beside session effects.

    Raises
    ------
    DataError
        If lengths differ, a number is infinite, a code is missing, or a client has two rows at a
        session.
    SpecificationError
        If an option is unknown, no row can be used, or the instruments do not identify all
        coefficients.
    """
    _check_options(transform, steps, system, session_effects, intercept, gmm)
    kind: Kind = "orthogonal" if transform == "orthogonal" else "difference"
    grid = Grid.of(y, X, client, session)
    rows = make_rows(grid, kind)
    if not rows:
        raise SpecificationError(
            "No client has two sessions with all terms of the equation, one after the other. Use "
            "fewer lags, or check the session numbers."
        )
    levels = _levels(grid, rows) if system else []
    owners, counter = _instrument(rows, levels, grid, gmm, iv, collapse)
    rows += levels
    sessions = effect_sessions(rows, grid) if session_effects else []
    add_effects(rows, grid, sessions, by_row=kind == "difference" and not system)
    effect_instruments(rows, grid, sessions, counter)
    if intercept:
        _add_intercept(levels, len(grid.X), counter)
    moments = Moments.of(rows, grid, len(grid.X) + len(sessions) + intercept)
    differenced = [row for row in rows if row.kind == "difference"]
    if kind == "orthogonal":
        differenced = make_rows(grid, "difference")
        add_effects(differenced, grid, sessions, by_row=False)
    return _estimate(moments, grid, differenced, owners, steps, sessions)


def _check_options(
    transform: str,
    steps: int,
    system: bool,
    session_effects: bool,
    intercept: bool,
    gmm: Sequence[tuple[ArrayLike, Lags]],
) -> None:
    if transform not in ("difference", "orthogonal"):
        raise SpecificationError(
            f"transform is {transform!r}; choose 'difference' or 'orthogonal'."
        )
    if steps not in (1, 2):
        raise SpecificationError(f"steps is {steps!r}; choose 1 or 2.")
    if intercept and (session_effects or not system):
        raise SpecificationError(
            "An intercept is lost in transformed rows and repeats session effects. Use it with "
            "system=True and session_effects=False alone."
        )
    for given in gmm:
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise SpecificationError(
                "gmm holds pairs of values and lags: gmm=[(values, (2, None)), ...]."
            )
        refuse_lags(given[1])


def _levels(grid: Grid, rows: list[Rows]) -> list[Rows]:
    """Return the level rows from the second session on: those that can have an instrument."""
    return [row for row in make_rows(grid, "level") if row.session > 0]


def _instrument(
    rows: list[Rows],
    levels: list[Rows],
    grid: Grid,
    gmm: Sequence[tuple[ArrayLike, Lags]],
    iv: ArrayLike | None,
    collapse: bool,
) -> tuple[list[list[int]], Columns]:
    """Give every row its instruments; return the columns of each series, then of level rows."""
    counter = Columns()
    series = [(grid.lay(values, "gmm"), lags) for values, lags in gmm]
    owners = [lagged_levels(rows, values, lags, collapse, counter) for values, lags in series]
    own_levels: list[int] = []
    for owner, (values, lags) in zip(owners, series, strict=True):
        if levels:
            own = lagged_differences(levels, values, lags, collapse, counter)
            owner += own
            own_levels += own
    if iv is not None:
        exogenous_columns(rows, grid, grid.lay(iv, "iv"), counter)
    return [*owners, own_levels] if levels else owners, counter


def _add_intercept(levels: list[Rows], place: int, counter: Columns) -> None:
    column = counter.more(1)
    for row in levels:
        row.regress(row.ok.astype(float), place)
        row.instrument(row.ok.astype(float)[None], column)


@dataclass(frozen=True)
class _Inference:
    """The last step, its covariances, each client's share, and the tests of its instruments."""

    step: Step
    cov: Array
    conventional: Array
    influence: Array
    rank: int
    hansen: NullTest
    apart: tuple[NullTest, ...]


def _after_one(moments: Moments, one: Step, sigma2: float, owners: list[list[int]]) -> _Inference:
    influence = moments.shares(one)
    ze = moments.by_client(one.residuals)
    _, rank = weigh(ze @ ze.T)
    apart = tuple(no_test("difference in Hansen") for _ in owners)
    return _Inference(
        step=one,
        cov=influence.T @ influence,
        conventional=sigma2 * one.B,
        influence=influence,
        rank=rank,
        hansen=no_test("Hansen"),
        apart=apart,
    )


def _after_two(moments: Moments, one: Step, owners: list[list[int]]) -> _Inference:
    first = moments.shares(one)
    ze = moments.by_client(one.residuals)
    S = ze @ ze.T
    W, rank = weigh(S)
    if rank < moments.q:
        raise SpecificationError(
            f"{moments.n_clients} clients weigh the second step by a matrix of rank {rank}, too "
            f"few for {moments.q} coefficients. Use steps=1, add clients, or leave session "
            "effects out."
        )
    two = solve(moments, W)
    g = moments.total(two)
    hansen = overidentification(float(g @ W @ g), moments.size - moments.q, "Hansen")
    D = _weight_derivative(moments, two, ze, g)
    cov = two.B + D @ two.B + two.B @ D.T + D @ (first.T @ first) @ D.T
    return _Inference(
        step=two,
        cov=(cov + cov.T) / 2.0,
        conventional=two.B,
        influence=(two.onto @ ze).T + first @ D.T,
        rank=rank,
        hansen=hansen,
        apart=tuple(difference_hansen(moments, S, own, hansen) for own in owners),
    )


def _estimate(
    moments: Moments,
    grid: Grid,
    differenced: list[Rows],
    owners: list[list[int]],
    steps: int,
    sessions: list[int],
) -> GMMFit:
    one = solve(moments, weigh(moments.first_weight(grid))[0])
    sigma2 = moments.noise_variance(one.residuals)
    g = moments.total(one)
    df = moments.size - moments.q
    last = (
        _after_one(moments, one, sigma2, owners) if steps == 1 else _after_two(moments, one, owners)
    )
    beta = last.step.beta
    m1, m2 = autocorrelation(differenced, beta, moments.shares(last.step), last.cov)
    return GMMFit(
        beta=beta,
        cov=last.cov,
        cov_conventional=last.conventional,
        influence=last.influence,
        clients=grid.clients,
        m1=m1,
        m2=m2,
        sargan=overidentification(float(g @ one.W @ g) / sigma2, df, "Sargan"),
        hansen=last.hansen,
        difference_hansen=last.apart,
        n_instruments=moments.size,
        rank=last.rank,
        n_rows=moments.n_rows,
        n_clients=moments.n_clients,
        effects=tuple(grid.sessions[t] for t in sessions),
        sigma2=sigma2,
        residuals=_at_rows(grid, moments, last.step),
        notes=_notes(moments, last.rank, steps),
    )


def _weight_derivative(moments: Moments, two: Step, ze: Array, g: Array) -> Array:
    """Return D = d beta_2 / d beta_1 (q, q), through the weight W_2 alone (Windmeijer, 2005).

    ``D[:, j] = -B X'Z W_2 (dS/d beta_1j) W_2 g`` with g = Z'e_2 and
    ``dS/d beta_1j = -sum_i (z_x,j z_e' + z_e z_x,j')``, where z_x,j = Z_i' x_j and z_e = Z_i' e_1.
    """
    w = two.W @ g
    own = w @ ze
    through = moments.regressors_onto(w)
    change = moments.weighted_zx(own) + ze @ through.T
    return np.asarray(two.onto @ change)


def _at_rows(grid: Grid, moments: Moments, step: Step) -> Array:
    """Lay the residuals of transformed rows out at the rows of the data."""
    table = np.full(grid.shape, np.nan)
    for row, own in zip(moments.rows, step.residuals, strict=True):
        if row.kind != "level":
            table[row.session, row.who] = np.where(row.ok[row.who], own, np.nan)
    return grid.at_rows(table)


def _notes(moments: Moments, rank: int, steps: int) -> tuple[str, ...]:
    if rank == moments.size:
        return ()
    weight = "second" if steps == 2 else "robust"
    return (
        f"The {moments.size} instruments of {moments.n_clients} clients make a {weight} weight "
        f"matrix of rank {rank}; a generalized inverse stands in, and Hansen's test means nothing. "
        "Collapse the instruments, or allow fewer lags.",
    )
