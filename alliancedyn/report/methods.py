"""A methods paragraph ready to paste, what to cite, and where the data came from."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alliancedyn import __version__
from alliancedyn.errors import SpecificationError
from alliancedyn.plot.numerals import number
from alliancedyn.report import ladder
from alliancedyn.report.material import Material, is_detrended

if TYPE_CHECKING:
    from alliancedyn.panel import SessionPanel
    from alliancedyn.results import Fit

STOEL = (
    "Stoel, R. D., Garre, F. G., Dolan, C., & van den Wittenboer, G. (2006). On the likelihood "
    "ratio test in structural equation modeling when parameters are subject to boundary "
    "constraints. Psychological Methods, 11, 439-455."
)
_FILES = ("file", "path", "source")
_WHEN = {"before": "before each session", "after": "after each session"}
_ERRORS = {
    "observed": "Standard errors are from the observed information.",
    "robust": "Standard errors are robust to non-normal scores (sandwich estimator, MLR type).",
}


@dataclass(frozen=True)
class Counts:
    """Plain counts of a panel."""

    clients: int
    first: int
    last: int
    rows: int
    median: float
    fewest: int
    most: int
    missing: float
    single: int


def count(panel: SessionPanel) -> Counts:
    """Count clients, sessions, and what is missing up to each client's last session."""
    observed: NDArray[np.bool_] = ~np.isnan(panel.arrays().Y)
    seen: NDArray[np.bool_] = np.asarray(observed.any(axis=2))
    attended = seen.sum(axis=1)
    some = attended[attended > 0]
    ends = np.where(seen.any(axis=1), seen.shape[1] - seen[:, ::-1].argmax(axis=1), 0)
    due = int(ends.sum()) * observed.shape[2]
    sessions = [int(session) for session in panel.sessions]
    return Counts(
        clients=panel.n_clients,
        first=sessions[0],
        last=sessions[-1],
        rows=int(seen.sum()),
        median=float(np.median(some)) if len(some) else 0.0,
        fewest=int(some.min()) if len(some) else 0,
        most=int(some.max()) if len(some) else 0,
        missing=1.0 - float(observed.sum()) / due if due else 0.0,
        single=int((attended == 1).sum()),
    )


def paragraph(material: Material) -> str:
    """Write the methods paragraph from the objects of this analysis."""
    return " ".join(
        [
            _sample(material),
            _timing(material),
            _models(material),
            _estimation(material.fit),
            _standardization(material),
            _direction_rule(material),
            _tests(material),
            _software(material),
        ]
    ).replace("  ", " ")


def _sample(material: Material) -> str:
    counts, fit = count(material.panel), material.fit
    median = number(counts.median, 0 if float(counts.median).is_integer() else 1)
    text = (
        f"We analyzed {material.panel.people}, {counts.rows:,} observed client-sessions in all "
        f"(sessions {counts.first} to {counts.last}; median {median} observed sessions per client, "
        f"range {counts.fewest} to {counts.most}). Up to each client’s last session, "
        f"{counts.missing:.1%} of the scores were missing."
    )
    aside = {**fit.sample.clients_set_aside}
    if aside:
        withhold = material.discretion.withhold
        reasons = "; ".join(f"{withhold(why)}: {many:,}" for why, many in aside.items())
        text += f" The model used {fit.sample.people} (set aside: {reasons})."
    return text


def _timing(material: Material) -> str:
    panel = material.panel
    known = [
        f"{name} {_WHEN[panel.timing[name]]}"
        for name in panel.variables
        if panel.timing.get(name) in _WHEN
    ]
    unknown = [name for name in panel.variables if panel.timing.get(name) not in _WHEN]
    parts = []
    if known:
        parts.append(f"Scores were taken as follows: {', '.join(known)}.")
    if unknown:
        parts.append(
            f"When {' and '.join(unknown)} {'was' if len(unknown) == 1 else 'were'} rated, before "
            "or after the session, was not known."
        )
    parts.append(
        "A lagged effect runs from one session number to the next; gaps were kept as missing "
        "sessions and never closed."
    )
    return " ".join(parts)


def _models(material: Material) -> str:
    labels = list(material.fits)
    text = f"We fitted {joined(labels)}."
    detrended = [label for label in labels if is_detrended(label)]
    if detrended:
        text += (
            f" {joined(detrended)} used scores from which each client’s own straight line over "
            "sessions had been taken."
        )
    text += _what_they_are(material)
    if material.reason is not None:
        text += f" {material.reason}"
    if material.failures:
        text += f" {joined(list(material.failures))} could not be fitted (reasons in section 3)."
    return text


def _what_they_are(material: Material) -> str:
    """Say once for each family what it is."""
    by_family: dict[str, str] = {}
    for fit in material.fits.values():
        if (what := ladder.FAMILIES.get(type(fit.model).__name__)) is not None:
            by_family.setdefault(fit.model.name, what)
    said = [f"{name}: {what}." for name, what in by_family.items()]
    return f" {' '.join(said)}" if said else ""


