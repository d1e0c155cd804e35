"""What an estimator would find in a world like the user's, where the answer is known.

Regressions on deviations from a client's own mean are biased where sessions are few, the lagged
outcome's effect most and the two directions unequally (Nickell, 1981). How much depends on the
number of sessions and on who missed which; so panels are simulated with the very pattern of
sessions of the data, from a random-intercept cross-lagged model fitted to them, and the same
regression is applied to each. Done twice: with the effects as estimated, for the bias of each; and
with both directions equally strong, for the dominance that the estimator makes up by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import floor, log10, sqrt
from statistics import NormalDist
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alliancedyn.checking import checked, named
from alliancedyn.engine import names, var
from alliancedyn.errors import ConvergenceError, SpecificationError
from alliancedyn.models import RICLPM
from alliancedyn.models.equations import within_variances
from alliancedyn.models.regression import Question, Regression
from alliancedyn.panel import SessionPanel
from alliancedyn.results import Fit, Observed
from alliancedyn.results.estimate import LEVEL

Array = NDArray[np.float64]

MOST_CLIENTS = 1000  # simulated: bias depends on sessions, more clients only take time
FOR_THE_WORLD = 5000  # clients that it is fitted to, so that it is known well enough
FEWEST = 20  # replications, for a Monte Carlo error to mean something
SEED = 20_221_122
BESIDE = 60  # replications where the bias is printed beside an estimate

# A verdict, a table and a report ask the same question of the same fit.
_known: WeakKeyDictionary[Fit, dict[tuple[int, int], BiasDiagnosis]] = WeakKeyDictionary()


@named
@dataclass(frozen=True)
class BiasDiagnosis:
    """What the estimator would find where the truth is known; prints as its text.

    Parameters
    ----------
    table : DataFrame
        Index parameter; columns estimate (of the fit), true (in the simulated world), mean, bias
        (mean - true) and its Monte Carlo error mcse.
    difference : float or None
        |forward| - |backward| of the fit, within-client SDs; None with one direction only.
    made_up : tuple of float or None
        Mean and limits (95 %, normal) of that difference in panels of as many clients as the data
        have, where both directions are equally strong.
    dominance : bool or None
        Whether the difference found lies within those limits, so that the estimator alone could
        have produced it.
    replications, failures, clients : int
        Panels simulated, of them without an estimate, and clients in each.
    text : str
    """

    table: pd.DataFrame
    difference: float | None
    made_up: tuple[float, float, float] | None
    dominance: bool | None
    replications: int
    failures: int
    clients: int
    text: str

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<BiasDiagnosis of {len(self.table)} effects · {self.replications} panels>"


@checked
def bias_diagnosis(fit: Fit, replications: int = 200, *, seed: int = SEED) -> BiasDiagnosis:
    """Simulate the bias of a regression at the sessions, gaps and dropout of its own data.

    Parameters
    ----------
    fit : Fit
        Of a regression family (`WithinBetween`, `FixedEffects`, `DynamicPanelGMM`), with its data.
    replications : int
        Panels to simulate for each of the two worlds.
    seed : int
        For the simulation.

    Returns
    -------
    BiasDiagnosis

    Raises
    ------
    SpecificationError
        If the fit is none of a regression, holds no data, or no world can be fitted to them.

    References
    ----------
    Nickell, S. (1981). Biases in dynamic models with fixed effects. Econometrica, 49, 1417-1426.
    """
    if not isinstance(fit, Fit):
        raise SpecificationError(
            f"bias_diagnosis is given a {type(fit).__name__}; give it the fit of a model: "
            "bias_diagnosis(model.fit(panel))."
        )
    if not isinstance(fit.model, Regression):
        raise SpecificationError(
            f"bias_diagnosis is about regressions; {fit.model.name} models both series, and "
            "recover() says how it does on panels like these."
        )
    if fit.data is None:
        raise SpecificationError("This fit no longer holds its data, so its panel is not known.")
    if not isinstance(replications, int) or replications < FEWEST:
        raise SpecificationError(f"replications={replications!r}: give {FEWEST} or more.")
    if not isinstance(seed, int) or seed < 0:
        raise SpecificationError(f"seed={seed!r}: give a whole number from 0 up.")
    answers = _known.setdefault(fit, {})
    if (replications, seed) not in answers:
        answers[replications, seed] = _diagnosed(fit, fit.model, fit.data, replications, seed)
    return answers[replications, seed]


def needed(fit: Fit) -> bool:
    """Tell whether estimates of a model must not be read without their bias."""
    return isinstance(fit.model, Regression) and fit.model.biased_in_short_panels


def _diagnosed(
    fit: Fit, family: Regression, observed: Observed, replications: int, seed: int
) -> BiasDiagnosis:
    rng = np.random.default_rng(seed)
    world = World.of(_some_clients(observed, FOR_THE_WORLD, rng))
    data = _some_clients(observed, MOST_CLIENTS, rng)
    model = family.for_simulation()
    found, failures = _estimates(model, fit, world, data, replications, rng)
    table = _table(fit, world, found)
    difference = made_up = dominance = None
    if model.direction == "both":
        equal = world.equal_directions(fit.process, fit.outcome)
        twin, more = _estimates(model, fit, equal, data, replications, rng)
        failures += more
        difference = float(_difference(dict(fit.params), fit))
        draws = np.array([_difference(one, fit) for one in twin])
        center, spread = float(draws.mean()), float(draws.std(ddof=1))
        reach = NormalDist().inv_cdf((1.0 + LEVEL) / 2.0) * spread
        reach *= sqrt(len(data.Y) / len(observed.Y))  # that of panels as large as the data
        made_up = (center, center - reach, center + reach)
        dominance = bool(abs(difference - center) <= reach)
    worlds = 1 if made_up is None else 2
    return BiasDiagnosis(
        table=table,
        difference=difference,
        made_up=made_up,
        dominance=dominance,
        replications=worlds * replications,
        failures=failures,
        clients=len(data.Y),
        text=_text(fit, table, difference, made_up, dominance, len(data.Y), replications, failures),
    )


# -- the world -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """A random-intercept cross-lagged process with session means.

    Parameters
    ----------
    variables : (str, str)
    mean : (T, 2)
    between, initial, innovation, phi : (2, 2)
    """

    variables: tuple[str, ...]
    mean: Array
    between: Array
    initial: Array
    innovation: Array
    phi: Array

    @classmethod
    def of(cls, data: Observed) -> World:
        """Fit it to scores.

        Raises
        ------
        SpecificationError
            If that cannot be done.
        """
        panel = _panel(data)
        reasons = []
        for means in ("free", "equal"):
            try:
                fit = RICLPM(variables=data.variables, means=means).fit(panel, strict=False)
            except (SpecificationError, ConvergenceError) as error:
                reasons.append(str(error))
                continue
            if fit.converged:
                return cls._from(dict(fit.params), data, means == "free")
            reasons.append(str(fit.diagnostics["failure"]))
        raise SpecificationError(
            f"No world could be fitted to these data, so the bias is not known: {reasons[-1]}"
        )

    @classmethod
    def _from(cls, p: Mapping[str, float], data: Observed, by_session: bool) -> World:
        v = data.variables
        sessions = data.sessions if by_session else (None,) * len(data.sessions)
        mean = [[p[names.label("mean", name, session=t)] for name in v] for t in sessions]
        between, initial, innovation = (
            names.symmetric_matrix(p, family, v)
            for family in ("between_cov", "initial_cov", "innovation_cov")
        )
        return cls(v, np.array(mean), between, initial, innovation, names.matrix(p, "phi", v, v))

    def equal_directions(self, first: str, second: str) -> World:
        """Make both cross-lags equally strong in within SDs, each with the sign it had."""
        sd = np.sqrt(np.diag(self._settled()))
        i, j = self.variables.index(first), self.variables.index(second)
        out, back = self.phi[j, i] * sd[i] / sd[j], self.phi[i, j] * sd[j] / sd[i]
        size = (abs(out) + abs(back)) / 2.0
        phi = self.phi.copy()
        phi[j, i] = np.copysign(size, out) * sd[j] / sd[i]
        phi[i, j] = np.copysign(size, back) * sd[i] / sd[j]
        return replace(self, phi=phi)

    def _settled(self) -> Array:
        """Return the within covariance (2, 2), that at the first session if it does not settle."""
        if np.abs(np.linalg.eigvals(self.phi)).max() < 1.0:
            return var.stationary_cov(self.phi, self.innovation)
        return self.initial

    def draw(self, seen: NDArray[np.bool_], rng: np.random.Generator) -> Array:
        """Draw scores with a given pattern of missing ones, NaN where ``seen`` (n, T, 2) is not."""
        n, sessions, k = seen.shape
        roots = [_root(V) for V in (self.between, self.initial, self.innovation)]
        normal = rng.standard_normal((n, sessions + 1, k))
        stable = normal[:, -1] @ roots[0].T
        within = normal[:, 0] @ roots[1].T
        scores = np.empty((n, sessions, k))
        for t in range(sessions):
            if t:
                within = within @ self.phi.T + normal[:, t] @ roots[2].T
            scores[:, t] = self.mean[t] + stable + within
        scores[~seen] = np.nan
        return scores


def _root(V: Array) -> Array:
    values, axes = np.linalg.eigh(V)
    return np.asarray(axes * np.sqrt(np.maximum(values, 0.0)))


def _some_clients(data: Observed, most: int, rng: np.random.Generator) -> Observed:
    """Return at most so many of the clients."""
    if len(data.Y) <= most:
        return data
    rows = np.sort(rng.choice(len(data.Y), most, replace=False))
    by_client = ("clients", "Y", "days", "therapist", "covariates", "inputs", "group", "person")
    return replace(data, **{name: getattr(data, name)[rows] for name in by_client})


def _panel(data: Observed) -> SessionPanel:
    """Return the scores as a panel."""
    n, sessions, _ = data.Y.shape
    frame = pd.DataFrame({"client": np.repeat(np.arange(n), sessions)})
    frame["session"] = np.tile(np.array(data.sessions), n)
    for j, name in enumerate(data.variables):
        frame[name] = data.Y[:, :, j].ravel()
    frame = frame.dropna(subset=list(data.variables), how="all")
    return SessionPanel.from_frame(
        frame,
        client="client",
        session="session",
        variables={name: name for name in data.variables},
        process=data.variables[0],
        outcome=data.variables[1],
    )


# -- the estimator in that world -----------------------------------------------------------------


def _estimates(
    model: Regression,
    fit: Fit,
    world: World,
    data: Observed,
    replications: int,
    rng: np.random.Generator,
) -> tuple[list[dict[str, float]], int]:
    """Return the estimates from every simulated panel, and how many panels had none."""
    seen = ~np.isnan(data.Y)
    found, failures = [], 0
    pairs = [(fit.process, fit.outcome), (fit.outcome, fit.process)]
    for _ in range(replications):
        drawn = replace(data, Y=world.draw(seen, rng))
        one: dict[str, float] = {}
        try:
            for source, target in pairs[: 1 + (model.direction == "both")]:
                question = Question(source, target, drawn, "observed", alone=False)
                equation = model.equation(question)
                one |= dict(zip(equation.names, equation.estimates.tolist(), strict=True))
        except SpecificationError:
            failures += 1
            continue
        spread = within_variances(drawn, model.sets_course_apart)
        found.append(one | dict(zip(spread.names, spread.estimates.tolist(), strict=True)))
    if len(found) < FEWEST:
        raise SpecificationError(
            f"Only {len(found)} of {replications} simulated panels had an estimate, so the bias is "
            "not known."
        )
    return found, failures


def _difference(p: Mapping[str, float], fit: Fit) -> float:
    """Return |forward| - |backward| in within-client SDs."""
    source, target = fit.process, fit.outcome
    sd = {v: sqrt(p[names.label("within_var", v)]) for v in (source, target)}
    out = p[names.label("phi", target, source)] * sd[source] / sd[target]
    back = p[names.label("phi", source, target)] * sd[target] / sd[source]
    return abs(out) - abs(back)


def _table(fit: Fit, world: World, found: list[dict[str, float]]) -> pd.DataFrame:
    """Lay estimate, truth, mean and bias of every lagged effect out."""
    rows = {}
    for target in fit.variables:
        for source in fit.variables:
            name = names.label("phi", target, source)
            if name not in found[0]:
                continue
            values = np.array([one[name] for one in found])
            i, j = world.variables.index(target), world.variables.index(source)
            true = float(world.phi[i, j])
            rows[name] = {
                "estimate": float(fit.params[name]),
                "true": true,
                "mean": float(values.mean()),
                "bias": float(values.mean() - true),
                "mcse": float(values.std(ddof=1) / sqrt(len(values))),
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("parameter")


def _text(
    fit: Fit,
    table: pd.DataFrame,
    difference: float | None,
    made_up: tuple[float, float, float] | None,
    dominance: bool | None,
    clients: int,
    replications: int,
    failures: int,
) -> str:
    sessions = fit.sample.sessions
    lines = [
        f"What the {fit.model.name} model finds where the truth is known: {replications} panels of "
        f"{clients} clients and {sessions} sessions, missing where these data are missing, from a "
        "RI-CLPM fitted to these data."
    ]
    lines += [f"  {name}: {_sentence(row)}" for name, row in table.iterrows()]
    if failures:
        lines.append(f"  {failures} simulated panels had no estimate; they are not in the means.")
    if difference is not None and made_up is not None:
        mean, low, high = made_up
        lines.append(
            f"Where both directions are equally strong, {fit.process} -> {fit.outcome} comes out "
            f"stronger by {mean:+.3f} SD on average ({LEVEL:.0%} of panels: {low:+.3f} to "
            f"{high:+.3f}). In these data the difference is {difference:+.3f}: "
            + (
                "the estimator alone could have produced it."
                if dominance
                else "more than the estimator produces by itself."
            )
        )
    return "\n".join(lines)


def _sentence(row: pd.Series) -> str:
    """Write one effect with as many places as its Monte Carlo error calls for."""
    error = float(row["mcse"])
    places = int(np.clip(1 - floor(log10(error)), 2, 6)) if error > 0.0 else 3
    return (
        f"true {row['true']:.{places}f}, found on average {row['mean']:.{places}f}, bias "
        f"{row['bias']:+.{places}f} (Monte Carlo error {error:.{places}f}); in these data "
        f"{row['estimate']:.{places}f}."
    )
