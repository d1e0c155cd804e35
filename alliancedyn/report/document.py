"""From material to a page: gather what each section shows, then fill the template."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from alliancedyn.causal.words import capital
from alliancedyn.report import each, figures, ladder, methods, tables, verdict
from alliancedyn.report.abbreviations import spelled
from alliancedyn.report.material import Material, is_detrended
from alliancedyn.report.merging import merged
from alliancedyn.report.parameters import in_words

if TYPE_CHECKING:
    from alliancedyn.results import Fit

__all__ = ["Material", "render"]

_MINUS = re.compile(r"(?<![\w.\-'\"])-(?=\.?\d)")  # a quoted code stays as it was typed
CAUSAL = (
    "These are predictions from one session to another, not effects of an intervention. To read "
    "a path as a causal effect one must also believe that nothing that changes over time within "
    "a client and is not in the model moves both scores (life events, medication, what happens "
    "in the sessions, a change of therapist); that one session is the lag at which one works on "
    "the other; that the scores are measured well enough, because measurement error shrinks "
    "some paths and can make others; that scores are missing for reasons that the observed "
    "scores account for; and that the paths are the same for the clients and the sessions "
    "pooled here. Stable differences between clients, observed or not, are held apart only by "
    "models with random intercepts, and only if they are stable. None of this can be checked "
    "from these data alone."
)


def render(material: Material) -> str:
    """Return the report as one HTML document."""
    loader = PackageLoader("alliancedyn.report")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_typographic,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["discreet"] = material.discretion.withhold
    environment.filters["words"] = in_words
    environment.filters["soft"] = _breakable
    environment.filters["verbatim"] = escape
    environment.filters["capital"] = capital
    environment.filters["joined"] = methods.joined
    style = files("alliancedyn.report").joinpath("templates/report.css").read_text("utf-8")
    return environment.get_template("report.html").render(
        style=Markup(style),
        material=material,
        verdict=verdict.conclude(material),
        counts=methods.count(material.panel),
        spelled=spelled(material.fits.values()),
        **_data(material),
        **_parts(material),
        **_models(material),
        warnings=warnings(material),
        causal=CAUSAL,
        assumptions=_assumptions(material),
        **_closing(material),
    )


def _typographic(value: object) -> object:
    """Give negative numbers in sentences the minus sign that they have in tables."""
    return _MINUS.sub("−", value) if type(value) is str else value


def _breakable(text: str) -> Markup:
    """Let a long name break after an underscore."""
    return Markup(str(escape(text)).replace("_", "_<wbr>"))


def _data(material: Material) -> dict[str, object]:
    return {
        "flow": tables.flow(material),
        "scores": tables.scores(material),
        "attendance": tables.attendance(material),
        "missingness": figures.missingness(material),
        "courses": figures.courses(material),
        "issues": [issue for issue in material.panel.issues if issue.severity != "info"],
        "remarks": [issue for issue in material.panel.issues if issue.severity == "info"],
    }


def _parts(material: Material) -> dict[str, object]:
    decomposition = material.decomposition
    if decomposition is None:
        return {"decomposition": None, "therapists": None}
    return {
        "decomposition": decomposition,
        "split": figures.split(material),
        "variance": tables.variance(decomposition),
        "correlations": tables.correlations(decomposition),
        "reliability": tables.reliability(decomposition),
        "therapists": tables.therapists(material),
        "therapist_words": () if material.partition is None else material.partition.verdict,
    }


def _models(material: Material) -> dict[str, object]:
    return {
        "forest": figures.forest(material),
        "effects": tables.effects(material),
        "indices": tables.indices(material),
        "groups": tables.groups(material),
        "story": ladder.tell(material),
        "any_detrended": any(is_detrended(label) for label in material.fits),
        "paths": figures.paths(material),
        "bases": tables.bases(material),
        "responses": figures.responses(material),
        "every": each.of_each(material),
    }


def _assumptions(material: Material) -> tuple[str, ...]:
    answer = material.directions.get(material.speaker)
    stated = material.fit.model.assumptions if answer is None else answer.assumptions
    return tuple(dict.fromkeys(one.replace(" -> ", " → ") for one in stated))


def warnings(material: Material) -> list[tuple[str, str]]:
    """List who says what must be known before any number is used."""
    found: list[tuple[str, str]] = []
    for label, fit in material.fits.items():
        found += [(label, sentence) for sentence in _fit_warnings(fit)]
    unknown = [
        name
        for name in material.panel.variables
        if material.panel.timing.get(name) not in ("before", "after")
    ]
    if unknown:
        found.append(
            (
                "Timing",
                f"Whether {' and '.join(unknown)} {'is' if len(unknown) == 1 else 'are'} rated "
                "before or after the session is unknown. Only the lag from one session to the next "
                "can be read, and its two directions may span unequal stretches of time. Give "
                "the timing in the mapping.",
            )
        )
    if material.decomposition is not None:
        found += [("Variance split", sentence) for sentence in material.decomposition.boundary]
    told = material.groups.notes if material.groups is not None else ()
    shared = [(" · ".join(labels), sentence) for labels, sentence in merged(found)]
    return shared + [("Note", note) for note in (*material.notes, *told)]


def _fit_warnings(fit: Fit) -> list[str]:
    diagnostics = fit.diagnostics
    sentences = []
    if not fit.converged:
        failure = str(diagnostics.get("failure", "")).strip()
        sentences.append(
            f"Did not converge: its estimates are not a maximum and must not be read. {failure}"
        )
    sentences += [f"At a bound: {one}" for one in diagnostics.get("boundary", ())]
    sentences += [str(one) for one in diagnostics.get("notes", ())]
    return sentences


def _closing(material: Material) -> dict[str, object]:
    return {
        "paragraph": methods.paragraph(material),
        "assumed": methods.assumptions(material),
        "citation": methods.citation(),
        "references": methods.references(material),
        "provenance": methods.provenance(material),
        "software": methods.software(),
    }