def assumptions(material: Material) -> tuple[tuple[str, str], ...]:
    """Return what every family assumes, each family once."""
    found: dict[str, str] = {}
    for fit in material.fits.values():
        found.setdefault(fit.model.name, " ".join(fit.model.assumptions).replace(" -> ", " → "))
    return tuple(found.items())


def _estimation(fit: Fit) -> str:
    if fit.draws is not None:
        return (
            f"Estimates are posterior means and equal-tailed intervals of {len(fit.draws):,} draws."
        )
    errors = str(fit.diagnostics.get("errors", "observed"))
    kind, _, cluster = errors.partition(":")
    stated = (
        f"Standard errors are robust to dependence within {cluster} (clustered sandwich)."
        if kind == "cluster"
        else _ERRORS.get(kind, f"Standard errors: {errors}.")
    )
    return (
        "Estimation was by full-information maximum likelihood under a normal model, which uses "
        "every observed score and takes missing ones to be missing at random given the observed. "
        f"{stated} Intervals cover 95%."
    )


def _standardization(material: Material) -> str:
    try:
        basis = material.fit.sd_within_basis()
    except SpecificationError:
        return "Effects are in raw score points: the model implies no within-client SD."
    how = (
        "stationary standard deviations implied by the model"
        if basis == "stationary"
        else "model-implied standard deviations, pooled over sessions"
    )
    return f"Standardized effects are in within-client units ({how}), their uncertainty included."


def _direction_rule(material: Material) -> str:
    answer = material.directions.get(material.speaker)
    if answer is None:
        return "No verdict on direction was drawn."
    band = f"{answer.smallest_effect:g}"
    return (
        f"Either direction was called practically zero if its interval lay inside ±{band}, "
        "supported if it excluded zero, and undetermined otherwise; the difference in absolute "
        "size was taken over joint draws of both."
    )


def _tests(material: Material) -> str:
    """Say how models were compared, where they were."""
    if not material.steps:
        return ""
    return (
        "Nested models were compared by the likelihood ratio; where the larger one adds variances, "
        "which cannot be negative, its distribution is a mixture of chi-squares whose weights were "
        "simulated (Stoel, Garre, Dolan & van den Wittenboer, 2006)."
    )


def _software(material: Material) -> str:
    digest = material.panel.provenance.get("sha256")
    data = "" if digest is None else f" Data: SHA-256 {digest}."
    versions = ", ".join(f"{name} {number}" for name, number in software())
    seed = "no seed was needed" if material.seed is None else f"seed {material.seed}"
    return f"Software: {versions}; {seed}.{data}"


def software() -> tuple[tuple[str, str], ...]:
    """Return name and version of what computed the numbers."""
    found = [("alliancedyn", __version__)]
    for name in ("numpy", "scipy", "numba"):
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:  # pragma: no cover - they are requirements
            continue
    return (*found, ("Python", platform.python_version()))


def citation() -> str:
    """Say how to cite the program."""
    return (
        "The alliancedyn developers (2026). alliancedyn: which moves first, the therapeutic "
        f"alliance or the symptoms? Version {__version__}."
    )


def references(material: Material) -> tuple[str, ...]:
    """Collect the references of every model that was fitted, each once."""
    every = [one for fit in material.fits.values() for one in fit.model.references]
    if material.steps:
        every.append(STOEL)
    return tuple(sorted(dict.fromkeys(every)))


def provenance(material: Material) -> tuple[tuple[str, str], ...]:
    """List where the data came from: file names without their folders, digests, counts."""
    facts = material.panel.provenance
    rows = [
        (_label(str(key)), _bare(str(key), str(value)))
        for key, value in facts.items()
        if value is not None
        and not isinstance(value, dict | list | tuple)
        and (material.show_file_name or key not in _FILES)
    ]
    mapping = facts.get("mapping")
    if isinstance(mapping, dict):
        said = {key: value for key, value in mapping.items() if value not in (None, (), [], {})}
        text = json.dumps(said, sort_keys=True, ensure_ascii=False, default=str)
        rows.append(("Mapping", text))
        rows.append(("Mapping as shown, SHA-256", sha256(text.encode("utf-8")).hexdigest()))
    return tuple(rows)


def _label(key: str) -> str:
    if key == "alliancedyn":
        return "Read with alliancedyn"
    words = key.replace("_", " ").replace("sha256", "SHA-256")
    return f"{words[:1].upper()}{words[1:]}"


def _bare(key: str, value: str) -> str:
    """Drop folders: a path may name a person, a client or a clinic."""
    windows = PureWindowsPath(value)
    if key in _FILES or windows.is_absolute() or PurePosixPath(value).is_absolute():
        return windows.name  # it reads both kinds of slash
    return value


def joined(labels: Sequence[str]) -> str:
    """Join several labels, which may hold commas themselves."""
    if len(labels) < 2:
        return "".join(labels)
    return f"{'; '.join(labels[:-1])}; and {labels[-1]}"
