"""The files behind the command line: a world read from TOML, a panel and an analysis written.

Whatever is written is made whole in a folder beside its place first and moved there at the end,
so that an error, a full disk or Ctrl-C leaves what was there before.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alliancedyn import __version__
from alliancedyn.errors import SpecificationError

if TYPE_CHECKING:
    from alliancedyn.panel import SessionPanel
    from alliancedyn.results import Fit
    from alliancedyn.studies import Analysis, Step
    from alliancedyn.worlds import World

PROGRAM = "alliancedyn"
REPORT, FITS, EFFECTS, FIGURES = "report.html", "fits.json", "effects.csv", "figures"
DRAWN = (
    "missingness",
    "courses",
    "between-within",
    "directions",
    "paths",
    "responses",
)
WORLD_EXAMPLE = (
    "phi = [[0.36, -0.05], [-0.12, 0.45]]  # row = outcome, column = predictor",
    "innovation_cov = [[1, -0.25], [-0.25, 1]]",
    "between_cov = [[1, -0.3], [-0.3, 1]]",
    "mean = [3, 10]",
    'variables = ["alliance", "symptoms"]',
    "missing = 0.1",
    "[dropout]",
    'rule = "unwell"',
    "rate = 0.3",
)


class OccupiedError(Exception):
    """The place to write to holds something that is not ours."""


# -- writing whole or not at all ----------------------------------------------------------------


@contextmanager
def replacing(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a folder to write into; what is in it moves to ``target`` if the block ends well.

    Raises
    ------
    OccupiedError
        If ``target`` is a file, or a folder with other things in it and ``overwrite`` is False.
    OSError
        If nothing can be written there.
    """
    target = target.resolve()
    _refuse_occupied(target, overwrite)
    beside = target.parent
    while not beside.exists():
        beside = beside.parent
    part = beside / f".{target.name}-{secrets.token_hex(4)}.part"
    try:  # named before it is made: an interrupt between the two leaves nothing behind
        part.mkdir()
        fresh = part / "new"
        fresh.mkdir()
        yield fresh
        _move(fresh, target, part / "old")
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _refuse_occupied(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise OccupiedError(f"{target.name!r} is a file. Name a folder to write into.")
    if any(target.iterdir()) and not _is_ours(target) and not overwrite:
        raise OccupiedError(
            f"{target.name!r} holds files that are not from an analysis. Name another folder, or "
            "add --overwrite to put the results beside them."
        )


def _is_ours(folder: Path) -> bool:
    """Tell whether an earlier analysis was written here, which the next one may replace."""
    try:
        stored = json.loads((folder / FITS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(stored, dict) and stored.get("program") == PROGRAM


def _move(fresh: Path, target: Path, old: Path) -> None:
    """Move every file to its place, and all of them back if one cannot be moved."""
    written = {path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()}
    stale = {Path(FIGURES, f"{name}.png") for name in DRAWN}
    made = [folder for folder in (target, *target.parents) if not folder.exists()]
    back: list[tuple[Path, Path]] = []
    try:
        for name in sorted(written | stale):
            place = target / name
            if place.exists():
                _rename(place, old / name)
                back.append((old / name, place))
            if name in written:
                _rename(fresh / name, place)
                back.append((place, fresh / name))
    except OSError:
        for where, whence in reversed(back):
            where.replace(whence)
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _rename(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    source.replace(place)


# -- an analysis --------------------------------------------------------------------------------


def write_analysis(
    folder: Path, analysis: Analysis, *, title: str | None, mapping: bytes, export: str | None
) -> None:
    """Write report, fits, effects and figures of an analysis into an empty folder."""
    from alliancedyn.report import report_analysis

    named = export is not None
    report_analysis(folder / REPORT, analysis, title=title, show_file_name=named)
    record = describe(analysis, mapping=mapping, export=export)
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / FITS).write_text(f"{text}\n", encoding="utf-8")
    analysis.comparison.to_csv(folder / EFFECTS, index=False, encoding="utf-8")
    (folder / FIGURES).mkdir()
    draw(folder / FIGURES, analysis)


def describe(analysis: Analysis, *, mapping: bytes, export: str | None) -> dict[str, Any]:
    """Return all numbers of an analysis as plain values, without any row or client of the data."""
    panel, split = analysis.panel, analysis.decomposition
    record = {
        "program": PROGRAM,
        "version": __version__,
        "software": _software(),
        "seed": analysis.seed,
        "errors": analysis.errors,
        "export": {"file": export, "sha256": panel.provenance.get("sha256")},
        "mapping": {
            "sha256": hashlib.sha256(mapping).hexdigest(),
            "content": panel.provenance.get("mapping"),
        },
        "panel": {
            "clients": panel.n_clients,
            "persons": panel.n_persons,
            "sessions": panel.sessions,
            "variables": panel.variables,
            "process": panel.process,
            "outcome": panel.outcome,
            "timing": panel.timing,
            "flow": panel.flow.to_dict("records"),
            "issues": [
                {"code": one.code, "severity": one.severity, "count": one.count}
                for one in panel.issues
            ],
        },
        "decomposition": {
            "estimator": split.estimator,
            "trend": split.trend_kind,
            "variance": split.variance.to_dict(),
            "icc": split.icc.to_dict(),
            "boundary": split.boundary,
        },
        "headline": analysis.headline,
        "reason": analysis.reason,
        "fits": {label: _fit(analysis, label) for label in analysis.fits},
        "steps": [_step(one) for one in analysis.steps],
        "groups": _groups(analysis),
        "failures": analysis.failures,
        "notes": analysis.notes,
    }
    plain: dict[str, Any] = _plain(record)
    return plain


def _fit(analysis: Analysis, label: str) -> dict[str, Any]:
    fit: Fit = analysis.fits[label]
    answer = analysis.directions.get(label)
    return {
        "family": fit.model.name,
        "detrended": "detrended" in label,
        "specification": asdict(fit.model) if is_dataclass(fit.model) else repr(fit.model),
        "params": fit.params.to_dict(),
        "se": fit.se.to_dict(),
        "cov": {"names": list(fit.cov.columns), "rows": fit.cov.to_numpy()},
        "loglik": fit.loglik,
        "n_params": fit.n_params,
        "aic": fit.aic,
        "bic": fit.bic,
        "converged": fit.converged,
        "sessions": fit.sessions,
        "sample": asdict(fit.sample),
        "diagnostics": fit.diagnostics,
        "fit_indices": _indices(fit),
        "direction": None if answer is None else _direction(answer),
    }


def _indices(fit: Fit) -> dict[str, Any]:
    """Return the fit indices, or why there are none."""
    try:
        return dict(fit.fit_indices())
    except SpecificationError as refusal:
        return {"reason": str(refusal)}


def _step(step: Step) -> dict[str, Any]:
    test = step.test
    return {
        "earlier": step.earlier,
        "later": step.later,
        "bic_change": step.bic_change,
        "statistic": None if test is None else test.statistic,
        "p_value": None if test is None else test.p_value,
        "text": step.text,
    }


def _groups(analysis: Analysis) -> dict[str, Any] | None:
    found = analysis.groups
    if found is None:
        return None
    test = found.test
    return {
        "column": found.column,
        "model": found.label,
        "test": None if test is None else asdict(test),
        "directions": {group: _direction(one) for group, one in found.directions.items()},
        "notes": found.notes,
    }


def _direction(answer: Any) -> dict[str, Any]:
    named = ("source", "target", "basis", "smallest_effect", "forward_state", "backward_state")
    estimates = ("forward", "backward", "difference")
    return {
        **{name: getattr(answer, name) for name in (*named, "lead", "withdrawn", "lag", "higher")},
        **{name: asdict(getattr(answer, name)) for name in estimates},
        "forms": {form: asdict(one) for form, one in answer.forms.items()},
    }


def _software() -> dict[str, str]:
    from alliancedyn.report.methods import software

    return dict(software())


def _plain(value: Any) -> Any:
    """Turn a value into what JSON can hold: NaN and infinities become null."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):  # a file name may hold bytes that are no text
        return value.encode("utf-8", "replace").decode("utf-8")
    if hasattr(value, "tolist"):  # arrays and scalars of NumPy
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    return str(value)


def draw(folder: Path, analysis: Analysis) -> None:
    """Draw the figures as PNG files; one that does not exist for these data is left out."""
    from alliancedyn import plot
    from alliancedyn.causal.direction import SMALLEST_EFFECT

    panel, fit = analysis.panel, analysis.fit
    process, outcome = panel.process, panel.outcome
    answer = analysis.directions.get(analysis.headline)
    beside = [label for label in analysis.fits if label not in analysis.rungs]

    def courses() -> Any:
        axes = plot.panels(2, (7.2, 3.1))
        for place, name in zip(axes, (process, outcome), strict=True):
            plot.spaghetti(panel, name, seed=analysis.seed or 0, ax=place, title=name)
        return axes

    def responses() -> Any:
        axes = plot.panels(2, (7.2, 2.9))
        steps = min(8, max(3, len(fit.sessions) - 1))
        kind = "structural" if answer is not None and answer.basis == "structural" else "reduced"
        for place, shock, moved in zip(axes, (process, outcome), (outcome, process), strict=True):
            title = f"{shock} → {moved}"
            plot.impulse_response(fit, shock, steps, kind, response=moved, title=title, ax=place)  # type: ignore[arg-type]
        return axes

    drawings: dict[str, Callable[[], Any]] = {
        "missingness": lambda: plot.missingness(panel),
        "courses": courses,
        "between-within": lambda: plot.between_within(analysis.decomposition, process, outcome),
        "directions": lambda: plot.model_forest(
            analysis.comparison,
            process=process,
            outcome=outcome,
            smallest_effect=SMALLEST_EFFECT if answer is None else answer.smallest_effect,
            apart=beside,
        ),
        "paths": lambda: plot.path_diagram(fit),
        "responses": responses,
    }
    for name in DRAWN:
        try:
            axes = drawings[name]()
        except SpecificationError:  # the report says why in the figure's place
            continue
        plot.save(axes, folder / f"{name}.png")


# -- a world ------------------------------------------------------------------------------------


def find_world(name: str, folder: Path = Path()) -> World:
    """Read a world from a TOML file, looked for in ``folder``, or load the preset of that name.

    Raises
    ------
    SpecificationError
        If there is no such world, or it is impossible.
    """
    from alliancedyn import worlds

    place = folder / name
    return worlds.read(place) if place.suffix or place.exists() else worlds.load(name)


def beside(path: Path) -> tuple[Path, Path]:
    """Return where the mapping of a simulated panel is written, and its truth."""
    return path.with_name(f"{path.stem}-map.toml"), path.with_name(f"{path.stem}-truth.csv")


def write_simulated(path: Path, panel: SessionPanel, world: World, seed: int) -> None:
    """Write the rows of a panel as CSV; beside them a mapping that reads them, and the truth."""
    mapping, truth = beside(path)
    _write_whole(path, panel.frame.to_csv(index=False, lineterminator="\n"))
    said = panel.provenance["mapping"]
    head = f"# Columns of {path.name}, simulated from the world {world.name!r} with seed {seed}."
    _write_whole(mapping, "\n".join([head, *_toml_lines(said), ""]))
    values = world.truth.params(len(panel.sessions)).rename_axis("parameter").rename("truth")
    _write_whole(truth, values.to_csv(lineterminator="\n"))


def _write_whole(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _toml_lines(values: Mapping[str, Any]) -> list[str]:
    """Write plain values and tables of plain values; JSON writes both as TOML does."""
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    lines = [f"{key} = {_written(value)}" for key, value in values.items() if key not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]"]
        lines += [f"{_written(str(key))} = {_written(one)}" for key, one in table.items()]
    return lines


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
